/** Why a TURN server gives us no allocation (RFC 8656 section 19), and when to ask again. */

/**
 * - `Timeout`: the server does not answer.
 * - `Unauthorized`: it does not take the credentials (401), or asks for something that we do not have.
 * - `WrongCredentials`: an allocation of another user has our address and port (441).
 * - `Mismatch`: an earlier allocation has our address and port and cannot be removed (437).
 * - `Quota`: this user has too many (486). `Capacity`: the server has too many (508).
 * - `Forbidden` (403), `Unsupported` (400, 420, 440, 442): it does not do what we ask.
 * - `Redirected`: it sends us elsewhere too often, or to no sensible address (300).
 * - `ServerError`: anything else, an answer without what it must hold among it.
 */
export type FailureReason =
  | "Timeout"
  | "Unauthorized"
  | "WrongCredentials"
  | "Mismatch"
  | "Quota"
  | "Capacity"
  | "Forbidden"
  | "Unsupported"
  | "Redirected"
  | "ServerError"

export interface Failure {
  readonly reason: FailureReason
  /** The error code that the server gave. */
  readonly code: number | undefined
  /** ms: when it is tried again. */
  readonly retryAt: number
}

/** The reason that an error code gives. */
export const reasonOf = (code: number): FailureReason => {
  switch (code) {
    case 401:
    case 438:
      return "Unauthorized"
    case 403:
      return "Forbidden"
    case 437:
      return "Mismatch"
    case 441:
      return "WrongCredentials"
    case 486:
      return "Quota"
    case 508:
      return "Capacity"
    case 400:
    case 420:
    case 440:
    case 442:
      return "Unsupported"
    default:
      return "ServerError"
  }
}

const SECOND = 1000
const SOON_MS = 5 * SECOND
/** RFC 8656 section 7.4: not sooner than after a minute. */
const FULL_MS = 60 * SECOND
const REFUSED_MS = 300 * SECOND
const MAX_DOUBLINGS = 4

/** ms to wait after a failure that follows `before` others; `chance` of 0..255 spreads clients by a quarter. */
export const retryAfter = (reason: FailureReason, before: number, chance: number): number =>
  Math.round(wait(reason, before) * (1 + chance / 1024))

const wait = (reason: FailureReason, before: number): number => {
  switch (reason) {
    case "Timeout":
    case "ServerError":
      return Math.min(SOON_MS * 2 ** Math.min(before, MAX_DOUBLINGS), FULL_MS)
    case "Quota":
    case "Capacity":
    case "Mismatch":
    case "WrongCredentials":
      return FULL_MS
    default:
      // Somebody has to change something; that they have, nobody tells.
      return REFUSED_MS
  }
}
