/**
 * The blind rendezvous: carries opaque datagrams between a server and those of its devices that cannot reach it
 * directly, and is dark to everybody else. Sans-IO; whoever owns the socket hands over what arrives and sends what comes
 * back.
 *
 * A **house** is a server that has bound itself, an **end** a process of a device that has. Both are known by the two
 * channels, 16 bytes each way, that their datagrams begin with. To forward one is to look up its channel, to see that it
 * comes from the address that is bound, and to write the other side's channel over it: no cryptography, no copy.
 *
 *     a datagram begins with a known channel    forwarded, or dropped for a reason that is counted
 *     it has the length of a bind               one block of AES tells whether its sender belongs to the group
 *     ... and was not seen before               proof of its ticket, within a budget
 *     ... and has no cookie                     a challenge to where it came from, shorter than it
 *     ... and has this address' cookie          the end is bound to the address
 *     anything else                             a counter
 *
 * The cookie is a MAC of the address under a secret that changes: nothing is kept for an address that has not proven itself,
 * and a recorded bind binds nothing from elsewhere.
 */
import { type Address, equals } from "./Address.ts"
import {
  MAX_BURST_DATAGRAMS,
  MAX_DATAGRAM_LENGTH,
  PADDING_BLOCK,
  RENDEZVOUS_ALL_BYTES,
  RENDEZVOUS_ALL_DATAGRAMS,
  RENDEZVOUS_BINDS_BURST,
  RENDEZVOUS_BINDS_PER_SECOND,
  RENDEZVOUS_BINDS_REMEMBERED,
  RENDEZVOUS_CHANNEL_LENGTH,
  RENDEZVOUS_COOKIE_MS,
  RENDEZVOUS_LIFE_MS,
  RENDEZVOUS_SLOT_BYTES,
  RENDEZVOUS_SLOT_DATAGRAMS,
  SECRET_LENGTH,
  SWEEP_REACH_HOURS
} from "./Constants.ts"
import { utf8 } from "./Cursor.ts"
import type { Entropy, Primitives } from "./Primitives.ts"
import { type Rate, RendezvousBudget } from "./RendezvousBudget.ts"
import { RendezvousHouses, type Route } from "./RendezvousHouses.ts"
import { answerKey, type Bind, COOKIE_LENGTH, GroupKeys, hasCookie, sealAnswer } from "./RendezvousMessage.ts"
import { groupOf } from "./RendezvousTicket.ts"
import { TokenBucket } from "./TokenBucket.ts"

/** Bytes of the largest and the smallest datagram that is forwarded, channel included. */
export const MAX_RELAYED_LENGTH = RENDEZVOUS_CHANNEL_LENGTH + MAX_DATAGRAM_LENGTH
const MIN_RELAYED_LENGTH = 2 * RENDEZVOUS_CHANNEL_LENGTH
/** Milliseconds by which an end's clock may differ, as for a dial. */
const CLOCK_REACH_MS = SWEEP_REACH_HOURS * 3_600_000

/** Bytes of a bind's nonce that it is remembered by, exact in a double. */
const REMEMBERED_LENGTH = 6

const SLOT_RATE: Rate = { bytesPerSecond: RENDEZVOUS_SLOT_BYTES, datagramsPerSecond: RENDEZVOUS_SLOT_DATAGRAMS }
const ALL_RATE: Rate = { bytesPerSecond: RENDEZVOUS_ALL_BYTES, datagramsPerSecond: RENDEZVOUS_ALL_DATAGRAMS }

export interface Options {
  readonly primitives: Primitives
  readonly entropy: Entropy
  /** 32 bytes that the relay shares with its servers. */
  readonly relayKey: Uint8Array
  /** What one credential may have forwarded, both ways together, and what all may. */
  readonly slotRate?: Rate
  readonly allRate?: Rate
}

/** What arrived: a buffer that the relay may write to, and where it came from. */
export interface Arrival {
  readonly bytes: Uint8Array
  readonly remote: Address
}

/** Datagrams to one address, side by side: each takes `segment` bytes, the last one what is left. */
export interface Departure {
  readonly bytes: Uint8Array
  readonly remote: Address
  readonly segment: number
}

/** Datagrams since the start, by what became of them. */
export interface Counters {
  forwarded: number
  forwardedBytes: number
  /** Challenges and confirmations. */
  answered: number
  /** Nothing of ours: no channel, no bind. */
  unknown: number
  /** Binds whose ticket is not proven, seen before, expired, of a clock too far off, or with another address' or an old cookie. */
  forged: number
  replayed: number
  expired: number
  stale: number
  /** From another address than the one bound. */
  misplaced: number
  /** For somebody who is not bound. */
  absent: number
  /** Too long, or no multiple of 16. */
  malformed: number
  /** Beyond a budget or a bound. */
  overBudget: number
  full: number
}

