/** The commands below `clawchat files`, as a person types them: what they print, leave behind and end with. */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { bin } from "../Program.ts"
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
    for (const verb of ["ls", "du"]) {
      const some = await files([verb, "look/nothing", "look/sub", "--json"])
      assert.strictEqual(some.code, 3)
      assert.strictEqual(some.stderr, 'clawchat: "/look/nothing": no such file or folder\nclawchat: 1 of 2 failed\n')
      assert.strictEqual(JSON.parse(some.stdout).length, verb === "ls" ? 2 : 1)
    }
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
    assertFails(await files(["trash", "empty", "nothing"]), 3, /"nothing" is not in the trash/)
  })

  it("what is done already: mkdir -p of the base, and mv to where a thing is", async () => {
    await ok(["mkdir", "-p", "/", "done/already"])
    assertFails(await files(["mv", "done/already", "done"]), 1, /^clawchat: "\/done\/already": it is there already\n$/)
    await ok(["mkdir", "top"])
    assertFails(await files(["mv", "top", "/"]), 1, /^clawchat: "\/top": it is there already\n$/)
    await ok(["rm", "-r", "--forever", "done", "top"])
  })

  it("a pattern does what it can with all that it meets, and tells the rest", async () => {
    const top = lay(`${base}/many`, { "a/1": "1", "a/b/2": "2", "into/x": "x", f: "f", g: "g" })
    const removed = await files(["rm", "many/*"])
    assert.deepStrictEqual([removed.code, Object.keys(tree(top))], [1, ["a", "a/1", "a/b", "a/b/2", "into", "into/x"]])
    assert.match(removed.stderr, /"\/many\/a" is a folder: add -r\n/)
    assert.match(removed.stderr, /clawchat: 2 of 4 failed\n$/)
    lay(top, { f: "f" })
    // The target itself is among them.
    const moved = await files(["mv", "many/{*,a/*}", "many/into"])
    assert.deepStrictEqual([moved.code, Object.keys(tree(top)).length], [1, 7])
    assert.match(moved.stderr, /into\/into": a folder cannot be moved into itself\n/)
    assert.strictEqual(tree(top)["into/a/b/2"], "2")
    // A folder is one thing in the trash, with all that is in it.
    const all = await ok(["rm", "-r", "many/{*,into/*,into/a/*}", "--json"])
    assert.strictEqual(all.stdout, '{"removed":"/many/into","forever":false}\n')
    await ok(["trash", "restore", "many/into"])
    assert.strictEqual(tree(top)["into/a/1"], "1")
    await ok(["rm", "-r", "--forever", "many"])
  })

  it("pipes: put - takes standard input, get to - gives it back", async () => {
    await ok(["put", "-", "pipe.txt"], "through a pipe\n")
    assert.strictEqual((await apart(["get", "pipe.txt", "-"])).stdout, "through a pipe\n")
    assertFails(await files(["put", "-", "pipe.txt"], "again"), 1, /there already: give --conflict/)
    const skipped = await ok(["put", "-", "pipe.txt", "--conflict", "skip", "--json"])
    assert.strictEqual(skipped.stdout, '{"_tag":"Skipped","from":"-","to":"/pipe.txt"}\n')
    assertFails(await files(["get", "-r", "look", "-"]), 2, /"\/look" is a folder: standard output takes files/)
    await ok(["put", "-", "pipe.txt", "--conflict", "overwrite"], "again")
    assert.strictEqual(Fs.readFileSync(`${base}/pipe.txt`, "utf8"), "again")
    assertFails(await files(["put", "-"], "x"), 2, /needs a name/)
  })

  it("a reader that goes away ends the session too; a full disk is told", {
    skip: !Fs.existsSync("/dev/full")
  }, async () => {
    Fs.writeFileSync(`${base}/long.bin`, Buffer.alloc(4_000_000, 7))
    const shell = (line: string): Promise<Result> =>
      world.run(["-c", line, process.execPath, bin], { program: "/bin/sh", env: { CLAWCHAT_HOME: home } })
    const sessions = async (): Promise<unknown> =>
      JSON.parse((await Here.run(["status", "--home", tiers.home, "--json"])).stdout).sessions
    const before = await sessions()
    const read = await shell('("$0" "$1" files cat long.bin; echo $? >&2) | head -c 5')
    assert.deepStrictEqual([read.stdout.length, read.stderr], [5, "0\n"])
    assert.deepStrictEqual(await sessions(), before)
    const full = await shell('"$0" "$1" files cat long.bin > /dev/full')
    assertFails(full, 1, /the output cannot be written \(ENOSPC\)/)
    Fs.unlinkSync(`${base}/long.bin`)
  })

  it("what is there already is overwritten only on a word", async () => {
    const here = lay(world.path("conflict"), { "f.txt": "mine" })
    await ok(["put", `${here}/f.txt`])
    assert.match((await ok(["put", `${here}/f.txt`])).stderr, /the same already/)
    // Content decides where times differ, for files of one piece and of more.
    Fs.writeFileSync(`${here}/l.bin`, Buffer.alloc(100_000, 7))
    await ok(["put", `${here}/l.bin`])
    for (const name of ["f.txt", "l.bin"]) {
      Fs.utimesSync(`${here}/${name}`, 1_600_000_000, 1_600_000_000)
      assert.match((await ok(["put", `${here}/${name}`])).stderr, /the same already/)
      assert.match((await ok(["get", name, `${here}/`])).stderr, /the same already/)
    }
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
    assertFails(await files(["put", `${here}/a/same`, `${here}/a/new\nline`, "/"]), 3, /new\\nline": no such file/)
    Fs.writeFileSync(`${here}/a/new\nline`, "")
    assertFails(
      await files(["put", `${here}/a/same`, `${here}/a/new\nline`, "/"]),
      2,
      /new\\nline": this path is refused/
    )
    assert.isFalse(Fs.existsSync(`${base}/same`) || Fs.existsSync(`${base}/a`))
  })

  it("folders: what is in one, one where a file stands, and what this host refuses", async () => {
    const here = lay(world.path("folders"), { "d/a": "a", "d/e/b": "b", file: "f" })
    await ok(["put", `${here}/file`, "taken"])
    for (const to of ["taken", "taken/"]) {
      assertFails(await files(["put", "-r", `${here}/d`, to]), 1, /"taken\/?" is no folder on the server/)
    }
    await ok(["put", "-r", `${here}/d/.`, "whole"])
    const again = events((await ok(["put", "-r", `${here}/d/.`, "whole/", "--json"])).stdout)
    assert.deepStrictEqual(again.map(({ _tag, to }) => `${_tag} ${to}`).sort(), [
      "Folder /whole",
      "Same /whole/a",
      "Same /whole/e/b"
    ])
    assert.deepStrictEqual(tree(`${base}/whole`), tree(`${here}/d`))
    assertFails(await files(["get", "-r", "whole", `${here}/file`]), 1, /file" is no folder\n/)
    assertFails(await files(["get", "taken", `${here}/file/x`]), 1, /file" is no folder\n/)
    await ok(["get", "-r", "whole/.", `${here}/new/folder/`])
    assert.deepStrictEqual(tree(`${here}/new/folder`), tree(`${here}/d`))
    const modes = [`${here}/new`, `${here}/new/folder`, here].map((path) => Fs.statSync(path).mode)
    assert.deepStrictEqual(modes[0], modes[2], "made as the umask says")
    assert.deepStrictEqual(modes[1], modes[2], "made as the umask says")
    Fs.symlinkSync("loop", `${here}/loop`)
    assertFails(await files(["put", `${here}/loop`]), 1, /loop": this host cannot read it \(ELOOP\)/)
    assertFails(await files(["get", "taken", `${here}/loop`]), 1, /loop": this host cannot read it \(ELOOP\)/)
    for (const args of [
      ["put", here, ""],
      ["get", "", here],
      ["sync", "", "whole"],
      ["mv", "taken", ""]
    ]) {
      assertFails(await files(args), 2, /a path is empty/)
    }
    await ok(["rm", "-r", "--forever", "taken", "whole"])
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
    assert.match((await sync()).stderr, /^0 files; .*; 3 the same already\n$/)
    assert.match((await sync("--checksum")).stderr, /; 3 the same already\n$/)
    const dry = await ok(["sync", "--back", "--dry-run", "--json", world.path("nowhere"), "synced"])
    assert.deepInclude(JSON.parse(dry.stdout), { folders: ["sub", "sub/deep"], removed: [], equal: 0 })
    assert.deepStrictEqual([dry.stdout.split("\n").length, Fs.existsSync(world.path("nowhere"))], [2, false])
    assertFails(
      await files(["sync", "--delete", world.path("nowhere"), "synced"]),
      3,
      /nowhere": no such folder \(here\)\n/
    )
    assertFails(
      await files(["sync", "--back", world.path("nowhere"), "no-such"]),
      3,
      /no-such": no such file or folder \(on the server\)\n/
    )
    assert.isFalse(Fs.existsSync(world.path("nowhere")))
    // What cannot be named on one side is not told to be gone from the other.
    Fs.writeFileSync(`${base}/synced/stray`, "")
    Fs.writeFileSync(`${here}/new\nline`, "")
    for (const more of [["--dry-run"], []]) {
      const kept = await files(["sync", "--delete", here, "synced", ...more])
      assert.deepStrictEqual([kept.code, kept.stdout], [1, ""])
      assert.match(kept.stderr, /\nclawchat: nothing was removed, because not everything could be named\n$/)
    }
    assert.isTrue(Fs.existsSync(`${base}/synced/stray`))
    Fs.rmSync(`${base}/synced/stray`)
    Fs.rmSync(`${here}/new\nline`)
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

  it("sync: a time or mode that alone differs is brought over, and then there is nothing to do", async () => {
    const here = lay(world.path("touched"), { "a.txt": "a", "run.sh": "echo", "sub/b.txt": "b" })
    const there = `${base}/touched`
    const sync = (...more: ReadonlyArray<string>) => ok(["sync", here, "touched", ...more])
    const facts = (at: string) =>
      ["a.txt", "run.sh", "sub/b.txt"].map((name) => {
        const { mode, mtimeMs } = Fs.statSync(Path.join(at, name))
        return [name, Math.floor(mtimeMs), mode & 0o100]
      })
    const touched = ({ stdout }: { readonly stdout: string }) =>
      stdout
        .split("\n")
        .flatMap((line) => (line === "" ? [] : [JSON.parse(line)]))
        .map(({ _tag, from, touched }) => [_tag, from, touched])
        .sort()
    await sync()
    Fs.utimesSync(`${here}/a.txt`, 1_600_000_000, 1_600_000_000)
    Fs.chmodSync(`${here}/run.sh`, 0o755)
    assert.strictEqual((await sync("--dry-run")).stdout, "* a.txt\n* run.sh\n")
    assert.deepStrictEqual(touched(await sync("--json")), [
      ["Same", "/a.txt", true],
      ["Same", "/run.sh", true]
    ])
    assert.deepStrictEqual(facts(there), facts(here))
    assert.strictEqual((await sync("--dry-run")).stdout, "")
    Fs.utimesSync(`${there}/sub/b.txt`, 1_500_000_000, 1_500_000_000)
    Fs.chmodSync(`${there}/run.sh`, 0o600)
    assert.strictEqual((await sync("--back", "--dry-run")).stdout, "* run.sh\n* sub/b.txt\n")
    await sync("--back")
    assert.deepStrictEqual(facts(here), facts(there))
    assert.strictEqual((await sync("--back", "--dry-run")).stdout, "")
    // As with put and get, if what is there may be overwritten.
    Fs.utimesSync(`${here}/a.txt`, 1_400_000_000, 1_400_000_000)
    Fs.chmodSync(`${here}/run.sh`, 0o755)
    const put = (rule: string) => files(["put", "-r", "--json", "--conflict", rule, `${here}/.`, "touched"])
    assert.notDeepInclude(touched(await put("rename")), ["Same", "/touched/a.txt", true])
    assert.notDeepEqual(facts(there), facts(here))
    await put("overwrite")
    assert.deepStrictEqual(facts(there), facts(here))
    Fs.chmodSync(`${there}/run.sh`, 0o600)
    await ok(["put", "--conflict", "overwrite", `${here}/run.sh`, "touched"])
    assert.deepStrictEqual(facts(there), facts(here))
    Fs.chmodSync(`${here}/run.sh`, 0o600)
    await ok(["get", "--conflict", "overwrite", "touched/run.sh", here])
    assert.deepStrictEqual(facts(here), facts(there))
    const same = await ok(["put", "--conflict", "overwrite", `${here}/a.txt`, "touched"])
    assert.match(same.stderr, /^\/touched\/a\.txt {2}is the same already\n0 files; .*; 1 the same already\n$/)
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
