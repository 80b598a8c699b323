/**
 * The incoming half of one stream: puts bytes back into order, holds the peer to its limits, and hands out what is
 * contiguous.
 *
 * Bytes that arrive in order are gathered in blocks, so that a reader gets many packets' worth at once; large pieces that
 * fill most of their buffer are kept as they came (the caller gives its buffer away). What arrives out of order is copied into
 * pages by its offset. So overlaps and single bytes cost nothing more than the window: at most about twice `window` bytes and
 * one block are held, whatever the peer sends. Where copies of a byte differ, one of them is delivered.
 *
 * What is acknowledged cannot be dropped, so a peer that leaves more gaps than loss explains (1,024, or one per KiB of
 * window) is answered as one that violates flow control.
 */
import { RangeSet } from "./RangeSet.ts"

/**
 * "open": more may come. "sizeKnown": the end is known, something before it is missing. "received": all is here, not all
 * was read. "finished": all was read. "reset": the peer gave up, unread bytes are gone.
 */
export type State = "open" | "sizeKnown" | "received" | "finished" | "reset"

/**
 * `fresh`: bytes by which the highest offset grew; they count against the session's flow control. Valid until the next
 * call. The strings are violations that end the session.
 */
export type Outcome = { readonly fresh: number } | "flow-control" | "final-size"

const PAGE = 4096
/** Bytes: a block's first size, and its largest, reached by doubling as blocks fill up. */
const LEAST_BLOCK = 4096
const LARGEST_BLOCK = 65_536
/** Bytes: pieces from here on are kept as they came where that wastes less than half; a lone short one gets no block. */
const LARGE = 8192
const SHORT = 1024
const LEAST_GAPS = 1024
/** Bytes that may always lie unread, and the narrowest that a window becomes on account of a slow reader. */
const STANDING = 262_144
const NARROWEST = 1_048_576

export class RecvStream {
  readonly id: number
  readonly #maxWindow: number
  #window: number
  #limit: number
  #grantedAt = Number.NEGATIVE_INFINITY
  /** Bytes that could be read, at the least, since the last grant: they stood in a queue all the time. */
  #standing = Number.POSITIVE_INFINITY
  /** End of what has been read, of what can be read, and of what has been seen. */
  #consumed = 0
  #contiguous = 0
  #highest = 0
  #finalSize: number | undefined
  /**
   * In-order pieces: buffers, what of them counts, and the offset at which that starts; the first `#head` were read. The rest
   * is in pages.
   */
  #pieces: Array<Uint8Array> = []
  #froms: Array<number> = []
  #tos: Array<number> = []
  #starts: Array<number> = []
  #head = 0
  /** The block being filled; its bytes from `#blockUsed` on are free. */
  #block = EMPTY
  #blockUsed = 0
  #blockSize = LEAST_BLOCK
  readonly #pages = new Map<number, Uint8Array>()
  /** Bytes in pages beyond `#contiguous`. */
  readonly #beyond: RangeSet
  #resetCode: number | undefined
  #stopCode: number | undefined
  #endSeen = false
  readonly #outcome = { fresh: 0 }

  /** `window`: bytes the peer may send beyond what was read, at first and at most. */
  constructor(id: number, window: number, maxWindow = window) {
    this.id = id
    this.#window = window
    this.#maxWindow = maxWindow
    this.#limit = window
    this.#beyond = new RangeSet(Math.max(LEAST_GAPS, Math.ceil(maxWindow / 1024)))
  }

