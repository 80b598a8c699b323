import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import type { Address } from "../../src/domain/protocol/Address.ts"
import { CloseCode } from "../../src/domain/protocol/CloseCode.ts"
import * as Constants from "../../src/domain/protocol/Constants.ts"
import { Writer } from "../../src/domain/protocol/Cursor.ts"
import * as Frame from "../../src/domain/protocol/Frame.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import type { DirectionSecrets } from "../../src/domain/protocol/PacketWriter.ts"
import { Session } from "../../src/domain/protocol/Session.ts"
import type { Outcome, SessionEvent, SessionOptions } from "../../src/domain/protocol/SessionTypes.ts"
import { primitives } from "../../src/layers/CryptoNode.ts"
import * as Packets from "./Packets.ts"
import { CLIENT, chance, LIMITS, Pair, type Side, Sink, seeded, steady, weather } from "./Pair.ts"

const secrets = (fill: number): DirectionSecrets => ({
  header: primitives.maskKey(new Uint8Array(32).fill(fill)),
  keys: { packet: primitives.packetKey(new Uint8Array(32).fill(fill + 1)), iv: new Uint8Array(12).fill(fill + 2) }
})

interface Got {
  readonly remote: Address
  readonly packetNumber: number
  readonly length: number
  readonly frames: ReadonlyArray<Frame.Frame>
}

const ELSEWHERE: Address = { host: "203.0.113.66", port: 6666 }

/** A session and, at its other end, whoever holds the keys and keeps to no rule. */
class Raw {
  now = 0
  readonly session: Session
  readonly events: Array<SessionEvent> = []
  readonly got: Array<Got> = []
  readonly #sealer = new Packets.Sealer(secrets(20).header)
  readonly #opener = new Packets.Opener(secrets(10).header)
  #next = 0

  constructor(options: Partial<SessionOptions> = {}) {
    this.session = new Session(0, {
      role: "server",
      localId: new Uint8Array(8).fill(1),
      remoteId: new Uint8Array(8).fill(2),
      remote: CLIENT,
      send: secrets(10),
      receive: secrets(20),
      chainingKey: new Uint8Array(32).fill(9),
      primitives,
      limits: LIMITS,
      peerLimits: LIMITS,
      entropy: seeded("raw"),
      congestion: NewReno.make,
      keepAliveMs: 15_000,
      deadAfterMs: 15_000,
      ...options
    })
  }

  /** A packet of bytes as plaintext, padded; without a number the next one. */
  seal(plaintext: Uint8Array, packetNumber = this.#next, epoch = 0): Uint8Array {
    this.#next = packetNumber + 1
    const padded = new Uint8Array(Math.max(16, Math.ceil(plaintext.length / 16) * 16))
    padded.set(plaintext)
    return this.#sealer.seal(secrets(20).keys, epoch, new Uint8Array(8).fill(1), packetNumber, padded)
  }

  packet(frames: ReadonlyArray<Frame.Frame>, packetNumber = this.#next): Uint8Array {
    const writer = new Writer(new Uint8Array(1168))
    for (const frame of frames) Frame.encode(writer, frame)
    return this.seal(writer.bytes.subarray(0, writer.offset), packetNumber)
  }

  give(bytes: Uint8Array, remote = CLIENT): Outcome {
    const outcome = this.session.handleDatagram(this.now, remote, Uint8Array.from(bytes))
    this.drain()
    return outcome
  }

  send(...frames: ReadonlyArray<Frame.Frame>): Outcome {
    return this.give(this.packet(frames))
  }

  drain(): ReadonlyArray<Got> {
    const from = this.got.length
    for (let t = this.session.pollTransmit(this.now); t !== undefined; t = this.session.pollTransmit(this.now)) {
      const header = this.#opener.header(t.bytes)
      const packetNumber = header?.packetNumber ?? -1
      const plaintext = this.#opener.open(secrets(10).keys, t.bytes)
      const frames = plaintext === undefined ? undefined : Frame.decode(plaintext)
      assert.isDefined(frames)
      this.got.push({ remote: t.remote, packetNumber, length: t.bytes.length, frames: frames ?? [] })
    }
    for (let e = this.session.pollEvent(); e !== undefined; e = this.session.pollEvent()) this.events.push(e)
    return this.got.slice(from)
  }

  /** Runs the session's own deadlines up to a time. */
  passTo(end: number): void {
    let steps = 0
    for (let at = this.session.pollTimeout(); at <= end; at = this.session.pollTimeout()) {
      steps = at <= this.now ? steps + 1 : 0
      assert.isAtMost(steps, 3, `the deadline ${at} does not move`)
      this.now = Math.max(this.now, at)
      this.session.handleTimeout(this.now)
      this.drain()
    }
    this.now = end
  }

  unmute(): this {
    this.session.unmute(this.now)
    this.drain()
    return this
  }

  /** Acknowledges everything that was received. */
  ack(): void {
    const numbers = this.got.map(({ packetNumber }) => packetNumber).sort((a, b) => a - b)
    const ranges: Array<{ start: number; end: number }> = []
    for (const number of numbers) {
      const last = ranges[0]
      if (last !== undefined && last.end + 1 === number) last.end = number
      else ranges.unshift({ start: number, end: number })
    }
    this.send({ type: "Ack", ranges: ranges.slice(0, 64), delayUs: 0 })
  }

  get close(): Frame.Close | undefined {
    return this.got.flatMap(({ frames }) => frames).find((frame) => frame.type === "Close")
  }

  frames<T extends Frame.Frame["type"]>(type: T): ReadonlyArray<Extract<Frame.Frame, { type: T }>> {
    return this.got
      .flatMap(({ frames }) => frames)
      .filter((frame): frame is Extract<Frame.Frame, { type: T }> => frame.type === type)
  }

  closed(): SessionEvent | undefined {
    return this.events.find(({ type }) => type === "Closed")
  }
}

const data = (length: number, fill = 7): Uint8Array => new Uint8Array(length).fill(fill)
const stream = (id: number, offset: number, bytes: Uint8Array, fin = false): Frame.Frame => ({
  type: "Stream",
  id,
  offset,
  data: bytes,
  fin
})

