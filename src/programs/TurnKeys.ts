/** With what the server comes in at its TURN servers: from the environment, else from `config/turn.credentials`. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import { text } from "../domain/protocol/Cursor.ts"
import type { StunPrimitives } from "../domain/protocol/StunMessage.ts"
import * as ServerName from "../domain/ServerName.ts"
import * as TurnCredentials from "../domain/TurnCredentials.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"

/** Bytes of the file. */
const MAX_LENGTH = 4096

/**
 * - `Incomplete`: a name without a password, both kinds at once, or a file that holds something else.
 * - `Missing`: TURN servers are named, and there is nothing to come in with.
 */
export class TurnKeyError extends Data.TaggedError("TurnKeyError")<{
  readonly reason: "Incomplete" | "Missing"
  /** One line for people: what, where, what to do; never a secret. */
  readonly message: string
}> {}

export interface Options {
  /** `CLAWCHAT_TURN_USERNAME`, `CLAWCHAT_TURN_PASSWORD`, `CLAWCHAT_TURN_SECRET`. */
  readonly configured: TurnCredentials.Parts
  /** `config/turn.credentials`, read when nothing is configured. */
  readonly path: string
  /** `--turn`; none needs nothing. */
  readonly servers: ReadonlyArray<ServerName.ServerName>
}

/** TURN servers, and what they take. */
export interface TurnKeys {
  readonly servers: ReadonlyArray<ServerName.ServerName>
  readonly login: TurnCredentials.TurnLogin
}

const whole = (login: TurnCredentials.TurnLogin | string | undefined, where: string) =>
  typeof login === "string"
    ? Effect.fail(new TurnKeyError({ reason: "Incomplete", message: `TURN credentials in ${where}: ${login}` }))
    : Effect.succeed(login)

/** None when no TURN server is named. */
export const load = Effect.fn("TurnKeys.load")(function* ({ configured, path, servers }: Options) {
  if (servers.length === 0) return Option.none<TurnKeys>()
  const store = yield* SecureFileStore
  const given = yield* whole(TurnCredentials.fromParts(configured), "CLAWCHAT_TURN_*")
  if (given !== undefined) return Option.some<TurnKeys>({ servers, login: given })
  const file = yield* store.read(path, { maxBytes: MAX_LENGTH })
  const content = Option.isNone(file) ? "" : text(file.value)
  const kept = yield* whole(content === undefined ? "not UTF-8 text" : TurnCredentials.parseFile(content), path)
  if (kept !== undefined) return Option.some<TurnKeys>({ servers, login: kept })
  const names = servers.map(ServerName.format).join(", ")
  return yield* new TurnKeyError({
    reason: "Missing",
    message: `No credentials for the TURN server ${names}: put username= and password=, or secret=, into ${path} (mode 0600), or set CLAWCHAT_TURN_USERNAME and CLAWCHAT_TURN_PASSWORD, or CLAWCHAT_TURN_SECRET`
  })
})

/** What a device is told of them, `nat_traversal.turn`; `deviceId` is its credential's id in hexadecimal. */
export const ofDevice = (
  primitives: StunPrimitives,
  { login, servers }: TurnKeys,
  deviceId: string,
  wall: number
): CredentialFile.NatTraversal["turn"] => {
  const credentials = TurnCredentials.ofDevice(primitives, login, deviceId, wall)
  return servers.map((server) => ({ server: ServerName.format(server), ...credentials }))
}
