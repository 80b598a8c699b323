/**
 * Runs one protocol Endpoint on its sockets: the receive loops, the deadline loop, and the users' commands all meet in the
 * synchronous core and leave it through `drain`, which sends what the core wants sent and tells waiters what happened.
 * Effects stand around batches; per datagram there are plain calls only.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type * as Scope from "effect/Scope"
import type { Address } from "../domain/protocol/Address.ts"
import type { Carrier } from "../domain/protocol/Carrier.ts"
import type { CloseReason } from "../domain/protocol/CloseCode.ts"
import { MAX_PACKET_LENGTH } from "../domain/protocol/Constants.ts"
import type { Endpoint } from "../domain/protocol/Endpoint.ts"
import type { EndpointEvent, Handle } from "../domain/protocol/EndpointTypes.ts"
import type { Primitives } from "../domain/protocol/Primitives.ts"
import type { Session } from "../domain/protocol/Session.ts"
import type { SessionEvent, Stats } from "../domain/protocol/SessionTypes.ts"
import type { Priority } from "../domain/protocol/Streams.ts"
import {
  type Compromised,
  type Connection,
  type Happening,
  TransportError,
  type TransportStream
} from "../services/Transport.ts"
import type { BoundSocket, Burst, Datagram } from "../services/UdpSocket.ts"
import { acknowledgements, LastWords, sendAll } from "./LastWords.ts"
import { Mailbox } from "./Mailbox.ts"
import type { Ways } from "./Ways.ts"

/** Bytes of datagrams handed to the socket at once. */
const ARENA_BYTES = 5 * 65_536
/** Bytes one `read` takes out of a stream at most. */
const READ_BYTES = 262_144
/** Received unreliable datagrams that wait for a reader; the oldest go first. */
const DATAGRAM_QUEUE = 256
/** Happenings of a connection that wait for a reader; the oldest go first. */
const HAPPENING_QUEUE = 64
/** Milliseconds: timers beyond 2^31 - 1 fire at once. */
const MAX_SLEEP_MS = 3_600_000

/** An event that the driver's owner has to act on: a gate that waits for the disk, an opening, something to note. */
export type Gate = Exclude<EndpointEvent, { readonly type: "Session" | "Closed" }>

export const describeClose = (reason: CloseReason): string => {
  if (reason.by === "timeout") {
    return reason.what === "idle" ? "the connection was idle for too long" : "the other side stopped answering"
  }
  const who = reason.by === "peer" ? "the other side" : "this side"
  // The peer's words may reach a terminal.
  const words = reason.reason.replace(/\p{Cc}/gu, "")
  return words === "" ? `${who} closed the connection` : `${who} closed the connection: ${words}`
}

const closedError = (close: CloseReason): TransportError =>
  new TransportError({ reason: "Closed", message: describeClose(close), close })

const GONE: CloseReason = { by: "local", code: 0, reason: "" }

/** What readers and writers of one stream wait for. */
class StreamState {
  readonly readable = Latch.makeUnsafe(false)
  readonly writable = Latch.makeUnsafe(true)
  /** Set once: by the peer's reset or stop, or by the end of the connection. */
  readFailure: TransportError | undefined
  writeFailure: TransportError | undefined

  fail(error: TransportError): void {
    this.readFailure ??= error
    this.writeFailure ??= error
    this.readable.openUnsafe()
    this.writable.openUnsafe()
  }
}

/** What users of one connection wait for. */
class ConnectionState {
  readonly streams = new Map<number, StreamState>()
  readonly accepted = new Mailbox<TransportStream, TransportError>()
  readonly datagrams = new Mailbox<Uint8Array, TransportError>(DATAGRAM_QUEUE)
  readonly happened = new Mailbox<Happening, TransportError>(HAPPENING_QUEUE)
  readonly compromised = Deferred.makeUnsafe<Compromised>()
  credential = ""
  readonly room = Latch.makeUnsafe(false)
  readonly stalled = Latch.makeUnsafe(false)
  readonly answering = Latch.makeUnsafe(true)
  readonly closed = Deferred.makeUnsafe<CloseReason>()
  failure: TransportError | undefined
  /** As they were at the end. */
  stats: Stats | undefined

