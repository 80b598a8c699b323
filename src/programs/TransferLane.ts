/** One bulk stream as frames. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { concat } from "../domain/protocol/Cursor.ts"
import { TransferError } from "../domain/TransferError.ts"
import * as TransferFrame from "../domain/TransferFrame.ts"
import type { TransportError, TransportStream } from "../services/Transport.ts"

export interface Lane {
  /** Queues frames side by side; completes when there is room for more. What is sent at the same time goes as one write. */
  readonly send: (...frames: ReadonlyArray<TransferFrame.Frame>) => Effect.Effect<void, TransferError>
  /** Waits for frames. Fails with `Lost` at the end of the stream too, with `Protocol` where it carries anything else. */
  readonly receive: Effect.Effect<ReadonlyArray<TransferFrame.Frame>, TransferError>
}

/** Bytes up to which pieces are joined rather than written one by one. */
const JOINED = 64 * 1024
/** Bytes: a piece that is worth a write of its own. */
const LONG = 16 * 1024

/** Joins what is short with what follows it; what is long is not copied. */
const joined = (parts: ReadonlyArray<Uint8Array>): ReadonlyArray<Uint8Array> => {
  const all: Array<Uint8Array> = []
  let some: Array<Uint8Array> = []
  let length = 0
  const end = (): void => {
    const [only] = some
    if (only !== undefined) all.push(some.length === 1 ? only : concat(...some))
    some = []
    length = 0
  }
  for (const part of parts) {
    if (part.length >= LONG || length + part.length > JOINED) end()
    some.push(part)
    length += part.length
    if (part.length >= LONG) end()
  }
  end()
  return all
}

/** What waits to be written, and who waits for that. */
class Batch {
  readonly parts: Array<Uint8Array> = []
  length = 0
  readonly written = Deferred.makeUnsafe<void, TransferError>()
}

export const lost = (error: Pick<TransportError, "message">): TransferError =>
  new TransferError({ reason: "Lost", message: error.message })

/** Writes in the scope; nothing that is sent after its end goes anywhere. */
export const make = Effect.fnUntraced(function* (stream: Pick<TransportStream, "read" | "write">) {
  const frames = new TransferFrame.Frames()
  const receive: Lane["receive"] = Effect.matchEffect(stream.read, {
    onFailure: (error) => Effect.fail(lost({ message: "message" in error ? error.message : "the stream has ended" })),
    onSuccess: (chunks) => {
      const all: Array<TransferFrame.Frame> = []
      for (const chunk of chunks) {
        const some = frames.push(chunk)
        if (some === undefined) {
          return Effect.fail(new TransferError({ reason: "Protocol", message: "what came is no frame of a transfer" }))
        }
        all.push(...some)
      }
      return all.length > 0 ? Effect.succeed(all) : receive
    }
  })

  let batch = new Batch()
  const waiting = Latch.makeUnsafe(false)
  const writeAll = Effect.gen(function* () {
    yield* waiting.await
    // Who else has something to say at this moment says it.
    yield* Effect.yieldNow
    const { length, parts, written } = batch
    batch = new Batch()
    waiting.closeUnsafe()
    const writing =
      length <= JOINED ? stream.write(concat(...parts)) : Effect.forEach(joined(parts), stream.write, { discard: true })
    yield* Effect.flatMap(Effect.exit(Effect.mapError(writing, lost)), (exit) => Deferred.done(written, exit))
  })
  yield* Effect.forkScoped(Effect.forever(writeAll))

  const lane: Lane = {
    send: (...some) =>
      Effect.suspend(() => {
        for (const frame of some) {
          const [head, bytes] = TransferFrame.parts(frame)
          batch.parts.push(head)
          if (bytes.length > 0) batch.parts.push(bytes)
          batch.length += head.length + bytes.length
        }
        const { written } = batch
        waiting.openUnsafe()
        return Deferred.await(written)
      }),
    receive
  }
  return lane
})
