/** Anthropic's messages. */
import type { Anthropic } from "@anthropic-ai/sdk"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type LlmMessage, providerDefaults, type StopReason, type ToolCall } from "../domain/Llm.ts"
import * as ToolSchema from "../domain/ToolSchema.ts"
import { type LlmError, type LlmEvent, LlmProvider, type LlmRequest } from "../services/LlmProvider.ts"
import * as LlmCalls from "./LlmCalls.ts"
import * as LlmHttp from "./LlmHttp.ts"
import * as LlmMessages from "./LlmMessages.ts"
import { Thoughts } from "./LlmThoughts.ts"

type Chunk = Anthropic.RawMessageStreamEvent
type Block = Anthropic.ContentBlockParam

/** The interface wants a limit in every request. */
const defaultMaxTokens = 16_384

const stopReasons = new Map<unknown, StopReason>([
  ["end_turn", "end"],
  ["stop_sequence", "end"],
  ["tool_use", "tools"],
  ["max_tokens", "length"],
  ["model_context_window_exceeded", "length"],
  ["refusal", "filtered"]
])

const cached = { cache_control: { type: "ephemeral" as const } }

const userBlock = (part: LlmMessages.Part): Block =>
  part._tag === "Text"
    ? { type: "text", text: part.text }
    : { type: "image", source: { type: "base64", media_type: part.mediaType, data: part.base64 } }

const callBlock = ({ arguments: json, id, name }: ToolCall): Block => ({
  type: "tool_use",
  id,
  name,
  input: LlmMessages.argumentsObject(json)
})

const assistantBlocks = (message: Extract<LlmMessage, { role: "assistant" }>): ReadonlyArray<Block> => [
  ...(message.text.trim() === "" ? [] : [{ type: "text" as const, text: message.text }]),
  ...(message.calls ?? []).map(callBlock)
]

/**
 * The turns, alternating as the interface wants them: results and what the user says after them are one turn. The place
 * up to which the next request will be the same is marked for the cache: before the newest question, which may carry
 * material of the moment, and at the end while a turn goes on.
 */
const messagesOf = (request: LlmRequest, thoughts: Thoughts): Array<Anthropic.MessageParam> => {
  const turns: Array<{ role: "user" | "assistant"; content: Array<Block> }> = []
  const messages = LlmMessages.withSafeIds(request.messages)
  const question = messages.findLastIndex((message) => message.role === "user")
  let stable = -1
  const add = (role: "user" | "assistant", blocks: ReadonlyArray<Block>) => {
    if (blocks.length === 0) return
    const last = turns.at(-1)
    if (last?.role === role) last.content.push(...blocks)
    else turns.push({ role, content: [...blocks] })
  }
  for (const [index, message] of messages.entries()) {
    if (index === question) stable = turns.length - 1
    if (message.role === "user") {
      add("user", LlmMessages.userParts(message, LlmMessages.showsImages(messages, index)).map(userBlock))
    } else if (message.role === "assistant") {
      const known = index > question ? thoughts.of(request.conversation, message) : undefined
      add("assistant", known ?? assistantBlocks(message))
    } else {
      const content = LlmMessages.resultText(message.text)
      const block: Block = { type: "tool_result", tool_use_id: message.callId, content }
      add("user", [message.failed ? { ...block, is_error: true } : block])
    }
  }
  const marked = messages.at(-1)?.role === "tool" ? [stable, turns.length - 1] : [stable]
  for (const place of marked) {
    const content = turns[place]?.content
    const block = content?.at(-1)
    if (block === undefined || content === undefined) continue
    if (block.type === "text" || block.type === "image" || block.type === "tool_use" || block.type === "tool_result") {
      content[content.length - 1] = { ...block, ...cached }
    }
  }
  return turns
}

const toolsOf = (request: LlmRequest): Array<Anthropic.Tool> => {
  const tools = request.tools ?? []
  return tools.map(({ description, name, parameters }, index) => ({
    name,
    description,
    input_schema: { ...ToolSchema.plain(parameters), type: "object" },
    ...(index === tools.length - 1 ? cached : {})
  }))
}

