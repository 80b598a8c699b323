import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { MAX_KEY_PACKETS, REKEY_BYTES, REKEY_INTERVAL_MS, REKEY_PACKETS } from "../../src/domain/protocol/Constants.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import type * as Frame from "../../src/domain/protocol/Frame.ts"
import { KeyRatchet, type KeyRatchetOptions } from "../../src/domain/protocol/KeyRatchet.ts"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import type { DirectionKeys } from "../../src/domain/protocol/Packet.ts"
import type { PacketKey, Primitives } from "../../src/domain/protocol/Primitives.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"

const GRACE = 100
const NEVER = Number.POSITIVE_INFINITY
type Role = "client" | "server"

/** Everything secret that went through the primitives, by reference; packet keys by what they were made of. */
class Tap {
  readonly secrets: Array<Uint8Array> = []
  readonly shared: Array<Uint8Array> = []
  readonly live = new Map<PacketKey, string>()
  exchanges = 0
  readonly primitives: Primitives = {
    ...primitives,
    hkdf: (salt, ikm, info, length) => {
      if (salt.length > 0) this.secrets.push(salt)
      this.secrets.push(ikm)
      const out = primitives.hkdf(salt, ikm, info, length)
      this.secrets.push(out)
      return out
    },
    keyPair: (privateKey) => {
      const pair = primitives.keyPair(privateKey)
      this.secrets.push(privateKey, pair.privateKey)
      return pair
    },
    dh: (privateKey, publicKey) => {
      this.exchanges++
      const out = primitives.dh(privateKey, publicKey)
      this.secrets.push(privateKey)
      if (out !== undefined) {
        this.secrets.push(out)
        this.shared.push(out.slice())
      }
      return out
    },
    packetKey: (key) => {
      const inner = primitives.packetKey(key)
      this.secrets.push(key)
      const outer: PacketKey = {
        seal: inner.seal,
        open: inner.open,
        wipe: () => {
          this.live.delete(outer)
          inner.wipe()
        }
      }
      this.live.set(outer, hex(key))
      return outer
    }
  }
}

const FIRST = { ck: new Uint8Array(32).fill(1), client: new Uint8Array(32).fill(2), server: new Uint8Array(32).fill(3) }

const keysOf = (p: Primitives, key: Uint8Array): DirectionKeys => {
  const { aead, iv } = KeySchedule.trafficKeys(p, key)
  return { packet: p.packetKey(aead), iv }
}

/** One end, whose packets carry the number of the last one plus one. */
class End {
  readonly tap = new Tap()
  readonly ratchet: KeyRatchet

  constructor(role: Role, options: Partial<KeyRatchetOptions> = {}, seed = role as string) {
    const p = this.tap.primitives
    const [client, server] = [keysOf(p, FIRST.client.slice()), keysOf(p, FIRST.server.slice())]
    this.ratchet = new KeyRatchet(0, {
      role,
      primitives: p,
      entropy: entropySeeded(seed),
      chainingKey: FIRST.ck.slice(),
      send: role === "client" ? client : server,
      receive: role === "client" ? server : client,
      ...options
    })
  }

  /** What packet keys are held, as names of their bytes. */
  sends(): string | undefined {
    return this.tap.live.get(this.ratchet.send.packet)
  }

  opens(bits: number): string | undefined {
    const keys = this.ratchet.receive[bits]
    return keys === undefined ? undefined : this.tap.live.get(keys.packet)
  }

  /** Epochs mod 4 that open. */
  held(): ReadonlyArray<number> {
    return [0, 1, 2, 3].filter((bits) => this.ratchet.receive[bits] !== undefined)
  }

  ask(): Frame.Rekey {
    this.ratchet.request()
    this.ratchet.begin()
    const frame = this.ratchet.pollFrame()
    if (frame?.type !== "Rekey") throw new Error("no question")
    return frame
  }

