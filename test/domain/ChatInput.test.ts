import { assert, describe, it } from "@effect/vitest"
import * as ChatInput from "../../src/domain/ChatInput.ts"
import { LineSplitter } from "../../src/domain/LineSplitter.ts"
import * as MessageId from "../../src/domain/MessageId.ts"

describe("ChatInput", () => {
  it("tells commands from text", () => {
    const command = (name: string, argument: string) => ({ _tag: "Command", name, argument })
    const message = (text: string) => ({ _tag: "Message", text })
    const table: ReadonlyArray<readonly [string, object]> = [
      ["", { _tag: "Empty" }],
      [" \t ", { _tag: "Empty" }],
      ["hello", message("hello")],
      ["  indented ", message("  indented")],
      ["/help", command("help", "")],
      ["/History  20 ", command("history", "20")],
      ["/x a\nb", command("x", "a\nb")],
      ["/", command("", "")],
      ["/etc/hosts is what?", message("/etc/hosts is what?")],
      ["//help", message("/help")],
      [" /help", message(" /help")]
    ]
    for (const [line, wanted] of table) assert.deepStrictEqual({ ...ChatInput.parse(line) }, wanted, line)
  })

  it("continues a line that ends in a backslash", () => {
    assert.strictEqual(ChatInput.continued("a\\"), "a")
    assert.strictEqual(ChatInput.continued("a\\\\\\"), "a\\\\")
    assert.strictEqual(ChatInput.continued("a\\\\"), undefined)
    assert.strictEqual(ChatInput.continued("a\\b"), undefined)
  })
})

describe("LineSplitter", () => {
  it("gives the same lines wherever the text is cut", () => {
    const text = "one\r\ntwo\n\nthree\rfour"
    for (let at = 0; at <= text.length; at++) {
      const splitter = new LineSplitter(100)
      const lines = [...splitter.push(text.slice(0, at)), ...splitter.push(text.slice(at)), ...splitter.end()]
      assert.deepStrictEqual(lines, ["one", "two", "", "three", "four"], `cut at ${at}`)
    }
  })

  it("holds no more of a line than it may", () => {
    const splitter = new LineSplitter(4)
    assert.deepStrictEqual(splitter.push("abc"), [])
    assert.deepStrictEqual(splitter.push("defghi"), [])
    assert.deepStrictEqual(splitter.push("j\nkl\n"), ["abcd", "kl"])
    assert.deepStrictEqual(splitter.end(), [])
  })
})

describe("MessageId", () => {
  it("is a random UUID in lower case", () => {
    const zeros = MessageId.fromEntropy(new Uint8Array(16))
    assert.strictEqual(zeros, "00000000-0000-4000-8000-000000000000")
    assert.strictEqual(MessageId.fromEntropy(new Uint8Array(16).fill(255)), "ffffffff-ffff-4fff-bfff-ffffffffffff")
  })
})
