/**
 * Two endpoints for as long as one likes, in virtual time: hours of talk, of files, of silence, on a link that loses,
 * delays, reorders, repeats, damages and is cut, while the client's address changes under it. Above the sessions stand two
 * desks that want every message once and in order and every file whole, whatever became of the session; when one dies the
 * client dials again. One seed decides everything.
 */
import * as crypto from "node:crypto"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type * as Congestion from "../../src/domain/protocol/Congestion.ts"
import type { Admission, Invitation } from "../../src/domain/protocol/Credential.ts"
import { Endpoint } from "../../src/domain/protocol/Endpoint.ts"
import type { EndpointEvent, Handle } from "../../src/domain/protocol/EndpointTypes.ts"
import { HintCounter } from "../../src/domain/protocol/HintCounter.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import type { KeyPair } from "../../src/domain/protocol/Primitives.ts"
import type { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent } from "../../src/domain/protocol/SessionTypes.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"
import { chance, LIMITS, SERVER, type Side, WALL } from "./Pair.ts"

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const KEEP_ALIVE_MS = 15_000
const DEAD_AFTER_MS = 15_000
/** Bytes per millisecond of the link each way, and of the queue before it. */
const RATE = 2500
const QUEUE = 150_000
const BLOCK = 16_384
/** Bytes of the datagrams that both ends try to send, and of those that always pass. */
const CEILING = 1472
const LEAST_MTU = 1200
const CANCELLED = 77

const DAY_LIMITS: Limits = { ...LIMITS, maxStreams: 32, idleTimeoutMs: 120_000 }

export interface DayOptions {
  readonly seed: number
  readonly hours: number
  /** Each session of either end draws one. */
  readonly congestion: ReadonlyArray<Congestion.Factory>
  /** Multiplies the number of files. Default 1. */
  readonly files?: number
}

/** What happened, for assertions and for people. */
export interface Report {
  readonly packets: number
  readonly bytes: number
  readonly lost: number
  readonly corrupted: number
  readonly duplicated: number
  readonly cuts: number
  readonly moves: number
  readonly sessions: number
  readonly messages: number
  readonly datagrams: { readonly sent: number; readonly received: number }
  readonly files: { readonly whole: number; readonly cancelled: number; readonly bytes: number }
  /** Of the messages and files that the applications had, and when. */
  readonly digest: string
}

/** The byte of a file at an offset. */
const byteAt = (file: number, offset: number): number => (offset * 31 + (offset >> 9) * 7 + file * 53) & 0xff

const u32 = (value: number): ReadonlyArray<number> => [
  value >>> 24,
  (value >>> 16) & 255,
  (value >>> 8) & 255,
  value & 255
]

