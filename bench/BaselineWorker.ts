/**
 * The same measurements on bare sockets of Node, without any security: `tcp-listener`, `udp-listener`, and their clients
 * with the listener's port. UDP has no flow control here: what is counted is what arrived.
 */
import * as dgram from "node:dgram"
import { once } from "node:events"
import * as net from "node:net"
import { serve, type Vitals } from "./Harness.ts"

export interface BareListenerQuestions extends Vitals {
  port: number
  /** UDP only: megabytes a second of the last blast, between its first datagram and its last. */
  rate: number
}

export interface BareClientQuestions extends Vitals {
  connect: ReadonlyArray<number>
  echo: ReadonlyArray<number>
  /** TCP: seconds until the listener has read all; UDP: until all was handed to the system. */
  bulk: number
}

const ECHO_BYTES = 64
const WRITE_BYTES = 65_536
const DATAGRAM_BYTES = 1200
const BATCH = 64
const HOST = "127.0.0.1"
const KERNEL_BUFFER_BYTES = 4 * 1024 * 1024
/** The first byte: echo what comes, or only count it. */
const ECHO = 1
const SINK = 2

const tcpListener = async (): Promise<void> => {
  const server = net.createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => {})
    socket.once("data", (first) => {
      if (first[0] === ECHO) {
        socket.on("data", (bytes) => socket.write(bytes)).on("end", () => socket.end())
        // The first message may have come with the first byte.
        socket.write(first.subarray(1))
      } else socket.on("data", () => {}).on("end", () => socket.end(Uint8Array.of(SINK)))
    })
  })
  await once(server.listen(0, HOST), "listening")
  serve({ port: () => (server.address() as net.AddressInfo).port })
}

const tcpConnect = async (port: number): Promise<net.Socket> => {
  const socket = net.connect({ port, host: HOST, noDelay: true })
  await once(socket, "connect")
  return socket
}

const tcpClient = (port: number): void =>
  serve({
    connect: async (count) => {
      const took: Array<number> = []
      for (let i = 0; i < count; i++) {
        const start = performance.now()
        const socket = await tcpConnect(port)
        took.push(performance.now() - start)
        socket.destroy()
      }
      return took
    },
    echo: async (count) => {
      const socket = await tcpConnect(port)
      socket.write(Uint8Array.of(ECHO))
      const took = await pingPong(
        count,
        (message) => socket.write(message),
        (on) => socket.on("data", on)
      )
      socket.destroy()
      return took
    },
    bulk: async (bytes) => {
      const socket = await tcpConnect(port)
      const block = new Uint8Array(WRITE_BYTES).fill(SINK)
      const start = performance.now()
      for (let sent = 0; sent < bytes; sent += WRITE_BYTES) if (!socket.write(block)) await once(socket, "drain")
      socket.end()
      await once(socket, "data")
      return (performance.now() - start) / 1000
    }
  })

const pingPong = (
  count: number,
  send: (message: Uint8Array) => void,
  receive: (on: (bytes: Uint8Array) => void) => void
): Promise<ReadonlyArray<number>> =>
  new Promise((resolve) => {
    const message = new Uint8Array(ECHO_BYTES).fill(ECHO)
    const took: Array<number> = []
    let got = 0
    let start = performance.now()
    receive((bytes) => {
      got += bytes.length
      if (got < ECHO_BYTES) return
      got = 0
      took.push(performance.now() - start)
      if (took.length === count) return resolve(took)
      start = performance.now()
      send(message)
    })
    send(message)
  })

const udpSocket = async (): Promise<dgram.Socket> => {
  const socket = dgram.createSocket({ type: "udp4", lookup: (host, _, done) => done(null, host, 4) })
  const listening = once(socket, "listening")
  socket.bind(0, HOST)
  await listening
  socket.setRecvBufferSize(KERNEL_BUFFER_BYTES)
  socket.setSendBufferSize(KERNEL_BUFFER_BYTES)
  return socket
}

const udpListener = async (): Promise<void> => {
  const socket = await udpSocket()
  let bytes = 0
  let first = 0
  let last = 0
  socket.on("message", (message, { port, address }) => {
    if (message[0] === ECHO) return socket.send(message, port, address)
    last = performance.now()
    if (bytes === 0) first = last
    bytes += message.length
  })
  serve({
    port: () => socket.address().port,
    rate: () => {
      const rate = bytes / 1000 / (last - first)
      bytes = 0
      return rate
    }
  })
}

const udpClient = async (port: number): Promise<void> => {
  const socket = await udpSocket()
  serve({
    echo: async (count) => {
      const took = await pingPong(
        count,
        (message) => socket.send(message, port, HOST),
        (on) => socket.on("message", on)
      )
      socket.removeAllListeners("message")
      return took
    },
    bulk: async (bytes) => {
      const datagram = new Uint8Array(DATAGRAM_BYTES).fill(SINK)
      const start = performance.now()
      for (let sent = 0; sent < bytes; ) {
        for (let i = 0; i < BATCH; i++) socket.send(datagram, port, HOST)
        sent += BATCH * DATAGRAM_BYTES
        await new Promise<void>((resolve) => setImmediate(resolve))
      }
      return (performance.now() - start) / 1000
    }
  })
}

const [role, argument] = process.argv.slice(2)
if (role === "tcp-listener") await tcpListener()
else if (role === "tcp-client") tcpClient(Number(argument))
else if (role === "udp-listener") await udpListener()
else if (role === "udp-client") await udpClient(Number(argument))
