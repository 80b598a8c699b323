import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Untrusted from "../../src/domain/Untrusted.ts"
import * as RemoteFilesNode from "../../src/layers/RemoteFilesNode.ts"
import * as FileTools from "../../src/programs/FileTools.ts"
import { RemoteFiles } from "../../src/services/RemoteFiles.ts"

const caller = { conversation: "main", messageId: "m" }

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-tools-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const world = Effect.gen(function* () {
  const base = yield* temporary
  const at = (name: string) => path.join(base, name)
  const context = yield* Layer.build(RemoteFilesNode.layer({ base }))
  const tools = FileTools.make(Context.get(context, RemoteFiles))
  const prepare = (name: string, input: object) => {
    const tool = tools.find(({ spec }) => spec.name === name)
    if (tool === undefined) throw new Error(name)
    return tool.prepare(JSON.stringify(input), caller)
  }
  return {
    at,
    prepare,
    call: (name: string, input: object) => Effect.flatMap(prepare(name, input), ({ run }) => run),
    refused: (name: string, input: object) =>
      Effect.map(Effect.flip(Effect.flatMap(prepare(name, input), ({ run }) => run)), ({ message }) => message),
    risk: (name: string, input: object) => Effect.map(prepare(name, input), ({ risk }) => risk)
  }
})

