/** The commands below `clawchat files`, as a person types them: what they print, leave behind and end with. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Here from "./Here.ts"
import { assertFails, assertNoStacks, type Result, Tiers, tree, World } from "./Tiers.ts"

const lists = Path.resolve(import.meta.dirname, "../../../shared/vectors/path-traversal")
const hasLists = Fs.existsSync(lists)

/** Ways out of the base that people have written down, and some of our own. */
const waysOut = (outside: string): ReadonlyArray<string> => {
  const written = hasLists
    ? Fs.readdirSync(lists)
        .filter((name) => name.endsWith(".txt"))
        .flatMap((name) => Fs.readFileSync(Path.join(lists, name), "latin1").split(/\r?\n/))
    : []
  const own = [
    "..",
    "../..",
    "../canary",
    "look/../../canary",
    "/..",
    "./../canary",
    "link/canary",
    "..\\canary",
    outside
  ]
  const lines = [...new Set(written)].filter((line) => line !== "" && !line.includes("\0"))
  // The store's own tests take them all.
  return [...own, ...lines.filter((_, index) => index % 9 === 0)]
}

describe("files", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  let base = ""
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world)
    home = await tiers.pair("c")
    base = Path.join(tiers.home, "data")
  })
  afterAll(async () => {
    await world.end()
  })

  let said = ""
  /** In a process of its own where it has an input. */
  const files = async (args: ReadonlyArray<string>, input?: string): Promise<Result> => {
    if (input !== undefined) return world.run(["files", ...args], { env: { CLAWCHAT_HOME: home }, input })
    const result = await Here.run(["files", "--home", home, ...args])
    said += result.stdout + result.stderr
    return result
  }
  const apart = (args: ReadonlyArray<string>): Promise<Result> =>
    world.run(["files", ...args], { env: { CLAWCHAT_HOME: home } })
  const ok = async (args: ReadonlyArray<string>, input?: string): Promise<Result> => {
    const result = await files(args, input)
    assert.strictEqual(result.code, 0, `files ${args.join(" ")}: ${JSON.stringify(result)}`)
    return result
  }
  const lay = (folder: string, all: Readonly<Record<string, string>>): string => {
    for (const [path, content] of Object.entries(all)) {
      const at = Path.join(folder, path)
      Fs.mkdirSync(Path.dirname(at), { recursive: true })
      Fs.writeFileSync(at, content)
    }
    return folder
  }
  const events = (text: string): ReadonlyArray<Record<string, unknown>> =>
    text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line))

  it("look: ls, tree, du, find and cat, with patterns", async () => {
    lay(`${base}/look`, { "a.txt": "one", "b.md": "three", "sub/c.txt": "12345", "sub/\u6f22\u5b57.txt": "x" })
    const names = async (...args: ReadonlyArray<string>) => (await ok(["ls", "--quiet", ...args])).stdout
    assert.strictEqual(await names("look"), "a.txt\nb.md\nsub/\n")
    const alone = await apart(["ls", "--quiet", "look"])
    assert.deepStrictEqual([alone.code, alone.stdout, alone.stderr], [0, "a.txt\nb.md\nsub/\n", ""])
    assertFails(await apart(["cat", "look/nothing"]), 3, /no such file/)
    assert.strictEqual(await names("look/*.txt", "look/sub"), "look/a.txt\nlook/sub/c.txt\nlook/sub/\u6f22\u5b57.txt\n")
    assert.strictEqual(await names("-r", "look"), "a.txt\nb.md\nsub/\nsub/c.txt\nsub/\u6f22\u5b57.txt\n")
    assert.strictEqual(
      (await ok(["tree", "look", "--quiet"])).stdout,
      "/look\n\u251c\u2500\u2500 a.txt\n\u251c\u2500\u2500 b.md\n\u2514\u2500\u2500 sub/\n    \u251c\u2500\u2500 c.txt\n    \u2514\u2500\u2500 \u6f22\u5b57.txt\n"
    )
    assert.match((await ok(["du", "look"])).stdout, /14 B +4 files +\d folders? +\/look\n/)
    const found = await ok(["find", "look", "--name", "*.txt", "--kind", "file"])
    assert.strictEqual(found.stdout, "look/a.txt\nlook/sub/c.txt\nlook/sub/\u6f22\u5b57.txt\n")
    assert.strictEqual((await ok(["cat", "look/a.txt", "look/sub/*"])).stdout, "one12345x")
    assertFails(await files(["ls", "look/*.png"]), 3, /nothing matches/)
    assertFails(await files(["cat", "look/nothing"]), 3, /no such file/)
  })

  it("change: mkdir, mv, cp, rm, and the trash gives back", async () => {
    await ok(["mkdir", "-p", "change/x/y"])
    assertFails(await files(["mkdir", "no/such/parent"]), 3, /no such/)
    lay(`${base}/change`, { "a.txt": "a", "b.txt": "b" })
    await ok(["mv", "change/*.txt", "change/x"])
    await ok(["cp", "change/x/a.txt", "change/copy.txt"])
    assertFails(await files(["cp", "change/x", "change/z"]), 1, /is a folder: add -r/)
    await ok(["cp", "-r", "change/x", "change/z"])
    assertFails(await files(["mv", "change/copy.txt", "change/x/a.txt"]), 1, /stands there already/)
    assert.match((await ok(["mv", "change/copy.txt", "change/x/a.txt", "--conflict", "skip"])).stderr, /skipped/)
    assert.match(
      (await ok(["mv", "change/copy.txt", "change/x/a.txt", "--conflict", "rename"])).stderr,
      /to \/change\/x\/a \(2\)\.txt/
    )
    assertFails(await files(["rm", "change/x"]), 1, /already|not empty|holds/)
    await ok(["rm", "-r", "change/x"])
    assert.deepStrictEqual(Object.keys(tree(`${base}/change`)).sort(), ["z", "z/a.txt", "z/b.txt", "z/y"])
    assert.match((await ok(["trash", "ls"])).stdout, /\/change\/x\//)
    await ok(["trash", "restore", "change/x"])
    assert.strictEqual(tree(`${base}/change`)["x/a (2).txt"], "a")
    await ok(["rm", "--forever", "change/z/a.txt"])
    await ok(["rm", "change/z/b.txt"])
    assert.match((await ok(["trash", "empty"])).stderr, /deleted 1 for good/)
    assertFails(await files(["trash", "restore", "change/z/b.txt"]), 3, /not in the trash/)
  })

  it("pipes: put - takes standard input, get to - gives it back", async () => {
    await ok(["put", "-", "pipe.txt"], "through a pipe\n")
    assert.strictEqual((await apart(["get", "pipe.txt", "-"])).stdout, "through a pipe\n")
    assertFails(await files(["put", "-", "pipe.txt"], "again"), 1, /there already: give --conflict/)
    await ok(["put", "-", "pipe.txt", "--conflict", "overwrite"], "again")
    assert.strictEqual(Fs.readFileSync(`${base}/pipe.txt`, "utf8"), "again")
    assertFails(await files(["put", "-"], "x"), 2, /needs a name/)
  })

  it("what is there already is overwritten only on a word", async () => {
    const here = lay(world.path("conflict"), { "f.txt": "mine" })
    await ok(["put", `${here}/f.txt`])
    assert.match((await ok(["put", `${here}/f.txt`])).stderr, /the same already/)
    Fs.writeFileSync(`${here}/f.txt`, "newer and longer")
    const refused = await files(["put", `${here}/f.txt`])
    assert.strictEqual(refused.code, 1, JSON.stringify(refused))
    assert.match(refused.stderr, /there already: give --conflict skip, overwrite or rename/)
    assert.strictEqual(Fs.readFileSync(`${base}/f.txt`, "utf8"), "mine")
    await ok(["put", `${here}/f.txt`, "--conflict", "skip"])
    await ok(["put", `${here}/f.txt`, "--conflict", "rename"])
    assert.strictEqual(Fs.readFileSync(`${base}/f (2).txt`, "utf8"), "newer and longer")
    const lines = events((await ok(["put", `${here}/f.txt`, "--conflict", "overwrite", "--json"])).stdout)
    assert.deepInclude(lines.at(-1), { _tag: "Done", to: "/f.txt", size: 16 })
    assert.strictEqual(Fs.readFileSync(`${base}/f.txt`, "utf8"), "newer and longer")
    // And the other way.
    Fs.writeFileSync(`${here}/f.txt`, "different")
    assert.strictEqual((await files(["get", "f.txt", `${here}/`])).code, 1)
    assert.strictEqual(Fs.readFileSync(`${here}/f.txt`, "utf8"), "different")
    await ok(["get", "f.txt", `${here}/g.txt`, "--quiet"])
    assert.strictEqual(Fs.readFileSync(`${here}/g.txt`, "utf8"), "newer and longer")
  })

  it("two things of one name are refused before either is sent", async () => {
    const here = lay(world.path("twice"), { "a/same": "1", "b/same": "2" })
    assertFails(await files(["put", `${here}/a/same`, `${here}/b/same`, "/"]), 2, /would both become/)
    assertFails(await files(["put", "-r", `${here}/a`, `${here}/nothing`, "/"]), 3, /no such file/)
    assert.isFalse(Fs.existsSync(`${base}/same`) || Fs.existsSync(`${base}/a`))
  })

  it("sync: there and back, what is gone goes, and a dry run does nothing", async () => {
    const here = lay(world.path("sync"), { "a.txt": "a", "sub/b.txt": "b", "sub/deep/c.txt": "c" })
    const sync = (...more: ReadonlyArray<string>) => ok(["sync", here, "synced", ...more])
    assert.strictEqual(
      (await sync("--dry-run")).stdout,
      "+ sub/\n+ sub/deep/\n+ a.txt\n+ sub/b.txt\n+ sub/deep/c.txt\n"
    )
    assert.isFalse(Fs.existsSync(`${base}/synced`))
    await sync()
    assert.deepStrictEqual(tree(`${base}/synced`), tree(here))
    assert.match((await sync()).stderr, /3 files the same already/)
    Fs.rmSync(`${here}/sub/deep`, { recursive: true })
    const write = (content: string): void => {
      Fs.writeFileSync(`${here}/a.txt`, content)
      Fs.utimesSync(`${here}/a.txt`, 1_700_000_000, 1_700_000_000)
    }
    write("changed")
    assert.strictEqual((await sync("--delete", "--dry-run")).stdout, "* a.txt\n- sub/deep/\n")
    await sync("--delete", "--quiet")
    assert.deepStrictEqual(tree(`${base}/synced`), tree(here))
    // Same size and time, another content: only a look inside tells.
    write("CHANGED")
    await sync()
    assert.strictEqual(Fs.readFileSync(`${base}/synced/a.txt`, "utf8"), "changed")
    await sync("--checksum")
    assert.strictEqual(Fs.readFileSync(`${base}/synced/a.txt`, "utf8"), "CHANGED")
    Fs.writeFileSync(`${base}/synced/new.txt`, "from there")
    Fs.writeFileSync(`${here}/stray.txt`, "only here")
    await sync("--back", "--delete")
    assert.deepStrictEqual(tree(here), tree(`${base}/synced`))
    assertFails(await files(["sync", "--back", "--delete", here, "no-such"]), 3, /no such/)
    assert.isTrue(Fs.existsSync(`${here}/a.txt`))
  })

  it(`no way out of the base${hasLists ? "" : " (the lists of ../shared/vectors are not here)"}`, async () => {
    const canary = Path.join(tiers.home, "canary")
    Fs.writeFileSync(canary, "sings")
    const before = tree(base)
    Fs.symlinkSync(tiers.home, Path.join(base, "link"))
    const all = waysOut(canary)
    for (const [verb, ...more] of [["ls"], ["du"], ["rm", "-r", "--forever"]] as const) {
      const result = await apart([verb, ...more, "--", ...all])
      assert.notStrictEqual(result.code, 0, verb)
      assert.notInclude(result.stdout, "canary", verb)
    }
    for (const way of ["../canary", "link/canary", canary, "look/../../canary"]) {
      assertFails(
        await files(["cat", "--", way]),
        way.includes("..") ? 2 : way === canary ? 3 : 1,
        /refused|no such file|not a folder/
      )
      assert.notStrictEqual((await files(["get", "--", way, world.path("stolen")])).code, 0)
      if (way === canary) continue
      assert.notStrictEqual((await files(["put", "--conflict", "overwrite", "--", tiers.file, way])).code, 0)
    }
    assert.isFalse(Fs.existsSync(world.path("stolen")))
    assert.strictEqual(Fs.readFileSync(canary, "utf8"), "sings")
    Fs.unlinkSync(Path.join(base, "link"))
    assert.deepStrictEqual(tree(base), before)
  })

  it("says nothing that a programmer alone could read", () => {
    assertNoStacks(world.output() + said)
  })
})
