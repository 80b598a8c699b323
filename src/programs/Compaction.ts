/**
 * Keeps the history that goes with each question short: when the exchanges since the last summary exceed the budget, the
 * older ones are summarised by the provider. What they say stays in the transcript. It happens beside the conversation:
 * meanwhile, and whenever it fails, answers do with the newest exchanges that fit (`History.turns`).
 *
 * A compaction keeps half of the budget, so until it is full again a request begins as the one before it did, up to that one's
 * question, and a provider's cache of prompts holds over all exchanges in between; it is lost once per compaction.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Prompt from "../domain/CompactionPrompt.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import * as Tokens from "../domain/Tokens.ts"
import { Conversations, type ConversationsError } from "../services/Conversations.ts"
import { Crypto } from "../services/Crypto.ts"
import { LlmError, LlmProvider } from "../services/LlmProvider.ts"

export interface Facts {
  readonly conversation: string
  /** The newest message that they were read from. */
  readonly messageId: string
  /** Single lines, at most `CompactionPrompt.maxFacts`; the user's words in the model's, so still to be looked at. */
  readonly facts: ReadonlyArray<string>
}

export interface Options {
  /** Estimated tokens of exchanges that go with a question; more start a compaction. Default 2000. */
  readonly historyTokens?: number | undefined
  /** Estimated tokens of one request for a summary. Default 24,000. */
  readonly materialTokens?: number | undefined
  /** Tokens that an answer of the provider may have, what it thinks before included. Default 4000. */
  readonly summaryTokens?: number | undefined
  /** Of one request to the provider. Default 2 minutes. */
  readonly timeout?: Duration.Input | undefined
  /** Puts lasting facts into memory; called before the summary takes the place of the words. Fails with a word for the log. */
  readonly flush?: ((facts: Facts) => Effect.Effect<void, { readonly message: string }>) | undefined
}

/**
 * - `NotNeeded`: the exchanges fit, or the provider is the offline one.
 * - `Stale`: the conversation was changed meanwhile, and the summary was not kept.
 */
export type Outcome = { readonly _tag: "NotNeeded" | "Stale" } | { readonly _tag: "Done"; readonly exchanges: number }

/** Memory did not take the facts. */
export class FlushError extends Data.TaggedError("FlushError")<{ readonly message: string }> {}

/** A seq above all. */
const end = Number.MAX_SAFE_INTEGER
/** Answers that a failed compaction waits for before it is tried again; doubled with each further failure. */
const PAUSE = 2
const MAX_PAUSE = 64
/** Conversations whose failures are remembered. */
const MAX_REMEMBERED = 1000

export interface Compaction {
  /** Starts a compaction of the conversation where it is needed and none is under way; returns at once. */
  readonly after: (conversation: string) => Effect.Effect<void>
  /** One compaction, waited for. Whatever fails, nothing has changed. */
  readonly run: (conversation: string) => Effect.Effect<Outcome, LlmError | ConversationsError | FlushError>
}

