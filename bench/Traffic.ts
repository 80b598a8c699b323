/**
 * What flows in the measurements, the same for us and for every rival: a header of two bytes (what to do, which flow),
 * then 64-byte messages to echo, a block of noise over and over, or bytes to hash.
 *
 * Every byte of a bulk is compared with what must stand there (a memcmp, about 0.1 s of CPU per GB, for all alike). The
 * block's length is a prime, so that a lost, doubled or misplaced piece shows. One smaller transfer that never repeats
 * is hashed with SHA-256 at both ends.
 */
import { createHash, type Hash } from "node:crypto"

export const Mode = { Echo: 1, Sink: 2, Hash: 3 } as const
export const HEADER_BYTES = 2
export const MESSAGE_BYTES = 64
/** A message of an open stream of chat leaves at this rhythm. */
export const CHAT_EVERY_MS = 100
const BLOCK_BYTES = 65_521
const MARK_EVERY_MS = 20
/** Beyond so many, every other one goes and the next are twice as far apart. */
const MAX_MARKS = 512

export const header = (mode: number, flow: number): Uint8Array => Uint8Array.of(mode, flow)

const offsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()
/** Milliseconds on the system's monotonic clock: the same in all processes of a machine. */
export const nowMs = (): number => offsetMs + performance.now()

/** Noise from a seed (xorshift32). */
export const noise = (bytes: number, seed: number): Buffer => {
  const buffer = Buffer.alloc(bytes)
  let state = seed | 1
  for (let i = 0; i < bytes; i++) {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    buffer[i] = state
  }
  return buffer
}

/** What a bulk repeats. */
export const block: Buffer = noise(BLOCK_BYTES, 0x2545f491)

/** How far a flow had come when. */
export interface Received {
  readonly bytes: number
  /** Whether a byte was not the one that was sent. */
  readonly wrong: boolean
  /** Ascending `[ms, bytes so far]`, 20 ms apart or, in a long run, more. */
  readonly marks: ReadonlyArray<readonly [ms: number, bytes: number]>
}

/** Counts and compares what comes in on one flow. */
export class Sink {
  #bytes = 0
  #wrong = false
  #nextMark = 0
  #every = MARK_EVERY_MS
  /** Milliseconds and bytes in turn. */
  #marks: Array<number> = []

  take(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const from = this.#bytes % BLOCK_BYTES
      const length = Math.min(chunk.length - at, BLOCK_BYTES - from)
      if (block.compare(chunk, at, at + length, from, from + length) !== 0) this.#wrong = true
      at += length
      this.#bytes += length
    }
  }

  /** After each batch. */
  mark(): void {
    const now = nowMs()
    if (now < this.#nextMark) return
    this.#marks.push(now, this.#bytes)
    if (this.#marks.length >= 2 * MAX_MARKS) {
      this.#marks = this.#marks.filter((_, i) => i % 4 < 2)
      this.#every *= 2
    }
    this.#nextMark = now + this.#every
  }

  received(): Received {
    const marks: Array<readonly [number, number]> = []
    for (let i = 0; i < this.#marks.length; i += 2) marks.push([this.#marks[i] as number, this.#marks[i + 1] as number])
    return { bytes: this.#bytes, wrong: this.#wrong, marks: [...marks, [nowMs(), this.#bytes]] }
  }
}

/** A listener's sinks by flow; a new stream of a flow starts it afresh. */
export class Sinks {
  readonly #byFlow = new Map<number, Sink>()

  start(flow: number): Sink {
    const sink = new Sink()
    this.#byFlow.set(flow, sink)
    return sink
  }

  received(flow: number): Received {
    return this.#byFlow.get(flow)?.received() ?? { bytes: 0, wrong: false, marks: [] }
  }
}

/** The bytes of a flow between two moments, marks taken for a steady flow from one to the next. */
export const bytesBetween = ({ marks }: Received, from: number, to: number): number => {
  const until = (ms: number): number => {
    const next = marks.findIndex(([when]) => when > ms)
    if (next < 0) return marks.at(-1)?.[1] ?? 0
    const [when, bytes] = marks[next] ?? [ms, 0]
    const [before, least] = marks[next - 1] ?? [when, 0]
    return when > before ? least + ((bytes - least) * (ms - before)) / (when - before) : least
  }
  return until(to) - until(from)
}

// -- hashing -------------------------------------------------------------------------------------------------------

const HASHED_BYTES = 65_536

/** The pieces of a transfer that never repeats, with their SHA-256 once all were taken. */
export function* hashed(bytes: number): Generator<Uint8Array, Uint8Array> {
  const hash: Hash = createHash("sha256")
  for (let sent = 0; sent < bytes; sent += HASHED_BYTES) {
    const piece = noise(Math.min(HASHED_BYTES, bytes - sent), 0x9e3779b9 ^ sent)
    hash.update(piece)
    yield piece
  }
  return hash.digest()
}

export const sha256 = (): Hash => createHash("sha256")

// -- what workers are asked ----------------------------------------------------------------------------------------

/** When a connection was of use, ms after the call. */
export interface Greeting {
  /** The client may send. */
  readonly ready: number
  /** The first echoed byte was read. */
  readonly answer: number
}

/** A stretch of time on the clock of `nowMs`. */
export interface Stretch {
  readonly from: number
  readonly to: number
}
