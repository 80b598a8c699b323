/** Answers the Files procedures from the tree below the base path. */
import * as Effect from "effect/Effect"
import { FilesRpc, MAX_TRASH_LENGTH } from "../domain/FilesRpc.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import { FilesError } from "../domain/RemoteFile.ts"
import { Crypto } from "../services/Crypto.ts"
import { RemoteFiles } from "../services/RemoteFiles.ts"
import * as TransferSender from "./TransferSender.ts"

/** Handlers of `FilesRpc`; authentication is the connection's. */
export const layer = FilesRpc.toLayer(
  Effect.gen(function* () {
    const files = yield* RemoteFiles
    const { primitives } = yield* Crypto
    const digest = (path: string) =>
      Effect.scoped(
        Effect.gen(function* () {
          const reader = yield* files.open(path)
          const root = yield* TransferSender.digest(primitives.hash, reader)
          return { size: reader.size, version: reader.version, root: hex(root) }
        })
      )
    return FilesRpc.of({
      "Files.List": ({ path, ...options }) => files.list(path, options),
      "Files.Stat": ({ path }) => files.stat(path),
      "Files.Find": ({ path, ...options }) => files.walk(path, options),
      "Files.Du": ({ path }) => files.usage(path),
      "Files.Mkdir": ({ path, ...options }) => files.mkdir(path, options),
      "Files.Touch": ({ path, ...to }) => files.touch(path, to),
      "Files.Remove": ({ path, ...options }) => files.remove(path, options),
      "Files.Move": ({ from, to, ...options }) => files.move(from, to, options),
      "Files.Copy": ({ from, to, ...options }) => files.copy(from, to, options),
      "Files.Digest": ({ path }) =>
        Effect.mapError(digest(path), (error) =>
          error instanceof FilesError ? error : new FilesError({ reason: "Changed", message: error.message })
        ),
      "Files.TrashList": () => Effect.map(files.trash, (all) => all.slice(-MAX_TRASH_LENGTH)),
      "Files.TrashRestore": ({ id, to }) => files.restore(id, to),
      "Files.TrashEmpty": ({ id }) => files.emptyTrash(id)
    })
  })
)
