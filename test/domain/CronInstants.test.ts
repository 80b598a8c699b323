/**
 * Instants against a slow reference that knows no croner: every minute of a year is asked for its time on the wall, with
 * Intl, and compared with the fields as the text has them.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as CronSchedule from "../../src/domain/CronSchedule.ts"

const MINUTE = 60_000

/** What the clocks on the wall show in each minute of a span. */
interface Walls {
  readonly from: number
  /** Minutes since 1970 as the wall has them. */
  readonly wall: Float64Array
}

/** Asked every quarter of an hour: clocks that change do so on one. */
const wallsOf = (zone: string, from: number, to: number): Walls => {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone: zone,
    hourCycle: "h23",
    year: "numeric",
    month: "2-digit",
    day: "2-digit",
    hour: "2-digit",
    minute: "2-digit"
  })
  const wall = new Float64Array((to - from) / MINUTE)
  for (let index = 0; index < wall.length; index += 15) {
    const shown = /(\d+)\/(\d+)\/(\d+), (\d+):(\d+)/.exec(format.format(from + index * MINUTE)) ?? []
    const [month, day, year, hour, minute] = shown.slice(1).map(Number) as [number, number, number, number, number]
    for (let step = 0; step < 15; step++)
      wall[index + step] = Date.UTC(year, month - 1, day, hour, minute) / MINUTE + step
  }
  return { from, wall }
}

const NAMES = "sun mon tue wed thu fri sat jan feb mar apr may jun jul aug sep oct nov dec".split(" ")
const number = (text: string): number => {
  const name = NAMES.indexOf(text.toLowerCase())
  return name < 0 ? Number(text) : name < 7 ? name : name - 6
}

/** Does the field, as text, allow the value? */
const allows = (field: string, value: number, low: number): boolean =>
  field.split(",").some((item) => {
    const [span, step = "1"] = item.split("/") as [string, string?]
    if (span === "*") return (value - low) % Number(step) === 0
    const [first, last = first] = span.split("-").map(number) as [number, number?]
    return value >= first && value <= last && (value - first) % Number(step) === 0
  })

/** Whether a minute on the wall is one of the expression's. */
const matcher = (expression: string): ((wall: number) => boolean) => {
  const [minute, hour, day, month, weekday] = expression.split(" ") as [string, string, string, string, string]
  const days = new Map<number, boolean>()
  const isDay = (wallDay: number): boolean => {
    const date = new Date(wallDay * 1440 * MINUTE)
    if (!allows(month, date.getUTCMonth() + 1, 1)) return false
    const byDay = allows(day, date.getUTCDate(), 1)
    const byWeekday = allows(weekday, date.getUTCDay(), 0) || (date.getUTCDay() === 0 && allows(weekday, 7, 0))
    return day.startsWith("*") || weekday.startsWith("*") ? byDay && byWeekday : byDay || byWeekday
  }
  const times = Array.from(
    { length: 1440 },
    (_, at) => allows(minute, at % 60, 0) && allows(hour, Math.floor(at / 60), 0)
  )
  return (wall) => {
    if (times[wall % 1440] !== true) return false
    const wallDay = Math.floor(wall / 1440)
    const known = days.get(wallDay) ?? isDay(wallDay)
    days.set(wallDay, known)
    return known
  }
}

const reference = (expression: string, { from, wall: walls }: Walls): Array<number> => {
  const found: Array<number> = []
  const matches = matcher(expression)
  const counts = expression.split(" ")[1]?.startsWith("*") === true
  let latest = (walls[0] as number) - 1
  for (let index = 0; index < walls.length; index++) {
    const wall = walls[index] as number
    let due = (counts || wall > latest) && matches(wall)
    // Named times that the clocks jumped over.
    if (!counts) for (let skipped = latest + 1; skipped < wall && !due; skipped++) due = matches(skipped)
    if (due) found.push(from + index * MINUTE)
    if (wall > latest) latest = wall
  }
  return found
}

