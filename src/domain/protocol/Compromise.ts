/**
 * COMPROMISED on the wire: what the one that burns its secrets sends, and what it waits for.
 *
 * The notification is a frame with a random token in an ordinary transport packet, sealed before the keys are wiped, a few
 * copies of it under packet numbers of their own. Whoever receives it has no keys of that session either when it answers:
 * the acknowledgement is a bare datagram that only the holder of the token can make. The sender keeps its hash and no more,
 * so what is found in its memory afterwards lets nobody pretend that the other end has heard.
 */
import { PROTOCOL_NAME } from "./Constants.ts"
import { utf8 } from "./Cursor.ts"
import type { Primitives } from "./Primitives.ts"

/** Milliseconds after the wipe at which copies of the notification leave. */
export const NOTIFY_AT_MS: ReadonlyArray<number> = [0, 50, 200, 600]
/** Milliseconds after the receiver's wipe at which copies of the acknowledgement leave. */
export const ACKNOWLEDGE_AT_MS: ReadonlyArray<number> = [0, 100, 400]
/** Bytes of a notification's datagram: its frame and padding. */
export const NOTIFICATION_LENGTH = 256
/** Bytes of an acknowledgement, the whole datagram. */
const ACKNOWLEDGEMENT_LENGTH = 32

const EMPTY = new Uint8Array(0)
const ACKNOWLEDGEMENT = utf8(`${PROTOCOL_NAME} compromised ack`)

/** The datagram that answers a token of 32 bytes: `HKDF(salt = "", ikm = token, info = "clawchat/1 compromised ack", 32)`. */
export const acknowledgement = (p: Primitives, token: Uint8Array): Uint8Array =>
  p.hkdf(EMPTY, token, ACKNOWLEDGEMENT, ACKNOWLEDGEMENT_LENGTH)

/** What the sender keeps of a token: SHA-256 of its acknowledgement. The token itself is for the caller to wipe. */
export const expected = (p: Primitives, token: Uint8Array): Uint8Array => {
  const answer = acknowledgement(p, token)
  const hash = p.hash(answer)
  answer.fill(0)
  return hash
}

/** Whether a datagram is the acknowledgement of which `hash` was kept. */
export const isAcknowledgement = (p: Primitives, hash: Uint8Array, datagram: Uint8Array): boolean =>
  datagram.length === ACKNOWLEDGEMENT_LENGTH && p.equal(p.hash(datagram), hash)
