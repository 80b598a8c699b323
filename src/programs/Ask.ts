/**
 * One question and its answer, whatever happens to the line meanwhile: a question keeps its id over reconnections, so it is
 * asked once, and what was already shown of an answer is not shown twice.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { ChatError, type ChatEvent } from "../domain/ChatRpc.ts"
import type { StopReason, Usage } from "../domain/Llm.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { TransportError } from "../services/Transport.ts"
import type { Link, Session, TierAwayError } from "./ClientLink.ts"
import type { SealError } from "./SealedClient.ts"

/** Milliseconds before a tier that was away is asked again, even if it is said to be back. */
const PAUSE_MS = 500
/** Milliseconds that the reason of a broken stream may be late: a writer notices before the reader does. */
const LATE_MS = 1000

export interface Question {
  readonly conversation: string
  /** A lower-case UUID, made once per question. */
  readonly messageId: string
  readonly text: string
}

export type Output =
  /** The assistant begins, or begins again after an interruption of the line. */
  | { readonly _tag: "Started"; readonly provider: string; readonly model: string }
  | { readonly _tag: "Text"; readonly text: string }
  /** What was shown does not hold: the answer begins anew. */
  | { readonly _tag: "Restarted" }
  /** The line, or the llm tier behind the server, is away; it goes on by itself. */
  | { readonly _tag: "Waiting"; readonly for: "line" | "tier" }
  /** The last one. */
  | { readonly _tag: "Done"; readonly usage: Usage; readonly stopReason: StopReason }

/** Shows a replayed answer only from where it goes beyond what was shown. */
class Shown {
  #shown = ""
  /** How much of what was shown this telling has confirmed. */
  #confirmed = 0

  begin(): void {
    this.#confirmed = 0
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
      return [...shown.end(), { _tag: "Done", usage: event.usage, stopReason: event.stopReason }]
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

/**
 * Asks until there is an answer. Ending the stream early cancels the answer upstream. Fails with what the assistant said
 * of the failure; never because the line or the llm tier is away: how long to wait for those is the caller's.
 */
export const ask = (link: Link, question: Question): Stream.Stream<Output, ChatError> => {
  const shown = new Shown()
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
    return chat["Chat.Send"](question).pipe(
      // Should a call not hear of it at all: what came before the failure is still let through.
      Stream.interruptWhen(Effect.catch(failure, (error) => Effect.andThen(Effect.sleep(LATE_MS), Effect.fail(error)))),
      Stream.flatMap((event) => Stream.fromIterable(outputs(shown, event))),
      // Only reached when the answer ended without an end.
      Stream.concat(tierIsAway),
      Stream.catchCause((cause) => {
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
    Stream.takeUntil(({ _tag }) => _tag === "Done"),
    Stream.changesWith((a, b) => a._tag === "Waiting" && b._tag === "Waiting" && a.for === b.for)
  )
}
