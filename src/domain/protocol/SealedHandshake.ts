/**
 * The beginning of sealed streams between client and llm tier: a Noise IK handshake of their own, once per session, and the
 * keys of all streams of it. The records under them are in `SealedStream.ts`.
 *
 *     opening    0x01 | Noise message 1, 96 bytes           a new session; answered by Noise message 2, 48 bytes
 *                0x02 | session id 16 | number u32          a further stream of a session; records follow at once
 *
 * The handshake's stream is number 0. Owns no stream and no randomness. Failures are `undefined` and final.
 */
import { CREDENTIAL_ID_LENGTH, PROTOCOL_NAME, SEALED_SESSION_ID_LENGTH } from "./Constants.ts"
import { concat, Reader, utf8, Writer } from "./Cursor.ts"
import * as Noise from "./Noise.ts"
import { KEY_LENGTH, type KeyPair, type Primitives } from "./Primitives.ts"

const EMPTY = new Uint8Array(0)
const PROLOGUE = utf8(`${PROTOCOL_NAME} sealed`)
const SESSION = utf8(`${PROTOCOL_NAME} sealed session`)
const STREAM = utf8(`${PROTOCOL_NAME} sealed stream`)
const IK = Noise.pattern("IK") as Noise.Pattern

/** First byte of an opening. */
export const Opening = { Handshake: 0x01, Resume: 0x02 } as const
/** Bytes of Noise message 1, of message 2, and of what follows `Opening.Resume`. */
export const MESSAGE_1_LENGTH = 96
export const MESSAGE_2_LENGTH = 48
export const RESUME_LENGTH = SEALED_SESSION_ID_LENGTH + 4
/** Streams of one session: numbers are u32. */
export const MAX_NUMBER = 2 ** 32 - 1

/** Secret: what all streams of a session have their keys from. Whoever holds it wipes `secret` at its end. */
export interface Session {
  /** 16 bytes, not secret. */
  readonly id: Uint8Array
  /** 32 bytes. */
  readonly secret: Uint8Array
}

/** One key per direction, named after who sends under it. */
export interface StreamKeys {
  readonly clientKey: Uint8Array
  readonly tierKey: Uint8Array
}

/** What both ends must agree on before they agree on keys: the device (16 bytes) and the stream's header. */
export interface Binding {
  readonly device: Uint8Array
  /** The header as the client sends it: kind and version. */
  readonly header: Uint8Array
}

const prologue = ({ device, header }: Binding): Uint8Array => {
  if (device.length !== CREDENTIAL_ID_LENGTH) throw new RangeError(`a device id of ${device.length} bytes`)
  return concat(PROLOGUE, device, header)
}

const sessionOf = (p: Primitives, noise: Noise.Handshake): Session => {
  const chainingKey = noise.chainingKey
  const out = p.hkdf(EMPTY, chainingKey, SESSION, KEY_LENGTH + SEALED_SESSION_ID_LENGTH)
  chainingKey.fill(0)
  noise.wipe()
  const session = { id: out.slice(KEY_LENGTH), secret: out.slice(0, KEY_LENGTH) }
  out.fill(0)
  return session
}

/** The keys of stream `number` of a session; the stream that carried the handshake is number 0. */
export const streamKeys = (p: Primitives, session: Session, number: number): StreamKeys => {
  const info = new Writer(new Uint8Array(STREAM.length + 4)).put(STREAM).u32(number)
  const out = p.hkdf(EMPTY, session.secret, info.bytes, 2 * KEY_LENGTH)
  const keys = { clientKey: out.slice(0, KEY_LENGTH), tierKey: out.slice(KEY_LENGTH) }
  out.fill(0)
  return keys
}

/** What a client sends to continue a session on stream `number`, 1 to `MAX_NUMBER`, each once. */
export const resumption = (session: Session, number: number): Uint8Array =>
  new Writer(new Uint8Array(1 + RESUME_LENGTH)).u8(Opening.Resume).put(session.id).u32(number).bytes

/** What `resumption` wrote behind its first byte: `RESUME_LENGTH` bytes. */
export const readResumption = (bytes: Uint8Array): { readonly id: Uint8Array; readonly number: number } => {
  const reader = new Reader(bytes)
  return { id: reader.copy(SEALED_SESSION_ID_LENGTH), number: reader.u32() }
}

/** The client's side of one handshake. */
export class Initiator {
  readonly #p: Primitives
  readonly #noise: Noise.Handshake
  /** What is to be sent; `undefined` when the llm tier's key is none. */
  readonly opening: Uint8Array | undefined

  constructor(
    p: Primitives,
    options: Binding & {
      readonly identity: KeyPair
      /** The llm tier's static key. */
      readonly tierKey: Uint8Array
      /** Fresh; wiped at the end. */
      readonly ephemeral: KeyPair
    }
  ) {
    this.#p = p
    const { ephemeral, identity, tierKey } = options
    this.#noise = new Noise.Handshake(p, {
      pattern: IK,
      initiator: true,
      prologue: prologue(options),
      local: identity,
      remote: tierKey
    })
    // Nothing rides with message 1: whoever recorded it may send it again, and the tier's key opens it for ever.
    const message = this.#noise.writeMessage(EMPTY, ephemeral)
    this.opening = message === undefined ? undefined : concat(Uint8Array.of(Opening.Handshake), message)
  }

  /** The session, or `undefined` when the answer is not from the holder of the tier's key. Once. */
  finish(message: Uint8Array): Session | undefined {
    const payload = message.length === MESSAGE_2_LENGTH ? this.#noise.readMessage(message) : undefined
    if (payload !== undefined) return sessionOf(this.#p, this.#noise)
    this.#noise.wipe()
    return undefined
  }
}

/** What the llm tier learns from message 1. */
export interface Accepted {
  /** The client's static key: message 1 is proven to come from it, though perhaps not now. */
  readonly client: Uint8Array
  /** Message 2 and the session, once it is decided to answer; `undefined` when the client's key is unfit. Once. */
  readonly answer: (ephemeral: KeyPair) => { readonly message: Uint8Array; readonly session: Session } | undefined
}

/** The llm tier's side; `undefined` for a message 1 that is not meant for this key, this device and this header. */
export const accept = (
  p: Primitives,
  options: Binding & { readonly identity: KeyPair },
  message: Uint8Array
): Accepted | undefined => {
  const noise = new Noise.Handshake(p, {
    pattern: IK,
    initiator: false,
    prologue: prologue(options),
    local: options.identity
  })
  const payload = message.length === MESSAGE_1_LENGTH ? noise.readMessage(message) : undefined
  const client = noise.remoteStatic
  if (payload === undefined || client === undefined) {
    noise.wipe()
    return undefined
  }
  return {
    client,
    answer: (ephemeral) => {
      const answer = noise.writeMessage(EMPTY, ephemeral)
      return answer === undefined ? undefined : { message: answer, session: sessionOf(p, noise) }
    }
  }
}
