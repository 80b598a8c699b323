/** `clawchat chat` and `clawchat client`: a conversation at a terminal, through a pipe, or one message. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as AnswerFile from "../../domain/AnswerFile.ts"
import { ConversationName } from "../../domain/ChatRpc.ts"
import { ToolName } from "../../domain/CronJob.ts"
import * as HomePaths from "../../domain/HomePaths.ts"
import type { Attachment } from "../../domain/Llm.ts"
import * as Printable from "../../domain/Printable.ts"
import type { Values } from "../../domain/Settings.ts"
import * as ScreenNode from "../../layers/ScreenNode.ts"
import { Screen } from "../../services/Screen.ts"
import { Transport } from "../../services/Transport.ts"
import * as ChatSession from "../ChatSession.ts"
import type * as ChatTalk from "../ChatTalk.ts"
import * as ClientCompromise from "../ClientCompromise.ts"
import type * as ClientIdentity from "../ClientIdentity.ts"
import * as ClientLink from "../ClientLink.ts"
import * as ClockSkew from "../ClockSkew.ts"
import * as Drafts from "../Drafts.ts"
import * as Answer from "./Answer.ts"
import * as Attachments from "./Attachments.ts"
import * as Common from "./Common.ts"
import { denied, ExitCode, Failure, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as Pair from "./Pair.ts"
import * as Tier from "./Tier.ts"
import * as WaysTried from "./WaysTried.ts"

const CODE: Record<ChatTalk.ChatFailure["reason"], ExitCode> = {
  Unpaired: ExitCode.Denied,
  Unreachable: ExitCode.Unreachable,
  TryAgain: ExitCode.TryAgain,
  Failed: ExitCode.Failed,
  Usage: ExitCode.Usage
}

export const failure = ({ message, reason }: ChatTalk.ChatFailure): Failure =>
  new Failure({ code: CODE[reason], message })

export interface Conversation {
  readonly values: Values
  /** The client's, which on a server's home is not the home of `values`. */
  readonly home: string
  /** Keep messages until they are answered; a chat at a terminal always does. */
  readonly keep: boolean
  readonly identity: ClientIdentity.ClientIdentity
  /** A credential file to come in with first. */
  readonly pairing: ClientIdentity.Pairing | undefined
  readonly conversation: string
  readonly timeoutMs: number
  /** One message instead of a conversation; `-` is all of stdin. */
  readonly once?: { readonly text: string; readonly json: boolean; readonly attachments: ReadonlyArray<Attachment> }
  /** Only the answer that is being made, or that nobody has read. */
  readonly follow?: { readonly json: boolean }
  readonly quiet?: boolean
  /** Tools that may be called without asking. */
  readonly allow?: ReadonlySet<string>
  /** Where to write answer files while the server cannot be reached. */
  readonly answer?: string | undefined
  /** What to do after COMPROMISED, where it is not to fetch a credential file by hand. */
  readonly next?: string
}

/** The terminal or the pipes of a chat, whose history is kept in a home. One for a process: it reads standard input. */
export const screen = (home: string) => ScreenNode.layer({ historyPath: HomePaths.join(home, "history") })

/** Where messages are kept. A person may talk without; who asked for it may not. */
const draftsOf = Effect.fnUntraced(function* ({ home, identity, keep, pairing }: Conversation) {
  const status = yield* Effect.orElseSucceed(identity.status, () => ({ _tag: "Unpaired" }) as const)
  const server = yield* Drafts.fingerprint(status, pairing)
  if (server === undefined) return undefined
  const opened = yield* Effect.result(Drafts.open(HomePaths.client(home), server))
  if (Result.isSuccess(opened)) return opened.success
  const { message, reason } = opened.failure
  if (keep) {
    return yield* new Failure({ code: reason === "Io" ? ExitCode.Failed : ExitCode.TryAgain, message })
  }
  const { note } = yield* Screen
  yield* note(Printable.line(`messages are not kept while they wait: ${message}`))
  return undefined
})

/**
 * Talks over a link that it keeps up for as long as the talk lasts. Answers `burnt` when this home's keys were burnt by
 * somebody else meanwhile: the server, or another process.
 */
