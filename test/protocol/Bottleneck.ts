/**
 * Flows through one bottleneck in virtual time, for congestion control: Recovery and a Controller on packet numbers alone,
 * without packets, crypto or sessions, and model TCP senders beside them. One seed, exact figures, more than a million
 * packets a second.
 *
 * Hosts are modelled as ours: timers wait for whole milliseconds and fire a little late, arrivals are handled in turns at least
 * `turnMs` apart, and a receiver acknowledges every second packet at the end of its turn, a lone one after an eighth of the
 * round trip. The way back has delay (and, if wished, loss and aggregation) but no queue. Payload counts once, however
 * often it was sent; headers do not count, so 100 % of the line is out of reach: see `efficiency`.
 */
import type { Factory } from "../../src/domain/protocol/Congestion.ts"
import { Recovery } from "../../src/domain/protocol/Recovery.ts"
import { Rtt } from "../../src/domain/protocol/Rtt.ts"
import { type TcpKind, TcpModel } from "./TcpModel.ts"

const NEVER = Number.POSITIVE_INFINITY

/** Gilbert-Elliott: two states, changed before each packet with these chances. */
export interface Bursts {
  readonly toBad: number
  readonly toGood: number
  /** Chance of loss in the bad state; default 1. */
  readonly loss?: number
}

export interface Change {
  readonly atMs: number
  readonly mbit?: number
  readonly rttMs?: number
  readonly loss?: number
}

export interface Path {
  readonly mbit: number
  /** Without queue and transmission. */
  readonly rttMs: number
  /** Bytes the queue holds; default one bandwidth-delay product, at least ten packets of 1500. */
  readonly queue?: number
  /** The same in bandwidth-delay products. */
  readonly queueBdp?: number
  /** Chance that a packet is lost behind the queue. */
  readonly loss?: number
  readonly bursts?: Bursts
  /** Milliseconds: up to this much extra delay for each packet, so it reorders. */
  readonly jitterMs?: number
  /** A token bucket before the queue; what finds it empty is dropped. */
  readonly policer?: { readonly mbit: number; readonly bytes: number }
  /** Chance that an acknowledgement is lost. */
  readonly ackLoss?: number
  /** Acknowledgements come back only at multiples of this. */
  readonly ackEveryMs?: number
  readonly changes?: ReadonlyArray<Change>
}

export interface FlowOptions {
  readonly name?: string
  readonly sender: Factory | TcpKind
  /** Bytes of a UDP datagram; default 1200. */
  readonly datagram?: number
  readonly startMs?: number
  readonly stopMs?: number
  /** Payload to move; default endless, 0 for none. */
  readonly bytes?: number
  /** Payload comes to hand at this rate only. */
  readonly appMbit?: number
  /** Payload is at hand only in the first `onMs` of every `everyMs`. */
  readonly onOff?: { readonly onMs: number; readonly everyMs: number }
  /** Small messages that go before all bulk, repeated until they arrive. */
  readonly messages?: { readonly everyMs: number; readonly bytes: number }
  /** An ACK for so many packets; default 2. */
  readonly ackEvery?: number
  /** Milliseconds between two turns of a host; default 1, on paths below 5 ms 0.05; TCP 0.1. */
  readonly turnMs?: number
}

export interface Options {
  readonly path: Path
  readonly flows: ReadonlyArray<FlowOptions>
  readonly untilMs: number
  /** Statistics and goodput begin here; default 0. */
  readonly fromMs?: number
  readonly seed?: number
  /** Length of an entry of `series`; default 1000. */
  readonly bucketMs?: number
  /** Called every `everyMs` of virtual time. */
  readonly watch?: { readonly everyMs: number; readonly call: (now: number, flows: ReadonlyArray<Probe>) => void }
}

/** What `watch` may look at. */
export interface Probe {
  readonly name: string
  readonly recovery: Recovery<number> | undefined
  readonly inFlight: number
  readonly window: number
  readonly queuedBytes: number
}