const u32At = (bytes: Uint8Array, at: number): number =>
  (((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)) >>>
  0

const join = (a: Uint8Array, b: Uint8Array): Uint8Array => {
  if (a.length === 0) return b
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}

// -- what the applications want --------------------------------------------------------------------------------------

const CHAT = 1
const FILE = 2
const MESSAGE = 3
const CONFIRM = 4

interface Outgoing {
  readonly id: number
  readonly size: number
  /** Where its owner gives it up. */
  readonly cancelAt: number
}

interface Channel {
  kind: "new" | "chat" | "file-out" | "file-in"
  unread: Uint8Array
  file: number
  /** Of the file: what was written, or what came. */
  at: number
  /** The peer told where to go on from. */
  told: boolean
}

const channel = (kind: Channel["kind"]): Channel => ({
  kind,
  unread: new Uint8Array(0),
  file: -1,
  at: 0,
  told: false
})

/** One end's application, over any number of sessions. */
class Desk {
  readonly side: Side
  readonly #fail: (what: string) => never
  readonly #note: (what: string) => void
  /** The session to write to, and the stream of the talk in it. */
  session: Session | undefined
  handle: Handle = -1
  #chat = -1
  readonly #channels = new Map<Handle, Map<number, Channel>>()
  // The talk.
  readonly #outbox: Array<{ readonly seq: number; readonly bytes: Uint8Array }> = []
  #nextSeq = 0
  #expected = 0
  readonly written = crypto.createHash("sha256")
  readonly read = crypto.createHash("sha256")
  messages = 0
  // Files.
  readonly #sending = new Map<number, Outgoing>()
  readonly #have = new Map<number, number>()
  whole = 0
  cancelled = 0
  fileBytes = 0
  // Datagrams.
  readonly #seen = new Set<number>()
  #nextDatagram = 0
  datagramsSent = 0

  constructor(side: Side, fail: (what: string) => never, note: (what: string) => void) {
    this.side = side
    this.#fail = fail
    this.#note = note
  }

  get datagramsReceived(): number {
    return this.#seen.size
  }

  /** Nothing is left to say or to hear of. */
  get content(): boolean {
    return this.#outbox.length === 0 && this.#sending.size === 0
  }

  get channels(): number {
    let count = 0
    for (const each of this.#channels.values()) count += each.size
    return count
  }

  say(bytes: Uint8Array): void {
    const seq = this.#nextSeq++
    this.#outbox.push({ seq, bytes })
    this.written.update(Uint8Array.from(u32(bytes.length))).update(bytes)
    if (this.session !== undefined) this.#writeMessage(this.session, seq, bytes)
  }

  sendFile(file: Outgoing): void {
    this.#sending.set(file.id, file)
    this.#openFiles()
  }

  sendDatagram(): void {
    const seq = this.#nextDatagram++
    const bytes = Uint8Array.from([...u32(seq), ...Array.from({ length: seq % 900 }, (_, i) => byteAt(seq, i))])
    if (this.session?.sendDatagram(bytes) === true) this.datagramsSent++
  }

  /** A session to talk over. */
  begin(handle: Handle, session: Session): void {
    this.session = session
    this.handle = handle
    this.#chat = -1
    if (this.side === "client") {
      this.#chat = session.openStream(1) ?? this.#fail("no stream for the talk")
      this.#channelsOf(handle).set(this.#chat, channel("chat"))
      session.write(this.#chat, Uint8Array.of(CHAT))
      this.#repeat(session)
    }
    this.#openFiles()
  }

  end(handle: Handle): void {
    this.#channels.delete(handle)
    if (handle !== this.handle) return
    this.session = undefined
    this.handle = -1
    this.#chat = -1
  }

  /** Ends the talk in good order. */
  finish(): void {
    if (this.#chat >= 0) this.session?.finish(this.#chat)
  }

  on(handle: Handle, session: Session, event: SessionEvent): void {
    const channels = this.#channelsOf(handle)
    switch (event.type) {
      case "StreamOpened":
        channels.set(event.id, channel("new"))
        return
      case "StreamReadable":
        this.#onReadable(handle, session, event.id)
        return
      case "StreamWritable":
        this.#fill(session, event.id, channels.get(event.id))
        return
      case "StreamReset":
        session.resetStream(event.id, event.code)
        return
      case "StreamStopped":
        this.#note(`stopped ${event.id}`)
        return
      case "StreamClosed":
        channels.delete(event.id)
        return
      case "Datagram":
        this.#onDatagram(event.data)
        return
      default:
        return
    }
  }

  #channelsOf(handle: Handle): Map<number, Channel> {
    const known = this.#channels.get(handle) ?? new Map<number, Channel>()
    this.#channels.set(handle, known)
    return known
  }

  // -- the talk ------------------------------------------------------------------------------------------------------

  #repeat(session: Session): void {
    for (const { bytes, seq } of this.#outbox) this.#writeMessage(session, seq, bytes)
  }

  #writeMessage(session: Session, seq: number, bytes: Uint8Array): void {
    if (this.#chat < 0) return
    const head = Uint8Array.from([MESSAGE, ...u32(seq), ...u32(bytes.length)])
    session.write(this.#chat, join(head, bytes))
  }

  #onReadable(handle: Handle, session: Session, id: number): void {
    const one = this.#channelsOf(handle).get(id)
    if (one === undefined) return
    for (;;) {
      const got = session.read(id)
      if (got instanceof Uint8Array) {
        this.#onBytes(handle, session, id, one, got)
        continue
      }
      if (got === "finished") this.#onFinished(session, id, one)
      return
    }
  }

  #onBytes(handle: Handle, session: Session, id: number, one: Channel, bytes: Uint8Array): void {
    if (one.kind === "file-in") {
      this.#onFileBytes(one, bytes)
      return
    }
    one.unread = join(one.unread, bytes)
    if (one.kind === "new") {
      const kind = one.unread[0]
      if (kind === CHAT) {
        one.kind = "chat"
        one.unread = one.unread.slice(1)
        if (handle === this.handle) {
          this.#chat = id
          this.#repeat(session)
        }
      } else if (kind === FILE && one.unread.length >= 5) {
        one.kind = "file-in"
        one.file = u32At(one.unread, 1)
        one.at = this.#have.get(one.file) ?? 0
        session.write(id, Uint8Array.from(u32(one.at)))
        const rest = one.unread.slice(5)
        one.unread = new Uint8Array(0)
        if (rest.length > 0) this.#fail("a file began before it was asked for")
        return
      } else if (kind !== FILE) this.#fail(`stream ${id} begins with ${kind}`)
    }
    if (one.kind === "chat") this.#onChat(session, id, one)
    else if (one.kind === "file-out" && !one.told && one.unread.length >= 4) {
      one.told = true
      one.at = u32At(one.unread, 0)
      this.#fill(session, id, one)
    }
  }

  #onChat(session: Session, id: number, one: Channel): void {
    let at = 0
    const { unread } = one
    for (;;) {
      const left = unread.length - at
      if (left >= 5 && unread[at] === CONFIRM) {
        const seq = u32At(unread, at + 1)
        while ((this.#outbox[0]?.seq ?? Number.POSITIVE_INFINITY) <= seq) this.#outbox.shift()
        at += 5
      } else if (left >= 9 && unread[at] === MESSAGE && left >= 9 + u32At(unread, at + 5)) {
        const seq = u32At(unread, at + 1)
        const bytes = unread.slice(at + 9, at + 9 + u32At(unread, at + 5))
        at += 9 + bytes.length
        if (seq > this.#expected) this.#fail(`message ${seq} came before ${this.#expected}`)
        if (seq === this.#expected) {
          this.#expected++
          this.messages++
          this.read.update(Uint8Array.from(u32(bytes.length))).update(bytes)
          this.#note(`message ${seq}`)
        }
        session.write(id, Uint8Array.from([CONFIRM, ...u32(seq)]))
      } else break
    }
    one.unread = unread.slice(at)
  }

  // -- files ---------------------------------------------------------------------------------------------------------

  #openFiles(): void {
    const { session } = this
    if (session === undefined) return
    const channels = this.#channelsOf(this.handle)
    const under = new Set([...channels.values()].map(({ file, kind }) => (kind === "file-out" ? file : -1)))
    for (const { id } of this.#sending.values()) {
      if (under.has(id)) continue
      const stream = session.openStream(2)
      if (stream === undefined) return
      const one = channel("file-out")
      one.file = id
      channels.set(stream, one)
      session.write(stream, Uint8Array.from([FILE, ...u32(id)]))
    }
  }

  #fill(session: Session, id: number, one: Channel | undefined): void {
    if (one?.kind !== "file-out" || !one.told) return
    const file = this.#sending.get(one.file)
    if (file === undefined) return
    while (!session.isFull(id)) {
      if (one.at >= file.cancelAt) {
        session.resetStream(id, CANCELLED)
        session.stopStream(id, CANCELLED)
        this.#sending.delete(file.id)
        this.cancelled++
        return
      }
      const length = Math.min(BLOCK, file.size - one.at)
      const block = new Uint8Array(length)
      for (let i = 0; i < length; i++) block[i] = byteAt(file.id, one.at + i)
      one.at += length
      if (length > 0) session.write(id, block)
      if (one.at >= file.size) {
        session.finish(id)
        return
      }
    }
  }

  #onFileBytes(one: Channel, bytes: Uint8Array): void {
    for (let i = 0; i < bytes.length; i++) {
      if (bytes[i] !== byteAt(one.file, one.at + i)) this.#fail(`file ${one.file} is wrong at ${one.at + i}`)
    }
    one.at += bytes.length
    const have = this.#have.get(one.file) ?? 0
    if (one.at > have) {
      this.fileBytes += one.at - have
      this.#have.set(one.file, one.at)
    }
  }

  #onFinished(session: Session, id: number, one: Channel): void {
    if (one.kind === "file-in") {
      this.#note(`file ${one.file} of ${one.at}`)
      session.finish(id)
    } else if (one.kind === "file-out") {
      const file = this.#sending.get(one.file)
      if (file === undefined) return
      if (one.at !== file.size) this.#fail(`file ${one.file} was taken at ${one.at} of ${file.size}`)
      this.#sending.delete(one.file)
      this.whole++
    } else session.finish(id)
  }

  /** How much of a file came. */
  have(file: number): number {
    return this.#have.get(file) ?? 0
  }

  #onDatagram(data: Uint8Array): void {
    const seq = u32At(data, 0)
    if (this.#seen.has(seq)) this.#fail(`datagram ${seq} came twice`)
    this.#seen.add(seq)
    if (data.length !== 4 + (seq % 900)) this.#fail(`datagram ${seq} has ${data.length} bytes`)
    for (let i = 4; i < data.length; i++) if (data[i] !== byteAt(seq, i - 4)) this.#fail(`datagram ${seq} is wrong`)
  }
}

