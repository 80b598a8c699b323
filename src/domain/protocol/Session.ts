/**
 * One session after its handshake: packets, acknowledgements, recovery, streams, datagrams, liveness and its end.
 *
 * Sans-IO. The owner feeds `handleDatagram`, `handleTimeout` and the commands, each with `now` (ms, never going back), and
 * after any of them drains, in this order and until `undefined`:
 *
 *     pollTransmit(now)   the next datagram to send
 *     pollEvent()         what the application should know
 *     pollTimeout()       when to call handleTimeout, if nothing else happens first (`Infinity`: never)
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
  MAX_CLOSE_REASON_LENGTH,
  MAX_CLOSING_MS,
  MAX_DATAGRAM_LENGTH,
  MAX_PACKET_NUMBER,
  MAX_QUEUED_DATAGRAMS,
  PADDING_BLOCK,
  QUIET_MS,
  SKIP_PACKETS,
  STALL_MS
} from "./Constants.ts"
import { utf8, Writer } from "./Cursor.ts"
import * as Frame from "./Frame.ts"
import type { Limits } from "./Limits.ts"
import * as Packet from "./Packet.ts"
import { PathValidator } from "./PathValidator.ts"
import type { Entropy, MaskKey } from "./Primitives.ts"
import { Recovery } from "./Recovery.ts"
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

export interface DirectionSecrets {
  readonly header: MaskKey
  readonly keys: Packet.DirectionKeys
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

type Sent =
  | StreamSent
  | { readonly type: "Ack"; readonly largest: number }
  | { readonly type: "Reliable"; readonly frame: Frame.Frame }

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
  openStreams: 0
}

const VIOLATION_CODE: Record<Violation, CloseCode> = {
  "flow-control": CloseCode.FlowControl,
  "final-size": CloseCode.FinalSize,
  "stream-limit": CloseCode.StreamLimit,
  protocol: CloseCode.Protocol
}

const CAPACITY = MAX_DATAGRAM_LENGTH - Packet.OVERHEAD
/** The session ends a little before the last packet number, so that CLOSE has numbers of its own. */
const LAST_PACKET_NUMBER = MAX_PACKET_NUMBER - 1024

export class Session {
  readonly #options: SessionOptions
  readonly #sealer: Packet.Sealer
  readonly #opener: Packet.Opener
  readonly #replay = new ReplayWindow()
  readonly #acks = new AckTracker()
  readonly #rtt = new Rtt()
  readonly #recovery: Recovery<ReadonlyArray<Sent>>
  readonly #streams: Streams
  readonly #timers = new Timers()
  readonly #events: Array<SessionEvent> = []
  readonly #plaintext = new Uint8Array(CAPACITY)
  readonly #idleMs: number

  #state: State = "muted"
  #remote: Address
  #nextPacketNumber = 0
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

  #sentPackets = 0
  #sentBytes = 0
  #receivedPackets = 0
  #receivedBytes = 0
  #lostPackets = 0
  #unopened = 0
  #replayed = 0

