/** What a listener holds in memory, idle and with sessions, beside a process with only Effect in it. Bundled, as shipped. */
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { build } from "esbuild"
import { type Bench, type Figure, median, type Vitals, Worker } from "./Harness.ts"
import type { ListenerQuestions, OurClientQuestions } from "./TransportWorker.ts"

const ROUNDS = 3
const SESSIONS = 100
/** Other than Linux has one loopback address, and a listener takes 64 sessions from one. */
const HELD = process.platform === "linux" ? SESSIONS : 50
/** A bundle in a temporary folder does not find the accelerators' koffi. */
const VARIANT = "plain"
const MIB = 1024 * 1024
const COLLECT = ["--expose-gc"]

interface MemoryQuestions extends Vitals {
  ready: boolean
}

const bundle = async (folder: string, name: string): Promise<string> => {
  const outfile = path.join(folder, `${name}.mjs`)
  await build({
    entryPoints: [path.join(import.meta.dirname, `${name}.ts`)],
    outfile,
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node24"
  })
  return outfile
}

const alone = async (file: string, role: string): Promise<Vitals["memory"]> => {
  const worker = new Worker<MemoryQuestions>(file, [role], { execArgv: COLLECT })
  await worker.ask("ready")
  const memory = await worker.ask("memory")
  await worker.end()
  return memory
}

interface Sizes {
  readonly bare: Vitals["memory"]
  readonly effect: Vitals["memory"]
  readonly idle: Vitals["memory"]
  readonly full: Vitals["memory"]
}

const round = async (transportFile: string, memoryFile: string): Promise<Sizes> => {
  const bare = await alone(memoryFile, "bare")
  const effect = await alone(memoryFile, "effect")
  const listener = new Worker<ListenerQuestions>(transportFile, ["listener", VARIANT, String(HELD)], {
    execArgv: COLLECT
  })
  const port = await listener.ask("port")
  const idle = await listener.ask("memory")
  const client = new Worker<OurClientQuestions>(transportFile, ["client", VARIANT, "127.0.0.1", String(port)])
  await client.ask("hold", HELD)
  const held = await listener.ask("sessions")
  if (held !== HELD) throw new Error(`the listener holds ${held} sessions of ${HELD}`)
  const full = await listener.ask("memory")
  await client.end()
  await listener.end()
  return { bare, effect, idle, full }
}

const figuresOf = (rounds: ReadonlyArray<Sizes>): ReadonlyArray<Figure> => {
  const of = (size: (sizes: Sizes) => number): number => median(rounds.map(size))
  const beside = { effect: of(({ effect }) => effect.rss / MIB), node: of(({ bare }) => bare.rss / MIB) }
  const perSession = (kind: "rss" | "heap"): number => of(({ idle, full }) => (full[kind] - idle[kind]) / HELD / 1024)
  return [
    { what: "idle listener, RSS", unit: "MiB", ours: of(({ idle }) => idle.rss / MIB), beside },
    { what: `listener with ${HELD} sessions, RSS`, unit: "MiB", ours: of(({ full }) => full.rss / MIB), beside },
    { what: "per session, RSS", unit: "KiB", ours: perSession("rss"), beside: {} },
    { what: "per session, heap", unit: "KiB", ours: perSession("heap"), beside: {} }
  ]
}

export const bench: Bench = {
  name: "memory",
  measure: async () => {
    const folder = await fs.mkdtemp(path.join(os.tmpdir(), "clawchat-bench-"))
    try {
      const transportFile = await bundle(folder, "TransportWorker")
      const memoryFile = await bundle(folder, "MemoryWorker")
      const rounds: Array<Sizes> = []
      for (let i = 0; i < ROUNDS; i++) rounds.push(await round(transportFile, memoryFile))
      return { figures: figuresOf(rounds), notes: ["after garbage collection; bundled by esbuild as a release is"] }
    } finally {
      await fs.rm(folder, { recursive: true, force: true })
    }
  }
}
