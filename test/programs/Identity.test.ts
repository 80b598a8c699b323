import * as FileSystem from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { hex, text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as BootstrapKey from "../../src/programs/BootstrapKey.ts"
import * as Identity from "../../src/programs/Identity.ts"
import * as Support from "./CredentialSupport.ts"

const host = Layer.mergeAll(CryptoNode.layer, SecureFileStoreNode.layer)

describe("Identity", () => {
  it.effect("makes keys, seeds and the link once, 0600, and the same for all who start together", () =>
    Effect.gen(function* () {
      const folder = yield* Support.temporaryFolder
      const at = (name: string): string => path.join(folder, "identity", name)
      const made: ReadonlyArray<readonly [string, Effect.Effect<unknown, unknown>]> = [
        ["static.key", Effect.provide(Identity.loadOrCreateStatic(at("static.key")), host)],
        ["port.seed", Effect.provide(Identity.loadOrCreateSeed(at("port.seed")), host)],
        ["llm.link", Effect.provide(Identity.loadOrCreateLink(at("llm.link")), host)]
      ]
      for (const [name, effect] of made) {
        const all = yield* Effect.all(
          Array.from({ length: 8 }, () => effect),
          { concurrency: "unbounded" }
        )
        for (const one of all) assert.deepStrictEqual(one, all[0])
        if (process.platform !== "win32") assert.strictEqual(FileSystem.statSync(at(name)).mode & 0o777, 0o600)
      }
      const link = yield* Identity.loadOrCreateLink(at("llm.link"))
      assert.deepStrictEqual([link.id.length, link.psk.length], [16, 32])
      const pair = yield* Identity.loadOrCreateStatic(at("static.key"))
      assert.deepStrictEqual(CryptoNode.primitives.keyPair(pair.privateKey), pair)
      const seed = yield* Identity.loadOrCreateSeed(at("port.seed"))
      const next = yield* Identity.replaceSeed(at("port.seed"))
      assert.notDeepEqual(next, seed)
      assert.deepStrictEqual(yield* Identity.loadOrCreateSeed(at("port.seed")), next)
    }).pipe(Effect.scoped, Effect.provide(host))
  )

  it.effect("publishes a public key and reads it back", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      assert.deepStrictEqual(yield* Identity.readKey("/identity/llm.pub"), Option.none())
      const { publicKey } = Support.serverKeys
      yield* Identity.publishKey("/identity/llm.pub", publicKey)
      assert.strictEqual(text(disk.files.get("/identity/llm.pub") ?? new Uint8Array(0)), `${hex(publicKey)}\n`)
      assert.deepStrictEqual(yield* Identity.readKey("/identity/llm.pub"), Option.some(publicKey))
      const changes = disk.changes
      yield* Identity.publishKey("/identity/llm.pub", publicKey)
      assert.strictEqual(disk.changes, changes)
    }).pipe(Effect.provide(disk.layer))
  })

  it.effect("never replaces what is damaged", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      for (const content of ["", "zz", "ab".repeat(31), "ab".repeat(33), '{"version":1}']) {
        disk.files.set("/identity/file", utf8(content))
        for (const effect of [
          Effect.asVoid(Identity.loadOrCreateStatic("/identity/file")),
          Effect.asVoid(Identity.loadOrCreateSeed("/identity/file")),
          Effect.asVoid(Identity.loadOrCreateLink("/identity/file")),
          Effect.asVoid(Identity.readKey("/identity/file"))
        ]) {
          const error = yield* Effect.flip(effect)
          assert.strictEqual(error._tag, "IdentityError")
          assert.include(error.message, "/identity/file")
        }
      }
      assert.strictEqual(disk.changes, 0)
    }).pipe(Effect.provide(Layer.merge(disk.layer, CryptoNode.layer)))
  })
})

describe("BootstrapKey", () => {
  it.effect("comes from the environment, else from its file, else is made and kept", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const at = "/config/bootstrap.key"
      const configured = Option.some(Redacted.make("from the environment "))
      const env = yield* BootstrapKey.loadOrCreate({ configured, path: at })
      assert.strictEqual(Redacted.value(env.secret), "from the environment")
      assert.strictEqual(disk.files.size, 0)
      const made = yield* BootstrapKey.loadOrCreate({ configured: Option.none(), path: at })
      const stored = text(disk.files.get(at) ?? new Uint8Array(0)) ?? ""
      assert.match(stored, /^[A-Za-z0-9+/]{43}=\n$/)
      assert.strictEqual(Redacted.value(made.secret), stored.trim())
      const again = yield* BootstrapKey.loadOrCreate({ configured: Option.none(), path: at })
      assert.deepStrictEqual([again.id, Redacted.value(again.secret)], [made.id, stored.trim()])
      assert.strictEqual((yield* BootstrapKey.fromFile(at)).id, made.id)
      const digest = CryptoNode.primitives.hash(utf8(`clawchat bootstrap key id${stored.trim()}`))
      assert.strictEqual(made.id, hex(digest).slice(0, 8))
    }).pipe(Effect.provide(Layer.merge(disk.layer, CryptoNode.layer)))
  })

  it.effect("refuses keys that are too short, too long or no text, without repeating them", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const tooShort = yield* Effect.flip(BootstrapKey.make(Redacted.make(" fifteen letters"), "--key-file x"))
      assert.strictEqual(tooShort.reason, "TooShort")
      assert.include(tooShort.message, "--key-file x")
      assert.notInclude(tooShort.message, "fifteen")
      const tooLong = yield* Effect.flip(BootstrapKey.make(Redacted.make("x".repeat(1025)), "x"))
      assert.strictEqual(tooLong.reason, "TooLong")
      for (const content of [utf8("two lines of key\nare too many"), new Uint8Array(20).fill(0xff)]) {
        disk.files.set("/key", content)
        const error = yield* Effect.flip(BootstrapKey.fromFile("/key"))
        assert.strictEqual(error.reason, "NotText")
      }
      const missing = yield* Effect.flip(BootstrapKey.fromFile("/missing"))
      assert.strictEqual(missing.reason, "NotFound")
    }).pipe(Effect.provide(Layer.merge(disk.layer, CryptoNode.layer)))
  })
})
