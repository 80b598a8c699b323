/** `clawchat history`: what was said, found again, taken along, removed. The assistant is asked over the client's line. */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { type ChatMessage, ConversationName, defaultConversation, maxHistory } from "../../domain/ChatRpc.ts"
import { type ExportFormat, maxFound } from "../../domain/HistoryRpc.ts"
import * as Printable from "../../domain/Printable.ts"
import * as ScreenNode from "../../layers/ScreenNode.ts"
import { Screen } from "../../services/Screen.ts"
import { type Failure, failed, notFound, usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as LlmLine from "./LlmLine.ts"
import * as Output from "./Output.ts"

export interface Input extends LlmLine.Input {
  readonly json: boolean
}

export interface Named extends Input {
  readonly conversation: Option.Option<string>
  readonly name: Option.Option<string>
}

const isName = Schema.is(ConversationName)
const checkName = (name: string): Effect.Effect<string, Failure> =>
  isName(name)
    ? Effect.succeed(name)
    : usage(
        `the name of a conversation: expected 1 to 64 letters, digits, spaces, dots, underscores and hyphens, got ${JSON.stringify(name)}`
      )

/** The conversation that is meant, whichever way it was named; `main` when it was not. */
const chosen = (input: Named): Effect.Effect<string, Failure> => {
  const names = [...new Set([...Option.toArray(input.name), ...Option.toArray(input.conversation)])]
  return names.length > 1
    ? usage(`one conversation, please: ${names.map((name) => JSON.stringify(name)).join(" or ")}?`)
    : checkName(names[0] ?? defaultConversation)
}

const checkLimit = (limit: number, most: number): Effect.Effect<void, Failure> =>
  limit >= 1 && limit <= most ? Effect.void : usage(`--limit: expected 1 to ${most}, got ${limit}`)

const time = (ms: number): string => new Date(ms).toISOString().slice(0, 16).replace("T", " ")

export const ls = Effect.fnUntraced(
  function* (input: Input) {
    const { ask } = yield* LlmLine.connect(input)
    const list = yield* ask((chat) => chat["Chat.Conversations"](undefined))
    if (input.json) return yield* Output.json(list)
    yield* Output.line(
      Output.table([
        ["CONVERSATION", "MESSAGES", "BEGUN (UTC)"],
        ...list.map(({ created, messages, name }) => [Printable.line(name), String(messages), time(created)])
      ])
    )
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

const described = (message: ChatMessage): string => {
  const who = message.role === "user" ? "you" : "assistant"
  const state = [
    ...(message.status === "complete" ? [] : [message.status]),
    ...(message.takenBack === undefined ? [] : ["taken back"])
  ]
  const head = `${time(message.created)} ${who}${state.length === 0 ? "" : ` (${state.join(", ")})`}`
  const notes = [
    ...(message.attachments ?? []).map((name) => `[attached: ${Printable.line(name)}]`),
    ...(message.calls ?? []).map(
      ({ failed, summary, tool }) => `[${Printable.line(tool)} ${Printable.line(summary)}${failed ? ": failed" : ""}]`
    )
  ]
  return [head, ...notes, Printable.clean(message.text)].filter((line) => line !== "").join("\n")
}

export interface ShowInput extends Named {
  readonly limit: number
  readonly all: boolean
}

export const show = Effect.fnUntraced(
  function* (input: ShowInput) {
    const conversation = yield* chosen(input)
    yield* checkLimit(input.limit, maxHistory)
    const { ask } = yield* LlmLine.connect(input)
    // Fewer come at a time where they are long.
    const messages: Array<ChatMessage> = []
    while (messages.length < input.limit) {
      const before = messages[0]?.seq
      const page = yield* ask((chat) =>
        chat["Chat.History"]({
          conversation,
          limit: input.limit - messages.length,
          ...(before === undefined ? {} : { before }),
          ...(input.all ? { all: true } : {})
        })
      )
      if (page.length === 0) break
      messages.unshift(...page)
    }
    if (messages.length === 0) {
      const known = yield* ask((chat) => chat["Chat.Conversations"](undefined))
      if (conversation !== defaultConversation && known.every(({ name }) => name !== conversation)) {
        return yield* notFound(
          `there is no conversation "${conversation}": clawchat history ls shows those that there are`
        )
      }
    }
    if (input.json) return yield* Output.json(messages)
    if (messages.length > 0) yield* Output.line(messages.map(described).join("\n\n"))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface SearchInput extends Input {
  readonly conversation: Option.Option<string>
  readonly limit: number
  readonly text: ReadonlyArray<string>
}

export const search = Effect.fnUntraced(
  function* (input: SearchInput) {
    const text = input.text.join(" ")
    if (text.trim() === "") return yield* usage("what to search for is missing: clawchat history search WORD...")
    const name = Option.getOrUndefined(input.conversation)
    const conversation = name === undefined ? {} : { conversation: yield* checkName(name) }
    yield* checkLimit(input.limit, maxFound)
    const { ask } = yield* LlmLine.connect(input)
    const found = yield* ask((chat) => chat["History.Search"]({ text, limit: input.limit, ...conversation }))
    if (input.json) return yield* Output.json(found)
    if (found.length === 0) return yield* Output.note("Nothing was found")
    yield* Output.line(
      found
        .map(({ conversation, created, excerpt, role }) =>
          Printable.line(`${time(created)} ${conversation} ${role === "user" ? "you" : "assistant"}: ${excerpt}`)
        )
        .join("\n")
    )
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface ExportInput extends Named {
  readonly all: boolean
  readonly out: Option.Option<string>
}

/** A new file beside the wanted one, which takes its name when it is whole. Private, like what it holds. */
const intoFile = Effect.fnUntraced(function* (target: string, pieces: Stream.Stream<string, Failure>) {
  const wrong = (cause: unknown): Failure =>
    failed(`-o ${target}: ${cause instanceof Error ? cause.message.split("\n", 1)[0] : String(cause)}`)
  const part = path.join(path.dirname(target), `.${path.basename(target)}.${process.pid}.part`)
  const file = yield* Effect.acquireRelease(
    Effect.tryPromise({ try: () => fs.open(part, "wx", 0o600), catch: wrong }),
    (open) => Effect.promise(() => open.close().then(() => fs.rm(part, { force: true })))
  )
  yield* Stream.runForEach(pieces, (piece) => Effect.tryPromise({ try: () => file.appendFile(piece), catch: wrong }))
  yield* Effect.tryPromise({ try: () => file.sync().then(() => fs.rename(part, target)), catch: wrong })
}, Effect.scoped)

const write = (text: string): Effect.Effect<void> => Output.bytes(new TextEncoder().encode(text))

export const exportTo = Effect.fnUntraced(
  function* (input: ExportInput) {
    const conversation = yield* chosen(input)
    const format: ExportFormat = input.json ? "json" : "markdown"
    const { listen } = yield* LlmLine.connect(input)
    const wanted = { conversation, format, ...(input.all ? { all: true } : {}) }
    const pieces = listen((chat) => chat["History.Export"](wanted))
    const target = Option.getOrUndefined(input.out)
    if (target === undefined) return yield* Stream.runForEach(pieces, write)
    yield* intoFile(path.resolve(target), pieces)
    yield* Output.note(`Written to ${target}`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface RemoveInput extends Named {
  readonly yes: boolean
}

/** A person at a terminal is asked; a script that names a conversation means it. */
const confirmed = Effect.fnUntraced(function* (yes: boolean, conversation: string) {
  if (yes || !process.stdin.isTTY) return
  const answer = yield* Effect.gen(function* () {
    const screen = yield* Screen
    yield* screen.note(`This removes "${conversation}" with all that was said in it. Type YES to do it.`)
    yield* screen.prompt("> ")
    const input = yield* Effect.option(screen.input)
    yield* screen.prompt(undefined)
    return Option.isSome(input) && input.value._tag === "Line" ? input.value.text.trim() : ""
  }).pipe(Effect.provide(ScreenNode.layer({ historyPath: undefined })))
  if (answer !== "YES") return yield* failed("Nothing was done: the answer was not YES")
})

export const rm = Effect.fnUntraced(
  function* (input: RemoveInput) {
    if (Option.isNone(input.name) && Option.isNone(input.conversation)) {
      return yield* usage("which conversation is to be removed is missing: clawchat history rm NAME")
    }
    const conversation = yield* chosen(input)
    yield* confirmed(input.yes, conversation)
    const { ask } = yield* LlmLine.connect(input)
    const messages = yield* ask((chat) => chat["History.Remove"]({ conversation }))
    yield* input.json ? Output.json({ conversation, messages }) : Output.note(`Removed ${messages} messages`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface RenameInput extends Input {
  readonly name: string
  readonly to: string
}

export const rename = Effect.fnUntraced(
  function* (input: RenameInput) {
    const conversation = yield* checkName(input.name)
    const to = yield* checkName(input.to)
    const { ask } = yield* LlmLine.connect(input)
    yield* ask((chat) => chat["History.Rename"]({ conversation, to }))
    yield* input.json ? Output.json({ conversation: to }) : Output.note(`Renamed "${conversation}" to "${to}"`)
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
