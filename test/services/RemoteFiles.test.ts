import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { layerMemory, RemoteFiles } from "../../src/services/RemoteFiles.ts"
import * as Contract from "./RemoteFilesContract.ts"

describe("RemoteFiles: memory", () => {
  Contract.suite(layerMemory(Contract.tree))

  it.effect("leaves out names that no path can say, and keeps closed folders closed", () =>
    Effect.gen(function* () {
      const files = yield* RemoteFiles
      const page = yield* files.list("odd")
      assert.deepStrictEqual([page.entries.map((entry) => entry.name), page.unnamed], [["fine"], 3])
      assert.strictEqual((yield* Effect.flip(files.list("closed"))).reason, "Denied")
      assert.strictEqual((yield* Effect.flip(files.stat("closed/a"))).reason, "Denied")
      assert.strictEqual((yield* files.stat("closed")).kind, "folder")
    }).pipe(
      Effect.provide(
        layerMemory({
          odd: {
            kind: "folder",
            children: {
              fine: { kind: "file" },
              "a\nb": { kind: "file" },
              "a\\b": { kind: "file" },
              "..": { kind: "file" }
            }
          },
          closed: { kind: "folder", denied: true, children: { a: { kind: "file" } } }
        })
      )
    )
  )
})
