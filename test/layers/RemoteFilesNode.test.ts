import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type { FilesError } from "../../src/domain/RemoteFile.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import { RemoteFiles } from "../../src/services/RemoteFiles.ts"
import * as Contract from "../services/RemoteFilesContract.ts"

const posix = process.platform !== "win32"
const linux = process.platform === "linux"
const root = process.getuid?.() === 0

let box = ""
beforeAll(() => {
  box = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-files-"))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

/** Writes a contract tree to the disk. */
const plant = (at: string, children: Readonly<Record<string, MemoryNode>>): void => {
  Fs.mkdirSync(at, { recursive: true, mode: 0o700 })
  for (const [name, node] of Object.entries(children)) {
    const path = Path.join(at, name)
    if (node.kind === "folder") plant(path, node.children)
    else if (node.kind === "file") Fs.writeFileSync(path, "x".repeat(node.size ?? 0), { mode: 0o600 })
    else if (node.kind === "link") Fs.symlinkSync("docs", path)
    else execFileSync("mkfifo", ["-m", "600", path])
  }
}

/** A base `home` and, one above it, what must stay unseen. Its size is a mark of its own. */
const CANARY_SIZE = 48_271
const plantCanary = (name: string): { readonly home: string; readonly above: string } => {
  const above = Path.join(box, name)
  Fs.mkdirSync(Path.join(above, "home/in/deep"), { recursive: true })
  Fs.mkdirSync(Path.join(above, "outside/deep"), { recursive: true })
  for (const file of ["canary", "outside/canary", "outside/deep/canary"])
    Fs.writeFileSync(Path.join(above, file), "c".repeat(CANARY_SIZE))
  for (const file of ["in/inside", "in/deep/inside"]) Fs.writeFileSync(Path.join(above, "home", file), "i")
  return { home: Path.join(above, "home"), above }
}
/** Whatever came out, as text: nothing of the outside may be in it. */
const assertBlind = (outcome: unknown, asked = ""): undefined => {
  const said = JSON.stringify(outcome).replaceAll(JSON.stringify(asked).slice(1, -1), "")
  for (const secret of [box, "clawchat-files-", String(CANARY_SIZE), '"name":"canary"', "outside"])
    assert.isFalse(said.includes(secret), `${JSON.stringify(asked)} revealed ${secret}: ${said.slice(0, 200)}`)
}

for (const byPaths of [false, true]) {
  describe.skipIf(!posix)(`RemoteFiles: Node, ${byPaths ? "by paths" : "by descriptors"}`, () => {
    const base = () => Path.join(box, byPaths ? "paths" : "descriptors")
    beforeAll(() => plant(base(), Contract.tree))
    // The folder's name is known only when the tests run.
    Contract.suite(
      RemoteFilesNode.layer({
        get base() {
          return base()
        },
        byPaths
      })
    )

    const files = (home: string) => RemoteFilesNode.layer({ base: home, byPaths })

    it.effect("names links and follows none: to a file, a folder, each other, nothing, the base", () => {
      const { above, home } = plantCanary(`links-${byPaths}`)
      const links = {
        toFile: "../canary",
        toFolder: "../outside",
        toAbsolute: Path.join(above, "outside"),
        toLink: "toFolder",
        dangling: "nowhere",
        loop: "loop",
        toBase: ".",
        toInside: "in"
      }
      for (const [name, target] of Object.entries(links)) Fs.symlinkSync(target, Path.join(home, name))
      return Effect.gen(function* () {
        const files = yield* RemoteFiles
        const page = yield* files.list("/")
        assert.deepStrictEqual(
          page.entries.filter((entry) => entry.kind === "link").map((entry) => [entry.name, entry.size]),
          Object.keys(links)
            .sort()
            .map((name) => [name, 0])
        )
        for (const name of Object.keys(links)) {
          assert.strictEqual((yield* files.stat(name)).kind, "link")
          const refusals: ReadonlyArray<Effect.Effect<unknown, FilesError>> = [
            files.list(name),
            files.list(`${name}/deep`),
            files.stat(`${name}/canary`),
            files.stat(`${name}/in/inside`)
          ]
          for (const refused of refusals) {
            const error = yield* Effect.flip(refused)
            assertBlind(error, `${name}/canary`)
            assert.strictEqual(error.reason, "NotAFolder")
          }
        }
      }).pipe(Effect.provide(files(home)))
    })

    it.effect("a FIFO and a socket block nothing", () => {
      const { home } = plantCanary(`fifo-${byPaths}`)
      for (let i = 0; i < 8; i++) execFileSync("mkfifo", [Path.join(home, `fifo${i}`)])
      return Effect.gen(function* () {
        const files = yield* RemoteFiles
        const names = Array.from({ length: 8 }, (_, i) => `fifo${i}`)
        const reasons = yield* Effect.forEach(names, (name) => Effect.flip(files.list(name)), { concurrency: 8 })
        assert.deepStrictEqual(
          reasons.map((error) => error.reason),
          names.map(() => "NotAFolder")
        )
        const within = yield* Effect.forEach(names, (name) => Effect.flip(files.stat(`${name}/x`)), { concurrency: 8 })
        assert.isTrue(within.every((error) => error.reason === "NotAFolder"))
        assert.strictEqual((yield* files.list("")).entries.filter((entry) => entry.kind === "other").length, 8)
      }).pipe(Effect.provide(files(home)))
    })

    it.effect.skipIf(!linux)("counts names that are not UTF-8 or that no path can say", () => {
      const { home } = plantCanary(`names-${byPaths}`)
      Fs.writeFileSync(Buffer.from(`${home}/in/bad\u00ff`, "latin1"), "x")
      Fs.writeFileSync(`${home}/in/new\nline`, "x")
      Fs.writeFileSync(`${home}/in/back\\slash`, "x")
      Fs.writeFileSync(`${home}/in/\ufffd`, "x")
      Fs.writeFileSync(`${home}/in/\ufeffbom`, "x")
      return Effect.gen(function* () {
        const files = yield* RemoteFiles
        const page = yield* files.list("in")
        assert.strictEqual(page.unnamed, 3)
        assert.deepStrictEqual(
          page.entries.map((entry) => entry.name),
          ["deep", "inside", "\ufeffbom", "\ufffd"]
        )
        for (const entry of page.entries) assert.strictEqual((yield* files.stat(`in/${entry.name}`)).kind, entry.kind)
      }).pipe(Effect.provide(files(home)))
    })

    it.effect.skipIf(root)(
      `a folder that may not be read is denied${root ? " (skipped: root may read everything)" : ""}`,
      () => {
        const { home } = plantCanary(`closed-${byPaths}`)
        Fs.chmodSync(Path.join(home, "in"), 0o000)
        return Effect.gen(function* () {
          const files = yield* RemoteFiles
          const refusals: ReadonlyArray<Effect.Effect<unknown, FilesError>> = [
            files.list("in"),
            files.list("in/deep"),
            files.stat("in/inside")
          ]
          for (const refused of refusals) {
            const error = yield* Effect.flip(refused)
            assert.strictEqual(error.reason, "Denied")
            assertBlind(error)
          }
          assert.strictEqual((yield* files.stat("in")).mode, 0)
          assert.strictEqual((yield* files.list("")).entries.length, 1)
        }).pipe(
          Effect.ensuring(Effect.sync(() => Fs.chmodSync(Path.join(home, "in"), 0o700))),
          Effect.provide(files(home))
        )
      }
    )

    it.effect("masks set-id and sticky bits", () => {
      const { home } = plantCanary(`mode-${byPaths}`)
      Fs.chmodSync(Path.join(home, "in"), 0o1755)
      return Effect.gen(function* () {
        assert.strictEqual((yield* RemoteFiles.use((files) => files.stat("in"))).mode, 0o755)
      }).pipe(Effect.provide(files(home)))
    })

    it.effect("makes a missing base 0700, follows a link to the base, refuses a file", () => {
      const made = Path.join(box, `made-${byPaths}/base`)
      const link = Path.join(box, `link-${byPaths}`)
      const file = Path.join(box, `file-${byPaths}`)
      Fs.symlinkSync(made, link)
      Fs.writeFileSync(file, "x")
      const list = RemoteFiles.use((files) => files.list(""))
      return Effect.gen(function* () {
        assert.deepStrictEqual((yield* list.pipe(Effect.provide(files(made)))).entries, [])
        assert.strictEqual(Fs.statSync(made).mode & 0o777, 0o700)
        Fs.writeFileSync(Path.join(made, "a"), "x")
        assert.strictEqual((yield* list.pipe(Effect.provide(files(link)))).entries[0]?.name, "a")
        const error = yield* Effect.flip(list.pipe(Effect.provide(files(file))))
        assert.match(error.message, /^the base path is not a folder/)
        assertBlind(error)
      })
    })

    const vectors = Path.resolve(import.meta.dirname, "../../../shared/vectors")
    const present = Fs.existsSync(Path.join(vectors, "path-traversal"))
    it.effect.skipIf(!present)(
      `traversal lists reach no canary${present ? "" : " (skipped: ../shared/vectors is not here)"}`,
      () => {
        const { above, home } = plantCanary(`vectors-${byPaths}`)
        Fs.symlinkSync("/etc", Path.join(home, "link_to_etc"))
        Fs.symlinkSync("../outside", Path.join(home, "dirlink"))
        Fs.symlinkSync("link_loop", Path.join(home, "link_loop"))
        Fs.linkSync(Path.join(home, "in/inside"), Path.join(home, "hardlink"))
        const lists = Fs.readdirSync(Path.join(vectors, "path-traversal")).filter((name) => name.endsWith(".txt"))
        const lines = lists.flatMap((name) =>
          Fs.readFileSync(Path.join(vectors, "path-traversal", name), "utf8").split("\n")
        )
        const { cases }: { cases: ReadonlyArray<{ path: string }> } = JSON.parse(
          Fs.readFileSync(Path.join(vectors, "path-traversal/paths_expected.json"), "utf8")
        )
        const naughty: ReadonlyArray<string> = JSON.parse(
          Fs.readFileSync(Path.join(vectors, "strings/blns.json"), "utf8")
        )
        const paths = new Set([
          ...lines.flatMap((line) =>
            ["canary", Path.join(above, "canary"), "etc/passwd"].map((file) => line.replace("{FILE}", file))
          ),
          ...cases.map((each) => each.path),
          ...naughty
        ])
        assert.isAbove(paths.size, 3000)
        return Effect.gen(function* () {
          const files = yield* RemoteFiles
          const listing = JSON.stringify(yield* files.list(""))
          let found = 0
          for (const path of paths) {
            // An error may repeat the path that was asked for, and say one of a few things about it.
            const names = path.split("/").filter((name) => name !== "" && name !== ".")
            const echo = `${JSON.stringify(`/${names.join("/")}`)}: `
            const blind = (error: FilesError): undefined => assertBlind(error.message.replace(echo, ""))
            const page = yield* Effect.match(files.list(path), { onSuccess: (page) => page, onFailure: blind })
            const stat = yield* Effect.match(files.stat(path), { onSuccess: (stat) => stat, onFailure: blind })
            // What exists is the base, or one of the links planted in it, as a link.
            if (page !== undefined) assert.strictEqual(JSON.stringify(page), listing, path)
            if (stat !== undefined)
              assert.match(`${stat.path} ${stat.kind}`, /^(\/ folder|\/(link_to_etc|link_loop) link)$/, path)
            if (page !== undefined || stat !== undefined) found++
          }
          assert.isAbove(found, 0)
        }).pipe(Effect.provide(files(home)))
      }
    )
  })
}

describe.skipIf(!linux)("RemoteFilesNode: races", () => {
  /** Runs `swap` over and over, on real threads, while 300 listings and stats are made. */
  const race = (name: string, swap: (home: string, above: string) => Promise<void>) =>
    it.effect(name, () => {
      const { above, home } = plantCanary(name.replaceAll(" ", "-"))
      let racing = true
      const swapping = Effect.promise(async () => {
        while (racing) await swap(home, above)
      })
      return Effect.gen(function* () {
        const files = yield* RemoteFiles
        const swapper = yield* Effect.forkChild(swapping)
        const outcomes = yield* Effect.forEach(
          Array.from({ length: 300 }, (_, i) => i),
          (i) =>
            Effect.exit<unknown, unknown, never>(
              i % 3 === 0 ? files.list("in") : i % 3 === 1 ? files.list("in/deep") : files.stat("in/deep/canary")
            ),
          { concurrency: 3 }
        )
        racing = false
        yield* Fiber.join(swapper)
        for (const outcome of outcomes) {
          assertBlind(outcome, "canary")
          if (Exit.isFailure(outcome)) assert.match(JSON.stringify(outcome), /NotFound|NotAFolder/)
        }
        assert.strictEqual((yield* files.list("in/deep")).entries[0]?.name, "inside")
      }).pipe(Effect.provide(RemoteFilesNode.layer({ base: home })))
    })

  race("a folder and a link to the outside change places", async (home) => {
    const at = Path.join(home, "in")
    await Fs.promises.rename(at, Path.join(home, "held"))
    await Fs.promises.symlink("../outside", at)
    await Fs.promises.unlink(at)
    await Fs.promises.rename(Path.join(home, "held"), at)
  })

  race("an inner folder and a link to the outside change places", async (home) => {
    const at = Path.join(home, "in/deep")
    await Fs.promises.rename(at, Path.join(home, "held"))
    await Fs.promises.symlink("../../outside/deep", at)
    await Fs.promises.unlink(at)
    await Fs.promises.rename(Path.join(home, "held"), at)
  })

  race("a folder moves out of the base and back", async (home, above) => {
    const at = Path.join(home, "in")
    await Fs.promises.rename(at, Path.join(above, "elsewhere"))
    await Fs.promises.rename(Path.join(above, "elsewhere"), at)
  })
})
