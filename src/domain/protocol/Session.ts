/**
 * One session after its handshake: packets, acknowledgements, recovery, streams, datagrams, liveness and its end.
 *
 * Sans-IO. The owner feeds `handleDatagrams`, `handleTimeout` and the commands, each with `now` (ms, never going back), and
 * after any of them drains, in this order and until there is nothing more:
 *
 *     pollBurst(now, ...)  the next datagrams to send, side by side (`pollTransmit`: one, in a buffer of its own)
 *     pollEvent()          what the application should know
 *     pollTimeout()        when to call handleTimeout, if nothing else happens first (`Infinity`: never)
 *
 * A session starts muted: it opens what arrives and sends nothing. The client's owner unmutes it once the enrolment is on
 * disk, the server's once the client's first packet proved the handshake (and enrolment and burn are committed).
 *
 * Life: muted -> open -> closing (we closed: answers with CLOSE) | draining (the peer closed: silent) -> closed.
 */
import { AckTracker } from "./AckTracker.ts"
import { type Address, equals } from "./Address.ts"
import { CloseCode, type CloseReason } from "./CloseCode.ts"
import type * as Congestion from "./Congestion.ts"
import {
  ACKS_BEFORE_PING,
  MAX_ACK_DELAY_MS,
  MAX_BURST_DATAGRAMS,
  MAX_CLOSE_REASON_LENGTH,
  MAX_CLOSING_MS,
  MAX_DATAGRAM_LENGTH,
  MAX_PACKET_NUMBER,
  MAX_QUEUED_DATAGRAMS,
  PACKET_HEADER_LENGTH,
  QUIET_MS,
  SKIP_PACKETS,
  STALL_MS
} from "./Constants.ts"
import { utf8 } from "./Cursor.ts"
import * as Frame from "./Frame.ts"
import type { Limits } from "./Limits.ts"
import * as Packet from "./Packet.ts"
import { type DirectionSecrets, PacketWriter, type Sent } from "./PacketWriter.ts"
import { PathMtu } from "./PathMtu.ts"
import { PathValidator } from "./PathValidator.ts"
import { type Entropy, TAG_LENGTH } from "./Primitives.ts"
import { Recovery } from "./Recovery.ts"
import { Redundancy } from "./Redundancy.ts"
import { ReplayWindow } from "./ReplayWindow.ts"
import { Rtt } from "./Rtt.ts"
import {
  type Priority,
  type ReadResult,
  type StreamEvent,
  type Sent as StreamSent,
  Streams,
  type Violation
} from "./Streams.ts"
import { Timer, Timers } from "./Timers.ts"

/** A datagram to send. */
export interface Transmit {
  readonly bytes: Uint8Array
  readonly remote: Address
}

/** Datagrams to send, side by side: each of `segment` bytes, the last may be shorter. */
export interface Burst {
  readonly remote: Address
  readonly segment: number
}

export interface SessionOptions {
  readonly role: "client" | "server"
  /** On datagrams to us, 8 bytes. */
  readonly localId: Uint8Array
  /** On datagrams to the peer, 8 bytes. */
  readonly remoteId: Uint8Array
  readonly remote: Address
  readonly send: DirectionSecrets
  readonly receive: DirectionSecrets
  readonly limits: Limits
  readonly peerLimits: Limits
  readonly entropy: Entropy
  readonly congestion: Congestion.Factory
  /** Milliseconds of silence after which a PING is sent; `Infinity` for never. */
  readonly keepAliveMs: number
  /** Milliseconds without any answer after which the path counts as dead. */
  readonly deadAfterMs: number
  /** Milliseconds that the handshake's round trip took, where it is known already. */
  readonly handshakeMs?: number | undefined
  /** How many times their first size receive windows may grow to; without it `WINDOW_GROWTH`. */
  readonly windowGrowth?: number | undefined
  /** Bytes of the largest datagram worth trying towards an address; without it `MAX_DATAGRAM_LENGTH` for all. */
  readonly datagramCeiling?: ((remote: Address) => number) | undefined
}

export type SessionEvent =
  | StreamEvent
  /** The peer's first authentic packet: the handshake is proven. */
  | { readonly type: "Proven" }
  | { readonly type: "Datagram"; readonly data: Uint8Array }
  /** The peer owes an answer for `STALL_MS`; `Recovered` when it was heard again. */
  | { readonly type: "Stalled" | "Recovered" }
  /** The peer moved and its new address was validated. */
  | { readonly type: "PathChanged"; readonly remote: Address }
  | { readonly type: "Closed"; readonly reason: CloseReason }

