/**
 * Reproducible randomness for simulations: xoshiro128** (Blackman and Vigna, "Scrambled linear pseudorandom number
 * generators", 2018), seeded through SplitMix32 steps. Never for secrets.
 */
import type { Entropy } from "../domain/protocol/Primitives.ts"

const rotl = (x: number, k: number): number => (x << k) | (x >>> (32 - k))

/** One SplitMix32 output for a counter value: the finaliser of MurmurHash3. */
const mix = (counter: number): number => {
  let z = counter
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b)
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35)
  return z ^ (z >>> 16)
}

export class SeededRandom {
  readonly seed: number
  #a: number
  #b: number
  #c: number
  #d: number

  /** Any safe integer; all its bits count. */
  constructor(seed: number) {
    this.seed = seed
    let counter = mix(seed >>> 0) ^ mix(Math.floor(seed / 2 ** 32) + 0x3c6ef372)
    const next = () => {
      counter = (counter + 0x9e3779b9) | 0
      return mix(counter)
    }
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next() | 1
  }

  /** A generator of its own for a named part: what one part draws never shifts another's numbers. */
  fork(label: string): SeededRandom {
    let high = mix(this.seed >>> 0)
    let low = mix(Math.floor(this.seed / 2 ** 32) + 1)
    for (let i = 0; i < label.length; i++) {
      high = mix((high ^ label.charCodeAt(i)) + 0x9e3779b9)
      low = mix((low + label.charCodeAt(i)) ^ high)
    }
    return new SeededRandom(((high >>> 11) & 0x1fffff) * 2 ** 32 + (low >>> 0))
  }

  /** 0..2^32 - 1 */
  u32(): number {
    const result = Math.imul(rotl(Math.imul(this.#b, 5), 7), 9)
    const t = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= t
    this.#d = rotl(this.#d, 11)
    return result >>> 0
  }

  /** 0 (included) to 1 (excluded), 32 bits fine. */
  unit(): number {
    return this.u32() / 2 ** 32
  }

  /** An integer from 0 to `bound` - 1; `bound` up to 2^32. */
  below(bound: number): number {
    return Math.floor(this.unit() * bound)
  }

  /** True once in 1 / `probability` times; draws nothing for 0 and 1. */
  chance(probability: number): boolean {
    return probability > 0 && (probability >= 1 || this.unit() < probability)
  }

  /** `length` bytes; a bound function, to stand in for the system's entropy. */
  readonly bytes: Entropy = (length) => {
    const out = new Uint8Array(length)
    for (let i = 0; i < length; i++) out[i] = this.u32() >>> 24
    return out
  }
}
