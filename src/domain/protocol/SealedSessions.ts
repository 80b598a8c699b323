/**
 * The sealed sessions that the llm tier can be asked to continue: few per device, each for a while, each stream number
 * once. A session that is forgotten costs its client one handshake.
 */
import { MAX_SEALED_SESSIONS, MAX_SEALED_SESSIONS_PER_DEVICE, SEALED_SESSION_MS } from "./Constants.ts"
import { hex } from "./Cursor.ts"
import type { Primitives } from "./Primitives.ts"
import { type Session, type StreamKeys, streamKeys } from "./SealedHandshake.ts"

/** Streams are spliced side by side and may overtake each other by this many. */
const WINDOW = 64

interface Entry {
  readonly device: string
  readonly session: Session
  /** Milliseconds. */
  readonly expires: number
  /** Of the numbers up to `highest`, those of the window that came. */
  readonly used: Set<number>
  highest: number
}

export class SealedSessions {
  /** By session id, the one that was used last at the end. */
  readonly #entries = new Map<string, Entry>()

  get size(): number {
    return this.#entries.size
  }

  /** Takes a session over, of a device (hexadecimal digits) that has proven to have its keys. */
  add(now: number, device: string, session: Session): void {
    this.#sweep(now)
    let own = 0
    let oldest: string | undefined
    for (const [id, entry] of this.#entries) {
      if (entry.device !== device) continue
      oldest ??= id
      own++
    }
    if (own >= MAX_SEALED_SESSIONS_PER_DEVICE && oldest !== undefined) this.#drop(oldest)
    for (const id of this.#entries.keys()) {
      if (this.#entries.size < MAX_SEALED_SESSIONS) break
      this.#drop(id)
    }
    const expires = now + SEALED_SESSION_MS
    this.#entries.set(hex(session.id), { device, session, expires, used: new Set(), highest: 0 })
  }

  /** The keys of stream `number` of a device's session; `undefined` when it is not known, not the device's, or was used. */
  take(now: number, p: Primitives, device: string, id: Uint8Array, number: number): StreamKeys | undefined {
    this.#sweep(now)
    const key = hex(id)
    const entry = this.#entries.get(key)
    if (entry === undefined || entry.device !== device) return undefined
    if (number <= Math.max(entry.highest - WINDOW, 0) || entry.used.has(number)) return undefined
    entry.used.add(number)
    if (number > entry.highest) {
      entry.highest = number
      for (const used of entry.used) if (used <= number - WINDOW) entry.used.delete(used)
    }
    this.#entries.delete(key)
    this.#entries.set(key, entry)
    return streamKeys(p, entry.session, number)
  }

  wipe(): void {
    for (const id of [...this.#entries.keys()]) this.#drop(id)
  }

  #sweep(now: number): void {
    for (const [id, { expires }] of this.#entries) if (now >= expires) this.#drop(id)
  }

  #drop(id: string): void {
    this.#entries.get(id)?.session.secret.fill(0)
    this.#entries.delete(id)
  }
}
