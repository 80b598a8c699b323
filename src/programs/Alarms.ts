/**
 * Log lines that someone outside can cause at will: one of a kind and minute, then how many more there were. What an
 * attacker repeats must fill neither the disk nor the memory.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Milliseconds in which a kind of line is written once. */
export const PERIOD_MS = 60_000
/** Kinds told apart at a time; all further ones count as one. */
const MAX_KINDS = 256
const OTHERS = "others"

type Log = (text: string) => Effect.Effect<void>

interface Kind {
  /** Milliseconds. */
  since: number
  held: number
  log: Log
  text: string
}

export interface Alarms {
  /** Logs the text, unless a line of this kind was logged within the last minute: then it is only counted. */
  readonly say: (kind: string, log: Log, text: string) => Effect.Effect<void>
}

/** Counts are logged in the scope this is made in. */
export const make = Effect.fn("Alarms.make")(function* () {
  const scope = yield* Effect.scope
  const kinds = new Map<string, Kind>()

  const sweep = Effect.gen(function* () {
    while (kinds.size > 0) {
      yield* Effect.sleep(PERIOD_MS)
      const now = yield* Clock.currentTimeMillis
      for (const [name, kind] of kinds) {
        if (now - kind.since < PERIOD_MS) continue
        const { held, log, text } = kind
        if (held === 0) {
          kinds.delete(name)
          continue
        }
        kind.since = now
        kind.held = 0
        yield* log(`${held} more like this, the last: ${text}`)
      }
    }
  })

  const say: Alarms["say"] = Effect.fnUntraced(function* (wanted, log, text) {
    const now = yield* Clock.currentTimeMillis
    const name = kinds.has(wanted) || kinds.size < MAX_KINDS ? wanted : OTHERS
    const kind = kinds.get(name)
    if (kind !== undefined) {
      kind.held++
      kind.log = log
      kind.text = text
      return
    }
    const idle = kinds.size === 0
    kinds.set(name, { since: now, held: 0, log, text })
    if (idle) yield* Effect.forkIn(sweep, scope)
    yield* log(text)
  })

  return { say } satisfies Alarms
})
