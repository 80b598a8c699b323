/** The record of requests in SQL, in the database of the transcript. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { By, UsageLine } from "../domain/UsageRpc.ts"
import { toSums, UsageStore, UsageStoreError } from "../services/UsageStore.ts"
import * as SqliteNode from "./SqliteNode.ts"

// Applied in order, each once, in one transaction; a released one never changes.
const migrations = Migrator.fromRecord({
  "0001_requests": Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      CREATE TABLE usage_requests (
        id INTEGER PRIMARY KEY,
        time BIGINT NOT NULL,
        day TEXT NOT NULL,
        conversation TEXT NOT NULL,
        job TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        ended TEXT NOT NULL CHECK (ended IN ('running', 'complete', 'cancelled', 'failed')),
        estimated INTEGER NOT NULL,
        input_tokens BIGINT NOT NULL,
        output_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        cache_write_tokens BIGINT NOT NULL,
        cost DOUBLE PRECISION
      )`
    yield* sql`CREATE INDEX usage_requests_by_day ON usage_requests (day, job, cost)`
  })
})

interface SumRow {
  readonly key: string
  readonly requests: number
  readonly input_tokens: number
  readonly output_tokens: number
  readonly cached_tokens: number
  readonly cache_write_tokens: number
  readonly cost: number | null
  readonly unpriced: number
  readonly estimated: number
}

/** Any failure of the database. */
const failed = (error: { readonly message: string }) =>
  new UsageStoreError({
    message: `the llm tier's database failed: ${error.message.split("\n", 1)[0]}: check the disk and the file's owner, or restore it from a backup`,
    cause: error
  })

/** Before and after all days. */
const always = { from: "0000-00-00", to: "9999-99-99" }

const toLine = (row: SumRow): UsageLine => ({
  key: row.key,
  requests: row.requests,
  usage: {
    inputTokens: row.input_tokens,
    outputTokens: row.output_tokens,
    ...(row.cached_tokens === 0 ? {} : { cachedTokens: row.cached_tokens }),
    ...(row.cache_write_tokens === 0 ? {} : { cacheWriteTokens: row.cache_write_tokens })
  },
  cost: row.cost ?? 0,
  unpriced: row.unpriced,
  estimated: row.estimated
})

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* Migrator.make({})({ loader: migrations, table: "clawchat_usage_migrations" })

  const keys = {
    day: sql`day`,
    month: sql`substr(day, 1, 7)`,
    conversation: sql`conversation`,
    model: sql`provider || '/' || model`,
    job: sql`job`
  } satisfies { readonly [B in By]: unknown }

  return UsageStore.of({
    begin: Effect.fn("UsageStore.begin")(function* ({ conversation, cost, day, job, model, provider, time }) {
      const [row] = yield* sql<{ readonly id: number }>`
        INSERT INTO usage_requests ${sql.insert({
          time,
          day,
          conversation,
          job: job ?? "",
          provider,
          model,
          ended: "running",
          estimated: 1,
          input_tokens: 0,
          output_tokens: 0,
          cached_tokens: 0,
          cache_write_tokens: 0,
          cost: cost ?? null
        })} RETURNING id`
      return row?.id ?? 0
    }, Effect.mapError(failed)),

    end: Effect.fn("UsageStore.end")(function* (id, { cost, ended, estimated, model, usage }) {
      yield* sql`
        UPDATE usage_requests SET ended = ${ended}, model = ${model}, estimated = ${estimated ? 1 : 0}, cost = ${cost ?? null},
          input_tokens = ${usage.inputTokens}, output_tokens = ${usage.outputTokens},
          cached_tokens = ${usage.cachedTokens ?? 0}, cache_write_tokens = ${usage.cacheWriteTokens ?? 0}
        WHERE id = ${id} AND ended = 'running'`
    }, Effect.mapError(failed)),

    spent: Effect.fn("UsageStore.spent")(function* ({ from = always.from, job, to = always.to }) {
      const ofJob = job === undefined ? sql`` : sql`AND job = ${job}`
      const [row] = yield* sql<{ readonly cost: number | null }>`
        SELECT SUM(cost) AS cost FROM usage_requests WHERE day >= ${from} AND day <= ${to} ${ofJob}`
      return row?.cost ?? 0
    }, Effect.mapError(failed)),

    sum: Effect.fn("UsageStore.sum")(function* ({ by, from = always.from, to = always.to }) {
      const rows = yield* sql<SumRow>`
        SELECT ${keys[by]} AS key, COUNT(*) AS requests, SUM(input_tokens) AS input_tokens,
          SUM(output_tokens) AS output_tokens, SUM(cached_tokens) AS cached_tokens,
          SUM(cache_write_tokens) AS cache_write_tokens, SUM(cost) AS cost,
          SUM(CASE WHEN cost IS NULL THEN 1 ELSE 0 END) AS unpriced, SUM(estimated) AS estimated
        FROM usage_requests WHERE day >= ${from} AND day <= ${to} GROUP BY ${keys[by]}`
      return toSums(rows.map(toLine), by)
    }, Effect.mapError(failed))
  })
})

/** Over any SQL client, one with the transcript; brings its table up to date first. */
export const layerSql: Layer.Layer<UsageStore, UsageStoreError, SqlClient.SqlClient> = Layer.effect(
  UsageStore,
  Effect.mapError(make, failed)
)

/** In a file of its own; `:memory:` for none. */
export const layer = SqliteNode.alone(layerSql, failed)
