/** The TURN client against coturn: real processes, real sockets on loopback. */
import { createHmac } from "node:crypto"
import * as Dgram from "node:dgram"
import { once } from "node:events"
import { setTimeout } from "node:timers/promises"
import { assert, describe, it } from "@effect/vitest"
import type * as TurnClient from "../../src/domain/protocol/TurnClient.ts"
import {
  CarrierSocket,
  Coturn,
  type CoturnOptions,
  CREDENTIALS,
  HOST,
  HOST_V6,
  hasCoturn,
  hasIpv6,
  VIA,
  whyNot
} from "./Coturn.ts"

/** Bytes of a full datagram of ours. */
const FULL = 1200

const filled = (value: number): Uint8Array => new Uint8Array(FULL).fill(value)

/** One server and what the test opens there, ended in order. */
class World {
  readonly #ends: Array<() => Promise<void>> = []

  async server(options: CoturnOptions = {}): Promise<Coturn> {
    const server = await Coturn.start(options)
    this.#ends.unshift(() => server.end())
    return server
  }

  async client(server: Coturn, options: Partial<TurnClient.Options> = {}, port = 0): Promise<CarrierSocket> {
    const client = await CarrierSocket.open(server.address, options, port)
    this.#ends.unshift(() => client.end())
    return client
  }

  async peer(): Promise<Dgram.Socket> {
    const socket = Dgram.createSocket("udp4").bind(0, HOST)
    await once(socket, "listening")
    this.#ends.unshift(async () => {
      const closed = once(socket, "close")
      socket.close()
      await closed
    })
    return socket
  }

  async end(): Promise<void> {
    for (const end of this.#ends) await end()
  }
}

const inWorld = (name: string, test: (world: World) => Promise<void>): void => {
  it(name, async () => {
    const world = new World()
    try {
      await test(world)
    } finally {
      await world.end()
    }
  })
}

