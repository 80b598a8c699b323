/** Messages that are given while nobody can hear them: at a terminal, through a pipe, as one question. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import { ChatError } from "../../src/domain/ChatRpc.ts"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ChatSession from "../../src/programs/ChatSession.ts"
import * as Drafts from "../../src/programs/Drafts.ts"
import * as Screen from "../../src/services/Screen.ts"
import { makeMemory, SecureFileError, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import * as World from "./MemoryWorld.ts"

const timeoutMs = 5000
const SERVER = "0123456789abcdef"
const paths = HomePaths.client("/home")

type Disk = SecureFileStore["Service"]

const openDrafts = (disk: Disk) =>
  Drafts.open(paths, SERVER).pipe(Effect.provideService(SecureFileStore, disk), Effect.provide(CryptoNode.layer))

/** Texts on the disk, in order of their files. */
const onDisk = Effect.fnUntraced(function* (disk: Disk) {
  const names = yield* disk.list(paths.drafts)
  return yield* Effect.forEach(names, (name) =>
    Effect.map(
      disk.read(HomePaths.join(paths.drafts, name)),
      (bytes) => /"text":"([^"]*)"/.exec(new TextDecoder().decode(bytes._tag === "Some" ? bytes.value : undefined))?.[1]
    )
  )
})

/** A chat on a disk, in a process of its own. */
const chat = Effect.fnUntraced(function* (
  world: World.World,
  disk: Disk,
  options: { readonly interactive?: boolean; readonly conversation?: string } = {}
) {
  const { conversation = "main", interactive = true } = options
  const scope = yield* Scope.make()
  const user = yield* Screen.makeMemory({ interactive })
  const drafts = yield* Scope.provide(openDrafts(disk), scope)
  const fiber = yield* ChatSession.run({ link: world.link, conversation, timeoutMs, drafts }).pipe(
    Effect.provideService(Screen.Screen, user.screen),
    Effect.provide(CryptoNode.layer),
    Effect.forkIn(scope)
  )
  yield* World.settle
  /** As it ends when nobody asks it: the disk stays as it is. */
  const die = Scope.close(scope, Exit.void)
  return { user, fiber, die }
})

const texts = (world: World.World) => world.asked().map(({ text }) => text)
const ids = (world: World.World) => world.asked().map(({ messageId }) => messageId)

const hanging = (...parts: ReadonlyArray<string>) =>
  Stream.concat(Stream.fromIterable([World.started, ...parts.map(World.delta)]), Stream.never)

const echo: World.Script = ({ text }) => World.says(`to ${text}`)

const line = Effect.fnUntraced(function* (world: World.World, on: boolean) {
  yield* world.listen(on)
  if (!on) yield* world.cut
  yield* on ? TestClock.adjust("4 seconds") : World.settle
})

