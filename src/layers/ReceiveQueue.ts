/**
 * What has arrived at a socket and was not taken yet. Bounded in datagrams and in bytes; when full, arrivals are dropped,
 * as a kernel drops them from a full socket buffer. A plain mutable class: arrivals are pushed by callbacks, and
 * whoever pushes wakes the reader once per batch.
 */
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import { type Datagram, UdpSocketError } from "../services/UdpSocket.ts"

/** Datagrams. */
export const MAX_QUEUED_DATAGRAMS = 4096
/** Bytes of payload. */
export const MAX_QUEUED_BYTES = 8 * 1024 * 1024

type Batch = Arr.NonEmptyReadonlyArray<Datagram>
type Resume = (effect: Effect.Effect<Batch, UdpSocketError>) => void

export class ReceiveQueue {
  #items: Array<Datagram> = []
  #bytes = 0
  #closed = false
  #dropped = 0
  readonly #waiting: Array<Resume> = []
  readonly #closedError: UdpSocketError

  /** `name` is the socket's address, for the error of a reader that comes too late. */
  constructor(name: string) {
    this.#closedError = new UdpSocketError({ reason: "Closed", message: `UDP socket ${name} is closed` })
  }

  /** Arrivals that found the queue full. */
  get dropped(): number {
    return this.#dropped
  }

  get length(): number {
    return this.#items.length
  }

  /** Takes an arrival in, or drops it. Wakes nobody. */
  pushUnsafe(datagram: Datagram): boolean {
    if (this.#closed) return false
    const bytes = this.#bytes + datagram.bytes.length
    if (this.#items.length >= MAX_QUEUED_DATAGRAMS || bytes > MAX_QUEUED_BYTES) {
      this.#dropped++
      return false
    }
    this.#bytes = bytes
    this.#items.push(datagram)
    return true
  }

  /** Hands all that waits to the reader who has waited longest. */
  wakeUnsafe(): void {
    if (this.#waiting.length === 0) return
    const batch = this.#take()
    if (batch !== undefined) this.#waiting.shift()?.(Effect.succeed(batch))
  }

  /** Drops what is queued; present and future readers fail with `Closed`. */
  closeUnsafe(): void {
    this.#closed = true
    this.#take()
    for (const resume of this.#waiting.splice(0)) resume(Effect.fail(this.#closedError))
  }

  /** Waits for arrivals and takes all of them. An interrupted reader takes nothing. */
  readonly receive: Effect.Effect<Batch, UdpSocketError> = Effect.callback((resume) => {
    if (this.#closed) return resume(Effect.fail(this.#closedError))
    const batch = this.#waiting.length === 0 ? this.#take() : undefined
    if (batch !== undefined) return resume(Effect.succeed(batch))
    this.#waiting.push(resume)
    return Effect.sync(() => {
      const at = this.#waiting.indexOf(resume)
      if (at >= 0) this.#waiting.splice(at, 1)
    })
  })

  #take(): Batch | undefined {
    const items = this.#items
    if (!Arr.isArrayNonEmpty(items)) return undefined
    this.#items = []
    this.#bytes = 0
    return items
  }
}
