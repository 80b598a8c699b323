/** The slash commands of a chat: what each prints. Those that change more than the screen are carried out elsewhere. */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type ChatMessage, type Decision, maxHistory } from "../domain/ChatRpc.ts"
import type { Usage } from "../domain/Llm.ts"
import * as Printable from "../domain/Printable.ts"
import * as Address from "../domain/protocol/Address.ts"
import * as StreamHeader from "../domain/StreamHeader.ts"
import { TransportError } from "../services/Transport.ts"
import * as ChatReports from "./ChatReports.ts"
import type { ChatClient, Link, Session } from "./ClientLink.ts"
import * as LostLine from "./LostLine.ts"

/** Messages that `/history` shows when no number is given. */
const HISTORY = 20

export type Result =
  | { readonly _tag: "Text"; readonly text: string }
  /** Not a command: one line that helps. */
  | { readonly _tag: "Hint"; readonly text: string }
  | { readonly _tag: "Clear" }
  /** Shows what is kept, or drops some of it. */
  | { readonly _tag: "Drafts"; readonly argument: string }
  | { readonly _tag: "Quit" }
  /** COMPROMISED; `confirmed` when YES was typed with it. */
  | { readonly _tag: "Compromise"; readonly confirmed: boolean }

/**
 * - `Unreachable`: there is no connection.
 * - `TierAway`: the llm tier did not answer.
 * - `Failed`: one of the two refused or does not understand.
 */
export class CommandError extends Data.TaggedError("CommandError")<{
  readonly reason: "Unreachable" | "TierAway" | "Failed"
  /** One line for people, printable. */
  readonly message: string
}> {}

export interface Context {
  readonly link: Link
  readonly conversation: string
  /** Milliseconds that one answer of server or llm tier may take. */
  readonly timeoutMs: number
  /** Of the questions asked so far. */
  readonly questions: number
  readonly usage: Usage
  /** US dollars, where it is known. */
  readonly cost: number | undefined
}

const HELP = [
  ["/help", "this list"],
  ["/status", "server, device, connection, assistant, conversation"],
  ["/history [N]", `the last N messages, ${HISTORY} if N is not given`],
  ["/stop [all]", "stop the answer, as Ctrl-C does; all: those that wait too"],
  ["/queue", "questions that are being answered or wait"],
  ["/retry", "take the last question back, and ask it again"],
  ["/edit TEXT", "take the last question back, and ask this in its place"],
  ["/attach FILE...", "send images or texts with the next message; /attach drop forgets them"],
  ["/model", "who answers, why, and which models there are"],
  ["/context", "the files that the assistant knows you by, and what they cost"],
  ["/reload", "which of them are in force now: they are read anew for each answer"],
  ["/memory", "what it remembers; search WORDS, log, undo [N], add TEXT"],
  ["/cron", "scheduled work: clawchat cron changes it"],
  ["/usage", "what this chat, today and this month have cost, and the budgets"],
  ["/drafts [drop N]", "messages that wait to be sent; drop N, or all"],
  ["/clear", "clear the screen; the conversation is kept"],
  ["/compromised", "burn all keys, here and at the server; asks for YES"],
  ["/quit", "leave, as Ctrl-D does"]
] as const

const { rows } = ChatReports

/** Seconds are enough; `ms` comes from another machine and may be anything. */
const utc = (ms: number): string => {
  const date = new Date(ms)
  return Number.isNaN(date.getTime()) ? "unknown" : `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`
}

const bytes = (count: number): string =>
  count < 1024
    ? `${count} B`
    : count < 1024 ** 2
      ? `${(count / 1024).toFixed(1)} KiB`
      : `${(count / 1024 ** 2).toFixed(1)} MiB`

const messages = (count: number): string => (count === 1 ? "1 message" : `${count} messages`)

const messageOf = (error: unknown): string =>
  Printable.line(error instanceof Error && error.message !== "" ? error.message : String(error))

