/**
 * Spreads packets over the round trip (RFC 9002 section 7.7): a bucket that fills at the controller's rate and holds one
 * burst. A burst is ten datagrams (of large ones, as many as make 128 kB, at least two) or two milliseconds' worth,
 * whichever is more, because a host's timers tick in milliseconds: a smaller one would cap the rate. `now` never goes back.
 */
import type { Controller } from "./Congestion.ts"
import { PACER_BURST_DATAGRAMS, PACER_BURST_MAX, PACER_BURST_MS } from "./Constants.ts"

/** Milliseconds: a wait shorter than this is none, up to a datagram's worth; it absorbs the rounding of large clock values. */
const SLACK_MS = 0.01
/** Bytes, and datagrams: ten datagrams of 64 kB would overrun a socket's receive buffer. */
const LARGE_BURST = 131_072
const LARGE_BURST_DATAGRAMS = 2

export class Pacer {
  #controller: Controller
  #maxDatagram: number
  /** Bytes that may leave at `#at`; below zero after packets that did not ask. Full before the first packet. */
  #tokens = Number.POSITIVE_INFINITY
  #at = Number.NEGATIVE_INFINITY

  constructor(controller: Controller, maxDatagram: number) {
    this.#controller = controller
    this.#maxDatagram = maxDatagram
  }

  /** When `bytes` may leave: `now`, or the time to ask again. */
  delayUntil(now: number, bytes: number): number {
    const rate = this.#controller.pacingRate()
    const burst = this.#fill(now, rate)
    // A datagram longer than a burst leaves once the bucket is full.
    const missing = Math.min(bytes, burst) - this.#tokens
    return missing < Math.min(SLACK_MS * rate, this.#maxDatagram) ? now : now + missing / rate
  }

  onSent(now: number, bytes: number): void {
    this.#fill(now, this.#controller.pacingRate())
    this.#tokens -= bytes
  }

  /** Another path: the bucket is full again. */
  reset(controller: Controller, maxDatagram: number): void {
    this.#controller = controller
    this.#maxDatagram = maxDatagram
    this.#tokens = Number.POSITIVE_INFINITY
    this.#at = Number.NEGATIVE_INFINITY
  }

  setMaxDatagram(bytes: number): void {
    this.#maxDatagram = bytes
  }

  /** Brings the bucket to `now`; answers its size. */
  #fill(now: number, rate: number): number {
    const datagrams = Math.min(
      PACER_BURST_DATAGRAMS * this.#maxDatagram,
      Math.max(LARGE_BURST, LARGE_BURST_DATAGRAMS * this.#maxDatagram)
    )
    const burst = Math.max(datagrams, Math.min(PACER_BURST_MS * rate, PACER_BURST_MAX))
    this.#tokens = Math.min(burst, this.#tokens + (now - this.#at) * rate)
    this.#at = now
    return burst
  }
}
