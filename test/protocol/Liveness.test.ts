import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { KEEP_ALIVE_MIN_MS, QUIET_MS, STALL_MS } from "../../src/domain/protocol/Constants.ts"
import { Liveness, type LivenessOptions } from "../../src/domain/protocol/Liveness.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import type { DirectionSecrets } from "../../src/domain/protocol/PacketWriter.ts"
import { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent } from "../../src/domain/protocol/SessionTypes.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { CLIENT, LIMITS, SERVER, type Side, seeded } from "./Pair.ts"

const secrets = (fill: number): DirectionSecrets => ({
  header: primitives.maskKey(new Uint8Array(32).fill(fill)),
  keys: { packet: primitives.packetKey(new Uint8Array(32).fill(fill + 1)), iv: new Uint8Array(12).fill(fill + 2) }
})

/** Two sessions, and between them a NAT that forgets its client after so much silence of the client's. */
class Natted {
  now = 0
  readonly ends: { readonly client: Session; readonly server: Session }
  readonly events: { readonly client: Array<SessionEvent>; readonly server: Array<SessionEvent> } = {
    client: [],
    server: []
  }
  /** When datagrams of the client left. */
  readonly left: Array<number> = []
  mappings = 1
  readonly #forgetsMs: number
  readonly #keepsPort: boolean
  #address: Address = CLIENT
  #lastOut = 0
  #flights: Array<{ readonly at: number; readonly to: Side; readonly remote: Address; readonly bytes: Uint8Array }> = []

  constructor(forgetsMs: number, keepsPort = false) {
    this.#forgetsMs = forgetsMs
    this.#keepsPort = keepsPort
    const make = (role: Side): Session => {
      const entropy = seeded(role)
      return new Session(0, {
        role,
        localId: new Uint8Array(8).fill(role === "client" ? 1 : 2),
        remoteId: new Uint8Array(8).fill(role === "client" ? 2 : 1),
        ids: { issue: () => entropy(8), retire: () => undefined },
        remote: role === "client" ? SERVER : CLIENT,
        send: secrets(role === "client" ? 10 : 20),
        receive: secrets(role === "client" ? 20 : 10),
        chainingKey: new Uint8Array(32).fill(9),
        primitives,
        rekeyIntervalMs: Number.POSITIVE_INFINITY,
        limits: { ...LIMITS, idleTimeoutMs: 300_000 },
        peerLimits: { ...LIMITS, idleTimeoutMs: 300_000 },
        entropy,
        congestion: NewReno.make,
        keepAliveMs: 15_000,
        askMs: 150_000,
        deadAfterMs: 15_000
      })
    }
    this.ends = { client: make("client"), server: make("server") }
    for (const side of ["client", "server"] as const) this.ends[side].unmute(0)
  }

