/**
 * What the translator and the firewall between one socket and the internet do, by RFC 5780's tests, all on that socket.
 * Sans-IO: every datagram of the socket goes in, `pollTransmit` and `pollTimeout` are drained, until `done`.
 *
 * The order matters, for each datagram that leaves opens the filter for its destination: first one server after the other
 * until one knows a second address of its own (OTHER-ADDRESS); then, before anything went there, filtering, with hairpinning
 * and the path's MTU beside it; then the mapping towards the second address and the servers not asked yet. Where no server
 * has a second address, two servers show whether the mapping depends on the destination, and filtering stays unknown.
 */
import * as Address from "./Address.ts"
import type { Parcel } from "./Carrier.ts"
import { isPlausible } from "./HostKind.ts"
import type { Entropy } from "./Primitives.ts"
import * as Stun from "./StunMessage.ts"
import { type Answer, BRIEF, StunTransactions } from "./StunTransactions.ts"

/** Of what a mapping or a filter depends (RFC 4787 sections 4.1 and 5). */
export type Dependence = "endpoint-independent" | "address-dependent" | "address-and-port-dependent"
/** `dependent`: on the destination, but nobody could tell on what of it. */
export type Mapping = Dependence | "dependent"

/** What one server had to say. */
export interface ServerReport {
  readonly server: Address.Address
  readonly outcome: "answered" | "silent" | "refused"
  readonly reflexive: Address.Address | undefined
  /** Its second address, for tests. */
  readonly other: Address.Address | undefined
  readonly rttMs: number | undefined
}

/** `undefined` is what could not be found out. */
export interface NatReport {
  readonly servers: ReadonlyArray<ServerReport>
  /** Our socket as the first server that answered saw it. */
  readonly reflexive: Address.Address | undefined
  /** Whether that is none of this host's addresses. */
  readonly translated: boolean | undefined
  readonly mapping: Mapping | undefined
  /** Who may send in: what translator and firewall let through together. */
  readonly filtering: Dependence | undefined
  readonly portPreserved: boolean | undefined
  /** Whether our own reflexive address leads back to us; `undefined` without translation. */
  readonly hairpin: boolean | undefined
  /** Bytes of the largest IP packet that a server answered, up to an Ethernet's. */
  readonly mtu: number | undefined
}

export interface NatBehaviourOptions {
  readonly entropy: Entropy
  /** Numeric, all of the socket's family, best first. */
  readonly servers: ReadonlyArray<Address.Address>
  /** The port that the socket is bound to. */
  readonly localPort: number
  /** The addresses of this host. */
  readonly localHosts: ReadonlyArray<string>
  /** Whether datagrams leave with "don't fragment": else the MTU cannot be told. */
  readonly probes: boolean
}

/** Servers that are asked; more are left out. */
export const MAX_NAT_SERVERS = 6
/** Milliseconds that a server may be silent before the next is asked as well. */
const STAGGER_MS = 500
/** Bytes of IP packets that are tried: Ethernet, PPPoE, tunnels, WireGuard, mobile networks, IPv6's least. */
const MTUS = [1500, 1492, 1480, 1460, 1420, 1400, 1340, 1280] as const

type Purpose =
  | { readonly test: "server"; readonly index: number }
  | { readonly test: "filterAddress" | "filterPort" | "otherHost" | "otherPort" | "hairpin" }
  | { readonly test: "mtu"; readonly size: number }

type Phase = "finding" | "probing" | "mapping" | "done"

interface Asked {
  readonly server: Address.Address
  outcome: "waiting" | ServerReport["outcome"]
  reflexive: Address.Address | undefined
  other: Address.Address | undefined
  rttMs: number | undefined
}

/** "open" came through, "shut" did not, "unsupported" tells nothing. */
type Passage = "open" | "shut" | "unsupported"

export class NatBehaviour {
  readonly #options: NatBehaviourOptions
  readonly #transactions: StunTransactions<Purpose>
  readonly #asked: Array<Asked> = []
  readonly #waiting: Array<Address.Address>
  #phase: Phase = "finding"
  /** When the next server is asked while finding. */
  #nextAt: number
  /** The server whose second address serves the tests. */
  #tester: Asked | undefined
  #filterAddress: Passage | undefined
  #filterPort: Passage | undefined
  /** Our address as the tester's second host sees it, at the tester's first port and at its second one. */
  #fromOtherHost: Address.Address | undefined
  #fromOtherPort: Address.Address | undefined
  #hairpin: boolean | undefined
  #mtu: number | undefined

  constructor(now: number, options: NatBehaviourOptions) {
    this.#options = options
    this.#transactions = new StunTransactions(options.entropy)
    this.#waiting = options.servers
      .filter((one, i) => options.servers.findIndex((other) => Address.equals(one, other)) === i)
      .slice(0, MAX_NAT_SERVERS)
    this.#nextAt = now
    this.#advance(now)
  }

  get done(): boolean {
    return this.#phase === "done"
  }

