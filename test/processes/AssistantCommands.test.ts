/** The assistant from the command line: memory, schedule, cost, calls that are allowed, answers that outlive their reader. */
import { spawnSync } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { bin } from "../Program.ts"
import * as Here from "./Here.ts"
import { assertFails, assertNoStacks, hasProc, Tiers, World } from "./Tiers.ts"

// util-linux gives a program a terminal with script(1); other systems' take other arguments.
const hasTerminal = hasProc && spawnSync("script", ["--version"]).status === 0

describe.skipIf(process.platform === "win32")("the offline assistant from the command line", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world, { first: "llm" })
    home = await tiers.pair("c")
  })
  afterAll(() => world.end())

  /** A talk reads standard input: it has a process of its own. */
  const run = (...args: ReadonlyArray<string>) =>
    args[0] === "chat" ? world.run([...args, "--home", home]) : Here.run([...args, "--home", home])
  const ok = async (...args: ReadonlyArray<string>): Promise<string> => {
    const result = await run(...args)
    assert.strictEqual(result.code, 0, `${args.join(" ")}: ${JSON.stringify(result)}`)
    return result.stdout
  }
  const json = async (...args: ReadonlyArray<string>) => JSON.parse(await ok(...args, "--json"))

  it("remembers, shows what was changed, and takes it back", async () => {
    assert.match(await ok("chat", "remember that the cat is called Mimi"), /^noted in MEMORY\.md; .*undo 1 /)
    assert.match(
      await ok("memory", "add", "tea,", "not coffee", "--file", "USER.md"),
      /append USER\.md, by hand\n {2}\+ /
    )
    assert.match(await ok("memory", "show"), /- the cat is called Mimi$/m)
    assert.match(await ok("memory", "search", "mimi"), /^MEMORY\.md:\d+: - the cat is called Mimi$/m)
    const log = await json("memory", "log")
    assert.deepStrictEqual(
      log.map(({ file, id, undone }: Record<string, unknown>) => ({ id, file, undone })),
      [
        { id: 2, file: "USER.md", undone: false },
        { id: 1, file: "MEMORY.md", undone: false }
      ]
    )
    assert.strictEqual(log[1].cause.conversation, "main")
    assert.match(await ok("memory", "undo", "1"), /undo MEMORY\.md, takes back 1\n {2}- /)
    assert.notMatch(await ok("memory", "show"), /Mimi/)
    assertFails(await run("memory", "undo", "99"), 3, /99/)
    assertFails(await run("memory", "show", "../../etc/passwd"), 2, /MEMORY\.md, USER\.md/)
    assertFails(await run("memory", "search"), 2, /clawchat memory search WORD/)
    assert.deepStrictEqual(await json("memory", "search", "xyzzy"), [])
  })

  it("keeps a schedule: added, shown in words, run, changed, taken out", async () => {
    const plants = ["plants", "--schedule", "0 9 * * 1", "--command", "what time is it", "--tz", "Europe/Berlin"]
    assert.match(
      await ok("cron", "add", ...plants, "--timeout", "90s", "--catch-up", "skip"),
      /^plants {2}every Monday at 09:00, Europe\/Berlin\n {2}next {2}(?:\d{4}-\d\d-\d\d 09:00(?:, |\n)){5}$/
    )
    assert.strictEqual((await run("cron", "add", ...plants)).code, 1, "the name is taken")
    const next: ReadonlyArray<string> = await json("cron", "next", "plants")
    assert.strictEqual(next.length, 5)
    for (const instant of next) {
      assert.strictEqual(new Date(instant).toISOString(), instant)
      assert.strictEqual(new Date(instant).getUTCDay(), 1)
    }
    assert.match(await ok("cron", "run", "plants", "--wait"), /^It is /)
    const [last] = await json("cron", "runs", "plants")
    assert.deepInclude(last, { job: "plants", status: "ran", acknowledged: true })
    assert.strictEqual(await ok("cron", "results", "--quiet"), "", "who waited has seen it")
    assert.match(await ok("cron", "edit", "plants", "--schedule", "@daily", "--tz", "UTC"), /every day at 00:00, UTC/)
    assert.match(await ok("cron", "disable", "plants"), /^plants \(disabled\)/)
    assert.match(await ok("cron", "enable", "plants", "--quiet"), /^$/)
    const shown = await json("cron", "show", "plants")
    assert.deepInclude(shown.job, { schedule: "@daily", timezone: "UTC", timeoutMs: 90_000, catchUp: "skip" })
    assert.notProperty((await json("cron", "edit", "plants", "--timeout", "default")).job, "timeoutMs")
    await ok("cron", "rm", "plants")
    assert.deepStrictEqual((await json("cron", "ls")).jobs, [])
  })

  it("refuses a schedule that makes no sense, and jobs that are not there", async () => {
    const bad = ["cron", "add", "bad", "--command", "x"]
    assertFails(await run(...bad, "--schedule", "99 * * * *"), 2, /99 is no minute/)
    assertFails(await run(...bad), 2, /--schedule is missing/)
    assertFails(await run(...bad, "--schedule", "@daily", "--timeout", "soon"), 2, /soon/)
    for (const verb of ["next", "run", "rm", "disable", "runs"]) {
      assertFails(await run("cron", verb, "nothing"), 3, /there is no job "nothing"/)
    }
  })

  it("imports a crontab whole or not at all, and names the place of each mistake", async () => {
    const file = world.path("crontab")
    Fs.writeFileSync(file, "0 9 * * 1 water the plants\n0 99 * * * sleep\n")
    const wrong = await run("cron", "import", file)
    assert.strictEqual(wrong.code, 2)
    assert.include(wrong.stderr, `${file}:2:3: 99 is no hour`)
    assert.deepStrictEqual((await json("cron", "ls")).jobs, [])
    Fs.writeFileSync(file, "0 9 * * 1 water the plants\n")
    assert.match((await run("cron", "import", file, "--dry-run")).stderr, /^Would add 1 job$/m)
    assert.deepStrictEqual((await json("cron", "ls")).jobs, [])
    await world.ok(["cron", "import", "-", "--home", home], { input: Fs.readFileSync(file, "utf8") })
    const [job] = (await json("cron", "ls")).jobs
    assert.strictEqual(job.job.command, "water the plants")
    assertFails(await run("cron", "import", world.path("nowhere")), 3, /does not exist/)
  })

  it("says what is wrong with CRON.md itself, keeps the last good jobs, and changes nothing", async () => {
    const file = Path.join(tiers.home, "llm/context/CRON.md")
    const good = Fs.readFileSync(file, "utf8")
    const broken = `${good}\n## Broken\n\n**Schedule**: 61 * * * *\n**Command**: hello\n`
    Fs.writeFileSync(file, broken)
    const list = await run("cron", "ls")
    assert.strictEqual(list.code, 0)
    assert.match(list.stderr, /^CRON\.md:\d+:\d+: .*61 is no minute/m)
    assert.match(list.stdout, /every Monday at 09:00/)
    const added = await run("cron", "add", "more", "--schedule", "@daily", "--command", "x")
    assert.strictEqual(added.code, 1)
    assert.match(added.stderr, /^CRON\.md:\d+:\d+: /m)
    assert.strictEqual(Fs.readFileSync(file, "utf8"), broken)
    Fs.writeFileSync(file, good)
  })

  it("does what is allowed by name, and only that", async () => {
    const target = Path.join(tiers.home, "data/note.txt")
    const refused = await world.ok(["chat", "write note.txt: hello", "--home", home])
    assert.match(refused.stderr, /^denied, nobody is there to ask: write .*\(--allow file_write allows it\)$/m)
    await ok("chat", "write note.txt: hello", "--allow", "file_move,file_trash")
    assert.isFalse(Fs.existsSync(target))
    const answer = JSON.parse(
      await ok("chat", "write note.txt: hello", "--allow", "file_move,file_write", "--json", "--quiet")
    )
    assert.strictEqual(Fs.readFileSync(target, "utf8"), "hello")
    assert.deepInclude(answer, { provider: "offline", stopReason: "end" })
    assert.deepInclude(answer.calls[0], { tool: "file_write", failed: false })
    const reminder = await world.ok([
      ...["chat", "remind me every Monday at 9 to eat", "--allow", "cron_add", "--home", home]
    ])
    assert.match(reminder.stderr, /it needs a person at a terminal/)
    assertFails(await run("chat", "x", "--allow", "rm -rf"), 2, /--allow: expected names of tools/)
    assertFails(await run("chat", "x", "-c", "../x"), 2, /--conversation: expected/)
    assertFails(await run("chat", "--follow", "text"), 2, /--follow/)
  })

  it("takes files along, and says which it does not take", async () => {
    const note = world.path("note.md")
    Fs.writeFileSync(note, "# Hello\n")
    const binary = world.path("noise")
    Fs.writeFileSync(binary, new Uint8Array([0, 255, 1, 254]))
    const large = world.path("large.txt")
    Fs.writeFileSync(large, "x".repeat(4 * 1024 * 1024 - 8))
    await ok("chat", "look at this", "--attach", note, "--attach", large, "-c", "files")
    const [question] = await json("history", "show", "files", "--limit", "2")
    assert.deepStrictEqual(question.attachments, ["note.md", "large.txt"])
    assertFails(await run("chat", "look", "--attach", binary), 2, /neither a text in UTF-8 nor an image/)
    assertFails(await run("chat", "look", "--attach", world.path("nowhere")), 3, /is not there/)
    assertFails(await run("chat", "look", "--attach", world.folder), 2, /is no file/)
    assertFails(await run("chat", "look", "--attach", large, "--attach", large), 2, /at most 4 MiB/)
    assertFails(await run("chat", "--attach", note), 2, /--attach goes with a message/)
  })

  it.skipIf(!hasTerminal)("asks at a terminal", async () => {
    const command = `'${process.execPath}' '${bin}' chat 'write asked.txt: yes' --home '${home}'`
    const asked = world.start(["-qfec", command, "/dev/null"], {
      program: "script",
      open: true,
      env: { TERM: "xterm" }
    })
    await asked.out(/allow\? \[o\]nce, \[c\]onversation, \[d\]eny: /)
    asked.write("o\r")
    assert.strictEqual((await asked.exit()).code, 0)
    assert.match(asked.stdout, /has now 3 bytes/)
    assert.strictEqual(Fs.readFileSync(Path.join(tiers.home, "data/asked.txt"), "utf8"), "yes")
  })

  it("shows no stacks", () => assertNoStacks(world.output()))
})

