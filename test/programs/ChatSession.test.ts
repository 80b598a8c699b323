import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { ChatError, type ChatMessage } from "../../src/domain/ChatRpc.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ChatSession from "../../src/programs/ChatSession.ts"
import * as Screen from "../../src/services/Screen.ts"
import * as World from "./MemoryWorld.ts"

const timeoutMs = 5000

type Options = Parameters<typeof World.make>[1]

/** A running chat, its world and its user. */
const start = Effect.fnUntraced(function* (interactive: boolean, script: World.Script, options?: Options) {
  const user = yield* Screen.makeMemory({ interactive })
  const world = yield* World.make(script, options)
  yield* World.settle
  const fiber = yield* ChatSession.run({ link: world.link, conversation: "main", timeoutMs }).pipe(
    Effect.provideService(Screen.Screen, user.screen),
    Effect.provide(CryptoNode.layer),
    Effect.forkScoped
  )
  yield* World.settle
  return { user, world, fiber }
})

const once = Effect.fnUntraced(function* (
  script: World.Script,
  asked: { readonly text: string; readonly json?: boolean; readonly input?: string },
  options?: Options
) {
  const user = yield* Screen.makeMemory({ interactive: false })
  const world = yield* World.make(script, options)
  if (asked.input !== undefined) yield* user.type(asked.input)
  yield* user.end
  const { json = false, text } = asked
  const fiber = yield* ChatSession.once({ link: world.link, conversation: "main", timeoutMs, text, json }).pipe(
    Effect.provideService(Screen.Screen, user.screen),
    Effect.provide(CryptoNode.layer),
    Effect.forkScoped
  )
  yield* World.settle
  return { user, world, fiber }
})

const hanging = (...parts: ReadonlyArray<string>) =>
  Stream.concat(Stream.fromIterable([World.started, ...parts.map(World.delta)]), Stream.never)

const RECORD = [
  "conversation  1 request, 3 tokens in, 5 out, $0.5000",
  "today         1 request, 3 tokens in, 5 out, $0.5000",
  "this month    2 requests, 3 tokens in, 5 out, $0.5000",
  "budget        this day: $0.5000 of $1.00",
  ""
].join("\n")

const refusal = new ChatError({ reason: "LlmFailed", message: "the key was \x1b[31mrefused" })

const texts = (world: World.World) => world.asked().map(({ text }) => text)

