import { assert, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import { entropySeeded } from "../../src/layers/CryptoNode.ts"
import { stunPrimitives } from "../../src/layers/StunPrimitivesNode.ts"
import { chance } from "./Pair.ts"
import {
  CLIENT,
  CREDENTIALS,
  channelData,
  dataIndication,
  type Offer,
  ONE_WAY_MS,
  RELAY_HOST,
  SERVER,
  text,
  VIA,
  World
} from "./TurnScript.ts"

const { Attribute, Method } = Stun
const RTT = 2 * ONE_WAY_MS
const SECOND = 1000
const MINUTE = 60 * SECOND
const PEER: Address = { host: RELAY_HOST, port: 60_000 }
const OTHER: Address = { host: "203.0.113.7", port: 7000 }

/** One that has its allocation, and its permission for the relays. */
const allocated = (options: ConstructorParameters<typeof World>[0] = {}, seed?: string): World => {
  const world = new World(options, seed)
  world.pass(3 * RTT)
  assert.strictEqual(world.client.state, "Allocated")
  return world
}

const methodOf = (bytes: Uint8Array): number | undefined => Stun.decode(bytes)?.method

describe("allocating", () => {
  it("takes two round trips, and permits the server's relays", () => {
    const world = new World()
    world.pass(2 * RTT - 1)
    assert.strictEqual(world.client.state, "Allocating")
    world.pass(1)
    assert.strictEqual(world.client.state, "Allocated")
    assert.deepStrictEqual(world.client.relayed, { host: RELAY_HOST, port: 50_000 })
    assert.deepStrictEqual(world.client.reflexive, CLIENT)
    assert.strictEqual(world.client.permission(RELAY_HOST), "Asked")
    world.pass(RTT)
    assert.strictEqual(world.client.permission(RELAY_HOST), "Granted")
    assert.deepStrictEqual(
      world.server.seen.map(({ method, signed }) => [method, signed]),
      [
        [Method.allocate, false],
        [Method.allocate, true],
        [Method.createPermission, true]
      ]
    )
    assert.isAbove(world.client.changes, 0)
  })

  const offers: ReadonlyArray<readonly [Offer, string]> = [
    ["md5", "Allocated"],
    ["sha256", "Allocated"],
    ["userhash", "Allocated"],
    ["none we know", "Failed"],
    ["stripped", "Failed"]
  ]
  for (const [offer, end] of offers) {
    it(`with a server that offers ${offer}: ${end}`, () => {
      const world = new World()
      world.server.offer = offer
      world.pass(3 * RTT)
      assert.strictEqual(world.client.state, end)
      if (end === "Failed") assert.strictEqual(world.client.failure?.reason, "Unauthorized")
      if (offer === "userhash") {
        assert.isFalse(world.sent.some((bytes) => Buffer.from(bytes).includes(CREDENTIALS.username)))
      }
    })
  }

  it("asks for a family when told to, and sends nothing to the other", () => {
    const world = allocated({ family: 4 })
    const request = Stun.decode(world.sent[0] ?? assert.fail("nothing sent")) ?? assert.fail("no message")
    assert.deepStrictEqual(Stun.value(request, Attribute.requestedAddressFamily), Uint8Array.of(1, 0, 0, 0))
    const sent = world.sent.length
    world.send({ host: "2001:db8::1", port: 1 }, text("six"))
    assert.strictEqual(world.sent.length, sent)
    assert.strictEqual(world.client.drops.unsent, 1)
  })

  it("repeats itself at doubling intervals up to four seconds, and then tries again later", () => {
    const world = new World()
    world.fate = () => 0
    const at: Array<number> = []
    const start = world.now
    let sent = world.sent.length
    while (world.client.state === "Allocating") {
      world.pass(100)
      if (world.sent.length > sent) at.push(world.now - start)
      sent = world.sent.length
    }
    assert.deepStrictEqual(
      at,
      [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5, 35.5, 39.5].map((s) => s * SECOND)
    )
    assert.strictEqual(world.client.failure?.reason, "Timeout")
    world.fate = () => 1
    world.pass(7 * SECOND)
    assert.strictEqual(world.client.state, "Allocated")
    assert.strictEqual(world.client.failure, undefined)
  })

  it("tries a silent server for ever, seldom", () => {
    const world = new World()
    world.fate = () => 0
    world.pass(60 * MINUTE)
    assert.strictEqual(world.client.state === "Closed", false)
    assert.isBelow(world.sent.length, 60 * 13)
    assert.isAbove(world.sent.length, 200)
  })

  const refusals: ReadonlyArray<readonly [number, string, number]> = [
    [400, "Unsupported", 5 * MINUTE],
    [403, "Forbidden", 5 * MINUTE],
    [420, "Unsupported", 5 * MINUTE],
    [440, "Unsupported", 5 * MINUTE],
    [441, "WrongCredentials", MINUTE],
    [442, "Unsupported", 5 * MINUTE],
    [486, "Quota", MINUTE],
    [500, "ServerError", 5 * SECOND],
    [508, "Capacity", MINUTE],
    [699, "ServerError", 5 * SECOND]
  ]
  for (const [code, reason, after] of refusals) {
    it(`${code} is ${reason}, and is tried again`, () => {
      const world = new World()
      world.server.bend = (request, server) =>
        server.verifies(request) && request.method === Method.allocate ? [server.error(request, code)] : undefined
      world.pass(2 * RTT)
      assert.strictEqual(world.client.state, "Failed")
      const failure = world.client.failure ?? assert.fail("no failure")
      assert.strictEqual(failure.reason, reason)
      assert.strictEqual(failure.code, code)
      assert.isTrue(failure.retryAt >= world.now + after && failure.retryAt <= world.now + 1.25 * after)
      world.server.bend = undefined
      const sent = world.sent.length
      world.pass(after - SECOND)
      assert.strictEqual(world.sent.length, sent)
      world.pass(after / 4 + 2 * SECOND)
      assert.strictEqual(world.client.state, "Allocated")
    })
  }

  it("a wrong password is found out with one signed request", () => {
    const world = new World({ credentials: () => ({ ...CREDENTIALS, password: "wrong" }) })
    world.pass(MINUTE)
    assert.strictEqual(world.client.state, "Failed")
    assert.strictEqual(world.client.failure?.reason, "Unauthorized")
    assert.strictEqual(world.sent.length, 2)
  })

  it("asks for the credentials anew at every try", () => {
    let password = "wrong"
    const world = new World({ credentials: () => ({ ...CREDENTIALS, password }) })
    world.pass(MINUTE)
    assert.strictEqual(world.client.state, "Failed")
    password = CREDENTIALS.password
    world.do((client, now) => client.check(now))
    world.pass(3 * RTT)
    assert.strictEqual(world.client.state, "Allocated")
  })

  it("a nonce that is stale for ever ends it", () => {
    const world = new World()
    world.server.bend = (request, server) => {
      server.nonce++
      return [server.challenge(request, server.verifies(request) ? 438 : 401)]
    }
    world.pass(MINUTE)
    assert.strictEqual(world.client.failure?.reason, "Unauthorized")
    assert.isBelow(world.sent.length, 6)
  })

  it("an older allocation on our port is removed first", () => {
    const world = new World()
    world.server.allocations.set(`${CLIENT.host}:${CLIENT.port}`, { port: 49_999, expiresAt: world.now + 10 * MINUTE })
    world.pass(5 * RTT)
    assert.strictEqual(world.client.state, "Allocated")
    assert.deepStrictEqual(world.server.seen.map(({ method }) => method).slice(0, 4), [
      Method.allocate,
      Method.allocate,
      Method.refresh,
      Method.allocate
    ])
  })

  it("one that cannot be removed is a Mismatch", () => {
    const world = new World()
    world.server.bend = (request, server) => (server.verifies(request) ? [server.error(request, 437)] : undefined)
    world.pass(10 * RTT)
    assert.strictEqual(world.client.failure?.reason, "Mismatch")
    assert.isBelow(world.sent.length, 6)
  })
})

describe("being sent on", () => {
  const sendOn = (to: Address | undefined) => {
    const world = new World()
    world.server.bend = (request, server) =>
      server.verifies(request) && request.method === Method.allocate
        ? [
            server.error(request, 300, (writer) =>
              to === undefined ? writer : writer.address(Attribute.alternateServer, to)
            )
          ]
        : undefined
    return world
  }

  it("asks the other server, and nobody but it is listened to", () => {
    const other = { host: "198.51.100.20", port: 3479 }
    const world = sendOn(other)
    world.pass(2 * RTT)
    assert.deepStrictEqual(world.client.servers, [other])
    assert.strictEqual(world.receive(world.sent.at(-1) ?? assert.fail("nothing sent"), SERVER), "foreign")
  })

  it("goes on for two servers at most", () => {
    const world = sendOn(undefined)
    let hop = 30
    world.server.bend = (request, server) => [
      server.verifies(request)
        ? server.error(request, 300, (writer) =>
            writer.address(Attribute.alternateServer, { host: `198.51.100.${hop++}`, port: 3478 })
          )
        : server.challenge(request, 401)
    ]
    for (let i = 0; i < 8; i++) {
      world.pass(RTT)
      // The scripted server stands everywhere.
      const last = world.sent.at(-1)
      if (world.client.state !== "Allocating" || last === undefined) break
      for (const bytes of world.server.handle(world.now, CLIENT, last)) {
        world.receive(bytes, world.client.servers[0] ?? SERVER)
      }
    }
    assert.strictEqual(world.client.failure?.reason, "Redirected")
  })

  for (const host of ["0.0.0.0", "224.0.0.1", "255.255.255.255", "127.0.0.1", "2001:db8::1"]) {
    it(`not to ${host}`, () => {
      const world = sendOn({ host, port: 3478 })
      world.pass(2 * RTT)
      assert.strictEqual(world.client.failure?.reason, "Redirected")
    })
  }

  it("not to nowhere", () => {
    const world = sendOn(undefined)
    world.pass(2 * RTT)
    assert.strictEqual(world.client.failure?.reason, "Redirected")
  })
})

describe("keeping", () => {
  it("a day passes, with nonces that change, and the allocation is the same", () => {
    const world = allocated()
    const relayed = world.client.relayed
    for (let minute = 0; minute < 24 * 60; minute++) {
      if (minute % 10 === 0) world.server.nonce++
      world.pass(MINUTE)
      assert.strictEqual(world.client.state, "Allocated", `minute ${minute}`)
    }
    assert.deepStrictEqual(world.client.relayed, relayed)
    assert.strictEqual(world.client.permission(RELAY_HOST), "Granted")
    // A refresh every 20 s, a permission every 4 min, and what stale nonces cost.
    assert.isBelow(world.requests(Method.refresh), 24 * 60 * 3 + 200)
    assert.isBelow(world.requests(Method.createPermission), 24 * 15 + 200)
  })

  it("under loss of a third of all datagrams it is kept for an hour", () => {
    for (const seed of ["a", "b", "c"]) {
      const world = allocated({}, seed)
      const next = chance(seed)
      world.fate = () => (next() < 1 / 3 ? 0 : next() < 0.1 ? 2 : 1)
      const relayed = world.client.relayed
      world.pass(60 * MINUTE)
      world.fate = () => 1
      world.pass(MINUTE)
      assert.strictEqual(world.client.state, "Allocated", seed)
      assert.deepStrictEqual(world.client.relayed, relayed, seed)
      assert.strictEqual(world.client.permission(RELAY_HOST), "Granted", seed)
    }
  })

  it("a cut of five minutes changes nothing", () => {
    const world = allocated()
    const relayed = world.client.relayed
    world.fate = () => 0
    world.pass(5 * MINUTE)
    world.fate = () => 1
    world.pass(5 * SECOND)
    assert.strictEqual(world.client.state, "Allocated")
    assert.deepStrictEqual(world.client.relayed, relayed)
    world.send(PEER, text("there"))
    world.pass(RTT)
    assert.strictEqual(world.server.relayed.length, 1)
  })

  it("a cut longer than its life ends in a new one", () => {
    const world = allocated()
    world.fate = () => 0
    world.pass(11 * MINUTE)
    assert.strictEqual(world.client.relayed, undefined)
    world.fate = () => 1
    world.pass(MINUTE + 15 * SECOND)
    assert.deepStrictEqual(world.client.relayed, { host: RELAY_HOST, port: 50_001 })
  })

  it("a restarted server is found out within 20 s, and everything stands again", () => {
    const world = allocated()
    world.do((client, now) => client.permit(now, OTHER.host))
    world.pass(RTT)
    world.server.restart()
    const changes = world.client.changes
    world.pass(20 * SECOND + 5 * RTT)
    assert.isAbove(world.client.changes, changes)
    assert.deepStrictEqual(world.client.relayed, { host: RELAY_HOST, port: 50_001 })
    assert.strictEqual(world.client.permission(OTHER.host), "Granted")
    assert.isAbove(world.server.permissions.get(OTHER.host) ?? 0, world.now)
  })

  it("sending into silence finds it out within three seconds", () => {
    const world = allocated()
    world.send(PEER, text("bind"))
    world.pass(SECOND)
    world.server.restart()
    for (let i = 0; i < 6; i++) {
      world.send(PEER, text("anybody?"))
      world.pass(500)
    }
    assert.strictEqual(world.client.state, "Allocated")
    assert.deepStrictEqual(world.client.relayed, { host: RELAY_HOST, port: 50_001 })
    world.send(PEER, text("again"))
    world.pass(RTT)
    assert.deepStrictEqual(world.server.relayed.at(-1)?.bytes, text("again"))
  })

  it("so does a NAT that gives us another address", () => {
    const world = allocated()
    world.clientAddress = { host: CLIENT.host, port: 41_000 }
    world.do((client, now) => client.moved(now))
    world.pass(5 * RTT)
    assert.deepStrictEqual(world.client.reflexive, world.clientAddress)
    assert.strictEqual(world.client.state, "Allocated")
  })

  it("a life of seconds is refreshed in half of it, one of years after 20 s", () => {
    for (const [lifetime, most] of [
      [0, 14],
      [12, 12],
      [0xffffffff, 4]
    ] as const) {
      const world = new World()
      world.server.bend = (request, server) =>
        request.method === Method.refresh && server.verifies(request)
          ? [server.success(request, (writer) => writer.u32(Attribute.lifetime, lifetime))]
          : undefined
      world.pass(MINUTE)
      assert.strictEqual(world.client.state, "Allocated")
      assert.isAtMost(world.requests(Method.refresh), most)
      assert.isAtLeast(world.requests(Method.refresh), 2)
    }
  })
})

describe("peers", () => {
  it("the first datagram follows its ChannelBind, the others take the channel", () => {
    const world = allocated()
    const bytes = new Uint8Array(1200).fill(1)
    world.send(PEER, bytes)
    assert.deepStrictEqual(world.sent.slice(-2).map(methodOf), [Method.channelBind, Method.send])
    world.pass(RTT)
    world.send(PEER, bytes)
    assert.strictEqual(world.sent.at(-1)?.length, 1204)
    world.pass(RTT)
    assert.deepStrictEqual(
      world.server.relayed.map(({ how, peer }) => [how, peer]),
      [
        ["send", PEER],
        ["channel", PEER]
      ]
    )
    for (const relayed of world.server.relayed) assert.deepStrictEqual(relayed.bytes, bytes)
  })

  it("are named with our via, before and after they have a channel", () => {
    const world = allocated()
    world.fromPeer(PEER, text("one"))
    world.pass(RTT)
    world.send(PEER, text("two"))
    world.pass(RTT)
    world.fromPeer(PEER, text("three"))
    world.pass(RTT)
    assert.deepStrictEqual(world.received, [
      { bytes: text("one"), remote: { ...PEER, via: VIA } },
      { bytes: text("three"), remote: { ...PEER, via: VIA } }
    ])
  })

  it("a channel in use lasts for hours, one out of use ends and comes back with its number", () => {
    const world = allocated()
    for (let i = 0; i < 3 * 60 * 4; i++) {
      world.send(PEER, text("tick"))
      world.pass(15 * SECOND)
    }
    const ways = world.server.relayed.map(({ how }) => how)
    assert.strictEqual(ways.length, 3 * 60 * 4)
    assert.strictEqual(ways.filter((how) => how === "send").length, 1)
    assert.isBelow(world.requests(Method.channelBind), 50)
    const binds = world.requests(Method.channelBind)
    world.pass(30 * MINUTE)
    assert.isAtMost(world.requests(Method.channelBind), binds + 1)
    world.send(PEER, text("back"))
    world.pass(RTT)
    world.send(PEER, text("in the channel"))
    world.pass(RTT)
    assert.deepStrictEqual(
      world.server.relayed.slice(-2).map(({ how }) => how),
      ["send", "channel"]
    )
  })

  it("beyond sixteen channels go by Send, and a channel free again is theirs", () => {
    const world = allocated()
    const peers = Array.from({ length: 20 }, (_, i) => ({ host: RELAY_HOST, port: 60_000 + i }))
    for (let round = 0; round < 2; round++) {
      for (const peer of peers) world.send(peer, text(`${peer.port}`))
      world.pass(RTT)
    }
    assert.strictEqual(world.server.relayed.length, 40)
    assert.strictEqual(world.server.channels.size, 16)
    const late = peers[19] ?? PEER
    world.pass(16 * MINUTE)
    for (let i = 0; i < 2; i++) {
      world.send(late, text("now"))
      world.pass(RTT)
    }
    assert.strictEqual(world.server.relayed.at(-1)?.how, "channel")
  })

  it("of thousands only as many as there is room for are kept", () => {
    const world = allocated()
    const done = Array.from({ length: 40 }, (_, i) => {
      let kept = false
      world.do((client, now) => {
        kept = client.permit(now, `203.0.113.${i + 1}`)
      })
      return kept
    })
    assert.strictEqual(done.filter((kept) => kept).length, 15)
    world.pass(RTT)
    assert.strictEqual(world.server.permissions.size, 16)
    for (let i = 0; i < 5000; i++) world.send({ host: `10.0.${i >> 8}.${i & 255}`, port: 9 }, text("x"))
    world.pass(RTT)
    assert.isAtMost(world.server.channels.size, 16)
    assert.isAbove(world.client.drops.unsent, 4900)
    world.pass(MINUTE)
    assert.strictEqual(world.client.state, "Allocated")
  })

  it("that the server refuses are left alone for a minute", () => {
    const world = allocated()
    world.server.bend = (request, server) =>
      server.verifies(request) &&
      [Method.channelBind, Method.createPermission].some((method) => method === request.method)
        ? [server.error(request, 403)]
        : undefined
    world.send(OTHER, text("one"))
    world.do((client, now) => client.permit(now, "203.0.113.8"))
    world.pass(RTT)
    const sent = world.sent.length
    world.send(OTHER, text("two"))
    assert.strictEqual(world.sent.length, sent)
    assert.strictEqual(world.client.drops.unsent, 1)
    assert.strictEqual(world.client.permission("203.0.113.8"), "Refused")
    world.server.bend = undefined
    world.pass(MINUTE + RTT)
    assert.strictEqual(world.client.permission("203.0.113.8"), "Granted")
    world.send(OTHER, text("three"))
    world.pass(RTT)
    assert.deepStrictEqual(world.server.relayed.at(-1)?.bytes, text("three"))
  })

  it("wait for the allocation, the last eight datagrams and for three seconds", () => {
    const world = new World()
    for (let i = 0; i < 12; i++) world.send(PEER, Uint8Array.of(i))
    world.pass(4 * RTT)
    assert.deepStrictEqual(
      world.server.relayed.map(({ bytes }) => bytes[0]),
      [4, 5, 6, 7, 8, 9, 10, 11]
    )
    const late = new World()
    late.fate = (to) => (to === "client" && late.now < 6000 ? 0 : 1)
    late.send(PEER, text("too old by then"))
    late.pass(20 * SECOND)
    assert.strictEqual(late.client.state, "Allocated")
    assert.strictEqual(late.server.relayed.length, 0)
  })

  it("get each datagram in bytes of its own", () => {
    const world = allocated()
    world.send(PEER, text("bind"))
    world.pass(RTT)
    const bytes = new Uint8Array(1200)
    const parcels = Array.from({ length: 200 }, (_, i) => {
      bytes.fill(i)
      return world.client.wrap(world.now, { ...PEER, via: VIA }, bytes) ?? assert.fail("not wrapped")
    })
    for (const [i, parcel] of parcels.entries()) {
      assert.deepStrictEqual(parcel.remote, SERVER)
      assert.deepStrictEqual(parcel.bytes.slice(4), new Uint8Array(1200).fill(i))
    }
  })
})

describe("hostile datagrams", () => {
  it("from another address are nobody's, whatever they say", () => {
    const world = new World()
    const request = Stun.decode(world.sent[0] ?? assert.fail("nothing sent")) ?? assert.fail("no message")
    const answer = world.server.challenge(request, 401)
    for (const from of [
      { ...SERVER, port: 3479 },
      { ...SERVER, host: "198.51.100.8" },
      { ...SERVER, via: 2 }
    ]) {
      assert.strictEqual(world.receive(answer, from), "foreign")
    }
    assert.strictEqual(world.sent.length, 1)
  })

  it("without the password change nothing, and the true answer still counts", () => {
    const world = new World()
    const forge = (request: Stun.Message, signed: boolean): Uint8Array => {
      const writer = new Stun.StunWriter("success", request.method, request.transactionId)
        .xorAddress(Attribute.xorRelayedAddress, { host: "203.0.113.66", port: 6666 })
        .xorAddress(Attribute.xorMappedAddress, CLIENT)
      return (signed ? writer.integrity(stunPrimitives, new Uint8Array(16)) : writer).finish()
    }
    world.server.bend = (request, server) => {
      const forged = [forge(request, false), forge(request, true)]
      for (const code of [300, 437, 486]) {
        const writer = new Stun.StunWriter("error", request.method, request.transactionId).errorCode(code, "")
        if (server.verifies(request)) forged.push(writer.finish())
      }
      for (const bytes of forged) world.receive(bytes)
      return undefined
    }
    world.pass(3 * RTT)
    assert.strictEqual(world.client.state, "Allocated")
    assert.deepStrictEqual(world.client.relayed, { host: RELAY_HOST, port: 50_000 })
    assert.strictEqual(world.client.drops.forged, 2 + 2 * 5)
    world.pass(10 * MINUTE)
    assert.deepStrictEqual(world.client.relayed, { host: RELAY_HOST, port: 50_000 })
  })

  it("repeated answers are answers once", () => {
    const world = new World()
    world.fate = () => 3
    world.pass(10 * MINUTE)
    assert.strictEqual(world.client.state, "Allocated")
    assert.deepStrictEqual(world.client.relayed, { host: RELAY_HOST, port: 50_000 })
    assert.isAbove(world.foreign, 10)
  })

  it("from peers that we did not permit are dropped and counted", () => {
    const world = allocated()
    assert.strictEqual(world.receive(dataIndication(OTHER, text("hello"))), undefined)
    assert.strictEqual(world.client.drops.unpermitted, 1)
    assert.strictEqual(world.receive(channelData(0x4abc, text("hello"))), "foreign")
    world.do((client, now) => client.permit(now, OTHER.host))
    assert.deepStrictEqual(world.receive(dataIndication(OTHER, text("hello"))), {
      bytes: text("hello"),
      remote: { ...OTHER, via: VIA }
    })
  })

  it("that are no TURN are for others", () => {
    const world = allocated()
    const binding = new Stun.StunWriter("success", Method.binding, new Uint8Array(12)).finish()
    const request = new Stun.StunWriter("request", Method.binding, new Uint8Array(12)).finish()
    for (const bytes of [new Uint8Array(0), new Uint8Array(48).fill(0xaa), Uint8Array.of(0x40), binding, request]) {
      assert.strictEqual(world.receive(bytes), "foreign")
    }
  })

  it("ChannelData that is cut is dropped, padding is cut off", () => {
    const world = allocated()
    world.send(PEER, text("bind"))
    world.pass(RTT)
    const [number = 0] = world.server.channels.keys()
    const whole = channelData(number, text("12345"))
    for (let end = 0; end < whole.length; end++) assert.strictEqual(world.receive(whole.subarray(0, end)), "foreign")
    assert.deepStrictEqual(world.receive(Uint8Array.of(...whole, 0, 0, 0)), {
      bytes: text("12345"),
      remote: { ...PEER, via: VIA }
    })
    assert.deepStrictEqual(world.receive(channelData(number, new Uint8Array(0))), {
      bytes: new Uint8Array(0),
      remote: { ...PEER, via: VIA }
    })
  })

  it("huge realms, nonces and lists are no challenge", () => {
    for (const [type, length] of [
      [Attribute.realm, 0],
      [Attribute.realm, 300],
      [Attribute.nonce, 0],
      [Attribute.nonce, 600],
      [Attribute.passwordAlgorithms, 600]
    ] as const) {
      const world = new World()
      world.server.bend = (request) => {
        const writer = new Stun.StunWriter("error", request.method, request.transactionId).errorCode(401, "")
        for (const each of [Attribute.realm, Attribute.nonce, Attribute.passwordAlgorithms]) {
          const usual = each === Attribute.passwordAlgorithms ? Uint8Array.of(0, 2, 0, 0) : text("usual")
          writer.attribute(each, each === type ? new Uint8Array(length).fill(97) : usual)
        }
        return [writer.finish()]
      }
      world.pass(2 * RTT)
      assert.strictEqual(world.client.failure?.reason, "Unauthorized", `${type} of ${length}`)
    }
  })

  it("the longest name, realm, nonce and list that are taken fit into every request", () => {
    const credentials = { username: "\u4e16".repeat(256), password: "\u4e16".repeat(256) }
    const world = new World({ credentials: () => credentials, family: 6 })
    world.server.bend = (request, server) => {
      if (server.seen.length > 1) return []
      const writer = new Stun.StunWriter("error", request.method, request.transactionId)
        .errorCode(401, "")
        .attribute(Attribute.realm, new Uint8Array(256).fill(97))
        .attribute(Attribute.nonce, new Uint8Array(512).fill(98))
        .attribute(Attribute.passwordAlgorithms, Uint8Array.of(...new Uint8Array(60), 0, 2, 0, 0))
      return [writer.finish()]
    }
    world.pass(SECOND)
    const last = world.sent.at(-1) ?? assert.fail("nothing sent")
    assert.isAbove(last.length, 1600)
    assert.isAtMost(last.length, Stun.MAX_MESSAGE_LENGTH)
    world.do((client, now) => client.close(now))
  })

  it("an allocation at no sensible address is none", () => {
    for (const host of ["0.0.0.0", "239.1.2.3", "255.255.255.255", "::", "ff02::1"]) {
      const world = new World()
      world.server.bend = (request, server) =>
        server.verifies(request)
          ? [server.success(request, (writer) => writer.xorAddress(Attribute.xorRelayedAddress, { host, port: 1 }))]
          : undefined
      world.pass(2 * RTT)
      assert.strictEqual(world.client.failure?.reason, "ServerError", host)
      assert.strictEqual(world.client.relayed, undefined)
    }
  })

  it("each byte of each answer flipped, in turn: it is dropped, or does what the server could", () => {
    const world = allocated()
    world.send(PEER, text("bind"))
    world.pass(RTT)
    const entropy = entropySeeded("flips")
    let flips = 0
    world.server.bend = (request, server) => {
      if (request.method !== Method.refresh || !server.verifies(request)) return undefined
      const answer = server.success(request, (writer) => writer.u32(Attribute.lifetime, 600))
      for (let i = 0; i < answer.length; i++) {
        const bent = Uint8Array.from(answer)
        bent[i] = (bent[i] as number) ^ (1 + ((entropy(1)[0] as number) % 255))
        world.receive(bent)
        flips++
      }
      return [answer]
    }
    const relayed = world.client.relayed
    world.pass(MINUTE)
    assert.isAbove(flips, 100)
    assert.strictEqual(world.client.state, "Allocated")
    assert.deepStrictEqual(world.client.relayed, relayed)
  })

  it("a hundred thousand of junk leave nothing behind", () => {
    const world = allocated()
    const entropy = entropySeeded("junk")
    const sent = world.sent.length
    const junk = Array.from({ length: 64 }, (_, i) => {
      const bytes = entropy(4 + ((i * 37) % 200))
      if (i % 3 === 0) bytes[0] = 0x40
      if (i % 3 === 1) bytes.set([0, 0x17, 0, bytes.length - 20, 0x21, 0x12, 0xa4, 0x42].slice(0, bytes.length))
      return bytes
    })
    for (let i = 0; i < 100_000; i++) world.client.handleDatagram(world.now, SERVER, junk[i % 64] ?? new Uint8Array(0))
    world.drain()
    assert.strictEqual(world.sent.length, sent)
    assert.strictEqual(world.client.state, "Allocated")
  })
})

describe("closing", () => {
  it("ends the allocation with two copies of one request, and is silent from then on", () => {
    const world = allocated()
    world.send(PEER, text("bind"))
    world.pass(RTT)
    const sent = world.sent.length
    world.do((client, now) => client.close(now))
    assert.deepStrictEqual(world.sent.slice(sent).map(methodOf), [Method.refresh, Method.refresh])
    assert.strictEqual(world.client.state, "Closed")
    assert.strictEqual(world.client.relayed, undefined)
    world.do((client, now) => client.close(now))
    world.do((client, now) => client.check(now))
    world.do((client, now) => client.permit(now, OTHER.host))
    world.send(PEER, text("late"))
    assert.strictEqual(world.client.pollTimeout(), Number.POSITIVE_INFINITY)
    world.pass(MINUTE)
    assert.strictEqual(world.sent.length, sent + 2)
    assert.strictEqual([...world.server.allocations.values()][0]?.expiresAt, world.now - MINUTE + ONE_WAY_MS)
    assert.strictEqual(world.receive(dataIndication(PEER, text("late"))), "foreign")
  })

  it("ends one that may just have been made", () => {
    const world = new World()
    world.pass(RTT + 1)
    world.do((client, now) => client.close(now))
    assert.strictEqual(methodOf(world.sent.at(-1) ?? text("")), Method.refresh)
    const early = new World()
    early.do((client, now) => client.close(now))
    assert.strictEqual(early.sent.length, 1)
  })
})

describe("weather", () => {
  it("whatever happens for an hour, five calm minutes later all stands", () => {
    for (let seed = 1; seed <= 12; seed++) {
      const name = `weather ${seed}`
      const next = chance(name)
      const world = new World({}, name)
      let loss = 0
      world.fate = () => (next() < loss ? 0 : next() < 0.05 ? 2 : 1)
      const peers = Array.from({ length: 24 }, (_, i) => ({ host: `203.0.113.${i % 20}`, port: 7000 + i }))
      for (let minute = 0; minute < 60; minute++) {
        const event = Math.floor(next() * 12)
        if (event === 0) loss = next()
        else if (event === 1) loss = 0
        else if (event === 2) world.server.restart()
        else if (event === 3) world.server.nonce++
        else if (event === 4) world.clientAddress = { host: CLIENT.host, port: 40_000 + minute }
        else if (event === 5) world.do((client, now) => client.check(now))
        else if (event === 6) world.server.offer = next() < 0.5 ? "md5" : "sha256"
        for (let i = 0; i < 6; i++) {
          const peer = peers[Math.floor(next() * peers.length)] ?? PEER
          world.send(peer, text("x"))
          if (next() < 0.3) world.fromPeer(peer, text("y"))
          world.pass(next() * 20 * SECOND)
        }
      }
      world.fate = () => 1
      world.pass(5 * MINUTE)
      assert.strictEqual(world.client.state, "Allocated", name)
      const before = world.server.relayed.length
      world.send(PEER, text("calm"))
      world.pass(SECOND)
      assert.strictEqual(world.server.relayed.length, before + 1, name)
      const bound = [...world.server.channels.values()].filter(({ until }) => until > world.now)
      assert.isAtMost(bound.length, 16, name)
    }
  })
})
