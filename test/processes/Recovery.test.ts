/** Tiers that are killed outright and come back: nobody has to start anything else again, and nothing said is lost. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { PORT_PERIOD_MS } from "../../src/domain/protocol/Constants.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { assertNoStacks, type Running, Tiers, World } from "./Tiers.ts"

const count = (text: string, pattern: RegExp): number => Array.from(text.matchAll(pattern)).length

/** The port that a server says it listens on. */
const portOf = (stdout: string): number => Number(/^Listening on UDP \S+:(\d+)$/m.exec(stdout)?.[1])

/** Ports that the server's schedule has by now. */
const scheduled = (serverHome: string): ReadonlyArray<number> => {
  const seed = Buffer.from(Fs.readFileSync(Path.join(serverHome, "identity/port.seed"), "utf8").trim(), "hex")
  return PortSchedule.candidates(PortSchedule.make(primitives, Uint8Array.from(seed), PORT_PERIOD_MS), Date.now())
}

describe.skipIf(process.platform === "win32")("tiers that are killed and come back", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world)
    home = await tiers.pair("c")
  })
  afterAll(() => world.end())

  const chat = async (conversation: string): Promise<Running> => {
    const running = world.start(["chat", "--home", home, "-c", conversation, "--timeout", "25"], { open: true })
    await ask(running, "before")
    return running
  }
  const ask = async (running: Running, word: string): Promise<void> => {
    running.write(`${word}\n`)
    await running.out(new RegExp(`> ${word}\\b`))
  }
  /** Everything was asked and answered exactly once. */
  const assertOnce = async (conversation: string, words: ReadonlyArray<string>): Promise<void> => {
    const history = (await world.ok(["chat", "--home", home, "-c", conversation], { input: "/history 100\n" })).stdout
    const asked = Array.from(history.matchAll(/^you: (.*)$/gm), ([, word]) => word)
    assert.deepStrictEqual(asked, [...words])
    assert.strictEqual(count(history, /^assistant: /gm), words.length)
  }

  it("a server that is killed and started again: the running client goes on", async () => {
    const running = await chat("server")
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
    await assertOnce("server", ["before", "between", "after"])
  })

  it("an llm tier that is killed: the server says so, the client is told, and its answer comes later", async () => {
    const running = await chat("llm")
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
    const late = await world.run(["chat", "anyone?", "--home", home, "-c", "other", "--timeout", "0.5"])
    assert.deepInclude(late, { code: 75, stdout: "" })
    assert.match(late.stderr, /^waiting for the assistant\nclawchat: the assistant did not come back [^\n]+\n$/)
    await tiers.startLlm()
    await running.out(/> between\b/)
    await ask(running, "after")
    running.end()
    assert.deepInclude(await running.exit(), { code: 0 })
    await assertOnce("llm", ["before", "between", "after"])
  })

  it("both killed, started again the other way round", async () => {
    const running = await chat("both")
    await Promise.all([tiers.server.stop("SIGKILL"), tiers.llm.stop("SIGKILL")])
    running.write("between\n")
    const server = tiers.startServer()
    await tiers.server.out(/^Listening on UDP /m)
    await tiers.startLlm()
    await server
    await running.out(/> between\b/)
    running.end()
    assert.deepInclude(await running.exit(), { code: 0 })
    await assertOnce("both", ["before", "between"])
  })

  it("a server without --port is where its schedule has it, and devices find it there", async () => {
    await tiers.server.stop()
    const args = ["server", "--home", tiers.home, "--bind", "127.0.0.1", "--ip", "127.0.0.1"]
    for (const signal of ["SIGKILL", "SIGTERM"] as const) {
      const server = await tiers.startServer(args)
      assert.include(scheduled(tiers.home), portOf(server.stdout))
      await world.ok(["status", "--home", home])
      assert.deepInclude(await server.stop(signal), signal === "SIGKILL" ? { signal } : { code: 0 })
    }
    await tiers.startServer()
    await world.ok(["status", "--home", home])
  })

  it("and none of it shows a stack", () => assertNoStacks(world.output()))
})
