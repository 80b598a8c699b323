import { execFileSync, fork, type SpawnSyncReturns, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"

const root = Path.resolve(import.meta.dirname, "..")

/** The system's own Node, not the one npm installed here. */
const systemNode = (process.env.PATH ?? "")
  .split(Path.delimiter)
  .filter((folder) => folder !== "" && !folder.includes("node_modules"))
  .map((folder) => Path.join(folder, process.platform === "win32" ? "node.exe" : "node"))
  .find((path) => Fs.existsSync(path))
const isOld = (version: string): boolean => {
  const [major = 0, minor = 0] = version.replace(/^v/, "").split(".").map(Number)
  return major < 24 || (major === 24 && minor < 7)
}
const systemVersion =
  systemNode === undefined ? "none" : execFileSync(systemNode, ["--version"], { encoding: "utf8" }).trim()
const nodeName = `node-${process.platform === "win32" ? "win" : process.platform}-${process.arch}`
const hasInstalled = Fs.existsSync(Path.join(root, "node_modules", nodeName))

/** Says which file it is and does what its arguments ask. TypeScript on purpose in src, plain in dist. */
const program = (name: string, type: string): string => `
const [verb, ...rest]${type} = process.argv.slice(2)
if (verb === "argv") process.stdout.write(JSON.stringify(rest))
if (verb === "which") process.stdout.write(${JSON.stringify(name)})
if (verb === "node") process.stdout.write(process.versions.node)
if (verb === "exit") process.exitCode = Number(rest[0])
if (verb === "die") process.kill(process.pid, rest[0])
if (verb === "cat") process.stdin.pipe(process.stdout)
if (verb === "ipc") process.stdout.write(typeof process.send + " " + String(process.env.CLAWCHAT_PARENT_IPC))
if (verb === "threads") {
  const fs = process.getBuiltinModule("node:fs")
  const count = () => fs.readdirSync("/proc/self/task").length
  const before = count()
  fs.stat("/", () => process.stdout.write(String(count() - before)))
}
if (verb === "echo") process.on("message", (message) => process.send({ echo: message }))
if (verb === "wait") {
  const timer = setInterval(() => {}, 1000)
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"])
    process.on(signal, () => { process.stdout.write(signal + "\\n"); process.exitCode = 7; clearInterval(timer) })
  process.stdout.write("ready " + process.pid + "\\n")
}
`

let box = ""
let bin = ""
beforeAll(() => {
  box = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-bin-")))
  for (const folder of ["bin", "src/domain", "dist", "node_modules", "cache"])
    Fs.mkdirSync(Path.join(box, folder), { recursive: true })
  bin = Path.join(box, "bin/clawchat.mjs")
  for (const file of ["bin/clawchat.mjs", "bin/Bundle.mjs"])
    Fs.copyFileSync(Path.join(root, file), Path.join(box, file))
  Fs.writeFileSync(Path.join(box, "package.json"), '{ "type": "module" }')
  Fs.writeFileSync(Path.join(box, "src/main.ts"), program("src", ": Array<string>"))
  Fs.writeFileSync(Path.join(box, "src/domain/Other.ts"), "export const a = 1\n")
  if (hasInstalled) Fs.symlinkSync(Path.join(root, "node_modules", nodeName), Path.join(box, "node_modules", nodeName))
})
afterAll(() => Fs.rmSync(box, { recursive: true, force: true }))

const environment = (): NodeJS.ProcessEnv => ({ ...process.env, XDG_CACHE_HOME: Path.join(box, "cache") })

const suite = (node: string): void => {
  const run = (args: ReadonlyArray<string>, input?: string): SpawnSyncReturns<string> =>
    spawnSync(node, [bin, ...args], { encoding: "utf8", env: environment(), ...(input === undefined ? {} : { input }) })

  it("runs the program on Node 24.7 or newer", () => {
    assert.isFalse(isOld(run(["node"]).stdout))
  })

  it("passes arguments on as they are", () => {
    const args = ["two words", "", "--flag=$HOME", "*", "a\"b'c\\d\ne"]
    assert.deepStrictEqual(JSON.parse(run(["argv", ...args]).stdout), args)
  })

  it.runIf(process.platform === "linux")("lets sixteen threads wait for the disk, or as many as the user says", () => {
    const env = environment()
    const threads = (more: NodeJS.ProcessEnv): string =>
      spawnSync(node, [bin, "threads"], { encoding: "utf8", env: { ...env, ...more } }).stdout
    assert.strictEqual(threads({ UV_THREADPOOL_SIZE: undefined }), "16")
    assert.strictEqual(threads({ UV_THREADPOOL_SIZE: "3" }), "3")
  })

  it("passes exit codes on", () => {
    assert.strictEqual(run(["exit", "0"]).status, 0)
    assert.strictEqual(run(["exit", "3"]).status, 3)
  })

  it("dies of the signal the program died of", () => {
    for (const signal of ["SIGTERM", "SIGKILL", "SIGINT"] as const)
      assert.strictEqual(run(["die", signal]).signal, signal)
  })

  it("shares standard input to its end", () => {
    const input = "x".repeat(300_000)
    assert.strictEqual(run(["cat"], input).stdout, input)
  })

  it("shows the program no IPC channel that its caller did not open", () => {
    assert.strictEqual(run(["ipc"]).stdout, "undefined undefined")
  })

  it("passes signals on once and waits for the program's answer", async () => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      const child = spawn(node, [bin, "wait"], { stdio: ["ignore", "pipe", "inherit"], env: environment() })
      let output = ""
      child.stdout.on("data", (chunk: Buffer) => {
        if (output === "") child.kill(signal)
        output += chunk.toString()
      })
      const [code] = await once(child, "close")
      assert.strictEqual(code, 7)
      assert.deepStrictEqual(output.trim().split("\n").slice(1), [signal])
    }
  })

  it("SIGUSR1 opens no debugger's port, even before the program minds it", async () => {
    const child = spawn(node, [bin, "wait"], { stdio: ["ignore", "pipe", "pipe"], env: environment() })
    let said = ""
    child.stdout.on("data", (chunk: Buffer) => {
      const program = /^ready (\d+)/.exec(chunk.toString())?.[1]
      if (program === undefined) return
      for (const pid of new Set([child.pid ?? 0, Number(program)])) process.kill(pid, "SIGUSR1")
      child.kill("SIGTERM")
    })
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString()
    })
    const [code] = await once(child, "close")
    assert.strictEqual(code, 7)
    assert.strictEqual(said, "")
  })

  it.skipIf(process.platform === "win32")("keeps compiled code where only this user writes, whatever the umask", () => {
    const cache = Path.join(box, "deep/cache")
    const start = (home: string): SpawnSyncReturns<string> =>
      spawnSync("/bin/sh", ["-c", 'umask 000; exec "$0" "$@"', node, bin, "which"], {
        encoding: "utf8",
        env: { ...process.env, XDG_CACHE_HOME: home }
      })
    const mode = (...names: ReadonlyArray<string>): number => Fs.statSync(Path.join(cache, ...names)).mode & 0o777
    assert.strictEqual(start(cache).stdout, "src")
    assert.deepStrictEqual([mode(), mode("clawchat"), mode("clawchat/code")], [0o700, 0o700, 0o700])
    assert.isAbove(Fs.readdirSync(Path.join(cache, "clawchat/code")).length, 0)
    // What an earlier version left open is closed.
    Fs.chmodSync(Path.join(cache, "clawchat"), 0o777)
    Fs.chmodSync(Path.join(cache, "clawchat/code"), 0o775)
    assert.strictEqual(start(cache).stdout, "src")
    assert.deepStrictEqual([mode("clawchat"), mode("clawchat/code")], [0o700, 0o700])
    assert.strictEqual(start("/proc/clawchat").stdout, "src")
    Fs.rmSync(Path.join(box, "deep"), { recursive: true })
  })

  it("relays messages both ways, and ends with its parent's channel", async () => {
    const child = fork(bin, ["echo"], {
      execPath: node,
      execArgv: [],
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      env: environment()
    })
    child.send({ n: 1 })
    const [answer] = await once(child, "message")
    assert.deepStrictEqual(answer, { echo: { n: 1 } })
    child.disconnect()
    const [code, signal] = await once(child, "exit")
    assert.isTrue(code === 0 || signal === "SIGTERM")
  })

  it("a program that does not listen to its parent's channel ends when it is done", async () => {
    const child = fork(bin, ["exit", "3"], { execPath: node, execArgv: [], env: environment() })
    const [code] = await once(child, "exit")
    assert.strictEqual(code, 3)
  })

  it("takes dist only when it is newer than everything in src", () => {
    const dist = Path.join(box, "dist/clawchat.cjs")
    const now = Math.floor(Fs.statSync(Path.join(box, "src/main.ts")).mtimeMs / 1000)
    const touch = (file: string, seconds: number): void =>
      Fs.utimesSync(Path.join(box, file), now + seconds, now + seconds)
    touch("src/main.ts", 0)
    touch("src/domain/Other.ts", 0)
    assert.strictEqual(run(["which"]).stdout, "src")
    Fs.writeFileSync(dist, program("dist", ""))
    touch("dist/clawchat.cjs", 5)
    assert.strictEqual(run(["which"]).stdout, "dist")
    touch("src/domain/Other.ts", 6)
    assert.strictEqual(run(["which"]).stdout, "src")
    touch("src/domain/Other.ts", 5)
    assert.strictEqual(run(["which"]).stdout, "src")
    Fs.rmSync(dist)
  })

  it("a published package has no src and runs the file beside it", () => {
    const published = Path.join(box, "node_modules/clawchat")
    Fs.cpSync(Path.join(box, "bin"), Path.join(published, "bin"), { recursive: true })
    const start = (): SpawnSyncReturns<string> =>
      spawnSync(node, [Path.join(published, "bin/clawchat.mjs"), "which"], { encoding: "utf8", env: environment() })
    const broken = start()
    assert.strictEqual(broken.status, 1)
    assert.match(broken.stderr, /^clawchat: this installation is incomplete[^\n]*\n$/)
    Fs.writeFileSync(Path.join(published, "clawchat.cjs"), program("published", ""))
    assert.strictEqual(start().stdout, "published")
    Fs.rmSync(published, { recursive: true })
  })
}

