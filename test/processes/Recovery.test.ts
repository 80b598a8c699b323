/** Tiers that are killed outright and come back: nobody has to start anything else again, and nothing said is lost. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { PORT_PERIOD_MS } from "../../src/domain/protocol/Constants.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { assertNoStacks, inWorld, type Running, serverArgs, Tiers, type World } from "./Tiers.ts"

const count = (text: string, pattern: RegExp): number => Array.from(text.matchAll(pattern)).length

/** The port that a server says it listens on. */
const portOf = (stdout: string): number => Number(/^Listening on UDP \S+:(\d+)$/m.exec(stdout)?.[1])

/** Ports that the server's schedule has by now. */
const scheduled = (serverHome: string): ReadonlyArray<number> => {
  const seed = Buffer.from(Fs.readFileSync(Path.join(serverHome, "identity/port.seed"), "utf8").trim(), "hex")
  return PortSchedule.candidates(PortSchedule.make(primitives, Uint8Array.from(seed), PORT_PERIOD_MS), Date.now())
}

/** Tiers and a device of theirs. */
interface House {
  readonly world: World
  readonly tiers: Tiers
  readonly home: string
}

const inHouse = (test: (house: House) => Promise<void>) =>
  inWorld(async (world) => {
    const tiers = await Tiers.start(world)
    await test({ world, tiers, home: await tiers.pair("c") })
    assertNoStacks(world.output())
  })

const ask = async (running: Running, word: string): Promise<void> => {
  running.write(`${word}\n`)
  await running.out(new RegExp(`> ${word}\\b`))
}

const chat = async ({ home, world }: House): Promise<Running> => {
  const running = world.start(["chat", "--home", home, "--timeout", "25"], { open: true })
  await ask(running, "before")
  return running
}

/** Everything was asked and answered exactly once. */
const assertOnce = async ({ home, world }: House, words: ReadonlyArray<string>): Promise<void> => {
  const history = (await world.ok(["chat", "--home", home], { input: "/history 100\n" })).stdout
  const asked = Array.from(history.matchAll(/^you: (.*)$/gm), ([, word]) => word)
  assert.deepStrictEqual(asked, [...words])
  assert.strictEqual(count(history, /^assistant: /gm), words.length)
}

// At once, for most of the time nobody does anything: a session is dead after so much silence.
describe.skipIf(process.platform === "win32")("tiers that are killed and come back", { concurrent: true }, () => {
  it(
    "a server that is killed and started again: the running client goes on",
    inHouse(async (house) => {
      const { tiers } = house
      const running = await chat(house)
      await tiers.server.stop("SIGKILL")
      // Asked of nobody; a server that is back answers it.
      running.write("between\n")
      await tiers.startServer()
      await running.out(/> between\b/)
      await tiers.server.stop("SIGKILL")
      await tiers.startServer()
      await ask(running, "after")
      running.end()
      assert.deepInclude(await running.exit(), { code: 0 })
      assert.strictEqual(count(running.stdout, /> between\b/g), 1)
      await assertOnce(house, ["before", "between", "after"])
    })
  )

  it(
    "an llm tier that is killed: the server says so, the client is told, and its answer comes later",
    inHouse(async (house) => {
      const { home, tiers, world } = house
      const running = await chat(house)
      const from = tiers.server.stderr.length
      await tiers.llm.stop("SIGKILL")
      // Before and after the server has noticed.
      running.write("between\n")
      const start = performance.now()
      await running.err(/^waiting for the assistant$/m)
      assert.isBelow(performance.now() - start, 5000)
      await tiers.server.err(/LLM connection lost/, from)
      const status = JSON.parse((await world.ok(["status", "--json", "--home", tiers.home])).stdout)
      assert.isFalse(status.llm.connected)
      assert.match((await world.ok(["status", "--home", home])).stdout, /^llm tier: +away for /m)
      const late = await world.run(["chat", "anyone?", "--home", home, "-c", "other", "--timeout", "3"])
      assert.deepInclude(late, { code: 75, stdout: "" })
      assert.match(late.stderr, /^waiting for the assistant\nclawchat: the assistant did not come back [^\n]+\n$/)
      await tiers.startLlm()
      await running.out(/> between\b/)
      await ask(running, "after")
      running.end()
      assert.deepInclude(await running.exit(), { code: 0 })
      await assertOnce(house, ["before", "between", "after"])
    })
  )

  it(
    "both killed, started again the other way round",
    inHouse(async (house) => {
      const { tiers } = house
      const running = await chat(house)
      await Promise.all([tiers.server.stop("SIGKILL"), tiers.llm.stop("SIGKILL")])
      running.write("between\n")
      const server = tiers.startServer()
      await tiers.server.out(/^Listening on UDP /m)
      await tiers.startLlm()
      await server
      await running.out(/> between\b/)
      running.end()
      assert.deepInclude(await running.exit(), { code: 0 })
      await assertOnce(house, ["before", "between"])
    })
  )

  it(
    "a server without --port is where its schedule has it, and devices find it there",
    inHouse(async ({ home, tiers, world }) => {
      await tiers.server.stop()
      for (const signal of ["SIGKILL", "SIGTERM"] as const) {
        const server = await tiers.startServer(serverArgs(tiers.home))
        assert.include(scheduled(tiers.home), portOf(server.stdout))
        await world.ok(["status", "--home", home])
        assert.deepInclude(await server.stop(signal), signal === "SIGKILL" ? { signal } : { code: 0 })
      }
      await tiers.startServer()
      await world.ok(["status", "--home", home])
    })
  )
})
