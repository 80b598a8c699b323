import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { ConnectionIds } from "../../src/domain/protocol/ConnectionIds.ts"
import * as Constants from "../../src/domain/protocol/Constants.ts"
import type { Path } from "../../src/domain/protocol/Path.ts"
import { Paths, type Probe } from "../../src/domain/protocol/Paths.ts"
import { Rtt } from "../../src/domain/protocol/Rtt.ts"
import { seeded } from "./Pair.ts"

const FIRST: Address = { host: "198.51.100.1", port: 50_000 }
const OTHER: Address = { host: "198.51.100.2", port: 50_000 }
const RELAYED: Address = { host: "203.0.113.9", port: 3478, via: 9 }
const LOCAL: Uint8Array = new Uint8Array(8).fill(1)
const id = (fill: number): Uint8Array => new Uint8Array(8).fill(fill)

/** The paths of one end, driven by hand: the peer's datagrams come with the id and length that is said. */
class Hand {
  now = 1000
  readonly ids: ConnectionIds
  readonly paths: Paths
  readonly rtt = new Rtt()
  readonly sent: Array<Probe> = []
  #local = 100

  constructor(role: "client" | "server") {
    const local = () => id(this.#local++)
    this.ids = new ConnectionIds(LOCAL, id(2), { issue: local, retire: () => undefined })
    this.ids.supply(true)
    for (let sequence = 1; sequence < Constants.MAX_CONNECTION_IDS; sequence++) {
      this.ids.onNew({ type: "NewCid", sequence, retirePriorTo: 0, cid: id(200 + sequence) })
    }
    this.rtt.update(40, 0)
    this.paths = new Paths(this.now, {
      role,
      remote: FIRST,
      localId: LOCAL,
      ids: this.ids,
      entropy: seeded("paths"),
      rtt: this.rtt,
      rank: ({ via }) => (via === 9 ? 1 : 0)
    })
  }

  datagram(local: Uint8Array, length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    bytes.set(local)
    return bytes
  }

  /** The newest packet, from somewhere. */
  from(remote: Address, moving = true, local = LOCAL, length = 64): Path {
    const path = this.paths.onReceived(this.now, remote, this.datagram(local, length))
    this.paths.onNewest(this.now, path, moving)
    return path
  }

  /** Answers what was sent to `remote` since the last call, in datagrams as long. */
  answer(remote: Address, local = LOCAL): void {
    for (const { frame, least } of this.drain().filter((probe) => probe.remote === remote)) {
      if (frame.type !== "PathChallenge") continue
      const path = this.paths.onReceived(this.now, remote, this.datagram(local, Math.max(48, least)))
      this.paths.onResponse(this.now, path, frame.token, Math.max(48, least))
    }
  }

  drain(): ReadonlyArray<Probe> {
    const out: Array<Probe> = []
    for (let probe = this.paths.poll(this.now); probe !== undefined; probe = this.paths.poll(this.now)) out.push(probe)
    this.sent.push(...out)
    return out
  }

  pass(ms: number): void {
    const end = this.now + ms
    for (let steps = 0; this.paths.deadline <= end; steps++) {
      assert.isBelow(steps, 10_000, "the deadline does not move")
      this.now = Math.max(this.now, this.paths.deadline)
      this.paths.handleTimeout(this.now)
      this.drain()
    }
    this.now = end
  }

  failed(): ReadonlyArray<Address> {
    const out: Array<Address> = []
    for (let remote = this.paths.pollFailed(); remote !== undefined; remote = this.paths.pollFailed()) out.push(remote)
    return out
  }

  /** A candidate that answers, small and in full. */
  add(remote: Address, rttMs = 40): void {
    this.paths.addCandidates(this.now, [remote])
    for (let i = 0; i < 2; i++) {
      const sent = this.drain()
      this.now += rttMs
      for (const { frame, least, remote: to } of sent) {
        if (to !== remote) continue
        const path = this.paths.onReceived(this.now, remote, this.datagram(LOCAL, Math.max(48, least)))
        this.paths.onResponse(this.now, path, frame.token, Math.max(48, least))
      }
    }
  }
}

describe("Paths: a server", () => {
  it("follows the newest packet that is more than a probe, once its path is proven", () => {
    const hand = new Hand("server")
    hand.from(OTHER, false)
    hand.answer(OTHER)
    assert.strictEqual(hand.paths.active.remote, FIRST)
    hand.from(OTHER)
    assert.strictEqual(hand.paths.active.remote, OTHER)
    hand.from(FIRST)
    assert.strictEqual(hand.paths.active.remote, FIRST)
  })

  it("forgets the wish when something newer comes by the path in use", () => {
    const hand = new Hand("server")
    hand.from(OTHER)
    assert.isTrue(hand.paths.moving)
    hand.from(FIRST)
    assert.isFalse(hand.paths.moving)
    hand.answer(OTHER)
    assert.strictEqual(hand.paths.active.remote, FIRST)
  })

  it("keeps its id where a NAT moved the client, and takes a fresh one where the client did", () => {
    const hand = new Hand("server")
    const { id: first } = hand.paths.active
    assert.strictEqual(hand.from(OTHER).id, first)
    const moved = hand.from({ ...OTHER, port: 1 }, true, hand.ids.local[1])
    assert.notStrictEqual(moved.id, first)
    assert.strictEqual(moved.id?.sequence, 1)
    // A change of id on a path is answered by one, once.
    hand.from(FIRST, true, hand.ids.local[2])
    assert.strictEqual(hand.paths.active.id?.sequence, 2)
    hand.from(FIRST, true, LOCAL)
    assert.strictEqual(hand.paths.active.id?.sequence, 2)
  })

  it("goes back to where the client was if it still answers there", () => {
    const hand = new Hand("server")
    hand.from(OTHER)
    hand.answer(OTHER)
    assert.strictEqual(hand.paths.active.remote, OTHER)
    hand.answer(FIRST)
    assert.strictEqual(hand.paths.active.remote, FIRST)
  })

  it("sends three times what came to an address that has not answered, challenges and answers together", () => {
    const hand = new Hand("server")
    let received = 0
    for (let i = 0; i < 30; i++) {
      const length = 48 + 16 * (i % 3)
      received += length
      const path = hand.from(OTHER, true, LOCAL, length)
      for (let j = 0; j < 10; j++) hand.paths.onChallenge(path, id(j), i === 7 ? 1200 : length)
      hand.drain()
      hand.pass(30)
    }
    const there = hand.sent.filter(({ remote }) => remote === OTHER)
    const bytes = there.reduce((sum, { least }) => sum + Math.max(48, least), 0)
    assert.isAbove(bytes, 1.5 * received)
    assert.isAtMost(bytes, 3 * received)
  })

  it("knows a bounded number of paths, and forgets them", () => {
    const hand = new Hand("server")
    for (let port = 1; port <= 500; port++) {
      hand.from({ ...OTHER, port })
      assert.isAtMost(hand.paths.all.length, 1 + Constants.MAX_UNPROVEN_PATHS)
    }
    assert.strictEqual(hand.paths.active.remote, FIRST)
    for (let port = 600; port <= 700; port++) {
      const remote = { ...OTHER, port }
      hand.from(remote)
      hand.answer(remote)
      assert.isAtMost(hand.paths.all.length, Constants.MAX_PATHS)
    }
    hand.pass(Constants.PATH_FORGET_MS + Constants.PATH_LINGER_MS)
    assert.deepStrictEqual(
      hand.paths.all.map(({ remote }) => remote.port),
      [700]
    )
  })
})

describe("Paths: a client", () => {
  it("stays where it is while the server speaks from elsewhere, and asks both when it goes on", () => {
    const hand = new Hand("client")
    hand.from(OTHER)
    hand.answer(OTHER)
    hand.answer(OTHER)
    assert.strictEqual(hand.paths.active.remote, FIRST)
    assert.isFalse(hand.paths.inDoubt)
    hand.now += 1000
    hand.from(OTHER)
    assert.isTrue(hand.paths.inDoubt)
    assert.deepStrictEqual(
      hand.drain().map(({ remote }) => remote),
      [FIRST, OTHER]
    )
    hand.paths.onAlive()
    assert.isFalse(hand.paths.inDoubt)
  })

  it("takes a direct path for a relayed one only when it carries full datagrams", () => {
    const hand = new Hand("client")
    hand.add(RELAYED)
    hand.paths.doubt(hand.now)
    hand.answer(RELAYED)
    assert.strictEqual(hand.paths.active.remote, RELAYED)
    assert.deepStrictEqual(hand.failed(), [FIRST])
    hand.paths.addCandidates(hand.now, [OTHER])
    hand.answer(OTHER)
    assert.strictEqual(hand.paths.active.remote, RELAYED)
    hand.answer(OTHER)
    assert.strictEqual(hand.paths.active.remote, OTHER)
    // It never answers in full: it is no way for bulk.
    const narrow = new Hand("client")
    narrow.add(RELAYED)
    narrow.paths.doubt(narrow.now)
    narrow.answer(RELAYED)
    narrow.paths.addCandidates(narrow.now, [OTHER])
    const [small] = narrow.drain().filter(({ remote }) => remote === OTHER)
    if (small === undefined) throw new Error("no challenge")
    const path = narrow.paths.onReceived(narrow.now, OTHER, narrow.datagram(LOCAL, 48))
    narrow.paths.onResponse(narrow.now, path, small.frame.token, 48)
    narrow.pass(5000)
    assert.strictEqual(narrow.paths.active.remote, RELAYED)
    assert.isTrue(path.narrow)
  })

  it("takes a much shorter round trip, but not a little shorter one", () => {
    for (const [rttMs, taken] of [
      [10, true],
      [30, false]
    ] as const) {
      const hand = new Hand("client")
      hand.add(OTHER, rttMs)
      for (let i = 0; i < 3; i++) {
        hand.pass(Constants.STANDBY_MS - 100)
        hand.now = Math.max(hand.now, hand.paths.deadline)
        hand.paths.handleTimeout(hand.now)
        const sent = hand.drain()
        hand.now += rttMs
        for (const { frame } of sent) {
          const path = hand.paths.onReceived(hand.now, OTHER, hand.datagram(LOCAL, 48))
          hand.paths.onResponse(hand.now, path, frame.token, 48)
        }
      }
      assert.strictEqual(hand.paths.active.remote === OTHER, taken, `${rttMs} ms`)
    }
  })

  it("tries a candidate ten times, ever more slowly, and eight at most", () => {
    const hand = new Hand("client")
    const many = Array.from({ length: 20 }, (_, i) => ({ ...OTHER, port: 1000 + i }))
    assert.strictEqual(hand.paths.addCandidates(hand.now, many).length, Constants.MAX_CANDIDATES)
    hand.drain()
    hand.pass(60_000)
    const one = hand.sent.filter(({ remote }) => remote.port === 1000)
    assert.strictEqual(one.length, Constants.CANDIDATE_TRIES)
    assert.isTrue(hand.sent.every(({ least }) => least === 0))
    assert.strictEqual(new Set(hand.sent.map(({ id: to }) => to[0])).size, Constants.MAX_CANDIDATES)
    assert.strictEqual(hand.failed().length, Constants.MAX_CANDIDATES)
    assert.strictEqual(hand.paths.all.length, 1)
  })

  it("leaves a path alone for a while that failed in use, longer each time", () => {
    const hand = new Hand("client")
    hand.add(RELAYED)
    let shunned = 0
    for (let i = 0; i < 4; i++) {
      hand.paths.doubt(hand.now)
      hand.answer(RELAYED)
      assert.strictEqual(hand.paths.active.remote, RELAYED)
      const at = hand.now
      while (hand.paths.active.remote !== FIRST && hand.now < at + 120_000) {
        hand.now = Math.max(hand.now, hand.paths.deadline)
        hand.paths.handleTimeout(hand.now)
        hand.answer(FIRST)
      }
      assert.strictEqual(hand.paths.active.remote, FIRST)
      assert.isAbove(hand.now - at, shunned)
      shunned = hand.now - at
    }
  })

  it("gives every path a fresh id when it moves, and does without those that it has no id for", () => {
    const hand = new Hand("client")
    hand.add(OTHER)
    hand.add(RELAYED)
    const before = hand.paths.all.map((path) => path.id)
    hand.paths.rebind(hand.now)
    for (const path of hand.paths.all) assert.notInclude(before, path.id)
    assert.strictEqual(hand.paths.all.length, 3)
    for (let i = 0; i < 10; i++) hand.paths.rebind(hand.now)
    assert.strictEqual(hand.paths.active.remote, FIRST)
    assert.isDefined(hand.paths.active.id)
  })
})

describe("Paths: anything", () => {
  it("keeps its bounds, has one path in use, and moves only to what is proven", () => {
    const remotes = [FIRST, OTHER, RELAYED, { ...OTHER, port: 9 }, { ...FIRST, port: 51_000 }]
    const step = fc.record({
      kind: fc.nat({ max: 9 }),
      remote: fc.constantFrom(...remotes),
      local: fc.nat({ max: 11 }),
      ms: fc.nat({ max: 5000 })
    })
    fc.assert(
      fc.property(
        fc.constantFrom("client" as const, "server" as const),
        fc.array(step, { maxLength: 80 }),
        (role, steps) => {
          const hand = new Hand(role)
          for (const { kind, remote, local, ms } of steps) {
            const by = hand.ids.local[local % hand.ids.local.length] ?? LOCAL
            if (kind < 2) hand.from(remote, kind === 0, by)
            else if (kind < 4) hand.answer(remote, by)
            else if (kind === 4) hand.paths.addCandidates(hand.now, remotes)
            else if (kind === 5) hand.paths.announce(hand.now, 51_000, ms)
            else if (kind === 6) hand.paths.rebind(hand.now)
            else if (kind === 7) hand.paths.doubt(hand.now)
            else if (kind === 8) hand.paths.onAlive()
            else hand.pass(ms)
            hand.drain()
            hand.failed()
            assert.isTrue(hand.paths.active.proven)
            assert.include(hand.paths.all, hand.paths.active)
            assert.isDefined(hand.paths.active.id)
            assert.isAtMost(hand.paths.all.length, Constants.MAX_PATHS)
            assert.isAbove(hand.paths.deadline, hand.now - 1)
          }
        }
      ),
      { seed: 4, numRuns: 300 }
    )
  })
})
