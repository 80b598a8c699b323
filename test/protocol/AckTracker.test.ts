import { assert, describe, it } from "@effect/vitest"
import { AckTracker } from "../../src/domain/protocol/AckTracker.ts"
import { MAX_ACK_DELAY_MS, MAX_ACK_RANGES } from "../../src/domain/protocol/Constants.ts"

const NEVER = Number.POSITIVE_INFINITY

/** What a session does: sends what is pending and remembers that it did. */
const acknowledge = (tracker: AckTracker, now: number) => {
  const frame = tracker.frame(now)
  tracker.onAckSent(now, frame.ranges[0]?.end ?? -1)
  return frame
}

describe("AckTracker: when", () => {
  it("owes nothing at first", () => {
    const tracker = new AckTracker()
    assert.strictEqual(tracker.deadline, NEVER)
    assert.isFalse(tracker.pending)
    assert.isFalse(tracker.due(1e9))
    assert.throws(() => tracker.frame(0), RangeError)
  })

  it("waits the maximum delay for one ack-eliciting packet, to the millisecond", () => {
    const tracker = new AckTracker()
    tracker.onReceived(1000, 0, true)
    assert.isTrue(tracker.pending)
    assert.strictEqual(tracker.deadline, 1000 + MAX_ACK_DELAY_MS)
    assert.isFalse(tracker.due(1000 + MAX_ACK_DELAY_MS - 0.001))
    assert.isTrue(tracker.due(1000 + MAX_ACK_DELAY_MS))
  })

  it("is due at once for the second, counted from the last ACK", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 0, true)
    tracker.onReceived(5, 1, true)
    assert.strictEqual(tracker.deadline, 5)
    acknowledge(tracker, 5)
    assert.strictEqual(tracker.deadline, NEVER)
    assert.isFalse(tracker.pending)
    tracker.onReceived(6, 2, true)
    assert.strictEqual(tracker.deadline, 6 + MAX_ACK_DELAY_MS)
    tracker.onReceived(7, 3, true)
    assert.strictEqual(tracker.deadline, 7)
  })

  it("is due at once where the caller asks", () => {
    const tracker = new AckTracker()
    tracker.onReceived(3, 0, true, true)
    assert.strictEqual(tracker.deadline, 3)
  })

  it("never owes for packets that elicit nothing, but reports them when it can", () => {
    const tracker = new AckTracker()
    for (let n = 0; n < 10; n++) tracker.onReceived(n, n, false)
    assert.strictEqual(tracker.deadline, NEVER)
    assert.isTrue(tracker.pending)
    tracker.onReceived(10, 10, true)
    assert.strictEqual(tracker.deadline, 10 + MAX_ACK_DELAY_MS)
    assert.deepStrictEqual(tracker.frame(10).ranges, [{ start: 0, end: 10 }])
  })

  it("is due at once behind a gap", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 0, true)
    acknowledge(tracker, 0)
    tracker.onReceived(1, 2, true)
    assert.strictEqual(tracker.deadline, 1)
    acknowledge(tracker, 1)
    // The gap is known by now and delays nothing further.
    tracker.onReceived(2, 3, true)
    assert.strictEqual(tracker.deadline, 2 + MAX_ACK_DELAY_MS)
  })

  it("is due at once for a packet that comes late", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 0, true)
    tracker.onReceived(1, 2, true)
    acknowledge(tracker, 1)
    tracker.onReceived(2, 1, true)
    assert.strictEqual(tracker.deadline, 2)
    assert.deepStrictEqual(tracker.frame(2).ranges, [{ start: 0, end: 2 }])
  })

  it("takes packets that elicited nothing for no gap", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 0, true)
    acknowledge(tracker, 0)
    tracker.onReceived(1, 1, false)
    tracker.onReceived(1, 2, false)
    tracker.onReceived(2, 3, true)
    assert.strictEqual(tracker.deadline, 2 + MAX_ACK_DELAY_MS)
  })

  it("takes a first packet that is not number 0 for no gap", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 7, true)
    assert.strictEqual(tracker.deadline, MAX_ACK_DELAY_MS)
  })

  it("takes what was forgotten for no gap", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 0, true)
    acknowledge(tracker, 0)
    for (const n of [1, 2, 3]) tracker.onReceived(1, n, false)
    acknowledge(tracker, 1)
    tracker.forget(3)
    tracker.onReceived(2, 4, true)
    assert.strictEqual(tracker.deadline, 2 + MAX_ACK_DELAY_MS)
  })

  it("counts a duplicate for nothing", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 0, true)
    tracker.onReceived(1, 0, true)
    assert.strictEqual(tracker.deadline, MAX_ACK_DELAY_MS)
    acknowledge(tracker, 2)
    tracker.onReceived(3, 0, true)
    assert.isFalse(tracker.pending)
  })

  it("still owes when more arrived than the ACK that left had named", () => {
    const tracker = new AckTracker()
    tracker.onReceived(0, 0, true)
    tracker.onReceived(1, 1, true)
    tracker.onAckSent(0, 0)
    assert.isTrue(tracker.pending)
    assert.strictEqual(tracker.deadline, 1)
  })
})

