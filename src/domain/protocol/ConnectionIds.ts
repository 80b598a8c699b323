/**
 * The connection ids of one session, both ways (after RFC 9000 section 5.1): those by which the peer addresses us, which we
 * issue and the peer retires, and those by which we address the peer. Sequence 0 is the id of the handshake. Each path takes
 * an id of its own and gives it back when it ends; an id that was given back is retired and never used again.
 *
 * Sans-IO. The owner sends what `pollFrame` answers, reliably, says `onArrived` when such a frame was acknowledged, and calls
 * `expire` once `deadline` has passed. Bounds: the peer holds `MAX_CONNECTION_IDS` of ours at most, we of its; frames
 * that wait or are on their way are bounded by four times that, or the peer breaks the rules.
 */
import { CONNECTION_ID_LENGTH, MAX_CONNECTION_IDS } from "./Constants.ts"
import type * as Frame from "./Frame.ts"
import { RangeSet } from "./RangeSet.ts"

/** Where ids of ours come from; an id that `issue` answers leads to this session from then on, until `retire`. */
export interface IdSource {
  readonly issue: () => Uint8Array
  readonly retire: (id: Uint8Array) => void
}

/** An id by which the peer is addressed. */
export interface RemoteId {
  readonly sequence: number
  readonly id: Uint8Array
  /** The peer wants it out of use. */
  readonly stale: boolean
}

interface Issued {
  readonly sequence: number
  readonly id: Uint8Array
  /** A packet came by it. */
  used: boolean
}

interface Given {
  readonly sequence: number
  readonly id: Uint8Array
  stale: boolean
  taken: boolean
  /** Paths that use it. */
  users: number
}

interface Leaving {
  readonly id: Uint8Array
  readonly until: number
}

/** Ids that the peer holds as long as nobody talks of candidates: the one in use and some to spare. */
const FEW_IDS = 4

const same = (a: Uint8Array, b: Uint8Array): boolean => {
  for (let i = 0; i < CONNECTION_ID_LENGTH; i++) if (a[i] !== b[i]) return false
  return true
}

export class ConnectionIds {
  readonly #source: IdSource | undefined
  #issued: Array<Issued>
  /** Retired by the peer; packets may be under way that carry them. */
  #leaving: Array<Leaving> = []
  #nextSequence = 1
  #target = 0

  #given: Array<Given>
  /** Sequences of the peer's ids that were heard of. */
  readonly #heard = new RangeSet(MAX_CONNECTION_IDS + 1)
  #retiredPriorTo = 0

  readonly #frames: Array<Frame.NewCid | Frame.RetireCid> = []
  /** Frames that are not acknowledged yet, waiting ones included. */
  #open: Array<Frame.Frame> = []

  /** `local` and `remote` are the ids of the handshake; without `source` ours stays for life. */
  constructor(local: Uint8Array, remote: Uint8Array, source: IdSource | undefined) {
    this.#source = source
    this.#issued = [{ sequence: 0, id: local.slice(), used: true }]
    this.#given = [{ sequence: 0, id: remote.slice(), stale: false, taken: true, users: 1 }]
    this.#heard.insert(0, 0)
  }

  /** The peer's id of the handshake, in use by one path. */
  get first(): RemoteId {
    return this.#given[0] as Given
  }

