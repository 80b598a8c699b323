import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import {
  MAX_SEALED_SESSIONS,
  MAX_SEALED_SESSIONS_PER_DEVICE,
  SEALED_SESSION_MS
} from "../../src/domain/protocol/Constants.ts"
import { type Session, streamKeys } from "../../src/domain/protocol/SealedHandshake.ts"
import { SealedSessions } from "../../src/domain/protocol/SealedSessions.ts"
import { primitives as p } from "../../src/layers/CryptoNode.ts"

const sessionOf = (n: number): Session => {
  const id = new Uint8Array(16)
  new DataView(id.buffer).setUint32(0, n)
  return { id, secret: new Uint8Array(32).fill(1 + (n % 255)) }
}

describe("SealedSessions", () => {
  it("gives the keys of each stream once, to the device alone", () => {
    const sessions = new SealedSessions()
    const session = sessionOf(1)
    const expected = streamKeys(p, session, 3)
    sessions.add(0, "a", session)
    assert.isUndefined(sessions.take(0, p, "b", session.id, 3))
    assert.isUndefined(sessions.take(0, p, "a", sessionOf(2).id, 3))
    assert.deepStrictEqual(sessions.take(0, p, "a", session.id, 3), expected)
    assert.isUndefined(sessions.take(0, p, "a", session.id, 3))
    assert.isDefined(sessions.take(0, p, "a", session.id, 1))
    // The stream that carried the handshake.
    assert.isUndefined(sessions.take(0, p, "a", session.id, 0))
  })

  it("admits no number twice, in whatever order they come", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 300 }), { maxLength: 300 }), (numbers) => {
        const sessions = new SealedSessions()
        const session = sessionOf(1)
        sessions.add(0, "a", session)
        const seen = new Set<number>()
        let highest = 0
        for (const number of numbers) {
          const taken = sessions.take(0, p, "a", session.id, number) !== undefined
          const expected = number > 0 && number > highest - 64 && !seen.has(number)
          assert.strictEqual(taken, expected, `${number}`)
          if (taken) seen.add(number)
          highest = Math.max(highest, ...(taken ? [number] : []))
        }
      }),
      { seed: 4, numRuns: 100 }
    )
  })

  it("forgets after its time, and wipes what it forgets", () => {
    const sessions = new SealedSessions()
    const session = sessionOf(1)
    sessions.add(0, "a", session)
    assert.isDefined(sessions.take(SEALED_SESSION_MS - 1, p, "a", session.id, 1))
    assert.isUndefined(sessions.take(SEALED_SESSION_MS, p, "a", session.id, 2))
    assert.strictEqual(sessions.size, 0)
    assert.deepStrictEqual(session.secret, new Uint8Array(32))
    const other = sessionOf(2)
    sessions.add(0, "a", other)
    sessions.wipe()
    assert.deepStrictEqual(other.secret, new Uint8Array(32))
  })

  it("keeps few of one device and not too many of all; the one used least lately goes", () => {
    const sessions = new SealedSessions()
    for (let n = 0; n < MAX_SEALED_SESSIONS_PER_DEVICE; n++) sessions.add(0, "a", sessionOf(n))
    assert.isDefined(sessions.take(0, p, "a", sessionOf(0).id, 1))
    sessions.add(0, "a", sessionOf(1000))
    assert.strictEqual(sessions.size, MAX_SEALED_SESSIONS_PER_DEVICE)
    assert.isUndefined(sessions.take(0, p, "a", sessionOf(1).id, 1))
    assert.isDefined(sessions.take(0, p, "a", sessionOf(0).id, 2))
    for (let n = 0; n < 2 * MAX_SEALED_SESSIONS; n++) sessions.add(0, `device ${n}`, sessionOf(2000 + n))
    assert.strictEqual(sessions.size, MAX_SEALED_SESSIONS)
  })
})
