/**
 * The outgoing half of one stream: what was written and is not yet acknowledged, what of it must be sent again, and its
 * end. Written chunks are kept by reference and must not change afterwards; they are let go as soon as everything up to
 * their end is acknowledged.
 *
 * What `next` handed out comes back through `onAcked` or `onLost`, in any order, more than once or not at all, even after it
 * was acknowledged. How much may wait is the writer's to bound, by `buffered`.
 */
import { OffsetSet } from "./OffsetSet.ts"

/**
 * "open": takes bytes. "finSent": its end is fixed, and sent or about to be. "resetSent": given up; the owner sends RESET
 * until it is acknowledged. "done": the peer has everything, or the reset.
 */
export type State = "open" | "finSent" | "resetSent" | "done"

/** A STREAM frame to send, valid until the next call. `data` may be a view of what was written. */
export interface Chunk {
  readonly id: number
  readonly offset: number
  readonly data: Uint8Array
  readonly fin: boolean
  /** How many of its bytes were never sent before and count against the session's flow control. */
  readonly fresh: number
}

/** Bytes: smaller writes are copied together into one frame, larger ones travel as views of their own. */
const SMALL = 512
/** Chunks: a dead prefix longer than this and half of the list is cut off. */
const COMPACT = 64
const EMPTY = new Uint8Array(0)

export class SendStream {
  readonly id: number
  #state: State = "open"
  /** Chunks and the offsets at which they start; those before `#head` are acknowledged and released. */
  #chunks: Array<Uint8Array> = []
  #starts: Array<number> = []
  #head = 0
  /** Index of the chunk that holds `#sent`, or of the one to come. */
  #cursor = 0
  /** Bytes written; bytes ever sent; bytes acknowledged without a gap. */
  #end = 0
  #sent = 0
  #ackedTo = 0
  /** Acknowledged beyond `#ackedTo`. */
  readonly #acked = new OffsetSet()
  /** Lost, not acknowledged and not sent again. */
  readonly #lost = new OffsetSet()
  /** The end is fixed and must be sent, for the first time or again. */
  #finDue = false
  #finAcked = false
  #peerLimit: number
  readonly #out: { -readonly [Field in keyof Chunk]: Chunk[Field] }
  #resetCode: number | undefined

  constructor(id: number, peerLimit: number) {
    this.id = id
    this.#peerLimit = peerLimit
    this.#out = { id, offset: 0, data: EMPTY, fin: false, fresh: 0 }
  }

  get state(): State {
    return this.#state
  }

  /** Bytes written that are still held because the peer has not acknowledged everything up to them. */
  get buffered(): number {
    return this.#state === "resetSent" || this.#state === "done" ? 0 : this.#end - this.#ackedTo
  }

  /** Bytes written that were never sent. */
  get unsentBytes(): number {
    return this.#state === "resetSent" || this.#state === "done" ? 0 : this.#end - this.#sent
  }

  /** What a RESET names: the bytes that the peer's flow control has counted or will count. */
  get finalSize(): number {
    return this.#sent
  }

