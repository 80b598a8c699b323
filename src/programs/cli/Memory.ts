/** `clawchat memory`: what the assistant remembers, what was changed in it, and how it is taken back. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { FactFile, Source } from "../../domain/Memory.ts"
import { maxPage } from "../../domain/MemoryRpc.ts"
import * as MemoryText from "../../domain/MemoryText.ts"
import * as Printable from "../../domain/Printable.ts"
import { usage } from "./Failure.ts"
import * as Layers from "./Layers.ts"
import * as LlmLine from "./LlmLine.ts"
import * as Output from "./Output.ts"

export interface Input extends LlmLine.Input {
  readonly json: boolean
  readonly quiet: boolean
}

export interface LogInput extends Input {
  readonly limit: number
}

const checkLimit = (limit: number) =>
  limit >= 1 && limit <= maxPage ? Effect.void : usage(`--limit: expected 1 to ${maxPage}, got ${limit}`)

export const log = Effect.fnUntraced(
  function* (input: LogInput) {
    yield* checkLimit(input.limit)
    const { ask } = yield* LlmLine.connect(input)
    const changes = yield* ask((chat) => chat["Memory.Log"]({ limit: input.limit }))
    if (input.json) return yield* Output.json(changes)
    if (changes.length > 0) return yield* Output.line(changes.map(MemoryText.change).join("\n"))
    if (!input.quiet) yield* Output.note("Nothing was changed yet")
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface UndoInput extends Input {
  readonly change: Option.Option<number>
}

export const undo = Effect.fnUntraced(
  function* (input: UndoInput) {
    const id = Option.getOrUndefined(input.change)
    if (id !== undefined && id < 0) return yield* usage(`which change? clawchat memory log shows their numbers`)
    const { ask } = yield* LlmLine.connect(input)
    const change = yield* ask((chat) => chat["Memory.Undo"](id === undefined ? {} : { id }))
    if (input.json) return yield* Output.json(change)
    if (!input.quiet) yield* Output.line(MemoryText.change(change))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface SearchInput extends LogInput {
  readonly text: ReadonlyArray<string>
}

export const search = Effect.fnUntraced(
  function* (input: SearchInput) {
    const query = input.text.join(" ")
    if (query.trim() === "") return yield* usage("what to search for is missing: clawchat memory search WORD...")
    yield* checkLimit(input.limit)
    const { ask } = yield* LlmLine.connect(input)
    const hits = yield* ask((chat) => chat["Memory.Search"]({ query, limit: input.limit }))
    if (input.json) return yield* Output.json(hits)
    if (hits.length > 0) return yield* Output.line(MemoryText.hits(hits))
    if (!input.quiet) yield* Output.note("Nothing was found")
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface ShowInput extends Input {
  readonly source: Option.Option<string>
}

const isSource = Schema.is(Source)

/** `2026-01-31` is the log of that day. */
const sourceOf = (named: string): string => (/^\d{4}-\d{2}-\d{2}$/.test(named) ? `memory/${named}.md` : named)

export const show = Effect.fnUntraced(
  function* (input: ShowInput) {
    const source = sourceOf(Option.getOrElse(input.source, () => "MEMORY.md"))
    if (!isSource(source)) {
      const got = JSON.stringify(source)
      return yield* usage(`expected MEMORY.md, USER.md, SOUL.md, AGENTS.md or a day such as 2026-01-31, got ${got}`)
    }
    const { ask } = yield* LlmLine.connect(input)
    const text = yield* ask((chat) => chat["Memory.Get"]({ source, lines: 10_000 }))
    if (input.json) return yield* Output.json({ source, text })
    const shown = process.stdout.isTTY ? Printable.clean(text) : text
    if (shown !== "") yield* Output.line(shown.replace(/\n$/, ""))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)

export interface AddInput extends Input {
  readonly file: Option.Option<string>
  readonly text: ReadonlyArray<string>
}

const isFactFile = Schema.is(FactFile)

export const add = Effect.fnUntraced(
  function* (input: AddInput) {
    const text = input.text.join(" ")
    if (text.trim() === "") return yield* usage("what to remember is missing: clawchat memory add TEXT")
    const file = Option.getOrElse(input.file, () => "MEMORY.md")
    if (!isFactFile(file)) return yield* usage(`--file: expected MEMORY.md or USER.md, got ${JSON.stringify(file)}`)
    const { ask } = yield* LlmLine.connect(input)
    const change = yield* ask((chat) => chat["Memory.Add"]({ file, text }))
    if (input.json) return yield* Output.json(change)
    if (input.quiet) return
    yield* change === null ? Output.note("It stands there already") : Output.line(MemoryText.change(change))
  },
  Effect.scoped,
  Effect.provide(Layers.networkBrief)
)
