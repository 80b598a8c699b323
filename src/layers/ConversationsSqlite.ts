/** The transcript in SQL: one connection, opened by one tier. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import type { Exchange } from "../domain/History.ts"
import type { Attachment } from "../domain/Llm.ts"
import type { Archive } from "../services/Archive.ts"
import { type Asked, Conversations, ConversationsError } from "../services/Conversations.ts"
import * as ArchiveSqlite from "./ArchiveSqlite.ts"
import * as SqliteNode from "./SqliteNode.ts"
import * as Rows from "./TranscriptRows.ts"
import * as TranscriptSchema from "./TranscriptSchema.ts"

/** Messages looked at in one step when history is gathered. */
const pageSize = 24
/** Bytes of attachments that earlier exchanges bring along; older ones come by name. */
const maxEarlierBytes = 4 * 1024 * 1024
/** Characters that an attachment which is no text counts for when history is gathered. */
const imageChars = 6400
/** A seq above all. */
const end = Number.MAX_SAFE_INTEGER

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

const gone = (id: string) =>
  new ConversationsError({
    reason: "Conflict",
    message: `${id} is not part of the conversation any more: it was taken back or removed meanwhile; ask again`
  })

const equalBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, index) => byte === b[index])

const equalAttachments = (a: ReadonlyArray<Attachment>, b: ReadonlyArray<Attachment>): boolean =>
  a.length === b.length &&
  a.every(({ bytes, mediaType, name }, index) => {
    const other = b[index]
    return other?.name === name && other.mediaType === mediaType && equalBytes(bytes, other.bytes)
  })

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  const find = (id: string) =>
    Effect.map(sql<Rows.MessageRow>`SELECT * FROM messages WHERE id = ${id}`, (rows) => Option.fromNullishOr(rows[0]))

  const at = (conversation: string, seq: number) =>
    Effect.map(
      sql<Rows.MessageRow>`SELECT * FROM messages WHERE conversation = ${conversation} AND seq = ${seq}`,
      (rows) => Option.fromNullishOr(rows[0])
    )

  const newestQuestion = (conversation: string) =>
    Effect.map(
      sql<Rows.MessageRow>`
        SELECT * FROM messages WHERE conversation = ${conversation} AND taken_back IS NULL AND role = 'user'
        ORDER BY seq DESC LIMIT 1`,
      (rows) => Option.fromNullishOr(rows[0])
    )

  const stepsOf = (questions: ReadonlyArray<string>) =>
    questions.length === 0
      ? Effect.succeed([])
      : sql<Rows.StepRow>`SELECT * FROM steps WHERE ${sql.in("question", questions)} ORDER BY question, position`

  const attachmentsOf = (messages: ReadonlyArray<string>) =>
    messages.length === 0
      ? Effect.succeed([])
      : sql<Rows.AttachmentRow>`
          SELECT message, position, name, media_type, size FROM attachments WHERE ${sql.in("message", messages)}
          ORDER BY message, position`

  const bytesOf = ({ message, position }: Rows.AttachmentRow) =>
    Effect.map(
      sql<{ readonly bytes: Uint8Array }>`
        SELECT bytes FROM attachments WHERE message = ${message} AND position = ${position}`,
      (rows) => new Uint8Array(rows[0]?.bytes ?? [])
    )

  /** With their bytes, up to `budget` of them; those beyond come without. */
  const load = Effect.fnUntraced(function* (rows: ReadonlyArray<Rows.AttachmentRow>, budget: number) {
    let left = budget
    const loaded: Array<Attachment> = []
    for (const row of rows) {
      left -= row.size
      const bytes = left < 0 ? new Uint8Array() : yield* bytesOf(row)
      loaded.push({ name: row.name, mediaType: row.media_type, bytes })
    }
    return { loaded, left }
  })

  const live = (conversation: string, before: number, limit: number, from = 0) =>
    sql<Rows.MessageRow>`
      SELECT * FROM messages
      WHERE conversation = ${conversation} AND seq < ${before} AND seq >= ${from} AND taken_back IS NULL
      ORDER BY seq DESC LIMIT ${limit}`

  /** The question of a reply that is being written. */
  const questionOf = Effect.fnUntraced(function* (replyId: string) {
    const [row] = yield* sql<{ readonly id: string }>`
      SELECT q.id AS id FROM messages r JOIN messages q ON q.conversation = r.conversation AND q.seq = r.seq - 1
      WHERE r.id = ${replyId} AND r.status = 'streaming' AND r.taken_back IS NULL`
    return row === undefined ? yield* gone(replyId) : row.id
  })

  const insertQuestion = Effect.fnUntraced(function* (
    question: { readonly conversation: string; readonly messageId: string; readonly text: string },
    attachments: ReadonlyArray<Attachment>
  ) {
    const { conversation, messageId, text } = question
    const created = yield* Clock.currentTimeMillis
    yield* sql`
      INSERT INTO conversations (name, created) VALUES (${conversation}, ${created}) ON CONFLICT (name) DO NOTHING`
    const [last] = yield* sql<{ readonly seq: number | null }>`
      SELECT MAX(seq) AS seq FROM messages WHERE conversation = ${conversation}`
    const seq = 2 * Math.floor(((last?.seq ?? -2) + 2) / 2)
    yield* sql`INSERT INTO messages ${sql.insert({ id: messageId, conversation, seq, role: "user", text, status: "complete", created })}`
    for (const [position, { bytes, mediaType, name }] of attachments.entries()) {
      yield* sql`INSERT INTO attachments ${sql.insert({ message: messageId, position, name, media_type: mediaType, size: bytes.length, bytes })}`
    }
    return { seq, created, reply: Option.none(), attachments, steps: [] } satisfies Asked
  })

  return Conversations.of({
    ask: Effect.fn("Conversations.ask")(
      function* (asked) {
        const { attachments, conversation, messageId } = asked
        // As the database keeps it: half a surrogate pair is no character.
        const text = asked.text.toWellFormed()
        const stored = yield* find(messageId)
        if (Option.isNone(stored)) return yield* insertQuestion({ conversation, messageId, text }, attachments ?? [])
        const question = stored.value
        if (question.role !== "user" || question.conversation !== conversation || question.text !== text) {
          return yield* conflict(messageId)
        }
        if (question.taken_back !== null) return yield* gone(messageId)
        if (attachments !== undefined) {
          const { loaded } = yield* load(yield* attachmentsOf([messageId]), Number.POSITIVE_INFINITY)
          if (!equalAttachments(attachments, loaded)) return yield* conflict(messageId)
        }
        const reply = (yield* at(conversation, question.seq + 1)).pipe(
          Option.filter((row) => row.status === "complete"),
          Option.map(Rows.toReply)
        )
        const { created, seq } = question
        if (Option.isSome(reply)) return { seq, created, reply, attachments: [], steps: [] } satisfies Asked
        const steps = (yield* stepsOf([messageId])).map(Rows.toStep)
        const first = attachments ?? (yield* load(yield* attachmentsOf([messageId]), Number.POSITIVE_INFINITY)).loaded
        return { seq, created, reply, attachments: first, steps } satisfies Asked
      },
      sql.withTransaction,
      storable
    ),

    beginReply: Effect.fn("Conversations.beginReply")(
      function* ({ messageId, model, provider }) {
        const created = yield* Clock.currentTimeMillis
        const question = Option.getOrUndefined(yield* find(messageId))
        if (question === undefined || question.taken_back !== null) return yield* gone(messageId)
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
          model,
          // Until its end says otherwise.
          tainted: 1
        })}`
        return id
      },
      sql.withTransaction,
      storable
    ),

    addStep: Effect.fn("Conversations.addStep")(
      function* (replyId, step) {
        const question = yield* questionOf(replyId)
        const [last] = yield* sql<{ readonly position: number | null }>`
          SELECT MAX(position) AS position FROM steps WHERE question = ${question}`
        yield* sql`INSERT INTO steps ${sql.insert({ ...Rows.fromStep(question, (last?.position ?? -1) + 1, step) })}`
      },
      sql.withTransaction,
      storable
    ),

    endReply: Effect.fn("Conversations.endReply")(function* (replyId, ended) {
      yield* sql`UPDATE messages SET ${sql.update(Rows.fromEnd(ended))} WHERE id = ${replyId} AND status = 'streaming'`
    }, storable),

    delivered: Effect.fn("Conversations.delivered")(function* (replyId) {
      yield* sql`UPDATE messages SET delivered = 1 WHERE id = ${replyId} AND role = 'assistant'`
    }, storable),

    unread: Effect.fn("Conversations.unread")(
      function* (conversation) {
        const question = Option.getOrUndefined(yield* newestQuestion(conversation))
        if (question === undefined) return Option.none()
        return (yield* at(conversation, question.seq + 1)).pipe(
          Option.filter((row) => row.status === "complete" && row.delivered === 0),
          Option.map((row) => ({ messageId: question.id, text: question.text, reply: Rows.toReply(row) }))
        )
      },
      sql.withTransaction,
      storable
    ),

    takeBack: Effect.fn("Conversations.takeBack")(
      function* (conversation, newId, messageId) {
        const now = yield* Clock.currentTimeMillis
        const [earlier] = yield* sql<Rows.MessageRow>`
          SELECT * FROM messages WHERE taken_for = ${newId} AND conversation = ${conversation} ORDER BY seq LIMIT 1`
        if (earlier === undefined && Option.isSome(yield* find(newId))) return yield* conflict(newId)
        const question =
          earlier ??
          Option.getOrUndefined(messageId === undefined ? yield* newestQuestion(conversation) : yield* find(messageId))
        if (question === undefined || question.role !== "user" || question.conversation !== conversation) {
          return Option.none()
        }
        if (earlier === undefined) {
          if (question.taken_back !== null) return Option.none()
          yield* sql`
            UPDATE messages SET taken_back = ${now}, taken_for = ${newId}
            WHERE conversation = ${conversation} AND seq >= ${question.seq} AND taken_back IS NULL`
          yield* sql`DELETE FROM summaries WHERE conversation = ${conversation} AND up_to_seq > ${question.seq}`
        }
        const { loaded } = yield* load(yield* attachmentsOf([question.id]), Number.POSITIVE_INFINITY)
        return Option.some({ text: question.text, attachments: loaded })
      },
      sql.withTransaction,
      storable
    ),

    summary: Effect.fn("Conversations.summary")(function* (conversation) {
      const [row] = yield* sql<{ readonly up_to_seq: number; readonly text: string }>`
        SELECT up_to_seq, text FROM summaries WHERE conversation = ${conversation} ORDER BY up_to_seq DESC LIMIT 1`
      return Option.map(Option.fromNullishOr(row), ({ text, up_to_seq }) => ({ upToSeq: up_to_seq, text }))
    }, storable),

    setSummary: Effect.fn("Conversations.setSummary")(
      function* (conversation, { text, upToSeq }) {
        const created = yield* Clock.currentTimeMillis
        const last = Option.getOrUndefined(yield* at(conversation, upToSeq - 2))
        if (last === undefined || last.taken_back !== null) return
        yield* sql`DELETE FROM summaries WHERE conversation = ${conversation} AND up_to_seq = ${upToSeq}`
        yield* sql`INSERT INTO summaries ${sql.insert({ conversation, up_to_seq: upToSeq, created, text })}`
      },
      sql.withTransaction,
      storable
    ),

    exchangesBefore: Effect.fn("Conversations.exchangesBefore")(function* (conversation, seq, maxChars, from) {
      const exchanges: Array<Exchange> = []
      let answer: string | undefined
      let tainted = false
      let chars = 0
      let bytes = maxEarlierBytes
      let before = seq
      while (chars <= maxChars) {
        const rows = yield* live(conversation, before, pageSize, from)
        const questions = rows.flatMap((row) => (row.role === "user" ? [row.id] : []))
        const steps = Map.groupBy(yield* stepsOf(questions), ({ question }) => question)
        const attached = Map.groupBy(yield* attachmentsOf(questions), ({ message }) => message)
        for (const row of rows) {
          before = row.seq
          if (row.role === "assistant") {
            const seen = row.status === "complete" || row.status === "cancelled"
            answer = seen && row.text.trim() !== "" ? row.text : undefined
            tainted = row.tainted !== 0
            continue
          }
          if (chars > maxChars) break
          const own = steps.get(row.id) ?? []
          const files = attached.get(row.id) ?? []
          const { left, loaded } = yield* load(files, bytes)
          bytes = left
          exchanges.push({
            seq: row.seq,
            messageId: row.id,
            question: row.text,
            created: row.created,
            ...(loaded.length === 0 ? {} : { attachments: loaded }),
            ...(own.length === 0 ? {} : { steps: own.map(Rows.toStep) }),
            answer,
            ...(tainted && (answer !== undefined || own.length > 0) ? { tainted } : {})
          })
          chars += row.text.length + (answer?.length ?? 0)
          for (const step of own) chars += step.text.length + (step.calls?.length ?? 0)
          for (const file of files) chars += file.media_type.startsWith("text/") ? file.size : imageChars
          answer = undefined
          tainted = false
        }
        if (rows.length < pageSize) break
      }
      return exchanges
    }, storable),

    history: Effect.fn("Conversations.history")(function* ({ all, before, conversation, limit }) {
      const rows =
        all === true
          ? yield* sql<Rows.MessageRow>`
              SELECT * FROM messages WHERE conversation = ${conversation} AND seq < ${before ?? end}
              ORDER BY seq DESC LIMIT ${limit}`
          : yield* live(conversation, before ?? end, limit)
      const replies = rows.filter(({ role }) => role === "assistant").map(Rows.questionId)
      const shown = Map.groupBy(
        replies.length === 0
          ? []
          : yield* sql<Pick<Rows.StepRow, "question" | "kind" | "calls" | "call_id" | "failed">>`
              SELECT question, kind, calls, call_id, failed FROM steps WHERE ${sql.in("question", replies)}
              ORDER BY question, position`,
        ({ question }) => question
      )
      const questions = rows.filter(({ role }) => role === "user").map(({ id }) => id)
      const attached = Map.groupBy(yield* attachmentsOf(questions), ({ message }) => message)
      return rows
        .map((row) =>
          row.role === "user"
            ? Rows.toMessage(
                row,
                (attached.get(row.id) ?? []).map(({ name }) => name),
                []
              )
            : Rows.toMessage(row, [], Rows.toShown(shown.get(Rows.questionId(row)) ?? [], row.status === "streaming"))
        )
        .reverse()
    }, storable),

    list: sql<{ readonly name: string; readonly created: number; readonly messages: number }>`
      SELECT c.name AS name, c.created AS created,
        (SELECT COUNT(*) FROM messages m WHERE m.conversation = c.name AND m.taken_back IS NULL) AS messages
      FROM conversations c ORDER BY c.created, c.name`.pipe(storable),

    sweep: Effect.gen(function* () {
      const [row] = yield* sql<{
        readonly count: number
      }>`SELECT COUNT(*) AS count FROM messages WHERE status = 'streaming'`
      yield* sql`UPDATE messages SET status = 'failed' WHERE status = 'streaming'`
      return row?.count ?? 0
    }).pipe(sql.withTransaction, storable)
  })
})

const database = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  // What is removed is overwritten.
  yield* sql`PRAGMA secure_delete = ON`
  yield* TranscriptSchema.migrate
})

/** Over any SQL client; brings its tables up to date first. */
export const layerSql: Layer.Layer<Conversations | Archive, ConversationsError, SqlClient.SqlClient> = Layer.mergeAll(
  Layer.effect(Conversations, make),
  ArchiveSqlite.layerSql
).pipe(Layer.provide(Layer.effectDiscard(Effect.mapError(database, io))))

/** In a file: made 0600, in a folder made 0700 where it is missing. */
export const layer = SqliteNode.alone(layerSql, io)

/** In memory: the same statements, gone with the layer. */
export const layerMemory: Layer.Layer<Conversations | Archive, ConversationsError> = layer({ filename: ":memory:" })
