/**
 * Datagrams that a host's network stack delivers in one piece (UDP_GRO, Linux udp(7)): from one address, side by side,
 * all of one length but the last, which may be shorter. What that length is the host may not say, so it is found where
 * the connection id, the first 8 bytes, comes again: ids are random, and a datagram holds a second copy of its own by
 * chance once in 2^64 places. (Its sender, who knows the keys, can place one: it harms its own datagram only.)
 *
 * What this cannot tell apart, a host that names the length should:
 * - Initiations have hints of their own each. Two in one piece, 50 ms apart at the least, look like one long datagram,
 *   as does an initiation with another session's datagram behind it; nothing opens it, and the sender tries again.
 * - Two sessions of one address: where their datagrams alternate evenly the pieces are pairs, which nothing opens;
 *   otherwise the boundaries do not match and all is dropped. Either way recovery sees a loss.
 */
import { CONNECTION_ID_LENGTH, PADDING_BLOCK } from "./Constants.ts"
import { MIN_LENGTH } from "./Packet.ts"

/** What a piece is whose boundaries contradict each other. */
export const AMBIGUOUS = 0

/**
 * Bytes of each datagram in `bytes`, the last one taking what is left: all of them for a single datagram, `AMBIGUOUS`
 * where an id comes again but not at every boundary. What no sender of ours has put together stays whole. Nothing is
 * kept or changed.
 */
export const segmentLength = (bytes: Uint8Array): number => {
  const { length } = bytes
  if (length < 2 * MIN_LENGTH || length % PADDING_BLOCK !== 0) return length
  const first = bytes[0]
  const second = bytes[1]
  // The last one may be shorter, but is a datagram.
  const end = length - MIN_LENGTH
  let segment = MIN_LENGTH
  while (segment <= end && !(bytes[segment] === first && bytes[segment + 1] === second && recurs(bytes, segment))) {
    segment += PADDING_BLOCK
  }
  if (segment > end) return length
  for (let at = 2 * segment; at < length; at += segment) {
    if (at > end || !recurs(bytes, at)) return AMBIGUOUS
  }
  return segment
}

/** Whether the first bytes come again at `at`. */
const recurs = (bytes: Uint8Array, at: number): boolean => {
  for (let i = 0; i < CONNECTION_ID_LENGTH; i++) if (bytes[at + i] !== bytes[i]) return false
  return true
}
