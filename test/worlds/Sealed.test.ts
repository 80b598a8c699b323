import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import { CREDENTIAL_ID_LENGTH } from "../../src/domain/protocol/Constants.ts"
import { hex, text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { answerTo, type Client, type Reply, run, type World } from "./World.ts"

const llmPaths = HomePaths.llm("/home")
/** Milliseconds there and back, client to server: 20 and 5 each way. */
const ROUND_TRIP = 50

const linked = (world: World, key?: string) =>
  Effect.flatMap(world.server.made, (relay) =>
    relay.control.llm.pipe(
      Stream.takeUntil((state) => state.connected && (key === undefined || state.key === key)),
      Stream.runDrain
    )
  )

/** How long it took until the assistant began. */
const asked = Effect.fnUntraced(function* (world: World, client: Client, n: number) {
  const begun = yield* world.now
  const reply = yield* client.ask(n)
  return { reply, tookMs: (reply.at[reply.outputs.findIndex(({ _tag }) => _tag === "Started")] ?? Number.NaN) - begun }
})

const tags = ({ outputs }: Reply) => [...new Set(outputs.map(({ _tag }) => _tag))]

const serverRecord = (client: Client) =>
  Effect.map(
    client.disk.read(client.paths.server),
    (bytes): { readonly llmKey?: string; readonly credentialId: string } =>
      JSON.parse(text(Option.getOrElse(bytes, () => utf8("{}"))) ?? "{}")
  )

describe("Sealed streams between client and llm tier", () => {
  it.effect("cost one round trip once, and none for the questions that follow", () =>
    run({ seed: 1 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const first = yield* asked(world, client, 0)
        const second = yield* asked(world, client, 1)
        const third = yield* asked(world, client, 2)
        assert.strictEqual(first.reply.text, answerTo("question 0 of client-0"))
        for (const { tookMs } of [second, third]) {
          assert.isAtLeast(tookMs, ROUND_TRIP)
          assert.isAtMost(tookMs, ROUND_TRIP + 10)
        }
        assert.isAtLeast(first.tookMs, second.tookMs + ROUND_TRIP)
        assert.isAtMost(first.tookMs, second.tookMs + ROUND_TRIP + 10)
      })
    )
  )

  it.effect("begin anew by themselves when the llm tier was, and nobody is kept waiting", () =>
    run({ seed: 2 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        yield* client.ask(0)
        yield* world.llm.kill
        yield* Effect.sleep(5000)
        yield* world.llm.start()
        yield* linked(world)
        const { reply, tookMs } = yield* asked(world, client, 1)
        assert.strictEqual(reply.text, answerTo("question 1 of client-0"))
        assert.notInclude(tags(reply), "Waiting")
        assert.isAtMost(tookMs, 3 * ROUND_TRIP + 20)
        assert.deepStrictEqual(world.asked, ["question 0 of client-0", "question 1 of client-0"])
      })
    )
  )

  it.effect("make a new session within the hour, and keep long conversations together", () =>
    run({ seed: 3, limitMs: 4 * 3_600_000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        for (let n = 0; n < 6; n++) {
          assert.strictEqual((yield* client.ask(n)).text, answerTo(`question ${n} of client-0`))
          yield* Effect.sleep(31 * 60_000)
        }
        assert.deepStrictEqual(
          world.log.filter(({ level }) => level === "Warn" || level === "Error"),
          []
        )
      })
    )
  )

  it.effect("learn the llm tier's key later where the server did not know it at enrolment, and hold to it", () =>
    run({ seed: 4 }, (world) =>
      Effect.gen(function* () {
        yield* world.server.start()
        const client = yield* world.client()
        yield* Effect.sleep(100)
        const link = yield* Effect.flatMap(Effect.orDie(world.pairing), client.tier.start)
        yield* link.session
        yield* Effect.sleep(1000)
        assert.isUndefined((yield* Effect.orDie(serverRecord(client))).llmKey)
        yield* world.llm.start()
        yield* linked(world)
        assert.strictEqual((yield* client.ask(0)).text, answerTo("question 0 of client-0"))
        const pinned = yield* Effect.orDie(world.disk.read(llmPaths.llmPublicKey))
        assert.strictEqual(
          `${(yield* Effect.orDie(serverRecord(client))).llmKey}\n`,
          text(Option.getOrElse(pinned, () => utf8("")))
        )
      })
    )
  )

  it.effect("do not come about with another llm tier, which is said, and pairing again helps", () =>
    run({ seed: 5 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        yield* client.ask(0)
        yield* world.llm.stop
        const other = primitives.keyPair(new Uint8Array(32).fill(77))
        yield* Effect.orDie(world.disk.write(llmPaths.staticKey, utf8(`${hex(other.privateKey)}\n`)))
        yield* world.llm.start()
        yield* linked(world, hex(other.publicKey))
        // The session is forgotten too: first that, then the key.
        const error = yield* Effect.flip(client.ask(1))
        assert.match(error.message, /key is not the one.*clawchat pair FILE/)
        assert.deepStrictEqual(world.asked, ["question 0 of client-0"])
        // Asking again changes nothing: the key is not taken over.
        assert.match((yield* Effect.flip(client.ask(1))).message, /key is not the one/)

        yield* client.tier.stop
        yield* Effect.flatMap(world.server.made, (relay) => Effect.orDie(relay.control.renew))
        const link = yield* Effect.flatMap(Effect.orDie(world.pairing), client.tier.start)
        yield* link.session
        assert.strictEqual((yield* client.ask(1)).text, answerTo("question 1 of client-0"))
      })
    )
  )

  it.effect("are refused, with an alarm, to a device that comes with another key than before", () =>
    run({ seed: 6 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        yield* client.ask(0)
        const { credentialId } = yield* Effect.orDie(serverRecord(client))
        assert.strictEqual(credentialId.length, 2 * CREDENTIAL_ID_LENGTH)
        // As if this device's id had belonged to somebody else: what a server that lies about ids would try.
        const pin = HomePaths.join(llmPaths.devices, `${credentialId}.pub`)
        assert.isTrue(Option.isSome(yield* Effect.orDie(world.disk.read(pin))))
        yield* world.llm.stop
        yield* Effect.orDie(world.disk.write(pin, utf8(`${"ab".repeat(32)}\n`)))
        yield* world.llm.start()
        yield* linked(world)
        const error = yield* Effect.flip(client.ask(1))
        assert.match(error.message, /knows this device by another key/)
        assert.deepStrictEqual(world.asked, ["question 0 of client-0"])
        const alarms = world.log.filter(
          ({ message, tier }) => tier === "llm" && /^ALARM: device .* another key/.test(message)
        )
        assert.strictEqual(alarms.length, 1)
      })
    )
  )
})
