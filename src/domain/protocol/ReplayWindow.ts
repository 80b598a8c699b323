/**
 * Anti-replay window after RFC 6479: a ring of bits that is never shifted, only cleared block by block as the highest
 * number moves on. It admits each packet number once, as long as it lies at most `REPLAY_WINDOW` behind the highest one.
 *
 * `check` before decryption costs a few instructions; `commit` only after the packet has authenticated, or anybody could
 * push the window away from the peer.
 */
import { MAX_PACKET_NUMBER, REPLAY_WINDOW } from "./Constants.ts"

const BITS_PER_BLOCK = 32

/**
 * Blocks of the ring: the window and the block being filled, rounded up to a power of two so that a packet number's place
 * is its low bits.
 */
const BLOCKS = 2 ** Math.ceil(Math.log2(REPLAY_WINDOW / BITS_PER_BLOCK + 1))
const RING = BLOCKS * BITS_PER_BLOCK

export class ReplayWindow {
  readonly #blocks = new Uint32Array(BLOCKS)
  #highest = -1

  /** The highest committed packet number, -1 before the first. */
  get highest(): number {
    return this.#highest
  }

  /** Whether `packetNumber` may be new: not committed, not behind the window, not beyond `MAX_PACKET_NUMBER`. */
  check(packetNumber: number): boolean {
    if (packetNumber > this.#highest) return packetNumber <= MAX_PACKET_NUMBER
    if (packetNumber < 0 || this.#highest - packetNumber > REPLAY_WINDOW) return false
    const place = packetNumber % RING
    return ((this.#blocks[place >>> 5] as number) & (1 << (place & 31))) === 0
  }

  /** Marks an authenticated packet's number as seen; one that `check` refuses changes nothing. */
  commit(packetNumber: number): void {
    if (!this.check(packetNumber)) return
    const place = packetNumber % RING
    if (packetNumber > this.#highest) {
      this.#clearUpTo(packetNumber)
      this.#highest = packetNumber
    }
    const block = place >>> 5
    this.#blocks[block] = (this.#blocks[block] as number) | (1 << (place & 31))
  }

  /** Empties the blocks after the highest number's block, up to and with the one of `packetNumber`. */
  #clearUpTo(packetNumber: number): void {
    const from = Math.floor(this.#highest / BITS_PER_BLOCK)
    const to = Math.floor(packetNumber / BITS_PER_BLOCK)
    if (to - from >= BLOCKS) {
      this.#blocks.fill(0)
      return
    }
    for (let block = from + 1; block <= to; block++) this.#blocks[block % BLOCKS] = 0
  }
}
