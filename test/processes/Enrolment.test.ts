/**
 * Pairing that is cut short: client or server is killed outright at each change of a file that it makes meanwhile. What
 * is left must lead on, by the file or by the device: never is neither of them good.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Here from "./Here.ts"
import { assertNoStacks, freePort, type Result, type Running, serverArgs, tree, World } from "./Tiers.ts"

/** Changes at which to kill, at most; pairing makes fewer on the server's side. */
const STEPS = 20
/** Servers at once: after each kill the device tries again only seconds later. */
const AT_ONCE = 4
/** Milliseconds after which something hangs: each step starts processes, on however busy a machine. */
const HANGS_MS = 600_000

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

/** A server, its home and its port. */
interface House {
  readonly home: string
  readonly port: number
  server: Running
  /** Devices that were paired with it. */
  devices: number
}

describe.skipIf(process.platform === "win32")("pairing that is cut short", () => {
  let world: World
  const houses: Array<House> = []
  let said = ""
  beforeAll(() => {
    world = new World()
  })
  afterAll(() => world.end())

  const startServer = async (home: string, port: number): Promise<Running> => {
    const server = world.start(serverArgs(home, port))
    await server.out(/^Listening on UDP /m)
    return server
  }
  const found = async (name: string): Promise<House> => {
    const home = world.path(name)
    const port = await freePort()
    const house = { home, port, server: await startServer(home, port), devices: 0 }
    await house.server.out(/^Credential file: /m)
    houses.push(house)
    return house
  }

  /** What is not killed needs no process of its own. */
  const run = async (args: ReadonlyArray<string>): Promise<Result> => {
    const result = await Here.run(args)
    said += result.stdout + result.stderr
    return result
  }
  const ok = async (args: ReadonlyArray<string>): Promise<string> => {
    const { code, stderr, stdout } = await run(args)
    assert.strictEqual(code, 0, stderr)
    return stdout
  }
  const credential = async (house: House, name: string): Promise<string> => {
    const file = world.path(`${name}.sec`)
    await ok(["sec", "new", "--home", house.home, "--out", file])
    house.devices++
    return file
  }
  const pairing = (house: House, file: string, home: string): ReadonlyArray<string> => {
    const key = Path.join(house.home, "config/bootstrap.key")
    return ["pair", file, "--home", home, "--key-file", key, "--timeout", "25"]
  }
  const status = (home: string) => run(["status", "--home", home, "--timeout", "25"])

  /** The device works, or the file makes it work. */
  const assertLeadsOn = async (house: House, home: string, file: string, step: number): Promise<"device" | "file"> => {
    const first = await status(home)
    if (first.code === 0) return "device"
    const again = world.start(pairing(house, file, home))
    const { code } = await again.exit()
    const about = `step ${step}: ${first.stderr}${again.said()}${JSON.stringify(Object.keys(tree(home)))}`
    assert.strictEqual(code, 0, about)
    assert.strictEqual((await status(home)).code, 0, about)
    return "file"
  }

  it("the client killed at every change of its identity", { timeout: HANGS_MS }, async () => {
    const house = await found("s")
    const ways = new Set<string>()
    let killed = 0
    for (let step = 1; step <= STEPS; step++) {
      const home = world.path(`client-${step}`)
      const file = await credential(house, `client-${step}`)
      const running = world.start(pairing(house, file, home))
      const trap = killAt([Path.join(home, "identity")], step, running)
      const { code, signal } = await running.exit()
      if (!trap.close() && code === 0) break
      assert.isTrue(signal === "SIGKILL" || code === 0, running.said())
      if (signal === "SIGKILL") killed++
      ways.add(await assertLeadsOn(house, home, file, step))
    }
    assert.isAtLeast(killed, 5)
    assert.deepStrictEqual([...ways].sort(), ["device", "file"])
  })

  /** Whether a server makes so many changes while its second device pairs; if so it was killed at the last of them. */
  const isKilledAt = async (step: number): Promise<boolean> => {
    const house = await found(`server-${step}`)
    await ok(pairing(house, await credential(house, `owner-${step}`), world.path(`owner-${step}`)))
    const home = world.path(`member-${step}`)
    const file = await credential(house, `member-${step}`)
    const folders = ["identity", "identity/devices", "security", "security/archive"]
    const trap = killAt(
      folders.map((folder) => Path.join(house.home, folder)),
      step,
      house.server
    )
    const running = world.start(pairing(house, file, home))
    const over = await Promise.race([house.server.exit(), running.exit()])
    if (!trap.close()) return false
    assert.isTrue(over.signal === "SIGKILL" || over.code === 0, house.server.said())
    await house.server.exit()
    house.server = await startServer(house.home, house.port)
    // It has tried on meanwhile, and comes through.
    const { code } = await running.exit()
    assert.strictEqual(code, 0, `step ${step}: ${running.said()}`)
    assert.strictEqual((await status(home)).code, 0, `step ${step}: ${house.server.said()}`)
    return true
  }

  it("the server killed at every change that pairing makes", { timeout: HANGS_MS }, async () => {
    let killed = 0
    for (let first = 1; first <= STEPS; first += AT_ONCE) {
      const steps = Array.from({ length: AT_ONCE }, (_, index) => isKilledAt(first + index))
      const came = await Promise.all(steps)
      killed += came.filter((each) => each).length
      if (came.includes(false)) break
    }
    assert.isAtLeast(killed, 4)
  })

  it("and nobody was taken for a thief, or enrolled twice", async () => {
    assert.notInclude(world.output(), "ALARM")
    assertNoStacks(world.output() + said)
    for (const { devices, home } of houses) {
      assert.strictEqual(JSON.parse(await ok(["devices", "ls", "--json", "--home", home])).length, devices, home)
    }
  })
})
