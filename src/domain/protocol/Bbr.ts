/**
 * BBR after draft-ietf-ccwg-bbr: sends at the rate at which the path has delivered, keeps little more than one round trip of
 * that in flight, and probes for more every few seconds. States, gains and filters are the draft's where not said otherwise:
 *
 *   Startup   doubles the rate every round, until it grows no more or a queue overflows
 *   Drain     empties the queue that Startup left
 *   Down      empties the queue of a probe and looks at what is lost without it
 *   Cruise    sends at the rate known, for two to three seconds
 *   Refill    for one round, so that the probe meets a full pipe
 *   Up        sends a quarter faster, for as long as more comes of it
 *   ProbeRtt  halves what is in flight for a look at the round trip, when nothing has confirmed it for five seconds
 *
 * Where we differ: loss alone is no congestion (see `BbrModel`), and what a path loses at any rate is made up for by sending
 * that much faster, within bounds; a congested round makes a flow ask for an eighth less than it got, which brings flows of
 * different size together; Cruise keeps one and a half round trips in flight; Startup also ends when a queue stands while
 * the rate hardly grows; Up ends when a queue grows and the rate does not, becomes a Startup when there is much more room; a
 * sample close to the minimum confirms it, so that a flow alone on its path need not slow down to look.
 */
import { BbrBounds } from "./BbrBounds.ts"
import { BbrModel } from "./BbrModel.ts"
import type { AckSample, Controller } from "./Congestion.ts"
import type { Rtt } from "./Rtt.ts"

const NEVER = Number.POSITIVE_INFINITY

const State = { Startup: 0, Drain: 1, Down: 2, Cruise: 3, Refill: 4, Up: 5, ProbeRtt: 6 } as const
type State = (typeof State)[keyof typeof State]
const NAMES = ["startup", "drain", "down", "cruise", "refill", "up", "probe-rtt"] as const

/** Gains by state: of pacing, and of the window. */
const PACING_GAIN = [2.77, 0.5, 0.9, 1, 1, 1.25, 1] as const
const WINDOW_GAIN = [2, 2, 1.5, 1.5, 1.5, 2.25, 0.5] as const

/** What the acknowledgements of now tell about: packets sent before a probe, in its first round, later, or after it. */
const Phase = { None: 0, Starting: 1, Feedback: 2, Stopping: 3 } as const
type Phase = (typeof Phase)[keyof typeof Phase]

/** Share of the bandwidth at which we pace, so that a queue drains. */
const PACING_MARGIN = 0.99
/** Largest share of loss that is made up for. Flows that take each other's congestion for ambient loss would keep it up. */
const MAKE_UP_MAX = 0.1
/** Growth that says the pipe is not full, rounds without it that say it is, and round trips that make a round count twice. */
const FULL_GROWTH = 1.25
const FULL_ROUNDS = 3
const FULL_QUEUE = 1.25
/** Packets lost in a round of start-up before loss ends it. */
const STARTUP_LOSSES = 6
/** Milliseconds between two probes, at least, and how much longer by chance; rounds after which Reno would have grown as much. */
const PROBE_WAIT_MS = 2000
const PROBE_WAIT_RANDOM_MS = 1000
const PROBE_ROUNDS = 63
const PROBE_ROUNDS_MIN = 4
/** Growth of a round of probing that is worth another; growth of the round trip that ends a probe; rounds without either. */
const UP_GROWTH = 1.1
const UP_QUEUE = 1.125
const UP_ROUNDS = 3
/** Growing rounds of a probe after which it becomes a start-up. */
const RESTART_ROUNDS = 2
/** What a probe that gained less than this lost beyond the ambient loss, as a share, shows a policer. */
const ELASTIC_GROWTH = 1.05
const ELASTIC_SHARE = 0.05
/** Rounds in which a queue that is ours has drained; datagrams whose fate tells how much is lost without it. */
const DOWN_ROUNDS = 4
const DOWN_DATAGRAMS = 100
/** Milliseconds in which a drained flow looks at the round trip. */
const PROBE_RTT_MS = 200
/** Milliseconds' worth in flight beyond the window proper: the timers and turns of either host. */
const HOST_SLACK_MS = 2
/** Milliseconds: jitter of hosts makes no queue; keeps the first rate finite. */
const JITTER_MS = 1
const LEAST_RTT_MS = 0.1
/**
 * Datagrams: more at the start than RFC 9002 section 7.2 has, for they are paced over the handshake's round trip; least window
 * for small and for large datagrams, and from where on those are.
 */
