import { execFileSync } from "node:child_process"
import { Socket } from "node:dgram"
import { fileURLToPath } from "node:url"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import { MAX_QUEUED_BYTES, MAX_QUEUED_DATAGRAMS, ReceiveQueue } from "../../src/layers/ReceiveQueue.ts"
import * as SimulatedNetwork from "../../src/layers/SimulatedNetwork.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import type { Datagram, UdpSocket } from "../../src/services/UdpSocket.ts"
import { bind, contract, filled, LOOPBACK, receiveAll } from "./UdpSocketContract.ts"

const onNode: Layer.Layer<UdpSocket> = UdpSocketNode.layer
contract("UdpSocketNode", "real", (test) => Effect.scoped(Effect.provide(test, onNode)))
contract("SimulatedNetwork", "simulated", (test) =>
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
  it.effect("send waits until libuv has let go of the last datagram", () =>
    Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      // What dgram reports after the batch, and at its last datagram's callback.
      const sizes = [2 ** 30, 0]
      const spy = vi.spyOn(Socket.prototype, "getSendQueueSize").mockImplementation(() => sizes.shift() ?? 0)
      yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
      const nowhere = { host: "no.such.host", port: 1 }
      const values = [1, 2, 3, 4]
      const batch = [
        ...values.map((value) => ({ bytes: Uint8Array.of(value), remote: b.address })),
        { bytes: Uint8Array.of(5), remote: nowhere }
      ]
      const sending = yield* Effect.forkChild(a.send(batch), { startImmediately: true })
      assert.isUndefined(sending.pollUnsafe())
      yield* Fiber.join(sending)
      assert.lengthOf(sizes, 0)
      const got = yield* receiveAll(b, 4)
      assert.deepStrictEqual(
        got.map(({ bytes }) => bytes[0]),
        values
      )
    }).pipe(Effect.scoped, Effect.provide(onNode))
  )

  it("the buffers are the caller's again when libuv had to queue every datagram", () => {
    const program = fileURLToPath(new URL("UdpQueuedProgram.ts", import.meta.url))
    assert.strictEqual(
      execFileSync(process.execPath, ["--test-udp-no-try-send", program], { encoding: "utf8", stdio: "pipe" }),
      "0 wrong of 800"
    )
  })

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
