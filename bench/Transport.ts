/** Our transport and its rivals in turn, in one run: on loopback, and over links that delay, lose and queue. */
import * as os from "node:os"
import { absent, type Contender, defaultCongestion, onLinks, onLoopback, withOurs } from "./Contenders.ts"
import { type Bench, digits, type Goal, type Grid, type Options, percentile, type Report } from "./Harness.ts"
import * as Link from "./Link.ts"
import { bestRival, between, chosen, LOOPBACK, measure, overLink, type Results, rounds } from "./Measure.ts"
import * as Variants from "./Variants.ts"

const LOOPBACK_SECONDS = 3
const LINK_SECONDS = 6
const FULL_SECONDS = 10
const FULL_ROUND_TRIPS = 40
const LOOPBACK_ECHOES = 5_000
const LINK_ECHOES = 20
const LOOPBACK_HASHED = 20_000_000
const LINK_HASHED = 200_000

interface Scenario extends Link.LinkOptions {
  readonly name: string
  /** 64-byte messages at a steady rhythm instead of a bulk. */
  readonly messages?: boolean
}

const scenario = (rttMs: number, lossPercent: number, queueBdp = 1, messages = false): Scenario => ({
  name: `100 Mbit, ${rttMs} ms, ${lossPercent} % loss, queue ${queueBdp} BDP${messages ? ", messages" : ""}`,
  rateMbit: 100,
  rttMs,
  lossPercent,
  queueBdp,
  messages
})

const PLAIN_LINK = scenario(50, 0)
const ONE = scenario(50, 1)
const FIVE = scenario(50, 5)
const TEN = scenario(50, 10)
const LONG = scenario(200, 2)
const STORM = scenario(50, 30, 1, true)
const SCENARIOS = [PLAIN_LINK, scenario(50, 0, 2), scenario(50, 0, 0.1), ONE, FIVE, TEN, LONG, STORM]

// -- tables --------------------------------------------------------------------------------------------------------

interface Column {
  readonly head: string
  readonly key: string
  readonly scale?: number
}

const LOOPBACK_COLUMNS: ReadonlyArray<Column> = [
  { head: "MB/s", key: "rate" },
  { head: "CPU s/GB", key: "cpu" },
  { head: "connect ms", key: "ready" },
  { head: "first answer ms", key: "answer" },
  { head: "64 B p50 ms", key: "echo50" },
  { head: "p99 ms", key: "echo99" },
  { head: "peak RSS MB", key: "peak" }
]

const LINK_COLUMNS: ReadonlyArray<Column> = [
  { head: "MB/s", key: "rate" },
  { head: "of the line %", key: "line" },
  { head: "CPU s/GB", key: "cpu" },
  { head: "queue drops %", key: "dropped" },
  { head: "sent again %", key: "resent" },
  { head: "may send ms", key: "ready" },
  { head: "first answer ms", key: "answer" },
  { head: "64 B p50 ms", key: "echo50" }
]

const MESSAGE_COLUMNS: ReadonlyArray<Column> = [
  { head: "64 B p50 ms", key: "message50" },
  { head: "p95 ms", key: "message95" },
  { head: "p99 ms", key: "message99" }
]

/** A row for each contender; ratios are the first one's figure divided by the row's. */
const grid = (
  title: string,
  contenders: ReadonlyArray<Contender>,
  results: Results,
  heads: ReadonlyArray<Column>,
  ratio: string
): Grid => {
  const first = results.get(contenders[0]?.name ?? "")?.of(ratio) ?? Number.NaN
  const rows = contenders.map(({ name }) => {
    const found = results.get(name)
    if (found === undefined || found.count === 0) return [name, found?.failure ?? "not measured"]
    const cells = heads.map(({ key }) => digits(found.of(key)))
    const flaw = found.failure === undefined ? "" : "a round failed"
    return [name, ...cells, digits(first / found.of(ratio)), flaw]
  })
  return { title, columns: ["", ...heads.map(({ head }) => head), "ours / it", ""], rows }
}

// -- goals ---------------------------------------------------------------------------------------------------------

const atLeast = (what: string, wanted: number, got: number, unit = ""): Goal => ({
  what,
  wanted: `>= ${wanted}${unit}`,
  got: `${digits(got)}${unit}`,
  met: Number.isNaN(got) ? undefined : got >= wanted
})

const atMost = (what: string, wanted: number, got: number, unit = ""): Goal => ({
  what,
  wanted: `<= ${wanted}${unit}`,
  got: `${digits(got)}${unit}`,
  met: Number.isNaN(got) ? undefined : got <= wanted
})

const loopbackGoals = (results: Results): ReadonlyArray<Goal> => {
  const of = (name: string, key: string): number => results.get(name)?.of(key) ?? Number.NaN
  const rate = (one: string, other: string): number => of(one, "rate") / of(other, "rate")
  return [
    atLeast("fast 1440 / quinn", 1, rate("clawchat fast 1440", "quinn"), " x"),
    atLeast("fast 1440 / hyperdht", 2, rate("clawchat fast 1440", "hyperdht"), " x"),
    atLeast("plain 1440 / hyperdht", 0.5, rate("clawchat plain 1440", "hyperdht"), " x"),
    atLeast("fast large / TLS", 0.6, rate("clawchat fast large", "tls"), " x"),
    atMost("CPU at 1200 bytes, fast", 5.5, of("clawchat fast 1200", "cpu"), " s/GB"),
    atMost("CPU at 1200 bytes, plain", 18, of("clawchat plain 1200", "cpu"), " s/GB"),
    atMost("64-byte round trip, fast, p50", 0.2, of("clawchat fast large", "echo50"), " ms"),
    atMost("64-byte round trip, fast, p99", 1, of("clawchat fast large", "echo99"), " ms")
  ]
}

