/** What the benchmarks say of a transfer is only worth something if a wrong byte cannot pass. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { jain } from "../../bench/Fairness.ts"
import * as Traffic from "../../bench/Traffic.ts"

const { block } = Traffic
const twice = Buffer.concat([block, block])

/** What a sink says of bytes that come in pieces of this size. */
const sunk = (bytes: Buffer, piece: number): Traffic.Received => {
  const sink = new Traffic.Sink()
  for (let at = 0; at < bytes.length; at += piece) sink.take(bytes.subarray(at, at + piece))
  return sink.received()
}

describe("Traffic", () => {
  it("takes the block over and over, however it is cut", () => {
    for (const piece of [1000, 1200, 65_521, 65_536, 100_000]) {
      const { wrong, bytes } = sunk(twice, piece)
      assert.deepStrictEqual({ wrong, bytes }, { wrong: false, bytes: twice.length })
    }
  })

  it("notices a flipped bit, a lost, a doubled and an exchanged piece", () => {
    const flipped = Buffer.from(twice)
    flipped[70_000] = (flipped[70_000] as number) ^ 1
    const part = (from: number, to: number) => twice.subarray(from, to)
    const wrongs = {
      flipped,
      lost: Buffer.concat([part(0, 1200), part(2400, 9600)]),
      doubled: Buffer.concat([part(0, 2400), part(1200, 9600)]),
      exchanged: Buffer.concat([part(0, 1200), part(2400, 3600), part(1200, 2400)])
    }
    for (const [what, bytes] of Object.entries(wrongs)) assert.isTrue(sunk(bytes, 1200).wrong, what)
  })

  it("hashes what it yields, without repeating itself", () => {
    const pieces = Traffic.hashed(200_000)
    const hash = createHash("sha256")
    const seen = new Set<string>()
    let bytes = 0
    let piece = pieces.next()
    for (; !piece.done; piece = pieces.next()) {
      hash.update(piece.value)
      seen.add(Buffer.from(piece.value.subarray(0, 16)).toString("hex"))
      bytes += piece.value.length
    }
    assert.deepStrictEqual([bytes, seen.size], [200_000, 4])
    assert.isTrue(hash.digest().equals(piece.value))
  })

  it("counts the bytes between two moments", () => {
    const marks = [
      [1000, 0],
      [1100, 500],
      [1300, 1500]
    ] as const
    const received: Traffic.Received = { bytes: 1500, wrong: false, marks }
    assert.strictEqual(Traffic.bytesBetween(received, 900, 2000), 1500)
    assert.strictEqual(Traffic.bytesBetween(received, 1050, 1200), 750)
    assert.strictEqual(Traffic.bytesBetween({ bytes: 0, wrong: false, marks: [] }, 0, 1), 0)
  })
})

describe("Jain's index", () => {
  it("is 1 for equals and 1/n for one that takes all", () => {
    assert.strictEqual(jain([3, 3, 3, 3]), 1)
    assert.strictEqual(jain([1, 0, 0, 0]), 0.25)
  })
})
