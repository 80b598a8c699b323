/** The worlds of some seeds, a test each. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { outcomeOf } from "./Shrink.ts"

/** Milliseconds of the host for a world that is to be made smaller because it failed. */
const LIMIT_MS = 120_000

export const explored = (from: number, count: number): void => {
  for (let seed = from; seed < from + count; seed++) {
    it.effect(
      `of seed ${seed}`,
      () =>
        Effect.map(outcomeOf(seed), (outcome) => {
          if (typeof outcome === "string") assert.fail(outcome)
          assert.isAbove(outcome.packets, 0)
        }),
      LIMIT_MS
    )
  }
}
