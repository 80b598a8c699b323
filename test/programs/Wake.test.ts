import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import * as Wake from "../../src/programs/Wake.ts"
import { HostClock } from "../worlds/HostClock.ts"

/** What a host does, with its clock. */
const onHost = Effect.fnUntraced(function* <A>(effect: Effect.Effect<A>) {
  const host = new HostClock(yield* Clock.Clock)
  const fiber = yield* Effect.forkScoped(Effect.provideService(effect, Clock.Clock, host.clock))
  yield* Effect.yieldNow
  return { host, fiber, isOver: () => fiber.pollUnsafe() !== undefined }
})

const night = Effect.fnUntraced(function* (host: HostClock) {
  host.suspend()
  yield* TestClock.adjust("11 hours")
  host.resume()
})

describe("Wake", () => {
  it.effect("sleeps as long as it is told", () =>
    Effect.gen(function* () {
      const { fiber, isOver } = yield* onHost(Wake.sleep(30_500))
      yield* TestClock.adjust(30_499)
      assert.isFalse(isOver())
      yield* TestClock.adjust(1)
      assert.isFalse(yield* Fiber.join(fiber))
    })
  )

  it.effect("gives up the rest when the host has slept", () =>
    Effect.gen(function* () {
      const { fiber, host, isOver } = yield* onHost(Wake.sleep(30_000))
      yield* TestClock.adjust(2500)
      yield* night(host)
      assert.isFalse(isOver())
      yield* TestClock.adjust(500)
      assert.isTrue(yield* Fiber.join(fiber))
    })
  )

  it.effect("is not misled by a clock that is set back, or a little forward", () =>
    Effect.gen(function* () {
      const { host, isOver } = yield* onHost(Wake.soon)
      for (const skewMs of [-3_600_000, -3_598_000, -3_600_000]) {
        host.skewMs = skewMs
        yield* TestClock.adjust("1 minute")
      }
      assert.isFalse(isOver())
      yield* night(host)
      yield* TestClock.adjust("1 second")
      assert.isTrue(isOver())
    })
  )

  it.effect("notices within five seconds where nobody waits", () =>
    Effect.gen(function* () {
      const { host, isOver } = yield* onHost(Wake.wake)
      yield* TestClock.adjust("1 hour")
      yield* night(host)
      assert.isFalse(isOver())
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(isOver())
    })
  )
})
