#!/usr/bin/env node
// Starts ClawChat on whatever Node is here. This file is read by old ones too: no syntax newer than Node 12.
//
// On Node >= 24.7 it loads the program into this process: dist/ when that is newer than all of src/, else src/main.ts.
// Compiled code is kept between runs: of src/ by Node, of dist/ by Bundle.mjs, which needs a new Node.
// On an older Node it runs itself again on the Node that npm put into node_modules, and stands in for that child:
// standard streams are shared, signals go down, IPC messages go both ways, exit code and signal come back.
//
// The two live and die together. The child holds an IPC channel to this wrapper even when nobody asked for one
// (CLAWCHAT_PARENT_IPC=1; "relay" when the wrapper has a parent of its own to talk to). When the channel closes, also
// because the wrapper was killed outright, the child sends itself SIGTERM. A plain wrapper's channel is hidden from the
// program: process.send is undefined there, as it is on a new Node.

/* biome-ignore-start lint/style/useNodejsImportProtocol: the oldest Nodes do not know the prefix */
import { spawn } from "child_process"
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "fs"
import * as Module from "module"
import { constants, homedir } from "os"
import { dirname, join } from "path"
import { isatty } from "tty"
import { fileURLToPath, pathToFileURL } from "url"
import { setFlagsFromString } from "v8"

/* biome-ignore-end lint/style/useNodejsImportProtocol: see above */

const self = fileURLToPath(import.meta.url)
const root = dirname(dirname(self))
const src = join(root, "src")

const fail = (message) => {
  process.stderr.write(`clawchat: ${message}\n`)
  process.exitCode = 1
}

const isNewEnough = (version) => {
  const parts = version.replace(/^v/, "").split(".").map(Number)
  return parts[0] > 24 || (parts[0] === 24 && parts[1] >= 7)
}

/** Whether anything below a folder changed at or after `time` (ms). */
const changedSince = (folder, time) =>
  readdirSync(folder, { withFileTypes: true }).some((entry) => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? changedSince(path, time) : statSync(path).mtimeMs >= time
  })

const entryPoint = () => {
  const built = [join(root, "dist", "clawchat.cjs"), join(root, "clawchat.cjs")].find(existsSync)
  if (!existsSync(src)) return built
  return built !== undefined && !changedSince(src, statSync(built).mtimeMs) ? built : join(src, "main.ts")
}

/** The Node that npm installed for this machine: in this package's node_modules or in one above it. */
const installedNode = () => {
  const windows = process.platform === "win32"
  const name = `node-${windows ? "win" : process.platform}-${process.arch}`
  for (let folder = root; ; folder = dirname(folder)) {
    const home = join(folder, "node_modules", name)
    const node = join(home, "bin", windows ? "node.exe" : "node")
    if (existsSync(node) && isNewEnough(JSON.parse(readFileSync(join(home, "package.json"), "utf8")).version))
      return node
    if (dirname(folder) === folder) return undefined
  }
}

/** Makes a folder and what is missing above it, 0700 whatever the umask. mkdir's `recursive` tries for ever below /proc. */
const makeFolder = (folder) => {
  if (existsSync(folder)) return
  makeFolder(dirname(folder))
  try {
    mkdirSync(folder, 0o700)
  } catch (error) {
    // Two processes that start at once make it both.
    if (error.code !== "EEXIST") throw error
  }
}

/**
 * Compiled code is kept where only this user writes: whoever can write it can run code as the user. Answers the folder, or
 * undefined: a user without a home starts a little slower.
 */
const codeFolder = () => {
  try {
    const base = process.env.XDG_CACHE_HOME || process.env.LOCALAPPDATA || join(homedir(), ".cache")
    const folder = join(base, "clawchat")
    const code = join(folder, "code")
    makeFolder(code)
    for (const each of process.geteuid === undefined ? [] : [folder, code]) {
      const { mode, uid } = statSync(each)
      if (uid !== process.geteuid()) return undefined
      if ((mode & 0o077) !== 0) chmodSync(each, 0o700)
    }
    return code
  } catch (_) {
    return undefined
  }
}

/** Each command calls functions of its own, so each has its own code; a line that does not begin with one has the rest. */
const COMMANDS =
  "audit chat client compromised cron devices doctor drafts files history llm memory models pair ping rendezvous sec server status up usage version"
const codeOf = (folder) => {
  const command = COMMANDS.split(" ").find((each) => each === process.argv[2]) || "other"
  return folder === undefined ? undefined : join(folder, `${command}.v8`)
}

