import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import * as Envelope from "../../src/domain/protocol/Envelope.ts"
import * as Frame from "../../src/domain/protocol/Frame.ts"
import * as HandshakeMessage from "../../src/domain/protocol/HandshakeMessage.ts"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import * as Noise from "../../src/domain/protocol/Noise.ts"
import * as Packet from "../../src/domain/protocol/Packet.ts"
import { primitives as p } from "../../src/layers/CryptoNode.ts"
import * as Foreign from "./Foreign.ts"

const page = Fs.readFileSync(Path.join(import.meta.dirname, "../../docs/PROTOCOL.md"), "utf8")

/** Values of the section by their name; a line without one goes on with the last. */
const values = (() => {
  const section = page.slice(page.indexOf("\n## 22. Worked example\n"))
  const out = new Map<string, string>()
  let last = ""
  for (const line of section.split("\n")) {
    const match = /^ {4}(\w*) +([0-9a-f]{2,})$/.exec(line)
    if (match === null) continue
    last = match[1] || last
    out.set(last, (out.get(last) ?? "") + (match[2] as string))
  }
  return out
})()

const value = (name: string): Uint8Array => {
  const hex = values.get(name)
  if (hex === undefined) throw new Error(`docs/PROTOCOL.md has no ${name}`)
  return Uint8Array.from(Buffer.from(hex, "hex"))
}

const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString("hex")

const same = (actual: Uint8Array | undefined, name: string): void =>
  assert.strictEqual(hex(actual), values.get(name), name)

/** A handshake datagram of which the page shows the beginning, the tag and a hash. */
const sameEnvelope = (datagram: Uint8Array, name: string): void => {
  assert.strictEqual(datagram.length, 1200)
  same(datagram.subarray(0, value(`${name}_start`).length), `${name}_start`)
  same(datagram.subarray(-16), `${name}_tag`)
  same(Crypto.createHash("sha256").update(datagram).digest(), `${name}_sha256`)
}

const WALL = 1_800_000_000_000
const LIMITS: Limits = {
  maxData: 8 * 2 ** 20,
  maxStreamData: 4 * 2 ** 20,
  maxStreams: 64,
  idleTimeoutMs: 120_000,
  maxDatagram: 65_507
}
const LINE = '{"_tag":"Ping"}\n'

const clientFrames = (): ReadonlyArray<Frame.Frame> => [
  { type: "Ping" },
  { type: "Stream", id: 0, offset: 0, data: concat(Uint8Array.of(1), Buffer.from(LINE)), fin: false },
  { type: "Padding", length: 10 }
]
const serverFrames = (): ReadonlyArray<Frame.Frame> => [
  { type: "Ack", ranges: [{ start: 0, end: 0 }], delayUs: 250 },
  { type: "Padding", length: 10 }
]

const initiation = (): HandshakeMessage.Initiation => ({
  wallMs: WALL,
  versionMin: 1,
  versionMax: 1,
  connectionId: value("client_id"),
  connectId: value("connect_id"),
  deviceName: "phone",
  features: 0,
  limits: LIMITS
})

const answer = (): HandshakeMessage.Answer => ({
  version: 1,
  connectionId: value("server_id"),
  observed: { host: "192.0.2.1", port: 40_000 },
  limits: LIMITS,
  enrolment: undefined
})

const pattern = (): Noise.Pattern => {
  const found = Noise.pattern("IKpsk2")
  if (found === undefined) throw new Error("no IKpsk2")
  return found
}

/** Both ends of the handshake, run with this project's code. */
const handshakes = () => {
  const common = { pattern: pattern(), prologue: KeySchedule.prologue(value("credential_id")), psks: [value("psk")] }
  const client = new Noise.Handshake(p, {
    ...common,
    initiator: true,
    local: p.keyPair(value("s_client")),
    remote: value("S_server")
  })
  const server = new Noise.Handshake(p, { ...common, initiator: false, local: p.keyPair(value("s_server")) })
  return { client, server }
}

