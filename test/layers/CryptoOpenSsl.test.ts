import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fc from "fast-check"
import { fromHex, hex } from "../../src/domain/protocol/Cursor.ts"
import type { PacketKey, Primitives } from "../../src/domain/protocol/Primitives.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as CryptoOpenSsl from "../../src/layers/CryptoOpenSsl.ts"
import * as Koffi from "../../src/layers/Koffi.ts"
import { Crypto } from "../../src/services/Crypto.ts"

const node = CryptoNode.primitives
const koffi = Koffi.load()
const ssl = CryptoOpenSsl.bind(koffi)
const absent = ssl === undefined ? " (skipped: koffi or OpenSSL's symbols are not here)" : ""

const OVERHEAD = 32
const RUNS = { seed: 1109, numRuns: 300 }

const bytes = (digits: string): Uint8Array => {
  const out = fromHex(digits)
  if (out === undefined) throw new Error(`no hexadecimal: ${digits}`)
  return out
}

/** The packet that the AEAD interface, checked against published vectors in CryptoNode.test.ts, makes of this one. */
const reference = (key: Uint8Array, nonce: Uint8Array, packet: Uint8Array): Uint8Array => {
  const out = packet.slice()
  const end = packet.length - 16
  node.aeadKey(key).sealInto(nonce, packet.slice(0, 16), packet.slice(16, end), out, 16)
  return out
}

const sealed = (key: PacketKey, nonce: Uint8Array, packet: Uint8Array): Uint8Array => {
  const out = packet.slice()
  key.seal(nonce, out, 0, out.length)
  return out
}

const opens = (key: PacketKey, nonce: Uint8Array, packet: Uint8Array): boolean => {
  const copy = packet.slice()
  return key.open(nonce, copy, 0, copy.length)
}

