/**
 * The `.sec` file: what a server hands out so that one device can make first contact. Outside a JSON envelope (KDF,
 * salt, AES-256-GCM), inside the credential. Pure: bytes and values; the key derivation, the seal, the clock and the
 * disk are the program's (`programs/CredentialFiles`).
 *
 * Every byte of a file as we write it counts: ciphertext and tag are authenticated by AES-GCM and must be canonical
 * base64, all other fields of the envelope are its additional data, and unknown ones are refused.
 */

import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"
import * as Bytes from "./Bytes.ts"
import * as Address from "./protocol/Address.ts"
import * as Constants from "./protocol/Constants.ts"
import { text, utf8 } from "./protocol/Cursor.ts"

/** Bytes: a larger file is refused unread. */
export const MAX_FILE_LENGTH = 64 * 1024
/** Version of the envelope and of the content inside. */
export const FILE_VERSION = 1
export const FILE_TYPE = "clawchat-credential"
const ALGORITHM = "aes-256-gcm"
/** Milliseconds by which two clocks may differ. */
export const CLOCK_SKEW_MS = 30_000
/** Milliseconds: a file's life, and the period of its rewriting. */
export const VALIDITY_MS = 11 * 60_000
export const ROTATION_MS = 10 * 60_000
/** Keys of the content, known and unknown together; entries of its lists and of `metadata`. */
const MAX_ENTRIES = 64
/** Levels of brackets inside. */
const MAX_DEPTH = 32
const SALT_MIN = 16
const SALT_MAX = 64
const IV_LENGTH = 12
const TAG_LENGTH = 16

// -- key derivation -------------------------------------------------------------------------------------------------

/** What a file may ask for, checked before the work begins. */
const KDF_BOUNDS = {
  /** PBKDF2-HMAC-SHA256 rounds. */
  iterations: { minimum: 100_000, maximum: 10_000_000 },
  /** Argon2id memory, KiB. */
  memoryKib: { minimum: 8 * 1024, maximum: 1024 * 1024 },
  passes: { minimum: 1, maximum: 16 },
  parallelism: { minimum: 1, maximum: 16 }
} as const

const within = (bounds: { readonly minimum: number; readonly maximum: number }) =>
  Schema.Int.check(Schema.isBetween(bounds))

/** Parameters of the derivation, within bounds: as the configuration gives them and the Crypto service takes them. */
export const Kdf = Schema.Union([
  Schema.Struct({ name: Schema.Literal("pbkdf2-hmac-sha256"), iterations: within(KDF_BOUNDS.iterations) }),
  Schema.Struct({
    name: Schema.Literal("argon2id"),
    memoryKib: within(KDF_BOUNDS.memoryKib),
    passes: within(KDF_BOUNDS.passes),
    parallelism: within(KDF_BOUNDS.parallelism)
  })
])
export type Kdf = typeof Kdf.Type

export const isKdf = Schema.is(Kdf)

/** OWASP's figure for PBKDF2-HMAC-SHA256. */
export const DEFAULT_KDF: Kdf = { name: "pbkdf2-hmac-sha256", iterations: 600_000 }

// -- the content ----------------------------------------------------------------------------------------------------

/** ISO 8601 in UTC outside, milliseconds since 1970 inside. */
const Instant = Schema.String.check(
  Schema.isPattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/),
  Schema.makeFilter((iso: string) => Number.isFinite(Date.parse(iso)), { expected: "a time" })
).pipe(
  Schema.decodeTo(
    Schema.Int,
    SchemaTransformation.transform({ decode: Date.parse, encode: (ms: number) => new Date(ms).toISOString() })
  )
)

/** A numeric IPv4 or IPv6 address; whether it is one that works, the socket will tell. */
const Ip = Schema.String.check(
  Schema.isPattern(/^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$/),
  Schema.isMaxLength(45)
)
const UdpPort = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65535 }))
const Server = Bytes.line(256)
const Seconds = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 86_400 }))
const ConnectionId = Schema.String.check(Schema.isPattern(/^[0-9a-f]{32}$/))

/** Where the server may be reached. */
export const Candidate = Schema.Struct({
  kind: Schema.Literals(["host", "reflexive", "mapped", "relayed"]),
  address: Ip,
  port: UdpPort
})
export type Candidate = typeof Candidate.Type

/** A relay and leave to use it; without a ticket nothing comes of it. */
export const RendezvousServer = Schema.Struct({
  server: Server,
  ticket: Bytes.base64(Constants.RENDEZVOUS_TICKET_LENGTH)
})
export type RendezvousServer = typeof RendezvousServer.Type

/** Servers that help two hosts behind NATs to meet, `host:port`; `timeout` in seconds. */
export const NatTraversal = Schema.Struct({
  stun: Schema.Array(Server).check(Schema.isMaxLength(MAX_ENTRIES)),
  turn: Schema.Array(Schema.Struct({ server: Server, username: Bytes.line(256), password: Bytes.line(256) })).check(
    Schema.isMaxLength(MAX_ENTRIES)
  ),
  rendezvous: Schema.Array(Schema.Union([RendezvousServer, Server])).check(Schema.isMaxLength(MAX_ENTRIES)),
  timeout: Seconds
})
export type NatTraversal = typeof NatTraversal.Type

