/** The record of scheduled work in SQL, beside the transcript. Plain enough for SQLite and PostgreSQL alike. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { Run, RunStatus } from "../domain/CronJob.ts"
import { maxResultChars } from "../domain/CronJob.ts"
import { Usage } from "../domain/Llm.ts"
import {
  CronStore,
  CronStoreError,
  type JobState,
  keptInAll,
  keptMs,
  keptRuns,
  keptUnacknowledged
} from "../services/CronStore.ts"
import * as SqliteNode from "./SqliteNode.ts"

interface RunRow {
  readonly id: number
  readonly job: string
  readonly name: string
  readonly slot: string
  readonly due: number
  readonly status: RunStatus
  readonly reason: string | null
  readonly started: number | null
  readonly ended: number | null
  readonly text: string
  readonly usage: string | null
  readonly cost: number | null
  readonly acknowledged: number
}

interface StateRow {
  readonly job: string
  readonly hash: string
  readonly considered: number
  readonly failures: number
  readonly failed_at: number
  readonly suspended_at: number | null
  readonly suspended_reason: string | null
}

// Applied in order, each once, in one transaction; a released one never changes.
const migrations = Migrator.fromRecord({
  "0001_cron": Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      CREATE TABLE cron_runs (
        id BIGINT PRIMARY KEY,
        job TEXT NOT NULL,
        name TEXT NOT NULL,
        slot TEXT NOT NULL,
        due BIGINT NOT NULL,
        status TEXT NOT NULL
          CHECK (status IN ('queued', 'running', 'ran', 'failed', 'skipped', 'missed', 'unknown')),
        reason TEXT,
        started BIGINT,
        ended BIGINT,
        text TEXT NOT NULL DEFAULT '',
        usage TEXT,
        cost DOUBLE PRECISION,
        acknowledged INTEGER NOT NULL,
        UNIQUE (job, slot)
      )`
    yield* sql`CREATE INDEX cron_runs_by_job ON cron_runs (job, id)`
    yield* sql`CREATE INDEX cron_runs_open ON cron_runs (id) WHERE status IN ('queued', 'running')`
    yield* sql`CREATE INDEX cron_runs_unseen ON cron_runs (id) WHERE acknowledged = 0`
    yield* sql`
      CREATE TABLE cron_jobs (
        job TEXT PRIMARY KEY,
        hash TEXT NOT NULL,
        considered BIGINT NOT NULL,
        failures INTEGER NOT NULL,
        failed_at BIGINT NOT NULL,
        suspended_at BIGINT,
        suspended_reason TEXT
      )`
    yield* sql`CREATE TABLE cron_file (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL)`
  })
})

const failed = (error: { readonly message: string }) =>
  new CronStoreError({
    message: `the record of scheduled work failed: ${error.message.split("\n", 1)[0]}: check the disk and the file's owner, or restore it from a backup`,
    cause: error
  })

const UsageText = Schema.fromJsonString(Usage)
const decodeUsage = Schema.decodeUnknownOption(UsageText)

const toRun = (row: RunRow): Run => {
  const usage = row.usage === null ? Option.none() : decodeUsage(row.usage)
  return {
    id: row.id,
    job: row.name,
    slot: row.slot,
    due: row.due,
    status: row.status,
    ...(row.reason === null ? {} : { reason: row.reason }),
    ...(row.started === null ? {} : { started: row.started }),
    ...(row.ended === null ? {} : { ended: row.ended }),
    text: row.text,
    ...(Option.isSome(usage) ? { usage: usage.value } : {}),
    ...(row.cost === null ? {} : { cost: row.cost }),
    acknowledged: row.acknowledged !== 0
  }
}

const toState = (row: StateRow): JobState => ({
  key: row.job,
  hash: row.hash,
  considered: row.considered,
  failures: row.failures,
  failedAt: row.failed_at,
  suspended: row.suspended_at === null ? undefined : { since: row.suspended_at, reason: row.suspended_reason ?? "" }
})

/** Cut where no character is cut. */
const cut = (text: string): string => {
  if (text.length <= maxResultChars) return text
  const last = text.charCodeAt(maxResultChars - 1)
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? maxResultChars - 1 : maxResultChars)
}

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* Migrator.make({})({ loader: migrations, table: "clawchat_cron_migrations" })

  const saveState = (state: JobState) =>
    sql`
      INSERT INTO cron_jobs ${sql.insert({
        job: state.key,
        hash: state.hash,
        considered: state.considered,
        failures: state.failures,
        failed_at: state.failedAt,
        suspended_at: state.suspended?.since ?? null,
        suspended_reason: state.suspended?.reason ?? null
      })}
      ON CONFLICT (job) DO UPDATE SET hash = excluded.hash, considered = excluded.considered,
        failures = excluded.failures, failed_at = excluded.failed_at,
        suspended_at = excluded.suspended_at, suspended_reason = excluded.suspended_reason`

  const select = (id: number) =>
    Effect.map(sql<RunRow>`SELECT * FROM cron_runs WHERE id = ${id}`, (rows) =>
      Option.map(Option.fromNullishOr(rows[0]), toRun)
    )

  return CronStore.of({
    advance: Effect.fn("CronStore.advance")(
      function* (batch) {
        const now = yield* Clock.currentTimeMillis
        const [last] = yield* sql<{ readonly id: number | null }>`SELECT MAX(id) AS id FROM cron_runs`
        let id = last?.id ?? 0
        const made: Array<Run> = []
        for (const { claims, key, name, state } of batch) {
          for (const claim of claims) {
            const row = {
              id: id + 1,
              job: key,
              name,
              slot: claim.slot,
              due: claim.due,
              status: claim.status,
              reason: claim.reason ?? null,
              ended: claim.status === "queued" ? null : now,
              acknowledged: claim.acknowledged ? 1 : 0
            }
            const inserted = yield* sql`
              INSERT INTO cron_runs ${sql.insert(row)} ON CONFLICT (job, slot) DO NOTHING RETURNING id`
            if (inserted.length === 0) continue
            id++
            made.push(toRun({ ...row, started: null, text: "", usage: null, cost: null }))
          }
          if (state !== undefined) yield* saveState(state)
        }
        return made
      },
      sql.withTransaction,
      Effect.mapError(failed)
    ),

    begin: Effect.fn("CronStore.begin")(function* (id) {
      const now = yield* Clock.currentTimeMillis
      const rows = yield* sql`
        UPDATE cron_runs SET status = 'running', started = ${now} WHERE id = ${id} AND status = 'queued' RETURNING id`
      return rows.length === 1
    }, Effect.mapError(failed)),

    end: Effect.fn("CronStore.end")(
      function* (id, end) {
        const now = yield* Clock.currentTimeMillis
        const rows = yield* sql<RunRow>`
          UPDATE cron_runs SET status = ${end.status}, reason = ${end.reason ?? null}, ended = ${now},
            text = ${cut(end.text)}, usage = ${end.usage === undefined ? null : JSON.stringify(end.usage)},
            cost = ${end.cost ?? null}, acknowledged = ${end.acknowledged ? 1 : 0}
          WHERE id = ${id} AND status IN ('queued', 'running', 'unknown') RETURNING *`
        if (end.state !== undefined && rows.length > 0) yield* saveState(end.state)
        return Option.map(Option.fromNullishOr(rows[0]), toRun)
      },
      sql.withTransaction,
      Effect.mapError(failed)
    ),

    sweep: Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const reason = "the assistant ended while it ran; whether it had done its work is not known"
      const lost = yield* sql<RunRow>`
        UPDATE cron_runs SET status = 'unknown', ended = ${now}, acknowledged = 0, reason = ${reason}
        WHERE status = 'running' RETURNING *`
      const queued = yield* sql<RunRow>`SELECT * FROM cron_runs WHERE status = 'queued' ORDER BY id`
      return { lost: lost.map(toRun), queued: queued.map(toRun) }
    }).pipe(sql.withTransaction, Effect.mapError(failed)),

    states: sql<StateRow>`SELECT * FROM cron_jobs`.pipe(
      Effect.map((rows) => rows.map(toState)),
      Effect.mapError(failed)
    ),

    saveStates: Effect.fn("CronStore.saveStates")(
      function* (states) {
        for (const state of states) yield* saveState(state)
      },
      sql.withTransaction,
      Effect.mapError(failed)
    ),

    forget: Effect.fn("CronStore.forget")(
      function* (keys) {
        for (const key of keys) yield* sql`DELETE FROM cron_jobs WHERE job = ${key}`
      },
      sql.withTransaction,
      Effect.mapError(failed)
    ),

    find: Effect.fn("CronStore.find")(function* (key, slot) {
      const rows = yield* sql<RunRow>`SELECT * FROM cron_runs WHERE job = ${key} AND slot = ${slot}`
      return Option.map(Option.fromNullishOr(rows[0]), toRun)
    }, Effect.mapError(failed)),

    runs: Effect.fn("CronStore.runs")(function* ({ before, key, limit }) {
      const below = before ?? Number.MAX_SAFE_INTEGER
      const rows =
        key === undefined
          ? yield* sql<RunRow>`SELECT * FROM cron_runs WHERE id < ${below} ORDER BY id DESC LIMIT ${limit}`
          : yield* sql<RunRow>`
              SELECT * FROM cron_runs WHERE job = ${key} AND id < ${below} ORDER BY id DESC LIMIT ${limit}`
      return rows.map(toRun)
    }, Effect.mapError(failed)),

    latest: Effect.gen(function* () {
      const rows = yield* sql<RunRow>`
        SELECT id, job, name, slot, due, status, reason, started, ended, '' AS text, usage, cost, acknowledged
        FROM cron_runs WHERE id IN (SELECT MAX(id) FROM cron_runs GROUP BY job)`
      return new Map(rows.map((row) => [row.job, toRun(row)]))
    }).pipe(Effect.mapError(failed)),

    unacknowledged: sql<{ readonly id: number }>`
      SELECT id FROM cron_runs
      WHERE acknowledged = 0 AND status NOT IN ('queued', 'running') ORDER BY id`.pipe(
      Effect.map((rows) => rows.map((row) => row.id)),
      Effect.mapError(failed)
    ),

    get: Effect.fn("CronStore.get")(select, Effect.mapError(failed)),

    acknowledge: Effect.fn("CronStore.acknowledge")(
      function* (ids) {
        let count = 0
        for (const id of ids) {
          const rows = yield* sql`
            UPDATE cron_runs SET acknowledged = 1
            WHERE id = ${id} AND acknowledged = 0 AND status NOT IN ('queued', 'running') RETURNING id`
          count += rows.length
        }
        return count
      },
      sql.withTransaction,
      Effect.mapError(failed)
    ),

    // The newest run of all stays whatever its age, so that ids only ever grow.
    prune: Effect.fn("CronStore.prune")(
      function* (now) {
        const [last] = yield* sql<{ readonly id: number | null }>`SELECT MAX(id) AS id FROM cron_runs`
        const newest = last?.id ?? 0
        yield* sql`
          DELETE FROM cron_runs WHERE id < ${newest} AND status NOT IN ('queued', 'running') AND (
            id <= ${newest - keptInAll} OR (acknowledged = 1 AND due < ${now - keptMs}))`
        const full = yield* sql<{ readonly job: string }>`
          SELECT job FROM cron_runs GROUP BY job HAVING COUNT(*) > ${keptRuns}`
        for (const { job } of full) {
          for (const [kept, seen] of [
            [keptRuns, 1],
            [keptUnacknowledged, 0]
          ] as const) {
            yield* sql`
              DELETE FROM cron_runs WHERE job = ${job} AND id < ${newest} AND acknowledged >= ${seen}
                AND status NOT IN ('queued', 'running') AND id <= (
                  SELECT id FROM cron_runs WHERE job = ${job} ORDER BY id DESC LIMIT 1 OFFSET ${kept})`
          }
        }
      },
      sql.withTransaction,
      Effect.mapError(failed)
    ),

    lastGood: sql<{ readonly text: string }>`SELECT text FROM cron_file WHERE id = 1`.pipe(
      Effect.map((rows) => Option.map(Option.fromNullishOr(rows[0]), (row) => row.text)),
      Effect.mapError(failed)
    ),

    keepGood: Effect.fn("CronStore.keepGood")(function* (text) {
      yield* sql`
        INSERT INTO cron_file (id, text) VALUES (1, ${text}) ON CONFLICT (id) DO UPDATE SET text = excluded.text`
    }, Effect.mapError(failed))
  })
})

/** Over any SQL client; brings its tables up to date first. */
export const layerSql: Layer.Layer<CronStore, CronStoreError, SqlClient.SqlClient> = Layer.effect(
  CronStore,
  Effect.mapError(make, failed)
)

/** In a file, which may be the transcript's: made 0600, in a folder made 0700 where it is missing. */
export const layer = SqliteNode.alone(layerSql, failed)

/** In memory: the same statements, gone with the layer. */
export const layerMemory: Layer.Layer<CronStore, CronStoreError> = layer({ filename: ":memory:" })
