import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as TestClock from "effect/testing/TestClock"
import * as Settings from "../../src/domain/Settings.ts"
import * as MappedPort from "../../src/programs/MappedPort.ts"
import { type Mapping, PortMapper, PortMapperError } from "../../src/services/PortMapper.ts"
import { UdpSocket } from "../../src/services/UdpSocket.ts"

const PUBLIC = "203.0.113.7"

/** A router in memory. What it is set to is what it does next. */
class Router {
  readonly asked: Array<{ readonly port: number; readonly wanted: number | undefined; readonly at: number }> = []
  readonly mapped = new Map<number, number>()
  outside = PUBLIC
  lifetimeMs = 7_200_000
  shift = 0
  failure: PortMapperError | undefined
  now = 0

  readonly mapper: PortMapper["Service"] = {
    map: (port, before) =>
      Effect.suspend(() => {
        this.asked.push({ port, wanted: before?.outside.port, at: this.now })
        if (this.failure !== undefined) return Effect.fail(this.failure)
        const outside = { host: this.outside, port: port + this.shift }
        this.mapped.set(port, outside.port)
        const { lifetimeMs } = this
        const inside = { host: "192.168.1.7", port }
        return Effect.succeed<Mapping>({ protocol: "PCP", router: "192.168.1.1", inside, outside, lifetimeMs })
      }),
    unmap: ({ inside }) =>
      Effect.sync(() => {
        this.mapped.delete(inside.port)
      }),
    look: Effect.die(new Error("nobody looks"))
  }

  /** Lets time pass in steps that it can tell. */
  pass(seconds: number): Effect.Effect<void> {
    return Effect.repeat(
      Effect.suspend(() => {
        this.now += 1
        return TestClock.adjust("1 second")
      }),
      { times: seconds - 1 }
    )
  }
}

const SILENT = new PortMapperError({ reason: "NoRouter", message: "nobody is there" })

const world = Effect.fnUntraced(function* (ports: ReadonlyArray<number> = [50_000]) {
  const router = new Router()
  const open = yield* SubscriptionRef.make(ports)
  const start = Effect.gen(function* () {
    const mapped = yield* MappedPort.keep({ mapper: router.mapper, open })
    yield* TestClock.adjust(0)
    const present = Effect.map(SubscriptionRef.get(mapped), (now) => ({
      problem: now.problem,
      candidates: ports.flatMap((port) => MappedPort.candidates(now, port)),
      outside: [...now.ports.values()].map(({ outside }) => outside.port)
    }))
    return present
  })
  return { router, open, start }
})

