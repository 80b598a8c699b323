/** From settings to the provider that answers. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { type Provider, providerDefaults } from "../domain/Llm.ts"
import { LlmError, type LlmProvider } from "../services/LlmProvider.ts"
import * as LlmAnthropic from "./LlmAnthropic.ts"
import type { LlmHttpOptions, LlmTimeouts } from "./LlmHttp.ts"
import * as LlmOffline from "./LlmOffline.ts"
import * as LlmOpenAi from "./LlmOpenAi.ts"

export interface LlmSettings {
  /** Unset: the first whose key is there (anthropic, openai, deepseek), `openai-compatible` with a base URL, else `offline`. */
  readonly provider?: Provider | undefined
  readonly model?: string | undefined
  readonly baseUrl?: string | undefined
  readonly keys: { readonly [P in Provider]?: Redacted.Redacted | undefined }
  readonly maxTokens?: number | undefined
  readonly timeouts?: LlmTimeouts | undefined
  readonly offline: Pick<LlmOffline.OfflineOptions, "list" | "timeZone">
}

type Choice =
  | { readonly provider: "offline"; readonly chosen: string }
  | (LlmHttpOptions & { readonly provider: Exclude<Provider, "offline"> })

/** The order in which keys speak for a provider when none is named. */
const byKey = ["anthropic", "openai", "deepseek"] as const

const refuse = (message: string) => Effect.fail(new LlmError({ reason: "Refused", message }))

const present = (key: Redacted.Redacted | undefined): Redacted.Redacted | undefined =>
  key === undefined || Redacted.value(key).trim() === "" ? undefined : Redacted.make(Redacted.value(key).trim())

const pick = (settings: LlmSettings): { readonly provider: Provider; readonly chosen: string } => {
  if (settings.provider !== undefined) return { provider: settings.provider, chosen: "it is set" }
  // A base URL of the user's own never gets the key of a provider that was not named.
  if (settings.baseUrl !== undefined) return { provider: "openai-compatible", chosen: "a base URL is set" }
  const found = byKey.find((provider) => present(settings.keys[provider]) !== undefined)
  return found === undefined
    ? { provider: "offline", chosen: "no provider is set and no key was found" }
    : { provider: found, chosen: `${providerDefaults[found].keyVariable} is the first key found` }
}

/**
 * Which provider, model and address the settings mean, and why. Fails, in words that name the setting, where a key, model
 * or base URL is missing or unusable.
 */
export const choose = (settings: LlmSettings): Effect.Effect<Choice, LlmError> =>
  Effect.suspend((): Effect.Effect<Choice, LlmError> => {
    const { chosen, provider } = pick(settings)
    if (provider === "offline") return Effect.succeed({ provider, chosen })
    const defaults = providerDefaults[provider]
    const key = present(settings.keys[provider])
    if (key === undefined && defaults.keyRequired) {
      const message = `the provider ${provider} needs a key: set ${defaults.keyVariable} in .env or the environment, or CLAWCHAT_LLM_PROVIDER=offline`
      return Effect.fail(new LlmError({ reason: "NoKey", message }))
    }
    if (key !== undefined && !/^[\x21-\x7e]+$/.test(Redacted.value(key))) {
      return refuse(`${defaults.keyVariable} holds characters that no key has: copy it again`)
    }
    const model = settings.model ?? defaults.model
    if (model === undefined) return refuse(`the provider ${provider} has no default model: set the model's name`)
    const baseUrl = settings.baseUrl ?? defaults.baseUrl
    if (baseUrl === undefined) {
      return refuse(`the provider ${provider} needs a base URL, such as http://localhost:11434/v1`)
    }
    const url = URL.parse(baseUrl)
    if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) {
      return refuse("the provider's base URL is no http or https URL, such as http://localhost:11434/v1")
    }
    if (url.username !== "" || url.password !== "" || url.search !== "" || url.hash !== "") {
      return refuse("the provider's base URL holds more than host, port and path: put a key into its own setting")
    }
    return Effect.succeed({
      provider,
      model,
      baseUrl,
      key,
      chosen,
      maxTokens: settings.maxTokens,
      timeouts: settings.timeouts
    })
  })

/** The provider that the settings mean; see `choose`. SDKs are loaded with the first request. */
export const layer = (settings: LlmSettings): Layer.Layer<LlmProvider, LlmError> =>
  Layer.unwrap(
    Effect.map(choose(settings), (choice) => {
      switch (choice.provider) {
        case "offline":
          return LlmOffline.layer({ ...settings.offline, chosen: choice.chosen })
        case "anthropic":
          return LlmAnthropic.layer(choice)
        default:
          return LlmOpenAi.layer(choice)
      }
    })
  )
