import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as fc from "fast-check"
import { concat, hex, text, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SealedStream from "../../src/programs/SealedStream.ts"
import { splice } from "../../src/programs/Splice.ts"
import { TransportError, type TransportStream } from "../../src/services/Transport.ts"
import { pair } from "./SealedSupport.ts"

const A = new Uint8Array(32).fill(1)
const B = new Uint8Array(32).fill(2)

const ends = Effect.fnUntraced(function* (window?: number) {
  const sealing = yield* Effect.provide(SealedStream.sealing, CryptoNode.layer)
  const raw = pair(window)
  let proofs = 0
  const client = SealedStream.wrap(raw.ours, { sealing, sendKey: A.slice(), receiveKey: B.slice() })
  const onProof = () => {
    proofs++
  }
  const tier = SealedStream.wrap(raw.theirs, { sealing, sendKey: B.slice(), receiveKey: A.slice(), onProof })
  return { ...raw, client, tier, proofs: () => proofs }
})

/** Everything until the end, and how it ended. */
const drain = (stream: TransportStream): Effect.Effect<{ data: Uint8Array; end: "End" | TransportError }> => {
  const parts: Array<Uint8Array> = []
  return Effect.forever(Effect.tap(stream.read, (chunks) => Effect.sync(() => parts.push(...chunks)))).pipe(
    Effect.flip,
    Effect.map((error) => ({ data: concat(...parts), end: Cause.isDone(error) ? ("End" as const) : error }))
  )
}

const settle = Effect.forEach(Array.from({ length: 50 }), () => Effect.yieldNow, { discard: true })

describe("SealedStream", () => {
  it.effect("carries bytes and ends both ways, and shows none of them between", () =>
    Effect.gen(function* () {
      const { back, client, proofs, there, tier } = yield* ends()
      const seen: Array<Uint8Array> = []
      there.between = (bytes) => {
        seen.push(bytes)
        return bytes
      }
      back.between = there.between
      yield* client.write(utf8("a question"))
      yield* client.write(utf8(" in two parts"))
      yield* client.finish
      yield* tier.write(utf8("an answer"))
      yield* tier.finish
      assert.deepStrictEqual(yield* drain(tier), { data: utf8("a question in two parts"), end: "End" })
      assert.deepStrictEqual(yield* drain(client), { data: utf8("an answer"), end: "End" })
      assert.strictEqual(proofs(), 1)
      const wire = hex(concat(...seen))
      for (const words of ["question", "parts", "answer"]) assert.notInclude(wire, hex(utf8(words)))
      // An end is told once; writing behind it fails.
      yield* client.finish
      assert.strictEqual((yield* Effect.flip(client.write(utf8("more")))).reason, "Stopped")
    })
  )

  it.effect("through a splice is the same", () =>
    Effect.gen(function* () {
      const sealing = yield* Effect.provide(SealedStream.sealing, CryptoNode.layer)
      const left = pair()
      const right = pair()
      const client = SealedStream.wrap(left.ours, { sealing, sendKey: A.slice(), receiveKey: B.slice() })
      const tier = SealedStream.wrap(right.theirs, { sealing, sendKey: B.slice(), receiveKey: A.slice() })
      yield* Effect.forkChild(splice(left.theirs, right.ours))
      yield* client.write(utf8("there"))
      assert.strictEqual(text(concat(...(yield* tier.read))), "there")
      yield* tier.write(utf8("back"))
      yield* tier.finish
      assert.deepStrictEqual(yield* drain(client), { data: utf8("back"), end: "End" })
      yield* client.reset(StreamHeader.Code.Cancelled)
      const { end } = yield* drain(tier)
      assert.isTrue(end !== "End" && end.reason === "Reset" && end.code === StreamHeader.Code.Cancelled)
    })
  )

  it.effect("cut short fails, and is no end", () =>
    Effect.gen(function* () {
      const { client, ours, there, tier } = yield* ends()
      yield* client.write(utf8("half"))
      yield* ours.finish
      const { data, end } = yield* drain(tier)
      assert.strictEqual(text(data), "half")
      assert.isTrue(end !== "End" && end.reason === "Seal" && /cut off/.test(end.message))
      assert.strictEqual(there.stopped, StreamHeader.Code.NotSealed)
    })
  )

  it.effect("changed anywhere fails with Seal, gives both halves up, and lets nothing changed through", () =>
    Effect.gen(function* () {
      const written = utf8("twenty-one bytes long")
      const sample = yield* ends()
      let length = 0
      sample.there.between = (bytes) => {
        length += bytes.length
        return bytes
      }
      yield* sample.client.write(written)
      yield* sample.client.finish
      for (let at = 0; at < length; at++) {
        const { back, client, there, tier } = yield* ends()
        let from = 0
        there.between = (bytes) => {
          const place = at - from
          from += bytes.length
          if (place >= 0 && place < bytes.length) bytes[place] = (bytes[place] as number) ^ 1
          return bytes
        }
        yield* client.write(written)
        yield* client.finish
        const { data, end } = yield* drain(tier)
        assert.isTrue(end !== "End" && end.reason === "Seal", `byte ${at}`)
        assert.include(["", text(written)], text(data), `byte ${at}`)
        assert.deepStrictEqual([back.reset, there.stopped], [StreamHeader.Code.NotSealed, StreamHeader.Code.NotSealed])
        assert.strictEqual((yield* Effect.flip(tier.write(written))).reason, "Stopped")
      }
    })
  )

  it.effect("with bytes behind its end fails too", () =>
    Effect.gen(function* () {
      const { client, there, tier } = yield* ends()
      there.between = (bytes) => concat(bytes, Uint8Array.of(1))
      yield* client.finish
      const { end } = yield* drain(tier)
      assert.isTrue(end !== "End" && end.reason === "Seal" && /behind/.test(end.message))
    })
  )

  it.effect("passes resets and stops on, with their codes", () =>
    Effect.gen(function* () {
      const first = yield* ends()
      yield* first.client.write(utf8("x"))
      yield* first.client.reset(0x123)
      const { end } = yield* drain(first.tier)
      assert.isTrue(end !== "End" && end.reason === "Reset" && end.code === 0x123)
      assert.strictEqual((yield* Effect.flip(first.client.write(utf8("y")))).reason, "Stopped")
      const second = yield* ends()
      yield* second.tier.stop(0x124)
      const stopped = yield* Effect.flip(second.client.write(utf8("x")))
      assert.isTrue(stopped.reason === "Stopped" && stopped.code === 0x124)
      // Who has given up reading reads nothing more, and goes on writing.
      assert.isTrue((yield* Effect.flip(second.tier.read)) instanceof TransportError)
      yield* second.tier.write(utf8("still here"))
      assert.strictEqual(text(concat(...(yield* second.client.read))), "still here")
    })
  )

  it.effect("holds a writer back while nobody reads, and buffers no more than the stream below", () =>
    Effect.gen(function* () {
      const { client, there, tier } = yield* ends(8192)
      const chunk = new Uint8Array(4096).fill(7)
      let written = 0
      const writer = yield* Effect.forkChild(
        Effect.forEach(
          Array.from({ length: 256 }),
          () =>
            Effect.map(client.write(chunk), () => {
              written++
            }),
          { discard: true }
        ).pipe(Effect.andThen(client.finish))
      )
      yield* settle
      assert.isAtMost(written, 2)
      const { data, end } = yield* drain(tier)
      yield* Fiber.join(writer)
      assert.strictEqual(end, "End")
      assert.strictEqual(data.length, 256 * 4096)
      assert.isAtMost(there.peak, 8192 + 4096 + 64)
    })
  )

  it.effect("keeps writes whole and in order, also of many writers that are interrupted at any time", () => {
    const writer = fc.record({ length: fc.integer({ min: 1, max: 40_000 }), cut: fc.boolean() })
    const runs = fc.sample(fc.array(writer, { minLength: 1, maxLength: 12 }), { seed: 5, numRuns: 50 })
    return Effect.forEach(runs, (writers) =>
      Effect.gen(function* () {
        const { client, tier } = yield* ends(1000)
        const begun = yield* Effect.forEach(writers, ({ cut, length }, i) =>
          Effect.map(Effect.forkChild(client.write(new Uint8Array(length).fill(i + 1))), (fiber) => ({ cut, fiber }))
        )
        yield* Effect.yieldNow
        for (const { cut, fiber } of begun) if (cut) yield* Fiber.interrupt(fiber)
        const reading = yield* Effect.forkChild(drain(tier))
        for (const { cut, fiber } of begun) if (!cut) yield* Fiber.join(fiber)
        yield* client.finish
        const { data, end } = yield* Fiber.join(reading)
        assert.strictEqual(end, "End")
        let at = 0
        for (const [i, { cut, length }] of writers.entries()) {
          // What was interrupted is there whole or not at all.
          if (cut && data[at] !== i + 1) continue
          assert.isTrue(data.subarray(at, at + length).every((byte) => byte === i + 1))
          at += length
        }
        assert.strictEqual(at, data.length)
      })
    )
  })
})
