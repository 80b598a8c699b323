/** Messages that are given while the line, a tier or the client itself is away: each is heard once. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ChatSession from "../../src/programs/ChatSession.ts"
import * as Drafts from "../../src/programs/Drafts.ts"
import * as Screen from "../../src/services/Screen.ts"
import { SecureFileError, SecureFileStore } from "../../src/services/SecureFileStore.ts"
import { quickCrypto } from "../programs/CredentialSupport.ts"
import * as World from "./World.ts"

const timeoutMs = 20_000
const DAY_MS = 86_400_000

interface Chat {
  readonly user: Screen.MemoryScreen
  /** A power cut: what it had in mind to write is not written. */
  readonly kill: Effect.Effect<void>
}

let lives = 0

/** `clawchat chat` at a terminal, over the link of a client that runs. */
const chatOn = Effect.fnUntraced(function* (client: World.Client) {
  const link = yield* client.tier.made
  const scope = yield* Scope.make()
  const user = yield* Screen.makeMemory({ interactive: true })
  let alive = true
  const mortal = <A>(path: string, effect: Effect.Effect<A, SecureFileError>) =>
    Effect.suspend(() =>
      alive ? effect : Effect.fail(new SecureFileError({ reason: "Io", path, message: `${path}: killed` }))
    )
  const disk: SecureFileStore["Service"] = {
    ...client.disk,
    create: (path, bytes) => mortal(path, client.disk.create(path, bytes)),
    burn: (path) => mortal(path, client.disk.burn(path))
  }
  const drafts = yield* Drafts.open(client.paths, "0123456789abcdef").pipe(
    Scope.provide(scope),
    Effect.provideService(SecureFileStore, disk)
  )
  yield* ChatSession.run({ link, conversation: "main", timeoutMs, drafts }).pipe(
    Effect.provideService(Screen.Screen, user.screen),
    Effect.provide(quickCrypto(`chat ${lives++}`)),
    Effect.ignore,
    Effect.forkIn(scope)
  )
  const kill = Effect.gen(function* () {
    alive = false
    yield* client.tier.kill
    yield* Scope.close(scope, Exit.void)
  })
  return { user, kill } satisfies Chat
})

const shows = (chat: Chat, text: string): Effect.Effect<void> =>
  Effect.repeat(Effect.sleep(50), { until: () => chat.user.stdout().includes(text) })

const noted = (chat: Chat, text: RegExp): Effect.Effect<void> =>
  Effect.repeat(Effect.sleep(50), { until: () => chat.user.notes().some((note) => text.test(note)) })

/** Every one of these was said once, and answered once, in this order; nothing is kept any more. */
const heardOnce = Effect.fnUntraced(function* (world: World.World, client: World.Client, texts: ReadonlyArray<string>) {
  assert.deepStrictEqual(yield* World.transcriptFaults(world, texts), [])
  assert.deepStrictEqual(yield* client.disk.list(client.paths.drafts), [])
})

