/**
 * The frames of a bulk stream (docs/FILE_PROTOCOL.md): what files are wanted or offered, and their blocks. Either end may be
 * the sender of files; several are on their way at once, told apart by the id that the client chose.
 *
 *     frame = type 1 | length varint | id varint | body
 *
 * Nothing here knows about disks or streams. Views that `Frames` gives out are the caller's to keep: no buffer is used twice.
 */
import { MAX_STATE_LENGTH } from "./BlockTree.ts"
import { concat, Reader, text, utf8, varintLength, Writer } from "./protocol/Cursor.ts"
import { HASH_LENGTH } from "./protocol/Primitives.ts"
import { MAX_TIME_MS } from "./RemoteFile.ts"
import { MAX_PATH_LENGTH } from "./RemotePath.ts"

/** Why one file was given up: FilesError's reasons and our own. Their places are what goes over the line. */
export const REASONS = [
  "Io",
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
  "Damaged",
  "Protocol",
  "Stopped"
] as const
export type Reason = (typeof REASONS)[number]

/** Bytes of a file that go in one `Data`. */
export const PIECE_LENGTH = 65_536
/** Characters of UTF-8, as bytes. */
export const MAX_MESSAGE_LENGTH = 8192
/** Bytes of what a sender calls a file's state: it is only ever compared. */
export const MAX_FINGERPRINT_LENGTH = 128
/** Bytes of a frame after its length. */
export const MAX_FRAME_LENGTH = PIECE_LENGTH + 8

/** What may stand at the target: nothing; nothing or a file; anything, and the file goes beside it; a file of this version. */
export type Conflict = "fail" | "replace" | "rename" | { readonly version: string }

/** What a file is when its reading begins. */
export interface Facts {
  /** Bytes; `undefined` while nobody knows. */
  readonly size: number | undefined
  /** Milliseconds since 1970; times before are given as 0. */
  readonly mtimeMs: number
  readonly mode: number
  readonly fingerprint: string
}

/**
 * - `Want` (client): send me this file. `File` is the answer.
 * - `Put` (client): I have a file for this path. With `chunks`: tell me what the version that I know there is made of. With
 *   `root`: a file of this content that stands there already, under whatever name, is the one.
 * - `Folder` (client): make this folder, and those above it. `Done` is the answer.
 * - `Accept` (receiver): send from `offset` on, where a block begins; `state` is the tree's of all before. Not for files that
 *   fit into one `Data`: they follow their `File` or `Put` at once.
 * - `Chunks` (receiver): what the file is made of that this one takes the place of, before `Accept`.
 * - `Data` (sender): the next bytes. `Copy` (sender): they are these of that file, of which there were `Chunks`.
 * - `Block` (sender): the hash of the whole block that they have completed. `End`: that was all; the root of the tree.
 * - `Done` (server): it stands there, under this name.
 * - `Conflict` (server): something else stands there than `Put` expects; the file was not taken.
 * - `Fail` (either): this file is given up.
 */
export type Frame =
  | { readonly _tag: "Want"; readonly id: number; readonly path: string }
  | { readonly _tag: "File"; readonly id: number; readonly facts: Facts }
  | {
      readonly _tag: "Put"
      readonly id: number
      readonly facts: Facts
      readonly conflict: Conflict
      readonly path: string
      /** With the conflict of a version only. */
      readonly chunks?: true
      /** With the conflict `rename` only. */
      readonly root?: Uint8Array
    }
  | { readonly _tag: "Folder"; readonly id: number; readonly path: string }
  | { readonly _tag: "Accept"; readonly id: number; readonly offset: number; readonly state: Uint8Array }
  | { readonly _tag: "Data"; readonly id: number; readonly bytes: Uint8Array }
  | { readonly _tag: "Block"; readonly id: number; readonly hash: Uint8Array }
  | { readonly _tag: "End"; readonly id: number; readonly root: Uint8Array }
  | { readonly _tag: "Done"; readonly id: number; readonly path: string }
  | {
      readonly _tag: "Conflict"
      readonly id: number
      readonly kind: "file" | "folder" | "other"
      readonly size: number
      readonly mtimeMs: number
      /** Of a file; else empty. */
      readonly version: string
    }
  | { readonly _tag: "Fail"; readonly id: number; readonly reason: Reason; readonly message: string }
  | { readonly _tag: "Chunks"; readonly id: number; readonly bits: number; readonly list: Uint8Array }
  | { readonly _tag: "Copy"; readonly id: number; readonly offset: number; readonly length: number }

const TYPES = {
  Want: 0x01,
  File: 0x02,
  Put: 0x03,
  Folder: 0x04,
  Accept: 0x05,
  Data: 0x06,
  Block: 0x07,
  End: 0x08,
  Done: 0x09,
  Conflict: 0x0a,
  Fail: 0x0b,
  Chunks: 0x0c,
  Copy: 0x0d
} as const

