import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { CloseCode, type CloseReason } from "../../src/domain/protocol/CloseCode.ts"
import * as Constants from "../../src/domain/protocol/Constants.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import { Endpoint } from "../../src/domain/protocol/Endpoint.ts"
import type { EndpointEvent, Handle } from "../../src/domain/protocol/EndpointTypes.ts"
import * as Envelope from "../../src/domain/protocol/Envelope.ts"
import * as HandshakeMessage from "../../src/domain/protocol/HandshakeMessage.ts"
import { HintCounter } from "../../src/domain/protocol/HintCounter.ts"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import * as Noise from "../../src/domain/protocol/Noise.ts"
import type { KeyPair } from "../../src/domain/protocol/Primitives.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { CLIENT, LIMITS, Pair, SERVER, type Side, seeded, steady, WALL, weather } from "./Pair.ts"

const types = (events: ReadonlyArray<EndpointEvent>): ReadonlyArray<string> => events.map((event) => event.type)

/** Closes every session and waits until both ends have forgotten everything. */
const assertNothingLeft = (pair: Pair, why = ""): void => {
  pair.client.closeAll(pair.now, CloseCode.None, "")
  pair.drain()
  pair.pass(100_000)
  assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0], why)
}

/** Runs to the first event of a kind and opens no gate. */
const until = <T extends EndpointEvent["type"]>(pair: Pair, side: Side, type: T) => {
  pair.run(() => pair.event(side, type) !== undefined)
  const event = pair.event(side, type)
  if (event === undefined) throw new Error(`no ${type} at the ${side}`)
  return event
}

const PORT_SEED = new Uint8Array(32).fill(7)

