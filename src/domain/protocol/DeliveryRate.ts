/**
 * How fast the path delivers (draft-ietf-ccwg-bbr section 4.1): every packet remembers how much had been delivered when it
 * left, and its acknowledgement tells how much more, in how long. The longer of the sending and the acknowledging interval
 * counts, so that neither a burst nor compressed acknowledgements look like bandwidth.
 */
import type { AckSample } from "./Congestion.ts"
import type { SentPackets } from "./SentPackets.ts"

class Sample implements AckSample {
  ackedBytes = 0
  lostBytes = 0
  priorInFlight = 0
  bytesInFlight = 0
  delivered = 0
  lost = 0
  priorDelivered = 0
  rtt = -1
  interval = 0
  deliveryRate = 0
  appLimited = false
  txInFlight = 0
  lostSinceSent = 0
}

export class DeliveryRate {
  readonly sample = new Sample()
  #delivered = 0
  #deliveredAt = 0
  #firstSentAt = 0
  #lost = 0
  /** Samples are limited by the application until this much is delivered; 0 when they are not. */
  #limitedUntil = 0
  /** Of the newest packet acknowledged so far by the current acknowledgement; times below zero before the first. */
  #priorDeliveredAt = -1
  #sendElapsed = 0
  #lostBefore = 0

  get appLimited(): boolean {
    return this.#limitedUntil > 0
  }

  /** A packet leaves: `bytesInFlight` does not include it yet. */
  onSent(packets: SentPackets<unknown>, slot: number, now: number, bytes: number, bytesInFlight: number): void {
    if (bytesInFlight === 0) {
      this.#firstSentAt = now
      this.#deliveredAt = now
    }
    packets.delivered[slot] = this.#delivered
    packets.deliveredAt[slot] = this.#deliveredAt
    packets.firstSentAt[slot] = this.#firstSentAt
    packets.appLimited[slot] = this.appLimited ? 1 : 0
    packets.inFlight[slot] = bytesInFlight + bytes
    packets.lost[slot] = this.#lost
  }

  /** The application has nothing more to send: until what is in flight has arrived, samples are only lower bounds. */
  onAppLimited(bytesInFlight: number): void {
    this.#limitedUntil = Math.max(this.#delivered + bytesInFlight, 1)
  }

  /** An acknowledgement begins. */
  begin(bytesInFlight: number): void {
    this.sample.ackedBytes = 0
    this.sample.lostBytes = 0
    this.sample.priorInFlight = bytesInFlight
    this.sample.rtt = -1
    this.#priorDeliveredAt = -1
  }

  /** It acknowledges a packet; packets come in sending order. */
  onAcked(packets: SentPackets<unknown>, slot: number, now: number): void {
    const bytes = packets.bytes[slot] as number
    const sentAt = packets.sentAt[slot] as number
    this.#delivered += bytes
    this.#deliveredAt = now
    this.#firstSentAt = sentAt
    this.#priorDeliveredAt = packets.deliveredAt[slot] as number
    this.#sendElapsed = sentAt - (packets.firstSentAt[slot] as number)
    this.#lostBefore = packets.lost[slot] as number
    this.sample.ackedBytes += bytes
    this.sample.priorDelivered = packets.delivered[slot] as number
    this.sample.appLimited = packets.appLimited[slot] === 1
    this.sample.txInFlight = packets.inFlight[slot] as number
    this.sample.rtt = now - sentAt
  }

  /** A packet is lost; answers what was lost since it left, itself included. */
  onLost(packets: SentPackets<unknown>, slot: number): number {
    const bytes = packets.bytes[slot] as number
    this.#lost += bytes
    this.sample.lostBytes += bytes
    return this.#lost - (packets.lost[slot] as number)
  }

  /** The acknowledgement ends, its losses known: completes `sample`. */
  end(bytesInFlight: number, minRtt: number): AckSample {
    const sample = this.sample
    if (this.#limitedUntil > 0 && this.#delivered > this.#limitedUntil) this.#limitedUntil = 0
    sample.bytesInFlight = bytesInFlight
    sample.delivered = this.#delivered
    sample.lost = this.#lost
    sample.interval = 0
    sample.deliveryRate = 0
    if (this.#priorDeliveredAt < 0) return sample
    sample.lostSinceSent = this.#lost - this.#lostBefore
    const interval = Math.max(this.#sendElapsed, this.#deliveredAt - this.#priorDeliveredAt)
    // Shorter than the shortest round trip: the clock or the order of packets fooled us.
    if (interval <= 0 || interval < minRtt) return sample
    sample.interval = interval
    sample.deliveryRate = (this.#delivered - sample.priorDelivered) / interval
    return sample
  }
}
