import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import * as TransferFrame from "../../src/domain/TransferFrame.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as SmallTransfers from "../../src/programs/SmallTransfers.ts"
import type { Event, Item } from "../../src/programs/TransferEvent.ts"
import * as TransferLane from "../../src/programs/TransferLane.ts"
import * as TransferSender from "../../src/programs/TransferSender.ts"
import * as Transfers from "../../src/programs/Transfers.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import * as World from "./TransferWorld.ts"

const file = (seed: number, length: number): MemoryNode => ({
  kind: "file",
  bytes: World.bytesOf(seed, length),
  mtimeMs: 1_700_000_000_000 + seed,
  mode: 0o640
})
const COUNT = 150
const lengthOf = (i: number): number => (i % 50 === 7 ? 65_536 : (i * 37) % 4000)
const nodes = (): Record<string, MemoryNode> =>
  Object.fromEntries(Array.from({ length: COUNT }, (_, i) => [`f${i}`, file(i, lengthOf(i))]))
const items = (): Array<Item> =>
  Array.from({ length: COUNT }, (_, i) => ({ from: `/f${i}`, to: `/x/f${i}`, size: lengthOf(i), isNew: true }))

const run = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(Stream.runCollect(stream))
    yield* Effect.forkChild(Effect.forever(Effect.andThen(TestClock.adjust("1 second"), Effect.yieldNow)))
    return [...(yield* Fiber.join(fiber))]
  })
const of = (events: ReadonlyArray<Event>, tag: Event["_tag"]) => events.filter(({ _tag }) => _tag === tag)

const grouped = (some: ReadonlyArray<Item>) =>
  Effect.map(
    Stream.runCollect(SmallTransfers.bundles(Stream.fromIterable(some), ({ isNew }) => isNew === true)),
    (all) => all.map((bundle) => bundle.map(({ from }) => from).join(" "))
  )