describe.skipIf(!hasCoturn)(`TurnClient and coturn${whyNot}`, () => {
  inWorld("carries full datagrams both ways between two allocations, in one datagram each", async (world) => {
    const server = await world.server()
    const a = await world.client(server)
    const b = await world.client(server)
    const atA = await a.allocated()
    const atB = await b.allocated()
    assert.notDeepEqual(atA, atB)
    assert.deepStrictEqual(a.client.reflexive, { host: HOST, port: a.port })

    // The first goes the long way on the heels of its ChannelBind, the rest through the channel.
    a.send(atB, filled(1))
    await b.until(() => b.received.length === 1, "the first datagram")
    b.send(atA, filled(2))
    await a.until(() => a.received.length === 1, "its answer")
    a.send(atB, filled(3))
    await b.until(() => b.received.length === 2, "the next datagram")
    b.send(atA, filled(4))
    await a.until(() => a.received.length === 2, "the next answer")

    assert.deepStrictEqual(a.received, [
      { bytes: filled(2), remote: { ...atB, via: VIA } },
      { bytes: filled(4), remote: { ...atB, via: VIA } }
    ])
    assert.deepStrictEqual(b.received, [
      { bytes: filled(1), remote: { ...atA, via: VIA } },
      { bytes: filled(3), remote: { ...atA, via: VIA } }
    ])
    assert.strictEqual(a.sent.at(-1)?.length, FULL + 4)
    assert.strictEqual(a.client.permission(HOST), "Granted")
    assert.deepStrictEqual(a.client.drops, { forged: 0, malformed: 0, unpermitted: 0, unsent: 0 })
  })

  it.skipIf(!hasIpv6)("does so over IPv6", async () => {
    const world = new World()
    try {
      const server = await world.server({ host: HOST_V6 })
      const a = await world.client(server, { family: 6 })
      const b = await world.client(server, { family: 6 })
      const atA = await a.allocated()
      const atB = await b.allocated()
      assert.deepStrictEqual(a.client.reflexive, { host: HOST_V6, port: a.port })
      assert.strictEqual(atA.host, HOST_V6)
      for (let round = 1; round <= 2; round++) {
        a.send(atB, filled(round))
        await b.until(() => b.received.length === round, "a datagram")
        b.send(atA, filled(round))
        await a.until(() => a.received.length === round, "its answer")
      }
      assert.deepStrictEqual(a.received.at(-1), { bytes: filled(2), remote: { ...atB, via: VIA } })
    } finally {
      await world.end()
    }
  })

  inWorld("sends what was handed in while the allocation was made", async (world) => {
    const server = await world.server()
    const peer = await world.peer()
    const a = await world.client(server)
    const arrived = once(peer, "message")
    a.send({ host: HOST, port: peer.address().port }, filled(9))
    assert.strictEqual(a.client.state, "Allocating")
    const [bytes, from] = (await arrived) as [Buffer, Dgram.RemoteInfo]
    assert.deepStrictEqual(Uint8Array.from(bytes), filled(9))
    assert.strictEqual(from.port, a.client.relayed?.port)
  })

  inWorld("serves more peers than there are channels", async (world) => {
    const server = await world.server()
    const a = await world.client(server)
    await a.allocated()
    a.do((client, now) => client.permit(now, HOST))
    await a.until(() => a.client.permission(HOST) === "Granted", "a permission")
    for (let i = 0; i < 20; i++) {
      const peer = await world.peer()
      peer.on("message", (bytes, { port }) => peer.send(bytes, port, HOST))
      for (let round = 0; round < 2; round++) {
        const before = a.received.length
        a.send({ host: HOST, port: peer.address().port }, filled(i))
        await a.until(() => a.received.length > before, `echo ${round} of peer ${i}`)
        assert.deepStrictEqual(a.received.at(-1), {
          bytes: filled(i),
          remote: { host: HOST, port: peer.address().port, via: VIA }
        })
      }
    }
    assert.strictEqual(a.client.drops.unsent, 0)
  })

  inWorld("lets in nobody whom it did not permit, and is told whom the server forbids", async (world) => {
    const server = await world.server({ extra: ["--denied-peer-ip=127.0.0.3"] })
    const a = await world.client(server)
    await a.allocated()
    a.do((client, now) => client.permit(now, "127.0.0.3"))
    a.do((client, now) => client.permit(now, "127.0.0.2"))
    await a.until(() => a.client.permission("127.0.0.3") === "Refused", "a refusal")
    await a.until(() => a.client.permission("127.0.0.2") === "Granted", "a permission")
    assert.strictEqual(a.client.state, "Allocated")
    assert.deepStrictEqual(a.errors, [401, 403])
  })

  inWorld("goes on over nonces that expire", async (world) => {
    const server = await world.server({ extra: ["--stale-nonce=1"] })
    const a = await world.client(server, { checkMs: 250 })
    const relayed = await a.allocated()
    const stale = (): number => a.errors.filter((code) => code === 438).length
    await a.until(() => stale() >= 1, "a stale nonce")
    const sent = a.sent.length
    await a.until(() => a.sent.length >= sent + 3, "more refreshes")
    assert.deepStrictEqual(a.client.relayed, relayed)
    assert.strictEqual(a.client.state, "Allocated")
  })

  inWorld("says that the password is wrong, or the user unknown", async (world) => {
    const server = await world.server()
    for (const credentials of [
      { ...CREDENTIALS, password: "wrong" },
      { ...CREDENTIALS, username: "mallory" }
    ]) {
      const a = await world.client(server, { credentials: () => credentials })
      await a.until(() => a.client.state === "Failed", "a refusal")
      assert.strictEqual(a.client.failure?.reason, "Unauthorized")
      assert.strictEqual(a.client.failure?.code, 401)
      assert.strictEqual(a.sent.length, 2)
    }
  })

  inWorld("allocates anew when the server was restarted", async (world) => {
    const server = await world.server()
    const a = await world.client(server, { checkMs: 200 })
    const b = await world.client(server, { checkMs: 200 })
    await a.allocated()
    await b.allocated()
    const before = [a.client.changes, b.client.changes]
    await server.kill()
    await server.run()
    for (const [i, one] of [a, b].entries()) {
      await one.until(
        () => one.client.changes > (before[i] ?? 0) && one.client.state === "Allocated",
        "a new allocation"
      )
    }
    a.send(b.client.relayed ?? assert.fail("no relayed address"), filled(5))
    await b.until(() => b.received.length === 1, "a datagram over the new allocations")
    assert.deepStrictEqual(b.received[0]?.bytes, filled(5))
    assert.include(a.errors, 437)
  })

  inWorld("is told of the quota, and frees its place at once when it closes", async (world) => {
    const server = await world.server({ extra: ["--user-quota=1"] })
    const a = await CarrierSocket.open(server.address)
    await a.allocated()
    const b = await world.client(server)
    await b.until(() => b.client.state === "Failed", "a refusal")
    assert.strictEqual(b.client.failure?.reason, "Quota")
    await a.end()
    // At once for us: coturn takes a second to clear up, where the allocation's own life would be ten minutes.
    for (let tries = 0; tries < 200 && b.client.state !== "Allocated"; tries++) {
      await setTimeout(20)
      b.do((client, now) => client.check(now))
      await b.until(() => b.client.state !== "Allocating", "an answer")
    }
    assert.strictEqual(b.client.state, "Allocated")
    assert.strictEqual(b.client.failure, undefined)
  })

  inWorld("takes the place of an allocation that a killed process left on its port", async (world) => {
    const server = await world.server()
    const a = await CarrierSocket.open(server.address)
    await a.allocated()
    const { port } = a
    await a.end("kill")
    const again = await world.client(server, {}, port)
    await again.allocated()
    assert.include(again.errors, 437)
  })

  inWorld("follows the server to another one", async (world) => {
    const second = await world.server()
    const first = await world.server({ extra: [`--alternate-server=${HOST}:${second.address.port}`] })
    const a = await world.client(first)
    await a.allocated()
    assert.deepStrictEqual(a.client.servers, [second.address])
    assert.include(a.errors, 300)
  })

  inWorld("comes in with a name that was minted for a time, and not when that is over", async (world) => {
    const secret = "a secret of the server and coturn"
    const server = await world.server({ users: ["--use-auth-secret", `--static-auth-secret=${secret}`] })
    const minted = (until: number) => {
      const username = `${until}:device`
      return { username, password: createHmac("sha1", secret).update(username).digest("base64") }
    }
    const inAnHour = Math.floor(Date.now() / 1000) + 3600
    const a = await world.client(server, { credentials: () => minted(inAnHour) })
    await a.allocated()
    const b = await world.client(server, { credentials: () => minted(inAnHour - 7200) })
    await b.until(() => b.client.state === "Failed", "a refusal")
    assert.strictEqual(b.client.failure?.reason, "Unauthorized")

    // A process that comes back has another name by then.
    const killed = await CarrierSocket.open(server.address, { credentials: () => minted(inAnHour) })
    await killed.allocated()
    const { port } = killed
    await killed.end("kill")
    const again = await world.client(server, { credentials: () => minted(inAnHour + 1) }, port)
    await again.until(() => again.client.state !== "Allocating", "an end")
    assert.strictEqual(again.client.failure?.reason, "WrongCredentials")
    assert.deepStrictEqual(again.errors, [437, 401, 441])
  })
})