/**
 * Every datagram and block received is memory outside of V8's heap, and 64 MB of it make V8 mark the whole heap in the
 * background: two dozen times a second at 1.2 GB/s, a third of a core, and while it marks, scavenges let nothing go. With a
 * young generation that stays small (1 MB, twice) and no marking in steps they free the buffers before it comes to that.
 * Whatever outlives two scavenges is old, and V8 would let that grow to several times what is in use: moving 20,000 files
 * took 240 MB. So it collects at a quarter more, and one thread scavenges: several fill pages that are never full.
 *
 * Nor does a thread in the background compile for the baseline: where it finds that quarter used up it waits for the main
 * thread to collect, and one that is in process.exit() waits for that thread: seen once, a `ping` that never ended.
 */
const tuneCollector = () => {
  const flags = ["--no-incremental-marking", "--semi-space-growth-factor=1", "--heap-growing-percent=25"]
  for (const flag of flags.concat("--no-parallel-scavenge", "--no-concurrent-sparkplug")) setFlagsFromString(flag)
}

/**
 * Threads that wait for the disk, instead of four: a journal makes as many fsyncs durable at once as wait for it, so many
 * small files are kept two to three times as fast. It counts for what first asks for a thread, which is later than this.
 */
const tuneDisk = () => {
  if (process.env.UV_THREADPOOL_SIZE === undefined) process.env.UV_THREADPOOL_SIZE = "16"
}

const followParent = () => {
  const kind = process.env.CLAWCHAT_PARENT_IPC
  delete process.env.CLAWCHAT_PARENT_IPC
  if (kind === undefined || !process.channel) return
  process.on("disconnect", () => process.kill(process.pid, "SIGTERM"))
  // A listener would keep a finished program alive. unref() says so for good, so it must not be used where the program
  // may listen itself: there only this one listener is taken out of the count.
  if (kind === "relay") process.channel.unrefCounted()
  else {
    process.channel.unref()
    process.send = undefined
  }
}

const start = () => {
  const entry = entryPoint()
  if (entry === undefined) return fail(`this installation is incomplete, ${root} holds no program: install it again`)
  if (existsSync(src) && !existsSync(join(root, "node_modules")))
    return fail("dependencies are missing: run npm ci --ignore-scripts in the project's folder")
  followParent()
  tuneCollector()
  tuneDisk()
  const folder = codeFolder()
  if (entry.endsWith(".cjs")) import("./Bundle.mjs").then(({ run }) => run(entry, codeOf(folder)))
  else {
    if (folder !== undefined) Module.enableCompileCache(folder)
    import(pathToFileURL(entry).href)
  }
}

const startOn = (node) => {
  const relay = process.send !== undefined
  const child = spawn(node, ["--disable-sigusr1", self].concat(process.argv.slice(2)), {
    env: Object.assign({}, process.env, { CLAWCHAT_PARENT_IPC: relay ? "relay" : "1" }),
    stdio: ["inherit", "inherit", "inherit", "ipc"]
  })
  const ignore = () => {}

  // Ctrl-C reaches every process of the terminal's foreground group, the child too: passing it on would deliver it twice.
  const terminal = [0, 1, 2].some((fd) => isatty(fd))
  const passOn = (signal) => () => {
    if (signal !== "SIGINT" || !terminal) child.kill(signal)
  }
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"]
  for (const signal of signals) process.on(signal, passOn(signal))

  if (relay) {
    process.on("message", (message, handle) => child.connected && child.send(message, handle, ignore))
    process.on("disconnect", () => child.connected && child.disconnect())
    child.on("message", (message, handle) => process.connected && process.send(message, handle, ignore))
    child.on("disconnect", () => process.connected && process.disconnect())
  }

  child.on("error", (error) => fail(`cannot run ${node} (${error.code}): run npm ci --ignore-scripts again`))
  child.on("exit", (code, signal) => {
    if (relay && process.connected) process.disconnect()
    process.exitCode = signal === null ? code : 128 + (constants.signals[signal] || 0)
    if (signal === null) return
    for (const each of signals) process.removeAllListeners(each)
    process.kill(process.pid, signal)
  })
}

// Else Node would open a debugger's port, and through that all that is in memory; told not to, it would die of the signal.
process.on("SIGUSR1", () => {})

if (isNewEnough(process.versions.node)) start()
else {
  const node = installedNode()
  if (node !== undefined) startOn(node)
  else {
    const remedy = existsSync(src) ? "run npm ci --ignore-scripts in the project's folder, or " : ""
    fail(`needs Node 24.7 or newer, this is ${process.version}: ${remedy}install Node 24 (https://nodejs.org)`)
  }
}
