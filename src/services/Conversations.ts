/** The transcript: conversations, questions and their replies, kept over restarts. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { ChatMessage, ConversationInfo } from "../domain/ChatRpc.ts"
import type { Exchange } from "../domain/History.ts"
import type { StopReason, Usage } from "../domain/Llm.ts"

/**
 * - `Conflict`: the message id is taken by another text or conversation.
 * - `Io`: the database failed; `message` says how.
 */
export class ConversationsError extends Data.TaggedError("ConversationsError")<{
  readonly reason: "Conflict" | "Io"
  /** One line for people: what, what to do. */
  readonly message: string
  readonly cause?: unknown
}> {}

/** A complete reply, as it was given. */
export interface GivenReply {
  readonly id: string
  readonly text: string
  readonly provider: string
  readonly model: string
  readonly usage: Usage
  readonly stopReason: StopReason
}

export interface Asked {
  /** Order within the conversation, even. */
  readonly seq: number
  /** The complete reply, if the question has one. */
  readonly reply: Option.Option<GivenReply>
}

/** How a reply ended. */
export interface ReplyEnd {
  readonly status: "complete" | "cancelled" | "failed"
  readonly text: string
  readonly model: string
  readonly usage: Usage
  readonly stopReason: StopReason
}

/** Every method is one transaction; what it wrote is on the disk when it returns. */
export class Conversations extends Context.Service<
  Conversations,
  {
    /** Stores a question once: a second call with the same id, text and conversation changes nothing. */
    readonly ask: (question: {
      readonly conversation: string
      readonly messageId: string
      readonly text: string
    }) => Effect.Effect<Asked, ConversationsError>
    /** Opens a reply, `streaming` and empty, in place of an earlier one that was not completed; gives its id. */
    readonly beginReply: (reply: {
      readonly messageId: string
      readonly provider: string
      readonly model: string
    }) => Effect.Effect<string, ConversationsError>
    readonly endReply: (replyId: string, end: ReplyEnd) => Effect.Effect<void, ConversationsError>
    /**
     * Exchanges before the question with this seq, newest first, at least as many as hold `maxChars` characters. An
     * answer is what the user saw: complete, or cut by cancelling; one that failed counts as none.
     */
    readonly exchangesBefore: (
      conversation: string,
      seq: number,
      maxChars: number
    ) => Effect.Effect<ReadonlyArray<Exchange>, ConversationsError>
    /** The newest `limit` messages (with seq below `before`), oldest first. */
    readonly history: (options: {
      readonly conversation: string
      readonly limit: number
      readonly before?: number | undefined
    }) => Effect.Effect<ReadonlyArray<ChatMessage>, ConversationsError>
    /** Most recently made last. */
    readonly list: Effect.Effect<ReadonlyArray<ConversationInfo>, ConversationsError>
    /** Marks replies that a crash left `streaming` as failed; for the one program that writes, at its start. */
    readonly sweep: Effect.Effect<number, ConversationsError>
  }
>()("clawchat/services/Conversations") {}