describe("ChatSession, at a terminal", () => {
  it.effect("greets, answers, and leaves with Ctrl-D", () =>
    Effect.gen(function* () {
      const { fiber, user, world } = yield* start(true, () => World.says("good ", "day"))
      assert.deepStrictEqual(user.notes(), [
        "connected to home as laptop (owner)\nscripted script-1 answers\n/help lists what can be done"
      ])
      assert.strictEqual(user.prompt(), "main> ")
      yield* user.type("hello")
      yield* World.eventually("the answer", () => user.stdout() === "good day\n")
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      assert.match(
        world.asked()[0]?.messageId ?? "",
        /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
      )
      yield* user.end
      yield* Fiber.join(fiber)
    })
  )

  it.effect("shows deltas as they arrive, and no prompt meanwhile", () =>
    Effect.gen(function* () {
      const { user } = yield* start(true, () => hanging("half an "))
      yield* user.type("hello")
      yield* World.eventually("the first half", () => user.stdout() === "half an ")
      assert.strictEqual(user.prompt(), undefined)
    })
  )

  it.effect("Ctrl-C cancels the answer upstream, then only says how to leave", () =>
    Effect.gen(function* () {
      const { user, world } = yield* start(true, () => hanging("half"))
      yield* user.type("hello")
      yield* World.eventually("a part", () => user.stdout() === "half")
      yield* user.interrupt
      yield* World.eventually("the cancel", () => world.cancelled() === 1)
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      assert.strictEqual(user.stdout(), "half\n")
      assert.strictEqual(user.notes().at(-1), "(cancelled)")
      const before = user.notes().length
      yield* user.draft("typed")
      yield* user.interrupt
      yield* World.settle
      assert.strictEqual(user.notes().length, before, "the typed text goes first")
      yield* user.interrupt
      yield* World.settle
      assert.strictEqual(user.notes().at(-1), "press Ctrl-D to leave")
    })
  )

  it.effect("asks what was typed ahead in order, a bounded number of lines", () =>
    Effect.gen(function* () {
      const { user, world } = yield* start(true, (question, index) =>
        index === 0 ? hanging("...") : World.says(`answer to ${question.text}`)
      )
      yield* user.type("first")
      yield* World.eventually("a part", () => user.stdout() === "...")
      for (let n = 1; n <= 17; n++) yield* user.type(`q${n}`)
      yield* World.settle
      assert.deepStrictEqual(texts(world), ["first"])
      assert.strictEqual(user.notes().at(-1), "not taken: 16 lines wait already")
      yield* user.interrupt
      yield* World.eventually("all answers", () => world.asked().length === 17)
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      const wanted = Array.from({ length: 16 }, (_, n) => `q${n + 1}`)
      assert.deepStrictEqual(texts(world).slice(1), wanted)
      assert.strictEqual(user.stdout(), `...\n${wanted.map((text) => `answer to ${text}\n`).join("")}`)
    })
  )

  it.effect("sends several lines as one message", () =>
    Effect.gen(function* () {
      const { user, world } = yield* start(true, () => World.says("ok"))
      yield* user.type("one \\")
      yield* World.settle
      assert.strictEqual(user.prompt(), "... ")
      yield* user.type("two\\")
      yield* user.type("three")
      yield* World.eventually("the question", () => world.asked().length === 1)
      assert.deepStrictEqual(texts(world), ["one \ntwo\nthree"])
    })
  )

  it.effect("tells of each change once, and goes on with the answer where it was", () =>
    Effect.gen(function* () {
      const { user, world } = yield* start(true, (_, index) => (index === 0 ? hanging("one ") : World.says("one two")))
      yield* user.type("hello")
      yield* World.eventually("a part", () => user.stdout() === "one ")
      const greeted = user.notes().length
      yield* world.listen(false)
      yield* world.cut
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(user.notes().length, greeted + 1)
      assert.match(user.notes().at(-1) ?? "", /^connection lost, trying again/)
      yield* world.listen(true)
      yield* TestClock.adjust("1 second")
      yield* World.eventually("the rest", () => user.stdout() === "one two\n")
      assert.strictEqual(user.notes().at(-1), "connection is back")
      assert.strictEqual(user.notes().length, greeted + 2)
      yield* world.tier(false)
      yield* World.eventually("the notice", () => user.prompt() === "main (assistant away)> ")
      yield* world.tier(false)
      yield* world.cut
      yield* World.settle
      yield* TestClock.adjust("1 second")
      yield* world.tier(true)
      yield* World.eventually("the notice", () => user.prompt() === "main> ")
      assert.deepStrictEqual(user.notes().slice(greeted + 2), [
        "the assistant is away; questions wait until it is back",
        "connection lost, trying again: the connection was lost",
        "connection is back",
        "the assistant is back"
      ])
    })
  )

  it.effect("goes on after a failed answer, and cleans what it prints", () =>
    Effect.gen(function* () {
      const { user } = yield* start(true, (_, index) =>
        index === 0 ? Stream.fail(refusal) : World.says("a\x1b", "[31", "mb\x1b]0;t\x07\ud83d", "\ude00\u202e")
      )
      yield* user.type("hello")
      yield* World.eventually("the error", () => user.notes().at(-1) === "the key was refused")
      yield* user.type("again")
      yield* World.eventually("the answer", () => user.stdout().endsWith("\n"))
      assert.strictEqual(user.stdout(), "ab]0;t😀\n")
    })
  )

  it.effect("knows its commands and hints at them", () =>
    Effect.gen(function* () {
      const message = (seq: number, role: "user" | "assistant", text: string): ChatMessage => ({
        id: `${seq}`,
        seq,
        role,
        text,
        status: seq === 3 ? "cancelled" : "complete",
        created: 0
      })
      const history = [
        message(0, "user", "hello"),
        message(1, "assistant", "good \x1b[1mday"),
        message(2, "user", "more"),
        message(3, "assistant", "al")
      ]
      const { fiber, user, world } = yield* start(true, () => World.says("ok"), { history, serverName: "ho\x1b[31mme" })
      const says = Effect.fnUntraced(function* (line: string) {
        const before = user.stdout().length
        yield* user.type(line)
        yield* World.eventually(`an end of ${line}`, () => user.prompt() === undefined || user.stdout().length > before)
        yield* World.eventually(`the prompt after ${line}`, () => user.prompt() === "main> ")
        return user.stdout().slice(before)
      })
      assert.match(yield* says("/help"), /^\/help .*\n\/status .*\n\/quit [^\n]*\n$/s)
      const offered = [...(yield* says("/help")).matchAll(/^\/(\w+)/gm)].map(([, name]) => name ?? "")
      assert.includeMembers(offered, ["stop", "queue", "retry", "edit", "attach", "memory", "reload", "cron"])
      assert.strictEqual(
        yield* says("/status"),
        [
          "server        home at 192.0.2.1:50000, version 1.2.3",
          "device        laptop (owner), 01234567",
          "connection    up, round trip 12.3 ms, 2.0 KiB sent, 512 B received",
          "assistant     connected since 1970-01-01 00:00:00 UTC",
          "model         scripted script-1",
          "conversation  main, 4 messages",
          ""
        ].join("\n")
      )
      assert.strictEqual(
        yield* says("/history"),
        "you: hello\nassistant: good day\nyou: more\nassistant (cancelled): al\n"
      )
      assert.strictEqual(yield* says("/history 1"), "assistant (cancelled): al\n")
      assert.strictEqual(
        yield* says("/model"),
        "provider  scripted\nmodel     script-1\nchosen    by the test\n\n   PROVIDER  MODEL     IN  CACHED  OUT\n*  scripted  script-1  $1  $0.5    $2\n"
      )
      assert.strictEqual(
        yield* says("/context"),
        "FILE     STATE  BYTES  TOKENS\nSOUL.md  used   12 B   7 of 500\n7 tokens in all, by estimate\n"
      )
      assert.strictEqual(yield* says("/reload"), "read anew for each answer; in force now: SOUL.md\n")
      yield* says("hello")
      assert.strictEqual(yield* says("/usage"), `1 question in this chat: 3 tokens in, 5 out\n${RECORD}`)
      for (const each of offered) {
        const before = user.notes().length + user.stdout().length
        if (/^(quit|clear|compromised)$/.test(each)) continue
        yield* user.type(`/${each}`)
        yield* World.eventually(`an answer to /${each}`, () => user.notes().length + user.stdout().length > before)
        assert.notMatch(user.notes().at(-1) ?? "", /there is no command/, each)
      }
      yield* user.type("/nothing")
      yield* World.eventually("the hint", () => /^there is no command \/nothing/.test(user.notes().at(-1) ?? ""))
      yield* user.type("/history many")
      yield* World.eventually("the hint", () => /takes a number/.test(user.notes().at(-1) ?? ""))
      yield* user.type("/clear")
      yield* World.eventually("the clear", () => user.stdout() === "")
      assert.deepStrictEqual(texts(world), ["hello"])
      yield* user.type("/quit")
      yield* Fiber.join(fiber)
    })
  )

  it.effect("tells the status without the llm tier", () =>
    Effect.gen(function* () {
      const { user } = yield* start(true, () => World.says("ok"), { tier: false })
      assert.include(user.notes(), "the assistant is away; questions wait until it is back")
      yield* user.type("/status")
      yield* World.eventually("the status", () => user.stdout() !== "")
      assert.match(user.stdout(), /\nassistant {5}away since 1970-01-01 00:00:00 UTC; the assistant is away/)
    })
  )

  it.effect("ends at once on a home that knows no server", () =>
    Effect.gen(function* () {
      const { fiber } = yield* start(true, () => World.says("ok"), { paired: false })
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "Unpaired")
    })
  )
})

