/** Large files that take the place of older ones: what changed crosses the line, and nothing is believed without its hash. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import { FilesError } from "../../src/domain/RemoteFile.ts"
import type { Event } from "../../src/programs/TransferEvent.ts"
import type { FileTree } from "../../src/services/FileTree.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import * as World from "./TransferWorld.ts"

const SIZE = 5_000_000
const OLD = World.bytesOf(1, SIZE)
const delta = Effect.succeed(true)
/** Milliseconds: the clock of these tests runs away while the host computes. */
const idleMs = 86_400_000

const node = (bytes: Uint8Array, mtimeMs = 5): MemoryNode => ({ kind: "file", bytes, mtimeMs, mode: 0o600 })

const edited = (): Uint8Array => {
  const bytes = OLD.slice()
  for (const at of [10, 2_000_000, 4_999_000]) bytes.set(World.bytesOf(at, 900), at)
  return bytes
}
const EDITS: ReadonlyArray<readonly [string, Uint8Array, number]> = [
  ["nothing but its time", OLD, 0],
  ["900 bytes in three places", edited(), 3],
  ["ten bytes put before it", concat(World.bytesOf(7, 10), OLD), 1],
  ["300 kB appended", concat(OLD, World.bytesOf(8, 300_000)), 0],
  ["its second half cut off", OLD.subarray(0, SIZE / 2), 1],
  ["its halves exchanged", concat(OLD.subarray(SIZE / 2), OLD.subarray(0, SIZE / 2)), 2]
]

const items = [{ from: "/f", to: "/f" }]
const run = <A, E>(stream: Stream.Stream<A, E>) => Effect.map(Stream.runCollect(stream), (all) => [...all])
const done = (events: ReadonlyArray<Event>) => events.find((event) => event._tag === "Done")
const same = (a: Uint8Array, b: Uint8Array) => assert.isTrue(Buffer.from(a).equals(b), "other bytes")
/** Runs while the clock goes on. */
const patiently = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    yield* Effect.forkChild(Effect.forever(Effect.andThen(TestClock.adjust("1 second"), Effect.yieldNow)))
    return yield* Fiber.join(fiber)
  })

describe("TransferDelta", () => {
  for (const way of ["get", "put"] as const) {
    const make = (now: Uint8Array, old: Uint8Array, options = {}) => {
      const [source, target] = [{ f: node(now, 9) }, { f: node(old) }]
      return World.make(way === "put" ? source : target, way === "put" ? target : source, options)
    }
    const targetOf = (world: World.World): FileTree => (way === "put" ? world.there : world.here)

    for (const [what, now, places] of EDITS) {
      it.effect(`${way}: ${what}`, () =>
        Effect.gen(function* () {
          // Without a digest, or the first would be the same.
          const world = yield* make(now, OLD)
          const digest = () => Effect.succeed("")
          const events = yield* run(world[way](items, { conflict: "overwrite", delta, digest }))
          const last = done(events)
          assert.strictEqual(last?._tag === "Done" ? last.size : -1, now.length, JSON.stringify(events))
          same(yield* World.contents(targetOf(world), "/f"), now)
          const { client, server } = world.pairs[0]?.written() ?? { client: 0, server: 0 }
          const literal = Math.max(0, now.length - SIZE)
          // A list of 19 bytes for 9 KiB, and some chunks beside each place.
          assert.isBelow(client + server, literal + (places + 2) * 100_000)
          assert.isAtMost(last?._tag === "Done" ? last.moved : SIZE, literal + (places + 1) * 100_000)
        })
      )
    }

    it.effect(`${way}: is whole where nobody wants less, and where the old file is small or another`, () =>
      Effect.gen(function* () {
        const now = edited()
        const cases: ReadonlyArray<readonly [Uint8Array, Effect.Effect<boolean> | undefined]> = [
          [OLD, undefined],
          [OLD, Effect.succeed(false)],
          [OLD.subarray(0, 900_000), delta],
          [World.bytesOf(77, SIZE), delta]
        ]
        for (const [old, wanted] of cases) {
          const world = yield* make(now, old)
          const options = wanted === undefined ? {} : { delta: wanted }
          const events = yield* run(world[way](items, { conflict: "overwrite", ...options }))
          assert.strictEqual(done(events)?.moved, SIZE)
          same(yield* World.contents(targetOf(world), "/f"), now)
        }
      })
    )

    it.effect(`${way}: goes on where the line broke, and says again what it can copy`, () =>
      Effect.gen(function* () {
        const now = concat(OLD.subarray(0, 2_500_000), World.bytesOf(9, 1_500_000), OLD.subarray(2_500_000))
        const world = yield* make(now, OLD, { budgets: [700_000, 900_000, 50] })
        const events = yield* patiently(run(world[way](items, { conflict: "overwrite", delta, idleMs })))
        assert.strictEqual(world.pairs.length, 4)
        assert.include(
          events.map(({ _tag }) => _tag),
          "Resuming"
        )
        same(yield* World.contents(targetOf(world), "/f"), now)
        const total = world.pairs.reduce((sum, pair) => sum + pair.written().client + pair.written().server, 0)
        assert.isBelow(total, 1_500_000 + 3 * (2 * 262_144 + 16 * 40_000))
      })
    )

    it.effect(`${way}: an old file that is not what it was fails, or is sent whole; the old one stays till then`, () =>
      Effect.gen(function* () {
        // Of another size: nobody compares the two by reading them.
        const now = concat(edited(), OLD.subarray(0, 1))
        const world = yield* make(now, OLD)
        const target = targetOf(world)
        // What was listed is not what is copied.
        const rotten = (unchanged: Effect.Effect<void, FilesError>): FileTree["open"] => {
          let opened = 0
          return (path) =>
            Effect.map(open(path), (reader) => {
              const isFirst = opened++ === 0
              let reads = 0
              return {
                ...reader,
                readAt: (offset, length) =>
                  Effect.map(reader.readAt(offset, length), (bytes) =>
                    isFirst && reads++ > SIZE / 262_144 ? bytes.fill(0) : bytes
                  ),
                unchanged: isFirst ? unchanged : reader.unchanged
              }
            })
        }
        const changed = new FilesError({ reason: "Changed", message: "it was written to" })
        const { open } = target
        const over = target as { open: FileTree["open"] }
        over.open = rotten(Effect.fail(changed))
        const failed = yield* run(world[way](items, { conflict: "overwrite", delta }))
        over.open = open
        assert.deepStrictEqual(
          failed.flatMap((event) => (event._tag === "Failed" ? [event.reason] : [])),
          ["Changed"]
        )
        same(yield* World.contents(target, "/f"), OLD)
        over.open = rotten(Effect.void)
        const events = yield* run(world[way](items, { conflict: "overwrite", delta }))
        over.open = open
        assert.isAtLeast(done(events)?.moved ?? 0, SIZE)
        same(yield* World.contents(target, "/f"), now)
      })
    )
  }

  it.effect("speaks the first version with a server that knows no other", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ f: node(edited(), 9) }, { f: node(OLD) }, { versions: 1 })
      const events = yield* patiently(run(world.put(items, { conflict: "overwrite", delta, idleMs })))
      assert.strictEqual(world.pairs.length, 2)
      assert.strictEqual(done(events)?.moved, SIZE)
      same(yield* World.contents(world.there, "/f"), edited())
    })
  )
})

