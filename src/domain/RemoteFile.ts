/** What the files service says about files below the base path. */
import * as Schema from "effect/Schema"
import * as RemotePath from "./RemotePath.ts"

/** Entries: the most one page holds. */
export const MAX_PAGE_LENGTH = 1000
/** Names: a folder with more is not listed (`TooMany`), so that no folder can exhaust memory. */
export const MAX_FOLDER_LENGTH = 100_000

const Name = Schema.String.check(Schema.makeFilter((name: string) => RemotePath.isName(name) || "not a file name"))
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

export const Kind = Schema.Literals(["file", "folder", "link", "other"])
export type Kind = typeof Kind.Type

const facts = {
  /** `link` is any symbolic link: it is named, never followed. `other` is a FIFO, socket or device: never opened. */
  kind: Kind,
  /** Bytes of a file; 0 for everything else. */
  size: Count,
  /** Milliseconds since 1970, whole. */
  mtimeMs: Schema.Int,
  /** Permission bits only, `rwxrwxrwx`. */
  mode: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0o777 }))
}

export class Entry extends Schema.Class<Entry>("clawchat/RemoteFile/Entry")({ name: Name, ...facts }) {}

export class Stat extends Schema.Class<Stat>("clawchat/RemoteFile/Stat")({
  /** As RemotePath.format writes it: `/` is the base. */
  path: Schema.String,
  ...facts
}) {}

/** A folder's entries in order of their names' UTF-16 code units. */
export class Page extends Schema.Class<Page>("clawchat/RemoteFile/Page")({
  entries: Schema.Array(Entry).check(Schema.isMaxLength(MAX_PAGE_LENGTH)),
  /** Asks for the next page; absent on the last one. */
  cursor: Schema.optionalKey(Name),
  /**
   * Names in the whole folder that no path can say: not UTF-8, or with control characters or backslashes. They are left
   * out rather than shown under a name that would ask for another file.
   */
  unnamed: Count
}) {}

/**
 * - `NotFound`: nothing there, or it went away meanwhile.
 * - `NotAFolder`: a file or a link stands where a folder must.
 * - `Denied`: the server's user may not read it.
 * - `BadName`: a path or cursor that RemotePath refuses.
 * - `TooMany`: the folder holds more than `MAX_FOLDER_LENGTH` names.
 * - `Io`: the disk failed.
 */
export class FilesError extends Schema.TaggedError<FilesError>()("FilesError", {
  reason: Schema.Literals(["NotFound", "NotAFolder", "Denied", "BadName", "TooMany", "Io"]),
  /** One line for people; says nothing about what lies outside the base, its own place included. */
  message: Schema.String
}) {}

export interface Slice {
  /** The names to describe, sorted. */
  readonly names: ReadonlyArray<string>
  readonly cursor: string | undefined
}

/**
 * Cuts one page out of a folder's names: those after the cursor, at most `limit` (1 to `MAX_PAGE_LENGTH`, which is also
 * the default). The cursor is the last name given out, so a folder may change between pages: nothing that stays is
 * missed or given twice.
 */
export const slice = (names: ReadonlyArray<string>, cursor?: string, limit = MAX_PAGE_LENGTH): Slice => {
  const length = Math.min(Math.max(1, Math.trunc(limit) || 1), MAX_PAGE_LENGTH)
  const rest = (cursor === undefined ? [...names] : names.filter((name) => name > cursor)).sort((a, b) =>
    a < b ? -1 : a > b ? 1 : 0
  )
  const page = rest.slice(0, length)
  return { names: page, cursor: rest.length > length ? page.at(-1) : undefined }
}
