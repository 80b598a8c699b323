/**
 * Who gets what of a shared bottleneck: four flows of ours, ours beside TCP, and a chat beside a bulk in one session.
 * 100 Mbit, 50 ms, drop-tail, no loss by chance.
 */
import {
  bulkOfTcp,
  type Client,
  type Contender,
  call,
  type Listening,
  listen,
  missing,
  onLinks,
  withOurs
} from "./Contenders.ts"
import { type Bench, digits, type Goal, type Grid, median, type Options, percentile } from "./Harness.ts"
import * as Link from "./Link.ts"
import { between, chosen, MB, overLink, type Place } from "./Measure.ts"
import { bytesBetween } from "./Traffic.ts"

const RATE_MBIT = 100
const RTT_MS = 50
const QUEUES_BDP = [1, 2]
const SHALLOW_BDP = 0.25
const FLOWS = 4
const SECONDS = 15
const FULL_SECONDS = 60
const CHAT_SECONDS = 10
const WANTED_JAIN = 0.9
const WANTED_SHARE = 0.2
const WANTED_CHAT_RTT = 1.5

const line = (queueBdp: number): Link.LinkOptions => ({ rateMbit: RATE_MBIT, rttMs: RTT_MS, lossPercent: 0, queueBdp })

/** Bulks of several contenders at once, each in processes of its own: MB/s of each while all were there. */
const together = async (place: Place, contenders: ReadonlyArray<Contender>, seconds: number) => {
  const { host, link } = place
  const all: Array<{ readonly client: Client; readonly listener: Listening }> = []
  const listeners = new Map<Contender, Listening>()
  try {
    for (const [flow, contender] of contenders.entries()) {
      if (contender.tcp !== undefined) link?.tcp(contender.tcp)
      const listener = listeners.get(contender) ?? listen(contender, host, link?.enter[1])
      listeners.set(contender, listener)
      const client = call(contender, host, await listener.ask("port"), flow, link?.enter[0])
      all.push({ client, listener })
      // Warm, so that no flow has the start of its process as a handicap.
      await client.ask("greet", 1)
    }
    const stretches = await Promise.all(all.map(({ client }) => client.ask("bulk", seconds, seconds * 1000 + 60_000)))
    const from = Math.max(...stretches.map((stretch) => stretch.from))
    const to = Math.min(...stretches.map((stretch) => stretch.to))
    const rates: Array<number> = []
    for (const [flow, { listener }] of all.entries()) {
      const received = await listener.ask("received", flow)
      if (received.wrong) throw new Error("wrong bytes arrived")
      rates.push(bytesBetween(received, from, to) / MB / ((to - from) / 1000))
    }
    return rates
  } finally {
    for (const { client } of all) await client.end()
    for (const listener of listeners.values()) await listener.end()
  }
}

/** Jain's index of fairness (RFC 5166, 2.3): 1 when all get the same, 1/n when one gets all. */
export const jain = (rates: ReadonlyArray<number>): number => {
  const sum = rates.reduce((total, rate) => total + rate, 0)
  return sum ** 2 / (rates.length * rates.reduce((total, rate) => total + rate ** 2, 0))
}

const sum = (values: ReadonlyArray<number>): number => values.reduce((total, value) => total + value, 0)
const list = (values: ReadonlyArray<number>): string => values.map(digits).join("  ")

interface Rows {
  readonly ours: Contender
  readonly rows: Array<ReadonlyArray<string>>
  readonly goals: Array<Goal>
}

const flows = async (
  { ours, rows, goals }: Rows,
  queueBdp: number,
  seconds: number,
  judged: boolean
): Promise<void> => {
  const [rates, [there]] = await overLink(line(queueBdp), (place) =>
    together(place, Array<Contender>(FLOWS).fill(ours), seconds)
  )
  const index = jain(rates)
  const drops = (100 * there.dropped) / (there.sent + there.lost + there.dropped)
  rows.push([`${FLOWS} x ours`, `${queueBdp}`, list(rates), digits(sum(rates)), digits(index), "", digits(drops)])
  if (!judged) return
  const what = `Jain index of ${FLOWS} flows, queue ${queueBdp} BDP`
  goals.push({ what, wanted: `> ${WANTED_JAIN}`, got: digits(index), met: index > WANTED_JAIN })
}

