/**
 * What every kind of chat needs: a screen to write on, questions with ids, answers shown as they come, commands. What a
 * person is to have said is kept on disk before it is sent, where there are drafts, and forgotten once its end was seen.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import { type ChatError, maxTextBytes } from "../domain/ChatRpc.ts"
import { type Attachment, addUsage, noUsage, type StopReason, type Usage } from "../domain/Llm.ts"
import * as MessageId from "../domain/MessageId.ts"
import * as Printable from "../domain/Printable.ts"
import { Crypto } from "../services/Crypto.ts"
import { Screen } from "../services/Screen.ts"
import type * as Ask from "./Ask.ts"
import * as ChatCommands from "./ChatCommands.ts"
import * as ChatSteps from "./ChatSteps.ts"
import type { Link } from "./ClientLink.ts"
import type { Drafts, Kept } from "./Drafts.ts"
import type { Question } from "./Question.ts"

export interface Options {
  readonly link: Link
  readonly conversation: string
  /** Milliseconds that a question in a pipe or on the command line waits for a connection, and for the llm tier. */
  readonly timeoutMs: number
  /** Where messages are kept until they are answered; without it they are not. */
  readonly drafts?: Drafts
  /** Say nothing of what happens on the way to an answer. */
  readonly quiet?: boolean
  /** Tools that may be called without asking, once for each call, where no person attends. */
  readonly allow?: ReadonlySet<string>
  /** Reads a file of this host that is to go with a message; fails with a line for people. */
  readonly attach?: (path: string) => Effect.Effect<Attachment, AttachError>
  /** COMPROMISED: burns this home and tells the server; lines for people. Without it the command is not there. */
  readonly compromise?: Effect.Effect<ReadonlyArray<string>>
}

/**
 * Why a chat ended that should have gone on, and the exit code that suits:
 * - `Unpaired`: this home knows no server (4).
 * - `Unreachable`: no connection within the time (69).
 * - `TryAgain`: the llm tier is away, or too busy (75).
 * - `Failed`: the question was refused, or its answer failed (1).
 * - `Usage`: there was nothing to ask (2).
 */
export class ChatFailure extends Data.TaggedError("ChatFailure")<{
  readonly reason: "Unpaired" | "Unreachable" | "TryAgain" | "Failed" | "Usage"
  /** One line for people, printable. */
  readonly message: string
}> {}

/** A file that cannot be attached. */
export class AttachError extends Data.TaggedError("AttachError")<{ readonly message: string }> {}

/** A question, and its draft where it has one. */
export interface Message {
  readonly question: Question
  readonly kept: Kept | undefined
}

/** Whether a failed question is settled: the llm tier has it, or will never take it. Else the same id may be asked again. */
export const isSettled = ({ reason }: ChatError): boolean =>
  reason === "LlmFailed" ||
  reason === "TooLong" ||
  reason === "Conflict" ||
  reason === "Stopped" ||
  reason === "NotFound"

/** "1 message", "3 messages". */
export const messages = (count: number): string => (count === 1 ? "1 message" : `${count} messages`)

const CONFIRMATION =
  "This burns all keys of this device; if it is the owner's, also those of the server and every other device. It cannot be undone.\nType YES to do it; anything else does nothing."
export const NOT_CONFIRMED = new ChatCommands.CommandError({
  reason: "Failed",
  message: "nothing was done: the answer was not YES"
})

/** Standard output is gone: end, quietly. */
export class HungUp extends Data.TaggedError("HungUp")<Record<never, never>> {}

export const ofChatError = ({ message, reason }: ChatError): ChatFailure =>
  new ChatFailure({
    reason: reason === "Busy" || reason === "TierAway" ? "TryAgain" : "Failed",
    message: Printable.line(message)
  })

export const ofCommandError = ({ message, reason }: ChatCommands.CommandError): ChatFailure =>
  new ChatFailure({ reason: reason === "TierAway" ? "TryAgain" : reason, message })

const bytesOf = (text: string): number => new TextEncoder().encode(text).length

