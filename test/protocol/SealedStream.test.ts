import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { MAX_SEALED_DATA, MAX_SEALED_RECORD, SEALED_REKEY_MS } from "../../src/domain/protocol/Constants.ts"
import { concat, fromHex, hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import { TAG_LENGTH } from "../../src/domain/protocol/Primitives.ts"
import * as Handshake from "../../src/domain/protocol/SealedHandshake.ts"
import * as Sealed from "../../src/domain/protocol/SealedStream.ts"
import { primitives as p } from "../../src/layers/CryptoNode.ts"

const pairOf = (byte: number) => p.keyPair(new Uint8Array(32).fill(byte))
const client = pairOf(1)
const tier = pairOf(2)
const device = new Uint8Array(16).fill(7)
const header = Uint8Array.of(2, 2)
const KEY = new Uint8Array(32).fill(9)

const handshake = (
  change: {
    readonly tierKey?: Uint8Array
    readonly device?: Uint8Array
    readonly header?: Uint8Array
    readonly message1?: (bytes: Uint8Array) => Uint8Array
    readonly message2?: (bytes: Uint8Array) => Uint8Array
  } = {}
) => {
  const same = (bytes: Uint8Array) => bytes
  const initiator = new Handshake.Initiator(p, {
    device,
    header,
    identity: client,
    tierKey: change.tierKey ?? tier.publicKey,
    ephemeral: pairOf(3)
  })
  const opening = initiator.opening ?? new Uint8Array(0)
  const message1 = (change.message1 ?? same)(opening.slice(1))
  const binding = { device: change.device ?? device, header: change.header ?? header }
  const accepted = Handshake.accept(p, { ...binding, identity: tier }, message1)
  const answer = accepted?.answer(pairOf(4))
  const message2 = answer === undefined ? undefined : (change.message2 ?? same)(answer.message)
  const session = message2 === undefined ? undefined : initiator.finish(message2)
  return { opening, accepted, answer, session }
}

const sealer = (now = 0, limits?: Sealed.Limits) => new Sealed.Sealer(p, KEY.slice(), now, limits)
const unsealer = () => new Sealed.Unsealer(p, KEY.slice())

/** All that can be had from these pieces, and how it ends. */
const openAll = (pieces: ReadonlyArray<Uint8Array>, finish = true) => {
  const opener = unsealer()
  const data: Array<Uint8Array> = []
  let last: Sealed.Pulled = { type: "More" }
  const pull = () => {
    for (last = opener.pull(); last.type === "Data"; last = opener.pull()) data.push(last.bytes)
  }
  for (const piece of pieces) {
    opener.push(piece.slice())
    pull()
  }
  if (finish) last = opener.finish()
  return { data: concat(...data), last, opener }
}

const fault = (last: Sealed.Pulled): string => (last.type === "Fault" ? last.fault : last.type)

/** The records of a stream of bytes. */
const split = (bytes: Uint8Array): Array<Uint8Array> => {
  const out: Array<Uint8Array> = []
  for (let at = 0; at < bytes.length; ) {
    const end = at + 2 + (((bytes[at] as number) << 8) | (bytes[at + 1] as number))
    out.push(bytes.slice(at, end))
    at = end
  }
  return out
}

const flip = (bytes: Uint8Array, at: number, bit = 1): Uint8Array => {
  const copy = bytes.slice()
  copy[at] = (copy[at] as number) ^ bit
  return copy
}

const startsWith = (whole: Uint8Array, part: Uint8Array): boolean => hex(whole).startsWith(hex(part))

describe("SealedStream, handshake", () => {
  it("gives both the same session, and the tier the client's key", () => {
    const { accepted, answer, opening, session } = handshake()
    assert.strictEqual(opening.length, 1 + Handshake.MESSAGE_1_LENGTH)
    assert.strictEqual(answer?.message.length, Handshake.MESSAGE_2_LENGTH)
    assert.deepStrictEqual(accepted?.client, client.publicKey)
    assert.deepStrictEqual(session, answer?.session)
    assert.notStrictEqual(hex(session?.secret ?? KEY), hex(KEY))
  })

  it("does not come about with any byte of either message flipped", () => {
    for (let at = 0; at < Handshake.MESSAGE_1_LENGTH; at++) {
      // The highest bit of a public key does not count in X25519, but the hash sees it.
      for (const bit of [1, 0x80])
        assert.isUndefined(handshake({ message1: (m) => flip(m, at, bit) }).accepted, `${at}`)
    }
    for (let at = 0; at < Handshake.MESSAGE_2_LENGTH; at++) {
      for (const bit of [1, 0x80]) assert.isUndefined(handshake({ message2: (m) => flip(m, at, bit) }).session, `${at}`)
    }
    assert.isUndefined(handshake({ message1: (m) => m.subarray(1) }).accepted)
    assert.isUndefined(handshake({ message2: (m) => concat(m, Uint8Array.of(0)) }).session)
  })

  it("is bound to the tier's key, the device and the header", () => {
    assert.isUndefined(handshake({ tierKey: pairOf(5).publicKey }).accepted)
    assert.isUndefined(handshake({ device: new Uint8Array(16) }).accepted)
    assert.isUndefined(handshake({ header: Uint8Array.of(2, 3) }).accepted)
    assert.isUndefined(handshake({ tierKey: new Uint8Array(32) }).accepted)
  })

  it("gives each stream and direction keys of its own, the same at both ends, none of them before", () => {
    const { session } = handshake()
    if (session === undefined) return assert.fail("no session")
    const keys = [0, 1, 2, Handshake.MAX_NUMBER].flatMap((number) => {
      const { clientKey, tierKey } = Handshake.streamKeys(p, session, number)
      return [hex(clientKey), hex(tierKey)]
    })
    assert.strictEqual(new Set([...keys, hex(session.secret)]).size, keys.length + 1)
    const resumption = Handshake.resumption(session, 5)
    assert.strictEqual(resumption.length, 1 + Handshake.RESUME_LENGTH)
    assert.deepStrictEqual(Handshake.readResumption(resumption.subarray(1)), { id: session.id, number: 5 })
  })

  it("has the keys that the specification says", () => {
    const session = { id: new Uint8Array(16), secret: new Uint8Array(32).fill(1) }
    const expected = p.hkdf(
      new Uint8Array(0),
      session.secret,
      concat(utf8("clawchat/1 sealed stream"), fromHex("00000102") ?? new Uint8Array(0)),
      64
    )
    const { clientKey, tierKey } = Handshake.streamKeys(p, session, 0x102)
    assert.deepStrictEqual(concat(clientKey, tierKey), expected)
  })
})

describe("SealedStream, records", () => {
  it("carry what was written, however it is cut, and its end", () => {
    const chunks = fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 8 })
    const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 20 })
    fc.assert(
      fc.property(chunks, cuts, (written, lengths) => {
        const from = sealer()
        const wire = concat(...written.map((chunk) => from.seal(0, chunk)), from.close())
        const pieces: Array<Uint8Array> = []
        let at = 0
        for (const length of lengths) {
          pieces.push(wire.subarray(at, at + length))
          at += length
        }
        pieces.push(wire.subarray(at))
        const { data, last } = openAll(pieces)
        assert.deepStrictEqual(data, concat(...written))
        assert.strictEqual(last.type, "End")
      }),
      { seed: 1, numRuns: 200 }
    )
  })

  it("are padded to 16 bytes, and long data takes several, none longer than allowed", () => {
    for (const length of [1, 13, 14, 15, 30, 31, MAX_SEALED_DATA, MAX_SEALED_DATA + 1, 100_000]) {
      const text = new Uint8Array(length).fill(5)
      const wire = sealer().seal(0, text)
      const records = split(wire)
      for (const record of records) {
        assert.strictEqual((record.length - 2) % 16, 0)
        assert.isAtMost(record.length - 2, MAX_SEALED_RECORD)
      }
      assert.strictEqual(records.length, Math.ceil(length / MAX_SEALED_DATA))
      assert.deepStrictEqual(openAll([wire], false).data, text)
    }
    assert.strictEqual(sealer().seal(0, new Uint8Array(14)).length, 2 + 16 + TAG_LENGTH)
    assert.strictEqual(sealer().seal(0, new Uint8Array(0)).length, 0)
  })

  it("with any byte flipped give a fault, and nothing of that record or a later one", () => {
    const from = sealer()
    const parts = ["first", "second", "third, which is longer than a block"].map((text) => from.seal(0, utf8(text)))
    const wire = concat(...parts, from.close())
    const whole = openAll([wire]).data
    const ends: Array<number> = []
    for (const part of parts) ends.push((ends.at(-1) ?? 0) + part.length)
    const texts = ["", "first", "firstsecond", hex(whole)]
    for (let at = 0; at < wire.length; at++) {
      for (const bit of [1, 0x10, 0x80]) {
        const { data, last, opener } = openAll([flip(wire, at, bit)])
        const intact = ends.filter((end) => end <= at).length
        const expected = intact === 3 ? whole : utf8(texts[intact] as string)
        assert.deepStrictEqual(data, expected, `byte ${at}`)
        assert.include(["Forged", "Malformed", "Truncated"], fault(last), `byte ${at}`)
        opener.push(wire)
        assert.strictEqual(opener.pull().type, "Fault")
      }
    }
  })

  it("cut at any byte are cut, and never an end", () => {
    const from = sealer()
    const wire = concat(from.seal(0, utf8("some words")), from.seal(0, new Uint8Array(40)), from.close())
    const { data: whole } = openAll([wire])
    for (let length = 0; length < wire.length; length++) {
      const { data, last } = openAll([wire.subarray(0, length)])
      assert.strictEqual(fault(last), "Truncated")
      assert.isTrue(startsWith(whole, data))
    }
  })

  it("left out, repeated, moved or put in from elsewhere give a fault", () => {
    const from = sealer()
    const wire = concat(...[1, 2, 3, 4].map((n) => from.seal(0, Uint8Array.of(n))), from.close())
    const records = split(wire)
    assert.strictEqual(records.length, 5)
    const foreign = new Sealed.Sealer(p, new Uint8Array(32).fill(8), 0).seal(0, Uint8Array.of(1))
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 9 }).filter((order) => order.join() !== "0,1,2,3,4"),
        (order) => {
          const { data, last } = openAll(order.map((i) => records[i] ?? foreign))
          let good = 0
          while (order[good] === good && good < 4) good++
          assert.deepStrictEqual([...data], [1, 2, 3, 4].slice(0, good))
          assert.notStrictEqual(last.type, "End")
        }
      ),
      { seed: 2, numRuns: 500 }
    )
    assert.strictEqual(fault(openAll([wire, records[0] as Uint8Array]).last), "AfterEnd")
    assert.strictEqual(fault(openAll([wire, Uint8Array.of(0)], false).last), "AfterEnd")
  })

  it("never give data or throw for bytes of an attacker, and keep a bounded buffer", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (pieces) => {
        const { data, last } = openAll(pieces)
        assert.strictEqual(data.length, 0)
        assert.strictEqual(last.type, "Fault")
      }),
      { seed: 3, numRuns: 500 }
    )
    for (const length of [0, 16, 31, 33, 65_521, 65_535]) {
      assert.strictEqual(fault(openAll([Uint8Array.of(length >> 8, length & 255)], false).last), "Malformed")
    }
  })

  it("a whole record of the longest kind comes byte by byte", () => {
    const text = new Uint8Array(MAX_SEALED_DATA).fill(3)
    const wire = sealer().seal(0, text)
    const { data } = openAll(
      Array.from(wire, (byte) => Uint8Array.of(byte)),
      false
    )
    assert.deepStrictEqual(data, text)
  })

  it("with a plaintext that no peer writes are malformed", () => {
    const key = p.aeadKey(KEY)
    const forge = (plaintext: Uint8Array): string => {
      const out = new Uint8Array(2 + plaintext.length + TAG_LENGTH)
      out[0] = (plaintext.length + TAG_LENGTH) >> 8
      out[1] = (plaintext.length + TAG_LENGTH) & 255
      key.sealInto(new Uint8Array(12), concat(new Uint8Array(14), out.slice(0, 2)), plaintext, out, 2)
      return fault(openAll([out], false).last)
    }
    const with16 = (...bytes: ReadonlyArray<number>) => Uint8Array.from({ length: 16 }, (_, i) => bytes[i] ?? 0)
    assert.strictEqual(forge(with16(2, 14)), "End")
    assert.strictEqual(forge(with16(1, 14)), "Malformed")
    assert.strictEqual(forge(with16(0, 14)), "Malformed")
    assert.strictEqual(forge(with16(4, 14)), "Malformed")
    assert.strictEqual(forge(with16(2, 0)), "Malformed")
    assert.strictEqual(forge(with16(3, 13)), "Malformed")
    assert.strictEqual(forge(with16(1, 15)), "Malformed")
    assert.strictEqual(forge(with16(1, 255)), "Malformed")
    assert.strictEqual(forge(with16(2, 14, 1)), "Malformed")
    assert.strictEqual(forge(concat(with16(1, 16), with16())), "Malformed")
  })
})

