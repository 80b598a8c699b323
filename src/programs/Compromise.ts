/**
 * COMPROMISED carried out by one process, on whichever tier: tombstone, sealed notifications, deletion, wipe, and only then a
 * word to the others. Nothing waits for a peer: what an answer could change is what the user is told.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Tombstone from "../domain/Tombstone.ts"
import type { LastWords } from "../services/Transport.ts"
import * as Burn from "./Burn.ts"

/** Milliseconds after the wipe in which an acknowledgement counts. */
export const ANSWER_MS = 2000

/** What the user is to be told. */
export interface Outcome {
  /** Sessions that were told. */
  readonly notified: number
  /** Whether all of them answered; true where there were none. */
  readonly acknowledged: boolean
  /** Lines on what could not be deleted. */
  readonly left: ReadonlyArray<string>
}

/** This process's keys are burnt: it must end, and a fresh one take its place. */
export class Burned extends Data.TaggedError("Burned")<Outcome> {
  override get message(): string {
    return "COMPROMISED: all keys of this process are burnt"
  }
}

export interface Act<R> {
  readonly plan: Burn.Plan
  readonly about: Pick<Tombstone.Tombstone, "cause" | "llmKey">
  /** Seals what is to be said and wipes the keys of the sessions it was sealed with. Runs beside the deletion. */
  readonly seal: Effect.Effect<ReadonlyArray<LastWords>, never, R>
  /** Wipes what other keys the process holds. */
  readonly wipe: Effect.Effect<void>
  /** Whether the other end waits for acknowledgements of ours: then all copies leave, whoever answers meanwhile. */
  readonly answers: boolean
}

/** Burns; cannot be interrupted before everything is deleted and wiped, and takes `ANSWER_MS` at most after that. */
export const carryOut = <R>(act: Act<R>) =>
  Effect.uninterruptible(
    Effect.gen(function* () {
      const marked = yield* Effect.result(Burn.begin(act.plan, act.about))
      const sealing = yield* Effect.forkChild(act.seal, { startImmediately: true })
      const undeleted = yield* Burn.destroy(act.plan)
      const words = yield* Fiber.join(sealing)
      yield* act.wipe
      const send = Effect.forEach(words, (each) => each.send, { concurrency: "unbounded", discard: true })
      const heard = Effect.forEach(words, (each) => each.acknowledged, { concurrency: "unbounded", discard: true })
      // In fibers of their own: who lost interest in this one, for its connection is over, must not cut them short.
      const sending = yield* Effect.forkChild(Effect.interruptible(send), { startImmediately: true })
      const waiting = yield* Effect.forkChild(Effect.interruptible(Effect.timeoutOption(heard, ANSWER_MS)))
      const answer = yield* Fiber.join(waiting)
      yield* Option.isSome(answer) && !act.answers ? Fiber.interrupt(sending) : Fiber.await(sending)
      // A disk that takes no tombstone is no reason to keep the keys.
      const unmarked = Result.isFailure(marked) ? [marked.failure.message] : []
      const outcome: Outcome = {
        notified: words.reduce((sum, { notified }) => sum + notified, 0),
        acknowledged: Option.isSome(answer),
        left: [...unmarked, ...undeleted]
      }
      return outcome
    })
  )
