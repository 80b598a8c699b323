/**
 * STUN messages (RFC 8489), with the attributes of behaviour discovery (RFC 5780) and generic ones for TURN (RFC 8656).
 *
 * All numbers are big-endian; an attribute's value is padded to 4 bytes, with zeros when we write it and with anything
 * when we read it. Reading keeps views into the caller's datagram and copies nothing; writing makes one buffer of its
 * own. HMAC and MD5 arrive as `StunPrimitives`; transaction ids arrive from outside. No sockets, no retransmission.
 */
import type { Address } from "./Address.ts"
import { formatHost, parseHost } from "./AddressCodec.ts"
import { Reader, text as textOf, utf8, Writer } from "./Cursor.ts"

/** Bytes of the header: type, length, magic cookie, transaction id. */
export const HEADER_LENGTH = 20
export const MAGIC_COOKIE = 0x2112a442
export const TRANSACTION_ID_LENGTH = 12
/** Bytes: a message that we write is no longer, whatever is put into it; a larger one is the caller's bug. */
export const MAX_MESSAGE_LENGTH = 2048
/** Attributes of one message that we read. */
const MAX_ATTRIBUTES = 64
const FINGERPRINT_XOR = 0x5354554e

/** HMAC-SHA1 and MD5 are what RFC 8489 (sections 9.2.2, 14.5) still builds on; nothing else of ours uses them. */
export interface StunPrimitives {
  /** HMAC-SHA1 of the parts, one after the other: 20 bytes. */
  readonly hmacSha1: (key: Uint8Array, ...parts: ReadonlyArray<Uint8Array>) => Uint8Array
  /** HMAC-SHA256 of the parts: 32 bytes. */
  readonly hmacSha256: (key: Uint8Array, ...parts: ReadonlyArray<Uint8Array>) => Uint8Array
  readonly md5: (...parts: ReadonlyArray<Uint8Array>) => Uint8Array
  readonly sha256: (...parts: ReadonlyArray<Uint8Array>) => Uint8Array
  /** Constant-time comparison; false for different lengths. */
  readonly equal: (a: Uint8Array, b: Uint8Array) => boolean
}

export type Class = "request" | "indication" | "success" | "error"
const CLASSES: ReadonlyArray<Class> = ["request", "indication", "success", "error"]

/** Methods, RFC 8489 section 18.2 and RFC 8656 section 17. */
export const Method = {
  binding: 0x001,
  allocate: 0x003,
  refresh: 0x004,
  send: 0x006,
  data: 0x007,
  createPermission: 0x008,
  channelBind: 0x009
} as const

/** Attribute types, RFC 8489 section 18.3, RFC 5780 section 7, RFC 8656 section 18. From 0x8000 on they may be ignored. */
export const Attribute = {
  mappedAddress: 0x0001,
  changeRequest: 0x0003,
  username: 0x0006,
  messageIntegrity: 0x0008,
  errorCode: 0x0009,
  unknownAttributes: 0x000a,
  channelNumber: 0x000c,
  lifetime: 0x000d,
  xorPeerAddress: 0x0012,
  data: 0x0013,
  realm: 0x0014,
  nonce: 0x0015,
  xorRelayedAddress: 0x0016,
  requestedAddressFamily: 0x0017,
  evenPort: 0x0018,
  requestedTransport: 0x0019,
  dontFragment: 0x001a,
  messageIntegritySha256: 0x001c,
  passwordAlgorithm: 0x001d,
  userhash: 0x001e,
  xorMappedAddress: 0x0020,
  reservationToken: 0x0022,
  padding: 0x0026,
  responsePort: 0x0027,
  additionalAddressFamily: 0x8000,
  addressErrorCode: 0x8001,
  passwordAlgorithms: 0x8002,
  alternateDomain: 0x8003,
  icmp: 0x8004,
  software: 0x8022,
  alternateServer: 0x8023,
  fingerprint: 0x8028,
  responseOrigin: 0x802b,
  otherAddress: 0x802c
} as const

