/** Budgets that stop before spending: the real SDK, a server that counts, the record in SQLite. */
import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as Price from "../../src/domain/Price.ts"
import * as UsageSqlite from "../../src/layers/UsageSqlite.ts"
import { type Budgets, Meter } from "../../src/programs/Metered.ts"
import { type LlmEvent, LlmProvider, type LlmRequest } from "../../src/services/LlmProvider.ts"
import { UsageStore, UsageStoreError } from "../../src/services/UsageStore.ts"
import {
  anthropic,
  type Dialect,
  dialects,
  key,
  openAi,
  type Played,
  play,
  type Script,
  serve
} from "../layers/FakeProviders.ts"

const now = Date.UTC(2026, 10, 21, 12)
const models: { readonly [provider: string]: string } = {
  anthropic: "claude-sonnet-5-5",
  openai: "gpt-6.1-terra",
  deepseek: "deepseek-v4-flash"
}
const request: LlmRequest = {
  conversation: "main",
  system: "Be exact.",
  messages: [{ role: "user", text: "x".repeat(300) }],
  maxTokens: 500
}

const metered = (
  dialect: Dialect,
  server: Pick<Played, "baseUrl">,
  budgets: Budgets,
  options: { readonly model?: string; readonly price?: Price.Price } = {}
) =>
  Effect.gen(function* () {
    const provider = yield* LlmProvider
    const meter = yield* Meter
    return meter.wrap(provider)
  }).pipe(
    Effect.provide(
      Layer.mergeAll(
        dialect.layer({
          provider: dialect.provider,
          model: options.model ?? models[dialect.provider] ?? "",
          baseUrl: server.baseUrl,
          key: Redacted.make(key)
        }),
        Meter.layer({
          budgets,
          timeZone: DateTime.zoneMakeNamedUnsafe("UTC"),
          price: options.price && { provider: dialect.provider, price: options.price }
        })
      )
    )
  )

const said: Script = () => ({ text: "hello", usage: { input: 100, output: 20 } })

const ask = (provider: LlmProvider["Service"], of = request) =>
  Effect.gen(function* () {
    const events: Array<LlmEvent> = []
    const error = yield* provider.stream(of).pipe(
      Stream.runForEach((event) => Effect.sync(() => void events.push(event))),
      Effect.as(undefined),
      Effect.catch((failure) => Effect.succeed(failure))
    )
    return { done: events.find((event) => event._tag === "Done"), error }
  })

const test = (name: string, effect: () => Effect.Effect<unknown, unknown, UsageStore | Scope.Scope>) =>
  it.effect(name, () =>
    Effect.andThen(TestClock.setTime(now), effect()).pipe(
      Effect.provide(UsageSqlite.layer({ filename: ":memory:" }), { local: true })
    )
  )

for (const dialect of dialects) {
  describe(dialect.provider, () => {
    test("a budget of one cent: the call that could pass it is refused before it is sent", () =>
      Effect.gen(function* () {
        const usd = 0.01
        const model = models[dialect.provider] ?? ""
        const price = Price.of(dialect.provider, model) ?? Price.custom({ input: 0, output: 0 })
        // As much output as makes three calls too many.
        const output = Math.floor((usd * 0.45) / (price.output * 1e-6))
        const server = yield* play(dialect, () => ({ text: "hello", usage: { input: 100, output } }))
        const provider = yield* metered(dialect, server, { day: usd })
        const of = { ...request, maxTokens: output }
        const costs: Array<number | undefined> = []
        for (let call = 0; call < 2; call++) {
          const { done, error } = yield* ask(provider, of)
          assert.isUndefined(error)
          costs.push(done?.cost)
        }
        const cost = (100 * price.input + output * price.output) * 1e-6
        for (const each of costs) assert.approximately(each ?? 0, cost, 1e-9)
        for (let call = 0; call < 3; call++) {
          const { error } = yield* ask(provider, of)
          assert.strictEqual(error?.reason, "OverBudget")
          assert.match(error?.message ?? "", /budget of the day is \$0\.0100, .* llm\.budget\.day.*nothing was sent/)
        }
        assert.strictEqual(server.asked.length, 2)
        assert.isAtMost(yield* UsageStore.use((store) => store.spent({})), usd)
        // Another day, another cent.
        yield* TestClock.adjust("1 day")
        assert.isUndefined((yield* ask(provider, of)).error)
        assert.strictEqual(server.asked.length, 3)
      }))
  })
}

