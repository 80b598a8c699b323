/** The measuring tool itself: it must not flatter, and it must repeat. */
import { assert, describe, it } from "@effect/vitest"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import { chance, jain, type Options, run } from "./Bottleneck.ts"

const CLEAN = { mbit: 20, rttMs: 40 }

describe("Bottleneck", () => {
  it("repeats itself from its seed, and differs with another", () => {
    const options: Options = {
      path: { ...CLEAN, loss: 0.02, jitterMs: 2, ackLoss: 0.1 },
      flows: [{ sender: NewReno.make }, { sender: "tcp-cubic", startMs: 500 }],
      untilMs: 5000,
      seed: 7
    }
    assert.deepStrictEqual(run(options), run(options))
    assert.notDeepEqual(run(options), run({ ...options, seed: 8 }))
  })

  it("never delivers more than the line carries, nor what was not sent", () => {
    for (const sender of [NewReno.make, "tcp-reno", "tcp-cubic"] as const) {
      const { dropped, flows, packets } = run({ path: CLEAN, flows: [{ sender }], untilMs: 20_000 })
      const [flow] = flows
      if (flow === undefined) return assert.fail("no flow")
      assert.isAbove(flow.efficiency, 0.9, flow.name)
      assert.isAtMost(flow.efficiency, 1, flow.name)
      assert.strictEqual(flow.sent, packets)
      assert.isAtMost(flow.lost, dropped, "nothing is taken for lost that was not")
      assert.isAtLeast(flow.series.length, 20)
    }
  })

  it("delays by the queue at most, and by nothing while there is none", () => {
    const [busy] = run({ path: { ...CLEAN, queue: 50_000 }, flows: [{ sender: "tcp-reno" }], untilMs: 20_000 }).flows
    assert.isAbove(busy?.queue99 ?? 0, 15)
    assert.isAtMost(busy?.queue99 ?? 0, 21, "50,000 bytes at 2500 a millisecond, and two per cent of the bins")
    const messages = { everyMs: 100, bytes: 64 }
    const [idle] = run({ path: CLEAN, flows: [{ sender: NewReno.make, bytes: 0, messages }], untilMs: 20_000 }).flows
    assert.strictEqual(idle?.messages, 200)
    assert.approximately(idle?.message99 ?? 0, 20, 0.6)
  })

  it("loses the share it is told to, in bursts or not", () => {
    const lossy = (path: object): number =>
      run({ path: { ...CLEAN, ...path }, flows: [{ sender: NewReno.make, appMbit: 1 }], untilMs: 300_000 }).flows[0]
        ?.retransmitted ?? 0
    assert.approximately(lossy({ loss: 0.05 }), 0.05, 0.005)
    // An eleventh of the packets in a state that lasts for ten.
    assert.approximately(lossy({ bursts: { toBad: 0.01, toGood: 0.1 } }), 0.01 / 0.11, 0.02)
  })

  it("polices, and changes its rate", () => {
    const sender = "tcp-reno"
    const policer = { mbit: 5, bytes: 30_000 }
    const [policed] = run({ path: { ...CLEAN, policer }, flows: [{ sender }], untilMs: 20_000 }).flows
    assert.isAtMost(policed?.mbit ?? 0, 5.1)
    assert.isAbove(policed?.mbit ?? 0, 2)
    const path = { ...CLEAN, changes: [{ atMs: 10_000, mbit: 2 }] }
    const [slowed] = run({ path, flows: [{ sender }], untilMs: 30_000, fromMs: 15_000 }).flows
    assert.approximately(slowed?.mbit ?? 0, 2 * (1448 / 1500), 0.1)
  })

  it("a finite transfer ends, and each of its bytes counts once", () => {
    const [flow] = run({
      path: { ...CLEAN, loss: 0.03 },
      flows: [{ sender: NewReno.make, bytes: 1_000_000 }],
      untilMs: 60_000
    }).flows
    assert.isBelow(flow?.doneMs ?? Number.POSITIVE_INFINITY, 60_000)
    assert.approximately(
      (flow?.series ?? []).reduce((a, b) => a + b, 0),
      1_000_000,
      1156
    )
  })

  it("has a fairness index and even chances", () => {
    assert.strictEqual(jain([3, 3, 3]), 1)
    assert.strictEqual(jain([1, 0, 0, 0]), 0.25)
    const draw = chance(1)
    let sum = 0
    for (let i = 0; i < 10_000; i++) sum += draw()
    assert.approximately(sum / 10_000, 0.5, 0.02)
  })
})
