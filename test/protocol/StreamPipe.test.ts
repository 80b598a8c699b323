/** Both halves of a stream against each other, over a pipe that loses, repeats and reorders. */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "fast-check"
import { RecvStream } from "../../src/domain/protocol/RecvStream.ts"
import { SendStream } from "../../src/domain/protocol/SendStream.ts"

const WINDOW = 3000
const byteAt = (offset: number): number => (offset * 31 + (offset >> 8) * 7) & 0xff

type Step =
  | { readonly type: "write"; readonly length: number }
  | { readonly type: "send"; readonly maxBytes: number; readonly credit: number }
  /** What happens to one of the frames under way. */
  | { readonly type: "deliver"; readonly which: number }
  | { readonly type: "repeat"; readonly which: number }
  | { readonly type: "lose"; readonly which: number }
  | { readonly type: "ack"; readonly which: number }
  /** Declared lost although it will still arrive, or has arrived. */
  | { readonly type: "suspect"; readonly which: number }
  | { readonly type: "read" }
  | { readonly type: "update" }
  | { readonly type: "finish" }

interface Frame {
  readonly offset: number
  readonly data: Uint8Array
  readonly fin: boolean
}

const which = fc.nat(1000)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 20,
    arbitrary: fc.record({ type: fc.constant("write" as const), length: fc.oneof(fc.nat(40), fc.nat(2000)) })
  },
  {
    weight: 40,
    arbitrary: fc.record({
      type: fc.constant("send" as const),
      maxBytes: fc.oneof(fc.nat(30), fc.nat(1300)),
      credit: fc.oneof(fc.nat(100), fc.constant(100_000))
    })
  },
  { weight: 20, arbitrary: fc.record({ type: fc.constant("deliver" as const), which }) },
  { weight: 8, arbitrary: fc.record({ type: fc.constant("repeat" as const), which }) },
  { weight: 10, arbitrary: fc.record({ type: fc.constant("lose" as const), which }) },
  { weight: 20, arbitrary: fc.record({ type: fc.constant("ack" as const), which }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant("suspect" as const), which }) },
  { weight: 12, arbitrary: fc.constant<Step>({ type: "read" }) },
  { weight: 12, arbitrary: fc.constant<Step>({ type: "update" }) },
  { weight: 1, arbitrary: fc.constant<Step>({ type: "finish" }) }
)

/** A stream and its model: everything that must hold is asserted at every step. */
class World {
  readonly send = new SendStream(8, WINDOW)
  readonly recv = new RecvStream(8, WINDOW)
  peerLimit = WINDOW
  written = 0
  finished = false
  freshSent = 0
  freshReceived = 0
  read = 0
  underWay: Array<Frame> = []
  /** Delivered; the acknowledgement is under way. */
  delivered: Array<Frame> = []

  write(length: number): void {
    if (this.finished) return
    this.send.write(Uint8Array.from({ length }, (_, i) => byteAt(this.written + i)))
    this.written += length
  }

  finish(): void {
    this.finished = true
    this.send.finish()
  }

  /** False when there was nothing to send. */
  poll(maxBytes: number, credit: number): boolean {
    const pending = this.send.hasPending(credit)
    const unsent = this.send.unsentBytes
    const next = this.send.next(maxBytes, credit)
    const chunk = next === undefined ? undefined : { ...next }
    if (chunk === undefined) {
      assert.isTrue(!pending || maxBytes === 0)
      return false
    }
    assert.isTrue(pending)
    const { offset, data, fin, fresh } = chunk
    assert.isAtMost(data.length, maxBytes)
    assert.isAtMost(fresh, credit)
    assert.strictEqual(unsent - this.send.unsentBytes, fresh)
    assert.isAtMost(offset + data.length, this.peerLimit)
    assert.isTrue(data.length > 0 || fin)
    assert.isTrue(!fin || (this.finished && offset + data.length === this.written))
    for (let i = 0; i < data.length; i++) if (data[i] !== byteAt(offset + i)) assert.fail(`byte ${offset + i} is wrong`)
    this.freshSent += fresh
    // The wire copies; the receiver owns what it gets.
    this.underWay.push({ offset, data: data.slice(), fin })
    return true
  }

  deliver(frame: Frame): void {
    const outcome = this.recv.onData(frame.offset, frame.data.slice(), frame.fin)
    if (typeof outcome === "string") assert.fail(outcome)
    this.freshReceived += outcome.fresh
    assert.isAtMost(this.freshReceived, this.freshSent)
  }

