/**
 * How large a datagram the path carries: packetization layer path MTU discovery (RFC 8899), as a machine of its own. It
 * names the sizes to probe with, one probe in flight at a time, and takes the fate of probes and of ordinary packets.
 *
 * Sans-IO: `now` (ms) never goes back. After any call the owner reads `current`, the size that full packets may have, and
 * `deadline`, the time of the next `onTimeout`. It sends a probe whenever `pollProbe` names a size and it has a reason to
 * (a session that moves no bulk need not): a packet of exactly that many bytes, PING and padding, that elicits an
 * acknowledgement. The loss of a probe is no sign of congestion (RFC 9000 section 14.4). Probe timeouts of the
 * session must send no more than `base` bytes, or a black hole swallows them and nothing is ever declared lost.
 *
 * Search: the ceiling, then the sizes that paths are known to have from the largest down, then one block above what
 * passed (on most paths the last word), then by halves, down to one block of 16 bytes. A size is given up after
 * `MTU_MAX_PROBES` losses. After `MTU_RAISE_MS` the search starts again, unless the ceiling was reached.
 *
 * Black hole: packets above `base` are lost, over three round trips and at least six packets, while none that was sent
 * after the first of them and is as large arrives. Then `current` is `base` at once, and the search rests for a while.
 */
import {
  MAX_DATAGRAM_LENGTH,
  MTU_HOLE_PACKETS,
  MTU_HOLE_ROUNDS,
  MTU_MAX_PROBES,
  MTU_PROBE_GAP_MS,
  MTU_PROBE_TIMEOUT_MS,
  MTU_RAISE_MS,
  MTU_REST_MS,
  PADDING_BLOCK
} from "./Constants.ts"

/**
 * Bytes of UDP payload, in whole blocks, that links leave: jumbo Ethernet over IPv4 and IPv6, Ethernet and PPPoE over IPv4,
 * Ethernet over IPv6, WireGuard over IPv4 and IPv6, and IPv6's least MTU under either.
 */
const STEPS: ReadonlyArray<number> = [8960, 8944, 1472, 1456, 1440, 1392, 1360, 1248, 1232]

const Phase = {
  /** The ceiling leaves nothing to find. */
  Disabled: 0,
  /** A probe goes when the deadline has passed. */
  Waiting: 1,
  /** A probe may go now. */
  Ready: 2,
  /** A probe is in flight; at the deadline it counts as lost. */
  InFlight: 3,
  /** Nothing larger passes; at the deadline the search starts again. */
  Complete: 4
} as const
type Phase = (typeof Phase)[keyof typeof Phase]

const wholeBlocks = (bytes: number): number => Math.floor(bytes / PADDING_BLOCK) * PADDING_BLOCK

export interface PathMtuOptions {
  /** Bytes that every path of ours carries, a multiple of 16; by default 1200. */
  readonly base?: number
  /** Bytes of the largest datagram that both ends and the socket can handle. Up to `base`: the machine does nothing. */
  readonly ceiling: number
}

export class PathMtu {
  readonly base: number
  /** Bytes that full packets may have: a multiple of 16, between `base` and the ceiling. */
  current: number
  /** When to call `onTimeout`; `Infinity` for never. */
  deadline = Number.POSITIVE_INFINITY

  #phase: Phase = Phase.Disabled
  #ceiling: number
  /** Bytes: the largest size not yet given up in this search. */
  #high: number
  /** The search has tried the ceiling, and one block above what passed. */
  #triedCeiling = false
  #triedNext = false
  /** The size being tried, and how many probes of it were lost. */
  #size = 0
  #losses = 0
  /** Packets below belong to an earlier path. */
  #pathStart = 0

  /** The newest acknowledged packet of full size. */
  #provenAt = -1
  /** The losses that look like a black hole: how many, in how many rounds, the first, the smallest. */
  #holePackets = 0
  #holeRounds = 0
  #holeStart = 0
  #holeBytes = 0
  /** Packets from here on belong to the next round. */
  #holeMark = 0
  /** Black holes since the last quiet search. */
  #holes = 0

  /** The search starts at once. Throws `RangeError` for a base that is not in whole blocks. */
  constructor(now: number, options: PathMtuOptions) {
    this.base = options.base ?? MAX_DATAGRAM_LENGTH
    if (this.base <= 0 || this.base % PADDING_BLOCK !== 0) {
      throw new RangeError(`PathMtu: a base of ${this.base} bytes is not in whole blocks`)
    }
    this.current = this.base
    this.#ceiling = this.base
    this.#high = this.base
    this.setCeiling(now, options.ceiling)
  }

  /** Bytes that a probe may have at most. */
  get ceiling(): number {
    return this.#ceiling
  }

  /** Whether larger packets than `base` are possible at all. */
  get enabled(): boolean {
    return this.#phase !== Phase.Disabled
  }

  /** Whether the search has come to its end. */
  get complete(): boolean {
    return this.#phase === Phase.Complete
  }

