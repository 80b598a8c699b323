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
import type { Carrier } from "../domain/protocol/Carrier.ts"
import type { CloseReason } from "../domain/protocol/CloseCode.ts"
import type { Admission, Invitation } from "../domain/protocol/Credential.ts"
import type { Caller, Drops } from "../domain/protocol/EndpointTypes.ts"
import type { Enrolment } from "../domain/protocol/HandshakeMessage.ts"
import type { HintState } from "../domain/protocol/HintCounter.ts"
import type { KeyPair } from "../domain/protocol/Primitives.ts"
import type { PathView, SessionEvent, Stats } from "../domain/protocol/SessionTypes.ts"
import type { Priority, StreamEvent } from "../domain/protocol/Streams.ts"
import type { BindOptions, UdpSocketError } from "./UdpSocket.ts"

/**
 * - `Bind`: no socket; `cause` says why.
 * - `NoAnswer`: nobody answered in time: wrong address, wrong credential and a server that is away look all the same.
 * - `Silent`: the server answered and never spoke again: it stopped just then, or it did not take us on. The next attempt
 *   tells.
 * - `Keep`: what the answer brought could not be put on disk, so nothing more was sent.
 * - `Closed`: the connection is over; `close` says how.
 * - `Reset`: the peer gave up sending on this stream; `Stopped`: it gave up reading. `code` is the application's.
 * - `Seal`: what came on a sealed stream was changed, left out, repeated or cut off on its way.
 */
