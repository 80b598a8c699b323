/**
 * Who is bound at a rendezvous, and which channel leads where. A house is a server, a guest one of its credentials, an end
 * one process of it; an address holds for 90 s from its last bind. All tables are bounded.
 */
import type { Address } from "./Address.ts"
import {
  RENDEZVOUS_CHANNEL_LENGTH,
  RENDEZVOUS_ENDS,
  RENDEZVOUS_LIFE_MS,
  RENDEZVOUS_MAX_ENDS,
  RENDEZVOUS_MAX_SERVER_ENDS,
  RENDEZVOUS_MAX_SERVERS
} from "./Constants.ts"
import { hex } from "./Cursor.ts"
import { DeadlineHeap } from "./DeadlineHeap.ts"
import { IdTable } from "./IdTable.ts"
import type { Primitives } from "./Primitives.ts"
import { type Rate, RendezvousBudget } from "./RendezvousBudget.ts"
import type { Bind } from "./RendezvousMessage.ts"
import { type Channels, clientChannels, houseChannels } from "./RendezvousTicket.ts"

/** Somebody with an address that holds until a deadline. */
export interface Party {
  remote: Address | undefined
  deadline: number
  heapIndex: number
  readonly expire: () => void
}

interface House extends Party {
  readonly key: string
  readonly id: Uint8Array
  instance: Uint8Array | undefined
  readonly guests: Map<string, Guest>
  ends: number
}

/** One credential: what is budgeted. */
interface Guest {
  readonly key: string
  readonly id: Uint8Array
  readonly budget: RendezvousBudget
  readonly ends: Array<End | undefined>
  /** The house's, by the end's number; none while the house has not been seen. */
  channels: ReadonlyArray<Channels> | undefined
}

interface End extends Party {
  readonly house: House
  readonly guest: Guest
  readonly number: number
  readonly instance: Uint8Array
  readonly channels: Channels
}

/** What a channel leads to. */
export interface Route {
  /** The channel itself: the table compares its first half. */
  readonly id: Uint8Array
  readonly from: Party
  readonly to: Party
  readonly out: Uint8Array
  readonly budget: RendezvousBudget
}

export class RendezvousHouses {
  readonly #primitives: Primitives
  readonly #relayKey: Uint8Array
  readonly #slotRate: Rate
  readonly #routes = new IdTable<Route>()
  readonly #houses = new Map<string, House>()
  readonly #deadlines = new DeadlineHeap<Party>()
  #ends = 0

  constructor(primitives: Primitives, relayKey: Uint8Array, slotRate: Rate) {
    this.#primitives = primitives
    this.#relayKey = relayKey
    this.#slotRate = slotRate
  }

  /** Servers that are bound. */
  get servers(): number {
    let bound = 0
    for (const house of this.#houses.values()) if (house.remote !== undefined) bound++
    return bound
  }

  /** Client ends that are bound. */
  get ends(): number {
    return this.#ends
  }

  /** When the next one's time is over, ms; `Infinity` for never. */
  get earliest(): number {
    return this.#deadlines.earliest
  }

  /** Forgets those whose time is over. */
  expire(now: number): void {
    for (let party = this.#deadlines.expired(now); party !== undefined; party = this.#deadlines.expired(now)) {
      this.#deadlines.set(party, Number.POSITIVE_INFINITY)
      party.expire()
    }
  }

  /** Where a datagram of 16 bytes at least leads, by its channel. */
  route(bytes: Uint8Array): Route | undefined {
    const route = this.#routes.get(bytes)
    return route !== undefined && isSame(route.id, bytes) ? route : undefined
  }

  /** Binds who has proven ticket and address: whether the house is there, or `undefined` when there is no room. */
  bind(now: number, remote: Address, bind: Bind, ticketKey: Uint8Array): boolean | undefined {
    const house = this.#house(bind.house)
    if (house === undefined) return undefined
    return bind.role === "house"
      ? this.#bindHouse(now, house, remote, bind)
      : this.#bindEnd(now, house, remote, bind, ticketKey)
  }

  /** Forgets an end, or that a house is there; another process of the same is left alone. */
  release({ guest, house: id, instance, role }: Bind): void {
    const house = this.#houses.get(hex(id))
    if (house === undefined) return
    if (role === "house") {
      if (house.instance !== undefined && isSame(house.instance, instance)) this.#leave(house)
      return
    }
    const ends = house.guests.get(hex(guest))?.ends
    const end = ends?.find((other) => other !== undefined && isSame(other.instance, instance))
    if (end !== undefined) this.#remove(end)
  }

  #house(id: Uint8Array): House | undefined {
    const key = hex(id)
    const known = this.#houses.get(key)
    if (known !== undefined) return known
    if (this.#houses.size >= RENDEZVOUS_MAX_SERVERS) return undefined
    const house: House = {
      key,
      id,
      instance: undefined,
      guests: new Map(),
      ends: 0,
      remote: undefined,
      deadline: 0,
      heapIndex: -1,
      expire: () => this.#leave(house)
    }
    this.#houses.set(key, house)
    return house
  }

  /** A house is gone: its ends wait for it while they live. */
  #leave(house: House): void {
    house.remote = undefined
    this.#deadlines.set(house, Number.POSITIVE_INFINITY)
    if (house.guests.size === 0) this.#houses.delete(house.key)
  }

