/** What a scheduled job does when its moment has come. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Job } from "../domain/CronJob.ts"
import type { Usage } from "../domain/Llm.ts"

/** The run ended without a result. */
export class CronRunError extends Data.TaggedError("CronRunError")<{
  /** One line for people: what happened, what to do. */
  readonly message: string
}> {}

export interface RunRequest {
  readonly job: Job
  /** The run's id, for the transcript: unique, and the same for no other run. */
  readonly runId: number
  /** As in `CronJob.Run`. */
  readonly slot: string
  /** The instant it was meant for, milliseconds since 1970. */
  readonly due: number
}

export interface RunResult {
  readonly text: string
  readonly usage?: Usage | undefined
  /** US dollars, where the price is known. */
  readonly cost?: number | undefined
}

export class CronRunner extends Context.Service<
  CronRunner,
  {
    /**
     * Does a job once, in its own conversation and by its policy of tools. Called at most once for a run id. Interruption
     * ends it at once: the scheduler's timeout, or the end of the program.
     */
    readonly run: (request: RunRequest) => Effect.Effect<RunResult, CronRunError>
  }
>()("clawchat/services/CronRunner") {}
