/**
 * UDP on node:dgram alone, for every system. It cannot set "don't fragment", so probes of the path's MTU would pass in
 * fragments and tell nothing.
 */
import * as Layer from "effect/Layer"
import { UdpSocket } from "../services/UdpSocket.ts"
import * as DgramSocket from "./DgramSocket.ts"
import { addresses } from "./HostAddresses.ts"

/** UDP sockets of this host. */
export const layer: Layer.Layer<UdpSocket> = Layer.succeed(UdpSocket, {
  implementation: "node:dgram",
  addresses,
  bind: DgramSocket.binding(DgramSocket.open)
})
