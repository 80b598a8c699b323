/** `clawchat cron add`, `edit`, `rm`, `enable`, `disable`, `import`: each rewrites the lines of CRON.md that it must, no others. */
import { existsSync, readFileSync, statSync } from "node:fs"
import { resolve } from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import {
  type CatchUp,
  defaultTimeoutMs,
  type JobChange,
  maxTimeoutMs,
  type NewJob,
  type Overlap
} from "../../domain/CronJob.ts"
import { type JobView, maxImportChars } from "../../domain/CronRpc.ts"
import * as CronText from "../../domain/CronText.ts"
import * as Printable from "../../domain/Printable.ts"
import * as SettingKinds from "../../domain/SettingKinds.ts"
import type * as Cron from "./Cron.ts"
import { type Failure, notFound, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as LlmLine from "./LlmLine.ts"
import * as Output from "./Output.ts"

/** Milliseconds to try to connect, for the commands whose `--timeout` is the job's. */
const CONNECT_MS = 20_000

type Given = Option.Option<string>

interface Values {
  readonly tz: Given
  readonly context: Given
  readonly tools: Given
  readonly catchUp: Option.Option<CatchUp | "default">
  readonly overlap: Option.Option<Overlap | "default">
  readonly timeout: Given
}

const lasting = SettingKinds.duration(1000, maxTimeoutMs)
const nowhere: SettingKinds.Context = { home: "", resolve: (path) => path }

/** Null for the default. */
const some = (given: Given): string | null | undefined => {
  const value = Option.getOrUndefined(given)
  return value === "default" ? null : value
}

/** The values of flags that may be left out; null for those that go back to their default. */
const valuesOf = Effect.fnUntraced(function* ({ catchUp, context, overlap, timeout, tools, tz }: Values) {
  const limit = some(timeout)
  const parsed = typeof limit === "string" ? lasting.decode(limit, nowhere) : undefined
  if (parsed !== undefined && Result.isFailure(parsed)) {
    const got = JSON.stringify(Option.getOrUndefined(timeout))
    return yield* usage(
      `--timeout: expected ${parsed.failure}, how long a run may take (${defaultTimeoutMs / 60_000} minutes by default), got ${got}`
    )
  }
  const named = some(tools)
  const missed = Option.getOrUndefined(catchUp)
  const over = Option.getOrUndefined(overlap)
  return {
    timezone: some(tz),
    context: some(context),
    tools: typeof named === "string" ? listOf(named) : named,
    catchUp: missed === "default" ? null : missed,
    overlap: over === "default" ? null : over,
    timeoutMs: parsed === undefined ? (limit === null ? null : undefined) : parsed.success
  }
})

/** "a, b" as a list; empty for none. */
const listOf = (text: string): ReadonlyArray<string> => text.split(/[\s,]+/).filter((each) => each !== "")

/** Tells of a job as it is now. */
const said = (input: Cron.Input, view: JobView): Effect.Effect<void> =>
  input.json ? Output.json(view) : input.quiet ? Effect.void : Output.line(CronText.job(view))

export interface AddInput extends Omit<Cron.NamedInput, "timeout">, Values {
  readonly schedule: Given
  readonly command: Given
  readonly disabled: boolean
}

const missing = (flag: string) => usage(`--${flag} is missing: clawchat cron add NAME --schedule EXPR --command TEXT`)

export const add = Effect.fnUntraced(
  function* (input: AddInput) {
    const { command, disabled, name, schedule } = input
    if (Option.isNone(schedule)) return yield* missing("schedule")
    if (Option.isNone(command)) return yield* missing("command")
    const { catchUp, context, overlap, timeoutMs, timezone, tools } = yield* valuesOf(input)
    // What is new has its defaults anyway.
    const job: NewJob = {
      name,
      schedule: schedule.value,
      command: command.value,
      ...(disabled ? { enabled: false } : {}),
      ...(timezone == null ? {} : { timezone }),
      ...(context == null ? {} : { context }),
      ...(tools == null ? {} : { tools }),
      ...(catchUp == null ? {} : { catchUp }),
      ...(overlap == null ? {} : { overlap }),
      ...(timeoutMs == null ? {} : { timeoutMs })
    }
    const line = { ...input, timeout: CONNECT_MS }
    const { ask } = yield* LlmLine.connect(line)
    yield* said(line, yield* ask((chat) => chat["Cron.Add"](job)))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface EditInput extends Omit<Cron.NamedInput, "timeout">, Values {
  readonly to: Given
  readonly schedule: Given
  readonly command: Given
}

export const edit = Effect.fnUntraced(
  function* (input: EditInput) {
    const { catchUp, context, overlap, timeoutMs, timezone, tools } = yield* valuesOf(input)
    const change: JobChange = {
      ...(Option.isNone(input.to) ? {} : { name: input.to.value }),
      ...(Option.isNone(input.schedule) ? {} : { schedule: input.schedule.value }),
      ...(Option.isNone(input.command) ? {} : { command: input.command.value }),
      ...(timezone === undefined ? {} : { timezone }),
      ...(context === undefined ? {} : { context }),
      ...(tools === undefined ? {} : { tools }),
      ...(catchUp === undefined ? {} : { catchUp }),
      ...(overlap === undefined ? {} : { overlap }),
      ...(timeoutMs === undefined ? {} : { timeoutMs })
    }
    if (Object.keys(change).length === 0)
      return yield* usage("nothing to change: clawchat cron edit NAME --schedule EXPR")
    const line = { ...input, timeout: CONNECT_MS }
    const { ask } = yield* LlmLine.connect(line)
    yield* said(line, yield* ask((chat) => chat["Cron.Edit"]({ name: input.name, change })))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

const switched = (tag: "Cron.Enable" | "Cron.Disable") =>
  Effect.fnUntraced(
    function* (input: Cron.NamedInput) {
      const { ask } = yield* LlmLine.connect(input)
      yield* said(input, yield* ask((chat) => chat[tag]({ name: input.name })))
    },
    Effect.scoped,
    Effect.provide(Layers.networkBrief)
  )

export const enable = switched("Cron.Enable")
export const disable = switched("Cron.Disable")

export const rm = Effect.fnUntraced(
  function* (input: Cron.NamedInput) {
    const { ask } = yield* LlmLine.connect(input)
    const job = yield* ask((chat) => chat["Cron.Remove"]({ name: input.name }))
    if (input.json) return yield* Output.json(job)
    if (!input.quiet) yield* Output.note(Printable.line(`Removed "${job.name}"; its runs stay on record`))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface ImportInput extends Cron.Input {
  readonly file: string
  readonly format: "auto" | "markdown" | "crontab"
  readonly dryRun: boolean
}

/** All of a file, or of standard input. */
const textOf = (file: string): Effect.Effect<string, Failure> =>
  Effect.suspend(() => {
    if (file === "-") return Effect.succeed(readFileSync(0, "utf8"))
    const path = resolve(file)
    const stat = existsSync(path) ? statSync(path) : undefined
    if (stat === undefined) return Effect.fail(notFound(`${path} does not exist: give a CRON.md or a crontab`))
    if (!stat.isFile()) return Effect.fail(usage(`${path} is no file: give a CRON.md or a crontab`))
    return stat.size > 4 * maxImportChars ? Effect.fail(tooLong) : Effect.succeed(readFileSync(path, "utf8"))
  })

const tooLong = usage(`at most ${maxImportChars} characters are imported at a time`)

export const importJobs = Effect.fnUntraced(
  function* (input: ImportInput) {
    const { dryRun, file, format } = input
    const text = yield* textOf(file)
    if (text.length > maxImportChars) return yield* tooLong
    const { ask } = yield* LlmLine.connect(input)
    const source = { text, format, ...(dryRun ? { dryRun } : {}) }
    const jobs = yield* ask((chat) => chat["Cron.Import"](source), file === "-" ? "stdin" : file)
    if (input.json) return yield* Output.json(jobs)
    if (input.quiet) return
    if (jobs.length > 0) yield* Output.line(jobs.map((each) => CronText.preview(each.job.name, each)).join("\n"))
    yield* Output.note(`${dryRun ? "Would add" : "Added"} ${jobs.length === 1 ? "1 job" : `${jobs.length} jobs`}`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
