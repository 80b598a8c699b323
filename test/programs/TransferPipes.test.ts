import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as TransferPipes from "../../src/programs/TransferPipes.ts"
import * as World from "./TransferWorld.ts"

const LENGTHS = [0, 1, 65_536, 65_537, 262_144, 262_145, 1_000_000]

describe("TransferPipes", () => {
  it.effect("reads and writes files of every length", () =>
    Effect.gen(function* () {
      for (const length of LENGTHS) {
        const world = yield* World.make({}, {})
        const bytes = World.bytesOf(length, length)
        const pieces = Array.from({ length: Math.ceil(length / 7001) }, (_, i) =>
          bytes.subarray(i * 7001, (i + 1) * 7001)
        )
        const { open } = world.options()
        const done = yield* TransferPipes.write(open, "/in/here", Stream.fromIterable(pieces), { conflict: "skip" })
        assert.strictEqual(done.size, length)
        assert.deepStrictEqual(yield* World.contents(world.there, "/in/here"), bytes)
        const read = yield* Stream.runCollect(TransferPipes.read(open, "/in/here"))
        assert.deepStrictEqual(new Uint8Array(Buffer.concat([...read])), bytes)
      }
    }).pipe(Effect.provide(CryptoNode.layer))
  )

  it.effect("a write that ends early leaves nothing, one that meets a file obeys the rule", () =>
    Effect.gen(function* () {
      const world = yield* World.make({}, { there: { kind: "file", size: 3 } })
      const { open } = world.options()
      const broken = Stream.concat(Stream.make(World.bytesOf(1, 700_000)), Stream.fail("torn"))
      assert.strictEqual(yield* Effect.flip(TransferPipes.write(open, "/new", broken, { conflict: "skip" })), "torn")
      assert.deepStrictEqual(
        (yield* world.there.list("/")).entries.map(({ name }) => name),
        ["there"]
      )
      const bytes = () => Stream.make(World.bytesOf(1, 10))
      const refused = yield* Effect.flip(TransferPipes.write(open, "/there", bytes(), { conflict: "skip" }))
      assert.deepInclude(refused, { reason: "Exists" })
      assert.strictEqual((yield* TransferPipes.write(open, "/there", bytes(), { conflict: "rename" })).to, "/there (2)")
      assert.strictEqual((yield* TransferPipes.write(open, "/there", bytes(), { conflict: "overwrite" })).to, "/there")
      assert.deepStrictEqual(yield* World.contents(world.there, "/there"), World.bytesOf(1, 10))
    }).pipe(Effect.provide(CryptoNode.layer))
  )

  it.effect("reading goes on where the line broke, unless the file is another one then", () =>
    Effect.gen(function* () {
      const bytes = World.bytesOf(1, 2_000_000)
      const there = { a: { kind: "file" as const, bytes } }
      const read = (change: boolean) =>
        Effect.gen(function* () {
          const world = yield* World.make({}, there, { budgets: [900_000, 700_000] })
          const { open } = world.options()
          const parts: Array<Uint8Array> = []
          const fiber = yield* Effect.forkChild(
            Stream.runForEach(TransferPipes.read(open, "/a"), (part) => Effect.sync(() => parts.push(part)))
          )
          while (world.pairs.length < 1 || (world.pairs[0]?.written().server ?? 0) < 900_000) yield* Effect.yieldNow
          if (change) yield* world.there.writeSmall([{ path: "/a", bytes: Uint8Array.of(1), conflict: "replace" }])
          yield* Effect.forkChild(Effect.forever(Effect.andThen(TestClock.adjust("1 second"), Effect.yieldNow)))
          yield* Fiber.join(fiber)
          return new Uint8Array(Buffer.concat(parts))
        })
      assert.deepStrictEqual(yield* read(false), bytes)
      const error = yield* Effect.flip(read(true))
      assert.strictEqual(error.reason, "Changed")
    }).pipe(Effect.provide(CryptoNode.layer))
  )
})
