/** What lives on after COMPROMISED. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as World from "./World.ts"

describe("A server that has burnt its keys", () => {
  it.effect("can be stopped and started like any other, at once and again", () =>
    World.run({ seed: 801 }, (world) =>
      Effect.gen(function* () {
        yield* world.paired()
        const relay = yield* world.server.made
        yield* relay.control.compromise
        yield* Effect.sleep(3000)
        for (const end of ["kill", "stop"] as const) {
          // Nothing that it has written since is taken for what was burnt.
          yield* world.server[end]
          yield* world.server.start()
          yield* world.llm[end]
          yield* world.llm.start()
          yield* Effect.sleep(1000)
        }
        const fresh = yield* world.server.made
        yield* Effect.orDie(fresh.control.renew)
        const client = yield* world.client()
        const link = yield* Effect.flatMap(Effect.orDie(world.pairing), client.tier.start)
        yield* link.session
        assert.strictEqual((yield* client.ask(0)).text, World.answerTo(`question 0 of ${client.name}`))
      })
    )
  )
})
