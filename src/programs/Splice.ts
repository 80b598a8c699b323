/** Two streams made one: bytes, ends, resets and stops pass through, nothing is looked at. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { TransportStream } from "../services/Transport.ts"

/** One direction until its end; back pressure passes because a write waits for room. */
const pump = (from: TransportStream, to: TransportStream): Effect.Effect<void> =>
  from.read.pipe(
    Effect.flatMap((chunks) => Effect.forEach(chunks, to.write, { discard: true })),
    Effect.forever,
    Effect.catch((error) => {
      if (Cause.isDone(error)) return to.finish
      const code = error.code ?? StreamHeader.Code.Cancelled
      // Reading failed: the other side learns that no more comes. Writing failed: this side learns that nobody reads.
      if (error.reason === "Stopped") return from.stop(code)
      if (error.reason === "Reset") return to.reset(code)
      return Effect.andThen(to.reset(StreamHeader.Code.TierAway), from.stop(StreamHeader.Code.TierAway))
    })
  )

/** Runs until both directions are over; an interruption resets both streams. */
export const splice = (a: TransportStream, b: TransportStream): Effect.Effect<void> =>
  Effect.all([pump(a, b), pump(b, a)], { concurrency: "unbounded", discard: true }).pipe(
    Effect.onInterrupt(() =>
      Effect.forEach([a, b], (stream) =>
        Effect.andThen(stream.reset(StreamHeader.Code.TierAway), stream.stop(StreamHeader.Code.TierAway))
      )
    )
  )
