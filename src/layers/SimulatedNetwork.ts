/**
 * A network in memory, for development: hosts with links, behind translators or not, under Effect's Clock. Everything
 * random comes from one seed and everything happens in one order (time, then sequence), so a world replays exactly:
 * compare two runs by `digest`.
 *
 * A datagram goes from its host over the host's up link to the core, there through translators and routes, and over the
 * down link of the destination's host into a socket. A link therefore counts twice between two hosts, once for each.
 * IPv6 addresses are public: they lie in the internet also when the host has a translator for IPv4.
 *
 * The machines inside (links, translators, routes) run in plain calls. The rim is one sleeper, armed for the next event,
 * and the sockets' receive queues. Under TestClock an `adjust` runs all that falls into it.
 */
import { createHash } from "node:crypto"
import { isIP } from "node:net"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { type Address, format, isLoopback, isPort } from "../domain/protocol/Address.ts"
import type { UdpSocket } from "../services/UdpSocket.ts"
import { EventHeap } from "./EventHeap.ts"
import { SeededRandom } from "./SeededRandom.ts"
import { type HostLink, isV6, type Send, SimulatedHost, type SimulatedSocket } from "./SimulatedHost.ts"
import type { SimulatedLink } from "./SimulatedLink.ts"
import { kinds, type NatBehaviour, SimulatedNat } from "./SimulatedNat.ts"
import { NatBox, occupy, type Realm, route } from "./SimulatedRoutes.ts"

export interface NetworkOptions {
  /** Any safe integer. */
  readonly seed: number
  /** Milliseconds: the clock wakes the network on multiples of this only. Default 1; 0 for exact arrival times. */
  readonly tickMs?: number
  /** Keeps every datagram in `log`. */
  readonly capture?: boolean
}

export interface HostOptions {
  /** Numeric, one of a family at most; an IPv4 address is an inside one when there is a `nat`. */
  readonly address: string | ReadonlyArray<string>
  readonly link?: HostLink
  readonly nat?: Nat
  /** Whether its sockets answer for "don't fragment" (`BoundSocket.probes`); too long packets vanish either way. */
  readonly probes?: boolean
}

export interface NatOptions extends Partial<NatBehaviour> {
  /** The outside IPv4 address. */
  readonly address: string
  /** The kind that the other options vary; a port-restricted cone by default. */
  readonly kind?: keyof typeof kinds
  /** A translator further out (carrier-grade NAT). */
  readonly behind?: Nat
}

/** A datagram at one point: `sent` by a host, `delivered` to a socket, or `dropped` and why. */
export interface WireEvent {
  readonly at: number
  readonly event: "sent" | "delivered" | "dropped"
  /** Before translation where sent, after it where delivered. */
  readonly from: Address
  readonly to: Address
  readonly bytes: Uint8Array
  /** Empty unless dropped. */
  readonly why: string
}

export interface Host {
  readonly addresses: ReadonlyArray<string>
  /** UDP sockets on this host. */
  readonly layer: Layer.Layer<UdpSocket>
}

export interface Nat {
  /** The outside address at present. */
  readonly address: string
}

export interface Network {
  readonly seed: number
  /** Adds a host; an address that is taken is a bug and throws. */
  readonly host: (options: HostOptions) => Host
  /** Adds a translator; its inside is a network of its own, so inside addresses may recur elsewhere. */
  readonly nat: (options: NatOptions) => Nat
  /** Randomness of a named part, drawn apart from the network's own: for seeded entropy, tick jitter, ... */
  readonly random: (label: string) => SeededRandom
  readonly setLink: (host: Host, link: HostLink) => Effect.Effect<void>
  /** Unplugs a host: nothing goes in or out, what is on the way in is lost. Its sockets stay. */
  readonly cut: (host: Host) => Effect.Effect<void>
  readonly restore: (host: Host) => Effect.Effect<void>
  /** Moves a host to other addresses and another translator (or none): sockets bound to all addresses live on. */
  readonly move: (host: Host, options: Pick<HostOptions, "address" | "nat">) => Effect.Effect<void>
  /** A translator forgets its mappings, and gets another outside address if one is given. */
  readonly rebind: (nat: Nat, address?: string) => Effect.Effect<void>
  /** What happened, in order, when capturing; else empty. */
  readonly log: ReadonlyArray<WireEvent>
  /** SHA-256 over every event so far: time, kind, addresses, bytes. Hexadecimal. */
  readonly digest: () => string
}

/** Bytes of IP and UDP headers. */
const HEADERS_V4 = 28
const HEADERS_V6 = 48
/** Bytes of the largest UDP payload over IPv4. */
const MAX_PAYLOAD = 65_507
/** Milliseconds: rounding errors of arrival times that do not cost a tick. */
const TICK_SLACK_MS = 1e-6

