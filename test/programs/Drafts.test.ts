import * as Fs from "node:fs"
import * as Path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as Draft from "../../src/domain/Draft.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import { utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as Drafts from "../../src/programs/Drafts.ts"
import { makeMemory, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import { Disk, temporaryFolder } from "./CredentialSupport.ts"

const SERVER = "0123456789abcdef"
const paths = HomePaths.client("/home")

const idOf = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, "0")}`
const say = (text: string, conversation = "main"): Draft.Request => ({ _tag: "Chat.Send", conversation, text })
const texts = (kept: ReadonlyArray<Drafts.Kept>): ReadonlyArray<string> => kept.map(({ draft }) => draft.request.text)

/** A process on a disk, until `end`. */
const process = Effect.fnUntraced(function* (
  disk: SecureFileStore["Service"],
  at: HomePaths.ClientPaths = paths,
  server = SERVER
) {
  const scope = yield* Scope.make()
  const drafts = yield* Drafts.open(at, server).pipe(Scope.provide(scope), Effect.provideService(SecureFileStore, disk))
  return { drafts, end: Scope.close(scope, Exit.void) }
})

/** A client that says `words` one by one, is answered, and dies wherever the disk fails; then one that takes over. */
const twoLives = Effect.fnUntraced(function* (
  first: Effect.Effect<SecureFileStore["Service"]>,
  second: Effect.Effect<SecureFileStore["Service"]>,
  at: HomePaths.ClientPaths,
  words: ReadonlyArray<string>
) {
  /** What the llm tier has: an id does what it asks once. */
  const transcript = new Map<string, string>()
  const deliver = (drafts: Drafts.Drafts, kept: Drafts.Kept) => {
    transcript.set(kept.draft.id, kept.draft.request.text)
    return drafts.drop(kept)
  }
  const promised: Array<string> = []
  const life = Effect.gen(function* () {
    const { drafts, end } = yield* process(yield* first, at)
    // Locks are let go by the host, however a process ends.
    yield* Effect.addFinalizer(() => end)
    for (const [n, word] of words.entries()) {
      // Two are kept before the first is sent: the line is away.
      const kept = yield* drafts.keep(idOf(n), say(word))
      promised.push(word)
      if (n % 2 === 1) yield* deliver(drafts, kept)
    }
  })
  const died = Exit.isFailure(yield* Effect.exit(Effect.scoped(life)))
  const next = yield* process(yield* second, at)
  const found = yield* next.drafts.adopt
  yield* Effect.forEach(found.kept, (kept) => deliver(next.drafts, kept))
  yield* next.end
  const last = yield* process(yield* second, at)
  const left = (yield* last.drafts.adopt).kept
  yield* last.end
  return { died, found, left, promised, delivered: [...transcript.values()].sort() }
})

describe("Drafts", () => {
  it.effect("come back in the order in which they were given, until they are dropped", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const first = yield* process(disk)
      yield* TestClock.setTime(5000)
      const a = yield* first.drafts.keep(idOf(9), say("a"))
      // A clock that is set back changes no order.
      yield* TestClock.setTime(1000)
      yield* first.drafts.keep(idOf(5), say("b"))
      yield* first.drafts.keep(idOf(7), say("c", "work"))
      assert.deepStrictEqual((yield* first.drafts.adopt).kept, [], "what is ours is not given to us")
      yield* first.end
      const second = yield* process(disk)
      const found = yield* second.drafts.adopt
      assert.deepStrictEqual(texts(found.kept), ["a", "b", "c"])
      assert.deepStrictEqual(found.kept[0]?.draft, a.draft)
      assert.deepStrictEqual((yield* second.drafts.adopt).kept, [], "each is given once")
      yield* second.drafts.drop(a)
      yield* second.drafts.drop(a)
      yield* second.drafts.keep(idOf(1), say("d"))
      yield* second.end
      const third = yield* process(disk)
      assert.deepStrictEqual(texts((yield* third.drafts.adopt).kept), ["b", "c", "d"])
    })
  )

  it.effect("of a process that lives are nobody else's", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const first = yield* process(disk)
      const second = yield* process(disk)
      yield* first.drafts.keep(idOf(1), say("of the first"))
      yield* second.drafts.keep(idOf(2), say("of the second"))
      assert.deepInclude(yield* second.drafts.adopt, { kept: [], elsewhere: 1 })
      yield* first.end
      assert.deepStrictEqual(texts((yield* second.drafts.adopt).kept), ["of the first"])
      const third = yield* process(disk)
      assert.deepInclude(yield* third.drafts.adopt, { kept: [], elsewhere: 2 })
      yield* second.end
      assert.deepStrictEqual(texts((yield* third.drafts.adopt).kept), ["of the first", "of the second"])
    })
  )

  it.effect("are kept by sixteen processes at a time", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const all = yield* Effect.forEach(Array.from({ length: 16 }), () => process(disk))
      assert.strictEqual((yield* Effect.flip(process(disk))).reason, "Busy")
      yield* all[3]?.end ?? Effect.void
      yield* process(disk)
    })
  )

  it.effect("are bounded in number and length, and say so", () =>
    Effect.gen(function* () {
      const { drafts } = yield* process(yield* makeMemory)
      for (let n = 0; n < Draft.MAX_DRAFTS; n++) yield* drafts.keep(idOf(n), say("x"))
      const error = yield* Effect.flip(drafts.keep(idOf(99), say("x")))
      assert.strictEqual(error.reason, "Full")
      assert.match(error.message, /^64 messages are kept already .*: wait for the line, or drop some/)

      const other = yield* process(yield* makeMemory)
      const long = "x".repeat(256 * 1024)
      let taken = 0
      while ((yield* Effect.result(other.drafts.keep(idOf(taken), say(long))))._tag === "Success") taken++
      assert.strictEqual(taken, 15)

      const third = yield* process(yield* makeMemory)
      const attachments = [{ name: "a", mediaType: "text/plain", bytes: new Uint8Array(2 * 1024 * 1024) }]
      const large = yield* Effect.flip(third.drafts.keep(idOf(0), { ...say("look"), attachments }))
      assert.strictEqual(large.reason, "TooLarge")
      assert.match(large.message, /^with what is attached it has \d+ bytes/)
    })
  )

  it.effect("that cannot be understood keep nothing back and are left alone", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const named = (seq: number, id: number) =>
        HomePaths.join(paths.drafts, Draft.nameOf({ lane: 3, seq, bytes: 9, id: idOf(id) }))
      yield* disk.write(named(1, 1), new Uint8Array(40))
      yield* disk.write(named(2, 2), utf8('{"version":2}'))
      yield* disk.write(HomePaths.join(paths.drafts, "notes.txt"), utf8("mine"))
      const writer = yield* process(disk, paths, "f".repeat(16))
      yield* writer.drafts.keep(idOf(4), say("for another server"))
      yield* writer.end
      const { drafts } = yield* process(disk)
      yield* drafts.keep(idOf(3), say("new"))
      const found = yield* drafts.adopt
      assert.deepStrictEqual(found.unknown, [named(2, 2)])
      assert.deepStrictEqual(
        found.kept.map(({ draft, foreign }) => [draft.request.text, foreign]),
        [["for another server", true]]
      )
      const names = yield* disk.list(paths.drafts)
      assert.strictEqual(names.length, 4, "a removal that was cut off is carried on")
      assert.notInclude(names, named(1, 1).split("/").at(-1))
    })
  )

  it.effect("survive an end of the process at every change of the disk: never lost, never twice", () =>
    Effect.gen(function* () {
      const words = ["one", "two", "three", "four"]
      let deaths = 0
      for (let haltAt = 0; ; haltAt++) {
        const disk = new Disk()
        const service = Effect.provide(SecureFileStore, disk.layer)
        const halting = Effect.tap(service, () => Effect.sync(() => (disk.haltAt = haltAt)))
        const revived = Effect.tap(service, () => Effect.sync(() => (disk.haltAt = Number.POSITIVE_INFINITY)))
        const { delivered, died, left, promised } = yield* twoLives(halting, revived, paths, words)
        assert.deepStrictEqual(delivered, [...promised].sort(), `halted at change ${haltAt}`)
        assert.deepStrictEqual(left, [])
        if (!died) break
        deaths++
      }
      assert.strictEqual(deaths, 8)
    })
  )

  it.effect("survive it on a real disk too, between any two of its steps", () =>
    Effect.gen(function* () {
      const words = ["one", "two"]
      let deaths = 0
      for (let haltAt = 0; ; haltAt++) {
        const folder = yield* temporaryFolder
        const home = HomePaths.client(folder)
        let steps = 0
        const dying = SecureFileStoreNode.layerWith({
          onStep: () => {
            if (steps++ >= haltAt) throw Object.assign(new Error("halted"), { code: "EIO" })
          }
        })
        const service = (layer: Layer.Layer<SecureFileStore>) => Effect.provide(SecureFileStore, Layer.fresh(layer))
        const { delivered, died, found, left, promised } = yield* Effect.scoped(
          twoLives(service(dying), service(SecureFileStoreNode.layer), home, words)
        )
        // What could not be kept was told of, and may yet have reached the disk: then it is sent once.
        for (const word of promised) assert.include(delivered, word, `halted at step ${haltAt}`)
        assert.strictEqual(new Set(delivered).size, delivered.length)
        assert.deepStrictEqual([left, found.unknown], [[], []])
        const names = Fs.readdirSync(Path.join(folder, "drafts"))
        assert.deepStrictEqual(names, [], `halted at step ${haltAt}`)
        if (!died) break
        deaths++
      }
      assert.isAbove(deaths, 10)
    })
  )

  it.effect("lie in files of their own that only their owner may read", () =>
    Effect.gen(function* () {
      const folder = yield* temporaryFolder
      const store = yield* Effect.provide(SecureFileStore, SecureFileStoreNode.layer)
      const { drafts, end } = yield* process(store, HomePaths.client(folder))
      const { path } = yield* drafts.keep(idOf(1), say("hello"))
      assert.strictEqual(Fs.statSync(path).mode & 0o777, 0o600)
      assert.strictEqual(Fs.statSync(Path.dirname(path)).mode & 0o777, 0o700)
      yield* end
    })
  )
})
