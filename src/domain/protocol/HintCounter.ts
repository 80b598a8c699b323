/**
 * Which hint an initiation carries next, so that none is seen twice on the wire. Hints of a slot are numbered from 0; a
 * server expects those from 0 up to `HINT_WINDOW` beyond the highest it has answered.
 *
 * The client therefore goes on behind the last one that it showed, round and round within the window while nothing
 * answers. Should the server have forgotten (a power loss), every fourth try after a full round starts over at 0.
 *
 * The slots of a clock sweep are counted too, and remembered while a sweep may come to them again.
 */
import { HINT_SLOT_MS, HINT_WINDOW, MAX_HINT_SLOTS, SWEEP_REACH_HOURS } from "./Constants.ts"

export interface HintState {
  readonly slot: number
  /** The highest number answered in this slot, -1 before the first. */
  readonly answered: number
  /** Tries since. */
  readonly tried: number
  /** The same of other slots that were shown: those of a clock sweep, and what the clock has left behind. */
  readonly others?: ReadonlyArray<readonly [slot: number, answered: number, tried: number]>
}

/** Slots either way that a sweep reaches. */
const SWEEP_REACH_SLOTS = (SWEEP_REACH_HOURS * 3_600_000) / HINT_SLOT_MS

interface Count {
  answered: number
  tried: number
}

export class HintCounter {
  #slot: number
  /** By slot, the one used last at the end. */
  readonly #counts = new Map<number, Count>()

  constructor(state: HintState | undefined) {
    this.#slot = state?.slot ?? Number.NaN
    if (state === undefined) return
    for (const [slot, answered, tried] of state.others ?? []) this.#counts.set(slot, { answered, tried })
    this.#counts.set(state.slot, { answered: state.answered, tried: state.tried })
  }

  /** What to remember over restarts; `undefined` before the first `next`. */
  get state(): HintState | undefined {
    const count = this.#counts.get(this.#slot)
    if (count === undefined) return undefined
    const others = [...this.#counts]
      .filter(([slot]) => slot !== this.#slot && Math.abs(slot - this.#slot) <= SWEEP_REACH_SLOTS)
      .map(([slot, { answered, tried }]) => [slot, answered, tried] as const)
    return { slot: this.#slot, ...count, ...(others.length === 0 ? {} : { others }) }
  }

  /** The number for one more try in `slot`; `swept` when the slot is a guess. */
  next(slot: number, swept = false): number {
    const count = this.#counts.get(slot) ?? { answered: -1, tried: 0 }
    this.#counts.delete(slot)
    this.#counts.set(slot, count)
    if (!swept) this.#slot = slot
    if (this.#counts.size > MAX_HINT_SLOTS) {
      for (const known of this.#counts.keys()) {
        if (known === this.#slot) continue
        this.#counts.delete(known)
        break
      }
    }
    const tried = count.tried++
    if (tried >= HINT_WINDOW && tried % 4 === 3) return (tried >> 2) % HINT_WINDOW
    return count.answered + 1 + (tried % HINT_WINDOW)
  }

  onAnswered(slot: number, hint: number): void {
    const count = this.#counts.get(slot)
    if (count === undefined) return
    this.#slot = slot
    if (hint > count.answered) {
      // Numbers beyond it were shown as well: they count as tried.
      const shown = count.answered + Math.min(count.tried, HINT_WINDOW)
      count.tried = Math.max(shown - hint, 0)
    } else if (count.tried >= HINT_WINDOW) {
      // It took starting over: the server has forgotten what it had answered.
      count.tried = 0
    } else return
    count.answered = hint
  }
}
