/** What went on while nobody was at the terminal: an answer that nobody has read, results of scheduled work. */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import type { ChatError } from "../domain/ChatRpc.ts"
import type { Run } from "../domain/CronJob.ts"
import * as CronText from "../domain/CronText.ts"
import * as Printable from "../domain/Printable.ts"
import * as Ask from "./Ask.ts"
import type * as ChatTalk from "./ChatTalk.ts"
import type { Link } from "./ClientLink.ts"

/** Questions whose answers a chat has shown, as far as it remembers. */
const MAX_HEARD = 256
/** Outputs of an answer that wait to be shown. */
const MAX_AHEAD = 64

/** Questions whose answers this chat has shown, or is about to. */
export class Heard {
  readonly #ids = new Set<string>()

  add(id: string): void {
    this.#ids.delete(id)
    this.#ids.add(id)
    const [oldest] = this.#ids
    if (this.#ids.size > MAX_HEARD && oldest !== undefined) this.#ids.delete(oldest)
  }

  has(id: string): boolean {
    return this.#ids.has(id)
  }
}

/** An answer and the question that it is to; `outputs` is read once. */
export interface Found {
  readonly messageId: string
  readonly text: string
  readonly outputs: Stream.Stream<Ask.Output, ChatError>
}

/**
 * Looks for an answer that is being made in a conversation, or was made and not read, and gives it. One that the chat has
 * shown by itself is only read to its end. Returns when it was read, or there is none.
 */
export const find = Effect.fnUntraced(function* (
  link: Link,
  conversation: string,
  heard: Heard,
  give: (found: Found) => Effect.Effect<unknown>
) {
  const outputs = yield* Queue.bounded<Ask.Output, ChatError | Cause.Done>(MAX_AHEAD)
  /** Who was given it has read it, or wants no more. */
  const left = yield* Deferred.make<void>()
  const told = Stream.ensuring(Stream.fromQueue(outputs), Deferred.succeed(left, undefined))
  let isWanted = false
  const reading = Ask.follow(link, conversation).pipe(
    Stream.runForEach((output) => {
      if (output._tag === "Step" && output.event._tag === "Asked") {
        const { messageId, text } = output.event
        if (heard.has(messageId)) return Effect.void
        isWanted = true
        heard.add(messageId)
        return give({ messageId, text, outputs: told })
      }
      return isWanted ? Queue.offer(outputs, output) : Effect.void
    }),
    Effect.matchEffect({
      onSuccess: () => Queue.end(outputs),
      // Who asked for nothing needs to hear of no failure.
      onFailure: (error) => (isWanted ? Queue.fail(outputs, error) : Effect.void)
    })
  )
  yield* Effect.raceFirst(reading, Deferred.await(left))
})

/** A run of a scheduled job that nobody has seen; `isShown` is for who has shown it. */
export interface Result {
  readonly run: Run
  readonly isShown: Deferred.Deferred<void>
}

/** Gives runs one after the other, each once the one before was shown, and tells the assistant so. Ends with the line. */
export const results = (link: Link, give: (result: Result) => Effect.Effect<unknown>) =>
  Effect.gen(function* () {
    const session = yield* link.session
    const { chat, failure } = yield* session.openChat
    const reading = Stream.runForEach(chat["Cron.Results"]({ follow: true }), (run) =>
      Effect.gen(function* () {
        const isShown = yield* Deferred.make<void>()
        yield* give({ run, isShown })
        yield* Deferred.await(isShown)
        yield* chat["Cron.Acknowledge"]({ ids: [run.id] })
      })
    )
    yield* Effect.raceFirst(reading, failure)
  }).pipe(Effect.scoped, Effect.ignoreCause)

/** Results of scheduled work that one chat shows with their texts, and lines of one. */
const MAX_RESULTS = 8
const RESULT_LINES = 30

/** Shows results on the screen of a chat: the first ones with their texts, of more than those only that they are there. */
export const shower = (chat: ChatTalk.Chat): ((result: Result) => Effect.Effect<void, ChatTalk.HungUp>) => {
  let shown = 0
  return Effect.fnUntraced(function* ({ isShown, run }) {
    yield* chat.screen.note(CronText.heading(run))
    const lines = Printable.clean(run.text).trimEnd().split("\n")
    const text = ++shown > MAX_RESULTS ? [] : lines.slice(0, RESULT_LINES)
    if (text.some((each) => each.trim() !== "")) yield* chat.write(`${text.join("\n")}\n`)
    if (text.length < lines.length) {
      yield* chat.screen.note(`all of it: clawchat history show "cron ${Printable.line(run.job)}"`)
    }
    yield* Deferred.succeed(isShown, undefined)
  })
}