const contract = (name: string, primitives: Primitives, skip: boolean): void => {
  describe.skipIf(skip)(`packets and masks: ${name}`, () => {
    it("a published case with 16 bytes of associated data (Wycheproof aes_gcm, tcId 102)", () => {
      const key = primitives.packetKey(bytes("f32364b1d339d82e4f132d8f4a0ec1ff7e746517fa07ef1a7f422f4e25a48194"))
      const nonce = bytes("5a86a50a0e8a179c734b996d")
      const header = "ab2ac7c44c60bdf8228c7884adb20184"
      const text = "43891bccb522b1e72a6b53cf31c074e9d6c2df8e"
      const packet = bytes(header + text + "00".repeat(16))
      key.seal(nonce, packet, 0, packet.length)
      assert.strictEqual(
        hex(packet),
        `${header}43dda832e942e286da314daa99bef5071d9d2c78c3922583476ced575404ddb85dd8cd44`
      )
      assert.isTrue(key.open(nonce, packet, 0, packet.length))
      assert.strictEqual(hex(packet.subarray(0, packet.length - 16)), header + text)
    })

    it("what AES-256-GCM makes of any packet anywhere in a buffer, and nothing around it", () => {
      const fixed = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
      fc.assert(
        fc.property(
          fixed(32),
          fixed(12),
          fc.uint8Array({ minLength: OVERHEAD, maxLength: 1500 }),
          fc.nat(40),
          fc.nat(40),
          fc.boolean(),
          (secret, nonce, packet, before, after, pooled) => {
            const length = before + packet.length + after
            const buffer = pooled ? Buffer.allocUnsafe(length) : new Uint8Array(length)
            buffer.fill(0xee)
            buffer.set(packet, before)
            const end = before + packet.length
            const key = primitives.packetKey(secret)
            key.seal(nonce, buffer, before, end)
            const expected = reference(secret, nonce, packet)
            assert.strictEqual(hex(buffer.subarray(before, end)), hex(expected))
            assert.isTrue(key.open(nonce, buffer, before, end))
            assert.strictEqual(hex(buffer.subarray(before, end - 16)), hex(packet.subarray(0, packet.length - 16)))
            assert.isTrue(buffer.subarray(0, before).every((byte) => byte === 0xee))
            assert.isTrue(buffer.subarray(end).every((byte) => byte === 0xee))
            key.wipe()
          }
        ),
        RUNS
      )
    })

    it("every length of plaintext in steps of 16 to 4,096 bytes, and the longest", () => {
      const random = CryptoNode.entropySeeded("lengths")
      const secret = random(32)
      const key = primitives.packetKey(secret)
      const lengths = Array.from({ length: 257 }, (_, i) => i * 16).concat(16_384, 65_456, 65_472, 65_504)
      for (const length of lengths) {
        const packet = random(length + OVERHEAD)
        const nonce = random(12)
        const out = sealed(key, nonce, packet)
        assert.isTrue(node.equal(out, reference(secret, nonce, packet)), `${length} bytes`)
        assert.isTrue(opens(key, nonce, out), `${length} bytes`)
      }
    })

    it("refuses every flipped bit of header, text, tag and nonce, and opens the next good one", () => {
      const random = CryptoNode.entropySeeded("flips")
      const key = primitives.packetKey(random(32))
      const nonce = random(12)
      const packet = sealed(key, nonce, random(OVERHEAD + 48))
      for (const part of [packet, nonce]) {
        for (let bit = 0; bit < part.length * 8; bit++) {
          part[bit >> 3] = (part[bit >> 3] as number) ^ (1 << (bit & 7))
          assert.isFalse(opens(key, nonce, packet), `bit ${bit}`)
          part[bit >> 3] = (part[bit >> 3] as number) ^ (1 << (bit & 7))
          assert.isTrue(opens(key, nonce, packet), `after bit ${bit}`)
        }
      }
    })

    it("refuses what was cut short, and other keys", () => {
      const random = CryptoNode.entropySeeded("cut")
      const key = primitives.packetKey(random(32))
      const nonce = random(12)
      const packet = sealed(key, nonce, random(OVERHEAD + 32))
      for (let end = OVERHEAD; end < packet.length; end++) assert.isFalse(opens(key, nonce, packet.subarray(0, end)))
      assert.isFalse(opens(primitives.packetKey(random(32)), nonce, packet))
      assert.isTrue(opens(key, nonce, packet))
    })

    it("keeps many keys, directions and buffers apart", () => {
      const random = CryptoNode.entropySeeded("many")
      const keys = Array.from({ length: 40 }, () => {
        const secret = random(32)
        return { secret, key: primitives.packetKey(secret), mask: primitives.maskKey(secret) }
      })
      // Small arrays begin their life on V8's heap; several views share a memory.
      const memory = new Uint8Array(64 * 40)
      for (let round = 0; round < 5; round++) {
        const packets = keys.map(({ secret }, i) => {
          const packet = random(OVERHEAD + ((i * 16) % 48))
          const nonce = random(12)
          return { packet, nonce, expected: reference(secret, nonce, packet) }
        })
        for (const [i, { key }] of keys.entries()) {
          const { expected, nonce, packet } = packets[i] as (typeof packets)[number]
          const view = memory.subarray(i * 64, i * 64 + packet.length)
          view.set(packet)
          key.seal(nonce, view, 0, view.length)
          const other = packets[(i + 7) % 40] as (typeof packets)[number]
          assert.isTrue(opens((keys[(i + 7) % 40] as (typeof keys)[number]).key, other.nonce, other.expected))
          assert.strictEqual(hex(view), hex(expected))
          key.seal(nonce, packet, 0, packet.length)
          assert.strictEqual(hex(packet), hex(expected))
          assert.isTrue(key.open(nonce, view, 0, view.length))
        }
      }
    })

    it("masks as FIPS 197 C.3 and SP 800-38A F.1.5 say, one block or many, and keeps each key's answer", () => {
      const fips = primitives.maskKey(bytes("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))
      const nist = primitives.maskKey(bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"))
      const samples = bytes(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
      )
      const masks =
        "f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870b6ed21b99ca6f4f9f153e7b1beafed1d23304b7a39f9f3ff067d8d8f9e24ecc7"
      const begin = (answer: Uint8Array, count: number): string => hex(answer.subarray(0, count * 16))
      for (const count of [4, 1, 2, 3, 0, 4]) {
        const answer = nist.mask(samples, count)
        const other = fips.mask(bytes("00112233445566778899aabbccddeeff"), 1)
        assert.strictEqual(begin(other, 1), "8ea2b7ca516745bfeafc49904b496089")
        assert.strictEqual(begin(answer, count), masks.slice(0, count * 32))
      }
      const random = CryptoNode.entropySeeded("masks")
      const secret = random(32)
      const key = primitives.maskKey(secret)
      const one = node.maskKey(secret)
      for (const count of [1, 7, 64, 65, 300]) {
        const many = random(count * 16 + 5)
        const all = Array.from({ length: count }, (_, i) => begin(one.mask(many.slice(i * 16, i * 16 + 16), 1), 1))
        assert.strictEqual(begin(key.mask(many, count), count), all.join(""))
      }
    })

    it("throws for keys of the wrong length, for masks beyond the samples, and after wipe", () => {
      for (const length of [0, 16, 31, 33]) {
        assert.throws(() => primitives.packetKey(new Uint8Array(length)), RangeError)
        assert.throws(() => primitives.maskKey(new Uint8Array(length)), RangeError)
      }
      const mask = primitives.maskKey(new Uint8Array(32))
      assert.throws(() => mask.mask(new Uint8Array(31), 2), RangeError)
      const key = primitives.packetKey(new Uint8Array(32))
      const packet = new Uint8Array(OVERHEAD)
      const nonce = new Uint8Array(12)
      key.seal(nonce, packet, 0, OVERHEAD)
      for (let again = 0; again < 2; again++) {
        key.wipe()
        mask.wipe()
        assert.throws(() => key.seal(nonce, packet, 0, OVERHEAD), /wiped/)
        assert.throws(() => key.open(nonce, packet, 0, OVERHEAD), /wiped/)
        assert.throws(() => mask.mask(new Uint8Array(16), 1), /wiped/)
      }
    })
  })
}

const decided = (found: typeof ssl): CryptoOpenSsl.Late => {
  const late = new CryptoOpenSsl.Late(() => found, 0)
  late.decide()
  return late
}

contract("node:crypto", node, false)
contract(`OpenSSL${absent}`, CryptoOpenSsl.primitivesWith(node, decided(ssl)), ssl === undefined)
contract(
  "OpenSSL from the third packet on",
  {
    ...node,
    // Each key changes over by itself.
    packetKey: (key) => CryptoOpenSsl.primitivesWith(node, new CryptoOpenSsl.Late(() => ssl, 2)).packetKey(key),
    maskKey: CryptoOpenSsl.primitivesWith(node, new CryptoOpenSsl.Late(() => ssl, 2)).maskKey
  },
  false
)

describe.skipIf(ssl === undefined)(`OpenSSL's contexts${absent}`, () => {
  if (ssl === undefined) return

  it("reads and writes nothing outside the buffer it is given", () => {
    const key = ssl.packetKey(new Uint8Array(32))
    const nonce = new Uint8Array(12)
    const buffer = new Uint8Array(100)
    const bad: ReadonlyArray<readonly [number, number]> = [
      [-1, 60],
      [0, 101],
      [90, 130],
      [0, 31],
      [60, 20],
      [Number.NaN, 60],
      [0, Number.NaN],
      [0, Number.POSITIVE_INFINITY],
      [Number.NEGATIVE_INFINITY, 60]
    ]
    for (const [start, end] of bad) {
      assert.throws(() => key.seal(nonce, buffer, start, end), RangeError)
      assert.throws(() => key.open(nonce, buffer, start, end), RangeError)
    }
    for (const length of [0, 11, 13]) assert.throws(() => key.seal(new Uint8Array(length), buffer, 0, 64), RangeError)
    assert.isTrue([...buffer].every((byte) => byte === 0))
    key.seal(nonce, buffer, 0, 64)
    structuredClone(buffer, { transfer: [buffer.buffer] })
    assert.throws(() => key.seal(nonce, buffer, 0, 64), RangeError)
    const mask = ssl.maskKey(new Uint8Array(32))
    for (const count of [-1, 0.5, 3, Number.NaN]) assert.throws(() => mask.mask(new Uint8Array(47), count), RangeError)
    key.wipe()
    mask.wipe()
  })

  it("frees the context of a wiped key, once", () => {
    const before = ssl.live
    const keys = Array.from({ length: 100 }, (_, i) => {
      const secret = new Uint8Array(32).fill(i)
      return [ssl.packetKey(secret), ssl.maskKey(secret)]
    }).flat()
    assert.strictEqual(ssl.live, before + 200)
    assert.throws(() => ssl.packetKey(new Uint8Array(31)), RangeError)
    for (const key of keys) {
      key.wipe()
      key.wipe()
    }
    assert.strictEqual(ssl.live, before)
  })

  it("frees the context of a forgotten key", async () => {
    setFlagsFromString("--expose-gc")
    const collect: unknown = runInNewContext("gc")
    if (typeof collect !== "function") throw new Error("no collector")
    const before = ssl.live
    for (let i = 0; i < 500; i++) {
      ssl.packetKey(new Uint8Array(32))
      ssl.maskKey(new Uint8Array(32))
    }
    assert.isAtLeast(ssl.live, before + 500)
    // The finalizers run in turns of the event loop of their own.
    for (let turn = 0; turn < 100 && ssl.live > before; turn++) {
      collect()
      await new Promise((resume) => setImmediate(resume))
    }
    assert.isAtMost(ssl.live, before)
  })

  it("leaves node:crypto alone after refusals", () => {
    const key = ssl.packetKey(new Uint8Array(32))
    for (let i = 0; i < 100; i++)
      assert.isFalse(key.open(new Uint8Array(12), new Uint8Array(OVERHEAD + i), 0, OVERHEAD + i))
    const random = CryptoNode.entropySeeded("after")
    const pair = node.keyPair(random(32))
    assert.strictEqual(node.dh(random(32), pair.publicKey)?.length, 32)
    key.wipe()
  })
})

describe("when OpenSSL takes over", () => {
  const nonce = new Uint8Array(12)
  const secret = new Uint8Array(32).fill(7)

  it("after so many packets, for keys old and new, and asks once", () => {
    let asked = 0
    const late = new CryptoOpenSsl.Late(() => {
      asked++
      return ssl
    }, 5)
    const primitives = CryptoOpenSsl.primitivesWith(node, late)
    const before = ssl?.live ?? 0
    const keys = [primitives.packetKey(secret), primitives.packetKey(secret)] as const
    const mask = primitives.maskKey(secret)
    const expected = hex(reference(secret, nonce, new Uint8Array(64)))
    for (let i = 0; i < 5; i++) assert.strictEqual(hex(sealed(keys[0], nonce, new Uint8Array(64))), expected)
    mask.mask(new Uint8Array(16), 1)
    assert.deepStrictEqual([asked, late.decision, ssl?.live ?? 0], [0, undefined, before])
    for (const key of keys) {
      assert.strictEqual(hex(sealed(key, nonce, new Uint8Array(64))), expected)
      assert.isTrue(opens(key, nonce, bytes(expected)))
    }
    mask.mask(new Uint8Array(16), 1)
    assert.deepStrictEqual([asked, late.decision], [1, ssl ?? "none"])
    const third = primitives.packetKey(secret)
    assert.strictEqual(hex(sealed(third, nonce, new Uint8Array(64))), expected)
    if (ssl !== undefined) assert.strictEqual(ssl.live, before + 4)
    for (const key of [...keys, mask, third]) key.wipe()
    assert.strictEqual(ssl?.live ?? 0, before)
    assert.strictEqual(asked, 1)
  })

  it("never for a key wiped before", () => {
    const late = new CryptoOpenSsl.Late(() => ssl, 0)
    const primitives = CryptoOpenSsl.primitivesWith(node, late)
    const before = ssl?.live
    const key = primitives.packetKey(secret)
    const mask = primitives.maskKey(secret)
    key.wipe()
    mask.wipe()
    late.decide()
    assert.throws(() => key.seal(nonce, new Uint8Array(64), 0, 64), /wiped/)
    assert.throws(() => mask.mask(new Uint8Array(16), 1), /wiped/)
    assert.strictEqual(ssl?.live, before)
  })

  it("not at all where koffi is missing, throws, lacks a symbol or lies; nobody notices", () => {
    assert.isUndefined(CryptoOpenSsl.bind(undefined))
    const found: Array<ReturnType<typeof CryptoOpenSsl.bind>> = [undefined]
    if (koffi !== undefined) {
      const library = koffi.load(null)
      type Native = (...args: ReadonlyArray<unknown>) => unknown
      const real = (prototype: string): Native => library.func(prototype)
      const changed = (func: (prototype: string) => Native): Koffi.Koffi => ({
        ...koffi,
        load: () => new Proxy(library, { get: (_, name) => (name === "func" ? func : undefined) })
      })
      const replaced = (which: string, by: Native): Koffi.Koffi =>
        changed((prototype) => (prototype.includes(` ${which}(`) ? by : real(prototype)))
      for (const each of [
        { ...koffi, load: () => assert.fail("no library") },
        changed((prototype) => real(prototype.replace("EVP_Cipher(", "EVP_Cipher_of_another_age("))),
        replaced("EVP_Cipher", () => 0),
        replaced("EVP_Cipher", () => -1),
        replaced("EVP_CIPHER_CTX_new", () => 0),
        replaced("EVP_CIPHER_CTX_ctrl", () => 1)
      ])
        found.push(CryptoOpenSsl.bind(each))
    }
    for (const each of found) {
      assert.isUndefined(each)
      const late = new CryptoOpenSsl.Late(() => each, 1)
      const primitives = CryptoOpenSsl.primitivesWith(node, late)
      const key = primitives.packetKey(secret)
      for (let i = 0; i < 3; i++)
        assert.strictEqual(
          hex(sealed(key, nonce, new Uint8Array(64))),
          hex(reference(secret, nonce, new Uint8Array(64)))
        )
      assert.strictEqual(late.decision, "none")
      assert.isTrue(opens(primitives.packetKey(secret), nonce, reference(secret, nonce, new Uint8Array(64))))
      key.wipe()
    }
  })

  it.effect("and the service says which it is", () =>
    Effect.gen(function* () {
      const service = yield* Crypto
      const without = CryptoOpenSsl.serviceWith(service, decided(undefined))
      assert.strictEqual(without.implementation, "node:crypto")
      if (ssl === undefined) return
      assert.strictEqual(CryptoOpenSsl.serviceWith(service, decided(ssl)).implementation, "openssl")
    }).pipe(Effect.provide(CryptoNode.layer))
  )

  it.effect("in the layer, which keeps all else of CryptoNode's", () =>
    Effect.gen(function* () {
      const service = yield* Crypto
      assert.strictEqual(service.primitives.dh, node.dh)
      assert.strictEqual(service.entropy(3).length, 3)
      assert.strictEqual(service.implementation, CryptoOpenSsl.available() ? "openssl" : "node:crypto")
      assert.strictEqual(CryptoOpenSsl.available(), ssl !== undefined)
    }).pipe(Effect.provide(CryptoOpenSsl.layer))
  )
})

describe("Koffi", () => {
  it("is asked for once, and absent when its loader throws or brings something else", () => {
    let asked = 0
    const failing = Koffi.once(() => {
      asked++
      throw new Error("no build for this system")
    })
    assert.isUndefined(failing())
    assert.isUndefined(failing())
    assert.strictEqual(asked, 1)
    for (const other of [undefined, null, 1, {}, { version: "3.3.4" }, { version: "2.9.0", load: () => 0 }])
      assert.isUndefined(Koffi.once(() => other)())
    if (koffi !== undefined) assert.strictEqual(Koffi.once(() => koffi)(), koffi)
  })
})