export class RendezvousRelay {
  readonly counters: Counters = {
    forwarded: 0,
    forwardedBytes: 0,
    answered: 0,
    unknown: 0,
    forged: 0,
    replayed: 0,
    expired: 0,
    stale: 0,
    misplaced: 0,
    absent: 0,
    malformed: 0,
    overBudget: 0,
    full: 0
  }
  readonly #options: Options
  readonly #group: GroupKeys
  readonly #all: RendezvousBudget
  readonly #binds: TokenBucket
  readonly #houses: RendezvousHouses
  /** First binds, which could draw a challenge, and those with a cookie, which are good for minutes only. */
  readonly #first = new Remembered(RENDEZVOUS_BINDS_REMEMBERED)
  readonly #later = new Remembered(RENDEZVOUS_BINDS_REMEMBERED / 2)
  #wallOffset: number
  #secret: Uint8Array
  #lastSecret: Uint8Array
  #secretAt: number
  // Forwarded datagrams that lie side by side and go the same way leave together.
  #out: Array<Departure> = []
  #route: Route | undefined
  #remote: Address = { host: "", port: 0 }
  #buffer: ArrayBufferLike = new ArrayBuffer(0)
  #start = 0
  #end = 0
  #segment = 1
  #count = 0

  /** `wall` is the time of day at `now`, ms since 1970. */
  constructor(now: number, wall: number, options: Options) {
    const { entropy, primitives, relayKey } = options
    this.#options = options
    this.#group = new GroupKeys(primitives, groupOf(primitives, relayKey))
    this.#houses = new RendezvousHouses(primitives, relayKey, options.slotRate ?? SLOT_RATE)
    this.#all = new RendezvousBudget(now, options.allRate ?? ALL_RATE)
    this.#binds = new TokenBucket(now, RENDEZVOUS_BINDS_PER_SECOND, RENDEZVOUS_BINDS_BURST)
    this.#wallOffset = wall - now
    this.#secret = entropy(SECRET_LENGTH)
    this.#lastSecret = entropy(SECRET_LENGTH)
    this.#secretAt = now
  }

  /** Servers that are bound. */
  get servers(): number {
    return this.#houses.servers
  }

  /** Client ends that are bound. */
  get ends(): number {
    return this.#houses.ends
  }

  /** The clock was set. */
  setWall(now: number, wall: number): void {
    this.#wallOffset = wall - now
  }

  /** When to call `handleTimeout`, ms; `Infinity` for never. */
  pollTimeout(): number {
    return this.#houses.earliest
  }

  handleTimeout(now: number): void {
    this.#houses.expire(now)
  }

  /** What to send for what has arrived, in order. The arrivals' buffers are written to, and part of the answer. */
  handleDatagrams(now: number, batch: ReadonlyArray<Arrival>): ReadonlyArray<Departure> {
    this.#houses.expire(now)
    for (const { bytes, remote } of batch) {
      const route = bytes.length >= MIN_RELAYED_LENGTH ? this.#houses.route(bytes) : undefined
      if (route !== undefined) this.#forward(now, route, remote, bytes)
      else if (this.#group.mayBeBind(bytes)) this.#onBind(now, remote, bytes)
      else this.counters.unknown++
    }
    this.#flush()
    const out = this.#out
    this.#out = []
    return out
  }

  // -- forwarding -------------------------------------------------------------------------------------------------------

  #forward(now: number, route: Route, remote: Address, bytes: Uint8Array): void {
    const { counters } = this
    const { length } = bytes
    if (length > MAX_RELAYED_LENGTH || length % PADDING_BLOCK !== 0) counters.malformed++
    else if (route.from.remote === undefined || !equals(route.from.remote, remote)) counters.misplaced++
    else if (route.to.remote === undefined) counters.absent++
    else if (!route.budget.has(now, length) || !this.#all.has(now, length)) counters.overBudget++
    else {
      route.budget.spend(length)
      this.#all.spend(length)
      counters.forwarded++
      counters.forwardedBytes += length
      bytes.set(route.out)
      this.#append(route, route.to.remote, bytes)
    }
  }

  #append(route: Route, remote: Address, bytes: Uint8Array): void {
    const { buffer, byteOffset, length } = bytes
    if (
      this.#route === route &&
      this.#buffer === buffer &&
      this.#end === byteOffset &&
      length <= this.#segment &&
      this.#end - this.#start === this.#count * this.#segment &&
      this.#count < MAX_BURST_DATAGRAMS &&
      this.#remote === remote
    ) {
      this.#end += length
      this.#count++
      return
    }
    this.#flush()
    this.#route = route
    this.#remote = remote
    this.#buffer = buffer
    this.#start = byteOffset
    this.#end = byteOffset + length
    this.#segment = length
    this.#count = 1
  }

