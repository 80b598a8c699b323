/** Key rotation between two endpoints: whatever becomes of its datagrams, what the application sends arrives, once. */
import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { CloseCode } from "../../src/domain/protocol/CloseCode.ts"
import { Writer } from "../../src/domain/protocol/Cursor.ts"
import type { Handle } from "../../src/domain/protocol/EndpointTypes.ts"
import * as Frame from "../../src/domain/protocol/Frame.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import type { DirectionSecrets } from "../../src/domain/protocol/PacketWriter.ts"
import type { PacketKey, Primitives } from "../../src/domain/protocol/Primitives.ts"
import { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent, SessionOptions } from "../../src/domain/protocol/SessionTypes.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import { bind, Late, primitivesWith } from "../../src/layers/CryptoOpenSsl.ts"
import * as Koffi from "../../src/layers/Koffi.ts"
import * as Packets from "./Packets.ts"
import {
  CLIENT,
  type Copy,
  LIMITS,
  Pair,
  type PairOptions,
  SERVER,
  type Side,
  Sink,
  seeded,
  steady,
  weather
} from "./Pair.ts"

const SIDES: ReadonlyArray<Side> = ["client", "server"]
/** One way on a steady link, ms; and a time after which everything of a rotation is over. */
const DELAY = 10
const SETTLED = 10_000

const bytesOf = (seed: string, length: number): Uint8Array => seeded(seed)(length)

class Ends {
  readonly pair: Pair
  readonly sink = new Sink()
  readonly client: Handle
  readonly server: Handle
  readonly epochs: Record<Side, Array<number>> = { client: [], server: [] }
  readonly rotatedAt: Array<number> = []

  constructor(options: PairOptions = {}) {
    this.pair = new Pair({ rekeyIntervalMs: Number.POSITIVE_INFINITY, ...options })
    const queues = new Map<string, { readonly data: Uint8Array; at: number }>()
    this.#queues = queues
    this.pair.onSession = (side, session, event) => {
      this.sink.on(side, session, event)
      if (event.type === "Rekeyed") {
        this.epochs[side].push(event.epoch)
        if (side === "client") this.rotatedAt.push(this.pair.now)
      }
      if (event.type === "StreamWritable") this.#pump(side, session, event.id)
    }
    const { client, server } = this.pair.connect()
    this.client = client
    this.server = server
  }

  readonly #queues: Map<string, { readonly data: Uint8Array; at: number }>

  session(side: Side): Session {
    return this.pair.session(side, this[side])
  }

  /** The first of each rotation asked for by these. */
  rekey(...sides: ReadonlyArray<Side>): void {
    for (const side of sides) this.session(side).rekey()
    for (const side of sides) this.pair[side].touch(this[side])
    this.pair.drain()
  }

  /** Sends bytes on a stream of their own, as fast as they are taken. */
  send(side: Side, data: Uint8Array): number {
    const id = this.pair.command(side, this[side], (session) => {
      const id = session.openStream(1)
      if (id === undefined) throw new Error("no stream")
      this.#queues.set(`${side} ${id}`, { data, at: 0 })
      this.#pump(side, session, id)
      return id
    })
    return id
  }

  #pump(side: Side, session: Session, id: number): void {
    const queue = this.#queues.get(`${side} ${id}`)
    if (queue === undefined) return
    while (queue.at < queue.data.length && !session.isFull(id)) {
      const end = Math.min(queue.data.length, queue.at + 16_384)
      if (!session.write(id, queue.data.subarray(queue.at, end))) return
      queue.at = end
    }
    if (queue.at === queue.data.length) {
      session.finish(id)
      this.#queues.delete(`${side} ${id}`)
    }
  }

  unopened(): ReadonlyArray<number> {
    return SIDES.map((side) => this.session(side).unopened)
  }

  /** A word each way arrives. */
  talk(word: string): void {
    const words = SIDES.map((side) => {
      const data = bytesOf(`${word} ${side}`, 300)
      return { to: side === "client" ? ("server" as const) : ("client" as const), id: this.send(side, data), data }
    })
    assert.isTrue(
      this.pair.run(() => words.every(({ to, id }) => this.sink.ended(to, id))),
      word
    )
    for (const { to, id, data } of words) assert.deepStrictEqual(this.sink.bytes(to, id), data)
  }

  /** Both ends seal in this epoch, each told its owner of every one, and both still talk. */
  assertAt(epoch: number, word = ""): void {
    for (const side of SIDES) {
      assert.strictEqual(this.session(side).state, "open", word)
      assert.strictEqual(this.session(side).stats().epoch, epoch, `${side} ${word}`)
      assert.deepStrictEqual(
        this.epochs[side],
        Array.from({ length: epoch }, (_, i) => i + 1),
        word
      )
    }
    this.talk(`at ${epoch}`)
  }
}

