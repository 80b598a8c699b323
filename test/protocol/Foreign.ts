/**
 * The other team: what docs/PROTOCOL.md says, written down a second time from its text, with nothing of this project's code
 * and nothing but node:crypto beneath. Slow and obvious. Comments name the section followed.
 */
import * as Crypto from "node:crypto"

export type Bytes = Uint8Array

export const bytes = (...parts: ReadonlyArray<Bytes | string | number>): Bytes =>
  Uint8Array.from(
    parts.flatMap((part) =>
      typeof part === "number" ? [part] : typeof part === "string" ? [...Buffer.from(part)] : [...part]
    )
  )

export const uint = (length: number, value: number): Bytes => {
  const out = new Uint8Array(length)
  for (let i = length - 1, rest = value; i >= 0; i--, rest = Math.floor(rest / 256)) out[i] = rest % 256
  return out
}

/** Section 1: `v`, in its shortest form. */
export const varint = (value: number): Bytes => {
  const size = value < 2 ** 6 ? 0 : value < 2 ** 14 ? 1 : value < 2 ** 30 ? 2 : 3
  const out = uint(2 ** size, value)
  out[0] = (out[0] as number) | (size << 6)
  return out
}

const EMPTY = bytes()

export const hkdf = (salt: Bytes, ikm: Bytes, info: Bytes | string, length: number): Bytes =>
  new Uint8Array(Crypto.hkdfSync("sha256", ikm, salt, bytes(info), length))

const sha256 = (data: Bytes): Bytes => new Uint8Array(Crypto.createHash("sha256").update(data).digest())

const der = (kind: string, key: Bytes): Buffer => Buffer.concat([Buffer.from(kind, "hex"), key])
const privateOf = (key: Bytes) =>
  Crypto.createPrivateKey({ key: der("302e020100300506032b656e04220420", key), format: "der", type: "pkcs8" })
const publicOf = (key: Bytes) =>
  Crypto.createPublicKey({ key: der("302a300506032b656e032100", key), format: "der", type: "spki" })

export const publicKey = (privateKey: Bytes): Bytes =>
  new Uint8Array(Crypto.createPublicKey(privateOf(privateKey)).export({ format: "der", type: "spki" }).subarray(12))

export const dh = (privateKey: Bytes, peer: Bytes): Bytes =>
  new Uint8Array(Crypto.diffieHellman({ privateKey: privateOf(privateKey), publicKey: publicOf(peer) }))

export const seal = (key: Bytes, nonce: Bytes, aad: Bytes, text: Bytes): Bytes => {
  const cipher = Crypto.createCipheriv("aes-256-gcm", key, nonce, { authTagLength: 16 }).setAAD(aad)
  return bytes(cipher.update(text), cipher.final(), cipher.getAuthTag())
}

export const open = (key: Bytes, nonce: Bytes, aad: Bytes, sealed: Bytes): Bytes => {
  const decipher = Crypto.createDecipheriv("aes-256-gcm", key, nonce, { authTagLength: 16 }).setAAD(aad)
  decipher.setAuthTag(sealed.subarray(-16))
  return bytes(decipher.update(sealed.subarray(0, -16)), decipher.final())
}

/** Section 7. */
export const hint = (psk: Bytes, slot: number, j: number): Bytes =>
  hkdf(EMPTY, psk, bytes("clawchat/1 hint", uint(8, slot), uint(2, j)), 8)

export type Direction = "initiation" | "answer"

export const envelopeKey = (psk: Bytes, direction: Direction): Bytes =>
  hkdf(EMPTY, psk, `clawchat/1 envelope ${direction}`, 32)

const envelopeAad = (id: Bytes, direction: Direction): Bytes =>
  bytes(id, direction === "initiation" ? 1 : 2, "clawchat/1")

