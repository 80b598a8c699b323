/** Paths as a tree on this host's disk takes them: parsed, and sayable here. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type { FilesError } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { failure, parse, unportable } from "../services/FileTree.ts"

export const checked = (path: string): Result.Result<RemotePath.RemotePath, FilesError> =>
  Result.flatMap(parse(path), (parsed) =>
    process.platform !== "win32" || parsed.every(RemotePath.isPortable)
      ? Result.succeed(parsed)
      : Result.fail(unportable())
  )

export const parsed = (path: string): Effect.Effect<RemotePath.RemotePath, FilesError> =>
  Effect.suspend(() => Effect.fromResult(checked(path)))

/** A path that names something in a folder: not the base itself. */
export const named = (path: string) =>
  Effect.flatMap(parsed(path), (parsed) => {
    const name = parsed.at(-1)
    return name === undefined
      ? Effect.fail(failure("Exists", parsed, "the base itself stays as it is"))
      : Effect.succeed({ parsed, name, parent: parsed.slice(0, -1) })
  })
