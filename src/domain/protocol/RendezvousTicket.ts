/**
 * Who may use a rendezvous, and by which names it knows them. All of it follows from one secret, the relay's key, that the
 * relay shares with the servers it serves: a server makes tickets and names its channels without asking the relay.
 *
 * A **house** is a server, a **guest** one credential of it; both are pseudonyms, so the relay learns no credential id.
 * A ticket says "this guest, at this house, until then". Its key is a MAC of these words under the relay's key, and is
 * shown to nobody: whoever makes a proof with it has shown the ticket. The group secret in it is the same in all tickets of
 * a relay and hides binds from those who have none.
 */
import { RENDEZVOUS_CHANNEL_LENGTH, RENDEZVOUS_ENDS, RENDEZVOUS_TICKET_LENGTH, SECRET_LENGTH } from "./Constants.ts"
import { concat, Reader, utf8, Writer } from "./Cursor.ts"
import type { Primitives } from "./Primitives.ts"

const NAME = "clawchat/1 rendezvous"
const label = (what: string): Uint8Array => utf8(`${NAME} ${what}`)
const GROUP = label("group")
const HOUSE = label("house")
const GUEST = label("guest")
const TICKET = label("ticket")
const HOUSE_CHANNELS = label("house channels")
const CLIENT_CHANNELS = label("client channels")
const EMPTY = new Uint8Array(0)

/** Bytes of a house's and a guest's name. */
export const PSEUDONYM_LENGTH = 16
/** Bytes that a process draws when it begins to use a ticket: they tell processes apart and make channel ids fresh. */
export const INSTANCE_LENGTH = 16

export type Role = "house" | "guest"

/** Leave to bind one end at one relay. Secret. */
export interface Ticket {
  readonly role: Role
  readonly house: Uint8Array
  /** Zeros in a house's own ticket. */
  readonly guest: Uint8Array
  /** Milliseconds since 1970. */
  readonly expiry: number
  /** Hides binds; the same in all tickets of a relay. */
  readonly group: Uint8Array
  /** Proves the ticket. */
  readonly key: Uint8Array
}

/** What hides binds from everybody without a ticket. */
export const groupOf = (primitives: Primitives, relayKey: Uint8Array): Uint8Array =>
  primitives.hkdf(EMPTY, relayKey, GROUP, SECRET_LENGTH)

/** The name of the server with this static public key. */
export const houseOf = (primitives: Primitives, relayKey: Uint8Array, serverKey: Uint8Array): Uint8Array =>
  primitives.hmac(relayKey, HOUSE, serverKey).slice(0, PSEUDONYM_LENGTH)

/** The name of a house's credential. */
export const guestOf = (
  primitives: Primitives,
  relayKey: Uint8Array,
  house: Uint8Array,
  credentialId: Uint8Array
): Uint8Array => primitives.hmac(relayKey, GUEST, house, credentialId).slice(0, PSEUDONYM_LENGTH)

/** The key of the ticket with these words. */
export const keyOf = (
  primitives: Primitives,
  relayKey: Uint8Array,
  { expiry, guest, house, role }: Pick<Ticket, "role" | "house" | "guest" | "expiry">
): Uint8Array => {
  const words = new Writer(new Uint8Array(9)).u8(role === "house" ? 1 : 2).u64(expiry).bytes
  return primitives.hmac(relayKey, TICKET, words, house, guest)
}

const mint = (
  primitives: Primitives,
  relayKey: Uint8Array,
  words: Pick<Ticket, "role" | "house" | "guest" | "expiry">
) => {
  const ticket: Ticket = {
    ...words,
    group: groupOf(primitives, relayKey),
    key: keyOf(primitives, relayKey, words)
  }
  return ticket
}

/** A ticket for whoever holds a credential of the server with this static public key; `expiry` in ms since 1970. */
export const mintTicket = (
  primitives: Primitives,
  relayKey: Uint8Array,
  serverKey: Uint8Array,
  credentialId: Uint8Array,
  expiry: number
): Ticket => {
  const house = houseOf(primitives, relayKey, serverKey)
  const guest = guestOf(primitives, relayKey, house, credentialId)
  return mint(primitives, relayKey, { role: "guest", house, guest, expiry })
}

/** A server's ticket for itself. */
export const mintOwnTicket = (
  primitives: Primitives,
  relayKey: Uint8Array,
  serverKey: Uint8Array,
  expiry: number
): Ticket => {
  const house = houseOf(primitives, relayKey, serverKey)
  return mint(primitives, relayKey, { role: "house", house, guest: new Uint8Array(PSEUDONYM_LENGTH), expiry })
}

/** A guest's ticket as it is given away: house 16, guest 16, expiry u64, group 32, key 32. */
export const encodeTicket = ({ expiry, group, guest, house, key }: Ticket): Uint8Array =>
  new Writer(new Uint8Array(RENDEZVOUS_TICKET_LENGTH)).put(house).put(guest).u64(expiry).put(group).put(key).bytes

/** `undefined` for another length or an expiry beyond 2^53. */
export const decodeTicket = (bytes: Uint8Array): Ticket | undefined => {
  const reader = new Reader(bytes)
  const house = reader.copy(PSEUDONYM_LENGTH)
  const guest = reader.copy(PSEUDONYM_LENGTH)
  const expiry = reader.u64()
  const group = reader.copy(SECRET_LENGTH)
  const key = reader.copy(SECRET_LENGTH)
  return reader.done ? { role: "guest", house, guest, expiry, group, key } : undefined
}

/** How the datagrams of one end begin, each way. */
export interface Channels {
  /** From the end to the relay. */
  readonly up: Uint8Array
  /** From the relay to the end. */
  readonly down: Uint8Array
}

const split = (bytes: Uint8Array, at: number): Channels => ({
  up: bytes.slice(at, at + RENDEZVOUS_CHANNEL_LENGTH),
  down: bytes.slice(at + RENDEZVOUS_CHANNEL_LENGTH, at + 2 * RENDEZVOUS_CHANNEL_LENGTH)
})

/** The channels of a guest's end. */
export const clientChannels = (primitives: Primitives, ticketKey: Uint8Array, instance: Uint8Array): Channels =>
  split(primitives.hkdf(instance, ticketKey, CLIENT_CHANNELS, 2 * RENDEZVOUS_CHANNEL_LENGTH), 0)

/** The channels of a house towards each of the ends that a guest may have, by the end's number. */
export const houseChannels = (
  primitives: Primitives,
  relayKey: Uint8Array,
  house: Uint8Array,
  guest: Uint8Array,
  instance: Uint8Array
): ReadonlyArray<Channels> => {
  const size = 2 * RENDEZVOUS_CHANNEL_LENGTH
  const bytes = primitives.hkdf(instance, relayKey, concat(HOUSE_CHANNELS, house, guest), RENDEZVOUS_ENDS * size)
  return Array.from({ length: RENDEZVOUS_ENDS }, (_, end) => split(bytes, end * size))
}
