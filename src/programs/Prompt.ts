/** Puts together what the model is asked with: the user's files, what was said before, the question. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as History from "../domain/History.ts"
import type { LlmMessage } from "../domain/Llm.ts"
import { ContextStore } from "../services/ContextStore.ts"
import { type Asked, Conversations, type ConversationsError } from "../services/Conversations.ts"
import type { Question } from "./Question.ts"
import { Surroundings } from "./Surroundings.ts"

export interface Prompt {
  readonly system: string
  readonly messages: ReadonlyArray<LlmMessage>
  /** Estimated tokens that the messages may have, with what is read on the way to the answer. */
  readonly roomTokens: number
  /** Text that others than the user may have written is among them. */
  readonly tainted: boolean
}

export interface Options {
  /** Estimated tokens of system prompt, history and question. */
  readonly promptTokens: number
  /** Estimated tokens of the history among them. */
  readonly historyTokens: number
  readonly timeZone: DateTime.TimeZone
  /** Whether others than the user may have written what a tool brings. */
  readonly isUntrusted: (tool: string) => boolean
}

/** The prompt for a question, of what stands in the context files and in the transcript at that moment. */
export const make = Effect.fnUntraced(function* ({ historyTokens, isUntrusted, promptTokens, timeZone }: Options) {
  const context = yield* ContextStore
  const conversations = yield* Conversations
  const surroundings = yield* Surroundings
  const zoneName = DateTime.zoneToString(timeZone)
  // Made once: making one takes longer than a question's whole way through here.
  const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "short", timeZone: zoneName })
  const saidAt = (ms: number): string => `${clock.format(ms)}, ${zoneName}`

  return Effect.fnUntraced(function* (question: Question, asked: Asked): Effect.fn.Return<Prompt, ConversationsError> {
    const system = (yield* context.read).text
    const material = yield* surroundings.material
    const summary = yield* conversations.summary(question.conversation)
    const room = Math.max(0, promptTokens - History.estimateTokens(system))
    const { attachments } = asked
    const asking: LlmMessage = {
      role: "user",
      text: question.text,
      at: saidAt(asked.created),
      ...(material === "" ? {} : { material }),
      ...(attachments.length === 0 ? {} : { attachments })
    }
    const budget = Math.min(room, historyTokens + History.cost([asking]))
    const earlier = yield* conversations.exchangesBefore(
      question.conversation,
      asked.seq,
      budget * History.charsPerToken,
      Option.getOrUndefined(Option.map(summary, ({ upToSeq }) => upToSeq))
    )
    const messages = History.turns({
      newestFirst: earlier,
      question: asking,
      budgetTokens: budget,
      limitTokens: room,
      at: saidAt,
      ...(Option.isSome(summary) ? { summary: summary.value.text } : {})
    })
    // An answer may repeat what was read long before it: what it was given counts, not what of it still goes along.
    const tainted =
      Option.isSome(summary) ||
      attachments.length > 0 ||
      earlier.some(
        (exchange) =>
          exchange.tainted === true ||
          (exchange.attachments?.length ?? 0) > 0 ||
          exchange.steps?.some((step) => step._tag === "Result" && isUntrusted(step.name)) === true
      )
    // A question that fills the room leaves some for what is read on the way to its answer.
    return { system, messages, roomTokens: Math.max(room, History.cost(messages) + Math.floor(room / 4)), tainted }
  })
})
