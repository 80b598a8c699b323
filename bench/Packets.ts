/** The core without sockets: frames of a packet built and parsed, and an endpoint with one session and with a hundred. */
import type { Address } from "../src/domain/protocol/Address.ts"
import * as Bbr from "../src/domain/protocol/Bbr.ts"
import { MAX_DATAGRAM_LENGTH } from "../src/domain/protocol/Constants.ts"
import { Writer } from "../src/domain/protocol/Cursor.ts"
import { Endpoint } from "../src/domain/protocol/Endpoint.ts"
import type { EndpointEvent, Handle } from "../src/domain/protocol/EndpointTypes.ts"
import * as Frame from "../src/domain/protocol/Frame.ts"
import { HintCounter } from "../src/domain/protocol/HintCounter.ts"
import type { Limits } from "../src/domain/protocol/Limits.ts"
import * as Packet from "../src/domain/protocol/Packet.ts"
import type { Transmit } from "../src/domain/protocol/SessionTypes.ts"
import { Priority } from "../src/domain/protocol/Streams.ts"
import { entropySeeded } from "../src/layers/CryptoNode.ts"
import { primitives } from "../src/layers/CryptoOpenSsl.ts"
import { alternate, type Bench, cpuMicros, type Figure } from "./Harness.ts"
import * as Peers from "./Peers.ts"

const ROUNDS = 11
const PACKETS = 50_000
const MESSAGES = 2_000
const LOOKS = 50_000
const SESSIONS = 100
const WALL = 1_800_000_000_000
const MESSAGE = new Uint8Array(64).fill(7)
/** Milliseconds of virtual time between two messages of one device. */
const RHYTHM_MS = 100

// -- frames --------------------------------------------------------------------------------------------------------

const frames = async (): Promise<ReadonlyArray<Figure>> => {
  const length = MAX_DATAGRAM_LENGTH - Packet.OVERHEAD
  const memory = new Uint8Array(length)
  const ranges = [
    { start: 1_000_000, end: 1_000_040 },
    { start: 999_000, end: 999_990 },
    { start: 998_000, end: 998_900 }
  ]
  const ack: Frame.Ack = { type: "Ack", ranges, delayUs: 1_250 }
  const room = length - Frame.encodedLength(ack) - Frame.MAX_STREAM_OVERHEAD
  const data = entropySeeded("frames")(room)
  const build = (index: number): void => {
    const writer = new Writer(memory)
    Frame.encode(writer, ack)
    Frame.encodeStream(writer, 4, index * room, data, false)
  }
  build(0)
  const end = Frame.encodedLength(ack) + Frame.streamOverhead(4, 0, room) + room
  const whole = memory.slice(0, end)
  const copy = new Uint8Array(length)
  const decoder = new Frame.Decoder()
  const parse = (): void => {
    decoder.begin(whole, 0, end)
    while (decoder.next() !== undefined);
    if (decoder.malformed) throw new Error("the packet is malformed")
  }
  const taken = await alternate(ROUNDS, {
    build: () => cpuMicros(PACKETS, build),
    parse: () => cpuMicros(PACKETS, parse),
    copy: () => cpuMicros(PACKETS, () => copy.set(whole))
  })
  const beside = { "copying it": taken.copy }
  return [
    { what: `frames of a ${MAX_DATAGRAM_LENGTH}-byte packet built`, unit: "us CPU", ours: taken.build, beside },
    { what: "parsed", unit: "us CPU", ours: taken.parse, beside }
  ]
}

// -- endpoints -----------------------------------------------------------------------------------------------------

const LIMITS: Limits = {
  maxData: 1_048_576,
  maxStreamData: 262_144,
  maxStreams: 16,
  idleTimeoutMs: 600_000,
  maxDatagram: MAX_DATAGRAM_LENGTH
}
const SERVER: Address = { host: "198.51.100.1", port: 50_000 }
const FIRST_PORT = 10_000

/** A server and its devices, joined without a network. */
class World {
  readonly server: Endpoint
  readonly #clients: Array<Endpoint>
  readonly #addresses: Array<Address>
  readonly #sessions: Array<Handle> = []
  readonly #streams: Array<number> = []
  readonly #arena = new Uint8Array(3 * 65_536)
  now = 0

  constructor(count: number) {
    const indexes = Array.from({ length: count }, (_, i) => i)
    this.server = this.#endpoint("server", Peers.serverKeys, count)
    this.server.setAdmissions(
      0,
      indexes.map((i) => Peers.admission(Peers.device(i)))
    )
    this.#addresses = indexes.map((i) => ({ host: `192.0.2.${1 + (i % 4)}`, port: FIRST_PORT + i }))
    this.#clients = indexes.map((i) => this.#endpoint(`client ${i}`, Peers.device(i).keys, 4))
    for (const i of indexes) this.#join(i)
  }

