/**
 * A bound node:dgram socket as both real layers of UdpSocket use it: binding and its errors, receiving, and sending
 * through libuv. Plain calls inside, Effects around batches.
 *
 * Receiving: libuv reads up to 32 datagrams per turn of the event loop; they are collected and handed out together in
 * the turn's check phase. Sending: libuv tries the system call at once and queues what the kernel does not take
 * (EAGAIN) without a copy, so `send` then waits until the queue is empty. Errors of single datagrams are losses.
 *
 * Sockets on `::` are dual-stack. IPv4 addresses stay plain (`192.0.2.1`) at the rim and are mapped (RFC 4291 section
 * 2.5.5.2) inside. Zones of link-local IPv6 sources are cut off: such hosts cannot be answered.
 */
import { createSocket, type BindOptions as DgramBindOptions, type RemoteInfo, type Socket } from "node:dgram"
import { isIP } from "node:net"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type Address, format, isPort } from "../domain/protocol/Address.ts"
import { parseHost } from "../domain/protocol/AddressCodec.ts"
import { type BindOptions, type BoundSocket, type Burst, UdpSocketError } from "../services/UdpSocket.ts"
import { segmentOf } from "./Bursts.ts"
import { ReceiveQueue } from "./ReceiveQueue.ts"

/** Bytes asked for in each direction; the system gives what it allows. */
export const KERNEL_BUFFER_BYTES = 4 * 1024 * 1024

const MAPPED = "::ffff:"

const plainHost = (host: string): string => {
  if (host.startsWith(MAPPED) && host.includes(".")) return host.slice(MAPPED.length)
  const zone = host.indexOf("%")
  return zone < 0 ? host : host.slice(0, zone)
}

/**
 * 4, 6, or 0 for what is no numeric address. Asked of `isIP` only where a zone may be in it: the first uses of its
 * expressions cost a process a third of a millisecond.
 */
const familyOf = (host: string): 0 | 4 | 6 => {
  if (parseHost(host) !== undefined) return host.includes(":") ? 6 : 4
  const family = host.includes("%") ? isIP(host) : 0
  return family === 6 ? 6 : 0
}

/** Every name is refused by `familyOf` before dgram sees it, so this answers at once and nothing is ever resolved. */
const numericLookup = (
  host: string,
  _options: unknown,
  done: (error: NodeJS.ErrnoException | null, address: string, family: number) => void
): void => done(null, host, familyOf(host))

/** Linux reports twice what it grants, for its own bookkeeping (socket(7)). */
const receiveBufferOf = (socket: Socket): number | undefined => {
  try {
    return socket.getRecvBufferSize() / (process.platform === "linux" ? 2 : 1)
  } catch {
    return undefined
  }
}

export class DgramSocket {
  readonly address: Address
  readonly queue: ReceiveQueue
  readonly receiveBuffer: number | undefined
  protected closed = false
  readonly #socket: Socket
  readonly #v6: boolean
  readonly #via: number | undefined
  #wakeScheduled = false
  // Neighbouring datagrams mostly share their other end: keeping the last one saves an object and a parse for each.
  #lastSource: Address = { host: "", port: 0 }
  #lastSourceText = ""
  #lastTarget = ""
  #lastTargetText: string | undefined
  /** Those whose buffers libuv still needs. */
  readonly #waiting: Array<() => void> = []

