/** The whole assistant while its provider has a bad day: what is on record is valid, and nothing happens twice. */
import * as fs from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Conversations } from "../../src/services/Conversations.ts"
import { type Dialect, dialects, type Failed, key, type Played, type Said } from "../layers/FakeProviders.ts"
import { playStrictly } from "../layers/StrictProviders.ts"
import * as World from "./AssistantWorld.ts"

type Answers = ReadonlyArray<Said | Failed>

const ask = Effect.fnUntraced(function* (n: number, text: string) {
  const outcome = yield* World.asking(n, text)
  assert.notInclude(JSON.stringify(outcome), key.slice(3, 12))
  return outcome
})

/** One tier before a provider that answers by turns, the last answer for ever; all that it sent is valid. */
const inTier = <A, E>(
  dialect: Dialect,
  answers: Answers,
  test: (server: Played, home: string) => Effect.Effect<A, E, Effect.Services<ReturnType<typeof ask>> | Conversations>,
  given: Readonly<Record<string, string>> = {}
) =>
  Effect.gen(function* () {
    const home = yield* World.temporary
    World.makeHome(home, { "a.txt": "a" })
    const problems: Array<string> = []
    const server = yield* playStrictly(
      dialect,
      problems,
      (_, index) => answers[Math.min(index, answers.length - 1)] ?? {}
    )
    yield* test(server, home).pipe(Effect.provide(World.layer(World.valuesOf(home, dialect, server.baseUrl, given))))
    assert.deepStrictEqual(problems, [])
  })

const write: readonly [string, object] = ["file_write", { path: "b.txt", text: "once" }]
const written = (home: string) => {
  const file = path.join(World.baseOf(home), "b.txt")
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : undefined
}

/** Of each message: whose, and how it ended. */
const stored = Effect.gen(function* () {
  const all = yield* (yield* Conversations).history({ conversation: "main", limit: 50 })
  return all.filter(({ role }) => role === "assistant").map(({ status }) => status)
})

/** Without the marks for the cache, which are no part of what is cached. */
const unmarked = (value: unknown): string =>
  JSON.stringify(value, (name, field) => (name === "cache_control" ? undefined : field))

type Json = { readonly [key: string]: unknown }
const bodyOf = (text: string): Json => JSON.parse(text)
const messagesOf = (body: Json): ReadonlyArray<unknown> => (Array.isArray(body.messages) ? body.messages : [])

