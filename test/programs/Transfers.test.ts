import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { FilesError } from "../../src/domain/RemoteFile.ts"
import * as StreamHeader from "../../src/domain/StreamHeader.ts"
import { TransferError } from "../../src/domain/TransferError.ts"
import type { Event, Item } from "../../src/programs/TransferEvent.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
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
        if (way === "get") return
        // Of that nothing is kept: nobody can go on with it.
        const again = yield* run(world.put(some, { local: MemoryFileTree.make(nodes) }))
        assert.notInclude(tags(again), "Resuming")
        assert.strictEqual(done(again).length, 2)
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

    it.effect(`${way}: what is the same gets the source's time and mode where it is to be overwritten`, () =>
      Effect.gen(function* () {
        for (const length of [0, 100, 300_000]) {
          for (const rule of ["skip", "rename", "overwrite"] as const) {
            const is = rule === "overwrite"
            const mine = file(1, length)
            const old = { ...file(1, length, 5), mode: 0o600 }
            const remoded = { ...mine, mode: 0o755 }
            const source = { a: mine, b: remoded, c: mine }
            const target = { a: old, b: mine, c: mine }
            const world = yield* World.make(way === "put" ? source : target, way === "get" ? source : target)
            const about = { size: length, mtimeMs: 1_700_000_000_001 }
            const some: ReadonlyArray<Item> = [
              { from: "/a", to: "/a", ...about },
              // The caller has seen that its mode is another.
              { from: "/b", to: "/b", ...about, mode: 0o755 },
              { from: "/c", to: "/c", ...about }
            ]
            const same = (events: ReadonlyArray<Event>) =>
              Object.fromEntries(
                events.flatMap((event) => (event._tag === "Same" ? [[event.from, event.touched]] : []))
              )
            const events = yield* run(world[way](some, { conflict: rule }))
            const expected = { "/a": is ? true : undefined, "/b": is ? true : undefined, "/c": undefined }
            const { "/a": a, ...rest } = expected
            assert.deepStrictEqual(same(events), rule === "skip" ? rest : { "/a": a, ...rest }, `${rule} ${length}`)
            const tree = way === "put" ? world.there : world.here
            const facts = Effect.fnUntraced(function* (path: string) {
              const { mode, mtimeMs, size } = yield* tree.stat(path)
              return [size, mtimeMs, mode]
            })
            assert.deepStrictEqual(
              [yield* facts("/a"), yield* facts("/b")],
              is
                ? [
                    [length, 1_700_000_000_001, 0o640],
                    [length, 1_700_000_000_001, 0o755]
                  ]
                : [
                    [length, 5, 0o600],
                    [length, 1_700_000_000_001, 0o640]
                  ]
            )
            if (!is) continue
            // Both ends read all of a large file, which takes its time.
            const compared = events.flatMap((event) => (event._tag === "Comparing" ? [[event.from, event.size]] : []))
            assert.deepStrictEqual(compared, length > 65_536 ? [["/a", length]] : [])
            // Nothing is left to do, and nothing is hashed for it.
            const digest = () => Effect.die("hashed again")
            const again = yield* run(world[way](some.slice(0, 1), { conflict: rule, digest }))
            assert.deepStrictEqual(same(again), { "/a": undefined })
          }
        }
      })
    )

    it.effect(`${way}: whose time may not be set is the same all the same, and one that changed is not`, () =>
      Effect.gen(function* () {
        for (const [reason, expected] of [
          ["Denied", { _tag: "Same", touched: false }],
          ["Unsupported", { _tag: "Same", touched: false }],
          ["Changed", { _tag: "Failed", reason: "Changed", side: way === "put" ? "server" : "here" }]
        ] as const) {
          const [source, target] = [{ a: file(1, 100) }, { a: file(1, 100, 5) }]
          const world = yield* World.make(way === "put" ? source : target, way === "get" ? source : target)
          const local = {
            ...world.here,
            touch: () => Effect.fail(new FilesError({ reason, message: "no" }))
          }
          const touch = () => Effect.fail(new TransferError({ reason, message: "no", side: "there" }))
          const options = { conflict: "overwrite", ...(way === "put" ? { touch } : { local }) } as const
          const [event] = yield* run(world[way]([{ from: "/a", to: "/a" }], options))
          assert.deepInclude(event, expected)
        }
      })
    )

    it.effect(`${way}: a file that fails says on which side`, () =>
      Effect.gen(function* () {
        const denied: MemoryNode = { kind: "folder", denied: true, children: {} }
        const [here, there] = way === "put" ? (["here", "server"] as const) : (["server", "here"] as const)
        const source = { a: file(1, 100), b: file(1, 300_000), c: file(1, 100), closed: denied }
        const target = {
          closed: denied,
          b: { kind: "folder", children: {} },
          c: { kind: "folder", children: {} }
        } as const
        const world = yield* World.make(way === "put" ? source : target, way === "get" ? source : target)
        const events = yield* run(
          world[way](
            [
              { from: "/none", to: "/none" },
              { from: "/closed/x", to: "/x", size: 5, mtimeMs: 5, isNew: true },
              { from: "/a", to: "/closed/a", size: 100, isNew: true },
              { from: "/b", to: "/b" },
              { from: "/c", to: "/c" },
              { from: "/a", to: `/${"x".repeat(5000)}` }
            ],
            { conflict: "overwrite" }
          )
        )
        const sides = events.flatMap((event) =>
          event._tag === "Failed" ? [[event.from, event.reason, event.side]] : []
        )
        assert.deepStrictEqual(sides.sort(), [
          ["/a", "BadName", undefined],
          ["/a", "Denied", there],
          ["/b", "Exists", there],
          ["/c", "Exists", there],
          ["/closed/x", "Denied", here],
          ["/none", "NotFound", here]
        ])
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

  it.effect("get: large files that are not taken do not stay open at the server", () =>
    Effect.gen(function* () {
      // One more than a server holds for a device.
      const names = Array.from({ length: 65 }, (_, i) => `f${i}`)
      const nodesOf = (length: number) => Object.fromEntries(names.map((name) => [name, file(length, length)]))
      const world = yield* World.make(nodesOf(65_538), nodesOf(65_537))
      const items = names.map((name) => ({ from: `/${name}`, to: `/${name}` }))
      const events = yield* patiently(run(world.get(items)))
      assert.deepStrictEqual([...new Set(tags(events))], ["Skipped"])
    })
  )

  for (const length of [100, 300_000]) {
    it.effect(`put: ${length} bytes that take the place of others, and nobody hears of it`, () =>
      Effect.gen(function* () {
        const items = [{ from: "/a", to: "/a" }]
        const make = (budgets: ReadonlyArray<number>) =>
          World.make({ a: file(1, length) }, { a: file(2, length + 7) }, { budgets })
        const put = (world: World.World) => run(world.put(items, { conflict: "overwrite" }))
        const whole = yield* make([])
        yield* put(whole)
        const { client = 0, server = 0 } = whole.pairs[0]?.written() ?? {}
        const world = yield* make([client + server - 1])
        const events = yield* patiently(put(world))
        assert.deepStrictEqual(tags(events).slice(-2), ["Reconnecting", "Same"])
        assert.deepStrictEqual(yield* World.contents(world.there, "/a"), World.bytesOf(1, length))
      })
    )
  }

  it.effect("put: what somebody else put there after the question is not replaced", () =>
    Effect.gen(function* () {
      for (const length of [100, 300_000]) {
        const world = yield* World.make({ a: file(1, length) }, { a: file(2, length + 7) })
        const other = { path: "/a", bytes: World.bytesOf(3, 5), conflict: "replace" } as const
        const ask = () => Effect.as(world.there.writeSmall([other]), "overwrite" as const)
        const events = yield* run(world.put([{ from: "/a", to: "/a" }], { conflict: "ask", ask }))
        assert.deepInclude(events.at(-1), { _tag: "Failed", reason: "Changed" })
        assert.deepStrictEqual(yield* World.contents(world.there, "/a"), World.bytesOf(3, 5))
      }
    })
  )

  it.effect("waits, and says why in the end, where a device has as many streams as it may", () =>
    Effect.gen(function* () {
      for (const free of [Number.POSITIVE_INFINITY, 3]) {
        const world = yield* World.make({}, { a: file(1, 10), b: file(2, 10) })
        let tries = 0
        const { open: works } = world.options()
        const refused = Effect.tap(World.pair(1), ({ server }) => server.reset(StreamHeader.Code.TooMany))
        const open = Effect.suspend(() => (++tries > free ? works : Effect.map(refused, ({ client }) => client)))
        const events: Array<Event> = []
        const got = Stream.runForEach(
          world.get(
            ["/a", "/b"].map((path) => ({ from: path, to: path })),
            { open }
          ),
          (event) => Effect.sync(() => void events.push(event))
        )
        const exit = yield* patiently(Effect.result(got))
        assert.deepStrictEqual(tags(events), free === 3 ? ["Done", "Done"] : [])
        if (free === 3) continue
        assert.deepInclude(Result.isFailure(exit) ? { ...exit.failure } : {}, { reason: "Busy" })
        assert.strictEqual(tries, 6)
      }
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
