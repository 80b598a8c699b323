/** The transcript in SQL. The statements are plain enough for SQLite and PostgreSQL alike. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { ChatMessage, MessageStatus } from "../domain/ChatRpc.ts"
import type { Exchange } from "../domain/History.ts"
import type { StopReason } from "../domain/Llm.ts"
import { type Asked, Conversations, ConversationsError } from "../services/Conversations.ts"
import * as SqliteNode from "./SqliteNode.ts"

/** Messages looked at in one step when history is gathered. */
const pageSize = 50

/** A row of `messages`; what only replies have is null in questions. */
interface MessageRow {
  readonly id: string
  readonly conversation: string
  readonly seq: number
  readonly role: "user" | "assistant"
  readonly text: string
  readonly status: MessageStatus
  readonly created: number
  readonly attempts: number
  readonly provider: string | null
  readonly model: string | null
  readonly input_tokens: number | null
  readonly output_tokens: number | null
  readonly stop_reason: StopReason | null
}

// Applied in order, each once, in one transaction; a released one never changes.
const migrations = Migrator.fromRecord({
  "0001_transcript": Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    yield* sql`
      CREATE TABLE conversations (
        name TEXT PRIMARY KEY,
        created BIGINT NOT NULL
      )`
    yield* sql`
      CREATE TABLE messages (
        id TEXT PRIMARY KEY,
        conversation TEXT NOT NULL REFERENCES conversations (name) ON UPDATE CASCADE ON DELETE CASCADE,
        seq BIGINT NOT NULL,
        role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
        text TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('complete', 'streaming', 'cancelled', 'failed')),
        created BIGINT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        provider TEXT,
        model TEXT,
        input_tokens BIGINT,
        output_tokens BIGINT,
        stop_reason TEXT,
        UNIQUE (conversation, seq)
      )`
  })
})

const io = (error: { readonly message: string }) =>
  new ConversationsError({
    reason: "Io",
    message: `the transcript's database failed: ${error.message.split("\n", 1)[0]}: check the disk and the file's owner, or restore it from a backup`,
    cause: error
  })

const storable = <A, R>(effect: Effect.Effect<A, SqlError | ConversationsError, R>) =>
  Effect.catchTag(effect, "SqlError", (error) => Effect.fail(io(error)))

const conflict = (messageId: string) =>
  new ConversationsError({
    reason: "Conflict",
    message: `message id ${messageId} was used for another message; make a new id for each`
  })

