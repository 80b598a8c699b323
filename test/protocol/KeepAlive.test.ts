import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { KEEP_ALIVE_MAX_MS, KEEP_ALIVE_MIN_MS } from "../../src/domain/protocol/Constants.ts"
import { KeepAlive } from "../../src/domain/protocol/KeepAlive.ts"

/** Keep-alives through a NAT that forgets after `forgetsMs` of silence: the intervals used, and how many were lost. */
const live = (machine: KeepAlive, forgetsMs: number, times: number) => {
  const used: Array<number> = []
  let lost = 0
  for (let i = 0; i < times; i++) {
    const silence = machine.intervalMs
    used.push(silence)
    if (silence < forgetsMs) machine.onKept(silence)
    else {
      lost++
      machine.onLost(silence)
    }
  }
  return { used, lost }
}

describe("KeepAlive", () => {
  for (const [forgets, least, losses] of [
    [20_000, 17_000, 3],
    [30_000, 26_000, 3],
    [45_000, 39_000, 3],
    [90_000, 79_000, 3],
    [600_000, 119_000, 0]
  ] as const) {
    it(`comes close to what a NAT keeps that forgets after ${forgets / 1000} s, and loses it rarely`, () => {
      const machine = new KeepAlive(15_000, Number.POSITIVE_INFINITY)
      const { used, lost } = live(machine, forgets, 200)
      assert.isAtMost(lost, losses)
      const settled = used.slice(-20)
      assert.isTrue(settled.every((interval) => interval === settled[0] && interval < forgets && interval >= least))
      assert.isAtMost(Math.max(...used), KEEP_ALIVE_MAX_MS)
    })
  }

  it("goes down where what is configured is too long, to ten seconds at least", () => {
    assert.isBelow(live(new KeepAlive(60_000, 200_000), 20_000, 60).used.at(-1) ?? 0, 20_000)
    const hopeless = live(new KeepAlive(60_000, 200_000), 5000, 60)
    assert.strictEqual(hopeless.used.at(-1), KEEP_ALIVE_MIN_MS)
  })

  it("starts with what is configured, and uses nothing longer than what works but once at a time", () => {
    const machine = new KeepAlive(15_000, Number.POSITIVE_INFINITY)
    const { used } = live(machine, 45_000, 100)
    assert.deepStrictEqual(used.slice(0, 3), [15_000, 15_000, 15_000])
    let works = 15_000
    for (const [i, interval] of used.entries()) {
      if (interval <= works) continue
      assert.isAtMost(interval, works * 1.25)
      if (interval < 45_000) works = interval
      else assert.strictEqual(used[i + 1], works)
    }
  })

  it("adapts when another NAT comes, and starts anew when told", () => {
    const machine = new KeepAlive(15_000, Number.POSITIVE_INFINITY)
    live(machine, 90_000, 100)
    const { used, lost } = live(machine, 25_000, 60)
    assert.isAtMost(lost, 8)
    assert.isBelow(used.at(-1) ?? 0, 25_000)
    assert.isAtLeast(used.at(-1) ?? 0, 15_000)
    machine.reset()
    assert.strictEqual(machine.intervalMs, 15_000)
  })

  it("keeps below what the idle time-out allows, and learns nothing from short silences", () => {
    const machine = new KeepAlive(15_000, 28_000)
    assert.strictEqual(live(machine, 600_000, 100).used.at(-1), 28_000)
    const other = new KeepAlive(15_000, 100_000)
    for (let i = 0; i < 100; i++) other.onKept(10_000)
    assert.strictEqual(other.intervalMs, 15_000)
  })

  it("leaves alone what is no interval for a NAT", () => {
    for (const start of [1000, 5000, 200_000, Number.POSITIVE_INFINITY]) {
      const machine = new KeepAlive(start, 100_000)
      live(machine, 20_000, 20)
      assert.strictEqual(machine.intervalMs, start)
    }
  })

  it("stays within its bounds whatever it is told", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.boolean(), fc.double({ min: 0, max: 1e7, noNaN: true }))), (words) => {
        const machine = new KeepAlive(15_000, 55_000)
        for (const [kept, silence] of words) {
          if (kept) machine.onKept(silence)
          else machine.onLost(silence)
          assert.isAtLeast(machine.intervalMs, KEEP_ALIVE_MIN_MS)
          assert.isAtMost(machine.intervalMs, 55_000)
        }
      }),
      { seed: 4, numRuns: 500 }
    )
  })
})
