/**
 * The first bytes of every stream, which say what flows on it. Who opens a stream sends them before anything else.
 *
 *     client -> server    0x01                        Effect RPC, groups Control and Files, NDJSON
 *     client -> server    0x02 | version              to be spliced to the llm tier; the server reads no further
 *     client -> server    0x03 | version              files (TransferFrame)
 *     server -> llm tier  0x02 | version | device 16  sealed (protocol/SealedStream.ts): Effect RPC, group Chat, NDJSON
 *
 * Version 2 is sealed between client and llm tier, which refuses all others: version 1 was plain RPC.
 */
import { CREDENTIAL_ID_LENGTH } from "./protocol/Constants.ts"
import { concat } from "./protocol/Cursor.ts"

export const SERVER = 0x01
export const LLM = 0x02
export const FILES = 0x03
/** What version byte a stream of files carries at least; a server refuses all below, and all above `FILES_DELTAS`. */
export const FILES_VERSION = 1
/** The version in which only what changed of a file needs to be sent. */
export const FILES_DELTAS = 2
/** What version byte an `llm` stream of this build carries. */
export const LLM_VERSION = 2
/** Bytes after the kind, by kind, as the tier that accepts the stream reads them. */
export const LLM_TIER_HEADER_LENGTH = 2 + CREDENTIAL_ID_LENGTH

export const server = (): Uint8Array => Uint8Array.of(SERVER)
export const llm = (): Uint8Array => Uint8Array.of(LLM, LLM_VERSION)
export const files = (version = FILES_VERSION): Uint8Array => Uint8Array.of(FILES, version)
/** Whether this build serves streams of files of this version. */
export const servesFiles = (version: number | undefined): boolean =>
  version !== undefined && version >= FILES_VERSION && version <= FILES_DELTAS
/** `device`: the 16 bytes of the device's id. */
export const llmTier = (version: number, device: Uint8Array): Uint8Array => concat(Uint8Array.of(LLM, version), device)

/** Codes of RESET and STOP, and of CLOSE from 256 on: why an application gave a stream up. */
export const Code = {
  /** Nobody needs it any more: the ordinary way to cancel. */
  Cancelled: 0x100,
  /** The server has no connection to the llm tier at the moment. */
  TierAway: 0x101,
  /** The first bytes made no sense, or a version is not spoken here. */
  Unknown: 0x102,
  /** This device has as many streams of this kind as it may. */
  TooMany: 0x103,
  /** The seal does not hold: another key, or bytes that were changed, left out, repeated or cut off. */
  NotSealed: 0x104,
  /** The sealed session is not known here any more: a stream with a handshake makes a new one. */
  Renew: 0x105,
  /** The llm tier knows this device by another key, or takes on no more devices. */
  Stranger: 0x106
} as const
