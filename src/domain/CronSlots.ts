/** Which slots of a job have come, and what becomes of each. Instants are milliseconds since 1970. */
import type { CatchUp, Overlap } from "./CronJob.ts"
import type { Instants } from "./CronSchedule.ts"

/** How the slots that no schedule gives begin. */
export const MANUAL = "manual"
export const REBOOT = "reboot"
/** A slot that is younger is on time. */
const GRACE_MS = 60_000
/** A clock set back by more than this was wrong before: slots count from the new time on. */
export const STEP_BACK_MS = 3 * 3_600_000
/** Slots that catching up runs at most, and missed ones that are put on record one by one. */
const maxCaughtUp = 100
const maxMissed = 20

/** Pause after failures in a row: 1, 2, 4, ... 60 minutes. */
const BACKOFF_MS = 60_000
const MAX_BACKOFF_MS = 3_600_000

export interface Claim {
  readonly slot: string
  readonly due: number
  readonly status: "queued" | "skipped" | "missed"
  readonly reason?: string
  readonly acknowledged: boolean
}

/** Slots that come before this instant are skipped. A failure that lies ahead, since the clock was set back, does not count. */
export const pausedUntil = (failures: number, failedAt: number, now: number): number =>
  failures === 0 || failedAt > now ? 0 : failedAt + Math.min(MAX_BACKOFF_MS, BACKOFF_MS * 2 ** (failures - 1))

/** Whether a slot is taken up when it should be, rather than caught up with. */
export const isOnTime = (at: number, now: number): boolean => now - at < GRACE_MS

const iso = (ms: number): string => new Date(ms).toISOString()

const since = (ms: number): string => {
  const minutes = Math.round(ms / 60_000)
  return minutes < 120
    ? `${minutes} minutes`
    : minutes < 2880
      ? `${Math.round(minutes / 60)} hours`
      : `${Math.round(minutes / 1440)} days`
}

/** Slots after `considered`, up to `now`, oldest first: the latest `limit` of them, and whether there are more. */
const slotsUpTo = (of: Instants, considered: number, next: number, now: number, limit: number) => {
  const after = of.next(next)
  if (after === undefined || after > now) return { slots: [next], more: false }
  const slots: Array<number> = []
  for (let at = of.previous(now + 1); at !== undefined && at > considered; at = of.previous(at)) {
    if (slots.length === limit) return { slots: slots.reverse(), more: true }
    slots.push(at)
  }
  return { slots: slots.reverse(), more: false }
}

/** What to put on record at `now`, when the slot `next` has come and those up to `considered` have been dealt with. */
export const plan = (options: {
  readonly instants: Instants
  readonly catchUp: CatchUp
  readonly overlap: Overlap
  readonly considered: number
  readonly next: number
  readonly now: number
  /** When the run that is going, or waits, was due. */
  readonly busySince: number | undefined
  /** Runs that may still wait. */
  readonly room: number
  readonly pausedUntil: number
  readonly failures: number
}): { readonly claims: ReadonlyArray<Claim>; readonly considered: number } => {
  const { busySince, catchUp, considered, instants, next, now, overlap } = options
  const limit = catchUp === "all" ? maxCaughtUp + 1 : maxMissed + 1
  const { more, slots } = slotsUpTo(instants, considered, next, now, limit)
  const last = slots.at(-1) ?? next
  const caughtUp = catchUp === "all" ? slots.slice(-maxCaughtUp) : catchUp === "once" ? [last] : []
  const runs = slots.filter((at) => isOnTime(at, now) || caughtUp.includes(at))
  let waits = 0

  const claimOf = (at: number, index: number): Claim => {
    const slot = { slot: iso(at), due: at }
    if (!runs.includes(at)) {
      const stands = runs.length > 0 ? `; the run of ${iso(last)} stands for it` : ""
      const before = more && index === 0 ? ", and so were slots before it" : ""
      const reason = `nothing could run it for ${since(now - at)}${before}${stands}`
      return { ...slot, status: "missed", reason, acknowledged: runs.length > 0 }
    }
    if (options.pausedUntil > now) {
      const reason = `it pauses until ${iso(options.pausedUntil)} after ${options.failures} failures`
      return { ...slot, status: "skipped", reason, acknowledged: true }
    }
    // What catches up slot by slot waits for its turn, whatever goes on.
    const isBusy = busySince !== undefined && (isOnTime(at, now) || catchUp !== "all")
    if (isBusy && overlap === "skip") {
      const reason = `the run of ${iso(busySince)} was still going`
      return { ...slot, status: "skipped", reason, acknowledged: true }
    }
    if (isBusy && overlap === "queue" && waits >= options.room) {
      return { ...slot, status: "skipped", reason: "too many runs of this job wait already", acknowledged: true }
    }
    waits++
    const late = isOnTime(at, now) ? {} : { reason: `late by ${since(now - at)}` }
    return { ...slot, status: "queued", ...late, acknowledged: false }
  }
  return { claims: slots.map(claimOf), considered: Math.max(considered, last) }
}
