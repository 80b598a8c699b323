import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as SearchWords from "../../src/domain/SearchWords.ts"

/** Any UTF-16 unit, halves of pairs among them. */
const unit = fc.oneof(fc.nat(0x7f), fc.nat(0xffff)).map((code) => String.fromCharCode(code))

describe("SearchWords", () => {
  it("tells words from pieces, and what is none from both", () => {
    assert.deepStrictEqual(SearchWords.parse(' "foo*  bär OR 東京 -> \u0000 2026-01-01', 16), {
      beginnings: ['"foo*', "bär", "OR", "2026-01-01"],
      pieces: ["東京", "->"]
    })
    assert.deepStrictEqual(SearchWords.parse("a b c", 2), { beginnings: ["a", "b"], pieces: [] })
    for (const none of ["", "  \n\t ", "\u0000\u200b"]) assert.isUndefined(SearchWords.parse(none, 16))
  })

  it("shows the first word where it was found, whatever its case and accents", () => {
    const long = `${"before ".repeat(40)}a Café there ${"after ".repeat(40)}`
    const shown = (text: string) =>
      SearchWords.excerpt(long, SearchWords.parse(text, 16) ?? { beginnings: [], pieces: [] }, 200)
    for (const text of ["cafe", "CAFÉ there", "caf"]) {
      assert.match(shown(text), /^….*before a Café there after.*…$/)
    }
    assert.match(shown("fé"), /^before .*…$/)
    const query = { beginnings: ["x"], pieces: [] }
    assert.strictEqual(SearchWords.excerpt("one\n\u001b[31mx\u0007 two", query, 200), "one x two")
  })

  it("any text, any query: at most so many characters on one line, and no failure", () => {
    fc.assert(
      fc.property(fc.string({ unit, maxLength: 150 }), fc.string({ unit }), (text, search) => {
        const query = SearchWords.parse(search, 16)
        if (query === undefined) return
        const shown = SearchWords.excerpt(text, query, 100)
        assert.isAtMost(shown.length, 100)
        for (const control of ["\n", "\u0000", "\u001b"]) assert.notInclude(shown, control)
        assert.isTrue(shown.isWellFormed())
      }),
      { seed: 20_260_103, numRuns: 150 }
    )
  })
})
