/**
 * What losses make BBR hold back. For the long term, the volume in flight at which a probe lost too much; until the next
 * probe, the bandwidth and volume that a congested round delivered (draft-ietf-ccwg-bbr section 4.5.10). `Infinity`: no bound.
 * Changes that rest on losses which all turn out to be late arrivals are taken back.
 *
 * Loss counts here only with a queue, or where the rate falls, or where sending more did not raise it; and only beyond the
 * ambient loss and its scatter (see `BbrModel`).
 */
import type { BbrModel } from "./BbrModel.ts"

/** Share of a window that may be lost in probing; without a queue it takes more to convince. */
const LOSS_SHARE = 0.02
const LOSS_SHARE_NO_QUEUE = 0.1
/** Share of a round that may be lost while a queue stands, when not probing. */
const LOSS_SHARE_CRUISE = 0.01
/** A round delivers less than this part of the bandwidth: it falls. Rounds in a row of which that must be true. */
const FALLING = 0.85
const FALLING_ROUNDS = 2
/** Deviations of the ambient loss that may be chance: of one look, and of rounds in a row. */
const DEVIATIONS = 4
const DEVIATIONS_FALLING = 2
/** Part of what a congested round delivered that we ask for until the next probe: the rest is for those who have less. */
const YIELD = 0.87
/** Least factor by which a bound shrinks at once; part of the long-term bound left to others. */
const BETA = 0.7
const HEADROOM = 0.85
/** The long-term bound grows by this part of the window in a probe's first round, then twice as fast every round. */
const FIRST_STEP = 1 / 32
const MAX_DOUBLINGS = 30

const NEVER = Number.POSITIVE_INFINITY

export class BbrBounds {
  shortBandwidth = NEVER
  shortInFlight = NEVER
  longInFlight = NEVER
  /** Most that the current round has delivered: per millisecond, and within one sample. */
  latestBandwidth = 0
  latestInFlight = 0

  readonly #model: BbrModel
  #roundAcked = 0
  #roundLost = 0
  #roundLostQueued = 0
  #fallingRounds = 0

  #bytesPerStep = NEVER
  #doublings = 0
  #acked = 0

  /** Losses of packets sent up to then belong to the episode; its bytes not yet proven late, 0 when there is nothing to undo. */
  #episodeAt = Number.NEGATIVE_INFINITY
  #unproven = 0
  #priorBandwidth = NEVER
  #priorInFlight = NEVER
  #priorLong = NEVER

  constructor(model: BbrModel) {
    this.#model = model
  }

  // -- rounds ------------------------------------------------------------------------------------------------------

  onAcked(bytes: number): void {
    this.#roundAcked += bytes
  }

