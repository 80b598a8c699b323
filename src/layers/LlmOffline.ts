/**
 * The assistant of a machine without any key. It is no language model and says so; it lists files, tells the time and
 * repeats what it was told, so that everything around it can be used and tested.
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import { type LlmEvent, LlmProvider } from "../services/LlmProvider.ts"

export interface Entry {
  readonly name: string
  readonly kind: string
  /** Bytes. */
  readonly size: number
}

export interface OfflineOptions {
  /** The files below the base path; the port guards the path, which comes from the user as it is. */
  readonly list: (path: string) => Effect.Effect<ReadonlyArray<Entry>, { readonly message: string }>
  /** Default: the system's. */
  readonly timeZone?: DateTime.TimeZone | undefined
  /** How it came to be chosen, for `Status`. */
  readonly chosen?: string | undefined
}

/** Entries named in one answer. */
const maxListed = 200

type Wish =
  | { readonly _tag: "List"; readonly path: string }
  | { readonly _tag: "Time" }
  | { readonly _tag: "Help" }
  | { readonly _tag: "Other" }

const listing =
  /^(?:ls|dir|(?:list|show)(?:\s+(?:the|my|all))*(?:\s+(?:files|folder|directory))?)(?:\s+(?:in|of|under))?(?:\s+(.+))?$/i
const time = /^(?:what(?:'s|\s+is)?\s+(?:the\s+)?(?:time|date|day)\b.*|time|date|now)$/i
const help = /^(?:\/?help|\?|what can you do)$/i

const wishOf = (text: string): Wish => {
  const plain = text.trim().replace(/[?!.]+$/, (end) => (end.startsWith("?") || end.startsWith("!") ? "" : end))
  if (help.test(plain) || text.trim() === "?") return { _tag: "Help" }
  if (time.test(plain)) return { _tag: "Time" }
  const list = listing.exec(plain)
  if (list !== null) return { _tag: "List", path: list[1]?.replace(/^(["'`])(.*)\1$/, "$2") ?? "" }
  return { _tag: "Other" }
}

// Names of files come from anywhere; what could steer a terminal becomes a visible dot.
const visible = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, "·")

const size = (bytes: number): string =>
  bytes < 1024
    ? `${bytes} B`
    : bytes < 1024 ** 2
      ? `${(bytes / 1024).toFixed(1)} KiB`
      : `${(bytes / 1024 ** 2).toFixed(1)} MiB`

const table = (path: string, entries: ReadonlyArray<Entry>): string => {
  const where = path === "" ? "the base folder" : visible(path)
  if (entries.length === 0) return `There is nothing in ${where}.`
  const lines = entries.slice(0, maxListed).map(({ kind, name, size: bytes }) => {
    const folder = kind.toLowerCase() === "folder" || kind.toLowerCase() === "directory"
    return folder ? `- ${visible(name)}/` : `- ${visible(name)} (${size(bytes)})`
  })
  const more = entries.length > maxListed ? [`… and ${entries.length - maxListed} more`] : []
  return [`In ${where}:`, ...lines, ...more].join("\n")
}

const introduction =
  "I am ClawChat's built-in offline assistant, not a language model: no provider's key is set, so I only know a few phrases."

const helpText = [
  introduction,
  "",
  "You can say:",
  "- list files, or ls docs: what is below the base path",
  "- what time is it",
  "- help",
  "",
  "For real answers set ANTHROPIC_API_KEY, OPENAI_API_KEY or DEEPSEEK_API_KEY in .env, or CLAWCHAT_LLM_PROVIDER=openai-compatible with a base URL, and start again."
].join("\n")

/** A few words at a time, as a model would. */
const deltas = (text: string): Array<LlmEvent> =>
  (text.match(/\s*\S+(?:\s+\S+){0,2}\s*/g) ?? []).map((part) => ({ _tag: "Delta", text: part }))

const answer = Effect.fnUntraced(function* (text: string, options: OfflineOptions) {
  const wish = wishOf(text)
  switch (wish._tag) {
    case "Help":
      return helpText
    case "Time": {
      const zone = options.timeZone ?? DateTime.zoneMakeLocal()
      const now = DateTime.setZone(yield* DateTime.now, zone)
      const words = DateTime.format(now, { locale: "en-GB", dateStyle: "full", timeStyle: "long" })
      return `It is ${words} (${DateTime.zoneToString(zone)}).`
    }
    case "List":
      return yield* options.list(wish.path).pipe(
        Effect.map((entries) => table(wish.path, entries)),
        Effect.catch((error) => Effect.succeed(`I could not list that: ${visible(error.message)}`))
      )
    case "Other":
      return `${introduction}\n\nYou said:\n\n${text.replace(/^/gm, "> ")}\n\nSay "help" to see what I can do.`
  }
})

export const layer = (options: OfflineOptions): Layer.Layer<LlmProvider> =>
  Layer.succeed(
    LlmProvider,
    LlmProvider.of({
      info: {
        provider: "offline",
        model: "offline",
        chosen: options.chosen ?? "no provider is set and no key was found"
      },
      stream: (request) =>
        Stream.unwrap(
          Effect.map(answer(request.messages.at(-1)?.text ?? "", options), (text) =>
            Stream.fromIterable<LlmEvent>([
              ...deltas(text),
              { _tag: "Done", usage: { inputTokens: 0, outputTokens: 0 }, stopReason: "end", model: "offline" }
            ])
          )
        )
    })
  )
