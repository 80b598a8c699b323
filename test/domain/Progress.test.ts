import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import * as Progress from "../../src/domain/Progress.ts"

describe("Progress", () => {
  it("says sizes in three digits", () => {
    const sizes = [0, 999, 1000, 9994, 9996, 99_949, 99_951, 999_499, 999_500, 1_234_567, 2e9, 5e15, 9e18]
    assert.deepStrictEqual(sizes.map(Progress.size), [
      "0 B",
      "999 B",
      "1.00 kB",
      "9.99 kB",
      "10.0 kB",
      "99.9 kB",
      "100 kB",
      "999 kB",
      "1.00 MB",
      "1.23 MB",
      "2.00 GB",
      "5.00 PB",
      "9000 PB"
    ])
  })

  it("says times", () => {
    assert.deepStrictEqual([0, 7400, 754_000, 3_723_000].map(Progress.clock), ["0:00", "0:07", "12:34", "1:02:03"])
  })

  it("tells the rate of the last seconds", () => {
    const meter = new Progress.Meter(1000)
    meter.add(1100, 100)
    assert.isUndefined(meter.rate(1100))
    for (let at = 1200; at <= 3000; at += 100) meter.add(at, at - 1000)
    assert.strictEqual(meter.rate(3000), 1000)
    // Ten times as fast: the first seconds count no more.
    for (let at = 3100; at <= 9000; at += 10) meter.add(at, 2000 + (at - 3000) * 10)
    assert.closeTo(meter.rate(9000) ?? 0, 10_000, 200)
    // Nothing comes any more.
    assert.isBelow(meter.rate(60_000) ?? 0, 2000)
  })

  it("knows what a terminal does with a name", () => {
    assert.deepStrictEqual(["abc", "\u6f22\u5b57", "e\u0301", "\u{1f980}"].map(Progress.width), [3, 4, 1, 2])
    assert.deepStrictEqual(
      [Progress.tail("abcdef", 4), Progress.tail("a\u6f22\u5b57", 4)],
      ["\u2026def", "\u2026\u5b57"]
    )
  })

  it("draws a line", () => {
    const standing = { path: "a/b.iso", bytes: 45e6, size: 100e6, rate: 11e6, files: 3 }
    assert.strictEqual(
      Progress.line(standing, 100),
      "a/b.iso  [#########...........]   45 %  45.0 MB  11.0 MB/s  0:05 left  (3 done)"
    )
    assert.strictEqual(Progress.line(standing, 50), "a/b.iso  11.0 MB/s  0:05 left  (3 done)")
    assert.strictEqual(Progress.line({ ...standing, size: null, rate: undefined, files: 0 }, 80), "a/b.iso  45.0 MB")
  })

  it("a name steers no terminal and breaks no line", () => {
    const standing = { bytes: 1, size: 2, rate: 5, files: 100_000 }
    const name = FastCheck.string({
      unit: FastCheck.constantFrom("a", "\u6f22", "\u001b", "\n", "\u{1f980}", "/"),
      maxLength: 300
    })
    FastCheck.assert(
      FastCheck.property(name, FastCheck.integer({ min: 0, max: 120 }), (path, columns) => {
        const line = Progress.line({ ...standing, path }, columns)
        assert.isAtMost(Progress.width(line), columns)
        // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
        assert.notMatch(line, /[\u0000-\u001f]/)
      }),
      { seed: 3, numRuns: 1000 }
    )
  })
})
