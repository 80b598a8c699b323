/**
 * How a server can be reached, and what it tells of that: the ports it listens on, its address behind a NAT, and the relays
 * that it waits at. Credential files, devices that ask, and sessions that look for a better way are told from here.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type * as CredentialFile from "../domain/CredentialFile.ts"
import { type Address, isLoopback } from "../domain/protocol/Address.ts"
import { hex } from "../domain/protocol/Cursor.ts"
import { hostKind } from "../domain/protocol/HostKind.ts"
import type { RendezvousServer } from "../domain/protocol/RendezvousServer.ts"
import type { Pairing } from "../domain/RendezvousLine.ts"
import * as ServerName from "../domain/ServerName.ts"
import { Crypto } from "../services/Crypto.ts"
import type { PortMapper } from "../services/PortMapper.ts"
import * as MappedPort from "./MappedPort.ts"
import * as ReflexiveAddress from "./ReflexiveAddress.ts"
import * as RendezvousKeys from "./RendezvousKeys.ts"
import * as RendezvousWays from "./RendezvousWays.ts"
import type { ServerPort } from "./ServerPort.ts"
import * as TurnKeys from "./TurnKeys.ts"
import * as TurnRelay from "./TurnRelay.ts"

/** Milliseconds that the first credential file waits for helpers, how often it looks, and how often changes are looked for. */
const SETTLE_MS = 2000
const SETTLE_STEP_MS = 50
const LOOK_MS = 2000
/** Addresses of this host's interfaces among them. */
const MAX_HOSTS = 3
/** Addresses that a credential file or a session is told at most. */
const MAX_CANDIDATES = 8

export interface Options {
  readonly ports: ServerPort
  readonly publicIp: string
  /** Our static public key. */
  readonly serverKey: Uint8Array
  readonly stun: ReadonlyArray<ServerName.ServerName>
  readonly turn: TurnKeys.TurnKeys | undefined
  readonly rendezvous: ReadonlyArray<Pairing>
  /** Asks the router before us for our ports; `undefined` where it is not to be asked. */
  readonly portMapper: PortMapper["Service"] | undefined
  /** Ids of all live credentials, at start and at every change. */
  readonly credentials: Stream.Stream<ReadonlyArray<Uint8Array>>
  /** Seconds that a client may take to find a way. */
  readonly timeout: number
}

/** Where the server is for its devices. */
export interface Announced {
  /** The address that is most likely to be right. */
  readonly host: string
  readonly port: number
  /** Further ones. */
  readonly candidates: ReadonlyArray<CredentialFile.Candidate>
}

export interface ServerReach {
  /** Where we are: what a credential file that is good until then should say. */
  readonly announced: (validUntil: number) => Effect.Effect<Announced>
  /** Waits until every helper has answered or failed, two seconds at most. */
  readonly settled: Effect.Effect<void>
  /** Tells whenever any of it may have changed; never, where nothing can. */
  readonly changes: Stream.Stream<void>
  /** What helps a device (its credential's id, 16 bytes) to get through, good for a month. */
  readonly natTraversal: (credentialId: Uint8Array) => Effect.Effect<CredentialFile.NatTraversal>
  /** Where a peer that comes by a relay may try to reach us directly. */
  readonly direct: Effect.Effect<ReadonlyArray<Address>>
}

