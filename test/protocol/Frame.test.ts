import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import {
  MAX_ACK_RANGES,
  MAX_CANDIDATES,
  MAX_FRAMES_PER_PACKET,
  MAX_PACKET_NUMBER,
  MAX_STREAMS,
  MAX_VARINT
} from "../../src/domain/protocol/Constants.ts"
import { fromHex, hex, utf8, Writer } from "../../src/domain/protocol/Cursor.ts"
import * as Frame from "../../src/domain/protocol/Frame.ts"
import type { Range } from "../../src/domain/protocol/RangeSet.ts"

const RUNS = { seed: 19, numRuns: 2000 }

const bytesOf = (digits: string): Uint8Array => {
  const bytes = fromHex(digits.replaceAll(" ", ""))
  assert.isDefined(bytes, `no hexadecimal: ${digits}`)
  return bytes
}

const encodeAll = (frames: ReadonlyArray<Frame.Frame>): Uint8Array => {
  let length = 0
  for (const frame of frames) length += Frame.encodedLength(frame)
  const writer = new Writer(new Uint8Array(length))
  for (const frame of frames) Frame.encode(writer, frame)
  assert.strictEqual(writer.remaining, 0)
  return writer.bytes
}

/** What a packet of `frames` decodes to: neighbouring padding is one run. */
const joinPadding = (frames: ReadonlyArray<Frame.Frame>): Array<Frame.Frame> => {
  const out: Array<Frame.Frame> = []
  for (const frame of frames) {
    const last = out.at(-1)
    if (frame.type === "Padding" && last?.type === "Padding") {
      out[out.length - 1] = { type: "Padding", length: last.length + frame.length }
    } else out.push(frame)
  }
  return out
}

const varint = fc.oneof(
  fc.maxSafeNat(),
  fc.nat({ max: 70 }),
  fc.nat({ max: 20_000 }),
  fc.constantFrom(0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, MAX_VARINT)
)
const exactly = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const data = fc.uint8Array({ maxLength: 90 })

/** Ranges from the distances between their edges, largest first. */
const ranges = fc
  .tuple(
    fc.oneof(fc.nat({ max: 100_000 }), fc.integer({ min: 2 ** 32, max: MAX_PACKET_NUMBER })),
    fc.array(fc.tuple(fc.nat({ max: 300 }), fc.nat({ max: 300 })), { minLength: 1, maxLength: MAX_ACK_RANGES })
  )
  .map(([largest, distances]) => {
    const out: Array<Range> = []
    let end = largest
    for (const [length, gap] of distances) {
      const start = end - length
      if (start < 0) break
      out.push({ start, end })
      end = start - 2 - gap
    }
    return out.length > 0 ? out : [{ start: 0, end: largest }]
  })

const address = fc.oneof(
  fc
    .constantFrom("192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::", "::1", "fe80::1:2:3:4")
    .chain((host) => fc.record({ host: fc.constant(host), port: fc.integer({ min: 1, max: 0xffff }) }))
)

const kind = <Type extends Frame.Frame["type"]>(type: Type) => ({ type: fc.constant(type) })

