/** The tree on the disk when clocks jump, records lie, counts meet writes, and things cannot be moved, read or deleted. */
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as TestClock from "effect/testing/TestClock"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import { bytesOf, get, hex, put, reason } from "../services/FileTreeContract.ts"
import { pattern } from "../services/Pattern.ts"

const posix = process.platform !== "win32"
const linux = process.platform === "linux"
const root = process.getuid?.() === 0
const DAY_MS = 86_400_000

let box = ""
let bases = 0
beforeAll(() => {
  box = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-worse-"))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

const base = (): string => {
  const path = Path.join(box, `base${bases++}`)
  Fs.mkdirSync(path)
  return path
}
const make = (at: string, options: Partial<RemoteFilesNode.Options> = {}) =>
  RemoteFilesNode.make({ base: at, ...options })
const raw = (at: string): ReadonlyArray<string> => Fs.readdirSync(at, { recursive: true, encoding: "utf8" })
const trashOf = (at: string, ...names: ReadonlyArray<string>): string => Path.join(at, ".clawchat-trash", ...names)

/** Runs with the host's clock so much ahead. */
const ahead = <A, E, R>(ms: number, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const { now } = Date
      Date.now = () => now.call(Date) + ms
      return now
    }),
    () => effect,
    (now) =>
      Effect.sync(() => {
        Date.now = now
      })
  )

