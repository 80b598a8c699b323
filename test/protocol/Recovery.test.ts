import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { AckSample, Controller } from "../../src/domain/protocol/Congestion.ts"
import {
  MAX_LOST_REMEMBERED,
  MAX_SKIPPED_REMEMBERED,
  MAX_TRACKED_PACKETS,
  PTO_CAP_MS
} from "../../src/domain/protocol/Constants.ts"
import type { Range } from "../../src/domain/protocol/RangeSet.ts"
import { type AckResult, Recovery } from "../../src/domain/protocol/Recovery.ts"
import { Rtt } from "../../src/domain/protocol/Rtt.ts"

const NEVER = Number.POSITIVE_INFINITY

/** A controller that decides nothing and writes down what it is told. */
class Recorder implements Controller {
  readonly name = "recorder"
  readonly log: Array<unknown> = []
  readonly samples: Array<AckSample> = []
  limit = 1e9
  rate = 1e9
  window(): number {
    return this.limit
  }
  pacingRate(): number {
    return this.rate
  }
  onSent(): void {}
  onAcked(_now: number, sentAt: number, bytes: number, _rtt: Rtt, appLimited: boolean): void {
    this.log.push({ acked: bytes, sentAt, appLimited })
  }
  onAckEnd(_now: number, sample: AckSample): void {
    this.samples.push({ ...sample })
  }
  onLost(_now: number, packetNumber: number, _bytes: number, txInFlight: number, lostSinceSent: number): void {
    this.log.push({ lost: packetNumber, txInFlight, lostSinceSent })
  }
  onCongestionEvent(_now: number, sentAt: number, persistent: boolean, lostBytes: number): void {
    this.log.push({ event: sentAt, persistent, lostBytes })
  }
  onSpuriousLoss(_now: number, sentAt: number, bytes: number): void {
    this.log.push({ spurious: bytes, sentAt })
  }
  setMaxDatagram(): void {}
}

const make = () => {
  const controller = new Recorder()
  const recovery = new Recovery<number>(new Rtt(), controller)
  return {
    controller,
    recovery,
    send: (now: number, ...packetNumbers: ReadonlyArray<number>) => {
      for (const packetNumber of packetNumbers) recovery.onSent(now, packetNumber, 1000, true, packetNumber, false)
    },
    ack: (now: number, ...ranges: ReadonlyArray<readonly [number, number]>): AckResult<number> => {
      const result = recovery.onAck(
        now,
        ranges.map(([start, end]) => ({ start, end })),
        0
      )
      if (result === "invalid") return assert.fail("the acknowledgement counts as invalid")
      return { ...result, acked: [...result.acked], lost: [...result.lost] }
    }
  }
}

/** 100 ms of RTT: smoothed 100, variance 50, PTO 325. */
const primed = () => {
  const it = make()
  it.send(0, 0)
  it.ack(100, [0, 0])
  it.controller.log.length = 0
  return it
}

