/** A STUN server with two addresses and two ports (RFC 5780), for tests, on two hosts of the simulated network. */
import * as Effect from "effect/Effect"
import type { Address } from "../../src/domain/protocol/Address.ts"
import * as Stun from "../../src/domain/protocol/StunMessage.ts"
import type { Host, Network } from "../../src/layers/SimulatedNetwork.ts"
import { type BoundSocket, UdpSocket } from "../../src/services/UdpSocket.ts"

export interface ResponderOptions {
  readonly hosts?: readonly [string, string]
  readonly ports?: readonly [number, number]
  readonly link?: { readonly delayMs: number; readonly loss?: number }
  /** Without it: a plain STUN server (RFC 8489) that has no second address and refuses CHANGE-REQUEST with 420. */
  readonly discovery?: boolean
  /** Without it RESPONSE-PORT is passed over. */
  readonly responsePort?: boolean
  /** Answers as it likes: for hostile and broken servers. */
  readonly answer?: (request: Stun.Message, from: Address) => Uint8Array | undefined
}

export interface Responder {
  readonly address: Address
  readonly other: Address
  readonly hosts: readonly [Host, Host]
  /** Requests that came, in all. */
  readonly requests: () => number
}

export const responder = Effect.fnUntraced(function* (network: Network, options: ResponderOptions = {}) {
  const {
    discovery = true,
    hosts = ["192.0.2.10", "192.0.2.11"],
    link = { delayMs: 10 },
    ports = [3478, 3479]
  } = options
  const [first, second] = hosts.map((address) => network.host({ address, link })) as [Host, Host]
  const machines = [first, second] as const
  const sockets: Array<ReadonlyArray<BoundSocket>> = []
  for (const [i, host] of hosts.entries()) {
    const bind = (port: number) =>
      Effect.provide(
        UdpSocket.use((udp) => udp.bind({ host, port })),
        (machines[i] as Host).layer
      )
    sockets.push(yield* Effect.forEach(ports, bind))
  }
  let requests = 0
  const addressOf = (h: number, p: number): Address => ({ host: hosts[h] as string, port: ports[p] as number })
  const reply = (request: Stun.Message, h: number, p: number, from: Address) => {
    const change = Stun.changeRequest(request)
    const isRefused = (!discovery && change !== undefined) || (!discovery && Stun.has(request, Stun.Attribute.padding))
    const sourceH = change?.ip === true ? 1 - h : h
    const sourceP = change?.port === true ? 1 - p : p
    if (isRefused) {
      const bytes = new Stun.StunWriter("error", request.method, request.transactionId)
        .errorCode(420, "Unknown Attribute")
        .unknownAttributes([Stun.Attribute.changeRequest])
        .finish()
      return { socket: sockets[h]?.[p], bytes }
    }
    const writer = new Stun.StunWriter("success", request.method, request.transactionId)
      .xorAddress(Stun.Attribute.xorMappedAddress, from)
      .address(Stun.Attribute.responseOrigin, addressOf(sourceH, sourceP))
    if (discovery) writer.address(Stun.Attribute.otherAddress, addressOf(1 - h, 1 - p))
    return { socket: sockets[sourceH]?.[sourceP], bytes: writer.fingerprint().finish() }
  }
  for (const h of [0, 1]) {
    for (const p of [0, 1]) {
      const socket = sockets[h]?.[p] as BoundSocket
      const step = Effect.gen(function* () {
        for (const { bytes, remote } of yield* socket.receive) {
          const request = Stun.decode(bytes)
          if (request?.class !== "request") continue
          requests++
          if (options.answer !== undefined) {
            const bytes = options.answer(request, remote)
            if (bytes !== undefined) yield* socket.send([{ bytes, remote }])
            continue
          }
          const port = options.responsePort === false ? undefined : responsePort(request)
          const { bytes: answer, socket: out } = reply(request, h, p, remote)
          yield* out?.send([{ bytes: answer, remote: port === undefined ? remote : { ...remote, port } }]) ??
            Effect.void
        }
      })
      yield* Effect.forkScoped(Effect.forever(step))
    }
  }
  const found: Responder = {
    address: addressOf(0, 0),
    other: addressOf(1, 1),
    hosts: machines,
    requests: () => requests
  }
  return found
})

/** RESPONSE-PORT (RFC 5780 section 7.5): the answer goes there instead. */
const responsePort = (request: Stun.Message): number | undefined => {
  const value = Stun.value(request, Stun.Attribute.responsePort)
  return value?.length === 4 ? ((value[0] as number) << 8) | (value[1] as number) : undefined
}
