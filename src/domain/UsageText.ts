/** What the assistant has cost, in words for people. Pure; what comes from elsewhere is cleaned. */
import * as Printable from "./Printable.ts"
import { dollars, table } from "./TextTable.ts"
import type { BudgetState, By, Model, UsageLine, UsageSum } from "./UsageRpc.ts"

const TITLES: { readonly [B in By]: string } = {
  day: "DAY",
  month: "MONTH",
  conversation: "CONVERSATION",
  model: "MODEL",
  job: "JOB"
}

const cost = ({ cost: sum, requests, unpriced }: UsageLine): string =>
  unpriced === 0 ? dollars(sum) : unpriced === requests ? "unknown" : `${dollars(sum)} and ${unpriced} of unknown price`

/** "12 requests, 3,400 tokens in (1,200 cached), 560 out, $0.0123". */
export const line = (of: UsageLine): string => {
  const { cachedTokens = 0, inputTokens, outputTokens } = of.usage
  const cached = cachedTokens === 0 ? "" : ` (${cachedTokens} cached)`
  const requests = of.requests === 1 ? "1 request" : `${of.requests} requests`
  return `${requests}, ${inputTokens} tokens in${cached}, ${outputTokens} out, ${cost(of)}`
}

/** "day: $0.1200 of $1.00". */
export const budget = ({ limit, period, spent }: BudgetState): string =>
  period === "per_job"
    ? `each job: at most ${dollars(limit)} a day`
    : `this ${period}: ${spent === undefined ? "" : `${dollars(spent)} of `}${dollars(limit)}`

/** A table with its sum; budgets below. */
export const sums = (by: By, { budgets, lines, total, truncated }: UsageSum): string => {
  const row = (name: string, of: UsageLine): ReadonlyArray<string> => [
    name,
    String(of.requests),
    String(of.usage.inputTokens),
    String(of.usage.cachedTokens ?? 0),
    String(of.usage.outputTokens),
    cost(of)
  ]
  const shown = lines.map((of) => row(of.key === "" ? "-" : Printable.line(of.key), of))
  return [
    table([[TITLES[by], "REQUESTS", "IN", "CACHED", "OUT", "COST"], ...shown, row("all", total)]),
    ...(truncated ? ["not all of it is shown: name a time with --from and --to"] : []),
    ...(total.estimated === 0 ? [] : [`tokens of ${total.estimated} of ${total.requests} requests are estimated`]),
    ...budgets.map((each) => `budget, ${budget(each)}`)
  ].join("\n")
}

/** Models, one a line, the current one with a star. */
export const models = (list: ReadonlyArray<Model>): string =>
  table([
    ["", "PROVIDER", "MODEL", "IN", "CACHED", "OUT"],
    ...list.map(({ current, id, price, provider }) => [
      current ? "*" : "",
      Printable.line(provider),
      Printable.line(id),
      ...(price === undefined ? [] : [price.input, price.cached, price.output].map((each) => `$${each}`))
    ])
  ])
