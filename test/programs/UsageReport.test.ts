/** What clients are told of usage and models. */
import { assert, describe, it } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RpcTest from "effect/rpc/RpcTest"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { UsageRpc } from "../../src/domain/UsageRpc.ts"
import { Meter } from "../../src/programs/Metered.ts"
import * as UsageReport from "../../src/programs/UsageReport.ts"
import { LlmLegs } from "../../src/services/LlmLegs.ts"
import { LlmError, type LlmProviderShape } from "../../src/services/LlmProvider.ts"
import { UsageStore, UsageStoreError } from "../../src/services/UsageStore.ts"

const leg = (provider: string, model: string, models?: LlmProviderShape["models"]): LlmProviderShape => ({
  info: { provider, model, chosen: "" },
  stream: () =>
    Stream.make({ _tag: "Done", usage: { inputTokens: 1_000_000, outputTokens: 0 }, stopReason: "end", model }),
  ...(models === undefined ? {} : { models })
})

const services = (legs: LlmLegs["Service"], store = UsageStore.layerMemory) =>
  UsageReport.layerHandlers.pipe(
    Layer.provideMerge(Layer.succeed(LlmLegs, legs)),
    Layer.provideMerge(
      Meter.layer({
        budgets: { day: 5, month: 50, perJob: 1 },
        timeZone: DateTime.zoneMakeNamedUnsafe("Europe/Berlin")
      })
    ),
    Layer.provideMerge(store)
  )

const main = leg("anthropic", "claude-sonnet-5-5", Effect.succeed(["zeta", "claude-haiku-5-5"]))

describe("Usage", () => {
  it.effect("Sum: by what is asked, with the budgets, in days of the tier's time zone", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(Date.UTC(2026, 10, 20, 23, 30))
      const client = yield* RpcTest.makeClient(UsageRpc)
      const meter = yield* Meter
      const run = (job?: string) =>
        Stream.runDrain(
          meter.wrap(main).stream({
            conversation: "main",
            system: "",
            messages: [],
            maxTokens: 10,
            ...(job === undefined ? {} : { job })
          })
        )
      yield* run()
      // 2 dollars are above the budget of a job.
      const byDay = yield* client["Usage.Sum"]({ by: "day" })
      assert.deepStrictEqual(
        byDay.lines.map(({ cost, key }) => [key, cost]),
        [["2026-11-21", 2]]
      )
      assert.deepStrictEqual(byDay.budgets, [
        { period: "day", limit: 5, spent: 2 },
        { period: "month", limit: 50, spent: 2 },
        { period: "per_job", limit: 1 }
      ])
      const before = yield* client["Usage.Sum"]({ by: "model", to: "2026-11-20" })
      assert.strictEqual(before.total.requests, 0)
      assert.isFalse(before.truncated)
    }).pipe(Effect.provide(services([main])))
  )

  it.effect("Models: of all providers, with prices, the one in use, and who could not be asked", () =>
    Effect.gen(function* () {
      const client = yield* RpcTest.makeClient(UsageRpc)
      const { models, problems } = yield* client["Usage.Models"]()
      assert.deepStrictEqual(
        models.map(({ current, id, price, provider }) => [`${provider}/${id}`, current, price?.input]),
        [
          ["anthropic/claude-haiku-5-5", false, 0.1],
          ["anthropic/claude-sonnet-5-5", true, 2],
          ["anthropic/zeta", false, undefined],
          ["deepseek/deepseek-v4-flash", false, 0.14],
          ["offline/offline", false, 0]
        ]
      )
      assert.deepStrictEqual(problems, ["deepseek is away"])
    }).pipe(
      Effect.provide(
        services([
          main,
          leg(
            "deepseek",
            "deepseek-v4-flash",
            Effect.fail(new LlmError({ reason: "Unavailable", message: "deepseek is away" }))
          ),
          leg("offline", "offline")
        ])
      )
    )
  )

  it.effect("a record that cannot be read is told", () =>
    Effect.gen(function* () {
      const client = yield* RpcTest.makeClient(UsageRpc)
      const error = yield* Effect.flip(client["Usage.Sum"]({ by: "job" }))
      assert.deepInclude(error, { _tag: "UsageError", reason: "Storage", message: "broken" })
    }).pipe(
      Effect.provide(
        services(
          [main],
          Layer.mock(UsageStore, {
            sum: () => Effect.fail(new UsageStoreError({ message: "broken" })),
            spent: () => Effect.succeed(0)
          })
        )
      )
    )
  )
})
