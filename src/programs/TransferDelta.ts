/**
 * Files that take the place of older ones, of which only what changed crosses the line (docs/FILE_PROTOCOL.md, section 5). The
 * receiver offers the chunks of the old file, the sender copies what is in the list; blocks, hashes and going on after a
 * lost line are what they always are.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as BlockTree from "../domain/BlockTree.ts"
import * as Chunks from "../domain/Chunks.ts"
import * as Delta from "../domain/Delta.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import { BLOCK_LENGTH, FilesError } from "../domain/RemoteFile.ts"
import { TransferError } from "../domain/TransferError.ts"
import type { Conflict, Frame } from "../domain/TransferFrame.ts"
import type { FileTree, Reader } from "../services/FileTree.ts"
import type { Lane } from "./TransferLane.ts"
import * as TransferSender from "./TransferSender.ts"

type Hash = Primitives["hash"]

/** Chunks that are told of in one frame. */
const LISTED = 2048

/** Bytes that a list and the chunk under way take at most, where a file is sent by it. */
export const TABLE_BYTES = Delta.MAX_TABLE_BYTES + Chunks.maxLength(Chunks.MAX_BITS) + BLOCK_LENGTH

/** Bytes that listing the chunks of a file takes at most. */
export const offerBytes = ({ size }: Reader): number => Chunks.maxLength(Chunks.bitsFor(size)) + BLOCK_LENGTH

const violation = (message: string) => new TransferError({ reason: "Protocol", message })

/**
 * The file that a new one of `size` bytes takes the place of, held open, if it is the version that is to be replaced and
 * both are worth it. What cannot be read is no old file.
 */
export const old = (
  tree: Pick<FileTree, "open">,
  path: string,
  conflict: Conflict,
  size: number | undefined
): Effect.Effect<Reader | undefined, never, Scope.Scope> => {
  if (typeof conflict === "string" || size === undefined || size < Delta.MIN_LENGTH) return Effect.undefined
  return Effect.match(tree.open(path), {
    onFailure: () => undefined,
    onSuccess: (reader) => (reader.version === conflict.version && reader.size >= Delta.MIN_LENGTH ? reader : undefined)
  })
}

/** Tells the sender what an old file is made of: all of it, or as much as a list holds and can be read. */
export const offer = Effect.fnUntraced(
  function* (lane: Lane, hash: Hash, id: number, reader: Reader) {
    const bits = Chunks.bitsFor(reader.size)
    const scanner = new Chunks.Scanner(hash, bits)
    let waiting: Array<Chunks.Chunk> = []
    let count = 0
    const tell = Effect.suspend(() => {
      const list = Delta.encode(waiting)
      waiting = []
      return list.length > 0 ? lane.send({ _tag: "Chunks", id, bits, list }) : Effect.void
    })
    for (let at = 0; at < reader.size && count < Chunks.MAX_CHUNKS; ) {
      const bytes = yield* reader.readAt(at, Math.min(BLOCK_LENGTH, reader.size - at))
      at += bytes.length
      const last = at === reader.size
      const chunks = [...scanner.push(bytes), ...(last ? [scanner.end()] : [])]
      for (const chunk of chunks) {
        if (chunk === undefined || count >= Chunks.MAX_CHUNKS) continue
        waiting.push(chunk)
        count++
      }
      if (waiting.length >= LISTED) yield* tell
    }
    yield* tell
  },
  (effect) =>
    Effect.catchIf(
      effect,
      (error) => error instanceof FilesError,
      () => Effect.void
    )
)

