import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { type Deadline, DeadlineHeap } from "../../src/domain/protocol/DeadlineHeap.ts"

const NEVER = Number.POSITIVE_INFINITY

interface Owner extends Deadline {
  readonly name: number
}

const owners = (count: number): ReadonlyArray<Owner> =>
  Array.from({ length: count }, (_, name) => ({ name, deadline: NEVER, heapIndex: -1 }))

describe("DeadlineHeap", () => {
  it("knows the earliest, and forgets what is set to never", () => {
    const heap = new DeadlineHeap<Owner>()
    const [a, b] = owners(2) as [Owner, Owner]
    assert.strictEqual(heap.earliest, NEVER)
    heap.set(a, 5)
    heap.set(b, 3)
    assert.strictEqual(heap.earliest, 3)
    assert.isUndefined(heap.expired(2.9))
    assert.strictEqual(heap.expired(3), b)
    heap.set(b, NEVER)
    heap.set(b, NEVER)
    assert.strictEqual(heap.earliest, 5)
    heap.set(a, NEVER)
    assert.strictEqual(heap.earliest, NEVER)
    assert.deepStrictEqual([a.heapIndex, b.heapIndex], [-1, -1])
  })

  it("is a sorted list, whatever is set", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat({ max: 19 }), fc.oneof(fc.nat({ max: 50 }), fc.constant(NEVER))), { maxLength: 300 }),
        (sets) => {
          const heap = new DeadlineHeap<Owner>()
          const all = owners(20)
          const known = new Map<number, number>()
          for (const [name, deadline] of sets) {
            heap.set(all[name] as Owner, deadline)
            if (deadline === NEVER) known.delete(name)
            else known.set(name, deadline)
            assert.strictEqual(heap.earliest, Math.min(NEVER, ...known.values()))
          }
          const drained: Array<number> = []
          for (let first = heap.expired(50); first !== undefined; first = heap.expired(50)) {
            drained.push(first.deadline)
            heap.set(first, NEVER)
          }
          assert.deepStrictEqual(
            drained,
            [...known.values()].sort((x, y) => x - y)
          )
        }
      ),
      { seed: 77, numRuns: 500 }
    )
  })
})