describe("budgets", () => {
  test("requests at the same time do not pass together what each alone would not", () =>
    Effect.gen(function* () {
      const server = yield* play(anthropic, () => ({ text: "hello", hang: true }))
      const price = Price.custom({ input: 0, output: 1000 })
      // Each could cost 0.5 dollars.
      // A database that takes its time, so that all ask before any has written.
      const store = yield* UsageStore
      const slowly = <A, E>(effect: Effect.Effect<A, E>) =>
        Effect.andThen(Effect.repeat(Effect.yieldNow, { times: 20 }), effect)
      const slow = Layer.succeed(UsageStore, {
        ...store,
        spent: (period) => slowly(store.spent(period)),
        begin: (entry) => slowly(store.begin(entry))
      })
      const provider = yield* Effect.provide(metered(anthropic, server, { day: 1.6 }, { price }), slow)
      const settled = yield* Deferred.make<void>()
      const count = { refused: 0, sent: 0 }
      const add = (what: "refused" | "sent") =>
        Effect.suspend(() => {
          count[what]++
          return count.refused + count.sent === 10 ? Deferred.succeed(settled, undefined) : Effect.void
        })
      // What is sent says one word and hangs.
      const fibers = yield* Effect.forEach(Array.from({ length: 10 }), () =>
        provider.stream(request).pipe(
          Stream.runForEach(() => add("sent")),
          Effect.catch(({ reason }) => (reason === "OverBudget" ? add("refused") : Effect.void)),
          Effect.forkChild
        )
      )
      yield* Deferred.await(settled)
      assert.deepStrictEqual(count, { refused: 7, sent: 3 })
      assert.strictEqual(server.asked.length, 3)
      assert.isAtMost(yield* store.spent({}), 1.6)
      yield* Effect.forEach(fibers, Fiber.interrupt, { discard: true })
    }))

  test("0 means nothing, of the month, and of a job for its day", () =>
    Effect.gen(function* () {
      const server = yield* play(anthropic, said)
      for (const [budgets, setting] of [
        [{ day: 0 }, "llm.budget.day"],
        [{ month: 0 }, "llm.budget.month"],
        [{ perJob: 0 }, "llm.budget.per_job"]
      ] as const) {
        const provider = yield* metered(anthropic, server, budgets)
        const { error } = yield* ask(provider, { ...request, job: "water" })
        assert.strictEqual(error?.reason, "OverBudget")
        assert.include(error?.message, setting)
      }
      assert.strictEqual(server.asked.length, 0)
      const provider = yield* metered(anthropic, server, { perJob: 0 })
      assert.isUndefined((yield* ask(provider)).error)
      const month = yield* metered(anthropic, server, { month: 0.0055 })
      yield* TestClock.adjust("1 day")
      assert.strictEqual((yield* ask(month)).error?.reason, "OverBudget")
      yield* TestClock.adjust("10 days")
      assert.isUndefined((yield* ask(month)).error)
    }))

  test("a model without a known price is refused while a budget is set, and taken with one", () =>
    Effect.gen(function* () {
      const server = yield* play(openAi, said)
      const unknown = yield* metered(openAi, server, { month: 5 }, { model: "house-model" })
      const { error } = yield* ask(unknown)
      assert.strictEqual(error?.reason, "OverBudget")
      assert.include(error?.message, "openai/house-model")
      assert.include(error?.message, "llm.price.input")
      assert.strictEqual(server.asked.length, 0)
      const free = yield* metered(openAi, server, {}, { model: "house-model" })
      assert.isUndefined((yield* ask(free)).done?.cost)
      const price = Price.custom({ input: 1, output: 2 })
      const priced = yield* metered(openAi, server, { month: 5 }, { model: "house-model", price })
      assert.approximately((yield* ask(priced)).done?.cost ?? 0, 140e-6, 1e-12)
    }))

  test("where nobody says how long an answer may be, the budget does", () =>
    Effect.gen(function* () {
      const server = yield* play(openAi, said)
      const { maxTokens: _, ...open } = request
      const limits: Array<unknown> = []
      for (const day of [undefined, 10, 0.03, 0.004]) {
        const provider = yield* metered(openAi, server, { day }, { price: Price.custom({ input: 0, output: 10 }) })
        yield* ask(provider, open)
        const body: { readonly max_completion_tokens?: number } = JSON.parse(server.seen.at(-1)?.body ?? "{}")
        limits.push(body.max_completion_tokens)
      }
      assert.strictEqual(server.seen.length, 3)
      assert.deepStrictEqual(limits.slice(0, 2), [undefined, 8192])
      // 0.03 dollars, of which 0.0004 are spent, at 10 dollars a million.
      assert.strictEqual(limits[2], 2960)
    }))

  test("where spending cannot be recorded, nothing is spent; without a budget the answer goes on", () =>
    Effect.gen(function* () {
      const server = yield* play(anthropic, said)
      const down = Effect.fail(new UsageStoreError({ message: "the disk is full" }))
      const broken = Layer.succeed(UsageStore, {
        begin: () => down,
        end: () => down,
        spent: () => down,
        sum: () => down
      })
      const bounded = yield* Effect.provide(metered(anthropic, server, { day: 5 }), broken)
      const { error } = yield* ask(bounded)
      assert.strictEqual(error?.reason, "OverBudget")
      assert.include(error?.message, "the disk is full")
      assert.strictEqual(server.asked.length, 0)
      const unbounded = yield* Effect.provide(metered(anthropic, server, {}), broken)
      assert.isUndefined((yield* ask(unbounded)).error)
    }))
})

