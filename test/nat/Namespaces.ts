/**
 * Hosts of a network of our own: each a Linux network namespace without a name, held by a shell that ends when we do, so that
 * nothing is left however a test ends. Needs root and the usual tools; `whyNot` says what is missing.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Path from "node:path"

const TOOLS = ["ip", "nft", "unshare", "nsenter", "setpriv", "sh"]
const FOLDERS = [...(process.env.PATH ?? "").split(Path.delimiter), "/usr/sbin", "/sbin", "/usr/bin", "/bin"]

const PATH = FOLDERS.join(Path.delimiter)

/** The path of a program, wherever this host keeps it. */
export const tool = (name: string): string | undefined =>
  FOLDERS.map((folder) => Path.join(folder, name)).find((path) => Fs.existsSync(path))

const obstacle = (): string => {
  if (process.platform !== "linux") return "network namespaces need Linux"
  if (process.geteuid?.() !== 0) return "network namespaces need root"
  const missing = TOOLS.filter((name) => tool(name) === undefined)
  if (missing.length > 0) return `${missing.join(", ")} not installed`
  // What every world here is made of; a container may lack the right, or its kernel a module.
  const rules = "add table ip t; add chain ip t c { type nat hook postrouting priority srcnat; }"
  const trial = `ip link add veth0 type veth peer name veth1 && ip link add br0 type bridge && nft '${rules}'`
  return spawnSync("unshare", ["-n", "sh", "-c", trial], { env: { PATH } }).status === 0
    ? ""
    : "no namespace with veth, bridge and nftables NAT to be had here"
}

const found = obstacle()
export const hasNamespaces = found === ""
export const whyNot = hasNamespaces ? "" : ` (skipped: ${found})`

/** What starts a program in a host: it ends when the thread that started it does. */
const inside = (pid: number, program: string, args: ReadonlyArray<string>): ReadonlyArray<string> => [
  `--net=/proc/${pid}/ns/net`,
  "setpriv",
  "--pdeathsig",
  "KILL",
  program,
  ...args
]

/** The end of one line of a shell's answer: nothing that a command would print by itself. */
const DONE = "--done--"

export class Host {
  readonly name: string
  readonly #shell: ChildProcess
  #said = ""
  #complaints = ""
  #tell: () => void = () => {}
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(name: string, shell: ChildProcess) {
    this.name = name
    this.#shell = shell
    shell.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#said += text
      this.#tell()
    })
    shell.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#complaints += text
    })
    shell.on("close", () => this.#tell())
    shell.stdin?.on("error", () => {})
  }

  static async make(name: string): Promise<Host> {
    const shell = spawn("unshare", ["-n", "setpriv", "--pdeathsig", "KILL", "sh"], {
      env: { PATH },
      stdio: ["pipe", "pipe", "pipe"]
    })
    const host = new Host(name, shell)
    await host.sh("ip link set lo up")
    return host
  }

  get pid(): number {
    const { pid } = this.#shell
    if (pid === undefined) throw new Error(`${this.name} has no shell`)
    return pid
  }

  /** Runs lines of shell in the host, one call after the other; fails when the last of them does. */
  sh(script: string): Promise<string> {
    const next = this.#turn.then(() => this.#run(script))
    this.#turn = next.catch(() => {})
    return next
  }

  /** Program and arguments that run something in this host, for `spawn`. */
  command(
    program: string,
    args: ReadonlyArray<string>
  ): { readonly program: string; readonly args: ReadonlyArray<string> } {
    return { program: tool("nsenter") ?? "nsenter", args: inside(this.pid, program, args) }
  }

  /** Replaces rules of the packet filter, all or none. */
  nft(rules: string): Promise<string> {
    return this.sh(`nft -f - <<'RULES'\n${rules}\nRULES`)
  }

  async end(): Promise<void> {
    if (this.#shell.exitCode !== null || this.#shell.signalCode !== null) return
    const gone = once(this.#shell, "exit")
    this.#shell.kill("SIGKILL")
    await gone
  }

  async #run(script: string): Promise<string> {
    this.#said = ""
    this.#complaints = ""
    this.#shell.stdin?.write(`${script}\necho "${DONE} $?"\n`)
    const end = new RegExp(`^${DONE} (\\d+)\\n`, "m")
    const code = await new Promise<string>((resolve, reject) => {
      this.#tell = () => {
        const match = end.exec(this.#said)
        if (match !== null) resolve(match[1] ?? "")
        else if (this.#shell.exitCode !== null || this.#shell.signalCode !== null)
          reject(new Error("its shell is gone"))
      }
      this.#tell()
    })
    if (code !== "0") throw new Error(`${this.name}: ${script}\n${this.#complaints}`)
    return this.#said.replace(end, "")
  }
}

export interface End {
  readonly host: Host
  /** The interface's name there. */
  readonly name: string
  /** With the length of its prefix; without it the end has none (a bridge's port). */
  readonly address?: string
}

/** A cable between two hosts. */
export const connect = async (a: End, b: End): Promise<void> => {
  await a.host.sh(`ip link add ${a.name} type veth peer name ${b.name} netns ${b.host.pid}`)
  for (const { address, host, name } of [a, b]) {
    await host.sh(`${address === undefined ? ":" : `ip addr add ${address} dev ${name}`}; ip link set ${name} up`)
  }
}

/** Takes a cable out of its socket, or puts it back. */
export const plug = ({ host, name }: End, is: "in" | "out"): Promise<string> =>
  host.sh(`ip link set ${name} ${is === "in" ? "up" : "down"}`)
