/** Stream offsets as disjoint half-open ranges `[start, end)`, ascending; private to the stream buffers. */
export class OffsetSet {
  // Parallel: no object per range.
  readonly #starts: Array<number> = []
  readonly #ends: Array<number> = []

  /** Number of ranges. */
  get count(): number {
    return this.#starts.length
  }

  start(index: number): number {
    return this.#starts[index] as number
  }

  end(index: number): number {
    return this.#ends[index] as number
  }

  /** Index of the first range that ends after `offset`, `count` if there is none. */
  after(offset: number): number {
    return this.#firstEndingFrom(offset + 1)
  }

  /** Adds a range, joining what it touches. */
  insert(start: number, end: number): void {
    if (end <= start) return
    const top = this.#ends.length - 1
    if (top < 0 || start > (this.#ends[top] as number)) {
      this.#starts.push(start)
      this.#ends.push(end)
      return
    }
    const first = this.#firstEndingFrom(start)
    let past = first
    while (past <= top && (this.#starts[past] as number) <= end) past++
    if (past === first) {
      this.#starts.splice(first, 0, start)
      this.#ends.splice(first, 0, end)
      return
    }
    this.#starts[first] = Math.min(start, this.#starts[first] as number)
    this.#ends[first] = Math.max(end, this.#ends[past - 1] as number)
    this.#delete(first + 1, past)
  }

  /** Removes a range, cutting what it overlaps. */
  remove(start: number, end: number): void {
    if (end <= start || this.#starts.length === 0) return
    let first = this.#firstEndingFrom(start + 1)
    if (first === this.#starts.length || (this.#starts[first] as number) >= end) return
    if ((this.#starts[first] as number) < start) {
      if ((this.#ends[first] as number) > end) {
        this.#starts.splice(first + 1, 0, end)
        this.#ends.splice(first + 1, 0, this.#ends[first] as number)
        this.#ends[first] = start
        return
      }
      this.#ends[first] = start
      first++
    }
    let past = first
    while (past < this.#ends.length && (this.#ends[past] as number) <= end) past++
    if (past < this.#starts.length && (this.#starts[past] as number) < end) this.#starts[past] = end
    this.#delete(first, past)
  }

  clear(): void {
    this.#starts.length = 0
    this.#ends.length = 0
  }

  /** Index of the first range that ends at `offset` or later. */
  #firstEndingFrom(offset: number): number {
    let low = 0
    let high = this.#ends.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.#ends[middle] as number) < offset) low = middle + 1
      else high = middle
    }
    return low
  }

  #delete(from: number, to: number): void {
    if (from === to) return
    if (from === 0 && to === 1) {
      this.#starts.shift()
      this.#ends.shift()
      return
    }
    this.#starts.splice(from, to - from)
    this.#ends.splice(from, to - from)
  }
}