describe("SealedStream, change of key", () => {
  const key = (text: Uint8Array) => hex(text)

  it("comes by time, bytes or records, in-band, and the old key opens nothing any more", () => {
    const by = (limits: Sealed.Limits, times: ReadonlyArray<number>) => {
      const from = sealer(0, limits)
      const parts = times.map((now) => from.seal(now, new Uint8Array(30)))
      const { data } = openAll(parts, false)
      assert.strictEqual(data.length, 30 * times.length)
      return parts.map((part) => split(part).length - 1)
    }
    const never = { rekeyMs: Number.POSITIVE_INFINITY, rekeyBytes: 1e9, rekeyRecords: 1e9 }
    assert.deepStrictEqual(by({ ...never, rekeyMs: 10 }, [0, 9, 10, 19, 20, 30]), [0, 0, 1, 0, 1, 1])
    assert.deepStrictEqual(by({ ...never, rekeyBytes: 64 }, [0, 0, 0, 0, 0]), [0, 0, 1, 0, 1])
    assert.deepStrictEqual(by({ ...never, rekeyRecords: 2 }, [0, 0, 0, 0, 0]), [0, 0, 1, 0, 1])
    assert.deepStrictEqual(by(never, [0, 1e12]), [0, 0])
  })

  it("is Noise's REKEY, and the numbers go on", () => {
    const from = sealer(0)
    const before = from.seal(0, Uint8Array.of(1))
    const [rekey, after] = split(from.seal(SEALED_REKEY_MS, Uint8Array.of(2)))
    const nonce = (n: number) => Uint8Array.from({ length: 12 }, (_, i) => (i === 11 ? n : 0))
    const next = new Uint8Array(48)
    p.aeadKey(KEY).sealInto(new Uint8Array(12).fill(255, 4), new Uint8Array(0), new Uint8Array(32), next, 0)
    const open = (record: Uint8Array | undefined, under: Uint8Array, n: number) =>
      p.aeadKey(under).open(nonce(n), concat(new Uint8Array(14), (record ?? KEY).slice(0, 2)), (record ?? KEY).slice(2))
    assert.deepStrictEqual([...(open(before, KEY, 0) ?? [])].slice(0, 3), [1, 13, 1])
    assert.deepStrictEqual([...(open(rekey, KEY, 1) ?? [])].slice(0, 3), [3, 14, 0])
    assert.isUndefined(open(after, KEY, 2))
    assert.deepStrictEqual([...(open(after, next.slice(0, 32), 2) ?? [])].slice(0, 3), [1, 13, 2])
    assert.notStrictEqual(key(next.slice(0, 32)), key(KEY))
  })

  it("wipes keys at the end, and seals nothing behind it", () => {
    const secret = KEY.slice()
    const from = new Sealed.Sealer(p, secret, 0)
    const wire = concat(from.seal(0, Uint8Array.of(1)), from.close())
    assert.deepStrictEqual(secret, new Uint8Array(32))
    assert.throws(() => from.seal(0, Uint8Array.of(1)))
    assert.throws(() => from.close())
    const other = KEY.slice()
    const to = new Sealed.Unsealer(p, other)
    to.push(wire)
    assert.strictEqual(to.pull().type, "Data")
    assert.strictEqual(to.pull().type, "End")
    assert.deepStrictEqual(other, new Uint8Array(32))
    assert.strictEqual(to.opened, 2)
  })
})
