/** What the assistant has cost, and which models there are: an Effect RPC group beside Chat. */
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { Usage } from "./Llm.ts"

/** Lines in one answer of `Sum`; of more the ones with the greatest cost stay, and of days and months the latest. */
export const maxLines = 1000

/** Models in one answer of `Models`. */
export const maxModels = 2000

/** A day of the tier's time zone, `2026-01-31`. */
export const Day = Schema.String.check(
  Schema.isPattern(/^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])$/, { message: "a day is written as 2026-01-31" })
)

export const By = Schema.Literals(["day", "month", "conversation", "model", "job"])
export type By = typeof By.Type

/** Requests that belong together. */
export const UsageLine = Schema.Struct({
  /** `2026-01-31`, `2026-01`, a conversation, `provider/model`, or a job; empty for what no job asked. */
  key: Schema.String,
  requests: Schema.Natural,
  usage: Usage,
  /** US dollars, of the requests whose price is known. */
  cost: Schema.Finite,
  /** Requests whose price is not known. */
  unpriced: Schema.Natural,
  /** Requests that did not end, whose tokens are therefore estimated: cancelled, cut off, running. */
  estimated: Schema.Natural
})
export type UsageLine = typeof UsageLine.Type

export const BudgetState = Schema.Struct({
  /** `day` and `month`: the one that it is now. `per_job`: today, for each job. */
  period: Schema.Literals(["day", "month", "per_job"]),
  /** US dollars. */
  limit: Schema.Finite,
  /** What is spent of it, running requests at their highest cost; absent for `per_job`. */
  spent: Schema.optionalKey(Schema.Finite)
})
export type BudgetState = typeof BudgetState.Type

export const UsageSum = Schema.Struct({
  /** Days and months in order of time, all else by cost, the greatest first. */
  lines: Schema.Array(UsageLine),
  /** Of all lines, those left out too. */
  total: UsageLine,
  /** There were more than `maxLines`. */
  truncated: Schema.Boolean,
  /** Budgets that are set. */
  budgets: Schema.Array(BudgetState)
})
export type UsageSum = typeof UsageSum.Type

/** US dollars per million tokens. */
export const ModelPrice = Schema.Struct({
  input: Schema.Finite,
  output: Schema.Finite,
  /** Input read from the provider's cache. */
  cached: Schema.Finite
})

export const Model = Schema.Struct({
  provider: Schema.String,
  id: Schema.String,
  /** Requests that name no model go to it first. */
  current: Schema.Boolean,
  price: Schema.optionalKey(ModelPrice)
})
export type Model = typeof Model.Type

export const ModelList = Schema.Struct({
  /** The configured provider's first, then those that stand in for it; each in the order of their names. */
  models: Schema.Array(Model),
  /** One line for each provider that could not be asked. */
  problems: Schema.Array(Schema.String)
})
export type ModelList = typeof ModelList.Type

/** `Storage`: the record of usage could not be read. `TierAway`: the llm tier cannot be reached. */
export class UsageError extends Schema.TaggedError<UsageError>()("UsageError", {
  reason: Schema.Literals(["Storage", "TierAway"]),
  /** One line for people: what happened, what to do. */
  message: Schema.String
}) {}

/** From the first day to the last, both included; without them all that is on record. */
export const Sum = Rpc.make("Sum", {
  payload: { from: Schema.optionalKey(Day), to: Schema.optionalKey(Day), by: By },
  success: UsageSum,
  error: UsageError
})

/** Asks the providers, each within ten seconds. */
export const Models = Rpc.make("Models", { success: ModelList, error: UsageError })

export class UsageRpc extends RpcGroup.make(Sum, Models).prefix("Usage.") {}
