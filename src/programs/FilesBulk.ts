/**
 * The server's end of a bulk stream (docs/FILE_PROTOCOL.md): sends the files that are wanted, takes in those that are put.
 * Several files are on their way at once, each in a fiber of its own, but for those of one piece (FilesSmall); what reads the
 * stream waits for the slowest disk, and so does the sender.
 */
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import * as Delta from "../domain/Delta.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import * as RemoteFile from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import type { FileTree } from "../services/FileTree.ts"
import type { TransportStream } from "../services/Transport.ts"
import * as FilesSmall from "./FilesSmall.ts"
import * as SmallFiles from "./SmallFiles.ts"
import type * as TransferClaims from "./TransferClaims.ts"
import * as TransferDelta from "./TransferDelta.ts"
import * as TransferLane from "./TransferLane.ts"
import * as TransferPlace from "./TransferPlace.ts"
import * as TransferReceiver from "./TransferReceiver.ts"
import * as TransferSender from "./TransferSender.ts"
import * as TransferTwin from "./TransferTwin.ts"

/** Files of one stream on their way at a time; a client that begins more is none of ours. */
export const MAX_FILES = 256
/** Of them, files that come in more than one piece; one more is told to try again. */
const MAX_LARGE = 16
/** Frames of one file that wait for its fiber; a file of one piece has no more than two. */
const MAX_WAITING = 8
const MAX_WAITING_SMALL = 2
/** Bytes of a large file that is sent: a block that goes, one that is read ahead, and what they are copied into. */
const SENDING = 3 * RemoteFile.BLOCK_LENGTH

/** The fiber of all small files; ids are no less than 0. */
const FEW = -1

type Frame = TransferFrame.Frame
type Put = FilesSmall.Put
type Want = FilesSmall.Want
type Failure = RemoteFile.FilesError | TransferError

/** What is done with a file: sent, taken in at once, or taken in by and by. */
type Kind = "want" | "small" | "large"

interface Going {
  readonly frames: Queue.Queue<Frame>
  readonly kind: Kind
  /** Bytes of its frames that are counted. */
  held: number
}

/** What a frame keeps in memory while it waits. */
const lengthOf = (frame: Frame): number =>
  frame._tag === "Data" ? frame.bytes.length : frame._tag === "Chunks" ? frame.list.length : 0

const isForSender = ({ _tag }: Frame): boolean => _tag === "Accept" || _tag === "Chunks"

const violation = (message: string) => new TransferError({ reason: "Protocol", message })
const busy = (message: string) => new TransferError({ reason: "Busy", message })

