import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import * as fc from "fast-check"
import * as CronEdit from "../../src/domain/CronEdit.ts"
import * as CronSchedule from "../../src/domain/CronSchedule.ts"
import * as Reminder from "../../src/domain/Reminder.ts"

/** A Saturday. */
const now: Reminder.Wall = { year: 2026, month: 11, day: 21, hour: 22, minute: 50 }
const free = () => false
const read = (text: string) => Reminder.read(text, now, free)

describe("Reminder", () => {
  const cases: ReadonlyArray<readonly [string, string, string]> = [
    ["remind me every Monday at 9 to call the bank", "0 9 * * 1", "Remind me to call the bank"],
    ["Remind me to call the bank every Monday at 9.", "0 9 * * 1", "Remind me to call the bank"],
    ["please remind me at 7:30 every day, to stretch!", "30 7 * * *", "Remind me to stretch!"],
    ["every day at 7:30 drink water", "30 7 * * *", "Remind me of this: drink water"],
    ["Every weekday at 18:00 remind me to go home", "0 18 * * 1-5", "Remind me to go home"],
    ["remind me every 15 minutes to look up", "*/15 * * * *", "Remind me to look up"],
    ["remind me every half hour to look up", "*/30 * * * *", "Remind me to look up"],
    ["remind me every two hours to look up", "0 */2 * * *", "Remind me to look up"],
    ["remind me hourly that time flies", "0 * * * *", "Remind me that time flies"],
    ["remind me on the 1st of every month at 8 to pay the rent", "0 8 1 * *", "Remind me to pay the rent"],
    ["remind me every month on the 1st and 15th at 8pm to pay", "0 20 1,15 * *", "Remind me to pay"],
    ["remind me on the 3rd of March every year about Ada's birthday", "0 9 3 3 *", "Remind me about Ada's birthday"],
    ["remind me on Mondays and Fridays at noon to eat", "0 12 * * 1,5", "Remind me to eat"],
    ["remind me every mon, wed and fri at 6 pm to run", "0 18 * * 1,3,5", "Remind me to run"],
    ["remind me on weekends at 10 o'clock to rest", "0 10 * * 0,6", "Remind me to rest"],
    ["remind me every Tuesday to swim", "0 9 * * 2", "Remind me to swim"],
    ["remind me tomorrow at 9 to write", "@at 2026-11-22T09:00", "Remind me to write"],
    ["remind me to write today at 11pm", "@at 2026-11-21T23:00", "Remind me to write"],
    ["remind me on Monday at 12am to write", "@at 2026-11-23T00:00", "Remind me to write"],
    ["remind me on Saturday at 8 to write", "@at 2026-11-28T08:00", "Remind me to write"],
    ["remind me in 90 minutes to write", "@at 2026-11-22T00:20", "Remind me to write"],
    ["remind me in an hour to write", "@at 2026-11-21T23:50", "Remind me to write"],
    ["remind me on 2027-02-01 at 9:15 to write", "@at 2027-02-01T09:15", "Remind me to write"]
  ]
  for (const [text, schedule, command] of cases) {
    it(text, () => {
      const reminder = read(text)
      assert.deepInclude(reminder, { _tag: "Reminder", schedule, command })
      assert.isTrue(Result.isSuccess(CronSchedule.parse(schedule)))
    })
  }

  const questions = [
    "what do I do every Monday?",
    "every Monday at 9?",
    "remind me who you are",
    "remind me",
    "every now and then I wonder",
    "I said remind me every day",
    "every day",
    "remind me every day at 7:30\nand more",
    ""
  ]
  for (const text of questions) it(`leaves ${JSON.stringify(text)} alone`, () => assert.isUndefined(read(text)))

  it("says what cannot be scheduled, and what can", () => {
    for (const text of [
      "remind me every 45 minutes to x",
      "remind me every 3 weeks to x",
      "remind me every Monday at 9"
    ]) {
      const answer = read(text)
      assert.strictEqual(answer?._tag, "Unsupported")
      if (answer?._tag === "Unsupported") assert.match(answer.message, /[Ss]ay/)
    }
  })

  it("knows no tomorrow without a day", () => {
    for (const when of ["tomorrow", "on Monday", "in 5 minutes", "today at 9"]) {
      assert.strictEqual(Reminder.read(`remind me ${when} to x`)?._tag, "Unsupported")
      assert.isUndefined(Reminder.parse(`remind me ${when} to x`))
    }
    assert.deepInclude(Reminder.parse("remind me on Mondays to x"), { schedule: "0 9 * * 1", name: "x" })
  })

  it("names a reminder by its words, and no two alike", () => {
    const taken = new Set(["call the bank", "call the bank 2"])
    const reminder = Reminder.read("remind me daily to call the bank", now, (name) => taken.has(name))
    assert.deepInclude(reminder, { name: "call the bank 3" })
  })

  it("knows the time on the wall", () => {
    const wall = Reminder.wallOf(Date.UTC(2026, 11, 31, 23, 59), "Asia/Kathmandu")
    assert.deepStrictEqual(wall, { year: 2027, month: 1, day: 1, hour: 5, minute: 44 })
  })

  it("makes a job that CRON.md takes, or a refusal, of whatever is said", () => {
    let taken = 0
    const known = fc.constantFrom(
      ...["every", "on", "the", "at", "9", "7:30", "monday", "1st", "of", "month", "15", "minutes", "to", "and", "in"],
      ...["every day", "tomorrow at 9", "##", "**Enabled**:", "```", "<!--"]
    )
    const word = fc.oneof({ weight: 5, arbitrary: known }, { weight: 1, arbitrary: fc.string({ maxLength: 8 }) })
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), (words) => {
        const reminder = read(`remind me ${words.join(" ")}`)
        if (reminder?._tag !== "Reminder") return
        const { command, name, schedule } = reminder
        const added = CronEdit.add("", [{ name, schedule, command }])
        if (Result.isFailure(added)) assert.strictEqual(added.failure.reason, "Invalid")
        else taken++
      }),
      { seed: 27, numRuns: 1000 }
    )
    assert.isAbove(taken, 50)
  })
})
