import * as Fs from "node:fs"
import { assert, describe, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as Network from "../../src/programs/cli/Layers.ts"
import { flood } from "./Flood.ts"
import { command, control, device, probe, status, World, world } from "./Tiers.ts"

const linux = process.platform === "linux"
const COUNT = 100_000

describe.skipIf(!linux)(linux ? "a guarded server" : "a guarded server (skipped: /proc is not here)", () => {
  layer(Layer.merge(world(), Network.network), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    it.effect(
      `serves a device and pairs another under ${COUNT} datagrams of junk, replays and garbage with ids that live`,
      () =>
        Effect.gen(function* () {
          const { home, server } = yield* World
          const report = yield* flood({ count: COUNT, rate: 50_000 })
          assert.isAtLeast(report.sent, COUNT)
          assert.strictEqual(report.received, 0)
          // All kinds have arrived; how many the kernel had room for is the machine's business.
          const { forged = 0, repeated = 0, unknown = 0, unopened = 0 } = report.dropped
          for (const count of [forged, repeated, unknown, unopened]) assert.isAbove(count, COUNT / 100)
          assert.isAtLeast(report.echoMs.length, 5)
          assert.isAtLeast(report.answers, 1)
          assert.isBelow(report.rssAfterMib - report.rssBeforeMib, 48)
          // Whoever came has left a line or two, the flood none yet: it is told of once a minute, and at the end.
          assert.isBelow(report.logBytes, 8192)
          assert.deepEqual(server().mishaps, [])
          yield* server().end("SIGTERM")
          const { audit } = HomePaths.server(home)
          const records: ReadonlyArray<{ kind: string; dropped?: number; alert?: boolean }> = Fs.readFileSync(
            audit,
            "utf8"
          )
            .trimEnd()
            .split("\n")
            .map((line) => JSON.parse(line))
          const told = records.filter(({ kind }) => kind === "traffic.dropped")
          assert.isAtMost(told.length, 2)
          assert.isTrue(told.some(({ alert }) => alert))
          const sum = told.reduce((all, { dropped = 0 }) => all + dropped, 0)
          assert.isAtLeast(sum, forged + repeated + unknown + unopened)
          assert.isBelow(Fs.statSync(audit).size, 32_768)
        }),
      120_000
    )
  })

  layer(Layer.merge(world(), Network.network), { excludeTestServices: true, timeout: "60 seconds" })((it) => {
    it.effect("answers a revoked device with silence: it gives up with 69 and not one byte came back", () =>
      Effect.gen(function* () {
        const { port, recorder, restart } = yield* World
        const home = yield* device("revoked")
        const before = yield* command(["ping", `--home=${home}`, "--count=1"])
        assert.strictEqual(before.code, 0, before.err)
        const revoked = yield* Effect.scoped(
          Effect.flatMap(control, (procedures) => Effect.orDie(procedures["Control.Revoke"]({ id: "revoked" })))
        )
        assert.isDefined(revoked.revokedAt)
        // What was acknowledged outlives the process that did it.
        yield* restart
        // It has found the server's own address meanwhile: of that it is made to forget, so that all passes the recorder.
        Fs.rmSync(`${home}/identity/last.json`)
        const from = recorder.passed.length
        const known = (yield* status).drops.unknown ?? 0
        const refused = yield* command(["ping", `--home=${home}`, "--count=1", "--timeout=3"])
        assert.strictEqual(refused.code, 69, refused.err)
        assert.strictEqual(refused.out, "")
        assert.match(refused.err, /^clawchat: The server does not answer \(.*does not know this device any more\n$/)
        const passed = recorder.passed.slice(from)
        assert.isAtLeast((yield* status).drops.unknown ?? 0, known + 3)
        assert.isAtLeast(passed.filter(({ up }) => up).length, 3)
        assert.deepStrictEqual(
          passed.filter(({ up }) => !up),
          []
        )
        // Its recorded words, from elsewhere, are met the same way.
        const elsewhere = yield* probe("127.0.0.5")
        const words = recorder.passed.filter(({ up }) => up).map(({ bytes }) => bytes)
        assert.isAbove(words.length, 0)
        yield* elsewhere.send(words, port)
        yield* status
        assert.strictEqual(elsewhere.received, 0)
        assert.strictEqual((yield* status).sessions, 0)
      })
    )
  })
})
