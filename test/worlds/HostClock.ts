/** The clocks of one host: a time of day that may be wrong, and a steady clock and timers that stand still while it sleeps. */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export class HostClock {
  /** Milliseconds that the time of day is ahead of the world's. */
  skewMs = 0
  readonly clock: Clock.Clock
  readonly #world: Clock.Clock
  readonly #awake = Latch.makeUnsafe(true)
  #asleepSince: bigint | undefined
  /** Nanoseconds slept so far. */
  #slept = 0n

  constructor(world: Clock.Clock) {
    this.#world = world
    const wall = (): number => world.currentTimeMillisUnsafe() + this.skewMs
    const wallNanos = (): bigint => world.currentTimeNanosUnsafe() + BigInt(this.skewMs) * 1_000_000n
    this.clock = {
      currentTimeMillisUnsafe: wall,
      currentTimeMillis: Effect.sync(wall),
      currentTimeNanosUnsafe: wallNanos,
      currentTimeNanos: Effect.sync(wallNanos),
      monotonicTimeNanosUnsafe: () => this.#steady(),
      monotonicTimeNanos: Effect.sync(() => this.#steady()),
      sleep: (duration) => this.#sleep(Duration.toMillis(duration))
    }
  }

  get asleep(): boolean {
    return this.#asleepSince !== undefined
  }

  /** Nothing on the host goes on; what is sent to it is the network's to drop. */
  suspend(): void {
    this.#asleepSince ??= this.#world.monotonicTimeNanosUnsafe()
    this.#awake.closeUnsafe()
  }

  resume(): void {
    this.#slept += this.#asleepSince === undefined ? 0n : this.#world.monotonicTimeNanosUnsafe() - this.#asleepSince
    this.#asleepSince = undefined
    this.#awake.openUnsafe()
  }

  #steady(): bigint {
    return (this.#asleepSince ?? this.#world.monotonicTimeNanosUnsafe()) - this.#slept
  }

  #sleep(ms: number): Effect.Effect<void> {
    return Effect.suspend(() => {
      const from = this.#steady()
      return Effect.flatMap(Effect.andThen(this.#world.sleep(Duration.millis(ms)), this.#awake.await), () => {
        const left = ms - Number(this.#steady() - from) / 1e6
        return left < 0.001 ? Effect.void : this.#sleep(left)
      })
    })
  }
}
