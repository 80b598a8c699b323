import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import { type Outcome, RecvStream } from "../../src/domain/protocol/RecvStream.ts"

/** What every stream of these tests carries at an offset. */
const byteAt = (offset: number): number => (offset * 31 + (offset >> 8) * 7) & 0xff
const bytes = (offset: number, length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => byteAt(offset + i))

const drain = (stream: RecvStream): Uint8Array => {
  const parts: Array<Uint8Array> = []
  for (let part = stream.read(); part !== undefined; part = stream.read()) {
    assert.isAbove(part.length, 0)
    parts.push(part)
  }
  return concat(...parts)
}

const fresh = (outcome: Outcome): number => {
  if (typeof outcome === "string") return assert.fail(outcome)
  return outcome.fresh
}

const data = (stream: RecvStream, offset: number, length: number, fin = false): Outcome =>
  stream.onData(offset, bytes(offset, length), fin)

/** The new limit, if it is time for one; long after the last, so that the window keeps its size. */
const windowUpdate = (stream: RecvStream): number | undefined => (stream.owesWindow ? stream.grant(0, 0) : undefined)

describe("RecvStream: order", () => {
  it("hands out in order what came in order: short pieces together, long ones without a copy", () => {
    const stream = new RecvStream(1, 100_000)
    assert.strictEqual(fresh(data(stream, 0, 1000)), 1000)
    assert.strictEqual(fresh(data(stream, 1000, 1100)), 1100)
    assert.strictEqual(fresh(data(stream, 2100, 1100)), 1100)
    const long = bytes(3200, 9000)
    assert.strictEqual(fresh(stream.onData(3200, long, false)), 9000)
    assert.isTrue(stream.readable)
    assert.deepStrictEqual(stream.read(), bytes(0, 1000))
    assert.deepStrictEqual(stream.read(), bytes(1000, 2200))
    assert.strictEqual(stream.read()?.buffer, long.buffer)
    assert.isUndefined(stream.read())
    assert.isFalse(stream.readable)
    assert.deepStrictEqual([stream.consumed, stream.held], [12_200, 0])
  })

  it("goes on in a block whose first part a reader holds", () => {
    const stream = new RecvStream(1, 1_000_000)
    for (let at = 0; at < 90_000; at += 1000) data(stream, at, 1000)
    const taken: Array<Uint8Array> = []
    for (let part = stream.read(); part !== undefined; part = stream.read()) taken.push(part)
    for (let at = 90_000; at < 180_000; at += 1000) data(stream, at, 1000)
    for (let part = stream.read(); part !== undefined; part = stream.read()) taken.push(part)
    let at = 0
    for (const part of taken) {
      assert.deepStrictEqual(part, bytes(at, part.length))
      at += part.length
    }
    assert.strictEqual(at, 180_000)
    assert.isBelow(taken.length, 12)
  })

  it("puts late bytes in their place, and counts each once", () => {
    const stream = new RecvStream(1, 10_000)
    assert.strictEqual(fresh(data(stream, 100, 100)), 200)
    assert.isFalse(stream.readable)
    assert.strictEqual(fresh(data(stream, 300, 50)), 150)
    assert.strictEqual(fresh(data(stream, 150, 170)), 0)
    assert.strictEqual(fresh(data(stream, 0, 120)), 0)
    assert.deepStrictEqual(drain(stream), bytes(0, 350))
    assert.strictEqual(fresh(data(stream, 0, 350)), 0)
    assert.isFalse(stream.readable)
    assert.strictEqual(stream.held, 0)
  })

  it("gathers what spans many pages", () => {
    const stream = new RecvStream(1, 100_000)
    for (let at = 90_000; at >= 0; at -= 1000) data(stream, at, 1000)
    assert.deepStrictEqual(drain(stream), bytes(0, 91_000))
    assert.strictEqual(stream.held, 0)
  })

  it("tells of the end once", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 5)
    drain(stream)
    data(stream, 5, 0, true)
    assert.deepStrictEqual([stream.readable, stream.finished, stream.state], [true, true, "finished"])
    assert.isUndefined(stream.read())
    assert.isFalse(stream.readable)
    data(stream, 5, 0, true)
    assert.isFalse(stream.readable, "a repeated end is no news")
  })

  it("passes through its states", () => {
    const stream = new RecvStream(1, 100)
    assert.strictEqual(stream.state, "open")
    data(stream, 5, 5, true)
    assert.deepStrictEqual([stream.state, stream.sizeKnown, stream.complete], ["sizeKnown", true, false])
    data(stream, 0, 5)
    assert.deepStrictEqual([stream.state, stream.complete, stream.finished], ["received", true, false])
    drain(stream)
    assert.deepStrictEqual([stream.state, stream.finished], ["finished", true])
  })

  it("an empty stream ends", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 0, true)
    assert.isTrue(stream.readable)
    assert.isUndefined(stream.read())
    assert.isTrue(stream.finished)
  })
})

