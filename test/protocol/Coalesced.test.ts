import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { AMBIGUOUS, segmentLength } from "../../src/domain/protocol/Coalesced.ts"

const ID = Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88)
const OTHER = Uint8Array.of(0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x89)

/** A datagram: an id, then bytes that a seed decides and that repeat nowhere at a distance of whole blocks. */
const datagram = (id: Uint8Array, length: number, seed: number): Uint8Array => {
  const bytes = new Uint8Array(length)
  let state = seed | 1
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0
    bytes[i] = state >>> 24
  }
  bytes.set(id.subarray(0, length))
  return bytes
}

const joined = (...parts: ReadonlyArray<Uint8Array>): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]))

const blocks = (min: number, max: number) => fc.integer({ min, max }).map((count) => 16 * count)

/** A piece of a burst: segment, whole ones, length of a shorter last one (0: none). */
const bursts = blocks(3, 92).chain((segment) =>
  fc.record({
    segment: fc.constant(segment),
    whole: fc.integer({ min: 1, max: Math.min(64, Math.floor(65_504 / segment) - 1) }),
    rest: fc.oneof(fc.constant(0), blocks(3, segment / 16)),
    seed: fc.nat()
  })
)

const burst = (id: Uint8Array, segment: number, whole: number, rest: number, seed: number): Uint8Array => {
  const bytes = new Uint8Array(segment * whole + rest)
  for (let i = 0; i < whole; i++) bytes.set(datagram(id, segment, seed + i), i * segment)
  if (rest > 0) bytes.set(datagram(id, rest, seed + whole), segment * whole)
  return bytes
}

describe("Coalesced", () => {
  it("finds the length of the datagrams of any burst", () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), bursts, (id, { segment, whole, rest, seed }) => {
        const bytes = burst(id, segment, whole, rest, seed)
        const before = bytes.slice()
        const found = segmentLength(bytes)
        // One datagram alone is whole, whatever its length is.
        assert.strictEqual(found, whole === 1 && rest === 0 ? bytes.length : segment)
        assert.deepStrictEqual(bytes, before)
      }),
      { seed: 1, numRuns: 300 }
    )
  })

  it("leaves a single datagram whole, of any length up to the largest", () => {
    for (const length of [48, 64, 96, 1200, 1440, 2400, 3600, 9600, 48_000, 65_504]) {
      assert.strictEqual(segmentLength(datagram(ID, length, length)), length)
    }
  })

  it("leaves whole what is none of ours: short, or no whole blocks", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 47 }), (bytes) => {
        assert.strictEqual(segmentLength(bytes), bytes.length)
      }),
      { seed: 2, numRuns: 300 }
    )
    const odd = joined(datagram(ID, 1200, 1), datagram(ID, 47, 2))
    assert.strictEqual(segmentLength(odd), odd.length)
  })

  it("takes a shorter last datagram of 48 bytes, and an equally long one", () => {
    assert.strictEqual(segmentLength(joined(datagram(ID, 1200, 1), datagram(ID, 48, 2))), 1200)
    assert.strictEqual(segmentLength(joined(datagram(ID, 1200, 1), datagram(ID, 1200, 2))), 1200)
    assert.strictEqual(segmentLength(joined(datagram(ID, 48, 1), datagram(ID, 48, 2), datagram(ID, 48, 3))), 48)
  })

  it("drops a piece whose boundaries contradict each other", () => {
    const same = (seed: number) => datagram(ID, 1200, seed)
    const other = datagram(OTHER, 1200, 9)
    // Another session among them.
    assert.strictEqual(segmentLength(joined(same(1), same(2), other)), AMBIGUOUS)
    assert.strictEqual(segmentLength(joined(same(1), same(2), other, same(3))), AMBIGUOUS)
    // Another session's short one last, or one too short to be a datagram.
    assert.strictEqual(segmentLength(joined(same(1), same(2), datagram(OTHER, 48, 1))), AMBIGUOUS)
    assert.strictEqual(segmentLength(joined(same(1), same(2), datagram(ID, 32, 1))), AMBIGUOUS)
    // Two long ones, then two that are shorter: no stack delivers that.
    assert.strictEqual(segmentLength(joined(same(1), same(2), datagram(ID, 800, 3), datagram(ID, 800, 4))), AMBIGUOUS)
  })

  it("a changed id at any boundary drops the piece, or leaves it whole where it was the only one", () => {
    fc.assert(
      fc.property(bursts, fc.nat(), fc.nat({ max: 7 }), (shape, choice, byte) => {
        const { segment, whole, rest, seed } = shape
        const bytes = burst(ID, segment, whole, rest, seed)
        const boundaries = whole - 1 + (rest > 0 ? 1 : 0)
        if (boundaries === 0) return
        const at = segment * (1 + (choice % boundaries)) + byte
        bytes[at] = (bytes[at] as number) ^ 0x40
        const found = segmentLength(bytes)
        if (boundaries === 1) assert.strictEqual(found, bytes.length)
        // The first boundary is gone: the second tells of pairs, which match where their number is even.
        else if (at < 2 * segment) assert.notStrictEqual(found, segment)
        else assert.strictEqual(found, AMBIGUOUS)
      }),
      { seed: 3, numRuns: 300 }
    )
  })

  it("answers for any bytes a length that takes steps to the end, or that they are ambiguous", () => {
    const ids = fc.constantFrom(ID, OTHER, new Uint8Array(8))
    const soup = fc.array(fc.tuple(ids, fc.nat({ max: 20 }), fc.nat()), { maxLength: 30 })
    fc.assert(
      fc.property(soup, (parts) => {
        const bytes = joined(...parts.map(([id, count, seed]) => datagram(id, 16 * count, seed)))
        const found = segmentLength(bytes)
        assert.isTrue(found === AMBIGUOUS || (found <= bytes.length && found >= Math.min(48, bytes.length)))
        for (let at = found; found > 0 && at < bytes.length; at += found) {
          assert.deepStrictEqual(bytes.slice(at, at + 8), bytes.slice(0, 8))
        }
      }),
      { seed: 4, numRuns: 300 }
    )
  })

  it("two initiations, or two sessions in turn, are not told apart", () => {
    const twoHints = joined(datagram(ID, 1200, 1), datagram(OTHER, 1200, 2))
    assert.strictEqual(segmentLength(twoHints), 2400)
    const inTurn = joined(
      datagram(ID, 1200, 1),
      datagram(OTHER, 1200, 2),
      datagram(ID, 1200, 3),
      datagram(OTHER, 1200, 4)
    )
    assert.strictEqual(segmentLength(inTurn), 2400)
  })
})
