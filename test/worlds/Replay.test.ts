import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as World from "./World.ts"

/** A world with all kinds of trouble in it, and what it was in the end. */
const eventful = (seed: number) =>
  World.run({ seed, capture: true }, (world) =>
    Effect.gen(function* () {
      const nat = world.network.nat({ address: "203.0.113.1", kind: "symmetric" })
      const client = yield* world.paired({ nat, link: World.ROUGH })
      for (let n = 0; n < 10; n++) yield* client.ask(n)
      yield* world.network.rebind(nat, "203.0.113.2")
      for (let n = 10; n < 20; n++) yield* client.ask(n)
      yield* world.server.kill
      yield* Effect.sleep(1000)
      yield* world.server.start()
      for (let n = 20; n < 30; n++) yield* client.ask(n)
      return { digest: world.network.digest(), log: world.log, wire: world.network.log }
    })
  )

describe("A simulated world", () => {
  it.effect("happens again, byte for byte, from its seed", () =>
    Effect.gen(function* () {
      const first = yield* eventful(7)
      const second = yield* eventful(7)
      const at = first.wire.findIndex((event, i) => JSON.stringify(event) !== JSON.stringify(second.wire[i]))
      assert.deepStrictEqual(second.wire[at], first.wire[at], `event ${at}`)
      assert.strictEqual(second.digest, first.digest)
      assert.deepStrictEqual(second.log, first.log)
      const other = yield* eventful(8)
      assert.notStrictEqual(other.digest, first.digest)
    })
  )

  it.effect("that fails tells the seed that replays it", () =>
    Effect.gen(function* () {
      const failing = World.run({ seed: 4711 }, (world) =>
        Effect.gen(function* () {
          const client = yield* world.paired()
          const { text } = yield* client.ask(0)
          assert.strictEqual(text, "something else")
        })
      )
      const exit = yield* Effect.exit(failing)
      assert.isTrue(Exit.isFailure(exit) && Cause.pretty(exit.cause).includes("replay with seed 4711"))
    })
  )

  it.effect("that comes to a standstill fails too", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(World.run({ seed: 12, limitMs: 60_000 }, () => Effect.never))
      assert.isTrue(Exit.isFailure(exit))
      const told = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
      assert.include(told, "stuck after 60000 ms")
      assert.include(told, "replay with seed 12")
    })
  )
})
