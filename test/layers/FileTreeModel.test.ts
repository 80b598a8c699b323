/** The tree on the disk does what the tree in memory does, whatever is asked in whatever order. */
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { FilesError } from "../../src/domain/RemoteFile.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"
import type { Conflict, FileTree } from "../../src/services/FileTree.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import { get, hex, put } from "../services/FileTreeContract.ts"
import { pattern } from "../services/Pattern.ts"

let box = ""
beforeAll(() => {
  box = Fs.mkdtempSync(Path.join(Fs.existsSync("/dev/shm") ? "/dev/shm" : Os.tmpdir(), "clawchat-model-"))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

const SEED = 0x5107e
const RUNS = 60
const STEPS = 40
const PATHS = ["a", "b", "a/b", "a/c", "b/a", "a/b/c", "b/a/a", "c.txt", "a/b/c/d", "", "c (2).txt", ".clawchat-x"]

type Operation = (tree: FileTree) => Effect.Effect<unknown, FilesError, Scope.Scope>

/** One operation with its words, drawn once and done on both trees. */
const draw = (pick: (count: number) => number): readonly [string, Operation] => {
  const path = PATHS[pick(PATHS.length)] ?? ""
  const to = PATHS[pick(PATHS.length)] ?? ""
  const conflict = (["fail", "replace", "rename"] as const)[pick(3)] ?? "fail"
  const length = [0, 1, 70_000, 300_000][pick(4)] ?? 0
  const bytes = pattern(length, pick(1000))
  const flag = pick(2) === 1
  const operations: ReadonlyArray<readonly [string, Operation]> = [
    [`put ${length}`, (tree) => put(tree, path, bytes, { conflict, parents: flag, mtimeMs: 1000 })],
    [
      `put the version of ${to}`,
      (tree) =>
        Effect.flatMap(tree.stat(to), ({ version }) => {
          const rule: Conflict = { version: version ?? "" }
          return put(tree, path, bytes, { conflict: rule, mtimeMs: 1000 })
        })
    ],
    [
      `small ${length}`,
      (tree) =>
        Effect.flatMap(tree.writeSmall([{ path, bytes, conflict, parents: flag, mtimeMs: 1000 }]), ([outcome]) =>
          outcome === undefined ? Effect.void : Effect.fromResult(outcome)
        )
    ],
    ["mkdir", (tree) => tree.mkdir(path, { parents: flag })],
    ["remove", (tree) => tree.remove(path, { recursive: flag, forever: flag })],
    [`move ${to}`, (tree) => tree.move(path, to, { conflict })],
    [`copy ${to}`, (tree) => tree.copy(path, to, { conflict })],
    ["get", (tree) => Effect.map(get(tree, path), hex)],
    [
      `get small ${to}`,
      (tree) =>
        Effect.map(tree.readSmall([path, to], 70_000), (outcomes) =>
          outcomes.map((outcome) =>
            Result.match(outcome, {
              onSuccess: ({ bytes, path, size }) => `${path} ${size} ${bytes === undefined ? "" : hex(bytes)}`,
              onFailure: ({ reason }) => reason
            })
          )
        )
    ],
    ["stat", (tree) => tree.stat(path)],
    [
      `touch the version of ${to}`,
      (tree) =>
        Effect.flatMap(tree.stat(to), ({ version = "" }) => tree.touch(path, { version, mtimeMs: 2000, mode: 0o755 }))
    ],
    ["usage", (tree) => tree.usage(path)],
    ["list", (tree) => tree.list(path)],
    [
      "restore the last",
      (tree) => Effect.flatMap(tree.trash, (trash) => tree.restore(trash.at(-1)?.id ?? "", flag ? to : undefined))
    ]
  ]
  const [name, operation] = operations[pick(operations.length)] ?? ["", () => Effect.void]
  return [`${name} ${JSON.stringify(path)} ${conflict} ${flag}`, operation]
}

/** An outcome without what the two cannot have in common: times of folders, modes of folders, versions. */
const plain = (outcome: Result.Result<unknown, FilesError>): string =>
  Result.isFailure(outcome)
    ? outcome.failure.reason
    : JSON.stringify(outcome.success ?? null, (key, value) =>
        ["version", "mtimeMs", "mode"].includes(key) ? undefined : value
      )

describe.skipIf(process.platform === "win32")("FileTree: disk and memory agree", () => {
  it.effect(`${RUNS} runs of ${STEPS} operations, seed ${SEED}`, () =>
    Effect.gen(function* () {
      const random = new SeededRandom(SEED)
      const pick = (count: number): number => random.u32() % count
      for (let run = 0; run < RUNS; run++) {
        const home = Path.join(box, `run${run}`)
        yield* Effect.scoped(
          Effect.gen(function* () {
            const disk = yield* RemoteFilesNode.make({ base: home, byPaths: run % 4 === 3 })
            const memory = MemoryFileTree.make()
            const done: Array<string> = []
            for (let step = 0; step < STEPS; step++) {
              const [words, operation] = draw(pick)
              done.push(words)
              const outcomes: Array<string> = []
              for (const tree of [disk, memory])
                outcomes.push(plain(yield* Effect.result(Effect.scoped(operation(tree)))))
              assert.strictEqual(outcomes[0], outcomes[1], `seed ${SEED}, run ${run}:\n${done.join("\n")}`)
            }
            const all = (tree: FileTree) => Effect.map(Effect.result(tree.walk("")), plain)
            assert.strictEqual(yield* all(disk), yield* all(memory), `seed ${SEED}, run ${run}:\n${done.join("\n")}`)
            const parts = Fs.readdirSync(home, { recursive: true, encoding: "utf8" }).filter((name) =>
              name.includes("-part-")
            )
            assert.deepStrictEqual(parts, [])
          })
        )
      }
    })
  )
})
