/** New versions of large files between real processes: only what changed travels, and a violent end costs no more than usual. */
import { createCipheriv, createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { assertNoStacks, type Running, Tiers, World } from "./Tiers.ts"

const MIB = 1024 * 1024
const SIZE = 48 * MIB

const sha256 = (path: string): string => createHash("sha256").update(Fs.readFileSync(path)).digest("hex")
const noise = (part: number, length: number): Buffer =>
  createCipheriv("aes-256-ctr", Buffer.alloc(32), Buffer.alloc(16, part)).update(Buffer.alloc(length))

type Event = Readonly<Record<string, unknown>>

const events = (text: string): ReadonlyArray<Event> =>
  text
    .split("\n")
    .slice(0, -1)
    .map((line) => JSON.parse(line))

const of = (all: ReadonlyArray<Event>, tag: string): Event => all.find(({ _tag }) => _tag === tag) ?? {}

describe("new versions of large files", () => {
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

  const flags = ["--conflict", "overwrite", "--delta", "always", "--json"]
  const carry = async (...args: ReadonlyArray<string>): Promise<Event> => {
    const result = await world.run(["files", ...args, ...flags, "--home", home])
    assert.strictEqual(result.code, 0, JSON.stringify(result))
    return of(events(result.stdout), "Done")
  }
  const old = noise(1, SIZE)
  const write = (path: string, ...parts: ReadonlyArray<Uint8Array>): void => {
    Fs.rmSync(path, { force: true })
    for (const part of parts) Fs.appendFileSync(path, part)
  }

  it("put and get: bytes put in, changed, cut off and appended", async () => {
    const here = world.path("v.bin")
    write(here, old)
    assert.strictEqual((await carry("put", here)).moved, SIZE)
    write(here, noise(2, 10), old.subarray(0, 30 * MIB), noise(3, 5000), old.subarray(30 * MIB + 9000), noise(4, MIB))
    const up = await carry("put", here)
    assert.isBelow(Number(up.moved), MIB + 300_000)
    assert.strictEqual(sha256(Path.join(base, "v.bin")), sha256(here))
    write(Path.join(base, "v.bin"), old.subarray(5 * MIB))
    const down = await carry("get", "v.bin", world.path("."))
    assert.isBelow(Number(down.moved), 300_000)
    assert.strictEqual(sha256(here), sha256(Path.join(base, "v.bin")))
    assert.deepStrictEqual(
      Fs.readdirSync(base).filter((name) => name.startsWith(".clawchat-part")),
      []
    )
  })

  for (const who of ["client", "server"] as const) {
    it(`kill -9 of the ${who} within one: the old file stays, the next goes on, and copies again`, async () => {
      const here = world.path(`${who}.bin`)
      const there = Path.join(base, `${who}.bin`)
      write(there, old)
      // What is new is in the middle: most of it has to travel.
      write(here, old.subarray(0, 8 * MIB), noise(5, 32 * MIB), old.subarray(8 * MIB))
      const running: Running = world.start(["files", "put", here, ...flags, "--home", home])
      await running.out(/"Progress".*"bytes":1[4-9]\d{6},/)
      if (who === "client") {
        await running.stop("SIGKILL")
        assert.strictEqual(Fs.statSync(there).size, SIZE)
        const result = await world.run(["files", "put", here, ...flags, "--home", home])
        const all = events(result.stdout)
        assert.isAtLeast(Number(of(all, "Resuming").offset), 8 * MIB, JSON.stringify(result))
        assert.isBelow(Number(of(all, "Done").moved), 32 * MIB)
      } else {
        await tiers.server.stop("SIGKILL")
        assert.strictEqual(Fs.statSync(there).size, SIZE)
        await tiers.startServer()
        assert.deepStrictEqual(await running.exit(), { code: 0, signal: null }, running.said())
        const all = events(running.stdout)
        assert.isBelow(Number(of(all, "Done").moved), 43 * MIB)
      }
      assert.strictEqual(sha256(there), sha256(here))
    })
  }

  it("says nothing that a programmer alone could read", () => {
    assertNoStacks(world.output())
  })
})
