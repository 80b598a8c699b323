/** Handlers of the `Chat` group, for any protocol. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import { ChatError, type ChatMessage, ChatRpc, maxHistoryChars } from "../domain/ChatRpc.ts"
import { ContextStore } from "../services/ContextStore.ts"
import { Conversations, type ConversationsError } from "../services/Conversations.ts"
import { LlmProvider } from "../services/LlmProvider.ts"
import { Assistant } from "./Assistant.ts"

const storage = (error: ConversationsError) => new ChatError({ reason: "Storage", message: error.message })

/** Messages read at a time, so that few long ones are in memory that will not be sent. */
const PAGE = 20

/** `version` is the program's, for `Status`. */
export const layerHandlers = (options: {
  readonly version: string
}): Layer.Layer<
  Rpc.ToHandler<RpcGroup.Rpcs<typeof ChatRpc>>,
  never,
  Assistant | Conversations | ContextStore | LlmProvider
> =>
  ChatRpc.toLayer(
    Effect.gen(function* () {
      const assistant = yield* Assistant
      const conversations = yield* Conversations
      const context = yield* ContextStore
      const provider = yield* LlmProvider
      return {
        "Chat.Send": (question) => assistant.send(question),
        "Chat.Follow": ({ conversation }) => assistant.follow(conversation),
        "Chat.Stop": ({ conversation, messageId }) => assistant.stop(conversation, messageId),
        "Chat.Approve": ({ approvalId, decision }) => assistant.approve(approvalId, decision),
        "Chat.Queue": ({ conversation }) => assistant.queue(conversation),
        "Chat.Again": (options) => assistant.again(options),
        "Chat.History": Effect.fnUntraced(function* ({ all, before, conversation, limit }) {
          const newestFirst: Array<ChatMessage> = []
          let chars = 0
          for (let below = before; newestFirst.length < limit; below = newestFirst.at(-1)?.seq) {
            const wanted = Math.min(PAGE, limit - newestFirst.length)
            const page = yield* Effect.mapError(
              conversations.history({ conversation, limit: wanted, before: below, all }),
              storage
            )
            for (const message of page.toReversed()) {
              chars += message.text.length
              if (chars > maxHistoryChars && newestFirst.length > 0) return newestFirst.reverse()
              newestFirst.push(message)
            }
            if (page.length < wanted) break
          }
          return newestFirst.reverse()
        }),
        "Chat.Conversations": () => Effect.mapError(conversations.list, storage),
        "Chat.Status": Effect.fnUntraced(function* () {
          const { files } = yield* context.read
          const list = yield* Effect.mapError(conversations.list, storage)
          return {
            ...provider.info,
            contextFiles: files,
            conversations: list.length,
            version: options.version
          }
        })
      }
    })
  )
