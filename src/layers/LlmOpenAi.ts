/** OpenAI's chat completions, and everything that speaks them: DeepSeek, Ollama, llama.cpp, vLLM. */
import * as Layer from "effect/Layer"
import type { OpenAI } from "openai"
import * as History from "../domain/History.ts"
import { providerDefaults, type StopReason, type Usage } from "../domain/Llm.ts"
import { LlmProvider, type LlmRequest } from "../services/LlmProvider.ts"
import * as LlmHttp from "./LlmHttp.ts"

type Chunk = OpenAI.ChatCompletionChunk

const stopReasons: { readonly [reason: string]: StopReason | undefined } = {
  stop: "end",
  length: "length",
  content_filter: "filtered"
}

const exchange =
  (options: LlmHttp.LlmHttpOptions) =>
  (request: LlmRequest): LlmHttp.Exchange<Chunk> => {
    let model = request.model ?? options.model
    let usage: Usage = { inputTokens: 0, outputTokens: 0 }
    let stopReason: StopReason | undefined
    return {
      open: async (fetch, signal) => {
        const { OpenAI } = await import("openai")
        const client = new OpenAI({
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
        const maxTokens = request.maxTokens ?? options.maxTokens
        const system = request.system === "" ? [] : [{ role: "system" as const, content: request.system }]
        const turns = History.alternate(request.messages).map(({ role, text }) => ({ role, content: text }))
        return await client.chat.completions.create(
          {
            model,
            messages: [...system, ...turns],
            stream: true,
            stream_options: { include_usage: true },
            // OpenAI's newer models know only the longer name, the others only the shorter.
            ...(maxTokens === undefined
              ? {}
              : options.provider === "openai"
                ? { max_completion_tokens: maxTokens }
                : { max_tokens: maxTokens })
          },
          { signal }
        )
      },
      text: (chunk) => {
        // Compatible servers leave out fields that the type calls mandatory.
        const [choice] = chunk.choices ?? []
        model = LlmHttp.modelName(chunk.model, model)
        if (chunk.usage) {
          usage = {
            inputTokens: LlmHttp.count(chunk.usage.prompt_tokens),
            outputTokens: LlmHttp.count(chunk.usage.completion_tokens)
          }
        }
        if (choice?.finish_reason) stopReason = stopReasons[choice.finish_reason] ?? "other"
        const text: unknown = choice?.delta?.content
        return typeof text === "string" ? text : undefined
      },
      done: () => (stopReason === undefined ? undefined : { _tag: "Done", usage, stopReason, model })
    }
  }

export const layer = (options: LlmHttp.LlmHttpOptions): Layer.Layer<LlmProvider> =>
  Layer.succeed(
    LlmProvider,
    LlmProvider.of({
      info: { provider: options.provider, model: options.model, chosen: options.chosen ?? "it is set" },
      stream: (request) =>
        LlmHttp.run({
          http: options,
          keyName: providerDefaults[options.provider].keyVariable ?? "the key",
          auth: (key) => ["authorization", `Bearer ${key}`],
          exchange: exchange(options),
          request
        })
    })
  )