describe("SmallTransfers", () => {
  it.effect("bundles what is small and known, within bounds, and nothing else", () =>
    Effect.gen(function* () {
      const item = (from: string, some: Partial<Item> = {}): Item => ({ from, to: from, size: 1, isNew: true, ...some })
      const { size: _, ...unknown } = item("unknown")
      const some = [
        item("a"),
        item("large", { size: 65_537 }),
        item("b", { size: 65_536 }),
        unknown,
        item("folder", { kind: "folder" }),
        item("there", { isNew: false }),
        item("l".repeat(2000)),
        item("c", { kind: "file" })
      ]
      assert.deepStrictEqual(yield* grouped(some), ["large", "unknown", "folder", "there", "l".repeat(2000), "a b c"])
      const counts = (all: ReadonlyArray<string>) => all.map((names) => names.split(" ").length)
      assert.deepStrictEqual(counts(yield* grouped(Array.from({ length: 130 }, (_, i) => item(`${i}`)))), [64, 64, 2])
      const heavy = Array.from({ length: 40 }, (_, i) => item(`${i}`, { size: 65_536 }))
      assert.deepStrictEqual(counts(yield* grouped(heavy)), [16, 16, 8])
    })
  )

  for (const way of ["get", "put"] as const) {
    it.effect(`${way}: files arrive as they are, with their facts`, () =>
      Effect.gen(function* () {
        const world = yield* World.make(way === "put" ? nodes() : {}, way === "get" ? nodes() : {})
        const events = yield* run(world[way](items()))
        assert.strictEqual(of(events, "Done").length, COUNT)
        assert.strictEqual(events.length, COUNT)
        const target = way === "put" ? world.there : world.here
        for (let i = 0; i < COUNT; i++) {
          assert.deepStrictEqual(yield* World.contents(target, `/x/f${i}`), World.bytesOf(i, lengthOf(i)))
          assert.deepInclude(yield* target.stat(`/x/f${i}`), { mtimeMs: 1_700_000_000_000 + i, mode: 0o640 })
        }
      })
    )

    it.effect(`${way}: what is not as it was said goes the long way: taken names, files that grew or are gone`, () =>
      Effect.gen(function* () {
        const from: Record<string, MemoryNode> = { ...nodes(), f3: file(300, 200_000) }
        const { f4: _, ...left } = from
        const target = { x: { kind: "folder", children: { f1: file(9, 5), f2: file(2, lengthOf(2)) } } } as const
        const world = yield* World.make(way === "put" ? left : target, way === "get" ? left : target)
        const events = yield* run(world[way](items(), { conflict: "rename" }))
        const said = (i: number) =>
          events.find(
            (event) =>
              "from" in event && event.from === `/f${i}` && event._tag !== "Started" && event._tag !== "Progress"
          )
        assert.deepInclude(said(1), { _tag: "Done", to: "/x/f1 (2)" })
        assert.deepInclude(said(2), { _tag: "Same" })
        assert.deepInclude(said(3), { _tag: "Done", size: 200_000 })
        assert.deepInclude(said(4), { _tag: "Failed", reason: "NotFound" })
        assert.strictEqual(of(events, "Done").length, COUNT - 2)
        const tree = way === "put" ? world.there : world.here
        assert.deepStrictEqual(yield* World.contents(tree, "/x/f1"), World.bytesOf(9, 5))
        assert.deepStrictEqual(yield* World.contents(tree, "/x/f1 (2)"), World.bytesOf(1, lengthOf(1)))
        assert.deepStrictEqual(yield* World.contents(tree, "/x/f3"), World.bytesOf(300, 200_000))
        assert.strictEqual(world.pairs.length, 1)
      })
    )

    it.effect(`${way}: a line that breaks again and again costs no file, and none arrives twice`, () =>
      Effect.gen(function* () {
        const budgets = [40_000, 3000, 120_000, 10, 90_000]
        const world = yield* World.make(way === "put" ? nodes() : {}, way === "get" ? nodes() : {}, { budgets })
        const events = yield* run(world[way](items(), { conflict: "rename" }))
        assert.strictEqual(world.pairs.length, budgets.length + 1)
        assert.strictEqual(of(events, "Done").length + of(events, "Same").length, COUNT)
        const target = way === "put" ? world.there : world.here
        assert.strictEqual((yield* target.usage("/x")).files, COUNT)
        for (let i = 0; i < COUNT; i++) {
          assert.deepStrictEqual(yield* World.contents(target, `/x/f${i}`), World.bytesOf(i, lengthOf(i)))
        }
      })
    )
  }

  it.effect("get: a disk that takes no file says so of each, once", () =>
    Effect.gen(function* () {
      const world = yield* World.make({}, nodes())
      const [full] = yield* world.here.writeSmall([{ path: "none/f", bytes: new Uint8Array(0) }])
      assert.isTrue(full !== undefined && Result.isFailure(full))
      const local = {
        ...world.here,
        writeSmall: (files: ReadonlyArray<unknown>) => Effect.succeed(files.flatMap(() => (full ? [full] : [])))
      }
      const events = yield* run(world.get(items(), { local }))
      assert.strictEqual(events.length, COUNT)
      assert.isTrue(events.every((event) => event._tag === "Failed" && event.reason === "NotFound"))
      // Each was sent once.
      assert.isBelow(world.pairs[0]?.written().server ?? 0, 700_000)
    })
  )

  /** A server that answers every `Want` as it is told. */
  const hostile = (answer: (id: number, asked: number) => ReadonlyArray<TransferFrame.Frame>) =>
    Effect.gen(function* () {
      const up = yield* Queue.unbounded<Uint8Array>()
      const down = yield* Queue.unbounded<Uint8Array>()
      const { frames } = { frames: new TransferFrame.Frames() }
      let head = StreamHeader.files().length
      let asked = 0
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.gen(function* () {
            const bytes = yield* Queue.take(up)
            const rest = bytes.subarray(Math.min(head, bytes.length))
            head -= bytes.length - rest.length
            for (const frame of frames.push(rest) ?? []) {
              if (frame._tag !== "Want") continue
              for (const each of answer(frame.id, asked++)) yield* Queue.offer(down, TransferFrame.encode(each))
            }
          })
        )
      )
      const open = Effect.succeed({
        id: 0,
        read: Queue.takeAll(down),
        write: (bytes: Uint8Array) => Effect.asVoid(Queue.offer(up, bytes.slice())),
        finish: Effect.void,
        reset: () => Effect.void,
        stop: () => Effect.void,
        setPriority: () => Effect.void
      })
      return open
    })

  const { hash } = CryptoNode.primitives
  const facts = { size: 3, mtimeMs: 5, mode: 0o644, fingerprint: "x" }
  const good = Uint8Array.of(1, 2, 3)
  const root = TransferSender.rootOf(hash, good)
  const lies: Record<string, (id: number) => ReadonlyArray<TransferFrame.Frame>> = {
    "bytes that do not fit the root": (id) => [
      { _tag: "File", id, facts },
      { _tag: "Data", id, bytes: Uint8Array.of(1, 2, 4) },
      { _tag: "End", id, root }
    ],
    "fewer bytes than it said": (id) => [
      { _tag: "File", id, facts: { ...facts, size: 4 } },
      ...TransferSender.eager(id, good, root)
    ],
    "bytes twice": (id) => [
      { _tag: "File", id, facts },
      { _tag: "Data", id, bytes: good },
      { _tag: "Data", id, bytes: good }
    ],
    "facts twice": (id) => [
      { _tag: "File", id, facts },
      { _tag: "File", id, facts }
    ],
    "bytes without facts": (id) => [{ _tag: "Data", id, bytes: good }],
    "an end at once": (id) => [{ _tag: "End", id, root }],
    "what is for servers": (id) => [{ _tag: "Done", id, path: "/x" }]
  }
  for (const [what, lie] of Object.entries(lies)) {
    it.effect(`get: a server that sends ${what} puts nothing on this disk`, () =>
      Effect.gen(function* () {
        const truth = (id: number): ReadonlyArray<TransferFrame.Frame> => [
          { _tag: "File", id, facts },
          ...TransferSender.eager(id, good, root)
        ]
        const open = yield* hostile((id, asked) => (asked % 3 === 0 ? truth(id) : lie(id)))
        const local = MemoryFileTree.make()
        const some = [0, 1, 2].map((i): Item => ({ from: `/f${i}`, to: `/f${i}`, size: 3, isNew: true }))
        const events = Stream.provide(
          Transfers.get({ open, local, conflict: "overwrite", retries: 0 }, Stream.fromIterable(some)),
          CryptoNode.layer
        )
        yield* Effect.exit(run(events))
        const { entries } = yield* local.list("/")
        for (const { name } of entries) assert.deepStrictEqual(yield* World.contents(local, `/${name}`), good)
        assert.notDeepInclude(
          entries.map(({ name }) => name),
          "f2"
        )
      })
    )
  }

  it.effect("what is sent together goes in few writes, in order, and what is long is not copied", () =>
    Effect.gen(function* () {
      const writes: Array<Uint8Array> = []
      const lane = yield* TransferLane.make({
        read: Effect.never,
        write: (bytes) => Effect.sync(() => void writes.push(bytes))
      })
      const long = World.bytesOf(1, 65_536)
      const frames = [
        ...Array.from(
          { length: 200 },
          (_, id): TransferFrame.Frame => ({ _tag: "Data", id, bytes: World.bytesOf(id, 2000) })
        ),
        { _tag: "Data", id: 200, bytes: long } as const,
        { _tag: "End", id: 200, root } as const
      ]
      yield* lane.send(...frames)
      assert.isBelow(writes.length, 12)
      assert.isTrue(writes.some(({ buffer }) => buffer === long.buffer))
      assert.deepStrictEqual(concat(...writes), concat(...frames.map(TransferFrame.encode)))
    })
  )
})
