/**
 * Moves a server from port to port as its schedule says, make before break:
 *
 *     2 min before a period   the next port is opened and announced; clients move to it, one by one, within a minute
 *     at its beginning        the next port is what new credential files say, and what devices that were away compute
 *     5 min after             the old one is closed, as soon as nobody is on it
 *
 * Who cannot follow (a firewall, a router that forwards one port) stays where it is, and keeps that port open; while too
 * many are open, or none can be had, the next change waits. Periods shorter than an hour have shorter notice and grace in
 * proportion. The time of day is looked at anew every half minute: it may be set while this sleeps.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { format } from "../domain/protocol/Address.ts"
import { PORT_ANNOUNCE_MS, PORT_PERIOD_MS } from "../domain/protocol/Constants.ts"
import type { PortSchedule } from "../domain/protocol/PortSchedule.ts"
import type { Listener, OpenPort, TransportError } from "../services/Transport.ts"

/** Ports open at a time: the present one, the last, and one that somebody could not leave. */
const MAX_OPEN = 3
/** Milliseconds between two looks at the clock and at who is where. */
const LOOK_MS = 30_000
/** Looks between two reminders of those who stay on an old port after its grace. */
const LOOKS_PER_REMINDER = 10
/** Periods to come of which ports are named in advance, and ports of each. */
const MAX_AHEAD = 4
const NAMED_CHOICES = 2
/** What was promised at a time: credential files that are good, and some. */
const MAX_PROMISES = 32

export interface Options {
  readonly schedule: PortSchedule
  readonly periodMs: number
  /** Milliseconds for which an old port is served. */
  readonly graceMs: number
  readonly listener: Listener
  /** What happened, for the record. */
  readonly changed: (event: Event) => Effect.Effect<void>
}

export type Event =
  | { readonly type: "Opened"; readonly port: number; readonly inMs: number }
  | { readonly type: "Closed"; readonly port: number }
  | { readonly type: "PutOff"; readonly port: number; readonly why: string }

export interface PortRotation {
  /** The port that the present period has, now and after each change. */
  readonly current: SubscriptionRef.SubscriptionRef<OpenPort>
  /**
   * Ports of which one is open at any time until then, the present one first. If none of those to come can be had, the
   * present one stays open for it, up to half a period longer.
   */
  readonly promise: (until: number) => Effect.Effect<ReadonlyArray<number>>
  /** Rotates for ever. */
  readonly run: Effect.Effect<never>
}

/** A port whose period is over. */
interface Old {
  readonly port: OpenPort
  /** When it may be closed at the earliest, and when a promise keeps it no longer. */
  readonly graceUntil: number
  readonly promiseUntil: number
  remindAt: number
  reported: boolean
}

/** Of a period shorter than an hour, its share of a length that is meant for an hour; at most half of it. */
const share = (lengthMs: number, periodMs: number): number =>
  Math.min(lengthMs, periodMs / 2, Math.max(2000, (lengthMs * periodMs) / PORT_PERIOD_MS))

/** The first of a period's ports that can be had. */
const openFirst = (
  ports: ReadonlyArray<number>,
  open: (port: number) => Effect.Effect<OpenPort, TransportError>
): Effect.Effect<OpenPort, TransportError> => {
  const [first, ...others] = ports
  const opened = open(first ?? 0)
  return others.length === 0
    ? opened
    : Effect.catchIf(
        opened,
        (error) => error.cause?.reason === "Busy",
        () => openFirst(others, open)
      )
}

