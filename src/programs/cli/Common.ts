/** Steps that several commands share: settings, homes, keys, and the way to the tier that answers. */
import { existsSync } from "node:fs"
import * as Os from "node:os"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import manifest from "../../../package.json" with { type: "json" }
import * as HomePaths from "../../domain/HomePaths.ts"
import { hex } from "../../domain/protocol/Cursor.ts"
import type { Flags, Role, Values } from "../../domain/Settings.ts"
import * as SecureFileStore from "../../services/SecureFileStore.ts"
import { Settings } from "../../services/Settings.ts"
import type { TransportError } from "../../services/Transport.ts"
import * as BootstrapKey from "../BootstrapKey.ts"
import * as Burn from "../Burn.ts"
import type * as ClientIdentity from "../ClientIdentity.ts"
import type { UnpairedError } from "../ClientLink.ts"
import { denied, ExitCode, Failure, failed, notFound, unreachable, usage } from "./Failure.ts"
import * as Output from "./Output.ts"

export const VERSION: string = manifest.version

/** Flags that every command takes. */
export interface Globals {
  readonly home: Option.Option<string>
  readonly config: Option.Option<string>
}

export const globalFlags = ({ config, home }: Globals): Flags => ({
  home: Option.getOrUndefined(home),
  config: Option.getOrUndefined(config)
})

/** The settings in force; warnings go to stderr. */
export const settings = Effect.fnUntraced(function* (role: Role, flags: Flags) {
  const loaded = yield* Effect.flatMap(Settings, (service) => service.load({ role, flags })).pipe(
    Effect.mapError((error) => usage(error.message))
  )
  for (const warning of loaded.warnings) yield* Output.note(`warning: ${warning}`)
  return loaded.settings
})

/** Milliseconds that the successor of a tier whose keys were burnt waits for it to be gone, and between two looks. */
const SUCCESSION_MS = 10_000
const LOOK_MS = 50

/** A second tier of the same kind on one home is refused; the first is waited for where it is about to make room. */
export const lock = (path: string, what: string, burnt?: Parameters<typeof Burn.stands>[0]) =>
  SecureFileStore.SecureFileStore.use((store) =>
    Effect.gen(function* () {
      const succeeds = burnt !== undefined && (yield* Burn.stands(burnt))
      const times = succeeds ? SUCCESSION_MS / LOOK_MS : 0
      return yield* Effect.retry(store.lock(path), {
        schedule: Schedule.spaced(LOOK_MS),
        times,
        while: (error) => error.reason === "Locked"
      })
    })
  ).pipe(
    Effect.mapError((error) =>
      error.reason === "Locked"
        ? new Failure({
            code: ExitCode.TryAgain,
            message: `${what} already runs on this home: stop it first, or use another --home`
          })
        : failed(error.message)
    )
  )

/** The first address of this host that others may reach; loopback when there is none. */
export const ownAddress = (): string => {
  for (const addresses of Object.values(Os.networkInterfaces())) {
    for (const address of addresses ?? []) if (!address.internal && address.family === "IPv4") return address.address
  }
  return "127.0.0.1"
}

export const deviceName = (values: Values): string => values.client.name ?? Os.hostname()

/** Stable while the static key is. */
export const serverId = (values: Values, publicKey: Uint8Array): string =>
  values.server.id ?? hex(publicKey.subarray(0, 8))

const keyFailure = (error: BootstrapKey.BootstrapKeyError | SecureFileStore.SecureFileError): Failure =>
  error.reason === "NotFound" ? notFound(error.message) : failed(error.message)

/** The key of `.sec` files on a device: `--key-file`, the environment, or the home's `config/bootstrap.key`. */
export const bootstrapKey = Effect.fnUntraced(function* (values: Values, keyFile: Option.Option<string>) {
  if (Option.isSome(keyFile)) return yield* Effect.mapError(BootstrapKey.fromFile(keyFile.value), keyFailure)
  const configured = values.security.bootstrapKey
  if (configured !== undefined) {
    return yield* Effect.mapError(BootstrapKey.make(configured, "CLAWCHAT_BOOTSTRAP_KEY"), keyFailure)
  }
  const path = HomePaths.server(values.home).bootstrapKey
  if (existsSync(path)) return yield* Effect.mapError(BootstrapKey.fromFile(path), keyFailure)
  return yield* usage(
    `No bootstrap key: give the server's with --key-file FILE or CLAWCHAT_BOOTSTRAP_KEY, or copy it to ${path} (mode 0600)`
  )
})

/** What a failed connection means to a person and to a script. */
export const connectFailure = (error: TransportError | UnpairedError | ClientIdentity.Failure): Failure => {
  switch (error._tag) {
    case "UnpairedError":
      return denied(error.message)
    case "ClientIdentityError":
    case "SecureFileError":
      return failed(error.message)
    case "TransportError":
      switch (error.reason) {
        case "NoAnswer":
          return unreachable(
            `The server does not answer (${error.message}): it is down, out of reach, or does not know this device any more`
          )
        case "Bind":
        case "Keep":
          return failed(error.message)
        default:
          return unreachable(error.message)
      }
  }
}
