/** `clawchat chat` and `clawchat client`. */
import { randomUUID } from "node:crypto"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Values } from "../../domain/Settings.ts"
import { ask } from "../Ask.ts"
import * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as Common from "./Common.ts"
import { failed } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Pair from "./Pair.ts"

export interface Input extends Common.Globals {
  readonly conversation: string
  readonly sec: Option.Option<string>
  readonly keyFile: Option.Option<string>
  readonly timeout: number
  readonly json: boolean
  readonly text: ReadonlyArray<string>
}

export const converse = Effect.fnUntraced(function* (options: {
  readonly values: Values
  readonly identity: ClientIdentity.ClientIdentity
  readonly pairing: ClientIdentity.Pairing | undefined
  readonly conversation: string
  readonly name: string
  readonly timeoutMs: number
  readonly home: string
}) {
  const link = yield* ClientLink.make({
    identity: options.identity,
    pairing: options.pairing,
    deviceName: options.name,
    patience: ClientLink.PATIENCE,
    timeoutMs: options.timeoutMs
  })
  for (const text of ["hello", "what time is it"]) {
    yield* Stream.runForEach(ask(link, { conversation: options.conversation, messageId: randomUUID(), text }), (o) =>
      Output.line(JSON.stringify(o))
    ).pipe(Effect.mapError((e) => failed(e.message)))
  }
})

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const identity = yield* Effect.mapError(ClientIdentity.make(HomePaths.client(values.home)), ({ message }) =>
      failed(message)
    )
    const pairing = Option.isSome(input.sec) ? yield* Pair.open(values, input.sec.value, input.keyFile) : undefined
    yield* converse({
      values,
      identity,
      pairing,
      conversation: input.conversation,
      name: "x",
      timeoutMs: input.timeout,
      home: values.home
    })
  },
  Effect.scoped,
  Effect.provide(Layers.network)
)

export const client = (input: Omit<Input, "json" | "text"> & { readonly file: Option.Option<string> }) =>
  run({ ...input, json: false, text: [] })
