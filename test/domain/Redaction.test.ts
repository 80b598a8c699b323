import { assert, describe, it } from "@effect/vitest"
import * as Redaction from "../../src/domain/Redaction.ts"

const key = "sk-canary-0123456789abcdef"

describe("Redaction", () => {
  it("takes secrets out wherever they stand", () => {
    const redact = Redaction.make([key, "another-secret", "short"])
    assert.strictEqual(redact(`a ${key} b ${key}\nanother-secret`), "a [secret] b [secret]\n[secret]")
    assert.strictEqual(redact("short and sweet\n\nend"), "short and sweet\n\nend")
    assert.strictEqual(Redaction.make([])("text"), "text")
  })

  it("a secret that is cut where a line begins or ends cannot be put together again", () => {
    const redact = Redaction.make([key])
    for (let at = 0; at <= key.length; at++) {
      const parts = [`the key: ${key.slice(0, at)}\n[go on with offset 9]`, `${key.slice(at)} and more`]
      for (const part of parts) {
        const clean = redact(part)
        const longest = Array.from({ length: key.length }, (_, start) => start).reduce((most, start) => {
          let length = 0
          while (start + length < key.length && clean.includes(key.slice(start, start + length + 1))) length++
          return Math.max(most, length)
        }, 0)
        assert.isBelow(longest, 8, clean)
      }
    }
  })

  it("leaves what is none", () => {
    const redact = Redaction.make([key])
    const text = "sk-other-key-of-somebody\nabcdef\n789abcde\n  indented\n"
    assert.strictEqual(redact(text), text)
  })
})
