/** Two processes on loopback: our transport beside bare TCP and bare UDP of Node, which protect nothing. */
import type { BareClientQuestions, BareListenerQuestions } from "./BaselineWorker.ts"
import { type Bench, type Figure, median, percentile, Worker } from "./Harness.ts"
import type { ClientQuestions, ListenerQuestions } from "./TransportWorker.ts"

const ROUNDS = 3
const CONNECTS = 50
const ROUND_TRIPS = 5_000
const BULK_BYTES = 200_000_000

type Taken = Record<string, Array<number>>

/** What a pair of processes is asked: their figures by name, one value per round. */
const take = (taken: Taken, name: string, value: number): void => {
  const values = taken[name] ?? []
  taken[name] = values
  values.push(value)
}

type Listening = Worker<ListenerQuestions> | Worker<BareListenerQuestions>
type Sending = Worker<ClientQuestions> | Worker<BareClientQuestions>

const measurePair = async (
  taken: Taken,
  listener: Listening,
  client: Sending,
  rate: ((seconds: number) => Promise<number>) | undefined
): Promise<void> => {
  const trips = await client.ask("echo", ROUND_TRIPS)
  take(taken, "echo50", median(trips))
  take(taken, "echo99", percentile(trips, 0.99))
  const before = [await client.ask("cpu"), await listener.ask("cpu")] as const
  const seconds = await client.ask("bulk", BULK_BYTES)
  take(taken, "bulk", rate === undefined ? BULK_BYTES / 1e6 / seconds : await rate(seconds))
  take(taken, "cpuSend", (await client.ask("cpu")) - before[0])
  take(taken, "cpuReceive", (await listener.ask("cpu")) - before[1])
}

/** The client's process has just started: its first connect is what a one-shot command pays. */
const measureConnects = async (taken: Taken, client: Sending): Promise<void> => {
  const [first = Number.NaN, ...connects] = await client.ask("connect", CONNECTS)
  take(taken, "connectFirst", first)
  take(taken, "connect50", median(connects))
  take(taken, "connect99", percentile(connects, 0.99))
}

const ours = async (taken: Taken): Promise<void> => {
  const listener = new Worker<ListenerQuestions>("TransportWorker.ts", ["listener", String(CONNECTS)])
  const client = new Worker<ClientQuestions>("TransportWorker.ts", ["client", String(await listener.ask("port"))])
  await measureConnects(taken, client)
  await measurePair(taken, listener, client, undefined)
  await client.end()
  await listener.end()
}

const tcp = async (taken: Taken): Promise<void> => {
  const listener = new Worker<BareListenerQuestions>("BaselineWorker.ts", ["tcp-listener"])
  const port = String(await listener.ask("port"))
  const client = new Worker<BareClientQuestions>("BaselineWorker.ts", ["tcp-client", port])
  await measureConnects(taken, client)
  await measurePair(taken, listener, client, undefined)
  await client.end()
  await listener.end()
}

const udp = async (taken: Taken): Promise<void> => {
  const listener = new Worker<BareListenerQuestions>("BaselineWorker.ts", ["udp-listener"])
  const port = String(await listener.ask("port"))
  const client = new Worker<BareClientQuestions>("BaselineWorker.ts", ["udp-client", port])
  await measurePair(taken, listener, client, () => listener.ask("rate"))
  await client.end()
  await listener.end()
}

const rows: ReadonlyArray<readonly [what: string, unit: string, key: string]> = [
  ["connect, first in a process", "ms", "connectFirst"],
  ["connect, p50", "ms", "connect50"],
  ["connect, p99", "ms", "connect99"],
  ["round trip of 64 bytes, p50", "ms", "echo50"],
  ["round trip of 64 bytes, p99", "ms", "echo99"],
  ["one stream, one way", "MB/s", "bulk"],
  [`sender's CPU, ${BULK_BYTES / 1e6} MB`, "s", "cpuSend"],
  [`receiver's CPU, ${BULK_BYTES / 1e6} MB`, "s", "cpuReceive"]
]

export const bench: Bench = {
  name: "transport",
  measure: async () => {
    const taken: Record<"ours" | "udp" | "tcp", Taken> = { ours: {}, udp: {}, tcp: {} }
    for (let round = 0; round < ROUNDS; round++) {
      await ours(taken.ours)
      await udp(taken.udp)
      await tcp(taken.tcp)
    }
    const figures = rows.map(([what, unit, key]): Figure => {
      const beside: Record<string, number> = {}
      for (const name of ["udp", "tcp"] as const) {
        const values = taken[name][key]
        if (values !== undefined) beside[name] = median(values)
      }
      return { what, unit, ours: median(taken.ours[key] ?? []), beside }
    })
    return { figures, notes: ["udp and tcp are bare sockets of Node: no encryption, and udp loses what overflows"] }
  }
}
