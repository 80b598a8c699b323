/**
 * The ways to the peer: which are known, which answer, and which one is used (after RFC 9000 sections 8.2 and 9, with several
 * paths at a time, and candidates as in RFC 8445).
 *
 * **Who decides.** The client uses the best path that answers: direct before relayed, then the shorter round trip, with
 * hysteresis. The server follows the newest packet that says more than a probe, once its path is proven; only a packet with the
 * highest number counts, so a replayed or a late one moves nothing, and one relayed from elsewhere only until a newer one
 * comes. Either side leaves a path that falls silent: the owner says `doubt`, all known paths are challenged at once, and the
 * first that answers carries on. Make before break: nothing but challenges leaves on a path before it has answered.
 *
 * **Reflection.** To an address that only packets came from go three times their bytes at most; to a candidate that
 * the authenticated peer named, small challenges within a budget. No more paths are known than `MAX_PATHS`.
 *
 * Sans-IO: `now` (ms) never goes back. The owner sends what `poll` answers, calls `handleTimeout` once `deadline` has
 * passed, and compares `active` with what it uses after each call.
 */
import { type Address, isPort } from "./Address.ts"
import type { ConnectionIds } from "./ConnectionIds.ts"
import {
  CANDIDATE_BURST,
  CANDIDATE_GAP_MS,
  CANDIDATE_GROWTH,
  CANDIDATE_PER_SECOND,
  CANDIDATE_TRIES,
  MAX_ACK_DELAY_MS,
  MAX_CANDIDATES,
  MAX_DATAGRAM_LENGTH,
  MAX_PATHS,
  PATH_CHALLENGE_TRIES,
  PATH_FORGET_MS,
  PATH_LINGER_MS,
  PATH_MAX_FAILURES,
  PATH_RETRY_MAX_MS,
  PATH_RETRY_MS,
  PATH_RTT_MARGIN_MS,
  PATH_RTT_SHARE,
  PORT_RETRY_MS,
  STANDBY_MS
} from "./Constants.ts"
import type * as Frame from "./Frame.ts"
import { isPlausible } from "./HostKind.ts"
import * as Packet from "./Packet.ts"
import type { Path } from "./Path.ts"
import { PathSet } from "./PathSet.ts"
import { PortMove } from "./PortMove.ts"
import type { Entropy } from "./Primitives.ts"
import type { Rtt } from "./Rtt.ts"
import { TokenBucket } from "./TokenBucket.ts"

export interface PathsOptions {
  readonly role: "client" | "server"
  readonly remote: Address
  readonly localId: Uint8Array
  readonly ids: ConnectionIds
  readonly entropy: Entropy
  /** Of the path in use. */
  readonly rtt: Rtt
  readonly rank: (remote: Address) => number
}

/** A challenge or an answer, in a datagram of its own. */
export interface Probe {
  readonly remote: Address
  /** The peer's connection id on that path. */
  readonly id: Uint8Array
  readonly frame: Frame.PathChallenge | Frame.PathResponse
  /** Bytes that the datagram has at least. */
  readonly least: number
}

interface Response {
  readonly path: Path
  readonly token: Uint8Array
  readonly length: number
}

/** Answers waiting to be sent; a peer that challenges faster than we send waits for its next try. */
const MAX_RESPONSES = 4
/** Challenges to each path while the one in use is in doubt: as long as a session may live without an answer. */
const DOUBT_TRIES = 16
/** Round trips measured before a path is preferred for them. */
const RTT_SAMPLES = 3
/** A path in use for so long has made up for its failures, ms. */
const REPENTANCE_MS = 60_000

export class Paths {
  readonly #options: PathsOptions
  readonly #bucket: TokenBucket
  readonly #set: PathSet
  #activeSince: number
  /** The path in use owes an answer, and all are being asked. */
  #inDoubt = false
  /** Of a server: where its client wants it, once that is proven, and where it was before a NAT seemed to move it. */
  #wanted: Path | undefined
  #left: Path | undefined
  /** Of a client. */
  #move: PortMove | undefined
  #target: Path | undefined
  #announced: { readonly port: number; readonly until: number } | undefined
  #responses: Array<Response> = []
  #failed: Array<Address> = []

  constructor(now: number, options: PathsOptions) {
    this.#options = options
    this.#bucket = new TokenBucket(now, CANDIDATE_PER_SECOND, CANDIDATE_BURST)
    const { remote, localId, ids, rank } = options
    this.#set = new PathSet(now, remote, localId, ids, rank, (path) => this.#onRemoved(path))
    this.#activeSince = now
  }

  /** The path in use. */
  get active(): Path {
    return this.#set.active
  }

  get all(): ReadonlyArray<Path> {
    return this.#set.all
  }

