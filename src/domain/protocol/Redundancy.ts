/**
 * Forward error correction for small, latency-critical messages: while packets are being lost, what little was just sent is
 * sent once more a moment later, so that a single loss costs that moment instead of a round trip and a probe timeout.
 *
 * The copy is an ordinary packet with the same frames, and its receiver needs to know nothing of it. Against a parity packet
 * (the XOR of the last k plaintexts), simulated under random and bursty loss, a lone message fares the same, a group
 * recovers from any number of losses instead of one, and small messages of one moment share one copy, so it needs no more
 * packets; parity saves bytes only where several large packets leave together, and that is bulk. A copy also needs no
 * second decoder, keeps no plaintexts, and hides no loss from congestion control: original and copy each count.
 *
 * Sans-IO: `now` (ms) never goes back. `T` is what the owner needs to write a packet's frames again. It calls `onSent`
 * for each packet with such frames that is no copy, `onAcked` and `onLost` for each fate, and, once `deadline` has passed,
 * `poll`; what that answers it sends again, unless new data waits to be sent or congestion control allows no packet.
 *
 * Copies are made for `REDUNDANCY_MEMORY` packets after each loss: nearly always at 1 % of loss, hardly ever at 0.01 %.
 */
import { REDUNDANCY_BYTES, REDUNDANCY_DELAY_MS, REDUNDANCY_MEMORY, REDUNDANCY_PACKETS } from "./Constants.ts"

/** Of the smoothed round trip; milliseconds that a host's timers can tell from nothing. */
const DELAY_OF_RTT = 1 / 4
const LEAST_DELAY_MS = 1

export class Redundancy<T> {
  /** When to call `poll`; `Infinity` for never. */
  deadline = Number.POSITIVE_INFINITY

  /** Packets to be decided without a loss until copying stops. */
  #left = 0
  readonly #contents: Array<T> = []
  readonly #numbers: Array<number> = []
  #bytes = 0
  /** Packets since the deadline was set; more than a few are a train, which loss detection serves well. */
  #train = 0
  readonly #due: Array<T> = []

  /** Whether small packets are being copied. */
  get active(): boolean {
    return this.#left > 0
  }

  /** A packet has left. `rttMs`: the smoothed round trip. */
  onSent(now: number, packetNumber: number, bytes: number, content: T, rttMs: number): void {
    if (this.#left === 0) return
    if (this.deadline === Number.POSITIVE_INFINITY) {
      this.#train = 0
      this.deadline = now + Math.min(Math.max(rttMs * DELAY_OF_RTT, LEAST_DELAY_MS), REDUNDANCY_DELAY_MS)
    }
    this.#train++
    this.#bytes += bytes
    if (this.#train > REDUNDANCY_PACKETS || this.#bytes > REDUNDANCY_BYTES) {
      // The timer runs on, so that the rest of the train is not taken for something new.
      this.#train = REDUNDANCY_PACKETS
      this.#forget()
      return
    }
    this.#contents.push(content)
    this.#numbers.push(packetNumber)
  }

  onAcked(packetNumber: number): void {
    if (this.#left === 0) return
    if (--this.#left === 0) this.clear()
    else if (this.#numbers.length > 0) this.#settle(packetNumber)
  }

  onLost(packetNumber: number): void {
    this.#left = REDUNDANCY_MEMORY
    if (this.#numbers.length > 0) this.#settle(packetNumber)
  }

  /** What to send once more now; valid until the next call. */
  poll(now: number): ReadonlyArray<T> {
    const due = this.#due
    due.length = 0
    if (this.deadline > now) return due
    this.deadline = Number.POSITIVE_INFINITY
    for (const content of this.#contents) due.push(content)
    this.#forget()
    return due
  }

  /** Stops: nothing is due, and nothing is copied until losses are seen again. */
  clear(): void {
    this.#left = 0
    this.deadline = Number.POSITIVE_INFINITY
    this.#forget()
  }

  #forget(): void {
    this.#contents.length = 0
    this.#numbers.length = 0
    this.#bytes = 0
  }

  /** The fate of a packet is known before its copy was due. */
  #settle(packetNumber: number): void {
    const at = this.#numbers.indexOf(packetNumber)
    if (at === -1) return
    this.#numbers.splice(at, 1)
    this.#contents.splice(at, 1)
  }
}
