/**
 * A TCP sender to compete with, independent of our own code: window-based, not paced, SACK-like loss recovery over
 * transmission numbers (three later ones prove a loss, as RACK without reordering), RTO with back-off, and the window of
 * Reno (RFC 5681) or CUBIC (RFC 9438, slow start ended early by a rise in delay as Linux does). Windows count segments.
 */
export type TcpKind = "tcp-reno" | "tcp-cubic"

const CUBIC_C = 0.4
const CUBIC_BETA = 0.7
const MIN_RTO_MS = 200

export class TcpModel {
  readonly kind: TcpKind
  window = 10
  inFlight = 0
  next = 0
  #threshold = Number.POSITIVE_INFINITY
  #base = 0
  #largest = -1
  #acked = new Uint8Array(1 << 16)
  #sentAt = new Float64Array(1 << 16)
  #srtt = 0
  #rttvar = 0
  #minRtt = Number.POSITIVE_INFINITY
  #backoff = 1
  #lastProgress = 0
  #recoveryStart = -1
  #wMax = 0
  #wEst = 0
  #k = 0
  #epoch = -1
  #roundEnd = 0
  #roundMin = Number.POSITIVE_INFINITY
  #roundCount = 0

  constructor(kind: TcpKind) {
    this.kind = kind
  }

  get canSend(): boolean {
    return this.inFlight + 1 <= this.window && this.next - this.#base < 65_536
  }

  /** When the retransmission timer fires. */
  get deadline(): number {
    if (this.inFlight === 0) return Number.POSITIVE_INFINITY
    const rto = this.#srtt === 0 ? 1000 : Math.max(MIN_RTO_MS, this.#srtt + 4 * this.#rttvar)
    return this.#lastProgress + Math.min(rto * this.#backoff, 60_000)
  }

  onSent(now: number): number {
    const number = this.next++
    this.#acked[number & 65_535] = 0
    this.#sentAt[number & 65_535] = now
    if (this.inFlight === 0) this.#lastProgress = now
    this.inFlight++
    return number
  }

  /** Answers how many were lost. */
  onAck(now: number, ranges: ReadonlyArray<{ readonly start: number; readonly end: number }>): number {
    let acked = 0
    const largest = ranges[0]?.end ?? -1
    for (const { start, end } of ranges) {
      for (let number = Math.max(start, this.#base); number <= end; number++) {
        const slot = number & 65_535
        if (this.#acked[slot] !== 0) continue
        this.#acked[slot] = 1
        acked++
        this.inFlight--
        if (number === largest && number > this.#largest) this.#sample(now - (this.#sentAt[slot] as number))
      }
    }
    if (acked === 0) return 0
    this.#largest = Math.max(this.#largest, largest)
    this.#lastProgress = now
    this.#backoff = 1
    let lost = 0
    let newest = -1
    while (this.#base <= this.#largest) {
      if (this.#acked[this.#base & 65_535] === 0) {
        if (this.#largest - this.#base < 3) break
        lost++
        this.inFlight--
        newest = this.#sentAt[this.#base & 65_535] as number
      }
      this.#base++
    }
    if (lost > 0 && newest > this.#recoveryStart) this.#reduce(now)
    else if ((this.#sentAt[this.#largest & 65_535] as number) > this.#recoveryStart) this.#grow(now, acked)
    return lost
  }

  /** The retransmission timer: everything in flight counts as lost. Answers how much that was. */
  onTimeout(now: number): number {
    const lost = this.inFlight
    for (; this.#base < this.next; this.#base++) this.#acked[this.#base & 65_535] = 1
    this.#largest = this.next - 1
    this.inFlight = 0
    this.#wMax = this.window
    this.#threshold = Math.max(2, this.window / 2)
    this.window = 1
    this.#epoch = -1
    this.#recoveryStart = now
    this.#lastProgress = now
    this.#backoff *= 2
    return lost
  }

  #sample(rtt: number): void {
    if (this.#srtt === 0) {
      this.#srtt = rtt
      this.#rttvar = rtt / 2
    } else {
      this.#rttvar += 0.25 * (Math.abs(rtt - this.#srtt) - this.#rttvar)
      this.#srtt += 0.125 * (rtt - this.#srtt)
    }
    this.#minRtt = Math.min(this.#minRtt, rtt)
    if (this.kind !== "tcp-cubic" || this.window >= this.#threshold) return
    if (this.#largest >= this.#roundEnd) {
      this.#roundEnd = this.next
      this.#roundMin = Number.POSITIVE_INFINITY
      this.#roundCount = 0
    }
    this.#roundMin = Math.min(this.#roundMin, rtt)
    if (++this.#roundCount !== 8 || this.window < 16) return
    if (this.#roundMin > this.#minRtt + Math.min(16, Math.max(4, this.#minRtt / 8))) this.#threshold = this.window
  }

  #reduce(now: number): void {
    this.#recoveryStart = now
    this.#epoch = -1
    if (this.kind === "tcp-reno") {
      this.window = Math.max(2, this.window / 2)
    } else {
      this.#wMax = this.window < this.#wMax ? (this.window * (1 + CUBIC_BETA)) / 2 : this.window
      this.window = Math.max(2, this.window * CUBIC_BETA)
    }
    this.#threshold = this.window
  }

  #grow(now: number, acked: number): void {
    if (this.window < this.#threshold) {
      this.window += acked
      return
    }
    if (this.kind === "tcp-reno") {
      this.window += acked / this.window
      return
    }
    if (this.#epoch < 0) {
      this.#epoch = now
      if (this.#wMax < this.window) this.#wMax = this.window
      this.#k = Math.cbrt((this.#wMax - this.window) / CUBIC_C)
      this.#wEst = this.window
    }
    const t = (now - this.#epoch + this.#srtt) / 1000
    const target = Math.min(Math.max(CUBIC_C * (t - this.#k) ** 3 + this.#wMax, this.window), 1.5 * this.window)
    this.#wEst += ((3 * (1 - CUBIC_BETA)) / (1 + CUBIC_BETA)) * (acked / this.window)
    this.window += ((target - this.window) / this.window) * acked
    this.window = Math.max(this.window, this.#wEst)
  }
}
