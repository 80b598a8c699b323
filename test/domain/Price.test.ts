import { assert, describe, it } from "@effect/vitest"
import { providerDefaults } from "../../src/domain/Llm.ts"
import * as Price from "../../src/domain/Price.ts"

describe("Price", () => {
  it("is known for every default model", () => {
    for (const [provider, { model }] of Object.entries(providerDefaults)) {
      if (model !== undefined) assert.isDefined(Price.of(provider, model), `${provider}/${model}`)
    }
  })

  it("holds for the snapshots of a model, and for no other provider's", () => {
    const price = Price.of("anthropic", "claude-haiku-4-5")
    assert.isDefined(price)
    assert.strictEqual(Price.of("anthropic", "claude-haiku-4-5-20251001"), price)
    assert.strictEqual(Price.of("openai", "gpt-6.1-sol-2026-10-01"), Price.of("openai", "gpt-6.1-sol"))
    assert.isUndefined(Price.of("openai-compatible", "gpt-6.1-sol"))
    assert.isUndefined(Price.of("anthropic", "claude-haiku-4-5-mini"))
    assert.isUndefined(Price.of("anthropic", "toString"))
  })

  const price = { input: 2, output: 10, cached: 0.2, cacheWrite: 2.5 }

  it("counts fresh, cached and written input apart", () => {
    const usage = { inputTokens: 1_000_000, outputTokens: 100_000, cachedTokens: 600_000, cacheWriteTokens: 200_000 }
    assert.approximately(Price.cost(price, usage), 0.4 + 0.12 + 0.5 + 1, 1e-9)
    const odd = { inputTokens: 10, outputTokens: 0, cachedTokens: 50, cacheWriteTokens: 50 }
    assert.approximately(Price.cost(price, odd), 10 * 0.2e-6, 1e-12)
  })

  it("is dearer as a whole where the prompt is long", () => {
    const long = { ...price, long: { above: 1000, input: 2, output: 1.5 } }
    assert.approximately(Price.cost(long, { inputTokens: 1000, outputTokens: 100 }), 0.003, 1e-12)
    assert.approximately(Price.cost(long, { inputTokens: 1001, outputTokens: 100 }), 0.004004 + 0.0015, 1e-12)
  })

  it("is never above the highest, and what is affordable never costs more", () => {
    for (const known of [
      price,
      { ...price, long: { above: 500, input: 2, output: 1.5 } },
      Price.custom({ input: 3, output: 1 })
    ]) {
      for (const inputTokens of [0, 1, 499, 501, 10_000]) {
        for (const outputTokens of [0, 7, 5000]) {
          const most = Price.highest(known, inputTokens, outputTokens)
          for (const cachedTokens of [0, inputTokens]) {
            for (const cacheWriteTokens of [0, inputTokens]) {
              const usage = { inputTokens, outputTokens, cachedTokens, cacheWriteTokens }
              assert.isAtMost(Price.cost(known, usage), most + 1e-12)
            }
          }
        }
        const tokens = Price.affordable(known, inputTokens, 0.05)
        if (tokens >= 0) assert.isAtMost(Price.highest(known, inputTokens, tokens), 0.05 + 1e-12)
        else assert.isAbove(Price.highest(known, inputTokens, 0), 0.05)
      }
    }
  })

  it("of nothing is nothing", () => {
    const offline = Price.of("offline", "offline")
    assert.isDefined(offline)
    if (offline === undefined) return
    assert.strictEqual(Price.affordable(offline, 1000, 0), Number.POSITIVE_INFINITY)
    assert.strictEqual(Price.cost(offline, { inputTokens: 5, outputTokens: 5 }), 0)
  })
})
