/**
 * Our transport in the shapes that are compared, by name: `fast` (the accelerated crypto and socket, where the host has
 * them) or `plain` (node:crypto and node:dgram); then, after slashes, the largest datagram and a congestion control:
 * `fast`, `plain/1200`, `fast/1440/newreno`.
 */
import * as Layer from "effect/Layer"
import * as Bbr from "../src/domain/protocol/Bbr.ts"
import type * as Congestion from "../src/domain/protocol/Congestion.ts"
import * as Cubic from "../src/domain/protocol/Cubic.ts"
import * as NewReno from "../src/domain/protocol/NewReno.ts"
import * as CryptoNode from "../src/layers/CryptoNode.ts"
import * as CryptoOpenSsl from "../src/layers/CryptoOpenSsl.ts"
import * as TransportLive from "../src/layers/TransportLive.ts"
import * as UdpSocketLinux from "../src/layers/UdpSocketLinux.ts"
import * as UdpSocketNode from "../src/layers/UdpSocketNode.ts"
import type { Crypto } from "../src/services/Crypto.ts"
import type { Transport } from "../src/services/Transport.ts"
import type { UdpSocket } from "../src/services/UdpSocket.ts"

const controls: Readonly<Record<string, Congestion.Factory>> = {
  bbr: Bbr.make,
  cubic: Cubic.make,
  newreno: NewReno.make
}

export interface Layers {
  readonly crypto: Layer.Layer<Crypto>
  readonly sockets: Layer.Layer<UdpSocket>
  readonly tuning: TransportLive.Tuning
}

/** As the listener has it or the client: what connects binds its accelerators late. */
export const parse = (variant: string, role: "listener" | "client" = "listener"): Layers => {
  const [kind, ...words] = variant.split("/")
  let tuning: TransportLive.Tuning = {}
  for (const word of words) {
    const congestion = controls[word]
    if (congestion !== undefined) tuning = { ...tuning, congestion }
    else if (/^\d+$/.test(word)) tuning = { ...tuning, maxDatagram: Number(word) }
    else throw new Error(`no such variant: ${variant}`)
  }
  const sockets = role === "client" ? UdpSocketLinux.layerLate : UdpSocketLinux.layer
  if (kind === "fast") return { crypto: CryptoOpenSsl.layer, sockets, tuning }
  if (kind === "plain") return { crypto: CryptoNode.layer, sockets: UdpSocketNode.layer, tuning }
  throw new Error(`no such variant: ${variant}`)
}

/** The transport of a variant, on other sockets if given. */
export const transport = ({ crypto, sockets, tuning }: Layers): Layer.Layer<Transport> =>
  TransportLive.layerWith(tuning).pipe(Layer.provide([crypto, sockets]))

/** Which accelerators this host lacks, in words. */
export const lacking = (): ReadonlyArray<string> => [
  ...(CryptoOpenSsl.available() ? [] : ["no accelerated crypto here: fast is plain in that"]),
  ...(UdpSocketLinux.available() ? [] : ["no accelerated sockets here: fast is plain in that"])
]
