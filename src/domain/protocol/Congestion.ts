/**
 * What a congestion controller is: it hears about packets in flight and answers with a window and a rate. Recovery calls
 * it and enforces both; it owns no clock and no packet. Times in milliseconds, sizes in bytes, rates in bytes per
 * millisecond. Only packets that count as in flight (RFC 9002 section 2) are told to it.
 *
 * Order of calls. On an acknowledgement: `onSpuriousLoss` and `onAcked` per packet in sending order, `onLost` per packet it
 * proves lost, `onCongestionEvent` if there was one, `onAckEnd`. On the loss timer: `onLost` per packet, `onCongestionEvent`.
 * A probe timeout alone says nothing about congestion and calls nothing.
 */
import type { Rtt } from "./Rtt.ts"

/**
 * What one acknowledgement tells, with the delivery-rate sample of the newest packet it acknowledges
 * (draft-ietf-ccwg-bbr section 4.1). One object for the life of a Recovery: read it, do not keep it.
 */
export interface AckSample {
  /** Newly acknowledged by it. */
  readonly ackedBytes: number
  /** Declared lost because of it. */
  readonly lostBytes: number
  /** In flight before it and after it. */
  readonly priorInFlight: number
  readonly bytesInFlight: number
  /** Delivered and lost in all, since the path began. */
  readonly delivered: number
  readonly lost: number
  /** `delivered` when the newest packet left: a round has passed once this reaches the `delivered` noted at its start. */
  readonly priorDelivered: number
  /** Newest packet's time from departure to acknowledgement; -1 when the acknowledgement gives none. */
  readonly rtt: number
  /** Time over which the sample was taken; 0 when there is no sample. */
  readonly interval: number
  /** Delivered within `interval`, per millisecond; 0 when there is no sample. */
  readonly deliveryRate: number
  /** The application sent too little for the rate to say more than "at least". */
  readonly appLimited: boolean
  /** In flight when the newest packet left, itself included, and what was lost since then. */
  readonly txInFlight: number
  readonly lostSinceSent: number
}

export interface Controller {
  /** For logs and benchmarks. */
  readonly name: string
  /** Bytes that may be in flight. */
  window(): number
  /** Bytes per millisecond at which they may leave; finite and above zero. */
  pacingRate(): number
  /** A packet left; `bytesInFlight` includes it, `appLimited` as its sample will say. */
  onSent(now: number, bytes: number, packetNumber: number, appLimited: boolean, bytesInFlight: number): void
  /** A packet arrived; `appLimited` tells that the window was not in use, so its arrival proves no room for more. */
  onAcked(now: number, sentAt: number, bytes: number, rtt: Rtt, appLimited: boolean): void
  /** Once after an acknowledgement of anything new. */
  onAckEnd(now: number, sample: AckSample, rtt: Rtt): void
  /** A packet was lost; `txInFlight` and `lostSinceSent` as in the sample, this packet included in both. */
  onLost(now: number, packetNumber: number, bytes: number, txInFlight: number, lostSinceSent: number): void
  /** Packets were lost, the newest of them sent at `sentAt`; `persistent`: RFC 9002 section 7.6. */
  onCongestionEvent(now: number, sentAt: number, persistent: boolean, lostBytes: number): void
  /** A packet reported lost was acknowledged after all. */
  onSpuriousLoss(now: number, sentAt: number, bytes: number): void
  /** The path's datagrams may be this large from now on. */
  setMaxDatagram(bytes: number): void
}

/** A controller for a path that begins `now` and takes datagrams of `maxDatagram` bytes. */
export type Factory = (now: number, maxDatagram: number) => Controller
