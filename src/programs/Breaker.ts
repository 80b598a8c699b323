/**
 * Whether something that keeps failing is worth another try. Closed at first; open after failures in a row; after a
 * while one try goes through, whose end closes it again or keeps it open twice as long. No clock: `now` in ms arrives.
 */

/** Failures in a row that open it. */
export const FAILURES = 5
/** How long it stays open at first, and at most, ms. */
export const OPEN_MS = 30_000
export const LONGEST_MS = 600_000

/** What became of an outcome: nothing that is worth a word, or a change. */
export type Change = "opened" | "closed" | undefined

export class Breaker {
  #failures = 0
  #openMs = 0
  #until = 0
  #trying = false

  /** Milliseconds until a try may go through; 0 for now. */
  waitMs(now: number): number {
    if (this.#openMs === 0) return 0
    if (this.#trying) return Math.max(this.#until - now, 1000)
    return Math.max(0, this.#until - now)
  }

  /** The try that goes through while it is open; its end is told by `succeeded`, `failed` or `left`. */
  begin(): void {
    if (this.#openMs > 0) this.#trying = true
  }

  get failures(): number {
    return this.#failures
  }

  /** How long it is open now, ms; 0 when closed. */
  get openMs(): number {
    return this.#openMs
  }

  succeeded(): Change {
    const open = this.#openMs > 0
    this.#failures = 0
    this.#openMs = 0
    this.#trying = false
    return open ? "closed" : undefined
  }

  /** `atLeastMs`: it is known to fail for so long. */
  failed(now: number, atLeastMs = 0): Change {
    this.#trying = false
    this.#failures++
    const wasOpen = this.#openMs > 0
    if (!wasOpen && this.#failures < FAILURES && atLeastMs === 0) return undefined
    const next = wasOpen ? this.#openMs * 2 : this.#failures >= FAILURES ? OPEN_MS : 0
    this.#openMs = Math.min(Math.max(next, atLeastMs, 1), LONGEST_MS)
    this.#until = now + this.#openMs
    return "opened"
  }

  /** Nobody waited for the end of a try. */
  left(): void {
    this.#trying = false
  }
}
