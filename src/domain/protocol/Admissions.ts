/**
 * Whom a server expects: the hints of every live credential, the nonces already seen, and the budget of Diffie-Hellman
 * work. A datagram that matches no hint costs one look-up; one that matches costs one AEAD open; only what opens, is new
 * and lies within the budget costs more.
 *
 * Hints of a `.sec` file stand still; those of a device follow the wall clock in slots of five minutes, of which the last,
 * the current and the next are kept.
 *
 * Within a slot hints are numbered, and `HINT_WINDOW` of them are kept beyond the highest that was used, so that a client
 * need never show one twice.
 *
 * Bounded: `MAX_HINTS_PER_SLOT` hints a file, three times that a device; the nonces of a credential by its budget over
 * the time that its hints are good for.
 */
import {
  DH_BUDGET_BURST,
  DH_BUDGET_PER_SECOND,
  DH_CREDENTIAL_BURST,
  DH_CREDENTIAL_PER_SECOND,
  HINT_WINDOW,
  MAX_HINTS_PER_SLOT
} from "./Constants.ts"
import type { Admission } from "./Credential.ts"
import { hex } from "./Cursor.ts"
import * as Envelope from "./Envelope.ts"
import { IdTable } from "./IdTable.ts"
import * as KeySchedule from "./KeySchedule.ts"
import { NetworkBudget } from "./NetworkBudget.ts"
import type { AeadKey, Primitives } from "./Primitives.ts"
import { TokenBucket } from "./TokenBucket.ts"

/** An initiation's nonce on record: whose it was and the slot it belongs to. */
export interface SeenNonce {
  /** The credential's id. */
  readonly id: Uint8Array
  /** 12 bytes. */
  readonly nonce: Uint8Array
  readonly slot: number
  /** The number of the hint within its slot. */
  readonly hint: number
}

interface Slot {
  readonly hints: Array<Uint8Array>
  /** The number of the next hint to offer. */
  next: number
}

export interface Entry {
  admission: Admission
  /** What its hints are derived from: see `KeySchedule.hints`. */
  readonly hintKey: Uint8Array
  readonly initiationKey: AeadKey
  readonly answerKey: AeadKey
  readonly budget: TokenBucket
  /** Hints now in the table. */
  readonly slots: Map<number, Slot>
  /** Slot by nonce. */
  readonly nonces: Map<string, number>
}

/** What an initiation's outer layer turned out to be. */
export type Opened =
  | { readonly type: "opened"; readonly entry: Entry; readonly seen: SeenNonce; readonly message: Uint8Array }
  | { readonly type: "unknown" | "forged" | "repeated" | "expired" | "over-budget" }

export class Admissions {
  readonly #primitives: Primitives
  readonly #table = new IdTable<{ readonly entry: Entry; readonly slot: number; readonly hint: number }>()
  readonly #entries = new Map<string, Entry>()
  readonly #overall: TokenBucket
  readonly #networks = new NetworkBudget()
  #slot = Number.NaN

  constructor(now: number, primitives: Primitives) {
    this.#primitives = primitives
    this.#overall = new TokenBucket(now, DH_BUDGET_PER_SECOND, DH_BUDGET_BURST)
  }

  /** Hints in the table. */
  get size(): number {
    return this.#table.size
  }