/** Section 6. */
export const sealEnvelope = (psk: Bytes, direction: Direction, id: Bytes, nonce: Bytes, message: Bytes): Bytes => {
  const text = bytes(uint(2, message.length), message, new Uint8Array(1162 - message.length))
  return bytes(id, nonce, seal(envelopeKey(psk, direction), nonce, envelopeAad(id, direction), text))
}

export const openEnvelope = (psk: Bytes, direction: Direction, datagram: Bytes): Bytes => {
  const id = datagram.subarray(0, 8)
  const key = envelopeKey(psk, direction)
  const text = open(key, datagram.subarray(8, 20), envelopeAad(id, direction), datagram.subarray(20))
  return text.subarray(2, 2 + (text[0] as number) * 256 + (text[1] as number))
}

/** Section 8: the symmetric state of Noise (revision 34, section 5.2). */
export class Noise {
  hash: Bytes
  chainingKey: Bytes
  #key: Bytes = EMPTY
  #counter = 0

  constructor(prologue: Bytes, responder: Bytes) {
    // The protocol's name has exactly 32 bytes, so it is the first hash.
    this.hash = bytes("Noise_IKpsk2_25519_AESGCM_SHA256")
    this.chainingKey = this.hash
    this.mixHash(prologue)
    this.mixHash(responder)
  }

  mixHash(data: Bytes): void {
    this.hash = sha256(bytes(this.hash, data))
  }

  mixKey(material: Bytes): void {
    const out = hkdf(this.chainingKey, material, EMPTY, 64)
    this.chainingKey = out.subarray(0, 32)
    this.#key = out.subarray(32)
    this.#counter = 0
  }

  /** An ephemeral public key: hashed and, because the pattern has a psk, mixed into the key. */
  ephemeral(key: Bytes): Bytes {
    this.mixHash(key)
    this.mixKey(key)
    return key
  }

  psk(psk: Bytes): void {
    const out = hkdf(this.chainingKey, psk, EMPTY, 96)
    this.chainingKey = out.subarray(0, 32)
    this.mixHash(out.subarray(32, 64))
    this.#key = out.subarray(64)
    this.#counter = 0
  }

