/** `clawchat server`: the relay tier. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as HomePaths from "../../domain/HomePaths.ts"
import { format, isLoopback } from "../../domain/protocol/Address.ts"
import { hostKind } from "../../domain/protocol/HostKind.ts"
import type { Values } from "../../domain/Settings.ts"
import * as AuditNode from "../../layers/AuditNode.ts"
import * as ControlSocketNode from "../../layers/ControlSocketNode.ts"
import * as HostAddresses from "../../layers/HostAddresses.ts"
import * as LogNode from "../../layers/LogNode.ts"
import * as PortMapperNode from "../../layers/PortMapperNode.ts"
import * as RemoteFilesNode from "../../layers/RemoteFilesNode.ts"
import { Devices } from "../../services/Devices.ts"
import { SecureFileStore } from "../../services/SecureFileStore.ts"
import * as BootstrapKey from "../BootstrapKey.ts"
import * as Control from "../Control.ts"
import * as ControlSocket from "../ControlSocket.ts"
import * as Identity from "../Identity.ts"
import * as MappedPort from "../MappedPort.ts"
import * as Relay from "../Relay.ts"
import * as RendezvousKeys from "../RendezvousKeys.ts"
import * as ServerCompromise from "../ServerCompromise.ts"
import * as TurnKeys from "../TurnKeys.ts"
import * as Common from "./Common.ts"
import * as Credentials from "./Credentials.ts"
import { failed, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import { giveWay } from "./Succession.ts"

export interface Input extends Common.Globals {
  readonly port: Option.Option<number>
  readonly bind: Option.Option<string>
  readonly ip: Option.Option<string>
  readonly publicPort: Option.Option<number>
  readonly name: Option.Option<string>
  readonly basePath: Option.Option<string>
  readonly stun: ReadonlyArray<string>
  readonly rendezvous: Option.Option<string>
  readonly turn: Option.Option<string>
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

/** The first word of a server that comes after one whose keys were burnt. */
const announceFresh = Effect.fnUntraced(function* (values: Values, at: number) {
  const file = HomePaths.credentials(values.security.directory).credential
  yield* Effect.logWarning("A fresh server after COMPROMISED: new identity, new credential file, no devices")
  yield* Output.line(`COMPROMISED: all keys were burnt at ${new Date(at).toISOString()}; every device is out`)
  yield* Output.line(`Next step: carry the new ${file} to each device by hand (scp), then there: clawchat pair FILE`)
  if (values.security.bootstrapKey !== undefined) {
    yield* Output.line(
      "The bootstrap key stands in the settings (CLAWCHAT_BOOTSTRAP_KEY) and is still the old one: change it"
    )
  }
  if (values.server.port !== undefined) {
    yield* Output.line(
      `The port ${values.server.port} is fixed by the settings and stays; it is silent to all old keys`
    )
  }
  const { rendezvous, turn } = values.networking
  if (rendezvous.length > 0 || turn.length > 0) {
    yield* Output.line("Keys of rendezvous and TURN servers are not ours to change: make new ones there")
  }
})

/** Whether nothing that forgets stands before this host: the address that devices know is its own, and one for all the world. */
const isReachedDirectly = (publicIp: string): Effect.Effect<boolean> =>
  Effect.map(
    HostAddresses.addresses,
    (own) => isLoopback(publicIp) || (own.includes(publicIp) && hostKind(publicIp) === "public")
  )

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
      stun: input.stun.length === 0 ? undefined : input.stun.join(","),
      rendezvous: Option.getOrUndefined(input.rendezvous),
      turn: Option.getOrUndefined(input.turn),
      "security-dir": Option.getOrUndefined(input.securityDir),
      "log-file": Option.getOrUndefined(input.logFile)
    })
    const paths = HomePaths.server(values.home)
    const plan = Credentials.burns(values)
    yield* Common.lock(paths.lock, "A server", plan)
    const logging = LogNode.layer({ ...values.logging, stderr: true })
    const services = Layer.mergeAll(
      AuditNode.layer(paths.audit),
      Devices.layer(paths.devices),
      RemoteFilesNode.layer({ ...values.files, base: values.files.basePath, sweeps: true }),
      PortMapperNode.layer
    )

    // Before anything is read that may have to be burnt still.
    yield* ServerCompromise.prepare(plan, paths, HomePaths.llm(values.home)).pipe(
      Effect.flatMap(Option.match({ onNone: () => Effect.void, onSome: (burnt) => announceFresh(values, burnt.at) })),
      Effect.provide(logging)
    )

    const serve = Effect.gen(function* () {
      const identity = yield* Identity.loadOrCreateStatic(paths.staticKey)
      const bootstrapKey = yield* BootstrapKey.loadOrCreate({
        configured: Option.fromUndefinedOr(values.security.bootstrapKey),
        path: paths.bootstrapKey
      })
      // Who waits for a line finds the control socket too.
      const ready = yield* Latch.make()
      const credentials = Credentials.options(values, identity.publicKey)
      const relay = yield* Relay.make({
        paths,
        plan,
        version: Common.VERSION,
        pid: process.pid,
        ...credentials,
        bind: { host: values.server.bind, port: values.server.port ?? 0 },
        stun: values.networking.natDetection ? values.networking.stun : [],
        portMapper: yield* MappedPort.asker(values),
        turn: Option.getOrUndefined(
          yield* TurnKeys.load({
            configured: {
              username: values.networking.turnUsername,
              password: values.networking.turnPassword,
              secret: values.networking.turnSecret
            },
            path: paths.turnCredentials,
            servers: values.networking.turn
          })
        ),
        rendezvous: yield* RendezvousKeys.load({
          configured: values.networking.rendezvousKey,
          path: paths.rendezvousKey,
          wanted: values.networking.rendezvous
        }),
        portRotationMs: values.networking.portRotationIntervalMs,
        keyRotationMs: values.encryption.keyRotationIntervalMs,
        llm: { host: values.llm.host, port: values.llm.port },
        patience: {
          // Behind a NAT of ours it is we who must keep its mapping; else devices may be as quiet as their own NATs let them.
          ...((yield* isReachedDirectly(credentials.publicIp)) ? { askMs: values.networking.idleTimeoutMs / 2 } : {}),
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
  Effect.catchTag("Burned", giveWay("server")),
  Effect.scoped,
  Effect.catchTags({
    TransportError: (error) => Effect.fail(failed(error.message)),
    SecureFileError: (error) => Effect.fail(failed(error.message)),
    SocketServerError: (error) => Effect.fail(failed(`The control socket could not be opened: ${error.message}`)),
    IdentityError: (error) => Effect.fail(failed(error.message)),
    RendezvousKeyError: (error) => Effect.fail(usage(error.message)),
    TurnKeyError: (error) => Effect.fail(usage(error.message)),
    BurnError: (error) => Effect.fail(failed(error.message)),
    BootstrapKeyError: (error) => Effect.fail(failed(error.message)),
    FilesError: (error) => Effect.fail(failed(error.message))
  }),
  Effect.provide(Layers.network)
)
