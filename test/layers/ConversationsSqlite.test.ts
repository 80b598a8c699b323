import { spawn, spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import type { Step } from "../../src/domain/History.ts"
import type { Attachment } from "../../src/domain/Llm.ts"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import * as SqliteNode from "../../src/layers/SqliteNode.ts"
import { Archive } from "../../src/services/Archive.ts"
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
      const asked = { seq: 0, created: 0, reply: Option.none(), attachments: [], steps: [] }
      assert.deepStrictEqual(yield* conversations.ask(question), asked)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(yield* conversations.ask(question), asked)
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
      const told = (n: number, answer: string | undefined) => ({
        seq: 2 * n - 2,
        messageId: id(n),
        question: `q${n}`,
        created: 0,
        answer
      })
      const [q1, q2, q3, q4, q5] = [
        told(1, "a1"),
        told(2, "seen"),
        told(3, undefined),
        told(4, undefined),
        told(5, undefined)
      ]
      assert.deepStrictEqual(yield* conversations.exchangesBefore("main", 10, 1000), [q5, q4, q3, q2, q1])
      assert.deepStrictEqual(yield* conversations.exchangesBefore("main", 10, 1000, 4), [q5, q4, q3])
      assert.deepStrictEqual(yield* conversations.exchangesBefore("main", 2, 1000), [q1])
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

const said = (text: string, ...calls: ReadonlyArray<string>): Step => ({
  _tag: "Said",
  text,
  calls: calls.map((each) => ({ id: each, name: "files_read", arguments: `{"path":"${each}.txt"}` }))
})
const result = (callId: string, text: string, failed = false): Step => ({
  _tag: "Result",
  callId,
  name: "files_read",
  text,
  failed
})

describe("Conversations: what happened on the way to an answer", () => {
  it.effect("a further attempt finds what one that was cut off has done", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const question = { conversation: "main", messageId: id(1), text: "read both" }
      const begin = conversations.beginReply({ messageId: id(1), provider: "p", model: "m" })
      yield* conversations.ask(question)
      const first = yield* begin
      const steps = [{ ...said("I look.", "a", "b"), reasoning: "hm" }, result("a", "A\u0000")]
      for (const step of steps) yield* conversations.addStep(first, step)
      assert.strictEqual(yield* conversations.sweep, 1)
      assert.deepStrictEqual((yield* conversations.ask(question)).steps, steps)
      assert.strictEqual((yield* Effect.flip(conversations.addStep(first, result("b", "late")))).reason, "Conflict")
      const second = yield* begin
      assert.strictEqual((yield* Effect.flip(conversations.addStep(first, result("b", "late")))).reason, "Conflict")
      yield* conversations.addStep(second, result("b", "gone", true))
      const [shown] = (yield* conversations.history({ conversation: "main", limit: 1 })).flatMap(({ calls }) =>
        calls === undefined ? [] : [calls]
      )
      assert.deepStrictEqual(shown, [
        { tool: "files_read", summary: '{"path":"a.txt"}', failed: false },
        { tool: "files_read", summary: '{"path":"b.txt"}', failed: true }
      ])
      yield* conversations.endReply(second, complete("I look.\n\nDone."))
      assert.deepStrictEqual((yield* conversations.ask(question)).steps, [])
      const [exchange] = yield* conversations.exchangesBefore("main", 100, 1000)
      assert.deepStrictEqual(exchange?.steps, [...steps, result("b", "gone", true)])
      assert.strictEqual((yield* Effect.flip(conversations.addStep(second, result("b", "late")))).reason, "Conflict")
    }).pipe(inMemory)
  )

  it.effect("keeps what was used and what it cost", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const usage = { inputTokens: 100, outputTokens: 6, cachedTokens: 80, cacheWriteTokens: 10 }
      yield* exchange(1, "one", { ...complete("ONE"), usage, cost: 0.0125 })
      const { reply } = yield* conversations.ask({ conversation: "main", messageId: id(1), text: "one" })
      assert.deepInclude(Option.getOrThrow(reply), { usage, cost: 0.0125 })
      const [, shown] = yield* conversations.history({ conversation: "main", limit: 2 })
      assert.deepInclude(shown, { usage, cost: 0.0125 })
    }).pipe(inMemory)
  )

  it.effect("knows the reply that nobody has read to its end", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const unread = Effect.map(
        conversations.unread("main"),
        Option.map(({ messageId, text }) => [messageId, text])
      )
      assert.isTrue(Option.isNone(yield* unread))
      yield* exchange(1, "one", complete("ONE"))
      assert.deepStrictEqual(yield* unread, Option.some([id(1), "one"]))
      yield* exchange(2, "two", { ...complete("TW"), status: "cancelled" })
      assert.isTrue(Option.isNone(yield* unread))
      yield* exchange(3, "three", complete("THREE"))
      yield* conversations.delivered(`${id(3)}.1`)
      assert.isTrue(Option.isNone(yield* unread))
    }).pipe(inMemory)
  )

  it.effect("attachments come with their exchange, the older ones by name, and make a message another", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const file = (size: number, fill = 1) => ({
        name: `${size}.bin`,
        mediaType: "image/png",
        bytes: new Uint8Array(size).fill(fill)
      })
      const question = (n: number, ...attachments: ReadonlyArray<Attachment>) => ({
        conversation: "main",
        messageId: id(n),
        text: `q${n}`,
        attachments
      })
      yield* conversations.ask(question(1, file(3_000_000)))
      yield* conversations.ask(question(2, file(2_000_000), file(0)))
      assert.strictEqual((yield* conversations.ask(question(2, file(2_000_000), file(0)))).seq, 2)
      assert.strictEqual((yield* conversations.ask({ conversation: "main", messageId: id(2), text: "q2" })).seq, 2)
      for (const other of [question(2), question(2, file(2_000_000, 2), file(0))]) {
        assert.strictEqual((yield* Effect.flip(conversations.ask(other))).reason, "Conflict")
      }
      const sizes = (yield* conversations.exchangesBefore("main", 100, 1e9)).map(({ attachments }) =>
        attachments?.map(({ bytes, name }) => [name, bytes.length])
      )
      assert.deepStrictEqual(sizes, [
        [
          ["2000000.bin", 2_000_000],
          ["0.bin", 0]
        ],
        [["3000000.bin", 0]]
      ])
      const names = (yield* conversations.history({ conversation: "main", limit: 10 })).map((each) => each.attachments)
      assert.deepStrictEqual(names, [["3000000.bin"], ["2000000.bin", "0.bin"]])
      const taken = Option.getOrThrow(yield* conversations.takeBack("main", id(9), id(1)))
      assert.deepStrictEqual(
        taken.attachments.map(({ bytes }) => bytes.length),
        [3_000_000]
      )
    }).pipe(inMemory)
  )
})

