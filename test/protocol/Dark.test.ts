import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { CloseCode } from "../../src/domain/protocol/CloseCode.ts"
import { INITIATION_LENGTH } from "../../src/domain/protocol/Constants.ts"
import { concat, fromHex } from "../../src/domain/protocol/Cursor.ts"
import { entropySeeded } from "../../src/layers/CryptoNode.ts"
import { CLIENT, type OnWire, Pair, SERVER, Sink } from "./Pair.ts"

const STRANGER: Address = { host: "203.0.113.66", port: 6666 }
const JUNK = entropySeeded("junk")(65_536)

const junk = (length: number, from = 0): Uint8Array => JUNK.subarray(from, from + length)
const bytes = (hex: string, length: number): Uint8Array => {
  const head = fromHex(hex.replaceAll(" ", "")) ?? new Uint8Array(0)
  return concat(head, junk(Math.max(0, length - head.length))).subarray(0, length)
}

/** First bytes of what scanners and neighbours send. */
const HEADERS: Readonly<Record<string, string>> = {
  "STUN binding request": "0001 0000 2112a442",
  "STUN with attributes": "0001 0058 2112a442 b7e7a701bc34d686fa87dfae",
  "STUN binding success": "0101 000c 2112a442",
  "TURN allocate": "0003 0008 2112a442",
  "TURN channel data": "4000 0010",
  "DTLS client hello": "16 fefd 0000 000000000000 0100 01 0000f4",
  "DTLS alert": "15 fefd 0000 000000000001 0002 0228",
  "QUIC v1 initial": "c3 00000001 08 8394c8f03e515708 00 00 449e",
  "QUIC version negotiation": "80 00000000 08",
  "QUIC grease": "cd 1a2a3a4a 08",
  "QUIC short header": "40 8394c8f03e515708",
  "DNS query": "1234 0100 0001 0000 0000 0000 03777777 07 6578616d706c65 03 636f6d 00 0001 0001",
  "DNS any over large": "abcd 0120 0001 0000 0000 0001 00 00ff 0001 00 0029 1000",
  mDNS: "0000 0000 0001 0000 0000 0000 095f7365727669636573",
  "WireGuard initiation": "01 000000 12345678",
  "WireGuard response": "02 000000 12345678",
  "WireGuard cookie": "03 000000 12345678",
  "WireGuard data": "04 000000 12345678 0000000000000000",
  "OpenVPN hard reset": "38 0102030405060708 00 00000000",
  IKEv2: "0001020304050607 0000000000000000 21 20 22 08 00000000",
  "NTP client": "1b 00 00 00",
  "NTP monlist": "17 00 03 2a",
  SSDP: "4d2d534541524348202a20485454502f312e31",
  SIP: "4f5054494f4e53207369703a",
  SNMP: "302602010104067075626c6963",
  CoAP: "40 01 7d 34",
  memcached: "0000 0000 0001 0000 73746174730d0a",
  RADIUS: "01 00 0014",
  TFTP: "0001 6e6574617363696900",
  RTP: "80 60 1234 00000000",
  BitTorrent: "64313a6164323a696432303a",
  TLS: "16 0301 0200 01 0001fc 0303",
  HTTP: "474554202f20485454502f312e310d0a",
  SSH: "5353482d322e302d"
}

/** A server with a device, a file-like session and traffic, and everything that could change. */
const world = () => {
  const pair = new Pair()
  const { client, server } = pair.connect()
  const sink = new Sink()
  pair.onSession = sink.on
  pair.pass(1000)
  const state = () => ({
    held: [pair.client.held, pair.server.held],
    expected: pair.server.expected,
    events: [pair.events.client.length, pair.events.server.length],
    wire: pair.wire.length,
    timeouts: [pair.client.pollTimeout(), pair.server.pollTimeout()]
  })
  return { pair, client, server, sink, state }
}

