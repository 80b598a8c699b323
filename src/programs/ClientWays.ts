/**
 * A client's ways to its server beside the plain one: relays, which it tries from the first moment, and the addresses by
 * which the server may reach it, which both ends try at once as soon as they know of each other.
 */
import * as Effect from "effect/Effect"
import * as FiberHandle from "effect/FiberHandle"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import type { Address } from "../domain/protocol/Address.ts"
import * as ServerName from "../domain/ServerName.ts"
import type { Connection, Ride } from "../services/Transport.ts"
import type { ClientInvitation } from "./ClientIdentity.ts"
import * as ReflexiveAddress from "./ReflexiveAddress.ts"
import * as RendezvousWays from "./RendezvousWays.ts"
import * as TurnRelay from "./TurnRelay.ts"

/** The STUN servers that a server has named; what is none is left out. */
export const stunServers = ({
  natTraversal
}: Pick<ClientInvitation, "natTraversal">): ReadonlyArray<ServerName.ServerName> =>
  natTraversal.stun.flatMap((name) => ServerName.parse(name, ServerName.STUN_PORT) ?? [])

/** Addresses that the server is told of at a time. */
const MAX_OFFERED = 8

/** Relays that lead to the servers of the invitations; those that make no sense, or do not resolve, are left out. */
export const rides = Effect.fn("ClientWays.rides")(function* (invitations: ReadonlyArray<ClientInvitation>) {
  const all: Array<Ride> = []
  for (const [invitation, { endpoints, natTraversal, relayed }] of invitations.entries()) {
    all.push(...(yield* RendezvousWays.rides(invitation, natTraversal.rendezvous)))
    if (natTraversal.turn.length === 0) continue
    // A TURN server also leads to where the server is for everybody, if this host cannot go there itself.
    const beyond = relayed.length > 0 ? relayed : endpoints.slice(0, 2)
    all.push(...(yield* TurnRelay.rides({ invitation, turn: natTraversal.turn, relayed: beyond })))
  }
  return all
})

/** Tells the server where we may be reached directly, now and whenever that changes; both ends then try. */
const meet = Effect.fnUntraced(function* (connection: Connection, servers: ReadonlyArray<ServerName.ServerName>) {
  const reflexive = yield* ReflexiveAddress.keep({ servers, carry: connection.carry })
  yield* Stream.runForEach(SubscriptionRef.changes(reflexive), (found) =>
    Effect.flatMap(connection.local, (own) =>
      connection.offer([...found.map(({ address }) => address), ...own].slice(0, MAX_OFFERED))
    )
  )
})

export interface WatchOptions {
  readonly natTraversal: CredentialFile.NatTraversal
  /** The server is by a direct way at another address. */
  readonly moved: (remote: Address) => Effect.Effect<void>
}

/**
 * Follows a connection from way to way until it ends. While it leads by a relay, a direct one is looked for; when there
 * is one, the connection moves by itself.
 */
export const watch = Effect.fn("ClientWays.watch")(function* (
  connection: Connection,
  { moved, natTraversal }: WatchOptions
) {
  const servers = stunServers({ natTraversal })
  const meeting = yield* FiberHandle.make<void>()
  const consider = ({ via }: Address) =>
    via === undefined
      ? FiberHandle.clear(meeting)
      : Effect.asVoid(FiberHandle.run(meeting, Effect.scoped(meet(connection, servers)), { onlyIfMissing: true }))
  yield* Effect.flatMap(connection.remote, consider)
  const follow = Effect.flatMap(connection.happened, (event) => {
    if (event.type !== "PathChanged") return Effect.void
    return Effect.andThen(event.remote.via === undefined ? moved(event.remote) : Effect.void, consider(event.remote))
  })
  yield* Effect.ignore(Effect.forever(follow))
})
