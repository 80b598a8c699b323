/**
 * `.sec` files made, sealed, opened and judged: the pure shapes of `domain/CredentialFile` with the host's cryptography,
 * disk and clock.
 *
 * A file that looks like one of ours and does not open, for whatever reason, costs one key derivation and gives one and
 * the same message: which byte was wrong, or whether only the key was, nobody learns.
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as CredentialFile from "../domain/CredentialFile.ts"
import * as Constants from "../domain/protocol/Constants.ts"
import { concat, hex, utf8 } from "../domain/protocol/Cursor.ts"
import { NONCE_LENGTH, TAG_LENGTH } from "../domain/protocol/Primitives.ts"
import { Crypto } from "../services/Crypto.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import type { BootstrapKey } from "./BootstrapKey.ts"

/**
 * - `NotACredentialFile`: something else.
 * - `WrongKeyOrTampered`: it does not open, or asks for a key derivation out of bounds.
 * - `Expired`, `NotYetValid`: by this host's clock, more than 30 s off; times in ms since 1970.
 * - `Unsupported`: written by a newer program; `version` is what it asks for.
 * - `Permissions`: the file is a link, FIFO or folder, another user's, or open to others.
 */
export type Reason =
  | { readonly _tag: "NotACredentialFile" }
  | { readonly _tag: "WrongKeyOrTampered" }
  | { readonly _tag: "Expired"; readonly since: number }
  | { readonly _tag: "NotYetValid"; readonly until: number }
  | { readonly _tag: "Unsupported"; readonly version: number }
  | { readonly _tag: "Permissions" }
  | { readonly _tag: "NotFound" }
  | { readonly _tag: "TooLarge" }
  | { readonly _tag: "Unreadable" }

