/** Nothing outside the base is reached: by names, or by links and folders that change places meanwhile. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { FilesError } from "../../src/domain/RemoteFile.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import { bytesOf, put } from "../services/FileTreeContract.ts"

let box = ""
beforeAll(() => {
  // In memory where there is such a place: the races make ten thousands of renames.
  box = Fs.mkdtempSync(Path.join(Fs.existsSync("/dev/shm") ? "/dev/shm" : Os.tmpdir(), "clawchat-walls-"))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

/** A base `home` and, one above it, what must stay as it is. */
const plant = (name: string): { readonly home: string; readonly above: string } => {
  const above = Path.join(box, name)
  Fs.mkdirSync(Path.join(above, "home/in/deep"), { recursive: true })
  Fs.mkdirSync(Path.join(above, "outside/deep"), { recursive: true })
  for (const file of ["canary", "outside/canary", "outside/deep/canary"])
    Fs.writeFileSync(Path.join(above, file), `canary ${file}`)
  for (const file of ["in/inside", "in/deep/inside"]) Fs.writeFileSync(Path.join(above, "home", file), "i")
  return { home: Path.join(above, "home"), above }
}
/** All that stands outside, with contents. */
const snapshot = (above: string): ReadonlyArray<string> =>
  Fs.readdirSync(above, { recursive: true, encoding: "utf8", withFileTypes: true })
    .filter((entry) => !Path.join(entry.parentPath, entry.name).startsWith(Path.join(above, "home")))
    .map((entry) => {
      const path = Path.join(entry.parentPath, entry.name)
      return `${path} ${entry.isFile() ? Fs.readFileSync(path, "utf8") : ""}`
    })
    .sort()

const vectors = Path.resolve(import.meta.dirname, "../../../shared/vectors")
const present = Fs.existsSync(Path.join(vectors, "path-traversal"))

const traversals = (above: string): ReadonlyArray<string> => {
  const folder = Path.join(vectors, "path-traversal")
  const lines = Fs.readdirSync(folder)
    .filter((name) => name.endsWith(".txt"))
    .flatMap((name) => Fs.readFileSync(Path.join(folder, name), "utf8").split("\n"))
  const { cases }: { cases: ReadonlyArray<{ path: string }> } = JSON.parse(
    Fs.readFileSync(Path.join(folder, "paths_expected.json"), "utf8")
  )
  const files = ["canary", Path.join(above, "canary")]
  return [
    ...new Set([
      ...lines.flatMap((line) => files.map((file) => line.replace("{FILE}", file))),
      ...cases.map(({ path }) => path)
    ])
  ]
}

describe.skipIf(process.platform === "win32")("FileTree: walls", () => {
  for (const byPaths of [false, true]) {
    it.effect.skipIf(!present)(
      `traversal lists as every argument, ${byPaths ? "by paths" : "by descriptors"}${present ? "" : " (skipped: ../shared/vectors is not here)"}`,
      () => {
        const { above, home } = plant(`vectors-${byPaths}`)
        Fs.symlinkSync("/etc", Path.join(home, "link_to_etc"))
        Fs.symlinkSync("../outside", Path.join(home, "dirlink"))
        Fs.symlinkSync("../canary", Path.join(home, "link"))
        const before = snapshot(above)
        const paths = traversals(above)
        assert.isAbove(paths.length, 2500)
        return Effect.gen(function* () {
          const tree = yield* RemoteFilesNode.make({ base: home, byPaths })
          const small = (path: string) =>
            Effect.flatMap(tree.writeSmall([{ path, bytes: bytesOf("x"), conflict: "replace" }]), ([outcome]) =>
              outcome === undefined ? Effect.void : Effect.fromResult(outcome)
            )
          const smallRead = (path: string) =>
            Effect.map(tree.readSmall([path], 1000), ([outcome]) => {
              const bytes = outcome !== undefined && Result.isSuccess(outcome) ? outcome.success.bytes : undefined
              return new TextDecoder().decode(bytes)
            })
          for (const path of paths) {
            const operations: ReadonlyArray<Effect.Effect<unknown, FilesError, Scope.Scope>> = [
              tree.open(path),
              smallRead(path),
              put(tree, path, bytesOf("x"), { conflict: "replace" }),
              small(path),
              tree.walk(path, { limit: 1 }),
              tree.usage(path),
              tree.move(path, "stolen"),
              tree.move("in/inside", path, { conflict: "replace" }),
              tree.copy(path, "copied"),
              tree.copy("in/deep/inside", path, { conflict: "replace" }),
              tree.restore(path),
              tree.mkdir(path),
              Effect.flatMap(tree.stat("in/inside"), ({ version = "" }) =>
                tree.touch(path, { version, mtimeMs: 1000, mode: 0o777 })
              ),
              tree.remove(path, { recursive: true, forever: true })
            ]
            for (const operation of operations) {
              const error = yield* Effect.match(Effect.scoped(operation), {
                onSuccess: (value) => JSON.stringify(value ?? null),
                onFailure: ({ message }) => message
              })
              assert.notInclude(error, "canary outside")
            }
            if (!Fs.existsSync(Path.join(home, "in/inside"))) Fs.writeFileSync(Path.join(home, "in/inside"), "i")
          }
          assert.deepStrictEqual(snapshot(above), before)
          // What went in went in below the base, as plain names.
          assert.isAbove((yield* tree.usage("")).files, 0)
        })
      }
    )
  }
})

