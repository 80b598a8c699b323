/**
 * Two endpoints, a client and a server, on a link in virtual time: no sockets, no timers, no Effect. Every source of chance
 * comes from one seed, so a run can be repeated exactly. After quinn-proto's test Pair.
 *
 * `step` throws when virtual time stands still: a deadline that has passed and does not move is a busy loop on a host.
 */
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { SeenNonce } from "../../src/domain/protocol/Admissions.ts"
import { MAX_DATAGRAM_LENGTH } from "../../src/domain/protocol/Constants.ts"
import type { Admission, Invitation } from "../../src/domain/protocol/Credential.ts"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import type { DialOptions } from "../../src/domain/protocol/Dial.ts"
import { Endpoint } from "../../src/domain/protocol/Endpoint.ts"
import type { EndpointEvent, EndpointOptions, Handle } from "../../src/domain/protocol/EndpointTypes.ts"
import { HintCounter } from "../../src/domain/protocol/HintCounter.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import type { Entropy, KeyPair, Primitives } from "../../src/domain/protocol/Primitives.ts"
import type { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent, Transmit } from "../../src/domain/protocol/SessionTypes.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"

export type Side = "client" | "server"

export const LIMITS: Limits = {
  maxData: 1_048_576,
  maxStreamData: 262_144,
  maxStreams: 16,
  idleTimeoutMs: 60_000,
  maxDatagram: 65_507
}

export const CLIENT: Address = { host: "192.0.2.1", port: 40_000 }
export const SERVER: Address = { host: "198.51.100.1", port: 50_000 }
/** The time of day at virtual time 0: the start of a hint slot. */
export const WALL = 1_800_000_000_000

/** One copy of a datagram: its delay in ms, and its bytes where they are not those that were sent. */
export type Copy = number | { readonly delay: number; readonly bytes: Uint8Array }

/** What the link does to the datagram of this index, counted over both directions: its copies, none for a loss. */
export type Fate = (from: Side, bytes: Uint8Array, index: number) => ReadonlyArray<Copy>

export const steady =
  (delay: number): Fate =>
  () => [delay]

/** Numbers in [0, 1) from a seed. */
export const chance = (seed: string): (() => number) => {
  const entropy = entropySeeded(seed)
  return () => {
    const [a = 0, b = 0, c = 0, d = 0] = entropy(4)
    return (a * 2 ** 24 + b * 2 ** 16 + c * 2 ** 8 + d) / 2 ** 32
  }
}

export interface Weather {
  /** Milliseconds: each datagram takes this and up to `jitter` more, so jitter reorders. */
  readonly delay?: number
  readonly jitter?: number
  /** Shares of the datagrams. */
  readonly loss?: number
  readonly duplicate?: number
  readonly corrupt?: number
}

export const weather = (seed: string, options: Weather): Fate => {
  const draw = chance(seed)
  const { delay = 10, jitter = 0, loss = 0, duplicate = 0, corrupt = 0 } = options
  return (_from, bytes) => {
    if (draw() < loss) return []
    const copies: Array<Copy> = [delay + jitter * draw()]
    if (draw() < duplicate) copies.push(delay + 10 * jitter * draw())
    if (draw() < corrupt) {
      const wrong = Uint8Array.from(bytes)
      const at = Math.floor(draw() * wrong.length)
      wrong[at] = (wrong[at] as number) ^ (1 << Math.floor(draw() * 8))
      copies[0] = { delay, bytes: wrong }
    }
    return copies
  }
}

export interface PairOptions {
  readonly seed?: string
  readonly fate?: Fate
  readonly limits?: Limits
  readonly clientLimits?: Limits
  readonly enrols?: boolean
  readonly maxSessions?: number
  /** Added to the client's clock, ms. */
  readonly skewMs?: number
  /** Added to both clocks, ms: where in a hint slot the test begins. */
  readonly phaseMs?: number
  readonly keepAliveMs?: number
  readonly deadAfterMs?: number
  /** Datagrams leave in bursts and arrive in batches, as they do at a host that can do that. */
  readonly bursts?: boolean
  /** How dear a way is, to both ends: 0 direct, 1 and more relayed. */
  readonly rank?: (remote: Address) => number
  /** Bytes of the largest datagram that both ends try. */
  readonly datagramCeiling?: number
  /** Milliseconds between key rotations. */
  readonly rekeyIntervalMs?: number
  /** Of both endpoints. */
  readonly primitives?: Primitives
  /** What the server expects of the client's static key, where not the truth. */
  readonly expectedKey?: Uint8Array
}

