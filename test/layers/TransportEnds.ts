/** Two ends of a transport on real sockets, and what tests of it send, read and wait for. */
import { createHash } from "node:crypto"
import { networkInterfaces } from "node:os"
import { assert } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import type { Admission } from "../../src/domain/protocol/Credential.ts"
import type { KeyPair } from "../../src/domain/protocol/Primitives.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as TransportLive from "../../src/layers/TransportLive.ts"
import type { Crypto } from "../../src/services/Crypto.ts"
import {
  type Connection,
  type ConnectOptions,
  type Listener,
  type ListenOptions,
  type Patience,
  Transport,
  TransportError,
  type TransportStream
} from "../../src/services/Transport.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"

/** What one end runs on. */
export interface End {
  readonly sockets: Layer.Layer<UdpSocket>
  readonly crypto: Layer.Layer<Crypto>
  /** What the two call themselves. */
  readonly implementations: readonly [sockets: string, crypto: string]
  /** Bytes of the largest datagram it sends and reads. */
  readonly maxDatagram: number
}

export interface Kind {
  readonly name: string
  readonly client: End
  readonly server: End
  /** Why it cannot run here; empty where it can. */
  readonly missing: string
}

export const MB = 1_000_000
export const MAX_STREAMS = 64
export const LOOPBACK = "127.0.0.1"
export const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"))

const patient: Patience = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 }

// -- two ends ------------------------------------------------------------------------------------------------------

const keys = (fill: number) => CryptoNode.primitives.keyPair(new Uint8Array(32).fill(fill))
const SERVER = keys(200)
interface Device {
  readonly keys: KeyPair
  readonly name: string
  readonly credential: Pick<Admission, "id" | "psk" | "slot">
}

/** A device by its number, and what both sides know of it. */
export const device = (index: number): Device => ({
  keys: keys(index),
  name: `device ${index}`,
  credential: { id: new Uint8Array(16).fill(index), psk: new Uint8Array(32).fill(100 + index), slot: undefined }
})

/** The Transport of one end. */
const transport = ({ sockets, crypto, maxDatagram }: End) =>
  Effect.map(Layer.build(TransportLive.layerWith({ maxDatagram }).pipe(Layer.provide([sockets, crypto]))), (context) =>
    Context.get(context, Transport)
  )

export const admissionOf = ({ keys, credential }: Device): Admission => ({
  ...credential,
  // A file's device makes itself known.
  staticKey: credential.slot === undefined ? keys.publicKey : undefined,
  validUntil: Number.POSITIVE_INFINITY
})

/** Listens, and has heard whom to expect. */
export const listen = Effect.fnUntraced(function* (
  end: End,
  devices: ReadonlyArray<Device>,
  options: Partial<ListenOptions> = {}
) {
  const { listen } = yield* transport(end)
  const ready = yield* Deferred.make<void>()
  // Asked for the next list, it has the first.
  const asked = Effect.andThen(Deferred.succeed(ready, undefined), Effect.never)
  const listener = yield* listen({
    bind: { host: LOOPBACK, port: 0 },
    identity: SERVER,
    patience: patient,
    maxSessions: 20,
    admissions: Stream.concat(Stream.make(devices.map(admissionOf)), Stream.fromEffect(asked)),
    seenNonces: [],
    remember: () => Effect.void,
    enrolment: Effect.die(new Error("nobody enrols here")),
    enrol: () => Effect.succeed(false),
    notice: () => Effect.void,
    ...options
  })
  if (options.admissions === undefined) yield* Deferred.await(ready)
  return listener
})

export const connect = Effect.fnUntraced(function* (
  end: End,
  { keys, name, credential }: Device,
  { address }: Listener,
  options: Partial<ConnectOptions> = {}
) {
  const { connect } = yield* transport(end)
  return yield* connect({
    invitations: [{ ...credential, serverKey: SERVER.publicKey, endpoints: [address] }],
    identity: keys,
    deviceName: name,
    patience: patient,
    timeoutMs: 20_000,
    skewMs: 0,
    hints: [undefined],
    keepHints: () => Effect.void,
    answered: () => Effect.void,
    ...options
  })
})

interface Pair {
  readonly listener: Listener
  readonly near: Connection
  readonly far: Connection
}

/** One device and its server: both ends of a connection, with what options both have alike. */
export const pair = Effect.fnUntraced(function* ({ client, server }: Kind, options: Partial<ListenOptions> = {}) {
  const listener = yield* listen(server, [device(1)], options)
  const { patience = patient, streamWindow } = options
  const fixed = streamWindow === undefined ? {} : { streamWindow }
  const near = yield* connect(client, device(1), listener, { patience, ...fixed })
  const far = yield* listener.accept
  return { listener, near, far }
})

/** A test over both ends of a connection, and then with their roles swapped. */
export const bothWays = <A, E, R>(
  { near, far }: Pair,
  test: (from: Connection, to: Connection) => Effect.Effect<A, E, R>
) => Effect.andThen(test(near, far), test(far, near))

