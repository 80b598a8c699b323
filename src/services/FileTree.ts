/**
 * What can be done with a tree of files below one folder, its base: nothing outside it can be read, written, listed or
 * revealed, whatever the names, links or races.
 *
 * Paths are RemotePath's. Symbolic links are shown as `link`, can be moved and removed as themselves, and are never
 * followed. FIFOs, sockets and devices are never opened. A hard link is the file itself. Names that begin with
 * `.clawchat-` belong to the store (unfinished files, the trash): they are not listed and cannot be asked for.
 *
 * Everything fails with FilesError. Changes are durable when their effect has succeeded.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as RemoteFile from "../domain/RemoteFile.ts"
import { FilesError, MAX_DEPTH, MAX_FOLDER_LENGTH, MAX_WALKED_LENGTH, type Page } from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"

/** Names that begin so, in whatever case, are the store's own. */
export const RESERVED_PREFIX = ".clawchat-"

/** Whether a name is the store's own: neither listed nor to be asked for. */
export const isReserved = (name: string): boolean => name.toLowerCase().startsWith(RESERVED_PREFIX)

export interface ListOptions {
  /** A former page's cursor. */
  readonly cursor?: string
  /** Entries, 1 to 1,000 (the default). */
  readonly limit?: number
}

export interface WalkOptions extends ListOptions {
  /** Levels below the folder; 1 is its own entries. Everything (within `MAX_DEPTH`) when absent. */
  readonly depth?: number
  /** Which entries to give; a folder that is not given is walked all the same. */
  readonly keep?: (path: string, kind: RemoteFile.Kind) => boolean
}

/** A file held open for reading. It closes with its scope. */
export interface Reader {
  readonly path: string
  /** Bytes, when it was opened. */
  readonly size: number
  readonly mtimeMs: number
  /** Permission bits. */
  readonly mode: number
  /** As in Stat. */
  readonly version: string
  /** Up to `length` bytes (at most 1 MiB) from `offset`; fewer only at the end. The bytes are the caller's. */
  readonly readAt: (offset: number, length: number) => Effect.Effect<Uint8Array, FilesError>
  /** Fails with `Changed` if somebody wrote to it since it was opened. To be asked after the last read. */
  readonly unchanged: Effect.Effect<void, FilesError>
}

/**
 * What may stand at the target when a write is committed:
 * - `fail`: nothing (`Exists`).
 * - `replace`: nothing, or a file.
 * - `{ version }`: a file of that version (`Changed`).
 * - `rename`: anything; the file is then put beside it as `name (2).ext`, the first number that is free.
 */
export type Conflict = "fail" | "replace" | "rename" | { readonly version: string }

export interface WriteOptions {
  /** Bytes that will come, exactly; undefined where nobody knows, then what has come by the commit is the file. */
  readonly size: number | undefined
  /** Milliseconds since 1970; the time of writing when absent. */
  readonly mtimeMs?: number
  /** Permission bits, taken `& 0o755 | 0o600`; 0644 when absent. */
  readonly mode?: number
  /** `fail` when absent. Looked at in the beginning, to fail early, and decided in the end. */
  readonly conflict?: Conflict
  /**
   * Names the content, so that a broken write of the same content to the same path goes on: the source's version, say.
   * At most 256 characters. Without it nothing is kept of a broken write.
   */
  readonly fingerprint?: string
  /** Makes missing folders on the way (0777 masked by the umask). */
  readonly parents?: boolean
}

/** A file held open for writing: invisible until it is committed. */
export interface Writer {
  /**
   * Bytes that are there already and verified, a multiple of `BLOCK_LENGTH`: the next append goes there. 0 unless it
   * goes on where a broken write of the same fingerprint ended.
   */
  readonly resumed: number
  /** Bytes there now. */
  readonly length: () => number
  /**
   * SHA-256 (of nothing but the block) of each whole block of `BLOCK_LENGTH`, resumed ones included; once all of `size` is
   * there (after the commit, where it was undefined) also of the last, shorter one. 32 bytes each, one after the other; an
   * empty file has none. A view that later appends may overwrite the end of: take a copy to keep it.
   */
  readonly blocks: () => Uint8Array
  /**
   * Writes at the end, in order, one append at a time; more than `size` in all is a failure (`Changed`). The bytes may be
   * used again once it has succeeded. On `NoSpace` and `Quota` nothing is left behind.
   */
  readonly append: (bytes: Uint8Array) => Effect.Effect<void, FilesError>
  /** Makes the file visible under its name, whole and durable, or fails and leaves what was there. Needs `size` bytes. */
  readonly commit: Effect.Effect<RemoteFile.Stat, FilesError>
  /** Removes what was written. */
  readonly abort: Effect.Effect<void>
}

