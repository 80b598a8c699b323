/**
 * TURN relays on a socket of sessions: for a server an allocation kept for as long as the scope, whose address it tells its
 * devices; for a client a ride to a server's relayed addresses, made while it dials.
 *
 * Each takes its place on the socket as a carrier that begins when the socket's driver first asks it something.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import { type Address, equals, format } from "../domain/protocol/Address.ts"
import type { Carrier, Parcel } from "../domain/protocol/Carrier.ts"
import type { LongTermCredentials } from "../domain/protocol/LongTermAuth.ts"
import { type Options as ClientOptions, type State, TurnClient } from "../domain/protocol/TurnClient.ts"
import type { Failure, FailureReason } from "../domain/protocol/TurnFailure.ts"
import * as ServerName from "../domain/ServerName.ts"
import * as TurnCredentials from "../domain/TurnCredentials.ts"
import { Crypto } from "../services/Crypto.ts"
import * as Resolver from "../services/Resolver.ts"
import type { Ride } from "../services/Transport.ts"
import type { TurnKeys } from "./TurnKeys.ts"

/** How soon a name that does not resolve is tried again. */
const RESOLVE_SOON = Duration.seconds(15)
/** Further relays of a server that an allocation permits: those that its name stands for. */
const MAX_RELAYS = 8

/** What has become of one TURN server. */
export interface Present {
  readonly server: ServerName.ServerName
  readonly state: State | "Resolving"
  /** Where peers reach us by it. */
  readonly relayed: Address | undefined
  /** Our address as it sees it. */
  readonly reflexive: Address | undefined
  readonly failure: Failure | undefined
}

export interface KeepOptions {
  readonly keys: TurnKeys
  /** Lets a carrier speak through the socket until the scope closes: `Listener.carry`. */
  readonly carry: (make: (via: number) => Carrier) => Effect.Effect<void, never, Scope.Scope>
  /** Milliseconds between refreshes; 20 s if not given. */
  readonly checkMs?: number
}

/** One allocation per server, in their order; never fails: what does not work is in the list, and is tried again. */
export const keep = Effect.fn("TurnRelay.keep")(function* ({ carry, checkMs, keys }: KeepOptions) {
  const { entropy, stun } = yield* Crypto
  const clock = yield* Clock.Clock
  const all = yield* SubscriptionRef.make<ReadonlyArray<Present>>(
    keys.servers.map((server) => ({
      server,
      state: "Resolving",
      relayed: undefined,
      reflexive: undefined,
      failure: undefined
    }))
  )
  const keepOne = Effect.fnUntraced(function* (server: ServerName.ServerName, index: number) {
    const addresses = yield* resolved(server)
    const changes = yield* Queue.sliding<TurnClient>(1)
    const [first] = addresses
    if (first === undefined) return
    yield* carry(
      (via) =>
        new LazyTurn(
          {
            server: first,
            via,
            credentials: () => TurnCredentials.own(stun, keys.login, clock.currentTimeMillisUnsafe()),
            primitives: stun,
            entropy,
            checkMs
          },
          addresses.map(({ host }) => host),
          (client) => Queue.offerUnsafe(changes, client)
        )
    )
    let said = ""
    while (true) {
      const { failure, reflexive, relayed, state } = yield* Queue.take(changes)
      const present: Present = { server, state, relayed, reflexive, failure }
      yield* SubscriptionRef.update(all, (list) => list.map((one, i) => (i === index ? present : one)))
      const line = describe(present)
      // A server that stays away is one line, however often it is tried.
      if (state !== "Allocating" && line !== said) {
        yield* state === "Failed" ? Effect.logWarning(line) : Effect.logInfo(line)
        said = line
      }
      // The name may stand for another address by now; then all begins anew.
      if (state !== "Failed" || failure?.reason !== "Timeout") continue
      const [now] = yield* resolved(server)
      if (now !== undefined && !equals(now, first)) return
    }
  }, Effect.scoped)
  yield* Effect.forEach(keys.servers, (server, index) => Effect.forkScoped(Effect.forever(keepOne(server, index))), {
    discard: true
  })
  return all
})

const WHY: Readonly<Record<FailureReason, string>> = {
  Timeout: "it does not answer: is it up, and does a firewall let UDP through?",
  Unauthorized: "it does not take the credentials: check the username and password, or the secret",
  WrongCredentials: "another user's allocation has our address and port: it ends within ten minutes",
  Mismatch: "an older allocation has our address and port: it ends within ten minutes",
  Quota: "this user has as many allocations as it may: raise the server's user quota",
  Capacity: "it has no room left: raise its total quota or port range",
  Forbidden: "it refuses us: see its configuration",
  Unsupported: "it does not relay UDP as we ask: see its configuration",
  Redirected: "it sends us on to servers that lead nowhere",
  ServerError: "it does not work as it should: see its log"
}

