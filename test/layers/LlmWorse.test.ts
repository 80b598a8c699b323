/** Providers on bad days, through the real SDKs and the chain: what the user sees, what each server is asked. */
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as LlmChain from "../../src/programs/LlmChain.ts"
import { type LlmEvent, LlmProvider, type LlmProviderShape, type LlmRequest } from "../../src/services/LlmProvider.ts"
import {
  anthropic,
  type Dialect,
  deepSeek,
  dialects,
  type Failed,
  key,
  openAi,
  play,
  type Said,
  serve
} from "./FakeProviders.ts"

const request: LlmRequest = {
  conversation: "main",
  system: "Be exact.",
  messages: [{ role: "user", text: "do it" }],
  tools: [{ name: "time", description: "The time.", parameters: {} }]
}

const call = { id: "a", name: "time", arguments: '{"zone":"UTC"}' }

/** A provider whose server answers by turns, the last for ever. */
const played = Effect.fnUntraced(function* (dialect: Dialect, ...answers: ReadonlyArray<Said | Failed>) {
  const server = yield* play(dialect, (_, index) => answers[Math.min(index, answers.length - 1)] ?? {})
  return { server, provider: yield* of(dialect, server.baseUrl) }
})

const of = (dialect: Dialect, baseUrl: string) =>
  Effect.map(
    Layer.build(dialect.layer({ provider: dialect.provider, model: "m", baseUrl, key: Redacted.make(key) })),
    Context.get(LlmProvider)
  )

/** Asks, and lets virtual time pass while real input and output go on. */
const ask = Effect.fnUntraced(function* (provider: LlmProviderShape) {
  const events: Array<LlmEvent> = []
  const fiber = yield* provider.stream(request).pipe(
    Stream.runForEach((event) => Effect.sync(() => void events.push(event))),
    Effect.as(undefined),
    Effect.catch((failure) => Effect.succeed(failure)),
    Effect.forkChild
  )
  while (fiber.pollUnsafe() === undefined) {
    yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    yield* TestClock.adjust("20 millis")
  }
  const error = yield* Fiber.join(fiber)
  const text = events.flatMap((event) => (event._tag === "Delta" ? [event.text] : [])).join("")
  const notices = events.flatMap((event) => (event._tag === "Notice" ? [event.text] : []))
  for (const said of [...notices, error?.message ?? ""]) assert.notInclude(said, key.slice(3, 12))
  return {
    text,
    notices,
    error,
    calls: events.filter((event) => event._tag === "Call").length,
    done: events.find((event) => event._tag === "Done")
  }
})

