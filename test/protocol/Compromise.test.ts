/** COMPROMISED on the wire: heard once, worth nothing when replayed or changed, and nothing is left at either end. */
import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import * as Compromise from "../../src/domain/protocol/Compromise.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import type { Notification } from "../../src/domain/protocol/EndpointTypes.ts"
import type { SessionEvent } from "../../src/domain/protocol/SessionTypes.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { CLIENT, Pair, SERVER } from "./Pair.ts"

const heard = (events: ReadonlyArray<SessionEvent>) =>
  events.flatMap((event) => (event.type === "Compromised" ? [event] : []))

/** A pair whose client has burnt its keys; the copies are not on their way yet. */
const burnt = () => {
  const pair = new Pair({ seed: "compromised" })
  const { client, server } = pair.connect()
  pair.pass(100)
  const [notification, ...more] = pair.client.compromise(new Set())
  assert.strictEqual(more.length, 0)
  return { pair, client, server, notification: notification as Notification }
}

describe("Compromise", () => {
  it("keeps of a token only what recognises its answer", () => {
    const token = new Uint8Array(32).fill(7)
    const answer = Compromise.acknowledgement(primitives, token)
    const expected = Compromise.expected(primitives, token)
    // HKDF("", token, "clawchat/1 compromised ack", 32) by other means: one HMAC to extract, one to expand.
    const extracted = primitives.hmac(new Uint8Array(32), token)
    const info = new TextEncoder().encode("clawchat/1 compromised ack\u0001")
    assert.strictEqual(hex(answer), hex(primitives.hmac(extracted, info)))
    assert.strictEqual(hex(expected), hex(primitives.hash(answer)))
    assert.isTrue(Compromise.isAcknowledgement(primitives, expected, answer))
    assert.isFalse(Compromise.isAcknowledgement(primitives, expected, token))
    assert.isFalse(Compromise.isAcknowledgement(primitives, expected, expected))
    FastCheck.assert(
      FastCheck.property(FastCheck.uint8Array({ maxLength: 64 }), (bytes) => {
        assert.strictEqual(Compromise.isAcknowledgement(primitives, expected, bytes), hex(bytes) === hex(answer))
      }),
      { seed: 11 }
    )
    for (let at = 0; at < answer.length; at++) {
      const wrong = answer.slice()
      wrong[at] = (wrong[at] as number) ^ 1
      assert.isFalse(Compromise.isAcknowledgement(primitives, expected, wrong))
    }
  })

  it("leaves an empty endpoint, deaf and dumb, and four sealed copies, no two alike", () => {
    const { pair, notification } = burnt()
    const { datagrams, remote } = notification
    assert.deepStrictEqual(remote, SERVER)
    assert.strictEqual(datagrams.length, Compromise.NOTIFY_AT_MS.length)
    assert.strictEqual(new Set(datagrams.map(hex)).size, datagrams.length)
    for (const { length } of datagrams) assert.strictEqual(length, Compromise.NOTIFICATION_LENGTH)
    assert.strictEqual(pair.client.sessions, 0)
    assert.isUndefined(pair.client.pollTransmit(pair.now))
    assert.strictEqual(pair.client.pollTimeout(), Number.POSITIVE_INFINITY)
    const sent = pair.sentBy("client").length
    const before = pair.client.drops.unknown
    for (const { bytes } of pair.sentBy("server")) pair.inject("client", SERVER, bytes)
    pair.pass(1000)
    assert.strictEqual(pair.sentBy("client").length, sent)
    assert.isAbove(pair.client.drops.unknown, before)
    assert.deepStrictEqual(pair.client.compromise(new Set()), [])
  })

  it("each copy by itself is understood, with the token that answers it", () => {
    for (let copy = 0; copy < Compromise.NOTIFY_AT_MS.length; copy++) {
      const { pair, server, notification } = burnt()
      pair.inject("server", CLIENT, (notification.datagrams[copy] as Uint8Array).slice())
      pair.pass(50)
      const [event, ...more] = heard(pair.sessionEvents("server", server))
      assert.strictEqual(more.length, 0)
      const answer = Compromise.acknowledgement(primitives, event?.token ?? assert.fail("not heard"))
      assert.isTrue(Compromise.isAcknowledgement(primitives, notification.expected, answer))
      assert.deepStrictEqual(event?.remote, CLIENT)
    }
  })

  it("replayed, changed, or from a session that is gone it does nothing", () => {
    const { pair, server, notification } = burnt()
    const [first = new Uint8Array(0)] = notification.datagrams
    for (let at = 0; at < first.length; at++) {
      const wrong = first.slice()
      wrong[at] = (wrong[at] as number) ^ 0x10
      pair.inject("server", CLIENT, wrong)
    }
    pair.pass(50)
    assert.strictEqual(heard(pair.sessionEvents("server", server)).length, 0)
    for (let n = 0; n < 3; n++) pair.inject("server", { host: "203.0.113.9", port: 9 }, first.slice())
    pair.pass(50)
    assert.strictEqual(heard(pair.sessionEvents("server", server)).length, 1)
    // The server burns in its turn: whoever told it hears nothing more.
    assert.strictEqual(pair.server.compromise(new Set([server])).length, 0)
    const sent = pair.sentBy("server").length
    const events = pair.sessionEvents("server", server).length
    for (const each of notification.datagrams) pair.inject("server", CLIENT, each.slice())
    pair.pass(5000)
    assert.strictEqual(pair.sentBy("server").length, sent)
    assert.strictEqual(heard(pair.sessionEvents("server", server)).length, 1)
    assert.isAtMost(pair.sessionEvents("server", server).length, events + 1)
    assert.strictEqual(pair.server.sessions, 0)
    assert.strictEqual(pair.server.expected, 0)
  })

  it("a server says it to nobody unproven", () => {
    const pair = new Pair({ seed: "early" })
    pair.dial()
    pair.run(() => pair.server.sessions > 0)
    assert.deepStrictEqual(pair.server.compromise(new Set()), [])
    assert.strictEqual(pair.server.sessions, 0)
  })
})
