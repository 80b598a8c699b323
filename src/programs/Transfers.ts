/**
 * Files between this host and the server, many at a time over one bulk stream (docs/FILE_PROTOCOL.md). What is broken off goes on
 * where it was, in this run or another one; what arrives is believed only with its hash; what stands at the target
 * is replaced only by rule. One file that fails does not hold up the others.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import * as Delta from "../domain/Delta.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import { FilesError, type Stat } from "../domain/RemoteFile.ts"
import { MAX_PATH_LENGTH } from "../domain/RemotePath.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import { Crypto } from "../services/Crypto.ts"
import { parsePath } from "../services/FileTree.ts"
import * as SmallFiles from "./SmallFiles.ts"
import * as SmallTransfers from "./SmallTransfers.ts"
import * as TransferDelta from "./TransferDelta.ts"
import type { Event, Item, Options, Side } from "./TransferEvent.ts"
import * as TransferLine from "./TransferLine.ts"
import * as TransferMeter from "./TransferMeter.ts"
import * as TransferPlace from "./TransferPlace.ts"
import * as TransferReceiver from "./TransferReceiver.ts"
import * as TransferSender from "./TransferSender.ts"
import * as TransferTwin from "./TransferTwin.ts"

/** Files on their way at a time, and those of them that are large or of unknown size. */
const FILES = 128
const LARGE = 4
/** A store that is busy is asked again. */
const BUSY = Schedule.max([Schedule.spaced("200 millis"), Schedule.recurs(50)])

type Failure = FilesError | TransferError

interface Context {
  readonly options: Options
  readonly primitives: Primitives
  readonly line: TransferLine.Line
  readonly small: SmallFiles.SmallFiles
  readonly place: TransferPlace.Place["place"]
  readonly same: TransferPlace.Place["same"]
  readonly large: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly tell: (event: Event) => Effect.Effect<void>
}

/** Ends everything, not one file only. */
const isFatal = (error: Failure): boolean =>
  ["Lost", "Protocol", "Stopped", "Idle"].includes(error.reason) || error === TransferLine.TOO_MANY

/** What the caller hears of a file that was dealt with. */
const settled = (
  { from, to }: Item,
  size: number,
  moved: number,
  outcome: TransferPlace.Settled<{ readonly path: string; readonly root: Uint8Array }>
): Event => {
  switch (outcome._tag) {
    case "Same":
      return { ...outcome, from, to, size }
    case "Skipped":
      return { _tag: "Skipped", from, to }
    case "Written": {
      const { path, root } = outcome.value
      return { _tag: "Done", from, to: path, size, root: hex(root), moved }
    }
  }
}

const localDigest = ({ options: { local }, primitives }: Context, path: string) =>
  Effect.scoped(Effect.flatMap(local.open(path), (reader) => TransferSender.digest(primitives.hash, reader)))

/** Says that a large file is compared, which takes as long as both ends take to read it. */
const comparing = <E>(
  { tell }: Context,
  { from, to }: Item,
  size: number,
  isSame: Effect.Effect<boolean, E> | undefined
): Effect.Effect<boolean, E> | undefined =>
  isSame === undefined ? undefined : Effect.andThen(tell({ _tag: "Comparing", from, to, size }), isSame)

const localRoot = (context: Context, path: string) => Effect.map(localDigest(context, path), hex)

const NEVER = Effect.succeed(false)