  drain(): void {
    for (let part = this.recv.read(); part !== undefined; part = this.recv.read()) {
      for (let i = 0; i < part.length; i++) {
        if (part[i] !== byteAt(this.read + i)) assert.fail(`byte ${this.read + i} is wrong`)
      }
      this.read += part.length
    }
  }

  update(): void {
    const limit = this.recv.owesWindow ? this.recv.grant(0, 0) : undefined
    if (limit === undefined) return
    assert.isAbove(limit, this.peerLimit)
    this.peerLimit = limit
    this.send.setPeerLimit(limit)
  }

  step(step: Step): void {
    const pick = <A>(from: Array<A>, which: number): A | undefined =>
      from.length === 0 ? undefined : from.splice(which % from.length, 1)[0]
    switch (step.type) {
      case "write":
        this.write(step.length)
        return
      case "finish":
        this.finish()
        return
      case "send":
        this.poll(step.maxBytes, step.credit)
        return
      case "read":
        this.drain()
        return
      case "update":
        this.update()
        return
      case "deliver": {
        const frame = pick(this.underWay, step.which)
        if (frame === undefined) return
        this.deliver(frame)
        this.delivered.push(frame)
        return
      }
      case "repeat": {
        const all = [...this.underWay, ...this.delivered]
        const frame = all[step.which % Math.max(all.length, 1)]
        if (frame !== undefined) this.deliver(frame)
        return
      }
      case "lose": {
        const frame = pick(this.underWay, step.which)
        if (frame !== undefined) this.send.onLost(frame.offset, frame.data.length, frame.fin)
        return
      }
      case "ack": {
        const frame = pick(this.delivered, step.which)
        if (frame !== undefined) this.send.onAcked(frame.offset, frame.data.length, frame.fin)
        return
      }
      case "suspect": {
        const all = [...this.underWay, ...this.delivered]
        const frame = all[step.which % Math.max(all.length, 1)]
        if (frame !== undefined) this.send.onLost(frame.offset, frame.data.length, frame.fin)
      }
    }
  }

  check(): void {
    assert.isAtMost(this.recv.held, 3 * WINDOW + 2 * 4096)
    assert.isAtMost(this.send.buffered, this.written)
    assert.isAtLeast(this.send.buffered, this.send.unsentBytes)
    assert.strictEqual(this.freshSent, this.written - this.send.unsentBytes, "fresh bytes count once")
  }

  /** From now on nothing is lost: everything must arrive. */
  settle(): void {
    this.finish()
    for (let round = 0; this.send.state !== "done" || !this.recv.finished; round++) {
      assert.isBelow(round, 10_000, "it ends")
      while (this.poll(1200, 100_000)) this.check()
      for (const frame of this.underWay.splice(0)) {
        this.deliver(frame)
        this.delivered.push(frame)
      }
      for (const frame of this.delivered.splice(0)) this.send.onAcked(frame.offset, frame.data.length, frame.fin)
      this.drain()
      this.update()
    }
  }
}

describe("SendStream and RecvStream", () => {
  it("deliver exactly the bytes written, whatever the pipe does", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 250 }), (steps) => {
        const world = new World()
        for (const it of steps) {
          world.step(it)
          world.check()
        }
        world.settle()
        assert.deepStrictEqual(
          [world.read, world.freshSent, world.freshReceived],
          [world.written, world.written, world.written]
        )
        assert.deepStrictEqual([world.send.buffered, world.recv.held, world.recv.consumed], [0, 0, world.written])
        assert.isFalse(world.send.hasPending(100_000))
      }),
      { seed: 9000, numRuns: 1000 }
    )
  })

  it("a reset in the middle settles both sides at one size", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const world = new World()
        for (const it of steps) if (it.type !== "finish") world.step(it)
        world.send.reset(3)
        const outcome = world.recv.onReset(3, world.send.finalSize)
        if (typeof outcome === "string") return assert.fail(outcome)
        world.freshReceived += outcome.fresh
        for (const frame of world.underWay) world.deliver(frame)
        world.send.onResetAcked()
        assert.deepStrictEqual(
          [world.freshReceived, world.recv.consumed, world.recv.held, world.send.buffered, world.send.state],
          [world.freshSent, world.freshSent, 0, 0, "done"]
        )
      }),
      { seed: 9000, numRuns: 300 }
    )
  })
})