/** One line for people: the way by a TURN server, or why there is none and what to do. */
export const describe = ({ failure, relayed, server, state }: Present): string => {
  const name = `TURN server ${ServerName.format(server)}`
  if (relayed !== undefined) return `${name}: relays for us at ${format(relayed)}`
  if (failure !== undefined)
    return `${name}: ${WHY[failure.reason]}${failure.code === undefined ? "" : ` (${failure.code})`}`
  return `${name}: ${state === "Resolving" ? "its name has no address yet" : "no answer yet"}`
}

/** What of them belongs into a `.sec` file. */
export const candidates = (present: ReadonlyArray<Present>): ReadonlyArray<CredentialFile.Candidate> =>
  present.flatMap(({ relayed }) =>
    relayed === undefined ? [] : [{ kind: "relayed", address: relayed.host, port: relayed.port }]
  )

export interface RideOptions {
  /** `nat_traversal.turn` of the server's record. */
  readonly turn: CredentialFile.NatTraversal["turn"]
  /** Where the server is behind its relays. */
  readonly relayed: ReadonlyArray<Address>
  /** Which of the invitations leads there. */
  readonly invitation: number
}

/** Rides by every TURN server that resolves; none where the server has no relayed address. Entries that make no sense are left out. */
export const rides = Effect.fn("TurnRelay.rides")(function* ({ invitation, relayed, turn }: RideOptions) {
  if (relayed.length === 0) return []
  const { entropy, stun } = yield* Crypto
  const found = yield* Effect.forEach(
    turn,
    ({ password, server, username }) =>
      Effect.gen(function* () {
        const name = ServerName.parse(server, ServerName.STUN_PORT)
        const [address] = name === undefined ? [] : yield* Effect.orElseSucceed(Resolver.addresses(name), () => [])
        return address === undefined ? [] : [{ address, credentials: { username, password } }]
      }),
    { concurrency: 4 }
  )
  return found.flat().map(
    ({ address, credentials }): Ride => ({
      invitation,
      name: `TURN ${format(address)}`,
      make: (via) => rideBy(via, { server: address, credentials, relayed, stun, entropy })
    })
  )
})

interface Riding extends Pick<ClientOptions, "server" | "entropy"> {
  readonly credentials: LongTermCredentials
  readonly relayed: ReadonlyArray<Address>
  readonly stun: ClientOptions["primitives"]
}

const NOBODY: ReadonlyArray<Address> = []

const rideBy = (via: number, { credentials, entropy, relayed, server, stun }: Riding) => {
  const peers = relayed.map(({ host, port }) => ({ host, port, via }))
  const carrier = new LazyTurn({ server, via, credentials: () => credentials, primitives: stun, entropy }, [], () => {})
  return { carrier, peers: () => (carrier.relayed === undefined ? NOBODY : peers) }
}

/** Numeric addresses of a name, IPv4 first; waits while it has none. */
const resolved = (server: ServerName.ServerName) =>
  Effect.catch(Resolver.addresses(server), (error) =>
    Effect.andThen(
      Effect.logWarning(`TURN: ${error.message}`),
      Effect.orDie(Effect.retry(Resolver.addresses(server), Schedule.spaced(RESOLVE_SOON)))
    )
  ).pipe(
    Effect.map((addresses) => addresses.toSorted((a, b) => Number(a.host.includes(":")) - Number(b.host.includes(":"))))
  )

/** A TURN client that begins with its first turn and tells of its changes. */
class LazyTurn implements Carrier {
  readonly #options: ClientOptions
  readonly #permit: ReadonlyArray<string>
  readonly #onChange: (client: TurnClient) => void
  #client: TurnClient | undefined
  #told = -1

  constructor(options: ClientOptions, permit: ReadonlyArray<string>, onChange: (client: TurnClient) => void) {
    this.#options = options
    this.#permit = permit
    this.#onChange = onChange
  }

  get servers(): ReadonlyArray<Address> {
    return this.#client?.servers ?? [this.#options.server]
  }

  get relayed(): Address | undefined {
    return this.#client?.relayed
  }

  handleDatagram(now: number, remote: Address, bytes: Uint8Array): Parcel | "foreign" | undefined {
    const client = this.#at(now)
    const handled = client.handleDatagram(now, remote, bytes)
    this.#tell(client)
    return handled
  }

  handleTimeout(now: number): void {
    const client = this.#at(now)
    client.handleTimeout(now)
    this.#tell(client)
  }

  pollTransmit(now: number): Parcel | undefined {
    return this.#at(now).pollTransmit(now)
  }

  pollTimeout(): number {
    return this.#client?.pollTimeout() ?? 0
  }

  wrap(now: number, remote: Address, bytes: Uint8Array): Parcel | undefined {
    return this.#at(now).wrap(now, remote, bytes)
  }

  moved(now: number): void {
    this.#client?.moved(now)
  }

  close(now: number): void {
    this.#client?.close(now)
  }

  #at(now: number): TurnClient {
    if (this.#client !== undefined) return this.#client
    const client = new TurnClient(now, this.#options)
    for (const host of this.#permit.slice(0, MAX_RELAYS)) client.permit(now, host)
    this.#client = client
    return client
  }

  #tell(client: TurnClient): void {
    if (client.changes === this.#told) return
    this.#told = client.changes
    this.#onChange(client)
  }
}
