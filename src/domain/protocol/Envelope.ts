/**
 * The outer form of both handshake messages: `id 8 | nonce 12 | AES-256-GCM(length u16 | Noise message | zeros) | tag 16`
 * with `id | direction u8 | "clawchat/1"` as associated data. `id` is a hint in an initiation and the client's
 * connection id in an answer; the direction is 1 in an initiation and 2 in an answer, and each has a key of its own.
 *
 * Both are exactly 1200 bytes. So their length tells nothing (not even whether this is an enrolment), an answer never
 * exceeds what called for it, and a handshake that succeeds has shown that the path carries such datagrams both ways.
 * The padding's content is not looked at: the tag vouches for it.
 */
import { CONNECTION_ID_LENGTH, INITIATION_LENGTH, PROTOCOL_NAME } from "./Constants.ts"
import { utf8 } from "./Cursor.ts"
import { type AeadKey, NONCE_LENGTH, TAG_LENGTH } from "./Primitives.ts"

export type Direction = "initiation" | "answer"

/** Bytes of an answer: as an initiation. */
export const ANSWER_LENGTH = INITIATION_LENGTH

const NONCE_END = CONNECTION_ID_LENGTH + NONCE_LENGTH
const PLAINTEXT_LENGTH = INITIATION_LENGTH - NONCE_END - TAG_LENGTH
/** Bytes: the longest Noise message that fits. */
export const MAX_NOISE_MESSAGE_LENGTH = PLAINTEXT_LENGTH - 2

const NAME = utf8(PROTOCOL_NAME)

const associated = (id: Uint8Array, direction: Direction): Uint8Array => {
  const out = new Uint8Array(CONNECTION_ID_LENGTH + 1 + NAME.length)
  out.set(id)
  out[CONNECTION_ID_LENGTH] = direction === "initiation" ? 1 : 2
  out.set(NAME, CONNECTION_ID_LENGTH + 1)
  return out
}

const seal = (
  key: AeadKey,
  direction: Direction,
  id: Uint8Array,
  nonce: Uint8Array,
  noiseMessage: Uint8Array
): Uint8Array => {
  if (id.length !== CONNECTION_ID_LENGTH) throw new RangeError(`Envelope: an id of ${id.length} bytes`)
  if (noiseMessage.length > MAX_NOISE_MESSAGE_LENGTH) {
    throw new RangeError(`Envelope: a Noise message of ${noiseMessage.length} bytes`)
  }
  const plaintext = new Uint8Array(PLAINTEXT_LENGTH)
  plaintext[0] = noiseMessage.length >> 8
  plaintext[1] = noiseMessage.length & 0xff
  plaintext.set(noiseMessage, 2)
  const out = new Uint8Array(INITIATION_LENGTH)
  out.set(id)
  out.set(nonce, CONNECTION_ID_LENGTH)
  key.sealInto(nonce, associated(id, direction), plaintext, out, NONCE_END)
  return out
}

/** The client's datagram. `nonce` is 12 random bytes, never used again; a message that does not fit throws. */
export const sealInitiation = (
  key: AeadKey,
  hint: Uint8Array,
  nonce: Uint8Array,
  noiseMessage: Uint8Array
): Uint8Array => seal(key, "initiation", hint, nonce, noiseMessage)

/** The server's datagram, to the connection id of message 1. Else as `sealInitiation`. */
export const sealAnswer = (
  key: AeadKey,
  connectionId: Uint8Array,
  nonce: Uint8Array,
  noiseMessage: Uint8Array
): Uint8Array => seal(key, "answer", connectionId, nonce, noiseMessage)

export interface Opened {
  /** A copy, to be remembered against replays. */
  readonly nonce: Uint8Array
  /** The Noise message, a buffer of its own. */
  readonly message: Uint8Array
}

/** What a datagram holds, or `undefined`: wrong length, wrong key, wrong direction, any bit flipped. */
export const open = (key: AeadKey, direction: Direction, datagram: Uint8Array): Opened | undefined => {
  if (datagram.length !== INITIATION_LENGTH) return undefined
  const id = datagram.subarray(0, CONNECTION_ID_LENGTH)
  const nonce = Uint8Array.from(datagram.subarray(CONNECTION_ID_LENGTH, NONCE_END))
  const plaintext = key.open(nonce, associated(id, direction), datagram.subarray(NONCE_END))
  if (plaintext === undefined) return undefined
  const length = ((plaintext[0] as number) << 8) | (plaintext[1] as number)
  if (length > MAX_NOISE_MESSAGE_LENGTH) return undefined
  return { nonce, message: plaintext.subarray(2, 2 + length) }
}
