/** hyperdht, its listener the only node of its network: `listener HOST` or `client HOST PORT FLOW`. */
import { once } from "node:events"
import DHT from "hyperdht"
import { attend, serveClient, serveListener, singles } from "./Duplex.mjs"

const [role, host, port, flow] = process.argv.slice(2)
const keyPair = DHT.keyPair(Buffer.alloc(32, 7))

if (role === "listener") {
  const dht = new DHT({ bootstrap: [], ephemeral: false, firewalled: false, host, port: 0, anyPort: true })
  await dht.fullyBootstrapped()
  const server = dht.createServer({ holepunch: false }, attend)
  await server.listen(keyPair)
  serveListener(dht.address().port)
} else {
  const node = { host, port: Number(port) }
  const dht = new DHT({ bootstrap: [node], host: "0.0.0.0" })
  await dht.fullyBootstrapped()
  const connect = async () => {
    const stream = dht.connect(keyPair.publicKey, { relayAddresses: [node], holepunch: false })
    await once(stream, "open")
    return stream
  }
  serveClient(singles(connect), Number(flow))
}