const getFile = Effect.fnUntraced(function* (context: Context, item: Item) {
  const { line, options, place, primitives, same, small, tell } = context
  const { from, to } = item
  if (item.size !== undefined && item.mtimeMs !== undefined && item.isNew !== true && options.checksum !== true) {
    const there = yield* Effect.option(options.local.stat(to))
    if (there._tag === "Some" && there.value.kind === "file") {
      const { mtimeMs, size } = there.value
      if (size === item.size && mtimeMs === item.mtimeMs) {
        const outcome = yield* same(item, { mtimeMs, mode: item.mode ?? 0 }, there.value)
        return yield* tell(settled(item, size, 0, outcome))
      }
    }
  }
  const measured = yield* TransferMeter.make(context, item)
  let isStarted = false
  /** Placed here although the line was lost before anybody knew. */
  let placed: Stat | undefined
  const attempt = (delta: TransferDelta.Try) =>
    line.use((slot) =>
      Effect.gen(function* () {
        if (placed !== undefined) {
          const { path, size } = placed
          const root = yield* localDigest(context, path)
          return settled(item, size, measured.moved(), { _tag: "Written", value: { path, root } })
        }
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
          const write = Effect.fnUntraced(function* (conflict: TransferFrame.Conflict) {
            const sought = { size, root }
            const twin =
              conflict === "rename" ? yield* TransferTwin.find(options.local, primitives, to, sought) : undefined
            const { path } = twin ?? (yield* small.write({ ...about, path: to, bytes, conflict }))
            return { path, root }
          })
          const outcome = yield* place(item, facts, isSame, (conflict) =>
            TransferPlace.orInTheWay(options.local, to, write(conflict))
          )
          line.progress()
          return settled(item, size, bytes.length, outcome)
        }
        const { digest, local } = options
        // What nobody names is not gone on with.
        const named = facts.fingerprint === "" ? {} : { fingerprint: facts.fingerprint }
        let rule: TransferFrame.Conflict = "fail"
        const isSame =
          digest === undefined
            ? undefined
            : Effect.zipWith(localRoot(context, to), digest(from), (a, b) => a === b, { concurrent: true })
        const outcome = yield* place(item, facts, comparing(context, item, size, isSame), (conflict) => {
          rule = conflict
          return TransferPlace.orInTheWay(local, to, local.write(to, { ...about, size, conflict, ...named }))
        })
        if (outcome._tag !== "Written") {
          // The server holds it open until it hears what becomes of it.
          yield* slot.lane.send({ _tag: "Fail", id: slot.id, reason: "Stopped", message: "" })
          return settled(item, size, 0, outcome)
        }
        const writer = {
          ...outcome.value,
          // Whoever notices that the line is lost waits for it.
          commit: Effect.uninterruptible(
            Effect.tap(outcome.value.commit, (stat) =>
              Effect.sync(() => {
                placed = stat
              })
            )
          )
        }
        if (!isStarted) yield* tell({ _tag: "Started", from, to, size })
        isStarted = true
        yield* measured.start(writer.resumed, size)
        const isLong = slot.version >= StreamHeader.FILES_DELTAS && size - writer.resumed >= Delta.MIN_LENGTH
        const old = delta.isWanted && isLong ? yield* TransferDelta.old(local, to, rule, size) : undefined
        if (old !== undefined) {
          delta.isUsed = true
          yield* TransferDelta.offer(slot.lane, primitives.hash, slot.id, old)
        }
        const { root, stat } = yield* TransferReceiver.blocks(
          slot.lane,
          primitives,
          slot.id,
          from,
          size,
          writer,
          slot.next,
          measured.add,
          { old }
        )
        return settled(item, size, measured.moved(), { _tag: "Written", value: { path: stat.path, root } })
      })
    )
  const isLarge = item.size === undefined || item.size >= Delta.MIN_LENGTH
  yield* tell(yield* TransferDelta.orWhole(isLarge ? (options.delta ?? NEVER) : NEVER, attempt))
})

/** What the server says in the end about a file that it was given. */
const answered = (
  frame: TransferFrame.Frame,
  root: Uint8Array
): Effect.Effect<TransferPlace.Outcome<{ readonly path: string; readonly root: Uint8Array }>, TransferError> => {
  if (frame._tag === "Done") return Effect.succeed({ _tag: "Written", value: { path: frame.path, root } })
  if (frame._tag !== "Conflict") return Effect.fail(TransferReceiver.unexpected(frame))
  return Effect.succeed({ _tag: "InTheWay", target: frame })
}

/** Whether the server's file has this root, where that can be asked. */
const isSameThere = ({ options: { digest } }: Context, { to }: Item, root: Effect.Effect<Uint8Array, Failure>) =>
  digest === undefined ? undefined : Effect.zipWith(root, digest(to), (a, b) => hex(a) === b, { concurrent: true })

