/**
 * A million junk datagrams against a real server on loopback: `node test/soak/Flood.ts [count [rate ...]]`, rates in datagrams a
 * second, 0 for as many as go. Prints a table; needs Linux.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Network from "../../src/programs/cli/Layers.ts"
import { flood, type Report } from "../outside/Flood.ts"
import { World, world } from "../outside/Tiers.ts"

const [count = 1_000_000, ...rates] = process.argv.slice(2).map(Number)

const at = (sorted: ReadonlyArray<number>, share: number): string =>
  (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0).toFixed(1)

const lines = (rate: number, report: Report): ReadonlyArray<string> => {
  const looked = Object.values(report.dropped).reduce((sum, n) => sum + n, 0)
  const reasons = Object.entries(report.dropped).filter(([, n]) => n > 0)
  return [
    `wanted      ${rate === 0 ? "as many as go" : `${rate}/s`}`,
    `sent        ${report.sent} in ${report.seconds.toFixed(1)} s: ${Math.round(report.sent / report.seconds)}/s`,
    `looked at   ${looked} (${((100 * looked) / report.sent).toFixed(1)} %): ${reasons.map(([why, n]) => `${n} ${why}`).join(", ")}`,
    `sent back   ${report.received} bytes`,
    `server      ${report.cpuSeconds.toFixed(1)} s of CPU (${((1e6 * report.cpuSeconds) / Math.max(looked, 1)).toFixed(1)} us a datagram), RSS ${report.rssBeforeMib.toFixed(0)} -> ${report.rssAfterMib.toFixed(0)} MiB, logs +${report.logBytes} bytes`,
    `chat        ${report.echoMs.length} round trips, median ${at(report.echoMs, 0.5)} ms, 99 % ${at(report.echoMs, 0.99)} ms, longest ${at(report.echoMs, 1)} ms; ${report.answers} answers`,
    `pairing     ${report.pairMs.toFixed(0)} ms, its process included`,
    ""
  ]
}

const program = Effect.gen(function* () {
  for (const rate of rates.length === 0 ? [50_000, 0] : rates) {
    const report = yield* Effect.scoped(flood({ count, rate }))
    process.stdout.write(`${lines(rate, report).join("\n")}\n`)
  }
  const { server } = yield* World
  yield* server().end("SIGTERM")
  process.stdout.write(
    `${server()
      .err.split("\n")
      .filter((line) => line.includes("traffic.dropped"))
      .join("\n")}\n`
  )
})

await Effect.runPromise(Effect.provide(Effect.scoped(program), Layer.merge(world(), Network.network)))
