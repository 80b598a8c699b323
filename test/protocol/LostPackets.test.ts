import { assert, describe, it } from "@effect/vitest"
import { MAX_LOST_REMEMBERED } from "../../src/domain/protocol/Constants.ts"
import { LostPackets } from "../../src/domain/protocol/LostPackets.ts"

const filled = (count: number, until = 100): LostPackets<string> => {
  const lost = new LostPackets<string>()
  for (let i = 0; i < count; i++) lost.push(10 * i, i, 1000 + i, i % 2 === 0, `packet ${i}`, until + i)
  return lost
}

describe("LostPackets", () => {
  it("gives back what it was told, oldest first", () => {
    const lost = filled(3)
    assert.strictEqual(lost.size, 3)
    assert.deepStrictEqual(
      [0, 1, 2].map((i) => [lost.packetNumber(i), lost.sentAt(i), lost.bytes(i), lost.inFlight(i), lost.content(i)]),
      [
        [0, 0, 1000, true, "packet 0"],
        [10, 1, 1001, false, "packet 1"],
        [20, 2, 1002, true, "packet 2"]
      ]
    )
  })

  it("pushes the oldest out when full", () => {
    const lost = filled(MAX_LOST_REMEMBERED + 5)
    assert.strictEqual(lost.size, MAX_LOST_REMEMBERED)
    assert.strictEqual(lost.packetNumber(0), 50)
    assert.strictEqual(lost.packetNumber(lost.size - 1), 10 * (MAX_LOST_REMEMBERED + 4))
  })

  it("forgets by age and what was taken, from the oldest on", () => {
    const lost = filled(5)
    lost.expire(100)
    assert.strictEqual(lost.size, 5)
    lost.expire(101.5)
    assert.strictEqual(lost.packetNumber(0), 20)
    lost.take(1)
    assert.deepStrictEqual([lost.isTaken(0), lost.isTaken(1)], [false, true])
    lost.expire(101.5)
    assert.strictEqual(lost.size, 3, "taken, but not the oldest")
    lost.take(0)
    lost.expire(101.5)
    assert.strictEqual(lost.packetNumber(0), 40)
    lost.clear()
    assert.strictEqual(lost.size, 0)
    lost.push(99, 0, 1, true, "again", 200)
    assert.deepStrictEqual([lost.packetNumber(0), lost.isTaken(0)], [99, false])
  })
})
