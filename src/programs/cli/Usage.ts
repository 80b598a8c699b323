/** `clawchat usage` and `clawchat models`: what the assistant has cost, and whom it may ask. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Printable from "../../domain/Printable.ts"
import { type By, Day } from "../../domain/UsageRpc.ts"
import * as UsageText from "../../domain/UsageText.ts"
import { type Failure, usage as wrong } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as LlmLine from "./LlmLine.ts"
import * as Output from "./Output.ts"

export interface Input extends LlmLine.Input {
  readonly json: boolean
  readonly quiet: boolean
}

export interface SumInput extends Input {
  readonly by: By
  readonly from: Option.Option<string>
  readonly to: Option.Option<string>
}

const isDay = Schema.is(Day)

/** A day, or the first or last one of a month. */
const dayOf = (flag: string, given: Option.Option<string>, end: string): Effect.Effect<string | undefined, Failure> => {
  if (Option.isNone(given)) return Effect.succeed(undefined)
  const day = /^\d{4}-\d{2}$/.test(given.value) ? `${given.value}-${end}` : given.value
  return isDay(day)
    ? Effect.succeed(day)
    : wrong(
        `--${flag}: expected a day such as 2026-01-31, or a month such as 2026-01, got ${JSON.stringify(given.value)}`
      )
}

export const sum = Effect.fnUntraced(
  function* (input: SumInput) {
    const { by } = input
    const from = yield* dayOf("from", input.from, "01")
    const to = yield* dayOf("to", input.to, "31")
    const span = { ...(from === undefined ? {} : { from }), ...(to === undefined ? {} : { to }) }
    const { ask } = yield* LlmLine.connect(input)
    const sums = yield* ask((chat) => chat["Usage.Sum"]({ by, ...span }))
    yield* input.json ? Output.json(sums) : Output.line(UsageText.sums(by, sums))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export const models = Effect.fnUntraced(
  function* (input: Input) {
    const { ask } = yield* LlmLine.connect(input)
    const list = yield* ask((chat) => chat["Usage.Models"](undefined))
    if (input.json) return yield* Output.json(list)
    yield* Output.line(UsageText.models(list.models))
    if (input.quiet) return
    for (const problem of list.problems) yield* Output.note(`warning: ${Printable.line(problem)}`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