describe("Recovery: acknowledgements", () => {
  it("reports contents in order, frees the bytes and samples the RTT", () => {
    const { ack, controller, recovery, send } = make()
    send(0, 0)
    send(10, 1)
    send(20, 2)
    assert.strictEqual(recovery.bytesInFlight, 3000)
    const result = ack(110, [0, 2])
    assert.deepStrictEqual(result, {
      acked: [0, 1, 2],
      lost: [],
      newlyAckedBytes: 3000,
      lostBytes: 0,
      rttSampled: true,
      persistentCongestion: false
    })
    assert.strictEqual(recovery.rtt.latest, 90)
    assert.strictEqual(recovery.bytesInFlight, 0)
    assert.strictEqual(recovery.tracked, 0)
    assert.strictEqual(recovery.deadline, NEVER)
    assert.deepStrictEqual(
      controller.log,
      [0, 10, 20].map((sentAt) => ({ acked: 1000, sentAt, appLimited: true }))
    )
  })

  it("bounds the reported delay by max_ack_delay", () => {
    const { ack, recovery, send } = make()
    send(0, 0)
    ack(100, [0, 0])
    send(100, 1)
    assert.notStrictEqual(recovery.onAck(300, [{ start: 1, end: 1 }], 5000), "invalid")
    assert.strictEqual(recovery.rtt.smoothed, 100 * 0.875 + 175 * 0.125)
  })

  it("samples nothing when the largest is old news, or nothing new elicited the acknowledgement", () => {
    const { ack, recovery, send } = make()
    send(0, 0, 1)
    ack(100, [1, 1])
    assert.isFalse(ack(500, [0, 1]).rttSampled)
    recovery.onSent(600, 2, 50, false, 2, true)
    const result = ack(900, [0, 2])
    assert.deepStrictEqual([result.acked, result.rttSampled, result.newlyAckedBytes], [[2], false, 0])
    recovery.onSent(1000, 3, 1000, true, 3, true)
    recovery.onSent(1000, 4, 50, false, 4, true)
    assert.isTrue(ack(1080, [3, 4]).rttSampled)
    assert.strictEqual(recovery.rtt.latest, 80)
  })

  it("a repeated acknowledgement changes nothing", () => {
    const { ack, controller, send } = primed()
    send(200, 1, 2)
    ack(300, [0, 2])
    const calls = controller.log.length
    const again = ack(900, [0, 2])
    assert.deepStrictEqual([again.acked, again.lost, again.rttSampled], [[], [], false])
    assert.strictEqual(controller.log.length, calls)
  })

  it("packets that elicit nothing count neither in flight nor towards deadlines", () => {
    const { ack, controller, recovery } = make()
    recovery.onSent(0, 0, 40, false, 0, true)
    assert.strictEqual(recovery.bytesInFlight, 0)
    assert.strictEqual(recovery.deadline, NEVER)
    assert.deepStrictEqual(ack(50, [0, 0]).acked, [0])
    assert.deepStrictEqual(controller.log, [])
  })

  it("numbers sent without being tracked may be acknowledged", () => {
    const { ack, recovery, send } = make()
    send(0, 0, 3)
    assert.deepStrictEqual(ack(10, [0, 3]).acked, [0, 3])
    assert.strictEqual(recovery.tracked, 0)
  })

  it("refuses what was never sent, what was skipped, and ranges that are none", () => {
    const { ack, recovery, send } = make()
    send(0, 0, 1)
    recovery.onSkipped(2)
    send(0, 3, 4)
    const invalid: ReadonlyArray<ReadonlyArray<Range>> = [
      [],
      [{ start: 5, end: 5 }],
      [{ start: 0, end: 5 }],
      [{ start: 2, end: 2 }],
      [{ start: 0, end: 4 }],
      [
        { start: 4, end: 4 },
        { start: 0, end: 2 }
      ],
      [{ start: 4, end: 3 }],
      [{ start: -1, end: 0 }],
      [
        { start: 0, end: 0 },
        { start: 3, end: 3 }
      ],
      [
        { start: 3, end: 4 },
        { start: 1, end: 3 }
      ],
      [{ start: Number.NaN, end: 1 }]
    ]
    for (const ranges of invalid) assert.strictEqual(recovery.onAck(10, ranges, 0), "invalid", JSON.stringify(ranges))
    assert.strictEqual(recovery.bytesInFlight, 4000)
    assert.strictEqual(recovery.largestAcked, -1)
    assert.deepStrictEqual(ack(10, [3, 4], [0, 1]).acked, [0, 1, 3, 4])
    assert.strictEqual(recovery.onAck(20, [{ start: 0, end: 4 }], 0), "invalid", "skipped numbers outlive their ring")
  })

  it("remembers the latest skipped numbers only", () => {
    const { recovery, send } = make()
    for (let i = 0; i <= MAX_SKIPPED_REMEMBERED; i++) {
      recovery.onSkipped(2 * i)
      send(0, 2 * i + 1)
    }
    assert.notStrictEqual(recovery.onAck(10, [{ start: 0, end: 1 }], 0), "invalid")
    assert.strictEqual(recovery.onAck(10, [{ start: 2, end: 3 }], 0), "invalid")
  })

  it("packet numbers only grow", () => {
    const { recovery, send } = make()
    send(0, 5)
    assert.throws(() => send(0, 5), RangeError)
    assert.throws(() => recovery.onSkipped(4), RangeError)
    assert.throws(() => send(0, 6 + MAX_TRACKED_PACKETS), RangeError)
  })
})