/** A file of one piece, which is in memory. */
const putWhole = Effect.fnUntraced(function* (
  context: Context,
  item: Item,
  facts: TransferFrame.Facts,
  bytes: Uint8Array
) {
  const { line, place, primitives, tell } = context
  const root = TransferSender.rootOf(primitives.hash, bytes)
  const outcome = yield* place(item, facts, isSameThere(context, item, Effect.succeed(root)), (conflict) =>
    line.use(({ id, lane, next }) => {
      const put: TransferFrame.Frame = { _tag: "Put", id, facts, conflict, path: item.to }
      return lane.send(put, ...TransferSender.eager(id, bytes, root)).pipe(
        Effect.andThen(next),
        Effect.flatMap((answer) => answered(answer, root))
      )
    })
  )
  line.progress()
  yield* tell(settled(item, bytes.length, bytes.length, outcome))
})

const isSmall = ({ size }: Item): boolean => size !== undefined && size <= TransferFrame.PIECE_LENGTH

const putFile = (context: Context, item: Item) =>
  isSmall(item)
    ? Effect.flatMap(context.small.read(item.from), (found) =>
        found.bytes === undefined
          ? putLarge(context, item)
          : putWhole(context, item, TransferSender.facts(found), found.bytes)
      )
    : putLarge(context, item)

