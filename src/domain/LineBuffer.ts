/** Whole lines out of bytes that arrive in pieces of any size, in time and memory that grow with their length only. */

const NEWLINE = 0x0a
const FIRST_CAPACITY = 4096

export class LineBuffer {
  readonly #maxBytes: number
  #held = new Uint8Array(0)
  #length = 0

  /** A line, its newline not counted, may have up to `maxBytes` bytes. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /**
   * The lines that are complete now, newlines included, in one piece; empty while there are none. `undefined` when what is
   * held of the last one grows too long: nothing more must be pushed then. Keeps nothing of `bytes`.
   */
  push(bytes: Uint8Array): Uint8Array | undefined {
    const end = bytes.lastIndexOf(NEWLINE) + 1
    const lines = new Uint8Array(end === 0 ? 0 : this.#length + end)
    if (end > 0) {
      lines.set(this.#held.subarray(0, this.#length))
      lines.set(bytes.subarray(0, end), this.#length)
      this.#length = 0
      this.#held = new Uint8Array(0)
    }
    const rest = bytes.length - end
    if (this.#length + rest > this.#maxBytes) return undefined
    this.#append(bytes.subarray(end))
    return lines
  }

  #append(bytes: Uint8Array): void {
    const length = this.#length + bytes.length
    if (length > this.#held.length) {
      const larger = new Uint8Array(Math.min(this.#maxBytes, Math.max(FIRST_CAPACITY, 2 * length)))
      larger.set(this.#held.subarray(0, this.#length))
      this.#held = larger
    }
    this.#held.set(bytes, this.#length)
    this.#length = length
  }
}