describe("Recovery: loss", () => {
  it("three later packets acknowledged make a packet lost, two do not", () => {
    const { ack, controller, recovery, send } = primed()
    send(200, 1, 2, 3, 4, 5)
    assert.deepStrictEqual(ack(300, [2, 3]).lost, [])
    const result = ack(300, [2, 4])
    assert.deepStrictEqual([result.lost, result.lostBytes], [[1], 1000])
    assert.strictEqual(recovery.bytesInFlight, 1000)
    assert.deepStrictEqual(controller.log.slice(-2), [
      { lost: 1, txInFlight: 1000, lostSinceSent: 1000 },
      { event: 200, persistent: false, lostBytes: 1000 }
    ])
  })

  it("9/8 of the round trip make an earlier packet lost, on the timer's millisecond", () => {
    const { ack, recovery, send } = primed()
    send(200, 1)
    send(210, 2)
    assert.deepStrictEqual(ack(310, [2, 2]).lost, [])
    // latest 100, smoothed 100
    assert.strictEqual(recovery.deadline, 200 + 112.5)
    assert.deepStrictEqual({ ...recovery.onTimeout(312) }, { lost: [], probe: false })
    assert.deepStrictEqual({ ...recovery.onTimeout(312.5) }, { lost: [1], probe: false })
    assert.strictEqual(recovery.bytesInFlight, 0)
    assert.strictEqual(recovery.deadline, NEVER)
    assert.strictEqual(recovery.ptoCount, 0)
  })

  it("the time threshold follows the larger of latest and smoothed RTT", () => {
    const { ack, recovery, send } = primed()
    send(200, 1, 2)
    ack(400, [2, 2])
    assert.strictEqual(recovery.rtt.latest, 200)
    assert.strictEqual(recovery.deadline, 200 + 225)
  })

  it("an acknowledgement also finds packets whose time is up", () => {
    const { ack, send } = primed()
    send(200, 1)
    send(1000, 2)
    assert.deepStrictEqual(ack(1100, [2, 2]).lost, [1])
  })

  it("reports one congestion event per acknowledgement, at the newest loss", () => {
    const { ack, controller, send } = primed()
    send(200, 1)
    send(201, 2)
    send(202, 3, 4, 5)
    ack(300, [5, 5])
    assert.deepStrictEqual(controller.log, [
      { acked: 1000, sentAt: 202, appLimited: true },
      { lost: 1, txInFlight: 1000, lostSinceSent: 1000 },
      { lost: 2, txInFlight: 2000, lostSinceSent: 2000 },
      { event: 201, persistent: false, lostBytes: 2000 }
    ])
  })

  it("a late acknowledgement is reported once more, and to the controller", () => {
    const { ack, controller, recovery, send } = primed()
    send(200, 1, 2, 3, 4)
    assert.deepStrictEqual(ack(300, [2, 4]).lost, [1])
    const late = ack(310, [1, 4])
    assert.deepStrictEqual([late.acked, late.newlyAckedBytes], [[1], 0])
    assert.deepStrictEqual(controller.log.at(-1), { spurious: 1000, sentAt: 200 })
    assert.deepStrictEqual(ack(311, [1, 4]).acked, [])
    assert.strictEqual(recovery.bytesInFlight, 0)
  })

  it("remembers lost packets for three probe timeouts and never too many", () => {
    const { ack, send } = primed()
    send(200, 1, 2, 3, 4)
    ack(300, [2, 4])
    assert.deepStrictEqual(ack(300 + 3 * 325 + 1, [1, 4]).acked, [])
    const count = MAX_LOST_REMEMBERED + 10
    for (let i = 0; i < count + 3; i++) send(2000, 5 + i)
    assert.strictEqual(ack(2100, [5 + count, 7 + count]).lost.length, count)
    assert.strictEqual(ack(2101, [5, 7 + count]).acked.length, MAX_LOST_REMEMBERED)
  })
})

