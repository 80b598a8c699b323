/** Scheduled work in words for people: jobs with their schedules, runs, mistakes. Pure; what comes from elsewhere is cleaned. */
import type { Problem, Run } from "./CronJob.ts"
import type { JobView, Preview } from "./CronRpc.ts"
import * as Printable from "./Printable.ts"
import { dollars, minute, minuteIn, table } from "./TextTable.ts"

const state = ({ active, job, suspended }: JobView): string => {
  if (active !== undefined) return ` (${active})`
  if (!job.enabled) return " (disabled)"
  return suspended === undefined ? "" : " (suspended)"
}

/** "every Monday at 09:00, Europe/Berlin". */
const words = ({ words: schedule, zone }: Preview): string => Printable.line(`${schedule}, ${zone}`)

/** The next instants by the clocks of the schedule's zone; empty where there are none. */
const next = ({ next: instants, zone }: Preview): string => {
  const shown = minuteIn(zone)
  return instants.map((iso) => shown(Date.parse(iso))).join(", ")
}

const outcome = ({ reason, status }: Run): string =>
  Printable.line(`${status}${reason === undefined ? "" : `: ${reason}`}`)

/** A job in three lines: its schedule in words, what comes next, what was last. */
export const job = (view: JobView): string => {
  const { failures, last, suspended } = view
  const lines = [`${Printable.line(view.job.name)}${state(view)}  ${words(view)}`]
  const coming = next(view)
  if (coming !== "") lines.push(`  next  ${coming}`)
  if (suspended !== undefined) lines.push(`  since ${minute(suspended.since)} UTC: ${Printable.line(suspended.reason)}`)
  if (last !== undefined) {
    const row = failures > 1 ? `, ${failures} times in a row` : ""
    lines.push(`  last  ${minuteIn(view.zone)(last.started ?? last.due)} ${outcome(last)}${row}`)
  }
  return lines.join("\n")
}

/** All that a job says. */
export const details = (view: JobView): string => {
  const { catchUp, command, context, overlap, schedule, timeoutMs, tools } = view.job
  const rows: Array<readonly [string, string]> = [
    ["schedule", `${schedule} (line ${view.line} of CRON.md)`],
    ["command", Printable.line(command)],
    ...(context === undefined ? [] : [["context", Printable.line(context)] as const]),
    ...(tools === undefined ? [] : [["tools", tools.join(", ")] as const]),
    ...(catchUp === undefined ? [] : [["catch-up", catchUp] as const]),
    ...(overlap === undefined ? [] : [["overlap", overlap] as const]),
    ...(timeoutMs === undefined ? [] : [["timeout", `${timeoutMs / 1000} s`] as const])
  ]
  return `${job(view)}\n${table(rows.map(([name, value]) => [`  ${name}`, value]))}`
}

/** A preview in two lines. */
export const preview = (name: string, shown: Preview): string => {
  const coming = next(shown)
  return `${Printable.line(name)}  ${words(shown)}${coming === "" ? "" : `\n  next  ${coming}`}`
}

const took = ({ ended, started }: Run): string =>
  ended === undefined || started === undefined ? "" : `${((ended - started) / 1000).toFixed(1)} s`

/** Runs, one a line. */
export const runs = (list: ReadonlyArray<Run>): string =>
  table([
    ["RUN", "JOB", "DUE (UTC)", "TOOK", "COST", "STATUS"],
    ...list.map((run) => [
      String(run.id),
      Printable.line(run.job),
      minute(run.due),
      took(run),
      run.cost === undefined ? "" : dollars(run.cost),
      outcome(run)
    ])
  ])

/** One line above the text of a run that has ended. */
export const heading = (run: Run): string => {
  const at = `${minute(run.ended ?? run.due)} UTC`
  return `cron "${Printable.line(run.job)}", ${at}${run.status === "ran" ? "" : `, ${outcome(run)}`}`
}

/** "CRON.md:3:14: what is wrong", one a line. */
export const problems = (file: string, list: ReadonlyArray<Problem>): string =>
  list.map(({ column, line, message }) => Printable.line(`${file}:${line}:${column}: ${message}`)).join("\n")
