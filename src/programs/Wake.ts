/**
 * Notices that this host has slept. Timers stand still meanwhile, and what they were to wait for is long past when the clock
 * on the wall has jumped.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Milliseconds by which the clock on the wall must run ahead of a timer: more than a busy host is late. */
const JUMP_MS = 5000
/** Milliseconds between two looks at the clock, and so how late a wake is noticed: while somebody waits, and else. */
const SLICE_MS = 1000
const IDLE_SLICE_MS = 5000

/** Sleeps, and says whether the clock jumped. */
const slice = Effect.fnUntraced(function* (ms: number) {
  const before = yield* Clock.currentTimeMillis
  yield* Effect.sleep(ms)
  return (yield* Clock.currentTimeMillis) - before > ms + JUMP_MS
})

/** Waits for `ms`, or less when the host has slept: true when it did, within a second of its waking. */
export const sleep = Effect.fnUntraced(function* (ms: number) {
  for (let left = ms; left > 0; left -= SLICE_MS) if (yield* slice(Math.min(left, SLICE_MS))) return true
  return false
})

const until = (sliceMs: number): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(slice(sliceMs), { while: (woke) => !woke }))

/** Waits until the host has slept and woken; notices it within five seconds. */
export const wake: Effect.Effect<void> = until(IDLE_SLICE_MS)

/** The same within one second, for while something is being tried. */
export const soon: Effect.Effect<void> = until(SLICE_MS)
