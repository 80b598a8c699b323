import { execFileSync } from "node:child_process"
import { Socket } from "node:dgram"
import { networkInterfaces } from "node:os"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { MAX_QUEUED_BYTES, MAX_QUEUED_DATAGRAMS, ReceiveQueue } from "../../src/layers/ReceiveQueue.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import { type BoundSocket, type Datagram, UdpSocket } from "../../src/services/UdpSocket.ts"

const LOOPBACK = "127.0.0.1"
const bind = (host = LOOPBACK, port = 0) => UdpSocket.use((udp) => udp.bind({ host, port }))
const filled = (length: number, value: number) => new Uint8Array(length).fill(value)

/** Receives until `count` datagrams are there. */
const receiveAll = Effect.fnUntraced(function* (socket: BoundSocket, count: number) {
  const all: Array<Datagram> = []
  while (all.length < count) all.push(...(yield* socket.receive))
  return all
})

/** One turn of the real event loop. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

const hasIpv6 = Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1"))

const contract = (
  name: string,
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
          yield* a.send(sizes.map((size) => ({ bytes: filled(size, 7), remote: b.address })))
          const got = yield* receiveAll(b, sizes.length)
          assert.deepStrictEqual(
            got.map(({ bytes }) => bytes),
            sizes.map((size) => filled(size, 7))
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

    const dualStack = it.effect.skipIf(name === "UdpSocketNode" && !hasIpv6)
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

const onNode: Layer.Layer<UdpSocket> = UdpSocketNode.layer
contract("UdpSocketNode", (test) => Effect.scoped(Effect.provide(test, onNode)))
contract("SimulatedNetwork", (test) =>
  SimulatedNetwork.world({ seed: 1 }, (network) =>
    Effect.scoped(Effect.provide(test, network.host({ address: ["192.0.2.1", "2001:db8::1"] }).layer))
  )
)

describe("ReceiveQueue", () => {
  it("is flat under 200,000 arrivals, in datagrams and in bytes", () => {
    const small = new ReceiveQueue("small")
    const large = new ReceiveQueue("large")
    const remote = { host: LOOPBACK, port: 1 }
    const byte = filled(1, 0)
    const big = filled(65_507, 0)
    for (let i = 0; i < 200_000; i++) {
      small.pushUnsafe({ bytes: byte, remote })
      large.pushUnsafe({ bytes: big, remote })
    }
    assert.strictEqual(small.length, MAX_QUEUED_DATAGRAMS)
    assert.strictEqual(small.dropped, 200_000 - MAX_QUEUED_DATAGRAMS)
    assert.strictEqual(large.length, Math.floor(MAX_QUEUED_BYTES / 65_507))
  })

  it.effect("hands a batch to the reader who waited longest, the next batch to the next", () =>
    Effect.gen(function* () {
      const queue = new ReceiveQueue("queue")
      const remote = { host: LOOPBACK, port: 1 }
      const first = yield* Effect.forkChild(queue.receive, { startImmediately: true })
      const second = yield* Effect.forkChild(queue.receive, { startImmediately: true })
      queue.wakeUnsafe()
      for (const value of [1, 2]) queue.pushUnsafe({ bytes: Uint8Array.of(value), remote })
      queue.wakeUnsafe()
      queue.pushUnsafe({ bytes: Uint8Array.of(3), remote })
      queue.wakeUnsafe()
      const values = (batch: ReadonlyArray<Datagram>) => batch.map(({ bytes }) => bytes[0])
      assert.deepStrictEqual(values(yield* Fiber.join(first)), [1, 2])
      assert.deepStrictEqual(values(yield* Fiber.join(second)), [3])
    })
  )
})

describe("UdpSocketNode, full send queue", () => {
  it.effect("send waits until the queue is short again, then sends the rest in order", () =>
    Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      // What dgram reports before each datagram: empty, one queued (so it gets a callback), then too much, twice.
      const sizes = [0, 1, 2 ** 30, 2 ** 30]
      const spy = vi.spyOn(Socket.prototype, "getSendQueueSize").mockImplementation(() => sizes.shift() ?? 0)
      yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
      const batch = [1, 2, 3, 4].map((value) => ({ bytes: Uint8Array.of(value), remote: b.address }))
      const sending = yield* Effect.forkChild(a.send(batch), { startImmediately: true })
      assert.isUndefined(sending.pollUnsafe())
      yield* Fiber.join(sending)
      const got = yield* receiveAll(b, 4)
      assert.deepStrictEqual(
        got.map(({ bytes }) => bytes[0]),
        [1, 2, 3, 4]
      )
    }).pipe(Effect.scoped, Effect.provide(onNode))
  )

  it.effect("a send that waits ends when the socket closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(bind(), scope)
      const spy = vi.spyOn(Socket.prototype, "getSendQueueSize").mockReturnValue(2 ** 30)
      yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
      const sending = yield* Effect.forkChild(a.send([{ bytes: Uint8Array.of(1), remote: a.address }]), {
        startImmediately: true
      })
      assert.isUndefined(sending.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      assert.isUndefined(yield* Fiber.join(sending))
    }).pipe(Effect.scoped, Effect.provide(onNode))
  )
})

/** Node has no raw sockets: a datagram from port 0 takes root and a Python beside. */
const spoof = (port: string): boolean => {
  const script = [
    "import socket, struct, sys",
    "s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)",
    "port = int(sys.argv[1])",
    'if port: s.sendto(struct.pack("!HHHH", 0, port, 12, 0) + b"zero", ("127.0.0.1", 0))'
  ].join("\n")
  try {
    execFileSync("python3", ["-c", script, port], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
}
const canSpoof = spoof("0")

describe.skipIf(!canSpoof)(`UdpSocketNode, raw${canSpoof ? "" : " (skipped: needs root and python3)"}`, () => {
  it.effect("never shows a datagram from source port 0", () =>
    Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      assert.isTrue(spoof(String(b.address.port)))
      yield* a.send([{ bytes: filled(4, 1), remote: b.address }])
      const got = yield* receiveAll(b, 1)
      assert.deepStrictEqual(got, [{ bytes: filled(4, 1), remote: a.address }])
    }).pipe(Effect.scoped, Effect.provide(onNode))
  )
})
