/**
 * What a session sends: the queues of what is to be said, and the packets that say it, each as full as what is due allows.
 * What may leave when is `Recovery`'s to say, what streams want to send theirs; here it becomes packets, in this order: ACK,
 * PING, keys, frames that are repeated until acknowledged, limits, unreliable datagrams, stream bytes.
 *
 * Sans-IO: `now` (ms) never goes back. Packets are written into the owner's buffer and masked by the owner.
 */
import type { AckTracker } from "./AckTracker.ts"
import { ACKS_BEFORE_PING, MAX_DATAGRAM_LENGTH, MAX_QUEUED_DATAGRAMS, SKIP_PACKETS } from "./Constants.ts"
import * as Frame from "./Frame.ts"
import type { KeyRatchet } from "./KeyRatchet.ts"
import type { Liveness } from "./Liveness.ts"
import type { PacketWriter, Sent } from "./PacketWriter.ts"
import type { PathMtu } from "./PathMtu.ts"
import type { Probe } from "./Paths.ts"
import { type Entropy, KEY_LENGTH } from "./Primitives.ts"
import type { Recovery } from "./Recovery.ts"
import { Redundancy } from "./Redundancy.ts"
import type { Rtt } from "./Rtt.ts"
import type { Sent as StreamSent, Streams } from "./Streams.ts"

/** What the sender asks, and tells what left. */
export interface SenderParts {
  readonly recovery: Recovery<Sent | undefined>
  readonly acks: AckTracker
  readonly streams: Streams
  readonly mtu: PathMtu
  readonly ratchet: KeyRatchet
  readonly rtt: Rtt
  readonly liveness: Liveness
  readonly entropy: Entropy
}

/** Datagrams in flight, with more behind them, that are bulk. */
const BULK_DATAGRAMS = 4
const PING: Frame.Ping = { type: "Ping" }
/** Bytes of a REKEY or REKEY_ACK. */
const REKEY_FRAME_LENGTH = 5 + KEY_LENGTH

export class Sender {
  /** Small packets that may be worth a copy. */
  readonly copies = new Redundancy<Sent>()
  pingDue = false
  /** When pacing allows the next packet; `Infinity` when there is none, or only the peer can make room. */
  paceAt = Number.POSITIVE_INFINITY

  readonly #packet: PacketWriter
  readonly #recovery: Recovery<Sent | undefined>
  readonly #acks: AckTracker
  readonly #streams: Streams
  readonly #mtu: PathMtu
  readonly #ratchet: KeyRatchet
  readonly #rtt: Rtt
  readonly #liveness: Liveness
  readonly #entropy: Entropy
  #reliable: Array<Frame.Frame> = []
  #datagrams: Array<Uint8Array> = []
  /** Packets to be sent whatever the window says. */
  #probes = 0
  /** Packets that the copies being written may take at most; whatever leaves with nothing behind it ends them. */
  #copying = 0
  /** Packets since the last one that elicits an acknowledgement. */
  #silentPackets = 0
  #skipAt: number

  constructor(packet: PacketWriter, parts: SenderParts) {
    this.#packet = packet
    this.#recovery = parts.recovery
    this.#acks = parts.acks
    this.#streams = parts.streams
    this.#mtu = parts.mtu
    this.#ratchet = parts.ratchet
    this.#rtt = parts.rtt
    this.#liveness = parts.liveness
    this.#entropy = parts.entropy
    this.#skipAt = this.#drawSkip()
  }

  // -- what is to be said ------------------------------------------------------------------------------------------

  /** A frame that is repeated until it is acknowledged. */
  push(frame: Frame.Frame): void {
    this.#reliable.push(frame)
  }

  /** The same, instead of what waits of its kind. */
  say(frame: Frame.Frame): void {
    this.#reliable = this.#reliable.filter(({ type }) => type !== frame.type)
    this.#reliable.push(frame)
  }

