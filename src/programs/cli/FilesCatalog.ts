/** The part of the catalogue below `clawchat files`: names, flags, arguments, help. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import { json, number, on, text, verb } from "./Verb.ts"

const path = Argument.String("path").pipe(
  Argument.withDescription("Below the server's base path; none for the base itself"),
  Argument.optional
)
const paths = Argument.String("path").pipe(
  Argument.withDescription("Below the server's base path, or a pattern: * ? [a-z] {a,b} **"),
  Argument.variadic()
)
const timeout = Flag.Finite("timeout").pipe(
  Flag.withMetavar("SECONDS"),
  Flag.withDescription(
    "How long to try to connect (20), and how long the server may be silent when it is its turn (60)"
  ),
  Flag.optional,
  Flag.map(
    Option.match({
      onNone: () => ({ connectMs: 20_000, silentMs: 60_000 }),
      onSome: (seconds) => {
        const ms = Math.max(0.1, seconds) * 1000
        return { connectMs: ms, silentMs: ms }
      }
    })
  )
)
const quiet = on("quiet", "Say nothing but what fails")
const recursive = on("recursive", "Folders with all that is in them").pipe(Flag.withAlias("r"))
const looking = { json, quiet, timeout }
const conflictOf = <const Rules extends ReadonlyArray<string>>(rules: Rules, usual: Rules[number]) =>
  Flag.Literals("conflict", rules).pipe(
    Flag.withDescription("What to do where something else is there already"),
    Flag.withDefault(usual)
  )
const conflict = conflictOf(["ask", "skip", "overwrite", "rename"], "ask")
const moving = { ...looking, conflict: conflictOf(["fail", "skip", "overwrite", "rename"], "fail") }
const delta = Flag.Literals("delta", ["auto", "always", "never"]).pipe(
  Flag.withDescription(
    "Whether to send only what changed of a large file that is there: by itself where the line is far"
  ),
  Flag.withDefault("auto")
)
const events = on("json", "Print what happens as JSON, one event a line")
const carrying = { delta, json: events, quiet, timeout }
const sources = (description: string) =>
  Argument.String("path").pipe(Argument.withDescription(description), Argument.variadic())

const trash = Command.make("trash").pipe(
  Command.withDescription("What was removed on the server's machine, until its time is over"),
  Command.withSubcommands([
    Command.make(
      "ls",
      looking,
      verb(() => import("./FilesChange.ts").then(({ trashLs }) => trashLs))
    ).pipe(Command.withDescription("List it, oldest first")),
    Command.make(
      "restore",
      {
        id: Argument.String("id").pipe(
          Argument.withDescription("The first characters of its id, or the path where it was")
        ),
        to: Argument.String("to").pipe(Argument.withDescription("Another path to put it at"), Argument.optional),
        ...looking
      },
      verb(() => import("./FilesChange.ts").then(({ trashRestore }) => trashRestore))
    ).pipe(Command.withDescription("Put something back where it was; it replaces nothing")),
    Command.make(
      "empty",
      {
        ids: Argument.String("id").pipe(Argument.withDescription("Whole ids; none for all"), Argument.variadic()),
        ...looking
      },
      verb(() => import("./FilesChange.ts").then(({ trashEmpty }) => trashEmpty))
    ).pipe(Command.withDescription("Delete it for good"))
  ])
)

export const files = Command.make("files").pipe(
  Command.withDescription("Files on the server's machine"),
  Command.withSubcommands([
    Command.make(
      "ls",
      { path: paths, recursive, ...looking },
      verb(() => import("./FilesLook.ts").then(({ ls }) => ls))
    ).pipe(Command.withDescription("List a folder")),
    Command.make(
      "stat",
      { path, ...looking },
      verb(() => import("./FilesLook.ts").then(({ stat }) => stat))
    ).pipe(Command.withDescription("What is known of one file or folder")),
    Command.make(
      "tree",
      { path, depth: number("depth", "N", "Levels to go down"), ...looking },
      verb(() => import("./FilesLook.ts").then(({ tree }) => tree))
    ).pipe(Command.withDescription("Draw a folder with all that is in it")),
    Command.make(
      "du",
      { path: paths, ...looking },
      verb(() => import("./FilesLook.ts").then(({ du }) => du))
    ).pipe(Command.withDescription("How much is in it")),
    Command.make(
      "find",
      {
        path,
        name: text("name", "PATTERN", "Only what is called like this; with a slash in it the whole path below"),
        kind: Flag.Literals("kind", ["file", "folder", "link", "other"]).pipe(
          Flag.withDescription("Only what is of this kind"),
          Flag.optional
        ),
        ...looking
      },
      verb(() => import("./FilesLook.ts").then(({ find }) => find))
    ).pipe(Command.withDescription("Look for something in a folder and all below; with --json one entry a line")),
    Command.make(
      "cat",
      { path: paths, timeout },
      verb(() => import("./FilesLook.ts").then(({ cat }) => cat))
    ).pipe(Command.withDescription("Print files")),
    Command.make(
      "get",
      {
        path: sources("Things on the server, and last where to put them: a folder, a new name, or -"),
        recursive,
        conflict,
        ...carrying
      },
      verb(() => import("./FilesTransfer.ts").then(({ get }) => get))
    ).pipe(
      Command.withDescription("Bring files here; what was begun goes on where it stopped"),
      Command.withExamples([
        { command: "clawchat files get notes.txt", description: "Into this folder" },
        { command: "clawchat files get -r photos 'docs/*.pdf' ~/Downloads", description: "Several things" },
        { command: "clawchat files get backup.tar - | tar x", description: "To standard output" }
      ])
    ),
    Command.make(
      "put",
      {
        path: sources("Things on this host or -, and last where to put them on the server"),
        recursive,
        conflict,
        ...carrying
      },
      verb(() => import("./FilesTransfer.ts").then(({ put }) => put))
    ).pipe(
      Command.withDescription("Send files; what was begun goes on where it stopped"),
      Command.withExamples([
        { command: "clawchat files put report.pdf", description: "To the base" },
        { command: "clawchat files put -r photos music /media", description: "Several things, into a folder" },
        { command: "tar c . | clawchat files put - backup.tar", description: "From standard input" }
      ])
    ),
    Command.make(
      "sync",
      {
        local: Argument.String("local").pipe(Argument.withDescription("A folder on this host")),
        remote: Argument.String("remote").pipe(Argument.withDescription("A folder on the server")),
        back: on("back", "From the server to this host"),
        delete: on("delete", "Remove what the source does not have: on the server into the trash, here for good"),
        dryRun: on("dry-run", "Only tell what would be done"),
        checksum: on("checksum", "Compare contents, not times"),
        ...carrying
      },
      verb(() => import("./FilesSync.ts").then(({ sync }) => sync))
    ).pipe(Command.withDescription("Make a folder on the server equal to one on this host, or back")),
    Command.make(
      "mkdir",
      {
        path: sources("Folders to make"),
        parents: on("parents", "Those above it too; it may be there already").pipe(Flag.withAlias("p")),
        ...looking
      },
      verb(() => import("./FilesChange.ts").then(({ mkdir }) => mkdir))
    ).pipe(Command.withDescription("Make folders")),
    Command.make(
      "rm",
      { path: paths, recursive, forever: on("forever", "Delete it: not into the trash"), ...looking },
      verb(() => import("./FilesChange.ts").then(({ rm }) => rm))
    ).pipe(Command.withDescription("Put things into the trash")),
    Command.make(
      "mv",
      { path: sources("What, and last where to: a folder or a new name"), ...moving },
      verb(() => import("./FilesChange.ts").then(({ mv }) => mv))
    ).pipe(Command.withDescription("Move or rename things on the server")),
    Command.make(
      "cp",
      { path: sources("What, and last where to: a folder or a new name"), recursive, ...moving },
      verb(() => import("./FilesChange.ts").then(({ cp }) => cp))
    ).pipe(Command.withDescription("Copy things on the server")),
    trash
  ])
)
