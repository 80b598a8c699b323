/** CPU time of packets and handshakes, beside the calls of node:crypto that no implementation can do without. */
import * as crypto from "node:crypto"
import {
  CONNECTION_ID_LENGTH,
  MAX_BURST_DATAGRAMS,
  MAX_DATAGRAM_LENGTH,
  PACKET_HEADER_LENGTH
} from "../src/domain/protocol/Constants.ts"
import * as Envelope from "../src/domain/protocol/Envelope.ts"
import * as HandshakeMessage from "../src/domain/protocol/HandshakeMessage.ts"
import * as KeySchedule from "../src/domain/protocol/KeySchedule.ts"
import type { Limits } from "../src/domain/protocol/Limits.ts"
import * as Noise from "../src/domain/protocol/Noise.ts"
import * as Packet from "../src/domain/protocol/Packet.ts"
import { KEY_LENGTH, NONCE_LENGTH, type Primitives, TAG_LENGTH } from "../src/domain/protocol/Primitives.ts"
import { entropy, primitives } from "../src/layers/CryptoNode.ts"
import * as CryptoOpenSsl from "../src/layers/CryptoOpenSsl.ts"
import { alternate, type Bench, cpuMicros, type Figure } from "./Harness.ts"
import * as Peers from "./Peers.ts"

const ROUNDS = 11
const PACKETS = 100 * MAX_BURST_DATAGRAMS
const HANDSHAKES = 100

/** Of datagrams on an Ethernet path, in jumbo frames over a fast LAN, and on loopback. */
const LENGTHS = [1440, 16_384, 65_008]

/** With packets by OpenSSL where that can be had. */
const fastest = CryptoOpenSsl.available() ? CryptoOpenSsl.primitives : primitives

/** Whole packets with headers, nonces and masks, in bursts as the transport makes them. */
const packets = async (): Promise<ReadonlyArray<Figure>> => {
  const secret = entropy(32)
  const headerKey = entropy(32)
  const keys = { packet: fastest.packetKey(secret), iv: entropy(NONCE_LENGTH) }
  const id = entropy(CONNECTION_ID_LENGTH)
  const memory = entropy(PACKETS * MAX_DATAGRAM_LENGTH)
  const datagrams = Array.from({ length: PACKETS }, (_, i) => ({
    bytes: memory.subarray(i * MAX_DATAGRAM_LENGTH, (i + 1) * MAX_DATAGRAM_LENGTH)
  }))
  const sealAll = (): number => {
    const sealer = new Packet.Sealer(fastest.maskKey(headerKey))
    return cpuMicros(PACKETS, (i) => {
      sealer.seal(keys, 0, id, i, memory, i * MAX_DATAGRAM_LENGTH, (i + 1) * MAX_DATAGRAM_LENGTH)
      if (i % MAX_BURST_DATAGRAMS === MAX_BURST_DATAGRAMS - 1) sealer.mask()
    })
  }
  const openAll = (): number => {
    sealAll()
    const opener = new Packet.Opener(fastest.maskKey(headerKey))
    return cpuMicros(PACKETS, (i) => {
      const index = i % MAX_BURST_DATAGRAMS
      if (index === 0) opener.prepare(datagrams, i, i + MAX_BURST_DATAGRAMS)
      const { bytes } = datagrams[i] as (typeof datagrams)[number]
      if (opener.header(bytes, index) === undefined || !opener.open(keys, bytes))
        throw new Error("a packet did not open")
    })
  }

  const key = crypto.createSecretKey(secret)
  const nonce = entropy(NONCE_LENGTH)
  const aad = entropy(PACKET_HEADER_LENGTH)
  const plaintext = entropy(MAX_DATAGRAM_LENGTH - Packet.OVERHEAD)
  const options = { authTagLength: TAG_LENGTH }
  const bareSeal = (): { readonly sealed: Buffer; readonly tag: Buffer } => {
    const cipher = crypto.createCipheriv("aes-256-gcm", key, nonce, options)
    cipher.setAAD(aad)
    const sealed = cipher.update(plaintext)
    cipher.final()
    return { sealed, tag: cipher.getAuthTag() }
  }
  const bareSealed = Array.from({ length: PACKETS }, bareSeal)
  const bareOpen = (index: number): void => {
    const { sealed, tag } = bareSealed[index] as ReturnType<typeof bareSeal>
    const decipher = crypto.createDecipheriv("aes-256-gcm", key, nonce, options)
    decipher.setAAD(aad)
    decipher.setAuthTag(tag)
    decipher.update(sealed)
    decipher.final()
  }
  const taken = await alternate(ROUNDS, {
    seal: sealAll,
    bareSeal: () => cpuMicros(PACKETS, bareSeal),
    open: openAll,
    bareOpen: () => cpuMicros(PACKETS, bareOpen)
  })
  return [
    { what: "seal 1200 bytes", unit: "us CPU", ours: taken.seal, beside: { "node:crypto": taken.bareSeal } },
    { what: "open 1200 bytes", unit: "us CPU", ours: taken.open, beside: { "node:crypto": taken.bareOpen } }
  ]
}

