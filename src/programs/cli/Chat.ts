/** `clawchat chat` and `clawchat client`: a conversation at a terminal, through a pipe, or one message. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ScreenNode from "../../layers/ScreenNode.ts"
import * as ChatSession from "../ChatSession.ts"
import type * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as Common from "./Common.ts"
import { ExitCode, Failure } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Pair from "./Pair.ts"
import * as Tier from "./Tier.ts"

const CODE: Record<ChatSession.ChatFailure["reason"], ExitCode> = {
  Unpaired: ExitCode.Denied,
  Unreachable: ExitCode.Unreachable,
  TryAgain: ExitCode.TryAgain,
  Failed: ExitCode.Failed,
  Usage: ExitCode.Usage
}

export interface Conversation {
  readonly values: Values
  /** The client's home. */
  readonly home: string
  readonly identity: ClientIdentity.ClientIdentity
  /** A credential file to come in with first. */
  readonly pairing: ClientIdentity.Pairing | undefined
  readonly conversation: string
  readonly timeoutMs: number
  /** One message instead of a conversation; `-` is all of stdin. */
  readonly once?: { readonly text: string; readonly json: boolean }
}

/** Talks over a link that it keeps up for as long as the talk lasts. */
export const converse = Effect.fnUntraced(function* (options: Conversation) {
  const { conversation, home, identity, once, pairing, timeoutMs, values } = options
  const link = yield* ClientLink.make({
    identity,
    pairing,
    deviceName: Common.deviceName(values),
    patience: ClientLink.patience(values.networking),
    pauseMs: values.networking.retryIntervalMs,
    timeoutMs
  })
  const talk =
    once === undefined
      ? ChatSession.run({ link, conversation, timeoutMs })
      : ChatSession.once({ link, conversation, timeoutMs, ...once })
  yield* Effect.provide(talk, ScreenNode.layer({ historyPath: HomePaths.join(home, "history") })).pipe(
    Effect.mapError(({ message, reason }) => new Failure({ code: CODE[reason], message }))
  )
}, Effect.scoped)

export interface Input extends Common.Globals {
  readonly conversation: string
  readonly sec: Option.Option<string>
  readonly keyFile: Option.Option<string>
  readonly name: Option.Option<string>
  readonly timeout: number
  readonly json: boolean
  readonly text: ReadonlyArray<string>
}

export const run = Effect.fnUntraced(
  function* ({ conversation, json, keyFile, name, sec, text, timeout, ...globals }: Input) {
    const flags = { ...Common.globalFlags(globals), name: Option.getOrUndefined(name) }
    const values = yield* Common.settings("client", flags)
    const identity = yield* Option.match(sec, {
      onNone: () => Tier.identity(values),
      onSome: (file) => Pair.paired(values, file, keyFile, timeout)
    })
    const once = text.length === 0 ? {} : { once: { text: text.join(" "), json } }
    yield* converse({
      values,
      home: values.home,
      identity,
      pairing: undefined,
      conversation,
      timeoutMs: timeout,
      ...once
    })
  },
  Effect.scoped,
  Effect.provide(Layers.network)
)

export interface ClientInput extends Omit<Input, "json" | "text"> {
  readonly file: Option.Option<string>
}

export const client = ({ file, ...input }: ClientInput) =>
  run({ ...input, sec: Option.orElse(file, () => input.sec), json: false, text: [] })