describe("Session: from muted to closed", () => {
  it("opens what arrives and sends nothing while muted, then a PING first", () => {
    const raw = new Raw()
    raw.send({ type: "Ping" })
    raw.send(stream(0, 0, data(10)))
    raw.passTo(5000)
    assert.strictEqual(raw.got.length, 0)
    assert.deepStrictEqual(
      raw.events.map(({ type }) => type),
      ["Proven", "StreamOpened", "StreamReadable"]
    )
    raw.unmute()
    assert.deepStrictEqual(
      raw.got[0]?.frames.map(({ type }) => type),
      ["Ack", "Ping", "Padding"]
    )
  })

  it("says Proven once", () => {
    const raw = new Raw()
    const packet = raw.packet([{ type: "Ping" }])
    assert.deepStrictEqual([raw.give(packet), raw.give(packet)], ["accepted", "replayed"])
    raw.send({ type: "Ping" })
    assert.strictEqual(raw.events.length, 1)
  })

  it("ends in silence when closed while muted", () => {
    const raw = new Raw()
    raw.session.close(0, 300, "never mind")
    assert.deepStrictEqual(raw.drain(), [])
    assert.deepStrictEqual(raw.events, [{ type: "Closed", reason: { by: "local", code: 300, reason: "never mind" } }])
    assert.deepStrictEqual([raw.session.state, raw.session.pollTimeout()], ["closed", Number.POSITIVE_INFINITY])
  })

  it("says CLOSE, again for packets 1, 2, 4, 8 that still come, and is closed after three probe timeouts", () => {
    const raw = new Raw().unmute()
    raw.send({ type: "Ping" })
    raw.got.length = 0
    raw.session.close(0, 300, "bye")
    raw.drain()
    for (let i = 0; i < 20; i++) raw.send({ type: "Ping" })
    assert.deepStrictEqual(
      raw.got.map(({ frames }) => frames[0]),
      new Array(6).fill({ type: "Close", code: 300, reason: "bye" })
    )
    assert.strictEqual(raw.session.state, "closing")
    raw.session.close(0, 301, "again")
    raw.passTo(100_000)
    assert.strictEqual(raw.got.length, 6)
    assert.strictEqual(raw.events.filter(({ type }) => type === "Closed").length, 1)
    assert.deepStrictEqual([raw.session.state, raw.session.pollTimeout()], ["closed", Number.POSITIVE_INFINITY])
    assert.strictEqual(raw.send({ type: "Ping" }), "ignored")
  })

  it("is silent after the peer's CLOSE, and nothing behind it in the packet counts", () => {
    const raw = new Raw().unmute()
    raw.got.length = 0
    raw.send(
      stream(0, 0, data(10)),
      { type: "Close", code: 9, reason: "bye" },
      { type: "Datagram", data: data(3) },
      { type: "PathChallenge", token: data(8) },
      stream(2, 0, data(10))
    )
    raw.send({ type: "Ping" })
    assert.strictEqual(raw.session.state, "draining")
    assert.deepStrictEqual(raw.events.at(-1), { type: "Closed", reason: { by: "peer", code: 9, reason: "bye" } })
    assert.strictEqual(raw.session.openStreams, 1)
    raw.passTo(100_000)
    assert.deepStrictEqual(raw.got, [])
    assert.strictEqual(raw.session.state, "closed")
  })

  it("closes within seconds even where a peer claims an endless round trip", () => {
    const raw = new Raw({ deadAfterMs: 1_000_000, limits: { ...LIMITS, idleTimeoutMs: 10_000_000 } }).unmute()
    raw.now = 200_000
    raw.send({ type: "Ack", ranges: [{ start: 0, end: 0 }], delayUs: 0 })
    assert.strictEqual(raw.session.stats().rttMs, 200_000)
    raw.session.close(raw.now, 0, "")
    raw.drain()
    raw.passTo(raw.now + 3 * Constants.PTO_CAP_MS)
    assert.strictEqual(raw.session.state, "closed")
  })

  it("cuts a long reason to what CLOSE carries", () => {
    const raw = new Raw().unmute()
    raw.session.close(0, 0, "ü".repeat(200))
    raw.drain()
    assert.strictEqual(raw.close?.reason, "ü".repeat(128))
  })

  it("answers commands after its end with nothing", () => {
    const raw = new Raw().unmute()
    const id = raw.session.openStream(1) ?? -1
    raw.session.abandon()
    raw.session.abandon()
    assert.deepStrictEqual(raw.drain(), [])
    assert.strictEqual(raw.events.length, 1)
    assert.strictEqual(raw.session.openStream(1), undefined)
    assert.isFalse(raw.session.write(id, data(1)))
    assert.isFalse(raw.session.sendDatagram(data(1)))
    raw.session.finish(id)
    raw.session.resetStream(id, 1)
    raw.session.stopStream(id, 1)
    raw.session.unmute(0)
    assert.deepStrictEqual(raw.drain(), [])
    assert.strictEqual(raw.session.stats().bytesInFlight, 0)
  })
})

