/**
 * A TURN client over UDP (RFC 8656) on our own socket: one allocation on one server, kept while the carrier lives. What a
 * session sends to an address with this carrier's `via` leaves through it, and what peers send to the relayed address
 * comes back with that `via`.
 *
 * A server permits peers by IP address. When both ends of a session allocate on one server, each permits the other by
 * permitting the server's relays, and so every allocation permits the host of its own relayed address.
 *
 * It is refreshed every 20 s, far more often than its life asks for: one small request keeps the NAT's mapping, finds out
 * within that time that the server was restarted or that our address changed (437), and sooner when what is sent stays
 * without any answer. A new allocation is made then, with another relayed address.
 *
 * Order of the poll methods: as in `Carrier`; what `wrap` answers leaves after what `pollTransmit` has by then.
 */
import { type Address, equals, isLoopback } from "./Address.ts"
import { canonicalHost } from "./AddressCodec.ts"
import type { Carrier, Parcel } from "./Carrier.ts"
import type { LongTermCredentials } from "./LongTermAuth.ts"
import * as Stun from "./StunMessage.ts"
import { type Access, TurnAccess } from "./TurnAccess.ts"
import { type DialogueOptions, type Outcome, TurnDialogue } from "./TurnDialogue.ts"
import { type Failure, type FailureReason, reasonOf, retryAfter } from "./TurnFailure.ts"
import type { Channel } from "./TurnPeers.ts"
import * as TurnWriter from "./TurnWriter.ts"

type Purpose = TurnWriter.Purpose
const { Attribute, Method } = Stun
const { ALLOCATE, CHANNEL_HEADER, LIFETIME_S, REFRESH, RELEASE } = TurnWriter

const SECOND = 1000
/** Seconds that we take for an answer. */
const MIN_LIFETIME_S = 10
const MAX_LIFETIME_S = 3600
/** ms between refreshes; see above. */
const CHECK_MS = 20 * SECOND
/** ms of sending into silence after which the allocation is looked after. */
const SILENCE_MS = 2 * SECOND
/** Datagrams that wait for the allocation, and ms for which they do. */
const MAX_HELD = 8
const HELD_MS = 3 * SECOND
/** Servers that send us on to others. */
const MAX_REDIRECTS = 2
/** Copies of the request that ends the allocation: nobody will be there to repeat it. */
const RELEASE_COPIES = 2

export type State = "Allocating" | "Allocated" | "Failed" | "Closed"

/** Datagrams that led nowhere. */
export interface TurnDrops {
  /** A response to a signed request that is not signed under the password. */
  forged: number
  /** Not readable, or without what it must hold. */
  malformed: number
  /** Relayed from a host that we did not permit. */
  unpermitted: number
  /** Handed in for a peer that the server refuses, or while there is no allocation. */
  unsent: number
}

/** `server` is numeric and without `via`; `family` is the server's choice (IPv4, RFC 8656 section 7.1) when not given. */
export interface Options extends DialogueOptions {
  /** What addresses behind this relay bear; not 0. */
  readonly via: number
  /** Asked for each new allocation: credentials that were minted for a time may be others then. */
  readonly credentials: () => LongTermCredentials
  /** ms between refreshes; default `CHECK_MS`. */
  readonly checkMs?: number | undefined
}

export class TurnClient implements Carrier {
  readonly via: number
  readonly drops: TurnDrops = { forged: 0, malformed: 0, unpermitted: 0, unsent: 0 }
  readonly #options: Options
  readonly #dialogue: TurnDialogue
  readonly #access: TurnAccess
  readonly #writer = new TurnWriter.ChannelWriter()
  readonly #held: Array<Parcel & { readonly since: number }> = []
  #state: State = "Allocating"
  #failure: Failure | undefined
  #relayed: Address | undefined
  #reflexive: Address | undefined
  #changes = 0
  /** ms: the allocation's end, the next refresh, the next try; the server's last sign of life. */
  #expiresAt = Number.POSITIVE_INFINITY
  #checkAt = Number.POSITIVE_INFINITY
  #retryAt = Number.POSITIVE_INFINITY
  /** ms: since when we have sent without hearing anything. */
  #silentSince = Number.POSITIVE_INFINITY
  #redirects = 0
  #failures = 0
  /** Whether this attempt has removed an older allocation of ours. */
  #released = false
  #deadline = 0

  /** Allocates at once. */
  constructor(now: number, options: Options) {
    this.via = options.via
    this.#options = options
    this.#dialogue = new TurnDialogue(options, options.credentials())
    this.#access = new TurnAccess(this.#dialogue, options.via)
    this.#dialogue.ask(now, ALLOCATE)
    this.#settle()
  }

