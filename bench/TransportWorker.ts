/**
 * One side of a measured connection of ours, a process of its own: `listener VARIANT DEVICES` or
 * `client VARIANT HOST PORT FLOW`. A flow is also a device. rivals/Duplex.mjs answers the same questions for the rivals.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { Priority } from "../src/domain/protocol/Streams.ts"
import { type Connection, type Patience, Transport, type TransportStream } from "../src/services/Transport.ts"
import { UdpSocket } from "../src/services/UdpSocket.ts"
import { serve, type Vitals } from "./Harness.ts"
import * as Peers from "./Peers.ts"
import * as Traffic from "./Traffic.ts"
import * as Variants from "./Variants.ts"

export interface ListenerQuestions extends Vitals {
  /** The port it listens on. */
  port: number
  /** Sessions it holds. */
  sessions: number
  /** What came in on this flow's last bulk. */
  received: Traffic.Received
  /** Event loop delay since the last question, ms: p99 and the longest. */
  loopDelay: { readonly p99: number; readonly max: number }
}

export interface ClientQuestions extends Vitals {
  /** Connects so many times, has one message echoed, and hangs up. */
  greet: ReadonlyArray<Traffic.Greeting>
  /** So many round trips of 64 bytes on one stream: ms of each. */
  echo: ReadonlyArray<number>
  /** Sends on one stream for so many seconds, then hangs up. */
  bulk: Traffic.Stretch
  /** Sends so many bytes that never repeat: whether the listener's SHA-256 is ours. */
  hash: boolean
  /** A 64-byte message each 100 ms beside a bulk in the same session, for so many seconds: ms of each round trip. */
  chat: ReadonlyArray<number>
  /** The same without the bulk. */
  calm: ReadonlyArray<number>
  /** Of ours only: packets of the last bulk, and how many of them it took for lost. */
  packets: { readonly sent: number; readonly lost: number }
}

export interface OurClientQuestions extends ClientQuestions {
  /** Holds connections of so many devices until the end: how many. */
  hold: number
  /** So many devices at once, each sending so many bytes a second for so many seconds. */
  crowd: Traffic.Stretch
}

const { Mode, HEADER_BYTES, MESSAGE_BYTES } = Traffic
/** Local addresses that devices share: a listener takes 64 sessions from one. Other than Linux has but one. */
const HOSTS = process.platform === "linux" ? 4 : 1
/** How often a member of the crowd writes. */
const CROWD_EVERY_MS = 50
/** The event loop's delay is sampled so often; a sample counts it too. */
const RESOLUTION_MS = 1

const patience: Patience = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 }

// -- the listener --------------------------------------------------------------------------------------------------

const sinks = new Traffic.Sinks()

/** Reads to the end. */
const readAll = (
  stream: TransportStream,
  take: (chunks: ReadonlyArray<Uint8Array>) => void
): Effect.Effect<void, unknown> =>
  Effect.forever(Effect.map(stream.read, take)).pipe(Effect.catchIf(Cause.isDone, () => Effect.void))

const echo = (stream: TransportStream, early: ReadonlyArray<Uint8Array>): Effect.Effect<void, unknown> => {
  const back = (chunks: ReadonlyArray<Uint8Array>) =>
    Effect.forEach(chunks, (chunk) => stream.write(chunk), { discard: true })
  return Effect.andThen(back(early), Effect.forever(Effect.flatMap(stream.read, back)))
}

const sink = (
  stream: TransportStream,
  flow: number,
  early: ReadonlyArray<Uint8Array>
): Effect.Effect<void, unknown> => {
  const sink = sinks.start(flow)
  const take = (chunks: ReadonlyArray<Uint8Array>): void => {
    for (const chunk of chunks) sink.take(chunk)
    sink.mark()
  }
  take(early)
  return Effect.andThen(readAll(stream, take), stream.finish)
}

const hash = (stream: TransportStream, early: ReadonlyArray<Uint8Array>): Effect.Effect<void, unknown> => {
  const hash = Traffic.sha256()
  const take = (chunks: ReadonlyArray<Uint8Array>): void => {
    for (const chunk of chunks) hash.update(chunk)
  }
  take(early)
  return readAll(stream, take).pipe(
    Effect.andThen(Effect.suspend(() => stream.write(hash.digest()))),
    Effect.andThen(stream.finish)
  )
}

