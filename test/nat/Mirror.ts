/**
 * A program on the wire that tells whom it hears: `node Mirror.ts serve ADDRESS ADDRESS` listens on two ports of each address.
 * A question names the sockets that are to answer, in their order; an answer tells where the question seemed to come from.
 *
 * `node Mirror.ts ask ADDRESS ADDRESS` asks, and prints what is between (`Found`). What is let in arrives before the answer
 * of the socket that was asked, which is the last: all leave one after the other over one wire, so that no clock decides.
 */
import * as Dgram from "node:dgram"
import { once } from "node:events"

const PORTS = [7000, 7001]
/** Milliseconds after which a question is repeated. */
const AGAIN_MS = 500

interface Spot {
  readonly address: string
  readonly port: number
}

/** In the words of RFC 4787. */
export type Dependence = "endpoint-independent" | "address-dependent" | "address-and-port-dependent"

export interface Found {
  readonly mapping: Dependence
  readonly filtering: Dependence
  readonly portPreserved: boolean
  /** Where the mirror saw us. */
  readonly outside: string
}

const spotsOf = (addresses: ReadonlyArray<string>): ReadonlyArray<Spot> =>
  addresses.flatMap((address) => PORTS.map((port) => ({ address, port })))

const open = async (spot?: Spot): Promise<Dgram.Socket> => {
  const socket = Dgram.createSocket("udp4")
  socket.bind(spot ?? { port: 0 })
  await once(socket, "listening")
  return socket
}

const serve = async (spots: ReadonlyArray<Spot>): Promise<void> => {
  const sockets = await Promise.all(spots.map(open))
  for (const socket of sockets) {
    socket.on("message", (bytes, { address, port }) => {
      const { by, id }: { readonly by: ReadonlyArray<number>; readonly id: number } = JSON.parse(bytes.toString())
      const answer = ([first, ...others]: ReadonlyArray<number>): void => {
        if (first === undefined) return
        const words = JSON.stringify({ by: first, id, seen: { address, port } })
        sockets[first]?.send(words, port, address, () => answer(others))
      }
      answer(by)
    })
  }
  process.stdout.write("Listening\n")
}

let questions = 0

/** Asks one spot to let `others` answer before it does; who of them was heard, and where we seemed to be. */
const ask = async (socket: Dgram.Socket, spots: ReadonlyArray<Spot>, to: number, others: ReadonlyArray<number>) => {
  const id = questions++
  const spot = spots[to]
  const send = (): void => socket.send(JSON.stringify({ id, by: [...others, to] }), spot?.port, spot?.address)
  const heard = new Set<number>()
  const again = setInterval(send, AGAIN_MS)
  const seen = await new Promise<Spot>((resolve) => {
    const listen = (bytes: Buffer): void => {
      const answer: { readonly by: number; readonly id: number; readonly seen: Spot } = JSON.parse(bytes.toString())
      if (answer.id !== id) return
      heard.add(answer.by)
      if (answer.by !== to) return
      socket.off("message", listen)
      resolve(answer.seen)
    }
    socket.on("message", listen)
    send()
  })
  clearInterval(again)
  return { heard, seen }
}

const dependence = (onAddress: boolean, onPort: boolean): Dependence => {
  if (onPort) return "address-and-port-dependent"
  return onAddress ? "address-dependent" : "endpoint-independent"
}

const look = async (spots: ReadonlyArray<Spot>): Promise<Found> => {
  const socket = await open()
  // The socket has spoken to nobody but the first spot yet.
  const first = await ask(socket, spots, 0, [3, 1])
  const port = await ask(socket, spots, 1, [])
  const host = await ask(socket, spots, 2, [])
  const text = ({ address, port: number }: Spot): string => `${address}:${number}`
  const isOther = ({ seen }: typeof first): boolean => text(seen) !== text(first.seen)
  const found: Found = {
    mapping: dependence(isOther(host), isOther(port)),
    filtering: dependence(!first.heard.has(3), !first.heard.has(1)),
    portPreserved: first.seen.port === socket.address().port,
    outside: text(first.seen)
  }
  socket.close()
  return found
}

const [verb, ...addresses] = process.argv.slice(2)
if (verb === "serve") await serve(spotsOf(addresses))
if (verb === "ask") process.stdout.write(`${JSON.stringify(await look(spotsOf(addresses)))}\n`)