  // -- what owners see ------------------------------------------------------------------------------------------------

  get servers(): ReadonlyArray<Address> {
    return this.#dialogue.servers
  }

  get state(): State {
    return this.#state
  }

  /** Where peers reach us through the server, as they see it (without `via`); while there is an allocation. */
  get relayed(): Address | undefined {
    return this.#relayed
  }

  /** Our address as the server sees it. */
  get reflexive(): Address | undefined {
    return this.#reflexive
  }

  /** Why there is no allocation, or why the last try failed while another one is under way. */
  get failure(): Failure | undefined {
    return this.#failure
  }

  /** Grows whenever `state`, `relayed`, `reflexive` or `failure` changes. */
  get changes(): number {
    return this.#changes
  }

  /** Keeps a permission for a host, over new allocations too; false when it is no address or too many are kept. */
  permit(now: number, host: string): boolean {
    const canonical = canonicalHost(host)
    if (canonical === undefined || this.#state === "Closed") return false
    const done = this.#access.permit(now, canonical, true) !== undefined
    this.#settle()
    return done
  }

  /** What has become of a permission. */
  permission(host: string): Access {
    return this.#access.access(canonicalHost(host) ?? host)
  }

  /** The network may have changed: looks after the allocation at once, or tries again to have one. */
  check(now: number): void {
    if (this.#state === "Failed") this.#allocate(now)
    else if (this.#state === "Allocated" && !this.#dialogue.isAsking("Refresh")) this.#refresh(now)
    this.#settle()
  }

  // -- Carrier --------------------------------------------------------------------------------------------------------

  handleDatagram(now: number, remote: Address, bytes: Uint8Array): Parcel | "foreign" | undefined {
    if (this.#state === "Closed" || !equals(remote, this.#dialogue.server)) return "foreign"
    const first = bytes[0] ?? 0xff
    if (first >= 0x40 && first < 0x50) return this.#onChannelData(now, bytes)
    if (!Stun.looksLikeStun(bytes)) return "foreign"
    const message = Stun.decode(bytes)
    if (message === undefined) {
      this.drops.malformed++
      return "foreign"
    }
    if (message.class === "indication" && message.method === Method.data) return this.#onData(now, message)
    if (message.class !== "success" && message.class !== "error") return "foreign"
    const outcome = this.#dialogue.handleResponse(now, message)
    if (outcome.type === "Foreign") return "foreign"
    this.#onOutcome(now, outcome)
    this.#settle()
    return undefined
  }

  handleTimeout(now: number): void {
    if (now < this.#deadline) return
    for (let purpose = this.#dialogue.handleTimeout(now); purpose !== undefined; ) {
      this.#onTimeout(now, purpose)
      purpose = this.#dialogue.handleTimeout(now)
    }
    if (this.#state === "Failed" && now >= this.#retryAt) this.#allocate(now)
    if (this.#state === "Allocated") {
      if (now >= this.#expiresAt) this.#allocateAnew(now)
      else {
        if (now >= this.#checkAt && !this.#dialogue.isAsking("Refresh")) this.#refresh(now)
        this.#access.handleTimeout(now)
      }
    }
    this.#settle()
  }

  pollTransmit(_now: number): Parcel | undefined {
    return this.#dialogue.poll()
  }

  pollTimeout(): number {
    return this.#deadline
  }

  wrap(now: number, remote: Address, bytes: Uint8Array): Parcel | undefined {
    const relayed = this.#relayed
    if (relayed === undefined) {
      this.#hold(now, remote, bytes)
      return undefined
    }
    if (now - this.#silentSince >= SILENCE_MS) this.#onSilence(now)
    else if (this.#silentSince === Number.POSITIVE_INFINITY) this.#silentSince = now
    const channel = this.#access.peers.channelOf(remote)
    if (channel !== undefined && channel.standing === "Good" && now < channel.until) {
      channel.usedAt = now
      return { bytes: this.#writer.write(channel.number, bytes), remote: this.#dialogue.server }
    }
    const parcel = this.#wrapSlowly(now, relayed, channel, remote, bytes)
    this.#settle()
    return parcel
  }

  moved(now: number): void {
    this.check(now)
  }

  close(_now: number): void {
    if (this.#state === "Closed") return
    const mayExist = this.#dialogue.signs && (this.#state === "Allocated" || this.#dialogue.isAsking("Allocate"))
    this.#dialogue.drop("all")
    if (mayExist) this.#dialogue.tell(RELEASE, RELEASE_COPIES)
    this.#dialogue.forget()
    this.#leave("Closed")
    this.#settle()
  }

  // -- what the server sends ------------------------------------------------------------------------------------------

  #onChannelData(now: number, bytes: Uint8Array): Parcel | "foreign" | undefined {
    if (bytes.length < CHANNEL_HEADER) return "foreign"
    const channel = this.#access.peers.channelNumbered(((bytes[0] as number) << 8) | (bytes[1] as number))
    const end = CHANNEL_HEADER + (((bytes[2] as number) << 8) | (bytes[3] as number))
    // Padding behind it is allowed (RFC 8656 section 12.5), a cut is not.
    if (channel === undefined || end > bytes.length) return "foreign"
    channel.usedAt = now
    this.#silentSince = Number.POSITIVE_INFINITY
    return { bytes: bytes.subarray(CHANNEL_HEADER, end), remote: channel.remote }
  }

  #onData(now: number, message: Stun.Message): Parcel | undefined {
    const peer = Stun.xorAddress(message, Attribute.xorPeerAddress)
    const data = Stun.value(message, Attribute.data)
    if (peer === undefined || data === undefined) {
      this.drops.malformed++
      return undefined
    }
    if (this.#state !== "Allocated" || !this.#access.peers.admits(peer.host)) {
      this.drops.unpermitted++
      return undefined
    }
    const permission = this.#access.peers.permissionOf(peer.host)
    if (permission !== undefined) permission.usedAt = now
    this.#silentSince = Number.POSITIVE_INFINITY
    return { bytes: data, remote: { ...peer, via: this.via } }
  }

  #onOutcome(now: number, outcome: Outcome): void {
    switch (outcome.type) {
      case "Forged":
        this.drops.forged++
        return
      case "Malformed":
        this.drops.malformed++
        return
      case "Success":
        this.#silentSince = Number.POSITIVE_INFINITY
        this.#onSuccess(now, outcome.purpose, outcome.message)
        return
      case "Error":
        this.#silentSince = Number.POSITIVE_INFINITY
        this.#onError(now, outcome.purpose, outcome.code, outcome.message)
        return
      default:
        return
    }
  }

  #onSuccess(now: number, purpose: Purpose, message: Stun.Message): void {
    switch (purpose.type) {
      case "Allocate":
        this.#onAllocated(now, message)
        return
      case "Refresh":
        this.#keep(now, message)
        return
      case "Release":
        this.#dialogue.ask(now, ALLOCATE)
        return
      case "Permission":
        purpose.permission.grant(now)
        return
      case "Channel":
        purpose.channel.grant(now)
        return
    }
  }

  #onAllocated(now: number, message: Stun.Message): void {
    const relayed = Stun.xorAddress(message, Attribute.xorRelayedAddress)
    if (relayed === undefined || !isUnicast(relayed.host)) {
      this.drops.malformed++
      this.#fail(now, "ServerError", undefined)
      return
    }
    this.#state = "Allocated"
    this.#relayed = relayed
    this.#reflexive = Stun.mappedAddress(message)
    this.#failure = undefined
    this.#failures = 0
    this.#changes++
    this.#keep(now, message)
    this.#access.begin(now)
    this.#access.permit(now, relayed.host, true)
    for (const held of this.#held.splice(0)) {
      const parcel = now - held.since <= HELD_MS ? this.wrap(now, held.remote, held.bytes) : undefined
      if (parcel !== undefined) this.#dialogue.send(parcel.bytes)
    }
  }

  /** The server has granted (more) time. */
  #keep(now: number, message: Stun.Message): void {
    const asked = Stun.u32(message, Attribute.lifetime) ?? LIFETIME_S
    const lifetimeMs = Math.min(Math.max(asked, MIN_LIFETIME_S), MAX_LIFETIME_S) * SECOND
    this.#expiresAt = now + lifetimeMs
    this.#checkAt = now + Math.min(this.#options.checkMs ?? CHECK_MS, lifetimeMs / 2)
    this.#retryAt = Number.POSITIVE_INFINITY
  }

  #onError(now: number, purpose: Purpose, code: number, message: Stun.Message): void {
    switch (purpose.type) {
      case "Allocate":
        this.#onNoAllocation(now, code, message)
        return
      case "Release":
        // Nothing was there after all.
        if (code === 437) this.#dialogue.ask(now, ALLOCATE)
        else this.#fail(now, reasonOf(code), code)
        return
      case "Refresh":
        // Whatever is wrong, it is no longer ours: restarted, another address, other users.
        this.#allocateAnew(now)
        return
      case "Permission":
        if (code === 437) this.#allocateAnew(now)
        else purpose.permission.refuse(now)
        return
      case "Channel":
        if (code === 437) this.#allocateAnew(now)
        else purpose.channel.refuse(now)
        return
    }
  }

  #onNoAllocation(now: number, code: number, message: Stun.Message): void {
    if (code === 437 && !this.#released) {
      // An earlier run of ours, on the same port, has left one behind; who may remove it, the server will ask.
      this.#released = true
      this.#dialogue.ask(now, RELEASE)
    } else if (code === 300) this.#redirect(now, Stun.address(message, Attribute.alternateServer))
    else this.#fail(now, reasonOf(code), code)
  }

  /** RFC 8489 section 10. */
  #redirect(now: number, server: Address | undefined): void {
    const here = this.#dialogue.server
    const sensible =
      server !== undefined &&
      isUnicast(server.host) &&
      server.host.includes(":") === here.host.includes(":") &&
      (!isLoopback(server.host) || isLoopback(here.host))
    if (!sensible || ++this.#redirects > MAX_REDIRECTS) this.#fail(now, "Redirected", 300)
    else {
      this.#dialogue.redirect(server)
      this.#dialogue.ask(now, ALLOCATE)
    }
  }

  #onTimeout(now: number, purpose: Purpose): void {
    switch (purpose.type) {
      case "Allocate":
      case "Release":
        this.#fail(now, "Timeout", undefined)
        return
      case "Refresh":
        // It may still be there when the network is back.
        this.#refresh(now)
        return
      case "Permission":
        purpose.permission.lose(now)
        return
      case "Channel":
        purpose.channel.lose(now)
        return
    }
  }

  // -- the allocation -------------------------------------------------------------------------------------------------

  #allocate(now: number): void {
    this.#dialogue.begin(this.#options.credentials())
    this.#redirects = 0
    this.#released = false
    this.#retryAt = Number.POSITIVE_INFINITY
    if (this.#state !== "Allocating") this.#changes++
    this.#state = "Allocating"
    this.#dialogue.ask(now, ALLOCATE)
  }

  #allocateAnew(now: number): void {
    this.#leave("Allocating")
    this.#allocate(now)
  }

  #fail(now: number, reason: FailureReason, code: number | undefined): void {
    const [chance = 0] = this.#options.entropy(1)
    this.#leave("Failed")
    this.#retryAt = now + retryAfter(reason, this.#failures++, chance)
    this.#failure = { reason, code, retryAt: this.#retryAt }
  }

  /** There is no allocation any more. */
  #leave(state: State): void {
    this.#dialogue.drop("requests")
    this.#access.end()
    this.#relayed = undefined
    if (state !== "Allocating") this.#held.length = 0
    if (state === "Closed") this.#reflexive = undefined
    this.#expiresAt = Number.POSITIVE_INFINITY
    this.#checkAt = Number.POSITIVE_INFINITY
    this.#retryAt = Number.POSITIVE_INFINITY
    this.#silentSince = Number.POSITIVE_INFINITY
    this.#state = state
    this.#changes++
  }

