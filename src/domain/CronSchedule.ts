/**
 * Schedules: five fields as Vixie cron has them, `@daily` and its kin, `@reboot`, `@at`. Text is read here, so that a
 * mistake has a column; instants come from croner, told exactly what was read.
 *
 * **Summer time.** A schedule whose hour field begins with `*` (or names all hours) counts hours as they pass: what the
 * clocks skip is not made up for, what they repeat runs again. Any other names times of day: each runs once a day; one
 * that the clocks skip runs at the first instant after the gap (several such run there once), one that they repeat runs
 * the first time only.
 */
import { Cron, type CronOptions } from "croner"
import * as Result from "effect/Result"

/** A mistake: column from 1, in UTF-16 units of the text. */
export interface Mistake {
  readonly column: number
  readonly message: string
}

/** What a field allows, ascending, and whether it was written with a leading `*`. */
export interface Field {
  readonly text: string
  readonly values: ReadonlyArray<number>
  readonly star: boolean
  /** Nothing is left out. */
  readonly all: boolean
}

export interface Fields {
  readonly kind: "fields"
  readonly minute: Field
  readonly hour: Field
  readonly day: Field
  readonly month: Field
  /** 0 is Sunday; 7 is read as 0. */
  readonly weekday: Field
}

export type Schedule =
  | Fields
  | { readonly kind: "reboot" }
  /** A local time, once. */
  | {
      readonly kind: "at"
      readonly year: number
      readonly month: number
      readonly day: number
      readonly hour: number
      readonly minute: number
    }

/** A field that leaves nothing out. */
const every: Field = { text: "*", values: [], star: true, all: true }

interface Part {
  readonly name: string
  readonly low: number
  readonly high: number
  /** Names of values from `first` on. */
  readonly names: ReadonlyArray<string>
  readonly first: number
}

const DAYS: ReadonlyArray<string> = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
const MONTHS: ReadonlyArray<string> = [
  "jan",
  "feb",
  "mar",
  "apr",
  "may",
  "jun",
  "jul",
  "aug",
  "sep",
  "oct",
  "nov",
  "dec"
]
const MINUTE: Part = { name: "minute", low: 0, high: 59, names: [], first: 0 }
const HOUR: Part = { name: "hour", low: 0, high: 23, names: [], first: 0 }
const DAY: Part = { name: "day of month", low: 1, high: 31, names: [], first: 1 }
const MONTH: Part = { name: "month", low: 1, high: 12, names: MONTHS, first: 1 }
const WEEKDAY: Part = { name: "day of week", low: 0, high: 7, names: DAYS, first: 0 }

const NICKNAMES: Readonly<Record<string, string>> = {
  "@hourly": "0 * * * *",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@weekly": "0 0 * * 0",
  "@monthly": "0 0 1 * *",
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *"
}

const LONGEST_MONTH: ReadonlyArray<number> = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

const wrong = (column: number, message: string): Result.Result<never, Mistake> => Result.fail({ column, message })