// -- the world -------------------------------------------------------------------------------------------------------

interface Flight {
  readonly at: number
  readonly order: number
  readonly to: Side
  readonly remote: Address
  readonly bytes: Uint8Array
}

/** Earliest first; of one time in the order of entry. */
class Heap {
  readonly #items: Array<Flight> = []

  get next(): number {
    return this.#items[0]?.at ?? Number.POSITIVE_INFINITY
  }

  push(item: Flight): void {
    const items = this.#items
    let i = items.length
    items.push(item)
    for (let up = (i - 1) >> 1; i > 0 && before(item, items[up] as Flight); up = (i - 1) >> 1) {
      items[i] = items[up] as Flight
      i = up
    }
    items[i] = item
  }

  pop(): Flight | undefined {
    const items = this.#items
    const top = items[0]
    const last = items.pop()
    if (top === undefined || last === undefined || items.length === 0) return top
    let i = 0
    for (;;) {
      let child = 2 * i + 1
      if (child >= items.length) break
      if (child + 1 < items.length && before(items[child + 1] as Flight, items[child] as Flight)) child++
      if (!before(items[child] as Flight, last)) break
      items[i] = items[child] as Flight
      i = child
    }
    items[i] = last
    return top
  }
}

const before = (a: Flight, b: Flight): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