  get state(): State {
    if (this.#resetCode !== undefined) return "reset"
    if (this.#finalSize === undefined) return "open"
    if (this.#consumed === this.#finalSize) return "finished"
    return this.#contiguous === this.#finalSize ? "received" : "sizeKnown"
  }

  /** Whether `read` has news: bytes, or for once the end. */
  get readable(): boolean {
    if (this.#resetCode !== undefined) return false
    return this.#consumed < this.#contiguous || (this.finished && !this.#endSeen)
  }

  /** Everything was read, the end included. */
  get finished(): boolean {
    return this.#resetCode === undefined && this.#consumed === this.#finalSize
  }

  /** The end is known, by FIN or RESET: neither STOP nor a larger limit would tell the peer anything. */
  get sizeKnown(): boolean {
    return this.#finalSize !== undefined
  }

  /** Nothing that may still arrive matters: all bytes are here or, once stopped, all are counted. */
  get complete(): boolean {
    return this.#contiguous === this.#finalSize
  }

  /** Bytes read, or dropped by `stop` or a reset. */
  get consumed(): number {
    return this.#consumed
  }

  /** What the peer may send up to, as last granted. */
  get limit(): number {
    return this.#limit
  }

  /** Code of the peer's reset. */
  get resetCode(): number | undefined {
    return this.#resetCode
  }

  /** Code of our `stop`. */
  get stopCode(): number | undefined {
    return this.#stopCode
  }

  /** Bytes of memory held, for bounds and tests. */
  get held(): number {
    const buffers = new Set<ArrayBufferLike>([this.#block.buffer])
    for (let i = this.#head; i < this.#pieces.length; i++) buffers.add((this.#pieces[i] as Uint8Array).buffer)
    let bytes = this.#pages.size * PAGE
    for (const buffer of buffers) bytes += buffer.byteLength
    return bytes
  }

  // -- the wire ----------------------------------------------------------------------------------------------------

  /** A STREAM frame; its buffer is ours from now on. */
  onData(offset: number, data: Uint8Array, fin: boolean): Outcome {
    const end = offset + data.length
    const size = this.#finalSize
    if (size !== undefined ? end > size || (fin && end !== size) : fin && end < this.#highest) return "final-size"
    if (end > this.#limit) return "flow-control"
    if (!this.#dropping && end > this.#contiguous && !this.#accept(offset, end, data)) return "flow-control"
    if (fin) this.#finalSize = end
    return this.#grow(end)
  }

  /** A RESET frame. Unread bytes are gone, unless everything was read already. */
  onReset(code: number, finalSize: number): Outcome {
    const size = this.#finalSize
    if (size !== undefined ? finalSize !== size : finalSize < this.#highest) return "final-size"
    if (finalSize > this.#limit) return "flow-control"
    const over = this.finished || this.#resetCode !== undefined
    this.#finalSize = finalSize
    const outcome = this.#grow(finalSize)
    if (!over) {
      this.#resetCode = code
      this.#drop()
    }
    return outcome
  }

  /**
   * All that can be read was read, and what waits behind a gap fills more than half of the window: the window is too small
   * for this path's losses, which hold it for a round trip and longer.
   */
  get squeezed(): boolean {
    if (this.#window >= this.#maxWindow || this.#finalSize !== undefined || this.#dropping) return false
    return this.#consumed === this.#contiguous && this.#highest - this.#consumed > this.#window / 2
  }

  /** More than half of the window was read since the last grant: time for another. */
  get owesWindow(): boolean {
    if (this.#finalSize !== undefined || this.#dropping) return false
    return this.squeezed || this.#consumed + this.#window - this.#limit > this.#window / 2
  }

  /**
   * The limit to announce now. A window that was used up within two round trips was what held the peer back, so it
   * doubles, up to its maximum: it comes to fit the path's bandwidth-delay product. Unless the reader never ran out of
   * bytes meanwhile: then the reader is what holds the peer back, and what always lay unread is memory for nothing.
   */
  grant(now: number, rttMs: number): number {
    if (this.owesWindow) {
      const idle = this.#standing - STANDING
      if (this.squeezed || (idle <= 0 && now - this.#grantedAt < 2 * rttMs)) {
        this.#window = Math.min(2 * this.#window, this.#maxWindow)
      } else if (idle > 0 && idle < this.#window) {
        this.#window = Math.max(Math.min(NARROWEST, this.#window), this.#window - idle)
      }
      this.#grantedAt = now
      this.#standing = Number.POSITIVE_INFINITY
      this.#limit = Math.max(this.#limit, this.#consumed + this.#window)
    }
    return this.#limit
  }

  // -- the application ---------------------------------------------------------------------------------------------

  /** The next contiguous bytes, of any length, or `undefined` while there are none. */
  read(): Uint8Array | undefined {
    const bytes = this.#take()
    const unread = this.#contiguous - this.#consumed
    if (unread < this.#standing) this.#standing = unread
    return bytes
  }

  #take(): Uint8Array | undefined {
    const from = this.#consumed
    if (from >= this.#contiguous) {
      if (this.finished) {
        this.#endSeen = true
        this.#dropBlock()
      }
      return undefined
    }
    if (this.#head < this.#pieces.length && this.#starts[this.#head] === from) {
      const piece = this.#pieces[this.#head] as Uint8Array
      const bytes = piece.subarray(this.#froms[this.#head], this.#tos[this.#head])
      this.#consumed += bytes.length
      if (++this.#head === this.#pieces.length) {
        this.#clearPieces()
        // The stream may rest here for long; only one that moves bulk keeps its block.
        if (this.finished || this.#block.length < LARGEST_BLOCK) this.#dropBlock()
      } else {
        this.#pieces[this.#head - 1] = EMPTY
        this.#compact()
      }
      this.#freePages(from)
      return bytes
    }
    const next = this.#head < this.#pieces.length ? (this.#starts[this.#head] as number) : this.#contiguous
    const page = this.#pages.get(Math.floor(from / PAGE)) as Uint8Array
    const start = from % PAGE
    const bytes = page.subarray(start, Math.min(PAGE, start + next - from))
    this.#consumed += bytes.length
    this.#freePages(from)
    return bytes
  }

  /**
   * Gives up reading: what is unread is dropped and counts as consumed, as does what still comes. Answers how many bytes
   * that dropped. The owner sends STOP while `sizeKnown` is false.
   */
  stop(code = 0): number {
    if (this.#dropping || this.finished) return 0
    this.#stopCode = code
    const unread = this.#highest - this.#consumed
    this.#drop()
    return unread
  }

  // ------------------------------------------------------------------------------------------------------------------

  /** Nobody will read what comes: it is counted and let go. */
  get #dropping(): boolean {
    return this.#resetCode !== undefined || this.#stopCode !== undefined
  }

  #grow(end: number): Outcome {
    this.#outcome.fresh = Math.max(end - this.#highest, 0)
    if (end > this.#highest) this.#highest = end
    if (this.#dropping) {
      this.#consumed = this.#highest
      this.#contiguous = this.#highest
    }
    return this.#outcome
  }

  #drop(): void {
    this.#clearPieces()
    this.#dropBlock()
    this.#pages.clear()
    this.#beyond.clear()
    this.#consumed = this.#highest
    this.#contiguous = this.#highest
  }

  /** Takes bytes of which some are beyond `#contiguous`; false when they would leave too many gaps. */
  #accept(offset: number, end: number, data: Uint8Array): boolean {
    const from = Math.max(offset, this.#contiguous)
    const bytes = from === offset ? data : data.subarray(from - offset)
    if (from > this.#contiguous) {
      if (!this.#beyond.insert(from, end - 1)) return false
      this.#store(from, bytes)
      return true
    }
    const lowest = this.#beyond.lowest
    if (lowest >= 0 && end >= lowest) {
      // It closes a gap: what lies beyond is in pages, and so is this.
      this.#store(from, bytes)
      this.#contiguous = end
      while (this.#beyond.count > 0 && this.#beyond.lowest <= this.#contiguous) {
        this.#contiguous = Math.max(this.#contiguous, this.#beyond.endAt(this.#beyond.count - 1) + 1)
        this.#beyond.dropLowest()
      }
      return true
    }
    this.#gather(from, bytes)
    this.#contiguous = end
    return true
  }

  /** Keeps bytes that are next in order. */
  #gather(offset: number, bytes: Uint8Array): void {
    const { length } = bytes
    if (length >= LARGE && length * 2 >= bytes.buffer.byteLength) {
      this.#push(bytes, 0, length, offset)
      return
    }
    if (length <= SHORT && this.#head === this.#pieces.length && this.#blockUsed + length > this.#block.length) {
      this.#push(new Uint8Array(bytes), 0, length, offset)
      return
    }
    for (let at = 0; at < length; ) {
      if (this.#blockUsed === this.#block.length) this.#nextBlock(length - at)
      const from = this.#blockUsed
      const take = Math.min(length - at, this.#block.length - from)
      this.#block.set(take === length ? bytes : bytes.subarray(at, at + take), from)
      this.#blockUsed += take
      if (this.#continues(from, offset + at)) this.#tos[this.#tos.length - 1] = this.#blockUsed
      else this.#push(this.#block, from, this.#blockUsed, offset + at)
      at += take
    }
  }

  /** Whether the last piece ends in the block at `from` and in the stream at `offset`: pages may lie between. */
  #continues(from: number, offset: number): boolean {
    const last = this.#pieces.length - 1
    if (last < this.#head || this.#pieces[last] !== this.#block || this.#tos[last] !== from) return false
    return (this.#starts[last] as number) + from - (this.#froms[last] as number) === offset
  }

  #nextBlock(least: number): void {
    if (this.#block.length > 0) this.#blockSize = Math.min(2 * this.#blockSize, LARGEST_BLOCK)
    // A narrow window is not worth wide blocks.
    const most = Math.max(LEAST_BLOCK, Math.min(LARGEST_BLOCK, this.#window / 8))
    this.#block = new Uint8Array(Math.min(Math.max(this.#blockSize, least), most))
    this.#blockUsed = 0
  }

  #dropBlock(): void {
    this.#block = EMPTY
    this.#blockUsed = 0
  }

  #push(piece: Uint8Array, from: number, to: number, start: number): void {
    this.#pieces.push(piece)
    this.#froms.push(from)
    this.#tos.push(to)
    this.#starts.push(start)
  }

  #clearPieces(): void {
    this.#pieces = []
    this.#froms = []
    this.#tos = []
    this.#starts = []
    this.#head = 0
  }

  #store(offset: number, bytes: Uint8Array): void {
    let at = 0
    while (at < bytes.length) {
      const index = Math.floor((offset + at) / PAGE)
      const start = (offset + at) % PAGE
      let page = this.#pages.get(index)
      if (page === undefined) {
        page = new Uint8Array(PAGE)
        this.#pages.set(index, page)
      }
      const length = Math.min(bytes.length - at, PAGE - start)
      page.set(length === bytes.length ? bytes : bytes.subarray(at, at + length), start)
      at += length
    }
  }

  /** Lets go of the pages that lie between `from` and what was read. */
  #freePages(from: number): void {
    if (this.#pages.size === 0) return
    const past = Math.floor(this.#consumed / PAGE)
    for (let index = Math.floor(from / PAGE); index < past; index++) this.#pages.delete(index)
    // Nothing unread lies in the last one: the stream may rest here for long.
    if (this.#consumed === this.#contiguous && this.#beyond.count === 0) this.#pages.clear()
  }

  #compact(): void {
    if (this.#head < 64 || this.#head * 2 < this.#pieces.length) return
    for (const column of [this.#pieces, this.#froms, this.#tos, this.#starts]) column.splice(0, this.#head)
    this.#head = 0
  }
}

const EMPTY = new Uint8Array(0)