  /** An unreliable datagram; false when too many wait. */
  queue(data: Uint8Array): boolean {
    if (this.#datagrams.length >= MAX_QUEUED_DATAGRAMS) return false
    this.#datagrams.push(data)
    return true
  }

  clear(): void {
    this.#reliable = []
    this.#datagrams = []
    this.copies.clear()
  }

  /** What a packet carried has to be said again. */
  requeue(sent: Sent): void {
    if (sent.type === "Ack" || sent.type === "MtuProbe") return
    const { frame } = sent
    if (frame?.type === "Rekey" || frame?.type === "RekeyAck") this.#ratchet.onLost(frame)
    else if (frame !== undefined) this.#reliable.push(frame)
    else this.#streams.onLost(sent as StreamSent)
  }

  /** Sends whatever the window says: what was in flight longest rides along, instead of waiting for the answer. */
  probe(): void {
    this.#probes = 2
    for (let sent = this.#recovery.oldest(); sent !== undefined; sent = sent.next) this.requeue(sent)
  }

  // -- packets -----------------------------------------------------------------------------------------------------

  /** Datagrams of the path's size, until there is nothing more, no room, or no leave to send. */
  fill(now: number, buffer: Uint8Array, start: number, most: number): number {
    const size = this.#mtu.current
    const end = Math.min(buffer.length, start + most * size)
    let at = start
    if (this.copies.deadline <= now) this.#requeueCopies(now)
    while (at + size <= end) {
      const length = this.#writeNext(now, buffer, at, size)
      at += length
      if (length < size) break
    }
    return at - start
  }

  /** Sends small packets once more, unless there is something better to send, or no leave to. */
  #requeueCopies(now: number): void {
    const due = this.copies.poll(now)
    const recovery = this.#recovery
    if (due.length === 0 || this.#streams.hasData || recovery.sendTime(now, MAX_DATAGRAM_LENGTH) > now) return
    // Where the window is nearly used up, a copy would take the place of something new.
    if (2 * recovery.bytesInFlight > recovery.controller.window()) return
    this.#copying = due.length
    for (const content of due)
      for (let sent: Sent | undefined = content; sent !== undefined; sent = sent.next) this.requeue(sent)
  }

  /** One packet of whatever is due, at most `size` bytes of datagram; answers its length, 0 for none. */
  #writeNext(now: number, buffer: Uint8Array, at: number, size: number): number {
    const wants =
      this.#probes > 0 ||
      this.pingDue ||
      this.#reliable.length > 0 ||
      this.#ratchet.due ||
      this.#datagrams.length > 0 ||
      this.#streams.hasControl ||
      this.#streams.hasData
    let allowedAt = Number.POSITIVE_INFINITY
    if (wants) allowedAt = this.#probes > 0 ? now : this.#recovery.sendTime(now, size)
    if (allowedAt <= now) return this.#writeFull(now, buffer, at, size)
    this.paceAt = allowedAt
    return this.#acks.due(now) ? this.#writeAck(now, buffer, at) : 0
  }

  /** A packet of all that is due. Probes keep to what every path carries, or a black hole would take them, too. */
  #writeFull(now: number, buffer: Uint8Array, at: number, size: number): number {
    const packet = this.#packet
    const probing = this.#probes > 0
    const room = probing ? MAX_DATAGRAM_LENGTH : size
    packet.begin(buffer, at, room)
    if (this.#acks.pending) this.#putAck(now)
    if (this.pingDue) {
      this.pingDue = false
      packet.put(PING)
    }
    if (this.#ratchet.due && packet.remaining >= REKEY_FRAME_LENGTH) {
      const frame = this.#ratchet.pollFrame()
      if (frame !== undefined) packet.carry(frame)
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

  /**
   * Half of a path validation. It may go another way than everything else, so that neither its loss nor the time that its
   * acknowledgement takes says anything about the path in use: the path's own timer repeats it.
   */
  writePathProbe(now: number, buffer: Uint8Array, at: number, { frame, id, least }: Probe): number {
    const packet = this.#packet
    packet.remoteId = id
    packet.begin(buffer, at, MAX_DATAGRAM_LENGTH)
    packet.put(frame)
    const packetNumber = this.#number()
    const length = packet.seal(least)
    this.#recovery.onSent(now, packetNumber, length, false, undefined, true)
    return length
  }

  /** A packet that only asks whether the path carries its size; only while there is bulk that would gain by it. */
  writeMtuProbe(now: number, buffer: Uint8Array, at: number): number {
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
    const packetNumber = this.#number()
    const length = packet.seal(least)
    const { content, eliciting } = packet
    this.#recovery.onSent(now, packetNumber, length, eliciting, content, appLimited)
    if (content !== undefined) this.#copyLater(now, content, appLimited)
    this.#silentPackets = eliciting ? 0 : this.#silentPackets + 1
    this.#liveness.onSent(now, eliciting, content?.type === "MtuProbe" ? 0 : length)
    return length
  }

  /** The number of the packet that is to be sealed. */
  #number(): number {
    const packet = this.#packet
    if (packet.nextPacketNumber === this.#skipAt) {
      // An acknowledgement of a number never sent betrays a peer that acknowledges ahead of what it received.
      this.#recovery.onSkipped(packet.nextPacketNumber++)
      this.#skipAt = packet.nextPacketNumber + this.#drawSkip()
    }
    return packet.nextPacketNumber
  }

  /** A packet left: unless it was a copy itself, it may be worth one. */
  #copyLater(now: number, content: Sent, appLimited: boolean): void {
    if (this.#copying > 0) this.#copying = appLimited ? 0 : this.#copying - 1
    else if (content.type !== "Ack" && content.type !== "MtuProbe") {
      this.copies.onSent(now, content.packetNumber, content.bytes, content, this.#rtt.smoothed)
    }
  }

  #drawSkip(): number {
    const [low = 0, high = 0] = this.#entropy(2)
    return SKIP_PACKETS + (((high << 8) | low) % SKIP_PACKETS)
  }
}
