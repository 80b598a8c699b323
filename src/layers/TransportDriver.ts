/**
 * Runs one protocol Endpoint on one socket: the receive loop, the deadline loop, and the users' commands all meet in the
 * synchronous core and leave it through `drain`, which sends what the core wants sent and tells waiters what happened.
 * Effects stand around batches; per datagram there are plain calls only.
 */
import * as Cause from "effect/Cause"
import type * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import type { CloseReason } from "../domain/protocol/CloseCode.ts"
import { MAX_PACKET_LENGTH } from "../domain/protocol/Constants.ts"
import type { Endpoint, EndpointEvent, Handle } from "../domain/protocol/Endpoint.ts"
import type { Session, SessionEvent } from "../domain/protocol/Session.ts"
import type { Priority } from "../domain/protocol/Streams.ts"
import { type Connection, TransportError, type TransportStream } from "../services/Transport.ts"
import type { BoundSocket, Burst } from "../services/UdpSocket.ts"
import { Mailbox } from "./Mailbox.ts"

/** Bytes of datagrams handed to the socket at once. */
const ARENA_BYTES = 5 * 65_536
/** Bytes one `read` takes out of a stream at most. */
const READ_BYTES = 262_144
/** Received unreliable datagrams that wait for a reader; the oldest go first. */
const DATAGRAM_QUEUE = 256
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
  readonly room = Latch.makeUnsafe(false)
  readonly stalled = Latch.makeUnsafe(false)
  readonly answering = Latch.makeUnsafe(true)
  readonly closed = Deferred.makeUnsafe<CloseReason>()
  failure: TransportError | undefined

  fail(reason: CloseReason): void {
    const error = closedError(reason)
    this.failure = error
    for (const stream of this.streams.values()) stream.fail(error)
    this.accepted.failUnsafe(error)
    this.datagrams.failUnsafe(error)
    this.room.openUnsafe()
    Deferred.doneUnsafe(this.closed, Effect.succeed(reason))
  }
}

export class TransportDriver {
  readonly core: Endpoint
  readonly #socket: BoundSocket
  readonly #clock: Clock.Clock
  readonly #onGate: (gate: Gate) => void
  readonly #connections = new Map<Handle, ConnectionState>()
  readonly #rearm = Latch.makeUnsafe(false)
  /** Where the core writes datagrams; the socket is done with them before the next ones are written. */
  readonly #arena = new Uint8Array(ARENA_BYTES)
  #sleepingUntil = Number.POSITIVE_INFINITY
  /** A batch is on its way to the socket. */
  #sending = false
  /** There may be more to send once it is out. */
  #again = false

  /** `make` gets the present: steady and wall-clock ms. `onGate` is called inside the core's turn and must not wait. */
  constructor(
    socket: BoundSocket,
    clock: Clock.Clock,
    make: (now: number, wallMs: number) => Endpoint,
    onGate: (gate: Gate) => void
  ) {
    this.#socket = socket
    this.#clock = clock
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
    const batch = this.#take()
    if (batch.length === 0) {
      this.#tell()
      return Effect.void
    }
    this.#sending = true
    return Effect.uninterruptible(Effect.andThen(this.#socket.send(batch), this.#sent))
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

  /** Datagrams in, until the socket closes. */
  readonly receiveLoop: Effect.Effect<void> = Effect.suspend(() =>
    Effect.matchEffect(this.#socket.receive, {
      onFailure: () => Effect.void,
      onSuccess: (batch) => {
        const now = this.now()
        this.core.setWall(now, this.wall())
        this.core.handleDatagrams(now, batch)
        return Effect.andThen(this.drain, this.receiveLoop)
      }
    })
  )

  /** Deadlines, for ever. */
  readonly deadlineLoop: Effect.Effect<void> = Effect.suspend(() => {
    const now = this.now()
    const at = this.core.pollTimeout()
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
    return Effect.andThen(this.drain, Effect.andThen(Effect.yieldNow, this.deadlineLoop))
  })

  /** The connection of a session that is up, or about to be. */
  connection(handle: Handle, credential: string, deviceName: string): Connection {
    const state = this.#state(handle)
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
      stats: Effect.sync(() => this.core.stats(handle)),
      stalled: state.stalled.await,
      answering: state.answering.await,
      closed: Deferred.await(state.closed),
      close: (code, reason) => this.command((core, now) => core.close(now, handle, code, reason))
    }
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

  #tell(): void {
    for (let event = this.core.pollEvent(); event !== undefined; event = this.core.pollEvent()) this.#dispatch(event)
    if (this.core.pollTimeout() < this.#sleepingUntil) this.#rearm.openUnsafe()
  }

  #dispatch(event: EndpointEvent): void {
    if (event.type === "Session") this.#onSession(event.session, event.event)
    else if (event.type === "Closed") {
      this.#state(event.session).fail(event.reason)
      this.#connections.delete(event.session)
    } else this.#onGate(event)
  }

  #onSession(handle: Handle, event: SessionEvent): void {
    const state = this.#state(handle)
    switch (event.type) {
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
