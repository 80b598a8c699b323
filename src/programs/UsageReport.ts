/** Handlers of the `Usage` group, for any protocol. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Result from "effect/Result"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import { type Model, maxModels, UsageError, UsageRpc } from "../domain/UsageRpc.ts"
import { LlmLegs } from "../services/LlmLegs.ts"
import { UsageStore, type UsageStoreError } from "../services/UsageStore.ts"
import { Meter } from "./Metered.ts"

const storage = ({ message }: UsageStoreError) => new UsageError({ reason: "Storage", message })

export const layerHandlers: Layer.Layer<
  Rpc.ToHandler<RpcGroup.Rpcs<typeof UsageRpc>>,
  never,
  UsageStore | LlmLegs | Meter
> = UsageRpc.toLayer(
  Effect.gen(function* () {
    const store = yield* UsageStore
    const legs = yield* LlmLegs
    const meter = yield* Meter

    const modelsOf = Effect.fnUntraced(function* (provider: string) {
      const own = legs.filter(({ info }) => info.provider === provider)
      const list = own.find(({ models }) => models !== undefined)?.models
      const listed = yield* Effect.result(list ?? Effect.succeed([]))
      // The configured ones are there, whatever the provider says.
      const names = new Set([...own.map(({ info }) => info.model), ...Result.getOrElse(listed, () => [])])
      const models = [...names].sort().map((id): Model => {
        const price = meter.priceOf(provider, id)
        return {
          provider,
          id,
          current: provider === legs[0].info.provider && id === legs[0].info.model,
          ...(price === undefined ? {} : { price: { input: price.input, output: price.output, cached: price.cached } })
        }
      })
      return { models, problem: Result.isFailure(listed) ? listed.failure.message : undefined }
    })

    return {
      "Usage.Sum": ({ by, from, to }) =>
        Effect.mapError(Effect.all({ sums: store.sum({ by, from, to }), budgets: meter.budgets }), storage).pipe(
          Effect.map(({ budgets, sums }) => ({ ...sums, budgets }))
        ),
      "Usage.Models": Effect.fnUntraced(function* () {
        const providers = [...new Set(legs.map(({ info }) => info.provider))]
        const answers = yield* Effect.forEach(providers, modelsOf, { concurrency: "unbounded" })
        return {
          models: answers.flatMap(({ models }) => models).slice(0, maxModels),
          problems: answers.flatMap(({ problem }) => (problem === undefined ? [] : [problem]))
        }
      })
    }
  })
)
