/** `clawchat server`: the relay tier. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as CredentialFile from "../../domain/CredentialFile.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import { format } from "../../domain/protocol/Address.ts"
import * as ControlSocketNode from "../../layers/ControlSocketNode.ts"
import * as LogNode from "../../layers/LogNode.ts"
import * as RemoteFilesNode from "../../layers/RemoteFilesNode.ts"
import { Devices } from "../../services/Devices.ts"
import * as BootstrapKey from "../BootstrapKey.ts"
import * as Control from "../Control.ts"
import * as ControlSocket from "../ControlSocket.ts"
import * as Identity from "../Identity.ts"
import * as Relay from "../Relay.ts"
import * as Common from "./Common.ts"
import { failed } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"

export interface Input extends Common.Globals {
  readonly port: Option.Option<number>
  readonly bind: Option.Option<string>
  readonly ip: Option.Option<string>
  readonly publicPort: Option.Option<number>
  readonly name: Option.Option<string>
  readonly basePath: Option.Option<string>
}

/** Argon2id as RFC 9106 recommends where memory is limited: 64 MiB, three passes, four lanes. */
const ARGON2ID: CredentialFile.Kdf = { name: "argon2id", memoryKib: 65_536, passes: 3, parallelism: 4 }

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("server", {
      ...Common.globalFlags(input),
      port: Option.getOrUndefined(input.port),
      bind: Option.getOrUndefined(input.bind),
      ip: Option.getOrUndefined(input.ip),
      "public-port": Option.getOrUndefined(input.publicPort),
      name: Option.getOrUndefined(input.name),
      "base-path": Option.getOrUndefined(input.basePath)
    })
    const paths = HomePaths.server(values.home)
    yield* Common.lock(paths.lock, "A server")
    const logging = LogNode.layer({ ...values.logging, stderr: true })
    const services = Layer.mergeAll(
      Devices.layer(paths.devices),
      RemoteFilesNode.layer({ base: values.files.basePath })
    )

    const serve = Effect.gen(function* () {
      const identity = yield* Identity.loadOrCreateStatic(paths.staticKey)
      const bootstrapKey = yield* BootstrapKey.loadOrCreate({
        configured: Option.fromUndefinedOr(values.security.bootstrapKey),
        path: paths.bootstrapKey
      })
      const relay = yield* Relay.make({
        paths,
        version: Common.VERSION,
        pid: process.pid,
        serverId: Common.serverId(values, identity.publicKey),
        serverName: values.server.name,
        bind: { host: values.server.bind, port: values.server.port ?? 0 },
        publicIp: values.server.ip ?? (values.server.bind === "0.0.0.0" ? Common.ownAddress() : values.server.bind),
        publicPort: values.server.publicPort,
        llm: { host: values.llm.host, port: values.llm.port },
        patience: {
          keepAliveMs: values.networking.keepaliveIntervalMs,
          // Longer than a client's keep-alive: only that tells us where a client went whose NAT forgot it.
          deadAfterMs: 25_000,
          idleTimeoutMs: values.networking.idleTimeoutMs
        },
        maxSessions: values.limits.maxSessions,
        bootstrapKey,
        kdf: values.security.kdf === "argon2id" ? ARGON2ID : CredentialFile.DEFAULT_KDF,
        credentialFolder: values.security.directory,
        backupFolder: values.security.backupDirectory,
        validityMs: values.security.fileValidityMs,
        rotationMs: values.security.autoRegenerateMs,
        cleanupMs: values.security.cleanupIntervalMs,
        natTraversal: { stun: [], turn: [], rendezvous: [], timeout: values.networking.holePunchTimeoutMs / 1000 },
        gracePeriodSeconds: values.encryption.gracePeriodMs / 1000,
        announce: Output.line
      })
      yield* Output.line(`Listening on UDP ${format(relay.address)}`)
      yield* Output.line(`Credential file: ${HomePaths.credentials(values.security.directory).credential}`)
      const control = ControlSocket.serve(Control.layerServer(relay.control, { type: "owner" }))
      yield* Effect.forkScoped(Effect.provide(control, ControlSocketNode.layerServer(paths.control)))
      return yield* relay.run
    })
    return yield* serve.pipe(Effect.provide(services), Effect.provide(logging))
  },
  Effect.scoped,
  Effect.catchTags({
    TransportError: (error) => Effect.fail(failed(error.message)),
    SecureFileError: (error) => Effect.fail(failed(error.message)),
    IdentityError: (error) => Effect.fail(failed(error.message)),
    BootstrapKeyError: (error) => Effect.fail(failed(error.message)),
    FilesError: (error) => Effect.fail(failed(error.message))
  }),
  Effect.provide(Layers.network)
)
