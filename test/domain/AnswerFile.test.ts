import { assert, describe, it } from "@effect/vitest"
import * as Base64Url from "effect/encoding/Base64Url"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as AnswerFile from "../../src/domain/AnswerFile.ts"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { formatHost } from "../../src/domain/protocol/AddressCodec.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"

const KEY: AnswerFile.Key = { id: new Uint8Array(16).fill(1), psk: new Uint8Array(32).fill(2) }
const OTHER: AnswerFile.Key = { id: new Uint8Array(16).fill(3), psk: new Uint8Array(32).fill(4) }
const NONCE = new Uint8Array(12).fill(5)
const MADE = Date.UTC(2026, 2, 1)
const CANDIDATES: ReadonlyArray<Address> = [
  { host: "203.0.113.9", port: 40_000 },
  { host: "2001:db8::7", port: 40_001 }
]
const answerOf = (candidates: ReadonlyArray<Address>): AnswerFile.Answer => ({
  credentialId: KEY.id,
  madeAt: MADE,
  candidates
})
const LINE = AnswerFile.seal(primitives, KEY.psk, NONCE, answerOf(CANDIDATES))
const open = (line: string, keys: ReadonlyArray<AnswerFile.Key> = [OTHER, KEY]) => {
  const sealed = AnswerFile.parse(line)
  return sealed === undefined ? undefined : AnswerFile.open(primitives, keys, sealed)
}
const bytesOf = (line: string) =>
  Result.getOrElse(Base64Url.decode(line.slice(AnswerFile.PREFIX.length)), () => new Uint8Array(0))

/** A file with any content under the right key, as only a device of ours could make it. */
const forged = (content: Uint8Array): string => {
  const key = primitives.hkdf(new Uint8Array(0), KEY.psk, new TextEncoder().encode("clawchat/1 answer"), 32)
  const sealed = new Uint8Array(12 + content.length + 16)
  sealed.set(NONCE)
  primitives.aeadKey(key).sealInto(NONCE, new TextEncoder().encode(AnswerFile.PREFIX), content, sealed, 12)
  return AnswerFile.PREFIX + Base64Url.encode(sealed)
}

const candidate = fc.record({
  host: fc
    .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
    .map(formatHost),
  port: fc.integer({ min: 1, max: 65_535 })
})

