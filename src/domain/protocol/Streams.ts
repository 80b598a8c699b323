/**
 * All streams of one session: who may open how many, both levels of flow control, and whose turn it is to send.
 * Bidirectional streams only; a stream's id is twice its ordinal, plus one when the server opened it.
 *
 * Sans-IO like its owner, the Session: frames go in through `on*`, out through `pollControl` and `pollData`, what the
 * application should know through `pollEvent`. The fate of what was sent comes back through `onAcked` and `onLost`.
 *
 * Bounded: at most `local.maxStreams` streams of the peer and `remote.maxStreams` of ours at a time, `local.maxData`
 * unread bytes in all, `local.maxStreamData` in one, and `WINDOW_GROWTH` times that once a fast reader on a long path has shown
 * the need. Unsent bytes are the application's to bound, by `buffered`.
 */
import { SEND_BUFFER_HIGH, WINDOW_GROWTH } from "./Constants.ts"
import type * as Frame from "./Frame.ts"
import type { Limits } from "./Limits.ts"
import { RecvStream } from "./RecvStream.ts"
import { type Chunk, SendStream } from "./SendStream.ts"

/** A peer that breaks one of these loses the session. */
export type Violation = "flow-control" | "final-size" | "stream-limit" | "protocol"

/** Whose bytes go first; within one priority streams take turns, a datagram each. */
export const Priority = { Control: 0, Interactive: 1, Bulk: 2 } as const
export type Priority = (typeof Priority)[keyof typeof Priority]

export type StreamEvent =
  | { readonly type: "StreamOpened"; readonly id: number }
  /** There is something to `read`, an end included. */
  | { readonly type: "StreamReadable"; readonly id: number }
  /** What was written has drained below the low-water mark. */
  | { readonly type: "StreamWritable"; readonly id: number }
  /** The peer gave up sending; unread bytes are gone. */
  | { readonly type: "StreamReset"; readonly id: number; readonly code: number }
  /** The peer gave up reading; what was not yet delivered is gone. */
  | { readonly type: "StreamStopped"; readonly id: number; readonly code: number }
  /** Both halves are over; the id is never heard of again. */
  | { readonly type: "StreamClosed"; readonly id: number }
  /** The peer allows more streams to be opened. */
  | { readonly type: "StreamsAvailable" }

/** What a packet carried of us, remembered until its fate is known; the last three fields count for "Stream" only. */
export interface Sent {
  readonly type: "Stream" | "Reset" | "Stop" | "MaxStreamData" | "MaxData" | "MaxStreams"
  readonly id: number
  readonly offset: number
  readonly length: number
  readonly fin: boolean
}

/** What `read` answers: bytes, nothing yet, or no more ever. */
export type ReadResult = Uint8Array | "blocked" | "finished" | { readonly reset: number }

interface Entry {
  readonly id: number
  readonly send: SendStream
  readonly recv: RecvStream
  priority: Priority
  queued: boolean
  /** A `StreamReadable` is on its way and nothing was read since. */
  signalled: boolean
  /** The application filled the buffer and waits for `StreamWritable`. */
  full: boolean
  reset: number | undefined
  stop: number | undefined
  readonly owed: { reset: boolean; stop: boolean; window: boolean }
}

export class Streams {
  readonly #ours: 0 | 1
  readonly #local: Limits
  readonly #entries = new Map<number, Entry>()
  readonly #ready: [Array<Entry>, Array<Entry>, Array<Entry>] = [[], [], []]
  readonly #owing = new Set<Entry>()
  readonly #events: Array<StreamEvent> = []

  #nextOrdinal = 0
  #maxOrdinal: number
  #peerNextOrdinal = 0
  #peerMaxOrdinal: number
  #initialPeerLimit: number

  #sendLimit: number
  #sendUsed = 0
  #receiveWindow: number
  readonly #maxReceiveWindow: number
  readonly #maxStreamWindow: number
  #receiveLimit: number
  #grantedAt = Number.NEGATIVE_INFINITY
  #received = 0
  #consumed = 0
  #owesMaxData = false
  #owesMaxStreams = false
  /** Bytes unacknowledged in all; `SEND_BUFFER_HIGH` is for what was never sent. */
  #bufferHigh = 4 * SEND_BUFFER_HIGH

  constructor(role: "client" | "server", local: Limits, remote: Limits, windowGrowth = WINDOW_GROWTH) {
    this.#maxStreamWindow = windowGrowth * local.maxStreamData
    this.#ours = role === "client" ? 0 : 1
    this.#local = local
    this.#maxOrdinal = remote.maxStreams
    this.#peerMaxOrdinal = local.maxStreams
    this.#initialPeerLimit = remote.maxStreamData
    this.#sendLimit = remote.maxData
    this.#receiveWindow = local.maxData
    this.#maxReceiveWindow = windowGrowth * local.maxData
    this.#receiveLimit = local.maxData
  }

