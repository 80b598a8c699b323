/** A client's folder and a server's tree in memory, with streams between them that a test can cut after any number of bytes. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { FilesError } from "../../src/domain/RemoteFile.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import { TransferError } from "../../src/domain/TransferError.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import { SeededRandom } from "../../src/layers/SeededRandom.ts"
import * as FilesBulk from "../../src/programs/FilesBulk.ts"
import { take } from "../../src/programs/StreamReader.ts"
import * as TransferClaims from "../../src/programs/TransferClaims.ts"
import type { Event, Item, Options } from "../../src/programs/TransferEvent.ts"
import * as TransferSender from "../../src/programs/TransferSender.ts"
import * as Transfers from "../../src/programs/Transfers.ts"
import type { FileTree } from "../../src/services/FileTree.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import { TransportError, type TransportStream } from "../../src/services/Transport.ts"

type Fault = TransportError | Cause.Done

const LOST_BY_RESET = { reason: "Reset", message: "the stream was given up" } as const
const LOST = new TransportError({ reason: "Closed", message: "the connection was lost" })

export interface Pair {
  readonly client: TransportStream
  readonly server: TransportStream
  readonly cut: Effect.Effect<void>
  /** Bytes that the two wrote. */
  readonly written: () => { readonly client: number; readonly server: number }
}

/** Two ends of one stream; pieces arrive cut anew. The line breaks when `budget` bytes have passed. */
export const pair = Effect.fnUntraced(function* (seed: number, budget = Number.POSITIVE_INFINITY) {
  const random = new SeededRandom(seed)
  const up = yield* Queue.bounded<Uint8Array, Fault>(16)
  const down = yield* Queue.bounded<Uint8Array, Fault>(16)
  const written = { client: 0, server: 0 }
  let isCut = false
  // Whoever hears of it first may end who cuts.
  const cut = Effect.uninterruptible(
    Effect.suspend(() => {
      isCut = true
      return Effect.andThen(Queue.fail(up, LOST), Effect.asVoid(Queue.fail(down, LOST)))
    })
  )
  // One write is never parted by another.
  const turn = { client: yield* Semaphore.make(1), server: yield* Semaphore.make(1) }
  const end = (who: "client" | "server", out: typeof up, into: typeof up): TransportStream => ({
    id: 0,
    read: Queue.takeAll(into),
    write: (bytes) =>
      Effect.gen(function* () {
        for (let at = 0; at < bytes.length && !isCut; ) {
          const piece = bytes.subarray(at, at + 1 + random.below(40_000))
          at += piece.length
          written[who] += piece.length
          if (written.client + written.server > budget) yield* cut
          else yield* Queue.offer(out, piece)
        }
        if (isCut) return yield* LOST
      }).pipe(turn[who].withPermit),
    finish: Effect.asVoid(Queue.end(out)),
    reset: (code) => Effect.asVoid(Queue.fail(out, new TransportError({ ...LOST_BY_RESET, code }))),
    stop: () => Effect.void,
    setPriority: () => Effect.void
  })
  const made: Pair = {
    client: end("client", up, down),
    server: end("server", down, up),
    cut,
    written: () => written
  }
  return made
})

/** The real server on one end; gives what it ended with. */
const serve = (
  tree: FileTree,
  { server }: Pair,
  claims = TransferClaims.make(),
  versions: number = StreamHeader.FILES_DELTAS
) =>
  Effect.gen(function* () {
    const { head, rest } = yield* take(server, 2)
    if (head[0] !== StreamHeader.FILES || !StreamHeader.servesFiles(head[1])) return yield* Effect.die("no header")
    if ((head[1] ?? 0) > versions) return yield* server.reset(StreamHeader.Code.Unknown)
    return yield* FilesBulk.serve(tree, CryptoNode.primitives, claims, rest)
  })

export interface World {
  readonly here: FileTree
  readonly there: FileTree
  /** Streams that were opened. */
  readonly pairs: Array<Pair>
  readonly options: (some?: Partial<Options>) => Options
  readonly get: (items: ReadonlyArray<Item>, some?: Partial<Options>) => Stream.Stream<Event, TransferError>
  readonly put: (items: ReadonlyArray<Item>, some?: Partial<Options>) => Stream.Stream<Event, TransferError>
}

type Nodes = Readonly<Record<string, MemoryNode>>

const unsteady = (tree: FileTree): FileTree => ({
  ...tree,
  readSmall: (paths) =>
    Effect.succeed(paths.map(() => Result.fail(new FilesError({ reason: "Changed", message: "it was written to" })))),
  open: (path) =>
    Effect.map(tree.open(path), (reader) => ({
      ...reader,
      unchanged: Effect.fail(new FilesError({ reason: "Changed", message: "it was written to" }))
    }))
})

/** `budgets`: bytes after which the n-th stream breaks. */
export const make = Effect.fnUntraced(function* (
  here: Nodes,
  there: Nodes,
  {
    budgets = [],
    changing = false,
    seed = 1,
    versions
  }: {
    /** The last one that the server speaks. */
    readonly versions?: number
    readonly budgets?: ReadonlyArray<number>
    readonly seed?: number
    /** What is read was written to meanwhile. */
    readonly changing?: boolean
  } = {}
) {
  const treeOf = (nodes: Nodes) => (changing ? unsteady(MemoryFileTree.make(nodes)) : MemoryFileTree.make(nodes))
  const local = treeOf(here)
  const remote = treeOf(there)
  const scope = yield* Effect.scope
  const pairs: Array<Pair> = []
  const claims = TransferClaims.make()
  const open = Effect.gen(function* () {
    const made = yield* pair(seed + pairs.length, budgets[pairs.length])
    pairs.push(made)
    yield* Effect.forkIn(Effect.ignore(serve(remote, made, claims, versions)), scope)
    return made.client
  })
  const digest = (path: string) =>
    Effect.scoped(
      Effect.flatMap(remote.open(path), (reader) => TransferSender.digest(CryptoNode.primitives.hash, reader))
    ).pipe(
      Effect.map((root) => Buffer.from(root).toString("hex")),
      Effect.mapError(({ message }) => new TransferError({ reason: "Io", message }))
    )
  const touch: Options["touch"] = (path, to) =>
    Effect.mapError(
      remote.touch(path, to),
      ({ message, reason }) => new TransferError({ reason, message, side: "there" })
    )
  const options: World["options"] = (some) => ({
    open,
    local,
    conflict: "skip",
    digest,
    touch,
    // Tests let time run as fast as it goes.
    idleMs: 1e9,
    ...some
  })
  const run =
    (which: typeof Transfers.get): World["get"] =>
    (items, some) =>
      Stream.provide(which(options(some), Stream.fromIterable(items)), CryptoNode.layer)
  const world: World = { here: local, there: remote, pairs, options, get: run(Transfers.get), put: run(Transfers.put) }
  return world
})

/** Bytes of a file that look like no other's. */
export const bytesOf = (seed: number, length: number): Uint8Array => {
  const out = new Uint8Array(length)
  let state = (seed * 2654435761 + 12345) >>> 0
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    out[i] = state >>> 24
  }
  return out
}

/** All of a file. */
export const contents = (tree: FileTree, path: string) =>
  Effect.scoped(
    Effect.gen(function* () {
      const reader = yield* tree.open(path)
      const parts: Array<Uint8Array> = []
      for (let at = 0; at < reader.size; ) {
        const part = yield* reader.readAt(at, Math.min(1024 * 1024, reader.size - at))
        parts.push(part)
        at += part.length
      }
      return new Uint8Array(Buffer.concat(parts))
    })
  )
