import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { NatReport as Report } from "../../src/domain/protocol/NatBehaviour.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import type { Dependence } from "../../src/layers/SimulatedNat.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as NatReport from "../../src/programs/NatReport.ts"
import { responder } from "./StunResponder.ts"

const OUTSIDE = "198.51.100.7"
const INSIDE = "10.0.0.2"
const crypto = CryptoNode.layerSeeded("nat report")

const dependences: ReadonlyArray<Dependence> = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent"
]
const choices = ["preserving", "sequential", "random"] as const

/** Runs discovery on a host of the network to its end; the time it took, and what it found. */
const discover = Effect.fnUntraced(function* (
  host: SimulatedNetwork.Host,
  servers: ReadonlyArray<Address>,
  more: Partial<NatReport.Options> = {}
) {
  const fiber = yield* NatReport.discover({
    servers,
    port: 5000,
    ...more
  }).pipe(Effect.provide(Layer.merge(host.layer, crypto)), Effect.forkChild)
  let ms = 0
  while (fiber.pollUnsafe() === undefined && ms < 60_000) {
    yield* TestClock.adjust(50)
    ms += 50
  }
  const { report } = yield* Fiber.join(fiber)
  return { report, ms }
})

const world = <A, E, R>(run: (network: SimulatedNetwork.Network) => Effect.Effect<A, E, R>, seed = 1) =>
  SimulatedNetwork.world({ seed, capture: true }, run)

const link = { delayMs: 5 }

/** The host behind a translator of that kind, asking one server with two addresses. */
const behind = (nat: Omit<SimulatedNetwork.NatOptions, "address">, probes = false) =>
  world(
    Effect.fnUntraced(function* (network) {
      const server = yield* responder(network)
      const host = network.host({ address: INSIDE, nat: network.nat({ address: OUTSIDE, ...nat }), link, probes })
      return yield* discover(host, [server.address])
    })
  )

