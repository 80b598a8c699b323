/**
 * The llm tier's heart: a question goes in, its answer streams out, and the transcript holds both.
 *
 * A question is one answer in the making, however many read it; each reads it from its start. It goes on when nobody reads:
 * who comes back, from whichever device, picks it up. It ends when it is stopped. One answer runs per conversation;
 * further questions wait in order of arrival, a bounded number of them.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { type ChatError, ChatEvent, type Decision, type QueuedQuestion } from "../domain/ChatRpc.ts"
import type { Usage } from "../domain/Llm.ts"
import type { ContextStore } from "../services/ContextStore.ts"
import { type Asked, Conversations, type ConversationsError, type GivenReply } from "../services/Conversations.ts"
import type { Crypto } from "../services/Crypto.ts"
import { LlmProvider } from "../services/LlmProvider.ts"
import { AnswerFeed } from "./AnswerFeed.ts"
import { Approvals } from "./Approvals.ts"
import * as Prompt from "./Prompt.ts"
import * as Question from "./Question.ts"
import * as Refusal from "./Refusal.ts"
import { Surroundings } from "./Surroundings.ts"
import * as Turn from "./Turn.ts"

export interface AssistantSettings {
  /** Estimated tokens of a whole request: system prompt, history and question. Default 60,000. */
  readonly promptTokens?: number | undefined
  /** Estimated tokens of the history among them. Default 2,000. */
  readonly historyTokens?: number | undefined
  /** Tokens that one request may bring; default: the provider's. */
  readonly maxTokens?: number | undefined
  /** Questions that may wait in one conversation behind the one being answered. Default 8. */
  readonly maxWaiting?: number | undefined
  /** Conversations in which an answer may be in the making. Default 32. */
  readonly maxConversations?: number | undefined
  readonly limits?: Partial<Turn.Limits> | undefined
  /** Default: the system's. */
  readonly timeZone?: DateTime.TimeZone | undefined
  /** Takes secrets that the program knows out of what a tool has brought. */
  readonly redact?: ((text: string) => string) | undefined
}

/** What a question is being answered with, or waits for. */
interface Running {
  readonly question: Question.Question
  readonly feed: AnswerFeed
  readonly errand: Question.Errand | undefined
  fiber: Fiber.Fiber<void, ChatError> | undefined
  stopped: boolean
}

/** One conversation's turn-taking. */
interface Lane {
  readonly turn: Semaphore.Semaphore
  /** In order: the first is being answered. */
  readonly inside: Array<Running>
}

