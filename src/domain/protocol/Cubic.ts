/**
 * CUBIC, RFC 9438, with HyStart++, RFC 9406: slow start that ends when the round trip grows, one reduction to seven tenths
 * per round trip with losses, growth along a cubic around the window at the last loss and never slower than Reno would, the
 * minimum after persistent congestion. A reduction whose losses all turn out to be late arrivals is undone (section 4.9).
 */
import type { AckSample, Controller } from "./Congestion.ts"
import { INITIAL_RTT_MS } from "./Constants.ts"
import type { Rtt } from "./Rtt.ts"

/** RFC 9438: C in datagrams per cubic second (section 4.1), the reduction (4.6), Reno's growth with it (4.3). */
const C = 0.4
const BETA = 0.7
const ALPHA = (3 * (1 - BETA)) / (1 + BETA)
/** A target is at most this much of the window (section 4.2). */
const TARGET_MAX = 1.5
/** RFC 9406 section 4.3: milliseconds of growth, and its share, that end a slow start; samples a round must have. */
const MIN_RTT_THRESHOLD_MS = 4
const MAX_RTT_THRESHOLD_MS = 16
const MIN_RTT_DIVISOR = 8
const ROUND_SAMPLES = 8
/** Conservative slow start: a fourth of the growth, for so many rounds. */
const CSS_GROWTH_DIVISOR = 4
const CSS_ROUNDS = 5
/** Datagrams: initial window with its cap for large ones, least window (RFC 9002 section 7.2). */
const INITIAL_DATAGRAMS = 10
const INITIAL_CAP = 14_720
const MINIMUM_DATAGRAMS = 2
/** RFC 9002 section 7.7. */
const PACING_GAIN = 1.25
const SLOW_START_GAIN = 2
const LEAST_RTT_MS = 0.1

const NEVER = Number.POSITIVE_INFINITY

export class Cubic implements Controller {
  readonly name = "cubic"
  #maxDatagram: number
  #window: number
  #threshold = NEVER
  #smoothedRtt = INITIAL_RTT_MS
  /** Losses of packets sent up to then belong to a reduction already made. */
  #recoveryStart = Number.NEGATIVE_INFINITY

  // Congestion avoidance: W_max, when its epoch began (below zero: with the next growth), K in seconds, Reno's window.
  #maximum = 0
  #epochAt = -1
  #period = 0
  #reno = 0
  /** The window was not in use since then; the clock of the epoch stands still. */
  #idleSince = -1

  // HyStart++: the current round ends once what was delivered at its start plus its window is.
  #delivered = 0
  #roundEnd = 0
  #roundMin = NEVER
  #lastRoundMin = NEVER
  #samples = 0
  #cssRounds = 0
  #cssBaseline = NEVER

  // State before the last reduction, and its losses not yet proven late; 0 when there is nothing to undo.
  #priorWindow = 0
  #priorThreshold = 0
  #priorMaximum = 0
  #priorPeriod = 0
  #priorEpochAt = -1
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

