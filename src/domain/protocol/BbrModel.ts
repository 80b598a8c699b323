/**
 * What BBR believes about a path: how fast it delivers, how long an empty round trip takes, how far acknowledgements come
 * in lumps, whether a queue stands, and how much is lost whatever one sends. Filters of fixed size; nothing is allocated
 * after construction. Times in milliseconds, sizes in bytes, rates in bytes per millisecond.
 *
 * The last two are ours. Loss proves congestion only with a queue, or where sending more delivers no more; a radio
 * link loses the same share at any rate. `ambientLoss` is that share: the least that was seen lately, measured while no
 * queue stood. A policer or a shallow buffer lets everything through as soon as one sends less, so there it falls to nothing.
 */

/** Milliseconds: how long a minimum is believed, and after how long without a sign of it the queue is drained to look. */
const MIN_RTT_WINDOW_MS = 10_000
const PROBE_RTT_INTERVAL_MS = 5_000
/**
 * A sample this close to the minimum confirms it, and a queue stands when none of late was: share of the minimum,
 * milliseconds for the turns of two hosts, datagrams that come in a lump.
 */
const QUEUE_SHARE = 1 / 32
const QUEUE_MS = 2
const QUEUE_DATAGRAMS = 2
/** Samples, and share of the round trip, in each of the two halves of "of late". */
const QUEUE_SAMPLES = 4
const QUEUE_SPAN = 1 / 8
/** Datagrams in a measurement of loss, measurements remembered, and the most that is believed. */
const LOSS_DATAGRAMS = 300
const LOSS_MEMORY = 8
const LOSS_MAX = 0.35
/** What remains of the measurements after one in which a queue stood throughout: without news they are not believed for long. */
const LOSS_FADE = 0.9
/** From this share on, loss may come from a full queue that we never saw empty: look, now and then. */
const LOSSY = 0.01
/** Rounds in each half of the filter of acknowledgement aggregation. */
const EXTRA_ACKED_ROUNDS = 5

export class BbrModel {
  /** Maximum of the current and the last probe cycle. */
  maxBandwidth = 0
  /** `Infinity` before the first sample. */
  minRtt = Number.POSITIVE_INFINITY
  /** No sample has confirmed the minimum for `PROBE_RTT_INTERVAL_MS`. */
  minRttStale = false
  /** Bytes by which acknowledgements have run ahead of the bandwidth. */
  extraAcked = 0
  /** Share of bytes lost without a queue, of late; and the part of it that is lost at any rate. */
  seenLoss = 0
  ambientLoss = 0

  maxDatagram: number
  /** When the flow last drained its share of the queue. */
  drainedAt = Number.NEGATIVE_INFINITY

  #cycleMax = 0
  #lastCycleMax = 0

  #minRttAt = 0
  /** Smallest since `#probeMinAt`, and when the minimum was last seen or confirmed. */
  #probeMin = Number.POSITIVE_INFINITY
  #probeMinAt = 0

  #queueMin = Number.POSITIVE_INFINITY
  #queueMinBefore = Number.POSITIVE_INFINITY
  #queueCount = 0
  #queueSince = 0

  #measuredLost = 0
  #measuredAcked = 0
  #measuredQueue = false
  #measuredFree = false
  readonly #losses = new Float64Array(LOSS_MEMORY)
  #lossCount = 0
  #lossBound = LOSS_MAX

  #ackEpochStart = 0
  #ackEpochBytes = -1
  #extraNow = 0
  #extraBefore = 0
  #extraRounds = 0

  constructor(now: number, maxDatagram: number) {
    this.maxDatagram = maxDatagram
    this.#minRttAt = now
    this.#probeMinAt = now
    this.#queueSince = now
  }

