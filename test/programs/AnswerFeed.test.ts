import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import type { ChatEvent } from "../../src/domain/ChatRpc.ts"
import { AnswerFeed } from "../../src/programs/AnswerFeed.ts"

const delta = (text: string): ChatEvent => ({ _tag: "Delta", text })
const started: ChatEvent = { _tag: "Started", replyId: "r", model: "m", provider: "p" }
const done: ChatEvent = { _tag: "Done", usage: { inputTokens: 1, outputTokens: 1 }, stopReason: "end" }

describe("AnswerFeed", () => {
  it.effect("hands a reader who was busy all that came meanwhile at once", () =>
    Effect.gen(function* () {
      const feed = new AnswerFeed()
      const latch = Latch.makeUnsafe(false)
      const taken: Array<ReadonlyArray<ChatEvent>> = []
      feed.publish(started)
      const reading = yield* Effect.forkChild(
        Stream.runForEachArray(feed.events, (events) => {
          taken.push(events)
          return latch.await
        }),
        { startImmediately: true }
      )
      const words = ["one", "two", "three"].map(delta)
      for (const word of words) feed.publish(word)
      feed.publish(done)
      feed.end(Exit.void)
      latch.openUnsafe()
      yield* Fiber.join(reading)
      assert.deepStrictEqual(taken, [[started], [...words, done]])
      assert.strictEqual(feed.replyId, "r")
    })
  )

  it.effect("joins the texts that nobody was there to read", () =>
    Effect.gen(function* () {
      const feed = new AnswerFeed()
      for (const event of [started, delta("a"), delta("b"), done]) feed.publish(event)
      feed.end(Exit.void)
      assert.deepStrictEqual(yield* Stream.runCollect(feed.events), [started, delta("ab"), done])
    })
  )
})
