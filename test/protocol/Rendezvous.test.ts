import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { type Address, format } from "../../src/domain/protocol/Address.ts"
import * as Constants from "../../src/domain/protocol/Constants.ts"
import { hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import { RendezvousBudget } from "../../src/domain/protocol/RendezvousBudget.ts"
import * as Message from "../../src/domain/protocol/RendezvousMessage.ts"
import { MAX_RELAYED_LENGTH } from "../../src/domain/protocol/RendezvousRelay.ts"
import * as Ticket from "../../src/domain/protocol/RendezvousTicket.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"
import * as Junk from "../outside/Junk.ts"
import { RELAY, VIA, WALL, World } from "./RendezvousWorld.ts"

const A: Address = { host: "192.0.2.1", port: 4001 }
const B: Address = { host: "192.0.2.2", port: 4002 }
const C: Address = { host: "192.0.2.3", port: 4003 }
const STRANGER: Address = { host: "192.0.2.66", port: 6666 }
const random = entropySeeded("rendezvous test")
const guestAt = (index: number, end = 1): Address => ({ host: `100.64.${index}.1`, port: end, via: VIA })
/** Of binds. */
const LENGTHS = [1200, 176]
const texts = (got: ReadonlyArray<{ readonly from: Address; readonly bytes: Uint8Array }>) =>
  got.map(({ bytes, from }) => `${format(from)} ${hex(bytes.subarray(0, 4))}`)
const binds = (world: World, from: Address) =>
  world.passed.filter(({ bytes, from: source }) => format(source) === format(from) && LENGTHS.includes(bytes.length))

describe("tickets", () => {
  const relayKey = random(32)
  const mint = (expiry = WALL) => Ticket.mintTicket(primitives, relayKey, random(32), random(16), expiry)

  it("come back from their bytes, and from no others", () => {
    const ticket = mint()
    const bytes = Ticket.encodeTicket(ticket)
    assert.strictEqual(bytes.length, Constants.RENDEZVOUS_TICKET_LENGTH)
    assert.deepStrictEqual(Ticket.decodeTicket(bytes), ticket)
    for (const length of [0, 1, 103, 105]) assert.isUndefined(Ticket.decodeTicket(new Uint8Array(length)))
    assert.isUndefined(Ticket.decodeTicket(new Uint8Array(104).fill(0xff)))
  })

  it("have a key that each of their words changes", () => {
    const ticket = mint()
    const words = [
      ticket,
      { ...ticket, role: "house" as const },
      { ...ticket, house: random(16) },
      { ...ticket, guest: random(16) },
      { ...ticket, expiry: ticket.expiry + 1 }
    ]
    const keys = words.map((each) => hex(Ticket.keyOf(primitives, relayKey, each)))
    assert.strictEqual(keys[0], hex(ticket.key))
    assert.strictEqual(new Set(keys).size, words.length)
    assert.notStrictEqual(hex(Ticket.keyOf(primitives, random(32), ticket)), keys[0])
  })
})

describe("binds and answers", () => {
  const relayKey = random(32)
  const ticket = Ticket.mintTicket(primitives, relayKey, random(32), random(16), WALL)
  const group = new Message.GroupKeys(primitives, ticket.group)
  const bind: Message.Bind = {
    op: "bind",
    role: "guest",
    house: ticket.house,
    guest: ticket.guest,
    expiry: ticket.expiry,
    wall: WALL,
    replyId: random(8),
    instance: random(16),
    cookie: random(16)
  }
  const first = { ...bind, cookie: new Uint8Array(16) }
  const sealed = (what: Message.Bind) => group.sealBind(primitives, random, ticket.key, what)
  const key = Message.answerKey(primitives, ticket.key)
  const answer: Message.Answer = {
    type: "bound",
    wall: WALL,
    cookie: random(16),
    lifeMs: 90_000,
    peer: true,
    observed: { host: "2001:db8::1", port: 65_535 }
  }

  it("come back as they were", () => {
    for (const [i, what] of [first, bind].entries()) {
      const datagram = sealed(what)
      assert.strictEqual(datagram.length, LENGTHS[i])
      assert.isTrue(group.mayBeBind(datagram))
      assert.deepStrictEqual(group.openBind(primitives, relayKey, datagram), { bind: what, ticketKey: ticket.key })
    }
    for (const each of [answer, { ...answer, type: "challenge" as const, peer: false, observed: A }]) {
      const bytes = Message.sealAnswer(key, random, bind.replyId, each)
      assert.strictEqual(bytes.length, Constants.RENDEZVOUS_ANSWER_LENGTH)
      assert.deepStrictEqual(Message.openAnswer(key, bind.replyId, bytes), each)
    }
  })

  it("do not open with any byte changed, cut, or under another key", () => {
    const datagram = sealed(first)
    for (let i = 0; i < datagram.length; i++) {
      const changed = Uint8Array.from(datagram)
      changed[i] = (changed[i] as number) ^ 1
      assert.isFalse(group.mayBeBind(changed) && group.openBind(primitives, relayKey, changed) !== undefined, `${i}`)
    }
    assert.isFalse(group.mayBeBind(datagram.subarray(0, 1184)))
    assert.isUndefined(group.openBind(primitives, relayKey, datagram.subarray(0, 176)))
    assert.isUndefined(group.openBind(primitives, random(32), datagram))
    const bytes = Message.sealAnswer(key, random, bind.replyId, answer)
    for (let i = 0; i < bytes.length; i++) {
      const changed = Uint8Array.from(bytes)
      changed[i] = (changed[i] as number) ^ 1
      assert.isUndefined(Message.openAnswer(key, bind.replyId, changed), `${i}`)
    }
    assert.isUndefined(Message.openAnswer(key, random(8), bytes))
  })

  it("a bind without a cookie that is not padded is none: it would draw more than it deserves", () => {
    const honest = new Message.GroupKeys(primitives, ticket.group)
    const short = honest.sealBind(primitives, random, ticket.key, bind)
    // The same with the cookie taken out again: sealed by hand, for no code of ours does that.
    const key = primitives.aeadKey(
      primitives.hkdf(new Uint8Array(0), ticket.group, utf8("clawchat/1 rendezvous bind"), 32)
    )
    const words = key.open(short.slice(0, 12), short.subarray(0, 16), short.subarray(16)) ?? assert.fail()
    words.fill(0, 74, 90)
    words.set(
      primitives.hmac(ticket.key, utf8("clawchat/1 rendezvous bind"), words.subarray(0, 90)).subarray(0, 16),
      90
    )
    const forged = short.slice()
    key.sealInto(short.slice(0, 12), short.subarray(0, 16), words, forged, 16)
    assert.isTrue(group.mayBeBind(forged))
    assert.isUndefined(group.openBind(primitives, relayKey, forged))
    const long = sealed(first)
    assert.isDefined(group.openBind(primitives, relayKey, long))
  })

  it("a ticket for one credential proves no other, and no house", () => {
    for (const forged of [
      { ...bind, guest: random(16) },
      { ...bind, house: random(16) },
      { ...bind, role: "house" as const },
      { ...bind, expiry: bind.expiry + 1 }
    ]) {
      const datagram = group.sealBind(primitives, random, ticket.key, forged)
      assert.isTrue(group.mayBeBind(datagram))
      assert.isUndefined(group.openBind(primitives, relayKey, datagram))
    }
  })

  it("decoders take any bytes without a word", () => {
    fc.assert(
      fc.property(
        fc.oneof(...LENGTHS.map((length) => fc.uint8Array({ minLength: length, maxLength: length }))),
        fc.uint8Array({ maxLength: 200 }),
        (long, short) => {
          assert.isFalse(group.mayBeBind(long))
          assert.isUndefined(group.openBind(primitives, relayKey, long))
          assert.isUndefined(Message.openAnswer(key, bind.replyId, short))
          Ticket.decodeTicket(short)
        }
      ),
      { seed: 4, numRuns: 300 }
    )
  })

  it("look random: no two share a byte at a place more often than chance has it", () => {
    for (const what of [first, bind]) {
      const datagrams = Array.from({ length: 64 }, () => sealed(what))
      const length = datagrams[0]?.length ?? 0
      let distinct = 0
      for (let i = 0; i < length; i++) distinct += new Set(datagrams.map((each) => each[i])).size
      // 64 draws of 256 values give 56.7 on average.
      assert.closeTo(distinct / length, 56.7, 0.8)
    }
  })
})

describe("a rendezvous", () => {
  it("carries both ways between a server and its devices, told apart, in two round trips from nothing", () => {
    const world = new World()
    const server = world.server()
    world.run(100)
    assert.deepInclude(server.carrier.state, { type: "bound", observed: server.address, peer: true })
    assert.strictEqual(world.relay.servers, 1)
    const a = world.client(A)
    const b = world.client(B, world.ticket(1))
    // Kept until the end is bound.
    assert.isFalse(world.send(a, a.carrier.remote, new Uint8Array(48).fill(0xa1)))
    world.run(120)
    assert.deepInclude(a.carrier.state, { type: "bound", observed: A, peer: true })
    assert.deepStrictEqual(texts(server.got), ["100.64.0.1:1 a1a1a1a1"])
    assert.isTrue(world.send(b, b.carrier.remote, new Uint8Array(1200).fill(0xb1)))
    assert.isTrue(world.send(server, guestAt(0), new Uint8Array(64).fill(0xa2)))
    assert.isTrue(world.send(server, guestAt(1), new Uint8Array(64).fill(0xb2)))
    assert.isFalse(world.send(server, guestAt(9), new Uint8Array(64)))
    assert.isFalse(world.send(server, guestAt(0, 9), new Uint8Array(64)))
    world.run(60)
    assert.deepStrictEqual(texts(server.got), ["100.64.0.1:1 a1a1a1a1", "100.64.1.1:1 b1b1b1b1"])
    assert.strictEqual(server.got[1]?.bytes.length, 1200)
    assert.isTrue(server.got.every(({ from }) => from.via === VIA))
    assert.deepStrictEqual(texts(a.got), [`${format(RELAY)} a2a2a2a2`])
    assert.deepStrictEqual(texts(b.got), [`${format(RELAY)} b2b2b2b2`])
    assert.strictEqual(server.carrier.credentialOf(guestAt(1)), hex(world.credentials[1]))
    assert.strictEqual(world.relay.ends, 2)
    for (const { bytes } of world.passed) assert.strictEqual(bytes.length % 16, 0)
    assert.strictEqual(Math.max(...world.passed.map(({ bytes }) => bytes.length)), MAX_RELAYED_LENGTH)
    assert.isEmpty([...a.foreign, ...b.foreign, ...server.foreign])
  })

  it("several processes of one device are several ends; the ninth takes the place of the most silent", () => {
    const world = new World()
    const server = world.server()
    const clients = Array.from({ length: 9 }, (_, i) => world.client({ host: "192.0.2.1", port: 4100 + i }))
    const [first] = clients
    assert.isDefined(first)
    world.loses = ({ from }) => from.port === 4108 || (from.port === 4100 && world.now > 1000)
    world.run(30_000)
    assert.strictEqual(world.relay.ends, 8)
    world.loses = ({ from }) => from.port === 4100
    world.run(10_000)
    assert.strictEqual(world.relay.ends, 8)
    for (const client of clients.slice(1)) world.send(client, client.carrier.remote, new Uint8Array(48))
    world.run(100)
    const ends = server.got.map(({ from }) => from.port).toSorted()
    assert.deepStrictEqual(ends, [1, 2, 3, 4, 5, 6, 7, 8])
  })

  it("is kept by binding again, which needs no challenge, and forgets who does not", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(3_600_000)
    assert.strictEqual(a.carrier.state.type, "bound")
    assert.strictEqual(server.carrier.state.type, "bound")
    const count = binds(world, A).length
    assert.isAtLeast(count, 180)
    assert.isAtMost(count, 230)
    assert.strictEqual(world.sentTo(A).length, count)
    assert.strictEqual(world.relay.counters.expired + world.relay.counters.forged + world.relay.counters.stale, 0)
    // Three days later, by the clock, a server's own ticket is not what it was.
    const wall = world.wall + 3 * 86_400_000
    world.relay.setWall(world.now, wall)
    for (const { carrier } of [a, server]) carrier.setWall(world.now, wall)
    world.run(100_000)
    assert.strictEqual(a.carrier.state.type, "bound")
    assert.strictEqual(server.carrier.state.type, "bound")

    world.loses = () => true
    world.run(Constants.RENDEZVOUS_LIFE_MS)
    assert.deepStrictEqual([world.relay.ends, world.relay.servers], [0, 0])
    assert.strictEqual(world.relay.pollTimeout(), Number.POSITIVE_INFINITY)
    world.run(60_000)
    assert.deepStrictEqual(a.carrier.state, { type: "failed", reason: "Silent" })
    world.loses = () => false
    world.run(11_000)
    assert.deepInclude(a.carrier.state, { type: "bound", peer: true })
  })

  it("takes an end out when it says so, and nobody else does", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(1000)
    a.carrier.close(world.now)
    world.run(1000)
    assert.strictEqual(world.relay.ends, 0)
    assert.isFalse(world.send(server, guestAt(0), new Uint8Array(48)) && world.sentTo(A).length > 2)
    server.carrier.close(world.now)
    world.run(1000)
    assert.deepStrictEqual([world.relay.servers, world.relay.pollTimeout()], [0, Number.POSITIVE_INFINITY])
    const silent = world.passed.length
    world.run(600_000)
    assert.strictEqual(world.passed.length, silent)
  })

  it("follows an end to another address, and the server too; what comes from elsewhere moves nothing", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(1000)
    a.address = C
    assert.isTrue(world.send(a, a.carrier.remote, new Uint8Array(48).fill(1)))
    world.run(100)
    assert.isEmpty(server.got)
    assert.strictEqual(world.relay.counters.misplaced, 1)
    a.carrier.rebind(world.now)
    world.run(100)
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(2))
    world.run(100)
    assert.deepStrictEqual(texts(server.got), ["100.64.0.1:1 02020202"])
    // Unasked, a server takes its interval and what the cookie's tries take.
    server.address = B
    world.run(5000)
    world.send(server, guestAt(0), new Uint8Array(48).fill(3))
    world.run(100)
    assert.deepStrictEqual(texts(a.got), [`${format(RELAY)} 03030303`])
  })

  it("who sends and hears nothing binds anew by itself", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(1000)
    a.address = C
    let healed = -1
    for (let ms = 0; ms < 10_000 && healed < 0; ms += 100) {
      world.send(a, a.carrier.remote, new Uint8Array(48).fill(1))
      world.run(100)
      if (server.got.length > 0) healed = ms
    }
    assert.isAtLeast(healed, 1000)
    assert.isAtMost(healed, Constants.RENDEZVOUS_DEAF_MS + 200)
    // A peer that is silent costs a bind every two seconds while we go on, and no more.
    const before = binds(world, C).length
    for (let i = 0; i < 100; i++) {
      world.send(a, a.carrier.remote, new Uint8Array(48))
      world.run(100)
    }
    assert.isAtMost(binds(world, C).length - before, 12)
  })

  it("that starts anew is bound again by itself, and a server that does has other channels", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(1000)
    world.relay = world.makeRelay()
    world.run(25_000)
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(1))
    world.run(100)
    assert.deepStrictEqual(texts(server.got), ["100.64.0.1:1 01010101"])

    world.hosts.splice(world.hosts.indexOf(server), 1)
    const again = world.server({ host: "198.51.100.1", port: 5001 })
    world.run(1000)
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(2))
    world.run(100)
    assert.deepStrictEqual(texts(again.got), ["100.64.0.1:1 02020202"])
    world.send(again, guestAt(0), new Uint8Array(48).fill(3))
    world.run(100)
    assert.deepStrictEqual(texts(a.got), [`${format(RELAY)} 03030303`])
  })

  it("keeps both ends bound at 30 % loss", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.loses = () => (random(1)[0] as number) < 77
    world.run(60_000)
    let away = 0
    for (let i = 0; i < 3600; i++) {
      world.run(1000)
      if (a.carrier.state.type !== "bound" || server.carrier.state.type !== "bound") away++
    }
    assert.strictEqual(away, 0)
    assert.deepStrictEqual([world.relay.ends, world.relay.servers], [1, 1])
  })

  it("a device that comes before its server hears so, and is served when it comes", () => {
    const world = new World()
    const a = world.client(A)
    world.run(1000)
    assert.deepInclude(a.carrier.state, { type: "bound", peer: false })
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(1))
    world.run(100)
    const server = world.server()
    world.run(1000)
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(2))
    world.run(100)
    assert.deepStrictEqual(texts(server.got), ["100.64.0.1:1 02020202"])
  })

  it("a revoked device reaches nobody at the server, and its address is not given away soon", () => {
    const world = new World()
    const server = world.server()
    const b = world.client(B, world.ticket(1))
    world.run(1000)
    server.carrier.setCredentials([world.credentials[0], world.credentials[2]])
    world.send(b, b.carrier.remote, new Uint8Array(48).fill(1))
    world.run(100)
    assert.isEmpty(server.got)
    assert.lengthOf(server.foreign, 1)
    assert.isFalse(world.send(server, guestAt(1), new Uint8Array(48)))
    const other = random(16)
    server.carrier.setCredentials([world.credentials[0], other])
    assert.strictEqual(server.carrier.credentialOf(guestAt(3)), hex(other))
    assert.isUndefined(server.carrier.credentialOf(guestAt(1)))
    server.carrier.setCredentials(world.credentials)
    assert.strictEqual(server.carrier.credentialOf(guestAt(0)), hex(world.credentials[0]))
  })

  it("refuses expired tickets, clocks too far off, and tickets of another relay, in silence", () => {
    const world = new World()
    world.server()
    world.run(1000)
    world.client(A, world.ticket(0, WALL))
    world.client(B, world.ticket(0), WALL + 27 * 3_600_000)
    const foreign = new World()
    world.client(C, { ...foreign.ticket(0), group: random(32) })
    const known = { ...world.ticket(0), key: random(32) }
    world.client(STRANGER, known)
    world.run(30_000)
    for (const address of [A, B, C, STRANGER]) assert.isEmpty(world.sentTo(address), format(address))
    assert.isTrue(world.hosts.slice(1).every(({ carrier }) => "state" in carrier))
    const { expired, forged, unknown } = world.relay.counters
    assert.isAbove(expired, 0)
    assert.isAbove(forged, 0)
    assert.isAbove(unknown, 0)
    // A day off either way is served, a server too.
    world.relay.setWall(world.now, world.wall + 25 * 3_600_000)
    const slow = world.server({ host: "198.51.100.7", port: 7 })
    world.run(1000)
    assert.strictEqual(slow.carrier.state.type, "bound")
    world.relay.setWall(world.now, world.wall)
    const late = world.client({ host: "192.0.2.9", port: 9 }, world.ticket(0), WALL - 25 * 3_600_000)
    world.run(1000)
    assert.strictEqual(late.carrier.state.type, "bound")
  })
})

