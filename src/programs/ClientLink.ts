/** A client's line to its server: one connection with the procedures of both tiers on it, or one that is made anew for ever. */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import type * as RpcClient from "effect/rpc/RpcClient"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { ControlRpc } from "../domain/ControlRpc.ts"
import { FilesRpc } from "../domain/FilesRpc.ts"
import { LlmRpc } from "../domain/LlmRpc.ts"
import { type Address, isLoopback } from "../domain/protocol/Address.ts"
import { fromHex } from "../domain/protocol/Cursor.ts"
import { Priority } from "../domain/protocol/Streams.ts"
import * as ServerName from "../domain/ServerName.ts"
import type { Values } from "../domain/Settings.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { Crypto } from "../services/Crypto.ts"
import type { Resolver } from "../services/Resolver.ts"
import {
  type Connection,
  type Dialling,
  type Patience,
  type Progress,
  Transport,
  TransportError
} from "../services/Transport.ts"
import * as AnswerOffer from "./AnswerOffer.ts"
import * as ClientCompromise from "./ClientCompromise.ts"
import * as ClientIdentity from "./ClientIdentity.ts"
import * as ClientWays from "./ClientWays.ts"
import * as RpcStream from "./RpcStream.ts"
import * as SealedClient from "./SealedClient.ts"
import * as Wake from "./Wake.ts"

/** Milliseconds. Keep-alives stay below the 30 s after which common NATs forget a UDP mapping. */
export const PATIENCE: Patience = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 }
/** Milliseconds between the first two attempts to come back; doubled for each further one, a quarter more or less. */
const PAUSE_MS = 500
/** Longest pauses: while the line has been away for less than ten minutes, and after that. */
const SHORT_PAUSE_MS = 3000
const LONG_PAUSE_MS = 30_000
const SHORT_OUTAGE_MS = 600_000
const JITTER = 0.25
/** How often a connected device asks how to find the server again. */
const REACH_MS = 3_600_000
/** What a home says that knows no server. */
export const UNPAIRED = "This home is not paired with a server: run clawchat pair FILE with a fresh .sec file"

/** How a client keeps its line, and when it gives it up, as its settings have it. */
export const patience = ({
  idleTimeoutMs,
  keepaliveIntervalMs
}: Pick<Values["networking"], "idleTimeoutMs" | "keepaliveIntervalMs">): Patience => ({
  ...PATIENCE,
  keepAliveMs: keepaliveIntervalMs,
  idleTimeoutMs
})

const serverGroup = ControlRpc.merge(FilesRpc)

export type ServerClient = RpcClient.FromGroup<typeof serverGroup, RpcClientError>
export type ChatClient = RpcClient.FromGroup<typeof LlmRpc, RpcClientError>

export interface Options {
  readonly identity: ClientIdentity.ClientIdentity
  /** A `.sec` file to come in with, before all else. */
  readonly pairing: ClientIdentity.Pairing | undefined
  readonly deviceName: string
  readonly patience: Patience
  readonly timeoutMs: number
  /** Milliseconds between two changes of the session's keys; an hour if not given. */
  readonly rekeyIntervalMs?: number | undefined
  /** Called at each connection whose server was found only with another clock: that many ms had to be added to ours. */
  readonly skewed?: (skewMs: number) => Effect.Effect<void>
  /** Writes an answer file for the server while it does not answer: see AnswerOffer. */
  readonly answer?: Pick<AnswerOffer.Options, "stun" | "write"> | undefined
  /** Told what becomes of each way; must not wait. */
  readonly progress?: ((progress: Progress) => void) | undefined
  /** Longest wait of `make` between two attempts to come back, ms; half a minute if not given. */
  readonly pauseMs?: number
}

/** - `Unpaired`: this home knows no server and no file was given. */
export class UnpairedError extends Data.TaggedError("UnpairedError")<{ readonly message: string }> {}

/** The llm tier is away: the server closed the stream that was meant for it. */
export class TierAwayError extends Data.TaggedError("TierAwayError")<Record<never, never>> {}

