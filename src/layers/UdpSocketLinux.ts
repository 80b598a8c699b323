/**
 * UDP on Linux with segmentation offload: one system call sends up to 64 datagrams (UDP_SEGMENT), one receive brings as
 * many (UDP_GRO), and "don't fragment" is set without regard to what the kernel believes of the path (IP_PMTUDISC_PROBE),
 * so that probes of its MTU are true. See udp(7) and ip(7).
 *
 * The socket is made, configured, bound and sent on through koffi. Receiving, waiting for room and closing belong to
 * node:dgram, which adopts the descriptor by its public `bind({ fd })`. Datagrams that arrived in one piece are told
 * apart by their connection id (see Coalesced). Where anything is missing the plain layer serves, without a word.
 */
import type { Socket } from "node:dgram"
import { isIP } from "node:net"
import { arch, platform } from "node:process"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Address, isPort } from "../domain/protocol/Address.ts"
import { parseHost } from "../domain/protocol/AddressCodec.ts"
import { segmentLength } from "../domain/protocol/Coalesced.ts"
import { type BindOptions, type Burst, UdpSocket, UdpSocketError } from "../services/UdpSocket.ts"
import { segmentOf } from "./Bursts.ts"
import * as DgramSocket from "./DgramSocket.ts"
import { addresses } from "./HostAddresses.ts"
import * as Koffi from "./Koffi.ts"
import * as UdpSocketNode from "./UdpSocketNode.ts"

// Numbers of the Linux ABI on x86-64 and arm64 (include/uapi/linux/{socket,in,in6,udp}.h, asm-generic/socket.h).
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_SNDBUF = 7
const SO_RCVBUF = 8
const SO_SNDBUFFORCE = 32
const SO_RCVBUFFORCE = 33
const IPPROTO_IP = 0
const IP_MTU_DISCOVER = 10
const IPPROTO_IPV6 = 41
const IPV6_MTU_DISCOVER = 23
const IPV6_V6ONLY = 26
const PMTUDISC_PROBE = 3
const SOL_UDP = 17
const UDP_SEGMENT = 103
const UDP_GRO = 104

/** Datagrams of one call: UDP_MAX_SEGMENTS (newer kernels take 128). */
const MAX_SEGMENTS = 64
/** Bytes of one call: a UDP payload over IPv4. */
const MAX_CALL_BYTES = 65_507
/** Hosts whose addresses are remembered as the kernel wants them. */
const MAX_HOSTS = 1024
/** The value of UDP_SEGMENT that turns segmentation off. */
const NO_SEGMENTS = 0

/** The C library's calls that are used, with what they answer; -1 is an error, told by `errno`. */
interface Calls {
  readonly socket: (family: number, type: number, protocol: number) => number
  readonly bind: (fd: number, address: Uint8Array, length: number) => number
  readonly setsockopt: (fd: number, level: number, name: number, value: Int32Array, length: number) => number
  readonly sendto: (
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: number
  ) => number
  readonly close: (fd: number) => number
  readonly errno: () => number
  /** Numbers of errors by name. */
  readonly errors: Readonly<Record<string, number>>
}

const ARCHITECTURES: ReadonlyArray<string> = ["x64", "arm64"]

const callsOf = (koffi: Koffi.Koffi): Calls => {
  const library = koffi.load(null)
  return {
    socket: library.func("int socket(int family, int type, int protocol)"),
    bind: library.func("int bind(int fd, void *address, uint32_t length)"),
    setsockopt: library.func("int setsockopt(int fd, int level, int name, void *value, uint32_t length)"),
    sendto: library.func(
      "int64_t sendto(int fd, void *bytes, uint64_t length, int flags, void *address, uint32_t addressLength)"
    ),
    close: library.func("int close(int fd)"),
    errno: () => koffi.errno(),
    errors: koffi.os.errno
  }
}

const option = (calls: Calls, fd: number, level: number, name: number, value: number): boolean =>
  calls.setsockopt(fd, level, name, Int32Array.of(value), 4) === 0

