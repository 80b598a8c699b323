import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { TestClock } from "effect/testing"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Carrier } from "../../src/domain/protocol/Carrier.ts"
import type { TurnLogin } from "../../src/domain/TurnCredentials.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as TurnRelay from "../../src/programs/TurnRelay.ts"
import { layerMemory, Resolver, ResolverError } from "../../src/services/Resolver.ts"
import { CREDENTIALS, RELAY_HOST, ScriptedServer, text } from "../protocol/TurnScript.ts"

const OURS: Address = { host: "192.0.2.1", port: 40_000 }
const login: TurnLogin = {
  _tag: "Password",
  username: Redacted.make(CREDENTIALS.username),
  password: Redacted.make(CREDENTIALS.password)
}
const crypto = Layer.merge(CryptoNode.layerSeeded("turn relay"), Logger.layer([]))

/** A socket with TURN servers around it, and what sits on it. */
class Around {
  readonly servers = new Map<string, ScriptedServer>()
  readonly carriers = new Map<number, Carrier>()
  #via = 0

  server(host: string): ScriptedServer {
    const server = new ScriptedServer()
    this.servers.set(host, server)
    return server
  }

  /** What `Listener.carry` does, without a socket: answers come at once. */
  readonly carry = Effect.fnUntraced(function* (this: Around, make: (via: number) => Carrier) {
    const via = ++this.#via
    const carrier = make(via)
    this.carriers.set(via, carrier)
    yield* Effect.addFinalizer(() =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        carrier.close(now)
        this.#exchange(carrier, now)
        this.carriers.delete(via)
      })
    )
  })

  /** Lets time pass in steps of 10 ms. */
  readonly pass = Effect.fnUntraced(function* (this: Around, ms: number) {
    for (let step = 0; step < ms / 10; step++) {
      yield* TestClock.adjust(10)
      const now = yield* Clock.currentTimeMillis
      for (const carrier of this.carriers.values()) {
        if (carrier.pollTimeout() <= now) carrier.handleTimeout(now)
        this.#exchange(carrier, now)
      }
      yield* Effect.yieldNow
    }
  })

  #exchange(carrier: Carrier, now: number): void {
    for (let next = carrier.pollTransmit(now); next !== undefined; next = carrier.pollTransmit(now)) {
      const { host } = next.remote
      for (const bytes of this.servers.get(host)?.handle(now, OURS, next.bytes) ?? []) {
        carrier.handleDatagram(now, next.remote, bytes)
      }
    }
  }
}

const carryOf = (around: Around) => (make: (via: number) => Carrier) => around.carry.call(around, make)
const pass = (around: Around, ms: number) => around.pass.call(around, ms)

