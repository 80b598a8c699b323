import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { hex, Reader, utf8, Writer } from "../../src/domain/protocol/Cursor.ts"
import { MAX_NOISE_MESSAGE_LENGTH } from "../../src/domain/protocol/Envelope.ts"
import * as HandshakeMessage from "../../src/domain/protocol/HandshakeMessage.ts"
import * as Limits from "../../src/domain/protocol/Limits.ts"

const of = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

const within = (field: keyof Limits.Limits) =>
  fc.integer({ min: Limits.BOUNDS[field][0], max: Limits.BOUNDS[field][1] })

const limits: fc.Arbitrary<Limits.Limits> = fc.record({
  maxData: within("maxData"),
  maxStreamData: within("maxStreamData"),
  maxStreams: within("maxStreams"),
  idleTimeoutMs: within("idleTimeoutMs"),
  maxDatagram: within("maxDatagram")
})

const initiation: fc.Arbitrary<HandshakeMessage.Initiation> = fc
  .record({
    wallMs: fc.maxSafeNat(),
    versions: fc.tuple(fc.nat({ max: 255 }), fc.nat({ max: 255 })),
    connectionId: of(8),
    connectId: of(8),
    deviceName: fc.string({ unit: "grapheme", maxLength: 40 }).map(HandshakeMessage.deviceName),
    features: fc.nat({ max: 2 ** 32 - 1 }),
    limits
  })
  .map(({ versions: [a, b], ...rest }) => ({ ...rest, versionMin: Math.min(a, b), versionMax: Math.max(a, b) }))

const port = fc.integer({ min: 1, max: 65535 })
const observed = fc.oneof(
  fc.record({ host: fc.ipV4(), port }),
  fc.record({ host: fc.constantFrom("::1", "2001:db8::7", "fe80::1:2:3:4"), port })
)

const answer: fc.Arbitrary<HandshakeMessage.Answer> = fc.record({
  version: fc.nat({ max: 255 }),
  connectionId: of(8),
  observed,
  limits,
  enrolment: fc.option(fc.record({ portSeed: of(32), llmKey: fc.option(of(32), { nil: undefined }) }), {
    nil: undefined
  })
})

const someLimits: Limits.Limits = {
  maxData: 1_048_576,
  maxStreamData: 262_144,
  maxStreams: 64,
  idleTimeoutMs: 60_000,
  maxDatagram: 1452
}

const someInitiation: HandshakeMessage.Initiation = {
  wallMs: 1_767_225_600_000,
  versionMin: 1,
  versionMax: 2,
  connectionId: new Uint8Array(8).fill(0xc1),
  connectId: new Uint8Array(8).fill(0xc2),
  deviceName: "laptop ☕",
  features: 0x80000001,
  limits: someLimits
}

const someAnswer: HandshakeMessage.Answer = {
  version: 1,
  connectionId: new Uint8Array(8).fill(0x51),
  observed: { host: "192.0.2.1", port: 4242 },
  limits: someLimits,
  enrolment: { portSeed: new Uint8Array(32).fill(0x52), llmKey: new Uint8Array(32).fill(0x53) }
}

const LIMITS = "80100000800400004040" + "8000ea60" + "45ac"

