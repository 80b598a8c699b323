/** Scheduled work behind three processes and a real SDK: run by hand and at the start, and killed in between. */
import { afterAll, afterEach, assert, beforeAll, describe, it } from "@effect/vitest"
import { key } from "../layers/FakeProviders.ts"
import { HeldProvider, says } from "./HeldProvider.ts"
import * as Here from "./Here.ts"
import { assertNoStacks, Tiers, World } from "./Tiers.ts"

describe.skipIf(process.platform === "win32")("scheduled work in processes of its own", () => {
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
    upstream.forget()
  })
  afterAll(async () => {
    assertNoStacks(world.output())
    assert.notInclude(world.output(), key)
    await world.end()
    await upstream.stop()
  })

  const cron = async (...args: ReadonlyArray<string>): Promise<string> => {
    const result = await Here.run(["cron", ...args, "--home", home])
    assert.strictEqual(result.code, 0, `cron ${args.join(" ")}: ${JSON.stringify(result)}`)
    return result.stdout
  }
  const runs = async (name: string): Promise<ReadonlyArray<Record<string, unknown>>> =>
    JSON.parse(await cron("runs", name, "--json"))
  const statuses = async (name: string) => (await runs(name)).map(({ status }) => status)
  const restart = async () => {
    const from = tiers.server.stdout.length
    await tiers.llm.stop("SIGKILL")
    await tiers.startLlm()
    await tiers.server.out(/^LLM connection established$/m, from)
  }

  it("runs by hand, with what only reads, and gives the answer", async () => {
    upstream.script = (index) =>
      index === 0 ? says("", ["file_write", { path: "x", text: "x" }], ["time", {}]) : says("water the plants")
    await cron("add", "plants", "--schedule", "0 9 * * 1", "--command", "what is due?")
    assert.strictEqual(await cron("run", "plants", "--wait"), "water the plants\n")
    const [refused, time] = upstream.transcript(1).filter((line) => line.startsWith("result "))
    assert.match(refused ?? "", /refused: the job's policy does not name file_write/)
    assert.notMatch(time ?? "", /failed/)
    assert.deepStrictEqual(await statuses("plants"), ["ran"])
  })

  it("killed while a job runs: its fate is unknown, on record, told once, and it is never run again", async () => {
    await cron("add", "mail", "--schedule", "0 9 * * 1", "--command", "read the mail")
    await cron("run", "mail")
    await upstream.asked(1)
    assert.deepStrictEqual(await statuses("mail"), ["running"])
    await restart()
    assert.deepStrictEqual(await statuses("mail"), ["unknown"])
    assert.match(await cron("runs", "mail"), /unknown/)
    assert.match(await cron("results"), /mail[^\n]*unknown/)
    assert.notMatch(await cron("results"), /mail/)
    await restart()
    assert.deepStrictEqual(await statuses("mail"), ["unknown"])
    assert.strictEqual(upstream.seen.length, 1)
  })

  it("@reboot: once with each start, also after one that was killed over it", async () => {
    await cron("add", "morning", "--schedule", "@reboot", "--command", "say good morning")
    assert.deepStrictEqual(await statuses("morning"), [])
    await restart()
    await upstream.asked(1)
    await restart()
    await upstream.asked(2)
    upstream.write(1, "good morning")
    upstream.end(1, "")
    let found = await statuses("morning")
    while (found[0] === "running") found = await statuses("morning")
    assert.deepStrictEqual(found, ["ran", "unknown"])
    assert.match(upstream.transcript(1).at(-1) ?? "", /^user: .*say good morning/s)
    assert.strictEqual(upstream.seen.length, 2)
  })
})
