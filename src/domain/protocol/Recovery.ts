/**
 * Loss detection for the one packet-number space of a session (RFC 9002 section 6 and appendix A), the count of bytes in
 * flight, and the gate that congestion control and pacing put before every datagram. `T` is what the owner wants to know
 * of a packet when its fate is decided; it comes back once in `acked`, or in `lost` and, should the acknowledgement only
 * have been late, once more in `acked`.
 *
 * Sans-IO: `now` never goes back. Packets that elicit no acknowledgement are remembered but count nowhere. Storage is a ring;
 * nothing is allocated per packet. A packet three behind the largest acknowledged one is lost, so few open packets lie below
 * that, and every call costs about as much as it decides.
 *
 * Where packets overtake each other, acknowledgements of packets given up come late. Each shows how far apart and how late
 * they may arrive, and both thresholds grow to that, within bounds; they shrink again when losses prove real (the idea of
 * RFC 8985 section 6.2.1's reordering window). Without that, a path with some jitter looks like one that loses a third.
 */
import type { Controller } from "./Congestion.ts"
import {
  GRANULARITY_MS,
  MAX_ACK_DELAY_MS,
  MAX_DATAGRAM_LENGTH,
  MAX_SKIPPED_REMEMBERED,
  MAX_TRACKED_PACKETS,
  PACKET_THRESHOLD,
  PERSISTENT_CONGESTION_THRESHOLD,
  PTO_CAP_MS,
  TIME_THRESHOLD
} from "./Constants.ts"
import { DeliveryRate } from "./DeliveryRate.ts"
import { LostPackets } from "./LostPackets.ts"
import { Pacer } from "./Pacer.ts"
import type { Range } from "./RangeSet.ts"
import type { Rtt } from "./Rtt.ts"
import { Fate, SentPackets } from "./SentPackets.ts"

/** What an acknowledgement decided. Valid until the next call of `onAck`. */
export interface AckResult<T> {
  /** Arrived, in sending order after those that had been declared lost too early. */
  readonly acked: ReadonlyArray<T>
  readonly lost: ReadonlyArray<T>
  /** Bytes no longer in flight, by either fate. */
  readonly newlyAckedBytes: number
  readonly lostBytes: number
  /** The round-trip estimate has changed. */
  readonly rttSampled: boolean
  readonly persistentCongestion: boolean
}

/** What a timeout decided. Valid until the next call of `onTimeout`. */
export interface TimeoutResult<T> {
  readonly lost: ReadonlyArray<T>
  /** A probe timeout: send one or two ack-eliciting packets, whatever the window says. */
  readonly probe: boolean
}

class Ack<T> implements AckResult<T> {
  readonly acked: Array<T> = []
  readonly lost: Array<T> = []
  newlyAckedBytes = 0
  lostBytes = 0
  rttSampled = false
  persistentCongestion = false
}

class Timeout<T> implements TimeoutResult<T> {
  readonly lost: Array<T> = []
  probe = false
}

/** Bounds of the adaptive thresholds: packets, and round trips. */
const PACKET_THRESHOLD_MAX = 1024
const TIME_THRESHOLD_MAX = 2
/** What a late arrival asks for, and a little more: the next one may be later. */
const LATE_MARGIN = 1.1
/** Real losses in a row that bring the thresholds half-way back. */
const REAL_LOSSES = 64

export class Recovery<T> {
  readonly rtt: Rtt
  /** Ack-eliciting bytes on the current path whose fate is open. */
  bytesInFlight = 0
  /** Probe timeouts since the last acknowledgement of anything new. */
  ptoCount = 0
  /** -1 before the first. */
  largestAcked = -1

  #controller: Controller
  readonly #pacer: Pacer
  readonly #packets = new SentPackets<T>()
  readonly #rate = new DeliveryRate()
  readonly #ack = new Ack<T>()
  readonly #timeout = new Timeout<T>()
  #maxDatagram: number
  /** Ascending. */
  readonly #skipped: Array<number> = []
  readonly #remembered = new LostPackets<T>()
  #packetThreshold = PACKET_THRESHOLD
  #timeThreshold = TIME_THRESHOLD
  /** Losses since the last late arrival. */
  #realLosses = 0
  /** Pushed out of a full ring; due to be reported lost. */
  #evicted: Array<T> = []
  /** The probe of the path's MTU that left last; -1 before the first. */
  #mtuProbe = -1
  /** Packets below left on an earlier path and teach nothing about this one. */
  #pathStart = 0
  /** Open packets that elicit an acknowledgement, on any path. */
  #eliciting = 0
  #lastElicitingAt = 0
  #lastProbeAt = Number.NEGATIVE_INFINITY
  #lossTime = Number.POSITIVE_INFINITY
  #firstSampleAt = Number.POSITIVE_INFINITY
  /** When the first packet of an unbroken row of lost ones left; `Infinity` when the last fate passed was an arrival. */
  #lossRunStart = Number.POSITIVE_INFINITY
  /** The application, not the window or the pacer, was what ended the last sending. */
  #appLimited = true
  /** Of the current round of loss detection. */
  #lostBytes = 0
  #lostSentAt = Number.NEGATIVE_INFINITY
  #persistent = false

