/**
 * The bootstrap key: a text that server and user both have, from which the key of each `.sec` file is derived. There is
 * no built-in default; without one a random key is made and kept 0600.
 */

import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { hex, text, utf8 } from "../domain/protocol/Cursor.ts"
import { Crypto } from "../services/Crypto.ts"
import { type SecureFileError, SecureFileStore } from "../services/SecureFileStore.ts"

/** Characters. */
const MIN_LENGTH = 16
const MAX_LENGTH = 1024
const KEY_ID_LABEL = utf8("clawchat bootstrap key id")

export interface BootstrapKey {
  /** 8 hexadecimal digits that tell keys apart and give none away; they stand only inside sealed files. */
  readonly id: string
  readonly secret: Redacted.Redacted<string>
}

/**
 * - `TooShort`, `TooLong`: of `MIN_LENGTH` to `MAX_LENGTH` characters.
 * - `NotText`: the file is not one line of UTF-8.
 * - `NotFound`: the named key file does not exist.
 */
export class BootstrapKeyError extends Data.TaggedError("BootstrapKeyError")<{
  readonly reason: "TooShort" | "TooLong" | "NotText" | "NotFound"
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

/** A key as the user gave it; white space around it does not count. `source` names it in errors. */
export const make = Effect.fnUntraced(function* (given: Redacted.Redacted<string>, source: string) {
  const { primitives } = yield* Crypto
  const key = Redacted.value(given).trim()
  if (key.length < MIN_LENGTH) {
    return yield* new BootstrapKeyError({
      reason: "TooShort",
      message: `The bootstrap key of ${source} has ${key.length} characters: use at least ${MIN_LENGTH}, better 43 random ones`
    })
  }
  if (key.length > MAX_LENGTH) {
    return yield* new BootstrapKeyError({
      reason: "TooLong",
      message: `The bootstrap key of ${source} has ${key.length} characters: use at most ${MAX_LENGTH}`
    })
  }
  if (/\p{Cc}/u.test(key)) {
    return yield* new BootstrapKeyError({
      reason: "NotText",
      message: `The bootstrap key of ${source} is not one line of text: put the key alone on its first line`
    })
  }
  const bytes = utf8(key)
  const id = hex(primitives.hash(KEY_ID_LABEL, bytes).subarray(0, 4))
  bytes.fill(0)
  return { id, secret: Redacted.make(key, { label: "bootstrap key" }) } satisfies BootstrapKey
})

const decode = Effect.fnUntraced(function* (bytes: Uint8Array, path: string) {
  const key = text(bytes)
  if (key === undefined) {
    return yield* new BootstrapKeyError({
      reason: "NotText",
      message: `${path} is not UTF-8 text: it must hold the bootstrap key, one line`
    })
  }
  return yield* make(Redacted.make(key), path)
})

const read = Effect.fnUntraced(function* (path: string) {
  const store = yield* SecureFileStore
  const bytes = yield* store.read(path, { maxBytes: 4 * MAX_LENGTH })
  return Option.isNone(bytes) ? Option.none<BootstrapKey>() : Option.some(yield* decode(bytes.value, path))
})

/** A client's `--key-file`. */
export const fromFile = Effect.fn("BootstrapKey.fromFile")(function* (path: string) {
  const key = yield* read(path)
  if (Option.isSome(key)) return key.value
  return yield* new BootstrapKeyError({
    reason: "NotFound",
    message: `There is no key file ${path}: copy the server's config/bootstrap.key there, mode 0600`
  })
})

/**
 * The server's key: the configured one (`CLAWCHAT_BOOTSTRAP_KEY`), else the one in `path`, else a new one of 32 random
 * bytes (base64, one line) that is stored there. Two that start at once agree on one.
 */
export const loadOrCreate: (options: {
  readonly configured: Option.Option<Redacted.Redacted<string>>
  readonly path: string
}) => Effect.Effect<BootstrapKey, BootstrapKeyError | SecureFileError, Crypto | SecureFileStore> = Effect.fn(
  "BootstrapKey.loadOrCreate"
)(function* ({ configured, path }) {
  if (Option.isSome(configured)) return yield* make(configured.value, "CLAWCHAT_BOOTSTRAP_KEY")
  const present = yield* read(path)
  if (Option.isSome(present)) return present.value
  const store = yield* SecureFileStore
  const { entropy } = yield* Crypto
  const made = entropy(32)
  yield* store.create(path, utf8(`${Base64.encode(made)}\n`)).pipe(
    Effect.catchIf(
      (error) => error.reason === "Exists",
      () => Effect.void
    ),
    Effect.ensuring(Effect.sync(() => made.fill(0)))
  )
  return yield* fromFile(path)
})
