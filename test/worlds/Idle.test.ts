import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as World from "./World.ts"

const DAY = 86_400_000

describe("Silence", () => {
  it.effect("of a day behind a translator that forgets after 60 s", () =>
    World.run({ seed: 401, limitMs: 2 * DAY, stepMs: 3_600_000 }, (world) =>
      Effect.gen(function* () {
        const nat = world.network.nat({ address: "203.0.113.1", kind: "symmetric", timeoutMs: 60_000 })
        // No llm tier: its line to the server has a PING each second, which is not what counts here.
        yield* world.server.start()
        yield* Effect.sleep(100)
        const client = yield* world.client({ nat })
        const link = yield* client.tier.start(yield* Effect.orDie(world.pairing))
        const { connection, server } = yield* link.session
        yield* Effect.sleep(10_000)
        const before = yield* connection.stats
        yield* Effect.sleep(DAY)
        const after = yield* connection.stats
        // The client's interval grows from 15 s until the server would ask first, after 28 s of silence: by whichever side, a
        // PING and its acknowledgement, and now and then new keys.
        for (const count of [after.sentPackets - before.sentPackets, after.receivedPackets - before.receivedPackets]) {
          assert.isAtLeast(count, DAY / 30_000)
          assert.isAtMost(count, DAY / 20_000)
        }
        assert.strictEqual(after.lostPackets, 0)
        assert.strictEqual(yield* Effect.orDie(server["Control.Echo"]({ data: "still here" })), "still here")
        assert.lengthOf(
          world.log.filter(({ message }) => message.startsWith("[audit] session.opened")),
          1
        )
      })
    )
  )

  it.effect(
    "of an hour on a line that loses a tenth: what is lost without need of repetition is no silence of the peer",
    () =>
      World.run({ seed: 403, limitMs: DAY, stepMs: 60_000 }, (world) =>
        Effect.gen(function* () {
          const client = yield* world.paired({ link: World.ROUGH })
          const link = yield* client.tier.made
          const session = yield* link.session
          yield* Effect.sleep(3_600_000)
          assert.strictEqual(yield* link.session, session)
          assert.lengthOf(
            world.log.filter(({ message }) => message.startsWith("[audit] session.opened")),
            1
          )
        })
      )
  )
})

describe("One server", () => {
  const DEVICES = 100
  it.effect(`holds ${DEVICES} devices at once`, () =>
    World.run({ seed: 402 }, (world) =>
      Effect.gen(function* () {
        const first = yield* world.paired()
        const clients = [first]
        while (clients.length < DEVICES) {
          const client = yield* world.client({ link: { delayMs: 20, loss: 0.02 } })
          const relay = yield* world.server.made
          yield* Effect.orDie(relay.control.renew)
          const link = yield* client.tier.start(yield* Effect.orDie(world.pairing))
          yield* link.session
          clients.push(client)
        }
        yield* Effect.sleep(1000)
        const relay = yield* world.server.made
        assert.strictEqual((yield* relay.control.status).sessions, DEVICES)
        // Eight wait in a conversation at most: so they take turns.
        yield* Effect.forEach(clients, (client) => client.ask(0), { concurrency: 8, discard: true })
        yield* Effect.forEach(clients, (client) => client.ask(1), { concurrency: 8, discard: true })
        const messages = yield* Effect.orDie(world.conversations.history({ conversation: "main", limit: 1000 }))
        assert.lengthOf(messages, 4 * DEVICES)
        assert.strictEqual(new Set(messages.map(({ text }) => text)).size, 4 * DEVICES)
        assert.isTrue(messages.every(({ status }) => status === "complete"))

        yield* Effect.forEach(clients, ({ tier }) => tier.stop, { concurrency: "unbounded", discard: true })
        yield* Effect.sleep(60_000)
        assert.deepStrictEqual(yield* World.sessions(world), ["server: 0", "llm: 1"])
        assert.deepStrictEqual(yield* World.openStreams(world), [])
      })
    )
  )
})