describe("Recovery: packets that overtake each other", () => {
  it("a late arrival shows how far apart and how late packets may come", () => {
    const { ack, recovery, send } = primed()
    send(200, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)
    assert.deepStrictEqual(ack(300, [2, 10]).lost, [1])
    assert.deepStrictEqual(ack(320, [1, 10]).acked, [1])
    assert.strictEqual(recovery.packetThreshold, 11)
    for (let i = 11; i < 31; i++) send(400, i)
    assert.deepStrictEqual(ack(500, [12, 21]).lost, [], "ten behind")
    // 1.1 times the 120 ms that packet 1 took, of a round trip of 100.
    assert.approximately(recovery.deadline, 400 + 132, 1e-9)
    assert.deepStrictEqual(ack(501, [12, 22]).lost, [11])
  })

  it("real losses bring the thresholds back", () => {
    const { ack, recovery, send } = primed()
    for (let i = 1; i < 100; i++) send(200, i)
    ack(300, [2, 99])
    ack(320, [1, 99])
    assert.isAbove(recovery.packetThreshold, 100)
    let next = 100
    for (let round = 0; round < 10; round++) {
      const now = 1000 * (round + 1)
      for (let i = 0; i < 64; i++) send(now, next + i)
      send(now + 500, next + 64)
      assert.strictEqual(ack(now + 600, [next + 64, next + 64]).lost.length, 64)
      next += 65
    }
    assert.strictEqual(recovery.packetThreshold, 3)
  })

  it("another path starts with the usual threshold", () => {
    const { ack, recovery, send } = primed()
    for (let i = 1; i < 20; i++) send(200, i)
    ack(300, [2, 19])
    ack(320, [1, 19])
    recovery.onPathChanged(new Recorder())
    assert.strictEqual(recovery.packetThreshold, 3)
  })
})

describe("Recovery: probe timeout", () => {
  it("waits 1024 ms before the first sample", () => {
    const { recovery, send } = make()
    send(50, 0)
    assert.strictEqual(recovery.deadline, 50 + 1024)
  })

  it("backs off by doubling from the last ack-eliciting packet, up to the cap", () => {
    const { ack, recovery, send } = primed()
    send(1000, 1)
    let sentAt = 1000
    const waits: Array<number> = []
    for (let i = 2; i < 9; i++) {
      const due = recovery.deadline
      waits.push(due - sentAt)
      assert.isFalse(recovery.onTimeout(due - 0.01).probe)
      assert.deepStrictEqual({ ...recovery.onTimeout(due) }, { lost: [], probe: true })
      sentAt = due
      send(sentAt, i)
    }
    assert.deepStrictEqual(waits, [325, 650, 1300, 2000, 2000, 2000, 2000])
    assert.strictEqual(recovery.ptoCount, 7)
    assert.strictEqual(recovery.oldest(), 1)
    ack(sentAt + 100, [8, 8])
    assert.strictEqual(recovery.ptoCount, 0)
  })

  it("is never shorter than the round trip asks for", () => {
    const { ack, recovery, send } = make()
    send(0, 0)
    ack(3000, [0, 0])
    send(3000, 1)
    assert.isAbove(3000 + 4 * 1500 + 25, PTO_CAP_MS)
    assert.strictEqual(recovery.deadline, 3000 + 3000 + 4 * 1500 + 25)
    recovery.onTimeout(recovery.deadline)
    assert.strictEqual(recovery.ptoCount, 1)
    assert.strictEqual(recovery.deadline, 12_025 + 9025)
  })

  it("does not fire again at once when the probe could not be sent, or after a long sleep", () => {
    const { recovery, send } = primed()
    send(1000, 1)
    assert.isTrue(recovery.onTimeout(500_000).probe)
    assert.strictEqual(recovery.deadline, 500_650)
    assert.isFalse(recovery.onTimeout(500_000).probe)
  })

  it("leaves packets in flight and tells the controller nothing", () => {
    const { controller, recovery, send } = primed()
    send(1000, 1, 2)
    recovery.onTimeout(1325)
    assert.strictEqual(recovery.bytesInFlight, 2000)
    assert.deepStrictEqual(controller.log, [])
  })

  it("the oldest packet is an ack-eliciting one", () => {
    const { ack, recovery, send } = primed()
    assert.isUndefined(recovery.oldest())
    recovery.onSent(200, 1, 40, false, 1, true)
    send(200, 2, 3)
    assert.strictEqual(recovery.oldest(), 2)
    ack(300, [2, 2])
    assert.strictEqual(recovery.oldest(), 3)
  })
})

