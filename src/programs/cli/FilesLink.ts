/** The line of a transfer: made anew when it is lost, and the first time tried no longer than the user wants to wait. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { Priority } from "../../domain/protocol/Streams.ts"
import type { TransferError } from "../../domain/TransferError.ts"
import * as ClientLink from "../ClientLink.ts"
import * as ClockSkew from "../ClockSkew.ts"
import * as Common from "./Common.ts"
import { unreachable } from "./Failure.ts"
import * as Files from "./FilesCommon.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

/**
 * Milliseconds of the shortest round trip from which on a line is slower than two hosts that cut and hash: on a shorter one,
 * this host or its network, whole files are there sooner.
 */
const FAR_MS = 5

/** When only what changed of a large file is sent. */
export type Delta = "auto" | "always" | "never"

/** Keeps a link for the scope. Fails as a single connection would where the first one does not come about in time. */
export const make = Effect.fnUntraced(function* (input: Files.Input) {
  const values = yield* Common.settings("client", Common.globalFlags(input))
  const identity = yield* Tier.identity(values)
  let isTold = false
  const link = yield* ClientLink.make({
    identity,
    pairing: undefined,
    deviceName: Common.deviceName(values),
    patience: ClientLink.patience(values.networking),
    rekeyIntervalMs: values.encryption.keyRotationIntervalMs,
    timeoutMs: input.timeout.connectMs,
    pauseMs: values.networking.retryIntervalMs,
    skewed: (skewMs) => {
      if (isTold) return Effect.void
      isTold = true
      return Output.note(`warning: ${ClockSkew.sentence(skewMs)}`)
    }
  })
  const refused = link.changes.pipe(
    Stream.filter((state) => state._tag === "Connecting" && state.reason !== undefined),
    Stream.runHead,
    Effect.flatMap((state) =>
      Option.isSome(state) && state.value._tag === "Connecting" && state.value.reason !== undefined
        ? Effect.fail(
            state.value.reason instanceof ClientLink.UnpairedError || "reason" in state.value.reason
              ? Common.connectFailure(state.value.reason)
              : unreachable("The server does not answer")
          )
        : Effect.never
    )
  )
  const first = yield* Effect.raceFirst(link.session, refused)
  const open = Effect.flatMap(link.session, ({ connection }) => connection.open(Priority.Bulk))
  const isFar = link.session.pipe(
    Effect.flatMap(({ connection }) => connection.stats),
    Effect.map(({ minRttMs }) => minRttMs >= FAR_MS)
  )
  const deltas = (wanted: Delta): Effect.Effect<boolean> =>
    wanted === "auto" ? isFar : Effect.succeed(wanted === "always")
  const server = Files.patient(first.server, input.timeout.silentMs)
  const digest = (path: string): Effect.Effect<string, TransferError> =>
    server["Files.Digest"]({ path }).pipe(
      Effect.map(({ root }) => root),
      Effect.mapError(Files.transferError)
    )
  const touch = Files.touch(server)
  return { open, deltas, digest, touch, server, pages: Files.remotePages(server) }
})
