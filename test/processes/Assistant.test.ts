/** The assistant behind three processes and a real SDK: who comes and goes, what is killed, what is paid for. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, afterEach, assert, beforeAll, describe, it } from "@effect/vitest"
import { key } from "../layers/FakeProviders.ts"
import { HeldProvider, says } from "./HeldProvider.ts"
import { assertFails, Tiers, until, World } from "./Tiers.ts"

describe.skipIf(process.platform === "win32")("the assistant in processes of its own", () => {
  let world: World
  let upstream: HeldProvider
  let tiers: Tiers
  let home = ""
  beforeAll(async () => {
    world = new World()
    upstream = new HeldProvider()
    await upstream.start()
    tiers = await Tiers.start(world, { first: "llm", llm: upstream.env })
    home = await tiers.pair("c")
  })
  afterEach(() => {
    assert.deepStrictEqual(upstream.problems, [])
    assert.notInclude(world.output(), key)
    upstream.forget()
  })
  afterAll(async () => {
    await world.end()
    await upstream.stop()
  })

  it("a client killed in mid-answer: another device gets all of it, the rest included, once", async () => {
    const other = await tiers.pair("d")
    const follow = (at: string) => world.ok(["chat", "--follow", "--home", at])
    const first = world.start(["chat", "tell me", "--home", home])
    await upstream.asked(1)
    upstream.write(0, "the first half, ")
    await first.out(/the first half/)
    await first.stop("SIGKILL")
    const second = world.start(["chat", "--follow", "--home", other])
    await second.out(/the first half/)
    upstream.end(0, "the second half")
    assert.strictEqual((await second.exit()).code, 0)
    assert.strictEqual(second.stdout, "the first half, the second half\n")

    // Nobody is there when it ends: who comes next reads it, and nobody after that.
    const third = world.start(["chat", "once more", "--home", home])
    await upstream.asked(2)
    upstream.write(1, "while nobody ")
    await third.out(/while nobody/)
    await third.stop("SIGKILL")
    upstream.end(1, "was there")
    assert.strictEqual((await follow(other)).stdout, "while nobody was there\n")
    assert.strictEqual((await follow(home)).stdout, "")
    assert.strictEqual(upstream.seen.length, 2)
  })

  it("Ctrl-C in the midst of a turn closes the connection upstream; what was done is known to the next question", async () => {
    upstream.script = (index) =>
      index === 0 ? says("", ["file_write", { path: "a.txt", text: "once" }]) : index === 2 ? says("yes") : undefined
    const chat = world.start(["chat", "write it", "-c", "stop", "--allow", "file_write", "--home", home])
    await upstream.asked(2)
    upstream.write(1, "I have wri")
    await chat.out(/I have wri/)
    chat.kill("SIGINT")
    await upstream.left(1)
    assert.strictEqual((await chat.exit()).code, 130)
    assert.strictEqual((await world.ok(["chat", "is it there?", "-c", "stop", "--home", home])).stdout, "yes\n")
    const transcript = upstream.transcript(2)
    assert.strictEqual(transcript.filter((line) => line.startsWith("call ")).length, 1)
    assert.match(transcript.at(-2) ?? "", /^assistant: I have wri/)
  })

  it("the llm tier killed in the midst of a call: the question goes on, nothing is carried out twice", async () => {
    const data = Path.join(tiers.home, "data")
    const written = Path.join(data, "b.txt")
    Fs.mkdirSync(Path.join(data, "many"), { recursive: true })
    // A search that takes its time.
    for (let n = 0; n < 2000; n++) {
      Fs.writeFileSync(Path.join(data, "many", `${n}.txt`), "")
      Fs.truncateSync(Path.join(data, "many", `${n}.txt`), 256 * 1024)
    }
    upstream.script = (index) =>
      index === 0
        ? says("I begin.", ["file_write", { path: "b.txt", text: "once" }], ["file_search", { text: "nowhere" }])
        : says("All done.")
    const chat = world.start(["chat", "write, search", "-c", "kill", "--allow", "file_write", "--home", home])
    await until(() => Fs.existsSync(written), "the file")
    await tiers.llm.stop("SIGKILL")
    Fs.rmSync(written)
    await tiers.startLlm()
    assert.strictEqual((await chat.exit()).code, 0, chat.said())
    assert.strictEqual(chat.stdout, "I begin.\n\nAll done.\n")
    assert.isFalse(Fs.existsSync(written))
    assert.strictEqual(upstream.seen.length, 2)
    const results = upstream.transcript(1).filter((line) => line.startsWith("result "))
    assert.strictEqual(results.length, 2)
    assert.match(results[1] ?? "", /^result call_1: The call failed: it is not known whether this was carried out/)
  })

  it("a budget of one cent: what could pass it is not sent; a clear line, exit code 1", async () => {
    const yaml = "llm:\n  price:\n    input: 1\n    output: 2\n  budget:\n    day: 0.01\n"
    Fs.writeFileSync(Path.join(tiers.home, "config", "server.yaml"), yaml, { mode: 0o600 })
    await tiers.llm.stop()
    await tiers.startLlm()
    upstream.script = () => ({ text: "hello", usage: { input: 3000, output: 500 } })
    assert.strictEqual((await world.ok(["chat", "hi", "-c", "cent", "--home", home])).stdout, "hello\n")
    const refused = await world.run(["chat", "again", "-c", "cent", "--home", home])
    assertFails(refused, 1, /the budget of the day is .*: raise llm\.budget\.day, or wait; nothing was sent$/m)
    assert.strictEqual(upstream.seen.length, 1)
  })
})
