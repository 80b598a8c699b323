/** From settings to the provider that answers. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { type Provider, providerDefaults } from "../domain/Llm.ts"
import type { StandIn } from "../domain/SettingKinds.ts"
import { LlmLegs } from "../services/LlmLegs.ts"
import { LlmError, LlmProvider } from "../services/LlmProvider.ts"
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
  /** Providers that stand in for that one, in order. One that is the same provider has its address too. */
  readonly fallback?: ReadonlyArray<StandIn> | undefined
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

/** The SDKs are loaded with the first request. */
const layerOf = (choice: Choice): Layer.Layer<LlmProvider> => {
  switch (choice.provider) {
    case "offline":
      return LlmOffline.layer({ chosen: choice.chosen })
    case "anthropic":
      return LlmAnthropic.layer(choice)
    default:
      return LlmOpenAi.layer(choice)
  }
}

/** The provider that the settings mean; see `choose`. */
export const layer = (settings: LlmSettings): Layer.Layer<LlmProvider, LlmError> =>
  Layer.unwrap(Effect.map(choose(settings), layerOf))

/** Those that stand in; an address of the user's own belongs to the provider that it was set for, and to no other. */
const chooseStandIn = (settings: LlmSettings, main: Choice, { model, provider }: StandIn) => {
  if (provider === "openai-compatible" && main.provider !== provider) {
    return refuse(
      "llm.fallback may name openai-compatible only where it is the provider too, since there is one base URL"
    )
  }
  return choose({
    ...settings,
    provider,
    model: model ?? (provider === main.provider ? settings.model : undefined),
    baseUrl: provider === main.provider ? settings.baseUrl : undefined
  })
}

/** All providers that may answer: the one that the settings mean, then those of `fallback`. */
export const layerLegs = (settings: LlmSettings): Layer.Layer<LlmLegs, LlmError> =>
  Layer.effect(
    LlmLegs,
    Effect.gen(function* () {
      const main = yield* choose(settings)
      const others = yield* Effect.forEach(settings.fallback ?? [], (standIn) =>
        Effect.map(chooseStandIn(settings, main, standIn), (choice) => ({ ...choice, chosen: "it stands in" }))
      )
      const build = (choice: Choice) => Effect.map(Layer.build(layerOf(choice)), Context.get(LlmProvider))
      const first = yield* build(main)
      return LlmLegs.of([first, ...(yield* Effect.forEach(others, build))])
    })
  )
