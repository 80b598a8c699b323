/** What an endpoint is given, what it tells, and what it counts. */
import type { Address } from "./Address.ts"
import type { SeenNonce } from "./Admissions.ts"
import type { CloseReason } from "./CloseCode.ts"
import type * as Congestion from "./Congestion.ts"
import type { Admission } from "./Credential.ts"
import type { Enrolment } from "./HandshakeMessage.ts"
import type { Limits } from "./Limits.ts"
import type { Entropy, KeyPair, Primitives } from "./Primitives.ts"
import type { SessionEvent, Stats } from "./SessionTypes.ts"

export interface EndpointOptions {
  readonly primitives: Primitives
  readonly entropy: Entropy
  /** Our static key pair: whom clients reach, or who a client is. */
  readonly identity: KeyPair
  readonly limits: Limits
  /** How many times their first size receive windows may grow to; without it `WINDOW_GROWTH`. */
  readonly windowGrowth?: number | undefined
  readonly congestion: Congestion.Factory
  readonly keepAliveMs: number
  readonly deadAfterMs: number
  /** Sessions at a time, half-open ones included. */
  readonly maxSessions: number
  /** Which of our sockets new direct paths begin at, its `via`; without it the first. */
  readonly home?: (() => number | undefined) | undefined
  /** What may be told of an address: of one by a relay, the relay's own; without it every address as it is. */
  readonly facing?: ((remote: Address) => Address) | undefined
  /** Of a server: milliseconds without a word from its client after which it asks. */
  readonly askMs?: number | undefined
  /** How dear a way is: 0 direct, 1 and more relayed; without it all are direct. */
  readonly rank?: ((remote: Address) => number) | undefined
  /** Bytes of the largest datagram worth trying towards an address; without it `MAX_DATAGRAM_LENGTH` for all. */
  readonly datagramCeiling?: ((remote: Address) => number) | undefined
  /** Milliseconds between a session's key rotations; without it `REKEY_INTERVAL_MS`, `Infinity` for never. */
  readonly rekeyIntervalMs?: number | undefined
}

/** Names a session, an initiation or a dial of this endpoint; never used twice. */
export type Handle = number

/** Somebody who opened an initiation with a live credential. */
export interface Caller {
  readonly admission: Admission
  readonly staticKey: Uint8Array
  /** As the device names itself. */
  readonly deviceName: string
  readonly remote: Address
  /** How far its clock is ahead of ours, ms; the time that its initiation took is in it. */
  readonly skewMs: number
}

export type EndpointEvent =
  | {
      readonly type: "Initiation"
      readonly initiation: Handle
      readonly admission: Admission
      readonly staticKey: Uint8Array
      readonly seen: SeenNonce
      readonly deviceName: string
      /** The client's clock, ms since 1970. */
      readonly wallMs: number
      readonly remote: Address
    }
  /** A file's first packet: its device is to be enrolled before it hears from us. */
  | ({ readonly type: "Enrolling"; readonly session: Handle } & Caller)
  | {
      readonly type: "Answered"
      readonly dial: Handle
      readonly session: Handle
      /** Which of the dial's invitations was taken. */
      readonly invitation: number
      readonly skewMs: number
      readonly observed: Address
      readonly remote: Address
      readonly enrolment: Enrolment | undefined
    }
  | { readonly type: "DialFailed"; readonly dial: Handle; readonly rounds: number }
  /** Both sides know that the other holds the keys. */
  | {
      readonly type: "Connected"
      readonly session: Handle
      /** Absent for a session we dialled. */
      readonly caller: Caller | undefined
    }
  | { readonly type: "Session"; readonly session: Handle; readonly event: SessionEvent }
  | { readonly type: "Closed"; readonly session: Handle; readonly reason: CloseReason; readonly stats: Stats }
  /** Somebody holds a credential that is not theirs: a burnt file, or a device's psk without its key. */
  | {
      readonly type: "Stranger"
      readonly admission: Admission
      readonly staticKey: Uint8Array
      readonly remote: Address
    }
  | { readonly type: "Full"; readonly admission: Admission; readonly remote: Address }

/** What a session's peer is told when we burn our secrets, sealed while there were keys. */
export interface Notification {
  readonly remote: Address
  /** Copies, to be sent at `Compromise.NOTIFY_AT_MS`. */
  readonly datagrams: ReadonlyArray<Uint8Array>
  /** SHA-256 of the acknowledgement. */
  readonly expected: Uint8Array
}

/** Datagrams that led nowhere, by reason. */
export interface Drops {
  unknown: number
  forged: number
  repeated: number
  expired: number
  overBudget: number
  badHandshake: number
  stranger: number
  full: number
  unopened: number
  replayed: number
}