const KINDS = ["file", "folder", "other"] as const
const CONFLICTS = ["fail", "replace", "rename"] as const
/** Behind them: a version, a version whose chunks are wanted, `rename` unless a root is there. */
const VERSION = 3
const CHUNKS = 4
const ROOT = 5
/** Bytes of a body's numbers and words, all of them at their longest. */
const NUMBERS = 64 + 2 * MAX_FINGERPRINT_LENGTH

const isSmall = (size: number | undefined): boolean => size !== undefined && size <= PIECE_LENGTH
/** Whether a file's bytes follow its `File` or `Put` without being asked for. */
export const isEager = (facts: Facts): boolean => isSmall(facts.size)

const clip = (bytes: Uint8Array, length: number): Uint8Array => {
  let end = Math.min(bytes.length, length)
  // Not within a character.
  while (end < bytes.length && end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}

const putText = (writer: Writer, text: string): void => {
  const bytes = clip(utf8(text), MAX_FINGERPRINT_LENGTH)
  writer.varint(bytes.length).put(bytes)
}

const putFacts = (writer: Writer, facts: Facts): void => {
  writer.u8(facts.size === undefined ? 0 : 1).varint(facts.size ?? 0)
  writer.varint(Math.max(0, facts.mtimeMs)).varint(facts.mode & 0o777)
  putText(writer, facts.fingerprint)
}

const body = (frame: Frame): { readonly bytes: Uint8Array; readonly write: (writer: Writer) => void } => {
  const none = new Uint8Array(0)
  switch (frame._tag) {
    case "Want":
    case "Folder":
    case "Done":
      return { bytes: utf8(frame.path), write: () => {} }
    case "File":
      return { bytes: none, write: (writer) => putFacts(writer, frame.facts) }
    case "Put":
      return {
        bytes: utf8(frame.path),
        write: (writer) => {
          putFacts(writer, frame.facts)
          const { chunks, conflict, root } = frame
          if (typeof conflict === "object") putText(writer.u8(chunks ? CHUNKS : VERSION), conflict.version)
          else if (root !== undefined) writer.u8(ROOT).put(root)
          else writer.u8(CONFLICTS.indexOf(conflict))
        }
      }
    case "Accept":
      return { bytes: frame.state, write: (writer) => writer.varint(frame.offset) }
    case "Data":
      return { bytes: frame.bytes, write: () => {} }
    case "Block":
      return { bytes: frame.hash, write: () => {} }
    case "End":
      return { bytes: frame.root, write: () => {} }
    case "Conflict":
      return {
        bytes: none,
        write: (writer) => {
          writer.u8(KINDS.indexOf(frame.kind)).varint(frame.size).varint(Math.max(0, frame.mtimeMs))
          putText(writer, frame.version)
        }
      }
    case "Fail":
      return {
        bytes: clip(utf8(frame.message), MAX_MESSAGE_LENGTH),
        write: (writer) => writer.u8(REASONS.indexOf(frame.reason))
      }
    case "Chunks":
      return { bytes: frame.list, write: (writer) => writer.u8(frame.bits) }
    case "Copy":
      return { bytes: none, write: (writer) => writer.varint(frame.offset).varint(frame.length) }
  }
}

/** Bytes of a long body that go with its head: a head alone would leave in a packet of its own. */
const COPIED = 4096

/**
 * A frame in two parts, of which the second is the caller's own bytes, or empty: what is long is not copied. A path or piece that
 * is too long is the caller's bug.
 */
export const parts = (frame: Frame): readonly [Uint8Array, Uint8Array] => {
  const { bytes, write } = body(frame)
  const numbers = new Writer(new Uint8Array(NUMBERS))
  numbers.varint(frame.id)
  write(numbers)
  const length = numbers.offset + bytes.length
  if (length > MAX_FRAME_LENGTH) throw new RangeError(`TransferFrame: ${length} bytes are too many for one frame`)
  const copied = bytes.length > 2 * COPIED ? COPIED : bytes.length
  const head = new Writer(new Uint8Array(1 + varintLength(length) + numbers.offset + copied))
  head.u8(TYPES[frame._tag]).varint(length).put(numbers.bytes.subarray(0, numbers.offset))
  head.put(bytes.subarray(0, copied))
  return [head.bytes, bytes.subarray(copied)]
}

/** The bytes of a frame. */
export const encode = (frame: Frame): Uint8Array => concat(...parts(frame))

const rest = (reader: Reader): Uint8Array => reader.view(reader.remaining)

const path = (reader: Reader): string | undefined =>
  reader.remaining > MAX_PATH_LENGTH ? undefined : text(rest(reader))

/** A short text behind its length. */
const word = (reader: Reader): string | undefined => {
  const length = reader.varint()
  return length > MAX_FINGERPRINT_LENGTH ? undefined : text(reader.view(length))
}

const facts = (reader: Reader): Facts | undefined => {
  const known = reader.u8()
  const size = reader.varint()
  const mtimeMs = reader.varint()
  const mode = reader.varint()
  const fingerprint = word(reader)
  if (mode > 0o777 || known > 1 || (known === 0 && size !== 0) || fingerprint === undefined) return undefined
  if (mtimeMs > MAX_TIME_MS) return undefined
  return { size: known === 1 ? size : undefined, mtimeMs, mode, fingerprint }
}

const put = (reader: Reader, id: number): Frame | undefined => {
  const about = facts(reader)
  const kind = reader.u8()
  const version = kind === VERSION || kind === CHUNKS ? word(reader) : undefined
  const root = kind === ROOT ? reader.view(HASH_LENGTH) : undefined
  const rule = root === undefined ? CONFLICTS[kind] : "rename"
  const conflict: Conflict | undefined = version === undefined ? rule : { version }
  const to = path(reader)
  if (about === undefined || to === undefined || conflict === undefined) return undefined
  return {
    _tag: "Put",
    id,
    facts: about,
    conflict,
    path: to,
    ...(kind === CHUNKS ? { chunks: true } : {}),
    ...(root === undefined ? {} : { root })
  }
}

const parse = (type: number, reader: Reader): Frame | undefined => {
  const id = reader.varint()
  switch (type) {
    case TYPES.Want:
    case TYPES.Folder:
    case TYPES.Done: {
      const at = path(reader)
      if (at === undefined) return undefined
      const _tag = type === TYPES.Want ? "Want" : type === TYPES.Folder ? "Folder" : "Done"
      return { _tag, id, path: at }
    }
    case TYPES.File: {
      const about = facts(reader)
      return about === undefined ? undefined : { _tag: "File", id, facts: about }
    }
    case TYPES.Put:
      return put(reader, id)
    case TYPES.Accept: {
      const offset = reader.varint()
      if (reader.remaining > MAX_STATE_LENGTH) return undefined
      return { _tag: "Accept", id, offset, state: rest(reader) }
    }
    case TYPES.Data: {
      const bytes = rest(reader)
      return bytes.length < 1 || bytes.length > PIECE_LENGTH ? undefined : { _tag: "Data", id, bytes }
    }
    case TYPES.Block:
      return { _tag: "Block", id, hash: reader.view(HASH_LENGTH) }
    case TYPES.End:
      return { _tag: "End", id, root: reader.view(HASH_LENGTH) }
    case TYPES.Conflict: {
      const kind = KINDS[reader.u8()]
      const size = reader.varint()
      const mtimeMs = reader.varint()
      const version = word(reader)
      if (kind === undefined || version === undefined || mtimeMs > MAX_TIME_MS) return undefined
      return { _tag: "Conflict", id, kind, size, mtimeMs, version }
    }
    case TYPES.Fail: {
      const reason = REASONS[reader.u8()]
      const message = reader.remaining > MAX_MESSAGE_LENGTH ? undefined : text(rest(reader))
      return reason === undefined || message === undefined ? undefined : { _tag: "Fail", id, reason, message }
    }
    case TYPES.Chunks: {
      const bits = reader.u8()
      return reader.remaining > PIECE_LENGTH ? undefined : { _tag: "Chunks", id, bits, list: rest(reader) }
    }
    case TYPES.Copy:
      return { _tag: "Copy", id, offset: reader.varint(), length: reader.varint() }
    default:
      return undefined
  }
}

/** One frame out of its type and what follows its length; `undefined` for anything that is none. */
export const decode = (type: number, bytes: Uint8Array): Frame | undefined => {
  const reader = new Reader(bytes)
  const frame = parse(type, reader)
  return reader.done ? frame : undefined
}

/** Makes frames of a stream's pieces. It holds less than one frame. */
export class Frames {
  readonly #head = new Uint8Array(9)
  #headLength = 0
  #body: Uint8Array | undefined
  #filled = 0
  #broken = false

  /** Every frame that these bytes complete; `undefined` once anything that is no frame has come. */
  push(bytes: Uint8Array): ReadonlyArray<Frame> | undefined {
    const frames: Array<Frame> = []
    let at = 0
    while (at < bytes.length && !this.#broken) {
      if (this.#body === undefined) {
        this.#head[this.#headLength++] = bytes[at++] as number
        this.#begin()
      } else {
        const length = Math.min(bytes.length - at, this.#body.length - this.#filled)
        this.#body.set(bytes.subarray(at, at + length), this.#filled)
        this.#filled += length
        at += length
      }
      if (this.#body !== undefined && this.#filled === this.#body.length) this.#end(frames)
    }
    return this.#broken ? undefined : frames
  }

  /** Whether it is within a frame. */
  get isPartial(): boolean {
    return this.#headLength > 0
  }

  #begin(): void {
    if (this.#headLength < 2 || this.#headLength < 1 + (1 << ((this.#head[1] as number) >> 6))) return
    const length = new Reader(this.#head, 1, this.#headLength).varint()
    if (length > MAX_FRAME_LENGTH || length === 0) this.#broken = true
    else this.#body = new Uint8Array(length)
  }

  #end(frames: Array<Frame>): void {
    const frame = this.#body === undefined ? undefined : decode(this.#head[0] as number, this.#body)
    if (frame === undefined) this.#broken = true
    else frames.push(frame)
    this.#body = undefined
    this.#headLength = 0
    this.#filled = 0
  }
}
