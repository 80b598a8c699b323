/**
 * UDP on Linux with segmentation offload: one system call sends up to 64 datagrams (UDP_SEGMENT), one receive brings as
 * many (UDP_GRO), and "don't fragment" is set without regard to what the kernel believes of the path (IP_PMTUDISC_PROBE),
 * so that probes of its MTU are true. See udp(7) and ip(7).
 *
 * The socket is made, configured, bound and sent on through koffi. Receiving, waiting for room and closing belong to
 * node:dgram, which adopts the descriptor by its public `bind({ fd })`. Datagrams that arrived in one piece are told
 * apart by their connection id (see Coalesced). Where anything is missing the plain layer serves, without a word.
 *
 * To load koffi takes 5 ms, longer than to connect: a client's socket (`layerLate`) is node:dgram's own at first, and
 * becomes such a one under way, when it has carried enough or is about to probe the path's MTU.
 */
import type { Socket } from "node:dgram"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Address, isLoopback, isPort } from "../domain/protocol/Address.ts"
import { parseHost } from "../domain/protocol/AddressCodec.ts"
import { segmentLength } from "../domain/protocol/Coalesced.ts"
import { MAX_DATAGRAM_LENGTH } from "../domain/protocol/Constants.ts"
import { type BindOptions, type Burst, UdpSocket, UdpSocketError } from "../services/UdpSocket.ts"
import { segmentOf } from "./Bursts.ts"
import * as DgramSocket from "./DgramSocket.ts"
import { addresses } from "./HostAddresses.ts"
import * as Koffi from "./Koffi.ts"
import * as LinuxUdp from "./LinuxUdp.ts"
import * as UdpSocketNode from "./UdpSocketNode.ts"

const MSG_DONTWAIT = 0x40
/** Datagrams of one call: UDP_MAX_SEGMENTS (newer kernels take 128). */
const MAX_SEGMENTS = 64
/** Bytes of one call: a UDP payload over IPv4. */
const MAX_CALL_BYTES = 65_507
/** Hosts whose addresses are remembered as the kernel wants them. */
const MAX_HOSTS = 1024
/** The value of UDP_SEGMENT that turns segmentation off. */
const NO_SEGMENTS = 0
/** Datagrams that a late socket carries before it is worth 5 ms to carry the others faster. A question needs some 50. */
const PATIENCE = 256

/** How to reach a host, and what its route has shown to be too much for segmentation. */
interface Target {
  readonly address: Uint8Array
  /** Bytes: segments of this length and more go one by one. */
  singleFrom: number
}

/** A batch that is being sent: the burst it has come to, and the bytes of it that have left. */
interface Sending {
  readonly batch: ReadonlyArray<Burst>
  index: number
  at: number
  done: () => void
}

/** Gives libuv one datagram, which waits for room, sends it, and calls back. */
type Hand = (bytes: Uint8Array, remote: Address, sent: () => void) => void

/** Sends on one descriptor, in order. */
class Sends {
  readonly #calls: LinuxUdp.Calls
  readonly #fd: number
  readonly #v6: boolean
  readonly #hand: Hand
  readonly #targets = new Map<string, Target | undefined>()
  #lastHost = ""
  #lastTarget: Target | undefined
  /** The socket's UDP_SEGMENT at present. */
  #segment = NO_SEGMENTS
  readonly #value = new Int32Array(1)
  /** Batches that wait for room, in order. */
  readonly #line: Array<Sending> = []
  readonly #again: number
  readonly #refusals: ReadonlyArray<number>
  #closed = false

  constructor(calls: LinuxUdp.Calls, fd: number, v6: boolean, hand: Hand) {
    this.#calls = calls
    this.#fd = fd
    this.#v6 = v6
    this.#hand = hand
    const { EAGAIN = -1, EINVAL = -1, EIO = -1 } = calls.errors
    this.#again = EAGAIN
    this.#refusals = [EINVAL, EIO]
  }

