/** What happens on the way to an answer, as a person at a terminal and a script see it: calls, decisions, stops. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { ChatEvent, Decision } from "../../src/domain/ChatRpc.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ChatSession from "../../src/programs/ChatSession.ts"
import type * as ChatTalk from "../../src/programs/ChatTalk.ts"
import * as Screen from "../../src/services/Screen.ts"
import * as World from "./MemoryWorld.ts"

const timeoutMs = 5000

const calling: ChatEvent = {
  _tag: "Calling",
  callId: "1.0",
  tool: "file_write",
  summary: "write /a.txt (5 bytes)",
  arguments: "{}"
}
const called = (failed: boolean, preview = ""): ChatEvent => ({
  _tag: "Called",
  callId: "1.0",
  tool: "file_write",
  failed,
  preview
})
const approval = (
  decisions: ReadonlyArray<Decision> = ["once", "conversation", "deny"],
  detail = "/a.txt\nhe\x1b[2Jllo"
): ChatEvent => ({
  _tag: "Approval",
  approvalId: "a1",
  callId: "1.0",
  tool: "file_write",
  summary: "write /a.txt (5 bytes)",
  detail,
  decisions
})

/** A call that waits for its decision, and what comes of it. */
const waits = Effect.fnUntraced(function* (event = approval()) {
  const given = yield* Deferred.make<Decision>()
  const script: World.Script = () =>
    Stream.fromIterable([World.started, World.delta("I write it."), calling, event]).pipe(
      Stream.concat(
        Stream.unwrap(
          Effect.map(Deferred.await(given), (decision) =>
            Stream.fromIterable<ChatEvent>([
              { _tag: "Decided", approvalId: "a1", callId: "1.0", decision, by: "user" },
              decision === "deny" ? called(true, "the user has denied this") : called(false, "done"),
              World.delta(decision === "deny" ? "\n\nNot written." : "\n\nWritten."),
              World.done
            ])
          )
        )
      )
    )
  const decide = (_id: string, decision: Decision) => Effect.asVoid(Deferred.succeed(given, decision))
  return { script, decide }
})

const chat = Effect.fnUntraced(function* (
  interactive: boolean,
  script: World.Script,
  more: World.More = {},
  options: Partial<ChatTalk.Options> = {}
) {
  const user = yield* Screen.makeMemory({ interactive })
  const world = yield* World.make(script, more)
  yield* World.settle
  const fiber = yield* ChatSession.run({ link: world.link, conversation: "main", timeoutMs, ...options }).pipe(
    Effect.provideService(Screen.Screen, user.screen),
    Effect.provide(CryptoNode.layer),
    Effect.forkScoped
  )
  yield* World.settle
  return { user, world, fiber }
})

const once = Effect.fnUntraced(function* (
  script: World.Script,
  more: World.More,
  options: Partial<ChatTalk.Options> & { readonly json?: boolean },
  asks = false
) {
  const user = yield* Screen.makeMemory({ interactive: false, asks })
  const world = yield* World.make(script, more)
  const { json = false, ...rest } = options
  const fiber = yield* ChatSession.once({
    link: world.link,
    conversation: "main",
    timeoutMs,
    text: "write it",
    json,
    ...rest
  }).pipe(Effect.provideService(Screen.Screen, user.screen), Effect.provide(CryptoNode.layer), Effect.forkScoped)
  yield* World.settle
  return { user, world, fiber }
})

const hanging = (...parts: ReadonlyArray<string>) =>
  Stream.concat(Stream.fromIterable([World.started, ...parts.map(World.delta)]), Stream.never)

const ASKS = "allow? [o]nce, [c]onversation, [d]eny> "

