/** A failing plan made shorter: whatever can be left out without healing it is left out. */
import * as Effect from "effect/Effect"
import { explore } from "./Explorer.ts"
import { draw, type Plan } from "./Weather.ts"

/** Worlds that are lived through for it, at most. */
const MAX_RUNS = 40

export interface Failure {
  readonly plan: Plan
  readonly faults: ReadonlyArray<string>
}

/** The same failure, or another one, with as little weather as possible. */
const shrink = Effect.fnUntraced(function* (failure: Failure) {
  let { faults, plan } = failure
  let runs = 0
  const attempt = Effect.fnUntraced(function* (candidate: Plan) {
    if (runs++ >= MAX_RUNS) return false
    const outcome = yield* explore(candidate)
    if (outcome.faults.length === 0) return false
    plan = candidate
    faults = outcome.faults
    return true
  })
  if (plan.finale !== undefined) yield* attempt({ ...plan, finale: undefined })
  for (let size = Math.ceil(plan.happenings.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < plan.happenings.length; ) {
      const happenings = plan.happenings.filter((_, i) => i < at || i >= at + size)
      if (!(yield* attempt({ ...plan, happenings }))) at += size
    }
  }
  const made: Failure = { plan, faults }
  return made
})

/** What a person who looks for the bug needs. */
const describe = (seed: number, { faults, plan }: Failure): string =>
  [`world ${seed} failed; with as little weather as possible:`, ...faults, JSON.stringify(plan)].join("\n    ")

/** Lives through the world of a seed; an outcome, or what to print. */
export const outcomeOf = Effect.fnUntraced(function* (seed: number) {
  const plan = draw(seed)
  const outcome = yield* explore(plan)
  if (outcome.faults.length === 0) return outcome
  return describe(seed, yield* shrink({ plan, faults: outcome.faults }))
})
