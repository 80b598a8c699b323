/** The whole assistant by itself: jobs at their minutes, with a real SDK, in the test's time. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/testing/TestClock"
import { Cron } from "../../src/programs/Cron.ts"
import * as LlmServices from "../../src/programs/cli/LlmServices.ts"
import { openAi, type Said } from "../layers/FakeProviders.ts"
import { playStrictly } from "../layers/StrictProviders.ts"
import * as World from "./AssistantWorld.ts"

/** Runs that were begun, newest first. A minute that went by while the disk was busy is on record as missed. */
const begun = Effect.fnUntraced(function* (name: string) {
  const cron = yield* Cron
  const all = yield* Effect.orDie(cron.runs({ name, limit: 50 }))
  assert.strictEqual(new Set(all.map(({ slot }) => slot)).size, all.length)
  return all.filter(({ status }) => status !== "missed")
})

/** Real input and output go on; time passes, by the second, only while no job runs. */
const until = Effect.fnUntraced(function* (name: string, wanted: number) {
  for (;;) {
    const all = yield* begun(name)
    const over = all.filter(({ status }) => status !== "running" && status !== "queued").length
    if (over >= wanted) return all
    yield* Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))
    if (over === all.length) yield* TestClock.adjust("1 second")
  }
})

const statuses = (all: ReadonlyArray<{ readonly status: string }>) => all.map(({ status }) => status)

const world = (
  given: Readonly<Record<string, string>>,
  script: (index: number) => Said,
  test: (
    server: { readonly asked: ReadonlyArray<unknown> },
    tier: <A, E>(during: Effect.Effect<A, E, Cron>) => Effect.Effect<A, unknown>
  ) => Effect.Effect<void, unknown>
) =>
  Effect.gen(function* () {
    const home = yield* World.temporary
    World.makeHome(home, {})
    const problems: Array<string> = []
    const server = yield* playStrictly(openAi, problems, (_, index) => script(index))
    const values = World.valuesOf(home, openAi, server.baseUrl, given)
    yield* test(server, (during) =>
      Effect.gen(function* () {
        yield* LlmServices.serveCron
        return yield* during
      }).pipe(Effect.scoped, Effect.provide(World.layer(values), { local: true }))
    )
    assert.deepStrictEqual(problems, [])
  })

const often = { name: "often", schedule: "* * * * *", command: "say tick", timezone: "UTC" }

describe("jobs through the whole assistant", () => {
  it.effect("each minute once; what was missed while nobody ran is caught up with once; an idle day asks nobody", () =>
    world(
      {},
      () => ({ text: "tick" }),
      (server, tier) =>
        Effect.gen(function* () {
          yield* tier(
            Effect.gen(function* () {
              const cron = yield* Cron
              yield* TestClock.adjust("1 day")
              assert.strictEqual(server.asked.length, 0)
              yield* cron.add(often)
              assert.deepStrictEqual(statuses(yield* until("often", 3)), ["ran", "ran", "ran"])
              assert.strictEqual(server.asked.length, 3)
            })
          )
          yield* TestClock.adjust("10 minutes")
          yield* tier(
            Effect.gen(function* () {
              assert.deepStrictEqual(statuses(yield* until("often", 4)), ["ran", "ran", "ran", "ran"])
              assert.strictEqual(server.asked.length, 4)
            })
          )
        })
    )
  )

  it.effect("a job's own budget stops it, on record, before anything is sent", () =>
    world(
      { "llm.budget.per_job": "0.01", "llm.price.input": "1", "llm.price.output": "2" },
      () => ({ text: "tick", usage: { input: 3000, output: 500 } }),
      (server, tier) =>
        tier(
          Effect.gen(function* () {
            const cron = yield* Cron
            yield* cron.add(often)
            const found = yield* until("often", 2)
            assert.deepStrictEqual(statuses(found), ["failed", "ran"])
            assert.match(found[0]?.reason ?? "", /budget of the job often .*nothing was sent/)
            assert.strictEqual(server.asked.length, 1)
          })
        )
    )
  )
})
