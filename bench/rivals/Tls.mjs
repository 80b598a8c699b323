/** TCP of the system, bare (`tcp`) or under TLS 1.3 (`tls`, AES-256-GCM): `KIND listener` or `KIND client HOST PORT FLOW`. */
import { once } from "node:events"
import * as net from "node:net"
import * as tls from "node:tls"
import { attend, serveClient, serveListener, singles } from "./Duplex.mjs"

// Made for this benchmark alone; it protects nobody.
const KEY = process.env.BENCH_TLS_KEY
const CERT = process.env.BENCH_TLS_CERT
const suites = { ciphers: "TLS_AES_256_GCM_SHA384", minVersion: "TLSv1.3" }

const [kind, role, host, port, flow] = process.argv.slice(2)

if (role === "listener") {
  const accept = (socket) => {
    socket.setNoDelay(true)
    attend(socket)
  }
  const options = { allowHalfOpen: true, noDelay: true }
  const server =
    kind === "tls"
      ? tls.createServer({ ...options, ...suites, key: KEY, cert: CERT }, accept)
      : net.createServer(options, accept)
  await once(server.listen(0, "0.0.0.0"), "listening")
  serveListener(server.address().port)
} else {
  const connect = async () => {
    const at = { host, port: Number(port) }
    const socket = kind === "tls" ? tls.connect({ ...at, ...suites, rejectUnauthorized: false }) : net.connect(at)
    socket.setNoDelay(true)
    await once(socket, kind === "tls" ? "secureConnect" : "connect")
    return socket
  }
  serveClient(singles(connect), Number(flow))
}
