/** A day of everything that networks do, in a few seconds; longer ones run below test/soak. */
import { assert, describe, it } from "@effect/vitest"
import * as Bbr from "../../src/domain/protocol/Bbr.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import { live } from "./Day.ts"

/** Packets of all sessions, both ways. */
const MOST_PACKETS = 200_000

const congestion = [Bbr.make, NewReno.make]
/** The seed of a day that failed. */
const given = process.env.DAY_SEED

describe("A virtual day", () => {
  it("of loss, reordering, duplicates, damage, cuts and moves: not a byte wrong, and nothing left behind", () => {
    const report = live({ seed: given === undefined ? 1 : Number(given), hours: 24, congestion, files: 2 })
    assert.isAtMost(report.packets, MOST_PACKETS)
    // It was a day worth its name.
    assert.isAbove(report.messages, 300)
    assert.isAbove(report.files.whole, 20)
    assert.isAbove(report.files.cancelled, 2)
    assert.isAbove(report.corrupted, 100)
    assert.isAbove(report.sessions, 3)
  })

  it("happens again from its seed", () => {
    const hours = { hours: 2, congestion }
    assert.deepStrictEqual(live({ seed: 5, ...hours }), live({ seed: 5, ...hours }))
    assert.notStrictEqual(live({ seed: 6, ...hours }).digest, live({ seed: 5, ...hours }).digest)
  })

  it("that fails tells the seed that replays it", () => {
    assert.throws(() => live({ seed: 4711, hours: 1, congestion: [] }), /replay with DAY_SEED=4711/)
  })
})