/** Lives as long as its scope; compactions under way end with it. */
export const make = Effect.fn("Compaction.make")(function* (options: Options) {
  const historyTokens = options.historyTokens ?? 2000
  const materialTokens = options.materialTokens ?? 24_000
  const summaryTokens = options.summaryTokens ?? 4000
  const timeout = options.timeout ?? "2 minutes"
  const { flush } = options
  const conversations = yield* Conversations
  const provider = yield* LlmProvider
  const { entropy } = yield* Crypto
  const fibers = yield* FiberMap.make<string>()

  const ask = (conversation: string, system: string, text: string) =>
    provider.stream({ conversation, system, messages: [{ role: "user", text }], maxTokens: summaryTokens }).pipe(
      Stream.runFold(
        () => ({ text: "", isDone: false }),
        (so, event) => {
          if (event._tag === "Done")
            return { ...so, isDone: event.stopReason === "end" || event.stopReason === "other" }
          const more = event._tag === "Delta" && so.text.length < Prompt.maxSummaryChars ? event.text : ""
          return { ...so, text: so.text + more }
        }
      ),
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () => Effect.fail(new LlmError({ reason: "Timeout", message: "the summary took too long" }))
      }),
      Effect.flatMap((answer) =>
        answer.isDone
          ? Effect.succeed(answer.text)
          : Effect.fail(new LlmError({ reason: "Broken", message: "the summary did not come to its end" }))
      )
    )

  const run = Effect.fn("Compaction.run")(function* (conversation: string) {
    const notNeeded: Outcome = { _tag: "NotNeeded" }
    if (provider.info.provider === "offline") return notNeeded
    const summary = Option.getOrUndefined(yield* conversations.summary(conversation))
    const all = yield* conversations.exchangesBefore(
      conversation,
      end,
      materialTokens * Tokens.charsPerToken,
      summary?.upToSeq
    )
    // The newest may be being answered.
    const told = all[0]?.answer === undefined ? all.slice(1) : all
    if (Prompt.costOf(told) <= historyTokens) return notNeeded
    const newestFirst = Prompt.within(Prompt.older(told, historyTokens / 2), materialTokens)
    const newest = newestFirst[0]
    if (newest?.seq === undefined || newest.messageId === undefined) return notNeeded

    const exchanges = newestFirst.toReversed()
    const boundary = hex(entropy(8))
    const answer = yield* ask(
      conversation,
      Prompt.summarySystem,
      Prompt.summaryMaterial(boundary, summary?.text, exchanges)
    )
    const text = Prompt.toSummary(answer)
    if (text === undefined) return yield* new LlmError({ reason: "Broken", message: "the summary is empty" })
    if (flush !== undefined) {
      const facts = Prompt.toFacts(
        yield* ask(conversation, Prompt.factsSystem, Prompt.factsMaterial(boundary, exchanges))
      )
      if (facts.length > 0) {
        yield* Effect.mapError(
          flush({ conversation, messageId: newest.messageId, facts }),
          ({ message }) => new FlushError({ message })
        )
      }
    }
    const upToSeq = newest.seq + 2
    yield* conversations.setSummary(conversation, { upToSeq, text })
    const now = Option.getOrUndefined(yield* conversations.summary(conversation))
    const outcome: Outcome =
      now?.upToSeq === upToSeq ? { _tag: "Done", exchanges: exchanges.length } : { _tag: "Stale" }
    return outcome
  })

  /** Answers to let pass, by conversation: what failed may fail again, and each attempt costs. */
  const pauses = new Map<string, { readonly pause: number; left: number }>()
  const failed = (conversation: string): void => {
    const pause = Math.min(MAX_PAUSE, 2 * (pauses.get(conversation)?.pause ?? PAUSE / 2))
    pauses.delete(conversation)
    pauses.set(conversation, { pause, left: pause })
    const [oldest] = pauses.keys()
    if (pauses.size > MAX_REMEMBERED && oldest !== undefined) pauses.delete(oldest)
  }

  const logged = (conversation: string) =>
    run(conversation).pipe(
      Effect.flatMap((outcome) => {
        if (outcome._tag !== "Done") return Effect.void
        pauses.delete(conversation)
        return Effect.logInfo(`${outcome.exchanges} exchanges were summarised; they stay in the transcript`)
      }),
      Effect.tapCause((cause) =>
        Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.sync(() => failed(conversation))
      ),
      Effect.catch(({ message }) => Effect.logWarning(`no summary was made, all stays as it was: ${message}`)),
      Effect.catchDefect((defect) => Effect.logError("no summary was made, all stays as it was", defect))
    )

  const compaction: Compaction = {
    after: (conversation) =>
      Effect.suspend(() => {
        const waits = pauses.get(conversation)
        if (waits !== undefined && waits.left > 0) {
          waits.left--
          return Effect.void
        }
        return Effect.asVoid(FiberMap.run(fibers, conversation, logged(conversation), { onlyIfMissing: true }))
      }),
    run
  }
  return compaction
})
