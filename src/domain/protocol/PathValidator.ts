/**
 * Both halves of path validation (RFC 9000 section 8.2): challenging an address that the peer seems to have moved to, and
 * answering the peer's challenges. Until a challenge is answered an address gets at most `MAX_UNPROVEN_FACTOR` times the
 * bytes that came from it (section 8.1), so nobody can aim us at a stranger.
 */
import { type Address, equals } from "./Address.ts"
import { MAX_UNPROVEN_FACTOR, PATH_CHALLENGE_TRIES } from "./Constants.ts"
import type * as Frame from "./Frame.ts"
import * as Packet from "./Packet.ts"

/** A frame of path validation and where it goes, whatever the session's own path is. */
export interface Probe {
  readonly frame: Frame.PathChallenge | Frame.PathResponse
  readonly remote: Address
}

interface Challenge {
  readonly remote: Address
  readonly token: Uint8Array
  tries: number
  due: boolean
  /** Bytes that may still be sent there. */
  credit: number
}

/** Bytes of the datagram that carries a probe alone. */
const PROBE_LENGTH = Packet.MIN_LENGTH
/** Answers waiting to be sent; a peer that challenges faster than we send waits for its next try. */
const MAX_RESPONSES = 4

export class PathValidator {
  #challenge: Challenge | undefined
  #responses: Array<Probe> = []
  #deadline = Number.POSITIVE_INFINITY

  /** When `retry` is due; `Infinity` while nothing is being validated. */
  get deadline(): number {
    return this.#deadline
  }

  /** The newest packet came from `remote`: challenge it, unless that is under way. `token`: 8 unpredictable bytes. */
  challenge(now: number, remote: Address, token: Uint8Array, retryMs: number): void {
    if (this.#challenge !== undefined && equals(this.#challenge.remote, remote)) return
    this.#challenge = { remote, token, tries: 0, due: false, credit: 0 }
    this.retry(now, retryMs)
  }

  /** An authentic datagram of `length` bytes came from `remote`. */
  onReceived(remote: Address, length: number): void {
    const challenge = this.#challenge
    if (challenge !== undefined && equals(challenge.remote, remote)) challenge.credit += MAX_UNPROVEN_FACTOR * length
  }

  /** Sends the challenge again, or gives the address up. */
  retry(now: number, retryMs: number): void {
    const challenge = this.#challenge
    if (challenge === undefined || challenge.tries >= PATH_CHALLENGE_TRIES) {
      this.#settle()
      return
    }
    challenge.tries++
    challenge.due = true
    this.#deadline = now + retryMs
  }

  /** The peer challenges the address that this frame came from. */
  onChallenge(remote: Address, token: Uint8Array): void {
    if (this.#responses.length >= MAX_RESPONSES) return
    this.#responses.push({ frame: { type: "PathResponse", token: token.slice() }, remote })
  }

  /** Whether this answer proves the address that it came from. */
  onResponse(remote: Address, token: Uint8Array): boolean {
    const challenge = this.#challenge
    if (challenge === undefined || !equals(challenge.remote, remote)) return false
    if (challenge.token.some((byte, i) => byte !== token[i])) return false
    this.#settle()
    return true
  }

  /** The next probe to send. */
  poll(): Probe | undefined {
    const response = this.#responses.shift()
    if (response !== undefined) return response
    const challenge = this.#challenge
    if (challenge === undefined || !challenge.due || challenge.credit < PROBE_LENGTH) return undefined
    challenge.due = false
    challenge.credit -= PROBE_LENGTH
    return { frame: { type: "PathChallenge", token: challenge.token }, remote: challenge.remote }
  }

  clear(): void {
    this.#responses = []
    this.#settle()
  }

  #settle(): void {
    this.#challenge = undefined
    this.#deadline = Number.POSITIVE_INFINITY
  }
}
