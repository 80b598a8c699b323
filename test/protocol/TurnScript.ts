/**
 * A TURN server of the tests, and a client with it on a link in virtual time. The server checks what a real one checks;
 * what it answers can be bent by `bend`.
 */
import { assert } from "@effect/vitest"
import type { Address } from "../../src/domain/protocol/Address.ts"
import type { Parcel } from "../../src/domain/protocol/Carrier.ts"
import { hex, utf8 } from "../../src/domain/protocol/Cursor.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import { type Options, TurnClient } from "../../src/domain/protocol/TurnClient.ts"
import { entropySeeded } from "../../src/layers/CryptoNode.ts"
import { stunPrimitives } from "../../src/layers/StunPrimitivesNode.ts"

const { Attribute, Method } = Stun

export const SERVER: Address = { host: "198.51.100.9", port: 3478 }
export const CLIENT: Address = { host: "192.0.2.1", port: 40_000 }
/** Of the server's relays. */
export const RELAY_HOST = "198.51.100.10"
const REALM = "example.org"
export const CREDENTIALS = { username: "alice", password: "correct horse" }
export const VIA = 3
export const ONE_WAY_MS = 20

/** Which of RFC 8489's newer ways the server offers. */
export type Offer = "md5" | "sha256" | "userhash" | "none we know" | "stripped"

const ALGORITHM_LISTS: Readonly<Record<Offer, Uint8Array | undefined>> = {
  md5: undefined,
  sha256: Uint8Array.of(0, 2, 0, 0, 0, 1, 0, 0),
  userhash: Uint8Array.of(0, 2, 0, 0),
  "none we know": Uint8Array.of(0, 9, 0, 0),
  stripped: undefined
}
/** 24 bits of features in base64: bit 0 algorithms, bit 1 hashed names. */
const NONCE_HEAD: Readonly<Record<Offer, string>> = {
  md5: "",
  sha256: "obMatJos2gAAA",
  userhash: "obMatJos2wAAA",
  "none we know": "obMatJos2gAAA",
  stripped: "obMatJos2gAAA"
}

export class ScriptedServer {
  offer: Offer = "md5"
  nonce = 1
  /** Relayed port and end of life, ms, of each client's allocation. */
  readonly allocations = new Map<string, { readonly port: number; expiresAt: number }>()
  /** Ends of life, ms, by peer's host, and of channels by number. */
  readonly permissions = new Map<string, number>()
  readonly channels = new Map<number, { readonly peer: Address; until: number }>()
  /** What reached peers: whither and what. */
  readonly relayed: Array<{ readonly peer: Address; readonly bytes: Uint8Array; readonly how: "send" | "channel" }> = []
  /** Requests that were seen: method and whether they were signed. */
  readonly seen: Array<{
    readonly at: number
    readonly method: number
    readonly signed: boolean
    readonly lifetime: number | undefined
  }> = []
  lifetime = 600
  /** Answers otherwise, or not at all (empty list), instead of what follows. */
  bend: ((request: Stun.Message, server: ScriptedServer) => ReadonlyArray<Uint8Array> | undefined) | undefined
  #nextPort = 50_000

  handle(now: number, from: Address, bytes: Uint8Array): ReadonlyArray<Uint8Array> {
    if ((bytes[0] as number) >= 0x40) {
      this.#onChannelData(now, bytes)
      return []
    }
    const message = Stun.decode(bytes) ?? assert.fail("the client sent no STUN message")
    if (message.class === "indication") {
      const peer = Stun.xorAddress(message, Attribute.xorPeerAddress) ?? assert.fail("no peer")
      const data = Stun.value(message, Attribute.data) ?? assert.fail("no data")
      if ((this.permissions.get(peer.host) ?? 0) > now)
        this.relayed.push({ peer, bytes: Uint8Array.from(data), how: "send" })
      return []
    }
    const signed = this.verifies(message)
    this.seen.push({ at: now, method: message.method, signed, lifetime: Stun.u32(message, Attribute.lifetime) })
    const bent = this.bend?.(message, this)
    if (bent !== undefined) return bent
    if (!signed) return [this.challenge(message, 401)]
    if (Stun.text(message, Attribute.nonce) !== this.nonceText) return [this.challenge(message, 438)]
    const key = `${from.host}:${from.port}`
    const known = this.allocations.get(key)
    const live = known !== undefined && known.expiresAt > now
    switch (message.method) {
      case Method.allocate: {
        if (live) return [this.error(message, 437)]
        assert.deepStrictEqual(Stun.value(message, Attribute.requestedTransport), Uint8Array.of(17, 0, 0, 0))
        const port = this.#nextPort++
        // Those of an allocation end with it.
        this.#clear()
        this.allocations.set(key, { port, expiresAt: now + this.lifetime * 1000 })
        return [
          this.success(message, (writer) =>
            writer
              .xorAddress(Attribute.xorRelayedAddress, { host: RELAY_HOST, port })
              .xorAddress(Attribute.xorMappedAddress, from)
              .u32(Attribute.lifetime, this.lifetime)
          )
        ]
      }
      case Method.refresh: {
        if (!live) return [this.error(message, 437)]
        const lifetime = Stun.u32(message, Attribute.lifetime) === 0 ? 0 : this.lifetime
        known.expiresAt = now + lifetime * 1000
        if (lifetime === 0) this.#clear()
        return [this.success(message, (writer) => writer.u32(Attribute.lifetime, lifetime))]
      }
      case Method.createPermission: {
        if (!live) return [this.error(message, 437)]
        const peer = Stun.xorAddress(message, Attribute.xorPeerAddress) ?? assert.fail("no peer")
        this.permissions.set(peer.host, now + 300_000)
        return [this.success(message)]
      }
      case Method.channelBind: {
        if (!live) return [this.error(message, 437)]
        const peer = Stun.xorAddress(message, Attribute.xorPeerAddress) ?? assert.fail("no peer")
        const [high = 0, low = 0] = Stun.value(message, Attribute.channelNumber) ?? []
        const number = (high << 8) | low
        assert.isTrue(number >= 0x4000 && number <= 0x4fff)
        for (const [other, channel] of this.channels) {
          if (channel.until + 300_000 < now) continue
          const same = channel.peer.host === peer.host && channel.peer.port === peer.port
          assert.strictEqual(other === number, same, "a channel's number and peer stay together")
        }
        this.channels.set(number, { peer, until: now + 600_000 })
        this.permissions.set(peer.host, now + 300_000)
        return [this.success(message)]
      }
      default:
        return [this.error(message, 400)]
    }
  }

