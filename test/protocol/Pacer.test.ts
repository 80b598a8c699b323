import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { Controller } from "../../src/domain/protocol/Congestion.ts"
import { NewReno } from "../../src/domain/protocol/NewReno.ts"
import { Pacer } from "../../src/domain/protocol/Pacer.ts"

const DATAGRAM = 1200

const paced = (rate: number): { controller: Controller & { rate: number }; pacer: Pacer } => {
  class Fixed extends NewReno {
    rate = rate
    override pacingRate(): number {
      return this.rate
    }
  }
  const controller = new Fixed(DATAGRAM)
  return { controller, pacer: new Pacer(controller, DATAGRAM) }
}

/** Sends as often as allowed at one moment, `limit` times at most. */
const burst = (pacer: Pacer, now: number, limit = 10_000): number => {
  let count = 0
  while (count < limit && pacer.delayUntil(now, DATAGRAM) <= now) {
    pacer.onSent(now, DATAGRAM)
    count++
  }
  return count
}

describe("Pacer", () => {
  it("lets ten datagrams leave at once, then one per its share of time", () => {
    const { pacer } = paced(100)
    assert.strictEqual(burst(pacer, 1000), 10)
    assert.strictEqual(pacer.delayUntil(1000, DATAGRAM), 1012)
    assert.strictEqual(pacer.delayUntil(1000, 600), 1006)
    assert.strictEqual(burst(pacer, 1011.9), 0)
    assert.strictEqual(burst(pacer, 1012), 1)
    assert.strictEqual(pacer.delayUntil(1012, DATAGRAM), 1024)
  })

  it("a burst is two milliseconds' worth where that is more", () => {
    assert.strictEqual(burst(paced(60_000).pacer, 0), 100)
  })

  it("a burst is bounded", () => {
    assert.strictEqual(burst(paced(1e9).pacer, 0), Math.ceil(524_288 / DATAGRAM))
  })

  it("does not save up while idle", () => {
    const { pacer } = paced(100)
    burst(pacer, 0)
    assert.strictEqual(burst(pacer, 3_600_000), 10)
  })

  it("a datagram longer than a burst leaves from a full bucket", () => {
    const { pacer } = paced(100)
    assert.strictEqual(pacer.delayUntil(0, 65_000), 0)
    pacer.onSent(0, 65_000)
    assert.strictEqual(pacer.delayUntil(0, DATAGRAM), 65_000 / 100 - 120 + 12)
  })

  it("a burst of large datagrams is 128 kB, at least two", () => {
    const { controller } = paced(1)
    const count = (size: number): number => {
      const pacer = new Pacer(controller, size)
      let sent = 0
      while (pacer.delayUntil(0, size) <= 0) {
        pacer.onSent(0, size)
        sent++
      }
      return sent
    }
    assert.deepStrictEqual([9000, 16_000, 32_000, 65_504, 131_000].map(count), [10, 8, 4, 2, 2])
  })

  it("follows the rate", () => {
    const { controller, pacer } = paced(100)
    burst(pacer, 0)
    controller.rate = 1000
    assert.strictEqual(pacer.delayUntil(0, DATAGRAM), 1.2)
  })

  it("starts afresh on another path, and with larger datagrams", () => {
    const { controller, pacer } = paced(100)
    burst(pacer, 0)
    pacer.reset(controller, DATAGRAM)
    assert.strictEqual(burst(pacer, 0), 10)
    pacer.setMaxDatagram(2400)
    assert.strictEqual(burst(pacer, 1000), 20)
  })

  it("the time it answers is one at which it allows, on any clock", () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 2e12, noNaN: true }),
        fc.double({ min: 0.01, max: 1e6, noNaN: true }),
        fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 50, maxLength: 100 }),
        (start, rate, sizes) => {
          const { pacer } = paced(rate)
          let now = start
          for (const size of sizes) {
            const at = pacer.delayUntil(now, size)
            assert.isAtLeast(at, now)
            assert.strictEqual(pacer.delayUntil(at, size), at)
            now = at
            pacer.onSent(now, size)
          }
        }
      ),
      { seed: 9002, numRuns: 300 }
    )
  })

  it("over any time no more leaves than the rate and one burst", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5000 }),
        fc.array(fc.integer({ min: 0, max: 50 }), { maxLength: 100 }),
        (rate, waits) => {
          const { pacer } = paced(rate)
          let now = 0
          let sent = 0
          for (const wait of waits) {
            now += wait
            sent += burst(pacer, now) * DATAGRAM
            assert.isAtMost(sent, now * rate + Math.max(10 * DATAGRAM, 2 * rate) + waits.length)
          }
        }
      ),
      { seed: 9002, numRuns: 300 }
    )
  })
})
