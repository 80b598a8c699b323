import * as Zlib from "node:zlib"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import * as Network from "../../src/programs/cli/Layers.ts"
import { initiation } from "./Attacker.ts"
import { connect, device, echo, identityOf, type Passed, probe, say, settled, World, world } from "./Tiers.ts"

const environment = Layer.merge(world(), Network.network)

const ID = 8
const SESSIONS = 50

/** What passed between one client's socket and the server. */
interface Session {
  readonly handshakes: ReadonlyArray<Uint8Array>
  readonly answers: ReadonlyArray<Uint8Array>
  readonly up: ReadonlyArray<Uint8Array>
  readonly down: ReadonlyArray<Uint8Array>
  readonly all: ReadonlyArray<Passed>
}

/**
 * The client's part ahead of the first answer is initiations; the first datagram down is the answer. What is left of an
 * earlier session's end comes from another port and is no initiation.
 */
const sessionOf = (passed: ReadonlyArray<Passed>): Session => {
  const first = passed.findIndex(({ bytes, up }) => up && bytes.length === 1200)
  const all = passed.slice(first).filter((each) => each.client === passed[first]?.client)
  const answer = all.findIndex(({ up }) => !up)
  const before = all.slice(0, answer)
  const after = all.slice(answer + 1)
  return {
    handshakes: before.map(({ bytes }) => bytes),
    answers: all.slice(answer, answer + 1).map(({ bytes }) => bytes),
    up: after.filter(({ up }) => up).map(({ bytes }) => bytes),
    down: after.filter(({ up }) => !up).map(({ bytes }) => bytes),
    all
  }
}

const idOf = (bytes: Uint8Array): string => hex(bytes.subarray(0, ID))

/** The largest chi-square statistic of byte values over the positions behind the id that enough packets have. */
const worstChiSquare = (packets: ReadonlyArray<Uint8Array>, enough: number): number => {
  let worst = 0
  for (let at = ID; ; at++) {
    const bytes = packets.filter(({ length }) => length > at).map((packet) => packet[at] as number)
    if (bytes.length < enough) return worst
    const counts = new Array<number>(256).fill(0)
    for (const byte of bytes) counts[byte] = (counts[byte] ?? 0) + 1
    const expected = bytes.length / 256
    worst = Math.max(
      worst,
      counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
    )
  }
}

/** Positions behind the id whose byte is the same in all packets that reach so far. */
const constants = (packets: ReadonlyArray<Uint8Array>, enough: number): ReadonlyArray<number> => {
  const out: Array<number> = []
  for (let at = ID; ; at++) {
    const bytes = packets.filter(({ length }) => length > at).map((packet) => packet[at])
    if (bytes.length < enough) return out
    if (new Set(bytes).size === 1) out.push(at)
  }
}

/** Positions where words, read either way, only rise, only fall, or advance by equal steps from packet to packet. */
const counters = (packets: ReadonlyArray<Uint8Array>): ReadonlyArray<string> => {
  const out: Array<string> = []
  const shortest = Math.min(...packets.map(({ length }) => length))
  for (const width of [1, 2, 4, 8]) {
    for (const order of ["big", "little"] as const) {
      const modulus = 1n << BigInt(8 * width)
      for (let at = ID; at + width <= shortest; at++) {
        const values = packets.map((packet) => {
          const bytes = Buffer.from(packet.subarray(at, at + width))
          return BigInt(`0x${(order === "big" ? bytes : bytes.reverse()).toString("hex")}`)
        })
        const steps = values.slice(1).map((value, i) => value - (values[i] as bigint))
        const even = new Set(steps.map((step) => ((step % modulus) + modulus) % modulus)).size === 1
        if (even || steps.every((step) => step > 0n) || steps.every((step) => step < 0n)) {
          out.push(`${width} bytes at ${at}, ${order}`)
        }
      }
    }
  }
  return out
}

const linux = process.platform === "linux"

