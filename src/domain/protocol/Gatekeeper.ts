/**
 * A server's door: who is expected, which initiations wait for their owner's word, and how fast anybody may knock.
 *
 * What opens with a live credential's key costs a Diffie-Hellman exchange and a place: Admissions keeps the budgets, the
 * Endpoint the places.
 */
import type { Address } from "./Address.ts"
import { Admissions, type Entry, type SeenNonce } from "./Admissions.ts"
import { HALF_OPEN_MS, VERSION_MAX, VERSION_MIN } from "./Constants.ts"
import type { Admission } from "./Credential.ts"
import * as HandshakeMessage from "./HandshakeMessage.ts"
import * as KeySchedule from "./KeySchedule.ts"
import * as Noise from "./Noise.ts"
import type { KeyPair, Primitives } from "./Primitives.ts"

/** An initiation that was opened, until its owner decides. */
export interface Pending {
  readonly entry: Entry
  readonly noise: Noise.Handshake
  readonly message: HandshakeMessage.Initiation
  readonly version: number
  readonly remote: Address
  readonly expiresAt: number
}

/** What came of an initiation; all but the first two left nothing behind. */
export type Knock =
  | { readonly type: "pending"; readonly pending: Pending; readonly staticKey: Uint8Array; readonly seen: SeenNonce }
  | { readonly type: "stranger"; readonly admission: Admission; readonly staticKey: Uint8Array }
  | { readonly type: "unknown" | "forged" | "repeated" | "expired" | "overBudget" | "badHandshake" }

const PATTERN = Noise.pattern("IKpsk2") as Noise.Pattern

export class Gatekeeper {
  readonly #primitives: Primitives
  readonly #identity: KeyPair
  readonly #admissions: Admissions
  readonly #pending = new Map<number, Pending>()

  constructor(now: number, primitives: Primitives, identity: KeyPair) {
    this.#primitives = primitives
    this.#identity = identity
    this.#admissions = new Admissions(now, primitives)
  }

  /** Initiations that wait. */
  get size(): number {
    return this.#pending.size
  }

  /** Hints and nonces on record: bounded by the credentials, whatever arrives. */
  get expected(): number {
    return this.#admissions.size + this.#admissions.nonces
  }

  /** When the first of those that wait is given up; `Infinity` when none waits. */
  get deadline(): number {
    let earliest = Number.POSITIVE_INFINITY
    for (const { expiresAt } of this.#pending.values()) if (expiresAt < earliest) earliest = expiresAt
    return earliest
  }

  advance(wallMs: number): void {
    this.#admissions.advance(wallMs)
  }

  set(now: number, wallMs: number, admissions: ReadonlyArray<Admission>): void {
    this.#admissions.set(now, wallMs, admissions)
  }

  restore(seen: ReadonlyArray<SeenNonce>): void {
    this.#admissions.restore(seen)
  }

  /** Opens one initiation. What is pending must be kept or wiped. */
  knock(now: number, wallMs: number, remote: Address, bytes: Uint8Array): Knock {
    const opened = this.#admissions.open(now, wallMs, remote.host, bytes)
    if (opened.type !== "opened") return { type: opened.type === "over-budget" ? "overBudget" : opened.type }
    const { entry, seen } = opened
    const { admission } = entry
    const noise = new Noise.Handshake(this.#primitives, {
      pattern: PATTERN,
      initiator: false,
      prologue: KeySchedule.prologue(admission.id),
      local: this.#identity,
      psks: [admission.psk]
    })
    const payload = noise.readMessage(opened.message)
    const staticKey = noise.remoteStatic
    const message = payload === undefined ? undefined : HandshakeMessage.decodeInitiation(payload)
    if (
      message === undefined ||
      staticKey === undefined ||
      message.versionMin > VERSION_MAX ||
      message.versionMax < VERSION_MIN
    ) {
      noise.wipe()
      return { type: "badHandshake" }
    }
    if (admission.staticKey !== undefined && !this.#primitives.equal(admission.staticKey, staticKey)) {
      noise.wipe()
      return { type: "stranger", admission, staticKey }
    }
    const version = Math.min(message.versionMax, VERSION_MAX)
    const pending = { entry, noise, message, version, remote, expiresAt: now + HALF_OPEN_MS }
    return { type: "pending", pending, staticKey, seen }
  }

  keep(handle: number, pending: Pending): void {
    this.#pending.set(handle, pending)
  }

  /** Takes out one that is still good. */
  take(now: number, handle: number): Pending | undefined {
    const pending = this.#pending.get(handle)
    this.#pending.delete(handle)
    if (pending === undefined || now < pending.expiresAt) return pending
    pending.noise.wipe()
    return undefined
  }

  drop(handle: number): void {
    this.#pending.get(handle)?.noise.wipe()
    this.#pending.delete(handle)
  }

  dropWhere(isOver: (pending: Pending) => boolean): void {
    for (const [handle, pending] of this.#pending) if (isOver(pending)) this.drop(handle)
  }

  /** How many of one credential wait. */
  countOf(admission: Admission): number {
    let count = 0
    for (const { entry } of this.#pending.values()) if (this.isOf(entry, admission)) count++
    return count
  }

  isOf(entry: Entry, admission: Admission): boolean {
    return this.#primitives.equal(entry.admission.id, admission.id)
  }
}
