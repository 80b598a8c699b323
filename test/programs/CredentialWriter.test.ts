import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { TestClock } from "effect/testing"
import { fromHex, hex } from "../../src/domain/protocol/Cursor.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as CredentialWriter from "../../src/programs/CredentialWriter.ts"
import * as Support from "./CredentialSupport.ts"

const { CHEAP, key, NOW, options } = Support
const CURRENT = "/security/clawchat-current.sec"
const MINUTE = 60_000

const world = (disk: Support.Disk, seed = "writer") => Layer.merge(disk.layer, Support.quickCrypto(seed))

const start = Effect.fnUntraced(function* (
  more: Partial<Pick<CredentialWriter.Options, "backupFolder" | "relocated">> = {}
) {
  yield* TestClock.setTime(NOW)
  const connected = yield* SubscriptionRef.make(0)
  const writer = yield* CredentialWriter.make({
    folder: "/security",
    key: key(),
    kdf: CHEAP,
    content: Effect.succeed(options),
    connected,
    ...more
  })
  return { connected, writer }
})

const current = (disk: Support.Disk) =>
  Effect.map(CredentialFiles.open(disk.files.get(CURRENT) ?? new Uint8Array(0), key(), CURRENT), (content) => content)

const idOf = (content: { readonly connection_id: string }): Uint8Array =>
  fromHex(content.connection_id) ?? new Uint8Array(0)

const ids = (live: ReadonlyArray<{ readonly id: Uint8Array }>): ReadonlyArray<string> => live.map(({ id }) => hex(id))

/** Lets forked fibers go on until they wait for the clock. */
const settle = TestClock.adjust(0)

