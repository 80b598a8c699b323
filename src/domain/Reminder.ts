/**
 * Reminders in plain English, as the assistant understands them without a model: "remind me every Monday at 9 to call the
 * bank". A small grammar over words; what it does not know it leaves to be a question like any other.
 */
import * as Crontab from "./Crontab.ts"

export interface Reminder {
  readonly _tag: "Reminder"
  /** As CRON.md has it. */
  readonly schedule: string
  /** What the assistant is asked when the moment has come. */
  readonly command: string
  readonly name: string
}

/** A reminder that no schedule can say; `message` tells what can be said. */
export interface Unsupported {
  readonly _tag: "Unsupported"
  readonly message: string
}

/** The time on the wall where the user is. */
export interface Wall {
  readonly year: number
  readonly month: number
  readonly day: number
  readonly hour: number
  readonly minute: number
}

/** The wall's time of an instant in a zone. */
export const wallOf = (now: number, zone: string): Wall => {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "numeric",
    day: "numeric",
    hour: "numeric",
    minute: "numeric"
  })
  const parts = new Map(format.formatToParts(now).map((part) => [part.type, Number(part.value)]))
  const value = (type: Intl.DateTimeFormatPartTypes) => parts.get(type) ?? 0
  return { year: value("year"), month: value("month"), day: value("day"), hour: value("hour"), minute: value("minute") }
}

const DAYS: ReadonlyArray<string> = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
const MONTHS: ReadonlyArray<string> = [
  "january",
  "february",
  "march",
  "april",
  "may",
  "june",
  "july",
  "august",
  "september",
  "october",
  "november",
  "december"
]
const NUMBERS: Readonly<Record<string, number>> = {
  a: 1,
  an: 1,
  one: 1,
  two: 2,
  three: 3,
  four: 4,
  five: 5,
  six: 6,
  ten: 10
}
/** The hour of a reminder that names a day and no time. */
const DEFAULT_TIME: Time = { hour: 9, minute: 0 }

interface Time {
  readonly hour: number
  readonly minute: number
}

/** When, as far as it has been read. */
type Day =
  | { readonly type: "fields"; readonly day: string; readonly month: string; readonly weekday: string }
  | { readonly type: "date"; readonly year: number; readonly month: number; readonly day: number }
  | { readonly type: "whole"; readonly schedule: string }
  | { readonly type: "unsupported"; readonly message: string }

interface Read<A> {
  readonly value: A
  readonly end: number
}