interface Weather {
  loss: number
  delay: number
  jitter: number
  duplicate: number
  corrupt: number
  /** Bytes of the longest datagram that passes; longer ones vanish without a word. */
  mtu: number
}

const FAIR: Weather = { loss: 0, delay: 20, jitter: 0, duplicate: 0, corrupt: 0, mtu: CEILING }

export class Day {
  now = 0
  readonly client: Endpoint
  readonly server: Endpoint
  readonly desks: { readonly client: Desk; readonly server: Desk }
  readonly #options: DayOptions
  readonly #draw: () => number
  readonly #flights = new Heap()
  readonly #plan: Array<{ readonly at: number; readonly act: () => void }> = []
  readonly #digest = crypto.createHash("sha256")
  readonly #invitation: Invitation
  readonly #keys: KeyPair
  readonly #hints = new HintCounter(undefined)
  readonly #free = { client: 0, server: 0 }
  readonly #cutUntil = { client: 0, server: 0 }
  readonly #files: Array<Outgoing & { readonly from: Side }> = []
  #weather: Weather = FAIR
  #address: Address = { host: "192.0.2.1", port: 40_000 }
  #order = 0
  #dialling = false
  #over = false
  packets = 0
  #bytes = 0
  #lost = 0
  #corrupted = 0
  #duplicated = 0
  #cuts = 0
  #moves = 0
  #sessions = 0