const besideTcp = async (
  { ours, rows, goals }: Rows,
  queueBdp: number,
  seconds: number,
  judged: boolean
): Promise<void> => {
  const [rates, [there]] = await overLink(line(queueBdp), (place) => together(place, [ours, bulkOfTcp], seconds))
  const shares = rates.map((rate) => rate / sum(rates))
  const drops = (100 * there.dropped) / (there.sent + there.lost + there.dropped)
  const [own = 0, tcp = 0] = shares
  const share = `${digits(100 * own)} % : ${digits(100 * tcp)} %`
  rows.push(["ours : TCP cubic", `${queueBdp}`, list(rates), digits(sum(rates)), "", share, digits(drops)])
  if (!judged) return
  const what = `share of each beside TCP cubic, queue ${queueBdp} BDP`
  const met = Math.min(own, tcp) >= WANTED_SHARE
  goals.push({ what, wanted: `>= ${WANTED_SHARE * 100} %`, got: share, met })
}

/** What a bulk adds to a 64-byte round trip, in round-trip times of the empty link. */
const chat = async ({ ours, rows, goals }: Rows, contender: Contender): Promise<void> => {
  const [[calm, busy]] = await overLink(line(1), (place) =>
    between(contender, place, async (client) => {
      const calm = await client.ask("calm", CHAT_SECONDS / 2)
      return [calm, await client.ask("chat", CHAT_SECONDS)] as const
    })
  )
  const extra = (share: number): number => (percentile(busy, share) - median(calm)) / RTT_MS
  rows.push([
    contender.name,
    ...[median(calm), median(busy), percentile(busy, 0.95)].map(digits),
    digits(extra(0.5)),
    digits(extra(0.95))
  ])
  if (contender !== ours) return
  const what = "what a bulk adds to a chat message, p95"
  goals.push({
    what,
    wanted: `< ${WANTED_CHAT_RTT} RTT`,
    got: `${digits(extra(0.95))} RTT`,
    met: extra(0.95) < WANTED_CHAT_RTT
  })
}

const measure = async (options: Options) => {
  const why = Link.missing()
  if (why !== undefined) return { figures: [], notes: [`skipped: ${why}`] }
  const seconds = options.seconds ?? (options.full ? FULL_SECONDS : SECONDS)
  const contenders = withOurs(onLinks, options.ours)
  const ours = contenders[0] as Contender
  const goals: Array<Goal> = []
  const shared: Rows = { ours, rows: [], goals }
  const parts = new Set(
    chosen([{ name: "flows" }, { name: "tcp" }, { name: "chat" }], options.only).map(({ name }) => name)
  )
  const notes: Array<string> = []
  for (const queueBdp of [...QUEUES_BDP, SHALLOW_BDP]) {
    const judged = queueBdp !== SHALLOW_BDP
    if (parts.has("flows")) await flows(shared, queueBdp, seconds, judged)
    if (!parts.has("tcp")) continue
    const lacks = missing(bulkOfTcp)
    if (lacks === undefined) await besideTcp(shared, queueBdp, seconds, judged)
    else notes.push(`beside TCP: skipped, ${lacks}`)
  }
  const columns = ["", "queue BDP", "MB/s of each", "all", "Jain", "shares", "queue drops %"]
  const grids: Array<Grid> = [
    { title: `sharing ${RATE_MBIT} Mbit, ${RTT_MS} ms for ${seconds} s`, columns, rows: shared.rows }
  ]
  if (parts.has("chat")) {
    const rows: Array<ReadonlyArray<string>> = []
    for (const contender of contenders) {
      if (contender.variant?.startsWith("plain") || missing(contender) !== undefined) continue
      try {
        await chat({ ours, rows, goals }, contender)
      } catch (error) {
        rows.push([contender.name, error instanceof Error ? error.message : String(error)])
      }
    }
    grids.push({
      title: `a 64-byte message beside a bulk, ${RATE_MBIT} Mbit, ${RTT_MS} ms, queue 1 BDP, for ${CHAT_SECONDS} s`,
      columns: ["", "alone p50 ms", "beside p50 ms", "p95 ms", "more p50, RTT", "p95, RTT"],
      rows
    })
    notes.push("ours and quinn chat in the bulk's session; the others, with one stream a connection, in a second one")
  }
  return { figures: [], grids, goals, notes }
}

export const bench: Bench = { name: "fairness", measure }