  answer(question: Frame.Rekey): Frame.RekeyAck {
    assert.isUndefined(this.ratchet.onRekey(question, (question.epoch - 1) & 3))
    const frame = this.ratchet.pollFrame()
    if (frame?.type !== "RekeyAck") throw new Error("no answer")
    return frame
  }

  take(answer: Frame.RekeyAck): void {
    assert.strictEqual(this.ratchet.onRekeyAck(answer, (answer.epoch - 1) & 3), "switched")
  }
}

const ends = (options: Partial<KeyRatchetOptions> = {}): { readonly client: End; readonly server: End } => ({
  client: new End("client", options),
  server: new End("server", options)
})

/** A whole rotation, asked for by `asker`; packet numbers from `number` on. */
const rotate = (asker: End, answerer: End, now = 0, number = now): void => {
  asker.take(answerer.answer(asker.ask()))
  const bits = asker.ratchet.epoch & 3
  assert.strictEqual(answerer.ratchet.onOpened(now, bits, number, GRACE), "moved")
  assert.strictEqual(asker.ratchet.onOpened(now, bits, number, GRACE), "moved")
  for (const { ratchet } of [asker, answerer]) assert.isUndefined(ratchet.onTimeout(now + GRACE))
}

const assertAgreed = (client: End, server: End): void => {
  assert.strictEqual(client.ratchet.epoch, server.ratchet.epoch)
  const bits = client.ratchet.epoch & 3
  assert.isDefined(client.sends())
  assert.strictEqual(client.sends(), server.opens(bits))
  assert.strictEqual(server.sends(), client.opens(bits))
  assert.notStrictEqual(server.sends(), client.sends())
}

const rekey = (epoch: number, fill = 9): Frame.Rekey => ({
  type: "Rekey",
  epoch,
  key: primitives.keyPair(new Uint8Array(32).fill(fill)).publicKey
})
const rekeyAck = (epoch: number): Frame.RekeyAck => ({ ...rekey(epoch), type: "RekeyAck" })

interface Flying {
  readonly number: number
  readonly epoch: number
  readonly frame: Frame.Frame | undefined
}

/** A link on which packets may arrive late, again and again, or never; each tells its epoch, some carry a frame. */
class Link {
  readonly ends = ends()
  readonly #flying: Record<Role, Array<Flying>> = { client: [], server: [] }
  #now = 0
  #number = 0

  transmit(from: Role): void {
    const { ratchet } = this.ends[from]
    ratchet.begin()
    const frame = ratchet.pollFrame()
    this.#flying[from].push({ number: this.#number++, epoch: ratchet.epoch, frame })
  }

