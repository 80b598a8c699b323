/**
 * What COMPROMISED leaves on disk. The tombstone stands from its first moment until everything it names is gone: a start
 * that finds it finishes the deletion before anything else. The list of what was burnt stays for good, as fingerprints that
 * give nothing away: a file that comes back, from a backup say, is known by its content or, where its name is an id, by that.
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Bytes from "./Bytes.ts"
import { hex, text, utf8 } from "./protocol/Cursor.ts"
import type { Primitives } from "./protocol/Primitives.ts"

const VERSION = 1
/** Fingerprints kept, the newest; a device leaves two, and 512 devices are the most there may be. */
export const MAX_BURNT = 16_384
/** Bytes; shorter files hold no secret, and their like may well come again. */
const MIN_SECRET = 32
const LABEL = utf8("clawchat burnt")

/**
 * Who began it:
 * - `here`: a command on this home.
 * - `peer`: the other end's notification.
 */
export const Cause = Schema.Literals(["here", "peer"])
export type Cause = typeof Cause.Type

/** Whose home is burnt. */
export const Tier = Schema.Literals(["server", "llm", "client"])
export type Tier = typeof Tier.Type

export const Tombstone = Schema.Struct({
  version: Schema.Literal(VERSION),
  tier: Tier,
  /** Milliseconds since 1970. */
  at: Schema.Finite,
  cause: Cause,
  /** Fingerprints of what is being burnt. */
  burnt: Schema.Array(Schema.String),
  /** On a server: the static key of the llm tier that is to give up its identity too. */
  llmKey: Schema.optionalKey(Bytes.hex(32))
})
export type Tombstone = typeof Tombstone.Type

const Burnt = Schema.Struct({ version: Schema.Literal(VERSION), burnt: Schema.Array(Schema.String) })

const TombstoneJson = Schema.fromJsonString(Tombstone)
const BurntJson = Schema.fromJsonString(Burnt)
const decodeTombstone = Schema.decodeUnknownOption(TombstoneJson)
const encodeTombstone = Schema.encodeSync(TombstoneJson)
const decodeBurnt = Schema.decodeUnknownOption(BurntJson)
const encodeBurnt = Schema.encodeSync(BurntJson)

export const encode = (tombstone: Omit<Tombstone, "version">): Uint8Array =>
  utf8(`${encodeTombstone({ version: VERSION, ...tombstone })}\n`)

/**
 * - `Done`: zeros, or nothing: its removal had begun, so all deletions were over.
 * - `Standing`: deletions may be owed. Also where it cannot be understood: too much is burnt rather than too little.
 */
export type State =
  | { readonly _tag: "Done" }
  | { readonly _tag: "Standing"; readonly tombstone: Option.Option<Tombstone> }

export const decode = (bytes: Uint8Array): State =>
  bytes.every((byte) => byte === 0) ? { _tag: "Done" } : { _tag: "Standing", tombstone: decodeTombstone(text(bytes)) }

export const encodeList = (burnt: ReadonlyArray<string>): Uint8Array =>
  utf8(`${encodeBurnt({ version: VERSION, burnt })}\n`)

/** None where it cannot be understood. */
export const decodeList = (bytes: Uint8Array): Option.Option<ReadonlyArray<string>> =>
  Option.map(decodeBurnt(text(bytes)), ({ burnt }) => burnt)

/** Both lists as one, each fingerprint once, the newest at the end. */
export const merge = (before: ReadonlyArray<string>, more: ReadonlyArray<string>): ReadonlyArray<string> => {
  const fresh = new Set(more)
  return [...before.filter((each) => !fresh.has(each)), ...fresh].slice(-MAX_BURNT)
}

/**
 * What a file is known by: 32 hexadecimal digits of its content's hash, and its name where that is an id (`ID.json`,
 * `ID.sec`). Public keys, where hints stand (two links of the same five minutes may tell the same), and what is too short to
 * hold a secret are known by nothing.
 */
export const fingerprints = (primitives: Primitives, name: string, content: Uint8Array): ReadonlyArray<string> => {
  if (name.endsWith(".pub") || name.endsWith(".hints")) return []
  const id = /^([0-9a-f]{32})\.(?:json|sec)$/.exec(name)?.[1]
  let end = content.length
  while (end > 0 && (content[end - 1] as number) <= 0x20) end--
  const short = end < MIN_SECRET
  return [
    ...(id === undefined ? [] : [id]),
    ...(short ? [] : [hex(primitives.hash(LABEL, content.subarray(0, end)).subarray(0, 16))])
  ]
}