/** The cipher alone: one packet sealed and opened where it lies. */
const lengths = async (): Promise<ReadonlyArray<Figure>> => {
  const figures: Array<Figure> = []
  for (const length of LENGTHS) {
    const nonce = entropy(NONCE_LENGTH)
    const buffer = entropy(length)
    const count = Math.ceil(20_000_000 / (length + 6000))
    const both = ({ packetKey }: Primitives): (() => number) => {
      const key = packetKey(entropy(KEY_LENGTH))
      return () =>
        cpuMicros(count, () => {
          key.seal(nonce, buffer, 0, length)
          if (!key.open(nonce, buffer, 0, length)) throw new Error("a packet did not open")
        })
    }
    const taken = await alternate(ROUNDS, { ours: both(fastest), node: both(primitives) })
    const what = `seal and open ${length} bytes, cipher only`
    figures.push({ what, unit: "us CPU", ours: taken.ours, beside: { "node:crypto": taken.node } })
  }
  return figures
}

const LIMITS: Limits = {
  maxData: 8_388_608,
  maxStreamData: 4_194_304,
  maxStreams: 64,
  idleTimeoutMs: 60_000,
  maxDatagram: 65_507
}

const initiationOf = (connectionId: Uint8Array): Uint8Array =>
  HandshakeMessage.encodeInitiation({
    wallMs: 1_800_000_000_000,
    versionMin: 1,
    versionMax: 1,
    connectionId,
    connectId: connectionId,
    deviceName: "bench",
    features: 0,
    limits: LIMITS
  })

const answerOf = (connectionId: Uint8Array): Uint8Array =>
  HandshakeMessage.encodeAnswer({
    version: 1,
    connectionId,
    observed: { host: "192.0.2.1", port: 40_000 },
    limits: LIMITS,
    enrolment: undefined
  })

/** Both sides of one handshake from key derivation to traffic keys; answers microseconds of wall time of each. */
const handshake = (device: Peers.Device): { readonly client: number; readonly server: number } => {
  const pattern = Noise.pattern("IKpsk2")
  if (pattern === undefined) throw new Error("no pattern IKpsk2")
  const spent = { client: 0, server: 0 }
  const timed = <A>(side: "client" | "server", run: () => A): A => {
    const start = performance.now()
    const out = run()
    spent[side] += (performance.now() - start) * 1000
    return out
  }
  const common = { pattern, prologue: KeySchedule.prologue(device.id), psks: [device.psk] }
  const envelopes = () => {
    const keys = KeySchedule.envelopeKeys(primitives, device.psk)
    return { initiation: primitives.aeadKey(keys.initiation), answer: primitives.aeadKey(keys.answer) }
  }
  // A server holds these keys ready; a client derives them when it dials.
  const serverEnvelope = envelopes()
  const id = entropy(CONNECTION_ID_LENGTH)

  const dialled = timed("client", () => {
    const remote = Peers.serverKeys.publicKey
    const noise = new Noise.Handshake(primitives, { ...common, initiator: true, local: device.keys, remote })
    const envelope = envelopes()
    const message = noise.writeMessage(initiationOf(id), primitives.keyPair(entropy(32)))
    const hint = KeySchedule.hint(primitives, device.psk, 1, 0)
    const datagram = Envelope.sealInitiation(envelope.initiation, hint, entropy(NONCE_LENGTH), must(message))
    return { noise, envelope, datagram }
  })
  const answered = timed("server", () => {
    const opened = must(Envelope.open(serverEnvelope.initiation, "initiation", dialled.datagram))
    const noise = new Noise.Handshake(primitives, { ...common, initiator: false, local: Peers.serverKeys })
    must(HandshakeMessage.decodeInitiation(must(noise.readMessage(opened.message))))
    const message = must(noise.writeMessage(answerOf(id), primitives.keyPair(entropy(32))))
    noise.split()
    return Envelope.sealAnswer(serverEnvelope.answer, id, entropy(NONCE_LENGTH), message)
  })
  timed("client", () => {
    const opened = must(Envelope.open(dialled.envelope.answer, "answer", answered))
    must(HandshakeMessage.decodeAnswer(must(dialled.noise.readMessage(opened.message))))
    return dialled.noise.split()
  })
  return spent
}

const must = <A>(value: A | undefined): A => {
  if (value === undefined) throw new Error("a handshake failed")
  return value
}

/** Each side of IKpsk2 makes one ephemeral key and four shared secrets. */
const bareHandshake = (): (() => void) => {
  const own = crypto.generateKeyPairSync("x25519")
  const other = crypto.generateKeyPairSync("x25519")
  return () => {
    const { privateKey } = crypto.generateKeyPairSync("x25519")
    for (let i = 0; i < 2; i++) {
      crypto.diffieHellman({ privateKey, publicKey: other.publicKey })
      crypto.diffieHellman({ privateKey: own.privateKey, publicKey: other.publicKey })
    }
  }
}

const handshakes = async (): Promise<ReadonlyArray<Figure>> => {
  const device = Peers.device(0)
  const bare = bareHandshake()
  const side = (which: "client" | "server") => (): number => {
    let sum = 0
    for (let i = 0; i < HANDSHAKES; i++) sum += handshake(device)[which]
    return sum / HANDSHAKES / 1000
  }
  const taken = await alternate(ROUNDS, {
    client: side("client"),
    server: side("server"),
    bare: () => cpuMicros(HANDSHAKES, bare) / 1000
  })
  const beside = { "node:crypto": taken.bare }
  return [
    { what: "handshake, client's side", unit: "ms", ours: taken.client, beside },
    { what: "handshake, server's side", unit: "ms", ours: taken.server, beside }
  ]
}

export const bench: Bench = {
  name: "crypto",
  measure: async () => ({
    figures: [...(await packets()), ...(await lengths()), ...(await handshakes())],
    notes: CryptoOpenSsl.available() ? [] : ["packets are node:crypto's: koffi or OpenSSL's symbols are not here"]
  })
}
