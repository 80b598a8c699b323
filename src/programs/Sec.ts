/** `.sec` files by hand: made, shown, checked. Secrets are shown only on demand. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as CredentialFile from "../domain/CredentialFile.ts"
import type { BootstrapKey } from "./BootstrapKey.ts"
import * as CredentialFiles from "./CredentialFiles.ts"

/** Stands where a secret would. */
const HIDDEN = "(hidden)"

/** Where a file's bytes come from: a path that is checked as a secret's, or bytes by another way with their name. */
export type Source = { readonly path: string } | { readonly bytes: Uint8Array; readonly where: string }

const nameOf = (source: Source): string => ("path" in source ? source.path : source.where)

const openSource = Effect.fnUntraced(function* (source: Source, key: BootstrapKey) {
  const bytes = "path" in source ? yield* CredentialFiles.read(source.path) : source.bytes
  return yield* CredentialFiles.open(bytes, key, nameOf(source))
})

export interface Shown {
  /** Everything inside, as it stands in JSON; secrets hidden unless revealed. */
  readonly content: CredentialFile.CredentialFileJson
  readonly validity: CredentialFile.Validity
}

/** What a file says, whatever its age. */
export const show = Effect.fn("Sec.show")(function* (
  source: Source,
  key: BootstrapKey,
  options: { readonly reveal: boolean } = { reveal: false }
) {
  const file = yield* openSource(source, key)
  const json = CredentialFile.toJson(file)
  const content = options.reveal
    ? json
    : {
        ...json,
        shared_secret: HIDDEN,
        nat_traversal: {
          ...json.nat_traversal,
          turn: json.nat_traversal.turn.map((turn) => ({ ...turn, password: HIDDEN })),
          rendezvous: json.nat_traversal.rendezvous.map((relay) =>
            typeof relay === "string" ? relay : { ...relay, ticket: HIDDEN }
          )
        }
      }
  return { content, validity: CredentialFile.validity(file, yield* Clock.currentTimeMillis) } satisfies Shown
})

export interface Verified {
  readonly connectionId: string
  readonly serverId: string
  readonly serverName: string
  /** Milliseconds since 1970. */
  readonly validFrom: number
  readonly validUntil: number
  /** Milliseconds left. */
  readonly remainingMs: number
}

/** Succeeds when the file opens and is valid now. */
export const verify = Effect.fn("Sec.verify")(function* (source: Source, key: BootstrapKey) {
  const file = yield* openSource(source, key)
  yield* CredentialFiles.checkValidity(file, nameOf(source))
  return {
    connectionId: file.connection_id,
    serverId: file.server_id,
    serverName: file.server_name,
    validFrom: file.valid_from,
    validUntil: file.valid_until,
    remainingMs: Math.max(0, file.valid_until - (yield* Clock.currentTimeMillis))
  } satisfies Verified
})
