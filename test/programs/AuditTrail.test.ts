import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import type * as AuditEvent from "../../src/domain/AuditEvent.ts"
import type { Drops } from "../../src/domain/protocol/EndpointTypes.ts"
import * as AuditTrail from "../../src/programs/AuditTrail.ts"
import { Audit } from "../../src/services/Audit.ts"

const id = (n: number): string => n.toString(16).padStart(32, "0")
const source = "192.0.2.1:5000"
const opened = (n: number): AuditEvent.Event => ({ kind: "session.opened", device: id(n), name: "x", source })
const closed = (n: number): AuditEvent.Event => ({
  kind: "session.closed",
  device: id(n),
  source,
  durationMs: 10,
  bytesIn: 3,
  bytesOut: 4,
  how: "idle"
})

const ZERO: Drops = {
  unknown: 0,
  forged: 0,
  repeated: 0,
  expired: 0,
  overBudget: 0,
  badHandshake: 0,
  stranger: 0,
  full: 0,
  unopened: 0,
  replayed: 0
}

/** A trail in the test's scope, what it has put on record, and the lines of the log. */
const made = Effect.gen(function* () {
  const audit = yield* Audit
  const lines: Array<string> = []
  const logger = Logger.layer([
    Logger.make(({ logLevel, message }) => {
      lines.push(`${logLevel} ${Array.isArray(message) ? message.join(" ") : message}`)
    })
  ])
  const trail = yield* AuditTrail.make()
  const records = Effect.orDie(audit.read({ limit: 100_000 }))
  const note = (event: AuditEvent.Event) => Effect.provide(trail.note(event), logger)
  const watch = (drops: Effect.Effect<Drops>) => Effect.provide(trail.watch(drops), logger)
  return { lines, note, records, watch }
})

const total = (records: ReadonlyArray<AuditEvent.Record>, kind: AuditEvent.Kind): number =>
  records.filter((record) => record.kind === kind).reduce((sum, { count = 1 }) => sum + count, 0)

describe("AuditTrail", () => {
  it.effect("puts a few of a kind and device on record as they come, and one a minute that counts the rest", () =>
    Effect.gen(function* () {
      const { lines, note, records } = yield* made
      for (let n = 0; n < 10_000; n++) {
        yield* note(opened(1))
        yield* note(closed(1))
      }
      yield* note(opened(2))
      assert.lengthOf(yield* records, 2 * AuditTrail.BURST + 1)
      assert.lengthOf(lines, 2 * AuditTrail.BURST + 1)
      assert.strictEqual(lines[0], `Info [audit] session.opened device=00000000 name=x source=${source}`)
      yield* TestClock.adjust(AuditTrail.PERIOD_MS)
      const all = yield* records
      assert.lengthOf(all, 2 * AuditTrail.BURST + 3)
      assert.strictEqual(total(all, "session.opened"), 10_001)
      assert.strictEqual(total(all, "session.closed"), 10_000)
      const sum = all.at(-1)
      assert.deepInclude(sum, {
        kind: "session.closed",
        alert: true,
        count: 9992,
        durationMs: 99_920,
        bytesIn: 29_976,
        bytesOut: 39_968
      })
    }).pipe(Effect.provide(Audit.layerMemory))
  )

  it.effect("a day of a device that never rests is at most three lines a minute", () =>
    Effect.gen(function* () {
      const { note, records } = yield* made
      for (let minute = 0; minute < 1440; minute++) {
        for (let n = 0; n < 100; n++) yield* note(opened(1))
        yield* TestClock.adjust(AuditTrail.PERIOD_MS)
      }
      const all = yield* records
      assert.isAtMost(all.length, 3 * 1440)
      assert.strictEqual(total(all, "session.opened"), 144_000)
    }).pipe(Effect.provide(Audit.layerMemory))
  )

  it.effect("a hundred thousand devices leave a bounded number of lines, and none is forgotten", () =>
    Effect.gen(function* () {
      const { note, records } = yield* made
      for (let n = 0; n < 100_000; n++) yield* note(opened(n))
      assert.strictEqual((yield* records).length, AuditTrail.MAX_FLOWS + AuditTrail.BURST)
      yield* TestClock.adjust(AuditTrail.PERIOD_MS)
      assert.strictEqual(total(yield* records, "session.opened"), 100_000)
    }).pipe(Effect.provide(Audit.layerMemory))
  )

  it.effect("tells what it held back when it ends", () =>
    Effect.gen(function* () {
      const audit = yield* Audit
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { note } = yield* made
          for (let n = 0; n < 20; n++) yield* note(opened(1))
        })
      )
      assert.strictEqual(total(yield* audit.read({ limit: 100 }), "session.opened"), 20)
    }).pipe(Effect.provide(Audit.layerMemory))
  )

  it.effect("tells of dropped datagrams once a minute, by reason and rate, and of a few by the hour", () =>
    Effect.gen(function* () {
      const { lines, records, watch } = yield* made
      let drops = ZERO
      yield* Effect.forkScoped(watch(Effect.sync(() => drops)))
      yield* TestClock.adjust(5 * AuditTrail.PERIOD_MS)
      assert.lengthOf(yield* records, 0)
      // A flood of ten minutes.
      for (let minute = 0; minute < 10; minute++) {
        drops = { ...drops, unknown: drops.unknown + 3_000_000, forged: drops.forged + 60 }
        yield* TestClock.adjust(AuditTrail.PERIOD_MS)
      }
      const flood = yield* records
      assert.lengthOf(flood, 10)
      assert.deepInclude(flood[9], {
        kind: "traffic.dropped",
        alert: true,
        dropped: 3_000_060,
        seconds: 60,
        perSecond: 50_001,
        reasons: { unknown: 3_000_000, forged: 60 }
      })
      assert.strictEqual(
        lines[9],
        "Warn [audit] traffic.dropped alert=true dropped=3000060 seconds=60 perSecond=50001 unknown=3000000 forged=60"
      )
      // A stray datagram each twenty minutes.
      for (let n = 0; n < 6; n++) {
        drops = { ...drops, unknown: drops.unknown + 1 }
        yield* TestClock.adjust(20 * AuditTrail.PERIOD_MS)
      }
      const strays = (yield* records).slice(10)
      assert.deepStrictEqual(
        strays.map((record) => record.kind === "traffic.dropped" && [record.dropped, record.alert]),
        [
          [3, undefined],
          [3, undefined]
        ]
      )
      // The network's own duplicates, however many, are nobody's attack.
      drops = { ...drops, replayed: 1_000_000 }
      yield* TestClock.adjust(120 * AuditTrail.PERIOD_MS)
      assert.lengthOf(yield* records, 12)
    }).pipe(Effect.provide(Audit.layerMemory))
  )
})