export interface FlowResult {
  readonly name: string
  /** Payload that arrived between `fromMs` (or the start) and the end of the flow, per time, and as share of the line. */
  readonly mbit: number
  readonly share: number
  /** Of the payload that could at best have arrived: 1 is a line never idle, nothing lost or sent twice. */
  readonly efficiency: number
  readonly sent: number
  readonly lost: number
  /** Share of the packets that the sender gave up for lost. */
  readonly retransmitted: number
  /** Declared lost, yet arrived. */
  readonly spurious: number
  /** Milliseconds a packet of this flow waited in the queue. */
  readonly queueMean: number
  readonly queue50: number
  readonly queue95: number
  readonly queue99: number
  /** Milliseconds from sending to acknowledgement. */
  readonly rtt50: number
  readonly rtt95: number
  readonly rtt99: number
  /** Milliseconds from the wish to send a message to its arrival. */
  readonly message50: number
  readonly message95: number
  readonly message99: number
  readonly messages: number
  /** When the last of `bytes` arrived; Infinity if it did not. */
  readonly doneMs: number
  /** Payload bytes that arrived in each bucket of time. */
  readonly series: ReadonlyArray<number>
}

export interface Result {
  readonly flows: ReadonlyArray<FlowResult>
  readonly dropped: number
  readonly packets: number
}

/** UDP and IPv4 headers; our packet's header, tag and frame headers; a TCP segment on the wire and its payload. */
const UDP_OVERHEAD = 28
const OUR_OVERHEAD = 44
const TCP_WIRE = 1500
const TCP_PAYLOAD = 1448
const MAX_RANGES = 64
const TIMER_LATENESS_MS = 0.3

/** A generator of numbers in [0, 1). */
export const chance = (seed: number): (() => number) => {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Jain's fairness index: 1 when all are equal, 1/n when one has everything. */
export const jain = (values: ReadonlyArray<number>): number => {
  const sum = values.reduce((a, b) => a + b, 0)
  const squares = values.reduce((a, b) => a + b * b, 0)
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares)
}

/** Percentiles to about two per cent, over 0.01 ms. */
class Histogram {
  readonly #bins = new Uint32Array(1024)
  count = 0
  sum = 0

  add(value: number): void {
    this.count++
    this.sum += value
    const bin = Math.floor(50 * Math.log(1 + value * 100))
    this.#bins[Math.min(1023, Math.max(0, bin))] = (this.#bins[Math.min(1023, Math.max(0, bin))] as number) + 1
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count
  }

  at(share: number): number {
    let left = this.count * share
    for (let bin = 0; bin < 1024; bin++) {
      left -= this.#bins[bin] as number
      if (left <= 0) return (Math.exp((bin + 0.5) / 50) - 1) / 100
    }
    return NEVER
  }
}

/** Packets on their way, by time; columns in a ring that grows. */
class Wire {
  #mask = 1023
  #head = 0
  #tail = 0
  at = new Float64Array(1024)
  number = new Float64Array(1024)
  content = new Int32Array(1024)
  bytes = new Int32Array(1024)
  flow = new Int32Array(1024)

  get next(): number {
    return this.#head === this.#tail ? NEVER : (this.at[this.#head & this.#mask] as number)
  }

  get head(): number {
    return this.#head & this.#mask
  }

  shift(): void {
    this.#head++
  }