describe("Session: a peer that breaks the rules", () => {
  const number = fc.oneof(fc.nat({ max: 40 }), fc.nat({ max: 300_000 }), fc.nat({ max: 2 ** 31 - 1 }))
  const frame: fc.Arbitrary<Frame.Frame> = fc.oneof(
    fc.constant<Frame.Frame>({ type: "Ping" }),
    fc.record({
      type: fc.constant("Stream" as const),
      id: fc.nat({ max: 40 }),
      offset: number,
      data: fc.nat({ max: 200 }).map((length) => new Uint8Array(length)),
      fin: fc.boolean()
    }),
    fc.record({ type: fc.constant("Reset" as const), id: fc.nat({ max: 40 }), code: number, finalSize: number }),
    fc.record({ type: fc.constant("Stop" as const), id: fc.nat({ max: 40 }), code: number }),
    fc.record({ type: fc.constant("MaxData" as const), limit: number }),
    fc.record({ type: fc.constant("MaxStreamData" as const), id: fc.nat({ max: 40 }), limit: number }),
    fc.record({ type: fc.constant("MaxStreams" as const), limit: number }),
    fc.record({ type: fc.constant("Datagram" as const), data: fc.uint8Array({ maxLength: 100 }) }),
    fc.record({
      type: fc.constantFrom("PathChallenge" as const, "PathResponse" as const),
      token: fc.uint8Array({ minLength: 8, maxLength: 8 })
    }),
    fc.record({ type: fc.constant("RetireCid" as const), sequence: number }),
    fc.tuple(fc.nat({ max: 30 }), fc.nat({ max: 30 })).map(([end, length]): Frame.Frame => {
      return { type: "Ack", ranges: [{ start: Math.max(0, end - length), end }], delayUs: length }
    })
  )
  const step = fc.oneof(
    fc.record({
      packet: fc.array(frame, { minLength: 1, maxLength: 4 }),
      skip: fc.nat({ max: 3 }),
      moved: fc.boolean()
    }),
    fc.record({ raw: fc.uint8Array({ maxLength: 64 }) }),
    fc.record({ pass: fc.nat({ max: 3000 }) }),
    fc.record({ write: fc.nat({ max: 50_000 }) })
  )

  it("never makes it throw or hang, whatever it sends", () => {
    const property = fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const raw = new Raw().unmute()
      let next = 0
      for (const each of steps) {
        if ("pass" in each) raw.passTo(raw.now + each.pass)
        else if ("raw" in each) raw.give(raw.seal(each.raw, next++))
        else if ("write" in each) {
          const id = raw.session.openStream(1)
          if (id !== undefined) raw.session.write(id, data(each.write))
          raw.drain()
        } else {
          next += each.skip
          raw.give(raw.packet(each.packet, next++), each.moved ? ELSEWHERE : CLIENT)
        }
        for (let id = 0; id < 40; id++) raw.session.read(id)
      }
      assert.isAtMost(raw.session.openStreams, 2 * LIMITS.maxStreams)
      raw.session.close(raw.now, 0, "")
      raw.drain()
      raw.passTo(raw.now + 100_000)
      assert.deepStrictEqual([raw.session.state, raw.session.pollTimeout()], ["closed", Number.POSITIVE_INFINITY])
      assert.strictEqual(raw.session.stats().bytesInFlight, 0)
    })
    fc.assert(property, { seed: 3, numRuns: 500 })
  })

  const { maxStreamData, maxData, maxStreams } = LIMITS

  /** What the session closes with. */
  const answer = (act: (raw: Raw) => void, options: Partial<SessionOptions> = {}): number | undefined => {
    const raw = new Raw(options).unmute()
    act(raw)
    if (raw.close === undefined) return undefined
    assert.deepStrictEqual(raw.closed(), {
      type: "Closed",
      reason: { by: "local", code: raw.close.code, reason: raw.close.reason }
    })
    assert.strictEqual(raw.session.stats().bytesInFlight, 0)
    raw.passTo(raw.now + 10_000)
    assert.strictEqual(raw.session.state, "closed")
    return raw.close.code
  }

  it("closes for malformed frames", () => {
    for (const bytes of [[0xff], [0x02, 0x05], [0x09, 0, 0, 0x20, 1], [0x26, 0, 1, 0x80], [0x12, 0xff, 0xff]]) {
      assert.strictEqual(
        answer((raw) => raw.give(raw.seal(Uint8Array.from(bytes)))),
        CloseCode.Protocol,
        `${bytes}`
      )
    }
  })

  it("closes for an acknowledgement of what was never sent", () => {
    assert.strictEqual(
      answer((raw) => raw.send({ type: "Ack", ranges: [{ start: 0, end: 1 }], delayUs: 0 })),
      CloseCode.Protocol
    )
    assert.strictEqual(
      answer((raw) => raw.send({ type: "Ack", ranges: [{ start: 2 ** 40, end: 2 ** 40 }], delayUs: 0 })),
      CloseCode.Protocol
    )
    assert.strictEqual(
      answer((raw) => raw.send({ type: "Ack", ranges: [{ start: 0, end: 0 }], delayUs: 0 })),
      undefined
    )
  })

  it("leaves a packet number out now and then, and closes for its acknowledgement", () => {
    const skips: Array<number> = []
    const act = (raw: Raw): void => {
      for (let i = 0; i < 2000; i++) raw.send({ type: "Ping" })
      const numbers = new Set(raw.got.map(({ packetNumber }) => packetNumber))
      for (let n = 0; n < 2000; n++) if (!numbers.has(n)) skips.push(n)
      const last = skips.at(-1) ?? 0
      raw.send({ type: "Ack", ranges: [{ start: last - 1, end: last + 1 }], delayUs: 0 })
    }
    assert.strictEqual(answer(act), CloseCode.Protocol)
    assert.isAtLeast(skips.length, 3)
    ;[-1, ...skips].forEach((skip, i, all) => {
      const next = all[i + 1]
      if (next === undefined) return
      assert.isAtLeast(next - skip - 1, Constants.SKIP_PACKETS)
      assert.isBelow(next - skip - 1, 2 * Constants.SKIP_PACKETS)
    })
  })

  it("closes for stream data beyond the stream's limit", () => {
    assert.strictEqual(
      answer((raw) => raw.send(stream(0, maxStreamData - 10, data(10)))),
      undefined
    )
    assert.strictEqual(
      answer((raw) => raw.send(stream(0, maxStreamData - 10, data(11)))),
      CloseCode.FlowControl
    )
    assert.strictEqual(
      answer((raw) => raw.send({ type: "Reset", id: 0, code: 1, finalSize: maxStreamData + 1 })),
      CloseCode.FlowControl
    )
  })

  it("closes for data beyond the session's limit", () => {
    // Windows that may not grow: these would, for all of it lies behind gaps.
    const fill = (extra: number) => (raw: Raw) => {
      for (let id = 0; id < 8; id += 2) raw.send(stream(id, maxStreamData - 1, data(1)))
      if (extra > 0) raw.send(stream(8, 0, data(extra)))
    }
    assert.strictEqual(maxData, 4 * maxStreamData)
    assert.strictEqual(answer(fill(0), { windowGrowth: 1 }), undefined)
    assert.strictEqual(answer(fill(1), { windowGrowth: 1 }), CloseCode.FlowControl)
  })

  it("closes for a final size that changes", () => {
    const cases: ReadonlyArray<ReadonlyArray<Frame.Frame>> = [
      [stream(0, 0, data(5), true), stream(0, 5, data(1))],
      [stream(0, 0, data(5), true), stream(0, 0, data(4), true)],
      [stream(0, 0, data(5)), stream(0, 0, data(4), true)],
      [stream(0, 0, data(5), true), { type: "Reset", id: 0, code: 1, finalSize: 6 }],
      [
        { type: "Reset", id: 0, code: 1, finalSize: 9 },
        { type: "Reset", id: 0, code: 1, finalSize: 8 }
      ]
    ]
    for (const frames of cases) {
      assert.strictEqual(
        answer((raw) => raw.send(...frames)),
        CloseCode.FinalSize
      )
    }
  })

  it("closes for a stream beyond the limit and for a stream of ours that we never opened", () => {
    const last = (maxStreams - 1) * 2
    assert.strictEqual(
      answer((raw) => raw.send(stream(last, 0, data(1)))),
      undefined
    )
    assert.strictEqual(
      answer((raw) => raw.send(stream(last + 2, 0, data(1)))),
      CloseCode.StreamLimit
    )
    for (const frame of [
      stream(1, 0, data(1)),
      { type: "Reset", id: 1, code: 0, finalSize: 0 },
      { type: "Stop", id: 1, code: 0 },
      { type: "MaxStreamData", id: 1, limit: 9 }
    ] satisfies ReadonlyArray<Frame.Frame>) {
      assert.strictEqual(
        answer((raw) => raw.send(frame)),
        CloseCode.Protocol,
        frame.type
      )
    }
  })

  it("closes for connection ids that contradict each other, one too many, and one retired that never was", () => {
    const cid = (sequence: number, fill: number): Frame.Frame => ({
      type: "NewCid",
      sequence,
      retirePriorTo: 0,
      cid: data(8, fill)
    })
    const many = Array.from({ length: Constants.MAX_CONNECTION_IDS }, (_, i) => cid(i + 1, 100 + i))
    for (const frames of [[cid(1, 3), cid(1, 4)], [cid(1, 2)], many, [{ type: "RetireCid", sequence: 1 } as const]]) {
      const raw = new Raw().unmute()
      raw.send(...frames)
      assert.strictEqual(raw.close?.code, CloseCode.Protocol)
    }
    const raw = new Raw().unmute()
    raw.send(...many.slice(1), { type: "RetireCid", sequence: 0 })
    assert.strictEqual(raw.session.state, "open")
  })

  it("takes limits that shrink for old ones", () => {
    const raw = new Raw().unmute()
    const id = raw.session.openStream(1) ?? -1
    raw.send({ type: "MaxData", limit: 1 }, { type: "MaxStreams", limit: 0 }, { type: "MaxStreamData", id, limit: 1 })
    raw.session.write(id, data(1000))
    raw.drain()
    assert.strictEqual(raw.frames("Stream")[0]?.data.length, 1000)
    assert.strictEqual(raw.close, undefined)
  })

  it("drops another epoch, a wrong key and a wrong length without a trace", () => {
    const raw = new Raw().unmute()
    raw.got.length = 0
    assert.strictEqual(raw.give(raw.seal(data(16, 1), 5, 1)), "unopened")
    const packet = raw.packet([{ type: "Ping" }])
    for (let at = 8; at < packet.length; at++) {
      const wrong = Uint8Array.from(packet)
      wrong[at] = (wrong[at] as number) ^ 0x10
      assert.oneOf(raw.give(wrong), ["unopened"], `byte ${at}`)
    }
    for (const length of [8, 16, 32, 47]) assert.strictEqual(raw.give(packet.subarray(0, length)), "unopened")
    assert.deepStrictEqual([raw.got, raw.events], [[], []])
    assert.strictEqual(raw.session.stats().unopened, 1 + packet.length - 8 + 4)
    assert.strictEqual(raw.give(packet), "accepted")
  })

  it("bounds what a flood of path challenges draws", () => {
    const raw = new Raw().unmute()
    raw.got.length = 0
    const challenge: Frame.Frame = { type: "PathChallenge", token: data(8) }
    raw.send(...new Array<Frame.Frame>(100).fill(challenge))
    assert.strictEqual(raw.frames("PathResponse").length, 4)
  })

  it("survives stream data one byte at a time, with gaps, in any order", () => {
    const raw = new Raw().unmute()
    for (let offset = 0; offset < 2000; offset += 2) raw.send(stream(0, offset, data(1, offset & 0xff)))
    for (let offset = 1; offset < 2000; offset += 2) raw.send(stream(0, offset, data(1, offset & 0xff)))
    let length = 0
    for (let got = raw.session.read(0); got instanceof Uint8Array; got = raw.session.read(0)) length += got.length
    assert.strictEqual(length, 2000)
    assert.strictEqual(raw.close, undefined)
  })
})

