/**
 * Memory in a folder of plain files, with a record of changes and an index of lines in SQLite (FTS5). The files are the
 * truth: what people edit is found at the next search, and the index can be thrown away.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Semaphore from "effect/Semaphore"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import * as Memory from "../domain/Memory.ts"
import * as Printable from "../domain/Printable.ts"
import * as Tokens from "../domain/Tokens.ts"
import { MemoryError, MemoryStore } from "../services/MemoryStore.ts"
import * as MemoryIndex from "./MemoryIndex.ts"
import * as TextFile from "./TextFile.ts"

export interface Options {
  /** The context folder, absolute. */
  readonly folder: string
  /** Days are those of this zone; default: the system's. */
  readonly timeZone?: DateTime.TimeZone | undefined
}

/** How often a change is made anew because somebody edited the file meanwhile. */
const MAX_TRIES = 5
/** Logs that are searched: the newest. */
const MAX_LOGS = 4000
/** Changes on record: the newest. */
const MAX_CHANGES = 10_000
/** Of what a crash left beside the files, before it is removed. */
const LEFT_MS = 3600_000
/** Characters of a log's end that are looked at for what goes with a question. */
const LOG_END_CHARS = 256 * 1024
const LOG_NAME = /^\d{4}-\d{2}-\d{2}\.md$/

interface ChangeRow {
  readonly id: number
  readonly at: number
  readonly file: Memory.MemoryFile
  readonly kind: Memory.Change["kind"]
  readonly before: string
  readonly after: string
  readonly conversation: string | null
  readonly message: string | null
  readonly job: string | null
  readonly undoes: number | null
  readonly undone: number
}

