/**
 * What we owe the peer in acknowledgements (RFC 9000 section 13.2): which packets came, and when an ACK must leave.
 *
 * An ACK is due at once for one that arrives out of order or behind a gap, and where the caller asks; for every second
 * ack-eliciting packet, but not sooner than an eighth of a round trip after the last ACK, for more would only cost both sides
 * work; otherwise `MAX_ACK_DELAY_MS` after the first unacknowledged one. Packets that elicit nothing are
 * reported when an ACK leaves for another reason, never on their own, or two idle peers would acknowledge for ever.
 *
 * At most `MAX_ACK_RANGES` ranges are remembered; the lowest go first. A packet that is too old to remember goes
 * unacknowledged: its sender takes it for lost and sends its frames again.
 */
import { MAX_ACK_DELAY_MS, MAX_ACK_RANGES } from "./Constants.ts"
import type * as Frame from "./Frame.ts"
import { RangeSet } from "./RangeSet.ts"

/** Ack-eliciting packets after which an ACK waits no longer (RFC 9000 section 13.2.2). */
const ELICITING_THRESHOLD = 2
/** ACKs in a round trip, and the milliseconds between two that a host's timers can tell from none. */
const ACKS_PER_ROUND_TRIP = 8
const LEAST_SPACING_MS = 1

export class AckTracker {
  readonly #received = new RangeSet(MAX_ACK_RANGES)
  #largest = -1
  #largestTime = 0
  #largestEliciting = -1
  /** Packet numbers below this may have been forgotten: their absence is no gap. */
  #floor = 0
  #unacknowledged = 0
  #pending = false
  #deadline = Number.POSITIVE_INFINITY
  #sentAt = Number.NEGATIVE_INFINITY

  /** The largest packet number received, -1 before the first. */
  get largest(): number {
    return this.#largest
  }

  /** When an ACK must leave, in the clock of `now`; Infinity when none is owed. */
  get deadline(): number {
    return this.#deadline
  }

  /** Whether an ACK sent now would tell the peer something new, owed or not. */
  get pending(): boolean {
    return this.#pending
  }

  /** Whether an ACK must leave now. */
  due(now: number): boolean {
    return this.#deadline <= now
  }

  /**
   * An authenticated packet that the replay window admitted. `immediate` asks for an ACK without delay; `rttMs` is the
   * round-trip time, 0 while unknown.
   */
  onReceived(now: number, packetNumber: number, ackEliciting: boolean, immediate = false, rttMs = 0): void {
    if (!this.#record(packetNumber)) return
    if (packetNumber > this.#largest) {
      this.#largest = packetNumber
      this.#largestTime = now
    }
    this.#pending = true
    if (!ackEliciting) return
    this.#unacknowledged++
    if (immediate || this.#isOutOfOrder(packetNumber)) this.#deadline = Math.min(this.#deadline, now)
    else if (this.#unacknowledged >= ELICITING_THRESHOLD) {
      const spacing = rttMs / ACKS_PER_ROUND_TRIP
      const at = spacing < LEAST_SPACING_MS ? now : Math.max(now, this.#sentAt + Math.min(spacing, MAX_ACK_DELAY_MS))
      this.#deadline = Math.min(this.#deadline, at)
    } else {
      this.#deadline = now + MAX_ACK_DELAY_MS
    }
    if (packetNumber > this.#largestEliciting) this.#largestEliciting = packetNumber
  }

  /**
   * An ACK frame of all that is remembered, its delay counted from the arrival of the largest packet. Throws `RangeError`
   * before anything was received: ask `pending` or `due` first.
   */
  frame(now: number): Frame.Ack {
    if (this.#largest < 0) throw new RangeError("AckTracker: nothing was received")
    const delayUs = Math.max(0, Math.round((now - this.#largestTime) * 1000))
    return { type: "Ack", ranges: this.#received.ranges(), delayUs }
  }

  /** An ACK whose largest packet number is `largest` left: unless more has arrived since, nothing is owed. */
  onAckSent(now: number, largest: number): void {
    this.#sentAt = now
    if (largest < this.#largest) return
    this.#unacknowledged = 0
    this.#pending = false
    this.#deadline = Number.POSITIVE_INFINITY
  }

  /**
   * Drops packet numbers below `below`, once the peer has acknowledged an ACK that named them (its largest number plus
   * one, or less). The largest number received stays whatever `below` is (RFC 9000 section 13.2.3).
   */
  forget(below: number): void {
    const bound = Math.min(below, this.#largest)
    this.#floor = Math.max(this.#floor, bound)
    this.#received.removeBelow(bound)
  }

  /** Whether the packet is new and is remembered. */
  #record(packetNumber: number): boolean {
    const received = this.#received
    if (received.has(packetNumber)) return false
    if (received.insert(packetNumber, packetNumber)) return true
    if (packetNumber < received.lowest) return false
    received.dropLowest()
    return received.insert(packetNumber, packetNumber)
  }

  /** RFC 9000 section 13.2.1: below an ack-eliciting packet seen before, or above it with packets missing between. */
  #isOutOfOrder(packetNumber: number): boolean {
    const largestEliciting = this.#largestEliciting
    if (largestEliciting < 0) return false
    if (packetNumber < largestEliciting) return true
    const received = this.#received
    for (let i = 0; i < received.count; i++) {
      const start = received.startAt(i)
      if (start <= packetNumber) return start > Math.max(largestEliciting + 1, this.#floor)
    }
    return false
  }
}
