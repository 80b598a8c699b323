/**
 * What one end tells the other in the handshake: how much it takes in before it says more (RFC 9000 section 18.2's
 * initial_max_*), how long it keeps an idle session, and how large a datagram it reads. On the wire five variable-length
 * integers in the order of the interface's fields.
 */
import { MAX_DATAGRAM_LENGTH } from "./Constants.ts"
import { type Reader, varintLength, type Writer } from "./Cursor.ts"

export interface Limits {
  /** Bytes over all streams before the first MAX_DATA. */
  readonly maxData: number
  /** Bytes of one stream before its first MAX_STREAM_DATA. */
  readonly maxStreamData: number
  /** Bidirectional streams that the peer may open before the first MAX_STREAMS. */
  readonly maxStreams: number
  /** Milliseconds without a packet after which this end forgets the session. */
  readonly idleTimeoutMs: number
  /** Bytes of the largest datagram that this end reads. */
  readonly maxDatagram: number
}

type Bounds = Readonly<Record<keyof Limits, readonly [lowest: number, highest: number]>>

/** A value below the lowest is malformed; one above the highest counts as the highest: nobody has to use a promise up. */
export const BOUNDS: Bounds = {
  maxData: [0, 2 ** 40],
  maxStreamData: [0, 2 ** 40],
  maxStreams: [0, 65_536],
  idleTimeoutMs: [1000, 86_400_000],
  maxDatagram: [MAX_DATAGRAM_LENGTH, 65_507]
}

const FIELDS = ["maxData", "maxStreamData", "maxStreams", "idleTimeoutMs", "maxDatagram"] as const

/** Bytes that `encode` writes. */
export const encodedLength = (limits: Limits): number =>
  FIELDS.reduce((length, field) => length + varintLength(limits[field]), 0)

export const encode = (writer: Writer, limits: Limits): void => {
  for (const field of FIELDS) writer.varint(limits[field])
}

/** `undefined` when bytes are missing or a value is below its bound. */
export const decode = (reader: Reader): Limits | undefined => {
  let low = false
  const next = (field: keyof Limits): number => {
    const [lowest, highest] = BOUNDS[field]
    const value = reader.varint()
    if (value < lowest) low = true
    return Math.min(value, highest)
  }
  const limits: Limits = {
    maxData: next("maxData"),
    maxStreamData: next("maxStreamData"),
    maxStreams: next("maxStreams"),
    idleTimeoutMs: next("idleTimeoutMs"),
    maxDatagram: next("maxDatagram")
  }
  return reader.failed || low ? undefined : limits
}