/** Two ends that rotate once while they talk, and what the link does to the datagrams counted from the first of it. */
const rotating = (
  fate: (index: number, from: Side, bytes: Uint8Array) => ReadonlyArray<Copy>,
  askers: ReadonlyArray<Side> = ["client"],
  busy = true
): Ends => {
  const ends = new Ends()
  const { pair } = ends
  ends.talk("before")
  pair.pass(1000)
  let index = 0
  pair.fate = (from, bytes) => fate(index++, from, bytes)
  ends.rekey(...askers)
  const data = bytesOf("during", 20_000)
  const sent = busy ? SIDES.map((side) => [side, ends.send(side, data)] as const) : []
  pair.pass(SETTLED)
  for (const [side, id] of sent) {
    const to = side === "client" ? "server" : "client"
    assert.isTrue(ends.sink.ended(to, id))
    assert.deepStrictEqual(ends.sink.bytes(to, id), data)
  }
  pair.fate = steady(DELAY)
  return ends
}

describe("Key rotation", () => {
  it("takes two round trips and six datagrams at most on an idle line", () => {
    for (const asker of SIDES) {
      const ends = new Ends()
      ends.pair.pass(1000)
      const from = ends.pair.now
      const before = ends.pair.wire.length
      ends.rekey(asker)
      assert.isTrue(ends.pair.run(() => SIDES.every((side) => ends.epochs[side].length === 1)))
      assert.isAtMost(ends.pair.now - from, 4 * DELAY)
      ends.pair.pass(1000)
      // REKEY, REKEY_ACK, PING, and what acknowledges them.
      assert.isAtMost(ends.pair.wire.length - before, 6)
      assert.deepStrictEqual(ends.unopened(), [0, 0])
      ends.assertAt(1)
    }
  })

  it("under bulk in both directions: not a byte lost, on a steady line and on one that loses and reorders", () => {
    for (const [name, fate, most] of [
      ["steady", steady(DELAY), 0],
      ["bad", weather("rotation", { delay: 10, jitter: 15, loss: 0.03, duplicate: 0.02, corrupt: 0.01 }), 0.02]
    ] as const) {
      const ends = new Ends({ fate, rekeyIntervalMs: 500 })
      const data = bytesOf(name, 1_500_000)
      const sent = SIDES.map((side) => [side === "client" ? "server" : "client", ends.send(side, data)] as const)
      assert.isTrue(
        ends.pair.run(() => sent.every(([to, id]) => ends.sink.ended(to, id)), 120_000),
        name
      )
      for (const [to, id] of sent) assert.isTrue(Buffer.compare(ends.sink.bytes(to, id), data) === 0)
      assert.isTrue(ends.pair.run(() => ends.epochs.client.length >= 10 && ends.epochs.server.length >= 10, 60_000))
      // Only what the link damaged does not open.
      for (const side of SIDES) {
        const { unopened, receivedPackets } = ends.session(side).stats()
        assert.isAtMost(unopened, most * receivedPackets)
      }
      for (const side of SIDES) {
        assert.deepStrictEqual(
          ends.epochs[side],
          ends.epochs[side].map((_, i) => i + 1)
        )
      }
    }
  })

  it("each datagram of it may be lost, first to twentieth: nothing changes", () => {
    for (const askers of [["client"], ["server"], ["client", "server"]] as const) {
      for (const busy of [true, false]) {
        for (let lost = 0; lost < 20; lost++) {
          const ends = rotating((index) => (index === lost ? [] : [DELAY]), askers, busy)
          ends.assertAt(1, `${askers.join()} ${busy} without ${lost}`)
          assert.deepStrictEqual(ends.unopened(), [0, 0])
        }
      }
    }
  })

  it("and any two of them, and the first ten all at once", () => {
    for (let a = 0; a < 8; a++) {
      for (let b = a + 1; b < 9; b++) {
        rotating((index) => (index === a || index === b ? [] : [DELAY]), ["client"], false).assertAt(1, `${a} ${b}`)
      }
    }
    for (const askers of [["client"], ["server"], ["client", "server"]] as const) {
      rotating((index) => (index < 10 ? [] : [DELAY]), askers, false).assertAt(1, askers.join())
    }
  })

  it("each may come twice, late, or after those that follow", () => {
    for (const askers of [["client"], ["server", "client"]] as const) {
      for (let one = 0; one < 20; one++) {
        for (const copies of [[DELAY, DELAY], [DELAY, 75], [DELAY, 3000], [45], [150], [1500]]) {
          const ends = rotating((index) => (index === one ? copies : [DELAY]), askers)
          ends.assertAt(1, `${one} ${copies.join()}`)
        }
      }
    }
  })

  it("all of it replayed later, from anywhere: nothing changes, and nothing is answered", () => {
    const ends = rotating(() => [DELAY])
    const { pair } = ends
    const recorded = pair.wire.map(
      ({ from, bytes }) => ({ to: from === "client" ? "server" : "client", bytes }) as const
    )
    const again = (): void => {
      const [length, epochs] = [pair.wire.length, SIDES.map((side) => ends.session(side).stats().epoch)]
      for (const { to, bytes } of recorded) {
        for (const remote of [to === "server" ? CLIENT : SERVER, { host: "203.0.113.9", port: 9 }]) {
          pair.inject(to, remote, bytes)
        }
      }
      assert.strictEqual(pair.wire.length, length)
      assert.deepStrictEqual(
        SIDES.map((side) => ends.session(side).stats().epoch),
        epochs
      )
    }
    again()
    ends.assertAt(1)
    ends.rekey("server")
    pair.pass(SETTLED)
    again()
    ends.assertAt(2)
  })

  it("crossed, however the two questions pass each other: one rotation, and the line goes on", () => {
    for (const [client, server] of [
      [DELAY, DELAY],
      [1, 40],
      [40, 1],
      [DELAY, 500],
      [500, DELAY]
    ] as const) {
      for (let lost = -1; lost < 6; lost++) {
        const ends = rotating(
          (index, from) => (index === lost ? [] : [from === "client" ? client : server]),
          ["server", "client"]
        )
        ends.assertAt(1, `${client} ${server} ${lost}`)
      }
    }
    // A storm of wishes makes rotations, one after the other.
    const ends = new Ends()
    for (let i = 0; i < 200; i++) {
      ends.rekey(i % 3 === 0 ? "client" : "server")
      if (i % 2 === 0) ends.rekey("client")
      ends.pair.pass(7)
    }
    ends.pair.pass(SETTLED)
    const epoch = ends.session("client").stats().epoch
    assert.isAbove(epoch, 3)
    // Each waits for the grace of the one before: three probe timeouts.
    assert.isAtMost(epoch, 1400 / 75)
    assert.deepStrictEqual(ends.unopened(), [0, 0])
    ends.assertAt(epoch)
  })

  it("hourly: a day has some twenty-four, each within a tenth of the hour or so", () => {
    const ends = new Ends({ rekeyIntervalMs: 3_600_000 })
    ends.pair.pass(24 * 3_600_000)
    const count = ends.rotatedAt.length
    // The first of two ends that draw for themselves begins.
    assert.isAtLeast(count, 23)
    assert.isAtMost(count, 26)
    let last = 0
    for (const at of ends.rotatedAt) {
      assert.isAtLeast(at - last, 0.9 * 3_600_000 - 1000)
      assert.isAtMost(at - last, 1.1 * 3_600_000 + 1000)
      last = at
    }
    assert.isAbove(
      new Set(ends.rotatedAt.map((at, i) => Math.round((at - (ends.rotatedAt[i - 1] ?? 0)) / 1000))).size,
      5
    )
    ends.assertAt(count)
  })

  it("after roaming to another host, not to another port; never while a path is being validated", () => {
    const ends = new Ends()
    const { pair } = ends
    ends.talk("here")
    pair.clientAddress = { ...CLIENT, port: 41_000 }
    ends.talk("another port")
    pair.pass(2000)
    assert.deepStrictEqual(ends.epochs.client, [])
    pair.clientAddress = { host: "203.0.113.7", port: 41_000 }
    ends.talk("another host")
    pair.pass(2000)
    ends.assertAt(1)

    // A challenge that nobody answers holds the wish back until it is given up.
    const held = new Ends()
    held.talk("before")
    held.pair.pass(500)
    held.pair.clientAddress = { host: "203.0.113.8", port: 1 }
    held.pair.fate = (from) => (from === "server" ? [] : [DELAY])
    held.pair.command("client", held.client, (session) => session.sendDatagram(new Uint8Array(8)))
    held.pair.pass(2 * DELAY)
    held.pair.fate = steady(DELAY)
    held.pair.clientAddress = CLIENT
    held.rekey("server")
    held.pair.pass(10 * DELAY)
    assert.deepStrictEqual(held.epochs.server, [])
    held.pair.pass(SETTLED)
    held.assertAt(1)
  })

  it("waits for the peer's first packet, and is over with the session", () => {
    const pair = new Pair({ rekeyIntervalMs: Number.POSITIVE_INFINITY })
    pair.auto = false
    pair.dial()
    pair.pass(50)
    const [initiation] = pair.all("server", "Initiation")
    assert.isDefined(initiation)
    pair.server.admit(pair.now, initiation?.initiation ?? -1, undefined)
    pair.pass(50)
    const answered = pair.event("client", "Answered")?.session ?? -1
    pair.command("client", answered, (session) => session.rekey())
    const before = pair.wire.length
    pair.client.confirm(pair.now, answered)
    pair.drain()
    // A PING and three connection ids, and no question, which would make it 112 bytes.
    assert.deepStrictEqual(
      pair.wire.slice(before).map(({ bytes }) => bytes.length),
      [80]
    )
    pair.pass(500)
    assert.deepStrictEqual(
      pair.all("server", "Session").flatMap(({ event }) => (event.type === "Rekeyed" ? [event.epoch] : [])),
      [1]
    )
    for (const side of SIDES) {
      const ends = new Ends()
      ends.rekey(side)
      ends.pair.command("client", ends.client, (session) => session.close(ends.pair.now, 0, "bye"))
      ends.pair.pass(SETTLED)
      assert.strictEqual(ends.pair.client.sessions + ends.pair.server.sessions, 0)
    }
  })

  it("costs a server little when a peer rotates as fast as it can", () => {
    let exchanges = 0
    const counting: Primitives = {
      ...primitives,
      dh: (privateKey, publicKey) => {
        exchanges++
        return primitives.dh(privateKey, publicKey)
      }
    }
    const ends = new Ends({ primitives: counting, fate: steady(0) })
    exchanges = 0
    for (let i = 0; i < 1000; i++) {
      ends.rekey("client")
      ends.pair.pass(1)
    }
    // Two for each rotation, and the grace of three probe timeouts between.
    assert.isAtMost(exchanges, 2 * (1000 / 75 + 1))
    assert.isAtLeast(exchanges, 10)
  })
})