describe("NatReport", () => {
  for (const mapping of dependences) {
    for (const filtering of dependences) {
      it.effect(`tells a translator: mapping ${mapping}, filtering ${filtering}`, () =>
        Effect.gen(function* () {
          for (const ports of choices) {
            for (const hairpin of [false, true]) {
              const { report, ms } = yield* behind({ mapping, filtering, ports, hairpin })
              const what = `${ports} ${hairpin}`
              assert.strictEqual(report.mapping, mapping, what)
              assert.strictEqual(report.filtering, filtering, what)
              assert.isTrue(report.translated)
              assert.strictEqual(report.reflexive?.host, OUTSIDE)
              assert.strictEqual(report.portPreserved, ports === "preserving", what)
              // The request leaves by another mapping than it comes in by, unless the mapping is for everybody.
              const comesBack = mapping === "endpoint-independent" || filtering === "endpoint-independent"
              const passes = comesBack || (mapping === "address-dependent" && filtering === "address-dependent")
              if (!hairpin) assert.isFalse(report.hairpin)
              else if (comesBack) assert.isTrue(report.hairpin, what)
              else if (!passes) assert.isFalse(report.hairpin, what)
              assert.isAtMost(ms, 6000)
            }
          }
        })
      )
    }
  }

  it.effect("tells a host with a public address and no filter", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const server = yield* responder(network)
        const { report } = yield* discover(network.host({ address: "203.0.113.5", link }), [server.address])
        assert.deepStrictEqual(report, {
          servers: [
            {
              server: server.address,
              outcome: "answered",
              reflexive: { host: "203.0.113.5", port: 5000 },
              other: server.other,
              rttMs: 30
            }
          ],
          reflexive: { host: "203.0.113.5", port: 5000 },
          translated: false,
          mapping: "endpoint-independent",
          filtering: "endpoint-independent",
          portPreserved: true,
          hairpin: undefined,
          mtu: undefined
        } satisfies Report)
      })
    )
  )

  it.effect("sees through two translators in a row", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const server = yield* responder(network)
        const carrier = network.nat({ address: OUTSIDE, kind: "symmetric" })
        const home = network.nat({ address: "100.64.0.9", kind: "fullCone", behind: carrier })
        const { report } = yield* discover(network.host({ address: INSIDE, nat: home, link }), [server.address])
        assert.strictEqual(report.reflexive?.host, OUTSIDE)
        assert.strictEqual(report.mapping, "address-and-port-dependent")
        assert.strictEqual(report.filtering, "address-and-port-dependent")
      })
    )
  )

  it.effect("infers the mapping from two servers that have one address each", () =>
    Effect.gen(function* () {
      for (const [mapping, expected] of [
        ["endpoint-independent", "endpoint-independent"],
        ["address-dependent", "dependent"],
        ["address-and-port-dependent", "dependent"]
      ] as const) {
        yield* world(
          Effect.fnUntraced(function* (network) {
            const one = yield* responder(network, { discovery: false })
            const two = yield* responder(network, { discovery: false, hosts: ["192.0.2.20", "192.0.2.21"] })
            const nat = network.nat({ address: OUTSIDE, mapping, ports: "random" })
            const host = network.host({ address: INSIDE, nat, link })
            const { report } = yield* discover(host, [one.address, two.address])
            assert.strictEqual(report.mapping, expected)
            assert.isUndefined(report.filtering)
            assert.lengthOf(report.servers, 2)
            const alone = (yield* discover(host, [one.address], { port: 5001 })).report
            assert.isUndefined(alone.mapping)
            assert.isTrue(alone.translated)
          })
        )
      }
    })
  )

  it.effect("asks the second address last, also when it is on the list", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const server = yield* responder(network)
        const nat = network.nat({ address: OUTSIDE, kind: "portRestricted" })
        const host = network.host({ address: INSIDE, nat, link })
        const second = { host: server.other.host, port: server.address.port }
        const { report } = yield* discover(host, [server.address, second])
        assert.strictEqual(report.filtering, "address-and-port-dependent")
        assert.strictEqual(report.mapping, "endpoint-independent")
      })
    )
  )

  it.effect("a silent server costs half a second, and silence everywhere is told", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const server = yield* responder(network)
        const nobody = { host: "192.0.2.99", port: 3478 }
        const host = network.host({ address: "203.0.113.5", link })
        const { report } = yield* discover(host, [nobody, server.address])
        assert.deepStrictEqual(
          report.servers.map(({ outcome }) => outcome),
          ["silent", "answered"]
        )
        assert.strictEqual(report.filtering, "endpoint-independent")
        const { ms, report: none } = yield* discover(host, [nobody])
        assert.isUndefined(none.reflexive)
        assert.isUndefined(none.mapping)
        assert.strictEqual(ms, 4500)
        const empty = yield* discover(host, [])
        assert.deepStrictEqual(empty.report.servers, [])
      })
    )
  )

  it.effect("a lossy way changes nothing", () =>
    Effect.gen(function* () {
      for (let seed = 1; seed <= 10; seed++) {
        const { report } = yield* world(
          Effect.fnUntraced(function* (network) {
            const server = yield* responder(network)
            const nat = network.nat({ address: OUTSIDE, kind: "restricted" })
            const host = network.host({ address: INSIDE, nat, link: { delayMs: 20, loss: 0.05 } })
            return yield* discover(host, [server.address])
          }),
          seed
        )
        assert.strictEqual(report.mapping, "endpoint-independent", `seed ${seed}`)
        assert.strictEqual(report.filtering, "address-dependent", `seed ${seed}`)
      }
    })
  )

  it.effect("tells the way's MTU, where datagrams are not fragmented", () =>
    Effect.gen(function* () {
      for (const [mtu, discovery] of [
        [1500, true],
        [1420, true],
        [1420, false],
        [1280, false]
      ] as const) {
        const { report } = yield* world(
          Effect.fnUntraced(function* (network) {
            const server = yield* responder(network, { discovery })
            const host = network.host({ address: "203.0.113.5", link: { delayMs: 5, mtu }, probes: true })
            return yield* discover(host, [server.address])
          })
        )
        assert.strictEqual(report.mtu, mtu)
      }
    })
  )

  it.effect("believes no server that says nonsense", () =>
    Effect.gen(function* () {
      const success = (request: Stun.Message) => new Stun.StunWriter("success", request.method, request.transactionId)
      const { otherAddress, xorMappedAddress } = Stun.Attribute
      const mapped = (host: string) => (request: Stun.Message) =>
        success(request).xorAddress(xorMappedAddress, { host, port: 9 }).finish()
      const lies: ReadonlyArray<(request: Stun.Message, from: Address) => Uint8Array | undefined> = [
        mapped("0.0.0.0"),
        mapped("224.0.0.1"),
        mapped("255.255.255.255"),
        mapped("127.0.0.1"),
        mapped("::1"),
        (request) => success(request).finish(),
        (request) => new Stun.StunWriter("error", request.method, request.transactionId).errorCode(300, "go").finish(),
        (request, from) =>
          new Stun.StunWriter("success", request.method, new Uint8Array(12))
            .xorAddress(xorMappedAddress, from)
            .finish(),
        (request) => request.bytes
      ]
      for (const [i, answer] of lies.entries()) {
        const { report } = yield* world(
          Effect.fnUntraced(function* (network) {
            const server = yield* responder(network, { answer })
            return yield* discover(network.host({ address: "203.0.113.5", link }), [server.address])
          })
        )
        assert.isUndefined(report.reflexive, `lie ${i}`)
        assert.notStrictEqual(report.servers[0]?.outcome, "answered", `lie ${i}`)
      }
      // A second address that is none, or private: it is not sent to, and filtering stays unknown.
      for (const host of ["192.0.2.10", "127.0.0.1", "224.0.0.9", "::1"]) {
        const { report } = yield* world(
          Effect.fnUntraced(function* (network) {
            const server = yield* responder(network, {
              answer: (request, from) =>
                success(request).xorAddress(xorMappedAddress, from).address(otherAddress, { host, port: 9 }).finish()
            })
            return yield* discover(network.host({ address: "203.0.113.5", link }), [server.address])
          })
        )
        assert.isUndefined(report.filtering, host)
        assert.strictEqual(report.mapping, "endpoint-independent")
      }
    })
  )
})