  /** Streams that are not over. */
  get size(): number {
    return this.#entries.size
  }

  // -- the application's commands ----------------------------------------------------------------------------------

  /** The id of a fresh stream, or `undefined` while the peer allows no more. */
  open(priority: Priority): number | undefined {
    if (this.#nextOrdinal >= this.#maxOrdinal) return undefined
    const id = this.#nextOrdinal++ * 2 + this.#ours
    this.#make(id, priority)
    return id
  }

  setPriority(id: number, priority: Priority): void {
    const entry = this.#entries.get(id)
    if (entry !== undefined) entry.priority = priority
  }

  /** Queues bytes (kept by reference); false when the stream takes no more: finished, reset, stopped or over. */
  write(id: number, bytes: Uint8Array): boolean {
    const entry = this.#entries.get(id)
    if (entry === undefined || entry.send.state !== "open") return false
    entry.send.write(bytes)
    if (this.#holds(entry, 0.5)) entry.full = true
    this.#enqueue(entry)
    return true
  }

  /** Bytes written but not yet acknowledged. */
  buffered(id: number): number {
    return this.#entries.get(id)?.send.buffered ?? 0
  }

  /** Whether a stream holds so much that its writer should wait for `StreamWritable`. */
  isFull(id: number): boolean {
    const entry = this.#entries.get(id)
    return entry !== undefined && this.#holds(entry, 1)
  }

  /**
   * Follows the congestion window. A lost piece holds all that arrived behind it for a round trip and longer, so several
   * windows may be unacknowledged while what was never sent must not run out.
   */
  setWindow(bytes: number): void {
    this.#bufferHigh = Math.max(4 * SEND_BUFFER_HIGH, 8 * bytes)
  }

  finish(id: number): void {
    const entry = this.#entries.get(id)
    if (entry === undefined || entry.send.state !== "open") return
    entry.send.finish()
    this.#enqueue(entry)
  }

  /** Gives up sending: what is not yet delivered never will be. */
  reset(id: number, code: number): void {
    const entry = this.#entries.get(id)
    if (entry === undefined || entry.reset !== undefined || entry.send.state === "done") return
    entry.reset = code
    entry.send.reset(code)
    this.#owe(entry, "reset")
  }

  /** Gives up reading: what comes is dropped, and the peer is told to reset. */
  stop(id: number, code: number): void {
    const entry = this.#entries.get(id)
    if (entry === undefined || entry.stop !== undefined) return
    if (entry.recv.finished) {
      this.#retire(entry)
      return
    }
    entry.stop = code
    this.#consume(entry.recv.stop())
    this.#owe(entry, "stop")
    this.#retire(entry)
  }

  read(id: number): ReadResult {
    const entry = this.#entries.get(id)
    if (entry === undefined) return this.#isOver(id) ? "finished" : "blocked"
    entry.signalled = false
    const reset = entry.recv.resetCode
    if (reset !== undefined) return { reset }
    const bytes = entry.recv.read()
    if (bytes !== undefined) {
      this.#consume(bytes.length)
      if (entry.recv.owesWindow) this.#owe(entry, "window")
      return bytes
    }
    if (!entry.recv.finished) return "blocked"
    this.#retire(entry)
    return "finished"
  }

  // -- frames in ---------------------------------------------------------------------------------------------------

  onStream(frame: Frame.Stream): Violation | undefined {
    const entry = this.#incoming(frame.id)
    if (typeof entry === "string") return entry
    if (entry === undefined) return undefined
    const outcome = entry.recv.onData(frame.offset, frame.data, frame.fin)
    if (typeof outcome === "string") return outcome
    return this.#onFresh(entry, outcome.fresh)
  }

  onReset(frame: Frame.Reset): Violation | undefined {
    const entry = this.#incoming(frame.id)
    if (typeof entry === "string") return entry
    if (entry === undefined) return undefined
    const unread = frame.finalSize - entry.recv.consumed
    const known = entry.recv.resetCode !== undefined || entry.recv.finished
    const outcome = entry.recv.onReset(frame.code, frame.finalSize)
    if (typeof outcome === "string") return outcome
    const violation = this.#onFresh(entry, outcome.fresh)
    if (violation !== undefined || known) return violation
    if (entry.stop === undefined) {
      this.#consume(unread)
      this.#events.push({ type: "StreamReset", id: entry.id, code: frame.code })
    }
    this.#retire(entry)
    return undefined
  }

  onStop(frame: Frame.Stop): Violation | undefined {
    const entry = this.#incoming(frame.id)
    if (typeof entry === "string") return entry
    if (entry === undefined || entry.reset !== undefined || entry.send.state === "done") return undefined
    this.reset(frame.id, frame.code)
    this.#events.push({ type: "StreamStopped", id: frame.id, code: frame.code })
    return undefined
  }

  onMaxData(limit: number): void {
    if (limit <= this.#sendLimit) return
    this.#sendLimit = limit
  }

  onMaxStreamData(frame: Frame.MaxStreamData): Violation | undefined {
    const entry = this.#incoming(frame.id)
    if (typeof entry === "string") return entry
    if (entry === undefined) return undefined
    entry.send.setPeerLimit(frame.limit)
    this.#enqueue(entry)
    return undefined
  }

  onMaxStreams(limit: number): void {
    if (limit <= this.#maxOrdinal) return
    this.#maxOrdinal = limit
    this.#events.push({ type: "StreamsAvailable" })
  }

  // -- frames out --------------------------------------------------------------------------------------------------

  get hasControl(): boolean {
    if (this.#owesMaxData || this.#owesMaxStreams) return true
    for (const entry of this.#owing) {
      if (dueOf(entry) !== undefined) return true
      this.#owing.delete(entry)
    }
    return false
  }

  /** Whether `pollData` would find something. */
  get hasData(): boolean {
    const credit = this.#sendLimit - this.#sendUsed
    for (const queue of this.#ready) {
      for (const entry of queue) if (entry.send.hasPending(credit)) return true
    }
    return false
  }

  /** The next control frame owed; the caller sends it and remembers it, for `onLost`. `rttMs` sizes the windows. */
  pollControl(now: number, rttMs: number): Frame.Frame | undefined {
    if (this.#owesMaxData) {
      this.#owesMaxData = false
      // As in `RecvStream.grant`.
      if (this.#squeezed || now - this.#grantedAt < 2 * rttMs) {
        this.#receiveWindow = Math.min(2 * this.#receiveWindow, this.#maxReceiveWindow)
      }
      this.#grantedAt = now
      this.#receiveLimit = Math.max(this.#receiveLimit, this.#consumed + this.#receiveWindow)
      return { type: "MaxData", limit: this.#receiveLimit }
    }
    if (this.#owesMaxStreams) {
      this.#owesMaxStreams = false
      return { type: "MaxStreams", limit: this.#peerMaxOrdinal }
    }
    for (const entry of this.#owing) {
      const due = dueOf(entry)
      if (due === undefined) {
        this.#owing.delete(entry)
        continue
      }
      const { id } = entry
      entry.owed[due] = false
      if (due === "reset") return { type: "Reset", id, code: entry.reset ?? 0, finalSize: entry.send.finalSize }
      if (due === "stop") return { type: "Stop", id, code: entry.stop ?? 0 }
      return { type: "MaxStreamData", id, limit: entry.recv.grant(now, rttMs) }
    }
    return undefined
  }

  /** The next STREAM frame of at most `maxBytes` bytes of data, by priority and turn; valid until the next call. */
  pollData(maxBytes: number): Chunk | undefined {
    for (const queue of this.#ready) {
      let turns = queue.length
      while (turns-- > 0) {
        const entry = queue.shift() as Entry
        const credit = this.#sendLimit - this.#sendUsed
        const chunk = entry.send.next(maxBytes, credit)
        if (chunk === undefined) {
          // Nothing to send now: leave the queue, unless only room or the session's credit is missing.
          this.#requeue(entry)
          continue
        }
        this.#sendUsed += chunk.fresh
        this.#requeue(entry)
        return chunk
      }
    }
    return undefined
  }

  onAcked(sent: Sent): void {
    if (sent.type === "MaxData" || sent.type === "MaxStreams") return
    const entry = this.#entries.get(sent.id)
    if (entry === undefined) return
    if (sent.type === "Stream") entry.send.onAcked(sent.offset, sent.length, sent.fin)
    else if (sent.type === "Reset") entry.send.onResetAcked()
    else return
    if (entry.full && !this.#holds(entry, 0.5)) {
      entry.full = false
      this.#events.push({ type: "StreamWritable", id: entry.id })
    }
    this.#retire(entry)
  }

  onLost(sent: Sent): void {
    if (sent.type === "MaxData") {
      this.#owesMaxData = true
      return
    }
    if (sent.type === "MaxStreams") {
      this.#owesMaxStreams = true
      return
    }
    const entry = this.#entries.get(sent.id)
    if (entry === undefined) return
    if (sent.type === "Stream") {
      entry.send.onLost(sent.offset, sent.length, sent.fin)
      this.#enqueue(entry)
    } else if (sent.type === "Reset") this.#owe(entry, "reset")
    else if (sent.type === "Stop") this.#owe(entry, "stop")
    else this.#owe(entry, "window")
  }

  pollEvent(): StreamEvent | undefined {
    return this.#events.shift()
  }

  // ------------------------------------------------------------------------------------------------------------------

  /** Whether a stream holds this share of what it may. */
  #holds({ send }: Entry, share: number): boolean {
    return send.unsentBytes >= share * SEND_BUFFER_HIGH || send.buffered >= share * this.#bufferHigh
  }

  #make(id: number, priority: Priority): Entry {
    const entry: Entry = {
      id,
      send: new SendStream(id, this.#initialPeerLimit),
      recv: new RecvStream(id, this.#local.maxStreamData, this.#maxStreamWindow),
      priority,
      queued: false,
      signalled: false,
      full: false,
      reset: undefined,
      stop: undefined,
      owed: { reset: false, stop: false, window: false }
    }
    this.#entries.set(id, entry)
    return entry
  }

  /** The stream a frame speaks of; `undefined` when it is over; opens the peer's new ones. */
  #incoming(id: number): Entry | Violation | undefined {
    const entry = this.#entries.get(id)
    if (entry !== undefined) return entry
    const ordinal = Math.floor(id / 2)
    if (id % 2 === this.#ours) return ordinal < this.#nextOrdinal ? undefined : "protocol"
    if (ordinal < this.#peerNextOrdinal) return undefined
    if (ordinal >= this.#peerMaxOrdinal) return "stream-limit"
    while (this.#peerNextOrdinal <= ordinal) {
      const opened = this.#peerNextOrdinal++ * 2 + (1 - this.#ours)
      this.#make(opened, Priority.Interactive)
      this.#events.push({ type: "StreamOpened", id: opened })
    }
    return this.#entries.get(id)
  }

  #isOver(id: number): boolean {
    return Math.floor(id / 2) < (id % 2 === this.#ours ? this.#nextOrdinal : this.#peerNextOrdinal)
  }

  #onFresh(entry: Entry, fresh: number): Violation | undefined {
    this.#received += fresh
    if (this.#received > this.#receiveLimit) return "flow-control"
    if (entry.recv.squeezed) {
      this.#owe(entry, "window")
      if (this.#squeezed) this.#owesMaxData = true
    }
    if (entry.stop !== undefined) {
      this.#consume(fresh)
      this.#retire(entry)
    } else if (!entry.signalled && entry.recv.readable) {
      entry.signalled = true
      this.#events.push({ type: "StreamReadable", id: entry.id })
      // An end without bytes before it needs no reading: `read` of a stream that is over tells it, too.
      if (entry.recv.finished) this.#retire(entry)
    }
    return undefined
  }

  /** As in `RecvStream`, for all streams together. */
  get #squeezed(): boolean {
    const window = this.#receiveWindow
    return window < this.#maxReceiveWindow && this.#received - this.#consumed > window / 2
  }

  #consume(bytes: number): void {
    this.#consumed += bytes
    if (this.#receiveLimit - this.#consumed < this.#receiveWindow / 2) this.#owesMaxData = true
  }

  #enqueue(entry: Entry): void {
    if (entry.queued || !entry.send.hasPending(Number.POSITIVE_INFINITY)) return
    entry.queued = true
    this.#ready[entry.priority].push(entry)
  }

  /** After its turn: to the end of the queue of its priority, which may be another now. */
  #requeue(entry: Entry): void {
    entry.queued = false
    this.#enqueue(entry)
  }

  #owe(entry: Entry, what: "reset" | "stop" | "window"): void {
    entry.owed[what] = true
    this.#owing.add(entry)
  }

  /** Forgets a stream whose two halves are over, and lets the peer open another in its place. */
  #retire(entry: Entry): void {
    const received =
      entry.recv.finished || entry.recv.resetCode !== undefined || (entry.stop !== undefined && entry.recv.complete)
    if (!received || entry.send.state !== "done") return
    this.#entries.delete(entry.id)
    this.#owing.delete(entry)
    this.#events.push({ type: "StreamClosed", id: entry.id })
    if (entry.id % 2 !== this.#ours) {
      this.#peerMaxOrdinal++
      this.#owesMaxStreams = true
    }
  }
}

/** What a stream still has to tell its peer, most urgent first; what no longer matters is passed over. */
const dueOf = ({ owed, send, recv, stop }: Entry): "reset" | "stop" | "window" | undefined => {
  if (owed.reset && send.state === "resetSent") return "reset"
  if (owed.stop && !recv.sizeKnown) return "stop"
  if (owed.window && !recv.sizeKnown && stop === undefined) return "window"
  return undefined
}
