/**
 * A chat over a terminal or a pipe.
 *
 * At a terminal a person types while answers stream (`ChatTerminal`). In a pipe each line is a message, answered before the
 * next one is read. Answers and what commands print go to standard output, all else to standard error. Text from elsewhere
 * is cleaned here.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Queue from "effect/Queue"
import * as Stream from "effect/Stream"
import * as ChatInput from "../domain/ChatInput.ts"
import { ChatError, type Decision, maxTextBytes } from "../domain/ChatRpc.ts"
import type { Attachment } from "../domain/Llm.ts"
import * as Printable from "../domain/Printable.ts"
import * as Ask from "./Ask.ts"
import * as ChatCommands from "./ChatCommands.ts"
import * as ChatSteps from "./ChatSteps.ts"
import * as ChatTalk from "./ChatTalk.ts"
import * as ChatTerminal from "./ChatTerminal.ts"
import type { Link } from "./ClientLink.ts"
import type { DraftsError, Kept } from "./Drafts.ts"

/** Milliseconds of waiting before a person in front of a pipe is told of it. */
const NEWS_MS = 1000

/** Fails when the link can never come up, unless that is our own doing; else never ends. */
const hopeless = (link: Link, isOurs: () => boolean): Effect.Effect<never, ChatTalk.ChatFailure> =>
  link.changes.pipe(
    Stream.runForEach((state) =>
      state._tag === "Connecting" && state.reason?._tag === "UnpairedError" && !isOurs()
        ? Effect.fail(new ChatTalk.ChatFailure({ reason: "Unpaired", message: Printable.line(state.reason.message) }))
        : Effect.void
    ),
    Effect.andThen(Effect.never)
  )

// -- calls that wait --------------------------------------------------------------------------------------------------

/** Times that a person is asked anew who has not understood the question. */
const MAX_ASKED = 3

/** Asks a person at the terminal; undefined when there is none any more. */
const askPerson = Effect.fnUntraced(function* (chat: ChatTalk.Chat, event: ChatSteps.Approval) {
  const { screen } = chat
  const { isCut, text } = ChatSteps.approval(event)
  yield* screen.note(text)
  for (let times = 0; times < MAX_ASKED; times++) {
    const typed = yield* screen.ask(`${ChatSteps.question(event, isCut)}: `)
    if (typed === undefined) return undefined
    const meant = ChatSteps.decision(typed)
    if (meant === "view") yield* screen.note(ChatSteps.detail(event))
    else if (meant !== undefined && event.decisions.includes(meant)) return meant
  }
  return "deny" as const
})

/** Decides about a call where nobody types: as `--allow` says, else a person in front of the terminal, else not at all. */
const decide = Effect.fnUntraced(function* (
  chat: ChatTalk.Chat,
  options: ChatTalk.Options,
  event: ChatSteps.Approval
): Effect.fn.Return<Decision> {
  const needsPerson = !event.decisions.includes("conversation")
  if (!needsPerson && options.allow?.has(event.tool) === true) return "once"
  const said = chat.screen.asks ? yield* askPerson(chat, event) : undefined
  if (said !== undefined) return said
  const help = needsPerson ? "it needs a person at a terminal" : `--allow ${event.tool} allows it`
  yield* chat.screen.note(Printable.line(`denied, nobody is there to ask: ${event.summary} (${help})`))
  return "deny"
})

/** An answer whose calls are decided about as they come, while it is read on. */
const attended = (
  chat: ChatTalk.Chat,
  options: ChatTalk.Options,
  outputs: Stream.Stream<Ask.Output, ChatError>
): Stream.Stream<Ask.Output, ChatError> =>
  Stream.unwrap(
    Effect.gen(function* () {
      const open = yield* FiberMap.make<string>()
      return Stream.tap(outputs, (output) => {
        if (output._tag !== "Step") return Effect.void
        const { event } = output
        if (event._tag === "Decided") return FiberMap.remove(open, event.approvalId)
        if (event._tag !== "Approval") return Effect.void
        const decided = Effect.flatMap(decide(chat, options, event), (decision) =>
          ChatCommands.approve(chat.context(options.timeoutMs), event.approvalId, decision)
        ).pipe(Effect.catch(({ message }) => chat.screen.note(Printable.line(message))))
        return FiberMap.run(open, event.approvalId, decided)
      })
    })
  )