const byType: { readonly [Type in Frame.Frame["type"]]: fc.Arbitrary<Extract<Frame.Frame, { readonly type: Type }>> } =
  {
    Padding: fc.record({ ...kind("Padding"), length: fc.integer({ min: 1, max: 60 }) }),
    Ping: fc.record(kind("Ping")),
    Ack: fc.record({ ...kind("Ack"), ranges, delayUs: varint }),
    Stream: fc
      .record({ ...kind("Stream"), id: varint, offset: varint, data, fin: fc.boolean() })
      .map((frame) => ({ ...frame, offset: Math.min(frame.offset, MAX_VARINT - frame.data.length) })),
    Reset: fc.record({ ...kind("Reset"), id: varint, code: varint, finalSize: varint }),
    Stop: fc.record({ ...kind("Stop"), id: varint, code: varint }),
    MaxData: fc.record({ ...kind("MaxData"), limit: varint }),
    MaxStreamData: fc.record({ ...kind("MaxStreamData"), id: varint, limit: varint }),
    MaxStreams: fc.record({ ...kind("MaxStreams"), limit: fc.oneof(fc.nat(), fc.constant(MAX_STREAMS)) }),
    Datagram: fc.record({ ...kind("Datagram"), data }),
    PathChallenge: fc.record({ ...kind("PathChallenge"), token: exactly(8) }),
    PathResponse: fc.record({ ...kind("PathResponse"), token: exactly(8) }),
    NewCid: fc
      .record({ ...kind("NewCid"), sequence: varint, retirePriorTo: varint, cid: exactly(8) })
      .map((frame) => ({ ...frame, retirePriorTo: Math.min(frame.retirePriorTo, frame.sequence) })),
    RetireCid: fc.record({ ...kind("RetireCid"), sequence: varint }),
    Rekey: fc.record({ ...kind("Rekey"), epoch: fc.nat({ max: 0xffffffff }), key: exactly(32) }),
    RekeyAck: fc.record({ ...kind("RekeyAck"), epoch: fc.nat({ max: 0xffffffff }), key: exactly(32) }),
    PortAnnounce: fc.record({ ...kind("PortAnnounce"), port: fc.integer({ min: 1, max: 0xffff }), inMs: varint }),
    ObservedAddr: fc.record({ ...kind("ObservedAddr"), address }),
    Compromised: fc.record({ ...kind("Compromised"), token: exactly(32) }),
    CompromisedAck: fc.record({ ...kind("CompromisedAck"), token: exactly(32) }),
    // The UTF-8 decoder takes a leading byte order mark for itself.
    Close: fc.record({
      ...kind("Close"),
      code: varint,
      reason: fc.string({ unit: "grapheme", maxLength: 20 }).filter((reason) => !reason.startsWith("\ufeff"))
    }),
    Candidates: fc.record({ ...kind("Candidates"), addresses: fc.array(address, { maxLength: MAX_CANDIDATES }) })
  }

const frame: fc.Arbitrary<Frame.Frame> = fc.oneof(...Object.values(byType))
const packet = fc.array(frame, { minLength: 1, maxLength: 12 })

/** One of every type, hand-written, in a packet of its own shape. */
const EVERY: ReadonlyArray<readonly [string, Frame.Frame]> = [
  ["00 00 00", { type: "Padding", length: 3 }],
  ["01", { type: "Ping" }],
  ["02 0a 43e8 00 03", { type: "Ack", ranges: [{ start: 7, end: 10 }], delayUs: 1000 }],
  [
    "02 4064 00 02 00 00 00 03 05",
    {
      type: "Ack",
      ranges: [
        { start: 100, end: 100 },
        { start: 98, end: 98 },
        { start: 88, end: 93 }
      ],
      delayUs: 0
    }
  ],
  ["04 04 11 4100", { type: "Reset", id: 4, code: 17, finalSize: 256 }],
  ["05 04 11", { type: "Stop", id: 4, code: 17 }],
  ["08 04 00 03 616263", { type: "Stream", id: 4, offset: 0, data: utf8("abc"), fin: false }],
  ["09 04 4100 00", { type: "Stream", id: 4, offset: 256, data: new Uint8Array(0), fin: true }],
  ["0a 02 6869", { type: "Datagram", data: utf8("hi") }],
  ["10 80100000", { type: "MaxData", limit: 1_048_576 }],
  ["11 04 80010000", { type: "MaxStreamData", id: 4, limit: 65_536 }],
  ["12 4064", { type: "MaxStreams", limit: 100 }],
  ["18 0102030405060708", { type: "PathChallenge", token: bytesOf("0102030405060708") }],
  ["19 0102030405060708", { type: "PathResponse", token: bytesOf("0102030405060708") }],
  ["1a 02 01 a1a2a3a4a5a6a7a8", { type: "NewCid", sequence: 2, retirePriorTo: 1, cid: bytesOf("a1a2a3a4a5a6a7a8") }],
  ["1b 01", { type: "RetireCid", sequence: 1 }],
  [`20 80000001 ${"5a".repeat(32)}`, { type: "Rekey", epoch: 0x80000001, key: new Uint8Array(32).fill(0x5a) }],
  [`21 00000002 ${"a5".repeat(32)}`, { type: "RekeyAck", epoch: 2, key: new Uint8Array(32).fill(0xa5) }],
  ["22 d904 8001d4c0", { type: "PortAnnounce", port: 55_556, inMs: 120_000 }],
  ["23 04 c0000201 01bb", { type: "ObservedAddr", address: { host: "192.0.2.1", port: 443 } }],
  [
    "23 06 20010db8000000000000000000000001 01bb",
    { type: "ObservedAddr", address: { host: "2001:db8::1", port: 443 } }
  ],
  [`24 ${"11".repeat(32)}`, { type: "Compromised", token: new Uint8Array(32).fill(0x11) }],
  [`25 ${"22".repeat(32)}`, { type: "CompromisedAck", token: new Uint8Array(32).fill(0x22) }],
  ["26 07 05 c3a4c3b621", { type: "Close", code: 7, reason: "äö!" }],
  ["27 00", { type: "Candidates", addresses: [] }],
  [
    "27 02 04 c0000201 01bb 06 20010db8000000000000000000000001 01bb",
    {
      type: "Candidates",
      addresses: [
        { host: "192.0.2.1", port: 443 },
        { host: "2001:db8::1", port: 443 }
      ]
    }
  ]
]