/** One value: a number or a name. */
const parseValue = (part: Part, text: string, column: number): Result.Result<number, Mistake> => {
  const range = `${part.low}-${part.high}`
  const named = part.names.indexOf(text.toLowerCase())
  if (named >= 0) return Result.succeed(named + part.first)
  if (/^[0-9]{1,4}$/.test(text)) {
    const value = Number(text)
    return value >= part.low && value <= part.high
      ? Result.succeed(value)
      : wrong(column, `${text} is no ${part.name}: write ${range}`)
  }
  if (text === "") return wrong(column, `a ${part.name} is missing: write ${range}`)
  if (/[#?]|^\d*[LW]+$/i.test(text)) {
    return wrong(column, `L, W, # and ? are not taken in the ${part.name} (${text}): list the days instead`)
  }
  const names = part.names.length > 0 ? ` or a name such as ${part.names[1]}` : ""
  return wrong(column, `${JSON.stringify(text)} is no ${part.name}: write ${range}${names}`)
}

const parseItem = (part: Part, item: string, column: number, into: Set<number>): Result.Result<void, Mistake> => {
  const slash = item.indexOf("/")
  const span = slash < 0 ? item : item.slice(0, slash)
  const isStar = span === "*"
  const hyphen = span.indexOf("-")
  let low = part.low
  let high = part === WEEKDAY ? 6 : part.high
  if (!isStar) {
    const first = parseValue(part, hyphen < 0 ? span : span.slice(0, hyphen), column)
    if (Result.isFailure(first)) return Result.fail(first.failure)
    low = first.success
    high = low
    if (hyphen >= 0) {
      const last = parseValue(part, span.slice(hyphen + 1), column + hyphen + 1)
      if (Result.isFailure(last)) return Result.fail(last.failure)
      high = part === WEEKDAY && last.success === 0 && low > 0 ? 7 : last.success
      if (high < low) {
        return wrong(
          column,
          `${span} runs backwards: write ${low}-${part === WEEKDAY ? 6 : part.high},${part.low}-${high}`
        )
      }
    }
  }
  let step = 1
  if (slash >= 0) {
    const text = item.slice(slash + 1)
    step = /^[0-9]{1,4}$/.test(text) ? Number(text) : 0
    if (step === 0) return wrong(column + slash + 1, `a step is a whole number from 1 on, not ${JSON.stringify(text)}`)
    if (!isStar && hyphen < 0) {
      return wrong(column, `a step needs a range: write ${low}-${part.high}/${step} or */${step}`)
    }
    if (step > high - low && step > 1) {
      return wrong(
        column + slash + 1,
        `a step of ${step} leaves only ${low} of ${low}-${high}: write ${low}, or a smaller step`
      )
    }
  }
  for (let value = low; value <= high; value += step) into.add(part === WEEKDAY ? value % 7 : value)
  return Result.succeed(undefined)
}

const parseField = (part: Part, text: string, column: number): Result.Result<Field, Mistake> => {
  const values = new Set<number>()
  let at = 0
  for (const item of text.split(",")) {
    const parsed = parseItem(part, item, column + at, values)
    if (Result.isFailure(parsed)) return Result.fail(parsed.failure)
    at += item.length + 1
  }
  const count = part === WEEKDAY ? 7 : part.high - part.low + 1
  const sorted = [...values].sort((a, b) => a - b)
  return Result.succeed({ text, values: sorted, star: text.startsWith("*"), all: sorted.length === count })
}

const AT = /^@at\s+(\d{4})-(\d{2})-(\d{2})[T ](\d{2}):(\d{2})(?::00)?$/i

const parseAt = (text: string, column: number): Result.Result<Schedule, Mistake> => {
  const parts = AT.exec(text)
  const example = "write it as @at 2027-03-01T09:00, in the job's time zone"
  if (parts === null) return wrong(column, `this is no moment: ${example}`)
  const [year, month, day, hour, minute] = parts.slice(1).map(Number) as [number, number, number, number, number]
  const isLeap = (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0
  const days = month === 2 && !isLeap ? 28 : (LONGEST_MONTH[month - 1] ?? 0)
  if (year < 1970 || day < 1 || day > days || hour > 23 || minute > 59) {
    return wrong(column, `there is no such moment: ${example}`)
  }
  return Result.succeed({ kind: "at", year, month, day, hour, minute })
}

/** Reads a schedule; blanks around it and backticks are the caller's. */
export const parse = (text: string): Result.Result<Schedule, Mistake> => {
  const start = text.length - text.trimStart().length
  const bare = text.trim()
  if (bare === "") return wrong(1, "a schedule is missing: write five fields such as 0 9 * * 1, or @daily")
  if (bare.startsWith("@")) {
    const word = bare.toLowerCase()
    if (word === "@reboot") return Result.succeed({ kind: "reboot" })
    if (/^@at(\s|$)/.test(word)) return parseAt(bare, start + 1)
    const expression = Object.hasOwn(NICKNAMES, word) ? NICKNAMES[word] : undefined
    if (expression !== undefined) return parse(expression)
    return wrong(
      start + 1,
      `${JSON.stringify(bare)} is not known: write @hourly, @daily, @weekly, @monthly, @yearly, @reboot, or @at 2027-03-01T09:00`
    )
  }
  const words = [...bare.matchAll(/\S+/g)].map((found) => ({ text: found[0], column: start + found.index + 1 }))
  if (words.length !== 5) {
    const last = words.at(-1)
    const column = words.length < 5 ? (last?.column ?? 1) + (last?.text.length ?? 0) : (words[5]?.column ?? 1)
    const why = words.length === 6 ? " (seconds are not taken)" : ""
    return wrong(
      column,
      `a schedule has five fields, minute hour day month weekday; there are ${words.length}${why}: write for example 0 9 * * 1`
    )
  }
  const parts = [MINUTE, HOUR, DAY, MONTH, WEEKDAY]
  const fields: Array<Field> = []
  for (const [index, word] of words.entries()) {
    const field = parseField(parts[index] as Part, word.text, word.column)
    if (Result.isFailure(field)) return Result.fail(field.failure)
    fields.push(field.success)
  }
  const [minute, hour, day, month, weekday] = fields as [Field, Field, Field, Field, Field]
  const first = day.values[0] ?? 1
  const comes = month.values.some((value) => first <= (LONGEST_MONTH[value - 1] ?? 0))
  if (!comes && (weekday.star || day.star)) {
    return wrong(words[2]?.column ?? 1, `no month of these has a day ${first}: this would never come`)
  }
  // Either day counts where neither field begins with a star: with one that leaves nothing out, all do.
  if (!day.star && !weekday.star && (day.all || weekday.all)) {
    return Result.succeed({ kind: "fields", minute, hour, day: every, month, weekday: every })
  }
  return Result.succeed({ kind: "fields", minute, hour, day, month, weekday })
}

/** Whether the schedule names times of day, rather than counting hours as they pass. */
const namesTimes = (fields: Fields): boolean => !fields.hour.star && !fields.hour.all

/** Whether this is an IANA zone, which the host knows. */
export const isZone = (zone: string): boolean => {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(zone)) return false
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: zone })
    return true
  } catch {
    return false
  }
}

