/** The Transport service over any UdpSocket: sockets and keys come from services, the protocol from its core. */
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { type Address, isLoopback } from "../domain/protocol/Address.ts"
import * as Bbr from "../domain/protocol/Bbr.ts"
import { CloseCode } from "../domain/protocol/CloseCode.ts"
import type * as Congestion from "../domain/protocol/Congestion.ts"
import { MAX_DATAGRAM_LENGTH, WINDOW_GROWTH } from "../domain/protocol/Constants.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import { Endpoint } from "../domain/protocol/Endpoint.ts"
import { deviceName } from "../domain/protocol/HandshakeMessage.ts"
import { HintCounter } from "../domain/protocol/HintCounter.ts"
import type { Limits } from "../domain/protocol/Limits.ts"
import type { KeyPair } from "../domain/protocol/Primitives.ts"
import { Crypto } from "../services/Crypto.ts"
import {
  type Connection,
  type ConnectOptions,
  type Dialling,
  type Listener,
  type ListenOptions,
  type OpenPort,
  type Patience,
  Transport,
  TransportError
} from "../services/Transport.ts"
import { type BindOptions, UdpSocket, type UdpSocketError } from "../services/UdpSocket.ts"
import { Mailbox } from "./Mailbox.ts"
import { describeClose, type Gate, TransportDriver } from "./TransportDriver.ts"
import { Ways } from "./Ways.ts"

/** Bytes of the largest datagram, in whole blocks: over loopback, and over Ethernet without its IP and UDP headers. */
export const LOOPBACK_DATAGRAM = 65_504
export const ETHERNET_DATAGRAM_V4 = 1472
export const ETHERNET_DATAGRAM_V6 = 1440

/** Bytes: receive windows that grow with the path, and the one of a session whose streams have a fixed window. */
const FIRST_STREAM_WINDOW = 8 * 1024 * 1024
const FIRST_SESSION_WINDOW = 2 * FIRST_STREAM_WINDOW
const FIXED_SESSION_WINDOW = 8 * 1024 * 1024

/** Sessions of a client's endpoint: the one it dialled, and those of attempts that were answered twice. */
const MAX_DIALLED_SESSIONS = 4

/** Milliseconds from one time that carriers are asked to look after themselves to the next. */
const REFRESH_GAP_MS = 2000

/** A relay in use, and where it was last known to lead. */
interface Riding {
  readonly invitation: number
  readonly name: string
  via: number
  peers: () => ReadonlyArray<Address>
  observed: () => Address | undefined
  known: ReadonlyArray<Address>
}

/** What one session may hold in memory: bytes unread, streams, an idle time. */
const limitsOf = (patience: Patience, streamWindow: number | undefined, maxDatagram: number): Limits => ({
  maxData: streamWindow === undefined ? FIRST_SESSION_WINDOW : FIXED_SESSION_WINDOW,
  maxStreamData: streamWindow ?? FIRST_STREAM_WINDOW,
  maxStreams: 64,
  idleTimeoutMs: patience.idleTimeoutMs,
  maxDatagram
})

/**
 * What is worth trying towards an address. Beyond this host only a socket that forbids fragments learns the truth from a
 * probe; within it nothing is ever fragmented.
 */
const datagramCeiling = (probes: boolean, { host }: Address): number => {
  if (isLoopback(host)) return LOOPBACK_DATAGRAM
  if (!probes) return MAX_DATAGRAM_LENGTH
  return host.includes(":") ? ETHERNET_DATAGRAM_V6 : ETHERNET_DATAGRAM_V4
}

/** Nothing is gained by asking a relay for more than every path takes. */
const ceilingOf = (ways: Ways, remote: Address): number =>
  ways.isRelay(remote.via) ? MAX_DATAGRAM_LENGTH : datagramCeiling(ways.probes(remote), remote)

const bindError = (cause: UdpSocketError): TransportError =>
  new TransportError({ reason: "Bind", message: cause.message, cause })

