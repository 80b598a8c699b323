import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { MAX_VARINT } from "../../src/domain/protocol/Constants.ts"
import { concat, fromHex, hex, Reader, text, utf8, varintLength, Writer } from "../../src/domain/protocol/Cursor.ts"

const RUNS = { seed: 9000, numRuns: 500 }

const bytesOf = (digits: string): Uint8Array => {
  const bytes = fromHex(digits)
  assert.isDefined(bytes, `no hexadecimal: ${digits}`)
  return bytes
}

const varintOf = (value: number): Uint8Array => {
  const writer = new Writer(new Uint8Array(8))
  writer.varint(value)
  return writer.bytes.subarray(0, writer.offset)
}

/** RFC 9000 section 16 with BigInt, slow and obvious. */
const slowVarint = (value: number): Uint8Array => {
  const length = value < 2 ** 6 ? 1 : value < 2 ** 14 ? 2 : value < 2 ** 30 ? 4 : 8
  const prefix = BigInt([1, 2, 4, 8].indexOf(length))
  const word = BigInt(value) | (prefix << BigInt(8 * length - 2))
  return bytesOf(word.toString(16).padStart(2 * length, "0"))
}

const varints = fc.oneof(
  fc.maxSafeNat(),
  fc.nat({ max: 20_000 }),
  fc.constantFrom(0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, 2 ** 32 - 1, 2 ** 32, MAX_VARINT)
)

describe("variable-length integers", () => {
  // RFC 9000 appendix A.1; its 8-byte example exceeds 2^53 and stands below among the refused.
  it("reads the examples of RFC 9000 A.1", () => {
    for (const [digits, value] of [
      ["9d7f3e7d", 494_878_333],
      ["7bbd", 15_293],
      ["25", 37],
      ["4025", 37]
    ] as const) {
      const reader = new Reader(bytesOf(digits))
      assert.strictEqual(reader.varint(), value)
      assert.isTrue(reader.done)
    }
  })

  it("writes the shortest of them", () => {
    assert.strictEqual(hex(varintOf(494_878_333)), "9d7f3e7d")
    assert.strictEqual(hex(varintOf(15_293)), "7bbd")
    assert.strictEqual(hex(varintOf(37)), "25")
    assert.strictEqual(hex(varintOf(MAX_VARINT)), "c01fffffffffffff")
  })

  it("refuses to read what a double does not hold exactly", () => {
    for (const digits of ["c2197c5eff14e88c", "c020000000000000", "ffffffffffffffff"]) {
      const reader = new Reader(bytesOf(digits))
      assert.strictEqual(reader.varint(), 0)
      assert.isTrue(reader.failed)
    }
  })

  it("refuses to write what is too large", () => {
    assert.throws(() => varintLength(MAX_VARINT + 1), RangeError)
    assert.throws(() => varintLength(Number.NaN), RangeError)
  })

  it("agrees with a slow reference and comes back", () => {
    fc.assert(
      fc.property(varints, (value) => {
        const bytes = varintOf(value)
        assert.strictEqual(hex(bytes), hex(slowVarint(value)))
        assert.strictEqual(bytes.length, varintLength(value))
        assert.strictEqual(new Reader(bytes).varint(), value)
      }),
      RUNS
    )
  })

  it("fails on every truncation", () => {
    for (const value of [64, 16_384, 2 ** 30]) {
      const bytes = varintOf(value)
      for (let end = 0; end < bytes.length; end++) {
        const reader = new Reader(bytes, 0, end)
        assert.strictEqual(reader.varint(), 0)
        assert.isTrue(reader.failed)
      }
    }
  })
})

describe("Reader", () => {
  it("reads big-endian numbers, views and copies", () => {
    const bytes = bytesOf("01020304050607000001020304050608aabb")
    const reader = new Reader(bytes)
    assert.strictEqual(reader.u8(), 1)
    assert.strictEqual(reader.u16(), 0x0203)
    assert.strictEqual(reader.u32(), 0x04050607)
    assert.strictEqual(reader.u64(), 0x0000_0102_0304_0506)
    const view = reader.view(1)
    const copy = reader.copy(2)
    assert.isFalse(reader.failed)
    assert.isTrue(reader.done)
    bytes.fill(0)
    assert.strictEqual(hex(view), "00")
    assert.strictEqual(hex(copy), "aabb")
  })

  it("refuses a 64-bit value beyond 2^53 - 1", () => {
    const reader = new Reader(bytesOf("0020000000000000"))
    assert.strictEqual(reader.u64(), 0)
    assert.isTrue(reader.failed)
  })

  it("yields zeros once it has failed, and never reads outside its range", () => {
    const reader = new Reader(bytesOf("ffffffff"), 1, 3)
    assert.strictEqual(reader.u32(), 0)
    assert.isTrue(reader.failed)
    assert.strictEqual(reader.u8(), 0)
    assert.strictEqual(reader.view(1).length, 0)
    assert.isFalse(reader.done)
  })
})

describe("Writer", () => {
  it("writes numbers that read back", () => {
    fc.assert(
      fc.property(
        fc.nat({ max: 0xff }),
        fc.nat({ max: 0xffff }),
        fc.nat({ max: 0xffffffff }),
        fc.maxSafeNat(),
        (a, b, c, d) => {
          const writer = new Writer(new Uint8Array(15))
          writer.u8(a).u16(b).u32(c).u64(d)
          const reader = new Reader(writer.bytes)
          assert.deepStrictEqual([reader.u8(), reader.u16(), reader.u32(), reader.u64()], [a, b, c, d])
          assert.isTrue(reader.done)
        }
      ),
      RUNS
    )
  })

  it("throws rather than write outside its range", () => {
    const writer = new Writer(new Uint8Array(4), 1, 3)
    assert.throws(() => writer.u32(1), RangeError)
    assert.throws(() => writer.put(new Uint8Array(3)), RangeError)
    writer.fill(7, 2)
    assert.strictEqual(writer.remaining, 0)
    assert.strictEqual(hex(writer.bytes), "00070700")
  })
})

describe("text and hexadecimal", () => {
  it("turns text into UTF-8 and back, and refuses what is no UTF-8", () => {
    assert.strictEqual(text(utf8("Grüße, 世界 🙂")), "Grüße, 世界 🙂")
    assert.isUndefined(text(Uint8Array.of(0xc3, 0x28)))
    assert.isUndefined(text(Uint8Array.of(0xed, 0xa0, 0x80)))
  })

  it("turns bytes into digits and back", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 40 }), (a, b) => {
        assert.deepStrictEqual(fromHex(hex(a)), a)
        assert.strictEqual(hex(concat(a, b)), hex(a) + hex(b))
      }),
      RUNS
    )
    assert.isUndefined(fromHex("abc"))
    assert.isUndefined(fromHex("zz"))
  })
})