export interface Session {
  readonly connection: Connection
  readonly server: ServerClient
  /** Procedures of the llm tier on a stream of their own; `failure` tells why a call on it broke. */
  readonly openChat: Effect.Effect<
    { readonly chat: ChatClient; readonly failure: Effect.Effect<never, TierAwayError | TransportError> },
    TierAwayError | TransportError | SealedClient.SealError,
    Scope.Scope
  >
  /** COMPROMISED over this session. */
  readonly compromise: ClientCompromise.Guard
  /** What had to be added to our clock for the server to know us, ms; 0 for a clock that is right. */
  readonly skewMs: number
}

const orAway = <E>(error: E | TransportError): E | TransportError | TierAwayError =>
  error instanceof TransportError && error.reason === "Reset" && error.code === StreamHeader.Code.TierAway
    ? new TierAwayError()
    : error

/** Connects once, in the scope; a device that came with a file is enrolled when this returns. */
export const connect = Effect.fn("ClientLink.connect")(function* (options: Options) {
  const { deviceName, identity, pairing, patience, timeoutMs } = options
  const transport = yield* Transport
  const known = yield* identity.invitations
  const fromFile = pairing === undefined ? [] : [ClientIdentity.invitationOf(pairing)]
  const invitations = [...fromFile, ...known.filter(({ key }) => fromFile.every((file) => file.key !== key))]
  if (!Arr.isReadonlyArrayNonEmpty(invitations)) {
    return yield* new UnpairedError({ message: UNPAIRED })
  }
  const last = yield* identity.last
  const [first] = invitations
  let used = first
  const context = yield* Effect.context<Crypto | Resolver>()
  const { answer } = options
  const dialling =
    answer === undefined
      ? undefined
      : (socket: Dialling) =>
          AnswerOffer.keep({
            socket,
            stun: distinctNames([...ClientWays.stunServers(first), ...answer.stun]),
            key: first,
            isLocal: first.endpoints.every(({ host }) => isLoopback(host)),
            write: answer.write
          }).pipe(Effect.provideContext(context))
  let skew = 0
  const keysOf = invitations.map(({ key }) => key)
  const connection = yield* transport.connect({
    invitations,
    identity: identity.keyPair,
    deviceName,
    patience,
    timeoutMs,
    skewMs: last.skewMs,
    rides: yield* ClientWays.rides(invitations),
    ...(dialling === undefined ? {} : { dialling }),
    ...(options.progress === undefined ? {} : { progress: options.progress }),
    rekeyIntervalMs: options.rekeyIntervalMs,
    hints: keysOf.map((key) => last.hints[key]),
    keepHints: (states) => {
      const hints = Object.fromEntries(
        keysOf.flatMap((key, index) => {
          const state = states[index]
          return state === undefined ? [] : [[key, state]]
        })
      )
      return identity.remember({ hints })
    },
    answered: Effect.fnUntraced(function* ({ enrolment, invitation, remote, skewMs }) {
      used = invitations[invitation] ?? used
      skew = skewMs
      if (used.pairing !== undefined && enrolment !== undefined) {
        yield* Effect.mapError(
          identity.persist(used.pairing, enrolment),
          ({ message }) => new TransportError({ reason: "Keep", message })
        )
      }
      yield* remember(identity, remote, skewMs)
    })
  })
  if (skew !== 0) yield* options.skewed?.(skew) ?? Effect.void
  const device = fromHex(connection.credential) ?? new Uint8Array(16)
  yield* identity.confirm(device)
  const { natTraversal } = used
  const watch = ClientWays.watch(connection, { natTraversal, moved: (remote) => remember(identity, remote) })
  yield* Effect.forkScoped(Effect.scoped(watch))
  const compromise = yield* ClientCompromise.guard(identity, connection)

  const serverStream = yield* connection.open(Priority.Control)
  yield* serverStream.write(StreamHeader.server())
  const server = yield* RpcStream.client(serverGroup, serverStream, () => {})
  const seal = yield* SealedClient.make({
    identity: identity.keyPair,
    device,
    pinned: identity.server(device).pipe(
      Effect.map((record) => record?.llmKey),
      Effect.mapError(({ message }) => new SealedClient.SealError({ reason: "Refused", message }))
    ),
    offered: server["Control.Status"](undefined).pipe(
      Effect.map(({ llm }) => fromHex(llm?.key ?? "")),
      Effect.orElseSucceed(() => undefined)
    ),
    pin: (llmKey) =>
      Effect.catch(identity.update({ llmKey }), ({ message }) =>
        Effect.logWarning(`The assistant's key was not kept: ${message}`)
      )
  })
  const openChat: Session["openChat"] = Effect.gen(function* () {
    const broken = yield* Deferred.make<never, TierAwayError | TransportError>()
    const stream = yield* connection.open(Priority.Interactive)
    const sealed = yield* Effect.mapError(seal.open(stream), orAway)
    const chat = yield* RpcStream.client(LlmRpc, sealed, (error) => {
      Deferred.doneUnsafe(broken, Effect.fail(orAway(error)))
    })
    return { chat, failure: Deferred.await(broken) }
  })
  const session: Session = { connection, server, openChat, compromise, skewMs: skew }
  return session
})