describe("Key rotation: keys", () => {
  it("no nonce comes twice under a key, over twelve rotations with losses; epoch bits wrap", () => {
    const used = new Set<string>()
    const keys = new Map<string, number>()
    let wiped = 0
    const tapped: Primitives = {
      ...primitives,
      packetKey: (key) => {
        const inner = primitives.packetKey(key)
        const name = Buffer.from(key).toString("hex")
        return {
          seal: (nonce, buffer, start, end) => {
            const both = `${name} ${Buffer.from(nonce).toString("hex")}`
            assert.isFalse(used.has(both))
            used.add(both)
            keys.set(name, (keys.get(name) ?? 0) + 1)
            inner.seal(nonce, buffer, start, end)
          },
          open: inner.open,
          wipe: () => {
            wiped++
            inner.wipe()
          }
        }
      }
    }
    const ends = new Ends({ primitives: tapped, fate: weather("nonces", { delay: 10, jitter: 20, loss: 0.05 }) })
    for (let i = 0; i < 12; i++) {
      ends.rekey(i % 2 === 0 ? "client" : "server")
      const data = bytesOf(`nonces ${i}`, 60_000)
      const sent = SIDES.map((side) => [side === "client" ? "server" : "client", ends.send(side, data)] as const)
      assert.isTrue(ends.pair.run(() => sent.every(([to, id]) => ends.sink.ended(to, id))))
      for (const [to, id] of sent) assert.deepStrictEqual(ends.sink.bytes(to, id), data)
      ends.pair.pass(3000)
    }
    ends.pair.fate = steady(DELAY)
    ends.assertAt(12)
    // Two directions in 13 epochs, all of them used; each key lies at both ends, and only the last ones are left.
    assert.strictEqual(keys.size, 2 * 13)
    assert.isAbove(used.size, 12 * 100)
    ends.pair.pass(SETTLED)
    assert.strictEqual(wiped, 4 * 12)
  })

  it("a packet of the last epoch opens within the grace and never after it, nor four epochs on", () => {
    const ends = new Ends()
    const { pair } = ends
    pair.pass(1000)
    const hold = (): Uint8Array => {
      let held: Uint8Array | undefined
      pair.fate = (from, bytes) => {
        if (from !== "client" || held !== undefined) return [DELAY]
        held = bytes.slice()
        return []
      }
      pair.command("client", ends.client, (session) => session.sendDatagram(Uint8Array.of(1, 2, 3)))
      assert.isDefined(held)
      return held ?? new Uint8Array(0)
    }
    const [one, two, three] = [hold(), hold(), hold()]
    const rotated = (): void => {
      const count = ends.epochs.server.length + 1
      pair.fate = steady(DELAY)
      ends.rekey("client")
      assert.isTrue(pair.run(() => ends.epochs.server.length === count && ends.epochs.client.length === count))
    }
    rotated()
    const words = () =>
      pair.all("server", "Session").flatMap(({ event }) => (event.type === "Datagram" ? [[...event.data]] : []))
    assert.deepStrictEqual(words(), [])
    pair.inject("server", CLIENT, one)
    assert.deepStrictEqual(words(), [[1, 2, 3]])
    pair.pass(2000)
    const unopened = ends.session("server").unopened
    pair.inject("server", CLIENT, two)
    assert.strictEqual(ends.session("server").unopened, unopened + 1)
    for (let i = 0; i < 3; i++) {
      rotated()
      pair.pass(2000)
    }
    assert.strictEqual(ends.session("server").stats().epoch, 4)
    // The same 2 bits as now.
    pair.inject("server", CLIENT, three)
    assert.strictEqual(ends.session("server").unopened, unopened + 2)
    assert.deepStrictEqual(words(), [[1, 2, 3]])
    ends.assertAt(4)
  })

  it("OpenSSL's keys are made and freed in the middle of a session, before and after they are bound", () => {
    const ssl = bind(Koffi.load())
    if (ssl === undefined) {
      assert.isUndefined(ssl, "no koffi on this host: nothing to show")
      return
    }
    const late = new Late(() => ssl, 40)
    const ends = new Ends({ primitives: primitivesWith(primitives, late) })
    ends.rekey("client")
    ends.pair.pass(2000)
    assert.isUndefined(late.decision)
    for (let i = 0; i < 6; i++) {
      ends.rekey(i % 2 === 0 ? "server" : "client")
      ends.talk(`ssl ${i}`)
      ends.pair.pass(2000)
    }
    assert.strictEqual(late.decision, ssl)
    ends.assertAt(7)
    ends.pair.pass(SETTLED)
    // Two packet keys and two masks at either end.
    assert.strictEqual(ssl.live, 8)
    ends.pair.command("client", ends.client, (session) => session.close(ends.pair.now, 0, ""))
    ends.pair.pass(SETTLED)
    assert.strictEqual(ssl.live, 0)
  })
})