describe("A call that waits, at a terminal", () => {
  it.effect("is shown with all that it would do, and allowed with one letter", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits()
      const { user, world } = yield* chat(true, script, { decide })
      yield* user.type("write it")
      yield* World.eventually("the question", () => user.prompt() === ASKS)
      assert.deepStrictEqual(user.notes().slice(-2), [
        "· write /a.txt (5 bytes)",
        "file_write waits for you: write /a.txt (5 bytes)\n  /a.txt\n  hello"
      ])
      yield* user.type("o")
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      assert.deepStrictEqual(world.decided(), [["a1", "once"]])
      assert.strictEqual(user.stdout(), "I write it.\nWritten.\n", "no empty lines around what stands between")
      assert.strictEqual(user.notes().at(-1), "  ok")
      assert.strictEqual(world.asked().length, 1, "a decision is no message")
    })
  )

  it.effect("is denied, and says so once", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits()
      const { user, world } = yield* chat(true, script, { decide })
      yield* user.type("write it")
      yield* World.eventually("the question", () => user.prompt() === ASKS)
      yield* user.type("NO")
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      assert.deepStrictEqual(world.decided(), [["a1", "deny"]])
      assert.strictEqual(user.stdout(), "I write it.\nNot written.\n")
      assert.strictEqual(user.notes().at(-1), "  denied")
    })
  )

  it.effect("does not swallow what is typed meanwhile", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits()
      const { user, world } = yield* chat(
        true,
        (question, index) => (index === 0 ? script(question, index) : World.says(`to ${question.text}`)),
        { decide }
      )
      yield* user.type("write it")
      yield* World.eventually("the question", () => user.prompt() === ASKS)
      yield* user.type("once more, please")
      yield* World.settle
      assert.strictEqual(user.prompt(), ASKS, "it still waits")
      assert.deepStrictEqual(world.decided(), [])
      yield* user.type("c")
      yield* World.eventually("both answers", () => user.stdout().endsWith("to once more, please\n"))
      assert.deepStrictEqual(world.decided(), [["a1", "conversation"]])
    })
  )

  it.effect("that must be decided each time takes no grant for the conversation", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits(approval(["once", "deny"]))
      const { user, world } = yield* chat(true, script, { decide })
      yield* user.type("write it")
      yield* World.eventually("the question", () => user.prompt() === "allow? [o]nce, [d]eny> ")
      yield* user.type("c")
      yield* World.eventually("the hint", () => user.notes().at(-1) === "this one is decided about each time: o or d")
      assert.deepStrictEqual(world.decided(), [])
      assert.strictEqual(world.asked().length, 1)
    })
  )

  it.effect("that would do more than fits is cut, and shown whole when asked", () =>
    Effect.gen(function* () {
      const detail = Array.from({ length: 60 }, (_, n) => `line ${n}`).join("\n")
      const { decide, script } = yield* waits(approval(undefined, detail))
      const { user } = yield* chat(true, script, { decide })
      yield* user.type("write it")
      yield* World.eventually("the question", () => user.prompt()?.endsWith("[d]eny, [v]iew> ") === true)
      assert.match(user.notes().at(-1) ?? "", /line 23\n {2}… \d+ of \d+ characters are not shown: v shows all$/)
      yield* user.type("v")
      yield* World.eventually("all of it", () => user.notes().at(-1)?.endsWith("\n  line 59") === true)
      assert.match(user.prompt() ?? "", /^allow\?/)
    })
  )

  it.effect("is still decided about after the line was lost", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits()
      const { user, world } = yield* chat(true, script, { decide })
      yield* user.type("write it")
      yield* World.eventually("the question", () => user.prompt() === ASKS)
      yield* world.cut
      yield* World.settle
      yield* user.type("o")
      yield* World.settle
      assert.deepStrictEqual(world.decided(), [])
      yield* TestClock.adjust("1 second")
      yield* World.eventually("the answer", () => user.stdout() === "I write it.\nWritten.\n")
      assert.deepStrictEqual(world.decided(), [["a1", "once"]])
      const shown = user.notes().filter((note) => note.startsWith("file_write waits"))
      assert.strictEqual(shown.length, 1, "shown once, however often it is told")
    })
  )

  it.effect("is stopped with Ctrl-C, at the assistant's too", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits()
      const { user, world } = yield* chat(true, script, { decide })
      yield* user.type("write it")
      yield* World.eventually("the question", () => user.prompt() === ASKS)
      yield* user.interrupt
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      assert.deepStrictEqual(world.stopped(), [world.asked()[0]?.messageId ?? ""])
      assert.strictEqual(user.notes().at(-1), "(cancelled)")
      yield* user.type("o")
      yield* World.eventually("a message", () => world.asked().length === 2)
    })
  )
})

