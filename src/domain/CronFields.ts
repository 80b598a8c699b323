/** The fields of a job in CRON.md: their names, what may stand behind them, and how a value is written. */
import * as Result from "effect/Result"
import {
  type CatchUp,
  type Job,
  maxScheduleChars,
  maxTextChars,
  maxTimeoutMs,
  maxTools,
  type Overlap
} from "./CronJob.ts"
import * as CronSchedule from "./CronSchedule.ts"

export const fieldNames = [
  "Schedule",
  "Command",
  "Enabled",
  "Timezone",
  "Catch-up",
  "Overlap",
  "Timeout",
  "Tools"
] as const
export type FieldName = (typeof fieldNames)[number]

const KNOWN = new Map<string, FieldName>(fieldNames.map((name) => [name.toLowerCase().replace(/[^a-z]/g, ""), name]))

/** Single edits from one word to another, at most 3. */
const distance = (a: string, b: string): number => {
  if (Math.abs(a.length - b.length) > 2) return 3
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      next.push(Math.min((row[j] as number) + 1, (next[j - 1] as number) + 1, (row[j - 1] as number) + cost))
    }
    row = next
  }
  return Math.min(3, row[b.length] as number)
}

/** `**Shedule**` is a mistake, `**Note**` is text. */
export const meant = (name: string): FieldName | "unknown" | "typo" => {
  const folded = name.toLowerCase().replace(/[^a-z]/g, "")
  const known = KNOWN.get(folded)
  if (known !== undefined) return known
  return [...KNOWN.keys()].some((each) => distance(folded, each) <= (each.length > 5 ? 2 : 1)) ? "typo" : "unknown"
}

export type Value<A> = Result.Result<A, { readonly column: number; readonly message: string }>
const bad = (message: string, column = 1): Value<never> => Result.fail({ column, message })

const UNITS = { s: 1000, m: 60_000, h: 3600_000 }
type Unit = keyof typeof UNITS

/** `90 s`, `10m`, `1h 30m`. */
const parseTimeout = (text: string): Value<number> => {
  const example = "write for example 90s, 10m or 1h (at most 24h)"
  const parts = [...text.matchAll(/(\d{1,6})\s*(s|m|h)[a-z]*\s*/gi)]
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text) return bad(`this is no time: ${example}`)
  const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * UNITS[(unit ?? "s").toLowerCase() as Unit], 0)
  return ms >= 1000 && ms <= maxTimeoutMs ? Result.succeed(ms) : bad(`a timeout is 1s to 24h: ${example}`)
}

const oneOf = <A extends string>(text: string, words: ReadonlyArray<A>): Value<A> => {
  const found = words.find((word) => word === text.toLowerCase())
  return found === undefined
    ? bad(`${JSON.stringify(text)} is not known here: write ${words.join(", ")}`)
    : Result.succeed(found)
}

const YES: ReadonlyArray<string> = ["yes", "true", "on"]
const NO: ReadonlyArray<string> = ["no", "false", "off"]
const parseEnabled = (text: string): Value<boolean> => {
  const word = text.toLowerCase()
  if (YES.includes(word)) return Result.succeed(true)
  return NO.includes(word)
    ? Result.succeed(false)
    : bad(`${JSON.stringify(text)} is neither yes nor no: write one of them`)
}

const parseZone = (text: string): Value<string> =>
  CronSchedule.isZone(text)
    ? Result.succeed(text)
    : bad(`${JSON.stringify(text)} is no time zone: write a name such as Europe/Berlin or UTC`)

const parseTools = (text: string): Value<ReadonlyArray<string>> => {
  if (text.toLowerCase() === "none") return Result.succeed([])
  const names = text.split(/[\s,]+/).map((name) => name.replace(/^`(.*)`$/, "$1"))
  const wrong = names.find((name) => !/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/.test(name))
  if (wrong !== undefined) {
    return bad(
      `${JSON.stringify(wrong)} is no tool's name: write names with commas between them, or none`,
      text.indexOf(wrong) + 1
    )
  }
  return names.length > maxTools ? bad(`a job names at most ${maxTools} tools`) : Result.succeed([...new Set(names)])
}

