/**
 * The server's line to the llm tier, over loopback and sealed like every other: kept up for ever, lost within seconds when
 * the tier goes away, there again within seconds when it comes back.
 */
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as SubscriptionRef from "effect/SubscriptionRef"
import type { LlmLinkState } from "../domain/ControlRpc.ts"
import type * as HomePaths from "../domain/HomePaths.ts"
import type { Address } from "../domain/protocol/Address.ts"
import { hex, text, utf8 } from "../domain/protocol/Cursor.ts"
import type { HintState } from "../domain/protocol/HintCounter.ts"
import type { KeyPair } from "../domain/protocol/Primitives.ts"
import { SecureFileStore } from "../services/SecureFileStore.ts"
import { type Connection, type LastWords, type Patience, Transport } from "../services/Transport.ts"
import * as Identity from "./Identity.ts"

/** Loopback: a silent second means trouble, and three mean that the tier is gone. */
export const PATIENCE: Patience = { keepAliveMs: 1000, deadAfterMs: 3000, idleTimeoutMs: 10_000 }
/**
 * Bytes: all streams of the link together stay within its session's 8 MiB, so that a device that does not read, or an
 * answer that nobody takes, holds up nobody else.
 */
export const STREAM_WINDOW = (8 * 1024 * 1024) / 64
/** Milliseconds of one dial, and between two of them. */
const DIAL_MS = 30_000
const PAUSE_MS = 500

const HintFile = Schema.fromJsonString(
  Schema.Struct({
    slot: Schema.Finite,
    answered: Schema.Finite,
    tried: Schema.Finite,
    others: Schema.optionalKey(Schema.Array(Schema.Tuple([Schema.Finite, Schema.Finite, Schema.Finite])))
  })
)
const decodeHints = Schema.decodeUnknownOption(HintFile)
const encodeHints = Schema.encodeSync(HintFile)

export interface LlmLink {
  /** The connection while there is one. */
  readonly connection: Effect.Effect<Option.Option<Connection>>
  /** Now and at each change. */
  readonly changes: Stream.Stream<LlmLinkState>
  readonly state: Effect.Effect<LlmLinkState>
  /** Wipes the link's keys, for good; what is left tells the llm tier. Nothing where there is no connection. */
  readonly compromise: Effect.Effect<ReadonlyArray<LastWords>>
}

/** Starts to keep the link up, in the scope it is made in. */
export const make = Effect.fn("LlmLink.make")(function* (options: {
  readonly paths: Pick<HomePaths.ServerPaths, "llmLink" | "llmPublicKey" | "llmHints">
  readonly identity: KeyPair
  readonly address: Address
  readonly name: string
  readonly announce: (line: string) => Effect.Effect<void>
}) {
  const { address, announce, identity, name, paths } = options
  const transport = yield* Transport
  const store = yield* SecureFileStore
  const link = yield* Identity.loadOrCreateLink(paths.llmLink)
  const now = yield* Clock.currentTimeMillis
  const current = yield* SubscriptionRef.make<Option.Option<Connection>>(Option.none())
  const state = yield* SubscriptionRef.make<LlmLinkState>({ connected: false, since: now })
  let key: Uint8Array | undefined
  let burnt = false

  const set = Effect.fnUntraced(function* (connection: Option.Option<Connection>) {
    yield* SubscriptionRef.set(current, connection)
    const since = yield* Clock.currentTimeMillis
    const named = key === undefined ? {} : { key: hex(key) }
    yield* SubscriptionRef.set(state, { connected: Option.isSome(connection), since, ...named })
  })

  const loadHints = store.read(paths.llmHints).pipe(
    Effect.map((bytes) => Option.flatMap(bytes, (content) => decodeHints(text(content)))),
    Effect.map(Option.getOrUndefined),
    Effect.orElseSucceed(() => undefined)
  )
  const keepHints = (states: ReadonlyArray<HintState | undefined>): Effect.Effect<void> =>
    states[0] === undefined ? Effect.void : Effect.ignore(store.write(paths.llmHints, utf8(encodeHints(states[0]))))

  /** One life of the link: dial, stay, lose. */
  const session = (serverKey: Uint8Array) =>
    Effect.scoped(
      Effect.gen(function* () {
        const connection = yield* transport.connect({
          invitations: Arr.of({ id: link.id, psk: link.psk, slot: undefined, serverKey, endpoints: [address] }),
          identity,
          deviceName: name,
          patience: PATIENCE,
          streamWindow: STREAM_WINDOW,
          timeoutMs: DIAL_MS,
          skewMs: 0,
          sweeps: false,
          hints: [yield* loadHints],
          keepHints,
          answered: () => Effect.void
        })
        yield* announce("LLM connection established")
        yield* set(Option.some(connection))
        yield* connection.closed
        // The socket is still needed for the last words.
        if (burnt) return yield* Effect.never
        yield* set(Option.none())
        yield* Effect.logWarning("LLM connection lost; trying again")
      })
    ).pipe(
      Effect.catch((error) => Effect.logInfo(`The llm tier does not answer yet: ${error.message}`)),
      Effect.andThen(Effect.sleep(PAUSE_MS)),
      Effect.forever
    )

  // The tier's key appears when it first starts and changes when it is made anew; each time the dial starts over.
  const keys = store.watch(paths.llmPublicKey).pipe(
    Stream.mapEffect(() => Effect.option(Identity.readKey(paths.llmPublicKey))),
    Stream.map(Option.flatten),
    Stream.filter(() => !burnt),
    // What COMPROMISED has ended may still be published, by a tier that does not know yet.
    Stream.map(Option.filter((key) => !Identity.isRefused(link, key))),
    Stream.changesWith((a, b) => Option.getOrElse(a, () => "").toString() === Option.getOrElse(b, () => "").toString())
  )
  yield* Effect.forkScoped(
    Stream.runDrain(
      Stream.switchMap(keys, (found) =>
        Stream.fromEffect(
          Effect.suspend(() => {
            key = Option.getOrUndefined(found)
            const dialling = key === undefined ? Effect.never : Effect.ensuring(session(key), set(Option.none()))
            return Effect.andThen(set(Option.none()), dialling)
          })
        )
      )
    )
  )

  const made: LlmLink = {
    connection: SubscriptionRef.get(current),
    changes: SubscriptionRef.changes(state),
    state: SubscriptionRef.get(state),
    compromise: Effect.gen(function* () {
      burnt = true
      const connection = yield* SubscriptionRef.get(current)
      return Option.isNone(connection) ? [] : [yield* connection.value.compromise]
    })
  }
  return made
})