  /** Nonces on record. */
  get nonces(): number {
    let count = 0
    for (const entry of this.#entries.values()) count += entry.nonces.size
    return count
  }

  /** Replaces the list of expected credentials; those that stay keep their nonces and budget. */
  set(now: number, wallMs: number, admissions: ReadonlyArray<Admission>): void {
    const stale = new Map(this.#entries)
    this.#entries.clear()
    for (const admission of admissions) {
      const key = keyOf(admission)
      const old = stale.get(key)
      // All that is kept of an entry hangs on its psk.
      if (old === undefined || !this.#primitives.equal(old.admission.psk, admission.psk)) {
        this.#entries.set(key, this.#make(now, admission))
        continue
      }
      stale.delete(key)
      old.admission = admission
      this.#entries.set(key, old)
    }
    for (const entry of stale.values()) this.#withdraw(entry)
    this.#slot = Number.NaN
    this.advance(wallMs)
  }

  /** Follows the wall clock; cheap while the slot stays the same. */
  advance(wallMs: number): void {
    const slot = KeySchedule.slotOf(wallMs)
    if (slot === this.#slot) return
    this.#slot = slot
    for (const entry of this.#entries.values()) {
      const fixed = entry.admission.slot
      const wanted = fixed === undefined ? [slot - 1, slot, slot + 1] : [fixed]
      for (const [known, { hints }] of entry.slots) {
        if (wanted.includes(known)) continue
        for (const hint of hints) this.#table.delete(hint)
        entry.slots.delete(known)
      }
      for (const [nonce, known] of entry.nonces) if (!wanted.includes(known)) entry.nonces.delete(nonce)
      for (const each of wanted) if (!entry.slots.has(each)) this.#offer(entry, each, HINT_WINDOW)
    }
  }

  /** Brings back what an earlier process had seen; unknown credentials and slots are passed over. */
  restore(seen: ReadonlyArray<SeenNonce>): void {
    for (const { id, nonce, slot, hint } of seen) {
      for (const entry of this.#entries.values()) {
        if (!this.#primitives.equal(entry.admission.id, id) || !entry.slots.has(slot)) continue
        entry.nonces.set(hex(nonce), slot)
        this.#offer(entry, slot, hint + 1 + HINT_WINDOW)
      }
    }
  }

  /** Opens the envelope of an initiation from `host` and charges the budgets; the nonce counts as seen from here on. */
  open(now: number, wallMs: number, host: string, datagram: Uint8Array): Opened {
    const row = this.#table.get(datagram)
    if (row === undefined) return { type: "unknown" }
    const { entry, slot, hint } = row
    const opened = Envelope.open(entry.initiationKey, "initiation", datagram)
    if (opened === undefined) return { type: "forged" }
    if (wallMs > entry.admission.validUntil) return { type: "expired" }
    const nonce = hex(opened.nonce)
    if (entry.nonces.has(nonce)) return { type: "repeated" }
    if (!entry.budget.take(now) || !this.#networks.take(now, host) || !this.#overall.take(now)) {
      return { type: "over-budget" }
    }
    entry.nonces.set(nonce, slot)
    this.#offer(entry, slot, hint + 1 + HINT_WINDOW)
    const seen = { id: entry.admission.id, nonce: opened.nonce, slot, hint }
    return { type: "opened", entry, seen, message: opened.message }
  }

  #make(now: number, admission: Admission): Entry {
    const keys = KeySchedule.envelopeKeys(this.#primitives, admission.psk)
    return {
      admission,
      hintKey: KeySchedule.extract(this.#primitives, admission.psk),
      initiationKey: this.#primitives.aeadKey(keys.initiation),
      answerKey: this.#primitives.aeadKey(keys.answer),
      budget: new TokenBucket(now, DH_CREDENTIAL_PER_SECOND, DH_CREDENTIAL_BURST),
      slots: new Map(),
      nonces: new Map()
    }
  }

  /** Extends the hints of a slot up to number `end`. */
  #offer(entry: Entry, slot: number, end: number): void {
    const offered = entry.slots.get(slot) ?? { hints: [], next: 0 }
    entry.slots.set(slot, offered)
    offered.next = Math.max(offered.next, end - MAX_HINTS_PER_SLOT)
    for (const hint of KeySchedule.hints(this.#primitives, entry.hintKey, slot, offered.next, end)) {
      if (this.#table.add(hint, { entry, slot, hint: offered.next++ })) offered.hints.push(hint)
    }
    while (offered.hints.length > MAX_HINTS_PER_SLOT) this.#table.delete(offered.hints.shift() as Uint8Array)
  }

  #withdraw(entry: Entry): void {
    for (const { hints } of entry.slots.values()) for (const hint of hints) this.#table.delete(hint)
    entry.slots.clear()
  }
}

/** A file and the device it enrols share an id but not a slot rule, and may both be live. */
const keyOf = (admission: Admission): string => `${hex(admission.id)}:${admission.slot ?? "device"}`