describe("Endpoint: connecting", () => {
  it("connects an enrolled device in one and a half round trips", () => {
    const pair = new Pair()
    const { client, server } = pair.connect()
    assert.strictEqual(pair.now, 40)
    assert.strictEqual(pair.session("client", client).state, "open")
    assert.strictEqual(pair.session("server", server).state, "open")
    const caller = pair.event("server", "Connected")?.caller
    assert.strictEqual(caller?.deviceName, "test")
    assert.deepStrictEqual(caller?.staticKey, pair.clientKeys.publicKey)
    assert.deepStrictEqual(caller?.remote, CLIENT)
    assert.deepStrictEqual(types(pair.events.client), ["Answered", "Connected"])
    assert.deepStrictEqual(types(pair.events.server), ["Initiation", "Connected"])
    assert.deepStrictEqual(pair.event("client", "Answered")?.observed, CLIENT)
    assert.strictEqual(pair.event("client", "Answered")?.enrolment, undefined)
    assertNothingLeft(pair)
  })

  it("opens the gates of an enrolled device in order and sends nothing before", () => {
    const pair = new Pair()
    pair.auto = false
    pair.dial()
    const initiation = until(pair, "server", "Initiation")
    assert.strictEqual(initiation.wallMs, WALL)
    assert.strictEqual(pair.now, 10)
    assert.strictEqual(pair.sentBy("server").length, 0)
    pair.server.admit(pair.now, initiation.initiation, undefined)
    const answered = until(pair, "client", "Answered")
    assert.strictEqual(pair.now, 20)
    assert.strictEqual(pair.sentBy("server").length, 1)
    assert.strictEqual(pair.sentBy("client").length, 1)
    pair.pass(5000)
    assert.deepStrictEqual([pair.sentBy("client").length, pair.sentBy("server").length], [1, 1])
    pair.client.confirm(pair.now, answered.session)
    pair.drain()
    assert.strictEqual(pair.sentBy("client").length, 2)
    assert.strictEqual(pair.event("server", "Connected"), undefined)
    assert.isTrue(pair.run(() => pair.event("client", "Connected") !== undefined))
    assert.strictEqual(pair.now, 5040)
    assertNothingLeft(pair)
  })

  it("opens the three gates of a file in order and the server is silent until the enrolment is committed", () => {
    const pair = new Pair({ enrols: true })
    pair.auto = false
    pair.dial()
    const initiation = until(pair, "server", "Initiation")
    pair.server.admit(pair.now, initiation.initiation, { portSeed: PORT_SEED, llmKey: undefined })
    const answered = until(pair, "client", "Answered")
    assert.deepStrictEqual(answered.enrolment, { portSeed: PORT_SEED, llmKey: undefined })
    pair.client.confirm(pair.now, answered.session)
    const enrolling = until(pair, "server", "Enrolling")
    assert.strictEqual(pair.now, 30)
    assert.deepStrictEqual(enrolling.staticKey, pair.clientKeys.publicKey)
    assert.strictEqual(enrolling.deviceName, "test")
    pair.pass(5000)
    assert.strictEqual(pair.sentBy("server").length, 1)
    assert.strictEqual(pair.event("client", "Connected"), undefined)
    pair.server.establish(pair.now, enrolling.session)
    pair.drain()
    assert.isTrue(pair.run(() => pair.event("client", "Connected") !== undefined))
    assert.strictEqual(pair.now, 5040)
    assert.deepStrictEqual(types(pair.events.server), ["Initiation", "Enrolling", "Connected"])
    assertNothingLeft(pair)
  })

  it("is silent when the owner refuses the initiation", () => {
    const pair = new Pair()
    pair.auto = false
    pair.dial({ timeoutMs: 5000 })
    const initiation = until(pair, "server", "Initiation")
    pair.server.refuse(initiation.initiation)
    pair.server.admit(pair.now, initiation.initiation, undefined)
    for (const { initiation } of pair.all("server", "Initiation")) pair.server.refuse(initiation)
    pair.pass(20_000)
    assert.strictEqual(pair.sentBy("server").length, 0)
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
    assert.isTrue(pair.all("client", "DialFailed").length === 1)
  })

  it("is silent when the client's owner refuses the answer", () => {
    const pair = new Pair()
    pair.auto = false
    pair.dial()
    pair.server.admit(pair.now, until(pair, "server", "Initiation").initiation, undefined)
    pair.client.refuse(until(pair, "client", "Answered").session)
    pair.pass(20_000)
    assert.deepStrictEqual([pair.sentBy("client").length, pair.sentBy("server").length], [1, 1])
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
    assert.deepStrictEqual(types(pair.events.client), ["Answered"])
    assert.deepStrictEqual(types(pair.events.server), ["Initiation"])
  })

  it("is silent when the owner refuses the enrolment", () => {
    const pair = new Pair({ enrols: true, deadAfterMs: 3000 })
    pair.auto = false
    pair.dial()
    const { initiation } = until(pair, "server", "Initiation")
    pair.server.admit(pair.now, initiation, { portSeed: PORT_SEED, llmKey: undefined })
    pair.client.confirm(pair.now, until(pair, "client", "Answered").session)
    const { session } = until(pair, "server", "Enrolling")
    pair.server.refuse(session)
    pair.server.establish(pair.now, session)
    pair.pass(20_000)
    assert.strictEqual(pair.sentBy("server").length, 1)
    assert.deepStrictEqual(types(pair.events.server), ["Initiation", "Enrolling"])
    assert.deepStrictEqual(types(pair.events.client), ["Answered", "Closed"])
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
  })

  it("does not connect a session that its client closed while the enrolment was being committed", () => {
    const pair = new Pair({ enrols: true })
    pair.auto = false
    pair.dial()
    const { initiation } = until(pair, "server", "Initiation")
    pair.server.admit(pair.now, initiation, { portSeed: PORT_SEED, llmKey: undefined })
    const answered = until(pair, "client", "Answered")
    pair.client.confirm(pair.now, answered.session)
    const { session } = until(pair, "server", "Enrolling")
    pair.client.close(pair.now, answered.session, CloseCode.None, "")
    pair.drain()
    until(pair, "server", "Closed")
    pair.server.establish(pair.now, session)
    pair.pass(20_000)
    assert.deepStrictEqual(types(pair.events.server), ["Initiation", "Enrolling", "Closed"])
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
  })

  for (const enrols of [false, true]) {
    const who = enrols ? "a file" : "a device"
    for (let lost = 0; lost <= 12; lost++) {
      it(`connects ${who} when datagram ${lost} is lost`, () => {
        const pair = new Pair({ enrols, fate: (_from, _bytes, index) => (index === lost ? [] : [10]) })
        pair.connect()
        pair.pass(15_000)
        assert.deepStrictEqual([pair.client.sessions, pair.server.sessions], [1, 1])
        assert.strictEqual(pair.all("client", "Connected").length, 1)
        assert.strictEqual(pair.all("server", "Connected").length, 1)
        assertNothingLeft(pair)
      })
    }

    it(`connects ${who} over links that lose, repeat, reorder and corrupt`, () => {
      for (let i = 0; i < 40; i++) {
        const seed = `rough ${who} ${i}`
        const fate = weather(seed, { loss: 0.25, jitter: 400, duplicate: 0.2, corrupt: 0.1 })
        const pair = new Pair({ seed, enrols, fate })
        pair.dial()
        const connected = () =>
          pair.all("client", "Connected").length === 1 && pair.all("server", "Connected").length === 1
        assert.isTrue(pair.run(connected, 30_000), seed)
        pair.fate = steady(10)
        pair.pass(15_000)
        assert.deepStrictEqual([pair.client.sessions, pair.server.sessions], [1, 1], seed)
        assertNothingLeft(pair, seed)
      }
    })
  }

  it("keeps one session when two attempts are answered", () => {
    // The first answer is slow: both attempts are admitted, and the later answer arrives behind the first.
    const pair = new Pair({ fate: (from, _bytes, index) => [from === "server" && index <= 3 ? 300 : 10] })
    pair.connect()
    assert.strictEqual(pair.all("server", "Initiation").length, 2)
    assert.strictEqual(pair.all("client", "Answered").length, 1)
    assert.strictEqual(pair.all("client", "Connected").length, 1)
    assert.strictEqual(pair.server.sessions, 1)
    pair.pass(1000)
    assert.strictEqual(pair.client.drops.unknown, 1)
    assertNothingLeft(pair)
  })

  it("forgets half-open sessions after ten seconds without a word", () => {
    const pair = new Pair({ fate: (from) => (from === "server" ? [] : [10]) })
    pair.dial({ timeoutMs: 2000 })
    pair.pass(3000)
    assert.strictEqual(pair.server.sessions, 4)
    pair.pass(1750 + Constants.HALF_OPEN_MS + 10 - 3000 - 1)
    assert.strictEqual(pair.server.sessions, 1)
    pair.pass(1)
    assert.deepStrictEqual([pair.server.sessions, pair.server.held], [0, 0])
    assert.strictEqual(pair.sentBy("server").length, 4)
    assert.deepStrictEqual(types(pair.events.server), ["Initiation", "Initiation", "Initiation", "Initiation"])
  })

  it("drops an initiation that its owner never decides upon", () => {
    const pair = new Pair()
    pair.auto = false
    pair.dial({ timeoutMs: 100 })
    const { initiation } = until(pair, "server", "Initiation")
    pair.pass(Constants.HALF_OPEN_MS)
    assert.strictEqual(pair.server.held, 0)
    pair.server.admit(pair.now, initiation, undefined)
    pair.drain()
    assert.deepStrictEqual([pair.server.sessions, pair.sentBy("server").length], [0, 0])
  })

  it("drops, on confirmation, only half-open sessions of the same connecting", () => {
    const pair = new Pair()
    pair.auto = false
    const dial = () => {
      pair.dial()
      pair.pass(10)
      return pair.all("server", "Initiation").at(-1)?.initiation ?? 0
    }
    const first = dial()
    const second = dial()
    pair.server.admit(pair.now, first, undefined)
    pair.server.admit(pair.now, second, undefined)
    pair.drain()
    assert.strictEqual(pair.server.sessions, 2)
    pair.pass(20)
    const answered = pair.all("client", "Answered")
    assert.strictEqual(answered.length, 2)
    pair.client.confirm(pair.now, answered[0]?.session ?? 0)
    pair.pass(50)
    assert.strictEqual(pair.server.sessions, 2)
    pair.client.confirm(pair.now, answered[1]?.session ?? 0)
    pair.pass(50)
    assert.strictEqual(pair.all("server", "Connected").length, 2)
    assertNothingLeft(pair)
  })

  it("gives a dial up after its time and says how many rounds it made", () => {
    const pair = new Pair({ fate: () => [] })
    const dial = pair.dial({ timeoutMs: 60_000 })
    pair.pass(60_000)
    // 0, 250, 750, 1750 ms, each second to 4,750, then every 2 s until 58,750.
    assert.deepStrictEqual(pair.events.client, [{ type: "DialFailed", dial, rounds: 34 }])
    assert.deepStrictEqual([pair.client.held, pair.client.pollTimeout()], [0, Number.POSITIVE_INFINITY])
  })

  it("hangs up without a word", () => {
    const pair = new Pair({ fate: () => [] })
    const dial = pair.dial()
    pair.pass(3000)
    pair.client.hangUp(dial)
    pair.drain()
    assert.deepStrictEqual([pair.client.held, pair.events.client.length], [0, 0])
    assert.strictEqual(pair.client.pollTimeout(), Number.POSITIVE_INFINITY)
  })

  it("holds no more for a dial that lasts ten minutes than for one of a minute", () => {
    const pair = new Pair({ fate: () => [] })
    pair.dial({ timeoutMs: Number.POSITIVE_INFINITY })
    pair.pass(60_000)
    const minute = pair.client.held
    pair.pass(540_000)
    assert.strictEqual(pair.client.held, minute)
    assert.isAtMost(minute, 16)
  })

  it("tries its invitations in turn, each at all its endpoints", () => {
    const pair = new Pair({ fate: () => [] })
    const other: Address = { host: "203.0.113.9", port: 50_001 }
    const invitations = [{ ...pair.invitation, endpoints: [SERVER, other] }, pair.invitation]
    pair.dial({ invitations, hints: [new HintCounter(undefined), new HintCounter(undefined)], timeoutMs: 1000 })
    pair.pass(1000)
    assert.deepStrictEqual(
      pair.wire.map(({ at, remote }) => [at, remote.port]),
      [
        [0, 50_000],
        [0, 50_001],
        [250, 50_000],
        [750, 50_000],
        [750, 50_001]
      ]
    )
  })
})

