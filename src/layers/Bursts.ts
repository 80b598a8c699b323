/** How a burst of datagrams comes apart. */
import type { Burst } from "../services/UdpSocket.ts"

/** Bytes of each datagram of a burst but the last: at least 1, so that whoever steps by it gets on. */
export const segmentOf = ({ bytes, segment }: Burst): number =>
  segment !== undefined && segment >= 1 ? segment : Math.max(1, bytes.length)
