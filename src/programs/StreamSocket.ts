/** A stream of a Connection shown to Effect as a socket. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Socket from "effect/socket/Socket"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"

const encoder = new TextEncoder()

const readError = (cause: unknown): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketReadError({ cause }) })

const ended = (): Socket.SocketError =>
  new Socket.SocketError({ reason: new Socket.SocketCloseError({ code: 1000, closeReason: "end of stream" }) })

export interface Options {
  /** Hears why reading ended, when it was not the peer's orderly end. */
  readonly onFailure: (error: TransportError) => void
  readonly read: TransportStream["read"]
  readonly write: TransportStream["write"]
}

/** Closing the reader stops the peer's half, closing the writer ends ours. */
export const make = (stream: TransportStream, options: Options): Socket.Socket => {
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