describe("the record", () => {
  const line = UsageStore.use((store) => Effect.map(store.sum({ by: "model" }), ({ total }) => total))

  test("what the provider refused costs nothing", () =>
    Effect.gen(function* () {
      for (const status of [401, 429, 400, 529]) {
        const server = yield* play(anthropic, () => ({ status }))
        const provider = yield* metered(anthropic, server, { day: 5 })
        assert.isDefined((yield* ask(provider)).error)
      }
      const { cost, estimated, requests, usage } = yield* line
      assert.deepStrictEqual(
        { cost, estimated, requests, usage },
        { cost: 0, estimated: 0, requests: 4, usage: { inputTokens: 0, outputTokens: 0 } }
      )
    }))

  test("a request that was taken and never answered counts as estimated", () =>
    Effect.gen(function* () {
      const server = yield* serve((response) => response.destroy())
      const provider = yield* metered(anthropic, { baseUrl: server.url }, { day: 5 })
      assert.isDefined((yield* ask(provider)).error)
      const { cost, estimated, usage } = yield* line
      assert.isAbove(usage.inputTokens, 100)
      assert.isAbove(cost, 0)
      assert.strictEqual(estimated, 1)
    }))

  test("a cut answer, and one that was stopped, count as estimated", () =>
    Effect.gen(function* () {
      const text = "word ".repeat(60)
      const server = yield* play(anthropic, (_, index) =>
        index === 0
          ? { text, calls: [{ id: "a", name: "b", arguments: "{}" }], cut: true }
          : { text, calls: [{ id: "a", name: "b", arguments: "{}" }], hang: true }
      )
      const provider = yield* metered(anthropic, server, {})
      assert.strictEqual((yield* ask(provider)).error?.reason, "Broken")
      const came = yield* Deferred.make<void>()
      const fiber = yield* provider.stream(request).pipe(
        Stream.runForEach(() => Deferred.succeed(came, undefined)),
        Effect.forkChild
      )
      yield* Deferred.await(came)
      yield* Fiber.interrupt(fiber)
      yield* server.closed(1)
      const { cost, estimated, requests, usage } = yield* line
      assert.deepStrictEqual([requests, estimated], [2, 2])
      assert.strictEqual(usage.outputTokens, 200)
      assert.isAbove(usage.inputTokens, 200)
      assert.isAbove(cost, 0)
    }))

  test("a provider that counts nothing is counted for", () =>
    Effect.gen(function* () {
      const server = yield* play(openAi, () => ({ text: "hello", usage: { input: 0, output: 0 } }))
      const provider = yield* metered(openAi, server, {})
      const { done } = yield* ask(provider)
      assert.isAbove(done?.cost ?? 0, 0)
      assert.strictEqual((yield* line).estimated, 1)
    }))

  test("a provider that counts half is helped out with the other half", () =>
    Effect.gen(function* () {
      const text = "word ".repeat(60)
      const server = yield* play(openAi, (_, index) => ({
        text,
        usage: index === 0 ? { input: 100, output: 0 } : { input: 0, output: 90 }
      }))
      const provider = yield* metered(openAi, server, {}, { price: Price.custom({ input: 1, output: 10 }) })
      assert.approximately((yield* ask(provider)).done?.cost ?? 0, 1100e-6, 1e-12)
      assert.isAbove((yield* ask(provider)).done?.cost ?? 0, 1000e-6)
      const { estimated, usage } = yield* line
      assert.strictEqual(estimated, 2)
      assert.strictEqual(usage.outputTokens, 190)
    }))

  test("a defect in the stream ends the record too", () =>
    Effect.gen(function* () {
      const meter = yield* Meter
      const provider = meter.wrap({
        info: { provider: "anthropic", model: "claude-sonnet-5-5", chosen: "" },
        stream: () => Stream.die("bug")
      })
      const exit = yield* Effect.exit(Stream.runDrain(provider.stream(request)))
      assert.isTrue(exit._tag === "Failure" && Cause.hasDies(exit.cause))
      const { estimated, requests } = yield* line
      assert.deepStrictEqual([requests, estimated], [1, 1])
    }).pipe(Effect.provide(Meter.layer({ budgets: {}, timeZone: DateTime.zoneMakeNamedUnsafe("UTC") }))))
})
