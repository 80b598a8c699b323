/** A client's ways out: the dials under way, and the answers that their attempts wait for. */
import type { Address } from "./Address.ts"
import type { Parcel } from "./Carrier.ts"
import { VERSION_MAX, VERSION_MIN } from "./Constants.ts"
import type { Attempt } from "./Dial.ts"
import { Dial, type DialOptions } from "./Dial.ts"
import * as Envelope from "./Envelope.ts"
import * as HandshakeMessage from "./HandshakeMessage.ts"
import type { Entropy, Primitives } from "./Primitives.ts"

/** Who waits for datagrams that begin with a connection id. */
export interface AttemptRoutes {
  readonly add: (connectionId: Uint8Array, dial: number, attempt: Attempt) => void
  readonly delete: (connectionId: Uint8Array) => void
}

export interface Due {
  /** Initiations to send. */
  readonly transmits: ReadonlyArray<Parcel>
  /** Dials whose time is up, and how many rounds they sent. */
  readonly failed: ReadonlyArray<{ readonly dial: number; readonly rounds: number }>
}

export class Dialler {
  readonly #primitives: Primitives
  readonly #entropy: Entropy
  readonly #routes: AttemptRoutes
  readonly #dials = new Map<number, Dial>()

  constructor(primitives: Primitives, entropy: Entropy, routes: AttemptRoutes) {
    this.#primitives = primitives
    this.#entropy = entropy
    this.#routes = routes
  }

  get size(): number {
    return this.#dials.size
  }

  get deadline(): number {
    let earliest = Number.POSITIVE_INFINITY
    for (const dial of this.#dials.values()) if (dial.deadline < earliest) earliest = dial.deadline
    return earliest
  }

  dial(now: number, handle: number, options: DialOptions): void {
    this.#dials.set(handle, new Dial(now, this.#primitives, this.#entropy, options))
  }

  /** More addresses that the server may have, best first: those not known yet go out at once. */
  widen(handle: number, invitation: number, endpoints: ReadonlyArray<Address>): void {
    this.#dials.get(handle)?.widen(invitation, endpoints)
  }

  hangUp(handle: number): void {
    const dial = this.#dials.get(handle)
    if (dial === undefined) return
    this.#dials.delete(handle)
    for (const attempt of dial.attempts) this.#routes.delete(attempt.connectionId)
    dial.end()
  }

  hangUpAll(): void {
    for (const handle of [...this.#dials.keys()]) this.hangUp(handle)
  }

  /** What an answer says; its attempt's Noise is complete then. */
  onAnswer(handle: number, attempt: Attempt, bytes: Uint8Array): HandshakeMessage.Answer | "forged" | "badHandshake" {
    const dial = this.#dials.get(handle)
    const opened = dial === undefined ? undefined : Envelope.open(attempt.answerKey, "answer", bytes)
    if (dial === undefined || opened === undefined) return "forged"
    const payload = attempt.noise.readMessage(opened.message)
    const answer = payload === undefined ? undefined : HandshakeMessage.decodeAnswer(payload)
    if (answer === undefined || answer.version < VERSION_MIN || answer.version > VERSION_MAX) return "badHandshake"
    dial.onAnswered(attempt)
    return answer
  }

  /** What is due now. */
  run(now: number, wallMs: number): Due {
    const transmits: Array<Parcel> = []
    const failed: Array<{ readonly dial: number; readonly rounds: number }> = []
    for (const [handle, dial] of this.#dials) {
      if (dial.expired(now)) {
        failed.push({ dial: handle, rounds: dial.rounds })
        this.hangUp(handle)
        continue
      }
      for (const attempt of dial.expire(now)) this.#routes.delete(attempt.connectionId)
      const due = dial.due(now, wallMs)
      for (const attempt of due.made) this.#routes.add(attempt.connectionId, handle, attempt)
      for (const parcel of due.transmits) transmits.push(parcel)
    }
    return { transmits, failed }
  }
}
