/**
 * COMPROMISED at a server. It comes from the server's own home (the control socket), from a device of the owner's, or from
 * another device. The first two burn everything; the last locks that device out and nothing else. Also what a start does
 * about one that was cut short.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as HomePaths from "../domain/HomePaths.ts"
import type { KeyPair } from "../domain/protocol/Primitives.ts"
import type * as Tombstone from "../domain/Tombstone.ts"
import type { Crypto } from "../services/Crypto.ts"
import { Devices } from "../services/Devices.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import type { Compromised, Listener } from "../services/Transport.ts"
import * as Burn from "./Burn.ts"
import * as Compromise from "./Compromise.ts"
import * as Identity from "./Identity.ts"
import type { LlmLink } from "./LlmLink.ts"

/**
 * Burns the identity of an llm tier of the same user that does not run: nobody else can tell it. One that runs, or is
 * another user's, burns it itself once the link refuses its key.
 */
const burnSleepingLlm = Effect.fnUntraced(function* (llm: HomePaths.LlmPaths, refused: Uint8Array) {
  const store = yield* SecureFileStore
  if (Option.isNone(yield* store.read(llm.staticKey))) return
  yield* store.lock(llm.lock)
  const { publicKey } = yield* Identity.loadOrCreateStatic(llm.staticKey)
  if (!Identity.isRefused({ id: publicKey, psk: publicKey, refuses: [refused] }, publicKey)) return
  const plan = Burn.llm(llm)
  yield* Burn.begin(plan, { cause: "peer" })
  yield* Burn.finish(plan, () => Effect.void)
}, Effect.scoped)

/**
 * What a server's start does first, under the lock of the home: finishes a burning that was cut short, gives the llm tier a
 * link that its old identity cannot use, and refuses what was burnt and has come back. Answers the tombstone that stood.
 */
export const prepare = Effect.fn("ServerCompromise.prepare")(function* (
  plan: Burn.Plan,
  paths: Pick<HomePaths.ServerPaths, "llmLink">,
  llm: HomePaths.LlmPaths
) {
  const finished = yield* Burn.finish(plan, (tombstone) => {
    const refused = Option.getOrUndefined(tombstone)?.llmKey
    if (refused === undefined) return Effect.void
    return Effect.andThen(
      Identity.replaceLink(paths.llmLink, refused),
      Effect.catch(burnSleepingLlm(llm, refused), (error) =>
        // It runs, or is another user's: the link tells it.
        Effect.logDebug(`The llm tier's identity is for that tier to burn: ${error.message}`)
      )
    )
  })
  yield* Burn.refuseReturned(plan)
  return finished
})

/** The llm tier's static key, if it has published one. */
export const llmKeyOf = (paths: Pick<HomePaths.ServerPaths, "llmPublicKey">) =>
  Effect.map(
    Effect.orElseSucceed(Identity.readKey(paths.llmPublicKey), () => Option.none<Uint8Array>()),
    Option.getOrUndefined
  )

/** The tombstone's text for a burning that begins on this server. */
export const about = (
  cause: Tombstone.Cause,
  llmKey: Uint8Array | undefined
): Pick<Tombstone.Tombstone, "cause" | "llmKey"> => (llmKey === undefined ? { cause } : { cause, llmKey })

export interface Options {
  readonly plan: Burn.Plan
  readonly paths: Pick<HomePaths.ServerPaths, "llmPublicKey">
  readonly listener: Pick<Listener, "compromise" | "compromised" | "acknowledge">
  /** The line to the llm tier. */
  readonly link: Pick<LlmLink, "compromise">
  readonly identity: KeyPair
  /** What else is to be wiped. */
  readonly secrets: ReadonlyArray<Uint8Array>
  /** Puts it on record: everything is burnt, or a device is locked out. `by` is that device's id, or `home`. */
  readonly noted: (scope: "all" | "device", by: string) => Effect.Effect<void>
}

export interface ServerCompromise {
  /** Begins; completes when a kill cannot stop it any more. */
  readonly request: Effect.Effect<void>
  /** Waits for COMPROMISED; fails with `Burned` when everything is burnt and said. The process must end then. */
  readonly run: Effect.Effect<never, Compromise.Burned>
}

export const make = Effect.fn("ServerCompromise.make")(function* (options: Options) {
  const { identity, link, listener, noted, paths, plan, secrets } = options
  const devices = yield* Devices
  const services = yield* Effect.context<Crypto | SecureFileStore>()
  const scope = yield* Effect.scope
  const requested = yield* Deferred.make<void>()
  const begun = yield* Deferred.make<void>()

  const burn = Effect.fnUntraced(function* (cause: Tombstone.Cause, told: ReadonlyArray<Compromised>) {
    const outcome = yield* Compromise.carryOut({
      plan,
      about: about(cause, yield* llmKeyOf(paths)),
      seal: Effect.zipWith(listener.compromise(told), link.compromise, (words, more) => [words, ...more], {
        concurrent: true
      }).pipe(Effect.ensuring(Deferred.succeed(begun, undefined))),
      wipe: Effect.sync(() => {
        for (const secret of [identity.privateKey, ...secrets]) secret.fill(0)
      }),
      answers: told.length > 0
    })
    yield* Effect.logWarning("COMPROMISED: all keys of this server are burnt, every device is out")
    yield* noted("all", told[0]?.credential ?? "home")
    for (const line of outcome.left) yield* Effect.logError(`COMPROMISED left something behind: ${line}`)
    return yield* new Compromise.Burned(outcome)
  }, Effect.provideContext(services))

  const lockOut = Effect.fnUntraced(function* (told: Compromised) {
    const id = told.credential.slice(0, 8)
    const revoked = yield* Effect.result(devices.revoke(told.credential))
    if (revoked._tag === "Failure" && revoked.failure.reason !== "NotFound") {
      // Without an answer its user is told to revoke it here.
      return yield* Effect.logError(
        `Device ${id} says it is compromised and was not revoked: ${revoked.failure.message}`
      )
    }
    yield* Effect.logWarning(`COMPROMISED from device ${id}: it is revoked; all others stay`)
    yield* noted("device", told.credential)
    yield* Effect.forkIn(listener.acknowledge(told), scope)
  })

  const heard: Effect.Effect<never, Compromise.Burned> = Effect.forever(
    Effect.flatMap(listener.compromised, (told) =>
      Effect.flatMap(devices.get(told.credential), (device) =>
        Option.isSome(device) && device.value._tag === "Live" && device.value.role === "owner"
          ? burn("peer", [told])
          : lockOut(told)
      )
    )
  )
  const made: ServerCompromise = {
    request: Effect.andThen(Deferred.succeed(requested, undefined), Deferred.await(begun)),
    run: Effect.raceFirst(
      heard,
      Effect.andThen(
        Deferred.await(requested),
        Effect.suspend(() => burn("here", []))
      )
    ).pipe(
      Effect.catchCause((cause) =>
        // A bug on the way must not leave a server that holds its keys.
        Option.match(Cause.findErrorOption(cause), {
          onSome: Effect.fail,
          onNone: () =>
            Cause.hasInterruptsOnly(cause)
              ? Effect.interrupt
              : Effect.fail(new Compromise.Burned({ notified: 0, acknowledged: false, left: [Cause.pretty(cause)] }))
        })
      )
    )
  }
  return made
})
