/**
 * Time from the call of connect, in a process that has loaded all it needs and connected never, on loopback and over 50 ms.
 * Ours is loaded as users load it: bundled, with the code that V8 compiled in an earlier run, and once more without.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { bundle } from "../tools/Bundler.ts"
import { type Contender, call, listen, missing, onLinks, onLoopback, withOurs } from "./Contenders.ts"
import { type Bench, digits, type Goal, type Grid, median, percentile } from "./Harness.ts"
import * as Link from "./Link.ts"
import { chosen, LOOPBACK, overLink, type Place } from "./Measure.ts"
import type { Greeting } from "./Traffic.ts"

const PROCESSES = 10
const RTT_MS = 50
const ALLOWED_MS = 15
const LINE: Link.LinkOptions = { rateMbit: 100, rttMs: RTT_MS, lossPercent: 0, queueBdp: 1 }
const NAMES = new Set(["clawchat fast large", "clawchat plain large", "clawchat fast", "clawchat plain"])

const ROOT = path.resolve(import.meta.dirname, "..")

/** Our client's bundle, below the project's folder, where it finds the accelerators. */
interface Shipped {
  readonly folder: string
  readonly file: string
}

const ship = async (): Promise<Shipped> => {
  fs.mkdirSync(path.join(ROOT, "dist"), { recursive: true })
  const folder = fs.mkdtempSync(path.join(ROOT, "dist/bench-"))
  process.once("exit", () => fs.rmSync(folder, { recursive: true, force: true }))
  const file = path.join(folder, "TransportWorker.cjs")
  await bundle(ROOT, "bench/TransportWorker.ts", path.relative(ROOT, file))
  return { folder, file }
}

/** A client of ours by its bundle; `kept` is where its code is, or empty. Others are as they are. */
const shipped = (contender: Contender, { file }: Shipped, kept: string): Contender =>
  contender.variant === undefined ? contender : { ...contender, file: "Bundled.mjs", words: [file, kept] }

/** One listener and a fresh client process for each connection; then as many more from the last process. */
const greetings = async (contender: Contender, caller: Contender, { host, link }: Place, processes: number) => {
  if (contender.tcp !== undefined) link?.tcp(contender.tcp)
  const listener = listen(contender, host, link?.enter[1])
  const cold: Array<Greeting> = []
  const warm: Array<Greeting> = []
  try {
    const port = await listener.ask("port")
    // The first of ours leaves its code to the others.
    for (let i = caller === contender ? 0 : -1; i < processes; i++) {
      const client = call(caller, host, port, 1, link?.enter[0])
      try {
        const first = await client.ask("greet", 1)
        if (i >= 0) cold.push(...first)
        if (i === processes - 1) warm.push(...(await client.ask("greet", processes)))
      } finally {
        await client.end()
      }
    }
  } finally {
    await listener.end()
  }
  return { cold, warm }
}

const row = (name: string, cold: ReadonlyArray<Greeting>, warm: ReadonlyArray<Greeting>): ReadonlyArray<string> => {
  const readies = cold.map(({ ready }) => ready)
  const answers = cold.map(({ answer }) => answer)
  const figures = [
    median(readies),
    percentile(readies, 0.9),
    median(answers),
    percentile(answers, 0.9),
    median(warm.map(({ ready }) => ready)),
    median(warm.map(({ answer }) => answer))
  ]
  return [name, ...figures.map(digits)]
}

const COLUMNS = ["", "may send p50 ms", "p90", "first answer p50 ms", "p90", "again: may send", "first answer"]

export const bench: Bench = {
  name: "connect",
  measure: async ({ rounds, only, ours: variants }) => {
    const processes = rounds ?? PROCESSES
    const goals: Array<Goal> = []
    const within = (what: string, values: ReadonlyArray<number>, allowed: number): void => {
      const got = median(values)
      goals.push({ what, wanted: `<= ${allowed} ms`, got: `${digits(got)} ms`, met: got <= allowed })
    }
    const ours = await ship()
    const at = async (title: string, all: ReadonlyArray<Contender>, place: Place): Promise<Grid> => {
      const rows: Array<ReadonlyArray<string>> = []
      for (const contender of chosen(withOurs(all, variants), only)) {
        if (contender.variant !== undefined && variants.length === 0 && !NAMES.has(contender.name)) continue
        const why = missing(contender)
        if (why !== undefined) {
          rows.push([contender.name, why])
          continue
        }
        try {
          const kept = path.join(ours.folder, `${contender.variant?.replaceAll("/", "-")}.v8`)
          const { cold, warm } = await greetings(contender, shipped(contender, ours, kept), place, processes)
          rows.push(row(contender.name, cold, warm))
          if (contender.variant === undefined) continue
          const bare = await greetings(contender, shipped(contender, ours, ""), place, processes)
          rows.push(row(`${contender.name}, first start`, bare.cold, bare.warm))
          const readies = cold.map(({ ready }) => ready)
          if (place.link === undefined) within(`${contender.name}: ready on loopback`, readies, 5)
          else {
            const answers = cold.map(({ answer }) => answer)
            within(`${contender.name}: may send over ${RTT_MS} ms`, readies, RTT_MS + ALLOWED_MS)
            within(`${contender.name}: first answer over ${RTT_MS} ms`, answers, 2 * RTT_MS + ALLOWED_MS)
          }
        } catch (error) {
          rows.push([contender.name, error instanceof Error ? error.message : String(error)])
        }
      }
      return {
        title: `${title}: ${processes} fresh processes each, then ${processes} more in the last`,
        columns: COLUMNS,
        rows
      }
    }
    const grids = [await at("loopback", onLoopback, LOOPBACK)]
    const why = Link.missing()
    const notes = [
      "ours as bin/ runs it: bundled, with the code of an earlier run; without that: first start",
      "UDX has no handshake; hyperdht's client has joined its network of one before"
    ]
    if (why === undefined) grids.push((await overLink(LINE, (place) => at(`${RTT_MS} ms`, onLinks, place)))[0])
    else notes.push(`the link: skipped, ${why}`)
    return { figures: [], grids, goals, notes }
  }
}
