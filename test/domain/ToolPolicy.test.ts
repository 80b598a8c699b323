import { assert, describe, it } from "@effect/vitest"
import * as ToolPolicy from "../../src/domain/ToolPolicy.ts"

const risks = ["free", "guarded", "dangerous", "always"] as const

/** What is decided for each risk, in order. */
const row = (options: Partial<Omit<ToolPolicy.Situation, "risk">>) =>
  risks
    .map(
      (risk) =>
        ToolPolicy.judge({ risk, tool: "t", tainted: false, granted: false, unattended: undefined, ...options })._tag
    )
    .join(" ")

describe("ToolPolicy", () => {
  it("is a table", () => {
    assert.strictEqual(row({}), "Run Run Ask Ask")
    assert.strictEqual(row({ tainted: true }), "Run Ask Ask Ask")
    assert.strictEqual(row({ granted: true }), "Run Run Run Ask")
    assert.strictEqual(row({ granted: true, tainted: true }), "Run Run Run Ask")
    assert.strictEqual(row({ unattended: new Set() }), "Refuse Refuse Refuse Refuse")
    assert.strictEqual(row({ unattended: new Set(["t"]) }), "Run Run Run Refuse")
    assert.strictEqual(row({ unattended: new Set(["t"]), tainted: true, granted: true }), "Run Run Run Refuse")
    assert.strictEqual(row({ unattended: new Set(["T"]), granted: true }), "Refuse Refuse Refuse Refuse")
  })

  it("never becomes milder by what was read", () => {
    const order = ["Run", "Ask", "Refuse"]
    for (const granted of [false, true]) {
      for (const unattended of [undefined, new Set<string>(), new Set(["t"])]) {
        const clean = row({ granted, unattended }).split(" ")
        const tainted = row({ granted, unattended, tainted: true }).split(" ")
        for (const [index, verdict] of clean.entries()) {
          assert.isAtLeast(order.indexOf(tainted[index] ?? ""), order.indexOf(verdict))
        }
      }
    }
  })

  it("offers no grant for what is always asked", () => {
    assert.deepStrictEqual(ToolPolicy.decisions("always"), ["once", "deny"])
    assert.deepStrictEqual(ToolPolicy.decisions("dangerous"), ["once", "conversation", "deny"])
  })
})
