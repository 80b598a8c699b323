/**
 * One side of a measured connection, a process of its own: `listener <devices>` or `client <port>`.
 *
 * The first byte of a stream says what the listener does with it: echo what comes, or read to the end and answer a byte.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Priority } from "../src/domain/protocol/Streams.ts"
import * as CryptoNode from "../src/layers/CryptoNode.ts"
import * as TransportLive from "../src/layers/TransportLive.ts"
import * as UdpSocketNode from "../src/layers/UdpSocketNode.ts"
import { type Connection, type Patience, Transport, type TransportStream } from "../src/services/Transport.ts"
import { UdpSocket } from "../src/services/UdpSocket.ts"
import { serve, type Vitals } from "./Harness.ts"
import * as Peers from "./Peers.ts"

export interface ListenerQuestions extends Vitals {
  /** The port it listens on. */
  port: number
  /** Sessions it holds. */
  sessions: number
}

export interface ClientQuestions extends Vitals {
  /** Connects as so many devices, one after the other, and hangs up each time: ms of each. */
  connect: ReadonlyArray<number>
  /** So many round trips of 64 bytes on one stream: ms of each. */
  echo: ReadonlyArray<number>
  /** Sends so many bytes on one stream: seconds until the listener has read them all. */
  bulk: number
  /** Holds connections of so many devices until the end: how many. */
  hold: number
}

const ECHO = 1
const SINK = 2
const ECHO_BYTES = 64
const WRITE_BYTES = 65_536
/** Local addresses that devices share: a listener takes 64 sessions from one. Other than Linux has but one. */
const HOSTS = process.platform === "linux" ? 4 : 1

const patience: Patience = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 }

const transportOn = (sockets: Layer.Layer<UdpSocket>) =>
  TransportLive.layer.pipe(Layer.provide([CryptoNode.layer, sockets]))

// -- the listener --------------------------------------------------------------------------------------------------

const echo = (stream: TransportStream): Effect.Effect<void, unknown> =>
  Effect.forever(
    Effect.flatMap(stream.read, (chunks) => Effect.forEach(chunks, (chunk) => stream.write(chunk), { discard: true }))
  )

const sink = (stream: TransportStream): Effect.Effect<void, unknown> =>
  Effect.forever(stream.read).pipe(
    Effect.catchIf(Cause.isDone, () => Effect.andThen(stream.write(Uint8Array.of(SINK)), stream.finish))
  )

const serveStream = (stream: TransportStream): Effect.Effect<void, unknown> =>
  Effect.flatMap(stream.read, ([first, ...rest]) => {
    if (first[0] !== ECHO) return sink(stream)
    // The first message may have come with the first byte.
    const early = Effect.forEach([first.subarray(1), ...rest], (chunk) => stream.write(chunk), { discard: true })
    return Effect.andThen(early, echo(stream))
  })

const serveConnection = (connection: Connection): Effect.Effect<void> =>
  Effect.ignore(
    Effect.forever(Effect.flatMap(connection.accept, (stream) => Effect.forkChild(Effect.ignore(serveStream(stream)))))
  )

const listener = (devices: number) =>
  Effect.gen(function* () {
    const transport = yield* Transport
    const admissions = Array.from({ length: devices }, (_, i) => Peers.admission(Peers.device(i)))
    const listening = yield* transport.listen({
      bind: { host: "0.0.0.0", port: 0 },
      identity: Peers.serverKeys,
      patience,
      maxSessions: devices + 8,
      admissions: Stream.concat(Stream.make(admissions), Stream.never),
      seenNonces: [],
      remember: () => Effect.void,
      enrolment: Effect.succeed({ portSeed: new Uint8Array(32), llmKey: undefined }),
      enrol: () => Effect.succeed(true),
      notice: () => Effect.void
    })
    serve({ port: () => listening.address.port, sessions: () => Effect.runPromise(listening.sessions) })
    yield* Effect.forever(
      Effect.flatMap(listening.accept, (connection) => Effect.forkChild(serveConnection(connection)))
    )
  })

// -- the client ----------------------------------------------------------------------------------------------------

const connect = Effect.fnUntraced(function* (port: number, index: number) {
  const transport = yield* Transport
  const peer = Peers.device(index)
  return yield* transport.connect({
    invitations: [Peers.invitation(peer, port)],
    identity: peer.keys,
    deviceName: "bench",
    patience,
    timeoutMs: 10_000,
    skewMs: 0,
    hints: [undefined],
    keepHints: () => Effect.void,
    answered: () => Effect.void
  })
})

/** Binds on one of several loopback addresses in turn. */
const spreadSockets = Layer.effect(
  UdpSocket,
  Effect.gen(function* () {
    const sockets = yield* UdpSocket
    let next = 0
    return UdpSocket.of({ bind: ({ port }) => sockets.bind({ host: `127.0.0.${1 + (next++ % HOSTS)}`, port }) })
  })
).pipe(Layer.provide(UdpSocketNode.layer))

const roundTrips = Effect.fnUntraced(function* (port: number, count: number) {
  const connection = yield* connect(port, 0)
  const stream = yield* connection.open(Priority.Interactive)
  yield* stream.write(Uint8Array.of(ECHO))
  const message = new Uint8Array(ECHO_BYTES).fill(7)
  const took: Array<number> = []
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    yield* stream.write(message)
    for (let got = 0; got < ECHO_BYTES; ) for (const chunk of yield* stream.read) got += chunk.length
    took.push(performance.now() - start)
  }
  return took
}, Effect.scoped)

const send = Effect.fnUntraced(function* (port: number, bytes: number) {
  const connection = yield* connect(port, 0)
  const stream = yield* connection.open(Priority.Bulk)
  const block = new Uint8Array(WRITE_BYTES).fill(7)
  const start = performance.now()
  yield* stream.write(Uint8Array.of(SINK))
  for (let sent = 0; sent < bytes; sent += WRITE_BYTES) yield* stream.write(block)
  yield* stream.finish
  yield* stream.read
  return (performance.now() - start) / 1000
}, Effect.scoped)

const connectTimes = Effect.fnUntraced(function* (port: number, count: number) {
  const took: Array<number> = []
  for (let i = 0; i < count; i++) {
    const scope = yield* Scope.make()
    const start = performance.now()
    yield* Scope.provide(connect(port, i), scope)
    took.push(performance.now() - start)
    yield* Scope.close(scope, Exit.void)
  }
  return took
})

const client = (port: number): void => {
  const layer = transportOn(UdpSocketNode.layer)
  const run = <A, E>(effect: Effect.Effect<A, E, Transport>): Promise<A> =>
    Effect.runPromise(Effect.provide(effect, layer))
  const held = Scope.makeUnsafe()
  serve({
    connect: (count) => run(connectTimes(port, count)),
    echo: (count) => run(roundTrips(port, count)),
    bulk: (bytes) => run(send(port, bytes)),
    hold: (count) =>
      Effect.forEach(
        Array.from({ length: count }, (_, i) => i),
        (i) => connect(port, i),
        { concurrency: 4 }
      ).pipe(
        Effect.map((connections) => connections.length),
        Scope.provide(held),
        Effect.provide(transportOn(spreadSockets)),
        Effect.runPromise
      )
  })
}

const [role, argument] = process.argv.slice(2)
if (role === "client") client(Number(argument))
else {
  listener(Number(argument)).pipe(Effect.scoped, Effect.provide(transportOn(UdpSocketNode.layer)), Effect.runFork)
}
