/**
 * Sends junk from outside: `node Scan.ts HOST PORT...`, where a port may be a range such as `50000-51999`. Each port gets three
 * datagrams: an empty one, a short one, and one of a first packet's length. A datagram has gone when the program ends.
 */
import * as Dgram from "node:dgram"
import { once } from "node:events"

const [host = "", ...ports] = process.argv.slice(2)
const all = ports.flatMap((text) => {
  const [first = 0, last = first] = text.split("-").map(Number)
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
})
const junk = [0, 21, 1200].map((length) => Buffer.alloc(length, 0xa5))

const socket = Dgram.createSocket(host.includes(":") ? "udp6" : "udp4")
socket.bind(0)
await once(socket, "listening")
for (const port of all) {
  for (const bytes of junk) await new Promise((done) => socket.send(bytes, port, host, done))
}
socket.close()
