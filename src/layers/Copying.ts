/** Copies within a tree, made of what any tree can do: a copy is read and written with the same care as a transfer. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as RemoteFile from "../domain/RemoteFile.ts"
import type { FilesError, Stat } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { type Conflict, type FileTree, failure, MAX_NUMBERED, numbered } from "../services/FileTree.ts"
import * as FileReader from "./FileReader.ts"
import * as Moving from "./Moving.ts"

type Tree = Pick<FileTree, "open" | "write" | "mkdir" | "walk" | "stat">

const copyFile = (tree: Tree, from: string, to: string, conflict: Conflict) =>
  Effect.scoped(
    Effect.gen(function* () {
      const reader = yield* tree.open(from)
      const { mode, mtimeMs, size } = reader
      const writer = yield* tree.write(to, { size, mode, mtimeMs, conflict })
      for (let at = 0; at < size; ) {
        const bytes = yield* reader.readAt(at, FileReader.READ_LENGTH)
        if (bytes.length === 0) break
        yield* writer.append(bytes)
        at += bytes.length
      }
      yield* reader.unchanged
      return yield* writer.commit
    })
  )

/** A new folder; with `numbers` one beside it where its name is taken. */
const mkdirFree = Effect.fnUntraced(function* (tree: Tree, path: RemotePath.RemotePath, numbers: boolean) {
  const name = path.at(-1) ?? ""
  for (let number = 1; number < MAX_NUMBERED; number++) {
    const tried = number === 1 ? name : numbered(name, number)
    const made = yield* Effect.result(tree.mkdir(RemotePath.format([...path.slice(0, -1), tried])))
    if (Result.isSuccess(made)) return made.success
    if (!numbers || made.failure.reason !== "Exists") return yield* made.failure
  }
  return yield* failure("Exists", path)
})

/** As `FileTree.copy`. Neither path is the base. */
export const copy = Effect.fnUntraced(function* (
  tree: Tree,
  source: RemotePath.RemotePath,
  target: RemotePath.RemotePath,
  conflict: Conflict
): Effect.fn.Return<Stat, FilesError> {
  const from = RemotePath.format(source)
  const to = RemotePath.format(target)
  const { kind } = yield* tree.stat(from)
  if (kind === "file") return yield* copyFile(tree, from, to, conflict)
  if (kind !== "folder") return yield* failure("NotAFile", source)
  if (Moving.isWithin(target, source))
    return yield* failure("Unsupported", target, "a folder cannot be copied into itself")
  const made = yield* mkdirFree(tree, target, conflict === "rename")
  let cursor: string | undefined
  let left = 0
  do {
    const page: RemoteFile.Walk = yield* tree.walk(from, cursor === undefined ? {} : { cursor })
    for (const entry of page.entries) {
      const there = `${made.path}/${entry.path}`
      if (entry.kind === "folder") yield* tree.mkdir(there, { parents: true })
      else if (entry.kind === "file") yield* copyFile(tree, `${from}/${entry.path}`, there, "fail")
    }
    left += page.unread.length + page.unnamed
    cursor = page.cursor
  } while (cursor !== undefined)
  if (left > 0) {
    const why = `copied, but not ${left} of what is in it: folders that cannot be read, or names that no path can say`
    return yield* failure("Unsupported", source, why)
  }
  return made
})
