/** `clawchat rendezvous` as its owner runs it, with sockets of servers and devices around it. */
import { randomBytes } from "node:crypto"
import * as Dgram from "node:dgram"
import { once } from "node:events"
import * as Fs from "node:fs"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Entropy } from "../../src/domain/protocol/Primitives.ts"
import { RendezvousClient } from "../../src/domain/protocol/RendezvousClient.ts"
import { RendezvousServer } from "../../src/domain/protocol/RendezvousServer.ts"
import { mintTicket } from "../../src/domain/protocol/RendezvousTicket.ts"
import * as RendezvousLine from "../../src/domain/RendezvousLine.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import * as Junk from "../outside/Junk.ts"
import { Carried } from "./Carried.ts"
import { assertFails, assertNoStacks, freePort, openToOthers, type Running, World } from "./Tiers.ts"

const entropy: Entropy = (length) => Uint8Array.from(randomBytes(length))
const VIA = 3
const DEVICES = 4
/** Each way and device: what one device may send at once is more than both together. */
const EACH = 2500
/** Datagrams of one device under way: fewer than any socket's buffer takes. */
const WINDOW = 16

describe.skipIf(process.platform === "win32")("clawchat rendezvous", () => {
  let world: World
  let relay: Running
  let port = 0
  let line = ""
  let pairing: RendezvousLine.Pairing
  const args = (): ReadonlyArray<string> => [
    "rendezvous",
    "--home",
    world.path("r"),
    "--bind",
    "127.0.0.1",
    "--port",
    String(port),
    "--ip",
    "127.0.0.1"
  ]
  const start = async (): Promise<Running> => {
    const running = world.start(args())
    await running.out(/^Listening on UDP 127\.0\.0\.1:\d+\n/m)
    return running
  }
  const serverKey = entropy(32)
  const credentials = Array.from({ length: DEVICES }, () => entropy(16))

  const server = () =>
    Carried.open((now) => {
      const carrier = new RendezvousServer(now, Date.now(), {
        primitives,
        entropy,
        relay: pairing.relay,
        via: VIA,
        relayKey: pairing.key,
        serverKey
      })
      carrier.setCredentials(credentials)
      return carrier
    })
  const device = (index: number) =>
    Carried.open((now) => {
      const ticket = mintTicket(
        primitives,
        pairing.key,
        serverKey,
        credentials[index] ?? assert.fail(),
        Date.now() + 60_000
      )
      return new RendezvousClient(now, Date.now(), { primitives, entropy, relay: pairing.relay, via: VIA, ticket })
    })
  const status = async (): Promise<{ sessions: number; drops: Record<string, number> }> =>
    JSON.parse((await world.ok(["status", "--home", world.path("r"), "--json"])).stdout)

  beforeAll(async () => {
    world = new World()
    port = await freePort()
    relay = await start()
    line = (await world.ok([...args(), "key"])).stdout.trim()
    pairing = RendezvousLine.parse(line) ?? assert.fail(line)
  })
  afterAll(() => world.end())

  it("gives one line that is known only to who asks for it, and keeps secrets in files of its own", async () => {
    assert.deepStrictEqual(pairing.relay, { host: "127.0.0.1", port })
    assert.strictEqual(
      (await world.ok(["rendezvous", "key", "--home", world.path("r"), "--ip", "2001:db8::1"])).stdout.includes(
        `[2001:db8::1]:${port}:`
      ),
      true
    )
    assert.notInclude(relay.said(), line.slice(-20))
    assert.deepStrictEqual(openToOthers(world.path("r", "rendezvous")), [])
    const log = Fs.readFileSync(world.path("r", "rendezvous", "logs", "clawchat.log"), { encoding: "utf8", flag: "a+" })
    assert.notInclude(log, line.slice(-20))
  })

  it(`carries ${2 * DEVICES * EACH} datagrams between a server and ${DEVICES} devices, each to the right one, while junk flies`, async () => {
    const house = await server()
    await house.until(() => house.carrier.state.type === "bound")
    house.onDatagram = (remote, bytes) => house.send(remote, bytes)
    const stranger = Dgram.createSocket("udp4")
    stranger.bind({ address: "127.0.0.1", port: 0 })
    await once(stranger, "listening")
    let heard = 0
    stranger.on("message", () => heard++)
    const junk = Junk.kinds()
    let thrown = 0
    assert.isAbove(DEVICES * EACH, 4 * junk.length)
    const devices = await Promise.all(Array.from({ length: DEVICES }, (_, i) => device(i)))
    const seen = devices.map(() => new Set<number>())
    const hosts = new Set<string>()
    house.onDatagram = (remote: Address, bytes: Uint8Array) => {
      hosts.add(`${remote.host}:${remote.port}`)
      house.send(remote, bytes)
    }
    await Promise.all(
      devices.map(async (each, i) => {
        await each.until(() => each.carrier.state.type === "bound")
        let sent = 0
        const next = (): void => {
          if (sent >= EACH) return
          const bytes = new Uint8Array(1200).fill(i)
          new DataView(bytes.buffer).setUint32(4, sent++)
          each.send(each.carrier.remote, bytes)
        }
        each.onDatagram = (remote, bytes) => {
          assert.deepStrictEqual([remote.via, bytes.length, bytes[100]], [VIA, 1200, i])
          seen[i]?.add(new DataView(bytes.buffer, bytes.byteOffset).getUint32(4))
          // Every fourth time, each kind in turn.
          const noise = thrown % 4 === 0 ? junk[(thrown / 4) % junk.length] : undefined
          thrown++
          if (noise !== undefined) stranger.send(noise, port, "127.0.0.1")
          next()
        }
        for (let n = 0; n < WINDOW; n++) next()
        await each.until(() => (seen[i]?.size ?? 0) === EACH)
      })
    )
    assert.strictEqual(hosts.size, DEVICES)
    const { drops, sessions } = await status()
    assert.strictEqual(sessions, DEVICES)
    assert.isAbove(drops.unknown ?? 0, 1000)
    assert.deepStrictEqual([drops.overBudget, drops.misplaced, drops.malformed, heard], [0, 0, 0, 0])
    await Promise.all(devices.map((each) => each.close()))
    await house.close()
    stranger.close()
    const after = await status()
    assert.strictEqual(after.sessions, 0)
  })

  it("is silent to all that was recorded, and answers a ticket with no more than came", async () => {
    const tap = Dgram.createSocket("udp4")
    tap.bind({ address: "127.0.0.1", port: 0 })
    await once(tap, "listening")
    const one = await device(0)
    const recorded: Array<Uint8Array> = []
    const send = one.raw.bind(one)
    one.raw = (to, bytes) => {
      recorded.push(Uint8Array.from(bytes))
      send(to, bytes)
    }
    one.carrier.rebind(performance.now())
    one.drain()
    await one.until(() => recorded.length >= 2 && one.carrier.state.type === "bound")
    let heard = 0
    tap.on("message", () => heard++)
    for (const bytes of recorded) tap.send(bytes, port, "127.0.0.1")
    // What comes back to the device comes behind what would have come back to the tap.
    one.carrier.rebind(performance.now())
    const before = recorded.length
    one.drain()
    await one.until(() => recorded.length >= before + 2)
    assert.strictEqual(heard, 0)
    await one.close()
    tap.close()
  })

  it("one on a home; a port that is taken; killed and started again it is the same relay", async () => {
    assertFails(await world.run(args()), 75, /A rendezvous already runs on this home/)
    assertFails(
      await world.run(["rendezvous", "--home", world.path("other"), "--bind", "127.0.0.1", "--port", String(port)]),
      1,
      new RegExp(`${port}`)
    )
    assertFails(await world.run(["rendezvous", "key", "--home", world.path("none")]), 3, /No rendezvous has run/)
    const house = await server()
    const one = await device(1)
    await one.until(() => one.carrier.state.type === "bound")
    await relay.stop("SIGKILL")
    relay = await start()
    assert.strictEqual((await world.ok([...args(), "key"])).stdout.trim(), line)
    // Bound anew, that is for longer than before.
    const until = (each: typeof house | typeof one): number =>
      each.carrier.state.type === "bound" ? each.carrier.state.until : 0
    for (const each of [house, one]) {
      const before = until(each)
      each.carrier.rebind(performance.now())
      each.drain()
      await each.until(() => until(each) > before)
    }
    const echo = new Promise<void>((resolve) => {
      house.onDatagram = (remote, bytes) => house.send(remote, bytes)
      one.onDatagram = () => resolve()
    })
    assert.strictEqual((await status()).sessions, 1)
    one.send(one.carrier.remote, new Uint8Array(48))
    await echo
    await one.close()
    await house.close()
    assert.deepStrictEqual(await relay.stop(), { code: 0, signal: null })
    assertNoStacks(world.output())
    relay = await start()
  })
})
