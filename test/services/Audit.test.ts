import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as AuditEvent from "../../src/domain/AuditEvent.ts"
import * as AuditNode from "../../src/layers/AuditNode.ts"
import { Audit, stamp } from "../../src/services/Audit.ts"

const START = Date.UTC(2026, 2, 1)
const at = (n: number): string => stamp(START + n * 1000)
const port = (n: number): AuditEvent.Record => ({ at: at(n), kind: "port.closed", port: n })
const kept = (n: number): AuditEvent.Record => ({ at: at(n), kind: "port.kept", port: n, why: "x".repeat(200) })

const folder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "clawchat-audit-"))),
  (made) => Effect.sync(() => Fs.rmSync(made, { recursive: true, force: true }))
)
const onDisk = (use: (path: string) => Effect.Effect<void, unknown>) =>
  Effect.scoped(Effect.flatMap(folder, (made) => use(Path.join(made, "logs", "audit.log"))))

const contract = (audit: Layer.Layer<Audit>) =>
  Effect.gen(function* () {
    const { append, read } = yield* Audit
    assert.deepStrictEqual(yield* read({ limit: 10 }), [])
    const all = [port(0), kept(1), port(2), kept(3), port(4)]
    for (const record of all) yield* append(record)
    assert.deepStrictEqual(yield* read({ limit: 10 }), all)
    assert.deepStrictEqual(yield* read({ limit: 2 }), all.slice(3))
    assert.deepStrictEqual(yield* read({ limit: 10, sinceMs: START + 3000 }), all.slice(3))
    assert.deepStrictEqual(yield* read({ limit: 10, kinds: ["port.kept"] }), [kept(1), kept(3)])
    assert.deepStrictEqual(yield* read({ limit: 1, kinds: ["port.kept"], sinceMs: START }), [kept(3)])
    assert.deepStrictEqual(yield* read({ limit: 10, sinceMs: Number.MAX_VALUE }), [])
  }).pipe(Effect.provide(audit))

describe("Audit", () => {
  it.effect("in memory", () => contract(Audit.layerMemory))

  it.live("in a file", () => onDisk((path) => contract(AuditNode.layer(path))))

  it.live("makes nothing by being read, and a file for its owner alone by being written", () =>
    onDisk((path) =>
      Effect.gen(function* () {
        yield* Audit.use((audit) => audit.read({ limit: 1 })).pipe(Effect.provide(AuditNode.layer(path)))
        assert.isFalse(Fs.existsSync(Path.dirname(path)))
        const mask = process.umask(0)
        yield* Audit.use((audit) => audit.append(port(1))).pipe(Effect.provide(AuditNode.layer(path)))
        process.umask(mask)
        assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
        assert.strictEqual(Fs.statSync(Path.dirname(path)).mode & 0o777, 0o700)
        // One that stood open to others is closed to them.
        Fs.chmodSync(path, 0o644)
        yield* Audit.use((audit) => audit.append(port(2))).pipe(Effect.provide(AuditNode.layer(path)))
        assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
      })
    )
  )

  it.live("stays within its size, whatever is written, and drops the oldest", () =>
    onDisk((path) =>
      Effect.gen(function* () {
        const { append, read } = yield* Audit
        for (let n = 0; n < 2000; n++) yield* append(kept(n))
        const files = Fs.readdirSync(Path.dirname(path))
        assert.deepStrictEqual(files.sort(), ["audit.log", "audit.log.1", "audit.log.2"])
        const sizes = files.map((name) => Fs.statSync(Path.join(Path.dirname(path), name)).size)
        assert.isAtMost(Math.max(...sizes), 10_000)
        const all = yield* read({ limit: 100_000 })
        assert.isAbove(all.length, 60)
        assert.deepStrictEqual(
          all,
          Array.from({ length: all.length }, (_, i) => kept(2000 - all.length + i))
        )
        // Across the border of two files.
        assert.deepStrictEqual(yield* read({ limit: all.length - 1 }), all.slice(1))
      }).pipe(Effect.provide(AuditNode.layer(path, { maxSizeBytes: 10_000, backupCount: 2 })))
    )
  )

  it.live("passes over lines that a crash cut short or somebody else wrote", () =>
    onDisk((path) =>
      Effect.gen(function* () {
        const { append, read } = yield* Audit
        yield* append(port(1))
        Fs.appendFileSync(path, `{"at":"2026-03-01T00:0\n\nnonsense\n{"at":"${at(2)}","kind":"gossip"}\n`)
        yield* append(port(3))
        assert.deepStrictEqual(yield* read({ limit: 10 }), [port(1), port(3)])
      }).pipe(Effect.provide(AuditNode.layer(path)))
    )
  )

  it.live("begins a line of its own behind one that was cut off", () =>
    onDisk((path) =>
      Effect.gen(function* () {
        const append = (record: AuditEvent.Record) =>
          Effect.provide(
            Audit.use((audit) => audit.append(record)),
            AuditNode.layer(path)
          )
        yield* append(port(1))
        Fs.appendFileSync(path, '{"at":"2026')
        yield* append(port(2))
        yield* append(port(3))
        const { read } = yield* Audit
        assert.deepStrictEqual(yield* read({ limit: 10 }), [port(1), port(2), port(3)])
      }).pipe(Effect.provide(AuditNode.layer(path)))
    )
  )

  it.live("writes through no link and stops nothing when it cannot write; later it goes on", () =>
    onDisk((path) =>
      Effect.gen(function* () {
        const { append, read } = yield* Audit
        Fs.mkdirSync(Path.dirname(path))
        const target = Path.join(Path.dirname(path), "elsewhere")
        Fs.writeFileSync(target, "")
        Fs.symlinkSync(target, path)
        yield* append(port(1))
        assert.strictEqual(Fs.readFileSync(target, "utf8"), "")
        Fs.rmSync(path)
        yield* append(port(2))
        assert.deepStrictEqual(yield* read({ limit: 10 }), [port(2)])
      }).pipe(Effect.provide(AuditNode.layer(path)))
    )
  )
})

describe("AuditEvent", () => {
  it("is one line that steers no terminal, whatever a device calls itself", () => {
    const text = AuditEvent.text({
      at: at(0),
      kind: "device.enrolled",
      device: "ab".repeat(16),
      name: 'x"\n\u001b[31m= kind=\u202eforged',
      role: "owner",
      source: "[2001:db8::1]:5"
    })
    assert.notMatch(text, /[\p{Cc}\u202e]/u)
    assert.isTrue(text.startsWith('device.enrolled device=abababab name="x'))
    assert.isTrue(text.endsWith("role=owner source=[2001:db8::1]:5"))
  })

  it("names every kind once", () => {
    assert.strictEqual(new Set(AuditEvent.KINDS).size, AuditEvent.KINDS.length)
    assert.include(AuditEvent.KINDS, "compromised")
  })
})