describe("AnswerFile", () => {
  it("says to whoever has the secret what was sealed, and is of one length whatever it says", () => {
    fc.assert(
      fc.property(
        fc.array(candidate, { minLength: 1, maxLength: 8 }),
        fc.uint8Array({ minLength: 12, maxLength: 12 }),
        fc.maxSafeNat(),
        (candidates, nonce, madeAt) => {
          const answer = { credentialId: KEY.id, madeAt, candidates }
          const line = AnswerFile.seal(primitives, KEY.psk, nonce, answer)
          assert.deepStrictEqual(open(line), answer)
          assert.strictEqual(line.length, LINE.length)
          assert.match(line, /^clawchat-answer:v1:[\w-]{280}$/)
        }
      ),
      { seed: 1, numRuns: 200 }
    )
  })

  it("holds eight of the longest addresses, and leaves further ones out", () => {
    const many = Array.from({ length: 9 }, (_, i) => ({ host: `2001:db8:1:2:3:4:5:${i + 6}`, port: 65_535 - i }))
    assert.deepStrictEqual(
      open(AnswerFile.seal(primitives, KEY.psk, NONCE, answerOf(many)))?.candidates,
      many.slice(0, 8)
    )
  })

  it("opens for nobody once any bit of any byte is another", () => {
    const bytes = bytesOf(LINE)
    assert.strictEqual(bytes.length, 210)
    for (let i = 0; i < bytes.length; i++) {
      for (let bit = 0; bit < 8; bit++) {
        const changed = Uint8Array.from(bytes)
        changed[i] = (changed[i] as number) ^ (1 << bit)
        assert.isUndefined(open(AnswerFile.PREFIX + Base64Url.encode(changed)), `byte ${i}, bit ${bit}`)
      }
    }
  })

  it("opens for nobody once any character is another, missing or doubled", () => {
    for (let i = 0; i < LINE.length; i++) {
      const [before, it, after] = [LINE.slice(0, i), LINE.slice(i, i + 1), LINE.slice(i + 1)]
      for (const instead of ["", `${it}${it}`, it === "A" ? "B" : "A", it === "_" ? "-" : "_", "=", "é"]) {
        assert.isUndefined(open(before + instead + after), `character ${i} ${JSON.stringify(instead)}`)
      }
    }
  })

  it("does not mind the white space of mail programs", () => {
    const wrapped = `\r\n  ${LINE.slice(0, 76)}\r\n${LINE.slice(76, 150)} \n\t${LINE.slice(150)}\n\n`
    assert.deepStrictEqual(open(wrapped), answerOf(CANDIDATES))
    assert.isUndefined(AnswerFile.parse(LINE + " ".repeat(AnswerFile.MAX_LENGTH)))
  })

  it("opens under no other secret, and not for another credential with the same one", () => {
    assert.isUndefined(open(LINE, [OTHER]))
    assert.isUndefined(open(LINE, []))
    assert.isUndefined(open(LINE, [{ id: OTHER.id, psk: KEY.psk }]))
  })

  it("takes nothing that its own writer would not have written", () => {
    const content = () => {
      const bytes = new Uint8Array(182)
      bytes.set(KEY.id)
      new DataView(bytes.buffer).setBigUint64(16, BigInt(MADE))
      bytes[24] = 1
      bytes.set([4, 203, 0, 113, 9, 0x9c, 0x40], 25)
      return bytes
    }
    assert.deepStrictEqual(open(forged(content())), answerOf(CANDIDATES.slice(0, 1)))
    const wrong: ReadonlyArray<readonly [string, (bytes: Uint8Array) => void]> = [
      ["no candidate", (bytes) => bytes.fill(0, 24)],
      ["nine candidates", (bytes) => bytes.fill(9, 24, 25)],
      ["255 candidates", (bytes) => bytes.fill(255, 24, 25)],
      ["two, of which one is there", (bytes) => bytes.fill(2, 24, 25)],
      ["an unknown family", (bytes) => bytes.fill(5, 25, 26)],
      ["port 0", (bytes) => bytes.fill(0, 30, 32)],
      ["something behind them", (bytes) => bytes.fill(1, 181)],
      ["a time beyond all time", (bytes) => bytes.fill(255, 16, 24)],
      ["another credential", (bytes) => bytes.fill(7, 0, 1)]
    ]
    for (const [what, change] of wrong) {
      const bytes = content()
      change(bytes)
      assert.isUndefined(open(forged(bytes)), what)
    }
    assert.isUndefined(open(forged(new Uint8Array(181))))
    assert.isUndefined(open(forged(new Uint8Array(183))))
  })

  it("never throws, whatever comes", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.base64String().map((text) => AnswerFile.PREFIX + text)
        ),
        (line) => {
          assert.isUndefined(open(line))
        }
      ),
      { seed: 2, numRuns: 500 }
    )
  })

  it("is good for five minutes, and half a minute more for clocks that differ", () => {
    const answer = answerOf(CANDIDATES)
    const at = (ms: number) => AnswerFile.validity(answer, MADE + ms)
    assert.deepStrictEqual([-30_001, -30_000, 0, 330_000, 330_001].map(at), [
      "notYetValid",
      "valid",
      "valid",
      "valid",
      "expired"
    ])
  })

  it("names where no device is", () => {
    const forbidden = (host: string, isLocal = false) =>
      AnswerFile.forbidden(answerOf([...CANDIDATES, { host, port: 5 }]), isLocal)?.host
    for (const host of ["127.0.0.1", "::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1"]) {
      assert.strictEqual(forbidden(host), host)
    }
    for (const host of ["10.0.0.1", "192.168.1.2", "100.64.0.9", "fd00::1", "8.8.8.8"])
      assert.isUndefined(forbidden(host))
    assert.isUndefined(forbidden("127.0.0.1", true))
    assert.strictEqual(forbidden("224.0.0.1", true), "224.0.0.1")
    assert.isTrue(AnswerFile.isLocal(["127.0.0.1", "::1"]))
    assert.isFalse(AnswerFile.isLocal(["127.0.0.1", "10.0.0.1"]))
  })
})
