/**
 * The runs of jobs: one after the other in each job's lane, few of all jobs at a time. A run is begun once, by the record's
 * word, and its end is on record before anybody hears of it.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import { defaultTimeoutMs, type Job, type Run } from "../domain/CronJob.ts"
import * as CronSlots from "../domain/CronSlots.ts"
import { CronRunError, type CronRunner } from "../services/CronRunner.ts"
import { CronStore, type JobState, type RunEnd } from "../services/CronStore.ts"

/** Runs of all jobs at a time; those beyond wait. */
const MAX_RUNNING = 4
/** Failures in a row after which a job is suspended. */
const maxFailures = 5

/** What is known of jobs, changed by one at a time, in memory only after the disk. */
export interface Known {
  readonly states: Map<string, JobState>
  readonly writing: Semaphore.Semaphore
  readonly onSuspended: (key: string) => void
}

interface Item {
  readonly run: Run
  readonly job: Job
  readonly kill: Deferred.Deferred<never, CronRunError>
}

/** The runs of one job, one after the other. */
interface Lane {
  readonly waiting: Array<Item>
  running: Item | undefined
}

const isOver = (run: Run): boolean => run.status !== "queued" && run.status !== "running"

/** What people are told of a failure: the runner's own words, or that it was a bug. */
const reasonOf = (cause: Cause.Cause<CronRunError>): string => {
  const error = Cause.findErrorOption(cause)
  return Option.isSome(error) ? error.value.message : "it met a bug of the program, which its log tells of"
}