  #refresh(now: number): void {
    this.#checkAt = Number.POSITIVE_INFINITY
    this.#dialogue.ask(now, REFRESH)
  }

  /** We send and hear nothing. */
  #onSilence(now: number): void {
    this.#silentSince = now
    if (!this.#dialogue.isAsking("Refresh")) this.#refresh(now)
    this.#settle()
  }

  /** A datagram to a peer whose channel is not bound: asks for it, and meanwhile sends the longer way. */
  #wrapSlowly(
    now: number,
    relayed: Address,
    channel: Channel | undefined,
    remote: Address,
    bytes: Uint8Array
  ): Parcel | undefined {
    if (relayed.host.includes(":") !== remote.host.includes(":") || !this.#access.reach(now, remote, channel)) {
      this.drops.unsent++
      return undefined
    }
    // It follows the request on its heels: a server that takes them in this order lets it through.
    const indication = TurnWriter.sendIndication(this.#options.entropy(Stun.TRANSACTION_ID_LENGTH), remote, bytes)
    if (this.#dialogue.isDrained) return { bytes: indication, remote: this.#dialogue.server }
    this.#dialogue.send(indication)
    return undefined
  }

  #hold(now: number, remote: Address, bytes: Uint8Array): void {
    if (this.#state !== "Allocating") {
      this.drops.unsent++
      return
    }
    if (this.#held.length >= MAX_HELD) this.#held.shift()
    this.#held.push({ bytes: Uint8Array.from(bytes), remote, since: now })
  }

  #settle(): void {
    this.#deadline = Math.min(
      this.#dialogue.deadline(),
      this.#retryAt,
      this.#expiresAt,
      this.#checkAt,
      this.#access.deadline()
    )
  }
}

/** Neither unspecified nor multicast nor broadcast. */
const isUnicast = (host: string): boolean =>
  host.includes(":")
    ? host !== "::" && !/^ff/i.test(host)
    : !/^0\./.test(host) && Number(host.slice(0, host.indexOf("."))) < 224