describe("Session: acknowledgements", () => {
  it("does not acknowledge acknowledgements", () => {
    const raw = new Raw().unmute()
    raw.ack()
    raw.got.length = 0
    for (let i = 0; i < 10; i++) raw.send({ type: "Padding", length: 16 })
    raw.passTo(1000)
    assert.deepStrictEqual(raw.got, [])
  })

  it("asks for an acknowledgement once in a while when it only acknowledges", () => {
    const raw = new Raw().unmute()
    raw.ack()
    raw.got.length = 0
    for (let i = 0; i < 1000; i++) raw.send({ type: "Datagram", data: data(10) })
    const pings = raw.got.flatMap(({ frames }, at) => (frames.some(({ type }) => type === "Ping") ? [at] : []))
    assert.isAtLeast(pings.length, 2)
    assert.isAtMost(pings.length, 40)
    // The peer's answer lets the ranges of old be forgotten.
    raw.ack()
    raw.send({ type: "Ping" })
    const ack = raw.frames("Ack").at(-1)
    assert.isAbove(ack?.ranges.at(-1)?.start ?? 0, 900)
  })

  it("never sends a packet that says nothing", () => {
    const raw = new Raw({ limits: { ...LIMITS, maxStreamData: 1000 } }).unmute()
    raw.ack()
    raw.got.length = 0
    raw.send(stream(0, 0, data(900)))
    raw.passTo(raw.now + 100)
    raw.session.read(0)
    // The new limit is owed; the end arrives before it is told.
    raw.session.handleDatagram(raw.now, CLIENT, raw.packet([stream(0, 900, data(10), true)]))
    raw.drain()
    raw.passTo(raw.now + 100)
    for (const { frames } of raw.got) assert.isTrue(frames.some(({ type }) => type !== "Padding"))
  })

  it("sends the longest datagram also while an acknowledgement and a PING wait", () => {
    const raw = new Raw()
    raw.send({ type: "Ping" })
    raw.session.unmute(0)
    assert.isTrue(raw.session.sendDatagram(data(raw.session.maxDatagram)))
    assert.isFalse(raw.session.sendDatagram(data(raw.session.maxDatagram + 1)))
    raw.drain()
    assert.deepStrictEqual(
      raw.got.map(({ frames }) => frames.map(({ type }) => type)),
      [["Ack", "Ping", "Padding"], ["Datagram"]]
    )
    assert.isTrue(raw.got.every(({ length }) => length <= Constants.MAX_DATAGRAM_LENGTH && length % 16 === 0))
  })

  it("refuses more than 64 unreliable datagrams in its queue", () => {
    const raw = new Raw().unmute()
    const taken = Array.from({ length: 70 }, () => raw.session.sendDatagram(data(100))).filter(Boolean).length
    assert.strictEqual(taken, Constants.MAX_QUEUED_DATAGRAMS)
  })
})

describe("Session: time", () => {
  it("gives up a dead path at once, whatever fractions its clock shows", () => {
    // Where adding and subtracting again falls short.
    const starts = Array.from({ length: 20_000 }, (_, i) => i * 0.7 + i / 977).filter((at) => at + 15_000 - at < 15_000)
    assert.isAbove(starts.length, 20)
    for (const start of starts.slice(0, 50)) {
      const raw = new Raw({ role: "client", keepAliveMs: Number.POSITIVE_INFINITY })
      raw.now = start
      raw.unmute()
      raw.passTo(start + 15_001)
      assert.deepStrictEqual(raw.closed(), { type: "Closed", reason: { by: "timeout", what: "dead" } })
    }
  })

  it("probes, also when the window is full, with what was in flight longest", () => {
    const raw = new Raw().unmute()
    raw.ack()
    const id = raw.session.openStream(1) ?? -1
    raw.session.write(id, data(100_000))
    raw.drain()
    raw.passTo(900)
    const before = raw.got.length
    const inFlight = raw.session.stats().bytesInFlight
    assert.isAtLeast(inFlight + Constants.MAX_DATAGRAM_LENGTH, raw.session.stats().congestionWindow)
    raw.passTo(3000)
    const probes = raw.got.slice(before)
    assert.isAtLeast(probes.length, 2)
    const first = probes[0]?.frames.find((frame) => frame.type === "Stream")
    assert.strictEqual(first?.type === "Stream" && first.offset, 0)
  })

  it("sends no PING while it speaks anyway", () => {
    const raw = new Raw().unmute()
    for (let at = 5000; at <= 60_000; at += 5000) {
      raw.ack()
      raw.passTo(at)
      raw.session.sendDatagram(data(1))
      raw.drain()
    }
    assert.strictEqual(raw.frames("Datagram").length, 12)
    assert.strictEqual(raw.frames("Ping").length, 1)
  })

  it("ends after the shorter idle time-out of both", () => {
    const raw = new Raw({
      keepAliveMs: Number.POSITIVE_INFINITY,
      peerLimits: { ...LIMITS, idleTimeoutMs: 7000 }
    }).unmute()
    raw.ack()
    raw.now = 100
    raw.send({ type: "Ping" })
    raw.passTo(7099)
    assert.strictEqual(raw.session.state, "open")
    raw.passTo(7100)
    assert.deepStrictEqual(raw.closed(), { type: "Closed", reason: { by: "timeout", what: "idle" } })
    assert.deepStrictEqual([raw.session.state, raw.session.pollTimeout()], ["closed", Number.POSITIVE_INFINITY])
  })
})

describe("Session: paths", () => {
  const ready = (): Raw => {
    const raw = new Raw().unmute()
    raw.send({ type: "Ping" })
    raw.ack()
    raw.got.length = 0
    return raw
  }

  const challenges = (raw: Raw) =>
    raw.got.flatMap(({ remote, frames }) =>
      frames.flatMap((frame) => (frame.type === "PathChallenge" ? [{ remote, token: frame.token }] : []))
    )

  it("challenges a new address, sends everything else to the old one until it answers, then follows", () => {
    const raw = ready()
    raw.give(raw.packet([{ type: "Ping" }]), ELSEWHERE)
    assert.deepStrictEqual(
      challenges(raw).map(({ remote }) => remote),
      [ELSEWHERE]
    )
    assert.deepStrictEqual(
      raw.got.filter(({ frames }) => frames.some(({ type }) => type === "Ack")).map(({ remote }) => remote),
      [CLIENT]
    )
    assert.deepStrictEqual(raw.session.remote, CLIENT)
    const token = challenges(raw)[0]?.token ?? data(8)
    raw.give(raw.packet([{ type: "PathResponse", token }]), ELSEWHERE)
    assert.deepStrictEqual(raw.session.remote, ELSEWHERE)
    assert.deepStrictEqual(raw.events.at(-1), { type: "PathChanged", remote: ELSEWHERE })
    raw.got.length = 0
    raw.give(raw.packet([{ type: "Ping" }]), ELSEWHERE)
    assert.deepStrictEqual(
      raw.got.map(({ remote }) => remote),
      [ELSEWHERE]
    )
  })

  it("stays where the token is wrong, or comes from another address", () => {
    const answer = (remote: Address, flip: number): Address => {
      const raw = ready()
      raw.give(raw.packet([{ type: "Ping" }]), ELSEWHERE)
      const token = challenges(raw)[0]?.token ?? data(8)
      raw.give(raw.packet([{ type: "PathResponse", token: token.map((byte) => byte ^ flip) }]), remote)
      assert.strictEqual(
        raw.events.some(({ type }) => type === "PathChanged"),
        raw.session.remote !== CLIENT
      )
      return raw.session.remote
    }
    assert.deepStrictEqual(answer(ELSEWHERE, 0), ELSEWHERE)
    assert.deepStrictEqual(answer(ELSEWHERE, 1), CLIENT)
    assert.deepStrictEqual(answer(CLIENT, 0), CLIENT)
    assert.deepStrictEqual(answer({ ...ELSEWHERE, port: 6667 }, 0), CLIENT)
  })

  it("moves nothing for an older packet, a replayed one, or one that does not open", () => {
    const raw = ready()
    const late = raw.packet([{ type: "Ping" }])
    const newest = raw.packet([{ type: "Ping" }])
    raw.give(newest)
    raw.got.length = 0
    assert.strictEqual(raw.give(late, ELSEWHERE), "accepted")
    assert.strictEqual(raw.give(newest, ELSEWHERE), "replayed")
    const forged = raw.packet([{ type: "Ping" }])
    forged[40] = (forged[40] as number) ^ 1
    assert.strictEqual(raw.give(forged, ELSEWHERE), "unopened")
    assert.deepStrictEqual(challenges(raw), [])
    assert.isTrue(raw.got.every(({ remote }) => remote === CLIENT))
  })

  it("sends no more than three times what came from an address that has not answered", () => {
    const raw = ready()
    const relayed = raw.packet([{ type: "Ping" }])
    raw.give(relayed, ELSEWHERE)
    raw.passTo(raw.now + 10_000)
    const sent = raw.got.filter(({ remote }) => remote === ELSEWHERE)
    assert.isAtLeast(sent.length, 2)
    assert.isAtMost(
      sent.reduce((sum, { length }) => sum + length, 0),
      3 * relayed.length
    )
    assert.deepStrictEqual(raw.session.remote, CLIENT)
  })

  it("challenges again, and gives up after five tries", () => {
    const raw = ready()
    for (let i = 0; i < 20; i++) {
      raw.give(raw.packet([{ type: "Padding", length: 16 }]), i % 2 === 0 ? ELSEWHERE : CLIENT)
    }
    raw.passTo(raw.now + 14_000)
    assert.strictEqual(challenges(raw).length, Constants.PATH_CHALLENGE_TRIES)
  })

  it("answers a challenge where it came from, and a client challenges that address, but stays where it is", () => {
    const raw = new Raw({ role: "client" }).unmute()
    raw.got.length = 0
    raw.give(raw.packet([{ type: "PathChallenge", token: data(8, 3) }]), ELSEWHERE)
    const response = raw.got.find(({ frames }) => frames[0]?.type === "PathResponse")
    assert.deepStrictEqual(response?.remote, ELSEWHERE)
    assert.deepStrictEqual(response?.frames[0], { type: "PathResponse", token: data(8, 3) })
    const token = challenges(raw)[0]?.token ?? data(8)
    raw.give(raw.packet([{ type: "PathResponse", token }]), ELSEWHERE)
    raw.ack()
    raw.passTo(raw.now + 5000)
    assert.deepStrictEqual(raw.session.remote, CLIENT)
    assert.deepStrictEqual(
      raw.session.paths().map(({ remote, state }) => [remote, state]),
      [
        [CLIENT, "active"],
        [ELSEWHERE, "validated"]
      ]
    )
  })
})

