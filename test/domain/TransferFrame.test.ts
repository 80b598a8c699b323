import { assert, describe, it } from "@effect/vitest"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import * as TransferFrame from "../../src/domain/TransferFrame.ts"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"

const facts: TransferFrame.Facts = {
  size: 70_000,
  mtimeMs: 1_700_000_000_123,
  mode: 0o640,
  fingerprint: "ab".repeat(16)
}
const hash = new Uint8Array(32).fill(7)

const SAMPLES: ReadonlyArray<TransferFrame.Frame> = [
  { _tag: "Want", id: 0, path: "/a/ü/日本/🙂.txt" },
  { _tag: "File", id: 1, facts },
  { _tag: "File", id: 1, facts: { ...facts, size: 0, mtimeMs: 0, fingerprint: "" } },
  { _tag: "Put", id: 2 ** 40, facts: { ...facts, size: undefined }, conflict: "fail", path: "x" },
  { _tag: "Put", id: 3, facts, conflict: "replace", path: "x" },
  { _tag: "Put", id: 4, facts: { ...facts, size: 2 ** 53 - 1 }, conflict: "rename", path: `/${"x".repeat(4095)}` },
  { _tag: "Put", id: 5, facts, conflict: { version: "0".repeat(128) }, path: "" },
  { _tag: "Put", id: 5, facts, conflict: { version: "ab" }, path: "/v", chunks: true },
  { _tag: "Put", id: 5, facts, conflict: "rename", path: "/r", root: hash },
  { _tag: "Folder", id: 6, path: "/f" },
  { _tag: "Accept", id: 7, offset: 262_144, state: new Uint8Array(33).fill(1) },
  { _tag: "Accept", id: 7, offset: 0, state: new Uint8Array(0) },
  { _tag: "Data", id: 8, bytes: Uint8Array.of(9) },
  { _tag: "Data", id: 63, bytes: new Uint8Array(TransferFrame.PIECE_LENGTH).fill(3) },
  { _tag: "Block", id: 9, hash },
  { _tag: "End", id: 10, root: hash },
  { _tag: "Done", id: 11, path: "/a (2).txt" },
  { _tag: "Conflict", id: 12, kind: "folder", size: 0, mtimeMs: 5, version: "" },
  { _tag: "Conflict", id: 12, kind: "file", size: 9, mtimeMs: 5, version: "ab" },
  { _tag: "Fail", id: 13, reason: "Damaged", message: "it is — broken" },
  { _tag: "Chunks", id: 14, bits: 13, list: new Uint8Array(60_000).fill(4) },
  { _tag: "Copy", id: 15, offset: 2 ** 40 + 1, length: 262_144 }
]

const WHOLE = concat(...SAMPLES.map(TransferFrame.encode))

describe("TransferFrame", () => {
  it("gives back what was encoded, however the stream is cut", () => {
    const seed = 5
    const random = new SeededRandom(seed)
    for (let run = 0; run < 20; run++) {
      const frames = new TransferFrame.Frames()
      const got: Array<TransferFrame.Frame> = []
      for (let at = 0; at < WHOLE.length; ) {
        const length = 1 + random.below(run === 0 ? 1 : 3000 * (run + 1))
        const some = frames.push(WHOLE.subarray(at, at + length))
        assert.isDefined(some, `seed ${seed}, run ${run}`)
        got.push(...(some ?? []))
        at += length
      }
      assert.deepStrictEqual(got, SAMPLES)
      assert.isFalse(frames.isPartial)
    }
  })

  it("clips what is too long for people, never within a character", () => {
    const fail: TransferFrame.Frame = { _tag: "Fail", id: 1, reason: "Io", message: `a${"ü".repeat(9000)}` }
    const [frame] = new TransferFrame.Frames().push(TransferFrame.encode(fail)) ?? []
    assert.strictEqual(frame?._tag === "Fail" ? frame.message : "", `a${"ü".repeat(4095)}`)
  })

  it("takes no frame that is longer than any, before it holds it", () => {
    const frames = new TransferFrame.Frames()
    assert.isUndefined(frames.push(Uint8Array.of(0x06, 0xbf, 0xff, 0xff, 0xff)))
    assert.isUndefined(frames.push(Uint8Array.of(0)), "broken once, broken for good")
    assert.isUndefined(new TransferFrame.Frames().push(Uint8Array.of(0x06, 0)))
    assert.isUndefined(new TransferFrame.Frames().push(Uint8Array.of(0x7f, 1, 0)))
  })

  it("refuses every truncation of a body, and bodies with something behind", () => {
    for (const sample of SAMPLES) {
      const bytes = TransferFrame.encode(sample)
      const head = 1 + (1 << ((bytes[1] as number) >> 6))
      const type = bytes[0] as number
      const fixed = ["File", "Block", "End", "Conflict", "Copy"].includes(sample._tag)
      if (!fixed) continue
      for (let end = head; end < bytes.length; end++) {
        assert.isUndefined(TransferFrame.decode(type, bytes.subarray(head, end)), `${sample._tag} at ${end}`)
      }
      assert.isUndefined(TransferFrame.decode(type, concat(bytes.subarray(head), Uint8Array.of(0))), sample._tag)
    }
  })

  it("takes no time that no date can say", () => {
    for (const sample of SAMPLES) {
      const late = 8_640_000_000_000_000
      const at = (mtimeMs: number) => {
        const frame =
          sample._tag === "File" || sample._tag === "Put"
            ? { ...sample, facts: { ...sample.facts, mtimeMs } }
            : sample._tag === "Conflict"
              ? { ...sample, mtimeMs }
              : undefined
        return frame === undefined ? undefined : new TransferFrame.Frames().push(TransferFrame.encode(frame))
      }
      if (at(0) === undefined) continue
      assert.strictEqual(at(late)?.length, 1, sample._tag)
      assert.isUndefined(at(late + 1), sample._tag)
    }
  })

  it("survives any bytes: what decodes encodes again to as much or less", () => {
    const seed = 11
    const random = new SeededRandom(seed)
    let decoded = 0
    for (let run = 0; run < 30_000; run++) {
      const sample = TransferFrame.encode(SAMPLES[random.below(SAMPLES.length)] as TransferFrame.Frame)
      if (sample.length > 300) continue
      const bytes = Uint8Array.from(sample)
      for (let i = 0; i <= random.below(3); i++) bytes[random.below(bytes.length)] = random.below(256)
      for (const frame of new TransferFrame.Frames().push(bytes) ?? []) {
        decoded++
        const [again] = new TransferFrame.Frames().push(TransferFrame.encode(frame)) ?? []
        assert.deepStrictEqual(again, frame, `seed ${seed}, run ${run}`)
      }
    }
    assert.isAbove(decoded, 3000)
  })
})
