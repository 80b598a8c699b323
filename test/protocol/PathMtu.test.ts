import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { PathMtu } from "../../src/domain/protocol/PathMtu.ts"

const RTT = 50
const RAISE = 600_000

const random = (seed: number): (() => number) => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Packet {
  readonly number: number
  readonly bytes: number
  readonly probe: boolean
  readonly arrives: boolean
}

/**
 * A sender and its path, in rounds of one RTT: each round up to `window` full packets, a small one and a probe leave. A
 * packet is declared lost once a later one has arrived, as loss detection does it; a PING follows when nothing else can.
 */
class World {
  now = 0
  sent = 0
  lost = 0
  holes = 0
  probes: Array<number> = []
  readonly machine: PathMtu
  /** Bytes that the path carries, and its random loss. */
  mtu: number
  loss: number
  #number = 0
  #open: Array<Packet> = []
  readonly #random: () => number

  constructor(mtu: number, ceiling: number, loss = 0, seed = 1) {
    this.mtu = mtu
    this.loss = loss
    this.#random = random(seed)
    this.machine = new PathMtu(this.now, { ceiling })
  }

  round(window: number): void {
    const machine = this.machine
    if (machine.deadline <= this.now) {
      machine.onTimeout(this.now)
      assert.isAbove(machine.deadline, this.now)
    }
    const bytes = machine.pollProbe(this.now)
    assert.isUndefined(machine.pollProbe(this.now))
    if (bytes !== undefined) {
      assert.strictEqual(bytes % 16, 0)
      assert.isAbove(bytes, machine.current)
      this.probes.push(bytes)
      this.#send(bytes, true)
    }
    for (let i = 0; i < window; i++) this.#send(machine.current, false)
    this.#send(64, false)
    this.now += RTT
    const open = this.#open
    this.#open = []
    let largest = -1
    for (const packet of open) {
      if (!packet.arrives) continue
      largest = packet.number
      if (packet.probe) machine.onProbeAcked(this.now, packet.number, packet.bytes)
      else machine.onPacketAcked(packet.number, packet.bytes)
    }
    for (const packet of open) {
      if (packet.arrives) continue
      if (packet.number > largest) {
        this.#open.push(packet)
        continue
      }
      this.lost++
      if (packet.probe) machine.onProbeLost(this.now, packet.number, packet.bytes)
      else if (machine.onPacketLost(this.now, packet.number, packet.bytes, this.#number)) {
        this.holes++
        assert.strictEqual(machine.current, machine.base)
      }
    }
  }

  rounds(count: number, window: number): void {
    for (let i = 0; i < count; i++) this.round(window)
  }

  /** Runs until the search is over; answers the size found. */
  search(window = 4): number {
    for (let i = 0; i < 2000 && !this.machine.complete; i++) this.round(window)
    assert.isTrue(this.machine.complete, "the search never ends")
    return this.machine.current
  }

  #send(bytes: number, probe: boolean): void {
    this.sent++
    const arrives = bytes <= this.mtu && this.#random() >= this.loss
    this.#open.push({ number: this.#number++, bytes, probe, arrives })
  }
}

const blocks = (bytes: number): number => bytes - (bytes % 16)