describe("Frame: wire format", () => {
  it("is what PROTOCOL.md says, byte for byte", () => {
    for (const [digits, value] of EVERY) {
      assert.strictEqual(hex(encodeAll([value])), digits.replaceAll(" ", ""), value.type)
      assert.deepStrictEqual(Frame.decode(bytesOf(digits)), [value])
    }
    assert.strictEqual(new Set(EVERY.map(([, value]) => value.type)).size, Object.keys(byType).length)
  })

  it("has no more than eight candidates, none with port 0, of no third family", () => {
    const one = "04 c0000201 01bb"
    assert.isDefined(Frame.decode(bytesOf(`27 08 ${one.repeat(8)}`)))
    for (const wrong of [
      `27 09 ${one.repeat(9)}`,
      `27 02 ${one}`,
      "27 01 04 c0000201 0000",
      "27 01 05 c0000201 01bb"
    ]) {
      assert.isUndefined(Frame.decode(bytesOf(wrong)), wrong)
    }
    const addresses = new Array(9).fill({ host: "192.0.2.1", port: 443 })
    assert.throws(() => encodeAll([{ type: "Candidates", addresses }]))
    assert.throws(() => encodeAll([{ type: "Candidates", addresses: [{ host: "192.0.2.1", port: 0 }] }]))
  })

  it("takes over-long integers", () => {
    assert.deepStrictEqual(Frame.decode(bytesOf("10 c000000000000001")), [{ type: "MaxData", limit: 1 }])
    assert.deepStrictEqual(Frame.decode(bytesOf("0a 4001 ff")), [{ type: "Datagram", data: Uint8Array.of(0xff) }])
  })

  it("knows no other type", () => {
    const known = new Set(EVERY.map(([digits]) => Number.parseInt(digits.slice(0, 2), 16)))
    for (let type = 0; type < 256; type++) {
      if (!known.has(type)) assert.isUndefined(Frame.decode(Uint8Array.of(type, ...new Uint8Array(100))))
    }
  })

  it("counts the overheads that the encoder has", () => {
    fc.assert(
      fc.property(byType.Stream, byType.Datagram, (stream, datagram) => {
        const { data, id, offset } = stream
        const overhead = Frame.streamOverhead(id, offset, data.length)
        assert.strictEqual(encodeAll([stream]).length, overhead + data.length)
        assert.isAtMost(overhead, Frame.MAX_STREAM_OVERHEAD)
        const { length } = datagram.data
        assert.strictEqual(encodeAll([datagram]).length, Frame.datagramOverhead(length) + length)
      }),
      RUNS
    )
    for (const type of ["Reset", "Stop", "MaxData", "MaxStreamData", "MaxStreams"] as const) {
      fc.assert(
        fc.property(byType[type], (value) => {
          assert.isAtMost(Frame.encodedLength(value), Frame.MAX_CONTROL_LENGTH)
        }),
        { seed: 19, numRuns: 200 }
      )
    }
  })

  it("owes no ACK for ACK, PADDING and CLOSE alone", () => {
    const quiet = new Set(EVERY.filter(([, value]) => !Frame.isAckEliciting(value)).map(([, value]) => value.type))
    assert.deepStrictEqual([...quiet].sort(), ["Ack", "Close", "Padding"])
  })
})

