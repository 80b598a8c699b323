/**
 * Works in `BASE/in` and `BASE/in/deep` until a file `stop` stands beside the base; puts `ready` there when
 * it begins and `enough` after 40 rounds; says how many operations succeeded and
 * what else came out. FileTreeWalls.test.ts changes the ground under it meanwhile.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { FilesError } from "../../src/domain/RemoteFile.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"

const base = process.argv[2] ?? ""
const stop = Path.join(base, "../stop")
const bytes = new TextEncoder().encode("inside")
const counts = new Map<string, number>()
const count = (word: string) => counts.set(word, (counts.get(word) ?? 0) + 1)

const program = Effect.gen(function* () {
  const tree = yield* RemoteFilesNode.make({ base })
  Fs.writeFileSync(Path.join(base, "../ready"), "")
  for (let round = 0; !Fs.existsSync(stop); round++) {
    if (round === 40) Fs.writeFileSync(Path.join(base, "../enough"), "")
    const name = `n${round % 7}`
    const write = (path: string) =>
      Effect.gen(function* () {
        const writer = yield* tree.write(path, { size: bytes.length, conflict: "replace" })
        yield* writer.append(bytes)
        yield* writer.commit
      })
    const read = (path: string) =>
      Effect.gen(function* () {
        const reader = yield* tree.open(path)
        const found = yield* reader.readAt(0, 100)
        if (Buffer.from(found).includes("canary")) count("CANARY")
      })
    const readSmall = Effect.gen(function* () {
      for (const outcome of yield* tree.readSmall(["in/deep/canary", "in/deep/inside"], 100)) {
        const { bytes = new Uint8Array(0) } = yield* Effect.fromResult(outcome)
        if (Buffer.from(bytes).includes("canary")) count("CANARY")
      }
    })
    const small = Effect.flatMap(tree.writeSmall([{ path: `in/${name}`, bytes, conflict: "replace" }]), ([outcome]) =>
      outcome === undefined ? Effect.void : Effect.fromResult(outcome)
    )
    const operations: Readonly<Record<string, Effect.Effect<unknown, FilesError, Scope.Scope>>> = {
      write: write(`in/deep/${name}`),
      small,
      readSmall,
      read: read("in/deep/canary"),
      list: tree.list("in/deep"),
      walk: tree.walk("in"),
      usage: tree.usage("in"),
      mkdir: tree.mkdir(`in/deep/folder${round % 7}`),
      touch: Effect.flatMap(tree.stat("in/deep/inside"), ({ version = "" }) =>
        tree.touch("in/deep/inside", { version, mtimeMs: 1000, mode: 0o600 })
      ),
      copy: tree.copy("in/deep/inside", `in/${name}copy`, { conflict: "replace" }),
      move: tree.move(`in/${name}`, `in/deep/${name}moved`, { conflict: "replace" }),
      remove: tree.remove(`in/deep/${name}`, { forever: round % 2 === 0 }),
      clear: tree.remove(`in/deep/folder${round % 7}`, { forever: true, recursive: true }),
      empty: round % 16 === 0 ? tree.emptyTrash() : Effect.void
    }
    for (const [operation, effect] of Object.entries(operations)) {
      const said = yield* Effect.match(Effect.scoped(effect), {
        onSuccess: (value) => {
          count(operation)
          return JSON.stringify(value ?? null)
        },
        onFailure: ({ message, reason }) => {
          count(reason)
          return message.replaceAll("canary", "")
        }
      })
      if (said.includes("canary")) count("CANARY")
    }
  }
})
await Effect.runPromise(Effect.scoped(program))
process.stdout.write(JSON.stringify(Object.fromEntries(counts)))
