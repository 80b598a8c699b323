/**
 * Permissions and channels of one allocation: asked for, refreshed while they are wanted, asked for again when they lapse.
 * The answers come through the client, which hands them to the grant that its request was for.
 */
import type { Address } from "./Address.ts"
import type { TurnDialogue } from "./TurnDialogue.ts"
import { type Channel, type Permission, TurnPeers } from "./TurnPeers.ts"

/** What has become of a host's permission. */
export type Access = "Absent" | "Asked" | "Granted" | "Refused"

export class TurnAccess {
  readonly peers = new TurnPeers()
  readonly #dialogue: TurnDialogue
  readonly #via: number
  #active = false

  constructor(dialogue: TurnDialogue, via: number) {
    this.#dialogue = dialogue
    this.#via = via
  }

  /** There is an allocation now: what is to be permitted is asked for. */
  begin(now: number): void {
    this.#active = true
    for (const permission of this.peers.permissions) this.#askPermission(now, permission)
  }

  /** There is none any more; what is pinned stays wanted. */
  end(): void {
    this.#active = false
    this.peers.reset()
  }

  deadline(): number {
    return this.#active ? this.peers.deadline() : Number.POSITIVE_INFINITY
  }

  /** Wants a permission, for as long as the carrier lives when pinned; `undefined` while too many are wanted. */
  permit(now: number, host: string, pinned: boolean): Permission | undefined {
    let permission = this.peers.permissionOf(host)
    if (permission !== undefined) permission.pinned ||= pinned
    else {
      permission = this.peers.addPermission(now, host, pinned)
      permission?.lapse()
    }
    if (this.#active && permission?.standing === "Lapsed") this.#askPermission(now, permission)
    return permission
  }

  access(host: string): Access {
    switch (this.peers.permissionOf(host)?.standing) {
      case undefined:
        return "Absent"
      case "Good":
        return "Granted"
      case "Refused":
        return "Refused"
      default:
        return "Asked"
    }
  }

  /** Asks for what it takes to send to a peer; false when the server refuses or there is no room. */
  reach(now: number, remote: Address, known: Channel | undefined): boolean {
    const channel = known ?? this.peers.addChannel(now, { host: remote.host, port: remote.port, via: this.#via })
    const grant = channel ?? this.permit(now, remote.host, false)
    if (grant === undefined || (grant.standing === "Refused" && now < grant.until)) return false
    grant.usedAt = now
    if (channel !== undefined) this.#askChannel(now, channel)
    return true
  }

  /** What is due. */
  handleTimeout(now: number): void {
    if (!this.#active) return
    for (const channel of this.peers.channels) {
      if (now >= channel.refreshAt) {
        channel.refreshAt = Number.POSITIVE_INFINITY
        if (channel.usedAt > channel.since) this.#askChannel(now, channel)
      }
      if (now >= channel.until) channel.lapse()
    }
    for (const permission of [...this.peers.permissions]) {
      if (now >= permission.refreshAt) {
        permission.refreshAt = Number.POSITIVE_INFINITY
        if (permission.pinned || permission.usedAt > permission.since) this.#askPermission(now, permission)
      }
      if (now >= permission.until) permission.lapse()
      if (permission.standing !== "Lapsed") continue
      if (permission.pinned) this.#askPermission(now, permission)
      else if (!this.#dialogue.isAskingFor(permission)) this.peers.removePermission(permission)
    }
  }

  #askPermission(now: number, permission: Permission): void {
    if (this.#dialogue.isAskingFor(permission)) return
    permission.ask()
    this.#dialogue.ask(now, { type: "Permission", permission })
  }

  #askChannel(now: number, channel: Channel): void {
    if (this.#dialogue.isAskingFor(channel)) return
    channel.ask()
    this.#dialogue.ask(now, { type: "Channel", channel })
  }
}
