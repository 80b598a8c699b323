import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as Resolver from "../../src/services/Resolver.ts"
import { Transport, TransportError } from "../../src/services/Transport.ts"
import { HostClock } from "../worlds/HostClock.ts"
import * as Support from "./CredentialSupport.ts"

/** A link whose every attempt fails after `ms`; what it says of itself, and when each attempt began. */
const hopeless = Effect.fnUntraced(function* (ms: number, at: Array<number>, host?: HostClock) {
  yield* TestClock.setTime(Support.NOW)
  const clock = host?.clock ?? (yield* Clock.Clock)
  const transport = Transport.of({
    listen: () => Effect.die(new Error("nobody listens here")),
    connect: () =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        at.push(now)
        return Effect.andThen(
          Effect.sleep(ms),
          Effect.fail(new TransportError({ reason: "NoAnswer", message: "nobody answered" }))
        )
      })
  })
  const identity = yield* ClientIdentity.make(HomePaths.client("/home"))
  const pairing = ClientIdentity.pairingOf(yield* CredentialFiles.make(Support.options))
  return yield* ClientLink.make({
    identity,
    pairing,
    deviceName: "x",
    patience: ClientLink.PATIENCE,
    timeoutMs: 1000
  }).pipe(Effect.provideService(Transport, transport), Effect.provideService(Clock.Clock, clock))
})

describe("ClientLink", () => {
  it.effect("tries for ever: every 3 s for ten minutes, then every 30 s, a quarter more or less", () =>
    Effect.gen(function* () {
      const at: Array<number> = []
      yield* hopeless(0, at)
      yield* TestClock.adjust("6 hours")
      const since = (time: number) => time - Support.NOW
      const pauses = at.slice(1).map((time, n) => ({ begun: since(at[n] ?? 0), ms: time - (at[n] ?? 0) }))
      const early = pauses.filter(({ begun }) => begun > 10_000 && begun < 600_000)
      const late = pauses.filter(({ begun }) => begun >= 600_000)
      for (const { ms } of early) assert.closeTo(ms, 3000, 751)
      for (const { ms } of late) assert.closeTo(ms, 30_000, 7501)
      for (const some of [early, late]) {
        const all = some.map(({ ms }) => ms)
        // Spread over most of the range, so that a crowd of clients does not come back at once.
        assert.isAbove((Math.max(...all) - Math.min(...all)) / Math.max(...all), 0.3)
      }
      assert.isAbove(early.length, 150)
      assert.isAbove(late.length, 600)
      assert.isAtMost(6 * 3_600_000 - since(at.at(-1) ?? 0), 37_500)
    }).pipe(Effect.provide([new Support.Disk().layer, CryptoNode.layer, Resolver.layerMemory({})]))
  )

  it.effect("tries at once when its host wakes in the middle of a long pause, and often again", () =>
    Effect.gen(function* () {
      const host = new HostClock(yield* Clock.Clock)
      const at: Array<number> = []
      const link = yield* hopeless(0, at, host)
      yield* TestClock.adjust("20 minutes")
      // Until five seconds into the next pause.
      const state = yield* link.state
      const nextAt = state._tag === "Connecting" ? (state.nextAt ?? 0) : 0
      yield* TestClock.adjust(nextAt - (yield* Clock.currentTimeMillis) + 5000)
      host.suspend()
      yield* TestClock.adjust("11 hours")
      host.resume()
      const woke = yield* Clock.currentTimeMillis
      const before = at.length
      yield* TestClock.adjust("10 seconds")
      const tries = at.slice(before).map((time) => time - woke)
      assert.isAtMost(tries[0] ?? Number.POSITIVE_INFINITY, 1000)
      assert.isAtLeast(tries.length, 4)
    }).pipe(Effect.provide([new Support.Disk().layer, CryptoNode.layer, Resolver.layerMemory({})]))
  )

  it.effect("says which attempt comes when, and while one is under way", () =>
    Effect.gen(function* () {
      const link = yield* hopeless(1000, [])
      const said: Array<readonly [attempt: number, waits: boolean]> = []
      yield* Effect.forkScoped(
        Stream.runForEach(link.changes, (state) =>
          Effect.map(Clock.currentTimeMillis, (now) => {
            if (state._tag !== "Connecting") return
            said.push([state.attempt, state.nextAt !== undefined])
            if (state.nextAt !== undefined) assert.isAbove(state.nextAt, now)
          })
        )
      )
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(said.slice(0, 5), [
        [0, false],
        [1, true],
        [1, false],
        [2, true],
        [2, false]
      ])
    }).pipe(Effect.provide([new Support.Disk().layer, CryptoNode.layer, Resolver.layerMemory({})]))
  )

  it.effect("waits twice as long after each attempt, up to the longest wait", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Support.NOW)
      const at: Array<number> = []
      const transport = Transport.of({
        listen: () => Effect.die(new Error("nobody listens here")),
        connect: () =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            at.push(now)
            return new TransportError({ reason: "NoAnswer", message: "nobody answered" })
          })
      })
      const identity = yield* ClientIdentity.make(HomePaths.client("/home"))
      const pairing = ClientIdentity.pairingOf(yield* CredentialFiles.make(Support.options))
      const patience = ClientLink.patience({ idleTimeoutMs: 90_000, keepaliveIntervalMs: 20_000 })
      assert.deepStrictEqual(patience, { keepAliveMs: 20_000, deadAfterMs: 15_000, idleTimeoutMs: 90_000 })
      const options = { identity, pairing, deviceName: "x", patience, timeoutMs: 1000 }
      const waits = Effect.fnUntraced(function* (pauseMs: number | undefined) {
        at.length = 0
        yield* Effect.scoped(
          Effect.andThen(
            ClientLink.make(pauseMs === undefined ? options : { ...options, pauseMs }),
            TestClock.adjust(20_000)
          )
        )
        return at.slice(1, 7).map((time, n) => time - (at[n] ?? 0))
      })
      /** A quarter more or less than these, and not all the same. */
      const like = (seen: ReadonlyArray<number>, wanted: ReadonlyArray<number>): void => {
        assert.strictEqual(seen.length, wanted.length)
        for (const [i, ms] of wanted.entries()) assert.closeTo(seen[i] as number, ms, 0.25 * ms)
        assert.isAbove(new Set(seen.map((ms, i) => ms / (wanted[i] as number))).size, 1)
      }
      yield* Effect.gen(function* () {
        like(yield* waits(30_000), [500, 1000, 2000, 3000, 3000, 3000])
        like(yield* waits(1000), [500, 1000, 1000, 1000, 1000, 1000])
        like(yield* waits(undefined), [500, 1000, 2000, 3000, 3000, 3000])
      }).pipe(Effect.provideService(Transport, transport))
    }).pipe(Effect.provide([new Support.Disk().layer, CryptoNode.layer, Resolver.layerMemory({})]))
  )
})
