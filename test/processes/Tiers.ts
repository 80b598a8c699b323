/**
 * The program as its users run it: processes of their own, homes in a temporary folder, real UDP on loopback. Nothing is
 * waited for by the clock but failure: tests wait for lines, exits and changes of files.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomInt } from "node:crypto"
import * as Dgram from "node:dgram"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout } from "node:timers/promises"
import { assert } from "@effect/vitest"
import { bin, cache } from "../Program.ts"

/** Milliseconds after which something that should have happened has not. */
const DEADLINE_MS = 60_000
/** Below every range that hosts and the server itself draw from. */
const PORT_FIRST = 20_000
const PORT_END = 32_768

/** What depends on /proc: who is left, which sockets are open, what others may see. */
export const hasProc = Fs.existsSync("/proc/self/environ")
export const whyNoProc = hasProc ? "" : " (skipped: this host has no /proc)"

export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface Result extends Exit {
  readonly stdout: string
  readonly stderr: string
}

export interface Options {
  /** Added to the environment, which has else only HOME, PATH and a cache. */
  readonly env?: Readonly<Record<string, string>>
  /** All of standard input; without it there is none. */
  readonly input?: string
  /** Standard input stays open, for `write` and `end`. */
  readonly open?: boolean
  readonly cwd?: string
  /** Another program than ours. */
  readonly program?: string
  readonly umask?: number
}

/** Fails, telling what was said so far, when `promise` takes longer than anything here may. */
const within = async <A>(promise: Promise<A>, what: () => string): Promise<A> => {
  const done = new AbortController()
  const late = setTimeout(DEADLINE_MS, undefined, { signal: done.signal }).then(
    () => Promise.reject(new Error(`not within ${DEADLINE_MS / 1000} s: ${what()}`)),
    () => promise
  )
  return Promise.race([promise, late]).finally(() => done.abort())
}

/** Waits for what nothing tells: the end of a process that is not ours. */
export const until = async (isSo: () => boolean, what: string): Promise<void> => {
  const start = performance.now()
  while (!isSo()) {
    if (performance.now() - start > DEADLINE_MS) assert.fail(`not within ${DEADLINE_MS / 1000} s: ${what}`)
    await setTimeout(20)
  }
}

/** A running process and all that it has said. */
export class Running {
  readonly child: ChildProcess
  readonly name: string
  stdout = ""
  stderr = ""
  readonly #closed: Promise<Exit>
  readonly #listeners = new Set<() => void>()
  #isOver = false

  constructor(child: ChildProcess, name: string) {
    this.child = child
    this.name = name
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.stdout += text
      this.#tell()
    })
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.stderr += text
      this.#tell()
    })
    this.#closed = once(child, "close").then(([code, signal]) => {
      this.#isOver = true
      this.#tell()
      return { code, signal }
    })
  }

  get pid(): number {
    return this.child.pid ?? assert.fail(`${this.name} did not start`)
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener()
  }

  said(): string {
    return `${this.name}\n--- stdout\n${this.stdout}--- stderr\n${this.stderr}---`
  }

  #find(read: () => string, pattern: RegExp, from: number): Promise<RegExpExecArray> {
    const found = new Promise<RegExpExecArray>((resolve, reject) => {
      const look = (): void => {
        const match = pattern.exec(read().slice(from))
        if (match !== null) resolve(match)
        else if (this.#isOver) reject(new Error(`ended without ${pattern}: ${this.said()}`))
        else return
        this.#listeners.delete(look)
      }
      this.#listeners.add(look)
      look()
    })
    return within(found, () => `${pattern} from ${this.said()}`)
  }

  /** Waits for standard output, from the given length on, to hold the pattern. */
  out(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    return this.#find(() => this.stdout, pattern, from)
  }

  /** The same for standard error. */
  err(pattern: RegExp, from = 0): Promise<RegExpExecArray> {
    return this.#find(() => this.stderr, pattern, from)
  }

  write(text: string): void {
    this.child.stdin?.write(text)
  }

  end(text = ""): void {
    this.child.stdin?.end(text)
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal)
  }

  /** How it ended, once it has and its output was read to the end. */
  exit(): Promise<Exit> {
    return within(this.#closed, () => `the end of ${this.said()}`)
  }

  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Exit> {
    this.kill(signal)
    return this.exit()
  }
}

