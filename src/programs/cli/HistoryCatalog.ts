/** The part of the catalogue below `clawchat history`: names, flags, arguments, help. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import { json, on, text, timeout, verb } from "./Verb.ts"

const conversation = text("conversation", "NAME", "Which conversation").pipe(Flag.withAlias("c"))
const name = Argument.String("name").pipe(Argument.withDescription("The same as --conversation"), Argument.optional)
const limit = (most: number, usual: number) =>
  Flag.Int("limit").pipe(
    Flag.withMetavar("N"),
    Flag.withDescription(`The newest so many, at most ${most}`),
    Flag.withDefault(usual)
  )
const all = on("all", "Also what was taken back")

export const history = Command.make("history").pipe(
  Command.withDescription("What was said: found again, taken along, removed"),
  Command.withSubcommands([
    Command.make(
      "ls",
      { json, timeout },
      verb(() => import("./History.ts").then(({ ls }) => ls))
    ).pipe(Command.withDescription("List conversations")),
    Command.make(
      "show",
      { conversation, name, limit: limit(500, 20), all, json, timeout },
      verb(() => import("./History.ts").then(({ show }) => show))
    ).pipe(Command.withDescription("The newest messages of a conversation, oldest first")),
    Command.make(
      "search",
      {
        conversation,
        limit: limit(100, 20),
        json,
        timeout,
        text: Argument.String("word").pipe(
          Argument.withDescription("Words that a message must all hold, or their beginnings"),
          Argument.variadic()
        )
      },
      verb(() => import("./History.ts").then(({ search }) => search))
    ).pipe(Command.withDescription("Messages that hold some words, newest first")),
    Command.make(
      "export",
      {
        conversation,
        name,
        all,
        out: text("out", "FILE", "Where to put it (else stdout)").pipe(Flag.withAlias("o")),
        json: on("json", "As one JSON value with all that is kept, instead of Markdown"),
        timeout
      },
      verb(() => import("./History.ts").then(({ exportTo }) => exportTo))
    ).pipe(Command.withDescription("A whole conversation")),
    Command.make(
      "rename",
      {
        name: Argument.String("name").pipe(Argument.withDescription("The conversation")),
        to: Argument.String("to").pipe(Argument.withDescription("Its new name")),
        json,
        timeout
      },
      verb(() => import("./History.ts").then(({ rename }) => rename))
    ).pipe(Command.withDescription("Give a conversation another name")),
    Command.make(
      "rm",
      { conversation, name, yes: on("yes", "Do it without asking"), json, timeout },
      verb(() => import("./History.ts").then(({ rm }) => rm))
    ).pipe(Command.withDescription("Remove a conversation with all that was said in it, for good"))
  ])
)