  constructor(rtt: Rtt, controller: Controller, maxDatagram: number = MAX_DATAGRAM_LENGTH) {
    this.rtt = rtt
    this.#controller = controller
    this.#maxDatagram = maxDatagram
    this.#pacer = new Pacer(controller, maxDatagram)
  }

  get controller(): Controller {
    return this.#controller
  }

  /** Later packets acknowledged that make a packet lost: 3, more where packets overtake each other. */
  get packetThreshold(): number {
    return this.#packetThreshold
  }

  /** Packet numbers remembered; at most `MAX_TRACKED_PACKETS`. */
  get tracked(): number {
    return this.#packets.next - this.#packets.base
  }

  // -- sending -----------------------------------------------------------------------------------------------------

  /**
   * When an ack-eliciting packet of `bytes` may leave: `now`, a later time set by the pacer, or `Infinity` while only an
   * acknowledgement or a loss can make room. Probes do not ask.
   */
  sendTime(now: number, bytes: number): number {
    if (this.#packets.full || this.bytesInFlight + bytes > Math.max(this.#controller.window(), bytes)) {
      this.#appLimited = false
      return Number.POSITIVE_INFINITY
    }
    const at = this.#pacer.delayUntil(now, bytes)
    if (at > now) this.#appLimited = false
    return at
  }

  /**
   * A packet has left. Numbers grow; one passed over without `onSkipped` counts as sent and not tracked. `appLimited`:
   * the application had nothing more to send behind it.
   */
  onSent(
    now: number,
    packetNumber: number,
    bytes: number,
    ackEliciting: boolean,
    content: T,
    appLimited: boolean
  ): void {
    const packets = this.#packets
    const slot = this.#advanceTo(packetNumber)
    packets.fate[slot] = Fate.Open
    packets.ackEliciting[slot] = ackEliciting ? 1 : 0
    packets.bytes[slot] = bytes
    packets.sentAt[slot] = now
    packets.content[slot] = content
    if (!ackEliciting) return
    this.#rate.onSent(packets, slot, now, bytes, this.bytesInFlight)
    this.bytesInFlight += bytes
    this.#eliciting++
    this.#lastElicitingAt = now
    this.#pacer.onSent(now, bytes)
    this.#controller.onSent(now, bytes, packetNumber, this.#rate.appLimited, this.bytesInFlight)
    if (this.bytesInFlight + this.#maxDatagram > this.#controller.window()) {
      this.#appLimited = false
    } else if (appLimited) {
      this.#appLimited = true
      this.#rate.onAppLimited(this.bytesInFlight)
    }
  }

  /** The packet that just left is a probe of the path's MTU; one is in flight at a time. */
  onMtuProbe(packetNumber: number): void {
    this.#mtuProbe = packetNumber
  }