/** Waits for what the receiver says first, and keeps the chunks that come before it if `keep`, asked once, has room for them. */
export const listen = Effect.fnUntraced(function* (
  next: Effect.Effect<Frame, TransferError>,
  keep: () => boolean = () => true
): Effect.fn.Return<{ readonly frame: Frame; readonly table: Delta.Table | undefined }, TransferError> {
  let table: Delta.Table | undefined
  let keeps: boolean | undefined
  let passed = 0
  while (true) {
    const frame = yield* next
    if (frame._tag !== "Chunks") return { frame, table }
    keeps ??= keep()
    if (keeps) table ??= Delta.Table.make(frame.bits)
    passed += frame.list.length
    // What is not kept is bounded too: no list is endless.
    const fits = keeps ? table?.bits === frame.bits && table.add(frame.list) : frame.list.length > 0
    if (!fits || passed > Chunks.MAX_CHUNKS * Delta.MAX_ENTRY_LENGTH) {
      return yield* violation("the receiver lists chunks that no file has")
    }
  }
})

/** The bytes that a `Copy` stands for. */
export const copied = (
  frame: Extract<Frame, { _tag: "Copy" }>,
  from: Reader | undefined
): Effect.Effect<Uint8Array, FilesError | TransferError> => {
  const { length, offset } = frame
  if (from === undefined || !Delta.isCopy(offset, length, from.size)) {
    return Effect.fail(violation("the sender copies what the old file does not have"))
  }
  return Effect.filterOrFail(
    from.readAt(offset, length),
    (bytes) => bytes.length === length,
    () => TransferSender.shorter(from)
  )
}

/** One try of a transfer. */
export interface Try {
  readonly isWanted: boolean
  /** Set once chunks were offered. */
  isUsed: boolean
}

/** Runs; once more, whole, where a delta came to what does not fit its hash: the old file rots, or ids were made to collide. */
export const orWhole = <A, E extends { readonly reason: string }, R>(
  wanted: Effect.Effect<boolean>,
  run: (delta: Try) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  Effect.flatMap(wanted, (isWanted) => {
    const delta: Try = { isWanted, isUsed: false }
    return Effect.catchIf(
      run(delta),
      ({ reason }) => delta.isUsed && reason === "Damaged",
      () => run({ isWanted: false, isUsed: false })
    )
  })

/**
 * As TransferSender.blocks, to a receiver that has the chunks of this table. `sent` hears of each block: its bytes, and
 * how many of them went over the line.
 */
export const blocks = Effect.fnUntraced(function* (
  lane: Lane,
  hash: Hash,
  id: number,
  reader: Reader,
  accept: { readonly offset: number; readonly state: Uint8Array },
  table: Delta.Table,
  sent: (bytes: number, moved: number) => Effect.Effect<void>
): Effect.fn.Return<Uint8Array, FilesError | TransferError> {
  const tree: BlockTree.BlockTree = yield* TransferSender.resume(hash, accept, reader.size)
  const cutter = new Delta.Cutter(hash, table, accept.offset)
  /** Blocks of which a chunk is not over yet. */
  let waiting: Array<Uint8Array> = []
  let offset = accept.offset
  while (offset < reader.size) {
    const length = Math.min(BLOCK_LENGTH, reader.size - offset)
    const bytes = yield* reader.readAt(offset, length)
    if (bytes.length !== length) return yield* TransferSender.shorter(reader)
    waiting.push(bytes)
    offset += length
    cutter.push(bytes)
    if (offset === reader.size) cutter.end()
    let done = 0
    for (const block of waiting) {
      const start = tree.length
      if (cutter.decided < start + block.length) break
      const leaf = hash(block)
      const pieces = cutter.pieces(id, start, block)
      tree.push(leaf, block.length)
      done++
      const whole: ReadonlyArray<Frame> = block.length === BLOCK_LENGTH ? [{ _tag: "Block", id, hash: leaf }] : []
      yield* lane.send(...pieces, ...whole)
      const moved = pieces.reduce((sum, piece) => sum + (piece._tag === "Data" ? piece.bytes.length : 0), 0)
      yield* sent(block.length, moved)
    }
    waiting = waiting.slice(done)
  }
  yield* reader.unchanged
  const root = tree.root()
  yield* lane.send({ _tag: "End", id, root })
  return root
})
