import { assert, describe, it } from "@effect/vitest"
import { Rtt } from "../../src/domain/protocol/Rtt.ts"

describe("Rtt (RFC 9002 section 5)", () => {
  it("starts from the initial RTT: a PTO of 1024 ms with 25 ms of acknowledgement delay", () => {
    const rtt = new Rtt()
    assert.isFalse(rtt.hasSample)
    assert.strictEqual(rtt.smoothed, 333)
    assert.strictEqual(rtt.variance, 166.5)
    assert.strictEqual(rtt.pto(25), 333 + 4 * 166.5 + 25)
  })

  it("takes the first sample whole, whatever delay the peer reports", () => {
    const rtt = new Rtt()
    rtt.update(100, 25)
    assert.isTrue(rtt.hasSample)
    assert.deepStrictEqual([rtt.latest, rtt.min, rtt.smoothed, rtt.variance], [100, 100, 100, 50])
    assert.strictEqual(rtt.pto(25), 325)
  })

  it("subtracts the delay from later samples", () => {
    const rtt = new Rtt()
    rtt.update(100, 0)
    rtt.update(140, 20)
    assert.deepStrictEqual([rtt.latest, rtt.min, rtt.smoothed, rtt.variance], [140, 100, 102.5, 42.5])
  })

  it("does not subtract a delay that would fall below the minimum", () => {
    const rtt = new Rtt()
    rtt.update(100, 0)
    rtt.update(110, 20)
    assert.deepStrictEqual([rtt.latest, rtt.min, rtt.smoothed, rtt.variance], [110, 100, 101.25, 40])
  })

  it("follows a falling minimum without the delay", () => {
    const rtt = new Rtt()
    rtt.update(100, 0)
    rtt.update(60, 25)
    assert.deepStrictEqual([rtt.latest, rtt.min, rtt.smoothed, rtt.variance], [60, 60, 95, 47.5])
  })

  it("keeps the PTO above the granularity on a path without variation", () => {
    const rtt = new Rtt()
    for (let i = 0; i < 200; i++) rtt.update(10, 0)
    assert.approximately(rtt.pto(0), 11, 1e-9)
  })

  it("takes a clock that went back for no time at all", () => {
    const rtt = new Rtt()
    rtt.update(-5, 0)
    assert.deepStrictEqual([rtt.latest, rtt.min, rtt.smoothed], [0, 0, 0])
    assert.strictEqual(rtt.pto(25), 26)
  })

  it("forgets everything on another path", () => {
    const rtt = new Rtt()
    rtt.update(100, 0)
    rtt.reset()
    assert.deepStrictEqual({ ...rtt }, { ...new Rtt() })
  })
})
