/**
 * One bulk stream between two whole endpoints over a bottleneck in virtual time: handshake, frames, flow-control windows,
 * acknowledgements and scheduler as they are, and a cipher that does nothing, for speed. Loss applies to both directions;
 * the way back has delay and no queue.
 */
import type * as Congestion from "../../src/domain/protocol/Congestion.ts"
import { WINDOW_GROWTH } from "../../src/domain/protocol/Constants.ts"
import type { Invitation } from "../../src/domain/protocol/Credential.ts"
import { Endpoint } from "../../src/domain/protocol/Endpoint.ts"
import type { EndpointEvent, Handle } from "../../src/domain/protocol/EndpointTypes.ts"
import { HintCounter } from "../../src/domain/protocol/HintCounter.ts"
import type { Limits } from "../../src/domain/protocol/Limits.ts"
import { type KeyPair, type Primitives, TAG_LENGTH } from "../../src/domain/protocol/Primitives.ts"
import { Priority } from "../../src/domain/protocol/Streams.ts"
import { entropySeeded, primitives } from "../../src/layers/CryptoNode.ts"
import { chance } from "../protocol/Bottleneck.ts"
import { CLIENT, SERVER, type Side, WALL } from "../protocol/Pair.ts"

const UDP_OVERHEAD = 28
const BLOCK = new Uint8Array(65_536)
const NO_MASK = new Uint8Array(4096)

/** As the transport's own. */
const LIMITS: Limits = {
  maxData: 16 * 1024 * 1024,
  maxStreamData: 8 * 1024 * 1024,
  maxStreams: 64,
  idleTimeoutMs: 120_000,
  maxDatagram: 65_504
}

/** Everything is sent in the clear, and its tag is not looked at. */
const nullCipher: Primitives = {
  ...primitives,
  packetKey: () => ({
    seal: (_nonce, buffer, _start, end) => {
      buffer.fill(0, end - TAG_LENGTH, end)
    },
    open: () => true,
    wipe: () => undefined
  }),
  maskKey: () => ({ mask: () => NO_MASK, wipe: () => undefined })
}

export interface LineOptions {
  readonly mbit: number
  readonly rttMs: number
  readonly queueBdp: number
  readonly loss: number
  readonly congestion: Congestion.Factory
  readonly ms: number
  readonly seed: number
}

export interface LineResult {
  /** Payload that arrived, as share of the line. */
  readonly share: number
  /** Of the packets of the sender, the share that it gave up for lost. */
  readonly resent: number
  readonly queue95: number
  readonly packets: number
}

const at = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN

/** A direction: what is under way, in the order of arrival. */
class Way {
  readonly #queue: Array<{ readonly at: number; readonly bytes: Uint8Array }> = []
  #head = 0

  get next(): number {
    return this.#queue[this.#head]?.at ?? Number.POSITIVE_INFINITY
  }

  push(at: number, bytes: Uint8Array): void {
    this.#queue.push({ at, bytes })
  }

  shift(): Uint8Array | undefined {
    const bytes = this.#queue[this.#head++]?.bytes
    if (this.#head > 4096) {
      this.#queue.splice(0, this.#head)
      this.#head = 0
    }
    return bytes
  }
}