/** What the file says once it is open. `connection_id` is the credential's id; `grace_period` is in seconds. */
export const CredentialFile = Schema.Struct({
  version: Schema.Literal(FILE_VERSION),
  type: Schema.Literal(FILE_TYPE),
  protocol_version: Schema.Int,
  connection_id: ConnectionId,
  server_id: Bytes.line(128),
  server_name: Bytes.line(128),
  server_public_ip: Ip,
  server_udp_port: UdpPort,
  candidates: Schema.Array(Candidate).check(Schema.isMaxLength(MAX_ENTRIES)),
  shared_secret: Bytes.base64(Constants.SECRET_LENGTH),
  server_public_key: Bytes.base64(Constants.SECRET_LENGTH),
  bootstrap_key_id: Schema.String.check(Schema.isPattern(/^[0-9a-f]{8}$/)),
  timestamp: Instant,
  valid_from: Instant,
  valid_until: Instant,
  next_rotation: Instant,
  grace_period: Seconds,
  nat_traversal: NatTraversal,
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json).check(Schema.isMaxProperties(MAX_ENTRIES)))
}).check(Schema.makeFilter((file) => file.valid_until > file.valid_from, { expected: "valid_until after valid_from" }))
export type CredentialFile = typeof CredentialFile.Type

/** As it stands in JSON: times in ISO 8601, secrets in base64. */
export type CredentialFileJson = typeof CredentialFile.Encoded

export const toJson: (content: CredentialFile) => CredentialFileJson = Schema.encodeSync(CredentialFile)

export const encodeContent = (content: CredentialFile): Uint8Array => utf8(JSON.stringify(toJson(content)))

/** What authenticated bytes turned out to be. */
export type Content =
  | { readonly _tag: "Content"; readonly content: CredentialFile }
  | { readonly _tag: "Unsupported"; readonly version: number }
  | { readonly _tag: "Foreign" }

const Head = Schema.Struct({
  version: Schema.Int,
  type: Schema.Literal(FILE_TYPE),
  protocol_version: Schema.Int
})
const decodeObject = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown).check(Schema.isMaxProperties(MAX_ENTRIES)))
)
const decodeHead = Schema.decodeUnknownOption(Head)
const decodeFile = Schema.decodeUnknownOption(CredentialFile)

/** Whether brackets in a JSON text go deeper than `MAX_DEPTH`: what follows walks values by recursion. */
const isTooDeep = (json: string): boolean => {
  let depth = 0
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (token === "[" || token === "{") depth++
    else if (token === "]" || token === "}") depth--
    if (depth > MAX_DEPTH) return true
  }
  return false
}

/** Keys we do not know are passed over, so that a newer server may add some. */
export const decodeContent = (bytes: Uint8Array): Content => {
  const json = text(bytes)
  if (json === undefined || isTooDeep(json)) return { _tag: "Foreign" }
  const object = decodeObject(json)
  const head = Option.flatMap(object, decodeHead)
  if (Option.isNone(head)) return { _tag: "Foreign" }
  const { version, protocol_version: protocol } = head.value
  if (version !== FILE_VERSION) return { _tag: "Unsupported", version }
  if (protocol < Constants.VERSION_MIN || protocol > Constants.VERSION_MAX)
    return { _tag: "Unsupported", version: protocol }
  const content = Option.flatMap(object, decodeFile)
  return Option.isNone(content) ? { _tag: "Foreign" } : { _tag: "Content", content: content.value }
}

/** The handshake hint's slot of a file: `valid_from` in milliseconds. */
export const slot = (content: CredentialFile): number => content.valid_from

/** Addresses to try, best first, each once. */
export const endpoints = (content: CredentialFile): ReadonlyArray<Address.Address> => {
  const out: Array<Address.Address> = [{ host: content.server_public_ip, port: content.server_udp_port }]
  for (const candidate of content.candidates) {
    const address = { host: candidate.address, port: candidate.port }
    if (!out.some((known) => Address.equals(known, address))) out.push(address)
  }
  return out
}

export type Validity = "Valid" | "Expired" | "NotYetValid"

/** At `now` (ms), give or take `CLOCK_SKEW_MS`. */
export const validity = (content: Pick<CredentialFile, "valid_from" | "valid_until">, now: number): Validity =>
  now > content.valid_until + CLOCK_SKEW_MS
    ? "Expired"
    : now < content.valid_from - CLOCK_SKEW_MS
      ? "NotYetValid"
      : "Valid"

// -- the envelope ---------------------------------------------------------------------------------------------------

export interface Envelope {
  readonly kdf: Kdf
  readonly salt: Uint8Array
  readonly iv: Uint8Array
  readonly ciphertext: Uint8Array
  readonly tag: Uint8Array
}