describe("FileTools", () => {
  it.effect("list, read and search what is there", () =>
    Effect.gen(function* () {
      const { at, call, refused } = yield* world
      assert.strictEqual(yield* call("file_list", {}), "there is nothing in /")
      fs.mkdirSync(at("docs/deep"), { recursive: true })
      fs.writeFileSync(at("docs/a.md"), "first line\nThe Invoice of May\n")
      fs.writeFileSync(at("docs/deep/b.txt"), "no invoice here? yes: invoice\n")
      fs.writeFileSync(at("bin"), Buffer.from([0, 1, 2, 255]))
      fs.writeFileSync(at(".env"), "INVOICE_KEY=1")
      assert.match(yield* call("file_list", { path: "docs" }), /^\/docs\/a\.md {2}30 bytes {2}\S+\n\/docs\/deep\/$/)
      assert.match(yield* call("file_list", { depth: 3 }), /docs\/deep\/b\.txt/)
      assert.strictEqual(yield* call("file_read", { path: "docs/a.md" }), "first line\nThe Invoice of May\n")
      assert.strictEqual(yield* call("file_read", { path: "docs/a.md", offset: 6 }), "line\nThe Invoice of May\n")
      assert.strictEqual(yield* refused("file_read", { path: "bin" }), "/bin is no text (4 bytes)")
      assert.include(yield* refused("file_read", { path: "none" }), "no such file")
      assert.strictEqual(
        yield* call("file_search", { text: "invoice" }),
        "/docs/a.md:2: The Invoice of May\n/docs/deep/b.txt:1: no invoice here? yes: invoice"
      )
      assert.strictEqual(
        yield* call("file_search", { text: "invoice", glob: "**/*.txt", path: "docs" }).pipe(
          Effect.map((text) => text.split(":")[0] ?? "")
        ),
        "/docs/deep/b.txt"
      )
      assert.strictEqual(yield* call("file_search", { glob: "**/*.md" }), "/docs/a.md")
      assert.strictEqual(yield* call("file_search", { text: "nowhere" }), "nothing was found")
      assert.include(yield* refused("file_search", { glob: "../*" }), "the glob is wrong")
    })
  )

  it.effect("long texts come in parts that fit a result, at whole characters, and make the whole", () =>
    Effect.gen(function* () {
      const { at, call } = yield* world
      const text = `x${"é".repeat(20_000)}${"🦞".repeat(10_000)}`
      fs.writeFileSync(at("long.txt"), text)
      let whole = ""
      let offset: number | undefined = 0
      while (offset !== undefined) {
        const part: string = yield* call("file_read", { path: "long.txt", offset })
        assert.isAtMost(part.length, Untrusted.maxResultChars)
        const end: RegExpExecArray | null = /\n\[bytes (\d+) to (\d+) of 80001; go on with offset (\d+)\]$/.exec(part)
        assert.notInclude(part, "\ufffd")
        whole += end === null ? part : part.slice(0, end.index)
        assert.isTrue(end === null || (Number(end[1]) === offset && end[2] === end[3]))
        offset = end === null ? undefined : Number(end[3])
      }
      assert.strictEqual(whole, text)
      // Whoever begins in the midst of a character gets the rest from the next one on.
      assert.match(yield* call("file_read", { path: "long.txt", offset: 2 }), /^é/)
      fs.writeFileSync(at("lines.txt"), "word\n".repeat(20_000))
      assert.isAtMost((yield* call("file_read", { path: "lines.txt" })).length, Untrusted.maxResultChars)
    })
  )

  it.effect("write, move and trash, replacing nothing unless told to", () =>
    Effect.gen(function* () {
      const { at, call, refused } = yield* world
      assert.strictEqual(yield* call("file_write", { path: "new/a.txt", text: "one" }), "/new/a.txt has now 3 bytes")
      assert.include(yield* refused("file_write", { path: "new/a.txt", text: "two" }), "stands there already")
      assert.strictEqual(fs.readFileSync(at("new/a.txt"), "utf8"), "one")
      yield* call("file_write", { path: "new/a.txt", text: "two", replace: true })
      assert.strictEqual(fs.readFileSync(at("new/a.txt"), "utf8"), "two")
      yield* call("file_move", { from: "new/a.txt", to: "far/away/b.txt" })
      yield* call("file_move", { from: "far/away/b.txt", to: "b.txt" })
      assert.include(yield* refused("file_move", { from: "none", to: "made/for/nothing" }), "no such file")
      assert.isFalse(fs.existsSync(at("made")))
      assert.isFalse(fs.existsSync(at("new/a.txt")))
      yield* call("file_trash", { path: "b.txt" })
      assert.isFalse(fs.existsSync(at("b.txt")))
      assert.include(yield* refused("file_trash", { path: "b.txt" }), "no such file")
      assert.include(yield* refused("file_write", { path: "x", text: "a".repeat(1024 * 1024 + 1) }), "too long")
    })
  )

  it.effect("say what they would do with the name that is used, and how much it can harm", () =>
    Effect.gen(function* () {
      const { prepare, refused, risk } = yield* world
      const prepared = yield* prepare("file_write", { path: "a/./b\u0301//c.txt", text: "hello\u001b[2J" })
      assert.strictEqual(prepared.summary, "write /a/b\u0301/c.txt (9 bytes)")
      assert.notInclude(prepared.detail, "\u001b")
      assert.include(prepared.detail, "hello")
      assert.strictEqual(yield* risk("file_list", {}), "free")
      assert.strictEqual(yield* risk("file_read", { path: "a" }), "free")
      assert.strictEqual(yield* risk("file_read", { path: "x/.env" }), "always")
      assert.strictEqual(yield* risk("file_write", { path: "a", text: "" }), "dangerous")
      assert.strictEqual(yield* risk("file_write", { path: ".ssh/authorized_keys", text: "" }), "always")
      assert.strictEqual(yield* risk("file_move", { from: "id_rsa", to: "a" }), "always")
      assert.strictEqual(yield* risk("file_trash", { path: "a" }), "dangerous")
      // The assistant's own files, should somebody keep them below the base path.
      assert.strictEqual(yield* risk("file_write", { path: "me/soul.md", text: "" }), "always")
      assert.strictEqual(yield* risk("file_move", { from: "a", to: "me/CRON.md" }), "always")
      assert.strictEqual(yield* risk("file_read", { path: "me/MEMORY.md" }), "free")
      for (const evil of ["../x", "a/../../x", "a\\b", "a\u0000b", ".clawchat-trash/x", "x".repeat(5000)]) {
        assert.isNotEmpty(yield* refused("file_write", { path: evil, text: "" }))
        assert.isNotEmpty(yield* refused("file_read", { path: evil }))
        assert.isNotEmpty(yield* refused("file_move", { from: "a", to: evil }))
      }
    })
  )
})
