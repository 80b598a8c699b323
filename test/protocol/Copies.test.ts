import { assert, describe, it } from "@effect/vitest"
import { REDUNDANCY_DELAY_MS } from "../../src/domain/protocol/Constants.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import { Pair, Sink } from "./Pair.ts"

const DELAY = 25
const MESSAGE = new Uint8Array(64).fill(7)

/** A session on which single messages travel up, and a way to lose what the client sends next. */
const chat = () => {
  let losing = 0
  const pair = new Pair({ fate: (from) => (from === "client" && losing-- > 0 ? [] : [DELAY]) })
  losing = 0
  const sink = new Sink()
  pair.onSession = sink.on
  const { client } = pair.connect()
  const id = pair.command("client", client, (session) => session.openStream(Priority.Interactive)) ?? -1
  /** Milliseconds that a message takes when the first `lost` datagrams after it get lost. */
  const say = (lost: number): number => {
    pair.pass(1000)
    const whole = sink.bytes("server", id).length + MESSAGE.length
    const start = pair.now
    losing = lost
    pair.command("client", client, (session) => session.write(id, MESSAGE))
    assert.isTrue(pair.run(() => sink.bytes("server", id).length === whole))
    losing = 0
    return pair.now - start
  }
  return { pair, say }
}

describe("Copies of small packets", () => {
  it("make a loss cost milliseconds instead of a probe timeout, once losses were seen", () => {
    const { say } = chat()
    assert.strictEqual(say(0), DELAY)
    assert.isAbove(say(1), 3 * DELAY)
    assert.strictEqual(say(1), DELAY + REDUNDANCY_DELAY_MS)
    assert.strictEqual(say(0), DELAY)
    assert.isAbove(say(2), 3 * DELAY)
  })

  it("are one for each message, and none where nothing is lost", () => {
    const { pair, say } = chat()
    const sent = (lost: number): number => {
      pair.pass(1000)
      const from = pair.wire.length
      say(lost)
      pair.pass(1000)
      return pair.sentBy("client", from).length
    }
    assert.strictEqual(sent(0), 1)
    sent(1)
    assert.strictEqual(sent(0), 2)
    assert.strictEqual(sent(0), 2)
    for (let i = 0; i < 250; i++) sent(0)
    assert.strictEqual(sent(0), 1, "long after the last loss")
  })
})
