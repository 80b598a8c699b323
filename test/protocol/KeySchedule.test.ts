import { assert, describe, it } from "@effect/vitest"
import { concat, hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as KeySchedule from "../../src/domain/protocol/KeySchedule.ts"
import { entropySeeded, primitives as p } from "../../src/layers/CryptoNode.ts"

const EMPTY = new Uint8Array(0)
const random = entropySeeded("key schedule")
const psk = random(32)
const credentialId = random(16)

describe("KeySchedule", () => {
  it("slotOf counts spans of five minutes since 1970", () => {
    assert.strictEqual(KeySchedule.slotOf(0), 0)
    assert.strictEqual(KeySchedule.slotOf(299_999), 0)
    assert.strictEqual(KeySchedule.slotOf(300_000), 1)
    assert.strictEqual(KeySchedule.slotOf(1_767_225_600_000), 5_890_752)
  })

  it("every derivation is the HKDF that its docstring writes", () => {
    const expand = (salt: Uint8Array, ikm: Uint8Array, info: Uint8Array, length: number): string =>
      hex(p.hkdf(salt, ikm, info, length))
    const slot = Uint8Array.of(0, 0, 0, 1, 0, 0, 0, 2)
    assert.strictEqual(
      hex(KeySchedule.hint(p, psk, 2 ** 32 + 2, 7)),
      expand(EMPTY, psk, concat(utf8("clawchat/1 hint"), slot, Uint8Array.of(0, 7)), 8)
    )
    const envelope = KeySchedule.envelopeKeys(p, psk)
    assert.strictEqual(hex(envelope.initiation), expand(EMPTY, psk, utf8("clawchat/1 envelope initiation"), 32))
    assert.strictEqual(hex(envelope.answer), expand(EMPTY, psk, utf8("clawchat/1 envelope answer"), 32))
    assert.strictEqual(hex(KeySchedule.prologue(credentialId)), hex(utf8("clawchat/1")) + hex(credentialId))
    const dh = random(32)
    assert.strictEqual(
      hex(KeySchedule.deviceSecret(p, psk, dh, credentialId)),
      expand(psk, dh, concat(utf8("clawchat/1 device"), credentialId), 32)
    )
    const traffic = KeySchedule.trafficKeys(p, psk)
    assert.strictEqual(hex(traffic.aead), expand(EMPTY, psk, utf8("clawchat/1 aead"), 32))
    assert.strictEqual(hex(traffic.iv), expand(EMPTY, psk, utf8("clawchat/1 iv"), 12))
    assert.strictEqual(hex(KeySchedule.headerKey(p, psk)), expand(EMPTY, psk, utf8("clawchat/1 header"), 32))
    const [ck, e1, e2] = [random(32), random(32), random(32)]
    const next = KeySchedule.ratchet(p, ck, dh, 0x01020304, e1, e2)
    assert.strictEqual(
      hex(concat(next.chainingKey, next.initiatorKey, next.responderKey)),
      expand(ck, dh, concat(utf8("clawchat/1 rekey"), Uint8Array.of(1, 2, 3, 4), e1, e2), 96)
    )
  })

  it("known answers, computed with another implementation of HKDF", () => {
    const fixed = Uint8Array.from({ length: 32 }, (_, i) => i)
    const id = Uint8Array.from({ length: 16 }, (_, i) => 0xf0 + i)
    assert.deepStrictEqual(
      {
        hint: hex(KeySchedule.hint(p, fixed, 5_890_752, 3)),
        initiation: hex(KeySchedule.envelopeKeys(p, fixed).initiation),
        answer: hex(KeySchedule.envelopeKeys(p, fixed).answer),
        device: hex(KeySchedule.deviceSecret(p, fixed, fixed, id)),
        iv: hex(KeySchedule.trafficKeys(p, fixed).iv),
        header: hex(KeySchedule.headerKey(p, fixed)),
        ratchet: hex(KeySchedule.ratchet(p, fixed, fixed, 1, fixed, fixed).responderKey)
      },
      {
        hint: "3bf0ffe27dbeb653",
        initiation: "27ac74611960795a516f2fad2ebf214e57515b035a3ea6131f16b290d89cae57",
        answer: "7236253b55ac8979ed77df03bea849a29b7050126bbe50c6c63ebef21108cff3",
        device: "c9447089547032665840ff52f3182b77dc2b7e3be61028bd19cc869c96191ddc",
        iv: "9cbf2059c8dcfa32c95ec675",
        header: "4c2fbb4b8cd6f10939b1a40fa28649176959a861d99b1edb1b5e48084667105a",
        ratchet: "a02791e8de74ca17e461529ac2419e8cb496ec0b3a5c636159f4293b8d88cf89"
      }
    )
  })

  it("hints differ by psk, slot and attempt", () => {
    const seen = new Set<string>()
    for (const key of [psk, random(32)]) {
      for (let slot = 1000; slot < 1003; slot++) {
        for (let j = 0; j < 8; j++) {
          const hint = KeySchedule.hint(p, key, slot, j)
          assert.strictEqual(hint.length, 8)
          seen.add(hex(hint))
        }
      }
    }
    assert.strictEqual(seen.size, 2 * 3 * 8)
  })

  it("a row of hints is the hints one by one", () => {
    const extracted = KeySchedule.extract(p, psk)
    for (const [slot, from, end] of [
      [5_890_752, 0, 16],
      [2 ** 32 + 2, 250, 260],
      [0, 65_534, 65_536],
      [7, 3, 3],
      [7, 4, 3]
    ] as const) {
      const wanted = Array.from({ length: Math.max(0, end - from) }, (_, i) => KeySchedule.hint(p, psk, slot, from + i))
      assert.deepStrictEqual(KeySchedule.hints(p, extracted, slot, from, end).map(hex), wanted.map(hex))
    }
  })

  it("both ends compute the device secret from their own side, and only with the right file", () => {
    const [client, server] = [p.keyPair(random(32)), p.keyPair(random(32))]
    const a = p.dh(client.privateKey, server.publicKey) ?? EMPTY
    const b = p.dh(server.privateKey, client.publicKey) ?? EMPTY
    const secret = KeySchedule.deviceSecret(p, psk, a, credentialId)
    assert.deepStrictEqual(KeySchedule.deviceSecret(p, psk, b, credentialId), secret)
    assert.notDeepEqual(KeySchedule.deviceSecret(p, random(32), a, credentialId), secret)
    assert.notDeepEqual(KeySchedule.deviceSecret(p, psk, a, random(16)), secret)
    assert.notDeepEqual(KeySchedule.deviceSecret(p, psk, random(32), credentialId), secret)
  })

  it("nothing that is derived from one key equals another thing derived from it", () => {
    const traffic = KeySchedule.trafficKeys(p, psk)
    const envelope = KeySchedule.envelopeKeys(p, psk)
    const all = [
      traffic.aead,
      traffic.iv,
      KeySchedule.headerKey(p, psk),
      envelope.initiation,
      envelope.answer,
      KeySchedule.hint(p, psk, 0, 0)
    ]
    assert.strictEqual(new Set(all.map((each) => hex(each.subarray(0, 8)))).size, all.length)
  })

  it("the ratchet is bound to chaining key, DH, epoch and both public keys, and their order", () => {
    const [ck, dh, e1, e2] = [random(32), random(32), random(32), random(32)]
    const keys = [
      KeySchedule.ratchet(p, ck, dh, 1, e1, e2),
      KeySchedule.ratchet(p, ck, dh, 1, e2, e1),
      KeySchedule.ratchet(p, ck, dh, 2, e1, e2),
      KeySchedule.ratchet(p, ck, random(32), 1, e1, e2),
      KeySchedule.ratchet(p, random(32), dh, 1, e1, e2)
    ].flatMap((each) => [each.chainingKey, each.initiatorKey, each.responderKey].map(hex))
    assert.strictEqual(new Set(keys).size, 15)
    assert.deepStrictEqual(keys.slice(0, 3), Object.values(KeySchedule.ratchet(p, ck, dh, 1, e1, e2)).map(hex))
  })
})
