/** `clawchat status` and `clawchat ping`: how the tier on this home, or the server of this client, is doing. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Status } from "../../domain/ControlRpc.ts"
import * as Common from "./Common.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly json: boolean
  readonly timeout: number
}

const duration = (ms: number): string => {
  const seconds = Math.round(ms / 1000)
  const parts: ReadonlyArray<readonly [number, string]> = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"]
  ]
  return (
    parts
      .filter(([n]) => n > 0)
      .slice(0, 2)
      .map(([n, unit]) => `${n} ${unit}`)
      .join(" ") || "0 s"
  )
}

const describe = (status: Status, now: number): string => {
  const rows: Array<ReadonlyArray<string>> = [
    [
      `${status.tier}:`,
      `${status.name}, version ${status.version}, up ${duration(status.uptimeMs)}, pid ${status.pid}`
    ],
    ["address:", `UDP ${status.address}`],
    ["sessions:", String(status.sessions)]
  ]
  if (status.devices !== undefined) rows.push(["devices:", String(status.devices)])
  if (status.llm !== undefined) {
    const since = duration(Math.max(0, now - status.llm.since))
    rows.push(["llm tier:", `${status.llm.connected ? "connected" : "away"} for ${since}`])
  }
  const dropped = Object.entries(status.drops).filter(([, count]) => count > 0)
  if (dropped.length > 0) rows.push(["dropped:", dropped.map(([why, count]) => `${count} ${why}`).join(", ")])
  if (status.you !== undefined)
    rows.push(["you:", `${status.you.name} (${status.you.role}, ${status.you.device.slice(0, 8)})`])
  return Output.table(rows)
}

export const status = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const control = yield* Tier.control(values, input.timeout)
    const answer = yield* Effect.mapError(control["Control.Status"](undefined), Tier.controlFailure)
    const now = yield* Clock.currentTimeMillis
    yield* input.json ? Output.json(answer) : Output.line(describe(answer, now))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface PingInput extends Input {
  readonly count: number
}

export const ping = Effect.fnUntraced(
  function* (input: PingInput) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const control = yield* Tier.control(values, input.timeout)
    const times: Array<number> = []
    for (let i = 0; i < input.count; i++) {
      const start = yield* Clock.monotonicTimeNanos
      yield* Effect.mapError(control["Control.Echo"]({ data: "x".repeat(64) }), Tier.controlFailure)
      const ms = Number((yield* Clock.monotonicTimeNanos) - start) / 1e6
      times.push(ms)
      if (!input.json) yield* Output.line(`${i + 1}: ${ms.toFixed(2)} ms`)
      if (i + 1 < input.count) yield* Effect.sleep("200 millis")
    }
    const sorted = times.toSorted((a, b) => a - b)
    const median = sorted[Math.floor(sorted.length / 2)] ?? 0
    if (input.json)
      yield* Output.json({ count: times.length, minMs: sorted[0], medianMs: median, maxMs: sorted.at(-1) })
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
