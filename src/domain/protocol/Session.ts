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
import { type Address, equals, isPort } from "./Address.ts"
import { CloseCode, type CloseReason } from "./CloseCode.ts"
import { NOTIFICATION_LENGTH, NOTIFY_AT_MS } from "./Compromise.ts"
import { ConnectionIds } from "./ConnectionIds.ts"
import {
  MAX_ACK_DELAY_MS,
  MAX_BURST_DATAGRAMS,
  MAX_CANDIDATES,
  MAX_CLOSING_MS,
  MAX_DATAGRAM_LENGTH,
  MAX_PACKET_NUMBER,
  MAX_REKEY_GRACE_MS,
  PACKET_HEADER_LENGTH
} from "./Constants.ts"
import { Farewell } from "./Farewell.ts"
import * as Frame from "./Frame.ts"
import { isUnicast } from "./HostKind.ts"
import { KeyRatchet } from "./KeyRatchet.ts"
import { FULL_BYTES, Liveness } from "./Liveness.ts"
import * as Packet from "./Packet.ts"
import { PacketWriter, type Sent } from "./PacketWriter.ts"
import type { Path } from "./Path.ts"
import { PathMtu } from "./PathMtu.ts"
import { Paths } from "./Paths.ts"
import { TAG_LENGTH } from "./Primitives.ts"
import { Recovery } from "./Recovery.ts"
import { ReplayWindow } from "./ReplayWindow.ts"
import { Rtt } from "./Rtt.ts"
import { Sender } from "./Sender.ts"
import type { Outcome, PathView, SessionEvent, SessionOptions, Stats, Transmit } from "./SessionTypes.ts"
import { type Priority, type ReadResult, type Sent as StreamSent, Streams, type Violation } from "./Streams.ts"
import { Timer, Timers } from "./Timers.ts"

type State = "muted" | "open" | "closing" | "draining" | "closed"

const VIOLATION_CODE: Record<Violation, CloseCode> = {
  "flow-control": CloseCode.FlowControl,
  "final-size": CloseCode.FinalSize,
  "stream-limit": CloseCode.StreamLimit,
  protocol: CloseCode.Protocol
}

/** The session ends a little before the last packet number, so that CLOSE has numbers of its own. */
const LAST_PACKET_NUMBER = MAX_PACKET_NUMBER - 1024

export class Session {
  readonly #options: SessionOptions
  readonly #packet: PacketWriter
  readonly #opener: Packet.Opener
  readonly #ratchet: KeyRatchet
  readonly #replay = new ReplayWindow()
  readonly #acks = new AckTracker()
  readonly #rtt = new Rtt()
  readonly #recovery: Recovery<Sent | undefined>
  readonly #streams: Streams
  readonly #timers = new Timers()
  readonly #events: Array<SessionEvent> = []
  readonly #decoder = new Frame.Decoder()
  readonly #mtu: PathMtu
  readonly #ids: ConnectionIds
  readonly #paths: Paths
  readonly #liveness: Liveness
  readonly #sender: Sender
  readonly #startedAt: number
  /** Where the peer sees us, as it told last. */
  #observed: Address = { host: "", port: 0 }
  readonly #single: Array<{ readonly bytes: Uint8Array }> = []
  /** Of the last `pollBurst` that answered bytes. */
  readonly burst: { remote: Address; segment: number }

  #state: State = "muted"
  /** The path in use, as far as everything here has followed it. */
  #path: Path
  #largestReceived = -1
  #farewell: Farewell | undefined

  #receivedPackets = 0
  #receivedBytes = 0
  #lostPackets = 0
  #unopened = 0
  #replayed = 0

