/** Programs that carry files between two ends of a link, or on loopback: ours, and scp and rsync with an sshd of our own. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import * as dgram from "node:dgram"
import { once } from "node:events"
import * as fs from "node:fs"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { setTimeout } from "node:timers/promises"
import { bundle } from "../tools/Bundler.ts"
import type { Place } from "./Measure.ts"

const ROOT = path.resolve(import.meta.dirname, "..")
/** On a link, where all are free. */
const PORTS = { server: 24_681, llm: 24_682, sshd: 24_683 }
/** Milliseconds a server has to be ready. */
const PATIENCE_MS = 30_000
const SSHD = "/usr/sbin/sshd"
/** sshd takes its privileges away in here. */
const SSHD_FOLDER = "/run/sshd"

export type Way = "up" | "down"

/** One that carries files; `carry` is the command of a client for one file or folder, between a name here and one there. */
export interface Mover {
  readonly name: string
  /** TCP's congestion control on a link. */
  readonly tcp?: string
  readonly carry: (way: Way, here: string, there: string, isFolder: boolean) => ReadonlyArray<string>
}

const has = (command: string): boolean =>
  spawnSync("sh", ["-c", `command -v ${command}`], { stdio: "ignore" }).status === 0

/** What keeps scp or rsync from being measured here, or undefined. */
export const missing = (name: string): string | undefined => {
  if (process.getuid?.() !== 0) return "an sshd for it needs root"
  if (!fs.existsSync(SSHD)) return "there is no sshd (openssh-server)"
  for (const command of ["ssh", "ssh-keygen", "unshare", name]) if (!has(command)) return `there is no ${command}`
  return undefined
}

/** TCP's congestion controls of this kernel, the default one first. */
export const congestions = (): ReadonlyArray<string> => {
  const read = (name: string): string => fs.readFileSync(`/proc/sys/net/ipv4/tcp_${name}`, "utf8").trim()
  const standard = read("congestion_control")
  const all = read("available_congestion_control").split(/\s+/)
  return [standard, ...["cubic", "bbr"].filter((name) => name !== standard && all.includes(name))]
}

/** Our program as it is shipped: a bundle, the file that starts it, and accelerators where npm put them. */
export const ship = async (): Promise<string> => {
  fs.mkdirSync(path.join(ROOT, "dist"), { recursive: true })
  const folder = fs.mkdtempSync(path.join(ROOT, "dist/bench-"))
  process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
  fs.cpSync(path.join(ROOT, "bin"), path.join(folder, "bin"), { recursive: true })
  await bundle(ROOT, "src/main.ts", path.join(path.relative(ROOT, folder), "clawchat.cjs"))
  return path.join(folder, "bin/clawchat.mjs")
}

/** Removes a folder into which somebody may still be writing. */
export const sweep = (folder: string): void => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 })

/** What stands below a folder by now, half-written things too. */
export const arrived = (folder: string): { readonly bytes: number; readonly files: number } => {
  const found = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
  const sizes = found.map(
    (entry) => fs.statSync(path.join(entry.parentPath, entry.name), { throwIfNoEntry: false })?.size ?? 0
  )
  return { bytes: sizes.reduce((sum, size) => sum + size, 0), files: found.length }
}

/** Free on this host for UDP and TCP, as far as one can know. */
const freePort = async (): Promise<number> => {
  const server = net.createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  const port = typeof address === "object" ? (address?.port ?? 0) : 0
  const socket = dgram.createSocket("udp4")
  socket.bind(port, "127.0.0.1")
  const isFree = await once(socket, "listening").then(
    () => true,
    () => false
  )
  await Promise.all([once(server.close(), "close"), isFree ? once(socket.close(), "close") : undefined])
  return isFree ? port : freePort()
}

const ended = async (child: ChildProcess): Promise<number | null> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit")
  return child.exitCode
}

/** Ends a child and those that it started. */
export const kill = ({ pid }: ChildProcess): void => {
  if (pid === undefined) return
  try {
    process.kill(-pid, "SIGKILL")
  } catch {
    // It is gone.
  }
}

/** Both ends at one place, below a folder of their own; `end` leaves nothing. */
export class Ends {
  readonly place: Place
  readonly bin: string
  readonly folder: string
  readonly #running = new Set<ChildProcess>()
  readonly #sweep: () => void
  #madeFolder = false
  #ports = PORTS

  constructor(place: Place, bin: string) {
    this.place = place
    this.bin = bin
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-files-"))
    this.#sweep = () => {
      for (const child of this.#running) kill(child)
      sweep(this.folder)
      if (this.#madeFolder) fs.rmSync(SSHD_FOLDER, { recursive: true, force: true })
    }
    process.once("exit", this.#sweep)
  }

  at(...names: ReadonlyArray<string>): string {
    return path.join(this.folder, ...names)
  }

  /** What both ends call the folder in which things stand at the server. */
  get remote(): string {
    return this.at("s/data")
  }

  /** Starts a program at an end: 0 the client's, 1 the server's. */
  start(end: 0 | 1, command: ReadonlyArray<string>): ChildProcess {
    const [program = "", ...words] = [...(this.place.link?.enter[end] ?? []), ...command]
    const child = spawn(program, words, {
      // What it starts itself ends with it.
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, CLAWCHAT_LLM_PORT: String(this.#ports.llm), XDG_CACHE_HOME: this.at("cache") }
    })
    this.#running.add(child)
    child.once("exit", () => this.#running.delete(child))
    return child
  }

  clawchat(...args: ReadonlyArray<string>): ReadonlyArray<string> {
    return [process.execPath, this.bin, ...args]
  }

  /** Runs a program of ours to its end; answers what it printed. */
  async run(end: 0 | 1, ...args: ReadonlyArray<string>): Promise<string> {
    const child = this.start(end, this.clawchat(...args))
    child.stdin?.end()
    let said = ""
    let complaint = ""
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      said += text
    })
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      complaint += text
    })
    const [code] = await once(child, "close")
    if (code !== 0) throw new Error(`clawchat ${args[0]} ended with ${code}: ${complaint.slice(-500)}`)
    return said
  }