describe("Dark: junk", () => {
  it("is answered by nothing, whatever its length and look", () => {
    const { pair, state } = world()
    const before = state()
    let sent = 0
    const probe = (datagram: Uint8Array, remote = STRANGER) => {
      pair.inject("server", remote, datagram)
      pair.inject("client", remote, datagram)
      sent++
    }
    for (let length = 0; length <= 1500; length++) {
      probe(junk(length, length))
      probe(junk(length, 2 * length), CLIENT)
    }
    for (const length of [0, 8, 16, 32, 48, 64, INITIATION_LENGTH, 1472, 65_488, 65_504, 65_507]) {
      probe(junk(length))
      probe(new Uint8Array(length))
      probe(new Uint8Array(length).fill(0xff))
      for (const port of [0, 1, 53, 123, 1900, 65_535]) probe(junk(length, 7), { host: "203.0.113.1", port })
    }
    for (const hex of Object.values(HEADERS)) {
      for (const length of [16, 20, 48, 64, 92, 148, 512, INITIATION_LENGTH, 1252, 1472]) probe(bytes(hex, length))
    }
    assert.isAbove(sent, 3400)
    assert.deepStrictEqual(state(), before)
    const { drops } = pair.server
    assert.strictEqual(drops.unknown, sent)
    assert.deepStrictEqual({ ...drops, unknown: 0 }, { ...new Pair().server.drops })
  })

  it("leaves everything flat over two hundred thousand datagrams while an honest client talks", () => {
    const { pair, client, sink, state } = world()
    const id = pair.command("client", client, (session) => session.openStream(1)) ?? -1
    pair.command("client", client, (session) => session.write(id, Uint8Array.of(0)))
    pair.pass(1000)
    const before = state()
    for (let round = 1; round <= 20; round++) {
      for (let i = 0; i < 10_000; i++) {
        const length = i % 4 === 0 ? INITIATION_LENGTH : 48 + 16 * (i % 70)
        pair.server.handleDatagram(pair.now, STRANGER, junk(length, i * 6 + round))
      }
      assert.deepStrictEqual(state(), { ...state(), held: before.held, expected: before.expected })
      pair.command("client", client, (session) => session.write(id, Uint8Array.of(round)))
      pair.pass(100)
    }
    assert.deepStrictEqual(
      sink.bytes("server", id),
      Uint8Array.from({ length: 21 }, (_, i) => i)
    )
    assert.strictEqual(pair.server.drops.unknown, 200_000)
    assert.deepStrictEqual([pair.client.held, pair.server.held], before.held)
    // And another device process comes in.
    pair.connect()
  })
})

/** A whole life on the wire: handshake, data both ways, a reset, a close. */
const recorded = (enrols: boolean): { readonly pair: Pair; readonly wire: ReadonlyArray<OnWire> } => {
  const pair = new Pair({ enrols })
  const sink = new Sink()
  pair.onSession = sink.on
  const { client, server } = pair.connect()
  const id = pair.command("client", client, (session) => session.openStream(1)) ?? -1
  pair.command("client", client, (session) => session.write(id, junk(5000)))
  pair.pass(200)
  pair.command("server", server, (session) => session.write(id, junk(5000)))
  pair.pass(200)
  pair.command("client", client, (session) => session.resetStream(id, 1))
  pair.pass(200)
  return { pair, wire: [...pair.wire] }
}

describe("Dark: replay", () => {
  for (const enrols of [false, true]) {
    const what = enrols ? "an enrolment" : "a device's session"
    for (const remote of [CLIENT, STRANGER]) {
      const where = remote === CLIENT ? "the same address" : "elsewhere"

      it(`draws nothing by ${what} replayed from ${where} while it lives`, () => {
        const { pair, wire } = recorded(enrols)
        const before = [pair.server.held, pair.server.expected, pair.events.server.length, pair.wire.length]
        for (const { bytes } of wire) pair.inject("server", remote, bytes)
        for (const { bytes } of [...wire].reverse()) pair.inject("server", remote, bytes)
        assert.deepStrictEqual(
          [pair.server.held, pair.server.expected, pair.events.server.length, pair.wire.length],
          before
        )
        assert.isAbove(pair.server.drops.replayed, 10)
        assert.isAbove(pair.server.drops.repeated, 1)
      })

      it(`draws nothing by ${what} replayed from ${where} after its end`, () => {
        const { pair, wire } = recorded(enrols)
        pair.client.closeAll(pair.now, CloseCode.None, "")
        pair.drain()
        pair.pass(20_000)
        const before = [pair.events.server.length, pair.wire.length]
        for (const { bytes } of wire) {
          pair.inject("server", remote, bytes)
          pair.inject("client", SERVER, bytes)
        }
        pair.pass(20_000)
        assert.deepStrictEqual([pair.events.server.length, pair.wire.length], before)
        assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
      })

      it(`draws nothing by ${what} replayed from ${where} to a server that restarted`, () => {
        const { pair, wire } = recorded(enrols)
        const restarted = new Pair({ enrols })
        restarted.restartServer(pair.seen)
        for (const { bytes } of wire) restarted.inject("server", remote, bytes)
        restarted.pass(20_000)
        assert.deepStrictEqual(
          [restarted.wire.length, restarted.events.server.length, restarted.server.held],
          [0, 0, 0]
        )
        assert.strictEqual(restarted.server.drops.repeated, pair.seen.length)
      })
    }

    it(`draws at most one answer by ${what} replayed to a server that forgot, and no session`, () => {
      const { wire } = recorded(enrols)
      const forgot = new Pair({ enrols })
      forgot.restartServer([])
      for (let i = 0; i < 3; i++) for (const { bytes } of wire) forgot.inject("server", STRANGER, bytes)
      assert.isAtMost(forgot.sentBy("server").length, 1)
      forgot.pass(20_000)
      assert.strictEqual(forgot.all("server", "Connected").length, 0)
      assert.strictEqual(forgot.all("server", "Enrolling").length, 0)
      assert.strictEqual(forgot.server.held, 0)
    })
  }

  it("draws nothing by reflection", () => {
    const { pair, wire } = recorded(false)
    const before = [pair.client.held, pair.server.held, pair.wire.length]
    for (const { from, bytes } of wire) pair.inject(from, from === "client" ? SERVER : CLIENT, bytes)
    assert.deepStrictEqual([pair.client.held, pair.server.held, pair.wire.length], before)
  })
})

