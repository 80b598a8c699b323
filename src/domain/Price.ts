/** What a request costs, in US dollars, by the providers' public price lists. Pure. */
import type { Usage } from "./Llm.ts"

/** US dollars per million tokens. */
export interface Price {
  readonly input: number
  readonly output: number
  /** Input read from the provider's cache. */
  readonly cached: number
  /** Input written to it. */
  readonly cacheWrite: number
  /** Where a longer prompt makes the whole request dearer: the factors. */
  readonly long?: { readonly above: number; readonly input: number; readonly output: number }
}

const price = (input: number, output: number, cached: number, cacheWrite = input): Price => ({
  input,
  output,
  cached,
  cacheWrite
})

/** Anthropic writes to its cache for a quarter more than it reads anew. */
const anthropic = (input: number, output: number, cached: number) => price(input, output, cached, input * 1.25)

/** OpenAI's models with a long context: double input and half as much output again above 272,000 tokens. */
const openai = (input: number, output: number, cached: number): Price => ({
  ...price(input, output, cached, input * 1.25),
  long: { above: 272_000, input: 2, output: 1.5 }
})

/**
 * As documented by the providers in November 2026 for standard processing. Models that are not here have no known price:
 * they are counted in tokens only, and take no part where a budget is set unless `llm.price` says what they cost.
 */
const known: { readonly [provider: string]: { readonly [model: string]: Price } } = {
  offline: { offline: price(0, 0, 0) },
  // platform.claude.com, pricing
  anthropic: {
    "claude-fable-5-1": anthropic(10, 50, 0.25),
    "claude-fable-5": anthropic(10, 50, 1),
    "claude-opus-5-5": anthropic(4, 20, 0.2),
    "claude-opus-5": anthropic(5, 25, 0.5),
    "claude-opus-4-8": anthropic(5, 25, 0.5),
    "claude-opus-4-7": anthropic(5, 25, 0.5),
    "claude-opus-4-6": anthropic(5, 25, 0.5),
    "claude-opus-4-5": anthropic(5, 25, 0.5),
    "claude-sonnet-5-5": anthropic(2, 10, 0.1),
    "claude-sonnet-5": anthropic(2, 10, 0.2),
    "claude-sonnet-4-6": anthropic(3, 15, 0.3),
    "claude-sonnet-4-5": anthropic(3, 15, 0.3),
    "claude-haiku-5-5": { ...anthropic(0.1, 0.5, 0.01), long: { above: 100_000, input: 5, output: 5 } },
    "claude-haiku-4-5": anthropic(1, 5, 0.1)
  },
  // developers.openai.com, pricing
  openai: {
    "gpt-6.1-sol": openai(2, 10, 0.1),
    "gpt-6.1-terra": openai(1, 5, 0.05),
    "gpt-5.6-terra": openai(2, 12, 0.2)
  },
  // api-docs.deepseek.com, pricing
  deepseek: {
    "deepseek-v4-flash": price(0.14, 0.28, 0.0028),
    "deepseek-v4-pro": price(0.435, 0.87, 0.003625)
  }
}

/** A model's name without the date of its snapshot. */
const undated = (model: string): string => model.replace(/-(?:\d{8}|\d{4}-\d{2}-\d{2})$/, "")

const own = <A>(record: { readonly [name: string]: A }, name: string): A | undefined =>
  Object.hasOwn(record, name) ? record[name] : undefined

/** Of a provider's own models, its snapshots included. */
export const of = (provider: string, model: string): Price | undefined => {
  const models = own(known, provider) ?? {}
  return own(models, model) ?? own(models, undated(model))
}

/** A price that somebody set; what is not said of the cache costs as much as input without it. */
export const custom = (set: { readonly input: number; readonly output: number; readonly cached?: number }): Price =>
  price(set.input, set.output, set.cached ?? set.input, Math.max(set.input * 1.25, set.cached ?? 0))

const perToken = 1e-6

const factors = ({ long }: Price, inputTokens: number) =>
  long !== undefined && inputTokens > long.above ? long : { input: 1, output: 1 }

/** US dollars. */
export const cost = (of: Price, usage: Usage): number => {
  const cached = Math.min(usage.cachedTokens ?? 0, usage.inputTokens)
  const written = Math.min(usage.cacheWriteTokens ?? 0, usage.inputTokens - cached)
  const fresh = usage.inputTokens - cached - written
  const factor = factors(of, usage.inputTokens)
  const input = (fresh * of.input + cached * of.cached + written * of.cacheWrite) * factor.input
  return (input + usage.outputTokens * of.output * factor.output) * perToken
}

/** The most that so many tokens can cost, US dollars. */
export const highest = (of: Price, inputTokens: number, outputTokens: number): number => {
  const factor = factors(of, inputTokens)
  const input = inputTokens * Math.max(of.input, of.cached, of.cacheWrite) * factor.input
  return (input + outputTokens * of.output * factor.output) * perToken
}

/** How many tokens of output the dollars pay for beside the input; negative where not even that. */
export const affordable = (of: Price, inputTokens: number, dollars: number): number => {
  const each = of.output * factors(of, inputTokens).output * perToken
  const left = dollars - highest(of, inputTokens, 0)
  return each === 0 ? (left < 0 ? -1 : Number.POSITIVE_INFINITY) : Math.floor(left / each)
}