const bare = (word: string | undefined): string => (word ?? "").toLowerCase().replace(/^[("']+|[)"',.;!?]+$/g, "")

const isOf = (names: ReadonlyArray<string>, word: string, shortest: number): number =>
  word.length >= shortest ? names.findIndex((name) => name.startsWith(word) || `${name}s` === word) : -1

const dayName = (word: string): number => isOf(DAYS, word, 3)
const monthName = (word: string): number => isOf(MONTHS, word, 3)

const ordinal = (word: string): number | undefined => {
  const found = /^(\d{1,2})(st|nd|rd|th)?$/.exec(word)
  const value = found === null ? (word === "first" ? 1 : 0) : Number(found[1])
  return value >= 1 && value <= 31 ? value : undefined
}

const count = (word: string): number | undefined => {
  if (/^\d{1,3}$/.test(word)) return Number(word)
  return Object.hasOwn(NUMBERS, word) ? NUMBERS[word] : undefined
}

/** `at 9`, `at 7:30`, `9pm`, `at noon`; a bare number only after `at`. */
const readTime = (words: ReadonlyArray<string>, start: number): Read<Time> | undefined => {
  const said = words[start] === "at" || words[start] === "@"
  const at = said ? start + 1 : start
  const word = words[at] ?? ""
  if (word === "noon" || word === "midnight")
    return { value: { hour: word === "noon" ? 12 : 0, minute: 0 }, end: at + 1 }
  const found = /^(\d{1,2})(?:[:.h](\d{2}))?(am|pm|a\.m|p\.m)?$/.exec(word)
  if (found === null || (!said && found[2] === undefined && found[3] === undefined)) return undefined
  let end = at + 1
  let half = found[3]?.replace(".", "")
  const next = (words[end] ?? "").replace(".", "")
  if (half === undefined && (next === "am" || next === "pm")) {
    half = next
    end++
  } else if (next === "o'clock" || next === "oclock") end++
  let hour = Number(found[1])
  if (half !== undefined) {
    if (hour < 1 || hour > 12) return undefined
    hour = (hour % 12) + (half === "pm" ? 12 : 0)
  }
  const minute = Number(found[2] ?? 0)
  return hour > 23 || minute > 59 ? undefined : { value: { hour, minute }, end }
}

/** Items with commas, `and` and `&` between them. */
const readList = <A>(words: ReadonlyArray<string>, start: number, item: (word: string) => A | undefined) => {
  const values: Array<A> = []
  let end = start
  for (let at = start; at < words.length; ) {
    const value = item(words[at] ?? "")
    if (value === undefined) break
    values.push(value)
    end = at + 1
    at = words[end] === "and" || words[end] === "&" ? end + 1 : end
  }
  return values.length === 0 ? undefined : { value: values, end }
}

const weekdayOf = (word: string): number | undefined => (dayName(word) < 0 ? undefined : dayName(word))

const fields = (day: string, month: string, weekday: string): Day => ({ type: "fields", day, month, weekday })

const everyNth = (n: number, unit: string): Day => {
  const isMinutes = unit.startsWith("minute")
  const size = isMinutes ? 60 : 24
  if (n >= 1 && n < size && size % n === 0) {
    const step = n === 1 ? "*" : `*/${n}`
    return { type: "whole", schedule: isMinutes ? `${step} * * * *` : `0 ${step} * * *` }
  }
  const even = isMinutes ? "1, 2, 3, 4, 5, 6, 10, 12, 15, 20 or 30 minutes" : "1, 2, 3, 4, 6, 8 or 12 hours"
  const whole = isMinutes ? "an hour" : "a day"
  return { type: "unsupported", message: `${n} ${unit} do not go evenly into ${whole}: say every ${even}` }
}

/** `1st of every month`, `3rd of march`, from behind `on the`. */
const readDates = (words: ReadonlyArray<string>, start: number): Read<Day> | undefined => {
  const dates = readList(words, start, (word) => ordinal(word === "the" ? "" : word))
  if (dates === undefined || words[dates.end] !== "of") return undefined
  const after = dates.end + 1
  const day = dates.value.join(",")
  if (/^(every|each|the)$/.test(words[after] ?? "") && words[after + 1] === "month") {
    return { value: fields(day, "*", "*"), end: after + 2 }
  }
  const month = monthName(words[after] ?? "")
  if (month < 0) return undefined
  const end = /^(every|each)$/.test(words[after + 1] ?? "") && words[after + 2] === "year" ? after + 3 : after + 1
  return { value: fields(day, String(month + 1), "*"), end }
}

const readEvery = (words: ReadonlyArray<string>, at: number): Read<Day> | undefined => {
  const word = words[at] ?? ""
  if (word === "day") return { value: fields("*", "*", "*"), end: at + 1 }
  if (word === "weekday" || word === "workday") return { value: fields("*", "*", "1-5"), end: at + 1 }
  if (word === "weekend") return { value: fields("*", "*", "0,6"), end: at + 1 }
  if (word === "minute" || word === "hour") return { value: everyNth(1, `${word}s`), end: at + 1 }
  if (word === "half" && words[at + 1] === "hour") return { value: everyNth(30, "minutes"), end: at + 2 }
  const n = count(word)
  const unit = words[at + 1] ?? ""
  if (n !== undefined && /^(minute|hour)s?$/.test(unit))
    return { value: everyNth(n, `${unit.replace(/s$/, "")}s`), end: at + 2 }
  if (n !== undefined && /^(day|week|month|year)s?$/.test(unit)) {
    const message = `every ${n} ${unit} is no schedule: say every day, every Monday, or on the 1st of every month`
    return { value: { type: "unsupported", message }, end: at + 2 }
  }
  if (word === "month" || word === "year") {
    const on = words[at + 1] === "on" && words[at + 2] === "the" ? at + 3 : words[at + 1] === "on" ? at + 2 : undefined
    if (on === undefined) return word === "month" ? { value: fields("1", "*", "*"), end: at + 1 } : undefined
    if (word === "year") return readDates(words, on)
    const dates = readList(words, on, ordinal)
    return dates === undefined ? undefined : { value: fields(dates.value.join(","), "*", "*"), end: dates.end }
  }
  const days = readList(words, at, weekdayOf)
  if (days !== undefined) return { value: fields("*", "*", [...new Set(days.value)].join(",")), end: days.end }
  return readDates(words, at)
}

const dateAfter = (now: Wall, days: number): Day => {
  const date = new Date(Date.UTC(now.year, now.month - 1, now.day + days))
  return { type: "date", year: date.getUTCFullYear(), month: date.getUTCMonth() + 1, day: date.getUTCDate() }
}

/** Moments that come once; they need to know what day it is. */
const readOnce = (words: ReadonlyArray<string>, start: number, now: Wall): Read<Day> | undefined => {
  const word = words[start] ?? ""
  if (word === "today") return { value: dateAfter(now, 0), end: start + 1 }
  if (word === "tomorrow") return { value: dateAfter(now, 1), end: start + 1 }
  if (word === "in") {
    const n = count(words[start + 1] ?? "")
    const unit = /^(minute|hour|day|week)s?$/.exec(words[start + 2] ?? "")?.[1]
    if (n === undefined || unit === undefined) return undefined
    if (unit === "day" || unit === "week") return { value: dateAfter(now, unit === "day" ? n : n * 7), end: start + 3 }
    const minutes = now.hour * 60 + now.minute + n * (unit === "hour" ? 60 : 1)
    const date = dateAfter(now, Math.floor(minutes / 1440))
    const time = { hour: Math.floor(minutes / 60) % 24, minute: minutes % 60 }
    return date.type === "date" ? { value: { type: "whole", schedule: atText(date, time) }, end: start + 3 } : undefined
  }
  return undefined
}

/** Any day, where only the words count. */
const EPOCH: Wall = { year: 1970, month: 1, day: 1, hour: 0, minute: 0 }
const ONCE: Day = {
  type: "unsupported",
  message: "this comes only once: say every day, every Monday, or on the 1st of every month"
}

const readDay = (words: ReadonlyArray<string>, start: number, now: Wall | undefined): Read<Day> | undefined => {
  const word = words[start] ?? ""
  if (word === "every" || word === "each") return readEvery(words, start + 1)
  if (word === "daily") return { value: fields("*", "*", "*"), end: start + 1 }
  if (word === "hourly") return { value: everyNth(1, "hours"), end: start + 1 }
  if (word === "today" || word === "tomorrow" || word === "in") {
    const once = readOnce(words, start, now ?? EPOCH)
    return once === undefined || now !== undefined ? once : { value: ONCE, end: once.end }
  }
  if (word !== "on") return undefined
  const next = words[start + 1] ?? ""
  if (next === "weekdays" || next === "weekends")
    return readEvery(
      words.map((each) => each.replace(/s$/, "")),
      start + 1
    )
  if (next === "the") return readDates(words, start + 2)
  const iso = /^(\d{4})-(\d{2})-(\d{2})$/.exec(next)
  if (iso !== null) {
    const [year, month, day] = iso.slice(1).map(Number) as [number, number, number]
    return { value: { type: "date", year, month, day }, end: start + 2 }
  }
  const days = readList(words, start + 1, weekdayOf)
  if (days === undefined) return undefined
  const named = words.slice(start + 1, days.end)
  // "on Mondays" is every Monday, "on Monday" the next one.
  const isEvery = days.value.length > 1 || DAYS.includes(named[0]?.replace(/s$/, "") ?? "") === named[0]?.endsWith("s")
  if (isEvery) return { value: fields("*", "*", [...new Set(days.value)].join(",")), end: days.end }
  if (now === undefined) return { value: ONCE, end: days.end }
  const today = new Date(Date.UTC(now.year, now.month - 1, now.day)).getUTCDay()
  return { value: dateAfter(now, (((days.value[0] ?? 0) - today + 6) % 7) + 1), end: days.end }
}

const two = (value: number): string => String(value).padStart(2, "0")

const atText = (date: { readonly year: number; readonly month: number; readonly day: number }, time: Time): string =>
  `@at ${String(date.year).padStart(4, "0")}-${two(date.month)}-${two(date.day)}T${two(time.hour)}:${two(time.minute)}`

const scheduleOf = (day: Day, time: Time): string => {
  if (day.type === "fields") return `${time.minute} ${time.hour} ${day.day} ${day.month} ${day.weekday}`
  return day.type === "date" ? atText(day, time) : day.type === "whole" ? day.schedule : ""
}

/** Day and time in either order, from `start` on. */
const readWhen = (
  words: ReadonlyArray<string>,
  start: number,
  now: Wall | undefined
): Read<Day & { readonly time: Time }> | undefined => {
  const early = readTime(words, start)
  const day = readDay(words, early?.end ?? start, now)
  if (day === undefined) return undefined
  const late = early === undefined && day.value.type !== "whole" ? readTime(words, day.end) : undefined
  const time = early?.value ?? late?.value ?? DEFAULT_TIME
  return { value: { ...day.value, time }, end: late?.end ?? day.end }
}

const ASKED = /^(?:please\s+)?remind\s+me\b[\s,]*/i

/** Names that are taken; a reminder is given one that is not. */
type Taken = (name: string) => boolean
const isFree: Taken = () => false

/**
 * A reminder in the user's words, what to say instead, or undefined where the text is none. Days and times are the user's
 * own, on the wall where `now` is; without it there is no today or tomorrow.
 */
export const read = (text: string, now?: Wall, isTaken: Taken = isFree): Reminder | Unsupported | undefined => {
  const trimmed = text.trim()
  if (trimmed.length > 2000 || trimmed.includes("\n")) return undefined
  const isAsked = ASKED.test(trimmed)
  const original = trimmed.replace(ASKED, "").split(/\s+/)
  const words = original.map(bare)
  for (let start = 0; start < words.length; start++) {
    // Without "remind me" only a text that begins with its time is taken for one.
    if (!isAsked && (start > 0 || trimmed.endsWith("?"))) return undefined
    const when = readWhen(words, start, now)
    if (when === undefined) continue
    const rest = [...original.slice(0, start), ...original.slice(when.end)].join(" ")
    const task = rest
      .replace(/^[\s,:-]+/, "")
      .replace(ASKED, "")
      .replace(/[\s,.]+$/, "")
    const link = /^(to|that|about|of)\s+/i.exec(task)?.[1]?.toLowerCase()
    const what = link === undefined ? task : task.slice(link.length).trim()
    if (what === "") {
      const message = "what shall I remind you of? Say for example: remind me every Monday at 9 to call the bank"
      return isAsked ? { _tag: "Unsupported", message } : undefined
    }
    if (when.value.type === "unsupported") return { _tag: "Unsupported", message: when.value.message }
    return {
      _tag: "Reminder",
      schedule: scheduleOf(when.value, when.value.time),
      command: `Remind me ${link ?? (isAsked ? "to" : "of this:")} ${what}`,
      name: Crontab.nameFor(what, isTaken)
    }
  }
  return undefined
}

/** As `read`, where it is one that can be scheduled. */
export const parse = (text: string, now?: Wall, isTaken?: Taken): Reminder | undefined => {
  const reminder = read(text, now, isTaken)
  return reminder?._tag === "Reminder" ? reminder : undefined
}