const distinctNames = (all: ReadonlyArray<ServerName.ServerName>): ReadonlyArray<ServerName.ServerName> => [
  ...new Map(all.map((name) => [ServerName.format(name), name])).values()
]

/** A relay's addresses are good for this session only. */
const remember = (identity: ClientIdentity.ClientIdentity, { host, port, via }: Address, skewMs?: number) =>
  identity.remember({
    ...(via === undefined ? { address: { host, port } } : {}),
    ...(skewMs === undefined ? {} : { skewMs })
  })

/** Keeps what the server says about how to find it again; best effort. */
export const keepReach = (identity: ClientIdentity.ClientIdentity, { server }: Session): Effect.Effect<void> =>
  Effect.ignore(
    Effect.gen(function* () {
      const { candidates, natTraversal, portPeriodMs, portSeed, serverName } = yield* server["Control.Reach"](undefined)
      const endpoints = candidates.map(({ address, port }) => ({ host: address, port }))
      const relayed = endpoints.filter((_, index) => candidates[index]?.kind === "relayed")
      yield* identity.update({ endpoints, relayed, natTraversal, portPeriodMs, portSeed, serverName })
    })
  )

export type ConnectError = Effect.Error<ReturnType<typeof connect>>

export type State =
  | {
      readonly _tag: "Connecting"
      readonly attempt: number
      readonly reason: ConnectError | TransportError | undefined
      /** When the next attempt begins, ms; absent while one is under way. */
      readonly nextAt?: number
    }
  | { readonly _tag: "Connected"; readonly session: Session }

export interface Link {
  /** Now and at each change. */
  readonly changes: Stream.Stream<State>
  readonly state: Effect.Effect<State>
  /** The session, as soon as there is one. */
  readonly session: Effect.Effect<Session>
}

/** A session and the scope that it lives in. */
interface Life {
  readonly session: Session
  readonly scope: Scope.Closeable
}

/**
 * Keeps a connection for the scope: reconnects for ever, whatever the reason. When the server falls silent, a second
 * connection is tried beside the first, and whichever speaks first is used: a server that was restarted knows nothing of
 * the old one, and waiting for its end would cost the user a quarter of a minute.
 */
