/**
 * A client's way into a session: which initiation to send when, until one is answered. Pure schedule and bookkeeping;
 * the Endpoint owns the ids and the sessions.
 *
 * Every transmission is an attempt of its own: fresh ephemeral key, nonce, connection id and hint, one connect id over all.
 * Attempts go out at 0, 250, 750, 1750 ms and then every 2 s, each time to the next invitation and endpoints in turn.
 * A device whose clock is wrong computes hints that nobody expects, so after three silent rounds the dial also sweeps
 * clock offsets, whole hours first, then quarters, to 26 h either way, one every 50 ms.
 */
import type { Address } from "./Address.ts"
import {
  CONNECT_ID_LENGTH,
  CONNECTION_ID_LENGTH,
  DIAL_BACKOFF_MS,
  DIAL_ENDPOINTS_PER_ROUND,
  HALF_OPEN_MS,
  SECRET_LENGTH,
  SWEEP_INTERVAL_MS,
  SWEEP_REACH_HOURS,
  VERSION_MAX,
  VERSION_MIN
} from "./Constants.ts"
import type { Invitation } from "./Credential.ts"
import * as Envelope from "./Envelope.ts"
import * as HandshakeMessage from "./HandshakeMessage.ts"
import type { HintCounter } from "./HintCounter.ts"
import * as KeySchedule from "./KeySchedule.ts"
import type { Limits } from "./Limits.ts"
import * as Noise from "./Noise.ts"
import { type AeadKey, type Entropy, type KeyPair, NONCE_LENGTH, type Primitives } from "./Primitives.ts"

export interface DialOptions {
  /** Tried in turn; at least one. */
  readonly invitations: ReadonlyArray<Invitation>
  /** One per invitation; the owner keeps their state over restarts. */
  readonly hints: ReadonlyArray<HintCounter>
  readonly identity: KeyPair
  readonly deviceName: string
  readonly features: number
  readonly limits: Limits
  /** Milliseconds after which the dial gives up. */
  readonly timeoutMs: number
  /** Clock offset that worked last time, ms added to the wall clock. */
  readonly skewMs: number
  /** Whether to try other clocks; not where both ends share one. Default true. */
  readonly sweeps?: boolean
}

/** One initiation on its way, kept until its answer comes, the dial ends, or the server has forgotten it. */
export interface Attempt {
  readonly sentAt: number
  readonly connectionId: Uint8Array
  readonly invitation: number
  readonly slot: number
  readonly hint: number
  readonly skewMs: number
  readonly remote: Address
  readonly datagram: Uint8Array
  readonly answerKey: AeadKey
  readonly noise: Noise.Handshake
}

const PATTERN = Noise.pattern("IKpsk2")
const HOUR_MS = 3_600_000

/** Offsets in ms to try, nearest first: whole hours, then the quarters between. */
export const sweepOffsets = (): ReadonlyArray<number> => {
  const quarters = Array.from({ length: SWEEP_REACH_HOURS * 4 }, (_, i) => i + 1)
  const order = [...quarters.filter((q) => q % 4 === 0), ...quarters.filter((q) => q % 4 !== 0)]
  return order.flatMap((q) => [(q * HOUR_MS) / 4, (-q * HOUR_MS) / 4])
}

export class Dial {
  readonly options: DialOptions
  readonly attempts: Array<Attempt> = []
  readonly #primitives: Primitives
  readonly #entropy: Entropy
  readonly #connectId: Uint8Array
  readonly #deadline: number
  readonly #envelopes: ReadonlyArray<{ readonly initiation: AeadKey; readonly answer: AeadKey }>
  readonly #sweep: ReadonlyArray<number>
  #round = 0
  #roundAt: number
  #swept = 0
  #sweepAt = Number.POSITIVE_INFINITY
  #nextEndpoint = 0

