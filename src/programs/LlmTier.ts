/** The llm tier: listens on loopback for the one server that it is tied to, and answers Chat on the streams spliced to it. */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { maxAttachmentBytes } from "../domain/ChatRpc.ts"
import type { Status } from "../domain/ControlRpc.ts"
import type * as HomePaths from "../domain/HomePaths.ts"
import { isLast, LlmRpc } from "../domain/LlmRpc.ts"
import { type Address, format } from "../domain/protocol/Address.ts"
import type { Admission } from "../domain/protocol/Credential.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import type { Archive } from "../services/Archive.ts"
import type { ContextStore } from "../services/ContextStore.ts"
import type { Conversations } from "../services/Conversations.ts"
import type { Crypto } from "../services/Crypto.ts"
import type { LlmLegs } from "../services/LlmLegs.ts"
import type { LlmProvider } from "../services/LlmProvider.ts"
import type { MemoryStore } from "../services/MemoryStore.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import {
  type Compromised,
  type Connection,
  type Notice,
  Transport,
  type TransportError,
  type TransportStream
} from "../services/Transport.ts"
import type { UsageStore } from "../services/UsageStore.ts"
import * as Alarms from "./Alarms.ts"
import { Assistant } from "./Assistant.ts"
import * as Burn from "./Burn.ts"
import * as Chat from "./Chat.ts"
import * as Compromise from "./Compromise.ts"
import * as Cron from "./Cron.ts"
import * as HistoryReport from "./HistoryReport.ts"
import * as Identity from "./Identity.ts"
import { PATIENCE, STREAM_WINDOW } from "./LlmLink.ts"
import * as MemoryReport from "./MemoryReport.ts"
import type { Meter } from "./Metered.ts"
import * as NonceLog from "./NonceLog.ts"
import * as RpcStream from "./RpcStream.ts"
import * as SealedTier from "./SealedTier.ts"
import { take } from "./StreamReader.ts"
import * as UsageReport from "./UsageReport.ts"

export interface Options {
  readonly paths: HomePaths.LlmPaths
  readonly version: string
  readonly pid: number
  readonly bind: Address
}

export interface LlmTier {
  readonly address: Address
  readonly status: Effect.Effect<Status>
  /** Serves for ever; `Burned` when the server's keys were burnt and so are these now. */
  readonly run: Effect.Effect<never, TransportError | Compromise.Burned>
}

/** Bytes of one message: a question with all the attachments that it may have, in base64. */
const MAX_LINE_BYTES = 2 * 1024 * 1024 + Math.ceil(maxAttachmentBytes / 3) * 4

/** What the procedures of this tier need. */
type Handled =
  | Assistant
  | Conversations
  | Archive
  | ContextStore
  | Cron.Cron
  | LlmLegs
  | LlmProvider
  | MemoryStore
  | Meter
  | UsageStore

/** One server, which reconnects before its old session is given up. */
const MAX_SESSIONS = 8

