import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { openBase } from "../../src/layers/HeldFolders.ts"
import * as SmallReads from "../../src/layers/SmallReads.ts"

let box = ""
beforeAll(() => {
  box = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-small-reads-"))
  for (let i = 0; i < 90; i++) {
    const at = Path.join(box, "base", `d${i % 3}`)
    Fs.mkdirSync(at, { recursive: true })
    Fs.writeFileSync(Path.join(at, `f${i}`), `${i}`.repeat(i))
  }
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

const paths = Array.from({ length: 90 }, (_, i) => [`d${i % 3}`, `f${i}`])

describe("SmallReads", () => {
  for (const [disk, msPerLook] of [
    ["a quick disk", 0],
    ["a disk that ends every turn after some files", 1],
    ["a disk that is slow from the first file on", 100]
  ] as const) {
    it.effect(`reads all, in order, from ${disk}`, () =>
      Effect.gen(function* () {
        const { base, close } = yield* Effect.promise(() =>
          openBase({ base: Path.join(box, "base"), make: false, byPaths: false })
        )
        let ms = 0
        const now = (): number => {
          ms += msPerLook
          return ms
        }
        const some = [...paths, ["d0", "none"], ["none", "f"], ["d1"]]
        const outcomes = yield* Effect.promise(() => SmallReads.read(base, some, 170, now))
        yield* Effect.promise(close)
        const said = outcomes.map((outcome) =>
          Result.isSuccess(outcome)
            ? outcome.success.bytes && new TextDecoder().decode(outcome.success.bytes)
            : outcome.failure.reason
        )
        const expected = paths.map((_, i) => (`${i}`.repeat(i).length <= 170 ? `${i}`.repeat(i) : undefined))
        assert.deepStrictEqual(said, [...expected, "NotFound", "NotFound", "NotAFile"])
      })
    )
  }

  it.effect.skipIf(process.platform !== "linux")("gives nothing from a folder that was moved out of the base", () =>
    Effect.gen(function* () {
      const at = Path.join(box, "moved")
      Fs.mkdirSync(Path.join(at, "base/in"), { recursive: true })
      Fs.writeFileSync(Path.join(at, "base/in/a"), "a")
      Fs.writeFileSync(Path.join(at, "base/in/b"), "b")
      const { base, close } = yield* Effect.promise(() =>
        openBase({ base: Path.join(at, "base"), make: false, byPaths: false })
      )
      let looks = 0
      // The first look at the clock is behind the walk to the folder.
      const now = (): number => {
        if (looks++ === 0) Fs.renameSync(Path.join(at, "base/in"), Path.join(at, "out"))
        return 0
      }
      const outcomes = yield* Effect.promise(() =>
        SmallReads.read(
          base,
          [
            ["in", "a"],
            ["in", "b"]
          ],
          10,
          now
        )
      )
      yield* Effect.promise(close)
      assert.deepStrictEqual(
        outcomes.map((outcome) => (Result.isFailure(outcome) ? outcome.failure.reason : outcome.success)),
        ["NotFound", "NotFound"]
      )
    })
  )
})
