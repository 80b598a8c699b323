/** Words about language models that providers, programs and clients share. */
import * as Schema from "effect/Schema"

/** Tokens as the provider counted them; 0 where it did not say. */
export const Usage = Schema.Struct({
  inputTokens: Schema.Natural,
  outputTokens: Schema.Natural
})
export type Usage = typeof Usage.Type

/**
 * Why an answer ended: it was finished, it met the limit of tokens, the provider withheld the rest, or anything else a
 * provider may invent.
 */
export const StopReason = Schema.Literals(["end", "length", "filtered", "other"])
export type StopReason = typeof StopReason.Type

/**
 * - `NoKey`: the provider needs a key and has none.
 * - `Unauthorized`: the key was refused (401, 403).
 * - `RateLimited`: too many requests, or no quota left (429).
 * - `Refused`: the request was not accepted (the other 4xx, and redirects, which are never followed).
 * - `Unavailable`: the provider is down, overloaded (5xx) or cannot be reached.
 * - `Timeout`: it did not connect, begin, or go on in time.
 * - `Broken`: the answer was cut off or is not in the provider's format; text before that was delivered.
 */
export const FailureReason = Schema.Literals([
  "NoKey",
  "Unauthorized",
  "RateLimited",
  "Refused",
  "Unavailable",
  "Timeout",
  "Broken"
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
