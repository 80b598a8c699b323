/** OpenAI's chat completions, and everything that speaks them: DeepSeek, Ollama, llama.cpp, vLLM. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { OpenAI } from "openai"
import { type LlmMessage, noUsage, providerDefaults, type StopReason, type Usage } from "../domain/Llm.ts"
import * as ToolSchema from "../domain/ToolSchema.ts"
import { type LlmError, type LlmEvent, LlmProvider, type LlmRequest } from "../services/LlmProvider.ts"
import { Calls } from "./LlmCalls.ts"
import * as LlmHttp from "./LlmHttp.ts"
import * as LlmMessages from "./LlmMessages.ts"

type Chunk = OpenAI.ChatCompletionChunk
type Message = OpenAI.ChatCompletionMessageParam
type UserPart = OpenAI.ChatCompletionContentPartText | OpenAI.ChatCompletionContentPartImage

const stopReasons = new Map<unknown, StopReason>([
  ["stop", "end"],
  ["tool_calls", "tools"],
  ["function_call", "tools"],
  ["length", "length"],
  ["content_filter", "filtered"]
])

/** From GPT-5.6 on, OpenAI takes tools in chat completions only where reasoning is expressly off. */
const reasoningMustBeOff = /^gpt-(?:5\.[6-9]|[6-9]|\d\d)/

/** DeepSeek's models read text only. */
const seesImages = (options: LlmHttp.LlmHttpOptions): boolean => options.provider !== "deepseek"

const userMessage = (parts: ReadonlyArray<LlmMessages.Part>): Message => {
  const texts = parts.flatMap((part) => (part._tag === "Text" ? [part.text] : []))
  // Many compatible servers know no parts.
  if (texts.length === parts.length) return { role: "user", content: texts.join("\n\n") }
  return {
    role: "user",
    content: parts.map(
      (part): UserPart =>
        part._tag === "Text"
          ? { type: "text", text: part.text }
          : { type: "image_url", image_url: { url: `data:${part.mediaType};base64,${part.base64}` } }
    )
  }
}

/**
 * What the model thought goes back with its calls: DeepSeek refuses a transcript in which calls stand without it, an empty
 * one included; other servers get it while the turn goes on; OpenAI itself knows no such field.
 */
const reasoningOf = (
  options: LlmHttp.LlmHttpOptions,
  message: Extract<LlmMessage, { role: "assistant" }>,
  inTurn: boolean
): { reasoning_content?: string } => {
  if (options.provider === "openai" || (message.calls ?? []).length === 0) return {}
  if (options.provider === "deepseek") return { reasoning_content: message.reasoning ?? "" }
  return inTurn && message.reasoning !== undefined ? { reasoning_content: message.reasoning } : {}
}

const messagesOf = (options: LlmHttp.LlmHttpOptions, request: LlmRequest): Array<Message> => {
  const result: Array<Message> = request.system === "" ? [] : [{ role: "system", content: request.system }]
  const messages = LlmMessages.withSafeIds(request.messages)
  const turn = messages.findLastIndex((message) => message.role === "user")
  let pending: Array<LlmMessages.Part> = []
  for (const [index, message] of messages.entries()) {
    if (message.role === "user") {
      pending.push(...LlmMessages.userParts(message, seesImages(options) && LlmMessages.showsImages(messages, index)))
      if (messages[index + 1]?.role === "user") continue
      result.push(userMessage(pending))
      pending = []
    } else if (message.role === "assistant") {
      const calls = message.calls ?? []
      if (calls.length === 0) {
        if (message.text !== "") result.push({ role: "assistant", content: message.text })
        continue
      }
      result.push({
        role: "assistant",
        content: message.text === "" ? null : message.text,
        tool_calls: calls.map(({ arguments: json, id, name }) => ({
          id,
          type: "function",
          // Templates of local models read it as JSON, whatever the model wrote.
          function: { name, arguments: JSON.stringify(LlmMessages.argumentsObject(json)) }
        })),
        ...reasoningOf(options, message, index > turn)
      })
    } else {
      const text = message.failed ? `The call failed: ${message.text}` : message.text
      result.push({ role: "tool", tool_call_id: message.callId, content: LlmMessages.resultText(text) })
    }
  }
  return result
}

const field = (value: object | null | undefined, name: string): unknown =>
  value === null || value === undefined ? undefined : Reflect.get(value, name)

const usageOf = (given: OpenAI.CompletionUsage): Usage => {
  // DeepSeek tells beside the counts, OpenAI in their details.
  const cached = LlmHttp.count(given.prompt_tokens_details?.cached_tokens ?? field(given, "prompt_cache_hit_tokens"))
  const written = LlmHttp.count(given.prompt_tokens_details?.cache_write_tokens)
  return {
    inputTokens: LlmHttp.count(given.prompt_tokens),
    outputTokens: LlmHttp.count(given.completion_tokens),
    ...(cached === 0 ? {} : { cachedTokens: cached }),
    ...(written === 0 ? {} : { cacheWriteTokens: written })
  }
}

