/** What the whole chain does with an upstream: a real SDK in the llm tier, a local HTTP server behind it. */
import { once } from "node:events"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach, assert, describe, it } from "@effect/vitest"
import { assertFails, Tiers, World } from "./Tiers.ts"

const KEY = "sk-test-0123456789abcdef"

/** An endpoint that speaks OpenAI's streaming format: words for ever, or a refusal. */
class Upstream {
  readonly #server = Http.createServer((request, response) => {
    this.requests.push(request.headers.authorization ?? "")
    request.resume()
    response.once("close", () => {
      for (const resolve of this.#waiting.splice(0)) resolve(!response.writableFinished)
    })
    if (this.status !== 200) {
      response.writeHead(this.status, { "content-type": "application/json" })
      response.end(JSON.stringify({ error: { message: `refused ${KEY}`, type: "invalid_request_error" } }))
      return
    }
    response.writeHead(200, { "content-type": "text/event-stream" })
    for (let i = 0; i < 4; i++) this.#word(response, `word${i} `)
  })
  readonly requests: Array<string> = []
  status = 200
  readonly #waiting: Array<(left: boolean) => void> = []

  #word(response: Http.ServerResponse, content: string): void {
    const choices = [{ index: 0, delta: { content }, finish_reason: null }]
    const chunk = { id: "x", object: "chat.completion.chunk", created: 1, model: "m", choices }
    response.write(`data: ${JSON.stringify(chunk)}\n\n`)
  }

  async start(): Promise<Readonly<Record<string, string>>> {
    this.#server.listen(0, "127.0.0.1")
    await once(this.#server, "listening")
    const { port } = this.#server.address() as AddressInfo
    return {
      CLAWCHAT_LLM_PROVIDER: "openai-compatible",
      CLAWCHAT_LLM_BASE_URL: `http://127.0.0.1:${port}/v1`,
      CLAWCHAT_LLM_MODEL: "m",
      CLAWCHAT_LLM_API_KEY: KEY
    }
  }

  /** Waits until a response closes, and tells whether the llm tier left before its end. */
  gone(): Promise<boolean> {
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  stop(): void {
    this.#server.closeAllConnections()
    this.#server.close()
  }
}

describe.skipIf(process.platform === "win32")("an upstream behind three processes", () => {
  let world: World
  let upstream: Upstream
  const start = async (): Promise<{ readonly tiers: Tiers; readonly home: string }> => {
    world = new World()
    upstream = new Upstream()
    const tiers = await Tiers.start(world, { first: "llm", llm: await upstream.start() })
    return { tiers, home: await tiers.pair("c") }
  }
  afterEach(async () => {
    upstream.stop()
    await world.end()
  })

  it("Ctrl-C on a client ends the upstream request", async () => {
    const { home } = await start()
    const chat = world.start(["chat", "go", "--home", home])
    await chat.out(/word3/)
    const gone = upstream.gone()
    chat.kill("SIGINT")
    assert.strictEqual((await chat.exit()).code, 130)
    assert.isTrue(await gone)
    assert.deepStrictEqual(upstream.requests, [`Bearer ${KEY}`])
    assert.notInclude(world.output(), KEY)
  })

  it("a refused key is a clear line and exit code 1, and is shown nowhere", async () => {
    const { home } = await start()
    upstream.status = 401
    assertFails(await world.run(["chat", "go", "--home", home]), 1, /key/i)
    assert.notInclude(world.output(), KEY)
  })
})
