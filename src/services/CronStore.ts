/** The record of scheduled work: which slot was claimed when, and what became of it. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { Run } from "../domain/CronJob.ts"
import type { Usage } from "../domain/Llm.ts"

/** The database failed. */
export class CronStoreError extends Data.TaggedError("CronStoreError")<{
  /** One line for people: what, what to do. */
  readonly message: string
  readonly cause?: unknown
}> {}

/** Runs kept of a job, of all jobs, and for how long (milliseconds); what no client has acknowledged is kept longer. */
export const keptRuns = 200
export const keptUnacknowledged = 1000
export const keptInAll = 20_000
export const keptMs = 90 * 86_400_000

/** What is known of a job over restarts; `key` is `CronJob.keyOf` its name. */
export interface JobState {
  readonly key: string
  /** Changes when the job's instants do. */
  readonly hash: string
  /** Slots up to this instant have been dealt with. */
  readonly considered: number
  /** Failures in a row, and when the last of them ended. */
  readonly failures: number
  readonly failedAt: number
  readonly suspended: { readonly since: number; readonly reason: string } | undefined
}

/** A slot to be claimed. Only `queued` ones will run. */
export interface Claim {
  readonly slot: string
  readonly due: number
  readonly status: "queued" | "skipped" | "missed"
  readonly reason?: string | undefined
  readonly acknowledged: boolean
}

export interface Advance {
  /** As the file has it. */
  readonly name: string
  readonly key: string
  readonly claims: ReadonlyArray<Claim>
  /** Replaces what is known of the job; absent for runs beside the schedule. */
  readonly state?: JobState | undefined
}

export interface RunEnd {
  readonly status: "ran" | "failed" | "skipped" | "missed"
  readonly reason?: string | undefined
  readonly text: string
  readonly usage?: Usage | undefined
  readonly cost?: number | undefined
  readonly acknowledged: boolean
  readonly state?: JobState | undefined
}

/** Every method is one transaction; what it wrote is on the disk when it returns. */
export class CronStore extends Context.Service<
  CronStore,
  {
    /**
     * Claims slots and moves jobs on. Gives the runs that are new: a slot that was claimed before, by whichever process, is
     * left out and stays as it is.
     */
    readonly advance: (batch: ReadonlyArray<Advance>) => Effect.Effect<ReadonlyArray<Run>, CronStoreError>
    /** From `queued` to `running`: true for one caller only. */
    readonly begin: (id: number) => Effect.Effect<boolean, CronStoreError>
    /** Ends a run that has not ended; also one that a twin of this program took for lost. None where it has ended. */
    readonly end: (id: number, end: RunEnd) => Effect.Effect<Option.Option<Run>, CronStoreError>
    /**
     * At the start, before anything runs: runs that had begun become `unknown`, which is their end. Gives those that still
     * are `queued`, oldest first.
     */
    readonly sweep: Effect.Effect<
      { readonly lost: ReadonlyArray<Run>; readonly queued: ReadonlyArray<Run> },
      CronStoreError
    >
    readonly states: Effect.Effect<ReadonlyArray<JobState>, CronStoreError>
    readonly saveStates: (states: ReadonlyArray<JobState>) => Effect.Effect<void, CronStoreError>
    /** Forgets what is known of jobs; their runs stay. */
    readonly forget: (keys: ReadonlyArray<string>) => Effect.Effect<void, CronStoreError>
    /** By job and slot. */
    readonly find: (key: string, slot: string) => Effect.Effect<Option.Option<Run>, CronStoreError>
    /** Newest first; `before` is an id. */
    readonly runs: (options: {
      readonly key?: string | undefined
      readonly before?: number | undefined
      readonly limit: number
    }) => Effect.Effect<ReadonlyArray<Run>, CronStoreError>
    /** The newest run of each job, without its text, by key. */
    readonly latest: Effect.Effect<ReadonlyMap<string, Run>, CronStoreError>
    /** Ids of ended runs that nobody acknowledged, ascending. */
    readonly unacknowledged: Effect.Effect<ReadonlyArray<number>, CronStoreError>
    readonly get: (id: number) => Effect.Effect<Option.Option<Run>, CronStoreError>
    /** How many had not been acknowledged. */
    readonly acknowledge: (ids: ReadonlyArray<number>) => Effect.Effect<number, CronStoreError>
    /** Drops what is older, or more, than is kept. */
    readonly prune: (now: number) => Effect.Effect<void, CronStoreError>
    /** The last CRON.md without mistakes. */
    readonly lastGood: Effect.Effect<Option.Option<string>, CronStoreError>
    readonly keepGood: (text: string) => Effect.Effect<void, CronStoreError>
  }
>()("clawchat/services/CronStore") {}
