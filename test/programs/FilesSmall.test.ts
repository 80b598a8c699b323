import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Scope from "effect/Scope"
import type { Frame } from "../../src/domain/TransferFrame.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as FilesSmall from "../../src/programs/FilesSmall.ts"
import type * as TransferClaims from "../../src/programs/TransferClaims.ts"
import * as TransferSender from "../../src/programs/TransferSender.ts"
import * as MemoryFileTree from "../../src/services/MemoryFileTree.ts"
import * as World from "./TransferWorld.ts"

const { primitives } = CryptoNode
const bytes = World.bytesOf(1, 1000)
const root = TransferSender.rootOf(primitives.hash, bytes)
const facts = { size: 1000, mtimeMs: 5, mode: 0o600, fingerprint: "x" }

/** The server's end with what it has said, and a gate before its disk and its line. */
const make = (nodes = {}, { forgetful = false } = {}) =>
  Effect.gen(function* () {
    const tree = MemoryFileTree.make(nodes)
    const gate = yield* Latch.make(false)
    const said: Array<Frame> = []
    const long: Array<number> = []
    const account = { held: 0, most: Number.POSITIVE_INFINITY }
    const claims: Pick<TransferClaims.Claims, "take" | "give"> = {
      take: (length) => {
        if (account.held + length > account.most) return false
        account.held += length
        return true
      },
      give: (length) => {
        account.held -= length
      }
    }
    const scope = yield* Scope.make()
    const few = yield* FilesSmall.make({
      tree: {
        readSmall: (paths, longest) => Effect.andThen(gate.await, tree.readSmall(forgetful ? [] : paths, longest)),
        writeSmall: (files) => Effect.andThen(gate.await, tree.writeSmall(forgetful ? files.slice(0, 1) : files))
      },
      primitives,
      claims,
      lane: { send: (...frames) => Effect.sync(() => void said.push(...frames)), receive: Effect.never },
      long: ({ id }) => Effect.sync(() => void long.push(id)),
      inTheWay: ({ id }) => Effect.succeed({ _tag: "Conflict", id, kind: "file", size: 1, mtimeMs: 1, version: "v" })
    }).pipe(Scope.provide(scope))
    const running = yield* Effect.forkChild(few.run)
    const settle = Effect.gen(function* () {
      yield* gate.open
      for (let i = 0; i < 50; i++) yield* Effect.yieldNow
      return said.map((frame) => `${frame.id} ${frame._tag}${frame._tag === "Fail" ? ` ${frame.reason}` : ""}`)
    })
    const put = (id: number, path = "/f"): void => few.put({ _tag: "Put", id, facts, conflict: "fail", path })
    const data = (id: number, length = 1000): Frame => ({ _tag: "Data", id, bytes: bytes.slice(0, length) })
    const end = (id: number, hash = root): Frame => ({ _tag: "End", id, root: hash })
    return { tree, gate, few, said, long, account, scope, running, settle, put, data, end }
  })

