import { assert, describe, expect, it } from "@effect/vitest"
import * as Table from "./Table.ts"

describe("Goodput", () => {
  const table = Table.make()

  it("is what the table says", async () => {
    await expect(table.text).toMatchFileSnapshot("table.txt")
  })

  it("is at least what the project promises", () => {
    assert.deepStrictEqual(table.misses, [])
  })
})
