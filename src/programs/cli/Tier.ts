/** The way to the tier that answers a control command: the socket of one that runs on this home, else the line to a server. */
import { existsSync } from "node:fs"
import { resolve } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as RpcClient from "effect/rpc/RpcClient"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import type { ControlError, ControlRpc } from "../../domain/ControlRpc.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ControlSocketNode from "../../layers/ControlSocketNode.ts"
import * as Burn from "../Burn.ts"
import * as ClientCompromise from "../ClientCompromise.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as ClockSkew from "../ClockSkew.ts"
import * as ControlSocket from "../ControlSocket.ts"
import * as LostLine from "../LostLine.ts"
import * as Common from "./Common.ts"
import { denied, failed, notFound, unreachable } from "./Failure.ts"
import * as Output from "./Output.ts"

export type Control = RpcClient.FromGroup<typeof ControlRpc, RpcClientError>

/** Whether this is a server's or llm tier's home rather than a client's. */
export const isServerHome = (home: string): boolean => existsSync(HomePaths.server(home).serverPublicKey)
export const isLlmHome = (home: string): boolean => existsSync(HomePaths.llm(home).staticKey)

/** Milliseconds that a tier on this host may take to answer. */
const LOCAL_MS = 5000

/** The tier behind a control socket; `undefined` when none runs: a socket that a crash left behind refuses. */
const behind = (path: string) =>
  Effect.gen(function* () {
    if (!existsSync(path)) return undefined
    // In the scope of whoever asks: the client reaches for its socket with every call.
    const socket = yield* Layer.build(ControlSocketNode.layerClient(path))
    const opened = yield* Effect.provideContext(ControlSocket.client, socket)
    yield* opened["Control.Echo"]({ data: "" })
    return opened
  }).pipe(
    Effect.timeout(LOCAL_MS),
    Effect.orElseSucceed(() => undefined)
  )

/** The server that runs on this home. */
export const localServer = (home: string) => behind(HomePaths.server(resolve(home)).control)

/** The tier that runs on this home: the server, else the llm tier. */
export const local = Effect.fnUntraced(function* (home: string) {
  return (
    (yield* localServer(home)) ??
    (yield* behind(HomePaths.llm(resolve(home)).control)) ??
    (yield* behind(HomePaths.rendezvous(resolve(home)).control))
  )
})

/** Who the client of this home is. A home that is not paired is refused, and nothing is made there. */
export const identity = Effect.fnUntraced(function* (values: Values) {
  const paths = HomePaths.client(values.home)
  const burnt = yield* Effect.mapError(
    Burn.finish(Burn.client(paths), () => Effect.void),
    ({ message }) => failed(message)
  )
  if (Option.isSome(burnt)) return yield* denied(ClientCompromise.BURNT)
  const isPaired = yield* Effect.mapError(ClientIdentity.isPaired(paths), ({ message }) => failed(message))
  if (!isPaired) return yield* denied(ClientLink.UNPAIRED)
  return yield* Effect.mapError(ClientIdentity.make(paths), ({ message }) => failed(message))
})

/** Tells of this device's clock, which is so far off. */
const warnOfClock = (skewMs: number): Effect.Effect<void> => Output.note(`warning: ${ClockSkew.sentence(skewMs)}`)

/** One connection to the server of a client's home. */
export const remote = Effect.fnUntraced(function* (values: Values, timeoutMs: number) {
  const known = yield* identity(values)
  return yield* Effect.mapError(
    ClientLink.connect({
      identity: known,
      pairing: undefined,
      deviceName: Common.deviceName(values),
      patience: ClientLink.patience(values.networking),
      rekeyIntervalMs: values.encryption.keyRotationIntervalMs,
      timeoutMs,
      skewed: warnOfClock
    }),
    Common.connectFailure
  )
})

/** Control procedures of the tier on this home, else of the server that this home is paired with. */
export const control = Effect.fnUntraced(function* (values: Values, timeoutMs: number) {
  const running: Control | undefined = yield* local(values.home)
  if (running !== undefined) return running
  if (isServerHome(values.home) || isLlmHome(values.home)) {
    return yield* unreachable(`No tier runs on ${values.home}: start it with clawchat server or clawchat llm`)
  }
  const { server } = yield* remote(values, timeoutMs)
  const procedures: Control = server
  return procedures
})

/** A call that brought no answer, as an exit code. */
export const lost = (error: RpcClientError) => {
  const sentence = LostLine.sentence(error)
  return sentence === LostLine.NOT_UNDERSTOOD ? failed(sentence) : unreachable(LostLine.LOST)
}

/** A control procedure's failure as an exit code. */
export const controlFailure = (error: ControlError | RpcClientError) => {
  if (error._tag !== "ControlError") return lost(error)
  switch (error.reason) {
    case "Denied":
      return denied(error.message)
    case "NotFound":
      return notFound(error.message)
    case "Failed":
      return failed(error.message)
  }
}
