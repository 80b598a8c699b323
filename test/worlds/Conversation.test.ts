import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { Dependence, NatBehaviour } from "../../src/layers/SimulatedNat.ts"
import type { Nat, Network } from "../../src/layers/SimulatedNetwork.ts"
import * as World from "./World.ts"

const MESSAGES = 200

/** A long talk over a rough line; everything is said once, whole and in order, and nothing stays behind. */
const talk = (seed: number, nat: (network: Network) => Nat | undefined) =>
  World.run({ seed }, (world) =>
    Effect.gen(function* () {
      const translator = nat(world.network)
      const behind = translator === undefined ? {} : { nat: translator }
      const client = yield* world.paired({ ...behind, link: World.ROUGH })
      const questions: Array<string> = []
      for (let n = 0; n < MESSAGES; n++) {
        const question = `question ${n} of ${client.name}`
        questions.push(question)
        const reply = yield* client.ask(n, question)
        assert.strictEqual(reply.text, World.answerTo(question))
        const first = reply.outputs.filter(({ _tag }) => _tag === "Started" || _tag === "Restarted")
        assert.lengthOf(first, 1)
      }
      assert.deepStrictEqual(world.asked, questions)
      assert.deepStrictEqual(yield* World.transcriptFaults(world, questions), [])
      assert.deepStrictEqual(
        world.log.filter(({ level }) => level !== "Info"),
        []
      )

      // Only the stream of Control and Files stays, while the session does.
      yield* Effect.sleep(10_000)
      assert.deepStrictEqual(yield* World.openStreams(world), ["server: 1", `${client.name}: 1`])
      yield* client.tier.stop
      // Also when its farewell was lost.
      yield* Effect.sleep(60_000)
      assert.deepStrictEqual(yield* World.openStreams(world), [])
      assert.deepStrictEqual(yield* World.sessions(world), ["server: 0", "llm: 1"])
      yield* world.server.stop
      yield* Effect.sleep(30_000)
      assert.deepStrictEqual(yield* World.sessions(world), ["llm: 0"])
      const quiet = world.network.digest()
      yield* Effect.sleep(600_000)
      assert.strictEqual(world.network.digest(), quiet)
    })
  )

const dependences: ReadonlyArray<Dependence> = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent"
]
const ports: ReadonlyArray<NatBehaviour["ports"]> = ["preserving", "sequential", "random"]

describe(`A conversation of ${MESSAGES} messages with 10 % loss, jitter, reordering, duplicates and damage`, () => {
  let seed = 100
  it.effect("without a translator", () => talk(seed, () => undefined))
  for (const mapping of dependences) {
    for (const filtering of dependences) {
      for (const choice of ports) {
        const number = ++seed
        it.effect(`mapping ${mapping}, filtering ${filtering}, ports ${choice}`, () =>
          talk(number, (network) => network.nat({ address: "203.0.113.1", mapping, filtering, ports: choice }))
        )
      }
    }
  }
  it.effect("behind a carrier's symmetric translator", () =>
    talk(++seed, (network) => {
      const carrier = network.nat({ address: "203.0.113.1", kind: "symmetric" })
      return network.nat({ address: "100.64.0.2", kind: "portRestricted", behind: carrier })
    })
  )
})
