/**
 * A device's end at a rendezvous: the server seems to stand at the relay's address, by the carrier's `via`. What is sent
 * before the end is bound is kept, a few datagrams of it, and leaves once it is.
 */
import type { Address } from "./Address.ts"
import type { Carrier, Parcel } from "./Carrier.ts"
import {
  RENDEZVOUS_ANSWER_LENGTH,
  RENDEZVOUS_CHANNEL_LENGTH,
  RENDEZVOUS_HELD_DATAGRAMS,
  RENDEZVOUS_REBIND_MS
} from "./Constants.ts"
import type { Entropy, Primitives } from "./Primitives.ts"
import { RendezvousBinder, type State } from "./RendezvousBinder.ts"
import { type Channels, clientChannels, INSTANCE_LENGTH, type Ticket } from "./RendezvousTicket.ts"

export interface Options {
  readonly primitives: Primitives
  readonly entropy: Entropy
  /** The relay's numeric address. */
  readonly relay: Address
  /** What is put into the addresses of sessions that this relay carries; not 0. */
  readonly via: number
  /** For this device, from a credential file or the server. */
  readonly ticket: Ticket
}

/** Milliseconds after which nobody waits any more for what was kept. */
const MAX_HELD_MS = 2000

interface Held {
  readonly bytes: Uint8Array
  readonly at: number
}

export class RendezvousClient implements Carrier {
  readonly servers: ReadonlyArray<Address>
  /** Where the server is, by this way: to dial, and to open paths to. */
  readonly remote: Address
  readonly #binder: RendezvousBinder
  readonly #channels: Channels
  readonly #held: Array<Held> = []
  readonly #relay: Address

  /** `wall` is the time of day at `now`. */
  constructor(now: number, wall: number, { entropy, primitives, relay, ticket, via }: Options) {
    const instance = entropy(INSTANCE_LENGTH)
    this.#relay = { host: relay.host, port: relay.port }
    this.servers = [this.#relay]
    this.remote = { ...this.#relay, via }
    this.#binder = new RendezvousBinder(now, wall, primitives, entropy, instance, () => ticket, RENDEZVOUS_REBIND_MS)
    this.#channels = clientChannels(primitives, ticket.key, instance)
  }

  get state(): State {
    return this.#binder.state
  }

  setWall(now: number, wall: number): void {
    this.#binder.setWall(now, wall)
  }

  /** To be called when the network may have changed: a session stalled, an interface came or went. */
  rebind(now: number): void {
    this.#binder.rebind(now)
  }

  moved(now: number): void {
    this.rebind(now)
  }

  handleDatagram(now: number, _remote: Address, bytes: Uint8Array): Parcel | "foreign" | undefined {
    if (bytes.length > RENDEZVOUS_CHANNEL_LENGTH && begins(bytes, this.#channels.down)) {
      this.#binder.onHeard()
      return { bytes: bytes.subarray(RENDEZVOUS_CHANNEL_LENGTH), remote: this.remote }
    }
    const isAnswer = bytes.length === RENDEZVOUS_ANSWER_LENGTH && this.#binder.handleAnswer(now, bytes)
    return isAnswer ? undefined : "foreign"
  }

  handleTimeout(now: number): void {
    this.#binder.handleTimeout(now)
  }

  pollTransmit(now: number): Parcel | undefined {
    const own = this.#binder.pollTransmit(now)
    if (own !== undefined) return { bytes: own, remote: this.#relay }
    if (this.#binder.state.type !== "bound") return undefined
    for (let held = this.#held.shift(); held !== undefined; held = this.#held.shift()) {
      if (now - held.at <= MAX_HELD_MS) return { bytes: held.bytes, remote: this.#relay }
    }
    return undefined
  }

  pollTimeout(): number {
    return this.#binder.pollTimeout()
  }

  wrap(now: number, _remote: Address, bytes: Uint8Array): Parcel | undefined {
    const packed = pack(this.#channels.up, bytes)
    if (this.#binder.state.type === "bound") {
      this.#binder.onSent(now)
      return { bytes: packed, remote: this.#relay }
    }
    this.#held.push({ bytes: packed, at: now })
    if (this.#held.length > RENDEZVOUS_HELD_DATAGRAMS) this.#held.shift()
    return undefined
  }

  close(now: number): void {
    this.#held.length = 0
    this.#binder.release(now)
  }
}

/** The datagram behind its channel, in a buffer of its own. */
export const pack = (channel: Uint8Array, bytes: Uint8Array): Uint8Array => {
  const packed = new Uint8Array(RENDEZVOUS_CHANNEL_LENGTH + bytes.length)
  packed.set(channel)
  packed.set(bytes, RENDEZVOUS_CHANNEL_LENGTH)
  return packed
}

/** Whether the datagram begins with the channel. */
export const begins = (bytes: Uint8Array, channel: Uint8Array): boolean => {
  for (let i = 0; i < RENDEZVOUS_CHANNEL_LENGTH; i++) if (bytes[i] !== channel[i]) return false
  return true
}
