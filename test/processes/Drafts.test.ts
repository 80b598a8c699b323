/** Messages that outlive the line and the process that took them: the real program, killed outright. */
import { spawnSync } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { bin } from "../Program.ts"
import {
  assertFails,
  assertNoStacks,
  hasProc,
  openToOthers,
  type Running,
  readOr,
  Tiers,
  until,
  World
} from "./Tiers.ts"

// util-linux gives a program a terminal with script(1); other systems' take other arguments.
const hasTerminal = hasProc && spawnSync("script", ["--version"]).status === 0

/** An endpoint that speaks OpenAI's streaming format, says back what it was asked, and remembers it. */
class Upstream {
  readonly asked: Array<string> = []
  readonly #server = Http.createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text
    })
    request.on("end", () => {
      // Before what was said go notes of these days, and the time.
      const content: string = JSON.parse(body).messages.at(-1).content
      const text = content.split("\n").at(-1) ?? ""
      this.asked.push(text)
      const chunk = (delta: object, finish: string | null) =>
        `data: ${JSON.stringify({ id: "x", object: "chat.completion.chunk", created: 1, model: "m", choices: [{ index: 0, delta, finish_reason: finish }] })}\n\n`
      response.writeHead(200, { "content-type": "text/event-stream" })
      response.end(`${chunk({ content: `heard: ${text}` }, null)}${chunk({}, "stop")}data: [DONE]\n\n`)
    })
  })

  async start(): Promise<Readonly<Record<string, string>>> {
    this.#server.listen(0, "127.0.0.1")
    await once(this.#server, "listening")
    const { port } = this.#server.address() as AddressInfo
    return {
      CLAWCHAT_LLM_PROVIDER: "openai-compatible",
      CLAWCHAT_LLM_BASE_URL: `http://127.0.0.1:${port}/v1`,
      CLAWCHAT_LLM_MODEL: "m",
      CLAWCHAT_LLM_API_KEY: "sk-test"
    }
  }

  stop(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

describe.skipIf(process.platform === "win32")("messages given while nobody hears them", () => {
  let world: World
  let tiers: Tiers
  let upstream: Upstream
  let home = ""
  beforeAll(async () => {
    world = new World()
    upstream = new Upstream()
    tiers = await Tiers.start(world, { first: "llm", llm: await upstream.start() })
    home = await tiers.pair("c")
  })
  afterAll(async () => {
    upstream.stop()
    await world.end()
  })

  const drafts = (): ReadonlyArray<string> => {
    const folder = Path.join(home, "drafts")
    return Fs.existsSync(folder) ? Fs.readdirSync(folder).filter((name) => name.endsWith(".json")) : []
  }
  const kept = (count: number): Promise<void> => until(() => drafts().length === count, `${count} drafts`)
  /** A chat at a terminal, and the process that is it. */
  const terminal = async (): Promise<{ readonly running: Running; readonly kill: () => void }> => {
    const before = new Set(world.processes())
    const command = `'${process.execPath}' '${bin}' chat --home '${home}' --timeout 1`
    const running = world.start(["-qfec", command, "/dev/null"], {
      program: "script",
      open: true,
      env: { TERM: "xterm", COLUMNS: "100" }
    })
    await running.out(/main \(connecting|main> /)
    const pid = world
      .processes()
      .find(
        (each) =>
          !before.has(each) && readOr(`/proc/${each}/cmdline`).split("\0").slice(1, 3).join(" ") === `${bin} chat`
      )
    return { running, kill: () => process.kill(pid ?? assert.fail("no chat runs"), "SIGKILL") }
  }
  const heard = async (words: ReadonlyArray<string>): Promise<void> => {
    assert.deepStrictEqual(upstream.asked, [...words])
    const { stdout } = await world.ok(["chat", "--home", home], { input: "/history 100\n" })
    assert.deepStrictEqual(
      Array.from(stdout.matchAll(/^you: (.*)$/gm), ([, word]) => word),
      [...words]
    )
    assert.deepStrictEqual(drafts(), [])
  }

  it.skipIf(!hasTerminal)("at a terminal, which is killed: the next chat sends them, once", async () => {
    const first = await terminal()
    await first.running.out(/main> /)
    first.running.write("before\r")
    await first.running.out(/heard: before/)
    await kept(0)
    await tiers.server.stop("SIGKILL")
    first.running.write("one\r")
    await kept(1)
    first.running.write("two\r")
    await kept(2)
    assert.deepStrictEqual(openToOthers(Path.join(home, "drafts")), [])
    first.kill()
    await first.running.exit()
    assert.strictEqual(drafts().length, 2)

    const second = await terminal()
    await second.running.out(/2 messages kept from an earlier chat, sent as soon as there is a line/)
    await second.running.out(/main \(offline, attempt \d+ (now|in \d+ s), 2 waiting\)> /)
    second.running.write("three\r")
    await second.running.out(/kept; it is sent when the line is back/)
    await tiers.startServer()
    await second.running.out(/heard: three/)
    await kept(0)
    second.running.write("/quit\r")
    assert.strictEqual((await second.running.exit()).code, 0)
    await heard(["before", "one", "two", "three"])
  })

  it("a single one: nothing is left unless it is to be kept, and then it is sent once", async () => {
    upstream.asked.length = 0
    const other = ["-c", "other", "--home", home]
    await tiers.server.stop("SIGKILL")
    const plain = await world.run(["chat", "plain", ...other, "--timeout", "0.5"])
    assert.deepInclude(plain, { code: 69, stdout: "" })
    assert.notMatch(plain.stderr, /kept/)
    assert.deepStrictEqual(drafts(), [])
    const late = await world.run(["chat", "--keep", "first", ...other, "--timeout", "0.5"])
    assert.deepInclude(late, { code: 69, stdout: "" })
    const id = /the message is kept: clawchat drafts send sends it, clawchat drafts rm ([0-9a-f]{8}) drops it/.exec(
      late.stderr
    )?.[1]
    // Killed while it waits.
    const killed = world.start(["chat", "--keep", "second", ...other])
    await kept(2)
    await killed.stop("SIGKILL")
    const doomed = world.start(["chat", "--keep", "third", ...other])
    await kept(3)
    await doomed.stop("SIGKILL")
    const list = JSON.parse((await world.ok(["drafts", "ls", "--home", home, "--json"])).stdout)
    assert.deepStrictEqual(
      list.map(({ conversation, foreign, text }: Record<string, unknown>) => ({ conversation, foreign, text })),
      ["first", "second", "third"].map((text) => ({ conversation: "other", foreign: false, text }))
    )
    assert.strictEqual(list[0].id.slice(0, 8), id)
    await world.ok(["drafts", "rm", list[2].id.slice(0, 13), "--home", home])
    assertFails(await world.run(["drafts", "rm", "zz", "--home", home]), 3, /There is no draft zz/)
    assertFails(await world.run(["drafts", "rm", "--home", home]), 2, /--all/)
    const vain = await world.run(["drafts", "send", "--home", home, "--timeout", "0.5"])
    assert.deepInclude(vain, { code: 69, stdout: "" })
    assert.strictEqual(drafts().length, 2)

    await tiers.startServer()
    const sent = await world.ok(["drafts", "send", "--home", home])
    assert.strictEqual(sent.stdout, "heard: first\nheard: second\n")
    assert.deepStrictEqual(upstream.asked, ["first", "second"])
    assert.deepStrictEqual(drafts(), [])
    assert.match((await world.ok(["drafts", "send", "--home", home])).stderr, /There is nothing to send/)
    assert.match((await world.ok(["drafts", "ls", "--home", home])).stdout, /^ID +CONVERSATION +GIVEN +FOR +TEXT\n$/)
  })

  it("two programs that send at the same time send each once", async () => {
    upstream.asked.length = 0
    await tiers.server.stop("SIGKILL")
    for (const text of ["a", "b"]) {
      const late = await world.run(["chat", "--keep", text, "-c", "twice", "--home", home, "--timeout", "0.2"])
      assert.strictEqual(late.code, 69)
    }
    await tiers.startServer()
    const both = await Promise.all([1, 2].map(() => world.ok(["drafts", "send", "--home", home])))
    assert.deepStrictEqual(both.map(({ stdout }) => stdout).sort(), ["", "heard: a\nheard: b\n"])
    assert.deepStrictEqual(upstream.asked, ["a", "b"])
  })

  it("outlive COMPROMISED, and go to no other server by themselves", async () => {
    upstream.asked.length = 0
    const device = await tiers.pair("d")
    await tiers.server.stop("SIGKILL")
    const late = await world.run(["chat", "--keep", "for the old one", "--home", device, "--timeout", "0.2"])
    assert.strictEqual(late.code, 69)
    await tiers.startServer()
    await world.ok(["compromised", "--yes", "--home", device])
    assert.match((await world.ok(["drafts", "ls", "--home", device])).stdout, /another server +for the old one\n/)
    assertFails(await world.run(["drafts", "send", "--home", device]), 4, /not paired/)
    assertFails(await world.run(["drafts", "ls", "--home", world.path("nowhere")]), 4, /not paired/)
    assert.isFalse(Fs.existsSync(world.path("nowhere")))
    await world.ok(["drafts", "rm", "--all", "--home", device])
    assert.match((await world.ok(["drafts", "ls", "--home", device])).stdout, /^ID [^\n]*\n$/)
    assert.deepStrictEqual(upstream.asked, [])
  })

  it("and none of it shows a stack", () => assertNoStacks(world.output()))
})