describe("bin/clawchat.mjs", () => {
  it("is executable", () => {
    assert.strictEqual(Fs.statSync(Path.join(root, "bin/clawchat.mjs")).mode & 0o111, 0o111)
  })

  describe(`on Node ${process.version}`, () => suite(process.execPath))

  const old = systemNode !== undefined && isOld(systemVersion) && hasInstalled
  const why = old
    ? ""
    : ` (skipped: the system's Node, ${systemVersion}, is not older, or ${nodeName} is not installed)`
  describe.skipIf(!old)(`on the system's Node ${systemVersion}${why}`, () => {
    suite(systemNode ?? "")

    it("the child notices when the wrapper is killed outright", async () => {
      const child = spawn(systemNode ?? "", [bin, "wait"], { stdio: ["ignore", "pipe", "inherit"], env: environment() })
      let output = ""
      child.stdout.on("data", (chunk: Buffer) => {
        if (output === "") child.kill("SIGKILL")
        output += chunk.toString()
      })
      // The pipe closes only when the program, which shares it, has ended too.
      await once(child, "close")
      assert.strictEqual(child.signalCode, "SIGKILL")
      assert.deepStrictEqual(output.trim().split("\n").slice(1), ["SIGTERM"])
    })

    it("names the fix in one line when there is no newer Node", () => {
      const bare = Path.join(box, "bare")
      Fs.mkdirSync(Path.join(bare, "bin"), { recursive: true })
      Fs.mkdirSync(Path.join(bare, "src"))
      Fs.copyFileSync(bin, Path.join(bare, "bin/clawchat.mjs"))
      // Above it stands the box's node_modules; a link to nothing there would be found first.
      Fs.renameSync(Path.join(box, "node_modules"), Path.join(box, "elsewhere"))
      const run = spawnSync(systemNode ?? "", [Path.join(bare, "bin/clawchat.mjs")], { encoding: "utf8" })
      Fs.renameSync(Path.join(box, "elsewhere"), Path.join(box, "node_modules"))
      assert.strictEqual(run.status, 1)
      assert.match(run.stderr, /^clawchat: needs Node 24\.7 or newer, this is v[^\n]*npm ci --ignore-scripts[^\n]*\n$/)
    })
  })
})
