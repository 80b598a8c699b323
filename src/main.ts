/** The bin: parses, runs, and turns how it ended into one line and an exit code. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import manifest from "../package.json" with { type: "json" }
import { command } from "./programs/cli/Catalog.ts"
import { ExitCode, Failure } from "./programs/cli/Failure.ts"
import * as LostLine from "./programs/LostLine.ts"

/** How long what is under way may take to end in order once nobody can be told of it any more. */
const LAST_MS = 3000

/** Why output could not be written, unless it is that nobody reads it. */
let unwritten: string | undefined
let isOver = false
const onOutputError = ({ code = "unknown" }: NodeJS.ErrnoException): void => {
  if (isOver) return
  isOver = true
  // A reader that goes away (`| head`) is no error of ours; a full disk is one.
  if (code !== "EPIPE" && code !== "EOF") {
    unwritten = code
    process.exitCode = ExitCode.Failed
    process.stderr.write(`clawchat: the output cannot be written (${code})\n`)
  }
  // In order: a server that is not told keeps the session and its streams until they are silent for long.
  process.emit("SIGTERM", "SIGTERM")
  setTimeout(() => process.exit(), LAST_MS).unref()
}
for (const stream of [process.stdout, process.stderr]) stream.on("error", onOutputError)

// Node would open a debugger's port, and through that all that is in memory.
process.on("SIGUSR1", () => {})

// A tier that `up` started ends when `up` does, however that ended.
if (process.channel !== undefined) process.once("disconnect", () => process.kill(process.pid, "SIGTERM"))

/** What runs until it is told to stop: that is how it ends well. Of anything else only half is done then. */
const LASTING = new Set(["up", "server", "llm", "rendezvous", "chat", "client"])
const verbs = new Set(command.subcommands.flatMap(({ commands }) => commands.map(({ name }) => name)))
const isLasting = LASTING.has(process.argv.slice(2).find((each) => verbs.has(each)) ?? "")

/** A service that is told to stop has done its work; a person who presses Ctrl-C has interrupted it. */
let terminated = false
process.once("SIGTERM", () => {
  terminated = isLasting || isOver
})

/** Standard output is for what was asked: a mistake on the command line is one line on standard error. */
const presenter: CliOutput.Presenter = {
  present: (event) =>
    Effect.suspend(() => {
      if (event._tag === "InvalidInvocation") {
        const what = event.errors.map(({ message }) => message.replace(/[\p{Cc}\s]+/gu, " ").trim()).join("; ")
        process.stderr.write(`clawchat: ${what} (see ${event.commandPath.join(" ")} --help)\n`)
        return Effect.void
      }
      if (event._tag === "Help" && event.reason === "Implicit") {
        process.stderr.write(`${CliOutput.defaultFormatter({ colors: false }).formatHelpDoc(event.helpDoc)}\n`)
        return Effect.void
      }
      return CliOutput.defaultPresenter.present(event)
    })
}

const codeOf = (cause: Cause.Cause<unknown>): number => {
  if (unwritten !== undefined) return ExitCode.Failed
  if (Cause.hasInterruptsOnly(cause)) return terminated ? ExitCode.Ok : ExitCode.Interrupted
  const error = Cause.squash(cause)
  if (error instanceof Failure) {
    process.stderr.write(`clawchat: ${error.message}\n`)
    return error.code
  }
  if (CliError.isCliError(error)) return ExitCode.Usage
  // The stock RPC client reports a write that failed as a defect.
  const lost = LostLine.sentence(error)
  if (lost !== undefined) {
    process.stderr.write(`clawchat: ${lost}\n`)
    return lost === LostLine.LOST ? ExitCode.Unreachable : ExitCode.Failed
  }
  process.stderr.write(`clawchat: this should not have happened; please report it\n${Cause.pretty(cause)}\n`)
  return ExitCode.Failed
}

Command.runWith(command, { version: manifest.version })(process.argv.slice(2)).pipe(
  Effect.provide(CliOutput.layerPresenter(presenter)),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => {
      const isOk = Exit.isSuccess(exit) && unwritten === undefined
      onExit(isOk ? ExitCode.Ok : Exit.isSuccess(exit) ? ExitCode.Failed : codeOf(exit.cause))
    }
  })
)
