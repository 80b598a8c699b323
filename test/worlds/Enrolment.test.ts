import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { Link, State } from "../../src/programs/ClientLink.ts"
import * as World from "./World.ts"

const alarms = (world: World.World) => world.log.filter(({ message }) => message.startsWith("ALARM"))

/** Why the link does not stand, as it says after its first failed attempt. */
const failure = (link: Link) =>
  Stream.runHead(
    Stream.filter(
      link.changes,
      (state): state is Extract<State, { _tag: "Connecting" }> =>
        state._tag === "Connecting" && state.reason !== undefined
    )
  )

const credentialOf = (world: World.World) =>
  Effect.map(Effect.orDie(world.pairing), ({ credentialId }) => Buffer.from(credentialId).toString("hex"))

describe("Enrolment in a lossy world", () => {
  it.effect("a file works once; a second device with it meets silence and raises an alarm", () =>
    World.run({ seed: 301 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        yield* world.llm.start()
        yield* Effect.sleep(100)
        const file = yield* Effect.orDie(world.pairing)
        const owner = yield* world.client({ name: "owner", link: World.ROUGH })
        yield* Effect.flatMap(owner.tier.start(file), (link) => link.session)
        assert.deepStrictEqual(alarms(world), [])

        const thief = yield* world.client({ name: "thief", link: World.ROUGH })
        const link = yield* thief.tier.start(file)
        const failed = yield* failure(link)
        assert.isTrue(
          failed._tag === "Some" &&
            failed.value.reason?._tag === "TransportError" &&
            failed.value.reason.reason === "NoAnswer"
        )
        yield* thief.tier.stop
        assert.isAbove(alarms(world).length, 0)
        for (const { level, message } of alarms(world)) {
          assert.strictEqual(level, "Warn")
          assert.match(
            message,
            /^ALARM: a used credential file was used again by another device, from 192\.0\.2\.2:\d+$/
          )
        }

        // The owner is not disturbed, and comes back without the file.
        yield* owner.ask(0)
        yield* owner.tier.stop
        yield* Effect.flatMap(owner.tier.start(undefined), ({ session }) => session)
        yield* owner.ask(1)
        assert.deepStrictEqual(yield* World.transcriptFaults(world, ["question 0 of owner", "question 1 of owner"]), [])
      })
    )
  )

  it.effect("two devices that use one file at once: one is enrolled, the other is not", () =>
    World.run({ seed: 302 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        yield* Effect.sleep(100)
        const file = yield* Effect.orDie(world.pairing)
        const a = yield* world.client({ link: World.ROUGH })
        const b = yield* world.client({ link: World.ROUGH })
        const links = [yield* a.tier.start(file), yield* b.tier.start(file)]
        yield* Effect.sleep(60_000)
        const states = yield* Effect.forEach(links, ({ state }) => state)
        assert.lengthOf(
          states.filter(({ _tag }) => _tag === "Connected"),
          1
        )
        assert.isAbove(alarms(world).length, 0)
        assert.lengthOf(
          world.log.filter(({ message }) => message.includes("enrolled as")),
          1
        )
      })
    )
  )

  it.effect("an expired file is refused in silence", () =>
    World.run({ seed: 303 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        yield* Effect.sleep(100)
        const file = yield* Effect.orDie(world.pairing)
        yield* Effect.sleep(13 * 60_000)
        const late = yield* world.client({ link: World.ROUGH })
        const link = yield* late.tier.start(file)
        const failed = yield* failure(link)
        assert.isTrue(
          failed._tag === "Some" &&
            failed.value.reason?._tag === "TransportError" &&
            failed.value.reason.reason === "NoAnswer"
        )
        assert.deepStrictEqual(yield* World.sessions(world), ["server: 0"])
        // The one that lies there now is good.
        yield* late.tier.stop
        yield* Effect.flatMap(late.tier.start(yield* Effect.orDie(world.pairing)), ({ session }) => session)
      })
    )
  )

  it.effect("the file is rewritten each 10 minutes while nobody is connected, and not while somebody is", () =>
    World.run({ seed: 304, limitMs: 4 * 3_600_000, stepMs: 60_000 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        yield* Effect.sleep(100)
        const seen = [yield* credentialOf(world)]
        for (let period = 0; period < 5; period++) {
          yield* Effect.sleep(5 * 60_000)
          assert.strictEqual(yield* credentialOf(world), seen.at(-1))
          yield* Effect.sleep(5 * 60_000)
          seen.push(yield* credentialOf(world))
        }
        assert.strictEqual(new Set(seen).size, 6)

        const client = yield* world.client({ link: World.ROUGH })
        yield* Effect.flatMap(client.tier.start(yield* Effect.orDie(world.pairing)), ({ session }) => session)
        yield* Effect.sleep(1000)
        // Used up: it is gone, and none follows while the device is here.
        assert.isTrue((yield* Effect.exit(world.pairing))._tag === "Failure")
        yield* Effect.sleep(60 * 60_000)
        assert.isTrue((yield* Effect.exit(world.pairing))._tag === "Failure")
        yield* client.tier.stop
        yield* Effect.sleep(60_000)
        assert.notInclude(seen, yield* credentialOf(world))

        // A file survives a restart of the server.
        const before = yield* credentialOf(world)
        const file = yield* Effect.orDie(world.pairing)
        yield* world.server.kill
        yield* world.server.start()
        yield* Effect.sleep(1000)
        assert.notStrictEqual(yield* credentialOf(world), before)
        const other = yield* world.client({ link: World.ROUGH })
        yield* Effect.flatMap(other.tier.start(file), ({ session }) => session)
      })
    )
  )

  it.effect("a crash of either side at any moment of it leads to one enrolled device", () =>
    World.run({ seed: 305 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        yield* Effect.sleep(100)
        const clients: Array<World.Client> = []
        for (let n = 0; n < 12; n++) {
          const client = yield* world.client({ name: `device-${n}`, link: { delayMs: 20 } })
          const relay = yield* world.server.made
          yield* Effect.orDie(relay.control.renew)
          const file = yield* Effect.orDie(world.pairing)
          yield* client.tier.start(file)
          // One crossing of the line takes 25 ms.
          yield* Effect.sleep(12 + 25 * (n % 6))
          if (n < 6) {
            yield* client.tier.kill
            yield* client.tier.start(file)
          } else {
            yield* world.server.kill
            yield* Effect.sleep(200)
            yield* world.server.start()
          }
          yield* Effect.flatMap(client.tier.made, ({ session }) => session)
          yield* client.tier.stop
          yield* Effect.flatMap(client.tier.start(undefined), ({ session }) => session)
          clients.push(client)
        }
        const relay = yield* world.server.made
        yield* Effect.sleep(60_000)
        assert.strictEqual((yield* relay.control.status).sessions, clients.length)
        assert.deepStrictEqual(alarms(world), [])
        const names = (yield* world.disk.list(world.serverPaths.devices)).length
        assert.strictEqual(names, clients.length)
      })
    )
  )
})

