/** Pairing with nothing between two NATs but a file carried by hand: whole programs on the simulated network. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { NatOptions } from "../../src/layers/SimulatedNetwork.ts"
import * as TransportLive from "../../src/layers/TransportLive.ts"
import type { Sheet } from "../../src/programs/AnswerOffer.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as ClientLink from "../../src/programs/ClientLink.ts"
import * as Resolver from "../../src/services/Resolver.ts"
import { makeMemory, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import { type Progress, TransportError } from "../../src/services/Transport.ts"
import { quickCrypto } from "../programs/CredentialSupport.ts"
import { responder } from "../programs/StunResponder.ts"
import * as World from "./World.ts"

const STUN = { host: "192.0.2.10", port: 3478 }
const CLIENT_OUTSIDE = "203.0.113.50"
const SERVER_OUTSIDE = "203.0.113.60"
type Behaviour = Omit<NatOptions, "address">

interface Options {
  readonly server: Behaviour
  readonly client: Behaviour
  /** Milliseconds that somebody walks with the file. */
  readonly walkMs?: number
  readonly carry?: boolean
  /** The outside address that the device's NAT has once the first file is written. */
  readonly rebindTo?: string
  readonly timeoutMs?: number
}

/** A server and a device behind NATs, a STUN server for both, and a `.sec` file; the file is carried if it is to be. */
const meeting = Effect.fnUntraced(function* (world: World.World, options: Options) {
  yield* responder(world.network)
  const { network } = world
  const serverNat = network.nat({ address: SERVER_OUTSIDE, ports: "random", ...options.server })
  yield* network.move(world.serverHost, { address: "10.1.0.2", nat: serverNat })
  yield* world.server.start()
  // Its address is in the file once a STUN server has told it.
  yield* Effect.sleep(2000)
  const relay = yield* world.server.made
  yield* Effect.orDie(relay.control.renew)
  const pairing = yield* Effect.orDie(world.pairing)

  const clientNat = network.nat({ address: CLIENT_OUTSIDE, ports: "random", ...options.client })
  const host = network.host({ address: "10.2.0.2", nat: clientNat, link: { delayMs: 20 } })
  const services = TransportLive.layer.pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        quickCrypto(`${network.seed} client`),
        Layer.succeed(SecureFileStore, yield* makeMemory),
        Resolver.layerMemory({}),
        host.layer
      )
    )
  )
  const sheets: Array<Sheet> = []
  const progress: Array<Progress> = []
  const first = yield* Deferred.make<Sheet>()
  const dial = yield* Effect.gen(function* () {
    const identity = yield* ClientIdentity.make(HomePaths.client("/client"))
    const { connection } = yield* ClientLink.connect({
      identity,
      pairing,
      deviceName: "laptop",
      patience: ClientLink.PATIENCE,
      timeoutMs: options.timeoutMs ?? 300_000,
      progress: (one) => progress.push(one),
      answer: {
        stun: [],
        write: (sheet) =>
          Effect.andThen(
            Effect.sync(() => sheets.push(sheet)),
            Deferred.succeed(first, sheet)
          )
      }
    })
    return yield* connection.remote
  }).pipe(
    Effect.mapError((error) => (error instanceof TransportError ? error : new Error(error.message))),
    Effect.scoped,
    Effect.provide(Layer.fresh(services)),
    Effect.forkChild
  )
  yield* Deferred.await(first)
  if (options.rebindTo !== undefined) yield* network.rebind(clientNat, options.rebindTo)
  yield* Effect.sleep(options.walkMs ?? 20_000)
  assert.isUndefined(dial.pollUnsafe(), "connected before the file was carried")
  const carriedAt = yield* world.now
  if (options.carry !== false) yield* Effect.orDie(relay.control.answer(sheets.at(-1)?.line ?? ""))
  const exit = yield* Fiber.await(dial)
  return { sheets, progress, pairing, exit, tookMs: (yield* world.now) - carriedAt }
})

const hostsOf = (addresses: ReadonlyArray<Address>) => addresses.map(({ host }) => host)