describe("Recovery: persistent congestion (RFC 9002 section 7.6)", () => {
  // The acknowledgement's own sample comes first: smoothed 100, variance 37.5, so 3 x (100 + 150 + 25).
  const PERIOD = 825
  const outage = (gap: number) => {
    const it = primed()
    it.send(1000, 1)
    it.send(1000 + gap, 2)
    it.send(9000, 3)
    return it
  }

  it("needs losses that lie further apart than three probe timeouts", () => {
    for (const gap of [PERIOD - 1, PERIOD]) {
      const result = outage(gap).ack(9100, [3, 3])
      assert.deepStrictEqual([result.lost, result.persistentCongestion], [[1, 2], false])
    }
    const { ack, controller } = outage(PERIOD + 1)
    assert.isTrue(ack(9100, [3, 3]).persistentCongestion)
    assert.deepStrictEqual(controller.log.at(-1), { event: 1000 + PERIOD + 1, persistent: true, lostBytes: 2000 })
  })

  it("is not declared when something between them arrived", () => {
    const { ack, send } = primed()
    send(1000, 1)
    send(4000, 2)
    send(8000, 3)
    send(9000, 4)
    const result = ack(9100, [4, 4], [2, 2])
    assert.deepStrictEqual([result.lost, result.persistentCongestion], [[1, 3], false])
  })

  it("is not declared from packets sent before the first sample", () => {
    const { ack, send } = make()
    send(0, 0)
    send(4000, 1)
    send(9000, 2)
    const result = ack(9100, [2, 2])
    assert.deepStrictEqual([result.lost, result.persistentCongestion], [[0, 1], false])
  })

  it("is not declared from packets that elicit nothing", () => {
    const { ack, recovery, send } = primed()
    recovery.onSent(1000, 1, 40, false, 1, true)
    recovery.onSent(8000, 2, 40, false, 2, true)
    send(9000, 3)
    const result = ack(9100, [3, 3])
    assert.deepStrictEqual([result.lost, result.lostBytes, result.persistentCongestion], [[1, 2], 0, false])
  })

  it("sums up over several rounds of loss detection, and is declared once", () => {
    const { ack, controller, recovery, send } = primed()
    send(1000, 1)
    send(1990, 2)
    send(1995, 3)
    const result = ack(2090, [3, 3])
    assert.deepStrictEqual([result.lost, result.persistentCongestion], [[1], false])
    assert.deepStrictEqual(recovery.onTimeout(recovery.deadline).lost, [2])
    assert.deepStrictEqual(controller.log.at(-1), { event: 1990, persistent: true, lostBytes: 1000 })
    send(2200, 4)
    send(2600, 5)
    assert.isFalse(ack(2700, [5, 5]).persistentCongestion)
  })
})