describe("RecvStream: memory", () => {
  it("does not keep a packet alive for a few of its bytes", () => {
    const stream = new RecvStream(1, 10_000)
    const packet = new Uint8Array(1200)
    stream.onData(0, packet.subarray(100, 110), false)
    assert.strictEqual(stream.held, 10)
    stream.onData(10, packet.subarray(100, 900), false)
    assert.isAtMost(stream.held, 10 + 4096)
    const large = new Uint8Array(60_000)
    stream.onData(810, large.subarray(0, 9000), false)
    assert.isAtMost(stream.held, 10 + 4 * 4096)
    assert.strictEqual(stream.read()?.length, 10)
    assert.notStrictEqual(stream.read()?.buffer, packet.buffer)
    assert.notStrictEqual(stream.read()?.buffer, large.buffer)
  })

  it("copies from host buffers, whose slice is a view", () => {
    const stream = new RecvStream(1, 10_000)
    const packet = Buffer.alloc(1200, 7)
    stream.onData(0, packet.subarray(0, 10), false)
    packet.fill(0)
    assert.deepStrictEqual([...(stream.read() ?? [])], new Array(10).fill(7))
  })

  it("single bytes in order cost no more than the window", () => {
    const window = 65_536
    const stream = new RecvStream(1, window)
    for (let i = 0; i < window; i++) stream.onData(i, Uint8Array.of(byteAt(i)), false)
    assert.isAtMost(stream.held, window + 8192)
    let at = 0
    let parts = 0
    for (let part = stream.read(); part !== undefined; part = stream.read(), parts++) {
      assert.deepStrictEqual(part, bytes(at, part.length))
      at += part.length
    }
    assert.strictEqual(at, window)
    assert.isAtMost(parts, 16 + 17)
    assert.strictEqual(stream.held, 0)
  })

  it("lets pages go as they are read", () => {
    const stream = new RecvStream(1, 100_000)
    data(stream, 1000, 39_000)
    data(stream, 50_000, 100)
    data(stream, 0, 1000)
    assert.strictEqual(stream.held, 11 * 4096)
    drain(stream)
    assert.strictEqual(stream.held, 2 * 4096, "the one being filled, and the one beyond the gap")
  })

  it("closes several gaps at once", () => {
    const stream = new RecvStream(1, 1000)
    data(stream, 100, 10)
    data(stream, 120, 10)
    data(stream, 200, 50)
    data(stream, 0, 210)
    assert.deepStrictEqual(drain(stream), bytes(0, 250))
  })

  it("every other byte: refused after so many gaps, and bounded until then", () => {
    const window = 1 << 20
    const stream = new RecvStream(1, window)
    let accepted = 0
    let outcome: Outcome = { fresh: 0 }
    for (let at = 1; at < window; at += 2) {
      outcome = data(stream, at, 1)
      if (typeof outcome === "string") break
      accepted++
    }
    assert.strictEqual(outcome, "flow-control")
    assert.strictEqual(accepted, 1024)
    assert.isAtMost(stream.held, 2 * 1024 + 4096)
  })

  it("an honest peer's gaps always fit: every other packet of a large window lost", () => {
    const window = 16 << 20
    const stream = new RecvStream(1, window)
    for (let at = 1150; at + 1150 <= window; at += 2300) assert.notStrictEqual(typeof data(stream, at, 1150), "string")
    assert.isAtMost(stream.held, window + 4096)
  })

  it("one byte a page holds the window and no more", () => {
    const window = 1 << 20
    const stream = new RecvStream(1, window)
    for (let at = 1; at < window; at += 4096) data(stream, at, 1)
    assert.isAtMost(stream.held, window)
    stream.stop()
    assert.strictEqual(stream.held, 0)
  })
})

