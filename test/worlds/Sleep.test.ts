/** A laptop that is closed for the night: its timers stand still, its network is gone, the clock on the wall goes on. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as World from "./World.ts"

const HOUR_MS = 3_600_000

/** A client that is paired, and the night of its host. */
const onLaptop = Effect.fnUntraced(function* (world: World.World) {
  const client = yield* world.paired()
  const link = yield* client.tier.made
  const night = Effect.gen(function* () {
    yield* world.network.cut(client.host)
    client.clock.suspend()
    // Of the tiers only what they do in the morning is looked at.
    yield* world.server.stop
    yield* world.llm.stop
    yield* Effect.sleep(11 * HOUR_MS)
    yield* world.llm.start()
    const relay = yield* world.server.start()
    yield* Stream.runDrain(Stream.takeUntil(relay.control.llm, ({ connected }) => connected))
    yield* world.network.restore(client.host)
    client.clock.resume()
  })
  return { client, link, night }
})

/** Milliseconds until a question is answered. */
const answered = Effect.fnUntraced(function* (world: World.World, client: World.Client, n: number) {
  const from = yield* world.now
  const { text } = yield* client.ask(n)
  assert.strictEqual(text, World.answerTo(`question ${n} of ${client.name}`))
  return (yield* world.now) - from
})

const OPTIONS = { limitMs: 14 * HOUR_MS, stepMs: 10_000 }

describe("A laptop that slept for eleven hours", () => {
  it.effect("and was connected finds out by itself, and is connected to the port that has moved", () =>
    World.run({ ...OPTIONS, seed: 421 }, (world) =>
      Effect.gen(function* () {
        const { client, link, night } = yield* onLaptop(world)
        const old = yield* link.session
        const before = (yield* world.server.made).address
        // All is quiet, and a keep-alive has just been.
        yield* Effect.sleep(31_000)
        yield* night
        assert.notDeepEqual((yield* world.server.made).address, before)
        // Nobody asks anything: keep-alives are a quarter of a minute apart.
        const from = yield* world.now
        yield* link.changes.pipe(
          Stream.takeUntil((state) => state._tag === "Connected" && state.session !== old),
          Stream.runDrain
        )
        assert.isAtMost((yield* world.now) - from, 8000)
        assert.isAtMost(yield* answered(world, client, 1), 500)
      })
    )
  )

  it.effect("and was just trying begins anew, with the ports of the hour", () =>
    World.run({ ...OPTIONS, seed: 423 }, (world) =>
      Effect.gen(function* () {
        const { client, link, night } = yield* onLaptop(world)
        yield* world.network.cut(client.host)
        yield* Effect.sleep(120_000)
        yield* link.changes.pipe(
          Stream.filter((state) => state._tag === "Connecting" && state.nextAt === undefined),
          Stream.take(1),
          Stream.runDrain
        )
        yield* Effect.sleep(3000)
        yield* night
        assert.isAtMost(yield* answered(world, client, 0), 3000)
      })
    )
  )
})