describe("Recovery: the gate", () => {
  it("answers now, never, or the pacer's time", () => {
    const { controller, recovery, send } = make()
    controller.limit = 2500
    controller.rate = 100
    assert.strictEqual(recovery.sendTime(7, 1200), 7)
    send(7, 0, 1)
    assert.strictEqual(recovery.sendTime(7, 500), 7)
    assert.strictEqual(recovery.sendTime(7, 501), NEVER)
    controller.limit = 1e6
    for (let i = 2; i < 12; i++) send(7, i)
    // Twelve datagrams of 1000 bytes: the burst of ten datagrams of 1200 is used up.
    assert.strictEqual(recovery.sendTime(7, 1200), 19)
    assert.strictEqual(recovery.sendTime(19, 1200), 19)
  })

  it("lets one datagram through whatever its size", () => {
    const { controller, recovery, send } = make()
    controller.limit = 1000
    assert.strictEqual(recovery.sendTime(0, 1200), 0)
    send(0, 0)
    assert.strictEqual(recovery.sendTime(0, 1200), NEVER)
  })

  it("tells growth apart from idling: window or pacer in the way, or nothing to send", () => {
    const flags = (limit: number, appLimited: boolean, ask: boolean): unknown => {
      const { ack, controller, recovery } = make()
      controller.limit = limit
      for (let i = 0; i < 4; i++) recovery.onSent(0, i, 1000, true, i, appLimited && i === 3)
      if (ask) recovery.sendTime(0, 1200)
      ack(50, [0, 0])
      return controller.log[0]
    }
    const acked = (appLimited: boolean) => ({ acked: 1000, sentAt: 0, appLimited })
    assert.deepStrictEqual(flags(1e6, true, false), acked(true))
    assert.deepStrictEqual(flags(1e6, false, true), acked(true), "there was room, but nobody used it")
    assert.deepStrictEqual(flags(4500, false, true), acked(false))
    assert.deepStrictEqual(flags(4500, true, false), acked(false), "the last byte filled the window")
  })
})

describe("Recovery: delivery rate", () => {
  it("is what was delivered over the longer of both intervals", () => {
    const { ack, controller, send } = make()
    // Ten bytes per millisecond: a packet every 100 ms, 1000 ms of round trip.
    let acked = 0
    for (let i = 0; i < 40; i++) {
      const now = i * 100
      while (acked * 100 + 1000 <= now) {
        ack(acked * 100 + 1000, [acked, acked])
        acked++
      }
      send(now, i)
    }
    const last = controller.samples.at(-1)
    assert.isDefined(last)
    assert.strictEqual(last?.deliveryRate, 10)
    assert.strictEqual(last?.interval, 1000)
    assert.strictEqual(last?.rtt, 1000)
    assert.strictEqual(last?.delivered, acked * 1000)
    assert.strictEqual(last?.txInFlight, 10_000)
    assert.isFalse(last?.appLimited)
  })

  it("marks samples that the application limited until what was in flight then is delivered", () => {
    const { ack, controller, recovery } = make()
    recovery.onSent(0, 0, 1000, true, 0, true)
    recovery.onSent(10, 1, 1000, true, 1, false)
    ack(100, [0, 0])
    recovery.onSent(100, 2, 1000, true, 2, false)
    ack(110, [1, 1])
    recovery.onSent(110, 3, 1000, true, 3, false)
    ack(200, [2, 2])
    ack(210, [3, 3])
    assert.deepStrictEqual(
      controller.samples.map((sample) => sample.appLimited),
      [false, true, true, false]
    )
  })

  it("counts losses since departure", () => {
    const { ack, controller, send } = primed()
    send(200, 1, 2, 3, 4, 5)
    ack(300, [3, 5])
    const sample = controller.samples.at(-1)
    assert.deepStrictEqual(
      [sample?.ackedBytes, sample?.lostBytes, sample?.lostSinceSent, sample?.txInFlight, sample?.bytesInFlight],
      [3000, 2000, 2000, 5000, 0]
    )
  })

  it("is not fooled by acknowledgements that come compressed", () => {
    const { ack, controller, send } = make()
    send(0, 0)
    send(10, 1)
    ack(1000, [0, 0])
    send(1000, 2)
    ack(1100, [1, 2])
    // 2000 bytes in 100 ms of acknowledging, but it took 1000 ms to send them.
    assert.deepStrictEqual([controller.samples.at(-1)?.interval, controller.samples.at(-1)?.deliveryRate], [1000, 2])
  })

  it("gives no sample over less than the shortest round trip", () => {
    const { ack, controller, send } = primed()
    send(200, 1, 3)
    // Packet 2 is not tracked: no round-trip sample, and an interval of 10 ms where the minimum is 100.
    ack(210, [1, 2])
    assert.deepStrictEqual([controller.samples.at(-1)?.interval, controller.samples.at(-1)?.deliveryRate], [0, 0])
  })
})