  /** What a peer's datagram to the relayed address becomes. */
  fromPeer(now: number, peer: Address, bytes: Uint8Array): ReadonlyArray<Uint8Array> {
    if ((this.permissions.get(peer.host) ?? 0) <= now) return []
    for (const [number, channel] of this.channels) {
      if (channel.until > now && channel.peer.host === peer.host && channel.peer.port === peer.port) {
        return [channelData(number, bytes)]
      }
    }
    return [dataIndication(peer, bytes)]
  }

  /** Everything is forgotten, as by a new process. */
  restart(): void {
    this.allocations.clear()
    this.#clear()
    this.nonce += 1000
  }

  get nonceText(): string {
    return `${NONCE_HEAD[this.offer]}nonce-${this.nonce}`
  }

  verifies(message: Stun.Message): boolean {
    const { username } = CREDENTIALS
    const hashed = Stun.value(message, Attribute.userhash)
    if (this.offer === "userhash") {
      if (hashed === undefined || hex(hashed) !== hex(Stun.userhash(stunPrimitives, username, REALM))) return false
    } else if (Stun.text(message, Attribute.username) !== username) return false
    const list = ALGORITHM_LISTS[this.offer]
    const repeated = Stun.value(message, Attribute.passwordAlgorithms)
    if (hex(list ?? new Uint8Array(0)) !== hex(repeated ?? new Uint8Array(0))) return false
    if (list !== undefined && hex(Stun.value(message, Attribute.passwordAlgorithm) ?? list) !== "00020000") return false
    return Stun.text(message, Attribute.realm) === REALM && Stun.verify(message, stunPrimitives, this.#key())
  }

  challenge(request: Stun.Message, code: 401 | 438): Uint8Array {
    const writer = new Stun.StunWriter("error", request.method, request.transactionId)
      .errorCode(code, "")
      .text(Attribute.realm, REALM)
      .text(Attribute.nonce, this.nonceText)
    const list = ALGORITHM_LISTS[this.offer]
    return (list === undefined ? writer : writer.attribute(Attribute.passwordAlgorithms, list)).finish()
  }

  error(request: Stun.Message, code: number, more?: (writer: Stun.StunWriter) => Stun.StunWriter): Uint8Array {
    const writer = new Stun.StunWriter("error", request.method, request.transactionId).errorCode(code, "no")
    return this.#signed(more === undefined ? writer : more(writer))
  }

  success(request: Stun.Message, more?: (writer: Stun.StunWriter) => Stun.StunWriter): Uint8Array {
    const writer = new Stun.StunWriter("success", request.method, request.transactionId)
    return this.#signed(more === undefined ? writer : more(writer))
  }

  #signed(writer: Stun.StunWriter): Uint8Array {
    const key = this.#key()
    const plain = this.offer === "md5"
    return (plain ? writer.integrity(stunPrimitives, key) : writer.integritySha256(stunPrimitives, key)).finish()
  }

  #key(): Uint8Array {
    const { password, username } = CREDENTIALS
    return Stun.longTermKey(stunPrimitives, username, REALM, password, this.offer === "md5" ? "md5" : "sha256")
  }

  #onChannelData(now: number, bytes: Uint8Array): void {
    const number = ((bytes[0] as number) << 8) | (bytes[1] as number)
    const channel = this.channels.get(number)
    if (channel === undefined || channel.until <= now || (this.permissions.get(channel.peer.host) ?? 0) <= now) return
    this.relayed.push({ peer: channel.peer, bytes: bytes.slice(4), how: "channel" })
  }

  #clear(): void {
    this.permissions.clear()
    this.channels.clear()
  }
}

