import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { PADDING_BLOCK } from "../../src/domain/protocol/Constants.ts"
import { hex } from "../../src/domain/protocol/Cursor.ts"
import * as Envelope from "../../src/domain/protocol/Envelope.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"

const random = entropySeeded("envelope")
const key = primitives.aeadKey(random(32))
const id = random(8)
const nonce = random(12)

const seals = { initiation: Envelope.sealInitiation, answer: Envelope.sealAnswer }
const DIRECTIONS: ReadonlyArray<Envelope.Direction> = ["initiation", "answer"]

const message = fc.uint8Array({ maxLength: Envelope.MAX_NOISE_MESSAGE_LENGTH })

describe("Envelope", () => {
  it("carries any message that fits, in exactly 1200 bytes, id and nonce in front", () => {
    fc.assert(
      fc.property(message, fc.constantFrom(...DIRECTIONS), (noise, direction) => {
        const datagram = seals[direction](key, id, nonce, noise)
        assert.strictEqual(datagram.length, 1200)
        assert.deepStrictEqual(datagram.subarray(0, 8), id)
        assert.deepStrictEqual(datagram.subarray(8, 20), nonce)
        assert.deepStrictEqual(Envelope.open(key, direction, datagram), { nonce, message: noise })
      }),
      { seed: 1, numRuns: 200 }
    )
    assert.strictEqual(Envelope.ANSWER_LENGTH % PADDING_BLOCK, 0)
    assert.strictEqual(Envelope.MAX_NOISE_MESSAGE_LENGTH, 1162)
  })

  it("both ends of the length: nothing, and all there is room for", () => {
    for (const length of [0, 1, 255, 256, Envelope.MAX_NOISE_MESSAGE_LENGTH]) {
      const noise = random(length)
      for (const direction of DIRECTIONS) {
        const opened = Envelope.open(key, direction, seals[direction](key, id, nonce, noise))
        assert.deepStrictEqual(opened?.message, noise)
      }
    }
    assert.throws(() => Envelope.sealInitiation(key, id, nonce, random(Envelope.MAX_NOISE_MESSAGE_LENGTH + 1)))
    assert.throws(() => Envelope.sealAnswer(key, random(7), nonce, random(1)))
    assert.throws(() => Envelope.sealAnswer(key, id, random(11), random(1)))
  })

  it("every flipped bit of a datagram keeps it shut", () => {
    for (const direction of DIRECTIONS) {
      const datagram = seals[direction](key, id, nonce, random(300))
      for (let bit = 0; bit < datagram.length * 8; bit++) {
        datagram[bit >> 3] = (datagram[bit >> 3] as number) ^ (1 << (bit & 7))
        assert.isUndefined(Envelope.open(key, direction, datagram), `bit ${bit} of the ${direction}`)
        datagram[bit >> 3] = (datagram[bit >> 3] as number) ^ (1 << (bit & 7))
      }
      assert.isDefined(Envelope.open(key, direction, datagram))
    }
  })

  it("neither direction opens as the other, nor under another key", () => {
    const noise = random(100)
    assert.isUndefined(Envelope.open(key, "answer", Envelope.sealInitiation(key, id, nonce, noise)))
    assert.isUndefined(Envelope.open(key, "initiation", Envelope.sealAnswer(key, id, nonce, noise)))
    const other = primitives.aeadKey(random(32))
    assert.isUndefined(Envelope.open(other, "initiation", Envelope.sealInitiation(key, id, nonce, noise)))
  })

  it("any other length, and random bytes, are undefined and never throw", () => {
    const datagram = Envelope.sealInitiation(key, id, nonce, random(100))
    for (let length = 0; length < 1200; length++) {
      assert.isUndefined(Envelope.open(key, "initiation", datagram.subarray(0, length)))
    }
    for (const length of [1200, 1201, 1216, 65_507]) {
      for (const direction of DIRECTIONS) assert.isUndefined(Envelope.open(key, direction, random(length)))
    }
  })

  it("a length beyond the padding, sealed by whoever has the key, is undefined", () => {
    const aad = new Uint8Array([...id, 1, ...new TextEncoder().encode("clawchat/1")])
    for (const [length, opens] of [
      [1162, true],
      [1163, false],
      [0xffff, false]
    ] as const) {
      const plaintext = new Uint8Array(1164)
      plaintext.set([length >> 8, length & 0xff])
      const datagram = new Uint8Array(1200)
      datagram.set(id)
      datagram.set(nonce, 8)
      key.sealInto(nonce, aad, plaintext, datagram, 20)
      assert.strictEqual(Envelope.open(key, "initiation", datagram) !== undefined, opens, `${length}`)
    }
  })

  it("what it hands out is no view of the datagram", () => {
    const noise = random(64)
    const datagram = Buffer.from(Envelope.sealInitiation(key, id, nonce, noise))
    const opened = Envelope.open(key, "initiation", datagram)
    datagram.fill(0)
    assert.strictEqual(hex(opened?.nonce ?? datagram), hex(nonce))
    assert.strictEqual(hex(opened?.message ?? datagram), hex(noise))
  })
})