describe("A message at a terminal", () => {
  it.effect("is on the disk before it is sent, and gone when it is answered", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const seen: Array<ReadonlyArray<string | undefined>> = []
      const world = yield* World.make(() =>
        Stream.unwrap(
          Effect.map(Effect.orDie(onDisk(disk)), (there) => {
            seen.push(there)
            return World.says("yes")
          })
        )
      )
      yield* World.settle
      const { user } = yield* chat(world, disk)
      yield* user.type("hello")
      yield* World.eventually("the answer", () => user.stdout() === "yes\n")
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      assert.deepStrictEqual(seen, [["hello"]])
      assert.deepStrictEqual(yield* onDisk(disk), [])
    })
  )

  it.effect("that is given offline is kept, shown as waiting, and sent when the line is back", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make(echo)
      yield* World.settle
      const { user } = yield* chat(world, disk)
      yield* line(world, false)
      yield* user.type("one")
      yield* World.settle
      assert.strictEqual(user.notes().at(-1), "kept; it is sent when the line is back")
      assert.match(user.prompt() ?? "", /^main \(offline, attempt 1 in 1 s, 1 waiting\)> $/)
      yield* user.type("two")
      yield* World.settle
      assert.deepStrictEqual(yield* onDisk(disk), ["one", "two"])
      // Commands do not wait behind them.
      yield* user.type("/drafts")
      yield* World.eventually("the list", () => user.stdout() === "1  one\n2  two\n")
      yield* line(world, true)
      yield* World.eventually("the answers", () => user.stdout().endsWith("to one\nto two\n"))
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
      assert.deepStrictEqual(texts(world), ["one", "two"])
      assert.deepStrictEqual(yield* onDisk(disk), [])
      assert.include(user.notes(), "> one")
    })
  )

  it.effect("tells of each attempt to come back, and how long it is to the next", () =>
    Effect.gen(function* () {
      const world = yield* World.make(echo)
      yield* World.settle
      const { user } = yield* chat(world, yield* makeMemory)
      yield* line(world, false)
      const prompts: Array<string | undefined> = []
      for (let second = 0; second < 11; second++) {
        if (prompts.at(-1) !== user.prompt()) prompts.push(user.prompt())
        yield* TestClock.adjust("500 millis")
        yield* World.settle
      }
      const of = (attempt: number, seconds: number) => `main (offline, attempt ${attempt} in ${seconds} s)> `
      assert.deepStrictEqual(prompts, [of(1, 1), of(2, 1), of(3, 2), of(3, 1), of(4, 3), of(4, 2)])
      yield* line(world, true)
      yield* World.eventually("the prompt", () => user.prompt() === "main> ")
    })
  )

  it.effect("goes back to those that wait when nobody had it as the line broke", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make((question, index) => (index === 0 ? Stream.never : echo(question, index)))
      yield* World.settle
      const { user } = yield* chat(world, disk)
      yield* user.type("hello")
      yield* World.eventually("the question", () => world.asked().length === 1)
      yield* line(world, false)
      yield* World.eventually("the prompt", () => /offline.*, 1 waiting/.test(user.prompt() ?? ""))
      assert.match(user.notes().at(-1) ?? "", /^connection lost, trying again: .*; 1 message waiting$/)
      yield* line(world, true)
      yield* World.eventually("the answer", () => user.stdout() === "to hello\n")
      const [first, second] = ids(world)
      assert.strictEqual(first, second, "under the same id")
      yield* World.settle
      assert.deepStrictEqual(yield* onDisk(disk), [])
    })
  )

  it.effect("waits for the assistant in the same way", () =>
    Effect.gen(function* () {
      const world = yield* World.make(echo, { tier: false })
      yield* World.settle
      const { user } = yield* chat(world, yield* makeMemory)
      yield* user.type("hello")
      yield* World.settle
      assert.strictEqual(user.notes().at(-1), "kept; it is sent when the assistant is back")
      assert.strictEqual(user.prompt(), "main (assistant away, 1 waiting)> ")
      yield* world.tier(true)
      yield* World.eventually("the answer", () => user.stdout() === "to hello\n")
    })
  )

  it.effect("outlives the process: the next one tells of it, sends it under the same id, and shows the answer", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make((question, index) => (index === 0 ? hanging("par") : echo(question, index)))
      yield* World.settle
      const first = yield* chat(world, disk)
      yield* first.user.type("begun")
      yield* World.eventually("a part", () => first.user.stdout() === "par")
      yield* first.user.type("waiting")
      yield* World.settle
      yield* first.die
      assert.deepStrictEqual(yield* onDisk(disk), ["begun", "waiting"])

      const second = yield* chat(world, disk)
      assert.include(second.user.notes(), "2 messages kept from an earlier chat, sent as soon as there is a line")
      yield* World.eventually("the answers", () => second.user.stdout() === "to begun\nto waiting\n")
      yield* World.eventually("the prompt", () => second.user.prompt() === "main> ")
      assert.deepStrictEqual(texts(world), ["begun", "begun", "waiting"])
      assert.strictEqual(ids(world)[0], ids(world)[1])
      assert.deepStrictEqual(yield* onDisk(disk), [])
      yield* second.die
      const third = yield* chat(world, disk)
      yield* World.settle
      assert.strictEqual(texts(world).length, 3, "nothing is left")
      assert.strictEqual(third.user.stdout(), "")
    })
  )

  it.effect("of a chat that lives is not sent by another; of one that ended it is, in its own conversation", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make(echo)
      yield* World.settle
      yield* line(world, false)
      const first = yield* chat(world, disk, { conversation: "work" })
      const second = yield* chat(world, disk)
      yield* first.user.type("for work")
      yield* second.user.type("for main")
      yield* World.settle
      yield* first.die
      yield* line(world, true)
      yield* World.eventually("the answers", () => world.asked().length === 2)
      assert.deepStrictEqual(
        world.asked().map(({ conversation, text }) => [conversation, text]),
        [
          ["work", "for work"],
          ["main", "for main"]
        ]
      )
      yield* World.eventually("the answers", () => second.user.stdout() === "to for work\nto for main\n")
      assert.include(second.user.notes(), "(work) > for work")
    })
  )

  it.effect("is dropped with /drafts drop, or with Ctrl-C while it is being answered", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make((question, index) => (index === 0 ? hanging("par") : echo(question, index)))
      yield* World.settle
      const { user } = yield* chat(world, disk)
      yield* user.type("hello")
      yield* World.eventually("a part", () => user.stdout() === "par")
      yield* user.interrupt
      yield* World.eventually("the cancel", () => user.notes().at(-1) === "(cancelled)")
      assert.deepStrictEqual(yield* onDisk(disk), [])
      yield* line(world, false)
      for (const text of ["a", "b", "c"]) yield* user.type(text)
      yield* World.settle
      yield* user.interrupt
      yield* World.settle
      assert.strictEqual(user.notes().at(-1), "press Ctrl-D to leave; /drafts drop drops what waits")
      yield* user.type("/drafts drop 2")
      yield* World.eventually("the note", () => user.notes().at(-1) === "dropped 1 message")
      yield* World.settle
      assert.deepStrictEqual(yield* onDisk(disk), ["a", "c"])
      for (const wrong of ["drop 3", "drop 0", "drop", "drop x", "send"]) {
        const before = user.notes().length
        yield* user.type(`/drafts ${wrong}`)
        yield* World.eventually(`a hint for ${wrong}`, () => user.notes().length > before)
        assert.match(user.notes().at(-1) ?? "", /^\/drafts lists what waits/)
      }
      yield* user.type("/drafts drop all")
      yield* World.eventually("the note", () => user.notes().at(-1) === "dropped 2 messages")
      yield* World.settle
      assert.deepStrictEqual(yield* onDisk(disk), [])
      yield* line(world, true)
      yield* World.settle
      assert.deepStrictEqual(texts(world), ["hello"])
    })
  )

  it.effect("stays when the user leaves before it was heard, and goes when the answer had begun", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make(() => hanging("par"))
      yield* World.settle
      const first = yield* chat(world, disk)
      yield* first.user.type("begun")
      yield* World.eventually("a part", () => first.user.stdout() === "par")
      yield* first.user.type("ahead")
      yield* World.settle
      yield* first.user.end
      yield* Fiber.join(first.fiber)
      assert.strictEqual(
        first.user.notes().at(-1),
        "1 message kept for the next clawchat chat, or clawchat drafts send"
      )
      assert.deepStrictEqual(yield* onDisk(disk), ["ahead"])
    })
  )

  it.effect("is sent again when the assistant is too busy, and not when it was refused", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const busy = new ChatError({ reason: "Busy", message: "8 questions wait" })
      const refused = new ChatError({ reason: "LlmFailed", message: "the key was refused" })
      const world = yield* World.make((question, index) =>
        index < 2 ? Stream.fail(busy) : index === 2 ? echo(question, index) : Stream.fail(refused)
      )
      yield* World.settle
      const { user } = yield* chat(world, disk)
      yield* user.type("hello")
      yield* World.eventually("the note", () => /^8 questions wait \(sent again in 2 s/.test(user.notes().at(-1) ?? ""))
      yield* TestClock.adjust("2 seconds")
      yield* World.eventually("the note", () => /sent again in 4 s/.test(user.notes().at(-1) ?? ""))
      yield* TestClock.adjust("4 seconds")
      yield* World.eventually("the answer", () => user.stdout() === "to hello\n")
      yield* user.type("more")
      yield* World.eventually("the refusal", () => user.notes().at(-1) === "the key was refused")
      yield* World.settle
      assert.deepStrictEqual(yield* onDisk(disk), [])
      assert.strictEqual(new Set(ids(world)).size, 2)
    })
  )

  it.effect("that cannot be kept is sent all the same, and the user knows", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const full: Disk = {
        ...disk,
        create: (path) => Effect.fail(new SecureFileError({ reason: "Io", path, message: `${path}: ENOSPC` }))
      }
      const world = yield* World.make(echo)
      yield* World.settle
      const { user } = yield* chat(world, full)
      yield* user.type("hello")
      yield* World.eventually("the answer", () => user.stdout() === "to hello\n")
      assert.isTrue(user.notes().some((note) => /^not kept, and lost if this program ends now: .*ENOSPC/.test(note)))
    })
  )

  it.effect("is none when it answers a question of ours, and /compromised does not wait for the line", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make(echo)
      yield* World.settle
      yield* line(world, false)
      const user = yield* Screen.makeMemory({ interactive: true })
      let burns = 0
      const compromise = Effect.sync(() => {
        burns++
        return ["burnt"]
      })
      const drafts = yield* openDrafts(disk)
      const options = { link: world.link, conversation: "main", timeoutMs, drafts, compromise }
      const fiber = yield* ChatSession.run(options).pipe(
        Effect.provideService(Screen.Screen, user.screen),
        Effect.provide(CryptoNode.layer),
        Effect.forkScoped
      )
      yield* World.settle
      for (const text of ["hello", "/compromised", "no", "/compromised", "YES"]) yield* user.type(text)
      yield* Fiber.join(fiber)
      assert.strictEqual(burns, 1)
      assert.include(user.notes(), "nothing was done: the answer was not YES")
      assert.deepStrictEqual(yield* onDisk(disk), ["hello"], "the user's words stay")
      assert.deepStrictEqual(texts(world), [])
    })
  )
})