// -- one session, and whoever holds its keys and keeps to no rule ------------------------------------------------------

const secrets = (
  fill: number,
  key: PacketKey = primitives.packetKey(new Uint8Array(32).fill(fill + 1))
): DirectionSecrets => ({
  header: primitives.maskKey(new Uint8Array(32).fill(fill)),
  keys: { packet: key, iv: new Uint8Array(12).fill(fill + 2) }
})

const optionsOf = (role: Side): SessionOptions => ({
  role,
  localId: new Uint8Array(8).fill(role === "server" ? 1 : 2),
  remoteId: new Uint8Array(8).fill(role === "server" ? 2 : 1),
  remote: role === "server" ? CLIENT : SERVER,
  send: secrets(role === "server" ? 10 : 20),
  receive: secrets(role === "server" ? 20 : 10),
  chainingKey: new Uint8Array(32).fill(9),
  primitives,
  limits: LIMITS,
  peerLimits: LIMITS,
  entropy: seeded(role),
  congestion: NewReno.make,
  keepAliveMs: 15_000,
  deadAfterMs: 15_000
})

/** Two sessions; what they send takes a tick of 10 ms, and in each the client sends a datagram. Packets sealed at each rotation. */
const chatting = (options: Partial<SessionOptions>, ticks: number): ReadonlyArray<number> => {
  const ends = SIDES.map((side) => new Session(0, { ...optionsOf(side), ...options }))
  let flying: ReadonlyArray<ReadonlyArray<Uint8Array>> = [[], []]
  const sealed: Array<number> = []
  for (const end of ends) end.unmute(0)
  for (let now = 0; now < 10 * ticks; now += 10) {
    ends[0]?.sendDatagram(new Uint8Array(100))
    ends.forEach((end, i) => {
      for (const bytes of flying[1 - i] ?? [])
        assert.strictEqual(end.handleDatagram(now, end.remote, bytes), "accepted")
      if (end.pollTimeout() <= now) end.handleTimeout(now)
    })
    flying = ends.map((end) => {
      const sent: Array<Uint8Array> = []
      for (let t = end.pollTransmit(now); t !== undefined; t = end.pollTransmit(now)) sent.push(t.bytes)
      for (let e = end.pollEvent(); e !== undefined; e = end.pollEvent()) {
        if (e.type === "Rekeyed" && end === ends[0]) sealed.push(end.stats().sentPackets)
      }
      return sent
    })
  }
  return sealed
}