const SWAPS = 5000
/** Waits for the worker, then swaps as fast as it goes, at least until the worker has done enough; then says stop. */
const SWAPPER = `
const fs = require("node:fs"), path = require("node:path"), [, above, kind] = process.argv
const at = path.join(above, "home", kind === "inner" ? "in/deep" : "in"), held = path.join(above, kind === "out" ? "held" : "home/held")
while (!fs.existsSync(path.join(above, "ready"))) {}
for (let i = 0; i < ${SWAPS} || !fs.existsSync(path.join(above, "enough")); i++) {
  fs.renameSync(at, held)
  fs.symlinkSync(path.join(above, kind === "inner" ? "outside/deep" : "outside"), at)
  fs.unlinkSync(at)
  fs.renameSync(held, at)
}
fs.writeFileSync(path.join(above, "stop"), "")
`
const finished = (child: ChildProcess): Effect.Effect<string> =>
  Effect.promise(async () => {
    let out = ""
    for await (const chunk of child.stdout ?? []) out += String(chunk)
    if (child.exitCode === null && child.signalCode === null)
      await new Promise((resolve) => child.once("exit", resolve))
    return out
  })

/** Whether system calls can be watched here. */
const strace = ((): boolean => {
  try {
    execFileSync("strace", ["-f", "-o", "/dev/null", "true"], { stdio: "ignore" })
    return true
  } catch (_) {
    return false
  }
})()

describe.skipIf(process.platform !== "linux")(
  `FileTree: ${SWAPS} swaps of folder and link${strace ? "" : " (not watched: no strace)"}`,
  () => {
    for (const kind of ["outer", "inner", "out"]) {
      it.effect(`${kind}: nothing outside is opened, changed or told`, () =>
        Effect.gen(function* () {
          const { above, home } = plant(`race-${kind}`)
          const before = snapshot(above)
          const log = Path.join(box, `${kind}.strace`)
          const raced = [process.execPath, Path.join(import.meta.dirname, "FileTreeRaced.ts"), home]
          // One is watched: that costs time.
          const watched = strace && kind === "outer"
          const watch = ["strace", "-f", "-qq", "-y", "-e", "trace=open,openat,openat2,rename,link,unlink", "-o", log]
          const [command = "", ...args] = watched ? [...watch, ...raced] : raced
          const worker = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] })
          const swapper = spawn(process.execPath, ["-e", SWAPPER, above, kind], { stdio: "inherit" })
          yield* finished(swapper)
          const counts: Record<string, number> = JSON.parse(yield* finished(worker))
          assert.isUndefined(counts.CANARY, JSON.stringify(counts))
          for (const sign of ["ready", "enough", "stop"]) Fs.unlinkSync(Path.join(above, sign))
          assert.deepStrictEqual(snapshot(above), before)
          // Operations did get through, others met a link or nothing.
          assert.isAbove((counts.write ?? 0) + (counts.list ?? 0) + (counts.small ?? 0), 0, JSON.stringify(counts))
          assert.isAbove((counts.NotFound ?? 0) + (counts.NotAFolder ?? 0), 0, JSON.stringify(counts))
          for (const reason of Object.keys(counts))
            assert.match(reason, /^([a-z]+|NotFound|NotAFolder|NotAFile|Exists|Changed)$/)
          if (watched) {
            // A path opened by name or, thanks to -y, by descriptor.
            const opened = Fs.readFileSync(log, "utf8").split("\n")
            assert.isAbove(opened.filter((line) => line.includes(Path.join(home, "in"))).length, 100)
            assert.deepStrictEqual(
              opened.filter((line) => line.includes(Path.join(above, "outside"))),
              []
            )
          }
        })
      )
    }
  }
)
