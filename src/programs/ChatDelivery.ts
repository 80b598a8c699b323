/** How what waits in a chat at a terminal is delivered, and when it is kept no longer. */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type { ChatError } from "../domain/ChatRpc.ts"
import * as Printable from "../domain/Printable.ts"
import type * as Ask from "./Ask.ts"
import type { Speech } from "./ChatItems.ts"
import * as ChatTalk from "./ChatTalk.ts"

/** Milliseconds before a message that was not taken, though it will be, is sent again; doubled up to the second. */
const AGAIN_MS = 2000
const AGAIN_MAX_MS = 60_000

export const make = (chat: ChatTalk.Chat) => {
  const forget = ({ message }: Speech): Effect.Effect<void> =>
    message === undefined ? Effect.void : chat.forget(message)

  const forgetAll = (all: ReadonlyArray<Speech>): Effect.Effect<void> => Effect.forEach(all, forget, { discard: true })

  /** Shows what is answered, once: again and again while the assistant is only busy. `listen` is told of each step. */
  const deliver = Effect.fnUntraced(function* (
    item: Speech,
    listen: (event: Ask.StepEvent) => Effect.Effect<void>
  ): Effect.fn.Return<void, ChatError | ChatTalk.HungUp> {
    const outputs = Stream.map(item.outputs, (output) => {
      if (output._tag === "Started") item.begun = true
      return output
    })
    for (let pauseMs = AGAIN_MS; ; pauseMs = Math.min(2 * pauseMs, AGAIN_MAX_MS)) {
      const result = yield* Effect.result(chat.answer(outputs, listen))
      if (Result.isFailure(result)) {
        const error = result.failure
        if (error._tag === "HungUp") return yield* error
        if (item.message?.kept !== undefined && !ChatTalk.isSettled(error)) {
          const again = `sent again in ${pauseMs / 1000} s; Ctrl-C drops it`
          yield* chat.screen.note(Printable.line(`${error.message} (${again})`))
          yield* Effect.sleep(pauseMs)
          continue
        }
      }
      item.over = true
      yield* forget(item)
      if (Result.isFailure(result)) return yield* result.failure
      return
    }
  })

  return { deliver, forget, forgetAll }
}
