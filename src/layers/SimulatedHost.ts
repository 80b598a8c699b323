/**
 * A host of the simulated network: its addresses, its two link directions and its sockets, with a real stack's rules for
 * binding, choosing a source and finding the socket of an arrival.
 */
import { isIP } from "node:net"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Address, format, isLoopback, isPort } from "../domain/protocol/Address.ts"
import { type BindOptions, type BoundSocket, UdpSocket, UdpSocketError } from "../services/UdpSocket.ts"
import { segmentOf } from "./Bursts.ts"
import { ReceiveQueue } from "./ReceiveQueue.ts"
import type { SeededRandom } from "./SeededRandom.ts"
import { type LinkOptions, SimulatedLink } from "./SimulatedLink.ts"

/** One set of properties for both directions, or one for each. */
export type HostLink = LinkOptions | { readonly up: LinkOptions; readonly down: LinkOptions }

export interface SimulatedSocket {
  readonly address: Address
  readonly queue: ReceiveQueue
  /** What sources of its datagrams are stamped with. */
  readonly via: number | undefined
}

/** Takes a datagram that a socket sends, and its buffer. */
export type Send = (host: SimulatedHost, socket: SimulatedSocket, to: Address, bytes: Uint8Array) => void

/** Ephemeral ports (RFC 6335 section 6). */
const FIRST_EPHEMERAL_PORT = 49_152
const EPHEMERAL_PORTS = 16_384

export const isV6 = (host: string): boolean => host.includes(":")
const isWildcard = (host: string): boolean => host === "0.0.0.0" || host === "::"

export class SimulatedHost {
  addresses: ReadonlyArray<string> = []
  /** UDP sockets on this host. */
  readonly layer: Layer.Layer<UdpSocket>
  readonly up: SimulatedLink
  readonly down: SimulatedLink
  /** Whether the link is plugged in. */
  connected = true
  readonly #sockets = new Map<number, Array<SimulatedSocket>>()
  #nextPort: number

  /** `probes`: whether its sockets say that they set "don't fragment". No packet is ever fragmented here. */
  constructor(link: HostLink, random: SeededRandom, send: Send, probes = false) {
    const { up, down } = directions(link)
    this.up = new SimulatedLink(up, random.fork("up"))
    this.down = new SimulatedLink(down, random.fork("down"))
    this.#nextPort = random.below(EPHEMERAL_PORTS)
    this.layer = Layer.succeed(UdpSocket, {
      implementation: "simulated",
      addresses: Effect.sync(() => this.addresses),
      bind: bindOn(this, send, probes)
    })
  }

  /** New properties of both directions from now on. */
  setLink(link: HostLink): void {
    const { up, down } = directions(link)
    this.up.configure(up)
    this.down.configure(down)
  }

  /** A socket, or why there is none. */
  open({ host, port, via }: BindOptions): SimulatedSocket | "Busy" | "Unavailable" | "Other" {
    if (isIP(host) === 0) return "Unavailable"
    if (!(isWildcard(host) || isLoopback(host) || this.addresses.includes(host))) return "Unavailable"
    if (port !== 0 && !isPort(port)) return "Other"
    const chosen = port === 0 ? this.#freePort(host) : port
    if (chosen === undefined || this.#taken(host, chosen)) return "Busy"
    const address = { host, port: chosen }
    const socket = { address, queue: new ReceiveQueue(format(address)), via }
    this.#sockets.set(chosen, [...(this.#sockets.get(chosen) ?? []), socket])
    return socket
  }

  close(socket: SimulatedSocket): void {
    const left = this.#sockets.get(socket.address.port)?.filter((other) => other !== socket) ?? []
    if (left.length === 0) this.#sockets.delete(socket.address.port)
    else this.#sockets.set(socket.address.port, left)
    socket.queue.closeUnsafe()
  }

  /** The socket for a destination; one bound to that very address goes first. */
  socketFor(to: Address): SimulatedSocket | undefined {
    const sockets = this.#sockets.get(to.port)
    return (
      sockets?.find(({ address }) => address.host === to.host) ??
      sockets?.find(({ address }) => isWildcard(address.host) && overlaps(address.host, to.host))
    )
  }

  /** The host a datagram of `socket` to `to` leaves from, or `undefined` where the system would refuse. */
  sourceFor(socket: SimulatedSocket, to: string): string | undefined {
    const { host } = socket.address
    if (!isWildcard(host)) {
      const here = isLoopback(host) ? isLoopback(to) : this.addresses.includes(host)
      return here && isV6(host) === isV6(to) ? host : undefined
    }
    if (!overlaps(host, to)) return undefined
    if (isLoopback(to)) return isV6(to) ? "::1" : "127.0.0.1"
    return this.addresses.find((address) => isV6(address) === isV6(to))
  }

  #taken(host: string, port: number): boolean {
    return this.#sockets.get(port)?.some(({ address }) => overlaps(address.host, host)) ?? false
  }

  #freePort(host: string): number | undefined {
    for (let tries = 0; tries < EPHEMERAL_PORTS; tries++) {
      const port = FIRST_EPHEMERAL_PORT + this.#nextPort
      this.#nextPort = (this.#nextPort + 1) % EPHEMERAL_PORTS
      if (!this.#taken(host, port)) return port
    }
    return undefined
  }
}

/** Whether two bound hosts claim an address in common; `::` is dual-stack. */
const overlaps = (a: string, b: string): boolean =>
  a === b || a === "::" || b === "::" || (isV6(a) === isV6(b) && (isWildcard(a) || isWildcard(b)))

const directions = (link: HostLink): { readonly up: LinkOptions; readonly down: LinkOptions } =>
  "up" in link ? link : { up: link, down: link }

const bindOn = (host: SimulatedHost, send: Send, probes: boolean) =>
  Effect.fn("UdpSocket.bind")(function* (options: BindOptions) {
    const socket = yield* Effect.acquireRelease(
      Effect.suspend(() => {
        const opened = host.open(options)
        if (typeof opened !== "string") return Effect.succeed(opened)
        const message = `cannot bind simulated UDP ${format(options)}: ${opened.toLowerCase()}`
        return Effect.fail(new UdpSocketError({ reason: opened, message }))
      }),
      (opened) => Effect.sync(() => host.close(opened))
    )
    const bound: BoundSocket = {
      address: socket.address,
      receive: socket.queue.receive,
      send: (batch) =>
        Effect.sync(() => {
          for (const burst of batch) {
            const { bytes, remote } = burst
            const segment = segmentOf(burst)
            let at = 0
            do {
              send(host, socket, remote, new Uint8Array(bytes.subarray(at, at + segment)))
              at += segment
            } while (at < bytes.length)
          }
        }),
      probes
    }
    return bound
  })