// -- two real ends ---------------------------------------------------------------------------------------------------

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => primitives.equal(a, b)

interface Ends {
  readonly pair: Pair
  readonly sink: Sink
  readonly client: number
  readonly server: number
}

const connected = (options: ConstructorParameters<typeof Pair>[0] = {}): Ends => {
  const pair = new Pair(options)
  const sink = new Sink()
  pair.onSession = sink.on
  return { pair, sink, ...pair.connect() }
}

const open = ({ pair, client }: Ends, priority: 0 | 1 | 2 = 1): number => {
  const id = pair.command("client", client, (session) => session.openStream(priority))
  if (id === undefined) throw new Error("no stream")
  return id
}

const send = (ends: Ends, side: Side, id: number, bytes: Uint8Array): void => {
  ends.pair.command(side, ends[side], (session) => {
    assert.isTrue(session.write(id, bytes))
    session.finish(id)
  })
}

const openStreams = ({ pair, client, server }: Ends): ReadonlyArray<number> => [
  pair.session("client", client).openStreams,
  pair.session("server", server).openStreams
]

const assertNothingLeft = (ends: Ends, why = ""): void => {
  const { pair } = ends
  pair.pass(3000)
  assert.deepStrictEqual(openStreams(ends), [0, 0], `${why}: streams`)
  for (const side of ["client", "server"] as const) {
    assert.strictEqual(pair.session(side, ends[side]).stats().bytesInFlight, 0, `${why}: in flight`)
  }
  pair.command("client", ends.client, (session) => session.close(pair.now, CloseCode.None, ""))
  pair.pass(100_000)
  assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0], why)
}

