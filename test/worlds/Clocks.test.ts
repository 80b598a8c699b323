import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as World from "./World.ts"

const HOUR = 3_600_000

const skewsOf = (world: World.World) =>
  Effect.map(
    Effect.flatMap(world.server.made, ({ control }) =>
      Effect.orDie(control.audit.read({ limit: 1000, kinds: ["clock.skewed"] }))
    ),
    (records) => records.flatMap((record) => (record.kind === "clock.skewed" ? [record.skewMs] : []))
  )

/** Comes back without a file; what its owner is told of the clock, and how long it took. */
const comeBack = Effect.fnUntraced(function* (world: World.World, client: World.Client) {
  const at = yield* world.now
  const { skewMs } = yield* Effect.flatMap(client.tier.start(undefined), ({ session }) => session)
  return { skewMs, tookMs: (yield* world.now) - at }
})

describe("A device whose clock is wrong", () => {
  for (const [seed, hours, link] of [
    [911, 11, World.ROUGH],
    [912, -11, World.ROUGH],
    // Near the end of the sweep, where a lost datagram would cost the time of another one.
    [913, 25.5, { delayMs: 20 }]
  ] as const) {
    it.effect(`by ${hours} hours comes in, is told, keeps what worked, and comes in when it is set right`, () =>
      World.run({ seed }, (world) =>
        Effect.gen(function* () {
          const client = yield* world.paired({ link })
          yield* client.tier.stop
          client.clock.skewMs = hours * HOUR
          const first = yield* comeBack(world, client)
          assert.strictEqual(first.skewMs, -hours * HOUR)
          assert.isBelow(first.tookMs, 15_000)
          yield* client.ask(0)
          assert.approximately((yield* skewsOf(world)).at(-1) ?? 0, hours * HOUR, 10_000)
          yield* client.tier.stop

          const second = yield* comeBack(world, client)
          assert.strictEqual(second.skewMs, -hours * HOUR)
          assert.isBelow(second.tookMs, 2000)
          yield* client.tier.stop

          client.clock.skewMs = 0
          const third = yield* comeBack(world, client)
          assert.strictEqual(third.skewMs, 0)
          assert.isBelow(third.tookMs, 5000)
          yield* client.ask(1)
        })
      )
    )
  }

  it.effect("comes in whatever is killed on the way, and whenever", () =>
    World.run({ seed: 914 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ link: { delayMs: 20 } })
        yield* client.tier.stop
        client.clock.skewMs = 11 * HOUR
        for (let n = 0; n < 16; n++) {
          // Set right and wrong by turns, so that each life has to search; the search is found to be over after some 3 s.
          client.clock.skewMs = n % 2 === 0 ? 11 * HOUR : 0
          yield* client.tier.start(undefined)
          yield* Effect.sleep(20 + 230 * n)
          if (n % 4 < 2) yield* client.tier.kill
          else {
            yield* world.server.kill
            yield* client.tier.kill
            yield* world.server.start()
          }
        }
        const back = yield* comeBack(world, client)
        assert.strictEqual(back.skewMs, 0)
        client.clock.skewMs = -11 * HOUR
        yield* client.tier.stop
        assert.strictEqual((yield* comeBack(world, client)).skewMs, 11 * HOUR)
        yield* client.ask(0)
      })
    )
  )
})
