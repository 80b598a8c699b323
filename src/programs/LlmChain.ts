/**
 * One provider made of several: a request that fails before anything came of it is tried again after a pause, then with
 * the next provider. What has begun to answer is never asked twice. Each change is told by a `Notice`.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Stream from "effect/Stream"
import type { FailureReason } from "../domain/Llm.ts"
import { LlmLegs } from "../services/LlmLegs.ts"
import {
  LlmError,
  type LlmEvent,
  LlmProvider,
  type LlmProviderShape,
  type LlmRequest
} from "../services/LlmProvider.ts"
import * as Breaker from "./Breaker.ts"
import { Meter } from "./Metered.ts"

/** Times that one provider is asked for one answer: in all, and where it did not answer in time. */
const TRIES = 3
const TRIES_LATE = 2
/** The pause before the second try, which doubles, and how far chance moves it, ms and as a share. */
const PAUSE_MS = 1000
const LONGEST_PAUSE_MS = 20_000
const JITTER = 0.25
/** The longest pause that a provider may ask for and gets: alone, and where another one stands by, ms. */
const ASKED_MS = 60_000
const ASKED_BESIDE_MS = 10_000

/** Another try may help with these; with the others the next provider may. */
const passing: ReadonlyArray<FailureReason> = ["RateLimited", "Unavailable", "Timeout", "Broken"]

interface Leg {
  readonly name: string
  readonly provider: LlmProviderShape
  readonly breaker: Breaker.Breaker
}

const seconds = (ms: number): string => `${ms < 10_000 ? Math.round(ms / 100) / 10 : Math.round(ms / 1000)} s`

const notice = (text: string): Stream.Stream<LlmEvent> => Stream.make<[LlmEvent]>({ _tag: "Notice", text })

/** Names that tell the legs apart. */
const named = (legs: ReadonlyArray<LlmProviderShape>): ReadonlyArray<Leg> =>
  legs.map((provider) => {
    const { model, provider: name } = provider.info
    const twice = legs.filter((other) => other.info.provider === name).length > 1
    return { name: twice ? `${name}/${model}` : name, provider, breaker: new Breaker.Breaker() }
  })

/** The model meant for a leg, and the legs in the order in which they are asked. `provider/model` names both. */
const directed = (legs: ReadonlyArray<Leg>, request: LlmRequest) => {
  const { model, ...plain } = request
  const slash = model?.indexOf("/") ?? -1
  const wanted = model === undefined || slash < 1 ? undefined : model.slice(0, slash)
  const target = legs.find((leg) => leg.provider.info.provider === wanted)
  const first = target ?? legs[0]
  const named = target === undefined ? model : model?.slice(slash + 1)
  return {
    order: [...legs.filter((leg) => leg === first), ...legs.filter((leg) => leg !== first)],
    requestFor: (leg: Leg): LlmRequest => (leg === first && named !== undefined ? { ...plain, model: named } : plain)
  }
}