describe("a hostile neighbourhood", () => {
  it("all that was recorded, played from elsewhere or again, draws nothing and moves nothing", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(50_000)
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(1))
    world.send(server, guestAt(0), new Uint8Array(48).fill(2))
    world.run(100)
    const recorded = [...world.passed]
    const before = { ends: world.relay.ends, answered: world.relay.counters.answered }
    for (const { bytes } of recorded) world.transmit(STRANGER, RELAY, bytes)
    world.run(1000)
    for (const { bytes, from } of recorded) if (LENGTHS.includes(bytes.length)) world.transmit(from, RELAY, bytes)
    world.run(1000)
    assert.isEmpty(world.sentTo(STRANGER))
    // What the ends bound anew by themselves meanwhile was answered.
    const old = new Set(recorded.map(({ bytes }) => hex(bytes)))
    const fresh = world.passed.filter(({ bytes }) => LENGTHS.includes(bytes.length) && !old.has(hex(bytes)))
    const { ends } = world.relay
    assert.deepStrictEqual({ ends, answered: world.relay.counters.answered - fresh.length }, before)
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(3))
    world.run(100)
    assert.deepStrictEqual(texts(server.got).slice(-1), ["100.64.0.1:1 03030303"])
  })

  it("a bind that somebody catches and sends first from elsewhere binds nothing there", () => {
    const world = new World()
    world.server()
    world.run(1000)
    // The thief sits on the path: it sees everything, and sends each bind from its own address instead.
    world.loses = (passed) => {
      if (format(passed.from) !== format(A)) return false
      world.transmit(STRANGER, RELAY, passed.bytes)
      return true
    }
    const a = world.client(A)
    world.run(30_000)
    assert.strictEqual(world.relay.ends, 0)
    assert.notStrictEqual(a.carrier.state.type, "bound")
    for (const { bytes } of world.sentTo(STRANGER)) assert.isBelow(bytes.length, 1200)
  })

  it("answers never exceed what came, and there is one for each bind at most", () => {
    const world = new World()
    world.server()
    const a = world.client(A)
    world.run(120_000)
    assert.strictEqual(world.sentTo(A).length, binds(world, A).length)
    for (const { bytes } of world.sentTo(A)) assert.strictEqual(bytes.length, Constants.RENDEZVOUS_ANSWER_LENGTH)
    assert.strictEqual(a.carrier.state.type, "bound")
  })

  it("100,000 datagrams of junk draw not one byte, change nothing, and serve nobody worse", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(1000)
    const kinds: ReadonlyArray<Uint8Array> = Junk.kinds()
    let sent = 0
    let drawn = 0
    while (sent < 100_000) {
      const batch = kinds.map((bytes, i) => ({
        bytes,
        remote: { host: `10.${i & 255}.${(sent >> 8) & 255}.1`, port: 1 + (i & 1023) }
      }))
      for (let i = 0; i < 200; i++) batch.push({ bytes: random(LENGTHS[i & 1] ?? 0), remote: STRANGER })
      drawn += world.relay.handleDatagrams(world.now, batch).length
      sent += batch.length
    }
    assert.strictEqual(drawn, 0)
    assert.strictEqual(world.relay.counters.unknown, sent)
    assert.deepStrictEqual([world.relay.ends, world.relay.servers], [1, 1])
    const b = world.client(B, world.ticket(1))
    world.run(200)
    world.send(b, b.carrier.remote, new Uint8Array(48).fill(1))
    world.send(a, a.carrier.remote, new Uint8Array(48).fill(2))
    world.run(100)
    assert.deepStrictEqual(texts(server.got).toSorted(), ["100.64.0.1:1 02020202", "100.64.1.1:1 01010101"])
  })

  it("a device that binds for ever is held to the budget; the others still come in a second later", () => {
    const world = new World()
    world.server()
    world.run(1000)
    const ticket = world.ticket(0)
    const group = new Message.GroupKeys(primitives, ticket.group)
    const bind = (): Uint8Array =>
      group.sealBind(primitives, random, ticket.key, {
        ...ticket,
        op: "bind",
        wall: world.wall,
        replyId: random(8),
        instance: random(16),
        cookie: new Uint8Array(16)
      })
    const batch = Array.from({ length: 3000 }, () => ({ bytes: bind(), remote: A }))
    const answers = world.relay.handleDatagrams(world.now, batch)
    assert.isAtMost(answers.length, Constants.RENDEZVOUS_BINDS_BURST)
    assert.strictEqual(world.relay.ends, 0)
    const b = world.client(B, world.ticket(1))
    world.run(1000)
    assert.strictEqual(b.carrier.state.type, "bound")
  })

  it("what a device makes up goes to its own server only, and whole", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(1000)
    const { bytes: real } = a.carrier.wrap(world.now, a.carrier.remote, new Uint8Array(48)) ?? assert.fail()
    for (const length of [17, 24, 31, 33, 40, 1217, 1232, 9000]) {
      const bytes = new Uint8Array(length)
      bytes.set(real.subarray(0, Math.min(16, length)))
      world.transmit(A, RELAY, bytes)
    }
    // The first half of a channel only.
    const half = Uint8Array.from(real)
    half[12] = (half[12] as number) ^ 1
    world.transmit(A, RELAY, half)
    world.run(100)
    assert.isEmpty(server.got)
    assert.strictEqual(world.relay.counters.malformed + world.relay.counters.unknown, 9)
  })

  it("houses and ends are bounded", () => {
    const world = new World()
    for (let i = 0; i < Constants.RENDEZVOUS_MAX_SERVERS + 3; i++) {
      const serverKey = random(32)
      const expiry = WALL + 3_600_000
      world.client(
        { host: "192.0.2.1", port: 1000 + i },
        Ticket.mintTicket(primitives, world.relayKey, serverKey, random(16), expiry)
      )
    }
    world.run(1000)
    assert.strictEqual(world.relay.ends, Constants.RENDEZVOUS_MAX_SERVERS)
    assert.isAbove(world.relay.counters.full, 0)
  })
})

