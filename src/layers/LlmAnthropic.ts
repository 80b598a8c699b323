/** Anthropic's messages. */
import type { Anthropic } from "@anthropic-ai/sdk"
import * as Layer from "effect/Layer"
import * as History from "../domain/History.ts"
import { providerDefaults, type StopReason } from "../domain/Llm.ts"
import { LlmProvider, type LlmRequest } from "../services/LlmProvider.ts"
import * as LlmHttp from "./LlmHttp.ts"

type Chunk = Anthropic.RawMessageStreamEvent

/** The interface wants a limit in every request. */
const defaultMaxTokens = 16_384

const stopReasons: { readonly [reason: string]: StopReason | undefined } = {
  end_turn: "end",
  stop_sequence: "end",
  max_tokens: "length",
  model_context_window_exceeded: "length",
  refusal: "filtered"
}

const exchange =
  (options: LlmHttp.LlmHttpOptions) =>
  (request: LlmRequest): LlmHttp.Exchange<Chunk> => {
    let model = request.model ?? options.model
    let inputTokens = 0
    let outputTokens = 0
    let stopReason: StopReason = "other"
    let stopped = false
    return {
      open: async (fetch, signal) => {
        const { Anthropic } = await import("@anthropic-ai/sdk")
        const client = new Anthropic({
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
        return await client.messages.create(
          {
            model,
            max_tokens: request.maxTokens ?? options.maxTokens ?? defaultMaxTokens,
            ...(request.system === "" ? {} : { system: request.system }),
            messages: History.alternate(request.messages).map(({ role, text }) => ({ role, content: text })),
            stream: true
          },
          { signal }
        )
      },
      text: (chunk) => {
        switch (chunk.type) {
          case "message_start":
            model = LlmHttp.modelName(chunk.message?.model, model)
            inputTokens = LlmHttp.count(chunk.message?.usage?.input_tokens)
            return undefined
          case "content_block_delta":
            return chunk.delta?.type === "text_delta" ? chunk.delta.text : undefined
          case "message_delta":
            // Counts here are totals, not increments.
            inputTokens = LlmHttp.count(chunk.usage?.input_tokens ?? inputTokens)
            outputTokens = LlmHttp.count(chunk.usage?.output_tokens ?? outputTokens)
            stopReason = stopReasons[chunk.delta?.stop_reason ?? ""] ?? "other"
            return undefined
          case "message_stop":
            stopped = true
            return undefined
          default:
            return undefined
        }
      },
      done: () => (stopped ? { _tag: "Done", usage: { inputTokens, outputTokens }, stopReason, model } : undefined)
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
          keyName: providerDefaults.anthropic.keyVariable ?? "the key",
          auth: (key) => ["x-api-key", key],
          exchange: exchange(options),
          request
        })
    })
  )
