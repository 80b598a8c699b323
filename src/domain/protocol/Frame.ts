/**
 * The frames inside a transport packet: QUIC's shapes (RFC 9000 section 19) under numbers of our own. This module turns a
 * packet's whole plaintext into values and values into bytes; what a frame means is the session's.
 *
 * One byte of type, then fields in this order; `v` is a variable-length integer (RFC 9000 section 16) of at most 2^53 - 1,
 * numbers of fixed width are big-endian.
 *
 *     00 PADDING                                         20 REKEY            epoch u32, key 32
 *     01 PING                                            21 REKEY_ACK        epoch u32, key 32
 *     02 ACK              largest v, delay v (us),       22 PORT_ANNOUNCE    port u16, in v (ms)
 *                         more v, first v, (gap v,       23 OBSERVED_ADDR    address
 *                         length v) more times           24 COMPROMISED      token 32
 *     04 RESET            id v, code v, final size v     25 COMPROMISED_ACK  token 32
 *     05 STOP             id v, code v                   26 CLOSE            code v, length v, UTF-8
 *     08 STREAM           id v, offset v, length v, data
 *     09 STREAM with FIN
 *     0a DATAGRAM         length v, data
 *     10 MAX_DATA         limit v
 *     11 MAX_STREAM_DATA  id v, limit v
 *     12 MAX_STREAMS      limit v
 *     18 PATH_CHALLENGE   token 8
 *     19 PATH_RESPONSE    token 8
 *     1a NEW_CID          sequence v, retire prior to v, connection id 8
 *     1b RETIRE_CID       sequence v                       27 CANDIDATES       count v, addresses
 *
 * A zero byte is a PADDING frame, so a packet is padded by leaving zeros. Gap and length of an ACK count as in RFC 9000
 * section 19.3.1. Over-long variable-length integers are accepted. Decoding bounds the frames of a packet, the ranges of an
 * ACK and the length of a reason; one malformed frame ends the session.
 */
import type { Address } from "./Address.ts"
import * as AddressCodec from "./AddressCodec.ts"
import {
  CONNECTION_ID_LENGTH,
  MAX_ACK_RANGES,
  MAX_CANDIDATES,
  MAX_CLOSE_REASON_LENGTH,
  MAX_FRAMES_PER_PACKET,
  MAX_PACKET_LENGTH,
  MAX_PACKET_NUMBER,
  MAX_STREAMS,
  MAX_VARINT,
  PATH_TOKEN_LENGTH,
  SECRET_LENGTH
} from "./Constants.ts"
import { Reader, text, utf8, varintLength, type Writer } from "./Cursor.ts"
import type { Range } from "./RangeSet.ts"

/** A run of `length` zero bytes, at least one. */
export interface Padding {
  readonly type: "Padding"
  readonly length: number
}

/** Asks for an ACK and nothing else. */
export interface Ping {
  readonly type: "Ping"
}

/** Packet numbers received: 1 to `MAX_ACK_RANGES` disjoint, non-adjacent ranges, the largest first. */
export interface Ack {
  readonly type: "Ack"
  readonly ranges: ReadonlyArray<Range>
  /** Microseconds between the arrival of the largest packet number and this frame. */
  readonly delayUs: number
}

/** Bytes of a stream from `offset` on; `fin` when the stream ends behind them. */
export interface Stream {
  readonly type: "Stream"
  readonly id: number
  readonly offset: number
  /** Decoded: a view into the packet. */
  readonly data: Uint8Array
  readonly fin: boolean
}

/** The sender gives its half of the stream up, having sent `finalSize` bytes. */
export interface Reset {
  readonly type: "Reset"
  readonly id: number
  readonly code: number
  readonly finalSize: number
}

/** The receiver wants no more of the stream. */
export interface Stop {
  readonly type: "Stop"
  readonly id: number
  readonly code: number
}

/** The sum of all streams' offsets that the peer may reach. */
export interface MaxData {
  readonly type: "MaxData"
  readonly limit: number
}

/** The offset that the peer may reach on one stream. */
export interface MaxStreamData {
  readonly type: "MaxStreamData"
  readonly id: number
  readonly limit: number
}

/** How many streams the peer may open over the session's life, at most `MAX_STREAMS`. */
export interface MaxStreams {
  readonly type: "MaxStreams"
  readonly limit: number
}

/** An application datagram, neither retransmitted nor ordered (RFC 9221). */
export interface Datagram {
  readonly type: "Datagram"
  /** Decoded: a view into the packet. */
  readonly data: Uint8Array
}