export const make = Effect.fnUntraced(function* (known: Known) {
  const store = yield* CronStore
  const running = yield* Semaphore.make(MAX_RUNNING)
  const workers = yield* FiberSet.make()
  const results = yield* PubSub.sliding<void>(1)
  const started = yield* Deferred.make<CronRunner["Service"]>()
  const lanes = new Map<string, Lane>()
  const waiters = new Map<number, Deferred.Deferred<Run>>()

  /** Tells those who wait for a run. */
  const settled = Effect.fnUntraced(function* (run: Run) {
    const waiter = waiters.get(run.id)
    waiters.delete(run.id)
    if (waiter !== undefined) yield* Deferred.succeed(waiter, run)
    if (!run.acknowledged) yield* PubSub.publish(results, undefined)
  })

  /** How a run changes what is known of its job. Runs beside the schedule say nothing about it. */
  const stateAfter = (key: string, run: Run, outcome: "ran" | "failed" | "stopped", now: number) => {
    const state = known.states.get(key)
    if (state === undefined || outcome === "stopped" || run.slot.startsWith(CronSlots.MANUAL)) return undefined
    if (outcome === "ran") return state.failures === 0 ? undefined : { ...state, failures: 0, failedAt: 0 }
    const failures = state.failures + 1
    const reason = `it failed ${failures} times in a row: correct it, then clawchat cron enable "${run.job}"`
    const suspended = failures >= maxFailures ? { since: now, reason } : state.suspended
    return { ...state, failures, failedAt: now, suspended }
  }

  const finish = (key: string, run: Run, outcome: "ran" | "failed" | "stopped", end: RunEnd) =>
    Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const state = stateAfter(key, run, outcome, now)
      const suspended = state?.suspended !== undefined && known.states.get(key)?.suspended === undefined
      const reason = suspended ? `${end.reason}; the job is suspended: ${state.suspended?.reason}` : end.reason
      const ended = yield* store.end(run.id, { ...end, reason, state })
      if (state !== undefined && Option.isSome(ended)) {
        known.states.set(key, state)
        if (suspended) known.onSuspended(key)
      }
      return ended
    }).pipe(known.writing.withPermits(1))

  const patience = Schedule.max([Schedule.exponential("200 millis"), Schedule.recurs(5)])

  const execute = (key: string, item: Item) =>
    Effect.uninterruptibleMask(
      Effect.fnUntraced(function* (restore) {
        const { job, run } = item
        const runner = yield* restore(Deferred.await(started))
        if (!(yield* restore(Effect.retry(store.begin(run.id), patience)))) return
        const timeoutMs = job.timeoutMs ?? defaultTimeoutMs
        const work = runner.run({ job, runId: run.id, slot: run.slot, due: run.due }).pipe(
          Effect.timeoutOrElse({
            duration: timeoutMs,
            orElse: () =>
              Effect.fail(new CronRunError({ message: `it took longer than ${timeoutMs / 1000} s and was ended` }))
          }),
          Effect.raceFirst(Deferred.await(item.kill))
        )
        const exit = yield* Effect.exit(restore(work))
        const killed = yield* Deferred.isDone(item.kill)
        const failed = (reason: string) => ({ status: "failed" as const, reason, text: "", acknowledged: killed })
        const end = Exit.isSuccess(exit)
          ? finish(key, run, "ran", { status: "ran", acknowledged: false, reason: run.reason, ...exit.value })
          : Cause.hasInterruptsOnly(exit.cause)
            ? finish(key, run, "stopped", failed("the assistant was stopped while it ran"))
            : finish(key, run, killed ? "stopped" : "failed", failed(reasonOf(exit.cause)))
        if (Exit.isFailure(exit) && Cause.hasDies(exit.cause)) {
          yield* Effect.logError(`The job ${JSON.stringify(run.job)} met a bug`, exit.cause)
        }
        yield* Effect.retry(end, patience)
      })
    ).pipe(
      Effect.catch((error) => Effect.logError(error.message)),
      Effect.ensuring(
        Effect.ignore(
          Effect.flatMap(store.get(item.run.id), (run) => (Option.isSome(run) ? settled(run.value) : Effect.void))
        )
      )
    )

  const work = (key: string, lane: Lane) =>
    Effect.gen(function* () {
      for (let item = lane.waiting[0]; item !== undefined; item = lane.waiting[0]) {
        const next = item
        // Out of the lane's queue only with a place to run, so that a waiting run can still be replaced.
        yield* running.withPermits(1)(
          Effect.suspend(() => {
            if (lane.waiting[0] !== next) return Effect.void
            lane.waiting.shift()
            lane.running = next
            return Effect.ensuring(
              execute(key, next),
              Effect.sync(() => {
                lane.running = undefined
              })
            )
          })
        )
      }
      // In one step with the look at what waits: a run that came in between would never be begun.
      lanes.delete(key)
    }).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          if (lanes.get(key) === lane) lanes.delete(key)
        })
      )
    )

  const enqueue = Effect.fnUntraced(function* (key: string, run: Run, job: Job) {
    const item: Item = { run, job, kill: yield* Deferred.make<never, CronRunError>() }
    const lane = lanes.get(key)
    if (lane !== undefined) {
      lane.waiting.push(item)
      return
    }
    const made: Lane = { waiting: [item], running: undefined }
    lanes.set(key, made)
    yield* FiberSet.run(workers, work(key, made))
  })

  /** Ends what a job does, for a slot that takes its place. */
  const kill = Effect.fnUntraced(function* (key: string, slot: string) {
    const lane = lanes.get(key)
    if (lane === undefined) return
    const reason = `ended for the run of ${slot}`
    for (const item of lane.waiting.splice(0)) {
      const ended = yield* Effect.option(
        store.end(item.run.id, { status: "skipped", reason, text: "", acknowledged: true })
      )
      yield* settled(Option.getOrElse(Option.flatten(ended), () => item.run))
    }
    if (lane.running !== undefined) yield* Deferred.fail(lane.running.kill, new CronRunError({ message: reason }))
  })

  return {
    enqueue,
    kill,
    settled,
    /** An element whenever there may be a result that nobody has acknowledged. */
    results,
    /** With this the runs that wait, and those to come, are done. */
    provide: (runner: CronRunner["Service"]) => Effect.asVoid(Deferred.succeed(started, runner)),
    active: (key: string): "queued" | "running" | undefined => {
      const lane = lanes.get(key)
      return lane === undefined ? undefined : lane.running === undefined ? "queued" : "running"
    },
    waiting: (key: string): number => lanes.get(key)?.waiting.length ?? 0,
    /** When the run that is going, or waits, was due. */
    busySince: (key: string): number | undefined => {
      const lane = lanes.get(key)
      return (lane?.running ?? lane?.waiting[0])?.run.due
    },
    /** Waits for the end of a run. */
    ended: Effect.fnUntraced(function* (run: Run) {
      const waiter = waiters.get(run.id) ?? (yield* Deferred.make<Run>())
      waiters.set(run.id, waiter)
      const now = yield* store.get(run.id)
      if (Option.isNone(now) || isOver(now.value)) {
        waiters.delete(run.id)
        yield* Deferred.succeed(
          waiter,
          Option.getOrElse(now, () => run)
        )
      }
      return yield* Deferred.await(waiter)
    })
  }
})
