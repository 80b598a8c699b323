/**
 * The llm tier's heart: a question goes in, the provider's answer streams out, and the transcript holds both.
 *
 * A question is one answer in the making, however many callers read it; each reads it from its start. It lives while
 * someone reads: when the last caller leaves, the request to the provider ends and the text so far is kept as
 * `cancelled`. One answer runs per conversation; further questions wait in order of arrival, a bounded number of them.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { ChatError, ChatEvent, maxTextBytes } from "../domain/ChatRpc.ts"
import * as History from "../domain/History.ts"
import type { StopReason, Usage } from "../domain/Llm.ts"
import { ContextStore } from "../services/ContextStore.ts"
import { Conversations, type ConversationsError, type GivenReply } from "../services/Conversations.ts"
import { LlmError, LlmProvider } from "../services/LlmProvider.ts"

export interface AssistantSettings {
  /** Estimated tokens of a whole request: system prompt, history and question. Default 60,000. */
  readonly promptTokens?: number | undefined
  /** Tokens that an answer may have; default: the provider's. */
  readonly maxTokens?: number | undefined
  /** Questions that may wait in one conversation behind the one being answered. Default 8. */
  readonly maxWaiting?: number | undefined
  /** Characters after which an answer is cut off as broken. Default 1 Mi. */
  readonly maxAnswerChars?: number | undefined
}

/** Equal questions are one question, so this is the key of the answers in the making. */
export class Question extends Data.Class<{
  readonly conversation: string
  readonly messageId: string
  readonly text: string
}> {}

/** The events of an answer so far, and a signal for those who have read them all. */
class Answer {
  readonly #events: Array<ChatEvent> = []
  #end: Exit.Exit<void, ChatError> | undefined
  #changed = Deferred.makeUnsafe<void>()

  readonly publish = (event: ChatEvent): void => {
    this.#events.push(event)
    this.#signal()
  }

  readonly end = (exit: Exit.Exit<void, ChatError>): void => {
    this.#end = exit
    this.#signal()
  }

