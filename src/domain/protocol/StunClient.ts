/**
 * Learns by STUN (RFC 8489) under which address our socket is seen from outside, and keeps that address alive. Sans-IO,
 * a carrier on the main socket; it carries no sessions.
 *
 * All servers are asked at first, so that a translator with a mapping per destination shows itself. Then one of them, the
 * first that answered, is asked again and again, which also refreshes the mapping; when it falls silent, the others are
 * asked. IPv4 and IPv6 are apart. An answer counts only with a transaction id under way, from the server that was asked,
 * and with an address that can be one (`HostKind.isPlausible`); STUN has no more protection than that without credentials.
 */
import * as Address from "./Address.ts"
import type { Carrier, Parcel } from "./Carrier.ts"
import { isPlausible } from "./HostKind.ts"
import type { Entropy } from "./Primitives.ts"
import * as Stun from "./StunMessage.ts"
import { StunTransactions } from "./StunTransactions.ts"

/** Servers that are asked; more are left out. */
const MAX_STUN_SERVERS = 8
/** Milliseconds between two requests to the server in use: below the shortest mappings met, 30 s. A fifth is left to chance. */
const REFRESH_MS = 20_000
/** Milliseconds without an answer after which the other servers are asked too: four copies are out then. */
const DOUBT_MS = 4000

export interface StunClientOptions {
  readonly entropy: Entropy
  /** Numeric, without `via`. */
  readonly servers: ReadonlyArray<Address.Address>
  readonly refreshMs?: number
}

/** Our socket as seen from outside. */
export interface Reflexive {
  readonly address: Address.Address
  /** Who says so. */
  readonly server: Address.Address
  /**
   * Whether servers see different addresses: then a peer will see yet another one, and the address is good for nobody
   * else. `undefined` until two servers at different hosts have answered.
   */
  readonly dependent: boolean | undefined
}

type Family = 4 | 6

interface State {
  /** What each server said last, in the order of their first answers. */
  readonly answers: Map<string, { readonly server: Address.Address; readonly address: Address.Address }>
  /** The server in use. */
  server: Address.Address | undefined
  /** When to ask again. */
  nextAt: number
  /** When to ask the others too; `Infinity` while nothing is open. */
  doubtAt: number
}

const familyOf = ({ host }: Address.Address): Family => (host.includes(":") ? 6 : 4)

export class StunClient implements Carrier {
  readonly #entropy: Entropy
  readonly #refreshMs: number
  readonly #transactions: StunTransactions<Address.Address>
  readonly #states = new Map<Family, State>()
  #servers: ReadonlyArray<Address.Address> = []
  #changed = false
  #closed = false

  constructor(now: number, { entropy, refreshMs = REFRESH_MS, servers }: StunClientOptions) {
    this.#entropy = entropy
    this.#refreshMs = refreshMs
    this.#transactions = new StunTransactions(entropy)
    this.setServers(now, servers)
  }

  get servers(): ReadonlyArray<Address.Address> {
    return this.#servers
  }

  /** Our addresses at present, one of a family at most. */
  get reflexive(): ReadonlyArray<Reflexive> {
    const known: Array<Reflexive> = []
    for (const state of this.#states.values()) {
      const current = state.server && state.answers.get(Address.format(state.server))
      if (current !== undefined) known.push({ ...current, dependent: dependence(state) })
    }
    return known
  }

