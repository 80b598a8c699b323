/** What the tree on the disk does that no tree in memory can. */
import { execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import * as Placing from "../../src/layers/Placing.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import { bytesOf, get, hashes, hex, put, reason } from "../services/FileTreeContract.ts"
import { pattern } from "../services/Pattern.ts"

const posix = process.platform !== "win32"
const linux = process.platform === "linux"

let box = ""
let bases = 0
beforeAll(() => {
  box = Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-disk-"))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

const base = (): string => {
  const path = Path.join(box, `base${bases++}`)
  Fs.mkdirSync(path)
  return path
}
const make = (at: string, options: Partial<RemoteFilesNode.Options> = {}) =>
  RemoteFilesNode.make({ base: at, ...options })
/** Everything in a folder, the store's own names too. */
const raw = (at: string): ReadonlyArray<string> =>
  Fs.readdirSync(at, { recursive: true, encoding: "utf8" }).filter((name) => name !== ".clawchat-trash")

describe.skipIf(!posix)("FileTree on the disk", () => {
  it.effect("makes folders as the umask says, so that a group that shares the base can write into them", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at)
      const before = process.umask(0o007)
      yield* Effect.gen(function* () {
        yield* tree.mkdir("a")
        yield* tree.mkdir("b/c", { parents: true })
        yield* put(tree, "d/e", bytesOf("x"), { parents: true })
        yield* tree.writeSmall([{ path: "f/g", bytes: bytesOf("x"), parents: true }])
      }).pipe(Effect.ensuring(Effect.sync(() => process.umask(before))))
      for (const name of ["a", "b", "b/c", "d", "f"]) {
        assert.strictEqual(Fs.statSync(Path.join(at, name)).mode & 0o777, 0o770, name)
      }
    })
  )

  it.effect("leaves no temporary files behind: after commits, aborts, failures, closed scopes", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at)
      const bytes = pattern(3 * BLOCK_LENGTH)
      yield* put(tree, "f", bytes, { fingerprint: "x" })
      yield* reason(put(tree, "f", bytes, { fingerprint: "y", conflict: "fail" }))
      yield* reason(put(tree, "g", bytes, { size: 7 }))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const writer = yield* tree.write("h", { size: 10 * BLOCK_LENGTH, fingerprint: "x" })
          yield* writer.append(bytes)
          yield* writer.abort
        })
      )
      yield* Effect.scoped(
        Effect.flatMap(tree.write("i", { size: 10 * BLOCK_LENGTH }), (writer) => writer.append(bytes))
      )
      yield* tree.writeSmall([{ path: "f", bytes: bytesOf("x") }])
      assert.deepStrictEqual(raw(at), ["f"])
      assert.strictEqual(Fs.statSync(Path.join(at, "f")).mode & 0o777, 0o644)
    })
  )

  it.effect("goes on after a restart, and reads again what no fsync has confirmed", () =>
    Effect.gen(function* () {
      const at = base()
      const bytes = pattern(6 * BLOCK_LENGTH + 5)
      const options = { size: bytes.length, fingerprint: "x" }
      const begin = (upTo: number) =>
        Effect.scoped(
          Effect.gen(function* () {
            const tree = yield* make(at)
            const writer = yield* tree.write("f", options)
            const { resumed } = writer
            yield* writer.append(bytes.slice(resumed, upTo))
            return resumed
          })
        )
      assert.strictEqual(yield* begin(4 * BLOCK_LENGTH + 1), 0)
      assert.strictEqual(yield* begin(5 * BLOCK_LENGTH), 4 * BLOCK_LENGTH)
      // As a power failure leaves it: the last sync is not in the sums, and a block never reached the disk.
      const names = raw(at)
      assert.strictEqual(names.length, 2)
      const part = names.find((name) => !name.endsWith(".sums")) ?? ""
      const sums = Path.join(at, `${part}.sums`)
      const records = Fs.readFileSync(sums)
      const blocks = Buffer.concat(
        Array.from({ length: records.length / 33 }, (_, i) => records.subarray(i * 33, i * 33 + 33)).filter(
          (record) => record[0] === 0x42
        )
      )
      Fs.writeFileSync(sums, blocks)
      Fs.truncateSync(Path.join(at, part), 3 * BLOCK_LENGTH - 10)
      assert.strictEqual(yield* begin(0), 2 * BLOCK_LENGTH)
      // A torn record, and nonsense, end the list.
      const next = raw(at).find((name) => name.endsWith(".sums")) ?? ""
      Fs.writeFileSync(Path.join(at, next), Buffer.concat([blocks.subarray(0, 40), Buffer.alloc(100, 7)]))
      assert.strictEqual(yield* begin(0), BLOCK_LENGTH)
      const tree = yield* make(at)
      yield* put(tree, "f", bytes, options)
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
      assert.deepStrictEqual(raw(at), ["f"])
    })
  )

  it.effect("a newer write of the same content takes over from one that hangs", () =>
    Effect.gen(function* () {
      const tree = yield* make(base())
      const bytes = pattern(4 * BLOCK_LENGTH)
      const options = { size: bytes.length, fingerprint: "x" }
      const old = yield* tree.write("f", options)
      yield* old.append(bytes.slice(0, 2 * BLOCK_LENGTH + 9))
      const next = yield* tree.write("f", options)
      assert.strictEqual(next.resumed, 2 * BLOCK_LENGTH)
      assert.strictEqual(yield* reason(old.append(bytes.slice(0, 5))), "Changed")
      yield* next.append(bytes.slice(next.resumed))
      yield* next.commit
      assert.strictEqual(hex(next.blocks()), hashes(bytes))
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
    })
  )

  it.effect("writers that end in the middle of an append end after it", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at)
      const bytes = pattern(4 * BLOCK_LENGTH)
      const fiber = yield* Effect.forkChild(put(tree, "f", bytes, { fingerprint: "x", piece: bytes.length }))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      yield* put(tree, "f", bytes, { fingerprint: "x" })
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
      assert.deepStrictEqual(raw(at), ["f"])
    })
  )

  it.effect("a source that changes while it is read is noticed", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at)
      yield* put(tree, "f", pattern(1000))
      const reader = yield* tree.open("f")
      yield* reader.readAt(0, 500)
      yield* reader.unchanged
      Fs.appendFileSync(Path.join(at, "f"), "x")
      assert.strictEqual(yield* reason(reader.unchanged), "Changed")
      const other = yield* tree.open("f")
      Fs.writeFileSync(Path.join(at, "f"), "")
      assert.strictEqual(yield* reason(other.readAt(0, 10)), "Changed")
    })
  )

  it.effect("never opens links, FIFOs, sockets and devices, and writes through no link", () =>
    Effect.gen(function* () {
      const above = base()
      const at = Path.join(above, "home")
      Fs.mkdirSync(Path.join(above, "outside"))
      Fs.mkdirSync(at)
      Fs.writeFileSync(Path.join(above, "outside/canary"), "canary")
      Fs.symlinkSync("../outside", Path.join(at, "folder"))
      Fs.symlinkSync("../outside/canary", Path.join(at, "file"))
      Fs.symlinkSync("/dev/zero", Path.join(at, "device"))
      execFileSync("mkfifo", [Path.join(at, "fifo")])
      const tree = yield* make(at)
      for (const name of ["file", "folder", "device", "fifo"]) {
        assert.strictEqual(yield* reason(tree.open(name)), "NotAFile")
        const reads = yield* tree.readSmall([name, `${name}/canary`], 100)
        assert.deepStrictEqual(
          reads.map((read) => (Result.isFailure(read) ? read.failure.reason : read.success)),
          ["NotAFile", "NotAFolder"]
        )
        assert.strictEqual(yield* reason(put(tree, name, bytesOf("x"), { conflict: "replace" })), "NotAFile")
        assert.strictEqual(yield* reason(tree.copy(name, "c")), "NotAFile")
        const to = { version: "0".repeat(32), mtimeMs: 1000, mode: 0o777 }
        assert.strictEqual(yield* reason(tree.touch(name, to)), "NotAFile")
        assert.strictEqual(yield* reason(tree.touch(`${name}/canary`, to)), "NotAFolder")
        assert.strictEqual(yield* reason(tree.open(`${name}/canary`)), "NotAFolder")
        assert.strictEqual(yield* reason(put(tree, `${name}/x`, bytesOf("x"), { parents: true })), "NotAFolder")
        assert.strictEqual(yield* reason(tree.mkdir(`${name}/x/y`, { parents: true })), "NotAFolder")
        assert.strictEqual(yield* reason(tree.remove(`${name}/canary`, { forever: true })), "NotAFolder")
        assert.strictEqual(yield* reason(tree.move(`${name}/canary`, "stolen")), "NotAFolder")
      }
      assert.strictEqual((yield* tree.walk("")).entries.length, 4)
      assert.deepStrictEqual({ ...(yield* tree.usage("")) }, { bytes: 0, files: 0, folders: 0, others: 4, unread: 0 })
      // As themselves they may be moved and removed, also with the folder around them.
      yield* tree.mkdir("d")
      for (const name of ["file", "folder", "fifo"]) yield* tree.move(name, `d/${name}`)
      yield* tree.copy("d", "e")
      assert.deepStrictEqual((yield* tree.list("e")).entries, [])
      yield* tree.remove("d", { recursive: true, forever: true })
      yield* tree.remove("device")
      yield* tree.emptyTrash()
      assert.deepStrictEqual(raw(at), ["e"])
      assert.strictEqual(Fs.readFileSync(Path.join(above, "outside/canary"), "utf8"), "canary")
    })
  )

  it.effect("a trash that is a link is not used", () =>
    Effect.gen(function* () {
      const above = base()
      const at = Path.join(above, "home")
      Fs.mkdirSync(Path.join(above, "outside"))
      Fs.mkdirSync(at)
      Fs.symlinkSync("../outside", Path.join(at, ".clawchat-trash"))
      const tree = yield* make(at)
      yield* put(tree, "f", bytesOf("x"))
      assert.strictEqual(yield* reason(tree.remove("f")), "NotAFolder")
      assert.deepStrictEqual(Fs.readdirSync(Path.join(above, "outside")), [])
      assert.strictEqual((yield* tree.stat("f")).kind, "file")
    })
  )

  it.effect("read-only refuses every change and reads on", () =>
    Effect.gen(function* () {
      const at = base()
      Fs.writeFileSync(Path.join(at, "f"), "x")
      const tree = yield* make(at, { readOnly: true })
      const changes = [
        put(tree, "g", bytesOf("x")),
        tree.mkdir("d"),
        tree.remove("f"),
        tree.move("f", "g"),
        tree.copy("f", "g"),
        tree.touch("f", { version: (yield* tree.stat("f")).version ?? "", mtimeMs: 1000, mode: 0o777 }),
        tree.restore("000000000000-00000000"),
        tree.emptyTrash()
      ]
      for (const change of changes) assert.strictEqual(yield* reason(Effect.asVoid(change)), "ReadOnly")
      const [small] = yield* tree.writeSmall([{ path: "g", bytes: bytesOf("x") }])
      assert.isTrue(small !== undefined && Result.isFailure(small) && small.failure.reason === "ReadOnly")
      assert.strictEqual((yield* get(tree, "f")).length, 1)
      assert.deepStrictEqual(raw(at), ["f"])
    })
  )

  it.effect("keeps the quota of bytes and files, open writers included", () =>
    Effect.gen(function* () {
      const at = base()
      Fs.writeFileSync(Path.join(at, "old"), pattern(400_000))
      const tree = yield* make(at, { quotaBytes: 1_000_000, quotaFiles: 3 })
      assert.strictEqual(yield* tree.free, 600_000)
      assert.strictEqual(yield* reason(put(tree, "a", pattern(600_001))), "Quota")
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* tree.write("b", { size: 500_000 })
          assert.strictEqual(yield* reason(put(tree, "c", pattern(200_000))), "Quota")
        })
      )
      yield* put(tree, "c", pattern(200_000))
      // Without a size it is noticed on the way.
      assert.strictEqual(
        yield* reason(
          Effect.scoped(
            Effect.gen(function* () {
              const writer = yield* tree.write("d", { size: undefined })
              for (let i = 0; i < 10; i++) yield* writer.append(pattern(100_000))
            })
          )
        ),
        "Quota"
      )
      const outcomes = yield* tree.writeSmall([
        { path: "s1", bytes: bytesOf("1") },
        { path: "s2", bytes: bytesOf("2") }
      ])
      assert.deepStrictEqual(outcomes.map(Result.isSuccess), [true, false])
      assert.strictEqual(yield* reason(put(tree, "e", bytesOf("x"))), "Quota")
      yield* put(tree, "s1", bytesOf("again"), { conflict: "replace" })
      yield* tree.remove("old")
      assert.strictEqual(yield* tree.free, 1_000_000 - 200_005)
      yield* put(tree, "e", pattern(700_000))
      assert.strictEqual(yield* reason(tree.restore((yield* tree.trash)[0]?.id ?? "")), "succeeded")
      assert.deepStrictEqual(
        raw(at).filter((name) => name.includes("part")),
        []
      )
    })
  )

  it.effect("counts what broken writes leave, also after a restart", () =>
    Effect.gen(function* () {
      const at = base()
      const options = { quotaBytes: 6 * BLOCK_LENGTH }
      const tree = yield* make(at, options)
      const broken = (path: string, blocks: number) =>
        Effect.scoped(
          Effect.flatMap(tree.write(path, { size: 4 * BLOCK_LENGTH, fingerprint: "x" }), (writer) =>
            writer.append(pattern(blocks * BLOCK_LENGTH))
          )
        )
      yield* broken("a", 2)
      assert.strictEqual(yield* tree.free, 4 * BLOCK_LENGTH)
      yield* broken("b", 1)
      assert.strictEqual(yield* reason(broken("c", 1)), "Quota")
      // Going on with `b` needs more than is left: it stays as it is, and counted.
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* tree.write("d", { size: BLOCK_LENGTH })
          assert.strictEqual(yield* reason(broken("b", 1)), "Quota")
          assert.strictEqual(yield* tree.free, 2 * BLOCK_LENGTH)
        })
      )
      const again = yield* make(at, options)
      // Beside the blocks lie their hashes.
      assert.strictEqual(yield* again.free, 3 * BLOCK_LENGTH - 5 * 33)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const writer = yield* tree.write("a", { size: 4 * BLOCK_LENGTH, fingerprint: "x" })
          assert.strictEqual(yield* tree.free, 6 * BLOCK_LENGTH - 4 * BLOCK_LENGTH - BLOCK_LENGTH)
          yield* writer.append(pattern(2 * BLOCK_LENGTH))
          yield* writer.commit
        })
      )
      assert.strictEqual(yield* tree.free, BLOCK_LENGTH)
    })
  )

  it("knows the names that a folding system takes for one", () => {
    const names = ["README", "stra\u00dfe", "\u00e9t\u00e9", "x"]
    for (const [name, twin] of [
      ["README", undefined],
      ["readme", "README"],
      ["e\u0301te\u0301", "\u00e9t\u00e9"],
      ["\u00c9T\u00c9", "\u00e9t\u00e9"],
      ["y", undefined]
    ] as const)
      assert.strictEqual(Placing.twin(names, name), twin, name)
  })

  it.effect("a count that nobody waits for any more ends", () =>
    Effect.gen(function* () {
      const at = base()
      for (let i = 0; i < 300; i++) Fs.writeFileSync(Path.join(at, `f${i}`), "")
      const tree = yield* make(at)
      const counts = yield* Effect.forEach([1, 2, 3, 4, 5, 6], () => Effect.forkChild(tree.usage("")))
      yield* Effect.yieldNow
      yield* Effect.forEach(counts, Fiber.interrupt)
      assert.strictEqual((yield* tree.usage("")).files, 300)
    })
  )

  it.effect("bounds what is open at once", () =>
    Effect.gen(function* () {
      const tree = yield* make(base(), { maxOpen: 2 })
      yield* put(tree, "f", bytesOf("x"))
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* tree.open("f")
          yield* tree.write("g", { size: 1 })
          assert.strictEqual(yield* reason(tree.open("f")), "Busy")
          assert.strictEqual(yield* reason(tree.write("h", { size: 1 })), "Busy")
        })
      )
      assert.strictEqual((yield* get(tree, "f")).length, 1)
    })
  )

  it.effect("sweeps old parts, old trash, and what is too much of it", () =>
    Effect.gen(function* () {
      const at = base()
      const tree = yield* make(at, { trashBytes: 100 })
      yield* tree.mkdir("d")
      const keep = Effect.scoped(
        Effect.flatMap(tree.write("d/f", { size: 4 * BLOCK_LENGTH, fingerprint: "x" }), (writer) =>
          writer.append(pattern(2 * BLOCK_LENGTH))
        )
      )
      yield* keep
      yield* tree.sweep
      assert.strictEqual(raw(at).length, 3)
      for (const path of ["1", "2", "3"]) {
        yield* put(tree, path, pattern(40))
        yield* tree.remove(path)
      }
      assert.deepStrictEqual(
        (yield* tree.trash).map(({ path }) => path),
        ["/2", "/3"]
      )
      yield* put(tree, "big", pattern(101))
      assert.strictEqual(yield* reason(tree.remove("big")), "Unsupported")
      yield* tree.remove("big", { forever: true })
      // A note without its thing is nothing.
      Fs.writeFileSync(Path.join(at, ".clawchat-trash/000000000001-00000000.json"), "{}")
      yield* tree.sweep
      assert.strictEqual(Fs.readdirSync(Path.join(at, ".clawchat-trash")).length, 4)
      const soon = yield* make(at, { trashMs: -1 })
      yield* soon.sweep
      assert.deepStrictEqual(yield* soon.trash, [])
      assert.deepStrictEqual(Fs.readdirSync(Path.join(at, ".clawchat-trash")), [])
    })
  )

  it.effect.skipIf(!linux)("removes trees with names that no path can say", () =>
    Effect.gen(function* () {
      const at = base()
      Fs.mkdirSync(Path.join(at, "d/e"), { recursive: true })
      Fs.writeFileSync(Buffer.from(`${at}/d/e/bad\u00ff`, "latin1"), "x")
      Fs.writeFileSync(`${at}/d/new\nline`, "x")
      const tree = yield* make(at)
      assert.deepStrictEqual({ ...(yield* tree.usage("")) }, { bytes: 2, files: 2, folders: 2, others: 0, unread: 0 })
      yield* tree.remove("d", { recursive: true, forever: true })
      assert.deepStrictEqual(raw(at), [])
    })
  )

  const root = process.getuid?.() === 0
  it.effect.skipIf(!(linux && root))(
    `a full disk: a clear error, the old content, nothing left over${root ? "" : " (skipped: mounting needs root)"}`,
    () =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          const at = base()
          execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", at])
          return at
        }),
        (at) =>
          Effect.gen(function* () {
            const tree = yield* make(at)
            yield* put(tree, "f", pattern(1_000_000))
            const full = pattern(4_000_000, 7)
            assert.strictEqual(yield* reason(put(tree, "f", full, { conflict: "replace" })), "NoSpace")
            // Without a size the disk itself says it.
            const unknown = put(tree, "f", full, { conflict: "replace", size: undefined, fingerprint: "x" })
            const error = yield* Effect.flip(unknown)
            assert.deepStrictEqual([error.reason, error.message], ["NoSpace", '"/f": no space left on the disk'])
            const small = yield* tree.writeSmall(
              Array.from({ length: 40 }, (_, i) => ({ path: `s${i}`, bytes: pattern(100_000, i) }))
            )
            const failures = small.filter(Result.isFailure)
            assert.isAbove(failures.length, 5)
            assert.isTrue(failures.every(({ failure }) => failure.reason === "NoSpace"))
            assert.strictEqual(raw(at).length, 1 + 40 - failures.length)
            assert.strictEqual(hex(yield* get(tree, "f")), hex(pattern(1_000_000)))
          }),
        (at) => Effect.sync(() => execFileSync("umount", ["-l", at]))
      )
  )

  it.effect.skipIf(!(linux && root))(
    `a trash that cannot all be deleted: what stays is named, and the rest goes${root ? "" : " (skipped: mounting needs root)"}`,
    () => {
      const at = base()
      return Effect.gen(function* () {
        const tree = yield* make(at)
        yield* put(tree, "d/stuck/in/f", bytesOf("x"), { parents: true })
        yield* put(tree, "z", bytesOf("x"))
        // A folder that is a file system of its own cannot be deleted.
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", Path.join(at, "d/stuck/in")])
        yield* tree.remove("d/stuck", { recursive: true })
        yield* tree.remove("z")
        const error = yield* Effect.flip(tree.emptyTrash())
        assert.strictEqual(error.reason, "Busy")
        assert.strictEqual(error.message, '"/d/stuck": it is in use; what is left of it stays in the trash')
        assert.deepStrictEqual(
          (yield* tree.trash).map(({ path }) => path),
          ["/d/stuck"]
        )
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            const trash = Path.join(at, ".clawchat-trash")
            for (const name of Fs.readdirSync(trash).filter((name) => name.endsWith(".item")))
              execFileSync("umount", ["-l", Path.join(trash, name, "in")])
          })
        )
      )
    }
  )

  it.effect("killed at any moment: the old content or the new, and the next one goes on", () =>
    Effect.gen(function* () {
      const at = base()
      const old = pattern(10_000)
      const bytes = pattern(40 * BLOCK_LENGTH + 3, 9)
      Fs.writeFileSync(Path.join(at, "f"), old)
      let resumed = 0
      let replaced = 0
      for (let round = 0; round < 12; round++) {
        const child = spawn(process.execPath, [Path.join(import.meta.dirname, "FileTreeKilled.ts"), at], {
          stdio: ["ignore", "pipe", "inherit"]
        })
        // It says what it has written; which word it dies at is given, where exactly it then is differs.
        yield* Effect.promise(async () => {
          let said = 0
          for await (const chunk of child.stdout) {
            said += String(chunk).split("\n").length - 1
            if (said >= 1 + round * 4) child.kill("SIGKILL")
          }
          if (child.exitCode === null && child.signalCode === null)
            await new Promise((resolve) => child.once("exit", resolve))
        })
        const found = Fs.readFileSync(Path.join(at, "f"))
        if (found.equals(bytes)) {
          replaced++
          Fs.writeFileSync(Path.join(at, "f"), old)
        } else assert.isTrue(found.equals(old), `round ${round}: a mix`)
        yield* Effect.scoped(
          Effect.gen(function* () {
            const tree = yield* make(at)
            assert.deepStrictEqual(
              (yield* tree.list("")).entries.map(({ name }) => name),
              ["f"]
            )
            const writer = yield* tree.write("f", { size: bytes.length, fingerprint: "x", conflict: "replace" })
            assert.strictEqual(hex(writer.blocks()), hashes(bytes.subarray(0, writer.resumed)))
            resumed += writer.resumed
            if (round % 3 === 2) yield* writer.abort
          })
        )
      }
      assert.isAbove(resumed, 0)
      assert.isBelow(replaced, 12)
      const tree = yield* make(at)
      yield* put(tree, "f", bytes, { fingerprint: "x", conflict: "replace" })
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
    })
  )
})
