/** A machine with scheduled work: CRON.md and the record live on, programs come and go, time is the test's. */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import type { Run } from "../../src/domain/CronJob.ts"
import * as CronStoreSqlite from "../../src/layers/CronStoreSqlite.ts"
import { Cron } from "../../src/programs/Cron.ts"
import * as CronFiles from "../../src/services/CronFiles.ts"
import { CronRunError, CronRunner, type RunRequest, type RunResult } from "../../src/services/CronRunner.ts"
import { CronStore } from "../../src/services/CronStore.ts"

export const at = (iso: string): number => Date.parse(iso)

/** What the runner was asked to do, and when. */
export interface Begun extends RunRequest {
  readonly now: number
}

export type Script = (request: RunRequest) => Effect.Effect<RunResult, CronRunError>

export const done: Script = ({ job }) => Effect.succeed({ text: `did ${job.name}` })
export const fails: Script = () => Effect.fail(new CronRunError({ message: "the provider is away" }))
export const takes =
  (minutes: number): Script =>
  ({ job }) =>
    Effect.as(Effect.sleep(`${minutes} minutes`), { text: `did ${job.name}` })

export const make = Effect.fnUntraced(function* (options: { readonly now: string; readonly file: string }) {
  yield* TestClock.setTime(at(options.now))
  const memory = yield* CronFiles.makeMemory(options.file)
  const context = yield* Layer.build(CronStoreSqlite.layerMemory)
  const store = Context.get(context, CronStore)
  const begun: Array<Begun> = []
  const script: { run: Script } = { run: done }
  const runner = CronRunner.of({
    run: (request) =>
      Effect.gen(function* () {
        begun.push({ ...request, now: yield* Clock.currentTimeMillis })
        return yield* script.run(request)
      })
  })

  const clock = yield* Clock.Clock
  const wall = { shiftMs: 0 }
  /** The wall's clock may be set; how long a sleep takes is another matter. */
  const onWall = Effect.provideService(Clock.Clock, {
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + wall.shiftMs,
    currentTimeMillis: Effect.map(clock.currentTimeMillis, (ms) => ms + wall.shiftMs),
    currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe() + BigInt(wall.shiftMs) * 1_000_000n,
    currentTimeNanos: Effect.map(clock.currentTimeNanos, (ns) => ns + BigInt(wall.shiftMs) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  })

  /** Starts the program; its end is that of the scope that it gives. */
  const start = Effect.fnUntraced(function* (record: CronStore["Service"] = store) {
    const scope = yield* Scope.make()
    const layer = Cron.layer({ hostZone: "UTC" }).pipe(
      Layer.provide(Layer.succeed(CronFiles.CronFiles, memory.files)),
      Layer.provide(Layer.succeed(CronStore, record))
    )
    const built = yield* Layer.buildWithScope(Layer.fresh(layer), scope).pipe(onWall)
    const cron = Context.get(built, Cron)
    yield* Effect.forkIn(onWall(cron.serve(runner)), scope)
    yield* TestClock.adjust(1)
    return { cron, stop: Scope.close(scope, Exit.void) }
  })

  /** Everything on record, oldest first, as text. */
  const record = Effect.map(store.runs({ limit: 100_000 }), (runs) =>
    runs.toReversed().map((run) => `${run.job} ${short(run)} ${run.status}`)
  )
  return { store, memory, begun, script, start, record, wall }
})

/** A slot without what all have in common. */
export const short = (run: Run): string => run.slot.replace(/:00\.000Z$/, "").replace(/^\d{4}-/, "")

export const job = (name: string, schedule: string, more = ""): string =>
  `## ${name}\n**Schedule**: ${schedule}\n**Command**: do ${name}\n${more}\n`