  /** Bytes of memory held, for bounds and tests. */
  get held(): number {
    let bytes = 0
    for (const chunk of this.#chunks) bytes += chunk.length
    return bytes
  }

  /** Code of our reset. */
  get resetCode(): number | undefined {
    return this.#resetCode
  }

  // -- the application ---------------------------------------------------------------------------------------------

  /** Queues bytes. Ignored after a reset; after `finish` it is the caller's bug. */
  write(bytes: Uint8Array): void {
    if (this.#state === "finSent") throw new Error(`SendStream ${this.id}: write after finish`)
    if (this.#state !== "open" || bytes.length === 0) return
    this.#chunks.push(bytes)
    this.#starts.push(this.#end)
    this.#end += bytes.length
  }

  /** Nothing more will be written. */
  finish(): void {
    if (this.#state !== "open") return
    this.#state = "finSent"
    this.#finDue = true
  }

  /** Gives up: what is not yet delivered never will be. The owner sends RESET with `code` and `finalSize`. */
  reset(code: number): void {
    if (this.#state === "resetSent" || this.#state === "done") return
    this.#state = "resetSent"
    this.#resetCode = code
    this.#end = this.#sent
    this.#release()
  }

  // -- the wire ----------------------------------------------------------------------------------------------------

  /** Whether `next` would find something, given what the session's flow control leaves. */
  hasPending(sessionCredit: number): boolean {
    if (this.#lost.count > 0) return true
    if (this.#finDue && this.#sent === this.#end) return true
    return sessionCredit > 0 && this.#sent < this.#end && this.#sent < this.#peerLimit
  }

  /**
   * The next frame of at most `maxBytes` of data: what was lost first, then what was never sent, as far as the peer and
   * the session allow. `undefined` when there is none.
   */
  next(maxBytes: number, sessionCredit: number): Chunk | undefined {
    if (this.#lost.count > 0) {
      if (maxBytes <= 0) return undefined
      const offset = this.#lost.start(0)
      const data = this.#view(this.#indexOf(offset), offset, Math.min(maxBytes, this.#lost.end(0) - offset))
      this.#lost.remove(offset, offset + data.length)
      return this.#chunk(offset, data, 0)
    }
    const limit = Math.min(this.#end - this.#sent, this.#peerLimit - this.#sent, sessionCredit, maxBytes)
    if (limit > 0) {
      const offset = this.#sent
      const data = this.#view(this.#cursor, offset, limit)
      this.#sent += data.length
      while (this.#cursor < this.#chunks.length && this.#endOf(this.#cursor) <= this.#sent) this.#cursor++
      return this.#chunk(offset, data, data.length)
    }
    if (this.#finDue && this.#sent === this.#end) return this.#chunk(this.#sent, EMPTY, 0)
    return undefined
  }

  /** The peer has a frame of ours. */
  onAcked(offset: number, length: number, fin: boolean): void {
    if (this.#state === "resetSent" || this.#state === "done") return
    if (fin) {
      this.#finAcked = true
      this.#finDue = false
    }
    const end = offset + length
    if (end > this.#ackedTo) {
      this.#lost.remove(offset, end)
      if (offset > this.#ackedTo) this.#acked.insert(offset, end)
      else {
        this.#ackedTo = end
        while (this.#acked.count > 0 && this.#acked.start(0) <= this.#ackedTo) {
          this.#ackedTo = Math.max(this.#ackedTo, this.#acked.end(0))
          this.#acked.remove(this.#acked.start(0), this.#acked.end(0))
        }
        this.#releaseAcked()
      }
    }
    if (this.#finAcked && this.#ackedTo === this.#end) {
      this.#state = "done"
      this.#release()
    }
  }

  /** A frame of ours is lost: what the peer does not have of it is sent again. */
  onLost(offset: number, length: number, fin: boolean): void {
    if (this.#state === "resetSent" || this.#state === "done") return
    if (fin && !this.#finAcked) this.#finDue = true
    const start = Math.max(offset, this.#ackedTo)
    const end = offset + length
    if (start >= end) return
    this.#lost.insert(start, end)
    for (let i = this.#acked.after(start); i < this.#acked.count && this.#acked.start(i) < end; i++) {
      this.#lost.remove(this.#acked.start(i), this.#acked.end(i))
    }
  }

  /** The peer allows bytes up to `limit`; a smaller limit than before is an old one. */
  setPeerLimit(limit: number): void {
    if (limit > this.#peerLimit) this.#peerLimit = limit
  }

  /** The peer knows of the reset. */
  onResetAcked(): void {
    if (this.#state === "resetSent") this.#state = "done"
  }

  // ------------------------------------------------------------------------------------------------------------------

  #chunk(offset: number, data: Uint8Array, fresh: number): Chunk {
    const fin = this.#state === "finSent" && !this.#finAcked && offset + data.length === this.#end
    if (fin) this.#finDue = false
    const out = this.#out
    out.offset = offset
    out.data = data
    out.fin = fin
    out.fresh = fresh
    return out
  }

  /** At most `length` bytes from `offset`, which lies in the chunk at `index`. */
  #view(index: number, offset: number, length: number): Uint8Array {
    const chunk = this.#chunks[index] as Uint8Array
    const from = offset - (this.#starts[index] as number)
    const first = Math.min(length, chunk.length - from)
    if (first === length || first > SMALL || index + 1 === this.#chunks.length)
      return chunk.subarray(from, from + first)
    // Small writes follow one another: one frame for as many as fit.
    let total = first
    let past = index + 1
    while (past < this.#chunks.length && total < length && (this.#chunks[past] as Uint8Array).length <= SMALL) {
      total += (this.#chunks[past++] as Uint8Array).length
    }
    if (past === index + 1) return chunk.subarray(from, from + first)
    const data = new Uint8Array(Math.min(total, length))
    data.set(chunk.subarray(from, from + first))
    let at = first
    for (let i = index + 1; i < past; i++) {
      const next = this.#chunks[i] as Uint8Array
      const take = Math.min(next.length, data.length - at)
      data.set(take === next.length ? next : next.subarray(0, take), at)
      at += take
    }
    return data
  }

  #endOf(index: number): number {
    return (this.#starts[index] as number) + (this.#chunks[index] as Uint8Array).length
  }

  /** Index of the chunk that holds a sent `offset`. */
  #indexOf(offset: number): number {
    let low = this.#head
    let high = this.#chunks.length - 1
    while (low < high) {
      const middle = (low + high + 1) >>> 1
      if ((this.#starts[middle] as number) <= offset) low = middle
      else high = middle - 1
    }
    return low
  }

  #releaseAcked(): void {
    while (this.#head < this.#cursor && this.#endOf(this.#head) <= this.#ackedTo) {
      // Its start stays until the list is cut: nothing reads below the head.
      this.#chunks[this.#head++] = EMPTY
    }
    if (this.#head < COMPACT || this.#head * 2 < this.#chunks.length) return
    this.#chunks.splice(0, this.#head)
    this.#starts.splice(0, this.#head)
    this.#cursor -= this.#head
    this.#head = 0
  }

  #release(): void {
    this.#chunks = []
    this.#starts = []
    this.#head = 0
    this.#cursor = 0
    this.#acked.clear()
    this.#lost.clear()
    this.#finDue = false
  }
}
