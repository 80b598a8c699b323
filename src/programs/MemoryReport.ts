/** Handlers of the `Memory` group, for any protocol. */
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Rpc from "effect/rpc/Rpc"
import type * as RpcGroup from "effect/rpc/RpcGroup"
import { MemoryRpc, MemoryRpcError, maxPage } from "../domain/MemoryRpc.ts"
import { type MemoryError, MemoryStore } from "../services/MemoryStore.ts"

const fromMemory = ({ message, reason }: MemoryError) =>
  new MemoryRpcError({ reason: reason === "Io" || reason === "Unusable" ? "Storage" : reason, message })

/** What the user says by hand is caused by no message. */
const byHand = { conversation: "", messageId: "" }

export const layerHandlers: Layer.Layer<
  Rpc.ToHandler<RpcGroup.Rpcs<typeof MemoryRpc>>,
  never,
  MemoryStore
> = MemoryRpc.toLayer(
  Effect.gen(function* () {
    const memory = yield* MemoryStore
    return {
      "Memory.Add": ({ file = "MEMORY.md", text }) =>
        memory.append(file, text, byHand).pipe(
          Effect.map((change) => change ?? null),
          Effect.mapError(fromMemory)
        ),
      "Memory.Search": ({ limit = 20, query }) => Effect.mapError(memory.search(query, limit), fromMemory),
      "Memory.Get": ({ from = 1, lines = 1000, source }) =>
        Effect.mapError(memory.get(source, from, lines), fromMemory),
      "Memory.Log": ({ before, limit = 50 }) => Effect.mapError(memory.changes({ before, limit }), fromMemory),
      "Memory.Undo": Effect.fnUntraced(function* ({ id }) {
        const latest = yield* Effect.mapError(memory.changes({ limit: maxPage }), fromMemory)
        const meant = id ?? latest.find((change) => !change.undone && change.kind !== "undo")?.id
        if (meant === undefined) {
          return yield* new MemoryRpcError({ reason: "NotFound", message: "there is nothing to take back" })
        }
        return yield* Effect.mapError(memory.undo(meant, byHand), fromMemory)
      })
    }
  })
)
