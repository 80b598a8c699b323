import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { FilesError } from "../../src/domain/RemoteFile.ts"
import type { Event, Item } from "../../src/programs/TransferEvent.ts"
import type { MemoryNode } from "../../src/services/MemoryNodes.ts"
import * as World from "./TransferWorld.ts"

const LENGTHS = [0, 1, 5, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 1_500_000, 3 * 262_144]
const NAMES = ["empty", "one byte", "ünï.txt", "日本語.md", "Здравствуй", "مرحبا", "नमस्ते", "h", "i", "j", "k"]

const file = (seed: number, length: number, mtimeMs = 1_700_000_000_000 + seed): MemoryNode => ({
  kind: "file",
  bytes: World.bytesOf(seed, length),
  mtimeMs,
  mode: 0o640
})

const all = (): Record<string, MemoryNode> =>
  Object.fromEntries(NAMES.map((name, i) => [name, file(i, LENGTHS[i] as number)]))
const items = (withFacts: boolean): Array<Item> =>
  NAMES.map((name, i) => ({
    from: `/${name}`,
    to: `/new/${name}`,
    ...(withFacts ? { size: LENGTHS[i] as number, mtimeMs: 1_700_000_000_000 + i } : {})
  }))

const run = <A, E>(stream: Stream.Stream<A, E>) => Effect.map(Stream.runCollect(stream), (all) => [...all])
/** Runs while the clock goes on. */
const patiently = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(effect)
    yield* Effect.forkChild(Effect.forever(Effect.andThen(TestClock.adjust("1 second"), Effect.yieldNow)))
    return yield* Fiber.join(fiber)
  })
const tags = (events: ReadonlyArray<Event>) => events.map(({ _tag }) => _tag)
const done = (events: ReadonlyArray<Event>) => events.flatMap((event) => (event._tag === "Done" ? [event] : []))

