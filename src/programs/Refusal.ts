/** What a client is told when there is no answer: one line for people each, which says what to do. */
import { ChatError } from "../domain/ChatRpc.ts"
import type { ConversationsError } from "../services/Conversations.ts"
import type { LlmError } from "../services/LlmProvider.ts"

export const busy = (waiting: number) =>
  new ChatError({
    reason: "Busy",
    message: `${waiting} questions wait in this conversation already: wait for an answer, then send again`
  })

export const crowded = (conversations: number) =>
  new ChatError({
    reason: "Busy",
    message: `answers are in the making in ${conversations} conversation${conversations === 1 ? "" : "s"}: wait for one to end, then send again`
  })

export const ending = new ChatError({
  reason: "TierAway",
  message: "the assistant is shutting down: send again in a moment"
})

export const fromConversations = (error: ConversationsError) =>
  new ChatError({ reason: error.reason === "Conflict" ? "Conflict" : "Storage", message: error.message })

const fromLlm = (error: LlmError) =>
  new ChatError({
    reason: "LlmFailed",
    message: error.message,
    llm: {
      reason: error.reason,
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs })
    }
  })

export const fromTurn = (error: LlmError | ConversationsError): ChatError =>
  error._tag === "LlmError" ? fromLlm(error) : fromConversations(error)

export const unexpected = new ChatError({
  reason: "Storage",
  message: "the answer failed unexpectedly: the log of the llm tier says how; send again to try once more"
})

export const stopped = new ChatError({ reason: "Stopped", message: "the answer was stopped: send again to go on" })

export const conflict = (messageId: string) =>
  new ChatError({
    reason: "Conflict",
    message: `message id ${messageId} was used for another message; make a new id for each`
  })

export const answering = new ChatError({
  reason: "Busy",
  message: "an answer is in the making in this conversation: stop it first, or wait for its end"
})

export const unknownQuestion = new ChatError({
  reason: "NotFound",
  message: "there is no such question in this conversation"
})

export const undecidable = new ChatError({
  reason: "NotFound",
  message: "no call waits for this decision: it was decided, stopped, or may not be decided so"
})
