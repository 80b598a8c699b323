import * as crypto from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { MAX_PACKET_NUMBER } from "../../src/domain/protocol/Constants.ts"
import * as Packet from "../../src/domain/protocol/Packet.ts"
import type { PacketKey } from "../../src/domain/protocol/Primitives.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import * as Packets from "./Packets.ts"

interface Material {
  readonly key: Uint8Array
  readonly iv: Uint8Array
  readonly header: Uint8Array
}

/** Bytes that a label decides. */
const bytesFrom = (label: string, length: number): Uint8Array =>
  new Uint8Array(crypto.hkdfSync("sha256", "packet test", "", label, length))

const material = (label: string): Material => ({
  key: bytesFrom(`${label} key`, 32),
  iv: bytesFrom(`${label} iv`, 12),
  header: bytesFrom(`${label} header`, 32)
})

const FORTH = material("forth")
const BACK = material("back")
const CID = bytesFrom("connection id", 8)

const keysOf = ({ iv, key }: Material): Packet.DirectionKeys => ({ packet: primitives.packetKey(key), iv })
const sealerOf = ({ header }: Material) => new Packets.Sealer(primitives.maskKey(header))
const openerOf = ({ header }: Material) => new Packets.Opener(primitives.maskKey(header))

/** The datagram as DESIGN has it, straight from node:crypto: BigInt, fresh ciphers, nothing reused. */
const slowSeal = (
  { header, iv, key }: Material,
  epoch: number,
  connectionId: Uint8Array,
  packetNumber: number,
  plaintext: Uint8Array
): Buffer => {
  const unmasked = Buffer.alloc(8)
  unmasked.writeBigUInt64BE((BigInt(epoch % 4) << 62n) | BigInt(packetNumber))
  const nonce = Buffer.from(iv)
  nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ BigInt(packetNumber), 4)
  const aead = crypto.createCipheriv("aes-256-gcm", key, nonce, { authTagLength: 16 })
  aead.setAAD(Buffer.concat([connectionId, unmasked]))
  const sealed = Buffer.concat([aead.update(plaintext), aead.final(), aead.getAuthTag()])
  const block = crypto.createCipheriv("aes-256-ecb", header, null)
  const mask = block.update(sealed.subarray(0, 16))
  const masked = unmasked.map((byte, i) => byte ^ (mask[i] as number))
  return Buffer.concat([connectionId, masked, sealed])
}

const packetNumbers = fc.oneof(
  fc.integer({ min: 0, max: MAX_PACKET_NUMBER }),
  fc.nat({ max: 1000 }),
  fc.constantFrom(0, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 48, MAX_PACKET_NUMBER)
)
const blocks = fc
  .integer({ min: 1, max: 80 })
  .chain((count) => fc.uint8Array({ minLength: 16 * count, maxLength: 16 * count }))
const epochs = fc.nat({ max: 0xffffffff })

