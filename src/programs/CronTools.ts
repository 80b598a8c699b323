/** Tools on scheduled work. A model proposes; a job comes to be, and goes, only when the user says so, each time. */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { JobName, maxScheduleChars, maxTextChars } from "../domain/CronJob.ts"
import type { CronError, JobView } from "../domain/CronRpc.ts"
import * as Printable from "../domain/Printable.ts"
import type { Cron } from "./Cron.ts"
import * as Tool from "./Tool.ts"

/** Jobs that one call lists. */
const MAX_LISTED = 100
const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

const fail = (error: CronError) =>
  new Tool.ToolError({ message: [error.message, ...error.problems.map(({ message }) => message)].join("; ") })

/** Instants (ISO 8601) as the clock of their zone shows them: what is told to people is no sum to be done. */
const localTimes = (instants: ReadonlyArray<string>, zone: string): ReadonlyArray<string> =>
  instants.map((instant) =>
    Option.match(DateTime.makeZoned(instant, { timeZone: zone }), {
      onNone: () => instant,
      onSome: (zoned) => {
        const { day, hour, minute, month, weekDay, year } = DateTime.toParts(zoned)
        const two = (value: number) => String(value).padStart(2, "0")
        return `${DAYS[weekDay]} ${year}-${two(month)}-${two(day)} ${two(hour)}:${two(minute)}`
      }
    })
  )

const nextOf = ({ next, zone }: Pick<JobView, "next" | "zone">): string => {
  const [first] = localTimes(next.slice(0, 1), zone)
  return first === undefined ? "never" : `${first} (${zone})`
}

/** All of a job, for who decides about it. */
const detailOf = (
  { command, name, schedule }: Pick<JobView["job"], "command" | "name" | "schedule">,
  { words, zone }: Pick<JobView, "words" | "zone">,
  times: ReadonlyArray<string> = []
): ReadonlyArray<string> => [
  `${Printable.line(name)}: ${words} (${Printable.line(schedule)}, ${zone})`,
  ...times.map((time) => `next: ${time}`),
  Printable.clean(command)
]

const jobLine = (view: JobView): string => {
  const { job, next, suspended, words } = view
  const state = suspended === undefined ? (job.enabled ? "" : " (disabled)") : ` (suspended: ${suspended.reason})`
  const when = next[0] === undefined ? "" : `, next ${nextOf(view)}`
  return Printable.line(`${job.name}${state}: ${words}${when}: ${job.command}`)
}

const name = JobName.annotate({ description: "1 to 59 letters, digits, spaces, dots, underscores and hyphens" })

const NewJobInput = Schema.Struct({
  name,
  schedule: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxScheduleChars)).annotate({
    description:
      "minute, hour, day of month, month, day of week, as cron has them: 0 9 * * 1 is Mondays at nine; or @hourly, @daily, @weekly, @monthly, @reboot; or, for once, @at 2027-03-01T09:00"
  }),
  command: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxTextChars)).annotate({
    description:
      "what you will be told then, complete in itself: you will know nothing of this conversation. A reminder: remind me to ..."
  }),
  timezone: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(64))).annotate({
    description: "such as Europe/Berlin; default: the user's"
  })
})

export const make = (cron: Cron["Service"]): ReadonlyArray<Tool.Tool> => [
  Tool.make({
    name: "cron_list",
    description: "Lists the scheduled jobs and reminders: name, when in words, the next time, what is done.",
    untrusted: true,
    input: Schema.Struct({}),
    prepare: () =>
      Effect.succeed({
        summary: "list scheduled jobs",
        detail: "",
        risk: "free",
        run: Effect.map(Effect.mapError(cron.list({ limit: MAX_LISTED }), fail), ({ jobs, more }) =>
          jobs.length === 0
            ? "there are no jobs"
            : [...jobs.map(jobLine), ...(more ? [`[cut: only the first ${MAX_LISTED}]`] : [])].join("\n")
        )
      })
  }),
  Tool.make({
    name: "cron_propose",
    description: "Checks a job and tells its schedule in words with its next five times; nothing is scheduled.",
    input: NewJobInput,
    prepare: (job) =>
      Effect.succeed({
        summary: `check the schedule ${Printable.line(job.schedule)}`,
        detail: Printable.line(job.schedule),
        risk: "free",
        run: Effect.map(Effect.mapError(cron.propose(job), fail), ({ next, words, zone }) =>
          [`${words} (${zone})`, ...localTimes(next, zone)].join("\n")
        )
      })
  }),
  Tool.make({
    name: "cron_add",
    description:
      "Schedules a job or a reminder. The user sees what and when, and decides, so do not ask before. Its result reaches the user when it has run; nobody is there then, and it may only read unless the user allows more.",
    input: NewJobInput,
    prepare: Effect.fnUntraced(function* (job) {
      const { next, words, zone } = yield* Effect.mapError(cron.propose(job), fail)
      return {
        summary: `schedule "${Printable.line(job.name)}": ${words}`,
        detail: detailOf(job, { words, zone }, localTimes(next.slice(0, 3), zone)).join("\n"),
        risk: "always" as const,
        run: Effect.map(
          Effect.mapError(cron.add(job), fail),
          (view) => `"${view.job.name}" is scheduled: ${view.words}; next ${nextOf(view)}`
        )
      }
    })
  }),
  Tool.make({
    name: "cron_remove",
    description: "Removes a job or a reminder. The user decides, so do not ask before.",
    input: Schema.Struct({ name }),
    prepare: Effect.fnUntraced(function* ({ name }) {
      const { view } = yield* Effect.mapError(cron.show(name), fail)
      return {
        summary: `remove the job "${Printable.line(view.job.name)}"`,
        detail: detailOf(view.job, view).join("\n"),
        risk: "always" as const,
        run: Effect.map(Effect.mapError(cron.remove(name), fail), (job) => `"${job.name}" is removed`)
      }
    })
  })
]
