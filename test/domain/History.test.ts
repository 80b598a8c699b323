import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as History from "../../src/domain/History.ts"
import type { LlmMessage } from "../../src/domain/Llm.ts"

const user = (text: string): LlmMessage => ({ role: "user", text })

const call = (id: string) => ({ id, name: "memory_search", arguments: '{"query":"x"}' })
const said = (text: string, ...ids: ReadonlyArray<string>): History.Step => ({
  _tag: "Said",
  text,
  calls: ids.map(call)
})
const result = (callId: string, text: string): History.Step => ({
  _tag: "Result",
  callId,
  name: "memory_search",
  text,
  failed: false
})

const step = fc.oneof(
  fc
    .tuple(fc.string({ maxLength: 10 }), fc.array(fc.constantFrom("a", "b", "c"), { maxLength: 2 }))
    .map(([text, ids]) => said(text, ...new Set(ids))),
  fc.tuple(fc.constantFrom("a", "b", "c"), fc.string({ maxLength: 1500 })).map(([callId, text]) => result(callId, text))
)

const exchange: fc.Arbitrary<History.Exchange> = fc.record({
  question: fc.string({ minLength: 1, maxLength: 40 }),
  answer: fc.option(fc.string({ minLength: 1, maxLength: 40 }), { nil: undefined }),
  steps: fc.array(step, { maxLength: 8 })
})

/** Every call is directly followed by one result each, and nothing else is a result. */
const assertPaired = (messages: ReadonlyArray<LlmMessage>) => {
  let open: Array<string> = []
  for (const message of messages) {
    if (message.role === "tool") {
      assert.include(open, message.callId)
      open = open.filter((id) => id !== message.callId)
      continue
    }
    assert.deepStrictEqual(open, [])
    if (message.role === "assistant") open = (message.calls ?? []).map(({ id }) => id)
  }
  assert.deepStrictEqual(open, [])
}

