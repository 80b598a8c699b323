/** Code that bin/Bundle.mjs keeps between runs: of the very bundle, whole, and only where a run went well. */
import { type SpawnSyncReturns, spawnSync } from "node:child_process"
import { hash } from "node:crypto"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, beforeEach, describe, it } from "@effect/vitest"
import { command } from "../src/programs/cli/Catalog.ts"

const bin = Path.resolve(import.meta.dirname, "../bin")
let box = ""
let cache = ""

/** As tools/Bundler.ts makes it. */
const bundle = (says: string): string => {
  const text = `"use strict"
const answer = () => ${JSON.stringify(says)}
if (process.argv[2] === "status") process.stdout.write([answer(), typeof require, typeof module.exports, __filename].join(" "))
if (process.argv[2] === "files") import("node:os").then((os) => process.stdout.write(typeof os.hostname))
process.exitCode = Number(process.argv[3] ?? 0)
`
  return `/*${hash("sha256", text)}*/${text}`
}

const install = (text: string): void => Fs.writeFileSync(Path.join(box, "clawchat.cjs"), text)
const run = (...args: ReadonlyArray<string>): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, [Path.join(box, "bin/clawchat.mjs"), ...args], {
    encoding: "utf8",
    env: { ...process.env, XDG_CACHE_HOME: cache }
  })
const kept = (): ReadonlyArray<string> => Fs.readdirSync(Path.join(cache, "clawchat/code")).sort()
const file = (name: string): string => Path.join(cache, "clawchat/code", name)
const expected = (says: string): string => `${says} function object ${Path.join(box, "clawchat.cjs")}`

beforeAll(() => {
  box = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-bundle-")))
  Fs.cpSync(bin, Path.join(box, "bin"), { recursive: true })
  Fs.writeFileSync(Path.join(box, "package.json"), '{ "type": "module" }')
})
beforeEach(() => {
  cache = Fs.mkdtempSync(Path.join(box, "cache-"))
  install(bundle("one"))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

describe("bin/Bundle.mjs", () => {
  it("keeps the code of each command, and takes it back", () => {
    assert.strictEqual(run("status").stdout, expected("one"))
    assert.deepStrictEqual(kept(), ["status.v8"])
    if (process.platform !== "win32") assert.strictEqual(Fs.statSync(file("status.v8")).mode & 0o777, 0o600)
    const before = Fs.statSync(file("status.v8"))
    assert.strictEqual(run("status").stdout, expected("one"))
    // What V8 had not taken would have been made anew.
    assert.strictEqual(Fs.statSync(file("status.v8")).mtimeMs, before.mtimeMs)
    assert.strictEqual(run("files").stdout, "function")
    assert.deepStrictEqual(kept(), ["files.v8", "status.v8"])
  })

  it("keeps what does not begin with a command in one file", () => {
    for (const word of ["--help", "../status", "nonsense"]) assert.strictEqual(run(word).status, 0)
    assert.deepStrictEqual(kept(), ["other.v8"])
  })

  it("knows every command", () => {
    const words = /COMMANDS =\s+"([a-z ]+)"/.exec(Fs.readFileSync(Path.join(bin, "clawchat.mjs"), "utf8"))?.[1]
    const names = command.subcommands.flatMap(({ commands }) => commands.map(({ name }) => name)).sort()
    assert.isAbove(names.length, 0)
    assert.deepStrictEqual(words?.split(" "), names)
  })

  it("keeps nothing of a run that failed, nor of a bundle without a digest", () => {
    assert.strictEqual(run("status", "3").status, 3)
    assert.deepStrictEqual(kept(), [])
    install(bundle("one").slice(68))
    assert.strictEqual(run("status").stdout, expected("one"))
    assert.deepStrictEqual(kept(), [])
  })

  it("never runs the code of another bundle, not even of one with the same length", () => {
    run("status")
    install(bundle("two"))
    assert.strictEqual(run("status").stdout, expected("two"))
    assert.strictEqual(run("status").stdout, expected("two"))
    install(bundle("one"))
    assert.strictEqual(run("status").stdout, expected("one"))
  })

  it("makes anew what was cut short, or is something else", () => {
    run("status")
    const whole = Fs.readFileSync(file("status.v8"))
    const header = whole.subarray(0, 72)
    const others = [
      Buffer.alloc(0),
      header,
      whole.subarray(0, whole.length - 1),
      Buffer.concat([whole.subarray(0, 200), Buffer.alloc(whole.length - 200)]),
      Buffer.concat([whole, whole])
    ]
    for (const other of others) {
      Fs.writeFileSync(file("status.v8"), other)
      assert.strictEqual(run("status").stdout, expected("one"))
      assert.strictEqual(Fs.statSync(file("status.v8")).size, whole.length)
      assert.deepStrictEqual(Fs.readFileSync(file("status.v8")).subarray(0, 72), header)
    }
    Fs.rmSync(file("status.v8"))
    Fs.mkdirSync(file("status.v8"))
    assert.strictEqual(run("status").stdout, expected("one"))
    assert.deepStrictEqual(kept(), ["status.v8"])
  })

  it("refuses code that this V8 did not make", () => {
    run("status")
    const whole = Fs.readFileSync(file("status.v8"))
    // The version's digest stands near the beginning of V8's own header.
    const foreign = Buffer.from(whole)
    foreign.fill(0xff, 76, 80)
    Fs.writeFileSync(file("status.v8"), foreign)
    assert.strictEqual(run("status").stdout, expected("one"))
    assert.isFalse(Fs.readFileSync(file("status.v8")).equals(foreign))
  })
})
