/** A server that is there and says nothing: a transfer ends by itself, and only when it really was the server's turn. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { concat } from "../../src/domain/protocol/Cursor.ts"
import { BLOCK_LENGTH } from "../../src/domain/RemoteFile.ts"
import * as TransferFrame from "../../src/domain/TransferFrame.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import { take } from "../../src/programs/StreamReader.ts"
import type { Event } from "../../src/programs/TransferEvent.ts"
import * as TransferPipes from "../../src/programs/TransferPipes.ts"
import * as TransferSender from "../../src/programs/TransferSender.ts"
import * as Transfers from "../../src/programs/Transfers.ts"
import type { FileTree } from "../../src/services/FileTree.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import type { TransportStream } from "../../src/services/Transport.ts"
import * as World from "./TransferWorld.ts"

type Frame = TransferFrame.Frame

const encode = (...frames: ReadonlyArray<Frame>) => concat(...frames.map(TransferFrame.encode))
const facts: TransferFrame.Facts = { size: 300_000, mtimeMs: 5, mode: 0o644, fingerprint: "f" }
const file: Frame = { _tag: "File", id: 0, facts }
const accept: Frame = { _tag: "Accept", id: 0, offset: 0, state: new Uint8Array(0) }
const piece: Frame = { _tag: "Data", id: 0, bytes: new Uint8Array(1000) }

/** A stream whose other end is served so. */
const openTo = Effect.fnUntraced(function* (serve: (stream: TransportStream) => Effect.Effect<unknown, unknown>) {
  const scope = yield* Effect.scope
  let opened = 0
  const open = Effect.gen(function* () {
    opened++
    const pair = yield* World.pair(opened)
    yield* Effect.forkIn(Effect.ignore(serve(pair.server)), scope)
    return pair.client
  })
  return { open, opened: () => opened }
})

/** Reads all, and says these things once something was asked. */
const says =
  (...frames: ReadonlyArray<Frame>) =>
  (stream: TransportStream) =>
    Effect.gen(function* () {
      const { rest } = yield* take(stream, 2)
      yield* rest.read
      yield* stream.write(encode(...frames))
      return yield* Effect.forever(rest.read)
    })

const run = Effect.fnUntraced(function* (
  which: typeof Transfers.get,
  serve: (stream: TransportStream) => Effect.Effect<unknown, unknown>,
  local: FileTree = MemoryFileTree.make({ x: { kind: "file", size: 400_000 } })
) {
  const { open, opened } = yield* openTo(serve)
  const told: Array<Event> = []
  const events = which({ open, local, conflict: "overwrite" }, Stream.make({ from: "/x", to: "/y" }))
  const fiber = yield* Effect.forkChild(
    Effect.result(
      Stream.runForEach(Stream.provide(events, CryptoNode.layer), (event) => Effect.sync(() => told.push(event)))
    )
  )
  return { fiber, local, opened, told }
})

describe("A silent server", () => {
  const cases = {
    "to a question": [Transfers.get, says()],
    "after the facts of a file": [Transfers.get, says(file)],
    "in the middle of a file": [Transfers.get, says(file, piece)],
    "to an offer": [Transfers.put, says()],
    "when it was given everything": [Transfers.put, says(accept)],
    "while it takes nothing": [
      Transfers.put,
      (stream: TransportStream) =>
        Effect.gen(function* () {
          const { rest } = yield* take(stream, 2)
          yield* rest.read
          yield* stream.write(encode(accept))
          return yield* Effect.never
        })
    ]
  } as const
  for (const [when, [which, serve]] of Object.entries(cases)) {
    it.effect(`${when}: after a minute it is over, and not tried again`, () =>
      Effect.gen(function* () {
        const { fiber, opened } = yield* run(which, serve)
        for (let i = 0; i < 3; i++) yield* TestClock.adjust("15 seconds")
        assert.isUndefined(fiber.pollUnsafe())
        for (let i = 0; i < 100 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust("15 seconds")
        const outcome = yield* Fiber.join(fiber)
        assert.strictEqual(outcome._tag, "Failure")
        if (outcome._tag !== "Failure") return
        assert.strictEqual(outcome.failure.reason, "Idle")
        assert.match(outcome.failure.message, /silent for 60 s: try again.*--timeout/)
        assert.strictEqual(opened(), 1)
      })
    )
  }

  it.effect("that says a little now and then is waited for", () =>
    Effect.gen(function* () {
      const slow = (stream: TransportStream) =>
        Effect.gen(function* () {
          yield* Effect.forkChild(says(file)(stream))
          for (;;) {
            yield* Effect.sleep("40 seconds")
            yield* stream.write(encode(piece))
          }
        })
      const { fiber } = yield* run(Transfers.get, slow)
      yield* TestClock.adjust("30 minutes")
      assert.isUndefined(fiber.pollUnsafe())
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("is not blamed for a disk of ours that hangs", () =>
    Effect.gen(function* () {
      const tree = MemoryFileTree.make({})
      const local: FileTree = {
        ...tree,
        write: (path, options) =>
          Effect.map(tree.write(path, options), (writer) => ({ ...writer, append: () => Effect.never }))
      }
      const { fiber } = yield* run(Transfers.get, says(file, ...Array.from({ length: 40 }, () => piece)), local)
      yield* TestClock.adjust("30 minutes")
      assert.isUndefined(fiber.pollUnsafe())
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("is not blamed for standard input that waits, nor for standard output that is full", () =>
    Effect.gen(function* () {
      const up = yield* openTo(says(accept))
      const input = yield* Queue.unbounded<Uint8Array>()
      const writing = yield* Effect.forkChild(
        Effect.result(
          Effect.provide(
            TransferPipes.write(up.open, "/y", Stream.fromQueue(input), { conflict: "skip" }),
            CryptoNode.layer
          )
        )
      )
      const zeros = new Uint8Array(BLOCK_LENGTH)
      const block = TransferSender.block(0, zeros, CryptoNode.primitives.hash(zeros))
      const long: Frame = { ...file, facts: { ...facts, size: 40 * BLOCK_LENGTH } }
      const down = yield* openTo(says(long, ...Array.from({ length: 20 }, () => block).flat()))
      const output = TransferPipes.read(down.open, "/x")
      let shown = 0
      const stuck = () =>
        Effect.andThen(
          Effect.sync(() => shown++),
          Effect.never
        )
      const reading = yield* Effect.forkChild(
        Effect.result(Stream.runForEach(Stream.provide(output, CryptoNode.layer), stuck))
      )
      for (let i = 0; i < 120; i++) yield* TestClock.adjust("15 seconds")
      assert.strictEqual(shown, 1)
      assert.deepStrictEqual([writing.pollUnsafe(), reading.pollUnsafe()], [undefined, undefined])
      yield* Fiber.interrupt(writing)
      yield* Fiber.interrupt(reading)
    })
  )
})
