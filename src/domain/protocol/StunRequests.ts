/**
 * STUN requests that wait for their answers (RFC 8489 section 6.2.1): repeated after 500 ms, then at doubling intervals.
 * The RFC's last intervals reach 16 s; ours stop at 4 s, with more repetitions in about the same time, for the other end
 * may be a server that starts or a network that comes back.
 */
import { type Message, TRANSACTION_ID_LENGTH } from "./StunMessage.ts"

/** ms. */
const RTO_MS = 500
const MAX_RTO_MS = 4000
/** How often a request is sent: 0, 0.5, 1.5, 3.5, 7.5, 11.5 ... 39.5 s; given up after 43.5 s. */
const MAX_SENDS = 13

export interface Request<Purpose> {
  readonly purpose: Purpose
  readonly id: Uint8Array
  readonly bytes: Uint8Array
  /** Whether it was signed, so that its answer must be. */
  readonly signed: boolean
  /** Challenges in a row that led to it. */
  readonly challenges: number
}

interface Waiting<Purpose> extends Request<Purpose> {
  sends: number
  rtoMs: number
  at: number
}

export class StunRequests<Purpose> {
  readonly #waiting: Array<Waiting<Purpose>> = []
  readonly #limit: number

  /** `limit` requests at a time: more are the caller's bug. */
  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#waiting.length
  }

  /** Waits for the answer to a request that has just been sent. */
  add(now: number, request: Request<Purpose>): void {
    if (this.#waiting.length >= this.#limit) throw new RangeError("StunRequests: too many requests at a time")
    this.#waiting.push({ ...request, sends: 1, rtoMs: RTO_MS, at: now + RTO_MS })
  }

  /** The request that a response answers. */
  find(message: Message): Request<Purpose> | undefined {
    for (const one of this.#waiting) if (sameId(one.id, message.transactionId)) return one
    return undefined
  }

  some(test: (purpose: Purpose) => boolean): boolean {
    return this.#waiting.some(({ purpose }) => test(purpose))
  }

  remove(request: Request<Purpose>): void {
    const at = this.#waiting.findIndex((one) => one.id === request.id)
    if (at >= 0) this.#waiting.splice(at, 1)
  }

  clear(): void {
    this.#waiting.length = 0
  }

  deadline(): number {
    let at = Number.POSITIVE_INFINITY
    for (const one of this.#waiting) if (one.at < at) at = one.at
    return at
  }

  /** A request that is due to be repeated, or given up (and forgotten); `undefined` when none is. */
  due(now: number): { readonly request: Request<Purpose>; readonly over: boolean } | undefined {
    for (const [index, one] of this.#waiting.entries()) {
      if (one.at > now) continue
      if (one.sends >= MAX_SENDS) {
        this.#waiting.splice(index, 1)
        return { request: one, over: true }
      }
      one.sends++
      one.rtoMs = Math.min(2 * one.rtoMs, MAX_RTO_MS)
      one.at = now + one.rtoMs
      return { request: one, over: false }
    }
    return undefined
  }
}

const sameId = (a: Uint8Array, b: Uint8Array): boolean => {
  for (let i = 0; i < TRANSACTION_ID_LENGTH; i++) if (a[i] !== b[i]) return false
  return true
}