/** Typed errors and defects alike (the stock RPC client reports failed writes as defects), within the time. */
const settle = <A, E>(effect: Effect.Effect<A, E>, context: Context, who: string): Effect.Effect<A, CommandError> =>
  effect.pipe(
    Effect.catchCause((cause) => {
      const error = Cause.squash(cause)
      if (error instanceof CommandError) return Effect.fail(error)
      const sentence = LostLine.sentence(error)
      return Effect.fail(
        new CommandError({
          reason: sentence === LostLine.LOST ? "Unreachable" : "Failed",
          message: sentence ?? messageOf(error)
        })
      )
    }),
    Effect.timeoutOrElse({
      duration: context.timeoutMs,
      orElse: () => Effect.fail(new CommandError({ reason: "TierAway", message: `${who} does not answer` }))
    })
  )

const session = Effect.fnUntraced(function* (context: Context) {
  const found = yield* Effect.timeoutOption(context.link.session, context.timeoutMs)
  if (Option.isSome(found)) return found.value
  return yield* unreachable(context.link, context.timeoutMs)
})

/** Why there is still no session after `timeoutMs`. */
export const unreachable = (link: Link, timeoutMs: number): Effect.Effect<never, CommandError> =>
  Effect.flatMap(link.state, (state) => {
    const why = state._tag === "Connecting" && state.reason !== undefined ? `: ${state.reason.message}` : ""
    return Effect.fail(
      new CommandError({
        reason: "Unreachable",
        message: Printable.line(`no connection to the server after ${timeoutMs / 1000} s${why}`)
      })
    )
  })

const away = new CommandError({ reason: "TierAway", message: "the assistant is away: try again in a moment" })

/** Asks the llm tier, on a stream of its own. */
const withChat = <A, E>(
  context: Context,
  current: Session,
  use: (chat: ChatClient) => Effect.Effect<A, E>
): Effect.Effect<A, CommandError> =>
  settle(
    Effect.scoped(
      Effect.gen(function* () {
        const { chat, failure } = yield* current.openChat
        // A failed call learns of its stream's end first; the reason follows.
        const call = Effect.catchCause(use(chat), (cause) =>
          Effect.raceFirst(failure, Effect.andThen(Effect.sleep(500), Effect.failCause(cause)))
        )
        return yield* Effect.raceFirst(call, failure)
      })
    ).pipe(
      // The llm tier was started anew since: the next stream begins with a handshake.
      Effect.retry({ times: 1, while: isForgotten }),
      Effect.catchIf(isTierAway, () => Effect.fail(away))
    ),
    context,
    "the assistant"
  )

const isForgotten = (error: unknown): boolean =>
  error instanceof TransportError && error.reason === "Reset" && error.code === StreamHeader.Code.Renew

const isTierAway = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "TierAwayError"

const status = Effect.fnUntraced(function* (context: Context) {
  const current = yield* session(context)
  const { connection } = current
  const server = yield* settle(current.server["Control.Status"](undefined), context, "the server")
  const remote = yield* connection.remote
  const stats = yield* connection.stats
  const tier = yield* Effect.result(
    withChat(context, current, (chat) =>
      Effect.all({ status: chat["Chat.Status"](undefined), conversations: chat["Chat.Conversations"](undefined) })
    )
  )
  const { you } = server
  const link = server.llm
  const reach = link === undefined ? "unknown" : `${link.connected ? "connected" : "away"} since ${utc(link.since)}`
  const traffic = `${bytes(stats.sentBytes)} sent, ${bytes(stats.receivedBytes)} received`
  const lines: Array<readonly [string, string]> = [
    ["server", `${server.name} at ${Address.format(remote)}, version ${server.version}`],
    [
      "device",
      you === undefined ? connection.credential.slice(0, 8) : `${you.name} (${you.role}), ${you.device.slice(0, 8)}`
    ],
    ["connection", `up, round trip ${stats.rttMs.toFixed(1)} ms, ${traffic}`],
    ["assistant", tier._tag === "Success" ? reach : `${reach}; ${tier.failure.message}`]
  ]
  if (tier._tag === "Success") {
    const { conversations, status: chat } = tier.success
    const count = conversations.find(({ name }) => name === context.conversation)?.messages ?? 0
    lines.push(
      ["model", `${chat.provider} ${chat.model}`],
      ["conversation", `${context.conversation}, ${messages(count)}`]
    )
  } else {
    lines.push(["conversation", context.conversation])
  }
  return rows(lines)
})