describe("A file put beside another", () => {
  for (const way of ["get", "put"] as const) {
    for (const length of [40, 700_000]) {
      it.effect(`${way}: of ${length} bytes is there once, whenever the line is lost`, () =>
        Effect.gen(function* () {
          const mine = World.bytesOf(3, length)
          const make = (...budgets: ReadonlyArray<number>) => {
            const [source, target] = [{ f: node(mine, 9) }, { f: node(World.bytesOf(4, length + 1)) }]
            return World.make(way === "put" ? source : target, way === "put" ? target : source, { budgets })
          }
          const whole = yield* make()
          yield* run(whole[way](items, { conflict: "rename" }))
          const { client, server } = whole.pairs[0]?.written() ?? { client: 0, server: 0 }
          // The last words are 9 bytes: the line is lost before them, within them, and when all was said.
          for (let budget = client + server - 90; budget <= client + server; budget += 3) {
            const world = yield* make(budget)
            const events = yield* patiently(run(world[way](items, { conflict: "rename", idleMs })))
            const tree = way === "put" ? world.there : world.here
            const names = (yield* tree.list("/")).entries.map(({ name }) => name)
            assert.deepStrictEqual(names, ["f", "f (2)"], `${budget} ${JSON.stringify(events)}`)
            const last = done(events)
            assert.strictEqual(last?._tag === "Done" ? last.to : "", "/f (2)")
            assert.match(last?._tag === "Done" ? last.root : "", /^[0-9a-f]{64}$/)
            same(yield* World.contents(tree, "/f (2)"), mine)
          }
        })
      )
    }
  }

  it.effect("get: is there once, if the line is lost while it gets its name", () =>
    Effect.gen(function* () {
      const mine = World.bytesOf(3, 700_000)
      const world = yield* World.make({ f: node(World.bytesOf(4, 700_001)) }, { f: node(mine, 9) })
      const local: FileTree = {
        ...world.here,
        write: (path, options) =>
          Effect.map(world.here.write(path, options), (writer) => ({
            ...writer,
            commit: Effect.tap(writer.commit, () =>
              Effect.andThen(world.pairs[0]?.cut ?? Effect.void, Effect.repeat(Effect.yieldNow, { times: 50 }))
            )
          }))
      }
      const events = yield* patiently(run(world.get(items, { conflict: "rename", idleMs, local })))
      const names = (yield* world.here.list("/")).entries.map(({ name }) => name)
      assert.deepStrictEqual(names, ["f", "f (2)"], JSON.stringify(events))
      assert.deepInclude(done(events), { to: "/f (2)", size: 700_000 })
      same(yield* World.contents(world.here, "/f (2)"), mine)
    })
  )

  it.effect("is a second one where its content is another", () =>
    Effect.gen(function* () {
      for (const length of [40, 700_000]) {
        const target = { f: node(World.bytesOf(4, length)), "f (2)": node(World.bytesOf(5, length), 9) }
        const world = yield* World.make({ f: node(World.bytesOf(3, length), 9) }, target)
        const events = yield* run(world.put(items, { conflict: "rename" }))
        assert.strictEqual(done(events)?.to, "/f (3)")
      }
    })
  )
})