export const channelData = (number: number, bytes: Uint8Array): Uint8Array =>
  Uint8Array.of(number >> 8, number, bytes.length >> 8, bytes.length, ...bytes)

export const dataIndication = (peer: Address, bytes: Uint8Array): Uint8Array =>
  new Stun.StunWriter("indication", Method.data, new Uint8Array(12).fill(7), bytes.length + 100)
    .xorAddress(Attribute.xorPeerAddress, peer)
    .attribute(Attribute.data, bytes)
    .finish()

interface Flight {
  readonly at: number
  readonly to: "client" | "server"
  readonly from: Address
  readonly bytes: Uint8Array
}

/** Copies of a datagram: none is a loss. */
export type Fate = (to: Flight["to"], bytes: Uint8Array, index: number) => number

export class World {
  now = 1000
  readonly server = new ScriptedServer()
  readonly client: TurnClient
  readonly received: Array<Parcel> = []
  /** Datagrams from the server that the client took for others'. */
  foreign = 0
  /** Bytes of all that the client sent. */
  readonly sent: Array<Uint8Array> = []
  /** The client as the server sees it; a change is a NAT that forgot. */
  clientAddress: Address = CLIENT
  fate: Fate = () => 1
  /** What the client could not have drained, for checks of bounds. */
  #flights: Array<Flight> = []
  #index = 0

  constructor(options: Partial<Options> = {}, seed = "turn") {
    this.client = new TurnClient(this.now, {
      server: SERVER,
      via: VIA,
      credentials: () => CREDENTIALS,
      primitives: stunPrimitives,
      entropy: entropySeeded(seed),
      ...options
    })
    this.drain()
  }

  drain(): void {
    for (let next = this.client.pollTransmit(this.now); next !== undefined; next = this.client.pollTransmit(this.now)) {
      this.#leave(next)
    }
  }

  #leave({ bytes, remote }: Parcel): void {
    assert.isTrue(this.client.servers.some(({ host, port }) => host === remote.host && port === remote.port))
    this.sent.push(bytes)
    this.#fly({ at: this.now + ONE_WAY_MS, to: "server", from: this.clientAddress, bytes })
  }

  #fly(flight: Flight): void {
    for (let copies = this.fate(flight.to, flight.bytes, this.#index++); copies > 0; copies--)
      this.#flights.push(flight)
  }

  /** A session's datagram. */
  send(peer: Address, bytes: Uint8Array): void {
    const parcel = this.client.wrap(this.now, { ...peer, via: VIA }, bytes)
    this.drain()
    if (parcel !== undefined) this.#leave(parcel)
  }

  /** A datagram that comes to the client now, from wherever. */
  receive(bytes: Uint8Array, from: Address = SERVER): Parcel | "foreign" | undefined {
    const parcel = this.client.handleDatagram(this.now, from, bytes)
    if (parcel === "foreign") this.foreign++
    else if (parcel !== undefined) this.received.push(parcel)
    this.drain()
    return parcel
  }

  /** A peer's datagram to our relayed address. */
  fromPeer(peer: Address, bytes: Uint8Array): void {
    for (const each of this.server.fromPeer(this.now, peer, bytes)) {
      this.#fly({ at: this.now + ONE_WAY_MS, to: "client", from: SERVER, bytes: each })
    }
  }

  do(command: (client: TurnClient, now: number) => void): void {
    command(this.client, this.now)
    this.drain()
  }

  /** Lets time pass, with all that falls due in it. */
  pass(ms: number): void {
    const end = this.now + ms
    for (let steps = 0; ; steps++) {
      if (steps > 100_000) assert.fail("virtual time stands still")
      let next: Flight | undefined
      for (const flight of this.#flights) if (next === undefined || flight.at < next.at) next = flight
      const at = Math.min(next?.at ?? Number.POSITIVE_INFINITY, Math.max(this.client.pollTimeout(), this.now))
      if (at > end) break
      this.now = at
      if (next !== undefined && next.at === at) {
        this.#flights.splice(this.#flights.indexOf(next), 1)
        if (next.to === "client") this.receive(next.bytes, next.from)
        else {
          for (const bytes of this.server.handle(this.now, next.from, next.bytes)) {
            this.#fly({ at: this.now + ONE_WAY_MS, to: "client", from: SERVER, bytes })
          }
        }
      } else {
        this.client.handleTimeout(this.now)
        assert.isAbove(this.client.pollTimeout(), this.now, "a deadline that does not move")
        this.drain()
      }
    }
    this.now = end
  }

  /** Requests of one method that the server saw. */
  requests(method: number): number {
    return this.server.seen.filter((one) => one.method === method).length
  }
}

export const text = (words: string): Uint8Array => utf8(words)
