/** What a dial tells of its ways, and what people see of that. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Carrier } from "../../src/domain/protocol/Carrier.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as TransportLive from "../../src/layers/TransportLive.ts"
import * as WaysTried from "../../src/programs/cli/WaysTried.ts"
import { type Progress, Transport } from "../../src/services/Transport.ts"

const SERVER: ReadonlyArray<Address> = [
  { host: "192.0.2.1", port: 5000 },
  { host: "192.0.2.2", port: 5000 }
]
const RELAY = { host: "192.0.2.9", port: 443 }
const keys = (n: number) => CryptoNode.primitives.keyPair(new Uint8Array(32).fill(n))

/** A relay that says nothing and swallows all. */
const carrierAt = (at: () => number): Carrier => ({
  servers: [RELAY],
  handleDatagram: () => undefined,
  handleTimeout: () => {},
  pollTransmit: () => undefined,
  pollTimeout: at,
  wrap: () => undefined,
  close: () => {}
})

describe("the progress of a dial", () => {
  it.effect("tells each way when it is begun, and a relay again when it leads somewhere", () =>
    SimulatedNetwork.world({ seed: 1 }, (network) =>
      Effect.gen(function* () {
        const told: Array<Progress> = []
        let peers: ReadonlyArray<Address> = []
        const dial = yield* Transport.use((transport) =>
          transport.connect({
            invitations: [
              {
                id: new Uint8Array(16),
                psk: new Uint8Array(32),
                slot: undefined,
                serverKey: keys(9).publicKey,
                endpoints: SERVER
              }
            ],
            identity: keys(1),
            deviceName: "device",
            patience: { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 },
            timeoutMs: 5000,
            skewMs: 0,
            sweeps: false,
            hints: [undefined],
            keepHints: () => Effect.void,
            answered: () => Effect.void,
            rides: [
              { invitation: 0, name: "silent", make: () => ({ carrier: carrierAt(() => Infinity), peers: () => [] }) },
              {
                invitation: 0,
                name: "late",
                make: (via) => ({
                  carrier: carrierAt(() => {
                    peers = peers.length === 0 ? [{ ...RELAY, via }] : peers
                    return Infinity
                  }),
                  peers: () => (told.length < 3 ? [] : peers)
                })
              }
            ],
            progress: (one) => told.push(one)
          })
        ).pipe(
          Effect.scoped,
          Effect.flip,
          Effect.provide(
            TransportLive.layer.pipe(
              Layer.provide(Layer.merge(CryptoNode.layerSeeded("ways"), network.host({ address: "192.0.2.77" }).layer))
            )
          ),
          Effect.forkChild
        )
        yield* TestClock.adjust(6000)
        assert.strictEqual((yield* Fiber.join(dial)).reason, "NoAnswer")
        assert.deepStrictEqual(
          told.map(({ relay, remotes, state }) => [relay, state, remotes.length]),
          [
            [undefined, "trying", 2],
            ["silent", "waiting", 0],
            ["late", "waiting", 0],
            ["late", "trying", 1]
          ]
        )
      })
    )
  )
})

describe("WaysTried", () => {
  const seen = Effect.gen(function* () {
    const lines: Array<string> = []
    const ways = yield* WaysTried.make((line) => Effect.sync(() => lines.push(line)))
    yield* Effect.forkScoped(ways.show)
    return { lines, ...ways }
  })

  it.effect("says nothing for two seconds, then a line for each way, never two", () =>
    Effect.gen(function* () {
      const { lines, progress, summary } = yield* seen
      progress({ relay: undefined, state: "trying", remotes: SERVER })
      progress({ relay: "rendezvous 192.0.2.9:443", state: "waiting", remotes: [] })
      yield* TestClock.adjust(1999)
      assert.deepStrictEqual(lines, [])
      yield* TestClock.adjust(1)
      const both = ["Trying 192.0.2.1:5000 and one more address", "Waiting for rendezvous 192.0.2.9:443"]
      assert.deepStrictEqual(lines, both)
      progress({ relay: "rendezvous 192.0.2.9:443", state: "trying", remotes: [RELAY] })
      progress({ relay: undefined, state: "trying", remotes: SERVER })
      progress({ relay: "TURN 192.0.2.8:3478", state: "trying", remotes: [RELAY] })
      yield* TestClock.adjust(60_000)
      assert.deepStrictEqual(lines, [...both, "Trying by TURN 192.0.2.8:3478"])
      assert.strictEqual(yield* summary, " (tried directly; by rendezvous 192.0.2.9:443; by TURN 192.0.2.8:3478)")
    }).pipe(Effect.scoped)
  )

  it.effect("has nothing to sum up where there is one way", () =>
    Effect.gen(function* () {
      const { progress, summary } = yield* seen
      assert.strictEqual(yield* summary, "")
      progress({ relay: undefined, state: "trying", remotes: SERVER })
      assert.strictEqual(yield* summary, "")
    }).pipe(Effect.scoped)
  )
})
