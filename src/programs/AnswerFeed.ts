/** The events of one answer, kept from its first on: however many read it, and whenever they come, each reads all of it. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { ChatError, ChatEvent } from "../domain/ChatRpc.ts"

export class AnswerFeed {
  readonly #events: Array<ChatEvent> = []
  #replyId: string | undefined
  #end: Exit.Exit<void, ChatError> | undefined
  #changed = Deferred.makeUnsafe<void>()

  /** The answer's own id, once it has one. */
  get replyId(): string | undefined {
    return this.#replyId
  }

  readonly publish = (event: ChatEvent): void => {
    if (event._tag === "Started") this.#replyId = event.replyId
    const last = this.#events.at(-1)
    // A long answer is thousands of small pieces: who comes late needs no more than their sum.
    if (event._tag === "Delta" && last?._tag === "Delta" && this.#readers === 0) {
      this.#events[this.#events.length - 1] = { _tag: "Delta", text: last.text + event.text }
      return
    }
    this.#events.push(event)
    this.#signal()
  }

  readonly end = (exit: Exit.Exit<void, ChatError>): void => {
    this.#end = exit
    this.#signal()
  }

  #readers = 0

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

  /** All events from the first on; those that came while nobody took any come together. */
  readonly events: Stream.Stream<ChatEvent, ChatError> = Stream.suspend(() => {
    this.#readers++
    return Stream.ensuring(
      Stream.paginate(0, this.#after),
      Effect.sync(() => {
        this.#readers--
      })
    )
  })
}
