/**
 * An insider: a peer with good keys that keeps to no rule, in virtual time, on an endpoint that others use too.
 *
 * It shakes hands as everybody does and then makes its own packets, byte by byte after docs/PROTOCOL.md, so what it does
 * depends on nothing inside the core. The server's line is a queue-less one of a fixed rate: the host asks for the next
 * datagram when the last one has left, as a socket under backpressure does, so whoever makes the server send more than its
 * share takes it from the others.
 */
import * as crypto from "node:crypto"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Admission, Invitation } from "../../src/domain/protocol/Credential.ts"
import { Endpoint } from "../../src/domain/protocol/Endpoint.ts"
import type { EndpointEvent, Handle } from "../../src/domain/protocol/EndpointTypes.ts"
import { HintCounter } from "../../src/domain/protocol/HintCounter.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import * as NewReno from "../../src/domain/protocol/NewReno.ts"
import type { KeyPair, Primitives } from "../../src/domain/protocol/Primitives.ts"
import type { Session } from "../../src/domain/protocol/Session.ts"
import type { SessionEvent } from "../../src/domain/protocol/SessionTypes.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"
import { WALL } from "./Pair.ts"

const SERVER: Address = { host: "198.51.100.1", port: 50_000 }
const NEIGHBOUR: Address = { host: "192.0.2.1", port: 40_000 }
const MALLORY: Address = { host: "203.0.113.66", port: 6666 }

/** One way, ms. */
const DELAY_MS = 10
/** Bytes per millisecond: 100 Mbit/s. */
const LINE_RATE = 12_500
const CAPACITY = 1168

/** What the server takes of each session. */
export const LIMITS: Limits = {
  maxData: 1_048_576,
  maxStreamData: 262_144,
  maxStreams: 16,
  idleTimeoutMs: 60_000,
  maxDatagram: 65_507
}

/** What a greedy peer takes: everything. */
export const GREEDY: Limits = {
  maxData: 2 ** 40,
  maxStreamData: 2 ** 40,
  maxStreams: 1000,
  idleTimeoutMs: 60_000,
  maxDatagram: 65_507
}

// -- frames, by hand -------------------------------------------------------------------------------------------------

/** RFC 9000 section 16; values up to 2^53 - 1. */
const varint = (value: number): ReadonlyArray<number> => {
  if (value < 64) return [value]
  const [bytes, prefix] = value < 2 ** 14 ? [2, 0x40] : value < 2 ** 30 ? [4, 0x80] : [8, 0xc0]
  const out: Array<number> = []
  for (let i = bytes - 1; i >= 0; i--) out.push(Math.floor(value / 256 ** i) % 256)
  out[0] = (out[0] as number) | prefix
  return out
}

const numbers = (type: number, ...values: ReadonlyArray<number>): Uint8Array =>
  Uint8Array.from([type, ...values.flatMap(varint)])

export const ping: Uint8Array = Uint8Array.of(0x01)

export const stream = (id: number, offset: number, data: Uint8Array, fin = false): Uint8Array => {
  const head = numbers(fin ? 0x09 : 0x08, id, offset, data.length)
  const out = new Uint8Array(head.length + data.length)
  out.set(head)
  out.set(data, head.length)
  return out
}

export const datagram = (data: Uint8Array): Uint8Array => {
  const head = numbers(0x0a, data.length)
  const out = new Uint8Array(head.length + data.length)
  out.set(head)
  out.set(data, head.length)
  return out
}

/** Ranges, the highest first, as `[start, end]`. */
export const ack = (ranges: ReadonlyArray<readonly [number, number]>, delayUs = 0): Uint8Array => {
  const [first = [0, 0], ...rest] = ranges
  const values = [first[1], delayUs, rest.length, first[1] - first[0]]
  let above = first[0]
  for (const [start, end] of rest) {
    values.push(above - end - 2, end - start)
    above = start
  }
  return numbers(0x02, ...values)
}

export const reset = (id: number, code: number, size: number): Uint8Array => numbers(0x04, id, code, size)
export const stop = (id: number, code: number): Uint8Array => numbers(0x05, id, code)
export const maxData = (limit: number): Uint8Array => numbers(0x10, limit)
export const maxStreamData = (id: number, limit: number): Uint8Array => numbers(0x11, id, limit)
export const maxStreams = (limit: number): Uint8Array => numbers(0x12, limit)
export const pathChallenge = (fill: number): Uint8Array => Uint8Array.of(0x18, ...new Array<number>(8).fill(fill))

