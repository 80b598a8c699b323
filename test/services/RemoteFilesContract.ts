/** What every layer of RemoteFiles does, over one small tree. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { FilesError } from "../../src/domain/RemoteFile.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import { RemoteFiles } from "../../src/services/RemoteFiles.ts"

const file = (size: number): MemoryNode => ({ kind: "file", size })
const folder = (children: Readonly<Record<string, MemoryNode>>): MemoryNode => ({ kind: "folder", children })

/** Links point to `docs`. */
export const tree: Readonly<Record<string, MemoryNode>> = {
  docs: folder({ "b.txt": file(5), "a.txt": file(3), deep: folder({ "x y": file(0) }), B: file(1) }),
  empty: folder({}),
  link: { kind: "link" },
  pipe: { kind: "other" },
  "-rf": file(2),
  "%2e%2e": file(2),
  "e\u0301": file(2),
  "\u00fcn\u00ef": file(2),
  many: folder(Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`n${i}`, file(0)])))
}

export const suite = (layer: Layer.Layer<RemoteFiles, FilesError>): void => {
  const test = (name: string, body: (files: RemoteFiles["Service"]) => Effect.Effect<void, FilesError>): void =>
    it.effect(name, () => RemoteFiles.use(body).pipe(Effect.provide(layer)))
  const reason = (effect: Effect.Effect<unknown, FilesError>): Effect.Effect<string> =>
    Effect.match(effect, { onSuccess: () => "succeeded", onFailure: (error) => error.reason })

  test("lists the base, whatever it is called, in order", (files) =>
    Effect.gen(function* () {
      const names = Object.keys(tree).sort((a, b) => (a < b ? -1 : 1))
      for (const path of ["", "/", ".", "//./"]) {
        const page = yield* files.list(path)
        assert.deepStrictEqual(
          page.entries.map((entry) => entry.name),
          names
        )
        assert.strictEqual(page.unnamed, 0)
        assert.isUndefined(page.cursor)
      }
    }))

  test("describes each entry", (files) =>
    Effect.gen(function* () {
      const page = yield* files.list("docs")
      assert.deepStrictEqual(
        page.entries.map(({ kind, mode, name, size }) => [name, kind, size, mode]),
        [
          ["B", "file", 1, 0o600],
          ["a.txt", "file", 3, 0o600],
          ["b.txt", "file", 5, 0o600],
          ["deep", "folder", 0, 0o700]
        ]
      )
      assert.deepStrictEqual((yield* files.list("/empty/")).entries, [])
      assert.deepStrictEqual(
        (yield* files.list("docs/deep")).entries.map((entry) => entry.name),
        ["x y"]
      )
    }))

  test("stats files, folders, links, others and the base", (files) =>
    Effect.gen(function* () {
      for (const [path, formatted, kind, size] of [
        ["docs//./a.txt", "/docs/a.txt", "file", 3],
        ["docs", "/docs", "folder", 0],
        ["/", "/", "folder", 0],
        ["link", "/link", "link", 0],
        ["pipe", "/pipe", "other", 0],
        ["%2e%2e", "/%2e%2e", "file", 2],
        ["-rf", "/-rf", "file", 2]
      ] as const) {
        const stat = yield* files.stat(path)
        assert.deepStrictEqual([stat.path, stat.kind, stat.size], [formatted, kind, size])
        assert.isTrue(Number.isInteger(stat.mtimeMs))
      }
    }))

  test("says why not", (files) =>
    Effect.gen(function* () {
      assert.strictEqual(yield* reason(files.list("nothing")), "NotFound")
      assert.strictEqual(yield* reason(files.stat("docs/nothing")), "NotFound")
      assert.strictEqual(yield* reason(files.stat("nothing/at/all")), "NotFound")
      assert.strictEqual(yield* reason(files.list("docs/a.txt")), "NotAFolder")
      assert.strictEqual(yield* reason(files.stat("docs/a.txt/x")), "NotAFolder")
      assert.strictEqual(yield* reason(files.list("pipe")), "NotAFolder")
      assert.strictEqual(yield* reason(files.list("link")), "NotAFolder")
      assert.strictEqual(yield* reason(files.stat("link/a.txt")), "NotAFolder")
      for (const path of ["..", "docs/..", "docs/../../x", "a\u0000", "..\\x", "\ud800", "x".repeat(256)]) {
        assert.strictEqual(yield* reason(files.list(path)), "BadName")
        assert.strictEqual(yield* reason(files.stat(path)), "BadName")
      }
      const message = yield* Effect.match(files.stat("docs/nothing"), {
        onSuccess: () => "",
        onFailure: (error) => error.message
      })
      assert.strictEqual(message, '"/docs/nothing": no such file or folder')
    }))

  test("does not fold Unicode", (files) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* files.stat("e\u0301")).kind, "file")
      if (process.platform !== "darwin") assert.strictEqual(yield* reason(files.stat("\u00e9")), "NotFound")
    }))

  test("gives 5,000 entries page by page, each once", (files) =>
    Effect.gen(function* () {
      const names: Array<string> = []
      const lengths: Array<number> = []
      let cursor: string | undefined
      do {
        const page = yield* files.list("many", cursor === undefined ? {} : { cursor })
        for (const entry of page.entries) names.push(entry.name)
        lengths.push(page.entries.length)
        cursor = page.cursor
      } while (cursor !== undefined)
      assert.deepStrictEqual(lengths, [1000, 1000, 1000, 1000, 1000])
      assert.strictEqual(new Set(names).size, 5000)
      assert.deepStrictEqual(names, [...names].sort())
    }))

  test("bounds limit, goes on after a name that is gone, refuses a cursor that is none", (files) =>
    Effect.gen(function* () {
      assert.deepStrictEqual(
        (yield* files.list("docs", { limit: 2 })).entries.map((entry) => entry.name),
        ["B", "a.txt"]
      )
      assert.strictEqual((yield* files.list("docs", { limit: 2 })).cursor, "a.txt")
      assert.deepStrictEqual(
        (yield* files.list("docs", { cursor: "aa", limit: 1 })).entries.map((entry) => entry.name),
        ["b.txt"]
      )
      for (const limit of [0, -1, Number.NaN])
        assert.strictEqual((yield* files.list("docs", { limit })).entries.length, 1)
      for (const limit of [1e9, Number.POSITIVE_INFINITY])
        assert.strictEqual((yield* files.list("many", { limit })).entries.length, 1000)
      for (const cursor of ["", "..", "../x", "a/b", "\u0000"])
        assert.strictEqual(yield* reason(files.list("docs", { cursor })), "BadName")
    }))
}