/** An endpoint that says a beginning at once, and the rest when the test lets it. */
class Slow {
  readonly #server = Http.createServer((request, response) => {
    request.resume()
    if (request.method === "GET") {
      response.writeHead(404).end()
      return
    }
    this.requests++
    response.writeHead(200, { "content-type": "text/event-stream" })
    response.write(this.#piece({ content: "one " }))
    this.#held.push(response)
  })
  readonly #held: Array<Http.ServerResponse> = []
  requests = 0

  #piece(delta: object, finish: string | null = null): string {
    const choices = [{ index: 0, delta, finish_reason: finish }]
    return `data: ${JSON.stringify({ id: "x", object: "chat.completion.chunk", created: 1, model: "m", choices })}\n\n`
  }

  release(): void {
    for (const response of this.#held.splice(0)) {
      response.end(`${this.#piece({ content: "two" })}${this.#piece({}, "stop")}data: [DONE]\n\n`)
    }
  }

  async start(): Promise<Readonly<Record<string, string>>> {
    this.#server.listen(0, "127.0.0.1")
    await once(this.#server, "listening")
    const { port } = this.#server.address() as AddressInfo
    return {
      CLAWCHAT_LLM_PROVIDER: "openai-compatible",
      CLAWCHAT_LLM_BASE_URL: `http://127.0.0.1:${port}/v1`,
      CLAWCHAT_LLM_MODEL: "m"
    }
  }

  stop(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

describe.skipIf(process.platform === "win32")("an answer whose reader is gone", () => {
  let world: World
  let slow: Slow
  let first = ""
  let second = ""
  beforeAll(async () => {
    world = new World()
    slow = new Slow()
    const tiers = await Tiers.start(world, { first: "llm", llm: await slow.start() })
    first = await tiers.pair("first")
    second = await tiers.pair("second")
  })
  afterAll(async () => {
    slow.stop()
    await world.end()
  })

  it("is told when somebody comes later, on whichever device, once", async () => {
    const killed = world.start(["chat", "and now?", "-c", "later", "--home", first])
    await killed.out(/one /)
    await killed.stop("SIGKILL")
    const reading = world.start(["chat", "--follow", "--json", "-c", "later", "--home", second])
    slow.release()
    assert.strictEqual((await reading.exit()).code, 0)
    assert.deepInclude(JSON.parse(reading.stdout), { text: "one two", stopReason: "end", calls: [] })
    assert.include(reading.stderr, "> and now?")
    const again = await world.ok(["chat", "--follow", "--json", "-c", "later", "--home", first])
    assert.strictEqual(again.stdout, "null\n")
    assert.strictEqual(slow.requests, 1)
  })

  it.skipIf(!hasTerminal)("is shown by the next chat at a terminal", async () => {
    const killed = world.start(["chat", "third", "-c", "shown", "--home", first])
    await killed.out(/one /)
    await killed.stop("SIGKILL")
    const command = `'${process.execPath}' '${bin}' chat -c shown --home '${second}'`
    const chat = world.start(["-qfec", command, "/dev/null"], {
      program: "script",
      open: true,
      env: { TERM: "xterm" }
    })
    await chat.out(/while you were away: > third/)
    await chat.out(/one /)
    slow.release()
    await chat.out(/two\r?\n/)
    chat.write("/quit\r")
    assert.strictEqual((await chat.exit()).code, 0)
    assert.strictEqual((chat.stdout.match(/two/g) ?? []).length, 1)
  })

  it("is on the bill", async () => {
    const ok = async (...args: ReadonlyArray<string>): Promise<string> => {
      const result = await Here.run([...args, "--home", first])
      assert.strictEqual(result.code, 0, JSON.stringify(result))
      return result.stdout
    }
    const { lines, total } = JSON.parse(await ok("usage", "--by", "conversation", "--json"))
    assert.include(
      lines.map(({ key }: { readonly key: string }) => key),
      "later"
    )
    assert.strictEqual(total.requests, slow.requests)
    assert.match(await ok("usage"), /^DAY +REQUESTS +IN +CACHED +OUT +COST\n\d{4}-\d\d-\d\d .*\nall /)
    const none = JSON.parse(await ok("usage", "--from", "2020-01", "--to", "2020-02", "--json"))
    assert.strictEqual(none.total.requests, 0)
    assertFails(await Here.run(["usage", "--from", "yesterday", "--home", first]), 2, /--from: expected a day/)
    const { models } = JSON.parse(await ok("models", "--json"))
    assert.deepInclude(models[0], { provider: "openai-compatible", id: "m", current: true })
  })

  it("shows no stacks", () => assertNoStacks(world.output()))
})
