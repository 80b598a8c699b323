/**
 * Deadlines of many owners, the earliest first: a binary heap in which every owner knows its place, so that moving a deadline
 * costs the logarithm of their number. An owner whose deadline is `Infinity` is not in it.
 */

/** Milliseconds on the caller's clock. Both fields belong to the heap. */
export interface Deadline {
  deadline: number
  /** -1 while not in the heap. */
  heapIndex: number
}

export class DeadlineHeap<A extends Deadline> {
  readonly #items: Array<A> = []

  /** The earliest deadline, `Infinity` when there is none. */
  get earliest(): number {
    return this.#items[0]?.deadline ?? Number.POSITIVE_INFINITY
  }

  /** The owner of the earliest deadline, if that has come. */
  expired(now: number): A | undefined {
    const first = this.#items[0]
    return first !== undefined && first.deadline <= now ? first : undefined
  }

  /** Sets, moves or, with `Infinity`, removes a deadline. */
  set(item: A, deadline: number): void {
    const items = this.#items
    if (item.heapIndex < 0) {
      if (deadline === Number.POSITIVE_INFINITY) return
      item.deadline = deadline
      this.#rise(items.length, item)
      return
    }
    const at = item.heapIndex
    const earlier = deadline < item.deadline
    item.deadline = deadline
    if (deadline === Number.POSITIVE_INFINITY) {
      item.heapIndex = -1
      const last = items.pop()
      // The last one takes its place, unless it was the last one.
      if (last !== undefined && last !== item) this.#settle(at, last)
    } else if (earlier) this.#rise(at, item)
    else this.#sink(at, item)
  }

  #settle(at: number, item: A): void {
    const parent = this.#items[(at - 1) >> 1]
    if (at > 0 && parent !== undefined && parent.deadline > item.deadline) this.#rise(at, item)
    else this.#sink(at, item)
  }

  #rise(from: number, item: A): void {
    const items = this.#items
    let at = from
    while (at > 0) {
      const above = (at - 1) >> 1
      const parent = items[above] as A
      if (parent.deadline <= item.deadline) break
      this.#put(at, parent)
      at = above
    }
    this.#put(at, item)
  }

  #sink(from: number, item: A): void {
    const items = this.#items
    let at = from
    for (;;) {
      let below = 2 * at + 1
      if (below >= items.length) break
      const right = items[below + 1]
      if (right !== undefined && right.deadline < (items[below] as A).deadline) below++
      const child = items[below] as A
      if (child.deadline >= item.deadline) break
      this.#put(at, child)
      at = below
    }
    this.#put(at, item)
  }

  #put(at: number, item: A): void {
    this.#items[at] = item
    item.heapIndex = at
  }
}
