/** Round-trip time of one path, estimated as RFC 9002 section 5 says. All times in milliseconds. */
import { GRANULARITY_MS, INITIAL_RTT_MS } from "./Constants.ts"

export class Rtt {
  /** The latest sample, as measured: the peer's delay is in it. 0 before the first sample. */
  latest = 0
  /** The smallest sample; 0 before the first. */
  min = 0
  smoothed = INITIAL_RTT_MS
  /** Mean deviation, the RFC's rttvar. */
  variance = INITIAL_RTT_MS / 2
  hasSample = false

  /**
   * Takes a sample: time from sending the newest acknowledged packet to its acknowledgement, and the delay the peer says
   * it added. The caller has bounded that delay by the peer's max_ack_delay.
   */
  update(latestMs: number, ackDelayMs: number): void {
    const latest = Math.max(latestMs, 0)
    this.latest = latest
    if (!this.hasSample) {
      this.hasSample = true
      this.min = latest
      this.smoothed = latest
      this.variance = latest / 2
      return
    }
    this.min = Math.min(this.min, latest)
    // A delay that would push the sample below the minimum is a lie or a rounding: do not believe it.
    const adjusted = latest >= this.min + ackDelayMs ? latest - ackDelayMs : latest
    this.variance = 0.75 * this.variance + 0.25 * Math.abs(this.smoothed - adjusted)
    this.smoothed = 0.875 * this.smoothed + 0.125 * adjusted
  }

  /** What the handshake took, to be assumed until the first sample: its parts waited for disks, so it is none itself. */
  guess(ms: number): void {
    if (this.hasSample) return
    this.smoothed = Math.min(ms, INITIAL_RTT_MS)
    this.variance = this.smoothed / 2
  }

  /** One probe timeout without backoff (RFC 9002 section 6.2.1). */
  pto(maxAckDelayMs: number): number {
    return this.smoothed + Math.max(4 * this.variance, GRANULARITY_MS) + maxAckDelayMs
  }

  /** Another path: everything learnt is void. */
  reset(): void {
    this.latest = 0
    this.min = 0
    this.smoothed = INITIAL_RTT_MS
    this.variance = INITIAL_RTT_MS / 2
    this.hasSample = false
  }
}
