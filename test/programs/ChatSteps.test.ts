import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as ChatAway from "../../src/programs/ChatAway.ts"
import * as ChatFiles from "../../src/programs/ChatFiles.ts"
import * as ChatSteps from "../../src/programs/ChatSteps.ts"
import * as Attachments from "../../src/programs/cli/Attachments.ts"

const approval = (detail: string): ChatSteps.Approval => ({
  _tag: "Approval",
  approvalId: "a",
  callId: "1.0",
  tool: "file_write",
  summary: "write /a.txt",
  detail,
  decisions: ["once", "conversation", "deny"]
})

describe("ChatSteps", () => {
  it("knows decisions, and takes nothing else for one", () => {
    const meant = (text: string) => ChatSteps.decision(text)
    assert.deepStrictEqual([" O ", "once", "y", "Yes"].map(meant), ["once", "once", "once", "once"])
    assert.deepStrictEqual(["c", "d", "no", "v"].map(meant), ["conversation", "deny", "deny", "view"])
    for (const text of ["", "ok", "yes please", "no, wait", "constructor", "toString", "__proto__"]) {
      assert.strictEqual(meant(text), undefined, text)
    }
  })

  it("lets nothing in a call steer the terminal or pass for something else", () => {
    const { text } = ChatSteps.approval(approval("/a.txt\n\x1b]0;t\x07\u202eevil\nallow? [o]nce> o"))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: that is the point
    assert.notMatch(text, /[\x00-\x09\x0b-\x1f\u202e]/)
    for (const line of text.split("\n").slice(1)) assert.match(line, /^ {2}/, "what is quoted is indented")
  })

  it("says how much of a call is not shown", () => {
    const wide = ChatSteps.approval(approval("x".repeat(5000)))
    assert.isTrue(wide.isCut)
    assert.match(wide.text, /… 3000 of 5000 characters are not shown/)
    assert.isFalse(ChatSteps.approval(approval("write /a.txt")).isCut)
    assert.strictEqual(ChatSteps.approval(approval("write /a.txt")).text, "file_write waits for you: write /a.txt")
  })

  it("gives the reason of a failed call without the marks around foreign text", () => {
    const preview = "[0123456789abcdef: what follows comes from file_read; it is material]\n\nno such file\nmore"
    const line = ChatSteps.line({ _tag: "Called", callId: "1", tool: "file_read", failed: true, preview })
    assert.strictEqual(line, "  failed: no such file")
  })
})

describe("Words of /attach", () => {
  it("are parted as a shell does", () => {
    assert.deepStrictEqual(ChatFiles.words(""), [])
    assert.deepStrictEqual(ChatFiles.words(` a  "b c" 'd "e"' f\\ g h"i j"k `), ["a", "b c", 'd "e"', "f g", "hi jk"])
    assert.deepStrictEqual(ChatFiles.words(`say "no end`), ["say", "no", "end"])
  })
})

describe("Questions that were heard", () => {
  it("are remembered, a bounded number of them", () => {
    const heard = new ChatAway.Heard()
    for (let n = 0; n < 1000; n++) heard.add(`${n}`)
    assert.isTrue(heard.has("999"))
    assert.isTrue(heard.has("800"))
    assert.isFalse(heard.has("700"))
  })
})

describe("Attachments", () => {
  it("are known by what is in them", () => {
    const type = (name: string, ...bytes: ReadonlyArray<number>) =>
      Attachments.mediaTypeOf(name, Uint8Array.from(bytes))
    assert.strictEqual(type("a.txt", 0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0), "image/png")
    assert.strictEqual(type("a", 0xff, 0xd8, 0xff, 0xe0), "image/jpeg")
    assert.strictEqual(type("a", ...Buffer.from("GIF89a")), "image/gif")
    assert.strictEqual(type("a", ...Buffer.from("RIFF"), 1, 0, 0x0a, 0xff, ...Buffer.from("WEBPVP8 ")), "image/webp")
    assert.strictEqual(type("a.PNG", ...Buffer.from("no image")), "text/plain")
    assert.strictEqual(type("a.md", ...Buffer.from("# naïve")), "text/markdown")
    assert.strictEqual(type("a.txt"), "text/plain")
    assert.strictEqual(type("a.txt", 0x61, 0, 0x62), undefined)
    assert.strictEqual(type("a.txt", 0xff, 0xfe), undefined)
  })

  it.effect("are files, named without their folders", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-attach-"))),
        (made) => Effect.sync(() => Fs.rmSync(made, { recursive: true }))
      )
      const file = Path.join(folder, "a\x1b[1mb.txt")
      Fs.writeFileSync(file, "hello")
      assert.deepStrictEqual(yield* Attachments.read(file), {
        name: "ab.txt",
        mediaType: "text/plain",
        bytes: new TextEncoder().encode("hello")
      })
      for (const wrong of [folder, Path.join(folder, "nowhere"), "/dev/zero"]) {
        assert.match((yield* Effect.flip(Attachments.read(wrong))).message, /is not attached: /)
      }
      Fs.truncateSync(file, 5 * 1024 * 1024)
      assert.match((yield* Effect.flip(Attachments.read(file))).message, /at most 4 MiB/)
    })
  )
})
