/** Who may burn what at a server, and how a client burns over the line that there is, or over none. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { TestClock } from "effect/testing"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Burn from "../../src/programs/Burn.ts"
import * as ClientCompromise from "../../src/programs/ClientCompromise.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as Identity from "../../src/programs/Identity.ts"
import * as ServerCompromise from "../../src/programs/ServerCompromise.ts"
import { Crypto } from "../../src/services/Crypto.ts"
import { Devices } from "../../src/services/Devices.ts"
import { makeMemory, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import { type Compromised, type LastWords, Transport, TransportError } from "../../src/services/Transport.ts"

import { eventually } from "./MemoryWorld.ts"

const fill = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte)

const words = (notified: number, answered: boolean): LastWords => ({
  notified,
  send: Effect.sleep(600),
  acknowledged: answered ? Effect.void : Effect.never
})

const withHost =
  (store: SecureFileStore["Service"]) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(Effect.provideService(SecureFileStore, store), Effect.provide(CryptoNode.layerSeeded("compromise")))

// -- a server ----------------------------------------------------------------------------------------------------------

const paths = HomePaths.server("/home")
const plan = Burn.server(paths, { credentials: paths.security, backup: undefined })

/** A server with an owner (device 1) and a member (device 2), whose listener notes what it is asked. */
const makeServer = Effect.gen(function* () {
  const store = yield* makeMemory
  const log: Array<string> = []
  const note = (what: string) => Effect.sync(() => void log.push(what))
  const told = yield* Queue.unbounded<Compromised>()
  const say = (n: number) =>
    Queue.offer(told, { credential: hex(fill(16, n)), token: fill(32, n), remote: { host: "192.0.2.1", port: n } })
  const ids = (all: ReadonlyArray<Compromised>): string => all.map(({ credential }) => credential.slice(0, 2)).join()
  const context = yield* withHost(store)(
    Layer.build(Layer.mergeAll(Devices.layer(paths.devices)).pipe(Layer.provide(Layer.succeed(SecureFileStore, store))))
  )
  const made = yield* withHost(store)(
    Effect.gen(function* () {
      const devices = yield* Devices
      for (const n of [1, 2]) {
        const staticKey = fill(32, n)
        yield* devices.enrol({
          id: fill(16, n),
          name: `${n}`,
          staticKey,
          psk: fill(32, 100 + n),
          credentialValidUntil: 1
        })
      }
      const identity = yield* Identity.loadOrCreateStatic(paths.staticKey)
      yield* Identity.loadOrCreateLink(paths.llmLink)
      yield* Identity.publishKey(paths.llmPublicKey, fill(32, 9))
      const portSeed = yield* Identity.loadOrCreateSeed(paths.portSeed)
      const compromise = yield* ServerCompromise.make({
        plan,
        paths,
        identity,
        secrets: [portSeed],
        link: { compromise: Effect.as(note("link"), [words(1, true)]) },
        noted: (scope, by) => note(`${scope} by ${by.slice(0, 2)}`),
        listener: {
          compromise: (all) => Effect.as(note(`all but ${ids(all)}`), words(3 - all.length, true)),
          compromised: Queue.take(told),
          acknowledge: (one) => note(`answer ${ids([one])}`)
        }
      })
      const running = yield* Effect.forkChild(compromise.run, { startImmediately: true })
      return { compromise, devices, identity, portSeed, running }
    }).pipe(Effect.provideContext(context))
  )
  return { ...made, log, say, store }
})

