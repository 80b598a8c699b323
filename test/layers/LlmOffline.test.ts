import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import type { LlmMessage } from "../../src/domain/Llm.ts"
import * as ToolPolicy from "../../src/domain/ToolPolicy.ts"
import { mark } from "../../src/domain/Untrusted.ts"
import * as LlmOffline from "../../src/layers/LlmOffline.ts"
import { LlmProvider } from "../../src/services/LlmProvider.ts"

const names = [
  "file_list",
  "file_read",
  "file_search",
  "file_write",
  "file_trash",
  "memory_append",
  "memory_search",
  "cron_add",
  "cron_list",
  "cron_remove",
  "time",
  "status"
]
const tools = names.map((name) => ({ name, description: "", parameters: {} }))

const answer = (messages: ReadonlyArray<LlmMessage>, has = tools) =>
  Effect.gen(function* () {
    const provider = yield* LlmProvider
    const events = yield* Stream.runCollect(provider.stream({ conversation: "main", system: "", messages, tools: has }))
    const last = events.at(-1)
    assert.strictEqual(last?._tag, "Done")
    return events
  }).pipe(Effect.provide(LlmOffline.layer({ timeZone: DateTime.zoneMakeNamedUnsafe("Europe/Amsterdam") })))

const before: ReadonlyArray<LlmMessage> = [
  { role: "user", text: "ls elsewhere" },
  { role: "assistant", text: "yes" }
]

const parts = (text: string, has = tools) =>
  Effect.map(answer([...before, { role: "user", text }], has), (events) =>
    events.flatMap((event) => (event._tag === "Delta" ? [event.text] : []))
  )
const say = (text: string, has = tools) => Effect.map(parts(text, has), (all) => all.join(""))

const called = (text: string) =>
  Effect.map(answer([...before, { role: "user", text }]), (events) => {
    const call = events.find((event) => event._tag === "Call")
    return call?._tag === "Call" ? [call.call.name, JSON.parse(call.call.arguments)] : undefined
  })

/** What is said once a tool has given this. */
const told = (name: string, text: string, failed = false) =>
  Effect.map(
    answer([
      { role: "user", text: "do it" },
      { role: "assistant", text: "", calls: [{ id: "c", name, arguments: "{}" }] },
      { role: "tool", callId: "c", name, text, failed }
    ]),
    (events) => events.flatMap((event) => (event._tag === "Delta" ? [event.text] : [])).join("")
  )

describe("LlmOffline", () => {
  it.effect("says that it is no language model and repeats the question, in small pieces", () =>
    Effect.gen(function* () {
      const all = yield* parts("tell me\n  a story")
      const text = all.join("")
      assert.include(text, "not a language model")
      assert.include(text, "> tell me\n>   a story")
      assert.isAbove(all.length, 5)
      assert.isTrue(all.every((part) => part.trim().split(/\s+/).length <= 3))
    })
  )

  it.effect("calls the tools that a phrase means", () =>
    Effect.gen(function* () {
      for (const [phrase, ...expected] of [
        ["list files", "file_list", { path: "" }],
        ["List my files!", "file_list", { path: "" }],
        ["ls", "file_list", { path: "" }],
        ["ls docs", "file_list", { path: "docs" }],
        ["list the files in docs/old notes", "file_list", { path: "docs/old notes" }],
        ['show files in "a b"', "file_list", { path: "a b" }],
        ["dir ../x", "file_list", { path: "../x" }],
        ["read notes/today.md", "file_read", { path: "notes/today.md" }],
        ["show the file a b.txt", "file_read", { path: "a b.txt" }],
        ["search my files for invoice", "file_search", { text: "invoice" }],
        ["find invoice in my files", "file_search", { text: "invoice" }],
        ["delete file old.txt", "file_trash", { path: "old.txt" }],
        ["write a/b.txt: two\nlines", "file_write", { path: "a/b.txt", text: "two\nlines" }],
        ["Remember that bins go out on Tuesdays.", "memory_append", { text: "bins go out on Tuesdays" }],
        ["what do you remember about bins?", "memory_search", { query: "bins" }],
        ["search the log for tea", "memory_search", { query: "tea" }],
        ["list reminders", "cron_list", {}],
        ["remove reminder water the plants", "cron_remove", { name: "water the plants" }],
        ["what time is it?", "time", {}],
        ["status", "status", {}]
      ] as const) {
        assert.deepStrictEqual(yield* called(phrase), expected, phrase)
      }
      for (const text of ["listen to me", "lsof", "I need a list files", "remembering"]) {
        assert.include(yield* say(text), "You said")
      }
      assert.include(yield* say("ls", []), "needs file_list")
    })
  )

  it.effect("makes reminders into jobs, says what it cannot, and says them when their moment has come", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 2, 27, 12))
      const [tool, job] = (yield* called("remind me every Monday at 9 to water the plants")) ?? []
      assert.strictEqual(tool, "cron_add")
      assert.deepInclude(job, { schedule: "0 9 * * 1", command: "Remind me to water the plants" })
      assert.include(yield* say("remind me to water the plants"), 'That reminder does not work: say it like "')
      assert.match(yield* say("remind me every 45 minutes to stand up"), /^That reminder does not work: 45 minutes /)
      assert.strictEqual(
        yield* say(
          "Remind me to water the plants\n\nScheduled for 2026-03-30T07:00:00.000Z. Nobody is there to answer questions."
        ),
        "Reminder: water the plants"
      )
      assert.deepStrictEqual(
        yield* called("ls docs\n\nScheduled for 2026-03-30T07:00:00.000Z. Nobody is there to answer questions."),
        ["file_list", { path: "docs" }]
      )
    })
  )

  it.effect("tells what a tool has given: without marks, nothing that steers a terminal, failures as such", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* told("file_list", mark("file_list", "docs/\nno\u001b[31mtes\u202e.txt", "0123456789abcdef")),
        "docs/\nno·[31mtes·.txt"
      )
      assert.strictEqual(yield* told("time", "Sunday, 01:59 CET"), "It is Sunday, 01:59 CET.")
      assert.strictEqual(yield* told("file_read", "no such file", true), "That did not work: no such file")
      for (const by of ["user", "timeout"] as const) {
        assert.strictEqual(
          yield* told("file_write", ToolPolicy.denial(by), true),
          by === "user" ? "Not done: it was denied." : "Not done: nobody allowed it in time."
        )
      }
    })
  )

  it.effect("helps with what there is, and names the settings", () =>
    Effect.gen(function* () {
      for (const wish of ["help", "/help", "?", "What can you do?"]) {
        const text = yield* say(wish)
        for (const word of ["list files", "what time is it", "ANTHROPIC_API_KEY", "CLAWCHAT_LLM_PROVIDER"]) {
          assert.include(text, word)
        }
      }
      assert.notInclude(yield* say("help", []), "list files")
    })
  )
})
