/** The words of scheduled work: a job as CRON.md states it, a run as the record keeps it. */
import * as Schema from "effect/Schema"
import { Usage } from "./Llm.ts"

/** Jobs of one file. */
export const maxJobs = 10_000
/** Characters of a command, and of a job's further text. */
export const maxTextChars = 16 * 1024
/** Characters of a schedule. */
export const maxScheduleChars = 256
/** Characters of a run's answer that the record keeps; the conversation has all of it. */
export const maxResultChars = 64 * 1024
/** What a job gets that names no timeout, and the longest that may be named: milliseconds. */
export const defaultTimeoutMs = 10 * 60_000
export const maxTimeoutMs = 24 * 3600_000
/** Tools that one job may name. */
export const maxTools = 64

/** A letter or digit, then letters, digits, space, dot, underscore, hyphen; its conversation is `cron NAME`. */
export const namePattern = /^[\p{L}\p{N}](?:[\p{L}\p{N} ._-]{0,57}[\p{L}\p{N}._-])?$/u
export const JobName = Schema.String.check(
  Schema.isPattern(namePattern, {
    message: "a job's name is 1 to 59 letters, digits, spaces, dots, underscores and hyphens"
  })
)

/** Two names that look the same are the same job. */
export const keyOf = (name: string): string => name.normalize("NFKC").toLowerCase()

/** The conversation that a job's runs are held in. */
export const conversationOf = (name: string): string => `cron ${name}`

/** What becomes of slots that passed while nothing ran: none runs, the latest one runs, or each does. */
export const CatchUp = Schema.Literals(["skip", "once", "all"])
export type CatchUp = typeof CatchUp.Type

/** What a slot does that comes while the job still runs: nothing, wait its turn, or end the run and take its place. */
export const Overlap = Schema.Literals(["skip", "queue", "kill"])
export type Overlap = typeof Overlap.Type

export const ToolName = Schema.String.check(
  Schema.isPattern(/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/, { message: "a tool's name is letters, digits, _, . and -" })
)

const Text = Schema.String.check(Schema.isMaxLength(maxTextChars))
const TimeoutMs = Schema.Int.check(Schema.isBetween({ minimum: 1000, maximum: maxTimeoutMs }))

/** What a job says; an absent key means its default. */
const fields = {
  /** Five fields, `@daily` and its kin, `@reboot`, or `@at 2027-03-01T09:00`. */
  schedule: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxScheduleChars)),
  /** What the assistant is asked: one paragraph, lines joined by `\n`. */
  command: Text.check(Schema.isMinLength(1)),
  /** An IANA zone; absent: that of the file, else of the host. */
  timezone: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(64))),
  /** Default `once`. */
  catchUp: Schema.optionalKey(CatchUp),
  /** Default `skip`. */
  overlap: Schema.optionalKey(Overlap),
  /** Default `defaultTimeoutMs`. */
  timeoutMs: Schema.optionalKey(TimeoutMs),
  /** Tools that may be called with nobody there to ask; absent: those that only read. */
  tools: Schema.optionalKey(Schema.Array(ToolName).check(Schema.isMaxLength(maxTools))),
  /** Further text of the section, which the assistant is given with the command. */
  context: Schema.optionalKey(Text)
}

export const Job = Schema.Struct({ name: JobName, enabled: Schema.Boolean, ...fields })
export type Job = typeof Job.Type

/** A job to be added; enabled unless it says otherwise. */
export const NewJob = Schema.Struct({ name: JobName, enabled: Schema.optionalKey(Schema.Boolean), ...fields })
export type NewJob = typeof NewJob.Type

/** Changes of a job: a key that is absent stays, `null` goes back to the default. */
export const JobChange = Schema.Struct({
  name: Schema.optionalKey(JobName),
  schedule: Schema.optionalKey(fields.schedule),
  command: Schema.optionalKey(fields.command),
  enabled: Schema.optionalKey(Schema.Boolean),
  timezone: Schema.optionalKey(Schema.NullOr(Schema.String.check(Schema.isMaxLength(64)))),
  catchUp: Schema.optionalKey(Schema.NullOr(CatchUp)),
  overlap: Schema.optionalKey(Schema.NullOr(Overlap)),
  timeoutMs: Schema.optionalKey(Schema.NullOr(TimeoutMs)),
  tools: Schema.optionalKey(Schema.NullOr(Schema.Array(ToolName).check(Schema.isMaxLength(maxTools)))),
  context: Schema.optionalKey(Schema.NullOr(Text))
})
export type JobChange = typeof JobChange.Type

/** What is wrong with a text, where, and what to write; line and column count from 1, columns in UTF-16 units. */
export const Problem = Schema.Struct({ line: Schema.Int, column: Schema.Int, message: Schema.String })
export type Problem = typeof Problem.Type

/**
 * - `queued`: claimed, waits for its turn. `running`: begun.
 * - `ran`: ended well. `failed`: ended otherwise, `reason` says how.
 * - `skipped`: not begun on purpose (the job still ran, or it pauses after failures).
 * - `missed`: its moment passed while nothing could run it.
 * - `unknown`: begun, and the program ended meanwhile; it is never begun again.
 */
export const RunStatus = Schema.Literals(["queued", "running", "ran", "failed", "skipped", "missed", "unknown"])
export type RunStatus = typeof RunStatus.Type

/** One slot's fate. Times are milliseconds since 1970. */
export const Run = Schema.Struct({
  /** Counts up with every claim, over all jobs. */
  id: Schema.Natural,
  /** As the job was named then. */
  job: Schema.String,
  /** With the job the key: the instant in ISO 8601, `reboot INSTANT` or `manual ID`. */
  slot: Schema.String,
  due: Schema.Finite,
  status: RunStatus,
  /** For people, where there is something to say. */
  reason: Schema.optionalKey(Schema.String),
  started: Schema.optionalKey(Schema.Finite),
  ended: Schema.optionalKey(Schema.Finite),
  /** The answer, cut to `maxResultChars`. */
  text: Schema.String,
  usage: Schema.optionalKey(Usage),
  /** US dollars, where the price was known. */
  cost: Schema.optionalKey(Schema.Finite),
  /** A client has shown it; what nobody needs to see is so from the start. */
  acknowledged: Schema.Boolean
})
export type Run = typeof Run.Type
