import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Chunks from "../../src/domain/Chunks.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"

const { hash } = primitives
const BITS = Chunks.MIN_BITS
const MIB = 1024 * 1024

const random = (seed: number, length: number): Uint8Array => {
  const source = new SeededRandom(seed)
  return Uint8Array.from({ length }, () => source.below(256))
}

/** All chunks of bytes that are handed over in pieces of at most this length. */
const cut = (bytes: Uint8Array, bits = BITS, pieces: (at: number) => number = () => bytes.length) => {
  const scanner = new Chunks.Scanner(hash, bits)
  const chunks: Array<Chunks.Chunk> = []
  for (let at = 0; at < bytes.length; ) {
    const length = Math.max(1, pieces(at))
    chunks.push(...scanner.push(bytes.subarray(at, at + length)))
    at += length
  }
  const last = scanner.end()
  return last === undefined ? chunks : [...chunks, last]
}

/** The definition, word for word, with numbers that are no 32-bit integers by nature. */
const reference = (bytes: Uint8Array, bits: number): ReadonlyArray<number> => {
  const gear = Array.from({ length: 256 }, (_, byte) =>
    createHash("sha256").update(Uint8Array.of(byte)).digest().readUInt32BE(0)
  )
  const lengths: Array<number> = []
  for (let start = 0; start < bytes.length; ) {
    let sum = 0
    let length = Math.min(2 ** bits / 4, bytes.length - start)
    while (start + length < bytes.length && length < 4 * 2 ** bits) {
      sum = (sum * 2 + (gear[bytes[start + length] as number] as number)) % 2 ** 32
      const zeros = length < 2 ** bits ? bits + 2 : bits - 2
      length++
      if (sum < 2 ** (32 - zeros)) break
    }
    lengths.push(length)
    start += length
  }
  return lengths
}

const names = (chunks: ReadonlyArray<Chunks.Chunk>) => chunks.map(({ id, length }) => `${hex(id)} ${length}`)

describe("Chunks", () => {
  it("cuts as the definition says, and names what is between the cuts", () => {
    for (const [seed, bits] of [
      [1, BITS],
      [2, BITS + 1],
      [3, 16]
    ] as const) {
      const bytes = random(seed, 700_001)
      const chunks = cut(bytes, bits)
      assert.deepStrictEqual(
        chunks.map(({ length }) => length),
        reference(bytes, bits)
      )
      let at = 0
      for (const { id, length } of chunks) {
        const whole = createHash("sha256")
          .update(bytes.subarray(at, at + length))
          .digest("hex")
        assert.strictEqual(hex(id), whole.slice(0, 32))
        at += length
      }
      assert.strictEqual(at, bytes.length)
    }
  })

  it("cuts the same, however the bytes come", () => {
    const bytes = random(4, 300_000)
    const whole = names(cut(bytes))
    const property = fc.property(fc.array(fc.integer({ min: 1, max: 40_000 }), { minLength: 1 }), (lengths) => {
      let turn = 0
      const pieces = () => lengths[turn++ % lengths.length] as number
      // Not byte by byte all along: that is slow, and the definition has no edges there.
      if (lengths.reduce((sum, length) => sum + length, 0) / lengths.length < 500) return
      assert.deepStrictEqual(names(cut(bytes, BITS, pieces)), whole)
    })
    fc.assert(property, { seed: 7, numRuns: 40 })
  })

  it("keeps all cuts but those beside what was put in, taken out or changed", () => {
    const property = fc.property(
      fc.integer({ min: 0, max: MIB - 1 }),
      fc.integer({ min: 0, max: 3000 }),
      fc.integer({ min: 0, max: 3000 }),
      (at, removed, added) => {
        const before = base
        const after = Buffer.concat([before.subarray(0, at), random(at + 1, added), before.subarray(at + removed)])
        const old = new Set(names(cut(before)))
        const fresh = names(cut(after)).filter((name) => !old.has(name))
        // What lies within one chunk makes one new; before the cuts meet again a few more may pass.
        assert.isAtMost(fresh.length, 12, `${at} -${removed} +${added}`)
      }
    )
    const base = random(5, MIB)
    fc.assert(property, { seed: 8, numRuns: 25 })
  })

  it("keeps its lengths: a quarter of the usual one to four times as much", () => {
    const bytes = random(6, 4 * MIB)
    for (const bits of [BITS, 15]) {
      const lengths = cut(bytes, bits).map(({ length }) => length)
      for (const length of lengths.slice(0, -1)) {
        assert.isAtLeast(length, 2 ** bits / 4)
        assert.isAtMost(length, Chunks.maxLength(bits))
      }
      assert.approximately(bytes.length / lengths.length / 2 ** bits, 1.15, 0.3)
    }
    const zeros = cut(new Uint8Array(MIB)).map(({ length }) => length)
    assert.isAtMost(zeros.length, MIB / (2 ** BITS / 4))
  })

  it("makes lists of bounded length, whatever the file", () => {
    for (const length of [0, 1, MIB, 256 * MIB, 2 ** 33, 2 ** 40]) {
      const bits = Chunks.bitsFor(length)
      assert.isAtLeast(bits, Chunks.MIN_BITS)
      assert.isAtMost(bits, Chunks.MAX_BITS)
      if (length <= 2 ** 35) assert.isAtMost(length / 2 ** bits, Chunks.MAX_CHUNKS / 2)
    }
    assert.strictEqual(Chunks.bitsFor(256 * MIB), 14)
  })
})