/** The client sends in bulk to the server; time counts from when both are connected. */
export const run = (options: LineOptions): LineResult => {
  const { mbit, ms, rttMs } = options
  const draw = chance(options.seed)
  const rate = mbit * 125
  const limit = Math.max(15_000, options.queueBdp * rate * rttMs)
  const entropy = entropySeeded(`line ${options.seed}`)
  const keys = { client: primitives.keyPair(entropy(32)), server: primitives.keyPair(entropy(32)) }
  const endpoint = (side: Side, identity: KeyPair): Endpoint =>
    new Endpoint(0, WALL, {
      primitives: nullCipher,
      entropy: entropySeeded(`line ${side}`),
      identity,
      limits: LIMITS,
      windowGrowth: WINDOW_GROWTH,
      congestion: options.congestion,
      keepAliveMs: 15_000,
      deadAfterMs: 60_000,
      maxSessions: 4
    })
  const ends = { client: endpoint("client", keys.client), server: endpoint("server", keys.server) }
  const credential = { id: entropy(16), psk: entropy(32), slot: undefined }
  const invitation: Invitation = { ...credential, serverKey: keys.server.publicKey, endpoints: [SERVER] }
  const validUntil = Number.POSITIVE_INFINITY
  ends.server.setAdmissions(0, [{ ...credential, staticKey: keys.client.publicKey, validUntil }])

  const ways = { client: new Way(), server: new Way() }
  let now = 0
  let started = Number.POSITIVE_INFINITY
  let lineFree = 0
  let packets = 0
  let handle: Handle = -1
  let bulk = -1
  let received = 0
  const queued: Array<number> = []

  const carry = (from: Side, bytes: Uint8Array): void => {
    packets++
    if (from === "server") {
      if (draw() >= options.loss) ways.server.push(now + rttMs / 2, bytes)
      return
    }
    const wait = Math.max(lineFree - now, 0)
    const size = bytes.length + UDP_OVERHEAD
    if (wait > 0 && wait * rate + size > limit) return
    lineFree = now + wait + size / rate
    if (started < now) queued.push(wait)
    if (draw() >= options.loss) ways.client.push(lineFree + rttMs / 2, bytes)
  }

  const fill = (): void => {
    const session = ends.client.session(handle)
    while (session !== undefined && !session.isFull(bulk)) session.write(bulk, BLOCK)
    ends.client.touch(handle)
  }

  const begin = (session: Handle): void => {
    handle = session
    started = now
    bulk = ends.client.session(session)?.openStream(Priority.Bulk) ?? -1
    fill()
  }

  const react = (side: Side, event: EndpointEvent): void => {
    const end = ends[side]
    if (event.type === "Initiation") end.admit(now, event.initiation, undefined)
    else if (event.type === "Answered") end.confirm(now, event.session)
    else if (event.type === "Connected" && side === "client") begin(event.session)
    else if (event.type === "Closed") throw new Error(`the ${side}'s session ended at ${now}`)
    else if (event.type === "Session" && event.event.type === "StreamWritable") fill()
    else if (event.type === "Session" && event.event.type === "StreamReadable") {
      const session = end.session(event.session)
      const { id } = event.event
      for (let got = session?.read(id); got instanceof Uint8Array; got = session?.read(id)) {
        received += got.length
      }
      end.touch(event.session)
    }
  }

  const drain = (): void => {
    for (let busy = true; busy; ) {
      busy = false
      for (const side of ["client", "server"] as const) {
        const end = ends[side]
        for (let t = end.pollTransmit(now); t !== undefined; t = end.pollTransmit(now)) carry(side, t.bytes)
        for (let e = end.pollEvent(); e !== undefined; e = end.pollEvent()) {
          react(side, e)
          busy = true
        }
      }
    }
  }

  ends.client.dial(now, {
    invitations: [invitation],
    hints: [new HintCounter(undefined)],
    identity: keys.client,
    deviceName: "line",
    features: 0,
    limits: LIMITS,
    timeoutMs: 60_000,
    skewMs: 0
  })
  for (;;) {
    drain()
    const next = Math.min(
      ways.client.next,
      ways.server.next,
      // A host's timers fire on whole milliseconds, never early.
      Math.ceil(ends.client.pollTimeout()),
      Math.ceil(ends.server.pollTimeout())
    )
    if (next > started + ms) break
    now = Math.max(now, next)
    ends.client.setWall(now, WALL + now)
    ends.server.setWall(now, WALL + now)
    while (ways.client.next <= now) ends.server.handleDatagram(now, CLIENT, ways.client.shift() ?? BLOCK)
    while (ways.server.next <= now) ends.client.handleDatagram(now, SERVER, ways.server.shift() ?? BLOCK)
    ends.client.handleTimeout(now)
    ends.server.handleTimeout(now)
  }
  const { lostPackets, sentPackets } = ends.client.stats(handle)
  queued.sort((a, b) => a - b)
  return {
    share: received / ms / rate,
    resent: lostPackets / sentPackets,
    queue95: at(queued, 0.95),
    packets
  }
}