const body = (options: LlmHttp.LlmHttpOptions, request: LlmRequest, thoughts: Thoughts) => {
  const tools = toolsOf(request)
  return {
    model: request.model ?? options.model,
    max_tokens: request.maxTokens ?? options.maxTokens ?? defaultMaxTokens,
    ...(request.system === "" ? {} : { system: [{ type: "text" as const, text: request.system, ...cached }] }),
    ...(tools.length === 0 ? {} : { tools }),
    messages: messagesOf(request, thoughts),
    stream: true as const
  }
}

const access = (options: LlmHttp.LlmHttpOptions): LlmHttp.Access => ({
  http: options,
  keyName: providerDefaults.anthropic.keyVariable ?? "the key",
  auth: (key) => ["x-api-key", key]
})

const clientOf = async (options: LlmHttp.LlmHttpOptions, fetch: LlmHttp.Fetch) => {
  const { Anthropic } = await import("@anthropic-ai/sdk")
  return new Anthropic({
    apiKey: LlmHttp.placeholderKey,
    webhookKey: null,
    baseURL: options.baseUrl,
    fetch,
    maxRetries: 0,
    timeout: LlmHttp.sdkTimeoutMs,
    openTelemetry: false,
    logger: LlmHttp.silent,
    logLevel: "off"
  })
}

/** A block of an answer as far as it has come. */
interface Open {
  readonly type: "text" | "tool_use" | "thinking" | "redacted_thinking"
  readonly id: string
  readonly name: string
  /** What is said or thought, or the arguments. */
  text: string
  /** A thought's signature, or what is sealed in it. */
  seal: string
  ended: boolean
}

const blockTypes = ["text", "tool_use", "thinking", "redacted_thinking"] as const

/** Blocks of one answer, and characters of all of them. */
const maxBlocks = 512
const maxChars = 8 * 1024 * 1024

const field = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined
const stringOf = (value: unknown, name: string): string => {
  const found = field(value, name)
  return typeof found === "string" ? found : ""
}

/** One answer, block by block. Throws on what is none. */
class Blocks {
  readonly #open = new Map<number, Open>()
  #chars = 0

