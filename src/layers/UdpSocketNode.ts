/**
 * UDP on node:dgram. One `Endpoint` per socket does the work in plain calls; Effects stand around batches.
 *
 * Receiving: libuv reads up to 32 datagrams per turn of the event loop; they are collected and handed out together in
 * the turn's check phase. Sending: libuv tries the system call at once and queues without bound what the kernel does not
 * take (EAGAIN), so the queue is watched and `send` waits while it is long. Errors of single datagrams are losses.
 *
 * Sockets on `::` are dual-stack. IPv4 addresses stay plain (`192.0.2.1`) at the rim and are mapped (RFC 4291 section
 * 2.5.5.2) inside. Zones of link-local IPv6 sources are cut off: such hosts cannot be answered.
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram"
import { isIP } from "node:net"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { type Address, format } from "../domain/protocol/Address.ts"
import { type BindOptions, type BoundSocket, type Datagram, UdpSocket, UdpSocketError } from "../services/UdpSocket.ts"
import { ReceiveQueue } from "./ReceiveQueue.ts"

/** Bytes asked for in each direction; the system gives what it allows. */
const KERNEL_BUFFER_BYTES = 4 * 1024 * 1024
/** Bytes that may wait in libuv's queue before `send` waits. */
const SEND_QUEUE_MARK_BYTES = 512 * 1024

const MAPPED = "::ffff:"

const plainHost = (host: string): string => {
  if (host.startsWith(MAPPED) && host.includes(".")) return host.slice(MAPPED.length)
  const zone = host.indexOf("%")
  return zone < 0 ? host : host.slice(0, zone)
}

/** Every name is refused by `isIP` before dgram sees it, so this answers at once and nothing is ever resolved. */
const numericLookup = (
  host: string,
  _options: unknown,
  done: (error: NodeJS.ErrnoException | null, address: string, family: number) => void
): void => done(null, host, isIP(host))

class Endpoint {
  readonly address: Address
  readonly queue: ReceiveQueue
  readonly #socket: Socket
  readonly #v6: boolean
  #closed = false
  #wakeScheduled = false
  // Neighbouring datagrams mostly share their other end: keeping the last one saves an object and a parse for each.
  #lastSource: Address = { host: "", port: 0 }
  #lastSourceText = ""
  #lastTarget = ""
  #lastTargetText: string | undefined
  readonly #waiting: Array<() => void> = []

