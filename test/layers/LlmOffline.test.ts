import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as LlmOffline from "../../src/layers/LlmOffline.ts"
import { LlmProvider } from "../../src/services/LlmProvider.ts"

const listed: Array<string> = []

const options: LlmOffline.OfflineOptions = {
  list: (path) => {
    listed.push(path)
    if (path === "secret") return Effect.fail({ message: "nothing\u001b[2J there" })
    if (path === "empty") return Effect.succeed([])
    if (path === "many") {
      return Effect.succeed(Array.from({ length: 250 }, (_, n) => ({ name: `f${n}`, kind: "file", size: 1 })))
    }
    return Effect.succeed([
      { name: "docs", kind: "folder", size: 0 },
      { name: "no\u001b[31mtes\u202e.txt", kind: "file", size: 2048 }
    ])
  },
  timeZone: DateTime.zoneMakeNamedUnsafe("Europe/Amsterdam")
}

const deltas = (text: string) =>
  Effect.gen(function* () {
    const provider = yield* LlmProvider
    const events = yield* Stream.runCollect(
      provider.stream({
        conversation: "main",
        system: "",
        messages: [
          { role: "user", text: "ls elsewhere" },
          { role: "assistant", text: "yes" },
          { role: "user", text }
        ]
      })
    )
    assert.deepStrictEqual(events.at(-1), {
      _tag: "Done",
      usage: { inputTokens: 0, outputTokens: 0 },
      stopReason: "end",
      model: "offline"
    })
    return events.flatMap((event) => (event._tag === "Delta" ? [event.text] : []))
  }).pipe(Effect.provide(LlmOffline.layer(options)))

const say = (text: string) => Effect.map(deltas(text), (parts) => parts.join(""))

describe("LlmOffline", () => {
  it.effect("says that it is no language model and repeats the question, in small pieces", () =>
    Effect.gen(function* () {
      const parts = yield* deltas("tell me\n  a story")
      const text = parts.join("")
      assert.include(text, "not a language model")
      assert.include(text, "> tell me\n>   a story")
      assert.isAbove(parts.length, 5)
      assert.isTrue(parts.every((part) => part.trim().split(/\s+/).length <= 3))
    })
  )

  it.effect("lists files: which folder, and names made visible", () =>
    Effect.gen(function* () {
      const paths: Array<string | undefined> = []
      for (const wish of [
        "list files",
        "List my files!",
        "ls",
        "ls docs",
        "list the files in docs/old notes",
        'show files in "a b"',
        "dir ../x"
      ]) {
        yield* say(wish)
        paths.push(listed.pop())
      }
      assert.deepStrictEqual(paths, ["", "", "", "docs", "docs/old notes", "a b", "../x"])
      assert.strictEqual(yield* say("ls"), "In the base folder:\n- docs/\n- no·[31mtes·.txt (2.0 KiB)")
      assert.strictEqual(yield* say("ls empty"), "There is nothing in empty.")
      assert.strictEqual(yield* say("ls secret"), "I could not list that: nothing·[2J there")
      const many = yield* say("ls many")
      assert.include(many, "- f199 (1 B)\n… and 50 more")
      assert.notInclude(many, "f200")
    })
  )

  it.effect("does not take a sentence for a listing", () =>
    Effect.gen(function* () {
      const before = listed.length
      for (const text of ["listen to me", "lsof", "I need a list files"]) {
        assert.include(yield* say(text), "You said")
      }
      assert.strictEqual(listed.length, before)
    })
  )

  it.effect("tells the time of its zone, also around a change of the clocks", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 2, 29, 0, 59, 0))
      assert.match(
        yield* say("What time is it?"),
        /^It is Sunday,? 29 March 2026 at 01:59:00 CET \(Europe\/Amsterdam\)\.$/
      )
      yield* TestClock.adjust("2 minutes")
      assert.include(yield* say("what's the date"), "03:01:00 CEST")
      assert.include(yield* say("time"), "03:01:00")
    })
  )

  it.effect("helps, and names the settings", () =>
    Effect.gen(function* () {
      for (const wish of ["help", "/help", "?", "What can you do?"]) {
        const text = yield* say(wish)
        for (const word of ["list files", "what time is it", "ANTHROPIC_API_KEY", "CLAWCHAT_LLM_PROVIDER"]) {
          assert.include(text, word)
        }
      }
    })
  )
})
