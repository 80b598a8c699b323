/**
 * The C library's sockets on Linux, by way of koffi: what is done to a descriptor before and beside node:dgram. See udp(7),
 * ip(7) and socket(7).
 */
import { readdirSync } from "node:fs"
import { arch, platform } from "node:process"
import type { Address } from "../domain/protocol/Address.ts"
import { parseHost } from "../domain/protocol/AddressCodec.ts"
import type { BindOptions, UdpSocketError } from "../services/UdpSocket.ts"
import * as DgramSocket from "./DgramSocket.ts"
import type * as Koffi from "./Koffi.ts"

// Numbers of the Linux ABI on x86-64 and arm64 (include/uapi/linux/{socket,in,in6,udp}.h, asm-generic/socket.h).
const AF_INET = 2
const AF_INET6 = 10
const SOCK_DGRAM = 2
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_REUSEADDR = 2
const SO_TYPE = 3
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

/** The C library's calls that are used, with what they answer; -1 is an error, told by `errno`. */
export interface Calls {
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
  readonly getsockname: (fd: number, address: Uint8Array, length: Uint32Array) => number
  readonly getsockopt: (fd: number, level: number, name: number, value: Int32Array, length: Uint32Array) => number
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
    getsockname: library.func("int getsockname(int fd, void *address, void *length)"),
    getsockopt: library.func("int getsockopt(int fd, int level, int name, void *value, void *length)"),
    close: library.func("int close(int fd)"),
    errno: () => koffi.errno(),
    errors: koffi.os.errno
  }
}

const option = (calls: Calls, fd: number, level: number, name: number, value: number): boolean =>
  calls.setsockopt(fd, level, name, Int32Array.of(value), 4) === 0

/** Whether this system may have what is needed; says nothing about koffi. */
export const supported = platform === "linux" && ARCHITECTURES.includes(arch)

/** The calls, if this system has them and its kernel segments (4.18 and later). */
export const attempt = (koffi: Koffi.Koffi | undefined): Calls | undefined => {
  if (koffi === undefined || !supported) return undefined
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

/** Has sends of more bytes than this parted into datagrams of so many. Cannot fail for what `attempt` has tried. */
export const setSegment = (calls: Calls, fd: number, value: Int32Array): void => {
  calls.setsockopt(fd, SOL_UDP, UDP_SEGMENT, value, 4)
}

/** Of a socket that libuv adopted: it shares its port with whoever asks for it. */
export const unshare = (calls: Calls, fd: number): void => {
  option(calls, fd, SOL_SOCKET, SO_REUSEADDR, 0)
}

/** A `sockaddr_in` or `sockaddr_in6`; the port is filled in for each use. */
export const socketAddress = (host: Uint8Array, v6: boolean): Uint8Array => {
  const address = new Uint8Array(v6 ? 28 : 16)
  new Uint16Array(address.buffer, 0, 1)[0] = v6 ? AF_INET6 : AF_INET
  if (!v6) address.set(host, 4)
  else if (host.length === 16) address.set(host, 8)
  // IPv4 mapped (RFC 4291 section 2.5.5.2).
  else address.set([0xff, 0xff, ...host], 18)
  return address
}

export const setPort = (address: Uint8Array, port: number): void => {
  address[2] = port >> 8
  address[3] = port & 0xff
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

/** Buffers, coalesced receives, and "don't fragment": whether the last is set. */
export const configure = (calls: Calls, fd: number, v6: boolean): boolean => {
  const set = (level: number, name: number, value: number): boolean => option(calls, fd, level, name, value)
  // Beyond the system's limit where this process may.
  const size = DgramSocket.KERNEL_BUFFER_BYTES
  if (!set(SOL_SOCKET, SO_RCVBUFFORCE, size)) set(SOL_SOCKET, SO_RCVBUF, size)
  if (!set(SOL_SOCKET, SO_SNDBUFFORCE, size)) set(SOL_SOCKET, SO_SNDBUF, size)
  // Older kernels than 5.0 deliver datagrams one by one.
  set(SOL_UDP, UDP_GRO, 1)
  // Of IPv4 also on a dual-stack socket.
  const probes4 = set(IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
  return (!v6 || set(IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)) && probes4
}

/** A descriptor that is bound to the address, or why there is none; whether it sets "don't fragment". */
export const makeUnsafe = (
  calls: Calls,
  options: BindOptions,
  host: Uint8Array,
  v6: boolean
): { readonly fd: number; readonly probes: boolean } | UdpSocketError => {
  const fd = calls.socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)
  if (fd < 0) return refused(calls, options, "socket")
  if (v6) option(calls, fd, IPPROTO_IPV6, IPV6_V6ONLY, 0)
  const probes = configure(calls, fd, v6)
  const address = socketAddress(host, v6)
  setPort(address, options.port)
  if (calls.bind(fd, address, address.length) === 0) return { fd, probes }
  const error = refused(calls, options, "bind")
  calls.close(fd)
  return error
}

/** Bytes of the longest socket address: `sockaddr_in6`. */
const MAX_ADDRESS = 28
/** Bytes of a socket address that name it: family, port and address; what follows is padding or a scope. */
const NAMED_V4 = 8
const NAMED_V6 = 24

/**
 * The descriptor of a datagram socket of this process by the address it is bound to; `undefined` when it is not found. A
 * socket that does not share its port is the only one with its address.
 */
export const find = (calls: Calls, { host, port }: Address, v6: boolean): number | undefined => {
  const parsed = parseHost(host)
  if (parsed === undefined) return undefined
  const wanted = socketAddress(parsed, v6)
  setPort(wanted, port)
  const named = wanted.subarray(0, v6 ? NAMED_V6 : NAMED_V4)
  const found = new Uint8Array(MAX_ADDRESS)
  const type = new Int32Array(1)
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name)
    const isDatagrams =
      calls.getsockopt(fd, SOL_SOCKET, SO_TYPE, type, Uint32Array.of(4)) === 0 && type[0] === SOCK_DGRAM
    if (!isDatagrams || calls.getsockname(fd, found, Uint32Array.of(MAX_ADDRESS)) !== 0) continue
    if (named.every((byte, i) => byte === found[i])) return fd
  }
  return undefined
}
