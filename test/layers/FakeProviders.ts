/**
 * Servers on loopback that speak the protocols of OpenAI, DeepSeek and Anthropic, well and badly, from one script. The
 * real SDKs talk to them.
 */
import * as http from "node:http"
import type * as net from "node:net"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { Provider } from "../../src/domain/Llm.ts"
import * as LlmAnthropic from "../../src/layers/LlmAnthropic.ts"
import type * as LlmHttp from "../../src/layers/LlmHttp.ts"
import * as LlmOpenAi from "../../src/layers/LlmOpenAi.ts"
import type { LlmProvider } from "../../src/services/LlmProvider.ts"

export const key = "sk-test-Zq81LxT4vWm7RkPd93NbYc"

/** A request as it came. */
export interface Seen {
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

export interface Server {
  readonly url: string
  readonly seen: Array<Seen>
}

export type Answer = (response: http.ServerResponse, seen: Seen) => void

export const listening = (server: net.Server): Effect.Effect<number, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
      })
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        if (server instanceof http.Server) server.closeAllConnections()
      })
  )

/** Answers each request as told; for the scope. */
export const serve = Effect.fnUntraced(function* (answer: Answer) {
  const seen: Array<Seen> = []
  const server = http.createServer((request, response) => {
    const parts: Array<Buffer> = []
    request.on("data", (part: Buffer) => parts.push(part))
    request.on("end", () => {
      const entry = { url: request.url ?? "", headers: request.headers, body: Buffer.concat(parts).toString() }
      seen.push(entry)
      answer(response, entry)
    })
  })
  const port = yield* listening(server)
  return { url: `http://127.0.0.1:${port}`, seen } satisfies Server
})

export interface Call {
  readonly id: string
  readonly name: string
  /** JSON, or whatever a model writes in its place. */
  readonly arguments: string
}

/** What the model says upon one request. */
export interface Said {
  readonly reasoning?: string
  readonly text?: string
  readonly calls?: ReadonlyArray<Call>
  /** Default: `tools` with calls, else `end`. */
  readonly stop?: "end" | "tools" | "length" | "filtered"
  readonly usage?: {
    readonly input: number
    readonly output: number
    readonly cached?: number
    readonly written?: number
  }
  /** The connection is cut in the midst of the last call's arguments. */
  readonly cut?: boolean
  /** The connection stays open after what was said; nothing more comes. */
  readonly hang?: boolean
}

/** An answer without one: an error with its headers. */
export interface Failed {
  readonly status: number
  readonly headers?: http.OutgoingHttpHeaders
  /** The provider's word for it; default: what goes with the status. */
  readonly type?: string
}

/** What a request carries, whatever its protocol. */
export interface Asked {
  readonly system: string
  readonly model: string
  readonly tools: ReadonlyArray<string>
  /** All messages, one line each: `user: ...`, `assistant: ...`, `call ID NAME {...}`, `result ID: ...`. */
  readonly transcript: ReadonlyArray<string>
}

export type Script = (asked: Asked, index: number, seen: Seen) => Said | Failed

/** How one provider talks. */
export interface Dialect {
  readonly provider: Provider
  readonly layer: (options: LlmHttp.LlmHttpOptions) => Layer.Layer<LlmProvider>
  readonly base: string
  readonly path: string
  readonly keyVariable: string
  readonly credential: (headers: http.IncomingHttpHeaders) => unknown
  readonly sentKey: string
  readonly start: string
  readonly delta: (text: string) => string
  readonly end: string
  readonly error: (type: string, message: string) => string
  readonly streamError: (type: string) => string
  /** The whole stream of an answer; the place at which `cut` cuts it. */
  readonly stream: (said: Said) => { readonly text: string; readonly cutAt: number }
  readonly read: (body: unknown) => Asked
}

const data = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
const event = (value: { readonly type: string; readonly [field: string]: unknown }) =>
  `event: ${value.type}\n${data(value)}`

export const chunk = (fields: object) =>
  data({ id: "c1", object: "chat.completion.chunk", created: 1, model: "m-1", ...fields })

/** A piece of an answer in the protocol of chat completions. */
export const piece = (delta: object, finish: string | null = null) =>
  chunk({ choices: [{ index: 0, delta, finish_reason: finish }] })

type Json = { readonly [key: string]: unknown }
const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null
const listOf = (value: unknown): ReadonlyArray<Json> => (Array.isArray(value) ? value.filter(isJson) : [])
const textOf = (value: unknown): string =>
  typeof value === "string"
    ? value
    : listOf(value)
        .map((part) => (part.type === "text" ? textOf(part.text) : `<${textOf(part.type)}>`))
        .join("\n\n")

const finishes = { end: "stop", tools: "tool_calls", length: "length", filtered: "content_filter" }

const chatUsage = (provider: Provider, { cached = 0, input, output, written }: NonNullable<Said["usage"]>) => ({
  prompt_tokens: input,
  completion_tokens: output,
  total_tokens: input + output,
  ...(provider === "deepseek"
    ? { prompt_cache_hit_tokens: cached, prompt_cache_miss_tokens: input - cached }
    : {
        prompt_tokens_details: {
          cached_tokens: cached,
          ...(written === undefined ? {} : { cache_write_tokens: written })
        }
      })
})

