/** From settings to providers. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as LlmLayers from "../../src/layers/LlmLayers.ts"
import { LlmLegs } from "../../src/services/LlmLegs.ts"
import { key } from "./FakeProviders.ts"

describe("choose", () => {
  const some = Redacted.make(key)
  const { choose } = LlmLayers

  it.effect("is offline with nothing set", () =>
    Effect.map(choose({ keys: { openai: Redacted.make(" ") } }), (choice) => {
      assert.deepStrictEqual(choice, { provider: "offline", chosen: "no provider is set and no key was found" })
    })
  )

  it.effect("takes the first key in the order anthropic, openai, deepseek", () =>
    Effect.gen(function* () {
      const names = []
      for (const keys of [
        { anthropic: some, openai: some, deepseek: some },
        { openai: some, deepseek: some },
        { deepseek: some }
      ]) {
        const choice = yield* choose({ keys })
        names.push([choice.provider, choice.chosen])
      }
      assert.deepStrictEqual(names, [
        ["anthropic", "ANTHROPIC_API_KEY is the first key found"],
        ["openai", "OPENAI_API_KEY is the first key found"],
        ["deepseek", "DEEPSEEK_API_KEY is the first key found"]
      ])
    })
  )

  it.effect("lets the setting win; DeepSeek has its model and address", () =>
    Effect.gen(function* () {
      const choice = yield* choose({ provider: "deepseek", keys: { anthropic: some, deepseek: some } })
      assert.deepInclude(choice, {
        provider: "deepseek",
        model: "deepseek-v4-flash",
        baseUrl: "https://api.deepseek.com",
        chosen: "it is set"
      })
      assert.strictEqual((yield* choose({ provider: "offline", keys: { anthropic: some } })).provider, "offline")
    })
  )

  it.effect("a base URL of one's own never gets the key of a provider that was not named", () =>
    Effect.gen(function* () {
      const baseUrl = "http://localhost:11434/v1"
      const choice = yield* choose({ baseUrl, model: "m", keys: { anthropic: some, openai: some } })
      assert.deepInclude(choice, { provider: "openai-compatible", baseUrl, key: undefined })
    })
  )

  it.effect("names what is missing or unusable", () =>
    Effect.gen(function* () {
      const messages: Array<string> = []
      for (const settings of [
        { provider: "anthropic", keys: {} },
        { provider: "deepseek", keys: { openai: some } },
        { provider: "openai", keys: { openai: Redacted.make(`${key}\u2028x`) } },
        { provider: "openai-compatible", keys: {}, model: "m" },
        { provider: "openai-compatible", keys: {}, baseUrl: "http://localhost" },
        { provider: "openai-compatible", keys: {}, model: "m", baseUrl: "file:///etc/passwd" },
        { provider: "openai-compatible", keys: {}, model: "m", baseUrl: `http://u:${key}@localhost/v1` }
      ] satisfies ReadonlyArray<LlmLayers.LlmSettings>) {
        const error = yield* Effect.flip(choose(settings))
        assert.notInclude(error.message, key)
        messages.push(`${error.reason}: ${error.message}`)
      }
      const expected = [
        "NoKey: the provider anthropic needs a key: set ANTHROPIC_API_KEY",
        "NoKey: the provider deepseek needs a key: set DEEPSEEK_API_KEY",
        "Refused: OPENAI_API_KEY holds characters",
        "Refused: the provider openai-compatible needs a base URL",
        "Refused: the provider openai-compatible has no default model",
        "Refused: the provider's base URL is no http",
        "Refused: the provider's base URL holds more than"
      ]
      for (const [index, start] of expected.entries())
        assert.isTrue(messages[index]?.startsWith(start), messages[index])
      assert.strictEqual(messages.length, expected.length)
    })
  )
})

describe("layerLegs", () => {
  const keys = { anthropic: Redacted.make(key), deepseek: Redacted.make(key) }
  const legs = (settings: LlmLayers.LlmSettings) =>
    Effect.provide(
      Effect.map(LlmLegs, (all) => all.map(({ info }) => `${info.provider}/${info.model}`)),
      LlmLayers.layerLegs(settings)
    )

  it.effect("has the provider first, then those that stand in", () =>
    Effect.gen(function* () {
      const fallback = [
        { provider: "deepseek", model: undefined },
        { provider: "anthropic", model: "claude-haiku-5-5" },
        { provider: "offline", model: undefined }
      ] as const
      assert.deepStrictEqual(yield* legs({ provider: "anthropic", model: "m", keys, fallback }), [
        "anthropic/m",
        "deepseek/deepseek-v4-flash",
        "anthropic/claude-haiku-5-5",
        "offline/offline"
      ])
      assert.deepStrictEqual(yield* legs({ keys }), ["anthropic/claude-sonnet-5-5"])
    })
  )

  it.effect("a base URL of one's own serves the provider that it is set for, and no other", () =>
    Effect.gen(function* () {
      const own = { provider: "openai-compatible", model: "m", baseUrl: "http://localhost:11434/v1", keys } as const
      const same = { ...own, fallback: [{ provider: "openai-compatible", model: "small" }] } as const
      assert.deepStrictEqual(yield* legs(same), ["openai-compatible/m", "openai-compatible/small"])
      const noAddress = {
        provider: "anthropic",
        keys,
        fallback: [{ provider: "openai-compatible", model: "m" }]
      } as const
      const error = yield* Effect.flip(legs(noAddress))
      assert.include(error.message, "llm.fallback")
      const noKey = { provider: "anthropic", keys, fallback: [{ provider: "openai", model: undefined }] } as const
      assert.include((yield* Effect.flip(legs(noKey))).message, "OPENAI_API_KEY")
    })
  )
})
