/**
 * What every congestion controller owes, run on all of them: add a row to `CONTROLLERS`. Controllers are driven by Recovery
 * over a path with one bottleneck, in virtual time, so the figures are exact and the same on every machine.
 */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Bbr from "../../src/domain/protocol/Bbr.ts"
import type { Controller, Factory } from "../../src/domain/protocol/Congestion.ts"
import * as Cubic from "../../src/domain/protocol/Cubic.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import { Recovery } from "../../src/domain/protocol/Recovery.ts"
import { Rtt } from "../../src/domain/protocol/Rtt.ts"
import { run as contend, jain } from "./Bottleneck.ts"

interface Row {
  readonly name: string
  readonly make: Factory
  /** Takes each loss for congestion: halves within a round trip, and suffers from random loss. */
  readonly lossBased: boolean
  /** Datagrams of the least window. */
  readonly least: number
  /** Datagrams of the window at the start. */
  readonly initial: number
}

const CONTROLLERS: ReadonlyArray<Row> = [
  { name: "new-reno", make: NewReno.make, lossBased: true, least: 2, initial: 10 },
  { name: "cubic", make: Cubic.make, lossBased: true, least: 2, initial: 10 },
  { name: "bbr", make: Bbr.make, lossBased: false, least: 4, initial: 24 }
]

const DATAGRAM = 1200
const NEVER = Number.POSITIVE_INFINITY

/** A rate sample as an application-limited path would give it. */
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
  appLimited: true,
  txInFlight: 0,
  lostSinceSent: 0
}

interface Path {
  /** Bytes per millisecond. */
  readonly rate: number
  readonly rttMs: number
  /** Bytes the bottleneck queues before it drops. */
  readonly queue: number
  /** Whether the n-th datagram is lost whatever the queue. */
  readonly drop?: (n: number, now: number) => boolean
  /** Whether the application has a datagram now; default always. */
  readonly wants?: (now: number) => boolean
}

/** Sends as much as Recovery allows until `untilMs` and watches the controller on the way. */
const run = (make: Factory, path: Path, untilMs: number) => {
  const controller = make(0, DATAGRAM)
  const recovery = new Recovery<number>(new Rtt(), controller, DATAGRAM)
  const acks: Array<{ readonly at: number; readonly packetNumber: number }> = []
  let received: Array<number> = []
  let busyUntil = 0
  let now = 0
  let next = 0
  let delivered = 0
  let lost = 0
  let probes = 0
  let least = NEVER
  let most = 0
  while (now < untilMs) {
    const wants = path.wants?.(now) ?? true
    const sendAt = probes > 0 ? now : wants ? recovery.sendTime(now, DATAGRAM) : NEVER
    if (sendAt <= now) {
      if (probes > 0) probes--
      const more = path.wants?.(now) ?? true
      const n = next++
      recovery.onSent(now, n, DATAGRAM, true, n, path.wants !== undefined || !more)
      const start = Math.max(now, busyUntil)
      if ((start - now) * path.rate <= path.queue && path.drop?.(n, now) !== true) {
        busyUntil = start + DATAGRAM / path.rate
        acks.push({ at: busyUntil + path.rttMs, packetNumber: n })
      }
    } else {
      const ackAt = acks[0]?.at ?? NEVER
      const at = Math.min(ackAt, recovery.deadline, sendAt, wants ? NEVER : Math.floor(now) + 1)
      assert.isAbove(at, now - 1e-9, "time goes on")
      now = Math.max(at, now)
      if (ackAt <= now) {
        const packetNumber = acks.shift()?.packetNumber ?? -1
        received = [packetNumber, ...received.slice(0, 63)]
        const ranges: Array<{ start: number; end: number }> = []
        for (const number of received) {
          const last = ranges.at(-1)
          if (last !== undefined && last.start === number + 1) last.start = number
          else ranges.push({ start: number, end: number })
        }
        const result = recovery.onAck(now, ranges, 0)
        if (result === "invalid") return assert.fail("invalid")
        delivered += result.newlyAckedBytes
        lost += result.lost.length
      } else if (recovery.deadline <= now) {
        const result = recovery.onTimeout(now)
        lost += result.lost.length
        if (result.probe) probes = 2
      }
    }
    const window = controller.window()
    least = Math.min(least, window)
    most = Math.max(most, window)
    assert.isTrue(controller.pacingRate() > 0 && controller.pacingRate() < NEVER, "a finite rate")
  }
  return { controller, recovery, least, most, lost, sent: next, share: delivered / (untilMs * path.rate) }
}