/** An attribute where it lies in the datagram: its value is `length` bytes from `offset`, without padding. */
export interface Field {
  readonly type: number
  readonly offset: number
  readonly length: number
}

/** A message as it was read. `bytes` is the whole datagram and belongs to whoever gave it. */
export interface Message {
  readonly class: Class
  readonly method: number
  /** A view into `bytes`. */
  readonly transactionId: Uint8Array
  /** In their order, without those behind an integrity attribute that none protects (RFC 8489 section 14.5). */
  readonly fields: ReadonlyArray<Field>
  readonly bytes: Uint8Array
}

/** Whether a datagram begins as STUN does; cheap, for telling it from others. */
export const looksLikeStun = (bytes: Uint8Array): boolean =>
  bytes.length >= HEADER_LENGTH &&
  (bytes[0] as number) < 0x40 &&
  bytes[4] === 0x21 &&
  bytes[5] === 0x12 &&
  bytes[6] === 0xa4 &&
  bytes[7] === 0x42

/** Reads a datagram that is one whole STUN message with a magic cookie, and a true FINGERPRINT if it has one. */
export const decode = (bytes: Uint8Array): Message | undefined => {
  if (!looksLikeStun(bytes) || bytes.length % 4 !== 0) return undefined
  const reader = new Reader(bytes)
  const type = reader.u16()
  if (reader.u16() !== bytes.length - HEADER_LENGTH) return undefined
  const fields: Array<Field> = []
  reader.view(4)
  const transactionId = reader.view(TRANSACTION_ID_LENGTH)
  let sealedBy = 0
  let seen = 0
  while (reader.remaining > 0) {
    if (++seen > MAX_ATTRIBUTES) return undefined
    const at = reader.offset
    const attribute = reader.u16()
    const length = reader.u16()
    const offset = reader.offset
    reader.view((length + 3) & ~3)
    if (reader.failed) return undefined
    if (attribute === Attribute.fingerprint) {
      // It is the last one, or it is wrong (section 14.7).
      if (length !== 4 || !reader.done || new Reader(bytes, offset).u32() !== fingerprint(bytes, at)) return undefined
    } else if (sealedBy === Attribute.messageIntegritySha256) continue
    else if (sealedBy !== 0 && attribute !== Attribute.messageIntegritySha256) continue
    if (attribute === Attribute.messageIntegrity || attribute === Attribute.messageIntegritySha256) sealedBy = attribute
    fields.push({ type: attribute, offset, length })
  }
  // RFC 8489 section 5: the class's two bits stand between the method's.
  const bits = ((type >> 4) & 1) | ((type >> 7) & 2)
  const method = (type & 0xf) | ((type >> 1) & 0x70) | ((type >> 2) & 0xf80)
  return { class: CLASSES[bits] as Class, method, transactionId, fields, bytes }
}

// -- attributes of a message ----------------------------------------------------------------------------------------

/** The first attribute of a type; later ones do not count (RFC 8489 section 14). */
export const field = (message: Message, type: number): Field | undefined =>
  message.fields.find((one) => one.type === type)

export const has = (message: Message, type: number): boolean => field(message, type) !== undefined

/** The value of the first attribute of a type: a view. */
export const value = (message: Message, type: number): Uint8Array | undefined => {
  const found = field(message, type)
  return found === undefined ? undefined : viewOf(message, found)
}

/** The values of all attributes of a type, in order: views. XOR-PEER-ADDRESS may recur. */
export const values = (message: Message, type: number): ReadonlyArray<Uint8Array> =>
  message.fields.filter((one) => one.type === type).map((one) => viewOf(message, one))

const viewOf = (message: Message, { length, offset }: Field): Uint8Array =>
  message.bytes.subarray(offset, offset + length)

/** A value as UTF-8; `undefined` when it is none. */
export const text = (message: Message, type: number): string | undefined => {
  const bytes = value(message, type)
  return bytes === undefined ? undefined : textOf(bytes)
}

