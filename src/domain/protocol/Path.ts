/**
 * One way to the peer: its connection id, the challenges under way, what they showed, and how many bytes may go there while
 * nothing is proven. Which path is used, and when one is challenged, is decided by `Paths`.
 *
 * Challenges go out in series: the first at once, then with growing gaps, each with a token of its own, so that the answer
 * tells the round trip. Sans-IO: `now` in ms never goes back.
 */
import type { Address } from "./Address.ts"
import type { RemoteId } from "./ConnectionIds.ts"
import { MAX_DATAGRAM_LENGTH, MAX_UNPROVEN_FACTOR, PATH_TOKEN_LENGTH } from "./Constants.ts"
import type { Entropy } from "./Primitives.ts"

/** Where a path comes from: the handshake, a packet of the peer's, a candidate, an announced port. */
export type Origin = "handshake" | "peer" | "candidate" | "port"

export type PathState = "validating" | "validated" | "failed"

/** How often, at which distance, and how large the challenges of a series are. */
export interface Series {
  readonly tries: number
  readonly gapMs: number
  readonly growth: number
  /** Padded to a full datagram, as is the answer: shows that the path carries such. */
  readonly full: boolean
}

/** Gaps of a series never grow beyond this, ms. */
const MAX_GAP_MS = 2000
/** Challenges of which the answer is recognised, the latest ones. */
const TOKENS = 8

interface Token {
  readonly bytes: Uint8Array
  readonly sentAt: number
  readonly full: boolean
}

export class Path {
  readonly remote: Address
  /** 0: direct. */
  readonly rank: number
  readonly origin: Origin
  state: PathState = "validating"
  /** It answered once. */
  proven = false
  /** It carried a full datagram both ways. */
  full = false
  /** Small datagrams pass, full ones did not. */
  narrow = false
  /** By which the peer is addressed here; `undefined` while there is none to be had. */
  id: RemoteId | undefined
  /** How often we changed `id` of our own accord without the peer having followed, and when we last followed it. */
  asked = 0
  followedAt = Number.NEGATIVE_INFINITY
  /** The path of which this one is another face, as long as nothing tells whether a NAT made it or somebody in between. */
  faceOf: Path | undefined
  /** By which the peer addresses us here, as last seen. */
  readonly local = new Uint8Array(8)
  /** Smoothed round trip of challenges, ms, and how many there were. */
  rttMs = 0
  samples = 0
  /** Failures in a row, and until when the path is not preferred because of them. */
  failures = 0
  shunnedUntil = Number.NEGATIVE_INFINITY
  heardAt: number
  /** When it is forgotten, and when it is challenged again; `Infinity` for never. */
  expiresAt = Number.POSITIVE_INFINITY
  standbyAt = Number.POSITIVE_INFINITY
  /** A challenge of the series waits to be sent. */
  due = false
  /** When the series goes on; `Infinity` when none is under way. */
  retryAt = Number.POSITIVE_INFINITY

  #tokens: Array<Token> = []
  #triesLeft = 0
  #gapMs = 0
  #growth = 1
  #seriesFull = false
  /** Bytes that may be sent there unproven. */
  #credit = 0

  constructor(now: number, remote: Address, rank: number, origin: Origin) {
    this.remote = remote
    this.rank = rank
    this.origin = origin
    this.heardAt = now
  }

  /** An authentic datagram came this way. */
  onReceived(now: number, length: number): void {
    this.heardAt = now
    if (!this.proven) this.#credit += MAX_UNPROVEN_FACTOR * length
  }

  /** Takes `length` from what may be sent; false when that is too little. */
  spend(length: number): boolean {
    if (this.proven) return true
    if (this.#credit < length) return false
    this.#credit -= length
    return true
  }

  // -- series ------------------------------------------------------------------------------------------------------

  get underWay(): boolean {
    return this.retryAt !== Number.POSITIVE_INFINITY
  }

  /** Whether the series under way is one of full datagrams. */
  get seriesFull(): boolean {
    return this.#seriesFull
  }

  begin(now: number, series: Series): void {
    this.#triesLeft = series.tries - 1
    this.#gapMs = Math.min(series.gapMs, MAX_GAP_MS)
    this.#growth = series.growth
    this.#seriesFull = series.full
    this.due = true
    this.retryAt = now + this.#gapMs
  }

  /** `retryAt` has passed: the next challenge is due, or false when that was the last. */
  goOn(now: number): boolean {
    if (this.#triesLeft <= 0) {
      this.settle()
      return false
    }
    this.#triesLeft--
    this.due = true
    this.#gapMs = Math.min(this.#gapMs * this.#growth, MAX_GAP_MS)
    this.retryAt = now + this.#gapMs
    return true
  }

  /** Ends the series. */
  settle(): void {
    this.due = false
    this.retryAt = Number.POSITIVE_INFINITY
  }

  /** Bytes of the challenge that is due: small, or a full datagram. */
  get least(): number {
    return this.#seriesFull ? MAX_DATAGRAM_LENGTH : 0
  }

  /** The token of the challenge that leaves now. */
  token(now: number, entropy: Entropy): Uint8Array {
    this.due = false
    const bytes = entropy(PATH_TOKEN_LENGTH)
    if (this.#tokens.length >= TOKENS) this.#tokens.shift()
    this.#tokens.push({ bytes, sentAt: now, full: this.#seriesFull })
    return bytes
  }

  /** An answer came this way in a datagram of `length` bytes. Whether it is one to our challenges: then the path is proven. */
  answer(now: number, token: Uint8Array, length: number): boolean {
    const at = this.#tokens.findIndex(({ bytes }) => bytes.every((byte, i) => byte === token[i]))
    const found = this.#tokens[at]
    if (found === undefined) return false
    this.#tokens.splice(0, at + 1)
    // One that was left stays so, whatever it still answers.
    if (!this.proven) this.expiresAt = Number.POSITIVE_INFINITY
    this.proven = true
    this.state = "validated"
    if (found.full && length >= MAX_DATAGRAM_LENGTH) {
      this.full = true
      this.narrow = false
    }
    const rtt = Math.max(0, now - found.sentAt)
    this.rttMs = this.samples === 0 ? rtt : 0.75 * this.rttMs + 0.25 * rtt
    this.samples++
    // A small answer does not end a series of full datagrams.
    if (!this.#seriesFull || this.full) this.settle()
    return true
  }

  /** Answers to earlier challenges count no longer: what they would show is no longer so. */
  forgetTokens(): void {
    this.#tokens = []
  }
}