export const converse = Effect.fnUntraced(function* (options: Conversation) {
  const { allow, conversation, follow, identity, keep, next, once, pairing, quiet = false, timeoutMs, values } = options
  const { interactive, note } = yield* Screen
  const ways = yield* WaysTried.make(note)
  const write = options.answer === undefined ? undefined : yield* Answer.writer(options.answer, note)
  let isTold = false
  const link = yield* ClientLink.make({
    identity,
    pairing,
    skewed: (skewMs) => {
      if (isTold) return Effect.void
      isTold = true
      return note(`warning: ${ClockSkew.sentence(skewMs)}`)
    },
    deviceName: Common.deviceName(values),
    patience: ClientLink.patience(values.networking),
    rekeyIntervalMs: values.encryption.keyRotationIntervalMs,
    progress: ways.progress,
    answer: write === undefined ? undefined : { stun: values.networking.stun, write },
    pauseMs: values.networking.retryIntervalMs,
    timeoutMs
  })
  yield* Effect.forkScoped(Effect.raceFirst(ways.show, Effect.asVoid(link.session)))
  // While the first attempt is on its way.
  const drafts =
    keep || (once === undefined && follow === undefined && interactive) ? yield* draftsOf(options) : undefined
  const kept = drafts === undefined ? {} : { drafts }
  let ours = false
  const transport = yield* Transport
  const compromise = Effect.gen(function* () {
    ours = true
    const status = yield* Effect.orElseSucceed(identity.status, () => undefined)
    const server = status === undefined || status._tag === "Unpaired" ? undefined : status.server
    const state = yield* link.state
    const outcome = yield* ClientCompromise.burn({
      identity,
      deviceName: Common.deviceName(values),
      patience: ClientLink.patience(values.networking),
      ...(state._tag === "Connected" ? { live: state.session.compromise } : {})
    })
    return ClientCompromise.report(outcome, server, next)
  }).pipe(Effect.provideService(Transport, transport))
  const shared = { link, conversation, timeoutMs, quiet, ...(allow === undefined ? {} : { allow }), ...kept }
  const talk =
    follow !== undefined
      ? ChatSession.follow({ ...shared, ...follow })
      : once === undefined
        ? ChatSession.run({ ...shared, compromise, attach: Attachments.read })
        : ChatSession.once({ ...shared, ...once })
  const burnt = Effect.andThen(
    identity.burnt,
    Effect.suspend(() => (ours ? Effect.never : Effect.succeed("burnt" as const)))
  )
  const left = Effect.as(talk, "left" as const)
  return yield* Effect.mapError(Effect.raceFirst(left, burnt), failure)
}, Effect.scoped)

export interface Input extends Common.Globals {
  readonly conversation: string
  readonly sec: Option.Option<string>
  readonly keyFile: Option.Option<string>
  readonly name: Option.Option<string>
  readonly answer: Option.Option<string>
  readonly timeout: number
  readonly json: boolean
  readonly keep: boolean
  readonly quiet: boolean
  readonly follow: boolean
  readonly allow: ReadonlyArray<string>
  readonly attach: ReadonlyArray<string>
  readonly text: ReadonlyArray<string>
}

const isConversation = Schema.is(ConversationName)
const isTool = Schema.is(ToolName)

/** The tools that `--allow` names, once or several times, with commas between them. */
const allowed = Effect.fnUntraced(function* (given: ReadonlyArray<string>) {
  const names = given.flatMap((each) => each.split(",")).map((each) => each.trim())
  const wrong = names.find((each) => !isTool(each))
  if (wrong === undefined) return new Set(names)
  return yield* usage(`--allow: expected names of tools such as file_write,file_move, got ${JSON.stringify(wrong)}`)
})

/** What makes no sense together is said before anything is connected. */
const check = Effect.fnUntraced(function* (input: Pick<Input, "conversation" | "follow" | "attach" | "keep" | "text">) {
  const { attach, conversation, follow, keep, text } = input
  if (!isConversation(conversation)) {
    const got = JSON.stringify(conversation)
    return yield* usage(
      `--conversation: expected 1 to 64 letters, digits, spaces, dots, underscores and hyphens, got ${got}`
    )
  }
  if (follow && (text.length > 0 || attach.length > 0 || keep)) {
    return yield* usage("--follow prints an answer to what was asked before: give it no text, --attach or --keep")
  }
  if (attach.length > 0 && text.length === 0) {
    return yield* usage("--attach goes with a message: clawchat chat --attach FILE TEXT, or /attach in a chat")
  }
})

export const run = Effect.fnUntraced(
  function* (input: Input) {
    const {
      allow,
      answer,
      attach,
      conversation,
      follow,
      json,
      keep,
      keyFile,
      name,
      quiet,
      sec,
      text,
      timeout,
      ...globals
    } = input
    yield* check(input)
    const tools = yield* allowed(allow)
    const attachments = yield* Attachments.readAll(attach)
    const flags = { ...Common.globalFlags(globals), name: Option.getOrUndefined(name) }
    const values = yield* Common.settings("client", flags)
    const byHand = Option.getOrUndefined(answer)
    // A way that was opened by hand is this process's: who pairs by it must go on by it.
    const pairing =
      byHand !== undefined && Option.isSome(sec) ? yield* Pair.open(values, sec.value, keyFile) : undefined
    const identity = yield* Option.match(sec, {
      onNone: () => Tier.identity(values),
      onSome: (file) => (pairing === undefined ? Pair.paired(values, file, keyFile, timeout) : Pair.identity(values))
    })
    const once = text.length === 0 ? {} : { once: { text: text.join(" "), json, attachments } }
    const end = yield* converse({
      values,
      home: values.home,
      keep,
      identity,
      pairing,
      conversation,
      answer: byHand,
      timeoutMs: byHand === undefined ? timeout : AnswerFile.VALIDITY_MS,
      quiet,
      allow: tools,
      ...(follow ? { follow: { json } } : {}),
      ...once
    }).pipe(Effect.provide(screen(values.home)))
    if (end === "burnt") return yield* denied(ClientCompromise.BURNT)
  },
  Effect.scoped,
  Effect.provide(Layers.networkLate)
)

export interface ClientInput extends Omit<Input, "json" | "keep" | "text" | "quiet" | "follow" | "allow" | "attach"> {
  readonly file: Option.Option<string>
}

export const client = ({ file, ...input }: ClientInput) =>
  run({
    ...input,
    sec: Option.orElse(file, () => input.sec),
    json: false,
    keep: false,
    quiet: false,
    follow: false,
    allow: [],
    attach: [],
    text: []
  })
