/** The base path of a real server, tried from outside: by every list of names that people have written down, and by a race. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Files from "../../src/programs/cli/FilesCommon.ts"
import * as Layers from "../../src/programs/cli/Layers.ts"
import * as FileWalk from "../../src/programs/FileWalk.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import * as FilesRaced from "./FilesRaced.ts"
import * as FilesSeen from "./FilesSeen.ts"

const lists = Path.resolve(import.meta.dirname, "../../../shared/vectors/path-traversal")
const hasLists = Fs.existsSync(lists)
const SWAPS = 5000

/** Every line of the lists, meant for the canary above the base, by a relative name or the whole one. */
const traversals = (box: string): ReadonlyArray<string> => {
  const lines = Fs.readdirSync(lists)
    .filter((name) => name.endsWith(".txt"))
    .flatMap((name) => Fs.readFileSync(Path.join(lists, name), "utf8").split(/\r?\n/))
  const { cases }: { cases: ReadonlyArray<{ path: string }> } = JSON.parse(
    Fs.readFileSync(Path.join(lists, "paths_expected.json"), "utf8")
  )
  const canary = Path.join(box, "canary")
  const filled = lines.map((line, i) => line.replace("{FILE}", i % 2 === 0 ? "canary" : canary.slice(1)))
  return [...new Set([...filled, ...cases.map(({ path }) => path), canary, "../canary", "in/../../canary"])]
}

/** Codes that the README names. */
const CODES = new Set([1, 2, 3, 4, 75])

describe.skipIf(process.platform === "win32")("the base path of a server, from outside", () => {
  it.live.skipIf(!hasLists)(
    `the traversal lists as every argument${hasLists ? "" : " (skipped: ../shared/vectors is not here)"}`,
    () =>
      Effect.gen(function* () {
        const { base, box, files, get, outside, put } = yield* FilesSeen.make()
        Fs.symlinkSync("/etc", Path.join(base, "link_to_etc"))
        Fs.symlinkSync("../outside", Path.join(base, "dirlink"))
        Fs.symlinkSync("../canary", Path.join(base, "link"))
        const before = outside()
        const paths = traversals(box)
        assert.isAbove(paths.length, 2200)
        const calling = Files.patient(files, 60_000)
        const pages = Files.remotePages(calling)
        let refused = 0
        const tried = Effect.fnUntraced(function* (path: string, index: number) {
          const calls: ReadonlyArray<Effect.Effect<unknown, Files.RemoteError>> = [
            FileWalk.expand(pages, path),
            pages.list(path, undefined),
            pages.walk(path, undefined, 1),
            calling["Files.Move"]({ from: path, to: "/stolen", conflict: "rename" }),
            calling["Files.Move"]({ from: "/in/inside", to: path, conflict: "replace" }),
            calling["Files.Copy"]({ from: path, to: "/copied", conflict: "rename" }),
            calling["Files.Copy"]({ from: "/in/deep/inside", to: path, conflict: "replace" }),
            calling["Files.Mkdir"]({ path, parents: true }),
            calling["Files.Touch"]({ path, version: "0".repeat(32), mtimeMs: 1000, mode: 0o777 }),
            calling["Files.Remove"]({ path, recursive: true, forever: true })
          ]
          // Every list has every verb; the store's own tests have every line with every verb.
          for (const call of calls.filter((_, at) => (at + index) % 3 === 0)) {
            const failure = yield* Effect.match(call, {
              onFailure: Files.failure,
              onSuccess: (value) => {
                assert.notInclude(JSON.stringify(value ?? ""), "canary of")
                return undefined
              }
            })
            if (failure === undefined) continue
            refused++
            assert.isTrue(CODES.has(failure.code), failure.message)
            assert.match(failure.message, /^[^\n]+$/)
          }
        })
        yield* Effect.forEach(paths, tried, { concurrency: 8, discard: true })
        assert.isAbove(refused, 3000)
        assert.deepStrictEqual(outside(), before)

        const even = paths.filter((_, i) => i % 2 === 0)
        const odd = paths.filter((_, i) => i % 2 === 1)
        const local = MemoryFileTree.make({})
        yield* local.writeSmall([{ path: "/x", bytes: new TextEncoder().encode("put") }])
        const there = yield* put(
          local,
          even.map((to) => ({ from: "/x", to, size: 3, mtimeMs: 1 }))
        )
        const target = MemoryFileTree.make({})
        const here = yield* get(
          target,
          odd.map((from, i) => ({ from, to: `/${i}` }))
        )
        const ends = [...there, ...here].filter(({ _tag }) => _tag !== "Started" && _tag !== "Progress")
        assert.strictEqual(ends.length, paths.length)
        for (const { name } of (yield* target.list("/")).entries) {
          const bytes = yield* Effect.scoped(Effect.flatMap(target.open(name), (reader) => reader.readAt(0, 100)))
          assert.notInclude(Buffer.from(bytes).toString(), "canary of", name)
        }
        assert.deepStrictEqual(outside(), before)
      }).pipe(Effect.scoped, Effect.provide(Layers.network), Effect.provide(Logger.layer([])))
  )

  it.live.skipIf(process.platform !== "linux")(
    `a folder that changes places with a link, ${SWAPS} times${FilesSeen.hasStrace ? "" : " (not watched: no strace)"}`,
    () =>
      Effect.gen(function* () {
        const { counts, swaps, within } = yield* FilesRaced.race(SWAPS)
        assert.isAtLeast(swaps, SWAPS)
        if (FilesSeen.hasStrace) assert.isAbove(within, 100)
        for (const reason of Object.keys(counts))
          assert.match(reason, /^([a-z]+|NotFound|NotAFolder|NotAFile|Exists|Changed|Busy)$/, JSON.stringify(counts))
      }).pipe(Effect.scoped, Effect.provide(Layers.network), Effect.provide(Logger.layer([])))
  )
})
