/**
 * A person at a terminal, who types while answers stream: one thing runs at a time, what is typed ahead waits in order, and
 * one loop decides on everything that happens. Messages wait for the line and for the assistant, commands do not.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import * as ChatInput from "../domain/ChatInput.ts"
import type { ChatError } from "../domain/ChatRpc.ts"
import * as Printable from "../domain/Printable.ts"
import * as Ask from "./Ask.ts"
import * as ChatCommands from "./ChatCommands.ts"
import * as ChatTalk from "./ChatTalk.ts"
import * as LinkNotices from "./LinkNotices.ts"

/** Lines that may wait while an answer streams, or the line is away. */
const MAX_WAITING = 16
/** Milliseconds that a command at a terminal waits for what it asks of server and llm tier. */
const COMMAND_MS = 10_000
/** Milliseconds that a cancelled answer may take to let go. */
const CANCEL_MS = 1000
/** Milliseconds before a message that was not taken, though it will be, is sent again; doubled up to the second. */
const AGAIN_MS = 2000
const AGAIN_MAX_MS = 60_000
/** Characters of a message in a list. */
const LISTED = 60

type Event =
  | { readonly _tag: "Line"; readonly text: string }
  | { readonly _tag: "Interrupt" }
  | { readonly _tag: "Left" }
  | { readonly _tag: "Notice"; readonly notice: LinkNotices.Notice }
  | { readonly _tag: "Progress"; readonly progress: LinkNotices.Progress | undefined }
  /** Job number `job` is over; `leave` after `/quit`. */
  | { readonly _tag: "Over"; readonly job: number; readonly leave: boolean }
  | { readonly _tag: "HungUp" }

/** Something that was typed, or left by an earlier chat. `late`: other things stood on the screen meanwhile. */
interface Command {
  readonly _tag: "Command"
  readonly text: string
  readonly late: boolean
}
interface Speech {
  readonly _tag: "Speech"
  readonly message: ChatTalk.Message
  readonly late: boolean
  readonly adopted: boolean
  /** The assistant has it. */
  begun: boolean
  over: boolean
}
type Item = Command | Speech

const isSpeech = (item: Item): item is Speech => item._tag === "Speech"