class Lone {
  readonly session: Session
  readonly events: Array<SessionEvent> = []
  readonly #sealer = new Packets.Sealer(secrets(20).header)
  #next = 0

  constructor(options: Partial<SessionOptions> = {}) {
    this.session = new Session(0, { ...optionsOf("server"), entropy: seeded("lone"), ...options })
    this.session.unmute(0)
  }

  give(frame: Frame.Frame, epoch = 0, number = this.#next, remote: Address = CLIENT): string {
    this.#next = number + 1
    const plaintext = new Uint8Array(48)
    Frame.encode(new Writer(plaintext), frame)
    const bytes = this.#sealer.seal(secrets(20).keys, epoch, new Uint8Array(8).fill(1), number, plaintext)
    const outcome = this.session.handleDatagram(0, remote, bytes)
    this.drain()
    return outcome
  }

  drain(): void {
    while (this.session.pollTransmit(0) !== undefined);
    for (let e = this.session.pollEvent(); e !== undefined; e = this.session.pollEvent()) this.events.push(e)
  }

  closed(): number | undefined {
    const closed = this.events.find((event) => event.type === "Closed")
    return closed?.type === "Closed" && closed.reason.by === "local" ? closed.reason.code : undefined
  }
}

const point = primitives.keyPair(new Uint8Array(32).fill(4)).publicKey