describe("A chat at a terminal", () => {
  it.effect("stops an answer with /stop, and says so when there is none", () =>
    Effect.gen(function* () {
      const { user, world } = yield* chat(true, (_, index) => (index === 0 ? hanging("half") : World.says("ok")))
      yield* user.type("/stop")
      yield* World.eventually("the hint", () => user.notes().at(-1) === "nothing is being answered")
      yield* user.type("hello")
      yield* World.eventually("a part", () => user.stdout() === "half")
      yield* user.type("next")
      yield* user.type("/stop")
      yield* World.eventually("the next answer", () => user.stdout() === "half\nok\n")
      assert.deepStrictEqual(world.stopped(), [world.asked()[0]?.messageId ?? ""])
    })
  )

  it.effect("stops what waits too with /stop all", () =>
    Effect.gen(function* () {
      const { user, world } = yield* chat(true, () => hanging("half"))
      yield* user.type("hello")
      yield* World.eventually("a part", () => user.stdout() === "half")
      yield* user.type("next")
      yield* user.type("/stop all")
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      yield* World.settle
      assert.strictEqual(world.asked().length, 1)
    })
  )

  it.effect("leaves an answer to go on, and says so", () =>
    Effect.gen(function* () {
      for (const leave of ["/quit", undefined]) {
        const { fiber, user, world } = yield* chat(true, () => hanging("half"))
        yield* user.type("hello")
        yield* World.eventually("a part", () => user.stdout() === "half")
        yield* leave === undefined ? user.end : user.type(leave)
        yield* Fiber.join(fiber)
        assert.match(user.notes().at(-1) ?? "", /^the answer goes on: /)
        assert.deepStrictEqual(world.stopped(), [])
      }
    })
  )

  it.effect("shows once what was answered while nobody was there, and stops it when asked", () =>
    Effect.gen(function* () {
      let told = 0
      const follow = () => {
        told++
        return told > 1
          ? Stream.empty
          : Stream.concat(
              Stream.fromIterable<ChatEvent>([
                { _tag: "Asked", messageId: "00000000-0000-4000-8000-000000000001", text: "long ago\x1b[1m" }
              ]),
              World.says("here ", "it is")
            )
      }
      const { user, world } = yield* chat(true, () => World.says("ok"), { follow })
      yield* World.eventually("the answer", () => user.stdout() === "here it is\n")
      assert.include(user.notes(), "while you were away: > long ago")
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      yield* user.type("hello")
      yield* World.eventually("the next answer", () => user.stdout() === "here it is\nok\n")
      assert.strictEqual(world.asked().length, 1)
      assert.strictEqual(told, 1)
    })
  )

  it.effect("does not show an answer again that it has shown itself", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const follow = () =>
        Stream.concat(
          Stream.fromIterable<ChatEvent>(
            asked.map((messageId) => ({ _tag: "Asked" as const, messageId, text: "hello" }))
          ),
          asked.length === 0 ? Stream.empty : World.says("ok")
        )
      const { user, world } = yield* chat(
        true,
        ({ messageId }) => {
          asked.push(messageId)
          return World.says("ok")
        },
        { follow }
      )
      yield* user.type("hello")
      yield* World.eventually("the answer", () => user.stdout() === "ok\n")
      yield* world.tier(false)
      yield* World.settle
      yield* world.tier(true)
      yield* World.settle
      assert.strictEqual(user.stdout(), "ok\n")
      assert.strictEqual(user.prompt(), "main> ")
    })
  )

  it.effect("asks the last question again, or another in its place", () =>
    Effect.gen(function* () {
      const wanted: Array<string | undefined> = []
      const again: World.More["again"] = ({ newId, text }) => {
        wanted.push(text)
        assert.match(newId, /^[0-9a-f-]{36}$/)
        return World.says(`again ${text ?? ""}`)
      }
      const { user } = yield* chat(true, () => World.says("ok"), { again })
      yield* user.type("/retry")
      yield* World.eventually("the answer", () => user.stdout() === "again \n")
      yield* user.type("/edit in other words")
      yield* World.eventually("the answer", () => user.stdout() === "again \nagain in other words\n")
      yield* user.type("/edit")
      yield* World.eventually("the hint", () => /^\/edit TEXT/.test(user.notes().at(-1) ?? ""))
      assert.deepStrictEqual(wanted, [undefined, "in other words"])
    })
  )

  it.effect("sends files with the next message, and only with that", () =>
    Effect.gen(function* () {
      const read: Array<string> = []
      const attach = (path: string) =>
        Effect.sync(() => {
          read.push(path)
          return { name: path, mediaType: "text/plain", bytes: new Uint8Array([104, 105]) }
        })
      const { user, world } = yield* chat(true, () => World.says("ok"), {}, { attach })
      yield* user.type('/attach "my notes.txt" b.txt')
      yield* World.eventually("the prompt", () => user.prompt() === "main (2 attached)> ")
      assert.deepStrictEqual(read, ["my notes.txt", "b.txt"])
      yield* user.type("look")
      yield* World.eventually("the answer", () => user.stdout() === "ok\n")
      yield* user.type("and now")
      yield* World.eventually("the answer", () => user.stdout() === "ok\nok\n")
      assert.deepStrictEqual(
        world.asked().map(({ attachments }) => attachments?.map(({ bytes, name }) => [name, bytes.length])),
        [
          [
            ["my notes.txt", 2],
            ["b.txt", 2]
          ],
          undefined
        ]
      )
      for (let n = 0; n < 9; n++) yield* user.type(`/attach ${n}`)
      yield* World.eventually("the bound", () => /^not attached: at most 8 files/.test(user.notes().at(-1) ?? ""))
    })
  )

  it.effect("tells of scheduled work that ran, once, and that it was seen", () =>
    Effect.gen(function* () {
      const run = (id: number, more: object = {}) => ({
        id,
        job: "plants",
        slot: "x",
        due: 0,
        status: "ran" as const,
        text: "water\x1b[2J them",
        acknowledged: false,
        ...more
      })
      const results = Stream.fromIterable([run(1), run(2, { status: "failed", reason: "no line", text: "" })])
      const { user, world } = yield* chat(true, () => World.says("ok"), { results })
      yield* World.eventually("both", () => world.acknowledged().length === 2)
      assert.strictEqual(user.stdout(), "water them\n")
      const [first, second] = user.notes().filter((note) => note.startsWith("cron"))
      assert.strictEqual(first, 'cron "plants", 1970-01-01 00:00 UTC')
      assert.strictEqual(second, 'cron "plants", 1970-01-01 00:00 UTC, failed: no line')
    })
  )
})