/** A folder with homes, and every process that was started with it as HOME. */
export class World {
  readonly folder: string
  readonly #running: Array<Running> = []
  readonly #onExit = (): void => {
    for (const { child } of this.#running) child.kill("SIGKILL")
  }

  constructor() {
    this.folder = Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-world-")))
    process.once("exit", this.#onExit)
  }

  path(...names: ReadonlyArray<string>): string {
    return Path.join(this.folder, ...names)
  }

  start(args: ReadonlyArray<string>, options: Options = {}): Running {
    const { cwd = this.folder, env = {}, input, open = false, program = process.execPath, umask } = options
    const command = program === process.execPath ? [bin, ...args] : [...args]
    const child = spawn(
      umask === undefined ? program : "/bin/sh",
      umask === undefined ? command : ["-c", `umask ${umask.toString(8)}; exec "$0" "$@"`, program, ...command],
      {
        cwd,
        env: { PATH: process.env.PATH, HOME: this.folder, ...cache, ...env },
        stdio: [open || input !== undefined ? "pipe" : "ignore", "pipe", "pipe"]
      }
    )
    // A process that ends before it has read its input is no error of the test's.
    child.stdin?.on("error", () => {})
    const running = new Running(child, `clawchat ${args.join(" ")}`)
    this.#running.push(running)
    if (input !== undefined) running.end(input)
    return running
  }

  /** Starts and waits for the end. */
  async run(args: ReadonlyArray<string>, options: Options = {}): Promise<Result> {
    const running = this.start(args, options)
    const exit = await running.exit()
    return { ...exit, stdout: running.stdout, stderr: running.stderr }
  }

  /** As `run`, and fails unless the exit code is 0. */
  async ok(args: ReadonlyArray<string>, options: Options = {}): Promise<Result> {
    const result = await this.run(args, options)
    assert.strictEqual(result.code, 0, `clawchat ${args.join(" ")}: ${JSON.stringify(result)}`)
    return result
  }

  /** Everything that any process of this world has said. */
  output(): string {
    return this.#running.map((running) => running.said()).join("\n")
  }

  /** Live processes of this world, those included whose parents are gone. */
  processes(): ReadonlyArray<number> {
    if (!hasProc) return this.#running.filter(({ child }) => child.exitCode === null).map(({ pid }) => pid)
    const mark = `HOME=${this.folder}`
    return Fs.readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && readOr(`/proc/${name}/environ`).split("\0").includes(mark))
      .map(Number)
  }

  /** Kills what is left, in the order in which it was started, and removes the folder. */
  async end(): Promise<void> {
    for (const { child } of this.#running)
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL")
    for (const pid of this.processes()) kill(pid)
    await Promise.all(this.#running.map((running) => running.exit()))
    for (const pid of this.processes()) kill(pid)
    process.off("exit", this.#onExit)
    Fs.rmSync(this.folder, { recursive: true, force: true })
  }
}

const kill = (pid: number): void => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It has ended by itself.
  }
}

/** A file's text; empty when it is gone or not ours to read. */
export const readOr = (path: string): string => {
  try {
    return Fs.readFileSync(path, "latin1")
  } catch {
    return ""
  }
}

/** A test in a world of its own, which is gone at its end whatever happened. */
export const inWorld = (test: (world: World) => Promise<void>) => async (): Promise<void> => {
  const world = new World()
  try {
    await test(world)
  } finally {
    await world.end()
  }
}

/** Takes a UDP port on loopback until `close`. */
export const occupy = async (port: number): Promise<Dgram.Socket> => {
  const socket = Dgram.createSocket("udp4")
  socket.bind({ address: "127.0.0.1", port, exclusive: true })
  await once(socket, "listening")
  return socket
}

/** A UDP port that nobody has on loopback, and that hosts give nobody by themselves. */
export const freePort = async (): Promise<number> => {
  for (;;) {
    const port = randomInt(PORT_FIRST, PORT_END)
    try {
      const socket = await occupy(port)
      await new Promise<void>((resolve) => socket.close(() => resolve()))
      return port
    } catch {
      // Somebody has it.
    }
  }
}

/** Local ports of the UDP sockets of a process. */
export const udpPorts = (pid: number): ReadonlyArray<number> => {
  const inodes = new Set(
    Fs.readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      const match = /^socket:\[(\d+)\]$/.exec(linkOr(`/proc/${pid}/fd/${fd}`))
      return match === null ? [] : [match[1]]
    })
  )
  return udpTable()
    .filter(({ inode }) => inodes.has(inode))
    .map(({ port }) => port)
}

