/** What every record of scheduled work must do. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { maxResultChars } from "../../src/domain/CronJob.ts"
import {
  type Claim,
  CronStore,
  type CronStoreError,
  type JobState,
  keptMs,
  keptRuns,
  keptUnacknowledged
} from "../../src/services/CronStore.ts"

const claim = (slot: string, more: Partial<Claim> = {}): Claim => ({
  slot,
  due: 1000,
  status: "queued",
  acknowledged: false,
  ...more
})

const state = (key: string, more: Partial<JobState> = {}): JobState => ({
  key,
  hash: "h",
  considered: 5,
  failures: 0,
  failedAt: 0,
  suspended: undefined,
  ...more
})

const ran = { status: "ran" as const, text: "done", acknowledged: false }

export const suite = (name: string, layer: Layer.Layer<CronStore, CronStoreError>) => {
  const test = <E>(what: string, body: (store: CronStore["Service"]) => Effect.Effect<void, E>) =>
    it.effect(what, () => Effect.flatMap(CronStore, body).pipe(Effect.provide(layer)))

  describe(name, () => {
    test("claims a slot once, and moves the job on in the same step", (store) =>
      Effect.gen(function* () {
        yield* TestClock.setTime(2000)
        const batch = [
          { name: "A b", key: "a b", claims: [claim("s1"), claim("s2")], state: state("a b", { considered: 9 }) },
          { name: "C", key: "c", claims: [claim("s1", { status: "missed", reason: "away" })] }
        ]
        const made = yield* store.advance(batch)
        assert.deepStrictEqual(
          made.map((run) => [run.id, run.job, run.slot, run.status, run.ended]),
          [
            [1, "A b", "s1", "queued", undefined],
            [2, "A b", "s2", "queued", undefined],
            [3, "C", "s1", "missed", 2000]
          ]
        )
        const again = yield* store.advance([{ name: "A b", key: "a b", claims: [claim("s2"), claim("s3")] }])
        assert.deepStrictEqual(
          again.map((run) => [run.id, run.slot]),
          [[4, "s3"]]
        )
        assert.deepStrictEqual(yield* store.states, [state("a b", { considered: 9 })])
        const found = yield* store.find("a b", "s2")
        assert.deepStrictEqual(
          Option.map(found, (run) => run.id),
          Option.some(2)
        )
        assert.isTrue(Option.isNone(yield* store.find("A b", "s2")))
      }))

    test("lets one begin, and ends once", (store) =>
      Effect.gen(function* () {
        const [run] = yield* store.advance([{ name: "A", key: "a", claims: [claim("s")] }])
        const id = run?.id ?? 0
        yield* TestClock.setTime(50)
        assert.isTrue(yield* store.begin(id))
        assert.isFalse(yield* store.begin(id))
        yield* TestClock.setTime(70)
        const usage = { inputTokens: 3, outputTokens: 4, cachedTokens: 1 }
        const text = `${"x".repeat(maxResultChars - 1)}😀`
        const suspended = { since: 70, reason: "why" }
        const next = state("a", { failures: 2, failedAt: 70, suspended })
        const ended = yield* store.end(id, { ...ran, text, usage, cost: 0.25, reason: "late", state: next })
        assert.deepStrictEqual(
          ended,
          Option.some({
            id,
            job: "A",
            slot: "s",
            due: 1000,
            status: "ran" as const,
            reason: "late",
            started: 50,
            ended: 70,
            text: "x".repeat(maxResultChars - 1),
            usage,
            cost: 0.25,
            acknowledged: false
          })
        )
        assert.deepStrictEqual(yield* store.states, [next])
        const twice = yield* store.end(id, { ...ran, status: "failed", state: state("a") })
        assert.isTrue(Option.isNone(twice))
        assert.deepStrictEqual(yield* store.states, [next])
        assert.isFalse(yield* store.begin(id))
      }))

    test("takes what was begun for lost, and believes a twin that ends it after all", (store) =>
      Effect.gen(function* () {
        const made = yield* store.advance([{ name: "A", key: "a", claims: [claim("1"), claim("2"), claim("3")] }])
        const [first = 0, second = 0, third = 0] = made.map((run) => run.id)
        yield* store.begin(first)
        yield* store.begin(second)
        yield* store.end(first, ran)
        const { lost, queued } = yield* store.sweep
        assert.deepStrictEqual(
          lost.map((run) => [run.id, run.status]),
          [[second, "unknown"]]
        )
        assert.deepStrictEqual(
          queued.map((run) => run.id),
          [third]
        )
        assert.isFalse(yield* store.begin(second))
        assert.deepStrictEqual((yield* store.sweep).lost, [])
        assert.isTrue(Option.isSome(yield* store.end(second, ran)))
      }))

    test("keeps results until they are acknowledged", (store) =>
      Effect.gen(function* () {
        const made = yield* store.advance([
          {
            name: "A",
            key: "a",
            claims: [
              claim("1"),
              claim("2"),
              claim("3", { status: "skipped", acknowledged: true }),
              claim("4", { status: "missed" })
            ]
          }
        ])
        const [first = 0, second = 0, , missed = 0] = made.map((run) => run.id)
        assert.deepStrictEqual(yield* store.unacknowledged, [missed])
        yield* store.begin(first)
        yield* store.end(first, ran)
        assert.deepStrictEqual(yield* store.unacknowledged, [first, missed])
        assert.strictEqual(yield* store.acknowledge([first, second, 999]), 1)
        assert.strictEqual(yield* store.acknowledge([first]), 0)
        assert.deepStrictEqual(yield* store.unacknowledged, [missed])
      }))

    test("tells runs newest first, and the latest of each job", (store) =>
      Effect.gen(function* () {
        yield* store.advance([
          { name: "A", key: "a", claims: [claim("1"), claim("2")] },
          { name: "B", key: "b", claims: [claim("1")] },
          { name: "A", key: "a", claims: [claim("3")] }
        ])
        const ids = (options: { key?: string; before?: number; limit: number }) =>
          Effect.map(store.runs(options), (runs) => runs.map((run) => run.id))
        assert.deepStrictEqual(yield* ids({ limit: 10 }), [4, 3, 2, 1])
        assert.deepStrictEqual(yield* ids({ key: "a", limit: 2 }), [4, 2])
        assert.deepStrictEqual(yield* ids({ key: "a", before: 2, limit: 2 }), [1])
        const latest = yield* store.latest
        assert.deepStrictEqual([...latest].map(([key, run]) => [key, run.id]).sort(), [
          ["a", 4],
          ["b", 3]
        ])
      }))

    test("keeps and forgets what is known of jobs", (store) =>
      Effect.gen(function* () {
        yield* store.saveStates([state("a"), state("b")])
        yield* store.saveStates([state("a", { considered: 77 })])
        yield* store.forget(["b", "c"])
        assert.deepStrictEqual(yield* store.states, [state("a", { considered: 77 })])
        assert.isTrue(Option.isNone(yield* store.lastGood))
        yield* store.keepGood("one")
        yield* store.keepGood("## two'; --")
        assert.deepStrictEqual(yield* store.lastGood, Option.some("## two'; --"))
      }))

    test("drops old runs, and never an id", (store) =>
      Effect.gen(function* () {
        const seen = { status: "skipped", acknowledged: true } as const
        const many = Array.from({ length: keptRuns + 30 }, (_, n) => claim(`s${n}`, { ...seen, due: keptMs * 2 }))
        const unseen = Array.from({ length: keptUnacknowledged + 20 }, (_, n) => claim(`u${n}`, { status: "missed" }))
        yield* store.advance([
          {
            name: "Old",
            key: "old",
            claims: [claim("1", { ...seen, due: 1 }), claim("2", { status: "missed", due: 1 })]
          },
          { name: "U", key: "u", claims: unseen },
          { name: "Many", key: "many", claims: [claim("open"), ...many] }
        ])
        const count = (key: string) => Effect.map(store.runs({ key, limit: 5000 }), (runs) => runs.length)
        yield* store.prune(keptMs * 2)
        assert.strictEqual(yield* count("old"), 1)
        assert.strictEqual(yield* count("u"), keptUnacknowledged)
        assert.strictEqual(yield* count("many"), keptRuns + 1)
        const [newest] = yield* store.runs({ limit: 1 })
        yield* store.prune(keptMs * 9)
        const [left] = yield* store.runs({ limit: 1 })
        assert.strictEqual(left?.id, newest?.id)
        const [next] = yield* store.advance([{ name: "N", key: "n", claims: [claim("1")] }])
        assert.strictEqual(next?.id, (newest?.id ?? 0) + 1)
      }))
  })
}