describe("Frame: round trips", () => {
  for (const [type, arbitrary] of Object.entries(byType)) {
    it(type, () => {
      fc.assert(
        fc.property(arbitrary, (value) => {
          assert.deepStrictEqual(Frame.decode(encodeAll([value])), [value])
        }),
        { seed: 19, numRuns: 300 }
      )
    })
  }

  it("whole packets, padded with zeros", () => {
    fc.assert(
      fc.property(packet, fc.nat({ max: 15 }), (frames, zeros) => {
        const encoded = encodeAll(frames)
        const bytes = new Uint8Array(encoded.length + zeros)
        bytes.set(encoded)
        const padding: ReadonlyArray<Frame.Frame> = zeros === 0 ? [] : [{ type: "Padding", length: zeros }]
        assert.deepStrictEqual(Frame.decode(bytes), joinPadding([...frames, ...padding]))
      }),
      RUNS
    )
  })

  it("of the largest ACK", () => {
    const wide: Array<Range> = []
    const step = Math.floor(MAX_PACKET_NUMBER / (2 * MAX_ACK_RANGES))
    for (let i = 0; i < MAX_ACK_RANGES; i++) {
      const end = MAX_PACKET_NUMBER - 2 * step * i
      wide.push({ start: end - step + 2, end })
    }
    const ack: Frame.Frame = { type: "Ack", ranges: wide, delayUs: MAX_VARINT }
    const bytes = encodeAll([ack])
    assert.deepStrictEqual(Frame.decode(bytes), [ack])
    assert.isAtMost(bytes.length, 1200 - 32)
  })

  it("gives views into the packet, not copies", () => {
    const bytes = bytesOf("08 04 00 03 616263")
    const decoded = Frame.decode(bytes)?.[0]
    assert.strictEqual(decoded?.type, "Stream")
    if (decoded?.type === "Stream") assert.strictEqual(decoded.data.buffer, bytes.buffer)
  })
})

/** What holds for any bytes: no throw, and what was understood survives being written again. */
const probe = (bytes: Uint8Array): ReadonlyArray<Frame.Frame> | undefined => {
  const frames = Frame.decode(bytes)
  if (frames === undefined) return undefined
  assert.isAtMost(frames.length, MAX_FRAMES_PER_PACKET)
  assert.isAtLeast(frames.length, 1)
  const again = encodeAll(frames)
  assert.isAtMost(again.length, bytes.length)
  assert.deepStrictEqual(Frame.decode(again), frames)
  return frames
}

