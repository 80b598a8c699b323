/**
 * What a client and the llm tier say to each other about conversations: an Effect RPC group, served over any protocol.
 *
 * `Send` may be repeated with the same message id at any time: a message is one question, whatever happens to the line.
 */
import * as Effect from "effect/Effect"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { FailureReason, StopReason, Usage } from "./Llm.ts"

/** Bytes of UTF-8 in one message of the user; longer ones are refused with `TooLong`. */
export const maxTextBytes = 256 * 1024

/** Messages in one answer of `History`, and UTF-16 units of their texts; a single longer message comes alone. */
export const maxHistory = 500
export const maxHistoryChars = 1024 * 1024

/** The conversation that is meant when none is named. */
export const defaultConversation = "main"

/** A letter or digit, then letters, digits, space, dot, underscore, hyphen: at most 64 characters. */
export const ConversationName = Schema.String.check(
  Schema.isPattern(/^[\p{L}\p{N}][\p{L}\p{N} ._-]{0,63}$/u, {
    message: "a conversation's name is 1 to 64 letters, digits, spaces, dots, underscores and hyphens"
  })
)

/** Made by the client, one per message: a lower-case UUID. */
export const MessageId = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, {
    message: "a message id is a lower-case UUID"
  })
)

const Conversation = ConversationName.pipe(Schema.withDecodingDefaultKey(Effect.succeed(defaultConversation)))

/** What becomes of a question, in order: one `Started`, any number of `Delta`s, one `Done`. */
export const ChatEvent = Schema.TaggedUnion({
  Started: { replyId: Schema.String, model: Schema.String, provider: Schema.String },
  Delta: { text: Schema.String },
  Done: { usage: Usage, stopReason: StopReason }
})
export type ChatEvent = typeof ChatEvent.Type

/**
 * - `LlmFailed`: the provider failed; `llm` says how. The question is kept: the same message id asks again.
 * - `Busy`: too many questions wait in this conversation; nothing was stored.
 * - `TooLong`: the text exceeds `maxTextBytes`; nothing was stored.
 * - `Conflict`: the message id belongs to another text or conversation.
 * - `TierAway`: the llm tier cannot be reached.
 * - `Storage`: the transcript could not be read or written.
 */
export class ChatError extends Schema.TaggedError<ChatError>()("ChatError", {
  reason: Schema.Literals(["LlmFailed", "Busy", "TooLong", "Conflict", "TierAway", "Storage"]),
  /** One line for people: what happened, what to do. */
  message: Schema.String,
  /** With `LlmFailed` only. */
  llm: Schema.optionalKey(Schema.Struct({ reason: FailureReason, retryAfterMs: Schema.optionalKey(Schema.Finite) }))
}) {}

/** `streaming`: being written. `cancelled`: its reader left. `failed`: the provider failed, or the tier ended. */
export const MessageStatus = Schema.Literals(["complete", "streaming", "cancelled", "failed"])
export type MessageStatus = typeof MessageStatus.Type

export const ChatMessage = Schema.Struct({
  id: Schema.String,
  /** Order within the conversation: questions are even, the reply to n is n + 1. */
  seq: Schema.Natural,
  role: Schema.Literals(["user", "assistant"]),
  text: Schema.String,
  status: MessageStatus,
  /** Milliseconds since 1970. */
  created: Schema.Finite,
  model: Schema.optionalKey(Schema.String),
  usage: Schema.optionalKey(Usage)
})
export type ChatMessage = typeof ChatMessage.Type

export const ConversationInfo = Schema.Struct({
  name: Schema.String,
  /** Milliseconds since 1970. */
  created: Schema.Finite,
  messages: Schema.Natural
})
export type ConversationInfo = typeof ConversationInfo.Type

export const ContextFile = Schema.Struct({
  name: Schema.String,
  /** As found on disk. */
  bytes: Schema.Natural,
  /** `used` whole, `truncated`, `missing`, or `ignored` (not a plain text file; `note` says why). */
  state: Schema.Literals(["used", "truncated", "missing", "ignored"]),
  note: Schema.optionalKey(Schema.String)
})
export type ContextFile = typeof ContextFile.Type

export const ChatStatus = Schema.Struct({
  provider: Schema.String,
  model: Schema.String,
  /** How the provider came to be chosen, for people. */
  chosen: Schema.String,
  contextFiles: Schema.Array(ContextFile),
  conversations: Schema.Natural,
  version: Schema.String
})
export type ChatStatus = typeof ChatStatus.Type

/** Asks. Ending the stream early cancels the answer, unless another caller still reads it. */
export const Send = Rpc.make("Send", {
  payload: { conversation: Conversation, messageId: MessageId, text: Schema.String },
  success: ChatEvent,
  error: ChatError,
  stream: true
})

/** The newest messages, oldest first, fewer than `limit` where they are long; `before` is a seq, to page backwards. */
export const History = Rpc.make("History", {
  payload: {
    conversation: Conversation,
    limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxHistory })),
    before: Schema.optionalKey(Schema.Natural)
  },
  success: Schema.Array(ChatMessage),
  error: ChatError
})

export const Conversations = Rpc.make("Conversations", { success: Schema.Array(ConversationInfo), error: ChatError })

export const Status = Rpc.make("Status", { success: ChatStatus, error: ChatError })

/** Tags are unique over all groups, so groups can be served side by side: `Chat.Send`, `Chat.History`, ... */
export class ChatRpc extends RpcGroup.make(Send, History, Conversations, Status).prefix("Chat.") {}
