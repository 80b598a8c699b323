import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as World from "./World.ts"

const questionsOf = (client: World.Client, count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, n) => `question ${n} of ${client.name}`)

/** Asks one question after the other until `finish`, which gives the number asked; each answer must be whole. */
const talking = Effect.fnUntraced(function* (client: World.Client) {
  const replies: Array<World.Reply> = []
  let over = false
  const talk = Effect.gen(function* () {
    while (!over) {
      const n = replies.length
      const reply = yield* client.ask(n)
      assert.strictEqual(reply.text, World.answerTo(`question ${n} of ${client.name}`))
      replies.push(reply)
    }
  })
  const fiber = yield* Effect.forkScoped(talk)
  const finish = Effect.suspend(() => {
    over = true
    return Effect.map(Fiber.join(fiber), () => replies.length)
  })
  return { replies, finish }
})

/** The transcript holds every question once, answered, in order. */
const nothingLost = Effect.fnUntraced(function* (world: World.World, client: World.Client, count: number) {
  assert.deepStrictEqual(yield* World.transcriptFaults(world, questionsOf(client, count)), [])
})

/** Milliseconds from `from` to the first output of this kind. */
const heardAfter = (
  replies: ReadonlyArray<World.Reply>,
  from: number,
  isIt: (output: World.Reply["outputs"][number]) => boolean
) => {
  for (const { at, outputs } of replies) {
    const index = outputs.findIndex((output, i) => (at[i] ?? 0) >= from && isIt(output))
    if (index >= 0) return (at[index] ?? 0) - from
  }
  return Number.POSITIVE_INFINITY
}

