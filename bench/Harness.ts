/** What all benchmarks share: rounds, medians, workers that answer questions, and the table. */
import { type ChildProcess, fork } from "node:child_process"
import * as path from "node:path"

/** One figure of ours and the same figure of each baseline, taken in the same run. */
export interface Figure {
  readonly what: string
  readonly unit: string
  readonly ours: number
  /** By the baseline's name. */
  readonly beside: Readonly<Record<string, number>>
}

/** A table that is not ours against baselines: a heading, the columns' names, rows of cells as they are printed. */
export interface Grid {
  readonly title: string
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string>>
}

/** Something that was demanded, and whether it was seen. */
export interface Goal {
  readonly what: string
  readonly wanted: string
  readonly got: string
  /** Undefined when it could not be measured. */
  readonly met: boolean | undefined
}

export interface Report {
  readonly figures: ReadonlyArray<Figure>
  readonly grids?: ReadonlyArray<Grid>
  readonly goals?: ReadonlyArray<Goal>
  /** What was left out, or how a figure is to be read. */
  readonly notes: ReadonlyArray<string>
}

/** How thorough to be; each benchmark has its own defaults. */
export interface Options {
  readonly rounds: number | undefined
  readonly seconds: number | undefined
  /** As demanded: at least 10 s and 40 round trips each, the fairness runs and the crowd 60 s. */
  readonly full: boolean
  /** Only contenders and scenarios that have one of these in their name. */
  readonly only: ReadonlyArray<string>
  /** Variants of ours to measure instead of the usual ones. */
  readonly ours: ReadonlyArray<string>
}

export interface Bench {
  readonly name: string
  readonly measure: (options: Options) => Promise<Report>
}

/** The value below which `share` (0..1) of the values lie, by nearest rank. */
export const percentile = (values: ReadonlyArray<number>, share: number): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN
}

export const median = (values: ReadonlyArray<number>): number => percentile(values, 0.5)

/** Takes turns: each round asks every subject once, so that a slow moment of the machine hits all. Medians by name. */
export const alternate = async <Name extends string>(
  rounds: number,
  subjects: Readonly<Record<Name, () => number | Promise<number>>>
): Promise<Record<Name, number>> => {
  const names = Object.keys(subjects) as Array<Name>
  const taken = new Map<Name, Array<number>>(names.map((name) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const name of names) taken.get(name)?.push(await subjects[name]())
  }
  const medians = names.map((name) => [name, median(taken.get(name) ?? [])])
  return Object.fromEntries(medians) as Record<Name, number>
}

/** Microseconds of CPU time, user and system, that one of `count` calls costs this process. */
export const cpuMicros = (count: number, run: (index: number) => void): number => {
  const before = process.cpuUsage()
  for (let i = 0; i < count; i++) run(i)
  const { user, system } = process.cpuUsage(before)
  return (user + system) / count
}

// -- workers -------------------------------------------------------------------------------------------------------

/** Milliseconds a worker has for an answer when nothing else is said. */
const PATIENCE_MS = 120_000
/** Milliseconds it has to end by itself. */
const FAREWELL_MS = 3_000

export interface WorkerOptions {
  readonly execArgv?: ReadonlyArray<string>
  /** Words before the command: the namespace to run in. */
  readonly enter?: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
}

/** A process of its own that answers one question at a time. `Questions` maps a question's `ask` to its answer. */
export class Worker<Questions extends Record<string, unknown>> {
  readonly #child: ChildProcess
  readonly #name: string