describe("Frame: hostile bytes", () => {
  it("never throws on random bytes", () => {
    let understood = 0
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        if (probe(bytes) !== undefined) understood++
      }),
      { seed: 19, numRuns: 20_000 }
    )
    assert.isAbove(understood, 0)
  })

  it("never throws on bytes that begin like frames", () => {
    const types = EVERY.map(([digits]) => Number.parseInt(digits.slice(0, 2), 16))
    const chunk = fc.tuple(fc.constantFrom(...types), fc.uint8Array({ maxLength: 12 }))
    let understood = 0
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 10 }), (chunks) => {
        const bytes = Uint8Array.from(chunks.flatMap(([type, rest]) => [type, ...rest]))
        if (probe(bytes) !== undefined) understood++
      }),
      { seed: 19, numRuns: 20_000 }
    )
    assert.isAbove(understood, 100)
  })

  it("refuses every truncation inside a frame", () => {
    for (const [digits, value] of EVERY) {
      if (value.type === "Padding") continue
      const bytes = bytesOf(digits)
      for (let end = 0; end < bytes.length; end++) {
        assert.isUndefined(Frame.decode(bytes.subarray(0, end)), `${value.type} cut to ${end}`)
        // The same cut behind a good frame: all or nothing.
        assert.strictEqual(Frame.decode(Uint8Array.of(1, ...bytes.subarray(0, end)))?.length, end === 0 ? 1 : undefined)
      }
    }
  })

  it("never throws on any truncation of a packet with every frame", () => {
    const bytes = encodeAll(EVERY.map(([, value]) => value))
    let whole = 0
    for (let end = 0; end <= bytes.length; end++) if (probe(bytes.subarray(0, end)) !== undefined) whole++
    // Cuts between frames are packets of their own, and so are cuts inside the padding.
    assert.strictEqual(whole, EVERY.length + 2)
  })

  it("never throws on any single-byte mutation of a packet with every frame", () => {
    const valid = encodeAll(EVERY.map(([, value]) => value))
    const bytes = valid.slice()
    let understood = 0
    let refused = 0
    for (let at = 0; at < bytes.length; at++) {
      for (let flip = 1; flip < 256; flip++) {
        bytes[at] = (valid[at] as number) ^ flip
        if (Frame.decode(bytes) === undefined) refused++
        else {
          understood++
          if (flip % 16 === 1) probe(bytes)
        }
      }
      bytes[at] = valid[at] as number
    }
    assert.strictEqual(understood + refused, 255 * valid.length)
    assert.isAbove(refused, 0)
  })

  it("never throws on random mutations of random packets", () => {
    fc.assert(
      fc.property(packet, fc.nat(), fc.integer({ min: 1, max: 255 }), (frames, place, flip) => {
        const bytes = encodeAll(frames)
        const at = place % bytes.length
        bytes[at] = (bytes[at] as number) ^ flip
        probe(bytes)
      }),
      RUNS
    )
  })

  it("refuses what the types cannot say", () => {
    for (const [why, digits] of [
      ["an empty packet", ""],
      ["an ACK below zero", "02 05 00 00 06"],
      ["a later range below zero", "02 05 00 01 00 03 01"],
      ["a gap below zero", "02 05 00 01 00 04 00"],
      ["an ACK beyond the last packet number", "02 c010000000000001 00 00 00"],
      ["a stream beyond the largest offset", "08 00 c01fffffffffffff 01 00"],
      ["a stream longer than the packet", "08 00 00 c01fffffffffffff 00"],
      ["a datagram longer than the packet", "0a 02 00"],
      ["an integer beyond 2^53", "10 c020000000000000"],
      ["more streams than ids", "12 c008000000000001"],
      ["a connection id that retires itself", "1a 01 02 0102030405060708"],
      ["port 0", "22 0000 00"],
      ["an address of no family", "23 05 c0000201 01bb"],
      ["an observed port 0", "23 04 c0000201 0000"],
      ["a reason that is no UTF-8", "26 00 02 c328"],
      ["a reason over the limit", `26 00 4101 ${"61".repeat(257)}`]
    ] as const) {
      assert.isUndefined(Frame.decode(bytesOf(digits)), why)
    }
  })
})