  constructor(options: DayOptions) {
    this.#options = options
    const seed = `day ${options.seed}`
    this.#draw = chance(seed)
    const entropy = entropySeeded(`${seed} keys`)
    this.#keys = primitives.keyPair(entropy(32))
    const serverKeys = primitives.keyPair(entropy(32))
    const id = entropy(16)
    const psk = entropy(32)
    this.#invitation = { id, psk, slot: undefined, serverKey: serverKeys.publicKey, endpoints: [SERVER] }
    const validUntil = Number.POSITIVE_INFINITY
    const admission: Admission = { id, psk, slot: undefined, staticKey: this.#keys.publicKey, validUntil }
    const pick = chance(`${seed} congestion`)
    const congestion: Congestion.Factory = (now, maxDatagram) => {
      const factory = options.congestion[Math.floor(pick() * options.congestion.length)]
      if (factory === undefined) throw new Error("no congestion control")
      return factory(now, maxDatagram)
    }
    const endpoint = (side: Side, identity: KeyPair): Endpoint =>
      new Endpoint(0, WALL, {
        primitives,
        entropy: entropySeeded(`${seed} ${side}`),
        identity,
        limits: DAY_LIMITS,
        congestion,
        datagramCeiling: () => CEILING,
        keepAliveMs: KEEP_ALIVE_MS,
        deadAfterMs: DEAD_AFTER_MS,
        maxSessions: 100
      })
    this.client = endpoint("client", this.#keys)
    this.server = endpoint("server", serverKeys)
    this.server.setAdmissions(0, [admission])
    const desk = (side: Side): Desk =>
      new Desk(
        side,
        (what) => {
          throw new Error(`${side} at ${this.now}: ${what}`)
        },
        (what) => this.#digest.update(`${side} ${this.now} ${what};`)
      )
    this.desks = { client: desk("client"), server: desk("server") }
    this.#schedule()
  }

  /** Lives through it, then lets the weather clear and everything come to rest. */
  run(): Report {
    this.#dial()
    this.#pass(this.#options.hours * HOUR, () => false)
    this.#weather = FAIR
    this.#cutUntil.client = 0
    this.#cutUntil.server = 0
    const { client, server } = this.desks
    const settled = (): boolean => client.content && server.content && client.session !== undefined
    if (!this.#pass(this.now + 10 * MINUTE, settled)) throw new Error(`unfinished business at ${this.now}`)
    for (const file of this.#files) {
      const to = file.from === "client" ? server : client
      if (file.cancelAt > file.size && to.have(file.id) !== file.size) throw new Error(`file ${file.id} is not whole`)
    }
    this.#digest.update(this.written)
    return {
      packets: this.packets,
      bytes: this.#bytes,
      lost: this.#lost,
      corrupted: this.#corrupted,
      duplicated: this.#duplicated,
      cuts: this.#cuts,
      moves: this.#moves,
      sessions: this.#sessions,
      messages: client.messages + server.messages,
      datagrams: {
        sent: client.datagramsSent + server.datagramsSent,
        received: client.datagramsReceived + server.datagramsReceived
      },
      files: {
        whole: client.whole + server.whole,
        cancelled: client.cancelled + server.cancelled,
        bytes: client.fileBytes + server.fileBytes
      },
      digest: this.#digest.digest("hex")
    }
  }

  /** Both desks' words as they were written and as they were read: equal, or something was lost, repeated or changed. */
  words(): ReadonlyArray<readonly [written: string, read: string]> {
    const { client, server } = this.desks
    const hex = (hash: crypto.Hash): string => hash.copy().digest("hex")
    return [
      [hex(client.written), hex(server.read)],
      [hex(server.written), hex(client.read)]
    ]
  }

  get written(): string {
    return this.words().flat().join()
  }

  /** Ends the talk, and everything of older sessions passes. */
  quiet(): void {
    this.desks.client.finish()
    this.#touch("client")
    this.#pass(this.now + 5 * MINUTE, () => false)
  }

  /** Hangs up for good. */
  hangUp(): void {
    this.#over = true
    this.client.closeAll(this.now, 0, "the day is over")
    this.#pass(this.now + 5 * MINUTE, () => false)
  }

  // -- the plan ------------------------------------------------------------------------------------------------------

  #at(at: number, act: () => void): void {
    this.#plan.push({ at, act })
  }

  /** A number between two others, small ones as likely as large ones. */
  #between(low: number, high: number): number {
    return low * (high / low) ** this.#draw()
  }

  #schedule(): void {
    const draw = this.#draw
    const { files = 1, hours } = this.#options
    for (let hour = 0; hour < hours; hour++) {
      const start = hour * HOUR
      const within = (): number => start + draw() * HOUR
      const mood = draw()
      const rough = draw() < 0.4
      for (let at = start; at < start + HOUR; at += 10 * MINUTE) {
        const weather: Weather = {
          loss: rough ? 0.25 * draw() ** 2 : draw() < 0.5 ? 0 : 0.02 * draw(),
          delay: this.#between(2, 150),
          jitter: draw() < 0.5 ? 0 : this.#between(1, 60),
          duplicate: rough ? 0.05 * draw() : 0.005,
          corrupt: rough ? 0.02 * draw() : 0.002,
          mtu: draw() < 0.6 ? CEILING : Math.floor(this.#between(LEAST_MTU, CEILING))
        }
        this.#at(at, () => {
          this.#weather = weather
        })
      }
      // A quarter of the hours nobody is there.
      if (mood < 0.25) continue
      for (let i = Math.floor(draw() * 4); i > 0; i--) this.#at(within(), () => this.#cut(this.#between(500, 300_000)))
      if (draw() < 0.4) this.#at(within(), () => this.#move())
      const talks = Math.floor(20 + draw() * 40)
      for (let i = 0; i < talks; i++) {
        const side: Side = draw() < 0.5 ? "client" : "server"
        const length = Math.floor(this.#between(1, draw() < 0.05 ? 60_000 : 3000))
        const fill = Math.floor(draw() * 256)
        this.#at(within(), () => {
          this.desks[side].say(Uint8Array.from({ length }, (_, at) => (fill + at * 7) & 0xff))
          for (let n = 0; n < 4; n++) this.desks[side].sendDatagram()
        })
      }
      const count = mood < 0.6 ? Math.floor(draw() * 2) : Math.floor((2 + draw() * 6) * files)
      for (let i = 0; i < count; i++) {
        const from: Side = draw() < 0.5 ? "client" : "server"
        const size = Math.floor(this.#between(5000, 4_000_000))
        const cancelAt = draw() < 0.2 ? Math.floor(draw() * size) : Number.POSITIVE_INFINITY
        const file = { id: this.#files.length, size, cancelAt, from }
        this.#files.push(file)
        this.#at(within(), () => this.desks[from].sendFile(file))
      }
    }
    this.#plan.sort((a, b) => a.at - b.at)
  }

