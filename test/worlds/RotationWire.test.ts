/** Rotations as somebody on the wire sees them: datagrams lost, doubled, late, replayed; recorded sessions, stolen keys. */
import { assert, describe, it } from "@effect/vitest"
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { fromHex, text } from "../../src/domain/protocol/Cursor.ts"
import { Opener } from "../../src/domain/protocol/Packet.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import type { MaskKey, PacketKey, Primitives } from "../../src/domain/protocol/Primitives.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import * as Stranger from "../explorer/Stranger.ts"
import * as World from "./World.ts"

/** Short enough for many changes; the notice is 2 s then, and the grace, too. */
const PERIOD_MS = 10_000

/** A server without its llm tier, and a device that has just enrolled and asked how to find it. */
const served = Effect.fnUntraced(function* (world: World.World) {
  yield* world.server.start()
  yield* Effect.sleep(100)
  const client = yield* world.client()
  const link = yield* Effect.flatMap(Effect.orDie(world.pairing), client.tier.start)
  const session = yield* link.session
  yield* Effect.sleep(2000)
  return { client, session }
})

/** When the server's next ports are due, and which they are. */
const timetable = Effect.fnUntraced(function* (world: World.World) {
  const file = yield* Effect.orDie(world.disk.read(world.serverPaths.portSeed))
  const seed = fromHex(text(file._tag === "Some" ? file.value : new Uint8Array(0))?.trim() ?? "") ?? new Uint8Array(0)
  const schedule = PortSchedule.make(primitives, seed, PERIOD_MS)
  const period = schedule.periodAt(World.START + (yield* world.now)) + 1
  return {
    choice: (n: number): number => schedule.portsOf(period + n)[0] ?? 0,
    until: (n: number, ms: number) =>
      Effect.flatMap(world.now, (now) =>
        Effect.sleep(Math.max(0, schedule.startOf(period + n) - World.START + ms - now))
      )
  }
})

describe("The datagrams of a change of port", () => {
  const FIRST = 20
  const ways: ReadonlyArray<readonly [string, ReadonlyArray<number>]> = [
    ["lost", []],
    ["doubled", [0, 0]],
    ["doubled late", [0, 700]],
    ["late", [150]],
    ["very late", [1500]]
  ]
  for (const [how, copies] of ways) {
    it.effect(`may be ${how}, each in its turn, first to twentieth: nothing changes`, () => {
      let count = Number.POSITIVE_INFINITY
      let chosen = -1
      const fate = (): ReadonlyArray<number> => (count++ === chosen ? copies : [0])
      return World.run({ seed: 601, portRotationMs: PERIOD_MS, fate }, (world) =>
        Effect.gen(function* () {
          const { client, session } = yield* served(world)
          const { choice, until } = yield* timetable(world)
          for (let n = 0; n < 2 * FIRST; n++) {
            // Just before the announcement; the second time somebody talks.
            yield* until(n, -2001)
            count = 0
            chosen = n % FIRST
            const times = n < FIRST ? [5000] : [-1900, -1500, -1000, -600, -300, 0, 300, 600, 900, 1200, 5000]
            for (const at of times) {
              yield* until(n, at)
              const from = yield* world.now
              assert.strictEqual(
                yield* Effect.orDie(session.server["Control.Echo"]({ data: `${n} ${at}` })),
                `${n} ${at}`
              )
              assert.isBelow((yield* world.now) - from, 2000)
            }
            assert.isAbove(count, FIRST)
            const link = yield* client.tier.made
            assert.strictEqual(yield* link.session, session)
            assert.strictEqual((yield* session.connection.remote).port, choice(n), `${how}: ${chosen} of change ${n}`)
          }
          assert.deepStrictEqual(yield* World.sessions(world), ["server: 1"])
        })
      )
    })
  }

  it.effect("replayed later by somebody else, to all ports there were, draw no answer and move nothing", () => {
    const stranger = new Stranger.Stranger()
    let now = (): number => 0
    const heard = (tier: string, port: number, bytes: Uint8Array) => stranger.record(now(), tier, port, bytes)
    return World.run({ seed: 602, portRotationMs: PERIOD_MS, keyRotationMs: 7000, heard }, (world) =>
      Effect.gen(function* () {
        const clock = yield* Effect.clockWith(Effect.succeed<Clock.Clock>)
        now = () => clock.currentTimeMillisUnsafe()
        const host = world.network.host({ address: "203.0.113.66", link: { delayMs: 3 } })
        const send = yield* Stranger.open(stranger, host)
        const random = world.network.random("stranger")
        const { client, session } = yield* served(world)
        const { choice, until } = yield* timetable(world)
        for (let n = 0; n < 6; n++) {
          for (const at of [-1000, 1500, 4500, 7000]) {
            yield* until(n, at)
            const targets = [
              { tier: "server", host: World.SERVER },
              { tier: client.name, host: "192.0.2.1" }
            ]
            for (const target of targets) {
              yield* stranger.disturb(send, random, { ...target, now: now(), datagrams: 150 })
            }
            const before = yield* session.connection.remote
            yield* Effect.sleep(200)
            assert.strictEqual(yield* Effect.orDie(session.server["Control.Echo"]({ data: "here" })), "here")
            if (at > 0) assert.deepStrictEqual(yield* session.connection.remote, before)
          }
          assert.strictEqual((yield* session.connection.remote).port, choice(n))
        }
        assert.isAbove(stranger.sent, 6000)
        assert.strictEqual(stranger.answered, 0)
        assert.deepStrictEqual(yield* World.sessions(world), ["server: 1"])
        assert.strictEqual(yield* (yield* client.tier.made).session, session)
      })
    )
  })
})

