/** Files that travel between real processes: whole, and after every kind of violent end. */
import { spawnSync } from "node:child_process"
import { createCipheriv, createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import * as Here from "./Here.ts"
import { assertNoStacks, hasProc, type Result, type Running, readOr, Tiers, tree, until, World } from "./Tiers.ts"

const MIB = 1024 * 1024
/** Bytes of the file whose transfer is broken off: long enough to be met on its way, even on loopback. */
const LARGE = 96 * MIB
const BLOCK = 256 * 1024

const hasSum = spawnSync("sha256sum", ["--version"]).status === 0

/** By a program that is not ours, where there is one. */
const sha256 = (path: string): string => {
  if (hasSum) return spawnSync("sha256sum", [path], { encoding: "utf8" }).stdout.slice(0, 64)
  return createHash("sha256").update(Fs.readFileSync(path)).digest("hex")
}

type Event = Readonly<Record<string, unknown>>

const events = (text: string): ReadonlyArray<Event> =>
  text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line))

const numbers = (all: ReadonlyArray<Event>, tag: string, key: string): ReadonlyArray<number> =>
  all.flatMap((event) => (event._tag === tag ? [Number(event[key])] : []))

/** Unfinished files of a folder, and what else is there. */
const parts = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder).filter((name) => name.startsWith(".clawchat-part"))
const visible = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder)
    .filter((name) => !name.startsWith(".clawchat-"))
    .sort()

