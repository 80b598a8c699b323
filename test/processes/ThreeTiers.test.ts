/** A server, an llm tier and clients, each a process with a home of its own, and what every command prints. */
import * as Fs from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { inWorld, Tiers, World } from "./Tiers.ts"

const json = (text: string): Record<string, unknown> => JSON.parse(text)
const list = (text: string): ReadonlyArray<Record<string, unknown>> => {
  const value: unknown = JSON.parse(text)
  return Array.isArray(value) ? value : assert.fail(`no array: ${text}`)
}

describe.skipIf(process.platform === "win32")("server, llm tier and clients as processes", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world, { first: "llm" })
    home = await tiers.pair("c")
  })
  afterAll(() => world.end())

  it("the server and the llm tier print what scripts wait for", () => {
    assert.match(tiers.server.stdout, new RegExp(`^Listening on UDP 127\\.0\\.0\\.1:${tiers.port}$`, "m"))
    assert.match(tiers.llm.stdout, new RegExp(`^Listening on UDP 127\\.0\\.0\\.1:${tiers.llmPort}$`, "m"))
    assert.include(tiers.server.stdout, `\nCredential file: ${tiers.file}\n`)
    assert.match(tiers.server.stdout, /^LLM connection established$/m)
  })

  it(
    "find each other when the server starts first, and the file stands where it is said to",
    inWorld(async (own) => {
      const late = await Tiers.start(own, { first: "server" })
      await late.server.out(/^Credential file: /m)
      assert.isTrue(Fs.existsSync(late.file))
      assert.match(
        late.server.stdout,
        /^Listening on UDP [^\n]+\nCredential file: [^\n]+\nLLM connection established\n$/
      )
    })
  )

  it("pair says who answered, with the key from a file or from the environment", async () => {
    const file = await tiers.credential("d.sec")
    const answer = json(
      (await world.ok(["pair", file, "--home", world.path("d"), "--key-file", tiers.keyFile, "--json"])).stdout
    )
    assert.strictEqual(answer.server, "clawchat")
    assert.strictEqual(answer.remote, `127.0.0.1:${tiers.port}`)
    assert.match(String(answer.device), /^[0-9a-f]{32}$/)
    assert.isBelow(Number(answer.ms), 10_000)

    const second = await tiers.credential("e.sec")
    const key = Fs.readFileSync(tiers.keyFile, "utf8").trim()
    const told = await world.ok(["pair", second, "--home", world.path("e")], { env: { CLAWCHAT_BOOTSTRAP_KEY: key } })
    assert.match(told.stdout, new RegExp(`^Paired with clawchat at 127\\.0\\.0\\.1:${tiers.port} in \\d+ ms\\n$`))
    assert.notInclude(told.stdout + told.stderr, key)

    // From a pipe, where there are no modes to look at.
    const third = Fs.readFileSync(await tiers.credential("f.sec"), "utf8")
    await world.ok(["pair", "-", "--home", world.path("f"), "--key-file", tiers.keyFile], { input: third })
  })

  it("chat answers one question, a question from stdin, and a line each from a pipe", async () => {
    const one = await world.ok(["chat", "hello", "there", "--home", home])
    assert.match(one.stdout, /> hello there/)
    assert.strictEqual(one.stderr, "")
    const stdin = await world.ok(["chat", "-", "--home", home], { input: "two\nlines\n" })
    assert.match(stdin.stdout, /> two\n> lines/)
    const piped = await world.ok(["chat", "--home", home], { input: "first\n\n/status\nsecond\n/quit\nnever\n" })
    assert.match(piped.stdout, /> first[\s\S]*\nconversation +main, 6 messages\n[\s\S]*> second/)
    assert.notInclude(piped.stdout, "never")
    const answer = json((await world.ok(["chat", "hi", "--json", "--home", home])).stdout)
    assert.include(String(answer.text), "> hi")
    assert.strictEqual(answer.provider, "offline")
    const client = await world.ok(["client", "--home", home], { input: "/history 2\n" })
    assert.match(client.stdout, /^you: hi\nassistant: /)
  })

  it("client pairs first when it is given a file", async () => {
    const file = await tiers.credential("g.sec")
    const args = ["client", file, "--home", world.path("g"), "--key-file", tiers.keyFile]
    assert.match((await world.ok(args, { input: "good day\n" })).stdout, /> good day/)
    await world.ok(["status", "--home", world.path("g")])
  })

  it("files ls and stat show the base path", async () => {
    const base = `${tiers.home}/data`
    Fs.mkdirSync(`${base}/folder`)
    Fs.writeFileSync(`${base}/notes.txt`, "12345")
    const entries = list((await world.ok(["files", "ls", "--json", "--home", home])).stdout)
    assert.deepStrictEqual(
      entries.map(({ kind, name }) => [kind, name]),
      [
        ["folder", "folder"],
        ["file", "notes.txt"]
      ]
    )
    assert.deepStrictEqual(list((await world.ok(["files", "ls", "folder", "--json", "--home", home])).stdout), [])
    const text = (await world.ok(["files", "ls", "--home", home])).stdout
    assert.match(
      text,
      /^d +\d+ {2}\d{4}-\d\d-\d\d \d\d:\d\d {2}folder\/\n- +5 {2}\d{4}-\d\d-\d\d \d\d:\d\d {2}notes\.txt\n$/
    )
    const stat = json((await world.ok(["files", "stat", "notes.txt", "--json", "--home", home])).stdout)
    assert.deepInclude(stat, { kind: "file", size: 5 })
    assert.match(
      (await world.ok(["files", "stat", "notes.txt", "--home", home])).stdout,
      /^kind: +file\nsize: +5\nchanged: +\d{4}-\d\d-\d\dT[\d:.]+Z\n$/
    )
  })

  it("status and ping answer for the client's, the server's and the llm tier's home", async () => {
    const server = json((await world.ok(["status", "--json", "--home", tiers.home])).stdout)
    assert.deepInclude(server, { tier: "server", pid: tiers.server.pid, address: `127.0.0.1:${tiers.port}` })
    assert.notProperty(server, "you")
    const client = json((await world.ok(["status", "--json", "--home", home])).stdout)
    assert.deepInclude(client, { tier: "server", sessions: 1 })
    assert.nestedPropertyVal(client, "you.role", "owner")
    assert.nestedPropertyVal(client, "llm.connected", true)
    assert.match(
      (await world.ok(["status", "--home", home])).stdout,
      /^server: [\s\S]*\nllm tier: +connected for [\s\S]*\nyou: /
    )
    const ping = json((await world.ok(["ping", "--json", "--count", "2", "--home", home])).stdout)
    assert.strictEqual(ping.count, 2)
    assert.isAbove(Number(ping.medianMs), 0)
    const lines = (await world.ok(["ping", "--count", "2", "--home", tiers.home])).stdout
    assert.match(lines, /^1: \d+\.\d\d ms\n2: \d+\.\d\d ms\n$/)
  })

  it("devices ls, rename and revoke work from both homes; a revoked device is locked out", async () => {
    const other = await tiers.pair("x")
    const fromServer = list((await world.ok(["devices", "ls", "--json", "--home", tiers.home])).stdout)
    const mine = list((await world.ok(["devices", "ls", "--json", "--home", home])).stdout)
    assert.deepStrictEqual(
      mine.map(({ id, name, role }) => [id, name, role]),
      fromServer.map(({ id, name, role }) => [id, name, role])
    )
    const ids = fromServer.map(({ id }) => String(id))
    assert.deepStrictEqual(
      fromServer.map(({ role }) => role),
      ids.map((_, index) => (index === 0 ? "owner" : "member"))
    )
    // A member sees itself, and may not manage others.
    const theirs = list((await world.ok(["devices", "ls", "--json", "--home", other])).stdout)
    assert.strictEqual(theirs.length, 1)
    const id = String(theirs[0]?.id)
    const denied = await world.run(["devices", "revoke", String(ids[0]), "--home", other])
    assert.deepInclude(denied, { code: 4, stdout: "" })

    await world.ok(["devices", "rename", id, "the tablet", "--home", home])
    assert.match(
      (await world.ok(["devices", "ls", "--home", home])).stdout,
      /^ID +NAME [\s\S]* the tablet +member +away /
    )
    const revoked = json((await world.ok(["devices", "revoke", "the tablet", "--json", "--home", home])).stdout)
    assert.strictEqual(revoked.id, id)
    assert.isNumber(revoked.revokedAt)
    const out = await world.run(["status", "--home", other, "--timeout", "2"])
    // Silence is all that a revoked device gets: to it the server is gone.
    assert.deepInclude(out, { code: 69, stdout: "" })
    assert.match(out.stderr, /^clawchat: [^\n]*does not know this device any more[^\n]*\n$/)
    const again = await world.run(["devices", "revoke", "nobody", "--home", tiers.home])
    assert.deepInclude(again, { code: 3, stdout: "" })
  })

  it("a device that is revoked while it is connected loses its session", async () => {
    const other = await tiers.pair("y")
    const chat = world.start(["chat", "--home", other, "--timeout", "3"], { open: true })
    chat.write("one\n")
    await chat.out(/> one/)
    const shown = list((await world.ok(["devices", "ls", "--json", "--home", tiers.home])).stdout)
    const connected = shown.filter((device) => device.connected === true)
    assert.strictEqual(connected.length, 1)
    await world.ok(["devices", "revoke", String(connected[0]?.id), "--home", tiers.home])
    chat.write("two\n")
    assert.deepStrictEqual((await chat.exit()).code, 69)
    assert.notInclude(chat.stdout, "> two")
  })

  it("sec new, verify and show: secrets only on demand", async () => {
    const made = json((await world.ok(["sec", "new", "--json", "--out", world.path("h.sec"), "--home", home])).stdout)
    assert.strictEqual(made.path, world.path("h.sec"))
    assert.strictEqual(Fs.statSync(world.path("h.sec")).mode & 0o777, 0o600)
    const open = [world.path("h.sec"), "--key-file", tiers.keyFile]
    const verified = json((await world.ok(["sec", "verify", ...open, "--json"])).stdout)
    assert.strictEqual(verified.validUntil, made.validUntil)
    assert.strictEqual(verified.serverName, "clawchat")
    assert.match((await world.ok(["sec", "verify", ...open])).stdout, /^Good until [\d-]+T[\d:.]+Z, for clawchat\n$/)
    const revealed = (await world.ok(["sec", "show", ...open, "--json", "--reveal"])).stdout
    const secret = String(json(revealed).shared_secret)
    assert.strictEqual(Buffer.from(secret, "base64").length, 32)
    for (const args of [
      ["sec", "show", ...open, "--json"],
      ["sec", "show", ...open]
    ]) {
      const { stderr, stdout } = await world.ok(args)
      assert.notInclude(stdout + stderr, secret)
      assert.notInclude(stdout + stderr, Buffer.from(secret, "base64").toString("hex"))
      assert.include(stdout, "server_udp_port")
      assert.include(stdout, String(tiers.port))
    }
  })

  it("version says what it is", async () => {
    const version = json((await world.ok(["version", "--json"])).stdout)
    assert.deepInclude(version, { platform: `${process.platform}-${process.arch}`, protocol: { min: 1, max: 1 } })
    assert.match((await world.ok(["version"])).stdout, /^clawchat \d+\.\d+\.\d+\n$/)
  })

  it("status, devices and sec work on the home of a server that does not run", async () => {
    await tiers.server.stop()
    assert.isAbove(list((await world.ok(["devices", "ls", "--json", "--home", tiers.home])).stdout).length, 1)
    const status = await world.run(["status", "--home", tiers.home])
    assert.notStrictEqual(status.code, 1)
    await tiers.startServer()
    await world.ok(["status", "--home", home])
  })
})