  constructor(now: number, options: SessionOptions) {
    this.#options = options
    const { role, remote, localId, limits, peerLimits } = options
    this.#packet = new PacketWriter(options.send, options.remoteId)
    this.#ids = new ConnectionIds(localId, options.remoteId, options.ids)
    this.#paths = new Paths(now, {
      role,
      remote,
      localId,
      ids: this.#ids,
      entropy: options.entropy,
      rtt: this.#rtt,
      rank: options.rank ?? (() => 0)
    })
    this.#path = this.#paths.active
    this.#opener = new Packet.Opener(options.receive.header)
    this.#ratchet = new KeyRatchet(now, {
      role,
      primitives: options.primitives,
      entropy: options.entropy,
      chainingKey: options.chainingKey,
      send: options.send.keys,
      receive: options.receive.keys,
      intervalMs: options.rekeyIntervalMs,
      packets: options.rekeyPackets,
      bytes: options.rekeyBytes
    })
    this.#recovery = new Recovery(this.#rtt, options.congestion(now, MAX_DATAGRAM_LENGTH))
    this.#streams = new Streams(role, limits, peerLimits, options.windowGrowth)
    this.#mtu = new PathMtu(now, { ceiling: this.#ceiling(remote) })
    this.burst = { remote, segment: MAX_DATAGRAM_LENGTH }
    this.#liveness = new Liveness(now, {
      role,
      idleMs: Math.min(limits.idleTimeoutMs, peerLimits.idleTimeoutMs),
      deadAfterMs: options.deadAfterMs,
      keepAliveMs: options.keepAliveMs,
      askMs: options.askMs
    })
    this.#sender = new Sender(this.#packet, {
      recovery: this.#recovery,
      acks: this.#acks,
      streams: this.#streams,
      mtu: this.#mtu,
      ratchet: this.#ratchet,
      rtt: this.#rtt,
      liveness: this.#liveness,
      entropy: options.entropy
    })
    this.#startedAt = now
    if (options.handshakeMs !== undefined) this.#rtt.guess(options.handshakeMs)
  }

  get state(): State {
    return this.#state
  }

  /** Every connection id that leads to this session. */
  get localIds(): ReadonlyArray<Uint8Array> {
    return this.#ids.local
  }

  /** The ways to the peer that are known. */
  paths(): ReadonlyArray<PathView> {
    return this.#paths.all.map((path) => {
      const { remote, rank, state } = path
      if (path === this.#path) return { remote, state: "active", rttMs: this.#rtt.smoothed, relayed: rank > 0 }
      return { remote, state, rttMs: path.rttMs, relayed: rank > 0 }
    })
  }

  get remote(): Address {
    return this.#path.remote
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
      datagramBytes: this.#mtu.current,
      epoch: this.#ratchet.epoch
    }
  }

  // -- commands ----------------------------------------------------------------------------------------------------

  /** Starts to send; a PING goes first, so that the peer learns at once that we hold the keys. */
  unmute(now: number): void {
    if (this.#state !== "muted") return
    this.#state = "open"
    this.#sender.pingDue = true
    this.#liveness.start(now)
    this.#ids.supply(false)
    this.#follow(now)
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
    if (!this.#live || data.length > this.maxDatagram) return false
    return this.#sender.queue(data)
  }

  /**
   * Replaces the keys of both directions as soon as nothing stands against it: a rotation under way, the grace of the last
   * one, the validation of a path. `Rekeyed` tells when both ends use the new ones.
   */
  rekey(): void {
    if (this.#live) this.#ratchet.request()
  }

  /** Tries to reach the peer at these addresses, too; what is no unicast address, or one too many, is left out. */
  addCandidates(now: number, addresses: ReadonlyArray<Address>): void {
    if (!this.#live) return
    this.#ids.supply(true)
    this.#paths.addCandidates(now, addresses)
    this.#follow(now)
  }

  /** Tells the peer where we may be reached, too: it tries at once. */
  offerCandidates(now: number, addresses: ReadonlyArray<Address>): void {
    if (!this.#live) return
    this.#ids.supply(true)
    this.#follow(now)
    const sound = addresses.filter(({ host, port }) => isPort(port) && isUnicast(host)).slice(0, MAX_CANDIDATES)
    this.#sender.say({ type: "Candidates", addresses: sound })
  }

  /** Of a server: the port that it will have in `inMs`. */
  announcePort(_now: number, port: number, inMs: number): void {
    if (this.#live) this.#sender.say({ type: "PortAnnounce", port, inMs: Math.max(0, Math.round(inMs)) })
  }

  /** Our own address changed, or our socket: validates anew, under fresh connection ids. */
  rebind(now: number): void {
    if (!this.#live) return
    this.#paths.rebind(now)
    this.#liveness.onNetworkChanged(now)
    this.#startPath(now)
    this.#sender.pingDue = true
    this.#follow(now)
  }

  /** Ends the session: the peer is told, streams are gone. */
  close(now: number, code: number, reason: string): void {
    if (this.#state === "closing" || this.#state === "draining" || this.#state === "closed") return
    const wasMuted = this.#state === "muted"
    const farewell = new Farewell(code, reason)
    this.#end({ by: "local", code, reason: farewell.reason })
    if (wasMuted) {
      this.#state = "closed"
      return
    }
    this.#state = "closing"
    this.#farewell = farewell
    this.#timers.set(Timer.Close, now + this.#closingMs)
  }

  /**
   * Copies of COMPROMISED with a token of 32 bytes, each a packet of its own, whatever the path would take; none unless the
   * session is open. It is to be abandoned then.
   */
  sealCompromised(token: Uint8Array): ReadonlyArray<Uint8Array> {
    if (this.#state !== "open") return []
    this.#aim()
    return NOTIFY_AT_MS.map(() => {
      const datagram = new Uint8Array(NOTIFICATION_LENGTH)
      this.#packet.begin(datagram, 0, NOTIFICATION_LENGTH)
      this.#packet.put({ type: "Compromised", token })
      this.#packet.seal(NOTIFICATION_LENGTH)
      this.#packet.mask()
      return datagram
    })
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
    this.#options.send.header.wipe()
    this.#options.receive.header.wipe()
    this.#ratchet.wipe()
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
    if (header === undefined) return this.#reject("unopened")
    const { packetNumber, epochBits } = header
    const keys = this.#ratchet.receive[epochBits]
    if (keys === undefined) return this.#reject("unopened")
    if (!this.#replay.check(packetNumber)) return this.#reject("replayed")
    if (!this.#opener.open(keys, bytes)) return this.#reject("unopened")
    if (epochBits !== this.#ratchet.heardBits && !this.#onEpoch(now, epochBits, packetNumber)) {
      return this.#reject("unopened")
    }
    this.#replay.commit(packetNumber)
    this.#receivedPackets++
    this.#receivedBytes += bytes.length
    if (this.#receivedPackets === 1) {
      // A server's session begins with its answer, and this is what came back.
      if (this.#options.role === "server") this.#rtt.guess(now - this.#startedAt)
      this.#events.push({ type: "Proven" })
    }

    if (this.#state === "closing") {
      this.#farewell?.onPacket()
      return "accepted"
    }
    if (this.#state === "draining") return "accepted"

    const missing = packetNumber - this.#largestReceived - 1
    if (missing >= 0) this.#largestReceived = packetNumber
    const path = this.#paths.onReceived(now, remote, bytes)
    const here = path === this.#path
    if (this.#liveness.onReceived(now, here, missing)) this.#events.push({ type: "Recovered" })
    if (here) this.#paths.onAlive()
    const decoder = this.#decoder
    decoder.begin(bytes, PACKET_HEADER_LENGTH, bytes.length - TAG_LENGTH)
    let ackEliciting = false
    let immediate = false
    let moving = here
    for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) {
      if (Frame.isAckEliciting(frame)) ackEliciting = true
      if (frame.type === "Ping") immediate = true
      if (!moving && !isProbing(frame)) moving = true
      const violation = this.#onFrame(now, path, frame, epochBits, bytes.length)
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
    // A packet that comes behind a newer one moves nothing.
    if (missing >= 0 && (!here || this.#paths.moving)) this.#paths.onNewest(now, path, moving)
    this.#follow(now)
    if (ackEliciting && !immediate && this.#state === "open") this.#liveness.askSoon(now)
    if (this.#recovery.bytesInFlight > 0) this.#liveness.onMoreOwed(now, here)
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
    const liveness = this.#liveness
    const idle = liveness.idleAt <= now
    // Pings pass, but data does not.
    const narrow = liveness.narrowAt <= now && !this.#paths.onNarrow(now)
    if (idle || narrow || liveness.deadAt <= now) {
      this.#end({ by: "timeout", what: idle ? "idle" : "dead" })
      this.#state = "closed"
      return
    }
    if (now >= liveness.stallsAt) {
      liveness.onStalled()
      this.#events.push({ type: "Stalled" })
    }
    if (this.#recovery.deadline <= now) {
      const { lost, probe } = this.#recovery.onTimeout(now)
      this.#onLost(now, lost)
      if (probe) this.#sender.probe()
    }
    if (this.#state === "open" && liveness.pingAt <= now) {
      this.#sender.pingDue = true
      liveness.onPingDue(now)
    }
    if (this.#doubtAt <= now) this.#paths.doubt(now)
    if (this.#paths.deadline <= now) this.#paths.handleTimeout(now)
    if (this.#ids.deadline <= now) this.#ids.expire(now)
    this.#follow(now)
    if (this.#mtu.deadline <= now) this.#mtu.onTimeout(now)
    if (this.#ratchet.deadline <= now && this.#ratchet.onTimeout(now) === "protocol") {
      this.close(now, CloseCode.Protocol, "unfit public key")
    }
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
    burst.remote = this.#path.remote
    this.#aim()
    if (this.#state === "open") this.#keepKeys(now)
    let length = 0
    let segment = buffer.length
    if (this.#state === "closing") {
      const close = this.#farewell?.poll()
      if (close === undefined) return 0
      this.#packet.begin(buffer, start, MAX_DATAGRAM_LENGTH)
      this.#packet.put(close)
      length = this.#packet.seal(0)
    } else if (this.#state === "open") {
      const probe = this.#paths.poll(now)
      if (probe !== undefined) {
        burst.remote = probe.remote
        length = this.#sender.writePathProbe(now, buffer, start, probe)
      } else {
        length = this.#sender.writeMtuProbe(now, buffer, start)
        if (length === 0) {
          segment = this.#mtu.current
          length = this.#sender.fill(now, buffer, start, most)
        }
      }
    }
    this.#packet.mask()
    burst.segment = Math.min(segment, length)
    return length
  }

  pollTimeout(): number {
    if (this.#state === "closed") return Number.POSITIVE_INFINITY
    const timers = this.#timers
    if (this.#state === "open") {
      timers.set(Timer.Loss, this.#recovery.deadline)
      timers.set(Timer.Ack, this.#acks.deadline)
      timers.set(Timer.Path, Math.min(this.#paths.deadline, this.#ids.deadline))
      timers.set(Timer.Mtu, this.#mtu.deadline)
      timers.set(Timer.Copy, this.#sender.copies.deadline)
      timers.set(Timer.Pace, this.#sender.paceAt)
      timers.set(Timer.Rekey, this.#ratchet.deadline)
      timers.set(Timer.Stall, this.#liveness.stallsAt)
      timers.set(Timer.Dead, Math.min(this.#liveness.deadAt, this.#liveness.narrowAt))
      timers.set(Timer.Doubt, this.#doubtAt)
      timers.set(Timer.KeepAlive, this.#liveness.pingAt)
    }
    if (this.#live) timers.set(Timer.Idle, this.#liveness.idleAt)
    return timers.next()
  }

  pollEvent(): SessionEvent | undefined {
    return this.#events.shift() ?? (this.#live ? this.#streams.pollEvent() : undefined)
  }

  // -- frames ------------------------------------------------------------------------------------------------------

  #onFrame(
    now: number,
    path: Path,
    frame: Frame.Frame,
    epochBits: number,
    datagramLength: number
  ): Violation | undefined {
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
        this.#paths.onChallenge(path, frame.token, datagramLength)
        return undefined
      case "PathResponse":
        this.#paths.onResponse(now, path, frame.token, datagramLength)
        return undefined
      case "NewCid": {
        const violation = this.#ids.onNew(frame)
        this.#paths.refresh()
        return violation
      }
      case "RetireCid":
        return this.#ids.onRetire(now, frame.sequence, 3 * this.#rtt.pto(MAX_ACK_DELAY_MS))
      case "PortAnnounce":
        if (this.#options.role === "client" && this.#paths.announce(now, frame.port, frame.inMs)) {
          this.#events.push({ type: "PortAnnounced", port: frame.port, inMs: frame.inMs })
        }
        return undefined
      case "ObservedAddr":
        if (this.#options.role === "client" && !equals(frame.address, this.#observed)) {
          this.#observed = frame.address
          this.#liveness.onMappingLost()
          this.#events.push({ type: "Observed", address: frame.address })
        }
        return undefined
      case "Candidates":
        this.#onCandidates(now, frame.addresses)
        return undefined
      case "Rekey":
        return this.#ratchet.onRekey(frame, epochBits)
      case "RekeyAck":
        return this.#onRekeyAck(frame, epochBits)
      case "Compromised":
        this.#events.push({ type: "Compromised", token: frame.token.slice(), remote: path.remote })
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
      this.#sender.copies.onAcked(content.packetNumber)
      if (watched) this.#mtu.onPacketAcked(content.packetNumber, content.bytes)
      if (content.bytes >= FULL_BYTES) this.#liveness.onFullArrived()
      for (let sent: Sent | undefined = content; sent !== undefined; sent = sent.next) this.#onArrived(now, sent)
    }
    if (result.acked.length > 0) this.#liveness.onAcknowledged()
    this.#onLost(now, result.lost)
    this.#streams.setWindow(this.#recovery.controller.window())
    return undefined
  }

  #onArrived(now: number, sent: Sent): void {
    if (sent.type === "Ack") this.#acks.forget(sent.id + 1)
    else if (sent.type === "MtuProbe") {
      if (this.#mtu.onProbeAcked(now, sent.packetNumber, sent.bytes)) this.#onMtuChanged()
    } else if (sent.type !== "Reliable") this.#streams.onAcked(sent as StreamSent)
    else if (sent.frame !== undefined) this.#ids.onArrived(sent.frame)
  }

  #onLost(now: number, lost: ReadonlyArray<Sent | undefined>): void {
    this.#lostPackets += lost.length
    const watched = this.#mtu.current > this.#mtu.base
    for (const content of lost) {
      if (content === undefined) continue
      const { packetNumber, bytes } = content
      if (content.type !== "MtuProbe") this.#sender.copies.onLost(packetNumber)
      if (watched && content.type !== "MtuProbe") {
        if (this.#mtu.onPacketLost(now, packetNumber, bytes, this.#packet.nextPacketNumber)) this.#onMtuChanged()
      }
      for (let sent: Sent | undefined = content; sent !== undefined; sent = sent.next) {
        if (sent.type === "MtuProbe") this.#mtu.onProbeLost(now, sent.packetNumber, sent.bytes)
        else this.#sender.requeue(sent)
      }
    }
    // What the peer never got it need not answer; what is sent again counts anew.
    if (lost.length > 0 && this.#recovery.bytesInFlight === 0) this.#liveness.onNothingOwed()
  }

  // -- path --------------------------------------------------------------------------------------------------------

  /** Looks after any change what became of paths and ids, and takes the path that is to be used. */
  #follow(now: number): void {
    for (let f = this.#ids.pollFrame(); f !== undefined; f = this.#ids.pollFrame()) this.#sender.push(f)
    for (let r = this.#paths.pollFailed(); r !== undefined; r = this.#paths.pollFailed()) {
      this.#events.push({ type: "PathFailed", remote: r })
    }
    const path = this.#paths.active
    const old = this.#path
    if (path === old || !this.#live) return
    this.#path = path
    const { remote } = path
    // Another port of the same host is most likely the same path (RFC 9000 section 9.4).
    if (remote.host !== old.remote.host || path.rank !== old.rank) {
      this.#startPath(now)
      if (path.samples > 0) this.#rtt.guess(path.rttMs)
    } else this.#mtu.setCeiling(now, this.#ceiling(remote))
    this.#liveness.onPathChanged(now)
    if (old.state === "failed") this.#sender.probe()
    // The server follows what is more than a probe.
    if (this.#options.role === "client") this.#sender.pingDue = true
    else if (path.rank === 0)
      this.#sender.say({ type: "ObservedAddr", address: { host: remote.host, port: remote.port } })
    this.#events.push({ type: "PathChanged", remote })
  }

  /** Addresses what is written next to the peer on the path in use. */
  #aim(): void {
    this.#packet.remoteId = (this.#path.id ?? this.#ids.first).id
  }

  /** Nothing that was learnt holds on the path in use. */
  #startPath(now: number): void {
    this.#recovery.onPathChanged(this.#options.congestion(now, MAX_DATAGRAM_LENGTH))
    this.#mtu.onPathChanged(now, this.#packet.nextPacketNumber, this.#ceiling(this.#path.remote))
    // Whoever watched the old path learns nothing of the new one.
    this.#ratchet.request()
  }

  #onCandidates(now: number, addresses: ReadonlyArray<Address>): void {
    const { rank, remote } = this.#path
    this.#ids.supply(true)
    const via = rank === 0 ? remote.via : this.#options.home?.()
    const sound = this.#paths.addCandidates(
      now,
      addresses.map((address) => (via === undefined ? address : { ...address, via }))
    )
    this.#events.push({ type: "Candidates", addresses: sound })
  }

  /** When the silence of the path in use calls for another; `Infinity` while there is none, or all are being asked. */
  get #doubtAt(): number {
    if (this.#paths.inDoubt || !this.#paths.hasOthers) return Number.POSITIVE_INFINITY
    return this.#liveness.doubtAt(this.#rtt.pto(MAX_ACK_DELAY_MS))
  }

  /** Bytes of the largest datagram that both ends and the way to `remote` may take. */
  #ceiling(remote: Address): number {
    const { datagramCeiling, peerLimits } = this.#options
    return Math.min(peerLimits.maxDatagram, datagramCeiling?.(remote) ?? MAX_DATAGRAM_LENGTH)
  }

  #onMtuChanged(): void {
    this.#recovery.setMaxDatagram(this.#mtu.current)
  }

  // -- keys --------------------------------------------------------------------------------------------------------

  /** Looks before anything is sealed whether the keys are to be replaced. */
  #keepKeys(now: number): void {
    const ratchet = this.#ratchet
    const { sentPackets, sentBytes, nextPacketNumber } = this.#packet
    if (nextPacketNumber >= LAST_PACKET_NUMBER) this.close(now, CloseCode.Exhausted, "packet numbers used up")
    if (sentPackets >= ratchet.packetMark || sentBytes >= ratchet.byteMark) {
      if (ratchet.onWorn(sentPackets) === "spent") this.close(now, CloseCode.Exhausted, "a key is used up")
    }
    // Before the peer was heard it may not be able to answer.
    if (ratchet.wanted && this.#receivedPackets > 0 && !this.#paths.moving) ratchet.begin()
  }

  #onRekeyAck(frame: Frame.RekeyAck, epochBits: number): Violation | undefined {
    const result = this.#ratchet.onRekeyAck(frame, epochBits)
    if (result !== "switched") return result
    this.#useKeys()
    // The peer follows when it sees a packet of the new epoch.
    this.#sender.pingDue = true
    return undefined
  }

  /** A packet opened under other keys than the last one's; false for one that the peer cannot have sealed. */
  #onEpoch(now: number, epochBits: number, packetNumber: number): boolean {
    const ratchet = this.#ratchet
    const graceMs = Math.min(3 * this.#rtt.pto(MAX_ACK_DELAY_MS), MAX_REKEY_GRACE_MS)
    const result = ratchet.onOpened(now, epochBits, packetNumber, graceMs)
    if (result === "moved") {
      this.#useKeys()
      if (this.#live) this.#events.push({ type: "Rekeyed", epoch: ratchet.epoch })
    }
    return result !== "forged"
  }

  #useKeys(): void {
    const ratchet = this.#ratchet
    const packet = this.#packet
    if (packet.epoch === ratchet.epoch) return
    packet.use(ratchet.send, ratchet.epoch)
    ratchet.restart(packet.sentPackets, packet.sentBytes)
  }

  // -- life --------------------------------------------------------------------------------------------------------

  get #live(): boolean {
    return this.#state === "open" || this.#state === "muted"
  }

  /** Three probe timeouts (RFC 9000 section 10.2); a peer that draws its round trips out gets no more for it. */
  get #closingMs(): number {
    return Math.min(3 * this.#rtt.pto(MAX_ACK_DELAY_MS), MAX_CLOSING_MS)
  }

  #reject(outcome: "unopened" | "replayed"): Outcome {
    if (outcome === "unopened") this.#unopened++
    else this.#replayed++
    return outcome
  }

  #end(reason: CloseReason): void {
    this.#timers.stopAll()
    this.#recovery.clear()
    this.#sender.clear()
    this.#paths.clear()
    this.#events.push({ type: "Closed", reason })
  }
}

/** Whether a frame says nothing of where its sender wants to be reached (RFC 9000 section 9.1). */
const isProbing = ({ type }: Frame.Frame): boolean =>
  type === "PathChallenge" || type === "PathResponse" || type === "NewCid" || type === "Padding"
