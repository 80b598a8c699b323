/** Why a session ends, as CLOSE carries it. Codes from 256 on belong to the application. */

export const CloseCode = {
  /** The work is done. */
  None: 0,
  /** The peer broke the protocol: a malformed frame, an impossible acknowledgement. */
  Protocol: 1,
  FlowControl: 2,
  StreamLimit: 3,
  FinalSize: 4,
  /** This side is shutting down; connecting again later may succeed. */
  GoingAway: 5,
  /** A newer session of the same device took this one's place. */
  Replaced: 6,
  /** The device's credential was revoked. */
  Revoked: 7,
  /** The packet numbers of the session are used up. */
  Exhausted: 8,
  /** The server has as many sessions as it takes; trying again later may succeed. */
  Busy: 9
} as const

export type CloseCode = (typeof CloseCode)[keyof typeof CloseCode]

/** How a session ended. `timeout` names what was waited for in vain. */
export type CloseReason =
  | { readonly by: "local" | "peer"; readonly code: number; readonly reason: string }
  | { readonly by: "timeout"; readonly what: "idle" | "dead" }