/** A datagram that reaches the core, in a realm, or the stack of its destination. */
interface Packet {
  readonly at: number
  readonly place: Realm | SimulatedHost
  readonly from: Address
  readonly to: Address
  readonly bytes: Uint8Array
}

class Core {
  readonly random: SeededRandom
  readonly internet: Realm = { nodes: new Map(), gateway: undefined }
  /** The insides of translators that hosts are in. */
  readonly homes = new Map<SimulatedHost, Realm>()
  readonly log: Array<WireEvent> = []
  readonly #capture: boolean
  readonly #tickMs: number
  readonly #clock: Clock.Clock
  readonly #hash = createHash("sha256")
  readonly #events = new EventHeap<Packet>()
  readonly #run: (effect: Effect.Effect<void>) => unknown
  readonly #drain: Effect.Effect<void>
  /** When the earliest sleeper wakes. */
  #armedFor = Number.POSITIVE_INFINITY
  #draining = false

  constructor(options: NetworkOptions, clock: Clock.Clock, run: (effect: Effect.Effect<void>) => unknown) {
    this.random = new SeededRandom(options.seed)
    this.#tickMs = options.tickMs ?? 1
    this.#capture = options.capture ?? false
    this.#clock = clock
    this.#run = run
    // A sleeper that another has overtaken would only arm one more, and so on for ever.
    this.#drain = Effect.sync(() => {
      if (this.#armedFor <= this.#clock.currentTimeMillisUnsafe()) this.#drainUnsafe()
    })
  }

  digest(): string {
    return this.#hash.copy().digest("hex")
  }

  /** The realm that an address of a host lies in. */
  realmOf(host: SimulatedHost, address: string): Realm {
    return (isV6(address) ? undefined : this.homes.get(host)) ?? this.internet
  }

  readonly send: Send = (host, socket, to, bytes) => {
    if (isIP(to.host) === 0 || !isPort(to.port)) return
    const source = host.sourceFor(socket, to.host)
    if (source === undefined) return
    const now = this.#clock.currentTimeMillisUnsafe()
    const from = { host: source, port: socket.address.port }
    this.#trace(now, "sent", from, to, bytes)
    const local = isLoopback(to.host) || host.addresses.includes(to.host)
    if (bytes.length > MAX_PAYLOAD) this.#trace(now, "dropped", from, to, bytes, "too long")
    else if (local) this.#events.push({ at: now, place: host, from, to, bytes })
    else if (!host.connected) this.#trace(now, "dropped", from, to, bytes, "cut")
    else this.#carry({ at: now, place: this.realmOf(host, source), from, to, bytes }, host.up)
    this.#arm()
  }

  /** Puts a datagram on a link at its time, bound for its place. */
  #carry({ at, place, from, to, bytes }: Packet, link: SimulatedLink): void {
    const carried = link.transmit(at, bytes, bytes.length + (isV6(to.host) ? HEADERS_V6 : HEADERS_V4))
    if (typeof carried === "string") this.#trace(at, "dropped", from, to, bytes, carried)
    else for (const arrival of carried) this.#events.push({ at: arrival.at, place, from, to, bytes: arrival.bytes })
  }

  /** Sees to it that somebody wakes for the first event. A sleeper armed for later then finds less to do, or nothing. */
  #arm(): void {
    if (this.#draining || this.#events.size === 0) return
    const now = this.#clock.currentTimeMillisUnsafe()
    const at = Math.max(now, this.#tick(this.#events.nextAt))
    if (at >= this.#armedFor) return
    this.#armedFor = at
    const pause = at > now ? Effect.sleep(Duration.millis(at - now)) : Effect.yieldNow
    this.#run(Effect.andThen(pause, this.#drain))
  }

  #tick(at: number): number {
    return this.#tickMs === 0 ? at : Math.ceil((at - TICK_SLACK_MS) / this.#tickMs) * this.#tickMs
  }

  /** Moves everything that is due, then wakes the readers in the order in which their first datagrams came. */
  #drainUnsafe(): void {
    const now = this.#clock.currentTimeMillisUnsafe()
    const due = now + TICK_SLACK_MS
    const reached = new Set<SimulatedSocket>()
    this.#draining = true
    this.#armedFor = Number.POSITIVE_INFINITY
    for (let packet = this.#events.popDue(due); packet !== undefined; packet = this.#events.popDue(due)) {
      if (packet.place instanceof SimulatedHost) this.#deliver(now, packet, packet.place, reached)
      else this.#route(packet, packet.place)
    }
    for (const socket of reached) socket.queue.wakeUnsafe()
    this.#draining = false
    this.#arm()
  }

  #route({ at, from: source, to: destination, bytes }: Packet, realm: Realm): void {
    const { from, to, end } = route(at, realm, source, destination)
    if (typeof end === "string") this.#trace(at, "dropped", from, to, bytes, end)
    else if (!end.connected) this.#trace(at, "dropped", from, to, bytes, "cut")
    else this.#carry({ at, place: end, from, to, bytes }, end.down)
  }

  #deliver(now: number, { from, to, bytes }: Packet, host: SimulatedHost, reached: Set<SimulatedSocket>): void {
    const reachable = isLoopback(to.host) || (host.connected && host.addresses.includes(to.host))
    const socket = reachable ? host.socketFor(to) : undefined
    // A copy: the buffer is the receiver's, and a duplicate has one of its own.
    const remote = socket?.via === undefined ? from : { ...from, via: socket.via }
    if (socket?.queue.pushUnsafe({ bytes: new Uint8Array(bytes), remote })) {
      reached.add(socket)
      this.#trace(now, "delivered", from, to, bytes)
    } else {
      const why = socket !== undefined ? "receive queue full" : reachable ? "no socket" : "cut"
      this.#trace(now, "dropped", from, to, bytes, why)
    }
  }

  #trace(at: number, event: WireEvent["event"], from: Address, to: Address, bytes: Uint8Array, why = ""): void {
    this.#hash.update(`${at} ${event} ${format(from)} ${format(to)} ${bytes.length} ${why}\n`).update(bytes)
    if (this.#capture) this.log.push({ at, event, from, to, bytes: new Uint8Array(bytes), why })
  }
}

