/** `clawchat cron`: jobs and their runs, shown and begun. What changes jobs stands in CronChange.ts. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { Run } from "../../domain/CronJob.ts"
import { type CronError, type JobView, maxPage } from "../../domain/CronRpc.ts"
import * as CronText from "../../domain/CronText.ts"
import * as Printable from "../../domain/Printable.ts"
import { type Failure, failed, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as LlmLine from "./LlmLine.ts"
import * as Output from "./Output.ts"

export interface Input extends LlmLine.Input {
  readonly json: boolean
  readonly quiet: boolean
}

export interface NamedInput extends Input {
  readonly name: string
}

/** Mistakes of CRON.md go to standard error, each with its place. */
const problems = (list: CronError["problems"], file = "CRON.md") =>
  list.length === 0 ? Effect.void : Output.note(CronText.problems(file, list))

export const ls = Effect.fnUntraced(
  function* (input: Input) {
    const { ask } = yield* LlmLine.connect(input)
    const page = (after: string | undefined) => ask((chat) => chat["Cron.List"](after === undefined ? {} : { after }))
    const jobs: Array<JobView> = []
    let { file, jobs: some, more } = yield* page(undefined)
    jobs.push(...some)
    while (more && some.length > 0) {
      ;({ file, jobs: some, more } = yield* page(some.at(-1)?.job.name))
      jobs.push(...some)
    }
    if (input.json) return yield* Output.json({ ...file, jobs })
    yield* problems(file.problems)
    if (jobs.length > 0) return yield* Output.line(jobs.map(CronText.job).join("\n"))
    if (!input.quiet) yield* Output.note("Nothing is scheduled: clawchat cron add, or edit CRON.md")
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export const show = Effect.fnUntraced(
  function* (input: NamedInput) {
    const { ask } = yield* LlmLine.connect(input)
    const { runs, view } = yield* ask((chat) => chat["Cron.Show"]({ name: input.name }))
    if (input.json) return yield* Output.json({ ...view, runs })
    yield* Output.line(CronText.details(view))
    if (runs.length > 0) yield* Output.line(`\n${CronText.runs(runs)}`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

/** With `--json` the instants, as an array of ISO 8601 in UTC; else they stand in the schedule's own time. */
export const next = Effect.fnUntraced(
  function* (input: NamedInput) {
    const { ask } = yield* LlmLine.connect(input)
    const preview = yield* ask((chat) => chat["Cron.Next"]({ name: input.name }))
    yield* input.json ? Output.json(preview.next) : Output.line(CronText.preview(input.name, preview))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface RunsInput extends Input {
  readonly name: Option.Option<string>
  readonly limit: number
  readonly before: Option.Option<number>
}

export const runs = Effect.fnUntraced(
  function* (input: RunsInput) {
    const { limit } = input
    if (limit < 1 || limit > maxPage) return yield* usage(`--limit: expected 1 to ${maxPage}, got ${limit}`)
    const { ask } = yield* LlmLine.connect(input)
    const named = Option.isSome(input.name) ? { name: input.name.value } : {}
    const before = Option.isSome(input.before) ? { before: input.before.value } : {}
    const list = yield* ask((chat) => chat["Cron.Runs"]({ ...named, limit, ...before }))
    if (input.json) return yield* Output.json(list)
    if (list.length > 0) return yield* Output.line(CronText.runs(list))
    // A job that never ran is something else than one that is not there.
    if (Option.isSome(input.name)) yield* ask((chat) => chat["Cron.Next"]({ name: named.name ?? "" }))
    if (!input.quiet) yield* Output.note("Nothing has run yet")
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

const shownText = (text: string): string => (process.stdout.isTTY ? Printable.clean(text) : text).replace(/\n+$/, "")

/** A run that did not end well, as the end of the command. */
const outcome = ({ job, reason, status }: Run): Effect.Effect<void, Failure> =>
  status === "ran"
    ? Effect.void
    : failed(Printable.line(`"${job}" ${status}${reason === undefined ? "" : `: ${reason}`}`))

export interface RunInput extends NamedInput {
  readonly wait: boolean
}

/** Begins a run; with `--wait` the answer goes to standard output, and a run that did not end well is a failure. */
export const run = Effect.fnUntraced(
  function* (input: RunInput) {
    const { ask, broken, listen } = yield* LlmLine.connect(input)
    const events = listen((chat) => chat["Cron.Run"]({ name: input.name, requestId: randomUUID() }))
    const wanted = input.wait ? "Ended" : "Started"
    let begun = false
    const found = yield* events.pipe(
      Stream.tap(({ _tag, run: { id } }) =>
        Effect.suspend(() => {
          begun = true
          if (_tag === "Ended" || input.quiet || input.json) return Effect.void
          return Output.note(
            `Run ${id} of "${Printable.line(input.name)}" has begun${input.wait ? "" : ": clawchat cron runs shows its end"}`
          )
        })
      ),
      Stream.filter(({ _tag }) => _tag === wanted),
      Stream.runHead,
      Effect.tapError(() => (begun ? Output.note("The run goes on: clawchat cron runs shows its end") : Effect.void))
    )
    if (Option.isNone(found)) return yield* Effect.andThen(broken, failed("the assistant has ended meanwhile"))
    const { run: last } = found.value
    if (input.json) yield* Output.json(last)
    if (!input.wait) return
    if (!input.json && last.text.trim() !== "") yield* Output.line(shownText(last.text))
    // It has been seen: no chat needs to tell of it.
    yield* Effect.ignore(ask((chat) => chat["Cron.Acknowledge"]({ ids: [last.id] })))
    yield* outcome(last)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface ResultsInput extends Input {
  readonly follow: boolean
  readonly keep: boolean
}

/** What ran and nobody has seen: seen once it was printed. With `--follow` also what is to come, JSON one value a line. */
export const results = Effect.fnUntraced(
  function* (input: ResultsInput) {
    const { ask, listen } = yield* LlmLine.connect(input)
    let count = 0
    const shown = Effect.fnUntraced(function* (one: Run) {
      count++
      if (input.json) yield* Output.line(Printable.json(one))
      else yield* Output.line(`${CronText.heading(one)}\n${shownText(one.text)}`.trimEnd())
      if (!input.keep) yield* ask((chat) => chat["Cron.Acknowledge"]({ ids: [one.id] }))
    })
    yield* Stream.runForEach(
      listen((chat) => chat["Cron.Results"](input.follow ? { follow: true } : {})),
      shown
    )
    if (count === 0 && !input.quiet && !input.json) yield* Output.note("Nothing is unseen")
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
