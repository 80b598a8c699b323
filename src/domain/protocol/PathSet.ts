/**
 * The paths that a session knows, with a connection id for each: a bounded set, in which the least known make way. Where the
 * peer changes the id by which it addresses us on a path, so do we, once; where only its address changed, a NAT did that,
 * and the new path goes on with the id of the old one.
 */
import { type Address, equals } from "./Address.ts"
import type { ConnectionIds } from "./ConnectionIds.ts"
import { MAX_PATHS, MAX_UNPROVEN_PATHS, PATH_LINGER_MS } from "./Constants.ts"
import { type Origin, Path } from "./Path.ts"

/** Milliseconds: a path's id follows the peer's no sooner, so that two ends never chase each other. */
const FOLLOW_MS = 5000

export class PathSet {
  #list: ReadonlyArray<Path>
  /** Never forgotten while it is in use. */
  active: Path
  readonly #ids: ConnectionIds
  readonly #rank: (remote: Address) => number
  readonly #onRemoved: (path: Path) => void

  /** Begins with the path of the handshake, which went both ways in full datagrams. */
  constructor(
    now: number,
    remote: Address,
    localId: Uint8Array,
    ids: ConnectionIds,
    rank: (remote: Address) => number,
    onRemoved: (path: Path) => void
  ) {
    this.#ids = ids
    this.#rank = rank
    this.#onRemoved = onRemoved
    const first = new Path(now, remote, rank(remote), "handshake")
    first.proven = true
    first.full = true
    first.state = "validated"
    first.id = ids.first
    first.local.set(localId)
    this.#list = [first]
    this.active = first
  }

  /** A snapshot: changes make another. */
  get all(): ReadonlyArray<Path> {
    return this.#list
  }

  find(remote: Address): Path | undefined {
    for (const path of this.#list) if (equals(path.remote, remote)) return path
    return undefined
  }

  add(now: number, remote: Address, origin: Origin): Path {
    const unproven = this.#list.filter(({ proven }) => !proven)
    if (unproven.length >= MAX_UNPROVEN_PATHS || this.#list.length >= MAX_PATHS) {
      const others = this.#list.filter((path) => path !== this.active)
      const [oldest] = (unproven.length > 0 ? unproven : others).sort((a, b) => a.heardAt - b.heardAt)
      if (oldest !== undefined) this.remove(oldest)
    }
    const path = new Path(now, remote, this.#rank(remote), origin)
    this.#list = [...this.#list, path]
    return path
  }

  remove(path: Path): void {
    this.#list = this.#list.filter((each) => each !== path)
    if (path.id !== undefined) this.#ids.release(path.id)
    this.#onRemoved(path)
  }

  /** Forgets all but the path in use. */
  clear(): void {
    this.#list = [this.active]
  }

  /** The path that an authentic datagram came by, a new one if need be. */
  onReceived(now: number, remote: Address, datagram: Uint8Array): Path {
    const { active } = this
    const path = equals(remote, active.remote) ? active : (this.find(remote) ?? this.#welcome(now, remote, datagram))
    const { local } = path
    if (local[7] !== datagram[7] || local[6] !== datagram[6] || local[5] !== datagram[5])
      this.#onLocal(now, path, datagram)
    path.onReceived(now, datagram.length)
    return path
  }

  /** A fresh id for a path; false when there is none. */
  renew(path: Path): boolean {
    const id = this.#ids.take()
    if (id === undefined) return false
    if (path.id !== undefined) this.#ids.release(path.id)
    path.id = id
    return true
  }

  /** The peer speaks from an address that nobody named. */
  #welcome(now: number, remote: Address, datagram: Uint8Array): Path {
    const path = this.add(now, remote, "peer")
    path.expiresAt = now + PATH_LINGER_MS
    const fresh = this.#ids.onUsed(datagram)
    path.local.set(datagram.subarray(0, path.local.length))
    // The peer calls us by a fresh id: it moved on purpose. By one that it uses elsewhere: it does not know that it moved.
    if (!fresh) path.faceOf = this.#list.find((each) => each !== path && isSame(each.local, path.local))
    path.id = path.faceOf === undefined ? this.#ids.take() : undefined
    if (!fresh && path.id !== undefined) path.asked++
    const known = (path.faceOf ?? this.active).id
    if (path.id === undefined && known !== undefined) path.id = this.#ids.share(known)
    return path
  }

  /** On a path that is known the peer calls us by another id. */
  #onLocal(now: number, path: Path, datagram: Uint8Array): void {
    const unknown = path.local.every((byte) => byte === 0)
    // An id that is known from before: a late packet.
    if (!this.#ids.onUsed(datagram) && !unknown) return
    path.local.set(datagram.subarray(0, path.local.length))
    if (path.asked > 0) path.asked--
    else if (path.id !== undefined && !unknown && now - path.followedAt >= FOLLOW_MS) {
      path.followedAt = now
      this.renew(path)
    }
  }
}

const isSame = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i])