describe("RecvStream: limits", () => {
  it("refuses bytes beyond the limit, an end or a reset there too", () => {
    const stream = new RecvStream(1, 100)
    assert.strictEqual(data(stream, 90, 11), "flow-control")
    assert.strictEqual(data(stream, 101, 0), "flow-control")
    assert.strictEqual(data(stream, 101, 0, true), "flow-control")
    assert.strictEqual(stream.onReset(0, 101), "flow-control")
    assert.strictEqual(stream.onData(Number.MAX_SAFE_INTEGER, bytes(0, 10), false), "flow-control")
    assert.strictEqual(fresh(data(stream, 0, 100)), 100)
  })

  it("grants more once over half of the window is read", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 50)
    drain(stream)
    assert.isUndefined(windowUpdate(stream))
    data(stream, 50, 1)
    assert.isUndefined(windowUpdate(stream), "received is not read")
    drain(stream)
    assert.strictEqual(windowUpdate(stream), 151)
    assert.strictEqual(stream.limit, 151)
    assert.isUndefined(windowUpdate(stream))
    assert.strictEqual(fresh(data(stream, 51, 100)), 100)
    assert.strictEqual(data(stream, 151, 1), "flow-control")
  })

  it("grants nothing once the end is known", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 90, true)
    drain(stream)
    assert.isUndefined(windowUpdate(stream))
  })

  it("final size: never below what came, never another", () => {
    const cases: ReadonlyArray<(stream: RecvStream) => Outcome> = [
      (stream) => data(stream, 0, 10, true),
      (stream) => stream.onReset(1, 10)
    ]
    for (const end of cases) {
      const stream = new RecvStream(1, 100)
      data(stream, 0, 20)
      assert.strictEqual(end(stream), "final-size")
    }
    for (const known of [
      (stream: RecvStream) => data(stream, 20, 10, true),
      (stream: RecvStream) => stream.onReset(1, 30)
    ]) {
      const stream = new RecvStream(1, 100)
      assert.strictEqual(fresh(known(stream)), 30)
      assert.strictEqual(data(stream, 25, 6), "final-size")
      assert.strictEqual(data(stream, 25, 4, true), "final-size")
      assert.strictEqual(stream.onReset(1, 29), "final-size")
      assert.strictEqual(stream.onReset(1, 31), "final-size")
      assert.strictEqual(fresh(data(stream, 25, 5, true)), 0)
    }
  })
})

describe("RecvStream: a window that fits its reader", () => {
  const MIB = 1024 * 1024
  const PIECE = 16_384
  /** A peer that always sends all it may, and a reader that takes `pieces` of 16 KiB at a time, `rttMs` away. */
  const run = (
    stream: RecvStream,
    sent: number,
    pieces: number,
    turns: number,
    rttMs: number,
    stepMs: number
  ): number => {
    let at = sent
    let now = 0
    for (let turn = 0; turn < turns; turn++) {
      for (; at + PIECE <= stream.limit; at += PIECE) fresh(stream.onData(at, new Uint8Array(PIECE), false))
      for (let i = 0; i < pieces && stream.readable; i++) stream.read()
      now += stepMs
      const before = stream.limit
      if (stream.owesWindow) assert.isAtLeast(stream.grant(now, rttMs), before)
    }
    return at
  }

  it("becomes narrow while a slow reader always has enough to read, and not below 1 MiB", () => {
    const stream = new RecvStream(1, 8 * MIB, 16 * MIB)
    let at = run(stream, 0, 1, 8, 1, 1)
    assert.isAbove(at - stream.consumed, 7 * MIB)
    at = run(stream, at, 1, 2000, 1, 1)
    assert.isAtMost(at - stream.consumed, MIB)
    assert.isAtLeast(at - stream.consumed, MIB / 2)
    // Once more as wide as before when the reader becomes quick, and wider, within a few round trips.
    at = run(stream, at, 10_000, 12, 50, 25)
    assert.isAbove(stream.limit - stream.consumed, 8 * MIB)
  })

  it("stays as it is for a reader that runs out of bytes, however late it reads", () => {
    const stream = new RecvStream(1, 8 * MIB, 8 * MIB)
    run(stream, 0, 10_000, 40, 1, 100)
    assert.strictEqual(stream.limit - stream.consumed, 8 * MIB)
  })

  it("a narrow one stays as it is", () => {
    const stream = new RecvStream(1, MIB / 2, MIB)
    const at = run(stream, 0, 1, 500, 1, 100)
    assert.isAtLeast(stream.limit - stream.consumed, MIB / 4)
    assert.isAtMost(at - stream.consumed, MIB)
  })
})

