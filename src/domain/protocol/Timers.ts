/** A session's deadlines: one enumeration, one table, one earliest. Milliseconds on the caller's clock. */

export const Timer = {
  /** Loss detection or probe timeout (RFC 9002 section 6). */
  Loss: 0,
  /** The acknowledgement we owe. */
  Ack: 1,
  /** Congestion control allows the next datagram. */
  Pace: 2,
  /** Nothing was sent for a while: keep NAT mappings and the peer's idle timer alive. */
  KeepAlive: 3,
  /** Nothing was received for the idle time-out. */
  Idle: 4,
  /** The peer owes an answer for too long: the path is dead. */
  Dead: 5,
  /** End of the closing or draining period. */
  Close: 6,
  /** Challenges of paths, and ids of ours to be forgotten. */
  Path: 7,
  /** The peer owes an answer for long enough to try another way. */
  Stall: 8,
  /** The search for the path's MTU goes on. */
  Mtu: 9,
  /** Small packets are sent once more. */
  Copy: 10,
  /** A key is to be replaced, or an old one to be forgotten. */
  Rekey: 11,
  /** The path in use is silent: others are asked. */
  Doubt: 12
} as const

export type Timer = (typeof Timer)[keyof typeof Timer]

const COUNT = 13

export class Timers {
  readonly #at = new Float64Array(COUNT).fill(Number.POSITIVE_INFINITY)

  set(timer: Timer, at: number): void {
    this.#at[timer] = at
  }

  stop(timer: Timer): void {
    this.#at[timer] = Number.POSITIVE_INFINITY
  }

  stopAll(): void {
    this.#at.fill(Number.POSITIVE_INFINITY)
  }

  at(timer: Timer): number {
    return this.#at[timer] as number
  }

  expired(timer: Timer, now: number): boolean {
    return (this.#at[timer] as number) <= now
  }

  /** The earliest deadline, `Infinity` when none is set. */
  next(): number {
    let earliest = Number.POSITIVE_INFINITY
    for (let i = 0; i < COUNT; i++) {
      const at = this.#at[i] as number
      if (at < earliest) earliest = at
    }
    return earliest
  }
}