describe("A draft", () => {
  it.effect("outlives an outage of the line, and goes out in order", () =>
    World.run({ seed: 401 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired({ link: World.ROUGH })
        const chat = yield* chatOn(client)
        yield* chat.user.type("before")
        yield* shows(chat, World.answerTo("before"))
        yield* world.network.cut(client.host)
        // The first ones are given while the client still believes in its line.
        for (let n = 0; n < 5; n++) {
          yield* chat.user.type(`during ${n}`)
          yield* Effect.sleep(6000)
        }
        yield* Effect.sleep(60_000)
        yield* world.network.restore(client.host)
        yield* shows(chat, World.answerTo("during 4"))
        yield* Effect.sleep(1000)
        const texts = ["before", ...Array.from({ length: 5 }, (_, n) => `during ${n}`)]
        yield* heardOnce(world, client, texts)
        assert.deepStrictEqual(world.asked, texts)
      })
    )
  )

  it.effect("outlives the client's process, and the server's, and the llm tier's", () =>
    World.run({ seed: 402 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const first = yield* chatOn(client)
        yield* world.server.kill
        yield* first.user.type("one")
        yield* Effect.sleep(30_000)
        yield* first.user.type("two")
        yield* Effect.sleep(1000)
        yield* first.kill
        yield* world.llm.kill
        yield* Effect.sleep(60_000)
        yield* client.tier.start(undefined)
        const second = yield* chatOn(client)
        yield* noted(second, /^2 messages kept from an earlier chat/)
        yield* Effect.sleep(10_000)
        yield* world.server.start()
        yield* Effect.sleep(10_000)
        yield* world.llm.start()
        yield* shows(second, World.answerTo("two"))
        yield* Effect.sleep(1000)
        yield* heardOnce(world, client, ["one", "two"])
        assert.deepStrictEqual(world.asked, ["one", "two"])
      })
    )
  )

  it.effect("is answered again, not heard again, when the client dies between the answer and its removal", () =>
    World.run({ seed: 403, limitMs: 6 * DAY_MS, stepMs: 60_000 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const first = yield* chatOn(client)
        const file = Effect.map(
          client.disk.list(client.paths.drafts),
          ([name = ""]) => `${client.paths.drafts}/${name}`
        )
        yield* first.user.type("hello")
        yield* Effect.sleep(30)
        const path = yield* file
        const bytes = yield* client.disk.read(path)
        yield* shows(first, World.answerTo("hello"))
        yield* Effect.sleep(1000)
        yield* first.kill
        // As if it had died just before: five days later the file is still there, and both tiers have been started anew.
        if (bytes._tag === "Some") yield* client.disk.write(path, bytes.value)
        yield* world.llm.stop
        yield* world.server.stop
        yield* Effect.sleep(5 * DAY_MS)
        yield* world.server.start()
        yield* world.llm.start()
        yield* client.tier.start(undefined)
        const second = yield* chatOn(client)
        yield* shows(second, World.answerTo("hello"))
        yield* Effect.sleep(1000)
        yield* heardOnce(world, client, ["hello"])
        assert.deepStrictEqual(world.asked, ["hello"], "the provider saw it once")
      })
    )
  )

  it.effect("is answered anew when the llm tier dies after it has taken it, and stands there once", () => {
    let calls = 0
    const script: World.Script = (request, index) =>
      calls++ === 0
        ? Stream.concat(Stream.succeed({ _tag: "Delta", text: "You s" } as const), Stream.never)
        : World.echo(request, index)
    return World.run({ seed: 404, script }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const first = yield* chatOn(client)
        yield* first.user.type("hello")
        yield* shows(first, "You s")
        yield* world.llm.kill
        yield* first.kill
        yield* Effect.sleep(5000)
        yield* world.llm.start()
        yield* client.tier.start(undefined)
        const second = yield* chatOn(client)
        yield* shows(second, World.answerTo("hello"))
        yield* Effect.sleep(1000)
        yield* heardOnce(world, client, ["hello"])
      })
    )
  })

  it.effect("that two processes send at the same time, against all locks, is one question with one answer", () =>
    World.run({ seed: 405 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const twin = (n: number) => client.ask(7, `the same ${n}`)
        const replies = yield* Effect.all([twin(1), twin(1), twin(1)], { concurrency: 3 })
        for (const { text } of replies) assert.strictEqual(text, World.answerTo("the same 1"))
        assert.deepStrictEqual(world.asked, ["the same 1"])
        assert.deepStrictEqual(yield* World.transcriptFaults(world, ["the same 1"]), [])
      })
    )
  )

  it.effect("is heard once, whenever its client dies between the key and the end of the answer", () =>
    World.run({ seed: 406 }, (world) =>
      Effect.gen(function* () {
        const client = yield* world.paired()
        const accepted: Array<string> = []
        // There and back takes 50 ms, the answer 20 more.
        for (let afterMs = 0; afterMs <= 160; afterMs += 4) {
          const text = `killed after ${afterMs}`
          const chat = yield* chatOn(client)
          yield* Effect.sleep(400)
          yield* chat.user.type(text)
          yield* Effect.sleep(afterMs)
          yield* chat.kill
          const kept = yield* client.disk.list(client.paths.drafts)
          const said = yield* world.conversations.history({ conversation: "main", limit: 1000 })
          if (kept.length > 0 || said.some((message) => message.text === text)) accepted.push(text)
          yield* client.tier.start(undefined)
        }
        const last = yield* chatOn(client)
        yield* last.user.type("last")
        yield* shows(last, World.answerTo("last"))
        yield* Effect.sleep(1000)
        yield* heardOnce(world, client, [...accepted, "last"])
        assert.isAtLeast(accepted.length, 40)
      })
    )
  )

  for (const seed of [411, 412, 413]) {
    it.effect(`survives whatever dies whenever (seed ${seed})`, () =>
      World.run({ seed, limitMs: 4 * 3_600_000 }, (world) =>
        Effect.gen(function* () {
          const random = world.network.random("mishaps")
          const client = yield* world.paired({ link: World.ROUGH })
          const said: Array<string> = []
          let chat = yield* chatOn(client)
          for (let round = 0; round < 8; round++) {
            for (let n = random.below(3); n >= 0; n--) {
              const text = `word ${said.length}`
              said.push(text)
              yield* chat.user.type(text)
              // Long enough for it to reach the disk: what a person sees accepted.
              yield* Effect.sleep(1 + random.below(400))
            }
            switch (random.below(5)) {
              case 0:
                yield* chat.kill
                yield* Effect.sleep(random.below(20_000))
                yield* client.tier.start(undefined)
                chat = yield* chatOn(client)
                break
              case 1:
                yield* world.server.kill
                yield* Effect.sleep(random.below(20_000))
                yield* world.server.start()
                break
              case 2:
                yield* world.llm.kill
                yield* Effect.sleep(random.below(20_000))
                yield* world.llm.start()
                break
              case 3:
                yield* world.network.cut(client.host)
                yield* Effect.sleep(random.below(60_000))
                yield* world.network.restore(client.host)
                break
            }
            if (chat.user.prompt() === undefined && random.below(2) === 0) yield* Effect.sleep(random.below(3000))
          }
          yield* chat.user.type("last")
          yield* shows(chat, World.answerTo("last"))
          yield* Effect.sleep(1000)
          yield* heardOnce(world, client, [...said, "last"])
        })
      )
    )
  }
})
