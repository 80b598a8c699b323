/** What every tree of files does when it is changed. Each test has a tree of its own, which begins empty. */
import { createHash } from "node:crypto"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { BLOCK_LENGTH, type FilesError } from "../../src/domain/RemoteFile.ts"
import type { FileTree, WriteOptions } from "../../src/services/FileTree.ts"
import { pattern } from "./Pattern.ts"

export const hashes = (bytes: Uint8Array): string => {
  const blocks: Array<Buffer> = []
  for (let at = 0; at < bytes.length; at += BLOCK_LENGTH)
    blocks.push(
      createHash("sha256")
        .update(bytes.subarray(at, at + BLOCK_LENGTH))
        .digest()
    )
  return Buffer.concat(blocks).toString("hex")
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex")
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8")
export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text)

export const reason = <A, R>(effect: Effect.Effect<A, FilesError, R>): Effect.Effect<string, never, R> =>
  Effect.match(effect, { onSuccess: () => "succeeded", onFailure: (error) => error.reason })

/** Writes a whole file. */
export const put = (
  tree: FileTree,
  path: string,
  bytes: Uint8Array,
  options: Omit<WriteOptions, "size"> & { readonly size?: number | undefined; readonly piece?: number } = {}
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const { piece = 100_000, ...rest } = options
      const writer = yield* tree.write(path, { size: bytes.length, ...rest })
      for (let at = writer.resumed; at < bytes.length; at += piece) yield* writer.append(bytes.slice(at, at + piece))
      return yield* writer.commit
    })
  )

export const get = (tree: FileTree, path: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const reader = yield* tree.open(path)
      const pieces: Array<Uint8Array> = []
      for (let at = 0; at < reader.size; ) {
        const bytes = yield* reader.readAt(at, 300_000)
        pieces.push(bytes)
        at += bytes.length
      }
      yield* reader.unchanged
      return new Uint8Array(Buffer.concat(pieces))
    })
  )

const namesOf = (tree: FileTree, path: string) =>
  Effect.map(tree.list(path), (page) => page.entries.map((entry) => entry.name))

