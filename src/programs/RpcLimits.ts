/**
 * What one stream may make a server of procedures hold: the length of a line, the calls that run at a time, the streaming
 * answers that are open. The stock server trusts its clients; ours may be stolen devices.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import type { FromServerEncoded } from "effect/rpc/RpcMessage"
import * as RpcSchema from "effect/rpc/RpcSchema"
import type * as RpcServer from "effect/rpc/RpcServer"
import * as Schema from "effect/Schema"
import { LineBuffer } from "../domain/LineBuffer.ts"
import type { TransportStream } from "../services/Transport.ts"

/** Bytes of one message to a server: the longest question there is, every byte of it escaped. */
const MAX_LINE_BYTES = 2 * 1024 * 1024
/** Bytes of one message to a client: 5,000 things in the trash with the longest paths, every byte of them escaped. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024
/** Calls of one stream that run at a time; reading waits for one of them to be answered, and the answer to be taken. */
const MAX_CALLS = 8
/** Streaming answers of one stream that are open at a time; nobody needs that many, so one more ends the stream. */
const MAX_OPEN_ANSWERS = 64

/** Reads whole lines only; a line that is too long ends the stream as if the peer had given it up. */
export const readLines = (stream: TransportStream, maxLineBytes = MAX_LINE_BYTES): TransportStream["read"] => {
  const lines = new LineBuffer(maxLineBytes)
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

/** No message, in place of one that is too long. */
const NONSENSE = new TextEncoder().encode("\u0000\n")

/** The same for a client, which is to say that the answer made no sense, not that the line was lost. */
export const readAnswers = (stream: TransportStream): TransportStream["read"] => {
  const lines = new LineBuffer(MAX_ANSWER_BYTES)
  let isOver = false
  const read: TransportStream["read"] = Effect.flatMap(stream.read, (chunks) => {
    if (isOver) return Cause.done()
    const whole: Array<Uint8Array> = []
    for (const chunk of chunks) {
      const more = lines.push(chunk)
      if (more === undefined) {
        isOver = true
        return Effect.succeed([NONSENSE])
      }
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
export const protocol = <Rpcs extends Rpc.Any>(
  group: RpcGroup.RpcGroup<Rpcs>,
  unbounded: RpcServer.Protocol["Service"],
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
    ...unbounded,
    run: (serveMessage) => {
      // The stock server takes a message's fields for what they should be, and throws where they are not.
      const serve: typeof serveMessage = (client, message) =>
        Effect.catchDefect(
          Effect.suspend(() => serveMessage(client, message)),
          () => end
        )
      return unbounded.run((client, message) => {
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
      const sent = unbounded.send(client, withoutFibers(response), transferables)
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
