import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { TestClock } from "effect/testing"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as Constants from "../../src/domain/protocol/Constants.ts"
import { fromHex, hex, text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import * as PortSchedule from "../../src/domain/protocol/PortSchedule.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ClientIdentity from "../../src/programs/ClientIdentity.ts"
import * as CredentialFiles from "../../src/programs/CredentialFiles.ts"
import * as Support from "./CredentialSupport.ts"

const { NOW, options, serverKeys } = Support
const p = CryptoNode.primitives
const paths = HomePaths.client("/home")
const seed = new Uint8Array(32).fill(11)
const llmKey = new Uint8Array(32).fill(12)
const MINUTE = 60_000

const world = (disk: Support.Disk) => Layer.merge(disk.layer, CryptoNode.layer)

const newFile = Effect.andThen(TestClock.setTime(NOW), CredentialFiles.make(options))

/** What the server would compute of the client's static key. */
const serverSide = (
  file: { readonly shared_secret: Uint8Array; readonly connection_id: string },
  publicKey: Uint8Array
) =>
  KeySchedule.deviceSecret(
    p,
    file.shared_secret,
    p.dh(serverKeys.privateKey, publicKey) ?? new Uint8Array(0),
    fromHex(file.connection_id) ?? new Uint8Array(0)
  )

const keysOf = (invitations: ReadonlyArray<ClientIdentity.ClientInvitation>) =>
  invitations.map(({ key }) => key.slice(key.indexOf("/") + 1))

describe("ClientIdentity", () => {
  it.effect("tells whether a home is paired without making anything there", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const file = yield* newFile
      assert.isFalse(yield* ClientIdentity.isPaired(paths))
      assert.strictEqual(disk.files.size, 0)
      const identity = yield* ClientIdentity.make(paths)
      assert.isFalse(yield* ClientIdentity.isPaired(paths))
      yield* identity.persist(ClientIdentity.pairingOf(file), { portSeed: seed, llmKey })
      assert.isTrue(yield* ClientIdentity.isPaired(paths))
      yield* identity.confirm(fromHex(file.connection_id) ?? new Uint8Array(0))
      assert.isTrue(yield* ClientIdentity.isPaired(paths))
      yield* identity.forget()
      assert.isFalse(yield* ClientIdentity.isPaired(paths))
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("goes from a file to a device whose secret the server computes too", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const file = yield* newFile
      const identity = yield* ClientIdentity.make(paths)
      assert.deepStrictEqual(yield* identity.status, { _tag: "Unpaired" })
      assert.deepStrictEqual(yield* identity.invitations, [])

      const pairing = ClientIdentity.pairingOf(file)
      const first = ClientIdentity.invitationOf(pairing)
      assert.deepStrictEqual([first.psk, first.slot, hex(first.id)], [file.shared_secret, NOW, file.connection_id])
      assert.deepStrictEqual(first.endpoints[0], { host: "192.0.2.1", port: 50_000 })

      yield* identity.persist(pairing, { portSeed: seed, llmKey })
      const psk = serverSide(file, identity.keyPair.publicKey)
      const pending = yield* identity.invitations
      assert.deepStrictEqual(keysOf(pending), ["device", "file"])
      assert.deepStrictEqual(pending[0]?.psk, psk)
      assert.strictEqual(pending[0]?.slot, undefined)
      assert.deepStrictEqual([pending[1]?.psk, pending[1]?.slot], [first.psk, first.slot])
      assert.deepStrictEqual(pending[1]?.endpoints, first.endpoints)
      assert.strictEqual((yield* identity.status)._tag, "Pending")

      yield* identity.confirm(first.id)
      const [device, ...rest] = yield* identity.invitations
      assert.deepStrictEqual(rest, [])
      assert.deepStrictEqual([device?.psk, device?.serverKey, device?.slot], [psk, serverKeys.publicKey, undefined])
      const status = yield* identity.status
      assert.strictEqual(status._tag, "Enrolled")
      assert.deepStrictEqual(status._tag !== "Unpaired" && [status.server.portSeed, status.server.llmKey], [
        seed,
        llmKey
      ])
      assert.isFalse(disk.files.has(paths.pending))
      const stored = text(disk.files.get(paths.server) ?? new Uint8Array(0)) ?? ""
      assert.notInclude(stored, hex(file.shared_secret))
      yield* identity.confirm(first.id)
      const again = yield* ClientIdentity.make(paths)
      assert.deepStrictEqual(again.keyPair, identity.keyPair)
      const [same, ...others] = yield* again.invitations
      assert.deepStrictEqual({ ...same, endpointsAt: undefined }, { ...device, endpointsAt: undefined })
      assert.deepStrictEqual(others, [])
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("has a file or a device that works, wherever the process dies", () =>
    Effect.gen(function* () {
      const outcomes: Array<string> = []
      for (let haltAt = 0; haltAt <= 5; haltAt++) {
        const disk = new Support.Disk()
        disk.haltAt = haltAt
        yield* Effect.gen(function* () {
          const file = yield* newFile
          const pairing = ClientIdentity.pairingOf(file)
          /** The static key that the server has enrolled, once a transport packet has left. */
          let enrolled: Uint8Array | undefined
          const run = Effect.gen(function* () {
            const identity = yield* ClientIdentity.make(paths)
            const [tried] = [...(yield* identity.invitations), ClientIdentity.invitationOf(pairing)]
            if (tried === undefined) return yield* Effect.die("nothing to try")
            // The server's part: a file admits anyone, then the enrolled key alone; a device's secret must be known.
            if (tried.pairing !== undefined) {
              assert.isTrue(enrolled === undefined || p.equal(enrolled, identity.keyPair.publicKey))
              yield* identity.persist(tried.pairing, { portSeed: seed, llmKey: undefined })
              enrolled = identity.keyPair.publicKey
            } else if (enrolled === undefined) {
              // Killed between `persist` and the first packet: the server knows of nothing, the file still works.
              const fallback = (yield* identity.invitations).find((each) => each.pairing !== undefined)
              assert.deepStrictEqual(fallback?.psk, file.shared_secret)
              enrolled = identity.keyPair.publicKey
            } else {
              assert.deepStrictEqual(tried.psk, serverSide(file, enrolled))
            }
            yield* identity.confirm(tried.id)
          })
          yield* Effect.exit(run)
          const present = [...disk.files.entries()]
            .map(([at, bytes]) => `${at.slice(at.lastIndexOf("/") + 1)}${bytes.every((b) => b === 0) ? "(zeros)" : ""}`)
            .sort()
          outcomes.push(present.join(" "))
          disk.haltAt = Number.POSITIVE_INFINITY
          yield* run
          const identity = yield* ClientIdentity.make(paths)
          assert.deepStrictEqual(keysOf(yield* identity.invitations), ["device"])
          assert.deepStrictEqual((yield* identity.invitations)[0]?.psk, serverSide(file, identity.keyPair.publicKey))
        }).pipe(Effect.provide(world(disk)))
      }
      assert.deepStrictEqual(outcomes, [
        "",
        "static.key",
        "pending.json static.key",
        "pending.json server.json static.key",
        "pending.json(zeros) server.json static.key",
        "server.json static.key"
      ])
    })
  )

  it.effect("stops offering the file's secret when it has expired, 30 s of skew forgiven", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const pairing = ClientIdentity.pairingOf(yield* newFile)
      const identity = yield* ClientIdentity.make(paths)
      yield* identity.persist(pairing, { portSeed: seed, llmKey: undefined })
      yield* TestClock.setTime(NOW + 11 * MINUTE + 30_000)
      assert.deepStrictEqual(keysOf(yield* identity.invitations), ["device", "file"])
      yield* TestClock.setTime(NOW + 11 * MINUTE + 30_001)
      assert.deepStrictEqual(keysOf(yield* identity.invitations), ["device"])
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("keeps an earlier server until a new one is confirmed", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const identity = yield* ClientIdentity.make(paths)
      const one = ClientIdentity.pairingOf(yield* newFile)
      yield* identity.persist(one, { portSeed: seed, llmKey: undefined })
      yield* identity.confirm(one.credentialId)
      const two = ClientIdentity.pairingOf(yield* newFile)
      yield* identity.persist(two, { portSeed: seed, llmKey: undefined })
      const order = Effect.map(identity.invitations, (all) => all.map(({ key }) => key))
      const [a, b] = [hex(one.credentialId), hex(two.credentialId)]
      assert.deepStrictEqual(yield* order, [`${b}/device`, `${b}/file`, `${a}/device`])
      yield* TestClock.setTime(NOW + 60 * MINUTE)
      assert.deepStrictEqual(yield* order, [`${a}/device`, `${b}/device`])
      yield* identity.confirm(one.credentialId)
      yield* identity.confirm(two.credentialId)
      assert.deepStrictEqual(yield* order, [`${b}/device`])
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("tries addresses that worked first, and remembers clock and hints of this server only", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const identity = yield* ClientIdentity.make(paths)
      yield* identity.remember({ skewMs: 5 })
      assert.deepStrictEqual(yield* identity.last, { addresses: [], skewMs: 0, hints: {} })
      const pairing = ClientIdentity.pairingOf(yield* newFile)
      yield* identity.persist(pairing, { portSeed: seed, llmKey: undefined })
      yield* identity.confirm(pairing.credentialId)
      for (let port = 1; port <= 10; port++) yield* identity.remember({ address: { host: "198.51.100.1", port } })
      yield* identity.remember({ skewMs: -3_600_000, hints: { x: { slot: NOW, answered: 2, tried: 1 } } })
      yield* identity.remember({ address: { host: "192.0.2.1", port: 50_000 } })
      const last = yield* identity.last
      assert.deepStrictEqual([last.addresses.length, last.skewMs, last.hints.x?.answered], [8, -3_600_000, 2])
      const [device] = yield* identity.invitations
      // Then where its schedule has the server by now, on both hosts, then what else is known, then other ports.
      const ports = PortSchedule.candidates(PortSchedule.make(p, seed, Constants.PORT_PERIOD_MS), NOW - 3_600_000)
      assert.deepStrictEqual(device?.endpoints.slice(0, 4), [
        { host: "192.0.2.1", port: 50_000 },
        { host: "192.0.2.1", port: ports[0] ?? 0 },
        { host: "198.51.100.1", port: ports[0] ?? 0 },
        { host: "10.0.0.5", port: ports[0] ?? 0 }
      ])
      assert.deepInclude([...(device?.endpoints ?? [])], { host: "198.51.100.1", port: 10 })
      assert.strictEqual(device?.endpoints.length, Constants.MAX_DIAL_ENDPOINTS)
      // By another clock it would be elsewhere.
      const earlier = PortSchedule.candidates(
        PortSchedule.make(p, seed, Constants.PORT_PERIOD_MS),
        NOW - 10 * 3_600_000
      )
      assert.deepStrictEqual(device?.endpointsAt?.(NOW - 10 * 3_600_000)[0], {
        host: "192.0.2.1",
        port: earlier[0] ?? 0
      })
      // A write costs milliseconds of every connect: what is known already is not written again.
      const before = disk.changes
      yield* identity.remember({ skewMs: -3_600_000, hints: { x: { slot: NOW, answered: 2, tried: 1 } } })
      yield* identity.remember({ address: { host: "192.0.2.1", port: 50_000 } })
      assert.strictEqual(disk.changes, before)
      yield* identity.remember({ hints: { x: { slot: NOW, answered: 3, tried: 0 } } })
      assert.strictEqual(disk.changes, before + 1)
      disk.files.set("/home/identity/last.json", utf8("{"))
      assert.strictEqual((yield* identity.last).skewMs, 0)
      assert.strictEqual((yield* identity.invitations).length, 1)
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("takes new facts about its server, and forgets it on demand", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const identity = yield* ClientIdentity.make(paths)
      assert.strictEqual((yield* Effect.flip(identity.update({ llmKey }))).message.includes("pair"), true)
      const pairing = ClientIdentity.pairingOf(yield* newFile)
      yield* identity.persist(pairing, { portSeed: seed, llmKey: undefined })
      yield* identity.confirm(pairing.credentialId)
      yield* identity.update({ llmKey, portSeed: new Uint8Array(32).fill(13) })
      const status = yield* identity.status
      assert.deepStrictEqual(status._tag === "Enrolled" && [status.server.llmKey, status.server.portSeed], [
        llmKey,
        new Uint8Array(32).fill(13)
      ])
      yield* identity.forget()
      assert.deepStrictEqual([...disk.files.keys()], [paths.staticKey])
      assert.deepStrictEqual(yield* identity.invitations, [])
      yield* identity.forget({ key: true })
      assert.strictEqual(disk.files.size, 0)
    }).pipe(Effect.provide(world(disk)))
  })

  it.effect("refuses damaged files by name, a stranger's confirmation, and a key that is none", () => {
    const disk = new Support.Disk()
    return Effect.gen(function* () {
      const identity = yield* ClientIdentity.make(paths)
      const pairing = ClientIdentity.pairingOf(yield* newFile)
      const error = yield* Effect.flip(identity.confirm(pairing.credentialId))
      assert.strictEqual(error.reason, "NoKey")
      const weak = yield* Effect.flip(
        identity.persist({ ...pairing, serverKey: new Uint8Array(32) }, { portSeed: seed, llmKey: undefined })
      )
      assert.strictEqual(weak.reason, "NoKey")
      disk.files.set(paths.server, utf8('{"version":1}'))
      const corrupt = yield* Effect.flip(identity.invitations)
      assert.strictEqual(corrupt.reason, "Corrupt")
      assert.include(corrupt.message, paths.server)
    }).pipe(Effect.provide(world(disk)))
  })
})