describe("TurnRelay.keep", () => {
  it.effect("waits for a name, follows it to another address, and says what it has", () => {
    const around = new Around()
    around.server("198.51.100.9")
    let addresses: ReadonlyArray<string> = []
    const resolver = Layer.succeed(Resolver, {
      lookup: (name) =>
        Effect.suspend(() =>
          addresses.length === 0
            ? Effect.fail(new ResolverError({ message: `${name} has no address` }))
            : Effect.succeed(addresses)
        )
    })
    return Effect.gen(function* () {
      const server = { host: "turn.example.org", port: 3478 }
      const kept = yield* TurnRelay.keep({ keys: { servers: [server], login }, carry: carryOf(around) })
      const present = Effect.map(SubscriptionRef.get(kept), ([one]) => one ?? assert.fail("no server"))
      yield* pass(around, 1000)
      assert.deepStrictEqual(yield* present, {
        server,
        state: "Resolving",
        relayed: undefined,
        reflexive: undefined,
        failure: undefined
      })
      assert.strictEqual(around.carriers.size, 0)

      addresses = ["2001:db8::9", "198.51.100.9"]
      yield* pass(around, 16_000)
      const first = yield* present
      assert.strictEqual(first.state, "Allocated")
      assert.deepStrictEqual(first.relayed, { host: RELAY_HOST, port: 50_000 })
      assert.deepStrictEqual(first.reflexive, OURS)
      assert.deepStrictEqual(TurnRelay.candidates([first]), [{ kind: "relayed", address: RELAY_HOST, port: 50_000 }])
      // Its relays may stand at the addresses of its name.
      const permitted = [...(around.servers.get("198.51.100.9")?.permissions.keys() ?? [])]
      assert.includeMembers(permitted, [RELAY_HOST, "198.51.100.9"])

      // It moves to another host, and the old one is silent.
      around.servers.delete("198.51.100.9")
      around.server("198.51.100.77")
      addresses = ["198.51.100.77"]
      yield* pass(around, 12 * 60_000)
      const second = yield* present
      assert.strictEqual(second.state, "Allocated")
      assert.strictEqual(around.carriers.size, 1)
      assert.strictEqual(around.servers.get("198.51.100.77")?.allocations.size, 1)
    }).pipe(Effect.scoped, Effect.provide([crypto, resolver]))
  })

  it.effect("frees its allocation when the scope closes", () => {
    const around = new Around()
    const server = around.server("198.51.100.9")
    return Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          const keys = { servers: [{ host: "198.51.100.9", port: 3478 }], login }
          yield* TurnRelay.keep({ keys, carry: carryOf(around) })
          yield* pass(around, 100)
          assert.strictEqual(server.allocations.size, 1)
        })
      )
      const now = yield* Clock.currentTimeMillis
      for (const { expiresAt } of server.allocations.values()) assert.isAtMost(expiresAt, now)
      assert.strictEqual(around.carriers.size, 0)
    }).pipe(Effect.provide([crypto, layerMemory({})]))
  })
})

describe("TurnRelay.rides", () => {
  const relayed = [{ host: RELAY_HOST, port: 60_000 }]
  const turn = (server: string) => ({ server, ...CREDENTIALS })

  it.effect("leads to the server once there is an allocation, and not before", () => {
    const around = new Around()
    const server = around.server("198.51.100.9")
    return Effect.gen(function* () {
      const rides = yield* TurnRelay.rides({ turn: [turn("turn.example.org")], relayed, invitation: 2 })
      assert.deepStrictEqual(
        rides.map(({ invitation }) => invitation),
        [2]
      )
      let peers: () => ReadonlyArray<Address> = () => []
      let carrier: Carrier | undefined
      yield* carryOf(around)((via) => {
        const made = rides[0]?.make(via) ?? assert.fail("no ride")
        peers = made.peers
        carrier = made.carrier
        return made.carrier
      })
      assert.deepStrictEqual(peers(), [])
      yield* pass(around, 100)
      assert.deepStrictEqual(peers(), [{ host: RELAY_HOST, port: 60_000, via: 1 }])
      assert.strictEqual(peers(), peers())
      const now = yield* Clock.currentTimeMillis
      const [peer] = peers()
      const parcel = carrier?.wrap(now, peer ?? assert.fail("no peer"), text("hello"))
      if (parcel !== undefined) server.handle(now, OURS, parcel.bytes)
      yield* pass(around, 20)
      assert.deepStrictEqual(server.relayed, [
        { peer: { host: RELAY_HOST, port: 60_000 }, bytes: text("hello"), how: "send" }
      ])
    }).pipe(Effect.scoped, Effect.provide([crypto, layerMemory({ "turn.example.org": ["198.51.100.9"] })]))
  })

  it.effect("leaves out what makes no sense, and needs a relayed address", () =>
    Effect.gen(function* () {
      const rides = yield* TurnRelay.rides({
        turn: [turn("unknown.example.org:3478"), turn("not a name"), turn("1.2.3"), turn("198.51.100.9:3478")],
        relayed,
        invitation: 0
      })
      assert.strictEqual(rides.length, 1)
      assert.deepStrictEqual(yield* TurnRelay.rides({ turn: [turn("198.51.100.9")], relayed: [], invitation: 0 }), [])
    }).pipe(Effect.provide([crypto, layerMemory({})]))
  )
})
