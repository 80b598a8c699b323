/**
 * Small files by the bundle: one fiber asks for dozens of them, or offers them, and hears what becomes of each. What goes
 * otherwise than it does nearly always, a name that is taken or a file that has grown, is left for the long way, which
 * begins with it anew.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { hex } from "../domain/protocol/Cursor.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import type { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import type { FileTree, SmallFile } from "../services/FileTree.ts"
import type { Event, Item } from "./TransferEvent.ts"
import type * as TransferLine from "./TransferLine.ts"
import * as TransferSender from "./TransferSender.ts"

/** Files of a bundle, and their bytes. */
export const BUNDLE_FILES = 64
const BUNDLE_LENGTH = 1024 * 1024
/** Characters of a path that are surely fewer bytes than a frame holds. */
const PLAIN_PATH = 1024

export interface Context {
  readonly local: Pick<FileTree, "readSmall" | "writeSmall">
  readonly primitives: Pick<Primitives, "hash" | "equal">
  readonly line: TransferLine.Line
  readonly tell: (event: Event) => Effect.Effect<void>
}

/** Deals with a bundle; gives what is left of it. */
export type Bundled = (
  context: Context,
  items: ReadonlyArray<Item>
) => Effect.Effect<ReadonlyArray<Item>, TransferError>

const isSmall = ({ from, kind, size, to }: Item): boolean =>
  kind !== "folder" &&
  size !== undefined &&
  size <= TransferFrame.PIECE_LENGTH &&
  Math.max(from.length, to.length) <= PLAIN_PATH

/** Bundles of small files, and everything else one by one. Nothing waits for a bundle to become full. */
export const bundles = <E, R>(
  items: Stream.Stream<Item, E, R>,
  fits: (item: Item) => boolean
): Stream.Stream<ReadonlyArray<Item>, E, R> =>
  Stream.mapArray(items, (some) => {
    const all: Array<ReadonlyArray<Item>> = []
    let bundle: Array<Item> = []
    let length = 0
    for (const item of some) {
      if (!isSmall(item) || !fits(item)) {
        all.push([item])
        continue
      }
      const size = item.size ?? 0
      if (bundle.length >= BUNDLE_FILES || length + size > BUNDLE_LENGTH) {
        all.push(bundle)
        bundle = []
        length = 0
      }
      bundle.push(item)
      length += size
    }
    if (bundle.length > 0) all.push(bundle)
    const [first = [], ...rest] = all
    return [first, ...rest]
  })

interface Offered {
  readonly item: Item
  readonly facts: TransferFrame.Facts
  readonly bytes: Uint8Array
  readonly root: Uint8Array
}

/** Offers files with all their bytes. */
export const put: Bundled = Effect.fnUntraced(function* ({ line, local, primitives, tell }, items) {
  const left: Array<Item> = []
  const offered = new Set<Offered>()
  const found = yield* local.readSmall(
    items.map(({ from }) => from),
    TransferFrame.PIECE_LENGTH
  )
  for (const [i, item] of items.entries()) {
    const file = found[i]
    const bytes = file !== undefined && Result.isSuccess(file) ? file.success.bytes : undefined
    if (file === undefined || Result.isFailure(file) || bytes === undefined) left.push(item)
    else {
      const root = TransferSender.rootOf(primitives.hash, bytes)
      offered.add({ item, facts: TransferSender.facts(file.success), bytes, root })
    }
  }
  const offer = Effect.fnUntraced(function* ({ ids, lane, some }: TransferLine.Slots) {
    const going = new Map<number, Offered>()
    const frames: Array<TransferFrame.Frame> = []
    let next = 0
    for (const each of offered) {
      const id = ids[next++]
      if (id === undefined) break
      const { bytes, facts, item, root } = each
      going.set(id, each)
      frames.push({ _tag: "Put", id, facts, conflict: "fail", path: item.to })
      frames.push(...TransferSender.eager(id, bytes, root))
    }
    yield* lane.send(...frames)
    while (going.size > 0) {
      for (const frame of yield* some) {
        const each = going.get(frame.id)
        if (each === undefined) continue
        going.delete(frame.id)
        offered.delete(each)
        const { bytes, item, root } = each
        if (frame._tag !== "Done") {
          left.push(item)
          continue
        }
        line.progress()
        const size = bytes.length
        yield* tell({ _tag: "Done", from: item.from, to: frame.path, size, root: hex(root), moved: size })
      }
    }
  })
  if (offered.size > 0) yield* line.useMany(offered.size, offer)
  return left
})

interface Asked {
  readonly item: Item
  facts: TransferFrame.Facts | undefined
  bytes: Uint8Array
}

interface Arrived {
  readonly item: Item
  readonly file: SmallFile
  readonly root: Uint8Array
}

const NOTHING = new Uint8Array(0)

/** Asks for files and writes them together, where nothing stands. */
export const get: Bundled = Effect.fnUntraced(function* ({ line, local, primitives, tell }, items) {
  const { equal, hash } = primitives
  const left: Array<Item> = []
  const wanted = new Set(items)
  const arrived: Array<Arrived> = []
  /** Takes in what is said about a file; true when that was all. */
  const hear = (asked: Asked, frame: TransferFrame.Frame): boolean => {
    const { bytes, facts, item } = asked
    switch (frame._tag) {
      case "File":
        if (facts !== undefined || !TransferFrame.isEager(frame.facts)) break
        asked.facts = frame.facts
        return false
      case "Data":
        if (facts === undefined || bytes.length > 0) break
        asked.bytes = frame.bytes
        return false
      case "End": {
        const root = TransferSender.rootOf(hash, bytes)
        if (facts === undefined || bytes.length !== facts.size || !equal(root, frame.root)) break
        const { mode, mtimeMs } = facts
        arrived.push({ item, file: { path: item.to, bytes, mode, mtimeMs, parents: true, conflict: "fail" }, root })
        return true
      }
    }
    left.push(item)
    return true
  }
  const ask = Effect.fnUntraced(function* ({ ids, lane, some }: TransferLine.Slots) {
    const going = new Map<number, Asked>()
    const frames: Array<TransferFrame.Frame> = []
    let next = 0
    for (const item of wanted) {
      const id = ids[next++]
      if (id === undefined) break
      going.set(id, { item, facts: undefined, bytes: NOTHING })
      frames.push({ _tag: "Want", id, path: item.from })
    }
    yield* lane.send(...frames)
    while (going.size > 0) {
      for (const frame of yield* some) {
        const asked = going.get(frame.id)
        if (asked === undefined || !hear(asked, frame)) continue
        going.delete(frame.id)
        wanted.delete(asked.item)
        line.progress()
        const isOver = frame._tag === "End" || frame._tag === "Fail"
        // The server waits for an answer, or goes on with what nobody wants.
        if (!isOver) yield* lane.send({ _tag: "Fail", id: frame.id, reason: "Stopped", message: "" })
      }
    }
  })
  yield* line.useMany(wanted.size, ask)
  const written = yield* local.writeSmall(arrived.map(({ file }) => file))
  for (const [i, { file, item, root }] of arrived.entries()) {
    const outcome = written[i]
    const { from, to } = item
    const size = file.bytes.length
    if (outcome !== undefined && Result.isSuccess(outcome)) {
      yield* tell({ _tag: "Done", from, to: outcome.success.path, size, root: hex(root), moved: size })
    } else if (outcome === undefined || outcome.failure.reason === "Exists" || outcome.failure.reason === "Busy") {
      left.push(item)
    } else {
      const { message, reason } = outcome.failure
      yield* tell({ _tag: "Failed", from, to, reason, message, side: "here" })
    }
  }
  return left
})
