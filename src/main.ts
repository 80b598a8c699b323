/** The bin: parses, runs, and turns how it ended into one line and an exit code. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import manifest from "../package.json" with { type: "json" }
import { command } from "./programs/cli/Catalog.ts"
import { ExitCode, Failure } from "./programs/cli/Failure.ts"

// A reader of our output that goes away (`| head`) is no error of ours.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => process.exit(ExitCode.Ok))

// A tier that `up` started ends when `up` does, however that ended.
if (process.channel !== undefined) process.once("disconnect", () => process.kill(process.pid, "SIGTERM"))

/** A service that is told to stop has done its work; a person who presses Ctrl-C has interrupted it. */
let terminated = false
process.once("SIGTERM", () => {
  terminated = true
})

const codeOf = (cause: Cause.Cause<unknown>): number => {
  if (Cause.hasInterruptsOnly(cause)) return terminated ? ExitCode.Ok : ExitCode.Interrupted
  const error = Cause.squash(cause)
  if (error instanceof Failure) {
    process.stderr.write(`clawchat: ${error.message}\n`)
    return error.code
  }
  if (CliError.isCliError(error)) return ExitCode.Usage
  process.stderr.write(`clawchat: this should not have happened; please report it\n${Cause.pretty(cause)}\n`)
  return ExitCode.Failed
}

Command.runWith(command, { version: manifest.version })(process.argv.slice(2)).pipe(
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain({
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) ? ExitCode.Ok : codeOf(exit.cause))
  })
)