  onAcked(now: number, sentAt: number, bytes: number, rtt: Rtt, appLimited: boolean): void {
    if (sentAt <= this.#recoveryStart) return
    if (appLimited) {
      if (this.#idleSince < 0) this.#idleSince = now
      return
    }
    if (this.#window < this.#threshold) {
      this.#sampleRound(now - sentAt)
      this.#window += this.#cssRounds > 0 ? bytes / CSS_GROWTH_DIVISOR : bytes
      return
    }
    this.#avoid(now, bytes, rtt.smoothed)
  }

  onAckEnd(_now: number, sample: AckSample, rtt: Rtt): void {
    this.#smoothedRtt = rtt.smoothed
    this.#delivered = sample.delivered
    if (this.#window < this.#threshold && sample.priorDelivered >= this.#roundEnd) this.#startRound()
  }

  onLost(): void {}

  onCongestionEvent(now: number, sentAt: number, persistent: boolean, lostBytes: number): void {
    if (sentAt > this.#recoveryStart) {
      this.#priorWindow = this.#window
      this.#priorThreshold = this.#threshold
      this.#priorMaximum = this.#maximum
      this.#priorPeriod = this.#period
      this.#priorEpochAt = this.#epochAt
      this.#unprovenBytes = lostBytes
      // Fast convergence (section 4.7): below the last maximum, make room for others.
      this.#maximum = this.#window < this.#maximum ? (this.#window * (1 + BETA)) / 2 : this.#window
      this.#reduce(now)
    } else if (this.#unprovenBytes > 0) {
      this.#unprovenBytes += lostBytes
    }
    if (!persistent) return
    this.#window = this.#minimum
    this.#epochAt = -1
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
    this.#maximum = this.#priorMaximum
    this.#period = this.#priorPeriod
    this.#epochAt = this.#priorEpochAt
    this.#recoveryStart = Number.NEGATIVE_INFINITY
  }

  setMaxDatagram(bytes: number): void {
    this.#maxDatagram = bytes
    this.#window = Math.max(this.#window, this.#minimum)
  }

  get #minimum(): number {
    return MINIMUM_DATAGRAMS * this.#maxDatagram
  }

  #reduce(now: number): void {
    this.#recoveryStart = now
    this.#window = Math.max(this.#window * BETA, this.#minimum)
    this.#threshold = this.#window
    this.#epochAt = -1
    this.#cssRounds = 0
  }

  /** Sections 4.2 to 4.5: the cubic a round trip ahead, or Reno's window where that is larger. */
  #avoid(now: number, bytes: number, rttMs: number): void {
    const datagram = this.#maxDatagram
    if (this.#epochAt < 0) {
      this.#epochAt = now
      this.#reno = this.#window
      if (this.#maximum < this.#window) this.#maximum = this.#window
      this.#period = Math.cbrt((this.#maximum - this.#window) / datagram / C)
    } else if (this.#idleSince >= 0) {
      this.#epochAt += now - this.#idleSince
    }
    this.#idleSince = -1
    const t = (now - this.#epochAt + rttMs) / 1000 - this.#period
    const cubic = C * datagram * t * t * t + this.#maximum
    const target = Math.min(Math.max(cubic, this.#window), TARGET_MAX * this.#window)
    const share = bytes / this.#window
    this.#reno += (this.#reno < this.#maximum ? ALPHA : 1) * datagram * share
    this.#window = Math.max(this.#window + (target - this.#window) * share, this.#reno)
  }

  // -- HyStart++ ---------------------------------------------------------------------------------------------------

  #startRound(): void {
    this.#roundEnd = this.#delivered
    if (this.#samples >= ROUND_SAMPLES) this.#lastRoundMin = this.#roundMin
    this.#roundMin = NEVER
    this.#samples = 0
    if (this.#cssRounds === 0) return
    // Still too slow a path after some careful rounds: this was the end of slow start.
    if (++this.#cssRounds > CSS_ROUNDS) this.#threshold = this.#window
  }

  #sampleRound(rttMs: number): void {
    this.#samples++
    if (rttMs < this.#roundMin) this.#roundMin = rttMs
    if (this.#samples < ROUND_SAMPLES || this.#lastRoundMin === NEVER) return
    if (this.#cssRounds > 0) {
      // The growth was a passing one: on with slow start.
      if (this.#roundMin < this.#cssBaseline) {
        this.#cssRounds = 0
        this.#cssBaseline = NEVER
      }
      return
    }
    const growth = Math.min(Math.max(this.#lastRoundMin / MIN_RTT_DIVISOR, MIN_RTT_THRESHOLD_MS), MAX_RTT_THRESHOLD_MS)
    if (this.#roundMin < this.#lastRoundMin + growth) return
    this.#cssBaseline = this.#roundMin
    this.#cssRounds = 1
  }
}

/** A `Congestion.Factory`. */
export const make = (_now: number, maxDatagram: number): Controller => new Cubic(maxDatagram)
