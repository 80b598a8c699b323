import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import * as Chunks from "../../src/domain/Chunks.ts"
import * as Delta from "../../src/domain/Delta.ts"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import { PIECE_LENGTH } from "../../src/domain/TransferFrame.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"

const { hash } = primitives
const BITS = Chunks.MIN_BITS

const random = (seed: number, length: number): Uint8Array => {
  const source = new SeededRandom(seed)
  return Uint8Array.from({ length }, () => source.below(256))
}

const tableOf = (bytes: Uint8Array): Delta.Table => {
  const table = Delta.Table.make(BITS)
  const scanner = new Chunks.Scanner(hash, BITS)
  const last = (chunks: ReadonlyArray<Chunks.Chunk>) => {
    const end = scanner.end()
    return end === undefined ? chunks : [...chunks, end]
  }
  if (table?.add(Delta.encode(last(scanner.push(bytes)))) !== true) return assert.fail("a list of ours is refused")
  return table
}

/** The new file from `from` on as frames, put together again; how many of its bytes were literal, and the copies. */
const told = (old: Uint8Array, now: Uint8Array, from = 0) => {
  const cutter = new Delta.Cutter(hash, tableOf(old), from)
  const parts: Array<Uint8Array> = []
  let literal = 0
  let copies = 0
  let sent = from
  for (let at = from; at < now.length; ) {
    const block = now.subarray(at, at + BLOCK_LENGTH)
    cutter.push(block)
    at += block.length
    if (at === now.length) cutter.end()
    for (;;) {
      const next = now.subarray(sent, sent + BLOCK_LENGTH)
      if (next.length === 0 || cutter.decided < sent + next.length) break
      for (const piece of cutter.pieces(3, sent, next)) {
        if (piece._tag === "Data") {
          assert.isAtMost(piece.bytes.length, PIECE_LENGTH)
          parts.push(piece.bytes)
          literal += piece.bytes.length
        } else if (piece._tag === "Copy") {
          assert.isTrue(Delta.isCopy(piece.offset, piece.length, old.length))
          parts.push(old.subarray(piece.offset, piece.offset + piece.length))
          copies++
        } else assert.fail(piece._tag)
      }
      sent += next.length
      assert.strictEqual(concat(...parts).length, sent - from, "pieces end where blocks do")
    }
  }
  assert.isTrue(Buffer.from(concat(...parts)).equals(now.subarray(from)))
  return { literal, copies }
}

