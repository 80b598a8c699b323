/** What a TURN client sends (RFC 8656): its requests, Send indications, ChannelData. */
import type { Address } from "./Address.ts"
import type { LongTermAuth } from "./LongTermAuth.ts"
import * as Stun from "./StunMessage.ts"
import type { Channel, Permission } from "./TurnPeers.ts"

const { Attribute, Method } = Stun

/** Seconds: what we ask for, the default of RFC 8656 section 3.2. */
export const LIFETIME_S = 600
export const CHANNEL_HEADER = 4
/** REQUESTED-TRANSPORT: 17 is UDP; REQUESTED-ADDRESS-FAMILY (RFC 8656 sections 18.8, 18.6). */
const TRANSPORT_UDP = Uint8Array.of(17, 0, 0, 0)
const FAMILY = { 4: Uint8Array.of(1, 0, 0, 0), 6: Uint8Array.of(2, 0, 0, 0) }
/** Bytes: room that ChannelData is cut from. */
const SLAB = 65_536
/** Bytes around the data of a Send indication: header, an IPv6 peer, the data's own header and padding. */
const INDICATION_OVERHEAD = Stun.HEADER_LENGTH + 24 + 8

/** What a request is for. `Release` ends the allocation. */
export type Purpose =
  | { readonly type: "Allocate" | "Refresh" | "Release" }
  | { readonly type: "Permission"; readonly permission: Permission }
  | { readonly type: "Channel"; readonly channel: Channel }

export const ALLOCATE: Purpose = { type: "Allocate" }
export const REFRESH: Purpose = { type: "Refresh" }
export const RELEASE: Purpose = { type: "Release" }

/** A request, signed as far as `auth` can; `family` is the relayed address's, the server's choice without it. */
export const request = (
  auth: LongTermAuth,
  purpose: Purpose,
  id: Uint8Array,
  family: 4 | 6 | undefined
): Uint8Array => {
  switch (purpose.type) {
    case "Allocate": {
      const writer = new Stun.StunWriter("request", Method.allocate, id)
      writer.attribute(Attribute.requestedTransport, TRANSPORT_UDP).u32(Attribute.lifetime, LIFETIME_S)
      if (family !== undefined) writer.attribute(Attribute.requestedAddressFamily, FAMILY[family])
      return auth.sign(writer)
    }
    case "Refresh":
    case "Release": {
      const writer = new Stun.StunWriter("request", Method.refresh, id)
      return auth.sign(writer.u32(Attribute.lifetime, purpose.type === "Refresh" ? LIFETIME_S : 0))
    }
    case "Permission": {
      const writer = new Stun.StunWriter("request", Method.createPermission, id)
      // Only the host counts (section 9.1).
      return auth.sign(writer.xorAddress(Attribute.xorPeerAddress, { host: purpose.permission.host, port: 1 }))
    }
    case "Channel": {
      const { number, remote } = purpose.channel
      const writer = new Stun.StunWriter("request", Method.channelBind, id)
      writer.attribute(Attribute.channelNumber, Uint8Array.of(number >> 8, number, 0, 0))
      return auth.sign(writer.xorAddress(Attribute.xorPeerAddress, remote))
    }
  }
}

/** A datagram for a peer without a channel. */
export const sendIndication = (id: Uint8Array, peer: Address, bytes: Uint8Array): Uint8Array =>
  new Stun.StunWriter("indication", Method.send, id, bytes.length + INDICATION_OVERHEAD)
    .xorAddress(Attribute.xorPeerAddress, peer)
    .attribute(Attribute.data, bytes)
    .finish()

/** Datagrams for peers with a channel, each in a piece of its own of a room that is replaced when it is full. */
export class ChannelWriter {
  #slab = new Uint8Array(0)
  #at = 0

  /** ChannelData, without padding: UDP needs none (RFC 8656 section 12.5). */
  write(number: number, bytes: Uint8Array): Uint8Array {
    const { length } = bytes
    const needed = CHANNEL_HEADER + length
    if (this.#at + needed > this.#slab.length) {
      this.#slab = new Uint8Array(Math.max(SLAB, needed))
      this.#at = 0
    }
    const out = this.#slab.subarray(this.#at, this.#at + needed)
    this.#at += needed
    out[0] = number >> 8
    out[1] = number
    out[2] = length >> 8
    out[3] = length
    out.set(bytes, CHANNEL_HEADER)
    return out
  }
}