describe("An outage in the middle of a conversation", () => {
  it.effect("of the server, killed and back on its port: the client comes back by itself", () =>
    World.run({ seed: 201 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ link: World.ROUGH })
        const before = (yield* world.server.made).address
        const { finish } = yield* talking(client)
        for (const pause of [2000, 3000, 40_000]) {
          yield* Effect.sleep(3000)
          yield* world.server.kill
          yield* Effect.sleep(pause)
          const relay = yield* world.server.start()
          assert.deepStrictEqual(relay.address, before)
        }
        const asked = yield* finish
        yield* nothingLost(world, client, asked)
      })
    )
  )

  it.effect("of the server, stopped in good order: the client hears at once", () =>
    World.run({ seed: 202 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const { finish, replies } = yield* talking(client)
        yield* Effect.sleep(1000)
        const at = yield* world.now
        yield* world.server.stop
        yield* Effect.sleep(5000)
        yield* world.server.start()
        const asked = yield* finish
        assert.isBelow(
          heardAfter(replies, at, (output) => output._tag === "Waiting" && output.for === "line"),
          1000
        )
        yield* nothingLost(world, client, asked)
      })
    )
  )

  it.effect("of the server, right after its answer: unreachable, as far as a client can tell", () =>
    World.run({ seed: 203 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ link: { delayMs: 20 } })
        yield* client.tier.stop
        yield* client.tier.start(undefined)
        // The answer is there after 50 ms, and the client's first packet after 75.
        yield* Effect.sleep(60)
        yield* world.server.kill
        yield* Effect.sleep(20_000)
        const state = yield* Effect.flatMap(client.tier.made, (link) => link.state)
        const reason = state._tag === "Connecting" ? state.reason : undefined
        assert.deepInclude(reason, { _tag: "TransportError", reason: "Closed" })
        assert.strictEqual(reason?.message, "the connection was lost")
        yield* world.server.start()
        yield* Effect.flatMap(client.tier.made, ({ session }) => session)
      })
    )
  )

  it.effect("of the llm tier, killed: the client is told within 5 s and goes on when it is back", () =>
    World.run({ seed: 203 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ link: World.ROUGH })
        const { finish, replies } = yield* talking(client)
        const killed: Array<number> = []
        for (const pause of [100, 1000, 10_000, 90_000]) {
          yield* Effect.sleep(4000)
          killed.push(yield* world.now)
          yield* world.llm.kill
          yield* Effect.sleep(pause)
          yield* world.llm.start()
        }
        const asked = yield* finish
        for (const at of killed.slice(2)) {
          const told = heardAfter(replies, at, (output) => output._tag === "Waiting" && output.for === "tier")
          assert.isBelow(told, 5000)
        }
        yield* nothingLost(world, client, asked)
      })
    )
  )

  it.effect("of the llm tier, stopped in good order", () =>
    World.run({ seed: 204 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const { finish, replies } = yield* talking(client)
        const stopped: Array<number> = []
        for (const pause of [0, 3000, 20_000]) {
          yield* Effect.sleep(4321)
          stopped.push(yield* world.now)
          yield* world.llm.stop
          yield* Effect.sleep(pause)
          yield* world.llm.start()
        }
        const asked = yield* finish
        for (const at of stopped.slice(1)) {
          const told = heardAfter(replies, at, (output) => output._tag === "Waiting" && output.for === "tier")
          assert.isBelow(told, 1000)
        }
        yield* nothingLost(world, client, asked)
      })
    )
  )

  for (const { ms, seed } of [
    { ms: 5000, seed: 205 },
    { ms: 30_000, seed: 206 },
    { ms: 300_000, seed: 207 }
  ]) {
    it.effect(`of the client's network, for ${ms / 1000} s`, () =>
      World.run({ seed }, (world) =>
        Effect.gen(function* () {
          const nat = world.network.nat({ address: "203.0.113.1", kind: "portRestricted", timeoutMs: 60_000 })
          const client = yield* world.paired({ nat, link: World.ROUGH })
          const { finish, replies } = yield* talking(client)
          for (let cut = 0; cut < (ms > 30_000 ? 1 : 2); cut++) {
            yield* Effect.sleep(2000 + 137 * cut)
            yield* world.network.cut(client.host)
            yield* Effect.sleep(ms)
            yield* world.network.restore(client.host)
            const back = yield* world.now
            yield* Effect.sleep(12_000)
            assert.isBelow(
              heardAfter(replies, back, ({ _tag }) => _tag === "Done"),
              10_000
            )
          }
          const asked = yield* finish
          yield* nothingLost(world, client, asked)
        })
      )
    )
  }

  it.effect("by a translator that forgets, and gets another address", () =>
    World.run({ seed: 208 }, (world) =>
      Effect.gen(function* () {
        const nat = world.network.nat({ address: "203.0.113.1", kind: "symmetric" })
        const client = yield* world.paired({ nat, link: World.ROUGH })
        const { finish } = yield* talking(client)
        for (let n = 2; n < 7; n++) {
          yield* Effect.sleep(2000)
          yield* world.network.rebind(nat, n % 2 === 0 ? `203.0.113.${n}` : undefined)
        }
        const asked = yield* finish
        yield* nothingLost(world, client, asked)
        // The session moved with the client: no other was made.
        assert.lengthOf(
          world.log.filter(({ message }) => message.startsWith("[audit] session.opened")),
          1
        )
      })
    )
  )

  it.effect("by a move to another network", () =>
    World.run({ seed: 209 }, (world) =>
      Effect.gen(function* () {
        const home = world.network.nat({ address: "203.0.113.1" })
        const phone = world.network.nat({ address: "203.0.113.50", kind: "symmetric" })
        const client = yield* world.paired({ nat: home, link: World.ROUGH })
        const { finish } = yield* talking(client)
        yield* Effect.sleep(2000)
        yield* world.network.move(client.host, { address: "10.20.0.7", nat: phone })
        yield* Effect.sleep(2000)
        yield* world.network.move(client.host, { address: "10.0.0.9", nat: home })
        const asked = yield* finish
        yield* nothingLost(world, client, asked)
      })
    )
  )

  it.effect("of the server, met by short attempts again and again: no hint is shown twice before all have been", () =>
    World.run({ seed: 212, capture: true }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        yield* client.tier.stop
        yield* world.server.kill
        yield* world.network.cut(world.serverHost)
        const from = world.network.log.length
        for (let attempt = 0; attempt < 4; attempt++) {
          yield* client.tier.start(undefined)
          // Rounds at 0, 250 and 750 ms.
          yield* Effect.sleep(1000)
          yield* client.tier.stop
        }
        const sent = world.network.log
          .slice(from)
          .filter(({ bytes, event }) => event === "sent" && bytes.length === 1200)
          .map(({ bytes }) => Buffer.from(bytes).toString("hex"))
        // One attempt a round, to several addresses.
        const attempts = new Set(sent)
        assert.strictEqual(attempts.size, 12)
        assert.strictEqual(new Set([...attempts].map((attempt) => attempt.slice(0, 16))).size, 12)
      })
    )
  )

  it.effect("by the end of the client's process: the next one asks again and is answered once", () =>
    World.run({ seed: 210 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ link: World.ROUGH })
        for (let n = 0; n < 12; n++) {
          const asking = yield* Effect.forkScoped(client.ask(n))
          // At any point: before the question is out, while it is answered, after.
          yield* Effect.sleep(20 * n)
          yield* n % 2 === 0 ? client.tier.kill : client.tier.stop
          yield* Fiber.interrupt(asking)
          yield* client.tier.start(undefined)
          const reply = yield* client.ask(n)
          assert.strictEqual(reply.text, World.answerTo(`question ${n} of ${client.name}`))
        }
        yield* nothingLost(world, client, 12)
        // Enrolled once, without a file ever since; sessions of the dead are forgotten.
        yield* Effect.sleep(60_000)
        assert.deepStrictEqual(yield* World.sessions(world), ["server: 1", "llm: 1"])
        assert.deepStrictEqual(yield* World.openStreams(world), ["server: 1", `${client.name}: 1`])
      })
    )
  )

  it.effect("of everything, one after another, with four clients talking", () =>
    World.run({ seed: 211 }, (world) =>
      Effect.gen(function* () {
        const first = yield* world.paired({ link: World.ROUGH })
        const clients = [first]
        for (let n = 0; n < 3; n++) {
          const client = yield* world.client({ link: World.ROUGH })
          const relay = yield* world.server.made
          yield* Effect.orDie(relay.control.renew)
          const link = yield* client.tier.start(yield* Effect.orDie(world.pairing))
          yield* link.session
          clients.push(client)
        }
        const talks = []
        for (const client of clients) talks.push({ client, ...(yield* talking(client)) })
        for (let round = 0; round < 3; round++) {
          yield* Effect.sleep(1700)
          yield* world.llm.kill
          yield* Effect.sleep(700)
          yield* world.server.kill
          yield* Effect.sleep(300)
          yield* world.llm.start()
          yield* Effect.sleep(300)
          yield* world.server.start()
          yield* Effect.sleep(4000)
        }
        let asked = 0
        for (const { finish } of talks) asked += yield* finish
        const messages = yield* Effect.orDie(world.conversations.history({ conversation: "main", limit: 100_000 }))
        assert.lengthOf(messages, 2 * asked)
        for (const { client, replies } of talks) {
          const wanted = questionsOf(client, replies.length)
          const own = messages.filter(({ role, text }) => role === "user" && text.endsWith(client.name))
          assert.deepStrictEqual(
            own.map(({ text }) => text),
            wanted
          )
        }
        for (const { seq, status, text } of messages) {
          assert.strictEqual(status, "complete")
          const question = messages.find((other) => other.seq === seq - 1)?.text
          if (seq % 2 === 1) assert.strictEqual(text, World.answerTo(question ?? ""))
        }
      })
    )
  )
})
