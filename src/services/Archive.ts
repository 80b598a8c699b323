/** The transcript as something to look things up in, to take along, and to throw away. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { ChatMessage } from "../domain/ChatRpc.ts"
import type { Step } from "../domain/History.ts"
import type { Found } from "../domain/HistoryRpc.ts"
import type { StopReason } from "../domain/Llm.ts"
import type { Query } from "../domain/SearchWords.ts"

/**
 * - `NotFound`: there is no such conversation.
 * - `Busy`: an answer is being written in it.
 * - `Exists`: the name is taken.
 * - `Io`: the database failed; `message` says how.
 */
export class ArchiveError extends Data.TaggedError("ArchiveError")<{
  readonly reason: "NotFound" | "Busy" | "Exists" | "Io"
  /** One line for people: what, what to do. */
  readonly message: string
  readonly cause?: unknown
}> {}

/** An attachment without its bytes. */
export interface AttachmentInfo {
  readonly position: number
  readonly name: string
  readonly mediaType: string
  readonly size: number
}

/** A message with all that is kept of it. */
export interface Kept {
  /** Without `calls` and `attachments`: those stand here in full. */
  readonly message: ChatMessage
  readonly provider?: string
  readonly stopReason?: StopReason
  /** Of a question. */
  readonly attachments: ReadonlyArray<AttachmentInfo>
  /** Of a reply. */
  readonly steps: ReadonlyArray<Step>
}

export class Archive extends Context.Service<
  Archive,
  {
    /** Messages that hold all words, the newest first; not what was taken back. */
    readonly search: (options: {
      readonly query: Query
      readonly conversation?: string | undefined
      readonly limit: number
      readonly before?: number | undefined
    }) => Effect.Effect<ReadonlyArray<Found>, ArchiveError>
    /** Milliseconds since 1970: when a conversation began. */
    readonly began: (conversation: string) => Effect.Effect<number, ArchiveError>
    /** Messages with a seq above `after`, oldest first; with `all` also those taken back. */
    readonly page: (options: {
      readonly conversation: string
      readonly after: number
      readonly limit: number
      readonly all: boolean
    }) => Effect.Effect<ReadonlyArray<Kept>, ArchiveError>
    /** An attachment's bytes; none where it was removed meanwhile. */
    readonly bytes: (messageId: string, position: number) => Effect.Effect<Uint8Array, ArchiveError>
    /** Removes a conversation and overwrites it on the disk; gives the number of messages. */
    readonly remove: (conversation: string) => Effect.Effect<number, ArchiveError>
    readonly rename: (conversation: string, to: string) => Effect.Effect<void, ArchiveError>
  }
>()("clawchat/services/Archive") {}