const serveStream = Effect.fnUntraced(function* (stream: TransportStream) {
  let first = Buffer.alloc(0)
  while (first.length < HEADER_BYTES) first = Buffer.concat([first, ...(yield* stream.read)])
  const [mode, flow = 0] = first
  const early = first.length > HEADER_BYTES ? [first.subarray(HEADER_BYTES)] : []
  if (mode === Mode.Echo) return yield* echo(stream, early)
  if (mode === Mode.Hash) return yield* hash(stream, early)
  return yield* sink(stream, flow, early)
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
    const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
    delay.enable()
    serve({
      port: () => listening.address.port,
      sessions: () => Effect.runPromise(listening.sessions),
      received: (flow = 0) => sinks.received(flow),
      loopDelay: () => {
        const [p99, max] = [delay.percentile(99), delay.max].map((ns) => Math.max(0, ns / 1e6 - RESOLUTION_MS))
        delay.reset()
        return { p99, max }
      }
    })
    yield* Effect.forever(
      Effect.flatMap(listening.accept, (connection) => Effect.forkChild(serveConnection(connection)))
    )
  })

// -- the client ----------------------------------------------------------------------------------------------------

interface Target {
  readonly host: string
  readonly port: number
}

const connect = Effect.fnUntraced(function* ({ host, port }: Target, index: number) {
  const transport = yield* Transport
  const peer = Peers.device(index)
  return yield* transport.connect({
    invitations: [Peers.invitation(peer, host, port)],
    identity: peer.keys,
    deviceName: "bench",
    patience,
    timeoutMs: 20_000,
    skewMs: 0,
    hints: [undefined],
    keepHints: () => Effect.void,
    answered: () => Effect.void
  })
})

const opened = Effect.fnUntraced(function* (connection: Connection, mode: number, flow: number) {
  const stream = yield* connection.open(mode === Mode.Echo ? Priority.Interactive : Priority.Bulk)
  yield* stream.write(Traffic.header(mode, flow))
  return stream
})

const message = new Uint8Array(MESSAGE_BYTES).fill(7)

const pingPong = Effect.fnUntraced(function* (stream: TransportStream, count: number) {
  const took: Array<number> = []
  for (let i = 0; i < count; i++) {
    const start = performance.now()
    yield* stream.write(message)
    for (let got = 0; got < MESSAGE_BYTES; ) for (const chunk of yield* stream.read) got += chunk.length
    took.push(performance.now() - start)
  }
  return took
})

const pump = (connection: Connection, flow: number) =>
  Effect.flatMap(opened(connection, Mode.Sink, flow), (stream) => Effect.forever(stream.write(Traffic.block)))

let packets: ClientQuestions["packets"] = { sent: 0, lost: 0 }

const bulk = Effect.fnUntraced(function* (target: Target, flow: number, seconds: number) {
  const connection = yield* connect(target, flow)
  const from = Traffic.nowMs()
  const pumping = yield* Effect.forkChild(pump(connection, flow))
  yield* Effect.sleep(seconds * 1000)
  const to = Traffic.nowMs()
  const { sentPackets, lostPackets } = yield* connection.stats
  packets = { sent: sentPackets, lost: lostPackets }
  yield* Fiber.interrupt(pumping)
  return { from, to }
}, Effect.scoped)

const hashed = Effect.fnUntraced(function* (target: Target, flow: number, bytes: number) {
  const stream = yield* opened(yield* connect(target, flow), Mode.Hash, flow)
  const pieces = Traffic.hashed(bytes)
  let piece = pieces.next()
  for (; !piece.done; piece = pieces.next()) yield* stream.write(piece.value)
  yield* stream.finish
  const answer: Array<Uint8Array> = []
  yield* readAll(stream, (chunks) => answer.push(...chunks))
  return Buffer.concat(answer).equals(piece.value)
}, Effect.scoped)

/** A message each 100 ms, whatever comes back. */
const chatter = Effect.fnUntraced(function* (stream: TransportStream, seconds: number) {
  const sent: Array<number> = []
  const took: Array<number> = []
  let got = 0
  const reading = yield* Effect.forkChild(
    Effect.ignore(
      readAll(stream, (chunks) => {
        for (const chunk of chunks) got += chunk.length
        for (; got >= MESSAGE_BYTES; got -= MESSAGE_BYTES) took.push(performance.now() - (sent[took.length] ?? 0))
      })
    )
  )
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    sent.push(performance.now())
    yield* stream.write(message)
    yield* Effect.sleep(Traffic.CHAT_EVERY_MS)
  }
  for (let i = 0; i < 100 && took.length < sent.length; i++) yield* Effect.sleep(100)
  yield* Fiber.interrupt(reading)
  // What never came back has taken so long at least.
  while (took.length < sent.length) took.push(performance.now() - (sent[took.length] ?? 0))
  return took
})

