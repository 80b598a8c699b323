/** The record of requests: in memory and in SQLite alike. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { maxLines } from "../../src/domain/UsageRpc.ts"
import * as UsageSqlite from "../../src/layers/UsageSqlite.ts"
import { type UsageBegin, type UsageEnd, UsageStore } from "../../src/services/UsageStore.ts"

const entry: UsageBegin = {
  time: 1,
  day: "2026-11-21",
  conversation: "main",
  job: undefined,
  provider: "anthropic",
  model: "claude",
  cost: 0.5
}
const end: UsageEnd = {
  ended: "complete",
  model: "claude",
  usage: { inputTokens: 100, outputTokens: 10, cachedTokens: 60, cacheWriteTokens: 20 },
  cost: 0.25,
  estimated: false
}

for (const [name, layer] of [
  ["memory", UsageStore.layerMemory],
  ["SQLite", UsageSqlite.layer({ filename: ":memory:" })]
] as const) {
  describe(name, () => {
    it.effect("a request counts at its highest cost until its end is known, which is told once", () =>
      Effect.gen(function* () {
        const store = yield* UsageStore
        const id = yield* store.begin(entry)
        assert.strictEqual(yield* store.spent({}), 0.5)
        yield* store.end(id, end)
        yield* store.end(id, { ...end, cost: 9 })
        assert.strictEqual(yield* store.spent({}), 0.25)
        const { lines } = yield* store.sum({ by: "model" })
        assert.deepStrictEqual(lines, [
          {
            key: "anthropic/claude",
            requests: 1,
            usage: { inputTokens: 100, outputTokens: 10, cachedTokens: 60, cacheWriteTokens: 20 },
            cost: 0.25,
            unpriced: 0,
            estimated: 0
          }
        ])
      }).pipe(Effect.provide(layer, { local: true }))
    )

    it.effect("sums by day, month, conversation, model and job, within days", () =>
      Effect.gen(function* () {
        const store = yield* UsageStore
        const add = Effect.fnUntraced(function* (
          more: Partial<UsageBegin>,
          cost: number | undefined,
          ended: UsageEnd["ended"] = "complete"
        ) {
          const id = yield* store.begin({ ...entry, ...more })
          const model = more.model ?? entry.model
          yield* store.end(id, { ...end, cost, model, ended, estimated: ended !== "complete" })
        })
        yield* add({ day: "2026-10-31" }, 1)
        yield* add({ day: "2026-11-01", conversation: "job a", job: "a" }, 2)
        yield* add({ day: "2026-11-20", model: "other" }, undefined)
        yield* add({ day: "2026-11-21", conversation: "job a", job: "a" }, 4, "cancelled")
        yield* store.begin({ ...entry, cost: 8 })
        const keys = (by: "day" | "month" | "conversation" | "model" | "job", period = {}) =>
          Effect.map(store.sum({ by, ...period }), ({ lines }) => lines.map(({ cost, key }) => `${key}=${cost}`))
        assert.deepStrictEqual(yield* keys("day"), ["2026-10-31=1", "2026-11-01=2", "2026-11-20=0", "2026-11-21=12"])
        assert.deepStrictEqual(yield* keys("month"), ["2026-10=1", "2026-11=14"])
        assert.deepStrictEqual(yield* keys("conversation"), ["main=9", "job a=6"])
        assert.deepStrictEqual(yield* keys("model"), ["anthropic/claude=15", "anthropic/other=0"])
        assert.deepStrictEqual(yield* keys("job"), ["=9", "a=6"])
        assert.deepStrictEqual(yield* keys("day", { from: "2026-11-01", to: "2026-11-20" }), [
          "2026-11-01=2",
          "2026-11-20=0"
        ])
        const { total, truncated } = yield* store.sum({ by: "job" })
        assert.isFalse(truncated)
        assert.deepStrictEqual(total, {
          key: "",
          requests: 5,
          usage: { inputTokens: 400, outputTokens: 40, cachedTokens: 240, cacheWriteTokens: 80 },
          cost: 15,
          unpriced: 1,
          estimated: 2
        })
        assert.strictEqual(yield* store.spent({ from: "2026-11-01", to: "2026-11-31" }), 14)
        assert.strictEqual(yield* store.spent({ from: "2026-11-21", to: "2026-11-21", job: "a" }), 4)
        assert.strictEqual(yield* store.spent({ job: "none" }), 0)
      }).pipe(Effect.provide(layer, { local: true }))
    )

    it.effect("gives so many lines and no more, those that matter most", () =>
      Effect.gen(function* () {
        const store = yield* UsageStore
        for (let i = 0; i < maxLines + 5; i++) yield* store.begin({ ...entry, conversation: `c${i}`, cost: i })
        const { lines, total, truncated } = yield* store.sum({ by: "conversation" })
        assert.isTrue(truncated)
        assert.strictEqual(lines.length, maxLines)
        assert.strictEqual(lines[0]?.key, `c${maxLines + 4}`)
        assert.strictEqual(total.requests, maxLines + 5)
      }).pipe(Effect.provide(layer, { local: true }))
    )
  })
}

describe("a file", () => {
  it.effect("keeps what was sent over a crash, at its highest cost", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "clawchat-usage-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const layer = UsageSqlite.layer({ filename: join(folder, "llm.db") })
      const store = UsageStore.use((usage) => usage.begin(entry)).pipe(Effect.provide(layer, { local: true }))
      yield* store
      yield* store
      const after = UsageStore.use((usage) => Effect.all([usage.spent({}), usage.sum({ by: "day" })]))
      const [spent, { lines }] = yield* Effect.provide(after, layer, { local: true })
      assert.strictEqual(spent, 1)
      assert.strictEqual(lines[0]?.estimated, 2)
    })
  )

  it.effect("that is none is told in one line", () =>
    Effect.gen(function* () {
      const layer = UsageSqlite.layer({ filename: "/dev/null/llm.db" })
      const error = yield* Effect.flip(Effect.provide(Effect.asVoid(UsageStore), layer, { local: true }))
      assert.include(error.message, "the llm tier's database failed")
      assert.notInclude(error.message, "\n")
    })
  )
})