for (const dialect of dialects) {
  const other = dialect === deepSeek ? anthropic : deepSeek
  describe(dialect.provider, () => {
    it.effect("429 with Retry-After: asked again, and answered", () =>
      Effect.gen(function* () {
        const { provider, server } = yield* played(
          dialect,
          { status: 429, headers: { "retry-after": "3" } },
          { text: "hello" }
        )
        const { error, notices, text } = yield* ask(LlmChain.make([provider]))
        assert.isUndefined(error)
        assert.strictEqual(text, "hello")
        assert.strictEqual(server.asked.length, 2)
        assert.strictEqual(notices.length, 1)
        assert.match(notices[0] ?? "", /\(429\).*trying again in [34](\.\d)? s/)
      })
    )

    for (const status of [503, 529]) {
      it.effect(`${status}: three times, then the next provider answers`, () =>
        Effect.gen(function* () {
          const down = yield* played(dialect, { status })
          const up = yield* played(other, { text: "hello", calls: [call] })
          const { calls, done, notices } = yield* ask(LlmChain.make([down.provider, up.provider]))
          assert.strictEqual(down.server.asked.length, 3)
          assert.strictEqual(up.server.asked.length, 1)
          assert.strictEqual(calls, 1)
          assert.strictEqual(done?.provider, other.provider)
          assert.strictEqual(notices.at(-1), `${other.provider} is asked instead`)
          // The same question, whatever the protocol.
          assert.deepStrictEqual(up.server.asked[0]?.transcript, down.server.asked[0]?.transcript)
        })
      )
    }

    it.effect("half a tool call, then the line is cut: nothing is called, nobody is asked again", () =>
      Effect.gen(function* () {
        const cut = yield* played(dialect, { text: "let me see", calls: [call], cut: true })
        const up = yield* played(other, { text: "hello", calls: [call] })
        const { calls, error, text } = yield* ask(LlmChain.make([cut.provider, up.provider]))
        assert.strictEqual(error?.reason, "Broken")
        assert.strictEqual(text, "let me see")
        assert.strictEqual(calls, 0)
        assert.deepStrictEqual([cut.server.asked.length, up.server.asked.length], [1, 0])
      })
    )

    it.effect("a call cut before anything was said: asked again, called once", () =>
      Effect.gen(function* () {
        const { provider, server } = yield* played(dialect, { calls: [call], cut: true }, { calls: [call] })
        const { calls, error } = yield* ask(LlmChain.make([provider]))
        assert.isUndefined(error)
        assert.strictEqual(calls, 1)
        assert.strictEqual(server.asked.length, 2)
      })
    )

    it.effect("a redirect is not followed, and not asked again", () =>
      Effect.gen(function* () {
        const trap = yield* serve((response) => response.end())
        const away = yield* played(dialect, { status: 307, headers: { location: `${trap.url}${dialect.path}` } })
        const { error } = yield* ask(LlmChain.make([away.provider]))
        assert.strictEqual(error?.reason, "Refused")
        assert.strictEqual(away.server.asked.length, 1)
        assert.strictEqual(trap.seen.length, 0)
      })
    )

    it.effect("a refused key is used once; the next provider answers with its own", () =>
      Effect.gen(function* () {
        const bad = yield* played(dialect, { status: 401 })
        const up = yield* played(other, { text: "hello" })
        const { text } = yield* ask(LlmChain.make([bad.provider, up.provider]))
        assert.strictEqual(text, "hello")
        assert.strictEqual(bad.server.asked.length, 1)
        assert.strictEqual(other.credential(up.server.seen[0]?.headers ?? {}), other.sentKey)
      })
    )

    it.effect("stopping closes the connection, in mid-call too", () =>
      Effect.gen(function* () {
        const { provider, server } = yield* played(dialect, { text: "let me see", calls: [call], hang: true })
        const came = yield* Deferred.make<void>()
        const fiber = yield* LlmChain.make([provider])
          .stream(request)
          .pipe(
            Stream.runForEach(() => Deferred.succeed(came, undefined)),
            Effect.forkChild
          )
        yield* Deferred.await(came)
        yield* Fiber.interrupt(fiber)
        yield* server.closed(0)
        assert.strictEqual(server.asked.length, 1)
      })
    )
  })
}

describe("a turn that changes its provider", () => {
  it.effect("goes on with the other, whose protocol gets all that was done", () =>
    Effect.gen(function* () {
      const first = yield* played(openAi, { text: "one", calls: [call] }, { status: 503 })
      const second = yield* played(anthropic, { text: "two" })
      const chain = LlmChain.make([first.provider, second.provider])
      yield* ask(chain)
      const events = yield* Effect.forkChild(
        Stream.runCollect(
          chain.stream({
            ...request,
            messages: [
              ...request.messages,
              { role: "assistant", text: "one", calls: [call] },
              { role: "tool", callId: "a", name: "time", text: "noon", failed: false }
            ]
          })
        )
      )
      while (events.pollUnsafe() === undefined) {
        yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
        yield* TestClock.adjust("100 millis")
      }
      const said = yield* Fiber.join(events)
      assert.isTrue(said.some((event) => event._tag === "Delta" && event.text === "two"))
      assert.deepStrictEqual(second.server.asked[0]?.transcript, [
        "user: do it",
        "assistant: one",
        'call a time {"zone":"UTC"}',
        "result a: noon"
      ])
    })
  )
})
