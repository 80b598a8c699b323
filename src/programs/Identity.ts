/**
 * What makes a tier itself: its static key, the server's port seed, and the link by which server and llm tier know each
 * other. Each is made once, exclusively, so two processes that start together agree; a damaged one stops the start
 * rather than be replaced, for a new identity would lock out every device.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Bytes from "../domain/Bytes.ts"
import * as Constants from "../domain/protocol/Constants.ts"
import { fromHex, hex, text, utf8 } from "../domain/protocol/Cursor.ts"
import { Crypto } from "../services/Crypto.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"

/** A file of the identity does not hold what it must. */
export class IdentityError extends Data.TaggedError("IdentityError")<{
  readonly path: string
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

const MAX_LENGTH = 4096
/** Milliseconds that a file may be on its way out, looks in that time, and files made in vain while others are burnt. */
const BURNING_MS = 2000
const BURNING_LOOKS = 40
const MAX_TRIES = 5

const corrupt = (path: string, what: string) =>
  new IdentityError({ path, message: `${path} does not hold ${what}: restore it from a backup` })

/** The file's value, else a new one that is made, unless another process was first: then that one's. */
const loadOrCreate = Effect.fnUntraced(function* <A>(
  path: string,
  what: string,
  decode: (content: string) => Option.Option<A>,
  fresh: () => string
) {
  const store = yield* SecureFileStore
  // Zeros: somebody is burning it, and a moment later it is gone.
  const read = Effect.repeat(store.read(path, { maxBytes: MAX_LENGTH }), {
    while: Option.exists((bytes) => bytes.length > 0 && bytes.every((byte) => byte === 0)),
    schedule: Schedule.spaced(BURNING_MS / BURNING_LOOKS),
    times: BURNING_LOOKS
  })
  let bytes = yield* read
  for (let tries = 0; Option.isNone(bytes) && tries < MAX_TRIES; tries++) {
    yield* store.create(path, utf8(fresh())).pipe(
      Effect.catchIf(
        (error) => error.reason === "Exists",
        () => Effect.void
      )
    )
    bytes = yield* read
  }
  const value = Option.flatMap(bytes, (content) => {
    const string = text(content)
    return string === undefined ? Option.none() : decode(string)
  })
  return Option.isSome(value) ? value.value : yield* corrupt(path, what)
})

const decodeSecret = (content: string): Option.Option<Uint8Array> =>
  Option.filter(Option.fromUndefinedOr(fromHex(content.trim())), (bytes) => bytes.length === Constants.SECRET_LENGTH)

const hexLine = (bytes: Uint8Array): string => `${hex(bytes)}\n`

/** The X25519 key pair whose private key stands at `path`, 64 hexadecimal digits; made when missing. */
export const loadOrCreateStatic = Effect.fn("Identity.loadOrCreateStatic")(function* (path: string) {
  const { generateKeyPair, primitives } = yield* Crypto
  const privateKey = yield* loadOrCreate(path, "a private key (64 hexadecimal digits)", decodeSecret, () =>
    hexLine(generateKeyPair().privateKey)
  )
  return primitives.keyPair(privateKey)
})

/** 32 random bytes at `path`, 64 hexadecimal digits; made when missing. */
export const loadOrCreateSeed = Effect.fn("Identity.loadOrCreateSeed")(function* (path: string) {
  const { entropy } = yield* Crypto
  return yield* loadOrCreate(path, "a seed (64 hexadecimal digits)", decodeSecret, () =>
    hexLine(entropy(Constants.SECRET_LENGTH))
  )
})

/** Replaces the seed: `revoke --reseed`, COMPROMISED. */
export const replaceSeed = Effect.fn("Identity.replaceSeed")(function* (path: string) {
  const store = yield* SecureFileStore
  const { entropy } = yield* Crypto
  const seed = entropy(Constants.SECRET_LENGTH)
  yield* store.write(path, utf8(hexLine(seed)))
  return seed
})

const Link = Schema.Struct({
  version: Schema.Literal(1),
  id: Bytes.hex(Constants.CREDENTIAL_ID_LENGTH),
  psk: Bytes.hex(Constants.SECRET_LENGTH),
  refuses: Schema.optionalKey(Schema.Array(Bytes.hex(Constants.SECRET_LENGTH)))
})

/** What ties server and llm tier: the credential of the one session between them. */
export interface Link {
  /** 16 bytes. */
  readonly id: Uint8Array
  /** 32 bytes. */
  readonly psk: Uint8Array
  /** Static keys that COMPROMISED has ended: an llm tier that has one of them makes itself a new identity. */
  readonly refuses?: ReadonlyArray<Uint8Array>
}

const LinkJson = Schema.fromJsonString(Link)
const decodeLink = Schema.decodeUnknownOption(LinkJson)
const encodeLink = Schema.encodeSync(LinkJson)

/** The link at `path`, made by whichever tier comes first. */
export const loadOrCreateLink = Effect.fn("Identity.loadOrCreateLink")(function* (path: string) {
  const { entropy } = yield* Crypto
  const link: Link = yield* loadOrCreate(path, "the link between server and llm tier", decodeLink, () => {
    const fresh = { id: entropy(Constants.CREDENTIAL_ID_LENGTH), psk: entropy(Constants.SECRET_LENGTH) }
    return `${encodeLink({ version: 1, ...fresh })}\n`
  })
  return link
})

/** A new link in the place of whatever stands at `path`, which the holder of this static key is to keep away from. */
export const replaceLink = Effect.fn("Identity.replaceLink")(function* (path: string, refused: Uint8Array) {
  const store = yield* SecureFileStore
  const { entropy } = yield* Crypto
  const fresh = { id: entropy(Constants.CREDENTIAL_ID_LENGTH), psk: entropy(Constants.SECRET_LENGTH) }
  yield* store.write(path, utf8(`${encodeLink({ version: 1, ...fresh, refuses: [refused] })}\n`))
})

/** Whether a link refuses a static key. */
export const isRefused = ({ refuses = [] }: Link, publicKey: Uint8Array): boolean =>
  refuses.some((key) => hex(key) === hex(publicKey))

/** The link that stands at `path` now; none where there is none that can be read. */
export const readLink = Effect.fn("Identity.readLink")(function* (path: string) {
  const store = yield* SecureFileStore
  const bytes = yield* Effect.orElseSucceed(store.read(path, { maxBytes: MAX_LENGTH }), () => Option.none<Uint8Array>())
  return Option.flatMap(bytes, (content) => decodeLink(text(content))) satisfies Option.Option<Link>
})

/** Writes a static public key for the other tier, 64 hexadecimal digits; not at all when it stands there already. */
export const publishKey = Effect.fn("Identity.publishKey")(function* (path: string, publicKey: Uint8Array) {
  const store = yield* SecureFileStore
  const wanted = hexLine(publicKey)
  const present = yield* store.read(path, { maxBytes: MAX_LENGTH }).pipe(Effect.orElseSucceed(Option.none))
  if (Option.isSome(present) && text(present.value) === wanted) return
  yield* store.write(path, utf8(wanted))
})

/** The other tier's static public key, or none while it has not published one. */
export const readKey = Effect.fn("Identity.readKey")(function* (path: string) {
  const store = yield* SecureFileStore
  const bytes = yield* store.read(path, { maxBytes: MAX_LENGTH })
  if (Option.isNone(bytes)) return Option.none<Uint8Array>()
  const key = decodeSecret(text(bytes.value) ?? "")
  return Option.isSome(key) ? key : yield* corrupt(path, "a public key (64 hexadecimal digits)")
})
