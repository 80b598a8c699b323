/** The timetable of a server's ports alone, over a listener that only notes what it is asked for. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import * as TestClock from "effect/testing/TestClock"
import { PORT_ANNOUNCE_MS, PORT_GRACE_MS, PORT_PERIOD_MS } from "../../src/domain/protocol/Constants.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import * as PortRotation from "../../src/programs/PortRotation.ts"
import { type Listener, type OpenPort, TransportError } from "../../src/services/Transport.ts"
import { UdpSocketError } from "../../src/services/UdpSocket.ts"
import { NOW } from "./CredentialSupport.ts"
import { LISTENER } from "./FakeListener.ts"

const seedOf = (value: number): Uint8Array => new Uint8Array(32).fill(value)
const VALIDITY_MS = 11 * 60_000

/** A listener whose ports are numbers, and what was asked of it, with the time. */
class Ports {
  readonly asked: Array<string> = []
  readonly open = new Set<number>()
  /** Ports that somebody else has. */
  readonly busy = new Set<number>()
  /** Sessions by port. */
  readonly sessions = new Map<number, number>()
  readonly listener: Listener
  #vias = 0

  constructor(first: number) {
    const bind = (port: number): OpenPort => {
      this.open.add(port)
      return {
        address: { host: "0.0.0.0", port },
        via: this.#vias++,
        sessions: Effect.sync(() => this.sessions.get(port) ?? 0),
        close: this.#note(`close ${port}`, () => this.open.delete(port))
      }
    }
    this.listener = {
      ...LISTENER,
      first: bind(first),
      open: (port) =>
        Effect.suspend(() => {
          if (this.open.has(port) || this.busy.has(port)) {
            const cause = new UdpSocketError({ reason: "Busy", message: "taken" })
            return Effect.fail(new TransportError({ reason: "Bind", message: `${port} is taken`, cause }))
          }
          return Effect.sync(() => bind(port))
        }),
      move: (from, to) => this.#note(`move ${from.address.port} ${to.address.port}`),
      announce: (port, inMs) => this.#note(`announce ${port} in ${Math.round(inMs / 1000)}`)
    }
  }

  #note(line: string, act: () => void = () => {}): Effect.Effect<void> {
    return Effect.sync(() => {
      this.asked.push(line)
      act()
    })
  }
}

/** A rotation that runs from the middle of a period, at a time of day that the test may set. */
const begun = Effect.fnUntraced(function* (options: { readonly periodMs?: number; readonly seed?: number } = {}) {
  const { periodMs = PORT_PERIOD_MS, seed = 1 } = options
  const schedule = PortSchedule.make(primitives, seedOf(seed), periodMs)
  const period = schedule.periodAt(NOW)
  const startsAt = schedule.startOf(period + 1)
  yield* TestClock.setTime(startsAt - periodMs / 2)
  const [first = 0] = schedule.portsOf(period)
  const ports = new Ports(first)
  const events: Array<string> = []
  const clock = yield* Clock.clockWith(Effect.succeed)
  const wall = { offset: 0 }
  const made = PortRotation.make({
    schedule,
    periodMs,
    graceMs: PORT_GRACE_MS,
    listener: ports.listener,
    changed: (event) =>
      Effect.sync(() => {
        events.push(event.type === "PutOff" ? `PutOff ${event.port}: ${event.why}` : `${event.type} ${event.port}`)
      })
  })
  const running = Effect.tap(made, ({ run }) => Effect.forkScoped(run))
  const rotation = yield* Effect.provideService(running, Clock.Clock, {
    ...clock,
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + wall.offset,
    currentTimeMillis: Effect.sync(() => clock.currentTimeMillisUnsafe() + wall.offset)
  })
  const now = Effect.map(Clock.currentTimeMillis, (at) => at + wall.offset)
  const current = Effect.map(SubscriptionRef.get(rotation.current), ({ address }) => address.port)
  /** Winds the clock to so many milliseconds after the next period's beginning. */
  const until = (ms: number) =>
    Effect.flatMap(Clock.currentTimeMillis, (at) => TestClock.adjust(Math.max(0, startsAt + ms - at)))
  const choice = (ahead: number, k = 0): number => schedule.portsOf(period + ahead)[k] ?? 0
  yield* TestClock.adjust(0)
  return { ports, events, rotation, current, until, choice, schedule, wall, now }
})

