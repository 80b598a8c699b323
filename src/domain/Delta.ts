/**
 * What of a new file is told as parts of an old one (docs/FILE_PROTOCOL.md, section 5). Who has the old file lists its chunks
 * from the beginning on; who has the new one cuts it in the same way, and says `Copy` for chunks that are in the list and
 * `Data` for all others. Everything here is a guess of what the other end has: only the hash of the blocks decides.
 */
import { type Chunk, ID_LENGTH, MAX_BITS, MAX_CHUNKS, MIN_BITS, maxLength, Scanner } from "./Chunks.ts"
import { Reader, varintLength, Writer } from "./protocol/Cursor.ts"
import type { Primitives } from "./protocol/Primitives.ts"
import { BLOCK_LENGTH } from "./RemoteFile.ts"
import { type Frame, PIECE_LENGTH } from "./TransferFrame.ts"

/** Bytes: an old or a new file below is not worth the questions. */
export const MIN_LENGTH = 1024 * 1024
/** Bytes of the longest entry in a list: a length below 2^30, and an id. */
export const MAX_ENTRY_LENGTH = 4 + ID_LENGTH

/** Chunks as they stand in a frame: `length varint | id 16` each. */
export const encode = (chunks: ReadonlyArray<Chunk>): Uint8Array => {
  const length = chunks.reduce((sum, chunk) => sum + varintLength(chunk.length) + ID_LENGTH, 0)
  const writer = new Writer(new Uint8Array(length))
  for (const chunk of chunks) writer.varint(chunk.length).put(chunk.id)
  return writer.bytes
}

/** Bytes that a table takes at most. */
export const MAX_TABLE_BYTES = 2 * MAX_CHUNKS * (ID_LENGTH + 4)

/** Places that are looked at for one id: whoever makes ids collide loses matches, not our time. */
const PROBES = 32

/** The chunks of an old file. Everything in it came from the other end. */
export class Table {
  readonly bits: number
  #ids = new Uint8Array(256 * ID_LENGTH)
  /** Where each one begins, and, after the last, where that one ends. */
  #starts = new Float64Array(257)
  #count = 0
  /** By id: places of chunks and one more, 0 for none. */
  #index = new Int32Array(512)

  private constructor(bits: number) {
    this.bits = bits
  }

  /** `undefined` for a size that no chunks have. */
  static make(bits: number): Table | undefined {
    return bits < MIN_BITS || bits > MAX_BITS ? undefined : new Table(bits)
  }

  get count(): number {
    return this.#count
  }

  /** Bytes of the old file that are in the list. */
  get length(): number {
    return this.#starts[this.#count] as number
  }

