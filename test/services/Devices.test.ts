import * as FileSystem from "node:fs"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { TestClock } from "effect/testing"
import { hex, text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import { Devices, type Enrolment } from "../../src/services/Devices.ts"
import { layerMemory, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import { temporaryFolder } from "../programs/CredentialSupport.ts"

const fill = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte)

/** Device `n`, come with file `n` unless another is named. */
const enrolment = (n: number, file = n): Enrolment => ({
  id: fill(16, file),
  name: `device ${n}`,
  staticKey: fill(32, n),
  psk: fill(32, 100 + n),
  credentialValidUntil: 660_000
})

const id = (n: number): string => hex(fill(16, n))

const reasonOf = <A, R>(effect: Effect.Effect<A, { readonly reason: string }, R>) =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

const FOLDER = "/home/identity/devices"
/** One store, on which the service may be started again and again. */
const memory = Effect.provide(SecureFileStore, layerMemory)
const started = <A, E>(store: SecureFileStore["Service"], effect: Effect.Effect<A, E, Devices>) =>
  effect.pipe(Effect.provide(Devices.layer(FOLDER), { local: true }), Effect.provideService(SecureFileStore, store))

describe("Devices", () => {
  it.effect("enrols once per file: the same device again is the same record, another is refused", () =>
    Effect.gen(function* () {
      const store = yield* memory
      yield* started(
        store,
        Effect.gen(function* () {
          const devices = yield* Devices
          yield* TestClock.setTime(1000)
          const first = yield* devices.enrol(enrolment(1))
          yield* TestClock.setTime(2000)
          assert.deepStrictEqual(yield* devices.enrol({ ...enrolment(1), name: "other" }), first)
          assert.strictEqual(yield* reasonOf(devices.enrol(enrolment(2, 1))), "Burnt")
          assert.deepStrictEqual(yield* devices.list, [first])
          assert.deepStrictEqual([first.role, first.enrolledAt, first.credentialValidUntil], ["owner", 1000, 660_000])
        })
      )
      yield* started(
        store,
        Effect.gen(function* () {
          const devices = yield* Devices
          assert.strictEqual(yield* reasonOf(devices.enrol(enrolment(2, 1))), "Burnt")
          assert.deepStrictEqual((yield* devices.enrol(enrolment(1))).psk, fill(32, 101))
        })
      )
    })
  )

  it.effect("makes the first device owner, later ones members, and knows an owner's key again", () =>
    Effect.gen(function* () {
      yield* started(
        yield* memory,
        Effect.gen(function* () {
          const devices = yield* Devices
          yield* devices.enrol(enrolment(1))
          assert.strictEqual((yield* devices.enrol(enrolment(2))).role, "member")
          assert.strictEqual((yield* devices.enrol(enrolment(1, 3))).role, "owner")
          yield* devices.revoke(id(1))
          assert.strictEqual((yield* devices.enrol(enrolment(4))).role, "member")
          yield* devices.revoke(id(3))
          assert.strictEqual((yield* devices.enrol(enrolment(5))).role, "owner")
        })
      )
    })
  )

  it.effect("has one winner when two devices race for one file", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      // Two services on one folder: what two processes would be.
      const open = Effect.provide(Devices, Devices.layer(folder), { local: true })
      const [a, b] = yield* Effect.all([open, open])
      for (let file = 10; file < 20; file++) {
        const exits = yield* Effect.all(
          [a.enrol(enrolment(1, file)), b.enrol(enrolment(2, file))].map((effect) => Effect.result(effect)),
          { concurrency: "unbounded" }
        )
        const winners = exits.flatMap((exit) => (exit._tag === "Success" ? [exit.success] : []))
        const losers = exits.flatMap((exit) => (exit._tag === "Failure" ? [exit.failure.reason] : []))
        assert.strictEqual(winners.length, 1)
        assert.deepStrictEqual(losers, ["Burnt"])
        const record = yield* Effect.flatMap(open, (devices) => devices.get(id(file)))
        assert.deepStrictEqual(record._tag === "Some" && record.value.staticKey, winners[0]?.staticKey)
      }
    }).pipe(Effect.scoped, Effect.provide(SecureFileStoreNode.layer))
  )

  it.effect("revokes for good: no secret on disk, the id is never used again", () =>
    Effect.gen(function* () {
      const store = yield* memory
      const revoked = yield* started(
        store,
        Effect.gen(function* () {
          const devices = yield* Devices
          yield* devices.enrol(enrolment(1))
          yield* TestClock.setTime(5000)
          const gone = yield* devices.revoke(id(1))
          assert.strictEqual(gone.revokedAt, 5000)
          assert.deepStrictEqual(yield* devices.revoke(id(1)), gone)
          assert.strictEqual(yield* reasonOf(devices.enrol(enrolment(1))), "Revoked")
          assert.strictEqual(yield* reasonOf(devices.enrol(enrolment(2, 1))), "Revoked")
          assert.strictEqual(yield* reasonOf(devices.rename(id(1), "new")), "Revoked")
          assert.strictEqual(yield* reasonOf(devices.revoke(id(7))), "NotFound")
          assert.deepStrictEqual(yield* devices.live, [])
          return gone
        })
      )
      const bytes = yield* store.read(`${FOLDER}/${id(1)}.json`)
      const json = bytes._tag === "Some" ? (text(bytes.value) ?? "") : ""
      assert.include(json, '"Revoked"')
      assert.notInclude(json, hex(fill(32, 101)))
      const list = yield* started(
        store,
        Effect.flatMap(Devices, (devices) => devices.list)
      )
      assert.deepStrictEqual(list, [revoked])
    })
  )

  it.effect("renames within the limits of a name", () =>
    Effect.gen(function* () {
      yield* started(
        yield* memory,
        Effect.gen(function* () {
          const devices = yield* Devices
          const odd = yield* devices.enrol({ ...enrolment(1), name: "\u001b[31mred\n" })
          assert.strictEqual(odd.name, "device 01010101")
          assert.strictEqual((yield* devices.rename(id(1), "Telefon für alle 📱")).name, "Telefon für alle 📱")
          for (const name of ["", "a\nb", "\u0007", "ü".repeat(33), "x".repeat(65)]) {
            assert.strictEqual(yield* reasonOf(devices.rename(id(1), name)), "Invalid", JSON.stringify(name))
          }
          assert.strictEqual((yield* devices.live)[0]?.name, "Telefon für alle 📱")
        })
      )
    })
  )

  it.effect("refuses damaged records by path, keeps their ids burnt, and loads the others", () =>
    Effect.gen(function* () {
      const store = yield* memory
      yield* started(
        store,
        Effect.flatMap(Devices, (devices) => Effect.forEach([1, 2, 3, 4], (n) => devices.enrol(enrolment(n))))
      )
      const at = (n: number): string => `${FOLDER}/${id(n)}.json`
      const two = yield* store.read(at(2))
      yield* store.write(at(1), utf8("{"))
      yield* store.write(at(3), two._tag === "Some" ? two.value : new Uint8Array(0))
      yield* store.write(at(4), new Uint8Array(17_000))
      yield* store.write(`${FOLDER}/notes.txt`, utf8("not a record"))
      yield* started(
        store,
        Effect.gen(function* () {
          const devices = yield* Devices
          assert.deepStrictEqual(
            (yield* devices.list).map((device) => device.id),
            [id(2)]
          )
          const refused = yield* devices.refused
          assert.deepStrictEqual(
            refused.map((record) => record.path),
            [at(1), at(3), at(4)]
          )
          for (const record of refused) assert.include(record.message, record.path)
          assert.strictEqual(yield* reasonOf(devices.enrol(enrolment(1))), "Corrupt")
          // Who the owner was cannot be told: nobody becomes one by chance.
          yield* devices.revoke(id(2))
          assert.strictEqual((yield* devices.enrol(enrolment(6))).role, "member")
          yield* devices.burnAll
          assert.deepStrictEqual(yield* store.list(FOLDER), ["notes.txt"])
          assert.strictEqual((yield* devices.enrol(enrolment(1))).role, "owner")
        })
      )
    })
  )

  it.effect("tells of every change", () =>
    Effect.gen(function* () {
      yield* started(
        yield* memory,
        Effect.gen(function* () {
          const devices = yield* Devices
          const seen = yield* Effect.forkChild(Stream.runCollect(Stream.take(devices.changes, 3)))
          yield* TestClock.adjust(0)
          yield* devices.enrol(enrolment(1))
          yield* TestClock.adjust(0)
          yield* devices.revoke(id(1))
          const lists = yield* Fiber.join(seen)
          assert.deepStrictEqual(
            lists.map((list) => list.map((device) => device._tag)),
            [[], ["Live"], ["Revoked"]]
          )
        })
      )
    })
  )

  it.effect("is enrolled or not, never half, wherever the process dies", () =>
    Effect.gen(function* () {
      let stepsOfRun = Number.POSITIVE_INFINITY
      let outcomes = ""
      for (let dieAt = 0; dieAt < stepsOfRun; dieAt++) {
        const folder = yield* temporaryFolder
        let step = 0
        const dying = SecureFileStoreNode.layerWith({
          onStep: () => {
            if (step++ >= dieAt) throw new Error("died")
          }
        })
        const exit = yield* Effect.exit(
          Effect.flatMap(Devices, (devices) => devices.enrol(enrolment(1))).pipe(
            Effect.provide(Devices.layer(folder), { local: true }),
            Effect.provide(dying, { local: true })
          )
        )
        if (Exit.isSuccess(exit)) stepsOfRun = dieAt
        // The next start: the other device may have the file if, and only if, no record was made.
        yield* Effect.gen(function* () {
          const devices = yield* Devices
          assert.deepStrictEqual(yield* devices.refused, [])
          const made = (yield* devices.live).length === 1
          outcomes += made ? "1" : "0"
          if (Exit.isSuccess(exit)) assert.isTrue(made)
          const other = yield* Effect.result(devices.enrol(enrolment(2, 1)))
          assert.strictEqual(other._tag, made ? "Failure" : "Success")
          const again = yield* Effect.result(devices.enrol(enrolment(1)))
          assert.strictEqual(again._tag, made ? "Success" : "Failure")
          assert.deepStrictEqual(FileSystem.readdirSync(folder), [path.basename(`${id(1)}.json`)])
        }).pipe(Effect.provide(Devices.layer(folder), { local: true }), Effect.provide(SecureFileStoreNode.layer))
      }
      assert.match(outcomes, /^0{3,}1{2,}$/)
    }).pipe(Effect.scoped)
  )
})