describe("Delta", () => {
  const base = random(1, 1_300_000)

  it("tells any edit so that the old file and what is sent make the new one", () => {
    const edits = fc.array(
      fc.record({
        at: fc.integer({ min: 0, max: base.length }),
        removed: fc.integer({ min: 0, max: 60_000 }),
        added: fc.integer({ min: 0, max: 60_000 })
      }),
      { maxLength: 4 }
    )
    const property = fc.property(edits, fc.integer({ min: 0, max: 3 }), (all, blocks) => {
      let now: Uint8Array = base
      for (const { added, at, removed } of all) {
        now = concat(now.subarray(0, at), random(at + added, added), now.subarray(at + removed))
      }
      const { literal } = told(base, now, Math.min(blocks * BLOCK_LENGTH, now.length))
      const changed = all.reduce((sum, { added }) => sum + added, 0)
      // Per edit, and where it goes on in the middle, some chunks until cuts meet again.
      assert.isAtMost(literal, changed + (all.length + 1) * 12 * 2 ** BITS)
    })
    fc.assert(property, { seed: 3, numRuns: 25 })
  })

  it("copies all of a file that did not change, in one piece per block", () => {
    assert.deepStrictEqual(told(base, base), { literal: 0, copies: Math.ceil(base.length / BLOCK_LENGTH) })
    const zeros = new Uint8Array(1_200_000)
    assert.strictEqual(told(zeros, zeros).literal, 0)
  })

  it("copies what was moved, and sends what is new", () => {
    const half = base.length / 2
    assert.isBelow(told(base, concat(base.subarray(half), base.subarray(0, half))).literal, 100_000)
    const other = random(2, 400_000)
    assert.deepStrictEqual(told(base, other), { literal: other.length, copies: 0 })
  })

  it("refuses lists that no file has", () => {
    assert.isUndefined(Delta.Table.make(Chunks.MIN_BITS - 1))
    assert.isUndefined(Delta.Table.make(Chunks.MAX_BITS + 1))
    const table = () => Delta.Table.make(BITS) ?? assert.fail("no table")
    const id = new Uint8Array(Chunks.ID_LENGTH)
    const whole = Delta.encode([{ length: 3000, id }])
    assert.isTrue(table().add(whole))
    assert.isFalse(table().add(new Uint8Array(0)), "nothing")
    for (let end = 1; end < whole.length; end++) assert.isFalse(table().add(whole.subarray(0, end)), `${end}`)
    assert.isFalse(table().add(Delta.encode([{ length: 0, id }])), "a chunk of no bytes")
    assert.isFalse(table().add(Delta.encode([{ length: Chunks.maxLength(BITS) + 1, id }])), "one too long")
    const full = table()
    const many = Delta.encode(Array.from({ length: 2048 }, () => ({ length: 3000, id })))
    for (let i = 0; i < Chunks.MAX_CHUNKS / 2048; i++) assert.isTrue(full.add(many))
    assert.isFalse(full.add(whole), "more than any")
    assert.strictEqual(full.count, Chunks.MAX_CHUNKS)
  })

  it("finds every chunk among many, and is not slowed by ids that collide", () => {
    const table = Delta.Table.make(BITS) ?? assert.fail("no table")
    const chunks = Array.from({ length: 30_000 }, (_, i) => ({
      length: 2048 + (i % 1000),
      id: hash(Uint8Array.of(i, i >> 8)).slice(0, Chunks.ID_LENGTH)
    }))
    for (let i = 0; i < chunks.length; i += 1000) assert.isTrue(table.add(Delta.encode(chunks.slice(i, i + 1000))))
    let start = 0
    let missed = 0
    for (const [i, chunk] of chunks.entries()) {
      const place = table.find(chunk, -1)
      if (place !== i) missed++
      assert.strictEqual(table.startOf(i), start)
      start += chunk.length
    }
    // A place is looked for in 32 at most: hardly one in a million is farther away.
    assert.isAtMost(missed, 3)
    assert.strictEqual(table.find({ length: 5, id: chunks[0]?.id ?? new Uint8Array(16) }, -1), -1, "another length")

    const evil = Delta.Table.make(BITS) ?? assert.fail("no table")
    const same = Array.from({ length: 60_000 }, (_, i) => {
      const id = new Uint8Array(Chunks.ID_LENGTH)
      new DataView(id.buffer).setUint32(8, i)
      return { length: 3000, id }
    })
    for (let i = 0; i < same.length; i += 2000) assert.isTrue(evil.add(Delta.encode(same.slice(i, i + 2000))))
    let found = 0
    for (const chunk of same) if (evil.find(chunk, -1) >= 0) found++
    assert.isBelow(found, 100)
  })

  it("takes copies from within the old file only", () => {
    assert.isTrue(Delta.isCopy(0, 1, 1))
    assert.isTrue(Delta.isCopy(7, BLOCK_LENGTH, BLOCK_LENGTH + 7))
    for (const [offset, length, size] of [
      [0, 0, 9],
      [9, 1, 9],
      [8, 2, 9],
      [0, BLOCK_LENGTH + 1, 2 ** 30],
      [2 ** 53 - 1, 2, 2 ** 30]
    ] as const) {
      assert.isFalse(Delta.isCopy(offset, length, size), `${offset} ${length} ${size}`)
    }
  })
})
