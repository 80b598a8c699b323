/** `clawchat rendezvous`: a blind relay, and the line by which a server learns of it. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as HomePaths from "../../domain/HomePaths.ts"
import { format } from "../../domain/protocol/Address.ts"
import * as RendezvousLine from "../../domain/RendezvousLine.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ControlSocketNode from "../../layers/ControlSocketNode.ts"
import * as LogNode from "../../layers/LogNode.ts"
import { SecureFileStore } from "../../services/SecureFileStore.ts"
import * as Control from "../Control.ts"
import * as ControlSocket from "../ControlSocket.ts"
import * as Rendezvous from "../Rendezvous.ts"
import * as Common from "./Common.ts"
import { failed, notFound } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"

export interface Input extends Common.Globals {
  readonly port: Option.Option<number>
  readonly bind: Option.Option<string>
  readonly ip: Option.Option<string>
  readonly logFile: Option.Option<string>
  readonly key: Option.Option<string>
}

/** Where servers and devices find the relay. */
const publicAddress = ({ server }: Values, port: number) => {
  const isAny = server.bind === "0.0.0.0" || server.bind === "::"
  return { host: server.ip ?? (isAny ? Common.ownAddress() : server.bind), port: server.publicPort ?? port }
}

/** Prints the line of a relay that has run, or whose port is set. */
const printKey = Effect.fnUntraced(function* (values: Values, paths: HomePaths.RendezvousPaths) {
  const store = yield* SecureFileStore
  const port = values.server.port ?? Option.getOrUndefined(yield* Rendezvous.lastPort(paths))
  if (port === undefined || Option.isNone(yield* store.read(paths.key))) {
    return yield* notFound(`No rendezvous has run on ${paths.home} yet: start it with clawchat rendezvous`)
  }
  const key = yield* Rendezvous.loadOrCreateKey(paths.key)
  yield* Output.line(RendezvousLine.format({ relay: publicAddress(values, port), key }))
})

const serve = Effect.fnUntraced(function* (values: Values, paths: HomePaths.RendezvousPaths) {
  yield* Common.lock(paths.lock, "A rendezvous")
  const relay = yield* Rendezvous.make({
    paths,
    version: Common.VERSION,
    pid: process.pid,
    bind: { host: values.server.bind, port: values.server.port ?? 0 }
  })
  const socket = yield* Layer.build(ControlSocketNode.layerServer(paths.control))
  const control = ControlSocket.serve(Control.layerLlm(relay.status))
  yield* Effect.forkScoped(Effect.provideContext(control, socket))
  yield* Output.line(`Listening on UDP ${format(relay.address)}`)
  const where = "config/rendezvous.key of the server's home (mode 0600)"
  if (process.stdout.isTTY) {
    const line = RendezvousLine.format({ relay: publicAddress(values, relay.address.port), key: relay.key })
    yield* Output.note(`Put this line into ${where}; it is secret:\n${line}`)
  } else {
    // What a journal keeps is no place for a key.
    yield* Output.note(`The line for ${where}: clawchat rendezvous key --home ${paths.home}`)
  }
  return yield* relay.run
})

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("rendezvous", {
      ...Common.globalFlags(input),
      port: Option.getOrUndefined(input.port),
      bind: Option.getOrUndefined(input.bind),
      ip: Option.getOrUndefined(input.ip),
      "log-file": Option.getOrUndefined(input.logFile)
    })
    const paths = HomePaths.rendezvous(values.home)
    if (Option.isSome(input.key)) return yield* printKey(values, paths)
    return yield* Effect.provide(serve(values, paths), LogNode.layer({ ...values.logging, stderr: true }))
  },
  Effect.scoped,
  Effect.catchTags({
    UdpSocketError: (error) => Effect.fail(failed(error.message)),
    SecureFileError: (error) => Effect.fail(failed(error.message)),
    SocketServerError: (error) => Effect.fail(failed(`The control socket could not be opened: ${error.message}`)),
    IdentityError: (error) => Effect.fail(failed(error.message))
  }),
  Effect.provide(Layers.network)
)
