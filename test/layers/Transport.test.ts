/** The transport on real sockets: plain Node, the accelerators, and one against the other. */
import { Socket } from "node:dgram"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { INITIATION_LENGTH } from "../../src/domain/protocol/Constants.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as CryptoOpenSsl from "../../src/layers/CryptoOpenSsl.ts"
import * as Koffi from "../../src/layers/Koffi.ts"
import * as UdpSocketLinux from "../../src/layers/UdpSocketLinux.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import { contract } from "./TransportContract.ts"
import { connect, device, type End, listen } from "./TransportEnds.ts"

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

/** What connects: accelerated after so many datagrams. */
const late = (maxDatagram: number, patience: number): End => ({
  ...fast(maxDatagram),
  sockets: UdpSocketLinux.layerLateOf(Koffi.load, patience)
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
contract({ name: "late client, fast server", client: late(1440, 100), server: fast(1440), missing }, "short")
contract({ name: "fast client, plain server", client: fast(LARGEST), server: plain(LARGEST), missing }, "short")

describe("an enrolled device", () => {
  it.live("what it says at once leaves with its confirmation, in one datagram", () =>
    Effect.gen(function* () {
      const end = plain(1200)
      const listener = yield* listen(end, [device(1)])
      const spy = vi.spyOn(Socket.prototype, "send")
      yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
      const connection = yield* connect(end, device(1), listener)
      const stream = yield* connection.open(Priority.Interactive)
      yield* stream.write(new Uint8Array(64))
      // A slow machine may have repeated the initiation before it was answered.
      const lengths = spy.mock.calls
        .map(([bytes, port]) => [(bytes as Uint8Array).length, port])
        .filter(([length, port]) => port === listener.address.port && length !== INITIATION_LENGTH)
      assert.lengthOf(lengths, 1)
      const far = yield* listener.accept
      const incoming = yield* far.accept
      assert.strictEqual(
        (yield* incoming.read).reduce((sum, { length }) => sum + length, 0),
        64
      )
    }).pipe(Effect.scoped)
  )
})
