/**
 * What a client and the llm tier say to each other about conversations: an Effect RPC group, served over any protocol.
 *
 * `Send` may be repeated with the same message id at any time: a message is one question, whatever happens to the line.
 */
import * as Effect from "effect/Effect"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { Attachment, FailureReason, StopReason, Usage } from "./Llm.ts"

/** Bytes of UTF-8 in one message of the user; longer ones are refused with `TooLong`. */
export const maxTextBytes = 256 * 1024

/** Attachments of one message, and bytes of all of them. */
export const maxAttachments = 8
export const maxAttachmentBytes = 4 * 1024 * 1024

/** Characters of a call's arguments, and of its result, that clients are shown. */
export const maxShownChars = 4096

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

/** What the user says of a call that waits: this once, for the rest of this conversation too, or not at all. */
export const Decision = Schema.Literals(["once", "conversation", "deny"])
export type Decision = typeof Decision.Type

/**
 * What becomes of a question, in order: `Queued` while others are before it, one `Started`, then texts, calls and notices
 * as they come, one `Done`. Each `Calling` is followed by its `Called`; where a person has to decide, by `Approval` and
 * `Decided` in between.
 */
export const ChatEvent = Schema.TaggedUnion({
  /** What is being answered; with `Follow` only, first. */
  Asked: { messageId: Schema.String, text: Schema.String },
  /** Questions of the conversation that are answered before. */
  Queued: { ahead: Schema.Natural },
  Started: { replyId: Schema.String, model: Schema.String, provider: Schema.String },
  Delta: { text: Schema.String },
  /** A tool is about to be called. `summary`: one line for people; `arguments`: JSON, cut to `maxShownChars`. */
  Calling: { callId: Schema.String, tool: Schema.String, summary: Schema.String, arguments: Schema.String },
  /** The call waits for `Approve`. `detail`: all that it would do; `decisions`: those that may be given. */
  Approval: {
    approvalId: Schema.String,
    callId: Schema.String,
    tool: Schema.String,
    summary: Schema.String,
    detail: Schema.String,
    decisions: Schema.Array(Decision)
  },
  /** `by`: a person, or the clock. */
  Decided: {
    approvalId: Schema.String,
    callId: Schema.String,
    decision: Decision,
    by: Schema.Literals(["user", "timeout"])
  },
  /** `preview`: the result, cut to `maxShownChars`. */
  Called: { callId: Schema.String, tool: Schema.String, failed: Schema.Boolean, preview: Schema.String },
  /** For people: a request is tried again, another provider answers, a limit of the turn was met. */
  Notice: { text: Schema.String },
  /** `cost`: US dollars, where the price is known. */
  Done: { usage: Usage, stopReason: StopReason, cost: Schema.optionalKey(Schema.Finite) }
})
export type ChatEvent = typeof ChatEvent.Type

/**
 * - `LlmFailed`: the provider failed; `llm` says how. The question is kept: the same message id asks again.
 * - `Busy`: too many questions wait in this conversation; nothing was stored.
 * - `TooLong`: the text exceeds `maxTextBytes`; nothing was stored.
 * - `Conflict`: the message id belongs to another text or conversation.
 * - `TierAway`: the llm tier cannot be reached.
 * - `Storage`: the transcript could not be read or written.
 * - `Stopped`: somebody stopped the answer; the same message id asks again.
 * - `NotFound`: there is no such message, approval or conversation.
 */
export class ChatError extends Schema.TaggedError<ChatError>()("ChatError", {
  reason: Schema.Literals(["LlmFailed", "Busy", "TooLong", "Conflict", "TierAway", "Storage", "Stopped", "NotFound"]),
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
  usage: Schema.optionalKey(Usage),
  /** US dollars, where the price was known. */
  cost: Schema.optionalKey(Schema.Finite),
  /** Milliseconds since 1970: when it was taken back. */
  takenBack: Schema.optionalKey(Schema.Finite),
  /** Names of what came with it. */
  attachments: Schema.optionalKey(Schema.Array(Schema.String)),
  /** The tools that a reply called, in order: name and summary. */
  calls: Schema.optionalKey(
    Schema.Array(Schema.Struct({ tool: Schema.String, summary: Schema.String, failed: Schema.Boolean }))
  )
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
  note: Schema.optionalKey(Schema.String),
  /** Of what is used, by estimate, and the most that may be. */
  tokens: Schema.optionalKey(Schema.Natural),
  budget: Schema.optionalKey(Schema.Natural)
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

const Attachments = Schema.Array(Attachment).check(Schema.isMaxLength(maxAttachments))

/** Asks. The answer goes on when the stream ends, whoever reads it: `Stop` stops it. */
export const Send = Rpc.make("Send", {
  payload: {
    conversation: Conversation,
    messageId: MessageId,
    text: Schema.String,
    attachments: Schema.optionalKey(Attachments)
  },
  success: ChatEvent,
  error: ChatError,
  stream: true
})

/**
 * The answer that is being made in a conversation, from its start; else the last one if nobody has read it to its end;
 * else nothing.
 */
export const Follow = Rpc.make("Follow", {
  payload: { conversation: Conversation },
  success: ChatEvent,
  error: ChatError,
  stream: true
})

/** Stops the answer to a message, or all of a conversation's, those that wait too; says how many there were. */
export const Stop = Rpc.make("Stop", {
  payload: { conversation: Conversation, messageId: Schema.optionalKey(MessageId) },
  success: Schema.Natural,
  error: ChatError
})

/** Decides about a call that waits. `NotFound` when it does not wait any more. */
export const Approve = Rpc.make("Approve", {
  payload: { approvalId: Schema.String, decision: Decision },
  success: Schema.Void,
  error: ChatError
})

/** A question that is being answered or waits. */
export const QueuedQuestion = Schema.Struct({
  messageId: Schema.String,
  /** The first 200 characters. */
  text: Schema.String,
  state: Schema.Literals(["running", "approval", "waiting"])
})
export type QueuedQuestion = typeof QueuedQuestion.Type

/** In the order in which they will be answered. */
export const Queue = Rpc.make("Queue", {
  payload: { conversation: Conversation },
  success: Schema.Array(QueuedQuestion),
  error: ChatError
})

/**
 * Takes a question back with all that was said after it, and asks `text` (the same one when absent) in its place, under
 * a new id. Without `messageId` the last one. What was taken back is kept, and shown by `History` with `all`.
 */
export const Again = Rpc.make("Again", {
  payload: {
    conversation: Conversation,
    messageId: Schema.optionalKey(MessageId),
    newId: MessageId,
    text: Schema.optionalKey(Schema.String)
  },
  success: ChatEvent,
  error: ChatError,
  stream: true
})

/**
 * The newest messages, oldest first, fewer than `limit` where they are long; `before` is a seq, to page backwards; with
 * `all` also those taken back.
 */
export const History = Rpc.make("History", {
  payload: {
    conversation: Conversation,
    limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxHistory })),
    before: Schema.optionalKey(Schema.Natural),
    all: Schema.optionalKey(Schema.Boolean)
  },
  success: Schema.Array(ChatMessage),
  error: ChatError
})

export const Conversations = Rpc.make("Conversations", { success: Schema.Array(ConversationInfo), error: ChatError })

export const Status = Rpc.make("Status", { success: ChatStatus, error: ChatError })

/** Tags are unique over all groups, so groups can be served side by side: `Chat.Send`, `Chat.History`, ... */
export class ChatRpc extends RpcGroup.make(
  Send,
  Follow,
  Stop,
  Approve,
  Queue,
  Again,
  History,
  Conversations,
  Status
).prefix("Chat.") {}