  constructor(now: number, options: SessionOptions) {
    this.#options = options
    this.#remote = options.remote
    this.#sealer = new Packet.Sealer(options.send.header)
    this.#opener = new Packet.Opener(options.receive.header)
    this.#recovery = new Recovery(this.#rtt, options.congestion(now, MAX_DATAGRAM_LENGTH))
    this.#streams = new Streams(options.role, options.limits, options.peerLimits)
    this.#idleMs = Math.min(options.limits.idleTimeoutMs, options.peerLimits.idleTimeoutMs)
    this.#skipAt = this.#drawSkip()
    this.#timers.set(Timer.Idle, now + this.#idleMs)
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

  get openStreams(): number {
    return this.#streams.size
  }

  stats(): Stats {
    return {
      sentPackets: this.#sentPackets,
      sentBytes: this.#sentBytes,
      receivedPackets: this.#receivedPackets,
      receivedBytes: this.#receivedBytes,
      lostPackets: this.#lostPackets,
      unopened: this.#unopened,
      replayed: this.#replayed,
      rttMs: this.#rtt.hasSample ? this.#rtt.smoothed : 0,
      minRttMs: this.#rtt.hasSample ? this.#rtt.min : 0,
      congestionWindow: this.#recovery.controller.window(),
      bytesInFlight: this.#recovery.bytesInFlight,
      openStreams: this.#streams.size
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
    return CAPACITY - Frame.datagramOverhead(CAPACITY)
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

  // -- input -------------------------------------------------------------------------------------------------------

  handleDatagram(now: number, remote: Address, bytes: Uint8Array): Outcome {
    if (this.#state === "closed") return "ignored"
    const header = this.#opener.header(bytes)
    if (header === undefined || header.epochBits !== 0) return this.#reject("unopened")
    const packetNumber = header.packetNumber
    if (!this.#replay.check(packetNumber)) return this.#reject("replayed")
    const plaintext = this.#opener.open(this.#options.receive.keys, bytes)
    if (plaintext === undefined) return this.#reject("unopened")
    this.#replay.commit(packetNumber)
    this.#receivedPackets++
    this.#receivedBytes += bytes.length
    if (this.#receivedPackets === 1) this.#events.push({ type: "Proven" })

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
    const frames = Frame.decode(plaintext)
    if (frames === undefined) {
      this.close(now, CloseCode.Protocol, "malformed packet")
      return "accepted"
    }
    if (packetNumber > this.#largestReceived) {
      this.#largestReceived = packetNumber
      if (!equals(remote, this.#remote)) this.#onMoved(now, remote)
    }
    this.#paths.onReceived(remote, bytes.length)
    let ackEliciting = false
    let immediate = false
    for (const frame of frames) {
      if (Frame.isAckEliciting(frame)) ackEliciting = true
      if (frame.type === "Ping") immediate = true
      const violation = this.#onFrame(now, remote, frame)
      if (violation !== undefined) {
        this.close(now, VIOLATION_CODE[violation], `${violation} violated`)
        return "accepted"
      }
      if (!this.#live) return "accepted"
    }
    this.#acks.onReceived(now, packetNumber, ackEliciting, immediate)
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
      this.#onLost(lost)
      if (probe) {
        this.#probes = 2
        const oldest = this.#recovery.oldest()
        // What was in flight longest rides along with the probe instead of waiting for its answer.
        if (oldest !== undefined) for (const sent of oldest) this.#requeue(sent)
      }
    }
    if (this.#timers.expired(Timer.KeepAlive, now)) {
      this.#pingDue = true
      this.#touchKeepAlive(now)
    }
    if (this.#paths.deadline <= now) this.#paths.retry(now, this.#rtt.pto(MAX_ACK_DELAY_MS))
  }

  // -- output ------------------------------------------------------------------------------------------------------

  pollTransmit(now: number): Transmit | undefined {
    if (this.#state === "closing") {
      if (!this.#closeDue || this.#closeFrame === undefined) return undefined
      this.#closeDue = false
      const writer = new Writer(this.#plaintext)
      Frame.encode(writer, this.#closeFrame)
      return this.#sealOnly(writer, this.#remote)
    }
    if (this.#state !== "open") return undefined
    const probe = this.#paths.poll()
    if (probe !== undefined) return this.#sendProbe(now, probe.frame, probe.remote)

    const wants =
      this.#probes > 0 ||
      this.#pingDue ||
      this.#reliable.length > 0 ||
      this.#datagrams.length > 0 ||
      this.#streams.hasControl ||
      this.#streams.hasData
    let allowedAt = Number.POSITIVE_INFINITY
    if (wants) allowedAt = this.#probes > 0 ? now : this.#recovery.sendTime(now, MAX_DATAGRAM_LENGTH)
    if (allowedAt <= now) return this.#sendFull(now)
    this.#timers.set(Timer.Pace, allowedAt)
    return this.#acks.due(now) ? this.#sendAck(now) : undefined
  }

  pollTimeout(): number {
    if (this.#state === "closed") return Number.POSITIVE_INFINITY
    const timers = this.#timers
    if (this.#state === "open") {
      timers.set(Timer.Loss, this.#recovery.deadline)
      timers.set(Timer.Ack, this.#acks.deadline)
      timers.set(Timer.Path, this.#paths.deadline)
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
        this.#events.push({ type: "Datagram", data: frame.data })
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
    for (const content of result.acked) {
      for (const sent of content) {
        if (sent.type === "Ack") this.#acks.forget(sent.largest + 1)
        else if (sent.type !== "Reliable") this.#streams.onAcked(sent)
      }
    }
    this.#onLost(result.lost)
    return undefined
  }

  #onLost(lost: ReadonlyArray<ReadonlyArray<Sent>>): void {
    this.#lostPackets += lost.length
    for (const content of lost) for (const sent of content) this.#requeue(sent)
    // What the peer never got it need not answer; what is sent again counts anew.
    if (lost.length > 0 && this.#recovery.bytesInFlight === 0) this.#unansweredSince = Number.POSITIVE_INFINITY
  }

  #requeue(sent: Sent): void {
    if (sent.type === "Ack") return
    if (sent.type === "Reliable") this.#reliable.push(sent.frame)
    else this.#streams.onLost(sent)
  }

  // -- packets -----------------------------------------------------------------------------------------------------

  #sendFull(now: number): Transmit {
    const writer = new Writer(this.#plaintext)
    const content: Array<Sent> = []
    if (this.#acks.pending) this.#putAck(now, writer, content)
    let eliciting = false
    if (this.#pingDue) {
      this.#pingDue = false
      Frame.encode(writer, { type: "Ping" })
      eliciting = true
    }
    while (this.#reliable.length > 0) {
      const frame = this.#reliable[0] as Frame.Frame
      if (Frame.encodedLength(frame) > writer.remaining) break
      this.#reliable.shift()
      Frame.encode(writer, frame)
      content.push({ type: "Reliable", frame })
      eliciting = true
    }
    while (writer.remaining >= Frame.MAX_CONTROL_LENGTH) {
      const frame = this.#streams.pollControl()
      if (frame === undefined) break
      Frame.encode(writer, frame)
      content.push(sentOf(frame))
      eliciting = true
    }
    while (this.#datagrams.length > 0) {
      const data = this.#datagrams[0] as Uint8Array
      if (Frame.datagramOverhead(data.length) + data.length > writer.remaining) break
      this.#datagrams.shift()
      Frame.encode(writer, { type: "Datagram", data })
      eliciting = true
    }
    while (writer.remaining > Frame.MAX_STREAM_OVERHEAD) {
      const frame = this.#streams.pollData(writer.remaining - Frame.MAX_STREAM_OVERHEAD)
      if (frame === undefined) break
      Frame.encode(writer, frame)
      content.push({ type: "Stream", id: frame.id, offset: frame.offset, length: frame.data.length, fin: frame.fin })
      eliciting = true
    }
    if (this.#probes > 0) {
      this.#probes--
      if (!eliciting) {
        Frame.encode(writer, { type: "Ping" })
        eliciting = true
      }
    }
    const appLimited = !this.#streams.hasData
    return this.#seal(now, writer, content, eliciting, this.#remote, appLimited)
  }

  #sendAck(now: number): Transmit {
    const writer = new Writer(this.#plaintext)
    const content: Array<Sent> = []
    this.#putAck(now, writer, content)
    // Who only acknowledges would never learn what of it arrived (RFC 9000 section 13.2.4).
    const eliciting = this.#silentPackets >= ACKS_BEFORE_PING
    if (eliciting) Frame.encode(writer, { type: "Ping" })
    return this.#seal(now, writer, content, eliciting, this.#remote, true)
  }

  #putAck(now: number, writer: Writer, content: Array<Sent>): void {
    const frame = this.#acks.frame(now)
    const largest = frame.ranges[0]?.end
    if (largest === undefined) return
    Frame.encode(writer, frame)
    this.#acks.onAckSent(largest)
    content.push({ type: "Ack", largest })
  }

  /** Half of a path validation: its loss is noticed by the path timer, so nothing is repeated here. */
  #sendProbe(now: number, frame: Frame.Frame, remote: Address): Transmit {
    const writer = new Writer(this.#plaintext)
    Frame.encode(writer, frame)
    return this.#seal(now, writer, [], true, remote, true)
  }

  #seal(
    now: number,
    writer: Writer,
    content: ReadonlyArray<Sent>,
    eliciting: boolean,
    remote: Address,
    appLimited: boolean
  ): Transmit {
    if (this.#nextPacketNumber === this.#skipAt) {
      // An acknowledgement of a number never sent betrays a peer that acknowledges ahead of what it received.
      this.#recovery.onSkipped(this.#nextPacketNumber++)
      this.#skipAt = this.#nextPacketNumber + this.#drawSkip()
    }
    const packetNumber = this.#nextPacketNumber
    const transmit = this.#sealOnly(writer, remote)
    this.#recovery.onSent(now, packetNumber, transmit.bytes.length, eliciting, content, appLimited)
    this.#silentPackets = eliciting ? 0 : this.#silentPackets + 1
    if (eliciting) {
      if (this.#unansweredSince === Number.POSITIVE_INFINITY) this.#unansweredSince = now
      this.#touchKeepAlive(now)
    }
    if (packetNumber >= LAST_PACKET_NUMBER) this.close(now, CloseCode.Exhausted, "packet numbers used up")
    return transmit
  }

  #sealOnly(writer: Writer, remote: Address): Transmit {
    const length = Math.max(PADDING_BLOCK, Math.ceil(writer.offset / PADDING_BLOCK) * PADDING_BLOCK)
    writer.fill(0, length - writer.offset)
    const plaintext = this.#plaintext.subarray(0, length)
    const packetNumber = this.#nextPacketNumber++
    const bytes = this.#sealer.seal(this.#options.send.keys, 0, this.#options.remoteId, packetNumber, plaintext)
    this.#sentPackets++
    this.#sentBytes += bytes.length
    return { bytes, remote }
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
    }
    this.#remote = remote
    this.#events.push({ type: "PathChanged", remote })
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
    this.#events.push({ type: "Closed", reason })
  }
}

const sentOf = (frame: Frame.Frame): Sent => {
  switch (frame.type) {
    case "Reset":
    case "Stop":
    case "MaxStreamData":
      return { type: frame.type, id: frame.id }
    case "MaxData":
    case "MaxStreams":
      return { type: frame.type }
    default:
      return { type: "Reliable", frame }
  }
}