  /** `reflexive`, once after each change of it. */
  pollChange(): ReadonlyArray<Reflexive> | undefined {
    if (!this.#changed) return undefined
    this.#changed = false
    return this.reflexive
  }

  /** Asks others from now on: after their names resolved anew. */
  setServers(now: number, servers: ReadonlyArray<Address.Address>): void {
    const before = this.#servers
    this.#servers = servers
      .filter((one, i) => servers.findIndex((other) => Address.equals(one, other)) === i)
      .slice(0, MAX_STUN_SERVERS)
    if (before.length === this.#servers.length && this.#servers.every((one) => includes(before, one))) return
    this.refresh(now)
  }

  /** Asks everybody at once, and believes nothing from before: after the socket or the network has changed. */
  refresh(now: number): void {
    if (this.#closed) return
    this.#changed ||= this.reflexive.length > 0
    this.#transactions.cancel(() => true)
    this.#states.clear()
    for (const server of this.#servers) {
      const family = familyOf(server)
      const state = {
        answers: new Map(),
        server: undefined,
        nextAt: this.#later(now),
        doubtAt: Number.POSITIVE_INFINITY
      }
      if (!this.#states.has(family)) this.#states.set(family, state)
      this.#ask(now, server)
    }
  }

  handleDatagram(now: number, remote: Address.Address, bytes: Uint8Array): "foreign" | undefined {
    const message = Stun.decode(bytes)
    if (message === undefined || (message.class !== "success" && message.class !== "error")) return "foreign"
    const answer = this.#transactions.take(now, remote, message)
    if (answer === undefined) return "foreign"
    const server = answer.purpose
    const state = this.#states.get(familyOf(server))
    const address = message.class === "success" ? Stun.mappedAddress(message) : undefined
    if (state === undefined || address === undefined || !isPlausible(address.host, server.host)) return undefined
    this.#learn(now, state, server, address)
    return undefined
  }

  #learn(now: number, state: State, server: Address.Address, address: Address.Address): void {
    const key = Address.format(server)
    const wasDependent = dependence(state)
    const old = state.server && state.answers.get(Address.format(state.server))?.address
    const isInUse = state.server !== undefined && Address.equals(state.server, server)
    // Whoever answers while the one in use owes us an answer takes its place.
    const isLate = state.server !== undefined && state.doubtAt === Number.NEGATIVE_INFINITY
    if (old !== undefined && (isInUse || isLate) && !Address.equals(old, address)) {
      // What the others said before the change says nothing about now.
      state.answers.clear()
      for (const other of this.#of(familyOf(server))) if (!Address.equals(other, server)) this.#ask(now, other)
    }
    state.answers.set(key, { server, address })
    if (old === undefined || isInUse || isLate) {
      state.server = server
      state.doubtAt = Number.POSITIVE_INFINITY
      state.nextAt = this.#later(now)
      this.#changed ||= old === undefined || !Address.equals(old, address)
    }
    this.#changed ||= dependence(state) !== wasDependent
  }

  handleTimeout(now: number): void {
    if (this.#closed) return
    this.#transactions.expire(now)
    for (const [family, state] of this.#states) {
      const servers = this.#of(family)
      if (now >= state.doubtAt && state.doubtAt !== Number.NEGATIVE_INFINITY) {
        state.doubtAt = Number.NEGATIVE_INFINITY
        for (const server of servers) this.#ask(now, server)
      }
      const isWaiting = this.#transactions.purposes.some((server) => familyOf(server) === family)
      if (state.doubtAt === Number.NEGATIVE_INFINITY && !isWaiting) {
        // Nobody has answered anything: the address is as good as gone.
        this.#changed ||= state.server !== undefined
        state.answers.clear()
        state.server = undefined
        state.doubtAt = Number.POSITIVE_INFINITY
        state.nextAt = this.#later(now)
      }
      if (now < state.nextAt) continue
      state.nextAt = this.#later(now)
      if (state.server === undefined) for (const server of servers) this.#ask(now, server)
      else {
        this.#ask(now, state.server)
        if (state.doubtAt === Number.POSITIVE_INFINITY) state.doubtAt = now + DOUBT_MS
      }
    }
  }

  pollTransmit(now: number): Parcel | undefined {
    return this.#transactions.pollTransmit(now)
  }

  pollTimeout(): number {
    let at = this.#transactions.pollTimeout()
    for (const { doubtAt, nextAt } of this.#states.values()) {
      at = Math.min(at, nextAt)
      if (doubtAt !== Number.NEGATIVE_INFINITY) at = Math.min(at, doubtAt)
    }
    return at
  }

  /** It carries nothing. */
  wrap(): undefined {
    return undefined
  }

  close(): void {
    this.#closed = true
    this.#transactions.cancel(() => true)
    this.#states.clear()
  }

  #of(family: Family): ReadonlyArray<Address.Address> {
    return this.#servers.filter((server) => familyOf(server) === family)
  }

  /** One request to a server at a time. */
  #ask(now: number, server: Address.Address): void {
    if (this.#transactions.purposes.some((other) => Address.equals(other, server))) return
    this.#transactions.begin(now, { purpose: server, to: server })
  }

  #later(now: number): number {
    return now + this.#refreshMs * (1 - (this.#entropy(1)[0] as number) / (5 * 256))
  }
}

const includes = (list: ReadonlyArray<Address.Address>, one: Address.Address): boolean =>
  list.some((other) => Address.equals(other, one))

const dependence = ({ answers }: State): boolean | undefined => {
  const all = [...answers.values()]
  const first = all[0]
  if (first === undefined || all.every(({ server }) => server.host === first.server.host)) return undefined
  return all.some(({ address }) => !Address.equals(address, first.address))
}
