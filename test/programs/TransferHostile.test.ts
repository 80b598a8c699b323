/** Peers that are none of ours: what they send is refused, bounded, and leaves nothing visible. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import * as TransferFrame from "../../src/domain/TransferFrame.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as FilesBulk from "../../src/programs/FilesBulk.ts"
import { take } from "../../src/programs/StreamReader.ts"
import * as TransferClaims from "../../src/programs/TransferClaims.ts"
import type { Event } from "../../src/programs/TransferEvent.ts"
import * as TransferLane from "../../src/programs/TransferLane.ts"
import * as Transfers from "../../src/programs/Transfers.ts"
import type { FileTree } from "../../src/services/FileTree.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import * as World from "./TransferWorld.ts"

type Frame = TransferFrame.Frame

const facts = (size: number | undefined): TransferFrame.Facts => ({ size, mtimeMs: 5, mode: 0o777, fingerprint: "f" })
const hash = new Uint8Array(32).fill(1)
const data = (length: number): Frame => ({ _tag: "Data", id: 0, bytes: new Uint8Array(length).fill(65) })
const whole = (length: number): ReadonlyArray<Frame> =>
  Array.from({ length: length / TransferFrame.PIECE_LENGTH }, () => data(TransferFrame.PIECE_LENGTH))
const file = (size: number | undefined): Frame => ({ _tag: "File", id: 0, facts: facts(size) })
const end: Frame = { _tag: "End", id: 0, root: hash }

/** What a client that wants one file makes of these answers: to its `Want`, and to its `Accept`. */
const answer = (first: Uint8Array, then: Uint8Array = new Uint8Array(0)) =>
  Effect.gen(function* () {
    const local = MemoryFileTree.make({})
    const scope = yield* Effect.scope
    const open = Effect.gen(function* () {
      const pair = yield* World.pair(3)
      const server = Effect.gen(function* () {
        const { rest } = yield* take(pair.server, 2)
        yield* rest.read
        yield* pair.server.write(first)
        yield* rest.read
        yield* pair.server.write(then)
        return yield* Effect.never
      })
      yield* Effect.forkIn(Effect.ignore(server), scope)
      return pair.client
    })
    const events = Stream.provide(
      Transfers.get({ open, local, conflict: "overwrite" }, Stream.make({ from: "/x", to: "/x" })),
      CryptoNode.layer
    )
    const told: Array<Event> = []
    const exit = yield* Effect.result(Stream.runForEach(events, (event) => Effect.sync(() => told.push(event))))
    const left = yield* local.list("/")
    assert.deepStrictEqual([...left.entries], [], "nothing visible")
    const failed = told.find((event) => event._tag === "Failed")
    return exit._tag === "Failure" ? exit.failure.reason : failed?._tag === "Failed" ? failed.reason : "no failure"
  })

const encode = (...frames: ReadonlyArray<Frame>) => concat(...frames.map(TransferFrame.encode))

describe("A hostile server", () => {
  const cases: ReadonlyArray<readonly [string, string, Uint8Array, Uint8Array?]> = [
    ["a small file with a wrong root", "Damaged", encode(file(10), data(10), end)],
    ["a small file with too few bytes", "Damaged", encode(file(10), data(9), end)],
    ["a small file with too many bytes", "Damaged", encode(file(10), data(11), end)],
    ["a small file in two pieces", "Protocol", encode(file(10), data(5), data(5), end)],
    ["an empty file with bytes", "Protocol", encode(file(0), data(5), end)],
    ["a file of unknown length", "Protocol", encode(file(undefined))],
    ["the end before the bytes", "Damaged", encode(file(300_000)), encode(end)],
    [
      "a block with a wrong hash",
      "Damaged",
      encode(file(600_000)),
      encode(...whole(BLOCK_LENGTH), { _tag: "Block", id: 0, hash })
    ],
    ["a block that is none", "Damaged", encode(file(600_000)), encode(data(9), { _tag: "Block", id: 0, hash })],
    ["more bytes than it said", "Changed", encode(file(70_000)), encode(data(65_536), data(65_536), end)],
    ["a large file with a wrong root", "Damaged", encode(file(70_000)), encode(data(65_536), data(4464), end)],
    ["a question in place of an answer", "Protocol", encode({ _tag: "Want", id: 0, path: "/etc/passwd" })],
    [
      "a file that nobody wanted",
      "Protocol",
      encode({ _tag: "Put", id: 0, facts: facts(1), conflict: "replace", path: "../../x" })
    ],
    ["an order to send", "Protocol", encode({ _tag: "Accept", id: 0, offset: 0, state: new Uint8Array(0) })],
    ["a frame longer than any", "Protocol", Uint8Array.of(6, 0xbf, 0xff, 0xff, 0xff)],
    ["anything else", "Protocol", World.bytesOf(9, 4000)],
    ["a refusal", "Denied", encode({ _tag: "Fail", id: 0, reason: "Denied", message: "no" })]
  ]
  for (const [what, reason, first, then] of cases) {
    it.effect(`sends ${what}`, () =>
      Effect.gen(function* () {
        assert.strictEqual(yield* answer(first, then), reason)
      })
    )
  }

  it.effect("names another file: what is asked for decides where it goes", () =>
    Effect.gen(function* () {
      // There is no place in a File where a name could stand; Done is only told to people.
      const [frame] = new TransferFrame.Frames().push(TransferFrame.encode(file(3))) ?? []
      assert.notProperty(frame, "path")
      assert.strictEqual(yield* answer(encode({ _tag: "Done", id: 0, path: "../../x" })), "Protocol")
    })
  )
})