  /** Every id that leads to this session. */
  get local(): ReadonlyArray<Uint8Array> {
    return [...this.#issued, ...this.#leaving].map(({ id }) => id)
  }

  /** Ids of the peer's that no path has used. */
  get spare(): number {
    let count = 0
    for (const { taken, stale } of this.#given) if (!taken && !stale) count++
    return count
  }

  /** Everything remembered, for tests that it is bounded. */
  get held(): number {
    return this.#issued.length + this.#leaving.length + this.#given.length + this.#open.length + this.#heard.count
  }

  // -- ours --------------------------------------------------------------------------------------------------------

  /** Gives the peer ids to spare: some, or as many as there may be. */
  supply(all: boolean): void {
    if (this.#source === undefined) return
    this.#target = Math.max(this.#target, all ? MAX_CONNECTION_IDS : FEW_IDS)
    while (this.#issued.length < this.#target) {
      const id = this.#source.issue()
      const sequence = this.#nextSequence++
      this.#issued.push({ sequence, id, used: false })
      this.#queue({ type: "NewCid", sequence, retirePriorTo: 0, cid: id })
    }
  }

  /** A packet came by the id that `datagram` begins with. Whether it is the first by that id. */
  onUsed(datagram: Uint8Array): boolean {
    for (const issued of this.#issued) {
      if (!same(issued.id, datagram)) continue
      const first = !issued.used
      issued.used = true
      return first
    }
    return false
  }

  /** The peer retires an id of ours; it leads here for `graceMs` more. A "protocol" violation for one never issued. */
  onRetire(now: number, sequence: number, graceMs: number): "protocol" | undefined {
    if (sequence >= this.#nextSequence) return "protocol"
    const at = this.#issued.findIndex((issued) => issued.sequence === sequence)
    const issued = this.#issued[at]
    if (issued === undefined || this.#source === undefined) return undefined
    this.#issued.splice(at, 1)
    // Whoever retires it has it, whatever became of the acknowledgement.
    this.#open = this.#open.filter((frame) => frame.type !== "NewCid" || frame.sequence !== sequence)
    if (this.#leaving.length >= MAX_CONNECTION_IDS) this.#leave()
    this.#leaving.push({ id: issued.id, until: now + graceMs })
    this.supply(false)
    return this.#excess
  }

  /** When `expire` is due; `Infinity` for never. */
  get deadline(): number {
    return this.#leaving[0]?.until ?? Number.POSITIVE_INFINITY
  }

  /** Forgets the retired ids whose time is over. */
  expire(now: number): void {
    while (this.deadline <= now) this.#leave()
  }

  // -- the peer's --------------------------------------------------------------------------------------------------

  /**
   * The peer issues an id. "protocol" for one that contradicts an earlier one or is one too many. Afterwards paths with a
   * `stale` id have to take another.
   */
  onNew(frame: Frame.NewCid): "protocol" | undefined {
    const { sequence, cid, retirePriorTo } = frame
    const known = this.#given.find((given) => given.sequence === sequence || same(given.id, cid))
    if (known !== undefined && (known.sequence !== sequence || !same(known.id, cid))) return "protocol"
    if (!this.#heard.has(sequence)) {
      if (!this.#heard.insert(sequence, sequence)) return "protocol"
      this.#given.push({ sequence, id: cid.slice(), stale: false, taken: false, users: 0 })
    }
    this.#retiredPriorTo = Math.max(this.#retiredPriorTo, retirePriorTo)
    for (const given of [...this.#given]) {
      if (given.sequence >= this.#retiredPriorTo) continue
      given.stale = true
      if (given.users === 0) this.#retire(given)
    }
    if (this.#given.length > MAX_CONNECTION_IDS) return "protocol"
    return this.#excess
  }

  /** An id that no path has used, for one that has none; `undefined` when the peer has given no more. */
  take(): RemoteId | undefined {
    const given = this.#given.find(({ taken, stale }) => !taken && !stale)
    if (given === undefined) return undefined
    given.taken = true
    given.users = 1
    return given
  }

  /** One more path uses the id. */
  share(id: RemoteId): RemoteId {
    const given = this.#given.find((each) => each === id)
    if (given !== undefined) given.users++
    return id
  }

  /** A path uses the id no longer; the last one's release retires it. */
  release(id: RemoteId): void {
    const given = this.#given.find((each) => each === id)
    if (given !== undefined && --given.users <= 0) this.#retire(given)
  }

  // -- frames ------------------------------------------------------------------------------------------------------

  /** The next frame to send, to be repeated until it is acknowledged. */
  pollFrame(): Frame.NewCid | Frame.RetireCid | undefined {
    return this.#frames.shift()
  }

  /** A frame was acknowledged; others than ours do not matter. */
  onArrived(frame: Frame.Frame): void {
    const at = this.#open.indexOf(frame)
    if (at !== -1) this.#open.splice(at, 1)
  }

  // ------------------------------------------------------------------------------------------------------------------

  get #excess(): "protocol" | undefined {
    return this.#open.length > 4 * MAX_CONNECTION_IDS ? "protocol" : undefined
  }

  #queue(frame: Frame.NewCid | Frame.RetireCid): void {
    this.#frames.push(frame)
    this.#open.push(frame)
  }

  #retire(given: Given): void {
    this.#given = this.#given.filter((each) => each !== given)
    this.#queue({ type: "RetireCid", sequence: given.sequence })
  }

  #leave(): void {
    const leaving = this.#leaving.shift()
    if (leaving !== undefined) this.#source?.retire(leaving.id)
  }
}