/** For one chat. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const screen = yield* Screen
  const { entropy } = yield* Crypto
  let usage: Usage = noUsage
  let cost: number | undefined
  let questions = 0
  /** Something stands on the last line of standard output. */
  let open = false
  /** Calls that were denied and have no result yet. */
  const denied = new Set<string>()
  let confirms: Effect.Effect<ReadonlyArray<string>> | undefined
  let burns = false

  const write = (text: string): Effect.Effect<void, HungUp> => {
    if (text === "") return Effect.void
    open = !text.endsWith("\n")
    return Effect.mapError(screen.write(text), () => new HungUp())
  }
  const endLine = Effect.suspend(() => (open ? write("\n") : Effect.void))

  const freshId = (): string => MessageId.fromEntropy(entropy(MessageId.ENTROPY_LENGTH))

  /** A new message; when this returns it is kept, or the user has been told that it is not. `Full` is a failure. */
  const message = Effect.fnUntraced(function* (text: string, attachments: ReadonlyArray<Attachment> = []) {
    const { conversation, drafts } = options
    const messageId = freshId()
    const more = attachments.length === 0 ? {} : { attachments }
    // One that is too long will be refused.
    const keep =
      drafts === undefined || bytesOf(text) > maxTextBytes
        ? Effect.void
        : Effect.catchIf(
            drafts.keep(messageId, { _tag: "Chat.Send", conversation, text, ...more }),
            ({ reason }) => reason !== "Full",
            (error) => screen.note(Printable.line(`not kept, and lost if this program ends now: ${error.message}`))
          )
    const kept = (yield* keep) ?? undefined
    questions++
    return { question: { conversation, messageId, text, ...more }, kept } satisfies Message
  })

  const ofKept = (kept: Kept): Message => {
    questions++
    const { _tag, ...request } = kept.draft.request
    return { question: { ...request, messageId: kept.draft.id }, kept }
  }

  /** Nothing of it will be sent again. */
  const forget = ({ kept }: Message): Effect.Effect<void> =>
    kept === undefined || options.drafts === undefined
      ? Effect.void
      : Effect.catch(options.drafts.drop(kept), ({ message }) =>
          screen.note(Printable.line(`a message that was answered will be asked for once more: ${message}`))
        )

  /** What processes that are gone have left for this server, in order; tells of what is left for others. */
  const adopt = Effect.gen(function* () {
    if (options.drafts === undefined) return []
    const found = yield* Effect.result(options.drafts.adopt)
    if (Result.isFailure(found)) {
      yield* screen.note(Printable.line(`what an earlier chat has kept cannot be read: ${found.failure.message}`))
      return []
    }
    const { kept, unknown } = found.success
    const foreign = kept.filter((each) => each.foreign).length
    if (foreign > 0) yield* screen.note(`${messages(foreign)} kept for another server: see clawchat drafts ls`)
    for (const path of unknown) {
      yield* screen.note(Printable.line(`${path} is no draft that this version knows, and is left alone`))
    }
    return kept.filter((each) => !each.foreign)
  })

  /** Tells of what happens on the way: below what stands there, where both go to one terminal. */
  const step = (event: Ask.StepEvent): Effect.Effect<void, HungUp> => {
    if (event._tag === "Decided" && event.decision === "deny") denied.add(event.callId)
    // That it was not done has been said.
    if (event._tag === "Called" && denied.delete(event.callId)) return Effect.void
    const line = options.quiet === true ? undefined : ChatSteps.line(event)
    if (line === undefined) return Effect.void
    return Effect.andThen(screen.interactive ? endLine : Effect.void, screen.note(line))
  }

  /** Streams an answer to the screen and ends its line, whatever becomes of it. `listen` is told of each step. */
  const answer = (
    outputs: Stream.Stream<Ask.Output, ChatError>,
    listen: (event: Ask.StepEvent) => Effect.Effect<void, HungUp> = () => Effect.void
  ): Effect.Effect<void, ChatError | HungUp> => {
    const filter = new Printable.Filter()
    let empty = true
    /** Other lines stand between what was written and what follows. */
    let parted = false
    return outputs.pipe(
      Stream.runForEach((output) => {
        switch (output._tag) {
          case "Text": {
            const clean = filter.push(output.text)
            const text = parted ? clean.replace(/^\n+/, "") : clean
            if (text === "") return Effect.void
            empty = false
            parted = false
            return write(text)
          }
          case "Step":
            if (screen.interactive && options.quiet !== true) parted = true
            return Effect.andThen(step(output.event), listen(output.event))
          case "Restarted":
            return Effect.andThen(
              Effect.andThen(write(filter.end()), endLine),
              screen.note("the answer was broken off and begins anew")
            )
          case "Done":
            count(output)
            return write(empty ? "\n" : filter.end()).pipe(
              Effect.andThen(endLine),
              Effect.andThen(ending(output.stopReason))
            )
          default:
            return Effect.void
        }
      }),
      Effect.tapError((error) => (error._tag === "HungUp" ? Effect.void : endLine))
    )
  }

  /** The same where steps are of no further concern. */
  const print = (outputs: Stream.Stream<Ask.Output, ChatError>) => answer(outputs)

  const count = (done: Extract<Ask.Output, { _tag: "Done" }>): void => {
    usage = addUsage(usage, done.usage)
    if (done.cost !== undefined) cost = (cost ?? 0) + done.cost
  }

  const ending = (reason: StopReason): Effect.Effect<void> => {
    if (reason === "length") return screen.note("the answer was cut off at the limit of its length")
    return reason === "filtered" ? screen.note("the provider withheld the rest of the answer") : Effect.void
  }

  const context = (timeoutMs: number): ChatCommands.Context => ({
    link: options.link,
    conversation: options.conversation,
    timeoutMs,
    questions,
    usage,
    cost
  })

  /** Runs a slash command; true to leave. `drafts` shows or drops what is kept; it is the terminal's. */
  const command = Effect.fnUntraced(function* (
    name: string,
    argument: string,
    timeoutMs: number,
    drafts: (argument: string) => Effect.Effect<void, HungUp> = () =>
      screen.note("/drafts is for a chat at a terminal: clawchat drafts ls")
  ) {
    const result = yield* ChatCommands.run(name, argument, context(timeoutMs))
    switch (result._tag) {
      case "Text":
        yield* write(`${result.text}\n`)
        return false
      case "Hint":
        yield* screen.note(result.text)
        return false
      case "Clear":
        yield* screen.clear
        open = false
        return false
      case "Drafts":
        yield* drafts(result.argument)
        return false
      case "Quit":
        return true
      case "Compromise":
        if (options.compromise === undefined) {
          yield* screen.note("/compromised is not for this chat: clawchat compromised")
          return false
        }
        if (result.confirmed) return yield* burn(options.compromise)
        confirms = options.compromise
        yield* screen.note(CONFIRMATION)
        return false
    }
  })

  const burn = Effect.fnUntraced(function* (compromise: Effect.Effect<ReadonlyArray<string>>) {
    burns = true
    const lines = yield* Effect.uninterruptible(compromise)
    yield* screen.note(lines.join("\n"))
    return true
  })

  /** What is to be burnt when the next line is YES; asked for once. */
  const takeConfirmation = (): Effect.Effect<ReadonlyArray<string>> | undefined => {
    const compromise = confirms
    confirms = undefined
    return compromise
  }

  /** The line after `/compromised`; true to leave. */
  const confirm = (
    text: string,
    compromise: Effect.Effect<ReadonlyArray<string>>
  ): Effect.Effect<boolean, ChatCommands.CommandError> =>
    text.trim() === "YES" ? burn(compromise) : Effect.fail(NOT_CONFIRMED)

  const isConfirming = (): boolean => confirms !== undefined

  const isBurning = (): boolean => burns

  return {
    screen,
    write,
    endLine,
    step,
    freshId,
    message,
    ofKept,
    forget,
    adopt,
    answer,
    print,
    command,
    context,
    isConfirming,
    takeConfirmation,
    confirm,
    isBurning
  }
})

export type Chat = Effect.Success<ReturnType<typeof make>>
