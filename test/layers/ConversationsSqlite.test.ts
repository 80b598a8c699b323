import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import * as SqliteNode from "../../src/layers/SqliteNode.ts"
import { Conversations, type ReplyEnd } from "../../src/services/Conversations.ts"

const posix = process.platform !== "win32"

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-transcript-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`

const complete = (text: string): ReplyEnd => ({
  status: "complete",
  text,
  model: "m-2",
  usage: { inputTokens: 5, outputTokens: 6 },
  stopReason: "end"
})

const exchange = Effect.fnUntraced(function* (n: number, question: string, end: ReplyEnd, conversation = "main") {
  const conversations = yield* Conversations
  const asked = yield* conversations.ask({ conversation, messageId: id(n), text: question })
  const replyId = yield* conversations.beginReply({ messageId: id(n), provider: "p", model: "m" })
  yield* conversations.endReply(replyId, end)
  return asked
})

const inMemory = <A, E>(effect: Effect.Effect<A, E, Conversations>) =>
  Effect.provide(effect, ConversationsSqlite.layerMemory)

describe("Conversations", () => {
  it.effect("keeps questions and replies in order, with what was used", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      yield* TestClock.setTime(1_700_000_000_000)
      yield* exchange(1, "one", complete("ONE"))
      yield* TestClock.adjust("1 second")
      yield* exchange(2, "'; DROP TABLE messages; --\u0000 ✓", complete("TWO"), "work notes")
      yield* exchange(3, "three", complete("THREE"))
      assert.deepStrictEqual(yield* conversations.history({ conversation: "main", limit: 10 }), [
        { id: id(1), seq: 0, role: "user", text: "one", status: "complete", created: 1_700_000_000_000 },
        {
          id: `${id(1)}.1`,
          seq: 1,
          role: "assistant",
          text: "ONE",
          status: "complete",
          created: 1_700_000_000_000,
          model: "m-2",
          usage: { inputTokens: 5, outputTokens: 6 }
        },
        { id: id(3), seq: 2, role: "user", text: "three", status: "complete", created: 1_700_000_001_000 },
        {
          id: `${id(3)}.1`,
          seq: 3,
          role: "assistant",
          text: "THREE",
          status: "complete",
          created: 1_700_000_001_000,
          model: "m-2",
          usage: { inputTokens: 5, outputTokens: 6 }
        }
      ])
      const [notes] = yield* conversations.history({ conversation: "work notes", limit: 10 })
      assert.strictEqual(notes?.text, "'; DROP TABLE messages; --\u0000 ✓")
      assert.deepStrictEqual(yield* conversations.list, [
        { name: "main", created: 1_700_000_000_000, messages: 4 },
        { name: "work notes", created: 1_700_000_001_000, messages: 2 }
      ])
    }).pipe(inMemory)
  )

  it.effect("pages backwards", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      for (let n = 0; n < 5; n++) yield* exchange(n, `q${n}`, complete(`a${n}`))
      const texts = (before?: number) =>
        Effect.map(conversations.history({ conversation: "main", limit: 4, before }), (all) =>
          all.map(({ text }) => text)
        )
      assert.deepStrictEqual(yield* texts(), ["q3", "a3", "q4", "a4"])
      assert.deepStrictEqual(yield* texts(6), ["q1", "a1", "q2", "a2"])
      assert.deepStrictEqual(yield* texts(2), ["q0", "a0"])
      assert.deepStrictEqual(yield* texts(0), [])
      assert.deepStrictEqual(yield* conversations.history({ conversation: "nowhere", limit: 4 }), [])
    }).pipe(inMemory)
  )

  it.effect("stores a question once and knows its complete reply", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const question = { conversation: "main", messageId: id(1), text: "one" }
      assert.deepStrictEqual(yield* conversations.ask(question), { seq: 0, reply: Option.none() })
      assert.deepStrictEqual(yield* conversations.ask(question), { seq: 0, reply: Option.none() })
      const first = yield* conversations.beginReply({ messageId: id(1), provider: "p", model: "m" })
      yield* conversations.endReply(first, { ...complete("half"), status: "cancelled" })
      assert.isTrue(Option.isNone((yield* conversations.ask(question)).reply))
      const second = yield* conversations.beginReply({ messageId: id(1), provider: "p", model: "m" })
      assert.deepStrictEqual([first, second], [`${id(1)}.1`, `${id(1)}.2`])
      yield* conversations.endReply(first, complete("a late word of the first attempt"))
      yield* conversations.endReply(second, complete("whole"))
      yield* conversations.endReply(second, complete("twice"))
      assert.deepStrictEqual(
        (yield* conversations.ask(question)).reply,
        Option.some({
          id: second,
          text: "whole",
          provider: "p",
          model: "m-2",
          usage: { inputTokens: 5, outputTokens: 6 },
          stopReason: "end" as const
        })
      )
      assert.strictEqual((yield* conversations.history({ conversation: "main", limit: 10 })).length, 2)
    }).pipe(inMemory)
  )

  it.effect("refuses a message id that means something else", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      yield* exchange(1, "one", complete("ONE"))
      for (const question of [
        { conversation: "main", messageId: id(1), text: "two" },
        { conversation: "other", messageId: id(1), text: "one" },
        { conversation: "main", messageId: `${id(1)}.1`, text: "ONE" }
      ]) {
        assert.strictEqual((yield* Effect.flip(conversations.ask(question))).reason, "Conflict")
      }
      assert.strictEqual((yield* conversations.list).length, 1)
    }).pipe(inMemory)
  )

  it.effect("gathers exchanges newest first, without what failed, as far as needed", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      yield* exchange(1, "q1", complete("a1"))
      yield* exchange(2, "q2", { ...complete("seen"), status: "cancelled" })
      yield* exchange(3, "q3", { ...complete("junk"), status: "failed" })
      yield* exchange(4, "q4", { ...complete("  "), status: "cancelled" })
      yield* conversations.ask({ conversation: "main", messageId: id(5), text: "q5" })
      assert.deepStrictEqual(yield* conversations.exchangesBefore("main", 10, 1000), [
        { question: "q5", answer: undefined },
        { question: "q4", answer: undefined },
        { question: "q3", answer: undefined },
        { question: "q2", answer: "seen" },
        { question: "q1", answer: "a1" }
      ])
      assert.deepStrictEqual(yield* conversations.exchangesBefore("main", 2, 1000), [{ question: "q1", answer: "a1" }])
      assert.deepStrictEqual(yield* conversations.exchangesBefore("main", 0, 1000), [])
      for (let n = 6; n < 200; n++) yield* exchange(n, "1234567890", complete("1234567890"))
      assert.strictEqual((yield* conversations.exchangesBefore("main", 1e9, 1e9)).length, 199)
      const some = yield* conversations.exchangesBefore("main", 1e9, 600)
      assert.isAtLeast(some.length, 30)
      assert.isBelow(some.length, 100)
    }).pipe(inMemory)
  )

  it.effect("sweeps replies that were never ended", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      yield* exchange(1, "one", complete("ONE"))
      yield* conversations.ask({ conversation: "main", messageId: id(2), text: "two" })
      yield* conversations.beginReply({ messageId: id(2), provider: "p", model: "m" })
      assert.strictEqual(yield* conversations.sweep, 1)
      assert.strictEqual(yield* conversations.sweep, 0)
      const messages = yield* conversations.history({ conversation: "main", limit: 10 })
      assert.deepStrictEqual(
        messages.map(({ status }) => status),
        ["complete", "complete", "complete", "failed"]
      )
    }).pipe(inMemory)
  )
})

describe("ConversationsSqlite in a file", () => {
  it.effect("is private, and there again after reopening", () =>
    Effect.gen(function* () {
      const filename = path.join(yield* temporary, "llm", "clawchat.db")
      const reopened = <A, E>(effect: Effect.Effect<A, E, Conversations>) =>
        Effect.provide(effect, ConversationsSqlite.layer({ filename }), { local: true })
      yield* reopened(
        Effect.gen(function* () {
          yield* exchange(1, "one", complete("ONE"))
          if (posix) {
            assert.strictEqual(fs.statSync(path.dirname(filename)).mode & 0o777, 0o700)
            for (const name of fs.readdirSync(path.dirname(filename))) {
              assert.strictEqual(fs.statSync(path.join(path.dirname(filename), name)).mode & 0o777, 0o600, name)
            }
          }
        })
      )
      fs.chmodSync(filename, 0o644)
      yield* reopened(
        Effect.gen(function* () {
          const conversations = yield* Conversations
          const messages = yield* conversations.history({ conversation: "main", limit: 10 })
          assert.deepStrictEqual(
            messages.map(({ text }) => text),
            ["one", "ONE"]
          )
        })
      )
      if (posix) assert.strictEqual(fs.statSync(filename).mode & 0o777, 0o600)
    })
  )

  it.effect("refuses a link, a folder, and a file that is no database, in one line", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const target = path.join(folder, "target")
      const link = path.join(folder, "link.db")
      const noise = path.join(folder, "noise.db")
      fs.writeFileSync(noise, "not a database at all ".repeat(100))
      fs.symlinkSync(target, link)
      for (const filename of posix ? [link, folder, noise] : [folder, noise]) {
        const error = yield* Effect.flip(
          Effect.scoped(Effect.provide(Conversations, ConversationsSqlite.layer({ filename })))
        )
        assert.strictEqual(error.reason, "Io")
        assert.notInclude(error.message, "\n")
      }
      assert.isFalse(fs.existsSync(target))
      assert.strictEqual(fs.readFileSync(noise, "utf8").slice(0, 14), "not a database")
    })
  )

  it.effect("rolls a failed transaction back, and waits its turn for the next", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE t (n INTEGER UNIQUE)`
      const error = yield* sql`INSERT INTO t ${sql.insert({ n: 1 })}`.pipe(
        Effect.andThen(sql`INSERT INTO t ${sql.insert({ n: 1 })}`),
        sql.withTransaction,
        Effect.flip
      )
      assert.strictEqual(error.reason._tag, "UniqueViolation")
      assert.deepStrictEqual(yield* sql`SELECT COUNT(*) AS n FROM t`.values, [[0]])
      yield* Effect.all(
        Array.from({ length: 20 }, (_, n) =>
          sql`INSERT INTO t ${sql.insert({ n })}`.pipe(Effect.andThen(Effect.yieldNow), sql.withTransaction)
        ),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(yield* sql`SELECT COUNT(*) AS n FROM t`.values, [[20]])
      assert.deepStrictEqual((yield* sql`PRAGMA foreign_keys`.values).concat(yield* sql`PRAGMA synchronous`.values), [
        [1],
        [2]
      ])
    }).pipe(Effect.provide(SqliteNode.layer({ filename: ":memory:" })))
  )

  const module = (name: string) => pathToFileURL(path.resolve(import.meta.dirname, "../..", name)).href

  it.effect("opening prints nothing; other warnings pass", () =>
    Effect.gen(function* () {
      const script = `
        import * as Effect from "${module("node_modules/effect/dist/Effect.js")}"
        import * as ConversationsSqlite from "${module("src/layers/ConversationsSqlite.ts")}"
        import { Conversations } from "${module("src/services/Conversations.ts")}"
        await Effect.runPromise(Effect.flatMap(Conversations, (c) => c.list).pipe(Effect.provide(ConversationsSqlite.layerMemory)))
        process.emitWarning("still heard")`
      const run = yield* Effect.sync(() =>
        spawnSync(process.execPath, ["--input-type=module-typescript", "-e", script], { encoding: "utf8" })
      )
      assert.strictEqual(run.stdout, "")
      assert.include(run.stderr, "still heard")
      assert.notInclude(run.stderr, "SQLite")
      assert.strictEqual(run.status, 0, run.stderr)
    })
  )

  it.effect("killed at any moment: what was acknowledged is there, and the database opens", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const filename = path.join(folder, "clawchat.db")
      const script = `
        import * as Effect from "${module("node_modules/effect/dist/Effect.js")}"
        import * as ConversationsSqlite from "${module("src/layers/ConversationsSqlite.ts")}"
        import { Conversations } from "${module("src/services/Conversations.ts")}"
        const [filename, from] = process.argv.slice(-2)
        await Effect.runPromise(Effect.gen(function* () {
          const conversations = yield* Conversations
          for (let n = Number(from); ; n++) {
            const messageId = "00000000-0000-4000-8000-" + String(n).padStart(12, "0")
            yield* conversations.ask({ conversation: "main", messageId, text: "question " + n })
            const reply = yield* conversations.beginReply({ messageId, provider: "p", model: "m" })
            const usage = { inputTokens: 0, outputTokens: 0 }
            yield* conversations.endReply(reply, { status: "complete", text: "answer " + n, model: "m", usage, stopReason: "end" })
            process.stdout.write(n + "\\n")
          }
        }).pipe(Effect.provide(ConversationsSqlite.layer({ filename }))))`
      let next = 0
      for (let round = 0; round < 5; round++) {
        // Killed by count of acknowledgements, so at another point of the work each time and without a clock.
        const acknowledged = yield* Effect.callback<number>((resume) => {
          const args = ["--input-type=module-typescript", "-e", script, filename, String(next)]
          const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] })
          let text = ""
          child.stdout.on("data", (part: Buffer) => {
            text += part.toString()
            if (text.split("\n").length > 3 + round * 7) child.kill("SIGKILL")
          })
          child.once("close", () => resume(Effect.succeed(Number(text.trim().split("\n").at(-1)))))
          return Effect.sync(() => child.kill("SIGKILL"))
        })
        next = acknowledged + 50
        yield* Effect.gen(function* () {
          const conversations = yield* Conversations
          const messages = yield* conversations.history({ conversation: "main", limit: 10_000 })
          const byId = new Map(messages.map((message) => [message.id, message]))
          assert.strictEqual(byId.get(id(acknowledged))?.text, `question ${acknowledged}`)
          assert.deepInclude(byId.get(`${id(acknowledged)}.1`), {
            text: `answer ${acknowledged}`,
            status: "complete"
          })
          for (const message of messages) {
            if (message.role === "user") continue
            assert.isTrue(byId.has(message.id.slice(0, -2)))
            assert.strictEqual(message.text === "", message.status === "streaming")
          }
        }).pipe(Effect.provide(ConversationsSqlite.layer({ filename }), { local: true }))
      }
    })
  )
})
