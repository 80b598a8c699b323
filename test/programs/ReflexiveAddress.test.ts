import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as TestClock from "effect/testing/TestClock"
import type { Carrier } from "../../src/domain/protocol/Carrier.ts"
import type { Reflexive } from "../../src/domain/protocol/StunClient.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as ReflexiveAddress from "../../src/programs/ReflexiveAddress.ts"
import { layerMemory, Resolver, ResolverError } from "../../src/services/Resolver.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"
import { responder } from "./StunResponder.ts"

const link = { delayMs: 5 }
const crypto = CryptoNode.layerSeeded("reflexive address")

/** What `Listener.carry` does, on a socket with nothing else on it. */
const carrying = (host: SimulatedNetwork.Host) =>
  Effect.fnUntraced(function* (make: (via: number) => Carrier) {
    const bind = UdpSocket.use((udp) => udp.bind({ host: "0.0.0.0", port: 5000 }))
    const socket = yield* Effect.orDie(Effect.provide(bind, host.layer))
    const carrier = make(1)
    const step = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      if (carrier.pollTimeout() <= now) carrier.handleTimeout(now)
      for (let one = carrier.pollTransmit(now); one !== undefined; one = carrier.pollTransmit(now)) {
        yield* socket.send([one])
      }
      const pause = Math.max(1, carrier.pollTimeout() - now)
      const batch = yield* Effect.timeoutOption(socket.receive, Duration.millis(pause))
      if (batch._tag === "None") return
      for (const { bytes, remote } of batch.value) {
        carrier.handleDatagram(yield* Clock.currentTimeMillis, remote, bytes)
      }
    })
    yield* Effect.forkScoped(Effect.forever(step))
  })

const world = <A, E, R>(run: (network: SimulatedNetwork.Network) => Effect.Effect<A, E, R>) =>
  SimulatedNetwork.world({ seed: 3, tickMs: 1 }, run)

const present = Effect.fnUntraced(function* (kept: SubscriptionRef.SubscriptionRef<ReadonlyArray<Reflexive>>) {
  return (yield* SubscriptionRef.get(kept)).map(({ address }) => address.host)
})

describe("ReflexiveAddress", () => {
  it.effect("is learned, kept alive, and follows the translator to another address", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const server = yield* responder(network)
        const nat = network.nat({ address: "198.51.100.7", kind: "portRestricted", timeoutMs: 30_000 })
        const host = network.host({ address: "10.0.0.2", nat, link })
        const names = layerMemory({ "stun.example.org": ["192.0.2.10"] })
        const kept = yield* ReflexiveAddress.keep({
          servers: [{ host: "stun.example.org", port: 3478 }],
          carry: carrying(host)
        }).pipe(Effect.provide(Layer.merge(names, crypto)))
        yield* TestClock.adjust(100)
        assert.deepStrictEqual(ReflexiveAddress.candidates(yield* SubscriptionRef.get(kept)), [
          { kind: "reflexive", address: "198.51.100.7", port: 5000 }
        ])
        yield* TestClock.adjust(300_000)
        assert.deepStrictEqual(yield* present(kept), ["198.51.100.7"])
        // Kept alive: never more than 30 s without a request, over five minutes.
        assert.isAtLeast(server.requests(), 300_000 / 20_000)
        assert.isAtMost(server.requests(), 300_000 / 16_000 + 2)
        yield* network.rebind(nat, "198.51.100.8")
        yield* TestClock.adjust(20_500)
        assert.deepStrictEqual(yield* present(kept), ["198.51.100.8"])
        yield* network.cut(host)
        yield* TestClock.adjust(65_000)
        assert.deepStrictEqual(yield* present(kept), [])
        yield* network.restore(host)
        yield* TestClock.adjust(36_000)
        assert.deepStrictEqual(yield* present(kept), ["198.51.100.8"])
      })
    )
  )

  it.effect("waits for names that do not resolve yet, and asks those that do anew", () =>
    world(
      Effect.fnUntraced(function* (network) {
        yield* responder(network)
        const second = yield* responder(network, { hosts: ["192.0.2.20", "192.0.2.21"] })
        const host = network.host({ address: "203.0.113.5", link })
        let answer: ReadonlyArray<string> = []
        const resolver = Layer.succeed(Resolver, {
          lookup: () =>
            Effect.suspend(() =>
              answer.length === 0 ? Effect.fail(new ResolverError({ message: "no answer" })) : Effect.succeed(answer)
            )
        })
        const kept = yield* ReflexiveAddress.keep({
          servers: [{ host: "stun.example.org", port: 3478 }],
          carry: carrying(host)
        }).pipe(Effect.provide(Layer.merge(resolver, crypto)))
        yield* TestClock.adjust(60_000)
        assert.deepStrictEqual(yield* present(kept), [])
        answer = ["192.0.2.10"]
        yield* TestClock.adjust(15_500)
        assert.deepStrictEqual(yield* present(kept), ["203.0.113.5"])
        answer = ["192.0.2.20"]
        assert.strictEqual(second.requests(), 0)
        yield* TestClock.adjust(625_000)
        assert.isAtLeast(second.requests(), 1)
        assert.deepStrictEqual(yield* present(kept), ["203.0.113.5"])
      })
    )
  )

  it.effect("costs nothing without servers; an address that depends on the destination is no candidate", () =>
    Effect.gen(function* () {
      const kept = yield* ReflexiveAddress.keep({ servers: [], carry: () => Effect.die("not to be called") })
      assert.deepStrictEqual(yield* SubscriptionRef.get(kept), [])
      const address = { host: "198.51.100.7", port: 1 }
      const server = { host: "192.0.2.1", port: 3478 }
      assert.lengthOf(ReflexiveAddress.candidates([{ address, server, dependent: undefined }]), 1)
      assert.deepStrictEqual(ReflexiveAddress.candidates([{ address, server, dependent: true }]), [])
    }).pipe(Effect.provide(Layer.merge(layerMemory({}), crypto)))
  )
})