/** The line after this one is an answer to a question of ours. */
const asks = (item: Item): boolean => {
  const input = item._tag === "Command" ? ChatInput.parse(item.text) : undefined
  return input?._tag === "Command" && input.name === "compromised"
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
  let running: { readonly job: number; readonly item: Item; readonly fiber: Fiber.Fiber<unknown, unknown> } | undefined
  let jobs = 0
  let line: "connecting" | "up" | "offline" = "connecting"
  let tierIsAway = false
  let progress: LinkNotices.Progress | undefined
  let shown: string | undefined

  const isReady = (): boolean => line === "up" && !tierIsAway

  const state = (): string => {
    const parts: Array<string> = line === "up" ? (tierIsAway ? ["assistant away"] : []) : [line]
    if (line === "offline" && progress !== undefined) parts.push(LinkNotices.progressText(progress))
    const held = waiting.filter(isSpeech).length
    if (held > 0) parts.push(`${held} waiting`)
    return parts.length === 0 ? "" : ` (${parts.join(", ")})`
  }

  const showPrompt = (text: string | undefined): Effect.Effect<void> => {
    shown = text
    return screen.prompt(text)
  }

  const prompt = Effect.suspend(() => {
    if (running !== undefined) return showPrompt(undefined)
    return showPrompt(partial === undefined ? `${conversation}${state()}> ` : "... ")
  })

  /** What is given, once: again and again while the assistant is only busy. */
  const deliver = Effect.fnUntraced(function* (item: Speech) {
    const { message } = item
    const outputs = Stream.tap(Ask.ask(link, message.question), ({ _tag }) =>
      Effect.sync(() => {
        if (_tag === "Started") item.begun = true
      })
    )
    for (let pauseMs = AGAIN_MS; ; pauseMs = Math.min(2 * pauseMs, AGAIN_MAX_MS)) {
      const result = yield* Effect.result(chat.answer(outputs))
      if (Result.isFailure(result)) {
        const error = result.failure
        if (error._tag === "HungUp") return yield* error
        if (message.kept !== undefined && !ChatTalk.isSettled(error)) {
          yield* screen.note(Printable.line(`${error.message} (sent again in ${pauseMs / 1000} s; Ctrl-C drops it)`))
          yield* Effect.sleep(pauseMs)
          continue
        }
      }
      item.over = true
      yield* chat.forget(message)
      if (Result.isFailure(result)) return yield* result.failure
      return
    }
  })

  const listed = (text: string): string => {
    const whole = Printable.line(text)
    return whole.length > LISTED ? `${whole.slice(0, LISTED - 1)}\u2026` : whole
  }

  /** `/drafts`. */
  const drafts = Effect.fnUntraced(function* (argument: string) {
    const held = waiting.filter(isSpeech)
    const [verb = "", which = ""] = argument.split(/\s+/)
    if (verb === "") {
      const rows = held.map(({ message: { kept, question } }, n) => {
        const where = question.conversation === conversation ? "" : ` (${question.conversation})`
        return `${n + 1}${where}  ${listed(question.text)}${kept === undefined ? "  not kept" : ""}\n`
      })
      return yield* chat.write(rows.length === 0 ? "nothing waits to be sent\n" : rows.join(""))
    }
    const chosen = which === "all" ? held : held.slice(Number(which) - 1, Number(which))
    if (verb !== "drop" || chosen.length === 0 || !(which === "all" || Number(which) >= 1)) {
      return yield* screen.note("/drafts lists what waits; /drafts drop N drops one of it, /drafts drop all everything")
    }
    waiting = waiting.filter((item) => !isSpeech(item) || !chosen.includes(item))
    yield* Effect.forEach(chosen, ({ message }) => chat.forget(message), { discard: true })
    yield* screen.note(`dropped ${ChatTalk.messages(chosen.length)}`)
  })

  const job = (item: Item): Effect.Effect<boolean, ChatError | ChatCommands.CommandError | ChatTalk.HungUp> => {
    if (isSpeech(item)) return Effect.as(deliver(item), false)
    const compromise = chat.takeConfirmation()
    if (compromise !== undefined) return chat.confirm(item.text, compromise)
    const input = ChatInput.parse(item.text)
    return input._tag === "Command"
      ? chat.command(input.name, input.argument, COMMAND_MS, drafts)
      : Effect.succeed(false)
  }

  const header = (item: Item): string => {
    if (!isSpeech(item)) return `> ${item.text}`
    const { question } = item.message
    const where = question.conversation === conversation ? "" : `(${question.conversation}) `
    return `${where}> ${question.text}`
  }

  const next = Effect.gen(function* () {
    const index = isReady() ? 0 : waiting.findIndex((item) => !isSpeech(item))
    const [first] = running === undefined && index >= 0 ? waiting.splice(index, 1) : []
    if (first !== undefined) {
      const number = ++jobs
      yield* showPrompt(undefined)
      // It was typed while something else stood on the screen, perhaps unseen.
      if (first.late) yield* screen.note(Printable.clean(header(first)))
      const fiber = yield* job(first).pipe(
        Effect.catchTag(["ChatError", "CommandError"], (error) =>
          Effect.as(screen.note(Printable.line(error.message)), false)
        ),
        Effect.flatMap((leave) => emit({ _tag: "Over", job: number, leave })),
        Effect.catchTag("HungUp", () => emit({ _tag: "HungUp" })),
        Effect.forkScoped
      )
      running = { job: number, item: first, fiber }
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
    if (item.over) return yield* chat.forget(item.message)
    waiting.unshift({ ...item, late: true })
  })

  const onLine = Effect.fnUntraced(function* (typed: string) {
    const whole = partial === undefined ? typed : `${partial}\n${typed}`
    partial = ChatInput.continued(whole)
    if (partial !== undefined) return
    const input = ChatInput.parse(whole)
    if (input._tag === "Empty") return
    if (waiting.filter((item) => !isSpeech(item) || !item.adopted).length >= MAX_WAITING) {
      return yield* screen.note(`not taken: ${MAX_WAITING} lines wait already`)
    }
    const late = running !== undefined
    const before = [...(running === undefined ? [] : [running.item]), ...waiting].findLast((item) => !isSpeech(item))
    const isAnswer = before === undefined ? chat.isConfirming() : asks(before)
    if (input._tag === "Command" || isAnswer) {
      waiting.push({ _tag: "Command", text: whole, late })
      return
    }
    const message = yield* Effect.result(chat.message(input.text))
    if (Result.isFailure(message)) return yield* screen.note(Printable.line(`not taken: ${message.failure.message}`))
    const kept = message.success.kept === undefined ? "not kept; it" : "kept; it"
    if (line === "offline") yield* screen.note(`${kept} is sent when the line is back`)
    else if (line === "up" && tierIsAway) yield* screen.note(`${kept} is sent when the assistant is back`)
    waiting.push({
      _tag: "Speech",
      message: message.success,
      late: late || line === "offline" || tierIsAway,
      adopted: false,
      begun: false,
      over: false
    })
  })

  const onInterrupt = Effect.gen(function* () {
    if (running !== undefined) {
      const { fiber, item } = running
      yield* stop(fiber)
      running = undefined
      if (isSpeech(item)) yield* chat.forget(item.message)
      yield* chat.endLine
      return yield* screen.note("(cancelled)")
    }
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
    const mine = found.map(
      (kept): Speech => ({
        _tag: "Speech",
        message: chat.ofKept(kept),
        late: true,
        adopted: true,
        begun: false,
        over: false
      })
    )
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
  })

  /** What is left behind when the user goes. */
  const farewell = Effect.gen(function* () {
    const left = [...(running === undefined ? [] : [running.item]), ...waiting].filter(isSpeech)
    const begun = left.filter((item) => item.begun || item.over)
    yield* Effect.forEach(begun, ({ message }) => chat.forget(message), { discard: true })
    const rest = left.filter((item) => !begun.includes(item))
    const kept = rest.filter(({ message }) => message.kept !== undefined).length
    yield* chat.endLine
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
        yield* onLine(event.text)
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
        if (event.leave) return yield* farewell
        break
      case "Left":
        return yield* farewell
      case "HungUp":
        return
    }
    yield* next
  }
}, Effect.scoped)
