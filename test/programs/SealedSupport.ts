/** Two ends of one stream in memory, with a window, and somebody in between who may change what passes. */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import { TransportError, type TransportStream } from "../../src/services/Transport.ts"

const failed = (reason: "Reset" | "Stopped", code: number) =>
  new TransportError({ reason, message: `stream ${reason}`, code })

/** One direction: bytes are queued at once, as the transport does; the writer waits while more than `window` lie unread. */
export class Half {
  readonly #window: number
  readonly #readable = Latch.makeUnsafe(false)
  readonly #room = Latch.makeUnsafe(true)
  #chunks: Array<Uint8Array> = []
  #waiting = 0
  #ended = false
  reset: number | undefined
  stopped: number | undefined
  /** The most that lay unread. */
  peak = 0
  /** Changes what is written, as the server might; `undefined` keeps it back. */
  between: (bytes: Uint8Array) => Uint8Array | undefined = (bytes) => bytes

  constructor(window: number) {
    this.#window = window
  }

  readonly read: TransportStream["read"] = Effect.suspend(() => {
    if (this.reset !== undefined) return Effect.fail(failed("Reset", this.reset))
    const chunks = this.#chunks
    if (Arr.isArrayNonEmpty(chunks)) {
      this.#chunks = []
      this.#waiting = 0
      this.#room.openUnsafe()
      return Effect.succeed(chunks)
    }
    if (this.#ended) return Cause.done()
    this.#readable.closeUnsafe()
    return Effect.andThen(this.#readable.await, this.read)
  })

  write(bytes: Uint8Array): Effect.Effect<void, TransportError> {
    return Effect.suspend(() => {
      if (this.stopped !== undefined) return Effect.fail(failed("Stopped", this.stopped))
      const passed = this.between(bytes.slice())
      if (passed !== undefined && passed.length > 0) {
        this.#chunks.push(passed)
        this.#waiting += passed.length
        this.peak = Math.max(this.peak, this.#waiting)
      }
      this.#readable.openUnsafe()
      if (this.#waiting > this.#window) this.#room.closeUnsafe()
      return Effect.andThen(
        this.#room.await,
        Effect.suspend(() => (this.stopped === undefined ? Effect.void : Effect.fail(failed("Stopped", this.stopped))))
      )
    })
  }

  readonly finish = Effect.sync(() => {
    this.#ended = true
    this.#readable.openUnsafe()
  })

  giveUp(code: number): Effect.Effect<void> {
    return Effect.sync(() => {
      this.reset ??= code
      this.#readable.openUnsafe()
    })
  }

  stop(code: number): Effect.Effect<void> {
    return Effect.sync(() => {
      this.stopped ??= code
      this.#room.openUnsafe()
    })
  }
}

/** `there` flows from `ours` to `theirs`. */
export const pair = (window = 64 * 1024) => {
  const there = new Half(window)
  const back = new Half(window)
  const end = (out: Half, into: Half): TransportStream => ({
    id: 0,
    read: into.read,
    write: (bytes) => out.write(bytes),
    finish: out.finish,
    reset: (code) => out.giveUp(code),
    stop: (code) => into.stop(code),
    setPriority: () => Effect.void
  })
  return { there, back, ours: end(there, back), theirs: end(back, there) }
}