  start(index: number, block: unknown): ReadonlyArray<LlmEvent> {
    const type = blockTypes.find((name) => name === field(block, "type"))
    if (type === undefined) return []
    if (this.#open.size >= maxBlocks) throw new Error("too many")
    const input = field(block, "input")
    const whole = typeof input === "object" && input !== null && Object.keys(input).length > 0
    const text = type === "tool_use" ? (whole ? JSON.stringify(input) : "") : stringOf(block, type)
    const seal = stringOf(block, type === "thinking" ? "signature" : "data")
    this.#open.set(index, { type, id: stringOf(block, "id"), name: stringOf(block, "name"), text, seal, ended: false })
    return said(type, text)
  }

  add(index: number, delta: Anthropic.RawContentBlockDelta): ReadonlyArray<LlmEvent> {
    const type = delta.type
    const piece: unknown =
      type === "text_delta"
        ? delta.text
        : type === "input_json_delta"
          ? delta.partial_json
          : type === "thinking_delta"
            ? delta.thinking
            : type === "signature_delta"
              ? delta.signature
              : ""
    if (typeof piece !== "string") throw new Error("no text")
    this.#chars += piece.length
    if (this.#chars > maxChars) throw new Error("too long")
    const open = this.#open.get(index)
    if (open !== undefined) {
      if (type === "signature_delta") open.seal += piece
      else open.text += piece
    }
    return said(type === "text_delta" ? "text" : type === "thinking_delta" ? "thinking" : type, piece)
  }

  stop(index: number): void {
    const open = this.#open.get(index)
    if (open !== undefined) open.ended = true
  }

  /** Fails where a call has not ended. */
  end(): { readonly text: string; readonly calls: ReadonlyArray<ToolCall>; readonly blocks: ReadonlyArray<Block> } {
    const calls: Array<ToolCall> = []
    const blocks: Array<Block> = []
    let text = ""
    for (const [, open] of [...this.#open].sort(([a], [b]) => a - b)) {
      if (open.type === "text") {
        text += open.text
        if (open.text.trim() !== "") blocks.push({ type: "text", text: open.text })
      } else if (open.type === "thinking") {
        blocks.push({ type: "thinking", thinking: open.text, signature: open.seal })
      } else if (open.type === "redacted_thinking") {
        blocks.push({ type: "redacted_thinking", data: open.seal })
      } else {
        if (!open.ended) throw new Error("half a call")
        const call = { id: open.id, name: open.name, arguments: open.text }
        calls.push(call)
        blocks.push(callBlock(call))
      }
    }
    const once = LlmCalls.once(calls)
    return { text, calls: once, blocks: once.length === calls.length ? blocks : [] }
  }
}

const said = (type: string, text: string): ReadonlyArray<LlmEvent> => {
  if (text === "") return []
  if (type === "text") return [{ _tag: "Delta", text }]
  return type === "thinking" ? [{ _tag: "Reasoning", text }] : []
}

const exchange =
  (options: LlmHttp.LlmHttpOptions, thoughts: Thoughts) =>
  (request: LlmRequest): Effect.Effect<LlmHttp.Exchange<Chunk>, LlmError> =>
    Effect.suspend(() => {
      const refused = LlmMessages.refusal(request, options.provider, true)
      if (refused !== undefined) return Effect.fail(refused)
      const sent = body(options, request, thoughts)
      const blocks = new Blocks()
      const tokens = { input: 0, cached: 0, written: 0, output: 0 }
      let model = sent.model
      let stopReason: StopReason = "other"
      let stopped = false
      // Counts are totals, not increments; those of the start stand where the end does not repeat them.
      const count = (usage: Partial<Anthropic.MessageDeltaUsage> | null | undefined) => {
        tokens.input = LlmHttp.count(usage?.input_tokens ?? tokens.input)
        tokens.cached = LlmHttp.count(usage?.cache_read_input_tokens ?? tokens.cached)
        tokens.written = LlmHttp.count(usage?.cache_creation_input_tokens ?? tokens.written)
        tokens.output = LlmHttp.count(usage?.output_tokens ?? tokens.output)
      }
      return Effect.succeed<LlmHttp.Exchange<Chunk>>({
        open: async (fetch, signal) => (await clientOf(options, fetch)).messages.create(sent, { signal }),
        read: (chunk) => {
          switch (chunk.type) {
            case "message_start":
              model = LlmHttp.modelName(chunk.message?.model, model, options.key)
              count(chunk.message?.usage)
              return []
            case "content_block_start":
              return blocks.start(chunk.index, chunk.content_block)
            case "content_block_delta":
              return blocks.add(chunk.index, chunk.delta)
            case "content_block_stop":
              blocks.stop(chunk.index)
              return []
            case "message_delta":
              count(chunk.usage)
              stopReason = stopReasons.get(chunk.delta?.stop_reason) ?? "other"
              return []
            case "message_stop":
              stopped = true
              return []
            default:
              return []
          }
        },
        end: () => {
          if (!stopped) return undefined
          // An answer that was cut short may have been cut in a call: none of its calls counts.
          const whole = stopReason === "end" || stopReason === "tools"
          const answer = whole ? blocks.end() : { text: "", calls: [], blocks: [] }
          thoughts.keep(request.conversation, answer)
          const usage = {
            inputTokens: tokens.input + tokens.cached + tokens.written,
            outputTokens: tokens.output,
            ...(tokens.cached === 0 ? {} : { cachedTokens: tokens.cached }),
            ...(tokens.written === 0 ? {} : { cacheWriteTokens: tokens.written })
          }
          return [
            ...answer.calls.map((call): LlmEvent => ({ _tag: "Call", call })),
            { _tag: "Done", usage, stopReason: whole ? (answer.calls.length > 0 ? "tools" : "end") : stopReason, model }
          ]
        }
      })
    })

export const layer = (options: LlmHttp.LlmHttpOptions): Layer.Layer<LlmProvider> =>
  Layer.sync(LlmProvider, () => {
    const thoughts = new Thoughts()
    return LlmProvider.of({
      info: { provider: options.provider, model: options.model, chosen: options.chosen ?? "it is set" },
      stream: (request) => LlmHttp.run({ ...access(options), exchange: exchange(options, thoughts), request }),
      models: LlmHttp.list({
        ...access(options),
        open: async function* (fetch, signal) {
          yield* (await clientOf(options, fetch)).models.list({ limit: 1000 }, { signal })
        }
      })
    })
  })