/** What of the server's frames an attacker cares for. */
interface Heard {
  /** Packet numbers, as they came. */
  readonly numbers: Array<number>
  packets: number
  bytes: number
  closeCode: number | undefined
  maxData: number
  readonly maxStreamData: Map<number, number>
  maxStreams: number
  streamBytes: number
  /** Streams of which something came. */
  readonly streams: Set<number>
  readonly resets: Set<number>
  pathResponses: number
}

// -- the two ends ----------------------------------------------------------------------------------------------------

type Captured = Map<string, Array<Uint8Array>>

/** The same primitives, and a note of every transport key that is derived. */
const tapped = (captured: Captured): Primitives => ({
  ...primitives,
  hkdf: (salt, ikm, info, length) => {
    const out = primitives.hkdf(salt, ikm, info, length)
    const name = new TextDecoder().decode(info)
    if (/ (aead|iv|header)$/.test(name)) captured.set(name, [...(captured.get(name) ?? []), Uint8Array.from(out)])
    return out
  }
})

interface Direction {
  readonly key: crypto.KeyObject
  readonly iv: Uint8Array
  readonly mask: crypto.Cipheriv
}

const directionOf = (captured: Captured, index: number): Direction => {
  const of = (name: string): Uint8Array => {
    const bytes = captured.get(`clawchat/1 ${name}`)?.[index]
    if (bytes === undefined) throw new Error(`no ${name} key was derived`)
    return bytes
  }
  const mask = crypto.createCipheriv("aes-256-ecb", of("header"), null).setAutoPadding(false)
  return { key: crypto.createSecretKey(of("aead")), iv: of("iv"), mask }
}

const nonceOf = (iv: Uint8Array, packetNumber: number): Uint8Array => {
  const nonce = Uint8Array.from(iv)
  for (let i = 0; i < 8; i++) {
    nonce[11 - i] = (nonce[11 - i] as number) ^ (Math.floor(packetNumber / 256 ** i) % 256)
  }
  return nonce
}

const OPTIONS: crypto.CipherGCMOptions = { authTagLength: 16 }

export class Mallory {
  readonly heard: Heard = {
    numbers: [],
    packets: 0,
    bytes: 0,
    closeCode: undefined,
    maxData: 0,
    maxStreamData: new Map(),
    maxStreams: 0,
    streamBytes: 0,
    streams: new Set(),
    resets: new Set(),
    pathResponses: 0
  }
  /** What it sent. */
  packets = 0
  bytes = 0
  /** Called for every packet of the server; by default each is acknowledged at once. */
  onPacket: (packetNumber: number) => void
  /** Where its datagrams seem to come from. */
  address = MALLORY
  readonly #arena: Arena
  readonly #send: Direction
  readonly #receive: Direction
  readonly #toServer: Uint8Array
  #next = 1000

  constructor(arena: Arena, captured: Captured, toServer: Uint8Array, limits: Limits) {
    this.heard.maxData = limits.maxData
    this.heard.maxStreams = limits.maxStreams
    this.#arena = arena
    this.#send = directionOf(captured, 0)
    this.#receive = directionOf(captured, 1)
    this.#toServer = toServer
    this.onPacket = (packetNumber) => this.send(ack([[packetNumber, packetNumber]]))
  }

  /** Frames in one packet of their own. */
  send(...frames: ReadonlyArray<Uint8Array>): void {
    this.#arena.arrive(this.address, this.seal(frames))
  }

  /** Frames packed into as few packets as they need. */
  sendAll(frames: ReadonlyArray<Uint8Array>): void {
    let packet: Array<Uint8Array> = []
    let length = 0
    for (const frame of frames) {
      if (length + frame.length > CAPACITY || packet.length === 500) {
        this.send(...packet)
        packet = []
        length = 0
      }
      packet.push(frame)
      length += frame.length
    }
    if (packet.length > 0) this.send(...packet)
  }

