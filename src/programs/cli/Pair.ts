/** `clawchat pair FILE`: this device becomes one of the server's; the file is used up by it. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as HomePaths from "../../domain/HomePaths.ts"
import { format } from "../../domain/protocol/Address.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as CredentialFiles from "../CredentialFiles.ts"
import * as Common from "./Common.ts"
import { failed, unreachable } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Sec from "./Sec.ts"

export interface Input extends Common.Globals {
  readonly file: string
  readonly keyFile: Option.Option<string>
  readonly json: boolean
  readonly timeout: number
}

/** The pairing that a `.sec` file offers, after every check. */
export const open = Effect.fnUntraced(function* (values: Values, file: string, keyFile: Option.Option<string>) {
  const key = yield* Common.bootstrapKey(values, keyFile)
  const from = Sec.source(file)
  const content = yield* Effect.mapError(
    "path" in from ? CredentialFiles.load(from.path, key) : CredentialFiles.openValid(from.bytes, key, from.where),
    Sec.fileFailure
  )
  return ClientIdentity.pairingOf(content)
})

/** Comes in with a file, once, in the scope; when it returns the device is enrolled. */
export const enrol = (
  values: Values,
  identity: ClientIdentity.ClientIdentity,
  pairing: ClientIdentity.Pairing,
  timeoutMs: number
) =>
  Effect.mapError(
    ClientLink.connect({
      identity,
      pairing,
      deviceName: Common.deviceName(values),
      patience: ClientLink.PATIENCE,
      timeoutMs
    }),
    (error) =>
      error._tag === "TransportError" && error.reason === "NoAnswer"
        ? unreachable(
            `${pairing.serverName} at ${pairing.endpoints.map(format).join(", ")} does not answer: it is down or out of reach, or this file was used or replaced already`
          )
        : Common.connectFailure(error)
  )

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const pairing = yield* open(values, input.file, input.keyFile)
    const identity = yield* Effect.mapError(ClientIdentity.make(HomePaths.client(values.home)), ({ message }) =>
      failed(message)
    )
    const start = yield* Clock.currentTimeMillis
    const { connection } = yield* enrol(values, identity, pairing, input.timeout)
    const ms = (yield* Clock.currentTimeMillis) - start
    const remote = format(yield* connection.remote)
    if (input.json) {
      return yield* Output.json({ server: pairing.serverName, device: connection.credential, remote, ms })
    }
    yield* Output.line(`Paired with ${pairing.serverName} at ${remote} in ${ms} ms`)
    yield* Output.note("The file is used up; from now on this device connects without one: clawchat chat")
  },
  Effect.scoped,
  Effect.provide(Layers.network)
)
