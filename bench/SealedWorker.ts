/**
 * One of three processes: `tier`, `relay PORT` and `client PORT`. The client's streams are spliced to the tier as the server
 * does it; their first byte says whether what follows is sealed, under keys that both have from the start.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Stream from "effect/Stream"
import { Priority } from "../src/domain/protocol/Streams.ts"
import * as CryptoOpenSsl from "../src/layers/CryptoOpenSsl.ts"
import * as TransportLive from "../src/layers/TransportLive.ts"
import * as UdpSocketLinux from "../src/layers/UdpSocketLinux.ts"
import { STREAM_WINDOW } from "../src/programs/LlmLink.ts"
import * as SealedStream from "../src/programs/SealedStream.ts"
import { splice } from "../src/programs/Splice.ts"
import { take } from "../src/programs/StreamReader.ts"
import { type Connection, Transport, type TransportStream } from "../src/services/Transport.ts"
import { serve, type Vitals } from "./Harness.ts"
import * as Peers from "./Peers.ts"

export interface TierQuestions extends Vitals {
  port: number
}

export interface ClientQuestions extends Vitals {
  /** `sealed` (0 or 1), seconds: MB/s from client to tier, as the tier counted. */
  bulk: number
  /** `sealed`, count: ms of each round trip of 64 bytes. */
  echo: ReadonlyArray<number>
}

const HOST = "127.0.0.1"
const PATIENCE = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 }
const Mode = { Bulk: 0, Echo: 1 } as const
const BLOCK = new Uint8Array(64 * 1024).fill(7)
const MESSAGE = new Uint8Array(64).fill(7)
const CLIENT_KEY = new Uint8Array(32).fill(1)
const TIER_KEY = new Uint8Array(32).fill(2)

const listen = (streamWindow?: number) =>
  Effect.flatMap(Transport, (transport) =>
    transport.listen({
      bind: { host: HOST, port: 0 },
      identity: Peers.serverKeys,
      patience: PATIENCE,
      maxSessions: 8,
      ...(streamWindow === undefined ? {} : { streamWindow }),
      admissions: Stream.concat(Stream.make([Peers.admission(Peers.device(0))]), Stream.never),
      seenNonces: [],
      remember: () => Effect.void,
      enrolment: Effect.succeed({ portSeed: new Uint8Array(32), llmKey: undefined }),
      enrol: () => Effect.succeed(true),
      notice: () => Effect.void
    })
  )

const connect = (port: number, streamWindow?: number) =>
  Effect.flatMap(Transport, (transport) =>
    transport.connect({
      invitations: [Peers.invitation(Peers.device(0), HOST, port)],
      identity: Peers.device(0).keys,
      deviceName: "bench",
      patience: PATIENCE,
      ...(streamWindow === undefined ? {} : { streamWindow }),
      timeoutMs: 20_000,
      skewMs: 0,
      hints: [undefined],
      keepHints: () => Effect.void,
      answered: () => Effect.void
    })
  )

const each = (connection: Connection, use: (stream: TransportStream) => Effect.Effect<unknown, unknown>) =>
  Effect.forever(Effect.flatMap(connection.accept, (stream) => Effect.forkChild(Effect.ignore(use(stream)))))

const tier = Effect.gen(function* () {
  const sealing = yield* SealedStream.sealing
  const listener = yield* listen(STREAM_WINDOW)
  serve({ port: () => listener.address.port })
  const answer = Effect.fnUntraced(function* (raw: TransportStream) {
    const { head, rest } = yield* take(raw, 2)
    const keys = { sealing, sendKey: TIER_KEY.slice(), receiveKey: CLIENT_KEY.slice() }
    const stream = head[0] === 1 ? SealedStream.wrap(rest, keys) : rest
    if (head[1] === Mode.Echo) {
      const back = Effect.flatMap(stream.read, (chunks) => Effect.forEach(chunks, stream.write, { discard: true }))
      return yield* Effect.forever(back)
    }
    let bytes = 0
    const count = Effect.map(stream.read, (chunks) => {
      for (const chunk of chunks) bytes += chunk.length
    })
    yield* Effect.catchIf(Effect.forever(count), Cause.isDone, () => Effect.void)
    yield* stream.write(new TextEncoder().encode(String(bytes)))
    yield* stream.finish
  })
  yield* Effect.forever(
    Effect.flatMap(listener.accept, (connection) => Effect.forkChild(Effect.ignore(each(connection, answer))))
  )
})

const relay = (port: number) =>
  Effect.gen(function* () {
    const link = yield* connect(port, STREAM_WINDOW)
    const listener = yield* listen()
    serve({ port: () => listener.address.port })
    const onward = (stream: TransportStream) =>
      Effect.flatMap(link.open(Priority.Interactive), (upstream) => splice(stream, upstream))
    yield* Effect.forever(
      Effect.flatMap(listener.accept, (connection) => Effect.forkChild(Effect.ignore(each(connection, onward))))
    )
  })

const client = (port: number) =>
  Effect.gen(function* () {
    const sealing = yield* SealedStream.sealing
    const connection = yield* connect(port)
    const opened = Effect.fnUntraced(function* (sealed: number, mode: number) {
      const stream = yield* connection.open(Priority.Interactive)
      yield* stream.write(Uint8Array.of(sealed, mode))
      const keys = { sealing, sendKey: CLIENT_KEY.slice(), receiveKey: TIER_KEY.slice() }
      return sealed === 1 ? SealedStream.wrap(stream, keys) : stream
    })
    const bulk = Effect.fnUntraced(function* (sealed: number, seconds: number) {
      const stream = yield* opened(sealed, Mode.Bulk)
      const from = performance.now()
      const pumping = yield* Effect.forkChild(Effect.forever(stream.write(BLOCK)))
      yield* Effect.sleep(seconds * 1000)
      yield* Fiber.interrupt(pumping)
      yield* stream.finish
      let text = ""
      const read = Effect.map(stream.read, (chunks) => {
        for (const chunk of chunks) text += new TextDecoder().decode(chunk)
      })
      yield* Effect.catchIf(Effect.forever(read), Cause.isDone, () => Effect.void)
      return Number(text) / 1e3 / (performance.now() - from)
    })
    const echo = Effect.fnUntraced(function* (sealed: number, count: number) {
      const stream = yield* opened(sealed, Mode.Echo)
      const took: Array<number> = []
      for (let i = 0; i < count; i++) {
        const from = performance.now()
        yield* stream.write(MESSAGE)
        for (let got = 0; got < MESSAGE.length; ) for (const chunk of yield* stream.read) got += chunk.length
        took.push(performance.now() - from)
      }
      yield* stream.finish
      yield* stream.stop(0)
      return took
    })
    serve({
      bulk: (sealed = 0, seconds = 1) => Effect.runPromise(bulk(sealed, seconds)),
      echo: (sealed = 0, count = 1) => Effect.runPromise(echo(sealed, count))
    })
    yield* Effect.never
  })

const [role, port = "0"] = process.argv.slice(2)
const layer = TransportLive.layer.pipe(Layer.provideMerge(Layer.mergeAll(CryptoOpenSsl.layer, UdpSocketLinux.layer)))
const program = role === "tier" ? tier : role === "relay" ? relay(Number(port)) : client(Number(port))
await ManagedRuntime.make(layer).runPromise(Effect.scoped(program))
