/** The tree below the base path: nothing outside it can be read, listed or revealed, whatever the names, links or races. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import { Entry, FilesError, type Kind, MAX_FOLDER_LENGTH, Page, Stat, slice } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"

export interface ListOptions {
  /** A former page's cursor. */
  readonly cursor?: string
  /** Entries, 1 to 1,000 (the default). */
  readonly limit?: number
}

/** Symbolic links are listed as `link` and never followed, not even where they point inside the base. */
export class RemoteFiles extends Context.Service<
  RemoteFiles,
  {
    readonly list: (path: string, options?: ListOptions) => Effect.Effect<Page, FilesError>
    readonly stat: (path: string) => Effect.Effect<Stat, FilesError>
  }
>()("clawchat/services/RemoteFiles") {}

const FAULTS: Readonly<Record<RemotePath.Fault, string>> = {
  Parent: '".." is not allowed',
  Control: "control characters are not allowed",
  Backslash: "backslashes are not allowed, folders are separated by /",
  Unicode: "not valid Unicode",
  TooLong: `longer than ${RemotePath.MAX_NAME_LENGTH} bytes in a name or ${RemotePath.MAX_PATH_LENGTH} in all`
}

const MESSAGES: Readonly<Record<Exclude<FilesError["reason"], "BadName">, string>> = {
  NotFound: "no such file or folder",
  NotAFolder: "not a folder (links are not followed)",
  Denied: "permission denied",
  TooMany: `more than ${MAX_FOLDER_LENGTH} entries`,
  Io: "cannot be read"
}

/** The error for a path that was asked for; it repeats nothing but that path. */
export const failure = (reason: keyof typeof MESSAGES, path: RemotePath.RemotePath): FilesError =>
  new FilesError({ reason, message: `${JSON.stringify(RemotePath.format(path))}: ${MESSAGES[reason]}` })

const badName = (fault: RemotePath.Fault): FilesError =>
  new FilesError({ reason: "BadName", message: `this path is refused: ${FAULTS[fault]}` })

/** Parses a path or fails with `BadName`. The message does not repeat what may be unprintable. */
export const parsePath = (path: string): Effect.Effect<RemotePath.RemotePath, FilesError> =>
  Effect.fromResult(Result.mapError(RemotePath.parse(path), badName))

/** Fails with `BadName` where a cursor is none that a page can have given out. */
export const checkCursor = (cursor: string | undefined): Effect.Effect<void, FilesError> =>
  cursor === undefined || RemotePath.isName(cursor)
    ? Effect.void
    : Effect.fail(new FilesError({ reason: "BadName", message: "this cursor comes from no page" }))

/** A node of the in-memory tree: a folder's children by name, or a leaf. */
export type MemoryNode =
  | { readonly kind: "folder"; readonly children: Readonly<Record<string, MemoryNode>>; readonly denied?: boolean }
  | { readonly kind: Exclude<Kind, "folder">; readonly size?: number }

/** A fixed tree, last changed at 0; folders are 0700, the rest 0600. */
export const layerMemory = (base: Readonly<Record<string, MemoryNode>>): Layer.Layer<RemoteFiles> => {
  const root: MemoryNode = { kind: "folder", children: base }
  const find = (path: RemotePath.RemotePath): Effect.Effect<MemoryNode, FilesError> => {
    let node: MemoryNode = root
    for (const name of path) {
      if (node.kind !== "folder") return Effect.fail(failure("NotAFolder", path))
      if (node.denied === true) return Effect.fail(failure("Denied", path))
      const next: MemoryNode | undefined = Object.hasOwn(node.children, name) ? node.children[name] : undefined
      if (next === undefined) return Effect.fail(failure("NotFound", path))
      node = next
    }
    return Effect.succeed(node)
  }
  const facts = (node: MemoryNode) => ({
    kind: node.kind,
    size: node.kind === "file" ? (node.size ?? 0) : 0,
    mtimeMs: 0,
    mode: node.kind === "folder" ? 0o700 : 0o600
  })
  return Layer.succeed(RemoteFiles, {
    list: Effect.fn("RemoteFiles.list")(function* (path: string, options: ListOptions = {}) {
      const parsed = yield* parsePath(path)
      yield* checkCursor(options.cursor)
      const node = yield* find(parsed)
      if (node.kind !== "folder") return yield* failure("NotAFolder", parsed)
      if (node.denied === true) return yield* failure("Denied", parsed)
      const all = Object.keys(node.children)
      if (all.length > MAX_FOLDER_LENGTH) return yield* failure("TooMany", parsed)
      const named = all.filter(RemotePath.isName)
      const { names, cursor } = slice(named, options.cursor, options.limit)
      const entries = names.flatMap((name) => {
        const child = node.children[name]
        return child === undefined ? [] : [new Entry({ name, ...facts(child) })]
      })
      return new Page({ entries, unnamed: all.length - named.length, ...(cursor === undefined ? {} : { cursor }) })
    }),
    stat: Effect.fn("RemoteFiles.stat")(function* (path: string) {
      const parsed = yield* parsePath(path)
      return new Stat({ path: RemotePath.format(parsed), ...facts(yield* find(parsed)) })
    })
  })
}