  /** Another ceiling: full packets shrink to it at once, a higher one is searched for. */
  setCeiling(now: number, bytes: number): void {
    const ceiling = Math.max(this.base, wholeBlocks(bytes))
    if (ceiling === this.#ceiling) return
    this.#ceiling = ceiling
    this.current = Math.min(this.current, ceiling)
    if (ceiling === this.base) this.#enter(Phase.Disabled, Number.POSITIVE_INFINITY)
    else this.#search(now)
  }

  /** The session moved: everything learnt is void, and so is the fate of packets below `firstPacketNumber`. */
  onPathChanged(now: number, firstPacketNumber: number, ceiling: number): void {
    this.#pathStart = firstPacketNumber
    this.#provenAt = -1
    this.#holePackets = 0
    this.#holes = 0
    this.current = this.base
    this.#ceiling = this.base
    this.#enter(Phase.Disabled, Number.POSITIVE_INFINITY)
    this.setCeiling(now, ceiling)
  }

  // -- probes ------------------------------------------------------------------------------------------------------

  /** The deadline has passed. Harmless when called early. */
  onTimeout(now: number): void {
    if (this.deadline > now) return
    if (this.#phase === Phase.InFlight) this.#onSizeLost(now)
    else if (this.#phase === Phase.Waiting) this.#enter(Phase.Ready, Number.POSITIVE_INFINITY)
    else if (this.#phase === Phase.Complete) {
      this.#holes = 0
      this.#search(now)
    }
  }

  /** Bytes of the probe to send now; asking counts as sending. `undefined`: none is due. */
  pollProbe(now: number): number | undefined {
    if (this.#phase !== Phase.Ready) return undefined
    this.#enter(Phase.InFlight, now + MTU_PROBE_TIMEOUT_MS)
    return this.#size
  }

  /** A probe arrived, perhaps after it had been given up. Whether `current` has grown. */
  onProbeAcked(now: number, packetNumber: number, bytes: number): boolean {
    if (packetNumber < this.#pathStart || bytes > this.#ceiling || bytes <= this.current) return false
    this.current = bytes
    this.#provenAt = Math.max(this.#provenAt, packetNumber)
    this.#holePackets = 0
    this.#high = Math.max(this.#high, bytes)
    if (this.#phase !== Phase.InFlight || this.#size <= bytes) this.#next(now)
    return true
  }

  /** A probe was declared lost. */
  onProbeLost(now: number, packetNumber: number, bytes: number): void {
    if (packetNumber < this.#pathStart || this.#phase !== Phase.InFlight || bytes !== this.#size) return
    this.#onSizeLost(now)
  }

  // -- ordinary packets --------------------------------------------------------------------------------------------

  /** A packet that was no probe arrived. */
  onPacketAcked(packetNumber: number, bytes: number): void {
    if (bytes <= this.base || packetNumber < this.#pathStart) return
    if (bytes >= this.current && packetNumber > this.#provenAt) this.#provenAt = packetNumber
    if (this.#holePackets > 0 && packetNumber > this.#holeStart && bytes >= this.#holeBytes) this.#holePackets = 0
  }

  /**
   * A packet that was no probe was declared lost. `nextPacketNumber`: of the packet to be sent next. Whether this
   * betrayed a black hole, so that `current` has shrunk to `base`.
   */
  onPacketLost(now: number, packetNumber: number, bytes: number, nextPacketNumber: number): boolean {
    if (bytes <= this.base || this.current === this.base) return false
    if (packetNumber < this.#pathStart || packetNumber < this.#provenAt) return false
    if (this.#holePackets === 0) {
      this.#holeRounds = 0
      this.#holeStart = packetNumber
      this.#holeBytes = bytes
      this.#holeMark = packetNumber
    }
    this.#holePackets++
    this.#holeBytes = Math.min(this.#holeBytes, bytes)
    this.#holeStart = Math.min(this.#holeStart, packetNumber)
    if (packetNumber >= this.#holeMark) {
      // Packets already under way belong to this round: one overflowing queue is no black hole.
      this.#holeRounds++
      this.#holeMark = nextPacketNumber
    }
    if (this.#holeRounds < MTU_HOLE_ROUNDS || this.#holePackets < MTU_HOLE_PACKETS) return false
    this.current = this.base
    this.#holePackets = 0
    this.#provenAt = -1
    this.#pathStart = nextPacketNumber
    this.#search(now)
    this.#enter(Phase.Waiting, now + Math.min(MTU_REST_MS * 2 ** Math.min(this.#holes++, 30), MTU_RAISE_MS))
    return true
  }

  // ------------------------------------------------------------------------------------------------------------------

  #enter(phase: Phase, deadline: number): void {
    this.#phase = phase
    this.deadline = deadline
  }

  #search(now: number): void {
    this.#high = this.#ceiling
    this.#triedCeiling = false
    this.#triedNext = false
    this.#next(now)
  }

  /** Chooses the next size, or ends the search. */
  #next(now: number): void {
    this.#losses = 0
    this.#size = this.#choose()
    if (this.#size > this.current) this.#enter(Phase.Ready, Number.POSITIVE_INFINITY)
    else this.#enter(Phase.Complete, this.current < this.#ceiling ? now + MTU_RAISE_MS : Number.POSITIVE_INFINITY)
  }

  /** A size above `current` and at most `#high`; when there is none, `current`. */
  #choose(): number {
    const low = this.current
    const high = this.#high
    if (high <= low) return low
    if (!this.#triedCeiling) {
      this.#triedCeiling = true
      return high
    }
    if (!this.#triedNext) {
      for (const step of STEPS) if (step > low && step <= high) return step
      this.#triedNext = true
      return low + PADDING_BLOCK
    }
    return low + Math.max(PADDING_BLOCK, wholeBlocks((high - low) / 2))
  }

  #onSizeLost(now: number): void {
    if (++this.#losses < MTU_MAX_PROBES) {
      // What took this probe may be a burst: let it pass.
      this.#enter(Phase.Waiting, now + MTU_PROBE_GAP_MS)
      return
    }
    this.#high = this.#size - PADDING_BLOCK
    this.#next(now)
  }
}