const linkOr = (path: string): string => {
  try {
    return Fs.readlinkSync(path)
  } catch {
    return ""
  }
}

/** All UDP sockets of this host. */
export const udpTable = (): ReadonlyArray<{ readonly port: number; readonly inode: string | undefined }> =>
  ["/proc/net/udp", "/proc/net/udp6"].flatMap((table) =>
    readOr(table)
      .split("\n")
      .slice(1)
      .filter((line) => line.trim() !== "")
      .map((line) => {
        const fields = line.trim().split(/\s+/)
        return { port: Number.parseInt(fields[1]?.split(":")[1] ?? "", 16), inode: fields[9] }
      })
  )

/** Every file below a folder with its content, or what else it is. */
export const tree = (folder: string): Readonly<Record<string, string>> => {
  if (!Fs.existsSync(folder)) return {}
  const entries = Fs.readdirSync(folder, { recursive: true, withFileTypes: true })
  return Object.fromEntries(
    entries
      .map((entry) => {
        const path = Path.join(entry.parentPath, entry.name)
        const what = entry.isFile() ? Fs.readFileSync(path, "latin1") : entry.isDirectory() ? "folder" : "other"
        return [Path.relative(folder, path), what] as const
      })
      .sort()
  )
}

/** Files and folders below a folder that others than their owner may read, write or enter. */
export const openToOthers = (folder: string): ReadonlyArray<string> =>
  ["", ...Fs.readdirSync(folder, { recursive: true, encoding: "utf8" })].flatMap((name) => {
    const mode = Fs.lstatSync(Path.join(folder, name)).mode
    return (mode & 0o077) === 0 ? [] : [`${(mode & 0o777).toString(8)} ${name}`]
  })

/** A failed command: the code, one line on standard error that holds the pattern, nothing on standard output. */
export const assertFails = (result: Result, code: number, pattern: RegExp): void => {
  const about = JSON.stringify(result)
  assert.strictEqual(result.code, code, about)
  assert.strictEqual(result.stdout, "", about)
  assert.match(result.stderr, /^clawchat: [^\n]+\n$/, about)
  assert.match(result.stderr, pattern, about)
}

/** Nobody but a programmer wants to see a stack. */
export const assertNoStacks = (output: string): void => {
  assert.notMatch(output, /^\s+at .*(\.ts|\.[cm]?js|node:)[^\n]*:\d+/m)
  assert.notMatch(output, /should not have happened/)
}

// -- three tiers --------------------------------------------------------------------------------------------------------

/** A server and an llm tier that know each other, on ports of their own. */
export class Tiers {
  readonly world: World
  readonly home: string
  readonly port: number
  readonly llmPort: number
  server: Running
  llm: Running
  /** The llm tier's environment, also when it starts again. */
  env: Readonly<Record<string, string>> = {}

  private constructor(world: World, home: string, port: number, llmPort: number, server: Running, llm: Running) {
    this.world = world
    this.home = home
    this.port = port
    this.llmPort = llmPort
    this.server = server
    this.llm = llm
  }

