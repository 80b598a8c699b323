/** What the offline assistant understands: a phrase becomes the call of a tool. Pure; whatever matches nothing is `Other`. */
import * as Reminder from "./Reminder.ts"

export type Wish =
  | {
      readonly _tag: "Call"
      readonly tool: string
      readonly input: { readonly [name: string]: string | number | boolean }
    }
  | { readonly _tag: "Help" }
  | { readonly _tag: "Say"; readonly text: string }
  /** A reminder that was meant, and could not be read: what to say instead. */
  | { readonly _tag: "Unclear"; readonly hint: string }
  | { readonly _tag: "Other" }

const call = (tool: string, input: { readonly [name: string]: string | number | boolean } = {}): Wish => ({
  _tag: "Call",
  tool,
  input
})

/** A word or a quoted phrase. */
const bare = (text: string | undefined): string => (text ?? "").trim().replace(/^(["'`])(.*)\1$/, "$2")

interface Phrase {
  readonly pattern: RegExp
  readonly wish: (groups: ReadonlyArray<string | undefined>) => Wish
  /** It ends in a text of any length. */
  readonly isLong?: true
}

/** Characters of what can be a phrase without a text in it: patterns take their time with more. */
const MAX_PHRASE = 2000

const phrases: ReadonlyArray<Phrase> = [
  { pattern: /^(?:\/?help|\?|what can you do)$/i, wish: () => ({ _tag: "Help" }) },
  {
    pattern: /^(?:what(?:'s|\s+is)?\s+(?:the\s+)?(?:time|date|day)\b.*|time|date|now)$/i,
    wish: () => call("time")
  },
  { pattern: /^status$/i, wish: () => call("status") },
  {
    pattern: /^(?:list|show|what are)\s+(?:the\s+|my\s+|all\s+)*(?:jobs|reminders|schedule|cron(?:\s+jobs)?)$/i,
    wish: () => call("cron_list")
  },
  {
    pattern: /^(?:forget|remove|delete|cancel)\s+(?:the\s+|my\s+)?(?:job|reminder)\s+(.+)$/i,
    wish: ([name]) => call("cron_remove", { name: bare(name) })
  },
  {
    pattern: /^(?:read|cat|open|show)\s+(?:the\s+)?file\s+(.+)$|^(?:read|cat)\s+(.+)$/i,
    wish: ([named, short]) => call("file_read", { path: bare(named ?? short) })
  },
  {
    pattern:
      /^(?:search|find)\s+(?:in\s+)?(?:the\s+|my\s+|all\s+)*files\s+for\s+(.+)$|^find\s+(.+?)\s+in\s+(?:the\s+|my\s+)?files$/i,
    wish: ([after, before]) => call("file_search", { text: bare(after ?? before) })
  },
  {
    pattern: /^(?:trash|delete|remove)\s+(?:the\s+)?(?:file|folder)\s+(.+)$/i,
    wish: ([path]) => call("file_trash", { path: bare(path) })
  },
  {
    isLong: true,
    pattern: /^write\s+(\S+)\s*:\s*([\s\S]+)$/i,
    wish: ([path, text]) => call("file_write", { path: bare(path), text: (text ?? "").trim() })
  },
  {
    isLong: true,
    pattern: /^(?:remember|note|note down)(?:\s+that)?[\s:]+([\s\S]+)$/i,
    wish: ([text]) => call("memory_append", { text: (text ?? "").trim() })
  },
  {
    pattern:
      /^(?:what\s+do\s+you\s+(?:know|remember)\s+about|recall|search\s+(?:the\s+|your\s+|my\s+)*(?:memory|memories|log|logs|notes)\s+for)\s+(.+)$/i,
    wish: ([query]) => call("memory_search", { query: bare(query) })
  },
  {
    pattern:
      /^(?:ls|dir|(?:list|show)(?:\s+(?:the|my|all))*(?:\s+(?:files|folder|directory))?)(?:\s+(?:in|of|under))?(?:\s+(.+))?$/i,
    wish: ([path]) => call("file_list", { path: bare(path) })
  }
]

/** What stands behind the command of a job; see `CronErrand`. */
const scheduled = /\n\nScheduled for [^\n]+$/

/** The command of a reminder whose moment has come. */
const due = /^remind me (?:to|of this:|that|about)?\s*([\s\S]+)$/i

/** Without the marks that end a sentence. */
const withoutEnd = (text: string): string => {
  let end = text.length
  while (end > 0 && "?!.".includes(text.charAt(end - 1))) end--
  return text.slice(0, end)
}

/** The wish behind a message; `wall` is the user's time, for reminders. */
export const wishOf = (text: string, wall?: Reminder.Wall): Wish => {
  const whole = text.trim()
  const trimmed = whole.replace(scheduled, "")
  const now = trimmed === whole ? null : due.exec(trimmed)
  if (now !== null) return { _tag: "Say", text: `Reminder: ${now[1]}` }
  const plain = trimmed === "?" ? trimmed : withoutEnd(trimmed)
  if (/^remind\s+me\b/i.test(plain)) {
    const reminder = Reminder.read(plain, wall)
    if (reminder?._tag === "Reminder") {
      return call("cron_add", { name: reminder.name, schedule: reminder.schedule, command: reminder.command })
    }
    const hint = reminder?.message ?? 'say it like "remind me every Monday at 9 to water the plants"'
    return { _tag: "Unclear", hint }
  }
  for (const { isLong, pattern, wish } of phrases) {
    if (plain.length > MAX_PHRASE && isLong !== true) continue
    const found = pattern.exec(plain)
    if (found !== null) return wish(found.slice(1))
  }
  return { _tag: "Other" }
}
