/**
 * One direction of a simulated link: a queue that drains at a rate, then a wire with delay, jitter, loss, corruption,
 * reordering and duplication. A pure machine: time comes in as `now` (ms), arrivals go out as times, randomness is the
 * seeded generator it was given.
 *
 * The wire keeps order, jitter or not; only `reorder` lets later packets pass a held one.
 */
import type { SeededRandom } from "./SeededRandom.ts"

/** Two states; each packet first moves the state, then is lost with the state's probability (Gilbert, Elliott, 1960s). */
export interface GilbertElliott {
  readonly goodToBad: number
  readonly badToGood: number
  readonly lossInGood: number
  readonly lossInBad: number
}

/** What is left out does not happen. Probabilities are 0..1, per packet. */
export interface LinkOptions {
  /** Milliseconds, one way. */
  readonly delayMs?: number
  /** Milliseconds added, uniform from 0 to this. */
  readonly jitterMs?: number
  readonly loss?: number | GilbertElliott
  /** A packet held back for `byMs` beyond its time while others pass. */
  readonly reorder?: { readonly probability: number; readonly byMs: number }
  readonly duplicate?: number
  /** One to eight bits flipped in one byte of the datagram. */
  readonly corrupt?: number
  /** `queueBytes` bounds the packets waiting or in service; what does not fit is dropped. */
  readonly rate?: { readonly bitsPerSecond: number; readonly queueBytes: number }
  /** Bytes of the largest IP packet; longer ones vanish, as where ICMP is filtered. */
  readonly mtu?: number
}

export type LinkDrop = "lost" | "too long" | "queue full"

export interface Arrival {
  readonly at: number
  /** The datagram as given, or a damaged copy. */
  readonly bytes: Uint8Array
}

export class SimulatedLink {
  readonly #random: SeededRandom
  #options: LinkOptions
  #bad = false
  #busyUntil = 0
  #lastArrival = 0

  constructor(options: LinkOptions, random: SeededRandom) {
    this.#options = options
    this.#random = random
  }

  /** New properties from now on: the queue is empty again, packets on the way still arrive. */
  configure(options: LinkOptions): void {
    this.#options = options
    this.#bad = false
    this.#busyUntil = 0
    this.#lastArrival = 0
  }

  /** The arrivals of a datagram that is `packetLength` bytes long as an IP packet, or why there is none. */
  transmit(now: number, bytes: Uint8Array, packetLength: number): LinkDrop | ReadonlyArray<Arrival> {
    const { delayMs = 0, jitterMs = 0, loss = 0, reorder, duplicate = 0, corrupt = 0, rate, mtu } = this.#options
    const random = this.#random
    if (mtu !== undefined && packetLength > mtu) return "too long"
    let departure = now
    if (rate !== undefined) {
      const start = Math.max(now, this.#busyUntil)
      const waitingBytes = ((start - now) * rate.bitsPerSecond) / 8000
      if (waitingBytes + packetLength > rate.queueBytes) return "queue full"
      departure = start + (packetLength * 8000) / rate.bitsPerSecond
      this.#busyUntil = departure
    }
    if (this.#loses(loss)) return "lost"
    const carried = random.chance(corrupt) ? this.#damaged(bytes) : bytes
    const jitter = jitterMs === 0 ? 0 : random.unit() * jitterMs
    const onTime = Math.max(this.#lastArrival, departure + delayMs + jitter)
    let at = onTime
    if (reorder !== undefined && random.chance(reorder.probability)) at += reorder.byMs
    else this.#lastArrival = onTime
    const arrival = { at, bytes: carried }
    return random.chance(duplicate) ? [arrival, { at, bytes }] : [arrival]
  }

  #loses(loss: number | GilbertElliott): boolean {
    const random = this.#random
    if (typeof loss === "number") return random.chance(loss)
    if (random.chance(this.#bad ? loss.badToGood : loss.goodToBad)) this.#bad = !this.#bad
    return random.chance(this.#bad ? loss.lossInBad : loss.lossInGood)
  }

  #damaged(bytes: Uint8Array): Uint8Array {
    const out = new Uint8Array(bytes)
    if (out.length === 0) return out
    const at = this.#random.below(out.length)
    out[at] = (out[at] as number) ^ (1 + this.#random.below(255))
    return out
  }
}