  fail(reason: CloseReason): void {
    const error = closedError(reason)
    this.failure = error
    for (const stream of this.streams.values()) stream.fail(error)
    this.accepted.failUnsafe(error)
    this.datagrams.failUnsafe(error)
    this.happened.failUnsafe(error)
    this.room.openUnsafe()
    Deferred.doneUnsafe(this.closed, Effect.succeed(reason))
  }
}

export class TransportDriver {
  readonly core: Endpoint
  readonly ways: Ways
  readonly #clock: Clock.Clock
  readonly #primitives: Primitives
  readonly #onGate: (gate: Gate) => void
  readonly #connections = new Map<Handle, ConnectionState>()
  readonly #rearm = Latch.makeUnsafe(false)
  /** Where the core writes datagrams; the socket is done with them before the next ones are written. */
  readonly #arena = new Uint8Array(ARENA_BYTES)
  /** Those who said that their secrets are burned, for an owner of many connections. */
  readonly compromised = new Mailbox<Compromised, never>(DATAGRAM_QUEUE)
  /** Where this host is reached on the first socket's port. */
  local: Effect.Effect<ReadonlyArray<Address>> = Effect.succeed([])
  /** Called when a path or a peer has fallen silent: what lies before us may have forgotten us. Must not wait. */
  onSilence: ((now: number) => void) | undefined
  /** Called when something may have happened to a carrier; must not wait. */
  onCarried: ((now: number) => void) | undefined
  #lastWords: LastWords | undefined
  #sleepingUntil = Number.POSITIVE_INFINITY
  /** A batch is on its way to the socket. */
  #sending = false
  /** There may be more to send once it is out. */
  #again = false

  /** `make` gets the present: steady and wall-clock ms. `onGate` is called inside the core's turn and must not wait. */
  constructor(
    ways: Ways,
    clock: Clock.Clock,
    primitives: Primitives,
    make: (now: number, wallMs: number) => Endpoint,
    onGate: (gate: Gate) => void
  ) {
    this.ways = ways
    this.#clock = clock
    this.#primitives = primitives
    this.#onGate = onGate
    this.core = make(this.now(), this.wall())
  }

