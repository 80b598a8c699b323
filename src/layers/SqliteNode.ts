/**
 * `effect/sql` on Node's built-in SQLite: one connection, one statement at a time, rows read whole. A thin stand-in until
 * Effect's own client for it is released.
 */
import { constants } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import type { SQLInputValue } from "node:sqlite"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import { ConnectionError, classifySqliteError, SqlError } from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import * as Folders from "./Folders.ts"

/** Patience for locks while the file is opened, ms; after that it is shown between statements, where nobody is held up. */
const OPENING_MS = 5000
const patience = Schedule.max([Schedule.spaced("25 millis"), Schedule.recurs(200)])

const isBusy = ({ reason }: SqlError): boolean => reason._tag === "LockTimeoutError"

/** What a column can hold when this adapter is asked to bind it. */
const isBindable = (value: unknown): value is SQLInputValue =>
  value === null ||
  typeof value === "number" ||
  typeof value === "bigint" ||
  typeof value === "string" ||
  value instanceof Uint8Array

const bindable = (params: ReadonlyArray<unknown>): Array<SQLInputValue> =>
  params.map((value) => {
    if (isBindable(value)) return value
    throw new TypeError(`cannot bind a ${typeof value}`)
  })

/**
 * Loads node:sqlite. Node below 24.15 announces on stderr that the module is experimental, once, while it loads: that
 * one announcement is dropped, every other warning passes.
 */
const load = async () => {
  const emitWarning = process.emitWarning
  const quiet: typeof emitWarning = (warning: string | Error, ...rest: ReadonlyArray<unknown>) => {
    if (!String(warning).startsWith("SQLite is an experimental feature")) {
      Reflect.apply(emitWarning, process, [warning, ...rest])
    }
  }
  process.emitWarning = quiet
  try {
    return await import("node:sqlite")
  } finally {
    process.emitWarning = emitWarning
  }
}

/**
 * Makes the file 0600 before SQLite sees it (its -wal and -shm siblings inherit the mode), in a folder that is made 0700
 * where it is missing. A link or anything else that is no regular file is refused.
 */
const prepareFile = async (filename: string) => {
  Folders.make(path.dirname(filename))
  const flags = constants.O_RDWR | constants.O_CREAT | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0)
  const handle = await fs.open(filename, flags, 0o600)
  try {
    if (!(await handle.stat()).isFile()) throw new Error(`${filename} is not a regular file`)
    await handle.chmod(0o600)
  } finally {
    await handle.close()
  }
}

const connectionError = (filename: string) => (cause: unknown) =>
  new SqlError({
    reason: new ConnectionError({
      cause,
      operation: "open",
      message: `cannot open the database ${filename}: ${cause instanceof Error ? cause.message : String(cause)}`
    })
  })

const open = (filename: string) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        if (filename !== ":memory:") await prepareFile(filename)
        const { DatabaseSync } = await load()
        const database = new DatabaseSync(filename, { timeout: OPENING_MS, enableForeignKeyConstraints: true })
        try {
          // FULL: a committed transaction survives a power loss.
          database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 0;")
        } catch (error) {
          database.close()
          throw error
        }
        return database
      },
      catch: connectionError(filename)
    }),
    (database) => Effect.sync(() => database.close())
  )

const make = Effect.fnUntraced(function* (filename: string) {
  const database = yield* open(filename)

  const once = <A>(operation: string, run: () => A) =>
    Effect.try({
      try: run,
      catch: (cause) => {
        const message = cause instanceof Error ? cause.message : String(cause)
        // Effect's classification reads the result code where other drivers put it, in `errno`.
        const errno: unknown = cause instanceof Error ? Reflect.get(cause, "errcode") : undefined
        return new SqlError({ reason: classifySqliteError({ message, errno, cause }, { message, operation }) })
      }
    })

  /** What another program's lock kept from happening is tried again, for five seconds; the connection stays ours. */
  const attempt = <A>(operation: string, run: () => A) => {
    const tried = once(operation, run)
    return Effect.catchIf(tried, isBusy, () => Effect.retry(tried, { schedule: patience, while: isBusy }))
  }

  const all = (sql: string, params: ReadonlyArray<unknown>) =>
    attempt("execute", () => database.prepare(sql).all(...bindable(params)))

  const values = (sql: string, params: ReadonlyArray<unknown>) =>
    attempt("execute", () => {
      const statement = database.prepare(sql)
      statement.setReturnArrays(true)
      return statement.all(...bindable(params)).map((row) => Object.values(row))
    })

  const execute: Connection["execute"] = (sql, params, transformRows) =>
    transformRows === undefined ? all(sql, params) : Effect.map(all(sql, params), transformRows)

  const connection: Connection = {
    execute,
    executeUnprepared: execute,
    executeRaw: (sql, params) => attempt("execute", () => database.prepare(sql).run(...bindable(params))),
    executeValues: values,
    executeValuesUnprepared: values,
    executeStream: (sql, params, transformRows) => Stream.fromIterableEffect(execute(sql, params, transformRows))
  }

  return yield* SqlClient.make({
    ...SqlClient.makeSqliteAcquirers({
      connection: Effect.succeed(connection),
      semaphore: yield* Semaphore.make(1),
      isTransaction: () => database.isTransaction
    }),
    compiler: Statement.makeCompilerSqlite(),
    driver: "sqlite",
    beginTransaction: "BEGIN IMMEDIATE",
    spanAttributes: []
  })
})

/** An open database; `:memory:` gives a private one. WAL, synchronous FULL, foreign keys, 5 s of patience for locks. */
export const layer = (options: { readonly filename: string }): Layer.Layer<SqlClient.SqlClient, SqlError> =>
  Layer.effect(SqlClient.SqlClient, make(options.filename)).pipe(Layer.provide(Reactivity.layer))

/** A store on a database of its own; one that cannot be opened is told of in the store's words. */
export const alone =
  <A, E>(store: Layer.Layer<A, E, SqlClient.SqlClient>, failed: (error: SqlError) => E) =>
  (options: { readonly filename: string }): Layer.Layer<A, E> =>
    Layer.provide(
      store,
      Layer.catchTag(layer(options), "SqlError", (error) =>
        Layer.effect(SqlClient.SqlClient, Effect.fail(failed(error)))
      )
    )
