import { randomBytes } from "node:crypto"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import { assert, describe, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as HomePaths from "../../src/domain/HomePaths.ts"
import * as Network from "../../src/programs/cli/Layers.ts"
import * as Memory from "./Memory.ts"
import { connect, echo, freshFile, type Recorder, settled, Tier, World, world } from "./Tiers.ts"

const phrase = (name: string): string => `${name}${randomBytes(12).toString("hex")}`
const ASKED = phrase("question")
const ANSWERED = phrase("reply")
const ECHOED = phrase("echo")
const LAST = " That was all."

/** A model that says the canary, then waits, so that one can look while an answer is on its way. */
class Model extends Context.Service<
  Model,
  {
    readonly url: string
    readonly requests: ReadonlyArray<string>
    readonly finish: () => void
  }
>()("clawchat/test/outside/Model") {}

const model = Layer.effect(
  Model,
  Effect.acquireRelease(
    Effect.callback<Model["Service"] & { readonly server: Http.Server }>((resume) => {
      const requests: Array<string> = []
      const open: Array<Http.ServerResponse> = []
      const word = (response: Http.ServerResponse, content: string, finish: string | null) => {
        const choices = [{ index: 0, delta: { content }, finish_reason: finish }]
        const chunk = { id: "x", object: "chat.completion.chunk", created: 1, model: "m", choices }
        response.write(`data: ${JSON.stringify(chunk)}\n\n`)
      }
      const server = Http.createServer((request, response) => {
        let body = ""
        request.on("data", (chunk: Buffer) => {
          body += chunk.toString()
        })
        request.on("end", () => {
          requests.push(body)
          response.writeHead(200, { "content-type": "text/event-stream" })
          word(response, `${ANSWERED} it is.`, null)
          open.push(response)
        })
      })
      const finish = () => {
        for (const response of open.splice(0)) {
          word(response, LAST, "stop")
          response.end("data: [DONE]\n\n")
        }
      }
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}/v1`, requests, finish, server }))
      })
    }),
    ({ server }) =>
      Effect.sync(() => {
        server.closeAllConnections()
        server.close()
      })
  )
)

const tiers = Layer.unwrap(
  Effect.map(Model, ({ url }) =>
    world(undefined, {
      linkRecorded: true,
      llmEnvironment: {
        CLAWCHAT_LLM_PROVIDER: "openai-compatible",
        CLAWCHAT_LLM_BASE_URL: url,
        CLAWCHAT_LLM_MODEL: "m",
        CLAWCHAT_LLM_API_KEY: "sk-test-0123456789abcdef"
      }
    })
  )
)
const environment = tiers.pipe(Layer.provideMerge(model), Layer.merge(Network.network))

const why = Memory.unreadable

/** How often each text passed a recorder in the clear. */
const passed = (recorder: Recorder | undefined, texts: ReadonlyArray<string>): ReadonlyArray<number> => {
  const all = recorder?.passed ?? []
  assert.isAbove(all.length, 10)
  return texts.map((text) => all.filter(({ bytes }) => Buffer.from(bytes).includes(text)).length)
}

describe.skipIf(why !== undefined)(why === undefined ? "end to end" : `end to end (skipped: ${why})`, () => {
  layer(environment, { excludeTestServices: true, timeout: "60 seconds" })("through three real processes", (it) => {
    it.effect(
      "question and answer stand neither in the server's memory nor in any datagram, during and after",
      () =>
        Effect.gen(function* () {
          const { folder, home, link, llm, recorder, server } = yield* World
          const upstream = yield* Model
          const texts = [ASKED, ANSWERED]
          const inServer = () => Memory.occurrences(server().pid, texts)

          const { path } = yield* freshFile
          const clientHome = Path.join(folder, "client")
          const keyFile = HomePaths.server(home).bootstrapKey
          const pairing = new Tier(["pair", path, "--home", clientHome, "--key-file", keyFile], {})
          yield* pairing.says(/paired/i)
          yield* pairing.end("SIGTERM")

          const client = new Tier(["chat", ASKED, "--home", clientHome], {})
          yield* client.says(new RegExp(`${ANSWERED} it is`))
          // The answer is on its way: the stream is open, its keys are in use.
          assert.deepStrictEqual(inServer(), [0, 0])
          const during = Memory.occurrences(llm.pid, texts)
          upstream.finish()
          yield* client.says(/That was all/)
          yield* settled((now) => now.sessions === 0)
          assert.deepStrictEqual(inServer(), [0, 0])
          assert.deepStrictEqual(passed(recorder, texts), [0, 0])
          assert.deepStrictEqual(passed(link, texts), [0, 0])

          // The method sees what there is: the llm tier knows both, the model was asked, and the server knows its own.
          for (const count of [...during, ...Memory.occurrences(llm.pid, texts)]) assert.isAbove(count, 0)
          assert.include(upstream.requests.join(), ASKED)
          yield* Effect.scoped(
            Effect.gen(function* () {
              const session = yield* connect(clientHome)
              assert.strictEqual(yield* echo(session, ECHOED), ECHOED)
            })
          )
          assert.isAbove(Memory.occurrences(server().pid, [ECHOED])[0] ?? 0, 0)
          assert.deepStrictEqual([...server().mishaps, ...llm.mishaps], [])
        }),
      60_000
    )
  })
})
