/** Lines of a crontab as jobs: five fields or `@word`, then what shall be done, in words for the assistant. */
import * as Result from "effect/Result"
import { keyOf, type NewJob, type Problem } from "./CronJob.ts"
import * as CronSchedule from "./CronSchedule.ts"

const ENTRY = /^(@\S+|\S+(?:[ \t]+\S+){4})[ \t]+(\S.*)$/

/** The first words of a text, as a name that is free. */
export const nameFor = (text: string, isTaken: (name: string) => boolean): string => {
  const words = text.normalize("NFC").match(/[\p{L}\p{N}]+(?:[._-][\p{L}\p{N}]+)*/gu) ?? []
  let name = ""
  for (const word of words) {
    const longer = name === "" ? word : `${name} ${word}`
    if (longer.length > 40) break
    name = longer
  }
  if (name === "") name = words[0]?.slice(0, 40).replace(/[\ud800-\udbff]$/, "") ?? "Job"
  let free = name
  for (let count = 2; isTaken(free); count++) free = `${name} ${count}`
  return free
}

/**
 * All jobs of a crontab, or all its mistakes. `CRON_TZ=Zone` and `TZ=Zone` count for the lines below; other variables
 * belong to a shell and are refused. A comment right above a line names the job, else its first words do.
 */
export const parse = (
  text: string,
  isTaken: (name: string) => boolean
): Result.Result<ReadonlyArray<NewJob>, ReadonlyArray<Problem>> => {
  const problems: Array<Problem> = []
  const jobs: Array<NewJob> = []
  const names = new Set<string>()
  let timezone: string | undefined
  let comment = ""
  for (const [index, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trim()
    const report = (column: number, message: string) => problems.push({ line: index + 1, column, message })
    const start = raw.length - raw.trimStart().length
    if (line === "" || line.startsWith("#")) {
      comment = line.replace(/^#+/, "").trim()
      continue
    }
    const variable = /^([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*(.*)$/.exec(line)
    if (variable !== null) {
      const zone = (variable[2] ?? "").replace(/^(["'])(.*)\1$/, "$2")
      if (!["CRON_TZ", "TZ"].includes(variable[1] ?? "")) {
        report(start + 1, `${variable[1]} is a shell's variable, and no shell runs here: remove the line`)
      } else if (CronSchedule.isZone(zone)) timezone = zone
      else report(start + 1, `${JSON.stringify(zone)} is no time zone: write a name such as Europe/Berlin or UTC`)
      continue
    }
    const entry = ENTRY.exec(line)
    const [, schedule = "", command = ""] = entry ?? []
    const parsed = CronSchedule.parse(schedule === "" ? line : schedule)
    if (Result.isFailure(parsed)) report(start + parsed.failure.column, parsed.failure.message)
    else if (command === "")
      report(start + line.length + 1, "there is nothing to do behind the schedule: write it there")
    else {
      const taken = (name: string) => names.has(keyOf(name)) || isTaken(name)
      const name = nameFor(comment === "" ? command : comment, taken)
      names.add(keyOf(name))
      jobs.push({ name, schedule, command, ...(timezone === undefined ? {} : { timezone }) })
    }
    comment = ""
  }
  return problems.length > 0 ? Result.fail(problems.slice(0, 20)) : Result.succeed(jobs)
}
