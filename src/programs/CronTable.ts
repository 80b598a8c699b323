/** The jobs of CRON.md as they count now: those of the last file without mistakes, over restarts too. */
import * as Effect from "effect/Effect"
import * as Hash from "effect/Hash"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as CronFile from "../domain/CronFile.ts"
import { type Job, keyOf, type Problem } from "../domain/CronJob.ts"
import * as CronSchedule from "../domain/CronSchedule.ts"
import { CronFiles, type CronFilesError } from "../services/CronFiles.ts"
import { CronStore } from "../services/CronStore.ts"

export interface Entry {
  readonly job: Job
  readonly key: string
  /** Of the heading, from 1. */
  readonly line: number
  /** The zone that counts. */
  readonly zone: string
  readonly schedule: CronSchedule.Schedule
  readonly instants: CronSchedule.Instants
  /** Equal while the instants are, and whether it is enabled. */
  readonly when: string
  /** Equal while the whole job is. */
  readonly hash: string
}

export interface Table {
  readonly zone: string
  /** In the order of the file. */
  readonly entries: ReadonlyMap<string, Entry>
  /** What is wrong with the file as it is; the entries are older then. */
  readonly problems: ReadonlyArray<Problem>
  /** A file has been read without mistakes. */
  readonly known: boolean
}

export interface CronTable {
  readonly table: SubscriptionRef.SubscriptionRef<Table>
  /** Reads the file anew. */
  readonly refresh: Effect.Effect<Table>
  /** Changes the file, and the table with it. */
  readonly update: <E>(change: (text: string) => Result.Result<string, E>) => Effect.Effect<Table, E | CronFilesError>
}

/** The job of an entry in a zone, whose instants may be known already. */
const entryOf = (job: Job, line: number, fileZone: string, known: Entry | undefined): Entry => {
  const zone = job.timezone ?? fileZone
  const when = `${job.enabled ? "on" : "off"} ${zone} ${job.schedule}`
  const hash = `${when} ${Hash.string(JSON.stringify(job))}`
  if (known?.when === when) return { ...known, job, line, hash }
  // The file was read with these schedules, so they parse.
  const schedule = Result.getOrThrow(CronSchedule.parse(job.schedule))
  const instants = CronSchedule.instants(schedule, zone)
  return { job, key: keyOf(job.name), line, zone, schedule, instants, when, hash }
}

/** A job that is in no file, as it would count. */
export const preview = (job: Job, zone: string): Entry => entryOf(job, 1, zone, undefined)

/** `hostZone` counts where neither file nor job names one. */
export const make = Effect.fnUntraced(function* (options: { readonly hostZone: string }) {
  const files = yield* CronFiles
  const store = yield* CronStore
  const turn = yield* Semaphore.make(1)
  // A host may have an offset for a zone, which knows no summer time.
  const hostZone = CronSchedule.isZone(options.hostZone) ? options.hostZone : "UTC"
  const empty: Table = { zone: hostZone, entries: new Map(), problems: [], known: false }
  const ref = yield* SubscriptionRef.make(empty)
  let shown: string | undefined

  const tableOf = (page: CronFile.Page, old: Table): Table => {
    const zone = page.timezone ?? hostZone
    const entries = new Map<string, Entry>()
    for (const { heading, job } of page.sections) {
      const entry = entryOf(job, heading + 1, zone, old.entries.get(keyOf(job.name)))
      entries.set(entry.key, entry)
    }
    return { zone, entries, problems: [], known: true }
  }

  const complain = Effect.fnUntraced(function* (problems: ReadonlyArray<Problem>) {
    const [first] = problems
    yield* Effect.logWarning(`${files.path} line ${first?.line}: ${first?.message}; the jobs stay as they were`)
    return yield* SubscriptionRef.updateAndGet(ref, (table) => ({ ...table, problems }))
  })

  const accept = Effect.fnUntraced(function* (text: string) {
    if (text === shown) return yield* SubscriptionRef.get(ref)
    shown = text
    const page = CronFile.parse(text)
    if (Result.isFailure(page)) return yield* complain(page.failure)
    yield* Effect.catch(store.keepGood(text), (error) => Effect.logError(error.message))
    return yield* SubscriptionRef.updateAndGet(ref, (old) => tableOf(page.success, old))
  })

  const refresh = Effect.gen(function* () {
    const text = yield* Effect.result(files.read)
    if (Result.isSuccess(text)) return yield* accept(text.success)
    const { message } = text.failure
    const { problems } = yield* SubscriptionRef.get(ref)
    shown = undefined
    if (problems[0]?.message === message) return yield* SubscriptionRef.get(ref)
    return yield* complain([{ line: 1, column: 1, message }])
  }).pipe(turn.withPermits(1))

  const good = yield* store.lastGood
  const page = Option.map(good, CronFile.parse)
  if (Option.isSome(page) && Result.isSuccess(page.value)) {
    const { success } = page.value
    yield* SubscriptionRef.update(ref, (old) => tableOf(success, old))
  }
  yield* refresh

  const table: CronTable = {
    table: ref,
    refresh,
    update: (change) => Effect.flatMap(files.update(change), accept).pipe(turn.withPermits(1))
  }
  return table
})
