import { assert, describe, it } from "@effect/vitest"
import { MAX_TRACKED_PACKETS } from "../../src/domain/protocol/Constants.ts"
import { Fate, SentPackets } from "../../src/domain/protocol/SentPackets.ts"

const push = (packets: SentPackets<number>): void => {
  const packetNumber = packets.next
  const slot = packets.push()
  packets.fate[slot] = Fate.Open
  packets.ackEliciting[slot] = packetNumber % 2
  packets.appLimited[slot] = packetNumber % 3 === 0 ? 1 : 0
  packets.bytes[slot] = packetNumber + 1
  packets.sentAt[slot] = packetNumber + 2
  packets.delivered[slot] = packetNumber + 3
  packets.deliveredAt[slot] = packetNumber + 4
  packets.firstSentAt[slot] = packetNumber + 5
  packets.inFlight[slot] = packetNumber + 6
  packets.lost[slot] = packetNumber + 7
  packets.content[slot] = packetNumber
}

const check = (packets: SentPackets<number>): void => {
  for (let packetNumber = packets.base; packetNumber < packets.next; packetNumber++) {
    const slot = packets.slot(packetNumber)
    assert.deepStrictEqual(
      [
        packets.fate[slot],
        packets.ackEliciting[slot],
        packets.appLimited[slot],
        packets.bytes[slot],
        packets.sentAt[slot],
        packets.delivered[slot],
        packets.deliveredAt[slot],
        packets.firstSentAt[slot],
        packets.inFlight[slot],
        packets.lost[slot],
        packets.content[slot]
      ],
      [
        Fate.Open,
        packetNumber % 2,
        packetNumber % 3 === 0 ? 1 : 0,
        ...[1, 2, 3, 4, 5, 6, 7].map((i) => packetNumber + i),
        packetNumber
      ]
    )
  }
}

describe("SentPackets", () => {
  it("keeps every column while it wraps and grows", () => {
    const packets = new SentPackets<number>()
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 50; i++) push(packets)
      check(packets)
      for (let i = 0; i < 25; i++) packets.shift()
      check(packets)
    }
    assert.deepStrictEqual([packets.base, packets.next], [150, 300])
  })

  it("lets contents go", () => {
    const packets = new SentPackets<number>()
    for (let i = 0; i < 100; i++) push(packets)
    for (let i = 0; i < 60; i++) packets.shift()
    assert.strictEqual(packets.content.filter((content) => content !== undefined).length, 40)
    packets.clear(500)
    assert.strictEqual(packets.content.filter((content) => content !== undefined).length, 0)
    push(packets)
    assert.strictEqual(packets.content[packets.slot(500)], 500)
  })

  it("a slot taken again starts without a fate", () => {
    const packets = new SentPackets<number>()
    for (let i = 0; i < 64; i++) push(packets)
    for (let i = 0; i < 64; i++) packets.shift()
    assert.strictEqual(packets.fate[packets.push()], Fate.None)
  })

  it("is full at its bound", () => {
    const packets = new SentPackets<number>()
    for (let i = 0; i < MAX_TRACKED_PACKETS; i++) {
      assert.isFalse(packets.full)
      packets.push()
    }
    assert.isTrue(packets.full)
    assert.strictEqual(packets.sentAt.length, MAX_TRACKED_PACKETS)
  })
})