/** Proves a path, to be answered by a `PathResponse` of the same 8 bytes. */
export interface PathChallenge {
  readonly type: "PathChallenge"
  readonly token: Uint8Array
}

/** The 8 bytes of a `PathChallenge`. */
export interface PathResponse {
  readonly type: "PathResponse"
  readonly token: Uint8Array
}

/** One more connection id, 8 bytes, that the peer may send to; it retires those of sequences below `retirePriorTo`. */
export interface NewCid {
  readonly type: "NewCid"
  readonly sequence: number
  /** At most `sequence`. */
  readonly retirePriorTo: number
  readonly cid: Uint8Array
}

/** The peer's connection id of this sequence is used no more. */
export interface RetireCid {
  readonly type: "RetireCid"
  readonly sequence: number
}

/** Begins the change to `epoch` (32 bits, in full) with a fresh X25519 public key of 32 bytes. */
export interface Rekey {
  readonly type: "Rekey"
  readonly epoch: number
  readonly key: Uint8Array
}

/** Answers a `Rekey` of the same epoch with a fresh X25519 public key of 32 bytes. */
export interface RekeyAck {
  readonly type: "RekeyAck"
  readonly epoch: number
  readonly key: Uint8Array
}

/** The server's next port, 1..65535, open `inMs` milliseconds from now. */
export interface PortAnnounce {
  readonly type: "PortAnnounce"
  readonly port: number
  readonly inMs: number
}

/** The address from which the peer's packets come, as seen from here. */
export interface ObservedAddr {
  readonly type: "ObservedAddr"
  readonly address: Address
}

/** The sender's secrets are burned; 32 bytes to be answered by a `CompromisedAck`. */
export interface Compromised {
  readonly type: "Compromised"
  readonly token: Uint8Array
}

/** Acknowledges a `Compromised`, 32 bytes. */
export interface CompromisedAck {
  readonly type: "CompromisedAck"
  readonly token: Uint8Array
}

/** The session ends. `encode` cuts the reason to `MAX_CLOSE_REASON_LENGTH` bytes of UTF-8, between characters. */
export interface Close {
  readonly type: "Close"
  readonly code: number
  readonly reason: string
}

/** Where the sender may be reached, too: at most `MAX_CANDIDATES` addresses. */
export interface Candidates {
  readonly type: "Candidates"
  readonly addresses: ReadonlyArray<Address>
}

export type Frame =
  | Padding
  | Ping
  | Ack
  | Stream
  | Reset
  | Stop
  | MaxData
  | MaxStreamData
  | MaxStreams
  | Datagram
  | PathChallenge
  | PathResponse
  | NewCid
  | RetireCid
  | Rekey
  | RekeyAck
  | PortAnnounce
  | ObservedAddr
  | Compromised
  | CompromisedAck
  | Close
  | Candidates

const PADDING = 0x00
const PING = 0x01
const ACK = 0x02
const RESET = 0x04
const STOP = 0x05
const STREAM = 0x08
const STREAM_FIN = 0x09
const DATAGRAM = 0x0a
const MAX_DATA = 0x10
const MAX_STREAM_DATA = 0x11
const MAX_STREAM_COUNT = 0x12
const PATH_CHALLENGE = 0x18
const PATH_RESPONSE = 0x19
const NEW_CID = 0x1a
const RETIRE_CID = 0x1b
const REKEY = 0x20
const REKEY_ACK = 0x21
const PORT_ANNOUNCE = 0x22
const OBSERVED_ADDR = 0x23
const COMPROMISED = 0x24
const COMPROMISED_ACK = 0x25
const CLOSE = 0x26
const CANDIDATES = 0x27

const EMPTY = new Uint8Array(0)

// -- decoding ------------------------------------------------------------------------------------------------------

/**
 * The frames of one packet after another, one frame at a time: `begin`, then `next` until it answers `undefined`, then look
 * at `malformed`. `data`, `token`, `key` and `cid` are views into the packet. Never throws.
 */
export class Decoder {
  readonly #reader = new Reader(EMPTY)
  #count = 0
  /** The packet is empty, or what came last was no frame: a protocol violation by an authenticated peer. */
  malformed = false

  /** The plaintext lies in `bytes` from `start` to `end`. */
  begin(bytes: Uint8Array, start: number, end: number): void {
    this.#reader.reset(bytes, start, end)
    this.#count = 0
    this.malformed = start >= end
  }

  next(): Frame | undefined {
    const reader = this.#reader
    if (this.malformed || reader.remaining <= 0) return undefined
    const frame = this.#count++ < MAX_FRAMES_PER_PACKET ? decodeFrame(reader) : undefined
    if (frame !== undefined && !reader.failed) return frame
    this.malformed = true
    return undefined
  }
}

