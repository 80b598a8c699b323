/** The whole way over a rendezvous, on the simulated network: relay, server and devices as programs run them. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type * as CredentialFile from "../../src/domain/CredentialFile.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import type { Admission } from "../../src/domain/protocol/Credential.ts"
import { utf8 } from "../../src/domain/protocol/Cursor.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import * as RendezvousLine from "../../src/domain/RendezvousLine.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as TransportLive from "../../src/layers/TransportLive.ts"
import * as Rendezvous from "../../src/programs/Rendezvous.ts"
import * as RendezvousKeys from "../../src/programs/RendezvousKeys.ts"
import * as RendezvousWays from "../../src/programs/RendezvousWays.ts"
import * as SecureFileStore from "../../src/services/SecureFileStore.ts"
import { Transport } from "../../src/services/Transport.ts"

const patience = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 600_000 }
const SERVER = CryptoNode.primitives.keyPair(new Uint8Array(32).fill(200))
const WALL = 1_800_000_000_000
const NOWHERE = { host: "192.0.2.250", port: 5000 }

const on = (host: SimulatedNetwork.Host, seed: string) => {
  const crypto = CryptoNode.layerSeeded(seed)
  return TransportLive.layer.pipe(Layer.provideMerge(Layer.merge(crypto, host.layer)))
}

interface Device {
  readonly id: Uint8Array
  readonly keys: ReturnType<typeof CryptoNode.primitives.keyPair>
  readonly psk: Uint8Array
}
const deviceOf = (n: number): Device => ({
  id: new Uint8Array(16).fill(n),
  keys: CryptoNode.primitives.keyPair(new Uint8Array(32).fill(n)),
  psk: new Uint8Array(32).fill(100 + n)
})
const admissionOf = ({ id, keys, psk }: Device): Admission => ({
  id,
  psk,
  slot: undefined,
  staticKey: keys.publicKey,
  validUntil: Number.POSITIVE_INFINITY
})

const RELAY_PATHS = HomePaths.rendezvous("/relay")

/** A relay that can be killed and started again on its disk. */
const relayOn = Effect.fnUntraced(function* (network: SimulatedNetwork.Network) {
  const host = network.host({ address: "203.0.113.5", link: { delayMs: 10 } })
  const disk = yield* SecureFileStore.makeMemory
  let lives = 0
  const start = Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope)
    const seed = CryptoNode.layerSeeded(`relay ${lives++}`)
    const relay = yield* Rendezvous.make({
      paths: RELAY_PATHS,
      version: "0",
      pid: 1,
      bind: { host: "0.0.0.0", port: 0 }
    }).pipe(
      Effect.provide(Layer.merge(host.layer, seed)),
      Effect.provideService(SecureFileStore.SecureFileStore, disk),
      Scope.provide(scope)
    )
    yield* Effect.forkIn(relay.run, scope)
    return { ...relay, stop: Scope.close(scope, Exit.void) }
  })
  const first = yield* start
  const pairing = { relay: { host: "203.0.113.5", port: first.address.port }, key: first.key }
  return { ...first, start, pairing }
})

const serverOn = Effect.fnUntraced(function* (
  host: SimulatedNetwork.Host,
  pairings: ReadonlyArray<RendezvousLine.Pairing>,
  devices: ReadonlyArray<Device>
) {
  const services = yield* Layer.build(on(host, "server"))
  const listener = yield* Context.get(services, Transport).listen({
    bind: { host: "0.0.0.0", port: 5000 },
    identity: SERVER,
    patience,
    maxSessions: 20,
    admissions: Stream.concat(Stream.make(devices.map(admissionOf)), Stream.never),
    seenNonces: [],
    remember: () => Effect.void,
    enrolment: Effect.die(new Error("nobody enrols here")),
    enrol: () => Effect.succeed(false),
    notice: () => Effect.void
  })
  const ends = yield* RendezvousWays.serve({
    listener,
    pairings,
    serverKey: SERVER.publicKey,
    credentials: Stream.concat(Stream.make(devices.map(({ id }) => id)), Stream.never)
  }).pipe(Effect.provideContext(services))
  return { listener, ends }
})

const connectFrom = Effect.fnUntraced(function* (
  host: SimulatedNetwork.Host,
  device: Device,
  relays: CredentialFile.NatTraversal["rendezvous"]
) {
  const services = yield* Layer.build(on(host, `device ${device.id[0]}`))
  const rides = yield* Effect.provideContext(RendezvousWays.rides(0, relays), services)
  return yield* Context.get(services, Transport).connect({
    invitations: [
      { id: device.id, psk: device.psk, slot: undefined, serverKey: SERVER.publicKey, endpoints: [NOWHERE] }
    ],
    identity: device.keys,
    deviceName: "device",
    patience,
    timeoutMs: 20_000,
    skewMs: 0,
    hints: [undefined],
    keepHints: () => Effect.void,
    answered: () => Effect.void,
    rides
  })
})

