/** Sends the bytes of files that are held open, whichever end asks for them. */
import * as Effect from "effect/Effect"
import * as BlockTree from "../domain/BlockTree.ts"
import { concat } from "../domain/protocol/Cursor.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import type { FilesError } from "../domain/RemoteFile.ts"
import { BLOCK_LENGTH } from "../domain/RemoteFile.ts"
import { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import type { Reader } from "../services/FileTree.ts"
import type { Lane } from "./TransferLane.ts"

type Hash = Primitives["hash"]

export const facts = (reader: Pick<Reader, "size" | "mtimeMs" | "mode" | "version">): TransferFrame.Facts => ({
  size: reader.size,
  mtimeMs: Math.max(0, reader.mtimeMs),
  mode: reader.mode,
  fingerprint: reader.version
})

export const shorter = (reader: Reader): TransferError =>
  new TransferError({
    reason: "Changed",
    message: `${JSON.stringify(reader.path)}: became shorter while it was read`,
    side: "here"
  })

/** All of a file of one piece at most; fails with `Changed` when it is not what was opened. */
export const whole = Effect.fnUntraced(function* (
  reader: Reader
): Effect.fn.Return<Uint8Array, FilesError | TransferError> {
  const bytes = reader.size === 0 ? new Uint8Array(0) : yield* reader.readAt(0, reader.size)
  if (bytes.length !== reader.size) return yield* shorter(reader)
  yield* reader.unchanged
  return bytes
})

/** The root of a file of one block at most. */
export const rootOf = (hash: Hash, bytes: Uint8Array): Uint8Array => {
  const tree = new BlockTree.BlockTree(hash)
  if (bytes.length > 0) tree.push(hash(bytes), bytes.length)
  return tree.root()
}

/** The frames behind a `File` or `Put` whose bytes are not waited for. */
export const eager = (id: number, bytes: Uint8Array, root: Uint8Array): ReadonlyArray<TransferFrame.Frame> => {
  const end: TransferFrame.Frame = { _tag: "End", id, root }
  return bytes.length === 0 ? [end] : [{ _tag: "Data", id, bytes }, end]
}

/** One block as its pieces, with its hash where it is a whole one. */
export const block = (id: number, bytes: Uint8Array, hash: Uint8Array): ReadonlyArray<TransferFrame.Frame> => {
  const frames: Array<TransferFrame.Frame> = []
  for (let at = 0; at < bytes.length; at += TransferFrame.PIECE_LENGTH) {
    frames.push({ _tag: "Data", id, bytes: bytes.subarray(at, at + TransferFrame.PIECE_LENGTH) })
  }
  if (bytes.length === BLOCK_LENGTH) frames.push({ _tag: "Block", id, hash })
  return frames
}

/** A tree that goes on where a receiver says that it is. */
export const resume = (hash: Hash, accept: { readonly offset: number; readonly state: Uint8Array }, size: number) => {
  const tree = BlockTree.resume(hash, accept.state)
  return tree === undefined || tree.length !== accept.offset || accept.offset > size
    ? Effect.fail(new TransferError({ reason: "Protocol", message: "the receiver asks for what no file has" }))
    : Effect.succeed(tree)
}

/**
 * Sends a file from where the receiver wants it, a block ahead of the line, and its end; `sent` hears of every block when the
 * line has taken it. Gives the root.
 */
export const blocks = Effect.fnUntraced(function* (
  lane: Lane,
  hash: Hash,
  id: number,
  reader: Reader,
  accept: { readonly offset: number; readonly state: Uint8Array },
  sent: (bytes: number) => Effect.Effect<void>
): Effect.fn.Return<Uint8Array, FilesError | TransferError> {
  const tree = yield* resume(hash, accept, reader.size)
  const read = (offset: number) =>
    offset < reader.size
      ? reader.readAt(offset, Math.min(BLOCK_LENGTH, reader.size - offset))
      : Effect.succeed(new Uint8Array(0))
  let offset = accept.offset
  let bytes = yield* read(offset)
  while (offset < reader.size) {
    if (bytes.length !== Math.min(BLOCK_LENGTH, reader.size - offset)) return yield* shorter(reader)
    const leaf = hash(bytes)
    tree.push(leaf, bytes.length)
    offset += bytes.length
    const here = bytes
    const pieces = block(id, here, leaf)
    const [next] = yield* Effect.all([read(offset), lane.send(...pieces)], { concurrency: 2 })
    bytes = next
    yield* sent(here.length)
  }
  yield* reader.unchanged
  const root = tree.root()
  yield* lane.send({ _tag: "End", id, root })
  return root
})

/** The root of a whole file. */
export const digest = Effect.fnUntraced(function* (hash: Hash, reader: Reader) {
  const tree = new BlockTree.BlockTree(hash)
  while (tree.length < reader.size) {
    const length = Math.min(BLOCK_LENGTH, reader.size - tree.length)
    const bytes = yield* reader.readAt(tree.length, length)
    if (bytes.length !== length) return yield* shorter(reader)
    tree.push(hash(bytes), length)
  }
  yield* reader.unchanged
  return tree.root()
})

/** Cuts a stream's pieces into blocks; what is left over is given at the end. */
export class Blocks {
  #parts: Array<Uint8Array> = []
  #length = 0

  /** The whole blocks that these bytes complete. */
  push(bytes: Uint8Array): ReadonlyArray<Uint8Array> {
    const whole: Array<Uint8Array> = []
    let rest = bytes
    while (this.#length + rest.length >= BLOCK_LENGTH) {
      const length = BLOCK_LENGTH - this.#length
      whole.push(concat(...this.#parts, rest.subarray(0, length)))
      this.#parts = []
      this.#length = 0
      rest = rest.subarray(length)
    }
    if (rest.length > 0) {
      this.#parts.push(rest)
      this.#length += rest.length
    }
    return whole
  }

  rest(): Uint8Array {
    return concat(...this.#parts)
  }
}
