/** quinn by its npm binding, without libp2p above it: `listener` or `client HOST PORT FLOW`. */
import { EventEmitter } from "node:events"
import { generateKeyPair, privateKeyToProtobuf } from "@libp2p/crypto/keys"
import { attend, serveClient, serveListener } from "./Duplex.mjs"

// The package exports only its libp2p transport; the binding stands beside it.
const { Client, QuinnConfig, Server } = await import(
  new URL("napi.js", import.meta.resolve("@chainsafe/libp2p-quic")).href
)
const { defaultOptions } = await import("@chainsafe/libp2p-quic")

/** Bytes asked for with one read; the libp2p layer above asks for 4096, which would cost it dearly. */
const READ_BYTES = 65_536

const config = new QuinnConfig({
  ...defaultOptions,
  privateKeyProto: privateKeyToProtobuf(await generateKeyPair("Ed25519"))
})

/** The binding's promises as a stream of events: one write at a time, as many reads as there are bytes. */
class QuicStream extends EventEmitter {
  #stream
  #writing = Promise.resolve()
  #pending = 0

  constructor(stream) {
    super()
    this.#stream = stream
    setImmediate(() => this.#pull())
  }

  async #pull() {
    try {
      for (;;) {
        const chunk = await this.#stream.read(READ_BYTES)
        if (chunk == null) break
        this.emit("data", chunk)
      }
    } catch {
      // The connection was ended.
    }
    this.emit("end")
  }

  write(bytes) {
    this.#pending++
    this.#writing = this.#writing
      .then(() => this.#stream.write(bytes))
      .then(
        () => {
          if (--this.#pending === 0) this.emit("drain")
        },
        () => {}
      )
    return false
  }

  end(bytes) {
    if (bytes !== undefined) this.write(bytes)
    this.#writing = this.#writing.then(() => this.#stream.finishWrite()).catch(() => {})
  }
}

const [role, host, port, flow] = process.argv.slice(2)

if (role === "listener") {
  const server = new Server(config, "0.0.0.0", 0)
  serveListener(server.port())
  const streams = async (connection) => {
    for (;;) attend(new QuicStream(await connection.inboundStream()))
  }
  for (;;) streams(await server.inboundConnection()).catch(() => {})
} else {
  const client = new Client(config, 0)
  const dial = async () => {
    const connection = await client.outboundConnection(host, Number(port))
    return {
      open: async () => new QuicStream(await connection.outboundStream()),
      close: () => connection.abort()
    }
  }
  serveClient(dial, Number(flow))
}