  /** Whether another path may answer when the one in use does not. */
  get hasOthers(): boolean {
    if (this.all.length === 1) return false
    return this.all.some((path) => path !== this.active && path.proven)
  }

  get inDoubt(): boolean {
    return this.#inDoubt
  }

  /** Whether a change of the path in use is under way. */
  get moving(): boolean {
    return this.#inDoubt || this.#wanted !== undefined || this.#target !== undefined
  }

  /** When `handleTimeout` is due; `Infinity` for never. */
  get deadline(): number {
    let earliest = this.#move?.at ?? Number.POSITIVE_INFINITY
    for (const path of this.all) {
      const at = path === this.active ? path.retryAt : Math.min(path.retryAt, path.standbyAt, this.#endOf(path))
      if (at < earliest) earliest = at
    }
    return earliest
  }

  /** The next address of a path that failed, each once. */
  pollFailed(): Address | undefined {
    return this.#failed.shift()
  }

  // -- what arrives ------------------------------------------------------------------------------------------------

  /** An authentic datagram came from `remote`; answers its path. */
  onReceived(now: number, remote: Address, datagram: Uint8Array): Path {
    return this.#set.onReceived(now, remote, datagram)
  }

  /** The newest packet came by `path`; `moving`: it says more than a probe. */
  onNewest(now: number, path: Path, moving: boolean): void {
    if (path === this.active) {
      if (moving) this.#wanted = undefined
      return
    }
    if (path.state !== "validated" && !path.underWay) this.#begin(now, path, false)
    if (!moving) return
    if (this.#options.role === "client") {
      // The server follows us within a round trip; if it does not, it does not hear us there.
      if (now - this.#activeSince > 3 * this.#pto) this.doubt(now)
    } else if (path.state === "validated") this.#use(now, path)
    else this.#wanted = path
  }

  /** The peer challenges the path, in a datagram of `length` bytes. */
  onChallenge(path: Path, token: Uint8Array, length: number): void {
    if (this.#responses.length >= MAX_RESPONSES) return
    this.#responses.push({ path, token: token.slice(), length: length >= MAX_DATAGRAM_LENGTH ? length : 0 })
    // Its packets pass: ours may do so now, too (RFC 8445 section 7.3.1.4).
    if (!path.proven && path.underWay) path.due = true
  }

  /** An answer came by `path`, in a datagram of `length` bytes. */
  onResponse(now: number, path: Path, token: Uint8Array, length: number): void {
    if (!path.answer(now, token, length)) return
    if (path === this.active) {
      this.#inDoubt = false
      return
    }
    path.standbyAt = path.shunnedUntil > now ? path.shunnedUntil : now + STANDBY_MS
    if (this.#inDoubt) {
      this.#fail(now, this.active)
      this.#use(now, path)
    } else if (this.#options.role === "server") {
      path.standbyAt = Number.POSITIVE_INFINITY
      if (path === this.#wanted || path === this.#left) this.#use(now, path)
    } else if (!path.full && !path.narrow && !path.underWay) this.#begin(now, path, true)
    this.#choose(now)
  }

  /** Something that the peer can only say in answer came by the path in use. */
  onAlive(): void {
    this.#inDoubt = false
  }

  /** The path in use owes an answer for too long: asks all. */
  doubt(now: number): void {
    if (this.#inDoubt || !this.hasOthers) return
    this.#inDoubt = true
    for (const path of this.all) {
      if (path !== this.active && !path.proven) continue
      path.begin(now, { tries: DOUBT_TRIES, gapMs: this.#pto, growth: 2, full: false })
      path.standbyAt = Number.POSITIVE_INFINITY
    }
  }

  /** Small datagrams pass on the path in use, full ones do not. Of a client: whether there is another to go on with. */
  onNarrow(now: number): boolean {
    const { active } = this
    active.narrow = true
    active.full = false
    this.#choose(now)
    return this.active !== active
  }

  /** The peer wants ids out of use. */
  refresh(): void {
    for (const path of this.all) {
      if (path.id?.stale !== true || this.#set.renew(path) || path === this.active) continue
      this.#set.remove(path)
    }
  }

  // -- commands ----------------------------------------------------------------------------------------------------

  /** Challenges addresses where the peer may be, at most `MAX_CANDIDATES`; answers those that make sense. */
  addCandidates(now: number, addresses: ReadonlyArray<Address>): ReadonlyArray<Address> {
    const { host } = this.active.remote
    const sound = addresses.slice(0, MAX_CANDIDATES).filter((each) => isPort(each.port) && isPlausible(each.host, host))
    for (const address of sound) {
      const known = this.#set.find(address)
      if (known !== undefined && (known.state === "validated" || known.underWay)) continue
      const path = known ?? this.#set.add(now, address, "candidate")
      path.expiresAt = Number.POSITIVE_INFINITY
      path.state = "validating"
      path.begin(now, { tries: CANDIDATE_TRIES, gapMs: CANDIDATE_GAP_MS, growth: CANDIDATE_GROWTH, full: false })
    }
    return sound
  }

  /** The server will be at `port` in `inMs`; false when we were told before. */
  announce(now: number, port: number, inMs: number): boolean {
    if (this.#announced?.port === port && now < this.#announced.until) return false
    this.#announced = { port, until: now + inMs + PORT_RETRY_MS }
    const base = this.#direct()
    if (base === undefined || base.remote.port === port || this.#move?.port === port) return true
    const [high = 0, low = 0] = this.#options.entropy(2)
    this.#target = undefined
    this.#move = new PortMove(now, port, inMs, (high * 256 + low) / 65_536)
    return true
  }

  /** Our own address changed: every path is another one now, and shall not be known for the old one. */
  rebind(now: number): void {
    for (const path of this.all) {
      if (!path.proven) continue
      if (this.#set.renew(path)) path.asked++
      else if (path !== this.active) {
        this.#set.remove(path)
        continue
      }
      path.forgetTokens()
      path.narrow = false
      if (path !== this.active && path.state === "validated") path.state = "validating"
      path.standbyAt = Number.POSITIVE_INFINITY
      this.#begin(now, path, false)
    }
  }

  clear(): void {
    this.#responses = []
    this.#move = undefined
    this.#set.clear()
    this.active.settle()
  }

  // -- time and output ---------------------------------------------------------------------------------------------

  handleTimeout(now: number): void {
    if (this.#move !== undefined && this.#move.at <= now) this.#tryPort(now, this.#move)
    for (const path of this.all) {
      if (path !== this.active && this.#endOf(path) <= now) this.#set.remove(path)
      else if (path.retryAt <= now) {
        if (!path.goOn(now)) this.#onExhausted(now, path)
      } else if (path.standbyAt <= now) {
        path.standbyAt = Number.POSITIVE_INFINITY
        if (path !== this.active) this.#begin(now, path, false)
      }
    }
  }

  /** The next probe to send. */
  poll(now: number): Probe | undefined {
    const { ids, entropy } = this.#options
    for (let response = this.#responses.shift(); response !== undefined; response = this.#responses.shift()) {
      const { path, token, length } = response
      path.id ??= ids.take()
      if (path.id === undefined || !path.spend(Math.max(length, Packet.MIN_LENGTH))) continue
      return { remote: path.remote, id: path.id.id, frame: { type: "PathResponse", token }, least: length }
    }
    for (const path of this.all) {
      if (!path.due) continue
      if (path.id === undefined) {
        path.id = ids.take()
        if (path.id === undefined) {
          this.#makeWay(path)
          continue
        }
        path.asked++
      }
      const { least } = path
      const named = path.origin === "candidate" || path.origin === "port"
      if (!path.spend(Math.max(least, Packet.MIN_LENGTH)) && !(named && this.#bucket.take(now))) continue
      const frame: Frame.PathChallenge = { type: "PathChallenge", token: path.token(now, entropy) }
      return { remote: path.remote, id: path.id.id, frame, least }
    }
    return undefined
  }

  /** No id is left for a path that is wanted: of the others the least useful gives its own back, and the peer a new one. */
  #makeWay(path: Path): void {
    if (path !== this.#target && path !== this.#wanted) return
    const kept = [this.active, this.#left, this.#wanted, this.#target]
    const others = this.all.filter((each) => each.id !== undefined && !kept.includes(each))
    const rank = (each: Path): number => (each.state === "failed" ? 0 : each.proven ? 2 : 1)
    const [least] = others.sort((a, b) => rank(a) - rank(b) || a.heardAt - b.heardAt)
    if (least !== undefined) this.#set.remove(least)
  }

  // -- the set -----------------------------------------------------------------------------------------------------

  get #pto(): number {
    return this.#options.rtt.pto(MAX_ACK_DELAY_MS)
  }

  #onRemoved(path: Path): void {
    this.#responses = this.#responses.filter((each) => each.path !== path)
    if (this.#wanted === path) this.#wanted = undefined
    if (this.#left === path) this.#left = undefined
    if (this.#target === path) this.#target = undefined
  }

  /** When a path that is not in use is forgotten. */
  #endOf(path: Path): number {
    const silent = this.#options.role === "server" ? path.heardAt + PATH_FORGET_MS : Number.POSITIVE_INFINITY
    return Math.min(path.expiresAt, silent)
  }

  // -- changes -----------------------------------------------------------------------------------------------------

  #begin(now: number, path: Path, full: boolean): void {
    const gapMs = Math.max(this.#pto, 2 * path.rttMs)
    path.begin(now, { tries: PATH_CHALLENGE_TRIES, gapMs, growth: 2, full })
  }

  #use(now: number, path: Path): void {
    const old = this.active
    this.#set.active = path
    this.#activeSince = now
    this.#inDoubt = false
    this.#wanted = undefined
    this.#left = undefined
    path.expiresAt = Number.POSITIVE_INFINITY
    path.standbyAt = Number.POSITIVE_INFINITY
    if (this.#options.role === "server") {
      // It may have been somebody who passed the client's packets on: the client itself still answers where it was.
      const isFace = path.faceOf === old && old.state === "validated"
      path.faceOf = undefined
      if (!isFace) return
      this.#left = old
      this.#begin(now, old, false)
      return
    }
    if (path === this.#target) {
      this.#target = undefined
      this.#move = undefined
      // The server leaves all its other ports.
      for (const each of this.all) {
        const isPort = each.rank === path.rank && each.remote.host === path.remote.host
        if (each !== path && (each === old || isPort)) each.expiresAt = Math.min(each.expiresAt, now + PATH_LINGER_MS)
      }
    } else if (old.state === "validated") old.standbyAt = now + STANDBY_MS
    if (!path.full) this.#begin(now, path, true)
  }

  /** Of a client: uses another path that is better, if there is one. */
  #choose(now: number): void {
    if (this.#options.role === "server" || this.#inDoubt) return
    let best = this.active
    for (const path of this.all) {
      if (path === best || path.state !== "validated" || !path.full || path.shunnedUntil > now) continue
      if (this.#isBetter(path, best)) best = path
    }
    if (best !== this.active) this.#use(now, best)
  }

  #isBetter(path: Path, than: Path): boolean {
    if (path === this.#target || than.narrow) return true
    if (than === this.#target || path.expiresAt !== Number.POSITIVE_INFINITY) return false
    if (path.rank !== than.rank) return path.rank < than.rank
    const { rtt } = this.#options
    const present = than === this.active ? rtt.min : than.rttMs
    return path.samples >= RTT_SAMPLES && path.rttMs < PATH_RTT_SHARE * present - PATH_RTT_MARGIN_MS
  }

  /** The path in use fell silent. */
  #fail(now: number, path: Path): void {
    if (now - this.#activeSince > REPENTANCE_MS) path.failures = 0
    path.shunnedUntil = now + this.#retryMs(path)
    this.#onSilent(now, path)
  }

  /** A path does not answer: a client tries it again later, for a while. */
  #onSilent(now: number, path: Path): void {
    path.settle()
    if (path.state !== "failed") this.#failed.push(path.remote)
    path.state = "failed"
    if (this.#options.role === "server") path.expiresAt = now + PATH_LINGER_MS
    else if (++path.failures > PATH_MAX_FAILURES) path.expiresAt = now
    else path.standbyAt = now + this.#retryMs(path)
  }

  #retryMs(path: Path): number {
    return Math.min(PATH_RETRY_MS * 2 ** path.failures, PATH_RETRY_MAX_MS)
  }

  #onExhausted(now: number, path: Path): void {
    if (path.seriesFull) path.narrow = true
    if (path === this.#wanted) this.#wanted = undefined
    if (path === this.#target) this.#onDeadPort(now, path)
    else if (path === this.active || path.seriesFull) this.#choose(now)
    else if (path === this.#left) {
      this.#left = undefined
      path.state = "failed"
      path.expiresAt = now + PATH_LINGER_MS
    } else if (path.proven) this.#onSilent(now, path)
    else {
      if (path.origin === "candidate") this.#failed.push(path.remote)
      path.state = "failed"
      path.expiresAt = now + PATH_LINGER_MS
    }
    if (this.#failed.length > MAX_PATHS) this.#failed.shift()
  }

  // -- the announced port ------------------------------------------------------------------------------------------

  /** The direct path whose server's port changes. */
  #direct(): Path | undefined {
    if (this.active.rank === 0) return this.active
    return this.all.find((path) => path.rank === 0 && path.state === "validated")
  }

  #tryPort(now: number, move: PortMove): void {
    const base = this.#direct()
    if (base === undefined || base.remote.port === move.port) {
      this.#move = undefined
      return
    }
    move.at = Number.POSITIVE_INFINITY
    const address = { ...base.remote, port: move.port }
    const path = this.#set.find(address) ?? this.#set.add(now, address, "port")
    path.expiresAt = Number.POSITIVE_INFINITY
    if (path.state === "failed") path.state = "validating"
    this.#target = path
    this.#begin(now, path, path.proven)
  }

  #onDeadPort(now: number, path: Path): void {
    this.#target = undefined
    path.state = "failed"
    path.expiresAt = now + PATH_LINGER_MS
    this.#failed.push(path.remote)
    if (this.#move?.again(now) === false) this.#move = undefined
  }
}
