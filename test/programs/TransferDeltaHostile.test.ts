/** Peers that lie about old files: refused by name, nothing replaced, nothing endless. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Chunks from "../../src/domain/Chunks.ts"
import * as Delta from "../../src/domain/Delta.ts"
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

const SIZE = 2_000_000
const OLD = World.bytesOf(1, SIZE)
const BITS = Chunks.bitsFor(SIZE)
const hash = new Uint8Array(32).fill(1)
const node = { kind: "file", bytes: OLD, mtimeMs: 5, mode: 0o600 } as const
const facts: TransferFrame.Facts = { size: SIZE, mtimeMs: 9, mode: 0o644, fingerprint: "f" }
const encode = (...frames: ReadonlyArray<Frame>) => concat(...frames.map(TransferFrame.encode))
const copy = (offset: number, length: number): Frame => ({ _tag: "Copy", id: 0, offset, length })
const block: Frame = { _tag: "Block", id: 0, hash }
const list = (count: number, length = 4000) =>
  Delta.encode(Array.from({ length: count }, () => ({ length, id: hash.subarray(0, Chunks.ID_LENGTH) })))
const chunks = (bytes: Uint8Array, bits = BITS): Frame => ({ _tag: "Chunks", id: 0, bits, list: bytes })

const untouched = Effect.fnUntraced(function* (tree: FileTree, path: string) {
  const page = yield* tree.list("/")
  assert.deepStrictEqual(
    page.entries.map(({ name }) => `/${name}`),
    [path]
  )
  assert.isTrue(Buffer.from(yield* World.contents(tree, path)).equals(OLD), "the old file is there")
})

/** Runs a client against a server that says these things, each when it has heard a frame of this kind. */
const against = Effect.fnUntraced(function* (
  way: "get" | "put",
  script: ReadonlyArray<readonly [Frame["_tag"], Uint8Array]>
) {
  const local = MemoryFileTree.make({ x: node })
  const scope = yield* Effect.scope
  const open = Effect.gen(function* () {
    const pair = yield* World.pair(3)
    const server = Effect.gen(function* () {
      const { rest } = yield* take(pair.server, 2)
      const lane = yield* TransferLane.make({ read: rest.read, write: () => Effect.void })
      const steps = [...script]
      while (steps.length > 0) {
        for (const frame of yield* lane.receive) {
          if (frame._tag !== steps[0]?.[0]) continue
          const [, bytes] = steps.shift() ?? ["Fail", new Uint8Array(0)]
          yield* pair.server.write(bytes)
        }
      }
      return yield* Effect.never
    })
    yield* Effect.forkIn(Effect.ignore(Effect.scoped(server)), scope)
    return pair.client
  })
  const delta = Effect.succeed(true)
  const options = { open, local, conflict: "overwrite", delta } as const
  const events = Stream.provide(
    (way === "get" ? Transfers.get : Transfers.put)(options, Stream.make({ from: "/x", to: "/x" })),
    CryptoNode.layer
  )
  const told: Array<Event> = []
  const exit = yield* Effect.result(Stream.runForEach(events, (event) => Effect.sync(() => told.push(event))))
  yield* untouched(local, "/x")
  const failed = told.find((event) => event._tag === "Failed")
  return exit._tag === "Failure" ? exit.failure.reason : failed?._tag === "Failed" ? failed.reason : "no failure"
})

describe("A hostile sender of a new version", () => {
  const copies = (count: number) => Array.from({ length: count }, () => copy(0, BLOCK_LENGTH))
  const cases: ReadonlyArray<readonly [string, string, ReadonlyArray<Frame>]> = [
    ["copies what lies behind the old file", "Protocol", [copy(SIZE - 10, 11)]],
    ["copies from nowhere near", "Protocol", [copy(2 ** 52, 1)]],
    ["copies nothing", "Protocol", [copy(0, 0)]],
    ["copies more than a block", "Protocol", [copy(0, BLOCK_LENGTH + 1)]],
    ["copies other bytes than the block has", "Damaged", [copy(5, BLOCK_LENGTH), block]],
    ["copies without an end", "Changed", copies(9)],
    ["ends too early", "Damaged", [...copies(2), { _tag: "End", id: 0, root: hash }]],
    [
      "copies all, and names another root",
      "Damaged",
      [...copies(7), copy(0, SIZE - 7 * BLOCK_LENGTH), { _tag: "End", id: 0, root: hash }]
    ],
    ["answers with a list of its own", "Protocol", [chunks(list(1))]]
  ]
  for (const [what, reason, frames] of cases) {
    it.effect(what, () =>
      Effect.gen(function* () {
        const file = encode({ _tag: "File", id: 0, facts })
        const again: Frame = { _tag: "Fail", id: 1, reason: "Damaged", message: "" }
        // What was damaged is asked for once more, whole.
        const script = [
          ["Want", file],
          ["Accept", encode(...frames)],
          ["Want", encode(again)]
        ] as const
        assert.strictEqual(yield* against("get", script), reason)
      })
    )
  }
})

