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
  /** What the stream speaks: the server may be older. */
  readonly version: number
  readonly lane: TransferLane.Lane
  /** What is said about this file next. */
  readonly next: Effect.Effect<Frame, TransferError>
  /** Marks what has to be done here first: meanwhile nobody waits for the server, even if `next` is asked. */
  readonly own: <A, E, R>(work: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

/** Many files' part of a stream. */
export interface Slots extends Pick<Slot, "lane" | "own"> {
  readonly ids: ReadonlyArray<number>
  /** What is said about these files next: all that has come. */
  readonly some: Effect.Effect<ReadonlyArray<Frame>, TransferError>
}

/** Frames of one file that wait to be taken in. */
const MAX_WAITING = 8
/** The same of a file of one piece: all of them. */
const MAX_WAITING_SMALL = 3
const RETRIES = 5
const PAUSE = "1 second"
/** Milliseconds that the server may be silent when it is its turn, and the looks at it meanwhile. */
export const IDLE_MS = 60_000
const LOOKS = 4

interface File {
  readonly frames: Queue.Queue<Frame, TransferError>
  /** Who waits for its next frame, and who has something to do first. */
  asking: number
  working: number
}

interface Open {
  readonly version: number
  readonly lane: TransferLane.Lane
  readonly slots: Map<number, File>
  readonly lost: Deferred.Deferred<never, TransferError>
  readonly scope: Scope.Closeable
  readonly signs: Signs
}

/** What the stream shows of the server. */
interface Signs {
  /** Grows whenever it sends something, or takes something. */
  seen: number
  /** Writes that it has not made room for. */
  writing: number
  /** What it sent last is not taken in yet. */
  isTaking: boolean
  /** It has given the stream up because there are too many. */
  isRefusing: boolean
}

/** A stream that notes the signs of life of its other end. */
const watched = (stream: TransportStream, signs: Signs): Pick<TransportStream, "read" | "write"> => ({
  read: Effect.map(stream.read, (chunks) => {
    signs.seen++
    return chunks
  }),
  write: (bytes) =>
    Effect.suspend(() => {
      signs.writing++
      return Effect.ensuring(
        stream.write(bytes),
        Effect.sync(() => {
          signs.writing--
          signs.seen++
        })
      )
    })
})

const isTheirTurn = ({ signs, slots }: Open): boolean => {
  if (signs.isTaking) return false
  if (signs.writing > 0) return true
  for (const { asking, working } of slots.values()) if (asking > 0 && working === 0) return true
  return false
}

const idle = (ms: number): TransferError =>
  new TransferError({
    reason: "Idle",
    message: `the server has been silent for ${ms / 1000} s: try again, or wait longer with --timeout SECONDS`
  })

export interface Options {
  readonly open: Effect.Effect<TransportStream, TransportError>
  readonly retries?: number | undefined
  /** What to speak, if the server does; else the first version. The first when absent. */
  readonly version?: number
  /** Milliseconds; 60,000. */
  readonly idleMs?: number | undefined
  /** Hears of every time that the line was lost and is opened again. */
  readonly reconnecting: (message: string) => Effect.Effect<void>
}

export interface Line {
  /** Runs with a slot; again, on a new stream, when the line is lost meanwhile. */
  readonly use: <A, E>(run: (slot: Slot) => Effect.Effect<A, E, Scope.Scope>) => Effect.Effect<A, E | TransferError>
  /** As `use`, for as many files of one piece. */
  readonly useMany: <A, E>(
    count: number,
    run: (slots: Slots) => Effect.Effect<A, E>
  ) => Effect.Effect<A, E | TransferError>
  /** Something arrived: the line is worth to be opened again. */
  readonly progress: () => void
}

const counted = <A, E, R>(file: File, what: "asking" | "working", effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    file[what]++
    return Effect.ensuring(
      effect,
      Effect.sync(() => {
        file[what]--
      })
    )
  })

/** What ends a line whose streams are all refused. It is no file's `Busy`: none of them goes on before another transfer ends. */
export const TOO_MANY = new TransferError({
  reason: "Busy",
  message: "this device has as many transfers under way as it may: try again when one of them is done"
})

const isLost = (error: unknown): error is TransferError =>
  error === TOO_MANY || (error instanceof TransferError && error.reason === "Lost")

