/**
 * What happens, on its way to the record and to the log: a few of a kind as they come, then one a minute that counts the
 * rest. So a device that comes and goes ten thousand times leaves some dozen lines, and a flood of datagrams one a minute.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as AuditEvent from "../domain/AuditEvent.ts"
import type { Drops } from "../domain/protocol/EndpointTypes.ts"
import { TokenBucket } from "../domain/protocol/TokenBucket.ts"
import { Audit, stamp } from "../services/Audit.ts"

/** Milliseconds after which what was held back is told. */
export const PERIOD_MS = 60_000
/** Events of a kind and device that are told as they come, and how many more each minute. */
export const BURST = 8
const PER_SECOND = 1 / 60
/** Kinds and devices told apart at a time; of all further ones only the kinds are. */
export const MAX_FLOWS = 512
/** Sessions, refusals and the like of one device in a minute that are out of the ordinary. */
const UNUSUAL = 30
/** Dropped datagrams in a minute that are told at once, and that are out of the ordinary; fewer are told by the hour. */
const NOTEWORTHY_DROPS = 10
const UNUSUAL_DROPS = 600
const HOUR_MS = 3_600_000

export interface AuditTrail {
  /** Puts an event on record, or counts it with others of its kind. */
  readonly note: (event: AuditEvent.Event) => Effect.Effect<void>
  /** Looks at the counters of dropped datagrams each minute, for ever, and tells of those that grow. */
  readonly watch: (drops: Effect.Effect<Drops>) => Effect.Effect<never>
}

/** What one device does again and again. */
interface Flow {
  readonly bucket: TokenBucket
  held: AuditEvent.Event | undefined
  count: number
  at: number
}

/** Counts are told in the scope this is made in, and what is left at its end. */
export const make = Effect.fn("AuditTrail.make")(function* () {
  const audit = yield* Audit
  const scope = yield* Effect.scope
  const flows = new Map<string, Flow>()

  const write = Effect.fnUntraced(function* (event: AuditEvent.Event, count: number) {
    const at = stamp(yield* Clock.currentTimeMillis)
    const record: AuditEvent.Record = { at, ...event, ...(count > 1 ? { count } : {}) }
    yield* audit.append(record)
    const line = `[audit] ${AuditEvent.text(record)}`
    yield* record.alert === true ? Effect.logWarning(line) : Effect.logInfo(line)
  })

  const tell = Effect.fnUntraced(function* (flow: Flow) {
    const { count, held } = flow
    flow.held = undefined
    flow.count = 0
    if (held !== undefined) yield* write(count >= UNUSUAL ? { ...held, alert: true } : held, count)
  })

  const sweep = Effect.gen(function* () {
    while (flows.size > 0) {
      yield* Effect.sleep(PERIOD_MS)
      const now = yield* Clock.currentTimeMillis
      for (const [key, flow] of flows) {
        yield* tell(flow)
        // Its budget is full again: nothing is lost by forgetting it.
        if (now - flow.at >= BURST * PERIOD_MS) flows.delete(key)
      }
    }
  })

  const note: AuditTrail["note"] = Effect.fnUntraced(function* (event) {
    const now = yield* Clock.currentTimeMillis
    const own = `${event.kind} ${AuditEvent.subject(event)}`
    const key = flows.has(own) || flows.size < MAX_FLOWS ? own : event.kind
    const idle = flows.size === 0
    const flow = flows.get(key) ?? {
      bucket: new TokenBucket(now, PER_SECOND, BURST),
      held: undefined,
      count: 0,
      at: now
    }
    flows.set(key, flow)
    if (idle) yield* Effect.forkIn(sweep, scope)
    flow.at = now
    // What comes behind others that are held back waits for them.
    if (flow.held === undefined && flow.bucket.take(now)) return yield* write(event, 1)
    flow.held = flow.held === undefined ? event : AuditEvent.merge(flow.held, event)
    flow.count++
  })

  yield* Effect.addFinalizer(() => Effect.forEach([...flows.values()], tell, { discard: true }))

  const watch: AuditTrail["watch"] = Effect.fnUntraced(function* (drops) {
    let before = yield* drops
    let since = yield* Clock.currentTimeMillis

    /** Tells of what has grown, if that is as much as `least`, or has waited for an hour. */
    const look = Effect.fnUntraced(function* (least: number) {
      const at = yield* Clock.currentTimeMillis
      const now = yield* drops
      const reasons = growth(before, now)
      // Repeated packets are the network's own.
      const { replayed = 0 } = reasons
      const dropped = Object.values(reasons).reduce((sum, count) => sum + count, 0) - replayed
      if (dropped > 0) {
        if (dropped < least && at - since < HOUR_MS) return
        const seconds = Math.max(1, Math.round((at - since) / 1000))
        const perSecond = Math.round(dropped / seconds)
        const alert = dropped >= UNUSUAL_DROPS ? { alert: true as const } : {}
        yield* write({ kind: "traffic.dropped", ...alert, dropped, seconds, perSecond, reasons }, 1)
      }
      before = now
      since = at
    })

    const minute = Effect.andThen(Effect.sleep(PERIOD_MS), look(NOTEWORTHY_DROPS))
    return yield* Effect.onInterrupt(Effect.forever(minute), () => look(1))
  })

  return { note, watch } satisfies AuditTrail
})

/** The counters that have grown, and by how much. */
const growth = (before: Drops, now: Drops): Record<string, number> =>
  Object.fromEntries(
    (Object.keys(now) as ReadonlyArray<keyof Drops>).flatMap((reason) =>
      now[reason] > before[reason] ? [[reason, now[reason] - before[reason]]] : []
    )
  )
