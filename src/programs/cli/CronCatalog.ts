/** The part of the catalogue below `clawchat cron`: names, flags, arguments, help. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { json, number, on, text, timeout, verb } from "./Verb.ts"

const name = Argument.String("name").pipe(Argument.withDescription("The job"))
const quiet = on("quiet", "Say nothing but what fails")
const looking = { json, quiet, timeout }

const schedule = text("schedule", "EXPR", "Five fields, @daily and its kin, @reboot, or @at 2027-03-01T09:00")
const command = text("command", "TEXT", "What the assistant is asked")
const values = (more: string) => ({
  tz: text("tz", "ZONE", `Whose clocks count, such as Europe/Berlin (else CRON.md's own, else the host's)${more}`),
  context: text("context", "TEXT", `What it is told besides${more}`),
  tools: text("tools", "TOOL,TOOL", `What it may call with nobody there to ask (else what only reads)${more}`),
  catchUp: Flag.Literals("catch-up", ["skip", "once", "all", "default"]).pipe(
    Flag.withDescription("What becomes of runs that nobody was there for (once)"),
    Flag.optional
  ),
  overlap: Flag.Literals("overlap", ["skip", "queue", "kill", "default"]).pipe(
    Flag.withDescription("What a run does that comes while the one before still runs (skip)"),
    Flag.optional
  ),
  timeout: text("timeout", "TIME", `How long a run may take, such as 90s or 10m (10m)${more}`)
})

export const cron = Command.make("cron").pipe(
  Command.withDescription("What the assistant does by itself, and when"),
  Command.withSubcommands([
    Command.make(
      "ls",
      looking,
      verb(() => import("./Cron.ts").then(({ ls }) => ls))
    ).pipe(Command.withDescription("List jobs: their schedules in words, what comes next, what was last")),
    Command.make(
      "show",
      { name, ...looking },
      verb(() => import("./Cron.ts").then(({ show }) => show))
    ).pipe(Command.withDescription("All that a job says, and its latest runs")),
    Command.make(
      "add",
      { name, schedule, command, ...values(""), disabled: on("disabled", "Do not run it yet"), json, quiet },
      verb(() => import("./CronChange.ts").then(({ add }) => add))
    ).pipe(
      Command.withDescription("Add a job to CRON.md"),
      Command.withExamples([
        {
          command: 'clawchat cron add plants --schedule "0 9 * * 1" --command "Remind me to water the plants"',
          description: "Every Monday at 9"
        }
      ])
    ),
    Command.make(
      "edit",
      {
        name,
        to: text("name", "NAME", "Its new name"),
        schedule,
        command,
        ...values("; default takes it out"),
        json,
        quiet
      },
      verb(() => import("./CronChange.ts").then(({ edit }) => edit))
    ).pipe(Command.withDescription("Change what is named, leave the rest")),
    Command.make(
      "rm",
      { name, ...looking },
      verb(() => import("./CronChange.ts").then(({ rm }) => rm))
    ).pipe(Command.withDescription("Take a job out of CRON.md; its runs stay on record")),
    Command.make(
      "enable",
      { name, ...looking },
      verb(() => import("./CronChange.ts").then(({ enable }) => enable))
    ).pipe(Command.withDescription("Let a job run again, also one that failed too often")),
    Command.make(
      "disable",
      { name, ...looking },
      verb(() => import("./CronChange.ts").then(({ disable }) => disable))
    ).pipe(Command.withDescription("Keep a job, and do not run it")),
    Command.make(
      "run",
      { name, wait: on("wait", "Wait for its end, and print the answer"), ...looking },
      verb(() => import("./Cron.ts").then(({ run }) => run))
    ).pipe(Command.withDescription("Run a job now, beside its schedule")),
    Command.make(
      "runs",
      {
        name: Argument.String("name").pipe(Argument.withDescription("The job; none for all"), Argument.optional),
        limit: Flag.Int("limit").pipe(
          Flag.withMetavar("N"),
          Flag.withDescription("The newest so many, at most 500"),
          Flag.withDefault(20)
        ),
        before: number("before", "RUN", "Only those before this run"),
        ...looking
      },
      verb(() => import("./Cron.ts").then(({ runs }) => runs))
    ).pipe(Command.withDescription("What ran, failed, was skipped or missed, newest first")),
    Command.make(
      "next",
      { name, ...looking },
      verb(() => import("./Cron.ts").then(({ next }) => next))
    ).pipe(Command.withDescription("A schedule in words and its next five instants")),
    Command.make(
      "import",
      {
        file: Argument.String("file").pipe(Argument.withDescription("A CRON.md or a crontab, or - for stdin")),
        format: Flag.Literals("format", ["auto", "markdown", "crontab"]).pipe(
          Flag.withDescription("What it is"),
          Flag.withDefault("auto")
        ),
        dryRun: on("dry-run", "Only check, and show what would be added"),
        ...looking
      },
      verb(() => import("./CronChange.ts").then(({ importJobs }) => importJobs))
    ).pipe(Command.withDescription("Add the jobs of a file: all of them, or none where one is wrong")),
    Command.make(
      "results",
      {
        follow: on("follow", "Also those to come, until Ctrl-C").pipe(Flag.withAlias("f")),
        keep: on("keep", "Show them again the next time"),
        json: on("json", "Print JSON, one result a line"),
        quiet,
        timeout
      },
      verb(() => import("./Cron.ts").then(({ results }) => results))
    ).pipe(Command.withDescription("Answers of jobs that nobody has seen yet"))
  ])
)
