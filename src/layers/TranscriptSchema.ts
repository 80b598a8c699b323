/**
 * The transcript's tables. Applied in order, each once, in one transaction; a released one never changes. SQLite's own are
 * the numbers that messages get, the type of bytes, and the index of words (FTS5); the rest PostgreSQL would take too.
 */
import * as Effect from "effect/Effect"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"

const transcript = Effect.gen(function* () {
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

/**
 * Steps and attachments hang on the question, so that one attempt at its answer finds what another has done. A message has
 * a number of its own, since the index of words needs one that VACUUM leaves alone; it grows from message to message, over
 * all conversations. `taken_back` says when, `taken_for` under which id the question was asked anew.
 */
const steps = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE messages RENAME TO messages_1`
  yield* sql`
    CREATE TABLE messages (
      number INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      conversation TEXT NOT NULL REFERENCES conversations (name) ON UPDATE CASCADE ON DELETE CASCADE,
      seq BIGINT NOT NULL,
      role TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
      status TEXT NOT NULL CHECK (status IN ('complete', 'streaming', 'cancelled', 'failed')),
      created BIGINT NOT NULL,
      attempts INTEGER NOT NULL DEFAULT 0,
      delivered INTEGER NOT NULL DEFAULT 0,
      taken_back BIGINT,
      taken_for TEXT,
      provider TEXT,
      model TEXT,
      input_tokens BIGINT,
      output_tokens BIGINT,
      cached_tokens BIGINT,
      cache_write_tokens BIGINT,
      cost DOUBLE PRECISION,
      stop_reason TEXT,
      text TEXT NOT NULL,
      UNIQUE (conversation, seq)
    )`
  // What was answered before this version was read by somebody.
  yield* sql`
    INSERT INTO messages (id, conversation, seq, role, status, created, attempts, delivered, provider, model,
      input_tokens, output_tokens, stop_reason, text)
    SELECT id, conversation, seq, role, status, created, attempts, 1, provider, model,
      input_tokens, output_tokens, stop_reason, text
    FROM messages_1 ORDER BY created, conversation, seq`
  yield* sql`DROP TABLE messages_1`
  yield* sql`CREATE INDEX messages_live ON messages (conversation, seq) WHERE taken_back IS NULL`
  yield* sql`CREATE INDEX messages_taken ON messages (taken_for) WHERE taken_for IS NOT NULL`
  yield* sql`CREATE INDEX messages_streaming ON messages (conversation) WHERE status = 'streaming'`
  yield* sql`
    CREATE TABLE steps (
      question TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
      position INTEGER NOT NULL,
      kind TEXT NOT NULL CHECK (kind IN ('said', 'result')),
      calls TEXT,
      call_id TEXT,
      name TEXT,
      failed INTEGER,
      reasoning TEXT,
      text TEXT NOT NULL,
      PRIMARY KEY (question, position)
    )`
  yield* sql`
    CREATE TABLE attachments (
      message TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
      position INTEGER NOT NULL,
      name TEXT NOT NULL,
      media_type TEXT NOT NULL,
      size INTEGER NOT NULL,
      bytes BLOB NOT NULL,
      PRIMARY KEY (message, position)
    )`
  yield* sql`
    CREATE TABLE summaries (
      conversation TEXT NOT NULL REFERENCES conversations (name) ON UPDATE CASCADE ON DELETE CASCADE,
      up_to_seq BIGINT NOT NULL,
      created BIGINT NOT NULL,
      text TEXT NOT NULL,
      PRIMARY KEY (conversation, up_to_seq)
    )`
})

/** Words, kept by triggers. Word for word: an index of trigrams took a third of a second for some messages. */
const words = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE VIRTUAL TABLE message_words USING fts5(
      text, content='messages', content_rowid='number', tokenize='unicode61 remove_diacritics 2')`
  // Words of a removed message leave the index's pages too.
  yield* sql`INSERT INTO message_words (message_words, rank) VALUES ('secure-delete', 1)`
  yield* sql`INSERT INTO message_words (message_words) VALUES ('rebuild')`
  yield* sql`
    CREATE TRIGGER messages_insert AFTER INSERT ON messages WHEN new.text <> '' BEGIN
      INSERT INTO message_words (rowid, text) VALUES (new.number, new.text);
    END`
  yield* sql`
    CREATE TRIGGER messages_delete AFTER DELETE ON messages WHEN old.text <> '' BEGIN
      INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', old.number, old.text);
    END`
  // A trigger has one statement for each case, since a condition cannot stand within.
  yield* sql`
    CREATE TRIGGER messages_update_before BEFORE UPDATE OF text ON messages WHEN old.text <> '' BEGIN
      INSERT INTO message_words (message_words, rowid, text) VALUES ('delete', old.number, old.text);
    END`
  yield* sql`
    CREATE TRIGGER messages_update_after AFTER UPDATE OF text ON messages WHEN new.text <> '' BEGIN
      INSERT INTO message_words (rowid, text) VALUES (new.number, new.text);
    END`
})

/** Whether text of others was before the model: what was answered before this was kept may have read anything. */
const taint = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE messages ADD COLUMN tainted INTEGER NOT NULL DEFAULT 0`
  yield* sql`UPDATE messages SET tainted = 1 WHERE role = 'assistant'`
})

/** Brings a database's tables up to date. */
export const migrate = Migrator.make({})({
  loader: Migrator.fromRecord({
    "0001_transcript": transcript,
    "0002_steps": steps,
    "0003_words": words,
    "0004_taint": taint
  }),
  table: "clawchat_migrations"
})
