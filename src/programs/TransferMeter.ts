/** How far one large file of a transfer is. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Event, Item } from "./TransferEvent.ts"
import type * as TransferLine from "./TransferLine.ts"

/** Progress is told of after so many bytes or ms. */
const STRIDE_BYTES = 1024 * 1024
const STRIDE_MS = 100

export interface Context {
  readonly line: Pick<TransferLine.Line, "progress">
  readonly tell: (event: Event) => Effect.Effect<void>
}

/** Tells of one file's progress now and then, and counts what went over the line. */
export const make = Effect.fnUntraced(function* ({ line, tell }: Context, { from, to }: Item) {
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
    add: Effect.fnUntraced(function* (length: number, overLine = length) {
      moved += overLine
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