describe("A single question", () => {
  it.effect("has its calls denied where nobody is there, and says how they are allowed", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits()
      const { fiber, user, world } = yield* once(script, { decide }, {})
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(world.decided(), [["a1", "deny"]])
      assert.strictEqual(user.stdout(), "I write it.\n\nNot written.\n", "standard output has the answer, nothing else")
      assert.deepStrictEqual(user.notes(), [
        "· write /a.txt (5 bytes)",
        "denied, nobody is there to ask: write /a.txt (5 bytes) (--allow file_write allows it)",
        "  denied"
      ])
    })
  )

  it.effect("allows the tools that --allow names, and tells of nothing with --quiet", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits()
      const { fiber, user, world } = yield* once(script, { decide }, { allow: new Set(["file_write"]), quiet: true })
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(world.decided(), [["a1", "once"]])
      assert.deepStrictEqual(user.notes(), [])
    })
  )

  it.effect("allows by name nothing that needs a person", () =>
    Effect.gen(function* () {
      const { decide, script } = yield* waits(approval(["once", "deny"]))
      const { fiber, user, world } = yield* once(script, { decide }, { allow: new Set(["file_write"]) })
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(world.decided(), [["a1", "deny"]])
      assert.isTrue(user.notes().some((note) => note.endsWith("(it needs a person at a terminal)")))
    })
  )

  it.effect("asks a person in front of it", () =>
    Effect.gen(function* () {
      for (const [typed, decision] of [
        [["what?", "o"], "once"],
        [["d"], "deny"],
        [["a", "b", "c?"], "deny"]
      ] as const) {
        const { decide, script } = yield* waits()
        const { fiber, user, world } = yield* once(script, { decide }, {}, true)
        for (const line of typed) yield* user.type(line)
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(world.decided(), [["a1", decision]])
        assert.include(user.notes(), "allow? [o]nce, [c]onversation, [d]eny: ")
      }
    })
  )

  it.effect("names its calls and its cost in JSON", () =>
    Effect.gen(function* () {
      const events: ReadonlyArray<ChatEvent> = [World.started, calling, called(true, "disk full"), World.delta("no")]
      const usage = { inputTokens: 3, outputTokens: 5 }
      const done: ChatEvent = { _tag: "Done", usage, stopReason: "end", cost: 0.25 }
      const { fiber, user } = yield* once(() => Stream.fromIterable([...events, done]), {}, { json: true })
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(JSON.parse(user.stdout()), {
        text: "no",
        provider: "scripted",
        model: "script-1",
        usage: { inputTokens: 3, outputTokens: 5 },
        cost: 0.25,
        stopReason: "end",
        calls: [{ tool: "file_write", summary: "write /a.txt (5 bytes)", failed: true }]
      })
      assert.deepStrictEqual(user.notes(), ["· write /a.txt (5 bytes)", "  failed: disk full"])
    })
  )

  it.effect("is stopped at the assistant's when it is interrupted, or nobody reads", () =>
    Effect.gen(function* () {
      const cut = yield* once(() => hanging("half"), {}, {})
      yield* World.eventually("a part", () => cut.user.stdout() === "half")
      yield* Fiber.interrupt(cut.fiber)
      assert.deepStrictEqual(cut.world.stopped(), [cut.world.asked()[0]?.messageId ?? ""])
      const more = yield* Deferred.make<void>()
      const rest = Stream.concat(Stream.fromEffectDrain(Deferred.await(more)), Stream.succeed(World.delta(" more")))
      const half = Stream.fromIterable([World.started, World.delta("half")])
      const deaf = yield* once(() => Stream.concat(half, Stream.concat(rest, Stream.never)), {}, {})
      yield* World.eventually("a part", () => deaf.user.stdout() === "half")
      yield* deaf.user.hangUp
      yield* Deferred.succeed(more, undefined)
      yield* Fiber.join(deaf.fiber)
      assert.strictEqual(deaf.world.stopped().length, 1)
    })
  )
})