export const make = Effect.fn("ClientLink.make")(function* (options: Options) {
  const state = yield* SubscriptionRef.make<State>({ _tag: "Connecting", attempt: 0, reason: undefined })
  const parent = yield* Effect.scope
  let waiting = yield* Deferred.make<Session>()
  let attempt = 0
  let lostAt: number | undefined
  const pause = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    lostAt ??= now
    const longest = now - lostAt < SHORT_OUTAGE_MS ? SHORT_PAUSE_MS : LONG_PAUSE_MS
    const steady = Math.min(options.pauseMs ?? longest, longest, PAUSE_MS * 2 ** Math.min(attempt - 1, 16))
    return steady * (1 + JITTER * (2 * (yield* Random.next) - 1))
  })
  // A file is good for the first connection; after that the device has its own credential.
  let pairing = options.pairing

  const open = Effect.gen(function* () {
    const scope = yield* Scope.fork(parent)
    const session = yield* Effect.onError(
      Scope.provide(
        Effect.suspend(() => connect({ ...options, pairing })),
        scope
      ),
      (cause) => Scope.close(scope, Exit.failCause(cause))
    )
    return { session, scope } satisfies Life
  })
  const end = ({ scope }: Life): Effect.Effect<void> => Scope.close(scope, Exit.void)

  /** Another life that took over from one that fell silent. */
  const successor = (connection: Connection): Effect.Effect<Life, never, Transport | Crypto | Resolver> =>
    Effect.andThen(
      connection.stalled,
      Effect.raceFirst(
        Effect.asSome(Effect.orDie(Effect.retry(open, Schedule.spaced(PAUSE_MS)))),
        Effect.as(connection.answering, Option.none<Life>())
      )
    ).pipe(Effect.flatMap(Option.match({ onNone: () => successor(connection), onSome: Effect.succeed })))

  const live: (life: Life) => Effect.Effect<TransportError, never, Transport | Crypto | Resolver> = Effect.fnUntraced(
    function* (life) {
      attempt = 0
      lostAt = undefined
      pairing = undefined
      if (!(yield* Deferred.succeed(waiting, life.session))) waiting = yield* succeeded(life.session)
      yield* SubscriptionRef.set(state, { _tag: "Connected", session: life.session })
      const keeping = Effect.repeat(keepReach(options.identity, life.session), Schedule.spaced(REACH_MS))
      yield* Effect.forkIn(keeping, life.scope)
      yield* Effect.forkIn(Effect.forever(Effect.andThen(Wake.wake, life.session.connection.rebind)), life.scope)
      const outcome = yield* Effect.raceFirst(
        Effect.map(
          life.session.connection.closed,
          (close) => new TransportError({ reason: "Closed", message: "the connection was lost", close })
        ),
        successor(life.session.connection)
      ).pipe(Effect.ensuring(end(life)))
      if (outcome instanceof TransportError) {
        waiting = yield* Deferred.make<Session>()
        return outcome
      }
      return yield* live(outcome)
    }
  )

  /** The pause after an attempt that came to nothing; over at once when this host has slept meanwhile. */
  const between = Effect.fnUntraced(function* (reason: ConnectError | TransportError) {
    const connecting = { _tag: "Connecting", attempt: ++attempt, reason } as const
    const ms = yield* pause
    yield* SubscriptionRef.set(state, { ...connecting, nextAt: (yield* Clock.currentTimeMillis) + ms })
    if (yield* Wake.sleep(ms)) awoke()
    yield* SubscriptionRef.set(state, connecting)
  })
  /** What was tried before this host slept says nothing about now. */
  const awoke = (): void => {
    attempt = 0
    lostAt = undefined
  }

  /** An attempt that began before a sleep knocks at ports, with hints, that are long past: it begins anew. */
  const attempted: Effect.Effect<Life, ConnectError, Transport | Crypto | Resolver> = Effect.suspend(() =>
    Effect.raceFirst(Effect.asSome(open), Effect.as(Wake.soon, Option.none<Life>()))
  ).pipe(
    Effect.flatMap(
      Option.match({
        onNone: () => Effect.andThen(Effect.sync(awoke), attempted),
        onSome: Effect.succeed
      })
    )
  )

  yield* attempted.pipe(
    Effect.flatMap(live),
    Effect.catch((error) => Effect.succeed(error)),
    Effect.flatMap(between),
    Effect.forever,
    Effect.forkScoped
  )
  const link: Link = {
    changes: SubscriptionRef.changes(state),
    state: SubscriptionRef.get(state),
    session: Effect.suspend(() => Deferred.await(waiting))
  }
  return link
})

const succeeded = Effect.fnUntraced(function* (session: Session) {
  const deferred = yield* Deferred.make<Session>()
  yield* Deferred.succeed(deferred, session)
  return deferred
})
