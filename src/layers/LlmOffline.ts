/**
 * The assistant of a machine without any key. It is no language model and says so; it knows a few phrases and calls the
 * same tools as a model would, so that everything around it can be used and tested.
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import type { LlmMessage } from "../domain/Llm.ts"
import { type Wish, wishOf } from "../domain/OfflinePhrases.ts"
import * as Reminder from "../domain/Reminder.ts"
import { denial } from "../domain/ToolPolicy.ts"
import { unmarked } from "../domain/Untrusted.ts"
import { type LlmEvent, LlmProvider, type LlmRequest } from "../services/LlmProvider.ts"

export interface OfflineOptions {
  /** How it came to be chosen, for `Status`. */
  readonly chosen?: string | undefined
  /** Where the user is; default: the system's. */
  readonly timeZone?: DateTime.TimeZone | undefined
}

const introduction =
  "I am ClawChat's built-in offline assistant, not a language model: no provider's key is set, so I only know a few phrases."

/** What can be said, and the tool that it needs. */
const phrases: ReadonlyArray<readonly [tool: string, phrase: string]> = [
  ["file_list", "list files, or ls docs: what is below the base path"],
  ["file_read", "read notes/today.md: a file's text"],
  ["file_search", "search files for invoice: where a word stands"],
  ["file_write", "write notes/idea.txt: some text (asks you first)"],
  ["file_trash", "trash file old.txt (asks you first)"],
  ["memory_append", "remember that the bins go out on Tuesdays"],
  ["memory_search", "what do you remember about bins"],
  ["cron_add", "remind me every Monday at 9 to water the plants (asks you first)"],
  ["cron_list", "list reminders"],
  ["cron_remove", "remove reminder water the plants (asks you first)"],
  ["time", "what time is it"],
  ["status", "status"]
]

const helpText = (has: (tool: string) => boolean): string =>
  [
    introduction,
    "",
    "You can say:",
    ...phrases.filter(([tool]) => has(tool)).map(([, phrase]) => `- ${phrase}`),
    "- help",
    "",
    "For real answers set ANTHROPIC_API_KEY, OPENAI_API_KEY or DEEPSEEK_API_KEY in .env, or CLAWCHAT_LLM_PROVIDER=openai-compatible with a base URL, and start again."
  ].join("\n")

// Text of files comes from anywhere; what could steer a terminal becomes a visible dot.
const visible = (text: string): string => text.replace(/[^\P{Cc}\n\t]|[\p{Cf}\p{Zl}\p{Zp}]/gu, "·")

/** A few words at a time, as a model would. */
const deltas = (text: string): Array<LlmEvent> =>
  (text.match(/\s*\S+(?:\s+\S+){0,2}\s*/g) ?? []).map((part) => ({ _tag: "Delta", text: part }))

const done = (stopReason: "end" | "tools"): LlmEvent => ({
  _tag: "Done",
  usage: { inputTokens: 0, outputTokens: 0 },
  stopReason,
  model: "offline",
  cost: 0
})

const says = (text: string): Array<LlmEvent> => [...deltas(text), done("end")]

/** What came of the calls, in words. */
const report = (results: ReadonlyArray<Extract<LlmMessage, { readonly role: "tool" }>>): string =>
  results
    .map(({ failed, name, text }) => {
      const plain = visible(unmarked(text)).trim()
      if (plain === denial("user")) return "Not done: it was denied."
      if (plain === denial("timeout")) return "Not done: nobody allowed it in time."
      if (failed) return `That did not work: ${plain}`
      return name === "time" ? `It is ${plain}.` : plain
    })
    .join("\n\n")

const answer = ({ messages, tools = [] }: LlmRequest, wall: Reminder.Wall): Array<LlmEvent> => {
  const asked = messages.findLastIndex(({ role }) => role === "user")
  const results = messages.slice(asked + 1).filter((message) => message.role === "tool")
  if (results.length > 0) return says(report(results))
  const text = messages[asked]?.text ?? ""
  const has = (tool: string): boolean => tools.some(({ name }) => name === tool)
  const wish: Wish = wishOf(text, wall)
  switch (wish._tag) {
    case "Help":
      return says(helpText(has))
    case "Say":
      return says(wish.text)
    case "Unclear":
      return says(`That reminder does not work: ${wish.hint}`)
    case "Call":
      if (!has(wish.tool)) return says(`${introduction}\n\nWhat you ask needs ${wish.tool}, which is not there.`)
      return [
        {
          _tag: "Call",
          call: { id: `offline_${messages.length}`, name: wish.tool, arguments: JSON.stringify(wish.input) }
        },
        done("tools")
      ]
    case "Other":
      return says(`${introduction}\n\nYou said:\n\n${text.replace(/^/gm, "> ")}\n\nSay "help" to see what I can do.`)
  }
}

export const layer = (options: OfflineOptions = {}): Layer.Layer<LlmProvider> => {
  const zone = options.timeZone ?? DateTime.zoneMakeLocal()
  return Layer.succeed(
    LlmProvider,
    LlmProvider.of({
      info: {
        provider: "offline",
        model: "offline",
        chosen: options.chosen ?? "no provider is set and no key was found"
      },
      stream: (request) =>
        Stream.unwrap(
          Effect.map(Clock.currentTimeMillis, (now) =>
            Stream.fromIterable(answer(request, Reminder.wallOf(now, DateTime.zoneToString(zone))))
          )
        )
    })
  )
}