const transcript = (list: ReadonlyArray<ChatMessage>): string =>
  list
    .map(({ role, status: state, text }) => {
      const mark = state === "complete" ? "" : ` (${state})`
      return `${role === "user" ? "you" : "assistant"}${mark}: ${Printable.clean(text).trimEnd()}`
    })
    .join("\n")

const history = Effect.fnUntraced(function* (context: Context, argument: string) {
  const wanted = argument.trim() === "" ? HISTORY : Number(argument)
  if (!Number.isInteger(wanted) || wanted < 1) return hint("/history takes a number of messages: /history 50")
  const current = yield* session(context)
  const list = yield* withChat(context, current, (chat) =>
    chat["Chat.History"]({ conversation: context.conversation, limit: Math.min(wanted, maxHistory) })
  )
  return said(list.length === 0 ? "nothing has been said in this conversation yet" : transcript(list))
})

/** Asks the llm tier once there is a session. */
const call = <A, E>(context: Context, use: (chat: ChatClient) => Effect.Effect<A, E>): Effect.Effect<A, CommandError> =>
  Effect.flatMap(session(context), (current) => withChat(context, current, use))

/** Decides about a call that waits. */
export const approve = (context: Context, approvalId: string, decision: Decision): Effect.Effect<void, CommandError> =>
  call(context, (chat) => chat["Chat.Approve"]({ approvalId, decision }))

const report = <E>(
  context: Context,
  text: (chat: ChatClient) => Effect.Effect<string, E>
): Effect.Effect<Result, CommandError> => Effect.map(call(context, text), said)

const hint = (text: string): Result => ({ _tag: "Hint", text })
const said = (text: string): Result => ({ _tag: "Text", text })

/** `name` and `argument` as `ChatInput.parse` gives them. */
export const run = (name: string, argument: string, context: Context): Effect.Effect<Result, CommandError> => {
  switch (name) {
    case "help":
      return Effect.succeed(said(rows(HELP)))
    case "status":
      return Effect.map(status(context), said)
    case "history":
      return history(context, argument)
    case "model":
      return report(context, ChatReports.model)
    case "context":
      return report(context, ChatReports.context)
    case "reload":
      return report(context, ChatReports.reload)
    case "memory":
      return report(context, (chat) => ChatReports.memory(chat, argument))
    case "cron":
      return report(context, ChatReports.cron)
    case "queue":
      return report(context, (chat) => ChatReports.queue(chat, context.conversation))
    case "usage":
      // What this chat has counted is known without anybody.
      return Effect.result(call(context, (chat) => ChatReports.usage(chat, context.conversation))).pipe(
        Effect.map((told) => (told._tag === "Success" ? told.success : `its record: ${told.failure.message}`)),
        Effect.map((told) => said(`${ChatReports.session(context)}\n${told}`))
      )
    case "stop":
    case "retry":
    case "edit":
    case "attach":
      return Effect.succeed(hint(`/${name} is for a chat at a terminal`))
    case "drafts":
      return Effect.succeed({ _tag: "Drafts", argument: argument.trim() })
    case "clear":
      return Effect.succeed({ _tag: "Clear" })
    case "compromised":
      return Effect.succeed({ _tag: "Compromise", confirmed: argument.trim() === "YES" })
    case "quit":
    case "exit":
      return Effect.succeed({ _tag: "Quit" })
    default:
      return Effect.succeed(
        hint(`there is no command /${Printable.line(name)}: see /help (a text that begins with / is sent with //)`)
      )
  }
}

/** What greets a person once connected: one line on the server, one on who answers. */
export const greeting = Effect.fnUntraced(function* (context: Context, current: Session) {
  const server = yield* settle(current.server["Control.Status"](undefined), context, "the server")
  const { you } = server
  const as = you === undefined ? "" : ` as ${you.name} (${you.role})`
  const first = Printable.line(`connected to ${server.name}${as}`)
  if (server.llm?.connected === false) return [first]
  const tier = yield* Effect.result(withChat(context, current, (chat) => chat["Chat.Status"](undefined)))
  return tier._tag === "Success"
    ? [first, Printable.line(`${[...new Set([tier.success.provider, tier.success.model])].join(" ")} answers`)]
    : [first]
})
