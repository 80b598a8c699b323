/** What the files service says about files below the base path. */
import * as Schema from "effect/Schema"
import * as RemotePath from "./RemotePath.ts"

/** Entries: the most one page holds. */
export const MAX_PAGE_LENGTH = 1000
/** Names: a folder with more is not listed (`TooMany`), so that no folder can exhaust memory. */
export const MAX_FOLDER_LENGTH = 100_000
/** Components: deeper trees are neither walked nor made. */
export const MAX_DEPTH = 100
/** Bytes: a block is what is hashed at a time, and the least that a broken transfer keeps. */
export const BLOCK_LENGTH = 256 * 1024

/** Milliseconds: no date is later, or, negative, earlier (ECMA-262, time values). */
export const MAX_TIME_MS = 8_640_000_000_000_000

const Name = Schema.String.check(Schema.makeFilter((name: string) => RemotePath.isName(name) || "not a file name"))
/** Characters of a path that is walked. Longer than what may be asked for: a tree on the disk may be as deep. */
export const MAX_WALKED_LENGTH = MAX_DEPTH * (RemotePath.MAX_NAME_LENGTH + 1)
const Path = Schema.String.check(Schema.isMaxLength(MAX_WALKED_LENGTH))
const Time = Schema.Int.check(Schema.isBetween({ minimum: -MAX_TIME_MS, maximum: MAX_TIME_MS }))
const Count = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))

/** What `Stat.version` and `Reader.version` look like. */
export const Version = Schema.String.check(Schema.isPattern(/^[0-9a-f]{32}$/))

export const Kind = Schema.Literals(["file", "folder", "link", "other"])
export type Kind = typeof Kind.Type

const facts = {
  /** `link` is any symbolic link: it is named, never followed. `other` is a FIFO, socket or device: never opened. */
  kind: Kind,
  /** Bytes of a file; 0 for everything else. */
  size: Count,
  /** Milliseconds since 1970, whole. */
  mtimeMs: Time,
  /** Permission bits only, `rwxrwxrwx`. */
  mode: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0o777 }))
}

export class Entry extends Schema.Class<Entry>("clawchat/RemoteFile/Entry")({ name: Name, ...facts }) {}

export class Stat extends Schema.Class<Stat>("clawchat/RemoteFile/Stat")({
  /** As RemotePath.format writes it: `/` is the base. */
  path: Path,
  ...facts,
  /**
   * Which content this is, for files: 32 hexadecimal digits that change with every write, and say nothing else. Absent
   * for everything but files.
   */
  version: Schema.optionalKey(Version)
}) {}

/** An entry somewhere below the folder that was asked for. */
export class Found extends Schema.Class<Found>("clawchat/RemoteFile/Found")({
  /** Relative to that folder, `/`-separated, without a leading slash. */
  path: Path,
  ...facts
}) {}

/** Part of a tree, each folder before what it holds, names in order of their UTF-16 code units. */
export class Walk extends Schema.Class<Walk>("clawchat/RemoteFile/Walk")({
  entries: Schema.Array(Found).check(Schema.isMaxLength(MAX_PAGE_LENGTH)),
  /** Asks for what follows; absent at the end. May stand beside no entries at all. */
  cursor: Schema.optionalKey(Path),
  /** Names left out on this page because no path can say them. */
  unnamed: Count,
  /** Folders on this page that could not be read, or are too deep or too long. */
  unread: Schema.Array(Path)
}) {}

/** What a tree holds; links and others are not followed and count for nothing but themselves. */
export class Usage extends Schema.Class<Usage>("clawchat/RemoteFile/Usage")({
  bytes: Count,
  files: Count,
  folders: Count,
  others: Count,
  /** Folders that could not be read. */
  unread: Count
}) {}

/** Something in the trash. */
export class Trashed extends Schema.Class<Trashed>("clawchat/RemoteFile/Trashed")({
  /** Names it in `restore`; in order of removal. */
  id: Schema.String,
  /** Where it was. */
  path: Path,
  kind: Kind,
  bytes: Count,
  files: Count,
  removedMs: Time
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

export const Reason = Schema.Literals([
  "NotFound",
  "NotAFolder",
  "NotAFile",
  "Denied",
  "BadName",
  "TooMany",
  "Exists",
  "Changed",
  "ReadOnly",
  "NoSpace",
  "Quota",
  "Busy",
  "Unsupported",
  "Io"
])
/**
 * - `NotFound`: nothing there, or it went away meanwhile.
 * - `NotAFolder`: a file or a link stands where a folder must.
 * - `NotAFile`: a folder, link, FIFO, socket or device stands where a file must.
 * - `Denied`: the server's user may not do it.
 * - `BadName`: a path or cursor that RemotePath refuses, or a name kept for this program's own use.
 * - `TooMany`: a folder holds more than `MAX_FOLDER_LENGTH` names, or a tree is deeper than `MAX_DEPTH`.
 * - `Exists`: something stands there already and the caller did not allow to replace it.
 * - `Changed`: it is no longer what the caller said it was, or it changed while it was read.
 * - `ReadOnly`: this tree takes no changes.
 * - `NoSpace`: the disk is full, or would be.
 * - `Quota`: the tree's own limit of bytes or files, or the host's quota.
 * - `Busy`: as many transfers are open as may be, or somebody writes this very file now. Try again.
 * - `Unsupported`: the file system cannot: a move to another one, say.
 * - `Io`: the disk failed.
 */
export type Reason = typeof Reason.Type

export class FilesError extends Schema.TaggedError<FilesError>()("FilesError", {
  reason: Reason,
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