/** A file of any length. */
const putLarge = Effect.fnUntraced(function* (context: Context, item: Item) {
  const { line, options, place, primitives, tell } = context
  const { hash } = primitives
  const { from, to } = item
  const reader = yield* options.local.open(from)
  const facts = TransferSender.facts(reader)
  const { size } = reader
  if (TransferFrame.isEager(facts)) {
    return yield* putWhole(context, item, facts, yield* TransferSender.whole(reader))
  }
  const measured = yield* TransferMeter.make(context, item)
  yield* tell({ _tag: "Started", from, to, size })
  /** Of what was sent whole, although nobody may have heard what became of it. */
  let whole: Uint8Array | undefined
  const attempt = (conflict: TransferFrame.Conflict) => (delta: TransferDelta.Try) =>
    line.use(({ id, lane, next, own, version }) =>
      Effect.gen(function* () {
        const isNew = version >= StreamHeader.FILES_DELTAS
        const put: TransferFrame.Frame = { _tag: "Put", id, facts, conflict, path: to }
        if (isNew && delta.isWanted) yield* lane.send({ ...put, chunks: true })
        else if (isNew && conflict === "rename" && whole !== undefined) yield* lane.send({ ...put, root: whole })
        else yield* lane.send(put)
        const { frame: accept, table } = yield* TransferDelta.listen(next)
        delta.isUsed = table !== undefined
        if (accept._tag === "Done" && whole === undefined) return yield* TransferReceiver.unexpected(accept)
        if (accept._tag !== "Accept") return yield* answered(accept, whole ?? new Uint8Array(0))
        yield* measured.start(accept.offset, size)
        let root: Uint8Array | undefined
        let changed: Failure | undefined
        const sent =
          table === undefined
            ? TransferSender.blocks(lane, hash, id, reader, accept, measured.add)
            : TransferDelta.blocks(lane, hash, id, reader, accept, table, measured.add)
        const sending = Effect.matchEffect(sent, {
          onSuccess: (it) =>
            Effect.sync(() => {
              root = it
              whole = it
            }),
          onFailure: (error) => {
            if (error.reason !== "Changed") return Effect.fail(error)
            // The server hears why, and that nobody can go on with what it has; its answer is waited for as any other.
            changed = error
            return lane.send({ _tag: "Fail", id, reason: "Changed", message: error.message })
          }
        })
        // The server may give the file up at any time: its disk is full, say.
        const last = yield* Effect.raceFirst(Effect.andThen(own(sending), Effect.never), next)
        if (changed !== undefined) return yield* changed
        if (root === undefined && last._tag === "Done") return yield* TransferReceiver.unexpected(last)
        return yield* answered(last, root ?? new Uint8Array(0))
      })
    )
  const outcome = yield* place(
    item,
    facts,
    comparing(context, item, size, isSameThere(context, item, TransferSender.digest(hash, reader))),
    (conflict) => {
      const isDelta = typeof conflict === "object" && size >= Delta.MIN_LENGTH
      return TransferDelta.orWhole(isDelta ? (options.delta ?? NEVER) : NEVER, attempt(conflict))
    }
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

/** A path that no frame can carry would cost all files their stream. */
const sayable = ({ from, to }: Item): Effect.Effect<unknown, TransferError> =>
  Math.max(from.length, to.length) * 3 <= MAX_PATH_LENGTH
    ? Effect.void
    : Effect.mapError(
        Effect.andThen(parsePath(from), parsePath(to)),
        ({ message, reason }) => new TransferError({ reason, message })
      )

/** Which side's file it was, where it was one's. */
const sideOf = (error: Failure): { readonly side?: Side } => {
  if (error instanceof FilesError) return { side: "here" }
  return error.side === undefined ? {} : { side: error.side === "here" ? "here" : "server" }
}

/** Deals with all items; the line is given up when whoever takes the events stops. */
const run = (
  options: Options,
  items: Stream.Stream<Item, TransferError>,
  /** Where the files are written. */
  side: Side,
  /** What goes by the bundle, and how. */
  isPlain: (item: Item) => boolean,
  bundle: SmallTransfers.Bundled,
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
        version: StreamHeader.FILES_DELTAS,
        idleMs: options.idleMs,
        reconnecting: (message) => tell({ _tag: "Reconnecting", message })
      })
      const large = yield* Semaphore.make(LARGE)
      const context: Context = {
        options,
        primitives,
        line,
        small: yield* SmallFiles.make(options.local),
        ...(yield* TransferPlace.make(options, side)),
        large: large.withPermit,
        tell
      }
      const one = (item: Item): Effect.Effect<void, TransferError> => {
        if (item.kind === "folder") return failing(item, folder(context, item))
        const whole = failing(item, file(context, item))
        return isSmall(item) ? whole : context.large(whole)
      }
      const failing = (item: Item, effect: Effect.Effect<void, Failure>) =>
        Effect.andThen(sayable(item), effect).pipe(
          Effect.retry({ schedule: BUSY, while: (error) => error.reason === "Busy" && !isFatal(error) }),
          Effect.catch((error) =>
            error instanceof TransferError && isFatal(error)
              ? Effect.fail(error)
              : tell({
                  _tag: "Failed",
                  from: item.from,
                  to: item.to,
                  reason: error.reason,
                  message: error.message,
                  ...sideOf(error)
                })
          )
        )
      const going = yield* Semaphore.make(FILES)
      const bundled = { local: options.local, primitives, line, tell }
      const some = (items: ReadonlyArray<Item>): Effect.Effect<void, TransferError> => {
        const [only] = items
        const work =
          items.length === 1 && only !== undefined
            ? one(only)
            : Effect.flatMap(bundle(bundled, items), Effect.forEach(one, { concurrency: "unbounded", discard: true }))
        return going.withPermits(items.length)(work)
      }
      const bundles = SmallTransfers.bundles(items, isPlain)
      yield* Stream.runDrain(Stream.mapEffect(bundles, some, { concurrency: FILES, unordered: true }))
      yield* Queue.end(queue)
    }),
    { bufferSize: 64, strategy: "suspend" }
  )

/** Brings files from the server. `options.local` is the folder that `Item.to` lies below. */
export const get = (options: Options, items: Stream.Stream<Item, TransferError>) =>
  run(
    { ...options, touch: options.local.touch },
    items,
    "here",
    ({ isNew }) => isNew === true,
    SmallTransfers.get,
    getFile,
    getFolder
  )

/** Brings files to the server. `options.local` is the folder that `Item.from` lies below. */
export const put = (options: Options, items: Stream.Stream<Item, TransferError>) =>
  run(options, items, "server", ({ isNew }) => isNew !== false, SmallTransfers.put, putFile, putFolder)
