/** Control procedures over the control socket: the owner's side door to a running tier. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Rpc from "effect/rpc/Rpc"
import * as RpcClient from "effect/rpc/RpcClient"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schedule from "effect/Schedule"
import type * as SocketServer from "effect/socket/SocketServer"
import { ControlRpc } from "../domain/ControlRpc.ts"

/** Serves for ever. */
export const serve = <R>(
  handlers: Layer.Layer<Rpc.ToHandler<RpcGroup.Rpcs<typeof ControlRpc>>, never, R>
): Effect.Effect<never, never, R | SocketServer.SocketServer> =>
  Effect.scoped(
    Effect.gen(function* () {
      const protocol = yield* RpcServer.makeProtocolSocketServer
      return yield* Effect.provideService(RpcServer.make(ControlRpc), RpcServer.Protocol, protocol)
    })
  ).pipe(Effect.provide(handlers), Effect.provide(RpcSerialization.layerNdjson))

/** A client on the Socket of the scope. */
export const client = Effect.gen(function* () {
  const serialization = yield* Effect.provide(RpcSerialization.RpcSerialization, RpcSerialization.layerNdjson)
  const protocol = yield* RpcClient.makeProtocolSocket({
    pingInterval: "1 day",
    retryPolicy: Schedule.recurs(0)
  }).pipe(Effect.provideService(RpcSerialization.RpcSerialization, serialization))
  return yield* Effect.provideService(RpcClient.make(ControlRpc), RpcClient.Protocol, protocol)
})