const INITIAL_DATAGRAMS = 24
const INITIAL_CAP = 28_800
const MINIMUM_DATAGRAMS = 4
const MINIMUM_DATAGRAMS_LARGE = 2
const LARGE_DATAGRAM = 3000
/** Bytes per millisecond, as datagrams: never slower than one a second. */
const LEAST_RATE = 1 / 1000

export class Bbr implements Controller {
  readonly name = "bbr"
  readonly model: BbrModel
  readonly bounds: BbrBounds
  #maxDatagram: number
  #window: number
  #rate: number
  #rateFromRtt = false
  #state: State = State.Startup
  #random: number

  // Rounds, by what had been delivered when a packet left.
  #delivered = 0
  #roundEnd = 0
  #roundStart = false
  #rounds = 0
  #lossRoundEnd = 0
  #appLimited = true
  /** Since the round began, the window was what kept us from sending. */
  #windowLimited = false

  // Start-up.
  #filled = false
  #fullBandwidth = 0
  #fullRounds = 0
  #startupLost = 0
  #startupLosses = 0

  // The probe cycle.
  #phase: Phase = Phase.None
  #cycleAt = 0
  #probeWait = 0
  #probeRounds = 0
  /** Losses of now may come from the probe. */
  #probeSamples = false
  #rtt = 0
  #bandwidthBefore = 0
  #roundsInState = 0
  #growingRounds = 0
  #measuredAcked = 0
  #measuredLost = 0
  #elastic = false

  // ProbeRtt and restarts.
  #probeRttDone = NEVER
  #probeRttRoundDone = false
  #idleRestart = false
  #priorWindow = 0

