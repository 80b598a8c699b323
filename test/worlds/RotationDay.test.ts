import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as World from "./World.ts"

const HOUR = 3_600_000
const HOURS = 24
const PIECE_MS = 120_000
const CHAT_MS = 900_000
/** Nobody waits longer, whatever is lost or moved. */
const LONGEST_MS = 2000

/** One line each two minutes: when it was said, in the world's time. */
const slowly: World.Script = (request, index) => {
  const count = Number(/^a line now and then, (\d+)$/.exec(request.messages.at(-1)?.text ?? "")?.[1] ?? 0)
  if (count === 0) return World.echo(request, index)
  const said = (n: number) =>
    Effect.clockWith(({ currentTimeMillis }) =>
      Effect.map(currentTimeMillis, (at) => ({ _tag: "Delta", text: `${n} ${at - World.START}\n` }) as const)
    )
  const pieces = Stream.mapEffect(Stream.range(0, count - 1), (n) => Effect.andThen(Effect.sleep(PIECE_MS), said(n)))
  const usage = { inputTokens: 1, outputTokens: count }
  return Stream.concat(pieces, Stream.succeed({ _tag: "Done", usage, stopReason: "end", model: "script-1" } as const))
}

describe("A day", () => {
  it.effect("of chat and a slow stream at 3 % loss, through 24 ports and as many keys: one session, nothing late", () =>
    World.run({ seed: 701, limitMs: 30 * HOUR, stepMs: 600_000, script: slowly }, (world) =>
      Effect.gen(function* () {
        const lossy = { delayMs: 15, jitterMs: 5, loss: 0.015 }
        const nat = world.network.nat({ address: "203.0.113.1", kind: "symmetric", timeoutMs: 60_000 })
        const client = yield* world.paired({ nat, link: lossy })
        // From here to the server and back 3 %, and in each direction as much on the server's own line.
        yield* world.network.setLink(world.serverHost, { delayMs: 5, loss: 0.015 })

        const count = (HOURS * HOUR) / PIECE_MS - 1
        yield* Effect.sleep(1000)
        const began = yield* world.now
        const reading = yield* Effect.forkScoped(client.ask(1_000_000, `a line now and then, ${count}`, "slow"))
        let asked = 0
        let longest = 0
        while ((yield* world.now) < began + HOURS * HOUR) {
          const from = yield* world.now
          const { outputs, text } = yield* client.ask(asked)
          assert.strictEqual(text, World.answerTo(`question ${asked++} of ${client.name}`))
          assert.isTrue(outputs.every(({ _tag }) => _tag !== "Restarted" && _tag !== "Waiting"))
          longest = Math.max(longest, (yield* world.now) - from)
          yield* Effect.sleep(CHAT_MS)
        }
        const { at, outputs, text } = yield* Fiber.join(reading)
        const lines = text.trimEnd().split("\n")
        assert.deepStrictEqual(
          lines.map((line) => line.split(" ")[0]),
          Array.from({ length: count }, (_, n) => `${n}`)
        )
        const arrivals = at.filter((_, i) => outputs[i]?._tag === "Text")
        assert.lengthOf(arrivals, count)
        for (const [i, line] of lines.entries()) {
          longest = Math.max(longest, (arrivals[i] ?? Number.POSITIVE_INFINITY) - Number(line.split(" ")[1]))
        }
        assert.isBelow(longest, LONGEST_MS)

        const messages = yield* Effect.orDie(world.conversations.history({ conversation: "main", limit: 10_000 }))
        const questions = messages.filter(({ role, text }) => role === "user" && text.endsWith(client.name))
        assert.deepStrictEqual(
          questions.map(({ text }) => text),
          Array.from({ length: asked }, (_, n) => `question ${n} of ${client.name}`)
        )
        const logged = (words: string): number => world.log.filter(({ message }) => message.includes(words)).length
        assert.strictEqual(logged("session.opened"), 1)
        assert.isAtLeast(logged("port.opened"), HOURS)
        assert.strictEqual(logged("port.kept"), 0)
        let packets = 0
        const epochs: Array<number> = []
        for (const { connection, tier } of world.connections) {
          const { epoch, sentPackets } = yield* connection.stats
          packets += sentPackets
          if (tier !== "llm") epochs.push(epoch)
        }
        // Moved by up to a tenth of the hour each time, and the first of the two ends begins.
        for (const epoch of epochs) assert.isAtLeast(epoch, HOURS)
        assert.isAtMost(packets, 200_000)
        assert.deepStrictEqual(yield* World.sessions(world), ["server: 1", "llm: 1"])
      })
    )
  )
})