  constructor(now: number, primitives: Primitives, entropy: Entropy, options: DialOptions) {
    if (options.invitations.length === 0) throw new Error("Dial: no invitation")
    if (PATTERN === undefined) throw new Error("Dial: no pattern IKpsk2")
    this.options = options
    this.#primitives = primitives
    this.#entropy = entropy
    this.#connectId = entropy(CONNECT_ID_LENGTH)
    this.#deadline = now + options.timeoutMs
    this.#roundAt = now
    this.#envelopes = options.invitations.map((invitation) => {
      const keys = KeySchedule.envelopeKeys(primitives, invitation.psk)
      return { initiation: primitives.aeadKey(keys.initiation), answer: primitives.aeadKey(keys.answer) }
    })
    const follows = options.invitations.some((invitation) => invitation.slot === undefined)
    this.#sweep = follows && options.sweeps !== false ? sweepOffsets() : []
  }

  /** Rounds sent so far. */
  get rounds(): number {
    return this.#round
  }

  get deadline(): number {
    return Math.min(this.#deadline, this.#roundAt, this.#sweepAt)
  }

  expired(now: number): boolean {
    return now >= this.#deadline
  }

  /** The attempts due now, made and remembered. */
  due(now: number, wallMs: number): ReadonlyArray<Attempt> {
    const made: Array<Attempt> = []
    if (now >= this.#roundAt) {
      const { invitations, skewMs } = this.options
      const index = this.#round % invitations.length
      const endpoints = (invitations[index] as Invitation).endpoints
      const count = Math.min(endpoints.length, DIAL_ENDPOINTS_PER_ROUND)
      for (let i = 0; i < count; i++) {
        const remote = endpoints[(this.#nextEndpoint + i) % endpoints.length] as Address
        made.push(this.#make(now, wallMs, index, remote, skewMs, false))
      }
      this.#nextEndpoint += count
      const wait = DIAL_BACKOFF_MS[Math.min(this.#round, DIAL_BACKOFF_MS.length - 1)] as number
      this.#round++
      this.#roundAt = now + wait
      if (this.#round === 3 && this.#sweep.length > 0) this.#sweepAt = now + wait
    }
    if (now >= this.#sweepAt) {
      const index = this.options.invitations.findIndex((invitation) => invitation.slot === undefined)
      const endpoints = (this.options.invitations[index] as Invitation).endpoints
      const remote = endpoints[this.#swept % endpoints.length] as Address
      made.push(this.#make(now, wallMs, index, remote, this.#sweep[this.#swept] as number, true))
      this.#swept++
      this.#sweepAt = this.#swept < this.#sweep.length ? now + SWEEP_INTERVAL_MS : Number.POSITIVE_INFINITY
    }
    this.attempts.push(...made)
    return made
  }

  /** The attempts that can't succeed any more: the server keeps a half-open session no longer. They are let go. */
  expire(now: number): ReadonlyArray<Attempt> {
    const alive = this.attempts.findIndex(({ sentAt }) => now - sentAt < HALF_OPEN_MS)
    const over = this.attempts.splice(0, alive < 0 ? this.attempts.length : alive)
    for (const attempt of over) attempt.noise.wipe()
    return over
  }

  /** The server answered this attempt: its hint is used up. */
  onAnswered(attempt: Attempt): void {
    this.options.hints[attempt.invitation]?.onAnswered(attempt.slot, attempt.hint)
  }

  /** Wipes what the attempts hold. */
  end(): void {
    for (const attempt of this.attempts) attempt.noise.wipe()
  }

  #make(now: number, wallMs: number, index: number, remote: Address, skewMs: number, swept: boolean): Attempt {
    const { identity, deviceName, features, limits } = this.options
    const primitives = this.#primitives
    const invitation = this.options.invitations[index] as Invitation
    const keys = this.#envelopes[index] as { readonly initiation: AeadKey; readonly answer: AeadKey }
    const connectionId = this.#entropy(CONNECTION_ID_LENGTH)
    const noise = new Noise.Handshake(primitives, {
      pattern: PATTERN as Noise.Pattern,
      initiator: true,
      prologue: KeySchedule.prologue(invitation.id),
      local: identity,
      remote: invitation.serverKey,
      psks: [invitation.psk]
    })
    const payload = HandshakeMessage.encodeInitiation({
      wallMs: Math.max(0, wallMs + skewMs),
      versionMin: VERSION_MIN,
      versionMax: VERSION_MAX,
      connectionId,
      connectId: this.#connectId,
      deviceName,
      features,
      limits
    })
    const message = noise.writeMessage(payload, primitives.keyPair(this.#entropy(SECRET_LENGTH)))
    if (message === undefined) throw new Error("Dial: the server's key is not a usable X25519 key")
    const slot = invitation.slot ?? KeySchedule.slotOf(wallMs + skewMs)
    const hint = (this.options.hints[index] as HintCounter).next(slot, swept)
    const hintBytes = KeySchedule.hint(primitives, invitation.psk, slot, hint)
    const datagram = Envelope.sealInitiation(keys.initiation, hintBytes, this.#entropy(NONCE_LENGTH), message)
    const answerKey = keys.answer
    return { sentAt: now, connectionId, invitation: index, slot, hint, skewMs, remote, datagram, answerKey, noise }
  }
}
