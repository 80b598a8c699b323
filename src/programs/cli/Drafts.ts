/** `clawchat drafts`: what was said and not delivered yet; what a running chat keeps is that chat's. */
import { existsSync } from "node:fs"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Draft from "../../domain/Draft.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import * as Printable from "../../domain/Printable.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ChatSession from "../ChatSession.ts"
import type * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as Drafts from "../Drafts.ts"
import * as Chat from "./Chat.ts"
import * as Common from "./Common.ts"
import { ExitCode, Failure, failed, notFound, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Output from "./Output.ts"
import * as Tier from "./Tier.ts"

export interface ListInput extends Common.Globals {
  readonly json: boolean
}

/** Characters of a text in a table. */
const SHOWN = 60

const draftsFailure = ({ message, reason }: Drafts.DraftsError): Failure =>
  reason === "Io" ? failed(message) : new Failure({ code: ExitCode.TryAgain, message })

/** Whom this home is paired with. One that is not, burnt perhaps, may have drafts all the same; else nothing is made there. */
const identityOf = Effect.fnUntraced(function* (values: Values) {
  const identity = yield* Effect.result(Tier.identity(values))
  if (Result.isSuccess(identity)) return identity.success
  if (!existsSync(HomePaths.client(values.home).drafts)) return yield* identity.failure
  return undefined
})

/** The drafts of this home that nobody holds. */
const found = Effect.fnUntraced(function* (values: Values, identity: ClientIdentity.ClientIdentity | undefined) {
  const status = identity === undefined ? undefined : yield* Effect.option(identity.status)
  const server =
    status === undefined || Option.isNone(status) ? undefined : yield* Drafts.fingerprint(status.value, undefined)
  const open = Drafts.open(HomePaths.client(values.home), server ?? Drafts.NOBODY)
  const drafts = yield* Effect.mapError(open, draftsFailure)
  const { elsewhere, kept, unknown } = yield* Effect.mapError(drafts.adopt, draftsFailure)
  for (const path of unknown) yield* Output.note(Printable.line(`${path} is no draft that this version knows`))
  if (elsewhere > 0) yield* Output.note(`${elsewhere} more are kept by chats that run: /drafts there`)
  return { drafts, kept }
})

/** Those whose ids begin as given; none given: all. */
const pick = Effect.fnUntraced(function* (kept: ReadonlyArray<Drafts.Kept>, ids: ReadonlyArray<string>) {
  if (ids.length === 0) return kept
  const chosen = new Set<Drafts.Kept>()
  for (const id of ids) {
    const like = id === "" ? [] : kept.filter(({ draft }) => draft.id.startsWith(id.toLowerCase()))
    const [first] = like
    const name = Printable.line(id)
    if (first === undefined) return yield* notFound(`There is no draft ${name}: see clawchat drafts ls`)
    if (like.length > 1) return yield* usage(`${name} begins ${like.length} ids: give more digits`)
    chosen.add(first)
  }
  return kept.filter((each) => chosen.has(each))
})

export const ls = Effect.fnUntraced(
  function* (input: ListInput) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const { kept } = yield* found(values, yield* identityOf(values))
    if (input.json) {
      return yield* Output.json(
        kept.map(({ draft, foreign }) => ({
          id: draft.id,
          conversation: Draft.conversationOf(draft),
          created: draft.created,
          text: draft.request.text,
          foreign
        }))
      )
    }
    yield* Output.line(
      Output.table([
        ["ID", "CONVERSATION", "GIVEN", "FOR", "TEXT"],
        ...kept.map(({ draft, foreign }) => [
          draft.id.slice(0, 8),
          Draft.conversationOf(draft),
          new Date(draft.created).toISOString(),
          foreign ? "another server" : "this server",
          shortened(Printable.line(draft.request.text))
        ])
      ])
    )
  },
  Effect.scoped,
  Effect.provide(Layers.base)
)

const shortened = (text: string): string => (text.length > SHOWN ? `${text.slice(0, SHOWN - 1)}\u2026` : text)

export interface RemoveInput extends Common.Globals {
  readonly draft: ReadonlyArray<string>
  readonly all: boolean
}

export const rm = Effect.fnUntraced(
  function* (input: RemoveInput) {
    if (input.draft.length === 0 && !input.all) return yield* usage("Which one? Give an id, or --all")
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const { drafts, kept } = yield* found(values, yield* identityOf(values))
    const chosen = yield* pick(kept, input.all ? [] : input.draft)
    yield* Effect.forEach(chosen, (each) => Effect.mapError(drafts.drop(each), draftsFailure), { discard: true })
    yield* Output.note(`Dropped ${chosen.length}`)
  },
  Effect.scoped,
  Effect.provide(Layers.base)
)

export interface SendInput extends ListInput {
  readonly draft: ReadonlyArray<string>
  readonly timeout: number
}

/** What was meant for another server goes only when it is named. */
export const send = Effect.fnUntraced(
  function* (input: SendInput) {
    const values = yield* Common.settings("client", Common.globalFlags(input))
    const identity = yield* Tier.identity(values)
    const { drafts, kept } = yield* found(values, identity)
    const chosen = yield* pick(input.draft.length === 0 ? kept.filter(({ foreign }) => !foreign) : kept, input.draft)
    if (chosen.length === 0) return yield* Output.note("There is nothing to send")
    const link = yield* ClientLink.make({
      identity,
      pairing: undefined,
      deviceName: Common.deviceName(values),
      patience: ClientLink.patience(values.networking),
      rekeyIntervalMs: values.encryption.keyRotationIntervalMs,
      pauseMs: values.networking.retryIntervalMs,
      timeoutMs: input.timeout
    })
    const options = { link, conversation: "", timeoutMs: input.timeout, drafts, json: input.json, kept: chosen }
    yield* ChatSession.send(options).pipe(Effect.mapError(Chat.failure), Effect.provide(Chat.screen(values.home)))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
