import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { Redundancy } from "../../src/domain/protocol/Redundancy.ts"

const RTT = 50
const NEVER = Number.POSITIVE_INFINITY

/** One that has seen a loss. */
const lossy = (): Redundancy<string> => {
  const machine = new Redundancy<string>()
  machine.onLost(0)
  return machine
}

describe("Redundancy", () => {
  it("does nothing while nothing is lost", () => {
    const machine = new Redundancy<string>()
    for (let i = 0; i < 1000; i++) {
      machine.onSent(i, i, 100, "a", RTT)
      machine.onAcked(i)
    }
    assert.isFalse(machine.active)
    assert.strictEqual(machine.deadline, NEVER)
    assert.deepStrictEqual(machine.poll(1e9), [])
  })

  it("copies what left, a moment after the first of it", () => {
    const machine = lossy()
    machine.onSent(100, 1, 64, "a", RTT)
    assert.strictEqual(machine.deadline, 110)
    machine.onSent(105, 2, 64, "b", RTT)
    assert.strictEqual(machine.deadline, 110)
    assert.deepStrictEqual(machine.poll(109.9), [])
    assert.deepStrictEqual(machine.poll(110), ["a", "b"])
    assert.strictEqual(machine.deadline, NEVER)
    assert.deepStrictEqual(machine.poll(110), [])
  })

  it("waits a quarter of the round trip, from 1 to 10 ms", () => {
    for (const [rtt, wait] of [
      [0.1, 1],
      [4, 1],
      [20, 5],
      [40, 10],
      [300, 10]
    ] as const) {
      const machine = lossy()
      machine.onSent(1000, 1, 64, "a", rtt)
      assert.strictEqual(machine.deadline, 1000 + wait)
    }
  })

  it("a packet whose fate is known needs no copy", () => {
    const machine = lossy()
    machine.onSent(0, 1, 64, "a", RTT)
    machine.onSent(1, 2, 64, "b", RTT)
    machine.onSent(2, 3, 64, "c", RTT)
    machine.onAcked(2)
    machine.onLost(3)
    machine.onAcked(99)
    assert.deepStrictEqual(machine.poll(10), ["a"])
    machine.onSent(20, 4, 64, "d", RTT)
    machine.onAcked(4)
    assert.deepStrictEqual(machine.poll(30), [])
  })

  it("stops after 200 packets without a loss", () => {
    const machine = lossy()
    for (let i = 1; i < 200; i++) machine.onAcked(i)
    assert.isTrue(machine.active)
    machine.onSent(0, 500, 64, "a", RTT)
    machine.onAcked(200)
    assert.isFalse(machine.active)
    assert.strictEqual(machine.deadline, NEVER)
    assert.deepStrictEqual(machine.poll(1000), [])
    machine.onLost(201)
    assert.isTrue(machine.active)
  })

  it("leaves trains alone, to their last packet", () => {
    for (const [packets, bytes] of [
      [9, 64],
      [4, 1200],
      [100, 1200]
    ] as const) {
      const machine = lossy()
      for (let i = 0; i < packets; i++) machine.onSent(0, 1 + i, bytes, "x", RTT)
      machine.onSent(9, 1000, 48, "tail", RTT)
      assert.deepStrictEqual(machine.poll(10), [])
      machine.onSent(11, 1001, 48, "later", RTT)
      assert.deepStrictEqual(machine.poll(21), ["later"])
    }
    const machine = lossy()
    for (let i = 0; i < 3; i++) machine.onSent(0, 1 + i, 1200, "abc"[i] as string, RTT)
    assert.deepStrictEqual(machine.poll(10), ["a", "b", "c"])
  })

  it("clears", () => {
    const machine = lossy()
    machine.onSent(0, 1, 64, "a", RTT)
    machine.clear()
    assert.isFalse(machine.active)
    assert.strictEqual(machine.deadline, NEVER)
    assert.deepStrictEqual(machine.poll(100), [])
  })

  it("copies each packet at most once, few at a time, and only what it was given", () => {
    const call = fc.record({
      what: fc.integer({ min: 0, max: 3 }),
      number: fc.integer({ min: 0, max: 100 }),
      bytes: fc.integer({ min: 48, max: 1500 }),
      wait: fc.integer({ min: 0, max: 12 })
    })
    fc.assert(
      fc.property(fc.array(call, { maxLength: 300 }), (calls) => {
        const machine = new Redundancy<{ readonly number: number; readonly bytes: number }>()
        const open = new Set<number>()
        let now = 0
        let next = 0
        for (const { what, number, bytes, wait } of calls) {
          now += wait
          if (what === 0) {
            open.add(next)
            machine.onSent(now, next, bytes, { number: next, bytes }, RTT)
            next++
          } else if (what === 1) {
            open.delete(number)
            machine.onAcked(number)
          } else if (what === 2) {
            open.delete(number)
            machine.onLost(number)
          } else {
            const due = machine.poll(now)
            assert.isAbove(machine.deadline, now)
            assert.isAtMost(due.length, 8)
            assert.isAtMost(
              due.reduce((sum, packet) => sum + packet.bytes, 0),
              3600
            )
            for (const packet of due) assert.isTrue(open.delete(packet.number), `packet ${packet.number}`)
          }
        }
      }),
      { seed: 2198, numRuns: 500 }
    )
  })
})