describe.each(CONTROLLERS)("Congestion controller $name", ({ name, make, lossBased, least: datagrams, initial }) => {
  const LEAST = datagrams * DATAGRAM

  it("says its name, and starts from so many datagrams", () => {
    const controller = make(0, DATAGRAM)
    assert.strictEqual(controller.name, name)
    assert.strictEqual(controller.window(), initial * DATAGRAM)
    assert.isAbove(controller.pacingRate(), 0)
  })

  it("fills a clean path and keeps it full", () => {
    // 10 Mbit/s, 50 ms, a bandwidth-delay product of buffer.
    const { least, share } = run(make, { rate: 1250, rttMs: 50, queue: 62_500 }, 10_000)
    assert.isAbove(share, 0.9)
    assert.isAtLeast(least, LEAST)
  })

  it("does not grow while the application sends little", () => {
    const trickle = { rate: 1250, rttMs: 50, queue: 62_500, wants: everyMs(100) }
    const { lost, most, sent } = run(make, trickle, 60_000)
    assert.isAbove(sent, 500)
    assert.strictEqual(lost, 0)
    assert.isAtMost(most, (initial + 2) * DATAGRAM)
  })

  it("never falls below its least window, however bad the path", () => {
    const { least, most, lost } = run(make, { rate: 1250, rttMs: 50, queue: 62_500, drop: (n) => n % 3 !== 0 }, 20_000)
    assert.isAbove(lost, 20)
    assert.isAtLeast(least, LEAST)
    assert.isAtMost(most, 1e6)
  })

  it("comes back after an outage of three seconds", () => {
    const drop = (_n: number, now: number) => now > 3000 && now < 6000
    const { least, share } = run(make, { rate: 1250, rttMs: 50, queue: 62_500, drop }, 20_000)
    assert.isAtLeast(least, LEAST)
    assert.isAbove(share, 0.6)
  })

  it("does not flood a small buffer", () => {
    // 20 datagrams of queue below 52 of bandwidth-delay product.
    const { lost, sent, share } = run(make, { rate: 1250, rttMs: 50, queue: 24_000 }, 20_000)
    assert.isBelow(lost / sent, 0.1)
    assert.isAbove(share, 0.6)
  })

  it("lives with datagrams that grow", () => {
    const controller = make(0, DATAGRAM)
    controller.setMaxDatagram(9000)
    assert.isAtLeast(controller.window(), 18_000)
  })

  it("loses little of 20 MB to its start, on queues of all sizes", () => {
    for (const [queueBdp, most] of [
      [0.25, 0.04],
      [0.5, 0.03],
      [1, lossBased ? 0.06 : 0.02]
    ] as const) {
      const path = { mbit: 100, rttMs: 50, queueBdp }
      const [flow] = contend({ path, flows: [{ sender: make, bytes: 20e6 }], untilMs: 10_000 }).flows
      assert.isBelow(flow?.doneMs ?? NEVER, 3000, `queue ${queueBdp}`)
      assert.isBelow(flow?.retransmitted ?? 1, most, `queue ${queueBdp}`)
    }
  })

  it("shares a link with its like, by Jain's index of four flows", () => {
    for (const queueBdp of [1, 2]) {
      for (const apart of lossBased ? [3000] : [777, 3000]) {
        const { flows } = contend({
          path: { mbit: 100, rttMs: 50, queueBdp },
          flows: [0, 1, 2, 3].map((i) => ({ sender: make, startMs: i * apart })),
          fromMs: 3 * apart,
          untilMs: 60_000 + 3 * apart
        })
        const index = jain(flows.map((flow) => flow.mbit))
        assert.isAbove(index, lossBased ? 0.85 : 0.9, `queue ${queueBdp}, ${apart} ms apart`)
        assert.isAbove(
          flows.reduce((sum, flow) => sum + flow.share, 0),
          0.9
        )
      }
    }
  })

  it("shares a link with TCP CUBIC: each has a fifth", () => {
    for (const queueBdp of [1, 2]) {
      for (const [ours, theirs] of [
        [5000, 0],
        [0, 5000]
      ] as const) {
        const { flows } = contend({
          path: { mbit: 100, rttMs: 50, queueBdp },
          flows: [
            { sender: make, startMs: ours },
            { sender: "tcp-cubic", startMs: theirs }
          ],
          fromMs: 5000,
          untilMs: 65_000
        })
        for (const flow of flows) assert.isAbove(flow.share, 0.2, `${flow.name}, queue ${queueBdp}, ${ours}/${theirs}`)
      }
    }
  })

  it("takes jitter of a fifth of the round trip for no loss", () => {
    const path = { mbit: 20, rttMs: 50, jitterMs: 10 }
    const [flow] = contend({ path, flows: [{ sender: make }], untilMs: 20_000 }).flows
    assert.isAbove(flow?.share ?? 0, lossBased ? 0.5 : 0.85)
    assert.isBelow(flow?.spurious ?? NEVER, 200)
  })

  it.skipIf(!lossBased)("gives way at a loss, once per round trip, and returns if the loss was none", () => {
    const controller = make(0, DATAGRAM)
    const before = controller.window()
    controller.onCongestionEvent(100, 50, false, DATAGRAM)
    const after = controller.window()
    assert.isBelow(after, before)
    controller.onCongestionEvent(110, 60, false, DATAGRAM)
    controller.onCongestionEvent(120, 100, false, DATAGRAM)
    assert.strictEqual(controller.window(), after, "sent before the reduction")
    controller.onSpuriousLoss(130, 50, DATAGRAM)
    controller.onSpuriousLoss(130, 60, DATAGRAM)
    assert.strictEqual(controller.window(), after, "one loss is still real")
    controller.onSpuriousLoss(130, 100, DATAGRAM)
    assert.strictEqual(controller.window(), before)
    controller.onCongestionEvent(200, 150, false, DATAGRAM)
    controller.onCongestionEvent(300, 201, false, DATAGRAM)
    assert.isBelow(controller.window(), after, "the next round trip")
  })

  it("falls to the minimum after persistent congestion", () => {
    const controller = make(0, DATAGRAM)
    const rtt = new Rtt()
    rtt.update(50, 0)
    for (let i = 0; i < 100; i++) {
      controller.onAcked(i, i - 0.5, DATAGRAM, rtt, false)
      controller.onAckEnd(i, { ...SAMPLE, ackedBytes: DATAGRAM }, rtt)
    }
    controller.onCongestionEvent(10_000, 9000, true, 10 * DATAGRAM)
    assert.strictEqual(controller.window(), LEAST)
  })

  it("keeps its window and rate within bounds whatever it is told", () => {
    const call = fc.record({
      what: fc.constantFrom("sent", "acked", "lost", "event", "persistent", "spurious"),
      age: fc.nat(2000),
      wait: fc.nat(500),
      bytes: fc.integer({ min: 1, max: DATAGRAM }),
      appLimited: fc.boolean()
    })
    fc.assert(
      fc.property(fc.array(call, { maxLength: 200 }), (calls) => {
        const controller = make(0, DATAGRAM)
        const rtt = new Rtt()
        let now = 1000
        let acked = 0
        for (const { what, age, wait, bytes, appLimited } of calls) {
          now += wait
          const sentAt = now - age
          const before = controller.window()
          if (what === "sent") controller.onSent(now, bytes, acked, appLimited, bytes)
          else if (what === "acked") {
            rtt.update(age, 0)
            controller.onAcked(now, sentAt, bytes, rtt, appLimited)
            acked += bytes
            controller.onAckEnd(now, { ...SAMPLE, ackedBytes: bytes, delivered: acked, appLimited }, rtt)
            if (appLimited && lossBased) assert.isAtMost(controller.window(), before)
          } else if (what === "lost") controller.onLost(now, 1, bytes, bytes, bytes)
          else if (what === "event") controller.onCongestionEvent(now, sentAt, false, bytes)
          else if (what === "persistent") controller.onCongestionEvent(now, sentAt, true, bytes)
          else controller.onSpuriousLoss(now, sentAt, bytes)
          assert.isAtLeast(controller.window(), LEAST)
          assert.isTrue(controller.pacingRate() > 0 && controller.pacingRate() < NEVER)
        }
      }),
      { seed: 9002, numRuns: 300 }
    )
  })
})