describe("A revoked device", () => {
  it.effect("is cut off at once and cannot come back, the others stay", () =>
    World.run({ seed: 306 }, (world) =>
      Effect.gen(function* () {
        const owner = yield* world.paired({ name: "owner", link: World.ROUGH })
        const relay = yield* world.server.made
        yield* Effect.orDie(relay.control.renew)
        const file = yield* Effect.orDie(world.pairing)
        const other = yield* world.client({ name: "other", link: World.ROUGH })
        const link = yield* other.tier.start(file)
        const session = yield* link.session
        yield* other.ask(0)
        const boss = yield* Effect.flatMap(owner.tier.made, (made) => made.session)

        const at = yield* world.now
        const revoked = yield* Effect.orDie(boss.server["Control.Revoke"]({ id: "other" }))
        assert.isDefined(revoked.revokedAt)
        const reason = yield* session.connection.closed
        // By CLOSE, or, when that was lost, with the first packet that is not answered.
        assert.isBelow((yield* world.now) - at, 1000)
        assert.strictEqual(reason.by, "peer")

        // Neither with its own secret nor with the file that still admits its key.
        yield* Effect.sleep(60_000)
        assert.strictEqual((yield* link.state)._tag, "Connecting")
        yield* other.tier.stop
        const again = yield* other.tier.start(file)
        yield* Effect.sleep(60_000)
        assert.strictEqual((yield* again.state)._tag, "Connecting")
        assert.deepStrictEqual(yield* World.sessions(world), ["server: 1", "llm: 1"])
        yield* owner.ask(0)
        const list = yield* Effect.orDie(boss.server["Control.Devices"]())
        assert.deepStrictEqual(
          list.map(({ connected, name, revokedAt }) => [name, connected, revokedAt !== undefined]),
          [
            ["owner", true, false],
            ["other", false, true]
          ]
        )
      })
    )
  )
})
