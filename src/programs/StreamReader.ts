/** Reads a fixed number of bytes off a stream's beginning and gives the rest of it back as a stream. */
import * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { concat } from "../domain/protocol/Cursor.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"

/** The first `length` bytes, and the stream behind them; fails with `Done` when it ends before. */
export const take = Effect.fnUntraced(function* (
  stream: TransportStream,
  length: number
): Effect.fn.Return<{ readonly head: Uint8Array; readonly rest: TransportStream }, TransportError | Cause.Done> {
  let got: Uint8Array = new Uint8Array(0)
  while (got.length < length) got = concat(got, ...(yield* stream.read))
  const head = got.slice(0, length)
  if (got.length === length) return { head, rest: stream }
  let left: Uint8Array | undefined = got.slice(length)
  const read: TransportStream["read"] = Effect.suspend(() => {
    if (left === undefined) return stream.read
    const first = Arr.of(left)
    left = undefined
    return Effect.succeed(first)
  })
  return { head, rest: { ...stream, read } }
})