/** A value of exactly four bytes as a number: LIFETIME, CHANGE-REQUEST. */
export const u32 = (message: Message, type: number): number | undefined => {
  const bytes = value(message, type)
  return bytes?.length === 4 ? new Reader(bytes).u32() : undefined
}

/** An address as it stands: MAPPED-ADDRESS, ALTERNATE-SERVER, OTHER-ADDRESS, RESPONSE-ORIGIN. Never with port 0. */
export const address = (message: Message, type: number): Address | undefined => {
  const bytes = value(message, type)
  return bytes === undefined ? undefined : addressOf(bytes)
}

/** An address under the cookie and the transaction id: XOR-MAPPED-ADDRESS, XOR-RELAYED-ADDRESS, XOR-PEER-ADDRESS. */
export const xorAddress = (message: Message, type: number): Address | undefined => {
  const bytes = value(message, type)
  return bytes === undefined ? undefined : xorAddressOf(message, bytes)
}

/** One of `values` as an address under the message's cookie and transaction id. */
export const xorAddressOf = (message: Message, bytes: Uint8Array): Address | undefined =>
  addressOf(masked(bytes, message.transactionId))

/** What XOR-MAPPED-ADDRESS says, or MAPPED-ADDRESS where an old server has only that. */
export const mappedAddress = (message: Message): Address | undefined =>
  xorAddress(message, Attribute.xorMappedAddress) ?? address(message, Attribute.mappedAddress)

export interface ErrorCode {
  /** 300..699. */
  readonly code: number
  /** For people; empty where it is not UTF-8. Written by the other end: clean it before it is shown. */
  readonly reason: string
}

export const errorCode = (message: Message): ErrorCode | undefined => {
  const bytes = value(message, Attribute.errorCode)
  if (bytes === undefined || bytes.length < 4) return undefined
  const hundreds = (bytes[2] as number) & 7
  const units = bytes[3] as number
  if (hundreds < 3 || hundreds > 6 || units > 99) return undefined
  return { code: hundreds * 100 + units, reason: textOf(bytes.subarray(4)) ?? "" }
}

/** The types in UNKNOWN-ATTRIBUTES. */
export const unknownAttributes = (message: Message): ReadonlyArray<number> => {
  const bytes = value(message, Attribute.unknownAttributes) ?? new Uint8Array(0)
  const reader = new Reader(bytes, 0, bytes.length & ~1)
  const types: Array<number> = []
  while (reader.remaining > 0) types.push(reader.u16())
  return types
}

/** CHANGE-REQUEST (RFC 5780 section 7.2). */
export interface ChangeRequest {
  readonly ip: boolean
  readonly port: boolean
}

export const changeRequest = (message: Message): ChangeRequest | undefined => {
  const flags = u32(message, Attribute.changeRequest)
  return flags === undefined ? undefined : { ip: (flags & 4) !== 0, port: (flags & 2) !== 0 }
}

const FAMILY_IPV4 = 1
const FAMILY_IPV6 = 2

const addressOf = (bytes: Uint8Array): Address | undefined => {
  const length = bytes.length
  const family = bytes[1]
  if (!((length === 8 && family === FAMILY_IPV4) || (length === 20 && family === FAMILY_IPV6))) return undefined
  const port = new Reader(bytes, 2).u16()
  return port === 0 ? undefined : { host: formatHost(bytes.subarray(4)), port }
}

/** A copy of an address's value under the mask of RFC 8489 section 14.2, or without it: it is its own inverse. */
const masked = (bytes: Uint8Array, transactionId: Uint8Array): Uint8Array => {
  const out = Uint8Array.from(bytes)
  if (out.length < 4) return out
  for (let i = 2; i < 4; i++) out[i] = (out[i] as number) ^ (COOKIE[i - 2] as number)
  for (let i = 4; i < out.length; i++) {
    const mask = i < 8 ? COOKIE[i - 4] : transactionId[i - 8]
    out[i] = (out[i] as number) ^ (mask ?? 0)
  }
  return out
}

