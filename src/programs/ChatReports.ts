/** What a chat tells of the assistant when it is asked: each a text for people, by calls of the llm tier. */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type { ChatStatus } from "../domain/ChatRpc.ts"
import * as CronText from "../domain/CronText.ts"
import type { Usage } from "../domain/Llm.ts"
import * as MemoryText from "../domain/MemoryText.ts"
import * as Printable from "../domain/Printable.ts"
import { dollars, table } from "../domain/TextTable.ts"
import type { UsageLine } from "../domain/UsageRpc.ts"
import * as UsageText from "../domain/UsageText.ts"
import type { ChatClient } from "./ClientLink.ts"

/** Jobs, changes and hits in a chat; the command line shows more. */
const SHOWN_JOBS = 20
const SHOWN_CHANGES = 10
const SHOWN_HITS = 10
const SHOWN_MODELS = 40

/** Names in a column, what is said of them beside. */
export const rows = (pairs: ReadonlyArray<readonly [string, string]>): string => {
  const width = Math.max(...pairs.map(([name]) => name.length))
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${Printable.line(value)}`).join("\n")
}

const contextText = ({ contextFiles }: ChatStatus): string => {
  if (contextFiles.length === 0) return "there are no context files"
  const lines = contextFiles.map(({ budget, bytes, name, note, state, tokens }) => {
    const counted = tokens === undefined ? "" : `${tokens}${budget === undefined ? "" : ` of ${budget}`}`
    return [Printable.line(name), state, `${bytes} B`, counted, note === undefined ? "" : Printable.line(note)]
  })
  const sum = contextFiles.reduce((all, { tokens = 0 }) => all + tokens, 0)
  const cut = contextFiles.filter(({ state }) => state === "truncated").length
  const truncated = cut === 0 ? "" : `; ${cut} cut to their budgets: shorten them, or raise llm.tokens`
  return `${table([["FILE", "STATE", "BYTES", "TOKENS", ""], ...lines])}\n${sum} tokens in all, by estimate${truncated}`
}

/** Files, their tokens and budgets. */
export const context = (chat: ChatClient) => Effect.map(chat["Chat.Status"](undefined), contextText)

/** The files that the next answer is given. */
export const reload = (chat: ChatClient) =>
  Effect.map(chat["Chat.Status"](undefined), ({ contextFiles }) => {
    const used = contextFiles.filter(({ state }) => state === "used" || state === "truncated")
    const names = used.map(({ name, state }) => Printable.line(state === "used" ? name : `${name} (cut)`))
    const others = contextFiles.filter((file) => !used.includes(file))
    const rest = others.map(({ name, note, state }) => Printable.line(`${name}: ${note ?? state}`))
    return [`read anew for each answer; in force now: ${names.length === 0 ? "none" : names.join(", ")}`, ...rest].join(
      "\n"
    )
  })

export const model = Effect.fnUntraced(function* (chat: ChatClient) {
  const { status, usage } = yield* Effect.all(
    { status: chat["Chat.Status"](undefined), usage: Effect.option(chat["Usage.Models"](undefined)) },
    { concurrency: 2 }
  )
  const head = rows([
    ["provider", status.provider],
    ["model", status.model],
    ["chosen", status.chosen]
  ])
  if (usage._tag === "None" || usage.value.models.length === 0) return head
  const { models, problems } = usage.value
  const left = models.length - SHOWN_MODELS
  const more = left <= 0 ? [] : [`and ${left} more: clawchat models`]
  return [head, "", UsageText.models(models.slice(0, SHOWN_MODELS)), ...more, ...problems.map(Printable.line)].join(
    "\n"
  )
})

export const cron = Effect.fnUntraced(function* (chat: ChatClient) {
  const { file, jobs, more } = yield* chat["Cron.List"]({ limit: SHOWN_JOBS })
  const wrong = file.problems.length === 0 ? [] : [CronText.problems("CRON.md", file.problems)]
  if (jobs.length === 0)
    return [...wrong, 'nothing is scheduled: "remind me every Monday at 9 to ..." does it'].join("\n")
  const rest = more ? [`and ${file.jobs - jobs.length} more: clawchat cron ls`] : []
  return [...wrong, ...jobs.map(CronText.job), ...rest].join("\n")
})

export const queue = Effect.fnUntraced(function* (chat: ChatClient, conversation: string) {
  const questions = yield* chat["Chat.Queue"]({ conversation })
  if (questions.length === 0) return "nothing is being answered"
  const state = { running: "being answered", approval: "waits for your decision", waiting: "waits" }
  return table(questions.map((each, n) => [String(n + 1), state[each.state], Printable.line(each.text)]))
})

const nothing: UsageLine = {
  key: "",
  requests: 0,
  usage: { inputTokens: 0, outputTokens: 0 },
  cost: 0,
  unpriced: 0,
  estimated: 0
}

/** The calendar of this host; the tier counts days by its own, which mostly is the same. */
const today = Effect.map(Clock.currentTimeMillis, (now) =>
  DateTime.formatIsoDate(DateTime.setZone(DateTime.makeUnsafe(now), DateTime.zoneMakeLocal()))
)

/** What the record of the assistant says; a chat adds what it counts itself. */
export const usage = Effect.fnUntraced(function* (chat: ChatClient, conversation: string) {
  const day = yield* today
  const { days, talks } = yield* Effect.all(
    {
      days: chat["Usage.Sum"]({ by: "day", from: `${day.slice(0, 8)}01` }),
      talks: chat["Usage.Sum"]({ by: "conversation" })
    },
    { concurrency: 2 }
  )
  const lineOf = (lines: ReadonlyArray<UsageLine>, key: string): string =>
    UsageText.line(lines.find((each) => each.key === key) ?? nothing)
  return rows([
    ["conversation", lineOf(talks.lines, conversation)],
    ["today", lineOf(days.lines, day)],
    ["this month", UsageText.line(days.total)],
    ...days.budgets.map((each) => ["budget", UsageText.budget(each)] as const)
  ])
})

/** What one chat has asked so far. */
export const session = (chat: {
  readonly questions: number
  readonly usage: Usage
  readonly cost: number | undefined
}): string => {
  const asked = chat.questions === 1 ? "1 question" : `${chat.questions} questions`
  const cost = chat.cost === undefined ? "" : `, ${dollars(chat.cost)}`
  return `${asked} in this chat: ${chat.usage.inputTokens} tokens in, ${chat.usage.outputTokens} out${cost}`
}

const shown = (text: string): string => (text.trim() === "" ? "nothing" : Printable.clean(text).trimEnd())

/** `/memory` and what may stand behind it. */
export const memory = Effect.fnUntraced(function* (chat: ChatClient, argument: string) {
  const [, verb = "", rest = ""] = /^\s*(\S*)\s*([\s\S]*?)\s*$/.exec(argument) ?? []
  switch (verb) {
    case "":
      return shown(yield* chat["Memory.Get"]({ source: "MEMORY.md" }))
    case "search": {
      if (rest === "") return "/memory search takes words"
      const hits = yield* chat["Memory.Search"]({ query: rest, limit: SHOWN_HITS })
      return hits.length === 0 ? "nothing was found" : MemoryText.hits(hits)
    }
    case "log": {
      const changes = yield* chat["Memory.Log"]({ limit: SHOWN_CHANGES })
      return changes.length === 0 ? "nothing was changed yet" : changes.map(MemoryText.change).join("\n")
    }
    case "undo": {
      if (rest !== "" && !/^\d{1,15}$/.test(rest)) return "/memory undo takes the number of a change: see /memory log"
      return MemoryText.change(yield* chat["Memory.Undo"](rest === "" ? {} : { id: Number(rest) }))
    }
    case "add": {
      if (rest === "") return "/memory add takes a text"
      const change = yield* chat["Memory.Add"]({ text: rest })
      return change === null ? "it stands there already" : MemoryText.change(change)
    }
    default:
      return "/memory, /memory search WORDS, /memory log, /memory undo [N], /memory add TEXT"
  }
})
