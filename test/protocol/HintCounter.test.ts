import { assert, describe, it } from "@effect/vitest"
import { CloseCode } from "../../src/domain/protocol/CloseCode.ts"
import { HINT_SLOT_MS, HINT_WINDOW, INITIATION_LENGTH, MAX_HINT_SLOTS } from "../../src/domain/protocol/Constants.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import { HintCounter, type HintState } from "../../src/domain/protocol/HintCounter.ts"
import { Pair, steady } from "./Pair.ts"

const take = (counter: HintCounter, slot: number, count: number): ReadonlyArray<number> =>
  Array.from({ length: count }, () => counter.next(slot))

const range = (from: number, count: number): ReadonlyArray<number> => Array.from({ length: count }, (_, i) => from + i)

describe("HintCounter", () => {
  it("begins at 0 and goes on behind the last number that was answered", () => {
    const counter = new HintCounter(undefined)
    assert.strictEqual(counter.state, undefined)
    assert.strictEqual(counter.next(7), 0)
    counter.onAnswered(7, 0)
    assert.strictEqual(counter.next(7), 1)
    assert.deepStrictEqual(counter.state, { slot: 7, answered: 0, tried: 1 })
    counter.onAnswered(7, 1)
    assert.strictEqual(counter.next(7), 2)
  })

  it("does not show again what it showed beside the number that was answered", () => {
    const counter = new HintCounter(undefined)
    assert.deepStrictEqual(take(counter, 7, 4), [0, 1, 2, 3])
    counter.onAnswered(7, 1)
    assert.strictEqual(counter.next(7), 4)
    counter.onAnswered(7, 4)
    assert.strictEqual(counter.next(7), 5)
  })

  it("shows no number of a swept slot twice, over restarts too, and forgets slots that no sweep reaches any more", () => {
    let state: HintState | undefined
    const shown: Array<string> = []
    for (let run = 0; run < 10; run++) {
      const counter = new HintCounter(state)
      for (const [slot, swept] of [
        [1000, false],
        [1012, true],
        [988, true],
        [1000, false]
      ] as const) {
        shown.push(`${slot}/${counter.next(slot, swept)}`)
      }
      counter.onAnswered(1000, 2 * run + 1)
      state = counter.state
    }
    assert.strictEqual(new Set(shown).size, shown.length)
    assert.strictEqual(state?.slot, 1000)
    assert.strictEqual(state?.others?.length, 2)
    const later = new HintCounter(state)
    later.next(1310)
    assert.deepStrictEqual(
      later.state?.others?.map(([slot]) => slot),
      [1012, 1000]
    )
  })

  it("stays within the window while nothing answers, and every fourth try of a later round starts over", () => {
    const counter = new HintCounter({ slot: 7, answered: 39, tried: 0 })
    assert.deepStrictEqual(take(counter, 7, HINT_WINDOW), range(40, HINT_WINDOW))
    assert.deepStrictEqual(take(counter, 7, 16), [40, 41, 42, 4, 44, 45, 46, 5, 48, 49, 50, 6, 52, 53, 54, 7])
  })

  it("is never out of the window of a server that remembers all, whatever gets lost", () => {
    let state = 12345
    const random = () => {
      state = (state * 1103515245 + 12345) % 2 ** 31
      return state / 2 ** 31
    }
    for (let run = 0; run < 200; run++) {
      const counter = new HintCounter(undefined)
      const shown = new Set<number>()
      let highest = -1
      for (let i = 0; i < 60; i++) {
        const silent = Math.floor(random() * (HINT_WINDOW - 1))
        let got = -1
        for (let j = 0; j <= silent; j++) {
          got = counter.next(1)
          assert.isAtMost(got, highest + HINT_WINDOW)
          assert.isFalse(shown.has(got))
          shown.add(got)
        }
        highest = Math.max(highest, got)
        counter.onAnswered(1, got)
      }
    }
  })

  it("believes a server that has forgotten", () => {
    const counter = new HintCounter({ slot: 7, answered: 39, tried: 0 })
    const tries = take(counter, 7, 20)
    assert.strictEqual(tries.at(-1), 4)
    counter.onAnswered(7, 4)
    assert.strictEqual(counter.next(7), 5)
  })

  it("is not set back by the answer to an older try", () => {
    const counter = new HintCounter(undefined)
    take(counter, 7, 2)
    counter.onAnswered(7, 1)
    counter.onAnswered(7, 0)
    assert.strictEqual(counter.next(7), 2)
  })

  it("starts over in a new slot and ignores answers of slots it does not know", () => {
    const counter = new HintCounter(undefined)
    take(counter, 7, 3)
    assert.strictEqual(counter.next(8), 0)
    counter.onAnswered(99, 5)
    assert.deepStrictEqual(counter.state, { slot: 8, answered: -1, tried: 1, others: [[7, -1, 3]] })
  })

  it("counts the slots of a sweep without forgetting its own", () => {
    const counter = new HintCounter(undefined)
    assert.deepStrictEqual(take(counter, 7, 3), [0, 1, 2])
    for (let slot = 100; slot < 310; slot++) assert.strictEqual(counter.next(slot, true), 0)
    assert.strictEqual(counter.next(7), 3)
    assert.deepInclude(counter.state, { slot: 7, answered: -1, tried: 4 })
    assert.strictEqual(counter.next(200, true), 1)
    counter.onAnswered(200, 1)
    assert.deepInclude(counter.state, { slot: 200, answered: 1, tried: 0 })
  })

  it("remembers a bounded number of slots, its own among them", () => {
    const counter = new HintCounter(undefined)
    counter.next(0)
    for (let slot = 1; slot <= 3 * MAX_HINT_SLOTS; slot++) counter.next(slot, true)
    assert.strictEqual(counter.next(1, true), 0)
    assert.strictEqual(counter.next(0), 1)
  })

  it("goes on where it was after a restart", () => {
    const counter = new HintCounter(undefined)
    take(counter, 7, 5)
    counter.onAnswered(7, 3)
    const again = new HintCounter(counter.state)
    assert.strictEqual(again.next(7), 5)
  })
})