const make = Effect.fnUntraced(function* (settings: AssistantSettings) {
  const maxWaiting = settings.maxWaiting ?? 8
  const maxConversations = settings.maxConversations ?? 32
  const provider = yield* LlmProvider
  const conversations = yield* Conversations
  const surroundings = yield* Surroundings
  const approvals = new Approvals()
  const turns = yield* Turn.make(
    { ...Turn.defaultLimits, ...settings.limits },
    approvals,
    settings.redact ?? ((text) => text)
  )
  const promptFor = yield* Prompt.make({
    promptTokens: settings.promptTokens ?? 60_000,
    historyTokens: settings.historyTokens ?? 2000,
    timeZone: settings.timeZone ?? DateTime.zoneMakeLocal(),
    isUntrusted: turns.isUntrusted
  })

  const swept = yield* conversations.sweep
  if (swept > 0) yield* Effect.logInfo(`${swept} answers had been cut off; each goes on when asked for again`)

  const lanes = new Map<string, Lane>()
  const running = new Map<string, Running>()
  const fibers = yield* FiberSet.make<void, ChatError>()

  const laneOf = (conversation: string): Lane => {
    const lane = lanes.get(conversation) ?? { turn: Semaphore.makeUnsafe(1), inside: [] }
    lanes.set(conversation, lane)
    return lane
  }

  const tellPlaces = (lane: Lane): void => {
    lane.inside.forEach(({ feed }, ahead) => {
      if (ahead > 0) feed.publish(ChatEvent.cases.Queued.make({ ahead }))
    })
  }

  const leave = (each: Running): void => {
    const { conversation, messageId } = each.question
    running.delete(messageId)
    const lane = lanes.get(conversation)
    if (lane === undefined) return
    lane.inside.splice(lane.inside.indexOf(each), 1)
    if (lane.inside.length === 0) lanes.delete(conversation)
    else tellPlaces(lane)
  }

  const replay = (feed: AnswerFeed, reply: GivenReply): void => {
    feed.publish(ChatEvent.cases.Started.make({ replyId: reply.id, model: reply.model, provider: reply.provider }))
    if (reply.text !== "") feed.publish(ChatEvent.cases.Delta.make({ text: reply.text }))
    feed.publish(doneOf(reply))
  }

  const answer = Effect.fnUntraced(function* ({ errand, feed, question }: Running, asked: Asked) {
    const prompt = yield* Effect.mapError(promptFor(question, asked), Refusal.fromConversations)
    const { conversation, messageId, text } = question
    yield* Effect.uninterruptibleMask(
      Effect.fnUntraced(function* (restore) {
        const { model, provider: name } = provider.info
        const replyId = yield* conversations
          .beginReply({ messageId, provider: name, model })
          .pipe(Effect.mapError(Refusal.fromConversations))
        feed.publish(ChatEvent.cases.Started.make({ replyId, model, provider: name }))

        const progress = Turn.begin(model, name)
        const task: Turn.Task = {
          caller: { conversation, messageId, ...(errand === undefined ? {} : { job: errand.job }) },
          replyId,
          ...prompt,
          steps: asked.steps,
          unattended: errand?.tools,
          maxTokens: settings.maxTokens
        }
        const exit = yield* Effect.exit(restore(turns.run(task, feed, progress)))
        const status = Turn.statusOf(exit)
        const { cost, tainted: hasRead, ...end } = progress
        const priced = cost === undefined ? {} : { cost }
        const ended = conversations.endReply(replyId, { status, ...end, ...priced, tainted: hasRead })
        if (status !== "complete") {
          yield* Effect.catch(ended, (error) => Effect.logError(error.message))
          return yield* Effect.mapError(exit, Refusal.fromTurn)
        }
        yield* Effect.mapError(ended, Refusal.fromConversations)
        const exchange = { conversation, messageId, question: text, answer: end.text, created: asked.created }
        yield* surroundings.finished({ ...exchange, job: errand?.job, tainted: hasRead })
        feed.publish(doneOf(progress))
      })
    )
  })

  const work = (each: Running, lane: Lane) =>
    Effect.gen(function* () {
      const asked = yield* Effect.mapError(conversations.ask(each.question), Refusal.fromConversations)
      if (Option.isSome(asked.reply)) return replay(each.feed, asked.reply.value)
      if (asked.seq === 0) approvals.forget(each.question.conversation)
      yield* lane.turn.withPermit(answer(each, asked))
    })

  /** Why a question is not taken; nothing is stored then. */
  const refusalOf = (question: Question.Question): ChatError | undefined => {
    const large = Question.tooLarge(question)
    if (large !== undefined) return large
    return !lanes.has(question.conversation) && lanes.size >= maxConversations ? Refusal.crowded(lanes.size) : undefined
  }

  /** The answer to a question: the one in the making, or a new one. */
  const start = (question: Question.Question, errand?: Question.Errand): Effect.Effect<Running, ChatError> =>
    Effect.suspend(() => {
      const known = running.get(question.messageId)
      if (known !== undefined) {
        return Question.isSame(known.question, question)
          ? Effect.succeed(known)
          : Effect.fail(Refusal.conflict(question.messageId))
      }
      const unfit = refusalOf(question)
      if (unfit !== undefined) return Effect.fail(unfit)
      const lane = laneOf(question.conversation)
      if (lane.inside.length > maxWaiting) return Effect.fail(Refusal.busy(maxWaiting))
      const each: Running = { question, feed: new AnswerFeed(), errand, fiber: undefined, stopped: false }
      running.set(question.messageId, each)
      lane.inside.push(each)
      if (lane.inside.length > 1) each.feed.publish(ChatEvent.cases.Queued.make({ ahead: lane.inside.length - 1 }))
      const whole = work(each, lane).pipe(
        Effect.catchDefect((defect) =>
          Effect.andThen(Effect.logError("an answer failed unexpectedly", defect), Effect.fail(Refusal.unexpected))
        ),
        Effect.onExit((exit) =>
          Effect.sync(() => {
            leave(each)
            const cut = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
            each.feed.end(cut ? Exit.fail(each.stopped ? Refusal.stopped : Refusal.ending) : exit)
          })
        )
      )
      return Effect.map(FiberSet.run(fibers, whole), (fiber) => {
        each.fiber = fiber
        return each
      })
    })

  /** The events, and the note that somebody has read them all: taken only once the reader asks for what follows the end. */
  const read = ({ feed, question }: Running): Stream.Stream<ChatEvent, ChatError> =>
    Stream.concat(
      feed.events,
      Stream.fromEffectDrain(
        Effect.suspend(() =>
          feed.replyId === undefined
            ? Effect.void
            : Effect.catch(conversations.delivered(feed.replyId), (error) =>
                Effect.logWarning(`${question.messageId}: ${error.message}`)
              )
        )
      )
    )

  const asking = (messageId: string, text: string): ChatEvent => ChatEvent.cases.Asked.make({ messageId, text })

  const send = (question: Question.Question): Stream.Stream<ChatEvent, ChatError> =>
    Stream.unwrap(Effect.map(start(question), read))

  return Assistant.of({
    send,

    follow: (conversation) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const current = lanes.get(conversation)?.inside[0]
          if (current !== undefined) {
            const { messageId, text } = current.question
            return Stream.concat(Stream.succeed(asking(messageId, text)), read(current))
          }
          const unread = yield* Effect.mapError(conversations.unread(conversation), Refusal.fromConversations)
          if (Option.isNone(unread)) return Stream.empty
          const { messageId, reply, text } = unread.value
          return Stream.concat(Stream.succeed(asking(messageId, text)), send({ conversation, messageId, text })).pipe(
            Stream.concat(Stream.fromEffectDrain(Effect.ignore(conversations.delivered(reply.id))))
          )
        })
      ),

    stop: (conversation, messageId) =>
      Effect.suspend(() => {
        const inside = lanes.get(conversation)?.inside ?? []
        const meant = inside.filter(({ question }) => messageId === undefined || question.messageId === messageId)
        for (const each of meant) each.stopped = true
        // From the last on, so that none begins in between.
        return Effect.forEach(meant.toReversed(), ({ fiber }) => (fiber ? Fiber.interrupt(fiber) : Effect.void), {
          discard: true
        }).pipe(Effect.as(meant.length))
      }),

    approve: (approvalId, decision) =>
      Effect.suspend(() => (approvals.decide(approvalId, decision) ? Effect.void : Effect.fail(Refusal.undecidable))),

    queue: (conversation) =>
      Effect.sync(() =>
        (lanes.get(conversation)?.inside ?? []).map(({ question }, place) => ({
          messageId: question.messageId,
          text: question.text.slice(0, 200),
          state: place > 0 ? "waiting" : approvals.isWaiting(conversation) ? "approval" : "running"
        }))
      ),

    again: ({ conversation, messageId, newId, text }) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const known = running.get(newId)
          if (known !== undefined) return read(known)
          // Before anything is taken back.
          const unfit = refusalOf({ conversation, messageId: newId, text: text ?? "" })
          if (unfit !== undefined) return yield* unfit
          if (lanes.has(conversation)) return yield* Refusal.answering
          const taken = yield* Effect.mapError(
            conversations.takeBack(conversation, newId, messageId),
            Refusal.fromConversations
          )
          if (Option.isNone(taken)) return yield* Refusal.unknownQuestion
          const { attachments, text: before } = taken.value
          return send({ conversation, messageId: newId, text: text ?? before, attachments })
        })
      ),

    run: (errand) =>
      Effect.gen(function* () {
        const each = yield* start(errand, errand)
        let text = ""
        let end: Pick<Turn.Progress, "usage" | "cost"> = { usage: { inputTokens: 0, outputTokens: 0 }, cost: undefined }
        yield* Stream.runForEach(read(each), (event) =>
          Effect.sync(() => {
            if (event._tag === "Delta") text += event.text
            if (event._tag === "Done") end = { usage: event.usage, cost: event.cost }
          })
        ).pipe(
          Effect.onInterrupt(() => {
            each.stopped = true
            return each.fiber === undefined ? Effect.void : Fiber.interrupt(each.fiber)
          })
        )
        return { text, ...end }
      })
  })
})