const half = (text: string) => Math.ceil(text.length / 2)

const chatStream = (provider: Provider, said: Said) => {
  const calls = said.calls ?? []
  let text = piece({ role: "assistant", content: "" })
  if (said.reasoning !== undefined) text += piece({ reasoning_content: said.reasoning })
  if (said.text !== undefined) text += piece({ content: said.text })
  let cutAt = text.length
  for (const [index, call] of calls.entries()) {
    const of = { index, id: call.id, type: "function", function: { name: call.name, arguments: "" } }
    text += piece({ tool_calls: [of] })
    const at = half(call.arguments)
    text += piece({ tool_calls: [{ index, function: { arguments: call.arguments.slice(0, at) } }] })
    cutAt = text.length
    text += piece({ tool_calls: [{ index, function: { arguments: call.arguments.slice(at) } }] })
  }
  text += piece({}, finishes[said.stop ?? (calls.length > 0 ? "tools" : "end")])
  const usage = said.usage ?? { input: 11, output: 3 }
  return { text: `${text}${chunk({ choices: [], usage: chatUsage(provider, usage) })}data: [DONE]\n\n`, cutAt }
}

const chatRead = (body: unknown): Asked => {
  const json = isJson(body) ? body : {}
  const transcript: Array<string> = []
  let system = ""
  for (const message of listOf(json.messages)) {
    const text = textOf(message.content)
    if (message.role === "system") system = text
    else if (message.role === "tool") transcript.push(`result ${textOf(message.tool_call_id)}: ${text}`)
    else if (text !== "") transcript.push(`${textOf(message.role)}: ${text}`)
    for (const call of listOf(message.tool_calls)) {
      const called = isJson(call.function) ? call.function : {}
      transcript.push(`call ${textOf(call.id)} ${textOf(called.name)} ${textOf(called.arguments)}`)
    }
  }
  const tools = listOf(json.tools).map((tool) => textOf(isJson(tool.function) ? tool.function.name : ""))
  return { system, model: textOf(json.model), tools, transcript }
}

const chat = (provider: Provider, base: string, keyVariable: string): Dialect => ({
  provider,
  layer: LlmOpenAi.layer,
  base,
  path: `${base}/chat/completions`,
  keyVariable,
  credential: (headers) => headers.authorization,
  sentKey: `Bearer ${key}`,
  start: piece({ role: "assistant", content: "" }),
  delta: (text) => piece({ content: text }),
  end: `${piece({}, "stop")}${chunk({ choices: [], usage: chatUsage(provider, { input: 11, output: 3 }) })}data: [DONE]\n\n`,
  error: (type, message) => JSON.stringify({ error: { type, message, code: null, param: null } }),
  streamError: (type) => data({ error: { type, message: `no ${key}` } }),
  stream: (said) => chatStream(provider, said),
  read: chatRead
})

export const openAi: Dialect = chat("openai", "/v1", "OPENAI_API_KEY")
export const deepSeek: Dialect = chat("deepseek", "", "DEEPSEEK_API_KEY")

const stops = { end: "end_turn", tools: "tool_use", length: "max_tokens", filtered: "refusal" }

const messageStart = (usage: object) =>
  event({
    type: "message_start",
    message: { id: "msg_1", type: "message", role: "assistant", content: [], model: "m-1", stop_reason: null, usage }
  })
const messageEnd = (stop: string, output: number) =>
  event({ type: "message_delta", delta: { stop_reason: stop }, usage: { output_tokens: output } }) +
  event({ type: "message_stop" })
/** A block of Anthropic's, in its pieces. */
export const block = (index: number, start: object, deltas: ReadonlyArray<object>) => [
  event({ type: "content_block_start", index, content_block: start }),
  ...deltas.map((delta) => event({ type: "content_block_delta", index, delta })),
  event({ type: "content_block_stop", index })
]
/** What Anthropic sends before the blocks and after them. */
export const around = (blocks: string, stop: string) =>
  messageStart({ input_tokens: 11, output_tokens: 1 }) + blocks + messageEnd(stop, 3)

const messagesStream = (said: Said) => {
  const { cached = 0, input, output, written = 0 } = said.usage ?? { input: 11, output: 3 }
  const calls = said.calls ?? []
  let text = messageStart({
    input_tokens: input - cached - written,
    cache_read_input_tokens: cached,
    cache_creation_input_tokens: written,
    output_tokens: 1
  })
  let index = 0
  const add = (start: object, deltas: ReadonlyArray<object>) => {
    const parts = block(index++, start, deltas)
    const before = text.length + parts.slice(0, -2).join("").length
    text += parts.join("")
    return before
  }
  if (said.reasoning !== undefined) {
    add({ type: "thinking", thinking: "", signature: "" }, [
      { type: "thinking_delta", thinking: said.reasoning },
      { type: "signature_delta", signature: `signed:${said.reasoning}` }
    ])
  }
  if (said.text !== undefined) add({ type: "text", text: "" }, [{ type: "text_delta", text: said.text }])
  let cutAt = text.length
  for (const { arguments: json, id, name } of calls) {
    const at = half(json)
    cutAt = add({ type: "tool_use", id, name, input: {} }, [
      { type: "input_json_delta", partial_json: json.slice(0, at) },
      { type: "input_json_delta", partial_json: json.slice(at) }
    ])
  }
  return { text: text + messageEnd(stops[said.stop ?? (calls.length > 0 ? "tools" : "end")], output), cutAt }
}

