/** A rendezvous, servers and devices around it, in virtual time: no sockets, every datagram seen. */
import { type Address, format } from "../../src/domain/protocol/Address.ts"
import type { Carrier } from "../../src/domain/protocol/Carrier.ts"
import { RendezvousClient } from "../../src/domain/protocol/RendezvousClient.ts"
import { type Departure, type Options, RendezvousRelay } from "../../src/domain/protocol/RendezvousRelay.ts"
import { RendezvousServer } from "../../src/domain/protocol/RendezvousServer.ts"
import { mintTicket, type Ticket } from "../../src/domain/protocol/RendezvousTicket.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"

export const WALL = 1_800_000_000_000
export const RELAY: Address = { host: "203.0.113.5", port: 3479 }
export const VIA = 7
const ONE_WAY_MS = 20

/** Somebody with a carrier, at an address that may change. */
export class Host<C extends Carrier = Carrier> {
  address: Address
  readonly carrier: C
  /** What reached its sessions. */
  readonly got: Array<{ readonly from: Address; readonly bytes: Uint8Array }> = []
  /** What came from the relay and was nobody's. */
  readonly foreign: Array<Uint8Array> = []

  constructor(address: Address, carrier: C) {
    this.address = address
    this.carrier = carrier
  }
}

export interface Passed {
  readonly at: number
  readonly from: Address
  readonly to: Address
  readonly bytes: Uint8Array
}

export class World {
  now = 0
  readonly random = entropySeeded("rendezvous world")
  readonly relayKey = this.random(32)
  readonly serverKey = this.random(32)
  readonly credentials = [this.random(16), this.random(16), this.random(16)] as const
  relay: RendezvousRelay
  readonly hosts: Array<Host> = []
  /** All that was sent, whether it arrived or not. */
  readonly passed: Array<Passed> = []
  /** Datagrams for which this is true are lost. */
  loses: (passed: Passed) => boolean = () => false
  #flight: Array<Passed> = []

  constructor(options: Partial<Options> = {}) {
    this.relay = this.makeRelay(options)
  }

  makeRelay(options: Partial<Options> = {}): RendezvousRelay {
    const { relayKey } = this
    return new RendezvousRelay(this.now, this.wall, { primitives, entropy: this.random, relayKey, ...options })
  }

  get wall(): number {
    return WALL + this.now
  }

  ticket(index: 0 | 1 | 2, expiry = WALL + 30 * 86_400_000): Ticket {
    return mintTicket(primitives, this.relayKey, this.serverKey, this.credentials[index], expiry)
  }

  server(address: Address = { host: "198.51.100.1", port: 5000 }, credentials = 3): Host<RendezvousServer> {
    const { random: entropy, relayKey, serverKey } = this
    const carrier = new RendezvousServer(this.now, this.wall, {
      primitives,
      entropy,
      relay: RELAY,
      via: VIA,
      relayKey,
      serverKey
    })
    carrier.setCredentials(this.credentials.slice(0, credentials))
    return this.#add(new Host(address, carrier))
  }

  client(address: Address, ticket: Ticket = this.ticket(0), wall: number = this.wall): Host<RendezvousClient> {
    const carrier = new RendezvousClient(this.now, wall, {
      primitives,
      entropy: this.random,
      relay: RELAY,
      via: VIA,
      ticket
    })
    return this.#add(new Host(address, carrier))
  }

  /** A session's datagram leaves. */
  send(host: Host, remote: Address, bytes: Uint8Array): boolean {
    const parcel = host.carrier.wrap(this.now, remote, bytes)
    if (parcel !== undefined) this.transmit(host.address, parcel.remote, parcel.bytes)
    return parcel !== undefined
  }

  /** Anything from anywhere. */
  transmit(from: Address, to: Address, bytes: Uint8Array): void {
    const passed = { at: this.now, from, to, bytes: Uint8Array.from(bytes) }
    this.passed.push(passed)
    if (!this.loses(passed)) this.#flight.push(passed)
  }

  run(ms: number): void {
    const end = this.now + ms
    for (;;) {
      for (const host of this.hosts) this.#drain(host)
      const arrival = this.#flight.reduce((min, { at }) => Math.min(min, at + ONE_WAY_MS), Number.POSITIVE_INFINITY)
      const deadlines = [this.relay.pollTimeout(), ...this.hosts.map(({ carrier }) => carrier.pollTimeout())]
      const next = Math.max(this.now, Math.min(arrival, ...deadlines))
      if (next > end) break
      this.now = next
      this.relay.handleTimeout(next)
      for (const { carrier } of this.hosts) if (carrier.pollTimeout() <= next) carrier.handleTimeout(next)
      const due = this.#flight.filter(({ at }) => at + ONE_WAY_MS <= next)
      this.#flight = this.#flight.filter(({ at }) => at + ONE_WAY_MS > next)
      for (const passed of due) this.#arrive(passed)
    }
    this.now = end
  }

  /** Datagrams that the relay has sent to an address. */
  sentTo(address: Address): ReadonlyArray<Passed> {
    return this.passed.filter(({ from, to }) => format(from) === format(RELAY) && format(to) === format(address))
  }

  #add<C extends Carrier>(host: Host<C>): Host<C> {
    this.hosts.push(host)
    return host
  }

  #drain(host: Host): void {
    for (let out = host.carrier.pollTransmit(this.now); out !== undefined; out = host.carrier.pollTransmit(this.now)) {
      this.transmit(host.address, out.remote, out.bytes)
    }
  }

  #arrive({ bytes, from, to }: Passed): void {
    if (format(to) === format(RELAY)) {
      this.depart(this.relay.handleDatagrams(this.now, [{ bytes: Uint8Array.from(bytes), remote: from }]))
      return
    }
    for (const host of this.hosts) {
      if (format(host.address) !== format(to)) continue
      const what = host.carrier.handleDatagram(this.now, from, Uint8Array.from(bytes))
      if (what === "foreign") host.foreign.push(bytes)
      else if (what !== undefined) host.got.push({ from: what.remote, bytes: Uint8Array.from(what.bytes) })
    }
  }

  depart(departures: ReadonlyArray<Departure>): void {
    for (const { bytes, remote, segment } of departures) {
      for (let at = 0; at < bytes.length; at += segment) this.transmit(RELAY, remote, bytes.subarray(at, at + segment))
    }
  }
}
