/** The transport on real sockets: plain Node, the accelerators, and one against the other. */
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as CryptoOpenSsl from "../../src/layers/CryptoOpenSsl.ts"
import * as UdpSocketLinux from "../../src/layers/UdpSocketLinux.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import { contract } from "./TransportContract.ts"
import type { End } from "./TransportEnds.ts"

const LARGEST = 65_504

const plain = (maxDatagram: number): End => ({
  sockets: UdpSocketNode.layer,
  crypto: CryptoNode.layer,
  implementations: ["node:dgram", "node:crypto"],
  maxDatagram
})

const fast = (maxDatagram: number): End => ({
  sockets: UdpSocketLinux.layer,
  crypto: CryptoOpenSsl.layer,
  implementations: ["linux GSO/GRO", "openssl"],
  maxDatagram
})

const needs = (here: boolean, what: string): ReadonlyArray<string> => (here ? [] : [what])
const missing = [
  ...needs(UdpSocketLinux.available(), "Linux with koffi"),
  ...needs(CryptoOpenSsl.available(), "koffi with OpenSSL's symbols")
].join(", ")

for (const size of [1200, LARGEST]) {
  const end = plain(size)
  contract({ name: `plain, ${size} bytes`, client: end, server: end, missing: "" }, "whole")
}
for (const size of [1440, LARGEST]) {
  const end = fast(size)
  contract({ name: `fast, ${size} bytes`, client: end, server: end, missing }, "whole")
}
// The smaller of the two sizes holds.
contract({ name: "plain client, fast server", client: plain(LARGEST), server: fast(1440), missing }, "short")
contract({ name: "fast client, plain server", client: fast(LARGEST), server: plain(LARGEST), missing }, "short")
