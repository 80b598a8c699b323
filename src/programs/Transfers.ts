/**
 * Files between this host and the server, many at a time over one bulk stream (docs/FILE_PROTOCOL.md). What is broken off goes on
 * where it was, in this run or another one; what arrives is believed only with its hash; what stands at the target
 * is replaced only by rule. One file that fails does not hold up the others.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { hex } from "../domain/protocol/Cursor.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import { FilesError } from "../domain/RemoteFile.ts"
import { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import { Crypto } from "../services/Crypto.ts"
import type { Event, Item, Options } from "./TransferEvent.ts"
import * as TransferLine from "./TransferLine.ts"
import * as TransferPlace from "./TransferPlace.ts"
import * as TransferReceiver from "./TransferReceiver.ts"
import * as TransferSender from "./TransferSender.ts"

/** Files on their way at a time, and those of them that are large or of unknown size. */
const FILES = 128
const LARGE = 4
/** Progress is told of after so many bytes or ms. */
const STRIDE_BYTES = 1024 * 1024
const STRIDE_MS = 100
/** A store that is busy is asked again. */
const BUSY = Schedule.max([Schedule.spaced("200 millis"), Schedule.recurs(50)])

type Failure = FilesError | TransferError

interface Context {
  readonly options: Options
  readonly primitives: Primitives
  readonly line: TransferLine.Line
  readonly batch: TransferReceiver.Batch
  readonly place: TransferPlace.Place
  readonly large: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly tell: (event: Event) => Effect.Effect<void>
}

/** Ends everything, not one file only. */
const isFatal = ({ reason }: Failure): boolean => reason === "Lost" || reason === "Protocol" || reason === "Stopped"

/** Tells of one file's progress now and then, and counts what went over the line. */
const meter = Effect.fnUntraced(function* ({ line, tell }: Context, { from, to }: Item) {
  let size = 0
  let moved = 0
  let bytes = 0
  let toldBytes = 0
  let toldAt = yield* Clock.currentTimeMillis
  return {
    moved: () => moved,
    /** Begins, or begins again, at an offset of so many bytes. */
    start: (offset: number, whole: number) => {
      size = whole
      bytes = offset
      toldBytes = offset
      return offset > 0 ? tell({ _tag: "Resuming", from, to, offset }) : Effect.void
    },
    add: Effect.fnUntraced(function* (length: number) {
      moved += length
      bytes += length
      line.progress()
      const now = yield* Clock.currentTimeMillis
      if (bytes - toldBytes < STRIDE_BYTES && now - toldAt < STRIDE_MS) return
      toldBytes = bytes
      toldAt = now
      yield* tell({ _tag: "Progress", from, to, bytes, size })
    })
  }
})

/** What the caller hears of a file that was dealt with. */
const settled = (
  { from, to }: Item,
  size: number,
  moved: number,
  outcome: TransferPlace.Settled<{ readonly path: string; readonly root: Uint8Array }>
): Event => {
  switch (outcome._tag) {
    case "Same":
      return { _tag: "Same", from, to, size }
    case "Skipped":
      return { _tag: "Skipped", from, to }
    case "Written": {
      const { path, root } = outcome.value
      return { _tag: "Done", from, to: path, size, root: hex(root), moved }
    }
  }
}

/** How a tree answers, as a place that may be taken. */
const orInTheWay = <A, R>(
  { options: { local } }: Context,
  path: string,
  write: Effect.Effect<A, Failure, R>
): Effect.Effect<TransferPlace.Outcome<A>, Failure, R> =>
  Effect.matchEffect(write, {
    onSuccess: (value) => Effect.succeed({ _tag: "Written", value }),
    onFailure: (error) =>
      error instanceof FilesError && error.reason === "Exists"
        ? Effect.map(local.stat(path), (target) => ({ _tag: "InTheWay", target }))
        : Effect.fail(error)
  })

const localRoot = ({ options: { local }, primitives }: Context, path: string) =>
  Effect.scoped(
    Effect.flatMap(local.open(path), (reader) => Effect.map(TransferSender.digest(primitives.hash, reader), hex))
  )

