/**
 * Every number of the protocol, with its unit and where it comes from. The first part is wire format: both ends must
 * agree on it and docs/PROTOCOL.md names it. The second part is one implementation's choice and may differ between peers.
 */

// -- wire format ---------------------------------------------------------------------------------------------------

/** Bound into every key: change it and nothing old opens. */
export const PROTOCOL_NAME = "clawchat/1"
/** Wire versions this build speaks, lowest and highest. */
export const VERSION_MIN = 1
export const VERSION_MAX = 1

/** Bytes: connection ids and hints share one length, so one table look-up serves both. */
export const CONNECTION_ID_LENGTH = 8
/** Bytes: a credential's id, which is also the enrolled device's. */
export const CREDENTIAL_ID_LENGTH = 16
/** Bytes: names one connection attempt over all its retransmissions. */
export const CONNECT_ID_LENGTH = 8
/** Bytes: pre-shared keys, port seeds, X25519 keys. */
export const SECRET_LENGTH = 32
/** Bytes: every datagram's length is a multiple of this. */
export const PADDING_BLOCK = 16
/** Bytes: an initiation is padded to exactly this; an answer is never longer. */
export const INITIATION_LENGTH = 1200
/** Bytes: the largest datagram sent where the path is not known to carry more (RFC 9000 section 14). */
export const MAX_DATAGRAM_LENGTH = 1200
/** Milliseconds: a hint of an enrolled device is good for its slot and both neighbours. */
export const HINT_SLOT_MS = 300_000
/** Hints a client may use within one slot, one per attempt, round and round. */
export const HINTS_PER_SLOT = 8
/** Bytes: connection id and masked epoch-and-counter before the ciphertext of a transport datagram. */
export const PACKET_HEADER_LENGTH = 16
/** Packet numbers stop here and the session with them (exact in a double, far below the AEAD's limit). */
export const MAX_PACKET_NUMBER = 2 ** 52
/** Largest value of a variable-length integer we write or accept: exact in a double. */
export const MAX_VARINT = Number.MAX_SAFE_INTEGER
/** UTF-8 bytes of a device's name. */
export const MAX_DEVICE_NAME_LENGTH = 64

// -- this implementation's choices ----------------------------------------------------------------------------------

/** Packets: width of the replay window (RFC 6479). */
export const REPLAY_WINDOW = 8192
