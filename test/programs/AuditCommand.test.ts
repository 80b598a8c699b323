import { assert, describe, it } from "@effect/vitest"
import * as Result from "effect/Result"
import { KINDS } from "../../src/domain/AuditEvent.ts"
import * as ClockSkew from "../../src/programs/ClockSkew.ts"
import { kindsOf, sinceOf } from "../../src/programs/cli/Audit.ts"

const NOW = Date.UTC(2026, 2, 1, 12)
const HOUR = 3_600_000

describe("clawchat audit", () => {
  it("takes a duration or a time for --since, in UTC unless it says otherwise", () => {
    const cases: ReadonlyArray<readonly [text: string, at: number]> = [
      ["2h", NOW - 2 * HOUR],
      ["90 minutes", NOW - 1.5 * HOUR],
      ["0s", NOW],
      ["30", NOW - 30_000],
      ["7 days", NOW - 7 * 24 * HOUR],
      ["2026-03-01", NOW - 12 * HOUR],
      ["2026-03-01T11:00", NOW - HOUR],
      ["2026-03-01 11:00:30", NOW - HOUR + 30_000],
      ["2026-03-01T11:00:00.250Z", NOW - HOUR + 250],
      ["2026-03-01T13:00:00+02:00", NOW - HOUR]
    ]
    for (const [text, at] of cases) assert.deepStrictEqual(sinceOf(text, NOW), Result.succeed(at), text)
    for (const text of ["", "soon", "-2h", "2026-13-01", "2026-3-1", "11:00", "2 fortnights", "1e3", "99999 days"]) {
      assert.isTrue(Result.isFailure(sinceOf(text, NOW)), text)
    }
  })

  it("takes kinds and groups of kinds, each once", () => {
    assert.deepStrictEqual(kindsOf([]), Result.succeed([]))
    assert.deepStrictEqual(kindsOf(["compromised"]), Result.succeed(["compromised"]))
    const sessions = KINDS.filter((kind) => kind.startsWith("session."))
    assert.isAtLeast(sessions.length, 5)
    assert.deepStrictEqual(kindsOf(["session", "session.opened"]), Result.succeed(sessions))
    for (const wrong of ["sess", "session.", "", "*"]) assert.isTrue(Result.isFailure(kindsOf([wrong])), wrong)
  })
})

describe("ClockSkew", () => {
  it("says how far and which way, as people would", () => {
    assert.match(ClockSkew.sentence(11 * HOUR), /clock is about 11 h behind the server's/)
    assert.match(ClockSkew.sentence(-HOUR / 4), /clock is about 15 min ahead of the server's/)
    assert.match(ClockSkew.sentence(-2.5 * HOUR), /clock is about 2 h 30 min ahead of the server's/)
  })
})