  /** Starts both, the llm tier first or last, and waits until they have found each other. */
  static async start(
    world: World,
    options: {
      readonly first?: "server" | "llm"
      readonly umask?: number
      /** The server draws its port, as it does when nobody fixes it. */
      readonly draws?: boolean
      /** Added to the llm tier's environment. */
      readonly llm?: Readonly<Record<string, string>>
    } = {}
  ) {
    const home = world.path("s")
    const port = await freePort()
    const llmPort = await freePort()
    const more = options.umask === undefined ? {} : { umask: options.umask }
    const start = {
      server: () =>
        world.start(serverArgs(home, options.draws === true ? undefined : port), { env: llmEnv(llmPort), ...more }),
      llm: () => world.start(["llm", "--home", home], { env: { ...llmEnv(llmPort), ...options.llm }, ...more })
    }
    const isServerFirst = options.first === "server"
    const one = isServerFirst ? start.server() : start.llm()
    if (options.first !== undefined) await one.out(/^Listening on UDP .*\n/m)
    const other = isServerFirst ? start.llm() : start.server()
    const tiers = new Tiers(world, home, port, llmPort, isServerFirst ? one : other, isServerFirst ? other : one)
    tiers.env = options.llm ?? {}
    await tiers.server.out(/^LLM connection established$/m)
    return tiers
  }

  get file(): string {
    return Path.join(this.home, "security/clawchat-current.sec")
  }

  get keyFile(): string {
    return Path.join(this.home, "config/bootstrap.key")
  }

  /** Starts the server again; it is ready when this returns. */
  async startServer(args: ReadonlyArray<string> = serverArgs(this.home, this.port)): Promise<Running> {
    this.server = this.world.start(args, { env: llmEnv(this.llmPort) })
    await this.server.out(/^LLM connection established$/m)
    return this.server
  }

  async startLlm(): Promise<Running> {
    this.llm = this.world.start(["llm", "--home", this.home], { env: { ...llmEnv(this.llmPort), ...this.env } })
    await this.llm.out(/^Listening on UDP .*\n/m)
    return this.llm
  }

  /** A fresh credential file at `name`, as a person would carry it. */
  async credential(name: string): Promise<string> {
    const out = this.world.path(name)
    await this.world.ok(["sec", "new", "--home", this.home, "--out", out])
    return out
  }

  /** A new device's home, paired. */
  async pair(name: string): Promise<string> {
    const home = this.world.path(name)
    const file = await this.credential(`${name}.sec`)
    await this.world.ok(["pair", file, "--home", home, "--key-file", this.keyFile])
    return home
  }
}

export const llmEnv = (port: number): Readonly<Record<string, string>> => ({ CLAWCHAT_LLM_PORT: String(port) })

/** Without a port the server draws one. */
export const serverArgs = (home: string, port?: number): ReadonlyArray<string> => [
  "server",
  "--home",
  home,
  ...(port === undefined ? [] : ["--port", String(port)]),
  "--bind",
  "127.0.0.1",
  "--ip",
  "127.0.0.1"
]

// -- secrets ------------------------------------------------------------------------------------------------------------

/** Every secret that lies in the homes of a world, as it stands there and in the forms in which it might slip out. */
export const secrets = (world: World): ReadonlyArray<string> => {
  const found = new Set<string>()
  const add = (hexadecimal: string): void => {
    found.add(hexadecimal)
    found.add(Buffer.from(hexadecimal, "hex").toString("base64").replace(/=+$/, ""))
  }
  for (const [path, content] of Object.entries(tree(world.folder))) {
    if (path.endsWith("bootstrap.key")) found.add(content.trim())
    if (/(static\.key|port\.seed)$/.test(path)) add(content.trim())
    for (const [, secret] of content.matchAll(/"(?:psk|filePsk|portSeed)":"([0-9a-f]{64})"/g)) add(secret ?? "")
  }
  return [...found]
}

/** No process of the world has let a secret slip. */
export const assertNoSecrets = (world: World, more: ReadonlyArray<string> = []): void => {
  const said = world.output()
  const all = [...secrets(world), ...more]
  assert.isAbove(all.length, 0)
  assert.deepStrictEqual(
    all.filter((secret) => said.includes(secret)),
    []
  )
}