/** A file small enough to be in memory (1 MiB). */
export interface SmallFile extends Omit<WriteOptions, "size" | "fingerprint"> {
  readonly path: string
  readonly bytes: Uint8Array
}

/** What a file's content is to be found under from now on. */
export interface TouchOptions {
  /** The file that is meant, as in Stat. */
  readonly version: string
  /** Milliseconds since 1970. */
  readonly mtimeMs: number
  /** Permission bits, taken `& 0o755 | 0o600`. */
  readonly mode: number
}

/** A file as it was read, all of it at one time. */
export interface SmallRead extends Pick<Reader, "path" | "size" | "mtimeMs" | "mode" | "version"> {
  /** All of it; undefined where it is longer than what was asked for. */
  readonly bytes: Uint8Array | undefined
}

export interface RemoveOptions {
  /** Deletes at once, leaving the trash alone. */
  readonly forever?: boolean
  /** Removes folders with all they hold; without it only empty ones go (`Exists`). */
  readonly recursive?: boolean
}

export interface MoveOptions {
  /** `fail` when absent. A folder replaces nothing. */
  readonly conflict?: Conflict
}

export interface FileTree {
  readonly list: (path: string, options?: ListOptions) => Effect.Effect<Page, FilesError>
  readonly stat: (path: string) => Effect.Effect<RemoteFile.Stat, FilesError>
  /** A tree page by page. One page looks at 20,000 entries at most, so that it may come with fewer entries, or none. */
  readonly walk: (path: string, options?: WalkOptions) => Effect.Effect<RemoteFile.Walk, FilesError>
  readonly usage: (path: string) => Effect.Effect<RemoteFile.Usage, FilesError>
  readonly open: (path: string) => Effect.Effect<Reader, FilesError, Scope.Scope>
  /**
   * Reads whole files of at most `longest` bytes (1 MiB), each on its own: outcomes in the order of the paths. Longer ones
   * come without bytes; what was written to while it was read fails with `Changed`. Far cheaper than one `open` each.
   */
  readonly readSmall: (
    paths: ReadonlyArray<string>,
    longest: number
  ) => Effect.Effect<ReadonlyArray<Result.Result<SmallRead, FilesError>>>
  /**
   * Begins a file. When its scope closes without commit or abort, whole blocks are kept for three days, for the next `write`
   * with this path, size and fingerprint; without a fingerprint or a whole block nothing is.
   */
  readonly write: (path: string, options: WriteOptions) => Effect.Effect<Writer, FilesError, Scope.Scope>
  /** Writes whole small files, each on its own: outcomes in the order of the files. Far cheaper than one `write` each. */
  readonly writeSmall: (
    files: ReadonlyArray<SmallFile>
  ) => Effect.Effect<ReadonlyArray<Result.Result<RemoteFile.Stat, FilesError>>>
  /**
   * Gives a file another time and mode and leaves its content alone; `Changed` if another version stands there. Gives it
   * as it is then, under a version of its own.
   */
  readonly touch: (path: string, to: TouchOptions) => Effect.Effect<RemoteFile.Stat, FilesError>
  /** With `parents`, missing folders on the way are made and a folder that is there is fine, the base too. */
  readonly mkdir: (path: string, options?: { readonly parents?: boolean }) => Effect.Effect<RemoteFile.Stat, FilesError>
  /** Moves into the trash; fails with `Unsupported` where that is impossible. The base itself cannot be removed. */
  readonly remove: (path: string, options?: RemoveOptions) => Effect.Effect<void, FilesError>
  /** `to` is the new path itself, not the folder to move into. Gives it as it is then. */
  readonly move: (from: string, to: string, options?: MoveOptions) => Effect.Effect<RemoteFile.Stat, FilesError>
  /**
   * Copies a file, or a folder with the files and folders in it (links and others are left out), keeping mtime and
   * mode. A folder is copied into a new one (`Exists`); when it fails in the middle, what is copied stays.
   */
  readonly copy: (from: string, to: string, options?: MoveOptions) => Effect.Effect<RemoteFile.Stat, FilesError>
  /** Oldest first. */
  readonly trash: Effect.Effect<ReadonlyArray<RemoteFile.Trashed>, FilesError>
  /** Puts it back where it was, or at `to`, replacing nothing. */
  readonly restore: (id: string, to?: string) => Effect.Effect<RemoteFile.Stat, FilesError>
  /** Deletes one, or everything in the trash; how many went. */
  readonly emptyTrash: (id?: string) => Effect.Effect<number, FilesError>
  /** Free bytes for a new file: the least of disk and quota. */
  readonly free: Effect.Effect<number, FilesError>
  /** Deletes unfinished writes and trash past their time, and counts again what the quota counts. Run on start and daily. */
  readonly sweep: Effect.Effect<void, FilesError>
}

