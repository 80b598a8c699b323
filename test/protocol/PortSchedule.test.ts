import { assert, describe, it } from "@effect/vitest"
import { PORT_CHOICES, PORT_COUNT, PORT_FIRST, PORT_PERIOD_MS } from "../../src/domain/protocol/Constants.ts"
import { fromHex } from "../../src/domain/protocol/Cursor.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { WALL } from "./Pair.ts"

const seedOf = (value: number): Uint8Array => new Uint8Array(32).fill(value)
const make = (value: number, periodMs = PORT_PERIOD_MS) => PortSchedule.make(primitives, seedOf(value), periodMs)

describe("PortSchedule", () => {
  it("draws different ports in range for each period, the same for whoever has the seed", () => {
    const schedule = make(1)
    const again = make(1)
    const period = schedule.periodAt(WALL)
    for (let p = period; p < period + 100; p++) {
      const ports = schedule.portsOf(p)
      assert.strictEqual(ports.length, PORT_CHOICES)
      assert.strictEqual(new Set(ports).size, PORT_CHOICES)
      assert.isTrue(ports.every((port) => port >= PORT_FIRST && port < PORT_FIRST + PORT_COUNT))
      assert.deepStrictEqual(again.portsOf(p), ports)
    }
    const firsts = Array.from({ length: 1000 }, (_, i) => schedule.portsOf(period + i)[0])
    assert.isAbove(new Set(firsts).size, 900)
    assert.notDeepEqual(make(2).portsOf(period), schedule.portsOf(period))
  })

  it("keeps a period from its start to the next one's, at a phase of the seed's own", () => {
    const phases = new Set<number>()
    for (let seed = 0; seed < 20; seed++) {
      const schedule = make(seed)
      const period = schedule.periodAt(WALL)
      const start = schedule.startOf(period)
      assert.isTrue(start <= WALL && WALL < schedule.startOf(period + 1))
      assert.strictEqual(schedule.startOf(period + 1) - start, PORT_PERIOD_MS)
      assert.deepStrictEqual([start - 1, start, start + PORT_PERIOD_MS - 1].map(schedule.periodAt), [
        period - 1,
        period,
        period
      ])
      phases.add(start % PORT_PERIOD_MS)
    }
    assert.strictEqual(phases.size, 20)
  })

  it("looks first where the server is now, then where it was and will be, then where it was pushed aside", () => {
    const schedule = make(3)
    const period = schedule.periodAt(WALL)
    const ports = PortSchedule.candidates(schedule, WALL)
    const row = (k: number) => [period, period - 1, period + 1].map((each) => schedule.portsOf(each)[k])
    assert.deepStrictEqual(ports.slice(0, 6), [...row(0), ...row(1)])
    assert.strictEqual(new Set(ports).size, ports.length)
    assert.isAtMost(ports.length, 3 * PORT_CHOICES)
  })

  it("is what the text says, byte for byte", () => {
    const seed = fromHex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f") as Uint8Array
    const expand = (info: Uint8Array): number => {
      const bytes = primitives.hkdf(new Uint8Array(0), seed, info, 4)
      return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
    }
    const text = (words: string, ...rest: ReadonlyArray<number>) =>
      Uint8Array.from([...new TextEncoder().encode(words), ...rest])
    const schedule = PortSchedule.make(primitives, seed, PORT_PERIOD_MS)
    assert.strictEqual(schedule.startOf(0), expand(text("clawchat/1 port phase")) % PORT_PERIOD_MS)
    const first = PORT_FIRST + (expand(text("clawchat/1 port", 0, 0, 0, 0, 0, 0, 1, 0, 0)) % PORT_COUNT)
    assert.strictEqual(schedule.portsOf(256)[0], first)
  })

  it("knows no time before its first period", () => {
    const schedule = make(4)
    assert.strictEqual(schedule.periodAt(0), 0)
    assert.isNotEmpty(PortSchedule.candidates(schedule, 0))
  })
})