/** The machine behind what a caller hands back; anything else is a bug. */
const own = <A>(thing: unknown, made: new (...args: never) => A): A => {
  if (thing instanceof made) return thing
  throw new Error("SimulatedNetwork: this was not made by a simulated network")
}

const listed = (address: string | ReadonlyArray<string>): ReadonlyArray<string> =>
  typeof address === "string" ? [address] : address

const networkOf = (seed: number, core: Core): Network => {
  let made = 0
  const plug = (host: SimulatedHost, { address, nat }: Pick<HostOptions, "address" | "nat">): void => {
    host.addresses = listed(address)
    if (nat === undefined) core.homes.delete(host)
    else core.homes.set(host, own(nat, NatBox).inside)
    for (const one of host.addresses) occupy(core.realmOf(host, one), one, host)
  }
  const setConnected = (host: Host, connected: boolean) =>
    Effect.sync(() => {
      own(host, SimulatedHost).connected = connected
    })
  return {
    seed,
    log: core.log,
    digest: () => core.digest(),
    random: (label) => core.random.fork(`part ${label}`),
    host: (options) => {
      const host = new SimulatedHost(options.link ?? {}, core.random.fork(`host ${made++}`), core.send, options.probes)
      plug(host, options)
      return host
    },
    nat: ({ address, kind = "portRestricted", behind, ...behaviour }) => {
      const outside = behind === undefined ? core.internet : own(behind, NatBox).inside
      const random = core.random.fork(`nat ${made++}`)
      const box = new NatBox(new SimulatedNat(address, { ...kinds[kind], ...behaviour }, random), outside)
      occupy(outside, address, box)
      return box
    },
    setLink: (host, link) => Effect.sync(() => own(host, SimulatedHost).setLink(link)),
    cut: (host) => setConnected(host, false),
    restore: (host) => setConnected(host, true),
    move: (host, options) =>
      Effect.sync(() => {
        const moved = own(host, SimulatedHost)
        for (const address of moved.addresses) core.realmOf(moved, address).nodes.delete(address)
        plug(moved, options)
      }),
    rebind: (nat, address) =>
      Effect.sync(() => {
        const box = own(nat, NatBox)
        if (address !== undefined && address !== box.address) {
          occupy(box.outside, address, box)
          box.outside.nodes.delete(box.address)
        }
        box.machine.rebind(address)
      })
  }
}

/** A network of its own; datagrams move until the scope closes. */
const make: (options: NetworkOptions) => Effect.Effect<Network, never, Scope.Scope> = Effect.fnUntraced(
  function* (options) {
    const clock = yield* Clock.clockWith(Effect.succeed)
    const run = yield* FiberSet.makeRuntime<never, void, never>()
    return networkOf(options.seed, new Core(options, clock, run))
  }
)

/** Runs a test in a network of its own. A failure's cause gets one more line, the seed that replays it. */
export const world = <A, E, R>(
  options: NetworkOptions,
  run: (network: Network) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope>> =>
  make(options).pipe(
    Effect.flatMap(run),
    Effect.scoped,
    Effect.catchCause((cause) => {
      const replay = new Error(`simulated world failed; replay with seed ${options.seed}`)
      return Effect.failCause(Cause.combine(cause, Cause.die(replay)))
    })
  )
