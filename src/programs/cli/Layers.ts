/** The layers that more than one command provides. Constants: each is one instance wherever it is provided. */
import * as Layer from "effect/Layer"
import * as CryptoOpenSsl from "../../layers/CryptoOpenSsl.ts"
import * as ResolverNode from "../../layers/ResolverNode.ts"
import * as SecureFileStoreNode from "../../layers/SecureFileStoreNode.ts"
import * as SettingsNode from "../../layers/SettingsNode.ts"
import * as TransportLive from "../../layers/TransportLive.ts"
import * as UdpSocketLinux from "../../layers/UdpSocketLinux.ts"
import * as UdpSocketNode from "../../layers/UdpSocketNode.ts"

/** Files, keys and settings: what every command needs. */
export const base = Layer.mergeAll(
  CryptoOpenSsl.layer,
  ResolverNode.layer,
  SecureFileStoreNode.layer,
  SettingsNode.layer
)

/** The base and the network, for what listens. */
export const network = TransportLive.layer.pipe(Layer.provideMerge(UdpSocketLinux.layer), Layer.provideMerge(base))

/** The same for what connects, and may move much: it sends faster once it has something to send. */
export const networkLate = TransportLive.layer.pipe(
  Layer.provideMerge(UdpSocketLinux.layerLate),
  Layer.provideMerge(base)
)

/** The same for a command that asks one thing: loading what sends faster would take longer than the answer. */
export const networkBrief = TransportLive.layer.pipe(Layer.provideMerge(UdpSocketNode.layer), Layer.provideMerge(base))