describe("HandshakeMessage", () => {
  it("the bytes are those of the format", () => {
    assert.strictEqual(
      hex(HandshakeMessage.encodeInitiation(someInitiation)),
      `0000019b76daa8000102${"c1".repeat(8)}${"c2".repeat(8)}0a${hex(utf8("laptop ☕"))}80000001${LIMITS}`
    )
    assert.strictEqual(
      hex(HandshakeMessage.encodeAnswer(someAnswer)),
      `01${"51".repeat(8)}04c00002011092${LIMITS}03${"52".repeat(32)}${"53".repeat(32)}`
    )
  })

  it("initiations survive the wire", () => {
    fc.assert(
      fc.property(initiation, (message) => {
        const bytes = HandshakeMessage.encodeInitiation(message)
        assert.deepStrictEqual(HandshakeMessage.decodeInitiation(bytes), message)
        // Noise adds 32 + 48 + 16 bytes.
        assert.isAtMost(bytes.length + 96, MAX_NOISE_MESSAGE_LENGTH)
      }),
      { seed: 4, numRuns: 500 }
    )
  })

  it("answers survive the wire", () => {
    fc.assert(
      fc.property(answer, (message) => {
        const bytes = HandshakeMessage.encodeAnswer(message)
        assert.deepStrictEqual(HandshakeMessage.decodeAnswer(bytes), message)
        assert.isAtMost(bytes.length + 48, MAX_NOISE_MESSAGE_LENGTH)
      }),
      { seed: 5, numRuns: 500 }
    )
  })

  it("every cut is refused, bytes of later versions are passed over", () => {
    const cases = [
      [HandshakeMessage.encodeInitiation(someInitiation), HandshakeMessage.decodeInitiation, someInitiation],
      [HandshakeMessage.encodeAnswer(someAnswer), HandshakeMessage.decodeAnswer, someAnswer]
    ] as const
    for (const [bytes, decode, message] of cases) {
      for (let length = 0; length < bytes.length; length++) assert.isUndefined(decode(bytes.subarray(0, length)))
      assert.deepStrictEqual(decode(Uint8Array.from([...bytes, 1, 2, 3])), message)
    }
  })

  it("random bytes and single changed bytes never throw and never break a rule", () => {
    const sound = (bytes: Uint8Array): void => {
      const a = HandshakeMessage.decodeInitiation(bytes)
      if (a !== undefined) {
        assert.isAtMost(utf8(a.deviceName).length, 64)
        assert.isAtMost(a.versionMin, a.versionMax)
        assert.doesNotThrow(() => HandshakeMessage.encodeInitiation(a))
      }
      const b = HandshakeMessage.decodeAnswer(bytes)
      if (b !== undefined) assert.doesNotThrow(() => HandshakeMessage.encodeAnswer(b))
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), sound), { seed: 6, numRuns: 2000 })
    const bases = [HandshakeMessage.encodeInitiation(someInitiation), HandshakeMessage.encodeAnswer(someAnswer)]
    for (const base of bases) {
      for (let bit = 0; bit < base.length * 8; bit++) {
        const bent = base.slice()
        bent[bit >> 3] = (bent[bit >> 3] as number) ^ (1 << (bit & 7))
        sound(bent)
      }
    }
  })

  it("refuses versions upside down, long or ill-formed or controlling names, unknown contents, port 0", () => {
    const bend = (bytes: Uint8Array, at: number, ...values: ReadonlyArray<number>): Uint8Array => {
      const out = bytes.slice()
      out.set(values, at)
      return out
    }
    const first = HandshakeMessage.encodeInitiation({ ...someInitiation, deviceName: "x".repeat(64) })
    assert.isDefined(HandshakeMessage.decodeInitiation(first))
    assert.isUndefined(HandshakeMessage.decodeInitiation(bend(first, 8, 3)))
    assert.isUndefined(HandshakeMessage.decodeInitiation(bend(first, 26, 65)))
    assert.isUndefined(HandshakeMessage.decodeInitiation(bend(first, 27, 0xff)))
    assert.isUndefined(HandshakeMessage.decodeInitiation(bend(first, 27, 0x1b)))
    assert.isUndefined(HandshakeMessage.decodeInitiation(bend(first, 27, 0xc2, 0x9b)))
    assert.isUndefined(HandshakeMessage.decodeInitiation(bend(first, 0, 0xff)))
    const second = HandshakeMessage.encodeAnswer(someAnswer)
    const content = second.length - 65
    for (const value of [2, 4, 5, 255]) {
      assert.isUndefined(HandshakeMessage.decodeAnswer(bend(second, content, value)), `${value}`)
    }
    assert.isUndefined(HandshakeMessage.decodeAnswer(bend(second, 14, 0, 0)))
  })

  it("keeps nothing of the buffer it decoded", () => {
    const buffer = Buffer.from(HandshakeMessage.encodeAnswer(someAnswer))
    const message = HandshakeMessage.decodeAnswer(buffer)
    buffer.fill(0)
    assert.deepStrictEqual(message, someAnswer)
    const other = Buffer.from(HandshakeMessage.encodeInitiation(someInitiation))
    const first = HandshakeMessage.decodeInitiation(other)
    other.fill(0)
    assert.deepStrictEqual(first, someInitiation)
  })

  it("encoders throw for what the format cannot say", () => {
    const bad = new Uint8Array(7)
    assert.throws(() => HandshakeMessage.encodeInitiation({ ...someInitiation, connectionId: bad }))
    assert.throws(() => HandshakeMessage.encodeInitiation({ ...someInitiation, deviceName: "x".repeat(65) }))
    assert.throws(() => HandshakeMessage.encodeAnswer({ ...someAnswer, connectionId: bad }))
    assert.throws(() => HandshakeMessage.encodeAnswer({ ...someAnswer, observed: { host: "localhost", port: 1 } }))
    assert.throws(() =>
      HandshakeMessage.encodeAnswer({ ...someAnswer, enrolment: { portSeed: bad, llmKey: undefined } })
    )
  })

  it("deviceName makes any text fit", () => {
    assert.strictEqual(HandshakeMessage.deviceName("laptop"), "laptop")
    assert.strictEqual(HandshakeMessage.deviceName("a\u001b[2Jb\n\u009bc"), "a[2Jbc")
    assert.strictEqual(HandshakeMessage.deviceName(`${"x".repeat(63)}é`), "x".repeat(63))
    assert.strictEqual(HandshakeMessage.deviceName("☕".repeat(40)), "☕".repeat(21))
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 100 }), (name) => {
        const cut = HandshakeMessage.deviceName(name)
        assert.isAtMost(utf8(cut).length, 64)
        const bytes = HandshakeMessage.encodeInitiation({ ...someInitiation, deviceName: cut })
        assert.strictEqual(HandshakeMessage.decodeInitiation(bytes)?.deviceName, cut)
      }),
      { seed: 7, numRuns: 500 }
    )
  })
})

describe("Limits", () => {
  const decoded = (values: Limits.Limits) => {
    const writer = new Writer(new Uint8Array(Limits.encodedLength(values)))
    Limits.encode(writer, values)
    assert.strictEqual(writer.remaining, 0)
    return Limits.decode(new Reader(writer.bytes))
  }

  it("both bounds pass, below the lower one is malformed, above the upper one counts as the upper", () => {
    for (const side of [0, 1] as const) {
      for (const field of Object.keys(Limits.BOUNDS) as ReadonlyArray<keyof Limits.Limits>) {
        const bound = Limits.BOUNDS[field][side]
        assert.deepStrictEqual(decoded({ ...someLimits, [field]: bound }), { ...someLimits, [field]: bound })
        if (side === 1) {
          const more = decoded({ ...someLimits, [field]: Number.MAX_SAFE_INTEGER })
          assert.deepStrictEqual(more, { ...someLimits, [field]: bound })
        } else if (bound > 0) {
          assert.isUndefined(decoded({ ...someLimits, [field]: bound - 1 }), field)
        }
      }
    }
  })
})