  /** Waits until a program has printed a word. */
  async #ready(child: ChildProcess, word: string): Promise<void> {
    let said = ""
    const done = new AbortController()
    const told = new Promise<void>((resolve, reject) => {
      const hear = (text: string): void => {
        said += text
        if (said.includes(word)) resolve()
      }
      child.stdout?.setEncoding("utf8").on("data", hear)
      child.stderr?.setEncoding("utf8").on("data", hear)
      child.once("exit", () => reject(new Error(`a server ended: ${said.slice(-500)}`)))
    })
    const late = setTimeout(PATIENCE_MS, undefined, { signal: done.signal }).then(
      () => Promise.reject(new Error(`a server was not ready in ${PATIENCE_MS / 1000} s: ${said.slice(-500)}`)),
      () => told
    )
    await Promise.race([told, late]).finally(() => done.abort())
  }

  /** Our server, with or without an assistant behind it, and a device that is paired with it. */
  async ours(withAssistant: boolean): Promise<void> {
    const { host, link } = this.place
    if (link === undefined) this.#ports = { server: await freePort(), llm: await freePort(), sshd: await freePort() }
    const home = ["--home", this.at("s")]
    const server = this.start(
      1,
      this.clawchat("server", ...home, "--port", `${this.#ports.server}`, "--bind", host, "--ip", host)
    )
    if (withAssistant) {
      const llm = this.start(1, this.clawchat("llm", ...home, "--provider", "offline"))
      llm.stdout?.resume()
      llm.stderr?.resume()
    }
    await this.#ready(server, withAssistant ? "LLM connection established" : "Listening on UDP")
    await this.run(1, "sec", "new", ...home, "--out", this.at("c.sec"))
    await this.run(0, "pair", this.at("c.sec"), "--home", this.at("c"), "--key-file", this.at("s/config/bootstrap.key"))
    fs.mkdirSync(this.remote, { recursive: true })
  }

  /** An sshd of this place alone; its keys are made for it. */
  async sshd(): Promise<void> {
    if (!fs.existsSync(SSHD_FOLDER)) {
      fs.mkdirSync(SSHD_FOLDER, 0o755)
      this.#madeFolder = true
    }
    for (const name of ["host.key", "user.key"]) {
      const made = spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", this.at(name)], { encoding: "utf8" })
      if (made.status !== 0) throw new Error(`ssh-keygen: ${made.stderr}`)
    }
    const words = {
      ListenAddress: `${this.place.host}:${this.#ports.sshd}`,
      HostKey: this.at("host.key"),
      AuthorizedKeysFile: this.at("user.key.pub"),
      PidFile: "none",
      UsePAM: "no",
      UseDNS: "no",
      StrictModes: "no",
      PasswordAuthentication: "no",
      KbdInteractiveAuthentication: "no",
      PermitRootLogin: "prohibit-password",
      Subsystem: "sftp internal-sftp"
    }
    fs.writeFileSync(
      this.at("sshd"),
      Object.entries(words)
        .map((pair) => `${pair.join(" ")}\n`)
        .join("")
    )
    // Each connection has a process that sees its own end late, or never: all end with the first of them.
    const alone = ["unshare", "--pid", "--fork", "--kill-child=SIGKILL"]
    await this.#ready(this.start(1, [...alone, SSHD, "-D", "-e", "-f", this.at("sshd")]), "Server listening")
  }

  get #sshOptions(): ReadonlyArray<string> {
    const options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR"]
    return ["-F", "none", "-i", this.at("user.key"), ...options.flatMap((option) => ["-o", option])]
  }

  /** Ours. */
  readonly clawchatMover: Mover = {
    name: "clawchat",
    carry: (way, here, there, isFolder) => {
      const more = ["--quiet", "--home", this.at("c"), ...(isFolder ? ["-r"] : [])]
      const paths = way === "up" ? ["put", here, there] : ["get", there, here]
      return this.clawchat("files", ...paths, ...more)
    }
  }

  scp(tcp: string | undefined): Mover {
    return {
      name: tcp === undefined ? "scp" : `scp, ${tcp}`,
      ...(tcp === undefined ? {} : { tcp }),
      carry: (way, here, there, isFolder) => {
        const far = `${this.place.host}:${path.join(this.remote, there)}`
        const paths = way === "up" ? [here, far] : [far, here]
        return ["scp", "-q", "-P", String(this.#ports.sshd), ...this.#sshOptions, ...(isFolder ? ["-r"] : []), ...paths]
      }
    }
  }

  rsync(tcp: string | undefined): Mover {
    return {
      name: tcp === undefined ? "rsync" : `rsync, ${tcp}`,
      ...(tcp === undefined ? {} : { tcp }),
      carry: (way, here, there, isFolder) => {
        const ssh = ["ssh", "-p", String(this.#ports.sshd), ...this.#sshOptions].join(" ")
        const end = isFolder ? "/" : ""
        const far = `${this.place.host}:${path.join(this.remote, there)}${end}`
        const near = `${here}${end}`
        return ["rsync", "-e", ssh, ...(isFolder ? ["-r"] : []), ...(way === "up" ? [near, far] : [far, near])]
      }
    }
  }

  /** Ends all processes and removes the folder. */
  async end(): Promise<void> {
    const children = [...this.#running]
    for (const child of children) kill(child)
    await Promise.all(children.map(ended))
    process.off("exit", this.#sweep)
    this.#sweep()
  }
}
