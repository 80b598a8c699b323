/** Answers that no provider should give: the tier goes on, nothing grows without bound, nothing odd gets further. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import type { LlmHttpOptions } from "../../src/layers/LlmHttp.ts"
import { LlmError, type LlmEvent, LlmProvider, type LlmRequest } from "../../src/services/LlmProvider.ts"
import {
  type Answer,
  anthropic,
  around,
  block,
  chunk,
  type Dialect,
  dialects,
  key,
  openAi,
  piece,
  serve,
  sse
} from "./FakeProviders.ts"

const request: LlmRequest = { conversation: "main", system: "", messages: [{ role: "user", text: "hi" }] }

const provided = <A, E>(
  dialect: Dialect,
  url: string,
  effect: Effect.Effect<A, E, LlmProvider>,
  options: Partial<LlmHttpOptions> = {}
) =>
  Effect.provide(
    effect,
    dialect.layer({
      provider: dialect.provider,
      model: "m-asked",
      baseUrl: url + dialect.base,
      key: Redacted.make(key),
      ...options
    })
  )

/** All that came, and the failure that ended it. */
const ask = Effect.fnUntraced(function* (dialect: Dialect, answer: Answer, options: Partial<LlmHttpOptions> = {}) {
  const server = yield* serve(answer)
  const events: Array<LlmEvent> = []
  const error = yield* provided(
    dialect,
    server.url,
    LlmProvider.use((provider) =>
      provider.stream(request).pipe(
        Stream.runForEach((event) => Effect.sync(() => void events.push(event))),
        Effect.as(undefined),
        Effect.catch((failure) => Effect.succeed(failure))
      )
    ),
    options
  )
  return { events, error, done: events.find((event) => event._tag === "Done") }
})

for (const dialect of dialects) {
  describe(dialect.provider, () => {
    for (const status of [204, 205, 304, 999]) {
      it.effect(`a status that is no answer, ${status}: a failure, and the program goes on`, () =>
        Effect.gen(function* () {
          const answer: Answer = (response) => response.writeHead(status, sse).end()
          const { error } = yield* ask(dialect, answer)
          assert.instanceOf(error, LlmError)
          assert.include(error?.message, dialect.provider)
          const { url } = yield* serve(answer)
          const listed = yield* Effect.flip(
            provided(
              dialect,
              url,
              LlmProvider.use(({ models }) => models ?? Effect.succeed([]))
            )
          )
          assert.instanceOf(listed, LlmError)
        })
      )
    }

    it.effect("an event without end is not gathered, however it is broken into lines", () =>
      Effect.gen(function* () {
        let sent = 0
        const { error } = yield* ask(dialect, (response) => {
          response.writeHead(200, sse)
          response.write(dialect.start)
          const line = Buffer.from(`data: ${"x".repeat(65_529)}\n`)
          const more = (): void => {
            if (response.destroyed || sent > 64 * 1024 * 1024) return
            sent += line.length
            response.write(line, () => setImmediate(more))
          }
          more()
        })
        assert.strictEqual(error?.reason, "Broken")
        assert.match(error?.message ?? "", /more than a language model says/)
        assert.isBelow(sent, 16 * 1024 * 1024)
      })
    )

    for (const status of [503, 529]) {
      it.effect(`${status} with Retry-After: the time to wait is told`, () =>
        Effect.gen(function* () {
          const { error } = yield* ask(dialect, (response) => response.writeHead(status, { "retry-after": "7" }).end())
          assert.strictEqual(error?.reason, "Unavailable")
          assert.strictEqual(error?.retryAfterMs, 7000)
        })
      )
    }

    it.effect("a line that is cut before any answer: Broken, for the request may have been worked on", () =>
      Effect.gen(function* () {
        const { error } = yield* ask(dialect, (response) => response.destroy())
        assert.strictEqual(error?.reason, "Broken")
        assert.include(error?.message, "hung up before it answered (ECONNRESET)")
      })
    )

    it.effect("a model's name that holds the key does not pass", () =>
      Effect.gen(function* () {
        const own = "Zq81LxT4vWm7RkPd93NbYc"
        const stream = dialect.stream({ text: "hello" }).text.replaceAll("m-1", own)
        const { done } = yield* ask(dialect, (response) => response.writeHead(200, sse).end(stream), {
          key: Redacted.make(own)
        })
        assert.isDefined(done)
        assert.notInclude(JSON.stringify(done), own)
      })
    )
  })
}

describe("counts that nothing has", () => {
  const nonsense = [1e308, 9007199254740991, -5, 0.5, "12", null, {}] as const
  for (const given of nonsense) {
    it.effect(`openai: ${JSON.stringify(given)} tokens`, () =>
      Effect.gen(function* () {
        const usage = chunk({ choices: [], usage: { prompt_tokens: given, completion_tokens: given } })
        const { done } = yield* ask(openAi, (response) =>
          response.writeHead(200, sse).end(`${piece({ content: "hi" })}${piece({}, "stop")}${usage}data: [DONE]\n\n`)
        )
        assert.deepStrictEqual(done?.usage, { inputTokens: 0, outputTokens: 0 })
      })
    )
  }
})

describe("anthropic", () => {
  it.effect("a piece that is no text is no answer", () =>
    Effect.gen(function* () {
      for (const delta of [
        { type: "text_delta", text: 7 },
        { type: "input_json_delta", partial_json: { a: 1 } }
      ]) {
        const start =
          delta.type === "text_delta" ? { type: "text", text: "" } : { type: "tool_use", id: "a", name: "t" }
        const { error, events } = yield* ask(anthropic, (response) =>
          response.writeHead(200, sse).end(around(block(0, start, [delta]).join(""), "end_turn"))
        )
        assert.strictEqual(error?.reason, "Broken")
        assert.deepStrictEqual(events, [])
      }
    })
  )
})
