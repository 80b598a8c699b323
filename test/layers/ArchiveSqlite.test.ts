import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import * as fc from "fast-check"
import * as SearchWords from "../../src/domain/SearchWords.ts"
import * as ConversationsSqlite from "../../src/layers/ConversationsSqlite.ts"
import { Archive } from "../../src/services/Archive.ts"
import { Conversations } from "../../src/services/Conversations.ts"

const id = (n: number) => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`

let next = 0
const exchange = Effect.fnUntraced(function* (question: string, answer: string, conversation = "main") {
  const conversations = yield* Conversations
  const messageId = id(next++)
  yield* conversations.ask({ conversation, messageId, text: question })
  const reply = yield* conversations.beginReply({ messageId, provider: "p", model: "m" })
  yield* conversations.endReply(reply, {
    status: "complete",
    text: answer,
    model: "m",
    usage: { inputTokens: 1, outputTokens: 1 },
    stopReason: "end"
  })
  return messageId
})

const search = Effect.fnUntraced(function* (
  text: string,
  options: { readonly conversation?: string; readonly limit?: number; readonly before?: number } = {}
) {
  const archive = yield* Archive
  const query = SearchWords.parse(text, 16)
  if (query === undefined) return []
  return yield* archive.search({ limit: 10, ...options, query })
})
const excerpts = (text: string, options?: Parameters<typeof search>[1]) =>
  Effect.map(search(text, options), (found) => found.map(({ excerpt }) => excerpt))

const inMemory = <A, E>(effect: Effect.Effect<A, E, Conversations | Archive>) =>
  Effect.provide(effect, ConversationsSqlite.layerMemory)

/** Any UTF-16 unit, halves of pairs among them. */
const unit = fc.oneof(fc.nat(0x7f), fc.nat(0xffff)).map((code) => String.fromCharCode(code))

describe("Archive.search", () => {
  it.effect("finds beginnings of words in any case, pieces in scripts without spaces, the newest first", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(7000)
      yield* exchange("Where is the Café?", "In the Straße by the river, ask for 東京タワー.")
      yield* exchange("what of the cafeteria", "closed -> 100%_sure", "work")
      assert.deepStrictEqual(yield* excerpts("cafe"), ["what of the cafeteria", "Where is the Café?"])
      assert.deepStrictEqual(yield* excerpts("CAFÉ where"), ["Where is the Café?"])
      assert.deepStrictEqual(yield* excerpts("the", { conversation: "work" }), ["what of the cafeteria"])
      assert.deepStrictEqual(yield* excerpts("タワー river"), ["In the Straße by the river, ask for 東京タワー."])
      for (const piece of ["京", "->", "%_"]) assert.strictEqual((yield* search(piece)).length, 1, piece)
      for (const none of ["feteria", "cafe river", "_%", "NEAR(cafe what)", "text:cafe", "zzz"]) {
        assert.deepStrictEqual(yield* search(none), [], none)
      }
      const [newest, oldest] = yield* search("cafe")
      assert.deepInclude(newest, { conversation: "work", role: "user", seq: 0, created: 7000 })
      assert.deepStrictEqual(yield* search("cafe", { limit: 1 }), newest === undefined ? [] : [newest])
      const rest = yield* search("cafe", { before: newest?.number ?? 0 })
      assert.deepStrictEqual(rest, oldest === undefined ? [] : [oldest])
    }).pipe(inMemory)
  )

  it.effect("follows what is written, rewritten, taken back and removed", () =>
    Effect.gen(function* () {
      const conversations = yield* Conversations
      const archive = yield* Archive
      const messageId = yield* exchange("one", "penguin")
      yield* conversations.ask({ conversation: "main", messageId: id(9000), text: "two" })
      const cut = yield* conversations.beginReply({ messageId: id(9000), provider: "p", model: "m" })
      const end = { model: "m", usage: { inputTokens: 1, outputTokens: 1 }, stopReason: "end" } as const
      yield* conversations.endReply(cut, { ...end, status: "cancelled", text: "pelican" })
      assert.strictEqual((yield* search("pelican")).length, 1)
      yield* conversations.beginReply({ messageId: id(9000), provider: "p", model: "m" })
      assert.deepStrictEqual(yield* search("pelican"), [])
      assert.strictEqual((yield* Effect.flip(archive.remove("main"))).reason, "Busy")
      assert.strictEqual((yield* Effect.flip(archive.rename("main", "new"))).reason, "Busy")
      yield* conversations.takeBack("main", id(9001), messageId)
      assert.deepStrictEqual(yield* search("penguin"), [])
      assert.strictEqual(yield* archive.remove("main"), 4)
      assert.strictEqual((yield* Effect.flip(archive.remove("main"))).reason, "NotFound")
      assert.deepStrictEqual(yield* conversations.list, [])
    }).pipe(inMemory)
  )

  it.effect("takes a query of any characters", () =>
    Effect.gen(function* () {
      yield* exchange("one AND two", "three")
      const samples = fc.sample(fc.string({ unit, maxLength: 30 }), { seed: 20_260_104, numRuns: 60 })
      const tricky = ['"', '""', "'", "*", "(", "a AND", "NOT a", "a NEAR b", "^a", "-a", "{a b}:c", "a\\", "%", "+"]
      for (const text of [...tricky, ...samples]) yield* search(text)
      assert.strictEqual((yield* search("AND")).length, 1)
    }).pipe(inMemory)
  )
})

describe("Archive", () => {
  it.effect("renames, and refuses a name that is taken or not there", () =>
    Effect.gen(function* () {
      const archive = yield* Archive
      const conversations = yield* Conversations
      yield* exchange("one", "ONE")
      yield* exchange("two", "TWO", "work")
      yield* conversations.setSummary("main", { upToSeq: 2, text: "s" })
      yield* archive.rename("main", "private")
      yield* archive.rename("private", "private")
      assert.deepStrictEqual(
        (yield* conversations.list).map(({ messages, name }) => [name, messages]),
        [
          ["private", 2],
          ["work", 2]
        ]
      )
      assert.strictEqual((yield* search("one", { conversation: "private" })).length, 2)
      assert.isTrue((yield* conversations.summary("private"))._tag === "Some")
      assert.strictEqual((yield* Effect.flip(archive.rename("private", "work"))).reason, "Exists")
      assert.strictEqual((yield* Effect.flip(archive.rename("main", "x"))).reason, "NotFound")
    }).pipe(inMemory)
  )

  it.effect("leaves nothing of a removed conversation on the disk", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-archive-"))),
        (made) => Effect.sync(() => fs.rmSync(made, { recursive: true, force: true }))
      )
      const holding = (word: string) =>
        fs.readdirSync(folder).filter((name) => fs.readFileSync(path.join(folder, name)).includes(word))
      yield* Effect.gen(function* () {
        const conversations = yield* Conversations
        const archive = yield* Archive
        yield* exchange("keep this albatross", "kept")
        for (let n = 0; n < 40; n++) {
          yield* exchange(`marmalade${n} ${"long ".repeat(n * 40)}`, `answered marmalade${n}`, "secret")
        }
        const attachments = [{ name: "marmalade.txt", mediaType: "text/plain", bytes: Buffer.from("marmalade bytes") }]
        yield* conversations.ask({ conversation: "secret", messageId: id(9100), text: "file", attachments })
        const reply = yield* conversations.beginReply({ messageId: id(9100), provider: "p", model: "m" })
        yield* conversations.addStep(reply, {
          _tag: "Said",
          text: "marmalade thought",
          calls: [{ id: "1", name: "marmalade", arguments: "{}" }]
        })
        yield* conversations.sweep
        yield* conversations.setSummary("secret", { upToSeq: 2, text: "all about marmalade" })
        assert.isNotEmpty(holding("marmalade"))
        assert.strictEqual(yield* archive.remove("secret"), 82)
        assert.deepStrictEqual(holding("marmalade"), [])
        assert.deepStrictEqual(yield* search("marmalade"), [])
        assert.strictEqual((yield* search("albatross")).length, 1)
      }).pipe(Effect.provide(ConversationsSqlite.layer({ filename: path.join(folder, "clawchat.db") })))
      assert.deepStrictEqual(holding("marmalade"), [])
      assert.isNotEmpty(holding("albatross"))
    })
  )
})