describe("A message in a pipe, or a single one", () => {
  /** `clawchat chat TEXT`, with `--keep` where there is a disk; without a text lines of a pipe. */
  const run = Effect.fnUntraced(function* (
    world: World.World,
    disk: Disk | undefined,
    asked: { readonly text?: string; readonly lines?: ReadonlyArray<string> }
  ) {
    const scope = yield* Scope.make()
    const user = yield* Screen.makeMemory({ interactive: false })
    const drafts = disk === undefined ? {} : { drafts: yield* Scope.provide(openDrafts(disk), scope) }
    const options = { link: world.link, conversation: "main", timeoutMs, json: false, ...drafts }
    for (const each of asked.lines ?? []) yield* user.type(each)
    yield* user.end
    const { text } = asked
    const fiber = yield* (text === undefined ? ChatSession.run(options) : ChatSession.once({ ...options, text })).pipe(
      Effect.provideService(Screen.Screen, user.screen),
      Effect.provide(CryptoNode.layer),
      Effect.ensuring(Scope.close(scope, Exit.void)),
      Effect.forkScoped
    )
    yield* World.settle
    return { user, fiber }
  })

  const KEPT = /; the message is kept: clawchat drafts send sends it, clawchat drafts rm [0-9a-f]{8} drops it$/

  it.effect("leaves nothing unless it is to be kept", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make(echo, { listening: false })
      const plain = yield* run(world, undefined, { text: "plain" })
      const kept = yield* run(world, disk, { text: "kept" })
      yield* TestClock.adjust(timeoutMs)
      const one = yield* Effect.flip(Fiber.join(plain.fiber))
      assert.strictEqual(one.message, "no connection to the server after 5 s: nobody answered")
      const other = yield* Effect.flip(Fiber.join(kept.fiber))
      assert.strictEqual(other.reason, "Unreachable")
      assert.match(other.message, KEPT)
      assert.deepStrictEqual(yield* onDisk(disk), ["kept"])
      const away = yield* World.make(echo, { tier: false })
      const late = yield* run(away, disk, { text: "later" })
      yield* TestClock.adjust(timeoutMs)
      assert.strictEqual((yield* Effect.flip(Fiber.join(late.fiber))).reason, "TryAgain")
      assert.deepStrictEqual(yield* onDisk(disk), ["kept", "later"])
    })
  )

  it.effect("goes after those that were kept before it, whose answers are not printed", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make(echo, { listening: false })
      const first = yield* run(world, disk, { text: "first" })
      yield* TestClock.adjust(timeoutMs)
      yield* Effect.flip(Fiber.join(first.fiber))
      yield* world.listen(true)
      yield* TestClock.adjust(timeoutMs)
      const second = yield* run(world, disk, { text: "second" })
      yield* Fiber.join(second.fiber)
      assert.strictEqual(second.user.stdout(), "to second\n")
      assert.match(
        second.user.notes()[0] ?? "",
        /^sent [0-9a-f]{8}, which was kept; its answer stands in the conversation$/
      )
      assert.deepStrictEqual(texts(world), ["first", "second"])
      assert.deepStrictEqual(yield* onDisk(disk), [])
    })
  )

  it.effect("is kept line by line, and not when it was refused", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const refused = new ChatError({ reason: "LlmFailed", message: "the key was refused" })
      const world = yield* World.make((question, index) =>
        index === 1 ? Stream.fail(refused) : index === 2 ? Stream.never : echo(question, index)
      )
      yield* World.settle
      const { fiber, user } = yield* run(world, disk, { lines: ["a", "b", "c", "d"] })
      yield* World.eventually("the third", () => world.asked().length === 3)
      yield* line(world, false)
      yield* TestClock.adjust(timeoutMs)
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "Unreachable")
      assert.match(error.message, KEPT)
      assert.strictEqual(user.stdout(), "to a\n")
      assert.include(user.notes(), "the key was refused")
      assert.deepStrictEqual(yield* onDisk(disk), ["c"])
    })
  )

  it.effect("is delivered by clawchat drafts send, in order, whatever conversation it is of", () =>
    Effect.gen(function* () {
      const disk = yield* makeMemory
      const world = yield* World.make(echo, { listening: false })
      const old = yield* openDrafts(disk).pipe(
        Effect.flatMap((drafts) =>
          Effect.forEach(["one", "two"], (text, n) =>
            drafts.keep(`00000000-0000-4000-8000-00000000000${n}`, {
              _tag: "Chat.Send",
              conversation: text === "one" ? "work" : "main",
              text
            })
          )
        ),
        Effect.scoped
      )
      assert.strictEqual(old.length, 2)
      const user = yield* Screen.makeMemory({ interactive: false })
      const send = Effect.gen(function* () {
        const drafts = yield* openDrafts(disk)
        const { kept } = yield* drafts.adopt
        yield* ChatSession.send({ link: world.link, conversation: "", timeoutMs, drafts, kept, json: false })
      }).pipe(Effect.scoped, Effect.provideService(Screen.Screen, user.screen), Effect.provide(CryptoNode.layer))
      const vain = yield* Effect.forkScoped(Effect.flip(send))
      yield* World.settle
      yield* TestClock.adjust(timeoutMs)
      assert.match((yield* Fiber.join(vain)).message, KEPT)
      assert.deepStrictEqual(yield* onDisk(disk), ["one", "two"])
      yield* world.listen(true)
      yield* TestClock.adjust(timeoutMs)
      yield* send
      assert.strictEqual(user.stdout(), "to one\nto two\n")
      assert.deepStrictEqual(
        world.asked().map(({ conversation }) => conversation),
        ["work", "main"]
      )
      assert.deepStrictEqual(yield* onDisk(disk), [])
    })
  )
})
