import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { OffsetSet } from "../../src/domain/protocol/OffsetSet.ts"

const ranges = (set: OffsetSet): ReadonlyArray<readonly [number, number]> =>
  Array.from({ length: set.count }, (_, i) => [set.start(i), set.end(i)])

describe("OffsetSet", () => {
  it("joins what touches and cuts what is removed", () => {
    const set = new OffsetSet()
    set.insert(10, 20)
    set.insert(30, 40)
    set.insert(20, 25)
    assert.deepStrictEqual(ranges(set), [
      [10, 25],
      [30, 40]
    ])
    set.insert(24, 30)
    assert.deepStrictEqual(ranges(set), [[10, 40]])
    set.remove(20, 30)
    assert.deepStrictEqual(ranges(set), [
      [10, 20],
      [30, 40]
    ])
    assert.deepStrictEqual([set.after(9), set.after(19), set.after(20), set.after(40)], [0, 0, 1, 2])
    set.remove(0, 35)
    assert.deepStrictEqual(ranges(set), [[35, 40]])
    set.insert(5, 5)
    set.remove(5, 5)
    assert.deepStrictEqual(ranges(set), [[35, 40]])
    set.clear()
    assert.strictEqual(set.count, 0)
  })

  it("is the set of its offsets", () => {
    const call = fc.record({ add: fc.boolean(), start: fc.nat(60), length: fc.nat(15) })
    fc.assert(
      fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
        const set = new OffsetSet()
        const model = new Set<number>()
        for (const { add, start, length } of calls) {
          if (add) set.insert(start, start + length)
          else set.remove(start, start + length)
          for (let i = start; i < start + length; i++) add ? model.add(i) : model.delete(i)
          const expected: Array<[number, number]> = []
          for (let i = 0; i < 80; i++) {
            if (!model.has(i)) continue
            const last = expected.at(-1)
            if (last?.[1] === i) last[1] = i + 1
            else expected.push([i, i + 1])
          }
          assert.deepStrictEqual(ranges(set), expected)
        }
      }),
      { seed: 9000, numRuns: 500 }
    )
  })
})