describe.skipIf(!posix)("FileTree on a disk that is not what it should be", () => {
  it.effect("a sweep after the clock has jumped leaves alone what is being written, and deletes what is not", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at)
      const bytes = pattern(2 * BLOCK_LENGTH + 5)
      const write = (path: string) => tree.write(path, { size: bytes.length, fingerprint: "x" })
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* Effect.scoped(Effect.flatMap(write("g"), (writer) => writer.append(bytes.slice(0, BLOCK_LENGTH + 9))))
          const writer = yield* write("f")
          yield* writer.append(bytes.slice(0, 2 * BLOCK_LENGTH))
          assert.strictEqual(raw(at).length, 4)
          yield* ahead(4 * DAY_MS, tree.sweep)
          assert.strictEqual(raw(at).length, 2)
          yield* writer.append(bytes.slice(2 * BLOCK_LENGTH))
          yield* writer.commit
        })
      )
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
      assert.deepStrictEqual(raw(at), ["f"])
    })
  )

  it.effect("what is being written while the quota is counted is counted once", () =>
    Effect.gen(function* () {
      const tree = yield* make(base(), { quotaBytes: 10 * BLOCK_LENGTH })
      const bytes = pattern(4 * BLOCK_LENGTH)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const writer = yield* tree.write("f", { size: bytes.length, fingerprint: "x" })
          yield* writer.append(bytes.slice(0, 3 * BLOCK_LENGTH))
          yield* TestClock.adjust("2 hours")
          assert.strictEqual(yield* tree.free, 6 * BLOCK_LENGTH)
          yield* writer.append(bytes.slice(3 * BLOCK_LENGTH))
          yield* writer.commit
        })
      )
      assert.strictEqual(yield* tree.free, 6 * BLOCK_LENGTH)
    })
  )

  it.effect("a part that is shorter than its sums say is gone on with where it ends", () =>
    Effect.gen(function* () {
      const at = base()
      const bytes = pattern(6 * BLOCK_LENGTH + 5)
      const options = { size: bytes.length, fingerprint: "x" }
      const tree = yield* make(at)
      yield* Effect.scoped(
        Effect.flatMap(tree.write("f", options), (writer) => writer.append(bytes.slice(0, 5 * BLOCK_LENGTH)))
      )
      const part = raw(at).find((name) => !name.endsWith(".sums")) ?? ""
      Fs.truncateSync(Path.join(at, part), 2 * BLOCK_LENGTH + 9)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const writer = yield* tree.write("f", options)
          assert.strictEqual(writer.resumed, 2 * BLOCK_LENGTH)
          yield* writer.append(bytes.slice(writer.resumed))
          yield* writer.commit
        })
      )
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
    })
  )

  it.effect.skipIf(!linux)(
    "a part is left to the process that it is called after while that holds it, and no longer",
    () =>
      Effect.gen(function* () {
        const at = base()
        const bytes = pattern(3 * BLOCK_LENGTH)
        const begin = Effect.scoped(
          Effect.gen(function* () {
            // Anew, as another process would.
            const tree = yield* make(at)
            const writer = yield* tree.write("f", { size: bytes.length, fingerprint: "x" })
            const { resumed } = writer
            if (resumed === 0) yield* writer.append(bytes.slice(0, 2 * BLOCK_LENGTH))
            else yield* writer.abort
            return resumed
          })
        )
        const rename = (pid: number | undefined): string => {
          let part = ""
          for (const name of raw(at)) {
            const to = name.replace(/-\d+-/, `-${pid}-`)
            Fs.renameSync(Path.join(at, name), Path.join(at, to))
            if (!to.endsWith(".sums")) part = to
          }
          return Path.join(at, part)
        }
        yield* begin
        const file = Fs.openSync(rename(process.ppid), "r")
        const other = spawn("sleep", ["60"], { stdio: [file, "ignore", "ignore"] })
        Fs.closeSync(file)
        yield* Effect.promise(() => once(other, "spawn"))
        rename(other.pid)
        assert.strictEqual(yield* begin, 0)
        for (const name of raw(at)) if (name.includes(`-${process.pid}-`)) Fs.unlinkSync(Path.join(at, name))
        other.kill("SIGKILL")
        yield* Effect.promise(() => once(other, "exit"))
        // Somebody alive has the number now.
        rename(process.ppid)
        assert.strictEqual(yield* begin, 2 * BLOCK_LENGTH)
        assert.deepStrictEqual(raw(at), [])
      })
  )

  it.effect("a part that has got its name, and not lost its own, is that file and not gone on with", () =>
    Effect.gen(function* () {
      const at = base()
      const bytes = pattern(3 * BLOCK_LENGTH)
      const options = { size: bytes.length, fingerprint: "x" }
      const tree = yield* make(at)
      yield* Effect.scoped(
        Effect.flatMap(tree.write("f", options), (writer) => writer.append(bytes.slice(0, 2 * BLOCK_LENGTH)))
      )
      const part = raw(at).find((name) => !name.endsWith(".sums")) ?? ""
      // A crash between link(2) and unlink(2); then it was moved, and written to.
      Fs.linkSync(Path.join(at, part), Path.join(at, "moved"))
      Fs.writeFileSync(Path.join(at, "moved"), "mine", { flag: "a" })
      const before = hex(yield* get(tree, "moved"))
      yield* put(tree, "f", bytes, options)
      assert.strictEqual(hex(yield* get(tree, "moved")), before)
      assert.deepStrictEqual(raw(at).toSorted(), ["f", "moved"])
    })
  )

  it.effect("zeros at the end of a part, which are no bytes on the disk, are gone on with as well", () =>
    Effect.gen(function* () {
      const tree = yield* make(base())
      const options = { size: 6 * BLOCK_LENGTH, fingerprint: "x" }
      yield* Effect.scoped(
        Effect.gen(function* () {
          const writer = yield* tree.write("f", options)
          yield* writer.append(pattern(BLOCK_LENGTH))
          yield* writer.append(new Uint8Array(3 * BLOCK_LENGTH))
        })
      )
      const writer = yield* tree.write("f", options)
      assert.strictEqual(writer.resumed, 4 * BLOCK_LENGTH)
    })
  )

  it.effect(
    "a note in the trash that cannot be read costs nothing but its words; without its time it goes in time",
    () =>
      Effect.gen(function* () {
        const at = base()
        const tree = yield* make(at)
        yield* put(tree, "f", bytesOf("x"))
        yield* tree.remove("f")
        const [note = ""] = Fs.readdirSync(trashOf(at)).filter((name) => name.endsWith(".json"))
        const text = Fs.readFileSync(trashOf(at, note))
        Fs.writeFileSync(trashOf(at, note), "{")
        yield* tree.sweep
        assert.deepStrictEqual(yield* tree.trash, [])
        Fs.writeFileSync(trashOf(at, note), text)
        assert.strictEqual((yield* tree.trash).length, 1)
        Fs.writeFileSync(trashOf(at, note), "{")
        yield* ahead(31 * DAY_MS, tree.sweep)
        assert.deepStrictEqual(Fs.readdirSync(trashOf(at)), [])
      })
  )

  it.effect("a note whose thing is on its way, in another process, is no rubbish yet", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at)
      yield* put(tree, "f", bytesOf("x"))
      yield* tree.remove("f")
      const [thing = ""] = Fs.readdirSync(trashOf(at)).filter((name) => name.endsWith(".item"))
      Fs.renameSync(trashOf(at, thing), Path.join(at, "f"))
      yield* tree.sweep
      Fs.renameSync(Path.join(at, "f"), trashOf(at, thing))
      assert.strictEqual((yield* tree.trash).length, 1)
    })
  )

  it.effect.skipIf(!linux)("deletes folders whose names are not UTF-8, from the trash as well", () =>
    Effect.gen(function* () {
      const at = base()
      Fs.mkdirSync(Buffer.from(`${at}/d\u00ff`, "latin1"))
      const tree = yield* make(at)
      yield* tree.mkdir("a")
      Fs.mkdirSync(Buffer.from(`${at}/a/bad\u00ff`, "latin1"))
      Fs.writeFileSync(Buffer.from(`${at}/a/bad\u00ff/f\u00ff`, "latin1"), "x")
      yield* tree.remove("a", { recursive: true })
      yield* put(tree, "b", bytesOf("x"))
      yield* tree.remove("b")
      assert.strictEqual(yield* tree.emptyTrash(), 2)
      assert.deepStrictEqual(Fs.readdirSync(trashOf(at)), [])
    })
  )

  it.effect.skipIf(!(linux && root))("what cannot be deleted from the trash does not keep the rest there", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at, { trashBytes: 100 })
      yield* tree.mkdir("a")
      yield* tree.remove("a", { recursive: true })
      const [thing = ""] = Fs.readdirSync(trashOf(at)).filter((name) => name.endsWith(".item"))
      // Nobody can remove a folder that something is mounted on.
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", trashOf(at, thing)])
      yield* Effect.gen(function* () {
        for (const name of ["b", "c", "d"]) {
          yield* put(tree, name, pattern(60))
          yield* tree.remove(name)
        }
        assert.deepStrictEqual((yield* tree.trash).map(({ path }) => path).sort(), ["/a", "/d"])
        assert.strictEqual(yield* reason(tree.emptyTrash()), "Busy")
        assert.deepStrictEqual(
          (yield* tree.trash).map(({ path }) => path),
          ["/a"]
        )
      }).pipe(Effect.ensuring(Effect.sync(() => execFileSync("umount", [trashOf(at, thing)]))))
      assert.strictEqual(yield* tree.emptyTrash(), 1)
    })
  )

  it.effect.skipIf(!(linux && root))("what the trash cannot take costs nothing of what is in it", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at, { trashBytes: 100 })
      yield* put(tree, "old", pattern(60))
      yield* tree.remove("old")
      yield* tree.mkdir("mounted")
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", Path.join(at, "mounted")])
      yield* Effect.gen(function* () {
        yield* put(tree, "mounted/f", pattern(90))
        const error = yield* Effect.flip(tree.remove("mounted/f"))
        assert.deepStrictEqual([error.reason, /remove it for ever/.test(error.message)], ["Unsupported", true])
        assert.deepStrictEqual(
          (yield* tree.trash).map(({ path }) => path),
          ["/old"]
        )
        assert.deepStrictEqual(raw(at).filter((name) => name.endsWith(".json")).length, 1)
      }).pipe(Effect.ensuring(Effect.sync(() => execFileSync("umount", [Path.join(at, "mounted")]))))
    })
  )

  it.effect("walks below paths that are longer than any that can be asked for", () =>
    Effect.gen(function* () {
      const at = base()
      const name = "n".repeat(250)
      const depth = 20
      // No call takes such a path: it grows from below.
      Fs.mkdirSync(Path.join(at, "top"))
      const before = process.cwd()
      process.chdir(Path.join(at, "top"))
      for (let i = 0; i < depth; i++) {
        Fs.mkdirSync(name)
        process.chdir(name)
      }
      for (let i = 0; i < 3; i++) Fs.writeFileSync(`f${i}`, "x")
      process.chdir(before)
      const tree = yield* make(at)
      const found: Array<string> = []
      let cursor: string | undefined
      do {
        const page = yield* tree.walk("", { limit: 1, ...(cursor === undefined ? {} : { cursor }) })
        found.push(...page.entries.map(({ path }) => path))
        cursor = page.cursor
      } while (cursor !== undefined)
      assert.strictEqual(found.length, 1 + depth + 3)
      yield* tree.remove("top", { recursive: true, forever: true })
    })
  )

  it.effect.skipIf(!linux)("names that go while they are listed leave no page empty but the last", () =>
    Effect.gen(function* () {
      // Whoever reads this folder is in it, and gone when it is looked at.
      const tree = yield* make("/proc/self/fd", { readOnly: true })
      const names: Array<string> = []
      let cursor: string | undefined
      do {
        const page = yield* tree.list("", { limit: 1, ...(cursor === undefined ? {} : { cursor }) })
        names.push(...page.entries.map(({ name }) => name))
        cursor = page.cursor
        if (cursor !== undefined) assert.strictEqual(page.entries.at(-1)?.name, cursor)
      } while (cursor !== undefined)
      assert.includeMembers(names, ["0", "1", "2"])
    })
  )

  it.effect.skipIf(!linux)("a copy of a folder says what it could not name", () =>
    Effect.gen(function* () {
      const at = base()
      Fs.mkdirSync(Path.join(at, "a"))
      Fs.writeFileSync(Path.join(at, "a/f"), "x")
      Fs.writeFileSync(Buffer.from(`${at}/a/bad\u00ff`, "latin1"), "x")
      const tree = yield* make(at)
      const error = yield* Effect.flip(tree.copy("a", "b"))
      assert.deepStrictEqual([error.reason, /not 1 of what/.test(error.message)], ["Unsupported", true])
      assert.strictEqual(hex(yield* get(tree, "b/f")), hex(bytesOf("x")))
    })
  )

  it.effect.skipIf(!linux)("files of the kernel, which have content and no length, are refused rather than empty", () =>
    Effect.gen(function* () {
      const tree = yield* make("/proc/self", { readOnly: true })
      const [small] = yield* tree.readSmall(["status"], 1000)
      assert.strictEqual(small !== undefined && Result.isFailure(small) ? small.failure.reason : "none", "Unsupported")
      assert.strictEqual(yield* reason(tree.open("status")), "Unsupported")
    })
  )

  it.effect("pages of a long folder share what was read of it, and see what changes between them", () =>
    Effect.gen(function* () {
      const at = base()
      const names = Array.from({ length: 3500 }, (_, i) => `n${String(i).padStart(4, "0")}`)
      for (const name of names) Fs.writeFileSync(Path.join(at, name), "")
      const tree = yield* make(at)
      const pages = [
        (cursor: string | undefined) => tree.list("/", cursor === undefined ? {} : { cursor }),
        (cursor: string | undefined) => tree.walk("/", cursor === undefined ? {} : { cursor })
      ]
      for (const page of pages) {
        const seen: Array<string> = []
        let cursor: string | undefined
        for (let i = 0; i === 0 || cursor !== undefined; i++) {
          const { entries, cursor: next } = yield* page(cursor)
          seen.push(...entries.map((entry) => ("name" in entry ? entry.name : entry.path)))
          cursor = next
          if (i === 2) {
            Fs.rmSync(Path.join(at, "n3400"))
            Fs.writeFileSync(Path.join(at, "z"), "")
          }
        }
        assert.deepStrictEqual(seen, [...names.filter((name) => name !== "n3400"), "z"])
        Fs.rmSync(Path.join(at, "z"))
        Fs.writeFileSync(Path.join(at, "n3400"), "")
      }
    })
  )
})
