/** A peer that never reads, through the Transport service on real sockets: its writer waits, nobody else does. */
import { assert, describe, layer } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as TransportLive from "../../src/layers/TransportLive.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import { type Connection, type Patience, Transport, type TransportStream } from "../../src/services/Transport.ts"
import { inUse } from "../protocol/HostilePeer.ts"

const MB = 1_000_000
const BLOCK = 65_536
const OTHER_BYTES = 1024 * BLOCK
/** What one unread stream may take of its writer: its first window and the send buffer, each with room to spare. */
const MOST_TAKEN = 12 * MB
const LOOPBACK = "127.0.0.1"

const transport = TransportLive.layer.pipe(Layer.provide([CryptoNode.layer, UdpSocketNode.layer]))
const patience: Patience = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 }

const keys = (fill: number) => CryptoNode.primitives.keyPair(new Uint8Array(32).fill(fill))
const device = (index: number) => ({ id: new Uint8Array(16).fill(index), psk: new Uint8Array(32).fill(100 + index) })

/** A listener, and a connection to it: both ends. */
const pair = Effect.gen(function* () {
  const { connect, listen } = yield* Transport
  const credential = { ...device(1), slot: undefined }
  const listener = yield* listen({
    bind: { host: LOOPBACK, port: 0 },
    identity: keys(2),
    patience,
    maxSessions: 10,
    admissions: Stream.concat(
      Stream.make([{ ...credential, staticKey: keys(1).publicKey, validUntil: Number.POSITIVE_INFINITY }]),
      Stream.never
    ),
    seenNonces: [],
    remember: () => Effect.void,
    enrolment: Effect.die(new Error("nobody enrols here")),
    enrol: () => Effect.succeed(false),
    notice: () => Effect.void
  })
  const near = yield* connect({
    invitations: [{ ...credential, serverKey: keys(2).publicKey, endpoints: [listener.address] }],
    identity: keys(1),
    deviceName: "test",
    patience,
    timeoutMs: 10_000,
    skewMs: 0,
    hints: [undefined],
    keepHints: () => Effect.void,
    answered: () => Effect.void
  })
  return { near, far: yield* listener.accept }
})

/** A stream from one to the other; its first byte has arrived. */
const open = Effect.fnUntraced(function* (from: Connection, to: Connection) {
  const near = yield* from.open(Priority.Bulk)
  yield* near.write(Uint8Array.of(1))
  const far = yield* to.accept
  yield* far.read
  return { near, far }
})

const block = (n: number): Uint8Array => new Uint8Array(BLOCK).fill(n & 0xff)

/** Reads to the end and answers how much it was; every byte is the one that belongs there. */
const readAll = Effect.fnUntraced(function* (stream: TransportStream) {
  let read = 0
  let wrong = 0
  const more = Effect.map(stream.read, (chunks) => {
    for (const chunk of chunks) {
      for (const byte of chunk) if (byte !== (Math.floor(read++ / BLOCK) & 0xff)) wrong++
    }
  })
  yield* Effect.forever(more).pipe(Effect.catchIf(Cause.isDone, () => Effect.void))
  assert.strictEqual(wrong, 0)
  return read
})

const writeAll = Effect.fnUntraced(function* (stream: TransportStream, bytes: number) {
  for (let n = 0; n * BLOCK < bytes; n++) yield* stream.write(block(n))
  yield* stream.finish
})

describe("A peer that never reads, over real sockets", () => {
  layer(transport, { excludeTestServices: true })("on either side", (it) => {
    for (const role of ["client", "server"] as const) {
      it.effect(`stops the writer of its stream and no other, as a ${role}`, () =>
        Effect.scoped(
          Effect.gen(function* () {
            const { far, near } = yield* pair
            const [from, to] = role === "client" ? [far, near] : [near, far]
            const unread = yield* open(from, to)
            const other = yield* open(from, to)
            const before = inUse()
            let taken = 0
            const writer = yield* Effect.forkScoped(
              Effect.gen(function* () {
                for (let n = 0; n < 512; n++) {
                  yield* unread.near.write(block(n))
                  taken += BLOCK
                }
                yield* unread.near.finish
              })
            )
            // Far more than the silent stream would take, in the same time.
            const mover = yield* Effect.forkScoped(writeAll(other.near, OTHER_BYTES))
            assert.strictEqual(yield* readAll(other.far), OTHER_BYTES)
            yield* Fiber.join(mover)
            assert.isAbove(taken, 0)
            assert.isAtMost(taken, MOST_TAKEN)
            assert.isAtMost(inUse() - before, 4 * MOST_TAKEN)
            // Once it is read the writer goes on, and nothing is missing.
            assert.strictEqual(yield* readAll(unread.far), 512 * BLOCK)
            yield* Fiber.join(writer)
            assert.strictEqual(taken, 512 * BLOCK)
          })
        )
      )
    }

    it.effect("cannot pile up streams that nobody accepts by giving them up again", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { far, near } = yield* pair
          const churn = Effect.fnUntraced(function* (count: number) {
            for (let n = 0; n < count; n++) {
              const stream = yield* near.open(Priority.Bulk)
              yield* stream.write(Uint8Array.of(1))
              yield* stream.reset(7)
              yield* stream.stop(7)
            }
          })
          yield* churn(500)
          const before = inUse()
          yield* churn(5000)
          assert.isAtMost(inUse() - before, MB)
          assert.isAtMost((yield* far.stats).openStreams, 64)
        })
      )
    )

    it.effect("has of its unread datagrams only the last", () =>
      Effect.scoped(
        Effect.gen(function* () {
          const { far, near } = yield* pair
          const marks = yield* open(near, far)
          const before = inUse()
          const sent = 5000
          for (let n = 0; n < sent; n++) {
            yield* near.sendDatagram(Uint8Array.of(n >> 8, n & 0xff))
            // An answer now and then, so that what is sent also leaves.
            if (n % 32 === 31) {
              yield* marks.near.write(Uint8Array.of(n & 0xff))
              yield* marks.far.read
            }
          }
          assert.isAtMost(inUse() - before, 4 * MB)
          yield* near.close(0, "")
          yield* far.closed
          const got: Array<number> = []
          yield* Effect.ignore(
            Effect.forever(Effect.map(far.receiveDatagram, ([high = 0, low = 0]) => got.push(high * 256 + low)))
          )
          assert.isAtLeast(got.length, 1)
          assert.isAtMost(got.length, 256)
          assert.isAtLeast(got[0] ?? 0, sent - 1000)
        })
      )
    )
  })
})
