/**
 * Requests to language models, counted and held within budgets. Each request is on record, at the most that it can cost,
 * before it is sent: what is not sent costs nothing, and nothing that is sent can hide, whoever asks at the same time and
 * whatever crashes.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import * as Stream from "effect/Stream"
import { type FailureReason, noUsage, type Usage, userText } from "../domain/Llm.ts"
import * as Price from "../domain/Price.ts"
import type { BudgetState } from "../domain/UsageRpc.ts"
import { LlmError, type LlmEvent, type LlmProviderShape, type LlmRequest } from "../services/LlmProvider.ts"
import { type UsageEnd, UsageStore, type UsageStoreError } from "../services/UsageStore.ts"

/** US dollars; undefined for no limit, 0 for nothing at all. */
export interface Budgets {
  readonly day?: number | undefined
  readonly month?: number | undefined
  /** For each cron job, per day. */
  readonly perJob?: number | undefined
}

export interface Options {
  readonly budgets: Budgets
  /** What the configured provider costs, where its price is set. */
  readonly price?: { readonly provider: string; readonly price: Price.Price } | undefined
  /** Where days begin. */
  readonly timeZone: DateTime.TimeZone
}

export interface MeterShape {
  /** The same provider, with its requests on record and within the budgets; `Done` tells the cost. */
  readonly wrap: (provider: LlmProviderShape) => LlmProviderShape
  readonly priceOf: (provider: string, model: string) => Price.Price | undefined
  /** The budgets that are set, and what is spent of them. */
  readonly budgets: Effect.Effect<ReadonlyArray<BudgetState>, UsageStoreError>
}

/** Bytes of text to a token: fewer than any tokenizer needs on average, for what must not be passed. */
const bytesPerTokenAtLeast = 2
/** A fair mean, for what was sent and never counted. */
const bytesPerToken = 3
/** The most that providers count for one image. */
const imageTokens = 5000

/** Tokens of output that are asked for where nobody says how many and a budget is set: at most, and at least. */
const outputTokens = 8192
const leastOutputTokens = 1024

const encoder = new TextEncoder()
const bytesOf = (text: string): number => encoder.encode(text).length

/** Bytes of text, and images, that a request holds. */
const sizeOf = (request: LlmRequest): { readonly bytes: number; readonly images: number } => {
  let bytes = bytesOf(request.system) + bytesOf(JSON.stringify(request.tools ?? []))
  let images = 0
  for (const message of request.messages) {
    // What protocols add to each message.
    bytes += 32
    if (message.role === "user") {
      bytes += bytesOf(userText(message))
      for (const { bytes: content, mediaType, name } of message.attachments ?? []) {
        if (mediaType.startsWith("image/")) images++
        else bytes += content.length
        bytes += bytesOf(name) + 64
      }
    } else if (message.role === "assistant") {
      bytes += bytesOf(message.text) + bytesOf(message.reasoning ?? "") + bytesOf(JSON.stringify(message.calls ?? []))
    } else {
      bytes += bytesOf(message.text)
    }
  }
  return { bytes, images }
}

const dollars = (amount: number): string => `$${amount.toFixed(amount !== 0 && amount < 0.1 ? 4 : 2)}`

const overBudget = (message: string) => new LlmError({ reason: "OverBudget", message: `${message}; nothing was sent` })

/** Failures upon which a provider has done no work. */
const free: ReadonlyArray<FailureReason> = [
  "NoKey",
  "Unauthorized",
  "RateLimited",
  "Refused",
  "Unavailable",
  "OverBudget"
]

/** A budget that counts for a request. */
interface Bound {
  readonly setting: string
  readonly words: string
  readonly limit: number
  readonly spent: Effect.Effect<number, UsageStoreError>
}

/** One request while it runs. */
interface Ticket {
  readonly id: number | undefined
  readonly request: LlmRequest
  readonly price: Price.Price | undefined
  received: number
  error: LlmError | undefined
  done: Extract<LlmEvent, { _tag: "Done" }> | undefined
}