describe("Session: streams between two ends", () => {
  const rough = { jitter: 8, duplicate: 0.02, corrupt: 0.02 }
  for (const loss of [0, 0.01, 0.05, 0.1, 0.2]) {
    it(`carries 1 MB each way with ${loss * 100} % loss, reordering, duplicates and corruption`, () => {
      for (let i = 0; i < 2; i++) {
        const seed = `1MB ${loss} ${i}`
        const ends = connected({ seed })
        const { pair, sink } = ends
        pair.fate = weather(seed, { ...rough, loss })
        const there = seeded(`${seed} there`)(1_000_000)
        const back = seeded(`${seed} back`)(1_000_000)
        const id = open(ends)
        send(ends, "client", id, there)
        pair.run(() => sink.bytes("server", id).length > 0)
        send(ends, "server", id, back)
        const done = pair.run(() => sink.ended("server", id) && sink.ended("client", id), 600_000)
        assert.isTrue(done, seed)
        assert.isTrue(sameBytes(sink.bytes("server", id), there), seed)
        assert.isTrue(sameBytes(sink.bytes("client", id), back), seed)
        pair.fate = steady(10)
        assertNothingLeft(ends, seed)
      }
    })
  }

  it("carries 64 streams at a time, both ways, through losses", () => {
    const seed = "64 streams"
    const ends = connected({ seed, limits: { ...LIMITS, maxStreams: 64 } })
    const { pair, sink } = ends
    pair.fate = weather(seed, { ...rough, loss: 0.05 })
    const content = (side: Side, id: number) => seeded(`${seed} ${side} ${id}`)(20_000 + 37 * id)
    const ids = Array.from({ length: 64 }, () => open(ends))
    assert.strictEqual(
      pair.command("client", ends.client, (session) => session.openStream(1)),
      undefined
    )
    const answered = new Set<number>()
    pair.onSession = (side, session, event) => {
      sink.on(side, session, event)
      if (side === "client" || event.type !== "StreamReadable" || answered.has(event.id)) return
      answered.add(event.id)
      session.write(event.id, content("server", event.id))
      session.finish(event.id)
    }
    for (const id of ids) send(ends, "client", id, content("client", id))
    const done = () => ids.every((id) => sink.ended("client", id) && sink.ended("server", id))
    assert.isTrue(pair.run(done, 300_000), seed)
    for (const id of ids) {
      assert.isTrue(sameBytes(sink.bytes("server", id), content("client", id)), `${seed} ${id}`)
      assert.isTrue(sameBytes(sink.bytes("client", id), content("server", id)), `${seed} ${id}`)
    }
    pair.fate = steady(10)
    pair.pass(5000)
    const closed = (side: Side) =>
      pair.sessionEvents(side, ends[side]).filter(({ type }) => type === "StreamClosed").length
    assert.deepStrictEqual([closed("client"), closed("server")], [64, 64])
    assertNothingLeft(ends, seed)
  })

  it("lets one half end while the other goes on", () => {
    const ends = connected()
    const { pair, sink } = ends
    const id = open(ends)
    send(ends, "client", id, data(3))
    pair.pass(100)
    assert.isTrue(sink.ended("server", id))
    assert.deepStrictEqual(openStreams(ends), [1, 1])
    for (let i = 0; i < 5; i++) {
      pair.command("server", ends.server, (session) => session.write(id, data(100, i)))
      pair.pass(1000)
    }
    assert.strictEqual(sink.bytes("client", id).length, 500)
    pair.command("server", ends.server, (session) => session.finish(id))
    pair.pass(100)
    assert.isTrue(sink.ended("client", id))
    assertNothingLeft(ends)
  })

  it("carries a thousand one-byte writes in few packets", () => {
    const ends = connected()
    const { pair, sink } = ends
    const id = open(ends)
    const from = pair.wire.length
    pair.command("client", ends.client, (session) => {
      for (let i = 0; i < 1000; i++) session.write(id, Uint8Array.of(i & 0xff))
      session.finish(id)
    })
    assert.strictEqual(pair.sentBy("client", from).length, 1)
    pair.pass(100)
    assert.deepStrictEqual(
      sink.bytes("server", id),
      Uint8Array.from({ length: 1000 }, (_, i) => i & 0xff)
    )
    pair.command("server", ends.server, (session) => session.finish(id))
    assertNothingLeft(ends)
  })

  it("opens as many streams as the peer allows and more as streams end", () => {
    const ends = connected()
    const { pair } = ends
    for (let round = 0; round < 5; round++) {
      const ids = Array.from({ length: LIMITS.maxStreams }, () => open(ends))
      assert.strictEqual(
        pair.command("client", ends.client, (session) => session.openStream(1)),
        undefined
      )
      for (const id of ids) send(ends, "client", id, data(10))
      pair.pass(200)
      for (const id of ids) send(ends, "server", id, data(10))
      pair.pass(200)
      assert.deepStrictEqual(openStreams(ends), [0, 0])
    }
    const available = pair.sessionEvents("client", ends.client).filter(({ type }) => type === "StreamsAvailable")
    assert.isAtLeast(available.length, 5)
    assertNothingLeft(ends)
  })

  it("refills streams when the frame that says so is lost", () => {
    const ends = connected({ limits: { ...LIMITS, maxStreams: 1 } })
    const { pair } = ends
    const id = open(ends)
    send(ends, "client", id, data(10))
    pair.pass(200)
    send(ends, "server", id, data(10))
    let lost = 0
    // The next three datagrams of the server are lost: its answer's end, and MAX_STREAMS.
    pair.fate = (from) => (from === "server" && lost++ < 3 ? [] : [10])
    pair.pass(5000)
    assert.isAtLeast(lost, 3)
    const next = open(ends)
    pair.fate = steady(10)
    send(ends, "client", next, data(1))
    pair.pass(100)
    send(ends, "server", next, data(1))
    assertNothingLeft(ends)
  })

  it("stops a writer whose reader never reads, and others go on", () => {
    const ends = connected()
    const { pair, sink } = ends
    const stuck = open(ends)
    pair.onSession = (side, session, event) => {
      if (event.type !== "StreamReadable" || event.id !== stuck) sink.on(side, session, event)
    }
    pair.command("client", ends.client, (session) => session.write(stuck, data(2_000_000)))
    pair.pass(20_000)
    const buffered = () => pair.session("client", ends.client).buffered(stuck)
    assert.strictEqual(buffered(), 2_000_000 - LIMITS.maxStreamData)
    const other = open(ends)
    const bytes = seeded("other")(3_000_000)
    send(ends, "client", other, bytes)
    assert.isTrue(pair.run(() => sink.ended("server", other), 120_000))
    assert.isTrue(sameBytes(sink.bytes("server", other), bytes))
    assert.strictEqual(buffered(), 2_000_000 - LIMITS.maxStreamData)
    // It reads at last.
    pair.onSession = sink.on
    pair.command("server", ends.server, (session) => sink.take("server", session, stuck))
    assert.isTrue(pair.run(() => sink.bytes("server", stuck).length === 2_000_000, 120_000))
    for (const id of [stuck, other]) {
      pair.command("client", ends.client, (session) => session.finish(id))
      pair.command("server", ends.server, (session) => session.finish(id))
    }
    assertNothingLeft(ends)
  })

  it("stops at the session's limit and goes on when one of many readers reads", () => {
    const limits: Limits = { ...LIMITS, maxData: 100_000, maxStreamData: 60_000 }
    const ends = connected({ limits })
    const { pair, sink } = ends
    pair.onSession = undefined
    const ids = [open(ends), open(ends), open(ends)]
    for (const id of ids) send(ends, "client", id, data(50_000, id))
    pair.pass(20_000)
    const unsent = ids.reduce((sum, id) => sum + pair.session("client", ends.client).buffered(id), 0)
    assert.strictEqual(unsent, 50_000)
    assert.strictEqual(pair.session("client", ends.client).stats().bytesInFlight, 0)
    // The update is lost at first.
    let lost = 0
    pair.fate = (from) => (from === "server" && lost++ < 2 ? [] : [10])
    pair.onSession = sink.on
    for (const id of ids) pair.command("server", ends.server, (session) => sink.take("server", session, id))
    assert.isTrue(pair.run(() => ids.every((id) => sink.ended("server", id)), 20_000))
    for (const id of ids) pair.command("server", ends.server, (session) => session.finish(id))
    assertNothingLeft(ends)
  })

  it("says when a full buffer has drained", () => {
    const ends = connected()
    const { pair } = ends
    const id = open(ends)
    pair.command("client", ends.client, (session) => session.write(id, data(1_000_000)))
    const writable = () => pair.sessionEvents("client", ends.client).some(({ type }) => type === "StreamWritable")
    assert.isTrue(pair.run(writable, 60_000))
    assert.isFalse(pair.session("client", ends.client).isFull(id))
    pair.command("client", ends.client, (session) => session.finish(id))
    pair.command("server", ends.server, (session) => session.finish(id))
    pair.pass(10_000)
    assertNothingLeft(ends)
  })

  it("carries unreliable datagrams, lost ones not again", () => {
    const ends = connected()
    const { pair } = ends
    let count = 0
    pair.fate = (from, bytes) => (from === "client" && bytes.length > 100 && count++ % 2 === 0 ? [] : [10])
    for (let i = 0; i < 20; i++) {
      pair.command("client", ends.client, (session) => session.sendDatagram(data(200, i)))
      pair.pass(100)
    }
    const got = pair
      .sessionEvents("server", ends.server)
      .flatMap((event) => (event.type === "Datagram" ? [event.data[0]] : []))
    assert.deepStrictEqual(
      got,
      Array.from({ length: 10 }, (_, i) => 2 * i + 1)
    )
    pair.fate = steady(10)
    assertNothingLeft(ends)
  })
})

describe("Session: resets and stops", () => {
  type Act = (session: Session, id: number) => void
  const acts: Readonly<Record<string, Act>> = {
    nothing: () => {},
    write: (session, id) => void session.write(id, data(5000)),
    finish: (session, id) => {
      session.write(id, data(5000))
      session.finish(id)
    },
    "finish nothing": (session, id) => session.finish(id),
    reset: (session, id) => session.resetStream(id, 77),
    "write and reset": (session, id) => {
      session.write(id, data(5000))
      session.resetStream(id, 77)
    },
    stop: (session, id) => session.stopStream(id, 78),
    "reset and stop": (session, id) => {
      session.resetStream(id, 77)
      session.stopStream(id, 78)
    }
  }
  /** What ends a stream for good whatever was done before. */
  const ends: Act = (session, id) => {
    session.resetStream(id, 79)
    session.stopStream(id, 80)
  }

  for (const reads of [true, false]) {
    for (const [first, before] of Object.entries(acts)) {
      it(`free both ends after "${first}" by the client, anything by the server, ${reads ? "read" : "never read"}`, () => {
        for (const [second, then] of Object.entries(acts)) {
          for (const gap of [0, 15, 100]) {
            for (const loss of [0, 0.3]) {
              const seed = `${first}, ${second}, ${gap} ms, loss ${loss}`
              const all = connected({ seed })
              const { pair } = all
              if (!reads) pair.onSession = undefined
              const id = open(all)
              // The server hears of the stream.
              pair.command("client", all.client, (session) => session.write(id, data(1)))
              pair.pass(100)
              pair.fate = weather(seed, { loss, jitter: 5 })
              pair.command("client", all.client, (session) => before(session, id))
              pair.pass(gap)
              pair.command("server", all.server, (session) => then(session, id))
              pair.pass(gap)
              pair.command("client", all.client, (session) => ends(session, id))
              pair.command("server", all.server, (session) => ends(session, id))
              pair.pass(5000)
              pair.fate = steady(10)
              assertNothingLeft(all, seed)
            }
          }
        }
      })
    }
  }

  it("tell the other side's code", () => {
    const all = connected()
    const { pair } = all
    const id = open(all)
    pair.command("client", all.client, (session) => session.write(id, data(10)))
    pair.pass(100)
    pair.command("client", all.client, (session) => session.resetStream(id, 77))
    pair.command("client", all.client, (session) => session.stopStream(id, 78))
    pair.pass(100)
    const events = pair.sessionEvents("server", all.server).filter(({ type }) => type !== "StreamReadable")
    assert.deepStrictEqual(events, [
      { type: "StreamOpened", id },
      { type: "StreamReset", id, code: 77 },
      { type: "StreamStopped", id, code: 78 },
      { type: "StreamClosed", id }
    ])
    assert.isFalse(pair.session("server", all.server).write(id, data(1)))
    assertNothingLeft(all)
  })

  it("give back the session's credit for what nobody read", () => {
    const limits: Limits = { ...LIMITS, maxData: 30_000, maxStreamData: 20_000 }
    const all = connected({ limits })
    const { pair, sink } = all
    pair.onSession = undefined
    for (let i = 0; i < 12; i++) {
      const id = open(all)
      pair.command("client", all.client, (session) => session.write(id, data(18_000)))
      pair.pass(1000)
      if (i % 3 === 0) pair.command("client", all.client, (session) => session.resetStream(id, 1))
      else if (i % 3 === 1) pair.command("server", all.server, (session) => session.stopStream(id, 2))
      else {
        pair.command("server", all.server, (session) => session.stopStream(id, 2))
        pair.command("client", all.client, (session) => session.resetStream(id, 1))
      }
      pair.pass(500)
      pair.command("server", all.server, (session) => session.finish(id))
      pair.command("client", all.client, (session) => session.stopStream(id, 2))
      pair.pass(500)
    }
    pair.onSession = sink.on
    const id = open(all)
    send(all, "client", id, data(100_000))
    assert.isTrue(pair.run(() => sink.ended("server", id), 20_000))
    pair.command("server", all.server, (session) => session.finish(id))
    assertNothingLeft(all)
  })
})

