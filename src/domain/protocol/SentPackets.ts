/**
 * The packets whose fate is open, in a ring of parallel columns that grows by doubling: nothing is allocated per packet.
 * It covers the packet numbers from `base` up to, not including, `next`. Columns are read by `slot(packetNumber)`; a slot
 * is good until the next `push`.
 */
import { MAX_TRACKED_PACKETS } from "./Constants.ts"

/** What is known of a packet number. `None`: left out, sent without being tracked, or forgotten. */
export const Fate = { None: 0, Open: 1, Acked: 2, Lost: 3 } as const
export type Fate = (typeof Fate)[keyof typeof Fate]

const INITIAL_CAPACITY = 64

export class SentPackets<T> {
  base = 0
  next = 0
  fate = new Uint8Array(INITIAL_CAPACITY)
  ackEliciting = new Uint8Array(INITIAL_CAPACITY)
  appLimited = new Uint8Array(INITIAL_CAPACITY)
  bytes = new Int32Array(INITIAL_CAPACITY)
  sentAt = new Float64Array(INITIAL_CAPACITY)
  /** State of the delivery-rate estimator when the packet left; see `DeliveryRate`. */
  delivered = new Float64Array(INITIAL_CAPACITY)
  deliveredAt = new Float64Array(INITIAL_CAPACITY)
  firstSentAt = new Float64Array(INITIAL_CAPACITY)
  inFlight = new Float64Array(INITIAL_CAPACITY)
  lost = new Float64Array(INITIAL_CAPACITY)
  content: Array<T | undefined> = new Array<T | undefined>(INITIAL_CAPACITY).fill(undefined)
  #capacity = INITIAL_CAPACITY
  /** Slot of `base`. */
  #head = 0

  /** No room: `shift` first. */
  get full(): boolean {
    return this.next - this.base >= MAX_TRACKED_PACKETS
  }

  /** Slot of a packet number between `base` and `next`. */
  slot(packetNumber: number): number {
    return (this.#head + (packetNumber - this.base)) & (this.#capacity - 1)
  }

  /** Takes the number `next` into the ring, its fate `None`, and answers its slot. Not while `full`. */
  push(): number {
    if (this.next - this.base === this.#capacity) this.#grow()
    const slot = this.slot(this.next++)
    this.fate[slot] = Fate.None
    return slot
  }

  /** Forgets `base`. */
  shift(): void {
    this.content[this.#head] = undefined
    this.#head = (this.#head + 1) & (this.#capacity - 1)
    this.base++
  }

  /** Forgets everything; the next packet number is `next`. */
  clear(next: number): void {
    this.content.fill(undefined)
    this.#head = 0
    this.base = next
    this.next = next
  }

  #grow(): void {
    const capacity = this.#capacity * 2
    const head = this.#head
    const unroll = <A extends Uint8Array | Int32Array | Float64Array>(from: A, to: A): A => {
      to.set(from.subarray(head))
      to.set(from.subarray(0, head), from.length - head)
      return to
    }
    this.fate = unroll(this.fate, new Uint8Array(capacity))
    this.ackEliciting = unroll(this.ackEliciting, new Uint8Array(capacity))
    this.appLimited = unroll(this.appLimited, new Uint8Array(capacity))
    this.bytes = unroll(this.bytes, new Int32Array(capacity))
    this.sentAt = unroll(this.sentAt, new Float64Array(capacity))
    this.delivered = unroll(this.delivered, new Float64Array(capacity))
    this.deliveredAt = unroll(this.deliveredAt, new Float64Array(capacity))
    this.firstSentAt = unroll(this.firstSentAt, new Float64Array(capacity))
    this.inFlight = unroll(this.inFlight, new Float64Array(capacity))
    this.lost = unroll(this.lost, new Float64Array(capacity))
    const content = new Array<T | undefined>(capacity).fill(undefined)
    for (let i = 0; i < this.#capacity; i++) content[i] = this.content[(head + i) & (this.#capacity - 1)]
    this.content = content
    this.#head = 0
    this.#capacity = capacity
  }
}
