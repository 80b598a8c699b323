/** Who is measured: variants of ours, and the rivals of rivals/package.json, which has to be installed for them. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { Worker, type WorkerOptions } from "./Harness.ts"
import type { ClientQuestions, ListenerQuestions, OurClientQuestions } from "./TransportWorker.ts"

export interface Contender {
  readonly name: string
  /** One of our variants, or undefined for a rival. */
  readonly variant?: string
  readonly file: string
  /** Words before `listener` and `client`. */
  readonly words: ReadonlyArray<string>
  /** The package whose version is told, where there is one. */
  readonly needs?: string
  /** TCP's congestion control on a link. */
  readonly tcp?: string
  readonly tls?: boolean
}

const RIVALS = path.join(import.meta.dirname, "rivals")
/** Sessions a listener of ours admits. */
const DEVICES = 8

const ours = (name: string, variant: string): Contender => ({
  name: `clawchat ${name}`,
  variant,
  file: "TransportWorker.ts",
  words: []
})

const rival = (name: string, file: string, needs: string): Contender => ({
  name,
  file: `rivals/${file}`,
  words: [],
  needs
})

const tcp = (name: string, congestion?: string): Contender => ({
  name,
  file: "rivals/Tls.mjs",
  words: [name.startsWith("tls") ? "tls" : "tcp"],
  tls: name.startsWith("tls"),
  ...(congestion === undefined ? {} : { tcp: congestion })
})

const quinn = rival("quinn", "Quic.mjs", "@chainsafe/libp2p-quic")
const udx = rival("udx-native", "Udx.mjs", "udx-native")
const hyperdht = rival("hyperdht", "HyperDht.mjs", "hyperdht")

/** Whom one would like to see here, and why they are not. */
export const absent: ReadonlyArray<string> = [
  "node-datachannel is not measured: its binary comes only by an install script's download"
]

/** On loopback, the first is the one that ratios are of. */
export const onLoopback: ReadonlyArray<Contender> = [
  ours("fast 1440", "fast/1440"),
  ours("fast 1200", "fast/1200"),
  ours("fast large", "fast"),
  ours("plain 1440", "plain/1440"),
  ours("plain 1200", "plain/1200"),
  ours("plain large", "plain"),
  quinn,
  hyperdht,
  udx,
  tcp("tls"),
  tcp("tcp")
]

export const onLinks: ReadonlyArray<Contender> = [
  ours("fast", "fast"),
  ours("plain", "plain"),
  quinn,
  hyperdht,
  udx,
  tcp("tls bbr", "bbr"),
  tcp("tls cubic", "cubic")
]

export const bulkOfTcp: Contender = tcp("tcp cubic", "cubic")

/** The list with other variants of ours, if any are asked for; they come first. */
export const withOurs = (all: ReadonlyArray<Contender>, variants: ReadonlyArray<string>): ReadonlyArray<Contender> =>
  variants.length === 0
    ? all
    : [...variants.map((variant) => ours(variant, variant)), ...all.filter((each) => each.variant === undefined)]

// -- what there is -------------------------------------------------------------------------------------------------

interface Manifest {
  readonly version: string
}

const manifest = (name: string): Manifest | undefined => {
  const file = path.join(RIVALS, "node_modules", name, "package.json")
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : undefined
}

const congestions = (): ReadonlyArray<string> => {
  try {
    return fs.readFileSync("/proc/sys/net/ipv4/tcp_available_congestion_control", "utf8").trim().split(" ")
  } catch {
    return []
  }
}

/** TCP's congestion control where nobody chooses. */
export const defaultCongestion = (): string => {
  try {
    return fs.readFileSync("/proc/sys/net/ipv4/tcp_congestion_control", "utf8").trim()
  } catch {
    return "unknown"
  }
}

let certificate: Readonly<Record<string, string>> | undefined

/** A key and a certificate made for this run, as the workers' environment; empty without openssl. */
const tlsEnvironment = (): Readonly<Record<string, string>> => {
  if (certificate !== undefined) return certificate
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "clawchat-tls-"))
  try {
    const [key, cert] = [path.join(folder, "key.pem"), path.join(folder, "cert.pem")]
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    const files = ["-nodes", "-keyout", key, "-out", cert]
    const { status } = spawnSync("openssl", ["req", "-x509", ...curve, "-subj", "/CN=bench", "-days", "2", ...files])
    certificate =
      status === 0 ? { BENCH_TLS_KEY: fs.readFileSync(key, "utf8"), BENCH_TLS_CERT: fs.readFileSync(cert, "utf8") } : {}
    return certificate
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** Why this one cannot run here, or undefined. */
export const missing = ({ needs, tcp, tls }: Contender): string | undefined => {
  if (needs !== undefined && manifest(needs) === undefined) return "not installed"
  if (tcp !== undefined && !congestions().includes(tcp)) return `the kernel has no ${tcp}`
  if (tls === true && tlsEnvironment().BENCH_TLS_KEY === undefined) return "no openssl to make a certificate"
  return undefined
}

/** Name and version of every rival's package that is installed. */
export const versions = (): ReadonlyArray<string> => {
  const names = new Set([...onLoopback, ...onLinks].flatMap(({ needs }) => (needs === undefined ? [] : [needs])))
  return [...names].map((name) => `${name} ${manifest(name)?.version ?? "not installed"}`)
}

// -- their processes -----------------------------------------------------------------------------------------------

export type Listening = Worker<ListenerQuestions>
export type Client = Worker<ClientQuestions>

/** As bin/clawchat.mjs tunes the program, and why. */
export const OUR_FLAGS = [
  "--no-incremental-marking",
  "--semi-space-growth-factor=1",
  "--heap-growing-percent=25",
  "--no-parallel-scavenge"
]

const flags = ({ variant }: Contender): ReadonlyArray<string> => (variant === undefined ? [] : OUR_FLAGS)

const environment = (contender: Contender): WorkerOptions => (contender.tls === true ? { env: tlsEnvironment() } : {})

export const listen = (contender: Contender, host: string, enter: ReadonlyArray<string> = []): Listening => {
  const { file, words, variant } = contender
  const args = variant === undefined ? ["listener", host] : ["listener", variant, String(DEVICES)]
  return new Worker(file, [...words, ...args], { ...environment(contender), enter, execArgv: flags(contender) })
}

export const call = (
  contender: Contender,
  host: string,
  port: number,
  flow: number,
  enter: ReadonlyArray<string> = []
): Client => {
  const { file, words, variant } = contender
  const where = [host, String(port), String(flow)]
  const args = variant === undefined ? ["client", ...where] : ["client", variant, ...where]
  return new Worker(file, [...words, ...args], { ...environment(contender), enter, execArgv: flags(contender) })
}

/** A client of ours, which is asked more. */
export const callOurs = (variant: string, host: string, port: number): Worker<OurClientQuestions> =>
  new Worker("TransportWorker.ts", ["client", variant, host, String(port), "0"], { execArgv: OUR_FLAGS })