  constructor(now: number, maxDatagram: number) {
    this.model = new BbrModel(now, maxDatagram)
    this.bounds = new BbrBounds(this.model)
    this.#maxDatagram = maxDatagram
    this.#window = Math.min(
      INITIAL_DATAGRAMS * maxDatagram,
      Math.max(INITIAL_CAP, MINIMUM_DATAGRAMS_LARGE * maxDatagram)
    )
    this.#random = Math.floor(now * 1000) >>> 0
    // Nothing is known: the window in a millisecond, so that pacing does not stretch the first flight.
    this.#rate = PACING_GAIN[State.Startup] * this.#window
  }

  /** For logs and tests. */
  get state(): (typeof NAMES)[number] {
    return NAMES[this.#state]
  }

  /** Bytes per millisecond that we believe the path will deliver. */
  get bandwidth(): number {
    return Math.min(this.model.maxBandwidth, this.bounds.shortBandwidth)
  }

  window(): number {
    return this.#window
  }

  pacingRate(): number {
    return this.#rate
  }

  onSent(now: number, bytes: number, _packetNumber: number, appLimited: boolean, bytesInFlight: number): void {
    if (bytesInFlight + this.#maxDatagram > this.#window) this.#windowLimited = true
    if (bytesInFlight > bytes || !appLimited) return
    // Idle until now: the pipe is empty, so the rate alone is enough.
    this.#idleRestart = true
    this.model.restartAggregation()
    if (this.#isProbing) this.#setRate(1)
    else if (this.#state === State.ProbeRtt) this.#checkProbeRttDone(now)
  }

  onAcked(now: number, sentAt: number, bytes: number): void {
    this.model.onRtt(now, now - sentAt)
    this.bounds.onAcked(bytes)
  }

  onLost(now: number, _packetNumber: number, bytes: number, txInFlight: number, lostSinceSent: number): void {
    this.bounds.onLost(bytes)
    if (!this.#filled) {
      this.#startupLost += bytes
      this.#startupLosses++
    }
    if (!this.#probeSamples || !this.#isTooMuch(lostSinceSent, txInFlight)) return
    this.#onTooHigh(now, this.bounds.tolerated(txInFlight, lostSinceSent, bytes))
  }

  onAckEnd(now: number, sample: AckSample, rtt: Rtt): void {
    const { bounds, model } = this
    this.#delivered = sample.delivered
    this.#appLimited = sample.appLimited
    this.#roundStart = sample.priorDelivered >= this.#roundEnd
    if (this.#roundStart) {
      this.#roundEnd = sample.delivered
      this.#rounds++
      this.#probeRounds++
      this.#roundsInState++
    }
    const rate = sample.deliveryRate
    const bytes = sample.delivered - sample.priorDelivered
    bounds.onSample(rate, bytes)
    if (rate > 0 && (!sample.appLimited || rate >= model.maxBandwidth)) model.onBandwidth(rate)
    const lossRound = sample.priorDelivered >= this.#lossRoundEnd
    if (lossRound) {
      this.#lossRoundEnd = sample.delivered
      bounds.endRound(this.#isOwnLoss, this.bandwidth, this.#window)
    }
    model.updateAggregation(now, sample.ackedBytes, this.bandwidth, this.#window, this.#roundStart)
    model.measureLoss(sample.ackedBytes, sample.lostBytes, this.#roundStart)
    if (!this.#filled) this.#updateStartup(sample)
    if (this.#state === State.Drain && this.#isDrained(sample.bytesInFlight)) this.#startDown(now)
    if (this.#filled) this.#updateCycle(now, sample)
    model.updateMinRtt(now, sample.rtt)
    this.#updateProbeRtt(now, sample.bytesInFlight)
    if (lossRound) {
      bounds.startRound()
      bounds.onSample(rate, bytes)
    }
    this.#setRate(PACING_GAIN[this.#state], rtt)
    this.#setWindow(sample.ackedBytes)
    if (this.#roundStart) this.#windowLimited = false
  }

  onCongestionEvent(now: number, sentAt: number, persistent: boolean, lostBytes: number): void {
    this.bounds.onCongestionEvent(now, sentAt, lostBytes)
    // The rate is kept: all that an outage says of the path is that it was out. The window opens with what arrives.
    if (persistent) this.#window = this.#minimum
  }

  onSpuriousLoss(_now: number, sentAt: number, bytes: number): void {
    this.bounds.onSpuriousLoss(sentAt, bytes)
  }

  setMaxDatagram(bytes: number): void {
    this.#maxDatagram = bytes
    this.model.maxDatagram = bytes
    this.#window = Math.max(this.#window, this.#minimum)
  }

  // -- start-up ----------------------------------------------------------------------------------------------------

  #updateStartup(sample: AckSample): void {
    if (this.#roundStart && this.#state === State.Startup) this.#checkFull(sample.appLimited)
    const lost = Math.min(this.#startupLost, sample.lostSinceSent)
    if (this.#startupLosses >= STARTUP_LOSSES && this.bounds.tooMuchLost(lost, sample.txInFlight, true)) {
      this.#filled = true
      this.bounds.longInFlight = Math.max(this.#bdp(1), this.bounds.latestInFlight)
    }
    if (this.#state === State.Startup && this.#filled) this.#state = State.Drain
  }

  #checkFull(appLimited: boolean): void {
    this.#startupLost = 0
    this.#startupLosses = 0
    if (appLimited) return
    const { model } = this
    if (model.maxBandwidth >= this.#fullBandwidth * FULL_GROWTH) {
      this.#fullBandwidth = model.maxBandwidth
      this.#fullRounds = 0
      return
    }
    this.#fullRounds += model.recentRtt > FULL_QUEUE * model.minRtt + JITTER_MS ? 2 : 1
    if (this.#fullRounds >= FULL_ROUNDS) this.#filled = true
  }

  /** A probe found much more room than was known. */
  #startAgain(): void {
    this.#filled = false
    this.#fullRounds = 0
    this.#fullBandwidth = this.model.maxBandwidth
    this.#startupLost = 0
    this.#startupLosses = 0
    this.#probeSamples = false
    this.bounds.longInFlight = NEVER
    this.#state = State.Startup
  }

  // -- the probe cycle ---------------------------------------------------------------------------------------------

  get #isProbing(): boolean {
    return this.#state >= State.Down && this.#state <= State.Up
  }

  /** What is lost now was most likely lost to our own start-up or probe; the long-term bound answers for that. */
  get #isOwnLoss(): boolean {
    const state = this.#state
    const { Drain, Refill, Startup, Up } = State
    return state === Startup || state === Drain || state === Refill || state === Up || this.#phase === Phase.Stopping
  }

  #isTooMuch(lost: number, inFlight: number): boolean {
    const growing = this.bounds.latestBandwidth > UP_GROWTH * this.#bandwidthBefore
    return this.bounds.tooMuchLost(lost, inFlight, growing)
  }

  #onTooHigh(now: number, inFlight: number): void {
    this.#probeSamples = false
    if (!this.#appLimited) this.bounds.lower(inFlight, Math.min(this.#bdp(1), this.#window))
    if (this.#state === State.Up) this.#startDown(now)
  }

  #updateCycle(now: number, sample: AckSample): void {
    this.#updatePhase(now, sample)
    switch (this.#state) {
      case State.Down:
        if (this.#isTimeToProbe(now)) this.#startRefill()
        else if (this.#isDown(sample)) this.#state = State.Cruise
        break
      case State.Cruise:
        if (this.#isTimeToProbe(now)) this.#startRefill()
        break
      case State.Refill:
        if (this.#roundStart) this.#startUp(now)
        break
      case State.Up:
        this.#continueUp(now, sample)
    }
  }

  #updatePhase(now: number, sample: AckSample): void {
    const { bounds } = this
    if (this.#roundStart && this.#phase === Phase.Starting) this.#phase = Phase.Feedback
    else if (this.#roundStart && this.#phase === Phase.Stopping) {
      this.#probeSamples = false
      this.#phase = Phase.None
      if (this.#isProbing && !sample.appLimited) this.model.advanceCycle()
    }
    if (this.#isTooMuch(sample.lostSinceSent, sample.txInFlight)) {
      if (this.#probeSamples) this.#onTooHigh(now, sample.txInFlight)
      return
    }
    if (bounds.longInFlight === NEVER) return
    if (sample.txInFlight > bounds.longInFlight) bounds.longInFlight = sample.txInFlight
    if (this.#state !== State.Up || !this.#isBounded) return
    bounds.raise(sample.ackedBytes, this.#maxDatagram)
    if (this.#roundStart) bounds.steepen(this.#window, this.#maxDatagram)
  }

  #isTimeToProbe(now: number): boolean {
    const rounds = Math.max(PROBE_ROUNDS_MIN, Math.min(PROBE_ROUNDS, this.#bdp(1) / this.#maxDatagram))
    return now - this.#cycleAt > this.#probeWait || this.#probeRounds >= rounds
  }

  #startDown(now: number): void {
    if (this.#state === State.Up) this.#checkElastic()
    // Linear congruence (Numerical Recipes): flows that share a path should not probe together.
    this.#random = (Math.imul(this.#random ^ Math.floor(this.#delivered), 1_664_525) + 1_013_904_223) >>> 0
    this.#probeRounds = this.#random & 1
    this.#probeWait = PROBE_WAIT_MS + (this.#random / 2 ** 32) * PROBE_WAIT_RANDOM_MS
    this.bounds.latestBandwidth = 0
    this.bounds.latestInFlight = 0
    this.#phase = Phase.Stopping
    this.#enter(State.Down, now)
  }

  /** Whether what the probe queued has drained, and how much is lost without it is known. */
  #isDown(sample: AckSample): boolean {
    const { model } = this
    if (this.#roundsInState > (this.#roundStart ? 1 : 0)) this.#measure(sample)
    const late = this.#roundsInState > DOWN_ROUNDS
    if (!late && !this.#isDrained(sample.bytesInFlight)) return false
    if (model.seenLoss === 0) return true
    const total = this.#measuredAcked + this.#measuredLost
    if (!late && total < DOWN_DATAGRAMS * this.#maxDatagram) return false
    if (total > 0 && !this.#elastic) model.boundLoss(this.#measuredLost / total, total / this.#maxDatagram)
    return true
  }

  #startRefill(): void {
    this.bounds.release(this.#window, this.#maxDatagram)
    this.#roundEnd = this.#delivered
    this.#state = State.Refill
  }

  #startUp(now: number): void {
    const { model } = this
    this.#probeSamples = true
    this.#phase = Phase.Starting
    this.#growingRounds = 0
    this.#rtt = Math.max(model.minRtt, model.recentRtt)
    this.#bandwidthBefore = model.maxBandwidth
    this.#fullBandwidth = model.maxBandwidth
    this.#enter(State.Up, now)
  }

  /** On while the rate grows; else until a queue stands, or has had the time to. */
  #continueUp(now: number, sample: AckSample): void {
    const { model } = this
    if (this.#phase === Phase.Feedback) this.#measure(sample)
    const grown = model.maxBandwidth >= UP_GROWTH * this.#fullBandwidth
    if (this.#roundStart && grown) {
      this.#fullBandwidth = model.maxBandwidth
      if (++this.#growingRounds >= RESTART_ROUNDS && !model.queueStands) this.#startAgain()
      return
    }
    if (grown || now - this.#cycleAt < PACING_GAIN[State.Up] * this.#rtt) return
    const rounds = this.#isBounded ? 0 : this.#roundsInState
    const filled = sample.bytesInFlight > PACING_GAIN[State.Up] * this.bandwidth * this.#rtt
    if (model.recentRtt > UP_QUEUE * this.#rtt + JITTER_MS || rounds >= (filled ? UP_ROUNDS - 1 : UP_ROUNDS)) {
      this.#startDown(now)
    }
  }

  /** The long-term bound, not the rate, keeps us from sending more. */
  get #isBounded(): boolean {
    return this.#windowLimited && this.#window >= this.bounds.longInFlight
  }

  /** Whether sending more only lost more, with no queue to show for it: a policer. Then what was lost was never ambient. */
  #checkElastic(): void {
    const { model } = this
    const total = this.#measuredAcked + this.#measuredLost
    const usual =
      total * (model.ambientLoss + ELASTIC_SHARE) + 2 * Math.sqrt(model.ambientLoss * total * this.#maxDatagram)
    const grown = model.maxBandwidth > ELASTIC_GROWTH * this.#bandwidthBefore
    this.#elastic = !grown && !model.queueStands && this.#measuredLost > usual
    if (this.#elastic) model.boundLoss(0, NEVER)
  }

  #measure(sample: AckSample): void {
    this.#measuredAcked += sample.ackedBytes
    this.#measuredLost += sample.lostBytes
  }

  #enter(state: State, now: number): void {
    this.#state = state
    this.#cycleAt = now
    this.#roundEnd = this.#delivered
    this.#roundsInState = 0
    this.#measuredAcked = 0
    this.#measuredLost = 0
  }

  // -- round trip --------------------------------------------------------------------------------------------------

  #updateProbeRtt(now: number, inFlight: number): void {
    if (this.#state !== State.ProbeRtt && this.model.minRttStale && !this.#idleRestart) {
      this.#priorWindow = this.#window
      this.#probeRttDone = NEVER
      this.#phase = Phase.Stopping
      this.#roundEnd = this.#delivered
      this.#state = State.ProbeRtt
    }
    this.#idleRestart = false
    if (this.#state !== State.ProbeRtt) return
    if (this.#probeRttDone < NEVER) {
      if (this.#roundStart) this.#probeRttRoundDone = true
      if (this.#probeRttRoundDone) this.#checkProbeRttDone(now)
    } else if (inFlight <= this.#probeRttWindow) {
      this.#probeRttDone = now + PROBE_RTT_MS
      this.#probeRttRoundDone = false
      this.#roundEnd = this.#delivered
    }
  }

  #checkProbeRttDone(now: number): void {
    if (now <= this.#probeRttDone) return
    this.model.drainedAt = now
    this.#window = Math.max(this.#window, this.#priorWindow)
    this.bounds.shortBandwidth = NEVER
    this.bounds.shortInFlight = NEVER
    if (this.#filled) this.#startDown(now)
    this.#state = this.#filled ? State.Cruise : State.Startup
  }

  // -- window and rate ---------------------------------------------------------------------------------------------

  get #minimum(): number {
    return (this.#maxDatagram > LARGE_DATAGRAM ? MINIMUM_DATAGRAMS_LARGE : MINIMUM_DATAGRAMS) * this.#maxDatagram
  }

  get #probeRttWindow(): number {
    return Math.max(this.#bdp(WINDOW_GAIN[State.ProbeRtt]), this.#minimum)
  }

  /** So many bandwidth-delay products. */
  #bdp(gain: number): number {
    const { minRtt } = this.model
    return minRtt === NEVER ? this.#window : gain * this.bandwidth * minRtt
  }

  #isDrained(inFlight: number): boolean {
    return inFlight <= Math.max(Math.min(this.#bdp(1), this.bounds.withHeadroom), this.#minimum)
  }

  #setRate(gain: number, rtt?: Rtt): void {
    let bandwidth = this.bandwidth
    if (!this.#rateFromRtt && rtt?.hasSample === true) {
      this.#rateFromRtt = true
      this.#rate = 0
      bandwidth = Math.max(bandwidth, this.#window / Math.max(rtt.smoothed, LEAST_RTT_MS))
    }
    // Draining, we send less than is delivered, which shows what is lost at any rate; a queue says that we send enough.
    const makeUp = this.#state !== State.Down && this.#state !== State.Drain && !this.model.queueStands
    const ambient = makeUp ? Math.min(this.model.ambientLoss, MAKE_UP_MAX) : 0
    const rate = (gain * bandwidth * PACING_MARGIN) / (1 - ambient)
    if (this.#filled || rate > this.#rate) this.#rate = Math.max(rate, LEAST_RATE * this.#maxDatagram)
  }

  #setWindow(acked: number): void {
    const { bounds, model } = this
    const bdp = Math.max(this.#bdp(WINDOW_GAIN[this.#state]), this.#minimum)
    const target = bdp / (1 - model.ambientLoss) + model.extraAcked + HOST_SLACK_MS * this.bandwidth
    if (this.#filled) this.#window = Math.min(this.#window + acked, target)
    else if (this.#window < target || (this.#rounds < 2 && !this.#appLimited)) this.#window += acked
    let bound = bounds.shortInFlight
    if (this.#state === State.Cruise || this.#state === State.ProbeRtt) bound = Math.min(bound, bounds.withHeadroom)
    else if (this.#isProbing) bound = Math.min(bound, bounds.longInFlight)
    if (this.#state === State.ProbeRtt) bound = Math.min(bound, this.#probeRttWindow)
    this.#window = Math.max(Math.min(this.#window, bound), this.#minimum)
  }
}

/** A `Congestion.Factory`. */
export const make = (now: number, maxDatagram: number): Controller => new Bbr(now, maxDatagram)