  /** What is known by now. */
  get report(): NatReport {
    const reflexive = this.#reflexive
    const translated = reflexive && !this.#options.localHosts.includes(reflexive.host)
    return {
      servers: this.#asked.map((one) => ({ ...one, outcome: one.outcome === "waiting" ? "silent" : one.outcome })),
      reflexive,
      translated,
      mapping: this.#mapping(translated),
      filtering: this.#filtering(),
      portPreserved: reflexive && reflexive.port === this.#options.localPort,
      hairpin: translated === true ? this.#hairpin : undefined,
      mtu: this.#mtu
    }
  }

  /** "foreign" for what belongs to none of these tests. */
  handleDatagram(now: number, remote: Address.Address, bytes: Uint8Array): "foreign" | undefined {
    const message = Stun.decode(bytes)
    if (message === undefined || message.class === "indication") return "foreign"
    const answer = this.#transactions.take(now, remote, message)
    if (answer === undefined) return "foreign"
    // A request of ours that comes back has gone through the hairpin; where it came out, its source may be anything of ours.
    if ((message.class === "request") !== (answer.purpose.test === "hairpin")) this.#failed(answer.purpose)
    else this.#answered(answer, message)
    this.#advance(now)
    return undefined
  }

  handleTimeout(now: number): void {
    for (const purpose of this.#transactions.expire(now)) this.#failed(purpose)
    this.#advance(now)
  }

  pollTransmit(now: number): Parcel | undefined {
    return this.#transactions.pollTransmit(now)
  }

  /** When to call `handleTimeout`, ms; `Infinity` for never. */
  pollTimeout(): number {
    const at = this.#transactions.pollTimeout()
    return this.#phase === "finding" && this.#waiting.length > 0 ? Math.min(at, this.#nextAt) : at
  }

  // -- what comes back ------------------------------------------------------------------------------------------------

  #answered({ from, purpose, rttMs, to }: Answer<Purpose>, message: Stun.Message): void {
    const told = message.class === "success" ? Stun.mappedAddress(message) : undefined
    const reflexive = told !== undefined && isPlausible(told.host, to.host) ? told : undefined
    switch (purpose.test) {
      case "server": {
        const asked = this.#asked[purpose.index] as Asked
        asked.outcome = reflexive === undefined ? "refused" : "answered"
        asked.reflexive = reflexive
        asked.rttMs = rttMs
        const other = Stun.address(message, Stun.Attribute.otherAddress)
        if (other !== undefined && isSecond(other, asked.server)) asked.other = other
        return
      }
      case "filterAddress":
      case "filterPort": {
        const isElsewhere = !Address.equals(from, to) && message.class === "success"
        this.#passed(purpose.test, isElsewhere ? "open" : "unsupported")
        return
      }
      case "otherHost":
        this.#fromOtherHost = reflexive
        return
      case "otherPort":
        this.#fromOtherPort = reflexive
        return
      case "hairpin":
        this.#hairpin = true
        return
      case "mtu":
        // Any answer shows that the request has arrived.
        this.#mtu = Math.max(this.#mtu ?? 0, purpose.size)
    }
  }

  #failed(purpose: Purpose): void {
    switch (purpose.test) {
      case "server":
        ;(this.#asked[purpose.index] as Asked).outcome = "silent"
        return
      case "filterAddress":
      case "filterPort":
        this.#passed(purpose.test, "shut")
        return
      case "hairpin":
        this.#hairpin = false
    }
  }