/** Begins with the listener's first port as that of the present period. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const { changed, listener, periodMs, schedule } = options
  const noticeMs = share(PORT_ANNOUNCE_MS, periodMs)
  const graceMs = share(options.graceMs, periodMs)
  const lookMs = Math.min(LOOK_MS, Math.max(500, (LOOK_MS * periodMs) / PORT_PERIOD_MS))
  const current = yield* SubscriptionRef.make(listener.first)
  let served = schedule.periodAt(yield* Clock.currentTimeMillis)
  let next: { readonly port: OpenPort; readonly period: number; readonly startsAt: number } | undefined
  let old: ReadonlyArray<Old> = []
  let promises: ReadonlyArray<{ readonly ports: ReadonlyArray<number>; readonly until: number }> = []
  /** The period whose delay is on record. */
  let putOff: number | undefined

  /** The period whose port should be open: the next one from its notice on. A timer that is early changes nothing. */
  const due = (now: number): number => schedule.periodAt(now + noticeMs)

  const promise: PortRotation["promise"] = Effect.fnUntraced(function* (until) {
    const now = yield* Clock.currentTimeMillis
    const { address } = yield* SubscriptionRef.get(current)
    const opened = next === undefined ? [] : [next.port.address.port]
    const wanted = due(now)
    const from = next !== undefined ? next.period + 1 : wanted === served ? served + 1 : wanted
    const periods = Array.from({ length: MAX_AHEAD }, (_, i) => from + i).filter((p) => schedule.startOf(p) <= until)
    const rows = periods.map(schedule.portsOf)
    const ahead = Array.from({ length: NAMED_CHOICES }, (_, k) => rows.map((row) => row[k] ?? 0)).flat()
    const ports = [...new Set([address.port, ...opened, ...ahead])]
    if (until > now) {
      promises = [...promises.filter((each) => each.until > now), { ports, until }].slice(-MAX_PROMISES)
    }
    return ports
  })

  /** Whether somebody was told of this port and of none that is open after it. */
  const isPromised = (port: number, now: number, present: number): boolean =>
    promises.some(({ ports, until }) => until >= now && ports.includes(port) && !ports.includes(present))

  const lookAt = Effect.fnUntraced(function* (each: Old, now: number) {
    const { address } = yield* SubscriptionRef.get(current)
    const { port } = each
    const count = yield* port.sessions
    // Sessions that came up after the announcement, or by an address of yesterday, have not heard of it.
    if (count > 0 && now >= each.remindAt) {
      each.remindAt = now + lookMs * (now < each.graceUntil ? 1 : LOOKS_PER_REMINDER)
      yield* listener.announce(address.port, 0)
    }
    if (now < each.graceUntil) return
    if (count === 0) {
      if (now < each.promiseUntil && isPromised(port.address.port, now, address.port)) return
      old = old.filter((other) => other !== each)
      yield* port.close
      return yield* changed({ type: "Closed", port: port.address.port })
    }
    if (each.reported) return
    each.reported = true
    const who = count === 1 ? "one session has" : `${count} sessions have`
    yield* changed({ type: "PutOff", port: port.address.port, why: `${who} not moved from it` })
  })

  /** Opens and announces the port of a period. */
  const begin = Effect.fnUntraced(
    function* (period: number) {
      const present = yield* SubscriptionRef.get(current)
      if (old.length + 1 >= MAX_OPEN) {
        return `${old.map(({ port }) => format(port.address)).join(" and ")} are in use yet`
      }
      const ports = schedule.portsOf(period).filter((port) => port !== present.address.port)
      const port = yield* openFirst(ports, listener.open)
      const startsAt = schedule.startOf(period)
      const inMs = Math.max(0, startsAt - (yield* Clock.currentTimeMillis))
      next = { port, period, startsAt }
      yield* listener.announce(port.address.port, inMs)
      yield* changed({ type: "Opened", port: port.address.port, inMs })
      return undefined
    },
    Effect.catch(({ message }) => Effect.succeed(message))
  )

  /** The announced port becomes the present one. */
  const commit = Effect.fnUntraced(function* (now: number, { period, port }: NonNullable<typeof next>) {
    const present = yield* SubscriptionRef.get(current)
    next = undefined
    served = period
    const promiseUntil = now + Math.max(graceMs, periodMs / 2)
    old = [...old, { port: present, graceUntil: now + graceMs, promiseUntil, remindAt: now, reported: false }]
    yield* listener.move(present, port)
    yield* SubscriptionRef.set(current, port)
  })

  const look = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    if (next !== undefined && now >= next.startsAt) yield* commit(now, next)
    for (const each of old) yield* lookAt(each, now)
    const wanted = due(now)
    if (next === undefined && wanted !== served) {
      const why = yield* begin(wanted)
      if (why !== undefined && putOff !== wanted) {
        putOff = wanted
        const { address } = yield* SubscriptionRef.get(current)
        yield* changed({ type: "PutOff", port: address.port, why })
      }
    }
    const startsIn = (next?.startsAt ?? Number.POSITIVE_INFINITY) - now
    const noticeIn = schedule.startOf(wanted + 1) - noticeMs - now
    yield* Effect.sleep(Math.max(1, Math.min(lookMs, startsIn, noticeIn)))
  })

  const rotation: PortRotation = { current, promise, run: Effect.forever(look) }
  return rotation
})