describe("FilesSmall", () => {
  it.effect("takes files in and tells of each what became of it", () =>
    Effect.gen(function* () {
      const { account, data, end, few, put, settle, tree } = yield* make({ there: { kind: "file", size: 3 } })
      for (const [id, path] of ["/a", "/there", "/../x", "/b"].entries()) put(id, path)
      assert.strictEqual(few.count(), 4)
      for (let id = 0; id < 4; id++) assert.isUndefined(few.hear(data(id)))
      assert.strictEqual(account.held, 4000)
      for (let id = 0; id < 3; id++) assert.isUndefined(few.hear(end(id)))
      few.hear(end(3, new Uint8Array(32)))
      assert.sameMembers(yield* settle, ["0 Done", "1 Conflict", "2 Fail BadName", "3 Fail Damaged"])
      assert.deepStrictEqual([few.count(), account.held], [0, 0])
      assert.deepStrictEqual(yield* World.contents(tree, "/a"), bytes)
      assert.deepInclude(yield* tree.stat("/a"), { mtimeMs: 5, mode: 0o600 })
    })
  )

  it.effect("what comes in a wrong order costs the file, and too much of it the stream", () =>
    Effect.gen(function* () {
      const { account, data, end, few, put, settle } = yield* make()
      put(1)
      few.hear(data(1))
      assert.isUndefined(few.hear(data(1)), "a second piece")
      put(2)
      assert.isUndefined(few.hear(end(2)), "an end without bytes")
      put(3)
      assert.isUndefined(few.hear({ _tag: "Block", id: 3, hash: root }))
      put(4)
      few.hear(data(4))
      assert.isUndefined(few.hear({ _tag: "Fail", id: 4, reason: "Stopped", message: "" }))
      assert.isFalse(few.has(4))
      put(5)
      assert.strictEqual(few.hear({ _tag: "Accept", id: 5, offset: 0, state: new Uint8Array(0) })?.reason, "Protocol")
      put(6)
      few.hear({ _tag: "Data", id: 6, bytes: new Uint8Array(40_000) })
      assert.strictEqual(few.hear({ _tag: "Data", id: 6, bytes: new Uint8Array(40_000) })?.reason, "Protocol")
      account.most = account.held
      put(7)
      assert.strictEqual(few.hear(data(7))?.reason, "Protocol")
      assert.sameMembers(yield* settle, ["1 Fail Protocol", "2 Fail Damaged", "3 Fail Protocol"])
    })
  )

  it.effect("sends what is wanted, leaves what is long to others, and forgets what is given up", () =>
    Effect.gen(function* () {
      const nodes = { a: { kind: "file", bytes }, long: { kind: "file", size: 70_000 } }
      const { account, few, long, said, settle } = yield* make(nodes)
      for (const [id, path] of ["/a", "/none", "/long", "/a", "/a"].entries()) few.want({ _tag: "Want", id, path })
      yield* Effect.yieldNow
      few.hear({ _tag: "Fail", id: 3, reason: "Stopped", message: "" })
      few.hear({ _tag: "Accept", id: 4, offset: 0, state: new Uint8Array(0) })
      assert.sameMembers(yield* settle, ["0 File", "0 Data", "0 End", "1 Fail NotFound", "4 Fail Protocol"])
      assert.deepStrictEqual(long, [2])
      assert.deepStrictEqual([few.count(), account.held], [0, 0])
      const sent = said.find((frame) => frame._tag === "Data")
      assert.deepStrictEqual(sent?._tag === "Data" ? new Uint8Array(sent.bytes) : undefined, bytes)
      account.most = 999
      few.want({ _tag: "Want", id: 9, path: "/a" })
      assert.include(yield* settle, "9 Fail Busy")
      few.want({ _tag: "Want", id: 10, path: "/a" })
      assert.strictEqual(few.hear({ _tag: "Data", id: 10, bytes })?.reason, "Protocol")
    })
  )

  it.effect("owes an end that reads nothing no more than it may have on its way", () =>
    Effect.gen(function* () {
      const { end, few, gate, put, settle } = yield* make()
      for (let id = 0; id < 100; id++) {
        put(id)
        few.hear(end(id, new Uint8Array(32)))
        few.want({ _tag: "Want", id, path: "/a" })
        few.hear({ _tag: "Fail", id, reason: "Stopped", message: "" })
        if (id === 0) yield* Effect.yieldNow
      }
      assert.isAtLeast(few.count(), 198)
      assert.strictEqual((yield* settle).filter((each) => each.endsWith("Fail Damaged")).length, 100)
      assert.strictEqual(few.count(), 0)
      // Given up while it is read.
      yield* gate.close
      few.want({ _tag: "Want", id: 1, path: "/a" })
      yield* Effect.yieldNow
      few.hear({ _tag: "Fail", id: 1, reason: "Stopped", message: "" })
      yield* settle
      assert.strictEqual(few.count(), 0)
    })
  )

  it.effect("what the store says nothing of has failed", () =>
    Effect.gen(function* () {
      const { data, end, few, put, settle } = yield* make({}, { forgetful: true })
      for (const id of [1, 2]) {
        put(id, `/${id}`)
        few.hear(data(id))
        few.hear(end(id))
      }
      few.want({ _tag: "Want", id: 3, path: "/a" })
      assert.sameMembers(yield* settle, ["1 Done", "2 Fail Io", "3 Fail Io"])
    })
  )

  it.effect("another version than the one to be replaced stands in the way", () =>
    Effect.gen(function* () {
      const { data, end, few, settle } = yield* make({ f: { kind: "file", size: 3 } })
      few.put({ _tag: "Put", id: 1, facts, conflict: { version: "0".repeat(32) }, path: "/f" })
      few.hear(data(1))
      few.hear(end(1))
      assert.deepStrictEqual(yield* settle, ["1 Conflict"])
    })
  )

  it.effect("gives back what it holds when its stream ends", () =>
    Effect.gen(function* () {
      const { account, data, end, few, put, running, scope } = yield* make()
      put(1)
      few.hear(data(1))
      put(2)
      few.hear(data(2))
      few.hear(end(2))
      yield* Effect.yieldNow
      assert.strictEqual(account.held, 2000)
      yield* Fiber.interrupt(running)
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(account.held, 0)
    })
  )
})