  #cut(ms: number): void {
    this.#cuts++
    const kind = this.#draw()
    if (kind < 0.8) this.#cutUntil.client = this.now + ms
    if (kind > 0.2) this.#cutUntil.server = this.now + ms
  }

  #move(): void {
    this.#moves++
    const { host, port } = this.#address
    this.#address = this.#draw() < 0.5 ? { host, port: port + 1 } : { host: `192.0.2.${1 + this.#moves}`, port }
  }

  // -- time ----------------------------------------------------------------------------------------------------------

  #pass(end: number, done: () => boolean): boolean {
    const { client, server } = this
    let still = 0
    for (;;) {
      this.#drain()
      if (done()) return true
      const next = Math.min(
        this.#flights.next,
        client.pollTimeout(),
        server.pollTimeout(),
        this.#plan[0]?.at ?? Number.POSITIVE_INFINITY
      )
      if (next > end) {
        this.now = Math.max(this.now, end)
        return false
      }
      const arrived = this.#flights.next <= next
      still = next <= this.now && !arrived ? still + 1 : 0
      if (still > 20) throw new Error(`time stands still at ${this.now}`)
      this.now = Math.max(this.now, next)
      client.setWall(this.now, WALL + this.now)
      server.setWall(this.now, WALL + this.now)
      while (this.#flights.next <= this.now) {
        const flight = this.#flights.pop()
        if (flight !== undefined) this[flight.to].handleDatagram(this.now, flight.remote, flight.bytes)
      }
      client.handleTimeout(this.now)
      server.handleTimeout(this.now)
      while ((this.#plan[0]?.at ?? Number.POSITIVE_INFINITY) <= this.now) {
        this.#plan.shift()?.act()
        this.#touch("client")
        this.#touch("server")
      }
    }
  }

  #touch(side: Side): void {
    const { handle } = this.desks[side]
    if (handle >= 0) this[side].touch(handle)
  }

  #dial(): void {
    if (this.#dialling || this.#over) return
    this.#dialling = true
    this.client.dial(this.now, {
      invitations: [this.#invitation],
      hints: [this.#hints],
      identity: this.#keys,
      deviceName: "day",
      features: 0,
      limits: DAY_LIMITS,
      timeoutMs: 20_000,
      skewMs: 0,
      sweeps: false
    })
  }

  #drain(): void {
    for (let busy = true; busy; ) {
      busy = false
      for (const side of ["client", "server"] as const) {
        const endpoint = this[side]
        for (let t = endpoint.pollTransmit(this.now); t !== undefined; t = endpoint.pollTransmit(this.now)) {
          this.#send(side, t.bytes, t.remote)
        }
        for (let e = endpoint.pollEvent(); e !== undefined; e = endpoint.pollEvent()) {
          this.#on(side, endpoint, e)
          busy = true
        }
      }
    }
  }

  #on(side: Side, endpoint: Endpoint, event: EndpointEvent): void {
    const desk = this.desks[side]
    switch (event.type) {
      case "Initiation":
        endpoint.admit(this.now, event.initiation, undefined)
        return
      case "Answered":
        endpoint.confirm(this.now, event.session)
        return
      case "DialFailed":
        this.#dialling = false
        this.#dial()
        return
      case "Connected": {
        const session = endpoint.session(event.session)
        if (session === undefined) return
        if (side === "client") {
          this.#dialling = false
          this.#sessions++
        }
        desk.begin(event.session, session)
        endpoint.touch(event.session)
        return
      }
      case "Session": {
        const session = endpoint.session(event.session)
        if (session === undefined) return
        desk.on(event.session, session, event.event)
        endpoint.touch(event.session)
        return
      }
      case "Closed":
        desk.end(event.session)
        if (side === "client") {
          this.#dialling = false
          this.#dial()
        }
        return
      default:
        throw new Error(`${side} at ${this.now}: ${event.type}`)
    }
  }

  // -- the link ------------------------------------------------------------------------------------------------------

  #send(from: Side, bytes: Uint8Array, remote: Address): void {
    const draw = this.#draw
    const { corrupt, delay, duplicate, jitter, loss, mtu } = this.#weather
    this.packets++
    this.#bytes += bytes.length
    const free = Math.max(this.#free[from], this.now)
    const lost = draw() < loss || bytes.length > mtu
    const full = (free - this.now) * RATE > QUEUE
    if (!full) this.#free[from] = free + bytes.length / RATE
    const expected = from === "client" ? SERVER : this.#address
    const elsewhere = remote.host !== expected.host || remote.port !== expected.port
    if (lost || full || elsewhere || this.now < this.#cutUntil[from]) {
      this.#lost++
      return
    }
    const to: Side = from === "client" ? "server" : "client"
    const seen = from === "client" ? this.#address : SERVER
    const out = Uint8Array.from(bytes)
    if (draw() < corrupt) {
      this.#corrupted++
      const at = Math.floor(draw() * out.length)
      out[at] = (out[at] as number) ^ (1 << Math.floor(draw() * 8))
    }
    const at = this.#free[from] + delay + jitter * draw()
    this.#flights.push({ at, order: this.#order++, to, remote: seen, bytes: out })
    if (draw() >= duplicate) return
    this.#duplicated++
    const again = Uint8Array.from(out)
    this.#flights.push({ at: at + 5 * delay * draw(), order: this.#order++, to, remote: seen, bytes: again })
  }
}

