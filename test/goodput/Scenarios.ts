/**
 * The rows of the goodput table: which lines, which trouble on them, how long, and what must come out at least. Rates in
 * Mbit/s, times in milliseconds, queues in bandwidth-delay products, losses as shares.
 */
import type { Path } from "../protocol/Bottleneck.ts"

export interface Scenario {
  readonly name: string
  readonly path: Path
  readonly ms: number
  /** What the default controller must bring home at least, in per cent of the line. */
  readonly least?: number
}

export interface Section {
  readonly title: string
  readonly rows: ReadonlyArray<Scenario>
}

/** Forty round trips and ten seconds, where that is no more than `packets` packets on the line. */
const lasting = (mbit: number, rttMs: number, packets = 200_000): number =>
  Math.round(Math.min(Math.max(10_000, 40 * rttMs), Math.max((packets * 1228) / (mbit * 125), 20 * rttMs)))

const row = (
  mbit: number,
  rttMs: number,
  name: string,
  more: Omit<Path, "mbit" | "rttMs"> = {},
  least?: number
): Scenario => ({
  name,
  path: { mbit, rttMs, ...more },
  ms: lasting(mbit, rttMs),
  ...(least === undefined ? {} : { least })
})

const lossy = (mbit: number, rttMs: number, percent: number, least?: number): Scenario =>
  row(mbit, rttMs, percent === 0 ? "no loss" : `loss ${percent} %`, percent === 0 ? {} : { loss: percent / 100 }, least)

/** Bursts of `length` packets on average, so many that this share of all is lost. */
const bursty = (percent: number, length: number): Scenario => {
  const share = percent / 100
  const toGood = 1 / length
  return row(100, 50, `bursts of ${length}, ${percent} %`, {
    bursts: { toGood, toBad: (toGood * share) / (1 - share) }
  })
}

const policed = (mbit: number, rttMs: number, kilobytes: number): Scenario =>
  row(100, rttMs, `policer ${mbit} Mbit/s, ${kilobytes} kB`, { policer: { mbit, bytes: kilobytes * 1000 } })

export const sections: ReadonlyArray<Section> = [
  {
    title: "Loss at random",
    rows: [
      lossy(100, 50, 0, 78),
      lossy(100, 50, 0.1, 78),
      lossy(100, 50, 1, 78),
      lossy(100, 50, 2, 78),
      lossy(100, 50, 5, 78),
      lossy(100, 50, 10, 60),
      lossy(100, 50, 20),
      lossy(100, 50, 30),
      lossy(100, 200, 0),
      lossy(100, 200, 2, 70),
      lossy(100, 200, 10)
    ]
  },
  {
    title: "Round trips",
    rows: [1, 10, 100, 300].flatMap((rttMs) => [0, 0.1, 1, 5].map((percent) => lossy(100, rttMs, percent)))
  },
  {
    title: "Rates",
    rows: [
      ...[1, 10].flatMap((mbit) =>
        [50, 300].flatMap((rttMs) => [0, 1, 5, 20].map((percent) => lossy(mbit, rttMs, percent)))
      ),
      ...[1, 10, 50].flatMap((rttMs) => [0, 1].map((percent) => lossy(1000, rttMs, percent)))
    ]
  },
  {
    title: "Queues",
    rows: [
      ...[0.1, 0.25, 0.5, 2, 8].map((queueBdp) => row(100, 50, "no loss", { queueBdp })),
      ...[0.1, 0.25, 8].map((queueBdp) => row(100, 50, "loss 1 %", { queueBdp, loss: 0.01 })),
      row(10, 20, "no loss", { queueBdp: 20 }),
      row(10, 100, "no loss", { queueBdp: 0.25 })
    ]
  },
  {
    title: "Reordering, bursts, lost acknowledgements",
    rows: [
      ...[1, 5, 20].map((jitterMs) => row(100, 50, `jitter ${jitterMs} ms`, { jitterMs })),
      row(100, 10, "jitter 20 ms", { jitterMs: 20 }),
      row(100, 50, "jitter 20 ms, loss 1 %", { jitterMs: 20, loss: 0.01 }),
      bursty(1, 5),
      bursty(1, 50),
      bursty(5, 10),
      bursty(5, 50),
      row(100, 50, "ACK loss 1 %", { ackLoss: 0.01 }),
      row(100, 50, "ACK loss 10 %", { ackLoss: 0.1 }),
      row(100, 50, "ACK loss 50 %", { ackLoss: 0.5 }),
      row(100, 50, "both ways 5 %", { ackLoss: 0.05, loss: 0.05 }),
      row(100, 50, "ACKs every 10 ms", { ackEveryMs: 10 }),
      row(100, 50, "ACKs every 40 ms", { ackEveryMs: 40 })
    ]
  },
  {
    title: "Policers: per cent of the policed rate",
    rows: [policed(10, 50, 50), policed(10, 50, 500), policed(50, 20, 50), policed(50, 50, 100), policed(50, 50, 1000)]
  }
]

