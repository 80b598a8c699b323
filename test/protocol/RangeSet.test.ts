import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { type Range, RangeSet } from "../../src/domain/protocol/RangeSet.ts"

const RUNS = { seed: 71, numRuns: 1000 }

/** The obvious set: every number on its own, ranges found by looking. */
class SlowSet {
  readonly capacity: number
  values = new Set<number>()

  constructor(capacity: number) {
    this.capacity = capacity
  }

  ranges(): Array<Range> {
    const out: Array<Range> = []
    for (const value of [...this.values].sort((a, b) => b - a)) {
      const last = out.at(-1)
      if (last !== undefined && last.start === value + 1) out[out.length - 1] = { start: value, end: last.end }
      else out.push({ start: value, end: value })
    }
    return out
  }

  insert(start: number, end: number): boolean {
    const before = new Set(this.values)
    for (let value = start; value <= end; value++) this.values.add(value)
    if (this.ranges().length <= this.capacity) return true
    this.values = before
    return false
  }

  removeBelow(bound: number): void {
    this.values = new Set([...this.values].filter((value) => value >= bound))
  }

  dropLowest(): void {
    const lowest = this.ranges().at(-1)
    if (lowest !== undefined) this.removeBelow(lowest.end + 1)
  }
}

type Step =
  | { readonly type: "insert"; readonly start: number; readonly length: number }
  | { readonly type: "removeBelow"; readonly bound: number }
  | { readonly type: "dropLowest" }

const steps = fc.array(
  fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({ type: fc.constant("insert" as const), start: fc.nat(90), length: fc.nat(12) })
    },
    { weight: 1, arbitrary: fc.record({ type: fc.constant("removeBelow" as const), bound: fc.nat(90) }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant("dropLowest" as const) }) }
  ),
  { maxLength: 40 }
)

const walk = (set: RangeSet): Array<Range> =>
  Array.from({ length: set.count }, (_, i) => ({ start: set.startAt(i), end: set.endAt(i) }))

describe("RangeSet", () => {
  it("does what the slow set does", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 8 }), steps, (capacity, script: ReadonlyArray<Step>) => {
        const fast = new RangeSet(capacity)
        const slow = new SlowSet(capacity)
        for (const step of script) {
          switch (step.type) {
            case "insert": {
              const end = step.start + step.length - 1
              assert.strictEqual(fast.insert(step.start, end), slow.insert(step.start, end))
              break
            }
            case "removeBelow":
              fast.removeBelow(step.bound)
              slow.removeBelow(step.bound)
              break
            case "dropLowest":
              fast.dropLowest()
              slow.dropLowest()
              break
          }
          const expected = slow.ranges()
          assert.deepStrictEqual(fast.ranges(), expected)
          assert.deepStrictEqual(walk(fast), expected)
          assert.strictEqual(fast.highest, expected[0]?.end ?? -1)
          assert.strictEqual(fast.lowest, expected.at(-1)?.start ?? -1)
          for (let value = 0; value < 105; value++) assert.strictEqual(fast.has(value), slow.values.has(value))
        }
      }),
      RUNS
    )
  })

  it("joins neighbours and bridges holes", () => {
    const set = new RangeSet(4)
    set.insert(1, 2)
    set.insert(4, 5)
    set.insert(7, 8)
    set.insert(3, 3)
    assert.deepStrictEqual(set.ranges(), [
      { start: 7, end: 8 },
      { start: 1, end: 5 }
    ])
    set.insert(0, 100)
    assert.deepStrictEqual(set.ranges(), [{ start: 0, end: 100 }])
  })

  it("refuses one range too many and stays as it was, but still joins", () => {
    const set = new RangeSet(2)
    assert.isTrue(set.insert(10, 11))
    assert.isTrue(set.insert(20, 21))
    for (const at of [0, 15, 30]) assert.isFalse(set.insert(at, at))
    assert.isTrue(set.insert(12, 19))
    assert.deepStrictEqual(set.ranges(), [{ start: 10, end: 21 }])
  })

  it("is exact at the end of the safe integers", () => {
    const set = new RangeSet(2)
    const top = Number.MAX_SAFE_INTEGER
    set.insert(top, top)
    set.insert(top - 1, top - 1)
    assert.deepStrictEqual(set.ranges(), [{ start: top - 1, end: top }])
    set.removeBelow(top)
    assert.deepStrictEqual(set.ranges(), [{ start: top, end: top }])
  })

  it("empties", () => {
    const set = new RangeSet(2)
    set.insert(5, 9)
    set.clear()
    assert.strictEqual(set.count, 0)
    assert.strictEqual(set.highest, -1)
    assert.isFalse(set.has(7))
    set.dropLowest()
    set.removeBelow(3)
    assert.deepStrictEqual(set.ranges(), [])
  })
})