const ticketsFor = (pairings: ReadonlyArray<RendezvousLine.Pairing>, { id }: Device, wall = WALL) =>
  RendezvousKeys.tickets(CryptoNode.primitives, pairings, SERVER.publicKey, id, wall)

/** Runs in a network whose clock is wound until it is through, ten virtual minutes at most. */
const wound = <A, E>(
  seed: number,
  scenario: (network: SimulatedNetwork.Network) => Effect.Effect<A, E, Scope.Scope>
): Effect.Effect<A, E> =>
  SimulatedNetwork.world({ seed, capture: true }, (network) =>
    Effect.gen(function* () {
      yield* TestClock.setTime(WALL)
      const fiber = yield* Effect.forkChild(Effect.scoped(scenario(network)))
      for (let at = 0; fiber.pollUnsafe() === undefined; at += 100) {
        assert.isBelow(at, 600_000, `stuck; seed ${seed}`)
        yield* TestClock.adjust(100)
      }
      return yield* Fiber.join(fiber)
    })
  )

describe("a session over a rendezvous", () => {
  it.effect("stands within a second between two symmetric translators, and carries both ways", () =>
    wound(11, (network) =>
      Effect.gen(function* () {
        const relay = yield* relayOn(network)
        const house = network.nat({ address: "198.51.100.1", kind: "symmetric" })
        const home = network.nat({ address: "198.51.100.2", kind: "symmetric" })
        const devices = [deviceOf(1), deviceOf(2)] as const
        const { ends, listener } = yield* serverOn(
          network.host({ address: "10.0.0.2", nat: house, link: { delayMs: 10 } }),
          [relay.pairing],
          devices
        )
        yield* Effect.sleep(500)
        assert.strictEqual(ends[0]?.state.type, "bound")
        for (const [i, device] of devices.entries()) {
          const host = network.host({ address: `10.0.0.${i + 3}`, nat: home, link: { delayMs: 10 } })
          const before = yield* Clock.currentTimeMillis
          const connection = yield* connectFrom(host, device, ticketsFor([relay.pairing], device))
          assert.isAtMost((yield* Clock.currentTimeMillis) - before, 1000)
          const far = yield* listener.accept
          assert.deepStrictEqual({ ...(yield* connection.remote), via: 1 }, { ...relay.pairing.relay, via: 1 })
          const { host: there } = yield* far.remote
          assert.strictEqual(there, `100.64.${i}.1`)
          const stream = yield* connection.open(Priority.Bulk)
          yield* stream.write(utf8("asked"))
          const answer = yield* far.accept
          const [asked] = yield* answer.read
          assert.deepStrictEqual(asked, utf8("asked"))
          yield* answer.write(new Uint8Array(100_000).fill(7))
          let got = 0
          while (got < 100_000) for (const chunk of yield* stream.read) got += chunk.length
          assert.strictEqual(got, 100_000)
        }
        const { drops, sessions } = yield* relay.status
        assert.strictEqual(sessions, 2)
        assert.deepStrictEqual([drops.misplaced, drops.malformed, drops.forged, drops.overBudget], [0, 0, 0, 0])
        for (const { bytes } of network.log) assert.isAtMost(bytes.length, 1216)
      })
    )
  )
})

describe("a session over a rendezvous that is disturbed", () => {
  it.effect("outlives short-lived mappings, a new public address, and a relay that is killed", () =>
    wound(12, (network) =>
      Effect.gen(function* () {
        const relay = yield* relayOn(network)
        const house = network.nat({ address: "198.51.100.1", kind: "symmetric", timeoutMs: 30_000 })
        const home = network.nat({ address: "198.51.100.2", kind: "symmetric", timeoutMs: 30_000 })
        const device = deviceOf(1)
        const server = network.host({ address: "10.0.0.2", nat: house, link: { delayMs: 10 } })
        const { listener } = yield* serverOn(server, [relay.pairing], [device])
        const host = network.host({ address: "10.0.0.3", nat: home, link: { delayMs: 10 } })
        const connection = yield* connectFrom(host, device, ticketsFor([relay.pairing], device))
        const far = yield* listener.accept
        const stream = yield* connection.open(Priority.Interactive)
        yield* stream.write(utf8("0"))
        const other = yield* far.accept
        yield* other.read
        /** There and back; how long it took, ms. */
        const ask = Effect.fnUntraced(function* (word: string) {
          const at = yield* Clock.currentTimeMillis
          yield* stream.write(utf8(word))
          assert.deepStrictEqual(yield* other.read, [utf8(word)])
          yield* other.write(utf8(word))
          assert.deepStrictEqual(yield* stream.read, [utf8(word)])
          return (yield* Clock.currentTimeMillis) - at
        })
        yield* Effect.sleep(120_000)
        assert.isAtMost(yield* ask("after silence"), 200)
        yield* network.rebind(house, "198.51.100.9")
        assert.isAtMost(yield* ask("when the server's address has changed"), 6000)
        yield* Effect.sleep(30_000)
        yield* network.rebind(home, "198.51.100.10")
        assert.isAtMost(yield* ask("when the device's address has changed"), 6000)
        yield* Effect.sleep(30_000)
        yield* relay.stop
        const again = yield* relay.start
        assert.deepStrictEqual([again.address.port, again.key], [relay.address.port, relay.key])
        assert.isAtMost(yield* ask("when the relay was killed"), 6000)
      })
    )
  )
})

