/** The assistant behind the server that a home is paired with, for commands that ask a few things; how it refuses, as exit codes. */
import * as Effect from "effect/Effect"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import * as Stream from "effect/Stream"
import type { ChatError } from "../../domain/ChatRpc.ts"
import type { CronError } from "../../domain/CronRpc.ts"
import * as CronText from "../../domain/CronText.ts"
import type { HistoryError } from "../../domain/HistoryRpc.ts"
import type { MemoryRpcError } from "../../domain/MemoryRpc.ts"
import * as Printable from "../../domain/Printable.ts"
import type { UsageError } from "../../domain/UsageRpc.ts"
import type * as ClientLink from "../ClientLink.ts"
import * as Common from "./Common.ts"
import { denied, ExitCode, Failure, failed, notFound, unreachable, usage } from "./Failure.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface Input extends Common.Globals {
  readonly timeout: number
}

export type LlmTierError = ChatError | HistoryError | MemoryRpcError | CronError | UsageError | RpcClientError

const tryAgain = (message: string): Failure => new Failure({ code: ExitCode.TryAgain, message })

const away = tryAgain("the assistant is away: try again in a moment")

/** What a refusal means to a person and to a script. */
const failure = (error: LlmTierError): Failure => {
  if (error._tag === "RpcClientError") return Tier.lost(error)
  const message = Printable.line(error.message)
  switch (error.reason) {
    case "NotFound":
      return notFound(message)
    case "Invalid":
    case "TooLong":
      return usage(message)
    case "Busy":
    case "TierAway":
    case "Changed":
      return tryAgain(message)
    default:
      return failed(message)
  }
}

const mistakes = (error: LlmTierError, file: string | undefined): Effect.Effect<void> => {
  if (error._tag !== "CronError" || error.problems.length === 0) return Effect.void
  if (error.reason === "BadFile") return Output.note(CronText.problems("CRON.md", error.problems))
  return error.reason === "Invalid" && file !== undefined
    ? Output.note(CronText.problems(file, error.problems))
    : Effect.void
}

/** One session with the assistant, for the scope. */
export const connect = Effect.fnUntraced(function* (input: Input) {
  const values = yield* Common.settings("client", Common.globalFlags(input))
  const session = yield* Tier.remote(values, input.timeout)
  const opened = yield* Effect.mapError(session.openChat, (error) =>
    error._tag === "TierAwayError"
      ? away
      : error._tag === "SealError"
        ? denied(error.message)
        : unreachable(error.message)
  )
  /** Fails when the line or the assistant is lost. */
  const broken = Effect.mapError(opened.failure, (error) =>
    error._tag === "TierAwayError" ? away : unreachable(error.message)
  )
  const { chat } = opened
  /** One answer, or why none came; mistakes in a text of jobs, `file`, are told with their places. */
  const ask = <A>(
    call: (chat: ClientLink.ChatClient) => Effect.Effect<A, LlmTierError>,
    file?: string
  ): Effect.Effect<A, Failure> =>
    Effect.raceFirst(
      Effect.mapError(
        Effect.tapError(call(chat), (error) => mistakes(error, file)),
        failure
      ),
      broken
    ).pipe(Effect.timeoutOrElse({ duration: input.timeout, orElse: () => Effect.fail(away) }))
  /** An answer in pieces, which takes as long as it takes. */
  const listen = <A>(
    call: (chat: ClientLink.ChatClient) => Stream.Stream<A, LlmTierError>
  ): Stream.Stream<A, Failure> => call(chat).pipe(Stream.mapError(failure), Stream.interruptWhen(broken))
  return { ask, listen, broken }
})
