/** `clawchat history`: the real programs, with the offline assistant. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { assertFails, Tiers, World } from "./Tiers.ts"

describe("clawchat history", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  const history = (...args: ReadonlyArray<string>) => world.run(["history", ...args, "--home", home])
  const json = async (...args: ReadonlyArray<string>): Promise<ReadonlyArray<Record<string, unknown>>> => {
    const { stdout } = await world.ok(["history", ...args, "--json", "--home", home])
    return JSON.parse(stdout)
  }
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world)
    home = await tiers.pair("c")
    await world.ok(["chat", "say albatross", "--home", home])
    await world.ok(["chat", "say pelican", "-c", "birds", "--home", home])
  })
  afterAll(() => world.end())

  it("lists, shows and finds", async () => {
    assert.deepStrictEqual(
      (await json("ls")).map(({ messages, name }) => [name, messages]),
      [
        ["main", 2],
        ["birds", 2]
      ]
    )
    assert.match((await history("ls")).stdout, /^CONVERSATION +MESSAGES +BEGUN \(UTC\)\nmain +2 +20/)
    const shown = await history("show", "-c", "birds", "--limit", "2")
    assert.match(shown.stdout, /^\d{4}-\d\d-\d\d \d\d:\d\d you\nsay pelican\n\n\S+ \S+ assistant\n/)
    assert.deepStrictEqual(
      (await json("show", "birds", "--limit", "1")).map(({ role }) => role),
      ["assistant"]
    )
    const [found] = (await json("search", "PELI")).filter(({ role }) => role === "user")
    assert.deepInclude(found, { conversation: "birds", excerpt: "say pelican" })
    assert.deepStrictEqual(await json("search", "peli", "-c", "main"), [])
  })

  it("exports to stdout and into a private file", async () => {
    const file = world.path("out.json")
    await world.ok(["history", "export", "--json", "-o", file, "--home", home])
    if (process.platform !== "win32") assert.strictEqual(Fs.statSync(file).mode & 0o777, 0o600)
    const written = Fs.readFileSync(file, "utf8")
    assert.strictEqual(JSON.parse(written).messages[0].text, "say albatross")
    assert.strictEqual((await history("export", "--json")).stdout, written)
    const { stdout } = await world.ok(["history", "export", "birds", "--home", home])
    assert.match(stdout, /^# birds\n\nBegun [^\n]+\n\n## You · [^\n]+\n\nsay pelican\n/)
    assertFails(await history("export", "nowhere", "-o", world.path("none")), 3, /no conversation "nowhere"/)
    assertFails(await history("export", "-o", world.path("no", "folder")), 1, /-o .*: ENOENT/)
    assert.deepStrictEqual(
      Fs.readdirSync(world.folder).filter((name) => name.includes("none") || name.endsWith(".part")),
      []
    )
  })

  it("renames, and removes for good", async () => {
    await world.ok(["history", "rename", "birds", "gulls", "--home", home])
    assertFails(await history("rename", "gulls", "main"), 1, /already/)
    assert.deepInclude(await json("rm", "gulls"), { conversation: "gulls", messages: 2 })
    assertFails(await history("rm", "gulls"), 3, /no conversation "gulls"/)
    assert.deepStrictEqual(
      (await json("ls")).map(({ name }) => name),
      ["main"]
    )
    const folder = Path.join(tiers.home, "llm")
    for (const name of Fs.readdirSync(folder).filter((each) => each.startsWith("clawchat.db"))) {
      assert.isFalse(Fs.readFileSync(Path.join(folder, name)).includes("pelican"), name)
    }
  })

  it("says what is wrong with what it is given", async () => {
    assertFails(await history("rm"), 2, /missing/)
    assertFails(await history("show", "../x"), 2, /the name of a conversation/)
    assertFails(await history("show", "a", "-c", "b"), 2, /one conversation/)
    assertFails(await history("show", "nowhere"), 3, /no conversation "nowhere"/)
  })
})