describe("RecvStream: giving up", () => {
  it("a reset drops what is unread and counts what never came", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 10)
    data(stream, 20, 10)
    assert.strictEqual(fresh(stream.onReset(42, 50)), 20)
    assert.deepStrictEqual(
      [stream.state, stream.resetCode, stream.consumed, stream.held, stream.readable, stream.finished],
      ["reset", 42, 50, 0, false, false]
    )
    assert.isUndefined(stream.read())
    assert.strictEqual(fresh(stream.onReset(43, 50)), 0)
    assert.strictEqual(fresh(data(stream, 0, 50)), 0)
    assert.deepStrictEqual([stream.resetCode, stream.held], [42, 0])
  })

  it("a reset after everything was read is nothing", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 10, true)
    drain(stream)
    assert.strictEqual(fresh(stream.onReset(42, 10)), 0)
    assert.deepStrictEqual([stream.state, stream.resetCode], ["finished", undefined])
  })

  it("stop drops what is unread and goes on counting what comes", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 10)
    stream.read()
    data(stream, 10, 10)
    data(stream, 30, 10)
    assert.strictEqual(stream.stop(5), 30)
    assert.deepStrictEqual([stream.stopCode, stream.held, stream.consumed, stream.sizeKnown], [5, 0, 40, false])
    assert.strictEqual(stream.stop(6), 0)
    assert.strictEqual(fresh(data(stream, 40, 20)), 20)
    assert.strictEqual(fresh(data(stream, 20, 10)), 0)
    assert.deepStrictEqual([stream.held, stream.consumed, stream.complete], [0, 60, false])
    assert.isUndefined(windowUpdate(stream))
    assert.strictEqual(data(stream, 60, 41), "flow-control")
    assert.strictEqual(fresh(data(stream, 60, 1, true)), 1)
    assert.isTrue(stream.complete)
  })

  it("stop, then the peer's reset", () => {
    const stream = new RecvStream(1, 100)
    data(stream, 0, 10)
    stream.stop()
    assert.strictEqual(fresh(stream.onReset(3, 15)), 5)
    assert.deepStrictEqual([stream.state, stream.complete, stream.consumed], ["reset", true, 15])
  })
})

describe("RecvStream: properties", () => {
  const WINDOW = 12_000
  const frame = fc.record({
    offset: fc.oneof(fc.nat(WINDOW), fc.nat(4 * WINDOW)),
    length: fc.oneof(fc.nat(3), fc.nat(1500), fc.nat(6000)),
    padding: fc.nat(3000),
    fin: fc.oneof({ arbitrary: fc.constant(false), weight: 30 }, { arbitrary: fc.constant(true), weight: 1 }),
    /** At the end of what came so far, or at the first byte missing: else hardly anything is ever in order. */
    where: fc.constantFrom("anywhere", "end", "missing"),
    after: fc.constantFrom("nothing", "nothing", "nothing", "read", "drain", "update")
  })

  it("whatever comes: the same verdicts as a plain model, the right bytes, and bounded memory", () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 120 }), (frames) => {
        const stream = new RecvStream(1, WINDOW)
        const got = new Set<number>()
        let highest = 0
        let counted = 0
        let limit = WINDOW
        let size: number | undefined
        let read = 0
        const take = (part: Uint8Array | undefined): boolean => {
          if (part === undefined) return false
          assert.deepStrictEqual(part, bytes(read, part.length))
          for (let i = 0; i < part.length; i++) assert.isTrue(got.has(read + i))
          read += part.length
          return true
        }
        for (const { offset: at, length, padding, fin, where, after } of frames) {
          let missing = read
          while (got.has(missing)) missing++
          const offset = where === "end" ? highest : where === "missing" ? missing : at
          const end = offset + length
          const packet = new Uint8Array(length + padding)
          packet.set(bytes(offset, length), padding)
          const outcome = stream.onData(offset, packet.subarray(padding), fin)
          if (size !== undefined && (end > size || (fin && end !== size))) assert.strictEqual(outcome, "final-size")
          else if (fin && end < highest) assert.strictEqual(outcome, "final-size")
          else if (end > limit) assert.strictEqual(outcome, "flow-control")
          else {
            const grown = Math.max(0, end - highest)
            assert.deepStrictEqual(outcome, { fresh: grown })
            counted += grown
            highest = Math.max(highest, end)
            if (fin) size = end
            for (let i = offset; i < end; i++) got.add(i)
          }
          if (after === "read") take(stream.read())
          else if (after === "drain") while (take(stream.read())) assert.isAtMost(read, highest)
          else if (after === "update") limit = windowUpdate(stream) ?? limit
          assert.strictEqual(stream.consumed, read)
          assert.isAtMost(limit, read + WINDOW)
          // Views pin at most twice their bytes; pages hold the window, rounded up at both ends.
          assert.isAtMost(stream.held, 2 * WINDOW + WINDOW + 2 * 4096)
        }
        while (take(stream.read())) assert.isAtMost(read, highest)
        assert.isFalse(got.has(read), "everything contiguous was handed out")
        assert.strictEqual(counted, highest)
        assert.strictEqual(stream.finished, size !== undefined && read === size)
      }),
      { seed: 9000, numRuns: 400 }
    )
  })
})
