import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { TestClock } from "effect/testing"
import * as Alarms from "../../src/programs/Alarms.ts"

const made = Effect.gen(function* () {
  const lines: Array<string> = []
  const { say } = yield* Alarms.make()
  const log = (text: string) =>
    Effect.sync(() => {
      lines.push(text)
    })
  return { lines, say: (kind: string, text: string) => say(kind, log, text) }
})

describe("Alarms", () => {
  it.effect("says a kind once a minute, then how many were held back", () =>
    Effect.gen(function* () {
      const { lines, say } = yield* made
      for (let n = 1; n <= 1000; n++) yield* say("a", `a ${n}`)
      yield* say("b", "b 1")
      assert.deepStrictEqual(lines, ["a 1", "b 1"])
      yield* TestClock.adjust(Alarms.PERIOD_MS)
      assert.deepStrictEqual(lines, ["a 1", "b 1", "999 more like this, the last: a 1000"])

      // Who goes on is told of once a minute; who stops is forgotten.
      lines.length = 0
      yield* say("a", "a again")
      yield* say("b", "b again")
      assert.deepStrictEqual(lines, ["b again"])
      yield* TestClock.adjust(Alarms.PERIOD_MS)
      assert.deepStrictEqual(lines, ["b again", "1 more like this, the last: a again"])
      yield* TestClock.adjust(10 * Alarms.PERIOD_MS)
      assert.lengthOf(lines, 2)
      yield* say("a", "a anew")
      assert.strictEqual(lines.at(-1), "a anew")
    })
  )

  it.effect("a million lines of a day are at most one a minute", () =>
    Effect.gen(function* () {
      const { lines, say } = yield* made
      for (let minute = 0; minute < 1440; minute++) {
        for (let n = 0; n < 700; n++) yield* say("a", "x")
        yield* TestClock.adjust(Alarms.PERIOD_MS)
      }
      assert.isAtMost(lines.length, 1441)
      const counted = lines.map((line) => Number(/^(\d+) more/.exec(line)?.[1] ?? 1))
      assert.strictEqual(
        counted.reduce((sum, count) => sum + count, 0),
        1440 * 700
      )
    })
  )

  it.effect("kinds are bounded: the many share one", () =>
    Effect.gen(function* () {
      const { lines, say } = yield* made
      for (let n = 0; n < 100_000; n++) yield* say(`${n}`, "x")
      assert.strictEqual(lines.length, 257)
      yield* TestClock.adjust(Alarms.PERIOD_MS)
      assert.strictEqual(lines.length, 258)
      assert.strictEqual(lines.at(-1), `${100_000 - 257} more like this, the last: x`)
    })
  )
})