export const make = Effect.fn("ServerReach.make")(function* (options: Options) {
  const { credentials, portMapper, ports, publicIp, rendezvous, serverKey, stun, timeout, turn } = options
  const { listener } = ports
  const kind = hostKind(publicIp)
  const isHidden = kind === "private" || kind === "shared"
  const { primitives, stun: stunPrimitives } = yield* Crypto
  const reflexive = yield* ReflexiveAddress.keep({ servers: stun, carry: (make) => listener.carry(make) })
  const mapped = yield* MappedPort.keep({ mapper: portMapper, open: ports.open })
  const houses: ReadonlyArray<RendezvousServer> = yield* RendezvousWays.serve({
    listener,
    pairings: rendezvous,
    serverKey,
    credentials
  })
  const hasHelp = stun.length > 0 || rendezvous.length > 0 || (turn !== undefined && turn.servers.length > 0)
  // An allocation belongs to one socket for good, so it gets one that does not move.
  const relays =
    turn === undefined || turn.servers.length === 0
      ? yield* SubscriptionRef.make<ReadonlyArray<TurnRelay.Present>>([])
      : yield* Effect.flatMap(listener.open(0), (port) =>
          TurnRelay.keep({ keys: turn, carry: (make) => listener.carry(make, port) })
        )

  // Another address of this host is another one for all who know us: they are told at once.
  const watch = Effect.gen(function* () {
    let known = (yield* listener.hosts).join()
    while (true) {
      yield* Effect.sleep(LOOK_MS)
      const now = (yield* listener.hosts).join()
      if (now === known) continue
      known = now
      const port = yield* SubscriptionRef.get(ports.current)
      yield* listener.move(port, port)
    }
  })
  if (hasHelp) yield* Effect.forkScoped(watch)

  const observed = Effect.gen(function* () {
    const found = yield* SubscriptionRef.get(reflexive)
    const { address } = yield* SubscriptionRef.get(ports.current)
    const forwarded = MappedPort.candidates(yield* SubscriptionRef.get(mapped), address.port)
    const seen = houses.flatMap(({ state }) => (state.type === "bound" ? [state.observed] : []))
    const byRelays = seen.map(({ host, port }) => ({ kind: "reflexive" as const, address: host, port }))
    const all: ReadonlyArray<CredentialFile.Candidate> = [
      ...forwarded,
      ...ReflexiveAddress.candidates(found),
      ...byRelays
    ]
    return all
  })

  const announced: ServerReach["announced"] = Effect.fnUntraced(function* (validUntil) {
    const { candidates, port } = yield* ports.announced(validUntil)
    const relayed = TurnRelay.candidates(yield* SubscriptionRef.get(relays))
    const hosts = (yield* listener.hosts).filter((host) => !isLoopback(host)).slice(0, MAX_HOSTS)
    const here = hosts.map((address) => ({ kind: "host" as const, address, port }))
    const all = [...(yield* observed), ...relayed, ...candidates, ...here]
    // Behind a NAT what it makes of us is what others can reach.
    const seen = isHidden ? all.find(({ kind }) => kind === "mapped" || kind === "reflexive") : undefined
    const host = seen?.address ?? publicIp
    const outside = seen?.port ?? port
    const own = { kind: "host" as const, address: publicIp, port }
    const others = distinct([...all, own]).filter((each) => each.address !== host || each.port !== outside)
    return { host, port: outside, candidates: others.slice(0, MAX_CANDIDATES) }
  })

  const isSettled = Effect.gen(function* () {
    const present = yield* SubscriptionRef.get(relays)
    const waiting = present.some(({ state }) => state === "Resolving" || state === "Allocating")
    const seen = stun.length === 0 || (yield* SubscriptionRef.get(reflexive)).length > 0
    return seen && !waiting && houses.every(({ state }) => state.type !== "binding")
  })
  const settled = Effect.sleep(SETTLE_STEP_MS).pipe(
    Effect.andThen(isSettled),
    Effect.repeat({ until: (done) => done }),
    Effect.timeoutOption(SETTLE_MS),
    Effect.asVoid,
    Effect.when(Effect.succeed(hasHelp)),
    Effect.asVoid
  )

  const natTraversal: ServerReach["natTraversal"] = Effect.fnUntraced(function* (credentialId) {
    const now = yield* Clock.currentTimeMillis
    return {
      stun: stun.map(ServerName.format),
      turn: turn === undefined ? [] : TurnKeys.ofDevice(stunPrimitives, turn, hex(credentialId), now),
      rendezvous: RendezvousKeys.tickets(primitives, rendezvous, serverKey, credentialId, now),
      timeout
    }
  })

  const reach: ServerReach = {
    announced,
    settled,
    changes: hasHelp || portMapper !== undefined ? Stream.fromEffectRepeat(Effect.sleep(LOOK_MS)) : Stream.never,
    natTraversal,
    direct: Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const { port } = yield* ports.announced(now)
      const own = { kind: "host" as const, address: publicIp, port }
      return distinct([...(yield* observed), own])
        .slice(0, MAX_CANDIDATES)
        .map(({ address, port }) => ({ host: address, port }))
    })
  }
  return reach
})

const distinct = (all: ReadonlyArray<CredentialFile.Candidate>): ReadonlyArray<CredentialFile.Candidate> =>
  all.filter(
    ({ address, port }, index) => all.findIndex((other) => other.address === address && other.port === port) === index
  )
