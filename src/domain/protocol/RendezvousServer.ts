/**
 * A server's end at a rendezvous: one bind for all its devices. The relay's key, which both have, gives every credential
 * its channels, so the server knows by its first bytes whose datagram it is without being told who has bound, and a
 * revoked credential is served no more once it is left out of `setCredentials`.
 *
 * Each end of a credential seems to stand at an address of its own: host 100.64.0.1, 100.64.1.1, ... (shared address
 * space, RFC 6598), a /24 for each credential, and as port the number of its end, from 1, with the carrier's `via`. These
 * addresses are good on this host only: what tells a peer its address must not tell it these.
 */
import type { Address } from "./Address.ts"
import type { Carrier, Parcel } from "./Carrier.ts"
import {
  RENDEZVOUS_ANSWER_LENGTH,
  RENDEZVOUS_CHANNEL_LENGTH,
  RENDEZVOUS_MAX_CREDENTIALS,
  RENDEZVOUS_OWN_TICKET_MS,
  RENDEZVOUS_WATCH_MS
} from "./Constants.ts"
import { hex } from "./Cursor.ts"
import { IdTable } from "./IdTable.ts"
import type { Entropy, Primitives } from "./Primitives.ts"
import { RendezvousBinder, type State } from "./RendezvousBinder.ts"
import { begins, pack } from "./RendezvousClient.ts"
import {
  type Channels,
  guestOf,
  houseChannels,
  houseOf,
  INSTANCE_LENGTH,
  mintOwnTicket,
  type Ticket
} from "./RendezvousTicket.ts"

export interface Options {
  readonly primitives: Primitives
  readonly entropy: Entropy
  /** The relay's numeric address. */
  readonly relay: Address
  /** What is put into the addresses of sessions that this relay carries; not 0. */
  readonly via: number
  /** The secret shared with the relay, 32 bytes. */
  readonly relayKey: Uint8Array
  /** Our static public key. */
  readonly serverKey: Uint8Array
}

interface Guest {
  readonly credential: string
  readonly host: string
  readonly channels: ReadonlyArray<Channels>
}

interface Row {
  readonly down: Uint8Array
  readonly remote: Address
}

export class RendezvousServer implements Carrier {
  readonly servers: ReadonlyArray<Address>
  readonly #options: Options
  readonly #relay: Address
  readonly #house: Uint8Array
  readonly #binder: RendezvousBinder
  readonly #rows = new IdTable<Row>()
  readonly #byCredential = new Map<string, Guest>()
  readonly #byHost = new Map<string, Guest>()
  #ticket: Ticket | undefined
  #number = 0

  /** `wall` is the time of day at `now`. */
  constructor(now: number, wall: number, options: Options) {
    const { entropy, primitives, relay, relayKey, serverKey } = options
    this.#options = options
    this.#relay = { host: relay.host, port: relay.port }
    this.servers = [this.#relay]
    this.#house = houseOf(primitives, relayKey, serverKey)
    const instance = entropy(INSTANCE_LENGTH)
    this.#binder = new RendezvousBinder(
      now,
      wall,
      primitives,
      entropy,
      instance,
      (at) => this.#own(at),
      RENDEZVOUS_WATCH_MS
    )
  }

  get state(): State {
    return this.#binder.state
  }

  setWall(now: number, wall: number): void {
    this.#binder.setWall(now, wall)
  }

  /** To be called when the network may have changed. */
  rebind(now: number): void {
    this.#binder.rebind(now)
  }

  /**
   * Whose datagrams are taken: the ids of all live credentials, enrolled devices and files. Those that stay keep their
   * addresses. Costs one HKDF for each new one.
   */
  setCredentials(ids: ReadonlyArray<Uint8Array>): void {
    const wanted = new Set(ids.map(hex))
    for (const guest of this.#byCredential.values()) if (!wanted.has(guest.credential)) this.#forget(guest)
    for (const id of ids) this.#expect(id)
  }

  /** The credential, in digits, whose address this is; for logs. */
  credentialOf(remote: Address): string | undefined {
    return this.#byHost.get(remote.host)?.credential
  }

  moved(now: number): void {
    this.rebind(now)
  }

  handleDatagram(now: number, _remote: Address, bytes: Uint8Array): Parcel | "foreign" | undefined {
    if (bytes.length > RENDEZVOUS_CHANNEL_LENGTH) {
      const row = this.#rows.get(bytes)
      if (row !== undefined && begins(bytes, row.down)) {
        this.#binder.onHeard()
        return { bytes: bytes.subarray(RENDEZVOUS_CHANNEL_LENGTH), remote: row.remote }
      }
    }
    const isAnswer = bytes.length === RENDEZVOUS_ANSWER_LENGTH && this.#binder.handleAnswer(now, bytes)
    return isAnswer ? undefined : "foreign"
  }

  handleTimeout(now: number): void {
    this.#binder.handleTimeout(now)
  }

  pollTransmit(now: number): Parcel | undefined {
    const own = this.#binder.pollTransmit(now)
    return own === undefined ? undefined : { bytes: own, remote: this.#relay }
  }

  pollTimeout(): number {
    return this.#binder.pollTimeout()
  }

  wrap(now: number, remote: Address, bytes: Uint8Array): Parcel | undefined {
    const channels = this.#byHost.get(remote.host)?.channels[remote.port - 1]
    if (channels === undefined || this.#binder.state.type !== "bound") return undefined
    this.#binder.onSent(now)
    return { bytes: pack(channels.up, bytes), remote: this.#relay }
  }

  close(now: number): void {
    this.#binder.release(now)
  }

  /** Our own ticket, made anew when half its life is over. */
  #own(wall: number): Ticket {
    const { primitives, relayKey, serverKey } = this.#options
    if (
      this.#ticket === undefined ||
      Math.abs(this.#ticket.expiry - wall - RENDEZVOUS_OWN_TICKET_MS) > RENDEZVOUS_OWN_TICKET_MS / 2
    ) {
      const expiry = Math.round(wall) + RENDEZVOUS_OWN_TICKET_MS
      this.#ticket = mintOwnTicket(primitives, relayKey, serverKey, expiry)
    }
    return this.#ticket
  }

  #expect(id: Uint8Array): void {
    const credential = hex(id)
    if (this.#byCredential.has(credential) || this.#byHost.size >= RENDEZVOUS_MAX_CREDENTIALS) return
    const { primitives, relayKey, via } = this.#options
    const name = guestOf(primitives, relayKey, this.#house, id)
    const channels = houseChannels(primitives, relayKey, this.#house, name, this.#binder.instance)
    const guest: Guest = { credential, host: this.#freeHost(), channels }
    this.#byCredential.set(credential, guest)
    this.#byHost.set(guest.host, guest)
    for (const [end, { down }] of channels.entries()) {
      this.#rows.add(down, { down, remote: { host: guest.host, port: end + 1, via } })
    }
  }

  #forget(guest: Guest): void {
    this.#byCredential.delete(guest.credential)
    this.#byHost.delete(guest.host)
    for (const { down } of guest.channels) this.#rows.delete(down)
  }

  /** The next one round the clock, so that a host is not somebody else's soon. */
  #freeHost(): string {
    for (;;) {
      const n = this.#number
      this.#number = (n + 1) % RENDEZVOUS_MAX_CREDENTIALS
      const host = `100.${64 + (n >> 8)}.${n & 0xff}.1`
      if (!this.#byHost.has(host)) return host
    }
  }
}
