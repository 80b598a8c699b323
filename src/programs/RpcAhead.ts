/**
 * Streaming answers that run ahead of their acknowledgements. The stock server waits after each message of an answer until
 * the client says that it took it: one message per round trip, so over a long line an answer comes in jerks and ends late.
 * Here a few may be on their way. Back pressure remains the stream's; acknowledgements say what was read.
 */
import * as Effect from "effect/Effect"
import type { FromClientEncoded } from "effect/rpc/RpcMessage"
import type * as RpcServer from "effect/rpc/RpcServer"
import { RPC_WINDOW } from "../domain/protocol/Constants.ts"

interface Answer {
  unread: number
  /** How few may be unread for the server to go on, which waits; `undefined` while it does not. */
  goal: number | undefined
}

/**
 * Lets the answers of a protocol run ahead, except behind an item for which `isLast` holds, as it is encoded: what an answer
 * does after that, it does once the client has taken all of it.
 */
export const protocol = (
  inner: RpcServer.Protocol["Service"],
  isLast: (item: unknown) => boolean
): RpcServer.Protocol["Service"] => {
  const answers = new Map<string | number, Answer>()
  let serve: (client: number, message: FromClientEncoded) => Effect.Effect<void> = () => Effect.void
  return {
    ...inner,
    run: (serveMessage) => {
      serve = serveMessage
      return inner.run((client, message) => {
        if (message._tag !== "Ack") return serveMessage(client, message)
        const answer = answers.get(message.requestId)
        if (answer === undefined || answer.unread === 0) return Effect.void
        answer.unread--
        if (answer.goal === undefined || answer.unread > answer.goal) return Effect.void
        answer.goal = undefined
        return serveMessage(client, message)
      })
    },
    send: (client, response, transferables) => {
      const { _tag } = response
      if (_tag === "Exit") answers.delete(response.requestId)
      if (_tag !== "Chunk") return inner.send(client, response, transferables)
      const { requestId, values } = response
      const answer = answers.get(requestId) ?? { unread: 0, goal: undefined }
      answers.set(requestId, answer)
      answer.unread++
      const goal = isLast(values.at(-1)) ? 0 : RPC_WINDOW - 1
      // Before it is sent: the acknowledgement may be faster than this fiber.
      if (answer.unread > goal) answer.goal = goal
      const sent = inner.send(client, response, transferables)
      return answer.goal === undefined ? Effect.andThen(sent, serve(client, { _tag: "Ack", requestId })) : sent
    }
  }
}