/** Of the legs, at least one. The first is the configured one. */
export const make = (shapes: readonly [LlmProviderShape, ...Array<LlmProviderShape>]): LlmProviderShape => {
  const legs = named(shapes)
  const [main] = shapes

  const stream = (request: LlmRequest): Stream.Stream<LlmEvent, LlmError> => {
    const { order, requestFor } = directed(legs, request)

    /** The legs from here on; `failures` are those of the legs before. */
    const from = (place: number, failures: ReadonlyArray<LlmError>): Stream.Stream<LlmEvent, LlmError> =>
      Stream.unwrap(
        Effect.gen(function* () {
          const leg = order[place]
          if (leg === undefined) return Stream.fail(together(failures))
          const now = yield* Clock.currentTimeMillis
          const waitMs = leg.breaker.waitMs(now)
          if (waitMs === 0) return ask(leg, place, 1, failures)
          const message = `${leg.name} has failed and is left alone for another ${seconds(waitMs)}`
          return from(place + 1, [...failures, new LlmError({ reason: "Unavailable", message, retryAfterMs: waitMs })])
        })
      )

    const ask = (
      leg: Leg,
      place: number,
      tries: number,
      failures: ReadonlyArray<LlmError>
    ): Stream.Stream<LlmEvent, LlmError> =>
      Stream.suspend(() => {
        let begun = false
        let ended = false
        const probing = leg.breaker.openMs > 0
        leg.breaker.begin()
        const said = failures.length > 0 && tries === 1 ? notice(`${leg.name} is asked instead`) : Stream.empty
        const own = leg.provider.stream(requestFor(leg)).pipe(
          Stream.map((event): LlmEvent => {
            if (event._tag === "Delta" || event._tag === "Reasoning" || event._tag === "Call") begun = true
            if (event._tag !== "Done") return event
            ended = true
            leg.breaker.succeeded()
            const { provider } = leg.provider.info
            return leg.provider === main ? event : { provider, ...event }
          })
        )
        const healed: LlmEvent = { _tag: "Notice", text: `${leg.name} answers again` }
        const told = probing
          ? Stream.flatMap(own, (event) =>
              Stream.fromIterable<LlmEvent>(event._tag === "Done" ? [healed, event] : [event])
            )
          : own
        const answer = told.pipe(
          Stream.catch((error) =>
            Stream.unwrap(
              Effect.tap(after(leg, place, tries, failures, error, begun), () =>
                Effect.sync(() => {
                  ended = true
                })
              )
            )
          )
        )
        const again = probing ? notice(`${leg.name} is tried again`) : Stream.empty
        // Also where nobody waits beyond the first notice: a try that never ended would be waited for by all.
        return Stream.concat(Stream.concat(again, said), answer).pipe(
          Stream.ensuring(
            Effect.sync(() => {
              if (!ended) leg.breaker.left()
            })
          )
        )
      })

    /** What comes after a failure. */
    const after = Effect.fnUntraced(function* (
      leg: Leg,
      place: number,
      tries: number,
      failures: ReadonlyArray<LlmError>,
      error: LlmError,
      begun: boolean
    ): Effect.fn.Return<Stream.Stream<LlmEvent, LlmError>> {
      const { reason } = error
      if (reason === "OverBudget") {
        leg.breaker.left()
        return Stream.fail(error)
      }
      const mayPass = passing.includes(reason)
      const beside = place + 1 < order.length
      const askedMs = error.retryAfterMs ?? 0
      const tooLong = askedMs > (beside ? ASKED_BESIDE_MS : ASKED_MS)
      const now = yield* Clock.currentTimeMillis
      const change = mayPass ? leg.breaker.failed(now, tooLong ? askedMs : 0) : undefined
      if (!mayPass) leg.breaker.left()
      const opened =
        change === "opened"
          ? notice(`${leg.name} keeps failing and is left alone for ${seconds(leg.breaker.openMs)}`)
          : Stream.empty
      if (begun) return Stream.concat(opened, Stream.fail(error))
      const most = reason === "Timeout" ? TRIES_LATE : TRIES
      if (mayPass && change === undefined && tries < most) {
        const steady = Math.min(PAUSE_MS * 2 ** (tries - 1), LONGEST_PAUSE_MS)
        // What a provider asks for is the least that it gets.
        const chance = yield* Random.next
        const pauseMs = askedMs > 0 ? askedMs + PAUSE_MS * chance : steady * (1 + JITTER * (2 * chance - 1))
        const wait = Stream.unwrap(Effect.as(Effect.sleep(pauseMs), ask(leg, place, tries + 1, failures)))
        return Stream.concat(notice(`${error.message}; trying again in ${seconds(pauseMs)}`), wait)
      }
      const next = from(place + 1, [...failures, error])
      const told = beside ? Stream.concat(opened, notice(error.message)) : opened
      return Stream.concat(told, next)
    })

    return from(0, [])
  }

  return { info: main.info, stream, ...(main.models === undefined ? {} : { models: main.models }) }
}

/** All that failed, as one: the reason is that of the provider that was asked first. */
const together = (failures: ReadonlyArray<LlmError>): LlmError => {
  const [first] = failures
  if (first === undefined) return new LlmError({ reason: "Unavailable", message: "there is no provider" })
  const message = [...new Set(failures.map((failure) => failure.message))].join("; ")
  return new LlmError({
    reason: first.reason,
    message,
    ...(first.retryAfterMs === undefined ? {} : { retryAfterMs: first.retryAfterMs })
  })
}

/** Of the providers, each metered. */
export const layer: Layer.Layer<LlmProvider, never, LlmLegs | Meter> = Layer.effect(
  LlmProvider,
  Effect.gen(function* () {
    const [first, ...others] = yield* LlmLegs
    const meter = yield* Meter
    return LlmProvider.of(make([meter.wrap(first), ...others.map(meter.wrap)]))
  })
)