describe("Session: liveness between two ends", () => {
  it("lives for an hour on keep-alives alone, one packet each way a time", () => {
    const ends = connected({ rekeyIntervalMs: Number.POSITIVE_INFINITY })
    const { pair } = ends
    pair.pass(1000)
    const from = pair.wire.length
    pair.pass(3_600_000)
    assert.strictEqual(pair.session("client", ends.client).state, "open")
    assert.strictEqual(pair.session("server", ends.server).state, "open")
    const [client, server] = [pair.sentBy("client", from), pair.sentBy("server", from)]
    // The client sends a PING every 15 s, soon every 25 s, which is what the idle time-out allows; the server answers.
    assert.isAtMost(client.length, 152)
    assert.closeTo(server.length, client.length, 2)
    assert.isAtLeast(client.length, 143)
    assert.isTrue([...client, ...server].every(({ bytes }) => bytes.length === 48))
    assertNothingLeft(ends)
  })

  it("ends in silence on both sides after the idle time-out", () => {
    const ends = connected({ keepAliveMs: Number.POSITIVE_INFINITY })
    const { pair } = ends
    pair.pass(1000)
    const from = pair.wire.length
    pair.pass(59_000)
    assert.strictEqual(pair.wire.length, from)
    pair.pass(1000)
    assert.strictEqual(pair.wire.length, from)
    for (const side of ["client", "server"] as const) {
      assert.deepStrictEqual(pair.event(side, "Closed")?.reason, { by: "timeout", what: "idle" })
      assert.strictEqual(pair[side].held, 0)
    }
  })

  it("gives a dead path up fifteen seconds after the first word without an answer", () => {
    const ends = connected()
    const { pair } = ends
    pair.pass(1000)
    pair.fate = () => []
    const since = pair.now
    pair.command("client", ends.client, (session) => session.sendDatagram(data(1)))
    assert.isTrue(pair.run(() => pair.event("client", "Closed") !== undefined))
    assert.strictEqual(pair.now, since + 15_000)
    assert.deepStrictEqual(pair.event("client", "Closed")?.reason, { by: "timeout", what: "dead" })
    assert.isBelow(pair.sentBy("client").filter(({ at }) => at > since).length, 40)
    pair.pass(60_000)
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
  })

  it("goes on after the link was cut for ten seconds, nothing lost or doubled", () => {
    const seed = "cut"
    const ends = connected({ seed })
    const { pair, sink } = ends
    const bytes = seeded(seed)(500_000)
    const id = open(ends)
    send(ends, "client", id, bytes)
    pair.pass(100)
    pair.fate = () => []
    pair.pass(10_000)
    pair.fate = steady(10)
    assert.isTrue(pair.run(() => sink.ended("server", id), 60_000))
    assert.isTrue(sameBytes(sink.bytes("server", id), bytes))
    pair.command("server", ends.server, (session) => session.finish(id))
    assertNothingLeft(ends)
  })

  it("tells the other side of a close at once", () => {
    const ends = connected()
    const { pair } = ends
    pair.pass(1000)
    const at = pair.now
    pair.client.close(at, ends.client, 300, "done")
    pair.drain()
    assert.isTrue(pair.run(() => pair.event("server", "Closed") !== undefined))
    assert.strictEqual(pair.now, at + 10)
    assert.deepStrictEqual(pair.event("server", "Closed")?.reason, { by: "peer", code: 300, reason: "done" })
    assert.deepStrictEqual(pair.event("client", "Closed")?.reason, { by: "local", code: 300, reason: "done" })
    pair.pass(5000)
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
  })

  it("repeats a lost CLOSE as soon as the other side speaks", () => {
    const ends = connected()
    const { pair } = ends
    pair.pass(1000)
    let lost = 0
    pair.fate = (from) => (from === "client" && lost++ < 2 ? [] : [10])
    pair.client.close(pair.now, ends.client, 300, "done")
    pair.drain()
    const from = pair.wire.length
    const say = () => pair.command("server", ends.server, (session) => session.sendDatagram(data(1)))
    for (let i = 0; i < 4 && pair.event("server", "Closed") === undefined; i++) {
      say()
      pair.pass(20)
    }
    assert.deepStrictEqual(pair.event("server", "Closed")?.reason, { by: "peer", code: 300, reason: "done" })
    assert.isAtMost(pair.sentBy("client", from).length, 3)
    pair.pass(5000)
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
  })

  it("ends where both close at once", () => {
    const ends = connected()
    const { pair } = ends
    pair.pass(1000)
    pair.client.close(pair.now, ends.client, 300, "a")
    pair.server.close(pair.now, ends.server, 301, "b")
    const from = pair.wire.length
    pair.drain()
    pair.pass(10_000)
    assert.isAtMost(pair.wire.length - from, 8)
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
    assert.deepStrictEqual([pair.all("client", "Closed").length, pair.all("server", "Closed").length], [1, 1])
  })

  it("forgets a session whose CLOSE never arrives", () => {
    const ends = connected()
    const { pair } = ends
    pair.pass(1000)
    pair.fate = (from) => (from === "client" ? [] : [10])
    pair.client.close(pair.now, ends.client, 300, "done")
    pair.drain()
    pair.pass(120_000)
    // A server is patient with its client: 28 s until it asks, and at least as long until it gives up.
    assert.deepStrictEqual(pair.event("server", "Closed")?.reason, { by: "timeout", what: "idle" })
    assert.deepStrictEqual([pair.client.held, pair.server.held], [0, 0])
  })

  it("recovers the lost last packet of a message by a probe, soon", () => {
    for (let lostCount = 1; lostCount <= 3; lostCount++) {
      const ends = connected()
      const { pair, sink } = ends
      // Some talk, so that the round trip is known.
      for (let i = 0; i < 10; i++) {
        pair.command("client", ends.client, (session) => session.sendDatagram(data(1)))
        pair.pass(100)
      }
      const id = open(ends)
      let lost = 0
      pair.fate = (from) => (from === "client" && lost++ < lostCount ? [] : [10])
      const at = pair.now
      send(ends, "client", id, data(500))
      assert.isTrue(pair.run(() => sink.ended("server", id)))
      // Smoothed round trip 20 to 45 ms with the other's delay: a probe timeout is below 150 ms, and doubles.
      assert.isAtMost(pair.now - at, 150 * (2 ** lostCount - 1) + 10, `${lostCount} lost`)
      pair.command("server", ends.server, (session) => session.finish(id))
      assertNothingLeft(ends)
    }
  })
})

