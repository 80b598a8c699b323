import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { HALF_OPEN_MS, INITIATION_LENGTH, MAX_DIAL_WAYS } from "../../src/domain/protocol/Constants.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import { Dial, type DialOptions, sweepOffsets } from "../../src/domain/protocol/Dial.ts"
import { HintCounter } from "../../src/domain/protocol/HintCounter.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { LIMITS, seeded, WALL } from "./Pair.ts"

const HOUR = 3_600_000
const endpoint = (port: number): Address => ({ host: "198.51.100.1", port })

const make = (
  change: Partial<DialOptions> = {},
  ports: ReadonlyArray<number> = [1],
  slot?: number,
  endpointsAt?: (wallMs: number) => ReadonlyArray<Address>
): Dial => {
  const entropy = seeded("dial")
  const identity = primitives.keyPair(entropy(32))
  const server = primitives.keyPair(entropy(32))
  const invitation = {
    id: entropy(16),
    psk: entropy(32),
    slot,
    serverKey: server.publicKey,
    endpoints: ports.map(endpoint),
    endpointsAt
  }
  return new Dial(0, primitives, entropy, {
    invitations: [invitation],
    hints: [new HintCounter(undefined)],
    identity,
    deviceName: "dial",
    features: 0,
    limits: LIMITS,
    timeoutMs: 60_000,
    skewMs: 0,
    ...change
  })
}

/** Calls a dial at each of its deadlines and gives the times, ports and offsets of what it sends. */
const trace = (dial: Dial, untilMs: number) => {
  const out: Array<readonly [at: number, port: number, skewMs: number]> = []
  for (let now = 0; now < untilMs && !dial.expired(now); now = Math.max(now, dial.deadline)) {
    const { made, transmits } = dial.due(now, WALL + now)
    for (const { bytes, remote } of transmits) {
      const skewMs = [...made, ...dial.attempts].find(({ datagram }) => datagram === bytes)?.skewMs ?? Number.NaN
      out.push([now, remote.port, skewMs])
    }
  }
  return out
}

