/** udx-native as it is, without encryption: `listener` or `client HOST PORT FLOW`. Stream ids are agreed by a datagram. */
import { once } from "node:events"
import UDX from "udx-native"
import { attend, serveClient, serveListener, singles } from "./Duplex.mjs"

const [role, host, port, flow] = process.argv.slice(2)
const udx = new UDX()
const socket = udx.createSocket()
socket.bind(0, "0.0.0.0")
socket.setRecvBufferSize(4 * 1024 * 1024)
socket.setSendBufferSize(4 * 1024 * 1024)

const id = (value) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

let next = 1
if (role === "listener") {
  const known = new Map()
  socket.on("message", (message, from) => {
    const remote = message.readUInt32LE(0)
    const key = `${from.host}:${from.port}:${remote}`
    const again = known.get(key)
    if (again !== undefined) return socket.trySend(id(again), from.port, from.host)
    const local = next++
    known.set(key, local)
    const stream = udx.createStream(local)
    stream.connect(socket, remote, from.port, from.host)
    attend(stream)
    socket.trySend(id(local), from.port, from.host)
  })
  serveListener(socket.address().port)
} else {
  const connect = async () => {
    const local = (process.pid % 60_000) * 10_000 + next++
    const answer = once(socket, "message")
    const hello = () => socket.trySend(id(local), Number(port), host)
    const again = setInterval(hello, 300)
    hello()
    const [message] = await answer
    clearInterval(again)
    const stream = udx.createStream(local)
    stream.connect(socket, message.readUInt32LE(0), Number(port), host)
    return stream
  }
  serveClient(singles(connect), Number(flow))
}
