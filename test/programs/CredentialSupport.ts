/** Shared by the tests of credentials and identities: stores that need no disk, cryptography that keeps count. */

import * as FileSystem from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import type { BootstrapKey } from "../../src/programs/BootstrapKey.ts"
import type { MakeOptions } from "../../src/programs/CredentialFiles.ts"
import { Crypto, type FileKdf } from "../../src/services/Crypto.ts"
import { SecureFileError, SecureFileStore } from "../../src/services/SecureFileStore.ts"

/** Records every derivation asked for; repeats are answered from memory, so that a thousand openings take a second. */
export const countingCrypto = () => {
  const derived: Array<FileKdf> = []
  const cache = new Map<string, Uint8Array>()
  const layer = Layer.effect(
    Crypto,
    Effect.map(Effect.provide(Crypto, CryptoNode.layer), (crypto): Crypto["Service"] => ({
      ...crypto,
      deriveFileKey: (secret, salt, kdf) =>
        Effect.suspend(() => {
          derived.push(kdf)
          const key = `${hex(secret)} ${hex(salt)} ${JSON.stringify(kdf)}`
          const known = cache.get(key)
          if (known !== undefined) return Effect.succeed(known.slice())
          return Effect.tap(crypto.deriveFileKey(secret, salt, kdf), (made) =>
            Effect.sync(() => cache.set(key, made.slice()))
          )
        })
    }))
  )
  return { derived, layer }
}

/** Derives at once with a single HKDF: for tests in which time stands still and files need only be told apart. */
export const quickCrypto = (seed: string) =>
  Layer.effect(
    Crypto,
    Effect.map(Effect.provide(Crypto, CryptoNode.layerSeeded(seed)), (crypto): Crypto["Service"] => ({
      ...crypto,
      deriveFileKey: (secret, salt) => Effect.sync(() => crypto.primitives.hkdf(salt, secret, new Uint8Array(0), 32))
    }))
  )

/** Files in a map; `halt` makes the nth change of the disk and all later ones fail, as if the process had died there. */
export class Disk {
  readonly files = new Map<string, Uint8Array>()
  changes = 0
  haltAt = Number.POSITIVE_INFINITY

  #change(at: string, run: () => void): Effect.Effect<void, SecureFileError> {
    return Effect.suspend(() => {
      if (this.changes >= this.haltAt) {
        return Effect.fail(new SecureFileError({ reason: "Io", path: at, message: `${at}: halted` }))
      }
      this.changes++
      run()
      return Effect.void
    })
  }

  readonly layer = Layer.succeed(SecureFileStore, {
    read: (at) => Effect.sync(() => Option.map(Option.fromUndefinedOr(this.files.get(at)), (bytes) => bytes.slice())),
    write: (at, bytes) => this.#change(at, () => this.files.set(at, bytes.slice())),
    create: (at, bytes) =>
      Effect.suspend(() =>
        this.files.has(at)
          ? Effect.fail(new SecureFileError({ reason: "Exists", path: at, message: `${at}: already exists` }))
          : this.#change(at, () => this.files.set(at, bytes.slice()))
      ),
    append: () => Effect.die("not used"),
    burn: (at) =>
      Effect.suspend(() => {
        const bytes = this.files.get(at)
        if (bytes === undefined) return Effect.void
        return Effect.andThen(
          this.#change(at, () => this.files.set(at, new Uint8Array(bytes.length))),
          this.#change(at, () => this.files.delete(at))
        )
      }),
    list: (folder) =>
      Effect.sync(() =>
        [...this.files.keys()]
          .filter((at) => path.posix.dirname(at) === folder)
          .map((at) => path.posix.basename(at))
          .sort()
      ),
    watch: () => Stream.never,
    lock: () => Effect.void
  })
}

/** A folder of its own for the test's scope. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => FileSystem.mkdtempSync(path.join(os.tmpdir(), "clawchat-"))),
  (folder) => Effect.sync(() => FileSystem.rmSync(folder, { recursive: true, force: true }))
)

export const key = (text = "a bootstrap key for tests"): BootstrapKey => ({
  id: "0badcafe",
  secret: Redacted.make(text)
})

/** The cheapest derivation that a file may ask for. */
export const CHEAP: FileKdf = { name: "pbkdf2-hmac-sha256", iterations: 100_000 }

export const NOW = Date.UTC(2026, 2, 1, 12, 0, 0, 123)

export const serverKeys = CryptoNode.primitives.keyPair(new Uint8Array(32).fill(7))

export const options: MakeOptions = {
  serverId: "server-1",
  serverName: "Home",
  serverPublicKey: serverKeys.publicKey,
  publicIp: "192.0.2.1",
  udpPort: 50_000,
  candidates: [
    { kind: "host", address: "10.0.0.5", port: 50_000 },
    { kind: "reflexive", address: "192.0.2.1", port: 50_000 },
    { kind: "relayed", address: "2001:db8::9", port: 3478 }
  ],
  natTraversal: {
    stun: ["stun.example:3478"],
    turn: [{ server: "turn.example:3478", username: "user", password: "turn password" }],
    rendezvous: [{ server: "192.0.2.9:3479", ticket: new Uint8Array(104).fill(0xa5) }],
    timeout: 60
  },
  gracePeriodSeconds: 300,
  bootstrapKeyId: "0badcafe",
  metadata: { note: "for tests" }
}