describe("History.turns", () => {
  it("whatever was kept: begins with the user, ends with the question, calls have their results, the budget holds", () => {
    fc.assert(
      fc.property(
        fc.array(exchange, { maxLength: 6 }),
        fc.string(),
        fc.nat(2000),
        (newestFirst, text, budgetTokens) => {
          const question = user(text)
          const messages = History.turns({ newestFirst, question, budgetTokens })
          assert.strictEqual(messages[0]?.role, "user")
          assert.deepStrictEqual(messages.at(-1), question)
          assertPaired(messages)
          for (const [index, message] of messages.entries()) {
            if (message.role === "assistant") assert.notStrictEqual(messages[index - 1]?.role, "assistant")
          }
          if (messages.length > 1) assert.isAtMost(History.cost(messages), budgetTokens)
          // Whole exchanges, the newest, without gaps.
          const questions = messages.slice(0, -1).flatMap((each) => (each.role === "user" ? [each.text] : []))
          assert.deepStrictEqual(
            questions,
            newestFirst
              .slice(0, questions.length)
              .map((each) => each.question)
              .reverse()
          )
        }
      ),
      { seed: 20_260_101, numRuns: 500 }
    )
  })

  it("drops the oldest exchanges, and never a piece", () => {
    const newestFirst = [
      { question: "cccc", answer: "CCCC" },
      { question: "b".repeat(24).concat(" ").repeat(16), answer: undefined },
      { question: "a", answer: "A" }
    ]
    const question = user("now?")
    const whole = History.turns({ newestFirst, question, budgetTokens: 1000 })
    assert.deepStrictEqual(
      whole.map(({ text }) => text.slice(0, 4)),
      ["a", "A", "bbbb", "cccc", "CCCC", "now?"]
    )
    const tight = (budgetTokens: number) => History.turns({ newestFirst, question, budgetTokens }).length
    assert.deepStrictEqual(
      [tight(History.cost(whole)), tight(History.cost(whole) - 1), tight(40), tight(16), tight(15), tight(0)],
      [6, 4, 3, 3, 1, 1]
    )
  })

  it("lets the newest exchange pass the budget up to the limit, and no other", () => {
    const long = { question: "why?", answer: "because ".repeat(100) }
    const turns = (limitTokens: number) =>
      History.turns({ newestFirst: [long, long], question: user("shorter"), budgetTokens: 50, limitTokens })
    assert.strictEqual(turns(10_000).length, 3)
    assert.strictEqual(turns(60).length, 1)
  })

  it("tells what was called and what came of it, once; what never ended is told as not known", () => {
    const messages = History.turns({
      newestFirst: [
        {
          question: "find it",
          created: 1000,
          steps: [
            { _tag: "Said", text: "Let me look.", reasoning: "hm", calls: [call("1")] },
            result("1", "found"),
            result("1", "found twice"),
            said("And there.", "1", "2"),
            result("2", "also found"),
            result("9", "of nobody")
          ],
          answer: "Let me look.\n\nAnd there.\n\nBoth."
        }
      ],
      question: user("thanks"),
      budgetTokens: 1000,
      at: (ms) => `at ${ms}`
    })
    const unknown = "it is not known whether this was carried out: the program ended meanwhile"
    assert.deepStrictEqual(messages, [
      { role: "user", text: "find it", at: "at 1000" },
      { role: "assistant", text: "Let me look.", calls: [call("1")] },
      { role: "tool", callId: "1", name: "memory_search", text: "found", failed: false },
      { role: "assistant", text: "And there.", calls: [call("1"), call("2")] },
      { role: "tool", callId: "2", name: "memory_search", text: "also found", failed: false },
      { role: "tool", callId: "1", name: "memory_search", text: unknown, failed: true },
      { role: "assistant", text: "Both." },
      { role: "user", text: "thanks" }
    ])
  })

  it("shortens long results of older exchanges before it drops any", () => {
    const searched = (n: number): History.Exchange => ({
      question: `q${n}`,
      steps: [said("", "1"), result("1", `${n} `.repeat(2000))],
      answer: `a${n}`
    })
    const newestFirst = [searched(3), searched(2), searched(1)]
    const question = user("now")
    const results = (budgetTokens: number) =>
      History.turns({ newestFirst, question, budgetTokens }).flatMap((each) =>
        each.role === "tool" ? [each.text.length] : []
      )
    const note = "\n[shortened: the result had 4000 characters]"
    assert.deepStrictEqual(results(100_000), [4000, 4000, 4000])
    assert.deepStrictEqual(results(3000), [500 + note.length, 500 + note.length, 4000])
    assert.deepStrictEqual(results(1000), [500 + note.length, 500 + note.length, 500 + note.length])
    assert.deepStrictEqual(results(400), [500 + note.length])
    const [first] = History.turns({ newestFirst, question, budgetTokens: 3000 }).filter(({ role }) => role === "tool")
    assert.isTrue(first?.text.endsWith(note))
  })

  it("begins with the summary, says what is not sent again, and each request begins as the one before did", () => {
    const photo = { name: "cat.png", mediaType: "image/png", bytes: new Uint8Array(3) }
    const first: History.Exchange = { question: "what is it?", attachments: [photo], answer: "a cat" }
    const question = user("sure?")
    const turns = (newestFirst: ReadonlyArray<History.Exchange>) =>
      History.turns({ newestFirst, question, budgetTokens: 5000, summary: "They met a dog before." })
    const [summary, ...rest] = turns([first])
    assert.strictEqual(summary?.role, "user")
    assert.include(summary?.text, "They met a dog before.")
    assert.deepStrictEqual(rest, [
      { role: "user", text: "what is it?", attachments: [photo] },
      { role: "assistant", text: "a cat" },
      question
    ])
    const [, old] = turns([{ ...first, attachments: [{ ...photo, bytes: new Uint8Array() }] }])
    assert.deepStrictEqual(old, user("what is it?\n[cat.png was attached here; it is not sent again]"))
    const later = turns([{ question: "sure?", answer: "yes" }, first])
    assert.deepStrictEqual(later.slice(0, 4), turns([first]))
  })
})
