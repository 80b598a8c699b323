import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as TestClock from "effect/testing/TestClock"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Dependence } from "../../src/layers/SimulatedNat.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"

interface Got {
  readonly at: number
  readonly from: Address
  readonly first: number | undefined
}

/** A socket on a host, and all that reaches it. */
const listen = Effect.fnUntraced(function* (host: SimulatedNetwork.Host, port = 0, address = "0.0.0.0") {
  const bind = UdpSocket.use((udp) => udp.bind({ host: address, port }))
  const socket = yield* Effect.provide(bind, host.layer)
  const got: Array<Got> = []
  const step = Effect.gen(function* () {
    const batch = yield* socket.receive
    const at = yield* Clock.currentTimeMillis
    for (const { bytes, remote } of batch) got.push({ at, from: remote, first: bytes[0] })
  })
  yield* Effect.forkScoped(Effect.forever(step))
  const send = (to: Address, value = 1, length = 972) =>
    socket.send([{ bytes: new Uint8Array(length).fill(value), remote: to }])
  return { ...socket, got, sendTo: send }
})

/** Lets everything arrive. */
const settle = TestClock.adjust(1000)

const world = <A, E, R>(run: (network: SimulatedNetwork.Network) => Effect.Effect<A, E, R>, seed = 1) =>
  SimulatedNetwork.world({ seed, capture: true }, run)

const dependences: ReadonlyArray<Dependence> = [
  "endpoint-independent",
  "address-dependent",
  "address-and-port-dependent"
]
const link = { delayMs: 5 }