describe("Key rotation: offences", () => {
  it("end the session: unfit points, epochs out of order, answers nobody asked for, second questions", () => {
    const offences: ReadonlyArray<ReadonlyArray<Frame.Frame>> = [
      [{ type: "Rekey", epoch: 1, key: new Uint8Array(32) }],
      [{ type: "Rekey", epoch: 0, key: point }],
      [{ type: "Rekey", epoch: 2, key: point }],
      [{ type: "Rekey", epoch: 5, key: point }],
      [{ type: "Rekey", epoch: 2 ** 32 - 1, key: point }],
      [{ type: "RekeyAck", epoch: 1, key: point }],
      [
        { type: "Rekey", epoch: 1, key: point },
        { type: "Rekey", epoch: 1, key: primitives.keyPair(new Uint8Array(32).fill(5)).publicKey }
      ]
    ]
    for (const frames of offences) {
      const lone = new Lone()
      for (const frame of frames) lone.give(frame)
      assert.strictEqual(lone.closed(), CloseCode.Protocol, JSON.stringify(frames))
    }
    const lone = new Lone()
    lone.give({ type: "Rekey", epoch: 1, key: point })
    lone.give({ type: "Rekey", epoch: 1, key: point })
    assert.isUndefined(lone.closed())
    assert.strictEqual(lone.session.stats().epoch, 0)
  })

  it("an unfit point in the answer ends the session that asked", () => {
    const lone = new Lone({ role: "client" })
    lone.give({ type: "Ping" })
    lone.session.rekey()
    lone.drain()
    lone.give({ type: "RekeyAck", epoch: 1, key: new Uint8Array(32) })
    assert.strictEqual(lone.closed(), CloseCode.Protocol)
  })

  it("epochs of which there are no keys do not open", () => {
    const lone = new Lone()
    for (const epoch of [1, 2, 3]) assert.strictEqual(lone.give({ type: "Ping" }, epoch), "unopened")
    assert.strictEqual(lone.give({ type: "Ping" }, 4), "accepted")
    assert.strictEqual(lone.session.unopened, 3)
  })

  it("a thief of the last epoch's keys cannot speak once its owner has left it", () => {
    const ours = primitives.keyPair(new Uint8Array(32).fill(6))
    let derived: Uint8Array | undefined
    // It asks, and what it derives from the answer is known here.
    const lone = new Lone({
      role: "client",
      primitives: {
        ...primitives,
        hkdf: (salt, ikm, info, length) => {
          const out = primitives.hkdf(salt, ikm, info, length)
          if (length === 96) derived = out.slice()
          return out
        }
      }
    })
    lone.give({ type: "Ping" })
    lone.session.rekey()
    lone.drain()
    assert.strictEqual(lone.give({ type: "RekeyAck", epoch: 1, key: ours.publicKey }), "accepted")
    assert.strictEqual(lone.session.stats().epoch, 1)
    const serverKey = derived?.slice(64) ?? new Uint8Array(0)
    const aead = primitives.hkdf(new Uint8Array(0), serverKey, new TextEncoder().encode("clawchat/1 aead"), 32)
    const iv = primitives.hkdf(new Uint8Array(0), serverKey, new TextEncoder().encode("clawchat/1 iv"), 12)
    const sealer = new Packets.Sealer(secrets(20).header)
    const plaintext = new Uint8Array(16)
    plaintext[0] = 1
    const id = new Uint8Array(8).fill(1)
    const fresh = sealer.seal({ packet: primitives.packetKey(aead), iv }, 1, id, 100, plaintext)
    assert.strictEqual(lone.session.handleDatagram(0, CLIENT, fresh), "accepted")
    // Below the first packet of epoch 1 the last epoch still opens; above it nothing does, and nothing is lost by it.
    assert.strictEqual(lone.give({ type: "Ping" }, 0, 99), "accepted")
    assert.strictEqual(lone.give({ type: "Ping" }, 0, 101), "unopened")
    const next = sealer.seal({ packet: primitives.packetKey(aead), iv }, 1, id, 101, plaintext)
    assert.strictEqual(lone.session.handleDatagram(0, CLIENT, next), "accepted")
  })

  it("thresholds of packets and of bytes ask for a new key", () => {
    const asks = (options: Partial<SessionOptions>): number => {
      const frames: Array<string> = []
      const lone = new Lone({ role: "client", ...options })
      lone.give({ type: "Ping" })
      let packets = lone.session.stats().sentPackets
      const opener = new Packets.Opener(secrets(10).header)
      for (let i = 0; i < 200 && !frames.includes("Rekey"); i++) {
        lone.session.sendDatagram(new Uint8Array(100))
        for (let t = lone.session.pollTransmit(0); t !== undefined; t = lone.session.pollTransmit(0)) {
          packets++
          const plaintext = opener.open(secrets(10).keys, t.bytes)
          for (const frame of Frame.decode(plaintext ?? new Uint8Array(0)) ?? []) frames.push(frame.type)
        }
        // Everything arrives.
        const end = lone.session.stats().sentPackets - 1
        lone.give({ type: "Ack", ranges: [{ start: 0, end }], delayUs: 0 })
      }
      return frames.includes("Rekey") ? packets : -1
    }
    assert.strictEqual(asks({ rekeyPackets: 50 }), 51)
    assert.strictEqual(asks({ rekeyPackets: 20, rekeyBytes: 1e9 }), 21)
    // 48 bytes of PING and acknowledgement go before, then datagrams of 144.
    const at = asks({ rekeyBytes: 4000 })
    assert.isAtLeast(at, 4000 / 144)
    assert.isAtMost(at, 4000 / 144 + 3)
    assert.strictEqual(asks({}), -1)
  })

  it("thresholds count anew under every key", () => {
    for (const options of [{ rekeyPackets: 40 }, { rekeyBytes: 40 * 160 }]) {
      const sealed = chatting(options, 1000)
      assert.isAtLeast(sealed.length, 15)
      sealed.forEach((count, i) => {
        const packets = count - (sealed[i - 1] ?? 0)
        assert.isAtLeast(packets, 36)
        assert.isAtMost(packets, 60)
      })
    }
    assert.deepStrictEqual(chatting({}, 1000), [])
  })
})