/** One datagram each `ms`. */
const everyMs = (ms: number): ((now: number) => boolean) => {
  let next = 0
  let asked = -1
  return (now) => {
    if (now < next && now !== asked) return false
    if (now !== asked) {
      asked = now
      next = now + ms
      return true
    }
    return false
  }
}

describe("NewReno (RFC 9002 section 7)", () => {
  const rttOf = (ms: number): Rtt => {
    const rtt = new Rtt()
    rtt.update(ms, 0)
    return rtt
  }
  const acked = (controller: Controller, count: number, sentAt = 1, appLimited = false): void => {
    const rtt = rttOf(100)
    for (let i = 0; i < count; i++) controller.onAcked(sentAt + 100, sentAt, DATAGRAM, rtt, appLimited)
    controller.onAckEnd(sentAt + 100, SAMPLE, rtt)
  }

  it("initial window: ten datagrams, at most 14,720 bytes, at least two datagrams", () => {
    const windows = [1200, 1472, 9000, 65_000].map((size) => NewReno.make(0, size).window())
    assert.deepStrictEqual(windows, [12_000, 14_720, 18_000, 130_000])
  })

  it("slow start adds what is acknowledged", () => {
    const controller = NewReno.make(0, DATAGRAM)
    acked(controller, 10)
    assert.strictEqual(controller.window(), 24_000)
    acked(controller, 20, 1, true)
    assert.strictEqual(controller.window(), 24_000, "an unused window proves nothing")
  })

  it("halves, stays while recovering, then adds one datagram per window", () => {
    const controller = NewReno.make(0, DATAGRAM)
    acked(controller, 10)
    controller.onCongestionEvent(1000, 900, false, DATAGRAM)
    assert.strictEqual(controller.window(), 12_000)
    acked(controller, 5, 1000)
    assert.strictEqual(controller.window(), 12_000, "sent before recovery began")
    acked(controller, 9, 1001)
    assert.strictEqual(controller.window(), 12_000)
    acked(controller, 1, 1001)
    assert.strictEqual(controller.window(), 13_200)
    acked(controller, 11, 1001)
    assert.strictEqual(controller.window(), 14_400)
  })

  it("goes on in slow start when the loss that ended it was none", () => {
    const controller = NewReno.make(0, DATAGRAM)
    controller.onCongestionEvent(1000, 900, false, DATAGRAM)
    controller.onSpuriousLoss(1010, 900, DATAGRAM)
    acked(controller, 10, 950)
    assert.strictEqual(controller.window(), 24_000)
  })

  it("after persistent congestion it starts slowly up to the threshold", () => {
    const controller = NewReno.make(0, DATAGRAM)
    acked(controller, 10)
    controller.onCongestionEvent(9000, 8000, true, DATAGRAM)
    assert.strictEqual(controller.window(), 2400)
    acked(controller, 8, 9001)
    assert.strictEqual(controller.window(), 12_000)
    acked(controller, 10, 9001)
    assert.strictEqual(controller.window(), 13_200)
    controller.onSpuriousLoss(9200, 8000, DATAGRAM)
    assert.strictEqual(controller.window(), 13_200, "nothing to undo")
  })

  it("paces at twice the window per round trip in slow start, at 5/4 afterwards", () => {
    const controller = NewReno.make(0, DATAGRAM)
    assert.strictEqual(controller.pacingRate(), (2 * 12_000) / 333)
    acked(controller, 0)
    assert.strictEqual(controller.pacingRate(), 240)
    controller.onCongestionEvent(1000, 900, false, DATAGRAM)
    assert.strictEqual(controller.pacingRate(), (1.25 * 6000) / 100)
  })

  it("loses most of a fast path to one per cent of random loss: why it is not the default", () => {
    // 100 Mbit/s, 50 ms: Mathis' 1.22 * 1200 / (50 * sqrt(0.01)) = 293 of 12,500 bytes per millisecond.
    let state = 1
    const drop = (): boolean => {
      state = (state * 48_271) % 2_147_483_647
      return state % 100 === 0
    }
    const { share } = run(NewReno.make, { rate: 12_500, rttMs: 50, queue: 625_000, drop }, 10_000)
    assert.isBelow(share, 0.1)
    assert.isAbove(share, 0.01)
  })
})
