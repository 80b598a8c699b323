import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { ChatError } from "../../src/domain/ChatRpc.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import { ask, type Output } from "../../src/programs/Ask.ts"
import * as World from "./MemoryWorld.ts"

const question = { conversation: "main", messageId: "00000000-0000-4000-8000-000000000001", text: "hello" }

/** Asks in the background and keeps what comes. */
const start = Effect.fnUntraced(function* (world: World.World) {
  yield* World.settle
  const seen: Array<Output> = []
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(ask(world.link, question), (output) => Effect.sync(() => seen.push(output)))
  )
  return { seen, fiber }
})

const brief = (outputs: ReadonlyArray<Output>) =>
  outputs.map((output) => {
    switch (output._tag) {
      case "Text":
        return `+${output.text}`
      case "Waiting":
        return `waiting for ${output.for}`
      default:
        return output._tag
    }
  })

/** An answer that stops in the middle and stays there. */
const hanging = (...parts: ReadonlyArray<string>) =>
  Stream.concat(Stream.fromIterable([World.started, ...parts.map(World.delta)]), Stream.never)

describe("Ask", () => {
  it.effect("streams an answer and ends with Done", () =>
    Effect.gen(function* () {
      const world = yield* World.make(() => World.says("good ", "day"))
      yield* World.settle
      const seen = yield* Stream.runCollect(ask(world.link, question))
      assert.deepStrictEqual(
        seen.map((output) => ({ ...output })),
        [
          { _tag: "Started", provider: "scripted", model: "script-1" },
          { _tag: "Text", text: "good " },
          { _tag: "Text", text: "day" },
          { _tag: "Done", usage: { inputTokens: 3, outputTokens: 5 }, stopReason: "end" }
        ]
      )
      assert.deepStrictEqual(world.asked(), [question])
      yield* World.settle
      assert.strictEqual(world.chats(), 0, "the stream is closed")
    })
  )

  it.effect("reads to the very end, where the tier notes that somebody has; a tier that does not end is left", () =>
    Effect.gen(function* () {
      let read = false
      const noting = Effect.andThen(
        Effect.repeat(Effect.yieldNow, { times: 50 }),
        Effect.sync(() => {
          read = true
        })
      )
      const answers = [
        Stream.concat(World.says("hi"), Stream.fromEffectDrain(noting)),
        Stream.concat(World.says("ho"), Stream.concat(Stream.succeed(World.delta("more")), Stream.never))
      ]
      const world = yield* World.make((_, index) => answers[index] ?? Stream.empty)
      const first = yield* start(world)
      yield* Fiber.join(first.fiber)
      assert.deepStrictEqual(brief(first.seen), ["Started", "+hi", "Done"])
      assert.isTrue(read)
      const second = yield* start(world)
      yield* World.eventually("the end of the answer", () => second.seen.length === 3)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(second.fiber)
      assert.deepStrictEqual(brief(second.seen), ["Started", "+ho", "Done"])
    })
  )

  it.effect("waits for the first connection", () =>
    Effect.gen(function* () {
      const world = yield* World.make(() => World.says("hi"), { listening: false })
      const { fiber, seen } = yield* start(world)
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(brief(seen), ["waiting for line"])
      yield* world.listen(true)
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen), ["waiting for line", "Started", "+hi", "Done"])
    })
  )

  it.effect("asks again with the same id when the line was lost, and shows nothing twice", () =>
    Effect.gen(function* () {
      const world = yield* World.make((_, index) =>
        index === 0 ? hanging("one ", "two ") : World.says("one two th", "ree")
      )
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("half an answer", () => seen.length === 3)
      yield* world.cut
      yield* World.eventually("the wait", () => seen.length === 4)
      yield* World.settle
      yield* TestClock.adjust(500)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen), [
        "Started",
        "+one ",
        "+two ",
        "waiting for line",
        "Started",
        "+th",
        "+ree",
        "Done"
      ])
      assert.deepStrictEqual(world.asked(), [question, question])
    })
  )

  it.effect("says so when the answer begins anew", () =>
    Effect.gen(function* () {
      const answers = [hanging("alpha beta"), hanging("alpha", " gamma"), World.says("alp")]
      const world = yield* World.make((_, index) => answers[index] ?? Stream.empty)
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("the first", () => seen.length === 2)
      yield* world.cut
      yield* World.settle
      yield* TestClock.adjust(500)
      yield* World.eventually("the second", () => brief(seen).includes("+alpha gamma"))
      yield* world.cut
      yield* World.settle
      yield* TestClock.adjust(500)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen), [
        "Started",
        "+alpha beta",
        "waiting for line",
        "Started",
        "Restarted",
        "+alpha gamma",
        "waiting for line",
        "Started",
        "Restarted",
        "+alp",
        "Done"
      ])
    })
  )

  it.effect("waits for the llm tier, and asks when the server says that it is back", () =>
    Effect.gen(function* () {
      const world = yield* World.make(() => World.says("here"), { tier: false })
      yield* World.settle
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("the wait", () => seen.length === 1)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(brief(seen), ["waiting for tier"])
      assert.strictEqual(world.asked().length, 0)
      yield* world.tier(true)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen), ["waiting for tier", "Started", "+here", "Done"])
    })
  )

  it.effect("outlives the llm tier's going away in the middle of an answer", () =>
    Effect.gen(function* () {
      const world = yield* World.make((_, index) => (index === 0 ? hanging("a") : World.says("ab")))
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("a part", () => brief(seen).includes("+a"))
      yield* world.tier(false)
      yield* World.eventually("the wait", () => brief(seen).includes("waiting for tier"))
      yield* World.settle
      yield* TestClock.adjust(500)
      yield* world.tier(true)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen), ["Started", "+a", "waiting for tier", "Started", "+b", "Done"])
    })
  )

  it.effect("goes on when a stream ends in good order before the answer does", () =>
    Effect.gen(function* () {
      const world = yield* World.make((_, index) => (index === 0 ? hanging("a") : World.says("ab")))
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("a part", () => brief(seen).includes("+a"))
      yield* world.endChats(undefined)
      yield* World.eventually("the wait", () => brief(seen).includes("waiting for tier"))
      assert.strictEqual(world.asked().length, 1, "not at once")
      yield* TestClock.adjust(500)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen).slice(-3), ["Started", "+b", "Done"])
    })
  )

  it.effect("goes on when a stream was cut off behind the server, and does not take that for an end", () =>
    Effect.gen(function* () {
      const world = yield* World.make((_, index) => (index === 0 ? hanging("a") : World.says("ab")))
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("a part", () => brief(seen).includes("+a"))
      yield* world.cutChats
      yield* World.eventually("the wait", () => brief(seen).includes("waiting for tier"))
      yield* World.settle
      yield* TestClock.adjust(500)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen), ["Started", "+a", "waiting for tier", "Started", "+b", "Done"])
    })
  )

  it.effect("asks again at once when the llm tier has forgotten the session", () =>
    Effect.gen(function* () {
      const world = yield* World.make((_, index) => (index === 0 ? hanging("a") : World.says("ab")))
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("a part", () => brief(seen).includes("+a"))
      yield* world.endChats(StreamHeader.Code.Renew)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen), ["Started", "+a", "Started", "+b", "Done"])
    })
  )

  it.effect("fails with the way out when the seal is refused", () =>
    Effect.gen(function* () {
      const world = yield* World.make(() => World.says("a"), { otherTier: true })
      const error = yield* Effect.flip(Stream.runDrain(ask(world.link, question)))
      assert.strictEqual(error.reason, "LlmFailed")
      assert.match(error.message, /did not take this device's handshake/)
      assert.deepStrictEqual(world.asked(), [])
    })
  )

  it.effect("goes on when the assistant says that it is shutting down", () =>
    Effect.gen(function* () {
      const ending = new ChatError({ reason: "TierAway", message: "shutting down" })
      const world = yield* World.make((_, index) => (index === 0 ? Stream.fail(ending) : World.says("ok")))
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("the wait", () => brief(seen).includes("waiting for tier"))
      yield* World.settle
      yield* TestClock.adjust(500)
      yield* Fiber.join(fiber)
      assert.strictEqual(brief(seen).at(-1), "Done")
    })
  )

  it.effect("asks again when an answer ended without an end", () =>
    Effect.gen(function* () {
      const world = yield* World.make((_, index) =>
        index === 0 ? Stream.fromIterable([World.started, World.delta("x")]) : World.says("xy")
      )
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("the wait", () => brief(seen).includes("waiting for tier"))
      yield* World.settle
      yield* TestClock.adjust(500)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(brief(seen).slice(-3), ["Started", "+y", "Done"])
    })
  )

  it.effect("fails with what the assistant says", () =>
    Effect.gen(function* () {
      const refused = new ChatError({
        reason: "LlmFailed",
        message: "the key was refused",
        llm: { reason: "Unauthorized" }
      })
      const world = yield* World.make(() => Stream.fail(refused))
      const error = yield* Effect.flip(Stream.runDrain(ask(world.link, question)))
      assert.deepStrictEqual({ ...error }, { ...refused })
    })
  )

  it.effect("fails, and does not hang, when the assistant dies over a question", () =>
    Effect.gen(function* () {
      const world = yield* World.make(() => Stream.die(new Error("a bug")))
      const error = yield* Effect.flip(Stream.runDrain(ask(world.link, question)))
      assert.strictEqual(error.reason, "LlmFailed")
      assert.match(error.message, /could not be understood/)
    })
  )

  it.effect("fails, and does not hang, when bytes make no sense", () =>
    Effect.gen(function* () {
      for (const junk of [
        "this is no JSON",
        '{"_tag":"Chunk","requestId":ID,"values":[{"_tag":"Delta"}]}',
        '{"_tag":"Exit","requestId":ID,"exit":{"_tag":"Success","value":17}}'
      ]) {
        const world = yield* World.make(() => hanging("a"))
        const { fiber, seen } = yield* start(world)
        yield* World.eventually("a part", () => brief(seen).includes("+a"))
        yield* world.inject(junk)
        const exit = yield* Fiber.await(fiber).pipe(Effect.timeoutOption(1), Effect.forkChild)
        yield* World.settle
        yield* TestClock.adjust(1000)
        const outcome = yield* Fiber.join(exit)
        assert.strictEqual(outcome._tag, "Some", `hangs over ${junk}`)
        assert.isTrue(outcome._tag === "Some" && Exit.isFailure(outcome.value), junk)
      }
    })
  )

  it.effect("fails when the server does not speak this version of the stream", () =>
    Effect.gen(function* () {
      const world = yield* World.make(() => hanging("a"))
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("a part", () => brief(seen).includes("+a"))
      yield* world.endChats(StreamHeader.Code.Unknown)
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "LlmFailed")
    })
  )

  it.effect("cancels upstream when its reader leaves, and leaves no stream behind", () =>
    Effect.gen(function* () {
      const world = yield* World.make(() => hanging("a"))
      const { fiber, seen } = yield* start(world)
      yield* World.eventually("a part", () => brief(seen).includes("+a"))
      yield* Fiber.interrupt(fiber)
      yield* World.eventually("the cancel", () => world.cancelled() === 1)
      yield* World.eventually("the end of the stream", () => world.chats() === 0)
      assert.strictEqual(world.asked().length, 1)
    })
  )

  it.effect("keeps one stream at a time over many interruptions", () =>
    Effect.gen(function* () {
      const world = yield* World.make((_, index) =>
        index < 20 ? hanging("a".repeat(index + 1)) : World.says("a".repeat(21))
      )
      const { fiber, seen } = yield* start(world)
      for (let n = 1; n <= 20; n++) {
        yield* World.eventually(`attempt ${n}`, () => seen.filter(({ _tag }) => _tag === "Text").length === n)
        assert.strictEqual(world.chats(), 1)
        yield* world.endChats(StreamHeader.Code.Cancelled)
        yield* World.settle
        yield* TestClock.adjust(500)
      }
      yield* Fiber.join(fiber)
      const shown = seen.map((output) => (output._tag === "Text" ? output.text : "")).join("")
      assert.strictEqual(shown, "a".repeat(21))
    })
  )
})
