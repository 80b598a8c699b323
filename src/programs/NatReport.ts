/** Behaviour discovery (RFC 5780) on a socket of its own: what the way from this host to the internet does to datagrams. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Address } from "../domain/protocol/Address.ts"
import type { Parcel } from "../domain/protocol/Carrier.ts"
import { NatBehaviour, type NatReport } from "../domain/protocol/NatBehaviour.ts"
import { Crypto } from "../services/Crypto.ts"
import { type BoundSocket, UdpSocket } from "../services/UdpSocket.ts"

/** A machine with one socket to itself. */
export interface SocketMachine {
  readonly done: boolean
  readonly handleDatagram: (now: number, remote: Address, bytes: Uint8Array) => unknown
  readonly handleTimeout: (now: number) => void
  readonly pollTransmit: (now: number) => Parcel | undefined
  readonly pollTimeout: () => number
}

/** Runs a machine on a socket until it is done. */
export const drive = Effect.fnUntraced(function* (socket: BoundSocket, machine: SocketMachine) {
  while (!machine.done) {
    const before = yield* Clock.currentTimeMillis
    const batch: Array<Parcel> = []
    for (let one = machine.pollTransmit(before); one !== undefined; one = machine.pollTransmit(before)) batch.push(one)
    if (batch.length > 0) yield* socket.send(batch)
    const pauseMs = machine.pollTimeout() - (yield* Clock.currentTimeMillis)
    const arrived = Number.isFinite(pauseMs)
      ? yield* Effect.timeoutOption(socket.receive, Duration.millis(Math.max(0, Math.ceil(pauseMs))))
      : Option.some(yield* socket.receive)
    const now = yield* Clock.currentTimeMillis
    if (Option.isNone(arrived)) machine.handleTimeout(now)
    else for (const { bytes, remote } of arrived.value) machine.handleDatagram(now, remote, bytes)
  }
})

export interface Options {
  /** Numeric, all of one family: STUN servers, best first. */
  readonly servers: ReadonlyArray<Address>
  /** The socket's address and port; all addresses of the servers' family and any port by default. */
  readonly host?: string
  readonly port?: number
}

export interface Discovery {
  readonly local: Address
  readonly report: NatReport
}

/** Asks the servers; takes about 5 s, 10 s where servers are silent. Fails only where there is no socket. */
export const discover = Effect.fn("NatReport.discover")(function* (options: Options) {
  const { addresses, bind } = yield* UdpSocket
  const { entropy } = yield* Crypto
  const isV6 = options.servers[0]?.host.includes(":") === true
  const socket = yield* bind({ host: options.host ?? (isV6 ? "::" : "0.0.0.0"), port: options.port ?? 0 })
  const { port } = socket.address
  const { servers } = options
  const localHosts = [...(yield* addresses), "127.0.0.1", "::1"]
  const now = yield* Clock.currentTimeMillis
  const machine = new NatBehaviour(now, { entropy, servers, localHosts, localPort: port, probes: socket.probes })
  yield* drive(socket, machine)
  const discovery: Discovery = { local: socket.address, report: machine.report }
  return discovery
}, Effect.scoped)
