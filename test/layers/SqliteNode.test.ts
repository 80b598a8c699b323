/** One database and the others that may hold it: another program, a full disk. */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as SqlClient from "effect/sql/SqlClient"
import * as TestClock from "effect/testing/TestClock"
import * as SqliteNode from "../../src/layers/SqliteNode.ts"

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-sqlite-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

const inFile = <A, E>(body: (other: DatabaseSync) => Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.gen(function* () {
    const filename = path.join(yield* temporary, "clawchat.db")
    yield* Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`CREATE TABLE t (n INTEGER)`
      const other = yield* Effect.acquireRelease(
        Effect.sync(() => new DatabaseSync(filename)),
        (database) => Effect.sync(() => database.close())
      )
      yield* body(other)
    }).pipe(Effect.provide(SqliteNode.layer({ filename })))
  })

const insert = Effect.flatMap(SqlClient.SqlClient, (sql) => sql`INSERT INTO t (n) VALUES (1)`)
const inTransaction = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  sql.withTransaction(Effect.andThen(sql`SELECT COUNT(*) FROM t`, sql`INSERT INTO t (n) VALUES (1)`))
)
const count = Effect.flatMap(SqlClient.SqlClient, (sql) => sql<{ n: number }>`SELECT COUNT(*) AS n FROM t`)

describe("a database that another program writes to", () => {
  for (const [name, write] of [
    ["a statement", insert],
    ["a transaction", inTransaction]
  ] as const) {
    it.effect(`${name} waits its turn while the program goes on`, () =>
      inFile((other) =>
        Effect.gen(function* () {
          other.exec("BEGIN IMMEDIATE; INSERT INTO t (n) VALUES (2)")
          const fiber = yield* Effect.forkChild(write)
          yield* turn
          yield* TestClock.adjust("1 second")
          // Only who is not held up himself comes here.
          assert.isUndefined(fiber.pollUnsafe())
          other.exec("COMMIT")
          yield* TestClock.adjust("1 second")
          yield* Fiber.join(fiber)
          assert.deepStrictEqual(yield* count, [{ n: 2 }])
        })
      )
    )

    it.effect(`${name} gives up after five seconds, and the next is none the worse`, () =>
      inFile((other) =>
        Effect.gen(function* () {
          other.exec("BEGIN IMMEDIATE")
          const fiber = yield* Effect.forkChild(Effect.flip(write))
          yield* turn
          yield* TestClock.adjust("4 seconds")
          assert.isUndefined(fiber.pollUnsafe())
          yield* TestClock.adjust("2 seconds")
          assert.match((yield* Fiber.join(fiber)).message, /locked/)
          other.exec("ROLLBACK")
          yield* write
          assert.deepStrictEqual(yield* count, [{ n: 1 }])
        })
      )
    )
  }
})

describe("a disk that is full", () => {
  it.effect("a transaction fails as a whole, and the next one passes when there is room", () =>
    inFile(() =>
      Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        const [pages] = yield* sql<{ page_count: number }>`PRAGMA page_count`
        yield* sql`PRAGMA max_page_count = ${sql.literal(String((pages?.page_count ?? 0) + 2))}`
        const large = sql`INSERT INTO t (n) VALUES (zeroblob(100000))`
        const failed = yield* Effect.flip(sql.withTransaction(Effect.andThen(insert, large)))
        assert.match(failed.message, /full/)
        assert.deepStrictEqual(yield* count, [{ n: 0 }])
        yield* sql`PRAGMA max_page_count = 100000`
        yield* sql.withTransaction(Effect.andThen(insert, large))
        assert.deepStrictEqual(yield* count, [{ n: 2 }])
      })
    )
  )
})