const chat = Effect.fnUntraced(function* (target: Target, flow: number, seconds: number, busy: boolean) {
  const connection = yield* connect(target, flow)
  if (busy) {
    yield* Effect.forkChild(pump(connection, flow))
    yield* Effect.sleep(Math.min(3000, seconds * 500))
  }
  return yield* chatter(yield* opened(connection, Mode.Echo, flow), seconds)
}, Effect.scoped)

/** One member of the crowd: connected, then at a steady rate until told to stop. */
const member = Effect.fnUntraced(function* (connection: Connection, flow: number, bytesPerSecond: number) {
  const stream = yield* opened(connection, Mode.Sink, flow)
  const start = performance.now()
  for (let sent = 0; ; ) {
    const due = ((performance.now() - start) / 1000) * bytesPerSecond
    // The whole block each time, so that what arrives can be compared.
    for (; sent < due; sent += Traffic.block.length) yield* stream.write(Traffic.block)
    yield* Effect.sleep(CROWD_EVERY_MS)
  }
})

/** Binds on one of several loopback addresses in turn. */
const spread = (sockets: Layer.Layer<UdpSocket>) =>
  Layer.effect(
    UdpSocket,
    Effect.gen(function* () {
      const { addresses, bind, implementation } = yield* UdpSocket
      let next = 0
      return UdpSocket.of({
        addresses,
        implementation,
        bind: ({ port }) => bind({ host: `127.0.0.${1 + (next++ % HOSTS)}`, port })
      })
    })
  ).pipe(Layer.provide(sockets))

const client = (variant: string, target: Target, flow: number): void => {
  const layers = Variants.parse(variant, "client")
  const runtime = ManagedRuntime.make(Variants.transport(layers))
  const many = ManagedRuntime.make(Variants.transport({ ...layers, sockets: spread(layers.sockets) }))
  const run = <A, E>(effect: Effect.Effect<A, E, Transport | Scope.Scope>): Promise<A> =>
    runtime.runPromise(Effect.scoped(effect))
  const connectMany = (count: number) =>
    Effect.forEach(
      Array.from({ length: count }, (_, i) => i),
      (i) => connect(target, i),
      { concurrency: 4 }
    )
  const held = Scope.makeUnsafe()
  serve({
    greet: async (count = 1) => {
      const greetings: Array<Traffic.Greeting> = []
      for (let i = 0; i < count; i++) {
        const start = performance.now()
        const greeting = Effect.gen(function* () {
          const connection = yield* connect(target, flow)
          const ready = performance.now() - start
          yield* pingPong(yield* opened(connection, Mode.Echo, flow), 1)
          return { ready, answer: performance.now() - start }
        })
        greetings.push(await run(greeting))
      }
      return greetings
    },
    echo: (count = 1) =>
      run(
        Effect.flatMap(connect(target, flow), (connection) =>
          Effect.flatMap(opened(connection, Mode.Echo, flow), (stream) => pingPong(stream, count))
        )
      ),
    bulk: (seconds = 1) => run(bulk(target, flow, seconds)),
    hash: (bytes = 0) => run(hashed(target, flow, bytes)),
    chat: (seconds = 1) => run(chat(target, flow, seconds, true)),
    calm: (seconds = 1) => run(chat(target, flow, seconds, false)),
    packets: () => packets,
    hold: (count = 1) =>
      many.runPromise(Effect.map(connectMany(count), (connections) => connections.length).pipe(Scope.provide(held))),
    crowd: (count = 1, bytesPerSecond = 1, seconds = 1) =>
      many.runPromise(
        Effect.gen(function* () {
          const connections = yield* connectMany(count)
          const from = Traffic.nowMs()
          const fibers = yield* Effect.forEach(connections, (connection, i) =>
            Effect.forkChild(member(connection, i, bytesPerSecond))
          )
          yield* Effect.sleep(seconds * 1000)
          const to = Traffic.nowMs()
          yield* Fiber.interruptAll(fibers)
          return { from, to }
        }).pipe(Effect.scoped)
      )
  })
}

const [role, variant = "fast", ...rest] = process.argv.slice(2)
if (role === "client") client(variant, { host: rest[0] ?? "127.0.0.1", port: Number(rest[1]) }, Number(rest[2] ?? 0))
else {
  listener(Number(rest[0])).pipe(
    Effect.scoped,
    Effect.provide(Variants.transport(Variants.parse(variant))),
    Effect.runFork
  )
}