  /** A packet was acknowledged `rtt` after it left. */
  onRtt(now: number, rtt: number): void {
    if (this.#queueCount >= QUEUE_SAMPLES && now - this.#queueSince >= this.minRtt * QUEUE_SPAN) {
      this.#queueMinBefore = this.#queueMin
      this.#queueMin = Number.POSITIVE_INFINITY
      this.#queueCount = 0
      this.#queueSince = now
    }
    this.#queueCount++
    if (rtt < this.#queueMin) this.#queueMin = rtt
  }

  /** The sample of one acknowledgement; keeps the minimum. */
  updateMinRtt(now: number, rtt: number): void {
    const stale = now > this.#probeMinAt + PROBE_RTT_INTERVAL_MS
    this.minRttStale = stale
    if (rtt < 0) return
    if (rtt < this.#probeMin || stale) {
      this.#probeMin = rtt
      this.#probeMinAt = now
    }
    const believable = this.seenLoss < LOSSY || now < this.drainedAt + MIN_RTT_WINDOW_MS
    if (believable && rtt <= this.minRtt + this.#queueMargin) {
      this.#probeMinAt = now
      this.#minRttAt = now
    }
    if (this.#probeMin < this.minRtt || now > this.#minRttAt + MIN_RTT_WINDOW_MS) {
      // A queue stood where we saw none: what we took for ambient loss was not.
      if (this.#probeMin < this.minRtt - this.#queueMargin) this.#scaleLoss(0)
      this.minRtt = this.#probeMin
      this.#minRttAt = this.#probeMinAt
    }
  }

  /** The shortest round trip of late, some fractions of a round trip. */
  get recentRtt(): number {
    return Math.min(this.#queueMin, this.#queueMinBefore)
  }

  /** Whether packets wait somewhere. */
  get queueStands(): boolean {
    const recent = this.recentRtt
    return recent < Number.POSITIVE_INFINITY && recent > this.minRtt + this.#queueMargin
  }

  get #queueMargin(): number {
    const lump = this.maxBandwidth === 0 ? 0 : (QUEUE_DATAGRAMS * this.maxDatagram) / this.maxBandwidth
    return Math.max(this.minRtt * QUEUE_SHARE, QUEUE_MS, lump)
  }

  onBandwidth(rate: number): void {
    if (rate > this.#cycleMax) this.#cycleMax = rate
    if (rate > this.maxBandwidth) this.maxBandwidth = rate
  }

  /** A probe cycle is over: what was seen before the last one is forgotten. */
  advanceCycle(): void {
    if (this.#cycleMax === 0) return
    this.#lastCycleMax = this.#cycleMax
    this.#cycleMax = 0
    this.maxBandwidth = this.#lastCycleMax
  }

  /** Bytes of an acknowledgement, and of the losses it proved. */
  measureLoss(acked: number, lost: number, roundStart: boolean): void {
    this.#measuredAcked += acked
    this.#measuredLost += lost
    if (this.queueStands) this.#measuredQueue = true
    else this.#measuredFree = true
    const total = this.#measuredAcked + this.#measuredLost
    if (!roundStart || total < LOSS_DATAGRAMS * this.maxDatagram) return
    if (!this.#measuredQueue) this.#note(Math.min(this.#measuredLost / total, LOSS_MAX))
    else if (!this.#measuredFree) this.#scaleLoss(LOSS_FADE)
    this.#measuredAcked = 0
    this.#measuredLost = 0
    this.#measuredQueue = false
    this.#measuredFree = false
  }

  /** Keeps the second smallest of the last measurements, the smallest of few: chance makes one of them too small. */
  #note(share: number): void {
    this.#losses[this.#lossCount++ % LOSS_MEMORY] = share
    const count = Math.min(this.#lossCount, LOSS_MEMORY)
    let least = 1
    let second = 1
    for (let i = 0; i < count; i++) {
      const value = this.#losses[i] as number
      if (value < least) {
        second = least
        least = value
      } else if (value < second) second = value
    }
    this.seenLoss = count > 3 ? second : least
    this.ambientLoss = Math.min(this.seenLoss, this.#lossBound)
  }

  #scaleLoss(factor: number): void {
    for (let i = 0; i < LOSS_MEMORY; i++) this.#losses[i] = (this.#losses[i] as number) * factor
    this.seenLoss *= factor
    this.ambientLoss = Math.min(this.seenLoss, this.#lossBound)
  }

  /** So large a share of so many datagrams was lost while we sent less than the path delivers: no more than that is ambient. */
  boundLoss(share: number, datagrams: number): void {
    // Two deviations, and the rule of three for none at all.
    this.#lossBound = Math.min(share + 2 * Math.sqrt(share / datagrams) + 3 / datagrams, LOSS_MAX)
    this.ambientLoss = Math.min(this.seenLoss, this.#lossBound)
  }

  /** How far the acknowledged run ahead of `bandwidth` since the last time they did not. */
  updateAggregation(now: number, acked: number, bandwidth: number, window: number, roundStart: boolean): void {
    if (roundStart && ++this.#extraRounds >= EXTRA_ACKED_ROUNDS) {
      this.#extraRounds = 0
      this.#extraBefore = this.#extraNow
      this.#extraNow = 0
    }
    const expected = bandwidth * (now - this.#ackEpochStart)
    if (this.#ackEpochBytes < 0 || this.#ackEpochBytes <= expected) {
      this.#ackEpochStart = now
      this.#ackEpochBytes = 0
    }
    this.#ackEpochBytes += acked
    const extra = Math.min(this.#ackEpochBytes - bandwidth * (now - this.#ackEpochStart), window)
    if (extra > this.#extraNow) this.#extraNow = extra
    this.extraAcked = Math.max(this.#extraNow, this.#extraBefore)
  }

  /** Sending was interrupted: what comes next is no lump. */
  restartAggregation(): void {
    this.#ackEpochBytes = -1
  }
}
