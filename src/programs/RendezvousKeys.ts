/** The relays that a server may use, and the tickets it gives to its devices. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import { equals, format } from "../domain/protocol/Address.ts"
import { RENDEZVOUS_TICKET_MS } from "../domain/protocol/Constants.ts"
import { text } from "../domain/protocol/Cursor.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import { encodeTicket, mintTicket } from "../domain/protocol/RendezvousTicket.ts"
import * as RendezvousLine from "../domain/RendezvousLine.ts"
import * as ServerName from "../domain/ServerName.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"

/** Relays of one server, and bytes of the file with their lines. */
const MAX_RELAYS = 4
const MAX_LENGTH = 4096

/**
 * - `NotALine`: what stands there is no relay's line.
 * - `NoKey`: a relay is named whose line is not there.
 * - `TooMany`: more relays than a server uses.
 */
export class RendezvousKeyError extends Data.TaggedError("RendezvousKeyError")<{
  readonly reason: "NotALine" | "NoKey" | "TooMany"
  /** One line for people: what, where, what to do; never the key. */
  readonly message: string
}> {}

export interface Options {
  /** `CLAWCHAT_RENDEZVOUS_KEY`: lines with commas between them. */
  readonly configured: Redacted.Redacted<string> | undefined
  /** `config/rendezvous.key`, which is read when nothing is configured. */
  readonly path: string
  /** Which relays to use, `--rendezvous`; none for all. */
  readonly wanted: ReadonlyArray<ServerName.ServerName>
}

const parse = (content: string, where: string) =>
  Effect.forEach(
    content
      .split(/[\n,]/)
      .map((line) => line.trim())
      .filter((line) => line !== "" && !line.startsWith("#")),
    (line, index) => {
      const pairing = RendezvousLine.parse(line)
      if (pairing !== undefined) return Effect.succeed(pairing)
      const message = `${where}: entry ${index + 1} is not what "clawchat rendezvous key" prints on the relay: copy its whole line`
      return Effect.fail(new RendezvousKeyError({ reason: "NotALine", message }))
    }
  )

/** The relays of a server: those that are named, else all whose lines are there; often none. */
export const load = Effect.fn("RendezvousKeys.load")(function* ({ configured, path, wanted }: Options) {
  const store = yield* SecureFileStore
  const where = configured === undefined ? path : "CLAWCHAT_RENDEZVOUS_KEY"
  const file = configured === undefined ? yield* store.read(path, { maxBytes: MAX_LENGTH }) : Option.none<Uint8Array>()
  const content =
    configured === undefined ? text(Option.getOrElse(file, () => new Uint8Array(0))) : Redacted.value(configured)
  const known = yield* parse(content ?? "?", where)
  if (known.length > MAX_RELAYS) {
    const message = `${where} has the lines of ${known.length} relays: a server uses ${MAX_RELAYS} at most`
    return yield* new RendezvousKeyError({ reason: "TooMany", message })
  }
  if (wanted.length === 0) return known
  return yield* Effect.forEach(wanted, (name) => {
    const pairing = known.find(({ relay }) => equals(relay, name))
    if (pairing !== undefined) return Effect.succeed(pairing)
    const there =
      known.length === 0 ? "" : ` (there are those of ${known.map(({ relay }) => format(relay)).join(", ")})`
    const message = `No line of the rendezvous ${ServerName.format(name)} in ${where}${there}: put there, mode 0600, what "clawchat rendezvous key" prints on the relay`
    return Effect.fail(new RendezvousKeyError({ reason: "NoKey", message }))
  })
})

/** What a device is given for each relay: a ticket good for 30 days from `wall`. `serverKey` is our static public key. */
export const tickets = (
  primitives: Primitives,
  pairings: ReadonlyArray<RendezvousLine.Pairing>,
  serverKey: Uint8Array,
  credentialId: Uint8Array,
  wall: number
): ReadonlyArray<CredentialFile.RendezvousServer> =>
  pairings.map(({ key, relay }) => ({
    server: format(relay),
    ticket: encodeTicket(mintTicket(primitives, key, serverKey, credentialId, wall + RENDEZVOUS_TICKET_MS))
  }))
