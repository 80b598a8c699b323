import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as BootstrapKey from "../../src/programs/BootstrapKey.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as Network from "../../src/programs/cli/Layers.ts"
import { initiation } from "./Attacker.ts"
import { command, connect, echo, freshFile, identityOf, probe, say, settled, status, World, world } from "./Tiers.ts"

const environment = Layer.merge(world(), Network.network)
const linux = process.platform === "linux"

describe.skipIf(!linux)(linux ? "a credential file" : "a credential file (skipped: /proc is not here)", () => {
  layer(environment, { excludeTestServices: true, timeout: "60 seconds" })("from outside", (it) => {
    it.effect("that is burnt gives another device nothing but silence, and the owner an alarm", () =>
      Effect.gen(function* () {
        const { folder, home, port, recorder, server } = yield* World
        const { content, path, pairing } = yield* freshFile
        const copy = Path.join(folder, "copy.sec")
        Fs.copyFileSync(path, copy)
        Fs.chmodSync(copy, 0o600)
        const key = `--key-file=${HomePaths.server(home).bootstrapKey}`

        const first = Path.join(folder, "first")
        const paired = yield* command(["pair", path, `--home=${first}`, key])
        assert.strictEqual(paired.code, 0, paired.err)
        assert.isFalse(Fs.existsSync(path), "the file is gone from the server")
        const { devices } = yield* status

        // The command line, as somebody would who copied the file in time.
        const from = recorder.passed.length
        const second = yield* command(["pair", copy, `--home=${folder}/second`, key, "--timeout=3"])
        assert.include([4, 69], second.code)
        assert.match(second.err, /does not answer/)
        const passed = recorder.passed.slice(from)
        assert.isAtLeast(passed.filter(({ up }) => up).length, 3)
        assert.deepEqual(
          passed.filter(({ up }) => !up),
          []
        )
        yield* server().says(/ALARM: a used credential file was used again by another device/)

        // By hand, with as many initiations as the file has hints.
        const thief = yield* identityOf(Path.join(folder, "thief"))
        const source = yield* probe()
        const invitation = ClientIdentity.invitationOf(pairing)
        const tries = Array.from(
          { length: 16 },
          (_, hint) => initiation({ invitation, identity: thief.keyPair, hint }).datagram
        )
        yield* source.send(tries, port)
        const session = yield* connect(first)
        assert.strictEqual(yield* echo(session), "x")
        assert.include(yield* say(session, "hello"), " ")
        assert.strictEqual(source.received, 0)
        assert.strictEqual((yield* status).devices, devices)
        assert.strictEqual((yield* status).sessions, 1)

        // Nor do its secrets stand in any log.
        const words = `${server().out}${server().err}${Fs.readFileSync(HomePaths.server(home).log, "utf8")}`
        for (const secret of [content.shared_secret, pairing.filePsk]) {
          assert.notInclude(words, Buffer.from(secret).toString("hex"))
          assert.notInclude(words, Buffer.from(secret).toString("base64").slice(0, 40))
        }
        assert.deepEqual(server().mishaps, [])
      })
    )

    it.effect(
      "that has expired opens nothing, though it lies in the server's own folder and is signed by its key",
      () =>
        Effect.gen(function* () {
          const { folder, home, port, recorder, restart, server } = yield* World
          const { content } = yield* freshFile
          const paths = HomePaths.server(home)
          const key = yield* BootstrapKey.fromFile(paths.bootstrapKey)
          // As the server itself would have written it three hours ago.
          const then = Date.now() - 3 * 3_600_000
          const old = {
            ...content,
            connection_id: "00112233445566778899aabbccddeeff",
            shared_secret: new Uint8Array(32).fill(7),
            timestamp: then,
            valid_from: then,
            valid_until: then + 660_000,
            next_rotation: then + 600_000
          }
          const bytes = yield* CredentialFiles.seal(old, key)
          const archived = Path.join(paths.archive, `${old.connection_id}.sec`)
          const copy = Path.join(folder, "old.sec")
          for (const file of [archived, copy]) Fs.writeFileSync(file, bytes, { mode: 0o600 })
          yield* restart

          const from = recorder.passed.length
          const refused = yield* command(["pair", copy, `--home=${folder}/late`, `--key-file=${paths.bootstrapKey}`])
          assert.strictEqual(refused.code, 4)
          assert.match(refused.err, /expired/)
          assert.deepEqual(recorder.passed.slice(from), [], "the client does not even ask")

          // Who does not check asks in vain.
          const thief = yield* identityOf(Path.join(folder, "late-thief"))
          const invitation = ClientIdentity.invitationOf(ClientIdentity.pairingOf(old))
          const source = yield* probe()
          const before = yield* status
          const tries = Array.from(
            { length: 16 },
            (_, hint) => initiation({ invitation, identity: thief.keyPair, hint }).datagram
          )
          yield* source.send(tries, port)
          yield* settled(({ drops }) => Object.values(drops).reduce((a, b) => a + b, 0) >= 16)
          assert.strictEqual(source.received, 0)
          assert.strictEqual((yield* status).devices, before.devices)
          assert.deepEqual(server().mishaps, [])
        })
    )
  })
})