describe("CredentialWriter", () => {
  it.effect("writes the file anew, with its id and secret, when the server is elsewhere; not a burnt one", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      let port = 50_000
      const { writer } = yield* start({
        relocated: (content) => Effect.succeed({ ...content, server_udp_port: port })
      })
      yield* writer.relocate
      assert.isFalse(disk.files.has(CURRENT))
      const { content } = yield* writer.renew
      const before = disk.changes
      yield* writer.relocate
      assert.strictEqual(disk.changes, before)
      port = 50_001
      yield* writer.relocate
      const moved = yield* current(disk)
      assert.deepStrictEqual(moved, { ...content, server_udp_port: 50_001 })
      assert.deepStrictEqual(disk.files.get(`/security/archive/${content.connection_id}.sec`), disk.files.get(CURRENT))
      yield* writer.burn(idOf(content))
      port = 50_002
      yield* writer.relocate
      assert.isFalse(disk.files.has(CURRENT))
    }).pipe(Effect.scoped, Effect.provide(world(disk)))
  })

  it.effect("writes at start, every 10 minutes, valid for 11, and cleans up what expired", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { writer } = yield* start()
      yield* Effect.forkScoped(writer.run)
      yield* settle
      const first = yield* current(disk)
      assert.deepStrictEqual([first.valid_from, first.valid_until], [NOW, NOW + 11 * MINUTE])
      assert.deepStrictEqual(disk.files.get(`/security/archive/${first.connection_id}.sec`), disk.files.get(CURRENT))

      yield* TestClock.adjust(10 * MINUTE - 1)
      assert.deepStrictEqual(yield* current(disk), first)
      yield* TestClock.adjust(1)
      const second = yield* current(disk)
      assert.strictEqual(second.valid_from, NOW + 10 * MINUTE)
      assert.deepStrictEqual(ids(yield* writer.live), [first.connection_id, second.connection_id])

      yield* TestClock.adjust(MINUTE + 30_000)
      assert.deepStrictEqual(ids(yield* writer.live), [first.connection_id, second.connection_id])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(ids(yield* writer.live), [second.connection_id])
      yield* TestClock.adjust(MINUTE)
      assert.deepStrictEqual([...disk.files.keys()].sort(), [`/security/archive/${second.connection_id}.sec`, CURRENT])
    }).pipe(Effect.scoped, Effect.provide(world(disk)))
  })

  it.effect("writes none while a client is connected, lets the old one go, and resumes when nobody is", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { connected, writer } = yield* start()
      yield* Effect.forkScoped(writer.run)
      yield* settle
      const first = yield* current(disk)
      yield* SubscriptionRef.set(connected, 1)
      yield* TestClock.adjust(11 * MINUTE)
      assert.deepStrictEqual(yield* current(disk), first)
      yield* TestClock.adjust(2 * MINUTE)
      assert.deepStrictEqual([...disk.files.keys()], [])
      yield* TestClock.adjust(100 * MINUTE)
      assert.deepStrictEqual([...disk.files.keys()], [])
      yield* SubscriptionRef.set(connected, 0)
      yield* settle
      assert.strictEqual((yield* current(disk)).valid_from, NOW + 113 * MINUTE)
    }).pipe(Effect.scoped, Effect.provide(world(disk)))
  })

  it.effect("takes a burnt file away, keeps recognising it, and writes the next with the next period", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { connected, writer } = yield* start({ backupFolder: "/backup" })
      yield* Effect.forkScoped(writer.run)
      yield* settle
      const first = yield* current(disk)
      assert.deepStrictEqual(disk.files.get("/backup/clawchat-current.sec"), disk.files.get(CURRENT))
      yield* writer.burn(new Uint8Array(16))
      assert.isTrue(disk.files.has(CURRENT))
      yield* writer.burn(idOf(first))
      assert.deepStrictEqual([...disk.files.keys()], [`/security/archive/${first.connection_id}.sec`])
      assert.deepStrictEqual(ids(yield* writer.live), [first.connection_id])
      yield* SubscriptionRef.set(connected, 1)
      yield* SubscriptionRef.set(connected, 0)
      yield* TestClock.adjust(10 * MINUTE - 1)
      assert.isFalse(disk.files.has(CURRENT))
      yield* TestClock.adjust(1)
      assert.notStrictEqual((yield* current(disk)).connection_id, first.connection_id)
    }).pipe(Effect.scoped, Effect.provide(world(disk)))
  })

  it.effect("renews on demand while clients are connected, and signals each change", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { connected, writer } = yield* start()
      yield* SubscriptionRef.set(connected, 3)
      const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(writer.changes, 3)))
      yield* settle
      const one = yield* writer.renew
      yield* settle
      const two = yield* writer.renew
      assert.strictEqual(two.path, CURRENT)
      assert.deepStrictEqual(yield* current(disk), two.content)
      assert.deepStrictEqual(two.bytes, disk.files.get(CURRENT))
      const lists = yield* Fiber.join(seen)
      assert.deepStrictEqual(lists.map(ids), [
        [],
        [one.content.connection_id],
        [one.content.connection_id, two.content.connection_id]
      ])
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("keeps at most 16 files, the newest", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { writer } = yield* start()
      const all = yield* Effect.forEach(Array.from({ length: 20 }), () => writer.renew)
      assert.deepStrictEqual(
        ids(yield* writer.live),
        all.slice(4).map(({ content }) => content.connection_id)
      )
      assert.strictEqual(disk.files.size, 17)
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("knows the unexpired files of earlier runs, and removes the others", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { writer } = yield* start()
      const old = yield* writer.renew
      yield* TestClock.adjust(5 * MINUTE)
      const young = yield* writer.renew
      disk.files.set("/security/archive/junk.sec", new Uint8Array(700))
      disk.files.set("/security/archive/notes.txt", new Uint8Array(7))
      yield* TestClock.adjust(7 * MINUTE)
      const again = yield* CredentialWriter.make({
        folder: "/security",
        key: key(),
        content: Effect.succeed(options),
        connected: yield* SubscriptionRef.make(0)
      })
      const live = yield* again.live
      assert.deepStrictEqual(live, [
        {
          id: idOf(young.content),
          psk: young.content.shared_secret,
          validFrom: young.content.valid_from,
          validUntil: young.content.valid_until
        }
      ])
      assert.isFalse(disk.files.has(`/security/archive/${old.content.connection_id}.sec`))
      assert.isFalse(disk.files.has("/security/archive/junk.sec"))
      assert.isTrue(disk.files.has("/security/archive/notes.txt"))
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("has on record whatever it may have handed out, wherever it is stopped", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(NOW)
      for (let haltAt = 0; haltAt <= 2; haltAt++) {
        const disk = new Support.Disk()
        const layer = world(disk, `halt ${haltAt}`)
        disk.haltAt = haltAt
        const make = CredentialWriter.make({
          folder: "/security",
          key: key(),
          kdf: CHEAP,
          content: Effect.succeed(options),
          connected: yield* SubscriptionRef.make(0)
        })
        yield* make.pipe(
          Effect.flatMap((writer) => Effect.exit(writer.renew)),
          Effect.provide(layer)
        )
        disk.haltAt = Number.POSITIVE_INFINITY
        const live = yield* make.pipe(
          Effect.flatMap((writer) => writer.live),
          Effect.provide(layer)
        )
        const out = disk.files.has(CURRENT)
        assert.strictEqual(out, haltAt === 2)
        assert.strictEqual(live.length, haltAt === 0 ? 0 : 1)
        if (out) assert.deepStrictEqual(ids(live), [(yield* Effect.provide(current(disk), layer)).connection_id])
      }
    })
  )

  it.effect("tries again after 30 s when the disk refuses, and goes on running", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { writer } = yield* start()
      disk.haltAt = 0
      yield* Effect.forkScoped(writer.run)
      yield* settle
      assert.strictEqual(disk.files.size, 0)
      disk.haltAt = Number.POSITIVE_INFINITY
      yield* TestClock.adjust(30_000)
      assert.strictEqual((yield* current(disk)).valid_from, NOW + 30_000)
    }).pipe(Effect.scoped, Effect.provide(world(disk)))
  })

  it.effect("forgets everything after COMPROMISED", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const { writer } = yield* start({ backupFolder: "/backup" })
      yield* writer.renew
      yield* writer.renew
      yield* writer.burnAll
      assert.deepStrictEqual([...disk.files.keys()], [])
      assert.deepStrictEqual(yield* writer.live, [])
    }).pipe(Effect.provide(world(disk)))
  })
})
