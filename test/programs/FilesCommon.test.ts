import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { FilesError, type Stat } from "../../src/domain/RemoteFile.ts"
import { TransferError } from "../../src/domain/TransferError.ts"
import * as Files from "../../src/programs/cli/FilesCommon.ts"

const to = { version: "0".repeat(32), mtimeMs: -5, mode: 0o755 }

describe("FilesCommon", () => {
  it.effect("sets times on a server that can, and passes over one that is older than that", () =>
    Effect.gen(function* () {
      const asked: Array<unknown> = []
      const touch = (answer: Effect.Effect<Stat, FilesError>) =>
        Files.touch({
          "Files.Touch": (payload) => {
            asked.push(payload)
            return answer
          }
        })("/a", to)
      const denied = yield* Effect.flip(touch(Effect.fail(new FilesError({ reason: "Denied", message: "no" }))))
      assert.deepStrictEqual([denied.reason, denied.message, denied.side], ["Denied", "no", "there"])
      // No time before 1970 crosses the line.
      assert.deepStrictEqual(asked, [{ path: "/a", ...to, mtimeMs: 0 }])
      for (const defect of ["Unknown request tag: Files.Touch", new Error("Unknown request tag: Files.Touch")]) {
        assert.strictEqual((yield* Effect.flip(touch(Effect.die(defect)))).reason, "Unsupported")
      }
      assert.isTrue(Exit.hasDies(yield* Effect.exit(touch(Effect.die("another")))))
    })
  )

  it("says whose files a failure is about, where that helps", () => {
    const error = new FilesError({ reason: "Denied", message: '"/b": permission denied' })
    assert.strictEqual(Files.failure(error).message, '"/b": permission denied')
    assert.strictEqual(Files.failureHere(error).message, '"/b": permission denied (here)')
    assert.strictEqual(Files.failureThere(error).message, '"/b": permission denied (on the server)')
    const refused = new FilesError({ reason: "BadName", message: "this path is refused" })
    assert.strictEqual(Files.failureThere(refused).message, "this path is refused")
    const lost = new TransferError({ reason: "Lost", message: "gone" })
    assert.strictEqual(Files.transferFailure(lost).message, "gone")
    assert.strictEqual(Files.transferFailure(Files.transferErrorHere(error)).message, '"/b": permission denied (here)')
  })
})
