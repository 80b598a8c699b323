/**
 * A stream whose bytes only the two ends can read, shown as the stream that it runs on: reads, writes, back pressure,
 * resets and stops are that one's. Its end is authenticated: one that was cut off reads as a failure, never as an end.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { KeyPair, Primitives } from "../domain/protocol/Primitives.ts"
import { type Fault, Sealer, Unsealer } from "../domain/protocol/SealedStream.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { Crypto } from "../services/Crypto.ts"
import { TransportError, type TransportStream } from "../services/Transport.ts"

/** What sealing takes from the host. */
export interface Sealing {
  readonly primitives: Primitives
  readonly generateKeyPair: () => KeyPair
  /** Milliseconds on a steady clock. */
  readonly now: () => number
}

export const sealing: Effect.Effect<Sealing, never, Crypto> = Effect.gen(function* () {
  const { generateKeyPair, primitives } = yield* Crypto
  const clock = yield* Clock.clockWith(Effect.succeed)
  return { primitives, generateKeyPair, now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6 }
})

const WHY: Readonly<Record<Fault, string>> = {
  Forged: "what came on a sealed stream was changed on its way",
  Malformed: "what came on a sealed stream makes no sense",
  AfterEnd: "something came behind the end of a sealed stream",
  Truncated: "a sealed stream was cut off before its end"
}

export const sealError = (fault: Fault): TransportError => new TransportError({ reason: "Seal", message: WHY[fault] })

const GIVEN_UP = new TransportError({ reason: "Closed", message: "this side gave up this sealed stream" })
const OVER = new TransportError({ reason: "Stopped", message: "this side has ended this sealed stream" })

/** Gives both halves up at once. */
export const refuse = (stream: TransportStream, code: number): Effect.Effect<void> =>
  Effect.andThen(stream.reset(code), stream.stop(code))

export interface Options {
  readonly sealing: Sealing
  /** Taken over, and wiped with the half that they belong to. */
  readonly sendKey: Uint8Array
  readonly receiveKey: Uint8Array
  /** Hears, once, that something opened: the peer has the keys. */
  readonly onProof?: () => void
}

/** Shows `stream` sealed. What does not open gives both halves up with `NotSealed` and fails the reader with `Seal`. */
export const wrap = (stream: TransportStream, options: Options): TransportStream => {
  const { now, primitives } = options.sealing
  const sealer = new Sealer(primitives, options.sendKey, now())
  const unsealer = new Unsealer(primitives, options.receiveKey)
  let onProof = options.onProof
  /** Chunks that were read and not pushed yet. */
  let waiting: ReadonlyArray<Uint8Array> = []
  let next = 0
  let stopped = false

  const fail = (fault: Fault): Effect.Effect<never, TransportError> =>
    Effect.suspend(() => {
      sealer.wipe()
      return Effect.andThen(refuse(stream, StreamHeader.Code.NotSealed), Effect.fail(sealError(fault)))
    })

  const more = Effect.map(stream.read, (chunks) => {
    waiting = chunks
    next = 0
  })

  const read: TransportStream["read"] = Effect.suspend(() => {
    if (stopped) return Effect.fail(GIVEN_UP)
    const opened: Array<Uint8Array> = []
    for (;;) {
      const pulled = unsealer.pull()
      if (onProof !== undefined && unsealer.opened > 0) {
        onProof()
        onProof = undefined
      }
      if (pulled.type === "Data") {
        opened.push(pulled.bytes)
        continue
      }
      // A fault or an end behind data is found again when the data has been taken.
      if (next < waiting.length && pulled.type !== "Fault") {
        unsealer.push(waiting[next++] as Uint8Array)
        continue
      }
      if (Arr.isArrayNonEmpty(opened)) return Effect.succeed(opened)
      if (pulled.type === "Fault") return fail(pulled.fault)
      return pulled.type === "End" ? afterEnd : onward
    }
  })

  const onward: TransportStream["read"] = Effect.flatMap(
    Effect.catch(more, (error): Effect.Effect<never, TransportError | Cause.Done> => {
      if (!Cause.isDone(error)) return Effect.fail(error)
      const last = unsealer.finish()
      return last.type === "Fault" ? fail(last.fault) : Cause.done()
    }),
    () => read
  )
  // The end is the peer's word; how the stream below ends changes nothing, but more bytes do.
  const afterEnd: TransportStream["read"] = Effect.flatMap(
    Effect.catch(more, () => Cause.done()),
    () => read
  )

  /** Sealed and queued in one go by a fiber that begins at once: nothing gets between a record's number and its place. */
  const queue = (seal: () => Uint8Array) =>
    Effect.forkChild(
      Effect.suspend(() => (sealer.closed ? Effect.fail(OVER) : stream.write(seal()))),
      { startImmediately: true }
    )

  return {
    id: stream.id,
    read,
    write: (bytes) =>
      Effect.flatMap(
        queue(() => sealer.seal(now(), bytes)),
        Fiber.join
      ),
    // Queued is enough: an end does not wait for room.
    finish: Effect.suspend(() =>
      sealer.closed
        ? Effect.void
        : Effect.flatMap(
            queue(() => sealer.close()),
            Fiber.interrupt
          )
    ).pipe(Effect.andThen(stream.finish)),
    reset: (code) =>
      Effect.suspend(() => {
        sealer.wipe()
        return stream.reset(code)
      }),
    stop: (code) =>
      Effect.suspend(() => {
        stopped = true
        unsealer.wipe()
        return stream.stop(code)
      }),
    setPriority: stream.setPriority
  }
}
