/** Memory as clients see it: an Effect RPC group of the llm tier, beside Chat. */
import * as Rpc from "effect/rpc/Rpc"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { Change, FactFile, Hit, maxNoteChars, Source } from "./Memory.ts"

/** Changes or hits in one answer. */
export const maxPage = 200

/**
 * - `NotFound`, `Ambiguous`, `Changed`, `TooLong`: nothing was changed.
 * - `Storage`: a file or the record could not be read or written.
 */
export class MemoryRpcError extends Schema.TaggedError<MemoryRpcError>()("MemoryRpcError", {
  reason: Schema.Literals(["NotFound", "Ambiguous", "Changed", "TooLong", "Storage"]),
  /** One line for people: what is wrong, what to do. */
  message: Schema.String
}) {}

const error = MemoryRpcError
const Limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxPage }))

/** Adds a fact, as the user's own word. Null where it stood there already. */
export const Add = Rpc.make("Add", {
  payload: {
    file: Schema.optionalKey(FactFile),
    text: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(maxNoteChars))
  },
  success: Schema.NullOr(Change),
  error
})

/** Best first. */
export const Search = Rpc.make("Search", {
  payload: { query: Schema.String.check(Schema.isMaxLength(1000)), limit: Schema.optionalKey(Limit) },
  success: Schema.Array(Hit),
  error
})

/** Lines of a file of memory or of a day's log. */
export const Get = Rpc.make("Get", {
  payload: {
    source: Source,
    from: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))),
    lines: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 10_000 })))
  },
  success: Schema.String,
  error
})

/** What was changed, newest first. */
export const Log = Rpc.make("Log", {
  payload: { limit: Schema.optionalKey(Limit), before: Schema.optionalKey(Schema.Natural) },
  success: Schema.Array(Change),
  error
})

/** Takes a change back; the newest one that is not taken back when no id is given. */
export const Undo = Rpc.make("Undo", {
  payload: { id: Schema.optionalKey(Schema.Natural) },
  success: Change,
  error
})

/** Tags are unique over all groups: `Memory.Log`, `Memory.Undo`, ... */
export class MemoryRpc extends RpcGroup.make(Add, Search, Get, Log, Undo).prefix("Memory.") {}