  seal(text: Bytes): Bytes {
    const sealed = seal(this.#key, bytes(uint(4, 0), uint(8, this.#counter++)), this.hash, text)
    this.mixHash(sealed)
    return sealed
  }

  open(sealed: Bytes): Bytes {
    const text = open(this.#key, bytes(uint(4, 0), uint(8, this.#counter++)), this.hash, sealed)
    this.mixHash(sealed)
    return text
  }

  split(): { readonly initiator: Bytes; readonly responder: Bytes } {
    const out = hkdf(this.chainingKey, EMPTY, EMPTY, 64)
    return { initiator: out.subarray(0, 32), responder: out.subarray(32) }
  }
}

export interface Keys {
  readonly aead: Bytes
  readonly iv: Bytes
  readonly header: Bytes
}

/** Section 10. */
export const trafficKeys = (key: Bytes): Keys => ({
  aead: hkdf(EMPTY, key, "clawchat/1 aead", 32),
  iv: hkdf(EMPTY, key, "clawchat/1 iv", 12),
  header: hkdf(EMPTY, key, "clawchat/1 header", 32)
})

const xor = (a: Bytes, b: Bytes): Bytes => a.map((byte, i) => byte ^ (b[i] as number))

export const maskOf = (keys: Keys, ciphertext: Bytes): Bytes => {
  const cipher = Crypto.createCipheriv("aes-256-ecb", keys.header, null).setAutoPadding(false)
  return new Uint8Array(cipher.update(ciphertext.subarray(0, 16))).subarray(0, 8)
}

export const nonceOf = (keys: Keys, packetNumber: number): Bytes =>
  xor(keys.iv, bytes(uint(4, 0), uint(8, packetNumber)))

/** Zeros to the next multiple of 16: PADDING frames. */
export const padded = (frames: Bytes): Bytes => bytes(frames, new Uint8Array((16 - (frames.length % 16)) % 16))

/** Section 14, epoch 0. */
export const sealPacket = (keys: Keys, id: Bytes, packetNumber: number, plaintext: Bytes): Bytes => {
  const header = uint(8, packetNumber)
  const sealed = seal(keys.aead, nonceOf(keys, packetNumber), bytes(id, header), plaintext)
  return bytes(id, xor(header, maskOf(keys, sealed)), sealed)
}

export const openPacket = (
  keys: Keys,
  datagram: Bytes
): { readonly packetNumber: number; readonly plaintext: Bytes } => {
  const sealed = datagram.subarray(16)
  const header = xor(datagram.subarray(8, 16), maskOf(keys, sealed))
  const packetNumber = Number(Buffer.from(header).readBigUInt64BE())
  const aad = bytes(datagram.subarray(0, 8), header)
  return { packetNumber, plaintext: open(keys.aead, nonceOf(keys, packetNumber), aad, sealed) }
}

/** Reads along a message. */
export class Input {
  readonly #data: Bytes
  #at = 0

  constructor(data: Bytes) {
    this.#data = data
  }

  get left(): number {
    return this.#data.length - this.#at
  }

  take(length: number): Bytes {
    if (length > this.left) throw new Error(`${length} bytes wanted, ${this.left} left`)
    this.#at += length
    return this.#data.slice(this.#at - length, this.#at)
  }

  uint(length: number): number {
    return this.take(length).reduce((sum, byte) => sum * 256 + byte, 0)
  }

  varint(): number {
    const first = this.uint(1)
    return this.take(2 ** (first >> 6) - 1).reduce((sum, byte) => sum * 256 + byte, first & 0x3f)
  }
}

export type Seen =
  | { readonly type: "ping" }
  | {
      readonly type: "ack"
      readonly received: ReadonlyArray<readonly [from: number, to: number]>
      readonly delayUs: number
    }
  | {
      readonly type: "stream"
      readonly id: number
      readonly offset: number
      readonly data: Bytes
      readonly fin: boolean
    }
  | { readonly type: "close"; readonly code: number; readonly reason: string }
  | { readonly type: "other"; readonly number: number; readonly fields: ReadonlyArray<number> }

/** Section 15. */
export const frames = (plaintext: Bytes): ReadonlyArray<Seen> => {
  const input = new Input(plaintext)
  const out: Array<Seen> = []
  while (input.left > 0) {
    const number = input.uint(1)
    if (number === 0x00) continue
    if (number === 0x01) out.push({ type: "ping" })
    else if (number === 0x02) {
      let end = input.varint()
      const delayUs = input.varint()
      const more = input.varint()
      let start = end - input.varint()
      const received: Array<readonly [number, number]> = [[start, end]]
      for (let i = 0; i < more; i++) {
        end = start - input.varint() - 2
        start = end - input.varint()
        received.push([start, end])
      }
      out.push({ type: "ack", received, delayUs })
    } else if (number === 0x08 || number === 0x09) {
      const id = input.varint()
      const offset = input.varint()
      out.push({ type: "stream", id, offset, data: input.take(input.varint()), fin: number === 0x09 })
    } else if (number === 0x26) {
      const code = input.varint()
      out.push({ type: "close", code, reason: Buffer.from(input.take(input.varint())).toString() })
    } else {
      const fields = { 4: 3, 5: 2, 16: 1, 17: 2, 18: 1, 24: 0, 25: 0, 26: 2, 27: 1 }[number]
      if (fields === undefined) throw new Error(`frame 0x${number.toString(16)}`)
      out.push({ type: "other", number, fields: Array.from({ length: fields }, () => input.varint()) })
      // A token, or a connection id.
      if (number >= 24 && number <= 26) input.take(8)
    }
  }
  return out
}

export interface Credential {
  readonly id: Bytes
  readonly psk: Bytes
  /** A device's is the time of day in units of 5 minutes, a file's its valid_from. */
  readonly slot: number
}

/** A client for one session, without retransmission: enough to be understood. */
export class Client {
  readonly received: Array<number> = []
  portSeed: Bytes | undefined
  llmKey: Bytes | undefined
  observed = ""
  readonly #credential: Credential
  readonly #static: Bytes
  readonly #server: Bytes
  readonly #random: (length: number) => Bytes
  readonly #id: Bytes
  #noise: Noise | undefined
  #ephemeral: Bytes = EMPTY
  #serverId: Bytes = EMPTY
  #send: Keys | undefined
  #receive: Keys | undefined
  #next = 0

  constructor(credential: Credential, staticKey: Bytes, server: Bytes, random: (length: number) => Bytes) {
    this.#credential = credential
    this.#static = staticKey
    this.#server = server
    this.#random = random
    this.#id = random(8)
  }

  /** Sections 6 to 9. */
  initiation(wall: number, j: number): Bytes {
    const { id, psk, slot } = this.#credential
    const limits = bytes(...[2 ** 20, 2 ** 18, 8, 60_000, 1200].map(varint))
    const payload = bytes(uint(8, wall), 1, 1, this.#id, this.#random(8), 7, "foreign", uint(4, 0), limits)
    const noise = new Noise(bytes("clawchat/1", id), this.#server)
    this.#noise = noise
    this.#ephemeral = this.#random(32)
    const e = noise.ephemeral(publicKey(this.#ephemeral))
    noise.mixKey(dh(this.#ephemeral, this.#server))
    const s = noise.seal(publicKey(this.#static))
    noise.mixKey(dh(this.#static, this.#server))
    return sealEnvelope(psk, "initiation", hint(psk, slot, j), this.#random(12), bytes(e, s, noise.seal(payload)))
  }

  answer(datagram: Bytes): void {
    const { psk } = this.#credential
    const noise = this.#noise
    if (noise === undefined) throw new Error("an answer to nothing")
    if (Buffer.compare(datagram.subarray(0, 8), this.#id) !== 0) throw new Error("not ours")
    const message = openEnvelope(psk, "answer", datagram)
    const e = noise.ephemeral(message.subarray(0, 32))
    noise.mixKey(dh(this.#ephemeral, e))
    noise.mixKey(dh(this.#static, e))
    noise.psk(psk)
    const input = new Input(noise.open(message.subarray(32)))
    if (input.uint(1) !== 1) throw new Error("another version")
    this.#serverId = input.take(8)
    const host = input.take(input.uint(1) === 4 ? 4 : 16)
    this.observed = `${host.join(".")}:${input.uint(2)}`
    for (let i = 0; i < 5; i++) input.varint()
    const content = input.uint(1)
    if (content & 1) this.portSeed = input.take(32)
    if (content & 2) this.llmKey = input.take(32)
    const keys = noise.split()
    this.#send = trafficKeys(keys.initiator)
    this.#receive = trafficKeys(keys.responder)
  }

  packet(...content: ReadonlyArray<Bytes>): Bytes {
    if (this.#send === undefined) throw new Error("no keys yet")
    return sealPacket(this.#send, this.#serverId, this.#next++, padded(bytes(...content)))
  }

  open(datagram: Bytes): ReadonlyArray<Seen> {
    if (this.#receive === undefined) throw new Error("no keys yet")
    const { packetNumber, plaintext } = openPacket(this.#receive, datagram)
    this.received.push(packetNumber)
    return frames(plaintext)
  }

  /** Everything up to the largest number received, which must be without a gap. */
  ack(): Bytes {
    const largest = Math.max(...this.received)
    return bytes(2, varint(largest), varint(0), varint(0), varint(largest))
  }
}

export const ping = (): Bytes => bytes(1)

export const stream = (id: number, offset: number, data: Bytes | string, fin: boolean): Bytes =>
  bytes(fin ? 9 : 8, varint(id), varint(offset), varint(bytes(data).length), data)

export const close = (code: number, reason: string): Bytes => bytes(0x26, varint(code), varint(reason.length), reason)