const COOKIE = Uint8Array.of(0x21, 0x12, 0xa4, 0x42)

// -- integrity ------------------------------------------------------------------------------------------------------

/** A password as it enters a key: OpaqueString (RFC 8265 section 4.2), its mappings. For ASCII it changes nothing. */
export const preparePassword = (password: string): string => password.replace(/\p{Zs}/gu, " ").normalize("NFC")

/** The key of a short-term credential (RFC 8489 section 9.1.1). */
export const shortTermKey = (password: string): Uint8Array => utf8(preparePassword(password))

/** The key of a long-term credential, MD5 (RFC 8489 section 18.5.1.1) unless the server negotiated SHA-256 (18.5.1.2). */
export const longTermKey = (
  primitives: StunPrimitives,
  username: string,
  realm: string,
  password: string,
  algorithm: "md5" | "sha256" = "md5"
): Uint8Array => {
  const input = utf8(`${username.normalize("NFC")}:${realm.normalize("NFC")}:${preparePassword(password)}`)
  const key = primitives[algorithm](input)
  input.fill(0)
  return key
}

/** USERHASH (RFC 8489 section 14.4). */
export const userhash = (primitives: StunPrimitives, username: string, realm: string): Uint8Array =>
  primitives.sha256(utf8(`${username.normalize("NFC")}:${realm.normalize("NFC")}`))

/**
 * Whether the message carries an integrity attribute and it verifies under `key`: MESSAGE-INTEGRITY-SHA256 where there is
 * one (whole or truncated to 16 bytes and more), else MESSAGE-INTEGRITY. False where there is neither.
 */
export const verify = (message: Message, primitives: StunPrimitives, key: Uint8Array): boolean => {
  const sha256 = field(message, Attribute.messageIntegritySha256)
  const sealed = sha256 ?? field(message, Attribute.messageIntegrity)
  if (sealed === undefined) return false
  const { length } = sealed
  if (sha256 === undefined ? length !== 20 : length < 16 || length > 32 || length % 4 !== 0) return false
  const mac = sha256 === undefined ? primitives.hmacSha1 : primitives.hmacSha256
  const start = sealed.offset - 4
  const [head, body] = covered(message.bytes, start, sealed.offset + length)
  return primitives.equal(mac(key, head, body).subarray(0, length), viewOf(message, sealed))
}

/** What a MAC covers: all before the attribute at `start`, under a header whose length ends with the attribute. */
const covered = (bytes: Uint8Array, start: number, end: number): readonly [Uint8Array, Uint8Array] => {
  const head = bytes.slice(0, 4)
  new Writer(head, 2).u16(end - HEADER_LENGTH)
  return [head, bytes.subarray(4, start)]
}

// -- writing --------------------------------------------------------------------------------------------------------

/**
 * Writes one message: attributes in order, then integrity, then the fingerprint, then `finish`. The class checks nothing
 * but room; what a method needs is the caller's knowledge.
 */
export class StunWriter {
  readonly #writer: Writer
  readonly #transactionId: Uint8Array

  constructor(kind: Class, method: number, transactionId: Uint8Array, capacity = MAX_MESSAGE_LENGTH) {
    if (transactionId.length !== TRANSACTION_ID_LENGTH)
      throw new RangeError("StunWriter: a transaction id has 12 bytes")
    const bits = CLASSES.indexOf(kind)
    const type =
      (method & 0xf) | ((method & 0x70) << 1) | ((method & 0xf80) << 2) | ((bits & 1) << 4) | ((bits & 2) << 7)
    this.#transactionId = Uint8Array.from(transactionId)
    this.#writer = new Writer(new Uint8Array(capacity))
    this.#writer.u16(type).u16(0).put(COOKIE).put(this.#transactionId)
  }

