import { assert, describe, it } from "@effect/vitest"
import { wishOf } from "../../src/domain/OfflinePhrases.ts"

describe("OfflinePhrases", () => {
  // Each of these took seconds to minutes where a pattern could try all ways to split it.
  it("long texts of one sign do not hold the program up", () => {
    const spaces = " ".repeat(100_000)
    for (const text of [
      `list${spaces}a\nb`,
      `forget job${spaces}a\nb`,
      `recall${spaces}a\nb`,
      `what is the time${spaces}\nx`,
      `x${"?".repeat(200_000)}x`
    ]) {
      assert.deepStrictEqual(wishOf(text), { _tag: "Other" })
    }
  })

  it("a text of any length can be noted and written", () => {
    const long = "word ".repeat(20_000).trim()
    assert.deepStrictEqual(wishOf(`remember that ${long}`), {
      _tag: "Call",
      tool: "memory_append",
      input: { text: long }
    })
    assert.deepStrictEqual(wishOf(`write a.txt: ${long}`), {
      _tag: "Call",
      tool: "file_write",
      input: { path: "a.txt", text: long }
    })
    assert.deepStrictEqual(wishOf("what is the time???"), { _tag: "Call", tool: "time", input: {} })
  })
})