describe("PortRotation", () => {
  it.effect("opens and announces two minutes ahead, moves at the beginning, closes five minutes later", () =>
    Effect.gen(function* () {
      const { choice, current, events, ports, until } = yield* begun()
      const [a, b] = [choice(0), choice(1)]
      yield* until(-PORT_ANNOUNCE_MS - 1)
      assert.deepStrictEqual([...ports.open], [a])
      yield* until(-PORT_ANNOUNCE_MS)
      assert.deepStrictEqual([...ports.open], [a, b])
      assert.deepStrictEqual(ports.asked, [`announce ${b} in 120`])
      yield* until(-1)
      assert.strictEqual(yield* current, a)
      yield* until(0)
      assert.strictEqual(yield* current, b)
      yield* until(PORT_GRACE_MS - 1)
      assert.deepStrictEqual([...ports.open], [a, b])
      yield* until(PORT_GRACE_MS + 30_000)
      assert.deepStrictEqual([...ports.open], [b])
      assert.deepStrictEqual(ports.asked, [`announce ${b} in 120`, `move ${a} ${b}`, `close ${a}`])
      assert.deepStrictEqual(events, [`Opened ${b}`, `Closed ${a}`])
      // And so on, hour for hour: one port between changes, two around them.
      yield* until(24 * PORT_PERIOD_MS + PORT_GRACE_MS + 30_000)
      assert.deepStrictEqual([...ports.open], [choice(25)])
      assert.lengthOf(
        events.filter((event) => event.startsWith("Opened")),
        25
      )
    })
  )

  it.effect("takes the next choice where a port is taken, and tries again while none can be had", () =>
    Effect.gen(function* () {
      const { choice, current, events, ports, schedule, until, now } = yield* begun()
      ports.busy.add(choice(1)).add(choice(1, 1))
      const all = schedule.portsOf(schedule.periodAt(yield* now) + 2)
      for (const port of all) ports.busy.add(port)
      yield* until(0)
      assert.strictEqual(yield* current, choice(1, 2))
      yield* until(PORT_PERIOD_MS + 60_000)
      assert.strictEqual(yield* current, choice(1, 2))
      assert.lengthOf(
        events.filter((event) => event.startsWith(`PutOff ${choice(1, 2)}: `)),
        1
      )
      // Somebody lets one go in the middle of its hour: better late, since devices that were away look there.
      ports.busy.delete(all[3] ?? 0)
      yield* until(PORT_PERIOD_MS + 120_000)
      assert.strictEqual(yield* current, all[3])
    })
  )

  it.effect("leaves a port open for a session that stays, reminds it, and closes it soon after it left", () =>
    Effect.gen(function* () {
      const { choice, current, events, ports, until } = yield* begun()
      const [a, b] = [choice(0), choice(1)]
      ports.sessions.set(a, 1)
      yield* until(PORT_GRACE_MS + 600_000)
      assert.strictEqual(yield* current, b)
      assert.deepStrictEqual([...ports.open], [a, b])
      // Each half minute of the grace, each five minutes later: it may have come up after the first announcement.
      assert.lengthOf(
        ports.asked.filter((line) => line === `announce ${b} in 0`),
        10 + 3
      )
      assert.deepStrictEqual(events, [`Opened ${b}`, `PutOff ${a}: one session has not moved from it`])
      ports.sessions.set(a, 0)
      yield* until(PORT_GRACE_MS + 600_000 + 30_000)
      assert.deepStrictEqual([...ports.open], [b])
    })
  )

  it.effect("has no more than three ports open: with two old ones in use the next change waits", () =>
    Effect.gen(function* () {
      const { choice, current, events, ports, until } = yield* begun()
      const [a, b, c, d] = [choice(0), choice(1), choice(2), choice(3)]
      ports.sessions.set(a, 2).set(b, 1)
      yield* until(2 * PORT_PERIOD_MS + 1800_000)
      assert.deepStrictEqual([...ports.open], [a, b, c])
      assert.strictEqual(yield* current, c)
      assert.deepStrictEqual(events.slice(-1), [`PutOff ${c}: 0.0.0.0:${a} and 0.0.0.0:${b} are in use yet`])
      assert.lengthOf(events, 5)
      ports.sessions.set(a, 0)
      yield* until(2 * PORT_PERIOD_MS + 1800_000 + 60_000)
      assert.deepStrictEqual([...ports.open], [b, c, d])
      assert.strictEqual(yield* current, d)
    })
  )

  it.effect("is not misled by a clock that is behind its timers, or that is set", () =>
    Effect.gen(function* () {
      const { choice, current, events, ports, until, wall } = yield* begun()
      const [a, b, c] = [choice(0), choice(1), choice(2)]
      // Just after the change it is a little before it.
      yield* until(0)
      wall.offset = -5
      yield* until(4)
      yield* until(PORT_GRACE_MS + 60_000)
      assert.deepStrictEqual([...ports.open], [b])
      // It was an hour later all the time: devices that were away look for the next port already.
      wall.offset = PORT_PERIOD_MS
      yield* until(PORT_GRACE_MS + 120_000)
      assert.strictEqual(yield* current, c)
      assert.deepStrictEqual(events, [`Opened ${b}`, `Closed ${a}`, `Opened ${c}`])
      // And it was not.
      wall.offset = 0
      yield* until(PORT_GRACE_MS + 180_000)
      assert.include([b, choice(1, 1)], yield* current)
    })
  )

  it.effect("with periods of 5 s changes each 5 s, and holds no port for a promise", () =>
    Effect.gen(function* () {
      const { choice, current, ports, rotation, until } = yield* begun({ periodMs: 5000 })
      for (let n = 0; n < 100; n++) {
        yield* until(n * 5000 + 1)
        assert.strictEqual(yield* current, choice(n + 1))
        yield* rotation.promise((yield* Clock.currentTimeMillis) + VALIDITY_MS)
        assert.isAtMost(ports.open.size, 3)
      }
    })
  )
})

