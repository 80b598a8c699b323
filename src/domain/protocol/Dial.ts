/**
 * A client's way into a session: which initiation to send when, until one is answered. Pure schedule and bookkeeping;
 * the Endpoint owns the ids and the sessions.
 *
 * Every round is an attempt of its own: fresh ephemeral key, nonce, connection id and hint, one connect id over all. It goes
 * to several addresses at once, byte for byte the same: the server answers the first that reaches it.
 * Attempts go out at 0, 250, 750 and 1750 ms, each second for a while and then every 2 s, each time by the next invitation, to its
 * best endpoints and some of the others, in turn.
 * A device whose clock is wrong computes hints that nobody expects, so after three silent rounds the dial also sweeps
 * clock offsets, whole hours first, then quarters, to 26 h either way, one every 50 ms.
 */
import { type Address, equals } from "./Address.ts"
import type { Parcel } from "./Carrier.ts"
import {
  CONNECT_ID_LENGTH,
  CONNECTION_ID_LENGTH,
  DIAL_BACKOFF_MS,
  DIAL_BEST_ENDPOINTS,
  DIAL_OTHER_ENDPOINTS,
  DIAL_SWEPT_ENDPOINTS,
  HALF_OPEN_MS,
  MAX_DIAL_WAYS,
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
  readonly datagram: Uint8Array
  readonly answerKey: AeadKey
  readonly noise: Noise.Handshake
}

export interface Due {
  /** New attempts. */
  readonly made: ReadonlyArray<Attempt>
  /** Initiations to send: one attempt may go to several addresses at once, of which one answers. */
  readonly transmits: ReadonlyArray<Parcel>
}

