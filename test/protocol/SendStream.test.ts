import { assert, describe, it } from "@effect/vitest"
import { type Chunk, SendStream } from "../../src/domain/protocol/SendStream.ts"

const NEVER = Number.POSITIVE_INFINITY

const bytes = (length: number, from = 0): Uint8Array => Uint8Array.from({ length }, (_, i) => (from + i) % 251)

const sent = (chunk: Chunk | undefined) =>
  chunk === undefined ? undefined : [chunk.offset, chunk.data.length, chunk.fin, chunk.fresh]

describe("SendStream: sending", () => {
  it("hands out views of what was written, within size, peer limit and session credit", () => {
    const stream = new SendStream(4, 2500)
    const written = bytes(4000)
    stream.write(written)
    assert.isFalse(stream.hasPending(0))
    assert.isUndefined(stream.next(1000, 0))
    assert.isTrue(stream.hasPending(1))
    const first = stream.next(1000, NEVER)
    assert.deepStrictEqual(sent(first), [0, 1000, false, 1000])
    assert.strictEqual(first?.data.buffer, written.buffer, "not a copy")
    assert.deepStrictEqual(sent(stream.next(1000, 700)), [1000, 700, false, 700])
    assert.deepStrictEqual(sent(stream.next(1000, NEVER)), [1700, 800, false, 800])
    assert.isFalse(stream.hasPending(NEVER))
    assert.isUndefined(stream.next(1000, NEVER))
    stream.setPeerLimit(1000)
    assert.isFalse(stream.hasPending(NEVER), "a limit never shrinks")
    stream.setPeerLimit(2600)
    assert.deepStrictEqual(sent(stream.next(1000, NEVER)), [2500, 100, false, 100])
    assert.deepStrictEqual([stream.buffered, stream.unsentBytes, stream.finalSize], [4000, 1400, 2600])
  })

  it("gathers small writes into one frame, and leaves large ones as they are", () => {
    const stream = new SendStream(0, NEVER)
    for (let i = 0; i < 5; i++) stream.write(bytes(10, 10 * i))
    const large = bytes(2000, 50)
    stream.write(large)
    stream.write(bytes(3, 2050))
    const small = stream.next(1200, NEVER)
    assert.deepStrictEqual(sent(small), [0, 50, false, 50])
    assert.deepStrictEqual(small?.data, bytes(50))
    const view = stream.next(1200, NEVER)
    assert.deepStrictEqual(sent(view), [50, 1200, false, 1200])
    assert.strictEqual(view?.data.buffer, large.buffer)
    assert.deepStrictEqual(sent(stream.next(1200, NEVER)), [1250, 800, false, 800])
    assert.deepStrictEqual(sent(stream.next(1200, NEVER)), [2050, 3, false, 3])
  })

  it("cuts a gathered frame to size", () => {
    const stream = new SendStream(0, NEVER)
    for (let i = 0; i < 10; i++) stream.write(bytes(100, 100 * i))
    assert.deepStrictEqual(stream.next(250, NEVER)?.data, bytes(250))
    assert.deepStrictEqual(stream.next(250, NEVER)?.data, bytes(250, 250))
    assert.deepStrictEqual(stream.next(9999, NEVER)?.data, bytes(500, 500))
  })

  it("FIN rides on the last bytes, or goes alone", () => {
    const stream = new SendStream(0, NEVER)
    stream.write(bytes(10))
    stream.finish()
    assert.strictEqual(stream.state, "finSent")
    assert.deepStrictEqual(sent(stream.next(6, NEVER)), [0, 6, false, 6])
    assert.deepStrictEqual(sent(stream.next(6, NEVER)), [6, 4, true, 4])
    assert.isUndefined(stream.next(6, NEVER))

    const late = new SendStream(0, 10)
    late.write(bytes(10))
    assert.deepStrictEqual(sent(late.next(10, NEVER)), [0, 10, false, 10])
    late.finish()
    assert.isTrue(late.hasPending(0), "an end needs no credit")
    assert.deepStrictEqual(sent(late.next(0, 0)), [10, 0, true, 0])
    assert.isFalse(late.hasPending(NEVER))

    const empty = new SendStream(0, 0)
    empty.finish()
    assert.deepStrictEqual(sent(empty.next(10, 0)), [0, 0, true, 0])
    empty.onAcked(0, 0, true)
    assert.strictEqual(empty.state, "done")
  })

  it("holds FIN back while bytes before it are blocked", () => {
    const stream = new SendStream(0, 5)
    stream.write(bytes(10))
    stream.finish()
    assert.deepStrictEqual(sent(stream.next(10, NEVER)), [0, 5, false, 5])
    assert.isFalse(stream.hasPending(NEVER))
    assert.isUndefined(stream.next(10, NEVER))
  })

  it("write after finish is a bug, after a reset it is nothing", () => {
    const stream = new SendStream(0, 10)
    stream.finish()
    assert.throws(() => stream.write(bytes(1)))
    const reset = new SendStream(0, 10)
    reset.reset(7)
    reset.write(bytes(1))
    assert.strictEqual(reset.buffered, 0)
  })
})

