import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Printable from "../../src/domain/Printable.ts"

const cases: ReadonlyArray<readonly [string, string, string]> = [
  ["plain text", "a\tb\nc", "a\tb\nc"],
  ["colours", "\x1b[31mred\x1b[0m", "red"],
  ["clear and home", "a\x1b[2J\x1b[Hb", "ab"],
  ["private modes", "\x1b[?1049hx", "x"],
  ["an 8-bit CSI", "\x9b31mred", "red"],
  ["a window title", "\x1b]0;evil\x07x", "]0;evilx"],
  ["a device string", "\x1bPq#0\x1b\\x", "Pq#0\\x"],
  ["a full reset", "\x1bcx", "cx"],
  ["a sequence that breaks off", "\x1b[31\nx", "\nx"],
  ["a sequence in a sequence", "\x1b[3\x1b[31mx", "x"],
  ["a carriage return", "safe\revil", "safeevil"],
  ["backspaces and bells", "a\b\b\x07b", "ab"],
  ["DEL and C1", "a\x7f\x80\x85\x9d\x9fb", "ab"],
  ["overrides", "a\u202eb\u202cc\u2066d\u2069e\u202af\u2067g\u2068h", "abcdefgh"],
  ["letters of all kinds", "naïve 日本語 עברית 🦀", "naïve 日本語 עברית 🦀"],
  ["half a character", "a\ud83db", "a\ufffdb"],
  ["the other half", "a\ude00b", "a\ufffdb"],
  ["half at the end", "a\ud83d", "a\ufffd"]
]

const fragments = fc.array(
  fc.constantFrom(
    "a",
    "\n",
    "\t",
    "\x1b",
    "[",
    "3",
    ";",
    "m",
    "\x9b",
    "\x07",
    "\u202e",
    "\ud83d",
    "\ude00",
    "\x1b[",
    "\r"
  )
)

describe("Printable", () => {
  for (const [name, given, wanted] of cases) {
    it(name, () => {
      assert.strictEqual(Printable.clean(given), wanted)
      for (let at = 0; at <= given.length; at++) {
        const filter = new Printable.Filter()
        const parts = filter.push(given.slice(0, at)) + filter.push(given.slice(at)) + filter.end()
        assert.strictEqual(parts, wanted, `cut at ${at}`)
      }
    })
  }

  it("lets nothing through that steers, however the text is cut", () => {
    fc.assert(
      fc.property(fragments, (parts) => {
        const filter = new Printable.Filter()
        const out = parts.map((part) => filter.push(part)).join("") + filter.end()
        assert.strictEqual(out, Printable.clean(parts.join("")))
        // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
        assert.notMatch(out, /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/)
        assert.isTrue(out.isWellFormed())
      }),
      { seed: 1, numRuns: 500 }
    )
  })

  it("puts a text on one line", () => {
    assert.strictEqual(Printable.line(" a\r\nb\n\nc\td\u2028e\x1b[1m "), "a b c d e")
  })

  it("escapes in JSON what could steer, and loses nothing", () => {
    const value = { text: "a\x9b31m\u202e\x1b[2J\x7fé" }
    const json = Printable.json(value)
    assert.strictEqual(json, '{"text":"a\\u009b31m\\u202e\\u001b[2J\\u007fé"}')
    assert.deepStrictEqual(JSON.parse(json), value)
  })
})
