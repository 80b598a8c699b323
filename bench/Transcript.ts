/** A conversation of 10,000 messages: what our own code adds before the first token, what a search takes, what stays in memory. */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Stream from "effect/Stream"
import * as SearchWords from "../src/domain/SearchWords.ts"
import * as ConversationsSqlite from "../src/layers/ConversationsSqlite.ts"
import * as CryptoNode from "../src/layers/CryptoNode.ts"
import { Assistant } from "../src/programs/Assistant.ts"
import { Archive } from "../src/services/Archive.ts"
import { ContextStore } from "../src/services/ContextStore.ts"
import { Conversations } from "../src/services/Conversations.ts"
import { type LlmEvent, LlmProvider } from "../src/services/LlmProvider.ts"
import { type Bench, type Figure, median, percentile } from "./Harness.ts"

const MESSAGES = 10_000
const CHARS = 800
const ROUNDS = 60
const WORDS =
  "the quick brown fox jumps over a lazy dog while we are waiting for rain in Spain and nobody knows what the code does today".split(
    " "
  )

/** From words of a small vocabulary, the same at each run. */
const text = (n: number): string => {
  let seed = n + 1
  let made = `message${n}`
  while (made.length < CHARS) {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648
    made += ` ${WORDS[seed % WORDS.length]}${seed % 11 === 0 ? seed % 100_000 : ""}`
  }
  return made
}

const id = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`

/** Written past our code: ten thousand answers would each wait for the disk. */
const fill = (filename: string, conversation: string, messages: number, first: number): void => {
  const database = new DatabaseSync(filename)
  database.exec("BEGIN")
  database.prepare("INSERT INTO conversations (name, created) VALUES (?, 0)").run(conversation)
  const insert = database.prepare(
    "INSERT INTO messages (id, conversation, seq, role, status, created, delivered, model, input_tokens, output_tokens, text) VALUES (?, ?, ?, ?, 'complete', 0, 1, 'm', 1, 1, ?)"
  )
  for (let n = 0; n < messages; n++) {
    const question = id(first + n - (n % 2))
    insert.run(n % 2 === 0 ? question : `${question}.1`, conversation, n, n % 2 === 0 ? "user" : "assistant", text(n))
  }
  database.exec("COMMIT")
  database.close()
}

const provider = LlmProvider.layerScripted(() =>
  Stream.fromIterable<LlmEvent>([
    { _tag: "Delta", text: "yes" },
    { _tag: "Done", usage: { inputTokens: 1, outputTokens: 1 }, stopReason: "end", model: "m" }
  ])
)

const heapMiB = (): number => {
  setFlagsFromString("--expose-gc")
  runInNewContext("gc")()
  return process.memoryUsage().heapUsed / 2 ** 20
}

const ms = (value: number): string => `${value.toFixed(1)} ms`

export const bench: Bench = {
  name: "transcript",
  measure: async ({ rounds = ROUNDS }) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-bench-"))
    const filename = path.join(folder, "clawchat.db")
    const store = ConversationsSqlite.layer({ filename })
    const services = Layer.mergeAll(store, provider, ContextStore.layerMemory({}), CryptoNode.layer)
    const runtime = ManagedRuntime.make(Layer.provideMerge(Assistant.layer(), services))
    try {
      await runtime.runPromise(Effect.asVoid(Conversations))
      fill(filename, "long", MESSAGES, 0)
      fill(filename, "short", 2, MESSAGES)
      let next = 2 * MESSAGES
      /** Milliseconds from a question to the first text of its answer, the whole way but the line. */
      const firstToken = async (conversation: string): Promise<number> => {
        const messageId = id(next++)
        const start = performance.now()
        const answer = Stream.unwrap(
          Assistant.useSync(({ send }) => send({ conversation, messageId, text: "and now?" }))
        )
        let taken = Number.NaN
        await runtime.runPromise(
          Stream.runForEach(answer, (event) =>
            Effect.sync(() => {
              if (event._tag === "Delta" && Number.isNaN(taken)) taken = performance.now() - start
            })
          )
        )
        return taken
      }
      const search = async (words: string): Promise<number> => {
        const query = SearchWords.parse(words, 16) ?? { beginnings: [], pieces: [] }
        const start = performance.now()
        await runtime.runPromise(Archive.use((archive) => archive.search({ query, limit: 20 })))
        return performance.now() - start
      }
      const queries = ["the", "message9999", "wait rain", "nothingofthekind", "雨", "rain 雨", "o", "message1 fox"]
      for (const name of ["long", "short"]) for (let i = 0; i < 5; i++) await firstToken(name)
      for (const words of queries) await search(words)

      const before = heapMiB()
      const taken = { long: [] as number[], short: [] as number[] }
      const searches = new Map(queries.map((words) => [words, [] as number[]]))
      for (let round = 0; round < rounds; round++) {
        taken.long.push(await firstToken("long"))
        taken.short.push(await firstToken("short"))
        for (const words of queries) searches.get(words)?.push(await search(words))
      }
      const grown = heapMiB() - before
      const figures: ReadonlyArray<Figure> = [
        {
          what: "question to first token, median",
          unit: "ms",
          ours: median(taken.long),
          beside: { "2 messages": median(taken.short) }
        },
        {
          what: "question to first token, 95 %",
          unit: "ms",
          ours: percentile(taken.long, 0.95),
          beside: { "2 messages": percentile(taken.short, 0.95) }
        },
        ...[...searches].map(([words, all]) => ({
          what: `search for "${words}", median`,
          unit: "ms",
          ours: median(all),
          beside: {}
        }))
      ]
      const worst = Math.max(...[...searches.values()].map(median))
      const first = median(taken.long)
      return {
        figures,
        goals: [
          { what: "question to first token, median", wanted: "< 20 ms", got: ms(first), met: first < 20 },
          { what: "slowest search, median", wanted: "< 50 ms", got: ms(worst), met: worst < 50 },
          {
            what: `heap after ${2 * rounds} questions and ${queries.length * rounds} searches`,
            wanted: "< 4 MiB more",
            got: `${grown.toFixed(1)} MiB`,
            met: grown < 4
          }
        ],
        notes: [
          `${MESSAGES} messages of ${CHARS} characters, ${(fs.statSync(filename).size / 1e6).toFixed(0)} MB on disk`
        ]
      }
    } finally {
      await runtime.dispose()
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}
