/**
 * An ordered set of whole numbers kept as disjoint, non-adjacent, inclusive ranges: packet numbers received, stream
 * offsets received or acknowledged. The count of ranges is bounded, so a peer that leaves holes cannot make it grow.
 *
 * Index 0 is the largest range; `startAt` and `endAt` walk the set downwards without allocating. Inserting at the top,
 * the common case, is constant time; anywhere else it is a binary search and a shift of at most `capacity` entries.
 */

/** Whole numbers `start` to `end`, both included; `start <= end`. */
export interface Range {
  readonly start: number
  readonly end: number
}

export class RangeSet {
  /** The most ranges it holds. */
  readonly capacity: number
  // Ascending and parallel. Numbers only: no object per range.
  readonly #starts: Array<number> = []
  readonly #ends: Array<number> = []

  constructor(capacity: number) {
    this.capacity = capacity
  }

  /** Number of ranges. */
  get count(): number {
    return this.#starts.length
  }

  /** The largest number held, or -1 when empty. */
  get highest(): number {
    return this.#ends.length === 0 ? -1 : (this.#ends[this.#ends.length - 1] as number)
  }

  /** The smallest number held, or -1 when empty. */
  get lowest(): number {
    return this.#starts.length === 0 ? -1 : (this.#starts[0] as number)
  }

  /** First number of the range at `index`, 0 being the largest range; `index` is below `count`. */
  startAt(index: number): number {
    return this.#starts[this.#starts.length - 1 - index] as number
  }

  /** Last number of the range at `index`, 0 being the largest range; `index` is below `count`. */
  endAt(index: number): number {
    return this.#ends[this.#ends.length - 1 - index] as number
  }

  /** A snapshot, largest range first. */
  ranges(): ReadonlyArray<Range> {
    const out: Array<Range> = []
    for (let i = this.#starts.length - 1; i >= 0; i--) {
      out.push({ start: this.#starts[i] as number, end: this.#ends[i] as number })
    }
    return out
  }

  has(value: number): boolean {
    const at = this.#firstEndingFrom(value)
    return at < this.#starts.length && (this.#starts[at] as number) <= value
  }

  /**
   * Adds `start` to `end`, joining what it touches; an empty range (`end < start`) adds nothing. False, and nothing
   * changed, when that would take one range more than `capacity`: the caller decides what to give up.
   */
  insert(start: number, end: number): boolean {
    if (end < start) return true
    const starts = this.#starts
    const ends = this.#ends
    const top = starts.length - 1
    if (top >= 0 && start >= (starts[top] as number) && start <= (ends[top] as number) + 1) {
      if (end > (ends[top] as number)) ends[top] = end
      return true
    }
    // Ranges first..last touch the new one: they end at its start - 1 or later and begin at its end + 1 or earlier.
    const first = this.#firstEndingFrom(start - 1)
    let last = first
    while (last <= top && (starts[last] as number) <= end + 1) last++
    last--
    if (last < first) {
      if (starts.length >= this.capacity) return false
      starts.push(start)
      ends.push(end)
      for (let i = top + 1; i > first; i--) {
        starts[i] = starts[i - 1] as number
        ends[i] = ends[i - 1] as number
      }
      starts[first] = start
      ends[first] = end
      return true
    }
    if (start < (starts[first] as number)) starts[first] = start
    ends[first] = Math.max(end, ends[last] as number)
    this.#delete(first + 1, last - first)
    return true
  }

  /** Removes every number below `bound`; a range that spans it keeps its upper part. */
  removeBelow(bound: number): void {
    const keep = this.#firstEndingFrom(bound)
    this.#delete(0, keep)
    if (this.#starts.length > 0 && (this.#starts[0] as number) < bound) this.#starts[0] = bound
  }

  /** Removes the range of the smallest numbers, if there is one. */
  dropLowest(): void {
    if (this.#starts.length > 0) this.#delete(0, 1)
  }

  clear(): void {
    this.#starts.length = 0
    this.#ends.length = 0
  }

  /** Ascending index of the first range whose end is `value` or larger, `count` if there is none. */
  #firstEndingFrom(value: number): number {
    let low = 0
    let high = this.#ends.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ends[middle] as number) < value) low = middle + 1
      else high = middle
    }
    return low
  }

  #delete(at: number, count: number): void {
    if (count === 0) return
    const length = this.#starts.length - count
    for (let i = at; i < length; i++) {
      this.#starts[i] = this.#starts[i + count] as number
      this.#ends[i] = this.#ends[i + count] as number
    }
    this.#starts.length = length
    this.#ends.length = length
  }
}
