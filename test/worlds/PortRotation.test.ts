/** Whole tiers while the server moves from port to port. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { PORT_ANNOUNCE_MS, PORT_GRACE_MS, PORT_PERIOD_MS } from "../../src/domain/protocol/Constants.ts"
import { fromHex, text } from "../../src/domain/protocol/Cursor.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"
import * as World from "./World.ts"

const WEEK = 7 * 24 * 3_600_000
const VALIDITY_MS = 11 * 60_000

const questionsOf = (client: World.Client, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, n) => `question ${n} of ${client.name}`)

/** What the server's schedule says, in the world's time. */
const timetable = Effect.fnUntraced(function* (world: World.World, periodMs = PORT_PERIOD_MS) {
  const file = yield* Effect.orDie(world.disk.read(world.serverPaths.portSeed))
  const seed = Option.getOrThrow(Option.flatMapNullishOr(file, (bytes) => fromHex(text(bytes)?.trim() ?? "")))
  const schedule = PortSchedule.make(primitives, seed, periodMs)
  const period = schedule.periodAt(World.START + (yield* world.now))
  return {
    /** The kth choice of the nth period after the present one. */
    choice: (n: number, k = 0): number => schedule.portsOf(period + n)[k] ?? 0,
    /** Sleeps until so long after the nth next period's beginning. */
    until: (n: number, ms: number) =>
      Effect.flatMap(world.now, (now) =>
        Effect.sleep(Math.max(0, schedule.startOf(period + n) - World.START + ms - now))
      )
  }
})