const expect = (what: string, actual: unknown, expected: unknown): void => {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)}, not ${String(expected)}`)
}

/** Lives through a day, comes to rest, and looks for anything left behind. What fails tells the seed. */
export const live = (options: DayOptions): Report => {
  try {
    const day = new Day(options)
    const report = day.run()
    for (const [written, read] of day.words()) expect("the words", read, written)
    day.quiet()
    for (const side of ["client", "server"] as const) {
      const { openStreams, bytesInFlight } = day[side].stats(day.desks[side].handle)
      expect(`sessions of the ${side}`, day[side].sessions, 1)
      // The session and its routes: each end may address it by four ids.
      expect(`held by the ${side}`, day[side].held, 5)
      expect(`open streams of the ${side}`, openStreams, 0)
      expect(`bytes in flight of the ${side}`, bytesInFlight, 0)
      expect(`streams that the application of the ${side} has`, day.desks[side].channels, 0)
    }
    day.hangUp()
    for (const side of ["client", "server"] as const) {
      expect(`held by the ${side} after the end`, day[side].held, 0)
      expect(`deadline of the ${side} after the end`, day[side].pollTimeout(), Number.POSITIVE_INFINITY)
    }
    return report
  } catch (error) {
    const { message } = error instanceof Error ? error : { message: String(error) }
    throw new Error(`a virtual day failed: ${message}; replay with DAY_SEED=${options.seed}`, { cause: error })
  }
}
