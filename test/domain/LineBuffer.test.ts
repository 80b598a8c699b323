import { assert, describe, it } from "@effect/vitest"
import fc from "fast-check"
import { LineBuffer } from "../../src/domain/LineBuffer.ts"

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (of: Uint8Array | undefined): string | undefined =>
  of === undefined ? undefined : new TextDecoder().decode(of)

describe("LineBuffer", () => {
  it("passes lines on when they are whole, several at once", () => {
    const lines = new LineBuffer(100)
    assert.strictEqual(text(lines.push(bytes("one"))), "")
    assert.strictEqual(text(lines.push(bytes(" more\ntwo\nthr"))), "one more\ntwo\n")
    assert.strictEqual(text(lines.push(bytes("ee\n"))), "three\n")
    assert.strictEqual(text(lines.push(bytes("\n"))), "\n")
  })

  it("gives up a line that grows too long, whatever the pieces", () => {
    const lines = new LineBuffer(8)
    assert.strictEqual(text(lines.push(bytes("x\n12345678"))), "x\n")
    assert.strictEqual(lines.push(bytes("9")), undefined)
    assert.strictEqual(new LineBuffer(8).push(bytes("123456789")), undefined)
  })

  it("keeps nothing of what it is given", () => {
    const lines = new LineBuffer(100)
    const piece = bytes("abc")
    lines.push(piece)
    piece.fill(0)
    assert.strictEqual(text(lines.push(bytes("\n"))), "abc\n")
  })

  it("loses and invents nothing, wherever the pieces are cut", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 20 })), (pieces) => {
        const lines = new LineBuffer(1000)
        const whole = Buffer.concat(pieces)
        const out = Buffer.concat(pieces.map((piece) => lines.push(piece) ?? new Uint8Array(0)))
        assert.deepEqual(Buffer.compare(out, whole.subarray(0, whole.lastIndexOf(0x0a) + 1)), 0)
      }),
      { seed: 7, numRuns: 300 }
    )
  })

  it("takes a million single bytes in linear time and memory", () => {
    const lines = new LineBuffer(2 ** 20)
    const one = Uint8Array.of(0x61)
    for (let i = 0; i < 2 ** 20; i++) assert.strictEqual(lines.push(one)?.length, 0)
    assert.strictEqual(lines.push(one), undefined)
  })
})