const getFile = Effect.fnUntraced(function* (context: Context, item: Item) {
  const { batch, line, options, place, primitives, tell } = context
  const { from, to } = item
  if (item.size !== undefined && item.mtimeMs !== undefined && options.checksum !== true) {
    const there = yield* Effect.option(options.local.stat(to))
    if (there._tag === "Some" && there.value.kind === "file") {
      const { mtimeMs, size } = there.value
      if (size === item.size && mtimeMs === item.mtimeMs) return yield* tell({ _tag: "Same", from, to, size })
    }
  }
  const measured = yield* meter(context, item)
  let isStarted = false
  const event = yield* line.use((slot) =>
    Effect.gen(function* () {
      yield* slot.lane.send({ _tag: "Want", id: slot.id, path: from })
      const file = yield* slot.next
      if (file._tag !== "File") return yield* TransferReceiver.unexpected(file)
      const { facts } = file
      const { size } = facts
      if (size === undefined) return yield* TransferReceiver.unexpected(file)
      const about = { mtimeMs: facts.mtimeMs, mode: facts.mode, parents: true }
      if (TransferFrame.isEager(facts)) {
        const { bytes, root } = yield* TransferReceiver.eager(primitives, from, size, slot.next)
        const isSame = Effect.map(localRoot(context, to), (other) => other === hex(root))
        const outcome = yield* place(item, facts, isSame, (conflict) =>
          orInTheWay(
            context,
            to,
            Effect.map(batch.write({ ...about, path: to, bytes, conflict }), ({ path }) => ({ path, root }))
          )
        )
        line.progress()
        return settled(item, size, bytes.length, outcome)
      }
      const { digest } = options
      const isSame =
        digest === undefined
          ? undefined
          : Effect.zipWith(localRoot(context, to), digest(from), (a, b) => a === b, { concurrent: true })
      const outcome = yield* place(item, facts, isSame, (conflict) =>
        orInTheWay(context, to, options.local.write(to, { ...about, size, conflict, fingerprint: facts.fingerprint }))
      )
      if (outcome._tag !== "Written") return settled(item, size, 0, outcome)
      const writer = outcome.value
      if (!isStarted) yield* tell({ _tag: "Started", from, to, size })
      isStarted = true
      yield* measured.start(writer.resumed, size)
      const { root, stat } = yield* TransferReceiver.blocks(
        slot.lane,
        primitives,
        slot.id,
        from,
        size,
        writer,
        slot.next,
        measured.add
      )
      return settled(item, size, measured.moved(), { _tag: "Written", value: { path: stat.path, root } })
    })
  )
  yield* tell(event)
})

/** What the server says in the end about a file that it was given. */
const answered = <A>(frame: TransferFrame.Frame, value: A) => {
  if (frame._tag === "Done")
    return Effect.succeed({ _tag: "Written" as const, value: { path: frame.path, root: value } })
  if (frame._tag !== "Conflict") return Effect.fail(TransferReceiver.unexpected(frame))
  return Effect.succeed({ _tag: "InTheWay" as const, target: frame })
}

const putFile = Effect.fnUntraced(function* (context: Context, item: Item) {
  const { line, options, place, primitives, tell } = context
  const { hash } = primitives
  const { from, to } = item
  const reader = yield* options.local.open(from)
  const facts = TransferSender.facts(reader)
  const { size } = reader
  const { digest } = options
  const isSame = (root: Effect.Effect<Uint8Array, Failure>) =>
    digest === undefined ? undefined : Effect.zipWith(root, digest(to), (a, b) => hex(a) === b, { concurrent: true })
  if (TransferFrame.isEager(facts)) {
    const { bytes, root } = yield* TransferSender.eager(hash, 0, reader)
    const outcome = yield* place(item, facts, isSame(Effect.succeed(root)), (conflict) =>
      line.use(({ id, lane, next }) =>
        Effect.gen(function* () {
          const put: TransferFrame.Frame = { _tag: "Put", id, facts, conflict, path: to }
          const end: TransferFrame.Frame = { _tag: "End", id, root }
          yield* bytes.length === 0 ? lane.send(put, end) : lane.send(put, { _tag: "Data", id, bytes }, end)
          return yield* answered(yield* next, root)
        })
      )
    )
    line.progress()
    return yield* tell(settled(item, size, bytes.length, outcome))
  }
  const measured = yield* meter(context, item)
  yield* tell({ _tag: "Started", from, to, size })
  const outcome = yield* place(item, facts, isSame(TransferSender.digest(hash, reader)), (conflict) =>
    line.use(({ id, lane, next }) =>
      Effect.gen(function* () {
        yield* lane.send({ _tag: "Put", id, facts, conflict, path: to })
        const accept = yield* next
        if (accept._tag !== "Accept") return yield* answered(accept, new Uint8Array(0))
        yield* measured.start(accept.offset, size)
        let root: Uint8Array | undefined
        const sending = Effect.map(TransferSender.blocks(lane, hash, id, reader, accept, measured.add), (it) => {
          root = it
        })
        // The server may give the file up at any time: its disk is full, say.
        const last = yield* Effect.raceFirst(Effect.andThen(sending, Effect.never), next)
        if (root === undefined && last._tag === "Done") return yield* TransferReceiver.unexpected(last)
        return yield* answered(last, root ?? new Uint8Array(0))
      })
    )
  )
  yield* tell(settled(item, size, measured.moved(), outcome))
}, Effect.scoped)

