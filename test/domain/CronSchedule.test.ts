import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as CronSchedule from "../../src/domain/CronSchedule.ts"
import * as Crontab from "../../src/domain/Crontab.ts"
import * as CronWords from "../../src/domain/CronWords.ts"

const parsed = (text: string) => Result.getOrThrow(CronSchedule.parse(text))

describe("CronSchedule", () => {
  const mistakes: ReadonlyArray<readonly [string, number, RegExp]> = [
    ["", 1, /missing: write five fields/],
    ["* * * *", 8, /there are 4: write/],
    ["0 0 9 * * *", 11, /there are 6 \(seconds are not taken\)/],
    ["60 * * * *", 1, /60 is no minute: write 0-59/],
    ["0 24 * * *", 3, /24 is no hour: write 0-23/],
    ["0 9 0 * *", 5, /0 is no day of month: write 1-31/],
    ["0 9 * 13 *", 7, /13 is no month: write 1-12/],
    ["0 9 * * 8", 9, /8 is no day of week: write 0-7/],
    ["0 9 * * mno", 9, /write 0-7 or a name such as mon/],
    ["0 9 * * mon-fry", 13, /"fry" is no day of week/],
    ["0 9 L * *", 5, /L, W, # and \? are not taken/],
    ["0 9 15W * *", 5, /L, W, # and \? are not taken/],
    ["0 9 * * fri#2", 9, /L, W, # and \? are not taken/],
    ["0 9 ? * 1", 5, /L, W, # and \? are not taken/],
    ["5/10 * * * *", 1, /write 5-59\/10 or \*\/10/],
    ["*/0 * * * *", 3, /whole number from 1 on/],
    ["*/75 * * * *", 3, /write 0, or a smaller step/],
    ["0 22-2 * * *", 3, /runs backwards: write 22-23,0-2/],
    ["1,,2 * * * *", 3, /a minute is missing/],
    ["0 9 30 2 *", 5, /would never come/],
    ["  0 9 31 4,6 *", 7, /would never come/],
    ["@dayly", 1, /is not known: write @hourly/],
    ["@at tomorrow", 1, /write it as @at/],
    ["@at 2026-02-29T09:00", 1, /no such moment/],
    ["@at 2026-02-20T24:00", 1, /no such moment/]
  ]
  for (const [text, column, message] of mistakes) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      const result = CronSchedule.parse(text)
      assert.isTrue(Result.isFailure(result))
      if (Result.isSuccess(result)) return
      assert.strictEqual(result.failure.column, column)
      assert.match(result.failure.message, message)
    })
  }

  it("takes anything without a throw, and what it takes has instants", () => {
    const piece = fc.constantFrom(
      ..."0 1 9 59 * / - , L W # ? mon jan @daily @at 2026-01-01T00:00 7 31".split(" "),
      " ",
      " "
    )
    let taken = 0
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.array(piece, { maxLength: 16 }).map((all) => all.join(""))
        ),
        (text) => {
          const result = CronSchedule.parse(text)
          if (Result.isFailure(result)) {
            assert.isAtLeast(result.failure.column, 1)
            assert.isAtMost(result.failure.column, text.length + 1)
            return
          }
          taken++
          assert.notStrictEqual(CronWords.words(result.success), "")
          const next = CronSchedule.instants(result.success, "UTC").next(0)
          assert.isTrue(next !== undefined || result.success.kind === "reboot")
        }
      ),
      { seed: 5, numRuns: 3000 }
    )
    assert.isAbove(taken, 0)
  })

  it("knows zones by their names", () => {
    for (const zone of ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Etc/GMT+3"])
      assert.isTrue(CronSchedule.isZone(zone))
    for (const zone of ["", "Mars/Base", "+02:00", "Europe/Berlin ", "../etc", "x".repeat(99)])
      assert.isFalse(CronSchedule.isZone(zone))
  })

  it("gives @at once, after the gap where the clocks skip it", () => {
    const of = CronSchedule.instants(parsed("@at 2026-03-29 02:30"), "Europe/Berlin")
    const at = Date.parse("2026-03-29T01:00:00Z")
    assert.strictEqual(of.next(0), at)
    assert.strictEqual(of.next(at - 1), at)
    assert.isUndefined(of.next(at))
    assert.strictEqual(of.previous(at + 1), at)
    assert.isUndefined(of.previous(at))
    const twice = CronSchedule.instants(parsed("@at 2026-10-25T02:30"), "Europe/Berlin")
    assert.strictEqual(twice.next(0), Date.parse("2026-10-25T00:30:00Z"))
  })

  it("finds what is years away", () => {
    const leap = CronSchedule.instants(parsed("0 0 29 2 *"), "UTC")
    assert.deepStrictEqual(
      CronSchedule.nextFew(leap, Date.parse("2096-03-01T00:00:00Z"), 2).map((at) =>
        new Date(at).toISOString().slice(0, 10)
      ),
      ["2104-02-29", "2108-02-29"]
    )
  })
})

