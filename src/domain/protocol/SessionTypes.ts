/** What a session is made of, what it says to its owner, and what it counts. */
import type { Address } from "./Address.ts"
import type { CloseReason } from "./CloseCode.ts"
import type * as Congestion from "./Congestion.ts"
import type { IdSource } from "./ConnectionIds.ts"
import type { Limits } from "./Limits.ts"
import type { DirectionSecrets } from "./PacketWriter.ts"
import type { Entropy, Primitives } from "./Primitives.ts"
import type { StreamEvent } from "./Streams.ts"

/** A datagram to send. */
export interface Transmit {
  readonly bytes: Uint8Array
  readonly remote: Address
}

/** Datagrams to send, side by side: each of `segment` bytes, the last may be shorter. */
export interface Burst {
  readonly remote: Address
  readonly segment: number
}

export interface SessionOptions {
  readonly role: "client" | "server"
  /** On datagrams to us, 8 bytes. */
  readonly localId: Uint8Array
  /** On datagrams to the peer, 8 bytes. */
  readonly remoteId: Uint8Array
  readonly remote: Address
  /** Further connection ids of ours; without it the ids of the handshake stay for life. */
  readonly ids?: IdSource | undefined
  /** How dear a way is: 0 direct, 1 and more relayed, the lower the better; without it every way is direct. */
  readonly rank?: ((remote: Address) => number) | undefined
  /** Which of our sockets new direct paths begin at, its `via`; without it the first. */
  readonly home?: (() => number | undefined) | undefined
  /** Of epoch 0. Keys are taken over: the session wipes them. */
  readonly send: DirectionSecrets
  readonly receive: DirectionSecrets
  /** Of the finished handshake: the root of later keys. Taken over. */
  readonly chainingKey: Uint8Array
  readonly primitives: Primitives
  /** Milliseconds between key rotations; without it `REKEY_INTERVAL_MS`, `Infinity` for never. */
  readonly rekeyIntervalMs?: number | undefined
  /** Packets, and bytes, sealed under one key; without them `REKEY_PACKETS` and `REKEY_BYTES`. */
  readonly rekeyPackets?: number | undefined
  readonly rekeyBytes?: number | undefined
  readonly limits: Limits
  readonly peerLimits: Limits
  readonly entropy: Entropy
  readonly congestion: Congestion.Factory
  /** Milliseconds of silence after which a PING is sent, to begin with (see `Liveness`); `Infinity` for never. */
  readonly keepAliveMs: number
  /** Of a server: milliseconds without a word from its client after which it asks; without it `ASK_MS`. */
  readonly askMs?: number | undefined
  /** Milliseconds without any answer, by any path, after which a client's session is dead; a server waits `ASK_MS` and 5 s more. */
  readonly deadAfterMs: number
  /** Milliseconds that the handshake's round trip took, where it is known already. */
  readonly handshakeMs?: number | undefined
  /** How many times their first size receive windows may grow to; without it `WINDOW_GROWTH`. */
  readonly windowGrowth?: number | undefined
  /** Bytes of the largest datagram worth trying towards an address; without it `MAX_DATAGRAM_LENGTH` for all. */
  readonly datagramCeiling?: ((remote: Address) => number) | undefined
}

export type SessionEvent =
  | StreamEvent
  /** The peer's first authentic packet: the handshake is proven. */
  | { readonly type: "Proven" }
  | { readonly type: "Datagram"; readonly data: Uint8Array }
  /** The peer owes an answer for `STALL_MS`; `Recovered` when it was heard again. */
  | { readonly type: "Stalled" | "Recovered" }
  /** Another path is used: the peer moved, or we did. */
  | { readonly type: "PathChanged"; readonly remote: Address }
  /** A way that was in use, or tried, does not answer. */
  | { readonly type: "PathFailed"; readonly remote: Address }
  /** The server will be at this port of the same host, in so many ms. */
  | { readonly type: "PortAnnounced"; readonly port: number; readonly inMs: number }
  /** Where the peer may be reached, too: being tried already. */
  | { readonly type: "Candidates"; readonly addresses: ReadonlyArray<Address> }
  /** Where our packets come from, as the peer sees it. */
  | { readonly type: "Observed"; readonly address: Address }
  /** Both ends seal under the keys of a new epoch. */
  | { readonly type: "Rekeyed"; readonly epoch: number }
  /** The peer has burned its secrets; 32 bytes, and where it may be told that we heard. */
  | { readonly type: "Compromised"; readonly token: Uint8Array; readonly remote: Address }
  | { readonly type: "Closed"; readonly reason: CloseReason }

/** A way to the peer, for people to look at; `rttMs` is 0 before it was measured. */
export interface PathView {
  readonly remote: Address
  readonly state: "validating" | "validated" | "active" | "failed"
  readonly rttMs: number
  readonly relayed: boolean
}

/** What became of a datagram; everything but `accepted` left no trace but a counter. */
export type Outcome = "accepted" | "unopened" | "replayed" | "ignored"

/** Counters since the start; `rttMs` is 0 before the first sample. */
export interface Stats {
  readonly sentPackets: number
  readonly sentBytes: number
  readonly receivedPackets: number
  readonly receivedBytes: number
  readonly lostPackets: number
  readonly unopened: number
  readonly replayed: number
  readonly rttMs: number
  readonly minRttMs: number
  readonly congestionWindow: number
  readonly bytesInFlight: number
  /** Streams that are not over in both directions. */
  readonly openStreams: number
  /** Bytes of a full datagram on this path. */
  readonly datagramBytes: number
  /** Of the keys under which we seal: how many times they were replaced. */
  readonly epoch: number
}

export const NO_STATS: Stats = {
  sentPackets: 0,
  sentBytes: 0,
  receivedPackets: 0,
  receivedBytes: 0,
  lostPackets: 0,
  unopened: 0,
  replayed: 0,
  rttMs: 0,
  minRttMs: 0,
  congestionWindow: 0,
  bytesInFlight: 0,
  openStreams: 0,
  datagramBytes: 0,
  epoch: 0
}