describe("Endpoint: who may not come in", () => {
  const refused = (pair: Pair, options: Parameters<Pair["dial"]>[0] = {}) => {
    pair.dial({ timeoutMs: 4000, ...options })
    pair.pass(30_000)
    assert.strictEqual(pair.sentBy("server").length, 0)
    assert.deepStrictEqual(types(pair.events.client), ["DialFailed"])
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
  }

  it("does not answer a wrong psk", () => {
    const pair = new Pair()
    refused(pair, { invitations: [{ ...pair.invitation, psk: new Uint8Array(32).fill(1) }] })
    assert.deepStrictEqual(types(pair.events.server), [])
  })

  it("does not answer who knows another server key", () => {
    const pair = new Pair()
    refused(pair, { invitations: [{ ...pair.invitation, serverKey: pair.clientKeys.publicKey }] })
    assert.deepStrictEqual(types(pair.events.server), [])
    assert.isAbove(pair.server.drops.badHandshake, 0)
  })

  it("does not answer another credential id", () => {
    const pair = new Pair()
    refused(pair, { invitations: [{ ...pair.invitation, id: new Uint8Array(16) }] })
    assert.deepStrictEqual(types(pair.events.server), [])
  })

  it("tells of a stranger who holds a device's psk and not its key, and is silent", () => {
    const pair = new Pair()
    refused(pair, { identity: primitives.keyPair(new Uint8Array(32).fill(5)) })
    assert.strictEqual(pair.events.server[0]?.type, "Stranger")
    assert.strictEqual(pair.server.drops.stranger, pair.events.server.length)
    assert.deepStrictEqual(
      pair.event("server", "Stranger")?.staticKey,
      primitives.keyPair(new Uint8Array(32).fill(5)).publicKey
    )
  })

  it("admits with a burnt file only the key that it enrolled", () => {
    const stranger = new Pair({ enrols: true, expectedKey: new Uint8Array(32).fill(3) })
    refused(stranger)
    assert.strictEqual(stranger.events.server[0]?.type, "Stranger")
    const keys = new Pair({ enrols: true }).clientKeys
    const same = new Pair({ enrols: true, expectedKey: keys.publicKey })
    same.connect()
    assertNothingLeft(same)
  })

  it("does not answer to an expired file", () => {
    const pair = new Pair({ enrols: true })
    pair.pass(660_001)
    refused(pair)
    assert.isAbove(pair.server.drops.expired, 0)
    assert.deepStrictEqual(types(pair.events.server), [])
  })

  it("connects with a file at the last moment of its validity", () => {
    const pair = new Pair({ enrols: true, fate: steady(0) })
    pair.pass(660_000)
    pair.connect()
    assertNothingLeft(pair)
  })

  it("does not answer to source port 0", () => {
    const pair = new Pair()
    pair.clientAddress = { host: CLIENT.host, port: 0 }
    refused(pair)
    assert.deepStrictEqual(types(pair.events.server), [])
  })

  it("does not open the door for a device that is revoked while its initiation is being recorded", () => {
    const pair = new Pair()
    pair.auto = false
    pair.dial({ timeoutMs: 100 })
    const { initiation } = until(pair, "server", "Initiation")
    pair.server.setAdmissions(pair.now, [])
    pair.server.admit(pair.now, initiation, undefined)
    pair.pass(1000)
    assert.strictEqual(pair.sentBy("server").length, 0)
    assert.strictEqual(pair.server.held, 0)
  })

  it("closes the sessions of a revoked device and drops its half-open ones in silence", () => {
    const pair = new Pair()
    const { client } = pair.connect()
    pair.auto = false
    pair.dial()
    pair.pass(10)
    pair.server.admit(pair.now, pair.all("server", "Initiation")[1]?.initiation ?? 0, undefined)
    pair.drain()
    const before = pair.events.server.length
    pair.server.setAdmissions(pair.now, [])
    pair.drain()
    pair.pass(5)
    assert.deepStrictEqual(types(pair.events.server.slice(before)), ["Closed"])
    pair.pass(100)
    const [closed, ...others] = pair.all("client", "Closed")
    assert.lengthOf(others, 0)
    assert.strictEqual(closed?.session, client)
    assert.deepStrictEqual(closed?.reason, {
      by: "peer",
      code: CloseCode.Revoked,
      reason: "this device was revoked"
    })
    assert.isAbove(closed?.stats.receivedBytes ?? 0, 0)
    pair.pass(5000)
    assert.strictEqual(pair.server.held, 0)
  })

  it("closes the session of a revoked device while its file, with nobody's key, is still expected", () => {
    const pair = new Pair()
    const { client } = pair.connect()
    const file = { ...pair.admission, psk: new Uint8Array(32).fill(3), slot: 1000 }
    pair.server.setAdmissions(pair.now, [pair.admission, file])
    pair.pass(100)
    assert.lengthOf(pair.all("client", "Closed"), 0)
    pair.server.setAdmissions(pair.now, [{ ...file, staticKey: new Uint8Array(32) }])
    pair.drain()
    pair.pass(100)
    const [closed] = pair.all("client", "Closed")
    assert.strictEqual(closed?.session, client)
    assert.deepStrictEqual(closed?.reason, { by: "peer", code: CloseCode.Revoked, reason: "this device was revoked" })
  })

  it("knows a device again whose psk changed", () => {
    const pair = new Pair()
    const psk = new Uint8Array(32).fill(9)
    pair.server.setAdmissions(0, [{ ...pair.admission, psk }])
    pair.connect({ invitations: [{ ...pair.invitation, psk }] })
    assertNothingLeft(pair)
  })
})