export const suite = (fresh: () => Effect.Effect<FileTree, FilesError, Scope.Scope>): void => {
  const test = (name: string, body: (tree: FileTree) => Effect.Effect<void, FilesError, Scope.Scope>): void =>
    it.effect(name, () => Effect.flatMap(fresh(), body))

  test("writes and reads files of all lengths, with time and mode", (tree) =>
    Effect.gen(function* () {
      const lengths = [0, 1, 4096, BLOCK_LENGTH - 1, BLOCK_LENGTH, BLOCK_LENGTH + 1, 2 * BLOCK_LENGTH, 700_001]
      for (const length of lengths) {
        const bytes = pattern(length, length + 1)
        const stat = yield* put(tree, `f${length}`, bytes, { mtimeMs: 1_699_999_999_123, mode: 0o777 })
        assert.deepStrictEqual(
          [stat.path, stat.kind, stat.size, stat.mtimeMs, stat.mode],
          [`/f${length}`, "file", length, 1_699_999_999_123, 0o755]
        )
        assert.match(stat.version ?? "", /^[0-9a-f]{32}$/)
        assert.deepStrictEqual(yield* tree.stat(`f${length}`), stat)
        assert.strictEqual(hex(yield* get(tree, `f${length}`)), hex(bytes))
      }
      assert.strictEqual((yield* namesOf(tree, "")).length, lengths.length)
      assert.strictEqual((yield* put(tree, "closed", pattern(1), { mode: 0o4000 })).mode, 0o600)
    }))

  test("tells the hashes of the blocks it wrote", (tree) =>
    Effect.gen(function* () {
      for (const length of [0, 5, BLOCK_LENGTH, 3 * BLOCK_LENGTH + 7]) {
        const bytes = pattern(length)
        for (const size of [length, undefined]) {
          yield* Effect.scoped(
            Effect.gen(function* () {
              const writer = yield* tree.write("f", { size, conflict: "replace" })
              for (let at = 0; at < length; at += 99_999) yield* writer.append(bytes.slice(at, at + 99_999))
              assert.strictEqual(writer.length(), length)
              const { size: written } = yield* writer.commit
              assert.strictEqual(written, length)
              assert.strictEqual(hex(writer.blocks()), hashes(bytes))
            })
          )
        }
      }
    }))

  test("keeps zeros zeros", (tree) =>
    Effect.gen(function* () {
      const bytes = new Uint8Array(3_000_000)
      bytes.set(pattern(10_000), 1_200_000)
      yield* put(tree, "sparse", bytes)
      assert.strictEqual(hex(yield* get(tree, "sparse")), hex(bytes))
      yield* put(tree, "zeros", new Uint8Array(500_000), { piece: 65_536 })
      assert.strictEqual(hex(yield* get(tree, "zeros")), hex(new Uint8Array(500_000)))
    }))

  test("shows nothing before the commit, nothing after an abort, and nothing of what is its own", (tree) =>
    Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          const writer = yield* tree.write("f", { size: 3, fingerprint: "x" })
          yield* writer.append(bytesOf("abc"))
          assert.deepStrictEqual(yield* namesOf(tree, ""), [])
          assert.strictEqual(yield* reason(tree.stat("f")), "NotFound")
          yield* writer.abort
          assert.strictEqual(yield* reason(writer.commit), "Changed")
          assert.strictEqual(yield* reason(writer.append(bytesOf("d"))), "Changed")
        })
      )
      yield* put(tree, "g", bytesOf("g"))
      yield* tree.remove("g")
      assert.deepStrictEqual((yield* tree.list("")).entries, [])
      assert.strictEqual((yield* tree.list("")).unnamed, 0)
      assert.deepStrictEqual((yield* tree.walk("")).entries, [])
      for (const path of [".clawchat-trash", ".ClawChat-part-x", "a/.clawchat-x/b"]) {
        assert.strictEqual(yield* reason(tree.stat(path)), "BadName")
        assert.strictEqual(yield* reason(tree.mkdir(path)), "BadName")
        assert.strictEqual(yield* reason(tree.open(path)), "BadName")
      }
    }))

  test("takes neither more nor less than was announced", (tree) =>
    Effect.gen(function* () {
      const writer = yield* tree.write("f", { size: 3 })
      yield* writer.append(bytesOf("ab"))
      assert.strictEqual(yield* reason(writer.append(bytesOf("cd"))), "Changed")
      const short = yield* tree.write("f", { size: 3 })
      yield* short.append(bytesOf("ab"))
      assert.strictEqual(yield* reason(short.commit), "Changed")
      assert.deepStrictEqual(yield* namesOf(tree, ""), [])
    }))

  test("follows the rule where a name is taken", (tree) =>
    Effect.gen(function* () {
      const old = yield* put(tree, "a.txt", bytesOf("old"))
      assert.strictEqual(yield* reason(put(tree, "a.txt", bytesOf("new"))), "Exists")
      assert.strictEqual((yield* put(tree, "a.txt", bytesOf("2"), { conflict: "rename" })).path, "/a (2).txt")
      assert.strictEqual((yield* put(tree, "a.txt", bytesOf("3"), { conflict: "rename" })).path, "/a (3).txt")
      assert.strictEqual((yield* put(tree, "b", bytesOf("b"), { conflict: "rename" })).path, "/b")
      assert.strictEqual(text(yield* get(tree, "a.txt")), "old")
      const version = old.version ?? ""
      const next = yield* put(tree, "a.txt", bytesOf("next"), { conflict: { version } })
      assert.notStrictEqual(next.version, version)
      assert.strictEqual(yield* reason(put(tree, "a.txt", bytesOf("late"), { conflict: { version } })), "Changed")
      assert.strictEqual(yield* reason(put(tree, "none", bytesOf("late"), { conflict: { version } })), "Changed")
      assert.strictEqual(text(yield* get(tree, "a.txt")), "next")
      yield* put(tree, "a.txt", bytesOf("last"), { conflict: "replace" })
      assert.strictEqual(text(yield* get(tree, "a.txt")), "last")
      yield* tree.mkdir("folder")
      assert.strictEqual(yield* reason(put(tree, "folder", bytesOf("x"), { conflict: "replace" })), "NotAFile")
      assert.strictEqual(yield* reason(put(tree, "", bytesOf("x"), { conflict: "replace" })), "Exists")
    }))

  test("the rule is kept in the end, too: of two writers the first to commit has the name", (tree) =>
    Effect.gen(function* () {
      const slow = yield* tree.write("f", { size: 4 })
      yield* slow.append(bytesOf("slow"))
      yield* put(tree, "f", bytesOf("quick"))
      assert.strictEqual(yield* reason(slow.commit), "Exists")
      assert.strictEqual(text(yield* get(tree, "f")), "quick")
      assert.deepStrictEqual(yield* namesOf(tree, ""), ["f"])
    }))

  test("goes on with a broken write of the same content only", (tree) =>
    Effect.gen(function* () {
      const bytes = pattern(5 * BLOCK_LENGTH + 100)
      const broken = (fingerprint: string | undefined, length: number) =>
        Effect.scoped(
          Effect.gen(function* () {
            const options = { size: bytes.length, conflict: "replace" as const }
            const writer = yield* tree.write("f", fingerprint === undefined ? options : { ...options, fingerprint })
            const { resumed } = writer
            yield* writer.append(bytes.slice(resumed, Math.max(resumed, length)))
            return resumed
          })
        )
      assert.strictEqual(yield* broken(undefined, 3 * BLOCK_LENGTH), 0)
      assert.strictEqual(yield* broken("one", 3 * BLOCK_LENGTH + 50), 0)
      assert.strictEqual(yield* broken("two", 0), 0)
      assert.strictEqual(yield* broken("one", 0), 3 * BLOCK_LENGTH)
      assert.strictEqual(yield* broken("one", 4 * BLOCK_LENGTH), 3 * BLOCK_LENGTH)
      yield* Effect.scoped(
        Effect.gen(function* () {
          const writer = yield* tree.write("f", { size: bytes.length, fingerprint: "one" })
          assert.strictEqual(writer.resumed, 4 * BLOCK_LENGTH)
          assert.strictEqual(hex(writer.blocks()), hashes(bytes.subarray(0, 4 * BLOCK_LENGTH)))
          yield* writer.append(bytes.slice(writer.resumed))
          yield* writer.commit
          assert.strictEqual(hex(writer.blocks()), hashes(bytes))
        })
      )
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
      assert.strictEqual(yield* broken("one", 0), 0)
    }))

  test("what could not be committed is not lost", (tree) =>
    Effect.gen(function* () {
      const bytes = pattern(2 * BLOCK_LENGTH + 9)
      const writer = yield* tree.write("f", { size: bytes.length, fingerprint: "x" })
      yield* writer.append(bytes.slice())
      yield* put(tree, "f", bytesOf("first"))
      assert.strictEqual(yield* reason(writer.commit), "Exists")
      const again = yield* tree.write("f", { size: bytes.length, fingerprint: "x", conflict: "replace" })
      assert.strictEqual(again.resumed, 2 * BLOCK_LENGTH)
      yield* again.append(bytes.slice(again.resumed))
      yield* again.commit
      assert.strictEqual(hex(yield* get(tree, "f")), hex(bytes))
    }))

  test("writes many small files, each with an outcome of its own", (tree) =>
    Effect.gen(function* () {
      yield* tree.mkdir("d")
      const outcomes = yield* tree.writeSmall([
        { path: "d/one", bytes: bytesOf("1"), mtimeMs: 5000, mode: 0o640 },
        { path: "two", bytes: new Uint8Array(0) },
        { path: "../three", bytes: bytesOf("3") },
        { path: "new/deep/four", bytes: bytesOf("4"), parents: true },
        { path: "missing/five", bytes: bytesOf("5") },
        { path: "d/one", bytes: bytesOf("6") },
        { path: "d", bytes: bytesOf("7"), conflict: "replace" }
      ])
      assert.deepStrictEqual(
        outcomes.map((outcome) =>
          Result.match(outcome, {
            onSuccess: ({ mode, path, size }) => `${path} ${size} ${mode.toString(8)}`,
            onFailure: (error) => error.reason
          })
        ),
        ["/d/one 1 640", "/two 0 644", "BadName", "/new/deep/four 1 644", "NotFound", "Exists", "NotAFile"]
      )
      assert.strictEqual(text(yield* get(tree, "d/one")), "1")
      assert.strictEqual((yield* tree.stat("d/one")).mtimeMs, 5000)
      assert.strictEqual((yield* tree.usage("")).files, 3)
    }))

  test("reads many small files, each with an outcome of its own", (tree) =>
    Effect.gen(function* () {
      const bytes = pattern(2 * BLOCK_LENGTH)
      yield* put(tree, "d/one", bytes.slice(0, 70_000), { parents: true, mtimeMs: 5000, mode: 0o640 })
      yield* put(tree, "d/empty", new Uint8Array(0))
      yield* put(tree, "d/e/two", bytesOf("2"), { parents: true })
      yield* put(tree, "long", bytes)
      const said = (outcomes: Effect.Success<ReturnType<FileTree["readSmall"]>>) =>
        outcomes.map((outcome) =>
          Result.match(outcome, {
            onSuccess: ({ bytes, path, size }) => `${path} ${size} ${bytes?.length}`,
            onFailure: (error) => error.reason
          })
        )
      const paths = ["d/e/two", "/d/one", "none", "d/one/x", "d", "", "../d/one", "d/empty", "long", "d/one", "no/ne"]
      const outcomes = yield* tree.readSmall(paths, 70_000)
      assert.deepStrictEqual(said(outcomes), [
        "/d/e/two 1 1",
        "/d/one 70000 70000",
        "NotFound",
        "NotAFolder",
        "NotAFile",
        "NotAFile",
        "BadName",
        "/d/empty 0 0",
        `/long ${bytes.length} undefined`,
        "/d/one 70000 70000",
        "NotFound"
      ])
      for (const at of [1, 9]) {
        const one = yield* Effect.fromResult(outcomes[at] as (typeof outcomes)[number])
        const { mode, mtimeMs, version } = yield* tree.stat("d/one")
        assert.deepStrictEqual([one.mode, one.mtimeMs, one.version], [mode, mtimeMs, version])
        assert.strictEqual(hex(one.bytes ?? new Uint8Array(0)), hex(bytes.subarray(0, 70_000)))
        // The bytes are the caller's: nobody else has them.
        one.bytes?.fill(0)
      }
      assert.strictEqual(hex(yield* get(tree, "d/one")), hex(bytes.subarray(0, 70_000)))
      assert.deepStrictEqual(said(yield* tree.readSmall(["d/one", "d/e/two", "d/empty"], 0)), [
        "/d/one 70000 undefined",
        "/d/e/two 1 undefined",
        "/d/empty 0 0"
      ])
      assert.deepStrictEqual(yield* tree.readSmall([], 10), [])
    }))

  test("reads only files, and only what is there", (tree) =>
    Effect.gen(function* () {
      yield* put(tree, "f", bytesOf("hello"))
      yield* tree.mkdir("d")
      const reader = yield* tree.open("f")
      assert.deepStrictEqual([reader.path, reader.size, reader.mode], ["/f", 5, 0o644])
      assert.strictEqual(reader.version, (yield* tree.stat("f")).version)
      assert.strictEqual(text(yield* reader.readAt(1, 3)), "ell")
      assert.strictEqual(text(yield* reader.readAt(3, 1e9)), "lo")
      assert.strictEqual((yield* reader.readAt(5, 10)).length, 0)
      assert.strictEqual((yield* reader.readAt(50, 10)).length, 0)
      for (const path of ["d", "", "f/x", "none"])
        assert.strictEqual(
          yield* reason(tree.open(path)),
          path === "none" ? "NotFound" : path === "f/x" ? "NotAFolder" : "NotAFile"
        )
      // What is open stays what it was.
      yield* put(tree, "f", bytesOf("other"), { conflict: "replace" })
      assert.strictEqual(text(yield* reader.readAt(0, 5)), "hello")
      yield* reader.unchanged
    }))

  test("gives a file another time and mode, if it is the one that is meant", (tree) =>
    Effect.gen(function* () {
      const old = yield* put(tree, "d/f", bytesOf("abc"), { parents: true, mtimeMs: 5000, mode: 0o644 })
      const to = { version: old.version ?? "", mtimeMs: 1_699_999_999_123, mode: 0o4777 }
      const touched = yield* tree.touch("d/f", to)
      assert.deepStrictEqual(
        [touched.path, touched.kind, touched.size, touched.mtimeMs, touched.mode],
        ["/d/f", "file", 3, to.mtimeMs, 0o755]
      )
      assert.deepStrictEqual(yield* tree.stat("d/f"), touched)
      assert.strictEqual(text(yield* get(tree, "d/f")), "abc")
      // It is another version now, for whoever looked before.
      assert.notStrictEqual(touched.version, old.version)
      assert.strictEqual(yield* reason(tree.touch("d/f", to)), "Changed")
      const now = { ...to, version: touched.version ?? "" }
      assert.strictEqual((yield* tree.touch("d/f", { ...now, mode: 0 })).mode, 0o600)
      assert.strictEqual(yield* reason(tree.touch("none", now)), "NotFound")
      assert.strictEqual(yield* reason(tree.touch("d", now)), "NotAFile")
      assert.strictEqual(yield* reason(tree.touch("/", now)), "NotAFile")
      assert.strictEqual(yield* reason(tree.touch("d/f/g", now)), "NotAFolder")
    }))

  test("makes folders", (tree) =>
    Effect.gen(function* () {
      assert.strictEqual((yield* tree.mkdir("a")).kind, "folder")
      assert.strictEqual(yield* reason(tree.mkdir("a")), "Exists")
      assert.strictEqual(yield* reason(tree.mkdir("b/c")), "NotFound")
      assert.strictEqual((yield* tree.mkdir("b/c/d", { parents: true })).path, "/b/c/d")
      assert.strictEqual((yield* tree.mkdir("b/c/d", { parents: true })).path, "/b/c/d")
      yield* put(tree, "f", bytesOf("x"))
      assert.strictEqual(yield* reason(tree.mkdir("f", { parents: true })), "Exists")
      assert.strictEqual(yield* reason(tree.mkdir("f/g", { parents: true })), "NotAFolder")
      assert.strictEqual(yield* reason(tree.mkdir("")), "Exists")
      assert.strictEqual((yield* tree.mkdir("/", { parents: true })).path, "/")
      assert.strictEqual(yield* reason(tree.mkdir(`${"d/".repeat(100)}d`, { parents: true })), "BadName")
      yield* put(tree, "p/q/f", bytesOf("x"), { parents: true })
      assert.strictEqual(text(yield* get(tree, "p/q/f")), "x")
    }))

  test("moves files and folders, onto nothing unless told", (tree) =>
    Effect.gen(function* () {
      yield* put(tree, "a", bytesOf("a"))
      yield* put(tree, "b", bytesOf("b"))
      yield* tree.mkdir("d/e", { parents: true })
      yield* tree.mkdir("g")
      assert.strictEqual(yield* reason(tree.move("a", "b")), "Exists")
      assert.strictEqual((yield* tree.move("a", "b", { conflict: "rename" })).path, "/b (2)")
      assert.strictEqual((yield* tree.move("b (2)", "d/e/a")).path, "/d/e/a")
      yield* tree.move("b", "d/e/a", { conflict: "replace" })
      assert.strictEqual(text(yield* get(tree, "d/e/a")), "b")
      assert.strictEqual(yield* reason(tree.move("d", "d/e/x")), "Unsupported")
      for (const path of ["d", "d/e/a"]) {
        const same = yield* Effect.match(tree.move(path, path), {
          onSuccess: () => "moved",
          onFailure: ({ message, reason }) => `${reason} ${message}`
        })
        assert.strictEqual(same, `Exists "/${path}": it is there already`)
      }
      assert.strictEqual(yield* reason(tree.move("d", "g")), "Exists")
      assert.strictEqual(yield* reason(tree.move("d", "g", { conflict: "replace" })), "Exists")
      assert.strictEqual(yield* reason(tree.move("d/e/a", "g", { conflict: "replace" })), "NotAFile")
      assert.strictEqual(yield* reason(tree.move("d/e/a", "none/a")), "NotFound")
      assert.strictEqual(yield* reason(tree.move("none", "x")), "NotFound")
      yield* tree.move("d", "g/d")
      assert.strictEqual(text(yield* get(tree, "g/d/e/a")), "b")
      assert.deepStrictEqual(yield* namesOf(tree, ""), ["g"])
      yield* tree.move("g", "h", { conflict: "replace" })
      assert.deepStrictEqual(yield* namesOf(tree, ""), ["h"])
    }))

  test("copies files and folders", (tree) =>
    Effect.gen(function* () {
      yield* put(tree, "d/e/f", bytesOf("f"), { parents: true, mtimeMs: 7000, mode: 0o750 })
      yield* put(tree, "d/g", pattern(300_000))
      assert.strictEqual((yield* tree.copy("d", "c")).kind, "folder")
      const copied = yield* tree.stat("c/e/f")
      assert.deepStrictEqual([copied.mtimeMs, copied.mode], [7000, 0o750])
      assert.strictEqual(hex(yield* get(tree, "c/g")), hex(pattern(300_000)))
      assert.strictEqual(yield* reason(tree.copy("d", "c")), "Exists")
      assert.strictEqual(yield* reason(tree.copy("d", "d/e/x")), "Unsupported")
      assert.strictEqual(yield* reason(tree.copy("d/g", "c/g")), "Exists")
      assert.strictEqual((yield* tree.copy("d/g", "c/g", { conflict: "rename" })).path, "/c/g (2)")
      yield* put(tree, "d/g", bytesOf("changed"), { conflict: "replace" })
      assert.strictEqual((yield* tree.stat("c/g")).size, 300_000)
      assert.strictEqual(yield* reason(tree.copy("none", "x")), "NotFound")
    }))

  test("removes into the trash, restores, empties", (tree) =>
    Effect.gen(function* () {
      yield* put(tree, "d/f", bytesOf("ff"), { parents: true })
      yield* put(tree, "a", bytesOf("1"))
      assert.strictEqual(yield* reason(tree.remove("d")), "Exists")
      assert.strictEqual(yield* reason(tree.remove("")), "Exists")
      assert.strictEqual(yield* reason(tree.remove("none")), "NotFound")
      yield* tree.remove("a")
      yield* tree.remove("d", { recursive: true })
      assert.deepStrictEqual(yield* namesOf(tree, ""), [])
      const trash = [...(yield* tree.trash)].sort((a, b) => (a.path < b.path ? -1 : 1))
      assert.deepStrictEqual(
        trash.map(({ bytes, files, kind, path }) => [path, kind, bytes, files]),
        [
          ["/a", "file", 1, 1],
          ["/d", "folder", 2, 1]
        ]
      )
      const [a, d] = trash.map(({ id }) => id)
      yield* put(tree, "a", bytesOf("2"))
      assert.strictEqual(yield* reason(tree.restore(a ?? "")), "Exists")
      assert.strictEqual((yield* tree.restore(a ?? "", "new/b")).path, "/new/b")
      assert.strictEqual(text(yield* get(tree, "new/b")), "1")
      assert.strictEqual((yield* tree.restore(d ?? "")).path, "/d")
      assert.strictEqual(text(yield* get(tree, "d/f")), "ff")
      for (const id of [a ?? "", "../x", "", "nothing"]) assert.strictEqual(yield* reason(tree.restore(id)), "NotFound")
      yield* tree.remove("d", { recursive: true })
      yield* tree.remove("a")
      yield* tree.mkdir("gone/deep", { parents: true })
      yield* tree.remove("gone", { forever: true, recursive: true })
      assert.strictEqual((yield* tree.trash).length, 2)
      assert.strictEqual(yield* tree.emptyTrash((yield* tree.trash)[0]?.id), 1)
      assert.strictEqual(yield* tree.emptyTrash("nothing"), 0)
      assert.strictEqual(yield* tree.emptyTrash(), 1)
      assert.deepStrictEqual(yield* tree.trash, [])
    }))

  test("walks page by page, each once, folders before what they hold", (tree) =>
    Effect.gen(function* () {
      const files = ["a/b/c", "a/b.c/d", "a.b/x", "b", "a/z", "c/d/e/f"]
      for (const path of files) yield* put(tree, path, bytesOf(path), { parents: true })
      const all = ["a", "a/b", "a/b/c", "a/b.c", "a/b.c/d", "a/z", "a.b", "a.b/x", "b", "c", "c/d", "c/d/e", "c/d/e/f"]
      for (const limit of [1, 2, 3, 5, 1000]) {
        const found: Array<string> = []
        let cursor: string | undefined
        do {
          const page = yield* tree.walk("", cursor === undefined ? { limit } : { limit, cursor })
          found.push(...page.entries.map(({ path }) => path))
          cursor = page.cursor
        } while (cursor !== undefined)
        assert.deepStrictEqual(found, all, `limit ${limit}`)
      }
      const shallow = yield* tree.walk("a", { depth: 1 })
      assert.deepStrictEqual(
        shallow.entries.map(({ path }) => path),
        ["b", "b.c", "z"]
      )
      const kept = yield* tree.walk("", { keep: (path, kind) => kind === "file" && path.startsWith("a/") })
      assert.deepStrictEqual(
        kept.entries.map(({ path, size }) => [path, size]),
        [
          ["b/c", 0],
          ["b.c/d", 0],
          ["z", 0]
        ].map(([path]) => [`a/${path}`, `a/${path}`.length])
      )
      assert.deepStrictEqual({ ...(yield* tree.usage("")) }, { bytes: 28, files: 6, folders: 7, others: 0, unread: 0 })
      assert.deepStrictEqual({ ...(yield* tree.usage("a")) }, { bytes: 15, files: 3, folders: 3, others: 0, unread: 0 })
      assert.strictEqual((yield* tree.usage("b")).bytes, 1)
      for (const cursor of ["", "..", "/a", "a//b", "a/", "a/./b"])
        assert.strictEqual(yield* reason(tree.walk("", { cursor })), "BadName", cursor)
      assert.strictEqual(yield* reason(tree.walk("b")), "NotAFolder")
    }))

  test("every operation refuses paths that lead elsewhere", (tree) =>
    Effect.gen(function* () {
      yield* put(tree, "f", bytesOf("x"))
      const small = (path: string) =>
        Effect.flatMap(tree.writeSmall([{ path, bytes: bytesOf("x") }]), (outcomes) =>
          Effect.fromResult(outcomes[0] ?? Result.fail(new Error("no outcome") as never))
        )
      const smallRead = (path: string) =>
        Effect.flatMap(tree.readSmall([path], 9), (outcomes) =>
          Effect.fromResult(outcomes[0] ?? Result.fail(new Error("no outcome") as never))
        )
      for (const path of ["..", "../f", "f/../../x", "a\u0000", "..\\f", "\ud800", "x".repeat(256)]) {
        const operations: ReadonlyArray<Effect.Effect<unknown, FilesError, Scope.Scope>> = [
          tree.list(path),
          tree.stat(path),
          tree.walk(path),
          tree.usage(path),
          tree.open(path),
          tree.write(path, { size: 1, parents: true, conflict: "rename" }),
          small(path),
          smallRead(path),
          tree.mkdir(path, { parents: true }),
          tree.remove(path, { recursive: true, forever: true }),
          tree.move(path, "g"),
          tree.move("f", path),
          tree.copy(path, "g"),
          tree.copy("f", path),
          tree.touch(path, { version: "0".repeat(32), mtimeMs: 0, mode: 0o600 })
        ]
        for (const [i, operation] of operations.entries())
          assert.strictEqual(yield* reason(operation), "BadName", `${JSON.stringify(path)} in operation ${i}`)
      }
      assert.deepStrictEqual(yield* namesOf(tree, ""), ["f"])
    }))
}
