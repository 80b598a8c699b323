/**
 * The packets declared lost of late, in case their acknowledgement is only late: a ring of parallel columns, ascending by
 * packet number, the oldest pushed out. Indices count from the oldest; they are good until the next call that changes it.
 */
import { MAX_LOST_REMEMBERED } from "./Constants.ts"

export class LostPackets<T> {
  size = 0
  #head = 0
  readonly #packetNumber = new Float64Array(MAX_LOST_REMEMBERED)
  readonly #sentAt = new Float64Array(MAX_LOST_REMEMBERED)
  readonly #until = new Float64Array(MAX_LOST_REMEMBERED)
  readonly #bytes = new Int32Array(MAX_LOST_REMEMBERED)
  readonly #inFlight = new Uint8Array(MAX_LOST_REMEMBERED)
  readonly #taken = new Uint8Array(MAX_LOST_REMEMBERED)
  readonly #content: Array<T | undefined> = new Array<T | undefined>(MAX_LOST_REMEMBERED).fill(undefined)

  /** Remembers a packet until the time `until`. */
  push(packetNumber: number, sentAt: number, bytes: number, inFlight: boolean, content: T, until: number): void {
    if (this.size === MAX_LOST_REMEMBERED) this.#shift()
    const slot = this.#slot(this.size++)
    this.#packetNumber[slot] = packetNumber
    this.#sentAt[slot] = sentAt
    this.#until[slot] = until
    this.#bytes[slot] = bytes
    this.#inFlight[slot] = inFlight ? 1 : 0
    this.#taken[slot] = 0
    this.#content[slot] = content
  }

  /** Forgets what has been taken or is too old, from the oldest on. */
  expire(now: number): void {
    while (this.size > 0 && (this.#taken[this.#head] === 1 || (this.#until[this.#head] as number) < now)) this.#shift()
  }

  packetNumber(index: number): number {
    return this.#packetNumber[this.#slot(index)] as number
  }

  sentAt(index: number): number {
    return this.#sentAt[this.#slot(index)] as number
  }

  bytes(index: number): number {
    return this.#bytes[this.#slot(index)] as number
  }

  inFlight(index: number): boolean {
    return this.#inFlight[this.#slot(index)] === 1
  }

  content(index: number): T {
    return this.#content[this.#slot(index)] as T
  }

  isTaken(index: number): boolean {
    return this.#taken[this.#slot(index)] === 1
  }

  /** Its acknowledgement has come: it is reported once. */
  take(index: number): void {
    const slot = this.#slot(index)
    this.#taken[slot] = 1
    this.#content[slot] = undefined
  }

  clear(): void {
    this.#content.fill(undefined)
    this.size = 0
  }

  #shift(): void {
    this.#content[this.#head] = undefined
    this.#head = (this.#head + 1) % MAX_LOST_REMEMBERED
    this.size--
  }

  #slot(index: number): number {
    return (this.#head + index) % MAX_LOST_REMEMBERED
  }
}