  constructor(socket: Socket, v6: boolean) {
    const { address, port } = socket.address()
    this.address = { host: plainHost(address), port }
    this.queue = new ReceiveQueue(format(this.address))
    this.#socket = socket
    this.#v6 = v6
    socket.on("message", (bytes, source) => this.#onMessage(bytes, source))
    // Errors of receive calls (ICMP on some systems) concern single datagrams.
    socket.on("error", () => {})
  }

  closeUnsafe(): void {
    this.#closed = true
    this.#socket.close()
    this.queue.closeUnsafe()
    this.#release()
  }

  #onMessage(bytes: Buffer, source: RemoteInfo): void {
    if (source.port === 0) return
    if (source.address !== this.#lastSourceText || source.port !== this.#lastSource.port) {
      this.#lastSourceText = source.address
      this.#lastSource = { host: plainHost(source.address), port: source.port }
    }
    // Not the Buffer itself: its `slice` would not copy, unlike that of the Uint8Array the contract promises.
    const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    if (!this.queue.pushUnsafe({ bytes: plain, remote: this.#lastSource })) return
    if (this.#wakeScheduled) return
    this.#wakeScheduled = true
    setImmediate(this.#wake)
  }

  readonly #wake = (): void => {
    this.#wakeScheduled = false
    this.queue.wakeUnsafe()
  }

  /** Sends the batch from `start` on; answers where it stopped because the queue is long, or the batch's length. */
  sendUnsafe(batch: ReadonlyArray<Datagram>, start: number): number {
    for (let i = start; i < batch.length; i++) {
      if (this.#closed) return batch.length
      const { bytes, remote } = batch[i] as Datagram
      const target = this.#target(remote.host)
      if (target === undefined || !(remote.port > 0 && remote.port <= 0xffff)) continue
      // A callback costs a tick, so only a datagram that joins a queue has one: the last in it tells that it is empty.
      const queued = this.#socket.getSendQueueSize()
      if (queued >= SEND_QUEUE_MARK_BYTES) return i
      try {
        if (queued === 0) this.#socket.send(bytes, remote.port, target)
        else this.#socket.send(bytes, remote.port, target, this.#onSent)
      } catch {
        // Lost, as on any network.
      }
    }
    return batch.length
  }

  /** Sends the rest of the batch as the queue empties. */
  sendRest(batch: ReadonlyArray<Datagram>, start: number): Effect.Effect<void> {
    return Effect.callback((resume) => {
      let at = start
      const go = () => {
        at = this.sendUnsafe(batch, at)
        if (at < batch.length) this.#waiting.push(go)
        else resume(Effect.void)
      }
      go()
      return Effect.sync(() => {
        const index = this.#waiting.indexOf(go)
        if (index >= 0) this.#waiting.splice(index, 1)
      })
    })
  }

  readonly #onSent = (): void => {
    if (this.#waiting.length > 0 && this.#socket.getSendQueueSize() < SEND_QUEUE_MARK_BYTES / 2) this.#release()
  }

  #release(): void {
    for (const go of this.#waiting.splice(0)) go()
  }

  /** The text that dgram wants, or `undefined` for what is no numeric address. */
  #target(host: string): string | undefined {
    if (host === this.#lastTarget) return this.#lastTargetText
    const family = isIP(host)
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

const bindError = (options: BindOptions, cause: NodeJS.ErrnoException): UdpSocketError => {
  const reason = reasons[cause.code ?? ""] ?? "Other"
  const code = cause.code === undefined ? "" : ` (${cause.code})`
  return new UdpSocketError({
    reason,
    message: `cannot bind UDP ${format(options)}: ${words[reason]}${code}`,
    cause
  })
}

const tuneUnsafe = (socket: Socket): void => {
  try {
    socket.setRecvBufferSize(KERNEL_BUFFER_BYTES)
    socket.setSendBufferSize(KERNEL_BUFFER_BYTES)
  } catch {
    // The system's own sizes will do.
  }
}

const open = (options: BindOptions): Effect.Effect<Endpoint, UdpSocketError> =>
  Effect.callback((resume) => {
    const family = isIP(options.host)
    const refuse = (reason: UdpSocketError["reason"], why: string) =>
      resume(Effect.fail(new UdpSocketError({ reason, message: `cannot bind UDP ${format(options)}: ${why}` })))
    if (family === 0) return refuse("Unavailable", "not a numeric IP address")
    // libuv would cut it to 16 bits.
    if (!(Number.isInteger(options.port) && options.port >= 0 && options.port <= 0xffff)) {
      return refuse("Other", "not a port")
    }
    const socket = createSocket({ type: family === 6 ? "udp6" : "udp4", reuseAddr: false, lookup: numericLookup })
    const fail = (cause: Error) => {
      socket.close()
      resume(Effect.fail(bindError(options, cause)))
    }
    socket.once("error", fail)
    socket.once("listening", () => {
      socket.off("error", fail)
      tuneUnsafe(socket)
      resume(Effect.succeed(new Endpoint(socket, family === 6)))
    })
    try {
      socket.bind({ address: options.host, port: options.port, exclusive: true })
    } catch (cause) {
      fail(cause instanceof Error ? cause : new Error(String(cause)))
    }
  })

const bind = Effect.fn("UdpSocket.bind")(function* (options: BindOptions) {
  const endpoint = yield* Effect.acquireRelease(open(options), (opened) => Effect.sync(() => opened.closeUnsafe()))
  const socket: BoundSocket = {
    address: endpoint.address,
    receive: endpoint.queue.receive,
    send: (batch) =>
      Effect.suspend(() => {
        const sent = endpoint.sendUnsafe(batch, 0)
        return sent === batch.length ? Effect.void : endpoint.sendRest(batch, sent)
      })
  }
  return socket
})

/** UDP sockets of this host. */
export const layer: Layer.Layer<UdpSocket> = Layer.succeed(UdpSocket, { bind })