describe("SimulatedNetwork", () => {
  it.effect("carries over both hosts' links, in exact time", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const a = yield* listen(network.host({ address: "192.0.2.1", link: { delayMs: 10 } }), 4000)
        const b = yield* listen(network.host({ address: "192.0.2.2", link: { up: {}, down: { delayMs: 30 } } }), 5000)
        yield* a.sendTo({ host: "192.0.2.2", port: 5000 })
        yield* TestClock.adjust(39)
        assert.lengthOf(b.got, 0)
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(b.got, [{ at: 40, from: { host: "192.0.2.1", port: 4000 }, first: 1 }])
        yield* b.sendTo({ host: "192.0.2.1", port: 4000 }, 2)
        yield* settle
        assert.deepStrictEqual(a.got, [{ at: 50, from: { host: "192.0.2.2", port: 5000 }, first: 2 }])
        assert.deepStrictEqual(
          network.log.map(({ at, event }) => `${at} ${event}`),
          ["0 sent", "40 delivered", "40 sent", "50 delivered"]
        )
      })
    )
  )

  it.effect("re-arms for what arrives earlier than what it waits for", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const far = yield* listen(network.host({ address: "192.0.2.1", link: { delayMs: 500 } }))
        const near = yield* listen(network.host({ address: "192.0.2.2", link: { delayMs: 1 } }))
        const goal = yield* listen(network.host({ address: "192.0.2.3" }), 6000)
        const to = { host: "192.0.2.3", port: 6000 }
        yield* far.sendTo(to, 1)
        yield* near.sendTo(to, 2)
        yield* TestClock.adjust(2)
        yield* near.sendTo(to, 3)
        yield* settle
        assert.deepStrictEqual(
          goal.got.map(({ at, first }) => [at, first]),
          [
            [1, 2],
            [3, 3],
            [500, 1]
          ]
        )
      })
    )
  )

  for (const mapping of dependences) {
    for (const filtering of dependences) {
      it.effect(`a translator seen from outside: mapping ${mapping}, filtering ${filtering}`, () =>
        world(
          Effect.fnUntraced(function* (network) {
            const nat = network.nat({ address: "203.0.113.1", mapping, filtering, ports: "sequential" })
            const inside = yield* listen(network.host({ address: "10.0.0.2", nat, link }), 7000)
            const one = network.host({ address: "198.51.100.1", link })
            const two = network.host({ address: "198.51.100.2", link })
            const s1 = yield* listen(one, 1000)
            const s1b = yield* listen(one, 2000)
            const s2 = yield* listen(two, 1000)

            yield* inside.sendTo({ host: "198.51.100.1", port: 1000 })
            yield* settle
            const mapped = s1.got[0]?.from ?? s1.address
            assert.strictEqual(mapped.host, "203.0.113.1")
            yield* s1.sendTo(mapped, 1)
            yield* s1b.sendTo(mapped, 2)
            yield* s2.sendTo(mapped, 3)
            yield* settle
            const passed = [1]
            if (filtering !== "address-and-port-dependent") passed.push(2)
            if (filtering === "endpoint-independent") passed.push(3)
            assert.deepStrictEqual(
              inside.got.map(({ first }) => first),
              passed
            )
            const filtered = network.log.filter(({ why }) => why === "filtered")
            assert.strictEqual(filtered.length, 3 - passed.length)

            yield* inside.sendTo({ host: "198.51.100.1", port: 2000 })
            yield* inside.sendTo({ host: "198.51.100.2", port: 1000 })
            yield* settle
            assert.strictEqual(s1b.got[0]?.from.port === mapped.port, mapping !== "address-and-port-dependent")
            assert.strictEqual(s2.got[0]?.from.port === mapped.port, mapping === "endpoint-independent")
          })
        )
      )
    }
  }

  it.effect("a mapping dies of silence, and a rebinding moves it", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const nat = network.nat({ address: "203.0.113.1", kind: "symmetric", timeoutMs: 60_000 })
        const inside = yield* listen(network.host({ address: "10.0.0.2", nat }))
        const outside = yield* listen(network.host({ address: "198.51.100.1" }), 1000)
        const to = { host: "198.51.100.1", port: 1000 }
        yield* inside.sendTo(to)
        yield* TestClock.adjust(59_999)
        const before = outside.got[0]?.from ?? to
        yield* outside.sendTo(before, 1)
        yield* TestClock.adjust(1)
        yield* outside.sendTo(before, 2)
        yield* inside.sendTo(to)
        yield* settle
        assert.deepStrictEqual(
          inside.got.map(({ first }) => first),
          [1]
        )
        const after = outside.got[1]?.from ?? to
        assert.notDeepEqual(after, before)
        yield* network.rebind(nat, "203.0.113.77")
        assert.strictEqual(nat.address, "203.0.113.77")
        yield* outside.sendTo(after, 3)
        yield* inside.sendTo(to)
        yield* settle
        assert.lengthOf(inside.got, 1)
        const moved = outside.got[2]?.from ?? to
        assert.strictEqual(moved.host, "203.0.113.77")
        yield* outside.sendTo(moved, 4)
        yield* settle
        assert.strictEqual(inside.got[1]?.first, 4)
      })
    )
  )

  for (const hairpin of [true, false]) {
    it.effect(`two inside hosts by their outside addresses: hairpin ${hairpin ? "on" : "off"}`, () =>
      world(
        Effect.fnUntraced(function* (network) {
          const nat = network.nat({ address: "203.0.113.1", kind: "fullCone", hairpin })
          const a = yield* listen(network.host({ address: "10.0.0.2", nat }), 4000)
          const b = yield* listen(network.host({ address: "10.0.0.3", nat }), 5000)
          const outside = yield* listen(network.host({ address: "198.51.100.1" }), 1000)
          yield* b.sendTo({ host: "198.51.100.1", port: 1000 })
          yield* settle
          yield* a.sendTo(outside.got[0]?.from ?? a.address, 1)
          yield* a.sendTo({ host: "10.0.0.3", port: 5000 }, 2)
          yield* settle
          const direct = { from: { host: "10.0.0.2", port: 4000 }, first: 2 }
          const hairpinned = { from: { host: "203.0.113.1", port: 4000 }, first: 1 }
          assert.deepStrictEqual(
            b.got.map(({ from, first }) => ({ from, first })),
            hairpin ? [hairpinned, direct] : [direct]
          )
        })
      )
    )
  }

  it.effect("translators stand behind translators, and inside addresses recur", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const carrier = network.nat({ address: "203.0.113.1", ports: "sequential" })
        const home = network.nat({ address: "100.64.0.2", behind: carrier })
        const other = network.nat({ address: "100.64.0.3", behind: carrier })
        const a = yield* listen(network.host({ address: "10.0.0.2", nat: home }), 4000)
        const b = yield* listen(network.host({ address: "10.0.0.2", nat: other }), 4000)
        const outside = yield* listen(network.host({ address: "198.51.100.1" }), 1000)
        yield* a.sendTo({ host: "198.51.100.1", port: 1000 }, 1)
        yield* b.sendTo({ host: "198.51.100.1", port: 1000 }, 2)
        yield* settle
        assert.deepStrictEqual(
          outside.got.map(({ from }) => from.host),
          ["203.0.113.1", "203.0.113.1"]
        )
        for (const { from, first = 0 } of [...outside.got]) yield* outside.sendTo(from, first + 10)
        yield* settle
        assert.deepStrictEqual([a.got[0]?.first, b.got[0]?.first], [11, 12])
      })
    )
  )

  it.effect("IPv6 passes beside the translator", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const nat = network.nat({ address: "203.0.113.1" })
        const inside = yield* listen(network.host({ address: ["10.0.0.2", "2001:db8::2"], nat }), 4000, "::")
        const outside = yield* listen(network.host({ address: ["198.51.100.1", "2001:db8::1"] }), 1000, "::")
        yield* inside.sendTo({ host: "2001:db8::1", port: 1000 }, 6)
        yield* inside.sendTo({ host: "198.51.100.1", port: 1000 }, 4)
        yield* settle
        assert.deepStrictEqual(
          outside.got.map(({ from }) => from.host),
          ["2001:db8::2", "203.0.113.1"]
        )
      })
    )
  )

  it.effect("a cut host neither sends nor hears, until it is restored", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const host = network.host({ address: "192.0.2.1", link })
        const a = yield* listen(host, 4000)
        const b = yield* listen(network.host({ address: "192.0.2.2", link }), 5000)
        yield* b.sendTo({ host: "192.0.2.1", port: 4000 }, 1)
        yield* network.cut(host)
        yield* a.sendTo({ host: "192.0.2.2", port: 5000 }, 2)
        yield* a.sendTo({ host: "127.0.0.1", port: 4000 }, 3)
        yield* settle
        assert.deepStrictEqual([a.got.map(({ first }) => first), b.got], [[3], []])
        yield* network.restore(host)
        yield* a.sendTo({ host: "192.0.2.2", port: 5000 }, 4)
        yield* settle
        assert.strictEqual(b.got[0]?.first, 4)
      })
    )
  )

  it.effect("a host moves, its wildcard sockets with it", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const host = network.host({ address: "192.0.2.1" })
        const mobile = yield* listen(host, 4000)
        const fixed = yield* listen(host, 4001, "192.0.2.1")
        const peer = yield* listen(network.host({ address: "192.0.2.2" }), 5000)
        const nat = network.nat({ address: "203.0.113.1" })
        yield* network.move(host, { address: "10.0.0.2", nat })
        yield* mobile.sendTo({ host: "192.0.2.2", port: 5000 }, 1)
        yield* fixed.sendTo({ host: "192.0.2.2", port: 5000 }, 2)
        yield* peer.sendTo({ host: "192.0.2.1", port: 4000 }, 3)
        yield* settle
        assert.deepStrictEqual(
          peer.got.map(({ from }) => from),
          [{ host: "203.0.113.1", port: 4000 }]
        )
        assert.lengthOf(mobile.got, 0)
      })
    )
  )

  it.effect("a rate spaces datagrams exactly; its queue drops the excess", () =>
    world(
      Effect.fnUntraced(function* (network) {
        // 1000-byte packets (972 and headers) at 1 Mbit/s take 8 ms each; five fit.
        const rate = { bitsPerSecond: 1_000_000, queueBytes: 5000 }
        const a = yield* listen(network.host({ address: "192.0.2.1", link: { up: { rate }, down: {} } }))
        const b = yield* listen(network.host({ address: "192.0.2.2" }), 5000)
        for (let i = 0; i < 8; i++) yield* a.sendTo({ host: "192.0.2.2", port: 5000 }, i)
        yield* settle
        assert.deepStrictEqual(
          b.got.map(({ at, first }) => [at, first]),
          [0, 1, 2, 3, 4].map((i) => [8 * (i + 1), i])
        )
        assert.strictEqual(network.log.filter(({ why }) => why === "queue full").length, 3)
      })
    )
  )

  it.effect("wakes on ticks, or exactly when asked to", () =>
    Effect.gen(function* () {
      const arrival = (tickMs: number) =>
        SimulatedNetwork.world(
          { seed: 1, tickMs },
          Effect.fnUntraced(function* (network) {
            const a = yield* listen(network.host({ address: "192.0.2.1", link: { delayMs: 2.25 } }))
            const b = yield* listen(network.host({ address: "192.0.2.2" }), 5000)
            const start = yield* Clock.currentTimeMillis
            yield* a.sendTo({ host: "192.0.2.2", port: 5000 })
            yield* TestClock.adjust(10)
            return (b.got[0]?.at ?? 0) - start
          })
        )
      assert.strictEqual(yield* arrival(1), 3)
      assert.strictEqual(yield* arrival(0), 2.25)
      assert.strictEqual(yield* arrival(5), 5)
    })
  )

  it.effect("its sockets answer for probes of the path's MTU where the host says so", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const a = yield* listen(network.host({ address: "192.0.2.1" }))
        const b = yield* listen(network.host({ address: "192.0.2.2", probes: true, link: { mtu: 1300 } }))
        assert.isFalse(a.probes)
        assert.isTrue(b.probes)
        const remote = { host: "192.0.2.1", port: a.address.port }
        for (const segment of [1272, 1280]) {
          yield* b.send([{ bytes: new Uint8Array(3 * segment).fill(segment & 0xff), segment, remote }])
        }
        yield* settle
        assert.deepStrictEqual(
          a.got.map(({ first }) => first),
          [0xf8, 0xf8, 0xf8]
        )
      })
    )
  )

  it.effect("links can change while datagrams are on the way", () =>
    world(
      Effect.fnUntraced(function* (network) {
        const host = network.host({ address: "192.0.2.1", link: { delayMs: 100 } })
        const a = yield* listen(host)
        const b = yield* listen(network.host({ address: "192.0.2.2" }), 5000)
        const to = { host: "192.0.2.2", port: 5000 }
        yield* a.sendTo(to, 1)
        yield* network.setLink(host, { delayMs: 10 })
        yield* a.sendTo(to, 2)
        yield* network.setLink(host, { mtu: 999 })
        yield* a.sendTo(to, 3)
        yield* settle
        assert.deepStrictEqual(
          b.got.map(({ at, first }) => [at, first]),
          [
            [10, 2],
            [100, 1]
          ]
        )
        assert.strictEqual(network.log.filter(({ why }) => why === "too long").length, 1)
      })
    )
  )

  /** Two hosts, one behind a translator, that answer each other over bad links for three minutes. */
  const conversation = (seed: number) =>
    SimulatedNetwork.world(
      { seed },
      Effect.fnUntraced(function* (network) {
        const bad = {
          delayMs: 20,
          jitterMs: 15,
          loss: { goodToBad: 0.02, badToGood: 0.3, lossInGood: 0.01, lossInBad: 0.5 },
          reorder: { probability: 0.05, byMs: 12 },
          duplicate: 0.02,
          corrupt: 0.02,
          rate: { bitsPerSecond: 2_000_000, queueBytes: 20_000 }
        }
        const nat = network.nat({ address: "203.0.113.1", kind: "symmetric" })
        const bind = UdpSocket.use((udp) => udp.bind({ host: "0.0.0.0", port: 0 }))
        const a = yield* Effect.provide(bind, network.host({ address: "10.0.0.2", nat, link: bad }).layer)
        const b = yield* Effect.provide(bind, network.host({ address: "198.51.100.1", link: bad }).layer)
        yield* Effect.forkScoped(Effect.forever(Effect.flatMap(b.receive, (batch) => b.send(batch))))
        let back = 0
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.map(a.receive, (batch) => {
              back += batch.length
            })
          )
        )
        const random = network.random("talk")
        const remote = { host: "198.51.100.1", port: b.address.port }
        const talk = Effect.suspend(() => a.send([{ bytes: random.bytes(100 + random.below(900)), remote }]))
        yield* Effect.forkScoped(Effect.forever(Effect.andThen(talk, Effect.sleep("50 millis"))))
        yield* TestClock.adjust("3 minutes")
        return { digest: network.digest(), back }
      })
    )

  it.effect("two runs of one seed are byte-identical; another seed is another world", () =>
    Effect.gen(function* () {
      const start = yield* Clock.currentTimeMillis
      const runs = []
      for (const seed of [7, 7, 8]) {
        yield* TestClock.setTime(start)
        runs.push(yield* conversation(seed))
      }
      const [first, second, other] = runs
      assert.deepStrictEqual(second, first)
      assert.notStrictEqual(other?.digest, first?.digest)
      assert.isAbove(first?.back ?? 0, 1500)
      assert.isBelow(first?.back ?? 0, 3600)
    })
  )

  it.effect("a conversation of 100,000 datagrams keeps order and count", () =>
    SimulatedNetwork.world(
      { seed: 3 },
      Effect.fnUntraced(function* (network) {
        const bind = UdpSocket.use((udp) => udp.bind({ host: "0.0.0.0", port: 5000 }))
        const fast = { delayMs: 10, rate: { bitsPerSecond: 100_000_000, queueBytes: 1_000_000 } }
        const a = yield* Effect.provide(bind, network.host({ address: "192.0.2.1", link: fast }).layer)
        const b = yield* Effect.provide(bind, network.host({ address: "192.0.2.2", link: fast }).layer)
        yield* Effect.forkScoped(Effect.forever(Effect.flatMap(b.receive, (batch) => b.send(batch))))
        const bytes = new Uint8Array(1172)
        const remote = { host: "192.0.2.2", port: 5000 }
        let sent = 0
        let back = 0
        const burst = Effect.suspend(() => {
          sent += 10
          return a.send(Array.from({ length: 10 }, () => ({ bytes, remote })))
        })
        yield* Effect.forkScoped(Effect.repeat(Effect.andThen(burst, Effect.sleep(1)), { times: 4999 }))
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.map(a.receive, (batch) => {
              back += batch.length
            })
          )
        )
        yield* TestClock.adjust("6 seconds")
        assert.deepStrictEqual([sent, back], [50_000, 50_000])
      })
    )
  )

  it.effect("a failing world names the seed that replays it", () =>
    Effect.gen(function* () {
      const exit = yield* Effect.exit(SimulatedNetwork.world({ seed: 4711 }, () => Effect.fail("lost")))
      if (!Exit.isFailure(exit)) return assert.fail("the world did not fail")
      assert.strictEqual(Cause.squash(exit.cause), "lost")
      const lines = Cause.prettyErrors(exit.cause).map(({ message }) => message)
      assert.include(lines, "simulated world failed; replay with seed 4711")
    })
  )
})