const messagesRead = (body: unknown): Asked => {
  const json = isJson(body) ? body : {}
  const transcript: Array<string> = []
  for (const message of listOf(json.messages)) {
    const parts = typeof message.content === "string" ? [{ type: "text", text: message.content }] : message.content
    let said: Array<string> = []
    const flush = () => {
      if (said.length > 0) transcript.push(`${textOf(message.role)}: ${said.join("\n\n")}`)
      said = []
    }
    for (const part of listOf(parts)) {
      if (part.type === "tool_use") {
        flush()
        transcript.push(`call ${textOf(part.id)} ${textOf(part.name)} ${JSON.stringify(part.input)}`)
      } else if (part.type === "tool_result") {
        transcript.push(`result ${textOf(part.tool_use_id)}: ${textOf(part.content)}`)
      } else if (part.type !== "thinking" && part.type !== "redacted_thinking") {
        said.push(part.type === "text" ? textOf(part.text) : `<${textOf(part.type)}>`)
      }
    }
    flush()
  }
  return {
    system: textOf(json.system),
    model: textOf(json.model),
    tools: listOf(json.tools).map((tool) => textOf(tool.name)),
    transcript
  }
}

export const anthropic: Dialect = {
  provider: "anthropic",
  layer: LlmAnthropic.layer,
  base: "",
  path: "/v1/messages",
  keyVariable: "ANTHROPIC_API_KEY",
  credential: (headers) => headers["x-api-key"],
  sentKey: key,
  start:
    messageStart({ input_tokens: 11, output_tokens: 1 }) +
    event({ type: "content_block_start", index: 0, content_block: { type: "text", text: "" } }) +
    event({ type: "ping" }),
  delta: (text) => event({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text } }),
  end: event({ type: "content_block_stop", index: 0 }) + messageEnd("end_turn", 3),
  error: (type, message) => JSON.stringify({ type: "error", error: { type, message } }),
  streamError: (type) => event({ type: "error", error: { type, message: `no ${key}` } }),
  stream: messagesStream,
  read: messagesRead
}

export const dialects = [openAi, deepSeek, anthropic] as const

export const sse = { "content-type": "text/event-stream" }

const isFailed = (answer: Said | Failed): answer is Failed => "status" in answer

const words: { readonly [status: number]: string } = { 429: "rate_limit_error", 529: "overloaded_error" }

export interface Played extends Server {
  /** Requests so far, as the script saw them. */
  readonly asked: Array<Asked>
  /** Done when the nth request's connection has been closed by its sender before the answer's end. */
  readonly closed: (index: number) => Effect.Effect<void>
  /** To be set as the base URL. */
  readonly baseUrl: string
}

/** Plays a provider from a script, and lists `models`. */
export const play = Effect.fnUntraced(function* (
  dialect: Dialect,
  script: Script,
  models: ReadonlyArray<string> = ["m-1", "m-2"]
) {
  const asked: Array<Asked> = []
  const closings = new Map<number, Deferred.Deferred<void>>()
  const closing = (index: number) => {
    const known = closings.get(index) ?? Deferred.makeUnsafe<void>()
    closings.set(index, known)
    return known
  }
  const server = yield* serve((response, seen) => {
    if (seen.url.split("?", 1)[0]?.endsWith("/models")) {
      response.writeHead(200, { "content-type": "application/json" })
      const list = models.map((id) => ({ id, object: "model", type: "model" }))
      response.end(JSON.stringify({ object: "list", data: list, has_more: false, first_id: null, last_id: null }))
      return
    }
    const index = asked.length
    const request = dialect.read(JSON.parse(seen.body))
    asked.push(request)
    response.once("close", () => {
      if (!response.writableFinished) Deferred.doneUnsafe(closing(index), Effect.void)
    })
    const answer = script(request, index, seen)
    if (isFailed(answer)) {
      response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers })
      response.end(dialect.error(answer.type ?? words[answer.status] ?? "api_error", `no, ${key}`))
      return
    }
    const { cutAt, text } = dialect.stream(answer)
    response.writeHead(200, sse)
    if (answer.cut) response.write(text.slice(0, cutAt), () => setImmediate(() => response.destroy()))
    else if (answer.hang) response.write(text.slice(0, cutAt))
    else response.end(text)
  })
  return {
    ...server,
    asked,
    baseUrl: server.url + dialect.base,
    closed: (index) => Deferred.await(closing(index))
  } satisfies Played
})
