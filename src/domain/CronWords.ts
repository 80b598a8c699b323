/** A schedule in plain English, for people who do not read five fields. What has no short form is spelt out in full. */
import type { Field, Fields, Schedule } from "./CronSchedule.ts"

const WEEKDAYS: ReadonlyArray<string> = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
const MONTHS: ReadonlyArray<string> = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December"
]
/** Times of day that are listed one by one. */
const MAX_TIMES = 6

const two = (value: number): string => String(value).padStart(2, "0")
const clock = (hour: number, minute: number): string => `${two(hour)}:${two(minute)}`

const list = (words: ReadonlyArray<string>): string =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`

const ordinal = (value: number): string => {
  const tens = value % 100
  const suffix = tens >= 11 && tens <= 13 ? "th" : (["th", "st", "nd", "rd"][value % 10] ?? "th")
  return `${value}${suffix}`
}

const weekdayName = (value: number): string => WEEKDAYS[value] ?? ""
const monthName = (value: number): string => MONTHS[value - 1] ?? ""

/** The values as spans where three or more follow each other. */
const spans = (values: ReadonlyArray<number>, word: (value: number) => string, to: string): string => {
  const parts: Array<string> = []
  for (let at = 0; at < values.length; ) {
    let end = at
    while (values[end + 1] === (values[end] as number) + 1) end++
    if (end - at >= 2) parts.push(`${word(values[at] as number)}${to}${word(values[end] as number)}`)
    else for (let each = at; each <= end; each++) parts.push(word(values[each] as number))
    at = end + 1
  }
  return list(parts)
}

/** The step of a field that counts evenly round the clock from 0. */
const evenStep = ({ values }: Field, size: number): number | undefined => {
  const step = values.length > 1 ? (values[1] as number) - (values[0] as number) : 0
  const even = step > 1 && size % step === 0 && values.length === size / step && values[0] === 0
  return even && values.every((value, index) => value === index * step) ? step : undefined
}

const isSpan = (values: ReadonlyArray<number>): boolean =>
  values.length > 1 && (values.at(-1) as number) - (values[0] as number) === values.length - 1

/** `often` counts through the day; otherwise it is one or a few times. */
const time = ({ hour, minute }: Fields): { readonly text: string; readonly often: boolean } => {
  const [firstMinute = 0] = minute.values
  const [firstHour = 0] = hour.values
  const lastHour = hour.values.at(-1) ?? 0
  const step = minute.all ? 1 : evenStep(minute, 60)
  if (step !== undefined) {
    const often = step === 1 ? "every minute" : `every ${step} minutes`
    if (hour.all) return { text: often, often: true }
    if (hour.values.length === 1 || isSpan(hour.values)) {
      return { text: `${often} from ${clock(firstHour, 0)} to ${clock(lastHour, 60 - step)}`, often: true }
    }
    return { text: `${often} of the hours ${spans(hour.values, two, " to ")}`, often: true }
  }
  if (minute.values.length === 1) {
    const past = firstMinute === 0 ? "on the hour" : `at minute ${firstMinute}`
    if (hour.all) return { text: `every hour ${past}`, often: true }
    const hours = evenStep(hour, 24)
    if (hours !== undefined && hour.values.length > 2) {
      return { text: `every ${hours} hours from ${clock(0, firstMinute)} on`, often: true }
    }
    if (isSpan(hour.values) && hour.values.length > 2) {
      return {
        text: `every hour from ${clock(firstHour, firstMinute)} to ${clock(lastHour, firstMinute)}`,
        often: true
      }
    }
  }
  if (minute.values.length * hour.values.length <= MAX_TIMES) {
    const times = hour.values.flatMap((h) => minute.values.map((m) => clock(h, m)))
    return { text: `at ${list(times)}`, often: false }
  }
  const minutes = `at ${minute.values.length === 1 ? "minute" : "minutes"} ${spans(minute.values, String, " to ")}`
  return {
    text: `${minutes} of ${hour.all ? "every hour" : `the hours ${spans(hour.values, two, " to ")}`}`,
    often: true
  }
}

const weekdays = ({ values }: Field): string => {
  const key = values.join()
  if (key === "1,2,3,4,5") return "every weekday"
  if (key === "0,6") return "every Saturday and Sunday"
  // Sunday comes last where the others run up to it.
  const order = values.includes(0) ? [...values.filter((value) => value > 0), 7] : values
  return `every ${spans(order, (value) => weekdayName(value % 7), " to ")}`
}

const days = ({ day, month }: Fields): string => {
  const dates = `the ${spans(day.values, ordinal, " to the ")}`
  const of = month.all ? "every month" : spans(month.values, monthName, " to ")
  return `on ${dates} of ${of}`
}

/** The days, and whether months are said already; undefined for every day. */
const dayWords = (fields: Fields): { readonly text: string; readonly withMonths: boolean } | undefined => {
  const { day, weekday } = fields
  if (day.all && weekday.all) return undefined
  if (day.all) return { text: weekdays(weekday), withMonths: false }
  if (weekday.all) return { text: days(fields), withMonths: true }
  return day.star || weekday.star
    ? { text: `${days(fields)} where it is a ${spans(weekday.values, weekdayName, " to ")}`, withMonths: true }
    : { text: `${days(fields)}, and ${weekdays(weekday)}`, withMonths: false }
}

const ofFields = (fields: Fields): string => {
  const { often, text } = time(fields)
  const day = dayWords(fields)
  const months =
    fields.month.all || day?.withMonths === true ? "" : ` in ${spans(fields.month.values, monthName, " to ")}`
  if (day === undefined)
    return often ? `${text}${months === "" ? "" : `, every day${months}`}` : `every day${months} ${text}`
  return often ? `${text}, ${day.text}${months}` : `${day.text}${months} ${text}`
}

/** One line without a full stop: `every Monday at 09:00`. */
export const words = (schedule: Schedule): string => {
  switch (schedule.kind) {
    case "reboot":
      return "at every start of the assistant"
    case "at": {
      const { day, hour, minute, month, year } = schedule
      return `once, on ${day} ${monthName(month)} ${year} at ${clock(hour, minute)}`
    }
    case "fields":
      return ofFields(schedule)
  }
}
