/**
 * Somebody on the other end of our socket who is no peer: a STUN server, a TURN server, a rendezvous. A carrier speaks to
 * it, and some carry datagrams of sessions for us, which then have `via` in their addresses.
 *
 * Sans-IO, as the Endpoint: whoever owns the socket hands it every datagram that comes from one of its `servers`, before
 * anybody else sees it, and drains `pollTransmit` and asks `pollTimeout` after each call. `now` is ms, never going back.
 */
import type { Address } from "./Address.ts"

/** A datagram to send, in a buffer that nobody else writes to. */
export interface Parcel {
  readonly bytes: Uint8Array
  readonly remote: Address
}

export interface Carrier {
  /** Whose datagrams are for this carrier: numeric addresses without `via`. May change between calls. */
  readonly servers: ReadonlyArray<Address>
  /**
   * A datagram from one of `servers`: what it carries for a session, its `remote` with this carrier's `via`;
   * `undefined` when it was for the carrier itself; "foreign" when it is none of its kind and others may look at it.
   */
  readonly handleDatagram: (now: number, remote: Address, bytes: Uint8Array) => Parcel | "foreign" | undefined
  readonly handleTimeout: (now: number) => void
  /** The next datagram of its own to send; `undefined` when there is none. */
  readonly pollTransmit: (now: number) => Parcel | undefined
  /** When to call `handleTimeout`, ms; `Infinity` for never. */
  readonly pollTimeout: () => number
  /** Packs a session's datagram for `remote`, which has this carrier's `via`; `undefined` while it carries none. */
  readonly wrap: (now: number, remote: Address, bytes: Uint8Array) => Parcel | undefined
  /** Its socket is another one from here on, or what lies before it may have changed: our address is to be told anew. */
  readonly moved?: (now: number) => void
  /** The last words, when the socket's owner leaves: drained by `pollTransmit`. */
  readonly close: (now: number) => void
}