describe("an answer file between two NATs", () => {
  it.effect("port-restricted at both ends: paired within seconds of its arrival", () =>
    World.run({ seed: 501, stun: [STUN], stepMs: 100 }, (world) =>
      Effect.gen(function* () {
        const { exit, pairing, progress, sheets, tookMs } = yield* meeting(world, {
          server: { kind: "portRestricted" },
          client: { kind: "portRestricted" }
        })
        assert.includeMembers(hostsOf(pairing.endpoints), [SERVER_OUTSIDE])
        assert.deepStrictEqual(
          sheets.map(({ isAnew, outside }) => [isAnew, outside]),
          [[false, "known"]]
        )
        assert.deepStrictEqual(hostsOf(sheets[0]?.candidates ?? []), [CLIENT_OUTSIDE, "10.2.0.2"])
        assert.isTrue(Exit.isSuccess(exit) && exit.value.host === SERVER_OUTSIDE, JSON.stringify(exit))
        assert.isBelow(tookMs, 4000)
        assert.deepStrictEqual(
          progress.map(({ relay, state }) => [relay, state]),
          [
            [undefined, "trying"],
            [undefined, "answered"]
          ]
        )
      })
    )
  )

  it.effect("carried for four minutes, through NATs that forget in half a minute", () =>
    World.run({ seed: 502, stun: [STUN], stepMs: 100 }, (world) =>
      Effect.gen(function* () {
        const short = { kind: "portRestricted", timeoutMs: 30_000 } as const
        const { exit, sheets, tookMs } = yield* meeting(world, { server: short, client: short, walkMs: 240_000 })
        assert.lengthOf(sheets, 1)
        assert.isTrue(Exit.isSuccess(exit), JSON.stringify(exit))
        assert.isBelow(tookMs, 4000)
      })
    )
  )

  it.effect("without being carried nothing happens, and the dial ends", () =>
    World.run({ seed: 503, stun: [STUN], stepMs: 1000 }, (world) =>
      Effect.gen(function* () {
        const { exit } = yield* meeting(world, {
          server: { kind: "portRestricted" },
          client: { kind: "portRestricted" },
          carry: false
        })
        assert.match(JSON.stringify(exit), /NoAnswer/)
      })
    )
  )

  it.effect("symmetric at both ends: the device says so at once, and fails in the end", () =>
    World.run({ seed: 504, stun: [STUN, { host: "192.0.2.11", port: 3478 }], stepMs: 1000 }, (world) =>
      Effect.gen(function* () {
        const { exit, sheets } = yield* meeting(world, {
          server: { kind: "symmetric" },
          client: { kind: "symmetric" },
          timeoutMs: 60_000
        })
        assert.deepStrictEqual(
          sheets.map(({ outside }) => outside),
          ["dependent"]
        )
        assert.match(JSON.stringify(exit), /NoAnswer/)
      })
    )
  )

  it.effect("a server that lets in whoever it has sent to: a symmetric device gets through all the same", () =>
    World.run({ seed: 505, stun: [STUN, { host: "192.0.2.11", port: 3478 }], stepMs: 100 }, (world) =>
      Effect.gen(function* () {
        const { exit, sheets, tookMs } = yield* meeting(world, {
          server: { kind: "restricted" },
          client: { kind: "symmetric" }
        })
        assert.deepStrictEqual(
          sheets.map(({ outside }) => outside),
          ["dependent"]
        )
        assert.isTrue(Exit.isSuccess(exit), JSON.stringify(exit))
        assert.isBelow(tookMs, 4000)
      })
    )
  )

  it.effect("a NAT that begins anew gives the device another address: it writes another file, which works", () =>
    World.run({ seed: 506, stun: [STUN], stepMs: 100 }, (world) =>
      Effect.gen(function* () {
        const { exit, sheets } = yield* meeting(world, {
          server: { kind: "portRestricted" },
          client: { kind: "portRestricted" },
          rebindTo: "203.0.113.51",
          walkMs: 60_000
        })
        assert.deepStrictEqual(
          sheets.map(({ candidates, isAnew }) => [candidates[0]?.host, isAnew]),
          [
            [CLIENT_OUTSIDE, false],
            ["203.0.113.51", true]
          ]
        )
        assert.isTrue(Exit.isSuccess(exit), JSON.stringify(exit))
      })
    )
  )
})
