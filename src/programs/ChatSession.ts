/**
 * A chat over a terminal or a pipe.
 *
 * At a terminal a person types while answers stream: one thing runs at a time, what is typed ahead waits in order, and
 * one loop decides on everything that happens. In a pipe each line is a message, answered before the next one is read.
 * Answers and what commands print go to standard output, all else to standard error. Text from elsewhere is cleaned here.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as ChatInput from "../domain/ChatInput.ts"
import { type ChatError, maxTextBytes } from "../domain/ChatRpc.ts"
import type { StopReason, Usage } from "../domain/Llm.ts"
import * as MessageId from "../domain/MessageId.ts"
import * as Printable from "../domain/Printable.ts"
import { Crypto } from "../services/Crypto.ts"
import { Screen } from "../services/Screen.ts"
import * as Ask from "./Ask.ts"
import * as ChatCommands from "./ChatCommands.ts"
import type { Link } from "./ClientLink.ts"
import * as LinkNotices from "./LinkNotices.ts"

/** Lines that may wait while an answer streams. */
const MAX_WAITING = 16
/** Milliseconds that a command at a terminal waits for what it asks of server and llm tier. */
const COMMAND_MS = 10_000
/** Milliseconds of waiting before a person in front of a pipe is told of it. */
const NEWS_MS = 1000
/** Milliseconds that a cancelled answer may take to let go. */
const CANCEL_MS = 1000