const linkGoals = (found: Scenario, contenders: ReadonlyArray<Contender>, results: Results): ReadonlyArray<Goal> => {
  const of = (key: string): number => results.get(contenders[0]?.name ?? "")?.of(key) ?? Number.NaN
  if (found === STORM) return [atMost("30 % loss: p95 of a 64-byte message", 3000, of("message95"), " ms")]
  const name = `${found.rttMs} ms, ${found.lossPercent} %`
  // TCP is done by the kernel; what is built like us runs in a process.
  const against = (wanted: number): ReadonlyArray<Goal> =>
    [contenders, contenders.filter(({ tcp }) => tcp === undefined)].map((among, i) => {
      const best = bestRival(among, results, "rate")
      const who = `best rival${i === 0 ? "" : " but TCP"} (${best?.name ?? "none measured"})`
      return atLeast(`${name}: ours / ${who}`, wanted, of("rate") / (best?.value ?? Number.NaN), " x")
    })
  const line = (wanted: number): Goal => atLeast(`${name}: of the line`, wanted, of("line"), " %")
  if (found === PLAIN_LINK) {
    return [...against(0.97), line(78), atMost(`${name}: sent again`, 5, of("resent"), " %")]
  }
  if (found === ONE || found === FIVE) return [...against(1.1), line(78)]
  if (found === TEN) return [line(60)]
  return found === LONG ? [line(70)] : []
}

// -- measuring -----------------------------------------------------------------------------------------------------

const loopback = async (options: Options): Promise<Report> => {
  const contenders = chosen(withOurs(onLoopback, options.ours), options.only)
  const seconds = options.seconds ?? (options.full ? FULL_SECONDS : LOOPBACK_SECONDS)
  const plan = { seconds, echoes: LOOPBACK_ECHOES, hashBytes: LOOPBACK_HASHED }
  const count = options.rounds ?? 1
  const results = await rounds(contenders, count, (contender) => measure(contender, LOOPBACK, plan))
  const title = `loopback, ${count} x ${seconds} s each, medians`
  return {
    figures: [],
    grids: [grid(title, contenders, results, LOOPBACK_COLUMNS, "rate")],
    goals: loopbackGoals(results),
    notes: [`TCP's congestion control here is ${defaultCongestion()}`]
  }
}

const secondsOf = (options: Options, { rttMs }: Scenario): number => {
  const asked = options.seconds ?? (options.full ? FULL_SECONDS : LINK_SECONDS)
  return options.full ? Math.max(asked, (FULL_ROUND_TRIPS * rttMs) / 1000) : asked
}

const lossy = async (options: Options, found: Scenario): Promise<Report> => {
  const contenders = chosen(withOurs(onLinks, options.ours), options.only)
  const seconds = secondsOf(options, found)
  const plan = { seconds, echoes: LINK_ECHOES, hashBytes: LINK_HASHED }
  const count = options.rounds ?? 1
  const results = await rounds(contenders, count, async (contender) => {
    const [taken, [there]] = await overLink(found, (place) =>
      found.messages === true
        ? between(contender, place, async (client) => {
            const trips = await client.ask("calm", seconds * 2)
            const [message50, message95, message99] = [0.5, 0.95, 0.99].map((share) => percentile(trips, share))
            return { message50, message95, message99 } as Record<string, number>
          })
        : measure(contender, place, plan)
    )
    const dropped = (100 * there.dropped) / (there.sent + there.lost + there.dropped)
    return { ...taken, line: (100 * (taken.rate ?? Number.NaN)) / (found.rateMbit / 8), dropped }
  })
  const heads = found.messages === true ? MESSAGE_COLUMNS : LINK_COLUMNS
  const title = `${found.name}, ${count} x ${seconds} s each, medians`
  return {
    figures: [],
    grids: [grid(title, contenders, results, heads, found.messages === true ? "message95" : "rate")],
    goals: linkGoals(found, contenders, results),
    notes: []
  }
}

export const merge = (reports: ReadonlyArray<Report>): Report => ({
  figures: reports.flatMap(({ figures }) => figures),
  grids: reports.flatMap(({ grids }) => grids ?? []),
  goals: reports.flatMap(({ goals }) => goals ?? []),
  notes: reports.flatMap(({ notes }) => notes)
})

export const bench: Bench = {
  name: "transport",
  measure: async (options) => {
    const reports: Array<Report> = []
    const places = [{ name: "loopback" }, ...SCENARIOS]
    const why = Link.missing()
    for (const place of chosen(places, options.only)) {
      if (!("rateMbit" in place)) reports.push(await loopback(options))
      else if (why === undefined) reports.push(await lossy(options, place))
      else reports.push({ figures: [], notes: [`${place.name}: skipped, ${why}`] })
    }
    const hurried = os.loadavg()[0] ?? 0
    const notes = [
      ...Variants.lacking(),
      "every byte of a bulk is compared at the receiver, which counts what came between start and end",
      "CPU is of both processes; the queue's drops include handshake, echoes and a hashed transfer",
      "of the line counts the stream's bytes: headers leave TCP 95 % at most, and ours about as much",
      ...absent,
      ...(hurried > os.cpus().length + 1 ? [`the machine was busy with other work (load ${hurried.toFixed(1)})`] : [])
    ]
    return merge([...reports, { figures: [], notes }])
  }
}
