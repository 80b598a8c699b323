/**
 * COMPROMISED at a client: its home is burnt, and the server is told over the line that there is, or over one made for this
 * alone. The line's keys, and the device's, are gone before the first word leaves.
 */
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import { type Connection, type LastWords, type Patience, Transport } from "../services/Transport.ts"
import { type ClientIdentity, deviceIdOf, type ServerRecord } from "./ClientIdentity.ts"
import type { Outcome } from "./Compromise.ts"

/** Milliseconds in which a server must answer to be told at all; what is on disk is gone meanwhile. */
export const DIAL_MS = 3000

/** What a person reads who waits for a line that the other end, or another process of this home, has burnt. */
export const BURNT =
  "COMPROMISED: the keys of this device are burnt. Next step: pair again with a fresh .sec file from the server (clawchat pair FILE)"

/** Burns over the connection that it guards; none when that is over. */
export type Guard = Effect.Effect<Option.Option<Outcome>>

/**
 * Guards a connection for its scope: burns the home when the server says COMPROMISED, or when asked to. Closing the scope
 * waits until all is said.
 */
export const guard = Effect.fn("ClientCompromise.guard")(function* (
  identity: Pick<ClientIdentity, "burn">,
  connection: Pick<Connection, "compromise" | "compromised" | "acknowledge">
) {
  const asked = yield* Deferred.make<void>()
  const done = yield* Deferred.make<Option.Option<Outcome>>()
  const one = (words: LastWords): ReadonlyArray<LastWords> => [words]
  const act = Effect.raceFirst(
    Effect.map(connection.compromised, (told) =>
      identity.burn({ cause: "peer", seal: Effect.map(connection.acknowledge(told), one), answers: true })
    ),
    Effect.as(
      Deferred.await(asked),
      identity.burn({ cause: "here", seal: Effect.map(connection.compromise, one), answers: false })
    )
  )
  yield* Effect.forkScoped(
    Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(restore(act), (burn) =>
        Effect.flatMap(burn, (outcome) => Deferred.succeed(done, Option.some(outcome)))
      )
    ).pipe(Effect.ensuring(Deferred.succeed(done, Option.none())))
  )
  const burn: Guard = Effect.andThen(Deferred.succeed(asked, undefined), Deferred.await(done))
  return burn
})

export interface Options {
  readonly identity: ClientIdentity
  readonly deviceName: string
  readonly patience: Patience
  /** Of the session, where there is one. */
  readonly live?: Guard
}

/** A connection that leaves no trace on this disk, for the notification alone. */
const dial = Effect.fnUntraced(function* ({ deviceName, identity, patience }: Options) {
  const transport = yield* Transport
  const scope = yield* Effect.scope
  const invitations = yield* Effect.orElseSucceed(identity.invitations, () => [])
  const last = yield* identity.last
  return Effect.gen(function* () {
    if (!Arr.isReadonlyArrayNonEmpty(invitations)) return []
    const connection = yield* transport.connect({
      invitations,
      identity: identity.keyPair,
      deviceName,
      patience,
      timeoutMs: DIAL_MS,
      skewMs: last.skewMs,
      sweeps: false,
      hints: invitations.map(({ key }) => last.hints[key]),
      keepHints: () => Effect.void,
      answered: () => Effect.void
    })
    return [yield* connection.compromise]
  }).pipe(
    Effect.provideService(Transport, transport),
    Effect.provideService(Scope.Scope, scope),
    Effect.interruptible,
    Effect.timeout(DIAL_MS),
    Effect.orElseSucceed((): ReadonlyArray<LastWords> => [])
  )
})

/** Burns this home now. Takes at most `DIAL_MS` and the time of an answer, whatever the server does. */
export const burn = Effect.fn("ClientCompromise.burn")(function* (options: Options) {
  const { identity, live } = options
  if (live !== undefined) {
    const outcome = yield* live
    if (Option.isSome(outcome)) return outcome.value
  }
  const seal = yield* dial(options)
  return yield* identity.burn({ cause: "here", seal, answers: false })
}, Effect.scoped)

/**
 * Lines for people: what was done and the next step. `server` as this home knew it; `next` where no file is to be fetched.
 */
export const report = (
  outcome: Outcome,
  server: ServerRecord | undefined,
  next: string | undefined = undefined
): ReadonlyArray<string> => {
  const host = server?.endpoints[0]?.host ?? "SERVER"
  const lines = ["COMPROMISED: all keys of this device are burnt. Conversations and files are yours and stay."]
  for (const line of outcome.left) lines.push(`Left behind, remove it by hand: ${line}`)
  if (server !== undefined && outcome.notified > 0 && outcome.acknowledged) {
    lines.push(
      `${server.serverName} has heard it: an owner's device burns everything there, any other device only itself.`
    )
  } else if (server !== undefined) {
    lines.push(
      `${server.serverName} has NOT answered and may not know. On its machine run at once: clawchat compromised (burns everything)`,
      `or, to lock out this device alone: clawchat devices revoke ${deviceIdOf(server).slice(0, 8)}`
    )
  }
  lines.push(
    ...(next === undefined
      ? [
          `Next step: fetch a fresh credential file and the bootstrap key by hand (scp ${host}:/var/lib/clawchat/security/clawchat-current.sec .),`,
          "then: clawchat pair clawchat-current.sec --key-file bootstrap.key"
        ]
      : [next])
  )
  return lines
}
