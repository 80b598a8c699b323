import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as RpcTest from "effect/rpc/RpcTest"
import * as Schema from "effect/Schema"
import { FilesRpc } from "../../src/domain/FilesRpc.ts"
import { FilesError, Page } from "../../src/domain/RemoteFile.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as Files from "../../src/programs/Files.ts"
import { layerMemory } from "../../src/services/RemoteFiles.ts"

const files = Files.layer.pipe(
  Layer.provide(CryptoNode.layer),
  Layer.provide(layerMemory({ a: { kind: "file", size: 7 }, b: { kind: "folder", children: { c: { kind: "link" } } } }))
)

describe("Files", () => {
  it.effect("lists and stats through the procedures", () =>
    Effect.gen(function* () {
      const client = yield* RpcTest.makeClient(FilesRpc)
      const first = yield* client["Files.List"]({ path: "/", limit: 1 })
      assert.deepStrictEqual([first.entries.map((entry) => [entry.name, entry.size]), first.cursor], [[["a", 7]], "a"])
      const rest = yield* client["Files.List"]({ path: "/", cursor: "a" })
      assert.deepStrictEqual(
        [rest.entries.map((entry) => [entry.name, entry.kind]), rest.cursor],
        [[["b", "folder"]], undefined]
      )
      assert.strictEqual((yield* client["Files.Stat"]({ path: "b/c" })).kind, "link")
      const error = yield* Effect.flip(client["Files.Stat"]({ path: "../x" }))
      assert.deepStrictEqual([error._tag, "reason" in error && error.reason], ["FilesError", "BadName"])
    }).pipe(Effect.provide(files))
  )

  it.effect("what a server sends is checked before it is believed", () =>
    Effect.gen(function* () {
      const decode = Schema.decodeUnknownEffect(Page)
      const entry = { name: "a", kind: "file", size: 1, mtimeMs: 0, mode: 0o600 }
      assert.instanceOf(yield* decode({ entries: [entry], unnamed: 0 }), Page)
      for (const name of ["", ".", "..", "../a", "a/b", "a\\b", "a\u0000", "\ud800"]) {
        yield* Effect.flip(decode({ entries: [{ ...entry, name }], unnamed: 0 }))
        yield* Effect.flip(decode({ entries: [entry], unnamed: 0, cursor: name }))
      }
      for (const wrong of [
        { size: -1 },
        { size: 1.5 },
        { mode: 0o1777 },
        { kind: "door" },
        { mtimeMs: Number.NaN },
        { mtimeMs: 9e15 },
        { mtimeMs: -9e15 }
      ])
        yield* Effect.flip(decode({ entries: [{ ...entry, ...wrong }], unnamed: 0 }))
    })
  )

  it.effect("errors survive the line", () =>
    Effect.gen(function* () {
      const codec = Schema.toCodecJson(FilesError)
      const sent = yield* Schema.encodeEffect(codec)(
        new FilesError({ reason: "Denied", message: '"/a": permission denied' })
      )
      const got = yield* Schema.decodeUnknownEffect(codec)(JSON.parse(JSON.stringify(sent)))
      assert.deepStrictEqual([got._tag, got.reason, got.message], ["FilesError", "Denied", '"/a": permission denied'])
    })
  )
})
