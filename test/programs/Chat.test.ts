import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RpcTest from "effect/rpc/RpcTest"
import { type ChatMessage, ChatRpc, maxHistoryChars } from "../../src/domain/ChatRpc.ts"
import { Assistant } from "../../src/programs/Assistant.ts"
import * as Chat from "../../src/programs/Chat.ts"
import { ContextStore } from "../../src/services/ContextStore.ts"
import { Conversations } from "../../src/services/Conversations.ts"
import { LlmProvider } from "../../src/services/LlmProvider.ts"

const message = (seq: number, text: string): ChatMessage => ({
  id: `m${seq}`,
  seq,
  role: seq % 2 === 0 ? "user" : "assistant",
  text,
  status: "complete",
  created: seq
})

/** Answers from a list as the stores do, and remembers how much was asked for at a time. */
const storeOf = (all: ReadonlyArray<ChatMessage>) => {
  const asked: Array<number> = []
  const layer = Layer.mock(Conversations, {
    history: ({ before = Number.POSITIVE_INFINITY, limit }) => {
      asked.push(limit)
      return Effect.succeed(all.filter(({ seq }) => seq < before).slice(-limit))
    }
  })
  return { asked, layer }
}

const others = Layer.mergeAll(
  Layer.mock(Assistant, {}),
  Layer.mock(ContextStore, {}),
  Layer.mock(LlmProvider, { info: { provider: "none", model: "none", chosen: "by the test" } })
)

const history = (store: ReturnType<typeof storeOf>, limit: number, before?: number) =>
  Effect.gen(function* () {
    const client = yield* RpcTest.makeClient(ChatRpc)
    return yield* client["Chat.History"]({ conversation: "main", limit, ...(before === undefined ? {} : { before }) })
  }).pipe(
    Effect.scoped,
    Effect.provide(Chat.layerHandlers({ version: "1" }).pipe(Layer.provide([store.layer, others])))
  )

describe("Chat.History", () => {
  it.effect("gives the newest messages, oldest first, and pages", () =>
    Effect.gen(function* () {
      const store = storeOf(Array.from({ length: 90 }, (_, seq) => message(seq, `t${seq}`)))
      const newest = yield* history(store, 45)
      assert.deepEqual(
        newest.map(({ seq }) => seq),
        Array.from({ length: 45 }, (_, i) => 45 + i)
      )
      assert.deepEqual(store.asked, [20, 20, 5])
      assert.strictEqual((yield* history(store, 500)).length, 90)
      assert.deepEqual(
        (yield* history(store, 3, 2)).map(({ seq }) => seq),
        [0, 1]
      )
    })
  )

  it.effect("never makes an answer much longer than it may be, and a single long message comes alone", () =>
    Effect.gen(function* () {
      const store = storeOf(Array.from({ length: 500 }, (_, seq) => message(seq, "x".repeat(256 * 1024))))
      const answer = yield* history(store, 500)
      assert.strictEqual(answer.length, maxHistoryChars / (256 * 1024))
      assert.strictEqual(answer.at(-1)?.seq, 499)
      assert.deepEqual(store.asked, [20])
      const giant = storeOf([message(0, "a"), message(1, "y".repeat(maxHistoryChars + 1))])
      assert.deepEqual(
        (yield* history(giant, 500)).map(({ seq }) => seq),
        [1]
      )
    })
  )
})
