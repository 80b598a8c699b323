import { assert, describe, it } from "@effect/vitest"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import type { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent } from "../../src/domain/protocol/SessionTypes.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"
import * as Foreign from "./Foreign.ts"
import { CLIENT, Pair, type PairOptions, type Side, WALL } from "./Pair.ts"

/** The server of a pair gives back what it reads; its own client stays silent. */
const world = (options: PairOptions) => {
  const pair = new Pair({ seed: "foreign", ...options })
  pair.onSession = (_side: Side, session: Session, event: SessionEvent) => {
    if (event.type !== "StreamReadable") return
    for (let read = session.read(event.id); ; read = session.read(event.id)) {
      if (read instanceof Uint8Array) session.write(event.id, Uint8Array.from(read))
      else {
        if (read === "finished") session.finish(event.id)
        return
      }
    }
  }
  const random = entropySeeded("foreign client")
  const slot = pair.invitation.slot ?? Math.floor(WALL / 300_000)
  const credential = { id: pair.invitation.id, psk: pair.invitation.psk, slot }
  const client = new Foreign.Client(credential, pair.clientKeys.privateKey, pair.serverKeys.publicKey, random)
  return { pair, client }
}

/** What the server has sent since the wire was `from` long, opened. */
const replies = (pair: Pair, client: Foreign.Client, from: number): ReadonlyArray<Foreign.Seen> =>
  pair.sentBy("server", from).flatMap(({ bytes }) => client.open(bytes))

describe("a client written from docs/PROTOCOL.md alone", () => {
  it("is admitted, heard, answered and dismissed", () => {
    const { pair, client } = world({})
    pair.inject("server", CLIENT, client.initiation(WALL, 0))
    const [answer] = pair.sentBy("server")
    assert.isDefined(answer)
    client.answer(answer?.bytes ?? new Uint8Array(0))
    assert.strictEqual(client.observed, `${CLIENT.host}:${CLIENT.port}`)
    assert.isUndefined(client.portSeed)

    let from = pair.wire.length
    pair.inject("server", CLIENT, client.packet(Foreign.ping(), Foreign.stream(0, 0, "hello ", false)))
    pair.pass(100)
    const first = replies(pair, client, from)
    assert.isTrue(first.some((seen) => seen.type === "ack" && seen.received[0]?.[1] === 0))
    assert.isTrue(first.some((seen) => seen.type === "stream" && Buffer.from(seen.data).toString() === "hello "))

    from = pair.wire.length
    pair.inject("server", CLIENT, client.packet(client.ack(), Foreign.stream(0, 6, "world", true)))
    pair.pass(100)
    const second = replies(pair, client, from)
    // What the client did not acknowledge may have come twice.
    const texts = second.flatMap((seen) => (seen.type === "stream" ? [Buffer.from(seen.data).toString()] : []))
    assert.deepStrictEqual([...new Set(texts)], ["world"])
    assert.isTrue(second.some((seen) => seen.type === "stream" && seen.fin))

    // What was acknowledged is not sent again, though the server goes on probing for the rest.
    from = pair.wire.length
    pair.inject("server", CLIENT, client.packet(client.ack()))
    pair.pass(5000)
    assert.deepStrictEqual(
      replies(pair, client, from).filter((seen) => seen.type === "stream"),
      []
    )
    pair.inject("server", CLIENT, client.packet(Foreign.close(0, "done")))
    pair.pass(10_000)
    assert.deepStrictEqual(pair.event("server", "Closed")?.reason, { by: "peer", code: 0, reason: "done" })
    assert.strictEqual(pair.server.sessions, 0)
  })

  it("enrols with a file and derives the same device secret", () => {
    const { pair, client } = world({ enrols: true })
    pair.inject("server", CLIENT, client.initiation(WALL, 3))
    const [answer] = pair.sentBy("server")
    client.answer(answer?.bytes ?? new Uint8Array(0))
    assert.deepStrictEqual(client.portSeed, new Uint8Array(32).fill(7))
    const from = pair.wire.length
    pair.inject("server", CLIENT, client.packet(Foreign.ping()))
    pair.pass(100)
    assert.isTrue(replies(pair, client, from).some((seen) => seen.type === "ack"))
    assert.isDefined(pair.event("server", "Enrolling"))

    const { id, psk } = pair.invitation
    const shared = Foreign.dh(pair.clientKeys.privateKey, pair.serverKeys.publicKey)
    assert.deepStrictEqual(
      Foreign.hkdf(psk, shared, Foreign.bytes("clawchat/1 device", id), 32),
      Uint8Array.from(KeySchedule.deviceSecret(primitives, psk, shared, id))
    )
  })

  it("is told why when it breaks the protocol", () => {
    const { pair, client } = world({})
    pair.inject("server", CLIENT, client.initiation(WALL, 0))
    client.answer(pair.sentBy("server")[0]?.bytes ?? new Uint8Array(0))
    pair.inject("server", CLIENT, client.packet(Foreign.ping()))
    const from = pair.wire.length
    pair.inject("server", CLIENT, client.packet(Foreign.bytes(0x3f)))
    const seen = replies(pair, client, from)
    assert.isTrue(seen.some((frame) => frame.type === "close" && frame.code === 1))
  })
})
