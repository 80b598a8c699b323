/**
 * A map keyed by the 8 random bytes that begin every datagram: one look-up per datagram, no string made for it. Keys are the
 * first 53 bits as a number; the rest is compared, and of two ids that share those bits the first stays.
 */
import { CONNECTION_ID_LENGTH } from "./Constants.ts"

interface Row<A> {
  readonly id: Uint8Array
  readonly value: A
}

export class IdTable<A> {
  readonly #rows = new Map<number, Row<A>>()

  get size(): number {
    return this.#rows.size
  }

  /** Adds an id of 8 bytes; false when it, or one it can't be told from, is there. */
  add(id: Uint8Array, value: A): boolean {
    const key = keyOf(id)
    if (this.#rows.has(key)) return false
    this.#rows.set(key, { id: id.slice(0, CONNECTION_ID_LENGTH), value })
    return true
  }

  /** What is known of the id that `bytes` begin with. */
  get(bytes: Uint8Array): A | undefined {
    const row = this.#rows.get(keyOf(bytes))
    return row !== undefined && row.id[7] === bytes[7] && row.id[6] === bytes[6] ? row.value : undefined
  }

  delete(id: Uint8Array): void {
    if (this.get(id) !== undefined) this.#rows.delete(keyOf(id))
  }
}

const byte = (bytes: Uint8Array, at: number): number => bytes[at] as number

const keyOf = (bytes: Uint8Array): number => {
  const high = byte(bytes, 0) * 0x1000000 + ((byte(bytes, 1) << 16) | (byte(bytes, 2) << 8) | byte(bytes, 3))
  const low = (byte(bytes, 4) << 13) | (byte(bytes, 5) << 5) | (byte(bytes, 6) >> 3)
  return high * 0x200000 + low
}