describe("Dark: every byte flipped", () => {
  const flipped = (datagram: Uint8Array, at: number, mask: number): Uint8Array => {
    const out = Uint8Array.from(datagram)
    out[at] = (out[at] as number) ^ mask
    return out
  }

  it("of an initiation draws nothing, and the true one is answered afterwards", () => {
    const pair = new Pair({ fate: () => [] })
    pair.dial()
    const [initiation] = pair.wire
    if (initiation === undefined) throw new Error("no initiation")
    const before = [pair.server.held, pair.server.expected]
    for (let at = 0; at < initiation.bytes.length; at++) {
      for (const mask of [0x01, 0x80, 0xff]) pair.inject("server", CLIENT, flipped(initiation.bytes, at, mask))
    }
    for (const length of [1199, 1184, 1201, 1216, 600, 16]) {
      pair.inject("server", CLIENT, concat(initiation.bytes, junk(16)).subarray(0, length))
    }
    assert.deepStrictEqual([pair.server.held, pair.server.expected], before)
    assert.deepStrictEqual([pair.sentBy("server").length, pair.events.server.length], [0, 0])
    assert.strictEqual(pair.server.drops.forged, 3 * (1200 - 8))
    assert.strictEqual(pair.server.drops.unknown, 3 * 8 + 6)
    pair.inject("server", CLIENT, initiation.bytes)
    assert.strictEqual(pair.sentBy("server").length, 1)
  })

  it("of an answer draws nothing, and the true one connects afterwards", () => {
    const pair = new Pair({ fate: (from) => (from === "client" ? [10] : []) })
    pair.dial({ timeoutMs: 200 })
    pair.pass(20)
    const [answer] = pair.sentBy("server")
    if (answer === undefined) throw new Error("no answer")
    const before = [pair.client.held, pair.wire.length, pair.events.client.length]
    for (let at = 0; at < answer.bytes.length; at++) {
      for (const mask of [0x01, 0x80, 0xff]) pair.inject("client", SERVER, flipped(answer.bytes, at, mask))
    }
    assert.deepStrictEqual([pair.client.held, pair.wire.length, pair.events.client.length], before)
    assert.strictEqual(pair.client.drops.forged, 3 * (1200 - 8))
    pair.fate = () => [10]
    pair.inject("client", SERVER, answer.bytes)
    assert.isTrue(pair.run(() => pair.event("client", "Connected") !== undefined))
  })

  it("of transport packets draws nothing, and moves nothing", () => {
    const pair = new Pair()
    const sink = new Sink()
    pair.onSession = sink.on
    const { client } = pair.connect()
    pair.pass(1000)
    const id = pair.command("client", client, (session) => session.openStream(1)) ?? -1
    pair.fate = () => []
    const from = pair.wire.length
    pair.command("client", client, (session) => session.write(id, junk(300)))
    const [packet] = pair.sentBy("client", from)
    if (packet === undefined) throw new Error("no packet")
    const events = pair.events.server.length
    const sent = pair.wire.length
    for (let at = 0; at < packet.bytes.length; at++) {
      for (const mask of [0x01, 0x80, 0xff]) {
        for (const remote of [CLIENT, STRANGER]) pair.inject("server", remote, flipped(packet.bytes, at, mask))
      }
    }
    for (let length = 0; length < packet.bytes.length; length += 16) {
      pair.inject("server", STRANGER, packet.bytes.subarray(0, length))
    }
    assert.deepStrictEqual([pair.wire.length, pair.events.server.length], [sent, events])
    pair.inject("server", CLIENT, packet.bytes)
    assert.deepStrictEqual(sink.bytes("server", id), Uint8Array.from(junk(300)))
  })
})