/** What became of a datagram; everything but `accepted` left no trace but a counter. */
export type Outcome = "accepted" | "unopened" | "replayed" | "ignored"

type State = "muted" | "open" | "closing" | "draining" | "closed"

/** Counters since the start; `rttMs` is 0 before the first sample. */
export interface Stats {
  readonly sentPackets: number
  readonly sentBytes: number
  readonly receivedPackets: number
  readonly receivedBytes: number
  readonly lostPackets: number
  readonly unopened: number
  readonly replayed: number
  readonly rttMs: number
  readonly minRttMs: number
  readonly congestionWindow: number
  readonly bytesInFlight: number
  /** Streams that are not over in both directions. */
  readonly openStreams: number
  /** Bytes of a full datagram on this path. */
  readonly datagramBytes: number
}

export const NO_STATS: Stats = {
  sentPackets: 0,
  sentBytes: 0,
  receivedPackets: 0,
  receivedBytes: 0,
  lostPackets: 0,
  unopened: 0,
  replayed: 0,
  rttMs: 0,
  minRttMs: 0,
  congestionWindow: 0,
  bytesInFlight: 0,
  openStreams: 0,
  datagramBytes: 0
}

const VIOLATION_CODE: Record<Violation, CloseCode> = {
  "flow-control": CloseCode.FlowControl,
  "final-size": CloseCode.FinalSize,
  "stream-limit": CloseCode.StreamLimit,
  protocol: CloseCode.Protocol
}

/** Datagrams in flight, with more behind them, that are bulk. */
const BULK_DATAGRAMS = 4
const PING: Frame.Ping = { type: "Ping" }
/** The session ends a little before the last packet number, so that CLOSE has numbers of its own. */
const LAST_PACKET_NUMBER = MAX_PACKET_NUMBER - 1024

export class Session {
  readonly #options: SessionOptions
  readonly #packet: PacketWriter
  readonly #opener: Packet.Opener
  readonly #replay = new ReplayWindow()
  readonly #acks = new AckTracker()
  readonly #rtt = new Rtt()
  readonly #recovery: Recovery<Sent | undefined>
  readonly #streams: Streams
  readonly #timers = new Timers()
  readonly #events: Array<SessionEvent> = []
  readonly #decoder = new Frame.Decoder()
  readonly #mtu: PathMtu
  readonly #redundancy = new Redundancy<Sent>()
  /** Packets that the copies being written may take at most; whatever leaves with nothing behind it ends them. */
  #copies = 0
  readonly #idleMs: number
  readonly #startedAt: number
  readonly #single: Array<{ readonly bytes: Uint8Array }> = []
  /** Of the last `pollBurst` that answered bytes. */
  readonly burst: { remote: Address; segment: number }

  #state: State = "muted"
  #remote: Address
  #skipAt: number
  #largestReceived = -1
  /** Packets since the last one that elicits an acknowledgement. */
  #silentPackets = 0
  #probes = 0
  #pingDue = false
  /** Since when the peer owes an answer to something ack-eliciting; `Infinity` when it owes none. */
  #unansweredSince = Number.POSITIVE_INFINITY
  #stalled = false
  #reliable: Array<Frame.Frame> = []
  #datagrams: Array<Uint8Array> = []
  readonly #paths = new PathValidator()
  #closeFrame: Frame.Close | undefined
  #closeDue = false
  #closeReplies = 0
  #closeReplyAt = 1

  #receivedPackets = 0
  #receivedBytes = 0
  #lostPackets = 0
  #unopened = 0
  #replayed = 0

  constructor(now: number, options: SessionOptions) {
    this.#options = options
    this.#remote = options.remote
    this.#packet = new PacketWriter(options.send, options.remoteId)
    this.#opener = new Packet.Opener(options.receive.header)
    this.#recovery = new Recovery(this.#rtt, options.congestion(now, MAX_DATAGRAM_LENGTH))
    this.#streams = new Streams(options.role, options.limits, options.peerLimits, options.windowGrowth)
    this.#mtu = new PathMtu(now, { ceiling: this.#ceiling(options.remote) })
    this.burst = { remote: options.remote, segment: MAX_DATAGRAM_LENGTH }
    this.#idleMs = Math.min(options.limits.idleTimeoutMs, options.peerLimits.idleTimeoutMs)
    this.#skipAt = this.#drawSkip()
    this.#timers.set(Timer.Idle, now + this.#idleMs)
    this.#startedAt = now
    if (options.handshakeMs !== undefined) this.#rtt.guess(options.handshakeMs)
  }