/** The frames of a packet's whole plaintext, a run of padding being one; `undefined` when anything in it is malformed. */
export const decode = (bytes: Uint8Array): ReadonlyArray<Frame> | undefined => {
  const decoder = new Decoder()
  decoder.begin(bytes, 0, bytes.length)
  const frames: Array<Frame> = []
  for (let frame = decoder.next(); frame !== undefined; frame = decoder.next()) frames.push(frame)
  return decoder.malformed ? undefined : frames
}

/** One frame; `undefined` when it is malformed. Fields read past the end come out as zeros and `reader.failed` is set. */
const decodeFrame = (reader: Reader): Frame | undefined => {
  const type = reader.u8()
  switch (type) {
    case PADDING:
      return decodePadding(reader)
    case PING:
      return { type: "Ping" }
    case ACK:
      return decodeAck(reader)
    case STREAM:
    case STREAM_FIN:
      return decodeStream(reader, type === STREAM_FIN)
    case DATAGRAM:
      return { type: "Datagram", data: reader.view(reader.varint()) }
    case RESET:
      return { type: "Reset", id: reader.varint(), code: reader.varint(), finalSize: reader.varint() }
    case STOP:
      return { type: "Stop", id: reader.varint(), code: reader.varint() }
    case MAX_DATA:
      return { type: "MaxData", limit: reader.varint() }
    case MAX_STREAM_DATA:
      return { type: "MaxStreamData", id: reader.varint(), limit: reader.varint() }
    case MAX_STREAM_COUNT: {
      const limit = reader.varint()
      return limit <= MAX_STREAMS ? { type: "MaxStreams", limit } : undefined
    }
    case PATH_CHALLENGE:
      return { type: "PathChallenge", token: reader.view(PATH_TOKEN_LENGTH) }
    case PATH_RESPONSE:
      return { type: "PathResponse", token: reader.view(PATH_TOKEN_LENGTH) }
    case NEW_CID: {
      const sequence = reader.varint()
      const retirePriorTo = reader.varint()
      const cid = reader.view(CONNECTION_ID_LENGTH)
      return retirePriorTo <= sequence ? { type: "NewCid", sequence, retirePriorTo, cid } : undefined
    }
    case RETIRE_CID:
      return { type: "RetireCid", sequence: reader.varint() }
    case REKEY:
      return { type: "Rekey", epoch: reader.u32(), key: reader.view(SECRET_LENGTH) }
    case REKEY_ACK:
      return { type: "RekeyAck", epoch: reader.u32(), key: reader.view(SECRET_LENGTH) }
    case PORT_ANNOUNCE: {
      const port = reader.u16()
      const inMs = reader.varint()
      return port > 0 ? { type: "PortAnnounce", port, inMs } : undefined
    }
    case OBSERVED_ADDR: {
      const address = AddressCodec.decode(reader)
      return address === undefined ? undefined : { type: "ObservedAddr", address }
    }
    case COMPROMISED:
      return { type: "Compromised", token: reader.view(SECRET_LENGTH) }
    case COMPROMISED_ACK:
      return { type: "CompromisedAck", token: reader.view(SECRET_LENGTH) }
    case CLOSE:
      return decodeClose(reader)
    case CANDIDATES:
      return decodeCandidates(reader)
    default:
      return undefined
  }
}

/** The rest of a run of zeros whose first was the type. */
const decodePadding = (reader: Reader): Padding => {
  const bytes = reader.bytes
  const end = reader.end
  const start = reader.offset - 1
  let at = reader.offset
  while (at < end && bytes[at] === 0) at++
  reader.offset = at
  return { type: "Padding", length: at - start }
}

const decodeAck = (reader: Reader): Ack | undefined => {
  let end = reader.varint()
  const delayUs = reader.varint()
  const more = reader.varint()
  if (end > MAX_PACKET_NUMBER || more >= MAX_ACK_RANGES) return undefined
  let start = end - reader.varint()
  if (start < 0) return undefined
  const ranges: Array<Range> = [{ start, end }]
  for (let i = 0; i < more; i++) {
    end = start - reader.varint() - 2
    start = end - reader.varint()
    if (start < 0 || reader.failed) return undefined
    ranges.push({ start, end })
  }
  return { type: "Ack", ranges, delayUs }
}

const decodeStream = (reader: Reader, fin: boolean): Stream | undefined => {
  const id = reader.varint()
  const offset = reader.varint()
  const data = reader.view(reader.varint())
  return offset + data.length <= MAX_VARINT ? { type: "Stream", id, offset, data, fin } : undefined
}