describe("Recovery: path and end", () => {
  it("another path starts from nothing, the old one's packets keep their fate", () => {
    const { ack, controller, recovery, send } = primed()
    send(200, 1, 2)
    const fresh = new Recorder()
    recovery.onPathChanged(fresh)
    assert.strictEqual(recovery.bytesInFlight, 0)
    assert.isFalse(recovery.rtt.hasSample)
    assert.notStrictEqual(recovery.deadline, NEVER, "a probe still watches over them")
    send(300, 3, 4, 5)
    const result = ack(900, [2, 2])
    assert.deepStrictEqual([result.acked, result.lost, result.rttSampled, result.newlyAckedBytes], [[2], [1], false, 0])
    assert.deepStrictEqual(ack(901, [3, 5]).acked, [3, 4, 5])
    assert.strictEqual(recovery.rtt.latest, 601)
    assert.strictEqual(recovery.bytesInFlight, 0)
    assert.deepStrictEqual(controller.log, [])
    assert.strictEqual(fresh.log.length, 3)
  })

  it("clear leaves nothing behind", () => {
    const { recovery, send } = primed()
    send(200, 1, 2, 3)
    recovery.clear()
    assert.deepStrictEqual(
      [recovery.bytesInFlight, recovery.deadline, recovery.tracked, recovery.oldest()],
      [0, NEVER, 0, undefined]
    )
    send(300, 4)
    assert.strictEqual(recovery.bytesInFlight, 1000)
  })

  it("a peer that acknowledges nothing cannot make the ring grow", () => {
    const { controller, recovery, send } = make()
    send(0, 0)
    for (let i = 1; i < MAX_TRACKED_PACKETS; i++) recovery.onSent(1, i, 40, false, i, true)
    assert.strictEqual(recovery.sendTime(1, 1200), NEVER)
    assert.strictEqual(recovery.deadline, 1024)
    recovery.onSent(2, MAX_TRACKED_PACKETS, 40, false, -1, true)
    assert.strictEqual(recovery.tracked, MAX_TRACKED_PACKETS)
    assert.strictEqual(recovery.bytesInFlight, 0)
    assert.isAtMost(recovery.deadline, 2)
    assert.deepStrictEqual({ ...recovery.onTimeout(2) }, { lost: [0], probe: false })
    assert.strictEqual(recovery.deadline, NEVER)
    assert.deepStrictEqual(controller.log, [])
  })

  it("ten thousand packets in flight, acknowledged in order and in pairs", () => {
    const { ack, recovery, send } = make()
    const count = 10_000
    for (let i = 0; i < count; i++) send(i / 100, i)
    assert.strictEqual(recovery.bytesInFlight, count * 1000)
    let seen = 0
    for (let i = 1; i < count; i += 2) {
      for (const packetNumber of ack(200 + i / 100, [Math.max(0, i - 300), i]).acked) {
        assert.strictEqual(packetNumber, seen++)
      }
    }
    assert.strictEqual(seen, count)
    assert.deepStrictEqual([recovery.bytesInFlight, recovery.tracked, recovery.deadline], [0, 0, NEVER])
  })
})

