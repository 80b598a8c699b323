/**
 * The rendezvous tier: a relay that forwards sealed datagrams between a server and its devices and answers nobody else. It
 * knows addresses, lengths and times, and no content, name or credential.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Status } from "../domain/ControlRpc.ts"
import type * as HomePaths from "../domain/HomePaths.ts"
import { type Address, format } from "../domain/protocol/Address.ts"
import { text, utf8 } from "../domain/protocol/Cursor.ts"
import type { Rate } from "../domain/protocol/RendezvousBudget.ts"
import { RendezvousRelay } from "../domain/protocol/RendezvousRelay.ts"
import { Crypto } from "../services/Crypto.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import { type BoundSocket, UdpSocket, type UdpSocketError } from "../services/UdpSocket.ts"
import * as Identity from "./Identity.ts"

/** Ports that are drawn from (RFC 6335: dynamic), and how often one is drawn when it is taken. */
const PORT_FIRST = 49_152
const PORT_COUNT = 16_384
const PORT_TRIES = 32

export interface Options {
  readonly paths: HomePaths.RendezvousPaths
  readonly version: string
  readonly pid: number
  /** Port 0 takes that of the last run, else draws one. */
  readonly bind: Address
  /** What one credential may have forwarded, and all together; by default what the protocol's constants say. */
  readonly slotRate?: Rate
  readonly allRate?: Rate
}

export interface Rendezvous {
  readonly address: Address
  /** What servers and relay share, 32 bytes. */
  readonly key: Uint8Array
  readonly status: Effect.Effect<Status>
  /** Forwards until the socket is gone. */
  readonly run: Effect.Effect<never, UdpSocketError>
}

/** The relay's key at `path`, made when missing. */
export const loadOrCreateKey = Identity.loadOrCreateSeed

/** The port of the last run, if there was one. */
export const lastPort = Effect.fn("Rendezvous.lastPort")(function* (paths: HomePaths.RendezvousPaths) {
  const store = yield* SecureFileStore
  const bytes = yield* store.read(paths.lastPort, { maxBytes: 16 })
  const port = Number(text(Option.getOrElse(bytes, () => new Uint8Array(0))))
  return Number.isInteger(port) && port > 0 && port < 65_536 ? Option.some(port) : Option.none<number>()
})

/** A port that is known outside is never exchanged for another by itself: only the first one is drawn. */
const bindSomewhere = Effect.fnUntraced(function* ({ host, port }: Address, paths: HomePaths.RendezvousPaths) {
  const { bind } = yield* UdpSocket
  const { entropy } = yield* Crypto
  const store = yield* SecureFileStore
  const known = yield* lastPort(paths)
  const draw = Effect.suspend(() => {
    const [high = 0, low = 0] = entropy(2)
    return bind({ host, port: PORT_FIRST + (((high << 8) | low) % PORT_COUNT) })
  })
  const drawn = Effect.retry(draw, { times: PORT_TRIES, while: ({ reason }) => reason === "Busy" })
  const socket = yield* port !== 0
    ? bind({ host, port })
    : Option.isSome(known)
      ? bind({ host, port: known.value })
      : drawn
  const bound = socket.address.port
  if (Option.getOrUndefined(known) !== bound) yield* store.write(paths.lastPort, utf8(`${bound}\n`))
  return socket
})

/** Receives, forwards, and waits until there is room for more, for ever. */
const forward = (
  socket: BoundSocket,
  clock: Clock.Clock,
  relay: RendezvousRelay
): Effect.Effect<never, UdpSocketError> => {
  const step: Effect.Effect<never, UdpSocketError> = Effect.suspend(() =>
    Effect.flatMap(socket.receive, (batch) => {
      const now = steady(clock)
      relay.setWall(now, clock.currentTimeMillisUnsafe())
      const out = relay.handleDatagrams(now, batch)
      return out.length === 0 ? step : Effect.andThen(socket.send(out), step)
    })
  )
  return step
}

/** Milliseconds on a steady clock. */
const steady = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Starts the relay in the scope: key, socket. `run` then serves. */
export const make = Effect.fn("Rendezvous.make")(function* (options: Options) {
  const { paths } = options
  const { entropy, primitives } = yield* Crypto
  const clock = yield* Clock.Clock
  const startedAt = yield* Clock.currentTimeMillis
  const key = yield* loadOrCreateKey(paths.key)
  const socket = yield* bindSomewhere(options.bind, paths)
  const relay = new RendezvousRelay(steady(clock), clock.currentTimeMillisUnsafe(), {
    primitives,
    entropy,
    relayKey: key,
    ...(options.slotRate === undefined ? {} : { slotRate: options.slotRate }),
    ...(options.allRate === undefined ? {} : { allRate: options.allRate })
  })
  const status = Effect.sync((): Status => {
    relay.handleTimeout(steady(clock))
    const { answered: _answered, forwarded: _forwarded, forwardedBytes: _bytes, ...drops } = relay.counters
    return {
      tier: "rendezvous",
      version: options.version,
      name: "rendezvous",
      pid: options.pid,
      uptimeMs: clock.currentTimeMillisUnsafe() - startedAt,
      address: format(socket.address),
      sessions: relay.ends,
      drops
    }
  })
  const rendezvous: Rendezvous = { address: socket.address, key, status, run: forward(socket, clock, relay) }
  return rendezvous
})
