/** Runs the scenarios in virtual time and writes the table: the same text on every machine. */
import * as Bbr from "../../src/domain/protocol/Bbr.ts"
import type * as Congestion from "../../src/domain/protocol/Congestion.ts"
import * as Cubic from "../../src/domain/protocol/Cubic.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import { type FlowResult, jain, run } from "../protocol/Bottleneck.ts"
import * as Scenarios from "./Scenarios.ts"
import * as Sessions from "./Sessions.ts"

/** The default first. */
const CONTROLLERS: ReadonlyArray<Congestion.Factory> = [Bbr.make, Cubic.make, NewReno.make]
const SEED = 1

export interface Table {
  readonly text: string
  /** Where the default controller misses what a scenario asks for. */
  readonly misses: ReadonlyArray<string>
  readonly packets: number
}

const HEADER = `Goodput in virtual time: what one bottleneck lets through, by congestion controller. Written by test/goodput/Goodput.test.ts,
which fails when a figure differs from what is here. After a change that is meant, write it anew and read the difference:

    npx vitest run test/goodput -u

Lines are Mbit/s, round trips (without queue) and queueing delays ms, queues bandwidth-delay products. "good" is payload
that arrived, in per cent of the line, start-up included: 94.1 is the most, for headers count. "resent" is per cent of the
packets, "q95" the queueing delay that 95 of 100 packets stay below. Seed ${SEED}, and the mean of five where Jain's index is promised; datagrams of 1200 bytes. All but the whole sessions
run the controller and loss recovery alone, on the model of test/protocol/Bottleneck.ts; the tests beside this file say
what the first controller must reach.
`

const fixed = (value: number, digits: number, width: number): string =>
  (Number.isFinite(value) ? value.toFixed(digits) : "-").padStart(width)

const percent = (share: number, width = 6): string => fixed(100 * share, 1, width)

/** A number as it was written down. */
const plain = (value: number, width: number): string => String(value).padStart(width)

const place = ({ name, path }: Scenarios.Scenario): string =>
  `${plain(path.mbit, 5)} ${plain(path.rttMs, 5)} ${plain(path.queueBdp ?? 1, 5)}  ${name.padEnd(30)}`

const PLACE = ` line   rtt queue  ${"".padEnd(30)}`

/** A section: a line of names, a line of columns, a line a row. */
const section = (
  title: string,
  names: ReadonlyArray<string>,
  columns: string,
  place: string,
  lines: ReadonlyArray<string>
): string => {
  const over = names.map((name) => ` | ${name.padEnd(columns.length)}`).join("")
  const under = names.map(() => ` | ${columns}`).join("")
  return [`\n== ${title}\n`, `${"".padEnd(place.length)}${over}`.trimEnd(), `${place}${under}`, ...lines, ""].join("\n")
}

const shareOf = ({ path }: Scenarios.Scenario, flow: FlowResult): number =>
  path.policer === undefined ? flow.share : flow.mbit / path.policer.mbit

