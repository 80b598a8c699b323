/** Sessions through coturn: a server's kept allocation, a client's ride to it, real sockets on loopback. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { Address } from "../../src/domain/protocol/Address.ts"
import * as ServerName from "../../src/domain/ServerName.ts"
import type { TurnLogin } from "../../src/domain/TurnCredentials.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import * as TurnKeys from "../../src/programs/TurnKeys.ts"
import * as TurnRelay from "../../src/programs/TurnRelay.ts"
import { Crypto } from "../../src/services/Crypto.ts"
import { layerMemory } from "../../src/services/Resolver.ts"
import {
  connect,
  content,
  device,
  digest,
  digestOf,
  type End,
  listen,
  MB,
  open,
  roundTrip,
  send
} from "../layers/TransportEnds.ts"
import { Coturn, type CoturnOptions, hasCoturn, whyNot } from "./Coturn.ts"

const END: End = {
  sockets: UdpSocketNode.layer,
  crypto: CryptoNode.layer,
  implementations: ["node:dgram", "node:crypto"],
  maxDatagram: 1452
}
const SECRET = "shared by coturn and server"
const TURN_NAME = "turn.example.org"
const DEVICE = "01".repeat(16)
const services = Layer.mergeAll(CryptoNode.layer, layerMemory({ [TURN_NAME]: ["127.0.0.1"] }), Logger.layer([]))

const coturn = (options: CoturnOptions) =>
  Effect.acquireRelease(
    Effect.promise(() => Coturn.start(options)),
    (server) => Effect.promise(() => server.end())
  )

/** Waits until the list is so. */
const when = (
  ref: SubscriptionRef.SubscriptionRef<ReadonlyArray<TurnRelay.Present>>,
  isSo: (one: TurnRelay.Present) => boolean
) =>
  SubscriptionRef.changes(ref).pipe(
    Stream.map(([one]) => one ?? assert.fail("no TURN server")),
    Stream.filter(isSo),
    Stream.take(1),
    Stream.runCollect,
    Effect.map(([one]) => one ?? assert.fail("no TURN server"))
  )

const relayedOf = ({ relayed }: TurnRelay.Present): Address => relayed ?? assert.fail("no relayed address")

const logins: ReadonlyArray<readonly [name: string, options: CoturnOptions, login: TurnLogin]> = [
  [
    "a user's password",
    {},
    { _tag: "Password", username: Redacted.make("alice"), password: Redacted.make("correct horse") }
  ],
  [
    "a shared secret",
    { users: ["--use-auth-secret", `--static-auth-secret=${SECRET}`] },
    { _tag: "Secret", secret: Redacted.make(SECRET) }
  ]
]

describe.skipIf(!hasCoturn)(`sessions through a TURN server${whyNot}`, () => {
  for (const [name, options, login] of logins) {
    it.live(`by ${name}: a client that reaches the server by no other way`, () =>
      Effect.gen(function* () {
        const turn = yield* coturn(options)
        const keys = { servers: [{ host: TURN_NAME, port: turn.address.port }], login }
        const listener = yield* listen(END, [device(1)])
        const kept = yield* TurnRelay.keep({ keys, carry: (make) => listener.carry(make) })
        const present = yield* when(kept, ({ state }) => state === "Allocated")
        assert.deepStrictEqual(present.server, { host: TURN_NAME, port: turn.address.port })
        assert.deepStrictEqual(present.reflexive, { host: "127.0.0.1", port: listener.address.port })
        const [candidate, ...more] = TurnRelay.candidates([present])
        assert.deepStrictEqual(candidate, { kind: "relayed", address: "127.0.0.1", port: relayedOf(present).port })
        assert.deepStrictEqual(more, [])

        const { stun } = yield* Crypto
        const told = TurnKeys.ofDevice(stun, keys, DEVICE, Date.now())
        assert.strictEqual(told[0]?.server, ServerName.format(keys.servers[0] ?? assert.fail("no server")))
        if (login._tag === "Secret") {
          assert.match(told[0]?.username ?? "", new RegExp(`^\\d{10}:${DEVICE}$`))
          assert.notInclude(JSON.stringify(told), SECRET)
        }
        const rides = yield* TurnRelay.rides({ turn: told, relayed: [relayedOf(present)], invitation: 0 })
        assert.strictEqual(rides.length, 1)
        // Nobody answers at the only address that it knows.
        const nowhere = { ...listener, address: { host: "127.0.0.1", port: 9 } }
        const near = yield* connect(END, device(1), nowhere, { rides })
        const far = yield* listener.accept
        const remote = yield* near.remote
        assert.deepStrictEqual({ host: remote.host, port: remote.port }, relayedOf(present))
        assert.notStrictEqual(remote.via ?? 0, 0)

        const stream = yield* open(near, far)
        yield* roundTrip(stream)
        const some = content.subarray(0, MB)
        const [arrived] = yield* Effect.all([digest(stream.far), send(stream.near, some)], { concurrency: 2 })
        assert.strictEqual(arrived, digestOf(some))
      }).pipe(Effect.scoped, Effect.provide(services))
    )
  }

  it.live("a restart of the TURN server gives the server another relayed address, and tells it", () =>
    Effect.gen(function* () {
      const turn = yield* coturn({})
      const [, , login] = logins[0] ?? assert.fail("no login")
      const listener = yield* listen(END, [device(1)])
      const kept = yield* TurnRelay.keep({
        keys: { servers: [turn.address], login },
        carry: (make) => listener.carry(make),
        checkMs: 200
      })
      const before = relayedOf(yield* when(kept, ({ state }) => state === "Allocated"))
      yield* Effect.promise(() => turn.kill())
      yield* Effect.promise(() => turn.run())
      const after = yield* when(kept, ({ relayed }) => relayed !== undefined && relayed.port !== before.port)
      assert.strictEqual(after.state, "Allocated")
      assert.strictEqual(after.failure, undefined)
    }).pipe(Effect.scoped, Effect.provide(services))
  )

  it.live("a wrong password is in the list, with its reason", () =>
    Effect.gen(function* () {
      const turn = yield* coturn({})
      const listener = yield* listen(END, [device(1)])
      const login: TurnLogin = { _tag: "Password", username: Redacted.make("alice"), password: Redacted.make("wrong") }
      const kept = yield* TurnRelay.keep({
        keys: { servers: [turn.address], login },
        carry: (make) => listener.carry(make)
      })
      const failed = yield* when(kept, ({ state }) => state === "Failed")
      assert.strictEqual(failed.failure?.reason, "Unauthorized")
      assert.deepStrictEqual(TurnRelay.candidates([failed]), [])
      assert.strictEqual(
        TurnRelay.describe(failed),
        `TURN server 127.0.0.1:${turn.address.port}: it does not take the credentials: check the username and password, or the secret (401)`
      )
    }).pipe(Effect.scoped, Effect.provide(services))
  )
})
