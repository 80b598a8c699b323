/**
 * Pairing that is cut short: client or server is killed outright at each change of a file that it makes meanwhile. What
 * is left must lead on, by the file or by the device: never is neither of them good.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { assertNoStacks, freePort, type Running, serverArgs, tree, World } from "./Tiers.ts"

/** Changes at which to kill, at most; pairing makes fewer on the server's side. */
const STEPS = 20

/** Kills the process at the n-th change in the folders. `close` tells whether it came to that. */
const killAt = (folders: ReadonlyArray<string>, step: number, victim: Running) => {
  let seen = 0
  const watchers = folders.map((folder) => {
    Fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
    return Fs.watch(folder, () => {
      if (++seen === step) victim.kill("SIGKILL")
    })
  })
  return {
    close: (): boolean => {
      for (const watcher of watchers) watcher.close()
      return seen >= step
    }
  }
}

describe.skipIf(process.platform === "win32")("pairing that is cut short", () => {
  let world: World
  let server: Running
  let port = 0
  const serverHome = () => world.path("s")
  const keyFile = () => world.path("s/config/bootstrap.key")

  const startServer = async (): Promise<void> => {
    server = world.start(serverArgs(serverHome(), port))
    await server.out(/^Listening on UDP /m)
  }
  beforeAll(async () => {
    world = new World()
    port = await freePort()
    await startServer()
    await server.out(/^Credential file: /m)
  })
  afterAll(() => world.end())

  const credential = async (name: string): Promise<string> => {
    const file = world.path(`${name}.sec`)
    await world.ok(["sec", "new", "--home", serverHome(), "--out", file])
    return file
  }
  const pair = (file: string, home: string): Running =>
    world.start(["pair", file, "--home", home, "--key-file", keyFile(), "--timeout", "15"])
  const status = (home: string) => world.run(["status", "--home", home, "--timeout", "5"])

  /** The device works, or the file makes it work. */
  const assertLeadsOn = async (home: string, file: string, step: number): Promise<"device" | "file"> => {
    const first = await status(home)
    if (first.code === 0) return "device"
    const again = pair(file, home)
    const { code } = await again.exit()
    const about = `step ${step}: ${first.stderr}${again.said()}${JSON.stringify(Object.keys(tree(home)))}`
    assert.strictEqual(code, 0, about)
    assert.strictEqual((await status(home)).code, 0, about)
    return "file"
  }

  it("the client killed at every change of its identity", { timeout: 120_000 }, async () => {
    const ways = new Set<string>()
    let killed = 0
    for (let step = 1; step <= STEPS; step++) {
      const home = world.path(`client-${step}`)
      const file = await credential(`client-${step}`)
      const running = pair(file, home)
      const trap = killAt([Path.join(home, "identity")], step, running)
      const { code, signal } = await running.exit()
      if (!trap.close() && code === 0) break
      assert.isTrue(signal === "SIGKILL" || code === 0, running.said())
      if (signal === "SIGKILL") killed++
      ways.add(await assertLeadsOn(home, file, step))
    }
    assert.isAtLeast(killed, 5)
    assert.deepStrictEqual([...ways].sort(), ["device", "file"])
  })

  it("the server killed at every change that pairing makes", { timeout: 120_000 }, async () => {
    const folders = ["identity", "identity/devices", "security", "security/archive"]
    let killed = 0
    for (let step = 1; step <= STEPS; step++) {
      const home = world.path(`server-${step}`)
      const file = await credential(`server-${step}`)
      const trap = killAt(
        folders.map((folder) => Path.join(serverHome(), folder)),
        step,
        server
      )
      const running = pair(file, home)
      const over = await Promise.race([server.exit(), running.exit()])
      if (!trap.close()) break
      killed++
      assert.isTrue(over.signal === "SIGKILL" || over.code === 0, server.said())
      await server.exit()
      await startServer()
      // It has tried on meanwhile, and comes through.
      const { code } = await running.exit()
      assert.strictEqual(code, 0, `step ${step}: ${running.said()}`)
      assert.strictEqual((await status(home)).code, 0, `step ${step}: ${server.said()}`)
    }
    assert.isAtLeast(killed, 4)
  })

  it("and nobody was taken for a thief, or enrolled twice", async () => {
    assert.notInclude(world.output(), "ALARM")
    assertNoStacks(world.output())
    const devices = JSON.parse((await world.ok(["devices", "ls", "--json", "--home", serverHome()])).stdout)
    const homes = Fs.readdirSync(world.folder).filter((name) => /^(client|server)-\d+$/.test(name))
    assert.strictEqual(devices.length, homes.length)
  })
})
