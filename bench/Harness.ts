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

export interface Report {
  readonly figures: ReadonlyArray<Figure>
  /** What was left out, or how a figure is to be read. */
  readonly notes: ReadonlyArray<string>
}

export interface Bench {
  readonly name: string
  readonly measure: () => Promise<Report>
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

/** A process of its own that answers one question at a time. `Questions` maps a question's `ask` to its answer. */
export class Worker<Questions extends Record<string, unknown>> {
  readonly #child: ChildProcess
  readonly #name: string

  constructor(file: string, args: ReadonlyArray<string>, execArgv: ReadonlyArray<string> = []) {
    this.#name = `${path.basename(file)} ${args.join(" ")}`
    this.#child = fork(path.resolve(import.meta.dirname, file), args, {
      execArgv: [...execArgv, ...(process.env.CLAWCHAT_BENCH_NODE_OPTIONS?.split(" ") ?? [])],
      stdio: ["ignore", "inherit", "inherit", "ipc"]
    })
  }

  ask<Ask extends keyof Questions & string>(ask: Ask, argument = 0): Promise<Questions[Ask]> {
    return new Promise((resolve, reject) => {
      const child = this.#child
      const onMessage = (answer: unknown) => {
        child.off("exit", onExit)
        resolve(answer as Questions[Ask])
      }
      const onExit = (code: number | null) => {
        child.off("message", onMessage)
        reject(new Error(`${this.#name} ended with ${code} while asked for ${ask}`))
      }
      child.once("message", onMessage)
      child.once("exit", onExit)
      child.send({ ask, argument })
    })
  }

  /** Lets the worker end by itself and waits for it. */
  end(): Promise<void> {
    return new Promise((resolve) => {
      const child = this.#child
      if (child.exitCode !== null || child.signalCode !== null) return resolve()
      child.once("exit", () => resolve())
      child.disconnect()
    })
  }
}

/** Questions that every worker answers. */
export interface Vitals extends Record<string, unknown> {
  /** Seconds of CPU time since the start. */
  cpu: number
  /** Bytes, after a collection of garbage where the worker has `--expose-gc`. */
  memory: { readonly rss: number; readonly heap: number }
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
  }
}

/** The worker's side: answers until the parent lets go. */
export const serve = (answers: Readonly<Record<string, (argument: number) => unknown>>): void => {
  const all: Readonly<Record<string, (argument: number) => unknown>> = { ...vitals, ...answers }
  process.on("message", async (question: { readonly ask: string; readonly argument: number }) => {
    process.send?.(await all[question.ask]?.(question.argument))
  })
  process.on("disconnect", () => process.exit())
}

// -- the table -----------------------------------------------------------------------------------------------------

const digits = (value: number): string => {
  if (!Number.isFinite(value)) return "-"
  const magnitude = Math.abs(value)
  return value.toFixed(magnitude >= 100 ? 0 : magnitude >= 10 ? 1 : magnitude >= 1 ? 2 : 3)
}

/** Ours first, then each baseline with the ratio of ours to it in parentheses. */
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
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? []
  const line = (row: ReadonlyArray<string>): string =>
    row.map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  ")
  const lines = report.figures.length > 0 ? rows.map(line) : [name]
  return [...lines.map((text) => text.trimEnd()), ...report.notes.map((note) => `  ${note}`)].join("\n")
}