/** What the server ends with after these bytes. */
const served = (bytes: Uint8Array, tree = MemoryFileTree.make({ a: { kind: "file", size: 300_000 } })) =>
  Effect.gen(function* () {
    const pair = yield* World.pair(4)
    const claims = TransferClaims.make()
    const serving = yield* Effect.forkChild(
      Effect.flip(Effect.scoped(FilesBulk.serve(tree, CryptoNode.primitives, claims, pair.server)))
    )
    yield* Effect.forkChild(Effect.ignore(pair.client.write(bytes)))
    return { fiber: serving, pair, tree }
  })

describe("A hostile client", () => {
  it.effect("begins more files than it may", () =>
    Effect.gen(function* () {
      const puts = Array.from(
        { length: FilesBulk.MAX_FILES + 1 },
        (_, id): Frame => ({ ...file(300_000), _tag: "Want", id, path: "/a" })
      )
      const { fiber } = yield* served(encode(...puts))
      assert.strictEqual((yield* Fiber.join(fiber)).reason, "Protocol")
    })
  )

  it.effect("gives two files one id, or speaks as a server", () =>
    Effect.gen(function* () {
      const want: Frame = { _tag: "Want", id: 7, path: "/a" }
      for (const bytes of [encode(want, want), encode({ _tag: "Done", id: 0, path: "x" }), Uint8Array.of(0x77, 1, 0)]) {
        const { fiber } = yield* served(bytes)
        assert.strictEqual((yield* Fiber.join(fiber)).reason, "Protocol")
      }
    })
  )

  it.effect("lets the server hold no more, on all its streams, than one device may", () =>
    Effect.gen(function* () {
      const claims = TransferClaims.make()
      const tree = MemoryFileTree.make({ a: { kind: "file", size: 300_000 } })
      const scope = yield* Effect.scope
      const stuck: FileTree = { ...tree, write: () => Effect.never, writeSmall: () => Effect.never }
      /** Sends all that, reads nothing; how much the server took before it gave up or stopped reading. */
      const flood = Effect.fnUntraced(function* (frames: ReadonlyArray<Frame>) {
        const pair = yield* World.pair(5)
        const over = yield* Effect.forkIn(
          Effect.flip(Effect.scoped(FilesBulk.serve(stuck, CryptoNode.primitives, claims, pair.server))),
          scope
        )
        yield* Effect.forkIn(
          Effect.ignore(Effect.forEach(frames, (frame) => pair.client.write(encode(frame)), { discard: true })),
          scope
        )
        return over
      })
      const puts = Array.from({ length: FilesBulk.MAX_FILES }, (_, id): ReadonlyArray<Frame> => {
        const size = id < 16 ? 300_000 : TransferFrame.PIECE_LENGTH
        const bytes = (id: number): Frame => ({ _tag: "Data", id, bytes: new Uint8Array(TransferFrame.PIECE_LENGTH) })
        return [{ _tag: "Put", id, facts: facts(size), conflict: "fail", path: `/${id}` }, bytes(id)]
      }).flat()
      const fibers = yield* Effect.forEach([1, 2, 3, 4], () => flood(puts))
      for (let i = 0; i < 20_000 && fibers.every((fiber) => fiber.pollUnsafe() === undefined); i++)
        yield* Effect.yieldNow
      const ended = fibers.flatMap((fiber) => fiber.pollUnsafe() ?? [])
      assert.isAbove(ended.length, 0)
      assert.isFalse(claims.take(TransferClaims.MAX_HELD))
      // What a stream held is free again when it is over, and another device is not concerned.
      assert.isTrue(TransferClaims.of(claims, "other").take(TransferClaims.MAX_HELD))
      yield* Effect.forEach(fibers, Fiber.interrupt)
      assert.isTrue(claims.take(TransferClaims.MAX_HELD))
    })
  )

  it.effect("puts more than one piece into a file of one piece", () =>
    Effect.gen(function* () {
      const put: Frame = { _tag: "Put", id: 0, facts: facts(10), conflict: "fail", path: "/b" }
      const { fiber } = yield* served(encode(put, data(65_536), data(1)))
      assert.strictEqual((yield* Fiber.join(fiber)).reason, "Protocol")
    })
  )

  it.effect("wants many files and takes none: told to try again, and no file stays open for it", () =>
    Effect.gen(function* () {
      const nodes = Object.fromEntries(
        Array.from({ length: 200 }, (_, i) => [`s${i}`, { kind: "file", size: 9 } as const])
      )
      const tree = MemoryFileTree.make({ ...nodes, big: { kind: "file", size: 300_000 } })
      let open = 0
      const counting: FileTree = {
        ...tree,
        open: (path) =>
          Effect.andThen(
            Effect.acquireRelease(
              Effect.sync(() => open++),
              () => Effect.sync(() => open--)
            ),
            tree.open(path)
          )
      }
      const claims = TransferClaims.make()
      const want = (id: number, path: string): Frame => ({ _tag: "Want", id, path })
      const pair = yield* World.pair(6)
      yield* Effect.forkChild(
        Effect.ignore(Effect.scoped(FilesBulk.serve(counting, CryptoNode.primitives, claims, pair.server)))
      )
      yield* pair.client.write(encode(...Array.from({ length: 200 }, (_, i) => want(i, `/s${i}`))))
      for (let i = 0; i < 5000; i++) yield* Effect.yieldNow
      assert.strictEqual(open, 0)
      assert.isTrue(claims.take(TransferClaims.MAX_HELD - 10_000))
      yield* pair.client.write(encode(want(900, "/big")))
      const lane = yield* TransferLane.make(pair.client)
      let reason = ""
      while (reason === "") {
        for (const frame of yield* lane.receive) if (frame._tag === "Fail") reason = frame.reason
      }
      assert.strictEqual(reason, "Busy")
    })
  )

  it.effect("asks for what no file has, or outside the base: told so, and the stream goes on", () =>
    Effect.gen(function* () {
      const wants = ["/../x", "../../etc/passwd", "/a\u0000", "/nowhere", "/a/b"].map(
        (path, id): Frame => ({ _tag: "Want", id, path })
      )
      const accept: Frame = {
        _tag: "Accept",
        id: 90,
        offset: 99 * BLOCK_LENGTH,
        state: Uint8Array.of(3, ...hash, ...hash)
      }
      const { pair } = yield* served(
        encode(...wants, { _tag: "Want", id: 90, path: "/a" }, accept, { _tag: "Want", id: 91, path: "/no" })
      )
      const lane = yield* TransferLane.make(pair.client)
      const got = new Map<number, string>()
      while (got.size < 7) {
        for (const frame of yield* lane.receive) if (frame._tag === "Fail") got.set(frame.id, frame.reason)
      }
      assert.deepStrictEqual(
        [...got].toSorted(([a], [b]) => a - b).map(([, reason]) => reason),
        ["BadName", "BadName", "BadName", "NotFound", "NotAFolder", "Protocol", "NotFound"]
      )
    })
  )

  it.effect("puts a file to places outside, or with other bytes than it says: nothing is there", () =>
    Effect.gen(function* () {
      const put = (id: number, path: string): Frame => ({
        _tag: "Put",
        id,
        facts: facts(10),
        conflict: "replace",
        path
      })
      const bytes = encode(
        ...["/../x", "x/../../y", ".clawchat-part", "/b"].flatMap(
          (path, id): ReadonlyArray<Frame> => [
            put(id, path),
            { _tag: "Data", id, bytes: new Uint8Array(10) },
            { _tag: "End", id, root: hash }
          ]
        )
      )
      const { pair, tree } = yield* served(bytes, MemoryFileTree.make({}))
      const lane = yield* TransferLane.make(pair.client)
      const got: Array<string> = []
      while (got.length < 4) {
        for (const frame of yield* lane.receive) got.push(frame._tag === "Fail" ? frame.reason : frame._tag)
      }
      assert.deepStrictEqual([...new Set(got)], ["Damaged"])
      assert.deepStrictEqual([...(yield* tree.list("/")).entries], [])
    })
  )
})