describe("a relay's line", () => {
  const pairing = { relay: { host: "203.0.113.5", port: 3479 }, key: new Uint8Array(32).fill(9) }

  it("comes back as it was, with IPv6 too, and nothing else is one", () => {
    for (const relay of [pairing.relay, { host: "2001:db8::1", port: 1 }]) {
      const line = RendezvousLine.format({ ...pairing, relay })
      assert.deepStrictEqual(RendezvousLine.parse(` ${line}\n`), { ...pairing, relay })
      for (let i = 0; i < line.length; i++) {
        const cut = line.slice(0, i)
        assert.isUndefined(RendezvousLine.parse(cut))
      }
    }
    const line = RendezvousLine.format(pairing)
    for (const wrong of [
      line.replace("v1", "v2"),
      line.replace(":3479", ""),
      line.replace("203.0.113.5", "relay.example"),
      `${line}=`
    ]) {
      assert.isUndefined(RendezvousLine.parse(wrong), wrong)
    }
  })

  const load = (file: string | undefined, wanted: RendezvousKeys.Options["wanted"] = []) =>
    Effect.gen(function* () {
      const disk = yield* SecureFileStore.makeMemory
      if (file !== undefined) yield* disk.write("/key", utf8(file))
      const options = { configured: undefined, path: "/key", wanted }
      return yield* Effect.provideService(RendezvousKeys.load(options), SecureFileStore.SecureFileStore, disk)
    })

  it.effect("is found by the relay's address; errors say what to do and hold no key", () =>
    Effect.gen(function* () {
      const other = { relay: { host: "203.0.113.6", port: 3479 }, key: new Uint8Array(32).fill(8) }
      const file = `# mine\n${RendezvousLine.format(pairing)}\n${RendezvousLine.format(other)}\n`
      assert.deepStrictEqual(yield* load(undefined), [])
      assert.deepStrictEqual(yield* load(file), [pairing, other])
      assert.deepStrictEqual(yield* load(file, [other.relay]), [other])
      const missing = yield* Effect.flip(load(file, [{ host: "203.0.113.7", port: 3479 }]))
      assert.include(missing.message, "203.0.113.7:3479")
      const broken = yield* Effect.flip(load(`${RendezvousLine.format(pairing)}x\n`))
      assert.match(broken.message, /^\/key: entry 1 /)
      const many = yield* Effect.flip(load(`${RendezvousLine.format(pairing)}\n`.repeat(5)))
      assert.match(many.message, /4 at most/)
      const key = RendezvousLine.format(pairing).slice(-43)
      for (const { message } of [missing, broken, many]) assert.notInclude(message, key)
      const tickets = ticketsFor([pairing], deviceOf(1), 1000)
      assert.deepStrictEqual(
        tickets.map(({ server, ticket }) => [server, ticket.length]),
        [["203.0.113.5:3479", 104]]
      )
    })
  )

  it.effect("tickets that cannot be understood are passed over", () =>
    Effect.gen(function* () {
      const [good] = ticketsFor([pairing], deviceOf(1))
      assert.isDefined(good)
      const rides = yield* RendezvousWays.rides(3, [
        "stun.example.org:3479",
        { server: "relay.example.org:3479", ticket: good.ticket },
        { server: "203.0.113.5", ticket: good.ticket },
        { server: "203.0.113.5:3479", ticket: new Uint8Array(3) },
        good
      ])
      assert.lengthOf(rides, 1)
      const made = rides[0]?.make(5)
      assert.strictEqual(rides[0]?.invitation, 3)
      assert.deepStrictEqual(made?.peers(), [{ host: "203.0.113.5", port: 3479, via: 5 }])
      assert.strictEqual(made?.peers(), made?.peers())
    }).pipe(Effect.provide(CryptoNode.layerSeeded("tickets")))
  )
})
