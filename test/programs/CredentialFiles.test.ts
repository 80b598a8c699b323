import { execFileSync } from "node:child_process"
import * as FileSystem from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { TestClock } from "effect/testing"
import { text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as Sec from "../../src/programs/Sec.ts"
import { SecureFileStore } from "../../src/services/SecureFileStore.ts"
import * as Support from "./CredentialSupport.ts"

const { CHEAP, key, NOW, options, temporaryFolder } = Support
const vectors = path.resolve(import.meta.dirname, "../../../shared/vectors/jsontestsuite")
const hasVectors = FileSystem.existsSync(vectors)
const host = Layer.mergeAll(CryptoNode.layer, SecureFileStoreNode.layer)

const sealed = Effect.gen(function* () {
  yield* TestClock.setTime(NOW)
  const content = yield* CredentialFiles.make(options)
  return { content, bytes: yield* CredentialFiles.seal(content, key(), CHEAP) }
})

/** Seals other plaintext than ours under the file's own rules. */
const envelopeOf = (bytes: Uint8Array): Record<string, unknown> => JSON.parse(text(bytes) ?? "")

describe("CredentialFiles", () => {
  it.effect("opens what it sealed, with both derivations", () =>
    Effect.gen(function* () {
      const { bytes, content } = yield* sealed
      assert.deepStrictEqual(yield* CredentialFiles.openValid(bytes, key(), "file"), content)
      const argon = { name: "argon2id", memoryKib: 8192, passes: 1, parallelism: 2 } as const
      const other = yield* CredentialFiles.seal(content, key(), argon)
      assert.deepStrictEqual(yield* CredentialFiles.openValid(other, key(), "file"), content)
      assert.deepStrictEqual(envelopeOf(other).kdf, {
        name: "argon2id",
        parameters: { memory_kib: 8192, passes: 1, parallelism: 2 }
      })
    }).pipe(Effect.provide(host))
  )

  it.effect("makes a credential of 11 minutes with an id and a secret of its own", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(NOW)
      const one = yield* CredentialFiles.make(options)
      const two = yield* CredentialFiles.make({ ...options, validityMs: 1000, rotationMs: 500 })
      assert.deepStrictEqual([one.valid_from, one.valid_until, one.next_rotation], [NOW, NOW + 660_000, NOW + 600_000])
      assert.deepStrictEqual([two.valid_until, two.next_rotation], [NOW + 1000, NOW + 500])
      assert.notStrictEqual(one.connection_id, two.connection_id)
      assert.notDeepEqual(one.shared_secret, two.shared_secret)
    }).pipe(Effect.provide(CryptoNode.layer))
  )

  it.effect("never seals twice under the same salt or nonce", () =>
    Effect.gen(function* () {
      const { bytes, content } = yield* sealed
      const again = yield* CredentialFiles.seal(content, key(), CHEAP)
      for (const field of ["salt", "iv", "ciphertext", "tag"]) {
        assert.notStrictEqual(envelopeOf(bytes)[field], envelopeOf(again)[field], field)
      }
    }).pipe(Effect.provide(CryptoNode.layer))
  )

  it.effect("answers every flipped byte and the wrong key with one message and one derivation each", () => {
    const { derived, layer } = Support.countingCrypto()
    return Effect.gen(function* () {
      const { bytes } = yield* sealed
      const attempt = (file: Uint8Array, secret = key()) => {
        derived.length = 0
        return Effect.flip(CredentialFiles.open(file, secret, "/x/clawchat-current.sec"))
      }
      const wrong = yield* attempt(bytes, key("another bootstrap key"))
      assert.deepStrictEqual(wrong.reason, { _tag: "WrongKeyOrTampered" })
      assert.notInclude(wrong.message, "\n")
      for (let at = 0; at < bytes.length; at++) {
        for (const mask of at % 7 === 0 ? [0x01, 0x10, 0x80, 0xff] : [1 << (at % 8)]) {
          const flipped = bytes.slice()
          flipped[at] = (flipped[at] as number) ^ mask
          const error = yield* attempt(flipped)
          assert.deepStrictEqual(error, wrong, `byte ${at} ^ ${mask}`)
          assert.strictEqual(derived.length, 1, `byte ${at} ^ ${mask}`)
        }
      }
    }).pipe(Effect.provide(layer))
  })

  it.effect("refuses a file cut off anywhere or with bytes added", () => {
    const { layer } = Support.countingCrypto()
    return Effect.gen(function* () {
      const { bytes } = yield* sealed
      for (let length = 0; length < bytes.length; length++) {
        const { reason } = yield* Effect.flip(CredentialFiles.open(bytes.subarray(0, length), key(), "file"))
        assert.include(["NotACredentialFile", "WrongKeyOrTampered"], reason._tag, `${length} bytes`)
      }
      const longer = utf8(`${text(bytes)}{}`)
      const { reason } = yield* Effect.flip(CredentialFiles.open(longer, key(), "file"))
      assert.strictEqual(reason._tag, "WrongKeyOrTampered")
    }).pipe(Effect.provide(layer))
  })

  it.effect("never starts a derivation that is out of bounds", () => {
    const { derived, layer } = Support.countingCrypto()
    return Effect.gen(function* () {
      const { bytes } = yield* sealed
      const refused: Array<{ readonly name: string; readonly parameters: Record<string, number> }> = [
        { name: "pbkdf2-hmac-sha256", parameters: { iterations: 99_999 } },
        { name: "pbkdf2-hmac-sha256", parameters: { iterations: 1e15 } },
        { name: "argon2id", parameters: { memory_kib: 2 ** 31, passes: 1, parallelism: 1 } },
        { name: "argon2id", parameters: { memory_kib: 8192, passes: 1e9, parallelism: 1 } },
        { name: "argon2id", parameters: { memory_kib: 8192, passes: 1, parallelism: 1e6 } }
      ]
      for (const kdf of refused) {
        derived.length = 0
        const file = utf8(JSON.stringify({ ...envelopeOf(bytes), kdf }))
        const { reason } = yield* Effect.flip(CredentialFiles.open(file, key(), "file"))
        assert.strictEqual(reason._tag, "WrongKeyOrTampered")
        assert.deepStrictEqual(derived, [{ name: "pbkdf2-hmac-sha256", iterations: 600_000 }])
      }
    }).pipe(Effect.provide(layer))
  })

  it.effect("says since when a file is expired and when one will be valid, 30 s of skew forgiven", () =>
    Effect.gen(function* () {
      const { bytes, content } = yield* sealed
      const at = (now: number) =>
        Effect.andThen(TestClock.setTime(now), Effect.result(CredentialFiles.openValid(bytes, key(), "file")))
      const late = yield* at(content.valid_until + 30_001)
      const early = yield* at(content.valid_from - 30_001)
      assert.deepStrictEqual(late._tag === "Failure" && late.failure.reason, {
        _tag: "Expired",
        since: content.valid_until
      })
      assert.deepStrictEqual(early._tag === "Failure" && early.failure.reason, {
        _tag: "NotYetValid",
        until: content.valid_from
      })
      assert.strictEqual((yield* at(content.valid_until + 30_000))._tag, "Success")
      assert.strictEqual((yield* at(content.valid_from - 30_000))._tag, "Success")
    }).pipe(Effect.provide(Support.quickCrypto("validity")))
  )

  it.effect("names the version of a newer program, and other sealed content for what it is", () =>
    Effect.gen(function* () {
      const { content } = yield* sealed
      const newer = yield* CredentialFiles.seal({ ...content, protocol_version: 7 }, key(), CHEAP)
      const error = yield* Effect.flip(CredentialFiles.open(newer, key(), "file"))
      assert.deepStrictEqual(error.reason, { _tag: "Unsupported", version: 7 })
    }).pipe(Effect.provide(Support.quickCrypto("newer")))
  )

  it.effect("tells foreign files by their look, without a derivation", () => {
    const { derived, layer } = Support.countingCrypto()
    return Effect.gen(function* () {
      for (const file of ["", "{}", "[]", "hello", '{"version":1,"iv":"","salt":""}']) {
        const { reason } = yield* Effect.flip(CredentialFiles.open(utf8(file), key(), "file"))
        assert.strictEqual(reason._tag, "NotACredentialFile", file)
      }
      const large = new Uint8Array(64 * 1024 + 1)
      assert.strictEqual((yield* Effect.flip(CredentialFiles.open(large, key(), "file"))).reason._tag, "TooLarge")
      assert.deepStrictEqual(derived, [])
    }).pipe(Effect.provide(layer))
  })

  it.effect.skipIf(!hasVectors)(
    `meets any JSON with a reason${hasVectors ? "" : " (skipped: ../shared/vectors is not here)"}`,
    () =>
      Effect.gen(function* () {
        let count = 0
        for (const folder of ["test_parsing", "test_transform"]) {
          for (const name of FileSystem.readdirSync(path.join(vectors, folder))) {
            const bytes = new Uint8Array(FileSystem.readFileSync(path.join(vectors, folder, name)))
            const { reason } = yield* Effect.flip(CredentialFiles.open(bytes, key(), name))
            assert.include(["NotACredentialFile", "TooLarge"], reason._tag, name)
            count++
          }
        }
        assert.isAbove(count, 300)
      }).pipe(Effect.provide(CryptoNode.layer))
  )

  it.effect("loads from a 0600 file and refuses all else at a path", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const { bytes, content } = yield* sealed
      const good = path.join(folder, "good.sec")
      const store = yield* SecureFileStore
      yield* store.write(good, bytes)
      assert.deepStrictEqual(yield* CredentialFiles.load(good, key()), content)

      const reasonAt = (name: string) =>
        Effect.map(Effect.flip(CredentialFiles.load(path.join(folder, name), key())), (error) => {
          assert.include(error.message, name)
          assert.notInclude(error.message, "\n")
          return error.reason._tag
        })
      FileSystem.writeFileSync(path.join(folder, "open.sec"), bytes, { mode: 0o644 })
      FileSystem.chmodSync(path.join(folder, "open.sec"), 0o644)
      FileSystem.symlinkSync(good, path.join(folder, "link.sec"))
      FileSystem.mkdirSync(path.join(folder, "folder.sec"))
      FileSystem.writeFileSync(path.join(folder, "large.sec"), new Uint8Array(70_000), { mode: 0o600 })
      assert.strictEqual(yield* reasonAt("open.sec"), "Permissions")
      assert.strictEqual(yield* reasonAt("link.sec"), "Permissions")
      assert.strictEqual(yield* reasonAt("folder.sec"), "Permissions")
      assert.strictEqual(yield* reasonAt("large.sec"), "TooLarge")
      assert.strictEqual(yield* reasonAt("missing.sec"), "NotFound")
      if (process.platform !== "win32") {
        execFileSync("mkfifo", [path.join(folder, "fifo.sec")])
        assert.strictEqual(yield* reasonAt("fifo.sec"), "Permissions")
      }
    }).pipe(Effect.provide(host))
  )

  it.effect("shows a file without its secrets unless told to, and verifies it", () =>
    Effect.gen(function* () {
      const { bytes, content } = yield* sealed
      const source = { bytes, where: "standard input" }
      const shown = yield* Sec.show(source, key())
      const printed = JSON.stringify(shown)
      const secret = Buffer.from(content.shared_secret).toString("base64")
      assert.notInclude(printed, secret)
      assert.notInclude(printed, "turn password")
      assert.include(printed, "192.0.2.9:3479")
      const ticket = Buffer.alloc(104, 0xa5).toString("base64")
      assert.notInclude(printed, ticket)
      assert.strictEqual(shown.validity, "Valid")
      const revealed = yield* Sec.show(source, key(), { reveal: true })
      assert.strictEqual(revealed.content.shared_secret, secret)
      assert.include(JSON.stringify(revealed), ticket)
      yield* TestClock.setTime(NOW + 60_000)
      assert.strictEqual((yield* Sec.verify(source, key())).remainingMs, 600_000)
      yield* TestClock.setTime(NOW + 3_600_000)
      assert.strictEqual((yield* Sec.show(source, key())).validity, "Expired")
      const error = yield* Effect.flip(Sec.verify(source, key()))
      assert.strictEqual(error.message.startsWith("standard input expired at 2026-03-01T12:11:00.123Z"), true)
    }).pipe(Effect.provide(Layer.merge(Support.quickCrypto("show"), SecureFileStoreNode.layer)))
  )

  it.effect("keeps the bootstrap key out of what may be printed", () =>
    Effect.sync(() => {
      assert.notInclude(JSON.stringify(key("a key that must not leak")), "leak")
      assert.strictEqual(Redacted.value(key("a key that must not leak").secret), "a key that must not leak")
    })
  )
})
