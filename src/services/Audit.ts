/** The server's record of what happened: appended to by the running server, read by its owner. Bounded, the oldest goes first. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as AuditEvent from "../domain/AuditEvent.ts"

/** - `Denied`: this user may not read it. `Io`: the disk refused. */
export class AuditError extends Data.TaggedError("AuditError")<{
  readonly reason: "Denied" | "Io"
  /** One line for people: what, where, what to do. */
  readonly message: string
}> {}

export interface Query {
  /** Records of that time and later, ms since 1970; all if not given. */
  readonly sinceMs?: number | undefined
  /** Of these kinds; of all if not given. */
  readonly kinds?: ReadonlyArray<string> | undefined
  /** The newest so many. */
  readonly limit: number
}

/** Records that the layer in memory keeps. */
const MAX_IN_MEMORY = 10_000

export class Audit extends Context.Service<
  Audit,
  {
    /** Puts a record behind the others. A record that cannot be written must not stop the server: that is only logged. */
    readonly append: (record: AuditEvent.Record) => Effect.Effect<void>
    /** What is asked for, the oldest first. */
    readonly read: (query: Query) => Effect.Effect<ReadonlyArray<AuditEvent.Record>, AuditError>
  }
>()("clawchat/services/Audit") {
  static readonly layerMemory: Layer.Layer<Audit> = Layer.effect(
    Audit,
    Effect.sync(() => {
      const records: Array<AuditEvent.Record> = []
      return Audit.of({
        append: (record) =>
          Effect.sync(() => {
            records.push(record)
            if (records.length > MAX_IN_MEMORY) records.shift()
          }),
        read: (query) =>
          Effect.sync(() => {
            const wanted = matches(query)
            return records.filter(wanted).slice(-query.limit)
          })
      })
    })
  )
}

/** Whether a record is one that a query asks for; its limit aside. */
export const matches = ({ kinds, sinceMs }: Query): ((record: AuditEvent.Record) => boolean) => {
  const since = sinceMs === undefined ? "" : stamp(sinceMs)
  return ({ at, kind }) => at >= since && (kinds === undefined || kinds.includes(kind))
}

/** A time as records carry it; one that no calendar has is the first or last that it has. */
export const stamp = (ms: number): string => new Date(Math.min(Math.max(ms, 0), MAX_STAMP)).toISOString()
/** The end of the year 9999: later ones have more digits. */
const MAX_STAMP = Date.UTC(9999, 11, 31)
