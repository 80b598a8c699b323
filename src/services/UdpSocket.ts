/** UDP sockets that receive and send in batches: one Effect per event-loop turn, not one per datagram. */
import type * as Array from "effect/Array"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Address } from "../domain/protocol/Address.ts"

/** A datagram and its other end: its source when received, its destination when sent. */
export interface Datagram {
  readonly bytes: Uint8Array
  readonly remote: Address
}

/**
 * Datagrams to one address, side by side in `bytes`: each takes `segment` bytes, the last one what is left. Without
 * `segment` it is one datagram.
 */
export interface Burst extends Datagram {
  readonly segment?: number
}

/**
 * - `Busy`: the port is in use (EADDRINUSE).
 * - `Denied`: not allowed to bind here (EACCES).
 * - `Unavailable`: the address is not one of this host (EADDRNOTAVAIL), or sockets of its family do not exist.
 * - `Closed`: the socket's scope has closed.
 */
export class UdpSocketError extends Data.TaggedError("UdpSocketError")<{
  readonly reason: "Busy" | "Denied" | "Unavailable" | "Closed" | "Other"
  /** One line for people: what, where. */
  readonly message: string
  readonly cause?: unknown
}> {}

export interface BindOptions {
  /** Numeric address to bind; `0.0.0.0` for all of IPv4, `::` for all of both families. */
  readonly host: string
  /** 0 lets the system choose. */
  readonly port: number
  /** What the sources of its datagrams have as `via`; an owner of several sockets tells them apart by it. */
  readonly via?: number | undefined
}

export interface BoundSocket {
  readonly address: Address
  /**
   * Waits for a datagram and takes with it all others that have arrived. Fails with `Closed` when the scope closes.
   * The receive queue is bounded: arrivals beyond it are dropped, as a kernel would. Buffers belong to the caller.
   * Datagrams whose source port is 0 cannot be answered and never show up here. IPv4 sources are plain (`192.0.2.1`)
   * also on a dual-stack socket. One reader at a time: a second waits for the next batch.
   */
  readonly receive: Effect.Effect<Array.NonEmptyReadonlyArray<Datagram>, UdpSocketError>
  /**
   * Hands the batch to the network, in order, and completes when there is room for more (backpressure). A datagram that
   * cannot be sent (unreachable, refused, too long, no buffer, port 0, a name instead of a numeric address, a closed
   * socket) is lost silently, as on any network. The buffers are the caller's again once it completes.
   */
  readonly send: (batch: ReadonlyArray<Burst>) => Effect.Effect<void>
  /** Whether datagrams leave with "don't fragment" set, so that a probe of the path's MTU tells the truth (RFC 8899). */
  readonly probes: boolean
  /** Bytes that the kernel keeps until they are read, where it tells. */
  readonly receiveBuffer?: number | undefined
}

export class UdpSocket extends Context.Service<
  UdpSocket,
  {
    /** What it runs on, for `doctor`: "node:dgram", or what is faster. */
    readonly implementation: string
    /** Numeric addresses of this host by which others may reach it: no loopback, no link-local ones. */
    readonly addresses: Effect.Effect<ReadonlyArray<string>>
    /** Binds a socket that closes with the scope. */
    readonly bind: (options: BindOptions) => Effect.Effect<BoundSocket, UdpSocketError, Scope.Scope>
  }
>()("clawchat/services/UdpSocket") {}