describe("SendStream: acknowledgement and loss", () => {
  /** 40 bytes in four frames of ten. */
  const four = (): SendStream => {
    const stream = new SendStream(0, NEVER)
    stream.write(bytes(40))
    for (let i = 0; i < 4; i++) stream.next(10, NEVER)
    return stream
  }

  it("sends lost bytes again before new ones, without credit", () => {
    const stream = four()
    stream.write(bytes(10, 40))
    stream.onLost(10, 10, false)
    stream.onLost(20, 10, false)
    assert.isTrue(stream.hasPending(0))
    const again = stream.next(15, 0)
    assert.deepStrictEqual(sent(again), [10, 15, false, 0])
    assert.deepStrictEqual(again?.data, bytes(15, 10))
    assert.deepStrictEqual(sent(stream.next(15, 0)), [25, 5, false, 0])
    assert.deepStrictEqual(sent(stream.next(15, NEVER)), [40, 10, false, 10])
  })

  it("does not repeat what arrived in the meantime", () => {
    const stream = four()
    stream.onLost(0, 40, false)
    stream.onAcked(10, 10, false)
    assert.deepStrictEqual(sent(stream.next(99, 0)), [0, 10, false, 0])
    stream.onAcked(20, 20, false)
    assert.isFalse(stream.hasPending(NEVER))
    stream.onLost(0, 40, false)
    assert.deepStrictEqual(sent(stream.next(99, 0)), [0, 10, false, 0])
    stream.onAcked(0, 10, false)
    stream.onLost(0, 40, false)
    assert.isFalse(stream.hasPending(NEVER))
    assert.strictEqual(stream.buffered, 0)
  })

  it("lets chunks go with the acknowledged prefix", () => {
    const stream = four()
    stream.onAcked(30, 10, false)
    stream.onAcked(10, 10, false)
    assert.strictEqual(stream.buffered, 40)
    stream.onAcked(0, 10, false)
    assert.strictEqual(stream.buffered, 20)
    stream.onAcked(20, 10, false)
    assert.strictEqual(stream.buffered, 0)
    stream.onAcked(0, 40, false)
    assert.strictEqual(stream.buffered, 0)
  })

  it("lets a chunk go at once when all of it is acknowledged", () => {
    const stream = new SendStream(0, NEVER)
    for (let i = 0; i < 5; i++) stream.write(bytes(1000, 1000 * i))
    for (let i = 0; i < 5; i++) stream.next(1000, NEVER)
    stream.onAcked(1000, 1000, false)
    assert.strictEqual(stream.held, 5000)
    stream.onAcked(0, 999, false)
    assert.strictEqual(stream.held, 5000)
    stream.onAcked(999, 1, false)
    assert.strictEqual(stream.held, 3000)
    stream.reset(0)
    assert.strictEqual(stream.held, 0)
  })

  it("a lost FIN goes again, an acknowledged one does not", () => {
    const stream = new SendStream(0, NEVER)
    stream.write(bytes(10))
    stream.finish()
    assert.deepStrictEqual(sent(stream.next(10, NEVER)), [0, 10, true, 10])
    stream.onLost(0, 10, true)
    assert.deepStrictEqual(sent(stream.next(4, 0)), [0, 4, false, 0])
    assert.deepStrictEqual(sent(stream.next(10, 0)), [4, 6, true, 0])
    stream.onAcked(4, 6, true)
    stream.onLost(4, 6, true)
    assert.isFalse(stream.hasPending(NEVER))
    assert.strictEqual(stream.state, "finSent")
    stream.onAcked(0, 10, false)
    assert.strictEqual(stream.state, "done")
  })

  it("a FIN lost after its bytes arrived goes alone", () => {
    const stream = new SendStream(0, NEVER)
    stream.write(bytes(10))
    stream.next(10, NEVER)
    stream.finish()
    stream.next(10, NEVER)
    stream.onAcked(0, 10, false)
    stream.onLost(10, 0, true)
    assert.deepStrictEqual(sent(stream.next(10, 0)), [10, 0, true, 0])
    stream.onAcked(10, 0, true)
    assert.strictEqual(stream.state, "done")
  })

  it("a reset drops everything and is done once acknowledged", () => {
    const stream = four()
    stream.write(bytes(10, 40))
    stream.onLost(0, 10, false)
    stream.reset(9)
    assert.deepStrictEqual(
      [stream.state, stream.resetCode, stream.finalSize, stream.buffered, stream.unsentBytes],
      ["resetSent", 9, 40, 0, 0]
    )
    stream.onLost(0, 40, false)
    stream.onAcked(0, 40, false)
    stream.reset(10)
    stream.finish()
    assert.isFalse(stream.hasPending(NEVER))
    assert.isUndefined(stream.next(10, NEVER))
    assert.strictEqual(stream.resetCode, 9)
    stream.onResetAcked()
    assert.strictEqual(stream.state, "done")
  })

  it("reset after the end arrived, and a reset's acknowledgement without a reset, change nothing", () => {
    const stream = new SendStream(0, NEVER)
    stream.finish()
    stream.next(0, 0)
    stream.onResetAcked()
    assert.strictEqual(stream.state, "finSent")
    stream.onAcked(0, 0, true)
    stream.reset(1)
    assert.strictEqual(stream.state, "done")
    assert.isUndefined(stream.resetCode)
  })

  it("ten thousand writes, acknowledged in order", () => {
    const stream = new SendStream(0, NEVER)
    let acked = 0
    for (let i = 0; i < 10_000; i++) {
      stream.write(bytes(600, (600 * i) % 251))
      const chunk = stream.next(1200, NEVER)
      assert.strictEqual(chunk?.data.length, 600)
      if (i < 100) continue
      stream.onAcked(acked, 600, false)
      acked += 600
      assert.strictEqual(stream.buffered, 60_000)
    }
    stream.onLost(acked, 600, false)
    assert.deepStrictEqual(stream.next(1200, 0)?.data, bytes(600, acked % 251))
  })
})