export interface Options {
  readonly link: Link
  readonly conversation: string
  /** Milliseconds that a question in a pipe or on the command line waits for a connection, and for the llm tier. */
  readonly timeoutMs: number
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

/** Standard output is gone: end, quietly. */
class HungUp extends Data.TaggedError("HungUp")<Record<never, never>> {}

const ofChatError = ({ message, reason }: ChatError): ChatFailure =>
  new ChatFailure({
    reason: reason === "Busy" || reason === "TierAway" ? "TryAgain" : "Failed",
    message: Printable.line(message)
  })

const ofCommandError = ({ message, reason }: ChatCommands.CommandError): ChatFailure =>
  new ChatFailure({ reason: reason === "TierAway" ? "TryAgain" : reason, message })

/** Fails when the link can never come up; else never ends. */
const hopeless = (link: Link): Effect.Effect<never, ChatFailure> =>
  link.changes.pipe(
    Stream.runForEach((state) =>
      state._tag === "Connecting" && state.reason?._tag === "UnpairedError"
        ? Effect.fail(new ChatFailure({ reason: "Unpaired", message: Printable.line(state.reason.message) }))
        : Effect.void
    ),
    Effect.andThen(Effect.never)
  )

/** What all three kinds of chat need. */
const make = Effect.fnUntraced(function* (options: Options) {
  const screen = yield* Screen
  const { entropy } = yield* Crypto
  let usage: Usage = { inputTokens: 0, outputTokens: 0 }
  let questions = 0
  /** Something stands on the last line of standard output. */
  let open = false

  const write = (text: string): Effect.Effect<void, HungUp> => {
    if (text === "") return Effect.void
    open = !text.endsWith("\n")
    return Effect.mapError(screen.write(text), () => new HungUp())
  }
  const endLine = Effect.suspend(() => (open ? write("\n") : Effect.void))

  const question = (text: string): Ask.Question => {
    questions++
    const { conversation } = options
    return { conversation, messageId: MessageId.fromEntropy(entropy(MessageId.ENTROPY_LENGTH)), text }
  }

  /** Streams an answer to the screen and ends its line, whatever becomes of it. */
  const answer = (outputs: Stream.Stream<Ask.Output, ChatError>): Effect.Effect<void, ChatError | HungUp> => {
    const filter = new Printable.Filter()
    let empty = true
    return outputs.pipe(
      Stream.runForEach((output) => {
        switch (output._tag) {
          case "Text":
            empty = false
            return write(filter.push(output.text))
          case "Restarted":
            return Effect.andThen(
              Effect.andThen(write(filter.end()), endLine),
              screen.note("the answer was broken off and begins anew")
            )
          case "Done":
            count(output.usage)
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

  const count = (more: Usage): void => {
    usage = {
      inputTokens: usage.inputTokens + more.inputTokens,
      outputTokens: usage.outputTokens + more.outputTokens
    }
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
    usage
  })

  /** Runs a slash command; true to leave. */
  const command = Effect.fnUntraced(function* (name: string, argument: string, timeoutMs: number) {
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
      case "Quit":
        return true
    }
  })

  return { screen, write, endLine, question, answer, command, context }
})

type Chat = Effect.Success<ReturnType<typeof make>>

// -- pipes and single questions ---------------------------------------------------------------------------------------

/**
 * Consumes an answer that is not waited for longer than `timeoutMs` without a connection or without the llm tier. The
 * time that an assistant takes once it has begun is not limited here: it has limits of its own.
 */
const patiently = <A, E>(
  chat: Chat,
  { link, timeoutMs }: Options,
  text: string,
  consume: (outputs: Stream.Stream<Ask.Output, ChatError>) => Effect.Effect<A, E>
): Effect.Effect<A, E | ChatFailure> =>
  Effect.gen(function* () {
    const waits = yield* Queue.unbounded<boolean>()
    let waiting: "line" | "tier" | "no" = "no"
    const outputs = Ask.ask(link, chat.question(text)).pipe(
      Stream.tap((output) => {
        const late = output._tag === "Waiting"
        const same = late === (waiting !== "no")
        waiting = late ? output.for : "no"
        return same ? Effect.void : Queue.offer(waits, late)
      })
    )
    // A connection that is just being made is no news.
    const say = Effect.sleep(Math.min(NEWS_MS, timeoutMs)).pipe(
      Effect.andThen(
        Effect.suspend(() =>
          chat.screen.note(waiting === "line" ? "waiting for a connection to the server" : "waiting for the assistant")
        )
      ),
      Effect.andThen(Effect.sleep(Math.max(0, timeoutMs - NEWS_MS)))
    )
    const giveUp = Effect.suspend(
      (): Effect.Effect<never, ChatFailure> =>
        waiting === "line"
          ? Effect.mapError(ChatCommands.unreachable(link, timeoutMs), ofCommandError)
          : Effect.fail(
              new ChatFailure({
                reason: "TryAgain",
                message: `the assistant did not come back within ${timeoutMs / 1000} s: try again later`
              })
            )
    )
    // From the first moment of waiting, whatever is waited for meanwhile, to the first word.
    const tooLong = Stream.fromQueue(waits).pipe(
      Stream.switchMap((late) => (late ? Stream.fromEffect(Effect.andThen(say, giveUp)) : Stream.empty)),
      Stream.runDrain,
      Effect.andThen(Effect.never)
    )
    return yield* Effect.raceFirst(consume(outputs), tooLong)
  })

/** Each line is one message, answered before the next is read. Ends with the input; fails if a line was not answered. */
const piped = Effect.fnUntraced(function* (chat: Chat, options: Options) {
  const { screen } = chat
  let lines = 0
  let failures = 0
  let first: ChatFailure | undefined

  const one = Effect.fnUntraced(function* (line: string) {
    const input = ChatInput.parse(line)
    if (input._tag === "Empty") return false
    lines++
    if (input._tag === "Command") {
      return yield* Effect.mapError(chat.command(input.name, input.argument, options.timeoutMs), (error) =>
        error._tag === "HungUp" ? error : ofCommandError(error)
      )
    }
    yield* Effect.mapError(patiently(chat, options, input.text, chat.answer), (error) =>
      error._tag === "ChatError" ? ofChatError(error) : error
    )
    return false
  })

  while (true) {
    const input = yield* Effect.catchIf(screen.input, Cause.isDone, () => Effect.succeed(undefined))
    if (input === undefined) break
    if (input._tag === "Interrupt") continue
    const result = yield* Effect.result(one(input.text))
    if (result._tag === "Success") {
      if (result.success) break
      continue
    }
    const error = result.failure
    // The next line would only wait as long again.
    if (error._tag === "HungUp" || error.reason === "Unreachable" || error.reason === "TryAgain") return yield* error
    yield* screen.note(error.message)
    failures++
    first ??= error
  }
  if (first === undefined) return
  return yield* new ChatFailure({
    reason: first.reason,
    message: lines === 1 ? first.message : `${failures} of ${lines} lines failed; the first: ${first.message}`
  })
})

/**
 * Asks one question and prints its answer; `text` is `-` to take it from standard input. With `json` one value instead:
 * `{ text, provider, model, usage, stopReason }`.
 */
export const once = Effect.fn("ChatSession.once")(function* (
  options: Options & { readonly text: string; readonly json: boolean }
) {
  const chat = yield* make(options)
  const given = options.text === "-" ? yield* chat.screen.rest(maxTextBytes + 1) : options.text
  const text = given.trimEnd()
  if (text.trim() === "") return yield* new ChatFailure({ reason: "Usage", message: "there is no text to send" })
  const consume = options.json ? collect(chat) : chat.answer
  yield* patiently(chat, options, text, consume).pipe(
    Effect.raceFirst(hopeless(options.link)),
    Effect.catchTag("HungUp", () => Effect.void),
    Effect.catchTag("ChatError", (error) => Effect.fail(ofChatError(error)))
  )
})

const collect =
  (chat: Chat) =>
  (outputs: Stream.Stream<Ask.Output, ChatError>): Effect.Effect<void, ChatError | HungUp> => {
    let text = ""
    let provider = ""
    let model = ""
    return Stream.runForEach(outputs, (output) => {
      switch (output._tag) {
        case "Started":
          provider = output.provider
          model = output.model
          return Effect.void
        case "Text":
          text += output.text
          return Effect.void
        case "Restarted":
          text = ""
          return Effect.void
        case "Waiting":
          return Effect.void
        case "Done": {
          const { stopReason, usage } = output
          return chat.write(`${Printable.json({ text, provider, model, usage, stopReason })}\n`)
        }
      }
    })
  }

// -- a person at a terminal -------------------------------------------------------------------------------------------

type Event =
  | { readonly _tag: "Line"; readonly text: string }
  | { readonly _tag: "Interrupt" }
  | { readonly _tag: "Left" }
  | { readonly _tag: "Notice"; readonly notice: LinkNotices.Notice }
  /** Job number `job` is over; `leave` after `/quit`. */
  | { readonly _tag: "Over"; readonly job: number; readonly leave: boolean }
  | { readonly _tag: "HungUp" }

const interactive = Effect.fnUntraced(function* (chat: Chat, options: Options) {
  const { screen } = chat
  const { conversation, link } = options
  const events = yield* Queue.unbounded<Event>()
  const emit = (event: Event) => Queue.offer(events, event)

  yield* screen.input.pipe(
    Effect.flatMap(emit),
    Effect.forever,
    Effect.catchIf(Cause.isDone, () => emit({ _tag: "Left" })),
    Effect.forkScoped
  )
  yield* Effect.forkScoped(Stream.runForEach(LinkNotices.changes(link), (notice) => emit({ _tag: "Notice", notice })))

  const waiting: Array<{ readonly text: string; readonly late: boolean }> = []
  /** Lines so far of a message that goes on. */
  let draft: string | undefined
  let running: { readonly job: number; readonly fiber: Fiber.Fiber<unknown, unknown> } | undefined
  let jobs = 0
  let line: "connecting" | "up" | "offline" = "connecting"
  let tierIsAway = false

  const prompt = Effect.suspend(() => {
    if (running !== undefined) return screen.prompt(undefined)
    if (draft !== undefined) return screen.prompt("... ")
    const state = line === "up" ? (tierIsAway ? " (assistant away)" : "") : ` (${line})`
    return screen.prompt(`${conversation}${state}> `)
  })

  const job = (text: string): Effect.Effect<boolean, ChatError | ChatCommands.CommandError | HungUp> => {
    const input = ChatInput.parse(text)
    switch (input._tag) {
      case "Empty":
        return Effect.succeed(false)
      case "Command":
        return chat.command(input.name, input.argument, COMMAND_MS)
      case "Message":
        return Effect.as(chat.answer(Ask.ask(link, chat.question(input.text))), false)
    }
  }

  const next = Effect.gen(function* () {
    const first = running === undefined ? waiting.shift() : undefined
    if (first !== undefined) {
      const number = ++jobs
      const { late, text } = first
      yield* screen.prompt(undefined)
      // It was typed while something else stood on the screen, perhaps unseen.
      if (late) yield* screen.note(Printable.clean(`> ${text}`))
      const fiber = yield* job(text).pipe(
        Effect.catchTag(["ChatError", "CommandError"], (error) =>
          Effect.as(screen.note(Printable.line(error.message)), false)
        ),
        Effect.flatMap((leave) => emit({ _tag: "Over", job: number, leave })),
        Effect.catchTag("HungUp", () => emit({ _tag: "HungUp" })),
        Effect.forkScoped
      )
      running = { job: number, fiber }
    }
    yield* prompt
  })

  const onLine = Effect.fnUntraced(function* (typed: string) {
    const whole = draft === undefined ? typed : `${draft}\n${typed}`
    draft = ChatInput.continued(whole)
    if (draft !== undefined || ChatInput.parse(whole)._tag === "Empty") return
    if (waiting.length >= MAX_WAITING) {
      return yield* screen.note(`not taken: ${MAX_WAITING} lines wait already`)
    }
    waiting.push({ text: whole, late: running !== undefined })
  })

  const onInterrupt = Effect.gen(function* () {
    if (running !== undefined) {
      // Letting go goes on in the background if a bad line holds it up.
      yield* Effect.timeoutOption(Fiber.interrupt(running.fiber), CANCEL_MS)
      running = undefined
      yield* chat.endLine
      return yield* screen.note("(cancelled)")
    }
    const hadDraft = draft !== undefined
    draft = undefined
    if (!(yield* screen.discard) && !hadDraft) yield* screen.note("press Ctrl-D to leave")
  })

  const onNotice = Effect.fnUntraced(function* (notice: LinkNotices.Notice) {
    switch (notice._tag) {
      case "Up":
        line = "up"
        yield* Effect.forkScoped(
          ChatCommands.greeting(chat.context(COMMAND_MS), notice.session).pipe(
            Effect.flatMap((lines) => screen.note([...lines, "/help lists what can be done"].join("\n"))),
            // The line is gone again already: that is a notice of its own.
            Effect.ignore
          )
        )
        break
      case "Back":
        line = "up"
        break
      case "Lost":
        line = "offline"
        break
      case "Trying":
        line = "offline"
        break
      case "TierAway":
        tierIsAway = true
        break
      case "TierBack":
        tierIsAway = false
        break
    }
    const text = LinkNotices.text(notice)
    if (text !== undefined) yield* screen.note(text)
  })

  yield* prompt
  while (true) {
    const event = yield* Queue.take(events)
    switch (event._tag) {
      case "Line":
        yield* onLine(event.text)
        break
      case "Interrupt":
        yield* onInterrupt
        break
      case "Notice":
        yield* onNotice(event.notice)
        break
      case "Over":
        if (event.job !== running?.job) break
        running = undefined
        if (event.leave) return
        break
      case "Left":
        return yield* chat.endLine
      case "HungUp":
        return
    }
    yield* next
  }
}, Effect.scoped)

/** A chat until the user leaves, or the input or the readers of the output end. */
export const run = Effect.fn("ChatSession.run")(function* (options: Options) {
  const chat = yield* make(options)
  const talk = chat.screen.interactive ? interactive(chat, options) : piped(chat, options)
  yield* talk.pipe(
    Effect.raceFirst(hopeless(options.link)),
    Effect.ensuring(chat.screen.prompt(undefined)),
    Effect.catchTag("HungUp", () => Effect.void)
  )
})