const FAULTS: Readonly<Record<RemotePath.Fault, string>> = {
  Parent: '".." is not allowed',
  Control: "control characters are not allowed",
  Backslash: "backslashes are not allowed, folders are separated by /",
  Unicode: "not valid Unicode",
  TooLong: `longer than ${RemotePath.MAX_NAME_LENGTH} bytes in a name or ${RemotePath.MAX_PATH_LENGTH} in all`
}

const MESSAGES: Readonly<Record<Exclude<RemoteFile.Reason, "BadName">, string>> = {
  NotFound: "no such file or folder",
  NotAFolder: "not a folder (links are not followed)",
  NotAFile: "not a plain file (links are not followed)",
  Denied: "permission denied",
  TooMany: `more than ${MAX_FOLDER_LENGTH} entries in a folder, or more than ${MAX_DEPTH} folders deep`,
  Exists: "something stands there already",
  Changed: "it was changed by somebody else meanwhile",
  ReadOnly: "this tree is read-only (files.read_only)",
  NoSpace: "no space left on the disk",
  Quota: "this would exceed the quota (files.quota_bytes, files.quota_files, or the host's own)",
  Busy: "too many files are open at once; try again",
  Unsupported: "the file system there does not support this",
  Io: "cannot be read or written"
}

/** The error for a path that was asked for; it repeats nothing but that path. `why` replaces the usual words. */
export const failure = (reason: keyof typeof MESSAGES, path: RemotePath.RemotePath, why?: string): FilesError =>
  new FilesError({ reason, message: `${JSON.stringify(RemotePath.format(path))}: ${why ?? MESSAGES[reason]}` })

/** The error for something that was to be moved to where it is. */
export const itself = (path: RemotePath.RemotePath): FilesError => failure("Exists", path, "it is there already")

const badName = (why: string): FilesError =>
  new FilesError({ reason: "BadName", message: `this path is refused: ${why}` })

/** The error for names that the store's host would not keep as they are. */
export const unportable = (): FilesError => badName("the server's system reserves such names")

/** Parses a path; the error of a refused one does not repeat what may be unprintable. */
export const parse = (path: string): Result.Result<RemotePath.RemotePath, FilesError> => {
  const parsed = RemotePath.parse(path)
  if (Result.isFailure(parsed)) return Result.fail(badName(FAULTS[parsed.failure]))
  if (parsed.success.length > MAX_DEPTH) return Result.fail(badName(`more than ${MAX_DEPTH} folders deep`))
  if (parsed.success.some(isReserved)) return Result.fail(badName(`names in ${RESERVED_PREFIX}* belong to the store`))
  return Result.succeed(parsed.success)
}

/** Parses a path or fails with `BadName`. */
export const parsePath = (path: string): Effect.Effect<RemotePath.RemotePath, FilesError> =>
  Effect.fromResult(parse(path))

const notACursor = Effect.suspend(() =>
  Effect.fail(new FilesError({ reason: "BadName", message: "this cursor comes from no page" }))
)

/** Fails with `BadName` where a cursor is none that a page of a folder can have given out. */
export const checkCursor = (cursor: string | undefined): Effect.Effect<void, FilesError> =>
  cursor === undefined || RemotePath.isName(cursor) ? Effect.void : notACursor

/** Where a walk's cursor stands; fails with `BadName` where it is none. Empty at the beginning. */
export const walkCursor = (cursor: string | undefined): Effect.Effect<RemotePath.RemotePath, FilesError> => {
  if (cursor === undefined) return Effect.succeed([])
  // It may be longer than a path that can be asked for: a tree may.
  const names = cursor.length > MAX_WALKED_LENGTH ? [] : cursor.split("/")
  const isPath = names.length <= MAX_DEPTH && names.every((name) => RemotePath.isName(name) && !isReserved(name))
  return isPath && names.length > 0 ? Effect.succeed(names) : notACursor
}

/** Bytes: the longest file that is taken, so that its block hashes fit in memory. */
export const MAX_FILE_LENGTH = 2 ** 40
/** Bytes: the longest that `readAt` and `readSmall` give and `writeSmall` takes. */
export const MAX_READ_LENGTH = 1024 * 1024

/** `name (2).ext` and so on, cut to fit: what a file is called when its name is taken. */
export const numbered = (name: string, number: number): string => {
  const dot = name.lastIndexOf(".")
  const stem = dot > 0 ? name.slice(0, dot) : name
  const rest = ` (${number})${dot > 0 ? name.slice(dot) : ""}`
  const characters = Array.from(stem)
  const fits = (): boolean => RemotePath.nameFault(`${characters.join("")}${rest}`) !== "TooLong"
  while (characters.length > 1 && !fits()) characters.pop()
  return fits() ? `${characters.join("")}${rest}` : `${Array.from(name).slice(0, 40).join("")} (${number})`
}
/** Names that `rename` tries. */
export const MAX_NUMBERED = 10_000
