/** What the assistant remembers: plain files that the user can edit, a record of what it changed in them, and a search. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Cause, Change, FactFile, Hit, IdentityFile } from "../domain/Memory.ts"

/**
 * - `NotFound`: there is no such change, file or text.
 * - `Ambiguous`: the text to be replaced stands in more than one place.
 * - `Changed`: what a change wrote is not there any more, so that it cannot be taken back.
 * - `TooLong`: the file would exceed its bound.
 * - `Unusable`: the file is a link, no text, too long, or not ours.
 * - `Io`: the disk or the database failed.
 */
export class MemoryError extends Data.TaggedError("MemoryError")<{
  readonly reason: "NotFound" | "Ambiguous" | "Changed" | "TooLong" | "Unusable" | "Io"
  /** One line for people and models: what, where, what to do. */
  readonly message: string
}> {}

export interface Exchange {
  readonly conversation: string
  readonly question: string
  readonly answer: string
  /** Milliseconds since 1970. */
  readonly created: number
  /** Text that others than the user may have written was before the model. */
  readonly tainted: boolean
}

/** Every change of a file is atomic, durable and on record when its effect has succeeded. */
export class MemoryStore extends Context.Service<
  MemoryStore,
  {
    /** Adds one line at the end. A line that stands there already is not added again: then there is no change. */
    readonly append: (file: FactFile, text: string, cause: Cause) => Effect.Effect<Change | undefined, MemoryError>
    /** Replaces the one place where `before` stands; an empty `after` takes it out. */
    readonly edit: (file: FactFile, before: string, after: string, cause: Cause) => Effect.Effect<Change, MemoryError>
    /** Replaces a file that says who the assistant is; for proposals that the user has approved. */
    readonly write: (file: IdentityFile, text: string, cause: Cause) => Effect.Effect<Change, MemoryError>
    /** BM25 over the lines of all files and logs, best first; at most `limit`. Any characters are a search. */
    readonly search: (query: string, limit: number) => Effect.Effect<ReadonlyArray<Hit>, MemoryError>
    /** Lines of a source, from the first (counted from 1) on. */
    readonly get: (source: string, from: number, lines: number) => Effect.Effect<string, MemoryError>
    /** Changes, newest first, with ids below `before`. */
    readonly changes: (options: {
      readonly limit: number
      readonly before?: number | undefined
    }) => Effect.Effect<ReadonlyArray<Change>, MemoryError>
    /** Takes a change back, which is a change itself. */
    readonly undo: (id: number, cause?: Cause) => Effect.Effect<Change, MemoryError>
    /** Adds an exchange to the log of its day. */
    readonly log: (exchange: Exchange) => Effect.Effect<void, MemoryError>
    /**
     * The newest part of today's and yesterday's log, within `tokens` by estimate, without answers that may repeat what
     * others wrote; empty where there is none.
     */
    readonly recent: (tokens: number) => Effect.Effect<string, MemoryError>
  }
>()("clawchat/services/MemoryStore") {}