describe("AckTracker: what", () => {
  it("lists ranges downwards and counts the delay from the largest packet's arrival", () => {
    const tracker = new AckTracker()
    tracker.onReceived(100, 1, true)
    tracker.onReceived(101, 2, true)
    tracker.onReceived(102.5, 9, true)
    tracker.onReceived(110, 5, true)
    assert.strictEqual(tracker.largest, 9)
    assert.deepStrictEqual(tracker.frame(112.75), {
      type: "Ack",
      ranges: [
        { start: 9, end: 9 },
        { start: 5, end: 5 },
        { start: 1, end: 2 }
      ],
      delayUs: 10_250
    })
  })

  it("reports no negative delay when the clock steps back", () => {
    const tracker = new AckTracker()
    tracker.onReceived(100, 0, true)
    assert.strictEqual(tracker.frame(90).delayUs, 0)
  })

  it("forgets what the peer knows, but never the largest", () => {
    const tracker = new AckTracker()
    for (const n of [0, 1, 2, 5, 6, 9]) tracker.onReceived(0, n, true)
    tracker.forget(6)
    assert.deepStrictEqual(tracker.frame(0).ranges, [
      { start: 9, end: 9 },
      { start: 6, end: 6 }
    ])
    tracker.forget(1000)
    assert.deepStrictEqual(tracker.frame(0).ranges, [{ start: 9, end: 9 }])
  })

  it("still acknowledges a packet that comes after its neighbours were forgotten", () => {
    const tracker = new AckTracker()
    for (const n of [0, 1, 2, 4]) tracker.onReceived(0, n, true)
    acknowledge(tracker, 0)
    tracker.forget(4)
    tracker.onReceived(9, 3, true)
    assert.strictEqual(tracker.deadline, 9)
    assert.deepStrictEqual(tracker.frame(9).ranges, [{ start: 3, end: 4 }])
  })

  it("keeps the highest ranges of a peer that skips every second number", () => {
    const tracker = new AckTracker()
    for (let n = 0; n < 100_000; n += 2) tracker.onReceived(0, n, true)
    const { ranges } = tracker.frame(0)
    assert.strictEqual(ranges.length, MAX_ACK_RANGES)
    assert.deepStrictEqual(ranges[0], { start: 99_998, end: 99_998 })
    assert.deepStrictEqual(ranges.at(-1), { start: 99_998 - 2 * 63, end: 99_998 - 2 * 63 })
  })

  it("leaves a packet too old to remember unacknowledged", () => {
    const tracker = new AckTracker()
    for (let n = 1000; n < 1000 + 2 * MAX_ACK_RANGES; n += 2) tracker.onReceived(0, n, true)
    acknowledge(tracker, 0)
    tracker.onReceived(1, 3, true)
    assert.isFalse(tracker.pending)
    assert.strictEqual(tracker.deadline, NEVER)
    assert.strictEqual(tracker.frame(1).ranges.at(-1)?.start, 1000)
  })
})