describe("Packet", () => {
  it("is byte for byte the slow reference, and opens again", () => {
    const keys = keysOf(FORTH)
    const opener = openerOf(FORTH)
    fc.assert(
      fc.property(
        epochs,
        packetNumbers,
        blocks,
        fc.uint8Array({ minLength: 8, maxLength: 8 }),
        (epoch, packetNumber, plaintext, connectionId) => {
          const datagram = sealerOf(FORTH).seal(keys, epoch, connectionId, packetNumber, plaintext)
          const expected = slowSeal(FORTH, epoch, connectionId, packetNumber, plaintext)
          assert.strictEqual(Buffer.compare(datagram, expected), 0)
          assert.strictEqual(datagram.length, plaintext.length + Packet.OVERHEAD)
          const header = opener.header(datagram)
          assert.strictEqual(header?.epochBits, epoch % 4)
          assert.strictEqual(header?.packetNumber, packetNumber)
          assert.deepStrictEqual(opener.open(keys, datagram), plaintext)
        }
      ),
      { seed: 9001, numRuns: 500 }
    )
  })

  it("is a buffer of its own, each time", () => {
    const sealer = sealerOf(FORTH)
    const keys = keysOf(FORTH)
    const plaintext = new Uint8Array(32).fill(7)
    const first = sealer.seal(keys, 0, CID, 0, plaintext)
    const kept = first.slice()
    const second = sealer.seal(keys, 0, CID, 1, plaintext)
    assert.notStrictEqual(first.buffer, second.buffer)
    assert.strictEqual(first.buffer.byteLength, first.length)
    assert.deepStrictEqual(first, kept)
    assert.isTrue(plaintext.every((byte) => byte === 7))
  })

  it("opens without a call of header, after one for another datagram, and under the second key tried", () => {
    const sealer = sealerOf(FORTH)
    const keys = keysOf(FORTH)
    const a = sealer.seal(keys, 0, CID, 10, new Uint8Array(16).fill(1))
    const b = sealer.seal(keys, 3, CID, 11, new Uint8Array(16).fill(2))
    const opener = openerOf(FORTH)
    assert.strictEqual(opener.open(keys, a)?.[0], 1)
    opener.header(a)
    assert.strictEqual(opener.open(keys, b)?.[0], 2)
    assert.strictEqual(opener.packetNumber, 11)
    assert.strictEqual(opener.epochBits, 3)
    assert.isUndefined(opener.open(keysOf(BACK), b))
    assert.strictEqual(opener.open(keys, b)?.[0], 2)
  })

  it("masks and unmasks bursts in one call each, as one by one", () => {
    let calls = 0
    const inner = primitives.maskKey(FORTH.header)
    const counted = {
      mask: (samples: Uint8Array, count: number) => {
        calls++
        return inner.mask(samples, count)
      },
      wipe: inner.wipe
    }
    const keys = keysOf(FORTH)
    const size = 64
    const burst = new Uint8Array(100 * size)
    const sealer = new Packet.Sealer(counted)
    for (let i = 0; i < 100; i++) sealer.seal(keys, 1, CID, i, burst, i * size, (i + 1) * size)
    sealer.mask()
    sealer.mask()
    assert.strictEqual(calls, 2, "64 at a time")
    const one = sealerOf(FORTH)
    const plaintext = new Uint8Array(size - Packet.OVERHEAD)
    const datagrams = Array.from({ length: 100 }, (_, i) => ({ bytes: burst.slice(i * size, (i + 1) * size) }))
    for (const [i, { bytes }] of datagrams.entries()) {
      assert.deepStrictEqual(bytes, one.seal(keys, 1, CID, i, plaintext))
    }
    const opener = new Packet.Opener(counted)
    for (const [from, to] of [
      [0, 64],
      [64, 100]
    ] as const) {
      opener.prepare(datagrams, from, to)
      for (let i = from; i < to; i++) {
        const { bytes } = datagrams[i] as { bytes: Uint8Array }
        assert.strictEqual(opener.header(bytes, i - from)?.packetNumber, i)
        assert.isTrue(opener.open(keys, bytes))
        assert.deepStrictEqual(bytes.subarray(16, -16), plaintext)
      }
    }
    assert.strictEqual(calls, 4)
  })

  it("unmasks a batch in which some are no packets", () => {
    const keys = keysOf(FORTH)
    const good = sealerOf(FORTH).seal(keys, 0, CID, 9, new Uint8Array(32).fill(5))
    const batch = [{ bytes: new Uint8Array(3) }, { bytes: good }, { bytes: new Uint8Array(47) }]
    const opener = new Packet.Opener(primitives.maskKey(FORTH.header))
    opener.prepare(batch, 0, 3)
    assert.isUndefined(opener.header(new Uint8Array(3), 0))
    assert.strictEqual(opener.header(good, 1)?.packetNumber, 9)
    assert.isTrue(opener.open(keys, good))
  })

  it("fails for every flipped bit and every changed byte", () => {
    const keys = keysOf(FORTH)
    const datagram = sealerOf(FORTH).seal(keys, 1, CID, 77, bytesFrom("plaintext", 48))
    const opener = openerOf(FORTH)
    const forged = datagram.slice()
    for (let at = 0; at < datagram.length; at++) {
      for (const flip of [1, 2, 4, 8, 16, 32, 64, 128, 255]) {
        forged[at] = (datagram[at] as number) ^ flip
        opener.header(forged)
        assert.isUndefined(opener.open(keys, forged), `byte ${at} flipped by ${flip}`)
      }
      forged[at] = datagram[at] as number
    }
    opener.header(forged)
    assert.isDefined(opener.open(keys, forged))
  })

  it("fails for a reflected packet, another session's keys, and either half of another's", () => {
    const keys = keysOf(FORTH)
    const datagram = sealerOf(FORTH).seal(keys, 0, CID, 5, new Uint8Array(64))
    assert.isUndefined(openerOf(BACK).open(keysOf(BACK), datagram))
    assert.isUndefined(openerOf(BACK).open(keys, datagram))
    assert.isUndefined(openerOf(FORTH).open(keysOf(BACK), datagram))
    assert.isUndefined(openerOf(FORTH).open({ packet: keys.packet, iv: BACK.iv }, datagram))
    assert.isDefined(openerOf(FORTH).open(keys, datagram))
  })

  it("refuses lengths that no packet has", () => {
    const opener = openerOf(FORTH)
    const keys = keysOf(FORTH)
    for (const length of [0, 1, 8, 15, 16, 31, 32, 47, 49, 63, 1199, 65_507, 65_535, 65_536, 70_000]) {
      const datagram = new Uint8Array(length).fill(0x42)
      assert.isUndefined(opener.header(datagram), `${length} bytes`)
      assert.isUndefined(opener.open(keys, datagram))
    }
    const longest = sealerOf(FORTH).seal(keys, 0, CID, 1, new Uint8Array(65_520 - Packet.OVERHEAD))
    assert.strictEqual(opener.open(keys, longest)?.length, 65_520 - Packet.OVERHEAD)
    const shortest = sealerOf(FORTH).seal(keys, 0, CID, 1, new Uint8Array(16))
    assert.strictEqual(shortest.length, Packet.MIN_LENGTH)
    assert.strictEqual(opener.open(keys, shortest)?.length, 16)
  })

  it("refuses counters beyond the limit though they authenticate", () => {
    const opener = openerOf(FORTH)
    const keys = keysOf(FORTH)
    for (const packetNumber of [MAX_PACKET_NUMBER + 1, MAX_PACKET_NUMBER + 2 ** 32, 2 ** 53, 2 ** 61]) {
      const datagram = slowSeal(FORTH, 2, CID, packetNumber, new Uint8Array(16))
      assert.isUndefined(opener.header(datagram), `${packetNumber}`)
      assert.isUndefined(opener.open(keys, datagram))
    }
    assert.isDefined(opener.open(keys, slowSeal(FORTH, 2, CID, MAX_PACKET_NUMBER, new Uint8Array(16))))
  })

  it("never throws on random bytes", () => {
    const opener = openerOf(FORTH)
    const keys = keysOf(FORTH)
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), blocks, (any, padded) => {
        assert.isUndefined(opener.open(keys, any))
        assert.isUndefined(opener.open(keys, padded))
      }),
      { seed: 9001, numRuns: 1000 }
    )
  })
})

