/**
 * How long a client may be silent before its NAT forgets it. The interval starts as configured and grows while that costs
 * nothing; what is learnt from silences that were kept and silences that were not:
 *
 *     works   the longest silence after which we were still reachable
 *     fails   the shortest after which we were not
 *
 * After `KEEP_ALIVE_STREAK` keep-alives in a row were kept, the next interval is tried: a quarter longer, or half-way to
 * `fails`. If that is kept, it works; if not, the interval falls back to what works, and the number of keep-alives before
 * the next try doubles. The search ends where `works` and `fails` are a tenth, or two seconds, apart. A silence that used to
 * work and no longer does means another NAT: the interval falls by a third, until it works again. So nothing longer than
 * what works is used, but for single tries; of each one that fails the cost is that the peer could not reach us for the
 * last fifth of it at most.
 *
 * Pure: no clock. An interval outside the bounds (a link that wants to notice within seconds, or no keep-alive at all)
 * stays as it is.
 */
import { KEEP_ALIVE_MAX_MS, KEEP_ALIVE_MIN_MS, KEEP_ALIVE_STREAK } from "./Constants.ts"

const GROWTH = 1.25
const FALL = 2 / 3
/** The search is over when what works and what fails are this close. */
const CLOSE = 0.1
const CLOSE_MS = 2000
/** Of an interval: a shorter silence says nothing about it. */
const WHOLE = 0.95
const LONG = 1.5
const MAX_STREAK = 64

export class KeepAlive {
  readonly #startMs: number
  readonly #maxMs: number
  readonly #adaptive: boolean
  #intervalMs: number
  #works = 0
  #fails = Number.POSITIVE_INFINITY
  #trying = false
  #kept = 0
  #streak = KEEP_ALIVE_STREAK

  /** `startMs` is the configured interval, `maxMs` what the session's idle time-out allows. */
  constructor(startMs: number, maxMs: number) {
    this.#startMs = startMs
    this.#maxMs = Math.min(maxMs, KEEP_ALIVE_MAX_MS)
    this.#adaptive = startMs >= KEEP_ALIVE_MIN_MS && startMs < this.#maxMs
    this.#intervalMs = startMs
  }

  /** Milliseconds of silence after which a keep-alive is due. */
  get intervalMs(): number {
    return this.#intervalMs
  }

  /** Whether the present interval is longer than any known to work. */
  get trying(): boolean {
    return this.#trying
  }

  /** After so long a silence the peer still reached us where it had before. */
  onKept(silenceMs: number): void {
    if (!this.#adaptive || silenceMs < WHOLE * this.#intervalMs) return
    this.#works = Math.max(this.#works, Math.min(silenceMs, this.#intervalMs))
    if (this.#works >= this.#fails) this.#fails = Number.POSITIVE_INFINITY
    if (this.#trying) {
      this.#trying = false
      this.#kept = 0
    }
    if (++this.#kept < this.#streak) return
    this.#kept = 0
    const next = Math.min(this.#works * GROWTH, (this.#works + this.#fails) / 2, this.#maxMs)
    const worth = Number.isFinite(this.#fails) ? Math.max(CLOSE * this.#works, CLOSE_MS) / 2 : 1
    if (next - this.#works < worth) return
    this.#trying = true
    this.#intervalMs = next
  }

  /** After so long a silence the NAT had forgotten us. */
  onLost(silenceMs: number): void {
    // A host that slept was silent for longer than it meant to be: that says nothing about the interval.
    if (!this.#adaptive || silenceMs > LONG * this.#intervalMs) return
    this.#kept = 0
    this.#fails = Math.min(this.#fails, Math.max(Math.min(silenceMs, this.#intervalMs), KEEP_ALIVE_MIN_MS))
    if (this.#trying) {
      this.#trying = false
      this.#streak = Math.min(2 * this.#streak, MAX_STREAK)
    }
    if (this.#works >= this.#fails) this.#works = 0
    this.#intervalMs = this.#works > 0 ? this.#works : Math.max(KEEP_ALIVE_MIN_MS, this.#fails * FALL)
  }

  /** Another network: nothing is known of it. */
  reset(): void {
    this.#intervalMs = this.#startMs
    this.#works = 0
    this.#fails = Number.POSITIVE_INFINITY
    this.#trying = false
    this.#kept = 0
    this.#streak = KEEP_ALIVE_STREAK
  }
}
