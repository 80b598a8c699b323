/**
 * Whether the peer is there, and what has to be said so that it knows that we are: what it owes an answer to and since
 * when, on any path and on the one in use, and when a PING is due.
 *
 * A server asks only where its client has been silent for longer than a client ever is, so that the client's interval may
 * adapt to the NAT (`KeepAlive`). Pure: the owner acts on the times that it reads here.
 */
import { ASK_MS, KEEP_ALIVE_MIN_MS, QUIET_MS, STALL_MS } from "./Constants.ts"
import { KeepAlive } from "./KeepAlive.ts"

export interface LivenessOptions {
  readonly role: "client" | "server"
  /** The lower of both ends' idle time-outs. */
  readonly idleMs: number
  /** Of a client; a server is more patient, where its client's keep-alive adapts. */
  readonly deadAfterMs: number
  readonly keepAliveMs: number
  /** Of a server: silence after which it asks; without it `ASK_MS`. */
  readonly askMs?: number | undefined
}

/** Datagrams of so many bytes are those that a narrow path takes away. */
export const FULL_BYTES = 1000
/** Packets missing at the end of a silence that tell that the peer spoke and was not heard. */
const UNHEARD = 4
/** A keep-alive leaves time for its repetitions. */
const MARGIN_MS = 5000
const NEVER = Number.POSITIVE_INFINITY

export class Liveness {
  readonly #options: LivenessOptions
  readonly #keepAlive: KeepAlive
  readonly #askMs: number
  readonly #deadAfterMs: number
  /** When the session counts as idle. */
  idleAt: number
  /** When a PING is due, before it was started `Infinity`. */
  pingAt = NEVER
  #heard = false
  #stalled = false
  /** Since when the peer owes an answer, on any path and on the one in use; `Infinity` when it owes none. */
  #owedSince = NEVER
  #owedHereSince = NEVER
  /** Since when full datagrams leave and none arrives, `Infinity` for not at all; and when the last left. */
  #fullSince = NEVER
  #fullAt = 0
  #lastSentAt: number
  /** The silence before the last keep-alive, and whether that was answered; -1 when there is none to judge. */
  #silenceMs = -1
  #answered = false

  constructor(now: number, options: LivenessOptions) {
    const { role, idleMs, deadAfterMs, keepAliveMs, askMs = ASK_MS } = options
    this.#options = options
    this.#keepAlive = new KeepAlive(keepAliveMs, role === "client" ? idleMs / 2 - MARGIN_MS : 0)
    const patient = keepAliveMs >= KEEP_ALIVE_MIN_MS && Number.isFinite(keepAliveMs)
    const waitMs = Math.min(askMs, idleMs / 2)
    this.#askMs = patient ? Math.max(keepAliveMs, waitMs) : keepAliveMs
    // A client whose NAT forgot it knows nothing of that until its next keep-alive: until then a server has to wait.
    this.#deadAfterMs = patient && role === "server" ? Math.max(deadAfterMs, waitMs + MARGIN_MS) : deadAfterMs
    this.idleAt = now + idleMs
    this.#lastSentAt = now
  }

  // -- what the peer owes ------------------------------------------------------------------------------------------

  /** When the session is dead. */
  get deadAt(): number {
    return this.#owedSince + this.#deadAfterMs
  }

  /** When the path in use is too narrow for what we say, though small datagrams may pass: it was tried for half the time. */
  get narrowAt(): number {
    const tried = this.#fullAt - this.#fullSince >= this.#deadAfterMs / 2
    return tried ? this.#fullSince + this.#deadAfterMs : NEVER
  }

  /** When to say that it stalls; only a peer that has been heard can fall silent. */
  get stallsAt(): number {
    return this.#stalled || !this.#heard ? NEVER : this.#owedSince + STALL_MS
  }

  /** When the path in use is in doubt, a probe timeout being `ptoMs`. */
  doubtAt(ptoMs: number): number {
    return this.#owedHereSince + ptoMs
  }

  onStalled(): void {
    this.#stalled = true
  }

  /**
   * An authentic packet came, by the path in use or another, `missing` numbers behind the newest before it. Whether the
   * peer had stalled.
   */
  onReceived(now: number, here: boolean, missing: number): boolean {
    this.#heard = true
    this.idleAt = now + this.#options.idleMs
    this.#owedSince = NEVER
    if (here) this.#owedHereSince = NEVER
    if (this.#options.role === "server") this.#touch(now)
    if (this.#silenceMs >= 0 && !this.#answered) {
      this.#answered = true
      if (missing >= UNHEARD && this.#keepAlive.trying) this.onMappingLost()
    }
    const recovered = this.#stalled
    this.#stalled = false
    return recovered
  }

  /** Something new was acknowledged: whatever path that came by, ours carries. */
  onAcknowledged(): void {
    this.#owedHereSince = NEVER
  }

  /** Behind what came there is more in flight. */
  onMoreOwed(now: number, here: boolean): void {
    this.#owedSince = now
    if (here || this.#owedHereSince === NEVER) this.#owedHereSince = now
  }

  onNothingOwed(): void {
    this.#owedSince = NEVER
    this.#owedHereSince = NEVER
  }

  /** A datagram of ours of at least `FULL_BYTES` arrived. */
  onFullArrived(): void {
    this.#fullSince = NEVER
  }

  onSent(now: number, eliciting: boolean, bytes: number): void {
    this.#lastSentAt = now
    if (bytes >= FULL_BYTES) {
      this.#fullAt = now
      if (this.#fullSince === NEVER) this.#fullSince = now
    }
    if (eliciting) {
      if (this.#owedSince === NEVER) this.#owedSince = now
      if (this.#owedHereSince === NEVER) this.#owedHereSince = now
    }
    if (eliciting || this.#options.role === "client") this.#touch(now)
  }

  /** Another path is in use: what it owes counts from now. */
  onPathChanged(now: number): void {
    this.#silenceMs = -1
    this.#fullSince = NEVER
    if (this.#owedHereSince !== NEVER) this.#owedHereSince = now
  }

  // -- what we owe -------------------------------------------------------------------------------------------------

  start(now: number): void {
    this.#touch(now)
  }

  /** The PING is due: what became of the last one is known now. */
  onPingDue(now: number): void {
    if (this.#silenceMs >= 0 && this.#answered) this.#keepAlive.onKept(this.#silenceMs)
    this.#silenceMs = now - this.#lastSentAt
    this.#answered = false
    this.#touch(now)
  }

  /** When a server that was sending falls silent, it may have lost us behind a NAT: a PING shows it where we are. */
  askSoon(now: number): void {
    if (this.#options.role === "client") this.pingAt = now + Math.min(this.#keepAlive.intervalMs, QUIET_MS)
  }

  /** The peer sees us elsewhere, and nothing moved but the NAT. */
  onMappingLost(): void {
    if (this.#silenceMs >= 0) this.#keepAlive.onLost(this.#silenceMs)
    this.#silenceMs = -1
  }

  /** Another network: nothing is known of its NAT. */
  onNetworkChanged(now: number): void {
    this.#keepAlive.reset()
    this.onPathChanged(now)
    this.#touch(now)
  }

  #touch(now: number): void {
    this.pingAt = now + (this.#options.role === "client" ? this.#keepAlive.intervalMs : this.#askMs)
  }
}