  /** The descriptor may be another's from here on. */
  close(): void {
    this.#closed = true
    for (const { done } of this.#line.splice(0)) done()
  }

  send(batch: ReadonlyArray<Burst>): Effect.Effect<void> {
    const sending: Sending = { batch, index: 0, at: 0, done: () => {} }
    if (this.#line.length === 0 && this.#advance(sending)) return Effect.void
    return Effect.uninterruptible(
      Effect.callback((resume) => {
        sending.done = () => resume(Effect.void)
        if (this.#closed) return sending.done()
        this.#line.push(sending)
        if (this.#line.length === 1) this.#handOne(sending)
      })
    )
  }

  /** Sends on from where it is; false when the kernel has no room. */
  #advance(sending: Sending): boolean {
    const { batch } = sending
    for (; sending.index < batch.length && !this.#closed; sending.index++, sending.at = 0) {
      const burst = batch[sending.index] as Burst
      const target = this.#target(burst.remote)
      if (target === undefined) continue
      const { bytes } = burst
      const segment = segmentOf(burst)
      do {
        const left = bytes.length - sending.at
        const fits = segment < target.singleFrom ? Math.min(MAX_SEGMENTS, Math.floor(MAX_CALL_BYTES / segment)) : 1
        const length = left <= segment ? left : segment * Math.max(1, fits)
        const sent = this.#call(target, bytes, sending.at, Math.min(left, length), segment)
        if (sent < 0) return false
        sending.at += sent
      } while (sending.at < bytes.length)
    }
    return true
  }

  /** One system call. Answers the bytes that are done with, sent or lost; 0 to try once more in another way; -1 for no room. */
  #call(target: Target, bytes: Uint8Array, at: number, length: number, segment: number): number {
    const { address } = target
    const many = length > segment
    // A single datagram that is no longer than the length set is left in one piece.
    if (many) this.#setSegment(segment)
    else if (length > this.#segment) this.#setSegment(NO_SEGMENTS)
    const from = at === 0 ? bytes : bytes.subarray(at)
    if (this.#calls.sendto(this.#fd, from, length, MSG_DONTWAIT, address, address.length) >= 0) return length
    const error = this.#calls.errno()
    if (error === this.#again) return -1
    if (!this.#refusals.includes(error)) return length
    // No segmentation on this route (EIO), or, to older kernels, none of this length (EINVAL).
    if (many) target.singleFrom = error === this.#calls.errors.EIO ? 0 : segment
    else if (this.#segment === NO_SEGMENTS) return length
    // Older kernels refuse a single datagram, too, for the length that is set.
    else this.#setSegment(NO_SEGMENTS)
    return 0
  }

  /** Cannot fail for what `attempt` has tried: any length but 0 is the send's to refuse. */
  #setSegment(segment: number): void {
    if (segment === this.#segment) return
    this.#segment = segment
    this.#value[0] = segment
    LinuxUdp.setSegment(this.#calls, this.#fd, this.#value)
  }

  /** Gives the next datagram to libuv, which waits until there is room, sends it, and calls back. */
  #handOne(sending: Sending): void {
    const burst = sending.batch[sending.index] as Burst
    const { bytes, remote } = burst
    const end = sending.at + segmentOf(burst)
    this.#hand(bytes.subarray(sending.at, end), remote, this.#onRoom)
    sending.at = end
    if (end < bytes.length) return
    sending.index++
    sending.at = 0
  }

  readonly #onRoom = (): void => {
    for (let first = this.#line[0]; first !== undefined; first = this.#line[0]) {
      if (!this.#advance(first)) {
        this.#handOne(first)
        return
      }
      this.#line.shift()
      first.done()
    }
  }

  /** Where to send to, with the port filled in, or `undefined` for what is no numeric address or no port. */
  #target({ host, port }: Address): Target | undefined {
    if (!isPort(port)) return undefined
    if (host !== this.#lastHost) {
      this.#lastHost = host
      this.#lastTarget = this.#lookUp(host)
    }
    if (this.#lastTarget !== undefined) LinuxUdp.setPort(this.#lastTarget.address, port)
    return this.#lastTarget
  }

  #lookUp(host: string): Target | undefined {
    const known = this.#targets.get(host)
    if (known !== undefined) return known
    const parsed = parseHost(host)
    if (parsed === undefined || (parsed.length === 16 && !this.#v6)) return undefined
    if (this.#targets.size >= MAX_HOSTS) this.#targets.clear()
    const target = { address: LinuxUdp.socketAddress(parsed, this.#v6), singleFrom: Number.POSITIVE_INFINITY }
    this.#targets.set(host, target)
    return target
  }
}

class PartingSocket extends DgramSocket.DgramSocket {
  /** Queues what arrived in one piece, datagram by datagram. */
  protected part(bytes: Uint8Array, remote: Address): void {
    const segment = segmentLength(bytes)
    if (segment === bytes.length) this.deliver(bytes, remote)
    else if (segment > 0) {
      for (let at = 0; at < bytes.length; at += segment) this.deliver(bytes.subarray(at, at + segment), remote)
    }
  }
}

/** Made through koffi, with all there is from the start. */
class LinuxSocket extends PartingSocket {
  readonly #probes: boolean
  readonly #sends: Sends

  constructor(
    calls: LinuxUdp.Calls,
    fd: number,
    socket: Socket,
    v6: boolean,
    probes: boolean,
    via: number | undefined
  ) {
    super(socket, v6, via)
    this.#probes = probes
    this.#sends = new Sends(calls, fd, v6, (bytes, remote, sent) => this.hand(bytes, remote, sent))
  }

  override get probes(): boolean {
    return this.#probes
  }

  override closeUnsafe(): void {
    super.closeUnsafe()
    this.#sends.close()
  }

  override send(batch: ReadonlyArray<Burst>): Effect.Effect<void> {
    return this.#sends.send(batch)
  }

  protected override arrived(bytes: Uint8Array, remote: Address): void {
    this.part(bytes, remote)
  }
}

/** Whether a fragment of it would pass for the whole: only sockets that forbid fragments may send such a one. */
const isProbe = (burst: Burst): boolean =>
  Math.min(burst.bytes.length, segmentOf(burst)) > MAX_DATAGRAM_LENGTH && !isLoopback(burst.remote.host)

/** Made by libuv; sends and receives as a LinuxSocket once that is worth it. */
class LateSocket extends PartingSocket {
  readonly #calls: () => LinuxUdp.Calls | undefined
  readonly #v6: boolean
  #patience: number
  #sends: Sends | undefined
  #probes = true
  /** What there was to decide is decided. */
  #settled = false

  constructor(calls: () => LinuxUdp.Calls | undefined, patience: number, socket: Socket, v6: boolean, via?: number) {
    super(socket, v6, via)
    this.#calls = calls
    this.#patience = patience
    this.#v6 = v6
  }

  /** A promise at first: what is a probe does not leave before it is kept, and never where it cannot be. */
  override get probes(): boolean {
    return this.#probes
  }

  override closeUnsafe(): void {
    super.closeUnsafe()
    this.#sends?.close()
  }

  override send(batch: ReadonlyArray<Burst>): Effect.Effect<void> {
    if (!this.#settled) this.#consider(batch)
    if (this.#sends !== undefined) return this.#sends.send(batch)
    return super.send(batch.some(isProbe) ? batch.filter((burst) => !isProbe(burst)) : batch)
  }

  protected override arrived(bytes: Uint8Array, remote: Address): void {
    if (this.#sends !== undefined) this.part(bytes, remote)
    else {
      this.#patience--
      this.deliver(bytes, remote)
    }
  }

  #consider(batch: ReadonlyArray<Burst>): void {
    for (const burst of batch) this.#patience -= Math.ceil(burst.bytes.length / segmentOf(burst))
    if (this.#patience >= 0 && !batch.some(isProbe)) return
    // Nothing may overtake what waits at libuv.
    if (this.closed || this.queued) return
    this.#settled = true
    const calls = this.#calls()
    const fd = calls === undefined ? undefined : LinuxUdp.find(calls, this.address, this.#v6)
    this.#probes = false
    if (calls === undefined || fd === undefined) return
    this.#probes = LinuxUdp.configure(calls, fd, this.#v6)
    this.#sends = new Sends(calls, fd, this.#v6, (bytes, remote, sent) => this.hand(bytes, remote, sent))
  }
}

const open =
  (calls: LinuxUdp.Calls) =>
  (options: BindOptions): Effect.Effect<DgramSocket.DgramSocket, UdpSocketError> =>
    Effect.suspend(() => {
      const host = parseHost(options.host)
      // With a zone, which dgram understands.
      if (host === undefined) return DgramSocket.open(options)
      const made = LinuxUdp.makeUnsafe(calls, options, host, options.host.includes(":"))
      if (made instanceof UdpSocketError) return Effect.fail(made)
      const { fd, probes } = made
      const adopted = DgramSocket.adopt(options, fd, (socket, v6) => {
        LinuxUdp.unshare(calls, fd)
        return new LinuxSocket(calls, fd, socket, v6, probes, options.via)
      })
      return Effect.tapError(adopted, () => Effect.sync(() => calls.close(fd)))
    })

const IMPLEMENTATION = "linux GSO/GRO"

/** UDP sockets of this host by the koffi given, or plain ones where that does not do. */
export const layerOf = (load: () => Koffi.Koffi | undefined): Layer.Layer<UdpSocket> =>
  Layer.unwrap(
    Effect.sync(() => {
      const calls = LinuxUdp.attempt(load())
      if (calls === undefined) return UdpSocketNode.layer
      return Layer.succeed(UdpSocket, {
        implementation: IMPLEMENTATION,
        addresses,
        bind: DgramSocket.binding(open(calls))
      })
    })
  )

/**
 * UDP sockets of this host that ask for koffi once they have carried more than `patience` datagrams, or have to probe; to
 * read `implementation` asks too.
 */
export const layerLateOf = (load: () => Koffi.Koffi | undefined, patience: number): Layer.Layer<UdpSocket> => {
  if (!LinuxUdp.supported) return UdpSocketNode.layer
  return Layer.sync(UdpSocket, () => {
    let asked = false
    let found: LinuxUdp.Calls | undefined
    const calls = (): LinuxUdp.Calls | undefined => {
      if (!asked) found = LinuxUdp.attempt(load())
      asked = true
      return found
    }
    return {
      get implementation() {
        return calls() === undefined ? "node:dgram" : IMPLEMENTATION
      },
      addresses,
      bind: DgramSocket.binding((options) =>
        DgramSocket.openAs(options, (socket, v6) => new LateSocket(calls, patience, socket, v6, options.via))
      )
    }
  })
}

/** Whether this host has what the accelerated sockets need. */
export const available = (): boolean => LinuxUdp.attempt(Koffi.load()) !== undefined

/** UDP sockets of this host, the fastest there are: for what waits for others. */
export const layer: Layer.Layer<UdpSocket> = layerOf(Koffi.load)

/** UDP sockets of this host that are bound the fastest and become the fastest: for what connects. */
export const layerLate: Layer.Layer<UdpSocket> = layerLateOf(Koffi.load, PATIENCE)
