/** Events in order of time, and of insertion where times are equal: a binary heap. */
export interface Timed {
  /** Milliseconds. */
  readonly at: number
}

interface Entry<A> {
  readonly event: A
  readonly sequence: number
}

const before = <A extends Timed>(a: Entry<A>, b: Entry<A>): boolean =>
  a.event.at < b.event.at || (a.event.at === b.event.at && a.sequence < b.sequence)

export class EventHeap<A extends Timed> {
  readonly #entries: Array<Entry<A>> = []
  #sequence = 0

  get size(): number {
    return this.#entries.length
  }

  /** The time of the first event, `Infinity` when there is none. */
  get nextAt(): number {
    return this.#entries[0]?.event.at ?? Number.POSITIVE_INFINITY
  }

  push(event: A): void {
    const entries = this.#entries
    const entry = { event, sequence: this.#sequence++ }
    let at = entries.length
    while (at > 0) {
      const parentAt = (at - 1) >> 1
      const parent = entries[parentAt] as Entry<A>
      if (before(parent, entry)) break
      entries[at] = parent
      at = parentAt
    }
    entries[at] = entry
  }

  /** Takes the first event if it is due at `now`. */
  popDue(now: number): A | undefined {
    const entries = this.#entries
    const first = entries[0]
    if (first === undefined || first.event.at > now) return undefined
    const last = entries.pop() as Entry<A>
    if (entries.length > 0) this.#sink(last)
    return first.event
  }

  #sink(entry: Entry<A>): void {
    const entries = this.#entries
    let at = 0
    for (;;) {
      let childAt = 2 * at + 1
      if (childAt >= entries.length) break
      const right = entries[childAt + 1]
      if (right !== undefined && before(right, entries[childAt] as Entry<A>)) childAt++
      const child = entries[childAt] as Entry<A>
      if (before(entry, child)) break
      entries[at] = child
      at = childAt
    }
    entries[at] = entry
  }
}