const decodeClose = (reader: Reader): Close | undefined => {
  const code = reader.varint()
  const length = reader.varint()
  if (length > MAX_CLOSE_REASON_LENGTH) return undefined
  const reason = text(reader.view(length))
  return reason === undefined ? undefined : { type: "Close", code, reason }
}

const decodeCandidates = (reader: Reader): Candidates | undefined => {
  const count = reader.varint()
  if (count > MAX_CANDIDATES) return undefined
  const addresses: Array<Address> = []
  for (let i = 0; i < count; i++) {
    const address = AddressCodec.decode(reader)
    if (address === undefined) return undefined
    addresses.push(address)
  }
  return { type: "Candidates", addresses }
}

// -- encoding ------------------------------------------------------------------------------------------------------

/** Bytes that no frame about streams other than STREAM exceeds: RESET with three 8-byte integers. */
export const MAX_CONTROL_LENGTH = 1 + 3 * 8
/** Bytes that no STREAM frame within a packet has before its data. */
export const MAX_STREAM_OVERHEAD = 1 + 8 + 8 + varintLength(MAX_PACKET_LENGTH)

/** Bytes of a STREAM frame before its data. */
export const streamOverhead = (id: number, offset: number, length: number): number =>
  1 + varintLength(id) + varintLength(offset) + varintLength(length)

/** Bytes of a DATAGRAM frame before its data. */
export const datagramOverhead = (length: number): number => 1 + varintLength(length)

/** Bytes that `encode` writes for `frame`. */
export const encodedLength = (frame: Frame): number => {
  switch (frame.type) {
    case "Stream":
      return streamOverhead(frame.id, frame.offset, frame.data.length) + frame.data.length
    case "Ack":
      return ackLength(frame)
    case "Padding":
      return frame.length
    case "Ping":
      return 1
    case "Datagram":
      return datagramOverhead(frame.data.length) + frame.data.length
    case "Reset":
      return 1 + varintLength(frame.id) + varintLength(frame.code) + varintLength(frame.finalSize)
    case "Stop":
      return 1 + varintLength(frame.id) + varintLength(frame.code)
    case "MaxData":
    case "MaxStreams":
      return 1 + varintLength(frame.limit)
    case "MaxStreamData":
      return 1 + varintLength(frame.id) + varintLength(frame.limit)
    case "PathChallenge":
    case "PathResponse":
      return 1 + PATH_TOKEN_LENGTH
    case "NewCid":
      return 1 + varintLength(frame.sequence) + varintLength(frame.retirePriorTo) + CONNECTION_ID_LENGTH
    case "RetireCid":
      return 1 + varintLength(frame.sequence)
    case "Rekey":
    case "RekeyAck":
      return 1 + 4 + SECRET_LENGTH
    case "PortAnnounce":
      return 1 + 2 + varintLength(frame.inMs)
    case "ObservedAddr":
      return 1 + AddressCodec.encodedLength(frame.address)
    case "Compromised":
    case "CompromisedAck":
      return 1 + SECRET_LENGTH
    case "Close": {
      const length = reasonBytes(frame.reason).length
      return 1 + varintLength(frame.code) + varintLength(length) + length
    }
    case "Candidates": {
      let length = 1 + varintLength(frame.addresses.length)
      for (const address of frame.addresses) length += AddressCodec.encodedLength(address)
      return length
    }
  }
}

/**
 * Writes `frame`. Throws `RangeError` for what `decode` would refuse (a token of the wrong length, unordered ranges, a
 * number out of range) and when the writer has too little room: bugs of the caller.
 */