/** What benchmarks and tests compare; users have no need of it. */
export interface Tuning {
  /** Bytes of the largest datagram that this end sends and reads; by default what the path takes. */
  readonly maxDatagram?: number
  /** By default BBR. */
  readonly congestion?: Congestion.Factory
}

const make = Effect.fnUntraced(function* ({ maxDatagram = LOOPBACK_DATAGRAM, congestion = Bbr.make }: Tuning) {
  const crypto = yield* Crypto
  const sockets = yield* UdpSocket

  /** An endpoint with its first socket, all loops running; on close every session hears of it before sockets close. */
  const drive = Effect.fnUntraced(function* (
    bind: BindOptions,
    identity: KeyPair,
    { patience, rekeyIntervalMs, streamWindow }: Pick<ListenOptions, "patience" | "rekeyIntervalMs" | "streamWindow">,
    maxSessions: number,
    onGate: (gate: Gate) => void
  ) {
    const clock = yield* Clock.Clock
    const { primitives, entropy } = crypto
    const { keepAliveMs, deadAfterMs } = patience
    const makeCore = (now: number, wallMs: number): Endpoint =>
      new Endpoint(now, wallMs, {
        primitives,
        entropy,
        identity,
        limits: limitsOf(patience, streamWindow, maxDatagram),
        windowGrowth: streamWindow === undefined ? WINDOW_GROWTH : 1,
        congestion,
        keepAliveMs,
        deadAfterMs,
        maxSessions,
        rekeyIntervalMs,
        askMs: patience.askMs,
        home: () => (ways.home === 0 ? undefined : ways.home),
        facing: (remote) => ways.facing(remote),
        rank: ({ via }) => (ways.isRelay(via) ? 1 : 0),
        datagramCeiling: (remote) => Math.min(ceilingOf(ways, remote), maxDatagram)
      })
    const ways = new Ways()
    const driver = new TransportDriver(ways, clock, primitives, makeCore, onGate)
    const parent = yield* Effect.scope
    const socketScope = yield* Scope.fork(parent)

    const open = Effect.fnUntraced(function* (port: number) {
      const via = ways.number()
      const scope = yield* Scope.fork(socketScope)
      const socket = yield* Scope.provide(
        sockets.bind({ host: bind.host, port, via: via === 0 ? undefined : via }),
        scope
      ).pipe(
        Effect.mapError(bindError),
        Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
      )
      ways.addSocket(via, socket)
      yield* Scope.addFinalizer(
        scope,
        Effect.sync(() => ways.remove(via))
      )
      yield* Effect.forkIn(driver.receiveLoop(socket), scope)
      return {
        address: socket.address,
        via,
        sessions: Effect.sync(() => driver.core.sessionsVia(via)),
        close: Scope.close(scope, Exit.void)
      } satisfies OpenPort
    })

    const first = yield* open(bind.port)
    const isWild = first.address.host === "0.0.0.0" || first.address.host === "::"
    const v6 = first.address.host.includes(":")
    const hosts = isWild
      ? Effect.map(sockets.addresses, (all) => all.filter((host) => v6 || !host.includes(":")))
      : Effect.succeed([first.address.host])
    driver.local = Effect.map(hosts, (all) => all.map((host) => ({ host, port: first.address.port })))
    yield* Effect.forkScoped(driver.deadlineLoop)
    const farewell = driver.command((core, now) => core.closeAll(now, CloseCode.GoingAway, "shutting down"))
    yield* Effect.addFinalizer(() => farewell)
    return { driver, ways, first, hosts, open }
  })

  const listen = Effect.fn("Transport.listen")(function* (options: ListenOptions) {
    const run = yield* FiberSet.makeRuntime()
    const arrived = new Mailbox<Connection, TransportError>()

    const onGate = (gate: Gate): void => {
      switch (gate.type) {
        case "Initiation": {
          const answer = Effect.gen(function* () {
            yield* options.remember(gate.seen)
            // A file's bearer learns what it needs to come back without the file.
            const enrolment = gate.admission.slot === undefined ? undefined : yield* options.enrolment
            yield* driver.command((core, now) => core.admit(now, gate.initiation, enrolment))
          })
          run(answer)
          return
        }
        case "Enrolling": {
          const decision = Effect.gen(function* () {
            const enrolled = yield* options.enrol(gate)
            yield* driver.command((core, now) => {
              if (enrolled) core.establish(now, gate.session)
              else core.refuse(gate.session)
            })
            if (!enrolled) yield* options.notice({ type: "Refused", caller: gate })
          })
          run(decision)
          return
        }
        case "Connected": {
          if (gate.caller === undefined) return
          const { admission, deviceName } = gate.caller
          arrived.offerUnsafe(driver.connection(gate.session, hex(admission.id), deviceName))
          run(options.notice({ type: "Opened", caller: gate.caller }))
          return
        }
        case "Stranger":
        case "Full":
          run(options.notice(gate))
          return
        default:
          return
      }
    }

    const { driver, first, hosts, open, ways } = yield* drive(
      options.bind,
      options.identity,
      options,
      options.maxSessions,
      onGate
    )
    let restored = false
    // The first list, where it is at hand, is in place before anybody knows the address.
    yield* Effect.forkScoped(
      Stream.runForEach(options.admissions, (admissions) =>
        driver.command((core, now) => {
          core.setWall(now, driver.wall())
          core.setAdmissions(now, admissions)
          if (!restored) core.restoreNonces(options.seenNonces)
          restored = true
        })
      ),
      { startImmediately: true }
    )
    const listener: Listener = {
      address: first.address,
      hosts,
      first,
      open,
      announce: (port, inMs) => driver.command((core, now) => core.announcePort(now, port, inMs)),
      carry: (make, port) => driver.carry(make, port?.via ?? ways.home),
      move: (from, to) => driver.command((_, now) => ways.move(now, from.via, to.via)),
      punch: (addresses, bytes) =>
        Effect.suspend(() =>
          driver.post(addresses.map(({ host, port }) => ({ bytes, remote: { host, port, via: ways.home } })))
        ),
      compromise: (told) => Effect.sync(() => driver.compromise(told)),
      compromised: driver.compromised.take,
      acknowledge: (told) => driver.acknowledge(told),
      accept: arrived.take,
      drops: Effect.sync(() => ({ ...driver.core.drops })),
      sessions: Effect.sync(() => driver.core.sessions)
    }
    return listener
  })

  const connect = Effect.fn("Transport.connect")(function* (options: ConnectOptions) {
    const run = yield* FiberSet.makeRuntime()
    const connected = yield* Deferred.make<Connection, TransportError>()
    const fail = (reason: "NoAnswer" | "Silent", message: string): void => {
      Deferred.doneUnsafe(connected, Effect.fail(new TransportError({ reason, message })))
    }
    const hints = options.hints.map((state) => new HintCounter(state))
    const keepHints = Effect.suspend(() => options.keepHints(hints.map((counter) => counter.state)))
    let credential = ""
    let session: number | undefined
    const rides: Array<Riding> = []

    const onGate = (gate: Gate): void => {
      if (gate.type === "DialFailed") {
        fail("NoAnswer", `no answer after ${gate.rounds} attempts in ${options.timeoutMs / 1000} s`)
      } else if (gate.type === "Answered") {
        const used = options.invitations[gate.invitation]
        const isFile = used?.slot !== undefined
        credential = hex(used?.id ?? new Uint8Array(0))
        const connection = driver.connection(gate.session, credential, "")
        session = gate.session
        const relay = rides.find(({ via }) => via === gate.remote.via)?.name
        options.progress?.({ relay, state: "answered", remotes: [gate.remote] })
        const confirmation = Effect.gen(function* () {
          yield* options.answered(gate)
          // Who came with a file waits to hear whether it was taken on; an enrolled device may speak after one round trip,
          // and what it says at once leaves with the confirmation, in one datagram.
          yield* driver.command((core, now) => {
            core.confirm(now, gate.session)
            if (!isFile) Deferred.doneUnsafe(connected, Effect.succeed(connection))
          })
          yield* keepHints
          const close = yield* connection.closed
          if (close.by !== "timeout") {
            return yield* new TransportError({ reason: "Closed", message: describeClose(close), close })
          }
          // A server that refuses says nothing, and one that died says nothing either.
          const why = isFile ? "another device came with the same file" : "does not take this device any more"
          fail("Silent", `the server answered and then fell silent: it stopped just then, or ${why}`)
        })
        run(
          Effect.catch(confirmation, (error) => Effect.sync(() => Deferred.doneUnsafe(connected, Effect.fail(error))))
        )
      } else if (gate.type === "Connected") {
        Deferred.doneUnsafe(connected, Effect.succeed(driver.connection(gate.session, credential, "")))
      }
    }

    const v6 = options.invitations.some(({ endpoints }) => endpoints.some(({ host }) => host.includes(":")))
    const bind = { host: v6 ? "::" : "0.0.0.0", port: 0 }
    const limits = limitsOf(options.patience, options.streamWindow, maxDatagram)
    const { driver, first, ways } = yield* drive(bind, options.identity, options, MAX_DIALLED_SESSIONS, onGate)
    const { invitations, identity, timeoutMs, skewMs, sweeps = true } = options
    options.progress?.({
      relay: undefined,
      state: "trying",
      remotes: invitations.flatMap(({ endpoints }) => endpoints)
    })
    yield* Effect.forEach(options.rides ?? [], ({ invitation, make, name }) => {
      const ride: Riding = { invitation, name, via: 0, peers: () => [], observed: () => undefined, known: [] }
      rides.push(ride)
      options.progress?.({ relay: name, state: "waiting", remotes: [] })
      return driver.carry((via) => {
        const { carrier, observed, peers } = make(via)
        ride.via = via
        ride.peers = peers
        ride.observed = observed ?? ride.observed
        return carrier
      }, 0)
    })
    const bound = driver.local
    driver.local = Effect.map(bound, (own) => [...rides.flatMap((ride) => ride.observed() ?? []), ...own])
    let dial = 0
    let refreshedAt = Number.NEGATIVE_INFINITY
    driver.onSilence = (now) => {
      if (now - refreshedAt < REFRESH_GAP_MS) return
      refreshedAt = now
      driver.ways.refresh(now)
    }
    driver.onCarried = (now) => {
      for (const ride of rides) {
        const peers = ride.peers()
        if (peers === ride.known || peers.length === 0) continue
        if (ride.known.length === 0) options.progress?.({ relay: ride.name, state: "trying", remotes: peers })
        ride.known = peers
        driver.core.widen(now, dial, ride.invitation, peers)
        if (session !== undefined) driver.core.session(session)?.addCandidates(now, peers)
      }
    }
    yield* driver.command((core, now) => {
      dial = core.dial(now, {
        invitations,
        hints,
        identity,
        deviceName: deviceName(options.deviceName),
        features: 0,
        limits,
        timeoutMs,
        skewMs,
        sweeps
      })
      driver.onCarried?.(now)
    })
    yield* keepHints
    if (options.dialling !== undefined) {
      const socket: Dialling = {
        address: first.address,
        local: Effect.suspend(() => driver.local),
        carry: (make) => driver.carry(make, ways.home)
      }
      const beside = Effect.catch(options.dialling(socket), (error) =>
        Effect.sync(() => Deferred.doneUnsafe(connected, Effect.fail(error)))
      )
      yield* Effect.forkScoped(beside)
    }
    // Also when nothing answered: those hints were shown.
    return yield* Effect.onError(Deferred.await(connected), () => keepHints)
  })

  return Transport.of({ listen, connect })
})

export const layerWith = (tuning: Tuning): Layer.Layer<Transport, never, Crypto | UdpSocket> =>
  Layer.effect(Transport, make(tuning))

export const layer: Layer.Layer<Transport, never, Crypto | UdpSocket> = layerWith({})
