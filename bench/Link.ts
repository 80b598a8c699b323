/**
 * An emulated link between two network namespaces (link/link.c, compiled into a temporary folder when first needed).
 * Linux, root, a C compiler and /dev/net/tun are needed; without them `missing` says which.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { createInterface } from "node:readline"

export interface LinkOptions {
  readonly rateMbit: number
  readonly rttMs: number
  readonly lossPercent: number
  /** Drop-tail queue in bandwidth-delay products. */
  readonly queueBdp: number
}

export interface Link {
  /** Command words that run a process at each end: the listener's at 1, the client's at 0. */
  readonly enter: readonly [client: ReadonlyArray<string>, listener: ReadonlyArray<string>]
  /** The listener's address. */
  readonly host: string
  /** Chooses TCP's congestion control at both ends. */
  readonly tcp: (name: string) => void
  /** Ends it; answers what it did to packets of the client and of the listener. */
  readonly end: () => Promise<readonly [fromClient: Direction, fromListener: Direction]>
}

export interface Direction {
  readonly sent: number
  readonly bytes: number
  /** By chance. */
  readonly lost: number
  /** By the full queue. */
  readonly dropped: number
  readonly deepestMs: number
}

const LISTENER_HOST = "10.123.0.2"

const works = (command: string, args: ReadonlyArray<string>): boolean =>
  spawnSync(command, args, { stdio: "ignore" }).status === 0

let program: string | undefined

const compile = (): string => {
  if (program !== undefined) return program
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-link-"))
  process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
  const binary = path.join(folder, "link")
  const source = path.join(import.meta.dirname, "link", "link.c")
  const { status, stderr } = spawnSync("cc", ["-O2", "-o", binary, source], { encoding: "utf8" })
  if (status !== 0) throw new Error(`link.c does not compile: ${stderr}`)
  program = binary
  return binary
}

/** What keeps links from being made here, or undefined. */
export const missing = (): string | undefined => {
  if (process.platform !== "linux") return "links need Linux"
  if (process.getuid?.() !== 0) return "links need root"
  if (!fs.existsSync("/dev/net/tun")) return "links need /dev/net/tun"
  if (!works("cc", ["--version"])) return "links need a C compiler (cc)"
  if (!works("nsenter", ["--version"])) return "links need nsenter (util-linux)"
  return undefined
}

const bdpBytes = ({ rateMbit, rttMs }: LinkOptions): number => (rateMbit * 1e6 * rttMs) / 1000 / 8

let seed = 1

const firstLine = async (child: ChildProcess, lines: AsyncIterator<string>): Promise<string> => {
  const { value } = await lines.next()
  if (typeof value !== "string") throw new Error(`the link ended with ${child.exitCode}`)
  return value
}

export const make = async (options: LinkOptions): Promise<Link> => {
  const { rateMbit, rttMs, lossPercent, queueBdp } = options
  const queueBytes = Math.round(bdpBytes(options) * queueBdp)
  const child = spawn(compile(), [rateMbit, rttMs / 2, lossPercent, queueBytes, seed++].map(String), {
    stdio: ["pipe", "pipe", "inherit"]
  })
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]()
  const [, pid, client, listener] = (await firstLine(child, lines)).split(" ")
  const enter = (fd: string | undefined) => ["nsenter", `--net=/proc/${pid}/fd/${fd}`]
  const ends = [enter(client), enter(listener)] as const
  const each = (what: string, words: ReadonlyArray<string>): void => {
    for (const [command = "", ...args] of ends) {
      if (!works(command, [...args, ...words])) throw new Error(`the link's ends: cannot set ${what}`)
    }
  }
  // A connection must not learn from the one before.
  each("tcp_no_metrics_save", ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save"])
  return {
    enter: ends,
    host: LISTENER_HOST,
    // By the route: the sysctl takes only what the host allows to everybody.
    tcp: (name) => each(`TCP to ${name}`, ["ip", "route", "replace", "10.123.0.0/24", "dev", "link", "congctl", name]),
    end: async () => {
      const done = once(child, "exit")
      child.stdin.end()
      const said = await firstLine(child, lines)
      await done
      return JSON.parse(said)
    }
  }
}