  constructor(file: string, args: ReadonlyArray<string>, { execArgv = [], enter = [], env = {} }: WorkerOptions = {}) {
    this.#name = `${path.basename(file)} ${args.join(" ")}`
    const [command = process.execPath, ...words] = enter
    const inside = enter.length === 0 ? [] : [...words, process.execPath]
    this.#child = fork(path.resolve(import.meta.dirname, file), args, {
      execPath: command,
      execArgv: [...inside, ...execArgv, ...(process.env.CLAWCHAT_BENCH_NODE_OPTIONS?.split(" ") ?? [])],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      env: { ...process.env, ...env }
    })
    this.#child.on("error", () => {})
  }

  /** Rejects when the worker ends instead, or takes longer than `patienceMs`. */
  ask<Ask extends keyof Questions & string>(
    ask: Ask,
    words: number | ReadonlyArray<number> = 0,
    patienceMs = PATIENCE_MS
  ): Promise<Questions[Ask]> {
    return new Promise((resolve, reject) => {
      const child = this.#child
      const done = () => {
        clearTimeout(timer)
        child.off("exit", onExit)
        child.off("message", onMessage)
      }
      const onMessage = (answer: unknown) => {
        done()
        resolve(answer as Questions[Ask])
      }
      const fail = (why: string) => {
        done()
        reject(new Error(`${this.#name} ${why} while asked for ${ask}`))
      }
      const onExit = (code: number | null) => fail(`ended with ${code}`)
      const timer = setTimeout(() => fail(`said nothing for ${patienceMs / 1000} s`), patienceMs)
      child.once("message", onMessage)
      child.once("exit", onExit)
      if (!child.connected) fail("is gone")
      else child.send({ ask, words: typeof words === "number" ? [words] : words })
    })
  }

  /** Lets the worker end by itself and waits for it; one that does not is killed. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      const child = this.#child
      if (child.exitCode !== null || child.signalCode !== null) return resolve()
      const timer = setTimeout(() => child.kill("SIGKILL"), FAREWELL_MS)
      child.once("exit", () => {
        clearTimeout(timer)
        resolve()
      })
      if (child.connected) child.disconnect()
    })
  }
}

/** Questions that every worker answers. */
export interface Vitals extends Record<string, unknown> {
  /** Seconds of CPU time since the start. */
  cpu: number
  /** Bytes, after a collection of garbage where the worker has `--expose-gc`. */
  memory: { readonly rss: number; readonly heap: number }
  /** Bytes: the most that was resident so far. */
  peak: number
}

const vitals = {
  cpu: (): number => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  },
  memory: (): Vitals["memory"] => {
    for (let i = 0; i < 3; i++) globalThis.gc?.()
    const { rss, heapUsed } = process.memoryUsage()
    return { rss, heap: heapUsed }
  },
  peak: (): number => process.resourceUsage().maxRSS * 1024
}

/** The worker's side: answers until the parent lets go. */
export const serve = (answers: Readonly<Record<string, (...words: Array<number>) => unknown>>): void => {
  const all: Readonly<Record<string, (...words: Array<number>) => unknown>> = { ...vitals, ...answers }
  process.on("message", async (question: { readonly ask: string; readonly words: Array<number> }) => {
    const answer = await all[question.ask]?.(...question.words)
    if (process.connected) process.send?.(answer)
  })
  process.on("disconnect", () => process.exit())
}

// -- the table -----------------------------------------------------------------------------------------------------

export const digits = (value: number): string => {
  if (!Number.isFinite(value)) return "-"
  const magnitude = Math.abs(value)
  return value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : 3)
}

/** Columns side by side; the first `left` of them are words. */
const columns = (rows: ReadonlyArray<ReadonlyArray<string>>, left: number): ReadonlyArray<string> => {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  const line = (row: ReadonlyArray<string>): string =>
    row.map((cell, i) => (i < left ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  ")
  return rows.map((row) => line(row).trimEnd())
}

const gridLines = ({ title, columns: names, rows }: Grid): ReadonlyArray<string> => [
  "",
  title,
  ...columns([names, ...rows], 1).map((line) => `  ${line}`)
]

const VERDICTS = { true: "yes", false: "NO", undefined: "not measured" } as const

const goalLines = (goals: ReadonlyArray<Goal>): ReadonlyArray<string> => {
  if (goals.length === 0) return []
  const rows = goals.map(({ what, wanted, got, met }) => [what, wanted, got, VERDICTS[`${met}`]])
  return ["", "goals", ...columns([["what", "wanted", "got", "met"], ...rows], 4).map((line) => `  ${line}`)]
}

/** Ours first, then each baseline with the ratio of ours to it in parentheses; then grids, goals and notes. */
export const table = (name: string, report: Report): string => {
  const baselines = [...new Set(report.figures.flatMap((figure) => Object.keys(figure.beside)))]
  const rows = [[name, "unit", "clawchat", ...baselines.map((baseline) => `${baseline} (ratio)`)]]
  for (const { what, unit, ours, beside } of report.figures) {
    const cell = (baseline: string): string => {
      const value = beside[baseline]
      return value === undefined ? "" : `${digits(value)} (${digits(ours / value)})`
    }
    rows.push([what, unit, digits(ours), ...baselines.map(cell)])
  }
  const lines = report.figures.length > 0 ? columns(rows, 2) : [name]
  return [
    ...lines,
    ...(report.grids ?? []).flatMap(gridLines),
    ...goalLines(report.goals ?? []),
    ...report.notes.map((note) => `  ${note}`)
  ].join("\n")
}