export class TransportError extends Data.TaggedError("TransportError")<{
  readonly reason: "Bind" | "NoAnswer" | "Silent" | "Keep" | "Closed" | "Reset" | "Stopped" | "Seal"
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

/** A peer's word that it has burned its secrets, as it came in on a session. */
export interface Compromised {
  /** The credential of the session: 16 bytes, in hexadecimal. */
  readonly credential: string
  /** 32 bytes: what the acknowledgement is derived from. */
  readonly token: Uint8Array
  readonly remote: Address
}

/** What is left of an endpoint whose keys are wiped: sealed words, the hashes of their answers, and a socket. */
export interface LastWords {
  /** Sessions that are told. */
  readonly notified: number
  /** Sends all copies of what was sealed; completes when the last one has left. */
  readonly send: Effect.Effect<void>
  /** Completes when all who are told have acknowledged, at once when nobody is; else waits for ever. */
  readonly acknowledged: Effect.Effect<void>
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
  /** What happened to its paths and keys since this was asked last, one at a time; the oldest of too many are forgotten. */
  readonly happened: Effect.Effect<Happening, TransportError>
  /** Where this host is reached on the connection's port, as its interfaces have it now. */
  readonly local: Effect.Effect<ReadonlyArray<Address>>
  /** Lets a carrier speak through the connection's socket until the scope closes. */
  readonly carry: (make: (via: number) => Carrier) => Effect.Effect<void, never, Scope.Scope>
  /** Every way that leads, or may lead, to the peer. */
  readonly paths: Effect.Effect<ReadonlyArray<PathView>>
  /** Tells the peer where else we may be reached, at most 8 addresses; both ends try them at once. */
  readonly offer: (addresses: ReadonlyArray<Address>) => Effect.Effect<void>
  /** Our own address, or what lies before it, has changed: the path is proven anew at once. */
  readonly rebind: Effect.Effect<void>
  /** Changes the keys now. */
  readonly rekey: Effect.Effect<void>
  /**
   * Forgets all keys of this end at once; then the connection is over for all who use it. What is left tells the peer that
   * our secrets are burned.
   */
  readonly compromise: Effect.Effect<LastWords>
  /** Waits for the peer to say that its secrets are burned. */
  readonly compromised: Effect.Effect<Compromised>
  /** Forgets all keys of this end; what is left tells the peer that we heard. */
  readonly acknowledge: (told: Compromised) => Effect.Effect<LastWords>
  /** Waits for the end. */
  readonly closed: Effect.Effect<CloseReason>
  readonly close: (code: number, reason: string) => Effect.Effect<void>
}

/** Something that happened to a connection beside its streams. */
export type Happening = Exclude<
  SessionEvent,
  StreamEvent | { readonly type: "Proven" | "Datagram" | "Stalled" | "Recovered" | "Closed" | "Compromised" }
>

/** One way to the server as a dial tries it: directly, or by a relay. */
export interface Progress {
  /** As the ride calls itself; `undefined`: directly. */
  readonly relay: string | undefined
  /** - `waiting`: the relay does not carry anything yet. - `trying`: initiations go there. - `answered`: the server did. */
  readonly state: "waiting" | "trying" | "answered"
  /** Where initiations go, or where the answer came from. */
  readonly remotes: ReadonlyArray<Address>
}

/** A dial's socket, for what has to be done while nobody answers. */
export interface Dialling extends Pick<Connection, "local" | "carry"> {
  /** As it is bound. */
  readonly address: Address
}

/** A relay that we are known to: how it is spoken to, and where the server is by it. */
export interface Ride {
  /** For people: its kind and address. */
  readonly name: string
  /** Which of the invitations leads to the same server. */
  readonly invitation: number
  /** Makes the carrier whose addresses have this `via`. */
  readonly make: (via: number) => {
    readonly carrier: Carrier
    /** Where the server is by this relay, with its `via`; nothing while that is not known. */
    readonly peers: () => ReadonlyArray<Address>
    /** Our own address as the relay sees it, once it does. */
    readonly observed?: () => Address | undefined
  }
}

/** One more port of a listener. */
export interface OpenPort {
  readonly address: Address
  /** What its addresses have as `via`. */
  readonly via: number
  /** Sessions whose path leads through it now. */
  readonly sessions: Effect.Effect<number>
  readonly close: Effect.Effect<void>
}

/** How patient sessions are; ms. */
export interface Patience {
  readonly keepAliveMs: number
  readonly deadAfterMs: number
  readonly idleTimeoutMs: number
  /** Of a listener: how long a device may be silent before it is asked; long where nothing before us forgets who it was. */
  readonly askMs?: number
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
  /** Milliseconds between two changes of a session's keys; an hour if not given. */
  readonly rekeyIntervalMs?: number | undefined
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
  /** Of the first port. */
  readonly address: Address
  /** This host's addresses, as its interfaces have them now; only the one that is bound, if it is one. */
  readonly hosts: Effect.Effect<ReadonlyArray<string>>
  /** The first port, to be closed when devices have moved to another. */
  readonly first: OpenPort
  /** Opens one more port on the same address; 0 lets the system choose. It closes with the listener, if not before. */
  readonly open: (port: number) => Effect.Effect<OpenPort, TransportError>
  /** Carriers of one port speak through another from here on, and new paths begin there. */
  readonly move: (from: OpenPort, to: OpenPort) => Effect.Effect<void>
  /** Sends these bytes from the port that new paths begin at to each address: what lies before it will let answers in. */
  readonly punch: (addresses: ReadonlyArray<Address>, bytes: Uint8Array) => Effect.Effect<void>
  /** Tells every session that the server will be at this port in `inMs`. */
  readonly announce: (port: number, inMs: number) => Effect.Effect<void>
  /** Lets a carrier speak through a port, the first one if not said otherwise, until the scope closes. */
  readonly carry: (make: (via: number) => Carrier, port?: OpenPort) => Effect.Effect<void, never, Scope.Scope>
  /** As for a connection, for all sessions; those in `told` are answered instead of told. */
  readonly compromise: (told: ReadonlyArray<Compromised>) => Effect.Effect<LastWords>
  /** Waits for one who says that its secrets are burned. */
  readonly compromised: Effect.Effect<Compromised>
  /** Forgets that device's sessions without a word but the acknowledgement; the listener goes on. */
  readonly acknowledge: (told: Compromised) => Effect.Effect<void>
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
  /** Relays to be tried beside the addresses of the invitations, and left when a direct way is found. */
  readonly rides?: ReadonlyArray<Ride>
  /** Runs beside the dial, in the connection's scope; when it fails, so does the dial. */
  readonly dialling?: (socket: Dialling) => Effect.Effect<void, TransportError, Scope.Scope>
  /** Told what becomes of each way; must not wait. */
  readonly progress?: (progress: Progress) => void
  /** As in `ListenOptions`. */
  readonly rekeyIntervalMs?: number | undefined
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
