/** A chat with a scripted assistant on the streams of this process, for tests that give it a real terminal or pipes. */
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as CryptoNode from "../../src/layers/CryptoNode.ts"
import * as ScreenNode from "../../src/layers/ScreenNode.ts"
import * as SecureFileStoreNode from "../../src/layers/SecureFileStoreNode.ts"
import * as ChatSession from "../../src/programs/ChatSession.ts"
import * as World from "../programs/MemoryWorld.ts"

const [mode = "chat", historyPath] = process.argv.slice(2)

/** `slow N` streams N pieces, a tenth of a second apart; `big N` answers with N KiB; all else is repeated. */
const script: World.Script = ({ text }) => {
  const [word, count = "1"] = text.split(" ")
  if (word === "slow") {
    return Stream.fromIterable([
      World.started,
      ...Array.from({ length: Number(count) }, (_, n) => World.delta(n % 5 === 4 ? `w${n}\n` : `w${n} `)),
      World.done
    ]).pipe(Stream.schedule(Schedule.spaced(100)))
  }
  if (word === "big") return World.says(...Array.from({ length: Number(count) }, () => "x".repeat(1024)))
  return World.says(`you said ${JSON.stringify(text)}`)
}

const program = Effect.gen(function* () {
  const world = yield* World.make(script)
  const options = { link: world.link, conversation: "main", timeoutMs: 5000 }
  if (mode === "chat") return yield* ChatSession.run(options)
  if (mode === "cut") {
    yield* Effect.forkScoped(Effect.andThen(Effect.sleep(1500), world.cut))
    return yield* ChatSession.run(options)
  }
  return yield* ChatSession.once({ ...options, text: mode, json: false })
}).pipe(
  Effect.scoped,
  Effect.provide(ScreenNode.layer({ historyPath })),
  Effect.provide(SecureFileStoreNode.layer),
  Effect.provide(CryptoNode.layer),
  Effect.provide(Logger.layer([]))
)

Effect.runPromise(program).then(
  () => {
    process.exitCode = 0
  },
  (error: unknown) => {
    process.stderr.write(`${String(error)}\n`)
    process.exitCode = 1
  }
)