describe("Transfers", () => {
  for (const way of ["get", "put"] as const) {
    for (const withFacts of [true, false]) {
      it.effect(`${way}: files of every length arrive as they are, ${withFacts ? "with" : "without"} their facts`, () =>
        Effect.gen(function* () {
          const world = yield* World.make(way === "put" ? all() : {}, way === "get" ? all() : {})
          const events = yield* run(world[way](items(withFacts)))
          assert.strictEqual(done(events).length, NAMES.length)
          const target = way === "put" ? world.there : world.here
          for (const [i, name] of NAMES.entries()) {
            assert.deepStrictEqual(
              yield* World.contents(target, `/new/${name}`),
              World.bytesOf(i, LENGTHS[i] as number)
            )
            const stat = yield* target.stat(`/new/${name}`)
            assert.deepInclude(stat, { mtimeMs: 1_700_000_000_000 + i })
            const event = done(events).find(({ to }) => to === `/new/${name}`)
            assert.strictEqual(event?.size, LENGTHS[i])
            assert.strictEqual(event?.moved, LENGTHS[i])
            assert.match(event?.root ?? "", /^[0-9a-f]{64}$/)
          }
          assert.strictEqual(world.pairs.length, 1)
        })
      )
    }

    it.effect(`${way}: a thousand small files go in few writes and one stream`, () =>
      Effect.gen(function* () {
        const nodes = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`f${i}`, file(i, i)]))
        const world = yield* World.make(way === "put" ? nodes : {}, way === "get" ? nodes : {})
        const some = Array.from({ length: 1000 }, (_, i) => ({ from: `/f${i}`, to: `/x/f${i}`, size: i }))
        const events = yield* run(world[way](some))
        assert.deepStrictEqual([...new Set(tags(events))], ["Done"])
        assert.strictEqual(events.length, 1000)
        const target = way === "put" ? world.there : world.here
        for (const i of [0, 1, 500, 999]) {
          assert.deepStrictEqual(yield* World.contents(target, `/x/f${i}`), World.bytesOf(i, i))
        }
      })
    )

    it.effect(`${way}: goes on where the line broke, and sends nothing twice but what was on its way`, () =>
      Effect.gen(function* () {
        const size = 6_000_000
        const nodes = { big: file(3, size), other: file(4, 900_000) }
        const cuts = [700_000, 1_900_000, 100, 2_500_000, 60]
        const world = yield* World.make(way === "put" ? nodes : {}, way === "get" ? nodes : {}, { budgets: cuts })
        const events = yield* patiently(
          run(
            world[way]([
              { from: "/big", to: "/big2" },
              { from: "/other", to: "/other2" }
            ])
          )
        )
        assert.strictEqual(world.pairs.length, cuts.length + 1)
        // Where only the last word was lost, the file is found there.
        const over = events.filter(({ _tag }) => _tag === "Done" || _tag === "Same")
        assert.strictEqual(over.length, 2, JSON.stringify(events))
        assert.strictEqual(tags(events).filter((tag) => tag === "Reconnecting").length, cuts.length)
        assert.include(tags(events), "Resuming")
        const target = way === "put" ? world.there : world.here
        assert.deepStrictEqual(yield* World.contents(target, "/big2"), World.bytesOf(3, size))
        assert.deepStrictEqual(yield* World.contents(target, "/other2"), World.bytesOf(4, 900_000))
        const written = world.pairs.map((pair) => pair.written()[way === "put" ? "client" : "server"])
        const total = written.reduce((sum, each) => sum + each, 0)
        // Per cut: less than a block of each file, and what the queues of the line held.
        assert.isBelow(total, (size + 900_000) * 1.01 + cuts.length * (2 * 262_144 + 16 * 40_000))
      })
    )

    it.effect(`${way}: another run goes on where one was stopped`, () =>
      Effect.gen(function* () {
        const size = 4_000_000
        const nodes = { big: file(3, size) }
        const world = yield* World.make(way === "put" ? nodes : {}, way === "get" ? nodes : {})
        const half = Stream.takeUntil(
          world[way]([{ from: "/big", to: "/b" }]),
          (event) => event._tag === "Progress" && event.bytes > 2_500_000
        )
        assert.notInclude(tags(yield* run(half)), "Done")
        const target = way === "put" ? world.there : world.here
        assert.instanceOf(yield* Effect.flip(target.stat("/b")), FilesError)
        const events = yield* patiently(run(world[way]([{ from: "/big", to: "/b" }])))
        const resuming = events.find((event) => event._tag === "Resuming")
        assert.isAtLeast(resuming?._tag === "Resuming" ? resuming.offset : 0, 262_144)
        const [last] = done(events)
        assert.isBelow(last?.moved ?? size, size)
        assert.deepStrictEqual(yield* World.contents(target, "/b"), World.bytesOf(3, size))
      })
    )

    it.effect(`${way}: a source that changes while it is read is not passed on`, () =>
      Effect.gen(function* () {
        const nodes = { big: file(3, 600_000), small: file(4, 10) }
        const world = yield* World.make(way === "put" ? nodes : {}, way === "get" ? nodes : {}, { changing: true })
        const some = ["/big", "/small"].map((from) => ({ from, to: `${from}2` }))
        const events = yield* run(world[way](some))
        const failed = events.flatMap((event) => (event._tag === "Failed" ? [event.reason] : []))
        assert.deepStrictEqual(failed, ["Changed", "Changed"])
        assert.notInclude(tags(events), "Done")
        assert.deepStrictEqual([...(yield* (way === "put" ? world.there : world.here).list("/")).entries], [])
      })
    )

    it.effect(`${way}: what stands there is treated by the rule`, () =>
      Effect.gen(function* () {
        for (const length of [100, 300_000]) {
          for (const rule of ["skip", "overwrite", "rename"] as const) {
            const [mine, old, same] = [file(1, length), file(2, length + 7), file(1, length, 5)]
            const source = { a: mine, b: mine, c: mine }
            const target = { a: old, b: same, c: mine }
            const world = yield* World.make(way === "put" ? source : target, way === "get" ? source : target)
            const some = ["/a", "/b", "/c"].map((from) => ({ from, to: from }))
            const events = yield* run(world[way](some, { conflict: rule }))
            const outcome = Object.fromEntries(
              events.flatMap((event) =>
                "from" in event && !["Started", "Progress"].includes(event._tag) ? [[event.from, event]] : []
              )
            )
            assert.strictEqual(outcome["/c"]?._tag, "Same", rule)
            assert.strictEqual(outcome["/b"]?._tag, rule === "skip" ? "Skipped" : "Same", rule)
            assert.deepInclude(
              outcome["/a"],
              rule === "skip" ? { _tag: "Skipped" } : { _tag: "Done", to: rule === "rename" ? "/a (2)" : "/a" }
            )
            const tree = way === "put" ? world.there : world.here
            const expected = rule === "overwrite" ? World.bytesOf(1, length) : World.bytesOf(2, length + 7)
            assert.deepStrictEqual(yield* World.contents(tree, "/a"), expected, rule)
            if (rule === "rename")
              assert.deepStrictEqual(yield* World.contents(tree, "/a (2)"), World.bytesOf(1, length))
          }
        }
      })
    )

    it.effect(`${way}: the one who is asked decides, and can stop it all`, () =>
      Effect.gen(function* () {
        const source = { a: file(1, 10), b: file(2, 10) }
        const target = { a: file(3, 11), b: file(4, 11) }
        const world = yield* World.make(way === "put" ? source : target, way === "get" ? source : target)
        const some = ["/a", "/b"].map((from) => ({ from, to: from }))
        const asked: Array<string> = []
        const events = yield* run(
          world[way](some, {
            conflict: "ask",
            ask: ({ item }) => Effect.sync(() => (asked.push(item.to) === 1 ? "skip" : "overwrite"))
          })
        )
        assert.deepStrictEqual(asked.toSorted(), ["/a", "/b"])
        assert.deepStrictEqual(tags(events).toSorted(), ["Done", "Skipped"])
        const error = yield* Effect.flip(run(world[way](some, { conflict: "ask", ask: () => Effect.succeed("stop") })))
        assert.strictEqual(error.reason, "Stopped")
      })
    )

    it.effect(`${way}: one file that fails leaves the others alone; folders are made`, () =>
      Effect.gen(function* () {
        const nodes: Record<string, MemoryNode> = { a: file(1, 10), link: { kind: "link" }, pipe: { kind: "other" } }
        const world = yield* World.make(way === "put" ? nodes : {}, way === "get" ? nodes : {})
        const events = yield* run(
          world[way]([
            { from: "/nowhere", to: "/n" },
            { from: "/link", to: "/l" },
            { from: "/pipe", to: "/p" },
            { from: "/../x", to: "/x" },
            { from: "/a", to: "../a" },
            { from: "", to: "/deep/folder", kind: "folder" },
            { from: "/a", to: "/a" }
          ])
        )
        const failed = Object.fromEntries(
          events.flatMap((event) => (event._tag === "Failed" ? [[event.to, event.reason]] : []))
        )
        assert.deepStrictEqual(failed, {
          "/n": "NotFound",
          "/l": "NotAFile",
          "/p": "NotAFile",
          "/x": "BadName",
          "../a": "BadName"
        })
        assert.includeMembers(tags(events), ["Done", "Folder"])
        const target = way === "put" ? world.there : world.here
        assert.strictEqual((yield* target.stat("/deep/folder")).kind, "folder")
      })
    )
  }

  it.effect("a path that fits into no frame fails by itself, and costs the others nothing", () =>
    Effect.gen(function* () {
      const world = yield* World.make({ a: { kind: "file", size: 3 } }, { a: { kind: "file", size: 3 } })
      const long = `/${"\u6f22".repeat(80)}`.repeat(20)
      for (const [run, items] of [
        [
          world.put,
          [
            { from: "/a", to: long },
            { from: "/a", to: "/b" },
            { from: "/a", to: long, kind: "folder" }
          ]
        ],
        [
          world.get,
          [
            { from: long, to: "/c" },
            { from: "/a", to: "/b" }
          ]
        ]
      ] as const) {
        const events = yield* Stream.runCollect(run(items))
        assert.deepStrictEqual(events.map((event) => (event._tag === "Failed" ? event.reason : event._tag)).sort(), [
          ...items.slice(1).map(() => "BadName"),
          "Done"
        ])
      }
      assert.strictEqual(world.pairs.length, 2)
    })
  )

  it.effect("gives up when the line does not come back", () =>
    Effect.gen(function* () {
      const world = yield* World.make({}, { a: file(1, 2_000_000) }, { budgets: Array.from({ length: 20 }, () => 10) })
      const error = yield* Effect.flip(patiently(run(world.get([{ from: "/a", to: "/a" }], { retries: 3 }))))
      assert.strictEqual(error.reason, "Lost")
      assert.strictEqual(world.pairs.length, 4)
    })
  )
})