interface Flight {
  readonly at: number
  readonly order: number
  readonly to: Side
  readonly remote: Address
  readonly bytes: Uint8Array
}

export interface OnWire {
  readonly from: Side
  readonly at: number
  readonly bytes: Uint8Array
  readonly remote: Address
}

export interface Arrival {
  readonly remote: Address
  readonly delay?: number
}

/** Steps in a row in which nothing arrived, nothing left and no time passed. */
const MAX_IDLE_STEPS = 3

export class Pair {
  now = 0
  readonly client: Endpoint
  server: Endpoint
  readonly clientKeys: KeyPair
  readonly serverKeys: KeyPair
  readonly invitation: Invitation
  readonly admission: Admission
  readonly hints = new HintCounter(undefined)
  readonly events: { readonly client: Array<EndpointEvent>; readonly server: Array<EndpointEvent> } = {
    client: [],
    server: []
  }
  readonly wire: Array<OnWire> = []
  /** Datagrams of each burst. */
  readonly bursts: Array<number> = []
  /** What the server's owner put on record before it admitted anybody. */
  readonly seen: Array<SeenNonce> = []
  /** Where the client's datagrams seem to come from; what is sent elsewhere gets lost. */
  clientAddress = CLIENT
  fate: Fate
  /**
   * The network in between, where there is more than one way: what a datagram to an address arrives as, and how much later
   * than `fate` says; `undefined` for a datagram that gets lost. Then `clientAddress` means nothing.
   */
  network: ((from: Side, to: Address) => Arrival | undefined) | undefined
  /** Whether gates are opened at once. */
  auto = true
  /** Called for every event of a session as it is drained; commands given in it are carried out at once. */
  onSession: ((side: Side, session: Session, event: SessionEvent) => void) | undefined
  readonly #flights: Array<Flight> = []
  #order = 0
  #sent = 0
  #idleSteps = 0
  #servers = 1
  readonly #arena: Uint8Array | undefined
  readonly #skewMs: number
  readonly #wall: number
  readonly #serverOptions: EndpointOptions
  readonly #clientLimits: Limits

