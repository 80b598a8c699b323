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

// A reader of our output that goes away (`| head`) is no error of ours.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => process.exit(ExitCode.Ok))

// Node would open a debugger's port, and through that all that is in memory.
process.on("SIGUSR1", () => {})

// A tier that `up` started ends when `up` does, however that ended.
if (process.channel !== undefined) process.once("disconnect", () => process.kill(process.pid, "SIGTERM"))

/** A service that is told to stop has done its work; a person who presses Ctrl-C has interrupted it. */
let terminated = false
process.once("SIGTERM", () => {
  terminated = true
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
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) ? ExitCode.Ok : codeOf(exit.cause))
  })
)
