/**
 * Effect RPC over one stream of a Connection. A stream is shown to Effect's stock RPC protocols as a socket, so requests,
 * streaming answers, back pressure and interruption are theirs; liveness is the transport's, so they need no pings.
 *
 * The stock server trusts its clients. Ours may be stolen devices, so `serve` bounds what one stream can make it hold: the
 * length of a line, the calls that run at a time, and the streaming answers that are open.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as NetAddress from "effect/net/NetAddress"
import type * as Rpc from "effect/rpc/Rpc"
import * as RpcClient from "effect/rpc/RpcClient"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import { type FromServerEncoded, RequestId } from "effect/rpc/RpcMessage"
import * as RpcSchema from "effect/rpc/RpcSchema"
import * as RpcSerialization from "effect/rpc/RpcSerialization"
import * as RpcServer from "effect/rpc/RpcServer"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Socket from "effect/socket/Socket"
import * as SocketServer from "effect/socket/SocketServer"
import { LineBuffer } from "../domain/LineBuffer.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"

const encoder = new TextEncoder()

const readError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause }) })

const ended = (): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000, closeReason: "end of stream" }) })

/** Bytes of one message to a server: the longest question there is, every byte of it escaped. */
const MAX_LINE_BYTES = 2 * 1024 * 1024
/** Calls of one stream that run at a time; reading waits for one of them to be answered, and the answer to be taken. */
const MAX_CALLS = 8
/** Streaming answers of one stream that are open at a time; nobody needs that many, so one more ends the stream. */
const MAX_OPEN_ANSWERS = 64

interface SocketOptions {
  /** Hears why reading ended, when it was not the peer's orderly end. */
  readonly onFailure: (error: TransportError) => void
  readonly read: TransportStream["read"]
  readonly write: TransportStream["write"]
}

const socketOf = (stream: TransportStream, options: SocketOptions): Socket.Socket => {
  const pull = Effect.mapError(options.read, (error) => {
    if (Cause.isDone(error)) return ended()
    options.onFailure(error)
    return readError(error)
  })
  const write = (chunk: Uint8Array | string | Socket.CloseEvent) =>
    Socket.isCloseEvent(chunk)
      ? stream.finish
      : Effect.mapError(
          options.write(typeof chunk === "string" ? encoder.encode(chunk) : chunk),
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

/** Reads whole lines only; a line that is too long ends the stream as if the peer had given it up. */
const readLines = (stream: TransportStream): TransportStream["read"] => {
  const lines = new LineBuffer(MAX_LINE_BYTES)
  const read: TransportStream["read"] = Effect.flatMap(stream.read, (chunks) => {
    const whole: Array<Uint8Array> = []
    for (const chunk of chunks) {
      const more = lines.push(chunk)
      if (more === undefined) return Cause.done()
      if (more.length > 0) whole.push(more)
    }
    return Arr.isArrayNonEmpty(whole) ? Effect.succeed(whole) : read
  })
  return read
}

/** Fibers are numbered through the whole process: how much it does, for whomever, is not the caller's business. */
const withoutFibers = (response: FromServerEncoded): FromServerEncoded => {
  if (response._tag !== "Exit" || response.exit._tag !== "Failure") return response
  const cause = response.exit.cause.map((reason) =>
    reason._tag === "Interrupt" ? ({ _tag: "Interrupt", fiberId: null } as const) : reason
  )
  return { ...response, exit: { _tag: "Failure", cause } }
}

/** The protocol as far as one stream may use it; `end` is called when it goes further. */
const bounded = <Rpcs extends Rpc.Any>(
  group: RpcGroup.RpcGroup<Rpcs>,
  protocol: RpcServer.Protocol["Service"],
  end: Effect.Effect<void>
): RpcServer.Protocol["Service"] => {
  const streaming = new Set<string>()
  for (const [tag, rpc] of group.requests) {
    const success = "successSchema" in rpc ? rpc.successSchema : undefined
    if (Schema.isSchema(success) && RpcSchema.isStreamSchema(success)) streaming.add(tag)
  }
  const calls = new Set<string | number>()
  const answers = new Set<string | number>()
  const room = Latch.makeUnsafe(true)
  return {
    ...protocol,
    run: (serveMessage) => {
      // The stock server takes a message's fields for what they should be, and throws where they are not.
      const serve: typeof serveMessage = (client, message) =>
        Effect.catchDefect(
          Effect.suspend(() => serveMessage(client, message)),
          () => end
        )
      return protocol.run((client, message) => {
        if (message._tag !== "Request") return serve(client, message)
        const { discard, id, isNotification, tag } = message
        // Our clients send none of these: calls without an answer, calls without a name, and two calls of one name.
        if (isNotification === true || discard === true || (typeof id !== "string" && typeof id !== "number"))
          return end
        if (calls.has(id) || answers.has(id)) return end
        if (streaming.has(tag)) {
          if (answers.size >= MAX_OPEN_ANSWERS) return end
          answers.add(id)
          return serve(client, message)
        }
        return Effect.andThen(
          room.await,
          Effect.suspend(() => {
            calls.add(id)
            if (calls.size >= MAX_CALLS) room.closeUnsafe()
            return serve(client, message)
          })
        )
      })
    },
    send: (client, response, transferables) => {
      const sent = protocol.send(client, withoutFibers(response), transferables)
      if (response._tag !== "Exit") return sent
      // An answer that nobody takes keeps its place.
      return Effect.ensuring(
        sent,
        Effect.sync(() => {
          answers.delete(response.requestId)
          calls.delete(response.requestId)
          if (calls.size < MAX_CALLS) room.openUnsafe()
        })
      )
    }
  }
}

/** Serves one group of procedures on a stream until its peer ends it, or asks for more than there is. */
export const serve = <Rpcs extends Rpc.Any>(group: RpcGroup.RpcGroup<Rpcs>, stream: TransportStream) =>
  Effect.scoped(
    Effect.gen(function* () {
      const over = yield* Deferred.make<void>()
      const end = Effect.asVoid(Deferred.succeed(over, undefined))
      const socket = socketOf(stream, {
        onFailure: () => {},
        read: readLines(stream),
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
        bounded(group, protocol, end)
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
    Effect.provideService(Socket.Socket, socketOf(stream, { onFailure, read: stream.read, write: stream.write })),
    Effect.provideService(RpcSerialization.RpcSerialization, serialization)
  )
  // Requests are counted per stream and carry no trace: neither is the peer's business, and the bytes of a run repeat.
  let requests = 0
  const options = { disableTracing: true, generateRequestId: () => RequestId(requests++) }
  return yield* Effect.provideService(RpcClient.make(group, options), RpcClient.Protocol, protocol)
})