  #bindHouse(now: number, house: House, remote: Address, bind: Bind): boolean {
    house.remote = remote
    this.#deadlines.set(house, now + RENDEZVOUS_LIFE_MS)
    if (house.instance === undefined || !isSame(house.instance, bind.instance)) {
      // Another process of the server: its channels are others.
      for (const guest of house.guests.values()) {
        for (const end of guest.ends) if (end !== undefined) this.#unlink(end)
      }
      house.instance = bind.instance
      for (const guest of house.guests.values()) {
        guest.channels = this.#channelsOf(house, guest.id)
        for (const end of guest.ends) if (end !== undefined) this.#link(end)
      }
    }
    return true
  }

  #channelsOf(house: House, guest: Uint8Array): ReadonlyArray<Channels> | undefined {
    return house.instance === undefined
      ? undefined
      : houseChannels(this.#primitives, this.#relayKey, house.id, guest, house.instance)
  }

  #bindEnd(now: number, house: House, remote: Address, bind: Bind, ticketKey: Uint8Array): boolean | undefined {
    const end = this.#endOf(now, house, bind, ticketKey)
    if (end === undefined) {
      if (house.remote === undefined && house.guests.size === 0) this.#houses.delete(house.key)
      return undefined
    }
    end.remote = remote
    this.#deadlines.set(end, now + RENDEZVOUS_LIFE_MS)
    return house.remote !== undefined
  }

  #endOf(now: number, house: House, { guest: id, instance }: Bind, ticketKey: Uint8Array): End | undefined {
    const key = hex(id)
    const known = house.guests.get(key)
    const same = known?.ends.find((end) => end !== undefined && isSame(end.instance, instance))
    if (same !== undefined) return same
    let number = known === undefined ? 0 : known.ends.indexOf(undefined)
    if (number < 0 && known !== undefined) {
      // The one that has been silent for longest makes room.
      number = 0
      for (const [other, end] of known.ends.entries()) {
        if ((end?.deadline ?? 0) < (known.ends[number]?.deadline ?? 0)) number = other
      }
    } else if (this.#ends >= RENDEZVOUS_MAX_ENDS || house.ends >= RENDEZVOUS_MAX_SERVER_ENDS) return undefined
    const guest: Guest = known ?? {
      key,
      id,
      budget: new RendezvousBudget(now, this.#slotRate),
      ends: new Array<End | undefined>(RENDEZVOUS_ENDS).fill(undefined),
      channels: this.#channelsOf(house, id)
    }
    const former = guest.ends[number]
    if (former !== undefined) this.#remove(former)
    const end: End = {
      house,
      guest,
      number,
      instance,
      channels: clientChannels(this.#primitives, ticketKey, instance),
      remote: undefined,
      deadline: 0,
      heapIndex: -1,
      expire: () => this.#remove(end)
    }
    guest.ends[number] = end
    // Removing the former may have emptied both.
    house.guests.set(key, guest)
    this.#houses.set(house.key, house)
    house.ends++
    this.#ends++
    this.#link(end)
    return end
  }

  #link(end: End): void {
    const { channels, guest, house, number } = end
    const there = guest.channels?.[number]
    if (there === undefined) return
    const { budget } = guest
    this.#routes.add(channels.up, { id: channels.up, from: end, to: house, out: there.down, budget })
    this.#routes.add(there.up, { id: there.up, from: house, to: end, out: channels.down, budget })
  }

  #unlink({ channels, guest, number }: End): void {
    const there = guest.channels?.[number]
    if (there === undefined) return
    this.#routes.delete(channels.up)
    this.#routes.delete(there.up)
  }

  #remove(end: End): void {
    const { guest, house, number } = end
    this.#unlink(end)
    this.#deadlines.set(end, Number.POSITIVE_INFINITY)
    end.remote = undefined
    guest.ends[number] = undefined
    house.ends--
    this.#ends--
    if (guest.ends.some((other) => other !== undefined)) return
    house.guests.delete(guest.key)
    if (house.guests.size === 0 && house.remote === undefined) this.#houses.delete(house.key)
  }
}

/** Whether all 16 bytes are the same. */
const isSame = (id: Uint8Array, bytes: Uint8Array): boolean => {
  for (let i = 0; i < RENDEZVOUS_CHANNEL_LENGTH; i++) if (id[i] !== bytes[i]) return false
  return true
}
