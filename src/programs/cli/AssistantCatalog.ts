/** The part of the catalogue on memory and cost: names, flags, arguments, help. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { json, on, text, timeout, verb } from "./Verb.ts"

const looking = { json, quiet: on("quiet", "Say nothing but what fails"), timeout }
const limit = (usual: number) =>
  Flag.Int("limit").pipe(
    Flag.withMetavar("N"),
    Flag.withDescription("So many at most, up to 200"),
    Flag.withDefault(usual)
  )

export const memory = Command.make("memory").pipe(
  Command.withDescription("What the assistant remembers"),
  Command.withSubcommands([
    Command.make(
      "show",
      {
        source: Argument.String("source").pipe(
          Argument.withDescription("MEMORY.md, USER.md, SOUL.md, AGENTS.md, or a day such as 2026-01-31"),
          Argument.optional
        ),
        ...looking
      },
      verb(() => import("./Memory.ts").then(({ show }) => show))
    ).pipe(Command.withDescription("A file of memory, MEMORY.md if none is named, or the log of a day")),
    Command.make(
      "search",
      {
        limit: limit(20),
        ...looking,
        text: Argument.String("word").pipe(Argument.withDescription("Words to look for"), Argument.variadic())
      },
      verb(() => import("./Memory.ts").then(({ search }) => search))
    ).pipe(Command.withDescription("Lines of memory and of the daily logs that hold some words, best first")),
    Command.make(
      "add",
      {
        file: text("file", "FILE", "MEMORY.md or USER.md"),
        ...looking,
        text: Argument.String("text").pipe(Argument.withDescription("What to remember"), Argument.variadic())
      },
      verb(() => import("./Memory.ts").then(({ add }) => add))
    ).pipe(Command.withDescription("Add a fact by hand")),
    Command.make(
      "log",
      { limit: limit(20), ...looking },
      verb(() => import("./Memory.ts").then(({ log }) => log))
    ).pipe(Command.withDescription("What was changed in it and why, newest first")),
    Command.make(
      "undo",
      {
        change: Argument.Int("change").pipe(
          Argument.withDescription("The number of a change; none for the latest"),
          Argument.optional
        ),
        ...looking
      },
      verb(() => import("./Memory.ts").then(({ undo }) => undo))
    ).pipe(Command.withDescription("Take a change back"))
  ])
)

export const usage = Command.make(
  "usage",
  {
    by: Flag.Literals("by", ["day", "month", "conversation", "model", "job"]).pipe(
      Flag.withDescription("What makes a line"),
      Flag.withDefault("day")
    ),
    from: text("from", "DAY", "The first day, such as 2026-01-31, or a month"),
    to: text("to", "DAY", "The last day, or a month"),
    ...looking
  },
  verb(() => import("./Usage.ts").then(({ sum }) => sum))
).pipe(Command.withDescription("What the assistant has cost, and the budgets"))

export const models = Command.make(
  "models",
  looking,
  verb(() => import("./Usage.ts").then(({ models }) => models))
).pipe(Command.withDescription("Models of the configured providers, with their prices in dollars for a million tokens"))
