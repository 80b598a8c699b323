/**
 * Whom an allocation serves: hosts that may send to it (permissions, RFC 8656 section 9) and peers with a channel
 * (section 12). Bookkeeping only: the client asks the server and writes its answers down here.
 */
import type { Address } from "./Address.ts"

/** Of each. */
export const MAX_PERMISSIONS = 16
export const MAX_CHANNELS = 16

const SECOND = 1000
/** ms: what a server grants; a channel that it knows is of no use without the permission that came with it. */
const PERMISSION_MS = 300 * SECOND
const CHANNEL_MS = 600 * SECOND
/** ms: a channel's number and peer stay together for so long after its end. */
const QUARANTINE_MS = 300 * SECOND
/** ms: leaves a request that began then the time to be repeated. */
const REFRESH_MS = 240 * SECOND
/** ms: when to ask again after a refusal. */
const REFUSED_MS = 60 * SECOND

/** RFC 8656 section 12. */
const FIRST_NUMBER = 0x4000
const LAST_NUMBER = 0x4fff

/** `Asked` waits for an answer, `Good` was granted, `Lapsed` was granted once, `Refused` is not to be asked for now. */
export type Standing = "Asked" | "Good" | "Lapsed" | "Refused"

class Grant {
  standing: Standing = "Asked"
  /** ms: when it was granted last. */
  since = Number.NEGATIVE_INFINITY
  /** ms: when the server may have granted it last, though we were not told. */
  knownSince = Number.NEGATIVE_INFINITY
  /** ms: when it lapses, or may be asked for again. */
  until = Number.POSITIVE_INFINITY
  /** ms: when to ask for it again while it is good. */
  refreshAt = Number.POSITIVE_INFINITY
  /** ms: the last datagram either way. */
  usedAt: number

  constructor(now: number) {
    this.usedAt = now
  }

  grant(now: number): void {
    this.standing = "Good"
    this.since = now
    this.knownSince = now
    this.until = now + PERMISSION_MS
    this.refreshAt = now + REFRESH_MS
  }

  refuse(now: number): void {
    this.standing = "Refused"
    this.until = now + REFUSED_MS
    this.refreshAt = Number.POSITIVE_INFINITY
  }

  lapse(): void {
    this.standing = "Lapsed"
    this.until = Number.POSITIVE_INFINITY
    this.refreshAt = Number.POSITIVE_INFINITY
  }

  /** Nobody answered: it may have been granted all the same. */
  lose(now: number): void {
    this.lapse()
    this.knownSince = now
  }

  /** It is being asked for; while the old grant lasts it goes on. */
  ask(): void {
    if (this.standing !== "Good") {
      this.standing = "Asked"
      this.until = Number.POSITIVE_INFINITY
    }
    this.refreshAt = Number.POSITIVE_INFINITY
  }
}

export class Permission extends Grant {
  readonly host: string
  /** Kept whether it is used or not. */
  pinned: boolean

  constructor(now: number, host: string, pinned: boolean) {
    super(now)
    this.host = host
    this.pinned = pinned
  }
}

export class Channel extends Grant {
  readonly number: number
  /** With the carrier's `via`. */
  readonly remote: Address

  constructor(now: number, number: number, remote: Address) {
    super(now)
    this.number = number
    this.remote = remote
  }
}

export class TurnPeers {
  readonly permissions: Array<Permission> = []
  readonly #channels: Array<Channel> = []
  readonly #byNumber = new Map<number, Channel>()
  #nextNumber = FIRST_NUMBER
  /** The one that the last datagram went to: most go there again. */
  #recent: Channel | undefined

  get channels(): ReadonlyArray<Channel> {
    return this.#channels
  }

  channelOf(remote: Address): Channel | undefined {
    const recent = this.#recent
    if (recent !== undefined && recent.remote.port === remote.port && recent.remote.host === remote.host) return recent
    for (const channel of this.#channels) {
      if (channel.remote.port === remote.port && channel.remote.host === remote.host) {
        this.#recent = channel
        return channel
      }
    }
    return undefined
  }

  channelNumbered(number: number): Channel | undefined {
    return this.#byNumber.get(number)
  }

  /** A channel to ask for; `undefined` while all are taken. */
  addChannel(now: number, remote: Address): Channel | undefined {
    if (this.#channels.length >= MAX_CHANNELS && !this.#forgetChannel(now)) return undefined
    const channel = new Channel(now, this.#nextNumber, remote)
    // In turn, so that a number comes back only long after its quarantine.
    this.#nextNumber = this.#nextNumber === LAST_NUMBER ? FIRST_NUMBER : this.#nextNumber + 1
    this.#channels.push(channel)
    this.#byNumber.set(channel.number, channel)
    return channel
  }

  permissionOf(host: string): Permission | undefined {
    for (const permission of this.permissions) if (permission.host === host) return permission
    return undefined
  }

  /** A permission to ask for; `undefined` while all are taken. */
  addPermission(now: number, host: string, pinned: boolean): Permission | undefined {
    if (this.permissions.length >= MAX_PERMISSIONS) {
      const idle = this.permissions.findIndex((one) => !one.pinned && (pinned || one.standing !== "Good"))
      if (idle < 0) return undefined
      this.permissions.splice(idle, 1)
    }
    const permission = new Permission(now, host, pinned)
    this.permissions.push(permission)
    return permission
  }

  removePermission(permission: Permission): void {
    const at = this.permissions.indexOf(permission)
    if (at >= 0) this.permissions.splice(at, 1)
  }

  /** Whether we let this host send to us: by a permission, or by a channel to one of its ports. */
  admits(host: string): boolean {
    const permission = this.permissionOf(host)
    if (permission !== undefined && permission.standing !== "Refused") return true
    for (const channel of this.#channels) {
      if (channel.remote.host === host && channel.standing !== "Refused") return true
    }
    return false
  }

  /** A new allocation: no channel of the old one is left, and what is pinned has to be asked for again. */
  reset(): void {
    this.#channels.length = 0
    this.#byNumber.clear()
    this.#recent = undefined
    const pinned = this.permissions.filter((one) => one.pinned)
    this.permissions.length = 0
    for (const permission of pinned) {
      permission.lapse()
      this.permissions.push(permission)
    }
  }

  /** The earliest time at which something lapses, is asked for again, or may be. */
  deadline(): number {
    let at = Number.POSITIVE_INFINITY
    for (const one of this.permissions) at = Math.min(at, one.until, one.refreshAt)
    for (const one of this.#channels) at = Math.min(at, one.until, one.refreshAt)
    return at
  }

  /** Drops the channel whose quarantine is over longest; false when there is none. */
  #forgetChannel(now: number): boolean {
    let oldest = -1
    for (const [index, channel] of this.#channels.entries()) {
      const free =
        channel.standing !== "Good" &&
        channel.standing !== "Asked" &&
        channel.knownSince + CHANNEL_MS + QUARANTINE_MS <= now
      if (free && (oldest < 0 || channel.knownSince < (this.#channels[oldest] as Channel).knownSince)) oldest = index
    }
    if (oldest < 0) return false
    const [gone] = this.#channels.splice(oldest, 1)
    if (gone !== undefined) this.#byNumber.delete(gone.number)
    this.#recent = undefined
    return true
  }
}