// Applied in order, each once; a released one never changes.
const migrations = Migrator.fromRecord({
  "0001_memory": Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      CREATE TABLE memory_changes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at BIGINT NOT NULL,
        file TEXT NOT NULL,
        kind TEXT NOT NULL,
        before TEXT NOT NULL,
        after TEXT NOT NULL,
        conversation TEXT,
        message TEXT,
        job TEXT,
        undoes BIGINT,
        undone INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0
      )`
    yield* sql`CREATE TABLE memory_sources (source TEXT PRIMARY KEY, stamp TEXT NOT NULL)`
    yield* sql`CREATE VIRTUAL TABLE memory_lines USING fts5(text, source UNINDEXED, line UNINDEXED, tokenize = 'unicode61 remove_diacritics 2')`
  }),
  "0002_index": MemoryIndex.tables
})

const toChange = (row: ChangeRow): Memory.Change => ({
  id: row.id,
  at: row.at,
  file: row.file,
  kind: row.kind,
  before: row.before,
  after: row.after,
  ...(row.conversation === null || row.message === null
    ? {}
    : {
        cause: {
          conversation: row.conversation,
          messageId: row.message,
          ...(row.job === null ? {} : { job: row.job })
        }
      }),
  ...(row.undoes === null ? {} : { undoes: row.undoes }),
  undone: row.undone !== 0
})

const fail = (reason: MemoryError["reason"], message: string) => new MemoryError({ reason, message })

const fromSql = (error: { readonly message: string }) =>
  fail("Io", `the record of memory failed: ${error.message.split("\n", 1)[0]}: check the disk`)

/** What a change would put where. */
interface Planned {
  readonly text: string
  readonly before: string
  readonly after: string
}

const make = Effect.fnUntraced(function* (options: Options) {
  const sql = yield* SqlClient.SqlClient
  yield* Migrator.make({})({ loader: migrations, table: "clawchat_memory_migrations" })
  const turn = yield* Semaphore.make(1)
  const zone = options.timeZone ?? DateTime.zoneMakeLocal()
  const at = (source: string): string => path.join(options.folder, ...source.split("/"))

  const attempt = <A>(source: string, run: () => Promise<A>): Effect.Effect<A, MemoryError> =>
    Effect.tryPromise({
      try: run,
      catch: (error) => {
        const fault = TextFile.faultOf(at(source), error)
        return fail(fault.reason === "Unsafe" ? "Unusable" : "Io", fault.message)
      }
    })
  const stored = <A, R>(
    effect: Effect.Effect<A, { readonly _tag: "SqlError"; readonly message: string } | MemoryError, R>
  ) => Effect.catchTag(effect, "SqlError", (error) => Effect.fail(fromSql(error)))

  const read = (source: string, maxBytes = Memory.maxFileBytes) =>
    attempt(source, async () => {
      const found = await TextFile.find(at(source), maxBytes)
      return { found, text: TextFile.textOf(at(source), found) }
    })

  /** A day, `2026-01-31`, and a time of it, `13:37`, in the zone. */
  const moment = (ms: number): { readonly day: string; readonly time: string } => {
    const parts = DateTime.toParts(DateTime.setZone(DateTime.makeUnsafe(ms), zone))
    const two = (value: number) => String(value).padStart(2, "0")
    const day = `${String(parts.year).padStart(4, "0")}-${two(parts.month)}-${two(parts.day)}`
    return { day, time: `${two(parts.hour)}:${two(parts.minute)}` }
  }

  const rows = (id: number) => sql<ChangeRow>`SELECT * FROM memory_changes WHERE id = ${id} AND done = 1`

  const settle = (id: number, undoes: number | null | undefined) =>
    sql.withTransaction(
      Effect.gen(function* () {
        yield* sql`UPDATE memory_changes SET done = 1 WHERE id = ${id}`
        if (typeof undoes === "number") yield* sql`UPDATE memory_changes SET undone = 1 WHERE id = ${undoes}`
        yield* sql`DELETE FROM memory_changes WHERE id <= ${id - MAX_CHANGES}`
      })
    )

  // A change is on record before it is made. What a crash left in between either stands in its file, or is struck out.
  const unsettled = yield* sql<ChangeRow>`SELECT * FROM memory_changes WHERE done = 0`
  for (const row of unsettled) {
    const current = yield* Effect.option(read(row.file))
    if (current._tag === "Some" && Memory.wasMade(current.value.text, row)) yield* settle(row.id, row.undoes)
    else yield* sql`DELETE FROM memory_changes WHERE id = ${row.id}`
  }

  const started = yield* Clock.currentTimeMillis
  const isFile = Schema.is(Memory.MemoryFile)
  yield* Effect.promise(() => TextFile.sweep(options.folder, isFile, started - LEFT_MS))
  yield* Effect.promise(() => TextFile.sweep(at("memory"), (name) => LOG_NAME.test(name), started - LEFT_MS))

  /** Makes a change: on record first, then in the file. */
  const change = Effect.fnUntraced(
    function* (options: {
      readonly file: Memory.MemoryFile
      readonly kind: Memory.Change["kind"]
      readonly cause?: Memory.Cause | undefined
      readonly undoes?: number
      readonly plan: (text: string) => Result.Result<Planned | undefined, MemoryError>
    }) {
      const { cause, file, kind, plan, undoes } = options
      for (let tries = 0; tries < MAX_TRIES; tries++) {
        const { found, text } = yield* read(file)
        const planned = yield* Effect.fromResult(plan(text))
        if (planned === undefined) return undefined
        if (new TextEncoder().encode(planned.text).length > Memory.maxFileBytes) {
          return yield* fail("TooLong", `${file} would exceed ${Memory.maxFileBytes} bytes: take something out first`)
        }
        const now = yield* Clock.currentTimeMillis
        yield* sql`INSERT INTO memory_changes ${sql.insert({
          at: now,
          file,
          kind,
          before: planned.before,
          after: planned.after,
          conversation: cause?.conversation ?? null,
          message: cause?.messageId ?? null,
          job: cause?.job ?? null,
          undoes: undoes ?? null
        })}`
        const [last] = yield* sql<{ readonly id: number }>`SELECT MAX(id) AS id FROM memory_changes`
        const id = last?.id ?? 0
        const replaced = yield* Effect.result(
          attempt(file, () => TextFile.replace(at(file), found, planned.text, { maxBytes: Memory.maxFileBytes }))
        )
        if (Result.isFailure(replaced) || !replaced.success) {
          yield* sql`DELETE FROM memory_changes WHERE id = ${id}`
          if (Result.isFailure(replaced)) return yield* replaced.failure
          continue
        }
        yield* settle(id, undoes)
        const [row] = yield* rows(id)
        return row === undefined ? undefined : toChange(row)
      }
      return yield* fail("Changed", `${file} is being edited by someone else: try again in a moment`)
    },
    stored,
    turn.withPermits(1),
    Effect.uninterruptible
  )

  const made = (change: Effect.Effect<Memory.Change | undefined, MemoryError>) =>
    Effect.flatMap(change, (done) =>
      done === undefined ? Effect.die(new Error("a change without a plan")) : Effect.succeed(done)
    )

  const logNames = attempt("memory", async () => {
    const names = await fs.readdir(at("memory")).catch((error: unknown) => {
      if (TextFile.codeOf(error) === "ENOENT") return []
      throw error
    })
    return names
      .filter((name) => LOG_NAME.test(name))
      .sort()
      .slice(-MAX_LOGS)
  })

  const index = MemoryIndex.make(sql, {
    stamps: Effect.gen(function* () {
      const logs = yield* logNames
      const sources = [...Memory.factFiles, ...Memory.identityFiles, ...logs.map((name) => `memory/${name}`)]
      const stats = yield* attempt("memory", () =>
        Promise.all(sources.map((source) => fs.lstat(at(source)).catch(() => undefined)))
      )
      return new Map(
        stats.flatMap((stat, place): ReadonlyArray<readonly [string, string]> => {
          const source = sources[place]
          if (source === undefined || stat?.isFile() !== true) return []
          return [[source, `${stat.size} ${stat.mtimeMs} ${stat.ino}`]]
        })
      )
    }),
    text: (source) =>
      Effect.orElseSucceed(
        Effect.map(read(source, Memory.maxLogBytes), (found) => found.text),
        () => ""
      )
  })

  return MemoryStore.of({
    append: (file, text, cause) =>
      change({
        file,
        kind: "append",
        cause,
        plan: (current) => {
          if (Memory.plainNote(text) === "") return Result.succeed(undefined)
          const line = Memory.noteLine(text)
          if (current.split("\n").some((each) => each.trim() === line)) return Result.succeed(undefined)
          const next = Memory.appended(current, text)
          return Result.succeed({ text: next.text, before: "", after: next.added })
        }
      }),

    edit: (file, before, given, cause) =>
      made(
        change({
          file,
          kind: "edit",
          cause,
          plan: (current) => {
            const after = Printable.clean(given)
            const text = Memory.replaced(current, before, after)
            if (text !== undefined) return Result.succeed({ text, before, after })
            return Result.fail(
              before !== "" && current.includes(before)
                ? fail("Ambiguous", `this text stands in ${file} more than once: give more of the line`)
                : fail("NotFound", `this text does not stand in ${file}: read it again`)
            )
          }
        })
      ),

    write: (file, given, cause) =>
      made(
        change({
          file,
          kind: "write",
          cause,
          plan: (current) => {
            const text = Printable.clean(given)
            return Result.succeed({ text, before: current, after: text })
          }
        })
      ),

    search: (query, limit) => stored(Effect.andThen(turn.withPermits(1)(index.refresh), index.search(query, limit))),

    get: Effect.fnUntraced(function* (source, from, lines) {
      const { found, text } = yield* read(source, Memory.maxLogBytes)
      if (found === undefined) return yield* fail("NotFound", `there is no ${source}`)
      return text
        .split("\n")
        .slice(from - 1, from - 1 + lines)
        .join("\n")
    }),

    changes: ({ before, limit }) =>
      stored(
        Effect.map(
          sql<ChangeRow>`
            SELECT * FROM memory_changes WHERE done = 1 AND id < ${before ?? Number.MAX_SAFE_INTEGER}
            ORDER BY id DESC LIMIT ${limit}`,
          (found) => found.map(toChange)
        )
      ),

    undo: (id, cause) =>
      Effect.gen(function* () {
        const [row] = yield* stored(rows(id))
        if (row === undefined) return yield* fail("NotFound", `there is no change ${id}: clawchat memory log`)
        if (row.undone !== 0) return yield* fail("Changed", `change ${id} was taken back already`)
        return yield* made(
          change({
            file: row.file,
            kind: "undo",
            cause,
            undoes: id,
            plan: (current) => {
              const text = Memory.undone(current, row)
              return text === undefined
                ? Result.fail(
                    fail("Changed", `${row.file} was changed since, change ${id} cannot be told apart: edit it by hand`)
                  )
                : Result.succeed({ text, before: row.after, after: row.before })
            }
          })
        )
      }),

    log: (exchange) =>
      Effect.gen(function* () {
        const { day, time } = moment(exchange.created)
        const source = Memory.logOf(day)
        for (let tries = 0; tries < MAX_TRIES; tries++) {
          const { found, text } = yield* read(source, Memory.maxLogBytes)
          const head = text === "" ? `# ${day}\n\n` : text.endsWith("\n") ? text : `${text}\n`
          const next = head + Memory.logEntry({ ...exchange, time })
          if (new TextEncoder().encode(next).length > Memory.maxLogBytes) {
            return yield* fail("TooLong", `the log of ${day} is full: it stays as it is`)
          }
          const done = yield* attempt(source, () =>
            TextFile.replace(at(source), found, next, { maxBytes: Memory.maxLogBytes })
          )
          if (done) return
        }
        return yield* fail("Changed", `${source} is being edited by someone else: this exchange is not in it`)
      }).pipe(turn.withPermits(1), Effect.uninterruptible),

    recent: Effect.fnUntraced(function* (tokens) {
      const now = yield* Clock.currentTimeMillis
      const today = moment(now).day
      let left = tokens
      const parts: Array<string> = []
      for (const day of [today, Memory.dayBefore(today)]) {
        if (left <= 0) break
        const { text } = yield* read(Memory.logOf(day), Memory.maxLogBytes)
        const end = Memory.logEnd(text, Math.max(LOG_END_CHARS, 2 * left * Tokens.charsPerToken))
        const whole = Memory.ownWords(end).trim()
        const tail = Tokens.estimate(whole) <= left ? whole : newest(whole, left)
        if (tail === "") continue
        left -= Tokens.estimate(tail)
        const isWhole = tail === whole && end === text
        parts.unshift(isWhole ? tail : `# ${day} [truncated: the newest part]\n\n${tail}`)
      }
      return parts.join("\n\n")
    })
  })
})

/** The newest whole entries of a log within a budget. */
const newest = (text: string, tokens: number): string => {
  const entries = Memory.logEntries(text)
  let left = tokens
  const kept: Array<string> = []
  for (const entry of entries.toReversed()) {
    left -= Tokens.estimate(entry)
    if (left < 0) break
    kept.unshift(entry)
  }
  return kept.join("").trim()
}

export const layer = (options: Options): Layer.Layer<MemoryStore, MemoryError, SqlClient.SqlClient> =>
  Layer.effect(
    MemoryStore,
    Effect.mapError(make(options), (error) => (error instanceof MemoryError ? error : fromSql(error)))
  )