/** A stream from one end to the other, whose first byte was read. */
export const open = Effect.fnUntraced(function* (from: Connection, to: Connection, priority: Priority = Priority.Bulk) {
  const near = yield* from.open(priority)
  yield* near.write(Uint8Array.of(1))
  const far = yield* to.accept
  yield* receive(far, 1)
  return { near, far }
})

// -- bytes ---------------------------------------------------------------------------------------------------------

export const content = CryptoNode.entropySeeded("transport contract")(8 * MB)
/** Lengths of writes, in turn: shorter and longer than a datagram, a block and a window's part. */
const WRITES = [1, 65_536, 1199, 300_000, 16, 70_001, 5000, 65_536]

export const digestOf = (bytes: Uint8Array): string =>
  `${bytes.length} ${createHash("sha256").update(bytes).digest("hex")}`

/** Writes all of it in pieces, and ends the stream. */
export const send = Effect.fnUntraced(function* (stream: TransportStream, bytes: Uint8Array) {
  for (let at = 0, n = 0; at < bytes.length; n++) {
    const length = WRITES[n % WRITES.length] as number
    yield* stream.write(bytes.subarray(at, at + length))
    at += length
  }
  yield* stream.finish
})

/** Reads to the end of the stream. */
export const drain = (
  stream: TransportStream,
  onChunk: (chunk: Uint8Array) => void
): Effect.Effect<void, TransportError> =>
  Effect.forever(Effect.map(stream.read, (chunks) => chunks.forEach(onChunk))).pipe(
    Effect.catchIf(Cause.isDone, () => Effect.void)
  )

/** How much comes until the end of the stream, and its hash. */
export const digest = Effect.fnUntraced(function* (stream: TransportStream) {
  const hash = createHash("sha256")
  let length = 0
  yield* drain(stream, (chunk) => {
    hash.update(chunk)
    length += chunk.length
  })
  return `${length} ${hash.digest("hex")}`
})

/** Reads until `count` bytes are there, no more and no less. */
export const receive = Effect.fnUntraced(function* (stream: TransportStream, count: number) {
  const bytes = new Uint8Array(count)
  for (let at = 0; at < count; ) {
    for (const chunk of yield* stream.read) {
      assert.isAtMost(at + chunk.length, count)
      bytes.set(chunk, at)
      at += chunk.length
    }
  }
  return bytes
})

/** Back and forth on a stream that echoes. */
export const roundTrip = ({ near, far }: { readonly near: TransportStream; readonly far: TransportStream }) =>
  Effect.gen(function* () {
    yield* near.write(Uint8Array.of(7))
    yield* far.write(yield* receive(far, 1))
    assert.deepStrictEqual(yield* receive(near, 1), Uint8Array.of(7))
  })

export const endOf = (stream: TransportStream) =>
  Effect.map(Effect.flip(stream.read), (end) => (Cause.isDone(end) ? "Done" : end))

/** How reading or writing failed, and with which code. */
export const failure = <A>(effect: Effect.Effect<A, TransportError | Cause.Done>) =>
  Effect.map(Effect.flip(effect), (error) =>
    error instanceof TransportError ? [error.reason, error.code] : ["Done", undefined]
  )

/** One turn of the real event loop. */
export const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** Turns until it is so: for what only counters tell. */
export const until = <E>(condition: Effect.Effect<boolean, E>): Effect.Effect<void, E> =>
  Effect.flatMap(condition, (holds) => (holds ? Effect.void : Effect.andThen(turn, until(condition))))

/** With a TestClock that goes on meanwhile. */
export const moving = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
  Effect.raceFirst(effect, Effect.forever(Effect.andThen(TestClock.adjust(1), turn)))

/** Waits until neither end has a stream that is not over. */
export const allFree = (...ends: ReadonlyArray<Connection>) =>
  Effect.forEach(ends, (end) => until(Effect.map(end.stats, ({ openStreams }) => openStreams === 0)))

export const atOnce = { concurrency: "unbounded", discard: true } as const

/** An end whose datagrams, both ways, get lost from `cut` on. */
export const cuttable = (end: End) => {
  let isCut = false
  const sockets = Layer.effect(
    UdpSocket,
    Effect.map(UdpSocket, ({ addresses, bind, implementation }) =>
      UdpSocket.of({
        addresses,
        implementation,
        bind: (options) =>
          Effect.map(bind(options), (socket) => ({
            address: socket.address,
            probes: socket.probes,
            receive: Effect.flatMap(socket.receive, (batch) => (isCut ? Effect.never : Effect.succeed(batch))),
            send: (batch) => (isCut ? Effect.void : socket.send(batch))
          }))
      })
    )
  ).pipe(Layer.provide(end.sockets))
  return {
    end: { ...end, sockets },
    cut: () => {
      isCut = true
    }
  }
}