describe("Sealer", () => {
  it("uses no nonce twice, over epochs and connection ids", () => {
    const nonces = new Set<string>()
    const inner = primitives.packetKey(FORTH.key)
    const packet: PacketKey = {
      ...inner,
      seal: (nonce, buffer, start, end) => {
        nonces.add(Buffer.from(nonce).toString("hex"))
        inner.seal(nonce, buffer, start, end)
      }
    }
    const sealer = sealerOf(FORTH)
    const numbers = [...Array(500).keys(), 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 40, MAX_PACKET_NUMBER]
    for (const [i, packetNumber] of numbers.entries()) {
      sealer.seal({ packet, iv: FORTH.iv }, i >> 4, bytesFrom(`cid ${i >> 5}`, 8), packetNumber, new Uint8Array(16))
    }
    assert.strictEqual(nonces.size, numbers.length)
  })

  it("throws for a packet number that does not rise, and burns the number of a failed attempt", () => {
    const keys = keysOf(FORTH)
    const sealer = sealerOf(FORTH)
    const plaintext = new Uint8Array(16)
    for (const packetNumber of [-1, 0.5, Number.NaN, MAX_PACKET_NUMBER + 1]) {
      assert.throws(() => sealer.seal(keys, 0, CID, packetNumber, plaintext), RangeError)
    }
    sealer.seal(keys, 0, CID, 3, plaintext)
    for (const packetNumber of [3, 2, 0]) {
      assert.throws(() => sealer.seal(keys, 1, CID, packetNumber, plaintext), RangeError)
    }
    const broken: PacketKey = {
      seal: () => {
        throw new Error("no cipher today")
      },
      open: () => false,
      wipe: () => {}
    }
    assert.throws(() => sealer.seal({ packet: broken, iv: FORTH.iv }, 0, CID, 4, plaintext), "no cipher today")
    assert.throws(() => sealer.seal(keys, 0, CID, 4, plaintext), RangeError)
    assert.isDefined(sealer.seal(keys, 0, CID, 5, plaintext))
  })

  it("throws for what it cannot put on the wire", () => {
    const keys = keysOf(FORTH)
    const sealer = sealerOf(FORTH)
    for (const length of [0, 15, 17, 65_520, 65_536]) {
      assert.throws(() => sealer.seal(keys, 0, CID, 1, new Uint8Array(length)), RangeError)
    }
    assert.throws(() => sealer.seal(keys, 0, CID.subarray(1), 1, new Uint8Array(16)), RangeError)
    assert.throws(() => sealer.seal({ ...keys, iv: new Uint8Array(8) }, 0, CID, 1, new Uint8Array(16)), RangeError)
  })
})