  /** Takes in what one frame lists; false for what no old file has: no chunks, too many, or too long ones. */
  add(list: Uint8Array): boolean {
    const reader = new Reader(list)
    const most = maxLength(this.bits)
    do {
      const length = reader.varint()
      const id = reader.view(ID_LENGTH)
      if (reader.failed || length < 1 || length > most || this.#count >= MAX_CHUNKS) return false
      this.#push(length, id)
    } while (reader.remaining > 0)
    return true
  }

  /** The place of a chunk, `after` + 1 if it may be: what goes on where the last one ended is told in one. -1 for none. */
  find({ id, length }: Chunk, after: number): number {
    if (after >= 0 && this.#is(after + 1, id, length)) return after + 1
    const mask = this.#index.length - 1
    for (let i = 0; i < PROBES; i++) {
      const place = (this.#index[(prefix(id, 0) + i) & mask] as number) - 1
      if (place < 0) return -1
      if (this.#is(place, id, length)) return place
    }
    return -1
  }

  /** Where the chunk of this place begins in the old file. */
  startOf(place: number): number {
    return this.#starts[place] as number
  }

  #push(length: number, id: Uint8Array): void {
    if ((this.#count + 1) * ID_LENGTH > this.#ids.length) this.#grow()
    this.#ids.set(id, this.#count * ID_LENGTH)
    this.#starts[this.#count + 1] = this.length + length
    this.#note(this.#count++)
  }

  #grow(): void {
    const ids = new Uint8Array(2 * this.#ids.length)
    ids.set(this.#ids)
    this.#ids = ids
    const starts = new Float64Array(2 * (this.#starts.length - 1) + 1)
    starts.set(this.#starts)
    this.#starts = starts
    this.#index = new Int32Array(2 * this.#index.length)
    for (let place = 0; place < this.#count; place++) this.#note(place)
  }

  #note(place: number): void {
    const mask = this.#index.length - 1
    const at = prefix(this.#ids, place * ID_LENGTH)
    const id = this.#ids.subarray(place * ID_LENGTH, (place + 1) * ID_LENGTH)
    for (let i = 0; i < PROBES; i++) {
      const other = (this.#index[(at + i) & mask] as number) - 1
      if (other < 0) this.#index[(at + i) & mask] = place + 1
      // The first of many that are the same, runs of zeros say, stands for all.
      if (other < 0 || this.#is(other, id)) return
    }
  }

  #is(place: number, id: Uint8Array, length?: number): boolean {
    if (place >= this.#count) return false
    if (length !== undefined && (this.#starts[place + 1] as number) - this.startOf(place) !== length) return false
    for (let i = 0; i < ID_LENGTH; i++) if (this.#ids[place * ID_LENGTH + i] !== id[i]) return false
    return true
  }
}

const prefix = (bytes: Uint8Array, at: number): number =>
  (((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)) >>>
  0

interface Range {
  /** In the new file. */
  readonly start: number
  end: number
  /** In the old one, where `start` is. */
  readonly old: number
}

/** Tells a new file, read in order from `offset`, as what is copied and what is not. */
export class Cutter {
  readonly #table: Table
  readonly #scanner: Scanner
  #ranges: Array<Range> = []
  #decided: number
  #last = -1

  constructor(hash: Primitives["hash"], table: Table, offset: number) {
    this.#table = table
    this.#scanner = new Scanner(hash, table.bits)
    this.#decided = offset
  }

  /** All before is known to be in the old file or not. At most one chunk behind what was pushed. */
  get decided(): number {
    return this.#decided
  }

  push(bytes: Uint8Array): void {
    for (const chunk of this.#scanner.push(bytes)) this.#decide(chunk)
  }

  /** Nothing comes any more. */
  end(): void {
    const chunk = this.#scanner.end()
    if (chunk !== undefined) this.#decide(chunk)
  }

  /** The block at `start`, all of which is decided, in frames; to be asked for in order. */
  pieces(id: number, start: number, bytes: Uint8Array): ReadonlyArray<Frame> {
    const frames: Array<Frame> = []
    const stop = start + bytes.length
    let at = start
    const literal = (to: number): void => {
      for (; at < to; at = Math.min(to, at + PIECE_LENGTH)) {
        const end = Math.min(to, at + PIECE_LENGTH)
        frames.push({ _tag: "Data", id, bytes: bytes.subarray(at - start, end - start) })
      }
    }
    let used = 0
    for (const range of this.#ranges) {
      if (range.start >= stop) break
      literal(Math.max(start, range.start))
      const end = Math.min(stop, range.end)
      if (end > at) frames.push({ _tag: "Copy", id, offset: range.old + at - range.start, length: end - at })
      at = end
      if (range.end > stop) break
      used++
    }
    literal(stop)
    this.#ranges = this.#ranges.slice(used)
    return frames
  }

  #decide(chunk: Chunk): void {
    const start = this.#decided
    this.#decided += chunk.length
    const place = this.#table.find(chunk, this.#last)
    this.#last = place
    if (place < 0) return
    const old = this.#table.startOf(place)
    const before = this.#ranges.at(-1)
    if (before?.end === start && before.old + before.end - before.start === old) before.end = this.#decided
    else this.#ranges.push({ start, end: this.#decided, old })
  }
}

/** Whether a `Copy` is of bytes that the old file has, and no more than a block. */
export const isCopy = (offset: number, length: number, size: number): boolean =>
  length >= 1 && length <= BLOCK_LENGTH && offset <= size - length