  constructor(options: PairOptions = {}) {
    const seed = options.seed ?? "pair"
    const entropy = entropySeeded(seed)
    this.fate = options.fate ?? steady(10)
    this.#arena = options.bursts === true ? new Uint8Array(2 * 65_536) : undefined
    this.#skewMs = options.skewMs ?? 0
    this.#wall = WALL + (options.phaseMs ?? 0)
    this.clientKeys = primitives.keyPair(entropy(32))
    this.serverKeys = primitives.keyPair(entropy(32))
    const id = entropy(16)
    const psk = entropy(32)
    const enrols = options.enrols === true
    const slot = enrols ? this.#wall : undefined
    this.invitation = { id, psk, slot, serverKey: this.serverKeys.publicKey, endpoints: [SERVER] }
    const staticKey = options.expectedKey ?? (enrols ? undefined : this.clientKeys.publicKey)
    const validUntil = enrols ? this.#wall + 660_000 : Number.POSITIVE_INFINITY
    this.admission = { id, psk, slot, staticKey, validUntil }
    const common = {
      primitives: options.primitives ?? primitives,
      congestion: NewReno.make,
      keepAliveMs: options.keepAliveMs ?? 15_000,
      deadAfterMs: options.deadAfterMs ?? 15_000,
      maxSessions: options.maxSessions ?? 100,
      rank: options.rank,
      datagramCeiling: () => options.datagramCeiling ?? MAX_DATAGRAM_LENGTH,
      rekeyIntervalMs: options.rekeyIntervalMs
    }
    const limits = options.limits ?? LIMITS
    this.#clientLimits = options.clientLimits ?? limits
    this.client = new Endpoint(0, this.#wall + this.#skewMs, {
      ...common,
      limits: this.#clientLimits,
      entropy: entropySeeded(`${seed}:client`),
      identity: this.clientKeys
    })
    this.#serverOptions = {
      ...common,
      limits,
      entropy: entropySeeded(`${seed}:server`),
      identity: this.serverKeys
    }
    this.server = new Endpoint(0, this.#wall, this.#serverOptions)
    this.server.setAdmissions(0, [this.admission])
  }

  /** A new server process with the same files, or without those that remember nonces. */
  restartServer(seen: ReadonlyArray<SeenNonce>): void {
    this.server = new Endpoint(this.now, this.#wall + this.now, {
      ...this.#serverOptions,
      entropy: entropySeeded(`server ${this.#servers++}`)
    })
    this.server.setAdmissions(this.now, [this.admission])
    this.server.restoreNonces(seen)
  }

  dial(options: Partial<DialOptions> = {}): Handle {
    const handle = this.client.dial(this.now, {
      invitations: [this.invitation],
      hints: [this.hints],
      identity: this.clientKeys,
      deviceName: "test",
      features: 0,
      limits: this.#clientLimits,
      timeoutMs: 60_000,
      skewMs: 0,
      ...options
    })
    this.drain()
    return handle
  }

  /** Sends what both want to send and opens gates, until both are quiet at this moment. */
  drain(): void {
    for (let busy = true; busy; ) {
      busy = false
      for (const side of ["client", "server"] as const) {
        const endpoint = this[side]
        this.#transmit(side, endpoint)
        for (let e = endpoint.pollEvent(); e !== undefined; e = endpoint.pollEvent()) {
          this.events[side].push(e)
          if (this.#react(side, endpoint, e)) busy = true
        }
      }
    }
  }

  /** Advances to the next thing that happens; false when nothing ever will, or only after `until`. */
  step(until = Number.POSITIVE_INFINITY): boolean {
    this.#flights.sort((a, b) => a.at - b.at || a.order - b.order)
    const flight = this.#flights[0]
    const at = Math.min(flight?.at ?? Number.POSITIVE_INFINITY, this.client.pollTimeout(), this.server.pollTimeout())
    if (at === Number.POSITIVE_INFINITY || at > until) {
      if (until !== Number.POSITIVE_INFINITY) this.now = Math.max(this.now, until)
      return false
    }
    const before = this.now
    const sent = this.#sent
    let arrived = 0
    this.now = Math.max(this.now, at)
    this.client.setWall(this.now, this.#wall + this.#skewMs + this.now)
    this.server.setWall(this.now, this.#wall + this.now)
    const batches: Record<Side, Array<Flight>> = { client: [], server: [] }
    while ((this.#flights[0]?.at ?? Number.POSITIVE_INFINITY) <= this.now) {
      const flight = this.#flights.shift() as Flight
      if (this.#arena === undefined) this[flight.to].handleDatagram(this.now, flight.remote, flight.bytes)
      else batches[flight.to].push(flight)
      arrived++
    }
    for (const to of ["client", "server"] as const) this[to].handleDatagrams(this.now, batches[to])
    this.client.handleTimeout(this.now)
    this.server.handleTimeout(this.now)
    this.drain()
    this.#idleSteps = this.now === before && arrived === 0 && this.#sent === sent ? this.#idleSteps + 1 : 0
    if (this.#idleSteps > MAX_IDLE_STEPS) throw new Error(`Pair: time stands still at ${this.now}`)
    return true
  }

  /** Runs until `done`, at most `forMs` of virtual time; answers whether `done` came. */
  run(done: () => boolean, forMs = 60_000): boolean {
    const end = this.now + forMs
    this.drain()
    while (!done()) if (!this.step(end)) return done()
    return true
  }

  /** Runs for a span of virtual time. */
  pass(ms: number): void {
    this.run(() => false, ms)
  }

  all<T extends EndpointEvent["type"]>(side: Side, type: T): ReadonlyArray<Extract<EndpointEvent, { type: T }>> {
    return this.events[side].filter((e): e is Extract<EndpointEvent, { type: T }> => e.type === type)
  }

  event<T extends EndpointEvent["type"]>(side: Side, type: T): Extract<EndpointEvent, { type: T }> | undefined {
    return this.all(side, type)[0]
  }

  /** The events of one session, its `Closed` aside. */
  sessionEvents(side: Side, handle: Handle): ReadonlyArray<SessionEvent> {
    return this.all(side, "Session").flatMap((e) => (e.session === handle ? [e.event] : []))
  }

  /** Dials and waits for both sides to be connected. */
  connect(options: Partial<DialOptions> = {}): { readonly client: Handle; readonly server: Handle } {
    const known = { client: this.all("client", "Connected").length, server: this.all("server", "Connected").length }
    this.dial(options)
    const find = (side: Side) => this.all(side, "Connected")[known[side]]
    this.run(() => find("client") !== undefined && find("server") !== undefined)
    const client = find("client")
    const server = find("server")
    if (client === undefined || server === undefined) throw new Error("Pair: not connected")
    return { client: client.session, server: server.session }
  }

  session(side: Side, handle: Handle): Session {
    const session = this[side].session(handle)
    if (session === undefined) throw new Error(`Pair: the ${side} has no session ${handle}`)
    return session
  }

  /** A command on a session, and what follows from it. */
  command<A>(side: Side, handle: Handle, use: (session: Session) => A): A {
    const out = use(this.session(side, handle))
    this[side].touch(handle)
    this.drain()
    return out
  }

  /** Puts a datagram on the wire by hand. */
  inject(to: Side, remote: Address, bytes: Uint8Array): void {
    this[to].handleDatagram(this.now, remote, Uint8Array.from(bytes))
    this.drain()
  }

  /** Datagrams sent by `side` since the wire was `from` long. */
  sentBy(side: Side, from = 0): ReadonlyArray<OnWire> {
    return this.wire.slice(from).filter((each) => each.from === side)
  }

  #transmit(side: Side, endpoint: Endpoint): void {
    const arena = this.#arena
    if (arena === undefined) {
      for (let t = endpoint.pollTransmit(this.now); t !== undefined; t = endpoint.pollTransmit(this.now)) {
        this.#send(side, t)
      }
      return
    }
    const start = 16
    for (;;) {
      const length = endpoint.pollBurst(this.now, arena, start)
      if (length === 0) return
      const { remote, segment } = endpoint.burst
      this.bursts.push(length / segment)
      for (let at = 0; at < length; at += segment) {
        this.#send(side, { bytes: arena.slice(start + at, start + Math.min(at + segment, length)), remote })
      }
      arena.fill(0xaa)
    }
  }

  #react(side: Side, endpoint: Endpoint, event: EndpointEvent): boolean {
    if (event.type === "Session") {
      const session = endpoint.session(event.session)
      if (this.onSession === undefined || session === undefined) return false
      this.onSession(side, session, event.event)
      endpoint.touch(event.session)
      return true
    }
    return this.auto && this.#open(endpoint, event)
  }

  #open(endpoint: Endpoint, event: EndpointEvent): boolean {
    if (event.type === "Initiation") {
      this.seen.push(event.seen)
      const enrolment =
        event.admission.slot === undefined ? undefined : { portSeed: new Uint8Array(32).fill(7), llmKey: undefined }
      endpoint.admit(this.now, event.initiation, enrolment)
    } else if (event.type === "Enrolling") endpoint.establish(this.now, event.session)
    else if (event.type === "Answered") endpoint.confirm(this.now, event.session)
    else return false
    return true
  }

  readonly #plainNetwork = (from: Side, to: Address): Arrival | undefined => {
    const [source, expected] = from === "client" ? [this.clientAddress, SERVER] : [SERVER, this.clientAddress]
    return to.host === expected.host && to.port === expected.port ? { remote: source } : undefined
  }

  #send(from: Side, transmit: Transmit): void {
    this.wire.push({ from, at: this.now, bytes: transmit.bytes, remote: transmit.remote })
    const to = from === "client" ? "server" : "client"
    const fates = this.fate(from, transmit.bytes, this.#sent++)
    const arrival = (this.network ?? this.#plainNetwork)(from, transmit.remote)
    if (arrival === undefined) return
    const { remote, delay: later = 0 } = arrival
    for (const copy of fates) {
      const delay = later + (typeof copy === "number" ? copy : copy.delay)
      const bytes = typeof copy === "number" ? transmit.bytes : copy.bytes
      // A buffer of its own, as from a socket.
      this.#flights.push({ at: this.now + delay, order: this.#order++, to, remote, bytes: Uint8Array.from(bytes) })
    }
  }
}

/** Reads every readable stream at once, gathers what came, and keeps the order of ends. */
export class Sink {
  readonly #parts = new Map<string, Array<Uint8Array>>()
  readonly ends: Array<{ readonly side: Side; readonly id: number; readonly end: "finished" | { reset: number } }> = []

  readonly on = (side: Side, session: Session, event: SessionEvent): void => {
    if (event.type === "StreamReadable") this.take(side, session, event.id)
  }

  take(side: Side, session: Session, id: number): void {
    for (;;) {
      const got = session.read(id)
      if (got instanceof Uint8Array) this.#of(side, id).push(got)
      else {
        if (got !== "blocked") this.ends.push({ side, id, end: got })
        return
      }
    }
  }

  bytes(side: Side, id: number): Uint8Array {
    return concat(...this.#of(side, id))
  }

  ended(side: Side, id: number): boolean {
    return this.ends.some((end) => end.side === side && end.id === id && end.end === "finished")
  }

  #of(side: Side, id: number): Array<Uint8Array> {
    const key = `${side} ${id}`
    const parts = this.#parts.get(key) ?? []
    this.#parts.set(key, parts)
    return parts
  }
}

/** Entropy of tests: the same bytes for the same seed. */
export const seeded = (seed: string): Entropy => entropySeeded(seed)