describe("Session: an address that changes between two ends", () => {
  it("follows a NAT that rebinds while data flows, both ways, and loses nothing", () => {
    const seed = "rebind"
    const ends = connected({ seed })
    const { pair, sink } = ends
    const id = open(ends)
    const there = seeded(`${seed} there`)(400_000)
    const back = seeded(`${seed} back`)(400_000)
    send(ends, "client", id, there)
    pair.pass(30)
    send(ends, "server", id, back)
    for (const port of [40_001, 40_002, 41_000]) {
      pair.pass(60)
      pair.clientAddress = { ...CLIENT, port }
    }
    assert.isTrue(pair.run(() => sink.ended("server", id) && sink.ended("client", id), 60_000))
    assert.isTrue(sameBytes(sink.bytes("server", id), there))
    assert.isTrue(sameBytes(sink.bytes("client", id), back))
    assert.deepStrictEqual(pair.session("server", ends.server).remote, pair.clientAddress)
    const moves = pair.sessionEvents("server", ends.server).filter(({ type }) => type === "PathChanged")
    assert.isAtLeast(moves.length, 1)
    assertNothingLeft(ends)
  })

  it("goes on soon where the NAT rebinds under a client that only receives", () => {
    for (let after = 50; after < 800; after += 47) {
      const ends = connected({ seed: `download ${after}` })
      const { pair, sink } = ends
      const id = open(ends)
      send(ends, "client", id, data(1))
      pair.pass(1000)
      const bytes = seeded("download")(1_500_000)
      send(ends, "server", id, bytes)
      pair.pass(after)
      pair.clientAddress = { ...CLIENT, port: 40_001 }
      const at = pair.now
      assert.isTrue(
        pair.run(() => sink.ended("client", id), 10_000),
        `after ${after} ms`
      )
      assert.isBelow(pair.now - at, 6000, `after ${after} ms`)
      assert.isTrue(sameBytes(sink.bytes("client", id), bytes), `after ${after} ms`)
      assertNothingLeft(ends, `after ${after} ms`)
    }
  })

  it("starts over with congestion control on another host's path, and not for another port", () => {
    for (const [host, kept] of [
      [CLIENT.host, true],
      ["192.0.2.77", false]
    ] as const) {
      const ends = connected()
      const { pair } = ends
      const id = open(ends)
      send(ends, "client", id, data(1))
      pair.pass(100)
      send(ends, "server", id, data(200_000))
      pair.pass(1000)
      const window = () => pair.session("server", ends.server).stats().congestionWindow
      const before = window()
      assert.isAbove(before, 50_000)
      pair.clientAddress = { host, port: 40_001 }
      pair.command("client", ends.client, (session) => session.sendDatagram(data(1)))
      pair.pass(60)
      assert.deepStrictEqual(pair.session("server", ends.server).remote, pair.clientAddress)
      assert.strictEqual(window() === before, kept)
      if (!kept) assert.isAtMost(window(), 14_720)
      assertNothingLeft(ends)
    }
  })

  it("follows an idle client by its next keep-alive", () => {
    const ends = connected()
    const { pair } = ends
    pair.pass(1000)
    pair.clientAddress = { host: "192.0.2.77", port: 1234 }
    pair.pass(20_000)
    assert.deepStrictEqual(pair.session("server", ends.server).remote, pair.clientAddress)
    assert.strictEqual(pair.session("client", ends.client).state, "open")
    assertNothingLeft(ends)
  })

  it("is not hijacked by who relays a packet once, or replays old ones", () => {
    const ends = connected()
    const { pair } = ends
    pair.pass(1000)
    const old = pair.sentBy("client").map(({ bytes }) => bytes)
    // The newest packet arrives from elsewhere, and never from its sender.
    pair.fate = () => []
    pair.command("client", ends.client, (session) => session.sendDatagram(data(1)))
    pair.fate = steady(10)
    const from = pair.wire.length
    pair.inject("server", ELSEWHERE, pair.sentBy("client").at(-1)?.bytes ?? data(0))
    for (const bytes of old) pair.inject("server", ELSEWHERE, bytes)
    pair.pass(10_000)
    assert.deepStrictEqual(pair.session("server", ends.server).remote, CLIENT)
    const there = pair.wire.slice(from).filter(({ remote }) => remote.host === ELSEWHERE.host)
    assert.isAtMost(
      there.reduce((sum, { bytes }) => sum + bytes.length, 0),
      3 * 48
    )
    assert.strictEqual(pair.session("client", ends.client).state, "open")
    assertNothingLeft(ends)
  })
})

describe("Session: anything", () => {
  const side = fc.constantFrom<Side>("client", "server")
  const stream = fc.nat({ max: 7 })
  const command = fc.oneof(
    fc.record({ do: fc.constant("open" as const), side }),
    fc.record({ do: fc.constant("write" as const), side, stream, length: fc.nat({ max: 40_000 }) }),
    fc.record({ do: fc.constantFrom("finish" as const, "reset" as const, "stop" as const), side, stream }),
    fc.record({ do: fc.constant("read" as const), side, stream }),
    fc.record({ do: fc.constant("datagram" as const), side }),
    fc.record({ do: fc.constant("pass" as const), ms: fc.nat({ max: 500 }) }),
    fc.record({ do: fc.constant("rebind" as const), port: fc.integer({ min: 1, max: 65_535 }) }),
    fc.record({ do: fc.constant("weather" as const), loss: fc.constantFrom(0, 0.1, 0.5), jitter: fc.nat({ max: 40 }) })
  )

  it("neither throws nor leaves streams or bytes in flight behind", () => {
    const limits: Limits = { ...LIMITS, maxStreams: 4, maxData: 60_000, maxStreamData: 25_000 }
    const property = fc.property(fc.array(command, { maxLength: 60 }), fc.nat(), (commands, number) => {
      const seed = `anything ${number}`
      const ends = connected({ seed, limits })
      const { pair } = ends
      pair.onSession = undefined
      const opened: Array<number> = []
      const draw = chance(seed)
      for (const each of commands) {
        if (each.do === "pass") pair.pass(each.ms)
        else if (each.do === "rebind") pair.clientAddress = { ...CLIENT, port: each.port }
        else if (each.do === "weather") {
          pair.fate = weather(`${seed} ${draw()}`, {
            loss: each.loss,
            jitter: each.jitter,
            duplicate: 0.1,
            corrupt: 0.05
          })
        } else {
          pair.command(each.side, ends[each.side], (session) => {
            const id = "stream" in each ? (opened[each.stream % Math.max(opened.length, 1)] ?? 0) : 0
            if (each.do === "open") {
              const id = session.openStream(draw() < 0.5 ? 1 : 2)
              if (id !== undefined) opened.push(id)
            } else if (each.do === "write") session.write(id, data(each.length))
            else if (each.do === "finish") session.finish(id)
            else if (each.do === "reset") session.resetStream(id, 1)
            else if (each.do === "stop") session.stopStream(id, 2)
            else if (each.do === "datagram") session.sendDatagram(data(100))
            else session.read(id)
          })
        }
      }
      // Both sides finish all they opened, and read to the end.
      pair.fate = steady(10)
      const sink = new Sink()
      pair.onSession = sink.on
      for (const side of ["client", "server"] as const) {
        pair.command(side, ends[side], (session) => {
          for (const id of opened) session.finish(id)
          for (const id of opened) sink.take(side, session, id)
        })
      }
      // A stream of the peer that has not arrived yet can only be finished once it has.
      pair.onSession = (side, session, event) => {
        sink.on(side, session, event)
        if (event.type === "StreamOpened") session.finish(event.id)
      }
      pair.pass(30_000)
      assertNothingLeft(ends, seed)
    })
    fc.assert(property, { seed: 7, numRuns: 150 })
  })
})
