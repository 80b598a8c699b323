/**
 * Effect RPC over one stream of a Connection. A stream is shown to Effect's stock RPC protocols as a socket, so requests,
 * streaming answers, back pressure and interruption are theirs; liveness is the transport's, so they need no pings.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as NetAddress from "effect/net/NetAddress"
import type * as Rpc from "effect/rpc/Rpc"
import * as RpcClient from "effect/rpc/RpcClient"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schedule from "effect/Schedule"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"

const encoder = new TextEncoder()

const readError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause }) })

const ended = (): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000, closeReason: "end of stream" }) })

/** `onFailure` hears why reading ended, when it was not the peer's orderly end. */
const socketOf = (stream: TransportStream, onFailure: (error: TransportError) => void): Socket.Socket => {
  const pull = Effect.mapError(stream.read, (error) => {
    if (Cause.isDone(error)) return ended()
    onFailure(error)
    return readError(error)
  })
  const write = (chunk: Uint8Array | string | Socket.CloseEvent) =>
    Socket.isCloseEvent(chunk)
      ? stream.finish
      : Effect.mapError(
          stream.write(typeof chunk === "string" ? encoder.encode(chunk) : chunk),
          (cause) => new Socket.SocketError({ reason: new Socket.SocketWriteError({ cause }) })
        )
  return Socket.make({
    reader: Effect.acquireRelease(
      Effect.succeed({ pull, upgrade: () => Effect.fail(readError("a stream cannot be upgraded")) }),
      () => stream.stop(StreamHeader.Code.Cancelled)
    ),
    writer: Effect.acquireRelease(
      Effect.succeed({
        write,
        writeAll: (chunks: ReadonlyArray<Uint8Array | string>) => Effect.forEach(chunks, write, { discard: true })
      }),
      () => stream.finish
    )
  })
}

/** Serves one group of procedures on a stream until its peer ends it. */
export const serve = <Rpcs extends Rpc.Any>(group: RpcGroup.RpcGroup<Rpcs>, stream: TransportStream) =>
  Effect.scoped(
    Effect.gen(function* () {
      const over = yield* Deferred.make<void>()
      const socket = socketOf(stream, () => {})
      const server = SocketServer.SocketServer.of({
        address: NetAddress.unixPathAddress("stream"),
        run: (handler) =>
          handler(socket).pipe(
            Effect.exit,
            Effect.andThen(Deferred.succeed(over, undefined)),
            Effect.andThen(Effect.never)
          )
      })
      const protocol = yield* Effect.provideService(
        RpcServer.makeProtocolSocketServer,
        SocketServer.SocketServer,
        server
      )
      const serving = Effect.provideService(RpcServer.make(group), RpcServer.Protocol, protocol)
      yield* Effect.raceFirst(serving, Deferred.await(over))
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
    Effect.provideService(Socket.Socket, socketOf(stream, onFailure)),
    Effect.provideService(RpcSerialization.RpcSerialization, serialization)
  )
  return yield* Effect.provideService(RpcClient.make(group), RpcClient.Protocol, protocol)
})