const make = Effect.fnUntraced(function* (options: Options) {
  const store = yield* UsageStore
  const { budgets } = options
  const turn = yield* Semaphore.make(1)
  const bounded = budgets.day !== undefined || budgets.month !== undefined || budgets.perJob !== undefined

  const today = Effect.map(Clock.currentTimeMillis, (time) => ({
    time,
    day: DateTime.formatIsoDate(DateTime.makeZonedUnsafe(time, { timeZone: options.timeZone }))
  }))
  const spentInMonth = (day: string) => {
    const month = day.slice(0, 7)
    return store.spent({ from: `${month}-01`, to: `${month}-31` })
  }

  const priceOf = (provider: string, model: string): Price.Price | undefined =>
    options.price?.provider === provider ? options.price.price : Price.of(provider, model)

  const boundsOf = (day: string, job: string | undefined): ReadonlyArray<Bound> => {
    const bounds: Array<Bound> = []
    if (budgets.day !== undefined) {
      const spent = store.spent({ from: day, to: day })
      bounds.push({ setting: "llm.budget.day", words: "of the day", limit: budgets.day, spent })
    }
    if (budgets.month !== undefined) {
      const spent = spentInMonth(day)
      bounds.push({ setting: "llm.budget.month", words: "of the month", limit: budgets.month, spent })
    }
    if (budgets.perJob !== undefined && job !== undefined) {
      const spent = store.spent({ from: day, to: day, job })
      bounds.push({ setting: "llm.budget.per_job", words: `of the job ${job}`, limit: budgets.perJob, spent })
    }
    return bounds
  }

  /** The request as it may be sent, and the most that it can cost. */
  const admit = Effect.fnUntraced(function* (
    request: LlmRequest,
    who: string,
    price: Price.Price | undefined,
    bounds: ReadonlyArray<Bound>
  ) {
    const { bytes, images } = sizeOf(request)
    const input = Math.ceil(bytes / bytesPerTokenAtLeast) + images * imageTokens
    if (bounds.length === 0) {
      const cost = price === undefined ? undefined : Price.highest(price, input, request.maxTokens ?? outputTokens)
      return { request, cost }
    }
    if (price === undefined) {
      return yield* overBudget(
        `a budget is set and the price of ${who} is not known: set llm.price.input and llm.price.output, in US dollars per million tokens`
      )
    }
    let output = request.maxTokens ?? outputTokens
    for (const { limit, setting, spent, words } of bounds) {
      const before = yield* Effect.mapError(spent, ({ message }) =>
        overBudget(`what the budget ${words} has left cannot be known: ${message}`)
      )
      const affordable = Price.affordable(price, input, limit - before)
      const least = request.maxTokens ?? leastOutputTokens
      if (affordable < least) {
        const cost = dollars(Price.highest(price, input, least))
        return yield* overBudget(
          `the budget ${words} is ${dollars(limit)}, ${dollars(before)} of it is spent, and this request could cost ${cost}: raise ${setting}, or wait`
        )
      }
      output = Math.min(output, affordable)
    }
    return { request: { ...request, maxTokens: output }, cost: Price.highest(price, input, output) }
  })

  const begin = (provider: string, model: string, request: LlmRequest) =>
    Effect.gen(function* () {
      const { day, time } = yield* today
      const price = priceOf(provider, model)
      const bounds = boundsOf(day, request.job)
      const admitted = yield* admit(request, `${provider}/${model}`, price, bounds)
      const { conversation, job } = request
      const id = yield* store
        .begin({ time, day, conversation, job, provider, model, cost: admitted.cost })
        .pipe(
          Effect.catch((error) =>
            bounds.length > 0
              ? Effect.fail(overBudget(`what is spent cannot be recorded: ${error.message}`))
              : Effect.as(Effect.logWarning(error.message), undefined)
          )
        )
      const ticket: Ticket = { id, request: admitted.request, price, received: 0, error: undefined, done: undefined }
      return ticket
    }).pipe((effect) => (bounded ? turn.withPermit(effect) : effect))

  const estimated = ({ received, request }: Ticket): Usage => {
    const { bytes, images } = sizeOf(request)
    return {
      inputTokens: Math.ceil(bytes / bytesPerToken) + images * imageTokens,
      outputTokens: Math.ceil(received / bytesPerToken)
    }
  }

  /** What a request came to. A provider that does not count, or counts one side only, is helped out. */
  const outcome = (ticket: Ticket, model: string): UsageEnd => {
    const { done, error, price, received } = ticket
    const unbilled = error !== undefined && received === 0 && free.includes(error.reason)
    const told = done?.usage ?? noUsage
    const guess = unbilled ? noUsage : estimated(ticket)
    const inputTokens = told.inputTokens > 0 ? told.inputTokens : guess.inputTokens
    const outputTokens = told.outputTokens > 0 ? told.outputTokens : guess.outputTokens
    const usage = { ...told, inputTokens, outputTokens }
    return {
      ended: done !== undefined ? "complete" : error !== undefined ? "failed" : "cancelled",
      model: done?.model ?? model,
      usage,
      cost: price === undefined ? (unbilled ? 0 : undefined) : Price.cost(price, usage),
      estimated: inputTokens !== told.inputTokens || outputTokens !== told.outputTokens
    }
  }

  const settle = (ticket: Ticket, model: string) =>
    ticket.id === undefined
      ? Effect.void
      : Effect.catch(store.end(ticket.id, outcome(ticket, model)), (error) => Effect.logWarning(error.message))

  const note = (ticket: Ticket, model: string, event: LlmEvent): LlmEvent => {
    if (event._tag === "Delta" || event._tag === "Reasoning") ticket.received += bytesOf(event.text)
    if (event._tag === "Call") ticket.received += bytesOf(event.call.name) + bytesOf(event.call.arguments)
    if (event._tag !== "Done") return event
    ticket.done = event
    const { cost } = outcome(ticket, model)
    return cost === undefined ? event : { ...event, cost }
  }

  const wrap = (provider: LlmProviderShape): LlmProviderShape => {
    // The offline assistant asks nobody.
    if (provider.info.provider === "offline") return provider
    return metered(provider)
  }

  const metered = (provider: LlmProviderShape): LlmProviderShape => ({
    ...provider,
    stream: (request) => {
      const model = request.model ?? provider.info.model
      return Stream.unwrap(
        Effect.map(
          Effect.acquireRelease(begin(provider.info.provider, model, request), (ticket) => settle(ticket, model)),
          (ticket) =>
            provider.stream(ticket.request).pipe(
              Stream.map((event) => note(ticket, model, event)),
              Stream.tapError((error) =>
                Effect.sync(() => {
                  ticket.error = error
                })
              )
            )
        )
      )
    }
  })

  const states = Effect.gen(function* () {
    const { day } = yield* today
    const result: Array<BudgetState> = []
    if (budgets.day !== undefined) {
      result.push({ period: "day", limit: budgets.day, spent: yield* store.spent({ from: day, to: day }) })
    }
    if (budgets.month !== undefined) {
      result.push({ period: "month", limit: budgets.month, spent: yield* spentInMonth(day) })
    }
    if (budgets.perJob !== undefined) result.push({ period: "per_job", limit: budgets.perJob })
    return result
  })

  return Meter.of({ wrap, priceOf, budgets: states })
})

export class Meter extends Context.Service<Meter, MeterShape>()("clawchat/programs/Meter") {
  static readonly layer = (options: Options): Layer.Layer<Meter, never, UsageStore> =>
    Layer.effect(Meter, make(options))
}