const PATTERN = Noise.pattern("IKpsk2")
const HOUR_MS = 3_600_000
/** Times that each offset is tried: a datagram may be lost. */
const SWEEPS = 2

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
  /** Where initiations go, by invitation. */
  readonly #endpoints: ReadonlyArray<ReadonlyArray<Address>>
  /** Addresses found since the dial began, by invitation: every round goes there too. */
  readonly #ways: ReadonlyArray<Array<Address>>
  /** Those of them that were found since the last attempt, which is sent there too. */
  #found: Array<Address> = []
  #round = 0
  #roundAt: number
  #swept = 0
  #sweepAt = Number.POSITIVE_INFINITY
  #nextOther = 0

  constructor(now: number, primitives: Primitives, entropy: Entropy, options: DialOptions) {
    if (options.invitations.length === 0) throw new Error("Dial: no invitation")
    if (PATTERN === undefined) throw new Error("Dial: no pattern IKpsk2")
    this.options = options
    this.#primitives = primitives
    this.#entropy = entropy
    this.#connectId = entropy(CONNECT_ID_LENGTH)
    this.#deadline = now + options.timeoutMs
    this.#roundAt = now
    this.#endpoints = options.invitations.map(({ endpoints }) => [...endpoints])
    this.#ways = options.invitations.map(() => [])
    this.#envelopes = options.invitations.map((invitation) => {
      const keys = KeySchedule.envelopeKeys(primitives, invitation.psk)
      return { initiation: primitives.aeadKey(keys.initiation), answer: primitives.aeadKey(keys.answer) }
    })
    const follows = options.invitations.some((invitation) => invitation.slot === undefined)
    // A clock that was wrong last time has most likely been set right since.
    const offsets = options.skewMs === 0 ? sweepOffsets() : [0, ...sweepOffsets()]
    this.#sweep = follows && options.sweeps !== false ? offsets : []
  }

  /** Rounds sent so far. */
  get rounds(): number {
    return this.#round
  }

  get deadline(): number {
    if (this.#found.length > 0) return Number.NEGATIVE_INFINITY
    return Math.min(this.#deadline, this.#roundAt, this.#sweepAt)
  }

  /** More addresses that the server may have: the attempt under way goes there too, if it is this invitation's. */
  widen(invitation: number, endpoints: ReadonlyArray<Address>): void {
    const given = this.#endpoints[invitation]
    const ways = this.#ways[invitation]
    if (given === undefined || ways === undefined) return
    for (const remote of endpoints) {
      const isKnown = [...given.slice(0, DIAL_BEST_ENDPOINTS), ...ways].some((other) => equals(other, remote))
      if (isKnown || ways.length >= MAX_DIAL_WAYS) continue
      ways.push(remote)
      if (this.attempts.at(-1)?.invitation === invitation) this.#found.push(remote)
    }
  }

  expired(now: number): boolean {
    return now >= this.#deadline
  }

  /** What is due now; attempts are remembered. */
  due(now: number, wallMs: number): Due {
    const made: Array<Attempt> = []
    const transmits: Array<Parcel> = []
    const send = (attempt: Attempt, remotes: ReadonlyArray<Address>): void => {
      for (const remote of remotes) transmits.push({ bytes: attempt.datagram, remote })
    }
    const last = this.attempts.at(-1)
    if (last !== undefined) send(last, this.#found)
    this.#found = []
    if (now >= this.#roundAt) {
      const index = this.#round % this.options.invitations.length
      const attempt = this.#make(now, wallMs, index, this.options.skewMs, false)
      made.push(attempt)
      send(attempt, this.#nextRemotes(index))
      const wait = DIAL_BACKOFF_MS[Math.min(this.#round, DIAL_BACKOFF_MS.length - 1)] as number
      this.#round++
      this.#roundAt = now + wait
      if (this.#round === 3 && this.#sweep.length > 0) this.#sweepAt = now + wait
    }
    if (now >= this.#sweepAt) {
      const index = this.options.invitations.findIndex((invitation) => invitation.slot === undefined)
      const offset = this.#sweep[this.#swept % this.#sweep.length] as number
      const attempt = this.#make(now, wallMs, index, offset, true)
      made.push(attempt)
      send(attempt, this.#sweptRemotes(index, wallMs + offset))
      this.#swept++
      const isOver = this.#swept >= SWEEPS * this.#sweep.length
      this.#sweepAt = isOver ? Number.POSITIVE_INFINITY : now + SWEEP_INTERVAL_MS
    }
    this.attempts.push(...made)
    return { made, transmits }
  }

  /** The best endpoints, what was found since, and some of the others. */
  #nextRemotes(index: number): ReadonlyArray<Address> {
    const endpoints = this.#endpoints[index] as ReadonlyArray<Address>
    const others = endpoints.slice(DIAL_BEST_ENDPOINTS)
    const count = Math.min(others.length, DIAL_OTHER_ENDPOINTS)
    const some = Array.from({ length: count }, (_, i) => others[(this.#nextOther + i) % others.length] as Address)
    this.#nextOther += count
    return [...endpoints.slice(0, DIAL_BEST_ENDPOINTS), ...(this.#ways[index] ?? []), ...some]
  }

  /** Where the server was last, one of the others, what was found since, and where it would be at that time. */
  #sweptRemotes(index: number, wallMs: number): ReadonlyArray<Address> {
    const endpoints = this.#endpoints[index] as ReadonlyArray<Address>
    const usual = endpoints[0] as Address
    const others = endpoints.slice(1)
    const other = others.slice(this.#swept % Math.max(others.length, 1)).slice(0, 1)
    const then = this.options.invitations[index]?.endpointsAt?.(wallMs).slice(0, DIAL_SWEPT_ENDPOINTS) ?? []
    const known = [usual, ...other, ...(this.#ways[index] ?? [])]
    return [...known, ...then.filter((remote) => known.every((one) => !equals(remote, one)))]
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

  #make(now: number, wallMs: number, index: number, skewMs: number, swept: boolean): Attempt {
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
      // As it is, right or wrong: it decides nothing, and tells the server's owner of a clock that needs setting.
      wallMs: Math.max(0, wallMs),
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
    return { sentAt: now, connectionId, invitation: index, slot, hint, skewMs, datagram, answerKey, noise }
  }
}