  get state(): State {
    return this.#state
  }

  get localId(): Uint8Array {
    return this.#options.localId
  }

  get remote(): Address {
    return this.#remote
  }

  /** Datagrams that did not open, and those that had been here before. */
  get unopened(): number {
    return this.#unopened
  }

  get replayed(): number {
    return this.#replayed
  }

  get openStreams(): number {
    return this.#streams.size
  }

  stats(): Stats {
    return {
      sentPackets: this.#packet.sentPackets,
      sentBytes: this.#packet.sentBytes,
      receivedPackets: this.#receivedPackets,
      receivedBytes: this.#receivedBytes,
      lostPackets: this.#lostPackets,
      unopened: this.#unopened,
      replayed: this.#replayed,
      rttMs: this.#rtt.hasSample ? this.#rtt.smoothed : 0,
      minRttMs: this.#rtt.hasSample ? this.#rtt.min : 0,
      congestionWindow: this.#recovery.controller.window(),
      bytesInFlight: this.#recovery.bytesInFlight,
      openStreams: this.#streams.size,
      datagramBytes: this.#mtu.current
    }
  }

  // -- commands ----------------------------------------------------------------------------------------------------

  /** Starts to send; a PING goes first, so that the peer learns at once that we hold the keys. */
  unmute(now: number): void {
    if (this.#state !== "muted") return
    this.#state = "open"
    this.#pingDue = true
    this.#touchKeepAlive(now)
  }

  openStream(priority: Priority): number | undefined {
    return this.#live ? this.#streams.open(priority) : undefined
  }

  setPriority(id: number, priority: Priority): void {
    this.#streams.setPriority(id, priority)
  }

  /** Queues bytes, kept by reference; false when stream or session takes no more. */
  write(id: number, bytes: Uint8Array): boolean {
    return this.#live && this.#streams.write(id, bytes)
  }

  /** Bytes of a stream that the peer has not acknowledged. */
  buffered(id: number): number {
    return this.#streams.buffered(id)
  }

  /** Whether a stream holds so much that its writer should wait for `StreamWritable`. */
  isFull(id: number): boolean {
    return this.#streams.isFull(id)
  }

  finish(id: number): void {
    if (this.#live) this.#streams.finish(id)
  }

  resetStream(id: number, code: number): void {
    if (this.#live) this.#streams.reset(id, code)
  }

  stopStream(id: number, code: number): void {
    if (this.#live) this.#streams.stop(id, code)
  }

  read(id: number): ReadResult {
    return this.#streams.read(id)
  }

  /** Bytes that fit one unreliable datagram. */
  get maxDatagram(): number {
    const capacity = this.#mtu.current - Packet.OVERHEAD
    return capacity - Frame.datagramOverhead(capacity)
  }

  /** Queues an unreliable datagram; false when too long or when too many wait. */
  sendDatagram(data: Uint8Array): boolean {
    if (!this.#live || data.length > this.maxDatagram || this.#datagrams.length >= MAX_QUEUED_DATAGRAMS) return false
    this.#datagrams.push(data)
    return true
  }

  /** Ends the session: the peer is told, streams are gone. */
  close(now: number, code: number, reason: string): void {
    if (this.#state === "closing" || this.#state === "draining" || this.#state === "closed") return
    const wasMuted = this.#state === "muted"
    let short = reason
    while (utf8(short).length > MAX_CLOSE_REASON_LENGTH) short = short.slice(0, -1)
    this.#end({ by: "local", code, reason: short })
    if (wasMuted) {
      this.#state = "closed"
      return
    }
    this.#state = "closing"
    this.#closeFrame = { type: "Close", code, reason: short }
    this.#closeDue = true
    this.#timers.set(Timer.Close, now + this.#closingMs)
  }

  /** Forgets the session without a word to anybody. */
  abandon(): void {
    if (this.#state === "closed") return
    this.#end({ by: "local", code: CloseCode.None, reason: "" })
    this.#state = "closed"
  }

  /** Forgets the keys of a session that is closed. */
  wipe(): void {
    if (this.#state !== "closed") return
    for (const { header, keys } of [this.#options.send, this.#options.receive]) {
      header.wipe()
      keys.packet.wipe()
    }
  }

  // -- input -------------------------------------------------------------------------------------------------------

  /** One datagram; it is opened where it lies. */
  handleDatagram(now: number, remote: Address, bytes: Uint8Array): Outcome {
    this.#single[0] = { bytes }
    this.#opener.prepare(this.#single, 0, 1)
    return this.#handle(now, remote, bytes, 0)
  }

  /**
   * Datagrams that came together, `from` to `to` of the batch, at most `MAX_BURST_DATAGRAMS`; they are opened where they lie
   * and may be kept. Answers how many were authentic and new.
   */
  handleDatagrams(
    now: number,
    batch: ReadonlyArray<{ readonly bytes: Uint8Array; readonly remote: Address }>,
    from: number,
    to: number
  ): number {
    if (this.#state === "closed") return 0
    this.#opener.prepare(batch, from, to)
    let accepted = 0
    for (let i = from; i < to; i++) {
      const { bytes, remote } = batch[i] as Transmit
      if (this.#handle(now, remote, bytes, i - from) === "accepted") accepted++
    }
    return accepted
  }

  #handle(now: number, remote: Address, bytes: Uint8Array, index: number): Outcome {
    if (this.#state === "closed") return "ignored"
    const header = this.#opener.header(bytes, index)
    if (header === undefined || header.epochBits !== 0) return this.#reject("unopened")
    const packetNumber = header.packetNumber
    if (!this.#replay.check(packetNumber)) return this.#reject("replayed")
    if (!this.#opener.open(this.#options.receive.keys, bytes)) return this.#reject("unopened")
    this.#replay.commit(packetNumber)
    this.#receivedPackets++
    this.#receivedBytes += bytes.length
    if (this.#receivedPackets === 1) {
      // A server's session begins with its answer, and this is what came back.
      if (this.#options.role === "server") this.#rtt.guess(now - this.#startedAt)
      this.#events.push({ type: "Proven" })
    }

    if (this.#state === "closing") {
      // Answer with CLOSE again, ever more rarely, until the peer has heard it.
      if (++this.#closeReplies === this.#closeReplyAt) {
        this.#closeReplyAt *= 2
        this.#closeDue = true
      }
      return "accepted"
    }
    if (this.#state === "draining") return "accepted"

    this.#timers.set(Timer.Idle, now + this.#idleMs)
    this.#unansweredSince = Number.POSITIVE_INFINITY
    if (this.#stalled) {
      this.#stalled = false
      this.#events.push({ type: "Recovered" })
    }
    if (packetNumber > this.#largestReceived) {
      this.#largestReceived = packetNumber
      if (!equals(remote, this.#remote)) this.#onMoved(now, remote)
    }
    this.#paths.onReceived(remote, bytes.length)
    const decoder = this.#decoder
    decoder.begin(bytes, PACKET_HEADER_LENGTH, bytes.length - TAG_LENGTH)
    let ackEliciting = false
    let immediate = false
    for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) {
      if (Frame.isAckEliciting(frame)) ackEliciting = true
      if (frame.type === "Ping") immediate = true
      const violation = this.#onFrame(now, remote, frame)
      if (violation !== undefined) {
        this.close(now, VIOLATION_CODE[violation], `${violation} violated`)
        return "accepted"
      }
      if (!this.#live) return "accepted"
    }
    if (decoder.malformed) {
      this.close(now, CloseCode.Protocol, "malformed packet")
      return "accepted"
    }
    this.#acks.onReceived(now, packetNumber, ackEliciting, immediate, this.#rtt.hasSample ? this.#rtt.smoothed : 0)
    if (ackEliciting && !immediate) this.#askSoon(now)
    if (this.#recovery.bytesInFlight > 0) this.#unansweredSince = now
    return "accepted"
  }

  handleTimeout(now: number): void {
    if (this.#state === "closed") return
    if (this.#timers.expired(Timer.Close, now)) {
      this.#state = "closed"
      this.#timers.stopAll()
      return
    }
    if (!this.#live) return
    const idle = this.#timers.expired(Timer.Idle, now)
    if (idle || this.#deadAt <= now) {
      this.#end({ by: "timeout", what: idle ? "idle" : "dead" })
      this.#state = "closed"
      return
    }
    if (now >= this.#stallsAt) {
      this.#stalled = true
      this.#events.push({ type: "Stalled" })
    }
    if (this.#recovery.deadline <= now) {
      const { lost, probe } = this.#recovery.onTimeout(now)
      this.#onLost(now, lost)
      if (probe) {
        this.#probes = 2
        const oldest = this.#recovery.oldest()
        // What was in flight longest rides along with the probe instead of waiting for its answer.
        for (let sent = oldest; sent !== undefined; sent = sent.next) this.#requeue(sent)
      }
    }
    if (this.#timers.expired(Timer.KeepAlive, now)) {
      this.#pingDue = true
      this.#touchKeepAlive(now)
    }
    if (this.#paths.deadline <= now) this.#paths.retry(now, this.#rtt.pto(MAX_ACK_DELAY_MS))
    if (this.#mtu.deadline <= now) this.#mtu.onTimeout(now)
  }

  // -- output ------------------------------------------------------------------------------------------------------

  /** The next datagram, in a buffer of its own: for owners that send one at a time. */
  pollTransmit(now: number): Transmit | undefined {
    const buffer = new Uint8Array(this.#mtu.current)
    const length = this.#poll(now, buffer, 0, 1)
    return length === 0 ? undefined : { bytes: buffer.slice(0, length), remote: this.burst.remote }
  }

  /**
   * Writes the next datagrams into `buffer` from `start` on, as many as are ready, fit, and go to one address: all of
   * `burst.segment` bytes but the last, which may be shorter. Answers how many bytes; 0 when there is nothing to send, or
   * less room than a datagram of `maxDatagramLength` needs.
   */
  pollBurst(now: number, buffer: Uint8Array, start: number): number {
    return this.#poll(now, buffer, start, MAX_BURST_DATAGRAMS)
  }

  #poll(now: number, buffer: Uint8Array, start: number, most: number): number {
    const { burst } = this
    burst.remote = this.#remote
    let at = start
    if (this.#state === "closing") {
      if (!this.#closeDue || this.#closeFrame === undefined) return 0
      this.#closeDue = false
      this.#packet.begin(buffer, start, MAX_DATAGRAM_LENGTH)
      this.#packet.put(this.#closeFrame)
      at += this.#packet.seal(0)
    } else if (this.#state === "open") {
      const probe = this.#paths.poll()
      if (probe !== undefined) {
        burst.remote = probe.remote
        at += this.#writePathProbe(now, buffer, start, probe.frame)
      } else {
        at += this.#writeMtuProbe(now, buffer, start)
        if (at === start) return this.#pollFull(now, buffer, start, most)
      }
    }
    this.#packet.mask()
    burst.segment = at - start
    return at - start
  }

  /** Datagrams of the path's size, until there is nothing more, no room, or no leave to send. */
  #pollFull(now: number, buffer: Uint8Array, start: number, most: number): number {
    const size = this.#mtu.current
    const end = Math.min(buffer.length, start + most * size)
    let at = start
    if (this.#redundancy.deadline <= now) this.#requeueCopies(now)
    while (at + size <= end) {
      const length = this.#writeNext(now, buffer, at, size)
      at += length
      if (length < size) break
    }
    this.#packet.mask()
    this.burst.segment = Math.min(size, at - start)
    return at - start
  }

  /** Sends small packets once more, unless there is something better to send, or no leave to. */
  #requeueCopies(now: number): void {
    const due = this.#redundancy.poll(now)
    const recovery = this.#recovery
    if (due.length === 0 || this.#streams.hasData || recovery.sendTime(now, MAX_DATAGRAM_LENGTH) > now) return
    // Where the window is nearly used up, a copy would take the place of something new.
    if (2 * recovery.bytesInFlight > recovery.controller.window()) return
    this.#copies = due.length
    for (const content of due)
      for (let sent: Sent | undefined = content; sent !== undefined; sent = sent.next) this.#requeue(sent)
  }

  /** One packet of whatever is due, at most `size` bytes of datagram; answers its length, 0 for none. */
  #writeNext(now: number, buffer: Uint8Array, at: number, size: number): number {
    const wants =
      this.#probes > 0 ||
      this.#pingDue ||
      this.#reliable.length > 0 ||
      this.#datagrams.length > 0 ||
      this.#streams.hasControl ||
      this.#streams.hasData
    let allowedAt = Number.POSITIVE_INFINITY
    if (wants) allowedAt = this.#probes > 0 ? now : this.#recovery.sendTime(now, size)
    if (allowedAt <= now) return this.#writeFull(now, buffer, at, size)
    this.#timers.set(Timer.Pace, allowedAt)
    return this.#acks.due(now) ? this.#writeAck(now, buffer, at) : 0
  }

  pollTimeout(): number {
    if (this.#state === "closed") return Number.POSITIVE_INFINITY
    const timers = this.#timers
    if (this.#state === "open") {
      timers.set(Timer.Loss, this.#recovery.deadline)
      timers.set(Timer.Ack, this.#acks.deadline)
      timers.set(Timer.Path, this.#paths.deadline)
      timers.set(Timer.Mtu, this.#mtu.deadline)
      timers.set(Timer.Copy, this.#redundancy.deadline)
      timers.set(Timer.Stall, this.#stallsAt)
      timers.set(Timer.Dead, this.#deadAt)
    }
    return timers.next()
  }

  pollEvent(): SessionEvent | undefined {
    return this.#events.shift() ?? (this.#live ? this.#streams.pollEvent() : undefined)
  }

  // -- frames ------------------------------------------------------------------------------------------------------

  #onFrame(now: number, remote: Address, frame: Frame.Frame): Violation | undefined {
    switch (frame.type) {
      case "Ack":
        return this.#onAck(now, frame)
      case "Stream":
        return this.#streams.onStream(frame)
      case "Reset":
        return this.#streams.onReset(frame)
      case "Stop":
        return this.#streams.onStop(frame)
      case "MaxData":
        this.#streams.onMaxData(frame.limit)
        return undefined
      case "MaxStreamData":
        return this.#streams.onMaxStreamData(frame)
      case "MaxStreams":
        this.#streams.onMaxStreams(frame.limit)
        return undefined
      case "Datagram":
        // A few bytes must not keep alive a buffer that the kernel filled with many datagrams.
        this.#events.push({ type: "Datagram", data: frame.data.slice() })
        return undefined
      case "PathChallenge":
        this.#paths.onChallenge(remote, frame.token)
        return undefined
      case "PathResponse":
        if (this.#paths.onResponse(remote, frame.token)) this.#onProvenPath(now, remote)
        return undefined
      case "Close":
        this.#end({ by: "peer", code: frame.code, reason: frame.reason })
        this.#state = "draining"
        this.#timers.set(Timer.Close, now + this.#closingMs)
        return undefined
      default:
        // Padding and PING mean nothing more; the rest belongs to features this version does not offer yet.
        return undefined
    }
  }

  #onAck(now: number, frame: Frame.Ack): Violation | undefined {
    const result = this.#recovery.onAck(now, frame.ranges, frame.delayUs / 1000)
    if (result === "invalid") return "protocol"
    const watched = this.#mtu.current > this.#mtu.base
    for (const content of result.acked) {
      if (content === undefined) continue
      this.#redundancy.onAcked(content.packetNumber)
      if (watched) this.#mtu.onPacketAcked(content.packetNumber, content.bytes)
      for (let sent: Sent | undefined = content; sent !== undefined; sent = sent.next) this.#onArrived(now, sent)
    }
    this.#onLost(now, result.lost)
    this.#streams.setWindow(this.#recovery.controller.window())
    return undefined
  }

  #onArrived(now: number, sent: Sent): void {
    if (sent.type === "Ack") this.#acks.forget(sent.id + 1)
    else if (sent.type === "MtuProbe") {
      if (this.#mtu.onProbeAcked(now, sent.packetNumber, sent.bytes)) this.#onMtuChanged()
    } else if (sent.type !== "Reliable") this.#streams.onAcked(sent as StreamSent)
  }

  #onLost(now: number, lost: ReadonlyArray<Sent | undefined>): void {
    this.#lostPackets += lost.length
    const watched = this.#mtu.current > this.#mtu.base
    for (const content of lost) {
      if (content === undefined) continue
      const { packetNumber, bytes } = content
      if (content.type !== "MtuProbe") this.#redundancy.onLost(packetNumber)
      if (watched && content.type !== "MtuProbe") {
        if (this.#mtu.onPacketLost(now, packetNumber, bytes, this.#packet.nextPacketNumber)) this.#onMtuChanged()
      }
      for (let sent: Sent | undefined = content; sent !== undefined; sent = sent.next) {
        if (sent.type === "MtuProbe") this.#mtu.onProbeLost(now, sent.packetNumber, sent.bytes)
        else this.#requeue(sent)
      }
    }
    // What the peer never got it need not answer; what is sent again counts anew.
    if (lost.length > 0 && this.#recovery.bytesInFlight === 0) this.#unansweredSince = Number.POSITIVE_INFINITY
  }

  #requeue(sent: Sent): void {
    if (sent.type === "Ack" || sent.type === "MtuProbe") return
    if (sent.frame !== undefined) this.#reliable.push(sent.frame)
    else this.#streams.onLost(sent as StreamSent)
  }

  // -- packets -----------------------------------------------------------------------------------------------------

  /** A packet of all that is due. Probes keep to what every path carries, or a black hole would take them, too. */
  #writeFull(now: number, buffer: Uint8Array, at: number, size: number): number {
    const packet = this.#packet
    const probing = this.#probes > 0
    const room = probing ? MAX_DATAGRAM_LENGTH : size
    packet.begin(buffer, at, room)
    if (this.#acks.pending) this.#putAck(now)
    if (this.#pingDue) {
      this.#pingDue = false
      packet.put(PING)
    }
    while (this.#reliable.length > 0) {
      const frame = this.#reliable[0] as Frame.Frame
      if (Frame.encodedLength(frame) > packet.remaining) break
      this.#reliable.shift()
      packet.carry(frame)
    }
    while (packet.remaining >= Frame.MAX_CONTROL_LENGTH) {
      const frame = this.#streams.pollControl(now, this.#rtt.smoothed)
      if (frame === undefined) break
      packet.carry(frame)
    }
    while (this.#datagrams.length > 0) {
      const data = this.#datagrams[0] as Uint8Array
      if (Frame.datagramOverhead(data.length) + data.length > packet.remaining) break
      this.#datagrams.shift()
      packet.put({ type: "Datagram", data })
    }
    while (packet.remaining > Frame.MAX_STREAM_OVERHEAD) {
      const chunk = this.#streams.pollData(packet.remaining - Frame.MAX_STREAM_OVERHEAD)
      if (chunk === undefined) break
      packet.putStream(chunk)
    }
    if (probing) {
      this.#probes--
      if (!packet.eliciting) packet.put(PING)
    }
    const appLimited = !this.#streams.hasData
    return this.#send(now, appLimited, appLimited ? 0 : room)
  }

  #writeAck(now: number, buffer: Uint8Array, at: number): number {
    this.#packet.begin(buffer, at, MAX_DATAGRAM_LENGTH)
    this.#putAck(now)
    // Who only acknowledges would never learn what of it arrived (RFC 9000 section 13.2.4).
    if (this.#silentPackets >= ACKS_BEFORE_PING) this.#packet.put(PING)
    return this.#send(now, true, 0)
  }

  #putAck(now: number): void {
    const frame = this.#acks.frame(now)
    this.#packet.carry(frame)
    this.#acks.onAckSent(now, frame.ranges[0]?.end ?? -1)
  }

  /** Half of a path validation: its loss is noticed by the path timer, so nothing is repeated here. */
  #writePathProbe(now: number, buffer: Uint8Array, at: number, frame: Frame.Frame): number {
    this.#packet.begin(buffer, at, MAX_DATAGRAM_LENGTH)
    this.#packet.put(frame)
    return this.#send(now, true, 0)
  }

  /** A packet that only asks whether the path carries its size; only while there is bulk that would gain by it. */
  #writeMtuProbe(now: number, buffer: Uint8Array, at: number): number {
    const mtu = this.#mtu
    if (!mtu.enabled || !this.#streams.hasData || buffer.length - at < mtu.ceiling) return 0
    if (this.#recovery.bytesInFlight < BULK_DATAGRAMS * mtu.current) return 0
    if (this.#recovery.sendTime(now, mtu.current) > now) return 0
    const size = mtu.pollProbe(now)
    if (size === undefined) return 0
    this.#packet.begin(buffer, at, size)
    this.#packet.putMtuProbe()
    const length = this.#send(now, true, size)
    this.#recovery.onMtuProbe(this.#packet.nextPacketNumber - 1)
    return length
  }

  /** Seals the packet under construction and takes it on record; it grows to `least` bytes of datagram. */
  #send(now: number, appLimited: boolean, least: number): number {
    const packet = this.#packet
    if (packet.nextPacketNumber === this.#skipAt) {
      // An acknowledgement of a number never sent betrays a peer that acknowledges ahead of what it received.
      this.#recovery.onSkipped(packet.nextPacketNumber++)
      this.#skipAt = packet.nextPacketNumber + this.#drawSkip()
    }
    const packetNumber = packet.nextPacketNumber
    const length = packet.seal(least)
    const { content, eliciting } = packet
    this.#recovery.onSent(now, packetNumber, length, eliciting, content, appLimited)
    if (content !== undefined) this.#copyLater(now, content, appLimited)
    this.#silentPackets = eliciting ? 0 : this.#silentPackets + 1
    if (eliciting) {
      if (this.#unansweredSince === Number.POSITIVE_INFINITY) this.#unansweredSince = now
      this.#touchKeepAlive(now)
    }
    if (packetNumber >= LAST_PACKET_NUMBER) this.close(now, CloseCode.Exhausted, "packet numbers used up")
    return length
  }

  /** A packet left: unless it was a copy itself, it may be worth one. */
  #copyLater(now: number, content: Sent, appLimited: boolean): void {
    if (this.#copies > 0) this.#copies = appLimited ? 0 : this.#copies - 1
    else if (content.type !== "Ack" && content.type !== "MtuProbe") {
      this.#redundancy.onSent(now, content.packetNumber, content.bytes, content, this.#rtt.smoothed)
    }
  }

  #drawSkip(): number {
    const [low = 0, high = 0] = this.#options.entropy(2)
    return SKIP_PACKETS + (((high << 8) | low) % SKIP_PACKETS)
  }

  // -- path --------------------------------------------------------------------------------------------------------

  /** The newest packet came from elsewhere: challenge the new address before anything else goes there. */
  #onMoved(now: number, remote: Address): void {
    if (this.#options.role === "client") return
    this.#paths.challenge(now, remote, this.#options.entropy(8), this.#rtt.pto(MAX_ACK_DELAY_MS))
  }

  #onProvenPath(now: number, remote: Address): void {
    // Another port of the same host is most likely the same path (RFC 9000 section 9.4).
    if (remote.host !== this.#remote.host) {
      this.#recovery.onPathChanged(this.#options.congestion(now, MAX_DATAGRAM_LENGTH))
      this.#mtu.onPathChanged(now, this.#packet.nextPacketNumber, this.#ceiling(remote))
    }
    this.#remote = remote
    this.#events.push({ type: "PathChanged", remote })
  }

  /** Bytes of the largest datagram that both ends and the way to `remote` may take. */
  #ceiling(remote: Address): number {
    const { datagramCeiling, peerLimits } = this.#options
    return Math.min(peerLimits.maxDatagram, datagramCeiling?.(remote) ?? MAX_DATAGRAM_LENGTH)
  }

  #onMtuChanged(): void {
    this.#recovery.setMaxDatagram(this.#mtu.current)
  }

  // -- life --------------------------------------------------------------------------------------------------------

  get #live(): boolean {
    return this.#state === "open" || this.#state === "muted"
  }

  get #deadAt(): number {
    return this.#unansweredSince + this.#options.deadAfterMs
  }

  /** Three probe timeouts (RFC 9000 section 10.2); a peer that draws its round trips out gets no more for it. */
  get #closingMs(): number {
    return Math.min(3 * this.#rtt.pto(MAX_ACK_DELAY_MS), MAX_CLOSING_MS)
  }

  /** Only a peer that has been heard can fall silent. */
  get #stallsAt(): number {
    const none = this.#stalled || this.#receivedPackets === 0
    return none ? Number.POSITIVE_INFINITY : this.#unansweredSince + STALL_MS
  }

  #reject(outcome: "unopened" | "replayed"): Outcome {
    if (outcome === "unopened") this.#unopened++
    else this.#replayed++
    return outcome
  }

  /** When a server that was sending falls silent, it may have lost us behind a NAT: a PING shows it where we are. */
  #askSoon(now: number): void {
    if (this.#state !== "open" || this.#options.role === "server") return
    this.#timers.set(Timer.KeepAlive, now + Math.min(this.#options.keepAliveMs, QUIET_MS))
  }

  #touchKeepAlive(now: number): void {
    this.#timers.set(Timer.KeepAlive, now + this.#options.keepAliveMs)
  }

  #end(reason: CloseReason): void {
    this.#timers.stopAll()
    this.#recovery.clear()
    this.#reliable = []
    this.#datagrams = []
    this.#paths.clear()
    this.#redundancy.clear()
    this.#events.push({ type: "Closed", reason })
  }
}