describe("COMPROMISED at a server", () => {
  it.effect("the owner's device burns everything; both keys are wiped; the llm tier's key is refused afterwards", () =>
    Effect.gen(function* () {
      const server = yield* makeServer
      yield* server.say(1)
      yield* TestClock.adjust(600)
      const burned = yield* Effect.flip(Fiber.join(server.running))
      assert.deepInclude(burned, { _tag: "Burned", notified: 3, acknowledged: true, left: [] })
      assert.deepStrictEqual(server.log, ["all but 01", "link", "all by 01"])
      assert.deepStrictEqual(server.identity.privateKey, fill(32, 0))
      assert.deepStrictEqual(server.portSeed, fill(32, 0))
      assert.deepStrictEqual(yield* server.store.list(paths.identity), ["tombstone"])
      assert.deepStrictEqual(yield* server.store.list(paths.devices), [])
      const finished = yield* withHost(server.store)(ServerCompromise.prepare(plan, paths, HomePaths.llm("/home")))
      assert.isTrue(Option.isSome(finished))
      const link = yield* withHost(server.store)(Identity.loadOrCreateLink(paths.llmLink))
      assert.isTrue(Identity.isRefused(link, fill(32, 9)))
      assert.isFalse(Identity.isRefused(link, fill(32, 8)))
    })
  )

  it.effect("another device is revoked and answered, once; said again it changes nothing; strangers do nothing", () =>
    Effect.gen(function* () {
      const server = yield* makeServer
      const before = yield* server.store.read(paths.staticKey)
      for (const n of [2, 2, 7]) yield* server.say(n)
      yield* eventually("three answers", () => server.log.includes("answer 07"))
      const all = yield* server.devices.list
      assert.deepStrictEqual(
        all.map(({ _tag, id }) => [id.slice(0, 2), _tag]),
        [
          ["01", "Live"],
          ["02", "Revoked"]
        ]
      )
      assert.deepStrictEqual(
        server.log.filter((line) => line.startsWith("answer")),
        ["answer 02", "answer 02", "answer 07"]
      )
      assert.deepStrictEqual(yield* server.store.read(paths.staticKey), before)
      assert.isUndefined(server.running.pollUnsafe())
      // A revoked owner's word burns nothing either.
      yield* server.devices.revoke(hex(fill(16, 1)))
      yield* server.say(1)
      yield* eventually("its answer", () => server.log.includes("answer 01"))
      assert.isUndefined(server.running.pollUnsafe())
      assert.isTrue(Option.isNone(yield* server.store.read(paths.tombstone)))
    })
  )

  it.effect("asked on its own home it burns everything and tells everybody; the asker hears once it is certain", () =>
    Effect.gen(function* () {
      const server = yield* makeServer
      const asked = yield* Effect.forkChild(server.compromise.request, { startImmediately: true })
      yield* TestClock.adjust(600)
      yield* Fiber.join(asked)
      assert.isTrue(Option.isSome(yield* server.store.read(paths.tombstone)))
      const burned = yield* Effect.flip(Fiber.join(server.running))
      assert.deepInclude(burned, { notified: 4, acknowledged: true, left: [] })
      assert.deepStrictEqual(server.log, ["all but ", "link", "all by ho"])
    })
  )
})

// -- a client ----------------------------------------------------------------------------------------------------------

const clientPaths = HomePaths.client("/client")

const makeClient = Effect.gen(function* () {
  const store = yield* makeMemory
  const crypto = yield* Effect.provide(Crypto, CryptoNode.layerSeeded("client"))
  const identity = yield* withHost(store)(ClientIdentity.make(clientPaths))
  const serverKey = crypto.primitives.keyPair(fill(32, 5)).publicKey
  yield* identity.persist(
    {
      serverId: "s",
      serverName: "Home",
      serverKey,
      credentialId: fill(16, 1),
      filePsk: fill(32, 6),
      validFrom: 0,
      validUntil: 1,
      endpoints: [{ host: "192.0.2.1", port: 50_000 }],
      natTraversal: { stun: [], turn: [], rendezvous: [], timeout: 60 }
    },
    { portSeed: fill(32, 7), llmKey: undefined }
  )
  yield* identity.confirm(fill(16, 1))
  return { identity, store }
})

const isGone = (client: Effect.Success<typeof makeClient>) =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* client.store.list(clientPaths.identity), [])
    assert.deepStrictEqual(client.identity.keyPair.privateKey, fill(32, 0))
    assert.isTrue(Option.isSome(yield* client.store.read(clientPaths.burnt)))
    yield* client.identity.burnt
    assert.deepStrictEqual(yield* client.identity.invitations, [])
  })

