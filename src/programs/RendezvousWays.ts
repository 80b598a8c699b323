/** The ends of a rendezvous as ways of a transport: a server's, for all its devices, and a device's. */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import { format } from "../domain/protocol/Address.ts"
import { canonicalHost } from "../domain/protocol/AddressCodec.ts"
import { RendezvousClient } from "../domain/protocol/RendezvousClient.ts"
import { RendezvousServer } from "../domain/protocol/RendezvousServer.ts"
import { decodeTicket } from "../domain/protocol/RendezvousTicket.ts"
import type { Pairing } from "../domain/RendezvousLine.ts"
import * as ServerName from "../domain/ServerName.ts"
import { Crypto } from "../services/Crypto.ts"
import type { Listener, OpenPort, Ride } from "../services/Transport.ts"

/** Milliseconds on the clock that transports run by. */
const steady = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

export interface ServeOptions {
  readonly listener: Pick<Listener, "carry">
  readonly pairings: ReadonlyArray<Pairing>
  /** Our static public key. */
  readonly serverKey: Uint8Array
  /** Ids of all live credentials, at start and at every change. */
  readonly credentials: Stream.Stream<ReadonlyArray<Uint8Array>>
  /** The port to speak through: one that does not change, for the relay knows one address of ours. */
  readonly port?: OpenPort
}

/** Binds a server at its relays until the scope closes; the ends tell how they fare. */
export const serve = Effect.fn("RendezvousWays.serve")(function* (options: ServeOptions) {
  const { entropy, primitives } = yield* Crypto
  const clock = yield* Clock.Clock
  const { listener, pairings, port, serverKey } = options
  const ends: Array<RendezvousServer> = []
  for (const { key: relayKey, relay } of pairings) {
    yield* listener.carry((via) => {
      const about = { primitives, entropy, relay, via, relayKey, serverKey }
      const end = new RendezvousServer(steady(clock), clock.currentTimeMillisUnsafe(), about)
      ends.push(end)
      return end
    }, port)
  }
  if (ends.length === 0) return ends
  const expect = (ids: ReadonlyArray<Uint8Array>): Effect.Effect<void> =>
    Effect.sync(() => {
      for (const end of ends) end.setCredentials(ids)
    })
  yield* Effect.forkScoped(Stream.runForEach(options.credentials, expect), { startImmediately: true })
  // A host that slept, or whose clock was set, says the right time when it binds next.
  const setWall = Effect.sync(() => {
    for (const end of ends) end.setWall(steady(clock), clock.currentTimeMillisUnsafe())
  })
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep("1 minute"), setWall)))
  return ends
})

/** The ways that tickets open to the server of an invitation; what cannot be understood is passed over. */
export const rides = Effect.fn("RendezvousWays.rides")(function* (
  invitation: number,
  relays: CredentialFile.NatTraversal["rendezvous"]
) {
  const { entropy, primitives } = yield* Crypto
  const clock = yield* Clock.Clock
  return relays.flatMap((known): ReadonlyArray<Ride> => {
    if (typeof known === "string") return []
    const relay = ServerName.parse(known.server)
    const ticket = decodeTicket(known.ticket)
    if (relay === undefined || ticket === undefined || canonicalHost(relay.host) === undefined) return []
    return [
      {
        invitation,
        name: `rendezvous ${format(relay)}`,
        make: (via) => {
          const about = { primitives, entropy, relay, via, ticket }
          const carrier = new RendezvousClient(steady(clock), clock.currentTimeMillisUnsafe(), about)
          const peers = [carrier.remote]
          const observed = () => (carrier.state.type === "bound" ? carrier.state.observed : undefined)
          return { carrier, peers: () => peers, observed }
        }
      }
    ]
  })
})
