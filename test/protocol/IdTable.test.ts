import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import { IdTable } from "../../src/domain/protocol/IdTable.ts"
import { Timer, Timers } from "../../src/domain/protocol/Timers.ts"
import { TokenBucket } from "../../src/domain/protocol/TokenBucket.ts"

const id = (...bytes: ReadonlyArray<number>): Uint8Array => Uint8Array.of(...bytes)

describe("IdTable", () => {
  it("finds what a datagram begins with", () => {
    const table = new IdTable<string>()
    assert.isTrue(table.add(id(1, 2, 3, 4, 5, 6, 7, 8), "a"))
    assert.strictEqual(table.get(id(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)), "a")
    assert.strictEqual(table.get(id(1, 2, 3, 4, 5, 6, 7)), undefined)
    assert.strictEqual(table.get(id()), undefined)
    assert.strictEqual(table.size, 1)
  })

  it("tells every single bit apart", () => {
    const base = id(0x80, 0x7f, 0xff, 0, 1, 0xaa, 0x55, 0x0f)
    const table = new IdTable<string>()
    table.add(base, "a")
    for (let bit = 0; bit < 64; bit++) {
      const other = Uint8Array.from(base)
      other[bit >> 3] = (other[bit >> 3] as number) ^ (1 << (bit & 7))
      assert.strictEqual(table.get(other), undefined, `bit ${bit}`)
      table.delete(other)
      assert.strictEqual(table.size, 1, `bit ${bit}`)
    }
    assert.strictEqual(table.get(base), "a")
  })

  it("keeps the first of two ids that share 53 bits", () => {
    const table = new IdTable<string>()
    assert.isTrue(table.add(id(0, 0, 0, 0, 0, 0, 0, 0), "a"))
    assert.isFalse(table.add(id(0, 0, 0, 0, 0, 0, 0, 1), "b"))
    assert.isFalse(table.add(id(0, 0, 0, 0, 0, 0, 0, 0), "c"))
    assert.strictEqual(table.get(id(0, 0, 0, 0, 0, 0, 0, 1)), undefined)
    assert.strictEqual(table.get(id(0, 0, 0, 0, 0, 0, 0, 0)), "a")
  })

  it("keeps a copy of the id", () => {
    const table = new IdTable<number>()
    const key = id(1, 1, 1, 1, 1, 1, 1, 1)
    table.add(key, 1)
    key.fill(2)
    assert.strictEqual(table.get(id(1, 1, 1, 1, 1, 1, 1, 1)), 1)
  })

  it("behaves as a map over random ids", () => {
    const ids = fc.uint8Array({ minLength: 8, maxLength: 8 })
    const property = fc.property(fc.array(fc.tuple(ids, fc.boolean()), { maxLength: 200 }), (steps) => {
      const table = new IdTable<string>()
      const model = new Map<string, string>()
      for (const [key, remove] of steps) {
        if (remove) {
          table.delete(key)
          model.delete(hex(key))
        } else if (table.add(key, hex(key))) model.set(hex(key), hex(key))
      }
      assert.strictEqual(table.size, model.size)
      for (const [key] of steps) assert.strictEqual(table.get(key), model.get(hex(key)))
    })
    fc.assert(property, { seed: 1, numRuns: 200 })
  })
})

describe("TokenBucket", () => {
  it("gives a burst, then refills steadily and never beyond the burst", () => {
    const bucket = new TokenBucket(0, 2, 3)
    const take = (now: number, tries: number) =>
      Array.from({ length: tries }, () => bucket.take(now)).filter(Boolean).length
    assert.strictEqual(take(0, 5), 3)
    assert.strictEqual(take(499, 1), 0)
    assert.strictEqual(take(500, 2), 1)
    assert.strictEqual(take(2000, 9), 3)
    assert.strictEqual(take(1_000_000, 9), 3)
  })
})

describe("Timers", () => {
  it("answers the earliest deadline", () => {
    const timers = new Timers()
    assert.strictEqual(timers.next(), Number.POSITIVE_INFINITY)
    timers.set(Timer.Idle, 50)
    timers.set(Timer.Path, 20)
    timers.set(Timer.Loss, 30)
    assert.strictEqual(timers.next(), 20)
    assert.deepStrictEqual([timers.expired(Timer.Path, 19), timers.expired(Timer.Path, 20)], [false, true])
    timers.stop(Timer.Path)
    assert.strictEqual(timers.next(), 30)
    assert.strictEqual(timers.at(Timer.Idle), 50)
    timers.stopAll()
    assert.strictEqual(timers.next(), Number.POSITIVE_INFINITY)
  })
})
