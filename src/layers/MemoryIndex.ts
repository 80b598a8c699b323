/**
 * An index of the lines of memory in SQLite (FTS5). It follows the files, is brought in line with them before each search,
 * and can be thrown away. A line's row is made of its source's number and its place in it, so that a source leaves the
 * index, and comes back, without a look at all others.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Memory from "../domain/Memory.ts"
import type { MemoryError } from "../services/MemoryStore.ts"

/** Rows that a source has; more than the bytes of the longest. */
const ROWS = 2 ** 23
/** Rows that one statement adds. */
const BATCH = 500

export const tables = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`DROP TABLE IF EXISTS memory_lines`
  yield* sql`DROP TABLE IF EXISTS memory_sources`
  yield* sql`CREATE TABLE memory_sources (number INTEGER PRIMARY KEY, source TEXT NOT NULL UNIQUE, stamp TEXT NOT NULL)`
  yield* sql`CREATE VIRTUAL TABLE memory_lines USING fts5(text, tokenize = 'unicode61 remove_diacritics 2')`
})

export interface Files {
  /** What is to be found, each with what it is known by: another stamp means that it was changed. */
  readonly stamps: Effect.Effect<ReadonlyMap<string, string>, MemoryError>
  /** Empty for what cannot be read. */
  readonly text: (source: string) => Effect.Effect<string>
}

interface Row {
  readonly place: number
  readonly text: string
  readonly score: number
}

const like = (piece: string): string => `%${piece.replace(/[\\%_]/g, "\\$&")}%`

export const make = (sql: SqlClient.SqlClient, files: Files) => {
  const forget = (number: number) =>
    sql`DELETE FROM memory_lines WHERE rowid BETWEEN ${number * ROWS} AND ${number * ROWS + ROWS - 1}`

  const put = (source: string, stamp: string, known: number | undefined, text: string) =>
    Effect.gen(function* () {
      yield* sql`
        INSERT INTO memory_sources (source, stamp) VALUES (${source}, ${stamp})
        ON CONFLICT (source) DO UPDATE SET stamp = excluded.stamp`
      const [row] = yield* sql<{ readonly number: number }>`
        SELECT number FROM memory_sources WHERE source = ${source}`
      const first = (row?.number ?? 0) * ROWS
      // A log grows at its end: what stands as it stood stays.
      const stood = new Map(
        known === undefined
          ? []
          : (yield* sql<{ readonly place: number; readonly text: string }>`
              SELECT rowid AS place, text FROM memory_lines WHERE rowid BETWEEN ${first} AND ${first + ROWS - 1}`).map(
              ({ place, text: words }) => [place, words]
            )
      )
      const added: Array<{ rowid: number; text: string }> = []
      for (const [index, words] of text.split("\n").entries()) {
        const rowid = first + index + 1
        if (words.trim() === "") continue
        if (stood.get(rowid) === words) stood.delete(rowid)
        else added.push({ rowid, text: words })
      }
      for (const gone of Arr.chunksOf(stood.keys(), BATCH)) {
        yield* sql`DELETE FROM memory_lines WHERE ${sql.in("rowid", gone)}`
      }
      for (const batch of Arr.chunksOf(added, BATCH)) yield* sql`INSERT INTO memory_lines ${sql.insert(batch)}`
    }).pipe(sql.withTransaction)

  /** One source at a time, so that nobody else waits long for the database. */
  const refresh = Effect.gen(function* () {
    const stamps = yield* files.stamps
    const rows = yield* sql<{ readonly number: number; readonly source: string; readonly stamp: string }>`
      SELECT number, source, stamp FROM memory_sources`
    const known = new Map(rows.map((row) => [row.source, row]))
    for (const [source, stamp] of stamps) {
      const before = known.get(source)
      if (before?.stamp !== stamp) yield* put(source, stamp, before?.number, yield* files.text(source))
    }
    for (const { number, source } of rows) {
      if (stamps.has(source)) continue
      yield* sql.withTransaction(
        Effect.andThen(forget(number), sql`DELETE FROM memory_sources WHERE number = ${number}`)
      )
    }
  })

  /** Words by BM25; after them what holds pieces of scripts that put no spaces, those that hold most first. */
  const search = Effect.fnUntraced(function* (query: string, limit: number) {
    const match = Memory.ftsQuery(query)
    const found: ReadonlyArray<Row> =
      match === undefined
        ? []
        : yield* sql<Row>`
            SELECT rowid AS place, text, -bm25(memory_lines) AS score FROM memory_lines
            WHERE memory_lines MATCH ${match} ORDER BY score DESC LIMIT ${limit}`
    const pieces = Memory.unspacedPieces(query)
    const held = sql.join(" + ", false)(pieces.map((piece) => sql`(text LIKE ${like(piece)} ESCAPE '\\')`))
    const more: ReadonlyArray<Row> =
      pieces.length === 0
        ? []
        : yield* sql<Row>`
            SELECT rowid AS place, text, ${held} AS score FROM memory_lines
            WHERE score > 0 ORDER BY score DESC, rowid DESC LIMIT ${limit}`
    const places = new Set(found.map(({ place }) => place))
    const hits = [
      ...found,
      ...more.flatMap(({ place, text }) => (places.has(place) ? [] : [{ place, text, score: 0 }]))
    ].slice(0, limit)
    const numbers = [...new Set(hits.map(({ place }) => Math.floor(place / ROWS)))]
    const sources = new Map(
      numbers.length === 0
        ? []
        : (yield* sql<{ readonly number: number; readonly source: string }>`
            SELECT number, source FROM memory_sources WHERE ${sql.in("number", numbers)}`).map((row) => [
            row.number,
            row.source
          ])
    )
    return hits.map(
      ({ place, score, text }): Memory.Hit => ({
        source: sources.get(Math.floor(place / ROWS)) ?? "",
        line: place % ROWS,
        text,
        score
      })
    )
  })

  return { refresh, search }
}
