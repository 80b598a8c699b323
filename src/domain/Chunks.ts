/**
 * Where a file is cut so that two versions of it share most pieces: content-defined chunking with a gear hash and
 * normalised sizes (Xia et al., FastCDC, USENIX ATC 2016). A cut depends on the 32 bytes before it and on where the last one
 * was, so that what is put in or taken out moves the cuts beside it and no others. Same bytes, same cuts, on every host.
 *
 * A chunk's id is the first 128 bits of its SHA-256. Two chunks of one id do no harm but to cost a second transfer: a file is
 * placed only when the hash of all its blocks fits (BlockTree). By chance they are not met in the life of the universe.
 */
import type { Primitives } from "./protocol/Primitives.ts"

/** Sizes are powers of two: 8 KiB to 1 MiB on average, a quarter of it at least, four times as much at most. */
export const MIN_BITS = 13
export const MAX_BITS = 20
/** Bytes of a chunk's id. */
export const ID_LENGTH = 16
/** Chunks that a list of them has at most. */
export const MAX_CHUNKS = 65_536

type Hash = Primitives["hash"]

/** The size, as a power of two, near the square root of a file's: what a list costs and what a change costs meet there. */
export const bitsFor = (length: number): number => {
  let bits = MIN_BITS
  while (bits < MAX_BITS && (4 ** bits < length || 2 ** bits * (MAX_CHUNKS / 2) < length)) bits++
  return bits
}

/** Bytes of the longest chunk. */
export const maxLength = (bits: number): number => 2 ** (bits + 2)

/** A number for each byte: the first 32 bits of the SHA-256 of that byte alone. */
const gearOf = (hash: Hash): Int32Array =>
  Int32Array.from({ length: 256 }, (_, byte) => {
    const [a = 0, b = 0, c = 0, d = 0] = hash(Uint8Array.of(byte))
    return (a << 24) | (b << 16) | (c << 8) | d
  })

/** Finds the ends of chunks in bytes that come in pieces of any length. It keeps no bytes. */
export class Chunker {
  readonly #gear: Int32Array
  readonly #least: number
  readonly #usual: number
  readonly #most: number
  /** A cut is where so many upper bits of the hash are 0: two more than the size has before it, two fewer after it. */
  readonly #strict: number
  readonly #lax: number
  #hash = 0
  #length = 0

  constructor(gear: Int32Array, bits: number) {
    this.#gear = gear
    this.#least = 2 ** (bits - 2)
    this.#usual = 2 ** bits
    this.#most = maxLength(bits)
    this.#strict = 32 - (bits + 2)
    this.#lax = 32 - (bits - 2)
  }

  /** Looks at `bytes` from `from` on, once each: where the chunk under way ends, or -1 if it goes on behind them. */
  next(bytes: Uint8Array, from: number): number {
    const skipped = Math.min(bytes.length - from, Math.max(0, this.#least - this.#length))
    let at = from + skipped
    this.#length += skipped
    if (this.#length < this.#least) return -1
    at = this.#look(bytes, at, this.#usual, this.#strict)
    if (this.#length > 0) at = this.#look(bytes, at, this.#most, this.#lax)
    if (this.#length > 0 && this.#length < this.#most) return -1
    this.#length = 0
    this.#hash = 0
    return at
  }

  /** Goes on until the chunk is so long; where it ends before, its length is 0. */
  #look(bytes: Uint8Array, from: number, length: number, shift: number): number {
    const gear = this.#gear
    const end = Math.min(bytes.length, from + Math.max(0, length - this.#length))
    let hash = this.#hash
    for (let i = from; i < end; i++) {
      hash = ((hash << 1) + (gear[bytes[i] as number] as number)) | 0
      if (hash >>> shift === 0) {
        this.#length = 0
        return i + 1
      }
    }
    this.#hash = hash
    this.#length += end - from
    return end
  }
}

export interface Chunk {
  readonly length: number
  /** `ID_LENGTH` bytes. */
  readonly id: Uint8Array
}

/** The chunks of bytes that come in pieces; the pieces of the chunk under way are kept, not copied. */
export class Scanner {
  readonly #hash: Hash
  readonly #chunker: Chunker
  #parts: Array<Uint8Array> = []
  #length = 0

  constructor(hash: Hash, bits: number) {
    this.#hash = hash
    this.#chunker = new Chunker(gearOf(hash), bits)
  }

  /** The chunks that these bytes complete. */
  push(bytes: Uint8Array): ReadonlyArray<Chunk> {
    const chunks: Array<Chunk> = []
    let at = 0
    while (at < bytes.length) {
      const end = this.#chunker.next(bytes, at)
      const piece = bytes.subarray(at, end < 0 ? bytes.length : end)
      this.#parts.push(piece)
      this.#length += piece.length
      at += piece.length
      if (end >= 0) chunks.push(this.#take())
    }
    return chunks
  }

  /** The last one, which nothing but the end has ended. */
  end(): Chunk | undefined {
    return this.#length === 0 ? undefined : this.#take()
  }

  #take(): Chunk {
    const chunk = { length: this.#length, id: this.#hash(...this.#parts).slice(0, ID_LENGTH) }
    this.#parts = []
    this.#length = 0
    return chunk
  }
}
