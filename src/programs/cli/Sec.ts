/** `clawchat sec`: credential files made and looked at by hand. */
import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as HomePaths from "../../domain/HomePaths.ts"
import * as LogNode from "../../layers/LogNode.ts"
import { SecureFileStore } from "../../services/SecureFileStore.ts"
import * as BootstrapKey from "../BootstrapKey.ts"
import type { CredentialFileError } from "../CredentialFiles.ts"
import * as CredentialWriter from "../CredentialWriter.ts"
import * as Identity from "../Identity.ts"
import * as RelayRecord from "../RelayRecord.ts"
import * as SecPrograms from "../Sec.ts"
import * as AuditHere from "./AuditHere.ts"
import * as Common from "./Common.ts"
import * as Credentials from "./Credentials.ts"
import { denied, type Failure, failed, notFound, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

/** A credential file that is refused, and why, as an exit code. */
export const fileFailure = (error: CredentialFileError): Failure =>
  error.reason._tag === "NotFound" ? notFound(error.message) : denied(error.message)

/** `-` is stdin: the file arrives through a pipe, where there are no modes to check. */
export const source = (file: string): SecPrograms.Source =>
  file === "-" ? { bytes: readFileSync(0), where: "The credential on stdin" } : { path: resolve(file) }

export interface NewInput extends Common.Globals {
  readonly out: Option.Option<string>
  readonly json: boolean
  readonly timeout: number
}

export const make = Effect.fnUntraced(
  function* (input: NewInput) {
    const values = yield* Common.settings("server", Common.globalFlags(input))
    const store = yield* SecureFileStore
    const running = yield* Tier.localServer(values.home)
    const issue = Effect.gen(function* () {
      if (running === undefined && Tier.isServerHome(values.home)) {
        // A backup that fails is told on standard error: standard output is the path.
        const logging = LogNode.layer({ ...values.logging, file: undefined, stderr: true })
        return yield* Effect.provide(offline(values), logging)
      }
      const control = running ?? (yield* Tier.control(values, input.timeout))
      const made = yield* Effect.mapError(control["Control.NewCredential"](undefined), Tier.controlFailure)
      return { ...made, here: running !== undefined }
    })
    const { bytes, here, path, validUntil } = yield* issue
    const target = Option.isSome(input.out) ? resolve(input.out.value) : here ? path : resolve("clawchat-current.sec")
    if (target !== path || !here) {
      yield* Effect.mapError(store.write(target, bytes), ({ message }) => failed(message))
    }
    const until = new Date(validUntil).toISOString()
    yield* input.json ? Output.json({ path: target, validUntil: until }) : Output.line(target)
    if (!input.json) yield* Output.note(`Good for one device, until ${until}`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

/** A file for a server that does not run now and will listen on a port known beforehand. */
const offline = Effect.fnUntraced(
  function* (values: Effect.Success<ReturnType<typeof Common.settings>>) {
    const port = values.server.publicPort ?? values.server.port
    if (port === undefined) {
      return yield* usage("The server does not run and its port is drawn at start: start it first, or set server.port")
    }
    const paths = HomePaths.server(values.home)
    yield* Common.lock(paths.lock, "A server")
    const identity = yield* Identity.loadOrCreateStatic(paths.staticKey)
    const key = yield* BootstrapKey.loadOrCreate({
      configured: Option.fromUndefinedOr(values.security.bootstrapKey),
      path: paths.bootstrapKey
    })
    const { backupFolder, credentialFolder, kdf, ...about } = Credentials.options(values, identity.publicKey)
    const { bytes, content, path } = yield* CredentialWriter.issue(
      { folder: credentialFolder, key, kdf, ...(backupFolder === undefined ? {} : { backupFolder }) },
      { ...about, serverPublicKey: identity.publicKey, udpPort: port, candidates: [], bootstrapKeyId: key.id }
    )
    yield* AuditHere.note(values.home, RelayRecord.issued(content))
    return { bytes, path, validUntil: content.valid_until, here: true }
  },
  Effect.catchTags({
    SecureFileError: (error) => Effect.fail(failed(error.message)),
    IdentityError: (error) => Effect.fail(failed(error.message)),
    BootstrapKeyError: (error) => Effect.fail(failed(error.message))
  })
)

export interface ShowInput extends Common.Globals {
  readonly file: string
  readonly keyFile: Option.Option<string>
  readonly json: boolean
  readonly reveal: boolean
}

export const show = Effect.fnUntraced(
  function* (input: ShowInput) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const key = yield* Common.bootstrapKey(values, input.keyFile)
    const { content, validity } = yield* Effect.mapError(
      SecPrograms.show(source(input.file), key, { reveal: input.reveal }),
      fileFailure
    )
    if (input.json) return yield* Output.json({ ...content, validity })
    const rows = Object.entries({ ...content, validity }).map(([name, value]) => [
      `${name}:`,
      typeof value === "object" ? JSON.stringify(value) : String(value)
    ])
    yield* Output.line(Output.table(rows))
  },
  Effect.scoped,
  Effect.provide(Layers.base)
)

export const verify = Effect.fnUntraced(
  function* (input: Omit<ShowInput, "reveal">) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const key = yield* Common.bootstrapKey(values, input.keyFile)
    const verified = yield* Effect.mapError(SecPrograms.verify(source(input.file), key), fileFailure)
    const validUntil = new Date(verified.validUntil).toISOString()
    if (input.json)
      return yield* Output.json({ ...verified, validFrom: new Date(verified.validFrom).toISOString(), validUntil })
    yield* Output.line(`Good until ${validUntil}, for ${verified.serverName}`)
  },
  Effect.scoped,
  Effect.provide(Layers.base)
)
