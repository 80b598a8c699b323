/** CUBIC's numbers against the formulas of RFC 9438, and HyStart++ (RFC 9406); the suite for all is Congestion.test.ts. */
import { assert, describe, it } from "@effect/vitest"
import type { Controller } from "../../src/domain/protocol/Congestion.ts"
import * as Cubic from "../../src/domain/protocol/Cubic.ts"
import { Rtt } from "../../src/domain/protocol/Rtt.ts"
import { run } from "./Bottleneck.ts"

const DATAGRAM = 1200
const RTT = 100

const rttOf = (ms: number): Rtt => {
  const rtt = new Rtt()
  rtt.update(ms, 0)
  return rtt
}

const SAMPLE = {
  ackedBytes: 0,
  lostBytes: 0,
  priorInFlight: 0,
  bytesInFlight: 0,
  delivered: 0,
  lost: 0,
  priorDelivered: 0,
  rtt: -1,
  interval: 0,
  deliveryRate: 0,
  appLimited: false,
  txInFlight: 0,
  lostSinceSent: 0
}

/** Acknowledges one window's worth sent at `sentAt`, `rtt` later, as one round. */
const round = (
  controller: Controller,
  sentAt: number,
  rtt = RTT,
  delivered = { bytes: 0 },
  appLimited = false
): void => {
  const estimate = rttOf(rtt)
  const packets = Math.floor(controller.window() / DATAGRAM)
  const before = delivered.bytes
  for (let i = 0; i < packets; i++) {
    controller.onAcked(sentAt + rtt, sentAt, DATAGRAM, estimate, appLimited)
    delivered.bytes += DATAGRAM
  }
  controller.onAckEnd(sentAt + rtt, { ...SAMPLE, delivered: delivered.bytes, priorDelivered: before }, estimate)
}

/** A controller at `datagrams` when it loses one. */
const reduced = (datagrams: number): Controller => {
  const controller = Cubic.make(0, DATAGRAM)
  const rtt = rttOf(RTT)
  while (controller.window() < datagrams * DATAGRAM) controller.onAcked(1, 0.5, DATAGRAM, rtt, false)
  controller.onCongestionEvent(1000, 900, false, DATAGRAM)
  return controller
}

describe("CUBIC (RFC 9438)", () => {
  it("shrinks to seven tenths, once per round trip", () => {
    const controller = reduced(1000)
    assert.approximately(controller.window(), 700 * DATAGRAM, 1)
    controller.onCongestionEvent(1010, 950, false, DATAGRAM)
    assert.approximately(controller.window(), 700 * DATAGRAM, 1)
  })

  it("is back at the old window after K, flat there, and beyond it afterwards", () => {
    const controller = reduced(1000)
    // K = cbrt(W_max * 0.3 / 0.4) seconds.
    const k = 1000 * Math.cbrt((1000 * 0.3) / 0.4)
    const at: Array<number> = []
    let now = 1001
    for (const share of [0.5, 0.9, 1, 1.1, 1.5]) {
      for (; now < 1101 + share * k - RTT; now += RTT) round(controller, now)
      at.push(controller.window() / DATAGRAM)
    }
    const cubic = (share: number): number => 0.4 * ((share - 1) * (k / 1000)) ** 3 + 1000
    for (const [i, share] of [0.5, 0.9, 1, 1.1, 1.5].entries()) {
      assert.approximately(at[i] ?? 0, cubic(share), 6, `at ${share} K`)
    }
  })

  it("is never slower than Reno would be: small windows and short round trips", () => {
    const controller = reduced(20)
    const before = controller.window()
    for (let i = 0; i < 40; i++) round(controller, 1001 + 10 * i, 10)
    // 40 round trips of Reno at 9/17 of a datagram, below W_max; 0.4 s of the cubic would give less than a datagram.
    assert.isAbove(controller.window(), before + 6 * DATAGRAM)
  })

  it("makes room when it loses below its last maximum", () => {
    const twice = reduced(1000)
    twice.onCongestionEvent(2000, 1900, false, DATAGRAM)
    assert.approximately(twice.window(), 490 * DATAGRAM, 1)
    // W_max is now 700 * 0.85: the plateau is reached sooner than from 700.
    const k = 1000 * Math.cbrt((595 - 490) / 0.4)
    for (let now = 2001; now < 2101 + k - RTT; now += RTT) round(twice, now)
    assert.approximately(twice.window() / DATAGRAM, 595, 8)
  })

  it("takes back a reduction whose losses all arrived late", () => {
    const controller = Cubic.make(0, DATAGRAM)
    round(controller, 1)
    const before = controller.window()
    controller.onCongestionEvent(1000, 900, false, 2 * DATAGRAM)
    controller.onSpuriousLoss(1010, 890, DATAGRAM)
    assert.isBelow(controller.window(), before)
    controller.onSpuriousLoss(1020, 900, DATAGRAM)
    assert.strictEqual(controller.window(), before)
    round(controller, 1030)
    assert.isAbove(controller.window(), 1.9 * before, "slow start goes on")
  })

  it("its clock stands still while the window is not in use", () => {
    const busy = reduced(1000)
    const lazy = reduced(1000)
    for (let now = 1001; now < 4001; now += RTT) round(busy, now)
    for (let now = 1001; now < 2501; now += RTT) round(lazy, now)
    const before = lazy.window()
    for (let now = 2501; now < 62_501; now += RTT) round(lazy, now, RTT, { bytes: 0 }, true)
    assert.strictEqual(lazy.window(), before)
    for (let now = 62_501; now < 64_001; now += RTT) round(lazy, now)
    assert.approximately(lazy.window(), busy.window(), 20 * DATAGRAM)
  })
})

describe("HyStart++ (RFC 9406)", () => {
  it("slows down when the round trip grows by an eighth, and stops after five such rounds", () => {
    const controller = Cubic.make(0, DATAGRAM)
    const delivered = { bytes: 0 }
    const growth = (sentAt: number, rtt: number): number => {
      const before = controller.window()
      round(controller, sentAt, rtt, delivered)
      return controller.window() / before
    }
    for (const at of [0, 100, 200]) assert.isAbove(growth(1 + at, 100), 1.9)
    assert.isBelow(growth(301, 113), 1.35)
    for (const at of [414, 527, 640, 753]) assert.approximately(growth(at, 113), 1.25, 0.01)
    assert.isBelow(growth(866, 113), 1.26)
    assert.isBelow(growth(979, 113), 1.06, "congestion avoidance")
  })

  it("goes on when the growth was a passing one", () => {
    const controller = Cubic.make(0, DATAGRAM)
    const delivered = { bytes: 0 }
    for (const [at, rtt] of [
      [1, 100],
      [101, 100],
      [201, 115],
      [316, 100]
    ] as const) {
      round(controller, at, rtt, delivered)
    }
    const before = controller.window()
    round(controller, 416, 100, delivered)
    assert.isAbove(controller.window(), 1.9 * before)
  })

  it("keeps the start-up from overrunning a queue of one bandwidth-delay product", () => {
    const [flow] = run({ path: { mbit: 100, rttMs: 50 }, flows: [{ sender: Cubic.make }], untilMs: 3000 }).flows
    assert.isBelow(flow?.retransmitted ?? 1, 0.05)
    assert.isAbove(flow?.share ?? 0, 0.6)
  })
})
