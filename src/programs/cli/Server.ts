/** `clawchat server`: the relay tier. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as HomePaths from "../../domain/HomePaths.ts"
import { format } from "../../domain/protocol/Address.ts"
import * as ControlSocketNode from "../../layers/ControlSocketNode.ts"
import * as LogNode from "../../layers/LogNode.ts"
import * as RemoteFilesNode from "../../layers/RemoteFilesNode.ts"
import { Devices } from "../../services/Devices.ts"
import { SecureFileStore } from "../../services/SecureFileStore.ts"
import * as BootstrapKey from "../BootstrapKey.ts"
import * as Control from "../Control.ts"
import * as ControlSocket from "../ControlSocket.ts"
import * as Identity from "../Identity.ts"
import * as Relay from "../Relay.ts"
import * as Common from "./Common.ts"
import * as Credentials from "./Credentials.ts"
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
  readonly securityDir: Option.Option<string>
  readonly logFile: Option.Option<string>
}

/** Says where the credential file stands, once it does. */
const announceFile = Effect.fnUntraced(function* (path: string) {
  const store = yield* SecureFileStore
  yield* store.watch(path).pipe(
    Stream.mapEffect(() => Effect.orElseSucceed(store.read(path), () => Option.none())),
    Stream.filter(Option.isSome),
    Stream.take(1),
    Stream.runForEach(() => Output.line(`Credential file: ${path}`))
  )
})

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("server", {
      ...Common.globalFlags(input),
      port: Option.getOrUndefined(input.port),
      bind: Option.getOrUndefined(input.bind),
      ip: Option.getOrUndefined(input.ip),
      "public-port": Option.getOrUndefined(input.publicPort),
      name: Option.getOrUndefined(input.name),
      "base-path": Option.getOrUndefined(input.basePath),
      "security-dir": Option.getOrUndefined(input.securityDir),
      "log-file": Option.getOrUndefined(input.logFile)
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
      // Who waits for a line finds the control socket too.
      const ready = yield* Latch.make()
      const relay = yield* Relay.make({
        paths,
        version: Common.VERSION,
        pid: process.pid,
        ...Credentials.options(values, identity.publicKey),
        bind: { host: values.server.bind, port: values.server.port ?? 0 },
        llm: { host: values.llm.host, port: values.llm.port },
        patience: {
          keepAliveMs: values.networking.keepaliveIntervalMs,
          // Longer than a client's keep-alive: only that tells us where a client went whose NAT forgot it.
          deadAfterMs: 25_000,
          idleTimeoutMs: values.networking.idleTimeoutMs
        },
        maxSessions: values.limits.maxSessions,
        bootstrapKey,
        cleanupMs: values.security.cleanupIntervalMs,
        announce: (line) => Effect.andThen(ready.await, Output.line(line))
      })
      const socket = yield* Layer.build(ControlSocketNode.layerServer(paths.control))
      const control = ControlSocket.serve(Control.layerServer(relay.control, { type: "owner" }))
      yield* Effect.forkScoped(Effect.provideContext(control, socket))
      yield* Output.line(`Listening on UDP ${format(relay.address)}`)
      yield* ready.open
      yield* Effect.forkScoped(announceFile(HomePaths.credentials(values.security.directory).credential))
      return yield* relay.run
    })
    return yield* serve.pipe(Effect.provide(services), Effect.provide(logging))
  },
  Effect.scoped,
  Effect.catchTags({
    TransportError: (error) => Effect.fail(failed(error.message)),
    SecureFileError: (error) => Effect.fail(failed(error.message)),
    SocketServerError: (error) => Effect.fail(failed(`The control socket could not be opened: ${error.message}`)),
    IdentityError: (error) => Effect.fail(failed(error.message)),
    BootstrapKeyError: (error) => Effect.fail(failed(error.message)),
    FilesError: (error) => Effect.fail(failed(error.message))
  }),
  Effect.provide(Layers.network)
)
