import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { ConnectionIds } from "../../src/domain/protocol/ConnectionIds.ts"
import { MAX_CONNECTION_IDS } from "../../src/domain/protocol/Constants.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import type * as Frame from "../../src/domain/protocol/Frame.ts"
import { seeded } from "./Pair.ts"

const id = (fill: number): Uint8Array => new Uint8Array(8).fill(fill)

/** One end, the ids that lead to it, and how often each was routed. */
class End {
  readonly routed = new Map<string, number>()
  readonly ids: ConnectionIds
  #entropy

  constructor(local: number, remote: number) {
    this.#entropy = seeded(`ids ${local}`)
    this.ids = new ConnectionIds(id(local), id(remote), {
      issue: () => {
        const fresh = this.#entropy(8)
        this.routed.set(hex(fresh), (this.routed.get(hex(fresh)) ?? 0) + 1)
        return fresh
      },
      retire: (gone) => assert.isTrue(this.routed.delete(hex(gone)) || gone.every((byte) => byte === local))
    })
  }

  frames(): ReadonlyArray<Frame.NewCid | Frame.RetireCid> {
    const out: Array<Frame.NewCid | Frame.RetireCid> = []
    for (let f = this.ids.pollFrame(); f !== undefined; f = this.ids.pollFrame()) out.push(f)
    return out
  }
}

const give = (to: ConnectionIds, frames: ReadonlyArray<Frame.NewCid | Frame.RetireCid>, now = 0): Array<unknown> =>
  frames.map((frame) => (frame.type === "NewCid" ? to.onNew(frame) : to.onRetire(now, frame.sequence, 100)))

const fresh = (sequence: number, fill: number, retirePriorTo = 0): Frame.NewCid => ({
  type: "NewCid",
  sequence,
  retirePriorTo,
  cid: id(fill)
})

