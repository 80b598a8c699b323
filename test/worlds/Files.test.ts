/** A file on its way while everything under it changes. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import type { HostLink } from "../../src/layers/SimulatedHost.ts"
import type { Event } from "../../src/programs/TransferEvent.ts"
import * as Transfers from "../../src/programs/Transfers.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import { bytesOf, contents } from "../programs/TransferWorld.ts"
import * as World from "./World.ts"

const SIZE = 4_000_000
const WAYS = ["get", "put"] as const
type Way = (typeof WAYS)[number]
const TRANSFERS = { get: Transfers.get, put: Transfers.put }
/** Bytes of a stream that a sender's host takes in before they are on the line; a put counts them as sent. */
const UNSENT = { get: 0, put: 1024 * 1024 }

const FILE: MemoryNode = { kind: "file", bytes: bytesOf(7, SIZE), mtimeMs: World.START, mode: 0o640 }
/** 1.6 Mbit, so that the file takes 20 s and more. */
const LINE: HostLink = { delayMs: 20, jitterMs: 2, loss: 0.01, rate: { bitsPerSecond: 1_600_000, queueBytes: 20_000 } }

const filesOf = (way: Way) => (way === "get" ? { files: { source: FILE } } : {})

/** Begins a transfer beside the scenario; `finish` waits for its end and compares what arrived. */
const begin = Effect.fnUntraced(function* (world: World.World, client: World.Client, way: Way) {
  const link = yield* client.tier.made
  const local = MemoryFileTree.make(way === "put" ? { source: FILE } : {})
  const events: Array<Event> = []
  const open = Effect.flatMap(link.session, ({ connection }) => connection.open(Priority.Bulk))
  const fiber = yield* TRANSFERS[way](
    // The tree in memory hashes in real time, which virtual time may outrun: how long a silence may be is not at stake here.
    { open, local, conflict: "skip", idleMs: 24 * 3600_000 },
    Stream.succeed({ from: "/source", to: "/target", size: SIZE })
  ).pipe(
    Stream.provide(CryptoNode.layer),
    Stream.runForEach((event) => Effect.sync(() => events.push(event))),
    Effect.forkScoped
  )
  const finish = Effect.gen(function* () {
    yield* Fiber.join(fiber)
    const target = way === "put" ? world.files : local
    assert.deepStrictEqual(yield* contents(target, "/target"), bytesOf(7, SIZE))
    const moved = events.flatMap((event) => (event._tag === "Done" ? [event.moved] : []))
    assert.lengthOf(moved, 1, JSON.stringify(events.slice(-3)))
    return { moved: moved[0] ?? 0, resumed: events.filter(({ _tag }) => _tag === "Resuming").length }
  })
  /** Bytes that the transfer has told of. */
  const bytes = (): number => Number(events.findLast((event) => event._tag === "Progress")?.bytes ?? 0)
  const reached = Effect.fnUntraced(function* (share: number) {
    while (bytes() < share * SIZE) yield* Effect.sleep(100)
  })
  return { finish, reached }
})

/** The remote port of a client's present session. */
const portOf = Effect.fnUntraced(function* (client: World.Client) {
  const { connection } = yield* Effect.flatMap(client.tier.made, ({ session }) => session)
  return (yield* connection.remote).port
})

const opened = (world: World.World): number =>
  world.log.filter(({ message }) => message.includes("session.opened")).length

describe("A file on its way", () => {
  for (const [i, way] of WAYS.entries()) {
    it.effect(`${way}: through a new port and new keys each five seconds: one session, nothing sent twice`, () =>
      World.run({ seed: 900 + i, portRotationMs: 5000, keyRotationMs: 5000, ...filesOf(way) }, (world) =>
        Effect.gen(function* () {
          const client = yield* world.paired({ link: LINE })
          const before = yield* portOf(client)
          const { finish } = yield* begin(world, client, way)
          const from = yield* Clock.currentTimeMillis
          assert.deepStrictEqual(yield* finish, { moved: SIZE, resumed: 0 })
          assert.isAbove((yield* Clock.currentTimeMillis) - from, 20_000)
          assert.notStrictEqual(yield* portOf(client), before)
          const { connection } = yield* Effect.flatMap(client.tier.made, ({ session }) => session)
          assert.isAtLeast((yield* connection.stats).epoch, 3)
          assert.strictEqual(opened(world), 1)
        })
      )
    )

    it.effect(`${way}: through translators that begin anew, and other networks: one session, nothing sent twice`, () =>
      World.run({ seed: 910 + i, ...filesOf(way) }, (world) =>
        Effect.gen(function* () {
          const home = world.network.nat({ address: "203.0.113.1", kind: "symmetric" })
          const phone = world.network.nat({ address: "203.0.113.50", kind: "portRestricted" })
          const client = yield* world.paired({ nat: home, link: LINE })
          const { finish, reached } = yield* begin(world, client, way)
          yield* reached(0.2)
          yield* world.network.rebind(home, "203.0.113.2")
          yield* reached(0.4)
          yield* world.network.move(client.host, { address: "10.20.0.7", nat: phone })
          yield* reached(0.6)
          yield* world.network.rebind(phone)
          yield* reached(0.8)
          yield* world.network.move(client.host, { address: "10.0.0.9", nat: home })
          assert.deepStrictEqual(yield* finish, { moved: SIZE, resumed: 0 })
          assert.strictEqual(opened(world), 1)
        })
      )
    )

    it.effect(`${way}: cut off for so long that port, keys and address are others: it goes on where it was`, () =>
      World.run({ seed: 920 + i, portRotationMs: 60_000, keyRotationMs: 60_000, ...filesOf(way) }, (world) =>
        Effect.gen(function* () {
          const nat = world.network.nat({ address: "203.0.113.1", kind: "portRestricted", timeoutMs: 60_000 })
          const client = yield* world.paired({ nat, link: LINE })
          const before = yield* portOf(client)
          const { finish, reached } = yield* begin(world, client, way)
          yield* reached(0.5)
          yield* world.network.cut(client.host)
          yield* Effect.sleep(100_000)
          yield* world.network.rebind(nat, "203.0.113.2")
          yield* world.network.restore(client.host)
          const { moved, resumed } = yield* finish
          assert.isAtLeast(resumed, 1)
          assert.isAtMost(moved, SIZE + resumed * (BLOCK_LENGTH + UNSENT[way]))
          assert.isAtLeast(opened(world), 2)
          assert.notStrictEqual(yield* portOf(client), before)
        })
      )
    )

    it.effect(`${way}: the server is killed and comes back: it goes on where it was`, () =>
      World.run({ seed: 930 + i, port: 40_000, ...filesOf(way) }, (world) =>
        Effect.gen(function* () {
          const client = yield* world.paired({ link: LINE })
          const { finish, reached } = yield* begin(world, client, way)
          yield* reached(0.5)
          yield* world.server.kill
          yield* Effect.sleep(3000)
          yield* world.server.start()
          const { moved, resumed } = yield* finish
          assert.isAtLeast(resumed, 1)
          assert.isAtMost(moved, SIZE + resumed * (BLOCK_LENGTH + UNSENT[way]))
        })
      )
    )
  }
})