const EnvelopeJson = Schema.Struct({
  version: Schema.Literal(FILE_VERSION),
  algorithm: Schema.Literal(ALGORITHM),
  kdf: Schema.Union([
    Schema.Struct({
      name: Schema.Literal("pbkdf2-hmac-sha256"),
      parameters: Schema.Struct({ iterations: within(KDF_BOUNDS.iterations) })
    }),
    Schema.Struct({
      name: Schema.Literal("argon2id"),
      parameters: Schema.Struct({
        memory_kib: within(KDF_BOUNDS.memoryKib),
        passes: within(KDF_BOUNDS.passes),
        parallelism: within(KDF_BOUNDS.parallelism)
      })
    })
  ]),
  salt: Schema.String,
  iv: Schema.String,
  ciphertext: Schema.String,
  tag: Schema.String
})
type EnvelopeJson = typeof EnvelopeJson.Type

const decodeEnvelopeJson = Schema.decodeUnknownOption(Schema.fromJsonString(EnvelopeJson), {
  onExcessProperty: "error"
})

const kdfJson = (kdf: Kdf): EnvelopeJson["kdf"] =>
  kdf.name === "argon2id"
    ? {
        name: kdf.name,
        parameters: { memory_kib: kdf.memoryKib, passes: kdf.passes, parallelism: kdf.parallelism }
      }
    : { name: kdf.name, parameters: { iterations: kdf.iterations } }

const kdfOf = ({ kdf }: EnvelopeJson): Kdf =>
  kdf.name === "argon2id"
    ? {
        name: kdf.name,
        memoryKib: kdf.parameters.memory_kib,
        passes: kdf.parameters.passes,
        parallelism: kdf.parameters.parallelism
      }
    : { name: kdf.name, iterations: kdf.parameters.iterations }

/** Base64 with exactly one spelling per value: two texts that decode alike would leave a byte unauthenticated. */
const canonicalBase64 = (digits: string, minimum: number, maximum: number): Uint8Array | undefined => {
  const decoded = Base64.decode(digits)
  if (decoded._tag === "Failure") return undefined
  const bytes = decoded.success
  return bytes.length >= minimum && bytes.length <= maximum && Base64.encode(bytes) === digits ? bytes : undefined
}

/** Additional data of the seal: every field of the envelope but ciphertext and tag, in one fixed spelling. */
export const additionalData = (head: Pick<Envelope, "kdf" | "salt" | "iv">): Uint8Array =>
  utf8(JSON.stringify([FILE_VERSION, ALGORITHM, kdfJson(head.kdf), Base64.encode(head.salt), Base64.encode(head.iv)]))

/** One line of JSON without a line feed: each byte of it is authenticated. */
export const encodeEnvelope = (envelope: Envelope): Uint8Array =>
  utf8(
    JSON.stringify({
      version: FILE_VERSION,
      algorithm: ALGORITHM,
      kdf: kdfJson(envelope.kdf),
      salt: Base64.encode(envelope.salt),
      iv: Base64.encode(envelope.iv),
      ciphertext: Base64.encode(envelope.ciphertext),
      tag: Base64.encode(envelope.tag)
    } satisfies EnvelopeJson)
  )

/**
 * What a file turned out to be. `Damaged` is a file that still looks like one of ours (a changed byte can hurt one or
 * two of its keys, not most of them) and must be answered exactly as one that does not open; `Foreign` never was one.
 */
export type Sighting =
  | { readonly _tag: "Envelope"; readonly envelope: Envelope }
  | { readonly _tag: "Damaged" }
  | { readonly _tag: "Foreign" }

const MARKS = ['"version"', '"algorithm"', '"kdf"', '"salt"', '"iv"', '"ciphertext"', '"tag"']
const MARKS_NEEDED = 4
const lossy = new TextDecoder()

/** Reads the envelope; white space around and between its values does not matter, KDF parameters out of bounds do. */
export const decodeEnvelope = (bytes: Uint8Array): Sighting => {
  const envelope = Option.flatMap(decodeEnvelopeJson(text(bytes)), (json) => {
    const salt = canonicalBase64(json.salt, SALT_MIN, SALT_MAX)
    const iv = canonicalBase64(json.iv, IV_LENGTH, IV_LENGTH)
    const ciphertext = canonicalBase64(json.ciphertext, 1, MAX_FILE_LENGTH)
    const tag = canonicalBase64(json.tag, TAG_LENGTH, TAG_LENGTH)
    return salt !== undefined && iv !== undefined && ciphertext !== undefined && tag !== undefined
      ? Option.some({ kdf: kdfOf(json), salt, iv, ciphertext, tag })
      : Option.none()
  })
  if (Option.isSome(envelope)) return { _tag: "Envelope", envelope: envelope.value }
  const seen = lossy.decode(bytes)
  return { _tag: MARKS.filter((mark) => seen.includes(mark)).length >= MARKS_NEEDED ? "Damaged" : "Foreign" }
}
