import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as ClosedPorts from "../../src/programs/ClosedPorts.ts"
import * as MappingLifetime from "../../src/programs/MappingLifetime.ts"
import { responder } from "./StunResponder.ts"

const crypto = CryptoNode.layerSeeded("mapping lifetime")
const link = { delayMs: 5 }

/** Runs to the end, and for how long in virtual time. */
const run = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>, limitMs: number) {
  const fiber = yield* Effect.forkChild(effect)
  let ms = 0
  while (fiber.pollUnsafe() === undefined && ms < limitMs) {
    yield* TestClock.adjust(500)
    ms += 500
  }
  assert.isDefined(fiber.pollUnsafe(), `not done in ${limitMs} ms`)
  return { found: yield* Fiber.join(fiber), ms }
})

const measured = (nat: Omit<SimulatedNetwork.NatOptions, "address">, limitMs: number, discovery = true) =>
  SimulatedNetwork.world(
    { seed: 5 },
    Effect.fnUntraced(function* (network) {
      const server = yield* responder(network, discovery ? {} : { answer: () => undefined })
      const translator = network.nat({ address: "198.51.100.7", ...nat })
      const host = network.host({ address: "10.0.0.2", nat: translator, link })
      const measure = MappingLifetime.measure(server.address, limitMs)
      return yield* run(Effect.provide(measure, Layer.merge(host.layer, crypto)), 3 * limitMs + 30_000)
    })
  )

describe("MappingLifetime", () => {
  it.effect("finds the timeout of a translator, in at most twice the limit", () =>
    Effect.gen(function* () {
      for (const kind of ["fullCone", "portRestricted", "symmetric"] as const) {
        for (const refreshedFromOutside of [false, true]) {
          const { found, ms } = yield* measured({ kind, timeoutMs: 50_000, refreshedFromOutside }, 120_000)
          assert.isDefined(found)
          const { atLeastMs, belowMs = Number.NaN } = found
          assert.isTrue(atLeastMs < 50_000 && belowMs >= 48_000, `${kind}: ${atLeastMs} to ${belowMs}`)
          assert.isAtMost(belowMs - atLeastMs, 3000)
          assert.isAtMost(ms, 190_000)
        }
      }
    })
  )

  it.effect("tells a timeout beyond the limit, and a server that does not play along", () =>
    Effect.gen(function* () {
      const { found } = yield* measured({ kind: "restricted", timeoutMs: 300_000 }, 60_000)
      assert.deepStrictEqual(found, { atLeastMs: 60_000, belowMs: undefined })
      const { found: none } = yield* measured({ kind: "restricted" }, 60_000, false)
      assert.isUndefined(none)
    })
  )
})

describe("ClosedPorts", () => {
  /** A host of the simulated network whose stack answers for closed ports, or keeps silent, or cannot count. */
  const probed = (system: "answers" | "drops" | "does not count", discovery = true) =>
    SimulatedNetwork.world(
      { seed: 6, capture: true },
      Effect.fnUntraced(function* (network) {
        const server = yield* responder(network, { discovery })
        const host = network.host({ address: "203.0.113.5", link })
        const unreachables = Effect.sync(() => {
          if (system === "does not count") return undefined
          if (system === "drops") return 7
          return network.log.filter(({ to, why }) => to.host === "203.0.113.5" && why === "no socket").length
        })
        const probe = ClosedPorts.probe(server.address, unreachables)
        return (yield* run(Effect.provide(probe, Layer.merge(host.layer, crypto)), 10_000)).found
      })
    )

  it.effect("tells silent ports from ports that answer, and when it cannot tell", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* probed("answers"), "answer")
      assert.strictEqual(yield* probed("drops"), "silent")
      assert.strictEqual(yield* probed("does not count"), "unknown")
    })
  )

  it.effect("does not take a server's refusal for silence", () =>
    SimulatedNetwork.world(
      { seed: 7 },
      Effect.fnUntraced(function* (network) {
        const server = yield* responder(network, { discovery: false, responsePort: false })
        const host = network.host({ address: "203.0.113.5", link })
        const probe = ClosedPorts.probe(server.address, Effect.succeed(0))
        const { found } = yield* run(Effect.provide(probe, Layer.merge(host.layer, crypto)), 10_000)
        assert.strictEqual(found, "unknown")
      })
    )
  )
})
