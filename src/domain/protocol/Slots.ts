/**
 * The sessions of an endpoint: who they belong to, which of them want to be asked or woken, and how many of what kind there
 * are. Who may take a place is the endpoint's to decide.
 */
import type { Entry } from "./Admissions.ts"
import { type Deadline, DeadlineHeap } from "./DeadlineHeap.ts"
import type { Session } from "./Session.ts"

/** One session and what it has come to. */
export interface Slot extends Deadline {
  readonly handle: number
  readonly session: Session
  /** Absent for a session we dialled. */
  readonly server: { readonly entry: Entry; readonly staticKey: Uint8Array; readonly connectId: string } | undefined
  readonly dial: number | undefined
  readonly deviceName: string
  readonly skewMs: number
  readonly enrols: boolean
  phase: "half-open" | "deciding" | "up"
  readonly halfOpenUntil: number
  heardAt: number
  dirty: boolean
}

/** How the places are taken, as far as they matter to a newcomer. */
export interface Occupancy {
  /** All but those that only wait to be forgotten. */
  readonly open: number
  /** Of them, those that have proved nothing yet. */
  readonly halfOpen: number
  readonly fromHost: number
  /** Half-open ones of the newcomer's credential. */
  readonly own: number
  readonly oldestOwn: Slot | undefined
}

/** Closed by one side and only remembered for stragglers. */
const isOver = ({ session }: Slot): boolean => session.state === "closing" || session.state === "draining"

/** When it was last heard; sessions that are over come before all others. */
const silence = ({ session, heardAt }: Slot): number => (session.state === "open" ? heardAt : Number.NEGATIVE_INFINITY)

export class Slots {
  readonly #slots = new Map<number, Slot>()
  readonly #dirty: Array<Slot> = []
  readonly #deadlines = new DeadlineHeap<Slot>()

  get size(): number {
    return this.#slots.size
  }

  /** When the first of them wants to be woken. */
  get deadline(): number {
    return this.#deadlines.earliest
  }

  get(handle: number): Slot | undefined {
    return this.#slots.get(handle)
  }

  /** All of them; some may be deleted meanwhile. */
  all(): IterableIterator<Slot> {
    return this.#slots.values()
  }

  add(slot: Slot): void {
    this.#slots.set(slot.handle, slot)
    this.schedule(slot)
  }

  /** It may be asked once more, if it is marked. */
  delete(slot: Slot): void {
    this.#deadlines.set(slot, Number.POSITIVE_INFINITY)
    this.#slots.delete(slot.handle)
  }

  isGone(slot: Slot): boolean {
    return !this.#slots.has(slot.handle)
  }

  /** It wants to be asked for datagrams and events. */
  mark(slot: Slot): void {
    if (slot.dirty) return
    slot.dirty = true
    this.#dirty.push(slot)
  }

  /** The next one that wants to be asked. */
  next(): Slot | undefined {
    return this.#dirty[0]
  }

  /** The next one was asked and is to be asked again, after the others; or it has nothing more. */
  done(again: boolean): void {
    const slot = this.#dirty.shift()
    if (slot === undefined) return
    if (again) this.#dirty.push(slot)
    else slot.dirty = false
  }

  /** Takes note of when a session wants to be woken. */
  schedule(slot: Slot): void {
    if (this.isGone(slot)) return
    const halfOpen = slot.phase !== "up" && slot.server !== undefined
    const at = slot.session.pollTimeout()
    this.#deadlines.set(slot, halfOpen ? Math.min(at, slot.halfOpenUntil) : at)
  }

  /** One whose time has come; until it is scheduled again it has no deadline. */
  expired(now: number): Slot | undefined {
    const slot = this.#deadlines.expired(now)
    if (slot !== undefined) this.#deadlines.set(slot, Number.POSITIVE_INFINITY)
    return slot
  }

  /** Sessions in use; those of one way of ours if `via` is given. */
  countUp(via?: number): number {
    let count = 0
    for (const slot of this.#slots.values()) {
      if (slot.phase !== "up" || isOver(slot)) continue
      if (via === undefined || (slot.session.remote.via ?? 0) === via) count++
    }
    return count
  }

  /** What somebody from `host` meets whose credential is told by `isOwn`. */
  occupancy(host: string, isOwn: (entry: Entry) => boolean): Occupancy {
    let open = 0
    let halfOpen = 0
    let fromHost = 0
    let own = 0
    let oldestOwn: Slot | undefined
    for (const slot of this.#slots.values()) {
      if (isOver(slot)) continue
      open++
      if (slot.session.remote.host === host) fromHost++
      if (slot.phase === "up") continue
      halfOpen++
      if (slot.server === undefined || !isOwn(slot.server.entry)) continue
      own++
      oldestOwn ??= slot
    }
    return { open, halfOpen, fromHost, own, oldestOwn }
  }

  /** Of the others of a credential the one that has been silent longest, if there are `limit` of them. */
  mostSilent(than: Slot, limit: number, isOwn: (entry: Entry) => boolean): Slot | undefined {
    let count = 0
    let found: Slot | undefined
    for (const slot of this.#slots.values()) {
      if (slot === than || slot.phase !== "up" || slot.server === undefined || !isOwn(slot.server.entry)) continue
      count++
      if (found === undefined || silence(slot) < silence(found)) found = slot
    }
    return count < limit ? undefined : found
  }
}
