/**
 * One question and its answer, whatever happens to the line meanwhile: a question keeps its id over reconnections, so it is
 * asked once, and what was already shown of an answer is not shown twice.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { ChatError, type ChatEvent } from "../domain/ChatRpc.ts"
import type { StopReason, Usage } from "../domain/Llm.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { TransportError } from "../services/Transport.ts"
import type { ChatClient, Link, Session, TierAwayError } from "./ClientLink.ts"
import type { Question } from "./Question.ts"
import type { SealError } from "./SealedClient.ts"

/** Milliseconds before a tier that was away is asked again, even if it is said to be back. */
const PAUSE_MS = 500
/** Milliseconds that the reason of a broken stream may be late, for a writer notices before the reader does; and the end of an answer after its last word. */
const LATE_MS = 1000

export type Output =
  /** The assistant begins, or begins again after an interruption of the line. */
  | { readonly _tag: "Started"; readonly provider: string; readonly model: string }
  | { readonly _tag: "Text"; readonly text: string }
  /** What happens on the way; each once, however often the answer is told. */
  | { readonly _tag: "Step"; readonly event: StepEvent }
  /** What was shown does not hold: the answer begins anew. */
  | { readonly _tag: "Restarted" }
  /** The line, or the llm tier behind the server, is away; it goes on by itself. */
  | { readonly _tag: "Waiting"; readonly for: "line" | "tier" }
  /** The last one. */
  | { readonly _tag: "Done"; readonly usage: Usage; readonly stopReason: StopReason; readonly cost?: number }

/** All but the texts, the beginning and the end. */
export type StepEvent = Exclude<ChatEvent, { readonly _tag: "Started" | "Delta" | "Done" }>

/** Says twice what is the same. */
const keyOf = (event: StepEvent): string => {
  switch (event._tag) {
    case "Approval":
    case "Decided":
      return `${event._tag} ${event.approvalId}`
    case "Calling":
    case "Called":
      return `${event._tag} ${event.callId}`
    case "Asked":
      return "Asked"
    case "Queued":
      return `Queued ${event.ahead}`
    case "Notice":
      return `Notice ${event.text}`
  }
}

/** Stands for the end of a telling that has told all that there is. */
const none: Output = { _tag: "Restarted" }

/** Shows a replayed answer only from where it goes beyond what was shown. */
class Shown {
  readonly #steps = new Set<string>()
  #shown = ""
  /** How much of what was shown this telling has confirmed. */
  #confirmed = 0

  begin(): void {
    this.#confirmed = 0
  }

  step(event: StepEvent): ReadonlyArray<Output> {
    const key = keyOf(event)
    if (this.#steps.has(key)) return []
    this.#steps.add(key)
    return [{ _tag: "Step", event }]
  }

  delta(text: string): ReadonlyArray<Output> {
    if (this.#confirmed === this.#shown.length) {
      this.#shown += text
      this.#confirmed = this.#shown.length
      return text === "" ? [] : [{ _tag: "Text", text }]
    }
    const known = this.#shown.slice(this.#confirmed, this.#confirmed + text.length)
    if (!text.startsWith(known)) return this.#anew(this.#shown.slice(0, this.#confirmed) + text)
    this.#confirmed += known.length
    const fresh = text.slice(known.length)
    return fresh === "" ? [] : this.delta(fresh)
  }

  /** The answer is over; if it is shorter than what was shown, that does not hold. */
  end(): ReadonlyArray<Output> {
    return this.#confirmed === this.#shown.length ? [] : this.#anew(this.#shown.slice(0, this.#confirmed))
  }

  #anew(text: string): ReadonlyArray<Output> {
    this.#shown = text
    this.#confirmed = text.length
    return text === "" ? [{ _tag: "Restarted" }] : [{ _tag: "Restarted" }, { _tag: "Text", text }]
  }
}

const outputs = (shown: Shown, event: ChatEvent): ReadonlyArray<Output> => {
  switch (event._tag) {
    case "Started":
      shown.begin()
      return [{ _tag: "Started", provider: event.provider, model: event.model }]
    case "Delta":
      return shown.delta(event.text)
    case "Done":
      return [
        ...shown.end(),
        {
          _tag: "Done",
          usage: event.usage,
          stopReason: event.stopReason,
          ...(event.cost === undefined ? {} : { cost: event.cost })
        }
      ]
    default:
      return shown.step(event)
  }
}