  #endpoint(seed: string, identity: Peers.Device["keys"], maxSessions: number): Endpoint {
    return new Endpoint(0, WALL, {
      primitives,
      entropy: entropySeeded(seed),
      identity,
      limits: LIMITS,
      congestion: Bbr.make,
      keepAliveMs: 600_000,
      deadAfterMs: 600_000,
      maxSessions: maxSessions + 8
    })
  }

  #join(index: number): void {
    const peer = Peers.device(index)
    const client = this.#client(index)
    client.dial(this.now, {
      invitations: [Peers.invitation(peer, SERVER.host, SERVER.port)],
      hints: [new HintCounter(undefined)],
      identity: peer.keys,
      deviceName: "bench",
      features: 0,
      limits: LIMITS,
      timeoutMs: 60_000,
      skewMs: 0
    })
    for (let i = 0; i < 8; i++) this.#exchange(index)
    const session = client.session(this.#sessions[index] ?? -1)
    const stream = session?.openStream(Priority.Interactive)
    if (stream === undefined) throw new Error("not connected")
    this.#streams[index] = stream
  }

  #client(index: number): Endpoint {
    return this.#clients[index] as Endpoint
  }

  /** Takes out all that an endpoint wants to send and to say. */
  #drain(endpoint: Endpoint, on: (event: EndpointEvent) => void): Array<Transmit> {
    const out: Array<Transmit> = []
    for (;;) {
      const length = endpoint.pollBurst(this.now, this.#arena, 16)
      if (length === 0) break
      const { remote, segment } = endpoint.burst
      const bytes = this.#arena.slice(16, 16 + length)
      for (let at = 0; at < length; at += segment) out.push({ bytes: bytes.subarray(at, at + segment), remote })
    }
    for (let event = endpoint.pollEvent(); event !== undefined; event = endpoint.pollEvent()) on(event)
    return out
  }

  readonly #onServer = (event: EndpointEvent): void => {
    if (event.type === "Initiation") this.server.admit(this.now, event.initiation, undefined)
    else if (event.type === "Enrolling") this.server.establish(this.now, event.session)
    else if (event.type === "Session" && event.event.type === "StreamReadable") {
      while (this.server.session(event.session)?.read(event.event.id) instanceof Uint8Array);
      this.server.touch(event.session)
    }
  }

  /** One client and the server hear of each other once. */
  #exchange(index: number): void {
    const client = this.#client(index)
    const remote = this.#addresses[index] as Address
    const sent = this.#drain(client, (event) => {
      if (event.type === "Answered") client.confirm(this.now, event.session)
      else if (event.type === "Connected") this.#sessions[index] = event.session
    })
    if (sent.length > 0)
      this.server.handleDatagrams(
        this.now,
        sent.map(({ bytes }) => ({ bytes, remote }))
      )
    // What the server wants to say to anybody; the events of one drain may have led to more.
    for (let more = true; more; ) {
      const answers = this.#drain(this.server, this.#onServer)
      more = answers.length > 0
      for (const { bytes, remote: to } of answers) {
        this.#client(to.port - FIRST_PORT).handleDatagram(this.now, SERVER, bytes)
      }
    }
  }

  /** A message from one of the devices in turn, read by the server, and what follows from it. */
  message(turn: number): void {
    this.now += RHYTHM_MS / this.#clients.length
    const index = turn % this.#clients.length
    const client = this.#client(index)
    const handle = this.#sessions[index] ?? -1
    client.session(handle)?.write(this.#streams[index] ?? -1, MESSAGE)
    client.touch(handle)
    if (client.pollTimeout() <= this.now) client.handleTimeout(this.now)
    if (this.server.pollTimeout() <= this.now) this.server.handleTimeout(this.now)
    this.#exchange(index)
  }

  /** What an owner asks each time it wakes for nothing. */
  look(): void {
    if (this.server.pollBurst(this.now, this.#arena, 16) !== 0) throw new Error("something was left to send")
    if (this.server.pollTimeout() < 0) throw new Error("a deadline before all time")
  }
}

const endpoints = async (): Promise<ReadonlyArray<Figure>> => {
  const one = new World(1)
  const many = new World(SESSIONS)
  const messages = (world: World) => () => cpuMicros(MESSAGES, (i) => world.message(i))
  const looks = (world: World) => () => cpuMicros(LOOKS, () => world.look())
  const taken = await alternate(ROUNDS, {
    manyMessages: messages(many),
    oneMessages: messages(one),
    manyLooks: looks(many),
    oneLooks: looks(one)
  })
  return [
    {
      what: `64 bytes through both cores, the server with ${SESSIONS} sessions`,
      unit: "us CPU",
      ours: taken.manyMessages,
      beside: { "with one": taken.oneMessages }
    },
    {
      what: "a wake-up for nothing: pollBurst and pollTimeout",
      unit: "us CPU",
      ours: taken.manyLooks,
      beside: { "with one": taken.oneLooks }
    }
  ]
}

export const bench: Bench = {
  name: "packets",
  measure: async () => ({ figures: [...(await frames()), ...(await endpoints())], notes: [] })
}