  /** A packet of frames, padded to 16 bytes or to `length` bytes of plaintext. */
  seal(frames: ReadonlyArray<Uint8Array>, length = 16): Uint8Array {
    const size = frames.reduce((sum, frame) => sum + frame.length, 0)
    const plaintext = new Uint8Array(Math.max(length, Math.ceil(size / 16) * 16))
    let at = 0
    for (const frame of frames) {
      plaintext.set(frame, at)
      at += frame.length
    }
    const packetNumber = this.#next++
    const header = new Uint8Array(16)
    header.set(this.#toServer)
    for (let i = 0; i < 8; i++) header[15 - i] = Math.floor(packetNumber / 256 ** i) % 256
    const cipher = crypto.createCipheriv("aes-256-gcm", this.#send.key, nonceOf(this.#send.iv, packetNumber), OPTIONS)
    cipher.setAAD(header)
    const out = new Uint8Array(32 + plaintext.length)
    out.set(cipher.update(plaintext), 16)
    cipher.final()
    out.set(cipher.getAuthTag(), 16 + plaintext.length)
    const mask = this.#send.mask.update(out.subarray(16, 32))
    out.set(header)
    for (let i = 0; i < 8; i++) out[8 + i] = (out[8 + i] as number) ^ (mask[i] as number)
    this.packets++
    this.bytes += out.length
    return out
  }

  /** Acknowledges what came, as far as 60 ranges go. */
  acknowledge(): void {
    const ranges = this.ranges()
    if (ranges.length > 0) this.send(ack(ranges))
  }

  /** What came, the highest numbers first. */
  ranges(): ReadonlyArray<readonly [number, number]> {
    const sorted = this.heard.numbers.toSorted((a, b) => b - a)
    const ranges: Array<[number, number]> = []
    for (const number of sorted) {
      const last = ranges.at(-1)
      if (last !== undefined && last[0] === number + 1) last[0] = number
      else if (last?.[0] !== number) ranges.push([number, number])
      if (ranges.length > 60) break
    }
    return ranges.slice(0, 60)
  }

  /** A datagram of the server. */
  take(bytes: Uint8Array): void {
    const mask = this.#receive.mask.update(bytes.subarray(16, 32))
    const header = Uint8Array.from(bytes.subarray(0, 16))
    for (let i = 0; i < 8; i++) header[8 + i] = (header[8 + i] as number) ^ (mask[i] as number)
    let packetNumber = 0
    for (let i = 8; i < 16; i++) packetNumber = packetNumber * 256 + (header[i] as number)
    const nonce = nonceOf(this.#receive.iv, packetNumber)
    const decipher = crypto.createDecipheriv("aes-256-gcm", this.#receive.key, nonce, OPTIONS)
    decipher.setAAD(header)
    decipher.setAuthTag(bytes.subarray(-16))
    const plaintext = decipher.update(bytes.subarray(16, -16))
    decipher.final()
    this.heard.packets++
    this.heard.bytes += bytes.length
    this.heard.numbers.push(packetNumber)
    if (this.heard.numbers.length > 20_000) this.heard.numbers.splice(0, 10_000)
    this.#read(plaintext)
    this.onPacket(packetNumber)
  }

  #read(bytes: Uint8Array): void {
    let at = 0
    const next = (): number => {
      const first = bytes[at++] as number
      let value = first & 0x3f
      for (let i = (1 << (first >> 6)) - 1; i > 0; i--) value = value * 256 + (bytes[at++] as number)
      return value
    }
    const { heard } = this
    while (at < bytes.length) {
      const type = bytes[at++] as number
      if (type === 0x02) {
        next()
        next()
        const more = next()
        for (let i = -1; i < 2 * more; i++) next()
      } else if (type === 0x04) {
        heard.resets.add(next())
        next()
        next()
      } else if (type === 0x05) {
        next()
        next()
      } else if (type === 0x08 || type === 0x09) {
        heard.streams.add(next())
        next()
        const length = next()
        heard.streamBytes += length
        at += length
      } else if (type === 0x0a) at += next()
      else if (type === 0x10) heard.maxData = Math.max(heard.maxData, next())
      else if (type === 0x11) {
        const id = next()
        heard.maxStreamData.set(id, Math.max(heard.maxStreamData.get(id) ?? 0, next()))
      } else if (type === 0x12) heard.maxStreams = Math.max(heard.maxStreams, next())
      else if (type === 0x18 || type === 0x19) {
        if (type === 0x19) heard.pathResponses++
        at += 8
      } else if (type === 0x26) {
        heard.closeCode = next()
        return
      } else if (type > 0x01) throw new Error(`frame ${type.toString(16)} is not known here`)
    }
  }
}

export interface ArenaOptions {
  /** What Mallory says it takes. */
  readonly limits?: Limits
  /** What the server takes. */
  readonly serverLimits?: Limits
  /** Bytes per millisecond that the server's line carries. */
  readonly rate?: number
}

interface Flight {
  readonly at: number
  readonly order: number
  readonly from: Address
  readonly to: "server" | "neighbour" | "mallory"
  readonly bytes: Uint8Array
}

/** A device of its own at the server, with the keys of its own handshake. */
interface Device {
  readonly invitation: Invitation
  readonly admission: Admission
  readonly keys: KeyPair
}

/** Events of the server's session that Mallory has; commands given in it are carried out at once. */
export type Application = (session: Session, event: SessionEvent) => void

export class Arena {
  now = 0
  readonly server: Endpoint
  readonly mallory: Mallory
  /** The server's session with Mallory. */
  readonly handle: Handle
  application: Application = () => undefined
  /** Datagrams and bytes that the server sent to each host. */
  readonly sent = new Map<string, { packets: number; bytes: number }>()
  /** Events that the server's endpoint gave out at once, at most. */
  mostEvents = 0
  closed: EndpointEvent | undefined
  readonly #rate: number
  readonly #neighbour: Endpoint
  readonly #neighbourSession: Handle
  readonly #neighbourAtServer: Handle
  readonly #flights: Array<Flight> = []
  readonly #served = new Map<number, { left: number; asked: number }>()
  readonly #fetched = new Map<number, number>()
  readonly #captured: Captured = new Map()
  #stranger: Endpoint | undefined
  #order = 0
  #lineFree = 0

  constructor(options: ArenaOptions = {}) {
    this.#rate = options.rate ?? LINE_RATE
    const entropy = entropySeeded("arena")
    const serverKeys = primitives.keyPair(entropy(32))
    const device = (): Device => {
      const id = entropy(16)
      const psk = entropy(32)
      const keys = primitives.keyPair(entropy(32))
      return {
        invitation: { id, psk, slot: undefined, serverKey: serverKeys.publicKey, endpoints: [SERVER] },
        admission: { id, psk, slot: undefined, staticKey: keys.publicKey, validUntil: Number.POSITIVE_INFINITY },
        keys
      }
    }
    const [honest, hostile] = [device(), device()]
    const endpoint = (seed: string, identity: KeyPair, limits: Limits, use: Primitives): Endpoint =>
      new Endpoint(0, WALL, {
        primitives: use,
        entropy: entropySeeded(seed),
        identity,
        limits,
        congestion: NewReno.make,
        keepAliveMs: 15_000,
        deadAfterMs: 15_000,
        maxSessions: 100
      })
    this.server = endpoint("server", serverKeys, options.serverLimits ?? LIMITS, primitives)
    this.server.setAdmissions(0, [honest.admission, hostile.admission])
    this.#neighbour = endpoint("neighbour", honest.keys, LIMITS, primitives)
    const dial = (from: Endpoint, { invitation, keys }: Device, limits: Limits): void => {
      from.dial(this.now, {
        invitations: [invitation],
        hints: [new HintCounter(undefined)],
        identity: keys,
        deviceName: "test",
        features: 0,
        limits,
        timeoutMs: 60_000,
        skewMs: 0
      })
    }
    const up: Array<Handle> = []
    this.#onGate = (event) => {
      if (event.type === "Connected") up.push(event.session)
    }
    dial(this.#neighbour, honest, LIMITS)
    this.run(() => up.length === 2, 1000)
    const [atServer, atNeighbour] = up
    this.#neighbourAtServer = atServer ?? 0
    this.#neighbourSession = atNeighbour ?? 0

    const limits = options.limits ?? GREEDY
    this.#stranger = endpoint("mallory", hostile.keys, limits, tapped(this.#captured))
    dial(this.#stranger, hostile, limits)
    this.run(() => up.length === 4, 1000)
    this.handle = up[2] ?? 0
    this.#stranger = undefined
    this.mallory = new Mallory(this, this.#captured, this.#toServer, options.serverLimits ?? LIMITS)
    this.#onGate = () => undefined
    this.pass(100)
    this.mallory.acknowledge()
    this.pass(100)
  }

  #onGate: (event: EndpointEvent) => void
  /** The connection id of the server's end, as Mallory's own handshake used it. */
  #toServer = new Uint8Array(8)

  /** The server's session with Mallory, while there is one. */
  get session(): Session | undefined {
    return this.server.session(this.handle)
  }

  /** A command on that session. */
  command<A>(use: (session: Session) => A): A | undefined {
    const session = this.session
    const out = session === undefined ? undefined : use(session)
    this.server.touch(this.handle)
    return out
  }

  /** A datagram for the server, at once. */
  arrive(from: Address, bytes: Uint8Array): void {
    this.#flights.push({ at: this.now, order: this.#order++, from, to: "server", bytes })
  }

  /** Milliseconds in which the neighbour fetches `bytes`; fails after `withinMs`. */
  fetch(bytes: number, withinMs = 60_000): number {
    const began = this.now
    const id = this.startFetch(bytes)
    if (!this.run(() => this.fetched(id) === bytes, withinMs)) {
      throw new Error(`the neighbour has ${this.fetched(id)} of ${bytes} bytes after ${withinMs} ms`)
    }
    return this.now - began
  }

  /** The neighbour asks for bytes; answers the stream's id. */
  startFetch(bytes: number): number {
    const session = this.#neighbour.session(this.#neighbourSession)
    const id = session?.openStream(1)
    if (session === undefined || id === undefined) throw new Error("the neighbour has lost its session")
    session.write(id, Uint8Array.of(bytes >>> 24, (bytes >>> 16) & 255, (bytes >>> 8) & 255, bytes & 255))
    session.finish(id)
    this.#fetched.set(id, 0)
    this.#neighbour.touch(this.#neighbourSession)
    return id
  }

  fetched(id: number): number {
    return this.#fetched.get(id) ?? 0
  }

  sentTo(host: string): { packets: number; bytes: number } {
    const known = this.sent.get(host) ?? { packets: 0, bytes: 0 }
    this.sent.set(host, known)
    return known
  }

  /** Everything that happens within a span of virtual time. */
  pass(ms: number): void {
    this.run(() => false, ms)
  }

  /** Runs until `done`, at most `forMs`; answers whether `done` came. */
  run(done: () => boolean, forMs: number): boolean {
    const end = this.now + forMs
    let idle = 0
    for (;;) {
      const busy = this.#drain()
      if (done()) return true
      this.#flights.sort((a, b) => a.at - b.at || a.order - b.order)
      const next = Math.min(
        this.#flights[0]?.at ?? Number.POSITIVE_INFINITY,
        // What the server would do now waits for its line.
        busy ? this.#lineFree : this.server.pollTimeout(),
        this.#neighbour.pollTimeout(),
        this.#stranger?.pollTimeout() ?? Number.POSITIVE_INFINITY
      )
      if (next > end) {
        this.now = end
        return false
      }
      const landing = (this.#flights[0]?.at ?? Number.POSITIVE_INFINITY) <= next
      idle = next <= this.now && !landing ? idle + 1 : 0
      if (idle > 10) throw new Error(`time stands still at ${this.now}`)
      this.now = Math.max(this.now, next)
      while (this.#flights.length > 0 && (this.#flights[0] as Flight).at <= this.now) {
        this.#land(this.#flights.shift() as Flight)
      }
      this.server.setWall(this.now, WALL + this.now)
      this.server.handleTimeout(this.now)
      this.#neighbour.handleTimeout(this.now)
      this.#stranger?.handleTimeout(this.now)
    }
  }

  #land({ from, to, bytes }: Flight): void {
    if (to === "server") this.server.handleDatagram(this.now, from, bytes)
    else if (to === "neighbour") this.#neighbour.handleDatagram(this.now, from, bytes)
    else if (this.#stranger !== undefined) this.#stranger.handleDatagram(this.now, from, bytes)
    else if (this.mallory !== undefined) this.mallory.take(bytes)
  }

  #fly(from: Address, to: Flight["to"], bytes: Uint8Array, delay: number): void {
    // A buffer of its own, as from a socket.
    this.#flights.push({ at: this.now + delay, order: this.#order++, from, to, bytes: Uint8Array.from(bytes) })
  }

  /** Lets all ends send; answers whether the server waits for its line. */
  #drain(): boolean {
    for (let again = true; again; ) {
      again = this.#drainClient(this.#neighbour, NEIGHBOUR)
      if (this.#stranger !== undefined && this.#drainClient(this.#stranger, MALLORY)) again = true
      while (this.#lineFree <= this.now) {
        const t = this.server.pollTransmit(this.now)
        if (t === undefined) break
        const { host } = t.remote
        const to = this.sentTo(host)
        to.packets++
        to.bytes += t.bytes.length
        this.#lineFree = Math.max(this.#lineFree, this.now) + t.bytes.length / this.#rate
        if (host === NEIGHBOUR.host) this.#fly(SERVER, "neighbour", t.bytes, DELAY_MS)
        else if (host === MALLORY.host) this.#fly(SERVER, "mallory", t.bytes, DELAY_MS)
      }
      let events = 0
      for (let e = this.server.pollEvent(); e !== undefined; e = this.server.pollEvent()) {
        events++
        if (this.#onServer(e)) again = true
      }
      this.mostEvents = Math.max(this.mostEvents, events)
      if (this.#lineFree > this.now) return true
    }
    return false
  }

  #drainClient(client: Endpoint, from: Address): boolean {
    let acted = false
    for (let t = client.pollTransmit(this.now); t !== undefined; t = client.pollTransmit(this.now)) {
      this.#fly(from, "server", t.bytes, DELAY_MS)
      if (client === this.#stranger) this.#toServer = Uint8Array.from(t.bytes.subarray(0, 8))
    }
    for (let e = client.pollEvent(); e !== undefined; e = client.pollEvent()) {
      this.#onGate(e)
      acted = true
      if (e.type === "Answered") client.confirm(this.now, e.session)
      else if (e.type === "Session" && e.event.type === "StreamReadable") this.#onFetched(client, e.event.id)
    }
    return acted
  }

  #onFetched(client: Endpoint, id: number): void {
    const session = client.session(this.#neighbourSession)
    for (let got = session?.read(id); got instanceof Uint8Array; got = session?.read(id)) {
      this.#fetched.set(id, this.fetched(id) + got.length)
    }
    client.touch(this.#neighbourSession)
  }

  #onServer(event: EndpointEvent): boolean {
    this.#onGate(event)
    if (event.type === "Initiation") this.server.admit(this.now, event.initiation, undefined)
    else if (event.type === "Closed" && event.session === this.handle) this.closed = event
    else if (event.type === "Session") {
      const session = this.server.session(event.session)
      if (session === undefined) return false
      if (event.session === this.#neighbourAtServer) this.#serve(session, event.event)
      else this.application(session, event.event)
      this.server.touch(event.session)
    } else return false
    return true
  }

  /** Answers a request for so many bytes with them. */
  #serve(session: Session, event: SessionEvent): void {
    if (event.type === "StreamReadable") {
      for (let got = session.read(event.id); got instanceof Uint8Array; got = session.read(event.id)) {
        const asked = this.#served.get(event.id) ?? { left: 0, asked: 0 }
        for (const byte of got) asked.left = asked.left * 256 + byte
        asked.asked += got.length
        this.#served.set(event.id, asked)
      }
    }
    if (event.type !== "StreamReadable" && event.type !== "StreamWritable") return
    const asked = this.#served.get(event.id)
    if (asked === undefined || asked.asked < 4) return
    while (asked.left > 0 && session.buffered(event.id) < 1_048_576) {
      const length = Math.min(asked.left, 65_536)
      session.write(event.id, new Uint8Array(length))
      asked.left -= length
      if (asked.left === 0) session.finish(event.id)
    }
  }
}

setFlagsFromString("--expose-gc")
const collect: unknown = runInNewContext("gc")

/** Bytes that are in use once the garbage is gone. */
export const inUse = (): number => {
  if (typeof collect !== "function") throw new Error("no collector")
  collect()
  collect()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}