  constructor(socket: Socket, v6: boolean, via: number | undefined) {
    const { address, port } = socket.address()
    this.address = { host: plainHost(address), port }
    this.queue = new ReceiveQueue(format(this.address))
    this.#socket = socket
    this.receiveBuffer = receiveBufferOf(socket)
    this.#v6 = v6
    this.#via = via
    socket.on("message", (bytes, source) => this.#onMessage(bytes, source))
    // Errors of receive calls (ICMP on some systems) concern single datagrams.
    socket.on("error", () => {})
  }

  /** See `BoundSocket.probes`. */
  get probes(): boolean {
    return false
  }

  /** Whether datagrams wait at libuv. */
  protected get queued(): boolean {
    return this.#socket.getSendQueueSize() > 0
  }

  closeUnsafe(): void {
    this.closed = true
    this.#socket.close()
    this.queue.closeUnsafe()
    this.#release()
  }

  /** Sends a batch; completes when its buffers are free again. */
  send(batch: ReadonlyArray<Burst>): Effect.Effect<void> {
    return this.#sendUnsafe(batch)
      ? Effect.void
      : Effect.uninterruptible(Effect.callback((resume) => void this.#waiting.push(() => resume(Effect.void))))
  }

  /** What has arrived at the socket in one piece. */
  protected arrived(bytes: Uint8Array, remote: Address): void {
    this.deliver(bytes, remote)
  }

  /** Queues a datagram for the reader, who wakes in this turn's check phase. */
  protected deliver(bytes: Uint8Array, remote: Address): void {
    if (!this.queue.pushUnsafe({ bytes, remote }) || this.#wakeScheduled) return
    this.#wakeScheduled = true
    setImmediate(this.#wake)
  }

  /** Gives libuv one datagram; the buffer is its until it calls `sent`, or has no queue. */
  protected hand(bytes: Uint8Array, remote: Address, sent?: () => void): void {
    const target = this.#target(remote)
    if (target !== undefined && !this.closed) this.#socket.send(bytes, remote.port, target, sent)
  }

  /** Whether all of it has left: what has not stands in libuv's queue, whose last entry calls back. */
  #sendUnsafe(batch: ReadonlyArray<Burst>): boolean {
    if (this.closed) return true
    let last = batch.length - 1
    while (last >= 0 && this.#target((batch[last] as Burst).remote) === undefined) last--
    for (let i = 0; i <= last; i++) {
      const burst = batch[i] as Burst
      const { bytes, remote } = burst
      const segment = segmentOf(burst)
      if (bytes.length <= segment) {
        this.hand(bytes, remote, i === last ? this.#onSent : undefined)
        continue
      }
      for (let at = 0; at < bytes.length; at += segment) {
        const isLast = i === last && at + segment >= bytes.length
        this.hand(bytes.subarray(at, at + segment), remote, isLast ? this.#onSent : undefined)
      }
    }
    return this.#socket.getSendQueueSize() === 0
  }

  #onMessage(bytes: Buffer, source: RemoteInfo): void {
    if (source.port === 0) return
    if (source.address !== this.#lastSourceText || source.port !== this.#lastSource.port) {
      this.#lastSourceText = source.address
      const address = { host: plainHost(source.address), port: source.port }
      this.#lastSource = this.#via === undefined ? address : { ...address, via: this.#via }
    }
    // Not the Buffer itself: its `slice` would not copy, unlike that of the Uint8Array the contract promises.
    this.arrived(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length), this.#lastSource)
  }

  readonly #wake = (): void => {
    this.#wakeScheduled = false
    this.queue.wakeUnsafe()
  }

  readonly #onSent = (): void => {
    if (this.#waiting.length > 0 && (this.closed || this.#socket.getSendQueueSize() === 0)) this.#release()
  }

  #release(): void {
    for (const resume of this.#waiting.splice(0)) resume()
  }

  /** The host as dgram wants it, or `undefined` for what is no numeric address or no port. */
  #target({ host, port }: Address): string | undefined {
    if (!isPort(port)) return undefined
    if (host === this.#lastTarget) return this.#lastTargetText
    const family = familyOf(host)
    this.#lastTarget = host
    this.#lastTargetText = family === 0 ? undefined : family === 4 && this.#v6 ? MAPPED + host : host
    return this.#lastTargetText
  }
}

const reasons: Readonly<Record<string, UdpSocketError["reason"]>> = {
  EADDRINUSE: "Busy",
  EACCES: "Denied",
  EPERM: "Denied",
  EADDRNOTAVAIL: "Unavailable",
  EAFNOSUPPORT: "Unavailable",
  EINVAL: "Unavailable"
}

const words: Readonly<Record<UdpSocketError["reason"], string>> = {
  Busy: "the port is in use",
  Denied: "not allowed",
  Unavailable: "not an address of this host",
  Closed: "closed",
  Other: "the system refused"
}

/** The system's refusal to bind, in the contract's terms. */
export const bindError = (options: BindOptions, cause: NodeJS.ErrnoException): UdpSocketError => {
  const reason = reasons[cause.code ?? ""] ?? "Other"
  const code = cause.code === undefined ? "" : ` (${cause.code})`
  return new UdpSocketError({
    reason,
    message: `cannot bind UDP ${format(options)}: ${words[reason]}${code}`,
    cause
  })
}

const refusal = (options: BindOptions): UdpSocketError | undefined => {
  const refuse = (reason: UdpSocketError["reason"], why: string) =>
    new UdpSocketError({ reason, message: `cannot bind UDP ${format(options)}: ${why}` })
  if (familyOf(options.host) === 0) return refuse("Unavailable", "not a numeric IP address")
  // libuv would cut it to 16 bits.
  return options.port === 0 || isPort(options.port) ? undefined : refuse("Other", "not a port")
}

const listen = <S extends DgramSocket>(
  options: BindOptions,
  how: DgramBindOptions,
  make: (socket: Socket, v6: boolean) => S
): Effect.Effect<S, UdpSocketError> =>
  Effect.callback((resume) => {
    const v6 = familyOf(options.host) === 6
    const socket = createSocket({ type: v6 ? "udp6" : "udp4", reuseAddr: false, lookup: numericLookup })
    const fail = (cause: Error) => {
      socket.close()
      resume(Effect.fail(bindError(options, cause)))
    }
    socket.once("error", fail)
    socket.once("listening", () => {
      socket.off("error", fail)
      resume(Effect.succeed(make(socket, v6)))
    })
    try {
      socket.bind({ ...how, exclusive: true })
    } catch (cause) {
      fail(cause instanceof Error ? cause : new Error(String(cause)))
    }
  })

/** A socket that libuv makes, as `make` wraps it. */
export const openAs = <S extends DgramSocket>(
  options: BindOptions,
  make: (socket: Socket, v6: boolean) => S
): Effect.Effect<S, UdpSocketError> =>
  listen(options, { address: options.host, port: options.port }, (socket, v6) => {
    try {
      socket.setRecvBufferSize(KERNEL_BUFFER_BYTES)
      socket.setSendBufferSize(KERNEL_BUFFER_BYTES)
    } catch {
      // The system's own sizes will do.
    }
    return make(socket, v6)
  })

/** A socket that libuv makes. */
export const open = (options: BindOptions): Effect.Effect<DgramSocket, UdpSocketError> =>
  openAs(options, (socket, v6) => new DgramSocket(socket, v6, options.via))

/** A socket on a descriptor that is bound already; closing it is the socket's affair once this succeeds. */
export const adopt = <S extends DgramSocket>(
  options: BindOptions,
  fd: number,
  make: (socket: Socket, v6: boolean) => S
): Effect.Effect<S, UdpSocketError> => listen(options, { fd }, make)

/** The service's `bind`, given a way to open what passes its checks. */
export const binding = (
  opening: (options: BindOptions) => Effect.Effect<DgramSocket, UdpSocketError>
): ((options: BindOptions) => Effect.Effect<BoundSocket, UdpSocketError, Scope.Scope>) =>
  Effect.fn("UdpSocket.bind")(function* (options: BindOptions) {
    const checked = Effect.suspend(() => {
      const refused = refusal(options)
      return refused === undefined ? opening(options) : Effect.fail(refused)
    })
    const opened = yield* Effect.acquireRelease(checked, (done) => Effect.sync(() => done.closeUnsafe()))
    const socket: BoundSocket = {
      address: opened.address,
      receive: opened.queue.receive,
      send: (batch) => Effect.suspend(() => opened.send(batch)),
      get probes() {
        return opened.probes
      },
      receiveBuffer: opened.receiveBuffer
    }
    return socket
  })