const getFolder = ({ options: { local }, tell }: Context, { to }: Item) =>
  Effect.andThen(local.mkdir(to, { parents: true }), tell({ _tag: "Folder", to }))

const putFolder = ({ line, tell }: Context, { to }: Item) =>
  line
    .use(({ id, lane, next }) =>
      Effect.gen(function* () {
        yield* lane.send({ _tag: "Folder", id, path: to })
        const done = yield* next
        if (done._tag !== "Done") return yield* TransferReceiver.unexpected(done)
      })
    )
    .pipe(Effect.andThen(tell({ _tag: "Folder", to })))

/** Deals with all items; the line is given up when whoever takes the events stops. */
const run = (
  options: Options,
  items: Stream.Stream<Item, TransferError>,
  file: (context: Context, item: Item) => Effect.Effect<void, Failure>,
  folder: (context: Context, item: Item) => Effect.Effect<void, Failure>
): Stream.Stream<Event, TransferError, Crypto> =>
  Stream.callback<Event, TransferError, Crypto>(
    Effect.fnUntraced(function* (queue) {
      const { primitives } = yield* Crypto
      const tell = (event: Event) => Effect.asVoid(Queue.offer(queue, event))
      const line = yield* TransferLine.make({
        open: options.open,
        retries: options.retries,
        reconnecting: (message) => tell({ _tag: "Reconnecting", message })
      })
      const large = yield* Semaphore.make(LARGE)
      const context: Context = {
        options,
        primitives,
        line,
        batch: yield* TransferReceiver.batch(options.local),
        place: yield* TransferPlace.make(options),
        large: large.withPermit,
        tell
      }
      const one = (item: Item): Effect.Effect<void, TransferError> => {
        if (item.kind === "folder") return failing(item, folder(context, item))
        const isSmall = item.size !== undefined && item.size <= TransferFrame.PIECE_LENGTH
        const whole = failing(item, file(context, item))
        return isSmall ? whole : context.large(whole)
      }
      const failing = ({ from, to }: Item, effect: Effect.Effect<void, Failure>) =>
        effect.pipe(
          Effect.retry({ schedule: BUSY, while: ({ reason }) => reason === "Busy" }),
          Effect.catch((error) =>
            error instanceof TransferError && isFatal(error)
              ? Effect.fail(error)
              : tell({ _tag: "Failed", from, to, reason: error.reason, message: error.message })
          )
        )
      yield* Stream.runDrain(Stream.mapEffect(items, one, { concurrency: FILES, unordered: true }))
      yield* Queue.end(queue)
    }),
    { bufferSize: 64, strategy: "suspend" }
  )

/** Brings files from the server. `options.local` is the folder that `Item.to` lies below. */
export const get = (options: Options, items: Stream.Stream<Item, TransferError>) =>
  run(options, items, getFile, getFolder)

/** Brings files to the server. `options.local` is the folder that `Item.from` lies below. */
export const put = (options: Options, items: Stream.Stream<Item, TransferError>) =>
  run(options, items, putFile, putFolder)
