/** Questions of many fibers, asked together: what waits while one batch is on its way is the next batch. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import type * as Result from "effect/Result"

const MISSING = Effect.die(new Error("an answer is missing"))

/** One question; its answer comes with the batch's. */
export type Ask<A, B, E> = (question: A) => Effect.Effect<B, E>

/**
 * Runs in the scope: `most` questions at a time, answers in their order. Whoever asks bounds how many wait; who leaves
 * early leaves the question to be answered all the same.
 */
export const make = Effect.fnUntraced(function* <A, B, E>(
  most: number,
  run: (questions: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<Result.Result<B, E>>>
) {
  interface Job {
    readonly question: A
    readonly done: Deferred.Deferred<B, E>
  }
  const jobs = yield* Queue.unbounded<Job>()
  yield* Queue.takeBetween(jobs, 1, most).pipe(
    Effect.flatMap((some) =>
      Effect.map(Effect.exit(run(some.map(({ question }) => question))), (exit) => {
        for (const [at, { done }] of some.entries()) {
          const answer = Exit.isSuccess(exit) ? exit.value[at] : undefined
          if (answer !== undefined) Deferred.doneUnsafe(done, Effect.fromResult(answer))
          // A bug is told to whoever asked, and keeps nobody waiting.
          else Deferred.doneUnsafe(done, Exit.isFailure(exit) ? Exit.failCause(exit.cause) : MISSING)
        }
      })
    ),
    Effect.forever,
    Effect.forkScoped
  )
  const ask: Ask<A, B, E> = (question) =>
    Effect.suspend(() => {
      const done = Deferred.makeUnsafe<B, E>()
      Queue.offerUnsafe(jobs, { question, done })
      return Deferred.await(done)
    })
  return ask
})
