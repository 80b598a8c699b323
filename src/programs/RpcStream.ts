/**
 * Effect RPC over one stream of a Connection. Requests, streaming answers, back pressure and interruption are those of
 * Effect's stock protocols; liveness is the transport's, so they need no pings; bounds are `RpcLimits`.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as NetAddress from "effect/net/NetAddress"
import type * as Rpc from "effect/rpc/Rpc"
import * as RpcClient from "effect/rpc/RpcClient"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import { RequestId } from "effect/rpc/RpcMessage"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schedule from "effect/Schedule"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import type { TransportError, TransportStream } from "../services/Transport.ts"
import * as RpcAhead from "./RpcAhead.ts"
import * as RpcLimits from "./RpcLimits.ts"
import * as StreamSocket from "./StreamSocket.ts"

/** Serves one group of procedures on a stream until its peer ends it, or asks for more than there is. */
export const serve = <Rpcs extends Rpc.Any>(
  group: RpcGroup.RpcGroup<Rpcs>,
  stream: TransportStream,
  options: {
    /** Bytes of one message; default 2 MiB. */
    readonly maxLineBytes?: number
    /** The item of a streaming answer behind which it waits until all was read; default: none. Items are as they are sent. */
    readonly isLast?: (item: unknown) => boolean
  } = {}
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const over = yield* Deferred.make<void>()
      const end = Effect.asVoid(Deferred.succeed(over, undefined))
      const socket = StreamSocket.make(stream, {
        onFailure: () => {},
        read: RpcLimits.readLines(stream, options.maxLineBytes),
        // Calls that are cut off still want to say so: not to a peer that takes nothing.
        write: (bytes) => Effect.raceFirst(Effect.interruptible(stream.write(bytes)), Deferred.await(over))
      })
      const server = SocketServer.SocketServer.of({
        address: NetAddress.unixPathAddress("stream"),
        run: (handler) => handler(socket).pipe(Effect.exit, Effect.andThen(end), Effect.andThen(Effect.never))
      })
      const protocol = yield* Effect.provideService(
        RpcServer.makeProtocolSocketServer,
        SocketServer.SocketServer,
        server
      )
      const serving = Effect.provideService(
        // A bug in one procedure is the answer to one call, not the end of all.
        RpcServer.make(group, { disableFatalDefects: true, disableTracing: true }),
        RpcServer.Protocol,
        RpcAhead.protocol(RpcLimits.protocol(group, protocol, end), options.isLast ?? (() => false))
      )
      // However this ends, the end is known before the calls that still run are told: else one whose answer nobody takes
      // would hold it up for as long as the connection lasts.
      const running = yield* Effect.forkScoped(serving)
      yield* Effect.ensuring(Effect.raceFirst(Fiber.join(running), Deferred.await(over)), end)
    })
  ).pipe(Effect.provide(RpcSerialization.layerNdjson))

/** Calls a group of procedures on a stream; the stream ends with the scope. */
export const client = Effect.fnUntraced(function* <Rpcs extends Rpc.Any>(
  group: RpcGroup.RpcGroup<Rpcs>,
  stream: TransportStream,
  onFailure: (error: TransportError) => void
) {
  const serialization = yield* Effect.provide(RpcSerialization.RpcSerialization, RpcSerialization.layerNdjson)
  const protocol = yield* RpcClient.makeProtocolSocket({
    pingInterval: "1 day",
    // A stream is never opened twice: who calls opens another.
    retryPolicy: Schedule.recurs(0)
  }).pipe(
    Effect.provideService(
      Socket.Socket,
      StreamSocket.make(stream, { onFailure, read: RpcLimits.readAnswers(stream), write: stream.write })
    ),
    Effect.provideService(RpcSerialization.RpcSerialization, serialization)
  )
  // Requests are counted per stream and carry no trace: neither is the peer's business, and the bytes of a run repeat.
  let requests = 0
  const options = { disableTracing: true, generateRequestId: () => RequestId(requests++) }
  const procedures = yield* Effect.provideService(RpcClient.make(group, options), RpcClient.Protocol, protocol)
  // The stock client reads in a fiber of its own: one that has not begun would miss that the stream is reset already.
  yield* Effect.yieldNow
  return procedures
})