const access = (options: LlmHttp.LlmHttpOptions): LlmHttp.Access => ({
  http: options,
  keyName: providerDefaults[options.provider].keyVariable ?? "the key",
  auth: (key) => ["authorization", `Bearer ${key}`]
})

const clientOf = async (options: LlmHttp.LlmHttpOptions, fetch: LlmHttp.Fetch) => {
  const { OpenAI } = await import("openai")
  return new OpenAI({
    apiKey: LlmHttp.placeholderKey,
    adminAPIKey: null,
    organization: null,
    project: null,
    webhookSecret: null,
    baseURL: options.baseUrl,
    fetch,
    maxRetries: 0,
    timeout: LlmHttp.sdkTimeoutMs,
    logger: LlmHttp.silent,
    logLevel: "off"
  })
}

const body = (options: LlmHttp.LlmHttpOptions, request: LlmRequest) => {
  const model = request.model ?? options.model
  const maxTokens = request.maxTokens ?? options.maxTokens
  const tools = request.tools ?? []
  return {
    model,
    messages: messagesOf(options, request),
    stream: true as const,
    stream_options: { include_usage: true },
    ...(tools.length === 0
      ? {}
      : {
          tools: tools.map(({ description, name, parameters }) => ({
            type: "function" as const,
            function: { name, description, parameters: { ...ToolSchema.plain(parameters) } }
          }))
        }),
    ...(tools.length > 0 && options.provider === "openai" && reasoningMustBeOff.test(model)
      ? { reasoning_effort: "none" as const }
      : {}),
    // OpenAI's newer models know only the longer name, the others only the shorter.
    ...(maxTokens === undefined
      ? {}
      : options.provider === "openai"
        ? { max_completion_tokens: maxTokens }
        : { max_tokens: maxTokens })
  }
}

const exchange =
  (options: LlmHttp.LlmHttpOptions) =>
  (request: LlmRequest): Effect.Effect<LlmHttp.Exchange<Chunk>, LlmError> =>
    Effect.suspend(() => {
      const refused = LlmMessages.refusal(request, options.provider, seesImages(options))
      if (refused !== undefined) return Effect.fail(refused)
      const sent = body(options, request)
      const calls = new Calls()
      let model = sent.model
      let usage: Usage = noUsage
      let stopReason: StopReason | undefined
      return Effect.succeed<LlmHttp.Exchange<Chunk>>({
        open: async (fetch, signal) => (await clientOf(options, fetch)).chat.completions.create(sent, { signal }),
        read: (chunk) => {
          // Compatible servers leave out fields that the type calls mandatory.
          const [choice] = chunk.choices ?? []
          model = LlmHttp.modelName(chunk.model, model, options.key)
          if (chunk.usage) usage = usageOf(chunk.usage)
          if (choice?.finish_reason) stopReason = stopReasons.get(choice.finish_reason) ?? "other"
          const pieces: unknown = choice?.delta?.tool_calls
          for (const piece of Array.isArray(pieces) ? pieces : []) {
            const called = field(piece, "function")
            const of = typeof called === "object" ? called : undefined
            calls.add({
              index: field(piece, "index"),
              id: field(piece, "id"),
              name: field(of, "name"),
              arguments: field(of, "arguments")
            })
          }
          const events: Array<LlmEvent> = []
          // DeepSeek and most others say the one, vLLM and OpenRouter the other.
          const thought = field(choice?.delta, "reasoning_content") ?? field(choice?.delta, "reasoning")
          if (typeof thought === "string" && thought !== "") events.push({ _tag: "Reasoning", text: thought })
          const text: unknown = choice?.delta?.content
          if (typeof text === "string" && text !== "") events.push({ _tag: "Delta", text })
          return events
        },
        end: () => {
          if (stopReason === undefined) return undefined
          // An answer that was cut short may have been cut in a call: none of its calls counts. Some servers end with
          // "stop" although there are calls, some say "tool_calls" although there are none.
          const whole = stopReason === "end" || stopReason === "tools"
          const called = whole ? calls.end() : []
          const reason = !whole ? stopReason : called.length > 0 ? "tools" : "end"
          return [
            ...called.map((call): LlmEvent => ({ _tag: "Call", call })),
            { _tag: "Done", usage, stopReason: reason, model }
          ]
        }
      })
    })

export const layer = (options: LlmHttp.LlmHttpOptions): Layer.Layer<LlmProvider> =>
  Layer.succeed(
    LlmProvider,
    LlmProvider.of({
      info: { provider: options.provider, model: options.model, chosen: options.chosen ?? "it is set" },
      stream: (request) => LlmHttp.run({ ...access(options), exchange: exchange(options), request }),
      models: LlmHttp.list({
        ...access(options),
        open: async function* (fetch, signal) {
          yield* (await clientOf(options, fetch)).models.list({ signal })
        }
      })
    })
  )
