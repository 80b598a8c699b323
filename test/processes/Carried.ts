/** A real UDP socket with a carrier on it, driven as a tier's is. */
import * as Dgram from "node:dgram"
import { once } from "node:events"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Carrier } from "../../src/domain/protocol/Carrier.ts"

export class Carried<C extends Carrier> {
  readonly carrier: C
  readonly #socket: Dgram.Socket
  readonly #listeners = new Set<() => void>()
  #timer: NodeJS.Timeout | undefined
  #leaving = 0
  /** What to do with a session's datagram. */
  onDatagram: (remote: Address, bytes: Uint8Array) => void = () => {}

  private constructor(socket: Dgram.Socket, make: (now: number) => C) {
    this.#socket = socket
    this.carrier = make(performance.now())
    socket.on("message", (message, { address, port }) => {
      const bytes = new Uint8Array(message.buffer, message.byteOffset, message.length)
      const parcel = this.carrier.handleDatagram(performance.now(), { host: address, port }, bytes)
      if (parcel !== undefined && parcel !== "foreign") this.onDatagram(parcel.remote, parcel.bytes)
      this.drain()
    })
    this.drain()
  }

  static async open<C extends Carrier>(make: (now: number) => C): Promise<Carried<C>> {
    const socket = Dgram.createSocket("udp4")
    socket.bind({ address: "127.0.0.1", port: 0 })
    await once(socket, "listening")
    return new Carried(socket, make)
  }

  get address(): Address {
    const { address, port } = this.#socket.address()
    return { host: address, port }
  }

  send(remote: Address, bytes: Uint8Array): void {
    const parcel = this.carrier.wrap(performance.now(), remote, bytes)
    if (parcel !== undefined) this.raw(parcel.remote, parcel.bytes)
  }

  raw({ host, port }: Address, bytes: Uint8Array): void {
    this.#leaving++
    this.#socket.send(bytes, port, host, () => {
      this.#leaving--
      this.#tell()
    })
  }

  /** Waits until something that is looked at after each event is so. */
  until(isSo: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (!isSo()) return
        this.#listeners.delete(look)
        resolve()
      }
      this.#listeners.add(look)
      look()
    })
  }

  drain(): void {
    const now = performance.now()
    for (let out = this.carrier.pollTransmit(now); out !== undefined; out = this.carrier.pollTransmit(now)) {
      this.raw(out.remote, out.bytes)
    }
    this.#tell()
    clearTimeout(this.#timer)
    const at = this.carrier.pollTimeout()
    if (at === Number.POSITIVE_INFINITY) return
    this.#timer = setTimeout(
      () => {
        this.carrier.handleTimeout(performance.now())
        this.drain()
      },
      Math.max(0, Math.ceil(at - now))
    )
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener()
  }

  /** Says goodbye and is gone. */
  async close(): Promise<void> {
    this.carrier.close(performance.now())
    this.drain()
    clearTimeout(this.#timer)
    await this.until(() => this.#leaving === 0)
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()))
  }
}
