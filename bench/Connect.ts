/** Time from the call of connect, in a process that has loaded all it needs and connected never, on loopback and over 50 ms. */
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

/** One listener and a fresh client process for each connection; then as many more from the last process. */
const greetings = async (contender: Contender, { host, link }: Place, processes: number) => {
  if (contender.tcp !== undefined) link?.tcp(contender.tcp)
  const listener = listen(contender, host, link?.enter[1])
  const cold: Array<Greeting> = []
  const warm: Array<Greeting> = []
  try {
    const port = await listener.ask("port")
    for (let i = 0; i < processes; i++) {
      const client = call(contender, host, port, 1, link?.enter[0])
      try {
        cold.push(...(await client.ask("greet", 1)))
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
  measure: async ({ rounds, only, ours }) => {
    const processes = rounds ?? PROCESSES
    const goals: Array<Goal> = []
    const within = (what: string, values: ReadonlyArray<number>, allowed: number): void => {
      const got = median(values)
      goals.push({ what, wanted: `<= ${allowed} ms`, got: `${digits(got)} ms`, met: got <= allowed })
    }
    const at = async (title: string, all: ReadonlyArray<Contender>, place: Place): Promise<Grid> => {
      const rows: Array<ReadonlyArray<string>> = []
      for (const contender of chosen(withOurs(all, ours), only)) {
        if (contender.variant !== undefined && ours.length === 0 && !NAMES.has(contender.name)) continue
        const why = missing(contender)
        if (why !== undefined) {
          rows.push([contender.name, why])
          continue
        }
        try {
          const { cold, warm } = await greetings(contender, place, processes)
          rows.push(row(contender.name, cold, warm))
          if (contender.variant === undefined) continue
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
    const notes = ["UDX has no handshake; hyperdht's client has joined its network of one before"]
    if (why === undefined) grids.push((await overLink(LINE, (place) => at(`${RTT_MS} ms`, onLinks, place)))[0])
    else notes.push(`the link: skipped, ${why}`)
    return { figures: [], grids, goals, notes }
  }
}