describe("ChatSession, in a pipe", () => {
  it.effect("answers each line, runs commands, and ends with the input", () =>
    Effect.gen(function* () {
      const { fiber, user, world } = yield* start(false, ({ text }) => World.says(`to ${text}`))
      for (const line of ["hello", "", "/usage", "/nothing", "bye"]) yield* user.type(line)
      yield* user.end
      yield* Fiber.join(fiber)
      assert.strictEqual(user.stdout(), `to hello\n1 question in this chat: 3 tokens in, 5 out\n${RECORD}to bye\n`)
      assert.deepStrictEqual(texts(world), ["hello", "bye"])
      assert.strictEqual(user.prompt(), undefined)
      assert.strictEqual(user.notes().length, 1)
    })
  )

  it.effect("goes on after a failed answer and fails at the end", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* start(false, (_, index) =>
        index === 0
          ? Stream.concat(Stream.fromIterable([World.started, World.delta("par")]), Stream.fail(refusal))
          : World.says("ok")
      )
      for (const line of ["one", "two"]) yield* user.type(line)
      yield* user.end
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "Failed")
      assert.strictEqual(error.message, "1 of 2 lines failed; the first: the key was refused")
      assert.strictEqual(user.stdout(), "par\nok\n")
    })
  )

  it.effect("gives up when the llm tier stays away", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* start(false, () => World.says("ok"), { tier: false })
      yield* user.type("one")
      yield* user.type("two")
      yield* World.settle
      yield* TestClock.adjust(timeoutMs - 1)
      assert.strictEqual(fiber.pollUnsafe(), undefined)
      yield* TestClock.adjust(1)
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "TryAgain")
      assert.deepStrictEqual(user.notes(), ["waiting for the assistant"])
    })
  )

  it.effect("gives up when there is no connection, and says why", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* start(false, () => World.says("ok"), { listening: false })
      yield* user.type("one")
      yield* World.settle
      yield* TestClock.adjust(timeoutMs)
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "Unreachable")
      assert.strictEqual(error.message, "no connection to the server after 5 s: nobody answered")
    })
  )

  it.effect("waits as long as an answer takes that has begun", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* start(false, () =>
        Stream.concat(
          Stream.succeed(World.started),
          Stream.concat(Stream.fromEffectDrain(Effect.sleep("1 hour")), World.says("late").pipe(Stream.drop(1)))
        )
      )
      yield* user.type("one")
      yield* user.end
      yield* World.settle
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(fiber)
      assert.strictEqual(user.stdout(), "late\n")
    })
  )

  it.effect("ends quietly when nobody reads", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* start(false, () => World.says("ok"))
      yield* user.hangUp
      yield* user.type("one")
      yield* Fiber.join(fiber)
      assert.strictEqual(user.stdout(), "")
    })
  )
})