describe("Dial", () => {
  it("sweeps whole hours first, nearest first, then the quarters, to 26 hours either way", () => {
    const offsets = sweepOffsets()
    assert.strictEqual(offsets.length, 208)
    assert.strictEqual(new Set(offsets).size, 208)
    assert.deepStrictEqual(offsets.slice(0, 4), [HOUR, -HOUR, 2 * HOUR, -2 * HOUR])
    assert.deepStrictEqual(offsets.slice(50, 56), [26 * HOUR, -26 * HOUR, HOUR / 4, -HOUR / 4, HOUR / 2, -HOUR / 2])
    assert.deepStrictEqual(offsets.slice(-2), [25.75 * HOUR, -25.75 * HOUR])
  })

  it("tries every offset where the server was last, however many places are known", () => {
    const ports = Array.from({ length: 12 }, (_, i) => i + 1)
    const dial = make({}, ports)
    const swept = trace(dial, 30_000).filter(([, , skewMs]) => skewMs !== 0)
    const best = swept.filter(([, port]) => port === 1).map(([, , skewMs]) => skewMs)
    assert.deepStrictEqual(best.slice(0, 208), sweepOffsets())
    // A datagram may have been lost.
    assert.deepStrictEqual(best.slice(208, 416), sweepOffsets())
    // The others have their turns.
    assert.deepStrictEqual(
      [...new Set(swept.map(([, port]) => port))].sort((a, b) => a - b),
      ports
    )
    assert.strictEqual(swept.length, 2 * best.length)
  })

  it("finds the server again when a clock that was wrong has been set right", () => {
    const swept = trace(make({ skewMs: 11 * HOUR }), 4000).filter(([, , skewMs]) => skewMs !== 11 * HOUR)
    assert.strictEqual(swept[0]?.[2], 0)
    assert.strictEqual(swept[1]?.[2], HOUR)
  })

  it("leaves no gap that a clock could hide in", () => {
    const covered = [0, ...sweepOffsets()].sort((a, b) => a - b)
    for (let i = 1; i < covered.length; i++) {
      assert.strictEqual((covered[i] as number) - (covered[i - 1] as number), HOUR / 4)
    }
    assert.deepStrictEqual([covered[0], covered.at(-1)], [-26 * HOUR, 26 * HOUR])
  })

  it("keeps its rounds and begins to sweep after three silent ones", () => {
    const dial = make()
    const sent = trace(dial, 20_000)
    const rounds = sent.filter(([, , skewMs]) => skewMs === 0).map(([at]) => at)
    assert.deepStrictEqual(
      rounds,
      [0, 250, 750, 1750, 2750, 3750, 4750, 6750, 8750, 10_750, 12_750, 14_750, 16_750, 18_750]
    )
    const swept = sent.filter(([, , skewMs]) => skewMs !== 0)
    assert.deepStrictEqual(
      swept.slice(0, 208).map(([, , skewMs]) => skewMs),
      sweepOffsets()
    )
    assert.deepStrictEqual([swept[0]?.[0], swept[207]?.[0]], [1750, 1750 + 207 * 50])
    assert.strictEqual(dial.rounds, 14)
  })

  it("adds the offset that worked last time to its rounds", () => {
    const dial = make({ skewMs: -3 * HOUR })
    assert.deepStrictEqual(trace(dial, 800), [
      [0, 1, -3 * HOUR],
      [250, 1, -3 * HOUR],
      [750, 1, -3 * HOUR]
    ])
  })

  it("sends to the four best endpoints each round, and to four of the others in turn", () => {
    const dial = make({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    const rounds = Map.groupBy(trace(dial, 760), ([at]) => at)
    assert.deepStrictEqual(
      [...rounds].map(([at, sent]) => [at, ...sent.map(([, port]) => port)]),
      [
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        [250, 1, 2, 3, 4, 9, 10, 5, 6],
        [750, 1, 2, 3, 4, 7, 8, 9, 10]
      ]
    )
  })

  it("sends one attempt to all of them, and to what is found meanwhile", () => {
    const dial = make({}, [1, 2])
    const { made, transmits } = dial.due(0, WALL)
    assert.strictEqual(made.length, 1)
    assert.deepStrictEqual(
      transmits.map(({ bytes, remote }) => [bytes === made[0]?.datagram, remote.port]),
      [
        [true, 1],
        [true, 2]
      ]
    )
    assert.strictEqual(dial.deadline, 250)
    dial.widen(0, [endpoint(1), endpoint(3)])
    assert.isBelow(dial.deadline, 100)
    const more = dial.due(100, WALL)
    assert.deepStrictEqual(
      more.transmits.map(({ bytes, remote }) => [bytes === made[0]?.datagram, remote.port]),
      [[true, 3]]
    )
    assert.deepStrictEqual([more.made.length, dial.deadline], [0, 250])
  })

  it("keeps so many addresses and no more", () => {
    const dial = make({}, [1])
    dial.due(0, WALL)
    dial.widen(
      0,
      Array.from({ length: 100 }, (_, i) => endpoint(i + 1))
    )
    assert.strictEqual(dial.due(1, WALL).transmits.length, MAX_DIAL_WAYS)
    // Every round goes there, and sweeps do.
    assert.strictEqual(dial.due(250, WALL).transmits.length, 1 + MAX_DIAL_WAYS)
  })

  it("sweeps also where the server would be by each clock", () => {
    const at = (wallMs: number): ReadonlyArray<Address> => [endpoint(wallMs > WALL + HOUR ? 5 : 6), endpoint(7)]
    const dial = make({}, [1], undefined, at)
    const swept = trace(dial, 1820).filter(([, , skewMs]) => skewMs !== 0)
    assert.deepStrictEqual(
      swept.map(([, port]) => port),
      [1, 5, 7, 1, 6, 7]
    )
  })

  it("does not sweep where both ends share a clock", () => {
    assert.strictEqual(
      trace(make({ sweeps: false }), 30_000).every(([, , skewMs]) => skewMs === 0),
      true
    )
  })

  it("does not sweep with a file", () => {
    assert.strictEqual(trace(make({}, [1], WALL), 20_000).length, 14)
  })

  it("makes every attempt look new: length, hint, connection id, ephemeral key", () => {
    const dial = make()
    trace(dial, 9000)
    const attempts = dial.attempts
    assert.isAbove(attempts.length, 140)
    for (const { datagram } of attempts) assert.strictEqual(datagram.length, INITIATION_LENGTH)
    const distinct = (of: (i: number) => Uint8Array) => new Set(attempts.map((_, i) => hex(of(i)))).size
    assert.strictEqual(
      distinct((i) => attempts[i]?.datagram.subarray(0, 8) as Uint8Array),
      attempts.length
    )
    assert.strictEqual(
      distinct((i) => attempts[i]?.datagram.subarray(8, 20) as Uint8Array),
      attempts.length
    )
    assert.strictEqual(
      distinct((i) => attempts[i]?.connectionId as Uint8Array),
      attempts.length
    )
    assert.strictEqual(
      distinct((i) => attempts[i]?.noise.chainingKey as Uint8Array),
      attempts.length
    )
  })

  it("lets go of attempts that the server has forgotten", () => {
    const dial = make({}, [1], WALL)
    trace(dial, 2000)
    assert.strictEqual(dial.attempts.length, 4)
    assert.strictEqual(dial.expire(HALF_OPEN_MS - 1).length, 0)
    const gone = dial.expire(HALF_OPEN_MS + 250)
    assert.deepStrictEqual(
      gone.map(({ sentAt, noise }) => [sentAt, noise.remoteStatic]),
      [
        [0, undefined],
        [250, undefined]
      ]
    )
    assert.strictEqual(dial.attempts.length, 2)
  })

  it("wipes its attempts at the end", () => {
    const dial = make()
    trace(dial, 1000)
    dial.end()
    assert.isTrue(dial.attempts.every(({ noise }) => noise.remoteStatic === undefined))
  })

  it("is not made without an invitation, nor for a server's key that is no key", () => {
    assert.throws(() => make({ invitations: [] }), "no invitation")
    const options = make().options
    const invitations = options.invitations.map((each) => ({ ...each, serverKey: new Uint8Array(32) }))
    assert.throws(() => trace(make({ invitations }), 10), "X25519")
  })
})
