/** A client's line to its server: one connection with the procedures of both tiers on it, or one that is made anew for ever. */
import * as Arr from "effect/Array"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as RpcClient from "effect/rpc/RpcClient"
import type { RpcClientError } from "effect/rpc/RpcClientError"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { ChatRpc } from "../domain/ChatRpc.ts"
import { ControlRpc } from "../domain/ControlRpc.ts"
import { FilesRpc } from "../domain/FilesRpc.ts"
import { fromHex } from "../domain/protocol/Cursor.ts"
import { Priority } from "../domain/protocol/Streams.ts"
import type { Values } from "../domain/Settings.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { type Connection, type Patience, Transport, TransportError } from "../services/Transport.ts"
import * as ClientIdentity from "./ClientIdentity.ts"
import * as RpcStream from "./RpcStream.ts"

/** Milliseconds. Keep-alives stay below the 30 s after which common NATs forget a UDP mapping. */
export const PATIENCE: Patience = { keepAliveMs: 15_000, deadAfterMs: 15_000, idleTimeoutMs: 60_000 }
/** Milliseconds between the first two attempts to come back; doubled for each further one, up to `pauseMs`. */
const PAUSE_MS = 500
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
export type ChatClient = RpcClient.FromGroup<typeof ChatRpc, RpcClientError>

export interface Options {
  readonly identity: ClientIdentity.ClientIdentity
  /** A `.sec` file to come in with, before all else. */
  readonly pairing: ClientIdentity.Pairing | undefined
  readonly deviceName: string
  readonly patience: Patience
  readonly timeoutMs: number
  /** Longest wait of `make` between two attempts to come back, ms; half a second if not given. */
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
    TransportError,
    Scope.Scope
  >
}

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
  const keysOf = invitations.map(({ key }) => key)
  const connection = yield* transport.connect({
    invitations,
    identity: identity.keyPair,
    deviceName,
    patience,
    timeoutMs,
    skewMs: last.skewMs,
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
      const used = invitations[invitation]
      if (used?.pairing !== undefined && enrolment !== undefined) {
        yield* Effect.mapError(
          identity.persist(used.pairing, enrolment),
          ({ message }) => new TransportError({ reason: "Keep", message })
        )
      }
      yield* identity.remember({ address: remote, skewMs })
    })
  })
  yield* identity.confirm(fromHex(connection.credential) ?? new Uint8Array(0))

  const serverStream = yield* connection.open(Priority.Control)
  yield* serverStream.write(StreamHeader.server())
  const server = yield* RpcStream.client(serverGroup, serverStream, () => {})
  const openChat: Session["openChat"] = Effect.gen(function* () {
    const broken = yield* Deferred.make<never, TierAwayError | TransportError>()
    const stream = yield* connection.open(Priority.Interactive)
    yield* stream.write(StreamHeader.llm())
    const chat = yield* RpcStream.client(ChatRpc, stream, (error) => {
      const away = error.reason === "Reset" && error.code === StreamHeader.Code.TierAway
      Deferred.doneUnsafe(broken, Effect.fail(away ? new TierAwayError() : error))
    })
    return { chat, failure: Deferred.await(broken) }
  })
  const session: Session = { connection, server, openChat }
  return session
})

export type ConnectError = Effect.Error<ReturnType<typeof connect>>

export type State =
  | {
      readonly _tag: "Connecting"
      readonly attempt: number
      readonly reason: ConnectError | TransportError | undefined
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
  const pause = (failures: number): number =>
    Math.max(PAUSE_MS, Math.min(options.pauseMs ?? PAUSE_MS, PAUSE_MS * 2 ** (failures - 1)))
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
  const successor = (connection: Connection): Effect.Effect<Life, never, Transport> =>
    Effect.andThen(
      connection.stalled,
      Effect.raceFirst(
        Effect.asSome(Effect.orDie(Effect.retry(open, Schedule.spaced(PAUSE_MS)))),
        Effect.as(connection.answering, Option.none<Life>())
      )
    ).pipe(Effect.flatMap(Option.match({ onNone: () => successor(connection), onSome: Effect.succeed })))

  const live: (life: Life) => Effect.Effect<TransportError, never, Transport> = Effect.fnUntraced(function* (life) {
    attempt = 0
    pairing = undefined
    if (!(yield* Deferred.succeed(waiting, life.session))) waiting = yield* succeeded(life.session)
    yield* SubscriptionRef.set(state, { _tag: "Connected", session: life.session })
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
  })

  yield* open.pipe(
    Effect.flatMap(live),
    Effect.catch((error) => Effect.succeed(error)),
    Effect.flatMap((reason) => SubscriptionRef.set(state, { _tag: "Connecting", attempt: ++attempt, reason })),
    Effect.andThen(Effect.suspend(() => Effect.sleep(pause(attempt)))),
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