describe("ChatSession, one question", () => {
  it.effect("prints the answer", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* once(() => World.says("good\n", "day\n"), { text: "hello" })
      yield* Fiber.join(fiber)
      assert.strictEqual(user.stdout(), "good\nday\n")
    })
  )

  it.effect("prints one JSON value", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* once(() => World.says("a\x1b[1m", "\u202eb"), { text: "hello", json: true })
      yield* Fiber.join(fiber)
      assert.strictEqual(
        user.stdout(),
        '{"text":"a\\u001b[1m\\u202eb","provider":"scripted","model":"script-1",' +
          '"usage":{"inputTokens":3,"outputTokens":5},"cost":null,"stopReason":"end","calls":[]}\n'
      )
    })
  )

  it.effect("takes its text from the input", () =>
    Effect.gen(function* () {
      const { fiber, world } = yield* once(() => World.says("ok"), { text: "-", input: "from\na pipe" })
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(texts(world), ["from\na pipe"])
    })
  )

  it.effect("says that it waits after a second, not before", () =>
    Effect.gen(function* () {
      const quick = yield* once(() => World.says("ok"), { text: "hello" }, { listening: false })
      yield* TestClock.adjust("450 millis")
      yield* quick.world.listen(true)
      yield* TestClock.adjust("100 millis")
      yield* Fiber.join(quick.fiber)
      assert.deepStrictEqual([quick.user.stdout(), quick.user.notes()], ["ok\n", []])

      const slow = yield* once(() => World.says("ok"), { text: "hello" }, { listening: false })
      yield* TestClock.adjust("999 millis")
      assert.deepStrictEqual(slow.user.notes(), [])
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(slow.user.notes(), ["waiting for a connection to the server"])
      yield* slow.world.listen(true)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(slow.fiber)
      assert.strictEqual(slow.user.stdout(), "ok\n")
    })
  )

  it.effect("fails with a reason", () =>
    Effect.gen(function* () {
      const failed = yield* once(() => Stream.fail(refusal), { text: "hello" })
      assert.strictEqual((yield* Effect.flip(Fiber.join(failed.fiber))).reason, "Failed")
      const empty = yield* once(() => World.says("ok"), { text: "-", input: " " })
      assert.strictEqual((yield* Effect.flip(Fiber.join(empty.fiber))).reason, "Usage")
      const unpaired = yield* once(() => World.says("ok"), { text: "hello" }, { paired: false })
      assert.strictEqual((yield* Effect.flip(Fiber.join(unpaired.fiber))).reason, "Unpaired")
    })
  )
})
