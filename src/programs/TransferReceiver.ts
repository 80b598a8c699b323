/** Takes in the bytes of files, whichever end sends them, and believes none that does not fit its hash. */
import * as Effect from "effect/Effect"
import * as BlockTree from "../domain/BlockTree.ts"
import { concat } from "../domain/protocol/Cursor.ts"
import { HASH_LENGTH, type Primitives } from "../domain/protocol/Primitives.ts"
import type { FilesError, Stat } from "../domain/RemoteFile.ts"
import { BLOCK_LENGTH } from "../domain/RemoteFile.ts"
import { TransferError } from "../domain/TransferError.ts"
import type * as TransferFrame from "../domain/TransferFrame.ts"
import type { Reader, Writer } from "../services/FileTree.ts"
import * as TransferDelta from "./TransferDelta.ts"
import type { Lane } from "./TransferLane.ts"

type Primitive = Pick<Primitives, "hash" | "equal">
type Next = Effect.Effect<TransferFrame.Frame, TransferError>

export const damaged = (what: string): TransferError =>
  new TransferError({ reason: "Damaged", message: `${what}: what arrived does not fit its hash` })

export const unexpected = (frame: TransferFrame.Frame): TransferError =>
  frame._tag === "Fail"
    ? new TransferError({ reason: frame.reason, message: frame.message, side: "there" })
    : new TransferError({ reason: "Protocol", message: `the other end sent ${frame._tag} where it makes no sense` })

/** The bytes of a file of one piece at most, as they follow their `File` or `Put`. */
export const eager = Effect.fnUntraced(function* (
  { equal, hash }: Primitive,
  what: string,
  size: number,
  next: Next
): Effect.fn.Return<{ readonly bytes: Uint8Array; readonly root: Uint8Array }, TransferError> {
  let bytes: Uint8Array = new Uint8Array(0)
  let frame = yield* next
  if (size > 0) {
    if (frame._tag !== "Data") return yield* unexpected(frame)
    bytes = frame.bytes
    frame = yield* next
  }
  if (frame._tag !== "End") return yield* unexpected(frame)
  const tree = new BlockTree.BlockTree(hash)
  if (bytes.length > 0) tree.push(hash(bytes), bytes.length)
  const root = tree.root()
  if (bytes.length !== size || !equal(root, frame.root)) return yield* damaged(what)
  return { bytes, root }
})

/** What stands there already. */
export interface There {
  /** The file whose chunks the sender knows. */
  readonly old?: Reader | undefined
  /** Asked with the root before the commit: a file that makes it needless. */
  readonly twin?: (root: Uint8Array) => Effect.Effect<Stat | undefined>
}

/**
 * Asks for what a writer lacks, writes it and commits. `got` hears of every piece when it is written, and how much of it came
 * over the line. What is broken off stays for the next try, unless it was damaged or the source has changed.
 */
export const blocks = Effect.fnUntraced(
  function* (
    lane: Lane,
    { equal, hash }: Primitive,
    id: number,
    what: string,
    size: number | undefined,
    writer: Writer,
    next: Next,
    got: (bytes: number, moved: number) => Effect.Effect<void>,
    { old, twin }: There = {}
  ): Effect.fn.Return<{ readonly stat: Stat; readonly root: Uint8Array }, FilesError | TransferError> {
    const tree = new BlockTree.BlockTree(hash)
    /** Bytes of the old file that were read while somebody wrote to it are no fault of the sender. */
    const misfit = Effect.andThen(old?.unchanged ?? Effect.void, Effect.fail(damaged(what)))
    let known = 0
    /** Takes in the hashes of blocks that the writer has completed. */
    const grow = (): void => {
      const hashes = writer.blocks()
      for (; known * HASH_LENGTH < hashes.length; known++) {
        const length = Math.min(BLOCK_LENGTH, (size ?? Number.MAX_SAFE_INTEGER) - tree.length)
        tree.push(hashes.slice(known * HASH_LENGTH, (known + 1) * HASH_LENGTH), length)
      }
    }
    grow()
    yield* lane.send({ _tag: "Accept", id, offset: writer.resumed, state: tree.state() ?? new Uint8Array(0) })
    // Of a file whose length nobody knows, nobody but us knows which block is the last.
    let tail: Array<Uint8Array> = []
    let tailLength = 0
    while (true) {
      const frame = yield* next
      if (frame._tag === "Data" || frame._tag === "Copy") {
        const bytes = frame._tag === "Data" ? frame.bytes : yield* TransferDelta.copied(frame, old)
        yield* writer.append(bytes)
        grow()
        if (size === undefined) {
          tail.push(bytes)
          tailLength += bytes.length
          // Pieces end where blocks do.
          if (tailLength > BLOCK_LENGTH) return yield* damaged(what)
          if (writer.length() === tree.length) {
            tail = []
            tailLength = 0
          }
        }
        yield* got(bytes.length, frame._tag === "Data" ? bytes.length : 0)
      } else if (frame._tag === "Block") {
        const last = known === 0 ? undefined : writer.blocks().subarray((known - 1) * HASH_LENGTH, known * HASH_LENGTH)
        if (last === undefined || writer.length() % BLOCK_LENGTH !== 0 || !equal(last, frame.hash)) {
          return yield* misfit
        }
      } else if (frame._tag === "End") {
        if (tail.length > 0) {
          const bytes = concat(...tail)
          tree.push(hash(bytes), bytes.length)
        }
        const root = tree.root()
        if (tree.length !== writer.length() || !equal(root, frame.root)) return yield* misfit
        const there = twin === undefined ? undefined : yield* twin(root)
        if (there === undefined) return { stat: yield* writer.commit, root }
        yield* writer.abort
        return { stat: there, root }
      } else return yield* unexpected(frame)
    }
  },
  (effect, _lane, _primitives, _id, _what, _size, writer) =>
    Effect.tapError(effect, ({ reason }) =>
      reason === "Damaged" || reason === "Changed" || reason === "Protocol" ? writer.abort : Effect.void
    )
)
