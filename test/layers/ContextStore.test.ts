import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { contextDefaults } from "../../src/domain/ContextDefaults.ts"
import * as ContextPrompt from "../../src/domain/ContextPrompt.ts"
import * as ContextStoreNode from "../../src/layers/ContextStoreNode.ts"
import { ContextStore } from "../../src/services/ContextStore.ts"

const posix = process.platform !== "win32"

const temporary = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-context-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const inFolder = <A, E>(folder: string, body: (read: ContextStore["Service"]["read"]) => Effect.Effect<A, E>) =>
  Effect.flatMap(ContextStore, (store) => body(store.read)).pipe(Effect.provide(ContextStoreNode.layer({ folder })))

describe("ContextStoreNode", () => {
  it("carries the files of context/ word for word", () => {
    const folder = path.resolve(import.meta.dirname, "../../context")
    for (const name of ContextPrompt.fileNames) {
      assert.strictEqual(fs.readFileSync(path.join(folder, name), "utf8"), contextDefaults[name])
    }
  })

  it.effect("makes folder and defaults, private, and joins them in order", () =>
    Effect.gen(function* () {
      const folder = path.join(yield* temporary, "deep", "context")
      const { files, text } = yield* inFolder(folder, (read) => read)
      assert.deepStrictEqual(
        files.map(({ name, state }) => `${name} ${state}`),
        ["SOUL.md used", "AGENTS.md used", "USER.md used", "MEMORY.md used"]
      )
      assert.deepStrictEqual(text.match(/^===== .* =====$/gm), [
        "===== SOUL.md =====",
        "===== AGENTS.md =====",
        "===== USER.md =====",
        "===== MEMORY.md ====="
      ])
      assert.include(text, contextDefaults["AGENTS.md"].trim())
      if (posix) {
        assert.strictEqual(fs.statSync(folder).mode & 0o777, 0o700)
        assert.strictEqual(fs.statSync(path.join(folder, "SOUL.md")).mode & 0o777, 0o600)
      }
    })
  )

  it.effect("keeps what people wrote, sees edits at once, and does without a file that is gone", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const soul = path.join(folder, "SOUL.md")
      fs.writeFileSync(soul, "I am mine.")
      yield* inFolder(folder, (read) =>
        Effect.gen(function* () {
          assert.include((yield* read).text, "===== SOUL.md =====\nI am mine.\n")
          fs.writeFileSync(soul, "\ufeffI am changed.\r\n")
          assert.include((yield* read).text, "===== SOUL.md =====\nI am changed.\n")
          fs.rmSync(soul)
          const { files, text } = yield* read
          assert.notInclude(text, "SOUL.md")
          assert.deepStrictEqual(files[0], { name: "SOUL.md", bytes: 0, state: "missing", budget: 500 })
        })
      )
    })
  )

  it.effect("cuts a file to its budget at whole lines and characters, and says so", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      const soul = path.join(folder, "SOUL.md")
      const memory = path.join(folder, "MEMORY.md")
      for (const character of ["a", "é", "✓", "𝄞"]) {
        for (let shift = 0; shift < 4; shift++) {
          const content = "x".repeat(shift) + character.repeat(ContextPrompt.maxFileBytes + 1)
          fs.writeFileSync(soul, content)
          const { files, text } = yield* inFolder(folder, (read) => read)
          const size = Buffer.byteLength(content)
          assert.deepInclude(files[0], { name: "SOUL.md", bytes: size, state: "truncated", budget: 500 })
          assert.isAtMost(files[0]?.tokens ?? 501, 500)
          const [, body = "", bytes] =
            /===== SOUL.md =====\n(.*)\n\[truncated: the first (\d+) of \d+ bytes\]/.exec(text) ?? []
          assert.strictEqual(Number(bytes), Buffer.byteLength(body))
          assert.isTrue(content.startsWith(body))
          assert.isAbove(body.length, 300)
        }
      }
      // What is newest stands at the end of MEMORY.md, and stays.
      const lines = Array.from({ length: 1000 }, (_, n) => `- fact number ${n}`)
      fs.writeFileSync(memory, lines.join("\n"))
      const { files, text } = yield* inFolder(folder, (read) => read)
      assert.deepInclude(files[3], { name: "MEMORY.md", state: "truncated", budget: 1000 })
      assert.match(text, /===== MEMORY.md =====\n\[truncated: the last \d+ of \d+ bytes\]\n- fact number \d+\n/)
      assert.isTrue(text.endsWith("- fact number 999"))
      fs.writeFileSync(soul, "y ".repeat(900))
      assert.strictEqual((yield* inFolder(folder, (read) => read)).files[0]?.state, "used")
    })
  )

  it.effect("ignores what is no text", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      fs.writeFileSync(path.join(folder, "SOUL.md"), Buffer.from([0x68, 0xff, 0xfe]))
      fs.writeFileSync(path.join(folder, "AGENTS.md"), "a\u0000b")
      fs.mkdirSync(path.join(folder, "USER.md"))
      fs.writeFileSync(path.join(folder, "MEMORY.md"), Buffer.alloc(ContextPrompt.maxFileBytes * 2, 0xbf))
      const { files, text } = yield* inFolder(folder, (read) => read)
      assert.strictEqual(text, "")
      assert.deepStrictEqual(
        files.map(({ note, state }) => [state, note]),
        [
          ["ignored", "is not UTF-8 text"],
          ["ignored", "holds NUL bytes; it is not text"],
          ["ignored", "is not a regular file"],
          ["ignored", "is not UTF-8 text"]
        ]
      )
    })
  )

  it.skipIf(!posix)("neither follows links nor waits at FIFOs (skipped: this system has none)", () =>
    Effect.runPromise(
      Effect.gen(function* () {
        const folder = yield* temporary
        const secret = path.join(folder, "secret")
        fs.writeFileSync(secret, "not for the prompt")
        fs.symlinkSync(secret, path.join(folder, "SOUL.md"))
        fs.symlinkSync("nowhere", path.join(folder, "AGENTS.md"))
        execFileSync("mkfifo", [path.join(folder, "USER.md")])
        const { files, text } = yield* inFolder(folder, (read) => read)
        assert.notInclude(text, "not for the prompt")
        assert.deepStrictEqual(
          files.slice(0, 3).map(({ note }) => note),
          ["is a link; put the text itself here", "is a link; put the text itself here", "is not a regular file"]
        )
        assert.isFalse(fs.existsSync(path.join(folder, "nowhere")))
      }).pipe(Effect.scoped)
    )
  )

  it.effect("says which folder cannot be made", () =>
    Effect.gen(function* () {
      const folder = yield* temporary
      fs.writeFileSync(path.join(folder, "file"), "")
      const error = yield* Effect.flip(inFolder(path.join(folder, "file", "context"), (read) => read))
      assert.include(error.message, path.join(folder, "file", "context"))
      assert.include(error.message, "CLAWCHAT_CONTEXT_DIR")
    })
  )
})

describe("ContextStore.layerMemory", () => {
  it.effect("reads its record anew each time", () => {
    const files: { [name: string]: string } = { "USER.md": "Ada" }
    return Effect.gen(function* () {
      const { read } = yield* ContextStore
      assert.strictEqual((yield* read).text, "===== USER.md =====\nAda")
      files["SOUL.md"] = "kind"
      assert.strictEqual((yield* read).text, "===== SOUL.md =====\nkind\n\n===== USER.md =====\nAda")
    }).pipe(Effect.provide(ContextStore.layerMemory(files)))
  })
})