/** The calls, if this system has them and its kernel segments (4.18 and later). */
const attempt = (koffi: Koffi.Koffi | undefined): Calls | undefined => {
  if (koffi === undefined || platform !== "linux" || !ARCHITECTURES.includes(arch)) return undefined
  try {
    const calls = callsOf(koffi)
    const fd = calls.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)
    if (fd < 0) return undefined
    const segments = option(calls, fd, SOL_UDP, UDP_SEGMENT, 1200)
    calls.close(fd)
    return segments ? calls : undefined
  } catch {
    // A symbol is missing, or the loader refuses: the plain layer serves.
    return undefined
  }
}

/** A `sockaddr_in` or `sockaddr_in6`; the port is filled in for each use. */
const socketAddress = (host: Uint8Array, v6: boolean): Uint8Array => {
  const address = new Uint8Array(v6 ? 28 : 16)
  new Uint16Array(address.buffer, 0, 1)[0] = v6 ? AF_INET6 : AF_INET
  if (!v6) address.set(host, 4)
  else if (host.length === 16) address.set(host, 8)
  // IPv4 mapped (RFC 4291 section 2.5.5.2).
  else address.set([0xff, 0xff, ...host], 18)
  return address
}

const setPort = (address: Uint8Array, port: number): void => {
  address[2] = port >> 8
  address[3] = port & 0xff
}

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

class LinuxSocket extends DgramSocket.DgramSocket {
  override readonly probes: boolean
  readonly #calls: Calls
  readonly #fd: number
  readonly #v6: boolean
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

  constructor(calls: Calls, fd: number, socket: Socket, v6: boolean, probes: boolean, via: number | undefined) {
    super(socket, v6, via)
    this.probes = probes
    this.#calls = calls
    this.#fd = fd
    this.#v6 = v6
    const { EAGAIN = -1, EINVAL = -1, EIO = -1 } = calls.errors
    this.#again = EAGAIN
    this.#refusals = [EINVAL, EIO]
  }