describe("Frame: bounds", () => {
  const ackOf = (count: number): Uint8Array => {
    const writer = new Writer(new Uint8Array(8 + 2 * count))
    writer
      .u8(2)
      .varint(4 * count)
      .varint(0)
      .varint(count - 1)
      .varint(0)
    for (let i = 1; i < count; i++) writer.varint(0).varint(0)
    return writer.bytes.subarray(0, writer.offset)
  }

  it("stops at the most ranges of an ACK", () => {
    const full = Frame.decode(ackOf(MAX_ACK_RANGES))?.[0]
    assert.strictEqual(full?.type === "Ack" ? full.ranges.length : 0, MAX_ACK_RANGES)
    assert.isUndefined(Frame.decode(ackOf(MAX_ACK_RANGES + 1)))
    assert.isUndefined(Frame.decode(bytesOf("02 0a 00 c01fffffffffffff 00")))
  })

  it("stops at the most frames of a packet", () => {
    assert.strictEqual(Frame.decode(new Uint8Array(MAX_FRAMES_PER_PACKET).fill(1))?.length, MAX_FRAMES_PER_PACKET)
    assert.isUndefined(Frame.decode(new Uint8Array(MAX_FRAMES_PER_PACKET + 1).fill(1)))
    assert.deepStrictEqual(Frame.decode(new Uint8Array(65_504)), [{ type: "Padding", length: 65_504 }])
  })
})

describe("Frame: the encoder's callers", () => {
  it("are told of frames that no peer would take", () => {
    const bad: ReadonlyArray<Frame.Frame> = [
      { type: "Padding", length: 0 },
      { type: "Ack", ranges: [], delayUs: 0 },
      { type: "Ack", ranges: [{ start: 3, end: 2 }], delayUs: 0 },
      { type: "Ack", ranges: [{ start: -1, end: 2 }], delayUs: 0 },
      { type: "Ack", ranges: [{ start: 0, end: MAX_PACKET_NUMBER + 1 }], delayUs: 0 },
      {
        type: "Ack",
        ranges: [
          { start: 5, end: 6 },
          { start: 1, end: 4 }
        ],
        delayUs: 0
      },
      {
        type: "Ack",
        ranges: Array.from({ length: MAX_ACK_RANGES + 1 }, (_, i) => ({ start: 1000 - 2 * i, end: 1000 - 2 * i })),
        delayUs: 0
      },
      { type: "Stream", id: 0, offset: MAX_VARINT, data: Uint8Array.of(1), fin: false },
      { type: "MaxStreams", limit: MAX_STREAMS + 1 },
      { type: "PathChallenge", token: new Uint8Array(7) },
      { type: "PathResponse", token: new Uint8Array(9) },
      { type: "NewCid", sequence: 1, retirePriorTo: 2, cid: new Uint8Array(8) },
      { type: "NewCid", sequence: 1, retirePriorTo: 1, cid: new Uint8Array(4) },
      { type: "Rekey", epoch: 2 ** 32, key: new Uint8Array(32) },
      { type: "RekeyAck", epoch: 1, key: new Uint8Array(31) },
      { type: "PortAnnounce", port: 0, inMs: 0 },
      { type: "PortAnnounce", port: 65_536, inMs: 0 },
      { type: "ObservedAddr", address: { host: "192.0.2.1", port: 0 } },
      { type: "Compromised", token: new Uint8Array(33) },
      { type: "CompromisedAck", token: new Uint8Array(0) },
      { type: "MaxData", limit: 2 ** 53 }
    ]
    for (const value of bad) {
      assert.throws(() => Frame.encode(new Writer(new Uint8Array(2000)), value), RangeError)
    }
  })

  it("may give a reason of any length: it is cut between characters", () => {
    for (const reason of ["x".repeat(300), `${"x".repeat(255)}é`, `${"x".repeat(253)}🙂`, "世".repeat(200)]) {
      const decoded = Frame.decode(encodeAll([{ type: "Close", code: 1, reason }]))?.[0]
      assert.strictEqual(decoded?.type, "Close")
      if (decoded?.type !== "Close") continue
      assert.isTrue(reason.startsWith(decoded.reason))
      assert.isAtMost(utf8(decoded.reason).length, 256)
      assert.isAbove(utf8(decoded.reason).length, 252)
    }
  })
})
