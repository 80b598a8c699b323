/**
 * What is kept of conversations, as clients see it: an Effect RPC group of the llm tier, beside Chat. Messages and how they
 * are paged stand in `ChatRpc.History`.
 */
import * as Effect from "effect/Effect"
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { ConversationName, defaultConversation } from "./ChatRpc.ts"

/** UTF-16 units of a search, and the words of it that count. */
export const maxSearchChars = 1000
export const maxSearchWords = 16
/** Messages in one answer of `Search`. */
export const maxFound = 100
/** UTF-16 units of one piece of an export. */
export const maxPieceChars = 64 * 1024

/**
 * - `NotFound`: there is no such conversation.
 * - `Busy`: an answer is being made in it; stop it first. Nothing was changed.
 * - `Exists`: there is a conversation of that name already.
 * - `Invalid`: what was asked makes no sense; `message` says why.
 * - `Storage`: the transcript could not be read or written.
 */
export class HistoryError extends Schema.TaggedError<HistoryError>()("HistoryError", {
  reason: Schema.Literals(["NotFound", "Busy", "Exists", "Invalid", "Storage"]),
  /** One line for people: what happened, what to do. */
  message: Schema.String
}) {}

const Conversation = ConversationName.pipe(Schema.withDecodingDefaultKey(Effect.succeed(defaultConversation)))

/** A message that holds all words of a search. */
export const Found = Schema.Struct({
  /** Grows from message to message over all conversations; `before` of the next page. */
  number: Schema.Natural,
  conversation: Schema.String,
  id: Schema.String,
  /** Order within the conversation, as in `ChatMessage`. */
  seq: Schema.Natural,
  role: Schema.Literals(["user", "assistant"]),
  /** Milliseconds since 1970. */
  created: Schema.Finite,
  /** At most 200 characters around the first word that was found, on one line; `…` where something was left out. */
  excerpt: Schema.String
})
export type Found = typeof Found.Type

/**
 * Questions and replies that hold every word of `text`, the newest first; in one conversation, or in all. A word is found
 * by its beginning, whatever the case and the accents; in scripts without spaces anywhere. No character has a meaning of
 * its own. `before` is the `number` of the last one that was found.
 */
export const Search = Rpc.make("Search", {
  payload: {
    text: Schema.String.check(Schema.isMaxLength(maxSearchChars)),
    conversation: Schema.optionalKey(ConversationName),
    limit: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxFound })),
    before: Schema.optionalKey(Schema.Natural)
  },
  success: Schema.Array(Found),
  error: HistoryError
})

export const ExportFormat = Schema.Literals(["markdown", "json"])
export type ExportFormat = typeof ExportFormat.Type

/**
 * A whole conversation, oldest first, in pieces to be joined: Markdown for people, or one JSON value with all that is kept
 * (calls and their results, attachments in base64). With `all` also what was taken back.
 */
export const Export = Rpc.make("Export", {
  payload: { conversation: Conversation, format: ExportFormat, all: Schema.optionalKey(Schema.Boolean) },
  success: Schema.String,
  error: HistoryError,
  stream: true
})

/** Removes a conversation with all that was said in it, also from the disk's free pages; says how many messages. */
export const Remove = Rpc.make("Remove", {
  payload: { conversation: ConversationName },
  success: Schema.Natural,
  error: HistoryError
})

export const Rename = Rpc.make("Rename", {
  payload: { conversation: ConversationName, to: ConversationName },
  success: Schema.Void,
  error: HistoryError
})

export class HistoryRpc extends RpcGroup.make(Search, Export, Remove, Rename).prefix("History.") {}