describe("files that travel", () => {
  let world: World
  let tiers: Tiers
  let home = ""
  let base = ""
  let large = ""
  let sum = ""
  beforeAll(async () => {
    world = new World()
    tiers = await Tiers.start(world)
    home = await tiers.pair("c")
    base = Path.join(tiers.home, "data")
    large = world.path("large.bin")
    const piece = createCipheriv("aes-256-ctr", Buffer.alloc(32), Buffer.alloc(16)).update(Buffer.alloc(MIB))
    const file = Fs.openSync(large, "w")
    for (let i = 0; i < LARGE / MIB; i++) {
      piece.writeUInt32LE(i, 0)
      Fs.writeSync(file, piece)
    }
    Fs.closeSync(file)
    sum = sha256(large)
  })
  afterAll(async () => {
    await world.end()
  })

  const start = (...args: ReadonlyArray<string>): Running => world.start(["files", ...args, "--home", home])
  const files = (...args: ReadonlyArray<string>): Promise<Result> => world.run(["files", ...args, "--home", home])
  const ok = async (...args: ReadonlyArray<string>): Promise<Result> => {
    const result = await files(...args)
    assert.strictEqual(result.code, 0, `files ${args.join(" ")}: ${JSON.stringify(result)}`)
    return result
  }
  /** Starts a transfer and waits until it is well under way. */
  const underWay = async (...args: ReadonlyArray<string>): Promise<Running> => {
    const running = start(...args, "--json")
    await running.out(/"Progress".*"bytes":[1-9]\d{7},/)
    return running
  }
  const resumed = (result: Result) => {
    const all = events(result.stdout)
    const [offset] = numbers(all, "Resuming", "offset")
    const [moved] = numbers(all, "Done", "moved")
    if (offset === undefined || moved === undefined) return assert.fail(JSON.stringify(result))
    // What is there is not sent again.
    assert.isAtLeast(offset, BLOCK)
    assert.isAtMost(moved, LARGE - offset + BLOCK)
    return offset
  }

  it("large, sparse, empty, of one byte, in five scripts, with their times and modes: there and back", async () => {
    const here = world.path("all")
    Fs.mkdirSync(Path.join(here, "empty folder"), { recursive: true })
    const names = [
      "\u6f22\u5b57.txt",
      "\u05e9\u05dc\u05d5\u05dd.txt",
      "\u041c\u0438\u0440.txt",
      "\u0939\u093f\u0902.txt",
      "\u0633\u0644\u0627\u0645.txt",
      "e\u0301.txt",
      "\u{1f980} -x 'y' $z.txt"
    ]
    for (const name of names) Fs.writeFileSync(Path.join(here, name), name)
    Fs.writeFileSync(Path.join(here, "empty"), "")
    Fs.writeFileSync(Path.join(here, "one"), "1")
    Fs.writeFileSync(Path.join(here, "run.sh"), "#!/bin/sh\n", { mode: 0o755 })
    Fs.writeFileSync(Path.join(here, "sparse"), "")
    Fs.truncateSync(Path.join(here, "sparse"), 8_000_000)
    for (let i = 0; i < 300; i++) {
      Fs.mkdirSync(Path.join(here, `small/${i % 7}`), { recursive: true })
      Fs.writeFileSync(Path.join(here, `small/${i % 7}/${i}`), "x".repeat(i))
    }
    Fs.utimesSync(Path.join(here, "one"), 1_234_567_890, 1_234_567_890)
    await ok("put", "-r", here, "travel", "--quiet")
    const there = Path.join(base, "travel")
    assert.deepStrictEqual(tree(there), tree(here))
    const { mode, mtimeMs } = Fs.statSync(Path.join(there, "run.sh"))
    assert.strictEqual(mode & 0o777, 0o755)
    assert.strictEqual(Math.floor(mtimeMs), Math.floor(Fs.statSync(Path.join(here, "run.sh")).mtimeMs))
    const back = world.path("back")
    await ok("get", "-r", "travel", back, "--quiet")
    assert.deepStrictEqual(tree(back), tree(here))
    assert.strictEqual(Math.floor(Fs.statSync(Path.join(back, "one")).mtimeMs), 1_234_567_890_000)
    assert.strictEqual(sha256(Path.join(back, "sparse")), sha256(Path.join(here, "sparse")))
    // Once more is no work.
    const again = await Here.run(["files", "put", "-r", `${here}/small`, "travel", "--json", "--home", home])
    assert.strictEqual(again.code, 0, JSON.stringify(again))
    const same = events(again.stdout)
    assert.strictEqual(same.filter(({ _tag }) => _tag === "Same").length, 300)
    assert.strictEqual(same.filter(({ _tag }) => _tag === "Done").length, 0)
    Fs.rmSync(back, { recursive: true })
  })

  it("Ctrl-C or TERM leaves nothing visible, says so, and the same command goes on", async () => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      const running = await underWay("put", large)
      running.kill(signal)
      assert.deepStrictEqual(await running.exit(), { code: 130, signal: null }, signal)
      assert.match(running.stderr, /^stopped: what has arrived is kept/m)
      assert.notInclude(visible(base), "large.bin")
    }
    resumed(await ok("put", large, "--json"))
    assert.strictEqual(sha256(Path.join(base, "large.bin")), sum)
    assert.deepStrictEqual(parts(base), [])
  })

  it("kill -9 of the client: a get goes on from what it has verified", async () => {
    const target = world.path("got")
    Fs.mkdirSync(target)
    const running = await underWay("get", "large.bin", target)
    await running.stop("SIGKILL")
    const had = Math.max(...numbers(events(running.stdout), "Progress", "bytes"))
    assert.deepStrictEqual(visible(target), [])
    assert.isAtLeast(resumed(await ok("get", "large.bin", target, "--json")), had - BLOCK)
    assert.strictEqual(sha256(Path.join(target, "large.bin")), sum)
    assert.deepStrictEqual(Fs.readdirSync(target), ["large.bin"])
  })

  it("a source that changed meanwhile is not mixed with what it was", async () => {
    const changing = world.path("changing.bin")
    Fs.copyFileSync(large, changing)
    const running = await underWay("put", changing)
    await running.stop("SIGKILL")
    Fs.appendFileSync(changing, "more")
    const all = events((await ok("put", changing, "--json")).stdout)
    assert.deepStrictEqual(numbers(all, "Resuming", "offset"), [])
    assert.strictEqual(sha256(Path.join(base, "changing.bin")), sha256(changing))
    Fs.rmSync(changing)
    Fs.rmSync(Path.join(base, "changing.bin"))
  })

  it("kill -9 of the server: the client goes on by itself once there is one again, and takes little memory", async () => {
    const target = world.path("again")
    Fs.mkdirSync(target)
    const running = await underWay("get", "large.bin", target)
    await tiers.server.stop("SIGKILL")
    await tiers.startServer()
    let peak = 0
    await until(() => {
      const high = /VmHWM:\s+(\d+) kB/.exec(readOr(`/proc/${running.pid}/status`))
      peak = Math.max(peak, Number(high?.[1] ?? 0))
      return running.child.exitCode !== null
    }, "the end of the transfer")
    assert.deepStrictEqual(await running.exit(), { code: 0, signal: null }, running.said())
    if (hasProc) assert.isAbove(peak, 0)
    assert.isBelow(peak, 200_000, `${peak} kB`)
    assert.strictEqual(sha256(Path.join(target, "large.bin")), sum)
    assert.deepStrictEqual(Fs.readdirSync(target), ["large.bin"])
    const moved = numbers(events(running.stdout), "Done", "moved")
    assert.strictEqual(moved.length, 1, running.said())
    Fs.rmSync(target, { recursive: true })
  })

  it("says nothing that a programmer alone could read", () => {
    assertNoStacks(world.output())
  })
})