/** Runs in the scope; its end gives the streams up at once. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const parent = yield* Effect.scope
  const mutex = yield* Semaphore.make(1)
  let current: Open | undefined
  let failures = 0
  let nextId = 0
  let version = options.version ?? StreamHeader.FILES_VERSION

  /** A server that does not speak the version gives the stream up; the next one is in the first version. */
  const refusable = (stream: TransportStream, signs: Signs): TransportStream => ({
    ...stream,
    read: Effect.tapError(stream.read, (error) =>
      Effect.sync(() => {
        const code = "code" in error ? error.code : undefined
        if (code === StreamHeader.Code.Unknown) version = StreamHeader.FILES_VERSION
        if (code === StreamHeader.Code.TooMany) signs.isRefusing = true
      })
    )
  })

  const read = ({ lane, signs, slots }: Open) => {
    const route = (frame: Frame) => {
      const file = slots.get(frame.id)
      // Of a file that we have given up.
      return file === undefined ? Effect.void : Effect.asVoid(Queue.offer(file.frames, frame))
    }
    const take = Effect.gen(function* () {
      const frames = yield* lane.receive
      signs.isTaking = true
      yield* Effect.forEach(frames, route, { discard: true })
      signs.isTaking = false
    })
    return Effect.flip(Effect.forever(take))
  }

  /** Ends when nothing came for so long. A host that slept counts as one look, however long that was. */
  const watch = Effect.fnUntraced(function* (open: Open) {
    const ms = options.idleMs ?? IDLE_MS
    let silent = 0
    let seen = -1
    while (silent < LOOKS) {
      yield* Effect.sleep(ms / LOOKS)
      silent = isTheirTurn(open) && open.signs.seen === seen ? silent + 1 : 0
      seen = open.signs.seen
    }
    return idle(ms)
  })

  const serve = Effect.fnUntraced(function* (open: Open) {
    const error = yield* Effect.raceFirst(read(open), watch(open))
    yield* Deferred.fail(open.lost, error)
    for (const { frames } of open.slots.values()) yield* Queue.fail(frames, error)
  })

  const connect = Effect.gen(function* () {
    const scope = yield* Scope.fork(parent)
    const opened = yield* Effect.gen(function* () {
      const stream = yield* Effect.acquireRelease(Effect.mapError(options.open, TransferLane.lost), (stream) =>
        Effect.andThen(stream.reset(StreamHeader.Code.Cancelled), stream.stop(StreamHeader.Code.Cancelled))
      )
      const spoken = version
      yield* Effect.mapError(stream.write(StreamHeader.files(spoken)), TransferLane.lost)
      const signs: Signs = { seen: 0, writing: 0, isTaking: false, isRefusing: false }
      const open: Open = {
        signs,
        version: spoken,
        lane: yield* TransferLane.make(watched(refusable(stream, signs), signs)),
        slots: new Map(),
        lost: yield* Deferred.make<never, TransferError>(),
        scope
      }
      yield* Effect.forkIn(serve(open), scope)
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
    if (error !== TOO_MANY) yield* options.reconnecting(error.message)
    yield* Effect.sleep(PAUSE)
  })

  /** Whoever notices first puts the stream away. */
  const drop = Effect.fnUntraced(function* (open: Open, error: TransferError) {
    if (current !== open) return
    current = undefined
    // Who reads may not have noticed, and will not once the scope is closed.
    yield* Deferred.fail(open.lost, error)
    yield* Scope.close(open.scope, Exit.void)
    yield* again(open.signs.isRefusing ? TOO_MANY : error)
  })

  const once = <A, E>(
    open: Open,
    count: number,
    run: (file: File, ids: ReadonlyArray<number>) => Effect.Effect<A, E, Scope.Scope>
  ) =>
    Effect.acquireUseRelease(
      Effect.gen(function* () {
        const ids = Array.from({ length: count }, () => nextId++)
        const frames = yield* Queue.bounded<Frame, TransferError>(count === 1 ? MAX_WAITING : MAX_WAITING_SMALL * count)
        const file: File = { frames, asking: 0, working: 0 }
        for (const id of ids) open.slots.set(id, file)
        return { ids, file, frames }
      }),
      ({ file, ids }) => Effect.raceFirst(Effect.scoped(run(file, ids)), Deferred.await(open.lost)),
      ({ frames, ids }, exit) =>
        Effect.gen(function* () {
          for (const id of ids) open.slots.delete(id)
          yield* Queue.shutdown(frames)
          // The server need not go on with what we do not want any more; it has no answer to wait for.
          if (Exit.isFailure(exit) && current === open) {
            const fails = ids.map((id): Frame => ({ _tag: "Fail", id, reason: "Stopped", message: "" }))
            yield* Effect.forkIn(Effect.ignore(open.lane.send(...fails)), open.scope)
          }
        })
    )

  const repeatedly = <A, E>(
    count: number,
    run: (open: Open, file: File, ids: ReadonlyArray<number>) => Effect.Effect<A, E, Scope.Scope>
  ): Effect.Effect<A, E | TransferError> =>
    Effect.flatMap(mutex.withPermit(working), (open) =>
      Effect.catchIf(
        once(open, count, (file, ids) => run(open, file, ids)),
        isLost,
        (error) =>
          Effect.andThen(
            mutex.withPermit(drop(open, error)),
            Effect.suspend(() => repeatedly(count, run))
          )
      )
    )

  const use: Line["use"] = (run) =>
    repeatedly(1, ({ lane, version }, file, [id = 0]) =>
      run({
        id,
        version,
        lane,
        next: counted(file, "asking", Queue.take(file.frames)),
        own: (work) => counted(file, "working", work)
      })
    )

  const useMany: Line["useMany"] = (count, run) =>
    repeatedly(count, ({ lane }, file, ids) =>
      run({
        ids,
        lane,
        some: counted(file, "asking", Queue.takeAll(file.frames)),
        own: (work) => counted(file, "working", work)
      })
    )

  const line: Line = {
    use,
    useMany,
    progress: () => {
      failures = 0
    }
  }
  return line
})
