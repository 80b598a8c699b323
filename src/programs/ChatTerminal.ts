/**
 * A person at a terminal, who types while answers stream: one thing runs at a time, what is typed ahead waits in order, and
 * one loop decides on everything that happens. Messages wait for the line and for the assistant, commands do not.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberHandle from "effect/FiberHandle"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as ChatInput from "../domain/ChatInput.ts"
import type { ChatError } from "../domain/ChatRpc.ts"
import * as Printable from "../domain/Printable.ts"
import * as Ask from "./Ask.ts"
import * as ChatAway from "./ChatAway.ts"
import * as ChatCommands from "./ChatCommands.ts"
import { ChatDecisions } from "./ChatDecisions.ts"
import * as ChatDelivery from "./ChatDelivery.ts"
import { ChatFiles } from "./ChatFiles.ts"
import { again, asksBack, header, type Item, isSpeech, ofFound, ofMessage, rows } from "./ChatItems.ts"
import * as ChatSteps from "./ChatSteps.ts"
import * as ChatTalk from "./ChatTalk.ts"
import * as LinkNotices from "./LinkNotices.ts"

/** Lines that may wait while an answer streams, or the line is away. */
const MAX_WAITING = 16
/** Milliseconds that a command at a terminal waits for what it asks of server and llm tier. */
const COMMAND_MS = 10_000
/** Milliseconds that a cancelled answer may take to let go. */
const CANCEL_MS = 1000

type Event =
  | { readonly _tag: "Line"; readonly text: string }
  | { readonly _tag: "Interrupt" }
  | { readonly _tag: "Left" }
  | { readonly _tag: "Notice"; readonly notice: LinkNotices.Notice }
  | { readonly _tag: "Progress"; readonly progress: LinkNotices.Progress | undefined }
  /** Job number `job` is over; `leave` after `/quit`. */
  | { readonly _tag: "Over"; readonly job: number; readonly leave: boolean }
  | { readonly _tag: "HungUp" }
  /** A call of the answer of job number `job` waits for a decision; without `approval` no longer. */
  | { readonly _tag: "Approval"; readonly job: number; readonly approval: ChatSteps.Approval | undefined }
  /** What was decided could not be told. */
  | { readonly _tag: "Undecided" }
  /** An answer that nobody has read to its end. */
  | { readonly _tag: "Found"; readonly found: ChatAway.Found }
  | { readonly _tag: "Result"; readonly result: ChatAway.Result }

/** What is done right now; one thing at a time. */
interface Running {
  readonly job: number
  readonly item: Item
  readonly fiber: Fiber.Fiber<unknown, unknown>
}

