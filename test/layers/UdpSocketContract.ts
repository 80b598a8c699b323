/** What every UdpSocket does, run on every layer of it. */
import { networkInterfaces } from "node:os"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import { MAX_QUEUED_DATAGRAMS } from "../../src/layers/ReceiveQueue.ts"
import { type BoundSocket, type Burst, type Datagram, UdpSocket } from "../../src/services/UdpSocket.ts"

export const LOOPBACK = "127.0.0.1"
export const bind = (host = LOOPBACK, port = 0) => UdpSocket.use((udp) => udp.bind({ host, port }))
export const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

/** Receives until `count` datagrams are there. */
export const receiveAll = Effect.fnUntraced(function* (socket: BoundSocket, count: number) {
  const all: Array<Datagram> = []
  while (all.length < count) all.push(...(yield* socket.receive))
  return all
})

/** One turn of the real event loop. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"))

export const contract = (
  name: string,
  kind: "real" | "simulated",
  run: <A, E>(test: Effect.Effect<A, E, UdpSocket | Scope.Scope>) => Effect.Effect<A, E>
) =>
  describe(`UdpSocket contract: ${name}`, () => {
    it.effect("echoes, and each end sees the other's bound address", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          yield* a.send([{ bytes: filled(48, 1), remote: b.address }])
          const [asked] = yield* b.receive
          assert.deepStrictEqual(asked, { bytes: filled(48, 1), remote: a.address })
          yield* b.send([{ bytes: filled(16, 2), remote: asked.remote }])
          const [answered] = yield* a.receive
          assert.deepStrictEqual(answered, { bytes: filled(16, 2), remote: b.address })
          assert.isAbove(a.address.port, 0)
          assert.notStrictEqual(a.address.port, b.address.port)
        })
      )
    )

    it.effect("keeps order and hands out what has arrived in batches", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          const batch = Array.from({ length: 200 }, (_, i) => ({ bytes: Uint8Array.of(i), remote: b.address }))
          yield* a.send(batch)
          const first = yield* b.receive
          const all = [...first, ...(first.length < 200 ? yield* receiveAll(b, 200 - first.length) : [])]
          assert.isAbove(first.length, 1)
          assert.deepStrictEqual(
            all.map(({ bytes }) => bytes[0]),
            batch.map(({ bytes }) => bytes[0])
          )
        })
      )
    )

    it.effect("carries 0, 1, 1200 and 65,507 bytes", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          const sizes = [0, 1, 1200, 65_507]
          // As a datagram of the protocol, none repeats its first bytes.
          const content = (size: number) =>
            Uint8Array.from({ length: size }, (_, i) => Math.imul(i * i + 1, 0x9e3779b1) >>> 24)
          yield* a.send(sizes.map((size) => ({ bytes: content(size), remote: b.address })))
          const got = yield* receiveAll(b, sizes.length)
          assert.deepStrictEqual(
            got.map(({ bytes }) => bytes),
            sizes.map(content)
          )
        })
      )
    )

    it.effect("splits a burst into its datagrams, the last one shorter, and leaves the buffer to the caller", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          // In the middle of a larger buffer, as a sender has it that writes many bursts into one. The datagrams of a
          // burst begin with one connection id, by which a receiver that gets them in one piece tells them apart.
          const buffer = Uint8Array.from({ length: 16_384 }, (_, i) => (i * 7) % 251)
          const sent: Array<Uint8Array> = []
          const burst = (start: number, length: number, segment?: number): Burst => {
            const bytes = buffer.subarray(start, start + length)
            const ends = segment ?? Math.max(1, length)
            for (let at = 0; at < Math.max(1, length); at += ends) {
              if (length >= 48) bytes.set(buffer.subarray(start, start + 8), at)
              sent.push(bytes.slice(at, at + ends))
            }
            return { bytes, remote: b.address, ...(segment === undefined ? {} : { segment }) }
          }
          const batch = [
            burst(16, 3 * 1200 + 48, 1200),
            burst(4000, 2 * 96, 96),
            burst(4300, 1200, 1200),
            burst(5600, 48, 1200),
            burst(5700, 500),
            burst(6300, 0, 1200),
            burst(6300, 70 * 48, 48),
            burst(9700, 4 * 1440, 1440)
          ]
          yield* a.send(batch)
          buffer.fill(0xff)
          const got = yield* receiveAll(b, sent.length)
          assert.deepStrictEqual(
            got.map(({ bytes }) => bytes),
            sent
          )
        })
      )
    )

    it.effect("gives the receiver buffers of its own, whose slice copies", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          const sent = filled(32, 3)
          yield* a.send([{ bytes: sent, remote: b.address }])
          const [{ bytes }] = yield* b.receive
          const copy = bytes.slice(0, 4)
          bytes.fill(9)
          assert.deepStrictEqual(copy, filled(4, 3))
          assert.deepStrictEqual(sent, filled(32, 3))
        })
      )
    )

    it.effect("loses nothing when a reader is interrupted", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          const reader = yield* Effect.forkChild(b.receive, { startImmediately: true })
          yield* Fiber.interrupt(reader)
          yield* a.send([{ bytes: filled(8, 1), remote: b.address }])
          assert.lengthOf(yield* b.receive, 1)
        })
      )
    )

    it.effect("fails pending and later reads with Closed when its scope closes, and sends go nowhere", () =>
      run(
        Effect.gen(function* () {
          const scope = yield* Scope.make()
          const a = yield* Scope.provide(bind(), scope)
          const pending = yield* Effect.forkChild(Effect.flip(a.receive), { startImmediately: true })
          yield* Scope.close(scope, Exit.void)
          assert.strictEqual((yield* Fiber.join(pending)).reason, "Closed")
          assert.strictEqual((yield* Effect.flip(a.receive)).reason, "Closed")
          yield* a.send([{ bytes: filled(8, 1), remote: { host: LOOPBACK, port: 9 } }])
          const again = yield* bind(LOOPBACK, a.address.port)
          assert.deepStrictEqual(again.address, a.address)
        })
      )
    )

    it.effect("refuses a busy port, a foreign address, a name, a port that is none", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const reason = (host: string, port: number) =>
            Effect.map(Effect.flip(bind(host, port)), (error) => {
              assert.include(error.message, "cannot bind")
              return error.reason
            })
          assert.strictEqual(yield* reason(LOOPBACK, a.address.port), "Busy")
          assert.strictEqual(yield* reason("0.0.0.0", a.address.port), "Busy")
          assert.strictEqual(yield* reason("192.0.2.77", 0), "Unavailable")
          assert.strictEqual(yield* reason("localhost", 0), "Unavailable")
          assert.strictEqual(yield* reason("", 0), "Unavailable")
          assert.strictEqual(yield* reason(LOOPBACK, 65_536), "Other")
        })
      )
    )

    it.effect("survives sends to dead ports, no ports, no hosts, other families, and too long ones", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          const scope = yield* Scope.make()
          const gone = yield* Scope.provide(bind(), scope)
          yield* Scope.close(scope, Exit.void)
          const bytes = filled(16, 1)
          const remotes = [
            gone.address,
            ...[0, -1, 1.5, 65_536, Number.NaN].map((port) => ({ host: LOOPBACK, port })),
            ...["", "localhost", "no.such.host", "1.2.3", "::1", "::ffff:x", "255.255.255.255", "[::1]"].map(
              (host) => ({
                host,
                port: 4000
              })
            )
          ]
          for (let i = 0; i < 3; i++) yield* a.send(remotes.map((remote) => ({ bytes, remote })))
          yield* a.send([{ bytes: filled(70_000, 1), remote: b.address }])
          yield* a.send([])
          yield* a.send([{ bytes: filled(16, 2), remote: b.address }])
          const got = yield* receiveAll(b, 1)
          assert.deepStrictEqual(got, [{ bytes: filled(16, 2), remote: a.address }])
        })
      )
    )

    const dualStack = it.effect.skipIf(kind === "real" && !hasIpv6)
    dualStack("a dual-stack socket shows IPv4 sources plain and answers them (skipped where there is no ::1)", () =>
      run(
        Effect.gen(function* () {
          const both = yield* bind("::")
          const four = yield* bind()
          yield* four.send([{ bytes: filled(16, 1), remote: { host: LOOPBACK, port: both.address.port } }])
          const [asked] = yield* both.receive
          assert.deepStrictEqual(asked.remote, four.address)
          yield* both.send([{ bytes: filled(16, 2), remote: asked.remote }])
          const [answered] = yield* four.receive
          assert.deepStrictEqual(answered.remote, { host: LOOPBACK, port: both.address.port })
          const six = yield* bind("::1")
          yield* both.send([{ bytes: filled(16, 3), remote: six.address }])
          const [crossed] = yield* six.receive
          assert.deepStrictEqual(crossed.remote, { host: "::1", port: both.address.port })
          assert.strictEqual((yield* Effect.flip(bind("0.0.0.0", both.address.port))).reason, "Busy")
        })
      )
    )

    it.effect("stays bounded when nobody reads, and works again afterwards", () =>
      run(
        Effect.gen(function* () {
          const a = yield* bind()
          const b = yield* bind()
          const burst = Array.from({ length: 100 }, () => ({ bytes: filled(16, 1), remote: b.address }))
          for (let i = 0; i < 100; i++) {
            yield* a.send(burst)
            yield* turn
          }
          const batch = yield* b.receive
          assert.isAtMost(batch.length, MAX_QUEUED_DATAGRAMS)
          const last = yield* Effect.forkChild(
            Effect.gen(function* () {
              let marks = 0
              while (marks === 0) marks = (yield* b.receive).filter(({ bytes }) => bytes[0] === 2).length
              return marks
            })
          )
          yield* a.send([{ bytes: filled(16, 2), remote: b.address }])
          assert.strictEqual(yield* Fiber.join(last), 1)
        })
      )
    )
  })