describe("Packet: looks", () => {
  it("shows nothing constant and nothing uneven behind the connection id", () => {
    const count = 2000
    const length = 80
    const sealer = sealerOf(FORTH)
    const keys = keysOf(FORTH)
    const plaintext = new Uint8Array(length - Packet.OVERHEAD)
    const seen = Array.from({ length }, () => new Uint32Array(256))
    for (let packetNumber = 0; packetNumber < count; packetNumber++) {
      const datagram = sealer.seal(keys, 0, CID, packetNumber, plaintext)
      for (let at = 8; at < length; at++) {
        const counts = seen[at] as Uint32Array
        const byte = datagram[at] as number
        counts[byte] = (counts[byte] as number) + 1
      }
    }
    const expected = count / 256
    for (let at = 8; at < length; at++) {
      const counts = seen[at] as Uint32Array
      let chi = 0
      for (const observed of counts) chi += (observed - expected) ** 2 / expected
      assert.isBelow(Math.max(...counts), count / 40, `byte ${at} is nearly constant`)
      // 255 degrees of freedom: mean 255, deviation 22.6. Five deviations either way, and the keys are fixed.
      assert.isBelow(chi, 255 + 5 * 22.6, `byte ${at} is uneven`)
      assert.isAbove(chi, 255 - 5 * 22.6, `byte ${at} is too even`)
    }
  })

  it("hides that packet numbers follow each other", () => {
    const sealer = sealerOf(FORTH)
    const keys = keysOf(FORTH)
    const headers = new Set<string>()
    let ones = 0
    for (let packetNumber = 0; packetNumber < 2000; packetNumber++) {
      const datagram = sealer.seal(keys, 0, CID, packetNumber, new Uint8Array(16))
      headers.add(Buffer.from(datagram.subarray(8, 16)).toString("hex"))
      ones += (datagram[8] as number) >>> 7
    }
    assert.strictEqual(headers.size, 2000)
    // The epoch's upper bit is always 0 and appears as a fair coin: 1000 +- 5 deviations of 22.4.
    assert.isBelow(Math.abs(ones - 1000), 112)
  })
})
