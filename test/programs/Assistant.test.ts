import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as RpcTest from "effect/rpc/RpcTest"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { type ChatEvent, ChatRpc, maxTextBytes } from "../../src/domain/ChatRpc.ts"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as LlmOffline from "../../src/layers/LlmOffline.ts"
import { Assistant, type AssistantSettings } from "../../src/programs/Assistant.ts"
import * as Chat from "../../src/programs/Chat.ts"
import { ContextStore } from "../../src/services/ContextStore.ts"
import { Conversations } from "../../src/services/Conversations.ts"
import { LlmError, type LlmEvent, LlmProvider, type LlmRequest } from "../../src/services/LlmProvider.ts"

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`

const said = (...parts: ReadonlyArray<string>): Stream.Stream<LlmEvent> =>
  Stream.fromIterable<LlmEvent>([
    ...parts.map((text) => ({ _tag: "Delta", text }) as const),
    { _tag: "Done", usage: { inputTokens: 7, outputTokens: parts.length }, stopReason: "end", model: "script-1" }
  ])

const delta = (text: string): Stream.Stream<LlmEvent> => Stream.succeed({ _tag: "Delta", text })

const textOf = (events: ReadonlyArray<ChatEvent>) =>
  events.map((event) => (event._tag === "Delta" ? event.text : "")).join("")

/** Roles and texts of a request's messages. */
const plain = (request: LlmRequest | undefined) => request?.messages.map(({ role, text }) => ({ role, text }))

type Script = (request: LlmRequest, index: number) => Stream.Stream<LlmEvent, LlmError>

/** The whole tier on a scripted model; a client of its RPC group. */
const tier = (
  script: Script,
  options: {
    readonly settings?: AssistantSettings
    readonly filename?: string
    readonly context?: { [name: string]: string }
  } = {}
) =>
  Chat.layerHandlers({ version: "1.2.3" }).pipe(
    Layer.provide(Assistant.layer(options.settings)),
    Layer.provideMerge(ConversationsSqlite.layer({ filename: options.filename ?? ":memory:" })),
    Layer.provideMerge(ContextStore.layerMemory(options.context ?? { "SOUL.md": "Be exact." })),
    Layer.provideMerge(LlmProvider.layerScripted(script)),
    Layer.provide(CryptoNode.layer)
  )

const client = Effect.map(RpcTest.makeClient(ChatRpc), (rpc) => ({
  Send: (question: Parameters<Assistant["Service"]["send"]>[0]) => rpc["Chat.Send"](question),
  History: rpc["Chat.History"],
  Conversations: rpc["Chat.Conversations"],
  Status: rpc["Chat.Status"],
  Stop: rpc["Chat.Stop"],
  Follow: rpc["Chat.Follow"],
  Queue: rpc["Chat.Queue"],
  Approve: rpc["Chat.Approve"],
  Again: (options: Parameters<Assistant["Service"]["again"]>[0]) => rpc["Chat.Again"](options)
}))

const send = (chat: Effect.Success<typeof client>, n: number, text: string, conversation = "main") =>
  chat.Send({ conversation, messageId: id(n), text })

/** Reads the answer to "hello" in a fiber of its own, which is given back once the first of its words are there. */
const reading = Effect.fnUntraced(function* (chat: Effect.Success<typeof client>) {
  const begun = yield* Deferred.make<void>()
  const reader = yield* send(chat, 1, "hello").pipe(
    Stream.tap((event) => (event._tag === "Delta" ? Deferred.succeed(begun, undefined) : Effect.void)),
    Stream.runCollect,
    Effect.forkChild
  )
  yield* Deferred.await(begun)
  return reader
})

const history = (chat: Effect.Success<typeof client>, conversation = "main") =>
  Effect.map(chat.History({ conversation, limit: 100 }), (messages) =>
    messages.map(({ role, seq, status, text }) => `${seq} ${role} ${status}: ${text}`)
  )

describe("Assistant", () => {
  it.effect("streams an answer and keeps both sides", () =>
    Effect.gen(function* () {
      const chat = yield* client
      const events = yield* Stream.runCollect(send(chat, 1, "hello"))
      assert.strictEqual(textOf(events), "good day")
      assert.deepStrictEqual(
        events.flatMap((event) => (event._tag === "Delta" ? [] : [{ ...event }])),
        [
          { _tag: "Started", replyId: `${id(1)}.1`, model: "script-1", provider: "scripted" },
          { _tag: "Done", usage: { inputTokens: 7, outputTokens: 2 }, stopReason: "end" }
        ]
      )
      assert.deepStrictEqual(yield* history(chat), ["0 user complete: hello", "1 assistant complete: good day"])
      assert.deepStrictEqual(yield* chat.Conversations(), [{ name: "main", created: 0, messages: 2 }])
    }).pipe(Effect.provide(tier(() => said("good ", "day"))))
  )

  it.effect("keeps together what comes while its reader is busy", () => {
    const reading = Deferred.makeUnsafe<void>()
    const ended = Deferred.makeUnsafe<void>()
    return Effect.gen(function* () {
      const assistant = yield* Assistant
      const arrays: Array<ReadonlyArray<string>> = []
      const busy = yield* assistant.send({ conversation: "main", messageId: id(1), text: "count" }).pipe(
        Stream.runForEachArray((events) => {
          arrays.push(events.map(({ _tag }) => _tag))
          return Effect.andThen(Deferred.succeed(reading, undefined), Deferred.await(ended))
        }),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Deferred.await(reading)
      yield* Stream.runDrain(assistant.follow("main"))
      yield* Deferred.succeed(ended, undefined)
      yield* Fiber.join(busy)
      assert.deepStrictEqual(arrays, [["Started"], ["Delta", "Delta", "Delta", "Done"]])
    }).pipe(
      Effect.provide(
        Assistant.layer().pipe(
          Layer.provide(ConversationsSqlite.layer({ filename: ":memory:" })),
          Layer.provide(ContextStore.layerMemory({})),
          Layer.provide(
            LlmProvider.layerScripted(() =>
              Stream.concat(Stream.fromEffectDrain(Deferred.await(reading)), said("one", "two", "three"))
            )
          ),
          Layer.provide(CryptoNode.layer)
        )
      )
    )
  })

  it.effect("sends the context and the history upstream, question last", () => {
    const seen: Array<LlmRequest> = []
    return Effect.gen(function* () {
      const chat = yield* client
      yield* Stream.runDrain(send(chat, 1, "my name is Ada"))
      yield* Stream.runDrain(send(chat, 2, "elsewhere", "other"))
      yield* Stream.runDrain(send(chat, 3, "what is my name?"))
      assert.strictEqual(seen[2]?.system, "===== SOUL.md =====\nBe exact.")
      assert.deepStrictEqual(plain(seen[2]), [
        { role: "user", text: "my name is Ada" },
        { role: "assistant", text: "answer 0" },
        { role: "user", text: "what is my name?" }
      ])
      assert.deepStrictEqual(plain(seen[1]), [{ role: "user", text: "elsewhere" }])
    }).pipe(
      Effect.provide(
        tier((request, index) => {
          seen.push(request)
          return said(`answer ${index}`)
        })
      )
    )
  })

  it.effect("cuts history to the budget on whole exchanges, newest kept", () => {
    const seen: Array<LlmRequest> = []
    return Effect.gen(function* () {
      const chat = yield* client
      for (let n = 1; n <= 4; n++) yield* Stream.runDrain(send(chat, n, `${n}`.repeat(40)))
      // The third and its answer fit beside the fourth, the second does not.
      assert.deepStrictEqual(plain(seen[3]), [
        { role: "user", text: "3".repeat(40) },
        { role: "assistant", text: "yes" },
        { role: "user", text: "4".repeat(40) }
      ])
    }).pipe(
      Effect.provide(
        tier(
          (request) => {
            seen.push(request)
            return said("yes")
          },
          { settings: { historyTokens: 60 }, context: {} }
        )
      )
    )
  })

  it.effect("replays a complete answer to the same message id, also after a restart", () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-assistant-"))
    const filename = path.join(folder, "clawchat.db")
    let asked = 0
    const run = tier(
      () => {
        asked++
        return said("once ", "only")
      },
      { filename }
    )
    return Effect.gen(function* () {
      const first = yield* Effect.gen(function* () {
        const chat = yield* client
        const before = yield* Stream.runCollect(send(chat, 1, "hello"))
        assert.strictEqual(textOf(yield* Stream.runCollect(send(chat, 1, "hello"))), "once only")
        return before
      }).pipe(Effect.provide(run, { local: true }))
      yield* Effect.gen(function* () {
        const chat = yield* client
        const again = yield* Stream.runCollect(send(chat, 1, "hello"))
        assert.strictEqual(textOf(again), textOf(first))
        assert.deepStrictEqual({ ...again[0] }, { ...first[0] })
        assert.deepStrictEqual({ ...again.at(-1) }, { ...first.at(-1) })
        assert.deepStrictEqual(yield* history(chat), ["0 user complete: hello", "1 assistant complete: once only"])
      }).pipe(Effect.provide(run, { local: true }))
      assert.strictEqual(asked, 1)
    }).pipe(Effect.ensuring(Effect.sync(() => fs.rmSync(folder, { recursive: true }))))
  })

  it.effect("lets a second caller join a running answer from its start", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      let asked = 0
      yield* Effect.gen(function* () {
        const chat = yield* client
        const first = yield* reading(chat)
        const second = yield* reading(chat)
        yield* Deferred.succeed(go, undefined)
        const both = [yield* Fiber.join(first), yield* Fiber.join(second)]
        assert.deepStrictEqual(both.map(textOf), ["one two", "one two"])
        assert.strictEqual(asked, 1)
        assert.strictEqual((yield* history(chat)).length, 2)
      }).pipe(
        Effect.provide(
          tier(() => {
            asked++
            return Stream.concat(delta("one "), Stream.unwrap(Effect.as(Deferred.await(go), said("two"))))
          })
        )
      )
    })
  )

  it.effect("one of two callers leaving does not stop the answer", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const chat = yield* client
        const first = yield* reading(chat)
        const second = yield* reading(chat)
        yield* Fiber.interrupt(first)
        yield* Deferred.succeed(go, undefined)
        assert.strictEqual(textOf(yield* Fiber.join(second)), "one two")
        assert.deepStrictEqual(yield* history(chat), ["0 user complete: hello", "1 assistant complete: one two"])
      }).pipe(
        Effect.provide(
          tier(() => Stream.concat(delta("one "), Stream.unwrap(Effect.as(Deferred.await(go), said("two")))))
        )
      )
    })
  )

  it.effect("an answer goes on when its reader leaves, and is picked up; it is told once to who follows", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      let asked = 0
      yield* Effect.gen(function* () {
        const chat = yield* client
        const reader = yield* reading(chat)
        yield* Fiber.interrupt(reader)
        const follower = yield* Effect.forkChild(Stream.runCollect(chat.Follow({ conversation: "main" })))
        yield* Effect.yieldNow
        assert.deepStrictEqual(yield* chat.Queue({ conversation: "main" }), [
          { messageId: id(1), text: "hello", state: "running" }
        ])
        yield* Deferred.succeed(go, undefined)
        const events = yield* Fiber.join(follower)
        assert.deepStrictEqual(
          events.map(({ _tag }) => _tag),
          ["Asked", "Started", "Delta", "Delta", "Done"]
        )
        assert.strictEqual(textOf(events), "one two")
        // It was read to its end: nobody is told of it again.
        assert.deepStrictEqual(yield* Stream.runCollect(chat.Follow({ conversation: "main" })), [])
        assert.strictEqual(asked, 1)
      }).pipe(
        Effect.provide(
          tier(() => {
            asked++
            return Stream.concat(delta("one "), Stream.unwrap(Effect.as(Deferred.await(go), said("two"))))
          })
        )
      )
    })
  )

  it.effect("an answer that was made while nobody read is told to who comes, once", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      yield* Effect.gen(function* () {
        const chat = yield* client
        const conversations = yield* Conversations
        const reader = yield* Effect.forkChild(Stream.runDrain(send(chat, 1, "hello")))
        yield* Deferred.await(begun)
        yield* Fiber.interrupt(reader)
        yield* Deferred.succeed(go, undefined)
        yield* conversations
          .history({ conversation: "main", limit: 10 })
          .pipe(
            Effect.tap(Effect.yieldNow),
            Effect.repeat({ until: (all) => all.at(-1)?.status === "complete" && all.length === 2 })
          )
        const events = yield* Stream.runCollect(chat.Follow({ conversation: "main" }))
        assert.deepStrictEqual(
          events.map(({ _tag }) => _tag),
          ["Asked", "Started", "Delta", "Done"]
        )
        assert.strictEqual(textOf(events), "done")
        assert.deepStrictEqual(yield* Stream.runCollect(chat.Follow({ conversation: "main" })), [])
      }).pipe(
        Effect.provide(
          tier(() =>
            Stream.unwrap(
              Deferred.succeed(begun, undefined).pipe(Effect.andThen(Deferred.await(go)), Effect.as(said("done")))
            )
          )
        )
      )
    })
  )

  it.effect("a question can be taken back and asked otherwise; what was said stays on record", () => {
    const requests: Array<LlmRequest> = []
    return Effect.gen(function* () {
      const chat = yield* client
      yield* Stream.runDrain(send(chat, 1, "first"))
      yield* Stream.runDrain(send(chat, 2, "secnod"))
      const again = () => chat.Again({ conversation: "main", newId: id(3), text: "second" })
      assert.strictEqual(textOf(yield* Stream.runCollect(again())), "answer 2")
      // The same id again takes nothing further back.
      assert.strictEqual(textOf(yield* Stream.runCollect(again())), "answer 2")
      assert.deepStrictEqual(yield* history(chat), [
        "0 user complete: first",
        "1 assistant complete: answer 0",
        "4 user complete: second",
        "5 assistant complete: answer 2"
      ])
      assert.deepStrictEqual(plain(requests[2]), [
        { role: "user", text: "first" },
        { role: "assistant", text: "answer 0" },
        { role: "user", text: "second" }
      ])
      const retried = yield* Stream.runCollect(chat.Again({ conversation: "main", newId: id(4) }))
      assert.strictEqual(textOf(retried), "answer 3")
      const none = yield* Effect.flip(Stream.runDrain(chat.Again({ conversation: "none", newId: id(5) })))
      assert.strictEqual(none._tag === "ChatError" && none.reason, "NotFound")
    }).pipe(
      Effect.provide(
        tier((request, index) => {
          requests.push(request)
          return said(`answer ${index}`)
        })
      )
    )
  })

  it.effect("stopping ends the request upstream and keeps the text so far; asking again answers anew", () =>
    Effect.gen(function* () {
      const stopped = yield* Deferred.make<void>()
      const requests: Array<LlmRequest> = []
      yield* Effect.gen(function* () {
        const chat = yield* client
        const reader = yield* reading(chat)
        assert.strictEqual(yield* chat.Stop({ conversation: "main" }), 1)
        assert.isTrue(yield* Deferred.isDone(stopped))
        const error = yield* Effect.flip(Fiber.join(reader))
        assert.strictEqual(error._tag === "ChatError" && error.reason, "Stopped")
        // The next question in the lane runs after the cancelled one has been put away.
        yield* Stream.runDrain(send(chat, 2, "next"))
        assert.deepStrictEqual(yield* history(chat), [
          "0 user complete: hello",
          "1 assistant cancelled: half ",
          "2 user complete: next",
          "3 assistant complete: fine"
        ])
        assert.deepStrictEqual(plain(requests[1]), [
          { role: "user", text: "hello" },
          { role: "assistant", text: "half " },
          { role: "user", text: "next" }
        ])
        const events = yield* Stream.runCollect(send(chat, 1, "hello"))
        assert.deepStrictEqual(
          { ...events[0] },
          {
            _tag: "Started",
            replyId: `${id(1)}.2`,
            model: "script-1",
            provider: "scripted"
          }
        )
        assert.strictEqual((yield* history(chat))[1], "1 assistant complete: fine")
        assert.deepStrictEqual(plain(requests[2]), [{ role: "user", text: "hello" }])
      }).pipe(
        Effect.provide(
          tier((request, index) => {
            requests.push(request)
            return index === 0
              ? Stream.concat(delta("half "), Stream.never).pipe(Stream.ensuring(Deferred.succeed(stopped, undefined)))
              : said("fine")
          })
        )
      )
    })
  )

  it.effect("a provider's failure is typed, keeps the question, and is not sent upstream as an answer", () => {
    const requests: Array<LlmRequest> = []
    return Effect.gen(function* () {
      const chat = yield* client
      const events: Array<ChatEvent> = []
      const error = yield* send(chat, 1, "hello").pipe(
        Stream.runForEach((event) => Effect.sync(() => events.push(event))),
        Effect.flip
      )
      assert.strictEqual(error._tag, "ChatError")
      if (error._tag === "ChatError") {
        assert.strictEqual(error.reason, "LlmFailed")
        assert.deepStrictEqual(error.llm, { reason: "RateLimited", retryAfterMs: 2000 })
        assert.strictEqual(error.message, "slow down")
      }
      assert.strictEqual(textOf(events), "part")
      assert.deepStrictEqual(yield* history(chat), ["0 user complete: hello", "1 assistant failed: part"])
      yield* Stream.runDrain(send(chat, 2, "still there?"))
      assert.deepStrictEqual(plain(requests[1]), [
        { role: "user", text: "hello" },
        { role: "user", text: "still there?" }
      ])
    }).pipe(
      Effect.provide(
        tier((request, index) => {
          requests.push(request)
          return index === 0
            ? Stream.concat(
                delta("part"),
                Stream.fail(new LlmError({ reason: "RateLimited", message: "slow down", retryAfterMs: 2000 }))
              )
            : said("yes")
        })
      )
    )
  })

  it.effect("an answer without its end is broken, an endless one is cut off", () =>
    Effect.gen(function* () {
      const chat = yield* client
      const early = yield* Effect.flip(Stream.runDrain(send(chat, 1, "one")))
      const endless = yield* Effect.flip(Stream.runDrain(send(chat, 2, "two")))
      assert.deepStrictEqual(
        [early, endless].map((error) => (error._tag === "ChatError" ? error.llm?.reason : error._tag)),
        ["Broken", "Broken"]
      )
      assert.deepStrictEqual((yield* history(chat))[3], `3 assistant failed: ${"x".repeat(100)}`)
    }).pipe(
      Effect.provide(
        tier((_, index) => (index === 0 ? delta("x") : Stream.forever(delta("x"))), {
          settings: { limits: { answerChars: 100 } }
        })
      )
    )
  )

  it.effect("answers one question at a time, in order, and turns away what the queue cannot hold", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      const order: Array<string> = []
      let running = 0
      let most = 0
      yield* Effect.gen(function* () {
        const chat = yield* client
        const conversations = yield* Conversations
        const fibers: Array<Fiber.Fiber<ReadonlyArray<ChatEvent>, unknown>> = []
        for (let n = 1; n <= 3; n++) {
          fibers.push(yield* Effect.forkChild(Stream.runCollect(send(chat, n, `question ${n}`))))
          // Wait until the question is stored: then it has its place.
          yield* conversations
            .history({ conversation: "main", limit: 100 })
            .pipe(
              Effect.tap(Effect.yieldNow),
              Effect.repeat({ until: (all) => all.filter((message) => message.role === "user").length === n })
            )
        }
        const error = yield* Effect.flip(Stream.runDrain(send(chat, 4, "question 4")))
        assert.strictEqual(error._tag === "ChatError" && error.reason, "Busy")
        // Another conversation is not held up.
        assert.strictEqual(textOf(yield* Stream.runCollect(send(chat, 5, "free", "other"))), "re: free")
        yield* Deferred.succeed(go, undefined)
        const texts = (yield* Effect.forEach(fibers, (fiber) => Fiber.join(fiber))).map(textOf)
        assert.deepStrictEqual(texts, ["re: question 1", "re: question 2", "re: question 3"])
        assert.deepStrictEqual(order, ["free", "question 1", "question 2", "question 3"])
        assert.strictEqual(most, 1)
        assert.strictEqual((yield* history(chat)).length, 6)
        assert.strictEqual(textOf(yield* Stream.runCollect(send(chat, 4, "question 4"))), "re: question 4")
      }).pipe(
        Effect.provide(
          tier(
            (request) => {
              const question = request.messages.at(-1)?.text ?? ""
              if (request.conversation === "main") most = Math.max(most, ++running)
              return Stream.unwrap(
                Effect.gen(function* () {
                  if (request.conversation === "main") yield* Deferred.await(go)
                  order.push(question)
                  return said(`re: ${question}`)
                })
              ).pipe(Stream.ensuring(Effect.sync(() => running--)))
            },
            { settings: { maxWaiting: 2 } }
          )
        )
      )
    })
  )

  it.effect("a question stopped while it waits is kept and never sent", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      const begun = yield* Deferred.make<void>()
      const asked: Array<string> = []
      yield* Effect.gen(function* () {
        const chat = yield* client
        const conversations = yield* Conversations
        const first = yield* Effect.forkChild(Stream.runCollect(send(chat, 1, "first")))
        yield* Deferred.await(begun)
        const second = yield* Effect.forkChild(Stream.runCollect(send(chat, 2, "second")))
        yield* conversations
          .history({ conversation: "main", limit: 100 })
          .pipe(
            Effect.tap(Effect.yieldNow),
            Effect.repeat({ until: (all) => all.some((message) => message.text === "second") })
          )
        assert.strictEqual(yield* chat.Stop({ conversation: "main", messageId: id(2) }), 1)
        const error = yield* Effect.flip(Fiber.join(second))
        assert.strictEqual(error._tag === "ChatError" && error.reason, "Stopped")
        yield* Deferred.succeed(go, undefined)
        yield* Fiber.join(first)
        assert.deepStrictEqual(asked, ["first"])
        assert.deepStrictEqual(yield* history(chat), [
          "0 user complete: first",
          "1 assistant complete: done",
          "2 user complete: second"
        ])
      }).pipe(
        Effect.provide(
          tier((request) => {
            asked.push(request.messages.at(-1)?.text ?? "")
            return Stream.unwrap(
              Deferred.succeed(begun, undefined).pipe(Effect.andThen(Deferred.await(go)), Effect.as(said("done")))
            )
          })
        )
      )
    })
  )

  it.effect("an answer that a crash cut off is failed at the next start and given anew", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      yield* conversations.ask({ conversation: "main", messageId: id(1), text: "hello" })
      yield* conversations.beginReply({ messageId: id(1), provider: "p", model: "m" })
      yield* Effect.gen(function* () {
        const assistant = yield* Assistant
        const [, reply] = yield* conversations.history({ conversation: "main", limit: 10 })
        assert.strictEqual(reply?.status, "failed")
        const events = yield* Stream.runCollect(
          assistant.send({ conversation: "main", messageId: id(1), text: "hello" })
        )
        assert.strictEqual(textOf(events), "anew")
        const after = yield* conversations.history({ conversation: "main", limit: 10 })
        assert.deepStrictEqual(
          after.map((message) => [message.id, message.status]),
          [
            [id(1), "complete"],
            [`${id(1)}.2`, "complete"]
          ]
        )
      }).pipe(
        Effect.provide(
          Assistant.layer().pipe(
            Layer.provide(LlmProvider.layerScripted(() => said("anew"))),
            Layer.provide(ContextStore.layerMemory({})),
            Layer.provide(CryptoNode.layer)
          )
        )
      )
    }).pipe(Effect.provide(ConversationsSqlite.layerMemory))
  )

  it.effect("shutting down keeps the text so far and tells the caller to come back", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const begun = yield* Deferred.make<void>()
      const ready = yield* Deferred.make<Assistant["Service"]>()
      const quit = yield* Deferred.make<void>()
      const program = Effect.gen(function* () {
        yield* Deferred.succeed(ready, yield* Assistant)
        yield* Deferred.await(quit)
      }).pipe(
        Effect.provide(
          Assistant.layer().pipe(
            Layer.provide(LlmProvider.layerScripted(() => Stream.concat(delta("half"), Stream.never))),
            Layer.provide(ContextStore.layerMemory({})),
            Layer.provide(CryptoNode.layer)
          )
        )
      )
      const running = yield* Effect.forkChild(program)
      const assistant = yield* Deferred.await(ready)
      const reader = yield* assistant.send({ conversation: "main", messageId: id(1), text: "hello" }).pipe(
        Stream.tap((event) => (event._tag === "Delta" ? Deferred.succeed(begun, undefined) : Effect.void)),
        Stream.runDrain,
        Effect.forkChild
      )
      yield* Deferred.await(begun)
      yield* Deferred.succeed(quit, undefined)
      yield* Fiber.join(running)
      const error = yield* Effect.flip(Fiber.join(reader))
      assert.strictEqual(error.reason, "TierAway")
      const [, reply] = yield* conversations.history({ conversation: "main", limit: 10 })
      assert.deepStrictEqual([reply?.status, reply?.text], ["cancelled", "half"])
    }).pipe(Effect.provide(ConversationsSqlite.layerMemory))
  )

  it.effect("refuses a text that is too long and a message id used twice", () =>
    Effect.gen(function* () {
      const chat = yield* client
      const reason = (error: { readonly _tag: string; readonly reason?: unknown }) => error.reason
      const long = yield* Effect.flip(Stream.runDrain(send(chat, 1, "é".repeat(maxTextBytes / 2 + 1))))
      assert.strictEqual(reason(long), "TooLong")
      assert.deepStrictEqual(yield* history(chat), [])
      assert.strictEqual(textOf(yield* Stream.runCollect(send(chat, 1, "é".repeat(maxTextBytes / 2)))), "ok")
      const text = yield* Effect.flip(Stream.runDrain(send(chat, 1, "another")))
      const place = yield* Effect.flip(Stream.runDrain(send(chat, 1, "é".repeat(maxTextBytes / 2), "other")))
      assert.deepStrictEqual([reason(text), reason(place)], ["Conflict", "Conflict"])
      assert.strictEqual((yield* history(chat)).length, 2)
    }).pipe(Effect.provide(tier(() => said("ok"))))
  )

  it.effect("tells its status; the offline assistant answers with no key at all", () =>
    Effect.gen(function* () {
      const chat = yield* client
      yield* TestClock.setTime(Date.UTC(2026, 2, 29, 0, 59))
      assert.include(textOf(yield* Stream.runCollect(send(chat, 1, "hello"))), "not a language model")
      const status = yield* chat.Status()
      assert.deepStrictEqual(
        { ...status, contextFiles: status.contextFiles.map((file) => `${file.name} ${file.state}`) },
        {
          provider: "offline",
          model: "offline",
          chosen: "no provider is set and no key was found",
          contextFiles: ["SOUL.md used", "AGENTS.md missing", "USER.md missing", "MEMORY.md missing"],
          conversations: 1,
          version: "1.2.3"
        }
      )
    }).pipe(
      Effect.provide(
        Chat.layerHandlers({ version: "1.2.3" }).pipe(
          Layer.provide(Assistant.layer()),
          Layer.provide(ConversationsSqlite.layerMemory),
          Layer.provide(ContextStore.layerMemory({ "SOUL.md": "Be exact." })),
          Layer.provide(LlmOffline.layer()),
          Layer.provide(CryptoNode.layer)
        )
      )
    )
  )
})
