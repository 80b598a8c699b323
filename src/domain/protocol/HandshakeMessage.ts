/**
 * The payloads of the two Noise messages. Integers are big-endian.
 *
 *   Initiation  wallMs u64 | versionMin u8 | versionMax u8 | connectionId 8 | connectId 8 | name length u8 | name |
 *               features u32 | limits
 *   Answer      version u8 | connectionId 8 | observed address | limits | content u8 | [portSeed 32] | [llmKey 32]
 *
 * `content` has bit 0 set when the answer enrols (the port seed is there) and bit 1 when the llm tier's key is there
 * too; other values are malformed. Extension rule for both: later versions append fields, and bytes behind the last
 * field known are ignored. Decoders copy what they keep and answer `undefined` for everything malformed.
 */
import type { Address } from "./Address.ts"
import * as AddressCodec from "./AddressCodec.ts"
import { CONNECT_ID_LENGTH, CONNECTION_ID_LENGTH, MAX_DEVICE_NAME_LENGTH, SECRET_LENGTH } from "./Constants.ts"
import { Reader, text, utf8, Writer } from "./Cursor.ts"
import * as Limits from "./Limits.ts"

/** The client's payload, message 1. */
export interface Initiation {
  /** The client's wall clock, milliseconds since 1970. */
  readonly wallMs: number
  /** Lowest and highest wire version that the client speaks. */
  readonly versionMin: number
  readonly versionMax: number
  /** Where the answer and the packets to the client go; new for each attempt. */
  readonly connectionId: Uint8Array
  /** Names this connecting over all its attempts. */
  readonly connectId: Uint8Array
  /** At most 64 bytes of UTF-8 without control characters; may be empty. See `deviceName`. */
  readonly deviceName: string
  /** Bit set, 32 bits; unknown bits are ignored. */
  readonly features: number
  readonly limits: Limits.Limits
}

/** What an enrolled device stores. */
export interface Enrolment {
  /** 32 bytes: finds the server's ports. */
  readonly portSeed: Uint8Array
  /** 32 bytes: the llm tier's static public key; `undefined` when the server does not know it yet. */
  readonly llmKey: Uint8Array | undefined
}

/** The server's payload, message 2. */
export interface Answer {
  /** The wire version chosen. */
  readonly version: number
  /** Where packets to the server go. */
  readonly connectionId: Uint8Array
  /** Where the initiation came from, as the server saw it. */
  readonly observed: Address
  readonly limits: Limits.Limits
  readonly enrolment: Enrolment | undefined
}

const ENROLS = 0b01
const KNOWS_LLM = 0b10
const CONTROL = /\p{Cc}/u

/** `name` as an Initiation takes it: no control characters, well-formed, cut to 64 bytes between characters. */
export const deviceName = (name: string): string => {
  let out = ""
  let length = 0
  for (const character of name.toWellFormed()) {
    if (CONTROL.test(character)) continue
    length += utf8(character).length
    if (length > MAX_DEVICE_NAME_LENGTH) break
    out += character
  }
  return out
}

/** Throws for a name that `deviceName` would change in length, and for ids of the wrong length: the caller's bugs. */
export const encodeInitiation = (initiation: Initiation): Uint8Array => {
  const name = utf8(initiation.deviceName)
  if (name.length > MAX_DEVICE_NAME_LENGTH) throw new RangeError(`Initiation: a name of ${name.length} bytes`)
  const length = 8 + 2 + CONNECTION_ID_LENGTH + CONNECT_ID_LENGTH + 1 + name.length + 4
  const writer = new Writer(new Uint8Array(length + Limits.encodedLength(initiation.limits)))
  writer
    .u64(initiation.wallMs)
    .u8(initiation.versionMin)
    .u8(initiation.versionMax)
    .put(sized(initiation.connectionId, CONNECTION_ID_LENGTH))
    .put(sized(initiation.connectId, CONNECT_ID_LENGTH))
    .u8(name.length)
    .put(name)
    .u32(initiation.features)
  Limits.encode(writer, initiation.limits)
  return writer.bytes
}

export const decodeInitiation = (bytes: Uint8Array): Initiation | undefined => {
  const reader = new Reader(bytes)
  const wallMs = reader.u64()
  const versionMin = reader.u8()
  const versionMax = reader.u8()
  const connectionId = take(reader, CONNECTION_ID_LENGTH)
  const connectId = take(reader, CONNECT_ID_LENGTH)
  const nameLength = reader.u8()
  const deviceName = nameLength > MAX_DEVICE_NAME_LENGTH ? undefined : text(reader.view(nameLength))
  const features = reader.u32()
  const limits = Limits.decode(reader)
  if (reader.failed || versionMin > versionMax) return undefined
  if (deviceName === undefined || CONTROL.test(deviceName) || limits === undefined) return undefined
  return { wallMs, versionMin, versionMax, connectionId, connectId, deviceName, features, limits }
}

/** Throws for ids or keys of the wrong length and for an observed host that is not numeric: the caller's bugs. */
export const encodeAnswer = (answer: Answer): Uint8Array => {
  const { enrolment } = answer
  const secrets = enrolment === undefined ? 0 : enrolment.llmKey === undefined ? SECRET_LENGTH : 2 * SECRET_LENGTH
  const length = 1 + CONNECTION_ID_LENGTH + AddressCodec.encodedLength(answer.observed) + 1 + secrets
  const writer = new Writer(new Uint8Array(length + Limits.encodedLength(answer.limits)))
  writer.u8(answer.version).put(sized(answer.connectionId, CONNECTION_ID_LENGTH))
  AddressCodec.encode(writer, answer.observed)
  Limits.encode(writer, answer.limits)
  if (enrolment === undefined) {
    writer.u8(0)
  } else {
    writer.u8(enrolment.llmKey === undefined ? ENROLS : ENROLS | KNOWS_LLM)
    writer.put(sized(enrolment.portSeed, SECRET_LENGTH))
    if (enrolment.llmKey !== undefined) writer.put(sized(enrolment.llmKey, SECRET_LENGTH))
  }
  return writer.bytes
}

export const decodeAnswer = (bytes: Uint8Array): Answer | undefined => {
  const reader = new Reader(bytes)
  const version = reader.u8()
  const connectionId = take(reader, CONNECTION_ID_LENGTH)
  const observed = AddressCodec.decode(reader)
  if (observed === undefined) return undefined
  const limits = Limits.decode(reader)
  if (limits === undefined) return undefined
  const content = reader.u8()
  if (content > (ENROLS | KNOWS_LLM) || content === KNOWS_LLM) return undefined
  let enrolment: Enrolment | undefined
  if (content !== 0) {
    const portSeed = take(reader, SECRET_LENGTH)
    enrolment = { portSeed, llmKey: content & KNOWS_LLM ? take(reader, SECRET_LENGTH) : undefined }
  }
  return reader.failed ? undefined : { version, connectionId, observed, limits, enrolment }
}

const sized = (bytes: Uint8Array, length: number): Uint8Array => {
  if (bytes.length !== length) throw new RangeError(`HandshakeMessage: ${bytes.length} bytes where ${length} belong`)
  return bytes
}

/** A true copy even when the message is a view with a `slice` of its own. */
const take = (reader: Reader, length: number): Uint8Array => Uint8Array.from(reader.view(length))