  /** Any attribute, its value as it is. */
  attribute(type: number, bytes: Uint8Array): this {
    this.#writer.u16(type).u16(bytes.length).put(bytes)
    if (bytes.length % 4 !== 0) this.#writer.fill(0, 4 - (bytes.length % 4))
    return this
  }

  text(type: number, words: string): this {
    return this.attribute(type, utf8(words))
  }

  u32(type: number, number: number): this {
    this.#writer.u16(type).u16(4).u32(number)
    return this
  }

  /** MAPPED-ADDRESS and its kind. A host that is not numeric throws. */
  address(type: number, address: Address): this {
    return this.attribute(type, addressBytes(address))
  }

  /** XOR-MAPPED-ADDRESS and its kind. */
  xorAddress(type: number, address: Address): this {
    return this.attribute(type, masked(addressBytes(address), this.#transactionId))
  }

  errorCode(code: number, reason: string): this {
    const words = utf8(reason)
    const bytes = new Uint8Array(4 + words.length)
    bytes[2] = Math.floor(code / 100)
    bytes[3] = code % 100
    bytes.set(words, 4)
    return this.attribute(Attribute.errorCode, bytes)
  }

  unknownAttributes(types: ReadonlyArray<number>): this {
    const bytes = new Uint8Array(2 * types.length)
    const writer = new Writer(bytes)
    for (const type of types) writer.u16(type)
    return this.attribute(Attribute.unknownAttributes, bytes)
  }

  changeRequest({ ip, port }: ChangeRequest): this {
    return this.u32(Attribute.changeRequest, (ip ? 4 : 0) | (port ? 2 : 0))
  }

  /** MESSAGE-INTEGRITY over all so far. */
  integrity(primitives: StunPrimitives, key: Uint8Array): this {
    const { bytes, offset } = this.#writer
    return this.attribute(Attribute.messageIntegrity, primitives.hmacSha1(key, ...covered(bytes, offset, offset + 24)))
  }

  /** MESSAGE-INTEGRITY-SHA256 over all so far. */
  integritySha256(primitives: StunPrimitives, key: Uint8Array): this {
    const { bytes, offset } = this.#writer
    const mac = primitives.hmacSha256(key, ...covered(bytes, offset, offset + 36))
    return this.attribute(Attribute.messageIntegritySha256, mac)
  }

  /** FINGERPRINT over all so far: the last attribute. */
  fingerprint(): this {
    const { offset } = this.#writer
    this.#putLength(offset + 8)
    return this.u32(Attribute.fingerprint, fingerprint(this.#writer.bytes, offset))
  }

  /** The message; it shares nothing with later ones. */
  finish(): Uint8Array {
    const { bytes, offset } = this.#writer
    this.#putLength(offset)
    return bytes.slice(0, offset)
  }

  #putLength(end: number): void {
    new Writer(this.#writer.bytes, 2).u16(end - HEADER_LENGTH)
  }
}

const addressBytes = ({ host, port }: Address): Uint8Array => {
  const numeric = parseHost(host)
  if (numeric === undefined) throw new RangeError("StunWriter: the host is not a numeric address")
  const bytes = new Uint8Array(4 + numeric.length)
  new Writer(bytes)
    .u8(0)
    .u8(numeric.length === 4 ? FAMILY_IPV4 : FAMILY_IPV6)
    .u16(port)
    .put(numeric)
  return bytes
}

// -- CRC-32 (ITU V.42) ----------------------------------------------------------------------------------------------

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let crc = n
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1
  return crc
})

const crc32 = (bytes: Uint8Array, end: number): number => {
  let crc = 0xffffffff
  for (let i = 0; i < end; i++) {
    crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ (bytes[i] as number)) & 0xff] as number)
  }
  return (crc ^ 0xffffffff) >>> 0
}

/** FINGERPRINT of what stands before `end`; the header's length must count the attribute already. */
const fingerprint = (bytes: Uint8Array, end: number): number => (crc32(bytes, end) ^ FINGERPRINT_XOR) >>> 0