const doneOf = ({
  cost,
  stopReason,
  usage
}: Pick<GivenReply, "cost" | "stopReason" | "usage"> | Turn.Progress): ChatEvent =>
  ChatEvent.cases.Done.make({ usage, stopReason, ...(cost === undefined ? {} : { cost }) })

export class Assistant extends Context.Service<
  Assistant,
  {
    /**
     * Answers a question; see `ChatRpc.Send`. The same question again: a complete answer is replayed, one in the making
     * is joined, one that was cut off, stopped or failed goes on from what it had done.
     */
    readonly send: (question: Question.Question) => Stream.Stream<ChatEvent, ChatError>
    /** See `ChatRpc.Follow`. */
    readonly follow: (conversation: string) => Stream.Stream<ChatEvent, ChatError>
    /** See `ChatRpc.Stop`. When this returns, the connection to the provider is closed. */
    readonly stop: (conversation: string, messageId?: string) => Effect.Effect<number, ChatError>
    readonly approve: (approvalId: string, decision: Decision) => Effect.Effect<void, ChatError>
    readonly queue: (conversation: string) => Effect.Effect<ReadonlyArray<QueuedQuestion>>
    /** See `ChatRpc.Again`. */
    readonly again: (options: {
      readonly conversation: string
      readonly messageId?: string
      readonly newId: string
      readonly text?: string
    }) => Stream.Stream<ChatEvent, ChatError>
    /** Answers where no person attends; interruption stops it. */
    readonly run: (
      errand: Question.Errand
    ) => Effect.Effect<{ readonly text: string; readonly usage: Usage; readonly cost: number | undefined }, ChatError>
  }
>()("clawchat/programs/Assistant") {
  /** One per transcript: it takes answers that it finds unfinished for the remains of a crash. */
  static readonly layer = (
    settings: AssistantSettings = {}
  ): Layer.Layer<Assistant, ConversationsError, LlmProvider | ContextStore | Conversations | Crypto> =>
    Layer.effect(Assistant, make(settings))
}
