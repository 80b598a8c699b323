/** A task of ten steps through the whole assistant and the real SDKs, on each of the providers' protocols. */
import * as fs from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Conversations } from "../../src/services/Conversations.ts"
import { dialects, type Said } from "../layers/FakeProviders.ts"
import { playStrictly } from "../layers/StrictProviders.ts"
import * as World from "./AssistantWorld.ts"

const job = { name: "plants", schedule: "0 9 * * 1", command: "tell me to water the plants", timezone: "Europe/Berlin" }

/** What the model says to the nth request. */
const steps: ReadonlyArray<(index: number) => Said> = [
  (n) => World.says(n, "I look at your files.", ["file_list", { depth: 2 }]),
  (n) => World.says(n, "", ["file_read", { path: "notes/today.md" }], ["file_read", { path: "nowhere.md" }]),
  (n) => World.says(n, "", ["file_search", { text: "TODO", glob: "**/*.md" }]),
  (n) => World.says(n, "", ["time", {}], ["status", {}]),
  (n) => World.says(n, "I keep that.", ["memory_append", { text: "the user waters plants on Mondays" }]),
  (n) => World.says(n, "", ["memory_search", { query: "plants" }], ["memory_get", { source: "MEMORY.md" }]),
  (n) => World.says(n, "Now a summary.", ["file_write", { path: "notes/summary.md", text: "water the plants\n" }]),
  (n) => World.says(n, "", ["cron_propose", job], ["cron_list", {}]),
  (n) => World.says(n, "", ["cron_add", job]),
  (n) =>
    World.says(n, "", ["file_move", { from: "old.txt", to: "archive/old.txt" }], ["file_trash", { path: "junk.txt" }]),
  (n) => World.says(n, "", ["cron_remove", { name: "nothing" }], ["cron_remove", { name: "plants" }]),
  () => ({ text: "All ten are done." })
]

const files = {
  "notes/today.md": "TODO: water the plants\n",
  "notes/ideas.md": "nothing yet\n",
  "old.txt": "old",
  "junk.txt": "junk"
}

const inHome = <A, E, R>(test: (home: string) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(World.temporary, (home) => {
    World.makeHome(home, files)
    return test(home)
  })

for (const dialect of dialects) {
  describe(dialect.provider, () => {
    it.effect("ten steps end right; what goes upstream afterwards, and after a restart, is valid", () =>
      inHome((home) =>
        Effect.gen(function* () {
          const problems: Array<string> = []
          const server = yield* playStrictly(dialect, problems, (_, index) =>
            (steps[index] ?? (() => ({ text: "Yes." })))(index)
          )
          const values = World.valuesOf(home, dialect, server.baseUrl, { "llm.tokens.history": "20000" })
          yield* Effect.gen(function* () {
            const task = yield* World.asking(1, "look after my notes")
            assert.isUndefined(task.error)
            assert.strictEqual(
              task.text,
              "I look at your files.\n\nI keep that.\n\nNow a summary.\n\nAll ten are done."
            )
            assert.deepStrictEqual(task.calls, [
              "file_list done",
              "file_read done",
              "file_read failed",
              "file_search done",
              "time done",
              "status done",
              "memory_append done",
              "memory_search done",
              "memory_get done",
              "file_write done",
              "cron_propose done",
              "cron_list done",
              "cron_add done",
              "file_move done",
              "file_trash done",
              "cron_remove failed",
              "cron_remove done"
            ])
            assert.deepStrictEqual(
              task.events.flatMap((event) => (event._tag === "Approval" ? [event.tool] : [])),
              ["memory_append", "file_write", "cron_add", "file_move", "file_trash", "cron_remove"]
            )
            const removal = task.events.findLast((event) => event._tag === "Approval")
            assert.strictEqual(
              removal?._tag === "Approval" && removal.detail,
              "plants: every Monday at 09:00 (0 9 * * 1, Europe/Berlin)\ntell me to water the plants"
            )
            const next = yield* World.asking(2, "thank you")
            assert.strictEqual(next.text, "Yes.")
            const conversations = yield* Conversations
            const stored = yield* conversations.history({ conversation: "main", limit: 10 })
            assert.deepStrictEqual(
              stored.map(({ role, status }) => `${role} ${status}`),
              ["user complete", "assistant complete", "user complete", "assistant complete"]
            )
            assert.strictEqual(stored[1]?.calls?.length, 17)
            assert.isTrue(Option.isNone(yield* conversations.summary("main")))
          }).pipe(Effect.provide(World.layer(values)))

          const read = (name: string) => fs.readFileSync(path.join(World.baseOf(home), name), "utf8")
          assert.strictEqual(read("notes/summary.md"), "water the plants\n")
          assert.strictEqual(read("archive/old.txt"), "old")
          assert.isFalse(fs.existsSync(path.join(World.baseOf(home), "old.txt")))
          assert.isFalse(fs.existsSync(path.join(World.baseOf(home), "junk.txt")))
          const context = (name: string) => fs.readFileSync(path.join(World.contextOf(home), name), "utf8")
          assert.include(context("MEMORY.md"), "the user waters plants on Mondays")
          assert.notInclude(context("CRON.md"), "tell me to water the plants")
          assert.include(context(path.join("memory", "1970-01-01.md")), "All ten are done.")

          // The same home under a new tier, as after a restart.
          const last = yield* Effect.provide(World.asking(3, "are you there?"), World.layer(values))
          assert.strictEqual(last.text, "Yes.")
          assert.deepStrictEqual(problems, [])
          assert.strictEqual(server.asked.length, steps.length + 2)
          const transcript = server.asked.at(-1)?.transcript ?? []
          assert.strictEqual(transcript.filter((line) => line.startsWith("call ")).length, 17)
          assert.strictEqual(transcript.filter((line) => line.startsWith("result ")).length, 17)
          assert.match(
            transcript.find((line) => line.startsWith("result call_3_0: ")) ?? "",
            /: \w+day, \d+ \w+ \d{4} at \d\d:\d\d:\d\d \([\w/+-]+, UTC[+-]\d\d:\d\d\)$/
          )
          // As the user's clock will show it.
          assert.include(
            transcript,
            'result call_8_0: "plants" is scheduled: every Monday at 09:00; next Monday 1970-01-05 09:00 (Europe/Berlin)'
          )
        })
      )
    )
  })
}