  override closeUnsafe(): void {
    super.closeUnsafe()
    for (const { done } of this.#line.splice(0)) done()
  }

  override send(batch: ReadonlyArray<Burst>): Effect.Effect<void> {
    const sending: Sending = { batch, index: 0, at: 0, done: () => {} }
    if (this.#line.length === 0 && this.#advance(sending)) return Effect.void
    return Effect.uninterruptible(
      Effect.callback((resume) => {
        sending.done = () => resume(Effect.void)
        if (this.closed) return sending.done()
        this.#line.push(sending)
        if (this.#line.length === 1) this.#handOne(sending)
      })
    )
  }

  protected override arrived(bytes: Uint8Array, remote: Address): void {
    const segment = segmentLength(bytes)
    if (segment === bytes.length) this.deliver(bytes, remote)
    else if (segment > 0) {
      for (let at = 0; at < bytes.length; at += segment) this.deliver(bytes.subarray(at, at + segment), remote)
    }
  }

  /** Sends on from where it is; false when the kernel has no room. */
  #advance(sending: Sending): boolean {
    const { batch } = sending
    for (; sending.index < batch.length && !this.closed; sending.index++, sending.at = 0) {
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
    this.#calls.setsockopt(this.#fd, SOL_UDP, UDP_SEGMENT, this.#value, 4)
  }

  /** Gives the next datagram to libuv, which waits until there is room, sends it, and calls back. */
  #handOne(sending: Sending): void {
    const burst = sending.batch[sending.index] as Burst
    const { bytes, remote } = burst
    const end = sending.at + segmentOf(burst)
    this.hand(bytes.subarray(sending.at, end), remote, this.#onRoom)
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
    if (this.#lastTarget !== undefined) setPort(this.#lastTarget.address, port)
    return this.#lastTarget
  }

  #lookUp(host: string): Target | undefined {
    const known = this.#targets.get(host)
    if (known !== undefined) return known
    const parsed = parseHost(host)
    if (parsed === undefined || (parsed.length === 16 && !this.#v6)) return undefined
    if (this.#targets.size >= MAX_HOSTS) this.#targets.clear()
    const target = { address: socketAddress(parsed, this.#v6), singleFrom: Number.POSITIVE_INFINITY }
    this.#targets.set(host, target)
    return target
  }
}

const refused = (calls: Calls, options: BindOptions, call: string): UdpSocketError => {
  const number = calls.errno()
  const code = Object.keys(calls.errors).find((name) => calls.errors[name] === number)
  const error: NodeJS.ErrnoException = new Error(`${call} ${code ?? number}`)
  error.errno = -number
  error.syscall = call
  if (code !== undefined) error.code = code
  return DgramSocket.bindError(options, error)
}

/** A descriptor that is bound to the address, or why there is none; whether it sets "don't fragment". */
const makeUnsafe = (
  calls: Calls,
  options: BindOptions,
  host: Uint8Array,
  v6: boolean
): { readonly fd: number; readonly probes: boolean } | UdpSocketError => {
  const fd = calls.socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
  if (fd < 0) return refused(calls, options, "socket")
  const set = (level: number, name: number, value: number): boolean => option(calls, fd, level, name, value)
  if (v6) set(IPPROTO_IPV6, IPV6_V6ONLY, 0)
  // Beyond the system's limit where this process may.
  const size = DgramSocket.KERNEL_BUFFER_BYTES
  if (!set(SOL_SOCKET, SO_RCVBUFFORCE, size)) set(SOL_SOCKET, SO_RCVBUF, size)
  if (!set(SOL_SOCKET, SO_SNDBUFFORCE, size)) set(SOL_SOCKET, SO_SNDBUF, size)
  // Older kernels than 5.0 deliver datagrams one by one.
  set(SOL_UDP, UDP_GRO, 1)
  // Of IPv4 also on a dual-stack socket.
  const probes4 = set(IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
  const probes6 = !v6 || set(IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
  const address = socketAddress(host, v6)
  setPort(address, options.port)
  if (calls.bind(fd, address, address.length) === 0) return { fd, probes: probes4 && probes6 }
  const error = refused(calls, options, "bind")
  calls.close(fd)
  return error
}

const open =
  (calls: Calls) =>
  (options: BindOptions): Effect.Effect<DgramSocket.DgramSocket, UdpSocketError> =>
    Effect.suspend(() => {
      const host = parseHost(options.host)
      // With a zone, which dgram understands.
      if (host === undefined) return DgramSocket.open(options)
      const made = makeUnsafe(calls, options, host, isIP(options.host) === 6)
      if (made instanceof UdpSocketError) return Effect.fail(made)
      const { fd, probes } = made
      const adopted = DgramSocket.adopt(options, fd, (socket, v6) => {
        // libuv shares the port with whoever asks for it when it adopts a socket.
        option(calls, fd, SOL_SOCKET, SO_REUSEADDR, 0)
        return new LinuxSocket(calls, fd, socket, v6, probes, options.via)
      })
      return Effect.tapError(adopted, () => Effect.sync(() => calls.close(fd)))
    })

/** UDP sockets of this host by the koffi given, or plain ones where that does not do. */
export const layerOf = (load: () => Koffi.Koffi | undefined): Layer.Layer<UdpSocket> =>
  Layer.unwrap(
    Effect.sync(() => {
      const calls = attempt(load())
      if (calls === undefined) return UdpSocketNode.layer
      return Layer.succeed(UdpSocket, {
        implementation: "linux GSO/GRO",
        addresses,
        bind: DgramSocket.binding(open(calls))
      })
    })
  )

/** Whether this host has what the accelerated sockets need. */
export const available = (): boolean => attempt(Koffi.load()) !== undefined

/** UDP sockets of this host, the fastest there are. */
export const layer: Layer.Layer<UdpSocket> = layerOf(Koffi.load)