  onLost(bytes: number): void {
    this.#roundLost += bytes
    if (this.#model.queueStands) this.#roundLostQueued += bytes
  }

  /** A sample of this round; a rate of 0 is none. */
  onSample(rate: number, bytes: number): void {
    if (rate === 0) return
    if (rate > this.latestBandwidth) this.latestBandwidth = rate
    if (bytes > this.latestInFlight) this.latestInFlight = bytes
  }

  /** A round has passed: if it was congested, and not by our own probe, ask for less than it delivered. */
  endRound(probing: boolean, bandwidth: number, window: number): void {
    const total = this.#roundAcked + this.#roundLost
    const queued = this.#roundLostQueued > total * LOSS_SHARE_CRUISE + this.#ambient(total, DEVIATIONS)
    const falling =
      this.#roundLost > total * LOSS_SHARE_NO_QUEUE + this.#ambient(total, DEVIATIONS_FALLING) &&
      this.latestBandwidth < FALLING * bandwidth
    this.#fallingRounds = falling ? this.#fallingRounds + 1 : 0
    if (probing || !(queued || this.#fallingRounds >= FALLING_ROUNDS)) return
    this.#save()
    const from = this.shortBandwidth === NEVER ? this.#model.maxBandwidth : this.shortBandwidth
    const fromInFlight = this.shortInFlight === NEVER ? window : this.shortInFlight
    this.shortBandwidth = Math.max(YIELD * this.latestBandwidth, BETA * from)
    this.shortInFlight = Math.max(YIELD * this.latestInFlight, BETA * fromInFlight)
  }

  /** The next round begins. */
  startRound(): void {
    this.latestBandwidth = 0
    this.latestInFlight = 0
    this.#roundAcked = 0
    this.#roundLost = 0
    this.#roundLostQueued = 0
  }

  // -- judgement ---------------------------------------------------------------------------------------------------

  /** Whether so much lost of so many bytes in flight means congestion; `growing`: the rate grows in spite of it. */
  tooMuchLost(lost: number, inFlight: number, growing: boolean): boolean {
    if (lost <= inFlight * LOSS_SHARE) return false
    const queue = this.#model.queueStands
    if (!queue && growing) return false
    return lost > inFlight * (queue ? LOSS_SHARE : LOSS_SHARE_NO_QUEUE) + this.#ambient(inFlight, DEVIATIONS)
  }

  /** Of a window `inFlight` whose last `bytes` tipped the scale, the part before that. */
  tolerated(inFlight: number, lost: number, bytes: number): number {
    const share = LOSS_SHARE + this.#model.ambientLoss
    const before = inFlight - bytes
    return before + Math.max(0, (share * before - (lost - bytes)) / (1 - share))
  }

  /** What may be lost of so many bytes without being more than the ambient loss. */
  #ambient(bytes: number, deviations: number): number {
    const { ambientLoss, maxDatagram } = this.#model
    const lost = ambientLoss * bytes
    return lost + deviations * Math.sqrt(lost * maxDatagram)
  }

  // -- the long-term bound -----------------------------------------------------------------------------------------

  /** What may be in flight when not probing. */
  get withHeadroom(): number {
    return HEADROOM * this.longInFlight
  }

  /** A probe lost too much with `inFlight` under way. */
  lower(inFlight: number, target: number): void {
    this.#save()
    this.longInFlight = Math.max(inFlight, BETA * target)
  }

  /** Before the next probe: the short-term bounds end, and the long-term one grows slowly at first. */
  release(window: number, maxDatagram: number): void {
    this.shortBandwidth = NEVER
    this.shortInFlight = NEVER
    this.#acked = 0
    this.#doublings = Math.max(0, Math.floor(Math.log2((FIRST_STEP * window) / maxDatagram)))
    this.steepen(window, maxDatagram)
  }

  /** Twice as fast from now on. */
  steepen(window: number, maxDatagram: number): void {
    this.#bytesPerStep = Math.max(window / 2 ** this.#doublings, maxDatagram)
    this.#doublings = Math.min(this.#doublings + 1, MAX_DOUBLINGS)
  }

  /** So much was acknowledged while the long-term bound was all that held us back. */
  raise(acked: number, maxDatagram: number): void {
    this.#acked += acked
    const steps = Math.floor(this.#acked / this.#bytesPerStep)
    this.#acked -= steps * this.#bytesPerStep
    this.longInFlight += steps * maxDatagram
  }

  // -- late arrivals -----------------------------------------------------------------------------------------------

  onCongestionEvent(now: number, sentAt: number, lostBytes: number): void {
    if (sentAt > this.#episodeAt) {
      this.#episodeAt = now
      this.#unproven = lostBytes
    } else if (this.#unproven > 0) this.#unproven += lostBytes
  }

  onSpuriousLoss(sentAt: number, bytes: number): void {
    if (this.#unproven === 0 || sentAt > this.#episodeAt) return
    this.#unproven -= bytes
    if (this.#unproven > 0) return
    this.#unproven = 0
    this.shortBandwidth = Math.max(this.shortBandwidth, this.#priorBandwidth)
    this.shortInFlight = Math.max(this.shortInFlight, this.#priorInFlight)
    this.longInFlight = Math.max(this.longInFlight, this.#priorLong)
  }

  #save(): void {
    this.#priorBandwidth = this.shortBandwidth
    this.#priorInFlight = this.shortInFlight
    this.#priorLong = this.longInFlight
  }
}