describe("CronWords", () => {
  const cases: ReadonlyArray<readonly [string, string]> = [
    ["0 9 * * 1", "every Monday at 09:00"],
    ["30 7 * * *", "every day at 07:30"],
    ["0 18 * * 1-5", "every weekday at 18:00"],
    ["*/15 * * * *", "every 15 minutes"],
    ["* * * * *", "every minute"],
    ["@hourly", "every hour on the hour"],
    ["@weekly", "every Sunday at 00:00"],
    ["@yearly", "on the 1st of January at 00:00"],
    ["@reboot", "at every start of the assistant"],
    ["@at 2026-12-01T09:05", "once, on 1 December 2026 at 09:05"],
    ["0 8 1 * *", "on the 1st of every month at 08:00"],
    ["0 9-17 * * mon-fri", "every hour from 09:00 to 17:00, every weekday"],
    ["*/10 9-17 * * 1-5", "every 10 minutes from 09:00 to 17:50, every weekday"],
    ["0 */4 * * *", "every 4 hours from 00:00 on"],
    ["5 * * * 6,0", "every hour at minute 5, every Saturday and Sunday"],
    ["0 9 * * 5-7", "every Friday to Sunday at 09:00"],
    ["0 9,12,18 * * *", "every day at 09:00, 12:00 and 18:00"],
    ["0 9 1,15 * fri", "on the 1st and 15th of every month, and every Friday at 09:00"],
    ["0 9 1-7 * fri", "on the 1st to the 7th of every month, and every Friday at 09:00"],
    ["0 9 */15 * fri", "on the 1st, 16th and 31st of every month where it is a Friday at 09:00"],
    ["0 9 1 * 0-6", "every day at 09:00"],
    ["0 9 1-31 2 mon", "every day in February at 09:00"],
    ["0 9 11-13,22,23 3 *", "on the 11th to the 13th, 22nd and 23rd of March at 09:00"],
    ["0 9 * 6-8 2", "every Tuesday in June to August at 09:00"],
    ["1,7,33 3,4,9 * 6 2", "at minutes 1, 7 and 33 of the hours 03, 04 and 09, every Tuesday in June"]
  ]
  for (const [expression, words] of cases)
    it(expression, () => assert.strictEqual(CronWords.words(parsed(expression)), words))
})

describe("Crontab", () => {
  it("becomes jobs", () => {
    const text = `# m h dom mon dow
CRON_TZ="Europe/Berlin"

# Morning mail
0 9 * * 1-5   Read my mail
  @daily\tAsk whether the backup ran, please and tell me about it at length
0 9 * * 1 Read my mail
`
    assert.deepStrictEqual(Result.getOrThrow(Crontab.parse(text, (name) => name === "Read my mail")), [
      { name: "Morning mail", schedule: "0 9 * * 1-5", command: "Read my mail", timezone: "Europe/Berlin" },
      {
        name: "Ask whether the backup ran please and",
        schedule: "@daily",
        command: "Ask whether the backup ran, please and tell me about it at length",
        timezone: "Europe/Berlin"
      },
      { name: "Read my mail 2", schedule: "0 9 * * 1", command: "Read my mail", timezone: "Europe/Berlin" }
    ])
  })

  it("tells its mistakes where they are", () => {
    const text = "PATH=/bin\n0 25 * * * x\n 0 9 * * 1\nTZ=Mars\n"
    const result = Crontab.parse(text, () => false)
    assert.isTrue(Result.isFailure(result))
    if (Result.isFailure(result)) {
      assert.deepStrictEqual(
        result.failure.map(({ column, line }) => `${line}:${column}`),
        ["1:1", "2:3", "3:11", "4:1"]
      )
    }
  })
})
