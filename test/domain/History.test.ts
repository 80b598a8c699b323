import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as History from "../../src/domain/History.ts"

const exchange = fc.record({
  question: fc.string({ minLength: 1, maxLength: 40 }),
  answer: fc.option(fc.string({ minLength: 1, maxLength: 40 }), { nil: undefined })
})

describe("History.turns", () => {
  it("begins and ends with the user, answers follow their questions, and the budget holds", () => {
    fc.assert(
      fc.property(fc.array(exchange), fc.string({ maxLength: 40 }), fc.nat(200), (newestFirst, question, budget) => {
        const turns = History.turns(newestFirst, question, budget)
        assert.strictEqual(turns[0]?.role, "user")
        assert.deepStrictEqual(turns.at(-1), { role: "user", text: question })
        for (const [index, turn] of turns.entries()) {
          if (turn.role === "assistant") assert.strictEqual(turns[index - 1]?.role, "user")
        }
        const tokens = turns.reduce((sum, turn) => sum + History.estimateTokens(turn.text), 0)
        if (turns.length > 1) assert.isAtMost(tokens, budget)
        const all = [...newestFirst].reverse().flatMap((one) => [one.question, ...(one.answer ? [one.answer] : [])])
        assert.deepStrictEqual(
          turns.map(({ text }) => text),
          [...all, question].slice(-turns.length)
        )
      }),
      { seed: 20_260_101, numRuns: 500 }
    )
  })

  it("keeps as much as fits and never a piece", () => {
    const newestFirst = [
      { question: "c".repeat(4), answer: "C".repeat(4) },
      { question: "b".repeat(400), answer: undefined },
      { question: "a", answer: "A" }
    ]
    assert.strictEqual(History.turns(newestFirst, "now", 3).length, 3)
    assert.strictEqual(History.turns(newestFirst, "now", 2).length, 1)
    assert.strictEqual(History.turns(newestFirst, "now", 102).length, 3)
    assert.strictEqual(History.turns(newestFirst, "now", 103).length, 4)
    assert.strictEqual(History.turns(newestFirst, "now", 105).length, 6)
  })
})

describe("History.alternate", () => {
  it("joins neighbours of one role", () => {
    assert.deepStrictEqual(
      History.alternate([
        { role: "user", text: "a" },
        { role: "user", text: "b" },
        { role: "assistant", text: "c" },
        { role: "user", text: "d" }
      ]),
      [
        { role: "user", text: "a\n\nb" },
        { role: "assistant", text: "c" },
        { role: "user", text: "d" }
      ]
    )
    assert.deepStrictEqual(History.alternate([]), [])
  })
})
