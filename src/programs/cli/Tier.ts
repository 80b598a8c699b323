/** The way to the tier that answers a control command: the socket of one that runs on this home, else the line to a server. */
import { existsSync } from "node:fs"
import { resolve } from "node:path"
import * as Effect from "effect/Effect"
import type * as RpcClient from "effect/rpc/RpcClient"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import type { ControlError, ControlRpc } from "../../domain/ControlRpc.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ControlSocketNode from "../../layers/ControlSocketNode.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as ControlSocket from "../ControlSocket.ts"
import * as Common from "./Common.ts"
import { denied, failed, notFound, unreachable } from "./Failure.ts"

export type Control = RpcClient.FromGroup<typeof ControlRpc, RpcClientError>

/** Whether this is a server's or llm tier's home rather than a client's. */
export const isServerHome = (home: string): boolean => existsSync(HomePaths.server(home).serverPublicKey)
export const isLlmHome = (home: string): boolean => existsSync(HomePaths.llm(home).staticKey)

const socketOf = (home: string): string | undefined =>
  [HomePaths.server(home).control, HomePaths.llm(home).control].find((path) => existsSync(path))

/** The tier running on this home, by its control socket; `undefined` when none runs. */
export const local = Effect.fnUntraced(function* (home: string) {
  const path = socketOf(resolve(home))
  if (path === undefined) return undefined
  // A socket that a crash left behind refuses: then nothing runs.
  const opened = yield* Effect.option(Effect.provide(ControlSocket.client, ControlSocketNode.layerClient(path)))
  if (opened._tag === "None") return undefined
  const alive = yield* Effect.option(opened.value["Control.Echo"]({ data: "" }))
  return alive._tag === "None" ? undefined : opened.value
})

/** One connection to the server of a client's home. */
export const remote = Effect.fnUntraced(function* (values: Values, timeoutMs: number) {
  const identity = yield* Effect.mapError(ClientIdentity.make(HomePaths.client(values.home)), ({ message }) =>
    failed(message)
  )
  return yield* Effect.mapError(
    ClientLink.connect({
      identity,
      pairing: undefined,
      deviceName: Common.deviceName(values),
      patience: ClientLink.PATIENCE,
      timeoutMs
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

/** A control procedure's failure as an exit code. */
export const controlFailure = (error: ControlError | RpcClientError) => {
  if (error._tag !== "ControlError") return unreachable(`The connection was lost: ${error.message}`)
  switch (error.reason) {
    case "Denied":
      return denied(error.message)
    case "NotFound":
      return notFound(error.message)
    case "Failed":
      return failed(error.message)
  }
}
