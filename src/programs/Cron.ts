/**
 * Scheduled work: what clients and the assistant's tools may do with it, over CRON.md, the record of runs and the scheduler.
 * It needs nobody who can do a job until `serve` is given one, since who does jobs may itself change them.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Result from "effect/Result"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as CronEdit from "../domain/CronEdit.ts"
import * as CronFile from "../domain/CronFile.ts"
import { type Job, type JobChange, keyOf, type NewJob, type Run } from "../domain/CronJob.ts"
import { CronError, CronRpc, type FileState, type JobView, maxPage, type Preview, RunEvent } from "../domain/CronRpc.ts"
import * as CronSchedule from "../domain/CronSchedule.ts"
import * as Crontab from "../domain/Crontab.ts"
import * as CronWords from "../domain/CronWords.ts"
import type { CronFiles, CronFilesError } from "../services/CronFiles.ts"
import type { CronRunner } from "../services/CronRunner.ts"
import { CronStore, type CronStoreError } from "../services/CronStore.ts"
import * as CronTable from "./CronTable.ts"
import * as Scheduler from "./Scheduler.ts"

/** Runs in one answer where nobody says how many, and in that of `show`. */
const DEFAULT_RUNS = 50
const SHOWN_RUNS = 10
/** Texts in one answer, in UTF-16 units. */
const MAX_TEXTS = 1024 * 1024

const storage = (error: { readonly message: string }) =>
  new CronError({ reason: "Storage", message: error.message, problems: [] })

const fromEdit = (error: CronFilesError | CronEdit.Refusal): CronError =>
  "_tag" in error
    ? new CronError({
        reason: error.reason === "Changed" ? "Changed" : "Storage",
        message: error.message,
        problems: []
      })
    : new CronError(error)

const notFound = (name: string) =>
  new CronError({
    reason: "NotFound",
    message: `there is no job ${JSON.stringify(name)}: clawchat cron ls shows the jobs`,
    problems: []
  })

const invalid = (message: string, problems: CronError["problems"]) =>
  new CronError({ reason: "Invalid", message, problems })

const previewOf = (entry: CronTable.Entry, now: number): Preview => ({
  words: CronWords.words(entry.schedule),
  zone: entry.zone,
  next: CronSchedule.nextFew(entry.instants, now).map((at) => new Date(at).toISOString())
})

/** As many runs as their texts allow, one at least. */
const fitting = (runs: ReadonlyArray<Run>): ReadonlyArray<Run> => {
  let chars = 0
  const end = runs.findIndex((run, index) => {
    chars += run.text.length
    return index > 0 && chars > MAX_TEXTS
  })
  return end < 0 ? runs : runs.slice(0, end)
}