/** A client by hand: initiations as bytes, for what an honest client never does. */
class Forger {
  readonly #pair: Pair
  readonly #entropy = seeded("forger")
  readonly #identity: KeyPair
  #hint = 0

  constructor(pair: Pair, identity = pair.clientKeys) {
    this.#pair = pair
    this.#identity = identity
  }

  initiation(change: Partial<HandshakeMessage.Initiation> = {}): Uint8Array {
    const { invitation, now } = this.#pair
    const noise = new Noise.Handshake(primitives, {
      pattern: Noise.pattern("IKpsk2") as Noise.Pattern,
      initiator: true,
      prologue: KeySchedule.prologue(invitation.id),
      local: this.#identity,
      remote: invitation.serverKey,
      psks: [invitation.psk]
    })
    const payload = HandshakeMessage.encodeInitiation({
      wallMs: WALL,
      versionMin: 1,
      versionMax: 1,
      connectionId: this.#entropy(8),
      connectId: this.#entropy(8),
      deviceName: "forger",
      features: 0,
      limits: LIMITS,
      ...change
    })
    const message = noise.writeMessage(payload, primitives.keyPair(this.#entropy(32)))
    if (message === undefined) throw new Error("Forger: no message")
    const slot = invitation.slot ?? KeySchedule.slotOf(WALL + now)
    const hint = KeySchedule.hint(primitives, invitation.psk, slot, this.#hint++)
    const key = primitives.aeadKey(KeySchedule.envelopeKeys(primitives, invitation.psk).initiation)
    return Envelope.sealInitiation(key, hint, this.#entropy(12), message)
  }
}

describe("Endpoint: versions", () => {
  const cases: ReadonlyArray<readonly [number, number, boolean]> = [
    [1, 1, true],
    [0, 1, true],
    [1, 9, true],
    [0, 255, true],
    [2, 3, false],
    [0, 0, false]
  ]
  for (const [versionMin, versionMax, welcome] of cases) {
    it(`${welcome ? "answers" : "ignores"} a client of versions ${versionMin} to ${versionMax}`, () => {
      const pair = new Pair()
      pair.inject("server", CLIENT, new Forger(pair).initiation({ versionMin, versionMax }))
      assert.strictEqual(pair.sentBy("server").length, welcome ? 1 : 0)
      assert.strictEqual(pair.server.drops.badHandshake, welcome ? 0 : 1)
    })
  }
})

describe("Endpoint: bounds", () => {
  it("replaces the most silent of eight sessions of a device by a ninth", () => {
    const pair = new Pair({ fate: steady(1) })
    const sessions: Array<{ readonly client: Handle; readonly server: Handle }> = []
    for (let i = 0; i < Constants.MAX_SESSIONS_PER_CREDENTIAL; i++) {
      sessions.push(pair.connect())
      pair.pass(1000)
    }
    assert.strictEqual(pair.server.sessions, 8)
    // All but the third speak.
    const silent = sessions[2]
    for (const { client } of sessions) {
      if (client !== silent?.client) pair.command("client", client, (s) => s.sendDatagram(Uint8Array.of(1)))
    }
    pair.pass(100)
    pair.connect()
    pair.pass(100)
    assert.strictEqual(pair.server.sessions, 8)
    const closed = pair.all("client", "Closed")
    assert.deepStrictEqual(
      closed.map(({ session, reason }) => [session, reason.by === "peer" ? reason.code : reason.by]),
      [[silent?.client, CloseCode.Replaced as number | string]]
    )
    assert.deepStrictEqual(
      pair.all("server", "Closed").map(({ session }) => session),
      [silent?.server]
    )
    assertNothingLeft(pair)
  })

  it("does not replace a quiet session by sessions that are over", () => {
    const pair = new Pair({ fate: steady(200) })
    const quiet = pair.connect()
    pair.pass(3000)
    for (let i = 0; i < 10; i++) {
      const { client } = pair.connect()
      pair.client.close(pair.now, client, CloseCode.None, "")
      pair.drain()
      pair.pass(700)
    }
    assert.strictEqual(pair.session("client", quiet.client).state, "open")
    assert.strictEqual(pair.session("server", quiet.server).state, "open")
    assertNothingLeft(pair)
  })

  it("does not replace a quiet session by half-open ones", () => {
    const pair = new Pair()
    const quiet = pair.connect()
    pair.pass(3000)
    pair.fate = (from) => (from === "server" ? [] : [10])
    pair.dial({ timeoutMs: 5000 })
    pair.dial({ timeoutMs: 5000 })
    pair.dial({ timeoutMs: 5000 })
    pair.pass(5000)
    assert.strictEqual(pair.server.sessions, 1 + Constants.MAX_SESSIONS_PER_CREDENTIAL)
    assert.strictEqual(pair.session("server", quiet.server).state, "open")
  })

  it("keeps the cap of a device when its initiations are decided together", () => {
    const pair = new Pair({ fate: steady(1) })
    for (let i = 0; i < 7; i++) {
      pair.connect()
      pair.pass(1500)
    }
    pair.auto = false
    const before = {
      initiations: pair.all("server", "Initiation").length,
      answers: pair.all("client", "Answered").length
    }
    for (let i = 0; i < 5; i++) pair.dial()
    pair.pass(1)
    const waiting = pair.all("server", "Initiation").slice(before.initiations)
    for (const { initiation } of waiting) pair.server.admit(pair.now, initiation, undefined)
    pair.drain()
    pair.pass(1)
    const answers = pair.all("client", "Answered").slice(before.answers)
    assert.strictEqual(answers.length, 5)
    for (const { session } of answers) pair.client.confirm(pair.now, session)
    pair.drain()
    pair.pass(50)
    assert.strictEqual(pair.all("server", "Connected").length, 12)
    assert.strictEqual(pair.server.sessions, Constants.MAX_SESSIONS_PER_CREDENTIAL)
    assert.strictEqual(pair.all("server", "Closed").length, 4)
    assert.strictEqual(pair.all("client", "Closed").length, 4)
    assertNothingLeft(pair)
  })

  it("spends 32 handshakes at once on a credential and four a second afterwards", () => {
    const pair = new Pair()
    const forger = new Forger(pair)
    const flood = (count: number) => {
      const before = pair.all("server", "Initiation").length
      for (let i = 0; i < count; i++) pair.inject("server", CLIENT, forger.initiation())
      return pair.all("server", "Initiation").length - before
    }
    assert.strictEqual(flood(40), 32)
    assert.strictEqual(pair.server.drops.overBudget, 8)
    pair.pass(249)
    assert.strictEqual(flood(1), 0)
    pair.pass(1)
    assert.strictEqual(flood(2), 1)
    pair.pass(3000)
    assert.strictEqual(flood(15), 12)
  })
})

/** Devices of one server, each an endpoint of its own, on a link without delay. */
class Crowd {
  now = 0
  readonly server: Endpoint
  readonly devices: ReadonlyArray<{ readonly endpoint: Endpoint; readonly address: Address; readonly dial: () => void }>
  readonly events: Array<EndpointEvent> = []
  /** How sessions of devices ended. */
  readonly closed: Array<CloseReason> = []
  connected = 0
  /** Clients confirm, so that sessions become more than half-open. */
  confirms = true
  readonly #byAddress = new Map<string, Endpoint>()

  constructor(count: number, options: { readonly maxSessions: number; readonly hosts: number }) {
    const entropy = seeded("crowd")
    const identity = primitives.keyPair(entropy(32))
    const common = {
      primitives,
      limits: LIMITS,
      congestion: NewReno.make,
      keepAliveMs: 15_000,
      deadAfterMs: 15_000,
      maxSessions: options.maxSessions,
      entropy
    }
    this.server = new Endpoint(0, WALL, { ...common, identity })
    const devices = Array.from({ length: count }, (_, i) => {
      const keys = primitives.keyPair(entropy(32))
      const id = entropy(16)
      const psk = entropy(32)
      const endpoint = new Endpoint(0, WALL, { ...common, identity: keys })
      const address = { host: `192.0.2.${i % options.hosts}`, port: 10_000 + i }
      const hints = new HintCounter(undefined)
      const invitation = { id, psk, slot: undefined, serverKey: identity.publicKey, endpoints: [SERVER] }
      const dial = () => {
        const rest = { deviceName: "", features: 0, limits: LIMITS, timeoutMs: 5000, skewMs: 0 }
        endpoint.dial(this.now, { invitations: [invitation], hints: [hints], identity: keys, ...rest })
      }
      this.#byAddress.set(`${address.port}`, endpoint)
      const admission = { id, psk, slot: undefined, staticKey: keys.publicKey, validUntil: Number.POSITIVE_INFINITY }
      return { endpoint, address, dial, admission }
    })
    this.devices = devices
    this.server.setAdmissions(
      0,
      devices.map(({ admission }) => admission)
    )
  }

  /** Delivers until all are quiet at this moment. */
  settle(): void {
    for (let busy = true; busy; ) {
      busy = false
      for (const { endpoint, address } of this.devices) {
        for (let t = endpoint.pollTransmit(this.now); t !== undefined; t = endpoint.pollTransmit(this.now)) {
          this.server.handleDatagram(this.now, address, Uint8Array.from(t.bytes))
          busy = true
        }
        for (let e = endpoint.pollEvent(); e !== undefined; e = endpoint.pollEvent()) {
          if (e.type === "Closed") this.closed.push(e.reason)
          if (e.type !== "Answered" || !this.confirms) continue
          endpoint.confirm(this.now, e.session)
          busy = true
        }
      }
      for (let t = this.server.pollTransmit(this.now); t !== undefined; t = this.server.pollTransmit(this.now)) {
        this.#byAddress.get(`${t.remote.port}`)?.handleDatagram(this.now, SERVER, Uint8Array.from(t.bytes))
        busy = true
      }
      for (let e = this.server.pollEvent(); e !== undefined; e = this.server.pollEvent()) {
        this.events.push(e)
        if (e.type === "Initiation") {
          this.server.admit(this.now, e.initiation, undefined)
          busy = true
        } else if (e.type === "Connected") this.connected++
      }
    }
  }
}

describe("Endpoint: crowds", () => {
  it("holds at most 64 half-open sessions", () => {
    const crowd = new Crowd(70, { maxSessions: 1000, hosts: 70 })
    crowd.confirms = false
    for (const device of crowd.devices) device.dial()
    crowd.settle()
    assert.strictEqual(crowd.server.sessions, Constants.MAX_HALF_OPEN)
    assert.strictEqual(crowd.events.filter(({ type }) => type === "Full").length, 6)
    crowd.now = Constants.HALF_OPEN_MS
    crowd.server.handleTimeout(crowd.now)
    crowd.settle()
    assert.strictEqual(crowd.server.held, 0)
  })

  it("holds at most 64 sessions of one host, and others come in", () => {
    const crowd = new Crowd(66, { maxSessions: 1000, hosts: 1 })
    for (const device of crowd.devices) {
      device.dial()
      crowd.settle()
      crowd.now += 50
    }
    assert.strictEqual(crowd.connected, Constants.MAX_SESSIONS_PER_HOST)
    assert.strictEqual(crowd.server.drops.full, 2)
  })

  it("holds at most maxSessions, and tells the others", () => {
    const crowd = new Crowd(12, { maxSessions: 10, hosts: 12 })
    for (const device of crowd.devices) {
      device.dial()
      crowd.settle()
    }
    assert.strictEqual(crowd.connected, 10)
    assert.strictEqual(crowd.server.drops.full, 2)
    assert.deepStrictEqual(
      crowd.closed.map((reason) => (reason.by === "peer" ? reason.code : reason)),
      [CloseCode.Busy, CloseCode.Busy]
    )
    // What is left of them goes by itself.
    crowd.now += Constants.MAX_CLOSING_MS
    crowd.server.handleTimeout(crowd.now)
    crowd.settle()
    assert.strictEqual(crowd.server.sessions, 10)
  })

  it("counts nobody who has said goodbye", () => {
    const crowd = new Crowd(80, { maxSessions: 4, hosts: 1 })
    for (const device of crowd.devices) {
      device.dial()
      crowd.settle()
      device.endpoint.closeAll(crowd.now, 0, "")
      crowd.settle()
      crowd.now += 10
    }
    assert.strictEqual(crowd.connected, 80)
    assert.strictEqual(crowd.server.drops.full, 0)
  })

  it("lets an honest device in while another's credential floods", () => {
    const crowd = new Crowd(2, { maxSessions: 100, hosts: 2 })
    const [flooder, honest] = crowd.devices
    crowd.confirms = false
    for (let i = 0; i < 200; i++) {
      crowd.now += 10
      flooder?.dial()
      crowd.settle()
    }
    assert.strictEqual(crowd.server.drops.overBudget > 100, true)
    crowd.confirms = true
    honest?.dial()
    crowd.settle()
    assert.strictEqual(crowd.connected, 1)
  })
})

describe("Endpoint: wrong clocks", () => {
  const minutes = (n: number) => n * 60_000
  const hours = (n: number) => n * 3_600_000
  /** How far the two ends' idea of the time may differ for a hint to be expected, whatever the phase of the slot. */
  const near = 2 * Constants.HINT_SLOT_MS

  for (const off of [hours(3), hours(26), minutes(15), minutes(7), hours(-3), hours(-26), minutes(-15), minutes(-7)]) {
    for (const phaseMs of [0, minutes(2), minutes(4) + 59_000]) {
      it(`connects a device whose clock is ${off / 60_000} min off, ${phaseMs / 1000} s into a slot`, () => {
        const pair = new Pair({ skewMs: off, phaseMs })
        pair.connect()
        assert.isAtMost(pair.now, 20_000)
        const skewMs = pair.event("client", "Answered")?.skewMs ?? Number.NaN
        assert.isBelow(Math.abs(off + skewMs), near)
        if (off % hours(1) === 0) assert.strictEqual(skewMs, off === 0 ? 0 : -off)
        assert.strictEqual(pair.event("server", "Initiation")?.wallMs, WALL + phaseMs + off + sentAt(pair))
        // What worked is tried first the next time.
        const again = pair.now
        pair.connect({ skewMs })
        assert.strictEqual(pair.now, again + 40)
        assertNothingLeft(pair)
      })
    }
  }

  /** When the initiation left that the server let in first. */
  const sentAt = (pair: Pair): number => {
    const answer = pair.sentBy("server")[0]
    return (answer?.at ?? Number.NaN) - 10
  }

  it("does not sweep with a file, whose hints stand still", () => {
    const pair = new Pair({ enrols: true, fate: () => [] })
    pair.dial({ timeoutMs: 20_000 })
    pair.pass(20_000)
    assert.strictEqual(pair.wire.length, pair.event("client", "DialFailed")?.rounds)
  })

  it("sweeps twenty offsets a second, each twice", () => {
    const pair = new Pair({ fate: () => [] })
    pair.dial({ timeoutMs: 20_000 })
    pair.pass(20_000)
    // From 1,750 ms on; the second time is not over yet.
    const swept = (20_000 - 1750) / 50
    assert.strictEqual(pair.wire.length, (pair.event("client", "DialFailed")?.rounds ?? 0) + swept)
    assert.strictEqual(new Set(pair.wire.map(({ bytes }) => hex(bytes.subarray(0, 8)))).size, pair.wire.length)
  })
})

describe("Endpoint: determinism", () => {
  it("puts the same bytes on the wire for the same seed", () => {
    const run = (seed: string) => {
      const pair = new Pair({ seed, fate: weather(seed, { loss: 0.1, jitter: 30, duplicate: 0.05, corrupt: 0.05 }) })
      const { client } = pair.connect()
      const id = pair.command("client", client, (session) => {
        const id = session.openStream(1) ?? 0
        session.write(id, seeded(seed)(100_000))
        session.finish(id)
        return id
      })
      pair.pass(20_000)
      assert.strictEqual(id, 0)
      return primitives.hash(...pair.wire.map(({ bytes }) => bytes))
    }
    assert.deepStrictEqual(run("same"), run("same"))
    assert.notDeepEqual(run("same"), run("other"))
  })
})
