/** A provider that the real programs talk to: it keeps to the protocol's letter, and answers when the test says so. */
import type * as Http from "node:http"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { deepSeek, key, type Said, type Seen, serve, sse } from "../layers/FakeProviders.ts"
import { problemsOf } from "../layers/StrictProviders.ts"
import { until } from "./Tiers.ts"

/** Plays DeepSeek; each request is answered when the test says so. */
export class HeldProvider {
  readonly #scope = Scope.makeUnsafe()
  readonly seen: Array<Seen> = []
  readonly problems: Array<string> = []
  readonly #held: Array<Http.ServerResponse> = []
  readonly #closed: Array<number> = []
  /** What to answer at once; without one a request is held. */
  script: (index: number) => Said | undefined = () => undefined
  url = ""

  async start(): Promise<void> {
    const server = await Effect.runPromise(
      Scope.provide(
        serve((response, seen) => {
          const index = this.seen.length
          this.seen.push(seen)
          this.problems.push(...problemsOf("deepseek", seen.body))
          this.#held.push(response)
          response.once("close", () => {
            if (!response.writableFinished) this.#closed.push(index)
          })
          response.writeHead(200, sse)
          const said = this.script(index)
          if (said !== undefined) response.end(deepSeek.stream(said).text)
        }),
        this.#scope
      )
    )
    this.url = server.url
  }

  get env(): Readonly<Record<string, string>> {
    return { CLAWCHAT_LLM_PROVIDER: "deepseek", CLAWCHAT_LLM_BASE_URL: this.url, DEEPSEEK_API_KEY: key }
  }

  write(index: number, text: string): void {
    this.#held[index]?.write(deepSeek.start + deepSeek.delta(text))
  }

  end(index: number, text: string): void {
    this.#held[index]?.end(deepSeek.delta(text) + deepSeek.end)
  }

  /** Counts requests from 0 again; of those before none is open any more. */
  forget(): void {
    this.seen.length = 0
    this.#held.length = 0
    this.#closed.length = 0
    this.script = () => undefined
  }

  asked(count: number): Promise<void> {
    return until(() => this.seen.length >= count, `request ${count}`)
  }

  /** Waits until the tier has closed the connection of a request before its answer's end. */
  left(index: number): Promise<void> {
    return until(() => this.#closed.includes(index), `the end of request ${index}`)
  }

  transcript(index: number): ReadonlyArray<string> {
    return deepSeek.read(JSON.parse(this.seen[index]?.body ?? "{}")).transcript
  }

  async stop(): Promise<void> {
    await Effect.runPromise(Scope.close(this.#scope, Exit.void))
  }
}

export const says = (text: string, ...calls: ReadonlyArray<readonly [name: string, input: object]>): Said => ({
  text,
  calls: calls.map(([name, input], index) => ({ id: `call_${index}`, name, arguments: JSON.stringify(input) }))
})