describe("What a credential file names", () => {
  it.effect(
    "the present port and two of the next period if that begins before it expires; the open one once it is",
    () =>
      Effect.gen(function* () {
        const { choice, now, ports, rotation, until } = yield* begun()
        const [a, b] = [choice(0), choice(1)]
        const promised = Effect.flatMap(now, (at) => rotation.promise(at + VALIDITY_MS))
        assert.deepStrictEqual(yield* promised, [a])
        yield* until(-VALIDITY_MS - 1)
        assert.deepStrictEqual(yield* promised, [a])
        yield* until(-VALIDITY_MS)
        assert.deepStrictEqual(yield* promised, [a, b, choice(1, 1)])
        ports.busy.add(b).add(choice(1, 1))
        yield* until(-PORT_ANNOUNCE_MS)
        assert.deepStrictEqual(yield* promised, [a, choice(1, 2)])
        yield* until(0)
        assert.deepStrictEqual(yield* promised, [choice(1, 2)])
      })
  )

  it.effect("is open at every moment until it expires, whatever ports are taken, around every change", () =>
    Effect.gen(function* () {
      for (let seed = 1; seed <= 12; seed++) {
        const { choice, now, ports, rotation, until } = yield* begun({ seed })
        // From none to all eight of a period's ports are taken.
        for (let ahead = 1; ahead < 6; ahead++) {
          for (let k = 0; k < (seed * ahead) % 9; k++) ports.busy.add(choice(ahead, k))
        }
        const files: Array<{ readonly named: ReadonlyArray<number>; readonly until: number }> = []
        for (let at = 0; at < 4 * PORT_PERIOD_MS; at += 20_000) {
          yield* until(at)
          const time = yield* now
          if (at % 40_000 === 0) {
            files.push({ named: yield* rotation.promise(time + VALIDITY_MS), until: time + VALIDITY_MS })
          }
          for (const { named, until } of files) {
            if (until < time) continue
            assert.isTrue(
              named.some((port) => ports.open.has(port)),
              `seed ${seed}, ${at / 1000} s: ${named.join()} of ${[...ports.open].join()}`
            )
          }
          assert.isAtMost(ports.open.size, 3)
        }
      }
    })
  )
})