export const make = Effect.fn("LlmTier.make")(function* (options: Options) {
  const { paths, version } = options
  const transport = yield* Transport
  const store = yield* SecureFileStore
  const startedAt = yield* Clock.currentTimeMillis
  const plan = Burn.llm(paths)
  yield* Burn.finish(plan, () => Effect.void)
  yield* Burn.refuseReturned(plan)
  const identity = yield* Identity.loadOrCreateStatic(paths.staticKey)
  const alarms = yield* Alarms.make()
  let link = yield* Identity.loadOrCreateLink(paths.llmLink)
  const nonces = yield* NonceLog.open(paths.nonces)
  let serverKey = Option.none<Uint8Array>()
  let burning = false
  const refused = yield* Deferred.make<void>()
  const sessions = yield* SubscriptionRef.make(0)
  const seal = yield* SealedTier.make({ identity, folder: paths.devices, alarms })

  // The server's key appears when it first starts; until then nobody is expected. Where each tier is a user of its own
  // both make a link at their first start, and the server's takes the place of this one.
  const admission = Effect.gen(function* () {
    link = Option.getOrElse(yield* Identity.readLink(paths.llmLink), () => link)
    if (Identity.isRefused(link, identity.publicKey)) yield* Deferred.succeed(refused, undefined)
    // A server that burns its files still has to say so.
    serverKey = Option.orElse(
      Option.flatten(yield* Effect.option(Identity.readKey(paths.serverPublicKey))),
      () => serverKey
    )
    return Option.toArray(serverKey).map(
      (staticKey): Admission => ({
        id: link.id,
        psk: link.psk,
        slot: undefined,
        staticKey,
        validUntil: Number.POSITIVE_INFINITY
      })
    )
  })
  const admissions = Stream.merge(store.watch(paths.serverPublicKey), store.watch(paths.llmLink)).pipe(
    Stream.mapEffect(() => admission),
    Stream.provideService(SecureFileStore, store)
  )
  const notice = (event: Notice): Effect.Effect<void> =>
    event.type === "Opened"
      ? Effect.logInfo("The server is connected")
      : event.type === "Stranger"
        ? alarms.say(
            "stranger",
            Effect.logWarning,
            "ALARM: the link's secret was used by something that is not the server"
          )
        : Effect.void

  const listener = yield* transport.listen({
    bind: options.bind,
    identity,
    patience: PATIENCE,
    streamWindow: STREAM_WINDOW,
    maxSessions: MAX_SESSIONS,
    admissions,
    seenNonces: nonces.seen,
    remember: (seen) => Effect.catch(nonces.remember(seen), (error) => Effect.logError(error.message)),
    enrolment: Effect.die(new Error("the llm tier enrols nobody")),
    enrol: () => Effect.succeed(false),
    notice
  })
  // Only now: who finds the key finds a tier that listens.
  yield* Identity.publishKey(paths.llmPublicKey, identity.publicKey)
  // A server that makes itself a new identity clears the folder of what it finds there.
  yield* Effect.forkScoped(
    Stream.runForEach(
      Stream.filter(store.watch(paths.llmPublicKey), () => !burning),
      () =>
        Effect.catch(Identity.publishKey(paths.llmPublicKey, identity.publicKey), (error) =>
          Effect.logError(error.message)
        )
    ).pipe(Effect.provideService(SecureFileStore, store))
  )

  const services = yield* Effect.context<Handled>()
  const assistant = yield* Assistant
  const isRunning = (conversation: string) =>
    Effect.map(assistant.queue(conversation), (questions) => questions.length > 0)
  const handlers = Layer.mergeAll(
    Chat.layerHandlers({ version }),
    HistoryReport.layerHandlers({ isRunning }),
    MemoryReport.layerHandlers,
    Cron.layerHandlers,
    UsageReport.layerHandlers
  ).pipe(Layer.provide(Layer.succeedContext(services)))

  const serveStream = Effect.fnUntraced(function* (stream: TransportStream) {
    const { head, rest } = yield* take(stream, StreamHeader.LLM_TIER_HEADER_LENGTH)
    if (head[0] !== StreamHeader.LLM || head[1] !== StreamHeader.LLM_VERSION) {
      yield* stream.reset(StreamHeader.Code.Unknown)
      return yield* stream.stop(StreamHeader.Code.Unknown)
    }
    const sealed = yield* seal.accept(rest, head.subarray(2), head.subarray(0, 2))
    if (Option.isSome(sealed))
      yield* Effect.provide(RpcStream.serve(LlmRpc, sealed.value, { maxLineBytes: MAX_LINE_BYTES, isLast }), handlers)
  })

  const serveConnection = Effect.fnUntraced(function* (connection: Connection) {
    yield* SubscriptionRef.update(sessions, (n) => n + 1)
    const streams = yield* FiberSet.make()
    const accept = Effect.forever(
      Effect.flatMap(connection.accept, (stream) =>
        FiberSet.run(
          streams,
          Effect.catch(serveStream(stream), (error) =>
            Cause.isDone(error) ? stream.finish : stream.reset(StreamHeader.Code.Cancelled)
          )
        )
      )
    )
    yield* Effect.ensuring(
      Effect.ignore(accept),
      SubscriptionRef.update(sessions, (n) => n - 1)
    )
    yield* Effect.logInfo("The server is gone; waiting for it")
  }, Effect.scoped)

  // The server says that its keys are burnt, or, to a tier that was away then, its new link does.
  const context = yield* Effect.context<Crypto | SecureFileStore>()
  const burn = Effect.fnUntraced(function* (told: ReadonlyArray<Compromised>) {
    burning = true
    const outcome = yield* Compromise.carryOut({
      plan,
      about: { cause: "peer" },
      seal: Effect.map(listener.compromise(told), (words) => [words]),
      wipe: Effect.sync(() => {
        identity.privateKey.fill(0)
        link.psk.fill(0)
      }),
      answers: told.length > 0
    })
    yield* Effect.logWarning("COMPROMISED: the server's keys were burnt, and so are those of this tier")
    return yield* new Compromise.Burned(outcome)
  }, Effect.provideContext(context))
  const burned = Effect.raceFirst(
    Effect.flatMap(listener.compromised, (told) => burn([told])),
    Effect.andThen(
      Deferred.await(refused),
      Effect.suspend(() => burn([]))
    )
  )

  const connections = yield* FiberSet.make()
  const serve = Effect.forever(
    Effect.flatMap(listener.accept, (connection) => FiberSet.run(connections, serveConnection(connection)))
  )
  const tier: LlmTier = {
    address: listener.address,
    status: Effect.gen(function* () {
      const drops = yield* listener.drops
      const now = yield* Clock.currentTimeMillis
      return {
        tier: "llm",
        version,
        name: "llm",
        pid: options.pid,
        uptimeMs: now - startedAt,
        address: format(listener.address),
        sessions: yield* SubscriptionRef.get(sessions),
        drops: { ...drops }
      }
    }),
    run: Effect.raceFirst(serve, burned)
  }
  return tier
})