/** Somebody else on the server's machine has these ports. */
const occupy = (world: World.World, ports: ReadonlyArray<number>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.forEach(ports, (port) => Effect.flatMap(UdpSocket, (sockets) => sockets.bind({ host: "0.0.0.0", port })), {
    discard: true
  }).pipe(Effect.provide(world.serverHost.layer), Effect.orDie)

const logged = (world: World.World, words: string): ReadonlyArray<World.LogLine> =>
  world.log.filter(({ message }) => message.includes(words))

/** The remote port of a client's present session. */
const portOf = Effect.fnUntraced(function* (client: World.Client) {
  const { connection } = yield* Effect.flatMap(client.tier.made, ({ session }) => session)
  return (yield* connection.remote).port
})

/** A server without its llm tier, and a device that has just enrolled. */
const served = Effect.fnUntraced(function* (world: World.World, options: World.ClientOptions = {}) {
  yield* world.server.start()
  yield* Effect.sleep(100)
  const client = yield* world.client(options)
  const link = yield* Effect.flatMap(Effect.orDie(world.pairing), client.tier.start)
  yield* link.session
  return client
})

/** Answers how long it takes from its start until a stopped device has a session. */
const returning = Effect.fnUntraced(function* (world: World.World, client: World.Client) {
  const from = yield* world.now
  const link = yield* client.tier.start(undefined)
  yield* link.session
  return (yield* world.now) - from
})

const open = (world: World.World, port: number): Effect.Effect<boolean> =>
  Effect.scoped(Effect.exit(occupy(world, [port]))).pipe(Effect.map(({ _tag }) => _tag === "Failure"))

describe("A server that changes its port", () => {
  it.effect("for three hours, at 3 % loss: one session, every word once, the old port closed after five minutes", () =>
    World.run({ seed: 501, limitMs: WEEK, stepMs: 60_000 }, (world) =>
      Effect.gen(function* () {
        const nat = world.network.nat({ address: "203.0.113.1", kind: "symmetric" })
        const client = yield* world.paired({ nat, link: { delayMs: 20, loss: 0.03 } })
        const { choice, until } = yield* timetable(world)
        let asked = 0
        for (let n = 1; n <= 3; n++) {
          for (const at of [-PORT_ANNOUNCE_MS - 60_000, -PORT_ANNOUNCE_MS + 50, 0, 30_000, 61_000]) {
            yield* until(n, at)
            yield* client.ask(asked++)
          }
          assert.strictEqual(yield* portOf(client), choice(n))
          yield* until(n, PORT_GRACE_MS + 31_000)
          assert.isFalse(yield* open(world, choice(n - 1)))
          assert.isTrue(yield* open(world, choice(n)))
        }
        assert.deepStrictEqual(yield* World.transcriptFaults(world, questionsOf(client, asked)), [])
        assert.deepStrictEqual(yield* World.sessions(world), ["server: 1", "llm: 1"])
        assert.lengthOf(logged(world, "session.opened"), 1)
      })
    )
  )

  it.effect("is followed change after change, also where each path that falls silent for a moment is doubted", () =>
    World.run({ seed: 513, portRotationMs: 5000, keyRotationMs: 5000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ link: { delayMs: 0, loss: 0.08 } })
        const { choice, until } = yield* timetable(world, 5000)
        let asked = 0
        let followed = 0
        for (let n = 1; n <= 30; n++) {
          for (const at of [-1800, -1300, -800, -300, 200, 700, 1200, 1700, 2200, 2950]) {
            yield* until(n, at)
            yield* client.ask(asked++)
          }
          if ((yield* portOf(client)) === choice(n)) followed++
        }
        // Where five challenges in a row are lost the next change is as good.
        assert.isAtLeast(followed, 27)
        assert.deepStrictEqual(yield* World.transcriptFaults(world, questionsOf(client, asked)), [])
        assert.lengthOf(logged(world, "session.opened"), 1)
        const { connection } = yield* Effect.flatMap(client.tier.made, ({ session }) => session)
        assert.isAtLeast((yield* connection.stats).epoch, 24)
        // The present one, and those that were left within the last ten seconds.
        assert.isAtMost((yield* connection.paths).length, 4)
      })
    )
  )

  it.effect("is found in one round trip by a device that slept for a week, also where the first choice was taken", () =>
    World.run({ seed: 502, limitMs: 3 * WEEK, stepMs: 3_600_000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* served(world)
        yield* Effect.sleep(5000)
        const { choice, until } = yield* timetable(world)
        yield* client.tier.stop
        for (let n = 1; n <= 171; n += 17) yield* occupy(world, [choice(n)])
        yield* until(167, 0)
        yield* Effect.sleep(1_800_000)
        // Handshake and first packet: from the client's start to the session, 25 ms each way.
        assert.isBelow(yield* returning(world, client), 110)
        assert.strictEqual(yield* portOf(client), choice(167))
        yield* client.tier.stop
        yield* until(171, 1_800_000)
        assert.isBelow(yield* returning(world, client), 110)
        assert.strictEqual(yield* portOf(client), choice(171, 1))
      })
    )
  )

  it.effect("is found at every moment around a change by a device that comes back", () =>
    World.run({ seed: 503, limitMs: WEEK, stepMs: 60_000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* served(world)
        yield* Effect.sleep(5000)
        const { until } = yield* timetable(world)
        const times = [-130_000, -110_000, -30, -10, 0, 20, 10_000, 290_000, 300_000, 330_000, 340_000]
        for (const at of times) {
          yield* client.tier.stop
          yield* until(1, at)
          assert.isBelow(yield* returning(world, client), 110, `${at} ms after the change`)
          yield* Effect.sleep(5)
        }
      })
    )
  )

  it.effect("takes a device along that came during the notice, and one that came by yesterday's port", () => {
    const closed = new Set<number>()
    const fate = (tier: string, to: { readonly port: number }) => (tier !== "server" && closed.has(to.port) ? [] : [0])
    return World.run({ seed: 504, limitMs: WEEK, stepMs: 60_000, fate }, (world) =>
      Effect.gen(function* () {
        const client = yield* served(world)
        const { choice, until } = yield* timetable(world)
        yield* client.tier.stop
        closed.add(choice(1))
        yield* until(1, -60_000)
        yield* returning(world, client)
        yield* until(1, -1000)
        closed.clear()
        assert.strictEqual(yield* portOf(client), choice(0))
        yield* until(1, 1000)
        assert.strictEqual(yield* portOf(client), choice(1))
        // Now one that comes back later, by the old port, for the new one is not open to it yet.
        yield* client.tier.stop
        closed.add(choice(1))
        yield* until(1, 100_000)
        yield* returning(world, client)
        assert.strictEqual(yield* portOf(client), choice(0))
        closed.clear()
        yield* until(1, 135_000)
        assert.strictEqual(yield* portOf(client), choice(1))
        yield* until(1, PORT_GRACE_MS + 31_000)
        assert.isFalse(yield* open(world, choice(0)))
      })
    )
  })

  it.effect("takes the next choice where a port is taken, and stays where none of a period can be had", () =>
    World.run({ seed: 505, limitMs: WEEK, stepMs: 60_000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* served(world)
        const { choice, until } = yield* timetable(world)
        yield* occupy(world, [choice(1), choice(1, 1), choice(3, 0)])
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* occupy(
              world,
              Array.from({ length: 8 }, (_, k) => choice(2, k))
            )
            yield* until(1, 61_000)
            assert.strictEqual(yield* portOf(client), choice(1, 2))
            yield* until(3, -PORT_ANNOUNCE_MS - 60_000)
            assert.strictEqual(yield* portOf(client), choice(1, 2))
            assert.lengthOf(logged(world, "port.kept"), 1)
          })
        )
        yield* until(3, 61_000)
        assert.strictEqual(yield* portOf(client), choice(3, 1))
        assert.lengthOf(logged(world, "session.opened"), 1)
      })
    )
  )

  it.effect("keeps the old port for a device that cannot reach the new one, and loses nothing", () => {
    const closed = new Set<number>()
    const fate = (tier: string, to: { readonly port: number }) =>
      tier === "client-0" && closed.has(to.port) ? [] : [0]
    return World.run({ seed: 506, limitMs: WEEK, stepMs: 60_000, fate }, (world) =>
      Effect.gen(function* () {
        const stuck = yield* world.paired()
        const { choice, until } = yield* timetable(world)
        closed.add(choice(1))
        let asked = 0
        for (const at of [-110_000, 0, 30_000, 90_000, PORT_GRACE_MS + 60_000, 1_800_000]) {
          yield* until(1, at)
          yield* stuck.ask(asked++)
          assert.strictEqual(yield* portOf(stuck), choice(0))
        }
        assert.isTrue(yield* open(world, choice(0)))
        assert.isTrue(yield* open(world, choice(1)))
        // The next port is open to it again: nothing keeps the older ones any more.
        yield* until(2, 61_000)
        yield* stuck.ask(asked++)
        assert.strictEqual(yield* portOf(stuck), choice(2))
        yield* until(2, PORT_GRACE_MS + 31_000)
        for (const n of [0, 1]) assert.isFalse(yield* open(world, choice(n)))
        assert.deepStrictEqual(yield* World.transcriptFaults(world, questionsOf(stuck, asked)), [])
        assert.lengthOf(logged(world, "session.opened"), 1)
      })
    )
  })

  it.effect("but not where it is told a port", () =>
    World.run({ seed: 507, limitMs: WEEK, stepMs: 3_600_000, port: 40_000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* served(world)
        yield* Effect.sleep(6 * 3_600_000)
        assert.strictEqual(yield* portOf(client), 40_000)
        yield* Effect.orDie(Effect.flatMap(world.server.made, ({ control }) => control.renew))
        assert.deepStrictEqual((yield* Effect.orDie(world.pairing)).endpoints, [{ host: World.SERVER, port: 40_000 }])
        yield* client.tier.stop
        yield* Effect.sleep(6 * 3_600_000)
        assert.isBelow(yield* returning(world, client), 110)
        assert.deepStrictEqual(logged(world, "port.opened"), [])
      })
    )
  )

  it.effect("writes credential files that work until they expire, around a change and with the next ports taken", () =>
    World.run({ seed: 508, limitMs: WEEK, stepMs: 60_000 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        yield* Effect.sleep(100)
        const relay = yield* world.server.made
        const { choice, until } = yield* timetable(world)
        yield* occupy(world, [choice(2), choice(2, 1), choice(3)])
        let round = 0
        for (const n of [1, 2, 3]) {
          for (const at of [-VALIDITY_MS + 10_000, -PORT_ANNOUNCE_MS - 1000, -PORT_ANNOUNCE_MS + 1000, -1000, 1000]) {
            yield* until(n, at - 100_000 * (n === 1 ? 0 : 1))
            yield* Effect.orDie(relay.control.renew)
            const pairing = yield* Effect.orDie(world.pairing)
            // At its beginning, in its middle, at its end; each try is a device of its own and the file is used up by the last.
            const lives = [10, 0.3 * VALIDITY_MS, 0.6 * VALIDITY_MS, VALIDITY_MS - 20_000]
            const life = lives[round++ % lives.length] ?? 10
            yield* Effect.forkScoped(
              Effect.gen(function* () {
                yield* Effect.sleep(life)
                const device = yield* world.client()
                const link = yield* device.tier.start(pairing)
                const from = yield* world.now
                yield* link.session
                // All ports that it names are tried at once or in turn.
                assert.isBelow((yield* world.now) - from, 1000, `file of period ${n}, ${at} ms, after ${life} ms`)
                yield* device.tier.stop
              })
            )
          }
        }
        yield* until(3, 2 * VALIDITY_MS)
        assert.lengthOf(logged(world, "device.enrolled"), round)
      })
    )
  )
})