// -- whole sessions --------------------------------------------------------------------------------------------------

const whole = (mbit: number, rttMs: number, percent: number, least?: number): Scenario => ({
  ...lossy(mbit, rttMs, percent, least),
  name: percent === 0 ? "no loss" : `loss ${percent} % both ways`
})

export const wholes: ReadonlyArray<Scenario> = [
  whole(100, 50, 0, 78),
  whole(100, 50, 1, 78),
  whole(100, 50, 5, 78),
  whole(100, 50, 10, 60),
  whole(100, 200, 0),
  whole(100, 200, 2, 70),
  whole(10, 50, 1),
  whole(1000, 10, 0)
]

// -- from the start to the end of a transfer -------------------------------------------------------------------------

export interface Transfer extends Scenario {
  readonly bytes: number
  /** Per cent of the packets that the default controller may send again. */
  readonly mostResent?: number
}

const transfer = (bytes: number, mbit: number, rttMs: number, percent: number, mostResent?: number): Transfer => ({
  ...lossy(mbit, rttMs, percent),
  bytes,
  ms: 120_000,
  ...(mostResent === undefined ? {} : { mostResent })
})

export const transfers: ReadonlyArray<Transfer> = [
  transfer(20_000_000, 100, 50, 0, 5),
  transfer(20_000_000, 100, 50, 1),
  transfer(20_000_000, 1000, 10, 0, 5),
  transfer(1_000_000, 100, 50, 0, 5),
  transfer(1_000_000, 10, 50, 0, 5),
  transfer(1_000_000, 100, 50, 5),
  transfer(100_000, 100, 50, 0),
  transfer(100_000, 100, 50, 10)
]

// -- small messages --------------------------------------------------------------------------------------------------

export interface Talk extends Scenario {
  /** A bulk transfer runs beside the messages. */
  readonly bulk: boolean
  /** Milliseconds beyond the way itself that 95 of 100 messages may take with the default controller. */
  readonly most95?: number
}

const talk = (bulk: boolean, scenario: Scenario, most95?: number): Talk => ({
  ...scenario,
  ms: 30_000,
  bulk,
  ...(most95 === undefined ? {} : { most95 })
})

/** What the messages are: one every so many milliseconds, bytes of each. */
export const MESSAGES = { everyMs: 97, bytes: 64 }

export const talks: ReadonlyArray<Talk> = [
  talk(true, row(20, 50, "beside bulk", { queueBdp: 1 }), 75),
  talk(true, row(20, 50, "beside bulk", { queueBdp: 4 }), 75),
  talk(true, row(20, 50, "beside bulk, loss 1 %", { loss: 0.01 })),
  talk(true, row(2, 100, "beside bulk", { queueBdp: 2 }), 150),
  talk(false, lossy(100, 50, 0)),
  talk(false, lossy(100, 50, 5)),
  talk(false, lossy(100, 50, 30), 3000)
]

// -- several flows ---------------------------------------------------------------------------------------------------

export interface Company extends Scenario {
  /** Of ours, and of TCP. */
  readonly ours: number
  readonly tcp: ReadonlyArray<"tcp-cubic" | "tcp-reno">
  /** Jain's index of ours, at least. */
  readonly leastJain?: number
  /** Per cent of the line that either side must have at least. */
  readonly leastEach?: number
}

const company = (
  ours: number,
  tcp: Company["tcp"],
  scenario: Scenario,
  more: Pick<Company, "leastJain" | "leastEach"> = {}
): Company => ({ ...scenario, ms: Object.keys(more).length > 0 ? 60_000 : 30_000, ours, tcp, ...more })

const queue = (queueBdp: number): Scenario => row(100, 50, "no loss", { queueBdp })

export const companies: ReadonlyArray<Company> = [
  company(4, [], queue(1), { leastJain: 0.9 }),
  company(4, [], queue(2), { leastJain: 0.9 }),
  company(4, [], queue(0.25)),
  company(4, [], queue(0.1)),
  company(4, [], row(100, 50, "loss 1 %", { loss: 0.01 })),
  company(4, [], policed(50, 50, 100)),
  company(1, ["tcp-cubic"], queue(1), { leastEach: 20 }),
  company(1, ["tcp-cubic"], queue(2), { leastEach: 20 }),
  company(1, ["tcp-cubic"], queue(8)),
  company(1, ["tcp-cubic"], queue(0.25)),
  company(1, ["tcp-cubic"], queue(0.1)),
  company(1, ["tcp-reno"], queue(1)),
  company(1, ["tcp-cubic"], policed(50, 50, 100)),
  company(2, ["tcp-cubic", "tcp-cubic"], queue(1))
]