  #flush(): void {
    if (this.#route === undefined) return
    const bytes = new Uint8Array(this.#buffer, this.#start, this.#end - this.#start)
    this.#out.push({ bytes, remote: this.#remote, segment: this.#segment })
    this.#route = undefined
  }

  // -- binding ----------------------------------------------------------------------------------------------------------

  #onBind(now: number, remote: Address, bytes: Uint8Array): void {
    const { counters } = this
    const { primitives, relayKey } = this.#options
    const seen = nonceOf(bytes)
    if (this.#first.has(seen) || this.#later.has(seen)) {
      counters.replayed++
      return
    }
    if (!this.#binds.take(now)) {
      counters.overBudget++
      return
    }
    const opened = this.#group.openBind(primitives, relayKey, bytes)
    if (opened === undefined) {
      counters.forged++
      return
    }
    const { bind, ticketKey } = opened
    const isFirst = !hasCookie(bind)
    const memory = isFirst ? this.#first : this.#later
    memory.add(seen)
    const wall = now + this.#wallOffset
    if (bind.expiry <= wall || Math.abs(bind.wall - wall) > CLOCK_REACH_MS) counters.expired++
    else if (isFirst) this.#answer(now, remote, bind, ticketKey, 0, false)
    else if (!this.#isProven(now, remote, bind)) counters.stale++
    else if (bind.op === "release") this.#houses.release(bind)
    else {
      const peer = this.#houses.bind(now, remote, bind, ticketKey)
      if (peer === undefined) counters.full++
      else this.#answer(now, remote, bind, ticketKey, RENDEZVOUS_LIFE_MS, peer)
    }
  }

  /** `lifeMs` 0 makes it a challenge. */
  #answer(now: number, remote: Address, bind: Bind, ticketKey: Uint8Array, lifeMs: number, peer: boolean): void {
    if (bind.op === "release" && lifeMs === 0) return
    const { entropy, primitives } = this.#options
    const bytes = sealAnswer(answerKey(primitives, ticketKey), entropy, bind.replyId, {
      type: lifeMs === 0 ? "challenge" : "bound",
      wall: Math.round(now + this.#wallOffset),
      cookie: this.#cookieOf(this.#secretNow(now), remote, bind),
      lifeMs,
      peer,
      observed: remote
    })
    this.counters.answered++
    this.#flush()
    this.#out.push({ bytes, remote, segment: bytes.length })
  }

  #secretNow(now: number): Uint8Array {
    const age = now - this.#secretAt
    if (age >= RENDEZVOUS_COOKIE_MS) {
      const { entropy } = this.#options
      this.#lastSecret = age >= 2 * RENDEZVOUS_COOKIE_MS ? entropy(SECRET_LENGTH) : this.#secret
      this.#secret = entropy(SECRET_LENGTH)
      this.#secretAt = now
    }
    return this.#secret
  }

  #cookieOf(secret: Uint8Array, { host, port }: Address, { guest, house, instance }: Bind): Uint8Array {
    const where = utf8(`${host} ${port} `)
    return this.#options.primitives.hmac(secret, where, house, guest, instance).subarray(0, COOKIE_LENGTH)
  }

  #isProven(now: number, remote: Address, bind: Bind): boolean {
    const { equal } = this.#options.primitives
    const secret = this.#secretNow(now)
    return (
      equal(bind.cookie, this.#cookieOf(secret, remote, bind)) ||
      equal(bind.cookie, this.#cookieOf(this.#lastSecret, remote, bind))
    )
  }
}

/** What a bind is remembered by: the first bytes of its nonce. */
const nonceOf = (bytes: Uint8Array): number => {
  let value = 0
  for (let i = 0; i < REMEMBERED_LENGTH; i++) value = value * 256 + (bytes[i] as number)
  return value
}

/** The latest numbers, so many of them. */
class Remembered {
  readonly #numbers = new Set<number>()
  readonly #capacity: number

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  has(number: number): boolean {
    return this.#numbers.has(number)
  }

  add(number: number): void {
    if (this.#numbers.size >= this.#capacity) {
      const oldest = this.#numbers.keys().next()
      if (oldest.done !== true) this.#numbers.delete(oldest.value)
    }
    this.#numbers.add(number)
  }
}