const parseSchedule = (text: string): Value<string> => {
  if (text.length > maxScheduleChars) return bad(`a schedule has at most ${maxScheduleChars} characters`)
  const schedule = CronSchedule.parse(text)
  return Result.isFailure(schedule) ? Result.fail(schedule.failure) : Result.succeed(text)
}

/** A command is one paragraph: its lines without what blanks surround them. */
export const trimCommand = (text: string): string =>
  text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .join("\n")
    .trim()

/** Everything that a section says, as it is read. */
export interface Draft {
  schedule?: string
  command?: string
  enabled?: boolean
  timezone?: string
  catchUp?: CatchUp
  overlap?: Overlap
  timeoutMs?: number
  tools?: ReadonlyArray<string>
}

/** Takes one value into the draft, or says what is wrong with it. */
export const take = (draft: Draft, name: FieldName, value: string): Value<void> => {
  const into = <A>(parsed: Value<A>, put: (value: A) => void): Value<void> => Result.map(parsed, put)
  switch (name) {
    case "Schedule":
      return into(parseSchedule(value), (schedule) => {
        draft.schedule = schedule
      })
    case "Command":
      if (value.length > maxTextChars) return bad(`a command has at most ${maxTextChars} characters`)
      draft.command = value
      return Result.succeed(undefined)
    case "Enabled":
      return into(parseEnabled(value), (enabled) => {
        draft.enabled = enabled
      })
    case "Timezone":
      return into(parseZone(value), (timezone) => {
        draft.timezone = timezone
      })
    case "Catch-up":
      return into(oneOf(value, ["skip", "once", "all"] as const), (catchUp) => {
        draft.catchUp = catchUp
      })
    case "Overlap":
      return into(oneOf(value, ["skip", "queue", "kill"] as const), (overlap) => {
        draft.overlap = overlap
      })
    case "Timeout":
      return into(parseTimeout(value), (timeoutMs) => {
        draft.timeoutMs = timeoutMs
      })
    case "Tools":
      return into(parseTools(value), (tools) => {
        draft.tools = tools
      })
  }
}

/** Backticks around a value, which keep Markdown from reading stars, are not part of it. */
export const unquote = (value: string, before: string, after: string) => {
  const ticks = /^`+/.exec(value)?.[0] ?? ""
  const inner = value.slice(ticks.length, -ticks.length || undefined)
  const bare = inner.trim()
  if (ticks === "" || !value.endsWith(ticks) || bare === "" || bare.includes("`")) return { value, before, after }
  const start = ticks.length + inner.length - inner.trimStart().length
  return { value: bare, before: before + value.slice(0, start), after: value.slice(start + bare.length) + after }
}

const writeTimeout = (ms: number): string =>
  ms % UNITS.h === 0 ? `${ms / UNITS.h}h` : ms % UNITS.m === 0 ? `${ms / UNITS.m}m` : `${Math.ceil(ms / 1000)}s`

/** The value of a field as the file has it; none where the job says nothing. Lines of a command are indented. */
export const write = (job: Job, name: FieldName): string | undefined => {
  switch (name) {
    case "Schedule":
      return job.schedule
    case "Command":
      return job.command
    case "Enabled":
      return job.enabled ? "yes" : "no"
    case "Timezone":
      return job.timezone
    case "Catch-up":
      return job.catchUp
    case "Overlap":
      return job.overlap
    case "Timeout":
      return job.timeoutMs === undefined ? undefined : writeTimeout(job.timeoutMs)
    case "Tools":
      return job.tools === undefined ? undefined : job.tools.length === 0 ? "none" : job.tools.join(", ")
  }
}
