/**
 * Binds one end of ours at a rendezvous and keeps it bound: bind, challenge, bind with the cookie, and again from time to
 * time, which also keeps the NAT's mapping, and at once when what we send finds no echo. The cookie of the last answer saves the challenge while address and relay
 * stay the same; when binds with a cookie go unanswered, it begins without one. It never gives up.
 *
 *     handleAnswer(now, bytes) · handleTimeout(now) · rebind(now) · release(now)
 *     pollTransmit(now) until undefined · pollTimeout()
 */
import type { Address } from "./Address.ts"
import { CONNECTION_ID_LENGTH, RENDEZVOUS_BACKOFF_MS, RENDEZVOUS_DEAF_MS } from "./Constants.ts"
import type { Entropy, Primitives } from "./Primitives.ts"
import { answerKey, COOKIE_LENGTH, GroupKeys, openAnswer } from "./RendezvousMessage.ts"
import type { Ticket } from "./RendezvousTicket.ts"

/** Binds whose answers are still awaited: a path may be slower than the first tries. */
const MAX_AWAITED = 4
/** Binds with one cookie that go unanswered before it is dropped. */
const COOKIE_TRIES = 2
/** Milliseconds after which we ask again whether the server is there. */
const ABSENT_REBIND_MS = 5000
/** Share of the interval by which each is shortened at most. */
const JITTER = 0.2

/**
 * - `binding`: no answer yet, or not for so long that the relay has forgotten us.
 * - `bound`: datagrams are carried; `peer` says whether the server was there too when it was last heard of.
 * - `failed`: the relay is silent: it is down, out of reach, or does not take this ticket. It is asked for ever.
 */
export type State =
  | { readonly type: "binding" }
  | { readonly type: "bound"; readonly until: number; readonly observed: Address; readonly peer: boolean }
  | { readonly type: "failed"; readonly reason: "Silent" }

const BINDING: State = { type: "binding" }
const SILENT: State = { type: "failed", reason: "Silent" }

interface Awaited {
  readonly replyId: Uint8Array
  readonly ticketKey: Uint8Array
}

export class RendezvousBinder {
  readonly instance: Uint8Array
  readonly #primitives: Primitives
  readonly #entropy: Entropy
  readonly #ticket: (wall: number) => Ticket
  readonly #group: GroupKeys
  readonly #intervalMs: number
  #wallOffset: number
  #state: State = BINDING
  #cookie: Uint8Array | undefined
  #cookieTries = 0
  #tries = 0
  #next: number
  /** When too long has passed since we sent something and heard nothing from the relay. */
  #deafAt = Number.POSITIVE_INFINITY
  #awaited: Array<Awaited> = []
  #outgoing: Array<Uint8Array> = []

  /**
   * `ticket` is asked at each bind, so that a ticket of one's own may be renewed. `instance` is 16 random bytes. `intervalMs`
   * from one bind to the next.
   */
  constructor(
    now: number,
    wall: number,
    primitives: Primitives,
    entropy: Entropy,
    instance: Uint8Array,
    ticket: (wall: number) => Ticket,
    intervalMs: number
  ) {
    this.#intervalMs = intervalMs
    this.#primitives = primitives
    this.#entropy = entropy
    this.#ticket = ticket
    this.#group = new GroupKeys(primitives, ticket(wall).group)
    this.#wallOffset = wall - now
    this.#next = now
    this.instance = instance
  }

  get state(): State {
    return this.#state
  }

  setWall(now: number, wall: number): void {
    this.#wallOffset = wall - now
  }

  /** Binds at once, from the start: our address may have changed, and the cookie with it. */
  rebind(now: number): void {
    this.#cookie = undefined
    this.#tries = 0
    this.#next = Math.min(this.#next, now)
  }

  /** A datagram leaves by the relay. */
  onSent(now: number): void {
    if (this.#deafAt === Number.POSITIVE_INFINITY) this.#deafAt = now + RENDEZVOUS_DEAF_MS
  }

  /** Something has come from the relay. */
  onHeard(): void {
    this.#deafAt = Number.POSITIVE_INFINITY
  }

  /** Ends it: the relay forgets us at once if the word arrives. */
  release(now: number): void {
    if (this.#cookie !== undefined && this.#state.type === "bound") this.#send(now, "release")
    this.#awaited = []
    this.#next = Number.POSITIVE_INFINITY
    this.#deafAt = Number.POSITIVE_INFINITY
    this.#state = BINDING
  }

  pollTimeout(): number {
    const next = Math.min(this.#next, this.#deafAt)
    return this.#state.type === "bound" ? Math.min(next, this.#state.until) : next
  }

  handleTimeout(now: number): void {
    if (this.#state.type === "bound" && now >= this.#state.until) this.#state = BINDING
    if (now >= this.#deafAt) {
      this.#deafAt = Number.POSITIVE_INFINITY
      this.rebind(now)
    }
    if (now < this.#next) return
    if (this.#cookie !== undefined && this.#cookieTries++ >= COOKIE_TRIES) this.#cookie = undefined
    if (this.#state.type === "binding" && this.#tries >= RENDEZVOUS_BACKOFF_MS.length) this.#state = SILENT
    this.#send(now, "bind")
    // The last and longest is for a relay that is silent.
    const last = RENDEZVOUS_BACKOFF_MS.length - (this.#state.type === "failed" ? 1 : 2)
    this.#next = now + (RENDEZVOUS_BACKOFF_MS[Math.min(this.#tries++, last)] as number)
  }

  pollTransmit(now: number): Uint8Array | undefined {
    if (now >= this.pollTimeout()) this.handleTimeout(now)
    return this.#outgoing.shift()
  }

  /** Whether the datagram was an answer to a bind of ours. */
  handleAnswer(now: number, bytes: Uint8Array): boolean {
    for (const { replyId, ticketKey } of this.#awaited) {
      if (bytes[0] !== replyId[0] || bytes[1] !== replyId[1]) continue
      const answer = openAnswer(answerKey(this.#primitives, ticketKey), replyId, bytes)
      if (answer === undefined) continue
      this.#awaited = []
      this.onHeard()
      this.#cookie = answer.cookie
      this.#cookieTries = 0
      // Somebody is there: what is lost now is worth quick tries again.
      this.#tries = 0
      if (answer.type === "challenge") {
        this.#next = now
        if (this.#state.type === "failed") this.#state = BINDING
      } else {
        const { lifeMs, observed, peer } = answer
        this.#state = { type: "bound", until: now + lifeMs, observed, peer }
        const share = 1 - (JITTER * (this.#entropy(1)[0] as number)) / 256
        const interval = peer ? Math.min(this.#intervalMs, lifeMs / 3) : ABSENT_REBIND_MS
        this.#next = now + interval * share
      }
      return true
    }
    return false
  }

  #send(now: number, op: "bind" | "release"): void {
    const wall = now + this.#wallOffset
    const ticket = this.#ticket(wall)
    const replyId = this.#entropy(CONNECTION_ID_LENGTH)
    const cookie = this.#cookie ?? new Uint8Array(COOKIE_LENGTH)
    const { expiry, guest, house, key, role } = ticket
    const bind = { op, role, house, guest, expiry, wall: Math.round(wall), replyId, instance: this.instance, cookie }
    this.#outgoing.push(this.#group.sealBind(this.#primitives, this.#entropy, key, bind))
    if (op === "release") return
    this.#awaited.push({ replyId, ticketKey: key })
    if (this.#awaited.length > MAX_AWAITED) this.#awaited.shift()
  }
}