export const encode = (writer: Writer, frame: Frame): void => {
  switch (frame.type) {
    case "Stream":
      encodeStream(writer, frame.id, frame.offset, frame.data, frame.fin)
      return
    case "Ack":
      encodeAck(writer, frame)
      return
    case "Padding":
      check(frame.length > 0, frame)
      writer.fill(PADDING, frame.length)
      return
    case "Ping":
      writer.u8(PING)
      return
    case "Datagram":
      writer.u8(DATAGRAM).varint(frame.data.length).put(frame.data)
      return
    case "Reset":
      writer.u8(RESET).varint(frame.id).varint(frame.code).varint(frame.finalSize)
      return
    case "Stop":
      writer.u8(STOP).varint(frame.id).varint(frame.code)
      return
    case "MaxData":
      writer.u8(MAX_DATA).varint(frame.limit)
      return
    case "MaxStreamData":
      writer.u8(MAX_STREAM_DATA).varint(frame.id).varint(frame.limit)
      return
    case "MaxStreams":
      check(frame.limit <= MAX_STREAMS, frame)
      writer.u8(MAX_STREAM_COUNT).varint(frame.limit)
      return
    case "PathChallenge":
    case "PathResponse":
      check(frame.token.length === PATH_TOKEN_LENGTH, frame)
      writer.u8(frame.type === "PathChallenge" ? PATH_CHALLENGE : PATH_RESPONSE).put(frame.token)
      return
    case "NewCid":
      check(frame.cid.length === CONNECTION_ID_LENGTH && frame.retirePriorTo <= frame.sequence, frame)
      writer.u8(NEW_CID).varint(frame.sequence).varint(frame.retirePriorTo).put(frame.cid)
      return
    case "RetireCid":
      writer.u8(RETIRE_CID).varint(frame.sequence)
      return
    case "Rekey":
    case "RekeyAck":
      check(frame.key.length === SECRET_LENGTH && frame.epoch >>> 0 === frame.epoch, frame)
      writer
        .u8(frame.type === "Rekey" ? REKEY : REKEY_ACK)
        .u32(frame.epoch)
        .put(frame.key)
      return
    case "PortAnnounce":
      check(frame.port > 0 && frame.port <= 0xffff, frame)
      writer.u8(PORT_ANNOUNCE).u16(frame.port).varint(frame.inMs)
      return
    case "ObservedAddr":
      check(frame.address.port > 0 && frame.address.port <= 0xffff, frame)
      writer.u8(OBSERVED_ADDR)
      AddressCodec.encode(writer, frame.address)
      return
    case "Compromised":
    case "CompromisedAck":
      check(frame.token.length === SECRET_LENGTH, frame)
      writer.u8(frame.type === "Compromised" ? COMPROMISED : COMPROMISED_ACK).put(frame.token)
      return
    case "Close": {
      const reason = reasonBytes(frame.reason)
      writer.u8(CLOSE).varint(frame.code).varint(reason.length).put(reason)
      return
    }
    case "Candidates": {
      const { addresses } = frame
      check(addresses.length <= MAX_CANDIDATES && addresses.every(({ port }) => port > 0 && port <= 0xffff), frame)
      writer.u8(CANDIDATES).varint(addresses.length)
      for (const address of addresses) AddressCodec.encode(writer, address)
      return
    }
  }
}

/** Writes a STREAM frame, as `encode` does. */
export const encodeStream = (writer: Writer, id: number, offset: number, data: Uint8Array, fin: boolean): void => {
  if (offset + data.length > MAX_VARINT) throw new RangeError("Frame: no valid Stream")
  writer.u8(fin ? STREAM_FIN : STREAM)
  writer.varint(id).varint(offset).varint(data.length).put(data)
}

/** Whether the peer owes an ACK for a packet with this frame (RFC 9002 section 2). */
export const isAckEliciting = (frame: Frame): boolean =>
  frame.type !== "Ack" && frame.type !== "Padding" && frame.type !== "Close"

const check = (holds: boolean, frame: Frame): void => {
  if (!holds) throw new RangeError(`Frame: no valid ${frame.type}`)
}

const ackLength = (frame: Ack): number => {
  const ranges = frame.ranges
  let length = 1 + varintLength(frame.delayUs) + varintLength(ranges.length - 1)
  let previous = 0
  for (let i = 0; i < ranges.length; i++) {
    const { start, end } = ranges[i] as Range
    length += varintLength(i === 0 ? end : previous - end - 2) + varintLength(end - start)
    previous = start
  }
  return length
}

const encodeAck = (writer: Writer, frame: Ack): void => {
  const ranges = frame.ranges
  check(ranges.length > 0 && ranges.length <= MAX_ACK_RANGES, frame)
  writer.u8(ACK)
  let previous = 0
  for (let i = 0; i < ranges.length; i++) {
    const { start, end } = ranges[i] as Range
    if (i === 0) {
      check(end <= MAX_PACKET_NUMBER && start >= 0, frame)
      writer
        .varint(end)
        .varint(frame.delayUs)
        .varint(ranges.length - 1)
    } else {
      check(end <= previous - 2 && start >= 0, frame)
      writer.varint(previous - end - 2)
    }
    check(start <= end, frame)
    writer.varint(end - start)
    previous = start
  }
}

/** A reason's UTF-8 bytes, cut between characters. */
const reasonBytes = (reason: string): Uint8Array => {
  const bytes = utf8(reason)
  if (bytes.length <= MAX_CLOSE_REASON_LENGTH) return bytes
  let end = MAX_CLOSE_REASON_LENGTH
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--
  return bytes.subarray(0, end)
}