/** The first 8 bytes of all initiations, and of all other datagrams by session. */
const ids = (pair: Pair) => {
  const hints: Array<string> = []
  const answers: Array<string> = []
  const connections: Array<string> = []
  for (const { from, bytes } of pair.wire) {
    const id = hex(bytes.subarray(0, 8))
    if (bytes.length !== INITIATION_LENGTH) connections.push(id)
    else if (from === "client") hints.push(id)
    else answers.push(id)
  }
  return { hints, answers, connections }
}

describe("Hints and connection ids on the wire", () => {
  const sessions = (pair: Pair, count: number, gapMs: number): void => {
    for (let i = 0; i < count; i++) {
      const { client } = pair.connect()
      pair.client.close(pair.now, client, CloseCode.None, "")
      pair.drain()
      pair.pass(gapMs)
    }
  }

  const assertFresh = (pair: Pair, count: number): void => {
    const { hints, answers, connections } = ids(pair)
    assert.strictEqual(hints.length, count)
    assert.strictEqual(new Set(hints).size, count)
    assert.strictEqual(new Set(answers).size, count)
    // Each session has one id a direction, used by it alone.
    const spans = new Map<string, { first: number; last: number }>()
    connections.forEach((id, at) => {
      const span = spans.get(id)
      if (span === undefined) spans.set(id, { first: at, last: at })
      else span.last = at
    })
    assert.strictEqual(spans.size, 2 * count)
    const all = [...hints, ...spans.keys()]
    assert.strictEqual(new Set(all).size, all.length)
  }

  it("never recur over a hundred sessions within one slot", () => {
    const pair = new Pair()
    sessions(pair, 100, 1000)
    assert.isBelow(pair.now, HINT_SLOT_MS)
    assertFresh(pair, 100)
  })

  it("never recur over a hundred sessions across slots", () => {
    const pair = new Pair({ phaseMs: 100_000 })
    sessions(pair, 100, 11_000)
    assert.isAbove(pair.now, 3 * HINT_SLOT_MS)
    assertFresh(pair, 100)
  })

  it("never recur where the first answers come late and attempts are repeated", () => {
    const pair = new Pair({ fate: steady(400) })
    for (let i = 0; i < 20; i++) {
      const { client } = pair.connect()
      pair.client.close(pair.now, client, CloseCode.None, "")
      pair.drain()
      pair.pass(6000)
    }
    const { hints } = ids(pair)
    assert.isAbove(hints.length, 40)
    assert.strictEqual(new Set(hints).size, hints.length)
  })

  it("let the device in after a restart of the server that remembers", () => {
    const pair = new Pair()
    sessions(pair, 70, 1000)
    pair.restartServer(pair.seen)
    const before = pair.now
    sessions(pair, 1, 0)
    assert.strictEqual(pair.now - before, 40)
    assertFresh(pair, 71)
  })

  for (const known of [3, 20, 70]) {
    it(`let the device in after a restart of the server that forgot ${known} sessions of the slot`, () => {
      const pair = new Pair()
      sessions(pair, known, 1000)
      pair.restartServer([])
      const before = pair.now
      const { client } = pair.connect()
      assert.isAtMost(pair.now - before, known < HINT_WINDOW ? 40 : 40_000)
      pair.client.close(pair.now, client, CloseCode.None, "")
      pair.pass(1000)
      // And it is known again from here on.
      const again = pair.now
      sessions(pair, 1, 0)
      assert.strictEqual(pair.now - again, 40)
    })
  }

  it("do not answer a replayed initiation after a restart that remembers", () => {
    const pair = new Pair()
    sessions(pair, 5, 1000)
    const initiations = pair.wire.filter(({ from, bytes }) => from === "client" && bytes.length === INITIATION_LENGTH)
    pair.restartServer(pair.seen)
    const sent = pair.sentBy("server").length
    for (const { bytes } of initiations) pair.inject("server", { host: "203.0.113.7", port: 999 }, bytes)
    assert.strictEqual(initiations.length, 5)
    assert.strictEqual(pair.server.drops.repeated, 5)
    assert.strictEqual(pair.sentBy("server").length, sent)
    assert.strictEqual(pair.server.held, 0)
  })
})