  /** Leaves out a packet number: whoever acknowledges it acknowledges what it never saw (RFC 9000 section 21.4). */
  onSkipped(packetNumber: number): void {
    this.#advanceTo(packetNumber)
    this.#skipped.push(packetNumber)
    if (this.#skipped.length > MAX_SKIPPED_REMEMBERED) this.#skipped.shift()
  }

  // -- acknowledgements --------------------------------------------------------------------------------------------

  /**
   * Takes an ACK: disjoint ranges, the largest first, and the delay the peer reports, in milliseconds. "invalid", with
   * nothing changed, when it acknowledges what was never sent or its ranges are no ranges.
   */
  onAck(now: number, ranges: ReadonlyArray<Range>, delayMs: number): AckResult<T> | "invalid" {
    if (!this.#valid(ranges)) return "invalid"
    const result = this.#ack
    result.acked.length = 0
    result.lost.length = 0
    result.newlyAckedBytes = 0
    result.rttSampled = false
    this.#beginLoss()
    this.#rate.begin(this.bytesInFlight)
    if (this.#remembered.size > 0) this.#reclaim(now, ranges, result)
    result.rttSampled = this.#sampleRtt(now, ranges, delayMs)

    const packets = this.#packets
    const largest = (ranges[0] as Range).end
    let news = largest > this.largestAcked
    if (news) this.largestAcked = largest
    let packetNumber = packets.base
    for (let i = ranges.length - 1; i >= 0; i--) {
      const range = ranges[i] as Range
      for (packetNumber = Math.max(packetNumber, range.start); packetNumber <= range.end; packetNumber++) {
        const slot = packets.slot(packetNumber)
        if (packets.fate[slot] !== Fate.Open) continue
        news = true
        this.#onAcked(now, packetNumber, slot, result)
      }
    }
    if (news) {
      this.ptoCount = 0
      this.#detectLost(now, result.lost)
      const sample = this.#rate.end(this.bytesInFlight, this.rtt.min)
      if (result.newlyAckedBytes > 0) this.#controller.onAckEnd(now, sample, this.rtt)
    }
    this.#drainEvicted(result.lost)
    result.lostBytes = this.#lostBytes
    result.persistentCongestion = this.#persistent
    return result
  }

  // -- time --------------------------------------------------------------------------------------------------------

  /** When to call `onTimeout`; `Infinity` while nothing waits for an acknowledgement. */
  get deadline(): number {
    if (this.#evicted.length > 0) return this.#lastElicitingAt
    if (this.#lossTime < Number.POSITIVE_INFINITY) return this.#lossTime
    if (this.#eliciting === 0) return Number.POSITIVE_INFINITY
    // A probe that could not be sent must not make the timer fire again at once.
    return Math.max(this.#lastElicitingAt, this.#lastProbeAt) + this.#backedOffPto
  }

  /** The deadline has passed: declares losses, or asks for a probe and backs off. Harmless when called early. */
  onTimeout(now: number): TimeoutResult<T> {
    const result = this.#timeout
    result.lost.length = 0
    result.probe = false
    this.#beginLoss()
    if (this.#lossTime <= now) this.#detectLost(now, result.lost)
    else if (this.#evicted.length === 0 && this.deadline <= now) {
      this.ptoCount++
      this.#lastProbeAt = now
      result.probe = true
    }
    this.#drainEvicted(result.lost)
    return result
  }

  /** The oldest ack-eliciting packet whose fate is open: the best thing to repeat in a probe. */
  oldest(): T | undefined {
    const packets = this.#packets
    if (this.#eliciting === 0) return undefined
    for (let packetNumber = packets.base; packetNumber < packets.next; packetNumber++) {
      const slot = packets.slot(packetNumber)
      if (packets.fate[slot] === Fate.Open && packets.ackEliciting[slot] === 1) return packets.content[slot]
    }
    return undefined
  }

  // -- path and end ------------------------------------------------------------------------------------------------

  /**
   * The session moved to another path (RFC 9000 section 9.4): a fresh controller and no round-trip estimate. What is in
   * flight on the old one keeps its fate but counts nowhere.
   */
  onPathChanged(controller: Controller, maxDatagram: number = MAX_DATAGRAM_LENGTH): void {
    this.rtt.reset()
    this.#controller = controller
    this.#maxDatagram = maxDatagram
    this.#pacer.reset(controller, maxDatagram)
    this.#pathStart = this.#packets.next
    this.bytesInFlight = 0
    this.ptoCount = 0
    this.#firstSampleAt = Number.POSITIVE_INFINITY
    this.#lossRunStart = Number.POSITIVE_INFINITY
    this.#packetThreshold = PACKET_THRESHOLD
    this.#timeThreshold = TIME_THRESHOLD
    this.#realLosses = 0
    this.#appLimited = true
  }

  /** Datagrams on this path may be this large from now on. */
  setMaxDatagram(bytes: number): void {
    this.#maxDatagram = bytes
    this.#controller.setMaxDatagram(bytes)
    this.#pacer.setMaxDatagram(bytes)
  }

  /** Forgets every packet: nothing is in flight, no deadline is left. */
  clear(): void {
    this.#packets.clear(this.#packets.next)
    this.#remembered.clear()
    this.#evicted = []
    this.#ack.acked.length = 0
    this.#ack.lost.length = 0
    this.#timeout.lost.length = 0
    this.bytesInFlight = 0
    this.ptoCount = 0
    this.#eliciting = 0
    this.#lossTime = Number.POSITIVE_INFINITY
  }

  // ------------------------------------------------------------------------------------------------------------------

  /** Makes `packetNumber` the newest in the ring and answers its slot. */
  #advanceTo(packetNumber: number): number {
    const packets = this.#packets
    const passed = packetNumber - packets.next
    if (passed < 0 || passed >= MAX_TRACKED_PACKETS)
      throw new RangeError(`Recovery: packet ${packetNumber} is no next one`)
    for (;;) {
      if (packets.full) this.#evict()
      const slot = packets.push()
      if (packets.next > packetNumber) return slot
    }
  }

  /** Gives up the oldest packet of a full ring: a peer acknowledges nothing, yet we had to go on answering it. */
  #evict(): void {
    const packets = this.#packets
    const slot = packets.slot(packets.base)
    if (packets.fate[slot] === Fate.Open) {
      this.#release(packets.base, slot)
      this.#evicted.push(packets.content[slot] as T)
    }
    packets.shift()
  }

  #drainEvicted(lost: Array<T>): void {
    if (this.#evicted.length === 0) return
    for (const content of this.#evicted) lost.push(content)
    this.#evicted = []
  }

  /** A packet is no longer in flight. */
  #release(packetNumber: number, slot: number): void {
    if (this.#packets.ackEliciting[slot] === 0) return
    this.#eliciting--
    if (packetNumber >= this.#pathStart) this.bytesInFlight -= this.#packets.bytes[slot] as number
  }

  /** Descending, disjoint, all sent, none skipped. */
  #valid(ranges: ReadonlyArray<Range>): boolean {
    let above = this.#packets.next
    let skip = this.#skipped.length - 1
    for (const { start, end } of ranges) {
      if (!(start >= 0 && start <= end && end < above)) return false
      while (skip >= 0 && (this.#skipped[skip] as number) > end) skip--
      if (skip >= 0 && (this.#skipped[skip] as number) >= start) return false
      above = start
    }
    return ranges.length > 0
  }

  /** RFC 9002 section 5.1: only the largest acknowledged packet gives a sample, and only if news elicited the ACK. */
  #sampleRtt(now: number, ranges: ReadonlyArray<Range>, delayMs: number): boolean {
    const packets = this.#packets
    const largest = (ranges[0] as Range).end
    if (largest < Math.max(packets.base, this.#pathStart)) return false
    const slot = packets.slot(largest)
    if (packets.fate[slot] !== Fate.Open || !this.#elicited(ranges)) return false
    this.rtt.update(now - (packets.sentAt[slot] as number), Math.min(Math.max(delayMs, 0), MAX_ACK_DELAY_MS))
    if (this.#firstSampleAt === Number.POSITIVE_INFINITY) this.#firstSampleAt = now
    return true
  }

  #elicited(ranges: ReadonlyArray<Range>): boolean {
    const packets = this.#packets
    for (const { start, end } of ranges) {
      for (let packetNumber = end; packetNumber >= Math.max(start, packets.base); packetNumber--) {
        const slot = packets.slot(packetNumber)
        if (packets.fate[slot] === Fate.Open && packets.ackEliciting[slot] === 1) return true
      }
    }
    return false
  }

  #onAcked(now: number, packetNumber: number, slot: number, result: Ack<T>): void {
    const packets = this.#packets
    packets.fate[slot] = Fate.Acked
    this.#release(packetNumber, slot)
    result.acked.push(packets.content[slot] as T)
    packets.content[slot] = undefined
    if (packets.ackEliciting[slot] === 0 || packetNumber < this.#pathStart) return
    const bytes = packets.bytes[slot] as number
    result.newlyAckedBytes += bytes
    this.#rate.onAcked(packets, slot, now)
    this.#controller.onAcked(now, packets.sentAt[slot] as number, bytes, this.rtt, this.#appLimited)
  }

  #beginLoss(): void {
    this.#lostBytes = 0
    this.#lostSentAt = Number.NEGATIVE_INFINITY
    this.#persistent = false
  }

  /**
   * RFC 9002 section 6.1. Packets leave in the order of their numbers, so the first open one that is not lost ends the
   * search, and everything before it is settled for good.
   */
  #detectLost(now: number, lost: Array<T>): void {
    const packets = this.#packets
    const delay = Math.max(this.#timeThreshold * Math.max(this.rtt.latest, this.rtt.smoothed), GRANULARITY_MS)
    this.#lossTime = Number.POSITIVE_INFINITY
    while (packets.base < packets.next && packets.base <= this.largestAcked) {
      const slot = packets.slot(packets.base)
      const fate = packets.fate[slot]
      if (fate === Fate.Open) {
        const lostAt = (packets.sentAt[slot] as number) + delay
        if (this.largestAcked - packets.base < this.#packetThreshold && lostAt > now) {
          this.#lossTime = lostAt
          break
        }
        this.#onLost(now, packets.base, slot, lost)
      } else if (fate === Fate.Acked) {
        this.#lossRunStart = Number.POSITIVE_INFINITY
      }
      packets.shift()
    }
    if (this.#lostBytes === 0) return
    this.#controller.onCongestionEvent(now, this.#lostSentAt, this.#persistent, this.#lostBytes)
  }

  #onLost(now: number, packetNumber: number, slot: number, lost: Array<T>): void {
    const packets = this.#packets
    const sentAt = packets.sentAt[slot] as number
    const bytes = packets.bytes[slot] as number
    const content = packets.content[slot] as T
    const inFlight = packets.ackEliciting[slot] === 1 && packetNumber >= this.#pathStart
    this.#release(packetNumber, slot)
    lost.push(content)
    this.#remembered.push(packetNumber, sentAt, bytes, inFlight, content, now + 3 * this.rtt.pto(MAX_ACK_DELAY_MS))
    // A probe of the path's MTU that does not arrive says nothing about congestion (RFC 9000 section 14.4).
    if (!inFlight || packetNumber === this.#mtuProbe) return
    if (++this.#realLosses >= REAL_LOSSES) this.#relax()
    this.#lostBytes += bytes
    this.#lostSentAt = sentAt
    const lostSinceSent = this.#rate.onLost(packets, slot)
    this.#controller.onLost(now, packetNumber, bytes, packets.inFlight[slot] as number, lostSinceSent)
    // RFC 9002 section 7.6: nothing but losses between two packets this far apart, both sent after the first RTT sample.
    if (sentAt <= this.#firstSampleAt) return
    if (this.#lossRunStart === Number.POSITIVE_INFINITY) this.#lossRunStart = sentAt
    const period = PERSISTENT_CONGESTION_THRESHOLD * this.rtt.pto(MAX_ACK_DELAY_MS)
    if (sentAt - this.#lossRunStart <= period) return
    this.#persistent = true
    this.#lossRunStart = Number.POSITIVE_INFINITY
  }

  /** Late acknowledgements of packets given up for lost: one walk down both lists. */
  #reclaim(now: number, ranges: ReadonlyArray<Range>, result: Ack<T>): void {
    const lost = this.#remembered
    lost.expire(now)
    let i = lost.size - 1
    for (const { start, end } of ranges) {
      while (i >= 0 && lost.packetNumber(i) > end) i--
      for (; i >= 0 && lost.packetNumber(i) >= start; i--) {
        if (lost.isTaken(i)) continue
        result.acked.push(lost.content(i))
        if (lost.inFlight(i) && lost.packetNumber(i) >= this.#pathStart) this.#onLate(now, i)
        lost.take(i)
      }
      if (i < 0) return
    }
  }

  #onLate(now: number, i: number): void {
    const lost = this.#remembered
    const sentAt = lost.sentAt(i)
    const apart = LATE_MARGIN * (this.largestAcked - lost.packetNumber(i)) + 1
    this.#packetThreshold = Math.min(Math.max(this.#packetThreshold, Math.ceil(apart)), PACKET_THRESHOLD_MAX)
    const trips = (LATE_MARGIN * (now - sentAt)) / Math.max(this.rtt.latest, this.rtt.smoothed, GRANULARITY_MS)
    this.#timeThreshold = Math.min(Math.max(this.#timeThreshold, trips), TIME_THRESHOLD_MAX)
    this.#realLosses = 0
    this.#controller.onSpuriousLoss(now, sentAt, lost.bytes(i))
  }

  /** The last losses were real: packets overtake each other less than we allow for. */
  #relax(): void {
    this.#realLosses = 0
    this.#packetThreshold = Math.max(PACKET_THRESHOLD, Math.floor(this.#packetThreshold / 2))
    this.#timeThreshold = (this.#timeThreshold + TIME_THRESHOLD) / 2
  }

  get #backedOffPto(): number {
    const pto = this.rtt.pto(MAX_ACK_DELAY_MS)
    // Where the round trip itself is longer than the cap, a shorter timer would only repeat what is still under way.
    return Math.max(pto, Math.min(pto * 2 ** Math.min(this.ptoCount, 30), PTO_CAP_MS))
  }
}
