/** Words about language models that providers, programs and clients share. */
import * as Schema from "effect/Schema"

/** Tokens as the provider counted them; 0 where it did not say. */
export const Usage = Schema.Struct({
  inputTokens: Schema.Natural,
  outputTokens: Schema.Natural,
  /** Of `inputTokens`: read from the provider's cache of prompts. */
  cachedTokens: Schema.optionalKey(Schema.Natural),
  /** Of `inputTokens`: written to that cache. */
  cacheWriteTokens: Schema.optionalKey(Schema.Natural)
})
export type Usage = typeof Usage.Type

export const noUsage: Usage = { inputTokens: 0, outputTokens: 0 }

export const addUsage = (a: Usage, b: Usage): Usage => {
  const cached = (a.cachedTokens ?? 0) + (b.cachedTokens ?? 0)
  const written = (a.cacheWriteTokens ?? 0) + (b.cacheWriteTokens ?? 0)
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    ...(cached === 0 ? {} : { cachedTokens: cached }),
    ...(written === 0 ? {} : { cacheWriteTokens: written })
  }
}

/**
 * Why an answer ended: it was finished, it met the limit of tokens, it waits for the results of tools, the provider withheld
 * the rest, or anything else a provider may invent.
 */
export const StopReason = Schema.Literals(["end", "length", "tools", "filtered", "other"])
export type StopReason = typeof StopReason.Type

/** A call of a tool, as the model wrote it. */
export const ToolCall = Schema.Struct({
  /** Unique within a request; made by the provider, or by us where it makes none. */
  id: Schema.String,
  name: Schema.String,
  /** JSON text; not yet checked to be any. */
  arguments: Schema.String
})
export type ToolCall = typeof ToolCall.Type

/** An image or a text that goes with a message. */
export const Attachment = Schema.Struct({
  /** For people and models; never a path. */
  name: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255)),
  mediaType: Schema.String.check(Schema.isPattern(/^[a-z]+\/[a-z0-9.+-]{1,64}$/)),
  bytes: Schema.Uint8ArrayFromBase64
})
export type Attachment = typeof Attachment.Type

/** What a model is told, in order. */
export type LlmMessage =
  | {
      readonly role: "user"
      readonly text: string
      /** When it was said, for people and models; the system prompt holds no clock. */
      readonly at?: string
      /** What the program puts before the text: recent notes, which change too often for the system prompt. */
      readonly material?: string
      readonly attachments?: ReadonlyArray<Attachment>
    }
  | {
      readonly role: "assistant"
      readonly text: string
      /** What the model thought before, for providers that want it back while a turn goes on. */
      readonly reasoning?: string
      readonly calls?: ReadonlyArray<ToolCall>
    }
  /** What a call gave; each call of an assistant's message is followed by its result. */
  | {
      readonly role: "tool"
      readonly callId: string
      readonly name: string
      readonly text: string
      readonly failed: boolean
    }

/** What a model reads as a user's message, attachments aside. */
export const userText = ({ at, material, text }: Extract<LlmMessage, { role: "user" }>): string => {
  const said = at === undefined ? text : `[${at}]\n${text}`
  return material === undefined || material === "" ? said : `${material}\n\n${said}`
}

/** A tool as a model learns of it. */
export interface ToolSpec {
  readonly name: string
  readonly description: string
  /** JSON Schema of an object. */
  readonly parameters: { readonly [key: string]: unknown }
}

/**
 * - `NoKey`: the provider needs a key and has none.
 * - `Unauthorized`: the key was refused (401, 403).
 * - `RateLimited`: too many requests, or no quota left (429).
 * - `Refused`: the request was not accepted (the other 4xx, and redirects, which are never followed).
 * - `Unavailable`: the provider is down, overloaded (5xx) or cannot be reached.
 * - `Timeout`: it did not connect, begin, or go on in time.
 * - `Broken`: the answer was cut off or is not in the provider's format; text before that was delivered.
 * - `OverBudget`: the request would pass a budget; it was not sent.
 */
export const FailureReason = Schema.Literals([
  "NoKey",
  "Unauthorized",
  "RateLimited",
  "Refused",
  "Unavailable",
  "Timeout",
  "Broken",
  "OverBudget"
])
export type FailureReason = typeof FailureReason.Type

export const Provider = Schema.Literals(["offline", "openai", "anthropic", "deepseek", "openai-compatible"])
export type Provider = typeof Provider.Type

/** What is known about a provider before any setting: its environment variable for the key, model and address. */
export interface ProviderDefaults {
  readonly keyVariable: string | undefined
  readonly keyRequired: boolean
  readonly model: string | undefined
  readonly baseUrl: string | undefined
}

/** Models and addresses as of the providers' public documentation; each can be set. */
export const providerDefaults: { readonly [P in Provider]: ProviderDefaults } = {
  offline: { keyVariable: undefined, keyRequired: false, model: "offline", baseUrl: undefined },
  openai: {
    keyVariable: "OPENAI_API_KEY",
    keyRequired: true,
    model: "gpt-6.1-terra",
    baseUrl: "https://api.openai.com/v1"
  },
  anthropic: {
    keyVariable: "ANTHROPIC_API_KEY",
    keyRequired: true,
    model: "claude-sonnet-5-5",
    baseUrl: "https://api.anthropic.com"
  },
  deepseek: {
    keyVariable: "DEEPSEEK_API_KEY",
    keyRequired: true,
    model: "deepseek-v4-flash",
    baseUrl: "https://api.deepseek.com"
  },
  "openai-compatible": {
    keyVariable: "CLAWCHAT_LLM_API_KEY",
    keyRequired: false,
    model: undefined,
    baseUrl: undefined
  }
}