export class CredentialFileError extends Data.TaggedError("CredentialFileError")<{
  readonly reason: Reason
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

const iso = (ms: number): string => new Date(ms).toISOString()

const describe = (reason: Exclude<Reason, { _tag: "Permissions" | "Unreadable" }>, where: string): string => {
  switch (reason._tag) {
    case "NotACredentialFile":
      return `${where} is not a credential file: choose the .sec file that the server wrote`
    case "WrongKeyOrTampered":
      return `${where} does not open: either the bootstrap key is not the server's or the file was changed on its way; compare the keys, then fetch the file again`
    case "Expired":
      return `${where} expired at ${iso(reason.since)}: fetch a fresh file from the server; if it is fresh, set this machine's clock`
    case "NotYetValid":
      return `${where} is not valid before ${iso(reason.until)}: set this machine's clock, or the server's`
    case "Unsupported":
      return `${where} needs version ${reason.version}, which this program does not speak: update it`
    case "NotFound":
      return `${where} does not exist: give the path of the .sec file that the server wrote`
    case "TooLarge":
      return `${where} is larger than ${CredentialFile.MAX_FILE_LENGTH / 1024} KiB and so no credential file: choose the .sec file that the server wrote`
  }
}

const failure = (reason: Exclude<Reason, { _tag: "Permissions" | "Unreadable" }>, where: string) =>
  new CredentialFileError({ reason, message: describe(reason, where) })

// -- making ---------------------------------------------------------------------------------------------------------

export interface MakeOptions {
  /** 16 bytes; random if not given. */
  readonly connectionId?: Uint8Array
  readonly serverId: string
  readonly serverName: string
  /** 32 bytes. */
  readonly serverPublicKey: Uint8Array
  /** Numeric. */
  readonly publicIp: string
  readonly udpPort: number
  readonly candidates: ReadonlyArray<CredentialFile.Candidate>
  readonly natTraversal: CredentialFile.NatTraversal
  /** Seconds that an old port is served after a rotation. */
  readonly gracePeriodSeconds: number
  readonly bootstrapKeyId: string
  /** Default 11 minutes. */
  readonly validityMs?: number
  /** Default 10 minutes. */
  readonly rotationMs?: number
  readonly metadata?: CredentialFile.CredentialFile["metadata"]
}

/** A fresh credential, valid from now on; its id and secret are random. */
export const make = Effect.fn("CredentialFiles.make")(function* (options: MakeOptions) {
  const { entropy } = yield* Crypto
  const now = yield* Clock.currentTimeMillis
  return {
    version: CredentialFile.FILE_VERSION,
    type: CredentialFile.FILE_TYPE,
    protocol_version: Constants.VERSION_MAX,
    connection_id: hex(options.connectionId ?? entropy(Constants.CREDENTIAL_ID_LENGTH)),
    server_id: options.serverId,
    server_name: options.serverName,
    server_public_ip: options.publicIp,
    server_udp_port: options.udpPort,
    candidates: options.candidates,
    shared_secret: entropy(Constants.SECRET_LENGTH),
    server_public_key: options.serverPublicKey,
    bootstrap_key_id: options.bootstrapKeyId,
    timestamp: now,
    valid_from: now,
    valid_until: now + (options.validityMs ?? CredentialFile.VALIDITY_MS),
    next_rotation: now + (options.rotationMs ?? CredentialFile.ROTATION_MS),
    grace_period: options.gracePeriodSeconds,
    nat_traversal: options.natTraversal,
    ...(options.metadata === undefined ? {} : { metadata: options.metadata })
  } satisfies CredentialFile.CredentialFile
})

// -- sealing --------------------------------------------------------------------------------------------------------

const derive = Effect.fnUntraced(function* (key: BootstrapKey, salt: Uint8Array, kdf: CredentialFile.Kdf) {
  const crypto = yield* Crypto
  const secret = utf8(Redacted.value(key.secret))
  return yield* crypto.deriveFileKey(secret, salt, kdf).pipe(Effect.ensuring(Effect.sync(() => secret.fill(0))))
})

/** The file's bytes. `kdf` out of its bounds is a bug of the caller's (configuration is checked when it is read). */
export const seal = Effect.fn("CredentialFiles.seal")(function* (
  content: CredentialFile.CredentialFile,
  key: BootstrapKey,
  kdf: CredentialFile.Kdf = CredentialFile.DEFAULT_KDF
) {
  if (!CredentialFile.isKdf(kdf)) return yield* Effect.die(new RangeError("key derivation out of bounds"))
  const { entropy, primitives } = yield* Crypto
  const head = { kdf, salt: entropy(16), iv: entropy(NONCE_LENGTH) }
  const fileKey = yield* derive(key, head.salt, kdf)
  const plaintext = CredentialFile.encodeContent(content)
  const sealed = new Uint8Array(plaintext.length + TAG_LENGTH)
  primitives.aeadKey(fileKey).sealInto(head.iv, CredentialFile.additionalData(head), plaintext, sealed, 0)
  fileKey.fill(0)
  plaintext.fill(0)
  return CredentialFile.encodeEnvelope({
    ...head,
    ciphertext: sealed.subarray(0, -TAG_LENGTH),
    tag: sealed.subarray(-TAG_LENGTH)
  })
})

/** Stands in for a salt that cannot be trusted, so that a damaged file costs what a sound one costs. */
const DECOY_SALT = new Uint8Array(16)

/**
 * The content of a file's bytes, whatever its age. `where` names the file in errors. Parameters of the derivation are
 * bounded before the work; a damaged file costs the default derivation.
 */
export const open = Effect.fn("CredentialFiles.open")(function* (bytes: Uint8Array, key: BootstrapKey, where: string) {
  if (bytes.length > CredentialFile.MAX_FILE_LENGTH) return yield* failure({ _tag: "TooLarge" }, where)
  const sighting = CredentialFile.decodeEnvelope(bytes)
  if (sighting._tag === "Foreign") return yield* failure({ _tag: "NotACredentialFile" }, where)
  const envelope = sighting._tag === "Envelope" ? sighting.envelope : undefined
  const fileKey = yield* derive(key, envelope?.salt ?? DECOY_SALT, envelope?.kdf ?? CredentialFile.DEFAULT_KDF)
  const { primitives } = yield* Crypto
  const plaintext =
    envelope === undefined
      ? undefined
      : primitives
          .aeadKey(fileKey)
          .open(envelope.iv, CredentialFile.additionalData(envelope), concat(envelope.ciphertext, envelope.tag))
  fileKey.fill(0)
  if (plaintext === undefined) return yield* failure({ _tag: "WrongKeyOrTampered" }, where)
  const content = CredentialFile.decodeContent(plaintext)
  plaintext.fill(0)
  switch (content._tag) {
    case "Content":
      return content.content
    case "Unsupported":
      return yield* failure({ _tag: "Unsupported", version: content.version }, where)
    case "Foreign":
      return yield* failure({ _tag: "NotACredentialFile" }, where)
  }
})

/** Fails unless the content is valid now, give or take 30 s. */
export const checkValidity = Effect.fnUntraced(function* (content: CredentialFile.CredentialFile, where: string) {
  switch (CredentialFile.validity(content, yield* Clock.currentTimeMillis)) {
    case "Valid":
      return
    case "Expired":
      return yield* failure({ _tag: "Expired", since: content.valid_until }, where)
    case "NotYetValid":
      return yield* failure({ _tag: "NotYetValid", until: content.valid_from }, where)
  }
})

/** As `open`, and valid now: for bytes that came by other ways than a path (stdin, QR, https, the GUI). */
export const openValid = Effect.fn("CredentialFiles.openValid")(function* (
  bytes: Uint8Array,
  key: BootstrapKey,
  where: string
) {
  const content = yield* open(bytes, key, where)
  yield* checkValidity(content, where)
  return content
})

/** The bytes of a file, refused unread when it is too large, a link, or open to others. */
export const read = Effect.fn("CredentialFiles.read")(function* (path: string) {
  const store = yield* SecureFileStore
  const bytes = yield* store.read(path, { maxBytes: CredentialFile.MAX_FILE_LENGTH }).pipe(
    Effect.mapError((error) => {
      switch (error.reason) {
        case "TooLarge":
          return failure({ _tag: "TooLarge" }, path)
        case "Unsafe":
          return new CredentialFileError({ reason: { _tag: "Permissions" }, message: error.message })
        default:
          return new CredentialFileError({ reason: { _tag: "Unreadable" }, message: error.message })
      }
    })
  )
  return Option.isSome(bytes) ? bytes.value : yield* failure({ _tag: "NotFound" }, path)
})

/** The valid content of the file at `path`. */
export const load = Effect.fn("CredentialFiles.load")(function* (path: string, key: BootstrapKey) {
  return yield* openValid(yield* read(path), key, path)
})
