/** What the server does not take: more than its quota, more than its disk, anything at all. */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { assertFails, freePort, type Result, type Running, serverArgs, tree, World } from "./Tiers.ts"

const canMount = process.platform === "linux" && process.getuid?.() === 0

describe("limits of files", () => {
  let world: World
  let home = ""
  let client = ""
  let port = 0
  let disk = ""
  let isMounted = false

  /** A server with these lines below `files:` of its settings. */
  const serve = async (settings: ReadonlyArray<string>, base: string): Promise<Running> => {
    Fs.mkdirSync(Path.join(home, "config"), { recursive: true })
    const text = settings.length === 0 ? "" : `files:\n${settings.map((line) => `  ${line}\n`).join("")}`
    Fs.writeFileSync(Path.join(home, "config/server.yaml"), text, { mode: 0o600 })
    const running = world.start([...serverArgs(home, port), "--base-path", base])
    await running.out(/^Listening on UDP .*\n/m)
    return running
  }
  const files = (...args: ReadonlyArray<string>): Promise<Result> =>
    world.run(["files", ...args], { env: { CLAWCHAT_HOME: client } })
  const put = (...args: ReadonlyArray<string>): Promise<Result> => files("put", ...args)

  beforeAll(async () => {
    world = new World()
    home = world.path("s")
    client = world.path("c")
    port = await freePort()
    disk = world.path("disk")
    Fs.mkdirSync(disk)
    const mounted = () => spawnSync("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", disk])
    isMounted = canMount && mounted().status === 0
    Fs.mkdirSync(home, { recursive: true, mode: 0o700 })
    const server = await serve([], world.path("first"))
    const file = world.path("c.sec")
    await world.ok(["sec", "new", "--home", home, "--out", file])
    await world.ok(["pair", file, "--home", client, "--key-file", Path.join(home, "config/bootstrap.key")])
    await server.stop()
    Fs.writeFileSync(world.path("big"), Buffer.alloc(6_000_000, 1))
    Fs.writeFileSync(world.path("small"), "small")
  })
  afterAll(async () => {
    // A server that a failed test has left may still hold it.
    if (isMounted) spawnSync("umount", ["-l", disk])
    await world.end()
  })

  it("more bytes or files than the quota", async () => {
    const base = world.path("quota")
    const server = await serve(["quota_bytes: 1 MiB", "quota_files: 2"], base)
    const refused = await put(world.path("big"))
    assert.strictEqual(refused.code, 1, JSON.stringify(refused))
    assert.match(refused.stderr, /quota/)
    assert.deepStrictEqual(tree(base), {})
    for (const name of ["one", "two"]) assert.strictEqual((await put(world.path("small"), name)).code, 0)
    const third = await put(world.path("small"), "three")
    assert.strictEqual(third.code, 1)
    assert.match(third.stderr, /quota/)
    assert.deepStrictEqual(Object.keys(tree(base)), ["one", "two"])
    await server.stop()
  })

  it("nothing where the tree is read-only", async () => {
    const base = world.path("fixed")
    Fs.mkdirSync(base)
    Fs.writeFileSync(Path.join(base, "here"), "to stay")
    const server = await serve(["read_only: true"], base)
    for (const args of [
      ["rm", "here"],
      ["mv", "here", "there"],
      ["mkdir", "folder"]
    ]) {
      assertFails(await files(...args), 4, /read-only/)
    }
    const refused = await put(world.path("small"))
    assert.strictEqual(refused.code, 4, JSON.stringify(refused))
    assert.strictEqual((await files("cat", "here")).stdout, "to stay")
    assert.deepStrictEqual(tree(base), { here: "to stay" })
    await server.stop()
  })

  it(`more than the disk has${canMount ? "" : " (skipped: needs root on Linux)"}`, { skip: !canMount }, async () => {
    assert.isTrue(isMounted)
    const server = await serve([], disk)
    const refused = await put(world.path("big"))
    assert.strictEqual(refused.code, 1, JSON.stringify(refused))
    assert.match(refused.stderr, /no space|do not fit/)
    assert.deepStrictEqual(tree(disk), {})
    // Nobody knows the size of standard input before it ends.
    const input = "x".repeat(6_000_000)
    const piped = await world.run(["files", "put", "-", "piped"], { env: { CLAWCHAT_HOME: client }, input })
    assert.strictEqual(piped.code, 1, JSON.stringify(piped))
    assert.match(piped.stderr, /no space|do not fit/)
    assert.deepStrictEqual(tree(disk), {})
    assert.strictEqual((await put(world.path("small"))).code, 0)
    // What stands there stays, whole, when what is to take its place does not fit.
    const replacing = await put("--conflict", "overwrite", world.path("big"), "small")
    assert.strictEqual(replacing.code, 1, JSON.stringify(replacing))
    assert.deepStrictEqual(tree(disk), { small: "small" })
    await server.stop()
    Fs.rmSync(Path.join(disk, "small"))
  })

  it(`more than this host's disk has${canMount ? "" : " (skipped: needs root on Linux)"}`, {
    skip: !canMount
  }, async () => {
    assert.isTrue(isMounted)
    const base = world.path("plenty")
    Fs.mkdirSync(base)
    Fs.copyFileSync(world.path("big"), Path.join(base, "big"))
    for (let i = 0; i < 80; i++) Fs.writeFileSync(Path.join(base, `${i}`), Buffer.alloc(60_000, 1))
    const server = await serve([], base)
    Fs.writeFileSync(Path.join(disk, "big"), "old")
    const refused = await files("get", "--conflict", "overwrite", "big", disk)
    assert.strictEqual(refused.code, 1, JSON.stringify(refused))
    assert.match(refused.stderr, /no space|do not fit/)
    assert.deepStrictEqual(tree(disk), { big: "old" })
    // Small ones are written until there is no room: those are whole, of the others nothing is there.
    const many = await files("get", "-r", "--quiet", "/", Path.join(disk, "many"))
    assert.strictEqual(many.code, 1, JSON.stringify(many))
    assert.match(many.stderr, /no space|do not fit/)
    const { big, ...rest } = tree(disk)
    assert.strictEqual(big, "old")
    const whole = Object.values(rest).filter((content) => content !== "folder")
    assert.isAbove(whole.length, 20)
    for (const content of whole) assert.strictEqual(content.length, 60_000)
    await server.stop()
  })
})