const direction = (side: "client" | "server") => {
  const secret = value(`${side}_key`)
  const { aead, iv } = KeySchedule.trafficKeys(p, secret)
  const header = KeySchedule.headerKey(p, secret)
  return { aead, iv, header, keys: { packet: p.packetKey(aead), iv }, mask: p.maskKey(header) }
}

const decoded = (plaintext: Uint8Array): ReadonlyArray<Frame.Frame> =>
  (Frame.decode(plaintext) ?? []).map((frame) =>
    frame.type === "Stream" ? { ...frame, data: Uint8Array.from(frame.data) } : { ...frame }
  )

describe("the worked example of docs/PROTOCOL.md", () => {
  it("is there, whole", () => {
    assert.strictEqual(values.size, 53)
  })

  it("initiation", () => {
    same(KeySchedule.hint(p, value("psk"), KeySchedule.slotOf(WALL), 0), "hint")
    const keys = KeySchedule.envelopeKeys(p, value("psk"))
    same(keys.initiation, "K_initiation")
    same(keys.answer, "K_answer")
    for (const [secret, name] of [
      ["s_client", "S_client"],
      ["s_server", "S_server"],
      ["e_client", "E_client"],
      ["e_server", "E_server"]
    ] as const) {
      same(p.keyPair(value(secret)).publicKey, name)
    }
    same(p.dh(value("e_client"), value("S_server")), "dh_es")
    same(p.dh(value("s_client"), value("S_server")), "dh_ss")
    same(HandshakeMessage.encodeInitiation(initiation()), "payload_1")
    assert.deepStrictEqual(HandshakeMessage.decodeInitiation(value("payload_1")), initiation())

    const { client, server } = handshakes()
    same(client.handshakeHash, "h_start")
    const message = client.writeMessage(value("payload_1"), p.keyPair(value("e_client"))) ?? new Uint8Array(0)
    same(message, "message_1")
    same(client.handshakeHash, "h_1")
    same(client.chainingKey, "ck_1")

    const key = p.aeadKey(keys.initiation)
    const datagram = Envelope.sealInitiation(key, value("hint"), value("nonce_1"), message)
    sameEnvelope(datagram, "initiation")
    const opened = Envelope.open(key, "initiation", datagram)
    same(opened?.nonce, "nonce_1")
    same(opened?.message, "message_1")
    same(server.readMessage(value("message_1")), "payload_1")
    same(server.remoteStatic, "S_client")
  })

  it("answer", () => {
    same(p.dh(value("e_server"), value("E_client")), "dh_ee")
    same(p.dh(value("e_server"), value("S_client")), "dh_se")
    same(HandshakeMessage.encodeAnswer(answer()), "payload_2")
    assert.deepStrictEqual(HandshakeMessage.decodeAnswer(value("payload_2")), answer())

    const { client, server } = handshakes()
    client.writeMessage(value("payload_1"), p.keyPair(value("e_client")))
    server.readMessage(value("message_1"))
    const message = server.writeMessage(value("payload_2"), p.keyPair(value("e_server"))) ?? new Uint8Array(0)
    same(message, "message_2")
    const key = p.aeadKey(value("K_answer"))
    const datagram = Envelope.sealAnswer(key, value("client_id"), value("nonce_2"), message)
    sameEnvelope(datagram, "answer")
    same(Envelope.open(key, "answer", datagram)?.message, "message_2")
    same(client.readMessage(value("message_2")), "payload_2")
    for (const end of [client, server]) {
      same(end.handshakeHash, "h_2")
      same(end.chainingKey, "ck_2")
      same(end.split().initiatorKey, "client_key")
      same(end.split().responderKey, "server_key")
    }
  })

  it("transport", () => {
    for (const [side, packetNumber, id, frames] of [
      ["client", 0, "server_id", clientFrames()],
      ["server", 1, "client_id", serverFrames()]
    ] as const) {
      const { aead, iv, header, keys, mask } = direction(side)
      same(aead, `${side}_aead`)
      same(iv, `${side}_iv`)
      same(header, `${side}_header`)
      assert.deepStrictEqual(decoded(value(`${side}_plaintext`)), frames)

      const opener = new Packet.Opener(mask)
      const datagram = value(`${side}_datagram`)
      opener.prepare([{ bytes: datagram }], 0, 1)
      const seen = opener.header(datagram, 0)
      assert.deepStrictEqual([seen?.epochBits, seen?.packetNumber], [0, packetNumber])
      assert.isTrue(opener.open(keys, datagram))
      same(datagram.subarray(16, -16), `${side}_plaintext`)

      const again = concat(new Uint8Array(16), value(`${side}_plaintext`), new Uint8Array(16))
      const sealer = new Packet.Sealer(mask)
      sealer.seal(keys, 0, value(id), packetNumber, again, 0, again.length)
      sealer.mask()
      same(again, `${side}_datagram`)
    }
  })

  it("comes out the same from a second implementation", () => {
    const { bytes, uint, varint } = Foreign
    const psk = value("psk")
    const limits = bytes(...[LIMITS.maxData, LIMITS.maxStreamData, 64, 120_000, 65_507].map(varint))
    const payload1 = bytes(uint(8, WALL), 1, 1, value("client_id"), value("connect_id"), 5, "phone", uint(4, 0), limits)
    const payload2 = bytes(1, value("server_id"), 4, 192, 0, 2, 1, uint(2, 40_000), limits, 0)
    same(payload1, "payload_1")
    same(payload2, "payload_2")
    same(Foreign.hint(psk, Math.floor(WALL / 300_000), 0), "hint")

    const noise = new Foreign.Noise(bytes("clawchat/1", value("credential_id")), Foreign.publicKey(value("s_server")))
    const one = bytes(noise.ephemeral(Foreign.publicKey(value("e_client"))))
    noise.mixKey(Foreign.dh(value("e_client"), value("S_server")))
    const sealedStatic = noise.seal(Foreign.publicKey(value("s_client")))
    noise.mixKey(Foreign.dh(value("s_client"), value("S_server")))
    const message1 = bytes(one, sealedStatic, noise.seal(payload1))
    sameEnvelope(Foreign.sealEnvelope(psk, "initiation", value("hint"), value("nonce_1"), message1), "initiation")

    // The client's side of message 2.
    const two = value("message_2")
    noise.ephemeral(two.subarray(0, 32))
    noise.mixKey(Foreign.dh(value("e_client"), two.subarray(0, 32)))
    noise.mixKey(Foreign.dh(value("s_client"), two.subarray(0, 32)))
    noise.psk(psk)
    same(noise.open(two.subarray(32)), "payload_2")
    sameEnvelope(Foreign.sealEnvelope(psk, "answer", value("client_id"), value("nonce_2"), two), "answer")

    const keys = noise.split()
    const client = Foreign.trafficKeys(keys.initiator)
    const server = Foreign.trafficKeys(keys.responder)
    const stream = bytes(1, LINE)
    const text = Foreign.padded(bytes(1, 8, varint(0), varint(0), varint(stream.length), stream))
    same(Foreign.nonceOf(client, 0), "client_nonce")
    same(Foreign.maskOf(client, value("client_datagram").subarray(16)), "client_mask")
    same(Foreign.sealPacket(client, value("server_id"), 0, text), "client_datagram")
    same(Foreign.nonceOf(server, 1), "server_nonce")
    same(Foreign.maskOf(server, value("server_datagram").subarray(16)), "server_mask")
    const { packetNumber, plaintext } = Foreign.openPacket(server, value("server_datagram"))
    assert.strictEqual(packetNumber, 1)
    same(plaintext, "server_plaintext")
    same(Foreign.padded(bytes(2, varint(0), varint(250), varint(0), varint(0))), "server_plaintext")
  })
})
