/** Works on a server's files while somebody swaps a folder there for a link to a place outside. */
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import * as FilesSeen from "./FilesSeen.ts"

/** Swaps so often, at least until it is told that enough was done meanwhile. */
const SWAPPER = `
const fs = require("node:fs"), path = require("node:path"), [, box, swaps] = process.argv
const at = path.join(box, "base/in"), held = path.join(box, "base/held")
// Who puts a file makes the folder meanwhile, if it is missing at that moment.
const clear = () => fs.rmSync(at, { recursive: true, force: true })
const linked = () => {
  try {
    fs.symlinkSync(path.join(box, "outside"), at)
    return true
  } catch {
    return false
  }
}
const back = () => {
  try {
    fs.renameSync(held, at)
    return true
  } catch {
    return false
  }
}
let done = 0
while (done < Number(swaps) || !fs.existsSync(path.join(box, "base/enough"))) {
  fs.renameSync(at, held)
  if (linked()) done++
  for (let i = 0; i < 20; i++) fs.lstatSync(at)
  do clear()
  while (!back())
  for (let i = 0; i < 20; i++) fs.lstatSync(at)
}
process.stdout.write(String(done))
`

const text = (content: string): Uint8Array => new TextEncoder().encode(content)

/** What came of it. Fails when anything outside was opened, changed or told. */
export const race = Effect.fnUntraced(function* (swaps: number) {
  const seen = yield* FilesSeen.make({ watched: true })
  const { box, calls, files, get, outside, put } = seen
  const before = outside()
  const large = "x".repeat(600_000)
  const local = MemoryFileTree.make({})
  yield* local.writeSmall([{ path: "/small", bytes: text("small") }])
  yield* local.writeSmall([{ path: "/large", bytes: text(large) }])
  const swapper = spawn(process.execPath, ["-e", SWAPPER, box, String(swaps)], { stdio: ["ignore", "pipe", "inherit"] })
  let out = ""
  swapper.stdout?.on("data", (chunk) => (out += String(chunk)))
  let isOver = false
  swapper.once("close", () => {
    isOver = true
  })
  const counts = new Map<string, number>()
  const count = (word: string): void => void counts.set(word, (counts.get(word) ?? 0) + 1)
  const done = (word: string, value: unknown): void => {
    count(word)
    assert.notInclude(JSON.stringify(value ?? ""), "canary of", word)
  }
  for (let round = 0; !isOver; round++) {
    const name = `n${round % 5}`
    const target = MemoryFileTree.make({})
    const gets = ["/in/canary", "/in/inside", `/in/deep/${name}`].map((from, i) => ({ from, to: `/${i}` }))
    const puts = [
      { from: "/small", to: `/in/deep/${name}` },
      { from: "/small", to: `/in/${name}` },
      { from: "/large", to: `/in/l${name}` }
    ]
    const operations = {
      list: files["Files.List"]({ path: "/in" }),
      find: files["Files.Find"]({ path: "/in/deep" }),
      stat: files["Files.Stat"]({ path: "/in/canary" }),
      du: files["Files.Du"]({ path: "/in" }),
      mkdir: files["Files.Mkdir"]({ path: `/in/deep/f${name}`, parents: true }),
      digest: files["Files.Digest"]({ path: "/in/deep/canary" }),
      move: files["Files.Move"]({ from: `/in/${name}`, to: `/in/deep/m${name}`, conflict: "replace" }),
      touch: Effect.flatMap(files["Files.Stat"]({ path: "/in/deep/inside" }), ({ version = "" }) =>
        files["Files.Touch"]({ path: "/in/deep/inside", version, mtimeMs: 1000, mode: 0o600 })
      ),
      copy: files["Files.Copy"]({ from: "/in/deep/inside", to: `/in/deep/c${name}`, conflict: "replace" }),
      remove: files["Files.Remove"]({ path: "/in/canary", recursive: true }),
      clear: files["Files.Remove"]({ path: `/in/deep/f${name}`, recursive: true, forever: true })
    }
    for (const [word, operation] of Object.entries(operations)) {
      yield* Effect.matchEffect(
        operation as Effect.Effect<unknown, { readonly _tag: string; readonly reason: unknown }>,
        {
          onFailure: ({ reason }) => Effect.sync(() => count(String(reason))),
          onSuccess: (value) => Effect.sync(() => done(word, value))
        }
      )
    }
    for (const event of [...(yield* put(local, puts)), ...(yield* get(target, gets))]) {
      if (event._tag === "Failed") count(event.reason)
      else if (event._tag === "Done") count(event.from.startsWith("/in") ? "get" : "put")
    }
    for (const { name: at } of (yield* target.list("/")).entries) {
      const [read] = [yield* Effect.scoped(Effect.flatMap(target.open(at), (reader) => reader.readAt(0, 100)))]
      assert.notInclude(Buffer.from(read).toString(), "canary")
    }
    const met = (...words: ReadonlyArray<string>): number =>
      words.reduce((sum, word) => sum + (counts.get(word) ?? 0), 0)
    const isEnough = round >= 25 && met("put") > 0 && met("get") > 0 && met("NotFound", "NotAFolder") > 0
    if (isEnough) Fs.writeFileSync(Path.join(box, "base/enough"), "")
  }
  assert.deepStrictEqual(outside(), before)
  yield* seen.stop
  const all = calls()
  const strayed = all.filter(
    (line) => line.includes(Path.join(box, "outside")) || line.includes(Path.join(box, "canary"))
  )
  assert.deepStrictEqual(strayed, [])
  return {
    swaps: Number(out),
    counts: Object.fromEntries(counts),
    within: all.filter((line) => line.includes(box)).length
  }
})
