/** The record of requests to language models: one entry for each, kept over restarts. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { addUsage, noUsage, type Usage } from "../domain/Llm.ts"
import { type By, maxLines, type UsageLine } from "../domain/UsageRpc.ts"

/** The database failed. */
export class UsageStoreError extends Data.TaggedError("UsageStoreError")<{
  /** One line for people: what, what to do. */
  readonly message: string
  readonly cause?: unknown
}> {}

export interface UsageBegin {
  /** Milliseconds since 1970. */
  readonly time: number
  /** The day that it counts for, `2026-01-31`. */
  readonly day: string
  readonly conversation: string
  readonly job: string | undefined
  readonly provider: string
  readonly model: string
  /** The most that it can cost, US dollars: it counts until the end is known. Undefined where there is no price. */
  readonly cost: number | undefined
}

/**
 * - `running`: no end is known yet, or, after a restart, ever.
 * - `complete`: the provider counted.
 * - `cancelled`, `failed`: what was sent and received is estimated; nothing where the provider refused.
 */
export type Ended = "running" | "complete" | "cancelled" | "failed"

export interface UsageEnd {
  readonly ended: Exclude<Ended, "running">
  readonly model: string
  readonly usage: Usage
  readonly cost: number | undefined
  /** The tokens were estimated. */
  readonly estimated: boolean
}

/** Days, both included, `2026-01-31`. */
export interface Period {
  readonly from?: string | undefined
  readonly to?: string | undefined
}

export interface Sums {
  readonly lines: ReadonlyArray<UsageLine>
  readonly total: UsageLine
  readonly truncated: boolean
}

/** Entries that the record in memory keeps. */
const maxEntries = 100_000

interface Entry extends UsageBegin {
  end: UsageEnd | undefined
}

const keyOf = (entry: Entry, by: By): string => {
  switch (by) {
    case "day":
      return entry.day
    case "month":
      return entry.day.slice(0, 7)
    case "conversation":
      return entry.conversation
    case "model":
      return `${entry.provider}/${entry.end?.model ?? entry.model}`
    case "job":
      return entry.job ?? ""
  }
}

const emptyLine = (key: string): UsageLine => ({
  key,
  requests: 0,
  usage: noUsage,
  cost: 0,
  unpriced: 0,
  estimated: 0
})

/** Two lines of one key as one. */
const addLine = (a: UsageLine, b: UsageLine): UsageLine => ({
  key: a.key,
  requests: a.requests + b.requests,
  usage: addUsage(a.usage, b.usage),
  cost: a.cost + b.cost,
  unpriced: a.unpriced + b.unpriced,
  estimated: a.estimated + b.estimated
})

/** Lines in the order and number in which they are given out. */
export const toSums = (lines: ReadonlyArray<UsageLine>, by: By): Sums => {
  const inTime = by === "day" || by === "month"
  const sorted = lines.toSorted((a, b) => (inTime || a.cost === b.cost ? (a.key < b.key ? -1 : 1) : b.cost - a.cost))
  return {
    lines: inTime ? sorted.slice(-maxLines) : sorted.slice(0, maxLines),
    total: lines.reduce(addLine, emptyLine("")),
    truncated: lines.length > maxLines
  }
}

const within = (entry: Entry, { from, to }: Period): boolean =>
  (from === undefined || entry.day >= from) && (to === undefined || entry.day <= to)

export class UsageStore extends Context.Service<
  UsageStore,
  {
    /** On the disk when it returns, so that a crash cannot hide what was sent. Gives the entry's number. */
    readonly begin: (entry: UsageBegin) => Effect.Effect<number, UsageStoreError>
    readonly end: (id: number, end: UsageEnd) => Effect.Effect<void, UsageStoreError>
    /** US dollars of the days, those of one job where it is named; running entries at their highest cost. */
    readonly spent: (period: Period & { readonly job?: string | undefined }) => Effect.Effect<number, UsageStoreError>
    readonly sum: (period: Period & { readonly by: By }) => Effect.Effect<Sums, UsageStoreError>
  }
>()("clawchat/services/UsageStore") {
  /** Gone with the layer; the newest entries. */
  static readonly layerMemory: Layer.Layer<UsageStore> = Layer.sync(UsageStore, () => {
    const entries = new Map<number, Entry>()
    let last = 0
    const costOf = ({ cost, end }: Entry): number => (end === undefined ? cost : end.cost) ?? 0
    return UsageStore.of({
      begin: (entry) =>
        Effect.sync(() => {
          last++
          entries.set(last, { ...entry, end: undefined })
          entries.delete(last - maxEntries)
          return last
        }),
      end: (id, end) =>
        Effect.sync(() => {
          const entry = entries.get(id)
          if (entry !== undefined) entry.end ??= end
        }),
      spent: (period) =>
        Effect.sync(() => {
          let sum = 0
          for (const entry of entries.values()) {
            if (within(entry, period) && (period.job === undefined || entry.job === period.job)) sum += costOf(entry)
          }
          return sum
        }),
      sum: (period) =>
        Effect.sync(() => {
          const lines = new Map<string, UsageLine>()
          for (const entry of entries.values()) {
            if (!within(entry, period)) continue
            const key = keyOf(entry, period.by)
            const { end } = entry
            const priced = (end === undefined ? entry.cost : end.cost) !== undefined
            const line: UsageLine = {
              key,
              requests: 1,
              usage: end?.usage ?? noUsage,
              cost: costOf(entry),
              unpriced: priced ? 0 : 1,
              estimated: end === undefined || end.estimated ? 1 : 0
            }
            lines.set(key, addLine(lines.get(key) ?? emptyLine(key), line))
          }
          return toSums([...lines.values()], period.by)
        })
    })
  })
}
