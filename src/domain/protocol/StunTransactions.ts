/**
 * Requests under way over UDP, retransmitted as RFC 8489 section 6.2.1 has it: what STUN's clients share. Sans-IO.
 *
 * An answer counts when it has the transaction id of a request and comes from where one was expected; anything else is
 * none of ours. `Purpose` is what the caller wants to remember of a request.
 */
import * as Address from "./Address.ts"
import type { Parcel } from "./Carrier.ts"
import { hex } from "./Cursor.ts"
import type { Entropy } from "./Primitives.ts"
import { type Message, Method, StunWriter, TRANSACTION_ID_LENGTH } from "./StunMessage.ts"

export interface Retransmission {
  /** RTO: milliseconds to the second copy; each further wait is twice as long. */
  readonly rtoMs: number
  /** Rc: copies in all. */
  readonly copies: number
  /** Rm: after the last copy, this many RTO until the request has failed. */
  readonly lastWait: number
}

/** The figures of RFC 8489: seven copies at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s, failure at 39.5 s. */
const RFC_8489: Retransmission = { rtoMs: 500, copies: 7, lastWait: 16 }
/** Where silence is an answer too, and somebody waits for it: copies at 0, 0.5, 1.5 and 3.5 s, failure at 4.5 s. */
export const BRIEF: Retransmission = { rtoMs: 500, copies: 4, lastWait: 2 }

/** Requests under way at most; more are the caller's bug. */
const MAX_TRANSACTIONS = 64

export interface Request<Purpose> {
  readonly purpose: Purpose
  readonly to: Address.Address
  /** Where else than from `to` the answer may come from. */
  readonly from?: (remote: Address.Address) => boolean
  /** What the binding request says besides. */
  readonly write?: (writer: StunWriter) => StunWriter
  readonly retransmission?: Retransmission
}

interface Transaction<Purpose> {
  readonly id: string
  readonly request: Request<Purpose>
  readonly bytes: Uint8Array
  readonly startedAt: number
  readonly retransmission: Retransmission
  sent: number
  /** When the next copy is due, or the end. */
  nextAt: number
}

export interface Answer<Purpose> {
  readonly purpose: Purpose
  readonly to: Address.Address
  readonly from: Address.Address
  /** Milliseconds; `undefined` where it may answer one of several copies. */
  readonly rttMs: number | undefined
}

export class StunTransactions<Purpose> {
  readonly #entropy: Entropy
  readonly #live = new Map<string, Transaction<Purpose>>()

  constructor(entropy: Entropy) {
    this.#entropy = entropy
  }

  /** The requests under way. */
  get purposes(): ReadonlyArray<Purpose> {
    return [...this.#live.values()].map(({ request }) => request.purpose)
  }

  /** Begins a binding request; its first copy is due at once. */
  begin(now: number, request: Request<Purpose>): void {
    if (this.#live.size >= MAX_TRANSACTIONS) throw new RangeError("StunTransactions: too many at once")
    const transactionId = this.#entropy(TRANSACTION_ID_LENGTH)
    const writer = new StunWriter("request", Method.binding, transactionId)
    const bytes = (request.write?.(writer) ?? writer).finish()
    const { retransmission = RFC_8489 } = request
    const id = hex(transactionId)
    this.#live.set(id, { id, request, bytes, startedAt: now, retransmission, sent: 0, nextAt: now })
  }

  /** Ends the request that a message answers, if it does. */
  take(now: number, remote: Address.Address, message: Message): Answer<Purpose> | undefined {
    if (message.method !== Method.binding) return undefined
    const found = this.#live.get(hex(message.transactionId))
    if (found === undefined) return undefined
    const { from, purpose, to } = found.request
    if (!Address.equals(remote, to) && from?.(remote) !== true) return undefined
    this.#live.delete(found.id)
    return { purpose, to, from: remote, rttMs: found.sent === 1 ? now - found.startedAt : undefined }
  }

  /** The requests that have failed by now. */
  expire(now: number): ReadonlyArray<Purpose> {
    const failed: Array<Purpose> = []
    for (const transaction of [...this.#live.values()]) {
      if (transaction.sent < transaction.retransmission.copies || now < transaction.nextAt) continue
      this.#live.delete(transaction.id)
      failed.push(transaction.request.purpose)
    }
    return failed
  }

  /** The next copy that is due. */
  pollTransmit(now: number): Parcel | undefined {
    for (const transaction of this.#live.values()) {
      const { copies, lastWait, rtoMs } = transaction.retransmission
      if (transaction.sent >= copies || now < transaction.nextAt) continue
      transaction.nextAt = now + (transaction.sent === copies - 1 ? rtoMs * lastWait : rtoMs * 2 ** transaction.sent)
      transaction.sent++
      return { bytes: Uint8Array.from(transaction.bytes), remote: transaction.request.to }
    }
    return undefined
  }

  /** When something is due, ms; `Infinity` for never. */
  pollTimeout(): number {
    let at = Number.POSITIVE_INFINITY
    for (const { nextAt } of this.#live.values()) at = Math.min(at, nextAt)
    return at
  }

  /** Gives up the requests that `which` picks. */
  cancel(which: (purpose: Purpose) => boolean): void {
    for (const { id, request } of [...this.#live.values()]) if (which(request.purpose)) this.#live.delete(id)
  }
}
