/**
 * Scheduled work as clients see it: an Effect RPC group of the llm tier, beside Chat. Whatever changes jobs rewrites
 * CRON.md, and only the lines that it must.
 */
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { Job, JobChange, JobName, NewJob, Problem, Run } from "./CronJob.ts"

/** Jobs, or runs, in one answer at most. */
export const maxPage = 500
/** Results acknowledged in one call. */
export const maxAcknowledged = 1000
/** UTF-16 units of a text to import. */
export const maxImportChars = 512 * 1024

/**
 * - `NotFound`: there is no such job.
 * - `Exists`: the name is taken.
 * - `Invalid`: what was sent is wrong; `problems` say where: lines of an imported text, else line 1 and the column in
 *   the value that `message` names.
 * - `BadFile`: CRON.md itself has mistakes (`problems`); correct them first, nothing was changed.
 * - `Changed`: CRON.md was edited by someone else at the same moment, again and again; nothing was changed.
 * - `TooMany`: more jobs, or more waiting runs, than are taken.
 * - `Storage`: CRON.md or the record of runs could not be read or written.
 */
export class CronError extends Schema.TaggedError<CronError>()("CronError", {
  reason: Schema.Literals(["NotFound", "Exists", "Invalid", "BadFile", "Changed", "TooMany", "Storage"]),
  /** One line for people: what is wrong, what to do. */
  message: Schema.String,
  problems: Schema.Array(Problem)
}) {}

/** A schedule in words, with the instants that come next: ISO 8601 in UTC, five at most. */
export const Preview = Schema.Struct({
  words: Schema.String,
  /** The IANA zone that counts. */
  zone: Schema.String,
  next: Schema.Array(Schema.String)
})
export type Preview = typeof Preview.Type

/** Why an enabled job does not run any more: it failed too often, or its only moment has passed. */
export const Suspension = Schema.Struct({
  since: Schema.Finite,
  /** For people, with what to do. */
  reason: Schema.String
})
export type Suspension = typeof Suspension.Type

export const JobView = Schema.Struct({
  job: Job,
  /** Line of its heading in CRON.md. */
  line: Schema.Int,
  /** As in `Preview`; `next` is empty while the job is disabled or suspended. */
  ...Preview.fields,
  /** `queued` or `running` while one is. */
  active: Schema.optionalKey(Schema.Literals(["queued", "running"])),
  suspended: Schema.optionalKey(Suspension),
  /** Failures in a row. */
  failures: Schema.Natural,
  last: Schema.optionalKey(Run)
})
export type JobView = typeof JobView.Type

/** The state of CRON.md; with problems, the jobs are those of the last good file. */
export const FileState = Schema.Struct({
  /** The file's own zone, else the host's. */
  zone: Schema.String,
  jobs: Schema.Natural,
  problems: Schema.Array(Problem)
})
export type FileState = typeof FileState.Type

/** What becomes of a run that was asked for: one `Started` (with a queued or running run), one `Ended`. */
export const RunEvent = Schema.TaggedUnion({ Started: { run: Run }, Ended: { run: Run } })
export type RunEvent = typeof RunEvent.Type

const error = CronError
const Limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxPage }))
const named = { name: JobName }

/** A lower-case UUID, made by the client: the same one never runs a job twice. */
const RequestId = Schema.String.check(
  Schema.isPattern(/^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/, {
    message: "a request id is a lower-case UUID"
  })
)

/** Jobs in the order of the file, those after the one named `after`; texts of `last` are left out. */
export const List = Rpc.make("List", {
  payload: { after: Schema.optionalKey(JobName), limit: Schema.optionalKey(Limit) },
  success: Schema.Struct({ file: FileState, jobs: Schema.Array(JobView), more: Schema.Boolean }),
  error
})

/** One job with its latest ten runs, newest first. */
export const Show = Rpc.make("Show", {
  payload: named,
  success: Schema.Struct({ view: JobView, runs: Schema.Array(Run) }),
  error
})

/** Checks a job as `Add` would, and changes nothing. */
export const Propose = Rpc.make("Propose", { payload: NewJob, success: Preview, error })

/** Appends a section to CRON.md. */
export const Add = Rpc.make("Add", { payload: NewJob, success: JobView, error })

export const Edit = Rpc.make("Edit", { payload: { ...named, change: JobChange }, success: JobView, error })

/** Takes the section out of CRON.md; its runs stay on record. A run that is on its way goes on. */
export const Remove = Rpc.make("Remove", { payload: named, success: Job, error })

/** Also ends a suspension. */
export const Enable = Rpc.make("Enable", { payload: named, success: JobView, error })
export const Disable = Rpc.make("Disable", { payload: named, success: JobView, error })

/**
 * Runs a job now, disabled or not, beside its schedule. The run goes on when the stream ends early; asked again with the
 * same id the stream tells of the same run.
 */
export const RunNow = Rpc.make("Run", {
  payload: { ...named, requestId: RequestId },
  success: RunEvent,
  error,
  stream: true
})

/** Newest first, of one job or all; `before` is a run's id, to page. */
export const Runs = Rpc.make("Runs", {
  payload: {
    name: Schema.optionalKey(JobName),
    limit: Schema.optionalKey(Limit),
    before: Schema.optionalKey(Schema.Natural)
  },
  success: Schema.Array(Run),
  error
})

/** The next five instants, as if the job were enabled. */
export const Next = Rpc.make("Next", { payload: named, success: Preview, error })

/**
 * Adds the jobs of a CRON.md, or the lines of a crontab: all of them or, where one is wrong or its name taken, none.
 * `auto` takes a text with a `## ` heading for Markdown.
 */
export const Import = Rpc.make("Import", {
  payload: {
    text: Schema.String.check(Schema.isMaxLength(maxImportChars)),
    format: Schema.optionalKey(Schema.Literals(["auto", "markdown", "crontab"])),
    /** Only checks. */
    dryRun: Schema.optionalKey(Schema.Boolean)
  },
  success: Schema.Array(Schema.Struct({ job: Job, ...Preview.fields })),
  error
})

/** Ended runs that no client has acknowledged, oldest first; with `follow` also those to come, without end. */
export const Results = Rpc.make("Results", {
  payload: { follow: Schema.optionalKey(Schema.Boolean) },
  success: Run,
  error,
  stream: true
})

/** The user has seen these; unknown ids are ignored. Says how many were new. */
export const Acknowledge = Rpc.make("Acknowledge", {
  payload: { ids: Schema.Array(Schema.Natural).check(Schema.isMaxLength(maxAcknowledged)) },
  success: Schema.Natural,
  error
})

/** Tags are unique over all groups: `Cron.List`, `Cron.Add`, ... */
export class CronRpc extends RpcGroup.make(
  List,
  Show,
  Propose,
  Add,
  Edit,
  Remove,
  Enable,
  Disable,
  RunNow,
  Runs,
  Next,
  Import,
  Results,
  Acknowledge
).prefix("Cron.") {}