  /** Milliseconds on a steady clock. */
  now(): number {
    return Number(this.#clock.monotonicTimeNanosUnsafe()) / 1e6
  }

  wall(): number {
    return this.#clock.currentTimeMillisUnsafe()
  }

  /**
   * Sends all that the core wants sent, in batches, then hands out its events. One batch at a time is on its way to the
   * socket: telling somebody runs its fiber at once, and a fiber may be made to yield before its batch is out, so what is
   * taken meanwhile would overtake it and look lost to the peer. Who finds the way taken leaves its packets to the one ahead.
   */
  readonly drain: Effect.Effect<void> = Effect.suspend(() => {
    if (this.#sending) {
      this.#again = true
      return Effect.void
    }
    this.#again = false
    const outgoing = this.ways.sort(this.now(), this.#take())
    const [first, second] = outgoing
    if (first === undefined) {
      this.#tell()
      return Effect.void
    }
    this.#sending = true
    // One socket at nearly all times: while a port is being changed there are two.
    const send =
      second === undefined
        ? first.socket.send(first.batch)
        : Effect.forEach(outgoing, ({ batch, socket }) => socket.send(batch), { discard: true })
    return Effect.uninterruptible(Effect.andThen(send, this.#sent))
  })

  readonly #sent: Effect.Effect<void> = Effect.suspend(() => {
    this.#sending = false
    if (this.#again) return this.drain
    this.#tell()
    return Effect.void
  })

  /** Waits until no batch is on its way: who closes the socket next must not cut off what another fiber sends for it. */
  readonly #quiet: Effect.Effect<void> = Effect.suspend(() =>
    this.#sending ? Effect.andThen(Effect.yieldNow, this.#quiet) : Effect.void
  )

  /** A command of the core, and what follows from it, which has left when this completes. */
  command(command: (core: Endpoint, now: number) => void): Effect.Effect<void> {
    return Effect.suspend(() => {
      command(this.core, this.now())
      return Effect.andThen(this.drain, this.#quiet)
    })
  }

  /** Datagrams in by one socket, until it closes. */
  receiveLoop(socket: BoundSocket): Effect.Effect<void> {
    const loop: Effect.Effect<void> = Effect.suspend(() =>
      Effect.matchEffect(socket.receive, {
        onFailure: () => Effect.void,
        onSuccess: (batch) => {
          this.#receive(batch)
          return Effect.andThen(this.drain, loop)
        }
      })
    )
    return loop
  }

  #receive(batch: ReadonlyArray<Datagram>): void {
    const now = this.now()
    const rest = this.ways.receive(now, batch)
    if (rest !== batch) this.onCarried?.(now)
    if (this.#lastWords !== undefined) {
      for (const { bytes } of rest) this.#lastWords.hear(bytes)
      return
    }
    this.core.setWall(now, this.wall())
    this.core.handleDatagrams(now, rest)
  }

  /** Deadlines, for ever. */
  readonly deadlineLoop: Effect.Effect<void> = Effect.suspend(() => {
    const now = this.now()
    const at = this.#nextDeadline()
    this.#sleepingUntil = at
    this.#rearm.closeUnsafe()
    if (at === Number.POSITIVE_INFINITY) return Effect.andThen(this.#rearm.await, this.deadlineLoop)
    if (at > now) {
      // Whole milliseconds, upwards: a clock that cannot tell so short a pause from none would be asked again for ever.
      const sleep = Effect.sleep(Duration.millis(Math.min(Math.ceil(at - now), MAX_SLEEP_MS)))
      return Effect.andThen(Effect.raceFirst(sleep, this.#rearm.await), this.deadlineLoop)
    }
    this.core.setWall(now, this.wall())
    this.core.handleTimeout(now)
    this.ways.handleTimeout(now)
    this.onCarried?.(now)
    return Effect.andThen(this.drain, Effect.andThen(Effect.yieldNow, this.deadlineLoop))
  })

  /** The connection of a session that is up, or about to be. */
  connection(handle: Handle, credential: string, deviceName: string): Connection {
    const state = this.#state(handle)
    state.credential = credential
    const session = <A>(use: (session: Session) => A, otherwise: A): A => {
      const found = this.core.session(handle)
      return found === undefined ? otherwise : use(found)
    }
    const openStream = (priority: Priority): Effect.Effect<TransportStream, TransportError> =>
      Effect.suspend(() => {
        if (state.failure !== undefined) return Effect.fail(state.failure)
        const id = session((found) => found.openStream(priority), undefined)
        if (id !== undefined) return Effect.succeed(this.#stream(handle, state, id))
        state.room.closeUnsafe()
        return Effect.andThen(state.room.await, openStream(priority))
      })
    return {
      credential,
      deviceName,
      remote: Effect.sync(() => session((found) => found.remote, { host: "0.0.0.0", port: 0 })),
      open: openStream,
      accept: state.accepted.take,
      sendDatagram: (bytes) =>
        Effect.suspend(() => {
          if (state.failure !== undefined) return Effect.fail(state.failure)
          const sent = session((found) => found.sendDatagram(bytes), false)
          this.core.touch(handle)
          return Effect.as(this.drain, sent)
        }),
      receiveDatagram: state.datagrams.take,
      stats: Effect.sync(() => state.stats ?? this.core.stats(handle)),
      local: Effect.suspend(() => this.local),
      carry: (make) => this.carry(make, this.ways.home),
      happened: state.happened.take,
      paths: Effect.sync(() => session((found) => found.paths(), [])),
      offer: (addresses) => this.withSession(handle, (found, now) => found.offerCandidates(now, addresses)),
      rebind: this.withSession(handle, (found, now) => found.rebind(now)),
      rekey: this.withSession(handle, (found) => found.rekey()),
      compromise: Effect.sync(() => this.compromise([])),
      compromised: Deferred.await(state.compromised),
      acknowledge: (told) => Effect.sync(() => this.compromise([told])),
      stalled: state.stalled.await,
      answering: state.answering.await,
      closed: Deferred.await(state.closed),
      close: (code, reason) => this.command((core, now) => core.close(now, handle, code, reason))
    }
  }

  /** Lets a carrier speak through a socket until the scope closes. */
  carry(make: (via: number) => Carrier, way: number): Effect.Effect<void, never, Scope.Scope> {
    return Effect.acquireRelease(
      Effect.suspend(() => {
        const via = this.ways.number()
        const carrier = make(via)
        this.ways.addCarrier(via, carrier, way)
        return Effect.as(this.drain, { via, carrier })
      }),
      ({ carrier, via }) =>
        Effect.suspend(() => {
          carrier.close(this.now())
          return Effect.andThen(
            this.drain,
            Effect.sync(() => this.ways.remove(via))
          )
        })
    ).pipe(Effect.asVoid)
  }

  /** A command of one session, and what follows from it; nothing once it is over. */
  withSession(handle: Handle, use: (session: Session, now: number) => void): Effect.Effect<void> {
    return this.command((core, now) => {
      const session = core.session(handle)
      if (session === undefined) return
      use(session, now)
      core.touch(handle)
    })
  }

  /** Sends what is no session's. */
  post(batch: ReadonlyArray<Burst>): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(this.ways.sort(this.now(), batch), ({ batch, socket }) => socket.send(batch), { discard: true })
    )
  }

  /** Wipes the core. From here on only answers to what it leaves are listened to. */
  compromise(told: ReadonlyArray<Compromised>): LastWords {
    const credentials = new Set(told.map(({ credential }) => credential))
    const except = new Set(
      [...this.#connections].flatMap(([handle, { credential }]) => (credentials.has(credential) ? [handle] : []))
    )
    const left = this.core.compromise(except)
    const words = new LastWords(this.#primitives, left, told, (batch) => this.post(batch))
    this.#lastWords = words
    this.#tell()
    return words
  }

  /** Tells one device that we heard, and forgets its sessions. */
  acknowledge(told: Compromised): Effect.Effect<void> {
    return Effect.suspend(() => {
      for (const [handle, { credential }] of [...this.#connections]) {
        if (credential === told.credential) this.core.drop(handle)
      }
      const copies = acknowledgements(this.#primitives, told)
      return Effect.andThen(
        this.drain,
        sendAll(copies, (batch) => this.post(batch))
      )
    })
  }

  #stream(handle: Handle, connection: ConnectionState, id: number): TransportStream {
    const state = new StreamState()
    connection.streams.set(id, state)
    if (connection.failure !== undefined) state.fail(connection.failure)
    const command = (use: (session: Session) => void): Effect.Effect<void> =>
      Effect.suspend(() => {
        const session = this.core.session(handle)
        if (session === undefined) return Effect.void
        use(session)
        this.core.touch(handle)
        return this.drain
      })
    const read: TransportStream["read"] = Effect.suspend(() => {
      if (state.readFailure !== undefined) return Effect.fail(state.readFailure)
      const session = this.core.session(handle)
      if (session === undefined) return Effect.fail(closedError(GONE))
      const first = session.read(id)
      if (first instanceof Uint8Array) {
        const chunks: [Uint8Array, ...Array<Uint8Array>] = [first]
        let length = first.length
        while (length < READ_BYTES) {
          const next = session.read(id)
          if (!(next instanceof Uint8Array)) break
          chunks.push(next)
          length += next.length
        }
        // Reading may have opened the flow-control window.
        this.core.touch(handle)
        return Effect.as(this.drain, chunks)
      }
      if (first === "finished") return Cause.done()
      if (first !== "blocked") return Effect.fail(resetError(first.reset))
      state.readable.closeUnsafe()
      return Effect.andThen(state.readable.await, read)
    })
    // What was not sent when the peer stopped, or the connection ended, never will be: its writer must not think so.
    const room: Effect.Effect<void, TransportError> = Effect.andThen(
      state.writable.await,
      Effect.suspend(() => (state.writeFailure === undefined ? Effect.void : Effect.fail(state.writeFailure)))
    )
    return {
      id,
      read,
      write: (bytes) =>
        Effect.suspend(() => {
          if (state.writeFailure !== undefined) return Effect.fail(state.writeFailure)
          const session = this.core.session(handle)
          if (session === undefined) return Effect.fail(closedError(GONE))
          if (!session.write(id, bytes)) return Effect.fail(stoppedError(0))
          if (session.isFull(id)) state.writable.closeUnsafe()
          this.core.touch(handle)
          return Effect.andThen(this.drain, room)
        }),
      finish: command((session) => session.finish(id)),
      reset: (code) =>
        command((session) => {
          session.resetStream(id, code)
          // Who still waits to write waits for nothing.
          state.writeFailure ??= GIVEN_UP
          state.writable.openUnsafe()
        }),
      stop: (code) =>
        command((session) => {
          session.stopStream(id, code)
          // Who still waits to read waits for nothing.
          state.readFailure ??= GIVEN_UP
          state.readable.openUnsafe()
        }),
      setPriority: (priority) => command((session) => session.setPriority(id, priority))
    }
  }

  #state(handle: Handle): ConnectionState {
    const known = this.#connections.get(handle)
    if (known !== undefined) return known
    const made = new ConnectionState()
    this.#connections.set(handle, made)
    return made
  }

  /** Lets the core fill the arena; `#again` when that was not all. */
  #take(): Array<Burst> {
    const now = this.now()
    const arena = this.#arena
    const batch: Array<Burst> = []
    for (let at = 0; ; ) {
      if (arena.length - at < MAX_PACKET_LENGTH) {
        this.#again = true
        return batch
      }
      const length = this.core.pollBurst(now, arena, at)
      if (length === 0) return batch
      const { remote, segment } = this.core.burst
      batch.push({ bytes: arena.subarray(at, at + length), segment, remote })
      at += length
    }
  }

  #nextDeadline(): number {
    return Math.min(this.core.pollTimeout(), this.ways.deadline)
  }

  #tell(): void {
    for (let event = this.core.pollEvent(); event !== undefined; event = this.core.pollEvent()) this.#dispatch(event)
    if (this.#nextDeadline() < this.#sleepingUntil) this.#rearm.openUnsafe()
  }

  #dispatch(event: EndpointEvent): void {
    if (event.type === "Session") this.#onSession(event.session, event.event)
    else if (event.type === "Closed") {
      const state = this.#state(event.session)
      // Nothing is open or on its way any more.
      state.stats = { ...event.stats, openStreams: 0, bytesInFlight: 0 }
      state.fail(event.reason)
      this.#connections.delete(event.session)
    } else this.#onGate(event)
  }

  #onSession(handle: Handle, event: SessionEvent): void {
    const state = this.#state(handle)
    switch (event.type) {
      case "Compromised": {
        const { remote, token } = event
        const told = { credential: state.credential, token, remote }
        Deferred.doneUnsafe(state.compromised, Effect.succeed(told))
        this.compromised.offerUnsafe(told)
        return
      }
      case "PathChanged":
      case "PathFailed":
        this.onSilence?.(this.now())
        state.happened.offerUnsafe(event)
        return
      case "PortAnnounced":
      case "Candidates":
      case "Observed":
      case "Rekeyed":
        state.happened.offerUnsafe(event)
        return
      case "StreamOpened":
        state.accepted.offerUnsafe(this.#stream(handle, state, event.id))
        return
      case "StreamReadable":
        state.streams.get(event.id)?.readable.openUnsafe()
        return
      case "StreamWritable":
        state.streams.get(event.id)?.writable.openUnsafe()
        return
      case "StreamReset": {
        const stream = state.streams.get(event.id)
        if (stream === undefined) return
        stream.readFailure ??= resetError(event.code)
        stream.readable.openUnsafe()
        return
      }
      case "StreamStopped": {
        const stream = state.streams.get(event.id)
        if (stream === undefined) return
        stream.writeFailure ??= stoppedError(event.code)
        stream.writable.openUnsafe()
        return
      }
      case "Stalled":
        this.onSilence?.(this.now())
        state.answering.closeUnsafe()
        state.stalled.openUnsafe()
        return
      case "Recovered":
        state.stalled.closeUnsafe()
        state.answering.openUnsafe()
        return
      case "StreamsAvailable":
        state.room.openUnsafe()
        return
      case "StreamClosed":
        state.streams.delete(event.id)
        // Given up before anybody accepted it: a peer could pile them up.
        state.accepted.dropUnsafe(({ id }) => id === event.id)
        return
      case "Datagram":
        state.datagrams.offerUnsafe(event.data)
        return
      default:
        return
    }
  }
}

const resetError = (code: number): TransportError =>
  new TransportError({ reason: "Reset", message: `the other side gave up this stream (code ${code})`, code })

const GIVEN_UP = new TransportError({ reason: "Closed", message: "this side gave up this stream" })

const stoppedError = (code: number): TransportError =>
  new TransportError({ reason: "Stopped", message: `the other side takes no more on this stream (code ${code})`, code })