const toMessage = (row: MessageRow): ChatMessage => ({
  id: row.id,
  seq: row.seq,
  role: row.role,
  text: row.text,
  status: row.status,
  created: row.created,
  ...(row.model === null ? {} : { model: row.model }),
  ...(row.input_tokens === null || row.output_tokens === null
    ? {}
    : { usage: { inputTokens: row.input_tokens, outputTokens: row.output_tokens } })
})

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* Migrator.make({})({ loader: migrations, table: "clawchat_migrations" })

  const find = (id: string) =>
    Effect.map(sql<MessageRow>`SELECT * FROM messages WHERE id = ${id}`, (rows) => Option.fromNullishOr(rows[0]))

  const replyOf = (conversation: string, seq: number) =>
    Effect.map(
      sql<MessageRow>`SELECT * FROM messages WHERE conversation = ${conversation} AND seq = ${seq + 1}`,
      (rows) => Option.fromNullishOr(rows[0])
    )

  const page = (conversation: string, before: number, limit: number) =>
    sql<MessageRow>`
      SELECT * FROM messages WHERE conversation = ${conversation} AND seq < ${before}
      ORDER BY seq DESC LIMIT ${limit}`

  return Conversations.of({
    ask: Effect.fn("Conversations.ask")(
      function* ({ conversation, messageId, text }) {
        const created = yield* Clock.currentTimeMillis
        const stored = yield* find(messageId)
        if (Option.isSome(stored)) {
          const question = stored.value
          if (question.role !== "user" || question.conversation !== conversation || question.text !== text) {
            return yield* conflict(messageId)
          }
          const reply = (yield* replyOf(conversation, question.seq)).pipe(
            Option.filter((row) => row.status === "complete"),
            Option.map((row) => ({
              id: row.id,
              text: row.text,
              provider: row.provider ?? "",
              model: row.model ?? "",
              usage: { inputTokens: row.input_tokens ?? 0, outputTokens: row.output_tokens ?? 0 },
              stopReason: row.stop_reason ?? "other"
            }))
          )
          return { seq: question.seq, reply } satisfies Asked
        }
        yield* sql`
        INSERT INTO conversations (name, created) VALUES (${conversation}, ${created}) ON CONFLICT (name) DO NOTHING`
        const [last] = yield* sql<{ readonly seq: number | null }>`
        SELECT MAX(seq) AS seq FROM messages WHERE conversation = ${conversation} AND role = 'user'`
        const seq = (last?.seq ?? -2) + 2
        yield* sql`INSERT INTO messages ${sql.insert({ id: messageId, conversation, seq, role: "user", text, status: "complete", created })}`
        return { seq, reply: Option.none() } satisfies Asked
      },
      sql.withTransaction,
      storable
    ),

    beginReply: Effect.fn("Conversations.beginReply")(
      function* ({ messageId, model, provider }) {
        const created = yield* Clock.currentTimeMillis
        const question = yield* Effect.fromOption(yield* find(messageId)).pipe(Effect.orDie)
        const attempts = question.attempts + 1
        const seq = question.seq + 1
        const id = `${messageId}.${attempts}`
        yield* sql`UPDATE messages SET attempts = ${attempts} WHERE id = ${messageId}`
        yield* sql`DELETE FROM messages WHERE conversation = ${question.conversation} AND seq = ${seq} AND status <> 'complete'`
        yield* sql`INSERT INTO messages ${sql.insert({
          id,
          conversation: question.conversation,
          seq,
          role: "assistant",
          text: "",
          status: "streaming",
          created,
          provider,
          model
        })}`
        return id
      },
      sql.withTransaction,
      storable
    ),

    endReply: Effect.fn("Conversations.endReply")(function* (replyId, end) {
      yield* sql`
        UPDATE messages SET status = ${end.status}, text = ${end.text}, model = ${end.model},
          input_tokens = ${end.usage.inputTokens}, output_tokens = ${end.usage.outputTokens},
          stop_reason = ${end.stopReason}
        WHERE id = ${replyId} AND status = 'streaming'`
    }, storable),

    exchangesBefore: Effect.fn("Conversations.exchangesBefore")(function* (conversation, seq, maxChars) {
      const exchanges: Array<Exchange> = []
      let answer: string | undefined
      let chars = 0
      let before = seq
      while (chars <= maxChars) {
        const rows = yield* page(conversation, before, pageSize)
        for (const row of rows) {
          if (row.role === "user") {
            exchanges.push({ question: row.text, answer })
            chars += row.text.length + (answer?.length ?? 0)
            answer = undefined
          } else {
            const seen = row.status === "complete" || row.status === "cancelled"
            answer = seen && row.text.trim() !== "" ? row.text : undefined
          }
          before = row.seq
        }
        if (rows.length < pageSize) break
      }
      return exchanges
    }, storable),

    history: Effect.fn("Conversations.history")(function* ({ before, conversation, limit }) {
      const rows = yield* page(conversation, before ?? Number.MAX_SAFE_INTEGER, limit)
      return rows.map(toMessage).reverse()
    }, storable),

    list: sql<{ readonly name: string; readonly created: number; readonly messages: number }>`
      SELECT c.name AS name, c.created AS created, COUNT(m.id) AS messages
      FROM conversations c LEFT JOIN messages m ON m.conversation = c.name
      GROUP BY c.name, c.created ORDER BY c.created, c.name`.pipe(storable),

    sweep: Effect.gen(function* () {
      const [row] = yield* sql<{
        readonly count: number
      }>`SELECT COUNT(*) AS count FROM messages WHERE status = 'streaming'`
      yield* sql`UPDATE messages SET status = 'failed' WHERE status = 'streaming'`
      return row?.count ?? 0
    }).pipe(sql.withTransaction, storable)
  })
})

/** Over any SQL client; brings its tables up to date first. */
export const layerSql: Layer.Layer<Conversations, ConversationsError, SqlClient.SqlClient> = Layer.effect(
  Conversations,
  Effect.mapError(make, io)
)

/** In a file: made 0600, in a folder made 0700 where it is missing. */
export const layer = (options: { readonly filename: string }): Layer.Layer<Conversations, ConversationsError> =>
  layerSql.pipe(
    Layer.provide(
      SqliteNode.layer(options).pipe((client) =>
        Layer.catchTag(client, "SqlError", (error) => Layer.effect(SqlClient.SqlClient, Effect.fail(io(error))))
      )
    )
  )

/** In memory: the same statements, gone with the layer. */
export const layerMemory: Layer.Layer<Conversations, ConversationsError> = layer({ filename: ":memory:" })
