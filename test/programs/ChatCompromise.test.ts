/** `/compromised` in a chat: nothing happens before YES, and what was typed for it reaches no assistant. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ChatSession from "../../src/programs/ChatSession.ts"
import * as Screen from "../../src/services/Screen.ts"
import * as World from "./MemoryWorld.ts"

const REPORT = ["all keys are burnt", "Next step: pair again"]

const start = Effect.fnUntraced(function* (interactive: boolean, lines: ReadonlyArray<string>, offered = true) {
  const user = yield* Screen.makeMemory({ interactive })
  const world = yield* World.make(({ text }) => World.says(`you said ${text}`))
  let burns = 0
  const compromise = Effect.sync(() => {
    burns++
    return REPORT
  })
  const options = { link: world.link, conversation: "main", timeoutMs: 5000 }
  const fiber = yield* ChatSession.run(offered ? { ...options, compromise } : options).pipe(
    Effect.provideService(Screen.Screen, user.screen),
    Effect.provide(CryptoNode.layer),
    Effect.forkScoped
  )
  yield* World.settle
  for (const line of lines) {
    yield* user.type(line)
    yield* World.settle
  }
  const asked = () => world.asked().map(({ text }) => text)
  return { asked, burns: () => burns, fiber, user }
})

describe("/compromised", () => {
  for (const interactive of [true, false]) {
    const where = interactive ? "at a terminal" : "in a pipe"

    it.effect(`${where}: YES burns, reports and leaves`, () =>
      Effect.gen(function* () {
        const chat = yield* start(interactive, ["/compromised"])
        assert.strictEqual(chat.burns(), 0)
        assert.match(chat.user.notes().join("\n"), /cannot be undone\.\nType YES to do it/)
        yield* chat.user.type("YES")
        yield* Fiber.join(chat.fiber)
        assert.strictEqual(chat.burns(), 1)
        assert.include(chat.user.notes().join("\n"), REPORT.join("\n"))
        assert.deepStrictEqual(chat.asked(), [])
      })
    )

    it.effect(`${where}: YES may stand beside it`, () =>
      Effect.gen(function* () {
        const chat = yield* start(interactive, ["/compromised YES"])
        yield* Fiber.join(chat.fiber)
        assert.strictEqual(chat.burns(), 1)
      })
    )

    it.effect(`${where}: anything else does nothing, is sent to nobody, and the talk goes on`, () =>
      Effect.gen(function* () {
        const chat = yield* start(interactive, ["/compromised", "yes", "YES", "/compromised now", "no", "hello"])
        assert.strictEqual(chat.burns(), 0)
        assert.deepStrictEqual(chat.asked(), ["YES", "hello"])
        assert.include(chat.user.notes().join("\n"), interactive ? "nothing was done" : "Type YES")
        yield* chat.user.end
        yield* World.settle
        assert.strictEqual(chat.burns(), 0)
        assert.isDefined(chat.fiber.pollUnsafe())
      })
    )
  }

  it.effect("at a terminal Ctrl-C takes the question back", () =>
    Effect.gen(function* () {
      const chat = yield* start(true, ["/compromised"])
      yield* chat.user.interrupt
      yield* World.settle
      yield* chat.user.type("YES")
      yield* World.settle
      assert.strictEqual(chat.burns(), 0)
      assert.deepStrictEqual(chat.asked(), ["YES"])
    })
  )

  it.effect("in a pipe that ends before the answer it fails", () =>
    Effect.gen(function* () {
      const chat = yield* start(false, ["/compromised"])
      yield* chat.user.end
      const error = yield* Effect.flip(Fiber.join(chat.fiber))
      assert.match(error.message, /nothing was done/)
      assert.strictEqual(chat.burns(), 0)
    })
  )

  it.effect("is not there where nobody offers it", () =>
    Effect.gen(function* () {
      const chat = yield* start(true, ["/compromised", "YES"], false)
      assert.match(chat.user.notes().join("\n"), /not for this chat/)
      assert.deepStrictEqual(chat.asked(), ["YES"])
    })
  )
})