// -- pipes and single questions ---------------------------------------------------------------------------------------

/**
 * Consumes an answer that is not waited for longer than `timeoutMs` without a connection or without the llm tier. The
 * time that an assistant takes once it has begun is not limited here: it has limits of its own.
 */
const patiently = <A, E>(
  chat: ChatTalk.Chat,
  { link, timeoutMs }: ChatTalk.Options,
  answer: Stream.Stream<Ask.Output, ChatError>,
  consume: (outputs: Stream.Stream<Ask.Output, ChatError>) => Effect.Effect<A, E>
): Effect.Effect<A, E | ChatTalk.ChatFailure> =>
  Effect.gen(function* () {
    const waits = yield* Queue.unbounded<boolean>()
    let waiting: "line" | "tier" | "no" = "no"
    const outputs = answer.pipe(
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
      (): Effect.Effect<never, ChatTalk.ChatFailure> =>
        waiting === "line"
          ? Effect.mapError(ChatCommands.unreachable(link, timeoutMs), ChatTalk.ofCommandError)
          : Effect.fail(
              new ChatTalk.ChatFailure({
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

const keptAs = ({ kept }: ChatTalk.Message): string => {
  const id = kept?.draft.id.slice(0, 8)
  return `the message is kept: clawchat drafts send sends it, clawchat drafts rm ${id} drops it`
}

/**
 * Delivers one message. When this returns, or fails because nobody will ever take it, it is kept no longer; a failure that
 * leaves it kept says so.
 */
const deliver = (
  chat: ChatTalk.Chat,
  options: ChatTalk.Options,
  message: ChatTalk.Message,
  consume: (outputs: Stream.Stream<Ask.Output, ChatError>) => Effect.Effect<void, ChatError | ChatTalk.HungUp>
): Effect.Effect<void, ChatTalk.HungUp | ChatTalk.ChatFailure> => {
  const left = ({ message: why, reason }: ChatTalk.ChatFailure) =>
    new ChatTalk.ChatFailure({ reason, message: message.kept === undefined ? why : `${why}; ${keptAs(message)}` })
  const { conversation, messageId } = message.question
  // Nobody reads it any more: it is not to cost any more either.
  const stop = Effect.suspend(() => Ask.stop(options.link, conversation, messageId))
  return patiently(chat, options, attended(chat, options, Ask.ask(options.link, message.question)), consume).pipe(
    Effect.onInterrupt(() =>
      Effect.andThen(stop, message.kept === undefined ? Effect.void : chat.screen.note(keptAs(message)))
    ),
    Effect.matchEffect({
      onSuccess: () => chat.forget(message),
      onFailure: (error): Effect.Effect<never, ChatTalk.HungUp | ChatTalk.ChatFailure> => {
        if (error instanceof ChatTalk.ChatFailure) return Effect.fail(left(error))
        if (!(error instanceof ChatError)) {
          return stop.pipe(Effect.andThen(chat.forget(message)), Effect.andThen(Effect.fail(error)))
        }
        const failure = ChatTalk.ofChatError(error)
        return ChatTalk.isSettled(error)
          ? Effect.andThen(chat.forget(message), Effect.fail(failure))
          : Effect.fail(left(failure))
      }
    })
  )
}

/** What is kept of this conversation goes first; its answers are not for whoever reads our output. */
const first = Effect.fnUntraced(function* (chat: ChatTalk.Chat, options: ChatTalk.Options) {
  for (const kept of yield* chat.adopt) {
    const message = chat.ofKept(kept)
    if (message.question.conversation !== options.conversation) continue
    const failed = yield* deliver(chat, options, message, Stream.runDrain).pipe(
      Effect.as(undefined),
      Effect.catchTag("ChatFailure", (error) =>
        error.reason === "Failed" ? Effect.succeed(error.message) : Effect.fail(error)
      )
    )
    const id = kept.draft.id.slice(0, 8)
    yield* chat.screen.note(
      failed === undefined
        ? `sent ${id}, which was kept; its answer stands in the conversation`
        : `sent ${id}, which was kept: ${failed}`
    )
  }
})

const full = ({ message }: DraftsError) =>
  new ChatTalk.ChatFailure({ reason: "TryAgain", message: Printable.line(message) })

/** Each line is one message, answered before the next is read. Ends with the input; fails if a line was not answered. */
const piped = Effect.fnUntraced(function* (chat: ChatTalk.Chat, options: ChatTalk.Options) {
  const { screen } = chat
  let lines = 0
  let failures = 0
  let cause: ChatTalk.ChatFailure | undefined

  const one = Effect.fnUntraced(function* (line: string) {
    const compromise = chat.takeConfirmation()
    if (compromise !== undefined) {
      lines++
      return yield* Effect.mapError(chat.confirm(line, compromise), ChatTalk.ofCommandError)
    }
    const input = ChatInput.parse(line)
    if (input._tag === "Empty") return false
    lines++
    if (input._tag === "Command") {
      return yield* Effect.mapError(chat.command(input.name, input.argument, options.timeoutMs), (error) =>
        error._tag === "HungUp" ? error : ChatTalk.ofCommandError(error)
      )
    }
    const message = yield* Effect.mapError(chat.message(input.text), full)
    yield* deliver(chat, options, message, chat.print)
    return false
  })

  yield* first(chat, options)
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
    cause ??= error
  }
  if (chat.takeConfirmation() !== undefined) cause ??= ChatTalk.ofCommandError(ChatTalk.NOT_CONFIRMED)
  if (cause === undefined) return
  return yield* new ChatTalk.ChatFailure({
    reason: cause.reason,
    message: lines === 1 ? cause.message : `${failures} of ${lines} lines failed; the first: ${cause.message}`
  })
})

/**
 * Asks one question and prints its answer; `text` is `-` to take it from standard input. With `json` one value instead:
 * `{ text, provider, model, usage, cost, stopReason, calls: [{ tool, summary, failed }] }`. Interrupted, or when nobody
 * reads the answer any more, it is stopped.
 */
export const once = Effect.fn("ChatSession.once")(function* (
  options: ChatTalk.Options & {
    readonly text: string
    readonly json: boolean
    readonly attachments?: ReadonlyArray<Attachment>
  }
) {
  const chat = yield* ChatTalk.make(options)
  const given = options.text === "-" ? yield* chat.screen.rest(maxTextBytes + 1) : options.text
  const text = given.trimEnd()
  if (text.trim() === "")
    return yield* new ChatTalk.ChatFailure({ reason: "Usage", message: "there is no text to send" })
  const consume = options.json ? collect(chat) : chat.print
  yield* Effect.gen(function* () {
    const message = yield* Effect.mapError(chat.message(text, options.attachments), full)
    const { kept } = message
    yield* Effect.catchTag(first(chat, options), "ChatFailure", ({ message: why, reason }) => {
      const too = kept === undefined ? "" : `; so is this one, ${kept.draft.id.slice(0, 8)}`
      return Effect.fail(new ChatTalk.ChatFailure({ reason, message: `${why}${too}` }))
    })
    yield* deliver(chat, options, message, consume)
  }).pipe(
    Effect.raceFirst(hopeless(options.link, chat.isBurning)),
    Effect.catchTag("HungUp", () => Effect.void)
  )
})

/** Delivers what is kept, in this order, and prints the answers: text, or with `json` one value for each. */
export const send = Effect.fn("ChatSession.send")(function* (
  options: ChatTalk.Options & { readonly kept: ReadonlyArray<Kept>; readonly json: boolean }
) {
  const chat = yield* ChatTalk.make(options)
  const { json, kept } = options
  const one = (draft: Kept) =>
    Effect.gen(function* () {
      const message = chat.ofKept(draft)
      yield* chat.screen.note(Printable.clean(`> ${message.question.text}`))
      yield* deliver(chat, options, message, json ? collect(chat) : chat.print)
    })
  let failure: ChatTalk.ChatFailure | undefined
  const all = Effect.forEach(
    kept,
    (draft) =>
      Effect.catchTag(one(draft), "ChatFailure", (error) => {
        if (error.reason !== "Failed") return Effect.fail(error)
        failure ??= error
        return chat.screen.note(error.message)
      }),
    { discard: true }
  )
  yield* all.pipe(
    Effect.raceFirst(hopeless(options.link, chat.isBurning)),
    Effect.catchTag("HungUp", () => Effect.void)
  )
  if (failure !== undefined) return yield* failure
})

/** Prints the answer that is being made, or was made and not read, once; with `json` null where there is none. Ended early, it goes on. */
export const follow = Effect.fn("ChatSession.follow")(function* (
  options: ChatTalk.Options & { readonly json: boolean }
) {
  const chat = yield* ChatTalk.make(options)
  let asked: string | undefined
  const outputs = Stream.tap(Ask.follow(options.link, options.conversation), (output) => {
    if (output._tag !== "Step" || output.event._tag !== "Asked") return Effect.void
    asked = output.event.text
    return options.quiet === true ? Effect.void : chat.screen.note(Printable.clean(`> ${asked}`))
  })
  // Without a session nothing can be said of what there is.
  yield* patiently(chat, options, attended(chat, options, outputs), options.json ? collect(chat) : chat.print).pipe(
    Effect.onInterrupt(() => (asked === undefined ? Effect.void : chat.screen.note("the answer goes on"))),
    Effect.mapError((error) => (error instanceof ChatError ? ChatTalk.ofChatError(error) : error)),
    Effect.raceFirst(hopeless(options.link, chat.isBurning)),
    Effect.catchTag("HungUp", () => Effect.void)
  )
  if (asked !== undefined) return
  if (options.json) yield* Effect.ignore(chat.write("null\n"))
  else if (options.quiet !== true) yield* chat.screen.note("nothing is being answered here, and nothing is unread")
})

const collect =
  (chat: ChatTalk.Chat) =>
  (outputs: Stream.Stream<Ask.Output, ChatError>): Effect.Effect<void, ChatError | ChatTalk.HungUp> => {
    let text = ""
    let provider = ""
    let model = ""
    const calls = new Map<string, { readonly tool: string; readonly summary: string; failed: boolean }>()
    return Stream.runForEach(outputs, (output) => {
      switch (output._tag) {
        case "Started":
          provider = output.provider
          model = output.model
          return Effect.void
        case "Text":
          text += output.text
          return Effect.void
        case "Step": {
          const { event } = output
          if (event._tag === "Calling") {
            calls.set(event.callId, { tool: event.tool, summary: event.summary, failed: true })
          }
          const call = event._tag === "Called" ? calls.get(event.callId) : undefined
          if (call !== undefined && event._tag === "Called") call.failed = event.failed
          return chat.step(event)
        }
        case "Restarted":
          text = ""
          return Effect.void
        case "Waiting":
          return Effect.void
        case "Done": {
          const { cost = null, stopReason, usage } = output
          return chat.write(
            `${Printable.json({ text, provider, model, usage, cost, stopReason, calls: [...calls.values()] })}\n`
          )
        }
      }
    })
  }

/** A chat until the user leaves, or the input or the readers of the output end. */
export const run = Effect.fn("ChatSession.run")(function* (options: ChatTalk.Options) {
  const chat = yield* ChatTalk.make(options)
  const talk = chat.screen.interactive ? ChatTerminal.run(chat, options) : piped(chat, options)
  yield* talk.pipe(
    Effect.raceFirst(hopeless(options.link, chat.isBurning)),
    Effect.ensuring(chat.screen.prompt(undefined)),
    Effect.catchTag("HungUp", () => Effect.void)
  )
})