/** A schedule in a zone; instants are whole minutes, in milliseconds since 1970. */
export interface Instants {
  /** The first instant after `after`, none when it never comes again. */
  readonly next: (after: number) => number | undefined
  /** The last instant before `before`. */
  readonly previous: (before: number) => number | undefined
}

const listed = (field: Field): string => (field.all ? "*" : field.values.join(","))

/**
 * What croner is told. Lists instead of steps and ranges, since its rule for summer time looks at how a field was
 * written; AND where a day field begins with `*`, as Vixie cron has it, which croner does for a bare `*` alone.
 */
const toCroner = (fields: Fields, zone: string): { readonly pattern: string; readonly options: CronOptions } => {
  const byTime = namesTimes(fields)
  const minute = byTime && fields.minute.all ? "0-59" : listed(fields.minute)
  const hour = byTime || fields.hour.all ? listed(fields.hour) : fields.hour.text
  return {
    pattern: [minute, hour, listed(fields.day), listed(fields.month), listed(fields.weekday)].join(" "),
    options: {
      timezone: zone,
      mode: "5-part",
      fixedTimeRule: "no-wildcard",
      domAndDow: fields.day.star || fields.weekday.star,
      paused: true
    }
  }
}

const never: Instants = { next: () => undefined, previous: () => undefined }

const ofFields = (fields: Fields, zone: string): Instants => {
  const { options, pattern } = toCroner(fields, zone)
  const cron = new Cron(pattern, options)
  return {
    next: (after) => cron.nextRun(new Date(after))?.getTime(),
    previous: (before) => cron.previousRuns(1, new Date(before))[0]?.getTime()
  }
}

const single = (value: number): Field => ({ text: String(value), values: [value], star: false, all: false })

/** The instants of a schedule in a zone that `isZone`. */
export const instants = (schedule: Schedule, zone: string): Instants => {
  if (schedule.kind === "reboot") return never
  if (schedule.kind === "fields") return ofFields(schedule, zone)
  const { day, hour, minute, month, year } = schedule
  // The same rule for gaps as any named time; a day of slack for the zone.
  const fields: Fields = {
    kind: "fields",
    minute: single(minute),
    hour: single(hour),
    day: single(day),
    month: single(month),
    weekday: every
  }
  const at = ofFields(fields, zone).next(Date.UTC(year, month - 1, day) - 2 * 86_400_000)
  if (at === undefined) return never
  return { next: (after) => (at > after ? at : undefined), previous: (before) => (at < before ? at : undefined) }
}

/** At most `count` instants after `after`. */
export const nextFew = (of: Instants, after: number, count = 5): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let at = of.next(after); at !== undefined && found.length < count; at = of.next(at)) found.push(at)
  return found
}