describe("PathMtu", () => {
  it("does nothing where nothing larger is possible", () => {
    for (const ceiling of [0, 1199, 1200, 1215]) {
      const machine = new PathMtu(0, { ceiling })
      assert.isFalse(machine.enabled)
      assert.strictEqual(machine.current, 1200)
      assert.strictEqual(machine.deadline, Number.POSITIVE_INFINITY)
      machine.onTimeout(1e9)
      assert.isUndefined(machine.pollProbe(1e9))
      assert.isFalse(machine.onProbeAcked(1e9, 1, 1200))
      assert.isFalse(machine.onPacketLost(1e9, 1, 1200, 2))
    }
    assert.throws(() => new PathMtu(0, { base: 1201, ceiling: 1400 }), RangeError)
  })

  it("one probe suffices where the path carries the ceiling", () => {
    const machine = new PathMtu(7, { ceiling: 65_507 })
    assert.strictEqual(machine.deadline, Number.POSITIVE_INFINITY)
    assert.strictEqual(machine.pollProbe(7), 65_504)
    assert.isUndefined(machine.pollProbe(7))
    assert.strictEqual(machine.deadline, 15_007)
    assert.isTrue(machine.onProbeAcked(8, 0, 65_504))
    assert.strictEqual(machine.current, 65_504)
    assert.isTrue(machine.complete)
    assert.strictEqual(machine.deadline, Number.POSITIVE_INFINITY)
    assert.isUndefined(machine.pollProbe(8))
  })

  it("gives a size up after three losses, each but the last followed by a pause", () => {
    const machine = new PathMtu(0, { ceiling: 1472 })
    let number = 0
    for (const at of [0, 100]) {
      assert.strictEqual(machine.pollProbe(at), 1472)
      machine.onProbeLost(at + 50, number++, 1472)
      assert.strictEqual(machine.deadline, at + 100)
      assert.isUndefined(machine.pollProbe(at + 100))
      machine.onTimeout(at + 99.9)
      assert.isUndefined(machine.pollProbe(at + 99.9))
      machine.onTimeout(at + 100)
    }
    assert.strictEqual(machine.pollProbe(200), 1472)
    machine.onProbeLost(250, number, 1472)
    assert.strictEqual(machine.current, 1200)
    assert.strictEqual(machine.pollProbe(250), 1456)
  })

  it("a probe whose fate nobody reports is lost after 15 s", () => {
    const machine = new PathMtu(0, { ceiling: 1472 })
    let now = 0
    for (let i = 0; i < 3; i++) {
      assert.strictEqual(machine.pollProbe(now), 1472)
      assert.strictEqual(machine.deadline, now + 15_000)
      now = machine.deadline
      machine.onTimeout(now)
      if (i === 2) break
      now = machine.deadline
      machine.onTimeout(now)
    }
    assert.strictEqual(machine.pollProbe(now), 1456)
  })

  it("an acknowledgement that is only late still counts", () => {
    const machine = new PathMtu(0, { ceiling: 1472 })
    for (let i = 0; i < 3; i++) {
      assert.strictEqual(machine.pollProbe(i * 100), 1472)
      machine.onProbeLost(i * 100 + 50, i, 1472)
      machine.onTimeout(i * 100 + 100)
    }
    assert.strictEqual(machine.pollProbe(300), 1456)
    assert.isTrue(machine.onProbeAcked(310, 2, 1472))
    assert.strictEqual(machine.current, 1472)
    assert.isTrue(machine.complete)
    // The fate of the one under way changes nothing any more.
    machine.onProbeLost(320, 3, 1456)
    assert.isFalse(machine.onProbeAcked(330, 3, 1456))
    assert.strictEqual(machine.current, 1472)
  })

  it("known sizes from the largest down, then one block above", () => {
    const world = new World(1400, 1500)
    assert.strictEqual(world.search(), 1392)
    const tried = world.probes.filter((size, i, all) => size !== all[i - 1])
    assert.deepStrictEqual(tried, [1488, 1472, 1456, 1440, 1392, 1408])
    assert.strictEqual(world.probes.length, 5 * 3 + 1)
  })

  it("ends at the greatest whole blocks the path carries, with few probes", () => {
    for (const ceiling of [1472, 1500, 9000, 65_507]) {
      for (let mtu = 1200; mtu <= 1500; mtu++) {
        const world = new World(mtu, ceiling)
        const allowed = Math.min(blocks(mtu), blocks(ceiling))
        assert.strictEqual(world.search(), allowed, `mtu ${mtu}, ceiling ${ceiling}`)
        assert.isAtMost(world.probes.length, 50)
        assert.strictEqual(world.holes, 0)
      }
    }
    for (const mtu of [1501, 2304, 4096, 4470, 8999, 9000, 16_384, 65_506, 65_535]) {
      const world = new World(mtu, 65_507)
      assert.strictEqual(world.search(), Math.min(blocks(mtu), 65_504), `mtu ${mtu}`)
      assert.isAtMost(world.probes.length, 60)
    }
  })

  it("ends below the truth at worst under random loss, and at it within a few searches", () => {
    let first = 0
    let runs = 0
    for (const loss of [0.1, 0.3]) {
      for (let mtu = 1200; mtu <= 1500; mtu += 7) {
        for (const ceiling of [1472, 65_507]) {
          const seed = mtu * 100 + loss * 10
          const world = new World(mtu, ceiling, loss, seed)
          const allowed = Math.min(blocks(mtu), ceiling)
          runs++
          if (world.search(6) === allowed) first++
          for (let i = 0; i < 12 && world.machine.current < allowed; i++) {
            world.now = Math.max(world.now, Math.min(world.machine.deadline, world.now + RAISE))
            world.round(6)
            world.search(6)
          }
          assert.strictEqual(world.machine.current, allowed, `mtu ${mtu}, loss ${loss}, seed ${seed}`)
          assert.isAtMost(world.probes.length, 13 * 60)
        }
      }
    }
    assert.isAtLeast(first / runs, 0.85)
  })

  it("searches again after ten minutes and finds a path that has grown", () => {
    const world = new World(1400, 1472)
    world.search()
    const tried = world.probes.length
    assert.isAbove(world.machine.deadline, world.now + RAISE - 1000)
    world.mtu = 1500
    world.rounds(100, 4)
    assert.strictEqual(world.probes.length, tried)
    world.now = world.machine.deadline
    world.round(4)
    assert.strictEqual(world.machine.current, 1472)
    assert.strictEqual(world.probes.length, tried + 1)
    assert.strictEqual(world.machine.deadline, Number.POSITIVE_INFINITY)
  })

  it("a black hole costs a few packets, then everything fits again", () => {
    for (const window of [1, 2, 10, 100]) {
      for (const mtu of [1200, 1280, 1400, 1471]) {
        const world = new World(1500, 1472)
        world.search(window)
        world.rounds(10, window)
        assert.strictEqual(world.lost, 0)
        world.mtu = mtu
        const before = world.sent
        while (world.machine.current > 1200 && world.sent < before + 10_000) world.round(window)
        assert.strictEqual(world.machine.current, 1200)
        assert.isAtMost(world.lost, Math.max(6, 3 * window), `window ${window}`)
        // It rests, then finds the new truth.
        const probes = world.probes.length
        world.rounds(2000 / RTT - 1, window)
        assert.strictEqual(world.probes.length, probes)
        world.rounds(5, window)
        assert.isAbove(world.probes.length, probes)
        assert.strictEqual(world.search(window), blocks(mtu))
        assert.strictEqual(world.holes, 1)
      }
    }
  })

  it("packets below the full size that vanish betray a black hole as well", () => {
    const machine = new PathMtu(0, { ceiling: 1472 })
    machine.pollProbe(0)
    machine.onProbeAcked(50, 0, 1472)
    let fell = 0
    for (let number = 1; fell === 0; number += 2)
      if (machine.onPacketLost(number, number, 1312, number + 1)) fell = number
    assert.strictEqual(fell, 11)
    assert.strictEqual(machine.current, 1200)
  })

  it("one overflowing queue is no black hole, nor is a cut link", () => {
    const world = new World(1500, 1472)
    world.search()
    for (let i = 0; i < 20; i++) {
      // Everything of two rounds lost, then all is well for one.
      world.loss = 1
      world.rounds(2, 200)
      world.loss = 0
      world.rounds(1, 10)
    }
    assert.isAbove(world.lost, 4000)
    assert.strictEqual(world.holes, 0)
    assert.strictEqual(world.machine.current, 1472)
  })

  it("random loss is hardly ever taken for a black hole", () => {
    for (const [loss, window, allowed] of [
      [0.1, 1, 0],
      [0.2, 1, 4],
      [0.2, 4, 0],
      [0.2, 50, 0],
      [0.4, 10, 0]
    ] as const) {
      const world = new World(1500, 1472)
      world.search()
      world.loss = loss
      while (world.sent < 40_000) world.round(window)
      assert.isAtMost(world.holes, allowed, `loss ${loss}, window ${window}`)
    }
  })

  it("repeated black holes rest longer and longer", () => {
    const world = new World(1500, 1472)
    const rests: Array<number> = []
    for (let i = 0; i < 12; i++) {
      world.mtu = 1500
      world.search()
      world.mtu = 1200
      const holes = world.holes
      while (world.holes === holes) world.round(10)
      rests.push(Math.round((world.machine.deadline - world.now) / 1000))
      world.mtu = 1500
      world.now = world.machine.deadline
      world.rounds(5, 10)
    }
    assert.deepStrictEqual(rests, [2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600])
  })

  it("another path starts from the base, and the old one's packets teach nothing", () => {
    const machine = new PathMtu(0, { ceiling: 1472 })
    machine.pollProbe(0)
    machine.onProbeAcked(50, 0, 1472)
    machine.onPathChanged(60, 100, 1400)
    assert.strictEqual(machine.current, 1200)
    assert.isFalse(machine.onProbeAcked(61, 99, 1392))
    assert.strictEqual(machine.pollProbe(61), 1392)
    machine.onProbeLost(62, 99, 1392)
    assert.strictEqual(machine.deadline, 15_061)
    assert.isTrue(machine.onProbeAcked(63, 100, 1392))
    for (let i = 0; i < 99; i++) assert.isFalse(machine.onPacketLost(70 + i, i, 1392, 200 + i))
    assert.strictEqual(machine.current, 1392)
    machine.onPathChanged(90, 300, 1200)
    assert.isFalse(machine.enabled)
    assert.strictEqual(machine.current, 1200)
  })

  it("a lower ceiling holds at once, a higher one is searched for", () => {
    const machine = new PathMtu(0, { ceiling: 1472 })
    machine.pollProbe(0)
    machine.onProbeAcked(50, 0, 1472)
    machine.setCeiling(60, 1300)
    assert.strictEqual(machine.current, 1296)
    assert.isTrue(machine.complete)
    machine.setCeiling(70, 9000)
    assert.strictEqual(machine.current, 1296)
    assert.strictEqual(machine.pollProbe(70), 8992)
    machine.setCeiling(80, 0)
    assert.strictEqual(machine.current, 1200)
    assert.isFalse(machine.onProbeAcked(90, 1, 8992))
    assert.strictEqual(machine.current, 1200)
    assert.isFalse(machine.enabled)
  })

  it("holds its bounds whatever it is told", () => {
    const call = fc.record({
      what: fc.integer({ min: 0, max: 7 }),
      number: fc.integer({ min: 0, max: 300 }),
      bytes: fc.oneof(
        fc.integer({ min: 0, max: 70_000 }),
        fc.integer({ min: 70, max: 95 }).map((n) => n * 16)
      ),
      wait: fc.integer({ min: 0, max: 700_000 })
    })
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 66_000 }), fc.array(call, { maxLength: 200 }), (ceiling, calls) => {
        const machine = new PathMtu(0, { ceiling })
        let now = 0
        let inFlight: number | undefined
        let highest = Math.max(1200, blocks(ceiling))
        for (const { what, number, bytes, wait } of calls) {
          now += wait
          const before = machine.current
          if (what === 0) {
            machine.onTimeout(now)
            assert.isAbove(machine.deadline, now)
          } else if (what === 1) inFlight = machine.pollProbe(now) ?? inFlight
          else if (what === 2 && inFlight !== undefined) {
            assert.strictEqual(machine.onProbeAcked(now, number, inFlight), machine.current > before)
          } else if (what === 3 && inFlight !== undefined) machine.onProbeLost(now, number, inFlight)
          else if (what === 4) machine.onPacketAcked(number, bytes)
          else if (what === 5) {
            const fell = machine.onPacketLost(now, number, bytes, number + 1)
            assert.strictEqual(fell, machine.current < before)
          } else if (number % 8 === 0) {
            highest = Math.max(1200, blocks(bytes))
            machine.setCeiling(now, bytes)
          }
          assert.strictEqual(machine.current % 16, 0)
          assert.isAtLeast(machine.current, 1200)
          assert.isAtMost(machine.current, highest)
          const size = machine.enabled ? 0 : machine.pollProbe(now)
          assert.isTrue(machine.enabled || size === undefined)
        }
      }),
      { seed: 8899, numRuns: 500 }
    )
  })
})
