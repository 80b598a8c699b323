/**
 * Where a datagram goes in the simulated network: hosts by address, translators crossed on the way in and out. Pure but
 * for the translators' own tables.
 */
import { isIP } from "node:net"
import type { Address } from "../domain/protocol/Address.ts"
import { isV6, SimulatedHost } from "./SimulatedHost.ts"
import type { SimulatedNat } from "./SimulatedNat.ts"

/** Networks a datagram may cross. */
const MAX_HOPS = 8

/** A network of addresses: the internet, or the inside of a translator, which is then its gateway. */
export interface Realm {
  readonly nodes: Map<string, SimulatedHost | NatBox>
  readonly gateway: NatBox | undefined
}

/** A translator between two realms; it has its outside address in the outer one. */
export class NatBox {
  readonly machine: SimulatedNat
  readonly outside: Realm
  readonly inside: Realm

  constructor(machine: SimulatedNat, outside: Realm) {
    this.machine = machine
    this.outside = outside
    this.inside = { nodes: new Map(), gateway: this }
  }

  get address(): string {
    return this.machine.host
  }
}

/** Gives an address of a realm to a node; a bad or taken one is the caller's bug. */
export const occupy = (realm: Realm, address: string, node: SimulatedHost | NatBox): void => {
  if (isIP(address) === 0) throw new Error(`SimulatedNetwork: ${address} is no IP address`)
  if (realm.nodes.has(address)) throw new Error(`SimulatedNetwork: ${address} is taken`)
  realm.nodes.set(address, node)
}

/** The addresses as the destination sees them, and the destination, or why there is none. */
export interface Route {
  readonly from: Address
  readonly to: Address
  readonly end: SimulatedHost | string
}

/**
 * Follows a datagram that enters `start` at `now` (ms). IPv6 is never translated. A datagram from inside to its own
 * translator's outside address goes out and comes in again, if the translator does hairpinning.
 */
export const route = (now: number, start: Realm, source: Address, destination: Address): Route => {
  let from = source
  let to = destination
  let realm = start
  for (let hops = 0; hops < MAX_HOPS; hops++) {
    const node = realm.nodes.get(to.host)
    if (node instanceof SimulatedHost) return { from, to, end: node }
    if (node !== undefined) {
      const inside = node.machine.inbound(now, to.port, from)
      if (inside === undefined) return { from, to, end: "filtered" }
      if (!node.inside.nodes.has(inside.host)) return { from, to, end: "no route" }
      to = inside
      realm = node.inside
    } else {
      const gateway = realm.gateway
      if (gateway === undefined || isV6(to.host)) return { from, to, end: "no route" }
      const returns = to.host === gateway.address
      if (returns && !gateway.machine.behaviour.hairpin) return { from, to, end: "no hairpin" }
      const outside = gateway.machine.outbound(now, from, to)
      if (outside === undefined) return { from, to, end: "translator full" }
      from = outside
      realm = gateway.outside
    }
  }
  return { from, to, end: "too many hops" }
}
