import * as Fs from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { MAX_TIME_MS } from "../../src/domain/RemoteFile.ts"
import * as FileFacts from "../../src/layers/FileFacts.ts"

describe("FileFacts", () => {
  it("tells times that a date can say, whatever a file system holds", () => {
    const stats = Fs.lstatSync(import.meta.filename)
    for (const [held, told] of [
      [1.7, 1],
      [-1.5, -2],
      [9e15, MAX_TIME_MS],
      [-9e15, -MAX_TIME_MS]
    ] as const) {
      const { mtimeMs } = FileFacts.facts(Object.assign(stats, { mtimeMs: held }))
      assert.strictEqual(mtimeMs, told)
      assert.doesNotThrow(() => new Date(mtimeMs).toISOString())
    }
  })
})