  passTo(end: number): void {
    this.#drain()
    for (;;) {
      this.#flights.sort((a, b) => a.at - b.at)
      const { client, server } = this.ends
      const at = Math.min(this.#flights[0]?.at ?? end, client.pollTimeout(), server.pollTimeout())
      if (at > end) break
      if (at === end && this.#flights.length === 0) break
      this.now = Math.max(this.now, at)
      while ((this.#flights[0]?.at ?? Number.POSITIVE_INFINITY) <= this.now) {
        const flight = this.#flights.shift()
        if (flight !== undefined) this.ends[flight.to].handleDatagram(this.now, flight.remote, flight.bytes)
      }
      client.handleTimeout(this.now)
      server.handleTimeout(this.now)
      this.#drain()
    }
    this.now = end
  }

  #drain(): void {
    for (const side of ["client", "server"] as const) {
      const session = this.ends[side]
      for (let t = session.pollTransmit(this.now); t !== undefined; t = session.pollTransmit(this.now)) {
        this.#send(side, t.remote, t.bytes)
      }
      for (let e = session.pollEvent(); e !== undefined; e = session.pollEvent()) this.events[side].push(e)
    }
  }

  #send(from: Side, to: Address, bytes: Uint8Array): void {
    const alive = this.now - this.#lastOut < this.#forgetsMs
    const at = this.now + 20
    if (from === "client") {
      if (!alive) {
        this.mappings++
        if (!this.#keepsPort) this.#address = { ...CLIENT, port: 40_000 + this.mappings }
      }
      this.#lastOut = this.now
      this.left.push(this.now)
      this.#flights.push({ at, to: "server", remote: this.#address, bytes })
    } else if (alive && to.port === this.#address.port) {
      this.#flights.push({ at, to: "client", remote: SERVER, bytes })
    }
  }
}

describe("Liveness: a client behind a NAT", () => {
  for (const [forgetsMs, least] of [
    [20_000, 17_000],
    [45_000, 39_000],
    [90_000, 79_000]
  ] as const) {
    it(`that forgets after ${forgetsMs / 1000} s keeps its mapping with few keep-alives`, () => {
      const line = new Natted(forgetsMs)
      line.passTo(4 * 3_600_000)
      assert.isAtMost(line.mappings, 4)
      assert.strictEqual(line.ends.client.state, "open")
      const late = line.left.filter((at) => at > 3 * 3_600_000)
      const gaps = late.slice(1).map((at, i) => at - (late[i] ?? 0))
      // Of a keep-alive and what follows it only the first counts.
      const silences = gaps.filter((gap) => gap > 1000)
      assert.isTrue(
        silences.every((gap) => gap >= least && gap < forgetsMs),
        `${silences}`
      )
      assert.isFalse(line.events.client.some(({ type }) => type === "Stalled"))
      // Each lost mapping was seen by the server, and told.
      assert.strictEqual(line.events.client.filter(({ type }) => type === "Observed").length, line.mappings - 1)
    })
  }

  it("is asked by nobody, and lives on some dozens of datagrams an hour", () => {
    const line = new Natted(600_000)
    line.passTo(3_600_000)
    const from = line.left.length
    line.passTo(7_200_000)
    assert.isAtMost(line.left.length - from, 31)
    assert.strictEqual(line.mappings, 1)
  })

  it("learns that it was not reachable also where the NAT gives the same port again", () => {
    const line = new Natted(30_000, true)
    // The server has something to say every 20 s to 40 s.
    for (let at = 10_000; at < 2 * 3_600_000; at += 20_000 + ((at / 1000) % 21) * 1000) {
      line.passTo(at)
      line.ends.server.sendDatagram(new Uint8Array(8))
    }
    assert.strictEqual(line.ends.client.state, "open")
    assert.strictEqual(line.ends.server.state, "open")
  })
})

const options = (more: Partial<LivenessOptions> = {}): LivenessOptions => ({
  role: "client",
  idleMs: 120_000,
  deadAfterMs: 15_000,
  keepAliveMs: 15_000,
  ...more
})

describe("Liveness: what is owed", () => {
  it("counts from the first word without an answer, on any path, until anything is heard", () => {
    const liveness = new Liveness(0, options())
    liveness.onReceived(0, true, 0)
    assert.deepStrictEqual([liveness.deadAt, liveness.stallsAt], [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY])
    liveness.onSent(100, true, 48)
    liveness.onSent(200, true, 48)
    assert.deepStrictEqual([liveness.deadAt, liveness.stallsAt, liveness.doubtAt(40)], [15_100, 100 + STALL_MS, 140])
    liveness.onReceived(300, false, 0)
    assert.deepStrictEqual([liveness.deadAt, liveness.doubtAt(40)], [Number.POSITIVE_INFINITY, 140])
    liveness.onMoreOwed(300, false)
    assert.deepStrictEqual([liveness.deadAt, liveness.doubtAt(40)], [15_300, 140])
    liveness.onReceived(400, true, 0)
    liveness.onMoreOwed(400, true)
    assert.strictEqual(liveness.doubtAt(40), 440)
    liveness.onNothingOwed()
    assert.deepStrictEqual(
      [liveness.deadAt, liveness.doubtAt(40)],
      [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
    )
  })

  it("says once that it stalls, and that it recovered, and never before the peer was heard", () => {
    const liveness = new Liveness(0, options())
    liveness.onSent(0, true, 48)
    assert.strictEqual(liveness.stallsAt, Number.POSITIVE_INFINITY)
    assert.isFalse(liveness.onReceived(10, true, 0))
    liveness.onSent(20, true, 48)
    assert.strictEqual(liveness.stallsAt, 20 + STALL_MS)
    liveness.onStalled()
    assert.strictEqual(liveness.stallsAt, Number.POSITIVE_INFINITY)
    assert.isTrue(liveness.onReceived(9000, true, 0))
    assert.isFalse(liveness.onReceived(9001, true, 0))
  })

  it("gives a path up that takes small datagrams only, once that was tried for long enough", () => {
    const liveness = new Liveness(0, options())
    for (let now = 0; now <= 14_000; now += 100) {
      liveness.onSent(now, true, 1200)
      liveness.onReceived(now + 10, true, 0)
      assert.strictEqual(liveness.narrowAt, now < 7500 ? Number.POSITIVE_INFINITY : 15_000)
    }
    liveness.onFullArrived()
    assert.strictEqual(liveness.narrowAt, Number.POSITIVE_INFINITY)
    // What is no longer tried says nothing.
    liveness.onSent(20_000, true, 1200)
    liveness.onSent(90_000, true, 48)
    assert.strictEqual(liveness.narrowAt, Number.POSITIVE_INFINITY)
  })

  it("has a server wait longer than a client ever does, and a link's ends as long as they are told", () => {
    const ping = (role: "client" | "server", keepAliveMs: number): number => {
      const liveness = new Liveness(0, options({ role, keepAliveMs }))
      liveness.start(0)
      return liveness.pingAt
    }
    assert.deepStrictEqual([ping("client", 15_000), ping("server", 15_000)], [15_000, 28_000])
    assert.deepStrictEqual([ping("client", 1000), ping("server", 1000)], [1000, 1000])
    assert.deepStrictEqual(
      [ping("client", Number.POSITIVE_INFINITY), ping("server", 1e9)],
      [Number.POSITIVE_INFINITY, 1e9]
    )
    // So long it waits for an answer, too: its client may know nothing of a lost mapping until its next keep-alive.
    const dead = (role: "client" | "server", keepAliveMs: number): number => {
      const liveness = new Liveness(0, options({ role, keepAliveMs }))
      liveness.onSent(0, true, 48)
      return liveness.deadAt
    }
    assert.deepStrictEqual([dead("client", 15_000), dead("server", 15_000)], [15_000, 33_000])
    assert.deepStrictEqual([dead("server", 1000), dead("server", Number.POSITIVE_INFINITY)], [15_000, 15_000])
    const liveness = new Liveness(0, options())
    liveness.askSoon(5)
    assert.strictEqual(liveness.pingAt, 5 + QUIET_MS)
    assert.isAbove(28_000, KEEP_ALIVE_MIN_MS)
  })
})
