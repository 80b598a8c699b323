/** The transcript: conversations, questions and their replies, kept over restarts. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { ChatMessage, ConversationInfo } from "../domain/ChatRpc.ts"
import type { Exchange, Step } from "../domain/History.ts"
import type { Attachment, StopReason, Usage } from "../domain/Llm.ts"

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
  readonly cost?: number
}

export interface Asked {
  /** Order within the conversation, even. */
  readonly seq: number
  /** Milliseconds since 1970: when it was first asked. */
  readonly created: number
  /** The complete reply, if the question has one. */
  readonly reply: Option.Option<GivenReply>
  /** What came with it when it was first asked; empty where it has a complete reply. */
  readonly attachments: ReadonlyArray<Attachment>
  /** What an attempt that was cut off has done already, in order: it is not done again. */
  readonly steps: ReadonlyArray<Step>
}

/** The newest question of a conversation whose answer nobody has read to its end. */
export interface Unread {
  readonly messageId: string
  readonly text: string
  readonly reply: GivenReply
}

/** What stands for the exchanges before `upToSeq` (exclusive, even); they are kept. */
export interface Summary {
  readonly upToSeq: number
  readonly text: string
}

/** How a reply ended. */
export interface ReplyEnd {
  readonly status: "complete" | "cancelled" | "failed"
  readonly text: string
  readonly model: string
  readonly usage: Usage
  readonly stopReason: StopReason
  /** US dollars, where the price is known. */
  readonly cost?: number
  /** Text that others than the user may have written was before the model; default false. */
  readonly tainted?: boolean
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
      readonly attachments?: ReadonlyArray<Attachment>
    }) => Effect.Effect<Asked, ConversationsError>
    /**
     * Opens a reply, `streaming` and empty, in place of an earlier one that was not completed; gives its id. The earlier
     * one's steps are the new one's.
     */
    readonly beginReply: (reply: {
      readonly messageId: string
      readonly provider: string
      readonly model: string
    }) => Effect.Effect<string, ConversationsError>
    /** Adds to what a reply has done; what a model has called is added before it is carried out. */
    readonly addStep: (replyId: string, step: Step) => Effect.Effect<void, ConversationsError>
    readonly endReply: (replyId: string, end: ReplyEnd) => Effect.Effect<void, ConversationsError>
    /** Somebody has read the reply to its end. */
    readonly delivered: (replyId: string) => Effect.Effect<void, ConversationsError>
    /** The newest question's reply, if it is complete and was not delivered. */
    readonly unread: (conversation: string) => Effect.Effect<Option.Option<Unread>, ConversationsError>
    /**
     * Takes back a question (the newest when no id is given) and all after it in its conversation: kept, and no longer part
     * of it. Gives its text; none where there is no such question. Once for each `newId`, the id that the question will
     * have next: a second call with it changes nothing and gives the same.
     */
    readonly takeBack: (
      conversation: string,
      newId: string,
      messageId?: string
    ) => Effect.Effect<
      Option.Option<{ readonly text: string; readonly attachments: ReadonlyArray<Attachment> }>,
      ConversationsError
    >
    readonly summary: (conversation: string) => Effect.Effect<Option.Option<Summary>, ConversationsError>
    /** Changes nothing where the question before `upToSeq` is not, or no longer, part of the conversation. */
    readonly setSummary: (conversation: string, summary: Summary) => Effect.Effect<void, ConversationsError>
    /**
     * Exchanges before the question with this seq, and not before `from`, newest first, with their steps, at least as
     * many as hold `maxChars` characters. An answer is what the user saw: complete, or cut by cancelling; one that
     * failed counts as none.
     */
    readonly exchangesBefore: (
      conversation: string,
      seq: number,
      maxChars: number,
      from?: number
    ) => Effect.Effect<ReadonlyArray<Exchange>, ConversationsError>
    /** The newest `limit` messages (with seq below `before`), oldest first; with `all` also those taken back. */
    readonly history: (options: {
      readonly conversation: string
      readonly limit: number
      readonly before?: number | undefined
      readonly all?: boolean | undefined
    }) => Effect.Effect<ReadonlyArray<ChatMessage>, ConversationsError>
    /** Most recently made last. */
    readonly list: Effect.Effect<ReadonlyArray<ConversationInfo>, ConversationsError>
    /** Marks replies that a crash left `streaming` as failed; for the one program that writes, at its start. */
    readonly sweep: Effect.Effect<number, ConversationsError>
  }
>()("clawchat/services/Conversations") {}
