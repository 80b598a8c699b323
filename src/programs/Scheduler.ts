/**
 * Runs jobs when their moment has come. Every slot is claimed on disk before anything is done about it, and a claim is
 * begun once: whatever ends this program, a slot that may have begun is never begun again, and its fate is on record.
 *
 * Time is the wall's and may step. A slot counts when it lies after the last one dealt with, so a clock that goes back
 * repeats nothing; one that jumped ahead, like a program that was away, leaves slots behind that the job's catch-up rule
 * decides about. Between slots nothing happens but one look at the clock a minute.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as PubSub from "effect/PubSub"
import * as Queue from "effect/Queue"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { keyOf, type Run } from "../domain/CronJob.ts"
import { CronError } from "../domain/CronRpc.ts"
import * as CronSlots from "../domain/CronSlots.ts"
import { CronFiles } from "../services/CronFiles.ts"
import type { CronRunner } from "../services/CronRunner.ts"
import { type Advance, CronStore, type CronStoreError, type JobState } from "../services/CronStore.ts"
import * as CronLanes from "./CronLanes.ts"
import type { CronTable, Entry, Table } from "./CronTable.ts"

/** Longest pause between two looks at the clock, and the pause after the database failed. */
const LOOK_MS = 60_000
const RECOVER_MS = 5_000
/** Runs of one job that wait, beside what catches up. */
const MAX_WAITING = 10
/** Jobs moved on in one transaction. */
const BATCH = 250
const PRUNE_MS = 3_600_000
/** A job that is in the file no more is forgotten after this: an editor may empty a file before it writes it anew. */
const FORGET_MS = 60_000

export interface Scheduler {
  /** What a job's lane does. */
  readonly active: (key: string) => "queued" | "running" | undefined
  readonly state: (key: string) => JobState | undefined
  /** Forgets failures; slots count from now on. */
  readonly resume: (key: string) => Effect.Effect<void, CronStoreError>
  /** Forgets at once what is known of jobs that are in the file no more. */
  readonly forget: (keys: ReadonlyArray<string>) => Effect.Effect<void, CronStoreError>
  /** Runs a job now, once for each id. */
  readonly submit: (entry: Entry, requestId: string) => Effect.Effect<Run, CronStoreError | CronError>
  /** Waits for the end of a run. */
  readonly ended: (run: Run) => Effect.Effect<Run, CronStoreError>
  /** An element whenever there may be a result that nobody has acknowledged. */
  readonly results: PubSub.PubSub<void>
  /** Keeps the schedule for ever. */
  readonly serve: (runner: CronRunner["Service"]) => Effect.Effect<never>
}

const clockText = (ms: number): string => new Date(ms).toISOString()

