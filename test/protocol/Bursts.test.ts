import { assert, describe, it } from "@effect/vitest"
import { MAX_BURST_DATAGRAMS, MAX_DATAGRAM_LENGTH } from "../../src/domain/protocol/Constants.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import { type Fate, Pair, type PairOptions, Sink, seeded, steady, weather } from "./Pair.ts"

const limits = { maxData: 8e6, maxStreamData: 4e6, maxStreams: 16, idleTimeoutMs: 60_000, maxDatagram: 65_504 }

/** Sends so many bytes of chance up one stream and back, and answers the pair when both ways are whole. */
const transfer = (bytes: number, options: PairOptions, forMs = 120_000): Pair => {
  const pair = new Pair({ limits, ...options })
  const sink = new Sink()
  pair.onSession = sink.on
  const { client, server } = pair.connect()
  const data = seeded("bulk")(bytes)
  const id = pair.command("client", client, (session) => session.openStream(Priority.Bulk)) ?? -1
  pair.command("client", client, (session) => {
    session.write(id, data)
    session.finish(id)
  })
  assert.isTrue(
    pair.run(() => sink.ended("server", id), forMs),
    "the way up"
  )
  pair.command("server", server, (session) => {
    session.write(id, data)
    session.finish(id)
  })
  assert.isTrue(
    pair.run(() => sink.ended("client", id), forMs),
    "the way down"
  )
  assert.deepStrictEqual(sink.bytes("server", id), data)
  assert.deepStrictEqual(sink.bytes("client", id), data)
  return pair
}

const datagramBytes = (pair: Pair): number => {
  const session = pair.all("client", "Connected")[0]?.session ?? -1
  return pair.session("client", session).stats().datagramBytes
}

/** A link that drops what is longer than `mtu`, which may change with time. */
const narrow =
  (mtu: () => number, inner: Fate = steady(10)): Fate =>
  (from, bytes, index) =>
    bytes.length > mtu() ? [] : inner(from, bytes, index)

describe("Bursts", () => {
  it("are the same datagrams as one by one", () => {
    const [single, burst] = [transfer(500_000, {}), transfer(500_000, { bursts: true })]
    assert.deepStrictEqual(
      burst.wire.map(({ bytes }) => bytes.length),
      single.wire.map(({ bytes }) => bytes.length)
    )
    // The first that differs is the first that was opened in another batch; up to there every byte is the same.
    const differs = burst.wire.findIndex(({ bytes }, i) => bytes.some((byte, at) => byte !== single.wire[i]?.bytes[at]))
    assert.strictEqual(differs, -1)
    assert.isAbove(Math.max(...burst.bursts), 8)
    assert.isAtMost(Math.max(...burst.bursts), MAX_BURST_DATAGRAMS)
  })

  it("survive loss, reordering, duplicates and corruption", () => {
    const fate = weather("bursts", { delay: 10, jitter: 5, loss: 0.05, duplicate: 0.05, corrupt: 0.01 })
    const pair = transfer(300_000, { bursts: true, fate })
    assert.isAbove(pair.client.drops.unopened + pair.server.drops.unopened, 0)
    assert.isAbove(pair.client.drops.replayed + pair.server.drops.replayed, 0)
  })

  it("keep sessions of one endpoint apart", () => {
    const pair = new Pair({ limits, bursts: true })
    const sink = new Sink()
    pair.onSession = sink.on
    const handles = [pair.connect(), pair.connect(), pair.connect()]
    const got = new Map<number, number>()
    pair.onSession = (_side, session, event) => {
      if (event.type !== "StreamReadable") return
      const first = session.localIds[0]?.[0] as number
      for (let part = session.read(event.id); part instanceof Uint8Array; part = session.read(event.id)) {
        assert.isTrue(part.every((byte) => byte === part[0]))
        got.set(first, (got.get(first) ?? 0) + part.length)
      }
    }
    for (const [i, { client }] of handles.entries()) {
      pair.command("client", client, (session) => {
        const id = session.openStream(Priority.Bulk) ?? -1
        session.write(id, new Uint8Array(100_000).fill(i))
      })
    }
    pair.pass(20_000)
    assert.deepStrictEqual([...got.values()], [100_000, 100_000, 100_000])
  })
})

