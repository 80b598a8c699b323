import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/testing/TestClock"
import * as Tokens from "../../src/domain/Tokens.ts"
import * as MemoryStoreNode from "../../src/layers/MemoryStoreNode.ts"
import * as SqliteNode from "../../src/layers/SqliteNode.ts"
import { MemoryStore } from "../../src/services/MemoryStore.ts"

const cause = { conversation: "main", messageId: "m1" }

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-memory-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const layerOf = (folder: string) =>
  MemoryStoreNode.layer({
    folder: path.join(folder, "context"),
    timeZone: DateTime.zoneMakeNamedUnsafe("Asia/Kathmandu")
  }).pipe(Layer.provide(SqliteNode.layer({ filename: path.join(folder, "clawchat.db") })))

const inFolder = <A, E>(folder: string, use: (memory: MemoryStore["Service"]) => Effect.Effect<A, E>) =>
  Effect.flatMap(MemoryStore, use).pipe(Effect.provide(layerOf(folder)))

const memoryFile = (folder: string, name = "MEMORY.md") => path.join(folder, "context", name)
const text = (folder: string, name?: string) => fs.readFileSync(memoryFile(folder, name), "utf8")

describe("MemoryStore", () => {
  it.effect("keeps notes, once, records why, and takes them back over a restart", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      fs.mkdirSync(path.join(folder, "context"), { mode: 0o700 })
      fs.writeFileSync(memoryFile(folder), "# Memory\n\nthe user's own line", { mode: 0o640 })
      yield* inFolder(folder, (memory) =>
        Effect.gen(function* () {
          yield* TestClock.setTime(Date.UTC(2026, 0, 31))
          const change = yield* memory.append("MEMORY.md", "bins go out\non Tuesdays", { ...cause, job: "j" })
          assert.deepStrictEqual(change, {
            id: 1,
            at: Date.UTC(2026, 0, 31),
            file: "MEMORY.md",
            kind: "append",
            before: "",
            after: "\n- bins go out on Tuesdays\n",
            cause: { ...cause, job: "j" },
            undone: false
          })
          assert.isUndefined(yield* memory.append("MEMORY.md", "bins go out on Tuesdays", cause))
          yield* memory.append("USER.md", "likes tea", cause)
          yield* memory.edit("MEMORY.md", "Tuesdays", "Wednesdays", cause)
        })
      )
      assert.strictEqual(text(folder), "# Memory\n\nthe user's own line\n- bins go out on Wednesdays\n")
      assert.strictEqual(fs.statSync(memoryFile(folder)).mode & 0o777, 0o640)
      assert.strictEqual(fs.statSync(memoryFile(folder, "USER.md")).mode & 0o777, 0o600)
      yield* inFolder(folder, (memory) =>
        Effect.gen(function* () {
          fs.appendFileSync(memoryFile(folder), "another line of the user\n")
          assert.strictEqual((yield* memory.undo(3)).kind, "undo")
          yield* memory.undo(1)
          const again = yield* Effect.flip(memory.undo(1))
          assert.strictEqual(again.reason, "Changed")
          assert.strictEqual((yield* Effect.flip(memory.undo(99))).reason, "NotFound")
          const changes = yield* memory.changes({ limit: 10 })
          assert.deepStrictEqual(
            changes.map(({ file, id, kind, undoes, undone }) => `${id} ${file} ${kind} ${undoes ?? "-"} ${undone}`),
            [
              "5 MEMORY.md undo 1 false",
              "4 MEMORY.md undo 3 false",
              "3 MEMORY.md edit - true",
              "2 USER.md append - false",
              "1 MEMORY.md append - true"
            ]
          )
          // An undo can be taken back, too.
          yield* memory.undo(5)
        })
      )
      assert.include(text(folder), "another line of the user\n")
      assert.include(text(folder), "- bins go out on Tuesdays\n")
    })
  )

  it.effect("changes nothing where it is not clear what", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      yield* inFolder(folder, (memory) =>
        Effect.gen(function* () {
          yield* memory.append("MEMORY.md", "a cat", cause)
          yield* memory.append("MEMORY.md", "a cat and a dog", cause)
          const reason = (effect: Effect.Effect<unknown, { readonly reason: string }>) =>
            Effect.map(Effect.flip(effect), (error) => error.reason)
          const before = text(folder)
          assert.strictEqual(yield* reason(memory.edit("MEMORY.md", "a cat", "x", cause)), "Ambiguous")
          assert.strictEqual(yield* reason(memory.edit("MEMORY.md", "a cow", "x", cause)), "NotFound")
          assert.strictEqual(yield* reason(memory.edit("MEMORY.md", "", "x", cause)), "NotFound")
          assert.strictEqual(yield* reason(memory.edit("MEMORY.md", "a dog", "x".repeat(300_000), cause)), "TooLong")
          assert.strictEqual(text(folder), before)
          const removed = yield* memory.edit("MEMORY.md", " and a dog", "", cause)
          yield* memory.undo(removed.id)
          assert.include(text(folder), "and a dog")
          fs.rmSync(memoryFile(folder))
          fs.symlinkSync("/etc/hostname", memoryFile(folder))
          assert.strictEqual(yield* reason(memory.append("MEMORY.md", "x", cause)), "Unusable")
          assert.strictEqual((yield* memory.changes({ limit: 10 })).length, 4)
        })
      )
      assert.deepStrictEqual(
        fs.readdirSync(path.join(folder, "context")).filter((name) => name.startsWith(".")),
        []
      )
    })
  )

  it.effect("a change that a crash cut off is on record if it was made, and struck out if not", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      yield* inFolder(folder, (memory) => memory.append("MEMORY.md", "made", cause))
      const { DatabaseSync } = yield* Effect.promise(() => import("node:sqlite"))
      const database = new DatabaseSync(path.join(folder, "clawchat.db"))
      database.exec("UPDATE memory_changes SET done = 0")
      database.exec(
        "INSERT INTO memory_changes (at, file, kind, before, after) VALUES (0, 'MEMORY.md', 'append', '', '- never made')"
      )
      database.close()
      const changes = yield* inFolder(folder, (memory) => memory.changes({ limit: 10 }))
      assert.deepStrictEqual(
        changes.map(({ after }) => after),
        ["- made\n"]
      )
    })
  )

  it.effect("writes the log of each day in the zone's days, and gives the newest of it within a budget", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      yield* inFolder(folder, (memory) =>
        Effect.gen(function* () {
          // 18:14 UTC is 23:59 in Kathmandu.
          const late = Date.UTC(2026, 0, 30, 18, 14)
          const say = (question: string, created: number) =>
            memory.log({ conversation: "main", question, answer: "# no heading\nof the log", created, tainted: false })
          yield* say("before midnight", late)
          yield* say("after midnight", late + 60_000)
          assert.strictEqual(
            text(folder, "memory/2026-01-30.md"),
            "# 2026-01-30\n\n## 23:59 main\n\n**User**\n\n> before midnight\n\n**Assistant**\n\n> # no heading\n> of the log\n\n"
          )
          for (let n = 0; n < 50; n++) yield* say(`question ${n}`, late + 120_000)
          yield* TestClock.setTime(late + 180_000)
          const all = yield* memory.recent(100_000)
          assert.isTrue(all.startsWith("# 2026-01-30\n"))
          assert.isAbove(all.indexOf("# 2026-01-31"), 0)
          const some = yield* memory.recent(300)
          assert.isAtMost(Tokens.estimate(some), 320)
          assert.isTrue(some.startsWith("# 2026-01-31 [truncated: the newest part]"))
          assert.include(some, "question 49")
          assert.notInclude(some, "question 0\n")
          yield* TestClock.setTime(late + 3 * 24 * 3600_000)
          assert.strictEqual(yield* memory.recent(1000), "")
        })
      )
    })
  )

  it.effect("finds words in all files and logs, whatever is typed, and what was just edited", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      yield* inFolder(folder, (memory) =>
        Effect.gen(function* () {
          yield* memory.append("MEMORY.md", "Größe der Schuhe: 42", cause)
          yield* memory.append("MEMORY.md", "the plants need water on Mondays", cause)
          yield* memory.log({
            conversation: "main",
            question: "water?",
            answer: "for the plants",
            created: 0,
            tainted: false
          })
          const found = yield* memory.search("water plants", 10)
          assert.sameDeepMembers(
            found.map(({ line, source }) => [source, line]),
            [
              ["MEMORY.md", 2],
              ["memory/1970-01-01.md", 7],
              ["memory/1970-01-01.md", 11]
            ]
          )
          assert.strictEqual((yield* memory.search("grosse", 10)).length, 0)
          assert.strictEqual((yield* memory.search("GROẞE größe", 10))[0]?.line, 1)
          for (const odd of ['"', "'; DROP TABLE memory_lines; --", "NEAR(", "* OR AND", "", "💥", "a".repeat(5000)]) {
            yield* memory.search(odd, 10)
          }
          fs.writeFileSync(memoryFile(folder), "only zebras\n")
          assert.deepStrictEqual(
            (yield* memory.search("zebra", 10)).map(({ line }) => line),
            [1]
          )
          assert.strictEqual((yield* memory.search("Monday", 10)).length, 0)
          assert.strictEqual(yield* memory.get("MEMORY.md", 1, 5), "only zebras\n")
          assert.strictEqual((yield* Effect.flip(memory.get("memory/1999-01-01.md", 1, 5))).reason, "NotFound")
          assert.strictEqual((yield* memory.search("zebra", 1)).length, 1)
        })
      )
    })
  )
})
