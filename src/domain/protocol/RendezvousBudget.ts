/** Bytes and datagrams a second that may be forwarded, for one credential or in all. */
export interface Rate {
  readonly bytesPerSecond: number
  readonly datagramsPerSecond: number
}

/** Milliseconds' worth that may leave at once. */
const BURST_MS = 500

/** Two budgets that refill steadily and are spent together. Full at the start. */
export class RendezvousBudget {
  readonly #bytesPerMs: number
  readonly #datagramsPerMs: number
  #bytes: number
  #datagrams: number
  #at: number

  constructor(now: number, { bytesPerSecond, datagramsPerSecond }: Rate) {
    this.#bytesPerMs = bytesPerSecond / 1000
    this.#datagramsPerMs = datagramsPerSecond / 1000
    this.#bytes = this.#bytesPerMs * BURST_MS
    this.#datagrams = this.#datagramsPerMs * BURST_MS
    this.#at = now
  }

  /** Whether a datagram of so many bytes may go now. */
  has(now: number, bytes: number): boolean {
    const passed = now - this.#at
    if (passed > 0) {
      this.#bytes = Math.min(this.#bytesPerMs * BURST_MS, this.#bytes + passed * this.#bytesPerMs)
      this.#datagrams = Math.min(this.#datagramsPerMs * BURST_MS, this.#datagrams + passed * this.#datagramsPerMs)
      this.#at = now
    }
    return this.#datagrams >= 1 && this.#bytes >= bytes
  }

  /** Takes what `has` has said is there. */
  spend(bytes: number): void {
    this.#bytes -= bytes
    this.#datagrams -= 1
  }
}