export const make = (): Table => {
  const misses: Array<string> = []
  let packets = 0
  const play = (options: Parameters<typeof run>[0]): ReadonlyArray<FlowResult> => {
    const result = run({ seed: SEED, ...options })
    packets += result.packets
    return result.flows
  }
  /** Notes what the default controller does not reach. */
  const expect = (what: string, met: boolean): void => {
    if (!met) misses.push(what)
  }
  const names = CONTROLLERS.map((factory) => factory(0, 1200).name)
  const parts = [HEADER]

  for (const { rows, title } of Scenarios.sections) {
    const lines = rows.map((scenario) => {
      const cells = CONTROLLERS.map((sender, index) => {
        const [flow] = play({ path: scenario.path, untilMs: scenario.ms, flows: [{ sender }] })
        if (flow === undefined) return ""
        const good = shareOf(scenario, flow)
        if (index === 0 && scenario.least !== undefined) {
          expect(`${title}: ${place(scenario).trim()}: ${percent(good).trim()} %`, 100 * good >= scenario.least)
        }
        return ` | ${percent(good)} ${percent(flow.retransmitted)} ${fixed(flow.queue95, 1, 6)}`
      })
      return place(scenario) + cells.join("")
    })
    parts.push(section(title, names, "  good resent    q95", PLACE, lines))
  }

  const wholeLines = Scenarios.wholes.map((scenario) => {
    const cells = CONTROLLERS.map((congestion, index) => {
      const { loss = 0, mbit, queueBdp = 1, rttMs } = scenario.path
      const result = Sessions.run({ mbit, rttMs, queueBdp, loss, congestion, ms: scenario.ms, seed: SEED })
      packets += result.packets
      if (index === 0 && scenario.least !== undefined) {
        const what = `Whole sessions: ${place(scenario).trim()}: ${percent(result.share).trim()} %`
        expect(what, 100 * result.share >= scenario.least)
      }
      return ` | ${percent(result.share)} ${percent(result.resent)} ${fixed(result.queue95, 1, 6)}`
    })
    return place(scenario) + cells.join("")
  })
  const wholeTitle = "One stream between whole endpoints: frames, windows, acknowledgements and scheduler as they are"
  parts.push(section(wholeTitle, names, "  good resent    q95", PLACE, wholeLines))

  const transferLines = Scenarios.transfers.map((scenario) => {
    const cells = CONTROLLERS.map((sender, index) => {
      const flows = [{ sender, bytes: scenario.bytes }]
      const [flow] = play({ path: scenario.path, untilMs: scenario.ms, flows })
      if (flow === undefined) return ""
      if (index === 0 && scenario.mostResent !== undefined) {
        const what = `Transfers: ${scenario.bytes} bytes, ${place(scenario).trim()}: ${percent(flow.retransmitted).trim()} %`
        expect(what, 100 * flow.retransmitted <= scenario.mostResent)
      }
      return ` | ${fixed(flow.doneMs / 1000, 3, 7)} ${percent(flow.retransmitted)}`
    })
    return `${plain(scenario.bytes / 1000, 6)} ${place(scenario)}${cells.join("")}`
  })
  parts.push(
    section("Transfers from their start: kB, seconds", names, "seconds resent", `    kB ${PLACE}`, transferLines)
  )

  const talkLines = Scenarios.talks.map((scenario) => {
    const cells = CONTROLLERS.map((sender, index) => {
      const messages = Scenarios.MESSAGES
      const flow = scenario.bulk ? { sender, messages } : { sender, messages, bytes: 0 }
      const [result] = play({ path: scenario.path, untilMs: scenario.ms, flows: [flow] })
      if (result === undefined) return ""
      const way = scenario.path.rttMs / 2
      const [middle, high] = [result.message50 - way, result.message95 - way]
      if (index === 0 && scenario.most95 !== undefined) {
        expect(`Messages: ${place(scenario).trim()}: ${high.toFixed(1)} ms`, high <= scenario.most95)
      }
      return ` | ${fixed(middle, 1, 6)} ${fixed(high, 1, 7)} ${fixed(result.message99 - way, 1, 7)}`
    })
    return place(scenario) + cells.join("")
  })
  const talkTitle = "Messages of 64 bytes: ms beyond the way itself that 50, 95 and 99 of 100 take"
  parts.push(section(talkTitle, names, "    50      95      99", PLACE, talkLines))

  const companyLines = Scenarios.companies.map((scenario) => {
    const cells = CONTROLLERS.map((sender, index) => {
      const ours = Array.from({ length: scenario.ours }, (_, i) => ({ sender, startMs: 500 * i }))
      const tcp = scenario.tcp.map((kind, i) => ({ sender: kind, startMs: 500 * i }))
      const all = play({ path: scenario.path, untilMs: scenario.ms, fromMs: 5000, flows: [...ours, ...tcp] })
      const shares = all.map((flow) => shareOf(scenario, flow))
      const again = (seed: number): ReadonlyArray<number> =>
        play({ path: scenario.path, untilMs: scenario.ms, fromMs: 5000, flows: ours, seed }).map((flow) =>
          shareOf(scenario, flow)
        )
      const sum = (values: ReadonlyArray<number>): number => values.reduce((a, b) => a + b, 0)
      const mine = shares.slice(0, scenario.ours)
      const theirs = shares.slice(scenario.ours)
      // Who gets more is chance, so one run says little: the mean of five.
      const indices = scenario.leastJain === undefined ? [] : [1, 2, 3, 4].map((more) => jain(again(SEED + more)))
      const index1 = sum([jain(mine), ...indices]) / (1 + indices.length)
      const { leastEach, leastJain } = scenario
      if (index === 0) {
        const where = `Company: ${scenario.ours} beside ${scenario.tcp.join(", ")}: ${place(scenario).trim()}`
        if (leastJain !== undefined) expect(`${where}: Jain ${index1.toFixed(3)}`, index1 >= leastJain)
        if (leastEach !== undefined) {
          const least = 100 * Math.min(sum(mine), sum(theirs))
          expect(`${where}: ${least.toFixed(1)} %`, least >= leastEach)
        }
      }
      const others = theirs.length === 0 ? "     -" : percent(sum(theirs))
      const fair = mine.length < 2 ? "     -" : fixed(index1, 3, 6)
      const most = Math.max(...all.map(({ queue95 }) => queue95))
      return ` | ${percent(sum(mine))} ${others} ${fair} ${fixed(most, 1, 6)}`
    })
    const tcp = scenario.tcp.length === 0 ? "" : `${scenario.tcp.length} ${scenario.tcp[0]}`
    return `${plain(scenario.ours, 4)} ${tcp.padEnd(11)} ${place(scenario)}${cells.join("")}`
  })
  const companyTitle =
    "Several flows, 60 s where something is promised, else 30 s: per cent of the line of ours and of TCP, Jain's index of ours"
  parts.push(
    section(companyTitle, names, "  ours    tcp   jain    q95", `ours ${"beside".padEnd(11)} ${PLACE}`, companyLines)
  )

  return { text: parts.join(""), misses, packets }
}
