/**
 * The client's end of bulk streams: one at a time, opened anew when the line was lost, shared by all files that are on
 * their way. Each has an id and hears only what is said about it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { TransferError } from "../domain/TransferError.ts"
import type { Frame } from "../domain/TransferFrame.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"
import * as TransferLane from "./TransferLane.ts"

/** One file's part of a stream. */
export interface Slot {
  readonly id: number
  readonly lane: TransferLane.Lane
  /** What is said about this file next. */
  readonly next: Effect.Effect<Frame, TransferError>
}

/** Frames of one file that wait to be taken in. */
const MAX_WAITING = 8
const RETRIES = 5
const PAUSE = "1 second"

interface Open {
  readonly lane: TransferLane.Lane
  readonly slots: Map<number, Queue.Queue<Frame, TransferError>>
  readonly lost: Deferred.Deferred<never, TransferError>
  readonly scope: Scope.Closeable
}

export interface Options {
  readonly open: Effect.Effect<TransportStream, TransportError>
  readonly retries?: number | undefined
  /** Hears of every time that the line was lost and is opened again. */
  readonly reconnecting: (message: string) => Effect.Effect<void>
}

export interface Line {
  /** Runs with a slot; again, on a new stream, when the line is lost meanwhile. */
  readonly use: <A, E>(run: (slot: Slot) => Effect.Effect<A, E, Scope.Scope>) => Effect.Effect<A, E | TransferError>
  /** Something arrived: the line is worth to be opened again. */
  readonly progress: () => void
}

const isLost = (error: unknown): error is TransferError => error instanceof TransferError && error.reason === "Lost"

/** Runs in the scope; its end gives the streams up at once. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const parent = yield* Effect.scope
  const mutex = yield* Semaphore.make(1)
  let current: Open | undefined
  let failures = 0
  let nextId = 0

  const read = Effect.fnUntraced(function* ({ lane, lost, slots }: Open) {
    const route = (frame: Frame) => {
      const slot = slots.get(frame.id)
      // Of a file that we have given up.
      return slot === undefined ? Effect.void : Effect.asVoid(Queue.offer(slot, frame))
    }
    const error = yield* Effect.flip(
      Effect.forever(Effect.flatMap(lane.receive, (frames) => Effect.forEach(frames, route, { discard: true })))
    )
    yield* Deferred.fail(lost, error)
    for (const slot of slots.values()) yield* Queue.fail(slot, error)
  })

  const connect = Effect.gen(function* () {
    const scope = yield* Scope.fork(parent)
    const opened = yield* Effect.gen(function* () {
      const stream = yield* Effect.acquireRelease(Effect.mapError(options.open, TransferLane.lost), (stream) =>
        Effect.andThen(stream.reset(StreamHeader.Code.Cancelled), stream.stop(StreamHeader.Code.Cancelled))
      )
      yield* Effect.mapError(stream.write(StreamHeader.files()), TransferLane.lost)
      const open: Open = {
        lane: yield* TransferLane.make(stream),
        slots: new Map(),
        lost: yield* Deferred.make<never, TransferError>(),
        scope
      }
      yield* Effect.forkIn(read(open), scope)
      return open
    }).pipe(
      Scope.provide(scope),
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
    return opened
  })

  /** The stream that works, or the first one that does. */
  const working: Effect.Effect<Open, TransferError> = Effect.suspend(() => {
    if (current !== undefined) return Effect.succeed(current)
    return Effect.matchEffect(connect, {
      onSuccess: (open) => {
        current = open
        return Effect.succeed(open)
      },
      onFailure: (error) => Effect.andThen(again(error), working)
    })
  })

  const again = Effect.fnUntraced(function* (error: TransferError) {
    failures++
    if (!isLost(error) || failures > (options.retries ?? RETRIES)) return yield* error
    yield* options.reconnecting(error.message)
    yield* Effect.sleep(PAUSE)
  })

  /** Whoever notices first puts the stream away. */
  const drop = Effect.fnUntraced(function* (open: Open, error: TransferError) {
    if (current !== open) return
    current = undefined
    // Who reads may not have noticed, and will not once the scope is closed.
    yield* Deferred.fail(open.lost, error)
    yield* Scope.close(open.scope, Exit.void)
    yield* again(error)
  })

  const once = <A, E>(open: Open, run: (slot: Slot) => Effect.Effect<A, E, Scope.Scope>) =>
    Effect.acquireUseRelease(
      Effect.gen(function* () {
        const id = nextId++
        const frames = yield* Queue.bounded<Frame, TransferError>(MAX_WAITING)
        open.slots.set(id, frames)
        return { id, frames }
      }),
      ({ frames, id }) =>
        Effect.raceFirst(
          Effect.scoped(run({ id, lane: open.lane, next: Queue.take(frames) })),
          Deferred.await(open.lost)
        ),
      ({ frames, id }, exit) =>
        Effect.gen(function* () {
          open.slots.delete(id)
          yield* Queue.shutdown(frames)
          // The server need not go on with what we do not want any more; it has no answer to wait for.
          if (Exit.isFailure(exit) && current === open) {
            const fail: Frame = { _tag: "Fail", id, reason: "Stopped", message: "" }
            yield* Effect.forkIn(Effect.ignore(open.lane.send(fail)), open.scope)
          }
        })
    )

  const use: Line["use"] = (run) =>
    Effect.flatMap(mutex.withPermit(working), (open) =>
      Effect.catchIf(once(open, run), isLost, (error) =>
        Effect.andThen(
          mutex.withPermit(drop(open, error)),
          Effect.suspend(() => use(run))
        )
      )
    )

  const line: Line = {
    use,
    progress: () => {
      failures = 0
    }
  }
  return line
})