describe("A hostile receiver of a new version", () => {
  const there = encode({ _tag: "Conflict", id: 0, kind: "file", size: 3_000_000, mtimeMs: 1, version: "0".repeat(32) })
  const cases: ReadonlyArray<readonly [string, Uint8Array]> = [
    ["lists without an end", encode(...Array.from({ length: 40 }, () => chunks(list(2048))))],
    ["lists nothing, again and again", encode(chunks(new Uint8Array(0)))],
    ["lists chunks of a size that none have", encode(chunks(list(1), 3))],
    ["changes the size of its chunks", encode(chunks(list(1)), chunks(list(1), BITS + 1))],
    ["lists chunks longer than any", encode(chunks(list(1, 2 ** 29)))],
    ["lists half a chunk", encode(chunks(list(1).subarray(1)))]
  ]
  const at = (id: number, bytes: Uint8Array): Uint8Array => {
    const frames = new TransferFrame.Frames().push(bytes) ?? []
    return encode(...frames.map((frame): Frame => ({ ...frame, id })))
  }
  for (const [what, bytes] of cases) {
    it.effect(`${what}: a client stops`, () =>
      Effect.gen(function* () {
        assert.strictEqual(
          yield* against("put", [
            ["Put", there],
            ["Put", at(1, bytes)]
          ]),
          "Protocol"
        )
      })
    )
    it.effect(`${what}: a server says so and goes on with others`, () =>
      Effect.gen(function* () {
        const want = encode({ _tag: "Want", id: 0, path: "/x" })
        const got = yield* served(concat(want, bytes), 1)
        assert.deepStrictEqual(got, ["0 Protocol"])
      })
    )
  }

  it.effect("has a server keep no more lists than a few", () =>
    Effect.gen(function* () {
      const wants = Array.from({ length: 9 }, (_, id): Frame => ({ _tag: "Want", id, path: "/x" }))
      const lists = wants.map(({ id }) => at(id, encode(...Array.from({ length: 40 }, () => chunks(list(2048))))))
      const got = yield* served(concat(encode(...wants), ...lists), 9)
      assert.deepStrictEqual(got.toSorted(), wants.map(({ id }) => `${id} Protocol`).toSorted())
    })
  )
})

/** What the server says of files that it gives up, so many of them; its tree stays as it is. */
const served = Effect.fnUntraced(function* (bytes: Uint8Array, count: number) {
  const tree = MemoryFileTree.make({ x: node })
  const pair = yield* World.pair(4)
  const claims = TransferClaims.make()
  yield* Effect.forkChild(Effect.ignore(FilesBulk.serve(tree, CryptoNode.primitives, claims, pair.server)))
  yield* Effect.forkChild(Effect.ignore(pair.client.write(bytes)))
  const lane = yield* TransferLane.make(pair.client)
  const got: Array<string> = []
  while (got.length < count) {
    const frames = yield* lane.receive
    for (const frame of frames) if (frame._tag === "Fail") got.push(`${frame.id} ${frame.reason}`)
  }
  yield* untouched(tree, "/x")
  return got
}, Effect.scoped)

describe("A hostile client", () => {
  it.effect("copies from files that it may not, or that were never offered", () =>
    Effect.gen(function* () {
      const tree = MemoryFileTree.make({ x: node })
      const version = (yield* tree.stat("/x")).version ?? ""
      const put = (id: number, path: string, some: Partial<Extract<Frame, { _tag: "Put" }>>): Frame => ({
        _tag: "Put",
        id,
        facts,
        conflict: { version },
        path,
        ...some
      })
      const puts = [
        put(0, "/x", { chunks: true }),
        put(1, "/x", {}),
        put(2, "/y", { conflict: "fail" }),
        put(3, "/z", { conflict: "fail", facts: { ...facts, size: 10 } }),
        put(4, "/../x", { chunks: true }),
        put(5, "/x/y", { chunks: true }),
        put(6, "/w", { chunks: true })
      ]
      const reasons: Array<string> = []
      for (const frame of puts) {
        const bad: Frame = { ...copy(SIZE, 10), id: frame.id }
        reasons.push(...(yield* served(encode(frame, bad), 1)))
      }
      assert.deepStrictEqual(reasons, [
        "0 Protocol",
        "1 Protocol",
        "2 Protocol",
        "3 Protocol",
        "4 BadName",
        "5 NotAFolder",
        "6 Changed"
      ])
    })
  )
})