  /** One of the packets under way; the last for -1. */
  arrive(from: Role, pick: number): void {
    const flying = this.#flying[from]
    const packet = flying.at(pick < 0 ? pick : pick % Math.max(1, flying.length))
    const { ratchet } = this.ends[from === "client" ? "server" : "client"]
    if (packet === undefined) return
    const bits = packet.epoch & 3
    assert.isDefined(ratchet.receive[bits])
    if (bits !== ratchet.heardBits) {
      assert.notStrictEqual(ratchet.onOpened(this.#now, bits, packet.number, GRACE), "forged")
    }
    if (packet.frame?.type === "Rekey") assert.isUndefined(ratchet.onRekey(packet.frame, bits))
    if (packet.frame?.type === "RekeyAck") assert.notStrictEqual(ratchet.onRekeyAck(packet.frame, bits), "protocol")
  }

  /** What is under way counts as lost, whether it arrives or not. */
  lose(from: Role): void {
    for (const { frame } of this.#flying[from]) if (frame !== undefined) this.ends[from].ratchet.onLost(frame)
  }

  /** Longer than the grace, and than anything stays under way. */
  wait(): void {
    this.#now += 2 * GRACE
    for (const from of ["client", "server"] as const) {
      this.lose(from)
      this.#flying[from].length = 0
      assert.isUndefined(this.ends[from].ratchet.onTimeout(this.#now))
    }
  }

  check(): void {
    const { client, server } = this.ends
    for (const [a, b] of [
      [client, server],
      [server, client]
    ] as const) {
      assert.strictEqual(b.opens(a.ratchet.epoch & 3), a.sends())
      assert.isAtMost(b.held().length, 2)
    }
  }
}

describe("KeyRatchet: an exchange", () => {
  it("goes through its stages, the keys of both epochs held until the grace ends", () => {
    const { client, server } = ends()
    const first = [client.sends(), server.sends()]
    const question = client.ask()
    assert.strictEqual(question.epoch, 1)
    assert.deepStrictEqual(client.held(), [0])
    const answer = server.answer(question)
    assert.strictEqual(answer.epoch, 1)
    assert.deepStrictEqual([server.ratchet.epoch, server.held()], [0, [0, 1]])
    assert.strictEqual(server.sends(), first[1])
    client.take(answer)
    assert.deepStrictEqual([client.ratchet.epoch, client.held()], [1, [0, 1]])
    assert.strictEqual(server.opens(1), client.sends())
    // The asker's first packet.
    assert.strictEqual(server.ratchet.onOpened(1000, 1, 17, GRACE), "moved")
    assertAgreed(client, server)
    assert.deepStrictEqual([server.ratchet.heardBits, client.ratchet.heardBits], [1, 0])
    assert.strictEqual(client.ratchet.onOpened(1010, 1, 23, GRACE), "moved")
    assert.deepStrictEqual([server.held(), server.ratchet.deadline], [[0, 1], 1100])
    assert.deepStrictEqual([client.held(), client.ratchet.deadline], [[0, 1], 1110])
    assert.isFalse(client.ratchet.idle)
    assert.isUndefined(client.ratchet.onTimeout(1109))
    assert.deepStrictEqual(client.held(), [0, 1])
    for (const { ratchet } of [client, server]) assert.isUndefined(ratchet.onTimeout(1110))
    assert.deepStrictEqual([client.held(), server.held()], [[1], [1]])
    assert.isTrue(client.ratchet.idle && server.ratchet.idle)
    for (const key of first)
      assert.isFalse([...client.tap.live.values(), ...server.tap.live.values()].includes(key ?? ""))
  })

  it("may be asked for by either side, ten times and more, and never sees a key again", () => {
    const { client, server } = ends()
    const seen = new Set<string>()
    for (let i = 0; i < 13; i++) {
      for (const { tap } of [client, server]) for (const key of tap.live.values()) seen.add(key)
      if (i % 3 === 1) rotate(server, client, 1000 * i)
      else rotate(client, server, 1000 * i)
      assert.strictEqual(client.ratchet.epoch, i + 1)
      assertAgreed(client, server)
      assert.strictEqual(client.tap.live.size, 2)
      assert.strictEqual(server.tap.live.size, 2)
    }
    for (const { tap } of [client, server]) for (const key of tap.live.values()) seen.add(key)
    assert.strictEqual(seen.size, 2 * 14)
  })

  it("derives what the key schedule says", () => {
    const { client, server } = ends()
    const question = client.ask()
    const answer = server.answer(question)
    client.take(answer)
    const dh = client.tap.shared[0] ?? new Uint8Array(0)
    const next = KeySchedule.ratchet(primitives, FIRST.ck, dh, 1, question.key, answer.key)
    assert.strictEqual(client.sends(), hex(KeySchedule.trafficKeys(primitives, next.initiatorKey).aead))
    assert.strictEqual(client.opens(1), hex(KeySchedule.trafficKeys(primitives, next.responderKey).aead))
    assert.strictEqual(hex(client.ratchet.send.iv), hex(KeySchedule.trafficKeys(primitives, next.initiatorKey).iv))
  })

  it("a question that comes again gets the same answer, and costs no other exchange", () => {
    const { client, server } = ends()
    const question = client.ask()
    const answer = server.answer(question)
    for (let i = 0; i < 5; i++)
      assert.deepStrictEqual(server.answer({ ...question, key: question.key.slice() }), answer)
    assert.strictEqual(server.tap.exchanges, 1)
    // The answer that comes again changes nothing either.
    client.take(answer)
    assert.isUndefined(client.ratchet.onRekeyAck(answer, 0))
    assert.strictEqual(client.tap.exchanges, 1)
    assert.strictEqual(client.ratchet.epoch, 1)
  })

  it("frames are sent again while they matter, and not a moment longer", () => {
    const { client, server } = ends()
    const question = client.ask()
    assert.isUndefined(client.ratchet.pollFrame())
    client.ratchet.onLost(question)
    assert.strictEqual(client.ratchet.pollFrame(), question)
    const answer = server.answer(question)
    server.ratchet.onLost(answer)
    assert.isTrue(server.ratchet.due)
    assert.strictEqual(server.ratchet.pollFrame(), answer)
    client.take(answer)
    client.ratchet.onLost(question)
    assert.isFalse(client.ratchet.due)
    server.ratchet.onOpened(0, 1, 5, GRACE)
    server.ratchet.onLost(answer)
    assert.isFalse(server.ratchet.due)
    // What was due when it went out of date is not sent.
    const later = ends()
    const due = later.client.ask()
    const reply = later.server.answer(due)
    later.client.ratchet.onLost(due)
    later.client.take(reply)
    assert.isUndefined(later.client.ratchet.pollFrame())
  })

  it("out of date is ignored; ahead of time, unasked, or with other bits is an offence", () => {
    const { client, server } = ends()
    const first = client.ask()
    const ack = server.answer(first)
    client.take(ack)
    server.ratchet.onOpened(0, 1, 9, GRACE)
    client.ratchet.onOpened(0, 1, 9, GRACE)
    assert.isUndefined(server.ratchet.onRekey(first, 0))
    assert.isUndefined(server.ratchet.onRekey(rekey(1, 77), 0))
    assert.isUndefined(client.ratchet.onRekeyAck(ack, 0))
    for (const { ratchet } of [client, server]) ratchet.onTimeout(GRACE)
    for (const [epoch, bits] of [
      [3, 2],
      [2, 0],
      [2, 2],
      [1, 1],
      [0, 0],
      [2 ** 32 - 1, 2],
      [6, 1]
    ] as const) {
      assert.strictEqual(server.ratchet.onRekey(rekey(epoch), bits), "protocol", `REKEY ${epoch} in ${bits}`)
      assert.strictEqual(client.ratchet.onRekeyAck(rekeyAck(epoch), bits), "protocol", `REKEY_ACK ${epoch} in ${bits}`)
    }
    assert.strictEqual(client.ratchet.onRekeyAck(rekeyAck(2), 1), "protocol")
    assert.strictEqual(server.ratchet.epoch, 1)
    assert.strictEqual(server.tap.exchanges, 1)
  })

  it("another question for the same epoch is an offence", () => {
    const { server } = ends()
    server.answer(rekey(1, 5))
    assert.strictEqual(server.ratchet.onRekey(rekey(1, 6), 0), "protocol")
  })

  it("refuses points that give nothing", () => {
    for (const key of [new Uint8Array(32), Uint8Array.of(1, ...new Uint8Array(31)), new Uint8Array(31)]) {
      const { client, server } = ends()
      assert.strictEqual(server.ratchet.onRekey({ type: "Rekey", epoch: 1, key }, 0), "protocol")
      assert.deepStrictEqual([server.held(), server.ratchet.due], [[0], false])
      client.ask()
      assert.strictEqual(client.ratchet.onRekeyAck({ type: "RekeyAck", epoch: 1, key }, 0), "protocol")
      assert.strictEqual(client.ratchet.epoch, 0)
    }
    // The same for a question that had to wait.
    const { client, server } = ends()
    client.take(server.answer(client.ask()))
    server.ratchet.onOpened(0, 1, 3, GRACE)
    assert.isUndefined(server.ratchet.onRekey({ type: "Rekey", epoch: 2, key: new Uint8Array(32) }, 1))
    assert.strictEqual(server.ratchet.onTimeout(GRACE), "protocol")
  })
})

describe("KeyRatchet: both at once", () => {
  it("crossed questions: the server drops its own and answers the client's", () => {
    const { client, server } = ends()
    const [ours, theirs] = [client.ask(), server.ask()]
    assert.isUndefined(client.ratchet.onRekey(theirs, 0))
    assert.isFalse(client.ratchet.due)
    const answer = server.answer(ours)
    client.take(answer)
    // The server's question, sent once more, comes too late.
    server.ratchet.onLost(theirs)
    assert.isFalse(server.ratchet.due)
    assert.isUndefined(client.ratchet.onRekey(theirs, 0))
    server.ratchet.onOpened(0, 1, 3, GRACE)
    client.ratchet.onOpened(0, 1, 3, GRACE)
    assertAgreed(client, server)
    assert.isUndefined(client.ratchet.onRekey(theirs, 0))
    assert.deepStrictEqual([client.tap.exchanges, server.tap.exchanges], [1, 1])
    assert.isFalse(client.ratchet.wanted || server.ratchet.wanted)
  })

  it("a question within the grace is answered at its end, once", () => {
    const { client, server } = ends()
    client.take(server.answer(client.ask()))
    server.ratchet.onOpened(0, 1, 3, GRACE)
    client.ratchet.onOpened(0, 1, 3, 10)
    client.ratchet.onTimeout(10)
    const question = client.ask()
    for (let i = 0; i < 3; i++) assert.isUndefined(server.ratchet.onRekey(question, 1))
    assert.strictEqual(server.ratchet.onRekey(rekey(2, 8), 1), "protocol")
    assert.isFalse(server.ratchet.due)
    server.ratchet.request()
    server.ratchet.begin()
    assert.isFalse(server.ratchet.due)
    assert.isUndefined(server.ratchet.onTimeout(GRACE))
    const answer = server.ratchet.pollFrame()
    assert.strictEqual(answer?.type, "RekeyAck")
    assert.deepStrictEqual(server.held(), [1, 2])
    assert.isFalse(server.ratchet.wanted)
    client.take(answer as Frame.RekeyAck)
    server.ratchet.onOpened(GRACE, 2, 9, GRACE)
    assertAgreed(client, server)
  })

  it("nobody asks during an exchange or within the grace; a wish made there is kept", () => {
    const { client, server } = ends()
    const question = client.ask()
    client.ratchet.request()
    assert.isFalse(client.ratchet.wanted)
    const answer = server.answer(question)
    server.ratchet.request()
    assert.isFalse(server.ratchet.wanted)
    client.take(answer)
    server.ratchet.onOpened(0, 1, 3, GRACE)
    server.ratchet.request()
    server.ratchet.begin()
    assert.isTrue(server.ratchet.wanted)
    assert.isFalse(server.ratchet.due)
    server.ratchet.onTimeout(GRACE)
    server.ratchet.begin()
    assert.strictEqual(server.ratchet.pollFrame()?.epoch, 2)
  })

  it("packets of the last epoch open within the grace, unless their number says that the peer had left it", () => {
    const { client, server } = ends()
    client.take(server.answer(client.ask()))
    server.ratchet.onOpened(0, 1, 50, GRACE)
    assert.strictEqual(server.ratchet.onOpened(1, 0, 49, GRACE), "late")
    assert.strictEqual(server.ratchet.onOpened(1, 0, 51, GRACE), "forged")
    assert.strictEqual(server.ratchet.deadline, GRACE)
  })

  it("whatever is lost, repeated or comes out of order: nobody seals in what the other cannot open, and both agree at last", () => {
    const step = fc.record({ side: fc.boolean(), what: fc.nat({ max: 12 }), pick: fc.nat({ max: 1000 }) })
    let furthest = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 80, maxLength: 240 }), (steps) => {
        const link = new Link()
        for (const { side, what, pick } of steps) {
          const from: Role = side ? "client" : "server"
          if (what < 2) link.ends[from].ratchet.request()
          else if (what < 5) link.transmit(from)
          else if (what < 9) link.arrive(from, pick % 2 === 0 ? -1 : pick)
          else if (what < 11) link.lose(from)
          else link.wait()
          link.check()
        }
        const { client, server } = link.ends
        const settled = () =>
          client.ratchet.idle && server.ratchet.idle && !client.ratchet.wanted && !server.ratchet.wanted
        for (let rounds = 0; !settled(); rounds++) {
          assert.isBelow(rounds, 20, "the ends do not settle")
          for (const from of ["client", "server"] as const) {
            link.lose(from)
            link.transmit(from)
            link.arrive(from, -1)
            link.check()
          }
          link.wait()
        }
        assertAgreed(client, server)
        furthest = Math.max(furthest, client.ratchet.epoch)
      }),
      { seed: 20, numRuns: 200 }
    )
    assert.isAtLeast(furthest, 3)
  })
})

describe("KeyRatchet: when", () => {
  /** When each of a hundred sessions asks for its first rotation. */
  const times = (intervalMs: number | undefined): ReadonlyArray<number> =>
    Array.from({ length: 100 }, (_, i) => {
      const { ratchet } = new End("client", { intervalMs }, `when ${i}`)
      let now = 0
      while (!ratchet.wanted) {
        now = ratchet.deadline
        assert.isTrue(Number.isFinite(now))
        ratchet.onTimeout(now)
      }
      assert.strictEqual(ratchet.deadline, NEVER)
      return now
    })

  it("hourly, a tenth more or less", () => {
    const all = times(undefined)
    assert.isAtLeast(Math.min(...all), 0.9 * REKEY_INTERVAL_MS)
    assert.isAtMost(Math.max(...all), 1.1 * REKEY_INTERVAL_MS)
    assert.isBelow(Math.min(...all), 0.93 * REKEY_INTERVAL_MS)
    assert.isAbove(Math.max(...all), 1.07 * REKEY_INTERVAL_MS)
    const mean = all.reduce((a, b) => a + b) / all.length
    assert.approximately(mean, REKEY_INTERVAL_MS, 0.02 * REKEY_INTERVAL_MS)
    assert.isTrue(times(5000).every((at) => at >= 4500 && at <= 5500))
  })

  it("never, where that is wanted; anew after each rotation", () => {
    assert.strictEqual(new End("client", { intervalMs: NEVER }).ratchet.deadline, NEVER)
    const { client, server } = ends({ intervalMs: 10_000 })
    rotate(client, server, 50_000)
    for (const { ratchet } of [client, server]) assert.strictEqual(ratchet.deadline, 59_000)
  })

  it("a late owner rotates once, not once for each interval missed", () => {
    const { ratchet } = new End("client", { intervalMs: 1000 })
    ratchet.onTimeout(1_000_000)
    assert.isTrue(ratchet.wanted)
    assert.strictEqual(ratchet.deadline, NEVER)
  })

  it("at 2^22 packets and at 1 GiB of one key; never beyond 2^23 packets", () => {
    const { ratchet } = new End("client")
    assert.deepStrictEqual([ratchet.packetMark, ratchet.byteMark], [4_194_304, 1_073_741_824])
    assert.deepStrictEqual([REKEY_PACKETS, REKEY_BYTES], [4_194_304, 1_073_741_824])
    assert.strictEqual(ratchet.onWorn(REKEY_PACKETS), "worn")
    assert.isTrue(ratchet.wanted)
    assert.deepStrictEqual([ratchet.packetMark, ratchet.byteMark], [MAX_KEY_PACKETS, NEVER])
    assert.strictEqual(ratchet.onWorn(MAX_KEY_PACKETS), "spent")
    ratchet.restart(5_000_000, 7_000_000_000)
    assert.deepStrictEqual([ratchet.packetMark, ratchet.byteMark], [9_194_304, 8_073_741_824])
  })
})

const isFirst = (secret: Uint8Array): boolean => [FIRST.client, FIRST.server].some((key) => hex(key) === hex(secret))

describe("KeyRatchet: secrets", () => {
  it("an eavesdropper with all of one end's state before, and every frame, gets no further", () => {
    const { client, server } = ends()
    const before = { ck: FIRST.ck, client: FIRST.client, server: FIRST.server }
    const question = client.ask()
    const answer = server.answer(question)
    client.take(answer)
    const real = [client.sends(), server.opens(1)]
    const known = [before.ck, before.client, before.server, question.key, answer.key, new Uint8Array(32)]
    const derive = (dh: Uint8Array): string => {
      const next = KeySchedule.ratchet(primitives, before.ck, dh, 1, question.key, answer.key)
      return hex(KeySchedule.trafficKeys(primitives, next.initiatorKey).aead)
    }
    for (const guess of known) {
      assert.isFalse(real.includes(derive(guess)))
      for (const point of [question.key, answer.key]) {
        const dh = primitives.dh(guess, point)
        if (dh !== undefined) assert.isFalse(real.includes(derive(dh)))
      }
    }
    // With the one thing that never left either end it would.
    const shared = client.tap.shared[0] ?? new Uint8Array(0)
    assert.isTrue(real.every((key) => key === derive(shared)))
    // And the keys go back to it alone: the same chain with another shared secret leads elsewhere.
    const other = shared.slice()
    other[31] = (other[31] as number) ^ 1
    assert.isFalse(real.includes(derive(other)))
  })

  it("overwrites everything that went before", () => {
    const { client, server } = ends()
    for (let i = 0; i < 3; i++) rotate(client, server, 1000 * i)
    const known = [FIRST.client, FIRST.server].map((key) => hex(KeySchedule.trafficKeys(primitives, key).aead))
    for (const { tap, ratchet } of [client, server]) {
      // Two packet keys, their IVs, and one chaining key, which no derivation has used yet.
      assert.strictEqual(tap.live.size, 2)
      const left = new Set(tap.secrets.filter((secret) => secret.some((byte) => byte !== 0)))
      const ivs = [ratchet.send.iv, ratchet.receive[3]?.iv]
      const ours = [...left].filter((secret) => !ivs.includes(secret))
      // The first keys were made by the test, and stay with it.
      const first = ours.filter((secret) => secret.length === 12 || isFirst(secret) || known.includes(hex(secret)))
      assert.deepStrictEqual(ours.filter((secret) => !first.includes(secret)).map(hex), [])
      assert.isAtLeast(tap.secrets.length, 3 * 10)
    }
  })

  it("wipes in every stage", () => {
    const stages: ReadonlyArray<(client: End, server: End) => void> = [
      () => undefined,
      (client) => void client.ask(),
      (client, server) => void server.answer(client.ask()),
      (client, server) => client.take(server.answer(client.ask())),
      (client, server) => {
        client.take(server.answer(client.ask()))
        server.ratchet.onOpened(0, 1, 1, GRACE)
        server.ratchet.onRekey(rekey(2), 1)
      },
      (client, server) => rotate(client, server)
    ]
    for (const stage of stages) {
      const { client, server } = ends()
      stage(client, server)
      for (const { ratchet, tap, held } of [
        { ...client, held: () => client.held() },
        { ...server, held: () => server.held() }
      ]) {
        const { iv } = ratchet.send
        ratchet.wipe()
        ratchet.wipe()
        assert.strictEqual(tap.live.size, 0)
        assert.deepStrictEqual(held(), [])
        assert.isTrue(iv.every((byte) => byte === 0))
        assert.deepStrictEqual([ratchet.deadline, ratchet.due, ratchet.wanted], [NEVER, false, false])
      }
    }
  })
})
