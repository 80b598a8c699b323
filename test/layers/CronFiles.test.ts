import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { cronDefault } from "../../src/domain/CronDefault.ts"
import * as CronFile from "../../src/domain/CronFile.ts"
import * as CronFilesNode from "../../src/layers/CronFilesNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import { CronFiles } from "../../src/services/CronFiles.ts"

const posix = process.platform !== "win32"

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-cron-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const inFolder = <A, E>(
  folder: string,
  body: (files: CronFiles["Service"]) => Effect.Effect<A, E>,
  afterRead: () => void = () => {}
) =>
  Effect.flatMap(CronFiles, body).pipe(
    Effect.provide(CronFilesNode.layer({ folder, afterRead }).pipe(Layer.provide(SecureFileStoreNode.layer)), {
      local: true
    })
  )

const append = (more: string) => (text: string) => Result.succeed(text + more)

describe("CronFilesNode", () => {
  it("carries the file of context/ word for word, which holds no job", () => {
    const shipped = path.resolve(import.meta.dirname, "../../context/CRON.md")
    assert.strictEqual(fs.readFileSync(shipped, "utf8"), cronDefault)
    assert.deepStrictEqual(Result.getOrThrow(CronFile.parse(cronDefault)).sections, [])
    const example = cronDefault.replace("<!--", "").replace("-->", "")
    assert.strictEqual(Result.getOrThrow(CronFile.parse(example)).sections.length, 1)
  })

  it.effect("makes the first file, private, and leaves one that is there", () =>
    Effect.gen(function* () {
      const folder = path.join(yield* temporary, "deep", "context")
      const file = path.join(folder, "CRON.md")
      assert.strictEqual(yield* inFolder(folder, (files) => files.read), cronDefault)
      if (posix) assert.strictEqual(fs.statSync(file).mode & 0o777, 0o600)
      fs.writeFileSync(file, "mine")
      assert.strictEqual(yield* inFolder(folder, (files) => files.read), "mine")
      yield* inFolder(folder, (files) =>
        Effect.gen(function* () {
          fs.rmSync(file)
          assert.strictEqual(yield* files.read, "")
          yield* files.update(append("new\r\n"))
        })
      )
      assert.strictEqual(fs.readFileSync(file, "utf8"), "new\r\n")
    })
  )

  it.effect("replaces the file whole, keeps its mode, leaves nothing beside it", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const file = path.join(folder, "CRON.md")
      fs.writeFileSync(file, "one\n")
      fs.chmodSync(file, 0o640)
      const { ino } = fs.statSync(file)
      yield* inFolder(folder, (files) =>
        Effect.gen(function* () {
          assert.strictEqual(yield* files.update(append("two\n")), "one\ntwo\n")
          const written = fs.statSync(file)
          // Both files stood side by side, so the numbers tell them apart.
          assert.notStrictEqual(written.ino, ino)
          yield* files.update(append(""))
          assert.strictEqual(fs.statSync(file).ino, written.ino)
          assert.strictEqual(yield* Effect.flip(files.update(() => Result.fail("no" as const))), "no")
          yield* Effect.all(
            Array.from({ length: 20 }, (_, n) => files.update(append(`${n}\n`))),
            { concurrency: 20 }
          )
        })
      )
      const lines = fs.readFileSync(file, "utf8").split("\n")
      assert.strictEqual(new Set(lines.slice(2, -1)).size, 20)
      if (posix) assert.strictEqual(fs.statSync(file).mode & 0o777, 0o640)
      assert.deepStrictEqual(fs.readdirSync(folder), ["CRON.md"])
    })
  )

  it.effect("loses nothing of an editor that saves in between, and gives up on one that never stops", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const file = path.join(folder, "CRON.md")
      fs.writeFileSync(file, "a\n")
      let saves = 0
      const once = () => {
        if (saves++ === 0) fs.appendFileSync(file, "theirs\n")
      }
      assert.strictEqual(yield* inFolder(folder, (files) => files.update(append("ours\n")), once), "a\ntheirs\nours\n")
      const always = () => fs.appendFileSync(file, `${saves++}\n`)
      const error = yield* Effect.flip(inFolder(folder, (files) => files.update(append("ours\n")), always))
      assert.deepInclude(error, { _tag: "CronFilesError", reason: "Changed" })
      assert.strictEqual(fs.readFileSync(file, "utf8").match(/ours/g)?.length, 1)
      assert.deepStrictEqual(fs.readdirSync(folder), ["CRON.md"])
    })
  )

  it.effect.skipIf(!posix)("refuses links, FIFOs, folders, and what is no text, without waiting", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const file = path.join(folder, "CRON.md")
      const target = path.join(folder, "target")
      fs.writeFileSync(target, "secret")
      const refused = Effect.gen(function* () {
        const both = yield* inFolder(folder, (files) =>
          Effect.all([Effect.flip(files.read), Effect.flip(files.update(append("x")))])
        )
        for (const error of both) assert.strictEqual(error.reason, "Unsafe")
        fs.rmSync(file, { recursive: true })
        return both[0].message
      })
      fs.symlinkSync(target, file)
      assert.match(yield* refused, /is a link/)
      assert.strictEqual(fs.readFileSync(target, "utf8"), "secret")
      execFileSync("mkfifo", [file])
      assert.match(yield* refused, /not a regular file/)
      fs.mkdirSync(file)
      assert.match(yield* refused, /not a regular file/)
      fs.writeFileSync(file, Buffer.from([0x61, 0xff]))
      assert.match(yield* refused, /not UTF-8/)
      fs.writeFileSync(file, "a\u0000b")
      assert.match(yield* refused, /not UTF-8/)
      fs.writeFileSync(file, "x".repeat(8 * 1024 * 1024 + 1))
      assert.match(yield* refused, /more than/)
    })
  )

  it.live("sees edits, also those that replace the file", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const file = path.join(folder, "CRON.md")
      yield* inFolder(folder, (files) =>
        Effect.gen(function* () {
          const seen = new Map(["one", "two", "three"].map((text) => [text, Deferred.makeUnsafe<void>()]))
          yield* Effect.forkScoped(
            Stream.runForEach(files.changes, () =>
              Effect.flatMap(files.read, (text) => {
                const waiter = seen.get(text)
                return waiter === undefined ? Effect.void : Deferred.succeed(waiter, undefined)
              })
            )
          )
          const until = (text: string) => Deferred.await(seen.get(text) ?? Deferred.makeUnsafe<void>())
          fs.writeFileSync(file, "one")
          yield* until("one")
          fs.writeFileSync(`${file}~`, "two")
          fs.renameSync(`${file}~`, file)
          yield* until("two")
          fs.rmSync(file)
          fs.writeFileSync(file, "three")
          yield* until("three")
          assert.strictEqual(yield* files.read, "three")
        }).pipe(Effect.scoped)
      )
    })
  )
})
