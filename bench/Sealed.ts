/** What sealing between client and llm tier costs on a spliced stream: three processes on loopback, plain and sealed in turns. */
import { type Bench, median, percentile, Worker } from "./Harness.ts"
import type { ClientQuestions, TierQuestions } from "./SealedWorker.ts"

const ROUNDS = 5
const SECONDS = 2
const ECHOES = 2000

export const bench: Bench = {
  name: "sealed",
  measure: async ({ rounds = ROUNDS, seconds = SECONDS }) => {
    const ended: Array<() => Promise<void>> = []
    const start = <Questions extends Record<string, unknown>>(...args: ReadonlyArray<string>) => {
      const worker = new Worker<Questions>("SealedWorker.ts", args)
      ended.unshift(() => worker.end())
      return worker
    }
    try {
      const tier = start<TierQuestions>("tier")
      const relay = start<TierQuestions>("relay", String(await tier.ask("port")))
      const client = start<ClientQuestions>("client", String(await relay.ask("port")))
      const rate: [Array<number>, Array<number>] = [[], []]
      const trips: [Array<number>, Array<number>] = [[], []]
      for (let round = 0; round < rounds; round++) {
        for (const sealed of [0, 1] as const) rate[sealed].push(await client.ask("bulk", [sealed, seconds]))
        for (const sealed of [0, 1] as const) trips[sealed].push(...(await client.ask("echo", [sealed, ECHOES])))
      }
      const figure = (what: string, unit: string, of: (sealed: 0 | 1) => number) => ({
        what,
        unit,
        ours: of(1),
        beside: { "spliced, not sealed": of(0) }
      })
      return {
        figures: [
          figure("spliced and sealed stream", "MB/s", (sealed) => median(rate[sealed])),
          figure("64-byte round trip, median", "ms", (sealed) => median(trips[sealed])),
          figure("64-byte round trip, p99", "ms", (sealed) => percentile(trips[sealed], 0.99))
        ],
        notes: ["Windows as between the real tiers: 128 KiB a stream from server to llm tier."]
      }
    } finally {
      for (const end of ended) await end()
    }
  }
}