/** Until there is a session. `link.session` knows of one a moment before `link.state` does. */
const untilConnected = (link: Link): Effect.Effect<void> =>
  link.changes.pipe(
    Stream.takeUntil(({ _tag }) => _tag === "Connected"),
    Stream.runDrain
  )

/** Until another session than this one is there, or none: a lost one is never tried again. */
const untilReplaced = (link: Link, session: Session): Effect.Effect<void> =>
  link.changes.pipe(
    Stream.takeUntil((state) => state._tag !== "Connected" || state.session !== session),
    Stream.runDrain
  )

/** Until the server says that it reaches the llm tier, or the connection is over; never at once. */
const untilTierIsBack = (session: Session): Effect.Effect<void> =>
  Effect.andThen(
    Effect.sleep(PAUSE_MS),
    session.server["Control.Watch"](undefined).pipe(
      Stream.takeUntil(({ connected }) => connected),
      Stream.runDrain,
      Effect.ignoreCause,
      Effect.raceFirst(session.connection.closed)
    )
  )

const waiting = (what: "line" | "tier", until: Effect.Effect<void>): Stream.Stream<Output> =>
  Stream.concat(Stream.succeed<Output>({ _tag: "Waiting", for: what }), Stream.fromEffectDrain(until))

const notUnderstood = (why: string) =>
  new ChatError({
    reason: "LlmFailed",
    message: `${why}: this client and the server are of different versions, or the assistant has a bug (see its log)`
  })

/** Why a stream ended that should not have; `Closed` and the like are the line's, resets come from behind the server. */
const afterFailure = (
  link: Link,
  session: Session,
  error: TierAwayError | TransportError | SealError
): Stream.Stream<Output, ChatError> => {
  if (error._tag === "TierAwayError") return waiting("tier", untilTierIsBack(session))
  if (error._tag === "SealError") return Stream.fail(new ChatError({ reason: "LlmFailed", message: error.message }))
  // The llm tier was started anew: the next stream begins with a handshake, and works.
  if (error.reason === "Reset" && error.code === StreamHeader.Code.Renew) return Stream.empty
  if (error.reason === "Seal") return waiting("tier", untilTierIsBack(session))
  if (error.reason !== "Reset" && error.reason !== "Stopped") return waiting("line", untilReplaced(link, session))
  return error.code === StreamHeader.Code.Unknown
    ? Stream.fail(notUnderstood("the server does not know how to reach the assistant"))
    : waiting("tier", untilTierIsBack(session))
}

type Trouble =
  /** The assistant said so, or nobody can help. */
  | { readonly _tag: "Final"; readonly error: ChatError }
  /** Both sides are well but the answer was broken off in good order. */
  | { readonly _tag: "BrokenOff" }
  | { readonly _tag: "StreamBroke" }

/** What a failed call means. The stock RPC client reports failed writes as defects, and so decode errors. */
const troubleOf = (cause: Cause.Cause<unknown>): Trouble => {
  for (const reason of cause.reasons) {
    if (Cause.isInterruptReason(reason)) continue
    const error = Cause.isFailReason(reason) ? reason.error : reason.defect
    if (error instanceof ChatError) {
      return error.reason === "TierAway" ? { _tag: "BrokenOff" } : { _tag: "Final", error }
    }
    const tag = tagOf(error)
    const inner = tag === "RpcClientError" || tag === "SocketError" ? tagOf(reasonOf(error)) : tag
    if (inner === "SocketCloseError") return { _tag: "BrokenOff" }
    if (inner.startsWith("Socket") || inner === "TransportError" || inner === "TierAwayError")
      return { _tag: "StreamBroke" }
    return { _tag: "Final", error: notUnderstood("the answer could not be understood") }
  }
  // Interrupted by the other side, which is ending.
  return { _tag: "BrokenOff" }
}

const tagOf = (value: unknown): string =>
  typeof value === "object" && value !== null && "_tag" in value ? String(value._tag) : ""

const reasonOf = (value: unknown): unknown =>
  typeof value === "object" && value !== null && "reason" in value ? value.reason : undefined

/** One telling of an answer, from its start. */
type Telling = (chat: ChatClient) => Stream.Stream<ChatEvent, unknown>

