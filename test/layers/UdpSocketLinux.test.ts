import { createSocket, Socket } from "node:dgram"
import { readdirSync } from "node:fs"
import { createServer, type Server } from "node:net"
import { assert, describe, it, vi } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Koffi from "../../src/layers/Koffi.ts"
import * as UdpSocketLinux from "../../src/layers/UdpSocketLinux.ts"
import * as UdpSocketNode from "../../src/layers/UdpSocketNode.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"
import { bind, contract, filled, LOOPBACK, receiveAll } from "./UdpSocketContract.ts"

const UDP_SEGMENT = 103
const UDP_GRO = 104
const IP_MTU_DISCOVER = 10

type Arguments = ReadonlyArray<number | Uint8Array | Int32Array>
/** What to answer in the kernel's place: an error's name; nothing to let the kernel. */
type Fault = (call: string, args: Arguments) => string | undefined

/** koffi whose C calls fail as a fault wants, and what of `sendto` reached it: lengths, and what became of them. */
const faulty = (fault: Fault) => {
  const sends: Array<readonly [length: number, error: string]> = []
  const koffi = Koffi.load()
  if (koffi === undefined) throw new Error("this test needs koffi")
  let faked = 0
  const library = new Proxy(koffi.load(null), {
    get: (target, key) => {
      if (key !== "func") return Reflect.get(target, key)
      return (definition: string) => {
        const call = definition.match(/(\w+)\(/)?.[1] ?? ""
        const real = target.func(definition)
        return (...args: Arguments): number => {
          const error = fault(call, args)
          if (call === "sendto") sends.push([Number(args[2]), error ?? ""])
          faked = error === undefined ? 0 : (koffi.os.errno[error] ?? 0)
          return error === undefined ? real(...args) : -1
        }
      }
    }
  })
  const proxy = new Proxy(koffi, {
    get: (target, key) => {
      if (key === "load") return () => library
      if (key === "errno") return () => (faked === 0 ? target.errno() : faked)
      return Reflect.get(target, key)
    }
  })
  const layerLate = (patience: number) => UdpSocketLinux.layerLateOf(() => proxy, patience)
  return { koffi: proxy, layer: UdpSocketLinux.layerOf(() => proxy), layerLate, sends }
}

const ID = Uint8Array.of(9, 8, 7, 6, 5, 4, 3, 2)
const INDEX = 20

/** Datagrams of one connection id side by side, each with its index in it. */
const burstOf = (count: number, segment: number, first = 0): Uint8Array => {
  const bytes = new Uint8Array(count * segment)
  for (let i = 0; i < count; i++) {
    bytes.set(ID, i * segment)
    bytes[i * segment + INDEX] = first + i
  }
  return bytes
}
const indexes = (datagrams: ReadonlyArray<{ readonly bytes: Uint8Array }>) => datagrams.map(({ bytes }) => bytes[INDEX])
const upTo = (count: number) => Array.from({ length: count }, (_, i) => i)

const implementation = Effect.map(UdpSocket, (sockets) => sockets.implementation)
const openFiles = Effect.sync(() => readdirSync("/proc/self/fd").length)
const turn = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

const available = UdpSocketLinux.available()

describe.skipIf(!available)(`UdpSocketLinux${available ? "" : " (skipped: needs Linux and koffi)"}`, () => {
  contract("UdpSocketLinux", "real", (test) => Effect.scoped(Effect.provide(test, UdpSocketLinux.layer)))

  it.effect("is what the default layer gives here, and its probes tell the truth", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* implementation, "linux GSO/GRO")
      for (const host of [LOOPBACK, "::"]) assert.isTrue((yield* bind(host)).probes)
    }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layer))
  )

  it.effect("sends 200 datagrams in four calls, which arrive in as many pieces", () => {
    const { layer, sends } = faulty(() => undefined)
    return Effect.gen(function* () {
      const emit = vi.spyOn(Socket.prototype, "emit")
      yield* Effect.addFinalizer(() => Effect.sync(() => emit.mockRestore()))
      const a = yield* bind()
      const b = yield* bind()
      yield* a.send([{ bytes: burstOf(200, 1200), segment: 1200, remote: b.address }])
      const got = yield* receiveAll(b, 200)
      assert.deepStrictEqual(indexes(got), upTo(200))
      assert.deepStrictEqual(
        sends.map(([length]) => length / 1200),
        [54, 54, 54, 38]
      )
      assert.lengthOf(
        emit.mock.calls.filter(([event]) => event === "message"),
        4
      )
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("drops a piece whose boundaries contradict each other, and goes on", () =>
    Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      const mixed = burstOf(3, 96)
      mixed[2 * 96] = 0xff
      yield* a.send([
        { bytes: mixed, segment: 96, remote: b.address },
        { bytes: burstOf(1, 96, 7), remote: b.address }
      ])
      assert.deepStrictEqual(indexes(yield* b.receive), [7])
    }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layer))
  )

  for (const [name, full] of [
    ["once", (n: number) => n === 1],
    ["every other time", (n: number) => n % 2 === 1],
    ["always", () => true]
  ] as const) {
    it.effect(`waits for room, in order, the buffers its own until then: EAGAIN ${name}`, () => {
      let calls = 0
      const { layer } = faulty((call) => (call === "sendto" && full(++calls) ? "EAGAIN" : undefined))
      return Effect.gen(function* () {
        const a = yield* bind()
        const b = yield* bind()
        const one = burstOf(3, 96)
        const two = burstOf(2, 144, 3)
        const three = burstOf(4, 96, 5)
        const first = yield* Effect.forkChild(
          Effect.andThen(
            a.send([
              { bytes: one, segment: 96, remote: b.address },
              { bytes: two, segment: 144, remote: b.address }
            ]),
            Effect.sync(() => {
              one.fill(0xff)
              two.fill(0xff)
            })
          ),
          { startImmediately: true }
        )
        // Comes while the first waits, and stays behind it.
        yield* a.send([{ bytes: three, segment: 96, remote: b.address }])
        three.fill(0xff)
        yield* Fiber.join(first)
        assert.deepStrictEqual(indexes(yield* receiveAll(b, 9)), upTo(9))
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  }

  it.effect("sends that wait for room end when the socket closes", () => {
    const { layer } = faulty((call) => (call === "sendto" ? "EAGAIN" : undefined))
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      const a = yield* Scope.provide(bind(), scope)
      // libuv never gets room.
      const spy = vi.spyOn(Socket.prototype, "send").mockImplementation(() => {})
      yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
      const send = a.send([{ bytes: burstOf(3, 96), segment: 96, remote: a.address }])
      const one = yield* Effect.forkChild(send, { startImmediately: true })
      const two = yield* Effect.forkChild(send, { startImmediately: true })
      yield* turn
      assert.isUndefined(one.pollUnsafe())
      assert.isUndefined(two.pollUnsafe())
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.join(one)
      yield* Fiber.join(two)
      assert.strictEqual(spy.mock.calls.length, 1)
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("sends one by one where the route has no segmentation (EIO), and remembers it of the host", () => {
    const { layer, sends } = faulty((call, args) => (call === "sendto" && Number(args[2]) > 96 ? "EIO" : undefined))
    return Effect.gen(function* () {
      const a = yield* bind("0.0.0.0")
      const b = yield* bind()
      for (let i = 0; i < 2; i++) {
        yield* a.send([{ bytes: burstOf(4, 96), segment: 96, remote: b.address }])
        assert.deepStrictEqual(indexes(yield* receiveAll(b, 4)), upTo(4))
      }
      assert.deepStrictEqual(
        sends.map(([length]) => length),
        [384, 96, 96, 96, 96, 96, 96, 96, 96]
      )
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("sends one by one from the length on that an older kernel refuses (EINVAL), smaller ones together", () => {
    const { layer, sends } = faulty((call, args) => (call === "sendto" && Number(args[2]) > 300 ? "EINVAL" : undefined))
    return Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      const send = (segment: number, count: number) =>
        Effect.andThen(
          a.send([{ bytes: burstOf(count, segment), segment, remote: b.address }]),
          Effect.map(receiveAll(b, count), (got) => assert.deepStrictEqual(indexes(got), upTo(count)))
        )
      yield* send(160, 2)
      yield* send(144, 2)
      yield* send(160, 1)
      yield* send(176, 2)
      assert.deepStrictEqual(sends, [
        [320, "EINVAL"],
        [160, ""],
        [160, ""],
        [288, ""],
        [160, ""],
        [176, ""],
        [176, ""]
      ])
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("tries a single datagram again without the length that is set, for kernels that mind it", () => {
    let segment = 0
    const { layer, sends } = faulty((call, args) => {
      if (call === "setsockopt" && args[2] === UDP_SEGMENT) segment = Number((args[3] as Int32Array)[0])
      return call === "sendto" && segment > 0 && Number(args[2]) <= segment ? "EINVAL" : undefined
    })
    return Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      yield* a.send([
        { bytes: burstOf(2, 96), segment: 96, remote: b.address },
        { bytes: burstOf(1, 96, 2), segment: 96, remote: b.address }
      ])
      assert.deepStrictEqual(indexes(yield* receiveAll(b, 3)), upTo(3))
      assert.deepStrictEqual(
        sends.map(([, error]) => error),
        ["", "EINVAL", ""]
      )
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("takes every other error for a loss", () => {
    const errors = ["ECONNREFUSED", "ENOBUFS", "EPERM", "EMSGSIZE", "EINVAL", "EIO", "ENETUNREACH", "EBADF"]
    const left = [...errors]
    const { layer } = faulty((call) => (call === "sendto" ? left.shift() : undefined))
    return Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      yield* a.send(errors.map((_, i) => ({ bytes: burstOf(1, 48, i), remote: b.address })))
      yield* a.send([{ bytes: burstOf(1, 48, 42), remote: b.address }])
      assert.deepStrictEqual(indexes(yield* b.receive), [42])
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  it.effect("fails to bind with the plain layer's words", () =>
    Effect.gen(function* () {
      const held = yield* bind()
      const places: ReadonlyArray<readonly [string, number]> = [
        [LOOPBACK, held.address.port],
        ["0.0.0.0", held.address.port],
        ["192.0.2.77", 0],
        ["2001:db8::77", 0],
        ["fe80::1%none", 0],
        ["localhost", 0],
        [LOOPBACK, 1.5]
      ]
      for (const [host, port] of places) {
        const why = Effect.map(Effect.flip(bind(host, port)), ({ reason, message }) => ({ reason, message }))
        const plain = yield* Effect.provide(why, UdpSocketNode.layer)
        assert.deepStrictEqual(yield* why, plain)
      }
    }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layer))
  )

  for (const [call, error, reason, message] of [
    ["bind", "EACCES", "Denied", "cannot bind UDP 127.0.0.1:80: not allowed (EACCES)"],
    ["socket", "EMFILE", "Other", "cannot bind UDP 127.0.0.1:80: the system refused (EMFILE)"],
    [
      "socket",
      "EAFNOSUPPORT",
      "Unavailable",
      "cannot bind UDP 127.0.0.1:80: not an address of this host (EAFNOSUPPORT)"
    ]
  ] as const) {
    it.effect(`${error} of ${call} is ${reason}`, () => {
      let armed = false
      const { layer } = faulty((name) => (armed && name === call ? error : undefined))
      return Effect.gen(function* () {
        const before = yield* openFiles
        armed = true
        const failure = yield* Effect.flip(bind(LOOPBACK, 80))
        assert.deepStrictEqual([failure.reason, failure.message], [reason, message])
        assert.strictEqual(yield* openFiles, before)
      }).pipe(Effect.scoped, Effect.provide(layer))
    })
  }

  it.effect("leaves no descriptor behind", () =>
    Effect.gen(function* () {
      const held = yield* bind()
      const round = Effect.andThen(Effect.scoped(bind()), Effect.flip(bind(LOOPBACK, held.address.port)))
      yield* round
      yield* turn
      const before = yield* openFiles
      for (let i = 0; i < 50; i++) yield* round
      yield* turn
      assert.strictEqual(yield* openFiles, before)
    }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layer))
  )

  it.effect("shares its port with nobody who asks", () =>
    Effect.gen(function* () {
      const { port } = (yield* bind()).address
      const error = yield* Effect.callback<string>((resume) => {
        const intruder = createSocket({ type: "udp4", reuseAddr: true })
        intruder.once("error", (cause: NodeJS.ErrnoException) => resume(Effect.succeed(cause.code ?? "")))
        intruder.bind(port, LOOPBACK, () => resume(Effect.succeed("bound")))
        return Effect.sync(() => intruder.close())
      })
      assert.strictEqual(error, "EADDRINUSE")
    }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layer))
  )

  it.effect("works without GRO and without probes, where the kernel has none", () => {
    const { layer } = faulty((call, args) =>
      call === "setsockopt" && (args[2] === UDP_GRO || args[2] === IP_MTU_DISCOVER) ? "ENOPROTOOPT" : undefined
    )
    return Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      assert.isFalse(a.probes)
      yield* a.send([{ bytes: burstOf(9, 96), segment: 96, remote: b.address }])
      assert.deepStrictEqual(indexes(yield* receiveAll(b, 9)), upTo(9))
    }).pipe(Effect.scoped, Effect.provide(layer))
  })

  for (const [what, fault] of [
    [
      "its kernel does not segment",
      (call, args) => (call === "setsockopt" && args[2] === UDP_SEGMENT ? "EINVAL" : undefined)
    ],
    ["it may not make sockets", (call) => (call === "socket" ? "EPERM" : undefined)],
    [
      "a call throws",
      (call) => {
        if (call === "socket") throw new Error("no such symbol")
        return undefined
      }
    ]
  ] as ReadonlyArray<readonly [string, Fault]>) {
    it.effect(`is the plain layer where ${what}`, () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* implementation, "node:dgram")
        const a = yield* bind()
        assert.isFalse(a.probes)
        yield* a.send([{ bytes: filled(48, 1), remote: a.address }])
        assert.lengthOf(yield* a.receive, 1)
      }).pipe(Effect.scoped, Effect.provide(faulty(fault).layer))
    )
  }
})

describe.skipIf(!available)(`UdpSocketLinux, late${available ? "" : " (skipped: needs Linux and koffi)"}`, () => {
  for (const patience of [0, 10, 1_000_000]) {
    contract(`UdpSocketLinux after ${patience} datagrams`, "real", (test) =>
      Effect.scoped(Effect.provide(test, UdpSocketLinux.layerLateOf(Koffi.load, patience)))
    )
  }

  it.effect("asks for koffi neither when it is made nor for a few datagrams", () => {
    let asked = 0
    const load = () => {
      asked++
      return Koffi.load()
    }
    return Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      for (let i = 0; i < 5; i++) {
        yield* a.send([{ bytes: burstOf(2, 96, 2 * i), segment: 96, remote: b.address }])
        assert.deepStrictEqual(indexes(yield* receiveAll(b, 2)), [2 * i, 2 * i + 1])
      }
      assert.strictEqual(asked, 0)
      assert.isTrue(a.probes)
      yield* a.send([{ bytes: burstOf(1, 96), remote: b.address }])
      assert.strictEqual(asked, 1)
      assert.strictEqual(yield* implementation, "linux GSO/GRO")
      assert.strictEqual(asked, 1)
    }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layerLateOf(load, 10)))
  })

  it.effect("what has arrived counts as what was sent", () => {
    const { layerLate, sends } = faulty(() => undefined)
    return Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* Effect.provide(bind(), UdpSocketNode.layer)
      yield* b.send([{ bytes: burstOf(11, 96), segment: 96, remote: a.address }])
      yield* receiveAll(a, 11)
      assert.lengthOf(sends, 0)
      yield* a.send([{ bytes: burstOf(3, 96), segment: 96, remote: b.address }])
      assert.deepStrictEqual(sends, [[288, ""]])
      assert.deepStrictEqual(indexes(yield* receiveAll(b, 3)), upTo(3))
    }).pipe(Effect.scoped, Effect.provide(layerLate(10)))
  })

  for (const host of [LOOPBACK, "0.0.0.0", "::", "::1"]) {
    it.effect(`finds its own descriptor among others: ${host}`, () => {
      const { layerLate, sends } = faulty(() => undefined)
      return Effect.gen(function* () {
        const others = [yield* bind(host), yield* bind("::"), yield* bind(LOOPBACK)]
        const a = yield* bind(host)
        const b = yield* bind(host)
        // A stream's socket may have the address, too.
        yield* Effect.acquireRelease(
          Effect.callback<Server>((resume) => {
            const server = createServer().listen(a.address.port, host, () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        const remote = { host: host.includes(":") ? "::1" : LOOPBACK, port: b.address.port }
        yield* a.send([{ bytes: burstOf(4, 96), segment: 96, remote }])
        const got = yield* receiveAll(b, 4)
        assert.deepStrictEqual(indexes(got), upTo(4))
        for (const each of got) assert.strictEqual(each.remote.port, a.address.port)
        assert.deepStrictEqual(sends, [[384, ""]])
        assert.lengthOf(others, 3)
      }).pipe(Effect.scoped, Effect.provide(layerLate(0)))
    })
  }

  it.effect("a probe leaves with fragments forbidden, whatever was carried before", () => {
    const calls: Array<string> = []
    const { layerLate } = faulty((call, args) => {
      if (call === "setsockopt" && args[2] === IP_MTU_DISCOVER) calls.push("probing")
      // Nothing of it leaves this host.
      if (call !== "sendto") return undefined
      calls.push(`${args[2]}`)
      return "EMSGSIZE"
    })
    return Effect.gen(function* () {
      const a = yield* bind("0.0.0.0")
      const remote = { host: "192.0.2.1", port: 9 }
      yield* a.send([{ bytes: burstOf(1, 1408), remote }])
      assert.deepStrictEqual(calls, ["probing", "1408"])
      assert.isTrue(a.probes)
    }).pipe(Effect.scoped, Effect.provide(layerLate(1000)))
  })

  it.effect("nothing overtakes what waits at libuv", () => {
    const { layerLate, sends } = faulty(() => undefined)
    return Effect.gen(function* () {
      const a = yield* bind()
      const b = yield* bind()
      const spy = vi.spyOn(Socket.prototype, "getSendQueueSize").mockReturnValueOnce(96)
      yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
      yield* a.send([{ bytes: burstOf(2, 96), segment: 96, remote: b.address }])
      assert.lengthOf(sends, 0)
      yield* a.send([{ bytes: burstOf(2, 96, 2), segment: 96, remote: b.address }])
      assert.lengthOf(sends, 1)
      assert.deepStrictEqual(indexes(yield* receiveAll(b, 4)), upTo(4))
    }).pipe(Effect.scoped, Effect.provide(layerLate(0)))
  })

  for (const [what, load] of [
    ["there is no koffi", () => undefined],
    ["its descriptor is not found", () => faulty((call) => (call === "getsockname" ? "EBADF" : undefined)).koffi]
  ] as ReadonlyArray<readonly [string, () => Koffi.Koffi | undefined]>) {
    it.effect(`goes on as it began where ${what}, and sends no probe that might be fragmented`, () =>
      Effect.gen(function* () {
        const spy = vi.spyOn(Socket.prototype, "send")
        yield* Effect.addFinalizer(() => Effect.sync(() => spy.mockRestore()))
        const a = yield* bind("0.0.0.0")
        const b = yield* bind()
        const large = 40_000
        yield* a.send([
          { bytes: burstOf(2, 96), segment: 96, remote: b.address },
          { bytes: burstOf(1, 1408), remote: { host: "192.0.2.1", port: 9 } },
          { bytes: burstOf(1, large, 2), remote: b.address }
        ])
        assert.isFalse(a.probes)
        assert.deepStrictEqual(indexes(yield* receiveAll(b, 3)), upTo(3))
        assert.deepStrictEqual(
          spy.mock.calls.map(([bytes]) => (bytes as Uint8Array).length),
          [96, 96, large]
        )
      }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layerLateOf(load, 1000)))
    )
  }

  it.effect("leaves no descriptor behind", () =>
    Effect.gen(function* () {
      const round = Effect.scoped(
        Effect.flatMap(bind(), (a) => a.send([{ bytes: burstOf(2, 96), segment: 96, remote: a.address }]))
      )
      yield* round
      yield* turn
      const before = yield* openFiles
      for (let i = 0; i < 50; i++) yield* round
      yield* turn
      assert.strictEqual(yield* openFiles, before)
    }).pipe(Effect.scoped, Effect.provide(UdpSocketLinux.layerLateOf(Koffi.load, 0)))
  )
})

describe("UdpSocketLinux without koffi", () => {
  it.effect("is the plain layer", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* implementation, "node:dgram")
    }).pipe(Effect.provide(UdpSocketLinux.layerOf(() => undefined)))
  )
})