describe("MappedPort", () => {
  it.effect("keeps a port mapped, asks for the same again long before it lapses, and gives it back at the end", () =>
    Effect.gen(function* () {
      const { router, start } = yield* world()
      router.shift = 7
      const scope = yield* Scope.make()
      const present = yield* Scope.provide(start, scope)
      assert.deepStrictEqual(yield* present, {
        problem: undefined,
        candidates: [{ kind: "mapped", address: PUBLIC, port: 50_007 }],
        outside: [50_007]
      })
      yield* router.pass(3600)
      assert.deepStrictEqual(
        router.asked.map(({ at, wanted }) => [at, wanted]),
        [[0, undefined], ...[600, 1200, 1800, 2400, 3000, 3600].map((at) => [at, 50_007])]
      )
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(router.mapped.size, 0)
    })
  )

  it.effect("renews at half of what a router grants, if that is short", () =>
    Effect.gen(function* () {
      const { router, start } = yield* world()
      router.lifetimeMs = 120_000
      yield* start
      yield* router.pass(300)
      assert.deepStrictEqual(
        router.asked.map(({ at }) => at),
        [0, 60, 120, 180, 240, 300]
      )
    })
  )

  it.effect("a router that was restarted gets the mapping again within ten minutes, wherever it puts it", () =>
    Effect.gen(function* () {
      const { router, start } = yield* world()
      const present = yield* start
      yield* router.pass(30)
      router.mapped.clear()
      router.outside = "203.0.113.8"
      router.shift = 100
      yield* router.pass(570)
      assert.deepStrictEqual([...router.mapped], [[50_000, 50_100]])
      assert.deepStrictEqual((yield* present).candidates, [{ kind: "mapped", address: "203.0.113.8", port: 50_100 }])
    })
  )

  it.effect("announces no address that is none of the internet, and says why", () =>
    Effect.gen(function* () {
      for (const outside of [
        "100.64.3.4",
        "10.0.0.1",
        "192.168.0.9",
        "0.0.0.0",
        "127.0.0.1",
        "169.254.1.1",
        "224.0.0.1"
      ]) {
        const { router, start } = yield* world()
        router.outside = outside
        const scope = yield* Scope.make()
        const { candidates, problem } = yield* yield* Scope.provide(start, scope)
        assert.deepStrictEqual(candidates, [])
        assert.match(
          problem ?? "",
          /^the router 192\.168\.1\.1 has no address of the internet itself, but [\d.]+: another NAT/
        )
        // Nor is a useless mapping left behind; half an hour later it may be of use.
        assert.strictEqual(router.mapped.size, 0)
        router.outside = PUBLIC
        router.asked.length = 0
        yield* TestClock.adjust("29 minutes")
        assert.lengthOf(router.asked, 0)
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(router.mapped.size, 1)
        yield* Scope.close(scope, Exit.void)
      }
    })
  )

  it.effect("tries ever more rarely where nobody answers, for ever", () =>
    Effect.gen(function* () {
      const { router, start } = yield* world()
      router.failure = SILENT
      const present = yield* start
      assert.deepStrictEqual(yield* present, { problem: "nobody is there", candidates: [], outside: [] })
      yield* router.pass(2 * 3600)
      assert.deepStrictEqual(
        router.asked.map(({ at }) => at),
        [0, 10, 30, 70, 150, 310, 630, 1270, 2550, 4350, 6150]
      )
      router.failure = undefined
      yield* router.pass(1800)
      assert.deepStrictEqual((yield* present).outside, [50_000])
      assert.isUndefined((yield* present).problem)
    })
  )

  it.effect("a router that falls silent is believed until the mapping lapses", () =>
    Effect.gen(function* () {
      const { router, start } = yield* world()
      router.lifetimeMs = 1_000_000
      const present = yield* start
      router.failure = SILENT
      yield* router.pass(990)
      assert.deepStrictEqual((yield* present).outside, [50_000])
      assert.isUndefined((yield* present).problem)
      yield* router.pass(700)
      assert.deepStrictEqual(yield* present, { problem: "nobody is there", candidates: [], outside: [] })
    })
  )

  it.effect("follows ports as they open and close", () =>
    Effect.gen(function* () {
      const { open, router, start } = yield* world([50_000])
      const present = yield* start
      yield* SubscriptionRef.set(open, [50_000, 51_000])
      yield* router.pass(1)
      assert.deepStrictEqual([...router.mapped.keys()], [50_000, 51_000])
      assert.strictEqual(router.asked.length, 2)
      yield* SubscriptionRef.set(open, [51_000])
      yield* router.pass(1)
      assert.deepStrictEqual([...router.mapped.keys()], [51_000])
      assert.deepStrictEqual((yield* present).outside, [51_000])
      yield* router.pass(1200)
      assert.deepStrictEqual(
        router.asked.slice(2).map(({ port }) => port),
        [51_000, 51_000]
      )
    })
  )

  it.effect("asks nobody where it is switched off", () =>
    Effect.gen(function* () {
      const open = yield* SubscriptionRef.make<ReadonlyArray<number>>([50_000])
      const mapped = yield* MappedPort.keep({ mapper: undefined, open })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* SubscriptionRef.get(mapped), { ports: new Map(), problem: undefined })
    })
  )

  it.effect("is asked for where settings and addresses say so, and looks at the addresses each time", () =>
    Effect.gen(function* () {
      const router = new Router()
      let hosts: ReadonlyArray<string> = []
      const sockets = UdpSocket.of({
        implementation: "",
        addresses: Effect.sync(() => hosts),
        bind: () => Effect.die(new Error("nobody binds"))
      })
      const askerOf = (changes: { bind?: string; publicPort?: number; portMapping?: boolean }) => {
        const { networking, server } = Settings.defaults("server", "/home")
        return MappedPort.asker({
          networking: { ...networking, portMapping: changes.portMapping },
          server: { ...server, bind: changes.bind ?? server.bind, publicPort: changes.publicPort }
        }).pipe(Effect.provideService(PortMapper, router.mapper), Effect.provideService(UdpSocket, sockets))
      }
      for (const never of [{ bind: "127.0.0.1" }, { bind: "203.0.113.5" }, { publicPort: 5 }, { portMapping: false }]) {
        assert.isUndefined(yield* askerOf(never), JSON.stringify(never))
      }
      const asker = (yield* askerOf({})) ?? assert.fail("nobody asks")
      const answers = Effect.map(Effect.result(asker.map(50_000)), ({ _tag }) => _tag)
      // At boot there may be no address yet.
      assert.strictEqual(yield* answers, "Failure")
      hosts = ["192.168.1.7"]
      assert.strictEqual(yield* answers, "Success")
      hosts = ["203.0.113.5"]
      assert.strictEqual(yield* answers, "Failure")
      const always =
        (yield* askerOf({ portMapping: true, bind: "203.0.113.5", publicPort: 5 })) ?? assert.fail("nobody")
      assert.strictEqual((yield* always.map(50_000)).protocol, "PCP")
      assert.isDefined(yield* askerOf({ bind: "10.0.0.1" }))
    })
  )

  it("helps servers that have only private addresses", () => {
    const cases: ReadonlyArray<readonly [boolean, string, ReadonlyArray<string>]> = [
      [true, "0.0.0.0", ["192.168.1.7"]],
      [true, "0.0.0.0", ["192.168.1.7", "10.8.0.2", "2a00::1"]],
      [true, "::", ["100.64.0.7"]],
      [true, "192.168.1.7", ["192.168.1.7"]],
      [false, "0.0.0.0", ["192.168.1.7", "203.0.113.5"]],
      [false, "0.0.0.0", []],
      [false, "0.0.0.0", ["2a00::1"]],
      [false, "127.0.0.1", ["192.168.1.7"]],
      [false, "203.0.113.5", ["192.168.1.7"]]
    ]
    for (const [expected, bind, hosts] of cases)
      assert.strictEqual(MappedPort.helps(bind, hosts), expected, `${bind} ${hosts}`)
  })
})