describe("Path MTU in a session", () => {
  for (const [mtu, expected] of [
    [1200, 1200],
    [1300, 1296],
    [1472, 1472],
    [9000, 8992],
    [65_535, 65_504]
  ] as const) {
    it(`finds ${expected} where the path carries ${mtu}`, () => {
      const pair = new Pair({ limits, bursts: true, datagramCeiling: 65_504, fate: narrow(() => mtu) })
      const sink = new Sink()
      pair.onSession = sink.on
      const { client } = pair.connect()
      const id = pair.command("client", client, (session) => session.openStream(Priority.Bulk)) ?? -1
      const piece = seeded("piece")(100_000)
      for (let sent = 0; sent < 60; sent++) {
        pair.command("client", client, (session) => session.write(id, piece))
        pair.pass(100)
      }
      assert.strictEqual(sink.bytes("server", id).length, 60 * piece.length)
      assert.strictEqual(datagramBytes(pair), expected)
    })
  }

  it("stays at what every path carries unless told otherwise", () => {
    const pair = transfer(300_000, { bursts: true })
    assert.strictEqual(datagramBytes(pair), MAX_DATAGRAM_LENGTH)
    assert.isTrue(pair.wire.every(({ bytes }) => bytes.length <= MAX_DATAGRAM_LENGTH))
  })

  it("does not take the loss of probes for congestion", () => {
    const pair = new Pair({ limits, bursts: true, datagramCeiling: 65_504, fate: narrow(() => 1200) })
    const { client } = pair.connect()
    const id = pair.command("client", client, (session) => session.openStream(Priority.Bulk)) ?? -1
    pair.command("client", client, (session) => session.write(id, new Uint8Array(3_000_000)))
    let least = Number.POSITIVE_INFINITY
    pair.run(() => {
      const { congestionWindow } = pair.session("client", client).stats()
      least = Math.min(least, congestionWindow)
      return false
    }, 1000)
    assert.isAbove(pair.session("client", client).stats().lostPackets, 0)
    assert.isAtLeast(least, 10 * MAX_DATAGRAM_LENGTH)
  })

  it("probes for bulk, not for a few words", () => {
    const pair = new Pair({ limits, bursts: true, datagramCeiling: 65_504 })
    const { client } = pair.connect()
    const id = pair.command("client", client, (session) => session.openStream(Priority.Interactive)) ?? -1
    for (let word = 0; word < 20; word++) {
      pair.command("client", client, (session) => session.write(id, new Uint8Array(64)))
      pair.pass(100)
    }
    assert.isAtMost(Math.max(...pair.wire.map(({ bytes }) => bytes.length)), MAX_DATAGRAM_LENGTH)
  })

  it("gets out of a black hole", () => {
    let mtu = 9000
    const pair = new Pair({ limits, bursts: true, datagramCeiling: 9000, fate: narrow(() => mtu) })
    const sink = new Sink()
    pair.onSession = sink.on
    const { client } = pair.connect()
    const id = pair.command("client", client, (session) => session.openStream(Priority.Bulk)) ?? -1
    const data = seeded("hole")(4_000_000)
    pair.command("client", client, (session) => session.write(id, data))
    pair.run(() => sink.bytes("server", id).length > 1_000_000)
    assert.isAbove(datagramBytes(pair), 8900)
    mtu = 1400
    pair.command("client", client, (session) => session.finish(id))
    assert.isTrue(pair.run(() => sink.ended("server", id), 60_000))
    assert.deepStrictEqual(sink.bytes("server", id), data)
    assert.isAtMost(datagramBytes(pair), 1400)
  })
})
