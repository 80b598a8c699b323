import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as AuditEvent from "../../src/domain/AuditEvent.ts"
import * as World from "./World.ts"

const recorded = (world: World.World) =>
  Effect.flatMap(world.server.made, ({ control }) => Effect.orDie(control.audit.read({ limit: 10_000 })))

const ofKind = <Kind extends AuditEvent.Kind>(records: ReadonlyArray<AuditEvent.Record>, kind: Kind) =>
  records.filter((record): record is Extract<AuditEvent.Record, { readonly kind: Kind }> => record.kind === kind)

describe("The server's record", () => {
  it.effect("of a device's life: taken on, in, its keys changed, gone; with source, duration and bytes", () =>
    World.run({ seed: 901, keyRotationMs: 600_000, portRotationMs: 3_600_000, limitMs: 3 * 3_600_000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ name: "laptop", address: "192.0.2.77" })
        const began = yield* world.now
        yield* client.ask(0)
        yield* Effect.sleep(7_200_000)
        yield* client.tier.stop
        yield* Effect.sleep(1000)
        const records = yield* recorded(world)
        const stamps = records.map(({ at }) => at)
        assert.deepStrictEqual(stamps, stamps.toSorted())

        assert.strictEqual(records[0]?.kind, "server.started")
        const [enrolled, ...more] = ofKind(records, "device.enrolled")
        assert.lengthOf(more, 0)
        assert.deepInclude(enrolled, { name: "laptop", role: "owner" })
        const device = enrolled?.device ?? ""
        const [opened, ...again] = ofKind(records, "session.opened")
        assert.lengthOf(again, 0)
        assert.deepInclude(opened, { device, name: "laptop" })
        assert.match(opened?.source ?? "", /^192\.0\.2\.77:\d+$/)
        const [closed, ...others] = ofKind(records, "session.closed")
        assert.lengthOf(others, 0)
        assert.deepInclude(closed, { device, how: "by the device: GoingAway" })
        assert.approximately(closed?.durationMs ?? 0, (yield* world.now) - began, 3000)
        assert.isAbove(closed?.bytesIn ?? 0, 5000)
        assert.isAbove(closed?.bytesOut ?? 0, 5000)

        // Two hours: keys each ten minutes or so, ports each hour.
        const rotations = ofKind(records, "keys.rotated").reduce((sum, { count = 1 }) => sum + count, 0)
        assert.isAtLeast(rotations, 10)
        assert.isAtMost(rotations, 14)
        assert.isAtLeast(ofKind(records, "port.opened").length, 2)
        assert.isAtLeast(ofKind(records, "port.closed").length, 1)
        assert.isAtLeast(ofKind(records, "credential.issued").length, 1)
        assert.isTrue(records.every(({ alert }) => alert !== true))
        // The log has the same, a line each.
        const lines = world.log.filter(({ message, tier }) => tier === "server" && message.startsWith("[audit] "))
        assert.lengthOf(lines, records.length)
      })
    )
  )

  it.effect("of those who should not have come: a stranger with a used file, a revoked device", () =>
    World.run({ seed: 902 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        yield* world.llm.start()
        yield* Effect.sleep(100)
        const file = yield* Effect.orDie(world.pairing)
        const owner = yield* world.client({ name: "owner" })
        yield* Effect.flatMap(owner.tier.start(file), ({ session }) => session)
        const thief = yield* world.client({ name: "thief", address: "192.0.2.99" })
        yield* thief.tier.start(file)
        yield* Effect.sleep(40_000)
        yield* thief.tier.stop
        const records = yield* recorded(world)
        const [stranger] = ofKind(records, "auth.stranger")
        const id = ofKind(records, "device.enrolled")[0]?.device ?? ""
        assert.deepInclude(stranger, {
          alert: true,
          credential: "file",
          device: id
        })
        assert.match(stranger?.source ?? "", /^192\.0\.2\.99:\d+$/)

        const { server } = yield* Effect.flatMap(owner.tier.made, ({ session }) => session)
        yield* Effect.orDie(server["Control.Revoke"]({ id: "owner" })).pipe(Effect.ignoreCause)
        yield* Effect.sleep(90_000)
        const after = yield* recorded(world)
        const [revoked] = ofKind(after, "device.revoked")
        assert.deepInclude(revoked, { name: "owner", by: id })
        assert.deepInclude(ofKind(after, "session.closed").at(-1), {
          device: id,
          how: "by the server: Revoked"
        })
        // What a locked-out device sends proves nothing any more: only its number is kept.
        const [dropped] = ofKind(after, "traffic.dropped").slice(-1)
        assert.isAbove(dropped?.dropped ?? 0, 5)
        assert.notInclude(JSON.stringify(ofKind(after, "traffic.dropped")), "192.0.2")
      })
    )
  )
})