  push(at: number, flow: number, number: number, content: number, bytes: number): void {
    if (this.#tail - this.#head > this.#mask) this.#grow()
    const mask = this.#mask
    let i = this.#tail++
    for (; i > this.#head && (this.at[(i - 1) & mask] as number) > at; i--) {
      const to = i & mask
      const from = (i - 1) & mask
      this.at[to] = this.at[from] as number
      this.number[to] = this.number[from] as number
      this.content[to] = this.content[from] as number
      this.bytes[to] = this.bytes[from] as number
      this.flow[to] = this.flow[from] as number
    }
    const slot = i & mask
    this.at[slot] = at
    this.flow[slot] = flow
    this.number[slot] = number
    this.content[slot] = content
    this.bytes[slot] = bytes
  }

  #grow(): void {
    const size = (this.#mask + 1) * 2
    const roll = <A extends Float64Array | Int32Array>(from: A, to: A): A => {
      for (let i = 0; i <= this.#mask; i++) to[i] = from[(this.#head + i) & this.#mask] as number
      return to
    }
    this.at = roll(this.at, new Float64Array(size))
    this.number = roll(this.number, new Float64Array(size))
    this.content = roll(this.content, new Int32Array(size))
    this.bytes = roll(this.bytes, new Int32Array(size))
    this.flow = roll(this.flow, new Int32Array(size))
    this.#head = 0
    this.#tail = this.#mask + 1
    this.#mask = size - 1
  }
}

/** A set of numbers that grows. */
class Marks {
  #bytes = new Uint8Array(1 << 14)

  has(index: number): boolean {
    return index < this.#bytes.length && this.#bytes[index] === 1
  }

  /** False if it was there. */
  add(index: number): boolean {
    if (index >= this.#bytes.length) {
      const larger = new Uint8Array(Math.max(index + 1, this.#bytes.length * 2))
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    if (this.#bytes[index] === 1) return false
    this.#bytes[index] = 1
    return true
  }
}

interface Range {
  start: number
  end: number
}

interface Ack {
  readonly at: number
  readonly ranges: ReadonlyArray<Range>
  readonly delay: number
}

class Flow {
  readonly name: string
  readonly #options: FlowOptions
  readonly #index: number
  readonly #world: World
  readonly tcp: TcpModel | undefined
  readonly recovery: Recovery<number> | undefined
  readonly #wireBytes: number
  readonly #datagram: number
  readonly #payload: number
  readonly #turnMs: number
  readonly #startMs: number
  readonly #stopMs: number
  readonly #chunks: number
  // Sender. Content: a chunk of bulk (0 and up), a message (-1 - index), or nothing (EMPTY).
  #next = 0
  #nextChunk = 0
  #freedChunks = 0
  #probes = 0
  #wakeAt: number
  #lastTurn = Number.NEGATIVE_INFINITY
  readonly #repeat: Array<number> = []
  #repeatHead = 0
  readonly #urgent: Array<number> = []
  readonly #acked = new Marks()
  readonly #ackedMessages = new Marks()
  readonly #messageAt: Array<number> = []
  readonly #acks: Array<Ack> = []
  #ackHead = 0
  // Receiver.
  readonly arriving = new Wire()
  readonly #received = new Marks()
  readonly #receivedMessages = new Marks()
  #ranges: Array<Range> = []
  #confirmed = -1
  #unacked = 0
  #outOfOrder = false
  #ackAt = NEVER
  #largestAt = 0
  #receiverTurn = Number.NEGATIVE_INFINITY
  // Figures.
  sent = 0
  lost = 0
  spurious = 0
  received = 0
  doneMs = NEVER
  readonly queue = new Histogram()
  readonly #rtts = new Histogram()
  readonly #latency = new Histogram()
  readonly #series: Array<number> = []

  constructor(index: number, options: FlowOptions, world: World) {
    this.#index = index
    this.#options = options
    this.#world = world
    this.#startMs = options.startMs ?? 0
    this.#stopMs = Math.min(options.stopMs ?? NEVER, world.untilMs)
    this.#wakeAt = this.#startMs
    const { sender } = options
    if (typeof sender === "string") {
      this.tcp = new TcpModel(sender)
      this.name = options.name ?? sender
      this.#datagram = TCP_WIRE
      this.#wireBytes = TCP_WIRE
      this.#payload = TCP_PAYLOAD
      this.#turnMs = options.turnMs ?? (world.rttMs < 5 ? 0.02 : 0.1)
    } else {
      this.#datagram = options.datagram ?? 1200
      const controller = sender(this.#startMs, this.#datagram)
      this.recovery = new Recovery<number>(new Rtt(), controller, this.#datagram)
      this.name = options.name ?? controller.name
      this.#wireBytes = this.#datagram + UDP_OVERHEAD
      this.#payload = this.#datagram - OUR_OVERHEAD
      this.#turnMs = options.turnMs ?? (world.rttMs < 5 ? 0.05 : 1)
    }
    this.#chunks = Math.ceil((options.bytes ?? NEVER) / this.#payload)
  }

  get inFlight(): number {
    return this.tcp !== undefined ? this.tcp.inFlight * TCP_WIRE : (this.recovery?.bytesInFlight ?? 0)
  }

  get window(): number {
    return this.tcp !== undefined ? this.tcp.window * TCP_WIRE : (this.recovery?.controller.window() ?? 0)
  }

  get queuedBytes(): number {
    return this.#world.queuedBytes
  }

  /** When this flow has anything to do. */
  get nextAt(): number {
    return Math.min(this.senderAt, this.receiverAt)
  }

  get senderAt(): number {
    const ack = this.#acks[this.#ackHead]
    const turn = ack === undefined ? NEVER : Math.max(ack.at, this.#lastTurn + this.#turnMs)
    return Math.min(turn, this.#wakeAt)
  }

  get receiverAt(): number {
    return Math.min(Math.max(this.arriving.next, this.#receiverTurn + this.#turnMs), this.#ackAt)
  }

  // -- sender ------------------------------------------------------------------------------------------------------

  senderTurn(now: number): void {
    const world = this.#world
    this.#lastTurn = now
    while (this.#ackHead < this.#acks.length && (this.#acks[this.#ackHead] as Ack).at <= now) {
      this.#onAck(now, this.#acks[this.#ackHead++] as Ack)
    }
    if (this.#ackHead > 1000) {
      this.#acks.splice(0, this.#ackHead)
      this.#ackHead = 0
    }
    this.#addMessages(now)
    const at = this.tcp !== undefined ? this.#sendTcp(now, this.tcp) : this.#sendOurs(now)
    // A host's timer: whole milliseconds, never early.
    this.#wakeAt = at === NEVER ? NEVER : now + Math.max(1, Math.ceil(at - now - 1e-9)) + world.lateness()
  }

  #onAck(now: number, ack: Ack): void {
    const world = this.#world
    this.#confirmed = Math.max(this.#confirmed, (ack.ranges[0] as Range).end)
    if (this.tcp !== undefined) {
      const lost = this.tcp.onAck(now, ack.ranges)
      if (now >= world.fromMs) this.lost += lost
      return
    }
    const recovery = this.recovery as Recovery<number>
    const result = recovery.onAck(now, ack.ranges, ack.delay)
    if (result === "invalid") throw new Error("Bottleneck: an invalid acknowledgement")
    if (result.rttSampled && now >= world.fromMs) this.#rtts.add(recovery.rtt.latest)
    for (const content of result.acked) {
      if (content >= 0) this.#acked.add(content)
      else if (content !== EMPTY) this.#ackedMessages.add(-1 - content)
    }
    this.#onLost(now, result.lost)
  }

  #onLost(now: number, lost: ReadonlyArray<number>): void {
    if (now >= this.#world.fromMs) this.lost += lost.length
    for (const content of lost) this.#requeue(content)
  }

  #requeue(content: number): void {
    if (content >= 0) this.#repeat.push(content)
    else if (content !== EMPTY && !this.#urgent.includes(content)) this.#urgent.push(content)
  }

  #addMessages(now: number): void {
    const { messages } = this.#options
    if (messages === undefined) return
    for (;;) {
      const at = this.#startMs + this.#messageAt.length * messages.everyMs
      if (at > now || at >= this.#stopMs) return
      this.#urgent.push(-1 - this.#messageAt.length)
      this.#messageAt.push(at)
    }
  }

  /** When the application has more, beyond what it has now. */
  #appAt(now: number): number {
    const { messages, onOff, appMbit } = this.#options
    let at = NEVER
    if (messages !== undefined) {
      const due = this.#startMs + this.#messageAt.length * messages.everyMs
      if (due < this.#stopMs) at = due
    }
    if (this.#nextChunk >= this.#chunks || now >= this.#stopMs) return at
    if (appMbit !== undefined)
      at = Math.min(at, this.#startMs + ((this.#freedChunks + 1) * this.#payload) / (appMbit * 125))
    if (onOff !== undefined && (now - this.#startMs) % onOff.everyMs >= onOff.onMs) {
      at = Math.min(at, now + onOff.everyMs - ((now - this.#startMs) % onOff.everyMs))
    }
    return at
  }

  #hasBulk(now: number): boolean {
    if (now >= this.#stopMs) return false
    while (this.#repeatHead < this.#repeat.length && this.#acked.has(this.#repeat[this.#repeatHead] as number)) {
      this.#repeatHead++
    }
    if (this.#repeatHead < this.#repeat.length) return true
    if (this.#nextChunk >= this.#chunks) return false
    const { appMbit, onOff } = this.#options
    if (onOff !== undefined && (now - this.#startMs) % onOff.everyMs >= onOff.onMs) return false
    if (appMbit === undefined) return true
    this.#freedChunks = Math.floor(((now - this.#startMs) * appMbit * 125) / this.#payload)
    return this.#nextChunk < this.#freedChunks
  }

  #takeBulk(): number {
    if (this.#repeatHead < this.#repeat.length) return this.#repeat[this.#repeatHead++] as number
    return this.#nextChunk++
  }

  #sendOurs(now: number): number {
    const recovery = this.recovery as Recovery<number>
    if (recovery.deadline <= now) {
      const { lost, probe } = recovery.onTimeout(now)
      this.#onLost(now, lost)
      if (probe) {
        this.#probes = 2
        const oldest = recovery.oldest()
        if (oldest !== undefined) this.#requeue(oldest)
      }
    }
    for (;;) {
      while (this.#urgent.length > 0 && this.#ackedMessages.has(-1 - (this.#urgent[0] as number))) this.#urgent.shift()
      const urgent = this.#urgent.length > 0
      const bulk = this.#hasBulk(now)
      if (!urgent && !bulk && this.#probes === 0) return Math.min(recovery.deadline, this.#appAt(now))
      const at = this.#probes > 0 ? now : recovery.sendTime(now, this.#datagram)
      if (at > now) return Math.min(at, recovery.deadline, this.#appAt(now))
      if (this.#probes > 0) this.#probes--
      let content = EMPTY
      let bytes = 48
      if (urgent) {
        content = this.#urgent.shift() as number
        bytes = Math.min(this.#datagram, Math.ceil(((this.#options.messages?.bytes ?? 0) + OUR_OVERHEAD) / 16) * 16)
      } else if (bulk) {
        content = this.#takeBulk()
        bytes = this.#datagram
      }
      const number = this.#next++
      recovery.onSent(now, number, bytes, true, content, this.#urgent.length === 0 && !this.#hasBulk(now))
      if (now >= this.#world.fromMs) this.sent++
      this.#world.enter(now, this.#index, number, content, bytes + UDP_OVERHEAD)
    }
  }

  #sendTcp(now: number, tcp: TcpModel): number {
    if (tcp.deadline <= now) {
      const lost = tcp.onTimeout(now)
      if (now >= this.#world.fromMs) this.lost += lost
    }
    while (tcp.canSend && this.#hasBulk(now)) {
      // Retransmissions carry new chunks here: what counts is bytes over time.
      const content = this.#nextChunk++
      const number = tcp.onSent(now)
      if (now >= this.#world.fromMs) this.sent++
      this.#world.enter(now, this.#index, number, content, this.#wireBytes)
    }
    return Math.min(tcp.deadline, this.#appAt(now))
  }

  // -- receiver ----------------------------------------------------------------------------------------------------

  receiverTurn(now: number): void {
    const wire = this.arriving
    this.#receiverTurn = now
    while (wire.next <= now) {
      const slot = wire.head
      this.#onPacket(now, wire.at[slot] as number, wire.number[slot] as number, wire.content[slot] as number)
      wire.shift()
    }
    const every = this.#options.ackEvery ?? 2
    if (this.#unacked === 0) this.#ackAt = NEVER
    else if (this.#unacked >= every || this.#outOfOrder || this.#ackAt <= now) this.#sendAck(now)
    else if (this.#ackAt === NEVER)
      this.#ackAt = Math.ceil(now + Math.min(25, this.#world.rttMs / 8)) + this.#world.lateness()
  }

  #onPacket(now: number, at: number, number: number, content: number): void {
    const world = this.#world
    this.#unacked++
    this.#insert(number)
    if (number === (this.#ranges.at(-1) as Range).end) this.#largestAt = at
    if (content === EMPTY) return
    if (content < 0) {
      const message = -1 - content
      if (!this.#receivedMessages.add(message)) return
      if (now >= world.fromMs) this.#latency.add(at - (this.#messageAt[message] as number))
      return
    }
    if (!this.#received.add(content)) {
      if (now >= world.fromMs) this.spurious++
      return
    }
    if (++this.#arrived === this.#chunks) this.doneMs = at
    if (now >= world.fromMs && now <= this.#stopMs) this.received += this.#payload
    const bucket = Math.floor(at / world.bucketMs)
    while (this.#series.length <= bucket) this.#series.push(0)
    this.#series[bucket] = (this.#series[bucket] as number) + this.#payload
  }
  #arrived = 0

  #insert(number: number): void {
    const ranges = this.#ranges
    let i = ranges.length - 1
    while (i >= 0 && (ranges[i] as Range).start > number) i--
    const below = ranges[i]
    const above = ranges[i + 1]
    if (i < ranges.length - 1 || (below !== undefined && number !== below.end + 1)) this.#outOfOrder = true
    if (below !== undefined && number <= below.end) return
    const joinsBelow = below !== undefined && below.end + 1 === number
    const joinsAbove = above !== undefined && above.start - 1 === number
    if (joinsBelow && joinsAbove) {
      below.end = above.end
      ranges.splice(i + 1, 1)
    } else if (joinsBelow) below.end = number
    else if (joinsAbove) above.start = number
    else {
      ranges.splice(i + 1, 0, { start: number, end: number })
      if (ranges.length > MAX_RANGES) ranges.shift()
    }
  }

  #sendAck(now: number): void {
    const world = this.#world
    const delay = now - this.#largestAt
    // Our side forgets what the sender has heard of, as an acknowledged ACK lets it.
    while (this.#ranges.length > 1 && (this.#ranges[0] as Range).end < this.#confirmed) this.#ranges.shift()
    this.#unacked = 0
    this.#outOfOrder = false
    this.#ackAt = NEVER
    if (world.losesAck()) return
    const ranges: Array<Range> = []
    for (let i = this.#ranges.length - 1; i >= 0; i--) {
      const { start, end } = this.#ranges[i] as Range
      ranges.push({ start, end })
    }
    const at = world.ackArrival(now)
    const before = this.#acks.at(-1)
    this.#acks.push({ at: before === undefined ? at : Math.max(at, before.at), ranges, delay })
  }

  result(): FlowResult {
    const from = Math.max(this.#world.fromMs, this.#startMs)
    const until = Math.min(this.#stopMs, this.doneMs)
    const mbit = (this.received * 8) / 1000 / Math.max(until - from, 1e-9)
    const share = mbit / this.#world.mbit
    return {
      name: this.name,
      mbit,
      share,
      efficiency: share / (this.#payload / this.#wireBytes),
      sent: this.sent,
      lost: this.lost,
      retransmitted: this.sent === 0 ? 0 : this.lost / this.sent,
      spurious: this.spurious,
      queueMean: this.queue.mean,
      queue50: this.queue.at(0.5),
      queue95: this.queue.at(0.95),
      queue99: this.queue.at(0.99),
      rtt50: this.#rtts.at(0.5),
      rtt95: this.#rtts.at(0.95),
      rtt99: this.#rtts.at(0.99),
      message50: this.#latency.at(0.5),
      message95: this.#latency.at(0.95),
      message99: this.#latency.at(0.99),
      messages: this.#latency.count,
      doneMs: this.doneMs,
      series: this.#series
    }
  }
}

const EMPTY = -0x7fffffff

class World {
  readonly fromMs: number
  readonly untilMs: number
  readonly bucketMs: number
  readonly flows: ReadonlyArray<Flow>
  mbit: number
  rttMs: number
  dropped = 0
  packets = 0
  queuedBytes = 0
  readonly #path: Path
  readonly #draw: () => number
  readonly #queue = new Wire()
  readonly #limit: number
  readonly #watch: Options["watch"]
  #departsAt = NEVER
  #loss: number
  #bad = false
  #tokens: number
  #tokensAt = 0
  #change = 0

  constructor(options: Options) {
    const { path } = options
    this.#path = path
    this.fromMs = options.fromMs ?? 0
    this.untilMs = options.untilMs
    this.bucketMs = options.bucketMs ?? 1000
    this.mbit = path.mbit
    this.rttMs = path.rttMs
    this.#loss = path.loss ?? 0
    this.#draw = chance(options.seed ?? 1)
    const bdp = path.mbit * 125 * path.rttMs
    this.#limit = path.queue ?? Math.max(15_000, (path.queueBdp ?? 1) * bdp)
    this.#tokens = path.policer?.bytes ?? 0
    this.#watch = options.watch
    this.flows = options.flows.map((flow, index) => new Flow(index, flow, this))
  }

  /** A packet reaches the bottleneck. */
  enter(now: number, flow: number, number: number, content: number, bytes: number): void {
    this.packets++
    const { policer } = this.#path
    if (policer !== undefined) {
      this.#tokens = Math.min(policer.bytes, this.#tokens + (now - this.#tokensAt) * policer.mbit * 125)
      this.#tokensAt = now
      if (this.#tokens < bytes) {
        this.dropped++
        return
      }
      this.#tokens -= bytes
    }
    if (this.queuedBytes > 0 && this.queuedBytes + bytes > this.#limit) {
      this.dropped++
      return
    }
    this.queuedBytes += bytes
    this.#queue.push(now, flow, number, content, bytes)
    if (this.#departsAt === NEVER) this.#departsAt = now + bytes / (this.mbit * 125)
  }

  #depart(now: number): void {
    const queue = this.#queue
    const slot = queue.head
    const bytes = queue.bytes[slot] as number
    const index = queue.flow[slot] as number
    const flow = this.flows[index] as Flow
    const number = queue.number[slot] as number
    const content = queue.content[slot] as number
    const entered = queue.at[slot] as number
    queue.shift()
    this.queuedBytes -= bytes
    const following = queue.next === NEVER ? 0 : (queue.bytes[queue.head] as number)
    this.#departsAt = following === 0 ? NEVER : now + following / (this.mbit * 125)
    if (now >= this.fromMs) flow.queue.add(now - entered - bytes / (this.mbit * 125))
    if (this.#loses()) return
    const jitter = this.#path.jitterMs === undefined ? 0 : this.#path.jitterMs * this.#draw()
    flow.arriving.push(now + this.rttMs / 2 + jitter, index, number, content, bytes)
  }

  #loses(): boolean {
    const { bursts } = this.#path
    if (bursts !== undefined) {
      this.#bad = this.#bad ? this.#draw() >= bursts.toGood : this.#draw() < bursts.toBad
      if (this.#bad && this.#draw() < (bursts.loss ?? 1)) return true
    }
    return this.#loss > 0 && this.#draw() < this.#loss
  }

  /** Milliseconds by which a host's timer fires late. Without it flows would march in step, the first always ahead. */
  lateness(): number {
    return TIMER_LATENESS_MS * this.#draw()
  }

  losesAck(): boolean {
    const { ackLoss } = this.#path
    return ackLoss !== undefined && this.#draw() < ackLoss
  }

  ackArrival(now: number): number {
    const at = now + this.rttMs / 2
    const { ackEveryMs } = this.#path
    return ackEveryMs === undefined ? at : Math.ceil(at / ackEveryMs) * ackEveryMs
  }

  run(): void {
    const { flows } = this
    const changes = this.#path.changes ?? []
    const next = flows.map((flow) => flow.nextAt)
    let watchAt = this.#watch === undefined ? NEVER : 0
    for (;;) {
      let at = this.#departsAt
      let who = -1
      for (let i = 0; i < next.length; i++) {
        if ((next[i] as number) < at) {
          at = next[i] as number
          who = i
        }
      }
      const changeAt = changes[this.#change]?.atMs ?? NEVER
      const now = Math.min(at, changeAt, watchAt)
      if (now >= this.untilMs) return
      if (watchAt === now) {
        this.#watch?.call(now, flows)
        watchAt += this.#watch?.everyMs ?? NEVER
      } else if (changeAt === now) {
        const change = changes[this.#change++]
        this.mbit = change?.mbit ?? this.mbit
        this.rttMs = change?.rttMs ?? this.rttMs
        this.#loss = change?.loss ?? this.#loss
      } else if (who < 0) {
        const index = this.#queue.flow[this.#queue.head] as number
        this.#depart(now)
        next[index] = (flows[index] as Flow).nextAt
      } else {
        const flow = flows[who] as Flow
        if (flow.receiverAt <= now) flow.receiverTurn(now)
        else flow.senderTurn(now)
        next[who] = flow.nextAt
      }
    }
  }
}

/** Runs the flows over the path and says how they fared. */
export const run = (options: Options): Result => {
  const world = new World(options)
  world.run()
  return { flows: world.flows.map((flow) => flow.result()), dropped: world.dropped, packets: world.packets }
}
