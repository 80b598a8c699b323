/** Behaviour discovery against a real coturn with two addresses on loopback. */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as FirewallNode from "../../src/layers/FirewallNode.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import * as ClosedPorts from "../../src/programs/ClosedPorts.ts"
import * as NatReport from "../../src/programs/NatReport.ts"
import * as StunQuestion from "../../src/programs/StunQuestion.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"
import { Coturn, hasCoturn, whyNot } from "./Coturn.ts"

// Only Linux has all of 127.0.0.0/8 without further ado.
const isHere = hasCoturn && process.platform === "linux"
const why = hasCoturn && !isHere ? " (skipped: 127.0.0.2 is there on Linux only)" : whyNot

describe.skipIf(!isHere)(`STUN against coturn${why}`, () => {
  let coturn: Coturn
  beforeAll(async () => {
    coturn = await Coturn.start({ extra: ["-L", "127.0.0.2"] })
  })
  afterAll(() => coturn?.end())
  const host = Layer.merge(UdpSocketNode.layer, CryptoNode.layer)

  it.live("no translator and no filter on loopback", () =>
    Effect.gen(function* () {
      const { local, report } = yield* NatReport.discover({ servers: [coturn.address] })
      const { servers, ...rest } = report
      assert.deepStrictEqual(rest, {
        reflexive: { host: "127.0.0.1", port: local.port },
        translated: false,
        mapping: "endpoint-independent",
        filtering: "endpoint-independent",
        portPreserved: true,
        hairpin: undefined,
        mtu: undefined
      })
      assert.deepInclude(servers[0], {
        server: coturn.address,
        outcome: "answered",
        other: { host: "127.0.0.2", port: coturn.address.port + 1 }
      })
    }).pipe(Effect.provide(host))
  )

  it.live("answers to the port that it is told, which shows what closed ports do", () =>
    Effect.gen(function* () {
      const { bind } = yield* UdpSocket
      const [from, at] = [
        yield* bind({ host: "127.0.0.1", port: 0 }),
        yield* bind({ host: "127.0.0.1", port: 0 })
      ] as const
      const answer = yield* StunQuestion.ask({ from, at, server: coturn.address, responsePort: at.address.port })
      assert.deepStrictEqual(StunQuestion.reflexive(answer), from.address)
      const sent = yield* FirewallNode.unreachablesSent
      assert.isNumber(sent)
      assert.strictEqual(yield* ClosedPorts.probe(coturn.address, FirewallNode.unreachablesSent), "answer")
    }).pipe(Effect.scoped, Effect.provide(host))
  )
})
