/** Many devices at once on one listener: whether all are served alike, and what it costs the listener. Loopback. */
import { callOurs, OUR_FLAGS } from "./Contenders.ts"
import { type Bench, digits, type Goal, type Grid, Worker } from "./Harness.ts"
import { chosen, MB } from "./Measure.ts"
import { bytesBetween } from "./Traffic.ts"
import type { ListenerQuestions } from "./TransportWorker.ts"
import * as Variants from "./Variants.ts"

const SECONDS = 15
const FULL_SECONDS = 60
const EACH_BYTES_PER_SECOND = 1e6
/** Share by which the worst may differ from the mean. */
const WANTED_SPREAD = 0.1
const WANTED_RSS_MB = 250
const WANTED_DELAY_MS = 20

const CROWDS = [
  { name: "fast", variant: "fast/1440", sessions: 100 },
  { name: "plain", variant: "plain/1200", sessions: 40 }
]

const crowd = async ({ name, variant, sessions }: (typeof CROWDS)[number], seconds: number) => {
  const listener = new Worker<ListenerQuestions>("TransportWorker.ts", ["listener", variant, String(sessions)], {
    execArgv: OUR_FLAGS
  })
  const client = callOurs(variant, "127.0.0.1", await listener.ask("port"))
  try {
    await listener.ask("loopDelay")
    const before = [await listener.ask("cpu"), await client.ask("cpu")] as const
    const words = [sessions, EACH_BYTES_PER_SECOND, seconds]
    const { from, to } = await client.ask("crowd", words, seconds * 1000 + 120_000)
    const busy = (cpu: number): number => (100 * cpu) / ((to - from) / 1000)
    const own = busy((await listener.ask("cpu")) - before[0])
    const theirs = busy((await client.ask("cpu")) - before[1])
    const delay = await listener.ask("loopDelay")
    const peak = (await listener.ask("peak")) / MB
    const rates: Array<number> = []
    for (let flow = 0; flow < sessions; flow++) {
      const received = await listener.ask("received", flow)
      if (received.wrong) throw new Error("wrong bytes arrived")
      rates.push(bytesBetween(received, from, to) / ((to - from) / 1000))
    }
    return { name, sessions, rates, delay, peak, own, theirs }
  } finally {
    await client.end()
    await listener.end()
  }
}

export const bench: Bench = {
  name: "crowd",
  measure: async (options) => {
    const seconds = options.seconds ?? (options.full ? FULL_SECONDS : SECONDS)
    const goals: Array<Goal> = []
    const rows: Array<ReadonlyArray<string>> = []
    for (const wanted of chosen(CROWDS, options.only)) {
      const { name, sessions, rates, delay, peak, own, theirs } = await crowd(wanted, seconds)
      const mean = rates.reduce((total, rate) => total + rate, 0) / rates.length
      const [least, most] = [Math.min(...rates), Math.max(...rates)]
      const spread = (most - least) / mean
      const share = mean / EACH_BYTES_PER_SECOND
      const figures = [mean / MB, least / MB, most / MB, 100 * spread, peak, delay.p99, delay.max, own, theirs]
      rows.push([`${sessions} sessions, ${name}`, ...figures.map(digits)])
      const goal = (what: string, wanted: string, got: string, met: boolean) =>
        goals.push({ what: `${name}, ${sessions} sessions: ${what}`, wanted, got, met })
      goal("the rate that was asked for", ">= 90 %", `${digits(100 * share)} %`, share >= 0.9)
      goal("least and most apart", "<= 10 %", `${digits(100 * spread)} %`, spread <= WANTED_SPREAD)
      goal("listener's peak RSS", `< ${WANTED_RSS_MB} MB`, `${digits(peak)} MB`, peak < WANTED_RSS_MB)
      goal("event loop delay p99", `< ${WANTED_DELAY_MS} ms`, `${digits(delay.p99)} ms`, delay.p99 < WANTED_DELAY_MS)
    }
    const columns = [
      "",
      "mean MB/s",
      "least",
      "most",
      "apart %",
      "peak RSS MB",
      "loop delay p99 ms",
      "max",
      "CPU %",
      "its clients' CPU %"
    ]
    const grids: ReadonlyArray<Grid> = [{ title: `each session asks for 1 MB/s, for ${seconds} s`, columns, rows }]
    return { figures: [], grids, goals, notes: Variants.lacking() }
  }
}