describe("clawchat chat --follow", () => {
  const follow = Effect.fnUntraced(function* (more: World.More, json = false) {
    const user = yield* Screen.makeMemory({ interactive: false })
    const world = yield* World.make(() => World.says("ok"), more)
    const fiber = yield* ChatSession.follow({ link: world.link, conversation: "main", timeoutMs, json }).pipe(
      Effect.provideService(Screen.Screen, user.screen),
      Effect.provide(CryptoNode.layer),
      Effect.forkScoped
    )
    yield* World.settle
    return { user, world, fiber }
  })
  const asked: ChatEvent = { _tag: "Asked", messageId: "00000000-0000-4000-8000-000000000001", text: "how long?" }

  it.effect("prints the rest of an answer", () =>
    Effect.gen(function* () {
      const { fiber, user } = yield* follow({
        follow: () => Stream.concat(Stream.succeed(asked), World.says("not ", "long"))
      })
      yield* Fiber.join(fiber)
      assert.strictEqual(user.stdout(), "not long\n")
      assert.deepStrictEqual(user.notes(), ["> how long?"])
    })
  )

  it.effect("says that there is none", () =>
    Effect.gen(function* () {
      const plain = yield* follow({})
      yield* Fiber.join(plain.fiber)
      assert.strictEqual(plain.user.stdout(), "")
      assert.deepStrictEqual(plain.user.notes(), ["nothing is being answered here, and nothing is unread"])
      const json = yield* follow({}, true)
      yield* Fiber.join(json.fiber)
      assert.strictEqual(json.user.stdout(), "null\n")
    })
  )

  it.effect("interrupted leaves it to go on", () =>
    Effect.gen(function* () {
      const { fiber, user, world } = yield* follow({
        follow: () => Stream.concat(Stream.succeed(asked), hanging("half"))
      })
      yield* World.eventually("a part", () => user.stdout() === "half")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(world.stopped(), [])
      assert.strictEqual(user.notes().at(-1), "the answer goes on")
    })
  )
})
