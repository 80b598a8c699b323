/**
 * Sessions over UDP: `listen` waits for devices that are expected, `connect` reaches a server. What the protocol core
 * decides is hidden behind connections, streams and typed errors; nothing here knows what flows over them.
 */
import type * as Array from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Address } from "../domain/protocol/Address.ts"
import type { SeenNonce } from "../domain/protocol/Admissions.ts"
import type { CloseReason } from "../domain/protocol/CloseCode.ts"
import type { Admission, Invitation } from "../domain/protocol/Credential.ts"
import type { Caller, Drops } from "../domain/protocol/Endpoint.ts"
import type { Enrolment } from "../domain/protocol/HandshakeMessage.ts"
import type { HintState } from "../domain/protocol/HintCounter.ts"
import type { KeyPair } from "../domain/protocol/Primitives.ts"
import type { Stats } from "../domain/protocol/Session.ts"
import type { Priority } from "../domain/protocol/Streams.ts"
import type { BindOptions, UdpSocketError } from "./UdpSocket.ts"

/**
 * - `Bind`: no socket; `cause` says why.
 * - `NoAnswer`: nobody answered in time: wrong address, wrong credential and a server that is away look all the same.
 * - `Silent`: the server answered and never spoke again: it stopped just then, or it did not take us on. The next attempt
 *   tells.
 * - `Keep`: what the answer brought could not be put on disk, so nothing more was sent.
 * - `Closed`: the connection is over; `close` says how.
 * - `Reset`: the peer gave up sending on this stream; `Stopped`: it gave up reading. `code` is the application's.
 */
export class TransportError extends Data.TaggedError("TransportError")<{
  readonly reason: "Bind" | "NoAnswer" | "Silent" | "Keep" | "Closed" | "Reset" | "Stopped"
  /** One line for people. */
  readonly message: string
  readonly code?: number
  readonly close?: CloseReason
  readonly cause?: UdpSocketError
}> {}

/** One ordered, reliable stream of bytes each way. */
export interface TransportStream {
  readonly id: number
  /** Waits for bytes; ends with `Done` at the peer's end of stream. One reader at a time. */
  readonly read: Effect.Effect<Array.NonEmptyReadonlyArray<Uint8Array>, TransportError | Cause.Done>
  /** Queues bytes, kept by reference; completes when there is room for more. */
  readonly write: (bytes: Uint8Array) => Effect.Effect<void, TransportError>
  /** Ends our half after what was written. */
  readonly finish: Effect.Effect<void>
  /** Gives up our half at once. */
  readonly reset: (code: number) => Effect.Effect<void>
  /** Gives up the peer's half at once. */
  readonly stop: (code: number) => Effect.Effect<void>
  readonly setPriority: (priority: Priority) => Effect.Effect<void>
}

export interface Connection {
  /** The credential's id that was used: the device's id. 16 bytes, in hexadecimal. */
  readonly credential: string
  /** As the device names itself; empty for a connection that we made. */
  readonly deviceName: string
  readonly remote: Effect.Effect<Address>
  /** Waits while the peer allows no more streams. */
  readonly open: (priority: Priority) => Effect.Effect<TransportStream, TransportError>
  /** Waits for the peer to open one. */
  readonly accept: Effect.Effect<TransportStream, TransportError>
  /** False when it is too long or too many wait. */
  readonly sendDatagram: (bytes: Uint8Array) => Effect.Effect<boolean, TransportError>
  readonly receiveDatagram: Effect.Effect<Uint8Array, TransportError>
  readonly stats: Effect.Effect<Stats>
  /** Waits until the peer has owed an answer for some seconds: time to try another way. */
  readonly stalled: Effect.Effect<void>
  /** Waits until the peer owes nothing for long. */
  readonly answering: Effect.Effect<void>
  /** Waits for the end. */
  readonly closed: Effect.Effect<CloseReason>
  readonly close: (code: number, reason: string) => Effect.Effect<void>
}

/** How patient sessions are; ms. */
export interface Patience {
  readonly keepAliveMs: number
  readonly deadAfterMs: number
  readonly idleTimeoutMs: number
}

/** What a listener noticed that its owner may want on record. */
export type Notice =
  | { readonly type: "Stranger"; readonly admission: Admission; readonly remote: Address }
  | { readonly type: "Full"; readonly admission: Admission; readonly remote: Address }
  | { readonly type: "Opened" | "Refused"; readonly caller: Caller }

export interface ListenOptions {
  readonly bind: BindOptions
  readonly identity: KeyPair
  readonly patience: Patience
  /**
   * Bytes that one stream takes in unread. All streams of a session share 8 MiB: where they belong to several parties, it
   * must be small enough that none of them can use up what the others need. When not given, 8 MiB of 16 MiB, and both
   * double, once, where that makes a fast reader on a long path faster.
   */
  readonly streamWindow?: number
  readonly maxSessions: number
  /** Whom to expect: the whole list, at start and at every change. */
  readonly admissions: Stream.Stream<ReadonlyArray<Admission>>
  /** Nonces seen by earlier processes. */
  readonly seenNonces: ReadonlyArray<SeenNonce>
  /** Puts a nonce on record before its answer leaves. */
  readonly remember: (seen: SeenNonce) => Effect.Effect<void>
  /** What a device that comes with a file is told in the answer. */
  readonly enrolment: Effect.Effect<Enrolment>
  /** Commits enrolment and burn; false refuses in silence. */
  readonly enrol: (caller: Caller) => Effect.Effect<boolean>
  readonly notice: (notice: Notice) => Effect.Effect<void>
}

export interface Listener {
  readonly address: Address
  readonly accept: Effect.Effect<Connection, TransportError>
  /** Counters of datagrams that led nowhere. */
  readonly drops: Effect.Effect<Drops>
  /** Sessions, half-open ones included. */
  readonly sessions: Effect.Effect<number>
}

/** What the server's answer brought. */
export interface Answered {
  /** Which invitation was taken. */
  readonly invitation: number
  readonly enrolment: Enrolment | undefined
  /** Our address as the server saw it. */
  readonly observed: Address
  /** The server's address that answered. */
  readonly remote: Address
  /** Clock offset that worked, ms. */
  readonly skewMs: number
}

export interface ConnectOptions {
  /** Tried in turn; at least one. */
  readonly invitations: Array.NonEmptyReadonlyArray<Invitation>
  readonly identity: KeyPair
  readonly deviceName: string
  readonly patience: Patience
  /** As in `ListenOptions`. */
  readonly streamWindow?: number
  /** Milliseconds until `NoAnswer`. */
  readonly timeoutMs: number
  readonly skewMs: number
  /** Whether to try other clocks when nothing answers; not where both ends share one. Default true. */
  readonly sweeps?: boolean
  /** Where each invitation's hints stand, kept by the owner so that none is ever shown twice. */
  readonly hints: ReadonlyArray<HintState | undefined>
  readonly keepHints: (states: ReadonlyArray<HintState | undefined>) => Effect.Effect<void>
  /** Puts an enrolment on disk; only then does the first transport packet leave. */
  readonly answered: (answered: Answered) => Effect.Effect<void, TransportError>
}

export class Transport extends Context.Service<
  Transport,
  {
    /** Listens until the scope closes; then every session is told. */
    readonly listen: (options: ListenOptions) => Effect.Effect<Listener, TransportError, Scope.Scope>
    /** One connection, proven by both sides, closed with the scope. */
    readonly connect: (options: ConnectOptions) => Effect.Effect<Connection, TransportError, Scope.Scope>
  }
>()("clawchat/services/Transport") {}
