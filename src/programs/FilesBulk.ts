/**
 * The server's end of a bulk stream (docs/FILE_PROTOCOL.md): sends the files that are wanted, takes in those that are put.
 * Several files are on their way at once, each in a fiber of its own; what reads the stream waits for the slowest disk, and
 * so does the sender.
 */
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import * as RemoteFile from "../domain/RemoteFile.ts"
import * as RemotePath from "../domain/RemotePath.ts"
import { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import type { FileTree } from "../services/FileTree.ts"
import type { TransportStream } from "../services/Transport.ts"
import type * as TransferClaims from "./TransferClaims.ts"
import * as TransferLane from "./TransferLane.ts"
import * as TransferReceiver from "./TransferReceiver.ts"
import * as TransferSender from "./TransferSender.ts"

/** Files of one stream on their way at a time; a client that begins more is none of ours. */
export const MAX_FILES = 256
/** Of them, files that come in more than one piece; one more is told to try again. */
const MAX_LARGE = 16
/** Frames of one file that wait for its fiber; a file of one piece has no more than two. */
const MAX_WAITING = 8
const MAX_WAITING_SMALL = 2

type Frame = TransferFrame.Frame
type Put = Extract<Frame, { _tag: "Put" }>
type Want = Extract<Frame, { _tag: "Want" }>
type Failure = RemoteFile.FilesError | TransferError

/** What is done with a file: sent, taken in at once, or taken in by and by. */
type Kind = "want" | "small" | "large"

interface Going {
  readonly frames: Queue.Queue<Frame>
  readonly kind: Kind
}

const violation = (message: string) => new TransferError({ reason: "Protocol", message })

/** Serves one stream until it ends; fails with `Lost` at its end, or with `Protocol`. `claims` are those of one device. */
export const serve = Effect.fnUntraced(function* (
  tree: FileTree,
  primitives: Pick<Primitives, "hash" | "equal">,
  claims: TransferClaims.Claims,
  stream: Pick<TransportStream, "read" | "write">
): Effect.fn.Return<never, TransferError, Scope.Scope> {
  const lane = yield* TransferLane.make(stream)
  const { hash } = primitives
  const batch = yield* TransferReceiver.batch(tree)
  const going = new Map<number, Going>()
  let large = 0
  const fibers = yield* FiberMap.make<number, void, TransferError>()

  const refuse = (id: number, error: Failure) =>
    error.reason === "Lost"
      ? Effect.fail(error)
      : lane.send({ _tag: "Fail", id, reason: error.reason, message: error.message })

  const begin = Effect.fnUntraced(function* (
    id: number,
    kind: Kind,
    run: (next: Next) => Effect.Effect<void, Failure>
  ) {
    if (going.has(id)) return yield* violation(`${id} names two files`)
    if (going.size >= MAX_FILES) return yield* violation("too many files at once")
    if (kind === "large" && large >= MAX_LARGE) {
      return yield* refuse(
        id,
        new TransferError({ reason: "Busy", message: "too many large files at once; try again" })
      )
    }
    const frames = yield* Queue.bounded<Frame>(kind === "small" ? MAX_WAITING_SMALL : MAX_WAITING)
    going.set(id, { frames, kind })
    if (kind === "large") large++
    const over = Effect.suspend(() => {
      going.delete(id)
      if (kind === "large") large--
      // Lets go of who waits to hand in more.
      return Queue.shutdown(frames)
    })
    yield* FiberMap.run(
      fibers,
      id,
      Effect.ensuring(
        Effect.catch(run(Queue.take(frames)), (error) => refuse(id, error)),
        over
      )
    )
  })
  type Next = Effect.Effect<Frame>

  const give = Effect.fnUntraced(function* ({ id, path }: Want, next: Next) {
    const reader = yield* tree.open(path)
    const facts = TransferSender.facts(reader)
    const file: Frame = { _tag: "File", id, facts }
    if (TransferFrame.isEager(facts)) {
      const { frames } = yield* TransferSender.eager(hash, id, reader)
      return yield* lane.send(file, ...frames)
    }
    yield* lane.send(file)
    const accept = yield* next
    if (accept._tag !== "Accept") return yield* TransferReceiver.unexpected(accept)
    yield* TransferSender.blocks(lane, hash, id, reader, accept, () => Effect.void)
  }, Effect.scoped)

  const take = Effect.fnUntraced(function* ({ conflict, facts, id, path }: Put, next: Next) {
    const about = { mtimeMs: facts.mtimeMs, mode: facts.mode, conflict, parents: true }
    if (facts.size !== undefined && TransferFrame.isEager(facts)) {
      const { bytes } = yield* TransferReceiver.eager(primitives, path, facts.size, next)
      return (yield* batch.write({ ...about, path, bytes })).path
    }
    const { fingerprint, size } = facts
    const receive = Effect.scoped(
      Effect.gen(function* () {
        const writer = yield* tree.write(path, { ...about, size, ...(fingerprint === "" ? {} : { fingerprint }) })
        const got = () => Effect.void
        return (yield* TransferReceiver.blocks(lane, primitives, id, path, size, writer, next, got)).stat.path
      })
    )
    const parsed = RemotePath.parse(path)
    return yield* Result.isSuccess(parsed) ? claims.hold(RemotePath.format(parsed.success), receive) : receive
  })

  /** What stands in the way. */
  const inTheWay = Effect.fnUntraced(function* ({ id, path }: Put) {
    const { kind, mtimeMs, size, version } = yield* tree.stat(path)
    yield* lane.send({
      _tag: "Conflict",
      id,
      kind: kind === "file" || kind === "folder" ? kind : "other",
      size,
      mtimeMs,
      version: version ?? ""
    })
  })

  const handle = (frame: Frame): Effect.Effect<void, TransferError> => {
    const { id } = frame
    switch (frame._tag) {
      case "Want":
        return begin(id, "want", (next) => give(frame, next))
      case "Put":
        return begin(id, TransferFrame.isEager(frame.facts) ? "small" : "large", (next) =>
          take(frame, next).pipe(
            Effect.flatMap((path) => lane.send({ _tag: "Done", id, path })),
            Effect.catchIf(
              (error: Failure) => error instanceof RemoteFile.FilesError && error.reason === "Exists",
              () => inTheWay(frame)
            )
          )
        )
      case "Folder":
        return begin(id, "small", () =>
          Effect.flatMap(tree.mkdir(frame.path, { parents: true }), ({ path }) => lane.send({ _tag: "Done", id, path }))
        )
      case "Accept":
      case "Data":
      case "Block":
      case "End":
      case "Fail": {
        const file = going.get(id)
        // It may have crossed with our own Fail.
        if (file === undefined) return Effect.void
        if (frame._tag === "Fail" && file.kind === "want") return FiberMap.remove(fibers, id)
        if (frame._tag !== "Fail" && (frame._tag === "Accept") !== (file.kind === "want")) {
          return Effect.fail(violation(`${frame._tag} makes no sense for ${id}`))
        }
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
