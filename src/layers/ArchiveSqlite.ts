/** The archive over the transcript's tables; words are found by SQLite's FTS5. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Found } from "../domain/HistoryRpc.ts"
import * as SearchWords from "../domain/SearchWords.ts"
import { Archive, ArchiveError, type Kept } from "../services/Archive.ts"
import * as Rows from "./TranscriptRows.ts"

const excerptChars = 200

const storable = <A, R>(effect: Effect.Effect<A, SqlError | ArchiveError, R>) =>
  Effect.catchTag(effect, "SqlError", (error) =>
    Effect.fail(
      new ArchiveError({
        reason: "Io",
        message: `the transcript's database failed: ${error.message.split("\n", 1)[0]}: check the disk and the file's owner, or restore it from a backup`,
        cause: error
      })
    )
  )

const missing = (conversation: string) =>
  new ArchiveError({
    reason: "NotFound",
    message: `there is no conversation "${conversation}": clawchat history ls shows those that there are`
  })

/** In quotes a word is a word, whatever it looks like; the star stands behind them. */
const matching = (words: ReadonlyArray<string>): string =>
  words.map((word) => `"${word.replaceAll('"', '""')}"*`).join(" ")

const like = (piece: string): string => `%${piece.replace(/[\\%_]/g, "\\$&")}%`

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  const began = Effect.fnUntraced(function* (conversation: string) {
    const [row] = yield* sql<{ readonly created: number }>`
      SELECT created FROM conversations WHERE name = ${conversation}`
    return row === undefined ? yield* missing(conversation) : row.created
  })

  const refuseWhileWriting = Effect.fnUntraced(function* (conversation: string) {
    const rows = yield* sql`
      SELECT 1 FROM messages WHERE conversation = ${conversation} AND status = 'streaming' AND taken_back IS NULL LIMIT 1`
    if (rows.length > 0) {
      return yield* new ArchiveError({
        reason: "Busy",
        message: `an answer is being written in "${conversation}": stop it, or wait for its end`
      })
    }
  })

  return Archive.of({
    search: Effect.fn("Archive.search")(function* ({ before, conversation, limit, query }) {
      const isIndexed = query.beginnings.length > 0
      const number = sql.literal(isIndexed ? "w.rowid" : "m.number")
      const conditions = [
        sql`m.taken_back IS NULL`,
        ...(isIndexed ? [sql`message_words MATCH ${matching(query.beginnings)}`] : []),
        ...query.pieces.map((piece) => sql`m.text LIKE ${like(piece)} ESCAPE '\\'`),
        ...(conversation === undefined ? [] : [sql`m.conversation = ${conversation}`]),
        ...(before === undefined ? [] : [sql`${number} < ${before}`])
      ]
      const rows = yield* sql<Omit<Found, "excerpt">>`
        SELECT m.number AS number, m.conversation AS conversation, m.id AS id, m.seq AS seq, m.role AS role,
          m.created AS created
        FROM ${sql.literal(isIndexed ? "message_words w JOIN messages m ON m.number = w.rowid" : "messages m")}
        WHERE ${sql.and(conditions)} ORDER BY ${number} DESC LIMIT ${limit}`
      // One text at a time: they may be long.
      return yield* Effect.forEach(rows, (row) =>
        Effect.map(
          sql<{ readonly text: string }>`SELECT text FROM messages WHERE number = ${row.number}`,
          ([message]): Found => ({ ...row, excerpt: SearchWords.excerpt(message?.text ?? "", query, excerptChars) })
        )
      )
    }, storable),

    began: Effect.fn("Archive.began")(began, storable),

    page: Effect.fn("Archive.page")(function* ({ after, all, conversation, limit }) {
      const rows = yield* sql<Rows.MessageRow>`
        SELECT * FROM messages WHERE conversation = ${conversation} AND seq > ${after}
          ${sql.literal(all ? "" : "AND taken_back IS NULL")}
        ORDER BY seq LIMIT ${limit}`
      return yield* Effect.forEach(
        rows,
        Effect.fnUntraced(function* (row) {
          const attachments =
            row.role === "user"
              ? yield* sql<Rows.AttachmentRow>`
                  SELECT message, position, name, media_type, size FROM attachments WHERE message = ${row.id}
                  ORDER BY position`
              : []
          const steps =
            row.role === "assistant"
              ? yield* sql<Rows.StepRow>`
                  SELECT * FROM steps WHERE question = ${Rows.questionId(row)} ORDER BY position`
              : []
          return {
            message: Rows.toMessage(row, [], []),
            ...(row.provider === null ? {} : { provider: row.provider }),
            ...(row.stop_reason === null ? {} : { stopReason: row.stop_reason }),
            attachments: attachments.map(({ media_type, name, position, size }) => ({
              position,
              name,
              mediaType: media_type,
              size
            })),
            steps: steps.map(Rows.toStep)
          } satisfies Kept
        })
      )
    }, storable),

    bytes: Effect.fn("Archive.bytes")(function* (messageId, position) {
      const [row] = yield* sql<{ readonly bytes: Uint8Array }>`
        SELECT bytes FROM attachments WHERE message = ${messageId} AND position = ${position}`
      return row?.bytes ?? new Uint8Array()
    }, storable),

    remove: Effect.fn("Archive.remove")(function* (conversation) {
      const messages = yield* Effect.gen(function* () {
        yield* began(conversation)
        yield* refuseWhileWriting(conversation)
        const [row] = yield* sql<{ readonly count: number }>`
          SELECT COUNT(*) AS count FROM messages WHERE conversation = ${conversation}`
        yield* sql`DELETE FROM conversations WHERE name = ${conversation}`
        return row?.count ?? 0
      }).pipe(sql.withTransaction)
      // The log ahead of the file still holds what was overwritten in it; another process may hold it back for a while.
      yield* Effect.ignore(sql`PRAGMA wal_checkpoint(TRUNCATE)`)
      return messages
    }, storable),

    rename: Effect.fn("Archive.rename")(
      function* (conversation, to) {
        yield* began(conversation)
        yield* refuseWhileWriting(conversation)
        if (conversation === to) return
        const taken = yield* sql`SELECT 1 FROM conversations WHERE name = ${to}`
        if (taken.length > 0) {
          return yield* new ArchiveError({
            reason: "Exists",
            message: `there is a conversation "${to}" already: choose another name, or remove that one`
          })
        }
        yield* sql`UPDATE conversations SET name = ${to} WHERE name = ${conversation}`
      },
      sql.withTransaction,
      storable
    )
  })
})

/** Over tables that are up to date: see ConversationsSqlite. */
export const layerSql: Layer.Layer<Archive, never, SqlClient.SqlClient> = Layer.effect(Archive, make)