describe("ConnectionIds", () => {
  it("gives the peer three to spare, and all there may be once there are candidates", () => {
    const end = new End(1, 2)
    end.ids.supply(false)
    end.ids.supply(false)
    assert.deepStrictEqual(
      end.frames().map((frame) => [frame.type, frame.sequence]),
      [1, 2, 3].map((sequence) => ["NewCid", sequence])
    )
    end.ids.supply(true)
    assert.strictEqual(end.frames().length, MAX_CONNECTION_IDS - 4)
    assert.strictEqual(end.ids.local.length, MAX_CONNECTION_IDS)
    assert.strictEqual(new Set(end.ids.local.map(hex)).size, MAX_CONNECTION_IDS)
  })

  it("keeps the id of the handshake where there is no source of others", () => {
    const ids = new ConnectionIds(id(1), id(2), undefined)
    ids.supply(true)
    assert.isUndefined(ids.pollFrame())
    assert.isUndefined(ids.onRetire(0, 0, 100))
    assert.deepStrictEqual(ids.local, [id(1)])
    assert.strictEqual(ids.onRetire(0, 1, 100), "protocol")
  })

  it("replaces what the peer retires, and lets it lead here a while longer", () => {
    const end = new End(1, 2)
    end.ids.supply(false)
    const [first] = end.frames()
    assert.isUndefined(end.ids.onRetire(10, 0, 100))
    assert.isUndefined(end.ids.onRetire(11, 0, 100))
    assert.deepStrictEqual(
      end.frames().map(({ sequence }) => sequence),
      [4]
    )
    assert.strictEqual(end.ids.local.length, 5)
    assert.strictEqual(end.ids.deadline, 110)
    end.ids.expire(109)
    assert.strictEqual(end.ids.local.length, 5)
    end.ids.expire(110)
    assert.strictEqual(end.ids.local.length, 4)
    assert.strictEqual(end.ids.deadline, Number.POSITIVE_INFINITY)
    assert.isTrue(first?.type === "NewCid" && end.ids.onUsed(first.cid))
    assert.isFalse(first?.type === "NewCid" && end.ids.onUsed(first.cid))
    assert.isFalse(end.ids.onUsed(id(99)))
  })

  it("takes each of the peer's ids once, and retires it when its last path ends", () => {
    const { ids } = new End(1, 2)
    give(ids, [fresh(1, 11), fresh(2, 12)])
    assert.strictEqual(ids.spare, 2)
    const one = ids.take()
    assert.strictEqual(one?.sequence, 1)
    assert.strictEqual(ids.take()?.sequence, 2)
    assert.isUndefined(ids.take())
    if (one === undefined) return
    ids.share(one)
    ids.release(one)
    assert.isUndefined(ids.pollFrame())
    ids.release(one)
    assert.deepStrictEqual(ids.pollFrame(), { type: "RetireCid", sequence: 1 })
    // The same frame, repeated: the id does not come back.
    give(ids, [fresh(1, 11)])
    assert.strictEqual(ids.spare, 0)
    ids.release(ids.first)
    assert.deepStrictEqual(ids.pollFrame(), { type: "RetireCid", sequence: 0 })
  })

  it("stops using what the peer wants out of use", () => {
    const { ids } = new End(1, 2)
    give(ids, [fresh(1, 11), fresh(2, 12)])
    const { first } = ids
    assert.isUndefined(ids.onNew(fresh(3, 13, 2)))
    assert.isTrue(first.stale)
    assert.deepStrictEqual(ids.pollFrame(), { type: "RetireCid", sequence: 1 })
    assert.isUndefined(ids.pollFrame())
    assert.strictEqual(ids.take()?.sequence, 2)
    ids.release(first)
    assert.deepStrictEqual(ids.pollFrame(), { type: "RetireCid", sequence: 0 })
    // One that was on its way is retired as it comes.
    const late = new End(3, 4).ids
    give(late, [fresh(5, 15, 4)])
    give(late, [fresh(2, 12)])
    assert.deepStrictEqual(late.pollFrame(), { type: "RetireCid", sequence: 2 })
  })

  it("knows who breaks the rules", () => {
    const other = (): ConnectionIds => new End(1, 2).ids
    const first = other()
    assert.deepStrictEqual(give(first, [fresh(1, 11), fresh(1, 11), fresh(1, 12)]), [undefined, undefined, "protocol"])
    assert.deepStrictEqual(give(other(), [fresh(1, 11), fresh(2, 11)]), [undefined, "protocol"])
    assert.deepStrictEqual(give(other(), [fresh(1, 2)]), ["protocol"])
    assert.strictEqual(other().onRetire(0, 1, 100), "protocol")
    // Too many at a time, whether they are given or left out.
    const many = Array.from({ length: MAX_CONNECTION_IDS }, (_, i) => fresh(i + 1, 20 + i))
    assert.strictEqual(give(other(), many).at(-1), "protocol")
    assert.isUndefined(give(other(), many.slice(1)).at(-1))
    const gaps = Array.from({ length: 40 }, (_, i) => fresh(2 * i + 2, 20 + i, 2 * i + 2))
    assert.include(give(other(), gaps), "protocol")
  })

  it("bounds what it owes a peer that retires, or renews, and never acknowledges", () => {
    const retiring = new End(1, 2).ids
    retiring.supply(false)
    let sequence = 0
    while (retiring.onRetire(sequence, sequence, 100) === undefined && sequence < 1000) sequence++
    // Whoever retires an id has it: nothing piles up.
    assert.strictEqual(sequence, 1000)
    assert.isAtMost(retiring.held, 8 * MAX_CONNECTION_IDS)
    const renewing = new End(1, 2).ids
    let i = 1
    while (renewing.onNew({ ...fresh(i, 0, i), cid: seeded(`${i}`)(8) }) === undefined && i < 1000) i++
    assert.isBelow(i, 6 * MAX_CONNECTION_IDS)
    assert.isAtMost(renewing.held, 8 * MAX_CONNECTION_IDS)
  })

  it("holds a bounded number over any changes, frames lost, repeated or late", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 9 }), { maxLength: 300 }), (steps) => {
        const [a, b] = [new End(1, 2), new End(2, 1)]
        const ends = [a, b] as const
        const wires: [Array<Frame.NewCid | Frame.RetireCid>, Array<Frame.NewCid | Frame.RetireCid>] = [[], []]
        const used = [[a.ids.first], [b.ids.first]]
        const seen = [new Set(["0"]), new Set(["0"])]
        for (const end of ends) end.ids.supply(true)
        for (const [now, step] of steps.entries()) {
          for (const [i, end] of ends.entries()) {
            wires[i]?.push(...end.frames())
            end.ids.expire(now)
            const peer = ends[1 - i]
            const wire = wires[i] ?? []
            const mine = used[i] ?? []
            if (step < 4) {
              // A path takes an id and the oldest gives its own back.
              const next = end.ids.take()
              if (next === undefined) continue
              assert.isFalse(seen[i]?.has(`${next.sequence}`))
              seen[i]?.add(`${next.sequence}`)
              mine.push(next)
              const gone = mine.length > 3 ? mine.shift() : undefined
              if (gone !== undefined) end.ids.release(gone)
            } else if (step < 8) {
              // The next frame arrives, and is acknowledged or repeated.
              const frame = wire.splice(step % 2 === 0 ? 0 : wire.length - 1, 1)[0]
              if (frame === undefined || peer === undefined) continue
              assert.deepStrictEqual(give(peer.ids, [frame], now), [undefined])
              if (step === 7) wire.push(frame)
              else end.ids.onArrived(frame)
            }
            assert.isAtMost(end.ids.local.length, 2 * MAX_CONNECTION_IDS)
            assert.isAtMost(end.ids.held, 8 * MAX_CONNECTION_IDS)
          }
        }
      }),
      { seed: 4, numRuns: 300 }
    )
  })
})
