/**
 * Copies that nobody asked for: a file was put beside another one (`name (2)`), and who sent it never heard. Sent again, it is
 * found under the name that it got.
 */
import * as Effect from "effect/Effect"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import type { FilesError, Stat } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import type { TransferError } from "../domain/TransferError.ts"
import { type FileTree, numbered, parse } from "../services/FileTree.ts"
import * as TransferSender from "./TransferSender.ts"

/** Names that are looked at. */
const NAMES = 100

export interface Sought {
  readonly size: number
  /** The root of its BlockTree. */
  readonly root: Uint8Array
  /** Milliseconds since 1970; any time when absent. */
  readonly mtimeMs?: number
}

/** A file of this content under this path, or under one that `rename` takes in its place, up to the first free one. */
export const find = Effect.fnUntraced(
  function* (
    tree: Pick<FileTree, "stat" | "open">,
    { equal, hash }: Pick<Primitives, "equal" | "hash">,
    path: string,
    { mtimeMs, root, size }: Sought
  ): Effect.fn.Return<Stat | undefined, FilesError | TransferError> {
    const parsed = yield* Effect.fromResult(parse(path))
    const name = parsed.at(-1)
    if (name === undefined) return undefined
    for (let number = 1; number <= NAMES; number++) {
      const at = RemotePath.format([...parsed.slice(0, -1), number === 1 ? name : numbered(name, number)])
      const there = yield* tree.stat(at)
      if (there.kind !== "file" || there.size !== size || (mtimeMs !== undefined && there.mtimeMs !== mtimeMs)) continue
      const other = yield* Effect.scoped(Effect.flatMap(tree.open(at), (reader) => TransferSender.digest(hash, reader)))
      if (equal(root, other)) return there
    }
    return undefined
  },
  Effect.orElseSucceed(() => undefined)
)
