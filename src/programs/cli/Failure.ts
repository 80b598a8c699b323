/** What a command ends with when it cannot do its work: one line for people and an exit code for scripts. */
import * as Data from "effect/Data"

/** Documented in README.md, section "Exit codes". */
export const ExitCode = {
  Ok: 0,
  Failed: 1,
  Usage: 2,
  NotFound: 3,
  Denied: 4,
  Unreachable: 69,
  TryAgain: 75,
  /** A tier whose keys were burnt; whoever supervises it starts a fresh one. */
  Burned: 79,
  Interrupted: 130
} as const
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode]

export class Failure extends Data.TaggedError("Failure")<{
  readonly code: ExitCode
  /** What, where, what to do; no stack, no secret. */
  readonly message: string
}> {}

export const failed = (message: string): Failure => new Failure({ code: ExitCode.Failed, message })
export const denied = (message: string): Failure => new Failure({ code: ExitCode.Denied, message })
export const notFound = (message: string): Failure => new Failure({ code: ExitCode.NotFound, message })
export const unreachable = (message: string): Failure => new Failure({ code: ExitCode.Unreachable, message })
export const usage = (message: string): Failure => new Failure({ code: ExitCode.Usage, message })
