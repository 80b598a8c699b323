/**
 * Writes one packet after another into its owner's buffer, frame by frame, and keeps a list of what each carried: what to
 * forget once it is acknowledged, and what to say again once it is lost.
 *
 *     begin · put, carry, putStream ... · seal · (more packets in the same buffer) · mask
 */
import { MAX_FRAMES_PER_PACKET, PACKET_HEADER_LENGTH, PADDING_BLOCK } from "./Constants.ts"
import { Writer } from "./Cursor.ts"
import * as Frame from "./Frame.ts"
import * as Packet from "./Packet.ts"
import { type MaskKey, TAG_LENGTH } from "./Primitives.ts"
import type { Chunk } from "./SendStream.ts"
import type { Sent as StreamSent } from "./Streams.ts"

/** One thing that a packet carried, and the next; of one shape, for there is one for every packet in flight. */
export class Sent {
  readonly type: StreamSent["type"] | "Ack" | "Reliable" | "MtuProbe"
  /** A stream's id; for "Ack" the largest packet number named. */
  readonly id: number
  readonly offset: number
  readonly length: number
  readonly fin: boolean
  /** Of "Reliable": repeated as it is. */
  readonly frame: Frame.Frame | undefined
  readonly next: Sent | undefined
  /** Of the packet, known to the first of its list only. */
  packetNumber = -1
  bytes = 0

  constructor(
    type: Sent["type"],
    id: number,
    offset: number,
    length: number,
    fin: boolean,
    frame: Frame.Frame | undefined,
    next: Sent | undefined
  ) {
    this.type = type
    this.id = id
    this.offset = offset
    this.length = length
    this.fin = fin
    this.frame = frame
    this.next = next
  }
}

export interface DirectionSecrets {
  readonly header: MaskKey
  readonly keys: Packet.DirectionKeys
}

/** Frames we put into one packet: fewer than a peer takes, and padding counts for it. */
const MAX_FRAMES = MAX_FRAMES_PER_PACKET / 2

export class PacketWriter {
  /** Of the packet that comes next; passing one over is the owner's right. */
  nextPacketNumber = 0
  sentPackets = 0
  sentBytes = 0
  /** Of the packet under construction: its list, and whether the peer owes an ACK for it. */
  content: Sent | undefined
  eliciting = false
  /** The peer's connection id on the path that the packets under construction take. */
  remoteId: Uint8Array
  /** Of the keys that seal. */
  epoch = 0

  #keys: Packet.DirectionKeys
  readonly #sealer: Packet.Sealer
  readonly #writer = new Writer(new Uint8Array(0))
  #at = 0
  #frames = 0

  constructor(secrets: DirectionSecrets, remoteId: Uint8Array) {
    this.#keys = secrets.keys
    this.#sealer = new Packet.Sealer(secrets.header)
    this.remoteId = remoteId
  }

  /** Seals with the keys of another epoch from here on. */
  use(keys: Packet.DirectionKeys, epoch: number): void {
    this.#keys = keys
    this.epoch = epoch
  }

  /** Bytes of frames that fit yet; 0 when there are as many as a packet may have. */
  get remaining(): number {
    return this.#frames < MAX_FRAMES ? this.#writer.remaining : 0
  }

  /** Begins a packet in a datagram of at most `size` bytes at `at`. */
  begin(buffer: Uint8Array, at: number, size: number): void {
    this.#writer.reset(buffer, at + PACKET_HEADER_LENGTH, at + size - TAG_LENGTH)
    this.#at = at
    this.#frames = 0
    this.content = undefined
    this.eliciting = false
  }

  /** A frame that nobody misses. */
  put(frame: Frame.Frame): void {
    Frame.encode(this.#writer, frame)
    this.#frames++
    if (Frame.isAckEliciting(frame)) this.eliciting = true
  }

  /** A frame whose fate matters: what is remembered of it depends on its kind. */
  carry(frame: Frame.Frame): void {
    this.put(frame)
    switch (frame.type) {
      case "Reset":
      case "Stop":
      case "MaxStreamData":
        this.#remember(frame.type, frame.id, undefined)
        return
      case "MaxData":
      case "MaxStreams":
        this.#remember(frame.type, 0, undefined)
        return
      case "Ack":
        this.#remember("Ack", frame.ranges[0]?.end ?? -1, undefined)
        return
      default:
        this.#remember("Reliable", 0, frame)
    }
  }

  putStream({ id, offset, data, fin }: Chunk): void {
    Frame.encodeStream(this.#writer, id, offset, data, fin)
    this.#frames++
    this.eliciting = true
    this.content = new Sent("Stream", id, offset, data.length, fin, undefined, this.content)
  }

  /** Makes the packet a probe of the path's MTU. */
  putMtuProbe(): void {
    this.put({ type: "Ping" })
    this.#remember("MtuProbe", 0, undefined)
  }

  /** Pads the packet to whole blocks, to `least` bytes of datagram at least, and seals it; answers its datagram's length. */
  seal(least: number): number {
    const writer = this.#writer
    const plaintext = writer.offset - this.#at - PACKET_HEADER_LENGTH
    const whole = Math.ceil(plaintext / PADDING_BLOCK) * PADDING_BLOCK
    const padded = Math.max(PADDING_BLOCK, whole, least - Packet.OVERHEAD)
    writer.fill(0, padded - plaintext)
    const length = padded + Packet.OVERHEAD
    const packetNumber = this.nextPacketNumber++
    this.#sealer.seal(this.#keys, this.epoch, this.remoteId, packetNumber, writer.bytes, this.#at, this.#at + length)
    this.sentPackets++
    this.sentBytes += length
    if (this.content !== undefined) {
      this.content.packetNumber = packetNumber
      this.content.bytes = length
    }
    return length
  }

  /** Masks the headers of all packets sealed since the last call. */
  mask(): void {
    this.#sealer.mask()
  }

  #remember(type: Sent["type"], id: number, frame: Frame.Frame | undefined): void {
    this.content = new Sent(type, id, 0, 0, false, frame, this.content)
  }
}