  #signal() {
    const changed = this.#changed
    this.#changed = Deferred.makeUnsafe<void>()
    Deferred.doneUnsafe(changed, Effect.void)
  }

  readonly #after = (index: number): Effect.Effect<readonly [Array<ChatEvent>, Option.Option<number>], ChatError> =>
    Effect.suspend(() => {
      if (index < this.#events.length)
        return Effect.succeed([this.#events.slice(index), Option.some(this.#events.length)])
      if (this.#end === undefined) return Effect.andThen(Deferred.await(this.#changed), this.#after(index))
      return Effect.as(this.#end, [[], Option.none()])
    })

  /** All events from the first on. */
  readonly events: Stream.Stream<ChatEvent, ChatError> = Stream.paginate(0, this.#after)
}

/** One conversation's turn-taking. */
interface Lane {
  readonly turn: Semaphore.Semaphore
  /** Questions answered or waiting. */
  inside: number
}

const tooLong = (bytes: number) =>
  new ChatError({
    reason: "TooLong",
    message: `the message has ${bytes} bytes, at most ${maxTextBytes} are taken: send it as a file, or in parts`
  })

const busy = (waiting: number) =>
  new ChatError({
    reason: "Busy",
    message: `${waiting} questions wait in this conversation already: wait for an answer, then send again`
  })

const ending = new ChatError({ reason: "TierAway", message: "the assistant is shutting down: send again in a moment" })

const fromConversations = (error: ConversationsError) =>
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

const noUsage: Usage = { inputTokens: 0, outputTokens: 0 }

const make = Effect.fnUntraced(function* (settings: AssistantSettings) {
  const promptTokens = settings.promptTokens ?? 60_000
  const maxWaiting = settings.maxWaiting ?? 8
  const maxAnswerChars = settings.maxAnswerChars ?? 1024 * 1024
  const provider = yield* LlmProvider
  const context = yield* ContextStore
  const conversations = yield* Conversations

  const swept = yield* conversations.sweep
  if (swept > 0) yield* Effect.logInfo(`${swept} answers had been cut off; each is given anew when asked for again`)

  const lanes = yield* RcMap.make({
    lookup: (_conversation: string) => Effect.sync((): Lane => ({ turn: Semaphore.makeUnsafe(1), inside: 0 }))
  })

  /** A place in the conversation's queue for the scope. */
  const enter = Effect.fnUntraced(function* (conversation: string) {
    const lane = yield* RcMap.get(lanes, conversation)
    yield* Effect.acquireRelease(
      Effect.suspend(() => {
        if (lane.inside > maxWaiting) return Effect.fail(busy(maxWaiting))
        lane.inside++
        return Effect.void
      }),
      () => Effect.sync(() => lane.inside--)
    )
    return lane
  })

  const replay = (answer: Answer, reply: GivenReply) =>
    Effect.sync(() => {
      answer.publish(ChatEvent.cases.Started.make({ replyId: reply.id, model: reply.model, provider: reply.provider }))
      if (reply.text !== "") answer.publish(ChatEvent.cases.Delta.make({ text: reply.text }))
      answer.publish(ChatEvent.cases.Done.make({ usage: reply.usage, stopReason: reply.stopReason }))
    })

  const requestFor = Effect.fnUntraced(function* (question: Question, seq: number) {
    const system = (yield* context.read).text
    const budget = Math.max(0, promptTokens - History.estimateTokens(system))
    const earlier = yield* Effect.mapError(
      conversations.exchangesBefore(question.conversation, seq, budget * History.charsPerToken),
      fromConversations
    )
    return {
      conversation: question.conversation,
      system,
      messages: History.turns(earlier, question.text, budget),
      ...(settings.maxTokens === undefined ? {} : { maxTokens: settings.maxTokens })
    }
  })

  const ask = Effect.fnUntraced(function* (question: Question, seq: number, answer: Answer) {
    const request = yield* requestFor(question, seq)
    yield* Effect.uninterruptibleMask(
      Effect.fnUntraced(function* (restore) {
        const { model, provider: name } = provider.info
        const replyId = yield* conversations
          .beginReply({ messageId: question.messageId, provider: name, model })
          .pipe(Effect.mapError(fromConversations))
        answer.publish(ChatEvent.cases.Started.make({ replyId, model, provider: name }))

        let text = ""
        let end: { usage: Usage; stopReason: StopReason; model: string } | undefined
        const exit = yield* provider.stream(request).pipe(
          Stream.runForEach((event) =>
            Effect.suspend(() => {
              if (event._tag === "Done") {
                end = event
              } else if (event.text !== "") {
                if (text.length + event.text.length > maxAnswerChars) {
                  const message = `the answer exceeded ${maxAnswerChars} characters and was cut off`
                  return Effect.fail(new LlmError({ reason: "Broken", message }))
                }
                text += event.text
                answer.publish(ChatEvent.cases.Delta.make({ text: event.text }))
              }
              return Effect.void
            })
          ),
          Effect.andThen(
            Effect.suspend(() =>
              end === undefined
                ? Effect.fail(new LlmError({ reason: "Broken", message: "the answer ended early: ask again" }))
                : Effect.succeed(end)
            )
          ),
          restore,
          Effect.exit
        )

        if (Exit.isSuccess(exit)) {
          yield* Effect.mapError(
            conversations.endReply(replyId, { status: "complete", text, ...exit.value }),
            fromConversations
          )
          const { stopReason, usage } = exit.value
          answer.publish(ChatEvent.cases.Done.make({ usage, stopReason }))
          return
        }
        const status = Cause.hasInterruptsOnly(exit.cause) ? "cancelled" : "failed"
        yield* conversations
          .endReply(replyId, { status, text, model, usage: noUsage, stopReason: "other" })
          .pipe(Effect.catch((error) => Effect.logError(error.message)))
        return yield* Effect.mapError(exit, fromLlm)
      })
    )
  })

  const run = (question: Question, answer: Answer) =>
    Effect.gen(function* () {
      const lane = yield* enter(question.conversation)
      const { reply, seq } = yield* Effect.mapError(conversations.ask(question), fromConversations)
      yield* Option.isSome(reply) ? replay(answer, reply.value) : lane.turn.withPermit(ask(question, seq, answer))
    }).pipe(Effect.scoped)

  const answers = yield* RcMap.make({
    lookup: Effect.fnUntraced(function* (question: Question) {
      const answer = new Answer()
      yield* run(question, answer).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() =>
            answer.end(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? Exit.fail(ending) : exit)
          )
        ),
        Effect.forkScoped
      )
      return answer
    })
  })

  return Assistant.of({
    send: (question) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const bytes = new TextEncoder().encode(question.text).length
          if (bytes > maxTextBytes) return yield* tooLong(bytes)
          return (yield* RcMap.get(answers, new Question(question))).events
        })
      )
  })
})

export class Assistant extends Context.Service<
  Assistant,
  {
    /**
     * Answers a question; see `ChatRpc.Send`. The same question again: a complete answer is replayed, one in the making
     * is joined, one that was cut off, cancelled or failed is given anew.
     */
    readonly send: (question: {
      readonly conversation: string
      readonly messageId: string
      readonly text: string
    }) => Stream.Stream<ChatEvent, ChatError>
  }
>()("clawchat/programs/Assistant") {
  /** One per transcript: it takes answers that it finds unfinished for the remains of a crash. */
  static readonly layer = (
    settings: AssistantSettings = {}
  ): Layer.Layer<Assistant, ConversationsError, LlmProvider | ContextStore | Conversations> =>
    Layer.effect(Assistant, make(settings))
}