describe("COMPROMISED at a client", () => {
  it.effect("over the line that there is, though everybody else has lost interest in it", () =>
    Effect.gen(function* () {
      const client = yield* makeClient
      const life = yield* Scope.make()
      const burn = yield* Scope.provide(
        ClientCompromise.guard(client.identity, {
          compromise: Effect.succeed(words(1, true)),
          compromised: Effect.never,
          acknowledge: () => Effect.die("not told")
        }),
        life
      )
      const asked = yield* Effect.forkChild(burn, { startImmediately: true })
      for (let turns = 0; turns < 3; turns++) yield* Effect.yieldNow
      // The connection is over: its owner closes its scope.
      const closing = yield* Effect.forkChild(Scope.close(life, Exit.void), { startImmediately: true })
      const outcome = yield* Fiber.join(asked)
      yield* Fiber.join(closing)
      assert.deepStrictEqual(outcome, Option.some({ notified: 1, acknowledged: true, left: [] }))
      yield* isGone(client)
    })
  )

  it.effect("told by the server: burns, and answers before the line is let go", () =>
    Effect.gen(function* () {
      const client = yield* makeClient
      const life = yield* Scope.make()
      const told = yield* Deferred.make<Compromised>()
      let sent = false
      yield* Scope.provide(
        ClientCompromise.guard(client.identity, {
          compromise: Effect.die("not asked"),
          compromised: Deferred.await(told),
          acknowledge: () =>
            Effect.succeed({
              notified: 0,
              send: Effect.andThen(
                Effect.sleep(400),
                Effect.sync(() => {
                  sent = true
                })
              ),
              acknowledged: Effect.void
            })
        }),
        life
      )
      yield* Deferred.succeed(told, { credential: "", token: fill(32, 1), remote: { host: "192.0.2.1", port: 1 } })
      yield* client.identity.burnt
      const closing = yield* Effect.forkChild(Scope.close(life, Exit.void), { startImmediately: true })
      yield* TestClock.adjust(399)
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust(1)
      yield* Fiber.join(closing)
      assert.isTrue(sent)
      yield* isGone(client)
    })
  )

  it.effect("without a line one is dialled, for three seconds at most; meanwhile the disk is clean already", () =>
    Effect.gen(function* () {
      for (const answers of [true, false]) {
        const client = yield* makeClient
        const dialled = yield* Deferred.make<void>()
        const transport = Transport.of({
          listen: () => Effect.die("nobody listens"),
          connect: ({ invitations }) =>
            Effect.gen(function* () {
              assert.deepStrictEqual(invitations[0].id, fill(16, 1))
              yield* Deferred.succeed(dialled, undefined)
              return yield* answers ? new TransportError({ reason: "NoAnswer", message: "nobody" }) : Effect.never
            })
        })
        const fiber = yield* Effect.forkChild(
          ClientCompromise.burn({
            identity: client.identity,
            deviceName: "laptop",
            patience: { keepAliveMs: 1, deadAfterMs: 1, idleTimeoutMs: 1 }
          }).pipe(Effect.provideService(Transport, transport)),
          { startImmediately: true }
        )
        yield* Deferred.await(dialled)
        if (!answers) {
          for (let turns = 0; turns < 200; turns++) yield* Effect.yieldNow
          assert.deepStrictEqual(yield* client.store.list(clientPaths.identity), ["tombstone"])
          yield* TestClock.adjust(ClientCompromise.DIAL_MS)
        }
        const outcome = yield* Fiber.join(fiber)
        assert.deepStrictEqual(outcome, { notified: 0, acknowledged: true, left: [] })
        yield* isGone(client)
        const report = ClientCompromise.report(outcome, undefined).join("\n")
        assert.include(report, "clawchat pair")
      }
    })
  )
})