export const make = Effect.fnUntraced(function* (table: CronTable) {
  const store = yield* CronStore
  const files = yield* CronFiles
  const wakes = yield* Queue.sliding<void>(1)
  const writing = yield* Semaphore.make(1)
  const states = new Map<string, JobState>()
  /** The next slot of each job that has one. */
  const nexts = new Map<string, number>()
  /** Since when jobs of which something is known are not in the file. */
  const absent = new Map<string, number>()
  let reconciled: Table | undefined
  const lanes = yield* CronLanes.make({ states, writing, onSuspended: (key) => nexts.delete(key) })

  const schedule = (entry: Entry, state: JobState): void => {
    const next = entry.job.enabled && state.suspended === undefined ? entry.instants.next(state.considered) : undefined
    if (next === undefined) nexts.delete(entry.key)
    else nexts.set(entry.key, next)
  }

  /** Brings what is known in line with the file. */
  const reconcile = Effect.fnUntraced(function* (current: Table) {
    if (current === reconciled || !current.known) return
    const now = yield* Clock.currentTimeMillis
    const changed: Array<JobState> = []
    for (const entry of current.entries.values()) {
      const state = states.get(entry.key)
      if (state?.hash === entry.hash) continue
      const keepsTime = state?.hash.startsWith(`${entry.when} `) === true
      changed.push({
        key: entry.key,
        hash: entry.hash,
        considered: keepsTime ? (state?.considered ?? now) : now,
        failures: 0,
        failedAt: 0,
        suspended: undefined
      })
    }
    if (changed.length > 0) yield* store.saveStates(changed)
    for (const state of changed) states.set(state.key, state)
    for (const key of absent.keys()) if (current.entries.has(key)) absent.delete(key)
    for (const key of states.keys()) {
      if (current.entries.has(key)) continue
      nexts.delete(key)
      if (!absent.has(key)) absent.set(key, now)
    }
    for (const entry of current.entries.values()) {
      const state = states.get(entry.key)
      if (state !== undefined) schedule(entry, state)
    }
    reconciled = current
  })

  const forget = Effect.fnUntraced(function* (gone: ReadonlyArray<string>) {
    if (gone.length > 0) yield* store.forget(gone)
    for (const key of gone) {
      absent.delete(key)
      states.delete(key)
    }
  })

  /** After a clock that was far ahead was set right, its slots would keep jobs waiting for as long. */
  const stepBack = Effect.fnUntraced(function* (current: Table, now: number) {
    const ahead = [...states.values()]
      .filter((state) => state.considered > now + CronSlots.STEP_BACK_MS)
      .map((state) => ({ ...state, considered: now }))
    if (ahead.length === 0) return
    yield* store.saveStates(ahead)
    for (const state of ahead) {
      states.set(state.key, state)
      const entry = current.entries.get(state.key)
      if (entry !== undefined) schedule(entry, state)
    }
  })

  const claim = Effect.fnUntraced(function* (due: ReadonlyArray<Entry>, now: number) {
    const batch: Array<Advance & { readonly entry: Entry; readonly state: JobState }> = []
    for (const entry of due) {
      const state = states.get(entry.key)
      const next = nexts.get(entry.key)
      if (state === undefined || next === undefined) continue
      const plan = CronSlots.plan({
        instants: entry.instants,
        catchUp: entry.job.catchUp ?? "once",
        overlap: entry.job.overlap ?? "skip",
        considered: state.considered,
        next,
        now,
        busySince: lanes.busySince(entry.key),
        room: MAX_WAITING - lanes.waiting(entry.key),
        pausedUntil: CronSlots.pausedUntil(state.failures, state.failedAt, now),
        failures: state.failures
      })
      batch.push({
        entry,
        key: entry.key,
        name: entry.job.name,
        claims: plan.claims,
        state: { ...state, considered: plan.considered }
      })
    }
    const made = yield* store.advance(batch)
    const byKey = new Map(batch.map((each) => [each.key, each]))
    for (const { entry, state } of batch) {
      states.set(entry.key, state)
      schedule(entry, state)
    }
    const takesPlace = (entry: Entry, run: Run) =>
      entry.job.overlap === "kill" && (entry.job.catchUp !== "all" || CronSlots.isOnTime(run.due, now))
    const killing = new Set<string>()
    for (const run of made) {
      const each = byKey.get(keyOf(run.job))
      if (run.status !== "queued" || each === undefined) {
        yield* lanes.settled(run)
        continue
      }
      if (takesPlace(each.entry, run) && !killing.has(each.key)) yield* lanes.kill(each.key, run.slot)
      killing.add(each.key)
      yield* lanes.enqueue(each.key, run, each.entry.job)
    }
  }, writing.withPermits(1))

  let looked = 0
  let pruned = 0
  /** One look at the clock; how long until the next. */
  const look = Effect.gen(function* () {
    const current = yield* table.refresh
    yield* writing.withPermits(1)(reconcile(current))
    const now = yield* Clock.currentTimeMillis
    if (now < looked) yield* writing.withPermits(1)(stepBack(current, now))
    looked = now
    const gone = [...absent].flatMap(([key, since]) => (now - since >= FORGET_MS || now < since ? [key] : []))
    yield* writing.withPermits(1)(forget(gone))
    const due = [...current.entries.values()].filter(
      (entry) => (nexts.get(entry.key) ?? Number.POSITIVE_INFINITY) <= now
    )
    for (let at = 0; at < due.length; at += BATCH) {
      yield* claim(due.slice(at, at + BATCH), now)
      yield* Effect.yieldNow
    }
    if (now - pruned >= PRUNE_MS || now < pruned) {
      pruned = now
      yield* store.prune(now)
    }
    let soonest = Number.POSITIVE_INFINITY
    for (const next of nexts.values()) if (next < soonest) soonest = next
    return Math.max(1, Math.min(LOOK_MS, soonest - (yield* Clock.currentTimeMillis)))
  }).pipe(
    Effect.catch((error) => Effect.as(Effect.logError(error.message), RECOVER_MS)),
    // A bug with one file must not end the schedule for ever.
    Effect.catchDefect((defect) => Effect.as(Effect.logError("The schedule met a bug", defect), LOOK_MS))
  )

  /** Jobs that run at every start, claimed by the moment of the start. */
  const atStart = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const { entries } = yield* SubscriptionRef.get(table.table)
    for (const entry of entries.values()) {
      const state = states.get(entry.key)
      if (entry.schedule.kind !== "reboot" || !entry.job.enabled || state?.suspended !== undefined) continue
      const slot = `${CronSlots.REBOOT} ${clockText(now)}`
      const claims = [{ slot, due: now, status: "queued" as const, acknowledged: false }]
      const made = yield* store.advance([{ key: entry.key, name: entry.job.name, claims }])
      for (const run of made) yield* lanes.enqueue(entry.key, run, entry.job)
    }
  })

  /** Runs that were claimed and not begun when the program ended: those that count still get their turn. */
  const takeUp = Effect.fnUntraced(function* (left: ReadonlyArray<Run>) {
    const { entries } = yield* SubscriptionRef.get(table.table)
    const latest = new Map(left.map((run) => [keyOf(run.job), run.id]))
    for (const run of left) {
      const entry = entries.get(keyOf(run.job))
      const rule = entry?.job.catchUp ?? "once"
      const isTimed = !run.slot.startsWith(CronSlots.MANUAL) && !run.slot.startsWith(CronSlots.REBOOT)
      const counts = rule === "all" || (rule === "once" && latest.get(keyOf(run.job)) === run.id)
      if (entry?.job.enabled === true && isTimed && counts) yield* lanes.enqueue(entry.key, run, entry.job)
      else {
        const reason = "the assistant ended before its turn"
        yield* store.end(run.id, { status: "missed", reason, text: "", acknowledged: false })
      }
    }
  })

  const { lost, queued } = yield* store.sweep
  if (lost.length > 0) yield* Effect.logWarning(`${lost.length} scheduled runs had been cut off; none is run again`)
  for (const state of yield* store.states) states.set(state.key, state)
  yield* stepBack(yield* SubscriptionRef.get(table.table), yield* Clock.currentTimeMillis)
  yield* reconcile(yield* SubscriptionRef.get(table.table))
  yield* takeUp(queued)

  const scheduler: Scheduler = {
    results: lanes.results,
    active: lanes.active,
    state: (key) => states.get(key),
    resume: (key) =>
      Effect.gen(function* () {
        const state = states.get(key)
        if (state === undefined || (state.failures === 0 && state.suspended === undefined)) return
        const now = yield* Clock.currentTimeMillis
        const fresh = {
          ...state,
          considered: Math.max(now, state.considered),
          failures: 0,
          failedAt: 0,
          suspended: undefined
        }
        yield* store.saveStates([fresh])
        states.set(key, fresh)
        const entry = (yield* SubscriptionRef.get(table.table)).entries.get(key)
        if (entry !== undefined) schedule(entry, fresh)
        yield* Queue.offer(wakes, undefined)
      }).pipe(writing.withPermits(1)),
    forget: (keys) =>
      Effect.flatMap(SubscriptionRef.get(table.table), ({ entries }) =>
        forget(keys.filter((key) => states.has(key) && !entries.has(key)))
      ).pipe(writing.withPermits(1)),
    submit: (entry, requestId) =>
      Effect.gen(function* () {
        const slot = `${CronSlots.MANUAL} ${requestId}`
        const known = yield* store.find(entry.key, slot)
        if (Option.isSome(known)) return known.value
        if (lanes.waiting(entry.key) >= MAX_WAITING) {
          const message = `${MAX_WAITING} runs of this job wait already: try again when one has ended`
          return yield* new CronError({ reason: "TooMany", message, problems: [] })
        }
        const due = yield* Clock.currentTimeMillis
        const claims = [{ slot, due, status: "queued" as const, acknowledged: false }]
        const made = yield* store.advance([{ key: entry.key, name: entry.job.name, claims }])
        for (const run of made) {
          yield* lanes.enqueue(entry.key, run, entry.job)
          return run
        }
        // A twin of this program was faster.
        return yield* Effect.flatMap(store.find(entry.key, slot), (run) => Effect.orDie(Effect.fromOption(run)))
      }).pipe(writing.withPermits(1), Effect.uninterruptible),
    ended: lanes.ended,
    serve: Effect.fnUntraced(function* (runner) {
      yield* Effect.catch(atStart, (error) => Effect.logError(error.message))
      yield* lanes.provide(runner)
      const wake = Queue.offer(wakes, undefined)
      yield* Effect.forkScoped(Stream.runForEach(files.changes, () => Effect.andThen(table.refresh, wake)))
      yield* Effect.forkScoped(Stream.runForEach(SubscriptionRef.changes(table.table), () => wake))
      return yield* Effect.forever(Effect.flatMap(look, (ms) => Effect.raceFirst(Effect.sleep(ms), Queue.take(wakes))))
    }, Effect.scoped)
  }
  return scheduler
})
