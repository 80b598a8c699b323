import { assert, describe, it } from "@effect/vitest"
import { EventHeap } from "../../src/layers/EventHeap.ts"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"
import { type LinkOptions, SimulatedLink } from "../../src/layers/SimulatedLink.ts"

const bytes = new Uint8Array(1172).fill(5)
const PACKET = 1200

const make = (options: LinkOptions, seed = 1) => new SimulatedLink(options, new SeededRandom(seed))

const arrivalsOf = (outcome: ReturnType<SimulatedLink["transmit"]>) => {
  if (typeof outcome === "string") assert.fail(outcome)
  return outcome
}

describe("SimulatedLink", () => {
  it("without properties delivers at once and intact", () => {
    assert.deepStrictEqual(make({}).transmit(7, bytes, PACKET), [{ at: 7, bytes }])
  })

  it("delays by a constant and a jitter that never changes the order", () => {
    const link = make({ delayMs: 20, jitterMs: 10 })
    let last = 0
    let spread = 0
    for (let now = 0; now < 1000; now++) {
      const [arrival] = arrivalsOf(link.transmit(now, bytes, PACKET))
      const at = arrival?.at ?? 0
      assert.isAtLeast(at, now + 20)
      assert.isBelow(at, now + 30)
      assert.isAtLeast(at, last)
      spread = Math.max(spread, at - now - 20)
      last = at
    }
    assert.isAbove(spread, 9)
  })

  it("serves a queue at its rate and drops what does not fit", () => {
    const link = make({ delayMs: 5, rate: { bitsPerSecond: 9_600_000, queueBytes: 3 * PACKET } })
    const outcomes = [0, 1, 2, 3].map(() => link.transmit(100, bytes, PACKET))
    assert.deepStrictEqual(
      outcomes.map((outcome) => (typeof outcome === "string" ? outcome : outcome[0]?.at)),
      [106, 107, 108, "queue full"]
    )
    assert.strictEqual(arrivalsOf(link.transmit(101, bytes, PACKET))[0]?.at, 109)
    assert.strictEqual(arrivalsOf(link.transmit(200, bytes, PACKET))[0]?.at, 206)
  })

  it("drops packets above the MTU", () => {
    const link = make({ mtu: PACKET })
    assert.isArray(link.transmit(0, bytes, PACKET))
    assert.strictEqual(link.transmit(0, bytes, PACKET + 1), "too long")
  })

  it("loses at the given rate, the same packets for the same seed", () => {
    const losses = (seed: number) => {
      const link = make({ loss: 0.1 }, seed)
      return Array.from({ length: 10_000 }, (_, i) => (link.transmit(0, bytes, PACKET) === "lost" ? i : -1))
        .filter((i) => i >= 0)
        .join()
    }
    const first = losses(1)
    const count = first.split(",").length
    assert.isAbove(count, 900)
    assert.isBelow(count, 1100)
    assert.isTrue(losses(1) === first)
    assert.isFalse(losses(2) === first)
  })

  it("loses in bursts as Gilbert and Elliott do", () => {
    const link = make({ loss: { goodToBad: 0.01, badToGood: 0.25, lossInGood: 0, lossInBad: 1 } })
    let lost = 0
    let bursts = 0
    let inBurst = false
    for (let i = 0; i < 100_000; i++) {
      const loses = link.transmit(0, bytes, PACKET) === "lost"
      if (loses) lost++
      if (loses && !inBurst) bursts++
      inBurst = loses
    }
    // Stationary: 0.01 / 0.26 of all packets; a burst is 1 / 0.25 packets long in the mean.
    assert.closeTo(lost / 100_000, 0.01 / 0.26, 0.003)
    assert.closeTo(lost / bursts, 4, 0.3)
  })

  it("holds some back while others pass", () => {
    const link = make({ delayMs: 10, reorder: { probability: 0.1, byMs: 30 } })
    let held = 0
    for (let now = 0; now < 10_000; now++) {
      const at = arrivalsOf(link.transmit(now, bytes, PACKET))[0]?.at
      if (at === now + 40) held++
      else assert.strictEqual(at, now + 10)
    }
    assert.closeTo(held, 1000, 100)
  })

  it("duplicates", () => {
    const link = make({ duplicate: 0.2 })
    let copies = 0
    for (let i = 0; i < 10_000; i++) copies += arrivalsOf(link.transmit(0, bytes, PACKET)).length
    assert.closeTo(copies, 12_000, 200)
  })

  it("damages one byte of a copy and leaves the sender's buffer alone", () => {
    const link = make({ corrupt: 1 })
    for (let i = 0; i < 100; i++) {
      const damaged = arrivalsOf(link.transmit(0, bytes, PACKET))[0]?.bytes ?? bytes
      assert.strictEqual(damaged.filter((byte) => byte !== 5).length, 1)
    }
    assert.isTrue(bytes.every((byte) => byte === 5))
    assert.lengthOf(arrivalsOf(link.transmit(0, new Uint8Array(0), 28))[0]?.bytes ?? bytes, 0)
  })

  it("can be given other properties: the queue is empty, the wire starts anew", () => {
    const link = make({ delayMs: 1000, rate: { bitsPerSecond: 9600, queueBytes: 10_000 } })
    link.transmit(0, bytes, PACKET)
    link.configure({ delayMs: 1 })
    assert.strictEqual(arrivalsOf(link.transmit(0, bytes, PACKET))[0]?.at, 1)
  })
})

describe("SeededRandom", () => {
  it("is the same for the same seed, and any bit of the seed counts", () => {
    const first = (seed: number) => new SeededRandom(seed).bytes(16)
    assert.deepStrictEqual(first(42), first(42))
    const seeds = [0, 1, 2, -1, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 52]
    assert.strictEqual(new Set(seeds.map((seed) => first(seed).join())).size, seeds.length)
  })

  it("forks generators that neither overlap nor disturb their origin", () => {
    const origin = new SeededRandom(7)
    const next = new SeededRandom(7).u32()
    const forks = ["a", "b", "ab", "ba", ""].map((label) => origin.fork(label).u32())
    assert.strictEqual(new Set(forks).size, forks.length)
    assert.strictEqual(origin.fork("a").u32(), forks[0])
    assert.strictEqual(origin.u32(), next)
  })

  it("is even", () => {
    const random = new SeededRandom(3)
    const counts = new Array<number>(16).fill(0)
    for (let i = 0; i < 160_000; i++) {
      const at = random.below(16)
      counts[at] = (counts[at] ?? 0) + 1
    }
    const chiSquare = counts.reduce((sum, count) => sum + (count - 10_000) ** 2 / 10_000, 0)
    assert.isBelow(chiSquare, 37.7)
  })
})

describe("EventHeap", () => {
  it("gives events by time, equal times by insertion, and none before its time", () => {
    const random = new SeededRandom(5)
    const heap = new EventHeap<{ readonly at: number; readonly id: number }>()
    const events = Array.from({ length: 1000 }, (_, id) => ({ at: random.below(50), id }))
    for (const event of events) heap.push(event)
    assert.isUndefined(heap.popDue(-1))
    const sorted = [...events].sort((a, b) => a.at - b.at || a.id - b.id)
    for (const event of sorted) {
      assert.strictEqual(heap.nextAt, event.at)
      assert.strictEqual(heap.popDue(50), event)
    }
    assert.strictEqual(heap.size, 0)
    assert.strictEqual(heap.nextAt, Number.POSITIVE_INFINITY)
  })
})
