/** What commands do to a home on which no tier runs, or one that is in an odd place. */
import * as Fs from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as CredentialFile from "../../src/domain/CredentialFile.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as Identity from "../../src/programs/Identity.ts"
import { Devices } from "../../src/services/Devices.ts"
import { assertFails, freePort, llmEnv, serverArgs, World } from "./Tiers.ts"

const host = Layer.merge(SecureFileStoreNode.layer, CryptoNode.layer)
/** On Linux `sun_path` holds 108 bytes. */
const LONG = "a-home-whose-path-is-longer-than-a-socket-address-holds/".repeat(3)

describe.skipIf(process.platform === "win32")("homes", () => {
  let world: World
  beforeAll(() => {
    world = new World()
  })
  afterAll(() => world.end())

  it("that are not paired say so and stay as they are", async () => {
    const home = world.path("nobody")
    for (const verb of [["status"], ["ping"], ["files", "ls"], ["devices", "ls"], ["sec", "new"], ["chat", "hello"]]) {
      const result = await world.run([...verb, "--home", home])
      assertFails(result, 4, /^clawchat: This home is not paired with a server: run clawchat pair FILE/)
      assert.isFalse(Fs.existsSync(home), verb.join(" "))
    }
  })

  it("of a server that does not run: files as its settings have them, devices renamed and revoked", async () => {
    const home = world.path("idle")
    const paths = HomePaths.server(home)
    const id = "0a".repeat(16)
    await Effect.runPromise(
      Effect.gen(function* () {
        const identity = yield* Identity.loadOrCreateStatic(paths.staticKey)
        yield* Identity.publishKey(paths.serverPublicKey, identity.publicKey)
        yield* Effect.flatMap(Devices, (devices) =>
          devices.enrol({
            id: new Uint8Array(16).fill(0x0a),
            name: "laptop",
            staticKey: new Uint8Array(32).fill(1),
            psk: new Uint8Array(32).fill(2),
            credentialValidUntil: 0
          })
        ).pipe(Effect.provide(Devices.layer(paths.devices)))
      }).pipe(Effect.provide(host))
    )
    const backup = world.path("backup")
    const security = `security: { kdf: argon2id, backup_directory: "${backup}", directory: secrets }`
    Fs.mkdirSync(paths.config)
    Fs.writeFileSync(paths.configFile, `server: { port: 50000, bind: 192.0.2.9 }\n${security}\n`)

    const { stdout } = await world.ok(["sec", "new", "--home", home])
    const file = HomePaths.credentials(HomePaths.join(home, "secrets")).credential
    assert.strictEqual(stdout, `${file}\n`)
    const bytes = Fs.readFileSync(file)
    assert.deepStrictEqual(Fs.readFileSync(HomePaths.credentials(backup).credential), bytes)
    assert.deepInclude(JSON.parse(bytes.toString("utf8")).kdf, { name: "argon2id" })
    const shown = JSON.parse((await world.ok(["sec", "show", "--json", "--home", home, file])).stdout)
    assert.deepInclude(shown, { server_public_ip: "192.0.2.9", server_udp_port: 50_000 })
    assert.strictEqual(Date.parse(shown.valid_until) - Date.parse(shown.valid_from), CredentialFile.VALIDITY_MS)

    Fs.rmSync(backup, { recursive: true })
    Fs.writeFileSync(backup, "in the way")
    const without = await world.ok(["sec", "new", "--home", home])
    assert.strictEqual(without.stdout, `${file}\n`)
    assert.match(without.stderr, /^warn: No backup of the credential file: /)

    await world.ok(["devices", "rename", "laptop", "phone", "--home", home])
    const names = async () =>
      JSON.parse((await world.ok(["devices", "ls", "--json", "--home", home])).stdout).map(
        (device: { id: string; name: string; revokedAt?: number }) =>
          `${device.id} ${device.name}${device.revokedAt === undefined ? "" : " revoked"}`
      )
    assert.deepStrictEqual(await names(), [`${id} phone`])
    assertFails(await world.run(["devices", "rename", "tablet", "x", "--home", home]), 3, /tablet/)
    await world.ok(["devices", "revoke", "phone", "--home", home])
    assert.deepStrictEqual(await names(), [`${id} phone revoked`])
    assertFails(await world.run(["devices", "rename", id, "x", "--home", home]), 1, /was revoked/)
  })

  it("far down the tree have a control socket all the same; a client's own folder keeps its mode", async () => {
    const home = world.path(LONG, "server")
    assert.isAbove(HomePaths.server(home).control.length, 110)
    const port = await freePort()
    const log = world.path("named.log")
    const files = world.path("files")
    const server = world.start([...serverArgs(home, port), "--security-dir", files, "--log-file", log], {
      env: llmEnv(await freePort())
    })
    await server.out(/^Credential file: .*\n/m)
    assert.include(server.stdout, `Credential file: ${HomePaths.credentials(files).credential}`)
    assert.isTrue(Fs.existsSync(log))
    assert.isFalse(Fs.existsSync(HomePaths.server(home).log))
    const status = JSON.parse((await world.ok(["status", "--json", "--home", home])).stdout)
    assert.strictEqual(status.tier, "server")
    const { stdout } = await world.ok(["ping", "--count", "3", "--home", home])
    assert.lengthOf(stdout.trim().split("\n"), 3)

    const client = world.path("client")
    Fs.mkdirSync(client)
    Fs.chmodSync(client, 0o755)
    const sec = world.path("c.sec")
    await world.ok(["sec", "new", "--home", home, "--out", sec])
    const key = HomePaths.server(home).bootstrapKey
    await world.ok(["pair", sec, "--key-file", key, "--name", "travel laptop", "--home", client])
    assert.strictEqual(Fs.statSync(client).mode & 0o777, 0o755)
    assert.strictEqual(Fs.statSync(HomePaths.client(client).identity).mode & 0o777, 0o700)
    const devices = JSON.parse((await world.ok(["devices", "ls", "--json", "--home", home])).stdout)
    assert.deepStrictEqual(
      devices.map(({ name }: { name: string }) => name),
      ["travel laptop"]
    )
  })
})
