/**
 * All the ways out of one endpoint: its sockets, and the carriers (STUN, TURN, a rendezvous) that speak through one of them.
 * A path's `via` names its way. Plain calls inside; the driver sends what is sorted here.
 */
import type { Address } from "../domain/protocol/Address.ts"
import type { Carrier, Parcel } from "../domain/protocol/Carrier.ts"
import type { Transmit } from "../domain/protocol/SessionTypes.ts"
import type { BoundSocket, Burst } from "../services/UdpSocket.ts"
import { segmentOf } from "./Bursts.ts"

/** Datagrams of one turn that a carrier may send of its own. */
const MAX_OWN_DATAGRAMS = 64

/** What is to be sent by one socket. */
export interface Outgoing {
  readonly socket: BoundSocket
  readonly batch: Array<Burst>
}

interface Riding {
  readonly carrier: Carrier
  /** The socket that it speaks through. */
  way: number
}

export class Ways {
  readonly #sockets = new Map<number, BoundSocket>()
  readonly #carriers = new Map<number, Riding>()
  #next = 0
  #home = 0

  /** A number for one more way; the first is 0, and none is given twice. */
  number(): number {
    return this.#next++
  }

  addSocket(via: number, socket: BoundSocket): void {
    this.#sockets.set(via, socket)
  }

  /** `way`: the socket that it speaks through. */
  addCarrier(via: number, carrier: Carrier, way: number): void {
    this.#carriers.set(via, { carrier, way })
  }

  /** Carriers that spoke through one socket speak through another from here on. */
  move(now: number, from: number, to: number): void {
    this.#home = to
    for (const riding of this.#carriers.values()) {
      if (riding.way !== from) continue
      riding.way = to
      riding.carrier.moved?.(now)
    }
  }

  /** What lies before us may have forgotten our carriers, or have another address for us. */
  refresh(now: number): void {
    for (const { carrier } of this.#carriers.values()) carrier.moved?.(now)
  }

  /** The socket that paths begin at. */
  get home(): number {
    return this.#home
  }

  remove(via: number): void {
    this.#sockets.delete(via)
    this.#carriers.delete(via)
  }

  isRelay(via: number | undefined): boolean {
    return via !== undefined && this.#carriers.has(via)
  }

  /** The place that the world sees: of what comes by a relay, the relay. */
  facing(remote: Address): Address {
    const { carrier } = this.#carriers.get(remote.via ?? 0) ?? {}
    return carrier?.servers[0] ?? remote
  }

  /** Whether probes of the path's MTU tell the truth there. */
  probes({ via = 0 }: Address): boolean {
    return this.#sockets.get(via)?.probes ?? false
  }

  /** When a carrier wants to be called. */
  get deadline(): number {
    let earliest = Number.POSITIVE_INFINITY
    for (const { carrier } of this.#carriers.values()) earliest = Math.min(earliest, carrier.pollTimeout())
    return earliest
  }

  handleTimeout(now: number): void {
    for (const { carrier } of this.#carriers.values()) if (carrier.pollTimeout() <= now) carrier.handleTimeout(now)
  }

  /** Takes out of a batch what is for carriers, and puts in what they carry; the batch itself where there are none. */
  receive(now: number, batch: ReadonlyArray<Transmit>): ReadonlyArray<Transmit> {
    if (this.#carriers.size === 0) return batch
    const rest: Array<Transmit> = []
    for (const datagram of batch) {
      const inner = this.#unwrap(now, datagram)
      if (inner !== undefined) rest.push(inner)
    }
    return rest
  }

  /** Sorts a batch by the sockets that send it, and adds what carriers have to say of their own. */
  sort(now: number, batch: ReadonlyArray<Burst>): ReadonlyArray<Outgoing> {
    const out: Array<Outgoing> = []
    for (const burst of batch) {
      const via = burst.remote.via ?? 0
      const riding = this.#carriers.get(via)
      if (riding === undefined) this.#push(out, via, burst)
      else this.#wrap(now, out, riding, burst)
    }
    for (const { carrier, way } of this.#carriers.values()) this.#own(now, out, carrier, way)
    return out
  }

  /** Every carrier takes its leave; `sort` has its last words. */
  close(now: number): void {
    for (const { carrier } of this.#carriers.values()) carrier.close(now)
  }

  #unwrap(now: number, datagram: Transmit): Parcel | undefined {
    const { bytes, remote } = datagram
    // Carriers know nothing of our sockets.
    const plain = remote.via === undefined ? remote : { host: remote.host, port: remote.port }
    for (const { carrier } of this.#carriers.values()) {
      if (!carrier.servers.some((server) => isAt(server, remote))) continue
      const inner = carrier.handleDatagram(now, plain, bytes)
      if (inner !== "foreign") return inner
    }
    return datagram
  }

  #wrap(now: number, out: Array<Outgoing>, { carrier, way }: Riding, burst: Burst): void {
    const { bytes, remote } = burst
    const segment = segmentOf(burst)
    for (let at = 0; at < bytes.length; at += segment) {
      const parcel = carrier.wrap(now, remote, bytes.subarray(at, at + segment))
      // What it has to say first may be what makes the relay understand this.
      this.#own(now, out, carrier, way)
      if (parcel !== undefined) this.#push(out, way, parcel)
    }
  }

  #own(now: number, out: Array<Outgoing>, carrier: Carrier, way: number): void {
    for (let count = 0; count < MAX_OWN_DATAGRAMS; count++) {
      const parcel = carrier.pollTransmit(now)
      if (parcel === undefined) return
      this.#push(out, way, parcel)
    }
  }

  #push(out: Array<Outgoing>, via: number, burst: Burst): void {
    const last = out.at(-1)
    const socket = this.#sockets.get(via)
    // A socket that is closed loses what is sent by it, as any network may.
    if (socket === undefined) return
    if (last?.socket === socket) last.batch.push(burst)
    else out.push({ socket, batch: [burst] })
  }
}

const isAt = (server: Address, remote: Address): boolean => server.port === remote.port && server.host === remote.host