describe.skipIf(!linux)(linux ? "captured traffic" : "captured traffic (skipped: /proc is not here)", () => {
  layer(environment, { excludeTestServices: true, timeout: "60 seconds" })("on the real path", (it) => {
    it.effect(
      "shows nothing: no constant, no counter, no pattern, no id twice, no answer larger than its question",
      () =>
        Effect.gen(function* () {
          const { port, recorder, restart, server } = yield* World

          // A stranger to the path asks with valid credentials and never proves its address.
          const shy = yield* identityOf(yield* device("shy"))
          const invitation = (yield* shy.invitations)[0]
          if (invitation === undefined) return assert.fail("not paired")
          const unproven = yield* probe()
          const firsts = Array.from(
            { length: 8 },
            (_, i) => initiation({ invitation, identity: shy.keyPair, hint: 2 + i }).datagram
          )
          yield* unproven.send(firsts, port)

          const home = yield* device("watched")
          const sessions: Array<Session> = []
          const record = <A, E, R>(life: Effect.Effect<A, E, R>) =>
            Effect.gen(function* () {
              const from = recorder.passed.length
              yield* Effect.scoped(life)
              yield* settled((now) => now.sessions === 0)
              sessions.push(sessionOf(recorder.passed.slice(from)))
            })
          yield* record(
            Effect.gen(function* () {
              const session = yield* connect(home)
              for (let i = 0; i < 100; i++) yield* echo(session, "a".repeat(i * 40))
              for (let i = 0; i < 5; i++) assert.include(yield* say(session, "hello"), " ")
            })
          )
          // Beyond a burst the server spends one handshake a second on a device. It is killed and started anew before that,
          // so that the hints it has seen have to survive too.
          while (sessions.length < SESSIONS) {
            if (sessions.length % 7 === 0) yield* restart
            yield* record(Effect.flatMap(connect(home), (session) => echo(session)))
          }

          // Lengths.
          for (const { bytes } of sessions.flatMap(({ all }) => all)) assert.strictEqual(bytes.length % 16, 0)
          for (const { answers, handshakes } of sessions) {
            assert.isAtLeast(handshakes.length, 1)
            assert.deepEqual([...new Set([...handshakes, ...answers].map(({ length }) => length))], [1200])
          }

          // Nothing that is seen once is seen in another session, in the other direction, or in another role.
          const hints = sessions.flatMap(({ handshakes }) => handshakes.map(idOf))
          assert.strictEqual(new Set(hints).size, hints.length)
          const upIds = sessions.map(({ up }) => [...new Set(up.map(idOf))])
          const downIds = sessions.map(({ answers, down }) => [...new Set([...answers, ...down].map(idOf))])
          const ids = [...upIds, ...downIds].flat()
          for (const each of [...upIds, ...downIds]) assert.strictEqual(each.length, 1)
          assert.strictEqual(new Set([...hints, ...ids]).size, hints.length + ids.length)

          // Bytes.
          const up = sessions.flatMap((session) => session.up)
          const down = sessions.flatMap((session) => session.down)
          const handshakes = sessions.flatMap((session) => session.handshakes)
          const answers = sessions.flatMap((session) => session.answers)
          assert.isAtLeast(up.length, 250)
          assert.isAtLeast(down.length, 250)
          // 255 degrees of freedom: mean 255, deviation 22.6; one in a thousand million thousand positions is beyond.
          for (const packets of [up, down]) assert.isBelow(worstChiSquare(packets, 200), 255 + 9 * 22.6)
          for (const packets of [handshakes, answers]) assert.deepEqual(constants(packets, 20), [])
          for (const session of sessions) {
            assert.deepEqual(constants(session.up, 7), [])
            assert.deepEqual(constants(session.down, 7), [])
          }
          const [chat] = sessions
          if (chat === undefined) return assert.fail("no session")
          assert.isAtLeast(Math.min(chat.up.length, chat.down.length), 100)
          assert.deepEqual([...counters(chat.up), ...counters(chat.down)], [])
          assert.deepEqual([...counters(handshakes), ...counters(answers)], [])
          for (const packets of [up, down, handshakes, answers]) {
            const bytes = Buffer.concat(packets.map((packet) => packet.subarray(ID)))
            assert.isAtLeast(Zlib.deflateRawSync(bytes, { level: 9 }).length, 0.999 * bytes.length)
            assert.isAtLeast(Zlib.brotliCompressSync(bytes).length, 0.999 * bytes.length)
          }

          // Before the client's first packet behind the answer its address is unproven.
          for (const { all } of sessions) {
            const answer = all.findIndex((each) => !each.up)
            const proven = all.findIndex((each, at) => each.up && at > answer)
            let balance = 0
            for (const { bytes, up } of all.slice(0, proven)) {
              balance += up ? bytes.length : -bytes.length
              assert.isAtLeast(balance, 0)
            }
          }
          // Each datagram counts one more than its bytes. Half-open sessions have expired by now and said nothing.
          assert.isAbove(unproven.received, 0)
          assert.isAtMost(unproven.received, 8 * 1201)
          assert.deepEqual(server().mishaps, [])
        }),
      120_000
    )

    it.effect("is worth nothing from elsewhere: a packet sent again moves no session", () =>
      Effect.gen(function* () {
        const { port, recorder, server } = yield* World
        const session = yield* connect(yield* device("followed"))
        const from = recorder.passed.length
        for (let i = 0; i < 20; i++) yield* echo(session)
        const packets = recorder.passed.slice(from).filter(({ up }) => up)
        assert.isAtLeast(packets.length, 20)
        const elsewhere = yield* Effect.all([probe(), probe("127.0.0.2")])
        for (const source of elsewhere) {
          yield* source.send(
            packets.map(({ bytes }) => bytes),
            port
          )
        }
        yield* echo(session)
        assert.deepEqual(
          elsewhere.map(({ received }) => received),
          [0, 0]
        )
        assert.deepEqual(server().mishaps, [])
      })
    )

    it.effect("is worth a challenge from elsewhere when it comes there first, and never three times its bytes", () =>
      Effect.gen(function* () {
        const { port, recorder, server } = yield* World
        const session = yield* connect(yield* device("overtaken"))
        yield* echo(session)
        const elsewhere = yield* probe()
        let back = 0
        elsewhere.socket.on("message", (bytes) => {
          back += bytes.length
        })
        // The relay keeps the client's packets from the server and sends the first of them, a mere acknowledgement, from
        // its own address.
        let relayed = 0
        recorder.divert = (bytes) => {
          if (relayed > 0) return
          relayed = bytes.length
          elsewhere.socket.send(bytes, port, "127.0.0.1")
        }
        yield* settled(() => back > 0)
        recorder.divert = undefined
        assert.strictEqual(yield* echo(session, "moved by nobody"), "moved by nobody")
        assert.strictEqual(relayed, 48)
        assert.isAtMost(back, 3 * relayed)
        assert.deepEqual(server().mishaps, [])
      })
    )
  })
})
