/** What goes wrong in daily life: one line that says what to do, the exit code that scripts rely on, and no harm done. */
import * as Fs from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as BootstrapKey from "../../src/programs/BootstrapKey.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import {
  assertFails,
  assertNoSecrets,
  assertNoStacks,
  hasProc,
  llmEnv,
  serverArgs,
  Tiers,
  tree,
  World,
  whyNoProc
} from "./Tiers.ts"

const HOUR_MS = 3_600_000

describe.skipIf(process.platform === "win32")("what the program refuses", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world)
    home = await tiers.pair("c")
  })
  afterAll(() => world.end())

  it("a second tier of the same kind on one home", async () => {
    const again = serverArgs(tiers.home, tiers.port + 1)
    assertFails(await world.run(again), 75, /A server already runs on this home/)
    const llm = await world.run(["llm", "--home", tiers.home], { env: llmEnv(tiers.llmPort) })
    assertFails(llm, 75, /An llm tier already runs on this home/)
    await world.ok(["status", "--home", home])
  })

  it("a port that somebody else has", async () => {
    const server = await world.run(serverArgs(world.path("other"), tiers.port))
    assertFails(server, 1, new RegExp(`${tiers.port}`))
    const llm = await world.run(["llm", "--home", world.path("other")], { env: llmEnv(tiers.llmPort) })
    assertFails(llm, 1, new RegExp(`${tiers.llmPort}`))
  })

  // There mkdir(2) says "no such file or directory" although the parent stands.
  it.skipIf(!hasProc)(`a home that cannot be made${whyNoProc}`, async () => {
    for (const verb of ["server", "llm", "up"]) {
      assertFails(
        await world.run([verb, "--home", "/proc/clawchat"]),
        1,
        /\/proc\/clawchat: no folder can be made here/
      )
    }
    Fs.writeFileSync(world.path("file"), "")
    assertFails(await world.run(["up", "--home", world.path("file/h")]), 1, /file\/h: [^\n]*\(ENOTDIR\)/)
    for (const key of ["CLAWCHAT_CONTEXT_DIR", "CLAWCHAT_BASE_PATH"]) {
      const llm = await world.run(["llm", "--home", world.path("proc")], { env: { [key]: "/proc/clawchat" } })
      assertFails(llm, 1, /ENOENT/)
    }
  })

  it("mistakes in the settings, with file, line and key", async () => {
    const yaml = world.path("y/config/server.yaml")
    Fs.mkdirSync(world.path("y/config"), { recursive: true })
    const args = ["server", "--home", world.path("y")]
    Fs.writeFileSync(yaml, "# a comment\nserver:\n  prot: 1\n")
    for (const verb of ["server", "llm", "up"]) {
      const wrong = await world.run([verb, "--home", world.path("y")])
      assertFails(wrong, 2, /config\/server\.yaml:3: server\.prot: unknown key; did you mean server\.port\?/)
    }
    Fs.writeFileSync(yaml, "networking:\n  idle_timeout: soon\n")
    assertFails(await world.run(args), 2, /config\/server\.yaml:2: networking\.idle_timeout: expected [^\n]*"soon"/)
    Fs.writeFileSync(yaml, "")
    assertFails(await world.run([...args, "--port", "70000"]), 2, /--port: expected/)
    assertFails(await world.run(args, { env: { CLAWCHAT_SERVER_PORT: "x" } }), 2, /CLAWCHAT_SERVER_PORT/)
    assertFails(await world.run(["server", "--config", "nowhere.yaml"]), 2, /nowhere\.yaml/)
    assert.deepStrictEqual(tree(world.path("y")), { config: "folder", "config/server.yaml": "" })
  })

  it("mistakes on the command line", async () => {
    assertFails(await world.run(["frobnicate"]), 2, /Unknown subcommand "frobnicate"/)
    assertFails(await world.run(["status", "--frob"]), 2, /--frob/)
    assertFails(await world.run(["chat", "--timeout", "soon", "hi"]), 2, /--timeout/)
    assertFails(await world.run(["pair"]), 2, /file/)
    const bare = await world.run(["files"])
    assert.deepInclude(bare, { code: 2, stdout: "" })
    assert.match(bare.stderr, /\n {2}clawchat files <subcommand>/)
  })

  it("a provider without its key, and names the variable", async () => {
    const llm = await world.run(["llm", "--provider", "openai", "--home", world.path("p")])
    assertFails(llm, 2, /OPENAI_API_KEY/)
    const up = await world.run(["up", "--home", world.path("q")], { env: { CLAWCHAT_LLM_PROVIDER: "anthropic" } })
    assertFails(up, 2, /ANTHROPIC_API_KEY/)
    assert.deepStrictEqual(world.processes().length, 2)
  })

  it("everything on a home that is not paired", async () => {
    const none = ["--home", world.path("n")]
    for (const args of [["chat", "hi"], ["chat"], ["status"], ["ping"], ["files", "ls"], ["devices", "ls"]]) {
      assertFails(await world.run([...args, ...none], { input: "hi\n" }), 4, /not paired/)
    }
  })

  it("what is not there, or not allowed, below the base path", async () => {
    assertFails(await world.run(["files", "ls", "nothing", "--home", home]), 3, /nothing/)
    assertFails(await world.run(["files", "stat", "../config/bootstrap.key", "--home", home]), 2, /\.\./)
    Fs.symlinkSync(tiers.keyFile, `${tiers.home}/data/link`)
    Fs.symlinkSync(`${tiers.home}/config`, `${tiers.home}/data/folder-link`)
    assertFails(await world.run(["files", "stat", "folder-link/bootstrap.key", "--home", home]), 1, /folder-link/)
    const link = await world.ok(["files", "stat", "link", "--json", "--home", home])
    assert.deepInclude(JSON.parse(link.stdout), { kind: "link" })
  })

  /** Runs `pair` in a paired and in an empty home, and compares what stands there before and after. */
  const refuses = async (file: string, code: number, pattern: RegExp, keyFile = tiers.keyFile) => {
    for (const at of [home, world.path("new")]) {
      const before = tree(at)
      assertFails(await world.run(["pair", file, "--home", at, "--key-file", keyFile]), code, pattern)
      assert.deepStrictEqual(tree(at), before)
    }
  }

  it("credential files that are tampered with, open to others, missing or no files", async () => {
    const file = await tiers.credential("t.sec")
    const bytes = Fs.readFileSync(file, "utf8")
    const at = bytes.indexOf('"ciphertext"') + 40
    const flipped = bytes.slice(0, at) + (bytes[at] === "A" ? "B" : "A") + bytes.slice(at + 1)
    Fs.writeFileSync(world.path("flipped.sec"), flipped, { mode: 0o600 })
    await refuses(world.path("flipped.sec"), 4, /does not open/)
    Fs.writeFileSync(world.path("junk.sec"), "junk", { mode: 0o600 })
    await refuses(world.path("junk.sec"), 4, /is not a credential file/)
    Fs.symlinkSync(file, world.path("link.sec"))
    await refuses(world.path("link.sec"), 4, /symbolic link/)
    await refuses(world.path("missing.sec"), 3, /does not exist/)
    Fs.chmodSync(file, 0o644)
    await refuses(file, 4, /chmod 600/)
    Fs.chmodSync(file, 0o600)
    await world.ok(["pair", file, "--home", world.path("t"), "--key-file", tiers.keyFile])
  })

  it("the wrong bootstrap key, none, or one that others may read", async () => {
    const file = await tiers.credential("w.sec")
    const wrong = world.path("wrong.key")
    Fs.writeFileSync(wrong, "a-key-that-is-not-the-server's-own\n", { mode: 0o600 })
    await refuses(file, 4, /does not open/, wrong)
    await refuses(file, 3, /no key file/, world.path("no.key"))
    Fs.writeFileSync(wrong, "short\n")
    await refuses(file, 1, /at least 16/, wrong)
    Fs.chmodSync(wrong, 0o644)
    await refuses(file, 1, /chmod 600/, wrong)
    const none = await world.run(["pair", file, "--home", world.path("new")])
    assertFails(none, 2, /CLAWCHAT_BOOTSTRAP_KEY/)
  })

  const layers = Layer.mergeAll(CryptoNode.layer, SecureFileStoreNode.layer)
  const shifted = (from: string, to: string, byMs: number) =>
    Effect.gen(function* () {
      const key = yield* BootstrapKey.fromFile(tiers.keyFile)
      const content = yield* CredentialFiles.open(Fs.readFileSync(from), key, from)
      const { next_rotation, timestamp, valid_from, valid_until } = content
      const moved = {
        ...content,
        timestamp: timestamp + byMs,
        valid_from: valid_from + byMs,
        valid_until: valid_until + byMs,
        next_rotation: next_rotation + byMs
      }
      Fs.writeFileSync(to, yield* CredentialFiles.seal(moved, key), { mode: 0o600 })
    }).pipe(Effect.provide(layers))

  it.live("credential files of yesterday and of tomorrow", () =>
    Effect.gen(function* () {
      const file = yield* Effect.promise(() => tiers.credential("o.sec"))
      yield* shifted(file, world.path("old.sec"), -HOUR_MS)
      yield* Effect.promise(() => refuses(world.path("old.sec"), 4, /expired at/))
      yield* shifted(file, world.path("early.sec"), HOUR_MS)
      yield* Effect.promise(() => refuses(world.path("early.sec"), 4, /not valid before/))
    })
  )

  it("a credential file that another device has used, with silence on the wire and an alarm at the server", async () => {
    const file = await tiers.credential("u.sec")
    await world.ok(["pair", file, "--home", world.path("u"), "--key-file", tiers.keyFile])
    const from = tiers.server.stderr.length
    const args = ["pair", file, "--home", world.path("v"), "--key-file", tiers.keyFile, "--timeout", "1.5"]
    assertFails(await world.run(args), 69, /was used or replaced already/)
    await tiers.server.err(/ALARM: a used credential file was used again/, from)
    assertFails(await world.run(["status", "--home", world.path("v")]), 4, /not paired/)
    // The device that it enrolled may come with it again.
    await world.ok(["pair", file, "--home", world.path("u"), "--key-file", tiers.keyFile])
  })

  it("to wait for a server that is gone longer than it was told to", async () => {
    const file = await tiers.credential("z.sec")
    await tiers.server.stop("SIGKILL")
    for (const args of [["status"], ["ping"], ["files", "ls"], ["devices", "ls"], ["chat", "hi"], ["chat"]]) {
      const start = performance.now()
      const result = await world.run([...args, "--home", home, "--timeout", "0.5"], { input: "hi\n" })
      assert.deepInclude(result, { code: 69, stdout: "" })
      assert.match(result.stderr, /^(waiting for a connection to the server\n)?clawchat: [^\n]+\n$/)
      // Twenty seconds are the time without --timeout.
      assert.isBelow(performance.now() - start, 15_000)
    }
    const pair = ["pair", file, "--home", world.path("z"), "--key-file", tiers.keyFile, "--timeout", "0.5"]
    assertFails(await world.run(pair), 69, /does not answer/)
    assertFails(await world.run(["ping", "--home", world.path("s2"), "--timeout", "0.5"]), 4, /not paired/)
    await tiers.startServer()
    await world.ok([...pair.slice(0, -2)])
  })

  it("and none of it shows a stack or a secret", () => {
    assertNoStacks(world.output())
    assertNoSecrets(world)
  })
})
