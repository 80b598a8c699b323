/**
 * A simulated network address translator in the terms of RFC 4787: mapping, filtering, port choice, timeout, hairpinning.
 * A pure machine: time comes in as `now` (ms), randomness is the seeded generator it was given.
 *
 * `outbound` and `inbound` translate one datagram each and answer `undefined` where the translator drops it.
 */
import { type Address, format } from "../domain/protocol/Address.ts"
import type { SeededRandom } from "./SeededRandom.ts"

/** What of the remote address counts: nothing, its host, or host and port (RFC 4787 sections 4.1 and 5). */
export type Dependence = "endpoint-independent" | "address-dependent" | "address-and-port-dependent"

export interface NatBehaviour {
  /** Whether one inside address keeps one outside port towards all remotes. */
  readonly mapping: Dependence
  /** Who may send in: anyone, hosts that were sent to, or addresses that were sent to. */
  readonly filtering: Dependence
  /** The outside port: the inside one if free (else the next free one), the next number, or any. */
  readonly ports: "preserving" | "sequential" | "random"
  /** Milliseconds a mapping, and a permission of the filter, outlives its last use. */
  readonly timeoutMs: number
  /** Whether datagrams from outside count as use, besides those from inside. */
  readonly refreshedFromOutside: boolean
  /** Whether two inside hosts reach each other through their outside addresses. */
  readonly hairpin: boolean
}

const cone: NatBehaviour = {
  mapping: "endpoint-independent",
  filtering: "endpoint-independent",
  ports: "preserving",
  timeoutMs: 120_000,
  refreshedFromOutside: false,
  hairpin: false
}

/** The four kinds by their old names (RFC 3489 section 5). */
export const kinds = {
  fullCone: cone,
  restricted: { ...cone, filtering: "address-dependent" },
  portRestricted: { ...cone, filtering: "address-and-port-dependent" },
  symmetric: {
    ...cone,
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    ports: "random"
  }
} as const satisfies Readonly<Record<string, NatBehaviour>>

const FIRST_PORT = 1024
const LAST_PORT = 65_535
const PORTS = LAST_PORT - FIRST_PORT + 1
/** Mappings held at once; a full table maps nothing new, as in real devices. */
const MAX_MAPPINGS = 16_384
/** Permissions after which a mapping forgets the expired ones. */
const PERMISSIONS_SWEPT_AT = 1024

const keyOf = (dependence: Dependence, remote: Address): string => {
  if (dependence === "endpoint-independent") return ""
  return dependence === "address-dependent" ? remote.host : format(remote)
}

interface Mapping {
  readonly key: string
  readonly inside: Address
  readonly port: number
  usedAt: number
  /** By filter key: when the inside last sent there. */
  readonly permissions: Map<string, number>
}

export class SimulatedNat {
  readonly behaviour: NatBehaviour
  readonly #random: SeededRandom
  #host: string
  #nextPort: number
  readonly #byKey = new Map<string, Mapping>()
  readonly #byPort = new Map<number, Mapping>()

  constructor(host: string, behaviour: NatBehaviour, random: SeededRandom) {
    this.#host = host
    this.behaviour = behaviour
    this.#random = random
    this.#nextPort = FIRST_PORT + random.below(PORTS)
  }

  /** The outside address. */
  get host(): string {
    return this.#host
  }

  /** Live mappings. */
  mappings(now: number): number {
    this.#sweep(now)
    return this.#byPort.size
  }

  /** Forgets every mapping, and may get another outside address. A preserving one will choose the same ports again. */
  rebind(host = this.#host): void {
    this.#host = host
    this.#byKey.clear()
    this.#byPort.clear()
  }

  /** The outside source of a datagram from inside; makes or refreshes its mapping. */
  outbound(now: number, inside: Address, remote: Address): Address | undefined {
    const { mapping: dependence, filtering } = this.behaviour
    const key = `${format(inside)} ${keyOf(dependence, remote)}`
    const mapping = this.#alive(this.#byKey.get(key), now) ?? this.#open(now, key, inside)
    if (mapping === undefined) return undefined
    mapping.usedAt = now
    if (filtering !== "endpoint-independent") this.#permit(mapping, keyOf(filtering, remote), now)
    return { host: this.#host, port: mapping.port }
  }

  /** The inside destination of a datagram that came for `port` from `remote`. */
  inbound(now: number, port: number, remote: Address): Address | undefined {
    const { filtering, timeoutMs, refreshedFromOutside } = this.behaviour
    const mapping = this.#alive(this.#byPort.get(port), now)
    if (mapping === undefined) return undefined
    if (filtering !== "endpoint-independent") {
      const key = keyOf(filtering, remote)
      const permittedAt = mapping.permissions.get(key)
      if (permittedAt === undefined || now - permittedAt >= timeoutMs) return undefined
      if (refreshedFromOutside) mapping.permissions.set(key, now)
    }
    if (refreshedFromOutside) mapping.usedAt = now
    return mapping.inside
  }

  #alive(mapping: Mapping | undefined, now: number): Mapping | undefined {
    if (mapping === undefined || now - mapping.usedAt < this.behaviour.timeoutMs) return mapping
    this.#byKey.delete(mapping.key)
    this.#byPort.delete(mapping.port)
    return undefined
  }

  #sweep(now: number): void {
    for (const mapping of [...this.#byPort.values()]) this.#alive(mapping, now)
  }

  #open(now: number, key: string, inside: Address): Mapping | undefined {
    if (this.#byPort.size >= MAX_MAPPINGS) this.#sweep(now)
    if (this.#byPort.size >= MAX_MAPPINGS) return undefined
    const port = this.#choosePort(now, inside.port)
    const mapping: Mapping = { key, inside, port, usedAt: now, permissions: new Map() }
    this.#byKey.set(key, mapping)
    this.#byPort.set(port, mapping)
    return mapping
  }

  #choosePort(now: number, insidePort: number): number {
    const { ports } = this.behaviour
    let port = ports === "preserving" ? insidePort : this.#nextPort
    if (ports === "random") port = FIRST_PORT + this.#random.below(PORTS)
    while (this.#alive(this.#byPort.get(port), now) !== undefined) {
      port = ports === "random" ? FIRST_PORT + this.#random.below(PORTS) : following(port)
    }
    if (ports === "sequential") this.#nextPort = following(port)
    return port
  }

  #permit(mapping: Mapping, key: string, now: number): void {
    const { permissions } = mapping
    permissions.set(key, now)
    if (permissions.size % PERMISSIONS_SWEPT_AT !== 0) return
    for (const [other, at] of [...permissions]) if (now - at >= this.behaviour.timeoutMs) permissions.delete(other)
  }
}

const following = (port: number): number => (port >= LAST_PORT ? FIRST_PORT : port + 1)