/** Until the user leaves, or the readers of the output end. */
export const run = Effect.fnUntraced(function* (chat: ChatTalk.Chat, options: ChatTalk.Options) {
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
  yield* Effect.forkScoped(
    Stream.runForEach(LinkNotices.progress(link), (progress) => emit({ _tag: "Progress", progress }))
  )

  let waiting: Array<Item> = []
  /** Lines so far of a message that goes on. */
  let partial: string | undefined
  let running: Running | undefined
  let jobs = 0
  let line: "connecting" | "up" | "offline" = "connecting"
  let tierIsAway = false
  let progress: LinkNotices.Progress | undefined
  let shown: string | undefined
  let results: ReadonlyArray<ChatAway.Result> = []
  const decisions = new ChatDecisions(chat, COMMAND_MS, emit({ _tag: "Undecided" }))
  const files = new ChatFiles(screen, options.attach)
  const showResult = ChatAway.shower(chat)
  /** Somebody should ask whether there is an answer that nobody has read. */
  let isFollowDue = false
  const heard = new ChatAway.Heard()
  const following = yield* FiberHandle.make()
  const resulting = yield* FiberHandle.make()

  const isReady = (): boolean => line === "up" && !tierIsAway

  const state = (): string => {
    const parts: Array<string> = line === "up" ? (tierIsAway ? ["assistant away"] : []) : [line]
    if (line === "offline" && progress !== undefined) parts.push(LinkNotices.progressText(progress))
    const held = waiting.filter(isSpeech).length
    if (held > 0) parts.push(`${held} waiting`)
    if (files.attached.length > 0) parts.push(`${files.attached.length} attached`)
    return parts.length === 0 ? "" : ` (${parts.join(", ")})`
  }

  const showPrompt = (text: string | undefined): Effect.Effect<void> => {
    shown = text
    return screen.prompt(text)
  }

  const prompt = Effect.suspend(() => {
    if (running !== undefined) return showPrompt(partial === undefined ? decisions.question : undefined)
    return showPrompt(partial === undefined ? `${conversation}${state()}> ` : "... ")
  })

  const { deliver, forget, forgetAll } = ChatDelivery.make(chat)

  /** Shows the call that waits, and lets the loop ask. */
  const listen =
    (job: number) =>
    (event: Ask.StepEvent): Effect.Effect<void> => {
      if (event._tag === "Approval") {
        const text = screen.note(ChatSteps.approval(event).text)
        return Effect.andThen(text, Effect.asVoid(emit({ _tag: "Approval", job, approval: event })))
      }
      return event._tag === "Decided"
        ? Effect.asVoid(emit({ _tag: "Approval", job, approval: undefined }))
        : Effect.void
    }

  /** `/drafts`. */
  const drafts = Effect.fnUntraced(function* (argument: string) {
    const held = waiting.filter(isSpeech)
    const [verb = "", which = ""] = argument.split(/\s+/)
    if (verb === "") {
      return yield* chat.write(held.length === 0 ? "nothing waits to be sent\n" : rows(held, conversation))
    }
    const chosen = which === "all" ? held : held.slice(Number(which) - 1, Number(which))
    if (verb !== "drop" || chosen.length === 0 || !(which === "all" || Number(which) >= 1)) {
      return yield* screen.note("/drafts lists what waits; /drafts drop N drops one of it, /drafts drop all everything")
    }
    waiting = waiting.filter((item) => !isSpeech(item) || !chosen.includes(item))
    yield* forgetAll(chosen)
    yield* screen.note(`dropped ${ChatTalk.messages(chosen.length)}`)
  })

  const job = (
    item: Item,
    number: number
  ): Effect.Effect<boolean, ChatError | ChatCommands.CommandError | ChatTalk.HungUp> => {
    if (isSpeech(item)) {
      heard.add(item.messageId)
      return Effect.as(deliver(item, listen(number)), false)
    }
    const compromise = chat.takeConfirmation()
    if (compromise !== undefined) return chat.confirm(item.text, compromise)
    const input = ChatInput.parse(item.text)
    return input._tag === "Command"
      ? chat.command(input.name, input.argument, COMMAND_MS, drafts)
      : Effect.succeed(false)
  }

  const next = Effect.gen(function* () {
    if (running === undefined && partial === undefined) {
      yield* Effect.forEach(results, showResult, { discard: true })
      results = []
    }
    const index = isReady() ? 0 : waiting.findIndex((item) => !isSpeech(item))
    const [first] = running === undefined && index >= 0 ? waiting.splice(index, 1) : []
    if (first !== undefined) {
      const number = ++jobs
      yield* showPrompt(undefined)
      // It was typed while something else stood on the screen, perhaps unseen.
      if (first.late) yield* screen.note(Printable.clean(header(first, conversation)))
      const fiber = yield* job(first, number).pipe(
        Effect.catchTag(["ChatError", "CommandError"], (error) =>
          Effect.as(screen.note(Printable.line(error.message)), false)
        ),
        Effect.flatMap((leave) => emit({ _tag: "Over", job: number, leave })),
        Effect.catchTag("HungUp", () => emit({ _tag: "HungUp" })),
        Effect.forkScoped
      )
      running = { job: number, item: first, fiber }
    }
    if (isFollowDue && running === undefined && isReady()) {
      isFollowDue = false
      const found = ChatAway.find(link, conversation, heard, (each) => emit({ _tag: "Found", found: each }))
      yield* FiberHandle.run(following, found)
    }
    yield* prompt
  })

  /** Letting go goes on in the background if a bad line holds it up. */
  const stop = (fiber: Fiber.Fiber<unknown, unknown>) => Effect.timeoutOption(Fiber.interrupt(fiber), CANCEL_MS)

  /** A message that nobody has yet makes room for commands. */
  const holdBack = Effect.gen(function* () {
    if (running === undefined || !isSpeech(running.item) || running.item.begun) return
    const { fiber, item } = running
    yield* stop(fiber)
    running = undefined
    decisions.set(undefined)
    if (item.over) return yield* forget(item)
    waiting.unshift({ ...item, late: true })
  })

  /** Ends what runs; the answer too, at the assistant's. False when it goes on there, since nothing reaches it. */
  const halt = Effect.fnUntraced(function* ({ fiber, item }: Running) {
    running = undefined
    decisions.set(undefined)
    if (!isSpeech(item)) return yield* Effect.as(stop(fiber), true)
    // At once: neither waits for the other on a bad line.
    const asked = Ask.stop(link, item.conversation, item.messageId)
    const [stopped] = yield* Effect.all([asked, stop(fiber)], { concurrency: 2 })
    yield* forget(item)
    return stopped > 0 || !item.begun || item.over || isReady()
  })

  const cancel = Effect.gen(function* () {
    if (running === undefined) return
    const isOver = yield* halt(running)
    yield* chat.endLine
    yield* screen.note(isOver ? "(cancelled)" : "(cancelled here; the assistant cannot be reached, and goes on)")
  })

  /** `/stop`: what is being answered; `/stop all`: what waits here and there too. */
  const onStop = Effect.fnUntraced(function* (argument: string) {
    if (argument === "all") {
      const held = waiting.filter(isSpeech)
      waiting = waiting.filter((item) => !isSpeech(item))
      yield* forgetAll(held)
    }
    if (running !== undefined && isSpeech(running.item)) {
      yield* cancel
      if (argument !== "all") return
    }
    const stopped = yield* Ask.stop(link, conversation)
    if (stopped > 0) yield* screen.note(stopped === 1 ? "stopped 1 answer" : `stopped ${stopped} answers`)
    else if (argument !== "all") yield* screen.note("nothing is being answered")
  })

  /** Commands that do not wait for what runs; false for others. */
  const atOnce = Effect.fnUntraced(function* (name: string, argument: string) {
    switch (name) {
      case "stop":
        yield* onStop(argument.trim())
        return true
      case "attach":
        yield* files.command(argument)
        return true
      case "queue": {
        if (running === undefined) return false
        const told = chat
          .command(name, argument, COMMAND_MS)
          .pipe(Effect.catch((error) => (error._tag === "HungUp" ? Effect.void : screen.note(error.message))))
        yield* Effect.forkScoped(Effect.andThen(Effect.ignore(chat.endLine), told))
        return true
      }
      default:
        return false
    }
  })

  /** True to leave. */
  const onLine = Effect.fnUntraced(function* (typed: string) {
    if (partial === undefined && (yield* decisions.take(typed))) return false
    const whole = partial === undefined ? typed : `${partial}\n${typed}`
    partial = ChatInput.continued(whole)
    if (partial !== undefined) return false
    const input = ChatInput.parse(whole)
    if (input._tag === "Empty") return false
    if (input._tag === "Command") {
      if (yield* atOnce(input.name, input.argument)) return false
      const isAnswering = running !== undefined && isSpeech(running.item)
      if (isAnswering && (input.name === "quit" || input.name === "exit")) return true
    }
    yield* take(input, whole)
    return false
  })

  /** What waits for its turn. */
  const take = Effect.fnUntraced(function* (input: Exclude<ChatInput.ChatInput, { _tag: "Empty" }>, whole: string) {
    if (waiting.filter((item) => !isSpeech(item) || !item.adopted).length >= MAX_WAITING) {
      return yield* screen.note(`not taken: ${MAX_WAITING} lines wait already`)
    }
    const late = running !== undefined
    const before = [...(running === undefined ? [] : [running.item]), ...waiting].findLast((item) => !isSpeech(item))
    const isAnswer = before === undefined ? chat.isConfirming() : asksBack(before)
    if (!isAnswer && input._tag === "Command" && (input.name === "retry" || input.name === "edit")) {
      const text = input.name === "edit" ? input.argument.trim() : undefined
      if (text === "") return yield* screen.note("/edit TEXT asks TEXT in place of the last question")
      waiting.push(again(link, conversation, chat.freshId(), text, late))
      return
    }
    if (input._tag === "Command" || isAnswer) {
      waiting.push({ _tag: "Command", text: whole, late })
      return
    }
    const message = yield* Effect.result(chat.message(input.text, files.attached))
    if (Result.isFailure(message)) return yield* screen.note(Printable.line(`not taken: ${message.failure.message}`))
    files.clear()
    const kept = message.success.kept === undefined ? "not kept; it" : "kept; it"
    if (line === "offline") yield* screen.note(`${kept} is sent when the line is back`)
    else if (line === "up" && tierIsAway) yield* screen.note(`${kept} is sent when the assistant is back`)
    waiting.push(ofMessage(link, message.success, { late: late || line === "offline" || tierIsAway, adopted: false }))
  })

  const onInterrupt = Effect.gen(function* () {
    if (running !== undefined) return yield* cancel
    if (chat.takeConfirmation() !== undefined) return yield* screen.note(ChatTalk.NOT_CONFIRMED.message)
    const hadPartial = partial !== undefined
    partial = undefined
    if ((yield* screen.discard) || hadPartial) return
    const held = waiting.some(isSpeech) ? "; /drafts drop drops what waits" : ""
    yield* screen.note(`press Ctrl-D to leave${held}`)
  })

  /** What earlier chats have left, and others that ended meanwhile. */
  const adopt = Effect.gen(function* () {
    const found = yield* chat.adopt
    if (found.length === 0) return
    const mine = found.map((kept) => ofMessage(link, chat.ofKept(kept), { late: true, adopted: true }))
    // Older than anything that was typed here.
    const at = waiting.findIndex((item) => !isSpeech(item) || !item.adopted)
    waiting.splice(at < 0 ? waiting.length : at, 0, ...mine)
    const when = isReady() ? "now" : "as soon as there is a line"
    yield* screen.note(`${ChatTalk.messages(mine.length)} kept from an earlier chat, sent ${when}`)
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
    if (!isReady()) yield* holdBack
    const held = waiting.filter(isSpeech).length
    const text = LinkNotices.text(notice)
    const more = held === 0 || isReady() ? "" : `; ${ChatTalk.messages(held)} waiting`
    if (text !== undefined) yield* screen.note(`${text}${more}`)
    if (isReady()) yield* adopt
    if (notice._tag === "Up" || notice._tag === "Back" || notice._tag === "TierBack") {
      isFollowDue = true
      const told = ChatAway.results(link, (each) => emit({ _tag: "Result", result: each }))
      yield* FiberHandle.run(resulting, told)
    }
  })

  /** What is left behind when the user goes. */
  const farewell = Effect.gen(function* () {
    const left = [...(running === undefined ? [] : [running.item]), ...waiting].filter(isSpeech)
    const begun = left.filter((item) => item.begun || item.over)
    yield* forgetAll(begun)
    const rest = left.filter((item) => !begun.includes(item))
    const kept = rest.filter(({ message }) => message?.kept !== undefined).length
    yield* chat.endLine
    if (begun.some((item) => !item.over)) {
      yield* screen.note("the answer goes on: the next clawchat chat shows it, or clawchat chat --follow")
    }
    if (kept > 0) {
      yield* screen.note(`${ChatTalk.messages(kept)} kept for the next clawchat chat, or clawchat drafts send`)
    }
    if (rest.length > kept) yield* screen.note(`${ChatTalk.messages(rest.length - kept)} not sent`)
  })

  yield* adopt
  yield* prompt
  while (true) {
    const event = yield* Queue.take(events)
    switch (event._tag) {
      case "Line":
        if (yield* onLine(event.text)) return yield* farewell
        break
      case "Interrupt":
        yield* onInterrupt
        break
      case "Notice":
        yield* onNotice(event.notice)
        break
      case "Progress":
        progress = event.progress
        // Nothing else has changed, and mostly not even that.
        if (running === undefined && partial === undefined && shown !== `${conversation}${state()}> `) yield* prompt
        continue
      case "Over":
        if (event.job !== running?.job) break
        running = undefined
        decisions.set(undefined)
        if (event.leave) return yield* farewell
        break
      case "Approval":
        if (event.job === running?.job) decisions.set(event.approval)
        break
      case "Found":
        waiting.unshift(ofFound(conversation, event.found))
        break
      case "Result":
        results = [...results, event.result]
        break
      case "Undecided":
        break
      case "Left":
        return yield* farewell
      case "HungUp":
        return
    }
    yield* next
  }
}, Effect.scoped)