describe("Recovery: properties", () => {
  type Step =
    | { readonly type: "send"; readonly bytes: number; readonly eliciting: boolean }
    | { readonly type: "skip" }
    | { readonly type: "untracked" }
    | { readonly type: "timeout" }
    | { readonly type: "path" }
    | { readonly type: "ack"; readonly pick: ReadonlyArray<boolean>; readonly back: number }
    | { readonly type: "wait"; readonly ms: number }

  const step: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 80,
      arbitrary: fc.record({
        type: fc.constant("send" as const),
        bytes: fc.integer({ min: 32, max: 1200 }),
        eliciting: fc.boolean()
      })
    },
    {
      weight: 40,
      arbitrary: fc.record({
        type: fc.constant("ack" as const),
        pick: fc.array(fc.boolean(), { minLength: 1, maxLength: 20 }),
        back: fc.nat(30)
      })
    },
    { weight: 30, arbitrary: fc.record({ type: fc.constant("wait" as const), ms: fc.integer({ min: 0, max: 400 }) }) },
    { weight: 20, arbitrary: fc.constant({ type: "timeout" as const }) },
    { weight: 10, arbitrary: fc.constantFrom({ type: "skip" as const }, { type: "untracked" as const }) },
    { weight: 2, arbitrary: fc.constant({ type: "path" as const }) }
  )

  it("every packet has one fate, and bytes in flight are those of the open ones", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const recovery = new Recovery<number>(new Rtt(), new Recorder())
        const packets = new Map<number, { bytes: number; path: number; fate: "open" | "acked" | "lost" | "late" }>()
        const skipped = new Set<number>()
        let now = 0
        let next = 0
        let path = 0
        const onAcked = (packetNumber: number) => {
          const packet = packets.get(packetNumber)
          if (packet === undefined) return assert.fail(`${packetNumber} was never tracked`)
          assert.include(["open", "lost"], packet.fate)
          packet.fate = packet.fate === "open" ? "acked" : "late"
        }
        const onLost = (packetNumber: number) => {
          const packet = packets.get(packetNumber)
          assert.strictEqual(packet?.fate, "open")
          if (packet !== undefined) packet.fate = "lost"
        }
        const check = () => {
          let bytes = 0
          for (const packet of packets.values())
            if (packet.fate === "open" && packet.path === path) bytes += packet.bytes
          assert.strictEqual(recovery.bytesInFlight, bytes)
        }
        const acknowledge = (numbers: ReadonlyArray<number>) => {
          const ranges: Array<{ start: number; end: number }> = []
          for (const number of [...numbers].sort((a, b) => b - a)) {
            const last = ranges.at(-1)
            if (last !== undefined && last.start === number + 1) last.start = number
            else ranges.push({ start: number, end: number })
          }
          if (ranges.length === 0) return
          const result = recovery.onAck(now, ranges, 0)
          if (result === "invalid") return assert.fail("invalid")
          for (const packetNumber of result.acked) onAcked(packetNumber)
          for (const packetNumber of result.lost) onLost(packetNumber)
          const settled = recovery.largestAcked - 3
          for (const [number, packet] of packets) if (number <= settled) assert.notStrictEqual(packet.fate, "open")
        }
        for (const it of steps) {
          if (it.type === "send") {
            packets.set(next, { bytes: it.eliciting ? it.bytes : 0, path, fate: "open" })
            recovery.onSent(now, next, it.bytes, it.eliciting, next, false)
            next++
          } else if (it.type === "skip") {
            skipped.add(next)
            recovery.onSkipped(next++)
          } else if (it.type === "untracked") {
            next++
          } else if (it.type === "wait") {
            now += it.ms
          } else if (it.type === "path") {
            path++
            recovery.onPathChanged(new Recorder())
          } else if (it.type === "timeout") {
            const due = recovery.deadline
            if (due < Number.POSITIVE_INFINITY) now = Math.max(now, due)
            const { lost, probe } = recovery.onTimeout(now)
            for (const packetNumber of lost) onLost(packetNumber)
            if (due < Number.POSITIVE_INFINITY) assert.isTrue(probe || lost.length > 0, "a deadline decides something")
          } else {
            const last = [...packets.keys()].at(-1) ?? -1
            acknowledge(
              it.pick.flatMap((taken, i) => {
                const number = last - it.back + i
                return taken && number >= 0 && number <= last && !skipped.has(number) ? [number] : []
              })
            )
          }
          check()
        }
        acknowledge([...packets.keys()])
        check()
        assert.strictEqual(recovery.bytesInFlight, 0)
        assert.strictEqual(recovery.deadline, NEVER)
        for (const packet of packets.values()) assert.notStrictEqual(packet.fate, "open")
      }),
      { seed: 9002, numRuns: 600 }
    )
  })
})
