/**
 * Commands as a person types them, run in this process: everything from the command line to the real server's socket, without
 * the half second that a process of its own costs. What ends a process (signals, pipes, codes of the bin) is for `World.run`.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Cause from "effect/Cause"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { command } from "../../src/programs/cli/Catalog.ts"
import { ExitCode, Failure } from "../../src/programs/cli/Failure.ts"
import * as FilesConsole from "../programs/FilesConsole.ts"
import type { Result } from "./Tiers.ts"

const alone = (args: ReadonlyArray<string>): Promise<Result> =>
  Effect.runPromise(
    Effect.scoped(
      Effect.gen(function* () {
        const console = yield* FilesConsole.make()
        const running = Command.runWith(command, { version: "0.0.0" })(args)
        const exit = yield* Effect.exit(Effect.provide(running, NodeServices.layer))
        const said = { stdout: console.out, stderr: console.err, signal: null }
        if (Exit.isSuccess(exit)) return { ...said, code: ExitCode.Ok }
        const error = Cause.squash(exit.cause)
        if (!(error instanceof Failure)) return yield* Effect.die(error)
        return { ...said, stderr: `${said.stderr}clawchat: ${error.message}\n`, code: error.code }
      })
    )
  )

let before: Promise<unknown> = Promise.resolve()

/** Runs one command to its end, after those before it: they share a console. Anything but success and a Failure fails the test. */
export const run = (args: ReadonlyArray<string>): Promise<Result> => {
  const result = before.then(() => alone(args))
  before = result.catch(() => {})
  return result
}
