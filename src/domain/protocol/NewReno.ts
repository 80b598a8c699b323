/**
 * NewReno, RFC 9002 section 7 and appendix B: slow start, one halving per round trip with losses, one datagram per window of
 * acknowledged bytes afterwards, the minimum after persistent congestion. A halving whose losses all turn out to be late
 * arrivals is undone.
 */
import type { AckSample, Controller } from "./Congestion.ts"
import { INITIAL_RTT_MS } from "./Constants.ts"
import type { Rtt } from "./Rtt.ts"

/** Datagrams: the initial window (section 7.2, with its cap for large ones) and the least window. */
const INITIAL_DATAGRAMS = 10
const INITIAL_CAP = 14_720
const MINIMUM_DATAGRAMS = 2
const LOSS_REDUCTION = 0.5
/** Section 7.7: a little faster than the window allows, so that pacing never starves it. */
const PACING_GAIN = 1.25
const SLOW_START_GAIN = 2
/** Milliseconds: keeps the rate finite where a round trip is shorter than the clock shows. */
const LEAST_RTT_MS = 0.1

export class NewReno implements Controller {
  readonly name = "new-reno"
  #maxDatagram: number
  #window: number
  #threshold = Number.POSITIVE_INFINITY
  #smoothedRtt = INITIAL_RTT_MS
  /** Losses of packets sent up to then belong to a reduction already made. */
  #recoveryStart = Number.NEGATIVE_INFINITY
  /** Bytes acknowledged since the last growth by one datagram. */
  #credit = 0
  /** State before the last reduction, and its losses not yet proven late; 0 when there is nothing to undo. */
  #priorWindow = 0
  #priorThreshold = 0
  #unprovenBytes = 0

  constructor(maxDatagram: number) {
    this.#maxDatagram = maxDatagram
    this.#window = Math.min(INITIAL_DATAGRAMS * maxDatagram, Math.max(INITIAL_CAP, MINIMUM_DATAGRAMS * maxDatagram))
  }

  window(): number {
    return this.#window
  }

  pacingRate(): number {
    const gain = this.#window < this.#threshold ? SLOW_START_GAIN : PACING_GAIN
    return (gain * this.#window) / Math.max(this.#smoothedRtt, LEAST_RTT_MS)
  }

  onSent(): void {}

  onAcked(_now: number, sentAt: number, bytes: number, _rtt: Rtt, appLimited: boolean): void {
    if (appLimited || sentAt <= this.#recoveryStart) return
    if (this.#window < this.#threshold) {
      this.#window += bytes
      return
    }
    this.#credit += bytes
    if (this.#credit < this.#window) return
    this.#credit -= this.#window
    this.#window += this.#maxDatagram
  }

  onAckEnd(_now: number, _sample: AckSample, rtt: Rtt): void {
    this.#smoothedRtt = rtt.smoothed
  }

  onLost(): void {}

  onCongestionEvent(now: number, sentAt: number, persistent: boolean, lostBytes: number): void {
    if (sentAt > this.#recoveryStart) {
      this.#priorWindow = this.#window
      this.#priorThreshold = this.#threshold
      this.#unprovenBytes = lostBytes
      this.#recoveryStart = now
      this.#window = Math.max(Math.floor(this.#window * LOSS_REDUCTION), this.#minimum)
      this.#threshold = this.#window
      this.#credit = 0
    } else if (this.#unprovenBytes > 0) {
      this.#unprovenBytes += lostBytes
    }
    if (!persistent) return
    this.#window = this.#minimum
    this.#recoveryStart = Number.NEGATIVE_INFINITY
    this.#unprovenBytes = 0
  }

  onSpuriousLoss(_now: number, sentAt: number, bytes: number): void {
    if (this.#unprovenBytes === 0 || sentAt > this.#recoveryStart) return
    this.#unprovenBytes -= bytes
    if (this.#unprovenBytes > 0) return
    this.#unprovenBytes = 0
    this.#window = Math.max(this.#window, this.#priorWindow)
    this.#threshold = this.#priorThreshold
    this.#recoveryStart = Number.NEGATIVE_INFINITY
  }

  setMaxDatagram(bytes: number): void {
    this.#maxDatagram = bytes
    this.#window = Math.max(this.#window, this.#minimum)
  }

  get #minimum(): number {
    return MINIMUM_DATAGRAMS * this.#maxDatagram
  }
}

/** A `Congestion.Factory`. */
export const make = (_now: number, maxDatagram: number): Controller => new NewReno(maxDatagram)