/**
 * Asks until there is an answer. Ending the stream early leaves the answer to go on: see `stop`. Fails with what the
 * assistant said of the failure; never because the line or the llm tier is away: how long to wait for those is the
 * caller's.
 */
export const ask = (link: Link, question: Question): Stream.Stream<Output, ChatError> =>
  tell(link, (chat) => chat["Chat.Send"](question))

/** Takes a question back and asks it again, or another text in its place; see `ChatRpc.Again`. */
export const again = (
  link: Link,
  options: {
    readonly conversation: string
    readonly messageId?: string
    readonly newId: string
    readonly text?: string
  }
): Stream.Stream<Output, ChatError> => tell(link, (chat) => chat["Chat.Again"](options))

/** The answer that is being made in a conversation, or was made and not read; ends at once where there is none. */
export const follow = (link: Link, conversation: string): Stream.Stream<Output, ChatError> =>
  tell(link, (chat) => chat["Chat.Follow"]({ conversation }), true)

const tell = (link: Link, telling: Telling, mayBeNone = false): Stream.Stream<Output, ChatError> => {
  const shown = new Shown()
  let heard = false
  let isDone = false
  const done = Deferred.makeUnsafe<void>()
  const attempt = Effect.gen(function* () {
    const state = yield* link.state
    if (state._tag !== "Connected") return waiting("line", untilConnected(link))
    const { session } = state
    const opened = yield* Effect.result(session.openChat)
    if (opened._tag === "Failure") return afterFailure(link, session, opened.failure)
    const { chat, failure } = opened.success
    // The stock client hears of a broken stream only once its own fiber has run.
    yield* Effect.yieldNow
    const tierIsAway = waiting("tier", untilTierIsBack(session))
    return telling(chat).pipe(
      Stream.filter(() => !isDone),
      Stream.tap((event) => {
        heard = true
        isDone = event._tag === "Done"
        return Effect.void
      }),
      // Should a call not hear of it at all: what came before the failure is still let through.
      Stream.interruptWhen(Effect.catch(failure, (error) => Effect.andThen(Effect.sleep(LATE_MS), Effect.fail(error)))),
      Stream.flatMap((event) => Stream.fromIterable(outputs(shown, event))),
      Stream.tap(({ _tag }) => (_tag === "Done" ? Deferred.succeed(done, undefined) : Effect.void)),
      // The tier notes that somebody has read the answer once it is asked for what comes after the last word.
      Stream.interruptWhen(Effect.andThen(Deferred.await(done), Effect.sleep(LATE_MS))),
      Stream.concat(Stream.suspend(() => (isDone || (mayBeNone && !heard) ? Stream.succeed(none) : tierIsAway))),
      Stream.catchCause((cause) => {
        if (isDone) return Stream.succeed(none)
        const trouble = troubleOf(cause)
        if (trouble._tag === "Final") return Stream.fail(trouble.error)
        if (trouble._tag === "BrokenOff") return tierIsAway
        return failure.pipe(
          Effect.flip,
          Effect.timeoutOption(LATE_MS),
          Effect.map((error) => (Option.isNone(error) ? tierIsAway : afterFailure(link, session, error.value))),
          Stream.unwrap
        )
      })
    )
  })
  return Stream.suspend(() => Stream.unwrap(attempt)).pipe(
    Stream.forever,
    Stream.takeUntil((output) => output === none),
    Stream.filter((output) => output !== none),
    Stream.changesWith((a, b) => a._tag === "Waiting" && b._tag === "Waiting" && a.for === b.for)
  )
}

/** Milliseconds that stopping may take. */
const STOP_MS = 1000

/**
 * Stops the answer to a message, or all answers of a conversation, within a second or not at all: what nobody stops goes on
 * and can be followed. The number of those that were stopped; none without a connection.
 */
export const stop = (link: Link, conversation: string, messageId?: string): Effect.Effect<number> =>
  Effect.gen(function* () {
    const state = yield* link.state
    if (state._tag !== "Connected") return 0
    const { chat } = yield* state.session.openChat
    return yield* chat["Chat.Stop"]({ conversation, ...(messageId === undefined ? {} : { messageId }) })
  }).pipe(
    Effect.scoped,
    Effect.catchCause(() => Effect.succeed(0)),
    Effect.timeoutOrElse({ duration: STOP_MS, orElse: () => Effect.succeed(0) })
  )