describe("Conversations: what was taken back", () => {
  it.effect("is kept and no longer part of the conversation, once for each new id", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      yield* TestClock.setTime(5000)
      for (let n = 1; n <= 3; n++) yield* exchange(n, `q${n}`, complete(`a${n}`))
      const texts = (all = false) =>
        Effect.map(conversations.history({ conversation: "main", limit: 20, all }), (list) =>
          list.map(({ takenBack, text }) => (takenBack === undefined ? text : `-${text}`))
        )
      const takeBack = (newId: string, messageId?: string) =>
        Effect.map(
          conversations.takeBack("main", newId, messageId),
          Option.map(({ text }) => text)
        )
      assert.deepStrictEqual(yield* takeBack(id(10), id(2)), Option.some("q2"))
      assert.deepStrictEqual(yield* takeBack(id(10), id(2)), Option.some("q2"))
      assert.deepStrictEqual(yield* takeBack(id(10)), Option.some("q2"))
      yield* exchange(10, "q2 better", complete("a2 better"))
      assert.deepStrictEqual(yield* takeBack(id(10)), Option.some("q2"))
      assert.deepStrictEqual(yield* texts(), ["q1", "a1", "q2 better", "a2 better"])
      assert.deepStrictEqual(yield* texts(true), ["q1", "a1", "-q2", "-a2", "-q3", "-a3", "q2 better", "a2 better"])
      assert.deepStrictEqual(yield* takeBack(id(11)), Option.some("q2 better"))
      assert.deepStrictEqual(yield* texts(), ["q1", "a1"])
      for (const missing of [id(2), id(77), `${id(1)}.1`]) {
        assert.isTrue(Option.isNone(yield* takeBack(id(12), missing)), missing)
      }
      assert.isTrue(Option.isNone(yield* conversations.takeBack("elsewhere", id(12), id(1))))
      assert.strictEqual((yield* Effect.flip(conversations.takeBack("main", id(1)))).reason, "Conflict")
      const told = yield* conversations.exchangesBefore("main", 1000, 1000)
      assert.deepStrictEqual(
        told.map(({ question }) => question),
        ["q1"]
      )
      assert.strictEqual((yield* conversations.list)[0]?.messages, 2)
      const again = conversations.ask({ conversation: "main", messageId: id(2), text: "q2" })
      assert.strictEqual((yield* Effect.flip(again)).reason, "Conflict")
      const begin = conversations.beginReply({ messageId: id(2), provider: "p", model: "m" })
      assert.strictEqual((yield* Effect.flip(begin)).reason, "Conflict")
    }).pipe(inMemory)
  )

  it.effect("an answer in the making is not added to any more", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      yield* conversations.ask({ conversation: "main", messageId: id(1), text: "one" })
      const reply = yield* conversations.beginReply({ messageId: id(1), provider: "p", model: "m" })
      yield* conversations.takeBack("main", id(2))
      assert.strictEqual((yield* Effect.flip(conversations.addStep(reply, said("", "a")))).reason, "Conflict")
      yield* conversations.endReply(reply, { ...complete("part"), status: "cancelled" })
      assert.strictEqual(yield* conversations.sweep, 0)
    }).pipe(inMemory)
  )

  it.effect("a summary goes with what it speaks of, and an earlier one holds again", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      for (let n = 1; n <= 4; n++) yield* exchange(n, `q${n}`, complete(`a${n}`))
      const summary = Effect.map(conversations.summary("main"), Option.getOrUndefined)
      const set = (upToSeq: number, text: string) => conversations.setSummary("main", { upToSeq, text })
      assert.isUndefined(yield* summary)
      yield* set(2, "first")
      yield* set(4, "second")
      yield* set(4, "second, again")
      assert.deepStrictEqual(yield* summary, { upToSeq: 4, text: "second, again" })
      yield* conversations.takeBack("main", id(9), id(3))
      assert.deepStrictEqual(yield* summary, { upToSeq: 4, text: "second, again" })
      yield* set(6, "of what was taken back meanwhile")
      yield* set(100, "of what there is not")
      assert.deepStrictEqual(yield* summary, { upToSeq: 4, text: "second, again" })
      yield* conversations.takeBack("main", id(10), id(2))
      assert.deepStrictEqual(yield* summary, { upToSeq: 2, text: "first" })
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

  it.effect("takes over the transcript of the first version", () =>
    Effect.gen(function* () {
      const filename = path.join(yield* temporary, "clawchat.db")
      yield* Effect.sync(() => {
        const old = new DatabaseSync(filename)
        old.exec(`
          CREATE TABLE clawchat_migrations (
            migration_id integer PRIMARY KEY NOT NULL,
            created_at datetime NOT NULL DEFAULT current_timestamp,
            name VARCHAR(255) NOT NULL
          );
          INSERT INTO clawchat_migrations (migration_id, name) VALUES (1, 'transcript');
          CREATE TABLE conversations (name TEXT PRIMARY KEY, created BIGINT NOT NULL);
          CREATE TABLE messages (
            id TEXT PRIMARY KEY,
            conversation TEXT NOT NULL REFERENCES conversations (name) ON UPDATE CASCADE ON DELETE CASCADE,
            seq BIGINT NOT NULL,
            role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
            text TEXT NOT NULL,
            status TEXT NOT NULL CHECK (status IN ('complete', 'streaming', 'cancelled', 'failed')),
            created BIGINT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            provider TEXT, model TEXT, input_tokens BIGINT, output_tokens BIGINT, stop_reason TEXT,
            UNIQUE (conversation, seq)
          );
          INSERT INTO conversations VALUES ('main', 1);
          INSERT INTO messages VALUES ('${id(1)}', 'main', 0, 'user', 'an old question', 'complete', 1, 1, NULL, NULL, NULL, NULL, NULL);
          INSERT INTO messages VALUES ('${id(1)}.1', 'main', 1, 'assistant', 'an old answer', 'complete', 2, 0, 'p', 'm', 3, 4, 'end');`)
        old.close()
      })
      yield* Effect.gen(function* () {
        const conversations = yield* Conversations
        assert.isTrue(Option.isNone(yield* conversations.unread("main")))
        yield* exchange(2, "a new question", complete("a new answer"))
        assert.deepStrictEqual(
          (yield* conversations.history({ conversation: "main", limit: 10 })).map(({ seq, text }) => [seq, text]),
          [
            [0, "an old question"],
            [1, "an old answer"],
            [2, "a new question"],
            [3, "a new answer"]
          ]
        )
        const archive = yield* Archive
        const found = yield* archive.search({ query: { beginnings: ["old"], pieces: [] }, limit: 10 })
        assert.deepStrictEqual(
          found.map(({ excerpt, number }) => [number, excerpt]),
          [
            [2, "an old answer"],
            [1, "an old question"]
          ]
        )
      }).pipe(Effect.provide(ConversationsSqlite.layer({ filename })))
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
        import type { Step } from "../../src/domain/History.ts"
import type { Attachment } from "../../src/domain/Llm.ts"
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
        import type { Step } from "../../src/domain/History.ts"
import type { Attachment } from "../../src/domain/Llm.ts"
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