const iso = (all: ReadonlyArray<number>) => all.map((at) => new Date(at).toISOString())

/** Forwards, and backwards from every `sample`th. */
const compare = (expression: string, zone: string, walls: Walls, sample: number) => {
  const to = walls.from + walls.wall.length * MINUTE
  const expected = reference(expression, walls)
  const of = CronSchedule.instants(Result.getOrThrow(CronSchedule.parse(expression)), zone)
  const forward: Array<number> = []
  for (let at = of.next(walls.from - 1); at !== undefined && at < to; at = of.next(at)) forward.push(at)
  if (forward.join() !== expected.join()) assert.deepStrictEqual(iso(forward), iso(expected), `${expression} ${zone}`)
  for (let index = 1; index < expected.length; index += sample) {
    const at = expected[index] as number
    assert.strictEqual(
      of.previous(at),
      expected[index - 1],
      `${expression} ${zone} before ${new Date(at).toISOString()}`
    )
    assert.strictEqual(of.previous(at + 1), at)
  }
}

const from = Date.UTC(2026, 0, 1)
const to = Date.UTC(2027, 0, 1)

const expressions = [
  "30 2 * * *",
  "15 0 * * *",
  "0 0 * * *",
  "45 1 * * *",
  "0,15,30,45 1-3 * * *",
  "*/20 2 * * *",
  "* 1-2 * * sun",
  "5 * * * *",
  "*/45 * 1-7 * mon",
  "7 */5 */3 * fri",
  "30 */2 * mar,apr,oct,nov sun",
  "10,50 0,2 13 * fri",
  "0 9 1 * 1",
  "0 23 31 * *",
  "0 9 1 * 0-6",
  "0 9 1-31 2-3 mon",
  "0 2 */1 * 1,0",
  "59 23 29 2 7",
  "20 2 */2 * 1-5"
]

const zones = ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kathmandu"]
const years = new Map(zones.map((zone) => [zone, wallsOf(zone, from, to)]))

describe("a year at minute resolution", () => {
  for (const [zone, walls] of years) {
    for (const expression of expressions) {
      it(`${expression} in ${zone}`, () => compare(expression, zone, walls, 97))
    }
  }
})

const field = (low: number, high: number, star: number) =>
  fc.oneof(
    { weight: star, arbitrary: fc.constant("*") },
    { weight: 1, arbitrary: fc.integer({ min: 1, max: Math.ceil((high - low) / 2) }).map((step) => `*/${step}`) },
    {
      weight: 3,
      arbitrary: fc.uniqueArray(fc.integer({ min: low, max: high }), { minLength: 1, maxLength: 3 }).map(String)
    },
    {
      weight: 1,
      arbitrary: fc
        .tuple(fc.integer({ min: low, max: high }), fc.integer({ min: low, max: high }))
        .map(([a, b]) => (a < b ? `${a}-${b}` : `${b}-${a}`))
    }
  )

describe("any expression", () => {
  it("follows the reference where clocks change", () => {
    const windows = zones.flatMap((zone) => {
      const { wall } = years.get(zone) as Walls
      const found: Array<readonly [string, Walls]> = []
      for (let index = 1; index < wall.length; index++) {
        if ((wall[index] as number) - (wall[index - 1] as number) !== 1) {
          const start = from + (index - 2 * 1440) * MINUTE
          found.push([zone, wallsOf(zone, start, start + 4 * 1440 * MINUTE)])
        }
      }
      return found
    })
    assert.strictEqual(windows.length, 8)
    const expression = fc
      .tuple(field(0, 59, 1), field(0, 3, 1), field(1, 28, 4), fc.constantFrom("*", "3,4,10,11"), field(0, 6, 4))
      .map((fields) => fields.join(" "))
    fc.assert(
      fc.property(expression, fc.constantFrom(...windows), (text, [zone, walls]) => compare(text, zone, walls, 5)),
      { seed: 20260308, numRuns: 100 }
    )
  })
})
