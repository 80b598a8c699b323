/** `clawchat up` and `npm start`: all there in seconds, and nothing left however it ends. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { root } from "../Program.ts"
import {
  assertNoStacks,
  freePort,
  hasProc,
  inWorld,
  llmEnv,
  occupy,
  type Running,
  readOr,
  udpPorts,
  udpTable,
  until,
  type World,
  whyNoProc
} from "./Tiers.ts"

/** What `up` has opened on this host while it runs. */
interface Traces {
  readonly tiers: ReadonlyArray<number>
  readonly ports: ReadonlyArray<number>
}

const start = async (world: World, env: Readonly<Record<string, string>> = {}): Promise<Running> =>
  world.start(["up", "--home", world.path("h")], { open: true, env: { ...llmEnv(await freePort()), ...env } })

/** Asks once, so that all three tiers are known to be up. */
const ask = async (up: Running, word: string): Promise<void> => {
  up.write(`${word}\n`)
  await up.out(new RegExp(`> ${word}\\b`))
}

const traces = (world: World): Traces => {
  const tiers = world.processes().filter((pid) => /\0(server|llm)\0/.test(readOr(`/proc/${pid}/cmdline`)))
  return { tiers, ports: tiers.flatMap(udpPorts) }
}

const sockets = ["h/run/control.sock", "h/llm/run/control.sock"]

/** Waits until every process of the world has ended, then looks for what they had open. */
const assertGone = async (world: World, { ports, tiers }: Traces): Promise<void> => {
  assert.strictEqual(tiers.length, 2)
  assert.isAtLeast(ports.length, 2)
  const isOpen = (port: number): boolean => udpTable().some((socket) => socket.port === port)
  await until(() => world.processes().length === 0, "the end of all processes")
  await until(() => !ports.some(isOpen), "the end of their sockets")
}

const records = (world: World): ReadonlyArray<string> => Fs.readdirSync(world.path("h/identity/devices"))

describe.skipIf(!hasProc)(`clawchat up${whyNoProc}`, () => {
  it(
    "answers a pipe, leaves nothing, and needs no new pairing on the same home",
    inWorld(async (world) => {
      const up = await start(world)
      await ask(up, "hello")
      const left = traces(world)
      up.end("/status\n")
      assert.deepInclude(await up.exit(), { code: 0 })
      assert.match(up.stdout, /> hello[\s\S]*\nconversation +main, 2 messages\n$/)
      await assertGone(world, left)
      for (const socket of sockets) assert.isFalse(Fs.existsSync(world.path(socket)), socket)
      assert.strictEqual(records(world).length, 1)

      const again = await world.ok(["up", "--home", world.path("h")], {
        input: "hello again\n/history\n",
        env: llmEnv(await freePort())
      })
      assert.match(again.stdout, /> hello again[\s\S]*\nyou: hello\nassistant: [\s\S]*\nyou: hello again\n/)
      assert.strictEqual(records(world).length, 1)
      assert.deepStrictEqual(world.processes(), [])
    })
  )

  it(
    "a second one on the same home joins the first",
    inWorld(async (world) => {
      const first = await start(world)
      await ask(first, "one")
      const before = world.processes().length
      const second = await world.ok(["up", "--home", world.path("h")], { input: "two\n" })
      assert.match(second.stdout, /> two/)
      assert.strictEqual(world.processes().length, before)
      assert.strictEqual(records(world).length, 1)
      await ask(first, "three")
      first.end()
      assert.deepInclude(await first.exit(), { code: 0 })
      assert.deepStrictEqual(world.processes(), [])
    })
  )

  for (const [signal, code] of [
    ["SIGTERM", 0],
    ["SIGINT", 130]
  ] as const) {
    it(
      `${signal} ends everything with code ${code}`,
      inWorld(async (world) => {
        const up = await start(world)
        await ask(up, "hello")
        const left = traces(world)
        assert.deepInclude(await up.stop(signal), { code })
        await assertGone(world, left)
        for (const socket of sockets) assert.isFalse(Fs.existsSync(world.path(socket)), socket)
        assertNoStacks(world.output())
      })
    )
  }

  it(
    "killed outright, its tiers end too, and the next one works",
    inWorld(async (world) => {
      const up = await start(world)
      await ask(up, "hello")
      const left = traces(world)
      assert.deepInclude(await up.stop("SIGKILL"), { signal: "SIGKILL" })
      await assertGone(world, left)
      const next = await world.ok(["up", "--home", world.path("h")], {
        input: "/history\n",
        env: llmEnv(await freePort())
      })
      assert.match(next.stdout, /^you: hello\n/)
    })
  )

  it(
    "told to end while the tiers start, it leaves nothing",
    inWorld(async (world) => {
      const up = await start(world)
      await until(() => world.processes().length > 1, "a first tier")
      assert.deepInclude(await up.stop(), { code: 0 })
      await until(() => world.processes().length === 0, "the end of all processes")
      assertNoStacks(world.output())
    })
  )

  it(
    "takes another port for the llm tier when its own is taken",
    inWorld(async (world) => {
      const port = await freePort()
      const socket = await occupy(port)
      try {
        const up = await world.ok(["up", "--home", world.path("h")], { input: "hello\n", env: llmEnv(port) })
        assert.match(up.stdout, /> hello/)
      } finally {
        socket.close()
      }
    })
  )

  it(
    "several at once on homes of their own take a port each",
    inWorld(async (world) => {
      const env = llmEnv(await freePort())
      const homes = ["h", "i", "j"]
      const all = homes.map((home) => world.run(["up", "--home", world.path(home)], { input: "hello\n", env }))
      for (const result of await Promise.all(all)) {
        assert.strictEqual(result.code, 0, JSON.stringify(result))
        assert.match(result.stdout, /> hello/)
      }
      assert.deepStrictEqual(world.processes(), [])
    })
  )

  it(
    "a tier that is killed under it is the end, with a word on it",
    inWorld(async (world) => {
      const up = await start(world)
      await ask(up, "hello")
      const server = world.processes().find((pid) => readOr(`/proc/${pid}/cmdline`).includes("\0server\0"))
      process.kill(server ?? assert.fail("no server"), "SIGKILL")
      assert.deepInclude(await up.exit(), { code: 1 })
      assert.match(up.stderr, /^clawchat: The server tier ended \(SIGKILL\)/m)
      await until(() => world.processes().length === 0, "the end of all processes")
    })
  )

  const npm = (process.env.PATH ?? "")
    .split(Path.delimiter)
    .map((folder) => Path.join(folder, "npm"))
    .find((path) => Fs.existsSync(path))
  const npmOptions = async (world: World) => ({
    program: npm ?? "npm",
    cwd: root,
    env: {
      ...llmEnv(await freePort()),
      CLAWCHAT_HOME: world.path("h"),
      npm_config_offline: "true",
      npm_config_update_notifier: "false"
    }
  })

  it.skipIf(npm === undefined)(
    "npm start answers a pipe",
    inWorld(async (world) => {
      const { stdout } = await world.ok(["start", "--silent"], { ...(await npmOptions(world)), input: "hello\n" })
      assert.match(stdout, /> hello/)
      assert.deepStrictEqual(world.processes(), [])
    })
  )

  it.skipIf(npm === undefined)(
    "SIGTERM to npm start leaves nothing",
    inWorld(async (world) => {
      const up = world.start(["start"], { ...(await npmOptions(world)), open: true })
      await ask(up, "hello")
      const left = traces(world)
      await up.stop()
      await assertGone(world, left)
    })
  )
})