const make = Effect.fnUntraced(function* (options: { readonly hostZone: string }) {
  const store = yield* CronStore
  const table = yield* CronTable.make(options)
  const scheduler = yield* Scheduler.make(table)

  const entryNamed = Effect.fnUntraced(function* (name: string) {
    const { entries } = yield* table.refresh
    const entry = entries.get(keyOf(name))
    return entry === undefined ? yield* notFound(name) : entry
  })

  const suspension = (entry: CronTable.Entry, now: number): JobView["suspended"] => {
    const state = scheduler.state(entry.key)
    if (state?.suspended !== undefined) return state.suspended
    if (entry.schedule.kind !== "at" || entry.instants.next(now) !== undefined) return undefined
    const at = entry.instants.previous(now + 1) ?? now
    return { since: at, reason: `its moment has passed: clawchat cron rm "${entry.job.name}" clears it away` }
  }

  const viewOf = (entry: CronTable.Entry, now: number, last: Run | undefined): JobView => {
    const suspended = suspension(entry, now)
    const preview = previewOf(entry, now)
    const active = scheduler.active(entry.key)
    return {
      job: entry.job,
      line: entry.line,
      ...preview,
      next: entry.job.enabled && suspended === undefined ? preview.next : [],
      ...(active === undefined ? {} : { active }),
      ...(suspended === undefined ? {} : { suspended }),
      failures: scheduler.state(entry.key)?.failures ?? 0,
      ...(last === undefined ? {} : { last })
    }
  }

  const view = Effect.fnUntraced(function* (entries: CronTable.Table["entries"], name: string) {
    const entry = entries.get(keyOf(name))
    if (entry === undefined) return yield* notFound(name)
    const [last] = yield* Effect.mapError(store.runs({ key: entry.key, limit: 1 }), storage)
    return viewOf(entry, yield* Clock.currentTimeMillis, last)
  })

  /** A job as it would count; one that would never run is refused. */
  const preview = Effect.fnUntraced(function* (job: Job) {
    const { zone } = yield* SubscriptionRef.get(table.table)
    const now = yield* Clock.currentTimeMillis
    const entry = CronTable.preview(job, zone)
    const shown = previewOf(entry, now)
    if (entry.schedule.kind === "at" && shown.next.length === 0) {
      const message = `Schedule: ${job.schedule} has passed in ${entry.zone}: write a moment that is to come`
      return yield* invalid(message, [{ line: 1, column: 1, message }])
    }
    return shown
  })

  const checked = (job: NewJob): Effect.Effect<Job, CronError> =>
    Effect.mapError(Effect.fromResult(CronEdit.check(CronEdit.complete(job))), fromEdit)

  const update = (change: (text: string) => Result.Result<string, CronEdit.Refusal>) =>
    Effect.mapError(table.update(change), fromEdit)

  /** Jobs that are added have no past, although one of their names may have been removed just now. */
  const startAnew = (jobs: ReadonlyArray<NewJob>) =>
    Effect.mapError(scheduler.forget(jobs.map(({ name }) => keyOf(name))), storage)

  const change = Effect.fnUntraced(function* (name: string, wanted: JobChange) {
    const entry = yield* entryNamed(name)
    const next = CronEdit.changed(entry.job, wanted)
    if (wanted.schedule !== undefined || wanted.timezone !== undefined) {
      const { context: _, ...job } = next
      yield* preview(yield* checked(job))
    }
    const { entries } = yield* update((text) => CronEdit.edit(text, name, wanted))
    return yield* view(entries, next.name)
  })

  const current = Effect.fnUntraced(function* (run: Run) {
    return Option.getOrElse(yield* Effect.mapError(store.get(run.id), storage), () => run)
  })

  return Cron.of({
    list: Effect.fn("Cron.list")(function* ({ after, limit }) {
      const { entries, problems, zone } = yield* table.refresh
      const all = [...entries.values()]
      const start = after === undefined ? 0 : all.findIndex((entry) => entry.key === keyOf(after)) + 1
      if (after !== undefined && start === 0) return yield* notFound(after)
      const page: Array<CronTable.Entry> = []
      let chars = 0
      for (const entry of all.slice(start, start + (limit ?? maxPage))) {
        chars += entry.job.command.length + (entry.job.context?.length ?? 0)
        if (chars > MAX_TEXTS && page.length > 0) break
        page.push(entry)
      }
      const latest = yield* Effect.mapError(store.latest, storage)
      const now = yield* Clock.currentTimeMillis
      const file: FileState = { zone, jobs: entries.size, problems }
      return {
        file,
        jobs: page.map((entry) => viewOf(entry, now, latest.get(entry.key))),
        more: start + page.length < all.length
      }
    }),

    show: Effect.fn("Cron.show")(function* (name) {
      const entry = yield* entryNamed(name)
      const runs = yield* Effect.mapError(store.runs({ key: entry.key, limit: SHOWN_RUNS }), storage)
      return { view: viewOf(entry, yield* Clock.currentTimeMillis, runs[0]), runs: fitting(runs) }
    }),

    propose: Effect.fn("Cron.propose")(function* (job) {
      yield* table.refresh
      const shown = yield* preview(yield* checked(job))
      const { entries } = yield* SubscriptionRef.get(table.table)
      if (entries.has(keyOf(job.name))) {
        const message = `there is a job ${JSON.stringify(job.name)} already: choose another name, or edit that one`
        return yield* new CronError({ reason: "Exists", message, problems: [] })
      }
      return shown
    }),

    add: Effect.fn("Cron.add")(function* (job) {
      yield* table.refresh
      yield* preview(yield* checked(job))
      yield* startAnew([job])
      const { entries } = yield* update((text) => CronEdit.add(text, [job]))
      return yield* view(entries, job.name)
    }),

    edit: Effect.fn("Cron.edit")(change),

    remove: Effect.fn("Cron.remove")(function* (name) {
      const { job } = yield* entryNamed(name)
      yield* update((text) => CronEdit.remove(text, name))
      return job
    }),

    setEnabled: Effect.fn("Cron.setEnabled")(function* (name, enabled) {
      const changed = yield* change(name, { enabled })
      if (!enabled) return changed
      yield* Effect.mapError(scheduler.resume(keyOf(name)), storage)
      const { entries } = yield* SubscriptionRef.get(table.table)
      return yield* view(entries, name)
    }),

    run: (name, requestId) =>
      Stream.unwrap(
        Effect.gen(function* () {
          const entry = yield* entryNamed(name)
          const run = yield* Effect.mapError(scheduler.submit(entry, requestId), (error) =>
            error._tag === "CronError" ? error : storage(error)
          )
          const ended = Effect.flatMap(Effect.mapError(scheduler.ended(run), storage), current)
          return Stream.concat(
            Stream.succeed(RunEvent.cases.Started.make({ run })),
            Stream.fromEffect(Effect.map(ended, (over) => RunEvent.cases.Ended.make({ run: over })))
          )
        })
      ),

    runs: Effect.fn("Cron.runs")(function* ({ before, limit, name }) {
      const key = name === undefined ? undefined : keyOf(name)
      return fitting(yield* Effect.mapError(store.runs({ key, before, limit: limit ?? DEFAULT_RUNS }), storage))
    }),

    next: Effect.fn("Cron.next")(function* (name) {
      return previewOf(yield* entryNamed(name), yield* Clock.currentTimeMillis)
    }),

    importJobs: Effect.fn("Cron.importJobs")(function* ({ dryRun, format, text }) {
      const { entries } = yield* table.refresh
      const isMarkdown = format === "markdown" || (format !== "crontab" && /^##[ \t]/m.test(text))
      const jobs: Array<NewJob> = []
      const refused = (problems: CronError["problems"]) => {
        const [first] = problems
        return invalid(
          `line ${first?.line}, column ${first?.column}: ${first?.message}; nothing was imported`,
          problems
        )
      }
      if (isMarkdown) {
        const page = CronFile.parse(text)
        if (Result.isFailure(page)) return yield* refused(page.failure)
        const zone = page.success.timezone
        for (const { job } of page.success.sections) {
          jobs.push(zone === undefined || job.timezone !== undefined ? job : { ...job, timezone: zone })
        }
      } else {
        const parsed = Crontab.parse(text, (name) => entries.has(keyOf(name)))
        if (Result.isFailure(parsed)) return yield* refused(parsed.failure)
        jobs.push(...parsed.success)
      }
      const added: Array<{ readonly job: Job } & Preview> = []
      for (const job of jobs) {
        const complete = yield* checked(job)
        added.push({ job: complete, ...(yield* preview(complete)) })
      }
      const add = (old: string) => CronEdit.add(old, jobs)
      if (dryRun === true) yield* update((old) => Result.map(add(old), () => old))
      else if (jobs.length > 0) {
        yield* startAnew(jobs)
        yield* update(add)
      }
      return added
    }),

    results: ({ follow }) => {
      const told = new Set<number>()
      const fresh = Effect.gen(function* () {
        const ids = yield* store.unacknowledged
        const open = new Set(ids)
        for (const id of told) if (!open.has(id)) told.delete(id)
        return ids.filter((id) => !told.has(id))
      })
      /** One at a time from the record, so that a slow reader holds one. */
      const now = Stream.unwrap(Effect.map(fresh, Stream.fromIterable)).pipe(
        Stream.mapEffect((id) =>
          Effect.map(store.get(id), (run) => {
            told.add(id)
            return run
          })
        ),
        Stream.filter(Option.isSome),
        Stream.map((run) => run.value),
        Stream.mapError(storage)
      )
      if (follow !== true) return now
      return Stream.unwrap(
        Effect.gen(function* () {
          const signals = yield* PubSub.subscribe(scheduler.results)
          const later = Stream.flatMap(Stream.fromEffectRepeat(PubSub.take(signals)), () => now)
          return Stream.concat(now, later)
        })
      )
    },

    acknowledge: Effect.fn("Cron.acknowledge")(function* (ids) {
      return yield* Effect.mapError(store.acknowledge(ids), storage)
    }),

    serve: scheduler.serve
  })
})

/** Payloads and results are those of the procedures in `CronRpc`. */
export class Cron extends Context.Service<
  Cron,
  {
    readonly list: (page: {
      readonly after?: string
      readonly limit?: number
    }) => Effect.Effect<
      { readonly file: FileState; readonly jobs: ReadonlyArray<JobView>; readonly more: boolean },
      CronError
    >
    readonly show: (
      name: string
    ) => Effect.Effect<{ readonly view: JobView; readonly runs: ReadonlyArray<Run> }, CronError>
    /** Checks as `add` would, changes nothing. */
    readonly propose: (job: NewJob) => Effect.Effect<Preview, CronError>
    readonly add: (job: NewJob) => Effect.Effect<JobView, CronError>
    readonly edit: (name: string, change: JobChange) => Effect.Effect<JobView, CronError>
    readonly remove: (name: string) => Effect.Effect<Job, CronError>
    readonly setEnabled: (name: string, enabled: boolean) => Effect.Effect<JobView, CronError>
    readonly run: (name: string, requestId: string) => Stream.Stream<RunEvent, CronError>
    readonly runs: (page: {
      readonly name?: string
      readonly limit?: number
      readonly before?: number
    }) => Effect.Effect<ReadonlyArray<Run>, CronError>
    readonly next: (name: string) => Effect.Effect<Preview, CronError>
    readonly importJobs: (source: {
      readonly text: string
      readonly format?: "auto" | "markdown" | "crontab"
      readonly dryRun?: boolean
    }) => Effect.Effect<ReadonlyArray<{ readonly job: Job } & Preview>, CronError>
    readonly results: (options: { readonly follow?: boolean }) => Stream.Stream<Run, CronError>
    readonly acknowledge: (ids: ReadonlyArray<number>) => Effect.Effect<number, CronError>
    /** Keeps the schedule for ever, with this to do the jobs. Once in a program. */
    readonly serve: (runner: CronRunner["Service"]) => Effect.Effect<never>
  }
>()("clawchat/programs/Cron") {
  /** One per record of runs: it takes what it finds begun for the remains of a crash. `hostZone` is the machine's. */
  static readonly layer = (options: {
    readonly hostZone: string
  }): Layer.Layer<Cron, CronStoreError, CronFiles | CronStore> => Layer.effect(Cron, make(options))
}

/** Handlers of the `Cron` group, for any protocol. */
export const layerHandlers: Layer.Layer<Rpc.ToHandler<RpcGroup.Rpcs<typeof CronRpc>>, never, Cron> = CronRpc.toLayer(
  Effect.gen(function* () {
    const cron = yield* Cron
    return {
      "Cron.List": (page) => cron.list(page),
      "Cron.Show": ({ name }) => cron.show(name),
      "Cron.Propose": (job) => cron.propose(job),
      "Cron.Add": (job) => cron.add(job),
      "Cron.Edit": ({ change, name }) => cron.edit(name, change),
      "Cron.Remove": ({ name }) => cron.remove(name),
      "Cron.Enable": ({ name }) => cron.setEnabled(name, true),
      "Cron.Disable": ({ name }) => cron.setEnabled(name, false),
      "Cron.Run": ({ name, requestId }) => cron.run(name, requestId),
      "Cron.Runs": (page) => cron.runs(page),
      "Cron.Next": ({ name }) => cron.next(name),
      "Cron.Import": (source) => cron.importJobs(source),
      "Cron.Results": (options) => cron.results(options),
      "Cron.Acknowledge": ({ ids }) => cron.acknowledge(ids)
    }
  })
)