for (const dialect of dialects) {
  describe(dialect.provider, () => {
    it.effect("half a call, then the line is cut: nothing is called; the same question goes on", () =>
      inTier(
        dialect,
        [{ ...World.says(0, "let me see", write), cut: true }, World.says(1, "again", write), { text: "done" }],
        Effect.fnUntraced(function* (server, home) {
          const cut = yield* ask(1, "write it")
          assert.strictEqual(cut.error?.llm?.reason, "Broken")
          assert.strictEqual(cut.text, "let me see")
          assert.deepStrictEqual(cut.calls, [])
          assert.isUndefined(written(home))
          assert.strictEqual(server.asked.length, 1)
          const whole = yield* ask(1, "write it")
          assert.isUndefined(whole.error)
          assert.strictEqual(whole.text, "again\n\ndone")
          assert.deepStrictEqual(whole.calls, ["file_write done"])
          assert.strictEqual(written(home), "once")
          assert.deepStrictEqual(yield* stored, ["complete"])
          // What was said before the cut is not said to have been said.
          assert.strictEqual(server.asked[1]?.transcript.length, 1)
        })
      )
    )

    it.effect("cut after a call was carried out: it is not carried out again, however often", () =>
      inTier(
        dialect,
        [
          World.says(0, "", write),
          { text: "I have wri", cut: true },
          { ...World.says(2, "", ["file_trash", { path: "a.txt" }]), reasoning: "", cut: true },
          { text: "well", cut: true },
          { text: "done" }
        ],
        Effect.fnUntraced(function* (server, home) {
          assert.strictEqual((yield* ask(1, "write it")).error?.llm?.reason, "Broken")
          assert.strictEqual(written(home), "once")
          fs.rmSync(path.join(World.baseOf(home), "b.txt"))
          assert.strictEqual((yield* ask(1, "write it")).error?.llm?.reason, "Broken")
          const last = yield* ask(1, "write it")
          assert.isUndefined(last.error)
          assert.isUndefined(written(home))
          assert.isTrue(fs.existsSync(path.join(World.baseOf(home), "a.txt")))
          const transcript = server.asked.at(-1)?.transcript ?? []
          assert.strictEqual(transcript.filter((line) => line.startsWith("call ")).length, 1)
        })
      )
    )

    it.effect("the same call twice in one answer: carried out once", () => {
      const { calls = [] } = World.says(0, "", write)
      return inTier(
        dialect,
        [{ calls: [...calls, ...calls] }, { text: "done" }],
        Effect.fnUntraced(function* (server, home) {
          const asked = yield* ask(1, "write it")
          assert.isUndefined(asked.error)
          assert.deepStrictEqual(asked.calls, ["file_write done"])
          assert.strictEqual(written(home), "once")
          assert.strictEqual(server.asked.length, 2)
        })
      )
    })

    it.effect("429 in the midst of a turn: waited for as asked, and told; the turn goes on", () =>
      inTier(
        dialect,
        [World.says(0, "", write), { status: 429, headers: { "retry-after": "3" } }, { text: "done" }],
        Effect.fnUntraced(function* (server, home) {
          const { calls, error, notices, text } = yield* ask(1, "write it")
          assert.isUndefined(error)
          assert.deepStrictEqual(calls, ["file_write done"])
          assert.strictEqual(text, "done")
          assert.strictEqual(notices.length, 1)
          assert.match(notices[0] ?? "", /\(429\).*trying again in [34](\.\d)? s/)
          assert.strictEqual(server.asked.length, 3)
          assert.strictEqual(server.seen[1]?.body, server.seen[2]?.body)
          assert.strictEqual(written(home), "once")
        })
      )
    )

    it.effect("overloaded in the midst of a turn: another model takes it up where it stands", () =>
      inTier(
        dialect,
        [World.says(0, "", write), { status: 529 }, { status: 529 }, { status: 529 }, { text: "done" }],
        Effect.fnUntraced(function* (server, home) {
          const { calls, error, notices, text } = yield* ask(1, "write it")
          assert.isUndefined(error)
          assert.deepStrictEqual(calls, ["file_write done"])
          assert.strictEqual(text, "done")
          assert.strictEqual(notices.at(-1), `${dialect.provider}/m-2 is asked instead`)
          assert.deepStrictEqual(
            server.asked.map(({ model }) => model),
            ["m-1", "m-1", "m-1", "m-1", "m-2"]
          )
          assert.deepStrictEqual(server.asked[4]?.transcript, server.asked[1]?.transcript)
          assert.strictEqual(written(home), "once")
        }),
        { "llm.model": "m-1", "llm.fallback": `${dialect.provider}/m-2` }
      )
    )

    it.effect("cut in the midst of a text: failed, kept; what is asked next is a valid request", () =>
      inTier(
        dialect,
        [{ text: "half an ans", cut: true }, { text: "hello" }],
        Effect.fnUntraced(function* (server) {
          assert.strictEqual((yield* ask(1, "first")).error?.llm?.reason, "Broken")
          assert.strictEqual((yield* ask(2, "second")).text, "hello")
          assert.deepStrictEqual(yield* stored, ["failed", "complete"])
          const said = server.asked[1]?.transcript ?? []
          assert.strictEqual(said.length, 1)
          assert.match(said[0] ?? "", /first[\s\S]*second/)
          assert.notInclude(said[0] ?? "", "half")
        })
      )
    )

    it.effect("requests begin with the ones before them, byte for byte, so that a cache of prompts holds", () =>
      inTier(
        dialect,
        [
          World.says(0, "looking", ["file_list", {}]),
          World.says(1, "", ["file_read", { path: "a.txt" }], ["time", {}]),
          { text: "one" },
          World.says(3, "", ["memory_search", { query: "a" }]),
          { text: "two" },
          { text: "three" }
        ],
        Effect.fnUntraced(function* (server) {
          for (const n of [1, 2, 3]) assert.isUndefined((yield* ask(n, `question ${n}`)).error)
          const bodies = server.seen.map(({ body }) => bodyOf(body))
          assert.strictEqual(bodies.length, 6)
          const firsts = new Set(bodies.map((body) => unmarked([body.model, body.tools, body.system])))
          assert.strictEqual(firsts.size, 1)
          /** That the messages of the one begin with those of the other, up to `end`. */
          const begins = (later: number, earlier: number, end: number) => {
            const before = messagesOf(bodies[earlier] ?? {}).slice(0, end)
            assert.strictEqual(
              unmarked(messagesOf(bodies[later] ?? {}).slice(0, before.length)),
              unmarked(before),
              `${later} after ${earlier}`
            )
          }
          // While a turn goes on all is kept.
          for (const [later, earlier] of [
            [1, 0],
            [2, 1],
            [4, 3]
          ] as const)
            begins(later, earlier, Number.POSITIVE_INFINITY)
          // From turn to turn, all up to the last question: it came with material of the moment.
          const questions = bodies.map((body) =>
            messagesOf(body).findLastIndex((message) => unmarked(message).includes("question "))
          )
          begins(3, 2, questions[2] ?? 0)
          begins(5, 4, questions[4] ?? 0)
          assert.isAtLeast(questions[4] ?? 0, 5)
        }),
        { "llm.tokens.history": "20000" }
      )
    )
  })
}

describe("a budget of one cent", () => {
  for (const dialect of dialects) {
    it.effect(`${dialect.provider}: the call that could pass it is refused before it is sent`, () =>
      inTier(
        dialect,
        [{ text: "hello", usage: { input: 3000, output: 500 } }],
        Effect.fnUntraced(function* (server) {
          const first = yield* ask(1, "hi")
          assert.isUndefined(first.error)
          const done = first.events.at(-1)
          assert.closeTo(done?._tag === "Done" ? (done.cost ?? 0) : 0, 0.004, 1e-9)
          const second = yield* ask(2, "and again")
          assert.strictEqual(second.error?.reason, "LlmFailed")
          assert.strictEqual(second.error?.llm?.reason, "OverBudget")
          assert.match(
            second.error?.message ?? "",
            /^the budget of the day is \$0\.0100, \$0\.0040 of it is spent, and this request could cost \$0\.00\d\d: raise llm\.budget\.day, or wait; nothing was sent$/
          )
          assert.strictEqual(server.asked.length, 1)
          assert.deepStrictEqual(yield* stored, ["complete", "failed"])
        }),
        { "llm.budget.day": "0.01", "llm.price.input": "1", "llm.price.output": "2" }
      )
    )
  }
})