  #passed(test: "filterAddress" | "filterPort", passage: Passage): void {
    if (test === "filterAddress") this.#filterAddress = passage
    else this.#filterPort = passage
  }

  // -- one phase after the other --------------------------------------------------------------------------------------

  #advance(now: number): void {
    if (this.#phase === "finding") this.#find(now)
    const isIdle = this.#transactions.purposes.every(({ test }) => test === "server" && this.#phase === "probing")
    if (this.#phase === "probing" && isIdle) this.#map(now)
    if (this.#phase === "mapping" && this.#transactions.purposes.length === 0) this.#phase = "done"
  }

  #find(now: number): void {
    const tester = this.#asked.find(({ other }) => other !== undefined)
    const open = this.#asked.filter(({ outcome }) => outcome === "waiting")
    if (tester === undefined) {
      if (this.#waiting.length > 0 && (now >= this.#nextAt || open.length === 0)) {
        this.#nextAt = now + STAGGER_MS
        this.#askServer(now, this.#waiting.shift() as Address.Address)
        return
      }
      if (this.#waiting.length > 0 || open.length > 0) return
    }
    this.#tester = tester
    this.#phase = "probing"
    this.#probe(now)
  }

  #probe(now: number): void {
    const main = this.#tester ?? this.#asked.find(({ outcome }) => outcome === "answered")
    if (main === undefined) return
    const { server, other, reflexive } = main
    if (other !== undefined) {
      // Where we have sent to the second host already, its filter may be open by our own doing.
      const isFresh = !this.#asked.some((asked) => asked.server.host === other.host)
      const change = (test: "filterAddress" | "filterPort", ip: boolean, from: Address.Address) =>
        this.#ask(now, { test }, server, {
          from: (remote) => Address.equals(remote, from),
          write: (w) => w.changeRequest({ ip, port: true })
        })
      if (isFresh) change("filterAddress", true, other)
      change("filterPort", false, { host: server.host, port: other.port })
    }
    const { localHosts } = this.#options
    if (reflexive !== undefined && !localHosts.includes(reflexive.host)) {
      // Under whichever of our addresses it comes back: each translator has its own idea.
      const from = ({ host }: Address.Address) => host === reflexive.host || localHosts.includes(host)
      this.#ask(now, { test: "hairpin" }, reflexive, { from })
    }
    if (this.#options.probes) for (const size of MTUS) this.#askPadded(now, size, server)
  }

  #map(now: number): void {
    this.#phase = "mapping"
    const { server, other } = this.#tester ?? {}
    if (server !== undefined && other !== undefined) {
      this.#ask(now, { test: "otherHost" }, { host: other.host, port: server.port })
      this.#ask(now, { test: "otherPort" }, other)
    }
    for (const one of this.#waiting.splice(0)) this.#askServer(now, one)
  }

  #askServer(now: number, server: Address.Address): void {
    const index = this.#asked.length
    this.#asked.push({ server, outcome: "waiting", reflexive: undefined, other: undefined, rttMs: undefined })
    this.#ask(now, { test: "server", index }, server)
  }

  #ask(
    now: number,
    purpose: Purpose,
    to: Address.Address,
    more: {
      readonly from?: (remote: Address.Address) => boolean
      readonly write?: (writer: Stun.StunWriter) => Stun.StunWriter
    } = {}
  ): void {
    this.#transactions.begin(now, { purpose, to, retransmission: BRIEF, ...more })
  }

  /** PADDING (RFC 5780 section 7.6) up to a packet's size; who does not know it refuses, which is an answer too. */
  #askPadded(now: number, size: number, to: Address.Address): void {
    const headers = to.host.includes(":") ? 48 : 28
    const padding = new Uint8Array((size - headers - Stun.HEADER_LENGTH - 4) & ~3)
    this.#ask(now, { test: "mtu", size }, to, { write: (w) => w.attribute(Stun.Attribute.padding, padding) })
  }

  // -- what it means --------------------------------------------------------------------------------------------------

  get #reflexive(): Address.Address | undefined {
    return (this.#tester ?? this.#asked.find(({ reflexive }) => reflexive !== undefined))?.reflexive
  }

  /** RFC 5780 section 4.3. */
  #mapping(translated: boolean | undefined): Mapping | undefined {
    if (translated === undefined) return undefined
    const first = this.#tester?.reflexive
    const second = this.#fromOtherHost
    const third = this.#fromOtherPort
    if (first !== undefined && (second !== undefined || third !== undefined)) {
      // The second alone decides, if it is there: the filter's tests came from where the third is asked, and a Linux
      // translator without a firewall takes a port that a stranger has written to for used, towards that stranger.
      const isSame = Address.equals((second ?? third) as Address.Address, first)
      if (isSame) return "endpoint-independent"
      if (second === undefined || third === undefined) return "dependent"
      return Address.equals(second, third) ? "address-dependent" : "address-and-port-dependent"
    }
    return this.#mappingByServers() ?? (translated ? undefined : "endpoint-independent")
  }

  #mappingByServers(): Mapping | undefined {
    const seen = this.#asked.filter(({ reflexive }) => reflexive !== undefined)
    let mapping: Mapping | undefined
    for (const [i, one] of seen.entries()) {
      for (const another of seen.slice(i + 1)) {
        const isSame = Address.equals(one.reflexive as Address.Address, another.reflexive as Address.Address)
        const isHost = one.server.host === another.server.host
        if (!isSame && isHost) return "address-and-port-dependent"
        if (!isSame) mapping = "dependent"
        else if (!isHost) mapping ??= "endpoint-independent"
      }
    }
    return mapping
  }

  /** RFC 5780 section 4.4. Silence means a filter only where the second address is known to answer. */
  #filtering(): Dependence | undefined {
    if (this.#filterAddress === "open") return "endpoint-independent"
    const isTrue = this.#fromOtherHost !== undefined || this.#fromOtherPort !== undefined
    if (this.#filterPort === undefined || this.#filterPort === "unsupported" || !isTrue) return undefined
    if (this.#filterPort === "shut") return "address-and-port-dependent"
    return this.#filterAddress === "shut" ? "address-dependent" : undefined
  }
}

/** Whether OTHER-ADDRESS is of use: another host that can be one, and another port (RFC 5780 section 7.4). */
const isSecond = (other: Address.Address, server: Address.Address): boolean =>
  other.host !== server.host &&
  other.port !== server.port &&
  other.host.includes(":") === server.host.includes(":") &&
  isPlausible(other.host, server.host)