describe("budgets", () => {
  it("refill steadily and never beyond half a second's worth", () => {
    const budget = new RendezvousBudget(0, { bytesPerSecond: 10_000, datagramsPerSecond: 100 })
    const spend = (now: number, bytes: number): number => {
      let count = 0
      for (; budget.has(now, bytes); count++) budget.spend(bytes)
      return count
    }
    assert.strictEqual(spend(0, 10), 50)
    assert.strictEqual(spend(100, 10), 10)
    assert.strictEqual(spend(10_000, 1000), 5)
    assert.isFalse(budget.has(10_000, 1))
  })

  it("one device that floods leaves the others their share", () => {
    const rate = { bytesPerSecond: 100_000, datagramsPerSecond: 100 }
    const world = new World({ slotRate: rate })
    const server = world.server()
    const a = world.client(A)
    const b = world.client(B, world.ticket(1))
    world.run(1000)
    for (let i = 0; i < 1000; i++) world.send(a, a.carrier.remote, new Uint8Array(48).fill(1))
    for (let i = 0; i < 40; i++) world.send(b, b.carrier.remote, new Uint8Array(48).fill(2))
    world.run(100)
    const counts = [1, 2].map((mark) => server.got.filter(({ bytes }) => bytes[0] === mark).length)
    assert.deepStrictEqual(counts, [50, 40])
    assert.strictEqual(world.relay.counters.overBudget, 950)
  })

  it("what lies side by side leaves side by side, and never more than the kernel takes", () => {
    const world = new World()
    const server = world.server()
    const a = world.client(A)
    world.run(1000)
    const piece = (a.carrier.wrap(world.now, a.carrier.remote, new Uint8Array(1200)) ?? assert.fail()).bytes
    const buffer = new Uint8Array(100 * piece.length - 600)
    for (let at = 0; at < buffer.length; at += piece.length) buffer.set(piece.subarray(0, buffer.length - at), at)
    const views = Array.from({ length: 100 }, (_, i) => buffer.subarray(i * piece.length, (i + 1) * piece.length))
    const out = world.relay.handleDatagrams(
      world.now,
      views.map((bytes) => ({ bytes, remote: A }))
    )
    assert.deepStrictEqual(
      out.map(({ bytes, remote, segment }) => [bytes.length, segment, format(remote)]),
      // The last one is no multiple of 16.
      [
        [64 * 1216, 1216, format(server.address)],
        [35 * 1216, 1216, format(server.address)]
      ]
    )
    assert.strictEqual(world.relay.counters.malformed, 1)
  })
})