/** Sees every key that a tier makes, as somebody who reads its memory. */
class Thief {
  /** All that was derived and made since the last `forget`. */
  packets: Array<{ readonly raw: Uint8Array }> = []
  ivs: Array<Uint8Array> = []
  masks: Array<Uint8Array> = []

  readonly watch = (tier: string, inner: Primitives): Primitives =>
    tier === "llm"
      ? inner
      : {
          ...inner,
          packetKey: (key): PacketKey => {
            this.packets.push({ raw: key.slice() })
            return inner.packetKey(key)
          },
          maskKey: (key): MaskKey => {
            this.masks.push(key.slice())
            return inner.maskKey(key)
          },
          hkdf: (salt, ikm, info, length) => {
            const out = inner.hkdf(salt, ikm, info, length)
            if (length === 12) this.ivs.push(out.slice())
            return out
          }
        }

  /** What was taken so far; what comes from now on is taken anew. Header masks serve a session's whole life. */
  take() {
    const { ivs, packets } = this
    this.ivs = []
    this.packets = []
    return { ivs, packets }
  }
}

/** How many datagrams open with any of the keys, under any mask. */
const opened = (
  datagrams: ReadonlyArray<Uint8Array>,
  masks: ReadonlyArray<Uint8Array>,
  { ivs, packets }: ReturnType<Thief["take"]>
): number => {
  const openers = masks.map((mask) => new Opener(primitives.maskKey(mask)))
  const keys = packets.flatMap(({ raw }) => ivs.map((iv) => ({ packet: primitives.packetKey(raw), iv })))
  let count = 0
  for (const datagram of datagrams) {
    const opens = openers.some((opener) =>
      keys.some((key) => {
        const copy = datagram.slice()
        opener.prepare([{ bytes: copy }], 0, 1)
        return opener.header(copy, 0) !== undefined && opener.open(key, copy)
      })
    )
    if (opens) count++
  }
  return count
}

describe("After a rotation of keys", () => {
  it.effect(
    "what was stolen before opens nothing that follows, and what is stolen then nothing that was before",
    () => {
      const thief = new Thief()
      const wire: Array<Uint8Array> = []
      const fate = (tier: string, _: unknown, bytes: Uint8Array): ReadonlyArray<number> => {
        if (tier !== "llm") wire.push(bytes.slice())
        return [0]
      }
      return World.run({ seed: 603, primitives: thief.watch, fate }, (world) =>
        Effect.gen(function* () {
          const { session } = yield* served(world)
          const talk = Effect.gen(function* () {
            wire.length = 0
            for (let n = 0; n < 10; n++) {
              yield* Effect.orDie(session.server["Control.Echo"]({ data: `word ${n}` }))
              yield* Effect.sleep(100)
            }
            return wire.splice(0)
          })
          const before = yield* talk
          const old = thief.take()
          const { masks } = thief
          assert.isAtLeast(before.length, 20)
          assert.strictEqual(opened(before, masks, old), before.length)
          // The rotation itself is seen, too.
          yield* session.connection.rekey
          yield* Effect.sleep(5000)
          const meanwhile = wire.splice(0)
          assert.strictEqual((yield* session.connection.stats).epoch, 1)
          const after = yield* talk
          const fresh = thief.take()
          assert.strictEqual(opened(after, masks, old), 0)
          assert.isBelow(opened(meanwhile, masks, old), meanwhile.length)
          assert.strictEqual(opened(after, masks, fresh), after.length)
          assert.strictEqual(opened(before, masks, fresh), 0)
          // And once more: each rotation heals what was stolen since the last.
          yield* session.connection.rekey
          yield* Effect.sleep(5000)
          const later = yield* talk
          assert.strictEqual(opened(later, masks, old) + opened(later, masks, fresh), 0)
          assert.strictEqual(opened(later, masks, thief.take()), later.length)
        })
      )
    }
  )
})