/** Serves one stream until it ends; fails with `Lost` at its end, or with `Protocol`. `claims` are those of one device. */
export const serve = Effect.fnUntraced(function* (
  tree: FileTree,
  primitives: Pick<Primitives, "hash" | "equal">,
  claims: TransferClaims.Claims,
  stream: Pick<TransportStream, "read" | "write">
): Effect.fn.Return<never, TransferError, Scope.Scope> {
  const lane = yield* TransferLane.make(stream)
  const { hash } = primitives
  const small = yield* SmallFiles.make(tree)
  const going = new Map<number, Going>()
  let large = 0
  const fibers = yield* FiberMap.make<number, void, TransferError>()

  const refuse = (id: number, error: Failure) =>
    error.reason === "Lost" || error.reason === "Idle"
      ? Effect.fail(error)
      : lane.send({ _tag: "Fail", id, reason: error.reason, message: error.message })

  /** A small file's bytes are in memory until they are written, others' only while they wait. */
  const nextOf = (file: Going): Next =>
    file.kind === "small"
      ? Queue.take(file.frames)
      : Effect.map(Queue.take(file.frames), (frame) => {
          const length = lengthOf(frame)
          file.held -= length
          claims.give(length)
          return frame
        })

  /** Why a file of this id cannot be begun. */
  const refusal = (id: number): TransferError | undefined => {
    if (going.has(id) || few.has(id)) return violation(`${id} names two files`)
    return going.size + few.count() >= MAX_FILES ? violation("too many files at once") : undefined
  }

  const begin = Effect.fnUntraced(function* (
    id: number,
    kind: Kind,
    run: (next: Next) => Effect.Effect<void, Failure>
  ) {
    const why = refusal(id)
    if (why !== undefined) return yield* why
    if (kind === "large" && large >= MAX_LARGE) {
      return yield* refuse(id, busy("too many large files at once; try again"))
    }
    const frames = yield* Queue.bounded<Frame>(kind === "small" ? MAX_WAITING_SMALL : MAX_WAITING)
    const file: Going = { frames, kind, held: 0 }
    going.set(id, file)
    if (kind === "large") large++
    const over = Effect.suspend(() => {
      going.delete(id)
      if (kind === "large") large--
      claims.give(file.held)
      // Lets go of who waits to hand in more.
      return Queue.shutdown(frames)
    })
    yield* FiberMap.run(
      fibers,
      id,
      Effect.ensuring(
        Effect.catch(run(nextOf(file)), (error) => refuse(id, error)),
        over
      )
    )
  })
  type Next = Effect.Effect<Frame>

  /** Room for what is sent, in the scope. */
  const holding = (length: number) =>
    Effect.acquireRelease(
      Effect.suspend(() =>
        claims.take(length) ? Effect.void : Effect.fail(busy("too many files at once; try again"))
      ),
      () => Effect.sync(() => claims.give(length))
    )

  const giveWhole = (id: number, file: Parameters<typeof TransferSender.facts>[0], bytes: Uint8Array) => {
    const head: Frame = { _tag: "File", id, facts: TransferSender.facts(file) }
    const frames = TransferSender.eager(id, bytes, TransferSender.rootOf(hash, bytes))
    return Effect.andThen(holding(bytes.length), lane.send(head, ...frames))
  }

  const give = Effect.fnUntraced(function* ({ id, path }: Want, next: Next) {
    const reader = yield* tree.open(path)
    // It became short this moment.
    if (TransferFrame.isEager(TransferSender.facts(reader))) {
      return yield* giveWhole(id, reader, yield* TransferSender.whole(reader))
    }
    yield* holding(SENDING)
    yield* lane.send({ _tag: "File", id, facts: TransferSender.facts(reader) })
    let kept = 0
    yield* Effect.addFinalizer(() => Effect.sync(() => claims.give(kept)))
    // Where there is no room for its list, who has an old file is sent the whole new one.
    const { frame: accept, table } = yield* TransferDelta.listen(next, () => {
      if (claims.take(TransferDelta.TABLE_BYTES)) kept = TransferDelta.TABLE_BYTES
      return kept > 0
    })
    if (accept._tag !== "Accept") return yield* TransferReceiver.unexpected(accept)
    const sent = () => Effect.void
    yield* table === undefined
      ? TransferSender.blocks(lane, hash, id, reader, accept, sent)
      : TransferDelta.blocks(lane, hash, id, reader, accept, table, sent)
  }, Effect.scoped)

  const twin = (path: string, sought: TransferTwin.Sought) => TransferTwin.find(tree, primitives, path, sought)

  const take = Effect.fnUntraced(function* ({ chunks, conflict, facts, id, path, root }: Put, next: Next) {
    const about = { mtimeMs: facts.mtimeMs, mode: facts.mode, conflict, parents: true }
    if (facts.size !== undefined && TransferFrame.isEager(facts)) {
      const { bytes, root } = yield* TransferReceiver.eager(primitives, path, facts.size, next)
      const there = conflict === "rename" ? yield* twin(path, { size: bytes.length, root }) : undefined
      if (there !== undefined) return there.path
      return (yield* small.write({ ...about, path, bytes })).path
    }
    const { fingerprint, mtimeMs, size } = facts
    const isBeside = conflict === "rename" && size !== undefined
    const receive = Effect.scoped(
      Effect.gen(function* () {
        const there = isBeside && root !== undefined ? yield* twin(path, { size, root }) : undefined
        if (there !== undefined) return there.path
        const writer = yield* tree.write(path, { ...about, size, ...(fingerprint === "" ? {} : { fingerprint }) })
        const old =
          chunks === true && size !== undefined && size - writer.resumed >= Delta.MIN_LENGTH
            ? yield* TransferDelta.old(tree, path, conflict, size)
            : undefined
        if (old !== undefined) {
          const offer = TransferDelta.offer(lane, hash, id, old)
          yield* Effect.scoped(Effect.andThen(holding(TransferDelta.offerBytes(old)), offer))
        }
        const got = () => Effect.void
        return (yield* TransferReceiver.blocks(lane, primitives, id, path, size, writer, next, got, {
          old,
          ...(isBeside ? { twin: (root: Uint8Array) => twin(path, { size, root, mtimeMs }) } : {})
        })).stat.path
      })
    )
    const parsed = RemotePath.parse(path)
    return yield* Result.isSuccess(parsed) ? claims.hold(RemotePath.format(parsed.success), receive) : receive
  })

  /** What stands in the way; what was said of it, if that is the version that was expected. */
  const inTheWay = Effect.fnUntraced(function* ({ conflict, id, path }: Put, error: Failure) {
    const { kind, mtimeMs, size, version } = yield* Effect.catchIf(
      tree.stat(path),
      ({ reason }) => reason === "NotFound",
      () => Effect.fail(error.reason === "Exists" ? TransferPlace.fleeting(path) : error)
    )
    if (typeof conflict === "object" && conflict.version === version) return yield* error
    const what = kind === "file" || kind === "folder" ? kind : "other"
    const frame: Frame = { _tag: "Conflict", id, kind: what, size, mtimeMs, version: version ?? "" }
    return frame
  })

  const few = yield* FilesSmall.make({
    tree,
    primitives,
    claims,
    lane,
    inTheWay,
    long: (want) => begin(want.id, "want", (next) => give(want, next))
  })
  yield* FiberMap.run(fibers, FEW, few.run)

  const handle = (frame: Frame): Effect.Effect<void, TransferError> => {
    const { id } = frame
    switch (frame._tag) {
      case "Want": {
        const why = refusal(id)
        if (why === undefined) few.want(frame)
        return why ?? Effect.void
      }
      case "Put": {
        // Whose name may become another is looked for under both.
        if (TransferFrame.isEager(frame.facts) && frame.conflict !== "rename") {
          const why = refusal(id)
          if (why === undefined) few.put(frame)
          return why ?? Effect.void
        }
        return begin(id, TransferFrame.isEager(frame.facts) ? "small" : "large", (next) =>
          take(frame, next).pipe(
            Effect.flatMap((path) => lane.send({ _tag: "Done", id, path })),
            Effect.catchIf(
              (error: Failure) => error instanceof RemoteFile.FilesError && FilesSmall.isTaken(frame, error),
              (error) => Effect.flatMap(inTheWay(frame, error), lane.send)
            )
          )
        )
      }
      case "Folder":
        return begin(id, "small", () =>
          Effect.flatMap(tree.mkdir(frame.path, { parents: true }), ({ path }) => lane.send({ _tag: "Done", id, path }))
        )
      case "Accept":
      case "Chunks":
      case "Data":
      case "Copy":
      case "Block":
      case "End":
      case "Fail": {
        const file = going.get(id)
        if (file === undefined && few.has(id)) return few.hear(frame) ?? Effect.void
        // It may have crossed with our own Fail.
        if (file === undefined) return Effect.void
        if (frame._tag === "Fail" && file.kind === "want") return FiberMap.remove(fibers, id)
        if (frame._tag !== "Fail" && isForSender(frame) !== (file.kind === "want")) {
          return Effect.fail(violation(`${frame._tag} makes no sense for ${id}`))
        }
        const length = lengthOf(frame)
        if (file.kind === "small" && file.held + length > TransferFrame.PIECE_LENGTH) {
          return Effect.fail(violation(`${id} is more than one piece`))
        }
        if (!claims.take(length)) return Effect.fail(violation("too much at once"))
        file.held += length
        return Effect.asVoid(Queue.offer(file.frames, frame))
      }
      default:
        return Effect.fail(violation(`${frame._tag} is not for a server`))
    }
  }

  const reading = Effect.forever(
    Effect.flatMap(lane.receive, (frames) => Effect.forEach(frames, handle, { discard: true }))
  )
  return yield* Effect.raceFirst(reading, Effect.andThen(FiberMap.join(fibers), Effect.never))
}, Effect.scoped)
